/* SPDX-License-Identifier: MIT
 *
 * Types and scopes; see type.h.
 * One recursive function types an expression bottom-up: operands first, then the rule of the op,
 * then the union of the axes. Scopes are a chain of small arrays, with a hash table where a block
 * defines many names. Folds are in type_norm.c. */
#include "ir/type.h"

#include "ir/build.h"
#include "ir/print.h"
#include "ir/type_in.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- faults */

bool qn_env_fail(qn_env *e, const char *rule, qn_place place, const char *format, ...)
{
    qn_buf b = qn_buf_of(e->ir->arena);
    va_list args;
    va_start(args, format);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    e->fault = (qn_fault){rule, b.text, place};
    return false;
}

static const char *text_of(const qn_env *e, const qn_type *t)
{
    return qn_type_text(e->ir->arena, t);
}

/* ---------------------------------------------------------------- scopes */

static uint32_t slot_of(const qn_env *e, qn_sym name)
{
    uint64_t h = (uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u;
    uint32_t k = (uint32_t)(h >> 32), mask = (uint32_t)e->nslots - 1;
    while (e->slots[k & mask] && e->at[e->slots[k & mask] - 1].name != name) {
        k++;
    }
    return k & mask;
}

static void index_names(qn_env *e)
{
    e->nslots = e->nslots ? e->nslots * 2 : 64;
    e->slots = QN_NEWN(e->ir->arena, int32_t, e->nslots);
    for (int k = 0; k < e->count; k++) {
        e->slots[slot_of(e, e->at[k].name)] = k + 1;
    }
}

static const qn_bound *find_here(const qn_env *e, qn_sym name)
{
    if (e->slots) {
        int32_t k = e->slots[slot_of(e, name)];
        return k ? &e->at[k - 1] : NULL;
    }
    for (int k = e->count; k-- > 0;) {
        if (e->at[k].name == name) {
            return &e->at[k];
        }
    }
    return NULL;
}

const qn_bound *qn_env_find(const qn_env *e, qn_sym name)
{
    for (; e; e = e->parent) {
        const qn_bound *b = find_here(e, name);
        if (b) {
            return b;
        }
    }
    return NULL;
}

void qn_env_define(qn_env *e, const qn_bound *b)
{
    QN_PUSH(e->ir->arena, e, *b);
    if (e->count > 16 && e->count * 2 > e->nslots) {
        index_names(e);
    } else if (e->slots) {
        e->slots[slot_of(e, b->name)] = e->count;
    }
}

void qn_type_define(qn_env *e, qn_sym name, qn_bound_kind kind, qn_type type)
{
    qn_env_define(e, &(qn_bound){.name = name, .kind = kind, .type = type});
}

qn_env *qn_env_push(qn_env *parent)
{
    qn_env *e = QN_NEW(parent->ir->arena, qn_env);
    e->ir = parent->ir;
    e->file = parent->file;
    e->parent = parent;
    e->check = parent->check;
    e->user = parent->user;
    return e;
}

qn_env *qn_env_kernel(qn_ir *ir, const qn_ir_file *file, const qn_kernel_ir *k)
{
    qn_env *e = QN_NEW(ir->arena, qn_env);
    e->ir = ir;
    e->file = file;
    for (int d = 0; d < k->dims.count; d++) {
        const qn_dim *dim = &k->dims.at[d];
        qn_env_define(e, &(qn_bound){.name = dim->name,
                                     .kind = QN_BOUND_DIM,
                                     .type = {QN_I64, 0, NULL},
                                     .value = dim->value});
    }
    for (int p = 0; p < k->params.count; p++) {
        const qn_param *param = &k->params.at[p];
        qn_env_define(e, &(qn_bound){.name = param->name,
                                     .kind = param->type.rank ? QN_BOUND_MEMORY : QN_BOUND_SCALAR,
                                     .type = param->type,
                                     .direction = param->direction});
    }
    return e;
}

int64_t qn_extent_const(const qn_env *e, qn_extent x)
{
    if (!x.dim) {
        return x.n;
    }
    const qn_bound *b = qn_env_find(e, x.dim);
    bool known = b && b->kind == QN_BOUND_DIM && b->value && b->value->kind == QN_LIT &&
                 b->value->u.lit.type == QN_INT_LIT;
    return known ? b->value->u.lit.i : -1;
}

/* ---------------------------------------------------------------- axes */

static bool is_dim(qn_env *e, qn_axis a, qn_place place)
{
    if (!a.extent.dim) {
        return true;
    }
    const qn_bound *b = qn_env_find(e, a.extent.dim);
    if (!b || b->kind != QN_BOUND_DIM) {
        return qn_env_fail(e, "V-DIM", place, "extent %s of axis %s is no dim", a.extent.dim,
                           a.name);
    }
    return true;
}

static const char *extent_text(const qn_env *e, qn_extent x)
{
    if (x.dim) {
        return x.dim;
    }
    qn_buf b = qn_buf_of(e->ir->arena);
    qn_buf_printf(&b, "%lld", (long long)x.n);
    return b.text;
}

bool qn_type_unite(qn_env *e, const qn_type *ts, int n, qn_place place, qn_type *out)
{
    qn_axis axes[QN_MAX_AXES];
    int rank = ts[0].rank;
    if (n == 1 || rank == 0) { /* share the axes of the only one that has any */
        int first = 0, having = 0;
        for (int k = 0; k < n; k++) {
            if (ts[k].rank && having++ == 0) {
                first = k;
            }
        }
        if (having <= 1) {
            *out = (qn_type){ts[0].dtype, ts[first].rank, ts[first].axes};
            return true;
        }
        rank = 0;
    }
    for (int k = 0; k < rank; k++) {
        axes[k] = ts[0].axes[k];
    }
    for (int k = rank ? 1 : 0; k < n; k++) {
        for (int j = 0; j < ts[k].rank; j++) {
            qn_axis a = ts[k].axes[j];
            int at = 0;
            while (at < rank && axes[at].name != a.name) {
                at++;
            }
            if (at == QN_MAX_AXES) {
                return qn_env_fail(e, "V-AXIS", place, "a value has at most %d axes", QN_MAX_AXES);
            }
            if (at == rank) {
                axes[rank++] = a;
            } else if (!qn_extent_equal(axes[at].extent, a.extent)) {
                return qn_env_fail(e, "V-AXIS", place, "axis %s is %s here and %s there", a.name,
                                   extent_text(e, axes[at].extent), extent_text(e, a.extent));
            }
        }
    }
    *out = rank == ts[0].rank ? ts[0] : qn_type_of(e->ir, ts[0].dtype, axes, rank);
    return true;
}

bool qn_type_union(qn_env *e, const qn_type *ts, int n, qn_type *out)
{
    return qn_type_unite(e, ts, n, (qn_place){0}, out);
}

/* The type without the axes worked over, each of which must be there, once. */
bool qn_type_without(qn_env *e, const qn_type *t, const qn_sym *over, int nover, qn_place place,
                     const char *what, qn_type *out)
{
    qn_axis axes[QN_MAX_AXES];
    int rank = 0;
    for (int k = 0; k < nover; k++) {
        if (!qn_type_axis(t, over[k])) {
            return qn_env_fail(e, "V-AXIS", place, "%s: %s has no axis %s to work over", what,
                               text_of(e, t), over[k]);
        }
        for (int j = 0; j < k; j++) {
            if (over[j] == over[k]) {
                return qn_env_fail(e, "V-AXIS", place, "%s works over axis %s twice", what,
                                   over[k]);
            }
        }
    }
    for (int k = 0; k < t->rank; k++) {
        bool gone = false;
        for (int j = 0; j < nover; j++) {
            gone = gone || over[j] == t->axes[k].name;
        }
        if (!gone) {
            axes[rank++] = t->axes[k];
        }
    }
    *out = qn_type_of(e->ir, t->dtype, axes, rank);
    return true;
}

/* ---------------------------------------------------------------- literals */

static bool int_fits(int64_t i, bool minus, qn_dtype t)
{
    int bits = 8 * qn_dtype_bytes(t);
    if (t == QN_U8) {
        return minus ? i == 0 : i <= 255;
    }
    if (t >= QN_DTYPES || bits == 64) {
        return true;
    }
    int64_t top = (int64_t)1 << (bits - 1);
    return minus ? i <= top : i < top;
}

static bool float_fits(double f, qn_dtype t)
{
    /* half a unit above the greatest finite number is the first to round to infinity */
    double limit = t == QN_F16                    ? 65520.0
                   : t == QN_BF16                 ? 0x1.ffp127
                   : t == QN_F32 || t > QN_DTYPES ? 0x1.ffffffp127
                                                  : INFINITY;
    return isinf(f) || !(fabs(f) >= limit);
}

static bool literal_fits(qn_env *e, const qn_expr *x, bool minus, qn_dtype t)
{
    bool fits = qn_dtype_is_float(t) ? float_fits(x->u.lit.f, t) : int_fits(x->u.lit.i, minus, t);
    if (x->u.lit.type == QN_BOOL || fits) {
        return true;
    }
    return qn_env_fail(e, "V-TYPE", x->place, "%s%s is outside the range of %s", minus ? "-" : "",
                       qn_expr_text(e->ir->arena, x), qn_dtype_name(qn_dtype_settle(t)));
}

bool qn_literals_fit(qn_env *e, const qn_expr *x, qn_dtype t)
{
    if (x->kind == QN_LIT) {
        return literal_fits(e, x, false, t);
    }
    if (x->kind == QN_AS) {
        return qn_literals_fit(e, x->u.as.x, t);
    }
    if (x->kind == QN_NAME) { /* an operand of a norm may stand for a literal */
        const qn_bound *b = qn_env_find(e, x->u.name);
        return !b || !b->value || !qn_dtype_is_literal(b->type.dtype) ||
               qn_literals_fit(e, b->value, t);
    }
    if (x->kind == QN_OP && qn_op_info_of(x->u.op.op)->rule == 'W' && e->norm) {
        const qn_expr *body = x->u.op.op == QN_OP_WEIGHT ? e->norm->weight : e->norm->rescale;
        if (body && !qn_literals_fit(e, body, t)) {
            return false;
        }
    }
    if (x->kind != QN_OP || x->u.op.op == QN_OP_CAST || qn_op_is_compare(x->u.op.op)) {
        return true;
    }
    const qn_expr *first = x->u.op.args.count ? x->u.op.args.at[0] : NULL;
    if (x->u.op.op == QN_OP_NEG && first && first->kind == QN_LIT) {
        return literal_fits(e, first, true, t);
    }
    for (int k = x->u.op.op == QN_OP_SELECT; k < x->u.op.args.count; k++) {
        if (!qn_literals_fit(e, x->u.op.args.at[k], t)) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- expressions */

static bool infer(qn_env *e, const qn_expr *x, qn_type *out);

static bool infer_name(qn_env *e, const qn_expr *x, qn_type *out)
{
    const qn_bound *b = qn_env_find(e, x->u.name);
    if (!b) {
        return qn_env_fail(e, "V-NAME", x->place, "%s is not defined here", x->u.name);
    }
    if (b->kind == QN_BOUND_MEMORY) {
        return qn_env_fail(e, "V-TYPE", x->place, "%s is memory: load it with [ ]", x->u.name);
    }
    if (b->type.dtype == QN_NO_TYPE) {
        return qn_env_fail(e, NULL, x->place, "%s is ill-typed", x->u.name);
    }
    *out = b->type;
    return true;
}

/* Sums and products of indices and axes: an address, which nothing holds as a value. */
static bool is_address(const qn_expr *x)
{
    if (x->kind != QN_OP) {
        return x->kind == QN_LIT || x->kind == QN_NAME || x->kind == QN_IOTA;
    }
    bool linear = x->u.op.op == QN_OP_ADD || x->u.op.op == QN_OP_SUB || x->u.op.op == QN_OP_MUL;
    for (int k = 0; linear && k < x->u.op.args.count; k++) {
        linear = is_address(x->u.op.args.at[k]);
    }
    return linear;
}

static bool infer_index(qn_env *e, const qn_expr *x, qn_type *out)
{
    bool (*check)(void *, qn_env *, const qn_expr *, const qn_type *) = e->check;
    e->check = check && is_address(x) ? NULL : check;
    bool good = infer(e, x, out);
    e->check = check;
    return good;
}

/* Types of the indices of an access, united; dtype is that of the memory. */
bool qn_type_access(qn_env *e, qn_sym base, qn_exprs index, qn_place place, qn_type *out)
{
    const qn_bound *b = qn_env_find(e, base);
    if (!b || b->kind != QN_BOUND_MEMORY) {
        return qn_env_fail(e, "V-NAME", place, "%s is no memory known here", base);
    }
    if (index.count != b->type.rank) {
        return qn_env_fail(e, "V-RANK", place, "%s has %d dimensions, %d indices are given", base,
                           b->type.rank, index.count);
    }
    *out = (qn_type){b->type.dtype, 0, NULL};
    for (int k = 0; k < index.count; k++) {
        qn_type ts[2] = {*out};
        if (!infer_index(e, index.at[k], &ts[1])) {
            return false;
        }
        if (!qn_dtype_is_int(ts[1].dtype)) {
            return qn_env_fail(e, "V-TYPE", index.at[k]->place, "an index is an integer, not %s",
                               text_of(e, &ts[1]));
        }
        if (!qn_type_unite(e, ts, 2, index.at[k]->place, out)) {
            return false;
        }
    }
    return true;
}

static bool infer_load(qn_env *e, const qn_expr *x, qn_type *out)
{
    const qn_expr *pad = x->u.load.pad;
    qn_type t;
    if (!qn_type_access(e, x->u.load.base, x->u.load.index, x->place, out)) {
        return false;
    }
    if (!pad) {
        return true;
    }
    if (!infer(e, pad, &t)) {
        return false;
    }
    if (t.rank || qn_dtype_join(t.dtype, out->dtype) != out->dtype) {
        return qn_env_fail(e, "V-TYPE", pad->place, "the pad is %s, the memory %s", text_of(e, &t),
                           qn_dtype_name(out->dtype));
    }
    return qn_literals_fit(e, pad, out->dtype);
}

/* The common dtype of operands from..; literals among them must fit it. */
static bool join_all(qn_env *e, const qn_expr *x, const qn_type *ts, int from, int n, qn_dtype *out)
{
    qn_dtype d = ts[from].dtype;
    for (int k = from + 1; k < n && d != QN_NO_TYPE; k++) {
        d = qn_dtype_join(d, ts[k].dtype);
    }
    *out = d;
    for (int k = from; k < n && d < QN_DTYPES; k++) {
        if (qn_dtype_is_literal(ts[k].dtype) && !qn_literals_fit(e, x->u.op.args.at[k], d)) {
            return false;
        }
    }
    return true;
}

static bool rule_holds(qn_op op, char rule, qn_dtype d)
{
    switch (rule) {
    case 'N':
        return qn_dtype_is_int(d) || qn_dtype_is_float(d);
    case 'F':
        return qn_dtype_is_float(d);
    case 'I':
        return qn_dtype_is_int(d);
    case 'B':
        return d == QN_BOOL;
    case 'C': /* bools are equal or not, but have no order */
        return d != QN_NO_TYPE && (d != QN_BOOL || op == QN_OP_EQ || op == QN_OP_NE);
    default:
        return d != QN_NO_TYPE;
    }
}

static bool infer_op(qn_env *e, const qn_expr *x, qn_type *out)
{
    const qn_op_info *info = qn_op_info_of(x->u.op.op);
    int n = x->u.op.args.count;
    qn_type ts[3];
    qn_dtype d;
    if (n != info->arity) {
        return qn_env_fail(e, "V-OP", x->place, "no op %s of %d operands", info->text, n);
    }
    for (int k = 0; k < n; k++) {
        if (!infer(e, x->u.op.args.at[k], &ts[k])) {
            return false;
        }
    }
    if (info->rule == 'W') {
        return qn_type_norm_call(e, x, ts, out);
    }
    if (info->rule == 'K') {
        *out = (qn_type){x->u.op.cast, ts[0].rank, ts[0].axes};
        return !qn_dtype_is_literal(ts[0].dtype) ||
               qn_literals_fit(e, x->u.op.args.at[0], qn_dtype_settle(ts[0].dtype));
    }
    int from = info->rule == 'S';
    bool condition = !from || ts[0].dtype == QN_BOOL;
    if (!join_all(e, x, ts, from, n, &d)) {
        return false;
    }
    if (!condition || !rule_holds(x->u.op.op, info->rule, d)) {
        qn_buf b = qn_buf_of(e->ir->arena);
        for (int k = 0; k < n; k++) {
            qn_buf_printf(&b, "%s%s", k ? ", " : "", text_of(e, &ts[k]));
        }
        return qn_env_fail(e, "V-TYPE", x->place, "%s takes no %s", info->text, b.text);
    }
    if (!qn_type_unite(e, ts, n, x->place, out)) {
        return false;
    }
    out->dtype = info->rule == 'C' ? QN_BOOL : d;
    return true;
}

static bool infer_dot(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out)
{
    qn_type all;
    qn_dtype d = qn_dtype_join(ts[0].dtype, ts[1].dtype);
    if (d == QN_NO_TYPE || d == QN_BOOL) {
        return qn_env_fail(e, "V-TYPE", x->place, "dot takes no %s, %s", text_of(e, &ts[0]),
                           text_of(e, &ts[1]));
    }
    for (int k = 0; k < x->u.axop.nover; k++) {
        for (int a = 0; a < 2; a++) {
            if (!qn_type_axis(&ts[a], x->u.axop.over[k])) {
                return qn_env_fail(e, "V-AXIS", x->place,
                                   "dot contracts axes of both operands; %s has no axis %s",
                                   text_of(e, &ts[a]), x->u.axop.over[k]);
            }
        }
    }
    if (!qn_type_unite(e, ts, 2, x->place, &all) ||
        !qn_type_without(e, &all, x->u.axop.over, x->u.axop.nover, x->place, "dot", out)) {
        return false;
    }
    out->dtype = qn_dtype_accumulator(d);
    return true;
}

static bool infer_solve(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out)
{
    if (x->u.axop.nover != 2 || x->u.axop.over[0] == x->u.axop.over[1]) {
        return qn_env_fail(e, "V-AXIS", x->place, "solve_unit_lower works over two axes");
    }
    qn_sym i = x->u.axop.over[0], j = x->u.axop.over[1];
    const qn_axis *ai = qn_type_axis(&ts[0], i), *aj = qn_type_axis(&ts[0], j);
    const qn_axis *bi = qn_type_axis(&ts[1], i);
    if (!ai || !aj || !bi || qn_type_axis(&ts[1], j) || !qn_extent_equal(ai->extent, aj->extent) ||
        !qn_extent_equal(ai->extent, bi->extent)) {
        return qn_env_fail(
            e, "V-AXIS", x->place,
            "solve_unit_lower takes A[%s, %s] and B[%s, ..] of one extent, not %s and %s", i, j, i,
            text_of(e, &ts[0]), text_of(e, &ts[1]));
    }
    qn_dtype d = qn_dtype_join(ts[0].dtype, ts[1].dtype);
    if (!qn_dtype_is_float(d)) {
        return qn_env_fail(e, "V-TYPE", x->place, "solve_unit_lower takes no %s, %s",
                           text_of(e, &ts[0]), text_of(e, &ts[1]));
    }
    qn_type both[2];
    qn_axis axes[QN_MAX_AXES];
    if (!qn_type_without(e, &ts[0], x->u.axop.over, 2, x->place, "solve_unit_lower", &both[0])) {
        return false;
    }
    for (int k = 0; k < ts[1].rank; k++) {
        axes[k] = ts[1].axes[k];
        axes[k].name = axes[k].name == i ? j : axes[k].name;
    }
    both[1] = qn_type_of(e->ir, d, axes, ts[1].rank);
    if (!qn_type_unite(e, both, 2, x->place, out)) {
        return false;
    }
    out->dtype = qn_dtype_settle(d);
    return true;
}

static bool infer_topk(qn_env *e, const qn_expr *x, const qn_type *t, qn_type *out)
{
    qn_type rest;
    qn_axis fresh = x->u.axop.fresh;
    if (!fresh.name || x->u.axop.nover != 1) {
        return qn_env_fail(e, "V-AXIS", x->place, "topk is written topk(x, r:K, over j)");
    }
    if (!qn_dtype_is_float(t->dtype)) {
        return qn_env_fail(e, "V-TYPE", x->place, "topk takes floats, not %s", text_of(e, t));
    }
    if (!is_dim(e, fresh, x->place) ||
        !qn_type_without(e, t, x->u.axop.over, 1, x->place, "topk", &rest)) {
        return false;
    }
    if (qn_type_axis(&rest, fresh.name)) {
        return qn_env_fail(e, "V-AXIS", x->place, "topk: the new axis %s is there already",
                           fresh.name);
    }
    qn_axis axes[QN_MAX_AXES];
    for (int k = 0; k < rest.rank; k++) {
        axes[k] = rest.axes[k];
    }
    axes[rest.rank] = fresh;
    out[0] = qn_type_of(e->ir, qn_dtype_settle(t->dtype), axes, rest.rank + 1);
    out[1] = (qn_type){QN_I64, out[0].rank, out[0].axes};
    return true;
}

static bool infer_reduce(qn_env *e, const qn_expr *x, const qn_type *t, qn_type *out)
{
    qn_axop op = x->u.axop.op;
    const char *text = qn_axop_text(op);
    bool bools = op == QN_AX_REDUCE_ANY || op == QN_AX_REDUCE_ALL;
    bool arg = op == QN_AX_REDUCE_ARGMAX || op == QN_AX_REDUCE_ARGMIN;
    if (bools != (t->dtype == QN_BOOL)) {
        return qn_env_fail(e, "V-TYPE", x->place, "%s takes no %s", text, text_of(e, t));
    }
    if ((arg || qn_axop_is_scan(op)) && x->u.axop.nover != 1) {
        return qn_env_fail(e, "V-AXIS", x->place, "%s works over one axis", text);
    }
    if (!qn_type_without(e, t, x->u.axop.over, x->u.axop.nover, x->place, text, out)) {
        return false;
    }
    if (qn_axop_is_scan(op)) {
        *out = *t;
    }
    out->dtype = arg ? QN_I64 : qn_dtype_settle(t->dtype);
    return true;
}

/* Results of an op over axes; out has room for two. */
static bool infer_axop(qn_env *e, const qn_expr *x, qn_type *out, int *count)
{
    qn_axop op = x->u.axop.op;
    int n = x->u.axop.args.count, arity = op == QN_AX_DOT || op == QN_AX_SOLVE ? 2 : 1;
    qn_type ts[2];
    *count = op == QN_AX_TOPK ? 2 : 1;
    if (n != arity) {
        return qn_env_fail(e, "V-OP", x->place, "no op %s of %d operands", qn_axop_text(op), n);
    }
    for (int k = 0; k < n; k++) {
        const qn_expr *arg = x->u.axop.args.at[k];
        if (!infer(e, arg, &ts[k]) ||
            (ts[k].dtype == QN_FLT_LIT && !qn_literals_fit(e, arg, QN_F32))) {
            return false;
        }
    }
    switch (op) {
    case QN_AX_DOT:
        return infer_dot(e, x, ts, out);
    case QN_AX_SOLVE:
        return infer_solve(e, x, ts, out);
    case QN_AX_TOPK:
        return infer_topk(e, x, ts, out);
    case QN_AX_REDUCE_SUM:
    case QN_AX_REDUCE_MAX:
    case QN_AX_REDUCE_MIN:
    case QN_AX_REDUCE_PROD:
    case QN_AX_REDUCE_ANY:
    case QN_AX_REDUCE_ALL:
    case QN_AX_REDUCE_ARGMAX:
    case QN_AX_REDUCE_ARGMIN:
    case QN_AX_SCAN_SUM:
    case QN_AX_SCAN_MAX:
    case QN_AX_SCAN_MIN:
    case QN_AX_SCAN_PROD:
        return infer_reduce(e, x, ts, out);
    case QN_AXOPS:
        break;
    }
    return qn_env_fail(e, "V-OP", x->place, "no such op over axes");
}

static bool infer_as(qn_env *e, const qn_expr *x, qn_type *out)
{
    qn_type t;
    qn_axis axes[QN_MAX_AXES];
    if (!infer(e, x->u.as.x, &t)) {
        return false;
    }
    for (int p = 0; p < x->u.as.npairs; p++) {
        if (!qn_type_axis(&t, x->u.as.pairs[p].from)) {
            return qn_env_fail(e, "V-AXIS", x->place, "as: %s has no axis %s", text_of(e, &t),
                               x->u.as.pairs[p].from);
        }
        for (int o = 0; o < p; o++) {
            if (x->u.as.pairs[o].from == x->u.as.pairs[p].from) {
                return qn_env_fail(e, "V-AXIS", x->place, "as renames axis %s twice",
                                   x->u.as.pairs[p].from);
            }
        }
    }
    for (int k = 0; k < t.rank; k++) {
        axes[k] = t.axes[k];
        for (int p = 0; p < x->u.as.npairs; p++) {
            if (x->u.as.pairs[p].from == t.axes[k].name) {
                axes[k].name = x->u.as.pairs[p].to;
            }
        }
        for (int o = 0; o < k; o++) {
            if (axes[o].name == axes[k].name) {
                return qn_env_fail(e, "V-AXIS", x->place, "as gives two axes the name %s",
                                   axes[k].name);
            }
        }
    }
    *out = qn_type_of(e->ir, t.dtype, axes, t.rank);
    return true;
}

static bool infer_kind(qn_env *e, const qn_expr *x, qn_type *out)
{
    int count = 1;
    switch (x->kind) {
    case QN_LIT:
        *out = (qn_type){x->u.lit.type, 0, NULL};
        return true;
    case QN_NAME:
        return infer_name(e, x, out);
    case QN_IOTA:
        *out = (qn_type){QN_I64, 1, &x->u.iota};
        return is_dim(e, x->u.iota, x->place);
    case QN_LOAD:
        return infer_load(e, x, out);
    case QN_OP:
        return infer_op(e, x, out);
    case QN_AS:
        return infer_as(e, x, out);
    case QN_AXOP:
    case QN_FOLD: {
        qn_type results[QN_MAX_AXES];
        if (!qn_type_results(e, x, results, &count)) {
            return false;
        }
        if (count != 1) {
            return qn_env_fail(e, "V-TYPE", x->place, "%d results where one value is wanted",
                               count);
        }
        *out = results[0];
        return true;
    }
    }
    return qn_env_fail(e, "V-OP", x->place, "no such expression");
}

static bool infer(qn_env *e, const qn_expr *x, qn_type *out)
{
    return infer_kind(e, x, out) && (!e->check || e->check(e->user, e, x, out));
}

bool qn_type_infer(qn_env *e, const qn_expr *x, qn_type *out)
{
    return infer(e, x, out);
}

bool qn_type_results(qn_env *e, const qn_expr *x, qn_type *out, int *count)
{
    *count = 1;
    return x->kind == QN_FOLD   ? qn_type_fold(e, x, out, count)
           : x->kind == QN_AXOP ? infer_axop(e, x, out, count)
                                : infer(e, x, out);
}

/* ---------------------------------------------------------------- statements */

static qn_type settled(qn_type t)
{
    t.dtype = qn_dtype_settle(t.dtype);
    return t;
}

bool qn_env_enter_loop(qn_env *e, const qn_stmt *loop)
{
    const qn_type index = {QN_I64, 0, NULL};
    for (int k = 0; k < loop->u.loop.niters; k++) {
        qn_type_define(e, loop->u.loop.iters[k].name, QN_BOUND_INDEX, index);
        if (loop->u.loop.iters[k].end) {
            qn_type_define(e, loop->u.loop.iters[k].end, QN_BOUND_INDEX, index);
        }
    }
    for (int k = 0; k < loop->u.loop.ncarries; k++) {
        qn_type_define(e, loop->u.loop.carries[k].name, QN_BOUND_VALUE,
                       loop->u.loop.carries[k].type);
    }
    return true;
}

/* Types that the yield of a branch gives; the branch is walked for its names. */
static bool branch_types(qn_env *e, const qn_block *b, int n, qn_type *out, qn_place place)
{
    const qn_stmt *last = b->count ? b->at[b->count - 1] : NULL;
    qn_env *inner = qn_env_push(e);
    if (!last || last->kind != QN_YIELD || last->u.yield.count != n) {
        return qn_env_fail(e, "V-YIELD", place, "the branch must yield %d values", n);
    }
    bool good = true;
    for (int k = 0; good && k < b->count - 1; k++) {
        good = qn_env_stmt(inner, b->at[k]);
    }
    for (int k = 0; good && k < n; k++) {
        good = infer(inner, last->u.yield.at[k], &out[k]);
    }
    if (!good) {
        e->fault = inner->fault;
    }
    return good;
}

static bool define_results(qn_env *e, const qn_stmt *s)
{
    int n = s->u.branch.nnames;
    qn_type *ts = QN_NEWN(e->ir->arena, qn_type, 2 * n);
    if (!s->u.branch.has_else) {
        return qn_env_fail(e, "V-IF", s->place, "an if with results needs an else");
    }
    if (!branch_types(e, &s->u.branch.then, n, ts, s->place) ||
        !branch_types(e, &s->u.branch.other, n, ts + n, s->place)) {
        return false;
    }
    for (int k = 0; k < n; k++) {
        qn_type t, both[2] = {ts[k], ts[n + k]};
        qn_dtype d = qn_dtype_join(both[0].dtype, both[1].dtype);
        if (d == QN_NO_TYPE) {
            return qn_env_fail(e, "V-IF", s->place, "%s is %s or %s", s->u.branch.names[k],
                               text_of(e, &both[0]), text_of(e, &both[1]));
        }
        if (!qn_type_unite(e, both, 2, s->place, &t)) {
            return false;
        }
        t.dtype = qn_dtype_settle(d);
        qn_type_define(e, s->u.branch.names[k], QN_BOUND_VALUE, t);
    }
    return true;
}

static bool define_let(qn_env *e, const qn_stmt *s)
{
    qn_type ts[QN_MAX_AXES];
    int n;
    if (!qn_type_results(e, s->u.let.x, ts, &n)) {
        return false;
    }
    if (n != s->u.let.nnames) {
        return qn_env_fail(e, "V-NAME", s->place, "%d names for %d results", s->u.let.nnames, n);
    }
    for (int k = 0; k < n; k++) {
        qn_type_define(e, s->u.let.names[k], QN_BOUND_VALUE, settled(ts[k]));
    }
    return true;
}

bool qn_env_stmt(qn_env *e, const qn_stmt *s)
{
    switch (s->kind) {
    case QN_LET:
        return define_let(e, s);
    case QN_BUF:
        qn_env_define(e, &(qn_bound){.name = s->u.buf.name,
                                     .kind = QN_BOUND_MEMORY,
                                     .type = s->u.buf.type,
                                     .is_buf = true,
                                     .space = s->u.buf.space,
                                     .ring = s->u.buf.ring});
        return true;
    case QN_FOR:
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            qn_type_define(e, s->u.loop.carries[k].name, QN_BOUND_VALUE, s->u.loop.carries[k].type);
        }
        return true;
    case QN_IF:
        return s->u.branch.nnames == 0 || define_results(e, s);
    case QN_STORE:
    case QN_YIELD:
    case QN_SYNC:
    case QN_LAUNCH:
    case QN_FLAG:
    case QN_PREFETCH:
        break;
    }
    return true;
}
