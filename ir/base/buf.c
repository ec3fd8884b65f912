/* SPDX-License-Identifier: MIT
 * A growing text in an arena. */
#include "ir/base/buf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qn_buf_put(qn_buf *b, const char *text, size_t length)
{
    if (b->length + length + 1 > b->cap) {
        size_t cap = (b->cap ? b->cap : 64) * 2;
        while (cap < b->length + length + 1) {
            cap *= 2;
        }
        char *t = qn_arena_alloc(b->arena, cap, 1);
        if (b->length) {
            memcpy(t, b->text, b->length);
        }
        b->text = t;
        b->cap = cap;
    }
    memcpy(b->text + b->length, text, length);
    b->length += length;
    b->text[b->length] = 0;
}

void qn_buf_puts(qn_buf *b, const char *text)
{
    qn_buf_put(b, text, strlen(text));
}

void qn_buf_vprintf(qn_buf *b, const char *format, va_list args)
{
    char small[256];
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(small, sizeof small, format, args);
    if (n >= (int)sizeof small) {
        char *big = qn_arena_alloc(b->arena, (size_t)n + 1, 1);
        vsnprintf(big, (size_t)n + 1, format, again);
        qn_buf_put(b, big, (size_t)n);
    } else if (n >= 0) {
        qn_buf_put(b, small, (size_t)n);
    }
    va_end(again);
}

void qn_buf_printf(qn_buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qn_buf_vprintf(b, format, args);
    va_end(args);
}

void qn_buf_double(qn_buf *b, double x)
{
    if (isnan(x)) {
        qn_buf_puts(b, "nan");
        return;
    }
    if (isinf(x)) {
        qn_buf_puts(b, x < 0 ? "-inf" : "inf");
        return;
    }
    char t[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(t, sizeof t, "%.*g", digits, x);
        if (strtod(t, NULL) == x) {
            break;
        }
    }
    qn_buf_puts(b, t);
    if (!strpbrk(t, ".e")) {
        qn_buf_puts(b, ".0");
    }
}
