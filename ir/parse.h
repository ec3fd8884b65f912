/* SPDX-License-Identifier: MIT
 * Text to IR. Never crashes on any bytes; nesting is bounded (256 expressions, 256 blocks), so is
 * the height of an expression (2,000 operations). */
#ifndef QN_IR_PARSE_H
#define QN_IR_PARSE_H

#include "ir/ir.h"

/* Returns the file, or NULL with at least one error in d: E-LEX, E-SYNTAX, E-SCHED, or V-OP for an
 * op that does not exist or takes another number of operands. After an error the parser goes on at
 * the next kernel, norm or schedule.
 * The text need not end with a NUL and is not kept. */
qn_ir_file *qn_parse(qn_ir *ir, const char *text, size_t length, qn_diags *d);

/* One expression alone, for tests and schedules. */
qn_expr *qn_parse_expr(qn_ir *ir, const char *text, size_t length, qn_diags *d);

#endif
