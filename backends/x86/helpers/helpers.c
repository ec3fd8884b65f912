/* SPDX-License-Identifier: MIT
 * The mathematical library over arrays, and the table that generated code calls through. */
#include "backends/x86/helpers/helpers.h"
#include <math.h>

#define UNARY(name, type, call)           \
    static void name(type *x, int64_t n)  \
    {                                     \
        for (int64_t i = 0; i < n; i++) { \
            x[i] = call(x[i]);            \
        }                                 \
    }

#define BINARY(name, type, call)                        \
    static void name(type *x, const type *y, int64_t n) \
    {                                                   \
        for (int64_t i = 0; i < n; i++) {               \
            x[i] = call(x[i], y[i]);                    \
        }                                               \
    }

static double sigmoid(double x)
{
    double z = exp(-fabs(x));
    return x < 0 ? z / (1 + z) : 1 / (1 + z);
}

UNARY(qn_help_sin_f32, float, sinf)
UNARY(qn_help_cos_f32, float, cosf)
BINARY(qn_help_pow_f32, float, powf)
UNARY(qn_help_exp_f64, double, exp)
UNARY(qn_help_exp2_f64, double, exp2)
UNARY(qn_help_log_f64, double, log)
UNARY(qn_help_log2_f64, double, log2)
UNARY(qn_help_sin_f64, double, sin)
UNARY(qn_help_cos_f64, double, cos)
UNARY(qn_help_tanh_f64, double, tanh)
UNARY(qn_help_erf_f64, double, erf)
UNARY(qn_help_sigmoid_f64, double, sigmoid)
BINARY(qn_help_pow_f64, double, pow)

const void *const qn_helpers_table[QN_HELPER_COUNT] = {
#define X(ID, function) (const void *)(uintptr_t)function,
    QN_HELPERS(X)
#undef X
};
