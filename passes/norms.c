/* SPDX-License-Identifier: MIT
 *
 * Norms and monoids as passes use them: see norms.h. */
#include "passes/norms.h"

#include "ir/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- monoids */

qn_expr *qn_zero(qn_ir *ir, qn_dtype t)
{
    return t == QN_BOOL           ? qn_bool(ir, false)
           : qn_dtype_is_float(t) ? qn_float(ir, 0.0)
                                  : qn_int(ir, 0);
}

/* The least value of an integer type; its magnitude alone is no literal of the type. */
static qn_expr *least_int(qn_ir *ir, qn_dtype t)
{
    if (t == QN_U8) {
        return qn_int(ir, 0);
    }
    int64_t most = (int64_t)((UINT64_C(1) << (8 * qn_dtype_bytes(t) - 1)) - 1);
    return qn_op2(ir, QN_OP_SUB, qn_int(ir, -most), qn_int(ir, 1));
}

static qn_expr *greatest_int(qn_ir *ir, qn_dtype t)
{
    int64_t most = (int64_t)((UINT64_C(1) << (8 * qn_dtype_bytes(t) - 1)) - 1);
    return qn_int(ir, t == QN_U8 ? 255 : most);
}

/* What a contraction of nothing gives. */
qn_expr *qn_neutral(qn_ir *ir, qn_axop op, qn_dtype t)
{
    bool real = qn_dtype_is_float(t);
    switch ((int)op) {
    case QN_AX_REDUCE_MAX:
    case QN_AX_REDUCE_ARGMAX:
        return real ? qn_float(ir, -INFINITY) : least_int(ir, t);
    case QN_AX_REDUCE_MIN:
    case QN_AX_REDUCE_ARGMIN:
        return real ? qn_float(ir, INFINITY) : greatest_int(ir, t);
    case QN_AX_REDUCE_PROD:
        return real ? qn_float(ir, 1.0) : qn_int(ir, 1);
    case QN_AX_REDUCE_ANY:
        return qn_bool(ir, false);
    case QN_AX_REDUCE_ALL:
        return qn_bool(ir, true);
    default:
        return qn_zero(ir, t);
    }
}

qn_expr *qn_combine(qn_ir *ir, qn_axop op, qn_expr *a, qn_expr *b)
{
    switch ((int)op) {
    case QN_AX_REDUCE_MAX:
        return qn_op2(ir, QN_OP_MAX, a, b);
    case QN_AX_REDUCE_MIN:
        return qn_op2(ir, QN_OP_MIN, a, b);
    case QN_AX_REDUCE_PROD:
        return qn_op2(ir, QN_OP_MUL, a, b);
    case QN_AX_REDUCE_ANY:
        return qn_op2(ir, QN_OP_OR, a, b);
    case QN_AX_REDUCE_ALL:
        return qn_op2(ir, QN_OP_AND, a, b);
    default:
        return qn_op2(ir, QN_OP_ADD, a, b);
    }
}

/* ---------------------------------------------------------------- norms */

typedef struct calls {
    qn_ir *ir;
    const qn_norm *norm;
} calls;

/* rescale(a, b) and weight(s, m) in sums and finish become the norm's own expressions. */
static qn_expr *expand_call(void *user, qn_expr *x)
{
    calls *c = user;
    const qn_norm *n = c->norm;
    if (x->kind != QN_OP || x->u.op.args.count != 2) {
        return x;
    }
    qn_expr *const *a = x->u.op.args.at;
    if (x->u.op.op == QN_OP_RESCALE && n->rescale) {
        const qn_binding map[] = {{n->rescale_from, a[0]}, {n->rescale_to, a[1]}};
        return qn_substitute(c->ir, n->rescale, map, 2);
    }
    if (x->u.op.op == QN_OP_WEIGHT && n->nargs > 0) {
        const qn_binding map[] = {{n->args[0], a[0]}, {n->stat, a[1]}};
        return qn_substitute(c->ir, n->weight, map, n->stat ? 2 : 1);
    }
    return x;
}

void qn_norm_bind(qn_norm_values *b, qn_sym name, qn_expr *x)
{
    for (int n = 0; n < b->count; n++) {
        if (b->at[n].name == name) {
            b->at[n].x = x;
            return;
        }
    }
    if (b->count < QN_NORM_NAMES) {
        b->at[b->count++] = (qn_binding){name, x};
    }
}

qn_expr *qn_norm_expr(qn_ir *ir, const qn_norm *norm, qn_expr *x, const qn_norm_values *b)
{
    calls c = {ir, norm};
    return qn_substitute(ir, qn_rewrite(ir, x, expand_call, &c), b->at, b->count);
}

typedef struct counter {
    qn_sym name;
    int count;
} counter;

static bool count_name(void *user, const qn_expr *x)
{
    counter *c = user;
    c->count += x->kind == QN_NAME && x->u.name == c->name;
    return true;
}

int qn_norm_uses(const qn_norm *norm, qn_sym arg)
{
    counter c = {arg, 0};
    if (norm->stat) {
        qn_visit(norm->stat_x, count_name, &c);
    }
    qn_visit(norm->weight, count_name, &c);
    for (int n = 0; n < norm->nsums; n++) {
        qn_visit(norm->sums[n].x, count_name, &c);
    }
    return c.count;
}

static bool is_one(const qn_expr *x)
{
    return x->kind == QN_LIT && x->u.lit.type == QN_FLT_LIT && x->u.lit.f == 1.0;
}

/* The sum over the axes of weight * e: a dot if e has all of them and the types agree. */
qn_expr *qn_weighted_sum(qn_ir *ir, qn_env *env, qn_expr *weight, qn_expr *e, const qn_sym *over,
                         int nover)
{
    if (is_one(e)) {
        return qn_axop1(ir, QN_AX_REDUCE_SUM, weight, over, nover);
    }
    qn_type te, tw;
    bool all = qn_type_infer(env, e, &te) && qn_type_infer(env, weight, &tw);
    for (int n = 0; all && n < nover; n++) {
        all = qn_type_axis(&te, over[n]) && qn_type_axis(&tw, over[n]);
    }
    if (all && te.dtype == tw.dtype && (te.dtype == QN_F32 || te.dtype == QN_F64)) {
        return qn_dot(ir, weight, e, over, nover);
    }
    return qn_axop1(ir, QN_AX_REDUCE_SUM, qn_op2(ir, QN_OP_MUL, weight, e), over, nover);
}

bool qn_norm_cheap(const qn_expr *x)
{
    return x->kind == QN_NAME || x->kind == QN_LIT || x->kind == QN_IOTA;
}

/* ---------------------------------------------------------------- folds without streaming */

static qn_expr *push_let(qn_tool *t, qn_env *env, qn_block *out, qn_sym name, qn_expr *x)
{
    qn_stmt *s = qn_let(t->ir, name, x);
    qn_block_push(t->ir, out, s);
    qn_env_stmt(env, s);
    return qn_name(t->ir, name);
}

static qn_sym norm_name(qn_tool *t, qn_sym base)
{
    char text[96];
    snprintf(text, sizeof text, "%%%.80s", base);
    return qn_tool_fresh(t, text);
}

/* Data and constants spoil no zero weight. */
static bool is_data(const qn_expr *x)
{
    while (x->kind == QN_OP && x->u.op.op == QN_OP_CAST) {
        x = x->u.op.args.at[0];
    }
    return x->kind == QN_LOAD || (x->kind == QN_LIT && isfinite(x->u.lit.f));
}

static qn_expr *select_if(qn_ir *ir, qn_expr *c, qn_expr *x, qn_expr *other)
{
    return c ? qn_op3(ir, QN_OP_SELECT, c, x, other) : x;
}

void qn_unfold(qn_tool *t, qn_env *env, const qn_stmt *fold, qn_block *out)
{
    qn_ir *ir = t->ir;
    const qn_expr *x = fold->u.let.x;
    const qn_norm *norm = qn_file_norm(t->file, x->u.fold.norm);
    const qn_sym *over = x->u.fold.over;
    int nover = x->u.fold.nover;
    qn_norm_values m = {.count = 0};
    for (int n = 0; n < norm->nargs && n < x->u.fold.args.count; n++) {
        qn_expr *a = x->u.fold.args.at[n];
        if (!qn_norm_cheap(a) && qn_norm_uses(norm, norm->args[n]) > 1) {
            a = push_let(t, env, out, norm_name(t, norm->args[n]), a);
        }
        qn_norm_bind(&m, norm->args[n], a);
    }
    qn_expr *in = x->u.fold.where;
    if (in && in->kind != QN_NAME) {
        in = push_let(t, env, out, qn_tool_fresh(t, "%in"), in);
    }
    if (norm->stat) {
        qn_expr *s = select_if(ir, in, qn_norm_expr(ir, norm, norm->stat_x, &m),
                               qn_stat_identity(ir, norm->stat_op));
        qn_norm_bind(&m, norm->stat,
                     push_let(t, env, out, norm_name(t, norm->stat),
                              qn_axop1(ir, norm->stat_op, s, over, nover)));
    }
    qn_expr *weight =
        push_let(t, env, out, qn_tool_fresh(t, "%w"),
                 select_if(ir, in, qn_norm_expr(ir, norm, norm->weight, &m), qn_float(ir, 0.0)));
    for (int n = 0; n < norm->nsums; n++) {
        qn_expr *e = qn_norm_expr(ir, norm, norm->sums[n].x, &m);
        qn_type type;
        if (in && !is_data(e) && qn_type_infer(env, e, &type)) {
            e = select_if(ir, in, e, qn_zero(ir, type.dtype));
        }
        qn_norm_bind(&m, norm->sums[n].name,
                     push_let(t, env, out, norm_name(t, norm->sums[n].name),
                              qn_weighted_sum(ir, env, weight, e, over, nover)));
    }
    for (int n = 0; n < fold->u.let.nnames && n < norm->nouts; n++) {
        for (int k = 0; k < norm->nfinish; k++) {
            if (norm->finish[k].name == norm->outs[n]) {
                push_let(t, env, out, fold->u.let.names[n],
                         qn_norm_expr(ir, norm, norm->finish[k].x, &m));
            }
        }
    }
}
