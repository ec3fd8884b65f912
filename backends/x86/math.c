/* SPDX-License-Identifier: MIT
 *
 * Elementary functions of f32 in lanes or alone: one algorithm for every lane count, so that the
 * same operations give the same bits on every instruction set. Polynomials are minimax fits of the
 * relative error on the reduced range, coefficients rounded to f32 one after another.
 *
 *     exp    x = n ln 2 + r, |r| <= ln 2 / 2:  2^n (1 + r + r^2 P(r))            1.2 ulp
 *     log    x = 2^e m, sqrt(1/2) <= m < sqrt 2, f = m - 1:
 *            e ln 2 + f - f^2 / 2 + f^3 P(f)                                     1 ulp
 *     tanh   x + x^3 P(x^2) below 0.6, 1 - 2 / (1 + e^2x) above
 *     erf    x + x P(x^2) below 1, 1 - e^R(x) above
 *
 * f64, powers, sine and cosine call the mathematical library through the table of helpers. */
#include "backends/x86/gen.h"
#include "backends/x86/helpers/helpers.h"
#include <math.h>
#include <stddef.h>

static qn_v polynomial(qn_gen *g, qn_v x, const double *highest_first, int count)
{
    qn_v p = qn_real(g, highest_first[0], x);
    for (int i = 1; i < count; i++) {
        p = qn_fma(g, p, x, qn_real(g, highest_first[i], x));
    }
    return p;
}
#define POLY(g, x, ...)                                 \
    polynomial((g), (x), (const double[]){__VA_ARGS__}, \
               (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)))

static qn_v f_mul(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildFMul(g->b, a, b, "");
}
static qn_v f_add(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildFAdd(g->b, a, b, "");
}
static qn_v f_sub(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildFSub(g->b, a, b, "");
}
static qn_v f_div(qn_gen *g, qn_v a, qn_v b)
{
    return g->l->BuildFDiv(g->b, a, b, "");
}
static qn_v pick(qn_gen *g, LLVMRealPredicate p, qn_v a, qn_v b, qn_v yes, qn_v no)
{
    return g->l->BuildSelect(g->b, g->l->BuildFCmp(g->b, p, a, b, ""), yes, no, "");
}

static qn_v unary(qn_gen *g, const char *intrinsic, qn_v x)
{
    qn_ty t = g->l->TypeOf(x);
    return qn_intrinsic(g, intrinsic, &t, 1, &x, 1);
}

static qn_v copysign_(qn_gen *g, qn_v mag, qn_v sign)
{
    qn_ty t = g->l->TypeOf(mag);
    qn_v args[] = {mag, sign};
    return qn_intrinsic(g, "llvm.copysign", &t, 1, args, 2);
}

/* A NaN passes through: the comparison with it is false. */
static qn_v clamp(qn_gen *g, qn_v x, double lo, double hi)
{
    qn_v l = qn_real(g, lo, x), h = qn_real(g, hi, x);
    x = pick(g, LLVMRealOGT, l, x, l, x);
    return pick(g, LLVMRealOLT, h, x, h, x);
}

/* Adding 1.5 * 2^23 rounds to a whole number n, which then stands in the low bits of the sum. */
#define MAGIC 0x1.8p23
enum { MAGIC_BITS = 0x4b400000 };

/* y * 2^n for n of -253 to 253 with one rounding, where t = n + MAGIC: two factors, each a normal
 * number, of which the first makes no rounding. With u = n + 254 their biased exponents are u // 2
 * and u - u // 2. */
static qn_v scale(qn_gen *g, qn_v y, qn_v t, qn_v n)
{
    const qn_llvm *l = g->l;
    if (g->isa->scalef && qn_lanes_of(g, y) == 16) {
        qn_v args[] = {y, n, y, l->ConstInt(g->i16, 0xffff, 0), qn_i32(g, 4)};
        return qn_intrinsic(g, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, args, 5);
    }
    qn_v bits = qn_bits(g, t, g->i32), up = qn_int_like(g, 23, bits);
    qn_v u = l->BuildAdd(g->b, bits, qn_int_like(g, 254 - MAGIC_BITS, bits), "");
    qn_v half = l->BuildLShr(g->b, u, qn_int_like(g, 1, bits), "");
    qn_v rest = l->BuildShl(g->b, l->BuildSub(g->b, u, half, ""), up, "");
    half = l->BuildShl(g->b, half, up, "");
    return f_mul(g, f_mul(g, y, qn_bits(g, half, g->f32)), qn_bits(g, rest, g->f32));
}

static qn_v exp_(qn_gen *g, qn_v x)
{
    x = clamp(g, x, -104.5, 89.0);
    qn_v magic = qn_real(g, MAGIC, x), t = qn_fma(g, x, qn_real(g, 0x1.715476p+0, x), magic);
    qn_v n = f_sub(g, t, magic);
    qn_v r = qn_fma(g, n, qn_real(g, -0x1.62e400p-1, x), x);
    r = qn_fma(g, n, qn_real(g, -0x1.7f7d1cf79abcap-20, x), r);
    qn_v p;
    if (g->exp_degree == 3) { /* relative errors 2e-4, 3e-6, 1.3e-7 */
        p = POLY(g, r, 0x1.2e4c88p-3, 0x1.028ff4p-1, 0x1.00738ap+0, 0x1.fff68ep-1);
    } else if (g->exp_degree == 4) {
        p = POLY(g, r, 0x1.540922p-5, 0x1.57e784p-3, 0x1.000546p-1, 0x1.fffb1ep-1, 0x1.ffffe8p-1);
    } else if (g->exp_degree == 5) {
        p = POLY(g, r, 0x1.16e7b2p-7, 0x1.5794a4p-5, 0x1.55498ap-3, 0x1.fffc2cp-2, 0x1.000008p+0,
                 0x1.000002p+0);
    } else {
        p = POLY(g, r, 0x1.6feea0p-10, 0x1.1257f6p-7, 0x1.5552fep-5, 0x1.555466p-3, 0x1p-1);
        p = f_add(g, qn_fma(g, f_mul(g, r, r), p, r), qn_real(g, 1.0, x));
    }
    return scale(g, p, t, n);
}

static qn_v exp2_(qn_gen *g, qn_v x)
{
    x = clamp(g, x, -151.0, 129.0);
    qn_v magic = qn_real(g, MAGIC, x), t = f_add(g, x, magic), n = f_sub(g, t, magic);
    qn_v r = f_sub(g, x, n);
    qn_v p = POLY(g, r, 0x1.49c440p-13, 0x1.5f94a4p-10, 0x1.3b2192p-7, 0x1.c6adaep-5, 0x1.ebfbe6p-3,
                  0x1.62e432p-1, 1.0);
    return scale(g, p, t, n);
}

/* The exponent (a float) and f = m - 1 of a positive number, denormals too. */
static qn_v split(qn_gen *g, qn_v x, qn_v *f)
{
    const qn_llvm *l = g->l;
    qn_v small = l->BuildFCmp(g->b, LLVMRealOLT, x, qn_real(g, 0x1p-126, x), "");
    x = l->BuildSelect(g->b, small, f_mul(g, x, qn_real(g, 0x1p23, x)), x, "");
    qn_v bits = qn_bits(g, x, g->i32);
    qn_v moved = l->BuildSub(g->b, bits, qn_int_like(g, 0x3f3504f3, bits), ""); /* sqrt(1/2) */
    qn_v e = l->BuildAShr(g->b, moved, qn_int_like(g, 23, bits), "");
    qn_v m = l->BuildSub(g->b, bits, l->BuildShl(g->b, e, qn_int_like(g, 23, bits), ""), "");
    *f = f_sub(g, qn_bits(g, m, g->f32), qn_real(g, 1.0, x));
    qn_v ef = l->BuildSIToFP(g->b, e, l->TypeOf(x), "");
    qn_v less = l->BuildSelect(g->b, small, qn_real(g, -23.0, x), qn_real(g, 0.0, x), "");
    return f_add(g, ef, less);
}

/* f - f^2 / 2 + f^3 P(f) as a leading f and the rest. */
static qn_v log1p_rest(qn_gen *g, qn_v f)
{
    qn_v p = POLY(g, f, 0x1.b55d3ap-5, -0x1.bf46d0p-4, 0x1.effe30p-4, -0x1.01027ap-3, 0x1.2302fep-3,
                  -0x1.552f06p-3, 0x1.99a542p-3, -0x1.000070p-2, 0x1.555548p-2);
    p = qn_fma(g, p, f, qn_real(g, -0.5, f));
    return f_mul(g, f_mul(g, f, f), p);
}

/* What a logarithm is outside the positive finite numbers. */
static qn_v log_edges(qn_gen *g, qn_v x, qn_v y)
{
    qn_v zero = qn_real(g, 0.0, x), inf = qn_real(g, INFINITY, x);
    y = pick(g, LLVMRealOEQ, x, inf, inf, y);
    y = pick(g, LLVMRealUGT, x, zero, y,
             qn_real(g, (double)NAN, x)); /* NaN keeps y, which is NaN */
    y = pick(g, LLVMRealUNO, x, x, x, y);
    return pick(g, LLVMRealOEQ, x, zero, qn_real(g, -INFINITY, x), y);
}

static qn_v log_(qn_gen *g, qn_v x)
{
    qn_v f, e = split(g, x, &f), rest = log1p_rest(g, f);
    rest = qn_fma(g, e, qn_real(g, -0x1.bd0106p-13, x), rest); /* ln 2 in two parts */
    qn_v y = qn_fma(g, e, qn_real(g, 0x1.63p-1, x), f_add(g, rest, f));
    return log_edges(g, x, y);
}

static qn_v log2_(qn_gen *g, qn_v x)
{
    qn_v f, e = split(g, x, &f), rest = log1p_rest(g, f);
    /* (f + rest) log2(e) with the product of f exact: hi + lo */
    qn_v c = qn_real(g, 0x1.715476p+0, x), d = qn_real(g, 0x1.4ae0bep-26, x);
    qn_v hi = f_mul(g, f, c);
    qn_v lo = qn_fma(g, f, c, g->l->BuildFNeg(g->b, hi, ""));
    lo = f_add(g, qn_fma(g, f, d, lo), f_mul(g, rest, c));
    qn_v sum = f_add(g, e, hi);
    qn_v lost = f_add(g, f_sub(g, e, sum), hi); /* |e| >= |hi| or e is 0 */
    return log_edges(g, x, f_add(g, sum, f_add(g, lo, lost)));
}

static qn_v sigmoid_(qn_gen *g, qn_v x)
{
    qn_v one = qn_real(g, 1.0, x);
    qn_v z = exp_(g, g->l->BuildFNeg(g->b, unary(g, "llvm.fabs", x), ""));
    qn_v top = pick(g, LLVMRealOLT, x, qn_real(g, 0.0, x), z, one);
    return f_div(g, top, f_add(g, one, z));
}

static qn_v tanh_(qn_gen *g, qn_v x)
{
    qn_v a = unary(g, "llvm.fabs", x), y = f_mul(g, x, x), one = qn_real(g, 1.0, x);
    qn_v p =
        POLY(g, y, -0x1.828774p-8, 0x1.54c3c2p-6, -0x1.b89abap-5, 0x1.1109bep-3, -0x1.55553ep-2);
    qn_v near = qn_fma(g, f_mul(g, p, y), x, x);
    qn_v z = exp_(g, f_add(g, a, a));
    qn_v far = f_sub(g, one, f_div(g, qn_real(g, 2.0, x), f_add(g, z, one)));
    return copysign_(g, pick(g, LLVMRealOLT, a, qn_real(g, 0.6, x), near, far), x);
}

static qn_v erf_(qn_gen *g, qn_v x)
{
    qn_v a = unary(g, "llvm.fabs", x), y = f_mul(g, x, x), four = qn_real(g, 4.0, x);
    qn_v p = POLY(g, y, 0x1.470100p-14, -0x1.a32a44p-11, 0x1.53ed68p-8, -0x1.b7f6a2p-6,
                  0x1.ce2ce2p-4, -0x1.81273ep-2, 0x1.06eba8p-3);
    qn_v near = qn_fma(g, p, x, x);
    qn_v b = pick(g, LLVMRealOGT, a, four, four, a);
    qn_v r = POLY(g, b, -0x1.6bedfap-16, 0x1.cedbd0p-12, -0x1.1394ccp-8, 0x1.9d094cp-6,
                  -0x1.bc17f4p-4, -0x1.443504p-1, -0x1.212c2ap+0, 0x1.8b3c8ep-13);
    qn_v far = copysign_(g, f_sub(g, qn_real(g, 1.0, x), exp_(g, r)), x);
    far = pick(g, LLVMRealUNO, x, x, x, far);
    return pick(g, LLVMRealOLT, a, qn_real(g, 1.0, x), near, far);
}

/* ---------------------------------------------------------------- through helpers */

void qn_helper(qn_gen *g, int32_t which, qn_v *args, int nargs)
{
    const qn_llvm *l = g->l;
    qn_ty types[8];
    for (int i = 0; i < nargs; i++) {
        types[i] = l->TypeOf(args[i]);
    }
    qn_v table = l->BuildLoad2(g->b, g->ptr,
                               qn_offset(g, g->args, (int64_t)offsetof(qn_abi_args, helpers)), "");
    qn_v f = l->BuildLoad2(g->b, g->ptr, qn_offset(g, table, 8 * (int64_t)which), "");
    l->BuildCall2(g->b, l->FunctionType(g->none, types, (unsigned)nargs, 0), f, args,
                  (unsigned)nargs, "");
}

/* Lanes go through the stack. */
static qn_v by_helper(qn_gen *g, int32_t which, qn_v x, qn_v y)
{
    const qn_llvm *l = g->l;
    int32_t n = qn_lanes_of(g, x) ? qn_lanes_of(g, x) : 1;
    qn_v args[3], place = qn_stack(g, qn_element(g, x), n, 64);
    int count = 0;
    l->BuildStore(g->b, x, place);
    args[count++] = place;
    if (y) {
        qn_v other = qn_stack(g, qn_element(g, y), n, 64);
        l->BuildStore(g->b, y, other);
        args[count++] = other;
    }
    args[count++] = qn_i64(g, n);
    qn_helper(g, which, args, count);
    return l->BuildLoad2(g->b, l->TypeOf(x), place, "");
}

qn_v qn_math(qn_gen *g, qn_op op, qn_dtype t, qn_v x)
{
    static const struct {
        qn_op op;
        qn_v (*f32)(qn_gen *g, qn_v x);
        int32_t help32, help64;
    } table[] = {
        {QN_OP_EXP, exp_, -1, QN_HELP_EXP_F64},
        {QN_OP_EXP2, exp2_, -1, QN_HELP_EXP2_F64},
        {QN_OP_LOG, log_, -1, QN_HELP_LOG_F64},
        {QN_OP_LOG2, log2_, -1, QN_HELP_LOG2_F64},
        {QN_OP_TANH, tanh_, -1, QN_HELP_TANH_F64},
        {QN_OP_ERF, erf_, -1, QN_HELP_ERF_F64},
        {QN_OP_SIN, NULL, QN_HELP_SIN_F32, QN_HELP_SIN_F64},
        {QN_OP_COS, NULL, QN_HELP_COS_F32, QN_HELP_COS_F64},
        {QN_OP_SIGMOID, sigmoid_, -1, QN_HELP_SIGMOID_F64},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].op != op) {
            continue;
        }
        if (t == QN_F64) {
            return by_helper(g, table[i].help64, x, NULL);
        }
        return table[i].f32 ? table[i].f32(g, x) : by_helper(g, table[i].help32, x, NULL);
    }
    qn_gen_fail(g, (qn_place){0, 0, 0}, "no code for %s", qn_op_info_of(op)->text);
}

qn_v qn_math2(qn_gen *g, qn_op op, qn_dtype t, qn_v x, qn_v y)
{
    (void)op;
    return by_helper(g, t == QN_F64 ? QN_HELP_POW_F64 : QN_HELP_POW_F32, x, y);
}
