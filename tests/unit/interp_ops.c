/* SPDX-License-Identifier: MIT
 *
 * The oracle op by op: values against C, integers at their widths, what is undefined or in doubt
 * has no verdict, and the law of error bounds: a typed evaluation never leaves the bound of the
 * exact one. Then the formula that judges. */
#include "ir/parse.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
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

TestSuite(interp_ops, .init = setup, .fini = teardown, .timeout = 60);

enum { N = 600 }; /* more than a chunk of the evaluator */

/* The text with `to` for every `from`. */
static const char *replaced(const char *text, const char *from, const char *to)
{
    qn_buf b = qn_buf_of(&lab.arena);
    for (const char *hit; (hit = strstr(text, from)) != NULL; text = hit + strlen(from)) {
        qn_buf_put(&b, text, (size_t)(hit - text));
        qn_buf_puts(&b, to);
    }
    qn_buf_puts(&b, text);
    return b.text;
}

/* Runs `statements` in one task over in a, b, c: T[i:600], n: i32[i:600], out y of any type; z, the
 * index of the task, is put before the axes of y. */
static const qn_array *run(const char *type, const char *out, const char *statements,
                           const qn_array *abc, qn_interp_mode mode)
{
    qn_buf b = qn_buf_of(&lab.arena);
    qn_buf_printf(&b,
                  "kernel @t {\n in a: %s[i:600]\n in b: %s[i:600]\n in c: %s[i:600]\n"
                  " in n: i32[i:600]\n out y: %s\n launch { par for z in 0..1 {\n%s\n} } }",
                  type, type, type, replaced(out, "[", "[z:1, "),
                  replaced(statements, "store y[", "store y[z, "));
    qn_ir_file *f = qn_lab_text(&lab, b.text);
    qn_args args = {0};
    qn_args_array(&args, "a", abc[0]);
    qn_args_array(&args, "b", abc[1]);
    qn_args_array(&args, "c", abc[2]);
    qn_args_array(&args, "n", abc[3]);
    return qn_result(qn_lab_run(&lab, f, NULL, &args, mode, 0), "y");
}

static void inputs(qn_dtype t, uint64_t seed, qn_array *abc)
{
    int64_t n = N;
    for (int k = 0; k < 3; k++) {
        abc[k] = qn_normal(&lab, t, seed * 3 + (uint64_t)k, 1, &n);
    }
    abc[3] = qn_zeros(&lab, QN_I32, 1, &n);
    qn_random r = {seed};
    for (int k = 0; k < N; k++) {
        abc[3].i[k] = qn_random_below(&r, 41) - 20;
    }
}

/* ---------------------------------------------------------------- values */

Test(interp_ops, floats_are_those_of_c)
{
    qn_array x[4];
    inputs(QN_F64, 1, x);
    const struct {
        const char *text;
        double (*f)(double);
    } one[] = {{"exp(a[i:600])", exp},     {"exp2(a[i:600])", exp2}, {"sin(a[i:600])", sin},
               {"cos(a[i:600])", cos},     {"tanh(a[i:600])", tanh}, {"erf(a[i:600])", erf},
               {"floor(a[i:600])", floor}, {"ceil(a[i:600])", ceil}, {"round(a[i:600])", nearbyint},
               {"abs(a[i:600])", fabs},    {"log(a[i:600])", log},   {"log2(a[i:600])", log2},
               {"sqrt(a[i:600])", sqrt}};
    for (size_t k = 0; k < sizeof one / sizeof *one; k++) {
        qn_buf b = qn_buf_of(&lab.arena);
        qn_buf_printf(&b, "store y[i:600] = %s", one[k].text);
        const qn_array *y = run("f64", "f64[i:600]", b.text, x, QN_EXACT);
        for (int i = 0; i < N; i++) {
            double want = one[k].f(x[0].f[i]);
            cr_assert(y->f[i] == want || (isnan(want) && isnan(y->f[i])), "%s of %g is %g",
                      one[k].text, x[0].f[i], y->f[i]);
        }
    }
}

Test(interp_ops, floor_division_is_that_of_lua)
{
    qn_array x[4];
    inputs(QN_F32, 2, x);
    const qn_array *y = run("f32", "i32[i:600, k:4]",
                            "store y[i:600, 0] = n[i:600] // 7\nstore y[i:600, 1] = n[i:600] % 7\n"
                            "store y[i:600, 2] = n[i:600] // -7\nstore y[i:600, 3] = n[i:600] % -7",
                            x, QN_EXACT);
    for (int i = 0; i < N; i++) {
        double n = (double)x[3].i[i];
        cr_assert_eq(y->i[4 * i], (int64_t)floor(n / 7));
        cr_assert_eq(y->i[4 * i + 1], (int64_t)(n - 7 * floor(n / 7)));
        cr_assert_eq(y->i[4 * i + 2], (int64_t)floor(n / -7));
        cr_assert_eq(y->i[4 * i + 3], (int64_t)(n + 7 * floor(n / -7)));
    }
}

static int64_t scalar(const char *type, const char *expr)
{
    qn_buf b = qn_buf_of(&lab.arena), t = qn_buf_of(&lab.arena);
    qn_buf_printf(&b, "store y[0] = %s", expr);
    qn_buf_printf(&t, "%s[k:1]", type);
    qn_array x[4];
    inputs(QN_F32, 1, x);
    return run("f32", t.text, b.text, x, QN_TYPED)->i[0];
}

Test(interp_ops, integers_wrap_at_their_width)
{
    cr_expect_eq(scalar("i8", "i8(100) + i8(100)"), -56);
    cr_expect_eq(scalar("u8", "u8(3) - u8(5)"), 254);
    cr_expect_eq(scalar("i16", "-i16(-32768)"), -32768);
    cr_expect_eq(scalar("i32", "shl(i32(1), 31)"), INT32_MIN);
    cr_expect_eq(scalar("i32", "shr(i32(-1), 28)"), 15);
    cr_expect_eq(scalar("i32", "abs(i32(-7)) * i32(3)"), 21);
    cr_expect_eq(scalar("i64", "i64(i8(i32(200)))"), -56);
    cr_expect_eq(scalar("i32", "bxor(band(i32(12), i32(10)), bor(i32(1), i32(4)))"), 13);
    cr_expect_eq(scalar("i64", "reduce.argmax(f32(3 - i:7 % 4), over i)"), 0);
    cr_expect_eq(scalar("i64", "reduce.argmin(f32(3 - i:7 % 4), over i)"), 3);
    cr_expect_eq(scalar("i64", "reduce.argmax(f32(i:7) - inf, over i)"), -1);
    cr_expect_eq(scalar("i32", "reduce.max(i32(i:0), over i)"), INT32_MIN);
    cr_expect_eq(scalar("u8", "reduce.min(u8(i:0), over i)"), 255);
    cr_expect_eq(scalar("i64", "reduce.prod(i:5 + 1, over i)"), 120);
    cr_expect_eq(scalar("i32", "dot(i8(i:300 % 100), i8(i:300 % 100), over i)"), 985050);
    cr_expect_eq(scalar("bool", "reduce.any(i:9 == 4, over i) and not reduce.all(i:9 < 8, over i)"),
                 1);
}

Test(interp_ops, axes_meet_by_name)
{
    qn_array x[4];
    inputs(QN_F32, 4, x);
    const qn_array *y = run("f32", "f32[q:3, p:5]",
                            "%o = f32(p:5) * 10.0 + f32(q:3)\nstore y[q:3, p:5] = %o", x, QN_EXACT);
    for (int q = 0; q < 3; q++) {
        for (int p = 0; p < 5; p++) {
            cr_assert_eq(y->f[q * 5 + p], p * 10 + q);
        }
    }
    y = run("f32", "f32[q:4, p:4]",
            "%m = a[p:4 * 4 + q:4]\n%t = %m as (p -> q, q -> p)\n"
            "store y[q:4, p:4] = %m - %t + scan.sum(f32(p:4), over p)",
            x, QN_EXACT);
    for (int q = 0; q < 4; q++) {
        for (int p = 0; p < 4; p++) {
            double d = x[0].f[p * 4 + q] - x[0].f[q * 4 + p] + p * (p + 1) / 2;
            cr_assert_float_eq(y->f[q * 4 + p], d, 1e-12);
        }
    }
}

Test(interp_ops, statements_without_values)
{
    const char *text = "kernel @t { dim N\n in w: i32 = 3 * 2\n in s: f32 = -0.5\n"
                       " out y: f32[i:N] inout m: f32[i:N]\n launch { par for i in 0..N {\n"
                       " prefetch y[i + 1000]\n flag(i == w, E_INDEX)\n"
                       " %v, %u = if i % 2 == 0 { yield s, 1.0 } else { yield f32(w), 2.0 }\n"
                       " store y[i] = %v + %u\n store.max m[0] = f32(i) atomic\n"
                       " store.min m[1] = f32(-i) atomic\n} } }";
    qn_ir_file *f = qn_lab_text(&lab, text);
    for (int n = 6; n < 8; n++) {
        qn_args a = {0};
        qn_args_array(&a, "m", qn_zeros(&lab, QN_F32, 1, (int64_t[]){n}));
        const qn_interp_result *r = qn_lab_run(&lab, f, NULL, &a, QN_EXACT, 9);
        cr_assert(n == 6 ? r->flag == NULL : r->flag && strcmp(r->flag, "E_INDEX") == 0);
        cr_assert_eq(qn_result(r, "y")->f[2], 0.5);
        cr_assert_eq(qn_result(r, "y")->f[3], 8);
        cr_assert_eq(qn_result(r, "m")->f[0], n - 1);
        cr_assert_eq(qn_result(r, "m")->f[1], 1 - n);
    }
}

Test(interp_ops, scalar_expressions_alone)
{
    const char *text = "clamp((N + 63) // 64, 1, 3) * 2";
    const qn_expr *x = qn_parse_expr(&lab.ir, text, strlen(text), &lab.diags);
    int64_t n = 130, i = 0;
    double f = 0;
    qn_arg a = {"N", {.dtype = QN_I64, .i = &n}};
    cr_assert(qn_interp_scalar(&lab.ir, x, &a, 1, &f, &i));
    cr_assert_eq(i, 6);
    cr_assert_eq(f, 6.0);
    cr_assert_not(qn_interp_scalar(&lab.ir, x, NULL, 0, &f, &i));
    text = "exp(N) / 0.0";
    x = qn_parse_expr(&lab.ir, text, strlen(text), &lab.diags);
    cr_assert_not(qn_interp_scalar(&lab.ir, x, &a, 1, &f, &i));
}

/* ---------------------------------------------------------------- bounds */

/* Random expressions: typed results stay within the exact ones' bounds, with no factor. */
Test(interp_ops, typed_stays_within_the_bound)
{
    static const char *const text[] = {
        "a[i:600] + b[i:600] * c[i:600]",
        "a[i:600] / b[i:600] - c[i:600]",
        "fma(a[i:600], b[i:600], c[i:600]) * 1.1",
        "exp(a[i:600] * b[i:600] - abs(c[i:600]))",
        "log(abs(a[i:600]) + 0.01) * b[i:600]",
        "log2(abs(a[i:600] * b[i:600]) + 0.5)",
        "tanh(a[i:600] + b[i:600]) - erf(c[i:600] * a[i:600])",
        "sigmoid(a[i:600] * 3.0) * exp2(b[i:600])",
        "sin(a[i:600] * b[i:600]) + cos(c[i:600] - b[i:600])",
        "rsqrt(abs(a[i:600] * b[i:600]) + 0.1) + sqrt(abs(c[i:600] - a[i:600]))",
        "pow(abs(a[i:600] + b[i:600]) + 0.1, c[i:600])",
        "max(a[i:600] * b[i:600], c[i:600] * b[i:600]) - min(a[i:600] / 3.0, b[i:600])",
        "clamp(a[i:600] * b[i:600], -0.5, c[i:600] * c[i:600])",
        "select(a[i:600] * b[i:600] < c[i:600] * 0.1, a[i:600] * 0.3, a[i:600] + b[i:600])",
        "(floor(a[i:600] * b[i:600]) + ceil(c[i:600] * 1.3) + round(a[i:600] * 2.7)) * 0.1",
        "(a[i:600] * 7.0) % (b[i:600] + 3.0) + (a[i:600] * 9.0) // (abs(c[i:600]) + 0.7)",
        "scan.sum(a[i:600] * b[i:600], over i)",
        "scan.prod(a[i:600] * 0.01 + 1.0, over i) + scan.max(b[i:600] * c[i:600], over i)",
        "a[i:600] * reduce.sum(b[i:600] * c[i:600], over i) + reduce.max(a[i:600] * c[i:600], over "
        "i)",
        "f32(f16(a[i:600] * b[i:600])) + f32(bf16(c[i:600] * 1.7)) + f32(n[i:600] * 16777217)",
        "reduce.min(tile a[i:600 - j:5] * b[i:600], over j) * reduce.prod(tile c[i:600 - j:5] + "
        "2.0, over j)",
        "dot(tile a[i:600 - j:9], tile b[i:600 - j:9] * c[i:600], over j)",
    };
    for (size_t k = 0; k < sizeof text / sizeof *text; k++) {
        int64_t judged = 0;
        double worst = 0;
        for (uint64_t seed = 0; seed < 8; seed++) {
            qn_array x[4];
            inputs(QN_F32, seed + 10 * k, x);
            qn_buf b = qn_buf_of(&lab.arena);
            qn_buf_printf(&b, "store y[i:600] = %s", text[k]);
            const qn_array *exact = run("f32", "f32[i:600]", b.text, x, QN_EXACT);
            const qn_array *typed = run("f32", "f32[i:600]", b.text, x, QN_TYPED);
            for (int i = 0; i < N; i++) {
                double e = exact->bound[i], d = fabs(exact->f[i] - typed->f[i]);
                if (e == INFINITY) {
                    continue;
                }
                judged++;
                bool good = exact->f[i] == typed->f[i] ||
                            (isnan(exact->f[i]) && isnan(typed->f[i])) || d <= e * 1.0001;
                cr_assert(good, "%s at %d: %.9g, typed %.9g, bound %g", text[k], i, exact->f[i],
                          typed->f[i], e);
                worst = e > 0 && d / e > worst ? d / e : worst;
            }
        }
        cr_expect(judged > 8 * N * 8 / 10, "%s: only %lld judged", text[k], (long long)judged);
        cr_expect(worst > 0.001, "%s: the bound is %g times too wide", text[k], 1 / worst);
    }
}

Test(interp_ops, half_types_stay_within_the_bound)
{
    static const char *const text[] = {"a[i:600] * b[i:600] + c[i:600]",
                                       "exp(a[i:600]) / (abs(b[i:600]) + 1.0)",
                                       "tanh(a[i:600]) * b[i:600] - c[i:600]"};
    for (int type = 0; type < 2; type++) {
        for (int k = 0; k < 3; k++) {
            qn_array x[4];
            inputs(type ? QN_BF16 : QN_F16, (uint64_t)k, x);
            qn_buf b = qn_buf_of(&lab.arena);
            qn_buf_printf(&b, "store y[i:600] = %s", text[k]);
            const char *t = type ? "bf16" : "f16", *o = type ? "bf16[i:600]" : "f16[i:600]";
            const qn_array *exact = run(t, o, b.text, x, QN_EXACT);
            const qn_array *typed = run(t, o, b.text, x, QN_TYPED);
            for (int i = 0; i < N; i++) {
                cr_assert(fabs(exact->f[i] - typed->f[i]) <= exact->bound[i], "%s %s at %d", t,
                          text[k], i);
                cr_assert_eq(typed->f[i], qn_round_float(exact->dtype, typed->f[i]));
            }
        }
    }
}

static double bound_of(const char *statements)
{
    qn_array x[4];
    inputs(QN_F32, 1, x);
    return run("f32", "f32[k:1]", statements, x, QN_EXACT)->bound[0];
}

Test(interp_ops, what_is_exact_is_known_to_be)
{
    cr_expect_eq(bound_of("store y[0] = a[3]"), 0);
    cr_expect_eq(bound_of("store y[0] = f32(7 * 3) * 0.5 - 2.0"), 0);
    cr_expect_eq(bound_of("store y[0] = -max(a[3], 0.25)"), 0);
    cr_expect_eq(bound_of("store y[0] = -inf * exp(a[3])"), 0);
    cr_expect_eq(bound_of("store y[0] = select(-inf * exp(a[3]) == -inf, 1.0, a[3] * a[4])"), 0);
    cr_expect_eq(bound_of("store y[0] = select(false, 0.0 / 0.0, 1.0)"), 0);
    cr_expect_gt(bound_of("store y[0] = 0.1"), 0);
    cr_expect_gt(bound_of("store y[0] = a[3] * a[4]"), 0);
}

Test(interp_ops, what_is_in_doubt_has_no_verdict)
{
    const char *const none[] = {
        "buf %b: f32[k:2] in task\nstore y[0] = %b[1]", /* undefined */
        "buf %b: f32[k:2] in task\nstore y[0] = %b[1] * 0.0",
        "%d = a[3] * a[4] - a[3] * a[4]\nstore y[0] = 1.0 / %d",
        "%d = a[3] * a[4] - a[3] * a[4]\nstore y[0] = log(%d)",
        "%d = a[3] * a[4] - a[3] * a[4]\nstore y[0] = f32(i32(%d > 0.0))",
        "%r = if a[3] * a[4] - a[3] * a[4] > 0.0 { yield 1.0 } else { yield 1.0 }\nstore y[0] = %r",
        "%d = a[3] * a[4] - a[3] * a[4]\nstore y[0] = tile a[i32(%d > 0.0)]",
        "%d = f32(i:2) * 1e-9 + a[3] * a[4]\nstore y[0] = f32(reduce.argmax(%d, over i))",
        "store y[0] = f32(f16(exp(a[3]) * 65500.0 + 60000.0))", /* overflows in f16 */
    };
    for (size_t k = 0; k < sizeof none / sizeof *none; k++) {
        cr_expect_eq(bound_of(none[k]), INFINITY, "%s has a verdict", none[k]);
    }
    /* a select whose condition is in doubt: the arms' distance */
    double e = bound_of("%d = a[3] * a[4] - a[3] * a[4]\nstore y[0] = select(%d > 0.0, 3.0, 1.0)");
    cr_expect_eq(e, 2);
}

/* ---------------------------------------------------------------- the formula */

Test(interp_ops, rounding_is_to_nearest_even)
{
    cr_expect_eq(qn_round_float(QN_F16, 65519.99), 65504);
    cr_expect_eq(qn_round_float(QN_F16, 65520), INFINITY);
    cr_expect_eq(qn_round_float(QN_F16, -1e300), -INFINITY);
    cr_expect_eq(qn_round_float(QN_F16, 0x1p-25), 0);
    cr_expect_eq(qn_round_float(QN_F16, 0x1.8p-25), 0x1p-24);
    cr_expect_eq(qn_round_float(QN_F16, 2049), 2048);
    cr_expect_eq(qn_round_float(QN_F16, 2051), 2052);
    cr_expect_eq(qn_round_float(QN_BF16, 257), 256);
    cr_expect_eq(qn_round_float(QN_BF16, 259), 260);
    cr_expect_eq(qn_round_float(QN_BF16, 0x1p-134), 0);
    cr_expect(signbit(qn_round_float(QN_F16, -0x1p-30)));
    cr_expect(isnan(qn_round_float(QN_BF16, NAN)));
    qn_random r = {5};
    for (int k = 0; k < 100000; k++) { /* bf16 by the bits of f32 */
        float f = (float)(qn_random_normal(&r) * exp(40 * qn_random_normal(&r)));
        uint32_t u;
        memcpy(&u, &f, 4);
        u = (u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000u;
        float want;
        memcpy(&want, &u, 4);
        cr_assert(isinf(f) || (double)want == qn_round_float(QN_BF16, (double)f), "%a", (double)f);
    }
}

Test(interp_ops, one_formula_judges)
{
    double exact[] = {1, 2, INFINITY, NAN, 3, 0}, bound[] = {0, 1e-3, 0, 0, INFINITY, 0};
    double good[] = {1 + 0x1p-24, 2.0019, INFINITY, NAN, 77, 0};
    qn_verdict v = qn_tolerance_check(exact, bound, good, 6, QN_F32);
    cr_expect(v.ok && v.compared == 5 && v.skipped == 1 && v.worst <= 1);
    const struct {
        int at;
        double x;
    } bad[] = {{0, 1 + 0x1.8p-24}, {1, 2.0021},    {2, 1e30}, {2, -INFINITY}, {2, NAN}, {3, 0},
               {0, NAN},           {0, -INFINITY}, {5, 1e-37}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        double got[6];
        memcpy(got, good, sizeof got);
        got[bad[k].at] = bad[k].x;
        v = qn_tolerance_check(exact, bound, got, 6, QN_F32);
        cr_expect(!v.ok && v.at == bad[k].at, "%g at %d", bad[k].x, bad[k].at);
    }
    double large = 65510, inf = INFINITY, finite = 65504;
    cr_expect(qn_tolerance_check(&large, NULL, &inf, 1, QN_F16).ok);
    cr_expect(qn_tolerance_check(&large, NULL, &finite, 1, QN_F16).ok);
    int64_t i[] = {1, 2, 3}, j[] = {1, 5, 3};
    double doubt[] = {0, INFINITY, 0};
    cr_expect(qn_tolerance_check_int(i, doubt, j, 3).ok);
    cr_expect_not(qn_tolerance_check_int(i, NULL, j, 3).ok);
}

Test(interp_ops, the_second_rule)
{
    double exact[] = {1, 2, 3}, naive[] = {1, 2.001, 3}, got[] = {1.0019, 2, 3};
    cr_expect(qn_tolerance_twice(exact, naive, got, 3, 0).ok);
    got[2] = 3.0021;
    qn_verdict v = qn_tolerance_twice(exact, naive, got, 3, 0);
    cr_expect(!v.ok && v.at == 2);
    cr_expect(qn_tolerance_twice(exact, naive, got, 3, 0.003).ok);
    cr_expect_not(qn_tolerance_twice(exact, exact, got, 3, 0).ok);
    cr_expect(qn_tolerance_twice(exact, exact, exact, 3, 0).ok);
    got[0] = NAN;
    cr_expect_not(qn_tolerance_twice(exact, naive, got, 3, 1).ok);
}
