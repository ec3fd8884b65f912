/* SPDX-License-Identifier: MIT
 *
 * One element of a tree, or one register of lanes. A node without axes has one value wherever it is
 * asked for: it is made once, before the loops over elements (qn_prepare). */
#include "backends/x86/gen.h"

static qn_v tile_address(qn_gen *g, const qn_type *t, qn_v base, const qn_coords *c)
{
    qn_v k = qn_i64(g, 0);
    for (int32_t i = 0; i < t->rank; i++) {
        const qn_at *at = qn_coord(c, t->axes[i].name);
        k = qn_imul(g, k, qn_extent_value(g, t->axes[i].extent));
        k = qn_iadd(g, k, at ? at->index : qn_i64(g, 0));
    }
    return qn_gep(g, t->dtype == QN_BOOL ? g->i8 : qn_reg_type(g, t->dtype), base, k);
}

qn_v qn_tile_at(qn_gen *g, const qn_tile *t, const qn_coords *c)
{
    if (!t->base) {
        return t->regs[t->type.rank ? qn_part_index(g, &t->type, c) : 0];
    }
    qn_v p = tile_address(g, &t->type, t->base, c);
    if (t->type.dtype != QN_BOOL) {
        return g->l->BuildLoad2(g->b, qn_reg_type(g, t->type.dtype), p, "");
    }
    qn_v byte = g->l->BuildLoad2(g->b, g->i8, p, "");
    return g->l->BuildICmp(g->b, LLVMIntNE, byte, g->l->ConstInt(g->i8, 0, 0), "");
}

void qn_tile_put(qn_gen *g, const qn_type *t, qn_v base, const qn_coords *c, qn_v v)
{
    qn_v p = tile_address(g, t, base, c);
    if (t->dtype == QN_BOOL) {
        v = g->l->BuildZExt(g->b, v, g->i8, "");
    }
    g->l->BuildStore(g->b, v, p);
}

static qn_v iota(qn_gen *g, qn_node *n, const qn_coords *c)
{
    const qn_at *at = qn_coord(c, n->axis);
    qn_v first = at ? at->index : qn_i64(g, 0);
    if (!n->lane || g->width < 2) {
        return first;
    }
    return qn_iadd(g, qn_splat(g, first, g->width), qn_iota_lanes(g, g->i64, g->width));
}

/* Narrowing whole numbers commutes with + - *: the narrow ops are the cheap ones in lanes. */
static qn_v narrow(qn_gen *g, qn_node *n, const qn_coords *c, qn_dtype to)
{
    bool ring =
        n->kind == QN_NODE_OP && (n->op == QN_OP_ADD || n->op == QN_OP_SUB || n->op == QN_OP_MUL);
    if (!n->lane || (!ring && n->kind != QN_NODE_IOTA)) {
        return qn_cast_value(g, n->type.dtype, to, qn_eval(g, n, c));
    }
    if (n->kind == QN_NODE_IOTA) {
        const qn_at *at = qn_coord(c, n->axis);
        qn_v first = qn_pure_cast(g, QN_I64, to, at ? at->index : qn_i64(g, 0));
        return qn_iadd(g, qn_splat(g, first, g->width),
                       qn_iota_lanes(g, qn_reg_type(g, to), g->width));
    }
    qn_v a[2];
    for (int i = 0; i < 2; i++) {
        a[i] = narrow(g, n->kid[i], c, to);
        if (!n->kid[i]->lane) {
            a[i] = qn_splat(g, a[i], g->width);
        }
    }
    return qn_op_value(g, n->op, to, a, n->place);
}

static qn_v op(qn_gen *g, qn_node *n, const qn_coords *c)
{
    qn_v a[3];
    if (n->op == QN_OP_CAST) {
        qn_dtype from = n->kid[0]->type.dtype, to = n->type.dtype;
        if (n->lane && g->width > 1 && from == QN_I64 && to == QN_I32) {
            return narrow(g, n->kid[0], c, to);
        }
        qn_v v = qn_eval(g, n->kid[0], c);
        return n->lane ? qn_cast_value(g, from, to, v) : qn_pure_cast(g, from, to, v);
    }
    qn_dtype t = n->kid[n->op == QN_OP_SELECT]->type.dtype;
    for (int32_t i = 0; i < n->nkids && i < 3; i++) {
        a[i] = qn_eval_lanes(g, n->kid[i], c, n->lane != NULL);
    }
    if (!n->lane) {
        return qn_pure(g, (int32_t)n->op, t, t, a, n->nkids);
    }
    return qn_op_value(g, n->op, t, a, n->place);
}

static qn_v element(qn_gen *g, qn_node *n, const qn_coords *c)
{
    switch (n->kind) {
    case QN_NODE_TILE:
        return qn_tile_at(g, n->tile, c);
    case QN_NODE_IOTA:
        return iota(g, n, c);
    case QN_NODE_LOAD:
        return qn_load_node(g, n, c);
    case QN_NODE_OP:
        return op(g, n, c);
    case QN_NODE_LITERAL:
        break;
    }
    qn_gen_fail(g, n->place, "a literal whose type nothing settles");
}

qn_v qn_eval(qn_gen *g, qn_node *n, const qn_coords *c)
{
    if (n->type.rank == 0) {
        if (!n->once) {
            n->once = element(g, n, c);
        }
        return n->once;
    }
    return element(g, n, c);
}

qn_v qn_eval_lanes(qn_gen *g, qn_node *n, const qn_coords *c, bool lanes)
{
    qn_v v = qn_eval(g, n, c);
    return lanes && !n->lane ? qn_splat(g, v, g->width) : v;
}

static bool is_dear(const qn_node *n)
{
    return n->kind == QN_NODE_OP && (n->op == QN_OP_DIV || n->op == QN_OP_RSQRT ||
                                     (n->op >= QN_OP_POW && n->op <= QN_OP_SIGMOID));
}

/* A dear op on several scalars of a leaf: they are packed into lanes for it. */
static void pack(qn_gen *g, qn_node *n)
{
    const qn_llvm *l = g->l;
    int32_t parts = qn_parts_of(g, &n->type), lanes = 2;
    while (lanes < parts) {
        lanes *= 2;
    }
    if (parts < 2 || lanes > 16 || n->nkids > 2) {
        return;
    }
    qn_tile *t = QN_NEW(g->arena, qn_tile);
    t->type = n->type;
    t->nregs = parts;
    t->regs = QN_NEWN(g->arena, qn_v, parts + 1);
    qn_v a[2];
    for (int32_t k = 0; k < n->nkids; k++) {
        qn_ty v = l->VectorType(qn_reg_type(g, n->kid[k]->type.dtype), (unsigned)lanes);
        a[k] = l->GetUndef(v);
        for (int32_t i = 0; i < lanes; i++) {
            qn_coords c = {.count = 0};
            qn_part_coords(g, &n->type, i < parts ? i : 0, &c);
            a[k] = l->BuildInsertElement(g->b, a[k], qn_eval(g, n->kid[k], &c), qn_i32(g, i), "");
        }
    }
    qn_v all = qn_op_value(g, n->op, n->kid[0]->type.dtype, a, n->place);
    for (int32_t i = 0; i < parts; i++) {
        t->regs[i] = l->BuildExtractElement(g->b, all, qn_i32(g, i), "");
    }
    n->kind = QN_NODE_TILE;
    n->tile = t;
    n->nkids = 0;
}

void qn_prepare(qn_gen *g, qn_node *n)
{
    if (n->type.rank == 0) {
        qn_eval(g, n, NULL);
        return;
    }
    for (int32_t i = 0; i < n->nkids; i++) {
        qn_prepare(g, n->kid[i]);
    }
    if (n->pad) {
        qn_prepare(g, n->pad);
    }
    if (n->kind == QN_NODE_LOAD) {
        qn_address_prepare(g, n);
        qn_load_prepare(g, n);
    }
    if (g->width && !n->lane && is_dear(n)) {
        pack(g, n);
    }
}
