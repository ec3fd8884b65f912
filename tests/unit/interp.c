/* SPDX-License-Identifier: MIT
 *
 * The oracle against plain C: every text of the corpus over odd shapes, in exact mode to 1e-11 of
 * an independent computation of the definition, in typed mode within the tolerance of its own
 * error bounds, and the tasks of a launch in two orders with equal bits. */
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static qn_lab lab;

static void setup(void)
{
    qn_lab_open(&lab);
}

static void teardown(void)
{
    qn_lab_close(&lab);
}

TestSuite(interp, .init = setup, .fini = teardown, .timeout = 120);

#define SHAPE(...)       ((int64_t[]){__VA_ARGS__})
#define RANK(...)        ((int)(sizeof(SHAPE(__VA_ARGS__)) / sizeof(int64_t)))
#define ZEROS(type, ...) qn_zeros(&lab, type, RANK(__VA_ARGS__), SHAPE(__VA_ARGS__))

static uint64_t seed;
#define NORMAL(type, ...) qn_normal(&lab, type, ++seed, RANK(__VA_ARGS__), SHAPE(__VA_ARGS__))

static const int odd[] = {1, 2, 7, 63, 64, 65, 130};
enum { ODD = sizeof odd / sizeof *odd };

/* Pairs of rows and keys that all tests walk: some with more rows than keys (empty rows). */
static bool chosen(int nq, int nk)
{
    return (nq + nk) % 3 == 0 || nq == nk || nq == 1 || nk == 1;
}

/* ---------------------------------------------------------------- comparison */

typedef struct want {
    const char *name;
    qn_array x;
} want;

static void compare(const char *text, const char *kernel, qn_args *a, const want *w, int nw,
                    double far)
{
    qn_ir_file *f = qn_lab_corpus(&lab, text);
    const qn_interp_result *exact = qn_lab_run(&lab, f, kernel, a, QN_EXACT, 0);
    const qn_interp_result *typed = qn_lab_run(&lab, f, kernel, a, QN_TYPED, 0);
    const qn_interp_result *exact5 = qn_lab_run(&lab, f, kernel, a, QN_EXACT, 5);
    const qn_interp_result *typed5 = qn_lab_run(&lab, f, kernel, a, QN_TYPED, 5);
    for (int k = 0; k < nw; k++) {
        const qn_array *x = qn_result(exact, w[k].name), *t = qn_result(typed, w[k].name);
        double d = qn_distance(x, &w[k].x);
        cr_expect(d <= far, "%s %s %s: %g from the reference", text, kernel ? kernel : "",
                  w[k].name, d);
        qn_verdict v = qn_judge(x, t);
        cr_expect(v.ok, "%s %s %s: typed is %g tolerances off at %lld", text, kernel ? kernel : "",
                  w[k].name, v.worst, (long long)v.at);
        cr_expect(v.skipped * 2 <= qn_array_count(x) || !x->f, "%s %s: %lld without a verdict",
                  text, w[k].name, (long long)v.skipped);
        cr_expect(qn_same_bits(x, qn_result(exact5, w[k].name)), "%s %s: order, exact", text,
                  w[k].name);
        cr_expect(qn_same_bits(t, qn_result(typed5, w[k].name)), "%s %s: order, typed", text,
                  w[k].name);
    }
}
#define COMPARE(text, kernel, a, far, ...)          \
    compare(text, kernel, a, (want[]){__VA_ARGS__}, \
            (int)(sizeof((want[]){__VA_ARGS__}) / sizeof(want)), far)

/* ---------------------------------------------------------------- the definition */

typedef bool (*keep_fn)(void *user, int64_t i, int64_t j);

static bool causal(void *offset, int64_t i, int64_t j)
{
    return j <= i + *(int64_t *)offset;
}

/* Weights of one row of scores over the kept keys; returns the log of their sum (-inf: none). */
static double soften(const double *s, const bool *keep, int64_t n, double *p)
{
    double m = -INFINITY, l = 0;
    for (int64_t j = 0; j < n; j++) {
        m = keep[j] && s[j] > m ? s[j] : m;
    }
    for (int64_t j = 0; j < n; j++) {
        p[j] = keep[j] && s[j] > -INFINITY ? exp(s[j] - m) : 0;
        l += p[j];
    }
    for (int64_t j = 0; j < n; j++) {
        p[j] = l > 0 ? p[j] / l : 0;
    }
    return l > 0 ? m + log(l) : -INFINITY;
}

static double inner(const double *a, const double *b, int64_t n)
{
    double s = 0;
    for (int64_t k = 0; k < n; k++) {
        s += a[k] * b[k];
    }
    return s;
}

/* One head: o[nq, e] and lse[nq] (either may be NULL), scores scale * <q, k> + slope * (j - i).
 * Mask by keep (NULL: all). p, if given, takes the weights [nq, nk]. */
typedef struct head {
    int64_t nq, nk, d, e;
    const double *q, *k, *v;
    double scale, slope;
    keep_fn keep;
    void *user;
    double *o, *lse, *p;
} head;

static void attend(const head *h)
{
    double *s = QN_NEWN(&lab.arena, double, h->nk + 1),
           *row = QN_NEWN(&lab.arena, double, h->nk + 1);
    bool *keep = QN_NEWN(&lab.arena, bool, h->nk + 1);
    for (int64_t i = 0; i < h->nq; i++) {
        for (int64_t j = 0; j < h->nk; j++) {
            s[j] = inner(h->q + i * h->d, h->k + j * h->d, h->d) * h->scale +
                   h->slope * (double)(j - i - (h->nk - h->nq));
            keep[j] = !h->keep || h->keep(h->user, i, j);
        }
        double *p = h->p ? h->p + i * h->nk : row;
        double lse = soften(s, keep, h->nk, p);
        if (h->lse) {
            h->lse[i] = lse;
        }
        for (int64_t x = 0; h->o && x < h->e; x++) {
            double sum = 0;
            for (int64_t j = 0; j < h->nk; j++) {
                sum += p[j] != 0 ? p[j] * h->v[j * h->e + x] : 0;
            }
            h->o[i * h->e + x] = sum;
        }
    }
}

/* ---------------------------------------------------------------- (a) (b) (c) */

static void grouped(int nq, int nk)
{
    enum { HQ = 4, HK = 2, D = 5, E = 6 };
    qn_array q = NORMAL(QN_F32, 1, HQ, nq, D), k = NORMAL(QN_F32, 1, HK, nk, D),
             v = NORMAL(QN_F32, 1, HK, nk, E), slope = NORMAL(QN_F32, HQ);
    qn_array o = ZEROS(QN_F32, 1, HQ, nq, E), lse = ZEROS(QN_F32, 1, HQ, nq);
    int64_t offset = nk - nq;
    for (int h = 0; h < HQ; h++) {
        slope.f[h] *= 0.125;
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .e = E,
                       .q = q.f + h * nq * D,
                       .k = k.f + h / 2 * nk * D,
                       .v = v.f + h / 2 * nk * E,
                       .scale = 1 / sqrt(D),
                       .slope = slope.f[h],
                       .keep = causal,
                       .user = &offset,
                       .o = o.f + h * nq * E,
                       .lse = lse.f + h * nq});
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    qn_args_array(&a, "slope", slope);
    COMPARE("a_naive", NULL, &a, 1e-11, {"o", o}, {"lse", lse});
    COMPARE("b_tiled", NULL, &a, 1e-11, {"o", o}, {"lse", lse});
    if ((nq + nk) % 2 == 0 || nq * nk < 4200) {
        COMPARE("c_leaf", NULL, &a, 1e-11, {"o", o}, {"lse", lse});
    }
}

Test(interp, grouped_heads_at_three_levels)
{
    for (int x = 0; x < ODD; x++) {
        for (int y = 0; y < ODD; y++) {
            if (chosen(odd[x], odd[y])) {
                grouped(odd[x], odd[y]);
            }
        }
    }
}
