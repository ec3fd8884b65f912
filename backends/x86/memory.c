/* SPDX-License-Identifier: MIT
 *
 * Loads and stores.
 *
 * Guards: a scalar out of range reads the argument block (always there) and is replaced by the pad;
 * lanes out of range are masked. Nothing outside a tensor is ever touched.
 *
 * Lanes that are strided in memory go through a helper that transposes, since shuffles printed here
 * are dear to generate: all registers of an access at once, by way of the stack, where another axis
 * of few elements is contiguous (q[.., i0 + i:64, d4 + d:4] with i in lanes) as runs of those. */
#include "backends/x86/gen.h"
#include "backends/x86/helpers/helpers.h"

/* Lanes of a run that are in range, as numbers: lo <= lane < hi. */
static void run_bounds(qn_gen *g, const qn_place_of *p, qn_v *lo, qn_v *hi)
{
    qn_v zero = qn_i64(g, 0), valid = qn_i64(g, p->valid);
    *lo = zero;
    *hi = valid;
    if (!p->first) {
        return;
    }
    qn_v below[] = {zero, p->first}, above[] = {p->extent, p->first};
    qn_v to = qn_pure(g, QN_OP_SUB, QN_I64, QN_I64, above, 2);
    qn_v b[] = {to, zero, valid};
    if (!p->nonnegative) {
        qn_v a[] = {qn_pure(g, QN_OP_SUB, QN_I64, QN_I64, below, 2), zero, valid};
        *lo = qn_pure(g, QN_OP_CLAMP, QN_I64, QN_I64, a, 3);
    }
    *hi = qn_pure(g, QN_OP_CLAMP, QN_I64, QN_I64, b, 3);
}

/* Lanes in range, or NULL: all. */
static qn_v lanes_mask(qn_gen *g, const qn_place_of *p)
{
    const qn_llvm *l = g->l;
    if (!p->first) {
        qn_v partial = p->valid < g->width ? qn_lane_mask(g, p->valid) : NULL;
        return qn_both(g, p->mask, partial);
    }
    qn_v lo, hi, lanes = qn_iota_lanes(g, g->i32, g->width);
    run_bounds(g, p, &lo, &hi);
    qn_v to = qn_splat(g, qn_pure_cast(g, QN_I64, QN_I32, hi), g->width);
    qn_v run = l->BuildICmp(g->b, LLVMIntSLT, lanes, to, "");
    if (!p->nonnegative) {
        qn_v from = qn_splat(g, qn_pure_cast(g, QN_I64, QN_I32, lo), g->width);
        run = l->BuildAnd(g->b, l->BuildICmp(g->b, LLVMIntSGE, lanes, from, ""), run, "");
    }
    return qn_both(g, p->mask, run);
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
    qn_v mask = lanes_mask(g, p);
    return p->cond ? qn_both(g, mask, qn_splat(g, p->cond, g->width)) : mask;
}

/* Lanes out of range are the pad. A condition that all lanes share picks the address instead of a
 * mask: the argument block is there to be read. */
static qn_v load_lanes(qn_gen *g, qn_dtype t, const qn_place_of *p, qn_v pad)
{
    const qn_llvm *l = g->l;
    qn_ty v = l->VectorType(qn_memory_type(g, t), (unsigned)g->width);
    qn_v align = qn_i32(g, memory_bytes(t));
    if (!pad) {
        pad = l->ConstNull(qn_reg_type(g, t));
    }
    bool contiguous = is_contiguous(g, p);
    qn_v mask = lanes_mask(g, p);
    bool small = memory_bytes(t) * g->width <= (int64_t)sizeof(qn_abi_args);
    if (contiguous && !mask && (!p->cond || small)) {
        if (!p->cond) {
            return from_memory(g, t, load_as(g, v, p->address, memory_bytes(t)));
        }
        qn_v at = l->BuildSelect(g->b, p->cond, p->address, g->args, "");
        qn_v value = from_memory(g, t, load_as(g, v, at, memory_bytes(t)));
        return l->BuildSelect(g->b, p->cond, value, qn_splat(g, pad, g->width), "");
    }
    mask = full_mask(g, p);
    qn_v other = qn_splat(g, to_memory(g, t, pad), g->width);
    if (contiguous) {
        qn_ty over[] = {v, g->ptr};
        qn_v args[] = {p->address, align, mask, other};
        return from_memory(g, t, qn_intrinsic(g, "llvm.masked.load", over, 2, args, 4));
    }
    qn_ty over[] = {v, l->VectorType(g->ptr, (unsigned)g->width)};
    qn_v all = mask ? mask : qn_lane_mask(g, g->width);
    qn_v args[] = {lane_addresses(g, t, p), align, all, other};
    return from_memory(g, t, qn_intrinsic(g, "llvm.masked.gather", over, 2, args, 4));
}

qn_v qn_load_node(qn_gen *g, qn_node *n, const qn_coords *c)
{
    qn_dtype t = n->memory->type.dtype;
    qn_place_of p;
    qn_address(g, n, c, NULL, &p);
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

/* ---------------------------------------------------------------- strided lanes */

/* An access that goes through the transposing helper. */
typedef struct bulk {
    qn_node *n;
    qn_sym along;   /* the contiguous axis of few elements, or NULL */
    int32_t dim;    /* its index */
    int64_t count;  /* its extent, or 1 */
    int64_t bytes;  /* of an element */
    qn_v stack;     /* [register][lane] */
    qn_v pad;       /* bits in an i64; NULL: a store */
    qn_node *value; /* of a store */
    int32_t next;   /* part at hand */
    qn_tile *into;  /* of a load */
} bulk;

enum { BULK_REGISTERS = 64 };

static bool mentions(const qn_node *n, int32_t except, qn_sym axis)
{
    for (int32_t k = 0; k < n->nkids; k++) {
        if (k != except && qn_type_axis(&n->kid[k]->type, axis)) {
            return true;
        }
    }
    return false;
}

/* Does the access have lanes at one stride that is not 1? Then *b is filled. */
static bool is_bulk(qn_gen *g, qn_node *n, bulk *b)
{
    const qn_memory *m = n->memory;
    if (g->width < 2 || !n->lane || !m->row_major) {
        return false;
    }
    qn_v stride = NULL;
    int64_t one;
    for (int32_t k = 0; k < n->nkids; k++) {
        if (n->index[k].lane_rest || (n->index[k].lane_plain && stride)) {
            return false;
        }
        if (n->index[k].lane_plain) {
            stride = m->pieces[k].stride;
        }
    }
    if (!stride || (qn_is_const(g, stride, &one) && one == 1)) {
        return false;
    }
    if (qn_parts_of(g, &n->type) > BULK_REGISTERS) {
        return false;
    }
    int32_t last = n->nkids - 1;
    const qn_index *x = &n->index[last];
    *b = (bulk){.n = n, .dim = last, .count = 1, .bytes = memory_bytes(m->type.dtype)};
    if (!x->lane_plain && x->nplain == 1 && x->nrest == 0 && !mentions(n, last, x->plain[0])) {
        int64_t count = qn_extent_fixed(g, qn_type_axis(&n->type, x->plain[0])->extent);
        if (count <= 16 && !qn_is_sliced(g, x->plain[0])) {
            b->along = x->plain[0];
            b->count = count;
        }
    }
    return true;
}

/* The registers of an access with the axis along last, so that a run's registers are neighbours. */
static qn_type bulk_order(qn_gen *g, const bulk *b, int32_t rank_less)
{
    qn_axis *axes = QN_NEWN(g->arena, qn_axis, b->n->type.rank + 1);
    int32_t n = 0;
    for (int32_t i = 0; i < b->n->type.rank; i++) {
        if (b->n->type.axes[i].name != b->along) {
            axes[n++] = b->n->type.axes[i];
        }
    }
    if (b->along && !rank_less) {
        axes[n++] = *qn_type_axis(&b->n->type, b->along);
    }
    return (qn_type){b->n->type.dtype, n, axes};
}

static void bulk_run(qn_gen *g, void *user, const qn_coords *c)
{
    bulk *b = user;
    qn_coords at = *c;
    qn_place_of p;
    if (b->along) {
        qn_coord_push(&at, b->along, qn_i64(g, 0), 0);
    }
    qn_address(g, b->n, &at, b->along, &p);
    qn_v lo, hi, from = qn_i64(g, 0), to = qn_i64(g, b->count);
    run_bounds(g, &p, &lo, &hi);
    if (p.cond) {
        hi = g->l->BuildSelect(g->b, p.cond, hi, qn_i64(g, 0), "");
    }
    if (b->along && b->n->guarded) {
        qn_coords end = *c;
        qn_coord_push(&end, b->along, qn_i64(g, b->count - 1), b->count - 1);
        if (qn_index_inside(g, b->n, b->dim, &at) || qn_index_inside(g, b->n, b->dim, &end)) {
            qn_place_of line = {.first = qn_index_at(g, b->n, b->dim, &at),
                                .extent = b->n->memory->extent[b->dim],
                                .valid = b->count};
            run_bounds(g, &line, &from, &to);
        }
    }
    qn_v fixed = qn_i64(g, (int64_t)g->width << 32 | b->count << 40 | b->bytes << 48);
    qn_v parts[] = {lo, hi, from, to};
    for (int i = 0; i < 4; i++) {
        qn_v shifted[] = {parts[i], qn_i64(g, 8 * i)};
        qn_v both[] = {fixed, qn_pure(g, QN_OP_SHL, QN_I64, QN_I64, shifted, 2)};
        fixed = qn_pure(g, QN_OP_BOR, QN_I64, QN_I64, both, 2);
    }
    qn_v place = qn_offset(g, b->stack, (int64_t)b->next * b->bytes * g->width);
    qn_v args[] = {place, p.address, p.stride, fixed, b->pad};
    qn_helper(g, b->pad ? QN_HELP_GATHER : QN_HELP_SCATTER, args, b->pad ? 5 : 4);
    b->next += (int32_t)b->count;
}

static void bulk_take(qn_gen *g, void *user, const qn_coords *c)
{
    bulk *b = user;
    qn_dtype t = b->n->type.dtype;
    qn_ty v = g->l->VectorType(qn_memory_type(g, t), (unsigned)g->width);
    qn_v at = qn_offset(g, b->stack, (int64_t)b->next++ * b->bytes * g->width);
    b->into->regs[qn_part_index(g, &b->into->type, c)] = from_memory(g, t, load_as(g, v, at, 64));
}

static void bulk_put(qn_gen *g, void *user, const qn_coords *c)
{
    bulk *b = user;
    qn_v v = to_memory(g, b->n->type.dtype, qn_eval_lanes(g, b->value, c, true));
    qn_v at = qn_offset(g, b->stack, (int64_t)b->next++ * b->bytes * g->width);
    g->l->SetAlignment(g->l->BuildStore(g->b, v, at), (unsigned)(b->bytes * g->width));
}

static void bulk_stack(qn_gen *g, bulk *b)
{
    b->stack = qn_stack(g, g->i8, qn_parts_of(g, &b->n->type) * b->bytes * g->width, 64);
}

void qn_load_prepare(qn_gen *g, qn_node *n)
{
    bulk b;
    if (!is_bulk(g, n, &b)) {
        return;
    }
    qn_dtype t = n->type.dtype;
    qn_v pad = n->pad ? qn_eval(g, n->pad, NULL) : g->l->ConstNull(qn_reg_type(g, t));
    pad = to_memory(g, t, pad);
    qn_ty bits = g->l->IntTypeInContext(g->context, (unsigned)b.bytes * 8);
    pad = g->l->BuildBitCast(g->b, pad, bits, "");
    b.pad = b.bytes < 8 ? g->l->BuildZExt(g->b, pad, g->i64, "") : pad;
    bulk_stack(g, &b);
    qn_type runs = bulk_order(g, &b, 1), registers = bulk_order(g, &b, 0);
    qn_each(g, runs.axes, runs.rank, NULL, bulk_run, &b);
    qn_tile *tile = QN_NEW(g->arena, qn_tile);
    tile->type = n->type;
    tile->nregs = qn_parts_of(g, &n->type);
    tile->regs = QN_NEWN(g->arena, qn_v, tile->nregs + 1);
    b.into = tile;
    b.next = 0;
    qn_each(g, registers.axes, registers.rank, NULL, bulk_take, &b);
    n->kind = QN_NODE_TILE;
    n->tile = tile;
}

static bool store_bulk(qn_gen *g, qn_node *access, qn_node *value)
{
    bulk b;
    if (!is_bulk(g, access, &b)) {
        return false;
    }
    b.value = value;
    bulk_stack(g, &b);
    qn_type runs = bulk_order(g, &b, 1), registers = bulk_order(g, &b, 0);
    qn_each(g, registers.axes, registers.rank, NULL, bulk_put, &b);
    b.next = 0;
    qn_each(g, runs.axes, runs.rank, NULL, bulk_run, &b);
    return true;
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
    qn_v mask = lanes_mask(g, p);
    for (int32_t i = 0; i < g->width; i++) {
        qn_v k = qn_i32(g, i);
        qn_bb after = NULL;
        if (mask) {
            after = qn_when(g, l->BuildExtractElement(g->b, mask, k, ""));
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
    qn_v mask = lanes_mask(g, p);
    if (!mask) {
        l->SetAlignment(l->BuildStore(g->b, v, p->address), (unsigned)memory_bytes(t));
        return;
    }
    qn_ty over[] = {l->TypeOf(v), g->ptr};
    qn_v args[] = {v, p->address, qn_i32(g, memory_bytes(t)), mask};
    qn_intrinsic(g, "llvm.masked.store", over, 2, args, 4);
}

static void store_element(qn_gen *g, void *user, const qn_coords *c)
{
    storing *s = user;
    qn_place_of p;
    qn_address(g, s->access, c, NULL, &p);
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
        qn_gen_fail(g, s->place,
                    "an asynchronous copy on a machine that has none: the pass stage "
                    "should have left none");
    }
    bool inside = qn_attr_find(&s->attrs, "in") != NULL;
    storing st = {.mode = s->u.store.mode, .atomic = s->u.store.order == QN_STORE_ATOMIC};
    st.access = qn_access(g, s->u.store.base, &s->u.store.index, !inside, s->place);
    const qn_tile *sliced = qn_slice_value(g, s->u.store.x);
    st.value = sliced ? qn_tile_node(g, sliced, s->place)
                      : qn_tree_as(g, s->u.store.x, st.access->type.dtype);
    if (s->u.store.order == QN_STORE_ORDERED) {
        g->serial = true;
    }
    if (reads(st.value, st.access->memory)) {
        /* All of the right side comes before the first store. */
        st.value = qn_tile_node(g, qn_materialise(g, st.value, NULL), s->place);
    }
    qn_prepare(g, st.value);
    prepare_access(g, st.access);
    if (st.mode == QN_STORE_SET && store_bulk(g, st.access, st.value)) {
        return;
    }
    qn_each(g, st.access->type.axes, st.access->type.rank, NULL, store_element, &st);
}

static void prefetch_element(qn_gen *g, void *user, const qn_coords *c)
{
    qn_place_of p;
    qn_address(g, user, c, NULL, &p);
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
