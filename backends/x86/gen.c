/* SPDX-License-Identifier: MIT
 *
 * Builders of small code: constants, vectors, whole-number arithmetic that never traps, loops, and
 * the scratch memory of a task.
 *
 * Scratch is a stack of slots. Where a slot starts depends on dims alone, so it is computed in the
 * entry block of the function that uses it, and once more in setup, which asks for the most any
 * task needs. */
#include "backends/x86/gen.h"
#include <stdarg.h>
#include <string.h>

void qn_gen_fail(qn_gen *g, qn_place place, const char *format, ...)
{
    qn_buf text = qn_buf_of(g->arena);
    va_list args;
    va_start(args, format);
    qn_buf_vprintf(&text, format, args);
    va_end(args);
    qn_diag_add(g->d, QN_ERROR, "E-EMIT", place, "%s", text.text);
    longjmp(*g->failed, 2);
}

/* ---------------------------------------------------------------- constants and types */

qn_v qn_i64(qn_gen *g, int64_t n)
{
    return g->l->ConstInt(g->i64, (unsigned long long)n, 1);
}

qn_v qn_i32(qn_gen *g, int64_t n)
{
    return g->l->ConstInt(g->i32, (unsigned long long)n, 1);
}

bool qn_is_const(qn_gen *g, qn_v v, int64_t *out)
{
    if (!g->l->IsAConstantInt(v)) {
        return false;
    }
    *out = (int64_t)g->l->ConstIntGetSExtValue(v);
    return true;
}

qn_ty qn_reg_type(qn_gen *g, qn_dtype t)
{
    switch (t) {
    case QN_BOOL:
        return g->i1;
    case QN_U8:
    case QN_I8:
        return g->i8;
    case QN_I16:
        return g->i16;
    case QN_I32:
        return g->i32;
    case QN_F16:
    case QN_BF16:
    case QN_F32:
    case QN_FLT_LIT:
        return g->f32;
    case QN_F64:
        return g->f64;
    case QN_I64:
    case QN_INT_LIT:
    case QN_NO_TYPE:
        break;
    }
    return g->i64;
}

qn_ty qn_memory_type(qn_gen *g, qn_dtype t)
{
    if (t == QN_BOOL) {
        return g->i8;
    }
    return t == QN_F16 || t == QN_BF16 ? g->i16 : qn_reg_type(g, t);
}

int64_t qn_tile_bytes(qn_dtype t)
{
    return t == QN_F16 || t == QN_BF16 ? 4 : qn_dtype_bytes(t);
}

int32_t qn_lanes_of(qn_gen *g, qn_v v)
{
    qn_ty t = g->l->TypeOf(v);
    return g->l->GetTypeKind(t) == LLVMVectorTypeKind ? (int32_t)g->l->GetVectorSize(t) : 0;
}

qn_ty qn_element(qn_gen *g, qn_v v)
{
    qn_ty t = g->l->TypeOf(v);
    return g->l->GetTypeKind(t) == LLVMVectorTypeKind ? g->l->GetElementType(t) : t;
}

qn_ty qn_like(qn_gen *g, qn_ty element, qn_v v)
{
    int32_t n = qn_lanes_of(g, v);
    return n ? g->l->VectorType(element, (unsigned)n) : element;
}

qn_v qn_splat(qn_gen *g, qn_v scalar, int32_t lanes)
{
    if (lanes < 2) {
        return scalar;
    }
    if (g->l->IsAConstant(scalar)) {
        qn_v *all = QN_NEWN(g->arena, qn_v, lanes);
        for (int32_t i = 0; i < lanes; i++) {
            all[i] = scalar;
        }
        return g->l->ConstVector(all, (unsigned)lanes);
    }
    qn_ty t = g->l->VectorType(g->l->TypeOf(scalar), (unsigned)lanes);
    qn_v undef = g->l->GetUndef(t);
    qn_v first = g->l->BuildInsertElement(g->b, undef, scalar, qn_i32(g, 0), "");
    qn_v zeros = g->l->ConstNull(g->l->VectorType(g->i32, (unsigned)lanes));
    return g->l->BuildShuffleVector(g->b, first, undef, zeros, "");
}

qn_v qn_iota_lanes(qn_gen *g, qn_ty element, int32_t lanes)
{
    if (lanes < 2) {
        return g->l->ConstInt(element, 0, 0);
    }
    qn_v *all = QN_NEWN(g->arena, qn_v, lanes);
    for (int32_t i = 0; i < lanes; i++) {
        all[i] = g->l->ConstInt(element, (unsigned long long)i, 0);
    }
    return g->l->ConstVector(all, (unsigned)lanes);
}

qn_v qn_real(qn_gen *g, double x, qn_v like)
{
    return qn_splat(g, g->l->ConstReal(qn_element(g, like), x), qn_lanes_of(g, like));
}

qn_v qn_int_like(qn_gen *g, int64_t x, qn_v like)
{
    return qn_splat(g, g->l->ConstInt(qn_element(g, like), (unsigned long long)x, 1),
                    qn_lanes_of(g, like));
}

qn_v qn_bits(qn_gen *g, qn_v v, qn_ty to)
{
    return g->l->BuildBitCast(g->b, v, qn_like(g, to, v), "");
}

qn_v qn_intrinsic(qn_gen *g, const char *intrinsic, qn_ty *over, int nover, qn_v *args, int nargs)
{
    unsigned id = g->l->LookupIntrinsicID(intrinsic, strlen(intrinsic));
    qn_ty t = g->l->IntrinsicGetType(g->context, id, over, (size_t)nover);
    qn_v f = g->l->GetIntrinsicDeclaration(g->module, id, over, (size_t)nover);
    return g->l->BuildCall2(g->b, t, f, args, (unsigned)nargs, "");
}

qn_v qn_gep(qn_gen *g, qn_ty element, qn_v base, qn_v index)
{
    int64_t n;
    if (qn_is_const(g, index, &n) && n == 0) {
        return base;
    }
    return g->l->BuildGEP2(g->b, element, base, &index, 1, "");
}

qn_v qn_offset(qn_gen *g, qn_v base, int64_t bytes)
{
    return qn_gep(g, g->i8, base, qn_i64(g, bytes));
}

/* ---------------------------------------------------------------- whole numbers */

qn_v qn_imul(qn_gen *g, qn_v a, qn_v b)
{
    int64_t n;
    for (int turn = 0; turn < 2; turn++) {
        qn_v x = turn ? b : a, y = turn ? a : b;
        if (qn_is_const(g, x, &n) && n == 1) {
            return y;
        }
        if (qn_is_const(g, x, &n) && n == 0) {
            return x;
        }
    }
    return g->l->BuildMul(g->b, a, b, "");
}

qn_v qn_iadd(qn_gen *g, qn_v a, qn_v b)
{
    int64_t n;
    if (qn_is_const(g, a, &n) && n == 0) {
        return b;
    }
    if (qn_is_const(g, b, &n) && n == 0) {
        return a;
    }
    return g->l->BuildAdd(g->b, a, b, "");
}

qn_v qn_imin(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildSelect(g->b, g->l->BuildICmp(g->b, LLVMIntSLT, a, b, ""), a, b, "");
}

qn_v qn_imax(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildSelect(g->b, g->l->BuildICmp(g->b, LLVMIntSGT, a, b, ""), a, b, "");
}

static int64_t const_of(qn_gen *g, qn_v v, bool *known)
{
    int64_t n = 0;
    *known = qn_is_const(g, v, &n);
    return n;
}

/* Truncating division that never traps: x / 0 is 0, x / -1 wraps. */
static qn_v safe_div(qn_gen *g, qn_v a, qn_v b, qn_v *rest)
{
    const qn_llvm *l = g->l;
    bool known = false;
    int64_t n = const_of(g, b, &known);
    if (known && n != 0 && n != -1) {
        *rest = l->BuildSRem(g->b, a, b, "");
        return l->BuildSDiv(g->b, a, b, "");
    }
    qn_v zero = qn_int_like(g, 0, b), one = qn_int_like(g, 1, b), minus = qn_int_like(g, -1, b);
    qn_v is_zero = l->BuildICmp(g->b, LLVMIntEQ, b, zero, "");
    qn_v is_minus = l->BuildICmp(g->b, LLVMIntEQ, b, minus, "");
    qn_v odd = l->BuildOr(g->b, is_zero, is_minus, "");
    qn_v divisor = l->BuildSelect(g->b, odd, one, b, "");
    qn_v q = l->BuildSDiv(g->b, a, divisor, "");
    *rest = l->BuildSRem(g->b, a, divisor, "");
    q = l->BuildSelect(g->b, is_minus, l->BuildSub(g->b, zero, a, ""), q, "");
    return l->BuildSelect(g->b, is_zero, zero, q, "");
}

static bool power_of_two(int64_t n, int *shift)
{
    for (int s = 0; s < 62; s++) {
        if (n == (int64_t)1 << s) {
            *shift = s;
            return true;
        }
    }
    return false;
}

static qn_v is_inexact_below(qn_gen *g, qn_v rest, qn_v b)
{
    const qn_llvm *l = g->l;
    qn_v zero = qn_int_like(g, 0, rest);
    qn_v nonzero = l->BuildICmp(g->b, LLVMIntNE, rest, zero, "");
    qn_v signs = l->BuildICmp(g->b, LLVMIntSLT, l->BuildXor(g->b, rest, b, ""), zero, "");
    return l->BuildAnd(g->b, nonzero, signs, "");
}

qn_v qn_floordiv(qn_gen *g, qn_v a, qn_v b)
{
    bool known = false;
    int shift;
    int64_t n = qn_lanes_of(g, b) ? 0 : const_of(g, b, &known);
    if (!qn_lanes_of(g, b) && known && power_of_two(n, &shift)) {
        return shift ? g->l->BuildAShr(g->b, a, qn_int_like(g, shift, a), "") : a;
    }
    qn_v rest;
    qn_v q = safe_div(g, a, b, &rest);
    qn_v below = is_inexact_below(g, rest, b);
    return g->l->BuildAdd(g->b, q, g->l->BuildSExt(g->b, below, g->l->TypeOf(a), ""), "");
}

qn_v qn_floormod(qn_gen *g, qn_v a, qn_v b)
{
    bool known = false;
    int shift;
    int64_t n = qn_lanes_of(g, b) ? 0 : const_of(g, b, &known);
    if (!qn_lanes_of(g, b) && known && power_of_two(n, &shift)) {
        return g->l->BuildAnd(g->b, a, qn_int_like(g, n - 1, a), "");
    }
    qn_v rest;
    safe_div(g, a, b, &rest);
    qn_v below = is_inexact_below(g, rest, b);
    qn_v moved = g->l->BuildAdd(g->b, rest, b, "");
    return g->l->BuildSelect(g->b, below, moved, rest, "");
}

static qn_v saturating(qn_gen *g, const char *intrinsic, qn_v a, qn_v b)
{
    int64_t x, y, z;
    bool mul = strstr(intrinsic, "mul") != NULL;
    if (qn_is_const(g, a, &x) && qn_is_const(g, b, &y)) {
        bool over = mul ? __builtin_mul_overflow(x, y, &z) : __builtin_add_overflow(x, y, &z);
        return qn_i64(g, over ? INT64_MAX : z);
    }
    qn_v args[] = {a, b};
    qn_v both = qn_intrinsic(g, intrinsic, &g->i64, 1, args, 2);
    qn_v value = g->l->BuildExtractValue(g->b, both, 0, "");
    qn_v over = g->l->BuildExtractValue(g->b, both, 1, "");
    return g->l->BuildSelect(g->b, over, qn_i64(g, INT64_MAX), value, "");
}

qn_v qn_umul_sat(qn_gen *g, qn_v a, qn_v b)
{
    return saturating(g, "llvm.smul.with.overflow", a, b);
}

qn_v qn_uadd_sat(qn_gen *g, qn_v a, qn_v b)
{
    return saturating(g, "llvm.sadd.with.overflow", a, b);
}

/* ---------------------------------------------------------------- blocks and loops */

qn_bb qn_new_bb(qn_gen *g, const char *name)
{
    qn_bb b = g->l->AppendBasicBlockInContext(g->context, g->fn, name);
    qn_hoist_block(g, b);
    return b;
}

void qn_place_at(qn_gen *g, qn_bb b)
{
    g->l->PositionBuilderAtEnd(g->b, b);
}

qn_bb qn_here(qn_gen *g)
{
    return g->l->GetInsertBlock(g->b);
}

qn_bb qn_when(qn_gen *g, qn_v cond)
{
    qn_bb then = qn_new_bb(g, "when"), after = qn_new_bb(g, "after");
    g->l->BuildCondBr(g->b, cond, then, after);
    qn_place_at(g, then);
    qn_region_open(g);
    return after;
}

void qn_end_when(qn_gen *g, qn_bb after)
{
    g->l->BuildBr(g->b, after);
    qn_place_at(g, after);
    qn_region_close(g);
}

void qn_loop_begin(qn_gen *g, qn_loop *l, qn_v lo, qn_v hi, qn_v step, qn_v *init, int count)
{
    int64_t a, b;
    bool known = qn_is_const(g, lo, &a) && qn_is_const(g, hi, &b);
    l->guarded = !(known && a < b);
    l->lo = lo;
    l->hi = hi;
    l->step = step;
    l->count = count;
    l->init = init;
    l->before = qn_here(g);
    l->front = qn_new_bb(g, "loop");
    l->exit = qn_new_bb(g, "done");
    if (l->guarded) {
        qn_v any = g->l->BuildICmp(g->b, LLVMIntSLT, lo, hi, "");
        g->l->BuildCondBr(g->b, any, l->front, l->exit);
    } else {
        g->l->BuildBr(g->b, l->front);
    }
    qn_place_at(g, l->front);
    l->index = g->l->BuildPhi(g->b, g->i64, "");
    g->l->AddIncoming(l->index, &lo, &l->before, 1);
    qn_hoist_loop(g, l->before, l);
    l->carry = QN_NEWN(g->arena, qn_v, count + 1);
    l->out = QN_NEWN(g->arena, qn_v, count + 1);
    for (int i = 0; i < count; i++) {
        l->carry[i] = g->l->BuildPhi(g->b, g->l->TypeOf(init[i]), "");
        g->l->AddIncoming(l->carry[i], &init[i], &l->before, 1);
    }
}

void qn_loop_end(qn_gen *g, qn_loop *l, qn_v *next)
{
    qn_v index = g->l->BuildNSWAdd(g->b, l->index, l->step, "");
    qn_bb latch = qn_here(g);
    g->l->AddIncoming(l->index, &index, &latch, 1);
    for (int i = 0; i < l->count; i++) {
        g->l->AddIncoming(l->carry[i], &next[i], &latch, 1);
    }
    qn_v more = g->l->BuildICmp(g->b, LLVMIntSLT, index, l->hi, "");
    g->l->BuildCondBr(g->b, more, l->front, l->exit);
    qn_place_at(g, l->exit);
    qn_hoist_loop_end(g);
    for (int i = 0; i < l->count; i++) {
        l->out[i] = g->l->BuildPhi(g->b, g->l->TypeOf(next[i]), "");
        g->l->AddIncoming(l->out[i], &next[i], &latch, 1);
        if (l->guarded) {
            g->l->AddIncoming(l->out[i], &l->init[i], &l->before, 1);
        }
    }
}

/* ---------------------------------------------------------------- scratch */

static LLVMBuilderRef to_entry(qn_gen *g)
{
    LLVMBuilderRef here = g->b;
    g->b = g->entry;
    return here;
}

qn_v qn_stack(qn_gen *g, qn_ty t, int64_t count, int64_t align)
{
    qn_v p = g->l->BuildAlloca(g->entry, g->l->ArrayType2(t, (uint64_t)count), "");
    g->l->SetAlignment(p, (unsigned)align);
    return p;
}

/* The count of a layout piece: axis, axis // c, axis % c, axis // c % d. */
static qn_v piece_count(qn_gen *g, const qn_type *t, const qn_expr *piece)
{
    int64_t mod = 0, div = 1;
    if (piece->kind == QN_OP && piece->u.op.op == QN_OP_MOD) {
        mod = piece->u.op.args.at[1]->u.lit.i;
        piece = piece->u.op.args.at[0];
    }
    if (mod) {
        return qn_i64(g, mod);
    }
    if (piece->kind == QN_OP && piece->u.op.op == QN_OP_FLOORDIV) {
        div = piece->u.op.args.at[1]->u.lit.i;
        piece = piece->u.op.args.at[0];
    }
    const qn_axis *a = qn_type_axis(t, piece->u.name);
    qn_v n = qn_extent_value(g, a->extent);
    if (div == 1) {
        return n;
    }
    return qn_floordiv(g, qn_iadd(g, n, qn_i64(g, div - 1)), qn_i64(g, div));
}

qn_v qn_slot_size(qn_gen *g, const qn_slot *s)
{
    qn_v n = qn_i64(g, s->bytes);
    int32_t count = s->layout && s->layout->count ? s->layout->count : s->type.rank;
    for (int32_t i = 0; i < count; i++) {
        bool plain = !(s->layout && s->layout->count);
        qn_v e = plain ? qn_extent_value(g, s->type.axes[i].extent)
                       : piece_count(g, &s->type, s->layout->at[i]);
        n = qn_umul_sat(g, n, e);
    }
    n = qn_uadd_sat(g, n, qn_i64(g, s->padded ? 127 : 63));
    return g->l->BuildAnd(g->b, n, qn_i64(g, ~(int64_t)63), "");
}

qn_v qn_slot_take(qn_gen *g, const qn_slot *s)
{
    qn_slot slot = *s;
    slot.below = g->top;
    LLVMBuilderRef here = to_entry(g);
    qn_v start = slot.below >= 0 ? g->slots.at[slot.below].end : qn_i64(g, 0);
    slot.end = qn_iadd(g, start, qn_slot_size(g, &slot));
    qn_v address = qn_gep(g, g->i8, g->scratch, start);
    g->b = here;
    QN_PUSH(g->arena, &g->slots, slot);
    g->top = g->slots.count - 1;
    return address;
}

qn_v qn_scratch_tile(qn_gen *g, const qn_type *t)
{
    return qn_slot_take(g, &(qn_slot){.type = *t, .bytes = qn_tile_bytes(t->dtype)});
}

/* ---------------------------------------------------------------- dims and names */

/* The value of an expression of constants and fixed dims. */
static bool fixed(qn_gen *g, const qn_expr *x, int depth, int64_t *out)
{
    int64_t a[3] = {0, 0, 0};
    if (depth > 64) {
        return false;
    }
    if (x->kind == QN_LIT && x->u.lit.type == QN_INT_LIT) {
        *out = x->u.lit.i;
        return true;
    }
    if (x->kind == QN_NAME) {
        for (int32_t i = 0; i < g->kernel->dims.count; i++) {
            const qn_dim *d = &g->kernel->dims.at[i];
            if (d->name == x->u.name && d->value) {
                return fixed(g, d->value, depth + 1, out);
            }
        }
        return false;
    }
    if (x->kind != QN_OP || x->u.op.args.count > 3) {
        return false;
    }
    for (int32_t i = 0; i < x->u.op.args.count; i++) {
        if (!fixed(g, x->u.op.args.at[i], depth + 1, &a[i])) {
            return false;
        }
    }
    int64_t q = 0;
    if ((x->u.op.op == QN_OP_FLOORDIV || x->u.op.op == QN_OP_MOD) && a[1] <= 0) {
        return false;
    }
    if (x->u.op.op == QN_OP_FLOORDIV || x->u.op.op == QN_OP_MOD) {
        q = a[0] / a[1] - (a[0] % a[1] < 0);
    }
#define X(OP, value)                \
    if (x->u.op.op == QN_OP_##OP) { \
        *out = (int64_t)(value);    \
        return true;                \
    }
    X(ADD, (uint64_t)a[0] + (uint64_t)a[1])
    X(SUB, (uint64_t)a[0] - (uint64_t)a[1])
    X(MUL, (uint64_t)a[0] * (uint64_t)a[1])
    X(NEG, 0 - (uint64_t)a[0])
    X(FLOORDIV, q)
    X(MOD, (uint64_t)a[0] - (uint64_t)q * (uint64_t)a[1])
    X(MIN, a[0] < a[1] ? a[0] : a[1])
    X(MAX, a[0] > a[1] ? a[0] : a[1])
#undef X
    return false;
}

static qn_v dim_value(qn_gen *g, int32_t k)
{
    if (!g->dims[k]) {
        int64_t n;
        const qn_dim *d = &g->kernel->dims.at[k];
        if (d->value && fixed(g, d->value, 0, &n)) {
            g->dims[k] = qn_i64(g, n);
        } else {
            LLVMBuilderRef here = to_entry(g);
            qn_v p = qn_offset(g, g->dims_array, 8 * (int64_t)k);
            g->dims[k] = g->l->BuildLoad2(g->b, g->i64, p, "");
            qn_note_nonnegative(g, g->dims[k]);
            g->b = here;
        }
    }
    return g->dims[k];
}

qn_v qn_extent_value(qn_gen *g, qn_extent e)
{
    if (!e.dim) {
        return qn_i64(g, e.n);
    }
    for (int32_t i = 0; i < g->kernel->dims.count; i++) {
        if (g->kernel->dims.at[i].name == e.dim) {
            return dim_value(g, i);
        }
    }
    qn_gen_fail(g, (qn_place){0, 0, 0}, "an extent that is no dim: %s", e.dim);
}

qn_entry *qn_scope_find(qn_gen *g, qn_sym name)
{
    for (qn_entry *e = g->scope; e; e = e->next) {
        if (e->name == name) {
            return e;
        }
    }
    for (int32_t i = 0; i < g->kernel->dims.count; i++) {
        if (g->kernel->dims.at[i].name == name) {
            qn_scope_scalar(g, name, QN_I64, dim_value(g, i));
            return g->scope;
        }
    }
    return NULL;
}

static qn_entry *scope_push(qn_gen *g, qn_sym name)
{
    qn_entry *e = QN_NEW(g->arena, qn_entry);
    e->name = name;
    e->next = g->scope;
    g->scope = e;
    return e;
}

void qn_scope_tile(qn_gen *g, qn_sym name, const qn_tile *t)
{
    scope_push(g, name)->tile = t;
}

void qn_scope_scalar(qn_gen *g, qn_sym name, qn_dtype t, qn_v v)
{
    qn_tile *tile = QN_NEW(g->arena, qn_tile);
    tile->type.dtype = t;
    tile->regs = QN_NEW(g->arena, qn_v);
    tile->regs[0] = v;
    tile->nregs = 1;
    qn_scope_tile(g, name, tile);
}

void qn_scope_memory(qn_gen *g, qn_sym name, const qn_memory *m)
{
    scope_push(g, name)->memory = m;
}

/* ---------------------------------------------------------------- axes and registers */

qn_sym qn_lane_of(qn_gen *g, const qn_type *t)
{
    for (int32_t i = 0; i < t->rank; i++) {
        for (int32_t j = 0; j < g->nlanes; j++) {
            if (t->axes[i].name == g->lanes[j]) {
                return g->lanes[j];
            }
        }
    }
    return NULL;
}

int64_t qn_extent_fixed(qn_gen *g, qn_extent e)
{
    int64_t n;
    if (!qn_is_const(g, qn_extent_value(g, e), &n)) {
        qn_gen_fail(g, (qn_place){0, 0, 0},
                    "a value in registers has an extent that is not constant: %s", e.dim);
    }
    return n;
}

/* Where the one register at hand starts, if the axis is sliced. */
static qn_v slice_of(const qn_gen *g, qn_sym axis)
{
    for (int32_t i = 0; i < g->nslices; i++) {
        if (g->slices[i].axis == axis) {
            return g->slices[i].base;
        }
    }
    return NULL;
}

int64_t qn_axis_parts(qn_gen *g, const qn_type *t, int axis)
{
    if (slice_of(g, t->axes[axis].name)) {
        return 1;
    }
    int64_t n = qn_extent_fixed(g, t->axes[axis].extent);
    return t->axes[axis].name == qn_lane_of(g, t) ? (n + g->width - 1) / g->width : n;
}

int32_t qn_parts_of(qn_gen *g, const qn_type *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++) {
        n *= qn_axis_parts(g, t, i);
        if (n > 65536) {
            qn_gen_fail(g, (qn_place){0, 0, 0}, "a value in registers needs too many of them");
        }
    }
    return (int32_t)n;
}

const qn_at *qn_coord(const qn_coords *c, qn_sym axis)
{
    for (int32_t i = c ? c->count - 1 : -1; i >= 0; i--) {
        if (c->at[i].axis == axis) {
            return &c->at[i];
        }
    }
    return NULL;
}

void qn_coord_push(qn_coords *c, qn_sym axis, qn_v index, int64_t part)
{
    if (c->count < QN_MAX_AT) {
        c->at[c->count++] = (qn_at){axis, index, part};
    }
}

void qn_part_coords(qn_gen *g, const qn_type *t, int32_t part, qn_coords *c)
{
    qn_sym lane = qn_lane_of(g, t);
    int64_t at[QN_MAX_AXES] = {0}, rest = part;
    for (int32_t i = t->rank - 1; i >= 0; i--) {
        int64_t n = qn_axis_parts(g, t, i);
        at[i] = rest % n;
        rest /= n;
    }
    for (int32_t i = 0; i < t->rank; i++) {
        bool wide = t->axes[i].name == lane;
        qn_v base = slice_of(g, t->axes[i].name);
        if (base) {
            qn_coord_push(c, t->axes[i].name, base, 0);
            continue;
        }
        qn_coord_push(c, t->axes[i].name, qn_i64(g, wide ? at[i] * g->width : at[i]), at[i]);
    }
}

int32_t qn_part_index(qn_gen *g, const qn_type *t, const qn_coords *c)
{
    int64_t k = 0;
    for (int32_t i = 0; i < t->rank; i++) {
        const qn_at *at = qn_coord(c, t->axes[i].name);
        k = k * qn_axis_parts(g, t, i) + (at ? at->part : 0);
    }
    return (int32_t)k;
}

int64_t qn_lanes_valid(qn_gen *g, const qn_type *t, qn_sym lane, const qn_coords *c)
{
    const qn_axis *a = qn_type_axis(t, lane);
    const qn_at *at = qn_coord(c, lane);
    int64_t n = qn_extent_fixed(g, a->extent) - (slice_of(g, lane) ? 0 : at->part * g->width);
    return n < g->width ? n : g->width;
}

qn_v qn_lane_mask(qn_gen *g, int64_t valid)
{
    if (g->width < 2) {
        return g->l->ConstInt(g->i1, valid > 0, 0);
    }
    qn_v *all = QN_NEWN(g->arena, qn_v, g->width);
    for (int32_t i = 0; i < g->width; i++) {
        all[i] = g->l->ConstInt(g->i1, i < valid, 0);
    }
    return g->l->ConstVector(all, (unsigned)g->width);
}

void qn_each(qn_gen *g, const qn_axis *axes, int32_t rank, const qn_coords *outer, qn_each_fn body,
             void *user)
{
    qn_coords c = {.count = 0};
    if (outer) {
        c = *outer;
    }
    if (g->width) {
        qn_type t = {QN_F32, rank, axes};
        int32_t parts = qn_parts_of(g, &t), base = c.count;
        for (int32_t p = 0; p < parts; p++) {
            c.count = base;
            qn_part_coords(g, &t, p, &c);
            body(g, user, &c);
        }
        return;
    }
    qn_loop loops[QN_MAX_AXES];
    for (int32_t i = 0; i < rank; i++) {
        qn_loop_begin(g, &loops[i], qn_i64(g, 0), qn_extent_value(g, axes[i].extent), qn_i64(g, 1),
                      NULL, 0);
        qn_coord_push(&c, axes[i].name, loops[i].index, 0);
    }
    body(g, user, &c);
    for (int32_t i = rank - 1; i >= 0; i--) {
        qn_loop_end(g, &loops[i], NULL);
    }
}
