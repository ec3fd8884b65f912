/* SPDX-License-Identifier: MIT
 *
 * Tokens of the IR text. The lexer runs on demand and is a plain value: copying it is a mark to
 * come back to. It looks at bytes, knows no locale and never reads past the text.
 *
 *     word        f32 for i0            value   %x          item   @softmax
 *     attribute   !mask                 string  "text"      ;      a comment to the end of its line
 *
 * `%` with no letter behind it is modulo; `0..8` is an integer, two dots and an integer. */
#ifndef QN_IR_LEX_H
#define QN_IR_LEX_H

#include "ir/base/buf.h"
#include "ir/ir.h"

typedef enum qn_token_kind {
    QN_TOKEN_END,
    QN_TOKEN_BAD, /* `fault` says what is wrong with it */
    QN_TOKEN_INT,
    QN_TOKEN_FLOAT,
    QN_TOKEN_VALUE,  /* with its '%' */
    QN_TOKEN_AT,     /* with its '@' */
    QN_TOKEN_ATTR,   /* with its '!' */
    QN_TOKEN_STRING, /* with its quotes */
    QN_TOKEN_WORD,
    QN_TOKEN_MARK /* punctuation and operators */
} qn_token_kind;

typedef struct qn_token {
    qn_token_kind kind;
    const char *text; /* inside the source; not NUL-terminated */
    size_t length;
    size_t at; /* offset of its first byte */
    qn_place place;
    int64_t i; /* of QN_TOKEN_INT */
    double f;  /* of QN_TOKEN_FLOAT */
    const char *fault;
} qn_token;

typedef struct qn_lexer {
    const char *text;
    size_t length, at, line_at; /* line_at: where the current line starts */
    int32_t line;
} qn_lexer;

qn_lexer qn_lexer_of(const char *text, size_t length);
qn_token qn_lex(qn_lexer *l);

/* Is the token that word or mark (never a string of the same letters)? */
bool qn_token_is(const qn_token *t, const char *text);

/* The text of a string token without quotes and escapes (\" \\ \n), in the arena. */
const char *qn_token_string(qn_arena *a, const qn_token *t);
/* The reverse: quoted and escaped; control bytes a string cannot hold become blanks. */
void qn_token_print_string(const char *text, qn_buf *out);

/* Words that may name no dim, parameter, index or axis: keywords, ops and dtypes. */
bool qn_word_is_reserved(const char *word);

#endif
