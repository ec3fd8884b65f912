/* SPDX-License-Identifier: MIT
 * Bytes of a kernel function to tokens, as Lua 5.4 reads them: numbers in decimal and hexadecimal,
 * quoted and long strings, both kinds of comments. Columns count bytes from 1. */
#include "frontend/ast.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const keywords[] = {"and",   "break", "do",       "else", "elseif", "end",
                                       "false", "for",   "function", "goto", "if",     "in",
                                       "local", "nil",   "not",      "or",   "repeat", "return",
                                       "then",  "true",  "until",    "while"};

/* Longer ones first. */
static const char *const symbols[] = {
    "...", "<<", ">>", "//", "==", "~=", "<=", ">=", "::", "..", "+", "-", "*", "/", "%", "^", "#",
    "&",   "~",  "|",  "<",  ">",  "=",  "(",  ")",  "{",  "}",  "[", "]", ";", ":", ",", "."};

static bool is_name(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(unsigned char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

void qn_lua_lexer_init(qn_lua_lexer *l, qn_ir *ir, qn_diags *d, const qn_host_chunk *chunk,
                       size_t begin, size_t end)
{
    if (end > chunk->length) {
        end = chunk->length;
    }
    if (begin > end) {
        begin = end;
    }
    *l = (qn_lua_lexer){ir, d, chunk, begin, end, 0, 1};
    for (size_t k = 0; k < begin; k++) {
        if (chunk->text[k] == '\n') {
            l->line++;
            l->line_at = k + 1;
        }
    }
}

static unsigned char peek(const qn_lua_lexer *l, size_t ahead)
{
    return l->at + ahead < l->end ? (unsigned char)l->chunk->text[l->at + ahead] : 0;
}

static qn_place place_of(const qn_lua_lexer *l, size_t from)
{
    size_t n = l->at > from ? l->at - from : 1;
    return (qn_place){l->line, (int32_t)(from - l->line_at) + 1, (int32_t)(n < 1000 ? n : 1000)};
}

static qn_diag *complain(qn_lua_lexer *l, const char *code, qn_place place, const char *text)
{
    qn_diag *x = qn_diag_add(l->d, QN_ERROR, code, place, "%s", text);
    x->path = l->chunk->path;
    x->source = l->chunk->text;
    return x;
}

static qn_tok bad(qn_lua_lexer *l, qn_place place, const char *text)
{
    complain(l, "E-LEX", place, text);
    return (qn_tok){.kind = QN_TK_BAD, .place = place};
}

static void step(qn_lua_lexer *l)
{
    if (l->chunk->text[l->at++] == '\n') {
        l->line++;
        l->line_at = l->at;
    }
}

/* At "[=*[": the number of '='; else -1. */
static int long_bracket(const qn_lua_lexer *l)
{
    if (peek(l, 0) != '[') {
        return -1;
    }
    int n = 0;
    while (peek(l, 1 + (size_t)n) == '=') {
        n++;
    }
    return peek(l, 1 + (size_t)n) == '[' ? n : -1;
}

/* Skips a long bracket of level n; gives its inner bytes. False: it never ends. */
static bool skip_long(qn_lua_lexer *l, int n, size_t *from, size_t *to)
{
    l->at += (size_t)n + 2;
    *from = l->at;
    while (l->at < l->end) {
        if (peek(l, 0) == ']') {
            int k = 0;
            while (k < n && peek(l, 1 + (size_t)k) == '=') {
                k++;
            }
            if (k == n && peek(l, 1 + (size_t)n) == ']') {
                *to = l->at;
                l->at += (size_t)n + 2;
                return true;
            }
        }
        step(l);
    }
    return false;
}

static qn_tok number(qn_lua_lexer *l)
{
    size_t from = l->at;
    bool hex = peek(l, 0) == '0' && (peek(l, 1) == 'x' || peek(l, 1) == 'X');
    bool is_float = false;
    l->at += hex ? 2 : 0;
    for (;;) {
        unsigned char c = peek(l, 0);
        bool exponent = hex ? c == 'p' || c == 'P' : c == 'e' || c == 'E';
        if (exponent) {
            is_float = true;
            l->at += peek(l, 1) == '+' || peek(l, 1) == '-' ? 2 : 1;
        } else if (c == '.') {
            is_float = true;
            l->at++;
        } else if (is_digit(c) || is_name(c)) {
            l->at++;
        } else {
            break;
        }
    }
    qn_place place = place_of(l, from);
    size_t n = l->at - from;
    char text[256];
    if (n >= sizeof text) {
        return bad(l, place, "this number is too long");
    }
    memcpy(text, l->chunk->text + from, n);
    text[n] = 0;
    qn_tok t = {.kind = QN_TK_INT, .place = place};
    char *end = NULL;
    if (!is_float && hex) { /* wraps around, as Lua's do */
        uint64_t v = 0;
        size_t k = 2;
        for (; hex_digit((unsigned char)text[k]) >= 0; k++) {
            v = v * 16 + (uint64_t)hex_digit((unsigned char)text[k]);
        }
        end = n == 2 ? text : text + k;
        memcpy(&t.i, &v, sizeof v);
    } else if (!is_float) {
        errno = 0;
        t.i = strtoll(text, &end, 10);
        if (errno == ERANGE && *end == 0) { /* Lua reads it as a float */
            t.kind = QN_TK_FLOAT;
            t.f = strtod(text, &end);
        }
    } else {
        t.kind = QN_TK_FLOAT;
        t.f = strtod(text, &end);
    }
    return *end || end == text ? bad(l, place, "malformed number") : t;
}

static qn_tok quoted(qn_lua_lexer *l)
{
    size_t from = l->at;
    unsigned char quote = peek(l, 0);
    qn_buf b = qn_buf_of(l->ir->arena);
    qn_buf_puts(&b, "");
    l->at++;
    for (;;) {
        unsigned char c = peek(l, 0);
        if (l->at >= l->end || c == '\n') {
            return bad(l, place_of(l, from), "this string has no end");
        }
        l->at++;
        if (c == quote) {
            break;
        }
        char out = (char)c;
        if (c == '\\') { /* strings are only keys and names: the common escapes are enough */
            static const char escapes[] = "n\nt\tr\r\\\\\"\"''";
            unsigned char e = peek(l, 0);
            const char *found = e ? strchr(escapes, e) : NULL;
            if (!found || (found - escapes) % 2) {
                return bad(l, place_of(l, from),
                           "an escape that strings of kernel functions do not have");
            }
            out = found[1];
            l->at++;
        }
        qn_buf_put(&b, &out, 1);
    }
    return (qn_tok){.kind = QN_TK_STRING,
                    .place = place_of(l, from),
                    .text = qn_intern_n(l->ir, b.text, b.length)};
}

qn_tok qn_lua_lexer_next(qn_lua_lexer *l)
{
    for (;;) { /* blanks and comments */
        unsigned char c = peek(l, 0);
        if (l->at >= l->end) {
            return (qn_tok){.kind = QN_TK_END, .place = place_of(l, l->at)};
        }
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f') {
            step(l);
        } else if (c == '-' && peek(l, 1) == '-') {
            size_t from = l->at, a, b;
            qn_place place = place_of(l, from);
            l->at += 2;
            int n = long_bracket(l);
            if (n >= 0 && !skip_long(l, n, &a, &b)) {
                return bad(l, place, "this comment has no end");
            }
            while (n < 0 && l->at < l->end && peek(l, 0) != '\n') {
                l->at++;
            }
        } else {
            break;
        }
    }
    size_t from = l->at;
    unsigned char c = peek(l, 0);
    if (is_digit(c) || (c == '.' && is_digit(peek(l, 1)))) {
        return number(l);
    }
    if (c == '"' || c == '\'') {
        return quoted(l);
    }
    int level = long_bracket(l);
    if (level >= 0) {
        size_t a = 0, b = 0;
        qn_place place = place_of(l, from);
        if (!skip_long(l, level, &a, &b)) {
            return bad(l, place, "this string has no end");
        }
        return (qn_tok){.kind = QN_TK_STRING,
                        .place = place,
                        .text = qn_intern_n(l->ir, l->chunk->text + a, b - a)};
    }
    if (is_name(c)) {
        while (is_name(peek(l, 0)) || is_digit(peek(l, 0))) {
            l->at++;
        }
        qn_sym text = qn_intern_n(l->ir, l->chunk->text + from, l->at - from);
        qn_tok t = {.kind = QN_TK_NAME, .place = place_of(l, from), .text = text};
        for (size_t k = 0; k < sizeof keywords / sizeof *keywords; k++) {
            if (strcmp(keywords[k], text) == 0) {
                t.kind = QN_TK_KEYWORD;
            }
        }
        return t;
    }
    for (size_t k = 0; k < sizeof symbols / sizeof *symbols; k++) {
        size_t n = strlen(symbols[k]);
        if (l->end - l->at >= n && memcmp(l->chunk->text + l->at, symbols[k], n) == 0) {
            l->at += n;
            return (qn_tok){.kind = QN_TK_SYMBOL,
                            .place = place_of(l, from),
                            .text = qn_intern(l->ir, symbols[k])};
        }
    }
    l->at++;
    return bad(l, place_of(l, from),
               c < 0x80 ? "this byte begins no token of Lua"
                        : "names are ASCII letters, digits and '_'");
}
