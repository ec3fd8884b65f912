/* SPDX-License-Identifier: MIT
 *
 * Addresses. An index is a sum: what has no axes, plain axes (i:64), and the rest. So
 *
 *     x[b, j0 + j:64, d:D]   =   x + b * s0 + j0 * s1   +   j * s1 + d * s2
 *                                made once a statement      an element, or a constant in a leaf
 *
 * and a lane axis that stands plainly in one index is a run of elements at that index's stride:
 * contiguous where the stride is 1. Anything else in lanes has one address a lane.
 *
 * Guards: a scalar out of range reads the argument block (always there) and is replaced by the pad;
 * lanes out of range are masked. Nothing outside a tensor is ever touched. */
#include "backends/x86/gen.h"
#include <stddef.h>

typedef struct qn_index {
    qn_v base; /* i64, or NULL: 0 */
    qn_sym plain[QN_MAX_AXES];
    int32_t nplain;
    qn_node *rest[16];
    int32_t nrest;
    bool lane_plain, lane_rest;
} qn_index;

/* ---------------------------------------------------------------- arrays */

static int32_t axis_of(const qn_type *t, qn_sym name)
{
    for (int32_t i = 0; i < t->rank; i++) {
        if (t->axes[i].name == name) {
            return i;
        }
    }
    return 0;
}

const qn_memory *qn_new_memory(qn_gen *g, qn_sym name, const qn_type *t, const qn_exprs *layout,
                               qn_v base)
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
        *p = (qn_layout_piece){i, 1, 0, stride};
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
        qn_v count = m->extent[p->axis];
        if (p->mod) {
            count = qn_i64(g, p->mod);
        } else if (p->div > 1) {
            count = qn_iadd(g, count, qn_i64(g, p->div - 1));
            count = qn_floordiv(g, count, qn_i64(g, p->div));
        }
        stride = qn_imul(g, stride, count);
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
    qn_memory *m = QN_NEW(g->arena, qn_memory);
    *m = *qn_new_memory(g, p->name, &p->type, NULL, data);
    for (int32_t i = 0; i + 1 < m->npieces; i++) {
        qn_v at = qn_offset(g, tensor, (int64_t)offsetof(qn_abi_tensor, stride) + 8 * (int64_t)i);
        m->pieces[i].stride = g->l->BuildLoad2(g->b, g->i64, at, "");
    }
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

static void take_apart(qn_gen *g, qn_node *n, qn_index *x)
{
    bool whole = n->type.dtype == QN_I64;
    if (n->type.rank == 0) {
        qn_v v = qn_cast_value(g, n->type.dtype, QN_I64, qn_eval(g, n, NULL));
        x->base = x->base ? qn_iadd(g, x->base, v) : v;
        return;
    }
    if (n->kind == QN_NODE_IOTA && x->nplain < QN_MAX_AXES) {
        x->plain[x->nplain++] = n->axis;
        x->lane_plain |= n->lane != NULL;
        return;
    }
    if (n->kind == QN_NODE_OP && n->op == QN_OP_ADD && whole) {
        take_apart(g, n->kid[0], x);
        take_apart(g, n->kid[1], x);
        return;
    }
    if (n->kind == QN_NODE_OP && n->op == QN_OP_SUB && whole && n->kid[1]->type.rank == 0) {
        take_apart(g, n->kid[0], x);
        qn_v v = qn_eval(g, n->kid[1], NULL);
        qn_v from = x->base ? x->base : qn_i64(g, 0);
        x->base = g->l->BuildSub(g->b, from, v, "");
        return;
    }
    if (x->nrest == 16) {
        qn_gen_fail(g, n->place, "an index of too many parts");
    }
    x->rest[x->nrest++] = n;
    x->lane_rest |= n->lane != NULL;
}

static bool is_row_major(const qn_memory *m)
{
    for (int32_t i = 0; i < m->npieces; i++) {
        if (m->pieces[i].axis != i || m->pieces[i].div != 1 || m->pieces[i].mod != 0) {
            return false;
        }
    }
    return m->npieces == m->type.rank;
}

static qn_v in_range(qn_gen *g, qn_v index, qn_v extent)
{
    return g->l->BuildICmp(g->b, LLVMIntULT, index, extent, "");
}

static qn_v both(qn_gen *g, qn_v a, qn_v b)
{
    return a && b ? g->l->BuildAnd(g->b, a, b, "") : a ? a : b;
}

void qn_address_prepare(qn_gen *g, qn_node *n)
{
    if (n->index) {
        return;
    }
    const qn_memory *m = n->memory;
    n->index = QN_NEWN(g->arena, qn_index, n->nkids + 1);
    qn_v offset = qn_i64(g, 0);
    for (int32_t k = 0; k < n->nkids; k++) {
        qn_index *x = &n->index[k];
        take_apart(g, n->kid[k], x);
        if (!x->base) {
            x->base = qn_i64(g, 0);
        }
        if (n->guarded && !x->nplain && !x->nrest) {
            n->once_cond = both(g, n->once_cond, in_range(g, x->base, m->extent[k]));
        }
    }
    if (is_row_major(m)) {
        for (int32_t k = 0; k < n->nkids; k++) {
            offset = qn_iadd(g, offset, qn_imul(g, n->index[k].base, m->pieces[k].stride));
        }
        n->once_place = qn_gep(g, qn_memory_type(g, m->type.dtype), m->base, offset);
    }
}

/* The part of index k that varies with axes: of the element, or of lane 0 where lanes are plain. */
static qn_v moving(qn_gen *g, const qn_index *x, const qn_coords *c, qn_v *per_lane)
{
    qn_v sum = qn_i64(g, 0);
    for (int32_t i = 0; i < x->nplain; i++) {
        const qn_at *at = qn_coord(c, x->plain[i]);
        sum = qn_iadd(g, sum, at ? at->index : qn_i64(g, 0));
    }
    *per_lane = NULL;
    for (int32_t i = 0; i < x->nrest; i++) {
        qn_v v = qn_cast_value(g, x->rest[i]->type.dtype, QN_I64, qn_eval(g, x->rest[i], c));
        if (qn_lanes_of(g, v)) {
            *per_lane = *per_lane ? g->l->BuildAdd(g->b, *per_lane, v, "") : v;
        } else {
            sum = qn_iadd(g, sum, v);
        }
    }
    return sum;
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

static bool is_whole(const qn_memory *m, int32_t axis, qn_v *stride)
{
    for (int32_t i = 0; i < m->npieces; i++) {
        if (m->pieces[i].axis == axis) {
            *stride = m->pieces[i].stride;
            return m->pieces[i].div == 1 && m->pieces[i].mod == 0;
        }
    }
    return false;
}

/* Lanes first .. first + width - 1 within 0 .. extent - 1, as a mask. */
static qn_v run_mask(qn_gen *g, qn_v first, qn_v extent)
{
    const qn_llvm *l = g->l;
    qn_v zero = qn_i64(g, 0), width = qn_i64(g, g->width);
    qn_v lo = l->BuildSub(g->b, zero, first, ""), hi = l->BuildSub(g->b, extent, first, "");
    lo = qn_imin(g, qn_imax(g, lo, zero), width);
    hi = qn_imin(g, qn_imax(g, hi, zero), width);
    qn_v lanes = qn_iota_lanes(g, g->i32, g->width);
    qn_v from = qn_splat(g, l->BuildTrunc(g->b, lo, g->i32, ""), g->width);
    qn_v to = qn_splat(g, l->BuildTrunc(g->b, hi, g->i32, ""), g->width);
    return l->BuildAnd(g->b, l->BuildICmp(g->b, LLVMIntSGE, lanes, from, ""),
                       l->BuildICmp(g->b, LLVMIntSLT, lanes, to, ""), "");
}

void qn_address(qn_gen *g, qn_node *n, const qn_coords *c, qn_place_of *out)
{
    const qn_memory *m = n->memory;
    qn_ty element = qn_memory_type(g, m->type.dtype);
    qn_address_prepare(g, n);
    *out = (qn_place_of){.cond = n->once_cond, .lanes = n->lane && g->width > 1};
    qn_v index[QN_MAX_AXES], vary[QN_MAX_AXES], wide[QN_MAX_AXES];
    bool run = out->lanes; /* lanes at one stride */
    qn_v lane_stride = NULL;
    for (int32_t k = 0; k < n->nkids; k++) {
        const qn_index *x = &n->index[k];
        qn_v per_lane, stride;
        vary[k] = moving(g, x, c, &per_lane);
        index[k] = qn_iadd(g, x->base, vary[k]);
        wide[k] = NULL;
        if (out->lanes && x->lane_plain) {
            run = run && !per_lane && is_whole(m, k, &stride);
            if (run) {
                lane_stride = lane_stride ? qn_iadd(g, lane_stride, stride) : stride;
            }
        }
        run = run && !per_lane;
        if (out->lanes && (x->lane_plain || per_lane)) {
            wide[k] = per_lane ? per_lane : qn_int_like(g, 0, qn_iota_lanes(g, g->i64, g->width));
            if (x->lane_plain) {
                qn_v lanes = qn_iota_lanes(g, g->i64, g->width);
                for (int32_t i = 0; i < x->nplain; i++) {
                    if (x->plain[i] == n->lane) {
                        wide[k] = qn_iadd(g, wide[k], lanes);
                    }
                }
            }
        }
        if (!n->guarded || (!x->nplain && !x->nrest)) {
            continue;
        }
        if (!wide[k]) {
            out->cond = both(g, out->cond, in_range(g, index[k], m->extent[k]));
        } else if (!per_lane) {
            out->mask = both(g, out->mask, run_mask(g, index[k], m->extent[k]));
        } else {
            qn_v all = g->l->BuildAdd(g->b, wide[k], qn_splat(g, index[k], g->width), "");
            qn_v ok = in_range(g, all, qn_splat(g, m->extent[k], g->width));
            out->mask = both(g, out->mask, ok);
        }
    }
    if (out->lanes) {
        int64_t valid = qn_lanes_valid(g, &n->type, n->lane, c);
        if (valid < g->width) {
            out->mask = both(g, out->mask, qn_lane_mask(g, valid));
        }
    }
    if (n->once_place) {
        qn_v offset = qn_i64(g, 0);
        for (int32_t k = 0; k < n->nkids; k++) {
            offset = qn_iadd(g, offset, qn_imul(g, vary[k], m->pieces[k].stride));
        }
        out->address = qn_gep(g, element, n->once_place, offset);
    } else {
        qn_v offset = qn_i64(g, 0);
        for (int32_t i = 0; i < m->npieces; i++) {
            const qn_layout_piece *p = &m->pieces[i];
            if (!run && wide[p->axis]) {
                continue;
            }
            offset = qn_iadd(g, offset, qn_imul(g, piece_of(g, p, index[p->axis]), p->stride));
        }
        out->address = qn_gep(g, element, m->base, offset);
    }
    if (!out->lanes) {
        return;
    }
    if (run) {
        out->stride = lane_stride ? lane_stride : qn_i64(g, 0);
        return;
    }
    /* One offset a lane, over what the lanes share. */
    qn_v offsets = qn_int_like(g, 0, qn_iota_lanes(g, g->i64, g->width));
    for (int32_t i = 0; i < m->npieces; i++) {
        const qn_layout_piece *p = &m->pieces[i];
        if (!wide[p->axis]) {
            continue;
        }
        qn_v at = wide[p->axis];
        if (!n->once_place) {
            at = g->l->BuildAdd(g->b, at, qn_splat(g, index[p->axis], g->width), "");
            at = piece_of(g, p, at);
        }
        qn_v s = qn_splat(g, p->stride, g->width);
        offsets = g->l->BuildAdd(g->b, offsets, g->l->BuildMul(g->b, at, s, ""), "");
    }
    out->addresses = g->l->BuildGEP2(g->b, element, out->address, &offsets, 1, "");
}

/* ---------------------------------------------------------------- loads */

static qn_v from_memory(qn_gen *g, qn_dtype t, qn_v v)
{
    if (t == QN_BOOL) {
        return g->l->BuildICmp(g->b, LLVMIntNE, v, qn_int_like(g, 0, v), "");
    }
    return t == QN_F16 || t == QN_BF16 ? qn_from_bits16(g, t, v) : v;
}

static qn_v to_memory(qn_gen *g, qn_dtype t, qn_v v)
{
    if (t == QN_BOOL) {
        return g->l->BuildZExt(g->b, v, qn_like(g, g->i8, v), "");
    }
    return t == QN_F16 || t == QN_BF16 ? qn_to_bits16(g, t, v) : v;
}

static qn_v load_as(qn_gen *g, qn_ty t, qn_v address, int64_t align)
{
    qn_v v = g->l->BuildLoad2(g->b, t, address, "");
    g->l->SetAlignment(v, (unsigned)align);
    return v;
}

static int64_t memory_bytes(qn_dtype t)
{
    return t == QN_BOOL ? 1 : qn_dtype_bytes(t);
}

qn_v qn_load_element(qn_gen *g, qn_dtype t, qn_v address)
{
    return from_memory(g, t, load_as(g, qn_memory_type(g, t), address, memory_bytes(t)));
}

static qn_v lane_addresses(qn_gen *g, qn_dtype t, const qn_place_of *p)
{
    if (p->addresses) {
        return p->addresses;
    }
    qn_v lanes = qn_iota_lanes(g, g->i64, g->width);
    qn_v offsets = g->l->BuildMul(g->b, lanes, qn_splat(g, p->stride, g->width), "");
    return g->l->BuildGEP2(g->b, qn_memory_type(g, t), p->address, &offsets, 1, "");
}

static bool is_contiguous(qn_gen *g, const qn_place_of *p)
{
    int64_t n;
    return p->stride && qn_is_const(g, p->stride, &n) && n == 1;
}

static qn_v full_mask(qn_gen *g, const qn_place_of *p)
{
    qn_v mask = p->mask;
    if (p->cond) {
        mask = both(g, mask, qn_splat(g, p->cond, g->width));
    }
    return mask;
}

static qn_v load_lanes(qn_gen *g, qn_dtype t, const qn_place_of *p, qn_v pad)
{
    const qn_llvm *l = g->l;
    qn_ty v = l->VectorType(qn_memory_type(g, t), (unsigned)g->width);
    qn_v mask = full_mask(g, p), align = qn_i32(g, memory_bytes(t)), loaded;
    if (is_contiguous(g, p)) {
        if (!mask) {
            return from_memory(g, t, load_as(g, v, p->address, memory_bytes(t)));
        }
        qn_ty over[] = {v, g->ptr};
        qn_v args[] = {p->address, align, mask, l->ConstNull(v)};
        loaded = qn_intrinsic(g, "llvm.masked.load", over, 2, args, 4);
    } else {
        qn_ty over[] = {v, l->VectorType(g->ptr, (unsigned)g->width)};
        qn_v all = mask ? mask : qn_lane_mask(g, g->width);
        qn_v args[] = {lane_addresses(g, t, p), align, all, l->ConstNull(v)};
        loaded = qn_intrinsic(g, "llvm.masked.gather", over, 2, args, 4);
    }
    qn_v value = from_memory(g, t, loaded);
    return mask && pad ? l->BuildSelect(g->b, mask, value, qn_splat(g, pad, g->width), "") : value;
}

qn_v qn_load_node(qn_gen *g, qn_node *n, const qn_coords *c)
{
    qn_dtype t = n->memory->type.dtype;
    qn_place_of p;
    qn_address(g, n, c, &p);
    qn_v pad = n->pad ? qn_eval(g, n->pad, NULL) : NULL;
    if (p.lanes) {
        return load_lanes(g, t, &p, pad);
    }
    if (!p.cond) {
        return qn_load_element(g, t, p.address);
    }
    qn_v address = g->l->BuildSelect(g->b, p.cond, p.address, g->args, "");
    return g->l->BuildSelect(g->b, p.cond, qn_load_element(g, t, address), pad, "");
}

/* ---------------------------------------------------------------- stores */

void qn_store_element(qn_gen *g, qn_dtype t, qn_v address, qn_v v)
{
    qn_v s = g->l->BuildStore(g->b, to_memory(g, t, v), address);
    g->l->SetAlignment(s, (unsigned)memory_bytes(t));
}

static qn_v merge(qn_gen *g, qn_store_mode mode, qn_dtype t, qn_v old, qn_v v)
{
    qn_op op = mode == QN_STORE_ADD ? QN_OP_ADD : mode == QN_STORE_MAX ? QN_OP_MAX : QN_OP_MIN;
    qn_v a[] = {old, v};
    return qn_op_value(g, op, t, a, (qn_place){0, 0, 0});
}

/* Load, combine, compare-and-swap until nobody came between. */
static void store_atomic(qn_gen *g, qn_store_mode mode, qn_dtype t, qn_v address, qn_v v)
{
    const qn_llvm *l = g->l;
    qn_ty bits = l->IntTypeInContext(g->context, (unsigned)memory_bytes(t) * 8);
    qn_v first = load_as(g, bits, address, memory_bytes(t));
    qn_bb before = qn_here(g), again = qn_new_bb(g, "again"), after = qn_new_bb(g, "swapped");
    l->BuildBr(g->b, again);
    qn_place_at(g, again);
    qn_v seen = l->BuildPhi(g->b, bits, "");
    l->AddIncoming(seen, &first, &before, 1);
    qn_v old = from_memory(g, t, l->BuildBitCast(g->b, seen, qn_memory_type(g, t), ""));
    qn_v sum = to_memory(g, t, merge(g, mode, t, old, v));
    sum = l->BuildBitCast(g->b, sum, bits, "");
    qn_v swap = l->BuildAtomicCmpXchg(g->b, address, seen, sum, LLVMAtomicOrderingMonotonic,
                                      LLVMAtomicOrderingMonotonic, 0);
    qn_v found = l->BuildExtractValue(g->b, swap, 0, "");
    qn_v done = l->BuildExtractValue(g->b, swap, 1, "");
    qn_bb latch = qn_here(g);
    l->AddIncoming(seen, &found, &latch, 1);
    l->BuildCondBr(g->b, done, after, again);
    qn_place_at(g, after);
}

typedef struct storing {
    qn_node *access, *value;
    qn_store_mode mode;
    bool atomic;
    const qn_tile *whole; /* the value, if it had to be made before */
} storing;

static void store_scalar(qn_gen *g, const storing *s, qn_v address, qn_v v)
{
    qn_dtype t = s->access->memory->type.dtype;
    if (s->mode != QN_STORE_SET && s->atomic) {
        store_atomic(g, s->mode, t, address, v);
        return;
    }
    if (s->mode != QN_STORE_SET) {
        v = merge(g, s->mode, t, qn_load_element(g, t, address), v);
    }
    qn_store_element(g, t, address, v);
}

static void store_each_lane(qn_gen *g, const storing *s, const qn_place_of *p, qn_v v)
{
    const qn_llvm *l = g->l;
    qn_v addresses = lane_addresses(g, s->access->memory->type.dtype, p);
    for (int32_t i = 0; i < g->width; i++) {
        qn_v k = qn_i32(g, i);
        qn_bb after = NULL;
        if (p->mask) {
            after = qn_when(g, l->BuildExtractElement(g->b, p->mask, k, ""));
        }
        qn_v address = l->BuildExtractElement(g->b, addresses, k, "");
        store_scalar(g, s, address, l->BuildExtractElement(g->b, v, k, ""));
        if (after) {
            qn_end_when(g, after);
        }
    }
}

static void store_run(qn_gen *g, const storing *s, const qn_place_of *p, qn_v v)
{
    const qn_llvm *l = g->l;
    qn_dtype t = s->access->memory->type.dtype;
    if (s->mode != QN_STORE_SET) {
        qn_place_of inside = *p;
        inside.cond = NULL; /* tested by the caller */
        v = merge(g, s->mode, t, load_lanes(g, t, &inside, NULL), v);
    }
    v = to_memory(g, t, v);
    if (!p->mask) {
        l->SetAlignment(l->BuildStore(g->b, v, p->address), (unsigned)memory_bytes(t));
        return;
    }
    qn_ty over[] = {l->TypeOf(v), g->ptr};
    qn_v args[] = {v, p->address, qn_i32(g, memory_bytes(t)), p->mask};
    qn_intrinsic(g, "llvm.masked.store", over, 2, args, 4);
}

static void store_element(qn_gen *g, void *user, const qn_coords *c)
{
    storing *s = user;
    qn_place_of p;
    qn_address(g, s->access, c, &p);
    /* What is made for an element stays behind its own guard, but nothing shared is made there. */
    qn_v v = qn_eval_lanes(g, s->value, c, p.lanes);
    qn_bb after = p.cond ? qn_when(g, p.cond) : NULL;
    if (!p.lanes) {
        store_scalar(g, s, p.address, v);
    } else if (is_contiguous(g, &p) && !s->atomic) {
        store_run(g, s, &p, v);
    } else {
        store_each_lane(g, s, &p, v);
    }
    if (after) {
        qn_end_when(g, after);
    }
}

static bool reads(const qn_node *n, const qn_memory *m)
{
    if (n->kind == QN_NODE_LOAD && n->memory == m) {
        return true;
    }
    for (int32_t i = 0; i < n->nkids; i++) {
        if (reads(n->kid[i], m)) {
            return true;
        }
    }
    return false;
}

/* What an address shares between elements; nothing is read there. */
static void prepare_access(qn_gen *g, qn_node *access)
{
    for (int32_t i = 0; i < access->nkids; i++) {
        qn_prepare(g, access->kid[i]);
    }
    qn_address_prepare(g, access);
}

void qn_emit_store(qn_gen *g, const qn_stmt *s)
{
    if (s->u.store.start) {
        qn_gen_fail(g, s->place, "an asynchronous copy on a machine that has none: the pass stage "
                                 "should have left none");
    }
    bool inside = qn_attr_find(&s->attrs, "in") != NULL;
    storing st = {.mode = s->u.store.mode, .atomic = s->u.store.order == QN_STORE_ATOMIC};
    st.access = qn_access(g, s->u.store.base, &s->u.store.index, !inside, s->place);
    st.value = qn_tree_as(g, s->u.store.x, st.access->type.dtype);
    if (s->u.store.order == QN_STORE_ORDERED) {
        g->serial = true;
    }
    if (reads(st.value, st.access->memory)) {
        /* All of the right side comes before the first store. */
        st.value = qn_tile_node(g, qn_materialise(g, st.value, NULL), s->place);
    }
    qn_prepare(g, st.value);
    prepare_access(g, st.access);
    qn_each(g, st.access->type.axes, st.access->type.rank, NULL, store_element, &st);
}

static void prefetch_element(qn_gen *g, void *user, const qn_coords *c)
{
    qn_place_of p;
    qn_address(g, user, c, &p);
    qn_v args[] = {p.address, qn_i32(g, 0), qn_i32(g, 3), qn_i32(g, 1)};
    qn_intrinsic(g, "llvm.prefetch", &g->ptr, 1, args, 4);
}

void qn_emit_prefetch(qn_gen *g, const qn_stmt *s)
{
    if (!g->width) {
        return; /* a hint, and a loop over elements would cost more than it gives */
    }
    qn_node *n = qn_access(g, s->u.prefetch.base, &s->u.prefetch.index, false, s->place);
    prepare_access(g, n);
    qn_each(g, n->type.axes, n->type.rank, NULL, prefetch_element, n);
}
