/* SPDX-License-Identifier: MIT
 *
 * From what a spec file returned (host.h) to a checked mechanism (ir/spec.h), from there to IR
 * whose meaning is the definition, and the definition itself as arithmetic.
 *
 *     qn_spec *s = qn_spec_check(ir, host, &options, &diags);       names, types, bounds, laws
 *     qn_ir_file *f = qn_lower(ir, s, &diags);                      naive IR: whole tiles, fold
 *     qn_define(s, args, nargs, &result, &diags);                   S and P row by row, in double
 */
#ifndef QN_FRONTEND_FRONTEND_H
#define QN_FRONTEND_FRONTEND_H

#include "frontend/host.h"
#include "ir/interp.h"
#include "ir/ir.h"
#include "ir/spec.h"

typedef struct qn_spec_options {
    const char *types; /* "q=f16 k=f16": dtypes of inputs by name; NULL: q k v are f32 */
    const char *dims;  /* "D=64 Dv=64": sizes fixed at compile time; NULL: none */
} qn_spec_options;

/* NULL: errors are in d, each with its place and, where there is one, help. */
qn_spec *qn_spec_check(qn_ir *ir, const qn_host_value *host, const qn_spec_options *options,
                       qn_diags *d);

/* The mechanism as one kernel at the naive level, with its norms. NULL: errors are in d. */
qn_ir_file *qn_lower(qn_ir *ir, const qn_spec *s, qn_diags *d);

typedef enum qn_define_mode {
    QN_DEFINE_EXACT, /* double, with a first-order bound of what f32 may lose beside each value */
    QN_DEFINE_NAIVE  /* every operation rounded to its dtype: the second rule's other side */
} qn_define_mode;

typedef struct qn_definition {
    qn_arg *outs; /* o, then lse and max where asked, in the kernel's order; in the arena */
    int32_t nouts;
    const char *flag; /* "E_INDEX", "E_HEADS" or NULL */
} qn_definition;

/* Evaluates the mechanism row by row. Arguments by name: tensors, scalars (rank 0; a missing one
 * takes its default) and dims that no tensor binds. False: an argument is missing or disagrees
 * (E-ARG) or a requirement fails (E-REQ); said in d. */
bool qn_define(const qn_spec *s, const qn_arg *args, int nargs, qn_define_mode mode,
               qn_definition *out, qn_diags *d);

#endif
