/* SPDX-License-Identifier: MIT
 * Binding: names on the command line become sizes, parameters and tensors of a call. */
#include "runtime/cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- random numbers */

static uint64_t next_bits(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double normal(uint64_t *state)
{
    double u = ((double)(next_bits(state) >> 11) + 0.5) * 0x1p-53;
    double v = ((double)(next_bits(state) >> 11) + 0.5) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static uint16_t half_bits(double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag <
        0x38800000) { /* below the least normal half: standard normals lose nothing that matters */
        return (uint16_t)(sign | (uint32_t)lrint(fabs(x) * 0x1p24));
    }
    mag += 0xfff + (mag >> 13 & 1);
    return (uint16_t)(sign | ((mag - 0x38000000) >> 13));
}

static uint16_t brain_bits(double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static int64_t elements(const DLTensor *t)
{
    int64_t n = 1;
    for (int a = 0; a < t->ndim; a++) {
        n *= t->shape[a];
    }
    return n;
}

static bool allocate(cli_tensor *x)
{
    x->t.shape = x->shape;
    size_t bytes = (size_t)elements(&x->t) * (x->t.dtype.bits / 8u);
    x->t.data = aligned_alloc(64, (bytes + 64) / 64 * 64);
    x->t.device.device_type = kDLCPU;
    x->present = x->t.data != NULL;
    if (x->present) {
        memset(x->t.data, 0, (bytes + 64) / 64 * 64);
    }
    return x->present;
}

static void fill(cli_tensor *x, uint64_t seed)
{
    int64_t n = elements(&x->t);
    for (int64_t k = 0; k < n; k++) {
        double v = normal(&seed);
        if (x->t.dtype.code == kDLBfloat) {
            ((uint16_t *)x->t.data)[k] = brain_bits(v);
        } else if (x->t.dtype.bits == 16) {
            ((uint16_t *)x->t.data)[k] = half_bits(v);
        } else if (x->t.dtype.bits == 32) {
            ((float *)x->t.data)[k] = (float)v;
        } else {
            ((double *)x->t.data)[k] = v;
        }
    }
}

static int64_t below(uint64_t *state, int64_t n)
{
    return n > 0 ? (int64_t)(next_bits(state) % (uint64_t)n) : 0;
}

/* Numbers lo..hi; or offsets that rise from 0 to hi by about equal steps. */
static void fill_integers(cli_tensor *x, bool offsets, int64_t lo, int64_t hi, uint64_t seed)
{
    int64_t n = elements(&x->t), step = n > 1 ? hi / (n - 1) : 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t v = lo + below(&seed, hi - lo + 1);
        if (offsets) {
            v = k == 0 ? 0 : k == n - 1 ? hi : (k - 1) * step + below(&seed, step) + 1;
        }
        size_t bytes = x->t.dtype.bits / 8u;
        memcpy((char *)x->t.data + (size_t)k * bytes, &v, bytes); /* little endian */
    }
}

/* ---------------------------------------------------------------- sizes */

static cli_pair *find(cli_args *a, const char *name)
{
    for (int k = 0; k < a->npairs; k++) {
        if (strcmp(a->pairs[k].name, name) == 0) {
            return &a->pairs[k];
        }
    }
    return NULL;
}

static int64_t default_size(const char *name, const cli_job *j, int ndims)
{
    static const struct {
        const char *name, *same;
        int64_t n;
    } sizes[] = {{"B", NULL, 1},    {"Hq", "Hk", 8},   {"Hk", "Hq", 8}, {"Hv", "Hk", 8},
                 {"Nq", "Nk", 512}, {"Nk", "Nq", 512}, {"D", "Dv", 64}, {"Dv", "D", 64}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        if (strcmp(sizes[k].name, name) == 0) {
            for (int d = 0; sizes[k].same && d < ndims; d++) {
                if (strcmp(j->dim_names[d], sizes[k].same) == 0 && j->dim_values[d] >= 0) {
                    return j->dim_values[d];
                }
            }
            return sizes[k].n;
        }
    }
    return 64;
}

static int bind_sizes(cli_job *j, cli_args *a)
{
    int n = qn_kernel_dims(j->signature);
    for (int d = 0; d < n; d++) {
        j->dim_names[d] = qn_kernel_dim(j->signature, d);
        j->dim_values[d] = -1;
        cli_pair *p = find(a, j->dim_names[d]);
        if (p) {
            char *end;
            errno = 0;
            j->dim_values[d] = strtoll(p->value, &end, 10);
            p->used = true;
            if (!*p->value || *end || errno || j->dim_values[d] < 0) {
                fprintf(stderr, "size %s: expected a number from 0, found %s\n", p->name, p->value);
                return CLI_USER;
            }
        }
    }
    for (int t = 0; t < qn_kernel_args(j->signature); t++) {
        const qn_arg_info *info = qn_kernel_arg(j->signature, t);
        for (int x = 0; j->tensors[t].present && x < info->ndim && x < j->tensors[t].t.ndim; x++) {
            for (int d = 0; d < n; d++) {
                if (strcmp(j->dim_names[d], info->dims[x]) == 0 && j->dim_values[d] < 0) {
                    j->dim_values[d] = j->tensors[t].shape[x];
                }
            }
        }
    }
    for (int d = 0; d < n; d++) {
        if (j->dim_values[d] < 0) {
            j->dim_values[d] = default_size(j->dim_names[d], j, n);
        }
    }
    j->call.ndims = n;
    j->call.dim_names = j->dim_names;
    j->call.dim_values = j->dim_values;
    size_t at = 0;
    for (int d = 0; d < n; d++) { /* head sizes are compiled in */
        if (strcmp(j->dim_names[d], "D") == 0 || strcmp(j->dim_names[d], "Dv") == 0) {
            at += (size_t)snprintf(j->dims_text + at, sizeof j->dims_text - at, "%s=%lld ",
                                   j->dim_names[d], (long long)j->dim_values[d]);
        }
    }
    j->options.dims = j->dims_text[0] ? j->dims_text : NULL;
    return CLI_GOOD;
}

/* ---------------------------------------------------------------- tensors and parameters */

static int load_tensors(cli_job *j, cli_args *a)
{
    for (int t = 0; t < qn_kernel_args(j->signature); t++) {
        const qn_arg_info *info = qn_kernel_arg(j->signature, t);
        cli_pair *p = find(a, info->name);
        if (!p || t >= CLI_MAX) {
            continue;
        }
        p->used = true;
        if (!npy_read(p->value, &j->tensors[t])) {
            return CLI_USER;
        }
        DLDataType have = j->tensors[t].t.dtype, want = info->dtype;
        if (have.code != want.code && have.bits == want.bits && have.bits == 16) {
            j->tensors[t].t.dtype = want; /* bf16 under another name */
        }
    }
    return CLI_GOOD;
}

static int64_t size_of(const cli_job *j, const char *dim)
{
    for (int d = 0; d < j->call.ndims; d++) {
        if (strcmp(j->dim_names[d], dim) == 0) {
            return j->dim_values[d];
        }
    }
    const char *p = dim; /* a number, or NAME*k+c as declared */
    while (*p && *p != '*' && *p != '+' && *p != '-') {
        p++;
    }
    if (*dim >= '0' && *dim <= '9') {
        return strtoll(dim, NULL, 10);
    }
    char name[64];
    size_t length = (size_t)(p - dim) < sizeof name - 1 ? (size_t)(p - dim) : sizeof name - 1;
    memcpy(name, dim, length);
    name[length] = 0;
    int64_t n = strcmp(name, dim) != 0 ? size_of(j, name) : 0;
    if (*p == '*') {
        char *end;
        n *= strtoll(p + 1, &end, 10);
        p = end;
    }
    return *p ? n + strtoll(p, NULL, 10) : n;
}

static int make_tensors(cli_job *j, cli_args *a)
{
    int n = qn_kernel_args(j->signature);
    for (int t = 0; t < n; t++) {
        const qn_arg_info *info = qn_kernel_arg(j->signature, t);
        cli_tensor *x = &j->tensors[t];
        j->list[t] = &x->t;
        if (x->present) {
            continue;
        }
        x->t.dtype = info->dtype;
        x->t.ndim = info->ndim;
        for (int d = 0; d < info->ndim; d++) {
            x->shape[d] = size_of(j, info->dims[d]);
        }
        int64_t lo = 0, hi = 0;
        bool integers = info->dtype.code != kDLFloat && info->dtype.code != kDLBfloat;
        int sample = qn_kernel_sample(j->signature, t, &lo, &hi);
        if (info->kind != QN_ARG_OUT && integers && !sample) {
            fprintf(stderr,
                    "%s: integers cannot be made up; give %s=FILE.npy, or a sample in its "
                    "declaration\n",
                    info->name, info->name);
            return CLI_USER;
        }
        if (!allocate(x)) {
            return cli_fail(j, QN_E_MEMORY, NULL);
        }
        if (info->kind != QN_ARG_OUT && integers) {
            fill_integers(x, sample == 2, lo, sample == 2 ? size_of(j, "Nk") : hi,
                          (uint64_t)a->seed * 1000003u + (uint64_t)t);
        } else if (info->kind != QN_ARG_OUT) {
            fill(x, (uint64_t)a->seed * 1000003u + (uint64_t)t);
        }
    }
    j->call.args = j->list;
    j->call.nargs = n;
    return CLI_GOOD;
}

static int bind_params(cli_job *j, cli_args *a)
{
    int n = qn_kernel_params(j->signature);
    for (int s = 0; s < n; s++) {
        j->params[s] = qn_kernel_param_default(j->signature, s);
        cli_pair *p = find(a, qn_kernel_param(j->signature, s));
        if (!p) {
            continue;
        }
        p->used = true;
        char *end;
        if (j->params[s].dtype.code == kDLFloat) {
            j->params[s].u.f = strtod(p->value, &end);
        } else {
            j->params[s].u.i = strtoll(p->value, &end, 10);
        }
        if (!*p->value || *end) {
            fprintf(stderr, "parameter %s: expected a number, found %s\n", p->name, p->value);
            return CLI_USER;
        }
    }
    j->call.params = n ? j->params : NULL;
    j->call.nparams = n;
    return CLI_GOOD;
}

static int unknown_names(const cli_job *j, const cli_args *a)
{
    for (int k = 0; k < a->npairs; k++) {
        if (!a->pairs[k].used) {
            fprintf(stderr, "%s: the kernel has no size, parameter or tensor of that name; it has",
                    a->pairs[k].name);
            for (int d = 0; d < qn_kernel_dims(j->signature); d++) {
                fprintf(stderr, " %s", qn_kernel_dim(j->signature, d));
            }
            for (int s = 0; s < qn_kernel_params(j->signature); s++) {
                fprintf(stderr, " %s", qn_kernel_param(j->signature, s));
            }
            for (int t = 0; t < qn_kernel_args(j->signature); t++) {
                fprintf(stderr, " %s", qn_kernel_arg(j->signature, t)->name);
            }
            fputs("\n", stderr);
            return CLI_USER;
        }
    }
    for (int k = 0; k < a->nouts; k++) {
        if (qn_kernel_arg_index(j->signature, a->outs[k].name) < 0) {
            fprintf(stderr, "-o %s: the kernel has no output of that name\n", a->outs[k].name);
            return CLI_USER;
        }
    }
    return CLI_GOOD;
}

int job_open(cli_job *j, cli_args *a)
{
    memset(j, 0, sizeof *j);
    j->cx = qn_ctx_create(NULL);
    if (!j->cx) {
        return cli_fail(j, QN_E_MEMORY, NULL);
    }
    j->source = qn_file(a->source);
    j->options = (qn_options){.size = sizeof j->options,
                              .target = a->target,
                              .types = a->types,
                              .schedule = a->schedule_text,
                              .errors = a->errors,
                              .flags = (a->reparse ? (uint32_t)QN_COMPILE_REPARSE : 0u) |
                                       (a->trust ? (uint32_t)QN_COMPILE_TRUST : 0u)};
    j->call.size = sizeof j->call;
    j->call.message = j->message;
    j->call.message_bytes = sizeof j->message;
    qn_status s = qn_signature(j->cx, j->source, &j->options, &j->signature);
    if (s != QN_OK) {
        return cli_fail(j, s, NULL);
    }
    int bad = load_tensors(j, a);
    bad = bad ? bad : bind_sizes(j, a);
    bad = bad ? bad : bind_params(j, a);
    bad = bad ? bad : unknown_names(j, a);
    bad = bad ? bad : make_tensors(j, a);
    if (!bad && a->threads != 1) {
        j->pool = qn_pool_create(a->threads);
        j->call.pool = j->pool;
    }
    return bad;
}

int job_compile(cli_job *j)
{
    qn_status s = qn_compile(j->cx, j->source, &j->options, &j->kernel);
    if (s != QN_OK) {
        return cli_fail(j, s, NULL);
    }
    size_t bytes = 0;
    s = qn_workspace(j->kernel, &j->call, &bytes);
    if (s != QN_OK) {
        return cli_fail(j, s, j->message);
    }
    j->workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!j->workspace) {
        return cli_fail(j, QN_E_MEMORY, NULL);
    }
    j->call.workspace = j->workspace;
    j->call.workspace_bytes = bytes;
    return CLI_GOOD;
}

void job_close(cli_job *j)
{
    for (int t = 0; t < CLI_MAX; t++) {
        free(j->tensors[t].t.data);
    }
    free(j->workspace);
    qn_pool_destroy(j->pool);
    qn_kernel_destroy(j->kernel);
    qn_kernel_destroy(j->signature);
    qn_ctx_destroy(j->cx);
}
