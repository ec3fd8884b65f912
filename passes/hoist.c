/* SPDX-License-Identifier: MIT
 *
 * hoist: what a loop computes again and again is named before it.
 *
 *     for d in 0..D { .. k[b, h * Hk // Hq, j, d] .. }    =>    %h1 = h * Hk // Hq
 *                                                               for d in 0..D { .. k[b, %h1, j, d]
 * .. }
 *
 * needs  !leaf nests (earlier, the value that a loop shares may still change its shape)
 * makes  every scalar that is dear and does not vary in a loop is a name before that loop
 * law    only what can be computed where the loop does not run: a load becomes guarded, a division
 *        needs a literal divisor or a size that a par range of the nest counts to */
#include "ir/build.h"
#include "ir/type.h"
#include "ir/walk.h"
#include "passes/pass.h"

enum { MAX_DEPTH = 64 };

typedef struct frame { /* one block: the nest's, a loop's, a branch's */
    struct {
        qn_sym *at;
        int32_t count, cap;
    } names;         /* defined in it so far */
    qn_block before; /* lets to put before the statement at hand */
} frame;

typedef struct hoist {
    qn_pass_cx *cx;
    qn_names *used;
    const qn_stmt *nest;
    const qn_kernel_ir *kernel;
    frame frames[MAX_DEPTH];
    int depth; /* frames in use, less one */
    qn_env *env;
    struct { /* subexpressions to replace, found parents first */
        const qn_expr **at;
        int32_t count, cap;
    } found;
} hoist;

static void define(hoist *w, qn_sym name)
{
    if (name) {
        QN_PUSH(w->cx->scratch, &w->frames[w->depth].names, name);
    }
}

typedef struct question {
    const hoist *w;
    int level;  /* of the deepest name */
    bool named; /* has a name at all */
    bool dear, safe;
} question;

static int level_of(const hoist *w, qn_sym name)
{
    for (int d = w->depth; d >= 0; d--) {
        for (int k = 0; k < w->frames[d].names.count; k++) {
            if (w->frames[d].names.at[k] == name) {
                return d;
            }
        }
    }
    return 0;
}

static bool counted_to(const hoist *w, const qn_expr *divisor)
{
    if (divisor->kind == QN_LIT) {
        return divisor->u.lit.i != 0;
    }
    for (int i = 0; i < w->nest->u.loop.niters; i++) {
        const qn_piece *p = &w->nest->u.loop.iters[i].pieces[0];
        if (!p->list && p->lo->kind == QN_LIT && p->lo->u.lit.i == 0 &&
            qn_expr_equal(p->hi, divisor)) {
            return true;
        }
    }
    return false;
}

static bool is_input(const hoist *w, qn_sym base)
{
    for (int p = 0; p < w->kernel->params.count; p++) {
        if (w->kernel->params.at[p].name == base) {
            return w->kernel->params.at[p].direction == QN_IN;
        }
    }
    return false;
}

static bool ask(void *user, const qn_expr *x)
{
    question *q = user;
    int level = 0;
    switch (x->kind) {
    case QN_NAME:
        level = level_of(q->w, x->u.name);
        q->named = true;
        break;
    case QN_LOAD:
        q->safe = q->safe && is_input(q->w, x->u.load.base) && !x->u.load.pad;
        q->dear = q->named = true;
        break;
    case QN_OP: {
        qn_op op = x->u.op.op;
        bool division = op == QN_OP_FLOORDIV || op == QN_OP_MOD;
        q->safe = q->safe && (!division || counted_to(q->w, x->u.op.args.at[1]));
        bool literal = x->u.op.args.count == 2 && x->u.op.args.at[1]->kind == QN_LIT;
        q->dear = q->dear || !(op == QN_OP_ADD || op == QN_OP_SUB || op == QN_OP_NEG ||
                               op == QN_OP_CAST || op == QN_OP_NOT || (op == QN_OP_MUL && literal));
        break;
    }
    case QN_LIT:
        break;
    case QN_IOTA:
    case QN_AXOP:
    case QN_FOLD:
    case QN_AS:
        q->safe = false;
        break;
    }
    q->level = level > q->level ? level : q->level;
    return true;
}

static qn_expr *guard(void *user, qn_expr *x)
{
    if (x->kind != QN_LOAD || x->u.load.guarded) {
        return x;
    }
    return qn_load(user, x->u.load.base, x->u.load.index.at, x->u.load.index.count, true, NULL);
}

/* The name of x before the loop of frame level + 1: an earlier one of the same value, or a new one.
 */
static qn_sym name_of(hoist *w, qn_expr *x, int level)
{
    qn_block *b = &w->frames[level].before;
    x = qn_rewrite(w->cx->ir, x, guard, w->cx->ir);
    for (int k = 0; k < b->count; k++) {
        if (qn_expr_equal(b->at[k]->u.let.x, x)) {
            return b->at[k]->u.let.names[0];
        }
    }
    qn_sym name = qn_names_fresh(w->used, "%h");
    qn_block_push(w->cx->ir, b, qn_let(w->cx->ir, name, x));
    return name;
}

static bool find(void *user, const qn_expr *x)
{
    hoist *w = user;
    if (x->kind != QN_OP && x->kind != QN_LOAD) {
        return true;
    }
    question q = {w, 0, false, false, true};
    qn_visit(x, ask, &q);
    qn_type t;
    if (!q.safe || !q.named || !q.dear || q.level >= w->depth || !qn_type_infer(w->env, x, &t) ||
        t.rank || t.dtype >= QN_DTYPES) {
        return true;
    }
    QN_PUSH(w->cx->scratch, &w->found, x);
    return false;
}

static qn_expr *replace(void *user, qn_expr *x)
{
    hoist *w = user;
    for (int k = 0; k < w->found.count; k++) {
        if (w->found.at[k] == x) {
            question q = {w, 0, false, false, true};
            qn_visit(x, ask, &q);
            return qn_name(w->cx->ir, name_of(w, x, q.level));
        }
    }
    return x;
}

static void walk_block(hoist *w, qn_block *b);

static void walk_inner(hoist *w, qn_block *b, const qn_stmt *loop)
{
    if (w->depth + 1 >= MAX_DEPTH) {
        return;
    }
    qn_env *outer = w->env;
    w->env = qn_env_push(outer);
    w->frames[++w->depth] = (frame){0};
    if (loop) {
        qn_env_enter_loop(w->env, loop);
        for (int i = 0; i < loop->u.loop.niters; i++) {
            define(w, loop->u.loop.iters[i].name);
            define(w, loop->u.loop.iters[i].end);
        }
        for (int c = 0; c < loop->u.loop.ncarries; c++) {
            define(w, loop->u.loop.carries[c].name);
        }
    }
    walk_block(w, b);
    w->depth--;
    w->env = outer;
}

static void define_results(hoist *w, const qn_stmt *s)
{
    for (int k = 0; s->kind == QN_LET && k < s->u.let.nnames; k++) {
        define(w, s->u.let.names[k]);
    }
    for (int k = 0; s->kind == QN_IF && k < s->u.branch.nnames; k++) {
        define(w, s->u.branch.names[k]);
    }
    for (int k = 0; s->kind == QN_FOR && k < s->u.loop.ncarries; k++) {
        define(w, s->u.loop.carries[k].name);
    }
    if (s->kind == QN_BUF) {
        define(w, s->u.buf.name);
    }
}

static void walk_block(hoist *w, qn_block *b)
{
    qn_block out = {0};
    for (int k = 0; k < b->count; k++) {
        qn_stmt *s = b->at[k];
        if (w->depth > 0 && s->kind != QN_BUF) {
            w->found.count = 0;
            qn_stmt_exprs(s, find, w);
            if (w->found.count) {
                qn_stmt_rewrite(w->cx->ir, s, false, replace, w);
            }
        }
        if (s->kind == QN_FOR) {
            walk_inner(w, &s->u.loop.body, s);
        } else if (s->kind == QN_IF) {
            walk_inner(w, &s->u.branch.then, NULL);
            walk_inner(w, &s->u.branch.other, NULL);
        }
        frame *f = &w->frames[w->depth];
        for (int n = 0; n < f->before.count; n++) {
            qn_env_stmt(w->env, f->before.at[n]);
            define_results(w, f->before.at[n]);
        }
        qn_block_append(w->cx->ir, &out, &f->before);
        f->before.count = 0;
        qn_block_push(w->cx->ir, &out, s);
        qn_env_stmt(w->env, s);
        define_results(w, s);
    }
    *b = out;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    hoist w = {.cx = cx, .kernel = k, .used = qn_names_of_kernel(cx->ir, k)};
    qn_env *env = qn_env_kernel(cx->ir, f, k);
    for (int s = 0; s < k->body.count; s++) {
        qn_stmt *l = k->body.at[s];
        for (int n = 0; l->kind == QN_LAUNCH && n < l->u.launch.count; n++) {
            qn_stmt *nest = l->u.launch.at[n];
            if (!qn_attr_find(&nest->attrs, "leaf")) {
                continue;
            }
            w.nest = nest;
            w.env = qn_env_push(env);
            qn_env_enter_loop(w.env, nest);
            w.depth = 0;
            w.frames[0] = (frame){0};
            walk_block(&w, &nest->u.loop.body);
        }
        qn_env_stmt(env, l);
    }
    return true;
}

const qn_pass qn_pass_hoist = {
    .name = "hoist",
    .doc = "scalars that do not vary in a loop are named before it",
    .run = run,
};
