/* SPDX-License-Identifier: MIT
 * The rules of a norm that its text alone shows; see verify.h for the whole. */
#ifndef QN_IR_VERIFY_NORM_H
#define QN_IR_VERIFY_NORM_H

#include "ir/ir.h"

/* Names, results and what may stand in which part. */
bool qn_verify_norm(qn_ir *ir, const qn_norm *n, qn_diags *d);

#endif
