/* SPDX-License-Identifier: MIT
 *
 * Types and meaning of folds; see type.h.
 * A fold is typed through its norm's own expressions with the norm's names bound to types, not
 * through the expansion, so that its cost stays that of its text. Its meaning in plain statements
 * is made by substitution; operands are put in whole, and never looked into again. */
#include "ir/type_in.h"

#include "ir/build.h"
#include "ir/print.h"
#include "ir/walk.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- norms */

static bool is_name(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_NAME;
}

/* A name of a norm. A literal behind it must fit where the name is used; an operand with names of
 * its own is no literal, and would be read in the wrong scope. */
static void define_operand(qn_env *e, qn_sym name, const qn_expr *x, qn_type t)
{
    const qn_expr *value =
        qn_dtype_is_literal(t.dtype) && !qn_contains(x, is_name, NULL) ? x : NULL;
    qn_env_define(e, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = t, .value = value});
}

/* rescale(a, b) and weight(s, m) inside a norm: their bodies, with those names bound anew. */
bool qn_type_norm_call(qn_env *e, const qn_expr *x, const qn_type *ts, qn_type *out)
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
        define_operand(inner, n->rescale_from, x->u.op.args.at[0], ts[0]);
        define_operand(inner, n->rescale_to, x->u.op.args.at[1], ts[1]);
    } else {
        define_operand(inner, n->args[0], x->u.op.args.at[0], ts[0]);
        if (n->stat) {
            define_operand(inner, n->stat, x->u.op.args.at[1], ts[1]);
        }
    }
    if (!qn_type_infer(inner, rescale ? n->rescale : n->weight, out)) {
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
    if (!qn_type_infer(e, x, &ts[0])) {
        return false;
    }
    for (int k = 0; k < nwith; k++) {
        ts[k + 1] = with[k];
    }
    return qn_type_unite(e, ts, nwith + 1, fold->place, &all) &&
           qn_type_without(e, &all, fold->u.fold.over, fold->u.fold.nover, fold->place,
                           fold->u.fold.norm, out);
}

static bool infer_sums(qn_env *e, const qn_norm *n, const qn_expr *fold, const qn_type *where)
{
    qn_type with[2], w, t;
    if (!qn_type_infer(e, n->weight, &w)) {
        return false;
    }
    if (!qn_dtype_is_float(w.dtype)) {
        return qn_env_fail(e, "V-TYPE", fold->place, "the weight of %s is %s: it must be a float",
                           n->name, qn_type_text(e->ir->arena, &w));
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
                               n->sums[k].name, n->name, qn_type_text(e->ir->arena, &t),
                               qn_type_text(e->ir->arena, &w));
        }
        d = qn_dtype_settle(d);
        if ((qn_dtype_is_literal(t.dtype) && !qn_literals_fit(e, n->sums[k].x, d)) ||
            (qn_dtype_is_literal(w.dtype) && !qn_literals_fit(e, n->weight, d))) {
            return false;
        }
        t.dtype = d;
        qn_type_define(e, n->sums[k].name, QN_BOUND_VALUE, t);
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
                           n->name, qn_type_text(e->ir->arena, &t));
    }
    if (qn_dtype_is_literal(t.dtype) && !qn_literals_fit(e, n->stat_x, QN_F32)) {
        return false;
    }
    t.dtype = qn_dtype_settle(t.dtype);
    qn_type_define(e, n->stat, QN_BOUND_VALUE, t);
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
    qn_type_define(inner, n->rescale_from, QN_BOUND_VALUE, stat);
    qn_type_define(inner, n->rescale_to, QN_BOUND_VALUE, stat);
    if (!qn_type_infer(inner, n->rescale, &t)) {
        e->fault = inner->fault;
        return false;
    }
    if (!qn_dtype_is_float(t.dtype)) {
        return qn_env_fail(e, "V-TYPE", fold->place, "rescale of %s is %s: it must be a float",
                           n->name, qn_type_text(e->ir->arena, &t));
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
        if (!qn_type_infer(e, x, &out[k]) || !is_folded(e, fold, &out[k], n->outs[k])) {
            return false;
        }
        if (qn_dtype_is_literal(out[k].dtype)) {
            out[k].dtype = qn_dtype_settle(out[k].dtype);
            if (!qn_literals_fit(e, x, out[k].dtype)) {
                return false;
            }
        }
    }
    return true;
}

bool qn_type_fold(qn_env *e, const qn_expr *x, qn_type *out, int *count)
{
    const qn_norm *n = e->file ? qn_file_norm(e->file, x->u.fold.norm) : NULL;
    qn_type where = {QN_BOOL, 0, NULL}, t;
    if (!n || n->nargs != x->u.fold.args.count || n->nouts > QN_MAX_AXES) {
        return qn_env_fail(e, "V-NORM", x->place, "no norm %s of %d inputs", x->u.fold.norm,
                           x->u.fold.args.count);
    }
    if (x->u.fold.where) {
        if (!qn_type_infer(e, x->u.fold.where, &where)) {
            return false;
        }
        if (where.dtype != QN_BOOL) {
            return qn_env_fail(e, "V-TYPE", x->u.fold.where->place, "where takes a bool, not %s",
                               qn_type_text(e->ir->arena, &where));
        }
    }
    qn_env *inner = qn_env_push(e);
    for (int k = 0; k < n->nargs; k++) {
        if (!qn_type_infer(e, x->u.fold.args.at[k], &t)) {
            return false;
        }
        define_operand(inner, n->args[k], x->u.fold.args.at[k], t);
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
