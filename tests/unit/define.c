/* The definition against the lowered text in the oracle (no code in common), against itself in
 * naive f32 (bounds must explain the difference), and masks against plain C. */
#include "frontend/frontend.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "tests/support/host.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_lab lab;
static host_world world, *const w = &world;

static void setup(void)
{
    qn_lab_open(&lab);
    host_init(w, &lab.ir, "spec.lua");
}

static void teardown(void)
{
    qn_lab_close(&lab);
}

TestSuite(define, .init = setup, .fini = teardown);

/* ---------------------------------------------------------------- specs */

typedef struct parts { /* one world of declarations that the specs below share */
    const qn_host_value *slope, *sink, *bias, *cu, *pos, *idx, *window, *cap, *causal, *near, *outs,
        *lse, *max;
} parts;

static parts declare(void)
{
    parts p;
    p.slope = host_tensor(w, "slope", "f32", "Hq", NULL);
    p.sink = host_tensor(w, "sink", "f32", "Hq", NULL);
    p.bias = host_tensor(w, "bias", "f32", "B", "Nq", "Nk", NULL);
    p.cu = host_tensor(w, "cu", "i32", "Ndoc+1", NULL);
    p.pos = host_tensor(w, "pos", "i32", "B", "Nq", NULL);
    p.idx = host_tensor(w, "idx", "i32", "B", "Nk", NULL);
    p.window = host_param(w, "window", "i32", host_int(w, 5));
    p.cap = host_param(w, "cap", "f32", host_float(w, 3.5));
    p.causal = host_fn(w, "function(b, h, i, j) return j <= i end", NULL);
    p.near = host_fn(w, "function(b, h, i, j) return i - j < W end", "W", p.window, NULL);
    p.lse = host_list(w, NULL, host_string(w, "lse"), NULL);
    p.max = host_list(w, NULL, host_string(w, "max"), NULL);
    p.outs = host_list(w, NULL, host_string(w, "lse"), host_string(w, "max"), NULL);
    return p;
}

static const qn_host_value *rows(void)
{
    return host_table(w, "position", "kind", host_string(w, "rows"), NULL);
}

enum { SPECS = 19 };
static const qn_host_value *spec(int k)
{
    parts p = declare();
    switch (k) {
    case 0:
        return host_table(w, "attention", "outputs", p.outs, NULL);
    case 1:
        return host_table(w, "attention", "mask", p.causal, "outputs", p.outs, "score",
                          host_fn(w, "function(s, b, h, i, j) return s + slope[h] * (j - i) end",
                                  "slope", p.slope, NULL),
                          NULL);
    case 2:
        return host_table(
            w, "attention", "mask",
            host_list(w, "and", p.causal, host_table(w, "document", "cu", p.cu, NULL), p.near,
                      NULL),
            "norm", host_table(w, "norm", "kind", host_string(w, "softmax"), "sink", p.sink, NULL),
            "outputs", p.outs, NULL);
    case 3: { /* groups, early return, loop, constants, bucket, epilogue */
        const qn_host_value *t =
            host_list(w, NULL, host_float(w, 0.5), host_float(w, 0.25), host_int(w, 2), NULL);
        const qn_host_value *score =
            host_fn(w,
                    "function(s, b, h, i, j)\n"
                    "  local x = s * 0.5\n"
                    "  local n = math.floor(math.log(math.abs(i - j) + 1))\n"
                    "  if i - j > 3 then x = x + 1 elseif j == 0 then\n"
                    "    return 2.0^(-8*(h+1)/8) * (j - i) end\n"
                    "  for k = 1, 3 do x = x + T[k] * x end\n"
                    "  return x + bias[b][i][j] + n\n"
                    "end",
                    "T", t, "bias", p.bias, NULL);
        const qn_host_value *even =
            host_table(w, NULL, "when", host_fn(w, "function(h) return h % 2 == 0 end", NULL),
                       "mask", p.causal, NULL);
        const qn_host_value *rest =
            host_table(w, NULL, "mask", p.near, "norm", host_norm(w, "sigmoid"), NULL);
        return host_table(w, "attention", "score", score, "heads",
                          host_list(w, NULL, even, rest, NULL), "out",
                          host_fn(w, "function(o, b, h, i, d) return o * slope[h] + d end", "slope",
                                  p.slope, NULL),
                          NULL);
    }
    case 4: { /* a user's norm without stat; the score ignores s */
        const qn_host_value *norm =
            host_table(w, "norm", "weight",
                       host_fn(w,
                               "function(s, m, b, h) return math.max(s, 0) + math.log(1 + "
                               "math.exp(-math.abs(s))) + t[h]^2 end",
                               "t", p.sink, NULL),
                       "finish", host_fn(w, "function(o, l) return o / l end", NULL), NULL);
        return host_table(
            w, "attention", "position", rows(), "mask", p.causal, "norm", norm, "outputs", p.max,
            "score",
            host_fn(w, "function(s, b, h, i, j) return cap * qn.tanh(bias[b][i][j] / cap) end",
                    "bias", p.bias, "cap", p.cap, NULL),
            NULL);
    }
    case 5: /* positions, indices and divisors from data */
        return host_table(w, "attention", "position", p.pos, "norm", host_norm(w, "linear"), "mask",
                          host_list(w, "or", host_list(w, "not", p.causal, NULL), p.near, NULL),
                          "score",
                          host_fn(w,
                                  "function(s, b, h, i, j) return s + bias[b][i][idx[b][j]] + j // "
                                  "(idx[b][j] - 3) end",
                                  "bias", p.bias, "idx", p.idx, NULL),
                          NULL);
    case 6:
        return host_table(w, "attention", "norm", host_norm(w, "relu2"), "scale",
                          host_float(w, 0.25), "mask", p.near, "outputs", p.max, NULL);
    case 7:
        return host_table(w, "attention", "score", host_fn(w, "function(s) return 0 end", NULL),
                          NULL);
    case 8: { /* base 2 with a sink */
        const qn_host_value *norm =
            host_table(w, "norm", "stat", host_string(w, "max"), "weight",
                       host_fn(w, "function(s, m) return qn.exp2(s - m) end", NULL), "rescale",
                       host_fn(w, "function(a, b) return qn.exp2(a - b) end", NULL), "finish",
                       host_fn(w,
                               "function(o, l, m, b, h)\n"
                               "  local t = math.max(m, sink[h])\n"
                               "  local f = qn.exp2(m - t)\n"
                               "  local z = l * f + qn.exp2(sink[h] - t)\n"
                               "  return o * f / z, t + qn.log2(z)\n"
                               "end",
                               "sink", p.sink, NULL),
                       NULL);
        return host_table(w, "attention", "mask", p.causal, "norm", norm, "outputs", p.lse, NULL);
    }
    case 9: /* none, with a scale from a tensor */
        return host_table(w, "attention", "norm", host_norm(w, "none"), "scale", p.slope, "mask",
                          p.causal, NULL);
    case 11: /* masks that are no tiles */
        return host_table(w, "attention", "mask", host_bool(w, true), NULL);
    case 12:
        return host_table(w, "attention", "mask", host_bool(w, false), "outputs", p.outs, NULL);
    case 13:
        return host_table(w, "attention", "mask",
                          host_fn(w, "function(b, h) return h ~= 1 end", NULL), "outputs", p.lse,
                          NULL);
    case 14: /* scores and results that are no tiles either */
        return host_table(w, "attention", "score",
                          host_fn(w, "function(s, b, h, i, j) return j // 3 end", NULL), "out",
                          host_fn(w, "function(o, b, h, i, d) return i end", NULL), NULL);
    case 15:
        return host_table(w, "attention", "mask",
                          host_fn(w, "function(b, h, i, j) return i % 2 == 0 end", NULL), "score",
                          host_fn(w, "function(s, b, h, i, j) return i - h end", NULL), "outputs",
                          p.outs, NULL);
    case 16: /* two groups by data, and a sink a group */
        return host_table(
            w, "attention", "heads",
            host_list(w, NULL,
                      host_table(
                          w, NULL, "when",
                          host_fn(w, "function(h) return slope[h] > 0 end", "slope", p.slope, NULL),
                          "norm",
                          host_table(w, "norm", "kind", host_string(w, "softmax"), "sink",
                                     host_float(w, 0.5), NULL),
                          NULL),
                      host_table(w, NULL, "mask", p.causal, "scale", host_int(w, 1), NULL), NULL),
            "outputs", p.lse, NULL);
    case 17: /* bits, shifts, float modulo, mixed comparisons */
        return host_table(w, "attention", "score",
                          host_fn(w,
                                  "function(s, b, h, i, j)\n"
                                  "  local x = (i ~ j) & 255 | j << 1 + (i & 3)\n"
                                  "  x = x >> (j % 5 - 2)\n"
                                  "  if i + 0.5 > j then x = -x end\n"
                                  "  return s % 1.5 + 0.001 * (x % 1001) + (j - i) // -3\n"
                                  "end",
                                  NULL),
                          NULL);
    case 18:
        return host_table(
            w, "attention", "norm", host_norm(w, "relu"), "score",
            host_fn(
                w,
                "function(s, b, h, i, j) return s * s - math.fmod(s, 0.75) + math.fmod(j, 3) end",
                NULL),
            NULL);
    default: /* a score list, and a mask that reads i and j of a table under a condition */
        return host_table(
            w, "attention", "score",
            host_list(
                w, NULL, host_fn(w, "function(s) return 4 * qn.tanh(s / 4) end", NULL),
                host_fn(
                    w,
                    "function(s, b, h, i, j) return s - qn.select(j < i, math.sqrt(i - j), 0) end",
                    NULL),
                NULL),
            "mask",
            host_fn(w, "function(b, h, i, j) return i == j or (j > 0 and idx[b][j - 1] ~= 2) end",
                    "idx", p.idx, NULL),
            "outputs", p.lse, NULL);
    }
}

/* ---------------------------------------------------------------- arguments */

static int64_t size_of(const qn_spec *s, qn_extent e, const int64_t *sizes)
{
    static const char *const names[] = {"B", "Hq", "Hk", "Hv", "Nq", "Nk", "D", "Dv"};
    (void)s;
    for (int k = 0; e.dim && k < 8; k++) {
        if (strcmp(names[k], e.dim) == 0) {
            return sizes[k];
        }
    }
    return e.dim ? 4 : e.n;
}

static qn_args arguments(const qn_spec *s, const int64_t *sizes, uint64_t seed)
{
    qn_args a = {0};
    for (int k = 0; k < s->params.count; k++) {
        const qn_param *p = &s->params.at[k];
        int64_t shape[QN_MAX_AXES];
        for (int m = 0; m < p->type.rank; m++) {
            shape[m] = size_of(s, p->type.axes[m].extent, sizes);
        }
        if (p->type.rank == 0) {
            continue;
        }
        if (qn_dtype_is_float(p->type.dtype)) {
            qn_args_array(&a, p->name,
                          qn_normal(&lab, p->type.dtype, seed + (uint64_t)k, p->type.rank, shape));
            continue;
        }
        qn_array x = qn_zeros(&lab, p->type.dtype, p->type.rank, shape);
        qn_random r = {seed + (uint64_t)k};
        for (int64_t m = 0; m < qn_array_count(&x); m++) {
            x.i[m] = qn_random_below(&r, sizes[5] < 5 ? sizes[5] : 5); /* some below 3, some 3 */
        }
        if (strcmp(p->name, "cu") == 0) { /* 0, 2, 2, and short of the end or past it */
            int64_t cu[4] = {0, 2, 2, sizes[5] % 2 ? 7 : 4};
            memcpy(x.i, cu, sizeof cu);
        }
        qn_args_array(&a, p->name, x);
    }
    return a;
}

static const qn_array *out_of(const qn_definition *d, const char *name)
{
    for (int k = 0; k < d->nouts; k++) {
        if (strcmp(d->outs[k].name, name) == 0) {
            return &d->outs[k].array;
        }
    }
    return NULL;
}

static void compare(int k, const qn_spec *s, const qn_ir_file *f, const int64_t *sizes)
{
    qn_args a = arguments(s, sizes, 77 + (uint64_t)k);
    qn_definition exact, naive;
    cr_assert(qn_define(s, a.at, a.count, QN_DEFINE_EXACT, &exact, &lab.diags), "%d: %s", k,
              qn_lab_errors(&lab));
    cr_assert(qn_define(s, a.at, a.count, QN_DEFINE_NAIVE, &naive, &lab.diags), "%d: %s", k,
              qn_lab_errors(&lab));
    const qn_interp_result *r = qn_lab_run(&lab, f, NULL, &a, QN_EXACT, 0);
    cr_expect((exact.flag != NULL) == (r->flag != NULL), "%d: flags %s and %s", k, exact.flag,
              r->flag);
    for (int m = 0; m < r->nouts; m++) {
        const qn_array *x = out_of(&exact, r->outs[m].name), *n = out_of(&naive, r->outs[m].name);
        cr_assert(x, "%d: no %s", k, r->outs[m].name);
        double d = qn_distance(x, &r->outs[m].array);
        cr_expect(d < 1e-12, "%d: %s of Nq %d Nk %d is %g away", k, r->outs[m].name, (int)sizes[4],
                  (int)sizes[5], d);
        qn_verdict v = qn_judge(x, n);
        cr_expect(v.ok, "%d: %s naive is %g bounds away at %d", k, r->outs[m].name, v.worst,
                  (int)v.at);
        cr_expect(v.compared > 0 || qn_array_count(x) == 0, "%d: %s has no verdicts", k,
                  r->outs[m].name);
    }
}

Test(define, agrees_with_the_lowered_text_in_the_oracle)
{
    static const int64_t shapes[][2] = {{5, 9}, {9, 5}, {1, 17}, {13, 13}, {3, 1}, {0, 4}, {4, 0}};
    for (int k = 0; k < SPECS; k++) {
        qn_spec_options o = {k == 18 ? "q=f64 k=f64 v=f64"
                             : k % 2 ? "q=f16 k=f16"
                                     : NULL,
                             k % 3 ? "D=8" : NULL};
        const qn_spec *s = qn_spec_check(&lab.ir, spec(k), &o, &lab.diags);
        cr_assert(s, "%d: %s", k, qn_lab_errors(&lab));
        const qn_ir_file *f = qn_lower(&lab.ir, s, &lab.diags);
        cr_assert(f && qn_verify(f, &lab.diags), "%d: %s", k, qn_lab_errors(&lab));
        qn_buf text = qn_buf_of(&lab.arena); /* the text of the spec is the spec */
        qn_spec_print(s, &text);
        const qn_spec *t = qn_spec_parse(&lab.ir, text.text, text.length, &lab.diags);
        cr_assert(t, "%d: %s", k, qn_lab_errors(&lab));
        cr_expect_str_eq(qn_file_text(&lab.arena, qn_lower(&lab.ir, t, &lab.diags)),
                         qn_file_text(&lab.arena, f));
        for (size_t m = 0; m < sizeof shapes / sizeof *shapes; m++) {
            compare(k, s, f,
                    (const int64_t[]){2, 4, 2, 1, shapes[m][0], shapes[m][1], 8, k % 3 ? 8 : 5});
        }
    }
}

/* ---------------------------------------------------------------- masks */

/* With weights 1 and values the unit matrix, o is the kept set. */
static void expect_mask(const qn_host_value *mask, const qn_host_value *position, const char *what,
                        const qn_array *cu, bool (*keep)(int64_t i, int64_t j, int64_t flat))
{
    const qn_host_value *one = host_fn(w, "function(s) return 1 end", NULL);
    const qn_host_value *h = host_table(w, "attention", "norm", host_norm(w, "none"), "score", one,
                                        "mask", mask, position ? "position" : NULL, position, NULL);
    const qn_spec *s = qn_spec_check(&lab.ir, h, NULL, &lab.diags);
    cr_assert(s, "%s: %s", what, qn_lab_errors(&lab));
    static const int64_t shapes[][2] = {{7, 11}, {11, 7}, {10, 10}};
    for (size_t m = 0; m < sizeof shapes / sizeof *shapes; m++) {
        int64_t nq = shapes[m][0], nk = shapes[m][1];
        qn_args a = {0};
        qn_array v = qn_zeros(&lab, QN_F32, 4, (int64_t[]){1, 1, nk, nk});
        for (int64_t j = 0; j < nk; j++) {
            v.f[j * nk + j] = 1;
        }
        qn_args_array(&a, "q", qn_zeros(&lab, QN_F32, 4, (int64_t[]){1, 1, nq, 2}));
        qn_args_array(&a, "k", qn_zeros(&lab, QN_F32, 4, (int64_t[]){1, 1, nk, 2}));
        qn_args_array(&a, "v", v);
        if (cu) {
            qn_args_array(&a, "cu", *cu);
        }
        qn_definition d;
        cr_assert(qn_define(s, a.at, a.count, QN_DEFINE_EXACT, &d, &lab.diags), "%s: %s", what,
                  qn_lab_errors(&lab));
        for (int64_t r = 0; r < nq; r++) {
            for (int64_t j = 0; j < nk; j++) {
                int64_t flat = r + nk - nq, i = position ? r : flat;
                bool have = d.outs[0].array.f[r * nk + j] == 1;
                cr_expect(have == keep(i, j, flat), "%s: %d %d of %d %d is %d", what, (int)i,
                          (int)j, (int)nq, (int)nk, have);
            }
        }
    }
}

static bool in_window(int64_t i, int64_t j, int64_t flat)
{
    (void)flat;
    return j <= i && i - j < 5;
}

static bool in_mixture(int64_t i, int64_t j, int64_t flat)
{
    (void)flat;
    return (!(j <= i) || i - j < 5) && (i - j) % 2 == 0;
}

static bool in_document(int64_t i, int64_t j, int64_t flat)
{
    static const int64_t cu[] = {1, 4, 4, 9};
    (void)i;
    for (int k = 0; k < 3; k++) {
        if (cu[k] <= flat && flat < cu[k + 1] && cu[k] <= j && j < cu[k + 1]) {
            return true;
        }
    }
    return false;
}

Test(define, masks_are_the_sets_that_they_say)
{
    parts p = declare();
    const qn_host_value *even =
        host_fn(w, "function(b, h, i, j) return (i - j) % 2 == 0 end", NULL);
    const qn_host_value *window = host_list(w, "and", p.causal, p.near, NULL);
    const qn_host_value *either =
        host_list(w, "or", host_list(w, "not", p.causal, NULL), p.near, NULL);
    const qn_host_value *document = host_table(w, "document", "cu", p.cu, NULL);
    qn_array cu = qn_ints(&lab, QN_I32, 1, (int64_t[]){4}, (int64_t[]){1, 4, 4, 9});
    expect_mask(window, NULL, "window", NULL, in_window);
    expect_mask(window, rows(), "window by rows", NULL, in_window);
    expect_mask(host_list(w, "and", either, even, NULL), NULL, "mixture", NULL, in_mixture);
    expect_mask(document, NULL, "documents", &cu, in_document);
    expect_mask(document, rows(), "documents by rows", &cu, in_document);
}

Test(define, wrong_arguments_are_named)
{
    const qn_spec *s = qn_spec_check(&lab.ir, spec(1), NULL, &lab.diags);
    cr_assert(s, "%s", qn_lab_errors(&lab));
    static const int64_t sizes[] = {1, 4, 2, 2, 3, 3, 4, 4};
    qn_definition d;
    qn_args a = arguments(s, sizes, 1);
    a.count--;
    cr_expect(!qn_define(s, a.at, a.count, QN_DEFINE_EXACT, &d, &lab.diags));
    cr_expect(strstr(qn_lab_errors(&lab), "slope"));
    a = arguments(s, (const int64_t[]){1, 4, 3, 2, 3, 3, 4, 4}, 1);
    cr_expect(!qn_define(s, a.at, a.count, QN_DEFINE_EXACT, &d, &lab.diags));
    cr_expect(strstr(qn_lab_errors(&lab), "E-REQ"));
    a = arguments(s, sizes, 1);
    a.at[3].array.shape[0] = 3;
    cr_expect(!qn_define(s, a.at, a.count, QN_DEFINE_EXACT, &d, &lab.diags));
    cr_expect(strstr(qn_lab_errors(&lab), "slope: dimension 1 is 3, expected 4"));
}
