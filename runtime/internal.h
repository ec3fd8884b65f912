/* SPDX-License-Identifier: MIT
 * What the files of the runtime share: the context, the kernel, the pool. */
#ifndef QN_RUNTIME_INTERNAL_H
#define QN_RUNTIME_INTERNAL_H

#ifndef QN_UNSTABLE
#define QN_UNSTABLE
#endif
#include "backends/target.h"
#include "ir/ir.h"
#include "runtime/quern.h"

enum { QN_MAX_DIMS = 64, QN_MAX_TENSORS = 64, QN_MAX_SCALARS = 32, QN_MAX_PLANS = 4 };

struct qn_ctx {
    qn_alloc alloc;
    char *message; /* of the last call; owned */
    size_t message_cap;
    qn_arena answer; /* text that the last call returned */
    bool has_answer;
    double seconds, codegen_seconds;
};

typedef struct qn_dim_slot {
    const char *name;
    bool given;    /* an argument: bound from shapes or passed */
    int64_t fixed; /* literal value, or -1 */
} qn_dim_slot;

typedef struct qn_tensor_slot {
    qn_arg_info info;
    qn_dtype dtype;
    int32_t rank;
    int32_t dim[QN_MAX_AXES];    /* index of the dim of an axis, or -1 */
    int64_t extent[QN_MAX_AXES]; /* where dim is -1 */
    qn_sample sample;            /* of a spec's integer tensor */
} qn_tensor_slot;

typedef struct qn_scalar_slot {
    const char *name;
    qn_dtype dtype;
    bool has_default;
    qn_value value; /* the default */
} qn_scalar_slot;

/* One compiled plan. Its dims are its own (passes add derived ones). */
typedef struct qn_plan {
    const char *name;
    qn_code code;
    const char *map; /* where the blob is mapped, read + execute: the kernel's */
    int32_t ndims, nrequires;
    qn_dim_slot *dims;
    const char **requires;
    int32_t (*axis_dim)[QN_MAX_AXES]; /* per tensor: dim of each axis in this plan's numbering */
    bool listed[QN_MAX_LAUNCHES];     /* its tasks depend on what an earlier launch wrote */
} qn_plan;

struct qn_kernel {
    qn_alloc alloc;
    qn_arena arena; /* holds everything below */
    const qn_target *target;
    int32_t ntensors, nscalars, nplans;
    qn_tensor_slot *tensors;
    qn_scalar_slot *scalars;
    qn_plan plans[QN_MAX_PLANS];
    const char *explain;
    char *map; /* the blob of all plans */
    int64_t map_size;
    const unsigned char *object;
    int64_t object_size;
};

/* Sets the context's message; format NULL clears it. Truncates rather than fails. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void qn_ctx_say(qn_ctx *cx, const char *format, ...);
void qn_ctx_say_text(qn_ctx *cx, const char *text);

double qn_now(void); /* seconds of a monotonic clock */

/* pool.c: runs task(arg, 0..count-1, worker) on the pool and the caller's thread. */
void qn_pool_run(qn_pool *p, int64_t count, qn_task_fn task, void *arg);

/* compile.c: one compilation in the making; lives in `arena` until fini. */
typedef struct qn_build {
    qn_ctx *cx;
    qn_arena arena, scratch;
    qn_ir ir;
    qn_diags diags;
    const qn_options *options;
    const qn_target *target;
    const char *path, *text; /* of the source */
    size_t length;
    const char *pick;
    qn_kernel_ir *plans[QN_MAX_PLANS]; /* of a .qir with several plans */
    int32_t nplans;
    struct qn_spec *spec; /* NULL for .qir */
    qn_ir_file *naive;    /* as lowered or parsed */
    qn_kernel_ir *kernel; /* in naive */
    qn_schedule *user;    /* lines of options->schedule or of the file; never NULL */
    bool owns_text;
} qn_build;

typedef struct qn_plan_build { /* one plan on its way through the passes */
    const char *form;
    qn_ir_file *file;
    qn_kernel_ir *kernel;
    qn_schedule *schedule;
    qn_emitted emitted;
} qn_plan_build;

/* Reads and checks the source up to naive IR. Errors are in b->diags. The caller has set
 * b->arena.oom. */
qn_status qn_build_source(qn_build *b, qn_source source, const qn_options *options);
/* Runs the pipeline for one form; stop NULL: to the end. */
qn_status qn_build_plan(qn_build *b, const char *form, const char *stop, bool count,
                        qn_plan_build *out);
/* qn_check of a kernel that is compiled already from this very source and options; NULL: as
 * qn_check. */
qn_status qn_check_with(qn_ctx *cx, qn_source source, const qn_options *options, qn_kernel *with,
                        const qn_call *call, int use_oracle, qn_check_result *out);
/* The forms that a source has: "prefill", "decode"; a .qir has one, "". */
int qn_build_forms(const qn_build *b, const char *forms[QN_MAX_PLANS]);
/* Emits the plans and makes a kernel of them. */
qn_status qn_build_kernel(qn_build *b, qn_plan_build *plans, int nplans, qn_kernel **out);

#endif
