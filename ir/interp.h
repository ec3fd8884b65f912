/* SPDX-License-Identifier: MIT
 *
 * The oracle: runs any level of IR in double, slowly and safely.
 *
 * exact  floats are doubles, casts between floats do nothing: the definition
 * typed  the result of every op is rounded to its dtype
 *
 * In exact mode every float carries, beside its value, a first-order bound of the absolute error
 * that an evaluation in the declared dtypes may make: |x - x*| <= bound is what rounding alone can
 * explain. See tolerance.h for the comparison. */
#ifndef QN_IR_INTERP_H
#define QN_IR_INTERP_H

#include "ir/ir.h"

typedef enum qn_interp_mode { QN_EXACT, QN_TYPED } qn_interp_mode;

/* One array of a call: row-major doubles (floats), or int64 (integers and bools). */
typedef struct qn_array {
    qn_dtype dtype;
    int32_t rank;
    int64_t shape[QN_MAX_AXES];
    double *f;     /* floats: values */
    double *bound; /* floats: absolute error bounds of outputs; may be NULL for inputs (exact) */
    int64_t *i;    /* integers, bools */
} qn_array;

typedef struct qn_arg { /* by name: a dim, a scalar parameter (rank 0) or a tensor */
    const char *name;
    qn_array array;
} qn_arg;

typedef struct qn_interp_options {
    qn_interp_mode mode;
    uint64_t shuffle;    /* 0: tasks in order; else a seed for their order */
    uint64_t fuel;       /* elements evaluated at most; 0: no limit */
    int64_t max_bytes;   /* of tiles and buffers; 0: 2 GiB */
} qn_interp_options;

typedef struct qn_interp_result {
    qn_arg *outs; /* every out and inout parameter, in order, in the arena */
    int32_t nouts;
    const char *flag; /* sticky flag raised: "E_INDEX", or NULL */
    uint64_t elements; /* pointwise elements evaluated */
} qn_interp_result;

/* Runs a verified kernel. False: a rule of the oracle is broken (V-BOUND, V-RACE, V-FACT, V-ARITH,
 * V-REQ, V-ARG, V-RING, V-DUP, V-LOOP; V-FUEL when the fuel or memory is spent), said in d. */
bool qn_interp(const qn_ir_file *f, const qn_kernel_ir *k, const qn_arg *args, int nargs,
               const qn_interp_options *options, qn_interp_result *out, qn_diags *d);

/* Evaluates a scalar expression of dims and scalar parameters alone (no memory). */
bool qn_interp_scalar(qn_ir *ir, const qn_expr *x, const qn_arg *args, int nargs, double *f,
                      int64_t *i);

#endif
