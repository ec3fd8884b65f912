/* SPDX-License-Identifier: MIT
 *
 * The inside of the oracle. Files:
 *
 *     interp.c         the call: arguments, dims, requirements, results
 *     interp_run.c     statements, loops, launches
 *     interp_memory.c  buffers, loads, stores and the rules about them
 *     interp_eval.c    expressions: broadcasting by axis name, casts, folds
 *     interp_ops.c     the pointwise ops: values and error bounds
 *     interp_axis.c    the ops over axes
 *     interp_value.c   memory for tiles, tiles in another order of axes
 *
 * A tile (qn_val) is dense. Its numbers lie in one of two stacks: `temp` for what a statement
 * computes, `keep` for what a name holds; a statement releases temp, a loop's trip releases keep.
 * A name maps to one slot of a table for the whole run, which is enough because no name hides
 * another. A broken rule leaves by longjmp: nothing here owns anything but arenas. */
#ifndef QN_IR_INTERP_INTERNAL_H
#define QN_IR_INTERP_INTERNAL_H

#include "ir/interp.h"
#include "ir/tolerance.h"
#include "ir/type.h"
#include <setjmp.h>

typedef struct qn_val {
    qn_dtype dtype;
    int32_t rank;
    int64_t count; /* elements */
    double *f;     /* floats */
    double *e;  /* error bounds; NULL: exact. Of integers and bools: 0, or inf for "may differ" */
    int64_t *i; /* integers and bools */
    qn_sym axis[QN_MAX_AXES];
    int64_t n[QN_MAX_AXES];
} qn_val;

typedef enum qn_ring_state { QN_RING_FREE, QN_RING_STARTED, QN_RING_READY } qn_ring_state;

enum {
    QN_NO_TASK = -1,    /* tag: untouched in this launch; task: outside a launch */
    QN_MANY_TASKS = -2, /* tag of reads: several tasks, or the enumeration of tasks */
    QN_COMBINED = -3    /* tag of writes: store.add and its kin */
};

typedef struct qn_mem {
    qn_sym name;
    qn_dtype dtype;
    int32_t rank;
    int64_t shape[QN_MAX_AXES], count;
    double *f, *e;
    int64_t *i;
    bool shared;           /* by the tasks of a launch */
    int32_t *wrote, *read; /* tags, when shared */
    uint8_t *ring;         /* qn_ring_state a slot, or NULL */
    bool lost;             /* stored to at an index in doubt: no element has a verdict */
    struct qn_mem *next;   /* all that live through launches */
} qn_mem;

typedef struct qn_slot {
    qn_val *val;
    qn_mem *mem;
    const qn_fold_meaning *fold;
} qn_slot;

typedef struct qn_stack_block {
    struct qn_stack_block *next;
    char *bytes;
    size_t size, used;
} qn_stack_block;

typedef struct qn_stack { /* blocks are kept when released */
    qn_stack_block *first, *now;
} qn_stack;

typedef struct qn_stack_mark {
    qn_stack_block *block;
    size_t used;
} qn_stack_mark;

enum { QN_CHUNK = 512, QN_DEEPEST = 1200 };

typedef struct qn_interp_run {
    qn_ir *ir;
    const qn_ir_file *file;
    const qn_interp_options *options;
    bool bounds; /* exact mode: error bounds are carried */
    bool typed;
    qn_arena arena; /* everything of this run */
    qn_stack temp, keep, defer;
    int64_t bytes; /* taken by stacks and tables */
    uint64_t elements;
    int depth;
    qn_place place; /* of the statement at hand */
    struct {
        const void **key;
        qn_slot *slot;
        uint32_t count, cap;
    } names;
    /* the launch at hand */
    int32_t task;
    qn_mem *memories;
    struct qn_deferred *deferred;
    int64_t ndeferred, deferred_cap;
    bool full; /* inside a trip of a !full range */
    bool lost; /* a branch or bound hung on a comparison in doubt: no verdict from here on */
    const char *flag;
    /* buffers of one chunk of a pointwise op */
    double chunk_f[3][QN_CHUNK], chunk_e[3][QN_CHUNK];
    int64_t chunk_i[3][QN_CHUNK];
    double zeros[QN_CHUNK];
    /* how it ends */
    jmp_buf broken, oom, *outer; /* outer: where the caller's arena goes */
    qn_diags *diags;
} qn_interp_run;

/* ---------------------------------------------------------------- interp.c */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), noreturn))
#endif
void qn_interp_fail(qn_interp_run *in, const char *rule, const char *format, ...);
/* Counts n elements of work against the fuel. */
void qn_interp_burn(qn_interp_run *in, int64_t n);

/* ---------------------------------------------------------------- interp_value.c */

void *qn_stack_take(qn_interp_run *in, qn_stack *s, int64_t count, size_t size);
qn_stack_mark qn_stack_at(qn_interp_run *in, qn_stack *s);
void qn_stack_release(qn_stack *s, qn_stack_mark m);

qn_slot *qn_interp_slot(qn_interp_run *in, const void *key);

/* A tile with room for its numbers (undefined) and, with bounds, for its error bounds. */
qn_val *qn_val_new(qn_interp_run *in, qn_stack *s, qn_dtype dtype, int rank, const qn_sym *axis,
                   const int64_t *n);
qn_val *qn_val_int(qn_interp_run *in, qn_stack *s, int64_t x);
qn_val *qn_val_float(qn_interp_run *in, qn_stack *s, qn_dtype dtype, double x);
qn_val *qn_val_copy(qn_interp_run *in, qn_stack *s, const qn_val *v);
int qn_val_axis(const qn_val *v, qn_sym axis); /* its position or -1 */
/* Drops the bounds of an integer or bool tile if all are 0. */
void qn_val_trim(qn_val *v);

/* Element counts: fails with V-FUEL when the product would pass the memory limit. */
int64_t qn_interp_volume(qn_interp_run *in, int rank, const int64_t *n);

/* Walks a tile in the order of other axes, repeating it over those that it lacks. */
typedef struct qn_walker {
    int32_t rank;
    bool dense; /* the order asked for is its own */
    int64_t n[QN_MAX_AXES], stride[QN_MAX_AXES], at[QN_MAX_AXES], offset;
} qn_walker;
void qn_walker_init(qn_walker *w, const qn_val *v, int rank, const qn_sym *axis, const int64_t *n);
/* Copies the next `count` elements (of 8 bytes) to `to`, not moving on. */
void qn_walker_copy(const qn_walker *w, void *to, const void *from, int64_t count);
void qn_walker_skip(qn_walker *w, int64_t count);

/* The tile with exactly these axes in this order; itself if it already has them. */
const qn_val *qn_val_spread(qn_interp_run *in, const qn_val *v, int rank, const qn_sym *axis,
                            const int64_t *n);
/* The same into a tile that exists. */
void qn_val_spread_into(qn_interp_run *in, const qn_val *v, qn_val *to);

/* Union of the axes of several tiles in `to` (rank, axis, n, count). With `widest`, the order is
 * that of the operand with most axes, others before; else by first appearance. */
void qn_val_union(qn_interp_run *in, const qn_val *const *v, int count, bool widest, qn_val *to);

/* ---------------------------------------------------------------- interp_ops.c */

typedef struct qn_lanes { /* one chunk of a pointwise op: contiguous operands */
    int64_t n;
    qn_dtype dtype; /* of the operands */
    qn_dtype result;
    bool bounds;
    const double *f[3], *e[3];
    const int64_t *i[3];
    double *rf, *re;
    int64_t *ri;
    double unit, least, greatest; /* of the result's dtype, when it is a float */
    const char *fault;            /* V-ARITH: what went wrong */
} qn_lanes;

/* Computes a chunk of an op (casts and select included). False: there is no such op. */
bool qn_lanes_run(qn_op op, qn_lanes *c);
/* Error bound of r with the propagated error e and `own` roundings of it. */
double qn_lanes_seal(const qn_lanes *c, double r, double e, double own);
void qn_lanes_format(qn_lanes *c); /* fills unit, least, greatest from result */

/* ---------------------------------------------------------------- interp_eval.c */

qn_val *qn_interp_eval(qn_interp_run *in, const qn_expr *x);
int qn_interp_results(qn_interp_run *in, const qn_expr *x, qn_val **out); /* <= QN_MAX_AXES */
int64_t qn_interp_int(qn_interp_run *in, const qn_expr *x);               /* an integer scalar */
int64_t qn_interp_extent(qn_interp_run *in, qn_extent e);
/* Gives a literal type the dtype t: rounds in typed mode, bounds in exact mode. */
qn_val *qn_interp_settle(qn_interp_run *in, qn_val *v, qn_dtype t);
qn_val *qn_interp_op(qn_interp_run *in, qn_op op, qn_dtype cast, qn_val **args, int n);

/* ---------------------------------------------------------------- interp_axis.c */

int qn_interp_axop(qn_interp_run *in, const qn_expr *x, qn_val **args, qn_val **out);
/* reduce.sum(a * b, over ..) of floats that both have the axes, without the product as a tile. */
qn_val *qn_interp_sum_of_product(qn_interp_run *in, const qn_sym *over, int nover, qn_val *a,
                                 qn_val *b);

/* ---------------------------------------------------------------- interp_memory.c */

qn_mem *qn_mem_new(qn_interp_run *in, qn_stack *s, qn_sym name, qn_dtype dtype, int rank,
                   const int64_t *shape);
void qn_mem_undefined(qn_interp_run *in, qn_mem *m); /* as a buf is when it is reached */
void qn_mem_share(qn_interp_run *in, qn_mem *m);     /* lives through launches, tagged */
void qn_mem_untag(qn_interp_run *in);                /* a launch begins */
qn_val *qn_interp_load(qn_interp_run *in, const qn_expr *x);
void qn_interp_store(qn_interp_run *in, const qn_stmt *s);
void qn_interp_sync(qn_interp_run *in, const qn_stmt *s);
void qn_interp_land(qn_interp_run *in); /* the ordered stores of the launch, in task order */
/* Element [index.., last] of an integer tensor: a list's entry. */
int64_t qn_interp_entry(qn_interp_run *in, qn_sym base, const qn_exprs *index, int64_t last);

/* ---------------------------------------------------------------- interp_run.c */

void qn_interp_block(qn_interp_run *in, const qn_block *b);

#endif
