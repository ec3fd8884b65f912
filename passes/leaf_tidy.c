/* SPDX-License-Identifier: MIT
 *
 * Scalars that a loop does not change are computed before it: conversions of sizes, elements of
 * small tensors, the parts of an address or a bound that belong to outer loops. A bare load that
 * leaves its loop gets its guard back: the loop may have had no trip. */
#include "passes/leaf_internal.h"

#include <string.h>

typedef struct moving {
    leaf *lf;
    struct {
        qn_sym *at;
        int32_t count, cap;
    } inside; /* names that the loop defines */
    struct {
        qn_stmt **at;
        int32_t count, cap;
    } moved; /* what stands before the loops of the block at hand */
    struct {
        qn_binding *at;
        int32_t count, cap;
    } same;       /* moved names that another one already stands for */
    bool indices; /* inside an index: only what is dear moves */
} moving;

static void note_defined(void *user, qn_stmt *s)
{
    moving *m = user;
    qn_arena *a = m->lf->scratch;
    if (s->kind == QN_LET) {
        for (int k = 0; k < s->u.let.nnames; k++) {
            QN_PUSH(a, &m->inside, s->u.let.names[k]);
        }
    } else if (s->kind == QN_FOR) {
        for (int k = 0; k < s->u.loop.niters; k++) {
            QN_PUSH(a, &m->inside, s->u.loop.iters[k].name);
            if (s->u.loop.iters[k].end) {
                QN_PUSH(a, &m->inside, s->u.loop.iters[k].end);
            }
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            QN_PUSH(a, &m->inside, s->u.loop.carries[k].name);
        }
    } else if (s->kind == QN_IF) {
        for (int k = 0; k < s->u.branch.nnames; k++) {
            QN_PUSH(a, &m->inside, s->u.branch.names[k]);
        }
    }
}

/* An axis that no loop walks: flat, or a whole lane axis. */
static bool stays(leaf *lf, qn_axis a)
{
    const lf_lane *l = leaf_lane_of(lf, a.name);
    return l ? l->whole && leaf_const(lf, a.extent) == l->extent : leaf_is_flat(lf, a);
}

static bool all_stay(leaf *lf, const lf_info *v)
{
    for (int k = 0; k < v->type.rank; k++) {
        if (!stays(lf, v->type.axes[k])) {
            return false;
        }
    }
    return true;
}

static bool varies(void *user, const qn_expr *x)
{
    const moving *m = user;
    if (x->kind == QN_AXOP || x->kind == QN_FOLD || x->kind == QN_AS ||
        (x->kind == QN_IOTA && !stays(m->lf, x->u.iota))) {
        return true;
    }
    qn_sym name = x->kind == QN_NAME ? x->u.name : x->kind == QN_LOAD ? x->u.load.base : NULL;
    const lf_info *v = name ? leaf_info(m->lf, name) : NULL;
    if (x->kind == QN_LOAD && (!v || v->mutable_)) {
        return true;
    }
    if (x->kind == QN_NAME && v && v->kind == LF_VALUE && v->type.rank && !all_stay(m->lf, v)) {
        return true;
    }
    for (int k = 0; name && k < m->inside.count; k++) {
        if (m->inside.at[k] == name) {
            return true;
        }
    }
    return false;
}

static qn_expr *guard_again(void *user, qn_expr *x)
{
    moving *m = user;
    if (x->kind != QN_LOAD || x->u.load.guarded || !x->u.load.index.count ||
        qn_inside(m->lf->facts, x->u.load.base, &x->u.load.index)) {
        return x;
    }
    return qn_load(m->lf->ir, x->u.load.base, x->u.load.index.at, x->u.load.index.count, true,
                   NULL);
}

static bool worth(const qn_expr *x)
{
    return (x->kind == QN_OP && !(x->u.op.op == QN_OP_NEG && x->u.op.args.at[0]->kind == QN_LIT) &&
            !(x->u.op.op == QN_OP_CAST && x->u.op.args.at[0]->kind == QN_LIT)) ||
           (x->kind == QN_LOAD && x->u.load.index.count);
}

static bool is_division(const qn_expr *x)
{
    return x->kind == QN_OP && (x->u.op.op == QN_OP_FLOORDIV || x->u.op.op == QN_OP_MOD);
}

/* A division by zero must not run where the loop would not. */
static bool may_fail(void *user, const qn_expr *x)
{
    const moving *m = user;
    if (!is_division(x)) {
        return false;
    }
    const qn_lin *by = qn_lin_of(m->lf->facts, x->u.op.args.at[1]);
    return !by || !qn_prove_ge0(m->lf->facts, qn_lin_plus(m->lf->facts, by, -1));
}

/* What is too dear to be computed anew for every address. */
static bool is_dear_index(void *user, const qn_expr *x)
{
    (void)user;
    return is_division(x) || x->kind == QN_LOAD || (x->kind == QN_OP && x->u.op.op == QN_OP_SELECT);
}

static qn_expr *move_out(moving *m, qn_expr *x);

static qn_exprs move_all(moving *m, qn_exprs xs)
{
    qn_expr *args[QN_MAX_AXES];
    bool changed = false;
    for (int k = 0; k < xs.count; k++) {
        args[k] = move_out(m, xs.at[k]);
        changed = changed || args[k] != xs.at[k];
    }
    return changed ? qn_exprs_of(m->lf->ir, args, xs.count) : xs;
}

static qn_exprs move_indices(moving *m, qn_exprs xs)
{
    bool outer = m->indices;
    m->indices = true;
    xs = move_all(m, xs);
    m->indices = outer;
    return xs;
}

/* The name that stands for x before the loop; NULL for a tile that is no load. */
static qn_expr *move_whole(moving *m, qn_expr *x)
{
    leaf *lf = m->lf;
    qn_expr *safe = qn_rewrite(lf->ir, x, guard_again, m);
    qn_type t = leaf_type(lf, safe);
    if (t.rank && x->kind != QN_LOAD) {
        return NULL;
    }
    for (int k = 0; k < m->moved.count; k++) {
        if (qn_expr_equal(m->moved.at[k]->u.let.x, safe)) {
            return qn_name(lf->ir, m->moved.at[k]->u.let.names[0]);
        }
    }
    qn_sym name = leaf_fresh(lf, "%c");
    qn_env_define(lf->env, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = t});
    leaf_define(lf, name, LF_VALUE, t);
    QN_PUSH(lf->scratch, &m->moved, qn_let(lf->ir, name, safe));
    return qn_name(lf->ir, name);
}

static qn_expr *move_out(moving *m, qn_expr *x)
{
    leaf *lf = m->lf;
    if (worth(x) && (!m->indices || qn_contains(x, is_dear_index, NULL)) &&
        !qn_contains(x, varies, m) && !qn_contains(x, may_fail, m)) {
        qn_expr *name = move_whole(m, x);
        if (name) {
            return name;
        }
    }
    if (x->kind == QN_OP) {
        qn_exprs args = move_all(m, x->u.op.args);
        if (args.at != x->u.op.args.at) {
            qn_expr *copy = QN_NEW(lf->ir->arena, qn_expr);
            *copy = *x;
            copy->u.op.args = args;
            return copy;
        }
    } else if (x->kind == QN_AXOP) {
        qn_exprs args = move_all(m, x->u.axop.args);
        if (args.at != x->u.axop.args.at) {
            qn_expr *copy = QN_NEW(lf->ir->arena, qn_expr);
            *copy = *x;
            copy->u.axop.args = args;
            return copy;
        }
    }
    if (x->kind == QN_LOAD) {
        qn_exprs index = move_indices(m, x->u.load.index);
        if (index.at != x->u.load.index.at) {
            return qn_load(lf->ir, x->u.load.base, index.at, index.count, x->u.load.guarded,
                           x->u.load.pad);
        }
    }
    return x;
}

static void move_from(moving *m, qn_block *b)
{
    leaf *lf = m->lf;
    qn_block out = {0};
    for (int k = 0; k < b->count; k++) {
        qn_stmt *s = b->at[k];
        switch (s->kind) {
        case QN_LET:
            if (s->u.let.nnames == 1 && !s->attrs.count && worth(s->u.let.x)) {
                const lf_info *v = leaf_info(lf, s->u.let.names[0]);
                if (v && !v->type.rank && !qn_contains(s->u.let.x, varies, m) &&
                    !qn_contains(s->u.let.x, may_fail, m)) {
                    s->u.let.x = qn_rewrite(lf->ir, s->u.let.x, guard_again, m);
                    int at = 0;
                    while (at < m->moved.count &&
                           !qn_expr_equal(m->moved.at[at]->u.let.x, s->u.let.x)) {
                        at++;
                    }
                    if (at < m->moved.count) {
                        qn_expr *old = qn_name(lf->ir, m->moved.at[at]->u.let.names[0]);
                        QN_PUSH(lf->scratch, &m->same, ((qn_binding){v->name, old}));
                    } else {
                        QN_PUSH(lf->scratch, &m->moved, s);
                    }
                    for (int n = 0; n < m->inside.count; n++) {
                        if (m->inside.at[n] == s->u.let.names[0]) {
                            m->inside.at[n] = "";
                        }
                    }
                    continue;
                }
            }
            s->u.let.x = move_out(m, s->u.let.x);
            break;
        case QN_STORE:
            s->u.store.index = move_indices(m, s->u.store.index);
            s->u.store.x = move_out(m, s->u.store.x);
            break;
        case QN_YIELD:
            s->u.yield = move_all(m, s->u.yield);
            break;
        case QN_FOR:
        case QN_IF:
        case QN_BUF:
        case QN_SYNC:
        case QN_LAUNCH:
        case QN_FLAG:
        case QN_PREFETCH:
            break;
        }
        qn_block_push(lf->ir, &out, s);
    }
    *b = out;
}

static qn_expr *same_name(void *user, qn_expr *x)
{
    moving *m = user;
    for (int k = 0; x->kind == QN_NAME && k < m->same.count; k++) {
        if (m->same.at[k].name == x->u.name) {
            return m->same.at[k].x;
        }
    }
    return x;
}

void leaf_invariants(leaf *lf, qn_block *body)
{
    qn_block out = {0};
    moving m = {.lf = lf};
    for (int k = 0; k < body->count; k++) {
        qn_stmt *s = body->at[k];
        if (s->kind == QN_FOR) {
            leaf_invariants(lf, &s->u.loop.body);
            m.inside.count = 0;
            qn_block one = {&s, 1, 1};
            qn_block_stmts(&one, note_defined, &m);
            int before = m.moved.count;
            m.same.count = 0;
            move_from(&m, &s->u.loop.body);
            if (m.same.count) {
                qn_stmt_rewrite(lf->ir, s, true, same_name, &m);
            }
            for (int n = before; n < m.moved.count; n++) {
                qn_block_push(lf->ir, &out, m.moved.at[n]);
            }
        } else if (s->kind == QN_IF) {
            leaf_invariants(lf, &s->u.branch.then);
            leaf_invariants(lf, &s->u.branch.other);
        }
        qn_block_push(lf->ir, &out, s);
    }
    *body = out;
}
