/* SPDX-License-Identifier: MIT
 *
 * peel: where the masks of a loop are known to be all true, the loop runs without them.
 *
 *     for j0 in lo..hi !full(a..b) { .. }    =>    for j0 in lo..a    as it was
 *                                                  for j0 in a..b     masks true
 *                                                  for j0 in b..hi    as it was
 *
 * needs  facts !full(a..b), whose ends lie on the loop's grid, and values marked !mask
 * makes  one loop a fact, the rest before, between and after; each starts from the carried values
 *        of the one before. The last keeps the names, so nothing after it changes.
 * law    the trips are the same, in the same order */
#include "ir/build.h"
#include "passes/sweep.h"

#include <string.h>

typedef struct peeler {
    qn_tool *t;
    qn_ir *ir;
    qn_stmt *loop;
    qn_symset masks;
    qn_block *out;
    const qn_carry *last; /* carries of the part before; NULL: none yet */
} peeler;

static bool plain_loop(const qn_stmt *s)
{
    if (s->kind != QN_FOR || s->u.loop.par || s->u.loop.niters != 1 || s->u.loop.iters[0].end) {
        return false;
    }
    for (int n = 0; n < s->u.loop.iters[0].npieces; n++) {
        if (s->u.loop.iters[0].pieces[n].list) {
            return false;
        }
    }
    return true;
}

static int count_facts(const qn_stmt *s)
{
    int facts = 0;
    for (int n = 0; n < s->attrs.count; n++) {
        if (strcmp(s->attrs.at[n].name, "full") == 0) {
            facts += s->attrs.at[n].nargs;
        }
    }
    return facts;
}

/* Simplifies a block in which the masks are true, entering its names into env. */
static void simplify_block(peeler *p, qn_env *env, qn_block *b);

static void simplify_stmt(peeler *p, qn_env *env, qn_stmt *s)
{
    qn_simplify_stmt(p->ir, env, &p->masks, s);
    if (s->kind == QN_IF) {
        simplify_block(p, qn_env_push(env), &s->u.branch.then);
        simplify_block(p, qn_env_push(env), &s->u.branch.other);
    } else if (s->kind == QN_FOR) {

        qn_env *inner = qn_env_push(env);
        qn_env_enter_loop(inner, s);
        simplify_block(p, inner, &s->u.loop.body);
    }
}

static void simplify_block(peeler *p, qn_env *env, qn_block *b)
{
    for (int n = 0; n < b->count; n++) {
        simplify_stmt(p, env, b->at[n]);
        qn_env_stmt(env, b->at[n]);
    }
}

static bool is_mask(const peeler *p, const qn_stmt *s)
{
    return s->kind == QN_LET && s->u.let.nnames == 1 && qn_symset_has(&p->masks, s->u.let.names[0]);
}

/* Masks that nothing mentions any more, in the block and in the branches of its ifs. */
static void drop_masks(peeler *p, qn_block *b)
{
    for (int n = b->count - 1; n >= 0; n--) {
        if (b->at[n]->kind == QN_IF) {
            drop_masks(p, &b->at[n]->u.branch.then);
            drop_masks(p, &b->at[n]->u.branch.other);
        }
        if (!is_mask(p, b->at[n])) {
            continue;
        }
        bool used = false;
        for (int k = n + 1; k < b->count && !used; k++) {
            used = qn_stmt_mentions(b->at[k], b->at[n]->u.let.names[0]);
        }
        if (!used) {
            memmove(b->at + n, b->at + n + 1, sizeof *b->at * (size_t)(b->count - n - 1));
            b->count--;
        } else { /* still a value, and true here */
            qn_attr_remove(&b->at[n]->attrs, "mask");
        }
    }
}

static void find_masks(peeler *p, const qn_block *b)
{
    for (int n = 0; n < b->count; n++) {
        const qn_stmt *s = b->at[n];
        if (s->kind == QN_LET && qn_attr_find(&s->attrs, "mask")) {
            qn_symset_add(p->t->cx->scratch, &p->masks, s->u.let.names[0]);
        } else if (s->kind == QN_IF) {
            find_masks(p, &s->u.branch.then);
            find_masks(p, &s->u.branch.other);
        }
    }
}

/* Appends one part of the loop over the pieces. */
static void add_part(peeler *p, qn_env *env, const qn_piece *pieces, int npieces, bool full,
                     const qn_attr_arg *fact, bool last)
{
    qn_ir *ir = p->ir;
    qn_stmt *s = qn_stmt_copy(ir, p->loop);
    qn_attr_remove(&s->attrs, "full");
    qn_iter *it = QN_NEW(ir->arena, qn_iter);
    *it = p->loop->u.loop.iters[0];
    it->pieces = pieces;
    it->npieces = npieces;
    s->u.loop.iters = it;
    int n = s->u.loop.ncarries;
    if (n) {
        qn_carry *carries = QN_NEWN(ir->arena, qn_carry, n);
        qn_binding *map = QN_NEWN(ir->arena, qn_binding, n);
        for (int k = 0; k < n; k++) {
            carries[k] = p->loop->u.loop.carries[k];
            map[k].name = carries[k].name;
            if (p->last) {
                carries[k].init = qn_name(ir, p->last[k].name);
            }
            if (!last) {
                carries[k].name = qn_tool_fresh(p->t, carries[k].name);
            }
            map[k].x = qn_name(ir, carries[k].name);
        }
        s->u.loop.carries = carries;
        p->last = carries;
        if (!last) {
            qn_block_rename(ir, &s->u.loop.body, map, n);
        }
    }
    if (full) {
        qn_attr_add(ir, &s->attrs, "full", fact, 1);
        qn_env *inner = qn_env_push(env);
        qn_env_enter_loop(inner, s);
        simplify_block(p, inner, &s->u.loop.body);
        drop_masks(p, &s->u.loop.body);
    }
    qn_block_push(ir, p->out, s);
    qn_env_stmt(env, s);
}

/* The pieces between two facts: each from at least `from` to at most `to`. NULL: no bound. The
 * first piece needs no max where the fact before starts with it, or where it starts at 0: facts lie
 * inside the loop. */
static const qn_piece *clip(peeler *p, const qn_iter *it, qn_expr *start, qn_expr *from,
                            qn_expr *to)
{
    qn_piece *pieces = QN_NEWN(p->ir->arena, qn_piece, it->npieces);
    for (int n = 0; n < it->npieces; n++) {
        pieces[n] = it->pieces[n];
        if (from && !qn_expr_equal(from, pieces[n].lo)) {
            bool zero = pieces[n].lo->kind == QN_LIT && pieces[n].lo->u.lit.i == 0;
            bool inside = n == 0 && (zero || qn_expr_equal(start, pieces[n].lo));
            pieces[n].lo = inside ? from : qn_op2(p->ir, QN_OP_MAX, pieces[n].lo, from);
        }
        if (to && !qn_expr_equal(to, pieces[n].hi)) {
            pieces[n].hi = qn_op2(p->ir, QN_OP_MIN, pieces[n].hi, to);
        }
    }
    return pieces;
}

static void peel_loop(qn_tool *t, qn_env *env, qn_stmt *loop, qn_block *out)
{
    const qn_iter *it = &loop->u.loop.iters[0];
    peeler p = {.t = t, .ir = t->ir, .loop = loop, .out = out};
    find_masks(&p, &loop->u.loop.body);
    qn_expr *start = NULL, *from = NULL;
    for (int n = 0; n < loop->attrs.count; n++) {
        const qn_attr *a = &loop->attrs.at[n];
        for (int k = 0; strcmp(a->name, "full") == 0 && k < a->nargs; k++) {
            qn_expr *lo = a->args[k].lo, *hi = a->args[k].hi;
            if (!hi) {
                continue;
            }
            if (from || !qn_expr_equal(lo, it->pieces[0].lo)) {
                add_part(&p, env, clip(&p, it, start, from, lo), it->npieces, false, NULL, false);
            }
            qn_piece *piece = QN_NEW(t->ir->arena, qn_piece);
            piece->lo = lo;
            piece->hi = hi;
            add_part(&p, env, piece, 1, true, &a->args[k], false);
            start = lo;
            from = hi;
        }
    }
    add_part(&p, env, clip(&p, it, start, from, NULL), it->npieces, false, NULL, true);
}

static void peel_block(qn_tool *t, qn_env *env, qn_block *b, void *user)
{
    (void)user;
    qn_block out = {0};
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (plain_loop(s) && count_facts(s) > 0) {
            peel_loop(t, at, s, &out);
        } else {
            qn_block_push(t->ir, &out, s);
            qn_env_stmt(at, s);
        }
    }
    *b = out;
}

static bool peel_nest(qn_tool *t)
{
    if (strcmp(qn_schedule_word(t->cx->schedule, t->nest, "peel", NULL, ""), "none") != 0) {
        qn_each_block(t, peel_block, NULL);
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, peel_nest);
}

const qn_pass qn_pass_peel = {
    .name = "peel",
    .doc = "a loop runs without its masks where they are all true",
    .run = run,
};
