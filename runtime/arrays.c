/* SPDX-License-Identifier: MIT
 * Tensors of a call as arrays of the oracle and of the definition, by name. */
#include "runtime/arrays.h"

#include <math.h>
#include <string.h>

static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double m = h & 1023;
    double x = exponent == 31 ? (m > 0 ? NAN : INFINITY)
               : exponent     ? ldexp(1024 + m, exponent - 25)
                              : ldexp(m, -24);
    return h & 0x8000 ? -x : x;
}

static double brain_value(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return (double)f;
}

static void element(const char *p, qn_dtype t, double *f, int64_t *i)
{
    float x;
    uint16_t h;
    switch ((int)t) {
    case QN_F64:
        memcpy(f, p, 8);
        break;
    case QN_F32:
        memcpy(&x, p, 4);
        *f = (double)x;
        break;
    case QN_F16:
        memcpy(&h, p, 2);
        *f = half_value(h);
        break;
    case QN_BF16:
        memcpy(&h, p, 2);
        *f = brain_value(h);
        break;
    case QN_I64:
        memcpy(i, p, 8);
        break;
    case QN_I32: {
        int32_t v;
        memcpy(&v, p, 4);
        *i = v;
        break;
    }
    case QN_I16: {
        int16_t v;
        memcpy(&v, p, 2);
        *i = v;
        break;
    }
    case QN_I8:
        *i = *(const int8_t *)p;
        break;
    default:
        *i = *(const uint8_t *)p;
    }
}

qn_array qn_array_of_tensor(qn_arena *a, const DLTensor *t, qn_dtype dtype)
{
    qn_array x = {.dtype = dtype, .rank = t->ndim};
    int64_t n = 1, at[QN_MAX_AXES] = {0}, stride[QN_MAX_AXES];
    for (int k = t->ndim - 1; k >= 0; k--) {
        x.shape[k] = t->shape[k];
        stride[k] = t->strides ? t->strides[k] : n;
        n *= t->shape[k];
    }
    bool floating = qn_dtype_is_float(dtype);
    if (floating) {
        x.f = QN_NEWN(a, double, n + 1);
    } else {
        x.i = QN_NEWN(a, int64_t, n + 1);
    }
    const char *base = (const char *)t->data + t->byte_offset;
    double f = 0;
    int64_t i = 0;
    for (int64_t e = 0; e < n; e++) {
        int64_t offset = 0;
        for (int k = 0; k < t->ndim; k++) {
            offset += at[k] * stride[k];
        }
        element(base + offset * qn_dtype_bytes(dtype), dtype, &f, &i);
        if (floating) {
            x.f[e] = f;
        } else {
            x.i[e] = i;
        }
        for (int k = t->ndim - 1; k >= 0 && ++at[k] == t->shape[k]; k--) {
            at[k] = 0;
        }
    }
    return x;
}

static qn_arg scalar(qn_arena *a, const char *name, qn_dtype dtype, double f, int64_t i)
{
    qn_arg x = {name, {.dtype = dtype, .rank = 0}};
    if (qn_dtype_is_float(dtype)) {
        x.array.f = QN_NEW(a, double);
        *x.array.f = f;
    } else {
        x.array.i = QN_NEW(a, int64_t);
        *x.array.i = i;
    }
    return x;
}

qn_arg *qn_args_of_call(qn_arena *a, const qn_kernel *k, const qn_call *call, int *count)
{
    qn_arg *out = QN_NEWN(a, qn_arg, k->ntensors + k->nscalars + QN_MAX_DIMS + 1);
    int n = 0;
    for (int t = 0; t < k->ntensors; t++) {
        const qn_tensor_slot *slot = &k->tensors[t];
        if (slot->info.kind != QN_ARG_OUT) {
            out[n++] = (qn_arg){slot->info.name, qn_array_of_tensor(a, call->args[t], slot->dtype)};
        }
    }
    for (int s = 0; s < k->nscalars; s++) {
        qn_value v = call->params ? call->params[s] : k->scalars[s].value;
        bool floating = v.dtype.code == kDLFloat;
        out[n++] = scalar(a, k->scalars[s].name, k->scalars[s].dtype,
                          floating ? v.u.f : (double)v.u.i, floating ? (int64_t)v.u.f : v.u.i);
    }
    /* sizes: those that shapes tell, then those passed */
    const qn_plan *p = &k->plans[0];
    for (int d = 0; d < p->ndims; d++) {
        bool found = false;
        int64_t value = 0;
        for (int t = 0; t < k->ntensors && !found; t++) {
            for (int x = 0; x < k->tensors[t].rank && !found; x++) {
                if (p->axis_dim[t][x] == d) {
                    found = true;
                    value = call->args[t]->shape[x];
                }
            }
        }
        for (int i = 0; i < call->ndims && !found; i++) {
            if (strcmp(call->dim_names[i], p->dims[d].name) == 0) {
                found = true;
                value = call->dim_values[i];
            }
        }
        if (found && p->dims[d].given) {
            out[n++] = scalar(a, p->dims[d].name, QN_I64, 0, value);
        }
    }
    *count = n;
    return out;
}
