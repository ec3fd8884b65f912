/* SPDX-License-Identifier: MIT
 * The life of a compilation: the entry points of the library are
 *
 *     qn_build_init(&b, cx, &oom);
 *     if (setjmp(oom)) { qn_build_fini(&b, QN_E_MEMORY); return QN_E_MEMORY; }
 *     qn_build_start(&b);
 *     .. work ..
 *     qn_build_fini(&b, status);          the message goes to the context */
#ifndef QN_RUNTIME_BUILD_H
#define QN_RUNTIME_BUILD_H

#include "runtime/internal.h"

void qn_build_init(qn_build *b, qn_ctx *cx, jmp_buf *oom); /* allocates nothing */
void qn_build_start(qn_build *b);
void qn_build_fini(qn_build *b, qn_status status);

/* Source to kernel with all its plans. */
qn_status qn_build_all(qn_build *b, qn_source source, const qn_options *options, bool count,
                       qn_kernel **out);

/* The kernel's arguments without code; it cannot run. */
qn_status qn_build_signature(qn_build *b, qn_kernel **out);

/* explain.c: what was decided, by whom, and what could not be done; in the build's arena. */
const char *qn_build_explain(qn_build *b, const qn_plan_build *plans, int nplans);

#endif
