/* SPDX-License-Identifier: MIT
 *
 * A sweep: the statements of a block that have an axis, or contract it, become loops over blocks of
 * the axis. stream and loops differ only in what they hand to it.
 *
 *     %m = reduce.max(x[i:8, n:N], over n)            for n0 in 0..N step 32 carry %m = -inf { .. }
 *     %w = exp(x[i:8, n:N] - %m)                 =>
 *     store y[i:8, n:N] = %w / reduce.sum(%w ..)      for n0 .. carry %l = 0.0 { .. }
 *                                                     for n0 .. { %w = ..  store y[..] = %w / %l }
 *
 * Values with the axis exist only inside the loops, and are computed again in each loop that needs
 * them. A contraction is carried. What depends on the result of one loop waits for the next: the
 * number of loops is the depth of that dependence. */
#ifndef QN_PASSES_SWEEP_H
#define QN_PASSES_SWEEP_H

#include "passes/tools.h"

/* Sweeps `axis` of the block, whose names are visible in env; folds over it are streamed by the
 * laws of their norms when `folds`, else they stand in the way. False: the block is unchanged, and
 * a remark says why if something of the axis is there. */
bool qn_sweep(qn_tool *t, qn_env *env, qn_block *b, qn_sym axis, int64_t size, bool folds);

/* Runs f on every block of the nest, inner ones first, with the names visible at its start. */
void qn_each_block(qn_tool *t, void (*f)(qn_tool *t, qn_env *env, qn_block *b, void *user),
                   void *user);

#endif
