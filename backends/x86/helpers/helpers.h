/* SPDX-License-Identifier: MIT
 *
 * Routines that generated code calls through qn_abi_args.helpers: what would be dear to generate
 * again for every kernel, or needs the mathematical library. Arrays are contiguous and may have any
 * alignment; a routine that gives results overwrites its first argument. */
#ifndef QN_BACKENDS_X86_HELPERS_H
#define QN_BACKENDS_X86_HELPERS_H

#include <stdint.h>

/* X(ID, function) */
#define QN_HELPERS(X)                                                                              \
    X(SIN_F32, qn_help_sin_f32)                                                                    \
    X(COS_F32, qn_help_cos_f32)                                                                    \
    X(POW_F32, qn_help_pow_f32)                                                                    \
    X(EXP_F64, qn_help_exp_f64)                                                                    \
    X(EXP2_F64, qn_help_exp2_f64)                                                                  \
    X(LOG_F64, qn_help_log_f64)                                                                    \
    X(LOG2_F64, qn_help_log2_f64)                                                                  \
    X(SIN_F64, qn_help_sin_f64)                                                                    \
    X(COS_F64, qn_help_cos_f64)                                                                    \
    X(TANH_F64, qn_help_tanh_f64)                                                                  \
    X(ERF_F64, qn_help_erf_f64)                                                                    \
    X(SIGMOID_F64, qn_help_sigmoid_f64)                                                            \
    X(POW_F64, qn_help_pow_f64)

enum {
#define X(ID, function) QN_HELP_##ID,
    QN_HELPERS(X)
#undef X
    QN_HELPER_COUNT
};

extern const void *const qn_helpers_table[QN_HELPER_COUNT];

#endif
