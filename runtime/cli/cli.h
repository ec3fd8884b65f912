/* SPDX-License-Identifier: MIT
 * The program `quern`: what its files share. Everything goes through quern.h. */
#ifndef QN_RUNTIME_CLI_CLI_H
#define QN_RUNTIME_CLI_CLI_H

#define QN_UNSTABLE
#include "runtime/quern.h"

#include <stdbool.h>

/* Exit codes. */
enum { CLI_GOOD = 0, CLI_NO = 1, CLI_USER = 2, CLI_BUG = 3, CLI_MACHINE = 4 };

enum { CLI_MAX = 64 };

typedef struct cli_pair { /* NAME=VALUE */
    char name[64];
    const char *value;
    bool used;
} cli_pair;

typedef struct cli_args {
    const char *verb, *source;
    cli_pair pairs[CLI_MAX], outs[CLI_MAX];
    int npairs, nouts;
    const char *object; /* -o of compile */
    const char *at, *plan, *passes, *types, *target, *schedule, *errors;
    char *schedule_text;
    long seed;
    int threads, runs;
    bool json, count, oracle, reparse, trust;
} cli_args;

/* Fills args; on a mistake prints it and returns CLI_USER. */
int cli_parse(int argc, char **argv, cli_args *a);

/* A tensor in memory of its own, row-major. */
typedef struct cli_tensor {
    DLTensor t;
    int64_t shape[16];
    bool present;
} cli_tensor;

/* .npy; messages go to stderr. bf16 is |V2 or <u2. */
bool npy_read(const char *path, cli_tensor *out);
bool npy_write(const char *path, const DLTensor *t);

/* A source with its arguments bound. */
typedef struct cli_job {
    qn_ctx *cx;
    qn_source source;
    qn_options options;
    char dims_text[1024];
    qn_kernel *signature, *kernel;
    cli_tensor tensors[CLI_MAX];
    const DLTensor *list[CLI_MAX];
    qn_value params[CLI_MAX];
    const char *dim_names[CLI_MAX];
    int64_t dim_values[CLI_MAX];
    qn_call call;
    qn_pool *pool;
    void *workspace;
    char message[1024];
} cli_job;

/* Reads the signature, binds sizes, parameters and tensors, makes what is not given. */
int job_open(cli_job *j, cli_args *a);
/* Compiles and takes the workspace. */
int job_compile(cli_job *j);
void job_close(cli_job *j);

/* Prints the context's message (or the text) to stderr and gives the exit code of a status. */
int cli_fail(const cli_job *j, qn_status s, const char *text);

double cli_now(void);
/* Reads a whole file; NULL if it cannot. The caller frees. */
char *cli_read(const char *path);

/* GFLOP/s of fused multiply-adds in f32 on `threads` threads for about `seconds`; *isa names it. */
double cli_peak(int threads, double seconds, const char *isa);
/* GB/s of a plain read of all input tensors of the job, shared out over the threads. */
double cli_read_rate(const cli_job *j, int threads, double *bytes);
const char *cli_isa(const char *target);

int cmd_run(cli_args *a);
int cmd_check(cli_args *a);
int cmd_bench(cli_args *a);
int cmd_explain(cli_args *a);
int cmd_dump(cli_args *a);
int cmd_opt(cli_args *a);
int cmd_compile(cli_args *a);

#endif
