/* SPDX-License-Identifier: MIT
 *
 * The ops over axes. Operands are first brought into rows: the axes that stay outside, those that
 * go innermost and contiguous; then each op is a loop over rows. Sums are in double; their error
 * bound is that of an accumulator of the declared dtype (at least f32) in any order. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

/* Axes of v that are, or are not, among `over`. */
static void choose(const qn_val *v, const qn_sym *over, int nover, bool among, qn_val *to)
{
    for (int a = 0; a < v->rank; a++) {
        bool is = false;
        for (int k = 0; k < nover; k++) {
            is = is || v->axis[a] == over[k];
        }
        if (is == among && qn_val_axis(to, v->axis[a]) < 0) {
            to->axis[to->rank] = v->axis[a];
            to->n[to->rank++] = v->n[a];
        }
    }
}

static int64_t volume(const qn_val *v, int from, int to)
{
    int64_t n = 1;
    for (int k = from; k < to; k++) {
        n *= v->n[k];
    }
    return n;
}

typedef struct rows {
    qn_val shape; /* axes that stay, then those that go */
    int kept;     /* how many stay */
    int64_t count, length;
    const qn_val *v; /* in that order */
} rows;

static rows rows_of(qn_interp_run *in, const qn_val *v, const qn_sym *over, int nover)
{
    rows r;
    r.shape.rank = 0;
    choose(v, over, nover, false, &r.shape);
    r.kept = r.shape.rank;
    choose(v, over, nover, true, &r.shape);
    if (r.shape.rank - r.kept != nover) {
        qn_interp_fail(in, "V-AXIS", "an axis to work over is not there");
    }
    r.count = volume(&r.shape, 0, r.kept);
    r.length = volume(&r.shape, r.kept, r.shape.rank);
    r.v = qn_val_spread(in, v, r.shape.rank, r.shape.axis, r.shape.n);
    qn_interp_burn(in, v->count);
    return r;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* ---------------------------------------------------------------- reduce */

/* Greatest of a row and the bound of it: any element that may win has a say. */
static void extreme(const double *f, const double *e, int64_t n, double sign, double *r, double *re)
{
    double best = -INFINITY, sure = -INFINITY, bound = 0;
    int64_t nans = 0;
    for (int64_t k = 0; k < n; k++) {
        double x = sign * f[k];
        nans += isnan(x);
        best = x > best ? x : best;
    }
    if (nans == n && n > 0) {
        best = NAN;
    }
    *r = sign * best;
    if (!re) {
        return;
    }
    if (nans > 0) {
        bound = nans < n ? INFINITY : 0;
        for (int64_t k = 0; e && k < n; k++) {
            bound = larger(bound, e[k]);
        }
    } else if (e) {
        for (int64_t k = 0; k < n; k++) {
            sure = larger(sure, sign * f[k] - (e[k] > 0 ? e[k] : 0));
        }
        for (int64_t k = 0; k < n; k++) {
            if (e[k] > 0 && !(sign * f[k] + e[k] < sure)) {
                bound = larger(bound, e[k]);
            }
        }
    }
    *re = bound;
}

static int64_t arg_extreme(const double *f, const double *e, int64_t n, double sign, double *re)
{
    int64_t at = -1;
    double best = -INFINITY;
    for (int64_t k = 0; k < n; k++) {
        double x = sign * f[k];
        if (x > best) {
            best = x;
            at = k;
        }
    }
    double doubt = 0;
    for (int64_t k = 0; e && re && k < n; k++) {
        double x = sign * f[k], reach = e[k] + (at >= 0 ? e[at] : 0);
        if (k != at && reach > 0 && !(x + reach < best) && !(isinf(x) && reach < INFINITY)) {
            doubt = INFINITY;
        }
    }
    if (re) {
        *re = doubt;
    }
    return at;
}

/* The dtype in which a float reduction accumulates. */
static qn_dtype accumulator(qn_dtype t)
{
    return t == QN_F64 ? QN_F64 : QN_F32;
}

static void sum_row(const qn_lanes *c, qn_dtype t, const double *f, const double *e, int64_t n,
                    double *r, double *re)
{
    double s = 0, magnitude = 0, bound = 0;
    for (int64_t k = 0; k < n; k++) {
        s += f[k];
    }
    if (re) {
        for (int64_t k = 0; k < n; k++) {
            magnitude += fabs(f[k]);
            bound += e ? e[k] : 0;
        }
        double growth = n > 1 ? qn_sum_growth(n - 1) * qn_unit_roundoff(accumulator(t)) : 0;
        bound = isfinite(magnitude) ? bound + growth * magnitude : bound;
        *re = qn_lanes_seal(c, s, bound, accumulator(t) == t ? 0 : 1);
    }
    *r = s;
}

/* One more factor of a running product: value and bound. */
static void multiply_on(const qn_lanes *c, double x, double ex, double *p, double *ep)
{
    double e = fabs(*p) * ex + fabs(x) * *ep + ex * *ep;
    *p *= x;
    *ep = qn_lanes_seal(c, *p, isnan(e) ? INFINITY : e, 1);
}

static void prod_row(const qn_lanes *c, const double *f, const double *e, int64_t n, double *r,
                     double *re)
{
    double p = 1, bound = 0;
    for (int64_t k = 0; k < n; k++) {
        multiply_on(c, f[k], e ? e[k] : 0, &p, &bound);
    }
    *r = p;
    if (re) {
        *re = bound;
    }
}

static int64_t reduce_ints(qn_axop op, qn_dtype t, const int64_t *x, int64_t n)
{
    uint64_t r = op == QN_AX_REDUCE_PROD || op == QN_AX_REDUCE_ALL ? 1 : 0;
    int64_t best = op == QN_AX_REDUCE_MAX ? qn_least_int(t) : qn_greatest_int(t);
    for (int64_t k = 0; k < n; k++) {
        uint64_t u = (uint64_t)x[k];
        if (op == QN_AX_REDUCE_SUM) {
            r += u;
        } else if (op == QN_AX_REDUCE_PROD) {
            r *= u;
        } else if (op == QN_AX_REDUCE_ANY) {
            r = r || u;
        } else if (op == QN_AX_REDUCE_ALL) {
            r = r && u;
        } else if (op == QN_AX_REDUCE_MAX ? x[k] > best : x[k] < best) {
            best = x[k];
        }
    }
    bool extremes = op == QN_AX_REDUCE_MAX || op == QN_AX_REDUCE_MIN;
    return qn_wrap_int(t, extremes ? best : (int64_t)r);
}

static int64_t arg_ints(const int64_t *x, int64_t n, bool greatest)
{
    int64_t at = n > 0 ? 0 : -1;
    for (int64_t k = 1; k < n; k++) {
        if (greatest ? x[k] > x[at] : x[k] < x[at]) {
            at = k;
        }
    }
    return at;
}

/* Any doubt in a row of integers or bools, unless a sure element decides any or all. */
static double doubt_of(qn_axop op, const int64_t *x, const double *e, int64_t n)
{
    bool doubt = false;
    for (int64_t k = 0; k < n; k++) {
        bool decides = (op == QN_AX_REDUCE_ANY && x[k]) || (op == QN_AX_REDUCE_ALL && !x[k]);
        if (decides && e[k] == 0) {
            return 0;
        }
        doubt = doubt || e[k] > 0;
    }
    return doubt ? INFINITY : 0;
}

static qn_val *reduce(qn_interp_run *in, const qn_expr *x, qn_val *v)
{
    qn_axop op = x->u.axop.op;
    bool index = op == QN_AX_REDUCE_ARGMAX || op == QN_AX_REDUCE_ARGMIN;
    bool greatest = op == QN_AX_REDUCE_ARGMAX || op == QN_AX_REDUCE_MAX;
    v = qn_interp_settle(in, v, qn_dtype_settle(v->dtype));
    bool logical = op == QN_AX_REDUCE_ANY || op == QN_AX_REDUCE_ALL;
    if (logical != (v->dtype == QN_BOOL)) {
        qn_interp_fail(in, "V-TYPE", "%s of %s", qn_axop_text(op), qn_dtype_name(v->dtype));
    }
    rows q = rows_of(in, v, x->u.axop.over, x->u.axop.nover);
    qn_dtype t = index ? QN_I64 : v->dtype;
    qn_val *r = qn_val_new(in, &in->temp, t, q.kept, q.shape.axis, q.shape.n);
    qn_lanes c = {.result = v->f ? v->dtype : QN_F64};
    qn_lanes_format(&c);
    for (int64_t k = 0; k < q.count; k++) {
        const double *e = q.v->e ? q.v->e + k * q.length : NULL;
        double *re = r->e ? r->e + k : NULL;
        if (v->f) {
            const double *f = q.v->f + k * q.length;
            if (index) {
                r->i[k] = arg_extreme(f, e, q.length, greatest ? 1 : -1, re);
            } else if (op == QN_AX_REDUCE_SUM) {
                sum_row(&c, t, f, e, q.length, &r->f[k], re);
            } else if (op == QN_AX_REDUCE_PROD) {
                prod_row(&c, f, e, q.length, &r->f[k], re);
            } else {
                extreme(f, e, q.length, greatest ? 1 : -1, &r->f[k], re);
            }
            if (!index && in->typed) {
                r->f[k] = qn_round_float(t, r->f[k]);
            }
        } else {
            const int64_t *i = q.v->i + k * q.length;
            r->i[k] = index ? arg_ints(i, q.length, greatest) : reduce_ints(op, t, i, q.length);
            if (re) {
                *re = e ? doubt_of(op, i, e, q.length) : 0;
            }
        }
    }
    qn_val_trim(r);
    return r;
}

/* ---------------------------------------------------------------- scan */

static void scan_floats(const qn_lanes *c, qn_axop op, const double *f, const double *e, int64_t n,
                        double *r, double *re)
{
    double s = op == QN_AX_SCAN_PROD ? 1 : 0, bound = 0;
    for (int64_t k = 0; k < n; k++) {
        double x = f[k], ex = e ? e[k] : 0;
        if (op == QN_AX_SCAN_SUM) {
            s += x;
            bound = qn_lanes_seal(c, s, bound + ex, k > 0 ? 1 : 0);
        } else if (op == QN_AX_SCAN_PROD) {
            multiply_on(c, x, ex, &s, &bound);
        } else {
            double sign = op == QN_AX_SCAN_MAX ? 1 : -1;
            s = k == 0 || isnan(s) || sign * x > sign * s ? x : s;
            bound = k == 0 ? ex : larger(bound, ex);
        }
        r[k] = s;
        if (re) {
            re[k] = bound;
        }
    }
}

static void scan_ints(qn_axop op, qn_dtype t, const int64_t *x, int64_t n, int64_t *r)
{
    int64_t s = op == QN_AX_SCAN_PROD ? 1 : 0;
    for (int64_t k = 0; k < n; k++) {
        if (op == QN_AX_SCAN_SUM) {
            s = qn_wrap_int(t, (int64_t)((uint64_t)s + (uint64_t)x[k]));
        } else if (op == QN_AX_SCAN_PROD) {
            s = qn_wrap_int(t, (int64_t)((uint64_t)s * (uint64_t)x[k]));
        } else if (k == 0 || (op == QN_AX_SCAN_MAX ? x[k] > s : x[k] < s)) {
            s = x[k];
        }
        r[k] = s;
    }
}

static qn_val *scan(qn_interp_run *in, const qn_expr *x, qn_val *v)
{
    v = qn_interp_settle(in, v, qn_dtype_settle(v->dtype));
    if (v->dtype == QN_BOOL || x->u.axop.nover != 1) {
        qn_interp_fail(in, "V-TYPE", "%s of %s", qn_axop_text(x->u.axop.op),
                       qn_dtype_name(v->dtype));
    }
    rows q = rows_of(in, v, x->u.axop.over, 1);
    qn_val *r = qn_val_new(in, &in->temp, v->dtype, q.shape.rank, q.shape.axis, q.shape.n);
    qn_lanes c = {.result = v->dtype};
    qn_lanes_format(&c);
    for (int64_t k = 0; k < q.count; k++) {
        int64_t at = k * q.length;
        if (v->f) {
            scan_floats(&c, x->u.axop.op, q.v->f + at, q.v->e ? q.v->e + at : NULL, q.length,
                        r->f + at, r->e ? r->e + at : NULL);
            for (int64_t j = at; in->typed && j < at + q.length; j++) {
                r->f[j] = qn_round_float(r->dtype, r->f[j]);
            }
            continue;
        }
        scan_ints(x->u.axop.op, r->dtype, q.v->i + at, q.length, r->i + at);
        bool doubt = false;
        for (int64_t j = at; r->e && j < at + q.length; j++) {
            doubt = doubt || (q.v->e && q.v->e[j] > 0);
            r->e[j] = doubt ? INFINITY : 0;
        }
    }
    qn_val_trim(r);
    return r;
}

/* ---------------------------------------------------------------- topk */

/* Keeps the best `most` of a row, by value, ties to the lower index. */
static int64_t best_of(const double *f, const int64_t *i, int64_t n, int64_t most, int64_t *at)
{
    int64_t have = 0;
    for (int64_t k = 0; k < n; k++) {
        if (f && !(f[k] > -INFINITY)) {
            continue; /* absent, NaN too */
        }
        int64_t p = have;
        while (p > 0 && (f ? f[k] > f[at[p - 1]] : i[k] > i[at[p - 1]])) {
            p--;
        }
        if (p == most) {
            continue;
        }
        int64_t last = have < most ? have : most - 1;
        memmove(at + p + 1, at + p, sizeof *at * (size_t)(last - p));
        at[p] = k;
        have = last + 1;
    }
    return have;
}

/* Bounds of the value and the index at one rank: elements within reach may take its place. */
static void rank_bounds(const double *f, const double *e, int64_t n, int64_t at, double *value,
                        double *index)
{
    *value = e[at];
    *index = 0;
    for (int64_t k = 0; k < n; k++) {
        double reach = e[k] + e[at];
        if (k != at && reach > 0 && f[k] > -INFINITY && !(fabs(f[k] - f[at]) > reach)) {
            *value = larger(*value, e[k]);
            *index = INFINITY;
        }
    }
}

static int topk(qn_interp_run *in, const qn_expr *x, qn_val *v, qn_val **out)
{
    v = qn_interp_settle(in, v, qn_dtype_settle(v->dtype));
    rows q = rows_of(in, v, x->u.axop.over, x->u.axop.nover);
    int64_t most = qn_interp_extent(in, x->u.axop.fresh.extent);
    if (q.kept == QN_MAX_AXES || v->dtype == QN_BOOL || x->u.axop.nover != 1) {
        qn_interp_fail(in, "V-RANK", "topk of a value of this type");
    }
    q.shape.axis[q.kept] = x->u.axop.fresh.name;
    q.shape.n[q.kept] = most;
    qn_val *value = qn_val_new(in, &in->temp, v->dtype, q.kept + 1, q.shape.axis, q.shape.n);
    qn_val *index = qn_val_new(in, &in->temp, QN_I64, q.kept + 1, q.shape.axis, q.shape.n);
    int64_t *at = qn_stack_take(in, &in->temp, most + 1, sizeof *at);
    for (int64_t k = 0; k < q.count; k++) {
        const double *f = q.v->f ? q.v->f + k * q.length : NULL;
        const int64_t *i = q.v->i ? q.v->i + k * q.length : NULL;
        const double *e = q.v->e ? q.v->e + k * q.length : NULL;
        int64_t have = most > 0 ? best_of(f, i, q.length, most, at) : 0;
        qn_interp_burn(in, most);
        for (int64_t r = 0; r < most; r++) {
            int64_t to = k * most + r;
            bool there = r < have;
            index->i[to] = there ? at[r] : -1;
            if (f) {
                value->f[to] = there ? f[at[r]] : -INFINITY;
            } else {
                value->i[to] = there ? i[at[r]] : qn_least_int(v->dtype);
            }
            if (value->e) {
                value->e[to] = index->e[to] = 0;
                if (f && e && there) {
                    rank_bounds(f, e, q.length, at[r], &value->e[to], &index->e[to]);
                } else if (!f && e && doubt_of(QN_AX_REDUCE_SUM, i, e, q.length) > 0) {
                    value->e[to] = index->e[to] = INFINITY;
                }
            }
        }
    }
    qn_val_trim(index);
    qn_val_trim(value);
    out[0] = value;
    out[1] = index;
    return 2;
}

/* ---------------------------------------------------------------- dot */

typedef struct product {
    int64_t batch, m, n, k;
    const qn_val *a, *b; /* [batch, m, k] and [batch, k, n] */
    qn_val *r;           /* [batch, m, n] */
} product;

static void dot_floats(const product *p)
{
    memset(p->r->f, 0, sizeof(double) * (size_t)p->r->count);
    for (int64_t h = 0; h < p->batch; h++) {
        for (int64_t m = 0; m < p->m; m++) {
            const double *a = p->a->f + (h * p->m + m) * p->k, *b = p->b->f + h * p->k * p->n;
            double *restrict r = p->r->f + (h * p->m + m) * p->n;
            int64_t k = 0;
            for (; k + 4 <= p->k; k += 4, b += 4 * p->n) {
                double a0 = a[k], a1 = a[k + 1], a2 = a[k + 2], a3 = a[k + 3];
                const double *b1 = b + p->n, *b2 = b1 + p->n, *b3 = b2 + p->n;
                for (int64_t n = 0; n < p->n; n++) {
                    r[n] = r[n] + a0 * b[n] + a1 * b1[n] + a2 * b2[n] + a3 * b3[n];
                }
            }
            for (; k < p->k; k++, b += p->n) {
                for (int64_t n = 0; n < p->n; n++) {
                    r[n] += a[k] * b[n];
                }
            }
        }
    }
}

/* sum |a| (eb + g |b|) + ea (|b| + eb), where g is the growth of rounding in the sum: two products
 * of matrices, one if a is exact. */
static void dot_bounds(qn_interp_run *in, const product *p, double growth)
{
    int64_t size = p->b->count;
    double *far = qn_stack_take(in, &in->temp, size, sizeof *far);
    double *wide = p->a->e ? qn_stack_take(in, &in->temp, size, sizeof *wide) : NULL;
    for (int64_t k = 0; k < size; k++) {
        double x = fabs(p->b->f[k]), e = p->b->e ? p->b->e[k] : 0;
        far[k] = e + growth * x;
        if (wide) {
            wide[k] = x + e;
        }
    }
    memset(p->r->e, 0, sizeof(double) * (size_t)p->r->count);
    for (int64_t h = 0; h < p->batch; h++) {
        for (int64_t m = 0; m < p->m; m++) {
            int64_t row = (h * p->m + m) * p->k;
            double *restrict r = p->r->e + (h * p->m + m) * p->n;
            for (int64_t k = 0; k < p->k; k++) {
                double a = fabs(p->a->f[row + k]);
                const double *b = far + (h * p->k + k) * p->n;
                for (int64_t n = 0; n < p->n; n++) {
                    r[n] += a * b[n];
                }
            }
            for (int64_t k = 0; wide && k < p->k; k++) {
                double ea = p->a->e[row + k];
                const double *b = wide + (h * p->k + k) * p->n;
                for (int64_t n = 0; n < p->n && ea > 0; n++) {
                    r[n] += ea * b[n];
                }
            }
        }
    }
}

static bool any_unknown(const qn_val *v)
{
    for (int64_t k = 0; v->e && k < v->count; k++) {
        if (v->e[k] == INFINITY) {
            return true;
        }
    }
    return false;
}

static void dot_ints(const product *p)
{
    for (int64_t h = 0; h < p->batch; h++) {
        for (int64_t m = 0; m < p->m; m++) {
            int64_t *r = p->r->i + (h * p->m + m) * p->n;
            memset(r, 0, sizeof *r * (size_t)p->n);
            for (int64_t k = 0; k < p->k; k++) {
                uint64_t a = (uint64_t)p->a->i[(h * p->m + m) * p->k + k];
                const int64_t *b = p->b->i + (h * p->k + k) * p->n;
                for (int64_t n = 0; n < p->n; n++) {
                    r[n] = (int64_t)((uint64_t)r[n] + a * (uint64_t)b[n]);
                }
            }
            for (int64_t n = 0; n < p->n; n++) {
                r[n] = qn_wrap_int(p->r->dtype, r[n]);
            }
        }
    }
    for (int64_t k = 0; p->r->e && k < p->r->count; k++) {
        p->r->e[k] = p->a->e || p->b->e ? INFINITY : 0;
    }
}

static bool has(const qn_sym *list, int n, qn_sym s)
{
    for (int k = 0; k < n; k++) {
        if (list[k] == s) {
            return true;
        }
    }
    return false;
}

/* Appends axes of v that satisfy: contracted or not, in `other` or not. */
static void append(qn_interp_run *in, qn_val *to, const qn_val *v, const qn_val *other,
                   const qn_sym *over, int nover, bool contracted, bool shared)
{
    for (int a = 0; a < v->rank; a++) {
        int there = qn_val_axis(other, v->axis[a]);
        if (has(over, nover, v->axis[a]) != contracted || (there >= 0) != shared) {
            continue;
        }
        if (there >= 0 && other->n[there] != v->n[a]) {
            qn_interp_fail(in, "V-AXIS", "axis %s has extents %lld and %lld", v->axis[a],
                           (long long)v->n[a], (long long)other->n[there]);
        }
        if (to->rank == QN_MAX_AXES) {
            qn_interp_fail(in, "V-RANK", "a value of more than %d axes", QN_MAX_AXES);
        }
        to->axis[to->rank] = v->axis[a];
        to->n[to->rank++] = v->n[a];
    }
}

/* The contraction; `plain` is that of reduce.sum(a * b), whose result has the operands' dtype. */
static qn_val *contract(qn_interp_run *in, const qn_sym *over, int nover, qn_val *a, qn_val *b,
                        bool plain)
{
    qn_dtype t = qn_dtype_settle(qn_dtype_join(a->dtype, b->dtype));
    if (t == QN_NO_TYPE || t == QN_BOOL) {
        qn_interp_fail(in, "V-TYPE", "dot of %s and %s", qn_dtype_name(a->dtype),
                       qn_dtype_name(b->dtype));
    }
    a = qn_interp_settle(in, a, t);
    b = qn_interp_settle(in, b, t);
    int64_t free_a = 1, free_b = 1;
    for (int k = 0; k < a->rank; k++) {
        free_a *= qn_val_axis(b, a->axis[k]) < 0 ? a->n[k] : 1;
    }
    for (int k = 0; k < b->rank; k++) {
        free_b *= qn_val_axis(a, b->axis[k]) < 0 ? b->n[k] : 1;
    }
    if (free_a > free_b) { /* the longer side is the inner loop */
        qn_val *s = a;
        a = b;
        b = s;
    }
    qn_val left = {.rank = 0}, right = {.rank = 0}, result = {.rank = 0};
    append(in, &left, a, b, over, nover, false, true);
    int batch = left.rank;
    right = result = left;
    append(in, &left, a, b, over, nover, false, false);
    append(in, &result, a, b, over, nover, false, false);
    int kept = left.rank;
    append(in, &left, a, b, over, nover, true, true);
    append(in, &right, a, b, over, nover, true, true);
    int inner = right.rank;
    append(in, &right, b, a, over, nover, false, false);
    append(in, &result, b, a, over, nover, false, false);
    if (inner - batch != nover) {
        qn_interp_fail(in, "V-AXIS", "an axis to contract is not in both operands");
    }
    product p = {.batch = volume(&left, 0, batch),
                 .m = volume(&left, batch, kept),
                 .n = volume(&right, inner, right.rank),
                 .k = volume(&right, batch, inner)};
    qn_dtype sums = qn_dtype_accumulator(t);
    p.r = qn_val_new(in, &in->temp, plain ? t : sums, result.rank, result.axis, result.n);
    qn_interp_burn(in, p.r->count);
    int64_t work[] = {p.batch, p.m, p.n, p.k};
    qn_interp_burn(in, qn_interp_volume(in, 4, work));
    p.a = qn_val_spread(in, a, left.rank, left.axis, left.n);
    p.b = qn_val_spread(in, b, right.rank, right.axis, right.n);
    if (!p.r->f) {
        dot_ints(&p);
        qn_val_trim(p.r);
        return p.r;
    }
    dot_floats(&p);
    if (in->bounds) {
        qn_lanes c = {.result = p.r->dtype};
        qn_lanes_format(&c);
        dot_bounds(in, &p, qn_sum_growth(p.k) * qn_unit_roundoff(sums));
        int unknown = -1; /* looked up only where a result is not finite */
        for (int64_t k = 0; k < p.r->count; k++) {
            double e = p.r->e[k];
            if (!isfinite(p.r->f[k])) {
                unknown = unknown < 0 ? any_unknown(p.a) || any_unknown(p.b) : unknown;
                e = unknown ? INFINITY : 0;
            }
            e = isnan(e) ? INFINITY : e;
            p.r->e[k] = qn_lanes_seal(&c, p.r->f[k], e, sums == p.r->dtype ? 0 : 1);
        }
    }
    for (int64_t k = 0; in->typed && k < p.r->count; k++) {
        p.r->f[k] = qn_round_float(p.r->dtype, p.r->f[k]);
    }
    return p.r;
}

qn_val *qn_interp_sum_of_product(qn_interp_run *in, const qn_sym *over, int nover, qn_val *a,
                                 qn_val *b)
{
    return contract(in, over, nover, a, b, true);
}

/* ---------------------------------------------------------------- solve */

/* Forward substitution over rows of a [batch, i, j] and b [batch, i, columns]. */
static qn_val *solve(qn_interp_run *in, const qn_expr *x, qn_val *a, qn_val *b)
{
    if (x->u.axop.nover != 2) {
        qn_interp_fail(in, "V-AXIS", "solve_unit_lower is over two axes");
    }
    qn_sym row = x->u.axop.over[0], column = x->u.axop.over[1];
    qn_dtype t = qn_dtype_settle(qn_dtype_join(a->dtype, b->dtype));
    if (!qn_dtype_is_float(t)) {
        qn_interp_fail(in, "V-TYPE", "solve_unit_lower of %s", qn_dtype_name(t));
    }
    a = qn_interp_settle(in, a, t);
    b = qn_interp_settle(in, b, t);
    int ai = qn_val_axis(a, row), aj = qn_val_axis(a, column), bi = qn_val_axis(b, row);
    if (ai < 0 || aj < 0 || bi < 0 || qn_val_axis(b, column) >= 0 || a->n[ai] != a->n[aj] ||
        b->n[bi] != a->n[ai]) {
        qn_interp_fail(in, "V-AXIS", "solve_unit_lower wants A[i, j] and B[i]");
    }
    int64_t n = a->n[ai];
    qn_sym both[] = {row, column};
    qn_val left = {.rank = 0}, right, result;
    choose(a, both, 2, false, &left);
    int batch = left.rank;
    right = result = left;
    left.axis[left.rank] = row, left.n[left.rank++] = n;
    left.axis[left.rank] = column, left.n[left.rank++] = n;
    if (right.rank >= QN_MAX_AXES) {
        qn_interp_fail(in, "V-RANK", "a value of more than %d axes", QN_MAX_AXES);
    }
    right.axis[right.rank] = row, right.n[right.rank++] = n;
    result.axis[result.rank] = column, result.n[result.rank++] = n;
    for (int k = 0; k < b->rank; k++) {
        if (qn_val_axis(&left, b->axis[k]) < 0) {
            if (right.rank >= QN_MAX_AXES) {
                qn_interp_fail(in, "V-RANK", "a value of more than %d axes", QN_MAX_AXES);
            }
            right.axis[right.rank] = result.axis[result.rank] = b->axis[k];
            right.n[right.rank++] = result.n[result.rank++] = b->n[k];
        }
    }
    int64_t systems = volume(&left, 0, batch), width = volume(&right, batch + 1, right.rank);
    int64_t work[] = {systems, n, n, width};
    qn_interp_burn(in, qn_interp_volume(in, 4, work));
    const qn_val *A = qn_val_spread(in, a, left.rank, left.axis, left.n);
    const qn_val *B = qn_val_spread(in, b, right.rank, right.axis, right.n);
    qn_val *X = qn_val_new(in, &in->temp, t, result.rank, result.axis, result.n);
    qn_lanes c = {.result = t};
    qn_lanes_format(&c);
    for (int64_t s = 0; s < systems; s++) {
        for (int64_t i = 0; i < n; i++) {
            for (int64_t w = 0; w < width; w++) {
                int64_t at = (s * n + i) * width + w;
                double sum = B->f[at], bound = B->e ? B->e[at] : 0, magnitude = fabs(sum);
                for (int64_t j = 0; j < i; j++) {
                    int64_t aij = (s * n + i) * n + j, xj = (s * n + j) * width + w;
                    double p = A->f[aij] * X->f[xj];
                    sum -= p;
                    magnitude += fabs(p);
                    if (X->e) {
                        double ea = A->e ? A->e[aij] : 0;
                        bound += fabs(A->f[aij]) * X->e[xj] + ea * (fabs(X->f[xj]) + X->e[xj]);
                    }
                }
                X->f[at] = in->typed ? qn_round_float(t, sum) : sum;
                if (X->e) {
                    bound += i > 0 ? qn_sum_growth(i + 1) * c.unit * magnitude : 0;
                    X->e[at] = qn_lanes_seal(&c, sum, isnan(bound) ? INFINITY : bound, 0);
                }
            }
        }
    }
    return X;
}

int qn_interp_axop(qn_interp_run *in, const qn_expr *x, qn_val **args, qn_val **out)
{
    qn_axop op = x->u.axop.op;
    bool two = op == QN_AX_DOT || op == QN_AX_SOLVE;
    if (!args[0] || (two && !args[1])) {
        qn_interp_fail(in, "V-OP", "%s with too few operands", qn_axop_text(op));
    }
    if (op == QN_AX_TOPK) {
        return topk(in, x, args[0], out);
    }
    out[0] = op == QN_AX_DOT
                 ? contract(in, x->u.axop.over, x->u.axop.nover, args[0], args[1], false)
             : op == QN_AX_SOLVE   ? solve(in, x, args[0], args[1])
             : qn_axop_is_scan(op) ? scan(in, x, args[0])
                                   : reduce(in, x, args[0]);
    return 1;
}
