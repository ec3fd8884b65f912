/* SPDX-License-Identifier: MIT
 * The lexer of the IR text; see lex.h. */
#include "ir/lex.h"

#include <string.h>

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

qn_lexer qn_lexer_of(const char *text, size_t length)
{
    return (qn_lexer){text, length, 0, 0, 1};
}

/* The byte `ahead` of the position, or a blank at the end of the text. */
static char peek(const qn_lexer *l, size_t ahead)
{
    return ahead < l->length - l->at ? l->text[l->at + ahead] : ' ';
}

static void skip_blanks(qn_lexer *l)
{
    while (l->at < l->length) {
        char c = l->text[l->at];
        if (c == ';') {
            while (l->at < l->length && l->text[l->at] != '\n') {
                l->at++;
            }
        } else if (c == '\n') {
            l->line_at = ++l->at;
            l->line++;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            l->at++;
        } else {
            break;
        }
    }
}

static size_t word_length(const qn_lexer *l, size_t from)
{
    size_t n = from;
    while (is_letter(peek(l, n)) || is_digit(peek(l, n))) {
        n++;
    }
    return n;
}

static size_t digits_length(const qn_lexer *l, size_t from)
{
    size_t n = from;
    while (is_digit(peek(l, n))) {
        n++;
    }
    return n;
}

static void bad(qn_token *t, const char *fault)
{
    t->kind = QN_TOKEN_BAD;
    t->fault = fault;
}

static void number(qn_lexer *l, qn_token *t)
{
    size_t n = digits_length(l, 0);
    t->kind = QN_TOKEN_INT;
    if (peek(l, n) == '.' && is_digit(peek(l, n + 1))) {
        t->kind = QN_TOKEN_FLOAT;
        n = digits_length(l, n + 1);
    }
    if (peek(l, n) == 'e') {
        size_t sign = peek(l, n + 1) == '-' || peek(l, n + 1) == '+';
        if (is_digit(peek(l, n + 1 + sign))) {
            t->kind = QN_TOKEN_FLOAT;
            n = digits_length(l, n + 1 + sign);
        }
    }
    t->length = n;
    if (is_letter(peek(l, n))) {
        t->length = word_length(l, n);
        bad(t, "a number may not run into a word");
        return;
    }
    if (t->kind == QN_TOKEN_FLOAT) {
        if (!qn_double_of_text(t->text, n, &t->f)) {
            bad(t, "the number is too large or too long");
        }
        return;
    }
    for (size_t k = 0; k < n; k++) {
        int digit = t->text[k] - '0';
        if (t->i > (INT64_MAX - digit) / 10) {
            bad(t, "the integer does not fit 64 bits");
            return;
        }
        t->i = t->i * 10 + digit;
    }
}

static void string(const qn_lexer *l, qn_token *t)
{
    size_t n = 1;
    t->kind = QN_TOKEN_STRING;
    for (;; n++) {
        bool ends = n >= l->length - l->at;
        unsigned char c = ends ? '\n' : (unsigned char)l->text[l->at + n];
        if (c == '"') {
            t->length = n + 1;
            return;
        }
        if (c == '\n') {
            t->length = n;
            bad(t, "the string does not end on its line");
            return;
        }
        if (c < ' ' || c == 0x7f) {
            t->length = n + 1;
            bad(t, "a string holds no control bytes");
            return;
        }
        if (c == '\\') {
            char next = peek(l, n + 1);
            if (next != '"' && next != '\\' && next != 'n') {
                t->length = n + 1;
                bad(t, "a backslash in a string stands before \" or \\ or n");
                return;
            }
            n++;
        }
    }
}

/* Longer marks first. */
static const char *const marks[] = {"..", "->", "//", "==", "!=", "<=", ">=", "+", "-",
                                    "*",  "/",  "%",  "<",  ">",  "=",  "(",  ")", ",",
                                    ":",  "[",  "]",  "{",  "}",  "|",  "."};

static void mark(const qn_lexer *l, qn_token *t)
{
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
        size_t n = strlen(marks[k]);
        if (peek(l, 0) == marks[k][0] && (n == 1 || peek(l, 1) == marks[k][1])) {
            t->kind = QN_TOKEN_MARK;
            t->length = n;
            return;
        }
    }
    t->length = 1;
    while ((peek(l, t->length) & 0xC0) == 0x80) { /* the rest of a UTF-8 character */
        t->length++;
    }
    bad(t, "a character that no word or mark has");
}

qn_token qn_lex(qn_lexer *l)
{
    skip_blanks(l);
    qn_token t = {.text = l->text + l->at, .at = l->at};
    t.place.line = l->line;
    t.place.col = (int32_t)(l->at - l->line_at) + 1;
    if (l->at >= l->length) {
        t.kind = QN_TOKEN_END;
        return t;
    }
    char c = peek(l, 0);
    if (is_letter(c)) {
        t.kind = QN_TOKEN_WORD;
        t.length = word_length(l, 0);
    } else if (is_digit(c)) {
        number(l, &t);
    } else if ((c == '%' || c == '@' || c == '!') && is_letter(peek(l, 1))) {
        t.kind = c == '%' ? QN_TOKEN_VALUE : c == '@' ? QN_TOKEN_AT : QN_TOKEN_ATTR;
        t.length = word_length(l, 1);
    } else if (c == '"') {
        string(l, &t);
    } else {
        mark(l, &t);
    }
    t.place.length = (int32_t)t.length;
    l->at += t.length;
    return t;
}

bool qn_token_is(const qn_token *t, const char *text)
{
    return (t->kind == QN_TOKEN_WORD || t->kind == QN_TOKEN_MARK) && strlen(text) == t->length &&
           memcmp(t->text, text, t->length) == 0;
}

const char *qn_token_string(qn_arena *a, const qn_token *t)
{
    char *out = qn_arena_alloc(a, t->length, 1);
    size_t n = 0;
    for (size_t k = 1; k + 1 < t->length; k++) {
        char c = t->text[k];
        if (c == '\\') {
            c = t->text[++k] == 'n' ? '\n' : t->text[k];
        }
        out[n++] = c;
    }
    return out;
}

void qn_token_print_string(const char *text, qn_buf *out)
{
    qn_buf_puts(out, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            qn_buf_printf(out, "\\%c", c);
        } else if (c == '\n') {
            qn_buf_puts(out, "\\n");
        } else {
            qn_buf_put(out, c < ' ' || c == 0x7f ? " " : text, 1);
        }
    }
    qn_buf_puts(out, "\"");
}

static const char *const reserved[] = {
#define X(ID, name, bytes, class) name,
#include "ir/types.def"
#undef X
#define X(ID, text, arity, rule, prec, doc) text,
#include "ir/ops.def"
#undef X
#define X(ID, text, arity, doc) text,
#include "ir/axisops.def"
#undef X
    "kernel", "norm",  "schedule", "dim",   "in",     "out",    "inout",  "require", "launch",
    "par",    "for",   "step",     "carry", "cost",   "yield",  "if",     "else",    "store",
    "start",  "buf",   "layout",   "call",  "task",   "shared", "ring",   "list",    "pad",
    "tile",   "over",  "where",    "as",    "fold",   "await",  "free",   "ordered", "atomic",
    "true",   "false", "inf",      "nan",   "stat",   "none",   "finish", "sum",     "reduce",
    "scan",   "flag",  "prefetch", "role",  "swizzle"};

bool qn_word_is_reserved(const char *word)
{
    for (size_t k = 0; k < sizeof reserved / sizeof *reserved; k++) {
        if (strcmp(reserved[k], word) == 0) {
            return true;
        }
    }
    return false;
}
