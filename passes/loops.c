/* SPDX-License-Identifier: MIT
 *
 * loops: what still contracts a whole axis becomes a carry loop over its blocks.
 *
 *     dot(x[i:64, k:K], y[j:64, k:K], over k)    =>    for k0 in 0..K step 256 carry %d = 0.0 {
 *                                                        yield %d + dot(tile x[..], tile y[..],
 * over k)
 *                                                      }
 *
 * needs  a `tile` line for the axis
 * makes  as many loops as results wait for each other: a row normaliser written with two reductions
 *        and a store becomes three loops, the two-pass form of a fold two
 * law    the order inside one contraction is free; a loop continues it block by block
 *
 * Folds that stream left (form twopass, or a norm without rescale) are first written as the plain
 * statements they mean. */
#include "ir/build.h"
#include "passes/norms.h"
#include "passes/sweep.h"

#include <string.h>

typedef struct axis_line {
    qn_sym axis;
    int64_t size;
} axis_line;

static bool over_axis(const qn_expr *fold, qn_sym axis)
{
    for (int n = 0; n < fold->u.fold.nover; n++) {
        if (fold->u.fold.over[n] == axis) {
            return true;
        }
    }
    return false;
}

static void loop_block(qn_tool *t, qn_env *env, qn_block *b, void *user)
{
    const axis_line *line = user;
    qn_block plain = {0};
    qn_env *at = qn_env_push(env);
    bool folds = false;
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind == QN_LET && s->u.let.x->kind == QN_FOLD && over_axis(s->u.let.x, line->axis) &&
            qn_file_norm(t->file, s->u.let.x->u.fold.norm)) {
            qn_unfold(t, at, s, &plain);
            folds = true;
        } else {
            qn_block_push(t->ir, &plain, s);
            qn_env_stmt(at, s);
        }
    }
    if (folds) {
        *b = plain;
    }
    qn_sweep(t, env, b, line->axis, line->size, false);
}

static bool loop_nest(qn_tool *t)
{
    qn_symset axes = qn_tool_axes(t, "tile");
    for (int n = 0; n < axes.count; n++) {
        axis_line line = {axes.at[n], qn_tool_size(t, "tile", axes.at[n], 0)};
        if (line.size > 0) {
            qn_each_block(t, loop_block, &line);
        }
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, loop_nest);
}

const qn_pass qn_pass_loops = {
    .name = "loops",
    .doc = "what contracts a whole axis becomes a carry loop over its blocks",
    .run = run,
};
