/* SPDX-License-Identifier: MIT
 * Rounding to a dtype and the comparison of results; see tolerance.h. */
#include "ir/tolerance.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* A binary format: digits of the significand, exponents of its normal numbers. */
typedef struct format {
    int digits, least, greatest;
} format;

static format format_of(qn_dtype t)
{
    return t == QN_F16    ? (format){11, -14, 15}
           : t == QN_BF16 ? (format){8, -126, 127}
           : t == QN_F32  ? (format){24, -126, 127}
                          : (format){53, -1022, 1023};
}

static bool rounds(qn_dtype t)
{
    return t == QN_F16 || t == QN_BF16 || t == QN_F32 || t == QN_F64;
}

double qn_unit_roundoff(qn_dtype t)
{
    return rounds(t) ? ldexp(1.0, -format_of(t).digits) : 0.0;
}

double qn_smallest_normal(qn_dtype t)
{
    return ldexp(1.0, format_of(t).least);
}

double qn_largest_finite(qn_dtype t)
{
    format p = format_of(t);
    return ldexp(2.0 - ldexp(1.0, 1 - p.digits), p.greatest);
}

double qn_round_float(qn_dtype t, double x)
{
    if (t == QN_F32) {
        return (double)(float)x;
    }
    if ((t != QN_F16 && t != QN_BF16) || !isfinite(x)) {
        return x;
    }
    /* Adding and taking away 1.5 * 2^52 quanta leaves a multiple of the quantum, rounded to even
     * by the adder itself. */
    format p = format_of(t);
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52 & 0x7FF) - 1023;
    if (exponent < p.least) {
        exponent = p.least;
    }
    if (exponent > p.greatest + 1) {
        return x > 0 ? INFINITY : -INFINITY;
    }
    double quanta = ldexp(1.5, exponent - (p.digits - 1) + 52);
    volatile double up = x + quanta;
    double r = up - quanta;
    if (fabs(r) > qn_largest_finite(t)) {
        return x > 0 ? INFINITY : -INFINITY;
    }
    return r == 0 ? copysign(0.0, x) : r;
}

int64_t qn_wrap_int(qn_dtype t, int64_t x)
{
    uint64_t u = (uint64_t)x;
    int bits = 8 * qn_dtype_bytes(t);
    if (t == QN_BOOL) {
        return x != 0;
    }
    if (t == QN_U8) {
        return (int64_t)(u & 0xFF);
    }
    if (!qn_dtype_is_int(t) || bits >= 64) {
        return x;
    }
    uint64_t sign = (uint64_t)1 << (bits - 1), mask = (sign << 1) - 1;
    return (int64_t)(((u & mask) ^ sign) - sign);
}

int64_t qn_least_int(qn_dtype t)
{
    int bits = 8 * qn_dtype_bytes(t);
    return t == QN_U8 || t == QN_BOOL ? 0 : bits >= 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
}

int64_t qn_greatest_int(qn_dtype t)
{
    int bits = 8 * qn_dtype_bytes(t);
    return t == QN_BOOL ? 1
           : t == QN_U8 ? 255
           : bits >= 64 ? INT64_MAX
                        : ((int64_t)1 << (bits - 1)) - 1;
}

double qn_sum_growth(int64_t n)
{
    double d = (double)n;
    return n <= 64 ? d : 8.0 * sqrt(d);
}

double qn_tolerance(double exact, double bound, qn_dtype out)
{
    double e = 2 * bound, x = fabs(exact) + e, least = qn_smallest_normal(out);
    return e + qn_unit_roundoff(out) * (x > least ? x : least);
}

/* |exact - got| in units of what is accepted; 0 where both are the same NaN or infinity. */
static double ratio(double exact, double bound, double got, qn_dtype out)
{
    if (isnan(exact) || isnan(got)) {
        return isnan(exact) && isnan(got) ? 0 : INFINITY;
    }
    if (exact == got) {
        return 0;
    }
    if (isinf(exact)) {
        return INFINITY;
    }
    double tolerance = qn_tolerance(exact, bound, out);
    if (isinf(got)) {
        return fabs(exact) + tolerance > qn_largest_finite(out) && (got > 0) == (exact > 0)
                   ? 0
                   : INFINITY;
    }
    double d = fabs(exact - got);
    return tolerance > 0 ? d / tolerance : INFINITY;
}

static void judge(qn_verdict *v, double r, int64_t k)
{
    v->compared++;
    if (v->at < 0 || r > v->worst) {
        v->worst = r;
        v->at = k;
    }
    if (!(r <= 1)) {
        v->ok = false;
    }
}

qn_verdict qn_tolerance_check(const double *exact, const double *bound, const double *got,
                              int64_t n, qn_dtype out)
{
    qn_verdict v = {true, 0, -1, 0, 0};
    for (int64_t k = 0; k < n; k++) {
        double e = bound ? bound[k] : 0;
        if (!isfinite(e)) {
            v.skipped++;
        } else {
            judge(&v, ratio(exact[k], e, got[k], out), k);
        }
    }
    return v;
}

qn_verdict qn_tolerance_check_int(const int64_t *exact, const double *bound, const int64_t *got,
                                  int64_t n)
{
    qn_verdict v = {true, 0, -1, 0, 0};
    for (int64_t k = 0; k < n; k++) {
        if (bound && !isfinite(bound[k])) {
            v.skipped++;
        } else {
            judge(&v, exact[k] == got[k] ? 0 : INFINITY, k);
        }
    }
    return v;
}

qn_verdict qn_tolerance_twice(const double *exact, const double *naive, const double *got,
                              int64_t n, double least)
{
    qn_verdict v = {true, 0, -1, 0, 0};
    double reach = least / 2, far = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!isfinite(exact[k]) || !isfinite(naive[k])) {
            v.skipped++; /* equal infinities are the first rule's business */
            continue;
        }
        v.compared++;
        double d = fabs(naive[k] - exact[k]), g = fabs(got[k] - exact[k]);
        reach = d > reach ? d : reach;
        if (v.at < 0 || !(g <= far)) {
            far = isnan(g) ? INFINITY : g;
            v.at = k;
        }
    }
    v.worst = far == 0 ? 0 : reach > 0 ? far / (2 * reach) : INFINITY;
    v.ok = v.worst <= 1;
    return v;
}
