/* SPDX-License-Identifier: MIT
 *
 * Elementary functions of generated code against the mathematical library in long double, over the
 * whole range of f32 and at its edges; and the same bits in lanes, alone, and on every instruction
 * set. Errors are in units in the last place of the true result. */
#include "tests/support/exec.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static qn_lab lab;

static void open_lab(void)
{
    qn_lab_open(&lab);
}

static void close_lab(void)
{
    qn_lab_close(&lab);
}

TestSuite(x86_math, .init = open_lab, .fini = close_lab);

static long double sigmoid_l(long double x)
{
    long double z = expl(-fabsl(x));
    return x < 0 ? z / (1 + z) : 1 / (1 + z);
}

static long double rsqrt_l(long double x)
{
    return 1 / sqrtl(x);
}

typedef struct function {
    const char *name;
    long double (*truth)(long double x);
    double lo, hi; /* where random arguments are dense; besides, the whole range by bits */
    double ulps;   /* the most that is allowed */
} function;

static const function functions[] = {
    {"exp", expl, -105, 89, 1.5},       {"exp2", exp2l, -151, 129, 1.5},
    {"log", logl, 0.25, 4, 1.5},        {"log2", log2l, 0.25, 4, 2.0},
    {"tanh", tanhl, -12, 12, 2.5},      {"sigmoid", sigmoid_l, -104, 30, 3.0},
    {"erf", erfl, -5, 5, 2.0},          {"sin", sinl, -40, 40, 1.5},
    {"cos", cosl, -40, 40, 1.5},        {"sqrt", sqrtl, 0, 100, 0.51},
    {"rsqrt", rsqrt_l, 0.01, 100, 1.6}, {"floor", floorl, -9, 9, 0.0},
    {"ceil", ceill, -9, 9, 0.0},        {"round", nearbyintl, -9, 9, 0.0},
};

enum { COUNT = 4096 };

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static void arguments(const function *f, double *x)
{
    static const double edges[] = {0.0,     -0.0,      1.0,        -1.0,     0.5,     -0.5,
                                   1.5,     2.5,       1e-40,      -1e-40,   1e-45,   1e38,
                                   -1e38,   8388607.5, -8388608.0, 88.73,    -103.97, -104.1,
                                   127.999, -149.5,    16777216.0, 0x1p-126, 3e5,     1e10,
                                   0.6,     0.99999,   1.000001,   4.0,      3.9999};
    qn_random r = {17};
    int n = 0;
    x[n++] = INFINITY;
    x[n++] = -INFINITY;
    x[n++] = NAN;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        x[n++] = (double)(float)edges[i];
    }
    for (; n < COUNT; n++) {
        float v = n % 4 == 0 ? from_bits((uint32_t)qn_random_bits(&r))
                             : (float)(f->lo + (f->hi - f->lo) * qn_random_unit(&r));
        x[n] = (double)v;
    }
}

static double ulp_of(long double x)
{
    int e;
    frexpl(x, &e);
    return e - 24 < -149 ? 0x1p-149 : ldexp(1.0, e - 24);
}

/* The kernel in lanes of 16 and 8, and elementwise without. */
static const char *text_of(const char *name, int width, const char *dtype)
{
    qn_buf b = qn_buf_of(&lab.arena);
    qn_buf_printf(&b,
                  "kernel @f {\n  dim N = %d\n  in x: %s[i:N]\n  out y: %s[i:N]\n  launch {\n"
                  "    par for i0 in 0..N step 64%s {\n"
                  "      %%v = x[i0 + i:64]\n      store y[i0 + i:64] = %s(%%v)\n    }\n  }\n}\n",
                  COUNT, dtype, dtype,
                  width == 16  ? " !leaf(16, 32, i)"
                  : width == 8 ? " !leaf(8, 16, i)"
                               : "",
                  name);
    return b.text;
}

static const qn_array *run(const char *name, int width, const qn_target *t, qn_array x)
{
    const char *dtype = qn_dtype_name(x.dtype);
    qn_ir_file *f = qn_lab_text(&lab, text_of(name, width, dtype));
    qn_args a = {0};
    qn_args_array(&a, "x", x);
    qn_exec_result r = qn_exec(&lab, f, NULL, &a, &(qn_exec_options){.target = t});
    cr_assert(r.status == QN_OK && r.setup == 0, "%s: %s", name, qn_lab_errors(&lab));
    cr_assert(!r.touched);
    return qn_exec_out(&r, "y");
}

Test(x86_math, f32)
{
    int64_t shape[] = {COUNT};
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        const function *f = &functions[k];
        double x[COUNT];
        arguments(f, x);
        qn_array in = qn_floats(&lab, QN_F32, 1, shape, x);
        const qn_array *first = NULL;
        for (const qn_target *const *t = qn_targets; *t; t++) {
            for (int width = 0; width <= 16 && (*t)->here(); width += 8) {
                const qn_array *y = run(f->name, width, *t, in);
                if (!first) {
                    first = y;
                }
                for (int i = 0; i < COUNT; i++) {
                    bool same = memcmp(&y->f[i], &first->f[i], 8) == 0 ||
                                (isnan(y->f[i]) && isnan(first->f[i]));
                    cr_assert(same, "%s(%a) on %s, width %d: %a, elsewhere %a", f->name, x[i],
                              (*t)->isa, width, y->f[i], first->f[i]);
                }
            }
        }
        double worst = 0, at = 0;
        for (int i = 0; i < COUNT; i++) {
            long double truth = f->truth((long double)x[i]);
            double got = first->f[i];
            if (isnan(truth)) {
                cr_expect(isnan(got), "%s(%g) is %g, not NaN", f->name, x[i], got);
                continue;
            }
            if (isinf(truth) || fabsl(truth) >= 0x1.ffffffp127L) {
                cr_expect(isinf(got) && !signbit(got) == !signbit(truth), "%s(%g) is %g", f->name,
                          x[i], got);
                continue;
            }
            double off = fabs((double)((long double)got - truth)) / ulp_of(truth);
            if (!(off <= worst)) {
                worst = off;
                at = x[i];
            }
            cr_expect(truth != 0 || !signbit(got) == !signbit(truth), "%s(%g): sign of zero",
                      f->name, x[i]);
        }
        cr_expect(worst <= f->ulps, "%s(%a = %g): %.2f ulp", f->name, at, at, worst);
    }
}

Test(x86_math, f64)
{
    int64_t shape[] = {COUNT};
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        const function *f = &functions[k];
        double x[COUNT];
        qn_random r = {5};
        for (int i = 0; i < COUNT; i++) {
            x[i] = f->lo + (f->hi - f->lo) * qn_random_unit(&r);
        }
        const qn_array *y = run(f->name, k % 2 ? 16 : 0, qn_target_find(NULL),
                                qn_floats(&lab, QN_F64, 1, shape, x));
        for (int i = 0; i < COUNT; i++) {
            long double truth = f->truth((long double)x[i]);
            double off = (double)fabsl((long double)y->f[i] - truth);
            cr_assert(off <= 1e-14 * fabs((double)truth) + 1e-300, "%s(%.17g): %.17g", f->name,
                      x[i], y->f[i]);
        }
    }
}
