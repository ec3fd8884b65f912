/* SPDX-License-Identifier: MIT
 *
 * Types and scopes; see type.h.
 * One recursive function types an expression bottom-up: operands first, then the rule of the op,
 * then the union of the axes. Scopes are a chain of small arrays, with a hash table where a block
 * defines many names. A fold is typed through its norm's own expressions with the norm's names
 * bound to types, not through the expansion, so that its cost stays that of its text. */
#include "ir/type.h"

#include "ir/build.h"
#include "ir/print.h"
#include "ir/walk.h"

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

static void define(qn_env *e, qn_sym name, qn_bound_kind kind, qn_type type)
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

static bool unite(qn_env *e, const qn_type *ts, int n, qn_place place, qn_type *out)
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
    return unite(e, ts, n, (qn_place){0}, out);
}

/* The type without the axes worked over, each of which must be there, once. */
static bool without(qn_env *e, const qn_type *t, const qn_sym *over, int nover, qn_place place,
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

static bool is_literal_type(qn_dtype t)
{
    return t == QN_INT_LIT || t == QN_FLT_LIT;
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
        if (!unite(e, ts, 2, index.at[k]->place, out)) {
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
        if (is_literal_type(ts[k].dtype) && !qn_literals_fit(e, x->u.op.args.at[k], d)) {
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

static bool infer_norm_call(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out);

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
        return infer_norm_call(e, x, ts, out);
    }
    if (info->rule == 'K') {
        *out = (qn_type){x->u.op.cast, ts[0].rank, ts[0].axes};
        return !is_literal_type(ts[0].dtype) ||
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
    if (!unite(e, ts, n, x->place, out)) {
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
    if (!unite(e, ts, 2, x->place, &all) ||
        !without(e, &all, x->u.axop.over, x->u.axop.nover, x->place, "dot", out)) {
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
    if (!without(e, &ts[0], x->u.axop.over, 2, x->place, "solve_unit_lower", &both[0])) {
        return false;
    }
    for (int k = 0; k < ts[1].rank; k++) {
        axes[k] = ts[1].axes[k];
        axes[k].name = axes[k].name == i ? j : axes[k].name;
    }
    both[1] = qn_type_of(e->ir, d, axes, ts[1].rank);
    if (!unite(e, both, 2, x->place, out)) {
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
    if (!is_dim(e, fresh, x->place) || !without(e, t, x->u.axop.over, 1, x->place, "topk", &rest)) {
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
    if (!without(e, t, x->u.axop.over, x->u.axop.nover, x->place, text, out)) {
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

/* ---------------------------------------------------------------- norms */

/* rescale(a, b) and weight(s, m) inside a norm: their bodies, with those names bound anew. */
static bool infer_norm_call(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out)
{
    const qn_norm *n = e->norm;
    bool rescale = x->u.op.op == QN_OP_RESCALE;
    if (!n) {
        return qn_env_fail(e, "V-OP", x->place, "%s stands only in the finish of a norm",
                           qn_op_info_of(x->u.op.op)->text);
    }
    if (rescale && !n->rescale) {
        return qn_env_fail(e, "V-NORM", x->place, "norm %s has no rescale", n->name);
    }
    qn_env *inner = qn_env_push(e);
    if (rescale) {
        define(inner, n->rescale_from, QN_BOUND_VALUE, ts[0]);
        define(inner, n->rescale_to, QN_BOUND_VALUE, ts[1]);
    } else {
        define(inner, n->args[0], QN_BOUND_VALUE, ts[0]);
        if (n->stat) {
            define(inner, n->stat, QN_BOUND_VALUE, ts[1]);
        }
    }
    if (!infer(inner, rescale ? n->rescale : n->weight, out)) {
        e->fault = inner->fault;
        e->fault.place = x->place;
        return false;
    }
    return true;
}

/* Types of one sum or stat: x with the mask's axes, less the axes folded over. */
static bool infer_part(qn_env *e, const qn_expr *fold, const qn_expr *x, const qn_type *with,
                       int nwith, qn_type *out)
{
    qn_type ts[3], all;
    if (!infer(e, x, &ts[0])) {
        return false;
    }
    for (int k = 0; k < nwith; k++) {
        ts[k + 1] = with[k];
    }
    return unite(e, ts, nwith + 1, fold->place, &all) &&
           without(e, &all, fold->u.fold.over, fold->u.fold.nover, fold->place, fold->u.fold.norm,
                   out);
}

static bool infer_sums(qn_env *e, const qn_norm *n, const qn_expr *fold, const qn_type *where)
{
    qn_type with[2], w, t;
    if (!infer(e, n->weight, &w)) {
        return false;
    }
    if (!qn_dtype_is_float(w.dtype)) {
        return qn_env_fail(e, "V-TYPE", fold->place, "the weight of %s is %s: it must be a float",
                           n->name, text_of(e, &w));
    }
    with[0] = w;
    with[1] = *where;
    for (int k = 0; k < n->nsums; k++) {
        if (!infer_part(e, fold, n->sums[k].x, with, 2, &t)) {
            return false;
        }
        qn_dtype d = qn_dtype_join(t.dtype, w.dtype);
        if (!qn_dtype_is_float(d)) {
            return qn_env_fail(e, "V-TYPE", fold->place, "sum %s of %s is %s, its weight %s",
                               n->sums[k].name, n->name, text_of(e, &t), text_of(e, &w));
        }
        t.dtype = qn_dtype_settle(d);
        define(e, n->sums[k].name, QN_BOUND_VALUE, t);
    }
    return true;
}

static qn_expr *finish_of(const qn_norm *n, qn_sym out)
{
    for (int k = 0; k < n->nfinish; k++) {
        if (n->finish[k].name == out) {
            return n->finish[k].x;
        }
    }
    return NULL;
}

/* What comes after the fold no longer varies with the axes folded over. */
static bool is_folded(qn_env *e, const qn_expr *fold, const qn_type *t, const char *what)
{
    for (int k = 0; k < fold->u.fold.nover; k++) {
        if (qn_type_axis(t, fold->u.fold.over[k])) {
            return qn_env_fail(e, "V-AXIS", fold->place,
                               "%s of %s varies with axis %s, folded over", what, fold->u.fold.norm,
                               fold->u.fold.over[k]);
        }
    }
    return true;
}

static bool infer_stat(qn_env *e, const qn_norm *n, const qn_expr *fold, const qn_type *where)
{
    qn_type t;
    if (!n->stat) {
        return true;
    }
    if (!infer_part(e, fold, n->stat_x, where, 1, &t)) {
        return false;
    }
    if (!qn_dtype_is_float(t.dtype)) {
        return qn_env_fail(e, "V-TYPE", fold->place, "the stat of %s is %s: it must be a float",
                           n->name, text_of(e, &t));
    }
    t.dtype = qn_dtype_settle(t.dtype);
    define(e, n->stat, QN_BOUND_VALUE, t);
    return true;
}

static bool infer_rescale(qn_env *e, const qn_norm *n, const qn_expr *fold)
{
    qn_env *inner = qn_env_push(e);
    qn_type t;
    if (!n->rescale || !n->stat) {
        return true;
    }
    const qn_type stat = qn_env_find(e, n->stat)->type;
    define(inner, n->rescale_from, QN_BOUND_VALUE, stat);
    define(inner, n->rescale_to, QN_BOUND_VALUE, stat);
    if (!infer(inner, n->rescale, &t)) {
        e->fault = inner->fault;
        return false;
    }
    if (!qn_dtype_is_float(t.dtype)) {
        return qn_env_fail(e, "V-TYPE", fold->place, "rescale of %s is %s: it must be a float",
                           n->name, text_of(e, &t));
    }
    return is_folded(e, fold, &t, "rescale");
}

static bool infer_norm(qn_env *e, const qn_norm *n, const qn_expr *fold, const qn_type *where,
                       qn_type *out)
{
    if (!infer_stat(e, n, fold, where) || !infer_sums(e, n, fold, where) ||
        !infer_rescale(e, n, fold)) {
        return false;
    }
    e->norm = n;
    for (int k = 0; k < n->nouts; k++) {
        const qn_expr *x = finish_of(n, n->outs[k]);
        if (!x) {
            return qn_env_fail(e, "V-NORM", n->place, "norm %s finishes no %s", n->name,
                               n->outs[k]);
        }
        if (!infer(e, x, &out[k]) || !is_folded(e, fold, &out[k], n->outs[k])) {
            return false;
        }
    }
    return true;
}

static bool infer_fold(qn_env *e, const qn_expr *x, qn_type *out, int *count)
{
    const qn_norm *n = e->file ? qn_file_norm(e->file, x->u.fold.norm) : NULL;
    qn_type where = {QN_BOOL, 0, NULL}, t;
    if (!n || n->nargs != x->u.fold.args.count || n->nouts > QN_MAX_AXES) {
        return qn_env_fail(e, "V-NORM", x->place, "no norm %s of %d inputs", x->u.fold.norm,
                           x->u.fold.args.count);
    }
    if (x->u.fold.where) {
        if (!infer(e, x->u.fold.where, &where)) {
            return false;
        }
        if (where.dtype != QN_BOOL) {
            return qn_env_fail(e, "V-TYPE", x->u.fold.where->place, "where takes a bool, not %s",
                               text_of(e, &where));
        }
    }
    qn_env *inner = qn_env_push(e);
    for (int k = 0; k < n->nargs; k++) {
        if (!infer(e, x->u.fold.args.at[k], &t)) {
            return false;
        }
        define(inner, n->args[k], QN_BOUND_VALUE, t);
    }
    *count = n->nouts;
    if (!infer_norm(inner, n, x, &where, out)) {
        /* the norm is right for other operands: the fold is the place to mend */
        e->fault = inner->fault;
        if (e->fault.rule && strcmp(e->fault.rule, "V-NORM") != 0) {
            e->fault.place = x->place;
        }
        return false;
    }
    return true;
}

bool qn_type_results(qn_env *e, const qn_expr *x, qn_type *out, int *count)
{
    *count = 1;
    return x->kind == QN_FOLD   ? infer_fold(e, x, out, count)
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
        define(e, loop->u.loop.iters[k].name, QN_BOUND_INDEX, index);
        if (loop->u.loop.iters[k].end) {
            define(e, loop->u.loop.iters[k].end, QN_BOUND_INDEX, index);
        }
    }
    for (int k = 0; k < loop->u.loop.ncarries; k++) {
        define(e, loop->u.loop.carries[k].name, QN_BOUND_VALUE, loop->u.loop.carries[k].type);
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
        if (!unite(e, both, 2, s->place, &t)) {
            return false;
        }
        t.dtype = qn_dtype_settle(d);
        define(e, s->u.branch.names[k], QN_BOUND_VALUE, t);
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
        define(e, s->u.let.names[k], QN_BOUND_VALUE, settled(ts[k]));
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
            define(e, s->u.loop.carries[k].name, QN_BOUND_VALUE, s->u.loop.carries[k].type);
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

/* ---------------------------------------------------------------- meaning of a fold */

qn_expr *qn_stat_identity(qn_ir *ir, qn_axop op)
{
    return op == QN_AX_REDUCE_MAX   ? qn_float(ir, -INFINITY)
           : op == QN_AX_REDUCE_MIN ? qn_float(ir, INFINITY)
                                    : qn_float(ir, 0.0);
}

typedef struct meaning {
    qn_ir *ir;
    const qn_norm *n;
    qn_binding *map; /* of the norm's names */
    int count;
} meaning;

/* Replaces the norm's names and calls; the operands of a call have been replaced already. */
static qn_expr *mean(void *user, qn_expr *x)
{
    const meaning *m = user;
    const qn_norm *n = m->n;
    if (x->kind != QN_OP || x->u.op.args.count != 2) {
        return x->kind == QN_NAME ? qn_substitute(m->ir, x, m->map, m->count) : x;
    }
    qn_expr *a = x->u.op.args.at[0], *b = x->u.op.args.at[1];
    qn_binding *map = QN_NEWN(m->ir->arena, qn_binding, m->count + 2);
    if (x->u.op.op == QN_OP_RESCALE && n->rescale) {
        map[0] = (qn_binding){n->rescale_from, a};
        map[1] = (qn_binding){n->rescale_to, b};
        memcpy(map + 2, m->map, sizeof *map * (size_t)m->count);
        return qn_substitute(m->ir, n->rescale, map, m->count + 2);
    }
    if (x->u.op.op == QN_OP_WEIGHT) {
        map[0] = (qn_binding){n->args[0], a};
        map[1] = (qn_binding){n->stat ? n->stat : n->args[0], n->stat ? b : a};
        memcpy(map + 2, m->map, sizeof *map * (size_t)m->count);
        return qn_substitute(m->ir, n->weight, map, m->count + 2);
    }
    return x;
}

static qn_expr *mean_of(meaning *m, qn_expr *x)
{
    return qn_rewrite(m->ir, x, mean, m);
}

static qn_sym dotted(qn_ir *ir, qn_sym name)
{
    qn_buf b = qn_buf_of(ir->arena);
    qn_buf_printf(&b, "%%.%s", name);
    return qn_intern(ir, b.text);
}

static qn_expr *masked(qn_ir *ir, qn_expr *keep, qn_expr *x, qn_expr *otherwise)
{
    return keep ? qn_op3(ir, QN_OP_SELECT, keep, x, otherwise) : x;
}

bool qn_fold_expand(qn_ir *ir, const qn_norm *n, const qn_expr *fold, qn_fold_meaning *out)
{
    qn_expr *keep = fold->u.fold.where, *w;
    const qn_sym *over = fold->u.fold.over;
    int nover = fold->u.fold.nover, lets = 0;
    if (fold->u.fold.args.count != n->nargs || n->nargs == 0) {
        return false;
    }
    meaning m = {ir, n, QN_NEWN(ir->arena, qn_binding, n->nargs + n->nsums + 1), 0};
    qn_norm_def *at = QN_NEWN(ir->arena, qn_norm_def, n->nsums + 2);
    for (int k = 0; k < n->nargs; k++) {
        m.map[m.count++] = (qn_binding){n->args[k], fold->u.fold.args.at[k]};
    }
    if (n->stat) {
        qn_expr *x = masked(ir, keep, mean_of(&m, n->stat_x), qn_stat_identity(ir, n->stat_op));
        at[lets++] = (qn_norm_def){dotted(ir, n->stat), qn_axop1(ir, n->stat_op, x, over, nover)};
        m.map[m.count++] = (qn_binding){n->stat, qn_name(ir, dotted(ir, n->stat))};
    }
    at[lets++] = (qn_norm_def){qn_intern(ir, "%.weight"),
                               masked(ir, keep, mean_of(&m, n->weight), qn_float(ir, 0.0))};
    w = qn_name(ir, at[lets - 1].name);
    int elements = m.count; /* sums see no other sum */
    for (int k = 0; k < n->nsums; k++) {
        int finals = m.count;
        m.count = elements;
        qn_expr *x = masked(ir, keep, mean_of(&m, n->sums[k].x), qn_float(ir, 0.0));
        m.count = finals;
        x = qn_axop1(ir, QN_AX_REDUCE_SUM, qn_op2(ir, QN_OP_MUL, w, x), over, nover);
        at[lets++] = (qn_norm_def){dotted(ir, n->sums[k].name), x};
        m.map[m.count++] = (qn_binding){n->sums[k].name, qn_name(ir, at[lets - 1].name)};
    }
    *out = (qn_fold_meaning){at, lets, QN_NEWN(ir->arena, qn_expr *, n->nouts + 1), n->nouts};
    for (int k = 0; k < n->nouts; k++) {
        qn_expr *x = finish_of(n, n->outs[k]);
        if (!x) {
            return false;
        }
        out->outs[k] = mean_of(&m, x);
    }
    return true;
}
