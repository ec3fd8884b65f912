/* Running kernels: every wrong argument is a status whose words name it, and nothing is written. */
#define QN_UNSTABLE
#include "runtime/quern.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char product[] =
    "kernel @product {\n"
    "  dim M, N, K\n"
    "  in x: f32[m:M, k:K]\n"
    "  in y: f32[k:K, n:N]\n"
    "  in scale: f32 = 1.0\n"
    "  out z: f32[m:M, n:N]\n"
    "  require M >= 1, \"at least one row\"\n"
    "  launch {\n"
    "    par for m in 0..M {\n"
    "      store z[m, n:N] = dot(x[m, k:K], y[k:K, n:N], over k) * scale\n"
    "    }\n"
    "  }\n"
    "}\n";

enum { M = 5, K = 7, N = 9 };
static qn_ctx *cx;
static qn_kernel *kernel;
static float x[M * K], y[K * N], z[M * N + 16];
static int64_t xs[] = {M, K}, ys[] = {K, N}, zs[] = {M, N};
static DLTensor tx, ty, tz;
static const DLTensor *args[] = {&tx, &ty, &tz};
static char message[512];
static qn_call call;
static void *workspace;

static DLTensor tensor(float *data, int64_t *shape)
{
    return (DLTensor){
        .data = data, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

static void setup(void)
{
    cx = qn_ctx_create(NULL);
    qn_source s = qn_text("product.qir", product);
    cr_assert_eq(qn_compile(cx, s, NULL, &kernel), QN_OK, "%s", qn_ctx_message(cx));
    for (int k = 0; k < M * K; k++) {
        x[k] = (float)(k % 5 - 2);
    }
    for (int k = 0; k < K * N; k++) {
        y[k] = (float)(k % 7 - 3);
    }
    tx = tensor(x, xs);
    ty = tensor(y, ys);
    tz = tensor(z, zs);
    call = (qn_call){.size = sizeof call,
                     .args = args,
                     .nargs = 3,
                     .message = message,
                     .message_bytes = sizeof message};
    size_t bytes;
    cr_assert_eq(qn_workspace(kernel, &call, &bytes), QN_OK, "%s", message);
    workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
    call.workspace = workspace;
    call.workspace_bytes = bytes;
}

static void teardown(void)
{
    free(workspace);
    qn_kernel_destroy(kernel);
    qn_ctx_destroy(cx);
}

TestSuite(run, .init = setup, .fini = teardown);

static void expect_product(float scale)
{
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            float want = 0;
            for (int k = 0; k < K; k++) {
                want += x[m * K + k] * y[k * N + n];
            }
            cr_assert_eq(z[m * N + n], want * scale, "z[%d, %d] = %g, not %g", m, n,
                         (double)z[m * N + n], (double)(want * scale));
        }
    }
}

Test(run, runs)
{
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(1);
}

Test(run, takes_parameters)
{
    qn_value two = {.dtype = {kDLFloat, 32, 1}, .u.f = 2};
    call.params = &two;
    call.nparams = 1;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(2);
    call.nparams = 0;
    cr_assert_eq(qn_run(kernel, &call), QN_E_ARG);
}

/* The call is refused, the words hold what they must, the output is as it was. */
static void refuse(const char *words)
{
    memset(z, 0x5a, sizeof z);
    float before = z[0];
    cr_assert_eq(qn_run(kernel, &call), QN_E_ARG, "not refused (%s)", words);
    cr_assert(strstr(message, words), "'%s' lacks '%s'", message, words);
    cr_assert(memcmp(&z[0], &before, sizeof before) == 0, "something was written");
}

Test(run, refuses_wrong_arguments)
{
    call.nargs = 2;
    refuse("expected 3 tensors, found 2");
    call.nargs = 3;
    const DLTensor *none[] = {&tx, NULL, &tz};
    call.args = none;
    refuse("(y): expected a tensor, found NULL");
    call.args = args;
    ty.ndim = 1;
    refuse("y: expected 2 dimensions, found 1");
    ty.ndim = 2;
    ty.dtype.bits = 64;
    refuse("y: expected type f32, found f64");
    ty.dtype.bits = 32;
    ys[0] = K + 1;
    refuse("y: expected K = 7 in dimension 0 as in x, found 8");
    ys[0] = K;
    ty.data = NULL;
    refuse("y: expected data, found NULL");
    ty.data = (char *)y + 2;
    refuse("y: expected data aligned");
    ty.data = y;
    tz.data = y;
    refuse("z: expected memory of its own, found that it overlaps y");
    tz.data = z;
    int64_t zero[] = {0, 1};
    tz.strides = zero;
    refuse("z: expected distinct elements, found stride 0");
    tz.strides = NULL;
    ys[1] = -1;
    refuse("y: expected a size from 0");
    ys[1] = N;
    ty.device.device_type = kDLCUDA;
    refuse("y: expected memory of the CPU");
    ty.device.device_type = kDLCPU;
    xs[0] = zs[0] = 0;
    refuse("at least one row");
    xs[0] = zs[0] = M;
    call.workspace_bytes = 0;
    refuse("workspace: expected");
}

Test(run, strides_of_every_kind)
{
    float wide[K * N * 2], turned[N * K];
    for (int k = 0; k < K * N; k++) {
        wide[2 * k] = y[k];
        wide[2 * k + 1] = 1e30f;
        turned[k % N * K + k / N] = y[k];
    }
    size_t bytes;
    int64_t inner2[] = {2 * N, 2}, column[] = {1, K}, back[] = {-N, 1}, same[] = {0, 1};
    ty.data = wide;
    ty.strides = inner2;
    cr_assert_eq(qn_workspace(kernel, &call, &bytes), QN_OK);
    void *more = aligned_alloc(64, (bytes + 64) / 64 * 64);
    call.workspace = more;
    call.workspace_bytes = bytes;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(1);
    ty.data = turned;
    ty.strides = column;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(1);
    float flipped[K * N];
    for (int k = 0; k < K; k++) {
        memcpy(flipped + (K - 1 - k) * N, y + k * N, sizeof(float) * N);
    }
    ty.data = flipped + (K - 1) * N;
    ty.strides = back;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(1);
    ty.data = y;
    ty.strides = same; /* every row is row 0 */
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    for (int k = 1; k < K; k++) {
        memcpy(y + k * N, y, sizeof(float) * N);
    }
    expect_product(1);
    free(more);
}

Test(run, output_of_odd_stride_is_unpacked)
{
    float wide[M * N * 2];
    int64_t strides[] = {2 * N, 2};
    for (int k = 0; k < M * N * 2; k++) {
        wide[k] = -7;
    }
    tz.data = wide;
    tz.strides = strides;
    size_t bytes;
    cr_assert_eq(qn_workspace(kernel, &call, &bytes), QN_OK);
    void *more = aligned_alloc(64, (bytes + 64) / 64 * 64);
    call.workspace = more;
    call.workspace_bytes = bytes;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    for (int k = 0; k < M * N; k++) {
        z[k] = wide[2 * k];
        cr_assert_eq(wide[2 * k + 1], -7);
    }
    expect_product(1);
    free(more);
}

static void backwards(void *user, int64_t count, qn_task_fn task, void *arg)
{
    (void)user;
    for (int64_t k = count; k-- > 0;) {
        task(arg, k, 0);
    }
}

Test(run, caller_runs_the_tasks)
{
    call.parallel_for = backwards;
    refuse("workers: expected 1 or more");
    call.workers = 1;
    cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
    expect_product(1);
}

static void run_on(qn_pool *p)
{
    size_t bytes;
    call.pool = p;
    cr_assert_eq(qn_workspace(kernel, &call, &bytes), QN_OK);
    void *more = aligned_alloc(64, (bytes + 64) / 64 * 64);
    call.workspace = more;
    call.workspace_bytes = bytes;
    for (int k = 0; k < 200; k++) {
        memset(z, 0, sizeof z);
        cr_assert_eq(qn_run(kernel, &call), QN_OK, "%s", message);
        expect_product(1);
    }
    free(more);
}

Test(run, pool_and_fork)
{
    qn_pool *p = qn_pool_create(3);
    cr_assert_eq(qn_pool_threads(p), 3);
    run_on(p);
    pid_t child = fork();
    if (child == 0) {
        run_on(p);
        _exit(memcmp(z, (float[M * N]){0}, sizeof(float) * M * N) == 0);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child after fork failed");
    run_on(p);
    qn_pool_destroy(p);
}

Test(run, compile_errors_have_places)
{
    qn_kernel *k = NULL;
    cr_assert_eq(
        qn_compile(cx,
                   qn_text("bad.qir",
                           "kernel @t {\n  dim N\n  launch {\n    par for i in 0..M { }\n  }\n}\n"),
                   NULL, &k),
        QN_E_SPEC);
    cr_assert_null(k);
    cr_assert(strstr(qn_ctx_message(cx), "bad.qir:4:"), "%s", qn_ctx_message(cx));
    cr_assert_eq(qn_compile(cx, qn_file("/nonexistent.lua"), NULL, &k), QN_E_IO);
    cr_assert_eq(qn_compile(cx, qn_text("t.qir", product),
                            &(qn_options){.size = sizeof(qn_options), .target = "vax"}, &k),
                 QN_E_TARGET);
}

Test(run, remarks_can_be_errors)
{
    qn_kernel *k = NULL;
    qn_source s =
        qn_text("open.lua", "local qn = require 'quern'\nreturn qn.attention { name = 't' }\n");
    qn_options o = {.size = sizeof o, .errors = "W-GUARD W-DYND"};
    cr_assert_eq(qn_compile(cx, s, &o, &k), QN_E_REMARK);
    cr_assert(strstr(qn_ctx_message(cx), "[W-DYND]"), "%s", qn_ctx_message(cx));
    o.errors = "W-NOASSOC";
    cr_assert_eq(qn_compile(cx, s, &o, &k), QN_OK, "%s", qn_ctx_message(cx));
    cr_assert(strstr(qn_kernel_explain(k), "W-DYND"), "%s", qn_kernel_explain(k));
    qn_kernel_destroy(k);
    o.errors = "W-DYND";
    o.dims = "D=16";
    cr_assert_eq(qn_compile(cx, s, &o, &k), QN_OK, "%s", qn_ctx_message(cx));
    qn_kernel_destroy(k);
}
