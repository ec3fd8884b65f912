/* SPDX-License-Identifier: MIT
 * Linear forms and the prover: every claim is made inside a small kernel, where the names are. */
#include "passes/linear.h"
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static jmp_buf oom;
static qn_arena arena;
static qn_ir ir;
static qn_facts *facts;

static void setup(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
}

static void teardown(void)
{
    qn_arena_fini(&arena);
}

TestSuite(linear, .init = setup, .fini = teardown);

static const char *print_diags(qn_diags *d)
{
    qn_buf b = qn_buf_of(&arena);
    qn_diags_print(d, QN_ERROR, &b);
    return b.text ? b.text : "";
}

/* Walks into the first nest, loop and branch of every block, to the innermost statement. */
static void enter(const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        qn_stmt *s = b->at[k];
        qn_facts_push(facts);
        if (s->kind == QN_LAUNCH) {
            enter(&s->u.launch);
            return;
        }
        if (s->kind == QN_FOR) {
            qn_facts_enter_loop(facts, s);
            enter(&s->u.loop.body);
            return;
        }
        if (s->kind == QN_IF) {
            qn_facts_assume(facts, s->u.branch.cond, true);
            enter(&s->u.branch.then);
            return;
        }
        qn_facts_stmt(facts, s);
    }
}

static void inside_of(const char *text)
{
    qn_diags d;
    qn_diags_init(&d, &arena, "t", text);
    qn_ir_file *file = qn_parse(&ir, text, strlen(text), &d);
    cr_assert(file, "%s", print_diags(&d));
    qn_kernel_ir *k = qn_file_kernel(file, NULL);
    facts = qn_facts_kernel(&arena, &ir, k);
    enter(&k->body);
}

static qn_expr *expr(const char *text)
{
    qn_diags d;
    qn_diags_init(&d, &arena, "t", text);
    qn_expr *x = qn_parse_expr(&ir, text, strlen(text), &d);
    cr_assert(x, "%s: %s", text, print_diags(&d));
    return x;
}

static bool holds(const char *cond)
{
    return qn_prove(facts, expr(cond), true);
}

static const char *normal(const char *text)
{
    const qn_lin *l = qn_lin_of(facts, expr(text));
    return l ? qn_expr_text(&arena, qn_lin_expr(facts, l, true)) : "unknown";
}

static bool inside(const char *load)
{
    qn_expr *x = expr(load);
    return qn_inside(facts, x->u.load.base, &x->u.load.index);
}

#define YES(c) cr_expect(holds(c), "not proved: %s", c)
#define NO(c)  cr_expect(!holds(c), "proved: %s", c)
#define SAME(a, b)                                                                           \
    cr_expect_eq(qn_lin_of(facts, expr(a)), qn_lin_of(facts, expr(b)), "%s, %s is %s", a, b, \
                 normal(a))

static const char *tiled = "kernel @k {\n"
                           "  dim Hq, Hk, Nq, Nk, D, T = (Nk + 63) // 64, F = 64\n"
                           "  in q: f32[h:Hq, i:Nq, d:D]\n"
                           "  in k: f32[g:Hk, j:Nk, d:D]\n"
                           "  in W: i32\n"
                           "  in S: i64\n"
                           "  in w: i32[h:Hq]\n"
                           "  in t: i64[i:Nq]\n"
                           "  in fix: f32[x:F, y:T]\n"
                           "  out o: f32[i:Nq]\n"
                           "  require Hq % Hk == 0, \"groups\"\n"
                           "  require W >= 1, \"window\"\n"
                           "  require Nq <= Nk, \"rows\"\n"
                           "  %off = Nk - Nq\n"
                           "  launch {\n"
                           "    par for h in 0..Hq, i0 in 0..Nq step 64 {\n"
                           "      %g = h * Hk // Hq\n"
                           "      %p = i0 + i:64 + %off\n"
                           "      %full = clamp((i0 + %off + 1) // 64, 0, Nk // 64) * 64\n"
                           "      %hi = clamp(i0 + 64 + %off, 0, Nk)\n"
                           "      for j0 in 0..%full step 64 {\n"
                           "        for r0 in 0..64 step 4 {\n"
                           "          prefetch q[0, 0, 0]\n"
                           "        }\n"
                           "      }\n"
                           "    }\n"
                           "  }\n"
                           "}\n";

Test(linear, forms_are_equal_where_values_are)
{
    inside_of(tiled);
    SAME("i0 + i:64 + Nk - Nq", "%p");
    SAME("%p - %off - i0", "i:64");
    SAME("2 * (i0 + 3) - i0", "i0 + 6");
    SAME("(i0 + 64) // 64", "i0 // 64 + 1");
    SAME("(64 * h + 5) // 64", "h");
    SAME("(64 * h + 69) % 64", "5");
    SAME("min(Nk, Nk + 3)", "Nk");
    SAME("clamp(i0, 0, Nq)", "i0");
    SAME("abs(i0)", "i0");
    SAME("h * (i0 + 1)", "h * i0 + h");
    SAME("F", "64");
    SAME("T", "(Nk + 63) // 64");
    SAME("select(h == 1, i0, i0)", "i0");
    SAME("i64(w[h])", "i64(w[0 + h])");
    cr_expect_neq(qn_lin_of(facts, expr("i64(W + 1)")), qn_lin_of(facts, expr("i64(W) + 1")),
                  "a sum of narrow integers may wrap");
    cr_expect_null(qn_lin_of(facts, expr("1.0")));
    cr_expect_null(qn_lin_of(facts, expr("f32(i0)")));
}

Test(linear, forms_print_with_names_in_scope)
{
    inside_of(tiled);
    cr_expect_str_eq(normal("i0 + Nk - Nq + 7"), "i0 + %off + 7");
    cr_expect_str_eq(normal("h * Hk // Hq"), "%g");
    cr_expect_str_eq(normal("min(max(S, 0), Nk)"), "clamp(S, 0, Nk)");
    cr_expect_str_eq(normal("3 - i0"), "-i0 + 3");
}

Test(linear, bounds_of_indices_axes_and_dims)
{
    inside_of(tiled);
    YES("Nk >= 0");
    YES("h >= 0 and h < Hq");
    YES("i0 >= 0 and i0 < Nq and i0 <= Nk - 1");
    NO("i0 + i:64 < Nq");
    YES("j0 + 64 <= Nk");
    YES("j0 + r0 + r:4 < Nk");
    YES("j0 + r0 + r:4 >= 0");
    NO("j0 + r0 + r:5 < Nk - 0 + 0 and j0 + r0 + r:5 < %full");
    YES("j0 + j:64 <= %p");
    NO("j0 + j:64 < %p");
    YES("%g >= 0 and %g < Hk");
    YES("%off >= 0");
    YES("i64(W) >= 1");
    YES("Hk >= 1");
    YES("Nq >= 1 and Hq >= 1");
    NO("D >= 1");
    YES("T * 64 >= Nk and (T - 1) * 64 < Nk");
    YES("not (j0 > Nk) or D > 3");
    YES("%hi >= 0 and %hi <= Nk");
    YES("j0 % 64 == 0");
    NO("S >= 0");
    YES("min(S, 5) <= 5 and clamp(S, 0, 7) < 8");
    YES("S % 9 >= 0 and S % 9 < 9");
}

Test(linear, an_access_is_inside_for_every_element)
{
    inside_of(tiled);
    cr_expect(inside("k[%g, j0 + j:64, d:D]"));
    cr_expect(inside("k[h * Hk // Hq, j0 + r0 + r:4, 0 + d:D]"));
    cr_expect(!inside("k[h, j0 + j:64, d:D]"));
    cr_expect(!inside("q[h, i0 + i:64, d:D]"));
    cr_expect(inside("q[h, i0, d:D]"));
    cr_expect(!inside("q[h, i0, 0]"), "D may be 0");
    cr_expect(inside("q[h, clamp(S, 0, Nq - 1), d:D]"), "Nq >= 1 in a loop over it");
    cr_expect(inside("q[h, min(i0, max(S, 0)), d:D]"));
    cr_expect(inside("fix[63, j0 // 64]"));
    cr_expect(!inside("fix[64, j0 // 64]"));
    cr_expect(!inside("q[h, i0]"), "wrong rank");
}

Test(linear, arithmetic_on_loaded_i64_is_not_trusted)
{
    inside_of(tiled);
    /* t[i0] near the least integer makes t[i0] - 1000 wrap */
    cr_expect(!inside("q[h, max(t[i0] - 1000, t[i0]) - t[i0], d:D]"));
    cr_expect(inside("q[h, min(i0, max(t[i0], 0)), d:D]"));
    cr_expect(inside("fix[t[i0] % 64, j0 // 64]"));
}

Test(linear, overflow_is_unknown)
{
    inside_of(tiled);
    NO("i0 * 4611686018427387904 >= 0");
    NO("(i0 + 2305843009213693951) * 4 >= 0");
    cr_expect_null(qn_lin_of(facts, expr("2000000000000 * i0 * 2000000000000")));
    cr_expect_null(qn_lin_of(facts, expr("h * h * h")), "three factors may overflow");
}

Test(linear, pieces_ends_lists_and_branches)
{
    inside_of("kernel @k {\n"
              "  dim N\n"
              "  in lo: i64\n"
              "  in x: f32[i:N]\n"
              "  in ids: i64[n:N]\n"
              "  out o: f32[i:N]\n"
              "  launch {\n"
              "    par for n in list ids[0..N] {\n"
              "      for j0 < je in 0..min(N, 8) | max(lo, 16)..N step 8 {\n"
              "        if lo >= 3 and lo < N {\n"
              "          prefetch x[0]\n"
              "        }\n"
              "      }\n"
              "    }\n"
              "  }\n"
              "}\n");
    YES("j0 >= 0 and j0 < N");
    YES("je > j0 and je <= N");
    NO("j0 + 7 < N");
    NO("n >= 0");
    NO("n < N");
    YES("lo >= 3 and lo <= N - 1");
    cr_expect(inside("x[lo]"));
    cr_expect(inside("x[j0]"));
    qn_facts_pop(facts);
    qn_facts_pop(facts);
    NO("lo >= 3");
}

Test(linear, multiples)
{
    inside_of("kernel @k {\n"
              "  dim N\n"
              "  in x: f32[i:N]\n"
              "  out o: f32[i:N]\n"
              "  require N % 64 == 0, \"tiles\"\n"
              "  launch {\n"
              "    par for i0 in 0..N step 64 {\n"
              "      for j0 in i0..N step 16 {\n"
              "        prefetch x[0]\n"
              "      }\n"
              "    }\n"
              "  }\n"
              "}\n");
    YES("i0 + i:64 < N");
    YES("j0 + i:16 < N");
    NO("j0 + i:17 < N");
    cr_expect(inside("x[j0 + i:16]"));
    cr_expect_eq(qn_lin_factor(facts, qn_lin_of(facts, expr("i0 + N"))), 64);
    cr_expect_eq(qn_lin_factor(facts, qn_lin_of(facts, expr("j0 + 8"))), 8);
}

Test(linear, written_memory_is_not_a_value)
{
    inside_of("kernel @k {\n"
              "  dim N\n"
              "  in x: i64[i:N]\n"
              "  inout y: i64[i:N]\n"
              "  launch {\n"
              "    par for n in 0..N {\n"
              "      %a = y[n]\n"
              "      %b = y[n]\n"
              "      %c = x[n]\n"
              "      %d = x[n]\n"
              "    }\n"
              "  }\n"
              "}\n");
    NO("%a == %b");
    YES("%a == %a");
    YES("%c == %d");
    NO("y[n] == y[n]");
}

Test(linear, long_chains_end)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "kernel @k {\n  dim N\n  out o: f32[i:N]\n  %a0 = N\n");
    for (int k = 1; k < 200; k++) {
        qn_buf_printf(&b, "  %%a%d = max(%%a%d * 2 - N // %d, min(%%a%d, N %% %d))\n", k, k - 1,
                      k + 1, k - 1, k + 1);
    }
    qn_buf_puts(&b, "  launch {\n  }\n}\n");
    inside_of(b.text);
    NO("%a199 >= %a198 + 100");
}

Test(linear, chains_through_narrow_types_end, .timeout = 60)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "kernel @k {\n  dim N\n  in a: i32\n  out o: f32[i:N]\n  %a0 = a\n");
    for (int k = 1; k < 4000; k++) {
        qn_buf_printf(&b, "  %%a%d = i32(i64(%%a%d) + i64(%%a%d * 2))\n", k, k - 1, k - 1);
    }
    qn_buf_puts(&b, "  launch {\n  }\n}\n");
    inside_of(b.text);
    NO("i64(%a3999) >= i64(%a3998)");
}

Test(linear, many_hopeless_proofs_end, .timeout = 60)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "kernel @k {\n  dim M, N\n  in a: i64\n  in c: i64\n  out o: f32[i:N]\n");
    for (int k = 1; k < 3000; k++) {
        qn_buf_printf(&b, "  %%b%d = min(max(a // %d, c - M // %d), N %% %d - a * c)\n", k, k + 1,
                      k + 2, k + 3);
    }
    qn_buf_puts(&b, "  launch {\n  }\n}\n");
    inside_of(b.text);
    NO("%b7 >= %b8");
}
