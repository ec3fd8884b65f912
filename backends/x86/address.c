/* SPDX-License-Identifier: MIT
 *
 * Addresses. An index is a sum: what has no axes, plain axes (i:64), and the rest. So
 *
 *     x[b, j0 + j:64, d:D]   =   x + b * s0 + j0 * s1   +   j * s1 + d * s2
 *
 * each product made as far out of the loops as its operands allow, and a lane axis that stands
 * plainly in one index is a run of elements at that index's stride: contiguous where the stride is
 * 1. Anything else in lanes has one address a lane. */
#include "backends/x86/gen.h"
#include <stddef.h>

static int32_t axis_of(const qn_type *t, qn_sym name)
{
    for (int32_t i = 0; i < t->rank; i++) {
        if (t->axes[i].name == name) {
            return i;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- arrays */

const qn_memory *qn_new_memory(qn_gen *g, qn_sym name, const qn_type *t, const qn_exprs *layout,
                               qn_v base, const qn_v *strides)
{
    qn_memory *m = QN_NEW(g->arena, qn_memory);
    LLVMBuilderRef here = g->b;
    g->b = g->entry;
    *m = (qn_memory){.name = name, .type = *t, .base = base};
    m->extent = QN_NEWN(g->arena, qn_v, t->rank + 1);
    for (int32_t i = 0; i < t->rank; i++) {
        m->extent[i] = qn_extent_value(g, t->axes[i].extent);
    }
    bool plain = !layout || layout->count == 0;
    m->npieces = plain ? t->rank : layout->count;
    m->pieces = QN_NEWN(g->arena, qn_layout_piece, m->npieces + 1);
    qn_v stride = qn_i64(g, 1);
    for (int32_t i = m->npieces - 1; i >= 0; i--) {
        qn_layout_piece *p = &m->pieces[i];
        *p = (qn_layout_piece){i, 1, 0, strides ? strides[i] : stride};
        if (!plain) {
            const qn_expr *x = layout->at[i];
            if (x->kind == QN_OP && x->u.op.op == QN_OP_MOD) {
                p->mod = x->u.op.args.at[1]->u.lit.i;
                x = x->u.op.args.at[0];
            }
            if (x->kind == QN_OP && x->u.op.op == QN_OP_FLOORDIV) {
                p->div = x->u.op.args.at[1]->u.lit.i;
                x = x->u.op.args.at[0];
            }
            p->axis = axis_of(t, x->u.name);
        }
        if (strides) {
            continue;
        }
        qn_v count = m->extent[p->axis];
        if (p->mod) {
            count = qn_i64(g, p->mod);
        } else if (p->div > 1) {
            count = qn_iadd(g, count, qn_i64(g, p->div - 1));
            count = qn_floordiv(g, count, qn_i64(g, p->div));
        }
        stride = qn_imul(g, stride, count);
    }
    m->row_major = m->npieces == t->rank;
    for (int32_t i = 0; i < m->npieces; i++) {
        const qn_layout_piece *p = &m->pieces[i];
        m->row_major = m->row_major && p->axis == i && p->div == 1 && p->mod == 0;
    }
    g->b = here;
    return m;
}

const qn_memory *qn_tensor(qn_gen *g, int32_t param)
{
    if (g->tensors[param]) {
        return g->tensors[param];
    }
    const qn_param *p = &g->kernel->params.at[param];
    int64_t number = 0;
    for (int32_t i = 0; i < param; i++) {
        number += g->kernel->params.at[i].type.rank > 0;
    }
    LLVMBuilderRef here = g->b;
    g->b = g->entry;
    qn_v table = qn_offset(g, g->args, (int64_t)offsetof(qn_abi_args, tensors));
    table = g->l->BuildLoad2(g->b, g->ptr, table, "");
    qn_v tensor = qn_offset(g, table, number * (int64_t)sizeof(qn_abi_tensor));
    qn_v data = g->l->BuildLoad2(g->b, g->ptr, tensor, "");
    qn_v *strides = QN_NEWN(g->arena, qn_v, p->type.rank + 1);
    for (int32_t i = 0; i < p->type.rank; i++) {
        qn_v at = qn_offset(g, tensor, (int64_t)offsetof(qn_abi_tensor, stride) + 8 * (int64_t)i);
        bool last = i + 1 == p->type.rank;
        strides[i] = last ? qn_i64(g, 1) : g->l->BuildLoad2(g->b, g->i64, at, "");
    }
    const qn_memory *m = qn_new_memory(g, p->name, &p->type, NULL, data, strides);
    g->b = here;
    g->tensors[param] = m;
    return m;
}

qn_node *qn_access(qn_gen *g, qn_sym base, const qn_exprs *index, bool guarded, qn_place place)
{
    qn_node *n = QN_NEW(g->arena, qn_node);
    n->kind = QN_NODE_LOAD;
    n->place = place;
    qn_entry *e = qn_scope_find(g, base);
    if (!e || !e->memory) {
        qn_gen_fail(g, place, "no memory of that name here: %s", base);
    }
    n->memory = e->memory;
    n->guarded = guarded;
    n->nkids = index->count;
    n->kid = QN_NEWN(g->arena, qn_node *, index->count + 1);
    qn_axis axes[QN_MAX_AXES];
    int32_t rank = 0;
    for (int32_t i = 0; i < index->count; i++) {
        n->kid[i] = qn_tree_as(g, index->at[i], QN_I64);
        qn_union_axes(g, &n->kid[i]->type, axes, &rank);
    }
    qn_axis *copy = QN_NEWN(g->arena, qn_axis, rank + 1);
    for (int32_t i = 0; i < rank; i++) {
        copy[i] = axes[i];
    }
    n->type = (qn_type){n->memory->type.dtype, rank, copy};
    n->lane = qn_lane_of(g, &n->type);
    return n;
}

/* ---------------------------------------------------------------- indices taken apart */

static void add_scalar(qn_gen *g, qn_index *x, qn_v v)
{
    if (x->nscalars == QN_INDEX_PARTS) {
        x->scalar[QN_INDEX_PARTS - 1] = qn_pure_add(g, x->scalar[QN_INDEX_PARTS - 1], v);
        return;
    }
    x->scalar[x->nscalars++] = v;
}

static void take_apart(qn_gen *g, qn_node *n, qn_index *x)
{
    bool whole = n->type.dtype == QN_I64 && n->kind == QN_NODE_OP;
    if (whole && n->op == QN_OP_ADD) {
        take_apart(g, n->kid[0], x);
        take_apart(g, n->kid[1], x);
        return;
    }
    if (n->type.rank == 0) {
        add_scalar(g, x, qn_pure_cast(g, n->type.dtype, QN_I64, qn_eval(g, n, NULL)));
        return;
    }
    if (n->kind == QN_NODE_IOTA && x->nplain < QN_MAX_AXES) {
        x->plain[x->nplain++] = n->axis;
        x->lane_plain |= n->lane != NULL;
        return;
    }
    if (whole && n->op == QN_OP_SUB && n->kid[1]->type.rank == 0) {
        take_apart(g, n->kid[0], x);
        qn_v v = qn_eval(g, n->kid[1], NULL);
        add_scalar(g, x, qn_pure(g, QN_OP_NEG, QN_I64, QN_I64, &v, 1));
        return;
    }
    if (x->nrest == QN_INDEX_PARTS) {
        qn_gen_fail(g, n->place, "an index of too many parts");
    }
    x->rest[x->nrest++] = n;
    x->lane_rest |= n->lane != NULL;
}

void qn_address_prepare(qn_gen *g, qn_node *n)
{
    if (n->index) {
        return;
    }
    n->index = QN_NEWN(g->arena, qn_index, n->nkids + 1);
    for (int32_t k = 0; k < n->nkids; k++) {
        take_apart(g, n->kid[k], &n->index[k]);
    }
    /* Conditions that no axis moves are made here, before any branch of an element. */
    for (int32_t k = 0; n->guarded && k < n->nkids; k++) {
        const qn_index *x = &n->index[k];
        if (!x->nplain && !x->nrest) {
            n->once_cond = qn_both(g, n->once_cond, qn_index_inside(g, n, k, NULL));
        }
    }
}

qn_v qn_both(qn_gen *g, qn_v a, qn_v b)
{
    if (!a || !b) {
        return a ? a : b;
    }
    if (qn_lanes_of(g, a)) {
        return g->l->BuildAnd(g->b, a, b, "");
    }
    qn_v ab[] = {a, b};
    return qn_pure(g, QN_OP_AND, QN_BOOL, QN_BOOL, ab, 2);
}

/* ---------------------------------------------------------------- one element, one register */

/* The terms of index k at c; of lane 0 where lanes are plain. Lanes of the rest go to *per_lane. */
static int terms_of(qn_gen *g, const qn_index *x, const qn_coords *c, qn_v *out, qn_v *per_lane)
{
    int n = 0;
    for (int32_t i = 0; i < x->nscalars; i++) {
        out[n++] = x->scalar[i];
    }
    for (int32_t i = 0; i < x->nplain; i++) {
        const qn_at *at = qn_coord(c, x->plain[i]);
        if (at) {
            out[n++] = at->index;
        }
    }
    *per_lane = NULL;
    for (int32_t i = 0; i < x->nrest; i++) {
        qn_v v = qn_eval(g, x->rest[i], c);
        if (qn_lanes_of(g, v)) {
            v = qn_cast_value(g, x->rest[i]->type.dtype, QN_I64, v);
            *per_lane = *per_lane ? g->l->BuildAdd(g->b, *per_lane, v, "") : v;
        } else {
            out[n++] = qn_pure_cast(g, x->rest[i]->type.dtype, QN_I64, v);
        }
    }
    return n;
}

qn_v qn_index_at(qn_gen *g, const qn_node *n, int32_t k, const qn_coords *c)
{
    qn_v terms[QN_INDEX_TERMS], per_lane;
    int count = terms_of(g, &n->index[k], c, terms, &per_lane);
    return qn_pure_sum(g, terms, count);
}

/* Is index k in range at c? NULL: known without looking, from the bounds of loops. */
qn_v qn_index_inside(qn_gen *g, const qn_node *n, int32_t k, const qn_coords *c)
{
    const qn_memory *m = n->memory;
    qn_v terms[QN_INDEX_TERMS], per_lane;
    int count = terms_of(g, &n->index[k], c, terms, &per_lane);
    int64_t extent, lo = 0, hi = 0, a, b;
    bool known = qn_is_const(g, m->extent[k], &extent);
    for (int i = 0; known && i < count; i++) {
        known = qn_range_of(g, terms[i], &a, &b);
        lo += a;
        hi += b;
    }
    if (known && lo >= 0 && hi < extent) {
        return NULL;
    }
    qn_v ab[] = {qn_pure_sum(g, terms, count), m->extent[k]};
    return qn_pure(g, QN_PURE_BELOW, QN_I64, QN_BOOL, ab, 2);
}

/* Are all lanes of a run known to be in range? And if not, is its first index 0 or more? */
static bool run_is_inside(qn_gen *g, const qn_node *n, int32_t k, const qn_coords *c, bool *start)
{
    qn_v terms[QN_INDEX_TERMS], per_lane;
    int count = terms_of(g, &n->index[k], c, terms, &per_lane);
    int64_t extent, lo = 0, hi = g->width - 1, a, b;
    bool known = qn_is_const(g, n->memory->extent[k], &extent);
    *start = true;
    for (int i = 0; i < count; i++) {
        *start = *start && qn_is_nonnegative(g, terms[i]);
        known = known && qn_range_of(g, terms[i], &a, &b);
        lo += known ? a : 0;
        hi += known ? b : 0;
    }
    return known && lo >= 0 && hi < extent;
}

static qn_v piece_of(qn_gen *g, const qn_layout_piece *p, qn_v index)
{
    if (p->div > 1) {
        index = g->l->BuildUDiv(g->b, index, qn_int_like(g, p->div, index), "");
    }
    if (p->mod) {
        index = g->l->BuildURem(g->b, index, qn_int_like(g, p->mod, index), "");
    }
    return index;
}

bool qn_whole_stride(const qn_memory *m, int32_t axis, qn_v *stride)
{
    for (int32_t i = 0; i < m->npieces; i++) {
        if (m->pieces[i].axis == axis) {
            *stride = m->pieces[i].stride;
            return m->pieces[i].div == 1 && m->pieces[i].mod == 0;
        }
    }
    return false;
}

/* x + what varies least .. + what varies most: the first part is shared, the constant goes last. */
static qn_v row_major_place(qn_gen *g, const qn_node *n, const qn_coords *c)
{
    const qn_memory *m = n->memory;
    qn_v all[QN_MAX_AXES * QN_INDEX_TERMS], terms[QN_INDEX_TERMS], per_lane;
    int count = 0, inner = 0;
    int64_t fixed = 0, value;
    int32_t deepest = 0;
    for (int32_t k = 0; k < n->nkids; k++) {
        int own = terms_of(g, &n->index[k], c, terms, &per_lane);
        for (int i = 0; i < own; i++) {
            qn_v product = qn_pure_mul(g, terms[i], m->pieces[k].stride);
            if (qn_is_const(g, product, &value)) {
                fixed += value;
                continue;
            }
            int32_t level = qn_level_of(g, product);
            deepest = level > deepest ? level : deepest;
            all[count++] = product;
        }
    }
    /* terms of the deepest level last, by themselves */
    qn_v last[QN_MAX_AXES * QN_INDEX_TERMS];
    int outer = 0;
    for (int i = 0; i < count; i++) {
        if (qn_level_of(g, all[i]) == deepest) {
            last[inner++] = all[i];
        } else {
            all[outer++] = all[i];
        }
    }
    qn_v place = m->base;
    if (outer) {
        qn_v at[] = {place, qn_pure_sum(g, all, outer)};
        place = qn_pure(g, QN_PURE_PLACE, m->type.dtype, QN_I64, at, 2);
    }
    if (inner) {
        qn_v at[] = {place, qn_pure_sum(g, last, inner)};
        place = qn_pure(g, QN_PURE_PLACE, m->type.dtype, QN_I64, at, 2);
    }
    return qn_gep(g, qn_memory_type(g, m->type.dtype), place, qn_i64(g, fixed));
}

static qn_v layout_place(qn_gen *g, const qn_node *n, const qn_coords *c, bool run,
                         const qn_v *wide)
{
    const qn_memory *m = n->memory;
    qn_v offset = qn_i64(g, 0);
    for (int32_t i = 0; i < m->npieces; i++) {
        const qn_layout_piece *p = &m->pieces[i];
        if (!run && wide[p->axis]) {
            continue;
        }
        qn_v index = qn_index_at(g, n, p->axis, c);
        offset = qn_iadd(g, offset, qn_imul(g, piece_of(g, p, index), p->stride));
    }
    return qn_gep(g, qn_memory_type(g, m->type.dtype), m->base, offset);
}

/* One offset a lane, over what the lanes share. */
static qn_v lane_places(qn_gen *g, const qn_node *n, const qn_coords *c, const qn_v *wide,
                        qn_v address)
{
    const qn_memory *m = n->memory;
    qn_v offsets = qn_int_like(g, 0, qn_iota_lanes(g, g->i64, g->width));
    for (int32_t i = 0; i < m->npieces; i++) {
        const qn_layout_piece *p = &m->pieces[i];
        if (!wide[p->axis]) {
            continue;
        }
        qn_v at = wide[p->axis];
        if (!m->row_major) {
            qn_v base = qn_splat(g, qn_index_at(g, n, p->axis, c), g->width);
            at = piece_of(g, p, g->l->BuildAdd(g->b, at, base, ""));
        }
        qn_v s = qn_splat(g, p->stride, g->width);
        offsets = g->l->BuildAdd(g->b, offsets, g->l->BuildMul(g->b, at, s, ""), "");
    }
    return g->l->BuildGEP2(g->b, qn_memory_type(g, m->type.dtype), address, &offsets, 1, "");
}

void qn_address(qn_gen *g, qn_node *n, const qn_coords *c, qn_sym apart, qn_place_of *out)
{
    const qn_memory *m = n->memory;
    qn_address_prepare(g, n);
    *out = (qn_place_of){.cond = n->once_cond, .lanes = n->lane && g->width > 1, .valid = g->width};
    qn_v wide[QN_MAX_AXES] = {NULL};
    bool run = out->lanes; /* lanes at one stride */
    qn_v lane_stride = NULL;
    if (out->lanes) {
        out->valid = qn_lanes_valid(g, &n->type, n->lane, c);
    }
    for (int32_t k = 0; k < n->nkids; k++) {
        const qn_index *x = &n->index[k];
        qn_v per_lane = NULL, stride;
        if (out->lanes && x->lane_rest) {
            qn_v terms[QN_INDEX_TERMS];
            terms_of(g, x, c, terms, &per_lane);
            run = false;
        }
        if (out->lanes && x->lane_plain) {
            run = run && qn_whole_stride(m, k, &stride);
            if (run) {
                lane_stride = lane_stride ? qn_iadd(g, lane_stride, stride) : stride;
            }
        }
        if (out->lanes && (x->lane_plain || per_lane)) {
            wide[k] = per_lane ? per_lane : qn_int_like(g, 0, qn_iota_lanes(g, g->i64, g->width));
            for (int32_t i = 0; i < x->nplain; i++) {
                if (x->plain[i] == n->lane) {
                    wide[k] = qn_iadd(g, wide[k], qn_iota_lanes(g, g->i64, g->width));
                }
            }
        }
        bool is_apart = x->nplain == 1 && x->plain[0] == apart;
        if (!n->guarded || (!x->nplain && !x->nrest) || is_apart) {
            continue;
        }
        if (!wide[k]) {
            out->cond = qn_both(g, out->cond, qn_index_inside(g, n, k, c));
        } else if (!per_lane && !out->first) {
            if (!run_is_inside(g, n, k, c, &out->nonnegative)) {
                out->first = qn_index_at(g, n, k, c);
                out->extent = m->extent[k];
            }
        } else {
            qn_v base = qn_splat(g, qn_index_at(g, n, k, c), g->width);
            qn_v ok = g->l->BuildICmp(g->b, LLVMIntULT, g->l->BuildAdd(g->b, wide[k], base, ""),
                                      qn_splat(g, m->extent[k], g->width), "");
            out->mask = qn_both(g, out->mask, ok);
        }
    }
    out->address = m->row_major ? row_major_place(g, n, c) : layout_place(g, n, c, run, wide);
    if (out->lanes && run) {
        out->stride = lane_stride ? lane_stride : qn_i64(g, 0);
    } else if (out->lanes) {
        out->addresses = lane_places(g, n, c, wide, out->address);
    }
}
