/* SPDX-License-Identifier: MIT
 *
 * What several passes need: walking the nests of a kernel with their environment, sizes of a
 * schedule, simplification, and the one step that all tiling consists of: axis:N becomes
 * index + axis:size. */
#ifndef QN_PASSES_TOOLS_H
#define QN_PASSES_TOOLS_H

#include "ir/type.h"
#include "ir/walk.h"
#include "passes/pass.h"

/* A set of names in the order they came, for the few dozen of a kernel. */
typedef struct qn_symset {
    qn_sym *at;
    int32_t count, cap;
} qn_symset;

bool qn_symset_has(const qn_symset *s, qn_sym name);
void qn_symset_add(qn_arena *a, qn_symset *s, qn_sym name);

/* The kernel at hand, as a pass sees it. */
typedef struct qn_tool {
    qn_pass_cx *cx;
    qn_ir *ir;
    qn_ir_file *file;
    qn_kernel_ir *kernel;
    qn_names *names;  /* every name of the kernel; fresh ones are added */
    qn_env *env;      /* dims, params, and what the body defined so far */
    qn_stmt *par;     /* the nest at hand */
    const char *nest; /* its !name, or NULL */
} qn_tool;

/* Calls f for every nest in order, t->env holding what is visible before it; stops on false.
 * The statements of the kernel's body are entered into t->env on the way. */
bool qn_each_nest(qn_pass_cx *cx, qn_ir_file *file, qn_kernel_ir *k, bool (*f)(qn_tool *t));

/* The number of `key subject` for the nest at hand; a free line gives the first number of its list,
 * or `otherwise` when it has none. */
int64_t qn_tool_size(const qn_tool *t, const char *key, const char *subject, int64_t otherwise);

/* The subjects of the key's lines that hold for the nest at hand, in the order of the schedule. */
qn_symset qn_tool_axes(const qn_tool *t, const char *key);

/* A name that the kernel does not use: "%m" becomes %m, or %m_1, .. */
qn_sym qn_tool_fresh(qn_tool *t, const char *base);
/* axis + "0": the index of the loop over blocks of an axis. */
qn_sym qn_tool_block_index(qn_tool *t, qn_sym axis);

/* Is the nest over whole dims: each index in 0..DIM? Then memory can have an axis for each index.
 */
bool qn_nest_over_dims(const qn_tool *t);
/* Those axes, with names that are free. */
void qn_par_axes(qn_tool *t, qn_axis *axes);

void qn_set_level(qn_ir *ir, qn_kernel_ir *k, const char *level);

/* Folds constants, drops neutral operands, resolves selects of known conditions; never changes a
 * type, axes included. Names are looked up in env; those of `truths` (may be NULL) are bools known
 * to be true everywhere. */
qn_expr *qn_simplify(qn_ir *ir, qn_env *env, const qn_symset *truths, qn_expr *x);
/* The same for every expression that the statement owns, nested blocks excluded. */
void qn_simplify_stmt(qn_ir *ir, qn_env *env, const qn_symset *truths, qn_stmt *s);
bool qn_is_bool(const qn_expr *x, bool value);

/* Is the name mentioned anywhere in the statement, nested blocks included? */
bool qn_stmt_mentions(const qn_stmt *s, qn_sym name);
/* Replaces names by expressions throughout a block. */
void qn_block_rename(qn_ir *ir, qn_block *b, const qn_binding *map, int n);

/* The extent of iota axis in the block, if it is the same everywhere; false if there is none or
 * several. An axis that is already cut has a constant extent: only those above `above` count. */
bool qn_axis_extent(const qn_block *b, qn_sym axis, int64_t above, qn_extent *out);

/* Is x, or one of the names that vary with the axis, mentioned? */
typedef struct qn_cut {
    qn_ir *ir;
    const qn_kernel_ir *kernel;
    qn_sym axis;
    qn_extent extent;  /* the whole */
    int64_t size;      /* of a block */
    qn_sym index;      /* of the loop over blocks */
    bool exact;        /* the size divides the extent: nothing overhangs */
    qn_symset rows;    /* names whose value has the axis */
    const qn_sym *own; /* bufs with the axis: their index stays axis:size */
    int nown;
} qn_cut;

bool qn_cut_touches(const qn_cut *c, const qn_expr *x);
/* axis:N becomes index + axis:size; loads it indexes become guarded unless exact. */
qn_expr *qn_cut_expr(qn_cut *c, qn_expr *x);
/* The same for a statement and its blocks: carried types are cut too, and a store whose index does
 * not end where the axis ends drops the overhang by index -1. */
void qn_cut_stmt(qn_cut *c, qn_stmt *s);
/* index + axis:size < N */
qn_expr *qn_cut_tail(const qn_cut *c);
qn_type qn_cut_type(const qn_cut *c, qn_type t);
/* Adds to rows the names of the block (nested too) whose values vary with the axis. */
void qn_cut_rows(qn_cut *c, qn_arena *a, const qn_block *b);

#endif
