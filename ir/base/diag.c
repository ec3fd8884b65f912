/* SPDX-License-Identifier: MIT
 * Diagnostics: collected, sorted, quoted with a caret; see diag.h. */
#include "ir/base/diag.h"

#include <stdlib.h>
#include <string.h>

void qn_diags_init(qn_diags *d, qn_arena *a, const char *path, const char *source)
{
    *d = (qn_diags){.arena = a, .path = path, .source = source};
}

static const char *vtext(qn_arena *a, const char *format, va_list args)
{
    qn_buf b = qn_buf_of(a);
    qn_buf_puts(&b, "");
    qn_buf_vprintf(&b, format, args);
    return b.text;
}

const char *qn_diag_text(qn_diags *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const char *t = vtext(d->arena, format, args);
    va_end(args);
    return t;
}

qn_diag *qn_diag_add(qn_diags *d, qn_severity severity, const char *code, qn_place place,
                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qn_diag x = {.severity = severity,
                 .code = code,
                 .path = d->path,
                 .source = d->source,
                 .place = place,
                 .text = vtext(d->arena, format, args)};
    va_end(args);
    if (severity == QN_ERROR && d->errors++ >= QN_DIAG_LIMIT) {
        static _Thread_local qn_diag beyond;
        beyond = x;
        return &beyond;
    }
    QN_PUSH(d->arena, d, x);
    return &d->at[d->count - 1];
}

static int by_place(const void *a, const void *b)
{
    const qn_diag *x = *(qn_diag *const *)a, *y = *(qn_diag *const *)b;
    int p = x->path && y->path ? strcmp(x->path, y->path) : 0;
    if (p != 0) {
        return p;
    }
    if (x->place.line != y->place.line) {
        return x->place.line < y->place.line ? -1 : 1;
    }
    if (x->place.col != y->place.col) {
        return x->place.col < y->place.col ? -1 : 1;
    }
    return x < y ? -1 : x > y;
}

static void where(qn_buf *out, const char *path, qn_place p)
{
    qn_buf_puts(out, path ? path : "<text>");
    if (p.line) {
        qn_buf_printf(out, ":%d", p.line);
        if (p.col) {
            qn_buf_printf(out, ":%d", p.col);
        }
    }
    qn_buf_puts(out, ": ");
}

static void quote(qn_buf *out, const char *source, qn_place p)
{
    const char *s = source;
    for (int line = 1; line < p.line && s; line++) {
        s = strchr(s, '\n');
        s = s ? s + 1 : NULL;
    }
    if (!s || !p.line) {
        return;
    }
    size_t n = strcspn(s, "\r\n");
    if (n > 400) {
        n = 400;
    }
    qn_buf_printf(out, "%4d | ", p.line);
    qn_buf_put(out, s, n);
    qn_buf_puts(out, "\n");
    if (p.col < 1 || (size_t)p.col > n + 1) {
        return;
    }
    qn_buf_puts(out, "     | ");
    for (int c = 1; c < p.col; c++) {
        if ((s[c - 1] & 0xC0) != 0x80) { /* one blank a code point */
            qn_buf_puts(out, s[c - 1] == '\t' ? "\t" : " ");
        }
    }
    qn_buf_puts(out, "^");
    for (int k = 1; k < p.length && (size_t)(p.col + k) <= n; k++) {
        if ((s[p.col + k - 1] & 0xC0) != 0x80) {
            qn_buf_puts(out, "~");
        }
    }
    qn_buf_puts(out, "\n");
}

void qn_diags_print(const qn_diags *d, qn_severity severity, qn_buf *out)
{
    qn_buf_puts(out, "");
    const qn_diag **sorted = QN_NEWN(d->arena, const qn_diag *, d->count + 1);
    int n = 0;
    for (int k = 0; k < d->count; k++) {
        if (d->at[k].severity == severity) {
            sorted[n++] = &d->at[k];
        }
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_place);
    for (int k = 0; k < n; k++) {
        const qn_diag *x = sorted[k];
        where(out, x->path, x->place);
        qn_buf_printf(out, "%s: %s [%s]\n", x->severity == QN_ERROR ? "error" : "remark", x->text,
                      x->code);
        quote(out, x->source, x->place);
        if (x->note_text) {
            where(out, x->path, x->note_place);
            qn_buf_printf(out, "note: %s\n", x->note_text);
        }
        if (x->help) {
            qn_buf_printf(out, "   help: %s\n", x->help);
        }
    }
    if (severity == QN_ERROR && d->errors > QN_DIAG_LIMIT) {
        qn_buf_printf(out, "... and %d more errors\n", d->errors - QN_DIAG_LIMIT);
    }
}
