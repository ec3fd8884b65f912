/* SPDX-License-Identifier: MIT
 * Tests of ir/type.h and ir/verify.h on texts that are right: types of expressions, the meaning of
 * folds, the corpus, and the cost of long texts. Texts that are wrong are in tests/error/. */
#include "ir/verify.h"
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/type.h"
#include "ir/walk.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static qn_arena arena;
static qn_ir ir;
static qn_diags d;
static jmp_buf oom;

static void init(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
    qn_diags_init(&d, &arena, "text", NULL);
}

static void fini(void)
{
    qn_arena_fini(&arena);
}

TestSuite(verify, .init = init, .fini = fini);

static const char *said(void)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "");
    qn_diags_print(&d, QN_ERROR, &b);
    return b.text;
}

static qn_ir_file *parse(const char *text)
{
    d.source = text;
    qn_ir_file *f = qn_parse(&ir, text, strlen(text), &d);
    cr_assert_not_null(f, "%s", said());
    return f;
}

static const char kernel[] = "norm @n(s, v, t) -> (o, z) {\n"
                             "  stat m = max(s)\n"
                             "  weight select(s == -inf, 0.0, exp(s - m))\n"
                             "  rescale(a, b) select(a == -inf, 0.0, exp(a - b))\n"
                             "  sum l = 1.0\n"
                             "  sum a = v\n"
                             "  sum c = f32(i32(v) == i32(c:4))\n"
                             "  finish o = a / l * rescale(m, max(m, t)) + c, z = weight(t, m)\n"
                             "}\n"
                             "kernel @t {\n"
                             "  dim N, M, D = 64\n"
                             "  in x: f32[i:N, d:D]\n"
                             "  in h: f16[j:M, d:D]\n"
                             "  in w: i8[i:N, d:D]\n"
                             "  in u: u8[i:N]\n"
                             "  in n: i32 = 256\n"
                             "  in p: f64\n"
                             "  in b: bool[i:N]\n"
                             "}\n";

static const struct {
    const char *text, *type;
} types[] = {
    {"1", "int"},
    {"1.0", "flt"},
    {"N", "i64"},
    {"n", "i32"},
    {"n + 1", "i32"},
    {"n + N", "i64"},
    {"1 + 2 * 3", "int"},
    {"1.0 / 3.0", "flt"},
    {"p * 2.0", "f64"},
    {"i:N", "i64[i:N]"},
    {"i:4 + j:8", "i64[i:4, j:8]"},
    {"n + i:4", "i64[i:4]"},
    {"x[i:N, d:D]", "f32[i:N, d:D]"},
    {"x[0, 0]", "f32"},
    {"x[i:4, d:D] * h[3, 0]", NULL},
    {"x[i:4, d:D] * f32(h[3, d:D])", "f32[i:4, d:D]"},
    {"tile x[4 + i:8, w[i:8, 0]] pad -1.0", "f32[i:8]"},
    {"tile x[u[j:M], d:D]", "f32[j:M, d:D]"},
    {"x[i:N, d:D] as (i -> k)", "f32[k:N, d:D]"},
    {"(i:4 + j:4) as (i -> j, j -> i)", "i64[j:4, i:4]"},
    {"f16(i:4)", "f16[i:4]"},
    {"i:4 < n", "bool[i:4]"},
    {"b[i:N] and not b[0]", "bool[i:N]"},
    {"b[i:N] == b[0]", "bool[i:N]"},
    {"select(i:4 < 2, 1, n)", "i32[i:4]"},
    {"select(b[0], x[0, d:D], 0.0)", "f32[d:D]"},
    {"fma(x[0, d:D], 2.0, i:4)", NULL},
    {"fma(x[0, d:D], 2.0, x[i:4, 0])", "f32[d:D, i:4]"},
    {"shr(u[0], 1)", "u8"},
    {"bxor(n, N)", "i64"},
    {"reduce.sum(x[i:N, d:D], over d)", "f32[i:N]"},
    {"reduce.sum(x[i:N, d:D], over d, i)", "f32"},
    {"reduce.sum(h[j:M, d:D], over d)", "f16[j:M]"},
    {"reduce.argmax(x[i:N, d:D], over d)", "i64[i:N]"},
    {"reduce.any(x[i:N, d:D] > 0.0, over i)", "bool[d:D]"},
    {"scan.max(x[i:N, d:D], over d)", "f32[i:N, d:D]"},
    {"dot(x[i:N, d:D], x[i:N, d:D] as (i -> j), over d)", "f32[i:N, j:N]"},
    {"dot(x[i:N, d:D], x[i:N, d:D], over d)", "f32[i:N]"},
    {"dot(h[j:M, d:D], h[0, d:D], over d)", "f32[j:M]"},
    {"dot(w[i:N, d:D], w[0, d:D], over d)", "i32[i:N]"},
    {"dot(x[i:N, d:D], h[j:M, d:D], over d)", NULL},
    {"dot(i:4, i:4, over i)", "i64"},
    {"topk(x[i:N, d:D], r:3, over d)", NULL}, /* two results */
    {"solve_unit_lower(x[i:4 + j:4, 0], x[i:4, e:8], over i, j)", "f32[j:4, e:8]"},
    {"fold @n(x[i:N, d:D], x[i:N, 0], 0.0, over i)", NULL}, /* two results */
    {"neg(1)", NULL},
};

Test(verify, types_of_expressions)
{
    qn_ir_file *f = parse(kernel);
    cr_assert(qn_verify(f, &d), "%s", said());
    qn_env *e = qn_env_kernel(&ir, f, qn_file_kernel(f, NULL));
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        qn_type t;
        qn_expr *x = qn_parse_expr(&ir, types[k].text, strlen(types[k].text), &d);
        bool good = x && qn_type_infer(e, x, &t);
        cr_expect_eq(good, types[k].type != NULL, "%s: %s", types[k].text,
                     x && !good ? e->fault.text : said());
        if (good && types[k].type) {
            cr_expect_str_eq(qn_type_text(&arena, &t), types[k].type, "%s", types[k].text);
        }
    }
}

Test(verify, results_of_topk_and_fold)
{
    qn_ir_file *f = parse(kernel);
    qn_env *e = qn_env_kernel(&ir, f, qn_file_kernel(f, NULL));
    static const char *const texts[] = {
        "topk(x[i:N, d:D], r:3, over d)",
        "fold @n(x[i:N, 0], x[i:N, d:D], 0.5, over i, where b[i:N])"};
    static const char *const want[] = {"f32[i:N, r:3]", "i64[i:N, r:3]", "f32[d:D, c:4]", "f32"};
    for (int k = 0; k < 2; k++) {
        qn_type t[QN_MAX_AXES];
        int n = 0;
        qn_expr *x = qn_parse_expr(&ir, texts[k], strlen(texts[k]), &d);
        cr_assert_not_null(x);
        cr_assert(qn_type_results(e, x, t, &n), "%s", e->fault.text);
        cr_assert_eq(n, 2);
        for (int r = 0; r < 2; r++) {
            cr_expect_str_eq(qn_type_text(&arena, &t[r]), want[2 * k + r]);
        }
    }
}

/* ---------------------------------------------------------------- folds */

static qn_env *scope;

/* What a fold means in plain statements has the types that the fold has. */
static bool compare_meaning(void *user, const qn_expr *x)
{
    const qn_ir_file *f = user;
    qn_fold_meaning m;
    qn_type folded[QN_MAX_AXES], plain;
    int n;
    if (x->kind != QN_FOLD) {
        return true;
    }
    cr_assert(qn_type_results(scope, x, folded, &n));
    cr_assert(qn_fold_expand(&ir, qn_file_norm(f, x->u.fold.norm), x, &m));
    cr_assert_eq(m.nouts, n);
    qn_env *inner = qn_env_push(scope);
    for (int k = 0; k < m.nlets; k++) {
        cr_assert(qn_env_stmt(inner, qn_let(&ir, m.lets[k].name, m.lets[k].x)), "%s: %s",
                  m.lets[k].name, inner->fault.text);
    }
    for (int k = 0; k < n; k++) {
        cr_assert(qn_type_infer(inner, m.outs[k], &plain), "%s", inner->fault.text);
        cr_assert(qn_type_equal(&plain, &folded[k]), "%s against %s", qn_type_text(&arena, &plain),
                  qn_type_text(&arena, &folded[k]));
    }
    return true;
}

static int folds;

static void walk(const qn_ir_file *f, qn_env *e, const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        qn_env *inner = qn_env_push(e);
        if (s->kind == QN_FOR) {
            cr_assert(qn_env_enter_loop(inner, s));
            walk(f, inner, &s->u.loop.body);
        } else if (s->kind == QN_LAUNCH) {
            walk(f, inner, &s->u.launch);
        } else if (s->kind == QN_LET) {
            scope = e;
            folds += s->u.let.x->kind == QN_FOLD;
            qn_visit(s->u.let.x, compare_meaning, (void *)(uintptr_t)f);
        }
        cr_assert(qn_env_stmt(e, s), "%s", e->fault.text);
    }
}

static char *read_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    text[fread(text, 1, size - 1, file)] = 0;
    fclose(file);
    return text;
}

Test(verify, the_corpus_is_right_and_so_are_its_laws)
{
    static char text[1 << 16];
    DIR *dir = opendir(QN_ROOT "/tests/corpus");
    int files = 0;
    cr_assert_not_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n < 5 || strcmp(e->d_name + n - 4, ".qir") != 0) {
            continue;
        }
        char path[1024];
        snprintf(path, sizeof path, "%s/tests/corpus/%s", QN_ROOT, e->d_name);
        qn_ir_file *f = parse(read_file(path, text, sizeof text));
        cr_assert(qn_verify(f, &d), "%s: %s", path, said());
        cr_assert(qn_verify_laws(f, &d), "%s: %s", path, said());
        for (int k = 0; k < f->items.count; k++) {
            if (f->items.at[k].kind == QN_ITEM_KERNEL) {
                const qn_kernel_ir *kn = f->items.at[k].u.kernel;
                walk(f, qn_env_kernel(&ir, f, kn), &kn->body);
            }
        }
        files++;
    }
    closedir(dir);
    cr_assert_geq(files, 17);
    cr_assert_geq(folds, 6);
}

Test(verify, a_fold_without_a_mask_has_no_select)
{
    qn_ir_file *f = parse(kernel);
    qn_fold_meaning m;
    static const char text[] = "fold @n(x[i:N, 0], x[i:N, d:D], 0.5, over i)";
    static const char *const want[] = {
        "reduce.max(x[i:N, 0], over i)",
        "select(x[i:N, 0] == -inf, 0.0, exp(x[i:N, 0] - %.m))",
        "reduce.sum(%.weight * 1.0, over i)",
        "reduce.sum(%.weight * x[i:N, d:D], over i)",
        "reduce.sum(%.weight * f32(i32(x[i:N, d:D]) == i32(c:4)), over i)",
    };
    qn_expr *x = qn_parse_expr(&ir, text, strlen(text), &d);
    cr_assert(qn_fold_expand(&ir, qn_file_norm(f, x->u.fold.norm), x, &m));
    cr_assert_eq(m.nlets, 5);
    for (int k = 0; k < 5; k++) {
        cr_expect_str_eq(qn_expr_text(&arena, m.lets[k].x), want[k]);
    }
    cr_expect_str_eq(qn_expr_text(&arena, m.outs[0]),
                     "%.a / %.l * select(%.m == -inf, 0.0, exp(%.m - max(%.m, 0.5))) + %.c");
    cr_expect_str_eq(qn_expr_text(&arena, m.outs[1]), "select(0.5 == -inf, 0.0, exp(0.5 - %.m))");
}

Test(verify, norms_with_other_stats_keep_their_laws)
{
    qn_ir_file *f = parse("norm @min(s, v) -> (o) {\n"
                          "  stat m = min(s)\n"
                          "  weight select(s == inf, 0.0, exp(m - s))\n"
                          "  rescale(a, b) select(a == inf, 0.0, exp(b - a))\n"
                          "  sum l = v\n"
                          "  finish o = l\n"
                          "}\n"
                          "norm @l1(s, v) -> (o) {\n"
                          "  stat m = sum(abs(s))\n"
                          "  weight select(m > 0.0, s / m, 0.0)\n"
                          "  rescale(a, b) select(b > 0.0, a / b, 0.0)\n"
                          "  sum l = v\n"
                          "  finish o = l\n"
                          "}\n"
                          "norm @scaled(s, v, t) -> (o) {\n"
                          "  stat m = max(s * 2.0)\n"
                          "  weight select(s == -inf, 0.0, exp2(s * 2.0 - m))\n"
                          "  rescale(a, b) select(a == -inf, 0.0, exp2(a - b))\n"
                          "  sum l = v\n"
                          "  finish o = l\n"
                          "}\n"
                          "norm @whole(s, v) -> (o) {\n"
                          "  stat m = max(s)\n"
                          "  weight 1.0 / (1.0 + m - s)\n"
                          "  sum l = v\n"
                          "  finish o = l\n"
                          "}\n");
    cr_assert(qn_verify(f, &d), "%s", said());
    cr_assert(qn_verify_laws(f, &d), "%s", said());
}

/* ---------------------------------------------------------------- cost */

Test(verify, long_texts_cost_what_they_measure)
{
    enum { LETS = 100000 };
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "kernel @t {\n  dim N\n  out y: f32[i:N]\n  launch {\n    par for i in 0..N {\n"
                    "      %v0 = 1.0\n");
    for (int k = 1; k < LETS; k++) {
        qn_buf_printf(&b, "      %%v%d = %%v%d + 1.0\n", k, k - 1);
    }
    qn_buf_printf(&b, "      store y[i] = %%v%d\n    }\n  }\n}\n", LETS - 1);
    clock_t start = clock();
    qn_ir_file *f = parse(b.text);
    cr_assert(qn_verify(f, &d), "%s", said());
    cr_assert_lt((double)(clock() - start) / CLOCKS_PER_SEC, 5.0);
}

Test(verify, nested_branches_are_walked_once)
{
    enum { DEPTH = 200 };
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "kernel @t {\n  dim N\n  launch {\n    par for i in 0..N {\n");
    for (int k = 0; k < DEPTH; k++) {
        qn_buf_printf(&b, "%%v%d = if i > %d {\n", k, k);
    }
    qn_buf_puts(&b, "yield 1\n");
    for (int k = DEPTH; k-- > 0;) {
        qn_buf_puts(&b, "} else {\nyield 2\n}\n");
        if (k) {
            qn_buf_printf(&b, "yield %%v%d\n", k);
        }
    }
    qn_buf_puts(&b, "}\n}\n}\n");
    qn_ir_file *f = parse(b.text);
    cr_assert(qn_verify(f, &d), "%s", said());
}
