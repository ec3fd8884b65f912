/* SPDX-License-Identifier: MIT
 *
 * What quern has to say about a text: errors and remarks with their place.
 *
 *     path:line:col: error: text [E-NAME]
 *        7 |   the guilty line
 *          |       ^~~~
 *     path:3:11: note: the other place involved
 *        help: what would be right
 *
 * All of a phase are collected (at most QN_DIAG_LIMIT errors) and printed sorted by place. */
#ifndef QN_IR_BASE_DIAG_H
#define QN_IR_BASE_DIAG_H

#include "ir/base/arena.h"
#include "ir/base/buf.h"
#include <stdbool.h>
#include <stdint.h>

enum { QN_DIAG_LIMIT = 20 };

/* A place in a source text. line and col count from 1; line 0 is "nowhere". */
typedef struct qn_place {
    int32_t line, col, length; /* length: bytes to underline; 0 or 1 is a bare caret */
} qn_place;

typedef enum qn_severity { QN_ERROR, QN_REMARK } qn_severity;

typedef struct qn_diag {
    qn_severity severity;
    const char *code;   /* "E-BOUND", "V-AXIS", "W-DATADEP"; a name from a .def file */
    const char *path;   /* of the text the place belongs to; NULL: the current one */
    const char *source; /* that text, to quote the line from; NULL: no quotation */
    qn_place place;
    const char *text;
    const char *note_text; /* NULL: no note */
    qn_place note_place;
    const char *help; /* NULL: none */
} qn_diag;

typedef struct qn_diags {
    qn_arena *arena;
    const char *path, *source; /* taken by qn_diag_add for diagnostics that name none */
    qn_diag *at;
    int32_t count, cap;
    int32_t errors; /* counted beyond the limit too */
} qn_diags;

void qn_diags_init(qn_diags *d, qn_arena *a, const char *path, const char *source);

/* Adds one and returns it, so that note and help can be set; the text is formatted into the arena. */
#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
qn_diag *qn_diag_add(qn_diags *d, qn_severity severity, const char *code, qn_place place,
                     const char *format, ...);

/* Formats into the arena: for notes and helps. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
const char *qn_diag_text(qn_diags *d, const char *format, ...);

/* Appends every diagnostic of the severity, sorted by place. */
void qn_diags_print(const qn_diags *d, qn_severity severity, qn_buf *out);

#endif
