/* SPDX-License-Identifier: MIT
 *
 * Routines that generated code calls through qn_abi_args.helpers: what would be dear to generate
 * again for every kernel, or needs the mathematical library. Arrays are contiguous and may have any
 * alignment; a routine that gives results overwrites its first argument. */
#ifndef QN_BACKENDS_X86_HELPERS_H
#define QN_BACKENDS_X86_HELPERS_H

#include <stdint.h>

/* X(ID, function) */
#define QN_HELPERS(X)                   \
    X(GATHER, qn_help_gather)           \
    X(SCATTER, qn_help_scatter)         \
    X(SIN_F32, qn_help_sin_f32)         \
    X(COS_F32, qn_help_cos_f32)         \
    X(POW_F32, qn_help_pow_f32)         \
    X(EXP_F64, qn_help_exp_f64)         \
    X(EXP2_F64, qn_help_exp2_f64)       \
    X(LOG_F64, qn_help_log_f64)         \
    X(LOG2_F64, qn_help_log2_f64)       \
    X(SIN_F64, qn_help_sin_f64)         \
    X(COS_F64, qn_help_cos_f64)         \
    X(TANH_F64, qn_help_tanh_f64)       \
    X(ERF_F64, qn_help_erf_f64)         \
    X(SIGMOID_F64, qn_help_sigmoid_f64) \
    X(POW_F64, qn_help_pow_f64)

enum {
#define X(ID, function) QN_HELP_##ID,
    QN_HELPERS(X)
#undef X
        QN_HELPER_COUNT
};

/* Lanes that are strided in memory, and registers in a row:
 *
 *     registers[c][lane]  <->  memory[lane * stride + c]      for lo <= lane < hi, from <= c < to
 *
 * elsewhere a gather puts the pad and a scatter does nothing. shape, from its low byte: lo, hi,
 * from, to, lanes of a register, count of registers, bytes of an element. */
void qn_help_gather(void *registers, const void *memory, int64_t stride, int64_t shape,
                    int64_t pad);
void qn_help_scatter(const void *registers, void *memory, int64_t stride, int64_t shape);

extern const void *const qn_helpers_table[QN_HELPER_COUNT];

#endif
