/* SPDX-License-Identifier: MIT
 *
 * Integer expressions as linear forms, what is known of them, and a prover of L >= 0.
 *
 *     qn_facts *f = qn_facts_kernel(scratch, ir, k);   dims >= 0, requires, values of dims
 *     qn_facts_push(f);                                walk the text as qn_env does
 *     qn_facts_enter_loop(f, loop);                    index bounds, steps; carries are unknown
 *     qn_facts_stmt(f, s);                             a let is inlined, a buf is known memory
 *     qn_inside(f, base, index, n)                     0 <= index < extent, for every element
 *     qn_prove(f, cond, true)                          a bool expression holds for every element
 *     qn_facts_pop(f);
 *
 * A form is sum(c * term) + k over the integers. Forms and terms are hash-consed in one qn_facts:
 * equal forms are equal pointers, so equal terms cancel and proofs are remembered. Lets are
 * inlined while a form is made; a term is an index, an axis i:64, a dim, min, max, //, %, a
 * product, a select, or an opaque expression, such as a load of memory that nothing changes.
 *
 * NULL stands for "not known": not an i64, too large, or coefficients that overflow. It is
 * infectious and nothing is proved of it. Arithmetic of the text is assumed not to overflow i64:
 * the runtime keeps dims and scalar arguments below 2^47. Narrow integers may wrap in their own
 * width, so a narrow expression is one opaque term i64(x). */
#ifndef QN_PASSES_LINEAR_H
#define QN_PASSES_LINEAR_H

#include "ir/ir.h"

typedef struct qn_lin qn_lin;
typedef struct qn_term qn_term;
typedef struct qn_facts qn_facts;

typedef enum qn_term_kind {
    QN_TERM_NAME,   /* name: a dim, an i64 scalar, an index, or a value that could not be inlined */
    QN_TERM_IOTA,   /* axis */
    QN_TERM_MIN,    /* a, b */
    QN_TERM_MAX,    /* a, b */
    QN_TERM_DIV,    /* a // b */
    QN_TERM_MOD,    /* a % b */
    QN_TERM_MUL,    /* a * b, each a single term */
    QN_TERM_SELECT, /* x ? a : b */
    QN_TERM_FLAG,   /* x, a bool, as 0 or 1 */
    QN_TERM_OPAQUE  /* x, an i64 expression */
} qn_term_kind;

struct qn_term {
    qn_term_kind kind;
    int32_t id;   /* order of creation; parts of a form are sorted by it */
    int32_t size; /* nodes of its expression */
    bool tile;    /* may differ between elements of a tile */
    qn_sym name;
    qn_axis axis;
    qn_expr *x; /* lets inlined */
    const qn_lin *a, *b;
};

typedef struct qn_lin_part {
    const qn_term *term;
    int64_t c; /* never 0 */
} qn_lin_part;

struct qn_lin {
    int32_t n;
    int32_t size;
    bool tile;
    int64_t k;
    struct qn_lin_memo *memo;
    qn_lin_part at[];
};

/* ---------------------------------------------------------------- facts */

/* Everything lives in `arena`; expressions are built in ir. */
qn_facts *qn_facts_kernel(qn_arena *arena, qn_ir *ir, const qn_kernel_ir *k);

/* Scopes: pop forgets names and facts since the matching push. Forms stay valid, but a form that
 * mentions an index of the popped scope means nothing after it. */
void qn_facts_push(qn_facts *f);
void qn_facts_pop(qn_facts *f);

/* What a statement leaves visible: the value of a let, a buf, carries after a loop, results of an
 * if (unknown). */
void qn_facts_stmt(qn_facts *f, const qn_stmt *s);
/* For the inside of a launch: what it never stores to does not change in it. */
void qn_facts_enter_launch(qn_facts *f, const qn_block *launch);
/* For the inside of a loop: indices with their bounds, end names, carries (unknown). */
void qn_facts_enter_loop(qn_facts *f, const qn_stmt *loop);
void qn_facts_iter(qn_facts *f, const qn_iter *it);
void qn_facts_let(qn_facts *f, qn_sym name, qn_expr *x);
/* A scalar condition that holds (or, value false, fails) here. */
void qn_facts_assume(qn_facts *f, const qn_expr *cond, bool value);
/* A name of which nothing is known but its type. */
void qn_facts_unknown(qn_facts *f, qn_sym name, qn_dtype dtype, bool tile);
/* A fresh variable with bounds lo <= name <= each of his (NULL ones are skipped). */
void qn_facts_variable(qn_facts *f, qn_sym name, const qn_lin *lo, const qn_lin *const *his,
                       int nhis);

/* What is behind a name. */
bool qn_facts_is_input(const qn_facts *f, qn_sym memory); /* not written here: loads are stable */
const qn_type *qn_facts_memory(const qn_facts *f, qn_sym memory); /* or NULL */
qn_expr *qn_facts_value(const qn_facts *f, qn_sym name);          /* right side of a let or NULL */
qn_dtype qn_facts_dtype(const qn_facts *f, const qn_expr *x);     /* QN_NO_TYPE: unknown */
bool qn_facts_is_index(const qn_facts *f, qn_sym name);
/* True if x or anything its lets stand for differs between elements of a tile, or may. */
bool qn_facts_is_tile(qn_facts *f, const qn_expr *x);

/* x with lets inlined and integers in normal form: equal values, equal trees, as far as it can be
 * seen. NULL: too large, or it reads memory that the kernel writes. */
qn_expr *qn_facts_inline(qn_facts *f, const qn_expr *x);

/* An inlined scalar bool with the lets in scope named again. */
qn_expr *qn_facts_named(qn_facts *f, qn_expr *x);

/* ---------------------------------------------------------------- forms */

const qn_lin *qn_lin_of(qn_facts *f, const qn_expr *x);
const qn_lin *qn_lin_int(qn_facts *f, int64_t k);
const qn_lin *qn_lin_name(qn_facts *f, qn_sym name); /* its value, if it is a let */
const qn_lin *qn_lin_term(qn_facts *f, const qn_term *t);
const qn_lin *qn_lin_extent(qn_facts *f, qn_extent e);
const qn_lin *qn_lin_add(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_sub(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_plus(qn_facts *f, const qn_lin *a, int64_t k);
const qn_lin *qn_lin_scale(qn_facts *f, const qn_lin *a, int64_t c);
const qn_lin *qn_lin_mul(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_div(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_mod(qn_facts *f, const qn_lin *a, const qn_lin *b);
/* min and max decide what can be proved here and now. */
const qn_lin *qn_lin_min(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_max(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_lin *qn_lin_select(qn_facts *f, qn_expr *cond, const qn_lin *a, const qn_lin *b);
/* a < b ? x : y */
const qn_lin *qn_lin_less(qn_facts *f, const qn_lin *a, const qn_lin *b, const qn_lin *x,
                          const qn_lin *y);
/* a < 0 or another comparison with 0, positive parts of a to the left of it, the rest to the right;
 * equal for equal a. */
qn_expr *qn_lin_compare(qn_facts *f, qn_op op, const qn_lin *a);
/* The form without the term, and the term's coefficient (0: not there). */
const qn_lin *qn_lin_without(qn_facts *f, const qn_lin *a, const qn_term *t);
int64_t qn_lin_coef(const qn_lin *a, const qn_term *t);
/* The term of the form if it is 1 * term + 0, else NULL. */
const qn_term *qn_lin_single(const qn_lin *a);

/* The form as an expression, positive terms first, clamps recognised. With `names`, a scalar let
 * in scope that has the value of the form or of a part of it is named instead. Not NULL. */
qn_expr *qn_lin_expr(qn_facts *f, const qn_lin *a, bool names);

/* The largest number known to divide the form (0: it is zero). */
int64_t qn_lin_factor(qn_facts *f, const qn_lin *a);

/* ---------------------------------------------------------------- proofs; false: not proved */

bool qn_prove_ge0(qn_facts *f, const qn_lin *a);                 /* a >= 0 for every element */
bool qn_prove_le(qn_facts *f, const qn_lin *a, const qn_lin *b); /* a <= b */
bool qn_prove(qn_facts *f, const qn_expr *cond, bool value); /* cond is value for every element */

/* Every element's index is inside the memory. One axis alone; all of them. */
bool qn_inside_axis(qn_facts *f, const qn_expr *index, qn_extent extent);
bool qn_inside(qn_facts *f, qn_sym base, const qn_exprs *index);

#endif
