/* Acceptance: not attention. Texts with foreign names run on every instruction set and agree with
 * the oracle, as they are written and through the whole pipeline. */
#include "backends/target.h"
#include "ir/verify.h"
#include "ir/walk.h"
#include "passes/pass.h"
#include "tests/support/exec.h"

#include <criterion/criterion.h>
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

TestSuite(foreign, .init = setup, .fini = teardown, .timeout = 120);

static void agree(const char *name, const char *how, const qn_ir_file *f, const qn_args *a,
                  const qn_interp_result *exact, const qn_target *t)
{
    qn_exec_result r =
        qn_exec(&lab, f, NULL, a, &(qn_exec_options){.target = t, .backwards = true});
    cr_assert(r.status == QN_OK && r.setup == 0, "%s %s on %s: %s", name, how, t->isa,
              qn_lab_errors(&lab));
    cr_expect(!r.touched, "%s %s on %s wrote outside", name, how, t->isa);
    for (int k = 0; k < exact->nouts; k++) {
        qn_verdict v = qn_judge(&exact->outs[k].array, qn_exec_out(&r, exact->outs[k].name));
        cr_expect(v.ok && v.compared > 0, "%s %s on %s: %s is %g tolerances off at %lld", name, how,
                  t->isa, exact->outs[k].name, v.worst, (long long)v.at);
    }
}

/* The pipeline as the driver runs it, under the schedule of the file. */
static qn_ir_file *through(const char *name, const qn_ir_file *f, const qn_target *t)
{
    qn_ir_file *copy = qn_file_copy(f);
    qn_kernel_ir *k = qn_file_kernel(copy, NULL);
    qn_schedule *s = qn_file_schedule(copy, NULL);
    s = s ? s : qn_schedule_new(&lab.ir, k->name, t->name);
    qn_schedule_defaults(&lab.ir, s, &t->machine, copy, k, "");
    static jmp_buf oom;
    qn_arena scratch;
    qn_arena_init(&scratch, NULL, &oom);
    qn_pass_cx cx = {&lab.ir, &scratch, s, &t->machine, &lab.diags};
    bool good = qn_pipeline_run(&cx, &copy, k->name, &(qn_pipeline_options){.verify = true});
    cr_assert(good, "%s on %s: %s", name, t->isa, qn_lab_errors(&lab));
    qn_arena_fini(&scratch);
    return copy;
}

static void run(const char *name, qn_args *a)
{
    char path[128];
    snprintf(path, sizeof path, "tests/accept/foreign/%s.qir", name);
    qn_ir_file *f = qn_lab_text(&lab, qn_lab_read(&lab, path));
    const qn_interp_result *exact = qn_lab_run(&lab, f, NULL, a, QN_EXACT, 0);
    for (const qn_target *const *t = qn_targets; *t; t++) {
        if ((*t)->here()) {
            agree(name, "as written", f, a, exact, *t);
            agree(name, "through the passes", through(name, f, *t), a, exact, *t);
        }
    }
}

#define SHAPE(...)  ((int64_t[]){__VA_ARGS__})
#define RANK(...)   ((int)(sizeof(SHAPE(__VA_ARGS__)) / sizeof(int64_t)))
#define NORMAL(...) qn_normal(&lab, QN_F32, ++seed, RANK(__VA_ARGS__), SHAPE(__VA_ARGS__))
static uint64_t seed;
static const int64_t odd[] = {1, 2, 7, 63, 65, 130};
#define EACH(...)                                           \
    for (size_t p = 0; p < sizeof odd / sizeof *odd; p++) { \
        int64_t m = odd[p], n = odd[(p * 5 + 2) % 6];       \
        qn_args a = {0};                                    \
        __VA_ARGS__                                         \
    }

Test(foreign, product)
{
    EACH(qn_args_array(&a, "x", NORMAL(2, m, 33)); qn_args_array(&a, "y", NORMAL(2, n, 33));
         run("product", &a);)
}

Test(foreign, weighted)
{
    EACH(qn_args_array(&a, "a", NORMAL(2, m, 5)); qn_args_array(&a, "b", NORMAL(2, n, 5));
         qn_args_array(&a, "y", NORMAL(2, m, 6)); qn_args_array(&a, "l", NORMAL(2, m));
         run("weighted", &a);)
}

Test(foreign, columns)
{
    EACH(qn_args_array(&a, "x", NORMAL(2, m, n)); run("columns", &a);)
}

Test(foreign, merge)
{
    EACH(qn_args_array(&a, "x", NORMAL(m, n)); run("merge", &a);)
}

Test(foreign, gather)
{
    EACH(int64_t index[130 * 5]; for (int64_t e = 0; e < m * 5; e++) {
        index[e] = e % 4 == 3 ? -1 : e * 7 % n;
    } qn_args_array(&a, "x", NORMAL(n, 9));
         qn_args_array(&a, "w", NORMAL(m, 5));
         qn_args_array(&a, "idx", qn_ints(&lab, QN_I32, 2, SHAPE(m, 5), index)); run("gather", &a);)
}

Test(foreign, recurrence)
{
    EACH((void)n; qn_args_array(&a, "a", NORMAL(2, m)); qn_args_array(&a, "x", NORMAL(2, m, 4));
         qn_args_array(&a, "y", NORMAL(2, m, 3)); run("recurrence", &a);)
}

Test(foreign, blocks)
{
    EACH(
        (void)m; int64_t tiles = (n + 15) / 16, ptr[12] = {0}, blk[128], z = 0;
        for (int64_t t = 0; t < tiles; t++) {
            for (int64_t c = 0; c < tiles; c++) {
                if ((t * 3 + c) % 2 == 0 || c == t) {
                    blk[z++] = c;
                }
            }
            ptr[t + 1] = z;
        } qn_args_array(&a, "x", NORMAL(n, 7));
        qn_args_array(&a, "ptr", qn_ints(&lab, QN_I32, 1, SHAPE(tiles + 1), ptr));
        qn_args_array(&a, "blk", qn_ints(&lab, QN_I32, 1, SHAPE(z), blk)); run("blocks", &a);)
}

Test(foreign, intervals)
{
    EACH(qn_args_dim(&a, "M", m); qn_args_array(&a, "x", NORMAL(n, 7));
         qn_args_int(&a, "W", QN_I32, 9); run("intervals", &a);)
}

/* ---------------------------------------------------------------- one file, several machines */

static bool same(const qn_exec_result *x, const qn_exec_result *y, const char *name)
{
    return qn_same_bits(qn_exec_out(x, name), qn_exec_out(y, name));
}

/* The same blocked text on every machine: no reduction over lanes, so the order of operations is
 * the same everywhere, and where fused multiply-adds are, the bits are too. */
Test(foreign, one_text_on_several_machines)
{
    qn_ir_file *f = qn_lab_corpus(&lab, "c_leaf");
    static const int64_t pairs[][2] = {{65, 130}, {130, 65}, {7, 63}, {64, 64}};
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        int64_t m = pairs[p][0], n = pairs[p][1];
        qn_args a = {0};
        qn_args_array(&a, "q", NORMAL(1, 4, m, 5));
        qn_args_array(&a, "k", NORMAL(1, 2, n, 5));
        qn_args_array(&a, "v", NORMAL(1, 2, n, 6));
        qn_args_array(&a, "slope", NORMAL(4));
        const qn_interp_result *exact = qn_lab_run(&lab, f, NULL, &a, QN_EXACT, 0);
        qn_exec_result first = {0};
        for (const qn_target *const *t = qn_targets; *t; t++) {
            if (!(*t)->here()) {
                continue;
            }
            agree("c_leaf", "as written", f, &a, exact, *t);
            qn_exec_result r = qn_exec(&lab, f, NULL, &a, &(qn_exec_options){.target = *t});
            if (!first.nouts) {
                first = r;
            } else if ((*t)->machine.lanes > 1) {
                cr_expect(same(&first, &r, "o") && same(&first, &r, "lse"), "bits differ on %s",
                          (*t)->isa);
            }
        }
    }
}
