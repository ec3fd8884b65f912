/* SPDX-License-Identifier: MIT
 *
 * The x86 backend: texts of every level on every instruction set of this machine against the
 * oracle, over shapes with tails and nothing mapped beside the tensors; equal bits where the order
 * of operations is the same; and what must be refused. */
#include "backends/x86/blob.h"
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

TestSuite(x86, .init = open_lab, .fini = close_lab);

/* Runs on one target and judges every output. */
static qn_exec_result judge(const char *what, const qn_ir_file *f, const char *kernel, qn_args *a,
                            const qn_interp_result *exact, const qn_exec_options *o)
{
    qn_exec_result r = qn_exec(&lab, f, kernel, a, o);
    cr_assert(r.status == QN_OK && r.setup == 0, "%s on %s: %s", what, o->target->isa,
              qn_lab_errors(&lab));
    cr_expect(!r.touched, "%s on %s wrote outside its outputs", what, o->target->isa);
    for (int k = 0; k < exact->nouts; k++) {
        qn_verdict v = qn_judge(&exact->outs[k].array, qn_exec_out(&r, exact->outs[k].name));
        cr_expect(v.ok, "%s %s on %s: %g tolerances off at %lld", what, exact->outs[k].name,
                  o->target->isa, v.worst, (long long)v.at);
    }
    return r;
}

static void everywhere(const char *what, const qn_ir_file *f, const char *kernel, qn_args *a,
                       bool same_bits)
{
    const qn_interp_result *exact = qn_lab_run(&lab, f, kernel, a, QN_EXACT, 0);
    qn_exec_result first = {0};
    for (const qn_target *const *t = qn_targets; *t; t++) {
        for (int32_t fence = 1; fence <= 2 && (*t)->here(); fence++) {
            qn_exec_result r =
                judge(what, f, kernel, a, exact, &(qn_exec_options){.target = *t, .fence = fence});
            for (int k = 0; k < first.nouts && same_bits; k++) {
                cr_expect(qn_same_bits(&r.outs[k].array, &first.outs[k].array),
                          "%s %s: other bits on %s", what, r.outs[k].name, (*t)->isa);
            }
            first = first.outs ? first : r;
        }
    }
}

/* ---------------------------------------------------------------- texts of the corpus */

typedef struct shape4 {
    int64_t b, hq, hk, nq, nk, d, e;
} shape4;

static qn_args attention_args(shape4 s, bool grouped)
{
    qn_args a = {0};
    if (grouped) {
        qn_args_array(&a, "q", qn_normal(&lab, QN_F32, 1, 4, (int64_t[]){s.b, s.hq, s.nq, s.d}));
        qn_args_array(&a, "k", qn_normal(&lab, QN_F32, 2, 4, (int64_t[]){s.b, s.hk, s.nk, s.d}));
        qn_args_array(&a, "v", qn_normal(&lab, QN_F32, 3, 4, (int64_t[]){s.b, s.hk, s.nk, s.e}));
        qn_args_array(&a, "slope", qn_normal(&lab, QN_F32, 4, 1, (int64_t[]){s.hq}));
    } else {
        qn_args_array(&a, "q", qn_normal(&lab, QN_BF16, 1, 3, (int64_t[]){s.hq, s.nq, s.d}));
        qn_args_array(&a, "k", qn_normal(&lab, QN_BF16, 2, 3, (int64_t[]){s.hq, s.nk, s.d}));
        qn_args_array(&a, "v", qn_normal(&lab, QN_BF16, 3, 3, (int64_t[]){s.hq, s.nk, s.e}));
    }
    return a;
}

Test(x86, rows_in_lanes)
{
    static const shape4 shapes[] = {{1, 1, 1, 1, 1, 1, 1},      {1, 2, 1, 7, 9, 5, 3},
                                    {1, 2, 2, 64, 64, 8, 8},    {2, 2, 1, 65, 130, 4, 5},
                                    {1, 1, 1, 130, 63, 12, 13}, {1, 1, 1, 0, 5, 4, 4}};
    const char *levels[] = {"a_naive", "b_tiled", "c_leaf"};
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        for (int k = 0; k < 3; k++) {
            qn_ir_file *f = qn_lab_corpus(&lab, levels[k]);
            qn_args a = attention_args(shapes[n], true);
            everywhere(levels[k], f, NULL, &a, true);
        }
    }
}

Test(x86, sixteen_bits)
{
    static const shape4 shapes[] = {
        {1, 1, 1, 1, 1, 1, 1}, {1, 2, 2, 33, 65, 7, 5}, {1, 1, 1, 32, 64, 16, 8}};
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        qn_args a = attention_args(shapes[n], false);
        everywhere("c2", qn_lab_corpus(&lab, "c2_leaf_bf16"), NULL, &a, true);
    }
}

Test(x86, three_lane_axes)
{
    for (int64_t nk = 1; nk <= 131; nk += 65) {
        qn_args a = {0};
        qn_args_array(&a, "q", qn_normal(&lab, QN_F32, 1, 3, (int64_t[]){1, 8, 32}));
        qn_args_array(&a, "k", qn_normal(&lab, QN_F32, 2, 4, (int64_t[]){1, 2, nk, 32}));
        qn_args_array(&a, "v", qn_normal(&lab, QN_F32, 3, 4, (int64_t[]){1, 2, nk, 32}));
        everywhere("c3", qn_lab_corpus(&lab, "c3_leaf_decode"), NULL, &a, true);
    }
}

Test(x86, product_and_rows)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {7, 33, 5}, {16, 32, 64}, {17, 65, 3}};
    qn_ir_file *f = qn_lab_corpus(&lab, "l_plain");
    for (int n = 0; n < 4; n++) {
        const int64_t *s = sizes[n];
        qn_args a = {0}, b = {0};
        qn_args_array(&a, "x", qn_normal(&lab, QN_F32, 1, 2, (int64_t[]){s[0], s[2]}));
        qn_args_array(&a, "y", qn_normal(&lab, QN_F32, 2, 2, (int64_t[]){s[1], s[2]}));
        everywhere("gram", f, "@gram", &a, true);
        qn_args_array(&b, "x", qn_normal(&lab, QN_F32, 1, 2, (int64_t[]){s[0], s[1]}));
        everywhere("rowsoft", f, "@rowsoft", &b, true);
    }
}

/* ---------------------------------------------------------------- small texts */

static qn_args integers(qn_dtype t, int64_t lo, int64_t hi)
{
    qn_args a = {0};
    qn_random r = {3};
    int64_t x[45], y[45];
    for (int i = 0; i < 45; i++) {
        x[i] = lo + qn_random_below(&r, hi - lo + 1);
        y[i] = lo + qn_random_below(&r, hi - lo + 1);
        y[i] += y[i] == 0;
    }
    qn_args_array(&a, "x", qn_ints(&lab, t, 1, (int64_t[]){45}, x));
    qn_args_array(&a, "y", qn_ints(&lab, t, 1, (int64_t[]){45}, y));
    return a;
}

/* Every whole-number op of every width, in lanes and alone. */
Test(x86, whole_numbers)
{
    static const struct {
        qn_dtype t;
        int64_t lo, hi;
    } types[] = {{QN_I8, -128, 127},
                 {QN_U8, 0, 254},
                 {QN_I16, -30000, 30000},
                 {QN_I32, -2000000000, 2000000000},
                 {QN_I64, -(1ll << 60), 1ll << 60}};
    static const char *const ops[] = {"x + y",
                                      "x - y",
                                      "x * y",
                                      "x // y",
                                      "x % y",
                                      "min(x, y)",
                                      "max(x, y)",
                                      "abs(x)",
                                      "band(x, y)",
                                      "bor(x, y)",
                                      "bxor(x, y)",
                                      "clamp(x, 3, 40)",
                                      "shl(x, 3)",
                                      "shr(x, 2)",
                                      "x // 4",
                                      "x % 8",
                                      "i32(x) // 7",
                                      "i64(f32(x))",
                                      "select(x < y, x, y)",
                                      "i8(x)",
                                      "u8(x)",
                                      "x * 0 + i64(x == y)"};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        for (size_t n = 0; n < sizeof ops / sizeof *ops; n++) {
            if (types[k].t == QN_U8 && ops[n][2] == '-') {
                continue;
            }
            qn_args a = integers(types[k].t, types[k].lo, types[k].hi);
            for (int leaf = 0; leaf < 2; leaf++) {
                const char *name = qn_dtype_name(types[k].t);
                qn_buf b = qn_buf_of(&lab.arena);
                qn_buf_printf(&b,
                              "kernel @f {\n  dim N\n  in x: %s[i:N]\n  in y: %s[i:N]\n"
                              "  out z: i64[i:N]\n  launch {\n    par for i0 in 0..N step 16%s {\n"
                              "      %%x = tile x[i0 + i:16] pad 1\n"
                              "      %%y = tile y[i0 + i:16] pad 1\n      %%z = ",
                              name, name, leaf ? " !leaf(8, 16, i)" : "");
                for (const char *p = ops[n]; *p; p++) {
                    bool value = (*p == 'x' || *p == 'y') && !(p[1] >= 'a' && p[1] <= 'z') &&
                                 !(p > ops[n] && p[-1] >= 'a' && p[-1] <= 'z');
                    qn_buf_printf(&b, value ? "%%%c" : "%c", *p);
                }
                qn_buf_puts(&b, "\n      store z[i0 + i:16] = i64(%z)\n    }\n  }\n}\n");
                qn_ir_file *f = qn_lab_text(&lab, b.text);
                const qn_interp_result *exact = qn_lab_run(&lab, f, NULL, &a, QN_TYPED, 0);
                const qn_target *t = qn_target_find(n % 2 ? NULL : "scalar");
                judge(b.text, f, NULL, &a, exact, &(qn_exec_options){.target = t});
            }
        }
    }
}

static const char stores[] = "kernel @f {\n"
                             "  dim N, M\n"
                             "  in x: f32[i:N]\n"
                             "  in at: i32[i:N]\n"
                             "  inout total: f32[m:M]\n"
                             "  inout top: i32[m:M]\n"
                             "  out half: f16[i:N]\n"
                             "  out odd: bool[i:N]\n"
                             "  launch {\n"
                             "    par for i0 in 0..N step 32 !leaf(8, 16, i) {\n"
                             "      %x = tile x[i0 + i:32]\n"
                             "      %at = tile at[i0 + i:32] pad -1\n"
                             "      store.add total[%at] = %x ordered\n"
                             "      store.max top[%at] = i32(%x * 100.0) atomic\n"
                             "      store half[i0 + i:32] = f16(%x) + f16(1.0)\n"
                             "      store odd[i0 + i:32] = %at % 2 == 1\n"
                             "    }\n"
                             "  }\n"
                             "}\n";

Test(x86, stores_that_meet)
{
    enum { N = 77, M = 5 };
    qn_random r = {8};
    int64_t at[N], zeros[M] = {0};
    for (int i = 0; i < N; i++) {
        at[i] = qn_random_below(&r, M + 2) - 1; /* out of range on both sides */
    }
    qn_ir_file *f = qn_lab_text(&lab, stores);
    qn_args a = {0};
    qn_args_array(&a, "x", qn_normal(&lab, QN_F32, 1, 1, (int64_t[]){N}));
    qn_args_array(&a, "at", qn_ints(&lab, QN_I32, 1, (int64_t[]){N}, at));
    qn_args_array(&a, "total", qn_normal(&lab, QN_F32, 2, 1, (int64_t[]){M}));
    qn_args_array(&a, "top", qn_ints(&lab, QN_I32, 1, (int64_t[]){M}, zeros));
    everywhere("stores", f, NULL, &a, true);
}

/* Lanes that are strided in memory, with tails on every side, runs of 1 to 5 neighbours. */
Test(x86, transposing_accesses)
{
    static const qn_dtype types[] = {QN_F32, QN_F16, QN_I64, QN_U8};
    for (int k = 0; k < 4; k++) {
        for (int count = 1; count <= 5; count++) {
            const char *name = qn_dtype_name(types[k]);
            qn_buf b = qn_buf_of(&lab.arena);
            qn_buf_printf(&b,
                          "kernel @f {\n  dim N, D\n  in x: %s[i:N, d:D]\n  out y: %s[d:D, i:N]\n"
                          "  out z: %s[i:N, d:D]\n"
                          "  launch {\n    par for i0 in 0..N step 32 !leaf(16, 32, i) {\n"
                          "      buf %%t: %s[d:D, i:32] in task\n"
                          "      for d0 in 0..D step %d {\n"
                          "        %%x = tile x[i0 + i:32, d0 + d:%d] pad %s\n"
                          "        store y[d0 + d:%d, i0 + i:32] = %%x\n"
                          "        store %%t[d0 + d:%d, i:32] = %%x\n"
                          "      }\n"
                          "      for d0 in 0..D step %d {\n"
                          "        store z[i0 + i:32, d0 + d:%d] = tile %%t[d0 + d:%d, i:32]\n"
                          "      }\n    }\n  }\n}\n",
                          name, name, name, name, count, count, k < 2 ? "2.0" : "2", count, count,
                          count, count, count);
            qn_ir_file *f = qn_lab_text(&lab, b.text);
            for (int n = 1; n <= 64; n += 21) {
                int64_t shape[] = {n, 1 + n % 9}, ints[64 * 9];
                qn_args a = {0};
                for (int i = 0; i < 64 * 9; i++) {
                    ints[i] = i % 200;
                }
                qn_args_array(&a, "x",
                              k < 2 ? qn_normal(&lab, types[k], 1, 2, shape)
                                    : qn_ints(&lab, types[k], 2, shape, ints));
                everywhere(b.text, f, NULL, &a, true);
            }
        }
    }
}

/* Dear values on their way to strided lanes, in loops over registers, with scalars beside lanes. */
static const char dear[] =
    "kernel @f {\n"
    "  dim N, D\n"
    "  in x: f32[i:N, d:D]\n"
    "  in w: f32[d:D]\n"
    "  out y: f32[i:N, d:D]\n"
    "  out z: f32[i:N]\n"
    "  out t: f32[d:D]\n"
    "  launch {\n"
    "    par for i0 in 0..N step 32 !leaf(8, 32, i) {\n"
    "      buf %a: f32[d:12, i:32] in task\n"
    "      for d0 in 0..12 step 4 {\n"
    "        store %a[d0 + d:4, i:32] = exp(tile x[i0 + i:32, d0 + d:4] * 0.5) !in\n"
    "      }\n"
    "      for d0 in 0..12 carry %s: f32[i:32] = 1.0 {\n"
    "        %e = 1.0 / (1.0 + %a[d0, i:32])\n"
    "        store %a[d0, i:32] = %e + %a[d0, i:32] !in\n"
    "        yield %s + %e\n"
    "      }\n"
    "      %g = tanh(tile w[0 + d:4])\n"
    "      %l = log(%s) + reduce.sum(%g, over d)\n"
    "      for d0 in 0..12 step 4 {\n"
    "        store y[i0 + i:32, d0 + d:4] = %a[d0 + d:4, i:32] / %l * %g\n"
    "      }\n"
    "      store z[i0 + i:32] = select(%s > 7.0, log(%s), sigmoid(%l))\n"
    "    }\n"
    "    par for u in 0..1 !leaf(8, 32, d) {\n"
    "      for d0 in 0..D step 16 {\n"
    "        store t[d0 + d:16] = erf(tile w[d0 + d:16]) !disjoint\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n";

Test(x86, dear_values)
{
    qn_ir_file *f = qn_lab_text(&lab, dear);
    for (int64_t n = 1; n < 80; n += 31) {
        for (int64_t d = 9; d < 13; d++) {
            qn_args a = {0};
            qn_args_array(&a, "x", qn_normal(&lab, QN_F32, 1, 2, (int64_t[]){n, d}));
            qn_args_array(&a, "w", qn_normal(&lab, QN_F32, 2, 1, (int64_t[]){d}));
            everywhere("dear", f, NULL, &a, true);
        }
    }
}

Test(x86, list_in_batches)
{
    qn_ir_file *f = qn_lab_corpus(&lab, "b_tiled");
    const qn_target *t = qn_target_find(NULL);
    qn_emitted e;
    const qn_kernel_ir *k = qn_file_kernel(f, NULL);
    cr_assert(t->emit(t, &lab.ir, &(qn_emit_item){f, k}, 1, &(qn_emit_options){0}, &e,
                      &lab.diags) == QN_OK);
    char *map = qn_map_code(e.code.bytes, e.code.size);
    int64_t dims[] = {2, 3, 1, 200, 100, 4, 4}, bytes[1], scratch = 0, flag = 0;
    qn_abi_tensor tensors[6] = {{0}};
    qn_abi_args args = {dims, tensors, NULL, NULL, bytes, &scratch, &flag, t->helpers};
    cr_assert(((qn_abi_setup)(uintptr_t)(map + e.code.setup))(&args) == 0);
    cr_assert(scratch > 0 && scratch % 64 == 0);
    qn_abi_list list = (qn_abi_list)(uintptr_t)(map + e.code.launches[0].list);
    int32_t width = e.code.launches[0].width;
    cr_assert(list(&args, NULL, 0, 0) == 24 && width == 5);
    int64_t all[24 * 5], some[7 * 5];
    cr_assert(list(&args, all, 24, 0) == 24);
    for (int64_t skip = 0; skip < 30; skip += 7) {
        int64_t n = list(&args, some, 7, skip), want = skip + 7 <= 24 ? 7
                                                       : skip < 24    ? 24 - skip
                                                                      : 0;
        cr_assert(n == want, "%lld rows after %lld", (long long)n, (long long)skip);
        cr_assert(n <= 0 || memcmp(some, &all[skip * width], (size_t)(n * width) * 8) == 0);
    }
    cr_expect(all[0] == 0, "no column may be seen by the first rows: cost %lld", (long long)all[0]);
    cr_expect(all[4] == 0 && all[9] == 64, "the last index is the fastest");
    qn_unmap_code(map, e.code.size);
}

/* The last register of a contracted lane axis is partly empty: what is missing adds nothing. */
Test(x86, reductions_over_partial_registers)
{
    qn_ir_file *f = qn_lab_text(
        &lab, "kernel @r !level(leaf) {\n  dim N, D = 40\n  in x: f32[n:N, d:D]\n"
              "  in w: f32[d:D]\n  out y: f32[n:N]\n  out z: f32[n:N]\n  launch {\n"
              "    par for n in 0..N !leaf(16, 32, d) {\n      %p = x[n, d:D] * w[d:D]\n"
              "      store y[n] = reduce.sum(%p, over d)\n"
              "      store z[n] = reduce.max(%p, over d)\n    }\n  }\n}\n");
    qn_args a = {0};
    qn_args_array(&a, "x", qn_normal(&lab, QN_F32, 1, 2, (int64_t[]){5, 40}));
    qn_args_array(&a, "w", qn_normal(&lab, QN_F32, 2, 1, (int64_t[]){40}));
    const qn_interp_result *exact = qn_lab_run(&lab, f, NULL, &a, QN_EXACT, 0);
    for (const qn_target *const *t = qn_targets; *t; t++) {
        if (!(*t)->here()) {
            continue;
        }
        qn_exec_result r = qn_exec(&lab, f, NULL, &a, &(qn_exec_options){.target = *t});
        cr_assert(r.status == QN_OK, "%s", qn_lab_errors(&lab));
        cr_expect(qn_judge(qn_result(exact, "y"), qn_exec_out(&r, "y")).ok, "sum on %s", (*t)->isa);
        cr_expect(qn_judge(qn_result(exact, "z"), qn_exec_out(&r, "z")).ok, "max on %s", (*t)->isa);
    }
}

/* ---------------------------------------------------------------- what is refused */

static void refused(const char *text, const char *words)
{
    qn_ir_file *f = qn_lab_text(&lab, text);
    const qn_target *t = qn_target_find(NULL);
    qn_emitted e;
    qn_emit_item item = {f, qn_file_kernel(f, NULL)};
    qn_status s = t->emit(t, &lab.ir, &item, 1, &(qn_emit_options){0}, &e, &lab.diags);
    const char *said = qn_lab_errors(&lab);
    cr_expect(s != QN_OK && strstr(said, words), "%s, not: %s", words, said);
}

Test(x86, refusals)
{
    refused(qn_lab_read(&lab, "tests/corpus/o_ring.qir"), "stage");
}

/* The same text twice gives the same bytes. */
Test(x86, bytes_are_a_function_of_the_text)
{
    const qn_target *t = qn_target_find("avx2");
    qn_emitted e[2];
    for (int k = 0; k < 2; k++) {
        qn_ir_file *f = qn_lab_corpus(&lab, "c_leaf");
        qn_emit_item item = {f, qn_file_kernel(f, NULL)};
        cr_assert(t->emit(t, &lab.ir, &item, 1, &(qn_emit_options){0}, &e[k], &lab.diags) == QN_OK);
    }
    cr_assert(e[0].object_size == e[1].object_size);
    cr_assert(memcmp(e[0].object, e[1].object, (size_t)e[0].object_size) == 0);
}
