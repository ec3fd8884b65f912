/* SPDX-License-Identifier: MIT
 * A growing text in an arena. */
#ifndef QN_IR_BASE_BUF_H
#define QN_IR_BASE_BUF_H

#include "ir/base/arena.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct qn_buf {
    qn_arena *arena;
    char *text; /* always NUL-terminated; never NULL after the first put */
    size_t length, cap;
} qn_buf;

static inline qn_buf qn_buf_of(qn_arena *a)
{
    return (qn_buf){a, NULL, 0, 0};
}
void qn_buf_put(qn_buf *b, const char *text, size_t length);
void qn_buf_puts(qn_buf *b, const char *text);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void qn_buf_printf(qn_buf *b, const char *format, ...);
void qn_buf_vprintf(qn_buf *b, const char *format, va_list args);

/* The shortest decimal that reads back as the same double, always with '.' or 'e'
 * (inf and nan as those words). The locale has no say in it. */
void qn_buf_double(qn_buf *b, double x);

/* Reads digits [. digits] [e [+-] digits], in every locale alike. False if the number is too large
 * for a double or written with more than QN_DOUBLE_TEXT bytes. */
enum { QN_DOUBLE_TEXT = 400 };
bool qn_double_of_text(const char *text, size_t length, double *out);

#endif
