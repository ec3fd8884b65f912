/* SPDX-License-Identifier: MIT
 *
 * What tests share: a laboratory (arena, names, diagnostics), arrays, and running a text in the
 * oracle. Nothing here is freed by the test; closing the laboratory ends everything. When memory
 * is out or a text that must be good is not, these functions print why and abort the test.
 *
 *     qn_lab lab;
 *     qn_lab_open(&lab);
 *     qn_ir_file *f = qn_lab_corpus(&lab, "a_naive");
 *     qn_args a = {0};
 *     qn_args_dim(&a, "Nq", 7);
 *     qn_args_array(&a, "q", qn_normal(&lab, QN_F32, 1, 4, (int64_t[]){1, 4, 7, 5}));
 *     const qn_interp_result *r = qn_lab_run(&lab, f, "@causal", &a, QN_EXACT, 0);
 *     const qn_array *o = qn_result(r, "o");
 *     qn_lab_close(&lab);
 */
#ifndef QN_TESTS_SUPPORT_H
#define QN_TESTS_SUPPORT_H

#include "ir/interp.h"
#include "ir/ir.h"
#include "ir/tolerance.h"

typedef struct qn_lab {
    qn_arena arena;
    qn_ir ir;
    qn_diags diags;
} qn_lab;

void qn_lab_open(qn_lab *lab);
void qn_lab_close(qn_lab *lab);

/* Every error so far as printed text; and they are forgotten, for the next text. */
const char *qn_lab_errors(qn_lab *lab);
/* The code of the first error ("V-BOUND") and its line; NULL and 0 if there is none. */
const char *qn_lab_rule(const qn_lab *lab, int *line);
void qn_lab_forget(qn_lab *lab);

/* ---------------------------------------------------------------- texts */

/* The whole file, NUL-terminated; a path is taken from the root of the sources unless it starts
 * with '/'. Aborts if it cannot be read. */
const char *qn_lab_read(qn_lab *lab, const char *path);
/* Parses and verifies; aborts with the errors if the text is wrong. */
qn_ir_file *qn_lab_text(qn_lab *lab, const char *text);
qn_ir_file *qn_lab_corpus(qn_lab *lab, const char *name); /* tests/corpus/NAME.qir */
/* Parses and verifies a text that may be wrong: NULL, and the errors are in lab->diags. */
qn_ir_file *qn_lab_try(qn_lab *lab, const char *text);

/* ---------------------------------------------------------------- numbers and arrays */

typedef struct qn_random { /* splitmix64; equal seeds give equal numbers everywhere */
    uint64_t state;
} qn_random;
uint64_t qn_random_bits(qn_random *r);
int64_t qn_random_below(qn_random *r, int64_t n); /* 0 <= x < n */
double qn_random_unit(qn_random *r);              /* 0 <= x < 1 */
double qn_random_normal(qn_random *r);

/* An array of zeros. */
qn_array qn_zeros(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape);
/* Standard normal numbers, rounded to the dtype: what a caller can really pass. */
qn_array qn_normal(qn_lab *lab, qn_dtype dtype, uint64_t seed, int rank, const int64_t *shape);
/* The numbers given, row-major, copied. */
qn_array qn_ints(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape, const int64_t *x);
qn_array qn_floats(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape, const double *x);
int64_t qn_array_count(const qn_array *a);
/* Rounds a float array to its dtype in place. */
void qn_array_round(qn_array *a);

enum { QN_ARGS_MOST = 48 };
typedef struct qn_args { /* start with = {0} */
    qn_arg at[QN_ARGS_MOST];
    int count;
    int64_t ints[QN_ARGS_MOST];
    double floats[QN_ARGS_MOST];
} qn_args;
void qn_args_dim(qn_args *a, const char *name, int64_t n);
void qn_args_int(qn_args *a, const char *name, qn_dtype dtype, int64_t x);
void qn_args_float(qn_args *a, const char *name, qn_dtype dtype, double x);
void qn_args_array(qn_args *a, const char *name, qn_array x);

/* ---------------------------------------------------------------- running */

/* Runs a kernel (NULL: the first) in the oracle; shuffle 0 keeps the tasks in order. NULL if a
 * rule is broken: see qn_lab_rule. The arguments may be reused. */
const qn_interp_result *qn_lab_try_run(qn_lab *lab, const qn_ir_file *f, const char *kernel,
                                       qn_args *a, qn_interp_mode mode, uint64_t shuffle);
/* The same for a run that must succeed. */
const qn_interp_result *qn_lab_run(qn_lab *lab, const qn_ir_file *f, const char *kernel, qn_args *a,
                                   qn_interp_mode mode, uint64_t shuffle);
const qn_array *qn_result(const qn_interp_result *r, const char *name); /* aborts if absent */

/* ---------------------------------------------------------------- comparing */

/* Largest |a - b| relative to max(1, the largest |b|); inf where shapes, NaN or infinities differ,
 * or integers are not equal. */
double qn_distance(const qn_array *a, const qn_array *b);
/* Equal bits: values, shape and dtype. */
bool qn_same_bits(const qn_array *a, const qn_array *b);
/* got against an exact result with bounds, by the formula of tolerance.h. */
qn_verdict qn_judge(const qn_array *exact, const qn_array *got);

#endif
