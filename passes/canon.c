/* SPDX-License-Identifier: MIT
 *
 * canon: one way to say a thing, so that what follows need not know two.
 *
 *     select(true, a, b)  =>  a        x * 1  =>  x        (x + 3) + 4  =>  x + 7
 *     %b = %a             =>  %a wherever %b stood
 *     %p = i:N + 1, used once, cheap     =>  in its place
 *     two equal %x = e .., %y = e        =>  %x wherever %y stood
 *     a long scalar that occurs twice    =>  %t = .. before its first use
 *
 * needs  nothing
 * makes  equal texts of more texts that mean the same; running it again changes nothing
 * law    values keep their types and their bits: nothing is reordered but sums of integers, and a
 *        load is only moved or shared where no store of its memory can come between
 *
 * Values with attributes are facts about a name and stay. */
#include "ir/build.h"
#include "passes/tools.h"

#include <string.h>

enum { LONG_SCALAR = 6, CHEAP_OPS = 3, MAX_DEPTH = 64 };

typedef struct canon {
    qn_tool *t;
    qn_ir *ir;
    qn_arena *scratch;
    qn_symset stored; /* memory that the kernel stores */
} canon;

/* ---------------------------------------------------------------- sizes */

typedef struct measure {
    int ops;
    bool dear; /* a load, a contraction, or more than plain arithmetic */
    bool loads_stored;
    const canon *c;
} measure;

static bool note_size(void *user, const qn_expr *x)
{
    measure *m = user;
    if (x->kind == QN_OP) {
        m->ops++;
        switch ((int)x->u.op.op) {
        case QN_OP_POW:
        case QN_OP_EXP:
        case QN_OP_EXP2:
        case QN_OP_LOG:
        case QN_OP_LOG2:
        case QN_OP_SQRT:
        case QN_OP_RSQRT:
        case QN_OP_SIN:
        case QN_OP_COS:
        case QN_OP_TANH:
        case QN_OP_ERF:
        case QN_OP_SIGMOID:
            m->dear = true;
            break;
        default:
            break;
        }
    } else if (x->kind == QN_LOAD) {
        m->dear = true;
        m->loads_stored = m->loads_stored || qn_symset_has(&m->c->stored, x->u.load.base);
    } else if (x->kind != QN_NAME && x->kind != QN_LIT && x->kind != QN_IOTA) {
        m->dear = true;
    }
    return true;
}

static measure measure_of(const canon *c, const qn_expr *x)
{
    measure m = {.c = c};
    qn_visit(x, note_size, &m);
    return m;
}

static void note_store(void *user, qn_stmt *s)
{
    canon *c = user;
    if (s->kind == QN_STORE) {
        qn_symset_add(c->scratch, &c->stored, s->u.store.base);
    }
}

/* ---------------------------------------------------------------- names */

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

static int uses_in(const qn_stmt *s, qn_sym name, bool *nested)
{
    counter c = {name, 0};
    qn_stmt_exprs(s, count_name, &c);
    int here = c.count;
    qn_stmt *one[1] = {(qn_stmt *)(uintptr_t)s}; /* only read */
    const qn_block b = {one, 1, 1};
    c.count = 0;
    qn_block_visit(&b, count_name, &c);
    *nested = *nested || c.count > here;
    return c.count;
}

static void rename_after(canon *c, qn_block *b, int from, qn_sym name, qn_expr *x)
{
    const qn_binding map = {name, x};
    qn_block rest = {b->at + from, b->count - from, b->count - from};
    qn_block_rename(c->ir, &rest, &map, 1);
}

static void remove_stmt(qn_block *b, int at)
{
    memmove(b->at + at, b->at + at + 1, sizeof *b->at * (size_t)(b->count - at - 1));
    b->count--;
}

static bool plain_let(const qn_stmt *s)
{
    return s->kind == QN_LET && s->u.let.nnames == 1 && s->attrs.count == 0;
}

static bool same_kind_of_value(qn_env *env, const qn_expr *a, const qn_expr *b)
{
    qn_type x, y;
    return qn_type_infer(env, a, &x) && qn_type_infer(env, b, &y) && qn_type_equal(&x, &y);
}

/* A literal alone has a type of its own; in place of its name it might take another. */
static bool is_typed(qn_env *env, const qn_expr *x)
{
    qn_type t;
    return qn_type_infer(env, x, &t) && t.dtype != QN_INT_LIT && t.dtype != QN_FLT_LIT;
}

/* %b = %a, or an equal value that is already named. */
static void share_names(canon *c, qn_env *env, qn_block *b)
{
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (plain_let(s)) {
            qn_expr *x = s->u.let.x, *other = NULL;
            if (x->kind == QN_NAME) {
                other = x;
            }
            bool stays = !other && measure_of(c, x).loads_stored;
            for (int k = 0; k < n && !other && !stays; k++) {
                if (plain_let(b->at[k]) && qn_expr_equal(b->at[k]->u.let.x, x) &&
                    same_kind_of_value(at, x, b->at[k]->u.let.x)) {
                    other = qn_name(c->ir, b->at[k]->u.let.names[0]);
                }
            }
            if (other) {
                rename_after(c, b, n + 1, s->u.let.names[0], other);
                remove_stmt(b, n--);
                continue;
            }
        }
        qn_env_stmt(at, s);
    }
}

/* What is cheap and used once, in the block where it is defined, stands where it is used. */
static void inline_names(canon *c, qn_env *env, qn_block *b)
{
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        qn_env_stmt(at, s);
        if (!plain_let(s)) {
            continue;
        }
        measure m = measure_of(c, s->u.let.x);
        if (m.dear || m.ops > CHEAP_OPS || !is_typed(at, s->u.let.x)) {
            continue;
        }
        int uses = 0;
        bool nested = false;
        for (int k = n + 1; k < b->count; k++) {
            uses += uses_in(b->at[k], s->u.let.names[0], &nested);
        }
        if (uses == 1 && !nested) {
            rename_after(c, b, n + 1, s->u.let.names[0], s->u.let.x);
            remove_stmt(b, n--);
        }
    }
}

/* ---------------------------------------------------------------- long scalars */

typedef struct candidate {
    const qn_expr *x;
    uint64_t hash;
    int count, first, ops; /* first: index of the statement of its first occurrence */
} candidate;

typedef struct finder {
    canon *c;
    qn_env *env;
    int at;
    struct {
        candidate *at;
        int32_t count, cap;
    } found;
} finder;

static bool note_scalar(void *user, const qn_expr *x)
{
    finder *f = user;
    if (x->kind != QN_OP) {
        return true;
    }
    measure m = measure_of(f->c, x);
    if (m.dear || m.ops < LONG_SCALAR) {
        return !m.dear || m.ops >= LONG_SCALAR;
    }
    qn_type t;
    if (!qn_type_infer(f->env, x, &t) || t.rank > 0 || t.dtype == QN_INT_LIT ||
        t.dtype == QN_FLT_LIT) {
        return true; /* it has axes, or names of an inner block */
    }
    uint64_t h = qn_expr_hash(x);
    for (int n = 0; n < f->found.count; n++) {
        if (f->found.at[n].hash == h && qn_expr_equal(f->found.at[n].x, x)) {
            f->found.at[n].count++;
            return true;
        }
    }
    candidate k = {x, h, 1, f->at, m.ops};
    QN_PUSH(f->c->scratch, &f->found, k);
    return true;
}

typedef struct replacing {
    const qn_expr *x;
    qn_expr *name;
} replacing;

static qn_expr *replace_node(void *user, qn_expr *x)
{
    const replacing *r = user;
    return x->kind == QN_OP && qn_expr_equal(x, r->x) ? r->name : x;
}

/* Names the longest scalar that occurs twice; true if there was one. */
static bool name_one(canon *c, qn_env *env, qn_block *b)
{
    finder f = {.c = c, .env = qn_env_push(env)};
    for (int n = 0; n < b->count; n++) {
        qn_stmt *one[1] = {b->at[n]};
        const qn_block part = {one, 1, 1};
        f.at = n;
        qn_block_visit(&part, note_scalar, &f);
        qn_env_stmt(f.env, b->at[n]);
    }
    const candidate *best = NULL;
    for (int n = 0; n < f.found.count; n++) {
        const candidate *k = &f.found.at[n];
        if (k->count > 1 && (!best || k->ops > best->ops)) {
            best = k;
        }
    }
    if (!best) {
        return false;
    }
    qn_sym name = qn_tool_fresh(c->t, "%t");
    const qn_expr *x = best->x;
    qn_stmt *let = qn_let(c->ir, name, (qn_expr *)(uintptr_t)x);
    replacing r = {x, qn_name(c->ir, name)};
    qn_block rest = {b->at + best->first, b->count - best->first, b->count - best->first};
    qn_block_rewrite(c->ir, &rest, replace_node, &r);
    qn_block out = {0};
    for (int n = 0; n < b->count; n++) {
        if (n == best->first) {
            qn_block_push(c->ir, &out, let);
        }
        qn_block_push(c->ir, &out, b->at[n]);
    }
    *b = out;
    return true;
}

/* ---------------------------------------------------------------- blocks */

static void simplify_stmts(canon *c, qn_env *env, qn_block *b)
{
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_simplify_stmt(c->ir, at, NULL, b->at[n]);
        qn_env_stmt(at, b->at[n]);
    }
}

static void canon_block(canon *c, qn_env *env, qn_block *b, int depth)
{
    for (int n = 0; n < MAX_DEPTH; n++) {
        int before = b->count;
        simplify_stmts(c, env, b);
        share_names(c, env, b);
        inline_names(c, env, b);
        /* what was put in a name's place, or what a new name made short, may be simpler now */
        if (!name_one(c, env, b) && before == b->count) {
            break;
        }
    }
    if (depth == MAX_DEPTH) {
        return;
    }
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind == QN_FOR) {
            qn_env *inner = qn_env_push(at);
            qn_env_enter_loop(inner, s);
            canon_block(c, inner, &s->u.loop.body, depth + 1);
        } else if (s->kind == QN_IF) {
            canon_block(c, qn_env_push(at), &s->u.branch.then, depth + 1);
            canon_block(c, qn_env_push(at), &s->u.branch.other, depth + 1);
        }
        qn_env_stmt(at, s);
    }
}

static bool canon_nest(qn_tool *t)
{
    canon c = {.t = t, .ir = t->ir, .scratch = t->cx->scratch};
    qn_block_stmts(&t->kernel->body, note_store, &c);
    qn_env *env = qn_env_push(t->env);
    qn_env_enter_loop(env, t->par);
    canon_block(&c, env, &t->par->u.loop.body, 0);
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, canon_nest) && qn_pass_dce.run(cx, f, k);
}

const qn_pass qn_pass_canon = {
    .name = "canon",
    .doc = "constants are folded, equal values shared, trivial names removed",
    .run = run,
};
