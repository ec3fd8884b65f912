/* SPDX-License-Identifier: MIT
 *
 * quern: attention kernels for C programs, compiled from small Lua specs.
 *
 *     qn_ctx *cx = qn_ctx_create(NULL);
 *     qn_kernel *k = NULL;
 *     if (qn_compile(cx, qn_file("causal.lua"), &(qn_options){.size = sizeof(qn_options), .dims =
 * "D=64"}, &k) != QN_OK) fputs(qn_ctx_message(cx), stderr); const DLTensor *args[] = {&q, &key, &v,
 * &o}; if (qn_run(k, &(qn_call){.size = sizeof(qn_call), .args = args, .nargs = 4}) != QN_OK) ..
 *     qn_kernel_destroy(k);
 *     qn_ctx_destroy(cx);
 *
 * A qn_ctx belongs to one thread at a time. A qn_kernel is immutable: any number of threads may run
 * it at once. Nothing here prints, aborts or exits. Structures start with their size, so that they
 * can grow; a zero field means its default. */
#ifndef QUERN_H
#define QUERN_H

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QN_API __attribute__((visibility("default")))
#else
#define QN_API
#endif

#define QN_VERSION "0.1.0"
#define QN_ABI     1 /* changes when a structure or a function here changes its meaning */

/* ---------------------------------------------------------------- statuses */

#define QN_STATUS_MAP(X)                                                           \
    X(OK, 0, "no error")                                                           \
    X(E_MEMORY, -1, "out of memory")                                               \
    X(E_SPEC, -2, "the spec has errors; see the message")                          \
    X(E_TARGET, -3, "the target cannot run this kernel")                           \
    X(E_ARG, -4, "an argument has the wrong shape, type or layout")                \
    X(E_INDEX, -5, "an index read from data was out of range, or a divisor was 0") \
    X(E_IO, -6, "a file could not be read or written")                             \
    X(E_TOOL, -7, "a tool that compiling needs (LLVM) is absent")                  \
    X(E_REMARK, -8, "a remark that the options make an error")                     \
    X(E_INTERNAL, -99, "a bug in quern; please report the dump")

typedef enum qn_status {
#define X(name, value, text) QN_##name = value,
    QN_STATUS_MAP(X)
#undef X
} qn_status;

/* The status as English text; never NULL. */
QN_API const char *qn_status_text(qn_status status);

/* QN_ABI of the library at run time. */
QN_API int qn_abi_version(void);

/* ---------------------------------------------------------------- context */

typedef struct qn_ctx qn_ctx;
typedef struct qn_kernel qn_kernel;
typedef struct qn_pool qn_pool;

typedef struct qn_config {
    uint32_t size; /* sizeof(qn_config) */
    /* Allocator: (user, NULL, 0, n) allocates, (user, p, old, 0) frees. NULL: malloc. */
    void *(*realloc_fn)(void *user, void *p, size_t old_size, size_t new_size);
    void *user;
} qn_config;

/* NULL config: defaults. Returns NULL only when memory is out. */
QN_API qn_ctx *qn_ctx_create(const qn_config *config);
QN_API void qn_ctx_destroy(qn_ctx *cx); /* NULL is fine; kernels outlive their context */

/* Every diagnostic of the last call on cx, with places and carets; "" if there was none. Valid
 * until the next call on cx. */
QN_API const char *qn_ctx_message(const qn_ctx *cx);

/* ---------------------------------------------------------------- sources */

typedef enum qn_source_kind {
    QN_SOURCE_AUTO, /* by the path's ending: .qir is IR text, all else Lua */
    QN_SOURCE_LUA,
    QN_SOURCE_QIR
} qn_source_kind;

/* A spec or IR text, by value; everything it points to belongs to the caller. */
typedef struct qn_source {
    uint32_t size; /* sizeof(qn_source) */
    qn_source_kind kind;
    const char *path; /* file to read, or the name in messages when text is given */
    const char *text; /* NULL: read the file */
    size_t length;    /* of text */
    const char *pick; /* one spec of a table of specs, one kernel of a .qir; NULL: the only one */
    /* Serves `require` of sibling files: returns text (valid until the call returns) or NULL.
     * NULL: files beside `path`. */
    const char *(*read)(void *user, const char *name, size_t *length);
    void *user;
} qn_source;

/* "path" or "path:name". */
QN_API qn_source qn_file(const char *path);
QN_API qn_source qn_text(const char *name, const char *text);

/* ---------------------------------------------------------------- compiling */

typedef struct qn_options {
    uint32_t size;        /* sizeof(qn_options) */
    const char *target;   /* "x86-64-v4", "x86-64-v3", "x86-64", or NULL: this machine */
    const char *types;    /* of inputs: "q=f16 k=f16 v=f16"; NULL: f32 */
    const char *dims;     /* fixed sizes: "D=64 Dv=64"; an open D is slow (remark W-DYND) */
    const char *schedule; /* schedule text that replaces the default's lines; NULL: defaults */
    const char *errors;   /* remarks that are errors: "W-PLAIN W-GUARD"; NULL: none */
    uint32_t flags;       /* QN_COMPILE_* */
} qn_options;

enum {
    QN_COMPILE_REPARSE =
        1,               /* print and parse the IR between every two passes and before emission */
    QN_COMPILE_TRUST = 2 /* believe bare loads and facts of a .qir text: unsafe on wrong texts */
};

/* Compiles for options->target. On success *out is owned by the caller and outlives cx. On failure
 * *out is NULL and qn_ctx_message(cx) holds every diagnostic. */
QN_API qn_status qn_compile(qn_ctx *cx, qn_source source, const qn_options *options,
                            qn_kernel **out);
QN_API void qn_kernel_destroy(qn_kernel *k); /* NULL is fine */

/* ---------------------------------------------------------------- a kernel's arguments */

typedef enum qn_arg_kind { QN_ARG_IN, QN_ARG_OUT, QN_ARG_INOUT } qn_arg_kind;

typedef struct qn_arg_info {
    const char *name;
    qn_arg_kind kind;
    DLDataType dtype;
    int32_t ndim;
    const char *const *dims; /* a dim's name or a number, ndim of them */
} qn_arg_info;

/* Tensors in the order of qn_call.args: q k v, captured tensors as declared, then o and outputs. */
QN_API int qn_kernel_args(const qn_kernel *k);
QN_API const qn_arg_info *qn_kernel_arg(const qn_kernel *k, int index); /* NULL out of range */
QN_API int qn_kernel_arg_index(const qn_kernel *k, const char *name);   /* -1: no such */

typedef struct qn_value { /* a scalar parameter of the call */
    DLDataType dtype;
    union {
        int64_t i;
        double f;
    } u;
} qn_value;

QN_API int qn_kernel_params(const qn_kernel *k);
QN_API const char *qn_kernel_param(const qn_kernel *k, int index);
QN_API qn_value qn_kernel_param_default(const qn_kernel *k, int index);
QN_API int qn_kernel_param_index(const qn_kernel *k, const char *name);

/* ---------------------------------------------------------------- running */

/* The caller's own parallel-for: calls task(arg, index, worker) once for every index in 0..count,
 * in any order, on any threads; worker is less than the number given in qn_call.workers and no two
 * calls with one worker overlap. Returns when all are done. */
typedef void (*qn_task_fn)(void *arg, int64_t index, int worker);
typedef void (*qn_parallel_for)(void *user, int64_t count, qn_task_fn task, void *arg);

typedef struct qn_call {
    uint32_t size; /* sizeof(qn_call) */
    int32_t nargs;
    const DLTensor *const *args; /* in the kernel's order */
    const qn_value *params;      /* in the kernel's order; NULL: defaults */
    int32_t nparams;
    int32_t ndims; /* sizes that no tensor's shape tells */
    const char *const *dim_names;
    const int64_t *dim_values;
    int32_t workers;              /* of parallel_for */
    qn_pool *pool;                /* NULL and no parallel_for: the caller's thread */
    qn_parallel_for parallel_for; /* goes before pool */
    void *parallel_user;
    void *workspace; /* 64-byte aligned, qn_workspace() bytes; see there */
    size_t workspace_bytes;
    char *message; /* NULL, or where the words of an error go */
    size_t message_bytes;
} qn_call;

/* Bytes of workspace that this very call needs. A call without one allocates nothing and is refused
 * with QN_E_ARG when the answer is more than 0. */
QN_API qn_status qn_workspace(const qn_kernel *k, const qn_call *call, size_t *bytes);

/* Runs. Every tensor is checked before anything is written; o may not overlap an input. Strides may
 * be zero or negative. Bits do not depend on the pool. */
QN_API qn_status qn_run(const qn_kernel *k, const qn_call *call);

/* The plan that these arguments would take ("prefill", "decode"), or NULL when they are wrong. */
QN_API const char *qn_kernel_plan(const qn_kernel *k, const qn_call *call);

/* A pool of threads; 0: one a core of this process. NULL when memory or threads are out. After a
 * fork the pool restarts in the child; a call from inside one of its threads runs inline. */
QN_API qn_pool *qn_pool_create(int threads);
QN_API int qn_pool_threads(const qn_pool *p);
QN_API void qn_pool_destroy(qn_pool *p); /* NULL is fine */

/* ---------------------------------------------------------------- ahead of time */

/* The kernel's code as a relocatable object. *bytes belongs to the kernel. */
QN_API qn_status qn_kernel_object(const qn_kernel *k, const void **bytes, size_t *size);

/* ---------------------------------------------------------------- inspection (unstable) */
#ifdef QN_UNSTABLE

/* The arguments, parameters and sizes of a source without its code: for programs that bind
 * arguments by name before they compile. The kernel cannot run. */
QN_API qn_status qn_signature(qn_ctx *cx, qn_source source, const qn_options *options,
                              qn_kernel **out);
QN_API int qn_kernel_dims(const qn_kernel *k);
QN_API const char *qn_kernel_dim(const qn_kernel *k, int index); /* sizes that a call gives */

/* What the spec says may be put into an integer tensor that nobody gives: 0 nothing, 1 numbers from
 * *lo to *hi, 2 offsets that rise from 0 to the number of keys. Of a signature. */
QN_API int qn_kernel_sample(const qn_kernel *k, int index, int64_t *lo, int64_t *hi);

/* Floating-point operations that the definition asks for on these arguments: of a spec
 * 2 (D + Dv) for each kept pair, of a .qir twice the products of its dots. */
QN_API qn_status qn_work(qn_ctx *cx, qn_source source, const qn_options *options,
                         const qn_call *call, double *flops);

/* The text of a kernel at a level ("spec", "naive", "tiled", "leaf") or after a pass ("stream"), or
 * "schedule", "asm". Valid until the next call on cx; NULL on error (see qn_ctx_message). */
QN_API const char *qn_dump(qn_ctx *cx, qn_source source, const qn_options *options, const char *at,
                           const char *plan);

/* Algorithm, tiles, schedule with who chose each line, remarks: plain text. */
QN_API const char *qn_kernel_explain(const qn_kernel *k);

/* Runs passes ("tile,stream") over IR text. */
QN_API const char *qn_opt(qn_ctx *cx, qn_source source, const qn_options *options,
                          const char *passes);

typedef struct qn_check_result {
    uint32_t size;
    int64_t elements;   /* compared */
    int64_t skipped;    /* without a verdict: rounding alone can change them without limit */
    double worst;       /* largest |x - x*| / (2 bound + one output rounding): good up to 1 */
    double worst_naive; /* largest error over twice that of a naive run in the same types: good up
                           to 1 */
    double max_abs;     /* largest |x - x*| */
    const char *output; /* where the worst is */
    int64_t index;      /* flat index of it */
} qn_check_result;

/* Runs the kernel and the definition (or the interpreter: use_oracle, always for .qir) on the same
 * arguments and compares every element. QN_OK whether they agree or not: judge by the result. */
QN_API qn_status qn_check(qn_ctx *cx, qn_source source, const qn_options *options,
                          const qn_call *call, int use_oracle, qn_check_result *out);

typedef struct qn_count_result {
    uint32_t size;
    int64_t tiles, elements; /* visited tile products, and the elements in them */
} qn_count_result;

/* Counts from machine code with counters and from the interpreter. */
QN_API qn_status qn_count(qn_ctx *cx, qn_source source, const qn_options *options,
                          const qn_call *call, qn_count_result *machine, qn_count_result *oracle);

/* Seconds of the last qn_compile on cx: spec text to callable, and LLVM's own code generation. */
QN_API void qn_compile_seconds(const qn_ctx *cx, double *total, double *codegen);

#endif /* QN_UNSTABLE */

#ifdef __cplusplus
}
#endif
#endif
