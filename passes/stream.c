/* SPDX-License-Identifier: MIT
 *
 * stream: a fold becomes a loop over blocks of its axis, from the text of its norm alone.
 *
 *     %o = fold @n(s, v, over j, where c)    =>    for j0 in 0..N step 64 carry %m = .., %l = .. {
 *                                                    %in = c and j0 + j:64 < N !mask
 *                                                    %m1 = max(%m, reduce.max(select(%in, s,
 * -inf))) %f = rescale(%m, %m1) %w = select(%in, weight(s, %m1), 0.0) yield %m1, %l * %f +
 * reduce.sum(%w, over j)
 *                                                  }
 *                                                  %o = finish(%m, %l)
 *
 * needs  a `tile` line for the axis; `form stream`, which is the default
 * makes  one loop with carried values; statements that vary with the axis move into it, with
 *        everything else that contracts the axis there
 * law    the stat is associative with identity; weight(s, m2) = weight(s, m1) * rescale(m1, m2);
 *        rescale composes. So the carried sums are those of the elements met so far under the stat
 *        met so far. A norm with a stat and no rescale is left whole: W-NOASSOC.
 *
 * A later statement that needs the axis again, now knowing the fold's result, walks it once more:
 * W-WHOLEROW. */
#include "passes/sweep.h"

#include <string.h>

typedef struct axis_line {
    qn_sym axis;
    int64_t size;
} axis_line;

static void stream_block(qn_tool *t, qn_env *env, qn_block *b, void *user)
{
    const axis_line *line = user;
    qn_sweep(t, env, b, line->axis, line->size, true);
}

static bool stream_nest(qn_tool *t)
{
    if (strcmp(qn_schedule_word(t->cx->schedule, t->nest, "form", NULL, "stream"), "stream") != 0) {
        return true;
    }
    qn_symset axes = qn_tool_axes(t, "tile");
    for (int n = 0; n < axes.count; n++) {
        axis_line line = {axes.at[n], qn_tool_size(t, "tile", axes.at[n], 0)};
        if (line.size > 0) {
            qn_each_block(t, stream_block, &line);
        }
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, stream_nest);
}

const qn_pass qn_pass_stream = {
    .name = "stream",
    .doc = "a fold becomes a loop with carried values",
    .run = run,
};
