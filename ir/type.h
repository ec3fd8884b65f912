/* SPDX-License-Identifier: MIT
 *
 * Types of expressions and the names visible at a place. A pass walks a kernel with an environment:
 *
 *     qn_env *e = qn_env_kernel(ir, file, kernel);       dims and params are known
 *     qn_env *inner = qn_env_push(e);                    a nested block
 *     qn_env_enter_loop(inner, loop)                     its indices and carries
 *     qn_env_stmt(inner, s)                              what the statement leaves visible after it
 *     qn_type_infer(inner, x, &type)                     false: ill-typed; inner->fault says why */
#ifndef QN_IR_TYPE_H
#define QN_IR_TYPE_H

#include "ir/ir.h"

typedef enum qn_bound_kind {
    QN_BOUND_DIM,
    QN_BOUND_SCALAR, /* scalar parameter */
    QN_BOUND_MEMORY, /* tensor parameter or buf */
    QN_BOUND_VALUE,  /* %value, carries too */
    QN_BOUND_INDEX   /* loop index or end name */
} qn_bound_kind;

typedef struct qn_bound {
    qn_sym name;
    qn_bound_kind kind;
    qn_type type;
    qn_direction direction;  /* of a parameter */
    bool is_buf;
    qn_space space;          /* of a buf */
    qn_sym ring;             /* of a buf, or NULL */
    const qn_expr *value;    /* value of a dim, or NULL */
} qn_bound;

typedef struct qn_fault { /* the first rule broken: "V-TYPE" and its words */
    const char *rule; /* NULL: only the consequence of an earlier fault */
    const char *text;
    qn_place place;
} qn_fault;

typedef struct qn_env qn_env;
struct qn_env {
    qn_ir *ir;
    const qn_ir_file *file; /* for norms */
    qn_env *parent;
    qn_bound *at;
    int32_t count, cap;
    int32_t *slots; /* hash table into at, once there are many */
    int32_t nslots;
    const qn_norm *norm; /* inside whose finish; or NULL */
    /* A further rule for every typed subexpression but addresses (sums and products in indices),
     * children first; may be NULL; handed down by qn_env_push. False: it has set the fault. */
    bool (*check)(void *user, qn_env *e, const qn_expr *x, const qn_type *t);
    void *user;
    qn_fault fault; /* set in the environment that the failing call was given */
};

qn_env *qn_env_kernel(qn_ir *ir, const qn_ir_file *file, const qn_kernel_ir *k);
qn_env *qn_env_push(qn_env *parent);
/* A name of type QN_NO_TYPE stands for something ill-typed: its uses fail without a rule. */
/* Sets the fault and returns false. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
bool qn_env_fail(qn_env *e, const char *rule, qn_place place, const char *format, ...);
const qn_bound *qn_env_find(const qn_env *e, qn_sym name);
void qn_env_define(qn_env *e, const qn_bound *b);

/* The type of an access: dtype of the memory, axes of the indices. */
bool qn_type_access(qn_env *e, qn_sym base, qn_exprs index, qn_place place, qn_type *out);

/* Types of the results of a right-hand side (fold and topk have several; out holds QN_MAX_AXES).
 * Literal types stay QN_INT_LIT / QN_FLT_LIT; settle them for names. */
bool qn_type_results(qn_env *e, const qn_expr *x, qn_type *out, int *count);
bool qn_type_infer(qn_env *e, const qn_expr *x, qn_type *out); /* exactly one result */

/* Defines what a statement leaves visible after it: let names, bufs, carries of a loop, results of
 * an if. False if it is ill-typed. */
bool qn_env_stmt(qn_env *e, const qn_stmt *s);
/* Defines indices, end names and carries for the inside of a loop. */
bool qn_env_enter_loop(qn_env *e, const qn_stmt *loop);

/* Does every literal inside x, whose type is a literal one, fit the dtype it takes? Else V-TYPE. */
bool qn_literals_fit(qn_env *e, const qn_expr *x, qn_dtype t);

/* Union of axes by name; false and V-AXIS if two extents of one name disagree. */
bool qn_type_union(qn_env *e, const qn_type *ts, int n, qn_type *out);

/* The constant behind an extent: its n, or the literal value of its dim; -1 if not constant. */
int64_t qn_extent_const(const qn_env *e, qn_extent x);

/* What `fold @norm(..)` means as plain statements, in order: the stat, the weight, each sum; then
 * one expression a result. Names are "%.<name>" and "%.weight", which no text can contain. */
typedef struct qn_fold_meaning {
    qn_norm_def *lets;
    int32_t nlets;
    qn_expr **outs;
    int32_t nouts;
} qn_fold_meaning;
bool qn_fold_expand(qn_ir *ir, const qn_norm *n, const qn_expr *fold, qn_fold_meaning *out);

/* The identity of a stat's monoid as an expression: -inf, inf, 0.0. */
qn_expr *qn_stat_identity(qn_ir *ir, qn_axop op);

#endif
