/* SPDX-License-Identifier: MIT
 *
 * Running a kernel: check every argument, choose the plan, lay out the workspace, run the launches.
 *
 * Nothing is written before everything is checked, and nothing is allocated: the workspace holds,
 * in order, the call buffers, packed copies of tensors whose inner stride is not 1, the table of
 * tasks and one scratch a worker. */
#include "runtime/internal.h"

#include <immintrin.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_ROWS = 8192, ALIGN = 64 };

typedef struct packed { /* a tensor that is copied to unit inner stride */
    bool yes;
    int64_t offset, bytes; /* in the workspace */
} packed;

/* One call on its way. */
typedef struct run {
    const qn_kernel *k;
    const qn_call *call;
    const qn_plan *plan;
    int64_t dims[QN_MAX_DIMS];
    qn_abi_tensor tensors[QN_MAX_TENSORS];
    qn_abi_scalar scalars[QN_MAX_SCALARS];
    packed packs[QN_MAX_TENSORS];
    void *bufs[QN_ABI_MAX_BUFS];
    int64_t buf_bytes[QN_ABI_MAX_BUFS], buf_offset[QN_ABI_MAX_BUFS];
    int64_t scratch_bytes, flag;
    int64_t table_offset, table_rows, scratch_offset, total;
    int workers;
    qn_abi_args args;
} run;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static qn_status
fail(const qn_call *call, qn_status status, const char *format, ...)
{
    if (call && call->message && call->message_bytes) {
        va_list args;
        va_start(args, format);
        vsnprintf(call->message, call->message_bytes, format, args);
        va_end(args);
    }
    return status;
}

static int64_t up(int64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---------------------------------------------------------------- arguments */

static bool same_type(DLDataType have, DLDataType want)
{
    return have.code == want.code && have.bits == want.bits && have.lanes == want.lanes;
}

static const char *type_name(DLDataType t, char room[24])
{
    const char *kind = t.code == kDLFloat    ? "f"
                       : t.code == kDLBfloat ? "bf"
                       : t.code == kDLInt    ? "i"
                       : t.code == kDLUInt   ? "u"
                                             : "?";
    snprintf(room, 24, t.lanes == 1 ? "%s%d" : "%s%d x%d", kind, t.bits, t.lanes);
    return room;
}

static void *data_of(const DLTensor *t)
{
    return t->data ? (char *)t->data + t->byte_offset : NULL;
}

static int64_t stride_of(const DLTensor *t, int axis)
{
    if (t->strides) {
        return t->strides[axis];
    }
    int64_t s = 1;
    for (int a = t->ndim - 1; a > axis; a--) {
        s *= t->shape[a];
    }
    return s;
}

static qn_status check_tensor(const run *r, int index)
{
    const qn_tensor_slot *slot = &r->k->tensors[index];
    const DLTensor *t = r->call->args[index];
    const char *name = slot->info.name;
    char have[24], want[24];
    if (!t) {
        return fail(r->call, QN_E_ARG, "argument %d (%s): expected a tensor, found NULL", index,
                    name);
    }
    if (t->ndim != slot->rank) {
        return fail(r->call, QN_E_ARG, "%s: expected %d dimensions, found %d", name, slot->rank,
                    t->ndim);
    }
    if (!same_type(t->dtype, slot->info.dtype)) {
        return fail(r->call, QN_E_ARG, "%s: expected type %s, found %s", name,
                    type_name(slot->info.dtype, want), type_name(t->dtype, have));
    }
    if (t->device.device_type != kDLCPU && t->device.device_type != kDLCUDAHost) {
        return fail(r->call, QN_E_ARG, "%s: expected memory of the CPU, found device type %d", name,
                    (int)t->device.device_type);
    }
    if (slot->rank && !t->shape) {
        return fail(r->call, QN_E_ARG, "%s: expected a shape, found NULL", name);
    }
    bool empty = false;
    for (int a = 0; a < slot->rank; a++) {
        if (t->shape[a] < 0 || t->shape[a] > ((int64_t)1 << 40)) {
            return fail(r->call, QN_E_ARG,
                        "%s: expected a size from 0 to 2^40 in dimension %d (%s), found %lld", name,
                        a, slot->info.dims[a], (long long)t->shape[a]);
        }
        empty |= t->shape[a] == 0;
    }
    if (empty) {
        return QN_OK;
    }
    if (!t->data) {
        return fail(r->call, QN_E_ARG, "%s: expected data, found NULL", name);
    }
    int64_t bytes = qn_dtype_bytes(slot->dtype);
    if ((uintptr_t)data_of(t) % (uintptr_t)bytes != 0) {
        return fail(r->call, QN_E_ARG,
                    "%s: expected data aligned to its elements (%lld bytes), found an odd address",
                    name, (long long)bytes);
    }
    if (slot->info.kind != QN_ARG_IN) {
        for (int a = 0; a < slot->rank; a++) {
            if (t->shape[a] > 1 && stride_of(t, a) == 0) {
                return fail(
                    r->call, QN_E_ARG,
                    "%s: expected distinct elements, found stride 0 in dimension %d of an output",
                    name, a);
            }
        }
    }
    return QN_OK;
}

typedef struct span {
    uintptr_t lo, hi; /* bytes that the tensor may touch */
} span;

static span span_of(const DLTensor *t, int64_t bytes)
{
    int64_t lo = 0, hi = 0;
    for (int a = 0; a < t->ndim; a++) {
        if (t->shape[a] == 0) {
            return (span){0, 0};
        }
        int64_t reach = (t->shape[a] - 1) * stride_of(t, a);
        *(reach < 0 ? &lo : &hi) += reach;
    }
    uintptr_t base = (uintptr_t)data_of(t);
    return (span){base + (uintptr_t)(lo * bytes), base + (uintptr_t)((hi + 1) * bytes)};
}

static qn_status check_overlap(const run *r)
{
    const qn_kernel *k = r->k;
    for (int o = 0; o < k->ntensors; o++) {
        if (k->tensors[o].info.kind == QN_ARG_IN) {
            continue;
        }
        span a = span_of(r->call->args[o], qn_dtype_bytes(k->tensors[o].dtype));
        for (int t = 0; t < k->ntensors; t++) {
            if (t == o || (t < o && k->tensors[t].info.kind != QN_ARG_IN)) {
                continue;
            }
            span b = span_of(r->call->args[t], qn_dtype_bytes(k->tensors[t].dtype));
            if (a.lo < b.hi && b.lo < a.hi) {
                return fail(r->call, QN_E_ARG,
                            "%s: expected memory of its own, found that it overlaps %s",
                            k->tensors[o].info.name, k->tensors[t].info.name);
            }
        }
    }
    return QN_OK;
}

/* Binds the dims of a plan from shapes and passed sizes. */
static qn_status bind_dims(run *r, const qn_plan *p)
{
    const qn_kernel *k = r->k;
    int from[QN_MAX_DIMS];
    for (int d = 0; d < p->ndims; d++) {
        r->dims[d] = p->dims[d].fixed >= 0 ? p->dims[d].fixed : 0;
        from[d] = p->dims[d].fixed >= 0 ? -2 : -1;
    }
    for (int i = 0; i < r->call->ndims; i++) {
        for (int d = 0; d < p->ndims; d++) {
            if (p->dims[d].given && strcmp(p->dims[d].name, r->call->dim_names[i]) == 0) {
                r->dims[d] = r->call->dim_values[i];
                from[d] = -3;
                if (r->dims[d] < 0) {
                    return fail(r->call, QN_E_ARG, "size %s: expected 0 or more, found %lld",
                                p->dims[d].name, (long long)r->dims[d]);
                }
            }
        }
    }
    for (int t = 0; t < k->ntensors; t++) {
        const qn_tensor_slot *slot = &k->tensors[t];
        for (int a = 0; a < slot->rank; a++) {
            int d = p->axis_dim[t][a];
            int64_t have = r->call->args[t]->shape[a];
            if (d < 0) {
                if (have != slot->extent[a]) {
                    return fail(r->call, QN_E_ARG, "%s: expected %lld in dimension %d, found %lld",
                                slot->info.name, (long long)slot->extent[a], a, (long long)have);
                }
            } else if (!p->dims[d].given && p->dims[d].fixed < 0) {
                continue; /* derived: checked after setup */
            } else if (from[d] == -1) {
                r->dims[d] = have;
                from[d] = t;
            } else if (r->dims[d] != have) {
                if (from[d] >= 0) {
                    return fail(r->call, QN_E_ARG,
                                "%s: expected %s = %lld in dimension %d as in %s, found %lld",
                                slot->info.name, p->dims[d].name, (long long)r->dims[d], a,
                                k->tensors[from[d]].info.name, (long long)have);
                }
                return fail(r->call, QN_E_ARG,
                            "%s: expected %s = %lld in dimension %d (%s), found %lld",
                            slot->info.name, p->dims[d].name, (long long)r->dims[d], a,
                            from[d] == -2 ? "fixed when the kernel was compiled" : "as passed",
                            (long long)have);
            }
        }
    }
    for (int d = 0; d < p->ndims; d++) {
        if (p->dims[d].given && from[d] == -1) {
            return fail(r->call, QN_E_ARG,
                        "size %s: expected in the call, found nothing (no tensor's shape tells it)",
                        p->dims[d].name);
        }
    }
    return QN_OK;
}

static qn_status check_derived(const run *r)
{
    const qn_kernel *k = r->k;
    for (int t = 0; t < k->ntensors; t++) {
        for (int a = 0; a < k->tensors[t].rank; a++) {
            int d = r->plan->axis_dim[t][a];
            int64_t have = r->call->args[t]->shape[a];
            if (d >= 0 && r->dims[d] != have) {
                return fail(r->call, QN_E_ARG, "%s: expected %s = %lld in dimension %d, found %lld",
                            k->tensors[t].info.name, r->plan->dims[d].name, (long long)r->dims[d],
                            a, (long long)have);
            }
        }
    }
    return QN_OK;
}

static bool set_scalar(qn_abi_scalar *out, qn_dtype t, qn_value v)
{
    double f = v.dtype.code == kDLFloat ? v.u.f : (double)v.u.i;
    int64_t i = v.dtype.code == kDLFloat ? (int64_t)v.u.f : v.u.i;
    bool floating = v.dtype.code == kDLFloat;
    if (qn_dtype_is_int(t) && floating && (double)i != v.u.f) {
        return false;
    }
    switch ((int)t) {
    case QN_BOOL:
    case QN_U8:
        out->u8 = (uint8_t)i;
        return i >= 0 && i <= (t == QN_BOOL ? 1 : 255);
    case QN_I8:
        out->i8 = (int8_t)i;
        return i == (int8_t)i;
    case QN_I16:
        out->i16 = (int16_t)i;
        return i == (int16_t)i;
    case QN_I32:
        out->i32 = (int32_t)i;
        return i == (int32_t)i;
    case QN_I64:
        out->i64 = i;
        return true;
    case QN_F32:
        out->f32 = (float)f;
        return true;
    case QN_F64:
        out->f64 = f;
        return true;
    default:
        return false;
    }
}

static qn_status bind_scalars(run *r)
{
    const qn_kernel *k = r->k;
    if (r->call->params && r->call->nparams != k->nscalars) {
        return fail(r->call, QN_E_ARG, "expected %d parameters, found %d", k->nscalars,
                    r->call->nparams);
    }
    for (int s = 0; s < k->nscalars; s++) {
        const qn_scalar_slot *slot = &k->scalars[s];
        if (!r->call->params && !slot->has_default) {
            return fail(r->call, QN_E_ARG,
                        "parameter %s: expected a value, found none (it has no default)",
                        slot->name);
        }
        qn_value v = r->call->params ? r->call->params[s] : slot->value;
        if (!set_scalar(&r->scalars[s], slot->dtype, v)) {
            return fail(r->call, QN_E_ARG, "parameter %s: expected a value of type %s, found %g",
                        slot->name, qn_dtype_name(slot->dtype),
                        v.dtype.code == kDLFloat ? v.u.f : (double)v.u.i);
        }
    }
    return QN_OK;
}

/* ---------------------------------------------------------------- plan and workspace */

static qn_abi_setup setup_of(const qn_plan *p)
{
    return (qn_abi_setup)(uintptr_t)(p->map + p->code.setup);
}

static qn_abi_list list_of(const qn_plan *p, int launch)
{
    return (qn_abi_list)(uintptr_t)(p->map + p->code.launches[launch].list);
}

static qn_abi_task task_of(const qn_plan *p, int launch)
{
    return (qn_abi_task)(uintptr_t)(p->map + p->code.launches[launch].task);
}

static qn_status choose_plan(run *r)
{
    for (int n = 0; n < r->k->nplans; n++) {
        const qn_plan *p = &r->k->plans[n];
        qn_status s = bind_dims(r, p);
        if (s != QN_OK) {
            return s;
        }
        int64_t answer = setup_of(p)(&r->args);
        if (answer == 0) {
            r->plan = p;
            return check_derived(r);
        }
        if (answer > 0) {
            return fail(r->call, QN_E_ARG, "the sizes do not fit: %s",
                        answer <= p->nrequires ? p->requires[answer - 1]
                                               : "a condition of the kernel");
        }
    }
    return fail(r->call, QN_E_INTERNAL, "no plan accepts these sizes");
}

enum { HUGE_SHIFT = 46 }; /* no machine has 2^46 bytes for one call */

/* False: the sizes ask for more memory than there can be. */
static bool lay_out(run *r)
{
    int64_t at = 0;
    const qn_kernel *k = r->k;
    for (int b = 0; b < r->plan->code.nbufs; b++) {
        if (r->buf_bytes[b] > (int64_t)1 << HUGE_SHIFT) {
            return false;
        }
        r->buf_offset[b] = at;
        at += up(r->buf_bytes[b]);
    }
    for (int t = 0; t < k->ntensors; t++) {
        const DLTensor *x = r->call->args[t];
        int rank = k->tensors[t].rank;
        packed *p = &r->packs[t];
        *p = (packed){0};
        if (rank && x->shape[rank - 1] > 1 && stride_of(x, rank - 1) != 1) {
            int64_t n = qn_dtype_bytes(k->tensors[t].dtype);
            for (int a = 0; a < rank; a++) {
                n *= x->shape[a];
            }
            *p = (packed){true, at, n};
            at += up(n);
        }
    }
    int64_t rows = 0, words = 0;
    for (int l = 0; l < r->plan->code.nlaunches; l++) {
        int64_t n = r->plan->listed[l] ? TABLE_ROWS : list_of(r->plan, l)(&r->args, NULL, 0, 0);
        n = n > TABLE_ROWS ? TABLE_ROWS : n < 1 ? 1 : n;
        rows = n > rows ? n : rows;
        words = r->plan->code.launches[l].width > words ? r->plan->code.launches[l].width : words;
    }
    r->table_rows = rows;
    r->table_offset = at;
    at += up(rows * words * (int64_t)sizeof(int64_t));
    r->scratch_offset = at;
    r->workers = r->call->parallel_for ? r->call->workers : qn_pool_threads(r->call->pool);
    if (r->scratch_bytes > (int64_t)1 << HUGE_SHIFT) {
        return false;
    }
    at += up(r->scratch_bytes) * r->workers;
    r->total = at;
    return true;
}

/* Everything up to, not including, the first write. */
static qn_status prepare(run *r, const qn_kernel *k, const qn_call *call)
{
    if (!k || !call) {
        return fail(call, QN_E_ARG, "expected a kernel and a call, found NULL");
    }
    if (call->size != sizeof *call) {
        return fail(NULL, QN_E_ARG,
                    "size"); /* an unknown layout: its message buffer cannot be trusted */
    }
    if (call->nargs != k->ntensors || (k->ntensors && !call->args)) {
        return fail(call, QN_E_ARG, "expected %d tensors, found %d", k->ntensors,
                    call->args ? call->nargs : 0);
    }
    if (call->parallel_for && call->workers < 1) {
        return fail(call, QN_E_ARG, "workers: expected 1 or more beside parallel_for, found %d",
                    call->workers);
    }
    if (call->ndims && (!call->dim_names || !call->dim_values)) {
        return fail(call, QN_E_ARG, "dim_names and dim_values: expected %d of them, found NULL",
                    call->ndims);
    }
    r->k = k;
    r->call = call;
    r->flag = 0;
    r->scratch_bytes = 0;
    r->args = (qn_abi_args){.dims = r->dims,
                            .tensors = r->tensors,
                            .scalars = r->scalars,
                            .bufs = r->bufs,
                            .buf_bytes = r->buf_bytes,
                            .scratch_bytes = &r->scratch_bytes,
                            .flag = &r->flag,
                            .helpers = k->target->helpers};
    for (int t = 0; t < k->ntensors; t++) {
        qn_status s = check_tensor(r, t);
        if (s != QN_OK) {
            return s;
        }
        const DLTensor *x = call->args[t];
        r->tensors[t].data = data_of(x);
        for (int a = 0; a < k->tensors[t].rank; a++) {
            r->tensors[t].stride[a] = stride_of(x, a);
        }
        if (k->tensors[t].rank) {
            r->tensors[t].stride[k->tensors[t].rank - 1] = 1;
        }
    }
    qn_status s = check_overlap(r);
    s = s == QN_OK ? bind_scalars(r) : s;
    s = s == QN_OK ? choose_plan(r) : s;
    if (s == QN_OK && !lay_out(r)) {
        return fail(call, QN_E_MEMORY, "these sizes need more memory than a machine has");
    }
    return s;
}

qn_status qn_workspace(const qn_kernel *k, const qn_call *call, size_t *bytes)
{
    run r;
    *bytes = 0;
    qn_status s = prepare(&r, k, call);
    if (s == QN_OK) {
        *bytes = (size_t)r.total;
    }
    return s;
}

const char *qn_kernel_plan(const qn_kernel *k, const qn_call *call)
{
    run r;
    return prepare(&r, k, call) == QN_OK ? r.plan->name : NULL;
}

/* ---------------------------------------------------------------- packing odd strides */

/* Copies between a strided tensor and a contiguous one of the same shape. */
static void copy_strided(const DLTensor *x, int64_t bytes, char *flat, bool to_flat)
{
    int64_t at[QN_MAX_AXES] = {0}, total = 1;
    for (int a = 0; a < x->ndim; a++) {
        total *= x->shape[a];
    }
    char *base = data_of(x);
    for (int64_t n = 0; n < total; n++) {
        int64_t offset = 0;
        for (int a = 0; a < x->ndim; a++) {
            offset += at[a] * stride_of(x, a);
        }
        char *p = base + offset * bytes, *q = flat + n * bytes;
        memcpy(to_flat ? q : p, to_flat ? p : q, (size_t)bytes);
        for (int a = x->ndim - 1; a >= 0 && ++at[a] == x->shape[a]; a--) {
            at[a] = 0;
        }
    }
}

static void pack_all(run *r, char *workspace)
{
    for (int t = 0; t < r->k->ntensors; t++) {
        const qn_tensor_slot *slot = &r->k->tensors[t];
        const DLTensor *x = r->call->args[t];
        if (!r->packs[t].yes) {
            continue;
        }
        r->tensors[t].data = workspace + r->packs[t].offset;
        int64_t s = 1;
        for (int a = slot->rank - 1; a >= 0; a--) {
            r->tensors[t].stride[a] = s;
            s *= x->shape[a];
        }
        if (slot->info.kind != QN_ARG_OUT) {
            copy_strided(x, qn_dtype_bytes(slot->dtype), r->tensors[t].data, true);
        }
    }
}

static void unpack_all(run *r)
{
    for (int t = 0; t < r->k->ntensors; t++) {
        const qn_tensor_slot *slot = &r->k->tensors[t];
        if (r->packs[t].yes && slot->info.kind != QN_ARG_IN) {
            copy_strided(r->call->args[t], qn_dtype_bytes(slot->dtype), r->tensors[t].data, false);
        }
    }
}

/* ---------------------------------------------------------------- launches */

typedef struct job {
    const run *r;
    qn_abi_task task;
    const int64_t *table;
    int64_t width;
    char *scratch;
    int64_t scratch_stride;
} job;

static void one_task(void *arg, int64_t index, int worker)
{
    const job *j = arg;
    unsigned mode = _mm_getcsr();
    _mm_setcsr(0x1F80); /* nearest, all exceptions masked, denormals kept */
    j->task(&j->r->args, j->table + index * j->width, j->scratch + worker * j->scratch_stride);
    _mm_setcsr(mode);
}

static int by_cost(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* Sorts rows by falling cost; stable order is not needed, since tasks are independent. */
static void sort_rows(int64_t *table, int64_t n, int64_t width)
{
    for (int64_t k = 1; k < n; k++) {
        if (table[k * width] > table[(k - 1) * width]) {
            qsort(table, (size_t)n, (size_t)width * sizeof *table, by_cost);
            return;
        }
    }
}

static void run_launch(run *r, char *workspace, int launch)
{
    const qn_abi_launch *l = &r->plan->code.launches[launch];
    int64_t *table = (int64_t *)(void *)(workspace + r->table_offset);
    job j = {r,        task_of(r->plan, launch),      table,
             l->width, workspace + r->scratch_offset, up(r->scratch_bytes)};
    int64_t skip = 0;
    for (;;) {
        int64_t n = list_of(r->plan, launch)(&r->args, table, r->table_rows, skip);
        if (n <= 0) {
            return;
        }
        if (l->serial) {
            for (int64_t k = 0; k < n; k++) {
                one_task(&j, k, 0);
            }
        } else {
            sort_rows(table, n, l->width);
            if (r->call->parallel_for) {
                r->call->parallel_for(r->call->parallel_user, n, one_task, &j);
            } else {
                qn_pool_run(r->call->pool, n, one_task, &j);
            }
        }
        skip += n;
        if (n < r->table_rows) {
            return;
        }
    }
}

qn_status qn_run(const qn_kernel *k, const qn_call *call)
{
    run r;
    qn_status s = prepare(&r, k, call);
    if (s != QN_OK) {
        return s;
    }
    char *workspace = call->workspace;
    if (r.total > 0 && (!workspace || call->workspace_bytes < (size_t)r.total)) {
        return fail(call, QN_E_ARG, "workspace: expected %lld bytes, found %lld",
                    (long long)r.total, workspace ? (long long)call->workspace_bytes : 0);
    }
    if ((uintptr_t)workspace % ALIGN != 0) {
        return fail(call, QN_E_ARG, "workspace: expected an address aligned to %d bytes, found %p",
                    ALIGN, (void *)workspace);
    }
    for (int b = 0; b < r.plan->code.nbufs; b++) {
        r.bufs[b] = workspace + r.buf_offset[b];
    }
    pack_all(&r, workspace);
    for (int l = 0; l < r.plan->code.nlaunches; l++) {
        run_launch(&r, workspace, l);
    }
    unpack_all(&r);
    if (r.flag & QN_ABI_FLAG_INDEX) {
        return fail(call, QN_E_INDEX,
                    "an index read from data was out of range and was clamped, or a divisor was 0");
    }
    return QN_OK;
}
