/* SPDX-License-Identifier: MIT
 *
 * The passes leaf and strip keep the meaning of every text: the oracle runs it before and after,
 * over odd shapes and under many schedules, in exact mode. What must not stay plain loops is said
 * case by case, and so are a few properties of the printed text: no guard in an innermost loop,
 * nothing wider than the registers (the verifier sees to that). */
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pass.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
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

TestSuite(leaf, .init = setup, .fini = teardown, .timeout = 120);

/* ---------------------------------------------------------------- arguments of any kernel */

typedef struct shape {
    int64_t nq, nk, d, e;
} shape;

static int64_t dim_size(const char *name, const shape *s)
{
    const struct {
        const char *name;
        int64_t n;
    } known[] = {
        {"Nq", s->nq},
        {"Nk", s->nk},
        {"N", s->nq},
        {"T", s->nq},
        {"M", s->nq},
        {"R", s->nk},
        {"D", s->d},
        {"E", s->e},
        {"K", s->d},
        {"B", 2},
        {"H", 2},
        {"Hq", 4},
        {"Hk", 2},
        {"Hw", 1},
        {"Hd", 1},
        {"C", 5},
        {"Pages", 20},
        {"Pmax", 9},
        {"Z", 2 * ((s->nq + 15) / 16) - 1},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (strcmp(known[k].name, name) == 0) {
            return known[k].n;
        }
    }
    cr_assert_fail("no size for dim %s", name);
    return 0;
}

static int64_t extent_of(const qn_args *a, qn_extent e)
{
    if (!e.dim) {
        return e.n;
    }
    for (int k = 0; k < a->count; k++) {
        if (strcmp(a->at[k].name, e.dim) == 0) {
            return a->ints[k];
        }
    }
    cr_assert_fail("dim %s is not known", e.dim);
    return 0;
}

/* Index tensors hold what their kernels may read. */
static int64_t index_value(const char *name, int64_t at, const qn_array *x, const shape *s)
{
    int64_t n = x->shape[x->rank - 1];
    if (strcmp(name, "ptr") == 0) { /* one block in the first row, two in the others */
        return at == 0 ? 0 : 2 * at - 1;
    }
    if (strcmp(name, "blk") == 0) {
        return at % 2 ? 0 : at / 2;
    }
    if (strcmp(name, "idx") == 0) {
        return (at * 7 + 3) % (s->nq + 1) - 1;
    }
    if (strcmp(name, "table") == 0) {
        return (at * 7 + 1) % 20;
    }
    if (strcmp(name, "len") == 0) {
        return at == 0 ? 9 * 16 - 5 : 33;
    }
    if (strcmp(name, "cu") == 0) {
        return at == n - 1 ? s->nq : at * (s->nq / 3);
    }
    return strcmp(name, "dense_heads") == 0;
}

static qn_args *arguments(const qn_kernel_ir *k, const shape *s)
{
    qn_args *out = QN_NEW(&lab.arena, qn_args), *all = QN_NEW(&lab.arena, qn_args);
    for (int n = 0; n < k->dims.count; n++) {
        const qn_dim *d = &k->dims.at[n];
        int64_t size;
        double f;
        if (!d->value) {
            size = dim_size(d->name, s);
            qn_args_dim(out, d->name, size);
        } else {
            cr_assert(qn_interp_scalar(&lab.ir, d->value, all->at, all->count, &f, &size));
        }
        qn_args_dim(all, d->name, size);
        all->at[all->count - 1].array.i = &all->ints[all->count - 1];
    }
    for (int n = 0; n < k->params.count; n++) {
        const qn_param *p = &k->params.at[n];
        if (p->direction == QN_OUT) {
            continue;
        }
        int64_t size[QN_MAX_AXES];
        for (int r = 0; r < p->type.rank; r++) {
            size[r] = extent_of(all, p->type.axes[r].extent);
        }
        if (!p->type.rank) {
            if (qn_dtype_is_float(p->type.dtype)) {
                qn_args_float(out, p->name, p->type.dtype, -0.25);
            } else {
                qn_args_int(out, p->name, p->type.dtype, 5);
            }
        } else if (qn_dtype_is_float(p->type.dtype)) {
            qn_args_array(out, p->name,
                          qn_normal(&lab, p->type.dtype, (uint64_t)n + 1, p->type.rank, size));
        } else {
            qn_array x = qn_zeros(&lab, p->type.dtype, p->type.rank, size);
            for (int64_t at = 0; at < qn_array_count(&x); at++) {
                x.i[at] = index_value(p->name, at, &x, s);
            }
            qn_args_array(out, p->name, x);
        }
    }
    return out;
}

/* ---------------------------------------------------------------- before and after */

typedef struct outcome {
    qn_ir_file *before, *after;
    const char *text; /* of `after` */
    int leaves;       /* nests turned */
    int guards;       /* W-GUARD */
} outcome;

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) {
        n++;
    }
    return n;
}

/* Runs passes over a copy; the schedule is lines of text. */
static outcome transform(const char *text, const char *kernel, const char *lines,
                         const char *passes, int lanes, int registers)
{
    outcome o = {0};
    qn_buf b = qn_buf_of(&lab.arena);
    const char *end = strstr(text, "\nschedule ");
    qn_buf_put(&b, text, end ? (size_t)(end - text) + 1 : strlen(text));
    qn_buf_printf(&b, "\nschedule @test for \"any\" {\n%s\n}\n", lines);
    o.before = qn_lab_text(&lab, b.text);
    qn_ir_file *f = qn_lab_text(&lab, b.text);
    qn_machine m = {"test", lanes, registers, 32768, 1 << 20};
    qn_arena scratch;
    qn_alloc heap = qn_alloc_default();
    qn_arena_init(&scratch, &heap, lab.arena.oom);
    qn_pass_cx cx = {&lab.ir, &scratch, qn_file_schedule(f, NULL), &m, &lab.diags};
    int32_t seen = lab.diags.count;
    qn_pipeline_options options = {.only = passes, .verify = true, .reparse = true};
    bool ok = qn_pipeline_run(&cx, &f, kernel, &options);
    qn_arena_fini(&scratch);
    cr_assert(ok, "%s: %s\n%s", passes, qn_lab_errors(&lab), qn_file_text(&lab.arena, f));
    o.after = f;
    o.text = qn_file_text(&lab.arena, f);
    o.leaves = count(o.text, "!leaf(");
    for (int k = seen; k < lab.diags.count; k++) {
        o.guards += strcmp(lab.diags.at[k].code, "W-GUARD") == 0;
    }
    return o;
}

static const shape shapes[] = {
    {1, 1, 5, 7},    {2, 7, 5, 7},   {7, 63, 16, 16},  {63, 64, 5, 33},
    {64, 65, 8, 16}, {65, 2, 33, 7}, {33, 130, 16, 5}, {97, 97, 5, 7},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void compare(const char *what, const outcome *o, const char *kernel, int from, int step)
{
    const qn_kernel_ir *k = qn_file_kernel(o->before, kernel);
    cr_assert(k, "%s: no kernel %s", what, kernel);
    for (int n = from % SHAPES; n < SHAPES; n += step) {
        qn_args *a = arguments(k, &shapes[n]);
        const qn_interp_result *x = qn_lab_run(&lab, o->before, k->name, a, QN_EXACT, 0);
        const qn_interp_result *y = qn_lab_try_run(&lab, o->after, k->name, a, QN_EXACT, 3);
        cr_assert(y, "%s %s, shape %d: %s\n%s", what, k->name, n, qn_lab_errors(&lab), o->text);
        for (int r = 0; r < x->nouts; r++) {
            double d = qn_distance(&y->outs[r].array, &x->outs[r].array);
            cr_assert(d < 1e-11, "%s %s, shape %d: %s is %g off\n%s", what, k->name, n,
                      x->outs[r].name, d, o->text);
        }
    }
}

/* ---------------------------------------------------------------- the corpus, swept */

static const char *const lane_lines[] = {
    "lanes i 16",
    "lanes j 8",
    "lanes e 8\nblock j 3",
    "lanes n 8\nblock m 3",
    "lanes d 16\nlanes e 16\nlanes j 16",
    "lanes j 16\nlanes d 16",
    "lanes i 1\nblock j 2\nblock e 2",
    "lanes d 8\nlanes e 8\nlanes j 8\nblock h 4",
};

static void sweep(const char *text, const char *kernel, int least)
{
    const char *source = qn_lab_read(&lab, text);
    int leaves = 0;
    for (size_t k = 0; k < sizeof lane_lines / sizeof *lane_lines; k++) {
        outcome o = transform(source, kernel, lane_lines[k], "leaf", 16, 32);
        leaves = o.leaves > leaves ? o.leaves : leaves;
        compare(lane_lines[k], &o, kernel, (int)k, 4);
    }
    cr_expect(leaves >= least, "%s %s: %d nests of %d", text, kernel, leaves, least);
}

#define SWEEP(name, text, kernel, least)                   \
    Test(leaf, name)                                       \
    {                                                      \
        sweep("tests/corpus/" text ".qir", kernel, least); \
    }
SWEEP(tiled, "b_tiled", "@causal_alibi", 1)
SWEEP(packed, "d_packv", "@packed_v", 2)
SWEEP(split, "e_splitkv", "@decode", 2)
SWEEP(mixture, "f_sinks_mix", "@mix", 2)
SWEEP(block_list, "g_sparse", "@block_csr", 1)
SWEEP(gather, "g_sparse", "@gathered", 0)
SWEEP(paged, "g_sparse", "@paged", 1)
SWEEP(step_gated, "h_recurrent", "@gla_step", 1)
SWEEP(chunk_gated, "h_recurrent", "@gla_chunk", 0)
SWEEP(step_delta, "h_recurrent", "@delta_step", 1)
SWEEP(chunk_delta, "h_recurrent", "@delta_chunk", 0)
SWEEP(backward, "i_backward", "@causal_alibi_bwd", 2)
SWEEP(outputs, "j_outputs", "@side", 1)
SWEEP(documents, "k_document", "@doc", 1)
SWEEP(rows, "l_plain", "@rowsoft", 1)
SWEEP(sigmoid, "m_sigmoid", "@sigmoid_tiled", 1)
SWEEP(unfused, "n_unfused", "@unfused", 3)

/* ---------------------------------------------------------------- panels */

static void panels(const char *text, const char *kernel, const char *lines)
{
    outcome o = transform(qn_lab_read(&lab, text), kernel, lines, "strip", 8, 16);
    cr_expect(count(o.text, " for ip in ") + count(o.text, " for jp in ") > 0, "no panels\n%s",
              o.text);
    compare("strip", &o, kernel, 0, 1);
    o = transform(qn_lab_read(&lab, text), kernel, lines, "strip,leaf", 8, 16);
    cr_expect(o.leaves > 0);
    compare("strip,leaf", &o, kernel, 0, 1);
}

Test(leaf, panels_of_tiled)
{
    panels("tests/corpus/b_tiled.qir", "@causal_alibi", "strip i 16\nlanes i 8\nblock j 6");
}

Test(leaf, panels_of_sigmoid)
{
    panels("tests/corpus/m_sigmoid.qir", "@sigmoid_tiled", "strip i 8\nlanes i 8");
}

Test(leaf, panels_of_block_list)
{
    panels("tests/corpus/g_sparse.qir", "@block_csr", "strip i 8\nlanes i 8");
}

Test(leaf, panels_of_documents)
{
    panels("tests/corpus/k_document.qir", "@doc", "strip i 8\nlanes i 8");
}

Test(leaf, panels_of_mixture)
{
    panels("tests/corpus/f_sinks_mix.qir", "@mix", "strip i 8\nlanes i 8");
}

/* ---------------------------------------------------------------- few rows */

/* The text with its first `from` replaced. */
static const char *with(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert(at);
    qn_buf b = qn_buf_of(&lab.arena);
    qn_buf_put(&b, text, (size_t)(at - text));
    qn_buf_printf(&b, "%s%s", to, at + strlen(from));
    return b.text;
}

static void few(const char *lines, const char *passes)
{
    const char *text = qn_lab_read(&lab, "tests/corpus/a_naive.qir");
    outcome o = transform(text, "@causal_alibi", lines, passes, 16, 32);
    cr_expect(strstr(o.text, "g0 in 0..Hk"), "no groups\n%s", o.text);
    cr_expect(o.leaves > 0);
    compare("few rows, open dims", &o, "@causal_alibi", 0, 1);
    o = transform(with(text, "Nk, D, E", "Nk, D = 32, E = 48"), "@causal_alibi", lines, passes, 16,
                  32);
    cr_expect(o.leaves > 0 && o.guards == 0, "%d leaves, %d guards\n%s", o.leaves, o.guards,
              o.text);
    compare("few rows, fixed dims", &o, "@causal_alibi", 0, 1);
}

#define FEW "group h 4\ntile i 1\ntile j 16\nlanes d 16\nlanes e 16\nlanes j 16\nblock h 4\npeel j"

Test(leaf, few_rows)
{
    few(FEW, "canon,group,tile,stream,ranges,peel,bare,leaf,dce");
}

Test(leaf, few_rows_split)
{
    few(FEW "\nsplit j 32", "canon,split,group,tile,stream,ranges,peel,bare,leaf,dce");
}

Test(leaf, few_rows_of_three)
{
    few("group h 3\ntile i 2\ntile j 8\nlanes d 8\nlanes e 8\nlanes j 8\nblock h 3\nblock i 2",
        "canon,group,tile,stream,ranges,peel,bare,leaf,dce");
}
