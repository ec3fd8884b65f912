/* SPDX-License-Identifier: MIT
 *
 * Chunks as the user wrote them, and the copies that Lua sees.
 *
 * A kernel function is compiled from its source text, and all that Lua tells of a function is the
 * line where it starts. So the copy has a newline before every `function` token: then a line names
 * one function. Attributes `<const>` are blanked, since Lua folds such constants and they would not
 * be captured. This lexer knows strings, comments and long brackets, so that words inside them are
 * left alone; it also finds the `end` of every function by counting blocks. */
#include "dsl/state.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    dsl_state *s;
    dsl_chunk *c;
    const char *t;
    size_t n, p;
    int32_t line;
    size_t line_start;
    qn_buf copy;
    int32_t copy_line;
    int32_t *open; /* stack of blocks: index of a function, or -1 */
    int32_t nopen, cap_open;
    const char *why;
    qn_place place;
} lexer;

static void note_line(lexer *x)
{
    dsl_chunk *c = x->c;
    while (c->nlines <= x->copy_line) {
        if (c->nlines == c->cap_lines) {
            c->lines = qn_arena_grow(x->s->ir->arena, c->lines, c->nlines, &c->cap_lines,
                                     sizeof *c->lines);
        }
        c->lines[c->nlines++] = x->line;
    }
}

static void put(lexer *x, size_t from, size_t to)
{
    qn_buf_put(&x->copy, x->t + from, to - from);
    for (size_t k = from; k < to; k++) {
        if (x->t[k] == '\n') {
            x->line++;
            x->copy_line++;
            x->line_start = k + 1;
            note_line(x);
        }
    }
}

static void wrong(lexer *x, const char *why)
{
    if (!x->why) {
        x->why = why;
        x->place = (qn_place){x->line, (int32_t)(x->p - x->line_start) + 1, 1};
    }
}

/* Length of a long bracket's opening at p ([[, [=[ ..), its level in *level; 0: none. */
static size_t long_open(const lexer *x, size_t p, size_t *level)
{
    size_t q = p + 1;
    if (p >= x->n || x->t[p] != '[') {
        return 0;
    }
    while (q < x->n && x->t[q] == '=') {
        q++;
    }
    if (q >= x->n || x->t[q] != '[') {
        return 0;
    }
    *level = q - p - 1;
    return q + 1 - p;
}

static size_t long_end(const lexer *x, size_t p, size_t level)
{
    for (; p < x->n; p++) {
        if (x->t[p] == ']') {
            size_t q = p + 1;
            while (q < x->n && x->t[q] == '=') {
                q++;
            }
            if (q < x->n && x->t[q] == ']' && q - p - 1 == level) {
                return q + 1;
            }
        }
    }
    return x->n;
}

static size_t string_end(const lexer *x, size_t p)
{
    char quote = x->t[p++];
    while (p < x->n && x->t[p] != quote && x->t[p] != '\n') {
        if (x->t[p] == '\\' && p + 1 < x->n) {
            if (x->t[p + 1] == 'z') {
                p += 2;
                while (p < x->n && strchr(" \t\r\n\v\f", x->t[p]) && x->t[p]) {
                    p++;
                }
                continue;
            }
            p++;
        }
        p++;
    }
    return p < x->n ? p + 1 : x->n;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

static void open_block(lexer *x, int32_t function)
{
    if (x->nopen == x->cap_open) {
        x->open = qn_arena_grow(x->s->ir->arena, x->open, x->nopen, &x->cap_open, sizeof *x->open);
    }
    x->open[x->nopen++] = function;
}

static void close_block(lexer *x, size_t end)
{
    if (x->nopen == 0) {
        return; /* Lua will say it */
    }
    int32_t f = x->open[--x->nopen];
    if (f >= 0) {
        x->c->functions[f].end = end;
    }
}

static void start_function(lexer *x, size_t at)
{
    dsl_chunk *c = x->c;
    qn_buf_put(&x->copy, "\n", 1);
    x->copy_line++;
    note_line(x);
    if (c->nfunctions == c->cap_functions) {
        c->functions = qn_arena_grow(x->s->ir->arena, c->functions, c->nfunctions,
                                     &c->cap_functions, sizeof *c->functions);
    }
    c->functions[c->nfunctions] =
        (dsl_function){at, 0, x->copy_line, x->line, (int32_t)(at - x->line_start) + 1};
    open_block(x, c->nfunctions++);
}

static bool same(const lexer *x, size_t from, size_t to, const char *word)
{
    return to - from == strlen(word) && memcmp(x->t + from, word, to - from) == 0;
}

static size_t blanks(const lexer *x, size_t p)
{
    while (p < x->n && strchr(" \t\r\n\v\f", x->t[p]) && x->t[p]) {
        p++;
    }
    return p;
}

/* At '<': the end of `< const >`, or 0. */
static size_t const_attribute(const lexer *x, size_t p)
{
    size_t q = blanks(x, p + 1), r = q;
    while (r < x->n && is_word(x->t[r])) {
        r++;
    }
    if (!same(x, q, r, "const")) {
        return 0;
    }
    r = blanks(x, r);
    return r < x->n && x->t[r] == '>' ? r + 1 : 0;
}

static void word(lexer *x, bool *after_local)
{
    size_t from = x->p, to = from;
    while (to < x->n && is_word(x->t[to])) {
        to++;
    }
    bool number = x->t[from] >= '0' && x->t[from] <= '9';
    if (number) { /* 0x1p4, 1e5: letters belong to it; signs do not matter here */
        put(x, from, to);
        x->p = to;
        return;
    }
    if (same(x, from, to, "function")) {
        start_function(x, from);
    } else if (same(x, from, to, "if") || same(x, from, to, "do") || same(x, from, to, "repeat")) {
        open_block(x, -1);
    } else if (same(x, from, to, "end") || same(x, from, to, "until")) {
        close_block(x, to);
    }
    if (same(x, from, to, "local")) {
        *after_local = true;
    }
    put(x, from, to);
    x->p = to;
}

static void scan(lexer *x)
{
    bool after_local = false; /* in the name list of a `local` */
    while (x->p < x->n) {
        char c = x->t[x->p];
        size_t from = x->p, level, open;
        if (c == 0) {
            wrong(x, "a NUL byte in the text");
            return;
        }
        if (c == '-' && x->p + 1 < x->n && x->t[x->p + 1] == '-') {
            open = long_open(x, x->p + 2, &level);
            x->p += 2;
            if (open) {
                x->p = long_end(x, x->p + open, level);
            } else {
                while (x->p < x->n && x->t[x->p] != '\n') {
                    x->p++;
                }
            }
            put(x, from, x->p);
        } else if (c == '"' || c == '\'') {
            x->p = string_end(x, x->p);
            put(x, from, x->p);
        } else if ((open = long_open(x, x->p, &level)) > 0) {
            x->p = long_end(x, x->p + open, level);
            put(x, from, x->p);
        } else if (is_word(c)) {
            word(x, &after_local);
        } else if (c == '<' && after_local && const_attribute(x, x->p)) {
            size_t to = const_attribute(x, x->p);
            for (; x->p < to; x->p++) {
                if (x->t[x->p] == '\n') {
                    put(x, x->p, x->p + 1);
                } else {
                    qn_buf_put(&x->copy, " ", 1);
                }
            }
        } else {
            after_local =
                after_local && (c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r');
            put(x, from, ++x->p);
        }
    }
}

dsl_chunk *dsl_chunk_new(dsl_state *s, const char *path, const char *text, size_t length,
                         const char **why, qn_place *place)
{
    dsl_chunk *c = QN_NEW(s->ir->arena, dsl_chunk);
    c->user = (qn_host_chunk){path, text, length};
    lexer x = {.s = s, .c = c, .t = text, .n = length, .line = 1, .copy_line = 1};
    x.copy = qn_buf_of(s->ir->arena);
    qn_buf_puts(&x.copy, "");
    note_line(&x);
    if (length >= 4 && memcmp(text, "\x1bLua", 4) == 0) {
        x.why = "a binary chunk: only text is run";
        x.place = (qn_place){1, 1, 1};
    } else {
        scan(&x);
    }
    c->copy = x.copy.text;
    c->copy_length = x.copy.length;
    *why = x.why;
    *place = x.place;
    return c;
}

int32_t dsl_user_line(const dsl_chunk *c, int32_t copy_line)
{
    return copy_line > 0 && copy_line < c->nlines ? c->lines[copy_line]
           : c->nlines                            ? c->lines[c->nlines - 1]
                                                  : 0;
}

const dsl_function *dsl_function_at(const dsl_chunk *c, int32_t copy_line)
{
    int32_t lo = 0, hi = c->nfunctions; /* the last one that starts at or above the line */
    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        if (c->functions[mid].new_line <= copy_line) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > 0 && c->functions[lo - 1].end ? &c->functions[lo - 1] : NULL;
}

int dsl_chunk_number(const char *source)
{
    if (strncmp(source, "[q", 2) != 0) {
        return -1;
    }
    char *end;
    long n = strtol(source + 2, &end, 10);
    return *end == ']' && n >= 0 && n < DSL_MAX_CHUNKS ? (int)n : -1;
}
