/* SPDX-License-Identifier: MIT
 *
 * A block of statements becomes steps. Step g is: straight statements at time 2g, then at time
 * 2g + 1 one group (a loop over axes that all its items share) or one nested statement.
 *
 * Every product and every reduction is an item of its own. An item goes into the first group with
 * its axes that is not too early for what it reads: a value of the same element, at once; a
 * reduction's result or another element, after the group that makes it. So pointwise work joins
 * the loops of the products around it, and a reduction is carried by the loop that makes its
 * operand, whatever the statements compute. */
#include "passes/leaf_internal.h"

#include <string.h>

typedef struct plan {
    leaf *lf;
    int block;
    lf_steps steps;
    qn_block tail; /* straight statements after the last step so far */
    lf_consumers consumers;
    lf_bufs own; /* buffers of values of this block */
} plan;

/* ---------------------------------------------------------------- virtual values */

bool leaf_virtual(const lf_info *v)
{
    return v && v->def && !v->real;
}

static qn_expr *expand_one(void *user, qn_expr *x)
{
    leaf *lf = user;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(lf, x->u.name);
        if (leaf_virtual(v)) {
            return leaf_expand(lf, v->def);
        }
    }
    return x;
}

qn_expr *leaf_expand(leaf *lf, qn_expr *x)
{
    return x ? qn_rewrite(lf->ir, x, expand_one, lf) : NULL;
}

static bool count_node(void *user, const qn_expr *x)
{
    (void)x;
    ++*(int *)user;
    return true;
}

static int size_of(leaf *lf, qn_expr *x)
{
    int n = 0;
    qn_visit(leaf_expand(lf, x), count_node, &n);
    return n;
}

static bool is_as(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_AS;
}

static bool is_big(leaf *lf, const lf_info *v)
{
    return v && v->kind == LF_VALUE && !leaf_is_small(lf, &v->type);
}

/* ---------------------------------------------------------------- times */

typedef struct timing {
    plan *p;
    const qn_axis *axes;
    int naxes;
    qn_sym lane;
    bool strict; /* what is big is read at other elements too */
    int t;
} timing;

static bool same_axes(const qn_axis *a, int na, const qn_axis *b, int nb)
{
    for (int k = 0; k < na; k++) {
        bool found = false;
        for (int n = 0; n < nb && !found; n++) {
            found = a[k].name == b[n].name;
        }
        if (!found) {
            return false;
        }
    }
    return na == nb;
}

static bool same_key(const lf_step *s, const qn_axis *axes, int n, qn_sym lane)
{
    return !s->nested && s->lane == lane && same_axes(s->axes, s->naxes, axes, n);
}

static bool time_one(void *user, const qn_expr *x)
{
    timing *t = user;
    plan *p = t->p;
    int at = 0;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(p->lf, x->u.name);
        if (v && v->block == p->block) {
            at = 2 * v->step;
            if (v->how == LF_BIG) {
                bool same =
                    !t->strict && same_key(&p->steps.at[v->step], t->axes, t->naxes, t->lane);
                at += same ? 1 : 2;
            } else if (v->how == LF_RESULT) {
                at += 2;
            }
        }
    } else if (x->kind == QN_LOAD) {
        const lf_info *v = leaf_info(p->lf, x->u.load.base);
        at = v && v->mblock == p->block ? v->stored : 0;
    }
    t->t = at > t->t ? at : t->t;
    return true;
}

static int ready(plan *p, qn_expr *x, const qn_axis *axes, int n, qn_sym lane, bool strict)
{
    timing t = {p, axes, n, lane, strict, 0};
    if (x) {
        qn_expr *full = leaf_expand(p->lf, x);
        t.strict = strict || qn_contains(full, is_as, NULL);
        qn_visit(full, time_one, &t);
    }
    return t.t;
}

static int later(int a, int b)
{
    return a > b ? a : b;
}

typedef struct reading {
    plan *p;
    int t;
} reading;

static bool note_read(void *user, const qn_expr *x)
{
    reading *r = user;
    lf_info *v = x->kind == QN_LOAD ? leaf_info(r->p->lf, x->u.load.base) : NULL;
    if (v && v->mutable_) {
        if (v->mblock != r->p->block) {
            v->mblock = r->p->block;
            v->stored = v->read = 0;
        }
        v->read = later(v->read, r->t);
    }
    return true;
}

static void note_reads(plan *p, qn_expr *x, int t)
{
    if (x) {
        qn_visit(leaf_expand(p->lf, x), note_read, &(reading){p, t});
    }
}

static void note_store(plan *p, qn_sym base, int t)
{
    lf_info *v = leaf_info(p->lf, base);
    if (v) {
        if (v->mblock != p->block) {
            v->mblock = p->block;
            v->read = 0;
            v->stored = 0;
        }
        v->stored = later(v->stored, t);
    }
}

/* ---------------------------------------------------------------- placing */

/* At time t or later, in straight code; returns the step. */
static int put_straight(plan *p, qn_stmt *s, int t)
{
    int g = (t + 1) / 2;
    qn_block_push(p->lf->ir, g < p->steps.count ? &p->steps.at[g].pre : &p->tail, s);
    return g < p->steps.count ? g : p->steps.count;
}

static lf_step *new_step(plan *p)
{
    lf_step s = {.pre = p->tail};
    p->tail = (qn_block){0};
    QN_PUSH(p->lf->scratch, &p->steps, s);
    return &p->steps.at[p->steps.count - 1];
}

static int put_item(plan *p, lf_item *it, int t)
{
    leaf *lf = p->lf;
    int g = t / 2;
    while (g < p->steps.count && !same_key(&p->steps.at[g], it->axes, it->naxes, it->lane)) {
        g++;
    }
    if (g >= p->steps.count) {
        g = p->steps.count;
        lf_step *s = new_step(p);
        s->axes = it->axes;
        s->naxes = it->naxes;
        s->lane = it->lane;
    }
    QN_PUSH(lf->scratch, &p->steps.at[g].items, it);
    lf_info *v = it->name ? leaf_info(lf, it->name) : NULL;
    if (v) {
        v->block = p->block;
        v->step = g;
        v->how = it->kind == LF_RED ? LF_RESULT : LF_BIG;
        v->lane = it->lane;
    }
    return g;
}

static lf_info *new_value(leaf *lf, qn_sym name, qn_type type)
{
    qn_env_define(lf->env, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = type});
    return leaf_define(lf, name, LF_VALUE, type);
}

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
        bool far = is_big(c->lf, v) && v->lane && v->lane != c->axis &&
                   leaf_type_has(&v->type, c->axis) && leaf_type_has(&v->type, v->lane);
        c->cost += far ? 4 : 0;
    }
    return true;
}

/* The lane axis of an item over `space`: what lies side by side in most of what it touches, and is
 * not summed over; the first of the schedule among equals. NULL: no lane axis is there. */
static qn_sym choose_lane(leaf *lf, const qn_type *space, qn_expr *const *xs, int nxs,
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
    for (int k = 0; k < lf->nlanes; k++) {
        lf->lanes[k].used = lf->lanes[k].used || lf->lanes[k].axis == best;
    }
    return best;
}

static lf_item *new_item(leaf *lf, lf_item_kind kind, qn_sym name, const qn_type *space,
                         qn_sym lane)
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

static qn_expr *flatten(plan *p, qn_expr *x);

static void consume(plan *p, qn_sym axis, const qn_type *t, const lf_bounds *b)
{
    const qn_axis *a = qn_type_axis(t, axis);
    if (a) {
        leaf_consume(p->lf, &p->consumers, axis, a->extent, b);
    }
}

/* A big value computed once. */
static qn_expr *make_real(plan *p, qn_sym name, qn_expr *x, qn_sym lane)
{
    leaf *lf = p->lf;
    qn_type t = leaf_type(lf, x);
    lf_info *v = leaf_info(lf, name);
    if (!v || v->kind != LF_VALUE) {
        v = new_value(lf, name, t);
    }
    v->real = true;
    v->def = x;
    lf_item *it =
        new_item(lf, LF_LET, name, &t, lane ? lane : choose_lane(lf, &t, &x, 1, NULL, 0, NULL));
    it->x = x;
    it->type = t;
    put_item(p, it, ready(p, x, it->axes, it->naxes, it->lane, false));
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
static qn_expr *operand(plan *p, qn_expr *a, qn_sym lane, const qn_axis *axes, int naxes)
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
    return make_real(p, leaf_fresh(lf, "%t"), a, lane && leaf_type_has(&t, lane) ? lane : NULL);
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

/* A sum across lanes takes whole registers: an axis that ends within one is walked, and what sticks
 * out of its last chunk is masked. */
static void whole_registers(leaf *lf, const qn_expr *x)
{
    for (int k = 0; k < x->u.axop.nover; k++) {
        const lf_lane *l = leaf_lane_of(lf, x->u.axop.over[k]);
        if (l && l->whole && l->extent % lf->width) {
            leaf_walk_lane(lf, l->axis);
        }
    }
}

static qn_expr *flatten_dot(plan *p, qn_expr *x, qn_expr *init)
{
    leaf *lf = p->lf;
    qn_expr *args[2] = {flatten(p, x->u.axop.args.at[0]), flatten(p, x->u.axop.args.at[1])};
    qn_type ts[2] = {leaf_type(lf, args[0]), leaf_type(lf, args[1])}, space, t = leaf_type(lf, x);
    if (!qn_type_union(lf->env, ts, 2, &space)) {
        leaf_refuse(lf, x->place, "operands disagree");
    }
    qn_sym lane = choose_lane(lf, &space, args, 2, x->u.axop.over, x->u.axop.nover, NULL);
    bool across = lane && over_has(x, lane); /* lanes are summed at the end */
    if (across) {
        whole_registers(lf, x);
    }
    qn_sym name = leaf_fresh(lf, "%d");
    lf_item *it = new_item(lf, LF_DOT, name, &t, across ? NULL : lane);
    it->lane = lane;
    it->op = QN_AX_DOT;
    it->over = x->u.axop.over;
    it->nover = x->u.axop.nover;
    it->a = operand(p, args[0], lane, it->axes, it->naxes);
    it->b = operand(p, args[1], lane, it->axes, it->naxes);
    it->init = init;
    it->type = t;
    new_value(lf, name, t);
    int at = later(ready(p, it->a, it->axes, it->naxes, lane, true),
                   ready(p, it->b, it->axes, it->naxes, lane, true));
    put_item(p, it, later(at, ready(p, init, it->axes, it->naxes, lane, false)));
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

static qn_expr *flatten_reduce(plan *p, qn_expr *x, qn_expr *init)
{
    leaf *lf = p->lf;
    bool known;
    qn_op op = op_of(x->u.axop.op, &known);
    if (!known) {
        leaf_refuse(lf, x->place, "%s is not made of loops here", qn_axop_text(x->u.axop.op));
    }
    qn_expr *arg = flatten(p, x->u.axop.args.at[0]);
    qn_type space = leaf_type(lf, arg), t = leaf_type(lf, x);
    if (leaf_is_small(lf, &space)) { /* in registers: the machine's own reduction */
        whole_registers(lf, x);
        qn_expr *r = qn_axop1(lf->ir, x->u.axop.op, arg, x->u.axop.over, x->u.axop.nover);
        return init ? qn_op2(lf->ir, op, init, r) : r;
    }
    qn_sym lane = choose_lane(lf, &space, &arg, 1, x->u.axop.over, x->u.axop.nover, NULL);
    bool across = lane && over_has(x, lane);
    if (across) {
        whole_registers(lf, x);
    }
    const qn_axis *kept;
    int nkept = leaf_loop_axes(lf, &t, across ? NULL : lane, &kept);
    qn_sym name = leaf_fresh(lf, "%r");
    if (nkept) { /* as a product with one operand */
        lf_item *it = new_item(lf, LF_DOT, name, &t, across ? NULL : lane);
        it->lane = lane;
        it->op = x->u.axop.op;
        it->over = x->u.axop.over;
        it->nover = x->u.axop.nover;
        it->a = arg;
        it->init = init;
        it->type = t;
        new_value(lf, name, t);
        int at = ready(p, arg, it->axes, it->naxes, lane, true);
        put_item(p, it, later(at, ready(p, init, it->axes, it->naxes, lane, false)));
        for (int k = 0; k < it->nover; k++) {
            lf_bounds b = leaf_mask_bounds(lf, arg, x->u.axop.op, it->over[k]);
            consume(p, it->over[k], &space, it->over[k] == lane ? NULL : &b);
        }
        return qn_name(lf->ir, name);
    }
    lf_item *it = new_item(lf, LF_RED, name, &space, lane);
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
    new_value(lf, name, it->type);
    int at = ready(p, arg, it->axes, it->naxes, lane, false);
    put_item(p, it, later(at, ready(p, it->init, NULL, 0, NULL, false)));
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
    lf_info *v = new_value(lf, whole, t);
    v->block = p->block;
    v->how = LF_PRE;
    int when = later(2 * (leaf_info(lf, name)->step + 1), ready(p, init, NULL, 0, NULL, false));
    v->step = put_straight(p, qn_let(lf->ir, whole, r), when);
    return qn_name(lf->ir, whole);
}

static qn_expr *flatten_axop(plan *p, qn_expr *x, qn_expr *init)
{
    if (x->u.axop.op == QN_AX_DOT) {
        return flatten_dot(p, x, init);
    }
    return flatten_reduce(p, x, init);
}

/* May the accumulator of r start from `other`? */
static bool starts_from(plan *p, qn_op op, qn_expr *r, qn_expr *other)
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

static qn_expr *flatten_op(plan *p, qn_expr *x)
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
                return flatten_axop(p, r, flatten(p, other));
            }
        }
    }
    bool changed = false;
    for (int k = 0; k < n; k++) {
        args[k] = flatten(p, x->u.op.args.at[k]);
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

static qn_expr *flatten(plan *p, qn_expr *x)
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
        qn_expr *inner = flatten(p, x->u.as.x);
        return inner == x->u.as.x ? x : qn_as(lf->ir, inner, x->u.as.pairs, x->u.as.npairs);
    }
    case QN_FOLD:
        break;
    }
    leaf_refuse(lf, x->place, "a fold is left whole");
}

/* ---------------------------------------------------------------- real or virtual */

static bool is_dear(void *user, const qn_expr *x)
{
    leaf *lf = user;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(lf, x->u.name);
        return is_big(lf, v) && !leaf_virtual(v);
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

static bool reads_mutable(void *user, const qn_expr *x)
{
    const lf_info *v = x->kind == QN_LOAD ? leaf_info(user, x->u.load.base) : NULL;
    return v && v->mutable_;
}

static bool be_real(leaf *lf, const lf_info *v, qn_expr *x)
{
    qn_expr *full = leaf_expand(lf, x);
    if (qn_contains(full, reads_mutable, lf)) {
        return true;
    }
    int size = size_of(lf, x);
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

/* ---------------------------------------------------------------- buffers */

static qn_type buffer_type(leaf *lf, const lf_info *v)
{
    qn_axis axes[QN_MAX_AXES];
    int n = 0;
    qn_sym lane = v->lane && leaf_type_has(&v->type, v->lane) ? v->lane : NULL;
    for (int k = 0; !lane && k < lf->nlanes; k++) {
        lane = leaf_type_has(&v->type, lf->lanes[k].axis) ? lf->lanes[k].axis : NULL;
    }
    for (int k = 0; k < v->type.rank; k++) {
        if (v->type.axes[k].name == lane) {
            continue;
        }
        int at = n++; /* by name, so that equal axes have equal layouts */
        for (; at > 0 && strcmp(axes[at - 1].name, v->type.axes[k].name) > 0; at--) {
            axes[at] = axes[at - 1];
        }
        axes[at] = v->type.axes[k];
    }
    if (lane) {
        axes[n++] = *qn_type_axis(&v->type, lane);
    }
    return qn_type_of(lf->ir, v->type.dtype, axes, n);
}

static bool same_layout(const qn_type *a, const qn_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) {
        return false;
    }
    for (int k = 0; k < a->rank; k++) {
        if (a->axes[k].name != b->axes[k].name ||
            !qn_extent_equal(a->axes[k].extent, b->axes[k].extent)) {
            return false;
        }
    }
    return true;
}

static void need(plan *p, lf_info *v)
{
    leaf *lf = p->lf;
    if (v->buf) {
        return;
    }
    qn_type t = buffer_type(lf, v);
    for (int k = 0; k < lf->pool.count; k++) {
        /* What blocks inside this one gave back is in use while they run, and a value of this block
         * may be made before that. */
        if (lf->pool.at[k].freed < p->block && same_layout(&lf->pool.at[k].type, &t)) {
            lf_buf b = lf->pool.at[k];
            lf->pool.at[k] = lf->pool.at[--lf->pool.count];
            v->buf = b.name;
            QN_PUSH(lf->scratch, &p->own, b);
            return;
        }
    }
    qn_buf base = qn_buf_of(lf->scratch);
    qn_buf_printf(&base, "%%b_%s_", v->name + 1);
    v->buf = leaf_fresh(lf, base.text);
    lf_buf b = {v->buf, t, qn_buf_stmt(lf->ir, v->buf, t, QN_SPACE_TASK), 0};
    qn_sym *order = QN_NEWN(lf->scratch, qn_sym, t.rank + 1);
    for (int k = 0; k < t.rank; k++) {
        order[k] = t.axes[k].name;
    }
    qn_env_define(lf->env, &(qn_bound){.name = v->buf,
                                       .kind = QN_BOUND_MEMORY,
                                       .type = t,
                                       .is_buf = true,
                                       .space = QN_SPACE_TASK});
    lf_info *m = leaf_define(lf, v->buf, LF_MEMORY, t);
    m->task = m->mutable_ = true;
    m->order = order;
    QN_PUSH(lf->scratch, &lf->bufs, b);
    QN_PUSH(lf->scratch, &p->own, b);
}

typedef struct crossing {
    plan *p;
    int step;
    lf_item *item;
    bool strict;
} crossing;

static bool mark_last(void *user, const qn_expr *x)
{
    crossing *c = user;
    lf_info *v = x->kind == QN_NAME ? leaf_info(c->p->lf, x->u.name) : NULL;
    if (!v || v->block != c->p->block || v->how != LF_BIG || leaf_virtual(v) ||
        leaf_is_small(c->p->lf, &v->type)) {
        return true;
    }
    v->last = c->item;
    v->crosses = v->crosses || v->step != c->step;
    return true;
}

static void mark_item(crossing *c, qn_expr *x, bool strict)
{
    if (x) {
        qn_expr *full = leaf_expand(c->p->lf, x);
        c->strict = strict || qn_contains(full, is_as, NULL);
        qn_visit(full, mark_last, c);
    }
}

typedef struct heir {
    plan *p;
    lf_item *item;
    int step;
    qn_sym buf;
} heir;

/* A value takes over the buffer of one that dies where it is made, element by element. */
static bool find_heir(void *user, const qn_expr *x)
{
    heir *h = user;
    leaf *lf = h->p->lf;
    lf_info *o = x->kind == QN_NAME ? leaf_info(lf, x->u.name) : NULL;
    if (!h->buf && o && o->buf && o->block == h->p->block && o->how == LF_BIG && !o->pinned &&
        o->step < h->step && o->last == h->item) {
        lf_info *v = leaf_info(lf, h->item->name);
        qn_type mine = buffer_type(lf, v), his = leaf_info(lf, o->buf)->type;
        if (same_layout(&mine, &his)) {
            h->buf = o->buf;
            o->pinned = true;
        }
    }
    return true;
}

/* What crosses a group goes through a buffer. */
static void give_buffers(plan *p)
{
    leaf *lf = p->lf;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            crossing c = {p, g, it, false};
            mark_item(&c, it->a, true);
            mark_item(&c, it->b, true);
            mark_item(&c, it->init, false);
            mark_item(&c, it->x, false);
        }
    }
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            lf_info *v = it->name ? leaf_info(lf, it->name) : NULL;
            if (!v || !v->crosses || v->buf || it->kind == LF_RED) {
                continue;
            }
            heir h = {p, it, g, NULL};
            if (it->kind == LF_LET && !qn_contains(leaf_expand(lf, it->x), is_as, NULL)) {
                qn_visit(leaf_expand(lf, it->x), find_heir, &h);
            }
            v->buf = h.buf;
            need(p, v);
        }
    }
}

/* ---------------------------------------------------------------- nested statements */

typedef struct nested_scan {
    plan *p;
    int t;
} nested_scan;

static bool nested_read(void *user, const qn_expr *x)
{
    nested_scan *s = user;
    leaf *lf = s->p->lf;
    if (x->kind == QN_LOAD) {
        note_read(&(reading){s->p, s->t}, x);
        return true;
    }
    lf_info *v = x->kind == QN_NAME ? leaf_info(lf, x->u.name) : NULL;
    if (!is_big(lf, v)) {
        return true;
    }
    if (leaf_virtual(v)) {
        qn_visit(leaf_expand(lf, v->def), nested_read, s);
    } else if (v->block == s->p->block || v->buf) {
        v->pinned = true;
        need(s->p, v);
    }
    for (int k = 0; k < v->type.rank; k++) {
        leaf_consume(lf, &s->p->consumers, v->type.axes[k].name, v->type.axes[k].extent, NULL);
    }
    return true;
}

static void nested_store(void *user, qn_stmt *st)
{
    nested_scan *s = user;
    if (st->kind == QN_STORE) {
        note_store(s->p, st->u.store.base, s->t);
    }
}

/* Before a nested statement is planned, as the step that will come next. */
static void before_nested(plan *p, qn_stmt *s)
{
    nested_scan scan = {p, 2 * p->steps.count + 2};
    qn_block one = {&s, 1, 1};
    qn_block_visit(&one, nested_read, &scan);
    qn_block_stmts(&one, nested_store, &scan);
}

typedef struct mention {
    qn_sym name;
    bool found;
} mention;

static bool see_name(void *user, const qn_expr *x)
{
    mention *m = user;
    m->found = m->found || (x->kind == QN_NAME && x->u.name == m->name);
    return !m->found;
}

bool leaf_block_mentions(const qn_block *b, qn_sym name)
{
    mention m = {name, false};
    qn_block_visit(b, see_name, &m);
    return m.found;
}

qn_block leaf_rest(const qn_block *b, int at)
{
    return (qn_block){b->at + at, b->count - at, b->count - at};
}

static void placed_nested(plan *p, qn_stmt *s, const qn_sym *names, int n)
{
    lf_step *st = new_step(p);
    st->nested = s;
    for (int k = 0; k < n; k++) {
        lf_info *v = leaf_info(p->lf, names[k]);
        v->block = p->block;
        v->step = p->steps.count - 1;
        v->how = LF_RESULT;
    }
}

static qn_expr *flat_scalar(plan *p, qn_expr *x)
{
    return x ? flatten(p, x) : NULL;
}

/* Stores x into the buffer of `target`, for every element. */
static void put_carry(plan *p, qn_sym target, const qn_type *type, qn_expr *x, int t)
{
    leaf *lf = p->lf;
    lf_info *v = leaf_info(lf, target);
    qn_expr *named = qn_name(lf->ir, target);
    qn_expr *xs[2] = {x, named};
    lf_item *it = new_item(lf, LF_CARRY, NULL, type, choose_lane(lf, type, xs, 2, NULL, 0, NULL));
    it->target = target;
    it->x = x;
    it->type = *type;
    if (!v->lane) {
        v->lane = it->lane;
    }
    put_item(p, it, later(t, ready(p, x, it->axes, it->naxes, it->lane, false)));
    for (int k = 0; k < type->rank; k++) {
        leaf_consume(lf, &p->consumers, type->axes[k].name, type->axes[k].extent, NULL);
    }
}

/* The time after which the buffer of `name` may be stored to. */
static int after_readers(plan *p, qn_sym name, const qn_axis *axes, int naxes, qn_sym lane)
{
    leaf *lf = p->lf;
    int t = 0;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        bool same = same_key(st, axes, naxes, lane);
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            qn_expr *strict[2] = {it->a, it->b}, *loose[2] = {it->x, it->init};
            for (int n = 0; n < 2; n++) {
                if (strict[n] && qn_mentions_name(leaf_expand(lf, strict[n]), name)) {
                    t = later(t, 2 * g + 2);
                }
                if (loose[n] && qn_mentions_name(leaf_expand(lf, loose[n]), name)) {
                    bool as = qn_contains(leaf_expand(lf, loose[n]), is_as, NULL);
                    t = later(t, same && !as ? 2 * g + 1 : 2 * g + 2);
                }
            }
        }
        if (st->nested) {
            qn_block one = {&st->nested, 1, 1};
            t = leaf_block_mentions(&one, name) ? later(t, 2 * g + 2) : t;
        }
    }
    return t;
}

static void plan_yield(plan *p, const qn_stmt *s, const lf_target *targets, int n)
{
    leaf *lf = p->lf;
    qn_expr **small = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    qn_expr **xs = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    int nsmall = 0;
    for (int k = 0; k < n; k++) {
        xs[k] = flatten(p, s->u.yield.at[k]);
        if (leaf_is_small(lf, &targets[k].type)) {
            small[nsmall++] = xs[k];
            xs[k] = NULL;
            continue;
        }
        const lf_info *v = leaf_info(lf, targets[k].name);
        const lf_info *from = xs[k]->kind == QN_NAME ? leaf_info(lf, xs[k]->u.name) : NULL;
        if (from && from->buf && from->buf == v->buf) {
            xs[k] = NULL; /* already there */
            continue;
        }
        qn_expr *full = leaf_expand(lf, xs[k]);
        for (int m = 0; m < n; m++) { /* all change at once: what another replaces is kept first */
            if (m != k && !leaf_is_small(lf, &targets[m].type) &&
                qn_mentions_name(full, targets[m].name)) {
                xs[k] = make_real(p, leaf_fresh(lf, "%t"), xs[k], NULL);
                break;
            }
        }
    }
    for (int k = 0; k < n; k++) {
        if (!xs[k]) {
            continue;
        }
        const qn_axis *axes;
        qn_expr *both[2] = {xs[k], qn_name(lf->ir, targets[k].name)};
        qn_sym lane = choose_lane(lf, &targets[k].type, both, 2, NULL, 0, NULL);
        int naxes = leaf_loop_axes(lf, &targets[k].type, lane, &axes);
        int t = after_readers(p, targets[k].name, axes, naxes, lane);
        put_carry(p, targets[k].name, &targets[k].type, xs[k], t);
    }
    if (nsmall) {
        qn_block_push(lf->ir, &p->tail, qn_yield(lf->ir, small, nsmall));
    }
}

static qn_stmt *shell_of(leaf *lf, const qn_stmt *s)
{
    qn_stmt *out = qn_stmt_new(lf->ir, s->kind, s->place);
    out->attrs = s->attrs;
    out->u = s->u;
    return out;
}

static void plan_loop(plan *p, const qn_block *body, int at)
{
    leaf *lf = p->lf;
    qn_stmt *s = body->at[at];
    qn_stmt *out = shell_of(lf, s);
    qn_iter *iters = QN_NEWN(lf->ir->arena, qn_iter, s->u.loop.niters + 1);
    for (int k = 0; k < s->u.loop.niters; k++) {
        iters[k] = s->u.loop.iters[k];
        qn_piece *pieces = QN_NEWN(lf->ir->arena, qn_piece, iters[k].npieces + 1);
        for (int n = 0; n < iters[k].npieces; n++) {
            pieces[n] = iters[k].pieces[n];
            pieces[n].lo = flat_scalar(p, pieces[n].lo);
            pieces[n].hi = flat_scalar(p, pieces[n].hi);
        }
        iters[k].pieces = pieces;
        iters[k].step = flat_scalar(p, iters[k].step);
    }
    out->u.loop.iters = iters;
    int n = s->u.loop.ncarries, nsmall = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_sym *names = QN_NEWN(lf->scratch, qn_sym, n + 1);
    qn_carry *carries = QN_NEWN(lf->ir->arena, qn_carry, n + 1);
    for (int k = 0; k < n; k++) {
        const qn_carry *c = &s->u.loop.carries[k];
        names[k] = c->name;
        targets[k] = (lf_target){c->name, c->type};
        qn_expr *init = flatten(p, c->init);
        if (leaf_is_small(lf, &c->type)) {
            carries[nsmall++] = (qn_carry){c->name, c->type, init};
            continue;
        }
        lf_info *v = leaf_info(lf, c->name);
        lf_info *from = init->kind == QN_NAME ? leaf_info(lf, init->u.name) : NULL;
        qn_block rest = leaf_rest(body, at + 1);
        if (from && from->buf && from->block == p->block && from->how == LF_RESULT &&
            !leaf_block_mentions(&rest, from->name) &&
            !leaf_block_mentions(&s->u.loop.body, from->name) &&
            qn_type_equal(&from->type, &c->type)) {
            v->buf = from->buf; /* the old carry dies here */
            v->lane = from->lane;
            continue;
        }
        v->lane = choose_lane(lf, &c->type, &init, 1, NULL, 0, NULL);
        need(p, v);
        put_carry(p, c->name, &c->type, init, 0);
    }
    out->u.loop.carries = carries;
    out->u.loop.ncarries = nsmall;
    before_nested(p, s);
    qn_facts_push(lf->facts);
    qn_facts_enter_loop(lf->facts, s);
    out->u.loop.body = leaf_block(lf, &s->u.loop.body, targets, n);
    qn_facts_pop(lf->facts);
    qn_facts_stmt(lf->facts, s);
    placed_nested(p, out, names, n);
}

/* May the result live where the carry lives that the block's yield gives it to? */
static qn_sym carry_of_result(plan *p, const qn_block *body, int at, qn_sym name,
                              const lf_target *targets, int n)
{
    leaf *lf = p->lf;
    const qn_stmt *end = body->at[body->count - 1];
    if (end->kind != QN_YIELD || leaf_info(lf, name)->uses != 1) {
        return NULL;
    }
    for (int k = 0; k < n && k < end->u.yield.count; k++) {
        const qn_expr *y = end->u.yield.at[k];
        if (y->kind == QN_NAME && y->u.name == name) {
            qn_block rest = leaf_rest(body, at + 1);
            return leaf_block_mentions(&rest, targets[k].name) ? NULL : targets[k].name;
        }
    }
    return NULL;
}

static void plan_if(plan *p, const qn_block *body, int at, const lf_target *outer, int nouter)
{
    leaf *lf = p->lf;
    qn_stmt *s = body->at[at];
    qn_stmt *out = shell_of(lf, s);
    out->u.branch.cond = flatten(p, s->u.branch.cond);
    int n = s->u.branch.nnames, nsmall = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_sym *names = QN_NEWN(lf->ir->arena, qn_sym, n + 1);
    for (int k = 0; k < n; k++) {
        lf_info *v = leaf_info(lf, s->u.branch.names[k]);
        targets[k] = (lf_target){v->name, v->type};
        if (leaf_is_small(lf, &v->type)) {
            names[nsmall++] = v->name;
            continue;
        }
        qn_sym carry = carry_of_result(p, body, at, v->name, outer, nouter);
        const lf_info *c = carry ? leaf_info(lf, carry) : NULL;
        if (c && c->buf && qn_type_equal(&c->type, &v->type)) {
            v->buf = c->buf;
            v->lane = c->lane;
        } else {
            need(p, v);
        }
    }
    out->u.branch.names = names;
    out->u.branch.nnames = nsmall;
    before_nested(p, s);
    qn_facts_push(lf->facts);
    qn_facts_assume(lf->facts, s->u.branch.cond, true);
    out->u.branch.then = leaf_block(lf, &s->u.branch.then, targets, n);
    qn_facts_pop(lf->facts);
    if (s->u.branch.has_else) {
        qn_facts_push(lf->facts);
        out->u.branch.other = leaf_block(lf, &s->u.branch.other, targets, n);
        qn_facts_pop(lf->facts);
    }
    qn_facts_stmt(lf->facts, s);
    placed_nested(p, out, s->u.branch.names, n);
}

/* ---------------------------------------------------------------- statements */

static void plan_let(plan *p, const qn_stmt *s)
{
    leaf *lf = p->lf;
    if (s->u.let.nnames != 1) {
        leaf_refuse(lf, s->place, "a statement with several results");
    }
    lf_info *v = leaf_info(lf, s->u.let.names[0]);
    qn_expr *x = flatten(p, s->u.let.x);
    if (leaf_is_small(lf, &v->type)) {
        bool lanes = false;
        for (int k = 0; k < v->type.rank; k++) {
            lanes = lanes || leaf_is_lane(lf, v->type.axes[k].name);
        }
        if (lanes && v->type.dtype == QN_I64 && !qn_contains(x, reads_mutable, lf)) {
            v->def = x; /* a position: written out where it is used */
            return;
        }
        qn_stmt *let = shell_of(lf, s);
        let->u.let.x = x;
        v->step = put_straight(p, let, ready(p, x, NULL, 0, NULL, false));
        v->block = p->block;
        v->how = LF_PRE;
        note_reads(p, x, 2 * v->step);
        return;
    }
    v->def = x;
    if (be_real(lf, v, x)) {
        make_real(p, v->name, x, NULL);
    }
}

typedef struct own_reads {
    const qn_stmt *store;
    leaf *lf;
    bool other;
} own_reads;

static bool see_own(void *user, const qn_expr *x)
{
    own_reads *o = user;
    if (x->kind == QN_LOAD && x->u.load.base == o->store->u.store.base) {
        for (int k = 0; k < x->u.load.index.count; k++) {
            o->other =
                o->other || !qn_expr_equal(x->u.load.index.at[k], o->store->u.store.index.at[k]);
        }
    }
    return true;
}

static bool other_read(leaf *lf, qn_expr *x, const qn_stmt *store)
{
    own_reads o = {store, lf, false};
    qn_visit(leaf_expand(lf, x), see_own, &o);
    return o.other;
}

typedef struct memory_read {
    leaf *lf;
    const qn_stmt *store;
    bool any, other; /* is the memory read; at other elements than those stored to */
} memory_read;

static bool see_memory(void *user, const qn_expr *x)
{
    memory_read *r = user;
    if (x->kind == QN_LOAD && x->u.load.base == r->store->u.store.base) {
        r->any = true;
        for (int k = 0; k < x->u.load.index.count; k++) {
            r->other = r->other || !qn_expr_equal(leaf_expand(r->lf, x->u.load.index.at[k]),
                                                  r->store->u.store.index.at[k]);
        }
    }
    return true;
}

/* The time after which the memory may be stored to: items of the same element may read what the
 * store replaces in their own group. */
static int after_memory_readers(plan *p, const qn_stmt *store, const qn_axis *axes, int naxes,
                                qn_sym lane)
{
    leaf *lf = p->lf;
    int t = 0;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        bool same = same_key(st, axes, naxes, lane);
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            memory_read strict = {lf, store, false, false}, loose = strict;
            qn_expr *xs[4] = {it->a, it->b, it->x, it->init};
            for (int n = 0; n < 4; n++) {
                if (xs[n]) {
                    qn_visit(leaf_expand(lf, xs[n]), see_memory, n < 2 ? &strict : &loose);
                }
            }
            for (int n = 0; it->stmt && n < it->stmt->u.store.index.count; n++) {
                qn_visit(it->stmt->u.store.index.at[n], see_memory, &strict);
            }
            if (strict.any || loose.other || (loose.any && (!same || it->kind == LF_RED))) {
                t = later(t, 2 * g + 2);
            } else if (loose.any) {
                t = later(t, 2 * g + 1);
            }
        }
    }
    return t;
}

static void plan_store(plan *p, qn_stmt *s)
{
    leaf *lf = p->lf;
    if (s->u.store.start) {
        leaf_refuse(lf, s->place, "an asynchronous store");
    }
    qn_stmt *st = shell_of(lf, s);
    int n = s->u.store.index.count;
    qn_expr **index = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    for (int k = 0; k < n; k++) {
        index[k] = leaf_expand(lf, flatten(p, s->u.store.index.at[k]));
    }
    st->u.store.index = qn_exprs_of(lf->ir, index, n);
    qn_expr *x = flatten(p, s->u.store.x);
    qn_type space = leaf_type(lf, qn_load(lf->ir, s->u.store.base, index, n, false, NULL));
    if (!leaf_is_small(lf, &space) && other_read(lf, x, st)) {
        qn_type t = leaf_type(lf, x);
        x = leaf_is_small(lf, &t) ? x : make_real(p, leaf_fresh(lf, "%t"), x, NULL);
    }
    st->u.store.x = x;
    lf_info *m = leaf_info(lf, s->u.store.base);
    int t = m && m->mblock == p->block ? later(m->stored, m->read) : 0;
    if (leaf_is_small(lf, &space)) {
        t = later(t, after_memory_readers(p, st, NULL, 0, NULL));
        t = later(t, ready(p, x, NULL, 0, NULL, false));
        for (int k = 0; k < n; k++) {
            t = later(t, ready(p, index[k], NULL, 0, NULL, false));
        }
        int g = put_straight(p, st, t);
        note_reads(p, x, 2 * g);
        note_store(p, s->u.store.base, 2 * g);
        return;
    }
    lf_item *it = new_item(lf, LF_STORE, NULL, &space, choose_lane(lf, &space, &x, 1, NULL, 0, st));
    it->x = x;
    it->stmt = st;
    it->type = space;
    t = later(t, after_memory_readers(p, st, it->axes, it->naxes, it->lane));
    t = later(t, ready(p, x, it->axes, it->naxes, it->lane, false));
    for (int k = 0; k < n; k++) {
        t = later(t, ready(p, index[k], it->axes, it->naxes, it->lane, true));
    }
    int g = put_item(p, it, t);
    note_store(p, s->u.store.base, 2 * g + 2);
    for (int k = 0; k < space.rank; k++) {
        lf_bounds b = leaf_store_bounds(lf, st, space.axes[k].name);
        leaf_consume(lf, &p->consumers, space.axes[k].name, space.axes[k].extent, &b);
    }
}

qn_block leaf_block(leaf *lf, const qn_block *body, const lf_target *targets, int ntargets)
{
    plan *p = QN_NEW(lf->scratch, plan);
    p->lf = lf;
    p->block = ++lf->blocks;
    int32_t trims = lf->trims.count;
    for (int k = 0; k < body->count; k++) {
        qn_stmt *s = body->at[k];
        switch (s->kind) {
        case QN_LET:
            plan_let(p, s);
            qn_facts_stmt(lf->facts, s);
            break;
        case QN_STORE:
            plan_store(p, s);
            break;
        case QN_BUF: {
            lf_buf b = {s->u.buf.name, s->u.buf.type, s, 0};
            QN_PUSH(lf->scratch, &lf->bufs, b);
            qn_facts_stmt(lf->facts, s);
            break;
        }
        case QN_FOR:
            plan_loop(p, body, k);
            break;
        case QN_IF:
            plan_if(p, body, k, targets, ntargets);
            break;
        case QN_YIELD:
            plan_yield(p, s, targets, ntargets);
            break;
        case QN_FLAG: {
            qn_stmt *flag = shell_of(lf, s);
            flag->u.flag.cond = flatten(p, s->u.flag.cond);
            qn_type t = leaf_type(lf, flag->u.flag.cond);
            if (!leaf_is_small(lf, &t)) {
                leaf_refuse(lf, s->place, "a flag over a tile");
            }
            put_straight(p, flag, ready(p, flag->u.flag.cond, NULL, 0, NULL, false));
            break;
        }
        case QN_PREFETCH:
            put_straight(p, shell_of(lf, s), 2 * p->steps.count);
            break;
        case QN_SYNC:
        case QN_LAUNCH:
            leaf_refuse(lf, s->place, "a statement that only other machines have");
        }
    }
    qn_block out = {0};
    leaf_trim(lf, &p->consumers, p->block, &out);
    give_buffers(p);
    for (int k = 0; k < p->steps.count; k++) {
        lf_step *st = &p->steps.at[k];
        for (int n = 0; n < st->pre.count; n++) {
            leaf_straight(lf, st->pre.at[n], &out);
        }
        if (st->nested) {
            leaf_straight(lf, st->nested, &out);
        } else {
            leaf_group(lf, st, &out);
        }
    }
    for (int n = 0; n < p->tail.count; n++) {
        leaf_straight(lf, p->tail.at[n], &out);
    }
    lf->trims.count = trims;
    for (int k = 0; k < p->own.count; k++) {
        p->own.at[k].freed = lf->blocks;
        QN_PUSH(lf->scratch, &lf->pool, p->own.at[k]);
    }
    return out;
}
