/* SPDX-License-Identifier: MIT
 * What tests share; see support.h. */
#include "tests/support/support.h"

#include "ir/parse.h"
#include "ir/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void give_up(const char *what, const char *text)
{
    fprintf(stderr, "%s\n%s\n", what, text);
    abort();
}

static void *realloc_or_abort(void *user, void *p, size_t old_size, size_t new_size)
{
    (void)user;
    (void)old_size;
    if (new_size == 0) {
        free(p);
        return NULL;
    }
    void *q = realloc(p, new_size);
    if (!q) {
        give_up("memory is out", "");
    }
    return q;
}

void qn_lab_open(qn_lab *lab)
{
    qn_alloc alloc = {realloc_or_abort, NULL};
    qn_arena_init(&lab->arena, &alloc, NULL); /* the allocator never fails, so nobody jumps */
    qn_ir_init(&lab->ir, &lab->arena);
    qn_diags_init(&lab->diags, &lab->arena, "test.qir", NULL);
}

void qn_lab_close(qn_lab *lab)
{
    qn_arena_fini(&lab->arena);
}

void qn_lab_forget(qn_lab *lab)
{
    const char *source = lab->diags.source;
    qn_diags_init(&lab->diags, &lab->arena, "test.qir", source);
}

const char *qn_lab_errors(qn_lab *lab)
{
    qn_buf b = qn_buf_of(&lab->arena);
    qn_diags_print(&lab->diags, QN_ERROR, &b);
    qn_lab_forget(lab);
    return b.text;
}

const char *qn_lab_rule(const qn_lab *lab, int *line)
{
    for (int k = 0; k < lab->diags.count; k++) {
        if (lab->diags.at[k].severity == QN_ERROR) {
            if (line) {
                *line = lab->diags.at[k].place.line;
            }
            return lab->diags.at[k].code;
        }
    }
    if (line) {
        *line = 0;
    }
    return NULL;
}

/* ---------------------------------------------------------------- texts */

const char *qn_lab_read(qn_lab *lab, const char *path)
{
    qn_buf name = qn_buf_of(&lab->arena);
    qn_buf_printf(&name, "%s%s", path[0] == '/' ? "" : QN_ROOT "/", path);
    FILE *f = fopen(name.text, "rb");
    if (!f) {
        give_up("cannot open", name.text);
    }
    qn_buf b = qn_buf_of(&lab->arena);
    qn_buf_puts(&b, "");
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;) {
        qn_buf_put(&b, chunk, n);
    }
    fclose(f);
    return b.text;
}

qn_ir_file *qn_lab_try(qn_lab *lab, const char *text)
{
    lab->diags.source = text;
    qn_ir_file *f = qn_parse(&lab->ir, text, strlen(text), &lab->diags);
    return f && qn_verify(f, &lab->diags) ? f : NULL;
}

qn_ir_file *qn_lab_text(qn_lab *lab, const char *text)
{
    qn_ir_file *f = qn_lab_try(lab, text);
    if (!f) {
        give_up("a text that must be good is refused:", qn_lab_errors(lab));
    }
    return f;
}

qn_ir_file *qn_lab_corpus(qn_lab *lab, const char *name)
{
    qn_buf path = qn_buf_of(&lab->arena);
    qn_buf_printf(&path, "tests/corpus/%s.qir", name);
    return qn_lab_text(lab, qn_lab_read(lab, path.text));
}

/* ---------------------------------------------------------------- numbers and arrays */

uint64_t qn_random_bits(qn_random *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int64_t qn_random_below(qn_random *r, int64_t n)
{
    return n > 0 ? (int64_t)(qn_random_bits(r) % (uint64_t)n) : 0;
}

double qn_random_unit(qn_random *r)
{
    return (double)(qn_random_bits(r) >> 11) * 0x1p-53;
}

double qn_random_normal(qn_random *r)
{
    double u = 1 - qn_random_unit(r), v = qn_random_unit(r); /* Box and Muller */
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

int64_t qn_array_count(const qn_array *a)
{
    int64_t n = 1;
    for (int k = 0; k < a->rank; k++) {
        n *= a->shape[k];
    }
    return n;
}

qn_array qn_zeros(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape)
{
    qn_array a = {.dtype = dtype, .rank = rank};
    for (int k = 0; k < rank; k++) {
        a.shape[k] = shape[k];
    }
    int64_t n = qn_array_count(&a);
    if (qn_dtype_is_float(dtype)) {
        a.f = QN_NEWN(&lab->arena, double, n ? n : 1);
    } else {
        a.i = QN_NEWN(&lab->arena, int64_t, n ? n : 1);
    }
    return a;
}

void qn_array_round(qn_array *a)
{
    for (int64_t k = 0; a->f && k < qn_array_count(a); k++) {
        a->f[k] = qn_round_float(a->dtype, a->f[k]);
    }
}

qn_array qn_normal(qn_lab *lab, qn_dtype dtype, uint64_t seed, int rank, const int64_t *shape)
{
    qn_array a = qn_zeros(lab, dtype, rank, shape);
    qn_random r = {seed * 0xD1342543DE82EF95u + 1};
    for (int64_t k = 0; a.f && k < qn_array_count(&a); k++) {
        a.f[k] = qn_random_normal(&r);
    }
    qn_array_round(&a);
    return a;
}

qn_array qn_ints(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape, const int64_t *x)
{
    qn_array a = qn_zeros(lab, dtype, rank, shape);
    memcpy(a.i, x, sizeof *x * (size_t)qn_array_count(&a));
    return a;
}

qn_array qn_floats(qn_lab *lab, qn_dtype dtype, int rank, const int64_t *shape, const double *x)
{
    qn_array a = qn_zeros(lab, dtype, rank, shape);
    memcpy(a.f, x, sizeof *x * (size_t)qn_array_count(&a));
    return a;
}

static qn_arg *next_arg(qn_args *a, const char *name)
{
    for (int k = 0; k < a->count; k++) {
        if (strcmp(a->at[k].name, name) == 0) {
            return &a->at[k]; /* given again: replaced */
        }
    }
    if (a->count == QN_ARGS_MOST) {
        give_up("too many arguments at", name);
    }
    a->at[a->count].name = name;
    return &a->at[a->count++];
}

void qn_args_int(qn_args *a, const char *name, qn_dtype dtype, int64_t x)
{
    qn_arg *to = next_arg(a, name);
    a->ints[to - a->at] = x;
    to->array = (qn_array){.dtype = dtype};
}

void qn_args_dim(qn_args *a, const char *name, int64_t n)
{
    qn_args_int(a, name, QN_I64, n);
}

void qn_args_float(qn_args *a, const char *name, qn_dtype dtype, double x)
{
    qn_arg *to = next_arg(a, name);
    a->floats[to - a->at] = x;
    to->array = (qn_array){.dtype = dtype};
}

void qn_args_array(qn_args *a, const char *name, qn_array x)
{
    next_arg(a, name)->array = x;
}

/* ---------------------------------------------------------------- running */

const qn_interp_result *qn_lab_try_run(qn_lab *lab, const qn_ir_file *f, const char *kernel,
                                       qn_args *a, qn_interp_mode mode, uint64_t shuffle)
{
    const qn_kernel_ir *k = qn_file_kernel(f, kernel);
    if (!k) {
        give_up("no kernel", kernel ? kernel : "");
    }
    for (int j = 0; j < a->count; j++) { /* scalars live in the qn_args, which may have moved */
        qn_array *x = &a->at[j].array;
        if (x->rank == 0 && qn_dtype_is_float(x->dtype)) {
            x->f = &a->floats[j];
        } else if (x->rank == 0) {
            x->i = &a->ints[j];
        }
    }
    qn_interp_options options = {.mode = mode, .shuffle = shuffle};
    qn_interp_result *r = QN_NEW(&lab->arena, qn_interp_result);
    return qn_interp(f, k, a->at, a->count, &options, r, &lab->diags) ? r : NULL;
}

const qn_interp_result *qn_lab_run(qn_lab *lab, const qn_ir_file *f, const char *kernel, qn_args *a,
                                   qn_interp_mode mode, uint64_t shuffle)
{
    const qn_interp_result *r = qn_lab_try_run(lab, f, kernel, a, mode, shuffle);
    if (!r) {
        give_up("a run that must succeed is refused:", qn_lab_errors(lab));
    }
    return r;
}

const qn_array *qn_result(const qn_interp_result *r, const char *name)
{
    for (int k = 0; k < r->nouts; k++) {
        if (strcmp(r->outs[k].name, name) == 0) {
            return &r->outs[k].array;
        }
    }
    give_up("no result", name);
}

/* ---------------------------------------------------------------- comparing */

static bool same_shape(const qn_array *a, const qn_array *b)
{
    bool same = a->rank == b->rank && !a->f == !b->f;
    for (int k = 0; same && k < a->rank; k++) {
        same = a->shape[k] == b->shape[k];
    }
    return same;
}

double qn_distance(const qn_array *a, const qn_array *b)
{
    if (!same_shape(a, b)) {
        return INFINITY;
    }
    double scale = 1, worst = 0;
    for (int64_t k = 0; k < qn_array_count(a); k++) {
        if (!a->f) {
            if (a->i[k] != b->i[k]) {
                return INFINITY;
            }
            continue;
        }
        double x = a->f[k], y = b->f[k];
        if (isnan(x) || isnan(y) || isinf(x) || isinf(y)) {
            if (!(x == y || (isnan(x) && isnan(y)))) {
                return INFINITY;
            }
            continue;
        }
        scale = fabs(y) > scale ? fabs(y) : scale;
        worst = fabs(x - y) > worst ? fabs(x - y) : worst;
    }
    return worst / scale;
}

bool qn_same_bits(const qn_array *a, const qn_array *b)
{
    size_t n = (size_t)qn_array_count(a);
    return same_shape(a, b) && a->dtype == b->dtype &&
           (n == 0 || (a->f ? memcmp(a->f, b->f, n * sizeof *a->f) == 0
                            : memcmp(a->i, b->i, n * sizeof *a->i) == 0));
}

qn_verdict qn_judge(const qn_array *exact, const qn_array *got)
{
    if (!same_shape(exact, got)) {
        return (qn_verdict){false, INFINITY, -1, 0, 0};
    }
    int64_t n = qn_array_count(exact);
    return exact->f ? qn_tolerance_check(exact->f, exact->bound, got->f, n, got->dtype)
                    : qn_tolerance_check_int(exact->i, exact->bound, got->i, n);
}
