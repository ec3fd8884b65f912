/* SPDX-License-Identifier: MIT
 *
 * Pointwise ops and casts on registers, scalars and lanes alike.
 *
 * f16 and bf16 values live in registers as f32 that the narrow type can hold: an op computes in f32
 * and rounds its result through the narrow bits. No op here may become a call into a library, since
 * the code has no outside references: what the instruction set lacks is written out. */
#include "backends/x86/gen.h"

static qn_v select_(qn_gen *g, qn_v c, qn_v a, qn_v b)
{
    return g->l->BuildSelect(g->b, c, a, b, "");
}

static qn_v fcmp(qn_gen *g, LLVMRealPredicate p, qn_v a, qn_v b)
{
    return g->l->BuildFCmp(g->b, p, a, b, "");
}

static qn_v icmp(qn_gen *g, LLVMIntPredicate p, qn_v a, qn_v b)
{
    return g->l->BuildICmp(g->b, p, a, b, "");
}

static qn_v shift(qn_gen *g, qn_v a, int64_t n, bool left)
{
    qn_v by = qn_int_like(g, n, a);
    return left ? g->l->BuildShl(g->b, a, by, "") : g->l->BuildLShr(g->b, a, by, "");
}

static qn_v unary(qn_gen *g, const char *intrinsic, qn_v x)
{
    qn_ty t = g->l->TypeOf(x);
    return qn_intrinsic(g, intrinsic, &t, 1, &x, 1);
}

/* ---------------------------------------------------------------- 16-bit floats */

/* Round to nearest even. Below 2^-14 the sum with 0.5 leaves the denormal's bits at the bottom. */
static qn_v f16_bits(qn_gen *g, qn_v x)
{
    const qn_llvm *l = g->l;
    if (g->isa->f16c) {
        qn_v h = l->BuildFPTrunc(g->b, x, qn_like(g, g->f16, x), "");
        return qn_bits(g, h, g->i16);
    }
    qn_v u = qn_bits(g, x, g->i32);
    qn_v a = l->BuildAnd(g->b, u, qn_int_like(g, 0x7fffffff, u), "");
    qn_v sign = l->BuildXor(g->b, u, a, "");
    qn_v small = l->BuildFAdd(g->b, qn_bits(g, a, g->f32), qn_real(g, 0.5, x), "");
    small = l->BuildSub(g->b, qn_bits(g, small, g->i32), qn_int_like(g, 0x3f000000, u), "");
    qn_v odd = l->BuildAnd(g->b, shift(g, a, 13, false), qn_int_like(g, 1, u), "");
    qn_v normal = l->BuildAdd(g->b, a, qn_int_like(g, (int64_t)0xc8000fff, u), "");
    normal = shift(g, l->BuildAdd(g->b, normal, odd, ""), 13, false);
    qn_v is_nan = icmp(g, LLVMIntUGT, a, qn_int_like(g, 0x7f800000, u));
    qn_v big = select_(g, is_nan, qn_int_like(g, 0x7e00, u), qn_int_like(g, 0x7c00, u));
    qn_v is_big = icmp(g, LLVMIntUGE, a, qn_int_like(g, 0x47800000, u));
    qn_v is_small = icmp(g, LLVMIntULT, a, qn_int_like(g, 0x38800000, u));
    qn_v r = select_(g, is_big, big, select_(g, is_small, small, normal));
    r = l->BuildOr(g->b, r, shift(g, sign, 16, false), "");
    return l->BuildTrunc(g->b, r, qn_like(g, g->i16, r), "");
}

static qn_v f16_value(qn_gen *g, qn_v h)
{
    const qn_llvm *l = g->l;
    if (g->isa->f16c) {
        return l->BuildFPExt(g->b, qn_bits(g, h, g->f16), qn_like(g, g->f32, h), "");
    }
    qn_v u = l->BuildZExt(g->b, h, qn_like(g, g->i32, h), "");
    qn_v mag = shift(g, l->BuildAnd(g->b, u, qn_int_like(g, 0x7fff, u), ""), 13, true);
    qn_v big = icmp(g, LLVMIntUGE, mag, qn_int_like(g, 0x0f800000, u));
    qn_v f = qn_bits(g, mag, g->f32);
    f = l->BuildFMul(g->b, f, qn_real(g, 0x1p112, f), ""); /* rebiases, denormals too */
    qn_v v = qn_bits(g, f, g->i32);
    v = select_(g, big, l->BuildOr(g->b, mag, qn_int_like(g, 0x7f800000, u), ""), v);
    qn_v sign = shift(g, l->BuildAnd(g->b, u, qn_int_like(g, 0x8000, u), ""), 16, true);
    return qn_bits(g, l->BuildOr(g->b, v, sign, ""), g->f32);
}

static qn_v bf16_bits(qn_gen *g, qn_v x)
{
    const qn_llvm *l = g->l;
    qn_v u = qn_bits(g, x, g->i32);
    qn_v odd = l->BuildAnd(g->b, shift(g, u, 16, false), qn_int_like(g, 1, u), "");
    qn_v r = l->BuildAdd(g->b, u, qn_int_like(g, 0x7fff, u), "");
    r = shift(g, l->BuildAdd(g->b, r, odd, ""), 16, false);
    qn_v quiet = l->BuildOr(g->b, shift(g, u, 16, false), qn_int_like(g, 0x40, u), "");
    r = select_(g, fcmp(g, LLVMRealUNO, x, x), quiet, r);
    return l->BuildTrunc(g->b, r, qn_like(g, g->i16, r), "");
}

qn_v qn_to_bits16(qn_gen *g, qn_dtype t, qn_v v)
{
    return t == QN_F16 ? f16_bits(g, v) : bf16_bits(g, v);
}

qn_v qn_from_bits16(qn_gen *g, qn_dtype t, qn_v v)
{
    if (t == QN_F16) {
        return f16_value(g, v);
    }
    qn_v u = g->l->BuildZExt(g->b, v, qn_like(g, g->i32, v), "");
    return qn_bits(g, shift(g, u, 16, true), g->f32);
}

qn_v qn_round_to(qn_gen *g, qn_dtype t, qn_v v)
{
    if (t != QN_F16 && t != QN_BF16) {
        return v;
    }
    return qn_from_bits16(g, t, qn_to_bits16(g, t, v));
}

/* ---------------------------------------------------------------- fused multiply-add, rounding */

/* a * b + c rounded once, where the machine has no such instruction: the product is exact in
 * double, the sum is rounded to odd there, so that rounding it to f32 is right. */
static qn_v soft_fma(qn_gen *g, qn_v a, qn_v b, qn_v c)
{
    const qn_llvm *l = g->l;
    qn_ty wide = qn_like(g, g->f64, a);
    qn_v p =
        l->BuildFMul(g->b, l->BuildFPExt(g->b, a, wide, ""), l->BuildFPExt(g->b, b, wide, ""), "");
    qn_v z = l->BuildFPExt(g->b, c, wide, "");
    qn_v s = l->BuildFAdd(g->b, p, z, "");
    qn_v back = l->BuildFSub(g->b, s, p, "");
    qn_v e1 = l->BuildFSub(g->b, p, l->BuildFSub(g->b, s, back, ""), "");
    qn_v err = l->BuildFAdd(g->b, e1, l->BuildFSub(g->b, z, back, ""), "");
    qn_v zero = qn_real(g, 0.0, s);
    qn_v bits = qn_bits(g, s, g->i64);
    qn_v even = icmp(g, LLVMIntEQ, l->BuildAnd(g->b, bits, qn_int_like(g, 1, bits), ""),
                     qn_int_like(g, 0, bits));
    qn_v fix = l->BuildAnd(g->b, even, fcmp(g, LLVMRealONE, err, zero), "");
    qn_v same = icmp(g, LLVMIntEQ, fcmp(g, LLVMRealOGT, err, zero), fcmp(g, LLVMRealOGT, s, zero));
    qn_v step = select_(g, same, qn_int_like(g, 1, bits), qn_int_like(g, -1, bits));
    bits = select_(g, fix, l->BuildAdd(g->b, bits, step, ""), bits);
    return l->BuildFPTrunc(g->b, qn_bits(g, bits, g->f64), g->l->TypeOf(a), "");
}

qn_v qn_fma(qn_gen *g, qn_v a, qn_v b, qn_v c)
{
    if (g->isa->fma) {
        qn_ty t = g->l->TypeOf(a);
        qn_v args[] = {a, b, c};
        return qn_intrinsic(g, "llvm.fma", &t, 1, args, 3);
    }
    if (qn_element(g, a) == g->f32) {
        return soft_fma(g, a, b, c);
    }
    return g->l->BuildFAdd(g->b, g->l->BuildFMul(g->b, a, b, ""), c, "");
}

static qn_v copysign_(qn_gen *g, qn_v mag, qn_v sign)
{
    qn_ty t = g->l->TypeOf(mag);
    qn_v args[] = {mag, sign};
    return qn_intrinsic(g, "llvm.copysign", &t, 1, args, 2);
}

/* Adding 2^23 (2^52) leaves no fraction bits; values at or above it have none already. */
qn_v qn_round_even(qn_gen *g, qn_v x)
{
    if (g->isa->rounding) {
        return unary(g, "llvm.roundeven", x);
    }
    const qn_llvm *l = g->l;
    double big = qn_element(g, x) == g->f64 ? 0x1p52 : 0x1p23;
    qn_v mag = unary(g, "llvm.fabs", x), limit = qn_real(g, big, x);
    qn_v r = l->BuildFSub(g->b, l->BuildFAdd(g->b, mag, limit, ""), limit, "");
    return select_(g, fcmp(g, LLVMRealOLT, mag, limit), copysign_(g, r, x), x);
}

qn_v qn_floor(qn_gen *g, qn_v x)
{
    if (g->isa->rounding) {
        return unary(g, "llvm.floor", x);
    }
    qn_v r = qn_round_even(g, x);
    qn_v less = g->l->BuildFSub(g->b, r, qn_real(g, 1.0, x), "");
    return copysign_(g, select_(g, fcmp(g, LLVMRealOGT, r, x), less, r), x);
}

qn_v qn_ceil(qn_gen *g, qn_v x)
{
    if (g->isa->rounding) {
        return unary(g, "llvm.ceil", x);
    }
    qn_v r = qn_round_even(g, x);
    qn_v more = g->l->BuildFAdd(g->b, r, qn_real(g, 1.0, x), "");
    return copysign_(g, select_(g, fcmp(g, LLVMRealOLT, r, x), more, r), x);
}

/* ---------------------------------------------------------------- casts */

static bool is_signed(qn_dtype t)
{
    return t != QN_U8 && t != QN_BOOL;
}

qn_v qn_cast_value(qn_gen *g, qn_dtype from, qn_dtype to, qn_v v)
{
    const qn_llvm *l = g->l;
    if (from == to) {
        return v;
    }
    bool float_from = qn_dtype_is_float(from), float_to = qn_dtype_is_float(to);
    qn_ty t = qn_like(g, qn_reg_type(g, to), v);
    if (to == QN_BOOL) {
        qn_v zero = l->ConstNull(l->TypeOf(v));
        return float_from ? fcmp(g, LLVMRealUNE, v, zero) : icmp(g, LLVMIntNE, v, zero);
    }
    if (float_from && float_to) {
        bool wide_from = from == QN_F64, wide_to = to == QN_F64;
        if (wide_from && !wide_to) {
            v = l->BuildFPTrunc(g->b, v, t, "");
        } else if (!wide_from && wide_to) {
            v = l->BuildFPExt(g->b, v, t, "");
        }
        return qn_round_to(g, to, v);
    }
    if (float_from) {
        if (qn_dtype_bytes(to) < 4) { /* through i32, then it wraps */
            v = l->BuildFPToSI(g->b, v, qn_like(g, g->i32, v), "");
            return l->BuildTrunc(g->b, v, t, "");
        }
        return l->BuildFPToSI(g->b, v, t, "");
    }
    if (float_to) {
        if (qn_dtype_bytes(from) < 4) {
            qn_ty wide = qn_like(g, g->i32, v);
            v = is_signed(from) ? l->BuildSExt(g->b, v, wide, "") : l->BuildZExt(g->b, v, wide, "");
        }
        return qn_round_to(g, to, l->BuildSIToFP(g->b, v, t, ""));
    }
    if (from != QN_BOOL && qn_dtype_bytes(from) == qn_dtype_bytes(to)) {
        return v;
    }
    if (from != QN_BOOL && qn_dtype_bytes(from) > qn_dtype_bytes(to)) {
        return l->BuildTrunc(g->b, v, t, "");
    }
    return is_signed(from) ? l->BuildSExt(g->b, v, t, "") : l->BuildZExt(g->b, v, t, "");
}

/* ---------------------------------------------------------------- ops */

static qn_v compare(qn_gen *g, qn_op op, qn_dtype t, qn_v a, qn_v b)
{
    bool f = qn_dtype_is_float(t), s = is_signed(t);
    if (op == QN_OP_EQ) {
        return f ? fcmp(g, LLVMRealOEQ, a, b) : icmp(g, LLVMIntEQ, a, b);
    }
    if (op == QN_OP_NE) {
        return f ? fcmp(g, LLVMRealUNE, a, b) : icmp(g, LLVMIntNE, a, b);
    }
    if (op == QN_OP_LT) {
        return f ? fcmp(g, LLVMRealOLT, a, b) : icmp(g, s ? LLVMIntSLT : LLVMIntULT, a, b);
    }
    if (op == QN_OP_LE) {
        return f ? fcmp(g, LLVMRealOLE, a, b) : icmp(g, s ? LLVMIntSLE : LLVMIntULE, a, b);
    }
    if (op == QN_OP_GT) {
        return f ? fcmp(g, LLVMRealOGT, a, b) : icmp(g, s ? LLVMIntSGT : LLVMIntUGT, a, b);
    }
    return f ? fcmp(g, LLVMRealOGE, a, b) : icmp(g, s ? LLVMIntSGE : LLVMIntUGE, a, b);
}

static qn_v least(qn_gen *g, qn_dtype t, qn_v a, qn_v b)
{
    return select_(g, compare(g, QN_OP_LT, t, a, b), a, b);
}

static qn_v greatest(qn_gen *g, qn_dtype t, qn_v a, qn_v b)
{
    return select_(g, compare(g, QN_OP_GT, t, a, b), a, b);
}

/* u8 divides by its own value, which as a signed byte may be negative: both go through i32. */
static qn_v whole_div(qn_gen *g, qn_op op, qn_dtype t, qn_v a, qn_v b)
{
    if (t == QN_U8) {
        qn_v x = qn_cast_value(g, QN_U8, QN_I32, a), y = qn_cast_value(g, QN_U8, QN_I32, b);
        return qn_cast_value(g, QN_I32, QN_U8, whole_div(g, op, QN_I32, x, y));
    }
    return op == QN_OP_FLOORDIV ? qn_floordiv(g, a, b) : qn_floormod(g, a, b);
}

static qn_v float_op(qn_gen *g, qn_op op, qn_dtype t, qn_v *a)
{
    const qn_llvm *l = g->l;
    qn_v q;
    switch ((int)op) {
    case QN_OP_ADD:
        return l->BuildFAdd(g->b, a[0], a[1], "");
    case QN_OP_SUB:
        return l->BuildFSub(g->b, a[0], a[1], "");
    case QN_OP_MUL:
        return l->BuildFMul(g->b, a[0], a[1], "");
    case QN_OP_DIV:
        return l->BuildFDiv(g->b, a[0], a[1], "");
    case QN_OP_FLOORDIV:
        return qn_floor(g, l->BuildFDiv(g->b, a[0], a[1], ""));
    case QN_OP_MOD:
        q = qn_floor(g, l->BuildFDiv(g->b, a[0], a[1], ""));
        return l->BuildFSub(g->b, a[0], l->BuildFMul(g->b, a[1], q, ""), "");
    case QN_OP_NEG:
        return l->BuildFNeg(g->b, a[0], "");
    case QN_OP_ABS:
        return unary(g, "llvm.fabs", a[0]);
    case QN_OP_FMA:
        return qn_fma(g, a[0], a[1], a[2]);
    case QN_OP_SQRT:
        return unary(g, "llvm.sqrt", a[0]);
    case QN_OP_RSQRT:
        return l->BuildFDiv(g->b, qn_real(g, 1.0, a[0]), unary(g, "llvm.sqrt", a[0]), "");
    case QN_OP_FLOOR:
        return qn_floor(g, a[0]);
    case QN_OP_CEIL:
        return qn_ceil(g, a[0]);
    case QN_OP_ROUND:
        return qn_round_even(g, a[0]);
    case QN_OP_POW:
        return qn_math2(g, op, t == QN_F64 ? QN_F64 : QN_F32, a[0], a[1]);
    default:
        return qn_math(g, op, t == QN_F64 ? QN_F64 : QN_F32, a[0]);
    }
}

static qn_v int_op(qn_gen *g, qn_op op, qn_dtype t, qn_v *a, qn_place place)
{
    const qn_llvm *l = g->l;
    qn_v zero;
    switch ((int)op) {
    case QN_OP_ADD:
        return qn_iadd(g, a[0], a[1]);
    case QN_OP_SUB:
        return l->BuildSub(g->b, a[0], a[1], "");
    case QN_OP_MUL:
        return qn_imul(g, a[0], a[1]);
    case QN_OP_FLOORDIV:
    case QN_OP_MOD:
        return whole_div(g, op, t, a[0], a[1]);
    case QN_OP_NEG:
        return l->BuildSub(g->b, qn_int_like(g, 0, a[0]), a[0], "");
    case QN_OP_ABS:
        zero = qn_int_like(g, 0, a[0]);
        return select_(g, compare(g, QN_OP_LT, t, a[0], zero), l->BuildSub(g->b, zero, a[0], ""),
                       a[0]);
    case QN_OP_BAND:
        return l->BuildAnd(g->b, a[0], a[1], "");
    case QN_OP_BOR:
        return l->BuildOr(g->b, a[0], a[1], "");
    case QN_OP_BXOR:
        return l->BuildXor(g->b, a[0], a[1], "");
    case QN_OP_SHL:
        return l->BuildShl(g->b, a[0], a[1], "");
    case QN_OP_SHR:
        return l->BuildLShr(g->b, a[0], a[1], "");
    default:
        break;
    }
    qn_gen_fail(g, place, "no whole-number form of %s", qn_op_info_of(op)->text);
}

qn_v qn_op_value(qn_gen *g, qn_op op, qn_dtype t, qn_v *a, qn_place place)
{
    const qn_llvm *l = g->l;
    if (op == QN_OP_AND) {
        return l->BuildAnd(g->b, a[0], a[1], "");
    }
    if (op == QN_OP_OR) {
        return l->BuildOr(g->b, a[0], a[1], "");
    }
    if (op == QN_OP_NOT) {
        return l->BuildXor(g->b, a[0], qn_int_like(g, 1, a[0]), "");
    }
    if (op == QN_OP_SELECT) {
        return select_(g, a[0], a[1], a[2]);
    }
    if (qn_op_is_compare(op)) {
        return compare(g, op, t, a[0], a[1]);
    }
    if (op == QN_OP_MIN) {
        return least(g, t, a[0], a[1]);
    }
    if (op == QN_OP_MAX) {
        return greatest(g, t, a[0], a[1]);
    }
    if (op == QN_OP_CLAMP) {
        return least(g, t, greatest(g, t, a[0], a[1]), a[2]);
    }
    if (!qn_dtype_is_float(t)) {
        return int_op(g, op, t, a, place);
    }
    return qn_round_to(g, t, float_op(g, op, t, a));
}
