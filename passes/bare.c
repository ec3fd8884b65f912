/* SPDX-License-Identifier: MIT
 *
 * bare: an access that is proved to be inside its memory loses its guard.
 *
 *     tile x[i0 + i:64, d:D]    =>    x[i0 + i:64, d:D]      i0 + 63 < N is known
 *     store o[..] = ..          =>    store o[..] = .. !in
 *
 * needs  any text
 * makes  bare loads, stores marked !in
 * law    every element's index lies in the memory, so the guard never speaks */
#include "passes/linear.h"
#include "passes/pass.h"

#include "ir/build.h"
#include "ir/walk.h"

typedef struct baring {
    qn_pass_cx *cx;
    qn_facts *f;
} baring;

static qn_expr *bare_load(void *user, qn_expr *x)
{
    baring *b = user;
    if (x->kind == QN_LOAD && x->u.load.guarded &&
        qn_inside(b->f, x->u.load.base, &x->u.load.index)) {
        return qn_load(b->cx->ir, x->u.load.base, x->u.load.index.at, x->u.load.index.count, false,
                       NULL);
    }
    return x;
}

static void walk(baring *b, qn_block *block)
{
    for (int32_t k = 0; k < block->count; k++) {
        qn_stmt *s = block->at[k];
        qn_stmt_rewrite(b->cx->ir, s, false, bare_load, b);
        if (s->kind == QN_FOR) {
            qn_facts_push(b->f);
            qn_facts_enter_loop(b->f, s);
            walk(b, &s->u.loop.body);
            qn_facts_pop(b->f);
        } else if (s->kind == QN_IF) {
            for (int side = 0; side < 2; side++) {
                qn_facts_push(b->f);
                qn_facts_assume(b->f, s->u.branch.cond, side == 0);
                walk(b, side == 0 ? &s->u.branch.then : &s->u.branch.other);
                qn_facts_pop(b->f);
            }
        } else if (s->kind == QN_LAUNCH) {
            qn_facts_push(b->f);
            qn_facts_enter_launch(b->f, &s->u.launch);
            walk(b, &s->u.launch);
            qn_facts_pop(b->f);
        } else if (s->kind == QN_STORE && !qn_attr_find(&s->attrs, "in") &&
                   qn_inside(b->f, s->u.store.base, &s->u.store.index)) {
            qn_attr_add(b->cx->ir, &s->attrs, "in", NULL, 0);
        }
        qn_facts_stmt(b->f, s);
    }
}

static bool run(qn_pass_cx *cx, qn_ir_file *file, qn_kernel_ir *k)
{
    (void)file;
    baring b = {cx, qn_facts_kernel(cx->scratch, cx->ir, k)};
    walk(&b, &k->body);
    return true;
}

const qn_pass qn_pass_bare = {
    .name = "bare",
    .doc = "an access that is proved inside its memory loses its guard",
    .run = run,
};
