/* SPDX-License-Identifier: MIT
 *
 * Inside of the pass `leaf`: one nest of tiles becomes loops over register blocks.
 *
 *     leaf_prepare.c    names made unique, operands that no loop changes named before it
 *     leaf_plan.c       a block becomes steps: straight statements, then one group (a loop over
 *                       axes) or one nested statement
 *     leaf_steps.c      when a step may be taken
 *     leaf_flatten.c    products and reductions become items, each with its lane axis
 *     leaf_buffers.c    what crosses a group goes through a task buffer
 *     leaf_trim.c       bounds beyond which an axis need not be walked, dropped guards
 *     leaf_print.c      groups become loops with register blocks
 *     leaf_positions.c  indices along lanes
 *     leaf_tidy.c       invariant scalars move out of loops
 *
 * Words. A *lane* axis lies in vector registers; a value has at most one, chosen for each item by
 * what lies side by side in memory. It is *whole* when all of it fits a few registers, else it is
 * walked in chunks. A *flat* axis is as long as its register block and is never walked. Every other
 * axis is a *loop* axis. A value without loop axes is *small*: it lives in registers in straight
 * code. A *big* value is *real* (computed once, for one element or in a buffer) or *virtual*
 * (written out where it is used). */
#ifndef QN_PASSES_LEAF_INTERNAL_H
#define QN_PASSES_LEAF_INTERNAL_H

#include "ir/build.h"
#include "ir/print.h"
#include "ir/type.h"
#include "ir/walk.h"
#include "passes/linear.h"
#include "passes/pass.h"

#include <setjmp.h>

enum { LEAF_MAX_LANES = 4, LEAF_MAX_OVER = QN_MAX_AXES };

typedef enum lf_kind { LF_VALUE, LF_MEMORY, LF_SCALAR } lf_kind; /* scalar: dim, param, index */

typedef enum lf_how { LF_PRE, LF_BIG, LF_RESULT } lf_how;

typedef struct lf_item lf_item;

/* What is known of a name of the nest. */
typedef struct lf_info {
    qn_sym name;
    lf_kind kind;
    qn_type type;
    qn_expr *def;  /* flattened definition of a virtual value or a position; NULL: opaque */
    bool real;     /* a big value that is computed once */
    bool dotted;   /* operand of a dot */
    bool task;     /* memory: a task buffer */
    bool mutable_; /* memory: stored to in this nest */
    bool crosses;  /* read by another group than the one that makes it */
    bool local;    /* defined inside the nest */
    bool pinned;   /* its buffer is read again in a later trip or a nested block */
    int uses;
    qn_sym lane;         /* in which it was computed */
    qn_sym buf;          /* the buffer that holds it, or NULL */
    const qn_sym *order; /* memory: axes in order */
    /* placement in block `block`; see leaf_plan.c for times */
    int block, step;
    lf_how how;
    lf_item *last; /* last reader in that block */
    /* memory: time from which it may be read, and after which it may be stored to, in `mblock` */
    int mblock, stored, read;
} lf_info;

typedef enum lf_item_kind { LF_LET, LF_DOT, LF_RED, LF_STORE, LF_CARRY } lf_item_kind;

/* One thing a group does for every element of its loop axes. */
struct lf_item {
    lf_item_kind kind;
    qn_sym name;
    qn_expr *x;     /* let, red, store, carry */
    qn_expr *a, *b; /* dot; b NULL: a reduction that keeps loop axes */
    qn_expr *init;  /* dot, red: what the accumulator starts from, or NULL */
    qn_axop op;     /* red, and dot without b */
    const qn_sym *over;
    int nover;
    const qn_axis *axes; /* loop axes, with their extents */
    int naxes;
    qn_sym lane;
    qn_type type;  /* of the value made */
    qn_stmt *stmt; /* of a store */
    qn_sym target; /* carry: whose buffer is written */
};

typedef struct lf_step {
    const qn_axis *axes;
    int naxes;
    qn_sym lane;
    struct {
        lf_item **at;
        int32_t count, cap;
    } items;
    qn_block pre;
    qn_stmt *nested; /* a loop or an if, already rewritten */
} lf_step;

typedef struct lf_steps {
    lf_step *at;
    int32_t count, cap;
} lf_steps;

/* Upper bounds of an axis: it need not be walked from there on. */
typedef struct lf_bounds {
    const qn_lin **at;
    int32_t count, cap;
} lf_bounds;

typedef struct lf_consumer { /* all that consumes one axis in a block */
    qn_sym axis;
    qn_extent extent;
    lf_bounds common; /* bounds that every consumer has */
} lf_consumer;

typedef struct lf_consumers {
    lf_consumer *at;
    int32_t count, cap;
} lf_consumers;

typedef struct lf_trim {
    qn_sym axis;
    qn_sym count;                /* walked are 0..count */
    const qn_lin *const *bounds; /* count is at most each of them, or 0 */
    int nbounds;
} lf_trim;

typedef struct lf_lane {
    qn_sym axis;
    bool whole;
    int64_t extent; /* -1: not constant */
    bool block;     /* of a block: what lies beyond belongs to another task or trip */
} lf_lane;

/* Lane axes that are walked even where they would fit: an item has them as a loop axis. */
typedef struct lf_walked {
    qn_sym at[LEAF_MAX_LANES];
    int count;
    int shrink; /* register blocks are halved so often, since values did not fit */
} lf_walked;

typedef struct lf_buf {
    qn_sym name;
    qn_type type;
    qn_stmt *stmt;
    int freed; /* in the pool: the last block that was planned when it got there */
} lf_buf;

typedef struct lf_bufs {
    lf_buf *at;
    int32_t count, cap;
} lf_bufs;

typedef struct lf_ctx { /* axes replaced by index expressions while an element is printed */
    struct {
        qn_sym axis;
        qn_expr *x;
    } at[QN_MAX_AXES * 2];
    int count;
    const qn_sym *here; /* names computed in this body */
    int nhere;
    qn_sym lane;  /* the lane axis of what is printed, or NULL */
    bool renamed; /* under `as`: axes are not walked by their own names */
} lf_ctx;

typedef struct leaf {
    qn_pass_cx *cx;
    qn_ir *ir;
    qn_arena *scratch;
    const qn_ir_file *file;
    qn_kernel_ir *kernel;
    const char *nest; /* its name for schedule lines, or NULL */
    qn_names *names;
    qn_env *env; /* every (unique) name of the nest, flat */
    int64_t width, registers;
    lf_lane lanes[LEAF_MAX_LANES];
    int nlanes;
    struct { /* hash table of lf_info by name */
        lf_info **at;
        int32_t count, cap;
    } info;
    lf_bufs bufs, pool; /* all; those whose last value is dead */
    struct {
        lf_trim *at;
        int32_t count, cap;
    } trims;
    qn_facts *facts; /* of the nest as it came, at the statement being planned */
    lf_walked *walked;
    bool narrowed; /* some 32-bit values do because sizes are required to be small */
    int blocks;    /* number of the last block planned */
    jmp_buf *refuse;
    qn_place why_place;
    const char *why;
} leaf;

/* The nest stays as it is, with W-PLAIN and these words. Does not return. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), noreturn))
#endif
void leaf_refuse(leaf *lf, qn_place place, const char *format, ...);

/* The nest is planned once more with the lane axis walked. Does not return. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void leaf_walk_lane(leaf *lf, qn_sym axis);

/* ---------------------------------------------------------------- names and types (leaf.c) */
lf_info *leaf_info(leaf *lf, qn_sym name); /* NULL: not a name of the nest */
lf_info *leaf_define(leaf *lf, qn_sym name, lf_kind kind, qn_type type);
qn_sym leaf_fresh(leaf *lf, const char *base);
qn_type leaf_type(leaf *lf, const qn_expr *x); /* refuses what is ill-typed */
int64_t leaf_const(leaf *lf, qn_extent e);     /* -1: not constant */
bool leaf_is_lane(const leaf *lf, qn_sym axis);
const lf_lane *leaf_lane_of(const leaf *lf, qn_sym axis);
bool leaf_is_flat(leaf *lf, qn_axis a);
bool leaf_is_small(leaf *lf, const qn_type *t);
/* The loop axes of a type when `lane` is the lane axis of the item. */
int leaf_loop_axes(leaf *lf, const qn_type *t, qn_sym lane, const qn_axis **out);
int64_t leaf_block_line(leaf *lf, qn_sym axis); /* `block axis n`, or 0 */
bool leaf_type_has(const qn_type *t, qn_sym axis);
void leaf_stmt_reads(leaf *lf, const qn_stmt *s, void (*f)(leaf *, void *, const qn_expr *),
                     void *user); /* every expression of s and of what is nested in it */

void leaf_enter_nest(leaf *lf, const qn_stmt *launch, const qn_stmt *nest);
leaf *leaf_new(qn_pass_cx *cx, const qn_ir_file *f, qn_kernel_ir *k, const qn_stmt *nest,
               lf_walked *walked);
bool leaf_block_mentions(const qn_block *b, qn_sym name);
qn_block leaf_rest(const qn_block *b, int at); /* statements from `at` on */

/* ---------------------------------------------------------------- leaf_prepare.c */
void leaf_unique(leaf *lf, qn_stmt *nest);
void leaf_hoist(leaf *lf, qn_stmt *nest);
void leaf_register(leaf *lf, const qn_stmt *nest); /* types of every name, uses */

/* ---------------------------------------------------------------- leaf_steps.c */
typedef struct lf_plan { /* one block being planned */
    leaf *lf;
    int block;
    lf_steps steps;
    qn_block tail; /* straight statements after the last step so far */
    lf_consumers consumers;
    lf_bufs own; /* buffers of values of this block */
} lf_plan;

bool leaf_virtual(const lf_info *v);
qn_expr *leaf_expand(leaf *lf, qn_expr *x); /* virtual values written out */
bool leaf_is_big(leaf *lf, const lf_info *v);
bool leaf_is_as(void *user, const qn_expr *x);
bool leaf_same_key(const lf_step *s, const qn_axis *axes, int n, qn_sym lane);
/* The time from which x can be computed by an item with these axes. strict: what is big is read at
 * other elements too. */
int leaf_ready(lf_plan *p, qn_expr *x, const qn_axis *axes, int n, qn_sym lane, bool strict);
int leaf_later(int a, int b);
typedef struct lf_reading {
    lf_plan *p;
    int t;
} lf_reading;
bool leaf_note_read(void *reading, const qn_expr *x); /* memory that x itself reads */
void leaf_note_reads(lf_plan *p, qn_expr *x, int t);
void leaf_note_store(lf_plan *p, qn_sym base, int t);
int leaf_put_straight(lf_plan *p, qn_stmt *s, int t);
lf_step *leaf_new_step(lf_plan *p);
int leaf_put_item(lf_plan *p, lf_item *it, int t);
lf_info *leaf_new_value(leaf *lf, qn_sym name, qn_type type);

/* ---------------------------------------------------------------- leaf_flatten.c */
qn_sym leaf_choose_lane(leaf *lf, const qn_type *space, qn_expr *const *xs, int nxs,
                        const qn_sym *over, int nover, const qn_stmt *store);
lf_item *leaf_new_item(leaf *lf, lf_item_kind kind, qn_sym name, const qn_type *space, qn_sym lane);
qn_expr *leaf_make_real(lf_plan *p, qn_sym name, qn_expr *x, qn_sym lane);
qn_expr *leaf_flatten(lf_plan *p, qn_expr *x);
bool leaf_reads_mutable(void *lf, const qn_expr *x);
int leaf_size_of(leaf *lf, qn_expr *x); /* nodes, virtual values written out */
bool leaf_be_real(leaf *lf, const lf_info *v, qn_expr *x);

/* ---------------------------------------------------------------- leaf_buffers.c */
void leaf_need(lf_plan *p, lf_info *v);
void leaf_give_buffers(lf_plan *p);

/* ---------------------------------------------------------------- leaf_plan.c */
typedef struct lf_target { /* what a yield gives its values to */
    qn_sym name;
    qn_type type;
} lf_target;
qn_block leaf_block(leaf *lf, const qn_block *body, const lf_target *targets, int ntargets);

/* ---------------------------------------------------------------- leaf_trim.c */
/* Bounds beyond which x is the identity of op along the axis (QN_AXOPS: of a dot, zero). */
lf_bounds leaf_mask_bounds(leaf *lf, qn_expr *x, qn_axop op, qn_sym axis);
/* The bound beyond which the store drops everything along the axis. */
lf_bounds leaf_store_bounds(leaf *lf, const qn_stmt *store, qn_sym axis);
void leaf_consume(leaf *lf, lf_consumers *c, qn_sym axis, qn_extent extent, const lf_bounds *b);
/* Prints the counts of axes that every consumer ignores beyond a bound; they are in lf->trims. */
void leaf_trim(leaf *lf, const lf_consumers *c, int block, qn_block *out);
/* Where the axis ends for every store of the nest, or NULL. */
qn_expr *leaf_axis_end(leaf *lf, const qn_stmt *nest, qn_sym axis);
/* The same for axes of the whole nest. */
qn_block leaf_pretrim(leaf *lf, const qn_stmt *nest);
const lf_trim *leaf_trim_of(const leaf *lf, qn_sym axis);
/* Is the index inside the extent wherever ctx walks? */
bool leaf_inside(leaf *lf, qn_expr *index, qn_extent extent, const lf_ctx *ctx);
/* W-GUARD for guards that stayed in innermost loops. */
void leaf_report_guards(leaf *lf, const qn_stmt *nest);

/* ---------------------------------------------------------------- leaf_positions.c */
/* A comparison or a float cast of positions that differ along the lanes, with i64 left to scalars;
 * NULL if that cannot be. */
qn_expr *leaf_positions(leaf *lf, qn_expr *x, const lf_ctx *ctx);
/* Adds to the kernel what 32-bit positions need. */
void leaf_require_sizes(leaf *lf, qn_stmt *nest);

/* ---------------------------------------------------------------- leaf_print.c */
qn_expr *leaf_inst(leaf *lf, qn_expr *x, const lf_ctx *ctx);
qn_expr *leaf_axis_at(const lf_ctx *ctx, qn_sym axis); /* what stands for the axis, or NULL */
void leaf_straight(leaf *lf, qn_stmt *s, qn_block *out);
void leaf_group(leaf *lf, lf_step *st, qn_block *out);
void leaf_invariants(leaf *lf, qn_block *body);

#endif
