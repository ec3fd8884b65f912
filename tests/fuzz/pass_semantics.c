/* SPDX-License-Identifier: MIT
 *
 * Passes keep the meaning. The input is a seed: it grows a small naive kernel, a schedule and a
 * list of passes; the oracle runs the text before and after. An input that is itself IR text also
 * goes through passes under random schedules: whatever comes out must keep the rules of the
 * verifier.
 *
 *     fuzz_pass_semantics FILE..      replays; QN_FUZZ_PRINT=1 prints what each seed grows,
 *                                     QN_FUZZ_SKIP=leaf,hoist leaves those passes out */
#include "ir/interp.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/schedule.h"
#include "ir/verify.h"
#include "ir/walk.h"
#include "passes/pass.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct world {
    qn_arena arena, scratch;
    qn_ir ir;
    qn_diags diags;
    uint64_t state;
    qn_buf text, schedule, passes;
    bool print;
} world;

static uint64_t next(world *w)
{
    w->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = w->state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int below(world *w, int n)
{
    return (int)(next(w) % (uint64_t)n);
}

#define PICK(w, list) (list)[below((w), (int)(sizeof(list) / sizeof *(list)))]

/* ---------------------------------------------------------------- programs */

static const char norms[] =
    "norm @soft(s, v) -> (o, e) {\n"
    "  stat m = max(s)\n"
    "  weight select(s == -inf, 0.0, exp(s - m))\n"
    "  rescale(m0, m1) select(m0 == -inf, 0.0, exp(m0 - m1))\n"
    "  sum l = 1.0\n"
    "  sum a = v\n"
    "  finish o = select(l > 0.0, a / l, 0.0), e = select(l > 0.0, m + log(l), 0.0)\n"
    "}\n"
    "norm @left(s, v) -> (o, e) {\n"
    "  stat m = max(s)\n"
    "  weight select(s == -inf, 0.0, exp(s - m))\n"
    "  sum l = 1.0\n"
    "  sum a = v\n"
    "  finish o = select(l > 0.0, a / l, 0.0), e = l\n"
    "}\n"
    "norm @plain(s, v) -> (o, e) {\n"
    "  stat none\n"
    "  weight sigmoid(s)\n"
    "  sum a = v / (1.0 + abs(v))\n"
    "  sum l = s\n"
    "  finish o = a, e = l\n"
    "}\n";

static void grow_values(world *w)
{
    static const char *const scale[] = {"0.5", "rsqrt(f32(D))", "c", "u[h]"};
    static const char *const add[] = {"", " + z[h, j:M]", " - f32(j:M - i:N)", " * v[i:N]",
                                      " + reduce.sum(z[h, j:M], over j)"};
    static const char *const mask[] = {
        "j:M <= i:N + (M - N)",
        "i:N - j:M < 2",
        "j:M % 2 == 0",
        "j:M < 1 or i:N - j:M < 2 and j:M <= i:N",
        "sel[j:M] > 0",
        "j:M <= i:N and sel[j:M] <= sel[i:N % M]",
        "i:N // 2 == j:M // 2",
        "not (j:M == i:N)",
        "j:M - W <= i:N and h < 1",
        "true",
    };
    qn_buf_printf(&w->text,
                  "      %%s = dot(x[h, i:N, d:D], y[h, j:M, d:D], over d) * %s%s\n"
                  "      %%k = %s%s\n",
                  PICK(w, scale), PICK(w, add), PICK(w, mask), below(w, 2) ? " !mask" : "");
}

static void grow_results(world *w)
{
    static const char *const norm[] = {"soft", "left", "plain"};
    static const char *const value[] = {"y[h, j:M, d:D]", "y[h, j:M, d:D] * z[h, j:M]",
                                        "x[h, i:N, d:D] + y[h, j:M, d:D]"};
    bool fold = below(w, 4) > 0;
    if (fold) {
        qn_buf_printf(&w->text, "      %%o, %%e = fold @%s(%%s%s, %s, over j%s)\n", PICK(w, norm),
                      below(w, 3) ? "" : " * 2.0", PICK(w, value), below(w, 4) ? ", where %k" : "");
        qn_buf_puts(&w->text, "      store o[h, i:N, d:D] = %o\n"
                              "      store e[h, i:N] = %e\n");
    }
    if (below(w, 3) == 0) {
        qn_buf_puts(&w->text, "      store m[h, i:N] = reduce.max(select(%k, %s, -inf), over j)\n");
    }
    if (below(w, 4) == 0) {
        qn_buf_puts(&w->text, "      store a[h, i:N] = reduce.argmax(%s, over j)\n");
    }
    if (below(w, 4) == 0) {
        qn_buf_puts(&w->text,
                    "      store t[h, i:N] = dot(exp(%s), 1.0 / (z[h, j:M] + 9.0), over j)\n");
    }
    if (below(w, 4) == 0) {
        qn_buf_printf(&w->text, "      store p[h, i:N, j:M] = %s\n",
                      fold && below(w, 2) ? "%s - %e" : "%s");
    }
    if (below(w, 5) == 0) {
        qn_buf_puts(&w->text, "      store q[h, j:M] = reduce.sum(select(%k, %s, 0.0), over i)\n");
    }
}

/* Outputs are set first by a launch of their own, so that each is defined. */
static void grow_program(world *w)
{
    qn_buf_puts(&w->text, norms);
    qn_buf_puts(&w->text, "kernel @g !level(naive) {\n"
                          "  dim H, N, M, D\n"
                          "  in x: f32[h:H, i:N, d:D]\n"
                          "  in y: f32[h:H, j:M, d:D]\n"
                          "  in z: f32[h:H, j:M]\n"
                          "  in v: f32[i:N]\n"
                          "  in u: f32[h:H]\n"
                          "  in sel: i32[j:M]\n"
                          "  in c: f32\n"
                          "  in W: i64\n"
                          "  inout o: f32[h:H, i:N, d:D]\n"
                          "  inout e: f32[h:H, i:N]\n"
                          "  inout m: f32[h:H, i:N]\n"
                          "  inout a: i64[h:H, i:N]\n"
                          "  inout t: f32[h:H, i:N]\n"
                          "  inout p: f32[h:H, i:N, j:M]\n"
                          "  inout q: f32[h:H, j:M]\n"
                          "  launch {\n"
                          "    par for h in 0..H {\n");
    grow_values(w);
    grow_results(w);
    qn_buf_puts(&w->text, "    }\n  }\n}\n");
}

static void grow_schedule(world *w)
{
    static const char *const form[] = {"stream", "twopass", "unfused"};
    qn_buf *b = &w->schedule;
    qn_buf_puts(b, "schedule @g for \"any\" {\n");
    for (const char *axis = "ijd"; *axis; axis++) {
        if (below(w, *axis == 'd' ? 5 : 1) == 0) {
            qn_buf_printf(b, "  tile %c %d\n", *axis, 1 + below(w, 5));
        }
    }
    if (below(w, 3) == 0) {
        qn_buf_printf(b, "  split j %d\n  tile p 2\n", 1 + below(w, 4));
    }
    if (below(w, 4) == 0) {
        qn_buf_puts(b, "  pack y (h, j // 2, d, j % 2)\n");
    }
    if (below(w, 3) == 0) {
        qn_buf_printf(b, "  form %s\n", PICK(w, form));
    }
    if (below(w, 5) == 0) {
        qn_buf_puts(b, "  peel none\n");
    }
    if (below(w, 5) == 0) {
        qn_buf_puts(b, "  ranges off\n");
    }
    if (below(w, 5) == 0) {
        qn_buf_printf(b, "  tile h %d\n", 1 + below(w, 2));
    }
    if (below(w, 2) == 0) {
        qn_buf_printf(b, "  lanes %c 4\n  block j %d\n", "ij"[below(w, 4) == 0], 1 + below(w, 3));
    }
    qn_buf_puts(b, "}\n");
}

/* Some of the pipeline, in its order; canon and dce may come anywhere. */
static void grow_passes(world *w, bool all)
{
    qn_buf *b = &w->passes;
    const char *skip = getenv("QN_FUZZ_SKIP"); /* "leaf": to find out who is to blame */
    for (const qn_pass *const *p = qn_pipeline; *p; p++) {
        bool use = all || below(w, 4) > 0;
        if (use && !(skip && strstr(skip, (*p)->name))) {
            qn_buf_printf(b, "%s%s", b->length ? "," : "", (*p)->name);
        }
        if (!all && below(w, 8) == 0) {
            qn_buf_printf(b, "%s%s", b->length ? "," : "", below(w, 2) ? "canon" : "dce");
        }
    }
}

/* ---------------------------------------------------------------- runs */

static const char *errors_of(world *w)
{
    qn_buf b = qn_buf_of(&w->arena);
    qn_diags_print(&w->diags, QN_ERROR, &b);
    return b.text ? b.text : "";
}

static void fail(world *w, const char *what)
{
    fprintf(stderr, "%s\npasses %s\n%s\n%s\n%s\n", what, w->passes.text ? w->passes.text : "",
            w->schedule.text ? w->schedule.text : "", w->text.text ? w->text.text : "",
            errors_of(w));
    abort();
}

static double normal(world *w)
{
    double sum = 0;
    for (int n = 0; n < 12; n++) {
        sum += (double)(next(w) >> 11) * 0x1p-53;
    }
    return sum - 6.0;
}

typedef struct call {
    qn_arg args[64];
    int count;
} call;

static int64_t size_of(const call *c, qn_extent e)
{
    for (int n = 0; e.dim && n < c->count; n++) {
        if (strcmp(c->args[n].name, e.dim) == 0) {
            return *c->args[n].array.i;
        }
    }
    return e.dim ? 0 : e.n;
}

static void make_call(world *w, const qn_kernel_ir *k, call *c)
{
    for (int n = 0; n < k->dims.count; n++) {
        if (!k->dims.at[n].value) {
            bool outer = k->dims.at[n].name[0] == 'H' || k->dims.at[n].name[0] == 'D';
            qn_arg *a = &c->args[c->count++];
            *a = (qn_arg){k->dims.at[n].name, {.dtype = QN_I64}};
            a->array.i = QN_NEW(&w->arena, int64_t);
            *a->array.i = outer ? 1 + below(w, 2) : below(w, 8);
        }
    }
    for (int n = 0; n < k->params.count; n++) {
        const qn_param *p = &k->params.at[n];
        qn_arg *a = &c->args[c->count++];
        *a = (qn_arg){p->name, {.dtype = p->type.dtype, .rank = p->type.rank}};
        int64_t count = 1;
        for (int i = 0; i < p->type.rank; i++) {
            a->array.shape[i] = size_of(c, p->type.axes[i].extent);
            count *= a->array.shape[i];
        }
        bool real = qn_dtype_is_float(p->type.dtype);
        a->array.f = real ? QN_NEWN(&w->arena, double, count + 1) : NULL;
        a->array.i = real ? NULL : QN_NEWN(&w->arena, int64_t, count + 1);
        for (int64_t i = 0; i < count && p->direction == QN_IN; i++) {
            if (real) {
                a->array.f[i] = normal(w);
            } else {
                a->array.i[i] = below(w, 3);
            }
        }
    }
}

static bool same(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return isnan(a) && isnan(b);
    }
    return a == b || fabs(a - b) <= 1e-9 * (1.0 + fabs(a));
}

static void compare(world *w, const qn_interp_result *a, const qn_interp_result *b)
{
    for (int n = 0; n < a->nouts; n++) {
        const qn_array *x = &a->outs[n].array, *y = &b->outs[n].array;
        int64_t count = 1;
        for (int i = 0; i < x->rank; i++) {
            count *= x->shape[i];
        }
        for (int64_t i = 0; i < count; i++) {
            if (x->f ? !same(x->f[i], y->f[i]) : x->i[i] != y->i[i]) {
                char what[160];
                snprintf(what, sizeof what, "%.40s[%lld] is %.17g before, %.17g after",
                         a->outs[n].name, (long long)i, x->f ? x->f[i] : (double)x->i[i],
                         y->f ? y->f[i] : (double)y->i[i]);
                fail(w, what);
            }
        }
    }
}

static const qn_machine machine = {"any", 4, 16, 32768, 262144};

static qn_schedule *parse_schedule(world *w)
{
    qn_ir_file *f = qn_parse(&w->ir, w->schedule.text, w->schedule.length, &w->diags);
    if (!f) {
        fail(w, "the schedule does not parse");
    }
    return f->items.at[0].u.schedule;
}

/* canon says each thing in one way, so a second time changes nothing. */
static void canon_settles(world *w, const qn_ir_file *f)
{
    qn_ir_file *copy = qn_file_copy(f);
    qn_pass_cx cx = {&w->ir, &w->scratch, qn_schedule_new(&w->ir, "@g", "any"), &machine,
                     &w->diags};
    const char *once = NULL;
    for (int n = 0; n < 2; n++) {
        qn_pipeline_options o = {.only = "canon"};
        qn_pipeline_run(&cx, &copy, "@g", &o);
        const char *text = qn_file_text(&w->arena, copy);
        if (once && strcmp(once, text) != 0) {
            fprintf(stderr, "once %s\ntwice %s\n", once, text);
            fail(w, "canon changes its own text");
        }
        once = text;
    }
}

static void one_program(world *w)
{
    grow_program(w);
    grow_schedule(w);
    grow_passes(w, below(w, 4) == 0);
    if (w->print) {
        fprintf(stderr, "passes %s\n%s\n%s\n", w->passes.text, w->schedule.text, w->text.text);
    }
    qn_ir_file *before = qn_parse(&w->ir, w->text.text, w->text.length, &w->diags);
    if (!before || !qn_verify(before, &w->diags)) {
        fail(w, "the program is not well formed");
    }
    qn_ir_file *after = qn_file_copy(before);
    qn_pass_cx cx = {&w->ir, &w->scratch, parse_schedule(w), &machine, &w->diags};
    qn_pipeline_options o = {
        .only = w->passes.text ? w->passes.text : "", .reparse = below(w, 2), .verify = true};
    if (!qn_pipeline_run(&cx, &after, "@g", &o)) {
        fail(w, "the passes fail");
    }
    canon_settles(w, before);
    canon_settles(w, after);
    for (int n = 0; n < 3; n++) {
        call c = {.count = 0};
        qn_kernel_ir *k = qn_file_kernel(before, "@g");
        make_call(w, k, &c);
        qn_interp_options io = {.mode = QN_EXACT};
        qn_interp_result a, b;
        if (!qn_interp(before, k, c.args, c.count, &io, &a, &w->diags)) {
            continue; /* a remainder by 0, say */
        }
        io.shuffle = 1 + next(w);
        if (!qn_interp(after, qn_file_kernel(after, "@g"), c.args, c.count, &io, &b, &w->diags)) {
            fail(w, qn_file_text(&w->arena, after));
        }
        compare(w, &a, &b);
    }
}

/* IR text: every kernel of it. */
static void one_text(world *w, const uint8_t *data, size_t size)
{
    qn_ir_file *f = qn_parse(&w->ir, (const char *)data, size, &w->diags);
    if (!f || !qn_verify(f, &w->diags)) {
        return;
    }
    qn_buf_put(&w->text, (const char *)data, size);
    grow_schedule(w);
    grow_passes(w, false);
    for (int n = 0; n < f->items.count; n++) {
        if (f->items.at[n].kind == QN_ITEM_KERNEL) {
            qn_ir_file *copy = qn_file_copy(f);
            qn_pass_cx cx = {&w->ir, &w->scratch, parse_schedule(w), &machine, &w->diags};
            qn_pipeline_options o = {.only = w->passes.text ? w->passes.text : "", .verify = true};
            if (!qn_pipeline_run(&cx, &copy, f->items.at[n].u.kernel->name, &o) &&
                strstr(errors_of(w), "V-LAYOUT") == NULL) {
                fail(w, "the passes fail");
            }
        }
    }
}

static void run(const uint8_t *data, size_t size, uint64_t seed, bool text)
{
    world *w = calloc(1, sizeof *w);
    jmp_buf oom;
    if (!w || setjmp(oom)) {
        abort();
    }
    qn_alloc alloc = qn_alloc_default();
    qn_arena_init(&w->arena, &alloc, &oom);
    qn_arena_init(&w->scratch, &alloc, &oom);
    qn_ir_init(&w->ir, &w->arena);
    qn_diags_init(&w->diags, &w->arena, "fuzz", NULL);
    w->text = w->schedule = w->passes = qn_buf_of(&w->arena);
    w->state = seed;
    w->print = getenv("QN_FUZZ_PRINT") != NULL;
    if (text) {
        one_text(w, data, size);
    } else {
        one_program(w);
    }
    qn_arena_fini(&w->arena);
    qn_arena_fini(&w->scratch);
    free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t seed = UINT64_C(1469598103934665603);
    for (size_t n = 0; n < size; n++) {
        seed = (seed ^ data[n]) * UINT64_C(1099511628211);
    }
    for (uint64_t n = 0; n < 4; n++) {
        run(data, size, seed + n, false);
        run(data, size, seed + n, true);
    }
    return 0;
}
