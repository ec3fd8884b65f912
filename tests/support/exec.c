/* SPDX-License-Identifier: MIT
 * Machine code of a text, run plainly; see exec.h. */
#include "tests/support/exec.h"

#include "backends/x86/blob.h"
#include "ir/print.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MARGIN = 64 }; /* elements before and after every tensor */

typedef struct memory { /* one tensor as the code sees it */
    const qn_param *param;
    char *base, *data;
    int64_t count, bytes, total;
    int64_t shape[QN_MAX_AXES];
    char *before; /* a copy of all of it, to find what was written outside */
    char *pages;  /* mapped for a fence, or NULL */
    int64_t mapped, margin;
} memory;

static const qn_array *given(const qn_args *a, const char *name)
{
    for (int k = 0; k < a->count; k++) {
        if (strcmp(a->at[k].name, name) == 0) {
            return &a->at[k].array;
        }
    }
    return NULL;
}

static void put(char *p, qn_dtype t, const qn_array *x, int64_t k)
{
    double f = x->f ? x->f[k] : 0;
    int64_t i = x->i ? x->i[k] : 0;
    float f32 = (float)f;
    uint32_t bits;
    uint16_t half;
    switch ((int)t) {
    case QN_F64:
        memcpy(p, &f, 8);
        return;
    case QN_F32:
        memcpy(p, &f32, 4);
        return;
    case QN_BF16:
        memcpy(&bits, &f32, 4);
        half = (uint16_t)(bits >> 16); /* inputs are rounded to the dtype already */
        memcpy(p, &half, 2);
        return;
    case QN_F16: {
        int e;
        double m = frexp(fabs(f), &e);
        half = f == 0     ? 0
               : isnan(f) ? 0x7e00
               : isinf(f) ? 0x7c00
               : e - 1 < -14
                   ? (uint16_t)ldexp(fabs(f), 24)
                   : (uint16_t)((unsigned)(e + 14) << 10 | ((unsigned)ldexp(m, 11) & 1023u));
        half = (uint16_t)(half | (signbit(f) ? 0x8000 : 0));
        memcpy(p, &half, 2);
        return;
    }
    default:
        memcpy(p, &i, (size_t)qn_dtype_bytes(t)); /* little endian */
    }
}

static void get(const char *p, qn_dtype t, qn_array *x, int64_t k)
{
    float f32;
    uint16_t half;
    uint32_t bits;
    int64_t i = 0;
    switch ((int)t) {
    case QN_F64:
        memcpy(&x->f[k], p, 8);
        return;
    case QN_F32:
        memcpy(&f32, p, 4);
        x->f[k] = (double)f32;
        return;
    case QN_BF16:
        memcpy(&half, p, 2);
        bits = (uint32_t)half << 16;
        memcpy(&f32, &bits, 4);
        x->f[k] = (double)f32;
        return;
    case QN_F16: {
        memcpy(&half, p, 2);
        int e = half >> 10 & 31;
        double m = half & 1023;
        double v = e == 31 ? (m > 0 ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        x->f[k] = half & 0x8000 ? -v : v;
        return;
    }
    case QN_I8:
        x->i[k] = *(const int8_t *)p;
        return;
    case QN_I16: {
        int16_t v;
        memcpy(&v, p, 2);
        x->i[k] = v;
        return;
    }
    case QN_I32: {
        int32_t v;
        memcpy(&v, p, 4);
        x->i[k] = v;
        return;
    }
    default:
        memcpy(&i, p, (size_t)qn_dtype_bytes(t));
        x->i[k] = i;
    }
}

static int64_t dim_of(const qn_lab *lab, const qn_kernel_ir *k, const int64_t *dims, qn_extent e)
{
    (void)lab;
    for (int d = 0; e.dim && d < k->dims.count; d++) {
        if (k->dims.at[d].name == e.dim) {
            return dims[d];
        }
    }
    return e.n;
}

static void bind_dims(const qn_kernel_ir *k, const qn_args *a, int64_t *dims)
{
    for (int d = 0; d < k->dims.count; d++) {
        const qn_array *x = given(a, k->dims.at[d].name);
        dims[d] = x && x->i ? *x->i : 0;
        for (int p = 0; !x && p < k->params.count; p++) {
            const qn_param *q = &k->params.at[p];
            const qn_array *t = given(a, q->name);
            for (int r = 0; t && r < q->type.rank; r++) {
                if (q->type.axes[r].extent.dim == k->dims.at[d].name) {
                    dims[d] = t->shape[r];
                }
            }
        }
    }
}

static void *aligned(qn_lab *lab, int64_t bytes)
{
    return qn_arena_alloc(&lab->arena, (size_t)bytes + 64, 64);
}

/* Bytes that end (fence 1) or start (fence 2) at an edge of mapped memory. */
static char *fenced(int64_t bytes, int32_t fence, char **pages, int64_t *mapped)
{
    int64_t page = sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
    *mapped = inner + 2 * page;
    *pages = mmap(NULL, (size_t)*mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*pages == MAP_FAILED ||
        (inner && mprotect(*pages + page, (size_t)inner, PROT_READ | PROT_WRITE))) {
        abort();
    }
    return *pages + page + (fence == 1 ? inner - bytes : 0);
}

static memory make_memory(qn_lab *lab, const qn_kernel_ir *k, const qn_param *p, const qn_args *a,
                          const int64_t *dims, int32_t fence, qn_abi_tensor *t)
{
    memory m = {.param = p,
                .count = 1,
                .bytes = qn_dtype_bytes(p->type.dtype),
                .margin = fence ? 0 : MARGIN};
    for (int r = p->type.rank - 1; r >= 0; r--) {
        t->stride[r] = m.count;
        m.shape[r] = dim_of(lab, k, dims, p->type.axes[r].extent);
        m.count *= m.shape[r];
    }
    m.total = (m.count + 2 * m.margin) * m.bytes;
    m.base = fence ? fenced(m.total, fence, &m.pages, &m.mapped) : aligned(lab, m.total);
    memset(m.base, 0xff, (size_t)m.total); /* NaN, or -1 */
    m.data = m.base + m.margin * m.bytes;
    const qn_array *x = given(a, p->name);
    for (int64_t e = 0; x && p->direction != QN_OUT && e < m.count; e++) {
        put(m.data + e * m.bytes, p->type.dtype, x, e);
    }
    m.before = aligned(lab, m.total);
    memcpy(m.before, m.base, (size_t)m.total);
    t->data = m.data;
    return m;
}

static bool was_touched(const memory *m)
{
    int64_t edge = m->margin * m->bytes, end = edge + m->count * m->bytes;
    bool inside = m->param->direction == QN_IN && memcmp(m->base, m->before, (size_t)m->total) != 0;
    return inside || memcmp(m->base, m->before, (size_t)edge) != 0 ||
           memcmp(m->base + end, m->before + end, (size_t)edge) != 0;
}

static void run_launches(qn_lab *lab, const char *map, const qn_code *code, const qn_abi_args *args,
                         char *scratch, bool backwards)
{
    for (int l = 0; l < code->nlaunches; l++) {
        const qn_abi_launch *x = &code->launches[l];
        qn_abi_list list = (qn_abi_list)(uintptr_t)(map + x->list);
        qn_abi_task task = (qn_abi_task)(uintptr_t)(map + x->task);
        int64_t n = list(args, NULL, 0, 0);
        int64_t *table = QN_NEWN(&lab->arena, int64_t, (n + 1) * x->width);
        int64_t half =
            n > 1 ? list(args, table, n / 2, 0) : 0; /* in two batches, as the runtime may */
        if (n > half) {
            list(args, table + half * x->width, n - half, half);
        }
        for (int64_t k = 0; k < n; k++) {
            task(args, table + (backwards && !x->serial ? n - 1 - k : k) * x->width, scratch);
        }
    }
}

/* Compiled texts of this process: tests run one text over many shapes. */
typedef struct compiled {
    uint64_t key;
    qn_code code;
    char *map;
} compiled;
static compiled known[512];
static int nknown;

static uint64_t key_of(qn_lab *lab, const qn_ir_file *f, const qn_kernel_ir *k, const qn_target *t)
{
    uint64_t h = 0xcbf29ce484222325u;
    const char *texts[] = {qn_file_text(&lab->arena, f), k->name, t->name};
    for (int n = 0; n < 3; n++) {
        for (const char *p = texts[n]; *p; p++) {
            h = (h ^ (unsigned char)*p) * 0x100000001b3u;
        }
    }
    return h;
}

static const compiled *compile(qn_lab *lab, const qn_ir_file *f, const qn_kernel_ir *k,
                               const qn_target *t, qn_status *status)
{
    uint64_t key = key_of(lab, f, k, t);
    *status = QN_OK;
    for (int n = 0; n < nknown; n++) {
        if (known[n].key == key) {
            return &known[n];
        }
    }
    qn_emitted e;
    *status =
        t->emit(t, &lab->ir, &(qn_emit_item){f, k}, 1, &(qn_emit_options){0}, &e, &lab->diags);
    if (*status != QN_OK) {
        return NULL;
    }
    compiled *c = &known[nknown < 511 ? nknown++ : 511];
    *c = (compiled){key, e.code, qn_map_code(e.code.bytes, e.code.size)};
    c->code.bytes = NULL; /* it belongs to the laboratory */
    return c;
}

qn_exec_result qn_exec(qn_lab *lab, const qn_ir_file *f, const char *kernel, const qn_args *a,
                       const qn_exec_options *options)
{
    static const qn_exec_options none = {0};
    options = options ? options : &none;
    const qn_target *target = options->target ? options->target : qn_target_find(NULL);
    const qn_kernel_ir *k = qn_file_kernel(f, kernel);
    qn_exec_result r = {0};
    const compiled *c = compile(lab, f, k, target, &r.status);
    if (!c) {
        return r;
    }
    r.code_bytes = c->code.size;
    char *map = c->map;
    int64_t *dims = QN_NEWN(&lab->arena, int64_t, k->dims.count + 1);
    qn_abi_tensor *tensors = QN_NEWN(&lab->arena, qn_abi_tensor, k->params.count + 1);
    qn_abi_scalar *scalars = QN_NEWN(&lab->arena, qn_abi_scalar, k->params.count + 1);
    memory *memories = QN_NEWN(&lab->arena, memory, k->params.count + 1);
    int64_t bytes[QN_ABI_MAX_BUFS], scratch = 0;
    void *bufs[QN_ABI_MAX_BUFS];
    qn_abi_args args = {dims, tensors, scalars, bufs, bytes, &scratch, &r.flag, target->helpers};
    bind_dims(k, a, dims);
    int nt = 0, ns = 0;
    for (int p = 0; p < k->params.count; p++) {
        const qn_param *x = &k->params.at[p];
        if (x->type.rank == 0) {
            const qn_array *v = given(a, x->name);
            if (v) {
                put((char *)&scalars[ns], x->type.dtype, v, 0);
            }
            ns++;
        }
    }
    /* derived dims may be extents of tensors, so setup runs first: requires may not read tensors */
    r.setup = ((qn_abi_setup)(uintptr_t)(map + c->code.setup))(&args);
    for (int p = 0; p < k->params.count && r.setup == 0; p++) {
        if (k->params.at[p].type.rank) {
            memories[nt] = make_memory(lab, k, &k->params.at[p], a, dims, options->fence,
                                       &tensors[nt]);
            nt++;
        }
    }
    if (r.setup == 0) {
        for (int b = 0; b < c->code.nbufs; b++) {
            bufs[b] = aligned(lab, bytes[b]);
            memset(bufs[b], 0xff, (size_t)bytes[b]);
        }
        char *pages = NULL, *space;
        int64_t mapped = 0;
        space = options->fence ? fenced(scratch, options->fence, &pages, &mapped)
                               : aligned(lab, scratch);
        memset(space, 0xff, (size_t)scratch);
        run_launches(lab, map, &c->code, &args, space, options->backwards);
        if (pages) {
            munmap(pages, (size_t)mapped);
        }
    }
    r.outs = QN_NEWN(&lab->arena, qn_arg, nt + 1);
    for (int t = 0; t < nt; t++) {
        memory *m = &memories[t];
        r.touched = r.touched || was_touched(m);
        if (m->param->direction != QN_IN) {
            qn_array x = qn_zeros(lab, m->param->type.dtype, m->param->type.rank, m->shape);
            for (int64_t q = 0; q < m->count; q++) {
                get(m->data + q * m->bytes, x.dtype, &x, q);
            }
            r.outs[r.nouts++] = (qn_arg){m->param->name, x};
        }
        if (m->pages) {
            munmap(m->pages, (size_t)m->mapped);
        }
    }
    return r;
}

const qn_array *qn_exec_out(const qn_exec_result *r, const char *name)
{
    for (int k = 0; k < r->nouts; k++) {
        if (strcmp(r->outs[k].name, name) == 0) {
            return &r->outs[k].array;
        }
    }
    return NULL;
}
