/* SPDX-License-Identifier: MIT
 *
 * The definition of a mechanism: for every row, S over all keys, the kept set, the weights, the
 * sums, the finish. No tiles, no carried state, no IR of the naive level: what `check` compares
 * machine code with. Bounds come with the values (number.h). */
#include "frontend/frontend.h"
#include "frontend/number.h"
#include "ir/build.h"

#include <math.h>
#include <string.h>

typedef struct fn { /* a function of the spec, compiled */
    bool there;
    int *let_slots;
    qn_code **lets, **results, **flags;
    int nlets, nresults, nflags;
} fn;

typedef struct norm_code {
    qn_code *stat, *weight, *rescale;
    qn_code **sums, **finish;
    int *sum_slots;
    bool *wide;        /* does the sum have a value for every column? */
    bool *wide_finish; /* does the result? */
    int stat_slot, s, v, from, to;
    int *extra; /* slots of further arguments */
} norm_code;

typedef struct group {
    const qn_spec_group *g;
    fn when, mask, scale, score, out, extra;
    norm_code norm;
} group;

typedef struct definer {
    const qn_spec *s;
    qn_ir *ir;
    qn_diags *d;
    qn_scope c;
    qn_arg *args; /* the caller's tensors and the tables */
    int nargs;
    group *groups;
    int64_t B, Hq, Hk, Hv, Nq, Nk, D, Dv;
    int b, h, i, r, j, sc, o, col; /* slots */
    const qn_array *q, *k, *v, *position;
    qn_array *out_o, *out_lse, *out_max;
    qn_num *S, *W, *columns; /* a row of scores, of weights; wide sums, nsums x Dv */
    double *size;
    bool *keep, *unsure;
    bool flag, failed;
} definer;

static void fail(definer *x, const char *code, const char *format, ...)
{
    va_list args;
    qn_buf b = qn_buf_of(x->ir->arena);
    va_start(args, format);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    if (!x->failed) {
        qn_diag_add(x->d, QN_ERROR, code, (qn_place){0}, "%s", b.text);
    }
    x->failed = true;
}

static qn_code *code(definer *x, const qn_expr *e)
{
    const char *why = "";
    qn_code *y = e ? qn_code_of(&x->c, e, &why) : NULL;
    if (e && !y) {
        fail(x, "E-ARG", "the definition lacks %s", why);
    }
    return y;
}

/* ---------------------------------------------------------------- compiling */

static fn compile(definer *x, const qn_spec_fn *f)
{
    fn y = {0};
    if (!f) {
        return y;
    }
    qn_arena *a = x->ir->arena;
    y = (fn){true,
             QN_NEWN(a, int, f->nlets + 1),
             QN_NEWN(a, qn_code *, f->nlets + 1),
             QN_NEWN(a, qn_code *, f->nresults + 1),
             QN_NEWN(a, qn_code *, f->nflags + 1),
             f->nlets,
             f->nresults,
             f->nflags};
    for (int k = 0; k < f->nlets; k++) {
        y.lets[k] = code(x, f->lets[k].x);
        y.let_slots[k] = qn_scope_slot(&x->c, f->lets[k].name);
    }
    for (int k = 0; k < f->nresults; k++) {
        y.results[k] = code(x, f->results[k]);
    }
    for (int k = 0; k < f->nflags; k++) {
        y.flags[k] = code(x, f->flags[k]);
    }
    return y;
}

static void run_lets(definer *x, const fn *f)
{
    for (int k = 0; k < f->nlets; k++) {
        qn_num v = qn_code_run(&x->c, f->lets[k]);
        x->c.slots.at[f->let_slots[k]] = v;
    }
}

static void run_flags(definer *x, const fn *f)
{
    for (int k = 0; k < f->nflags; k++) {
        x->flag |= qn_code_run(&x->c, f->flags[k]).i != 0;
    }
}

/* As the number type: a literal takes it. */
static qn_num number(definer *x, qn_num v)
{
    if (v.t == QN_FLT_LIT) {
        double r = qn_num_round(x->s->number, v.f);
        v.e = x->c.naive || !isfinite(r) ? 0 : fabs(v.f - r);
        v.f = x->c.naive ? r : v.f;
        v.t = x->s->number;
    }
    return v;
}

static qn_num run_fn(definer *x, const fn *f)
{
    run_lets(x, f);
    return qn_code_run(&x->c, f->results[0]);
}

static bool mentions(const qn_code *c, const int *slots, const bool *which, int n)
{
    for (int k = 0; k < n; k++) {
        if (which[k] && qn_code_reads(c, slots[k])) {
            return true;
        }
    }
    return false;
}

/* Names of a norm are its own: each gets a slot of its own before its code is made. */
static norm_code compile_norm(definer *x, const qn_norm *n)
{
    qn_arena *a = x->ir->arena;
    norm_code y = {.sums = QN_NEWN(a, qn_code *, n->nsums + 1),
                   .finish = QN_NEWN(a, qn_code *, n->nfinish + 1),
                   .sum_slots = QN_NEWN(a, int, n->nsums + 1),
                   .wide = QN_NEWN(a, bool, n->nsums + 1),
                   .wide_finish = QN_NEWN(a, bool, n->nfinish + 1),
                   .extra = QN_NEWN(a, int, n->nargs + 1)};
    y.s = qn_scope_slot(&x->c, n->args[0]);
    y.v = qn_scope_slot(&x->c, n->args[1]);
    for (int k = 2; k < n->nargs; k++) {
        y.extra[k - 2] = qn_scope_slot(&x->c, n->args[k]);
    }
    y.stat_slot = n->stat ? qn_scope_slot(&x->c, n->stat) : -1;
    y.from = n->rescale ? qn_scope_slot(&x->c, n->rescale_from) : -1;
    y.to = n->rescale ? qn_scope_slot(&x->c, n->rescale_to) : -1;
    y.stat = code(x, n->stat ? n->stat_x : NULL);
    y.weight = code(x, n->weight);
    y.rescale = code(x, n->rescale);
    for (int k = 0; k < n->nsums; k++) {
        y.sum_slots[k] = qn_scope_slot(&x->c, n->sums[k].name);
        y.sums[k] = code(x, n->sums[k].x);
        y.wide[k] = y.sums[k] && qn_code_reads(y.sums[k], y.v);
    }
    for (int k = 0; k < n->nfinish; k++) {
        y.finish[k] = code(x, n->finish[k].x);
        y.wide_finish[k] = y.finish[k] && mentions(y.finish[k], y.sum_slots, y.wide, n->nsums);
    }
    return y;
}

/* ---------------------------------------------------------------- arguments */

static const qn_arg *given(const qn_arg *args, int n, const char *name)
{
    for (int k = 0; k < n; k++) {
        if (strcmp(args[k].name, name) == 0) {
            return &args[k];
        }
    }
    return NULL;
}

static int64_t dim(definer *x, const char *name)
{
    int slot = qn_scope_slot(&x->c, name); /* may move the slots */
    return x->c.slots.at[slot].i;
}

static void bind_dims(definer *x, const qn_arg *args, int nargs)
{
    int n = x->s->dims.count;
    bool *known = QN_NEWN(x->ir->arena, bool, n + 1);
    for (int k = 0; k < n; k++) {
        const qn_dim *d = &x->s->dims.at[k];
        const qn_arg *a = given(args, nargs, d->name);
        int slot = qn_scope_slot(&x->c, d->name);
        if (d->value && d->value->kind == QN_LIT) {
            qn_scope_set(&x->c, slot, d->value->u.lit.i);
            known[k] = true;
        } else if (a && !d->value && a->array.rank == 0) {
            qn_scope_set(&x->c, slot, a->array.i[0]);
            known[k] = true;
        }
    }
    for (int p = 0; p < x->s->params.count; p++) {
        const qn_param *t = &x->s->params.at[p];
        const qn_arg *a = given(args, nargs, t->name);
        for (int m = 0; a && m < t->type.rank && a->array.rank == t->type.rank; m++) {
            for (int k = 0; k < n; k++) {
                if (x->s->dims.at[k].name == t->type.axes[m].extent.dim &&
                    !x->s->dims.at[k].value && !known[k]) {
                    qn_scope_set(&x->c, qn_scope_slot(&x->c, x->s->dims.at[k].name),
                                 a->array.shape[m]);
                    known[k] = true;
                }
            }
        }
    }
    for (int k = 0; k < n; k++) {
        const qn_dim *d = &x->s->dims.at[k];
        if (d->value && !known[k]) { /* of earlier ones */
            qn_code *c = code(x, d->value);
            int64_t v = c ? qn_code_run(&x->c, c).i : 0;
            qn_scope_set(&x->c, qn_scope_slot(&x->c, d->name), v);
        } else if (!known[k]) {
            fail(x, "E-ARG", "the dimension %s is not known: no tensor has it", d->name);
        }
    }
}

static void check_args(definer *x, const qn_arg *args, int nargs)
{
    for (int p = 0; p < x->s->params.count && !x->failed; p++) {
        const qn_param *t = &x->s->params.at[p];
        const qn_arg *a = given(args, nargs, t->name);
        if (t->type.rank == 0) {
            qn_num v = {.t = t->type.dtype};
            if (a && a->array.rank == 0) {
                v.f = qn_dtype_is_float(t->type.dtype) ? a->array.f[0] : 0;
                v.i = qn_dtype_is_float(t->type.dtype) ? 0 : a->array.i[0];
            } else if (t->value) {
                qn_num w = qn_code_run(&x->c, code(x, t->value));
                v.i = w.i;
                v.f = qn_num_round(t->type.dtype, w.f);
            } else {
                fail(x, "E-ARG", "the parameter %s is missing", t->name);
            }
            int slot = qn_scope_slot(&x->c, t->name);
            x->c.slots.at[slot] = v;
            continue;
        }
        if (!a) {
            fail(x, "E-ARG", "the tensor %s is missing", t->name);
            continue;
        }
        bool floats = qn_dtype_is_float(t->type.dtype);
        if (a->array.rank != t->type.rank || a->array.dtype != t->type.dtype ||
            (floats ? !a->array.f : !a->array.i)) {
            fail(x, "E-ARG", "%s: %s of rank %d expected, %s of rank %d found", t->name,
                 qn_dtype_name(t->type.dtype), t->type.rank, qn_dtype_name(a->array.dtype),
                 a->array.rank);
            continue;
        }
        for (int m = 0; m < t->type.rank; m++) {
            qn_extent e = t->type.axes[m].extent;
            int64_t want = e.dim ? dim(x, e.dim) : e.n;
            if (a->array.shape[m] != want) {
                fail(x, "E-ARG", "%s: dimension %d is %lld, expected %lld", t->name, m + 1,
                     (long long)a->array.shape[m], (long long)want);
            }
        }
    }
}

static void check_requires(definer *x)
{
    for (int k = 0; k < x->s->requires.count && !x->failed; k++) {
        qn_code *c = code(x, x->s->requires.at[k].cond);
        if (c && !qn_code_run(&x->c, c).i) {
            fail(x, "E-REQ", "%s", x->s->requires.at[k].text);
        }
    }
}

static void make_tables(definer *x)
{
    for (int k = 0; k < x->s->tables.count && !x->failed; k++) {
        const qn_spec_table *t = &x->s->tables.at[k];
        qn_code *c = code(x, t->value);
        qn_buf axis = qn_buf_of(x->ir->arena);
        qn_buf_printf(&axis, ":%s", t->type.axes[0].name);
        int slot = qn_scope_slot(&x->c, axis.text);
        qn_extent e = t->type.axes[0].extent;
        int64_t n = e.dim ? dim(x, e.dim) : e.n;
        qn_array a = {.dtype = t->type.dtype, .rank = 1, .shape = {n}};
        a.i = QN_NEWN(x->ir->arena, int64_t, n + 1);
        for (int64_t m = 0; c && m < n; m++) {
            qn_scope_set(&x->c, slot, m);
            a.i[m] = qn_code_run(&x->c, c).i;
        }
        x->args[x->nargs++] = (qn_arg){t->name, a};
        x->c.nargs = x->nargs;
    }
}

/* ---------------------------------------------------------------- a row */

static qn_num product(definer *x, int64_t b, int64_t h, int64_t r, int64_t j)
{
    const double *p = x->q->f + ((b * x->Hq + h) * x->Nq + r) * x->D;
    const double *q = x->k->f + ((b * x->Hk + h * x->Hk / x->Hq) * x->Nk + j) * x->D;
    qn_num v = {.t = x->s->number};
    double size = 0;
    if (x->c.naive) {
        for (int64_t d = 0; d < x->D; d++) {
            v.f = qn_num_round(v.t, v.f + qn_num_round(v.t, p[d] * q[d]));
        }
        return v;
    }
    for (int64_t d = 0; d < x->D; d++) {
        v.f += p[d] * q[d];
        size += fabs(p[d] * q[d]);
    }
    v.e = qn_num_growth(x->D) * qn_num_unit(v.t) * size;
    if (isfinite(v.f) && fabs(v.f) + v.e > 3.4e38 && v.t == QN_F32) {
        v.e = INFINITY;
    }
    return v;
}

static qn_num times(definer *x, qn_num a, qn_num b)
{
    qn_num y = {.t = a.t, .f = a.f * b.f};
    if (x->c.naive) {
        y.f = qn_num_round(y.t, y.f);
    } else {
        y.e = (a.e == 0 ? 0 : fabs(b.f) * a.e) + (b.e == 0 ? 0 : fabs(a.f) * b.e) +
              qn_num_unit(y.t) * fabs(y.f);
    }
    return y;
}

/* S and the kept set of a row. */
static void scores(definer *x, const group *g, int64_t b, int64_t h, int64_t r, qn_num scale)
{
    for (int64_t j = 0; j < x->Nk; j++) {
        qn_scope_set(&x->c, x->j, j);
        x->keep[j] = true;
        x->unsure[j] = false;
        if (g->mask.there) {
            qn_num keep = run_fn(x, &g->mask);
            run_flags(x, &g->mask);
            x->keep[j] = keep.i != 0;
            x->unsure[j] = keep.unsure;
        }
        if (!x->keep[j] && !x->unsure[j]) {
            continue;
        }
        qn_num s = {.t = x->s->number};
        if (g->g->uses_product) {
            s = times(x, product(x, b, h, r, j), scale);
        }
        if (g->score.there) {
            x->c.slots.at[x->sc] = s;
            s = number(x, run_fn(x, &g->score));
            if (x->keep[j]) {
                run_flags(x, &g->score);
            }
        }
        x->S[j] = s;
    }
}

static qn_num stat_of(definer *x, const group *g)
{
    qn_axop op = g->g->norm->stat_op;
    bool max = op == QN_AX_REDUCE_MAX, sum = op == QN_AX_REDUCE_SUM;
    qn_num m = {.t = x->s->number, .f = sum ? 0 : max ? -INFINITY : INFINITY};
    double size = 0;
    int64_t n = 0;
    for (int64_t j = 0; j < x->Nk; j++) {
        if (!x->keep[j]) {
            continue;
        }
        x->c.slots.at[g->norm.s] = x->S[j];
        qn_num v = number(x, qn_code_run(&x->c, g->norm.stat));
        if (sum) {
            m.f = x->c.naive ? qn_num_round(m.t, m.f + v.f) : m.f + v.f;
            m.e += v.e;
            size += fabs(v.f);
            n++;
            continue;
        }
        bool wins = max ? v.f > m.f : v.f < m.f;
        double gap = fabs(v.f - m.f), e = wins ? v.e : m.e;
        if (!(gap > v.e + m.e) && v.f != m.f) {
            e = v.e > m.e ? v.e : m.e;
        } else if (v.f == m.f) {
            e = v.e > m.e ? v.e : m.e;
        }
        m.f = wins ? v.f : m.f;
        m.e = e;
    }
    if (sum && !x->c.naive) {
        m.e += qn_num_growth(n) * qn_num_unit(m.t) * size;
    }
    return m;
}

/* The sums of a norm over the kept keys: narrow ones into their slots, wide ones into columns. */
static void sums(definer *x, const group *g, int64_t b, int64_t h)
{
    const norm_code *c = &g->norm;
    const qn_norm *n = g->g->norm;
    const double *v = x->v->f + (b * x->Hv + h * x->Hv / x->Hq) * x->Nk * x->Dv;
    double unit = qn_num_unit(x->s->number);
    for (int k = 0; k < n->nsums; k++) {
        int64_t width = c->wide[k] ? x->Dv : 1, count = 0;
        qn_num *to = x->columns + k * x->Dv;
        for (int64_t e = 0; e < width; e++) {
            to[e] = (qn_num){.t = x->s->number};
            x->size[e] = 0;
        }
        for (int64_t j = 0; j < x->Nk; j++) {
            if (!x->keep[j]) {
                continue;
            }
            count++;
            x->c.slots.at[c->s] = x->S[j];
            qn_num w = x->W[j];
            for (int64_t e = 0; e < width; e++) {
                qn_num y = {.t = x->s->number, .f = c->wide[k] ? v[j * x->Dv + e] : 0};
                if (!qn_code_is(c->sums[k], c->v)) {
                    x->c.slots.at[c->v] = y;
                    y = number(x, qn_code_run(&x->c, c->sums[k]));
                }
                double p = w.f * y.f;
                if (x->c.naive) {
                    to[e].f = qn_num_round(to[e].t, to[e].f + qn_num_round(to[e].t, p));
                    continue;
                }
                to[e].f += p;
                to[e].e += (w.e == 0 ? 0 : fabs(y.f) * w.e) + (y.e == 0 ? 0 : fabs(w.f) * y.e);
                x->size[e] += fabs(p);
            }
        }
        for (int64_t e = 0; e < width && !x->c.naive; e++) {
            to[e].e += qn_num_growth(count) * unit * x->size[e];
        }
        if (!c->wide[k]) {
            x->c.slots.at[c->sum_slots[k]] = to[0];
        }
    }
}

static qn_num finished(definer *x, const group *g, int k, int64_t e)
{
    const norm_code *c = &g->norm;
    for (int m = 0; m < g->g->norm->nsums; m++) {
        if (c->wide[m]) {
            x->c.slots.at[c->sum_slots[m]] = x->columns[m * x->Dv + e];
        }
    }
    return number(x, qn_code_run(&x->c, c->finish[k]));
}

static void put(definer *x, qn_array *a, int64_t at, qn_num v, bool lost)
{
    a->f[at] = x->c.naive ? qn_num_round(a->dtype, v.f) : v.f;
    a->bound[at] = lost ? INFINITY : v.e;
}

static void row(definer *x, const group *g, int64_t b, int64_t h, int64_t r, qn_num scale)
{
    const norm_code *c = &g->norm;
    int64_t i = x->s->position == QN_POSITION_LAST ? r + x->Nk - x->Nq : r;
    int64_t at = (b * x->Hq + h) * x->Nq + r;
    if (x->position) {
        i = x->position->i[x->position->rank == 2 ? b * x->Nq + r : r];
    }
    qn_scope_set(&x->c, x->i, i);
    qn_scope_set(&x->c, x->r, r);
    scores(x, g, b, h, r, scale);
    bool lost = false; /* whether some key belongs to the row cannot be told */
    for (int64_t j = 0; j < x->Nk; j++) {
        lost |= x->unsure[j];
    }
    x->c.norm = g->g->norm;
    x->c.rescale = c->rescale;
    x->c.weight = c->weight;
    x->c.from = c->from;
    x->c.to = c->to;
    x->c.s = c->s;
    x->c.m = c->stat_slot;
    if (c->stat_slot >= 0) {
        x->c.slots.at[c->stat_slot] = stat_of(x, g);
    }
    for (int64_t j = 0; j < x->Nk; j++) {
        if (x->keep[j]) {
            x->c.slots.at[c->s] = x->S[j];
            x->W[j] = number(x, qn_code_run(&x->c, c->weight));
        }
    }
    sums(x, g, b, h);
    int k = 1;
    if (x->out_lse) {
        put(x, x->out_lse, at, finished(x, g, k++, 0), lost);
    }
    if (x->out_max) {
        put(x, x->out_max, at, finished(x, g, k, 0), lost);
    }
    for (int64_t e = 0; e < x->Dv; e++) {
        qn_num o = finished(x, g, 0, e);
        if (g->out.there) {
            x->c.slots.at[x->o] = o;
            qn_scope_set(&x->c, x->col, e);
            o = number(x, run_fn(x, &g->out));
            run_flags(x, &g->out);
        }
        put(x, x->out_o, at * x->Dv + e, o, lost);
    }
}

/* ---------------------------------------------------------------- all of it */

static const group *group_of(definer *x)
{
    for (int k = 0; k < x->s->groups.count; k++) {
        const group *g = &x->groups[k];
        if (!g->when.there) {
            return g;
        }
        qn_num takes = run_fn(x, &g->when);
        run_flags(x, &g->when);
        if (takes.i) {
            return g;
        }
    }
    return NULL;
}

static void heads(definer *x)
{
    for (int64_t b = 0; b < x->B; b++) {
        for (int64_t h = 0; h < x->Hq; h++) {
            qn_scope_set(&x->c, x->b, b);
            qn_scope_set(&x->c, x->h, h);
            const group *g = group_of(x);
            if (!g) {
                x->flag = true;
                continue;
            }
            qn_num scale = number(x, run_fn(x, &g->scale));
            run_flags(x, &g->scale);
            if (g->extra.there) {
                run_lets(x, &g->extra);
                run_flags(x, &g->extra);
                for (int k = 0; k < g->extra.nresults; k++) {
                    x->c.slots.at[g->norm.extra[k]] =
                        number(x, qn_code_run(&x->c, g->extra.results[k]));
                }
            }
            for (int64_t r = 0; r < x->Nq; r++) {
                row(x, g, b, h, r, scale);
            }
        }
    }
}

static qn_array *output(definer *x, qn_definition *out, const char *name, qn_dtype dtype, int rank)
{
    qn_arg *a = &out->outs[out->nouts++];
    int64_t shape[4] = {x->B, x->Hq, x->Nq, x->Dv}, n = 1;
    a->name = name;
    a->array.dtype = dtype;
    a->array.rank = rank;
    for (int k = 0; k < rank; k++) {
        a->array.shape[k] = shape[k];
        n *= shape[k];
    }
    a->array.f = QN_NEWN(x->ir->arena, double, n + 1);
    a->array.bound = QN_NEWN(x->ir->arena, double, n + 1);
    return &a->array;
}

static void sizes(definer *x)
{
    x->B = dim(x, "B"), x->Hq = dim(x, "Hq"), x->Hk = dim(x, "Hk"), x->Hv = dim(x, "Hv");
    x->Nq = dim(x, "Nq"), x->Nk = dim(x, "Nk"), x->D = dim(x, "D"), x->Dv = dim(x, "Dv");
    x->b = qn_scope_slot(&x->c, "b"), x->h = qn_scope_slot(&x->c, "h"),
    x->i = qn_scope_slot(&x->c, "i");
    x->r = qn_scope_slot(&x->c, "r"), x->j = qn_scope_slot(&x->c, "j"),
    x->sc = qn_scope_slot(&x->c, "s");
    x->o = qn_scope_slot(&x->c, "o"), x->col = qn_scope_slot(&x->c, "d");
}

static void prepare(definer *x, const qn_arg *args, int nargs)
{
    x->args = QN_NEWN(x->ir->arena, qn_arg, nargs + x->s->tables.count + 1);
    if (nargs) {
        memcpy(x->args, args, sizeof *args * (size_t)nargs);
    }
    x->nargs = nargs;
    x->c.args = x->args;
    x->c.nargs = nargs;
    bind_dims(x, args, nargs);
    if (!x->failed) {
        check_args(x, args, nargs);
    }
    if (x->failed) {
        return;
    }
    check_requires(x);
    sizes(x);
    if (!x->failed) {
        make_tables(x);
    }
    x->groups = QN_NEWN(x->ir->arena, group, x->s->groups.count + 1);
    for (int k = 0; k < x->s->groups.count && !x->failed; k++) {
        const qn_spec_group *g = &x->s->groups.at[k];
        x->groups[k] = (group){g,
                               compile(x, g->when),
                               compile(x, g->mask),
                               compile(x, g->scale),
                               compile(x, g->score),
                               compile(x, g->out),
                               compile(x, g->extra),
                               compile_norm(x, g->norm)};
    }
}

bool qn_define(const qn_spec *s, const qn_arg *args, int nargs, qn_define_mode mode,
               qn_definition *out, qn_diags *d)
{
    definer x = {.s = s, .ir = s->ir, .d = d};
    x.c = (qn_scope){.ir = s->ir, .naive = mode == QN_DEFINE_NAIVE, .number = s->number, .m = -1};
    *out = (qn_definition){.outs = QN_NEWN(s->ir->arena, qn_arg, 3)};
    prepare(&x, args, nargs);
    if (x.failed) {
        return false;
    }
    x.q = &given(args, nargs, "q")->array;
    x.k = &given(args, nargs, "k")->array;
    x.v = &given(args, nargs, "v")->array;
    x.position =
        s->position == QN_POSITION_TENSOR ? &given(args, nargs, s->position_tensor)->array : NULL;
    x.out_o = output(&x, out, "o", x.q->dtype, 4);
    x.out_lse = s->out_lse ? output(&x, out, "lse", s->number, 3) : NULL;
    x.out_max = s->out_max ? output(&x, out, "row_max", s->number, 3) : NULL;
    int most = 1;
    for (int k = 0; k < s->groups.count; k++) {
        most = s->groups.at[k].norm->nsums > most ? s->groups.at[k].norm->nsums : most;
    }
    x.S = QN_NEWN(s->ir->arena, qn_num, x.Nk + 1);
    x.W = QN_NEWN(s->ir->arena, qn_num, x.Nk + 1);
    x.columns = QN_NEWN(s->ir->arena, qn_num, most * (x.Dv + 1));
    x.size = QN_NEWN(s->ir->arena, double, x.Dv + 1);
    x.keep = QN_NEWN(s->ir->arena, bool, x.Nk + 1);
    x.unsure = QN_NEWN(s->ir->arena, bool, x.Nk + 1);
    heads(&x);
    out->flag = x.flag ? "E_INDEX" : NULL;
    return true;
}
