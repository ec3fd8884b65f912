/* SPDX-License-Identifier: MIT
 * A call made from names; see trial.h. */
#include "tests/support/trial.h"

#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t given(const char *sizes, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = sizes; *p;) {
        p += strspn(p, " ");
        if (strncmp(p, name, n) == 0 && p[n] == '=') {
            return strtoll(p + n + 1, NULL, 10);
        }
        p += strcspn(p, " ");
    }
    return -1;
}

static int64_t bytes_of(const DLTensor *x)
{
    int64_t n = x->dtype.bits / 8;
    for (int a = 0; a < x->ndim; a++) {
        n *= x->shape[a];
    }
    return n;
}

static void release(qn_trial *t)
{
    for (int k = 0; k < QN_TRIAL_MOST; k++) {
        free(t->tensors[k].data);
        t->tensors[k].data = NULL;
    }
    free(t->call.workspace);
    t->call.workspace = NULL;
}

static int64_t size_of(const qn_trial *t, const char *dim)
{
    for (int d = 0; d < t->call.ndims; d++) {
        if (strcmp(t->dim_names[d], dim) == 0) {
            return t->dim_values[d];
        }
    }
    const char *op = strpbrk(dim, "+-*"); /* Nk+1 */
    if (op) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(op - dim), dim);
        int64_t x = size_of(t, name), y = strtoll(op + 1, NULL, 10);
        return *op == '*' ? x * y : *op == '+' ? x + y : x - y;
    }
    int64_t n = given(t->sizes, dim); /* fixed when compiling */
    n = n < 0 && strcmp(dim, "Dv") == 0 ? given(t->sizes, "D") : n;
    return n >= 0 ? n : strtoll(dim, NULL, 10);
}

static void fill(const qn_trial *t, const qn_arg_info *info, DLTensor *x, uint64_t seed)
{
    qn_random r = {seed};
    int64_t n = bytes_of(x) / (x->dtype.bits / 8), nk = size_of(t, "Nk");
    bool offsets = strcmp(info->name, "cu") == 0;
    for (int64_t e = 0; e < n; e++) {
        double f = qn_random_normal(&r);
        int64_t i = offsets ? (n > 1 ? nk * e / (n - 1) : 0) : e % 3;
        float f32 = (float)f;
        uint32_t bits;
        memcpy(&bits, &f32, 4);
        uint16_t half =
            (uint16_t)(x->dtype.code == kDLBfloat ? bits >> 16 : 0x3c00 | (bits & 0x83ff));
        int32_t i32 = (int32_t)i;
        int8_t i8 = (int8_t)(i & 1);
        bool is_float = x->dtype.code == kDLFloat || x->dtype.code == kDLBfloat;
        char *p = (char *)x->data + e * (x->dtype.bits / 8);
        switch (x->dtype.bits) {
        case 64:
            memcpy(p, is_float ? (void *)&f : (void *)&i, 8);
            break;
        case 32:
            memcpy(p, is_float ? (void *)&f32 : (void *)&i32, 4);
            break;
        case 16:
            memcpy(p, &half, 2);
            break;
        default:
            memcpy(p, &i8, 1);
        }
    }
}

static bool make(qn_trial *t, const qn_kernel *signature, const char *sizes, uint64_t seed)
{
    release(t);
    t->sizes = sizes;
    t->call = (qn_call){.size = sizeof t->call,
                        .args = t->list,
                        .nargs = qn_kernel_args(signature),
                        .dim_names = t->dim_names,
                        .dim_values = t->dim_values,
                        .message = t->message,
                        .message_bytes = sizeof t->message};
    t->message[0] = 0;
    t->call.ndims = qn_kernel_dims(signature);
    for (int d = 0; d < t->call.ndims && d < QN_TRIAL_MOST; d++) {
        t->dim_names[d] = qn_kernel_dim(signature, d);
        int64_t n = given(sizes, t->dim_names[d]);
        t->dim_values[d] = n >= 0 ? n : strcmp(t->dim_names[d], "B") == 0 ? 1 : 3;
        if (n < 0 && strcmp(t->dim_names[d], "Hv") == 0 && given(sizes, "Hk") >= 0) {
            t->dim_values[d] = given(sizes, "Hk");
        }
    }
    for (int k = 0; k < t->call.nargs && k < QN_TRIAL_MOST; k++) {
        const qn_arg_info *info = qn_kernel_arg(signature, k);
        DLTensor *x = &t->tensors[k];
        *x = (DLTensor){
            .device = {kDLCPU, 0}, .ndim = info->ndim, .dtype = info->dtype, .shape = t->shapes[k]};
        for (int a = 0; a < info->ndim; a++) {
            t->shapes[k][a] = size_of(t, info->dims[a]);
        }
        x->data = aligned_alloc(64, ((size_t)bytes_of(x) + 127) / 64 * 64);
        memset(x->data, 0xff, (size_t)bytes_of(x)); /* NaN: what is not written shows */
        if (info->kind != QN_ARG_OUT) {
            fill(t, info, x, seed * 1000003u + (uint64_t)k);
        }
        t->list[k] = x;
    }
    size_t bytes = 0;
    if (t->kernel && qn_workspace(t->kernel, &t->call, &bytes) != QN_OK) {
        return false;
    }
    t->call.workspace = aligned_alloc(64, (bytes + 127) / 64 * 64);
    t->call.workspace_bytes = bytes;
    return true;
}

static bool open_trial(qn_trial *t, qn_source source, const qn_options *options, const char *sizes,
                       uint64_t seed, bool compile)
{
    *t = (qn_trial){.cx = qn_ctx_create(NULL), .source = source};
    t->options = options ? *options : (qn_options){.size = sizeof t->options};
    if (given(sizes, "D") >= 0 && !t->options.dims) {
        int64_t d = given(sizes, "D"), dv = given(sizes, "Dv");
        snprintf(t->dims, sizeof t->dims, "D=%lld Dv=%lld", (long long)d,
                 (long long)(dv >= 0 ? dv : d));
        t->options.dims = t->dims;
    }
    qn_kernel *signature = NULL;
    t->status = qn_signature(t->cx, source, &t->options, &signature);
    if (t->status == QN_OK && compile) {
        t->status = qn_compile(t->cx, source, &t->options, &t->kernel);
    }
    bool good = t->status == QN_OK && make(t, signature, sizes, seed);
    /* names of sizes belong to the signature: the kernel has the same ones */
    for (int d = 0; good && d < t->call.ndims; d++) {
        char *copy = malloc(strlen(t->dim_names[d]) + 1);
        strcpy(copy, t->dim_names[d]);
        t->dim_names[d] = copy;
    }
    qn_kernel_destroy(signature);
    return good;
}

bool qn_trial_open(qn_trial *t, qn_source source, const qn_options *options, const char *sizes,
                   uint64_t seed)
{
    return open_trial(t, source, options, sizes, seed, true);
}

bool qn_trial_arguments(qn_trial *t, qn_source source, const qn_options *options, const char *sizes,
                        uint64_t seed)
{
    return open_trial(t, source, options, sizes, seed, false);
}

bool qn_trial_resize(qn_trial *t, const char *sizes, uint64_t seed)
{
    for (int d = 0; d < t->call.ndims; d++) {
        free((char *)(uintptr_t)t->dim_names[d]);
    }
    t->call.ndims = 0;
    qn_kernel *signature = NULL;
    if (qn_signature(t->cx, t->source, &t->options, &signature) != QN_OK) {
        return false;
    }
    bool good = make(t, signature, sizes, seed);
    for (int d = 0; d < t->call.ndims; d++) {
        char *copy = malloc(strlen(t->dim_names[d]) + 1);
        strcpy(copy, t->dim_names[d]);
        t->dim_names[d] = copy;
    }
    qn_kernel_destroy(signature);
    return good;
}

void qn_trial_close(qn_trial *t)
{
    release(t);
    for (int d = 0; t->status == QN_OK && d < t->call.ndims; d++) {
        free((char *)(uintptr_t)t->dim_names[d]);
    }
    qn_kernel_destroy(t->kernel);
    qn_ctx_destroy(t->cx);
}

float *qn_trial_data(qn_trial *t, const char *name, int64_t *count)
{
    int k = qn_kernel_arg_index(t->kernel, name);
    if (k < 0) {
        return NULL;
    }
    *count = bytes_of(&t->tensors[k]) / 4;
    return t->tensors[k].data;
}
