/* SPDX-License-Identifier: MIT
 *
 * A call of the oracle: binds dims from shapes, checks arguments and requirements, runs the body,
 * hands out the results. See interp_internal.h for how the rest is divided. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

void qn_interp_fail(qn_interp_run *in, const char *rule, const char *format, ...)
{
    if (in->diags) {
        va_list args;
        va_start(args, format);
        qn_buf b = qn_buf_of(in->diags->arena);
        qn_buf_vprintf(&b, format, args);
        va_end(args);
        qn_diag_add(in->diags, QN_ERROR, rule, in->place, "%s", b.text);
    }
    longjmp(in->broken, 1);
}

void qn_interp_burn(qn_interp_run *in, int64_t n)
{
    in->elements += (uint64_t)n;
    if (in->options->fuel && in->elements > in->options->fuel) {
        qn_interp_fail(in, "V-FUEL", "more than %llu elements are evaluated",
                       (unsigned long long)in->options->fuel);
    }
}

/* The state of a run is large and comes from the caller's allocator alone, so that many runs over
 * one arena leave nothing behind but their results. */
static qn_interp_run *start(qn_ir *ir, const qn_ir_file *f, const qn_interp_options *options,
                            qn_diags *d)
{
    const qn_alloc *alloc = &ir->arena->alloc;
    qn_interp_run *in = alloc->realloc_fn(alloc->user, NULL, 0, sizeof *in);
    if (!in) {
        longjmp(*ir->arena->oom, 1);
    }
    memset(in, 0, sizeof *in);
    in->ir = ir;
    in->file = f;
    in->options = options;
    in->diags = d;
    in->typed = options->mode == QN_TYPED;
    in->bounds = !in->typed;
    in->task = QN_NO_TASK;
    qn_arena_init(&in->arena, alloc, &in->oom);
    /* When the caller's arena runs out (results, names, messages), the run's memory must be given
     * back too; so both come to in->oom first. */
    in->outer = ir->arena->oom;
    ir->arena->oom = &in->oom;
    return in;
}

static void finish(qn_interp_run *in)
{
    qn_arena *home = in->ir->arena;
    home->oom = in->outer;
    qn_arena_fini(&in->arena);
    home->alloc.realloc_fn(home->alloc.user, in, sizeof *in, 0);
}

/* ---------------------------------------------------------------- arguments */

static const qn_array *given(const qn_arg *args, int nargs, qn_sym name)
{
    for (int k = 0; k < nargs; k++) {
        if (strcmp(args[k].name, name) == 0) {
            return &args[k].array;
        }
    }
    return NULL;
}

static void bind_dim(qn_interp_run *in, qn_sym dim, int64_t n, const char *where)
{
    qn_slot *s = qn_interp_slot(in, dim);
    if (!s->val) {
        s->val = qn_val_int(in, &in->keep, n);
    } else if (s->val->i[0] != n) {
        qn_interp_fail(in, "V-ARG", "%s is %lld by %s and %lld before", dim, (long long)n, where,
                       (long long)s->val->i[0]);
    }
}

static void bind_dims(qn_interp_run *in, const qn_kernel_ir *k, const qn_arg *args, int nargs)
{
    for (int d = 0; d < k->dims.count; d++) {
        const qn_dim *dim = &k->dims.at[d];
        const qn_array *a = given(args, nargs, dim->name);
        in->place = dim->place;
        if (a && (a->rank != 0 || !a->i)) {
            qn_interp_fail(in, "V-ARG", "dim %s wants an integer", dim->name);
        }
        if (a && !dim->value) {
            bind_dim(in, dim->name, a->i[0], "the call");
        }
    }
    for (int p = 0; p < k->params.count; p++) {
        const qn_param *param = &k->params.at[p];
        const qn_array *a = given(args, nargs, param->name);
        in->place = param->place;
        if (a && a->rank != param->type.rank) {
            qn_interp_fail(in, "V-ARG", "%s has rank %d and wants %d", param->name, a->rank,
                           param->type.rank);
        }
        if (!a) {
            continue; /* refused later if it must be given */
        }
        for (int x = 0; x < a->rank; x++) {
            qn_sym dim = param->type.axes[x].extent.dim;
            bool derived = false;
            for (int d = 0; d < k->dims.count; d++) {
                derived = derived || (k->dims.at[d].name == dim && k->dims.at[d].value);
            }
            if (dim && !derived) {
                bind_dim(in, dim, a->shape[x], param->name);
            }
        }
    }
    for (int d = 0; d < k->dims.count; d++) {
        const qn_dim *dim = &k->dims.at[d];
        in->place = dim->place;
        if (dim->value) {
            int64_t n = qn_interp_int(in, dim->value);
            const qn_array *a = given(args, nargs, dim->name);
            if (a && a->i[0] != n) {
                qn_interp_fail(in, "V-ARG", "dim %s is %lld and is given as %lld", dim->name,
                               (long long)n, (long long)a->i[0]);
            }
            qn_interp_slot(in, dim->name)->val = qn_val_int(in, &in->keep, n);
        } else if (!qn_interp_slot(in, dim->name)->val) {
            qn_interp_fail(in, "V-ARG", "dim %s is in no shape and is not given", dim->name);
        }
    }
}

/* Does the array hold the kind of numbers that the dtype needs, and any at all? */
static void check_numbers(qn_interp_run *in, const qn_param *p, const qn_array *a, int64_t count)
{
    bool floats = qn_dtype_is_float(p->type.dtype);
    if (count > 0 && (floats ? !a->f : !a->i)) {
        qn_interp_fail(in, "V-ARG", "%s wants %s", p->name, qn_dtype_name(p->type.dtype));
    }
}

static void take_numbers(qn_interp_run *in, qn_mem *m, const qn_array *a)
{
    for (int64_t k = 0; k < m->count; k++) {
        if (m->f) {
            m->f[k] = in->typed ? qn_round_float(m->dtype, a->f[k]) : a->f[k];
        } else {
            m->i[k] = qn_wrap_int(m->dtype, a->i[k]);
        }
    }
    if (m->e && m->f && a->bound) {
        memcpy(m->e, a->bound, sizeof *m->e * (size_t)m->count);
    } else if (m->e) {
        memset(m->e, 0, sizeof *m->e * (size_t)m->count);
    }
}

static void bind_scalar(qn_interp_run *in, const qn_param *p, const qn_array *a)
{
    qn_val *v;
    qn_dtype t = p->type.dtype;
    if (p->direction != QN_IN) {
        qn_interp_fail(in, "V-RANK", "%s is written and has no axes", p->name);
    }
    if (!a && p->value) {
        qn_stack_mark temp = qn_stack_at(in, &in->temp);
        v = qn_interp_eval(in, p->value);
        if (v->rank != 0 || v->dtype == QN_NO_TYPE) {
            qn_interp_fail(in, "V-TYPE", "the default of %s is no scalar", p->name);
        }
        v = qn_val_copy(in, &in->keep, qn_interp_settle(in, v, t));
        qn_stack_release(&in->temp, temp);
    } else {
        if (!a) {
            qn_interp_fail(in, "V-ARG", "%s is not given", p->name);
        }
        check_numbers(in, p, a, 1);
        if (qn_dtype_is_float(t)) {
            v = qn_val_float(in, &in->keep, t, in->typed ? qn_round_float(t, a->f[0]) : a->f[0]);
            if (in->bounds && a->bound) {
                v->e = qn_stack_take(in, &in->keep, 1, sizeof *v->e);
                v->e[0] = a->bound[0];
            }
        } else {
            v = qn_val_int(in, &in->keep, qn_wrap_int(t, a->i[0]));
            v->dtype = t;
        }
    }
    qn_interp_slot(in, p->name)->val = v;
}

static void bind_tensor(qn_interp_run *in, const qn_param *p, const qn_array *a)
{
    int64_t shape[QN_MAX_AXES];
    for (int k = 0; k < p->type.rank; k++) {
        shape[k] = qn_interp_extent(in, p->type.axes[k].extent);
    }
    if (!a && p->direction != QN_OUT) {
        qn_interp_fail(in, "V-ARG", "%s is not given", p->name);
    }
    for (int k = 0; a && k < a->rank; k++) {
        if (a->shape[k] != shape[k]) {
            qn_interp_fail(in, "V-ARG", "%s has extent %lld at %s and wants %lld", p->name,
                           (long long)a->shape[k], p->type.axes[k].name, (long long)shape[k]);
        }
    }
    qn_mem *m = qn_mem_new(in, &in->keep, p->name, p->type.dtype, p->type.rank, shape);
    if (p->direction == QN_OUT) {
        qn_mem_undefined(in, m);
    } else {
        check_numbers(in, p, a, m->count);
        take_numbers(in, m, a);
        if (!m->f || !a->bound) {
            m->e = p->direction == QN_IN ? NULL : m->e; /* exact, and stays so */
        }
    }
    if (p->direction != QN_IN) {
        qn_mem_share(in, m);
    }
    qn_interp_slot(in, p->name)->mem = m;
}

static void refuse_strangers(qn_interp_run *in, const qn_kernel_ir *k, const qn_arg *args,
                             int nargs)
{
    for (int a = 0; a < nargs; a++) {
        bool known = false;
        for (int d = 0; d < k->dims.count; d++) {
            known = known || strcmp(k->dims.at[d].name, args[a].name) == 0;
        }
        for (int p = 0; p < k->params.count; p++) {
            known = known || strcmp(k->params.at[p].name, args[a].name) == 0;
        }
        if (!known) {
            qn_interp_fail(in, "V-ARG", "%s has no dim or parameter %s", k->name, args[a].name);
        }
    }
}

/* ---------------------------------------------------------------- the call */

static void hand_out(qn_interp_run *in, const qn_kernel_ir *k, qn_interp_result *out)
{
    qn_arena *a = in->ir->arena;
    out->outs = QN_NEWN(a, qn_arg, k->params.count + 1);
    out->nouts = 0;
    for (int p = 0; p < k->params.count; p++) {
        if (k->params.at[p].direction == QN_IN) {
            continue;
        }
        const qn_mem *m = qn_interp_slot(in, k->params.at[p].name)->mem;
        qn_array x = {.dtype = m->dtype, .rank = m->rank};
        memcpy(x.shape, m->shape, sizeof x.shape);
        size_t n = (size_t)(m->count ? m->count : 1);
        if (m->f) {
            x.f = QN_NEWN(a, double, n);
            memcpy(x.f, m->f, sizeof *x.f * (size_t)m->count);
        } else {
            x.i = QN_NEWN(a, int64_t, n);
            memcpy(x.i, m->i, sizeof *x.i * (size_t)m->count);
        }
        if (in->bounds) {
            x.bound = QN_NEWN(a, double, n);
            for (int64_t j = 0; j < m->count; j++) {
                x.bound[j] = in->lost || m->lost ? INFINITY : m->e ? m->e[j] : 0;
            }
        }
        out->outs[out->nouts++] = (qn_arg){k->params.at[p].name, x};
    }
    out->flag = in->flag;
    out->elements = in->elements;
}

static void call(qn_interp_run *in, const qn_kernel_ir *k, const qn_arg *args, int nargs,
                 qn_interp_result *out)
{
    in->place = k->place;
    refuse_strangers(in, k, args, nargs);
    bind_dims(in, k, args, nargs);
    for (int p = 0; p < k->params.count; p++) {
        const qn_param *param = &k->params.at[p];
        const qn_array *a = given(args, nargs, param->name);
        in->place = param->place;
        if (param->type.rank == 0) {
            bind_scalar(in, param, a);
        } else {
            bind_tensor(in, param, a);
        }
    }
    for (int r = 0; r < k->requires.count; r++) {
        in->place = k->requires.at[r].place;
        qn_stack_mark temp = qn_stack_at(in, &in->temp);
        const qn_val *v = qn_interp_eval(in, k->requires.at[r].cond);
        if (v->rank != 0 || !v->i || !v->i[0]) {
            qn_interp_fail(in, "V-REQ", "%s", k->requires.at[r].text);
        }
        qn_stack_release(&in->temp, temp);
    }
    qn_interp_block(in, &k->body);
    hand_out(in, k, out);
}

bool qn_interp(const qn_ir_file *f, const qn_kernel_ir *k, const qn_arg *args, int nargs,
               const qn_interp_options *options, qn_interp_result *out, qn_diags *d)
{
    *out = (qn_interp_result){0};
    qn_interp_run *in = start(f->ir, f, options, d);
    if (setjmp(in->oom)) {
        jmp_buf *outer = in->outer;
        finish(in);
        longjmp(*outer, 1);
    }
    volatile bool ok = false;
    if (setjmp(in->broken) == 0) {
        call(in, k, args, nargs, out);
        ok = true;
    }
    finish(in);
    return ok;
}

bool qn_interp_scalar(qn_ir *ir, const qn_expr *x, const qn_arg *args, int nargs, double *f,
                      int64_t *i)
{
    qn_ir_file file = {.ir = ir};
    qn_interp_options options = {.mode = QN_EXACT, .fuel = 1 << 20, .max_bytes = 1 << 26};
    qn_interp_run *in = start(ir, &file, &options, NULL);
    if (setjmp(in->oom)) {
        jmp_buf *outer = in->outer;
        finish(in);
        longjmp(*outer, 1);
    }
    volatile bool ok = false;
    if (setjmp(in->broken) == 0) {
        for (int k = 0; k < nargs; k++) {
            const qn_array *a = &args[k].array;
            if (a->rank == 0 && (a->f || a->i)) {
                qn_val *v = a->f ? qn_val_float(in, &in->keep, a->dtype, a->f[0])
                                 : qn_val_int(in, &in->keep, a->i[0]);
                v->dtype = a->dtype;
                qn_interp_slot(in, qn_intern(ir, args[k].name))->val = v;
            }
        }
        const qn_val *v = qn_interp_eval(in, x);
        if (v->rank == 0) {
            ok = true;
            *f = v->f ? v->f[0] : (double)v->i[0];
            *i = v->i ? v->i[0] : 0;
        }
    }
    finish(in);
    return ok;
}
