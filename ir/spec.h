/* SPDX-License-Identifier: MIT
 *
 * A mechanism as data: what the frontend made of a spec file, before any loop. Everything is a
 * scalar expression of the IR over these names:
 *
 *     b h       batch and head              j        key, 0..Nk-1
 *     i         position of the row         r        index of the row, 0..Nq-1
 *     s         the score so far            o d      an element of the output and its column
 *
 * and over dims, scalar parameters and loads of tensors and tables by element (`slope[h]`). A load
 * that is bare is proved in range; `tile x[..]` yields 0 out of range. Position i is r + Nk - Nq
 * (last), r (rows), or an element of a tensor.
 *
 * The text form (qn_spec_print) is line oriented; norms stand before it as IR:
 *
 *     spec @alibi {
 *       dim B, Hq, Hk, Hv, Nq, Nk, D = 64, Dv = 64
 *       in q: f32[b:B, h:Hq, i:Nq, d:D]
 *       in window: i32 = 256
 *       table seg: i32[j:Nk] = reduce.sum(i32(cu[n:C] <= i32(j:Nk)), over n)
 *       position last
 *       output o, lse
 *       group @all {
 *         norm @softmax
 *         scale = rsqrt(f32(D))
 *         score let %x = j - i
 *         score = s + slope[h] * f32(%x)
 *         mask = j <= i
 *       }
 *     }
 */
#ifndef QN_IR_SPEC_H
#define QN_IR_SPEC_H

#include "ir/base/buf.h"
#include "ir/ir.h"

typedef struct qn_spec_let {
    qn_sym name; /* "%x" */
    qn_expr *x;
} qn_spec_let;

/* A function: lets in order, results, and conditions that must never hold on a path taken (an index
 * from data out of range, a divisor 0): where one does, the call returns E_INDEX. */
typedef struct qn_spec_fn {
    const qn_spec_let *lets;
    int32_t nlets;
    qn_expr *const *results;
    int32_t nresults;
    qn_expr *const *flags;
    int32_t nflags;
} qn_spec_fn;

/* A table made once a call, before everything else: value over the iotas of its own axes. */
typedef struct qn_spec_table {
    qn_sym name;
    qn_type type;
    qn_expr *value;
} qn_spec_table;

typedef enum qn_spec_position {
    QN_POSITION_LAST,
    QN_POSITION_ROWS,
    QN_POSITION_TENSOR
} qn_spec_position;

typedef struct qn_spec_group {
    qn_sym name;             /* "@all" */
    const qn_spec_fn *when;  /* of h; NULL: every head */
    const qn_spec_fn *score; /* of s b h i r j; NULL: s */
    const qn_spec_fn *mask;  /* of b h i r j; NULL: every key */
    const qn_spec_fn *scale; /* of b h; a factor of q.k */
    const qn_spec_fn *out;   /* of o b h i r d; NULL: o */
    const qn_norm *norm;     /* args (s, v, ..extra) */
    const qn_spec_fn *extra; /* of b h: further arguments of the norm; NULL: none */
    bool uses_product;       /* false: the score ignores s, no q.k is made */
} qn_spec_group;

typedef struct qn_spec {
    qn_ir *ir;
    qn_sym name;     /* "@x" */
    qn_dtype number; /* of scores and sums: f32, or f64 with f64 inputs */
    struct {
        qn_dim *at;
        int32_t count, cap;
    } dims; /* a value is a literal or an expression of earlier dims */
    struct {
        qn_param *at;
        int32_t count, cap;
    } params; /* q k v, captured tensors, then scalars; all `in` */
    struct {
        qn_spec_table *at;
        int32_t count, cap;
    } tables;
    struct {
        qn_spec_group *at;
        int32_t count, cap;
    } groups; /* the first whose `when` holds takes the head */
    qn_spec_position position;
    qn_sym position_tensor; /* i32 [Nq] or [B, Nq]; NULL otherwise */
    bool out_lse, out_max;  /* beside o */
    struct {
        qn_require *at;
        int32_t count, cap;
    } requires;
} qn_spec;

void qn_spec_print(const qn_spec *s, qn_buf *out);
/* NULL: errors (E-SYNTAX and those of qn_parse) are in d. */
qn_spec *qn_spec_parse(qn_ir *ir, const char *text, size_t length, qn_diags *d);

/* The parameter or table of that name; or NULL. */
const qn_param *qn_spec_param_of(const qn_spec *s, qn_sym name);
const qn_spec_table *qn_spec_table_of(const qn_spec *s, qn_sym name);

#endif
