/* SPDX-License-Identifier: MIT
 *
 * A target: facts and slots. What a text needs to become code for a machine. */
#ifndef QN_BACKENDS_TARGET_H
#define QN_BACKENDS_TARGET_H

#include "ir/abi.h"
#include "ir/ir.h"
#include "passes/pass.h"
#include "runtime/quern.h" /* qn_status */

enum { QN_MAX_LAUNCHES = 16 };

/* Machine code of one kernel (one plan): a blob that runs wherever it is mapped. */
typedef struct qn_code {
    const unsigned char *bytes; /* code and constants, to be mapped 64-byte aligned, read + execute */
    int64_t size;
    uint32_t setup; /* offset */
    int32_t nlaunches, nbufs;
    qn_abi_launch launches[QN_MAX_LAUNCHES];
} qn_code;

/* One kernel to emit; the functions of its code are named after it. */
typedef struct qn_emit_item {
    const qn_ir_file *file;
    const qn_kernel_ir *kernel;
} qn_emit_item;

typedef struct qn_emit_options {
    bool assembly; /* assembly text instead of code */
} qn_emit_options;

typedef struct qn_emitted {
    qn_code code;
    const unsigned char *object; /* or NULL */
    int64_t object_size;
    const char *assembly; /* or NULL */
    double seconds_build, seconds_codegen; /* of building LLVM IR, and of LLVM's own work */
} qn_emitted;

typedef struct qn_target {
    const char *name;      /* "x86-64", "x86-64-v3", "x86-64-v4" */
    const char *isa;       /* as in QUERN_ISA: scalar, avx2, avx512 */
    qn_machine machine;
    bool (*here)(void);    /* can this machine run it? */
    /* Compiles n verified kernels of any level, of different names, into one object: out holds n,
     * which share bytes and object. Everything in it lives in ir's arena. Not QN_OK: an error is in d
     * (QN_E_TOOL: LLVM is absent). */
    qn_status (*emit)(const struct qn_target *t, qn_ir *ir, const qn_emit_item *items, int n,
                      const qn_emit_options *options, qn_emitted *out, qn_diags *d);
    const void *const *helpers; /* table for qn_abi_args.helpers, or NULL */
} qn_target;

extern const qn_target *const qn_targets[]; /* best first, NULL at the end */
const qn_target *qn_target_find(const char *name_or_isa); /* NULL: the best of this machine, QUERN_ISA obeyed */

#endif
