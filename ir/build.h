/* SPDX-License-Identifier: MIT
 * Builders of IR nodes. Nothing is simplified here: what is asked for is what is built. */
#ifndef QN_IR_BUILD_H
#define QN_IR_BUILD_H

#include "ir/ir.h"

qn_expr *qn_int(qn_ir *ir, int64_t n);   /* negative numbers become a minus over the literal */
qn_expr *qn_float(qn_ir *ir, double x);  /* likewise; inf and nan too */
qn_expr *qn_bool(qn_ir *ir, bool b);
qn_expr *qn_name(qn_ir *ir, qn_sym name);
qn_expr *qn_name_of(qn_ir *ir, const char *name); /* interns */
qn_expr *qn_iota(qn_ir *ir, qn_sym axis, qn_extent extent);
qn_expr *qn_load(qn_ir *ir, qn_sym base, qn_expr *const *index, int n, bool guarded,
                 const qn_expr *pad);
qn_expr *qn_op1(qn_ir *ir, qn_op op, qn_expr *a);
qn_expr *qn_op2(qn_ir *ir, qn_op op, qn_expr *a, qn_expr *b);
qn_expr *qn_op3(qn_ir *ir, qn_op op, qn_expr *a, qn_expr *b, qn_expr *c);
qn_expr *qn_cast(qn_ir *ir, qn_dtype to, qn_expr *x);
qn_expr *qn_axop1(qn_ir *ir, qn_axop op, qn_expr *x, const qn_sym *over, int nover);
qn_expr *qn_dot(qn_ir *ir, qn_expr *a, qn_expr *b, const qn_sym *over, int nover);
qn_expr *qn_fold(qn_ir *ir, qn_sym norm, qn_expr *const *args, int n, const qn_sym *over, int nover,
                 qn_expr *where);
qn_expr *qn_as(qn_ir *ir, qn_expr *x, const qn_rename *pairs, int npairs);

/* Copies an array of pointers into the arena. */
qn_exprs qn_exprs_of(qn_ir *ir, qn_expr *const *at, int n);

static inline qn_extent qn_extent_n(int64_t n)
{
    return (qn_extent){NULL, n};
}
static inline qn_extent qn_extent_dim(qn_sym dim)
{
    return (qn_extent){dim, 0};
}
static inline bool qn_extent_equal(qn_extent a, qn_extent b)
{
    return a.dim == b.dim && (a.dim || a.n == b.n);
}
/* The extent as an expression: a literal or the dim's name. */
qn_expr *qn_extent_expr(qn_ir *ir, qn_extent e);

/* Types. The axes are copied. */
qn_type qn_type_of(qn_ir *ir, qn_dtype dtype, const qn_axis *axes, int rank);
bool qn_type_equal(const qn_type *a, const qn_type *b);      /* order of axes ignored */
const qn_axis *qn_type_axis(const qn_type *t, qn_sym name);  /* or NULL */

/* Statements; `attrs` start empty. */
qn_stmt *qn_stmt_new(qn_ir *ir, qn_stmt_kind kind, qn_place place);
qn_stmt *qn_let(qn_ir *ir, qn_sym name, qn_expr *x);
qn_stmt *qn_let_n(qn_ir *ir, const qn_sym *names, int n, qn_expr *x);
qn_stmt *qn_buf_stmt(qn_ir *ir, qn_sym name, qn_type type, qn_space space);
qn_stmt *qn_store(qn_ir *ir, qn_sym base, qn_expr *const *index, int n, qn_expr *x);
qn_stmt *qn_yield(qn_ir *ir, qn_expr *const *xs, int n);
/* One iter over lo..hi; step NULL is 1; body and carries are filled by the caller. */
qn_stmt *qn_for(qn_ir *ir, qn_sym index, qn_expr *lo, qn_expr *hi, qn_expr *step);

void qn_block_push(qn_ir *ir, qn_block *b, qn_stmt *s);
void qn_block_append(qn_ir *ir, qn_block *b, const qn_block *more);

/* A name that `used` (by a callback) does not know: base, base_1, base_2 .. keeping '%'. */
qn_sym qn_fresh(qn_ir *ir, const char *base, bool (*used)(void *user, qn_sym name), void *user);

#endif
