/* SPDX-License-Identifier: MIT
 *
 * The oracle against plain C: every text of the corpus over odd shapes, in exact mode to 1e-11 of
 * an independent computation of the definition, in typed mode within the tolerance of its own
 * error bounds, and the tasks of a launch in two orders with equal bits. */
#include "tests/support/exec.h"
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

/* Machine code of the same text against the exact result; the targets take turns. */
static void machine(const char *text, const char *kernel, const qn_ir_file *f, const qn_args *a,
                    const qn_interp_result *exact)
{
    for (const qn_target *const *t = qn_targets; *t; t++) {
        static int turn;
        if (!(*t)->here() || ++turn % 2 == 0 || strcmp(text, "o_ring") == 0) {
            continue; /* no processor has asynchronous copies */
        }
        qn_exec_result r = qn_exec(&lab, f, kernel, a, &(qn_exec_options){.target = *t, .backwards = true});
        cr_assert(r.status == QN_OK && r.setup == 0, "%s %s on %s: %s", text, kernel ? kernel : "",
                  (*t)->isa, qn_lab_errors(&lab));
        cr_expect(!r.touched, "%s %s on %s wrote outside its outputs", text, kernel ? kernel : "", (*t)->isa);
        for (int k = 0; k < exact->nouts; k++) {
            const qn_array *x = &exact->outs[k].array, *got = qn_exec_out(&r, exact->outs[k].name);
            qn_verdict v = qn_judge(x, got);
            cr_expect(v.ok, "%s %s %s on %s: %g tolerances off at %lld", text, kernel ? kernel : "",
                      exact->outs[k].name, (*t)->isa, v.worst, (long long)v.at);
        }
    }
}

static void compare(const char *text, const char *kernel, qn_args *a, const want *w, int nw,
                    double far)
{
    qn_ir_file *f = qn_lab_corpus(&lab, text);
    const qn_interp_result *exact = qn_lab_run(&lab, f, kernel, a, QN_EXACT, 0);
    const qn_interp_result *typed = qn_lab_run(&lab, f, kernel, a, QN_TYPED, 0);
    const qn_interp_result *exact5 = qn_lab_run(&lab, f, kernel, a, QN_EXACT, 5);
    const qn_interp_result *typed5 = qn_lab_run(&lab, f, kernel, a, QN_TYPED, 5);
    machine(text, kernel, f, a, exact);
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

static void pairs(void (*test)(int nq, int nk), int parity)
{
    int number = 0;
    for (int x = 0; x < ODD; x++) {
        for (int y = 0; y < ODD; y++) {
            if (chosen(odd[x], odd[y]) && number++ % 2 == parity) {
                test(odd[x], odd[y]);
            }
        }
    }
}

/* ---------------------------------------------------------------- (c2) (c3) (d) (e) */

static void bf16_pairs(int nq, int nk)
{
    enum { H = 2, D = 5, E = 6 };
    qn_array q = NORMAL(QN_BF16, H, nq, D), k = NORMAL(QN_BF16, H, nk, D),
             v = NORMAL(QN_BF16, H, nk, E), o = ZEROS(QN_F32, H, nq, E);
    for (int h = 0; h < H; h++) {
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .e = E,
                       .q = q.f + h * nq * D,
                       .k = k.f + h * nk * D,
                       .v = v.f + h * nk * E,
                       .scale = 1 / sqrt(D),
                       .o = o.f + h * nq * E});
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    COMPARE("c2_leaf_bf16", NULL, &a, 1e-11, {"o", o});
}

Test(interp, pairs_of_bf16_in_layouts)
{
    pairs(bf16_pairs, 0);
}

static void packed(int nq, int nk)
{
    enum { HQ = 2, D = 4, E = 3 };
    qn_array q = NORMAL(QN_BF16, 1, HQ, nq, D), k = NORMAL(QN_BF16, 1, 1, nk, D),
             v = NORMAL(QN_BF16, 1, 1, nk, E), o = ZEROS(QN_F32, 1, HQ, nq, E);
    for (int h = 0; h < HQ; h++) {
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .e = E,
                       .q = q.f + h * nq * D,
                       .k = k.f,
                       .v = v.f,
                       .scale = 0.5,
                       .o = o.f + h * nq * E});
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    COMPARE("d_packv", NULL, &a, 1e-11, {"o", o});
}

Test(interp, a_first_launch_packs)
{
    pairs(packed, 0);
}

Test(interp, decode_with_three_lane_axes)
{
    enum { HK = 2, D = 32 };
    const int lengths[] = {1, 2, 95, 96, 97, 130, 200};
    for (int n = 0; n < 7; n++) {
        int nk = lengths[n];
        qn_array q = NORMAL(QN_F32, 1, 8, D), k = NORMAL(QN_F32, 1, HK, nk, D),
                 v = NORMAL(QN_F32, 1, HK, nk, D), o = ZEROS(QN_F32, 1, 8, D);
        for (int h = 0; h < 8; h++) {
            attend(&(head){.nq = 1,
                           .nk = nk,
                           .d = D,
                           .e = D,
                           .q = q.f + h * D,
                           .k = k.f + h / 4 * nk * D,
                           .v = v.f + h / 4 * nk * D,
                           .scale = 1 / sqrt(D),
                           .o = o.f + h * D});
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "k", k);
        qn_args_array(&a, "v", v);
        COMPARE("c3_leaf_decode", NULL, &a, 1e-11, {"o", o});
    }
}

Test(interp, split_and_merged)
{
    enum { B = 2, HQ = 4, HK = 2, D = 5, E = 3 };
    const int lengths[] = {1, 2, 95, 96, 97, 130, 200};
    for (int n = 0; n < 7; n++) {
        int nk = lengths[n];
        qn_array q = NORMAL(QN_F32, B, HQ, D), k = NORMAL(QN_F32, B, HK, nk, D),
                 v = NORMAL(QN_F32, B, HK, nk, E), o = ZEROS(QN_F32, B, HQ, E),
                 lse = ZEROS(QN_F32, B, HQ);
        for (int bh = 0; bh < B * HQ; bh++) {
            int g = bh / HQ * HK + bh % HQ / 2;
            attend(&(head){.nq = 1,
                           .nk = nk,
                           .d = D,
                           .e = E,
                           .q = q.f + bh * D,
                           .k = k.f + g * nk * D,
                           .v = v.f + g * nk * E,
                           .scale = 1 / sqrt(D),
                           .o = o.f + bh * E,
                           .lse = lse.f + bh});
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "k", k);
        qn_args_array(&a, "v", v);
        COMPARE("e_splitkv", NULL, &a, 1e-11, {"o", o}, {"lse", lse});
    }
}

/* ---------------------------------------------------------------- (f) */

static void mixture(int nq, int nk, int window)
{
    enum { H = 4, D = 3, E = 2 };
    qn_array q = NORMAL(QN_F32, H, nq, D), k = NORMAL(QN_F32, H, nk, D),
             v = NORMAL(QN_F32, H, nk, E), sink = NORMAL(QN_F32, H), o = ZEROS(QN_F32, H, nq, E);
    int64_t offset = nk - nq;
    for (int h = 0; h < H; h++) {
        for (int i = 0; i < nq; i++) {
            double l = h < 3 ? exp(sink.f[h]) : 0, *to = o.f + (h * nq + i) * E;
            for (int j = 0; j < nk; j++) {
                bool keep = j <= i + offset && (h == 3 || j < 4 || i + offset - j < window);
                double w = keep ? exp(inner(q.f + (h * nq + i) * D, k.f + (h * nk + j) * D, D)) : 0;
                l += w;
                for (int e = 0; e < E; e++) {
                    to[e] += w * v.f[(h * nk + j) * E + e];
                }
            }
            for (int e = 0; e < E; e++) {
                to[e] = l > 0 ? to[e] / l : 0;
            }
        }
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    qn_args_array(&a, "sink", sink);
    qn_args_int(&a, "W", QN_I32, window);
    qn_args_array(&a, "window_heads", qn_ints(&lab, QN_I32, 1, SHAPE(3), SHAPE(2, 0, 1)));
    qn_args_array(&a, "dense_heads", qn_ints(&lab, QN_I32, 1, SHAPE(1), SHAPE(3)));
    COMPARE("f_sinks_mix", "@mix_naive", &a, 1e-11, {"o", o});
    COMPARE("f_sinks_mix", "@mix", &a, 1e-11, {"o", o});
}

static void mixtures(int nq, int nk)
{
    mixture(nq, nk, 1);
    mixture(nq, nk, 9);
    mixture(nq, nk, 40);
}

Test(interp, two_kinds_of_heads_in_one_launch)
{
    pairs(mixtures, 1);
}

/* ---------------------------------------------------------------- (g) */

typedef struct table { /* keep[i * n + j] */
    const bool *keep;
    int64_t n;
} table;

static bool in_table(void *user, int64_t i, int64_t j)
{
    const table *t = user;
    return t->keep[i * t->n + j];
}

Test(interp, block_lists)
{
    enum { H = 2, D = 3, E = 2 };
    for (int x = 0; x < ODD; x++) {
        int n = odd[x], nb = (n + 15) / 16, entries = 0;
        qn_random r = {(uint64_t)n};
        qn_array ptr = ZEROS(QN_I32, nb + 1), list = ZEROS(QN_I32, nb * nb + 1);
        bool *keep = QN_NEWN(&lab.arena, bool, n *n);
        for (int ib = 0; ib < nb; ib++) {
            for (int jb = 0; jb < nb; jb++) {
                if (ib == 0 || qn_random_below(&r, 2)) {
                    continue; /* the first block row stays empty */
                }
                list.i[entries++] = jb;
                for (int i = ib * 16; i < ib * 16 + 16 && i < n; i++) {
                    for (int j = jb * 16; j < jb * 16 + 16 && j < n; j++) {
                        keep[i * n + j] = true;
                    }
                }
            }
            ptr.i[ib + 1] = entries;
        }
        list.shape[0] = entries;
        qn_array q = NORMAL(QN_F32, H, n, D), k = NORMAL(QN_F32, H, n, D),
                 v = NORMAL(QN_F32, H, n, E), o = ZEROS(QN_F32, H, n, E);
        for (int h = 0; h < H; h++) {
            attend(&(head){.nq = n,
                           .nk = n,
                           .d = D,
                           .e = E,
                           .q = q.f + h * n * D,
                           .k = k.f + h * n * D,
                           .v = v.f + h * n * E,
                           .scale = 0.25,
                           .keep = in_table,
                           .user = &(table){keep, n},
                           .o = o.f + h * n * E});
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "k", k);
        qn_args_array(&a, "v", v);
        qn_args_array(&a, "ptr", ptr);
        qn_args_array(&a, "blk", list);
        COMPARE("g_sparse", "@block_csr", &a, 1e-11, {"o", o});
    }
}

Test(interp, gathered_keys)
{
    enum { H = 2, D = 3, E = 2, C = 5 };
    for (int x = 0; x < ODD; x++) {
        int n = odd[x];
        qn_random r = {(uint64_t)n + 7};
        qn_array idx = ZEROS(QN_I32, H, n, C), q = NORMAL(QN_F32, H, n, D),
                 k = NORMAL(QN_F32, H, n, D), v = NORMAL(QN_F32, H, n, E),
                 o = ZEROS(QN_F32, H, n, E);
        for (int h = 0; h < H; h++) {
            bool *keep = QN_NEWN(&lab.arena, bool, n *n);
            for (int i = 0; i < n; i++) {
                for (int c = 0; c < C; c++) { /* absent, or a key that is not there yet */
                    int64_t j = qn_random_below(&r, 3) ? qn_random_below(&r, n) : -1;
                    bool fresh = j >= 0 && !keep[i * n + j];
                    idx.i[(h * n + i) * C + c] = fresh ? j : -1;
                    if (fresh) {
                        keep[i * n + j] = true;
                    }
                }
            }
            attend(&(head){.nq = n,
                           .nk = n,
                           .d = D,
                           .e = E,
                           .q = q.f + h * n * D,
                           .k = k.f + h * n * D,
                           .v = v.f + h * n * E,
                           .scale = 0.25,
                           .keep = in_table,
                           .user = &(table){keep, n},
                           .o = o.f + h * n * E});
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "k", k);
        qn_args_array(&a, "v", v);
        qn_args_array(&a, "idx", idx);
        COMPARE("g_sparse", "@gathered", &a, 1e-11, {"o", o});
    }
}

Test(interp, a_paged_cache_whose_rest_is_poison)
{
    enum { B = 3, HQ = 4, HK = 2, D = 3, E = 2 };
    for (int x = 0; x < ODD; x++) {
        int n = odd[x], most = (n + 15) / 16, pages = B * most + 1, next = pages - 1;
        int64_t length[B] = {n, 0, n / 2 > 1 ? n / 2 : 1};
        qn_array q = NORMAL(QN_F32, B, HQ, D), kk = NORMAL(QN_F32, B, HK, n, D),
                 vv = NORMAL(QN_F32, B, HK, n, E), kc = ZEROS(QN_F32, pages, 16, HK, D),
                 vc = ZEROS(QN_F32, pages, 16, HK, E), pt = ZEROS(QN_I32, B, most),
                 o = ZEROS(QN_F32, B, HQ, E);
        for (int64_t c = 0; c < qn_array_count(&kc); c++) {
            kc.f[c] = NAN;
        }
        for (int64_t c = 0; c < qn_array_count(&vc); c++) {
            vc.f[c] = NAN;
        }
        for (int b = 0; b < B; b++) {
            for (int p = 0; p < most; p++) {
                pt.i[b * most + p] = -1;
            }
            for (int t = 0; t < length[b]; t++) {
                if (t % 16 == 0) {
                    pt.i[b * most + t / 16] = next--;
                }
                int64_t page = pt.i[b * most + t / 16], row = page * 16 + t % 16;
                for (int g = 0; g < HK; g++) {
                    memcpy(kc.f + (row * HK + g) * D, kk.f + ((b * HK + g) * n + t) * D,
                           sizeof(double) * D);
                    memcpy(vc.f + (row * HK + g) * E, vv.f + ((b * HK + g) * n + t) * E,
                           sizeof(double) * E);
                }
            }
            for (int h = 0; h < HQ; h++) {
                int g = b * HK + h / 2;
                attend(&(head){.nq = 1,
                               .nk = length[b],
                               .d = D,
                               .e = E,
                               .q = q.f + (b * HQ + h) * D,
                               .k = kk.f + g * n * D,
                               .v = vv.f + g * n * E,
                               .scale = 0.25,
                               .o = o.f + (b * HQ + h) * E});
            }
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "kc", kc);
        qn_args_array(&a, "vc", vc);
        qn_args_array(&a, "table", pt);
        qn_args_array(&a, "len", qn_ints(&lab, QN_I32, 1, SHAPE(B), length));
        COMPARE("g_sparse", "@paged", &a, 1e-11, {"o", o});
    }
}

/* ---------------------------------------------------------------- (h) */

Test(interp, recurrences_and_their_chunks)
{
    enum { H = 2, D = 4, E = 3 };
    for (int x = 0; x < ODD; x++) {
        int n = odd[x];
        qn_array q = NORMAL(QN_F32, H, n, D), k = NORMAL(QN_F32, H, n, D),
                 v = NORMAL(QN_F32, H, n, E), la = NORMAL(QN_F32, H, n, D),
                 s0 = NORMAL(QN_F32, H, D, E), beta = ZEROS(QN_F32, H, n);
        qn_array o = ZEROS(QN_F32, H, n, E), st = qn_floats(&lab, QN_F32, 3, s0.shape, s0.f);
        qn_random r = {(uint64_t)n};
        for (int64_t c = 0; c < H * n * D; c++) {
            la.f[c] = -fabs(la.f[c]) * 0.25;
        }
        for (int ht = 0; ht < H * n; ht++) {
            double *s = st.f + ht / n * D * E;
            for (int d = 0; d < D; d++) {
                for (int e = 0; e < E; e++) {
                    s[d * E + e] =
                        exp(la.f[ht * D + d]) * s[d * E + e] + k.f[ht * D + d] * v.f[ht * E + e];
                    o.f[ht * E + e] += q.f[ht * D + d] * s[d * E + e];
                }
            }
            beta.f[ht] = qn_random_unit(&r);
        }
        qn_args a = {0};
        qn_args_array(&a, "q", q);
        qn_args_array(&a, "k", k);
        qn_args_array(&a, "v", v);
        qn_args gated = a;
        qn_args_array(&gated, "loga", la);
        qn_args_array(&gated, "state", s0);
        COMPARE("h_recurrent", "@gla_step", &gated, 1e-11, {"o", o}, {"state", st});
        COMPARE("h_recurrent", "@gla_chunk", &gated, 1e-11, {"o", o}, {"state", st});

        /* the delta rule: S = (1 - beta k k') S + beta k v', keys of length one */
        qn_array delta = ZEROS(QN_F32, H, n, E);
        for (int ht = 0; ht < H * n; ht++) {
            double length = sqrt(inner(k.f + ht * D, k.f + ht * D, D));
            for (int d = 0; d < D; d++) {
                k.f[ht * D + d] /= length;
            }
        }
        qn_array_round(&k);
        qn_array_round(&beta);
        for (int h = 0; h < H; h++) {
            double s[D * E] = {0};
            for (int t = h * n; t < h * n + n; t++) {
                for (int e = 0; e < E; e++) {
                    double seen = 0;
                    for (int d = 0; d < D; d++) {
                        seen += k.f[t * D + d] * s[d * E + e];
                    }
                    for (int d = 0; d < D; d++) {
                        s[d * E + e] += beta.f[t] * k.f[t * D + d] * (v.f[t * E + e] - seen);
                        delta.f[t * E + e] += q.f[t * D + d] * s[d * E + e];
                    }
                }
            }
        }
        qn_args ruled = a;
        qn_args_array(&ruled, "beta", beta);
        COMPARE("h_recurrent", "@delta_step", &ruled, 1e-11, {"o", delta});
        COMPARE("h_recurrent", "@delta_chunk", &ruled, 1e-11, {"o", delta});
    }
}

/* ---------------------------------------------------------------- (i) */

static void backward(int nq, int nk)
{
    enum { HQ = 4, HK = 2, D = 3, E = 2 };
    qn_array q = NORMAL(QN_F32, HQ, nq, D), k = NORMAL(QN_F32, HK, nk, D),
             v = NORMAL(QN_F32, HK, nk, E), slope = NORMAL(QN_F32, HQ),
             dout = NORMAL(QN_F32, HQ, nq, E), o = ZEROS(QN_F32, HQ, nq, E),
             lse = ZEROS(QN_F32, HQ, nq), dq = ZEROS(QN_F32, HQ, nq, D),
             dk = ZEROS(QN_F32, HK, nk, D), dv = ZEROS(QN_F32, HK, nk, E),
             dslope = ZEROS(QN_F32, HQ);
    int64_t offset = nk - nq;
    double sc = 1 / sqrt(D), *p = QN_NEWN(&lab.arena, double, nq *nk);
    for (int h = 0; h < HQ; h++) {
        slope.f[h] *= 0.125;
        const double *qh = q.f + h * nq * D, *kh = k.f + h / 2 * nk * D, *vh = v.f + h / 2 * nk * E,
                     *doh = dout.f + h * nq * E;
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .e = E,
                       .q = qh,
                       .k = kh,
                       .v = vh,
                       .scale = sc,
                       .slope = slope.f[h],
                       .keep = causal,
                       .user = &offset,
                       .o = o.f + h * nq * E,
                       .lse = lse.f + h * nq,
                       .p = p});
        for (int i = 0; i < nq; i++) {
            double mean = 0; /* sum p dp, the Jacobian of the weights written in another way */
            for (int j = 0; j < nk; j++) {
                mean += p[i * nk + j] * inner(doh + i * E, vh + j * E, E);
            }
            for (int j = 0; j < nk; j++) {
                double w = p[i * nk + j], g = w * (inner(doh + i * E, vh + j * E, E) - mean);
                for (int d = 0; d < D; d++) {
                    dq.f[(h * nq + i) * D + d] += g * kh[j * D + d] * sc;
                    dk.f[(h / 2 * nk + j) * D + d] += g * qh[i * D + d] * sc;
                }
                for (int e = 0; e < E; e++) {
                    dv.f[(h / 2 * nk + j) * E + e] += w * doh[i * E + e];
                }
                dslope.f[h] += g * (double)(j - i - offset);
            }
        }
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    qn_args_array(&a, "slope", slope);
    qn_args_array(&a, "o", o);
    qn_args_array(&a, "lse", lse);
    qn_args_array(&a, "do", dout);
    COMPARE("i_backward", NULL, &a, 1e-10, {"dq", dq}, {"dk", dk}, {"dv", dv}, {"dslope", dslope});
}

Test(interp, gradients_that_meet_in_many_tasks)
{
    pairs(backward, 0);
}

/* ---------------------------------------------------------------- (j) */

static void side_outputs(int nq, int nk)
{
    enum { H = 2, D = 3 };
    qn_array q = NORMAL(QN_F32, H, nq, D), k = NORMAL(QN_F32, H, nk, D),
             mass = ZEROS(QN_F32, H, nk), best = ZEROS(QN_I64, H, nq),
             top = ZEROS(QN_I64, H, nq, 3), topv = ZEROS(QN_F32, H, nq, 3);
    for (int64_t c = 0; c < H * nq * D; c++) {
        q.f[c] = round(q.f[c]); /* ties */
    }
    for (int64_t c = 0; c < H * nk * D; c++) {
        k.f[c] = round(k.f[c]);
    }
    int64_t offset = nk - nq;
    double *p = QN_NEWN(&lab.arena, double, nq *nk);
    for (int h = 0; h < H; h++) {
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .q = q.f + h * nq * D,
                       .k = k.f + h * nk * D,
                       .scale = 1,
                       .keep = causal,
                       .user = &offset,
                       .p = p});
        for (int i = 0; i < nq; i++) {
            int64_t *t = top.i + (h * nq + i) * 3;
            double *tv = topv.f + (h * nq + i) * 3;
            for (int r = 0; r < 3; r++) {
                t[r] = -1;
                tv[r] = -INFINITY;
                for (int j = 0; j < nk && j <= i + offset; j++) {
                    double s = inner(q.f + (h * nq + i) * D, k.f + (h * nk + j) * D, D);
                    if (s > tv[r] && j != t[0] && (r < 2 || j != t[1])) {
                        t[r] = j;
                        tv[r] = s;
                    }
                }
            }
            best.i[h * nq + i] = t[0];
            for (int j = 0; j < nk; j++) {
                mass.f[h * nk + j] += p[i * nk + j];
            }
        }
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    COMPARE("j_outputs", "@side_naive", &a, 1e-11, {"mass", mass}, {"best", best}, {"top", top},
            {"topv", topv});
    COMPARE("j_outputs", "@side", &a, 1e-11, {"mass", mass}, {"best", best}, {"top", top},
            {"topv", topv});
}

Test(interp, strongest_keys_and_mass)
{
    pairs(side_outputs, 0);
}

/* ---------------------------------------------------------------- (k) */

static void documents(int count, const int *lengths)
{
    enum { H = 2, D = 3, E = 2 };
    qn_array cu = ZEROS(QN_I32, count + 1);
    for (int n = 0; n < count; n++) {
        cu.i[n + 1] = cu.i[n] + lengths[n];
    }
    int64_t total = cu.i[count], zero = 0;
    qn_array q = NORMAL(QN_F32, H, total, D), k = NORMAL(QN_F32, H, total, D),
             v = NORMAL(QN_F32, H, total, E), o = ZEROS(QN_F32, H, total, E);
    for (int h = 0; h < H; h++) {
        for (int n = 0; n < count; n++) {
            int64_t at = h * total + cu.i[n];
            attend(&(head){.nq = lengths[n],
                           .nk = lengths[n],
                           .d = D,
                           .e = E,
                           .q = q.f + at * D,
                           .k = k.f + at * D,
                           .v = v.f + at * E,
                           .scale = 1,
                           .keep = causal,
                           .user = &zero,
                           .o = o.f + at * E});
        }
    }
    qn_args a = {0};
    qn_args_dim(&a, "B", count);
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    qn_args_array(&a, "cu", cu);
    COMPARE("k_document", "@doc_naive", &a, 1e-11, {"o", o});
    COMPARE("k_document", "@doc", &a, 1e-11, {"o", o});
}

Test(interp, packed_documents)
{
    documents(1, (int[]){1});
    documents(3, (int[]){7, 1, 16});
    documents(4, (int[]){17, 30, 2, 5});
    documents(3, (int[]){0, 3, 33});
}

/* ---------------------------------------------------------------- (l) (m) (n) (o) */

static void plain(int m, int n)
{
    qn_array x = NORMAL(QN_F32, m, 7), y = NORMAL(QN_F32, n, 7), c = ZEROS(QN_F32, m, n);
    for (int i = 0; i < m * n; i++) {
        c.f[i] = inner(x.f + i / n * 7, y.f + i % n * 7, 7);
    }
    qn_args a = {0};
    qn_args_array(&a, "x", x);
    qn_args_array(&a, "y", y);
    COMPARE("l_plain", "@gram", &a, 1e-11, {"c", c});

    qn_array s = NORMAL(QN_F32, m, n), p = ZEROS(QN_F32, m, n);
    bool *all = QN_NEWN(&lab.arena, bool, n);
    memset(all, true, (size_t)n);
    for (int j = 0; j < n; j++) {
        s.f[j] = -INFINITY; /* the first row holds nothing */
    }
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            s.f[i * n + j] *= 4;
        }
        soften(s.f + i * n, all, n, p.f + i * n);
    }
    qn_args b = {0};
    qn_args_array(&b, "x", s);
    COMPARE("l_plain", "@rowsoft", &b, 1e-11, {"y", p});
}

Test(interp, products_and_rows_without_attention)
{
    pairs(plain, 0);
}

static void sigmoids(int nq, int nk)
{
    enum { H = 2, D = 3, E = 2 };
    const double bias = -0.75;
    qn_array q = NORMAL(QN_F32, H, nq, D), k = NORMAL(QN_F32, H, nk, D),
             v = NORMAL(QN_F32, H, nk, E), o = ZEROS(QN_F32, H, nq, E);
    for (int hi = 0; hi < H * nq; hi++) {
        int h = hi / nq;
        for (int j = 0; j < nk && j <= hi % nq + nk - nq; j++) {
            double s = inner(q.f + hi * D, k.f + (h * nk + j) * D, D) + bias;
            for (int e = 0; e < E; e++) {
                o.f[hi * E + e] += v.f[(h * nk + j) * E + e] / (1 + exp(-s));
            }
        }
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    qn_args_float(&a, "bias", QN_F32, bias);
    COMPARE("m_sigmoid", "@sigmoid_naive", &a, 1e-11, {"o", o});
    COMPARE("m_sigmoid", "@sigmoid_tiled", &a, 1e-11, {"o", o});
}

Test(interp, a_norm_without_a_row_statistic)
{
    pairs(sigmoids, 0);
}

static void unfused(int nq, int nk)
{
    enum { H = 2, D = 3, E = 2 };
    qn_array q = NORMAL(QN_F32, H, nq, D), k = NORMAL(QN_F32, H, nk, D),
             v = NORMAL(QN_F32, H, nk, E), o = ZEROS(QN_F32, H, nq, E);
    int64_t offset = nk - nq;
    for (int h = 0; h < H; h++) {
        attend(&(head){.nq = nq,
                       .nk = nk,
                       .d = D,
                       .e = E,
                       .q = q.f + h * nq * D,
                       .k = k.f + h * nk * D,
                       .v = v.f + h * nk * E,
                       .scale = 1 / sqrt(D),
                       .keep = causal,
                       .user = &offset,
                       .o = o.f + h * nq * E});
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    qn_args_array(&a, "v", v);
    COMPARE("n_unfused", NULL, &a, 1e-11, {"o", o});
}

Test(interp, three_launches_over_a_call_buffer)
{
    pairs(unfused, 0);
}

static void ring(int nq, int nk)
{
    enum { H = 2, D = 3 };
    qn_array q = NORMAL(QN_F16, H, nq, D), k = NORMAL(QN_F16, H, nk, D), m = ZEROS(QN_F32, H, nq);
    for (int hi = 0; hi < H * nq; hi++) {
        m.f[hi] = -INFINITY;
        for (int j = 0; j < nk; j++) {
            double s = inner(q.f + hi * D, k.f + (hi / nq * nk + j) * D, D);
            m.f[hi] = s > m.f[hi] ? s : m.f[hi];
        }
    }
    qn_args a = {0};
    qn_args_array(&a, "q", q);
    qn_args_array(&a, "k", k);
    COMPARE("o_ring", NULL, &a, 1e-11, {"m", m});
}

Test(interp, copies_fly_through_a_ring)
{
    pairs(ring, 0);
}
