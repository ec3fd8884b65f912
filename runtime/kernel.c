/* SPDX-License-Identifier: MIT
 * What a kernel tells about its arguments. */
#include "runtime/internal.h"

#include <string.h>

int qn_kernel_args(const qn_kernel *k)
{
    return k ? k->ntensors : 0;
}

const qn_arg_info *qn_kernel_arg(const qn_kernel *k, int index)
{
    return k && index >= 0 && index < k->ntensors ? &k->tensors[index].info : NULL;
}

int qn_kernel_arg_index(const qn_kernel *k, const char *name)
{
    for (int t = 0; k && name && t < k->ntensors; t++) {
        if (strcmp(k->tensors[t].info.name, name) == 0) {
            return t;
        }
    }
    return -1;
}

int qn_kernel_params(const qn_kernel *k)
{
    return k ? k->nscalars : 0;
}

const char *qn_kernel_param(const qn_kernel *k, int index)
{
    return k && index >= 0 && index < k->nscalars ? k->scalars[index].name : NULL;
}

qn_value qn_kernel_param_default(const qn_kernel *k, int index)
{
    return k && index >= 0 && index < k->nscalars ? k->scalars[index].value : (qn_value){0};
}

int qn_kernel_param_index(const qn_kernel *k, const char *name)
{
    for (int s = 0; k && name && s < k->nscalars; s++) {
        if (strcmp(k->scalars[s].name, name) == 0) {
            return s;
        }
    }
    return -1;
}

const char *qn_kernel_explain(const qn_kernel *k)
{
    return k ? k->explain : "";
}

qn_status qn_kernel_object(const qn_kernel *k, const void **bytes, size_t *size)
{
    if (!k || !bytes || !size) {
        return QN_E_ARG;
    }
    *bytes = k->object;
    *size = (size_t)k->object_size;
    return QN_OK;
}

void qn_compile_seconds(const qn_ctx *cx, double *total, double *codegen)
{
    *total = cx->seconds;
    *codegen = cx->codegen_seconds;
}

int qn_kernel_sample(const qn_kernel *k, int index, int64_t *lo, int64_t *hi)
{
    if (!k || index < 0 || index >= k->ntensors) {
        return 0;
    }
    const qn_sample *s = &k->tensors[index].sample;
    *lo = s->lo;
    *hi = s->hi;
    return (int)s->kind;
}
