/* SPDX-License-Identifier: MIT
 * IR to text: two blanks an indent, one statement a line, fewest parentheses, shortest floats. */
#ifndef QN_IR_PRINT_H
#define QN_IR_PRINT_H

#include "ir/base/buf.h"
#include "ir/ir.h"

void qn_print_file(const qn_ir_file *f, qn_buf *out);
void qn_print_kernel(const qn_kernel_ir *k, qn_buf *out);
void qn_print_norm(const qn_norm *n, qn_buf *out);
void qn_print_expr(const qn_expr *x, qn_buf *out);
void qn_print_type(const qn_type *t, qn_buf *out);
void qn_print_stmt(const qn_stmt *s, int indent, qn_buf *out);

/* The same as a NUL-terminated text in the arena: for messages and as keys of equality. */
const char *qn_expr_text(qn_arena *a, const qn_expr *x);
const char *qn_type_text(qn_arena *a, const qn_type *t);
const char *qn_file_text(qn_arena *a, const qn_ir_file *f);

/* The file with messages woven in under the guilty lines, for diagnostics of the verifier:
 * every error of `d` appears as "; ^ text [CODE]" below the line of its place. */
void qn_print_annotated(const char *source, const qn_diags *d, qn_buf *out);

#endif
