/* SPDX-License-Identifier: MIT
 *
 * Expressions become typed trees. Names are looked up and literals get their dtype here, once a
 * statement, so that evaluating an element never asks again. Whatever works over axes (dot, reduce,
 * fold ..) is computed while its tree is made and stands in it as a value. */
#include "backends/x86/gen.h"
#include "ir/type.h"

static qn_node *new_node(qn_gen *g, qn_node_kind kind, qn_place place)
{
    qn_node *n = QN_NEW(g->arena, qn_node);
    n->kind = kind;
    n->place = place;
    return n;
}

bool qn_union_axes(qn_gen *g, const qn_type *more, qn_axis *axes, int32_t *rank)
{
    for (int32_t i = 0; i < more->rank; i++) {
        bool known = false;
        for (int32_t j = 0; j < *rank && !known; j++) {
            known = axes[j].name == more->axes[i].name;
        }
        if (known) {
            continue;
        }
        if (*rank == QN_MAX_AXES) {
            qn_gen_fail(g, (qn_place){0, 0, 0}, "a value of more than %d axes", QN_MAX_AXES);
        }
        axes[(*rank)++] = more->axes[i];
    }
    return true;
}

static void set_axes(qn_gen *g, qn_node *n, const qn_axis *axes, int32_t rank)
{
    qn_axis *copy = QN_NEWN(g->arena, qn_axis, rank + 1);
    for (int32_t i = 0; i < rank; i++) {
        copy[i] = axes[i];
    }
    n->type.axes = copy;
    n->type.rank = rank;
    n->lane = qn_lane_of(g, &n->type);
}

qn_node *qn_tile_node(qn_gen *g, const qn_tile *t, qn_place place)
{
    qn_node *n = new_node(g, QN_NODE_TILE, place);
    n->tile = t;
    n->type = t->type;
    n->lane = qn_lane_of(g, &n->type);
    return n;
}

static qn_node *const_node(qn_gen *g, qn_dtype t, qn_v v, qn_place place)
{
    qn_node *n = new_node(g, QN_NODE_TILE, place);
    n->type.dtype = t;
    n->once = v;
    return n;
}

static bool is_open(qn_dtype t)
{
    return t == QN_INT_LIT || t == QN_FLT_LIT;
}

void qn_settle(qn_gen *g, qn_node *n, qn_dtype t)
{
    if (!is_open(n->type.dtype)) {
        return;
    }
    bool is_int = n->type.dtype == QN_INT_LIT;
    if (t == QN_NO_TYPE || is_open(t)) {
        t = qn_dtype_settle(n->type.dtype);
    }
    n->type.dtype = t;
    if (n->kind == QN_NODE_LITERAL) {
        const qn_expr *x = n->x;
        n->kind = QN_NODE_TILE;
        if (qn_dtype_is_float(t)) {
            double v = is_int ? (double)x->u.lit.i : x->u.lit.f;
            n->once = qn_round_to(g, t, g->l->ConstReal(qn_reg_type(g, t), v));
        } else {
            n->once = g->l->ConstInt(qn_reg_type(g, t), (unsigned long long)x->u.lit.i, 1);
        }
        return;
    }
    for (int32_t i = 0; i < n->nkids; i++) {
        qn_settle(g, n->kid[i], t);
    }
}

static qn_node *cast_node(qn_gen *g, qn_node *kid, qn_dtype to)
{
    qn_node *n = new_node(g, QN_NODE_OP, kid->place);
    n->op = QN_OP_CAST;
    n->kid = QN_NEW(g->arena, qn_node *);
    n->kid[0] = kid;
    n->nkids = 1;
    set_axes(g, n, kid->type.axes, kid->type.rank);
    n->type.dtype = to;
    return n;
}

/* Gives operands from `first` on one dtype: literals take it, narrower whole numbers widen to it.
 */
static qn_dtype join_kids(qn_gen *g, qn_node **kid, int32_t first, int32_t count)
{
    qn_dtype t = kid[first]->type.dtype;
    for (int32_t i = first + 1; i < count; i++) {
        qn_dtype both = qn_dtype_join(t, kid[i]->type.dtype);
        if (both == QN_NO_TYPE) {
            qn_gen_fail(g, kid[i]->place, "operands of different dtypes");
        }
        t = both;
    }
    for (int32_t i = first; i < count && !is_open(t); i++) {
        qn_settle(g, kid[i], t);
        if (kid[i]->type.dtype != t) {
            kid[i] = cast_node(g, kid[i], t);
        }
    }
    return t;
}

static void settle_all(qn_gen *g, qn_node *n)
{
    for (int32_t i = 0; i < n->nkids; i++) {
        qn_settle(g, n->kid[i], QN_NO_TYPE);
    }
}

static qn_node *op_node(qn_gen *g, const qn_expr *x)
{
    int32_t count = x->u.op.args.count;
    if (x->u.op.op == QN_OP_ADD && g->width) { /* a sum onto a contraction starts it */
        for (int turn = 0; turn < 2; turn++) {
            const qn_expr *dot = x->u.op.args.at[1 - turn];
            if (dot->kind == QN_AXOP && dot->u.axop.op == QN_AX_DOT) {
                qn_node *start = qn_tree(g, x->u.op.args.at[turn]);
                const qn_tile *t = qn_axisop(g, dot, start);
                return qn_tile_node(g, t, x->place);
            }
        }
    }
    qn_node *n = new_node(g, QN_NODE_OP, x->place);
    n->op = x->u.op.op;
    n->nkids = count;
    n->kid = QN_NEWN(g->arena, qn_node *, count + 1);
    qn_axis axes[QN_MAX_AXES];
    int32_t rank = 0;
    for (int32_t i = 0; i < count; i++) {
        n->kid[i] = qn_tree(g, x->u.op.args.at[i]);
        qn_union_axes(g, &n->kid[i]->type, axes, &rank);
    }
    set_axes(g, n, axes, rank);
    if (n->op == QN_OP_CAST) {
        bool floats = qn_dtype_is_float(x->u.op.cast) && n->kid[0]->type.dtype == QN_FLT_LIT;
        qn_settle(g, n->kid[0], floats ? x->u.op.cast : QN_NO_TYPE);
        n->type.dtype = x->u.op.cast;
        return n->kid[0]->type.dtype == n->type.dtype ? n->kid[0] : n;
    }
    if (n->op == QN_OP_AND || n->op == QN_OP_OR || n->op == QN_OP_NOT) {
        n->type.dtype = QN_BOOL;
        return n;
    }
    qn_dtype t = join_kids(g, n->kid, n->op == QN_OP_SELECT, count);
    n->type.dtype = t;
    if (qn_op_is_compare(n->op)) {
        n->type.dtype = QN_BOOL;
        settle_all(g, n);
    }
    return n;
}

/* A value whose axes have other names: the same registers or the same array. */
static qn_node *as_node(qn_gen *g, const qn_expr *x)
{
    qn_node *kid = qn_tree(g, x->u.as.x);
    const qn_tile *from = qn_materialise(g, kid, NULL);
    qn_tile *to = QN_NEW(g->arena, qn_tile);
    *to = *from;
    qn_axis *axes = QN_NEWN(g->arena, qn_axis, from->type.rank + 1);
    for (int32_t i = 0; i < from->type.rank; i++) {
        axes[i] = from->type.axes[i];
        for (int32_t k = 0; k < x->u.as.npairs; k++) {
            if (x->u.as.pairs[k].from == from->type.axes[i].name) {
                axes[i].name = x->u.as.pairs[k].to;
            }
        }
    }
    to->type.axes = axes;
    if (g->width) {
        for (int32_t i = 0; i < from->type.rank; i++) {
            bool was = from->type.axes[i].name == qn_lane_of(g, &from->type);
            if (was != (axes[i].name == qn_lane_of(g, &to->type))) {
                qn_gen_fail(g, x->place, "an axis in lanes cannot become one that is not");
            }
        }
    }
    return qn_tile_node(g, to, x->place);
}

qn_node *qn_tree(qn_gen *g, const qn_expr *x)
{
    qn_node *n = NULL;
    qn_entry *e;
    const qn_tile *results[QN_MAX_AXES];
    switch (x->kind) {
    case QN_LIT:
        if (x->u.lit.type == QN_BOOL) {
            return const_node(g, QN_BOOL, g->l->ConstInt(g->i1, x->u.lit.i != 0, 0), x->place);
        }
        n = new_node(g, QN_NODE_LITERAL, x->place);
        n->x = x;
        n->type.dtype = x->u.lit.type;
        return n;
    case QN_NAME:
        e = qn_scope_find(g, x->u.name);
        if (!e || !e->tile) {
            qn_gen_fail(g, x->place, "a name that is no value here: %s", x->u.name);
        }
        return qn_tile_node(g, e->tile, x->place);
    case QN_IOTA:
        n = new_node(g, QN_NODE_IOTA, x->place);
        n->axis = x->u.iota.name;
        set_axes(g, n, &x->u.iota, 1);
        n->type.dtype = QN_I64;
        return n;
    case QN_LOAD:
        n = qn_access(g, x->u.load.base, &x->u.load.index, x->u.load.guarded, x->place);
        if (n->guarded) {
            qn_dtype t = n->type.dtype;
            n->pad = x->u.load.pad ? qn_tree_as(g, x->u.load.pad, t)
                                   : const_node(g, t, g->l->ConstNull(qn_reg_type(g, t)), x->place);
        }
        return n;
    case QN_OP:
        return op_node(g, x);
    case QN_AXOP:
        return qn_tile_node(g, qn_axisop(g, x, NULL), x->place);
    case QN_FOLD:
        qn_results(g, x, results);
        return qn_tile_node(g, results[0], x->place);
    case QN_AS:
        return as_node(g, x);
    }
    qn_gen_fail(g, x->place, "an expression of no kind");
}

qn_node *qn_tree_as(qn_gen *g, const qn_expr *x, qn_dtype t)
{
    qn_node *n = qn_tree(g, x);
    qn_settle(g, n, t);
    return n;
}

/* ---------------------------------------------------------------- whole values */

typedef struct fill {
    qn_tile *tile;
    qn_node *from;
    int32_t next;
} fill;

static void fill_element(qn_gen *g, void *user, const qn_coords *c)
{
    fill *f = user;
    qn_v v = qn_eval_lanes(g, f->from, c, qn_lane_of(g, &f->tile->type) != NULL);
    if (f->tile->base) {
        qn_tile_put(g, &f->tile->type, f->tile->base, c, v);
    } else {
        f->tile->regs[f->next++] = v;
    }
}

static bool has_axes(const qn_type *t, const qn_type *of)
{
    for (int32_t i = 0; i < of->rank; i++) {
        if (!qn_type_axis(t, of->axes[i].name)) {
            return false;
        }
    }
    return true;
}

const qn_tile *qn_materialise(qn_gen *g, qn_node *n, const qn_type *as)
{
    qn_settle(g, n, as ? as->dtype : QN_NO_TYPE);
    if (n->kind == QN_NODE_TILE && n->tile && (!as || has_axes(&n->type, as))) {
        return n->tile;
    }
    qn_tile *t = QN_NEW(g->arena, qn_tile);
    t->type = as ? *as : n->type;
    t->type.dtype = n->type.dtype;
    if (t->type.rank == 0 || g->width) {
        t->nregs = t->type.rank ? qn_parts_of(g, &t->type) : 1;
        t->regs = QN_NEWN(g->arena, qn_v, t->nregs + 1);
    } else {
        t->base = qn_scratch_tile(g, &t->type);
    }
    qn_prepare(g, n);
    if (t->type.rank == 0) {
        t->regs[0] = qn_eval(g, n, NULL);
        return t;
    }
    fill f = {t, n, 0};
    qn_each(g, t->type.axes, t->type.rank, NULL, fill_element, &f);
    return t;
}

static int32_t fold_results(qn_gen *g, const qn_expr *x, const qn_tile **out)
{
    const qn_norm *norm = qn_file_norm(g->file, x->u.fold.norm);
    qn_fold_meaning m;
    if (g->width || !norm || !qn_fold_expand(g->ir, norm, x, &m) || m.nouts > QN_MAX_AXES) {
        qn_gen_fail(g, x->place, "a fold that cannot be written out here");
    }
    qn_entry *outer = g->scope;
    for (int32_t i = 0; i < m.nlets; i++) {
        qn_scope_tile(g, m.lets[i].name, qn_materialise(g, qn_tree(g, m.lets[i].x), NULL));
    }
    for (int32_t i = 0; i < m.nouts; i++) {
        out[i] = qn_materialise(g, qn_tree(g, m.outs[i]), NULL);
    }
    g->scope = outer;
    return m.nouts;
}

int32_t qn_results(qn_gen *g, const qn_expr *x, const qn_tile **out)
{
    if (x->kind == QN_FOLD) {
        return fold_results(g, x, out);
    }
    if (x->kind == QN_AXOP && x->u.axop.op == QN_AX_TOPK) {
        qn_topk(g, x, &out[0], &out[1]);
        return 2;
    }
    out[0] = qn_materialise(g, qn_tree(g, x), NULL);
    return 1;
}

qn_v qn_scalar(qn_gen *g, const qn_expr *x, qn_dtype t)
{
    qn_node *n = qn_tree_as(g, x, t);
    return qn_eval(g, n, NULL);
}

qn_v qn_index_value(qn_gen *g, const qn_expr *x)
{
    qn_node *n = qn_tree_as(g, x, QN_I64);
    return qn_cast_value(g, n->type.dtype, QN_I64, qn_eval(g, n, NULL));
}
