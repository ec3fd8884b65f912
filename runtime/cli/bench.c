/* SPDX-License-Identifier: MIT
 *
 * bench: the kernel beside the FMA peak of the same threads, interleaved: peak, kernel, peak,
 * kernel .. The figure to trust is the ratio of the bests; absolute times belong to the machine. */
#include "runtime/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

typedef struct timing {
    double best, median, peak;
    double read, bytes; /* GB/s of a plain read of the inputs, and their bytes */
} timing;

static int measure(cli_job *j, int runs, int threads, const char *isa, timing *out)
{
    double *times = calloc((size_t)runs, sizeof *times);
    if (!times) {
        return CLI_MACHINE;
    }
    *out = (timing){0};
    for (int r = -1; r < runs; r++) { /* the first run warms up */
        double peak = cli_peak(threads, 0.004, isa);
        double read = cli_read_rate(j, threads, &out->bytes);
        double start = cli_now();
        qn_status s = qn_run(j->kernel, &j->call);
        double seconds = cli_now() - start;
        if (s != QN_OK && s != QN_E_INDEX) {
            free(times);
            return cli_fail(j, s, j->message);
        }
        if (r >= 0) {
            times[r] = seconds;
            out->peak = peak > out->peak ? peak : out->peak;
            out->read = read > out->read ? read : out->read;
        }
    }
    qsort(times, (size_t)runs, sizeof *times, by_value);
    out->best = times[0];
    out->median = times[runs / 2];
    free(times);
    return CLI_GOOD;
}

static int bench(cli_job *j, cli_args *a)
{
    int bad = job_open(j, a);
    bad = bad ? bad : job_compile(j);
    if (bad) {
        return bad;
    }
    double flops = 0, total = 0, codegen = 0;
    qn_compile_seconds(j->cx, &total, &codegen);
    qn_status s = qn_work(j->cx, j->source, &j->options, &j->call, &flops);
    if (s != QN_OK) {
        return cli_fail(j, s, NULL);
    }
    int threads = qn_pool_threads(j->pool);
    const char *isa = cli_isa(a->target);
    double start = cli_now();
    s = qn_run(j->kernel, &j->call);
    double once = cli_now() - start;
    if (s != QN_OK && s != QN_E_INDEX) {
        return cli_fail(j, s, j->message);
    }
    int runs = a->runs ? a->runs : once > 1 ? 5 : once > 0.05 ? 11 : 31;
    timing t;
    bad = measure(j, runs, threads, isa, &t);
    if (bad) {
        return bad;
    }
    double gflops = flops / t.best * 1e-9, fraction = t.peak > 0 ? gflops / t.peak : 0;
    double rate = t.bytes / t.best * 1e-9, of_read = t.read > 0 ? rate / t.read : 0;
    const char *plan = qn_kernel_plan(j->kernel, &j->call);
    if (a->json) {
        printf("{\"ms_best\": %.6g, \"ms_median\": %.6g, \"gflops\": %.6g, \"peak_gflops\": %.6g, "
               "\"fraction_of_peak\": %.4f, \"gbytes\": %.6g, \"read_gbytes\": %.6g, "
               "\"fraction_of_read\": %.4f, \"threads\": %d, \"isa\": \"%s\", \"plan\": \"%s\", "
               "\"runs\": %d, "
               "\"compile_ms\": %.3f, \"codegen_ms\": %.3f}\n",
               t.best * 1e3, t.median * 1e3, gflops, t.peak, fraction, rate, t.read, of_read,
               threads, isa, plan ? plan : "", runs, total * 1e3, codegen * 1e3);
    } else {
        printf("%.4g ms best, %.4g ms median of %d runs on %d thread%s (%s, plan %s)\n",
               t.best * 1e3, t.median * 1e3, runs, threads, threads == 1 ? "" : "s", isa,
               plan ? plan : "");
        printf("%.4g GFLOP/s, %.1f %% of the FMA peak measured beside it (%.4g GFLOP/s)\n", gflops,
               100 * fraction, t.peak);
        printf("%.4g GB/s of its inputs, %.1f %% of a plain read of them (%.4g GB/s)\n", rate,
               100 * of_read, t.read);
        printf("compiled in %.1f ms, of which code generation %.1f ms\n", total * 1e3,
               codegen * 1e3);
    }
    return CLI_GOOD;
}

int cmd_bench(cli_args *a)
{
    cli_job *j = calloc(1, sizeof *j);
    int answer = j ? bench(j, a) : CLI_MACHINE;
    if (j) {
        job_close(j);
    }
    free(j);
    return answer;
}
