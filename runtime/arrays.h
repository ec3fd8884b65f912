/* SPDX-License-Identifier: MIT
 * Tensors of a call as arrays of the oracle and of the definition. */
#ifndef QN_RUNTIME_ARRAYS_H
#define QN_RUNTIME_ARRAYS_H

#include "runtime/internal.h"

#include "ir/interp.h"

qn_array qn_array_of_tensor(qn_arena *a, const DLTensor *t, qn_dtype dtype);

/* Every input, scalar parameter and given size of a call that has passed its checks. */
qn_arg *qn_args_of_call(qn_arena *a, const qn_kernel *k, const qn_call *call, int *count);

#endif
