/* SPDX-License-Identifier: MIT
 * Traversal, comparison and rewriting of IR. */
#ifndef QN_IR_WALK_H
#define QN_IR_WALK_H

#include "ir/ir.h"

/* Structural equality; places are ignored. */
bool qn_expr_equal(const qn_expr *a, const qn_expr *b);
uint64_t qn_expr_hash(const qn_expr *x);

/* Calls f on x and everything below it, parents first; f returns false to skip what is below. */
typedef bool (*qn_visit_fn)(void *user, const qn_expr *x);
void qn_visit(const qn_expr *x, qn_visit_fn f, void *user);

/* The expressions a statement owns directly, in text order: right sides, indices, bounds, steps,
 * initial values, cost, condition, yields, the arguments of !full (those of other attributes are
 * words, and so are layouts and pads). Not those of nested blocks. */
void qn_stmt_exprs(const qn_stmt *s, qn_visit_fn f, void *user);
/* The same for a block and all that is nested in it. */
void qn_block_visit(const qn_block *b, qn_visit_fn f, void *user);
/* Calls f on every statement, nested ones too, outer first. */
void qn_block_stmts(const qn_block *b, void (*f)(void *user, qn_stmt *s), void *user);

/* Does some subexpression satisfy test? */
bool qn_contains(const qn_expr *x, bool (*test)(void *user, const qn_expr *e), void *user);
bool qn_mentions_name(const qn_expr *x, qn_sym name); /* as a name or as the base of a load */
bool qn_mentions_axis(const qn_expr *x, qn_sym axis); /* as an iota i:n */

/* Bottom-up copy: children first, then f on the node with its new children (f may return it
 * unchanged). Subtrees in which nothing changed are shared, not copied. */
typedef qn_expr *(*qn_rewrite_fn)(void *user, qn_expr *x);
qn_expr *qn_rewrite(qn_ir *ir, qn_expr *x, qn_rewrite_fn f, void *user);

/* Rewrites every expression of the statement in place (nested blocks too when deep). */
void qn_stmt_rewrite(qn_ir *ir, qn_stmt *s, bool deep, qn_rewrite_fn f, void *user);
void qn_block_rewrite(qn_ir *ir, qn_block *b, qn_rewrite_fn f, void *user);

/* Replaces names by expressions. Where a name stands for another name, loads from it follow. */
typedef struct qn_binding {
    qn_sym name;
    qn_expr *x;
} qn_binding;
qn_expr *qn_substitute(qn_ir *ir, qn_expr *x, const qn_binding *map, int n);

/* Deep copy of statements (expressions are immutable and stay shared). */
qn_stmt *qn_stmt_copy(qn_ir *ir, const qn_stmt *s);
qn_block qn_block_copy(qn_ir *ir, const qn_block *b);
qn_ir_file *qn_file_copy(const qn_ir_file *f);

/* Every name that the kernel defines or mentions: dims, params, values, bufs, indices, axes. */
typedef struct qn_names qn_names;
qn_names *qn_names_of_kernel(qn_ir *ir, const qn_kernel_ir *k);
bool qn_names_has(const qn_names *n, qn_sym name);
void qn_names_add(qn_names *n, qn_sym name);
/* A name not yet in the set (base, base_1, base_2 ..), which is added. */
qn_sym qn_names_fresh(qn_names *n, const char *base);

#endif
