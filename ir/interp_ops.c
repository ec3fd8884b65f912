/* SPDX-License-Identifier: MIT
 *
 * The pointwise ops over chunks of contiguous operands: one function for the values of an op over
 * floats, one for its error bound, one for integers.
 *
 * Bounds are of first order: each operand's bound times the derivative, plus `own` roundings of
 * the result. Conventions that keep them honest at the edges:
 *   - an infinite or NaN result has bound 0 when its operands have finite bounds, since rounding
 *     does not make or unmake infinities (poles in reach of a bound say inf themselves);
 *   - a finite result that the dtype could overflow on has bound inf;
 *   - a correctly rounded op on exact operands has the error that it really makes, often 0. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

/* Roundings that an implementation of a function may make, in units of the result's last place.
 * The terms that grow with |x| stand for the rounding of a scaled argument (exp as exp2). */
#define OWN_EXP     4.0
#define OWN_LOG     4.0
#define OWN_RSQRT   4.0
#define OWN_POW     8.0
#define OWN_BOUNDED 8.0 /* sin, cos, tanh, erf: absolute, their values lie within 1 */

void qn_lanes_format(qn_lanes *c)
{
    c->unit = qn_unit_roundoff(c->result);
    c->least = qn_smallest_normal(c->result);
    c->greatest = qn_largest_finite(c->result);
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* A factor times a bound. An unknown element stays unknown though the factor is 0, for it may be
 * a NaN. */
static double times(double k, double e)
{
    return e == 0 ? 0 : e == INFINITY ? INFINITY : fabs(k) * e;
}

double qn_lanes_seal(const qn_lanes *c, double r, double e, double own)
{
    if (!isfinite(r)) {
        return e == INFINITY ? INFINITY : 0;
    }
    e += own * c->unit * larger(fabs(r), c->least);
    return fabs(r) + e <= c->greatest ? e : INFINITY;
}

/* As above for an op that rounds once and correctly. */
static double seal_once(const qn_lanes *c, double r, double e)
{
    if (e == 0 && isfinite(r)) {
        double d = fabs(r - qn_round_float(c->result, r));
        return d <= c->greatest ? d : INFINITY;
    }
    return qn_lanes_seal(c, r, e, 1);
}

/* ---------------------------------------------------------------- values of floats */

#define FLOAT1(NAME, EXPR)                   \
    static void NAME(const qn_lanes *c)      \
    {                                        \
        const double *a = c->f[0];           \
        double *restrict r = c->rf;          \
        for (int64_t k = 0; k < c->n; k++) { \
            double x = a[k];                 \
            r[k] = (EXPR);                   \
        }                                    \
    }
#define FLOAT2(NAME, EXPR)                       \
    static void NAME(const qn_lanes *c)          \
    {                                            \
        const double *a = c->f[0], *b = c->f[1]; \
        double *restrict r = c->rf;              \
        for (int64_t k = 0; k < c->n; k++) {     \
            double x = a[k], y = b[k];           \
            r[k] = (EXPR);                       \
        }                                        \
    }
#define FLOAT3(NAME, EXPR)                                     \
    static void NAME(const qn_lanes *c)                        \
    {                                                          \
        const double *a = c->f[0], *b = c->f[1], *d = c->f[2]; \
        double *restrict r = c->rf;                            \
        for (int64_t k = 0; k < c->n; k++) {                   \
            double x = a[k], y = b[k], z = d[k];               \
            r[k] = (EXPR);                                     \
        }                                                      \
    }

static double sigmoid(double x)
{
    double t = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + t) : t / (1 + t);
}

static double modulo(double x, double y)
{
    double m = fmod(x, y);
    return m != 0 && (m < 0) != (y < 0) ? m + y : m;
}

FLOAT2(add_f, x + y)
FLOAT2(sub_f, x - y)
FLOAT2(mul_f, x *y)
FLOAT2(div_f, x / y)
FLOAT2(floordiv_f, floor(x / y))
FLOAT2(mod_f, modulo(x, y))
FLOAT1(neg_f, -x)
FLOAT2(min_f, y < x || isnan(x) ? y : x)
FLOAT2(max_f, y > x || isnan(x) ? y : x)
FLOAT1(abs_f, fabs(x))
FLOAT3(clamp_f, fmin(fmax(x, y), z))
FLOAT3(fma_f, x *y + z)
FLOAT2(pow_f, pow(x, y))
FLOAT1(exp_f, exp(x))
FLOAT1(exp2_f, exp2(x))
FLOAT1(log_f, log(x))
FLOAT1(log2_f, log2(x))
FLOAT1(sqrt_f, sqrt(x))
FLOAT1(rsqrt_f, 1 / sqrt(x))
FLOAT1(sin_f, sin(x))
FLOAT1(cos_f, cos(x))
FLOAT1(tanh_f, tanh(x))
FLOAT1(erf_f, erf(x))
FLOAT1(sigmoid_f, sigmoid(x))
FLOAT1(floor_f, floor(x))
FLOAT1(ceil_f, ceil(x))
FLOAT1(round_f, nearbyint(x))

/* ---------------------------------------------------------------- bounds of floats */

#define BOUND1(NAME, SEALED)                                      \
    static void NAME(const qn_lanes *c)                           \
    {                                                             \
        for (int64_t k = 0; k < c->n; k++) {                      \
            double x = c->f[0][k], ex = c->e[0][k], r = c->rf[k]; \
            (void)x, (void)r;                                     \
            c->re[k] = (SEALED);                                  \
        }                                                         \
    }
#define BOUND2(NAME, SEALED)                                      \
    static void NAME(const qn_lanes *c)                           \
    {                                                             \
        for (int64_t k = 0; k < c->n; k++) {                      \
            double x = c->f[0][k], ex = c->e[0][k], r = c->rf[k]; \
            double y = c->f[1][k], ey = c->e[1][k];               \
            (void)x, (void)y, (void)r;                            \
            c->re[k] = (SEALED);                                  \
        }                                                         \
    }
#define BOUND3(NAME, SEALED)                                                         \
    static void NAME(const qn_lanes *c)                                              \
    {                                                                                \
        for (int64_t k = 0; k < c->n; k++) {                                         \
            double x = c->f[0][k], ex = c->e[0][k], r = c->rf[k];                    \
            double y = c->f[1][k], ey = c->e[1][k], z = c->f[2][k], ez = c->e[2][k]; \
            (void)x, (void)y, (void)z, (void)r;                                      \
            c->re[k] = (SEALED);                                                     \
        }                                                                            \
    }

static double product(double x, double ex, double y, double ey)
{
    if (isinf(x)) { /* stays infinite unless the other factor may be 0 */
        return ey > 0 && !(fabs(y) > ey) ? INFINITY : ex == INFINITY ? INFINITY : 0;
    }
    if (isinf(y)) {
        return ex > 0 && !(fabs(x) > ex) ? INFINITY : ey == INFINITY ? INFINITY : 0;
    }
    return times(x, ey) + times(y, ex) + times(ex, ey);
}

static double quotient(double x, double ex, double y, double ey)
{
    double away = fabs(y) - ey;
    if (ey > 0 && !(away > 0)) {
        return INFINITY;
    }
    if (ex == INFINITY || (y == 0 && ex > 0)) {
        return INFINITY;
    }
    if (isinf(x) || isinf(y)) {
        return 0;
    }
    return ey == 0 ? times(1 / y, ex) : (ex + times(x / y, ey)) / away;
}

/* Steps: floor and its like jump where the bound reaches the next integer. */
static double step_between(double low, double high)
{
    return low == high ? 0 : isfinite(low) && isfinite(high) ? high - low : INFINITY;
}

static double floor_of_quotient(double x, double ex, double y, double ey)
{
    double q = x / y, e = quotient(x, ex, y, ey);
    return e == 0 ? 0 : step_between(floor(q - e), floor(q + e));
}

static double remainder_bound(double x, double ex, double y, double ey)
{
    double jumps = floor_of_quotient(x, ex, y, ey);
    return jumps == 0          ? ex + times(floor(x / y), ey)
           : jumps == INFINITY ? INFINITY
                               : ex + fabs(y) * jumps;
}

static double lesser_or_greater(double x, double ex, double y, double ey, bool greater)
{
    if (isnan(x) || isnan(y)) { /* either may come out */
        return isnan(x) && isnan(y) ? larger(ex, ey) : INFINITY;
    }
    if (x == y) {
        return larger(ex, ey);
    }
    bool first = greater ? x > y : x < y;
    return fabs(x - y) > ex + ey ? (first ? ex : ey) : larger(ex, ey);
}

static double exponential(double r, double ex, double scale)
{
    if (ex == 0) {
        return 0;
    }
    double t = ex * scale;
    return t < 1e-4 ? r * t * (1 + t) : r == 0 && isfinite(t) ? 0 : r * expm1(t);
}

/* Results below the normal numbers may be flushed to 0 by an implementation of exp. */
static double flush(const qn_lanes *c)
{
    return c->result == QN_F64 ? 2.3e-308 : c->unit > 0 ? 1.2e-38 : 0;
}

static double logarithm(double x, double ex, double scale)
{
    return ex == 0 ? 0 : x > ex ? ex / (x - ex) * scale : x < -ex ? 0 : INFINITY;
}

static double root(double x, double ex, double r)
{
    return ex == 0 ? 0 : x > ex ? 0.5 * ex * r / (x - ex) : x < -ex ? 0 : INFINITY;
}

static double power(double x, double ex, double y, double ey, double r)
{
    if (ex == 0 && ey == 0) {
        return 0;
    }
    if (ex > 0 && !(fabs(x) > ex)) {
        return INFINITY;
    }
    double wide = fabs(r) > 0 ? fabs(r) : 0;
    return times(wide * y / x, ex) + times(wide * log(fabs(x)), ey);
}

static double own_power(double x, double y)
{
    double t = fabs(y * log(fabs(x)));
    return OWN_POW + (isfinite(t) ? 2 * t : 0);
}

static double own_exp(double x)
{
    return OWN_EXP + (isfinite(x) ? fabs(x) : 0);
}

static double bounded(const qn_lanes *c, double r, double e, double x)
{
    double wide = isfinite(x) ? e + OWN_BOUNDED * c->unit : e;
    return qn_lanes_seal(c, r, smaller(wide, e == INFINITY ? INFINITY : 2), 0);
}

static double fma_bound(const qn_lanes *c, double x, double ex, double y, double ey, double ez,
                        double r)
{
    double p = x * y, e = product(x, ex, y, ey) + ez;
    if (e == 0 && isfinite(r) && isfinite(p)) {
        return seal_once(c, r, 0) + fabs(p - qn_round_float(c->result, p));
    }
    return qn_lanes_seal(c, r, isfinite(p) ? e + c->unit * fabs(p) : e, 1);
}

BOUND2(add_e, seal_once(c, r, ex + ey))
BOUND2(mul_e, seal_once(c, r, product(x, ex, y, ey)))
BOUND2(div_e, seal_once(c, r, quotient(x, ex, y, ey)))
BOUND2(floordiv_e, qn_lanes_seal(c, r, floor_of_quotient(x, ex, y, ey), 1))
BOUND2(mod_e, qn_lanes_seal(c, r, remainder_bound(x, ex, y, ey), 1))
BOUND1(same_e, ex)
BOUND2(min_e, lesser_or_greater(x, ex, y, ey, false))
BOUND2(max_e, lesser_or_greater(x, ex, y, ey, true))
BOUND3(clamp_e, lesser_or_greater(fmax(x, y), lesser_or_greater(x, ex, y, ey, true), z, ez, false))
BOUND3(fma_e, fma_bound(c, x, ex, y, ey, ez, r))
BOUND2(pow_e, qn_lanes_seal(c, r, power(x, ex, y, ey, r), own_power(x, y)))
BOUND1(exp_e, qn_lanes_seal(c, r, exponential(r, ex, 1) + flush(c), own_exp(x)))
BOUND1(exp2_e, qn_lanes_seal(c, r, exponential(r, ex, 0.6931471805599453) + flush(c), own_exp(x)))
BOUND1(log_e, qn_lanes_seal(c, r, logarithm(x, ex, 1) + c->unit, OWN_LOG))
BOUND1(log2_e, qn_lanes_seal(c, r, logarithm(x, ex, 1.4426950408889634) + c->unit, OWN_LOG))
BOUND1(sqrt_e, seal_once(c, r, root(x, ex, r)))
BOUND1(rsqrt_e, qn_lanes_seal(c, r, root(x, ex, r), OWN_RSQRT))
BOUND1(sin_e, bounded(c, r, times(cos(x), ex) + 0.5 * ex * ex + c->unit * fabs(x), x))
BOUND1(cos_e, bounded(c, r, times(sin(x), ex) + 0.5 * ex * ex + c->unit * fabs(x), x))
BOUND1(tanh_e, bounded(c, r, times(1 - r * r, ex) + 0.4 * ex * ex, x))
BOUND1(erf_e, bounded(c, r, times(1.1283791670955126 * exp(-x * x), ex) + 0.5 * ex * ex, x))
BOUND1(sigmoid_e, qn_lanes_seal(c, r,
                                smaller(times(r *(1 - r), ex) + 0.05 * ex * ex,
                                        ex == INFINITY ? INFINITY : 1) +
                                    flush(c),
                                own_exp(x)))
BOUND1(floor_e, qn_lanes_seal(c, r, ex == 0 ? 0 : step_between(floor(x - ex), floor(x + ex)), 0))
BOUND1(ceil_e, qn_lanes_seal(c, r, ex == 0 ? 0 : step_between(ceil(x - ex), ceil(x + ex)), 0))
BOUND1(round_e,
       qn_lanes_seal(c, r, ex == 0 ? 0 : step_between(nearbyint(x - ex), nearbyint(x + ex)), 0))

/* ---------------------------------------------------------------- integers */

/* Two's complement at 64 bits first, then wrapped to the width of the result. */
#define INT2(NAME, EXPR)                                 \
    static void NAME(qn_lanes *c)                        \
    {                                                    \
        for (int64_t k = 0; k < c->n; k++) {             \
            int64_t x = c->i[0][k], y = c->i[1][k];      \
            uint64_t ux = (uint64_t)x, uy = (uint64_t)y; \
            (void)x, (void)y, (void)ux, (void)uy;        \
            c->ri[k] = (int64_t)(EXPR);                  \
        }                                                \
    }

static int64_t floor_quotient(int64_t x, int64_t y)
{
    if (y == -1) {
        return (int64_t)(0 - (uint64_t)x);
    }
    int64_t q = x / y;
    return x % y != 0 && (x < 0) != (y < 0) ? q - 1 : q;
}

INT2(add_i, ux + uy)
INT2(sub_i, ux - uy)
INT2(mul_i, ux *uy)
INT2(min_i, x < y ? x : y)
INT2(max_i, x > y ? x : y)
INT2(band_i, ux &uy)
INT2(bor_i, ux | uy)
INT2(bxor_i, ux ^ uy)

static void neg_i(qn_lanes *c)
{
    for (int64_t k = 0; k < c->n; k++) {
        c->ri[k] = (int64_t)(0 - (uint64_t)c->i[0][k]);
    }
}

static void abs_i(qn_lanes *c)
{
    for (int64_t k = 0; k < c->n; k++) {
        int64_t x = c->i[0][k];
        c->ri[k] = x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
    }
}

static void clamp_i(qn_lanes *c)
{
    for (int64_t k = 0; k < c->n; k++) {
        int64_t x = c->i[0][k], lo = c->i[1][k], hi = c->i[2][k];
        x = x > lo ? x : lo;
        c->ri[k] = x < hi ? x : hi;
    }
}

static void divide_i(qn_lanes *c, bool remainder)
{
    for (int64_t k = 0; k < c->n; k++) {
        int64_t x = c->i[0][k], y = c->i[1][k];
        if (y == 0) {
            c->fault = "an integer is divided by 0";
            return;
        }
        int64_t q = floor_quotient(x, y);
        c->ri[k] = remainder ? (int64_t)((uint64_t)x - (uint64_t)q * (uint64_t)y) : q;
    }
}

static void floordiv_i(qn_lanes *c)
{
    divide_i(c, false);
}

static void mod_i(qn_lanes *c)
{
    divide_i(c, true);
}

static void shift_i(qn_lanes *c, bool left)
{
    int width = 8 * qn_dtype_bytes(c->result);
    uint64_t mask = width >= 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
    for (int64_t k = 0; k < c->n; k++) {
        uint64_t x = (uint64_t)c->i[0][k] & mask;
        int64_t by = c->i[1][k];
        if (by < 0 || by >= width) {
            c->fault = "a shift count outside the width of its operand";
            return;
        }
        c->ri[k] = (int64_t)(left ? x << by : x >> by);
    }
}

static void shl_i(qn_lanes *c)
{
    shift_i(c, true);
}

static void shr_i(qn_lanes *c)
{
    shift_i(c, false);
}

/* ---------------------------------------------------------------- the table */

static const struct {
    void (*value)(const qn_lanes *c);
    void (*bound)(const qn_lanes *c);
    void (*integer)(qn_lanes *c);
} numeric[QN_OPS] = {
    [QN_OP_ADD] = {add_f, add_e, add_i},
    [QN_OP_SUB] = {sub_f, add_e, sub_i},
    [QN_OP_MUL] = {mul_f, mul_e, mul_i},
    [QN_OP_DIV] = {div_f, div_e, NULL},
    [QN_OP_FLOORDIV] = {floordiv_f, floordiv_e, floordiv_i},
    [QN_OP_MOD] = {mod_f, mod_e, mod_i},
    [QN_OP_NEG] = {neg_f, same_e, neg_i},
    [QN_OP_MIN] = {min_f, min_e, min_i},
    [QN_OP_MAX] = {max_f, max_e, max_i},
    [QN_OP_ABS] = {abs_f, same_e, abs_i},
    [QN_OP_CLAMP] = {clamp_f, clamp_e, clamp_i},
    [QN_OP_FMA] = {fma_f, fma_e, NULL},
    [QN_OP_POW] = {pow_f, pow_e, NULL},
    [QN_OP_EXP] = {exp_f, exp_e, NULL},
    [QN_OP_EXP2] = {exp2_f, exp2_e, NULL},
    [QN_OP_LOG] = {log_f, log_e, NULL},
    [QN_OP_LOG2] = {log2_f, log2_e, NULL},
    [QN_OP_SQRT] = {sqrt_f, sqrt_e, NULL},
    [QN_OP_RSQRT] = {rsqrt_f, rsqrt_e, NULL},
    [QN_OP_SIN] = {sin_f, sin_e, NULL},
    [QN_OP_COS] = {cos_f, cos_e, NULL},
    [QN_OP_TANH] = {tanh_f, tanh_e, NULL},
    [QN_OP_ERF] = {erf_f, erf_e, NULL},
    [QN_OP_SIGMOID] = {sigmoid_f, sigmoid_e, NULL},
    [QN_OP_FLOOR] = {floor_f, floor_e, NULL},
    [QN_OP_CEIL] = {ceil_f, ceil_e, NULL},
    [QN_OP_ROUND] = {round_f, round_e, NULL},
    [QN_OP_BAND] = {NULL, NULL, band_i},
    [QN_OP_BOR] = {NULL, NULL, bor_i},
    [QN_OP_BXOR] = {NULL, NULL, bxor_i},
    [QN_OP_SHL] = {NULL, NULL, shl_i},
    [QN_OP_SHR] = {NULL, NULL, shr_i},
};

/* ---------------------------------------------------------------- comparisons and bools */

#define COMPARE(OP, SIGN)                                                                \
    if (op == (OP)) {                                                                    \
        for (int64_t k = 0; k < c->n; k++) {                                             \
            c->ri[k] = floats ? c->f[0][k] SIGN c->f[1][k] : c->i[0][k] SIGN c->i[1][k]; \
        }                                                                                \
    }

static void compare(qn_op op, const qn_lanes *c)
{
    bool floats = qn_dtype_is_float(c->dtype);
    COMPARE(QN_OP_EQ, ==)
    COMPARE(QN_OP_NE, !=)
    COMPARE(QN_OP_LT, <)
    COMPARE(QN_OP_LE, <=)
    COMPARE(QN_OP_GT, >)
    COMPARE(QN_OP_GE, >=)
}

/* In doubt where the sides are closer than their bounds; infinities and NaN are what they are. */
static void compare_bound(const qn_lanes *c)
{
    bool floats = qn_dtype_is_float(c->dtype);
    for (int64_t k = 0; k < c->n; k++) {
        double reach = c->e[0][k] + c->e[1][k];
        bool doubt = reach > 0;
        if (doubt && floats && reach < INFINITY) {
            double x = c->f[0][k], y = c->f[1][k];
            doubt = isfinite(x) && isfinite(y) && fabs(x - y) <= reach;
        }
        c->re[k] = doubt ? INFINITY : 0;
    }
}

static void logic(qn_op op, const qn_lanes *c)
{
    for (int64_t k = 0; k < c->n; k++) {
        bool x = c->i[0][k] != 0, y = op == QN_OP_NOT ? false : c->i[1][k] != 0;
        c->ri[k] = op == QN_OP_NOT ? !x : op == QN_OP_AND ? x && y : x || y;
        if (c->re) {
            bool dx = c->e[0][k] > 0, dy = op != QN_OP_NOT && c->e[1][k] > 0;
            /* a side that is sure and decides makes the result sure */
            bool decided = op == QN_OP_AND  ? (!dx && !x) || (!dy && !y)
                           : op == QN_OP_OR ? (!dx && x) || (!dy && y)
                                            : false;
            c->re[k] = (dx || dy) && !decided ? INFINITY : 0;
        }
    }
}

/* select(c, a, b): operand 0 is the condition; where it is in doubt both arms are possible. */
static void select_lanes(const qn_lanes *c)
{
    bool floats = qn_dtype_is_float(c->dtype);
    for (int64_t k = 0; k < c->n; k++) {
        int arm = c->i[0][k] ? 1 : 2;
        if (floats) {
            c->rf[k] = c->f[arm][k];
        } else {
            c->ri[k] = c->i[arm][k];
        }
        if (!c->re) {
            continue;
        }
        double e = c->e[arm][k];
        if (c->e[0][k] > 0) {
            double other = c->e[3 - arm][k], apart = 0;
            if (floats) {
                double a = c->f[1][k], b = c->f[2][k];
                apart = a == b ? 0 : isfinite(a) && isfinite(b) ? fabs(a - b) : INFINITY;
            } else {
                apart = c->i[1][k] == c->i[2][k] ? 0 : INFINITY;
            }
            e = larger(e, apart + other);
        }
        c->re[k] = e;
    }
}

/* ---------------------------------------------------------------- casts */

static void cast_to_float(qn_lanes *c)
{
    bool from_float = qn_dtype_is_float(c->dtype);
    double unit = from_float ? qn_unit_roundoff(c->dtype) : 0;
    for (int64_t k = 0; k < c->n; k++) {
        double x = from_float ? c->f[0][k] : (double)c->i[0][k];
        c->rf[k] = x;
        if (!c->re) {
            continue;
        }
        double e = c->e[0][k];
        if (c->dtype == QN_BOOL && e > 0) {
            e = 1; /* it may be the other of 0 and 1 */
        }
        if (from_float && c->dtype != QN_FLT_LIT && unit <= c->unit && unit > 0 &&
            c->greatest >= qn_largest_finite(c->dtype)) {
            c->re[k] = e; /* to a wider format: exact */
        } else {
            c->re[k] = seal_once(c, x, e);
        }
    }
}

static void cast_to_int(qn_lanes *c)
{
    bool from_float = qn_dtype_is_float(c->dtype);
    double low = (double)qn_least_int(c->result), high = (double)qn_greatest_int(c->result);
    for (int64_t k = 0; k < c->n; k++) {
        double e = c->re ? c->e[0][k] : 0, doubt = e > 0 ? INFINITY : 0;
        if (from_float && c->result == QN_BOOL) {
            double x = c->f[0][k];
            c->ri[k] = x != 0;
            doubt = e > 0 && (e == INFINITY || fabs(x) <= e) ? INFINITY : 0;
        } else if (from_float) {
            double x = trunc(c->f[0][k]);
            /* 2^63 as a double is one past the greatest i64 */
            if (!(x >= low && (c->result == QN_I64 ? x < high : x <= high))) {
                c->fault = "a float outside the range of the integer it is cast to";
                return;
            }
            c->ri[k] = (int64_t)x;
            doubt =
                e > 0 && !(trunc(c->f[0][k] - e) == x && trunc(c->f[0][k] + e) == x) ? INFINITY : 0;
        } else {
            c->ri[k] = qn_wrap_int(c->result, c->i[0][k]);
        }
        if (c->re) {
            c->re[k] = doubt;
        }
    }
}

/* ---------------------------------------------------------------- one chunk */

static void integer_bound(const qn_lanes *c, int arity)
{
    for (int64_t k = 0; k < c->n; k++) {
        double e = c->e[0][k];
        for (int a = 1; a < arity; a++) {
            e = larger(e, c->e[a][k]);
        }
        c->re[k] = e > 0 ? INFINITY : 0;
    }
}

bool qn_lanes_run(qn_op op, qn_lanes *c)
{
    if (op == QN_OP_CAST) {
        if (qn_dtype_is_float(c->result)) {
            cast_to_float(c);
        } else {
            cast_to_int(c);
        }
    } else if (op == QN_OP_SELECT) {
        select_lanes(c);
    } else if (op == QN_OP_AND || op == QN_OP_OR || op == QN_OP_NOT) {
        logic(op, c);
    } else if (qn_op_is_compare(op)) {
        compare(op, c);
        if (c->re) {
            compare_bound(c);
        }
    } else if (qn_dtype_is_float(c->dtype)) {
        if (!numeric[op].value) {
            return false;
        }
        numeric[op].value(c);
        if (c->re) {
            numeric[op].bound(c);
        }
    } else {
        if (!numeric[op].integer) {
            return false;
        }
        numeric[op].integer(c);
        if (qn_dtype_bytes(c->result) < 8) {
            for (int64_t k = 0; k < c->n && !c->fault; k++) {
                c->ri[k] = qn_wrap_int(c->result, c->ri[k]);
            }
        }
        if (c->re) {
            integer_bound(c, qn_op_info_of(op)->arity);
        }
    }
    return true;
}
