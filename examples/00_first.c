#include "quern.h"
#include "tensor.h"

int main(void)
{
    tensor *q = tensor_load("examples/data/layer14.q.npy"),
           *k = tensor_load("examples/data/layer14.k.npy");
    tensor *v = tensor_load("examples/data/layer14.v.npy"), *o = tensor_new(4, q->shape);
    qn_ctx *cx = qn_ctx_create(NULL);
    qn_kernel *kernel = NULL;
    qn_options options = {.size = sizeof options, .dims = "D=64"};
    if (qn_compile(cx, qn_file("examples/zoo/causal.lua"), &options, &kernel) != QN_OK) {
        fputs(qn_ctx_message(cx), stderr);
        return 1;
    }
    const DLTensor *args[] = {&q->t, &k->t, &v->t, &o->t};
    qn_call call = {.size = sizeof call, .args = args, .nargs = 4};
    qn_workspace(kernel, &call, &call.workspace_bytes);
    call.workspace = aligned_alloc(64, (call.workspace_bytes + 63) / 64 * 64);
    qn_status status = qn_run(kernel, &call);
    printf("%s; o[0, 0, 1023, 0] = %.6f\n", qn_status_text(status),
           ((float *)o->t.data)[1023 * 64]);
    return status != QN_OK;
}
