/* SPDX-License-Identifier: MIT
 *
 * What a pass is, and the runner that orders, checks, times and prints them.
 *
 * A pass rewrites one kernel of a file in place, under a schedule. It reads the schedule and the
 * facts of the target, never writes them; what it found is printed into the text as facts; what it
 * could not do is a remark from why.def. It is deterministic. */
#ifndef QN_PASSES_PASS_H
#define QN_PASSES_PASS_H

#include "ir/ir.h"
#include "ir/schedule.h"

/* What passes may know of a machine. */
typedef struct qn_machine {
    const char *name;  /* "x86-64-v4" */
    int32_t lanes;     /* 32-bit lanes a register: 1, 8, 16 */
    int32_t registers; /* vector registers: 16, 32 */
    int64_t l1, l2;    /* bytes a core */
} qn_machine;

typedef struct qn_pass_cx {
    qn_ir *ir;                   /* the home of results and names */
    qn_arena *scratch;           /* released by the runner after the pass; never intern in it */
    const qn_schedule *schedule; /* never NULL */
    const qn_machine *machine;
    qn_diags *diags; /* errors and remarks */
} qn_pass_cx;

typedef struct qn_pass {
    const char *name; /* as in --passes= and in golden tests */
    const char *doc;  /* one sentence */
    /* Is the text ready for this pass? A predicate over the text, never a stored flag; NULL:
     * always. On false *why says what is missing. */
    bool (*ready)(const qn_ir_file *f, const qn_kernel_ir *k, const char **why);
    /* False: an error is in cx->diags. Nothing to do is success. */
    bool (*run)(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k);
} qn_pass;

extern const qn_pass qn_pass_canon, qn_pass_tile, qn_pass_stream, qn_pass_loops, qn_pass_ranges,
    qn_pass_fuse, qn_pass_unfuse, qn_pass_peel, qn_pass_split, qn_pass_pack, qn_pass_group,
    qn_pass_strip, qn_pass_leaf, qn_pass_hoist, qn_pass_bare, qn_pass_dce, qn_pass_count;

/* Every pass, in pipeline order, NULL at the end; count is not part of it. */
extern const qn_pass *const qn_pipeline[];
const qn_pass *qn_pass_find(const char *name); /* or NULL */

typedef struct qn_pipeline_options {
    const char *only; /* "tile,stream": these, in this order; NULL: the pipeline */
    const char *stop; /* run up to and with this one; NULL: all */
    bool reparse;     /* print and parse between every two passes */
    bool verify;      /* verify after every pass */
    /* Called after each pass, e.g. to print; may be NULL. */
    void (*after)(void *user, const qn_pass *p, const qn_ir_file *f, bool changed, double seconds);
    void *user;
} qn_pipeline_options;

/* Runs passes over the kernel of that name in *f (replaced when reparse is on). */
bool qn_pipeline_run(qn_pass_cx *cx, qn_ir_file **f, const char *kernel,
                     const qn_pipeline_options *options);

/* A remark with its code from why.def. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void qn_remark(qn_pass_cx *cx, const char *code, qn_place place, const char *format, ...);

/* The schedule a machine gives when nobody chose: every line the user's lacks, marked !by(default).
 * form: "prefill" or "decode". */
void qn_schedule_defaults(qn_ir *ir, qn_schedule *s, const qn_machine *m, const qn_ir_file *f,
                          const qn_kernel_ir *k, const char *form);

#endif
