/* SPDX-License-Identifier: MIT
 *
 * count: counters in the text, so that a text can say what it visited.
 *
 *     inout counts: i64[n:2]
 *     for j0 in .. step 64 {
 *       store.add counts[0] = 1 atomic                                   visits of blocks
 *       store.add counts[1] = min(64, Nk - j0) * min(64, Nq - i0) atomic their elements
 *
 * needs  a loop over blocks directly in a nest (or in a branch there) that contracts something and
 *        whose index addresses a parameter; so it reads the text of any level
 * makes  what is above: a visit is one block of the loop's axis in one task, and its elements are
 * the product of the extents, cut at the end of the tensors: padding is not counted law    nothing
 * else changes
 *
 * It runs on request only. The caller gives `counts` as zeros. */
#include "ir/build.h"
#include "passes/tools.h"

#include <string.h>

typedef struct extent_of {
    const qn_kernel_ir *kernel;
    qn_sym index;
    qn_extent found;
    bool hit;
} extent_of;

static bool note_extent(void *user, const qn_expr *x)
{
    extent_of *e = user;
    if (x->kind != QN_LOAD || e->hit) {
        return !e->hit;
    }
    for (int n = 0; n < e->kernel->params.count; n++) {
        const qn_param *p = &e->kernel->params.at[n];
        for (int k = 0; p->name == x->u.load.base && k < x->u.load.index.count; k++) {
            const qn_expr *i = x->u.load.index.at[k];
            if (qn_mentions_name(i, e->index) && k < p->type.rank && !e->hit) {
                e->found = p->type.axes[k].extent;
                e->hit = true;
            }
        }
    }
    return true;
}

static bool literal(const qn_expr *x, int64_t *out)
{
    if (x && x->kind == QN_LIT && x->u.lit.type == QN_INT_LIT) {
        *out = x->u.lit.i;
        return true;
    }
    return false;
}

/* min(step, end - index), the part of a block inside. */
static qn_expr *inside(qn_ir *ir, int64_t step, qn_expr *end, qn_sym index)
{
    return qn_op2(ir, QN_OP_MIN, qn_int(ir, step), qn_op2(ir, QN_OP_SUB, end, qn_name(ir, index)));
}

static qn_sym counts_of(qn_tool *t)
{
    qn_kernel_ir *k = t->kernel;
    for (int n = 0; n < k->params.count; n++) {
        if (strcmp(k->params.at[n].name, "counts") == 0) {
            return k->params.at[n].name;
        }
    }
    qn_axis axis = {qn_intern(t->ir, "n"), qn_extent_n(2)};
    qn_param p = {.direction = QN_INOUT, .name = qn_intern(t->ir, "counts")};
    p.type = qn_type_of(t->ir, QN_I64, &axis, 1);
    QN_PUSH(t->ir->arena, &k->params, p);
    return p.name;
}

static qn_stmt *add_to(qn_ir *ir, qn_sym counts, int which, qn_expr *x)
{
    qn_expr *index = qn_int(ir, which);
    qn_stmt *s = qn_store(ir, counts, &index, 1, x);
    s->u.store.mode = QN_STORE_ADD;
    s->u.store.order = QN_STORE_ATOMIC;
    return s;
}

typedef struct work {
    bool hit;
} work;

static bool note_axop(void *user, const qn_expr *x)
{
    work *w = user;
    w->hit = w->hit || x->kind == QN_AXOP || x->kind == QN_FOLD;
    return !w->hit;
}

static void note_carry(void *user, qn_stmt *s)
{
    work *w = user;
    w->hit = w->hit || (s->kind == QN_FOR && s->u.loop.ncarries > 0);
}

/* Does the loop contract or carry something, or does it only move memory? */
static bool contracts(qn_stmt *s)
{
    qn_stmt *one[1] = {s};
    const qn_block b = {one, 1, 1};
    work w = {false};
    qn_block_visit(&b, note_axop, &w);
    qn_block_stmts(&b, note_carry, &w);
    return w.hit;
}

/* Where a trip is really made: the body, or the branch of it that does not skip. */
static qn_block *visited(qn_block *body)
{
    qn_stmt *branch = NULL;
    for (int n = 0; n < body->count; n++) {
        qn_stmt *s = body->at[n];
        bool beside = s->kind == QN_LET || s->kind == QN_YIELD;
        if (s->kind == QN_IF && !branch &&
            (!s->u.branch.has_else || s->u.branch.other.count == 1)) {
            branch = s;
        } else if (!beside) {
            return body;
        }
    }
    return branch ? &branch->u.branch.then : body;
}

static void count_loop(qn_tool *t, qn_stmt *s)
{
    const qn_iter *it = &s->u.loop.iters[0];
    int64_t step;
    extent_of e = {.kernel = t->kernel, .index = it->name};
    if (s->u.loop.niters != 1 || !literal(it->step, &step) || step < 2 || !contracts(s)) {
        return;
    }
    qn_block_visit(&s->u.loop.body, note_extent, &e);
    if (!e.hit) {
        return; /* a loop over memory of the task */
    }
    qn_ir *ir = t->ir;
    qn_expr *elements = inside(ir, step, qn_extent_expr(ir, e.found), it->name);
    for (int n = 0; n < t->par->u.loop.niters; n++) {
        const qn_iter *p = &t->par->u.loop.iters[n];
        if (literal(p->step, &step) && step > 1 && p->npieces == 1 && !p->pieces[0].list) {
            elements = qn_op2(ir, QN_OP_MUL, elements, inside(ir, step, p->pieces[0].hi, p->name));
        }
    }
    qn_sym counts = counts_of(t);
    qn_block out = {0};
    qn_block_push(ir, &out, add_to(ir, counts, 0, qn_int(ir, 1)));
    qn_block_push(ir, &out, add_to(ir, counts, 1, elements));
    qn_block *body = visited(&s->u.loop.body);
    qn_block_append(ir, &out, body);
    *body = out;
}

static void count_block(qn_tool *t, qn_block *b)
{
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind == QN_FOR) {
            count_loop(t, s);
        } else if (s->kind == QN_IF) {
            count_block(t, &s->u.branch.then);
            count_block(t, &s->u.branch.other);
        }
    }
}

static bool count_nest(qn_tool *t)
{
    count_block(t, &t->par->u.loop.body);
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, count_nest);
}

const qn_pass qn_pass_count = {
    .name = "count",
    .doc = "counters of visited blocks and their elements, on request",
    .run = run,
};
