/* SPDX-License-Identifier: MIT
 *
 * Norms and monoids as passes use them: a norm's expressions with its names bound, its weighted
 * sums, a fold written as the plain statements that it means. */
#ifndef QN_PASSES_NORMS_H
#define QN_PASSES_NORMS_H

#include "passes/tools.h"

qn_expr *qn_zero(qn_ir *ir, qn_dtype t);
/* What a contraction of nothing gives, as a literal of the type. */
qn_expr *qn_neutral(qn_ir *ir, qn_axop op, qn_dtype t);
/* The monoid of a reduction applied to two values; sums and dots add. */
qn_expr *qn_combine(qn_ir *ir, qn_axop op, qn_expr *a, qn_expr *b);

/* What the names of a norm stand for. */
enum { QN_NORM_NAMES = 64 };
typedef struct qn_norm_values {
    qn_binding at[QN_NORM_NAMES];
    int count;
} qn_norm_values;
void qn_norm_bind(qn_norm_values *b, qn_sym name, qn_expr *x);
/* An expression of the norm with its calls of rescale and weight expanded and its names bound. */
qn_expr *qn_norm_expr(qn_ir *ir, const qn_norm *norm, qn_expr *x, const qn_norm_values *b);
/* How often the stat, the weight and the sums mention an argument. */
int qn_norm_uses(const qn_norm *norm, qn_sym arg);
/* Needs no name to be used twice. */
bool qn_norm_cheap(const qn_expr *x);
/* The sum over the axes of weight * e: a dot if e has all of them and the types agree. */
qn_expr *qn_weighted_sum(qn_ir *ir, qn_env *env, qn_expr *weight, qn_expr *e, const qn_sym *over,
                         int nover);

/* A fold as statements without it, each norm name bound by a let: the stat, the weight, the sums,
 * the results. They are appended to *out. */
void qn_unfold(qn_tool *t, qn_env *env, const qn_stmt *fold, qn_block *out);

#endif
