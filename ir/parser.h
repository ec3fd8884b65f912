/* SPDX-License-Identifier: MIT
 *
 * The inside of the parser of IR texts, shared by parse.c (files, statements), parse_expr.c and
 * parse_sched.c; nobody else includes it. Recursive descent with one token of sight.
 *
 * After an error the current token becomes the end of the text, so every loop and every rule runs
 * out without further checks, and what they return is thrown away. The file rule then starts again
 * at the next `kernel @`, `norm @` or `schedule @`. Expressions are never NULL, even then.
 * Two bounds keep stacks finite: nesting in the text, and the height of expression trees, which
 * chains such as a + a + .. raise without nesting. */
#ifndef QN_IR_PARSER_H
#define QN_IR_PARSER_H

#include "ir/lex.h"

enum { QN_NESTING = 256, QN_HEIGHT = 2000, QN_TEXT_BYTES = 1 << 28 };

typedef struct qn_parser {
    qn_ir *ir;
    qn_diags *d;
    qn_lexer lex;
    qn_lexer before; /* the lexer in front of `tok` */
    qn_token tok;
    size_t end; /* offset and line of the end of the last token taken */
    int32_t end_line;
    int32_t nesting; /* of expressions */
    int32_t blocks;
    int32_t height; /* of the expression built last */
    bool failed;
} qn_parser;

typedef struct qn_parser_syms {
    qn_sym *at;
    int32_t count, cap;
} qn_parser_syms;

/* Tokens. Only the first error counts; the others follow from it. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void qn_parser_fail(qn_parser *p, const char *code, qn_place place, const char *format, ...);
void qn_parser_fail_expected(qn_parser *p, const char *code, const char *what);
void qn_parser_advance(qn_parser *p);
bool qn_parser_at(const qn_parser *p, const char *text);
bool qn_parser_eat(qn_parser *p, const char *text);
void qn_parser_need(qn_parser *p, const char *text);
qn_sym qn_parser_token_sym(qn_parser *p);
/* A %value or an @name. */
qn_sym qn_parser_take(qn_parser *p, qn_token_kind kind, const char *what);
/* A word that may be a name. */
qn_sym qn_parser_identifier(qn_parser *p, const char *what);
qn_sym qn_parser_memory(qn_parser *p);
/* The place from `start` to the last token taken; its underline ends with the first line. */
qn_place qn_parser_span(const qn_parser *p, const qn_token *start);
/* One level deeper; false, with an error, if that is too deep. The caller takes it back. */
bool qn_parser_enter(qn_parser *p, int32_t *depth);

/* Expressions: parse_expr.c. */
qn_expr *qn_parser_expression(qn_parser *p);
/* Infix ops of that precedence and above only. */
qn_expr *qn_parser_binary(qn_parser *p, int least);
/* expr {"," expr}, and the same in brackets. */
qn_exprs qn_parser_expressions(qn_parser *p);
qn_exprs qn_parser_index_list(qn_parser *p);
qn_type qn_parser_type(qn_parser *p);
bool qn_parser_dtype_token(const qn_token *t, qn_dtype *out);

/* A schedule, its keyword taken: parse_sched.c. */
qn_schedule *qn_parser_schedule(qn_parser *p);

#endif
