/* SPDX-License-Identifier: MIT
 * The rules that every text must keep before it means anything; their list is in README.md. */
#ifndef QN_IR_VERIFY_H
#define QN_IR_VERIFY_H

#include "ir/ir.h"

/* True if no rule is broken; else errors with rule names (V-...) and places are in d. */
bool qn_verify(const qn_ir_file *f, qn_diags *d);

/* Samples the laws of every norm (V-NORM); needs a verified file. */
bool qn_verify_laws(const qn_ir_file *f, qn_diags *d);
bool qn_verify_norm_laws(qn_ir *ir, const qn_norm *n, qn_diags *d);

#endif
