/* SPDX-License-Identifier: MIT
 *
 * Random kernel functions, as text: locals, branches, integers and floats mixed, floor division,
 * modulo of negatives, shifts, comparisons of mixed types. They capture K (5), T ({ 0.25, 3 }) and
 * twice (function(x) return x * 2 end). */
#ifndef QN_TESTS_RANDOM_FN_H
#define QN_TESTS_RANDOM_FN_H

#include "ir/base/arena.h"

#include <stdint.h>

/* "function(s, b, h, i, j) .. end"; equal seeds give equal texts. */
const char *qn_random_function(qn_arena *a, uint64_t seed);

#endif
