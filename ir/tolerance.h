/* SPDX-License-Identifier: MIT
 *
 * When a computed number is right: the only place where quern decides it.
 *
 * The oracle gives x and a first-order bound of what rounding in the declared dtypes can do to it;
 * a computed y is accepted when  |x - y| <= 2 bound + one rounding to the output's dtype.
 * The factor 2 is for the second order. A bound of inf means that rounding alone can change the
 * answer without limit (a comparison too close to call, an undefined element): no verdict.
 *
 * A second rule needs no bounds: a result is at most twice as far from x as the naive evaluation
 * in f32 is. It keeps a fast kernel honest where the bound is generous. */
#ifndef QN_IR_TOLERANCE_H
#define QN_IR_TOLERANCE_H

#include "ir/ir.h"

/* What rounding does in a dtype. Literal types and integers behave as "never rounded". */
double qn_unit_roundoff(qn_dtype t); /* f16 2^-11, bf16 2^-8, f32 2^-24, f64 2^-53 */
double qn_smallest_normal(qn_dtype t);
double qn_largest_finite(qn_dtype t);
double qn_round_float(qn_dtype t, double x); /* to nearest, ties to even; overflow gives inf */
int64_t qn_wrap_int(qn_dtype t, int64_t x);  /* two's complement at the width; bool: x != 0 */
int64_t qn_least_int(qn_dtype t);
int64_t qn_greatest_int(qn_dtype t);

/* The rounding error of n additions in some order, in units of u times the sum of magnitudes:
 * n at worst; past 64 terms 8 sqrt(n), since so many roundings do not line up (as independent
 * errors of mean 0 they would pass that with a probability below 1e-13). */
double qn_sum_growth(int64_t n);

/* The largest |exact - computed| that is accepted. */
double qn_tolerance(double exact, double bound, qn_dtype out);

typedef struct qn_verdict {
    bool ok;
    double worst;     /* largest |exact - got| / tolerance */
    int64_t at;       /* where; -1 if nothing was compared */
    int64_t compared; /* elements with a verdict */
    int64_t skipped;  /* elements whose bound is inf */
} qn_verdict;

/* Compares n elements; bound NULL: all 0. NaN agrees with NaN only and an infinity with the same
 * infinity, or with a finite value that rounds to it within the tolerance. */
qn_verdict qn_tolerance_check(const double *exact, const double *bound, const double *got,
                              int64_t n, qn_dtype out);
/* Integers and bools: equal, or without a verdict. */
qn_verdict qn_tolerance_check_int(const int64_t *exact, const double *bound, const int64_t *got,
                                  int64_t n);

/* The second rule: max |got - exact| <= max(2 max |naive - exact|, least). `least` is the floor
 * that keeps a lucky naive run from making the rule impossible: the caller's 4 u sum p |v|. The
 * ratio of the two sides is in worst. */
qn_verdict qn_tolerance_twice(const double *exact, const double *naive, const double *got,
                              int64_t n, double least);

#endif
