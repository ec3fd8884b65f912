/* SPDX-License-Identifier: MIT
 * The text of the IR: the corpus and random trees survive printing and parsing, wrong texts are
 * refused with the rule and the place to blame, schedules answer what was written. */
#include "ir/build.h"
#include "ir/lex.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/schedule.h"
#include "ir/walk.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf oom;
static qn_arena arena;
static qn_ir ir;
static qn_diags diags;

static void setup(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
    qn_diags_init(&diags, &arena, "t.qir", NULL);
}

static void teardown(void)
{
    qn_arena_fini(&arena);
}

TestSuite(text, .init = setup, .fini = teardown);

static const char *errors(void)
{
    qn_buf b = qn_buf_of(&arena);
    qn_diags_print(&diags, QN_ERROR, &b);
    return b.text;
}

static qn_ir_file *parse(const char *text)
{
    qn_ir_file *f = qn_parse(&ir, text, strlen(text), &diags);
    cr_assert(f != NULL, "%s\n%s", text, errors());
    return f;
}

/* ---------------------------------------------------------------- round trips */

/* The text without its comment lines and leading blank lines. */
static const char *without_comments(const char *s)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "");
    while (*s) {
        size_t n = strcspn(s, "\n");
        n += s[n] == '\n';
        if (*s != ';' && !(b.length == 0 && *s == '\n')) {
            qn_buf_put(&b, s, n);
        }
        s += n;
    }
    return b.text;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "%s", path);
    char *text = qn_arena_alloc(&arena, 1 << 20, 1);
    cr_assert(fread(text, 1, (1 << 20) - 1, f) > 0, "%s", path);
    fclose(f);
    return text;
}

Test(text, corpus_is_in_printed_form_and_round_trips)
{
    DIR *dir = opendir(QN_ROOT "/tests/corpus");
    int files = 0;
    cr_assert(dir != NULL);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (!strstr(e->d_name, ".qir")) {
            continue;
        }
        qn_buf path = qn_buf_of(&arena);
        qn_buf_printf(&path, QN_ROOT "/tests/corpus/%s", e->d_name);
        const char *source = read_file(path.text);
        const char *printed = qn_file_text(&arena, parse(source));
        cr_expect_str_eq(printed, without_comments(source), "%s", e->d_name);
        cr_expect_str_eq(qn_file_text(&arena, parse(printed)), printed, "%s", e->d_name);
        files++;
    }
    closedir(dir);
    cr_assert_geq(files, 17);
}

/* Text in printed form; every construct that the corpus lacks. */
static const char everything[] =
    "norm @n(s, v) -> (o) {\n"
    "  stat m = sum(s)\n"
    "  weight s\n"
    "  sum a = v\n"
    "  finish o = rescale(a, m) * weight(s, m)\n"
    "}\n"
    "\n"
    "kernel @all !level(tiled) !plan(N * 2 <= 16) {\n"
    "  dim N, D = 64, T = (N + 63) // 64\n"
    "  in x: f32[i:N, d:D]\n"
    "  in W: i32 = 256\n"
    "  in eps: f32 = -1e-05\n"
    "  inout y: f16[i:N]\n"
    "  require N % 4 == 0, \"say \\\"four\\\"\\nor a \\\\\"\n"
    "  buf %w: i8[i:T, r:4] in call !name(w)\n"
    "  launch {\n"
    "    par for i0 in 0..N | N..2 * N step 2 + 2 cost(i0) !full(0..N) {\n"
    "      flag(i0 < 0 or not i0 + 1 < N and true, E_INDEX)\n"
    "      prefetch x[i0 + i:4, 0]\n"
    "      %a, %b = topk(tile x[i0, d:D] pad -inf, r:3, over d)\n"
    "      %c = -(1.0 - (2.0 - %a as (r -> q, q -> r))) / nan as (i -> j)\n"
    "      %e = (not %b == 1) == (3 < 4)\n"
    "      %f = fold @n(%c, 1.5, over i, j, where %e)\n"
    "      %g = --1 - -1\n"
    "      store.max y[i0] = f16(%f) atomic\n"
    "      store %w[i0, r:4] = i8(9223372036854775807)\n"
    "      for t < te in list %w[i0, 0..T] | 0..1 {\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n"
    "\n"
    "schedule @all for \"any\" {\n"
    "  form unfused\n"
    "  tile i free\n"
    "  peel none\n"
    "  ranges off !by(user)\n"
    "  exp poly free(3, 5)\n"
    "  pack q (d // 2, i, d % 2)\n"
    "  hold m, l registers !by(tuner)\n"
    "  type w bf16\n"
    "  strip e 16\n"
    "  split j none\n"
    "  at first\n"
    "  tile i 8\n"
    "  at second\n"
    "  tile i 16\n"
    "}\n";

Test(text, every_construct_round_trips)
{
    cr_assert_str_eq(qn_file_text(&arena, parse(everything)), everything);
}

Test(text, parentheses_and_blanks_that_mean_nothing_go)
{
    const char *const table[][2] = {{"(not (%b == 1)) == (((3)))", "(not %b == 1) == 3"},
                                    {"- - 1-(2+3)", "--1 - (2 + 3)"},
                                    {"((a*b)%%c)//2", "a * b % %c // 2"},
                                    {"not(not(a))and(b or c)", "not not a and (b or c)"},
                                    {"(-a)as(i->j)", "(-a) as (i -> j)"},
                                    {"-(a as (i->j))", "-a as (i -> j)"}};
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        qn_expr *x = qn_parse_expr(&ir, table[k][0], strlen(table[k][0]), &diags);
        cr_assert(x != NULL, "%s", errors());
        cr_expect_str_eq(qn_expr_text(&arena, x), table[k][1]);
    }
}

Test(text, schedules_of_one_line_parse_too)
{
    qn_ir_file *f = parse("schedule @s for \"any\" { tile i 04  tile j 8 exp approx peel j }");
    cr_assert_str_eq(
        qn_file_text(&arena, f),
        "schedule @s for \"any\" {\n  tile i 4\n  tile j 8\n  exp approx\n  peel j\n}\n");
}

Test(text, numbers_print_shortest)
{
    const char *const table[][2] = {
        {"100.0", "100.0"},    {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},     {"1.50", "1.5"},
        {"0.0001", "0.0001"},  {"0.00001", "1e-05"},
        {"12.5e-3", "0.0125"}, {"0e9", "0.0"},
        {"007", "7"},          {"179769313486231570e291", "1.7976931348623157e+308"},
        {"4.9e-324", "5e-324"}};
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        qn_expr *x = qn_parse_expr(&ir, table[k][0], strlen(table[k][0]), &diags);
        cr_assert(x != NULL, "%s", errors());
        cr_expect_str_eq(qn_expr_text(&arena, x), table[k][1]);
    }
}

/* ---------------------------------------------------------------- random trees */

static uint64_t seed;

static uint64_t roll(uint64_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % n;
}

static qn_sym pick(const char *const *at, size_t n)
{
    return qn_intern(&ir, at[roll(n)]);
}
#define PICK(...)                            \
    pick((const char *const[]){__VA_ARGS__}, \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static qn_axis random_axis(void)
{
    return (qn_axis){PICK("i", "j", "d"),
                     roll(2) ? qn_extent_n((int64_t)roll(99)) : qn_extent_dim(PICK("N", "D"))};
}

static qn_expr *random_literal(void)
{
    switch (roll(5)) {
    case 0:
        return qn_int(&ir, (int64_t)roll(99));
    case 1:
        return qn_float(&ir, ldexp((double)roll(1u << 30), (int)roll(80) - 60));
    case 2:
        return qn_float(&ir, (double)INFINITY);
    case 3:
        return qn_float(&ir, -(double)roll(1000) / 7);
    default:
        return qn_bool(&ir, roll(2));
    }
}

static qn_expr *random_expr(int depth);

static qn_exprs random_exprs(int depth, int n)
{
    qn_expr *at[4];
    for (int k = 0; k < n; k++) {
        at[k] = random_expr(depth);
    }
    return qn_exprs_of(&ir, at, n);
}

static qn_expr *random_expr(int depth)
{
    if (depth == 0) {
        switch (roll(4)) {
        case 0:
            return random_literal();
        case 1:
            return qn_name(&ir, PICK("%v", "%p_1", "N", "j0"));
        case 2: {
            qn_axis a = random_axis();
            return qn_iota(&ir, a.name, a.extent);
        }
        default:
            return qn_int(&ir, (int64_t)roll(1u << 31) * (int64_t)roll(1u << 31));
        }
    }
    depth--;
    const qn_sym over[] = {qn_intern(&ir, "i"), qn_intern(&ir, "j")};
    int n = 1 + (int)roll(2);
    switch (roll(10)) {
    case 0:
    case 1:
    case 2:
    case 3: {
        qn_op op = (qn_op)roll(QN_OPS);
        qn_exprs xs = random_exprs(depth, qn_op_info_of(op)->arity);
        qn_expr *x = op == QN_OP_CAST ? qn_cast(&ir, (qn_dtype)roll(QN_DTYPES), xs.at[0])
                                      : qn_op1(&ir, op, xs.at[0]);
        x->u.op.args = xs;
        return x;
    }
    case 4:
    case 5: {
        qn_exprs xs = random_exprs(depth, n);
        bool guarded = roll(2);
        const qn_expr *pad = guarded && roll(2) ? random_literal() : NULL;
        return qn_load(&ir, PICK("x", "%b"), xs.at, n, guarded, pad);
    }
    case 6: {
        qn_axop op = (qn_axop)roll(QN_AXOPS);
        qn_exprs xs = random_exprs(depth, op == QN_AX_DOT || op == QN_AX_SOLVE ? 2 : 1);
        qn_expr *x = qn_axop1(&ir, op, xs.at[0], over, n);
        x->u.axop.args = xs;
        if (op == QN_AX_TOPK) {
            x->u.axop.fresh = random_axis();
        }
        return x;
    }
    case 7: {
        qn_exprs xs = random_exprs(depth, n);
        return qn_fold(&ir, PICK("@n"), xs.at, n, over, n, roll(2) ? random_expr(depth) : NULL);
    }
    case 8:
        return qn_as(&ir, random_expr(depth),
                     (const qn_rename[]){{over[0], over[1]}, {over[1], over[0]}}, n);
    default:
        return qn_op1(&ir, roll(2) ? QN_OP_NEG : QN_OP_NOT, random_expr(depth));
    }
}

static qn_type random_type(void)
{
    qn_axis axes[3];
    int rank = (int)roll(4);
    for (int k = 0; k < rank; k++) {
        axes[k] = random_axis();
    }
    return qn_type_of(&ir, (qn_dtype)roll(QN_DTYPES), axes, rank);
}

static void random_attrs(qn_attrs *out)
{
    while (roll(3) == 0) {
        qn_attr_arg args[2] = {{random_expr(1), roll(2) ? random_expr(1) : NULL},
                               {random_expr(0), NULL}};
        qn_attr_add(&ir, out, PICK("full", "mask", "in"), args, (int)roll(3));
    }
}

static void random_block(qn_block *b, int depth);

static qn_stmt *random_loop(int depth)
{
    qn_stmt *s = qn_for(&ir, PICK("t", "i0"), NULL, NULL, roll(2) ? random_expr(2) : NULL);
    qn_iter *it = s->u.loop.iters;
    qn_piece *pieces = QN_NEWN(&arena, qn_piece, 2);
    it->npieces = 1 + (int)roll(2);
    it->pieces = pieces;
    it->end = roll(2) ? PICK("te") : NULL;
    for (int k = 0; k < it->npieces; k++) {
        pieces[k] = (qn_piece){.lo = random_expr(2), .hi = random_expr(2)};
        if (roll(2)) {
            pieces[k].list = PICK("l", "%l");
            pieces[k].index = random_exprs(1, (int)roll(3));
        }
    }
    s->u.loop.par = roll(2);
    if (roll(2)) {
        s->u.loop.ncarries = 2;
        s->u.loop.carries = QN_NEWN(&arena, qn_carry, 2);
        for (int k = 0; k < 2; k++) {
            s->u.loop.carries[k] = (qn_carry){PICK("%m", "%l"), random_type(), random_expr(2)};
        }
    }
    s->u.loop.cost = roll(2) ? random_expr(2) : NULL;
    random_attrs(&s->attrs);
    random_block(&s->u.loop.body, depth);
    return s;
}

static qn_stmt *random_stmt(int depth)
{
    qn_place nowhere = {0};
    qn_stmt *s;
    qn_exprs xs = random_exprs(2, 1 + (int)roll(2));
    switch (roll(depth ? 10 : 7)) {
    case 0:
        s = qn_let_n(&ir, (const qn_sym[]){PICK("%a"), PICK("%c")}, xs.count, random_expr(4));
        random_attrs(&s->attrs);
        return s;
    case 1:
        s = qn_buf_stmt(&ir, PICK("%b"), random_type(), (qn_space)roll(3));
        if (roll(2)) {
            qn_expr *i = qn_name_of(&ir, "i");
            qn_expr *pieces[] = {
                qn_op2(&ir, QN_OP_FLOORDIV, i, qn_int(&ir, 4)), qn_name_of(&ir, "j"),
                qn_op2(&ir, QN_OP_MOD, qn_op2(&ir, QN_OP_FLOORDIV, i, qn_int(&ir, 2)),
                       qn_int(&ir, 2))};
            s->u.buf.layout = qn_exprs_of(&ir, pieces, 3);
        }
        s->u.buf.ring = roll(2) ? PICK("i") : NULL;
        random_attrs(&s->attrs);
        return s;
    case 2:
        s = qn_store(&ir, PICK("y", "%b"), xs.at, xs.count, random_expr(3));
        s->u.store.start = roll(2);
        s->u.store.mode = (qn_store_mode)roll(4);
        s->u.store.order = (qn_store_order)roll(3);
        random_attrs(&s->attrs);
        return s;
    case 3:
        return qn_yield(&ir, xs.at, xs.count);
    case 4:
        s = qn_stmt_new(&ir, QN_SYNC, nowhere);
        s->u.sync.await = roll(2);
        s->u.sync.base = PICK("%r");
        s->u.sync.index = xs;
        return s;
    case 5:
        s = qn_stmt_new(&ir, QN_FLAG, nowhere);
        s->u.flag.cond = random_expr(3);
        s->u.flag.code = PICK("E_INDEX");
        return s;
    case 6:
        s = qn_stmt_new(&ir, QN_PREFETCH, nowhere);
        s->u.prefetch.base = PICK("x", "%b");
        s->u.prefetch.index = xs;
        return s;
    case 7:
        s = qn_stmt_new(&ir, QN_IF, nowhere);
        s->u.branch.names = (const qn_sym *)qn_arena_alloc(&arena, sizeof(qn_sym), alignof(qn_sym));
        ((qn_sym *)s->u.branch.names)[0] = PICK("%z");
        s->u.branch.nnames = (int32_t)roll(2);
        s->u.branch.cond = random_expr(3);
        random_block(&s->u.branch.then, depth - 1);
        s->u.branch.has_else = roll(2);
        if (s->u.branch.has_else) {
            random_block(&s->u.branch.other, depth - 1);
        }
        return s;
    case 8:
        s = qn_stmt_new(&ir, QN_LAUNCH, nowhere);
        random_block(&s->u.launch, depth - 1);
        return s;
    default:
        return random_loop(depth - 1);
    }
}

static void random_block(qn_block *b, int depth)
{
    for (uint64_t n = roll(4); n > 0; n--) {
        qn_block_push(&ir, b, random_stmt(depth));
    }
}

Test(text, random_expressions_are_equal_after_a_round_trip)
{
    for (seed = 1; seed < 20000;) {
        uint64_t now = seed;
        qn_mark m = qn_arena_mark(&arena);
        qn_ir_init(&ir, &arena); /* names live above the mark too */
        qn_expr *x = random_expr((int)(now % 6));
        const char *text = qn_expr_text(&arena, x);
        qn_expr *y = qn_parse_expr(&ir, text, strlen(text), &diags);
        cr_assert(y != NULL, "seed %llu: %s\n%s", (unsigned long long)now, text, errors());
        cr_assert(qn_expr_equal(x, y), "seed %llu: %s", (unsigned long long)now, text);
        cr_assert_str_eq(qn_expr_text(&arena, y), text);
        qn_arena_release(&arena, m);
        seed = now + 1;
    }
}

Test(text, random_kernels_print_the_same_after_a_round_trip)
{
    for (seed = 1; seed < 4000;) {
        uint64_t now = seed;
        qn_mark m = qn_arena_mark(&arena);
        qn_ir_init(&ir, &arena);
        qn_kernel_ir *k = QN_NEW(&arena, qn_kernel_ir);
        k->name = PICK("@t");
        random_attrs(&k->attrs);
        qn_dim dim = {PICK("N"), roll(2) ? random_expr(2) : NULL, {0}};
        QN_PUSH(&arena, &k->dims, dim);
        qn_param param = {
            (qn_direction)roll(3), PICK("x"), random_type(), roll(2) ? random_expr(2) : NULL, {0}};
        QN_PUSH(&arena, &k->params, param);
        qn_require must = {random_expr(3), PICK("a \"b\"", "c\n\\d"), {0}};
        QN_PUSH(&arena, &k->requires, must);
        random_block(&k->body, 3);
        qn_buf b = qn_buf_of(&arena);
        qn_print_kernel(k, &b);
        qn_ir_file *f = qn_parse(&ir, b.text, b.length, &diags);
        cr_assert(f != NULL, "seed %llu\n%s\n%s", (unsigned long long)now, b.text, errors());
        cr_assert_str_eq(qn_file_text(&arena, f), b.text);
        qn_arena_release(&arena, m);
        seed = now + 1;
    }
}

/* ---------------------------------------------------------------- wrong texts */

#define K "kernel @t {\n"
#define WRONG(text, code, line, col) \
    {                                \
        text, code, line, col        \
    }
static const struct {
    const char *text, *code;
    int line, col;
} wrong[] = {
    WRONG("kernel @t { $ }", "E-LEX", 1, 13),
    WRONG(K "  %a = 1.5.5\n}", "E-SYNTAX", 2, 11),
    WRONG(K "  %a = 12ab\n}", "E-LEX", 2, 8),
    WRONG(K "  %a = 9223372036854775808\n}", "E-LEX", 2, 8),
    WRONG(K "  %a = 1e999\n}", "E-LEX", 2, 8),
    WRONG(K "  require N, \"open\n}", "E-LEX", 2, 14),
    WRONG(K "  require N, \"a\\t\"\n}", "E-LEX", 2, 14),
    WRONG("kernel @t { launch [ } }", "E-SYNTAX", 1, 20),
    WRONG("kernel t {}", "E-SYNTAX", 1, 8),
    WRONG("kernel @t {", "E-SYNTAX", 1, 12),
    WRONG("what @t {}", "E-SYNTAX", 1, 1),
    WRONG(K "  dim for\n}", "E-SYNTAX", 2, 7),
    WRONG(K "  dim exp\n}", "E-SYNTAX", 2, 7),
    WRONG(K "  dim f32\n}", "E-SYNTAX", 2, 7),
    WRONG(K "  in x: f33[i:4]\n}", "E-SYNTAX", 2, 9),
    WRONG(K "  in x: f32[i:1.5]\n}", "E-SYNTAX", 2, 15),
    WRONG(K "  in x: f32[a:1, b:1, c:1, d:1, e:1, f:1, g:1, h:1, i:1, j:1, k:1, l:1, m:1]\n}",
          "E-SYNTAX", 2, 73),
    WRONG(K "  %a = %b %c\n}", "E-SYNTAX", 3, 1),
    WRONG(K "  %a = 1 < 2 < 3\n}", "E-SYNTAX", 2, 14),
    WRONG(K "  %a = not 1 == 2 == 3\n}", "E-SYNTAX", 2, 19),
    WRONG(K "  %a = 1 + not true\n}", "E-SYNTAX", 2, 12),
    WRONG(K "  %a = frob(1.0)\n}", "V-OP", 2, 8),
    WRONG(K "  %a = 1.0 + exp(1.0, 2.0)\n}", "V-OP", 2, 14),
    WRONG(K "  %a = dot(%b, over d)\n}", "V-OP", 2, 8),
    WRONG(K "  %a = reduce.frob(%b, over d)\n}", "V-OP", 2, 15),
    WRONG(K "  %a = reduce.sum(%b)\n}", "E-SYNTAX", 2, 21),
    WRONG(K "  %a = reduce.sum(%b, over d, where true)\n}", "E-SYNTAX", 2, 31),
    WRONG(K "  %a = topk(%b, 3, over d)\n}", "V-OP", 2, 8),
    WRONG(K "  %a = tile x[0] pad N\n}", "E-SYNTAX", 2, 22),
    WRONG(K "  %a = x[]\n}", "E-SYNTAX", 2, 10),
    WRONG(K "  %a = %b as (i, j)\n}", "E-SYNTAX", 2, 16),
    WRONG(K "  buf %a: f32 in heap\n}", "E-SYNTAX", 2, 18),
    WRONG(K "  buf %a: f32[i:4] in task layout (i * 2)\n}", "E-SYNTAX", 2, 36),
    WRONG(K "  buf %a: f32[i:4] in task layout (swizzle)\n}", "E-SYNTAX", 2, 36),
    WRONG(K "  store.mul x[0] = 1\n}", "V-OP", 2, 9),
    WRONG(K "  role %a\n}", "E-SYNTAX", 2, 3),
    WRONG(K "  for i in 0 {\n  }\n}", "E-SYNTAX", 2, 14),
    WRONG("norm @n(s) -> (o) { stat m = prod(s) weight s finish o = s }", "E-SYNTAX", 1, 30),
    WRONG("norm @n(s) -> (o) { stat none finish o = s }", "E-SYNTAX", 1, 31),
    WRONG("schedule @t for \"x\" { blur i 4 }", "E-SCHED", 1, 23),
    WRONG("schedule @t for \"x\" { tile i 0 }", "E-SCHED", 1, 30),
    WRONG("schedule @t for \"x\" { tile i }", "E-SCHED", 1, 30),
    WRONG("schedule @t for \"x\" { order i sideways }", "E-SCHED", 1, 31),
    WRONG("schedule @t for \"x\" { form free(stream, warp) }", "E-SCHED", 1, 41),
    WRONG("schedule @t for \"x\" { type w f33 }", "E-SCHED", 1, 30),
    WRONG("schedule @t for \"x\" { peel j !mask }", "E-SCHED", 1, 30),
    WRONG("; \xc3\xa4\nkernel @t { \xc3\xa4 }", "E-LEX", 2, 13),
};

Test(text, wrong_texts_are_refused_where_they_are_wrong)
{
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        qn_diags_init(&diags, &arena, "t.qir", wrong[k].text);
        qn_ir_file *f = qn_parse(&ir, wrong[k].text, strlen(wrong[k].text), &diags);
        cr_assert(f == NULL, "accepted: %s", wrong[k].text);
        cr_assert_geq(diags.count, 1);
        const qn_diag *d = &diags.at[0];
        cr_expect(strcmp(d->code, wrong[k].code) == 0 && d->place.line == wrong[k].line &&
                      d->place.col == wrong[k].col,
                  "%s\nexpected %s at %d:%d\n%s", wrong[k].text, wrong[k].code, wrong[k].line,
                  wrong[k].col, errors());
    }
}

Test(text, every_wrong_item_is_reported)
{
    const char *text = "kernel @a { $ }\nkernel @b { dim N }\nnorm @c\nschedule @d for \"x\" {\n"
                       "kernel @e { %a = }\n";
    cr_assert(qn_parse(&ir, text, strlen(text), &diags) == NULL);
    const int lines[] = {1, 4, 5, 5};
    cr_assert_eq(diags.count, 4, "%s", errors());
    for (int k = 0; k < 4; k++) {
        cr_expect_eq(diags.at[k].place.line, lines[k], "%s", errors());
    }
}

static const char *repeat(const char *head, const char *part, int n, const char *tail)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, head);
    for (int k = 0; k < n; k++) {
        qn_buf_puts(&b, part);
    }
    qn_buf_puts(&b, tail);
    return b.text;
}

Test(text, depth_is_bounded)
{
    const struct {
        const char *part, *tail;
        int most;
    } deep[] = {{"(", "1", 255},     {"-", "1", 255},      {"not ", "true", 255},
                {"1 + ", "1", 1999}, {"exp(", "1.0", 255}, {"x[", "1", 255}};
    for (size_t k = 0; k < sizeof deep / sizeof *deep; k++) {
        for (int n = deep[k].most; n < 300000; n = n == deep[k].most ? n + 1 : n * 7) {
            const char *close = *deep[k].part == '-' || *deep[k].part == 'n' || *deep[k].part == '1'
                                    ? ""
                                : *deep[k].part == 'x' ? repeat("", "]", n, "")
                                                       : repeat("", ")", n, "");
            const char *text = repeat("", deep[k].part, n, deep[k].tail);
            text = repeat(text, close, 1, "");
            qn_diags_init(&diags, &arena, NULL, NULL);
            qn_expr *x = qn_parse_expr(&ir, text, strlen(text), &diags);
            cr_expect_eq(x != NULL, n == deep[k].most, "%d of %s", n, deep[k].part);
            if (x) {
                cr_expect(qn_expr_text(&arena, x) != NULL);
            } else {
                cr_expect_str_eq(diags.at[0].code, "E-SYNTAX");
            }
        }
    }
    for (int n = 250; n <= 100250; n += 100000) {
        const char *text = repeat("kernel @t { ", "launch { ", n, "");
        text = repeat(text, "} ", n + 1, "");
        cr_expect_eq(qn_parse(&ir, text, strlen(text), &diags) != NULL, n == 250);
    }
}

Test(text, token_soup_never_crashes)
{
    static const char *const tokens[] = {
        "kernel", "@t",   "{",     "}",     "(",      ")",   "[",     "]",          "%a",
        "%b",     "=",    ":",     "..",    ",",      "for", "in",    "carry",      "yield",
        "if",     "else", "store", "buf",   "launch", "par", "i",     "j",          "64",
        "1.0",    "+",    "-",     "*",     "//",     "%",   "<",     "tile",       "pad",
        "over",   "fold", "norm",  "!full", "list",   "|",   "where", "stat",       "schedule",
        "at",     "free", "\"x\"", "topk",  "as",     "->",  "not",   "reduce.sum", "flag"};
    seed = 7;
    for (int k = 0; k < 20000; k++) {
        qn_mark m = qn_arena_mark(&arena);
        qn_ir_init(&ir, &arena);
        qn_diags_init(&diags, &arena, NULL, NULL);
        qn_buf b = qn_buf_of(&arena);
        qn_buf_puts(&b, roll(2) ? "kernel @t { " : "");
        for (uint64_t n = roll(40); n > 0; n--) {
            qn_buf_printf(&b, "%s ", tokens[roll(sizeof tokens / sizeof *tokens)]);
        }
        qn_ir_file *f = qn_parse(&ir, b.text, b.length, &diags);
        cr_assert((f == NULL) == (diags.errors > 0), "%s", b.text);
        qn_arena_release(&arena, m);
    }
}

/* ---------------------------------------------------------------- places */

Test(text, places_span_what_they_blame)
{
    const char *text = "kernel @t {\n  launch {\n    par for i in 0..4 !leaf(8, 16, i) {\n"
                       "      %a = 1 + exp(2.0,\n   3.0) * 4\n    }\n  }\n}\n";
    cr_assert(qn_parse(&ir, text, strlen(text), &diags) == NULL); /* exp of two: but places stand */
    cr_assert_eq(diags.at[0].place.col, 16);
    cr_assert_eq(diags.at[0].place.length, 8);
    qn_ir_file *f = parse("kernel @t {\n  launch {\n    par for i in 0..4 !leaf(8, 16, i) {\n"
                          "      %abc = 1 + exp(2.0) * 4 ; why\n    }\n  }\n}\n");
    const qn_stmt *nest = f->items.at[0].u.kernel->body.at[0]->u.launch.at[0];
    cr_assert_eq(nest->place.line, 3);
    cr_assert_eq(nest->place.col, 5);
    cr_assert_eq(nest->place.length, 33);
    const qn_stmt *let = nest->u.loop.body.at[0];
    cr_assert_eq(let->place.col, 7);
    cr_assert_eq(let->place.length, 23);
    const qn_expr *product = let->u.let.x->u.op.args.at[1];
    cr_assert_eq(product->place.col, 18);
    cr_assert_eq(product->place.length, 12);
}

Test(text, errors_are_woven_in_under_their_lines)
{
    const char *source = "kernel @t {\n  %a = 1\n}";
    qn_diag_add(&diags, QN_ERROR, "V-B", (qn_place){2, 8, 1}, "second");
    qn_diag_add(&diags, QN_ERROR, "V-A", (qn_place){2, 3, 2}, "first\nof all");
    qn_diag_add(&diags, QN_REMARK, "W-X", (qn_place){2, 3, 2}, "no error");
    qn_diag_add(&diags, QN_ERROR, "V-C", (qn_place){0, 0, 0}, "nowhere");
    qn_buf b = qn_buf_of(&arena);
    qn_print_annotated(source, &diags, &b);
    cr_assert_str_eq(b.text,
                     "kernel @t {\n  %a = 1\n; ^ first of all [V-A]\n;      ^ second [V-B]\n"
                     "}\n; ^ nowhere [V-C]\n");
}

/* ---------------------------------------------------------------- schedules */

Test(text, schedules_answer)
{
    const qn_schedule *s = qn_file_schedule(parse(everything), "all");
    cr_assert(s != NULL);
    cr_assert(qn_file_schedule(parse(everything), "other") == NULL);
    cr_expect_eq(qn_schedule_int(s, NULL, "tile", "i", 7), 7);
    cr_expect_eq(qn_schedule_int(s, "first", "tile", "i", 7), 8);
    cr_expect_eq(qn_schedule_int(s, "second", "tile", "i", 7), 16);
    cr_expect_eq(qn_schedule_int(s, "second", "strip", "e", 7), 16);
    cr_expect_eq(qn_schedule_int(s, NULL, "split", "j", 7), 0);
    cr_expect_eq(qn_schedule_int(s, NULL, "split", "i", 7), 7);
    cr_expect_str_eq(qn_schedule_word(s, NULL, "form", NULL, "stream"), "unfused");
    cr_expect_str_eq(qn_schedule_word(s, NULL, "peel", NULL, "j"), "none");
    cr_expect_str_eq(qn_schedule_word(s, NULL, "ranges", NULL, "on"), "off");
    cr_expect_str_eq(qn_schedule_word(s, NULL, "hold", "l", "task"), "registers");
    cr_expect_str_eq(qn_schedule_word(s, NULL, "hold", "a", "task"), "task");
    cr_expect_str_eq(qn_schedule_find(s, NULL, "hold", "m")->by, "tuner");
    cr_expect(qn_schedule_key_is_known("at") && !qn_schedule_key_is_known("blur"));
}

Test(text, schedules_grow_and_print)
{
    qn_schedule *s = qn_schedule_new(&ir, "@s", "any");
    qn_schedule_add(&ir, s, "n", "tile", "i", "8", "user");
    qn_schedule_add(&ir, s, NULL, "tile", "j", "free(32, 64)", NULL);
    qn_schedule_add(&ir, s, NULL, "pack", "q", "(d, i)", "default");
    qn_schedule_add(&ir, s, NULL, "exp", NULL, "poly 5", "default");
    qn_schedule_add(&ir, s, NULL, "exp", NULL, "poly 6", "tuner");
    qn_schedule_add(&ir, s, NULL, "peel", "none", NULL, "user");
    cr_expect_eq(qn_schedule_int(s, NULL, "exp", NULL, 0), 6);
    qn_buf b = qn_buf_of(&arena), c = qn_buf_of(&arena);
    qn_print_schedule(s, true, &b);
    cr_expect_str_eq(b.text, "schedule @s for \"any\" {\n  tile j free(32, 64) !by(user)\n"
                             "  pack q (d, i) !by(default)\n  exp poly 5 !by(default)\n"
                             "  exp poly 6 !by(tuner)\n  peel none !by(user)\n"
                             "  at n\n  tile i 8 !by(user)\n}\n");
    qn_print_schedule(parse(b.text)->items.at[0].u.schedule, true, &c);
    cr_expect_str_eq(b.text, c.text);
}
