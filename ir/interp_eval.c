/* SPDX-License-Identifier: MIT
 *
 * Expressions of the oracle. An op is evaluated in chunks: each operand is brought into the order
 * of the result's axes, a few hundred elements at a time, so that the ops themselves are plain
 * loops over contiguous numbers. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- literals and types */

qn_val *qn_interp_settle(qn_interp_run *in, qn_val *v, qn_dtype t)
{
    if (v->dtype == t) {
        return v;
    }
    bool from_int = !v->f, to_int = !qn_dtype_is_float(t);
    if (from_int != to_int) {
        qn_interp_fail(in, "V-TYPE", "%s where %s is wanted", qn_dtype_name(v->dtype),
                       qn_dtype_name(t));
    }
    qn_val *s = qn_val_copy(in, &in->temp, v);
    s->dtype = t;
    if (from_int || (v->dtype != QN_FLT_LIT && in->bounds)) {
        return s;
    }
    if (in->bounds && !s->e) {
        s->e = qn_stack_take(in, &in->temp, s->count, sizeof *s->e);
        memset(s->e, 0, sizeof *s->e * (size_t)s->count);
    }
    for (int64_t k = 0; k < s->count; k++) {
        double r = qn_round_float(t, s->f[k]);
        if (in->typed) {
            s->f[k] = r;
        } else if (r != s->f[k] && !isnan(r)) {
            s->e[k] += fabs(r - s->f[k]);
        }
    }
    return s;
}

static qn_dtype join(qn_interp_run *in, qn_val **args, int from, int to)
{
    qn_dtype t = args[from]->dtype;
    for (int k = from + 1; k < to; k++) {
        t = qn_dtype_join(t, args[k]->dtype);
    }
    if (t == QN_NO_TYPE) {
        qn_interp_fail(in, "V-TYPE", "operands of different dtypes");
    }
    return t;
}

/* ---------------------------------------------------------------- pointwise ops */

/* One operand of a chunked op. */
typedef struct operand {
    const qn_val *v;
    qn_walker w;
    bool once; /* a scalar: its buffers are filled */
} operand;

static void fill(double *to, double x, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        to[k] = x;
    }
}

static void fetch(qn_interp_run *in, operand *o, int a, int64_t at, qn_lanes *c)
{
    const qn_val *v = o->v;
    if (o->w.dense) {
        c->f[a] = v->f ? v->f + at : NULL;
        c->i[a] = v->i ? v->i + at : NULL;
        c->e[a] = v->e ? v->e + at : in->zeros;
        return;
    }
    if (o->once) {
        return;
    }
    c->f[a] = v->f ? in->chunk_f[a] : NULL;
    c->i[a] = v->i ? in->chunk_i[a] : NULL;
    c->e[a] = v->e && c->re ? in->chunk_e[a] : in->zeros;
    if (v->count == 1) {
        int64_t n = QN_CHUNK;
        if (v->f) {
            fill(in->chunk_f[a], v->f[0], n);
        } else {
            for (int64_t k = 0; k < n; k++) {
                in->chunk_i[a][k] = v->i[0];
            }
        }
        if (v->e && c->re) {
            fill(in->chunk_e[a], v->e[0], n);
        }
        o->once = true;
        return;
    }
    if (v->f) {
        qn_walker_copy(&o->w, in->chunk_f[a], v->f, c->n);
    } else {
        qn_walker_copy(&o->w, in->chunk_i[a], v->i, c->n);
    }
    if (v->e && c->re) {
        qn_walker_copy(&o->w, in->chunk_e[a], v->e, c->n);
    }
    qn_walker_skip(&o->w, c->n);
}

static void round_all(qn_dtype t, double *f, int64_t n)
{
    if (t == QN_F32) {
        for (int64_t k = 0; k < n; k++) {
            f[k] = (double)(float)f[k];
        }
    } else if (t == QN_F16 || t == QN_BF16) {
        for (int64_t k = 0; k < n; k++) {
            f[k] = qn_round_float(t, f[k]);
        }
    }
}

qn_val *qn_interp_op(qn_interp_run *in, qn_op op, qn_dtype cast, qn_val **args, int n)
{
    char rule = qn_op_info_of(op)->rule;
    qn_dtype t = rule == 'S' ? join(in, args, 1, n) : join(in, args, 0, n);
    if (n > 3 || n != qn_op_info_of(op)->arity) {
        qn_interp_fail(in, "V-OP", "%s with %d operands", qn_op_info_of(op)->text, n);
    }
    bool wrong = (rule == 'F' && !qn_dtype_is_float(t)) || (rule == 'I' && !qn_dtype_is_int(t)) ||
                 (rule == 'B' && t != QN_BOOL) || (rule == 'N' && t == QN_BOOL) ||
                 (rule == 'S' && args[0]->dtype != QN_BOOL);
    if (wrong) {
        qn_interp_fail(in, "V-TYPE", "%s of %s", qn_op_info_of(op)->text, qn_dtype_name(t));
    }
    for (int k = rule == 'S' ? 1 : 0; k < n && rule != 'K'; k++) {
        args[k] = qn_interp_settle(in, args[k], t);
    }
    qn_dtype result = rule == 'K' ? cast : rule == 'C' ? QN_BOOL : t;

    qn_val shape;
    qn_val_union(in, (const qn_val *const *)args, n, true, &shape);
    qn_val *r = qn_val_new(in, &in->temp, result, shape.rank, shape.axis, shape.n);
    qn_interp_burn(in, r->count);

    bool inexact = false;
    operand o[3];
    for (int k = 0; k < n; k++) {
        o[k].v = args[k];
        o[k].once = false;
        qn_walker_init(&o[k].w, args[k], r->rank, r->axis, r->n);
        inexact = inexact || args[k]->e;
    }
    if (!inexact && !r->f) {
        r->e = NULL;
    }
    qn_lanes c = {.dtype = t, .result = result, .bounds = in->bounds};
    qn_lanes_format(&c);
    for (int64_t at = 0; at < r->count; at += QN_CHUNK) {
        c.n = r->count - at < QN_CHUNK ? r->count - at : QN_CHUNK;
        c.rf = r->f ? r->f + at : NULL;
        c.ri = r->i ? r->i + at : NULL;
        c.re = r->e ? r->e + at : NULL;
        for (int k = 0; k < n; k++) {
            fetch(in, &o[k], k, at, &c);
        }
        if (!qn_lanes_run(op, &c)) {
            qn_interp_fail(in, "V-OP", "%s of %s", qn_op_info_of(op)->text, qn_dtype_name(t));
        }
        if (c.fault) {
            qn_interp_fail(in, "V-ARITH", "%s", c.fault);
        }
    }
    if (r->f && in->typed) {
        round_all(result, r->f, r->count);
    }
    qn_val_trim(r);
    return r;
}

/* ---------------------------------------------------------------- other expressions */

int64_t qn_interp_extent(qn_interp_run *in, qn_extent e)
{
    int64_t n = e.n;
    if (e.dim) {
        const qn_val *v = qn_interp_slot(in, e.dim)->val;
        if (!v || !v->i) {
            qn_interp_fail(in, "V-ARG", "dim %s has no value", e.dim);
        }
        n = v->i[0];
    }
    if (n < 0) {
        qn_interp_fail(in, "V-ARG", "extent %s is %lld", e.dim ? e.dim : "", (long long)n);
    }
    return n;
}

static qn_val *literal(qn_interp_run *in, const qn_expr *x)
{
    if (x->u.lit.type == QN_FLT_LIT) {
        return qn_val_float(in, &in->temp, QN_FLT_LIT, x->u.lit.f);
    }
    qn_val *v = qn_val_int(in, &in->temp, x->u.lit.i);
    v->dtype = x->u.lit.type;
    return v;
}

static qn_val *iota(qn_interp_run *in, const qn_expr *x)
{
    int64_t n = qn_interp_extent(in, x->u.iota.extent);
    qn_val *v = qn_val_new(in, &in->temp, QN_I64, 1, &x->u.iota.name, &n);
    for (int64_t k = 0; k < n; k++) {
        v->i[k] = k;
    }
    v->e = NULL;
    return v;
}

static qn_val *rename_axes(qn_interp_run *in, const qn_expr *x)
{
    const qn_val *from = qn_interp_eval(in, x->u.as.x);
    qn_val *v = qn_stack_take(in, &in->temp, 1, sizeof *v);
    *v = *from;
    for (int a = 0; a < v->rank; a++) {
        for (int k = 0; k < x->u.as.npairs; k++) {
            if (from->axis[a] == x->u.as.pairs[k].from) {
                v->axis[a] = x->u.as.pairs[k].to;
            }
        }
    }
    for (int a = 0; a < v->rank; a++) {
        if (qn_val_axis(v, v->axis[a]) != a) {
            qn_interp_fail(in, "V-AXIS", "axis %s twice in one value", v->axis[a]);
        }
    }
    return v;
}

static bool all_finite(const qn_val *v)
{
    for (int64_t k = 0; k < v->count; k++) {
        if (!isfinite(v->f[k]) || (v->e && !isfinite(v->e[k]))) {
            return false;
        }
    }
    return true;
}

static bool has_axes(const qn_val *v, const qn_sym *over, int nover)
{
    for (int k = 0; k < nover; k++) {
        if (qn_val_axis(v, over[k]) < 0) {
            return false;
        }
    }
    return true;
}

/* A sum of a fold is reduce.sum(weight * select(keep, v, 0)). The weight is 0 outside keep, so for
 * finite v this is the contraction of weight and v: the product of all axes need not be made.
 * NULL: not of that form. */
static qn_val *fold_sum(qn_interp_run *in, const qn_expr *x, const qn_expr *keep)
{
    if (x->kind != QN_AXOP || x->u.axop.op != QN_AX_REDUCE_SUM) {
        return NULL;
    }
    const qn_expr *product = x->u.axop.args.at[0];
    if (product->kind != QN_OP || product->u.op.op != QN_OP_MUL) {
        return NULL;
    }
    const qn_expr *term = product->u.op.args.at[1];
    if (keep) {
        if (term->kind != QN_OP || term->u.op.op != QN_OP_SELECT) {
            return NULL;
        }
        term = term->u.op.args.at[1];
    }
    if (term->kind == QN_LIT) {
        return NULL;
    }
    qn_val *weight = qn_interp_eval(in, product->u.op.args.at[0]);
    qn_val *v = qn_interp_eval(in, term);
    const qn_sym *over = x->u.axop.over;
    int nover = x->u.axop.nover;
    if (!weight->f || !v->f || !has_axes(weight, over, nover) || !has_axes(v, over, nover) ||
        !all_finite(v)) {
        return NULL;
    }
    return qn_interp_sum_of_product(in, over, nover, weight, v);
}

/* The names of a fold's meaning may be in use by the fold around it, so they are put back. */
static int fold(qn_interp_run *in, const qn_expr *x, qn_val **out)
{
    qn_slot *s = qn_interp_slot(in, x);
    const qn_fold_meaning *m = s->fold;
    if (!m) {
        qn_norm *norm = qn_file_norm(in->file, x->u.fold.norm);
        qn_fold_meaning *fresh = QN_NEW(&in->arena, qn_fold_meaning);
        if (!norm || !qn_fold_expand(in->ir, norm, x, fresh)) {
            qn_interp_fail(in, "V-NAME", "no norm %s", x->u.fold.norm);
        }
        s->fold = m = fresh;
    }
    if (m->nouts > QN_MAX_AXES) {
        qn_interp_fail(in, "V-NORM", "%s has %d results", x->u.fold.norm, m->nouts);
    }
    qn_val **old = qn_stack_take(in, &in->temp, m->nlets, sizeof *old);
    for (int k = 0; k < m->nlets; k++) {
        old[k] = qn_interp_slot(in, m->lets[k].name)->val;
    }
    for (int k = 0; k < m->nlets; k++) {
        qn_val *v = fold_sum(in, m->lets[k].x, x->u.fold.where);
        v = v ? v : qn_interp_eval(in, m->lets[k].x);
        v = qn_interp_settle(in, v, qn_dtype_settle(v->dtype));
        qn_interp_slot(in, m->lets[k].name)->val = v;
    }
    for (int k = 0; k < m->nouts; k++) {
        out[k] = qn_interp_eval(in, m->outs[k]);
    }
    for (int k = 0; k < m->nlets; k++) {
        qn_interp_slot(in, m->lets[k].name)->val = old[k];
    }
    return m->nouts;
}

static qn_val *named(qn_interp_run *in, qn_sym name)
{
    qn_val *v = qn_interp_slot(in, name)->val;
    if (!v) {
        qn_interp_fail(in, "V-NAME", "%s has no value here", name);
    }
    return v;
}

static qn_val *operation(qn_interp_run *in, const qn_expr *x)
{
    qn_val *args[3] = {NULL, NULL, NULL};
    int n = x->u.op.args.count;
    if (n < 1 || n > 3) {
        qn_interp_fail(in, "V-OP", "%s with %d operands", qn_op_info_of(x->u.op.op)->text, n);
    }
    for (int k = 0; k < n; k++) {
        args[k] = qn_interp_eval(in, x->u.op.args.at[k]);
    }
    return qn_interp_op(in, x->u.op.op, x->u.op.cast, args, n);
}

int qn_interp_results(qn_interp_run *in, const qn_expr *x, qn_val **out)
{
    if (++in->depth > QN_DEEPEST) {
        qn_interp_fail(in, "V-FUEL", "expressions or blocks nested too deeply");
    }
    int count = 1;
    if (x->kind == QN_FOLD) {
        count = fold(in, x, out);
    } else if (x->kind == QN_AXOP) {
        qn_val *args[2] = {NULL, NULL};
        for (int k = 0; k < x->u.axop.args.count && k < 2; k++) {
            args[k] = qn_interp_eval(in, x->u.axop.args.at[k]);
        }
        count = qn_interp_axop(in, x, args, out);
    } else {
        out[0] = x->kind == QN_LIT    ? literal(in, x)
                 : x->kind == QN_NAME ? named(in, x->u.name)
                 : x->kind == QN_IOTA ? iota(in, x)
                 : x->kind == QN_LOAD ? qn_interp_load(in, x)
                 : x->kind == QN_AS   ? rename_axes(in, x)
                                      : operation(in, x);
    }
    in->depth--;
    return count;
}

qn_val *qn_interp_eval(qn_interp_run *in, const qn_expr *x)
{
    qn_val *out[QN_MAX_AXES];
    if (qn_interp_results(in, x, out) != 1) {
        qn_interp_fail(in, "V-NAME", "one result is wanted here");
    }
    return out[0];
}

int64_t qn_interp_int(qn_interp_run *in, const qn_expr *x)
{
    qn_stack_mark m = qn_stack_at(in, &in->temp);
    const qn_val *v = qn_interp_eval(in, x);
    if (v->rank != 0 || !v->i) {
        qn_interp_fail(in, "V-LOOP", "an integer scalar is wanted here");
    }
    if (v->e && v->e[0] > 0) {
        in->lost = true;
    }
    int64_t r = v->i[0];
    qn_stack_release(&in->temp, m);
    return r;
}
