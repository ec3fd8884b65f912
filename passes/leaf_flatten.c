/* SPDX-License-Identifier: MIT
 *
 * Every product and every reduction of an expression becomes an item of its own, with the lane axis
 * that suits what it touches; its accumulator starts from what is added to it. */
#include "passes/leaf_internal.h"

#include <string.h>

/* ---------------------------------------------------------------- lanes */

/* Is the axis, in this load, where neighbours lie side by side? 1 yes, 0 no, -1 not in it. */
static int beside(leaf *lf, const qn_expr *load, qn_sym axis)
{
    int at = -1;
    for (int k = 0; k < load->u.load.index.count; k++) {
        qn_expr *i = leaf_expand(lf, load->u.load.index.at[k]);
        qn_type t = leaf_type(lf, i);
        if (!leaf_type_has(&t, axis)) {
            continue;
        }
        at = 0;
        if (k != load->u.load.index.count - 1) {
            return 0;
        }
        const qn_lin *l = qn_lin_of(lf->facts, i);
        for (int n = 0; l && n < l->n; n++) {
            if (l->at[n].term->kind == QN_TERM_IOTA && l->at[n].term->axis.name == axis) {
                at = l->at[n].c == 1 ? 1 : 0;
            }
        }
    }
    return at;
}

typedef struct lane_cost {
    leaf *lf;
    qn_sym axis;
    int cost;
} lane_cost;

static bool add_cost(void *user, const qn_expr *x)
{
    lane_cost *c = user;
    if (x->kind == QN_LOAD) {
        c->cost += beside(c->lf, x, c->axis) == 0 ? 4 : 0;
        return false;
    }
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(c->lf, x->u.name);
        bool far = leaf_is_big(c->lf, v) && v->lane && v->lane != c->axis &&
                   leaf_type_has(&v->type, c->axis) && leaf_type_has(&v->type, v->lane);
        c->cost += far ? 4 : 0;
    }
    return true;
}

/* The lane axis of an item over `space`: what lies side by side in most of what it touches, and is
 * not summed over; the first of the schedule among equals. NULL: no lane axis is there. */
qn_sym leaf_choose_lane(leaf *lf, const qn_type *space, qn_expr *const *xs, int nxs,
                        const qn_sym *over, int nover, const qn_stmt *store)
{
    qn_sym best = NULL;
    int least = 0;
    for (int k = 0; k < lf->nlanes; k++) {
        qn_sym axis = lf->lanes[k].axis;
        if (!leaf_type_has(space, axis)) {
            continue;
        }
        lane_cost c = {lf, axis, 0};
        for (int n = 0; n < nxs; n++) {
            if (xs[n]) {
                qn_visit(leaf_expand(lf, xs[n]), add_cost, &c);
            }
        }
        for (int n = 0; n < nover; n++) {
            c.cost += over[n] == axis ? 2 : 0;
        }
        if (store) {
            qn_expr *as_load = qn_load(lf->ir, store->u.store.base, store->u.store.index.at,
                                       store->u.store.index.count, false, NULL);
            c.cost += beside(lf, as_load, axis) == 0 ? 4 : 0;
        }
        if (!best || c.cost < least) {
            best = axis;
            least = c.cost;
        }
    }
    return best;
}

lf_item *leaf_new_item(leaf *lf, lf_item_kind kind, qn_sym name, const qn_type *space, qn_sym lane)
{
    lf_item *it = QN_NEW(lf->scratch, lf_item);
    it->kind = kind;
    it->name = name;
    it->lane = lane;
    it->naxes = leaf_loop_axes(lf, space, lane, &it->axes);
    for (int k = 0; k < it->naxes; k++) {
        const lf_lane *l = leaf_lane_of(lf, it->axes[k].name);
        if (l && l->whole) {
            leaf_walk_lane(lf, l->axis);
        }
    }
    return it;
}

/* ---------------------------------------------------------------- flatten */

static void consume(lf_plan *p, qn_sym axis, const qn_type *t, const lf_bounds *b)
{
    const qn_axis *a = qn_type_axis(t, axis);
    if (a) {
        leaf_consume(p->lf, &p->consumers, axis, a->extent, b);
    }
}

/* A big value computed once. */
qn_expr *leaf_make_real(lf_plan *p, qn_sym name, qn_expr *x, qn_sym lane)
{
    leaf *lf = p->lf;
    qn_type t = leaf_type(lf, x);
    lf_info *v = leaf_info(lf, name);
    if (!v || v->kind != LF_VALUE) {
        v = leaf_new_value(lf, name, t);
    }
    v->real = true;
    v->def = x;
    lf_item *it = leaf_new_item(lf, LF_LET, name, &t,
                                lane ? lane : leaf_choose_lane(lf, &t, &x, 1, NULL, 0, NULL));
    it->x = x;
    it->type = t;
    leaf_put_item(p, it, leaf_ready(p, x, it->axes, it->naxes, it->lane, false));
    return qn_name(lf->ir, name);
}

static bool has_op(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_OP;
}

static const qn_expr *under_casts(const qn_expr *x)
{
    while (x->kind == QN_OP && x->u.op.op == QN_OP_CAST) {
        x = x->u.op.args.at[0];
    }
    return x;
}

/* An operand of a product is read where lanes lie side by side, once for every use of it: anything
 * else is computed into a buffer first. */
static qn_expr *operand(lf_plan *p, qn_expr *a, qn_sym lane, const qn_axis *axes, int naxes)
{
    leaf *lf = p->lf;
    const lf_info *v = a->kind == QN_NAME ? leaf_info(lf, a->u.name) : NULL;
    qn_type t = leaf_type(lf, a);
    if (leaf_is_small(lf, &t) || (v && !leaf_virtual(v))) {
        return a;
    }
    qn_expr *full = leaf_expand(lf, a);
    bool reused = false;
    for (int k = 0; k < naxes; k++) {
        reused = reused || !leaf_type_has(&t, axes[k].name);
    }
    if (lane && leaf_type_has(&t, lane)) {
        const qn_expr *load = under_casts(full);
        bool task = load->kind == QN_LOAD && leaf_info(lf, load->u.load.base)->task;
        if (load->kind == QN_LOAD && beside(lf, load, lane) == 1 &&
            (!reused || (task && load == full))) {
            return a;
        }
    } else if (!qn_contains(full, has_op, NULL) || !reused) {
        return a;
    } else if (full->kind == QN_LOAD) { /* ops in its indices alone */
        return a;
    }
    return leaf_make_real(p, leaf_fresh(lf, "%t"), a,
                          lane && leaf_type_has(&t, lane) ? lane : NULL);
}

static bool over_has(const qn_expr *x, qn_sym axis)
{
    for (int k = 0; k < x->u.axop.nover; k++) {
        if (x->u.axop.over[k] == axis) {
            return true;
        }
    }
    return false;
}

static qn_expr *flatten_dot(lf_plan *p, qn_expr *x, qn_expr *init)
{
    leaf *lf = p->lf;
    qn_expr *args[2] = {leaf_flatten(p, x->u.axop.args.at[0]),
                        leaf_flatten(p, x->u.axop.args.at[1])};
    qn_type ts[2] = {leaf_type(lf, args[0]), leaf_type(lf, args[1])}, space, t = leaf_type(lf, x);
    if (!qn_type_union(lf->env, ts, 2, &space)) {
        leaf_refuse(lf, x->place, "operands disagree");
    }
    qn_sym lane = leaf_choose_lane(lf, &space, args, 2, x->u.axop.over, x->u.axop.nover, NULL);
    bool across = lane && over_has(x, lane); /* lanes are summed at the end */
    qn_sym name = leaf_fresh(lf, "%d");
    lf_item *it = leaf_new_item(lf, LF_DOT, name, &t, across ? NULL : lane);
    it->lane = lane;
    it->op = QN_AX_DOT;
    it->over = x->u.axop.over;
    it->nover = x->u.axop.nover;
    it->a = operand(p, args[0], lane, it->axes, it->naxes);
    it->b = operand(p, args[1], lane, it->axes, it->naxes);
    it->init = init;
    it->type = t;
    leaf_new_value(lf, name, t);
    int at = leaf_later(leaf_ready(p, it->a, it->axes, it->naxes, lane, true),
                        leaf_ready(p, it->b, it->axes, it->naxes, lane, true));
    leaf_put_item(p, it, leaf_later(at, leaf_ready(p, init, it->axes, it->naxes, lane, false)));
    for (int k = 0; k < it->nover; k++) {
        lf_bounds b = leaf_mask_bounds(lf, it->a, QN_AX_DOT, it->over[k]);
        lf_bounds c = leaf_mask_bounds(lf, it->b, QN_AX_DOT, it->over[k]);
        for (int n = 0; n < c.count; n++) {
            QN_PUSH(lf->scratch, &b, c.at[n]);
        }
        consume(p, it->over[k], &space, it->over[k] == lane ? NULL : &b);
    }
    return qn_name(lf->ir, name);
}

static qn_op op_of(qn_axop op, bool *known)
{
    *known = true;
    switch (op) {
    case QN_AX_DOT:
    case QN_AX_REDUCE_SUM:
        return QN_OP_ADD;
    case QN_AX_REDUCE_MAX:
        return QN_OP_MAX;
    case QN_AX_REDUCE_MIN:
        return QN_OP_MIN;
    case QN_AX_REDUCE_PROD:
        return QN_OP_MUL;
    case QN_AX_REDUCE_ANY:
        return QN_OP_OR;
    case QN_AX_REDUCE_ALL:
        return QN_OP_AND;
    case QN_AX_REDUCE_ARGMAX:
    case QN_AX_REDUCE_ARGMIN:
    case QN_AX_SCAN_SUM:
    case QN_AX_SCAN_MAX:
    case QN_AX_SCAN_MIN:
    case QN_AX_SCAN_PROD:
    case QN_AX_TOPK:
    case QN_AX_SOLVE:
    case QN_AXOPS:
        break;
    }
    *known = false;
    return QN_OP_ADD;
}

static qn_expr *flatten_reduce(lf_plan *p, qn_expr *x, qn_expr *init)
{
    leaf *lf = p->lf;
    bool known;
    qn_op op = op_of(x->u.axop.op, &known);
    if (!known) {
        leaf_refuse(lf, x->place, "%s is not made of loops here", qn_axop_text(x->u.axop.op));
    }
    qn_expr *arg = leaf_flatten(p, x->u.axop.args.at[0]);
    qn_type space = leaf_type(lf, arg), t = leaf_type(lf, x);
    if (leaf_is_small(lf, &space)) { /* in registers: the machine's own reduction */
        qn_expr *r = qn_axop1(lf->ir, x->u.axop.op, arg, x->u.axop.over, x->u.axop.nover);
        return init ? qn_op2(lf->ir, op, init, r) : r;
    }
    qn_sym lane = leaf_choose_lane(lf, &space, &arg, 1, x->u.axop.over, x->u.axop.nover, NULL);
    bool across = lane && over_has(x, lane);
    const qn_axis *kept;
    int nkept = leaf_loop_axes(lf, &t, across ? NULL : lane, &kept);
    qn_sym name = leaf_fresh(lf, "%r");
    if (nkept) { /* as a product with one operand */
        lf_item *it = leaf_new_item(lf, LF_DOT, name, &t, across ? NULL : lane);
        it->lane = lane;
        it->op = x->u.axop.op;
        it->over = x->u.axop.over;
        it->nover = x->u.axop.nover;
        it->a = arg;
        it->init = init;
        it->type = t;
        leaf_new_value(lf, name, t);
        int at = leaf_ready(p, arg, it->axes, it->naxes, lane, true);
        leaf_put_item(p, it, leaf_later(at, leaf_ready(p, init, it->axes, it->naxes, lane, false)));
        for (int k = 0; k < it->nover; k++) {
            lf_bounds b = leaf_mask_bounds(lf, arg, x->u.axop.op, it->over[k]);
            consume(p, it->over[k], &space, it->over[k] == lane ? NULL : &b);
        }
        return qn_name(lf->ir, name);
    }
    lf_item *it = leaf_new_item(lf, LF_RED, name, &space, lane);
    qn_axis axes[QN_MAX_AXES];
    int rank = 0;
    for (int k = 0; k < space.rank; k++) { /* over lanes: one partial result a lane */
        if (!over_has(x, space.axes[k].name) || space.axes[k].name == lane) {
            axes[rank++] = space.axes[k];
        }
    }
    it->type = qn_type_of(lf->ir, t.dtype, axes, rank);
    it->x = arg;
    it->op = x->u.axop.op;
    it->over = x->u.axop.over;
    it->nover = x->u.axop.nover;
    it->init = across ? NULL : init;
    leaf_new_value(lf, name, it->type);
    int at = leaf_ready(p, arg, it->axes, it->naxes, lane, false);
    leaf_put_item(p, it, leaf_later(at, leaf_ready(p, it->init, NULL, 0, NULL, false)));
    for (int k = 0; k < it->nover; k++) {
        lf_bounds b = leaf_mask_bounds(lf, arg, x->u.axop.op, it->over[k]);
        consume(p, it->over[k], &space, &b);
    }
    if (!across) {
        return qn_name(lf->ir, name);
    }
    qn_expr *r = qn_axop1(lf->ir, x->u.axop.op, qn_name(lf->ir, name), &lane, 1);
    r = init ? qn_op2(lf->ir, op, init, r) : r;
    qn_sym whole = leaf_fresh(lf, "%r");
    lf_info *v = leaf_new_value(lf, whole, t);
    v->block = p->block;
    v->how = LF_PRE;
    int when =
        leaf_later(2 * (leaf_info(lf, name)->step + 1), leaf_ready(p, init, NULL, 0, NULL, false));
    v->step = leaf_put_straight(p, qn_let(lf->ir, whole, r), when);
    return qn_name(lf->ir, whole);
}

static qn_expr *flatten_axop(lf_plan *p, qn_expr *x, qn_expr *init)
{
    if (x->u.axop.op == QN_AX_DOT) {
        return flatten_dot(p, x, init);
    }
    return flatten_reduce(p, x, init);
}

/* May the accumulator of r start from `other`? */
static bool starts_from(lf_plan *p, qn_op op, qn_expr *r, qn_expr *other)
{
    leaf *lf = p->lf;
    bool known;
    if (r->kind != QN_AXOP || op_of(r->u.axop.op, &known) != op || !known) {
        return false;
    }
    qn_type to = leaf_type(lf, other), tr = leaf_type(lf, r);
    for (int k = 0; k < to.rank; k++) {
        if (!leaf_type_has(&tr, to.axes[k].name)) {
            return false;
        }
    }
    return to.dtype == tr.dtype;
}

static qn_expr *flatten_op(lf_plan *p, qn_expr *x)
{
    leaf *lf = p->lf;
    qn_expr *args[3];
    int n = x->u.op.args.count;
    if (n > 3) {
        leaf_refuse(lf, x->place, "an op of %d operands", n);
    }
    if (n == 2) {
        for (int k = 1; k >= 0; k--) {
            qn_expr *r = x->u.op.args.at[k], *other = x->u.op.args.at[1 - k];
            if (starts_from(p, x->u.op.op, r, other)) {
                return flatten_axop(p, r, leaf_flatten(p, other));
            }
        }
    }
    bool changed = false;
    for (int k = 0; k < n; k++) {
        args[k] = leaf_flatten(p, x->u.op.args.at[k]);
        changed = changed || args[k] != x->u.op.args.at[k];
    }
    if (!changed) {
        return x;
    }
    qn_expr *copy = QN_NEW(lf->ir->arena, qn_expr);
    *copy = *x;
    copy->u.op.args = qn_exprs_of(lf->ir, args, n);
    return copy;
}

qn_expr *leaf_flatten(lf_plan *p, qn_expr *x)
{
    leaf *lf = p->lf;
    switch (x->kind) {
    case QN_LIT:
    case QN_NAME:
    case QN_IOTA:
    case QN_LOAD:
        return x;
    case QN_OP:
        return flatten_op(p, x);
    case QN_AXOP:
        return flatten_axop(p, x, NULL);
    case QN_AS: {
        qn_expr *inner = leaf_flatten(p, x->u.as.x);
        return inner == x->u.as.x ? x : qn_as(lf->ir, inner, x->u.as.pairs, x->u.as.npairs);
    }
    case QN_FOLD:
        break;
    }
    leaf_refuse(lf, x->place, "a fold is left whole");
}

/* ---------------------------------------------------------------- real or virtual */

static bool count_node(void *user, const qn_expr *x)
{
    (void)x;
    ++*(int *)user;
    return true;
}

int leaf_size_of(leaf *lf, qn_expr *x)
{
    int n = 0;
    qn_visit(leaf_expand(lf, x), count_node, &n);
    return n;
}

static bool is_dear(void *user, const qn_expr *x)
{
    leaf *lf = user;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(lf, x->u.name);
        return leaf_is_big(lf, v) && !leaf_virtual(v);
    }
    if (x->kind != QN_OP) {
        return false;
    }
    switch ((int)x->u.op.op) {
    case QN_OP_EXP:
    case QN_OP_EXP2:
    case QN_OP_LOG:
    case QN_OP_LOG2:
    case QN_OP_POW:
    case QN_OP_SIGMOID:
    case QN_OP_TANH:
    case QN_OP_ERF:
    case QN_OP_SIN:
    case QN_OP_COS:
    case QN_OP_SQRT:
    case QN_OP_RSQRT:
    case QN_OP_DIV:
        return true;
    default:
        return false;
    }
}

bool leaf_reads_mutable(void *user, const qn_expr *x)
{
    const lf_info *v = x->kind == QN_LOAD ? leaf_info(user, x->u.load.base) : NULL;
    return v && v->mutable_;
}

bool leaf_be_real(leaf *lf, const lf_info *v, qn_expr *x)
{
    qn_expr *full = leaf_expand(lf, x);
    if (qn_contains(full, leaf_reads_mutable, lf)) {
        return true;
    }
    int size = leaf_size_of(lf, x);
    if (size > 400 || (size > 100 && v->uses > 1)) {
        return true;
    }
    if (!qn_dtype_is_float(v->type.dtype)) {
        return false;
    }
    bool lanes = false;
    for (int k = 0; k < v->type.rank; k++) {
        lanes = lanes || leaf_is_lane(lf, v->type.axes[k].name);
    }
    return (v->dotted && lanes) || (v->uses > 1 && qn_contains(full, is_dear, lf));
}
