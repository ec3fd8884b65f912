/* SPDX-License-Identifier: MIT
 *
 * Numbers of the definition: a value in double, a first-order bound of what an evaluation in its
 * dtype may lose, and scalar expressions over them.
 *
 * Each result adds the roundings of its own op (u |x|, a few for functions) to its operands' bounds
 * times the derivatives. Where a comparison, floor or index is too close to call, what depends on
 * it is unsure: a float's bound is then the distance of the alternatives, or infinite. */
#ifndef QN_FRONTEND_NUMBER_H
#define QN_FRONTEND_NUMBER_H

#include "ir/interp.h"
#include "ir/ir.h"

typedef struct qn_num {
    qn_dtype t;  /* QN_BOOL, an integer or float dtype, or a literal's */
    bool unsure; /* of integers and booleans */
    int64_t i;
    double f, e; /* value and bound of floats */
} qn_num;

double qn_num_unit(qn_dtype t);
double qn_num_growth(int64_t n); /* roundings of a sum of n terms, in units of u times sum |x| */
double qn_num_round(qn_dtype t, double x);

/* An expression with its names resolved to slots. */
typedef struct qn_code qn_code;

typedef struct qn_scope {
    qn_ir *ir;
    bool naive; /* round every result to its dtype; no bounds */
    qn_dtype number;
    const qn_arg *args; /* tensors and tables, by name */
    int nargs;
    const qn_norm *norm; /* for rescale and weight inside a norm */
    qn_code *rescale, *weight;
    int from, to, s, m; /* their slots */
    struct {
        qn_sym *at;
        int32_t count, cap;
    } names;
    struct {
        qn_num *at;
        int32_t count, cap;
    } slots;
} qn_scope;

int qn_scope_slot(qn_scope *c, const char *name); /* made if there is none */
void qn_scope_set(qn_scope *c, int slot, int64_t i);

/* NULL: it holds something that no spec has; *why says what. */
qn_code *qn_code_of(qn_scope *c, const qn_expr *x, const char **why);
qn_num qn_code_run(qn_scope *c, const qn_code *x);
bool qn_code_reads(const qn_code *x, int slot);
bool qn_code_is(const qn_code *x, int slot); /* the slot and nothing else */

#endif
