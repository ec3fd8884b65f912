/* SPDX-License-Identifier: MIT
 *
 * What generated code sees: plain C structures, shared by the emitters and the runtime.
 *
 * A kernel is compiled to one position-independent blob without outside relocations. It holds, for
 * the kernel (one plan):
 *
 *   setup(args)                    fills the derived dims, then returns -1 if the kernel's !plan(..)
 *                                  condition is false, or k + 1 when require number k fails; else
 *                                  fills the bytes of call buffers and of a task's scratch, returns 0
 *   for each launch:
 *     list(args, table, room, skip)  enumerates tasks in task order: leaves out the first `skip`,
 *                                  writes rows of `width` words { cost, nest, par indices and end
 *                                  names in order } of the next ones into table, at most `room` of
 *                                  them; returns how many it wrote (room 0: how many there are in all)
 *     task(args, row, scratch)     runs one task
 *
 * All pointers of tensors point at element 0; strides are in elements; the innermost stride is 1
 * (the runtime packs what is not). */
#ifndef QN_IR_ABI_H
#define QN_IR_ABI_H

#include <stdint.h>

enum { QN_ABI_VERSION = 1, QN_ABI_MAX_RANK = 12, QN_ABI_MAX_BUFS = 64 };

typedef struct qn_abi_tensor {
    void *data;
    int64_t stride[QN_ABI_MAX_RANK]; /* elements; the last one in use is 1 */
} qn_abi_tensor;

typedef union qn_abi_scalar { /* one scalar parameter, in its own dtype at offset 0 */
    int64_t i64;
    int32_t i32;
    int16_t i16;
    int8_t i8;
    uint8_t u8;
    uint16_t f16; /* f16 and bf16 as bits */
    float f32;
    double f64;
} qn_abi_scalar;

typedef struct qn_abi_args {
    int64_t *dims;                /* every dim in the order of the kernel; setup fills the derived */
    const qn_abi_tensor *tensors; /* parameters with axes, in order */
    const qn_abi_scalar *scalars; /* parameters without, in order */
    void **bufs;                  /* call buffers in order of the text, 64-byte aligned */
    int64_t *buf_bytes;           /* filled by setup */
    int64_t *scratch_bytes;       /* one word, filled by setup: scratch of one task */
    int64_t *flag;                /* one word: ORed with bits below */
    const void *const *helpers;   /* table of helper routines of the ISA; order in the backend */
} qn_abi_args;

enum { QN_ABI_FLAG_INDEX = 1 }; /* flag(.., E_INDEX) */

typedef int64_t (*qn_abi_setup)(const qn_abi_args *args);
typedef int64_t (*qn_abi_list)(const qn_abi_args *args, int64_t *table, int64_t room, int64_t skip);
typedef void (*qn_abi_task)(const qn_abi_args *args, const int64_t *row, void *scratch);

/* One launch of a blob. */
typedef struct qn_abi_launch {
    uint32_t list, task; /* offsets of the functions in the blob */
    int32_t width;       /* words a row */
    int32_t serial;      /* 1: ordered stores, tasks run in task order on one thread */
} qn_abi_launch;

#endif
