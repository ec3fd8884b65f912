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
    char digits[24];
    int n, e10 = 0;
    if (signbit(x)) {
        qn_buf_puts(b, "-");
        x = -x;
    }
    for (n = 1; n <= 17; n++) { /* d<point>ddde+xx: the point depends on the locale, skip it */
        char t[64], back[64];
        int have = 0;
        const char *s = t;
        snprintf(t, sizeof t, "%.*e", n - 1, x);
        for (; *s != 'e'; s++) {
            if (*s >= '0' && *s <= '9' && have < n) {
                digits[have++] = *s;
            }
        }
        digits[have] = 0;
        e10 = atoi(s + 1);
        snprintf(back, sizeof back, "%se%d", digits, e10 - (n - 1));
        if (n == 17 || strtod(back, NULL) == x) {
            break;
        }
    }
    if (e10 < -4 || e10 >= 16) {
        qn_buf_put(b, digits, 1);
        if (n > 1) {
            qn_buf_printf(b, ".%s", digits + 1);
        }
        qn_buf_printf(b, "e%c%02d", e10 < 0 ? '-' : '+', abs(e10));
    } else if (e10 < 0) {
        qn_buf_printf(b, "0.%.*s%s", -e10 - 1, "000", digits);
    } else {
        for (int k = 0; k <= e10; k++) {
            qn_buf_put(b, k < n ? &digits[k] : "0", 1);
        }
        qn_buf_printf(b, ".%s", n > e10 + 1 ? digits + e10 + 1 : "0");
    }
}

bool qn_double_of_text(const char *text, size_t length, double *out)
{
    char t[QN_DOUBLE_TEXT + 32];
    size_t n = 0, k = 0;
    long exponent = 0, shift = 0;
    if (length > QN_DOUBLE_TEXT) {
        return false;
    }
    for (bool after = false; k < length && text[k] != 'e'; k++) {
        if (text[k] == '.') {
            after = true;
        } else {
            t[n++] = text[k];
            shift += after;
        }
    }
    if (k < length) {
        bool minus = text[k + 1] == '-';
        for (k += minus || text[k + 1] == '+' ? 2 : 1; k < length; k++) {
            exponent = exponent > 100000 ? exponent : exponent * 10 + (text[k] - '0');
        }
        exponent = minus ? -exponent : exponent;
    }
    snprintf(t + n, sizeof t - n, "e%ld", exponent - shift); /* no point, so no locale */
    *out = strtod(t, NULL);
    return !isinf(*out);
}
