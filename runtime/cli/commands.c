/* SPDX-License-Identifier: MIT
 * The verbs of the program, but for bench. */
#include "runtime/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_outputs(cli_job *j, cli_args *a)
{
    for (int k = 0; k < a->nouts; k++) {
        int t = qn_kernel_arg_index(j->signature, a->outs[k].name);
        if (!npy_write(a->outs[k].value, j->list[t])) {
            return CLI_USER;
        }
    }
    return CLI_GOOD;
}

static int count(cli_job *j)
{
    qn_count_result machine = {.size = sizeof machine}, oracle = {.size = sizeof oracle};
    qn_status s = qn_count(j->cx, j->source, &j->options, &j->call, &machine, &oracle);
    if (s != QN_OK) {
        return cli_fail(j, s, NULL);
    }
    printf("machine: %lld tile products, %lld elements\n", (long long)machine.tiles,
           (long long)machine.elements);
    printf("oracle:  %lld tile products, %lld elements\n", (long long)oracle.tiles,
           (long long)oracle.elements);
    return machine.tiles == oracle.tiles && machine.elements == oracle.elements ? CLI_GOOD : CLI_NO;
}

static int run(cli_job *j, cli_args *a)
{
    int bad = job_open(j, a);
    if (bad || a->count) {
        return bad ? bad : count(j);
    }
    bad = job_compile(j);
    if (bad) {
        return bad;
    }
    qn_status s = qn_run(j->kernel, &j->call);
    if (s != QN_OK && s != QN_E_INDEX) {
        return cli_fail(j, s, j->message);
    }
    bad = write_outputs(j, a);
    return s == QN_OK ? bad : cli_fail(j, s, j->message);
}

int cmd_run(cli_args *a)
{
    cli_job *j = calloc(1, sizeof *j);
    int answer = j ? run(j, a) : CLI_MACHINE;
    if (j) {
        job_close(j);
    }
    free(j);
    return answer;
}

static int check(cli_job *j, cli_args *a)
{
    int bad = job_open(j, a);
    if (bad) {
        return bad;
    }
    qn_check_result r = {.size = sizeof r};
    qn_status s = qn_check(j->cx, j->source, &j->options, &j->call, a->oracle, &r);
    if (s != QN_OK) {
        return cli_fail(j, s, NULL);
    }
    bool good = r.worst <= 1 && r.worst_naive <= 1;
    if (a->json) {
        printf("{\"good\": %s, \"elements\": %lld, \"worst\": %.4g, \"worst_naive\": %.4g, "
               "\"max_abs\": %.4g}\n",
               good ? "true" : "false", (long long)r.elements, r.worst, r.worst_naive, r.max_abs);
    } else {
        printf("%s: %lld elements compared with the definition, largest error %.3g\n",
               good ? "good" : "WRONG", (long long)r.elements, r.max_abs);
        printf("  %.3g of the bound that rounding explains (at most 1)%s%s\n", r.worst,
               r.output ? ", at " : "", r.output ? r.output : "");
        if (r.worst_naive > 0) {
            printf("  %.3g of twice the error of a naive f32 computation (at most 1)\n",
                   r.worst_naive);
        }
        if (r.skipped) {
            printf(
                "  %lld elements without a verdict: rounding alone can change them without limit\n",
                (long long)r.skipped);
        }
    }
    bad = write_outputs(j, a);
    return bad ? bad : good ? CLI_GOOD : CLI_NO;
}

int cmd_check(cli_args *a)
{
    cli_job *j = calloc(1, sizeof *j);
    int answer = j ? check(j, a) : CLI_MACHINE;
    if (j) {
        job_close(j);
    }
    free(j);
    return answer;
}

/* For verbs that show text: sizes given on the command line fix the head dims. */
static void text_options(cli_args *a, qn_options *o, char *dims, size_t room)
{
    size_t at = 0;
    dims[0] = 0;
    for (int k = 0; k < a->npairs && at < room; k++) {
        if (strcmp(a->pairs[k].name, "D") == 0 || strcmp(a->pairs[k].name, "Dv") == 0) {
            at += (size_t)snprintf(dims + at, room - at, "%s=%s ", a->pairs[k].name,
                                   a->pairs[k].value);
        }
    }
    *o = (qn_options){.size = sizeof *o,
                      .target = a->target,
                      .types = a->types,
                      .dims = dims[0] ? dims : "D=64",
                      .schedule = a->schedule_text,
                      .errors = a->errors,
                      .flags = (a->reparse ? (uint32_t)QN_COMPILE_REPARSE : 0u) |
                               (a->trust ? (uint32_t)QN_COMPILE_TRUST : 0u)};
}

static int show(cli_args *a, const char *(*get)(qn_ctx *cx, cli_args *a, const qn_options *o))
{
    char dims[256];
    qn_options o;
    text_options(a, &o, dims, sizeof dims);
    cli_job j = {.cx = qn_ctx_create(NULL)};
    if (!j.cx) {
        return CLI_MACHINE;
    }
    const char *text = get(j.cx, a, &o);
    if (text) {
        fputs(text, stdout);
    }
    int answer = text ? CLI_GOOD : cli_fail(&j, QN_E_SPEC, NULL);
    qn_ctx_destroy(j.cx);
    return answer;
}

static const char *get_dump(qn_ctx *cx, cli_args *a, const qn_options *o)
{
    return qn_dump(cx, qn_file(a->source), o, a->at ? a->at : "leaf", a->plan);
}

int cmd_dump(cli_args *a)
{
    return show(a, get_dump);
}

static const char *get_opt(qn_ctx *cx, cli_args *a, const qn_options *o)
{
    return qn_opt(cx, qn_file(a->source), o, a->passes ? a->passes : "canon");
}

int cmd_opt(cli_args *a)
{
    return show(a, get_opt);
}

static int with_kernel(cli_args *a, int (*use)(cli_args *a, qn_ctx *cx, const qn_kernel *k))
{
    char dims[256];
    qn_options o;
    text_options(a, &o, dims, sizeof dims);
    cli_job j = {.cx = qn_ctx_create(NULL)};
    if (!j.cx) {
        return CLI_MACHINE;
    }
    qn_kernel *k = NULL;
    qn_status s = qn_compile(j.cx, qn_file(a->source), &o, &k);
    int answer = s == QN_OK ? use(a, j.cx, k) : cli_fail(&j, s, NULL);
    qn_kernel_destroy(k);
    qn_ctx_destroy(j.cx);
    return answer;
}

static int use_explain(cli_args *a, qn_ctx *cx, const qn_kernel *k)
{
    (void)a, (void)cx;
    fputs(qn_kernel_explain(k), stdout);
    return CLI_GOOD;
}

int cmd_explain(cli_args *a)
{
    return with_kernel(a, use_explain);
}

static int use_object(cli_args *a, qn_ctx *cx, const qn_kernel *k)
{
    (void)cx;
    const void *bytes = NULL;
    size_t size = 0;
    qn_status s = qn_kernel_object(k, &bytes, &size);
    if (s != QN_OK) {
        return cli_fail(NULL, s, NULL);
    }
    FILE *f = fopen(a->object, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) {
        fprintf(stderr, "%s: it could not be written\n", a->object);
        return CLI_USER;
    }
    return CLI_GOOD;
}

int cmd_compile(cli_args *a)
{
    if (!a->object) {
        fputs("quern: compile wants -o FILE.o\n", stderr);
        return CLI_USER;
    }
    return with_kernel(a, use_object);
}
