/* SPDX-License-Identifier: MIT
 * Machine code of a text, run plainly: no runtime, no threads, strides as asked. For tests of
 * backends and of passes that want numbers from code instead of from the oracle. */
#ifndef QN_TESTS_EXEC_H
#define QN_TESTS_EXEC_H

#include "backends/target.h"
#include "tests/support/support.h"

typedef struct qn_exec_options {
    const qn_target *target; /* NULL: the best here */
    bool backwards;          /* tasks in reverse */
    int32_t fence; /* 1: nothing is mapped right after a tensor and the scratch; 2: right before */
} qn_exec_options;

typedef struct qn_exec_result {
    qn_status status;     /* of the emission */
    int64_t setup;        /* what setup answered: 0, -1, k + 1 */
    qn_arg *outs;         /* every out and inout parameter, values only */
    int32_t nouts;
    int64_t flag;
    bool touched;         /* something outside a tensor was written */
    int64_t code_bytes;
} qn_exec_result;

/* Emits the kernel (NULL: the first) and runs it. Errors of emission are in lab->diags. */
qn_exec_result qn_exec(qn_lab *lab, const qn_ir_file *f, const char *kernel, const qn_args *a,
                       const qn_exec_options *options);
const qn_array *qn_exec_out(const qn_exec_result *r, const char *name); /* NULL: absent */

#endif
