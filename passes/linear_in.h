/* SPDX-License-Identifier: MIT
 * The inside of qn_facts, shared by linear.c (forms) and facts.c (facts and proofs). */
#ifndef QN_PASSES_LINEAR_IN_H
#define QN_PASSES_LINEAR_IN_H

#include "passes/linear.h"

enum {
    QN_LIN_SIZE = 600,   /* nodes a form may have as an expression */
    QN_LIN_PARTS = 48,   /* terms a form may have */
    QN_MAX_HIS = 6,      /* upper bounds kept of an index */
    QN_LIN_NEST = 300,   /* expressions within expressions, lets seen through included */
    QN_LIN_WORK = 20000, /* nodes looked at for one form */
};

/* What the prover remembers of a form, valid while `epoch` is that of the facts. */
typedef struct qn_lin_memo {
    uint32_t epoch;
    int32_t failed; /* greatest depth at which no proof was found */
    bool proved;
} qn_lin_memo;

/* One name in scope. */
typedef struct qn_fact_name {
    qn_sym name;
    qn_dtype dtype;
    const qn_lin *value;   /* an integer: what it stands for; NULL: the name is a term */
    qn_expr *x;            /* a let that may be inlined, or NULL */
    const qn_type *memory; /* a tensor or buf */
    bool input, dim, index, tile;
    bool fixed;                    /* made for a loop, but before it: does not vary with it */
    const qn_lin *lo;              /* of an index; NULL: not known */
    const qn_lin *his[QN_MAX_HIS]; /* inclusive */
    int32_t nhis;
    int64_t multiple; /* divides the value; 1: nothing known */
} qn_fact_name;

typedef struct qn_fact_multiple { /* the term is a multiple of n */
    const qn_term *term;
    int64_t n;
} qn_fact_multiple;

typedef struct qn_fact_scope {
    int32_t names, ge0, multiples;
    bool proofs; /* an index or an assumption came in, so proofs do not outlive the scope */
} qn_fact_scope;

struct qn_facts {
    qn_arena *arena;
    qn_ir *ir;
    uint32_t epoch;
    int32_t fuel;       /* steps left to the proof at hand */
    int32_t left;       /* steps left to all proofs together */
    bool deciding;      /* inside a proof asked for by min or max */
    int32_t nest, work; /* of the form being made */
    struct {
        qn_fact_name *at;
        int32_t count, cap;
    } names;
    struct {
        const qn_lin **at; /* each >= 0 */
        int32_t count, cap;
    } ge0;
    struct {
        qn_fact_multiple *at;
        int32_t count, cap;
    } multiples;
    struct {
        qn_fact_scope *at;
        int32_t count, cap;
    } scopes;
    struct {
        qn_term **at; /* hash table, cap a power of two */
        uint32_t count, cap;
    } terms;
    struct {
        qn_lin **at;
        uint32_t count, cap;
    } lins;
};

qn_fact_name *qn_fact_find(const qn_facts *f, qn_sym name);
/* a <= b from here to the end of the scope. */
void qn_facts_order(qn_facts *f, const qn_lin *a, const qn_lin *b);
const qn_term *qn_term_make(qn_facts *f, qn_term proto);
/* min, max, // or % as a term, nothing decided. */
const qn_lin *qn_lin_pair(qn_facts *f, qn_term_kind kind, const qn_lin *a, const qn_lin *b);
/* The divisor known of one term (0: it is zero). */
int64_t qn_term_multiple(qn_facts *f, const qn_term *t);
int64_t qn_gcd(int64_t a, int64_t b);
bool qn_term_mentions_axis(const qn_term *t, qn_sym axis);

#endif
