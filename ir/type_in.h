/* SPDX-License-Identifier: MIT
 * The inside of type.c and type_norm.c. */
#ifndef QN_IR_TYPE_IN_H
#define QN_IR_TYPE_IN_H

#include "ir/type.h"

static inline bool qn_dtype_is_literal(qn_dtype t)
{
    return t == QN_INT_LIT || t == QN_FLT_LIT;
}

void qn_type_define(qn_env *e, qn_sym name, qn_bound_kind kind, qn_type type);
/* Union of axes; the dtype is that of the first. */
bool qn_type_unite(qn_env *e, const qn_type *ts, int n, qn_place place, qn_type *out);
/* The type without the axes worked over, each of which must be there, once. */
bool qn_type_without(qn_env *e, const qn_type *t, const qn_sym *over, int nover, qn_place place,
                     const char *what, qn_type *out);

/* rescale(a, b) and weight(s, m) inside a finish, with the types of their operands. */
bool qn_type_norm_call(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out);
bool qn_type_fold(qn_env *e, const qn_expr *x, qn_type *out, int *count);

#endif
