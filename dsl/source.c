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
    qn_buf copy;
    struct {
        size_t *at;
        int32_t count, cap;
    } starts;
    int32_t *open; /* stack of blocks: index of a function, or -1 */
    int32_t nopen, cap_open;
    int depth; /* of brackets and blocks */
    const char *why;
} lexer;

/* The copy's next line starts at this byte of the user's text. */
static void note_line(lexer *x, size_t at)
{
    QN_PUSH(x->s->ir->arena, &x->starts, at);
}

static bool is_newline(char c)
{
    return c == '\n' || c == '\r';
}

/* Lua takes "\r\n", "\n\r" and a lone one of them for one newline; the copy has '\n'. */
static void put(lexer *x, size_t from, size_t to)
{
    size_t plain = from;
    for (size_t k = from; k < to; k++) {
        if (is_newline(x->t[k])) {
            qn_buf_put(&x->copy, x->t + plain, k - plain);
            qn_buf_put(&x->copy, "\n", 1);
            k += k + 1 < x->n && is_newline(x->t[k + 1]) && x->t[k + 1] != x->t[k];
            plain = k + 1;
            note_line(x, plain);
        }
    }
    if (plain < to) {
        qn_buf_put(&x->copy, x->t + plain, to - plain);
    }
    x->p = plain > to ? plain : to;
}

/* Line and column of a byte of the user's text. */
static qn_place place_of(const dsl_chunk *c, size_t at)
{
    int32_t lo = 0, hi = c->nrows; /* the last row that starts at or before it */
    while (hi - lo > 1) {
        int32_t mid = lo + (hi - lo) / 2;
        if (c->rows[mid] <= at) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return (qn_place){lo + 1, (int32_t)(at - c->rows[lo]) + 1, 1};
}

/* Rows of the text as diagnostics quote it: ended by '\n'. */
static void find_rows(dsl_state *s, dsl_chunk *c)
{
    int32_t cap = 0;
    c->rows = qn_arena_grow(s->ir->arena, NULL, 0, &cap, sizeof *c->rows);
    c->rows[c->nrows++] = 0;
    for (size_t k = 0; k < c->user.length; k++) {
        if (c->user.text[k] == '\n') {
            if (c->nrows == cap) {
                c->rows = qn_arena_grow(s->ir->arena, c->rows, c->nrows, &cap, sizeof *c->rows);
            }
            c->rows[c->nrows++] = k + 1;
        }
    }
}

static void wrong(lexer *x, const char *why)
{
    x->why = why;
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
    while (p < x->n && x->t[p] != quote && !is_newline(x->t[p])) {
        if (x->t[p] == '\\' && p + 1 < x->n) {
            if (x->t[p + 1] == 'z') {
                p += 2;
                while (p < x->n && strchr(" \t\r\n\v\f", x->t[p]) && x->t[p]) {
                    p++;
                }
                continue;
            }
            p++;
            p += p + 1 < x->n && x->t[p] == '\r' && x->t[p + 1] == '\n';
        }
        p++;
    }
    return p < x->n ? p + 1 : x->n;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

/* Lua's parser gives up at some 200 levels and does not say where. */
static void nest(lexer *x, int by)
{
    x->depth += by;
    if (x->depth > 150 && !x->c->deep_line) {
        x->c->deep_line = x->starts.count;
    }
}

static void open_block(lexer *x, int32_t function)
{
    nest(x, 1);
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
    nest(x, -1);
    int32_t f = x->open[--x->nopen];
    if (f >= 0) {
        x->c->functions[f].end = end;
    }
}

static void start_function(lexer *x, size_t at)
{
    dsl_chunk *c = x->c;
    qn_buf_put(&x->copy, "\n", 1);
    note_line(x, at);
    if (c->nfunctions == c->cap_functions) {
        c->functions = qn_arena_grow(x->s->ir->arena, c->functions, c->nfunctions,
                                     &c->cap_functions, sizeof *c->functions);
    }
    qn_place place = place_of(c, at);
    place.length = 8;
    c->functions[c->nfunctions] =
        (dsl_function){.begin = at, .copy_line = x->starts.count, .place = place};
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
}

static void scan(lexer *x)
{
    bool after_local = false; /* in the name list of a `local` */
    while (x->p < x->n) {
        char c = x->t[x->p];
        size_t from = x->p, level, open;
        if (c == 0) {
            wrong(x, "E-LEX\1a NUL byte in the text");
            return;
        }
        if (c == '-' && x->p + 1 < x->n && x->t[x->p + 1] == '-') {
            open = long_open(x, x->p + 2, &level);
            x->p += 2;
            if (open) {
                x->p = long_end(x, x->p + open, level);
            } else {
                while (x->p < x->n && !is_newline(x->t[x->p])) {
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
            while (x->p < to) {
                if (is_newline(x->t[x->p])) {
                    put(x, x->p, x->p + 1);
                } else {
                    qn_buf_put(&x->copy, " ", 1);
                    x->p++;
                }
            }
        } else {
            after_local =
                after_local && (c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r');
            nest(x, strchr("([{", c) ? 1 : strchr(")]}", c) ? -1 : 0);
            put(x, from, from + 1);
        }
    }
}

dsl_chunk *dsl_chunk_new(dsl_state *s, const char *path, const char *text, size_t length,
                         const char **why)
{
    dsl_chunk *c = QN_NEW(s->ir->arena, dsl_chunk);
    c->user = (qn_host_chunk){path, text, length};
    lexer x = {.s = s, .c = c, .t = text, .n = length};
    x.copy = qn_buf_of(s->ir->arena);
    qn_buf_puts(&x.copy, "");
    note_line(&x, 0);
    find_rows(s, c);
    if (length > DSL_MAX_TEXT) {
        wrong(&x, "E-SIZE\1a file of more than 4 MiB");
    } else if (length > 0 && text[0] == '\x1b') {
        wrong(&x, "E-BINARY\1a binary chunk: a spec is text");
    } else {
        if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
            x.p = 3; /* the mark that some editors put before UTF-8 */
        }
        scan(&x);
    }
    c->copy = x.copy.text;
    c->copy_length = x.copy.length;
    c->starts = x.starts.at;
    c->nstarts = x.starts.count;
    *why = x.why;
    return c;
}

static size_t find_word(const char *t, size_t from, size_t to, const char *word)
{
    size_t n = strlen(word);
    for (size_t k = from; n && k + n <= to; k++) {
        if (memcmp(t + k, word, n) == 0 && (k == from || !is_word(t[k - 1]) || !is_word(word[0])) &&
            (k + n == to || !is_word(t[k + n]) || !is_word(word[n - 1]))) {
            return k;
        }
    }
    return to;
}

qn_place dsl_place(const dsl_chunk *c, int32_t copy_line, const char *word)
{
    if (copy_line < 1 || copy_line > c->nstarts) {
        return (qn_place){0, 0, 0};
    }
    const char *t = c->user.text;
    size_t from = c->starts[copy_line - 1], to = from;
    size_t last = copy_line < c->nstarts ? c->starts[copy_line] : c->user.length;
    while (to < last && !is_newline(t[to])) {
        to++;
    }
    while (from < to && (t[from] == ' ' || t[from] == '\t')) {
        from++;
    }
    while (to > from && (t[to - 1] == ' ' || t[to - 1] == '\t')) {
        to--;
    }
    size_t at = word ? find_word(t, from, to, word) : to;
    if (at < to) {
        from = at;
        to = at + strlen(word);
    }
    qn_place p = place_of(c, from);
    p.length = (int32_t)(to - from);
    return p;
}

const dsl_function *dsl_function_at(const dsl_chunk *c, int32_t copy_line)
{
    int32_t lo = 0, hi = c->nfunctions; /* the last one that starts at or above the line */
    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        if (c->functions[mid].copy_line <= copy_line) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > 0 && c->functions[lo - 1].end ? &c->functions[lo - 1] : NULL;
}

int dsl_chunk_number(const dsl_state *s, const char *source)
{
    if (strncmp(source, "[q", 2) != 0) {
        return -1;
    }
    char *end;
    long n = strtol(source + 2, &end, 10);
    return *end == ']' && n >= 0 && n < s->nchunks ? (int)n : -1;
}
