/* SPDX-License-Identifier: MIT
 *
 * What only a run can refuse: each rule of the oracle is broken by a small kernel, and the rule and
 * the line of the guilty statement are what the message names. Then arguments that do not fit,
 * budgets that end, and that a run which is refused leaves nothing behind. */
#include "ir/parse.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <stdlib.h>
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

TestSuite(interp_refuse, .init = setup, .fini = teardown, .timeout = 60);

/* A kernel over x and y of 7 elements; `body` begins on line 6, `before` stands on line 4. */
static qn_ir_file *kernel(const char *body, const char *before)
{
    qn_buf b = qn_buf_of(&lab.arena);
    qn_buf_printf(&b,
                  "kernel @t { dim N\n in x: f32[i:N] in z: i32[i:N]\n out y: f32[i:N]\n %s\n"
                  "launch { par for i0 in 0..N step 4 {\n%s\n} } }",
                  before, body);
    qn_ir_file *f = qn_lab_try(&lab, b.text);
    cr_assert(f != NULL, "%s\n%s", b.text, qn_lab_errors(&lab));
    return f;
}

static void arguments(qn_args *a)
{
    qn_args_array(a, "x", qn_normal(&lab, QN_F32, 3, 1, (int64_t[]){7}));
    qn_args_array(a, "z",
                  qn_ints(&lab, QN_I32, 1, (int64_t[]){7}, (int64_t[]){3, 1, 4, 1, 5, 9, 2}));
}

/* Runs and expects the rule at the line, in both modes. */
static void refused(const char *rule, int line, const char *body, const char *before)
{
    for (int mode = 0; mode < 2; mode++) {
        qn_lab_forget(&lab);
        qn_ir_file *f = kernel(body, before);
        qn_args a = {0};
        arguments(&a);
        const qn_interp_result *r =
            qn_lab_try_run(&lab, f, NULL, &a, mode ? QN_TYPED : QN_EXACT, 0);
        cr_expect(r == NULL, "%s is accepted: %s %s", rule, before, body);
        int at = 0;
        const char *got = qn_lab_rule(&lab, &at);
        cr_expect(got && strcmp(got, rule) == 0, "%s, not %s: %s %s", rule, got ? got : "nothing",
                  before, body);
        cr_expect_eq(at, line, "%s at line %d, not %d: %s %s", rule, at, line, before, body);
    }
}

static void accepted(const char *body, const char *before)
{
    qn_ir_file *f = kernel(body, before);
    qn_args a = {0};
    arguments(&a);
    cr_expect(qn_lab_try_run(&lab, f, NULL, &a, QN_EXACT, 0) != NULL, "refused: %s %s\n%s", before,
              body, qn_lab_errors(&lab));
}

Test(interp_refuse, bounds)
{
    refused("V-BOUND", 6, "%a = x[i0 + i:4]", "");
    refused("V-BOUND", 7, "%a = x[i0]\n%b = x[i0 - 1]", "");
    refused("V-BOUND", 6, "%a = x[z[i:N]]", "");
    refused("V-BOUND", 6, "for t in list z[5..8] { }", "");
    accepted("%a = tile x[i0 + i:4]\n%b = tile x[z[i:N]]\nfor t in list z[5..7] { }", "");
}

Test(interp_refuse, races)
{
    refused("V-RACE", 6, "store y[0] = 1.0 !disjoint", "");
    refused("V-RACE", 6, "%a = tile y[i0 + i:4]\nstore y[(i0 + 4) % N] = 0.0", "");
    refused("V-RACE", 7, "store y[i0] = 1.0\n%a = y[0]", "");
    refused("V-RACE", 7, "store y[i0] = 1.0\nstore.add y[i0] = 1.0 ordered", "");
    refused("V-RACE", 7, "store.add y[i0] = 1.0 atomic\n%a = y[i0]", "");
    accepted("store y[i0 + i:4] = 1.0\n%a = tile y[i0 + i:4]\nstore y[i0 + i:4] = %a", "");
}

Test(interp_refuse, a_task_list_that_its_tasks_write)
{
    qn_ir_file *f = qn_lab_text(&lab, "kernel @t { inout n: i32[a:4]\n"
                                      "launch { par for i in 0..n[0] {\n"
                                      "store n[i] = 2\n} } }");
    qn_args a = {0};
    qn_args_array(&a, "n", qn_ints(&lab, QN_I32, 1, (int64_t[]){4}, (int64_t[]){3, 0, 0, 0}));
    cr_expect(qn_lab_try_run(&lab, f, NULL, &a, QN_EXACT, 0) == NULL);
    int line;
    cr_expect_str_eq(qn_lab_rule(&lab, &line), "V-RACE");
    cr_expect_eq(line, 3);
}

Test(interp_refuse, doubles)
{
    refused("V-DUP", 6, "store y[i0 + i:4 - i:4] = tile x[i0 + i:4]", "");
    refused("V-DUP", 7, "buf %b: f32[i:4] in task\nstore %b[i:8 // 2] = tile x[i:8]", "");
    accepted("buf %b: f32[i:4] in task\nstore %b[i:4] = 0.0\nstore.add %b[i:8 // 2] = tile x[i:8]",
             "");
    accepted("buf %b: f32[i:4] in task\nstore %b[3 - i:4] = tile x[i:4]", "");
    accepted("buf %b: f32[i:4, j:4] in task\nstore %b[i:4, i:4] = tile x[i:4]", "");
}

Test(interp_refuse, ranges)
{
    refused("V-LOOP", 6, "for t in 0..4 | 2..6 { %a = t }", "");
    refused("V-LOOP", 6, "for t in 4..6 | 0..2 { }", "");
    refused("V-LOOP", 6, "for t in 0..4 step i0 - i0 { }", "");
    refused("V-LOOP", 6, "for t in 0..4 step i0 - 1 { }", "");
    accepted("for t in 9223372036854775800..9223372036854775807 step 5 { }\n"
             "for t in (-9223372036854775807)..9223372036854775807 step 9223372036854775807 { }",
             "");
    accepted("for t in 0..4 | 4..4 | 4..6 step 3 { %a = t }", "");
}

Test(interp_refuse, requirements_and_facts)
{
    refused("V-REQ", 4, "", "require N % 4 == 0, \"N must be a multiple of 4\"");
    refused("V-FACT", 6, "for t in 0..4 !full(0..4) { %a = t < 3 !mask }", "");
    refused("V-FACT", 7, "for t in 0..4 !full(0..4) {\n for u in 0..2 { %a = t < 3 !mask } }", "");
    refused("V-FACT", 6, "store y[i0 + i:4] = 0.0 !in", "");
    accepted("for t in 0..4 !full(0..3) { %a = t < 3 !mask }", "");
    accepted("%a = i0 < 0 !mask", "require N > 6, \"small\"");
}

Test(interp_refuse, rings)
{
    const char *ring =
        "buf %b: f32[s:2, i:4] in shared ring s\nstart store %b[0, i:4] = tile x[i:4]\n";
    const char *const bad[] = {"%a = %b[0, i:4]",
                               "await %b[0]\nstart store %b[0, i:4] = 0.0",
                               "free %b[0]",
                               "await %b[1]",
                               "await %b[0]\nawait %b[0]",
                               "await %b[0]\nfree %b[0]\n%a = %b[0, i:4]",
                               "await %b[i0 + 2]"};
    const int line[] = {8, 9, 8, 8, 9, 10, 8};
    for (int k = 0; k < 7; k++) {
        qn_buf t = qn_buf_of(&lab.arena);
        qn_buf_printf(&t, "%s%s", ring, bad[k]);
        refused("V-RING", line[k], t.text, "");
    }
    qn_buf t = qn_buf_of(&lab.arena);
    qn_buf_printf(&t,
                  "%sawait %%b[0]\n%%a = %%b[0, i:4]\nfree %%b[0]\n"
                  "start store %%b[0, i:4] = 0.0\nawait %%b[0]",
                  ring);
    accepted(t.text, "");
}

Test(interp_refuse, arithmetic)
{
    refused("V-ARITH", 6, "%a = 7 // (i0 - i0)", "");
    refused("V-ARITH", 6, "%a = z[i:N] % (z[i:N] - 1)", "");
    refused("V-ARITH", 6, "%a = i32(1.0 / f32(i0))", "");
    refused("V-ARITH", 6, "%a = u8(300.0 + tile x[i:4])", "");
    refused("V-ARITH", 6, "%a = shl(z[i:N], 32)", "");
    refused("V-ARITH", 6, "%a = shr(z[i:N], -1)", "");
    accepted("%a = 7 // select(i0 == 0, 1, i0)\n%b = shl(z[i:N], 31)\n%c = u8(255.9)\n"
             "%d = i64(-9223372036854775808.0)\n%e = (-9223372036854775807 - 1) // -1",
             "");
}

/* ---------------------------------------------------------------- arguments */

static void refused_args(const char *text, qn_args *a, const char *word)
{
    qn_lab_forget(&lab);
    qn_ir_file *f = qn_lab_text(&lab, text);
    cr_expect(qn_lab_try_run(&lab, f, NULL, a, QN_EXACT, 0) == NULL, "%s", text);
    const char *rule = qn_lab_rule(&lab, NULL);
    cr_expect(rule && strcmp(rule, "V-ARG") == 0, "%s: %s", text, rule ? rule : "nothing");
    cr_expect(strstr(qn_lab_errors(&lab), word) != NULL, "%s: no word of %s", text, word);
}

Test(interp_refuse, arguments_that_do_not_fit)
{
    const char *text = "kernel @t { dim N, M = N + 1, C\n in x: f32[i:N] in c: f32[j:M]\n"
                       " in w: i32 = 3\n out y: f32[i:N]\n launch { par for i in 0..N {\n"
                       " store y[i] = x[i] + c[i] + f32(w + C)\n } } }";
    qn_array x = qn_normal(&lab, QN_F32, 1, 1, (int64_t[]){5}),
             c = qn_normal(&lab, QN_F32, 2, 1, (int64_t[]){6});
    qn_args good = {0};
    qn_args_array(&good, "x", x);
    qn_args_array(&good, "c", c);
    qn_args_dim(&good, "C", 1);
    cr_expect(qn_lab_try_run(&lab, qn_lab_text(&lab, text), NULL, &good, QN_EXACT, 0) != NULL);

    qn_args a = good;
    qn_args_array(&a, "c", x);
    refused_args(text, &a, "extent 5");
    a = good;
    qn_args_dim(&a, "N", 4);
    refused_args(text, &a, "N is 5");
    a = good;
    qn_args_dim(&a, "M", 9);
    refused_args(text, &a, "M is 6");
    a = good;
    qn_args_dim(&a, "K", 4);
    refused_args(text, &a, "K");
    a = good;
    a.count--;
    refused_args(text, &a, "C is in no shape");
    a = good;
    qn_args_array(&a, "x", qn_ints(&lab, QN_I32, 1, (int64_t[]){5}, (int64_t[]){1, 2, 3, 4, 5}));
    refused_args(text, &a, "x wants f32");
    a = good;
    qn_args_array(&a, "x", qn_normal(&lab, QN_F32, 1, 2, (int64_t[]){5, 1}));
    refused_args(text, &a, "rank");
    a = good;
    qn_args_float(&a, "w", QN_F32, 1.0);
    refused_args(text, &a, "w wants i32");
    a = (qn_args){0};
    qn_args_array(&a, "x", x);
    qn_args_dim(&a, "C", 1);
    refused_args(text, &a, "c is not given");
    a = good;
    qn_args_array(&a, "y", c);
    refused_args(text, &a, "N is 6");
}

Test(interp_refuse, negative_and_huge_extents)
{
    qn_args a = {0};
    qn_args_dim(&a, "N", 3);
    refused_args("kernel @t { dim N, M = N - 5\n out y: f32[i:M]\n launch { par for i in 0..M {\n"
                 " store y[i] = 0.0 } } }",
                 &a, "extent M is -2");
    qn_ir_file *f = qn_lab_text(&lab, "kernel @t { dim N\n out y: f32[i:N, j:N, k:N]\n launch {"
                                      " par for i in 0..N {\n store y[i, j:N, k:N] = 0.0 } } }");
    qn_args_dim(&a, "N", INT64_MAX);
    qn_lab_forget(&lab);
    cr_expect(qn_lab_try_run(&lab, f, NULL, &a, QN_EXACT, 0) == NULL);
    cr_expect_str_eq(qn_lab_rule(&lab, NULL), "V-FUEL");
    qn_args_dim(&a, "N", 10000);
    qn_lab_forget(&lab);
    cr_expect(qn_lab_try_run(&lab, f, NULL, &a, QN_EXACT, 0) == NULL);
    cr_expect_str_eq(qn_lab_rule(&lab, NULL), "V-FUEL");
}

/* ---------------------------------------------------------------- budgets */

Test(interp_refuse, fuel_ends_every_loop)
{
    const char *const body[] = {"for t in 0..9000000000000 { }",
                                "for t in 0..1000000 { %a = t * i:64 }",
                                "%a = reduce.sum(f32(i:10000000), over i)"};
    for (int k = 0; k < 3; k++) {
        qn_ir_file *f = kernel(body[k], "");
        qn_args a = {0};
        arguments(&a);
        cr_assert(qn_lab_try_run(&lab, kernel("", ""), NULL, &a, QN_EXACT, 0) != NULL);
        qn_interp_options options = {.mode = QN_TYPED, .fuel = 100000};
        qn_interp_result r;
        qn_lab_forget(&lab);
        bool ok = qn_interp(f, qn_file_kernel(f, NULL), a.at, a.count, &options, &r, &lab.diags);
        cr_expect(!ok, "%s", body[k]);
        cr_expect_str_eq(qn_lab_rule(&lab, NULL), "V-FUEL");
    }
}

typedef struct purse { /* an allocator that counts, and refuses when told */
    int64_t held, calls, refuse_at;
} purse;

static void *count_bytes(void *user, void *p, size_t old_size, size_t new_size)
{
    purse *u = user;
    if (new_size == 0) {
        u->held -= (int64_t)old_size;
        free(p);
        return NULL;
    }
    if (++u->calls == u->refuse_at) {
        return NULL;
    }
    u->held += (int64_t)new_size - (int64_t)old_size;
    return realloc(p, new_size);
}

Test(interp_refuse, memory_that_runs_out_leaks_nothing)
{
    const char *text = "kernel @t { out y: f32[i:3000]\n launch { par for a in 0..30 {\n"
                       " %t = f32(i:100 + a * j:300)\n store y[a * 100 + i:100] ="
                       " reduce.sum(%t, over j)\n } } }";
    volatile int refusals = 0;
    for (volatile int64_t at = 1; at < 200; at = at + 1) {
        purse u = {.refuse_at = at};
        jmp_buf oom;
        qn_arena arena;
        qn_arena_init(&arena, &(qn_alloc){count_bytes, &u}, &oom);
        volatile bool out = true;
        if (setjmp(oom) == 0) {
            qn_ir ir;
            qn_diags d;
            qn_ir_init(&ir, &arena);
            qn_diags_init(&d, &arena, "t", NULL);
            qn_ir_file *f = qn_parse(&ir, text, strlen(text), &d);
            qn_interp_options options = {.mode = QN_EXACT};
            qn_interp_result r;
            cr_assert(f && qn_interp(f, qn_file_kernel(f, NULL), NULL, 0, &options, &r, &d));
            out = false;
        }
        cr_assert(arena.oom == &oom);
        qn_arena_fini(&arena);
        cr_expect_eq(u.held, 0, "%lld bytes held after refusal %lld", (long long)u.held,
                     (long long)at);
        refusals = refusals + out;
        if (!out) {
            break;
        }
    }
    cr_expect(refusals >= 4, "only %d allocations could be refused", refusals);
}
