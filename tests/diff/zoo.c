/* SPDX-License-Identifier: MIT
 *
 * Every spec of the zoo against its definition, over shapes that cover all pairs of: rows, keys,
 * ratio of heads, head sizes and the layout of memory. Machine code is made once a spec and pair of
 * head sizes. Two rules judge (ir/tolerance.h): the bound of rounding, and at most twice the error
 * of a naive evaluation. Between the elements of every float tensor lie NaNs; those of outputs must
 * still be there.
 *
 * By default each spec takes its share of the covering, another one than its neighbours, so that
 * the zoo as a whole walks all of it. QUERN_DIFF=all takes all of it for each; QUERN_DIFF=name one
 * spec, all shapes. */
#include "runtime/internal.h"
#include "tests/support/support.h"
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FACTORS = 5, MOST_SHAPES = 96, SHARE = 10, MOST_SPECS = 256 };

/* ---------------------------------------------------------------- shapes */

static const int tokens[] = {1, 2, 7, 63, 64, 65, 130, 257};
static const int ratios[] = {1, 3, 4, 8};
static const int sizes_of_head[][2] = {{1, 1},   {8, 8},     {40, 40},   {64, 64},
                                       {80, 80}, {128, 128}, {256, 256}, {40, 24}};
typedef enum layout { PLAIN, PADDED, TURNED, BROADCAST } layout;
static const int levels[FACTORS] = {8, 8, 4, 8, 4};

typedef struct shape {
    int at[FACTORS]; /* rows, keys, ratio, head, layout */
} shape;

/* Greedy: the shape that covers most pairs not yet covered, of some tried, until all are. */
static int covering(shape *out)
{
    static bool seen[FACTORS][8][FACTORS][8];
    memset(seen, 0, sizeof seen);
    qn_random r = {20};
    int count = 0;
    for (int left = 1; left > 0 && count < MOST_SHAPES; count++) {
        shape best = {{0}};
        int most = -1;
        for (int tries = 0; tries < 400; tries++) {
            shape s;
            int fresh = 0;
            for (int f = 0; f < FACTORS; f++) {
                s.at[f] = (int)qn_random_below(&r, levels[f]);
                for (int g = 0; g < f; g++) {
                    fresh += !seen[g][s.at[g]][f][s.at[f]];
                }
            }
            if (fresh > most) {
                most = fresh;
                best = s;
            }
        }
        left = 0;
        for (int f = 0; f < FACTORS; f++) {
            for (int g = 0; g < f; g++) {
                seen[g][best.at[g]][f][best.at[f]] = true;
                for (int a = 0; a < levels[g]; a++) {
                    for (int b = 0; b < levels[f]; b++) {
                        left += !seen[g][a][f][b];
                    }
                }
            }
        }
        out[count] = best;
    }
    return count;
}

/* ---------------------------------------------------------------- layouts */

typedef struct memory {
    void *base[QN_TRIAL_MOST]; /* of all blocks, to be freed: NULL where the trial's own stays */
    int64_t bytes[QN_TRIAL_MOST], strides[QN_TRIAL_MOST][12];
} memory;

/* The element's place in a row-major array, and in the new layout. */
static int64_t place(const DLTensor *x, const int64_t *strides, int64_t flat)
{
    int64_t at = 0;
    for (int a = x->ndim - 1; a >= 0; a--) {
        at += flat % x->shape[a] * strides[a];
        flat /= x->shape[a];
    }
    return at;
}

static int64_t elements(const DLTensor *x)
{
    int64_t n = 1;
    for (int a = 0; a < x->ndim; a++) {
        n *= x->shape[a];
    }
    return n;
}

/* Moves tensor k of the trial into memory of another layout, NaN in all gaps. */
static void move(qn_trial *t, int k, bool out, layout how, memory *m)
{
    DLTensor *x = &t->tensors[k];
    int64_t n = elements(x), *s = m->strides[k], step = 1, size = x->dtype.bits / 8;
    bool is_float = x->dtype.code == kDLFloat || x->dtype.code == kDLBfloat;
    m->base[k] = NULL;
    if (how == PLAIN || x->ndim == 0 || !is_float || n == 0) {
        return;
    }
    int order[12];
    for (int a = 0; a < x->ndim; a++) {
        order[a] = a;
    }
    if (how == TURNED && x->ndim == 4) { /* [B, N, H, D] in memory */
        order[1] = 2;
        order[2] = 1;
    }
    for (int a = x->ndim - 1; a >= 0; a--) {
        bool same = how == BROADCAST && !out && x->ndim == 4 && order[a] == 1;
        s[order[a]] = same ? 0 : step;
        step *= same ? 1 : x->shape[order[a]];
        step += a == x->ndim - 1 ? 3 : 0; /* a gap after every row */
    }
    m->bytes[k] = (step + 8) * size;
    m->base[k] = malloc((size_t)m->bytes[k]);
    memset(m->base[k], 0xff, (size_t)m->bytes[k]);
    x->byte_offset = (uint64_t)(4 * size);
    for (int64_t e = 0; e < n; e++) {
        memcpy((char *)m->base[k] + (4 + place(x, s, e)) * size, (char *)x->data + e * size,
               (size_t)size);
    }
    void *old = x->data;
    x->data = m->base[k];
    x->strides = s;
    m->base[k] = old; /* the trial frees the new one, we the old one */
}

/* Is all of an output's gaps as it was? */
static bool gaps_are_whole(const DLTensor *x, int64_t bytes)
{
    int64_t size = x->dtype.bits / 8, n = elements(x);
    unsigned char *copy = malloc((size_t)bytes);
    memcpy(copy, x->data, (size_t)bytes);
    for (int64_t e = 0; e < n; e++) {
        memset(copy + (4 + place(x, x->strides, e)) * size, 0xff, (size_t)size);
    }
    bool whole = true;
    for (int64_t b = 0; b < bytes; b++) {
        whole = whole && copy[b] == 0xff;
    }
    free(copy);
    return whole;
}

/* ---------------------------------------------------------------- one spec */

typedef struct tally {
    int checks;
    double worst, worst_naive;
} tally;

static void check_shape(qn_trial *t, const char *path, const char *sizes, layout how, tally *y)
{
    memory m;
    size_t bytes = 0;
    for (int k = 0; k < t->call.nargs; k++) {
        move(t, k, qn_kernel_arg(t->kernel, k)->kind != QN_ARG_IN, how, &m);
    }
    free(t->call.workspace);
    t->call.workspace = NULL;
    qn_status s = qn_workspace(t->kernel, &t->call, &bytes);
    cr_expect_eq(s, QN_OK, "%s at %s: %s", path, sizes, t->message);
    t->call.workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
    t->call.workspace_bytes = bytes;
    qn_check_result r = {.size = sizeof r};
    s = s == QN_OK ? qn_check_with(t->cx, t->source, &t->options, t->kernel, &t->call, 0, &r) : s;
    cr_expect(s == QN_OK, "%s at %s, layout %d: %s", path, sizes, how, qn_ctx_message(t->cx));
    if (s == QN_OK) {
        cr_expect(r.worst <= 1, "%s at %s, layout %d: %s[%lld] is %g tolerances off", path, sizes,
                  how, r.output ? r.output : "", (long long)r.index, r.worst);
        cr_expect(r.worst_naive <= 1, "%s at %s, layout %d: %g of twice the naive error", path,
                  sizes, how, r.worst_naive);
        y->checks++;
        y->worst = r.worst > y->worst ? r.worst : y->worst;
        y->worst_naive = r.worst_naive > y->worst_naive ? r.worst_naive : y->worst_naive;
    }
    s = s == QN_OK ? qn_run(t->kernel, &t->call) : s;
    cr_expect(s == QN_OK, "%s at %s: %s", path, sizes, t->message);
    for (int k = 0; k < t->call.nargs; k++) {
        bool out = qn_kernel_arg(t->kernel, k)->kind != QN_ARG_IN;
        cr_expect(!out || !m.base[k] || gaps_are_whole(&t->tensors[k], m.bytes[k]),
                  "%s at %s, layout %d: something was written beside %s", path, sizes, how,
                  qn_kernel_arg(t->kernel, k)->name);
        free(m.base[k]);
    }
}

static void check_spec(const char *path, const shape *shapes, int count, int first, int step,
                       tally *y)
{
    for (int head = 0; head < levels[3]; head++) {
        qn_trial t;
        bool open = false;
        for (int n = first; n < count; n += step) {
            const shape *s = &shapes[n];
            if (s->at[3] != head) {
                continue;
            }
            char sizes[160];
            int d = sizes_of_head[head][0], dv = sizes_of_head[head][1], g = ratios[s->at[2]];
            snprintf(sizes, sizeof sizes, "B=%d Hq=%d Hk=%d Hv=%d Nq=%d Nk=%d D=%d Dv=%d",
                     d <= 8 ? 2 : 1, g < 3 ? 2 : g, g < 3 ? 2 : 1, g < 3 ? 2 : 1, tokens[s->at[0]],
                     tokens[s->at[1]], d, dv);
            qn_source source = qn_file(path);
            if (open && !qn_trial_resize(&t, sizes, (uint64_t)n + 1)) {
                cr_expect(false, "%s at %s: %s %s", path, sizes, qn_ctx_message(t.cx), t.message);
                continue;
            }
            if (!open && !qn_trial_open(&t, source, NULL, sizes, (uint64_t)n + 1)) {
                cr_expect(false, "%s at %s: %s %s", path, sizes, qn_ctx_message(t.cx), t.message);
                qn_trial_close(&t);
                break;
            }
            open = true;
            check_shape(&t, path, sizes, (layout)s->at[4], y);
        }
        if (open) {
            qn_trial_close(&t);
        }
    }
}

/* ---------------------------------------------------------------- the zoo */

static int list_specs(const char *folder, char (*out)[512], int count)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d)) != NULL && count < MOST_SPECS;) {
        char path[512];
        size_t n = strlen(e->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".lua") == 0) {
            strcpy(out[count++], path);
        } else if (!strchr(e->d_name, '.')) {
            count = list_specs(path, out, count);
        }
    }
    if (d) {
        closedir(d);
    }
    return count;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

Test(zoo, against_the_definition, .timeout = 7200)
{
    static char paths[MOST_SPECS][512];
    static shape shapes[MOST_SHAPES];
    int specs = list_specs(QN_ROOT "/examples/zoo", paths, 0), count = covering(shapes);
    qsort(paths, (size_t)specs, sizeof *paths, by_name);
    const char *want = getenv("QUERN_DIFF");
    cr_assert(specs > 0 && count > 60);
    tally y = {0};
    for (int k = 0; k < specs; k++) {
        bool all = want && strcmp(want, "all") == 0;
        if (!want || all || strstr(paths[k], want)) {
            check_spec(paths[k], shapes, count, want ? 0 : k % SHARE, want ? 1 : SHARE, &y);
        }
    }
    fprintf(stderr, "zoo: %d specs, %d checks of %d shapes, worst %.2f, %.2f of twice naive\n",
            specs, y.checks, count, y.worst, y.worst_naive);
}
