/* SPDX-License-Identifier: MIT
 *
 * Text to IR; see parse.h. Recursive descent with one token of sight.
 *
 * After an error the current token becomes the end of the text, so every loop and every rule runs
 * out without further checks, and what they return is thrown away. The file rule then starts again
 * at the next `kernel @`, `norm @` or `schedule @`. Expressions are never NULL, even then.
 * Two bounds keep stacks finite: nesting in the text, and the height of expression trees, which
 * chains such as a + a + .. raise without nesting. */
#include "ir/parse.h"

#include "ir/build.h"
#include "ir/lex.h"
#include "ir/schedule.h"
#include <math.h>
#include <string.h>

enum { NESTING = 256, HEIGHT = 2000, TEXT_BYTES = 1 << 28 };

typedef struct parser {
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
} parser;

/* Growing arrays of a rule. */
typedef struct syms {
    qn_sym *at;
    int32_t count, cap;
} syms;

typedef struct exprs {
    qn_expr **at;
    int32_t count, cap;
} exprs;

/* ---------------------------------------------------------------- tokens */

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static void
fail(parser *p, const char *code, qn_place place, const char *format, ...)
{
    if (!p->failed) {
        qn_buf b = qn_buf_of(p->d->arena);
        va_list args;
        va_start(args, format);
        qn_buf_vprintf(&b, format, args);
        va_end(args);
        qn_diag_add(p->d, QN_ERROR, code, place, "%s", b.text);
        p->failed = true;
    }
    p->tok.kind = QN_TOKEN_END;
}

static void advance(parser *p)
{
    if (p->failed) {
        return;
    }
    p->end = p->tok.at + p->tok.length;
    p->end_line = p->tok.place.line;
    p->before = p->lex;
    p->tok = qn_lex(&p->lex);
    if (p->tok.kind == QN_TOKEN_BAD) {
        fail(p, "E-LEX", p->tok.place, "%s", p->tok.fault);
    }
}

static const char *found(const parser *p)
{
    const qn_token *t = &p->tok;
    if (t->kind == QN_TOKEN_END) {
        return "the end of the text";
    }
    return qn_diag_text(p->d, "'%.*s'", (int)(t->length < 40 ? t->length : 40), t->text);
}

static void fail_expected(parser *p, const char *code, const char *what)
{
    if (!p->failed) {
        fail(p, code, p->tok.place, "expected %s, found %s", what, found(p));
    }
}

static bool at(const parser *p, const char *text)
{
    return qn_token_is(&p->tok, text);
}

static bool eat(parser *p, const char *text)
{
    bool yes = at(p, text);
    if (yes) {
        advance(p);
    }
    return yes;
}

static void need(parser *p, const char *text)
{
    if (!p->failed && !eat(p, text)) {
        fail_expected(p, "E-SYNTAX", qn_diag_text(p->d, "'%s'", text));
    }
}

static qn_sym token_sym(parser *p)
{
    return qn_intern_n(p->ir, p->tok.text, p->tok.length);
}

/* A %value or an @name. */
static qn_sym take(parser *p, qn_token_kind kind, const char *what)
{
    if (p->tok.kind != kind) {
        fail_expected(p, "E-SYNTAX", what);
        return qn_intern(p->ir, "%");
    }
    qn_sym s = token_sym(p);
    advance(p);
    return s;
}

/* A word that may be a name. */
static qn_sym identifier(parser *p, const char *what)
{
    if (p->tok.kind != QN_TOKEN_WORD) {
        fail_expected(p, "E-SYNTAX", what);
        return qn_intern(p->ir, "%");
    }
    qn_sym s = token_sym(p);
    if (qn_word_is_reserved(s)) {
        fail(p, "E-SYNTAX", p->tok.place, "expected %s, but '%s' is a word of the language", what,
             s);
    }
    advance(p);
    return s;
}

static qn_sym memory(parser *p)
{
    return p->tok.kind == QN_TOKEN_VALUE ? take(p, QN_TOKEN_VALUE, "a buffer")
                                         : identifier(p, "a tensor or a buffer");
}

static syms identifiers(parser *p, const char *what)
{
    syms out = {0};
    do {
        QN_PUSH(p->ir->arena, &out, identifier(p, what));
    } while (eat(p, ","));
    return out;
}

static syms values(parser *p)
{
    syms out = {0};
    do {
        QN_PUSH(p->ir->arena, &out, take(p, QN_TOKEN_VALUE, "a %value"));
    } while (eat(p, ","));
    return out;
}

/* The place from `start` to the last token taken; its underline ends with the first line. */
static qn_place span(const parser *p, const qn_token *start)
{
    qn_place place = start->place;
    size_t end = p->end;
    if (p->end_line != place.line) {
        const char *stop = memchr(p->lex.text + start->at, '\n', end - start->at);
        end = stop ? (size_t)(stop - p->lex.text) : end;
    }
    place.length = end > start->at ? (int32_t)(end - start->at) : 1;
    return place;
}

/* ---------------------------------------------------------------- expressions */

static qn_expr *expression(parser *p);
static qn_expr *binary(parser *p, int least);

static bool enter(parser *p, int32_t *depth)
{
    if (++*depth > NESTING) {
        fail(p, "E-SYNTAX", p->tok.place, "nested deeper than %d", NESTING);
    }
    return !p->failed;
}

/* Every node passes here: its place, and the height over its tallest part. */
static qn_expr *finish(parser *p, const qn_token *start, qn_expr *x, int32_t below)
{
    x->place = span(p, start);
    p->height = below + 1;
    if (p->height > HEIGHT) {
        fail(p, "E-SYNTAX", x->place, "the expression is taller than %d operations", HEIGHT);
    }
    return x;
}

static int32_t taller(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* expr {"," expr}; the height becomes that of the tallest. */
static qn_exprs expressions(parser *p)
{
    exprs out = {0};
    int32_t height = 0;
    do {
        QN_PUSH(p->ir->arena, &out, expression(p));
        height = taller(height, p->height);
    } while (eat(p, ","));
    p->height = height;
    return (qn_exprs){out.at, out.count};
}

static qn_exprs index_list(parser *p)
{
    need(p, "[");
    qn_exprs out = expressions(p);
    need(p, "]");
    return out;
}

/* 1  2.5  inf  nan  true  false, or NULL and nothing taken. */
static qn_expr *literal(parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = NULL;
    if (start.kind == QN_TOKEN_INT) {
        x = qn_int(p->ir, start.i);
    } else if (start.kind == QN_TOKEN_FLOAT) {
        x = qn_float(p->ir, start.f);
    } else if (at(p, "inf")) {
        x = qn_float(p->ir, (double)INFINITY);
    } else if (at(p, "nan")) {
        x = qn_float(p->ir, (double)NAN);
    } else if (at(p, "true") || at(p, "false")) {
        x = qn_bool(p->ir, at(p, "true"));
    } else {
        return NULL;
    }
    advance(p);
    return finish(p, &start, x, 0);
}

static qn_extent extent(parser *p)
{
    if (p->tok.kind == QN_TOKEN_INT) {
        qn_extent e = qn_extent_n(p->tok.i);
        advance(p);
        return e;
    }
    return qn_extent_dim(identifier(p, "an extent, an integer or a dim,"));
}

static qn_expr *load(parser *p, const qn_token *start, qn_sym base, bool guarded)
{
    qn_exprs index = index_list(p);
    int32_t below = p->height;
    qn_expr *pad = NULL;
    if (guarded && eat(p, "pad")) {
        qn_token sign = p->tok;
        bool minus = eat(p, "-");
        pad = literal(p);
        if (!pad) {
            fail_expected(p, "E-SYNTAX", "a literal to pad with");
        } else if (minus) {
            pad = finish(p, &sign, qn_op1(p->ir, QN_OP_NEG, pad), 1);
        }
    }
    return finish(p, start, qn_load(p->ir, base, index.at, index.count, guarded, pad), below);
}

static bool op_of_word(const qn_token *t, qn_op *op)
{
    for (int k = 0; k < QN_OPS; k++) {
        const qn_op_info *info = qn_op_info_of((qn_op)k);
        if (k != QN_OP_CAST && info->precedence > 5 && qn_token_is(t, info->text)) {
            *op = (qn_op)k;
            return true;
        }
    }
    return false;
}

static bool axop_of_text(const char *text, size_t length, qn_axop *op)
{
    for (int k = 0; k < QN_AXOPS; k++) {
        const char *have = qn_axop_text((qn_axop)k);
        if (strlen(have) == length && memcmp(have, text, length) == 0) {
            *op = (qn_axop)k;
            return true;
        }
    }
    return false;
}

static bool dtype_of_token(const qn_token *t, qn_dtype *out)
{
    for (int k = 0; k < QN_DTYPES; k++) {
        if (qn_token_is(t, qn_dtype_name((qn_dtype)k))) {
            *out = (qn_dtype)k;
            return true;
        }
    }
    return false;
}

static void need_arity(parser *p, const qn_token *start, const char *name, int want, int have)
{
    if (want != have) {
        fail(p, "V-OP", span(p, start), "%s takes %d operand%s, not %d", name, want,
             want == 1 ? "" : "s", have);
    }
}

/* name(args), the name taken. */
static qn_expr *call(parser *p, const qn_token *start, qn_op op, qn_dtype cast)
{
    need(p, "(");
    qn_exprs args = expressions(p);
    int32_t below = p->height;
    need(p, ")");
    qn_expr *x =
        op == QN_OP_CAST ? qn_cast(p->ir, cast, args.at[0]) : qn_op1(p->ir, op, args.at[0]);
    x->u.op.args = args;
    const qn_op_info *info = qn_op_info_of(op);
    need_arity(p, start, op == QN_OP_CAST ? qn_dtype_name(cast) : info->text, info->arity,
               args.count);
    return finish(p, start, x, below);
}

/* What stands between the parentheses of an op over axes. */
typedef struct over_list {
    qn_exprs args;
    syms axes;
    qn_expr *where;
} over_list;

static over_list over(parser *p, bool may_filter)
{
    over_list out = {0};
    exprs args = {0};
    int32_t height = 0;
    need(p, "(");
    while (!p->failed && !at(p, "over")) {
        QN_PUSH(p->ir->arena, &args, expression(p));
        height = taller(height, p->height);
        if (!eat(p, ",")) {
            fail_expected(p, "E-SYNTAX", "', over' and the axes");
        }
    }
    need(p, "over");
    do {
        if (out.axes.count && at(p, "where")) {
            if (!may_filter) {
                fail_expected(p, "E-SYNTAX", "an axis");
            }
            advance(p);
            out.where = expression(p);
            height = taller(height, p->height);
            break;
        }
        QN_PUSH(p->ir->arena, &out.axes, identifier(p, "an axis"));
    } while (eat(p, ","));
    need(p, ")");
    out.args = (qn_exprs){args.at, args.count};
    p->height = height;
    return out;
}

static qn_expr *axis_op(parser *p, const qn_token *start, qn_axop op)
{
    over_list list = over(p, false);
    int32_t below = p->height;
    qn_axis fresh = {0};
    if (op == QN_AX_TOPK && !p->failed) {
        if (list.args.count != 2 || list.args.at[1]->kind != QN_IOTA) {
            fail(p, "V-OP", span(p, start), "topk is written topk(x, axis:count, over axis)");
        } else {
            fresh = list.args.at[1]->u.iota;
            list.args.count = 1;
        }
    }
    static const int arities[] = {
#define X(ID, text, arity, doc) arity,
#include "ir/axisops.def"
#undef X
    };
    need_arity(p, start, qn_axop_text(op), arities[op], list.args.count);
    qn_expr *x = qn_axop1(p->ir, op, NULL, list.axes.at, list.axes.count);
    x->u.axop.args = list.args;
    x->u.axop.fresh = fresh;
    return finish(p, start, x, below);
}

static qn_expr *fold(parser *p, const qn_token *start)
{
    qn_sym norm = take(p, QN_TOKEN_AT, "the @name of a norm");
    over_list list = over(p, true);
    int32_t below = p->height;
    return finish(p, start,
                  qn_fold(p->ir, norm, list.args.at, list.args.count, list.axes.at, list.axes.count,
                          list.where),
                  below);
}

/* reduce.sum, scan.max ..: the name is three tokens. */
static qn_expr *dotted(parser *p, const qn_token *start)
{
    qn_axop op = QN_AX_DOT;
    bool reduce = eat(p, "reduce");
    if (!reduce) {
        need(p, "scan");
    }
    need(p, ".");
    const char *name = qn_diag_text(p->d, "%s.%.*s", reduce ? "reduce" : "scan",
                                    (int)(p->tok.length < 40 ? p->tok.length : 40), p->tok.text);
    if (p->tok.kind != QN_TOKEN_WORD) {
        fail_expected(p, "E-SYNTAX", "the name of an op");
    } else if (!axop_of_text(name, strlen(name), &op)) {
        fail(p, "V-OP", p->tok.place, "there is no op %s", name);
    }
    advance(p);
    return axis_op(p, start, op);
}

/* What starts with a word: an op, an axis, a load or a name. */
static qn_expr *word(parser *p, const qn_token *start)
{
    qn_op op;
    qn_axop axop;
    qn_dtype dtype;
    if (dtype_of_token(start, &dtype)) {
        advance(p);
        return call(p, start, QN_OP_CAST, dtype);
    }
    if (op_of_word(start, &op)) {
        advance(p);
        return call(p, start, op, QN_NO_TYPE);
    }
    if (axop_of_text(start->text, start->length, &axop)) {
        advance(p);
        return axis_op(p, start, axop);
    }
    qn_sym name = identifier(p, "an expression");
    if (at(p, "[")) {
        return load(p, start, name, false);
    }
    if (eat(p, ":")) {
        return finish(p, start, qn_iota(p->ir, name, extent(p)), 0);
    }
    if (at(p, "(")) {
        fail(p, "V-OP", start->place, "there is no op %s", name);
    }
    return finish(p, start, qn_name(p->ir, name), 0);
}

static qn_expr *primary(parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = literal(p);
    if (x) {
        return x;
    }
    if (eat(p, "(")) {
        x = expression(p);
        need(p, ")");
        return x;
    }
    if (eat(p, "tile")) {
        return load(p, &start, memory(p), true);
    }
    if (at(p, "reduce") || at(p, "scan")) {
        return dotted(p, &start);
    }
    if (eat(p, "fold")) {
        return fold(p, &start);
    }
    if (start.kind == QN_TOKEN_VALUE) {
        qn_sym name = take(p, QN_TOKEN_VALUE, "a %value");
        return at(p, "[") ? load(p, &start, name, false)
                          : finish(p, &start, qn_name(p->ir, name), 0);
    }
    if (start.kind == QN_TOKEN_WORD) {
        return word(p, &start);
    }
    fail_expected(p, "E-SYNTAX", "an expression");
    return qn_bool(p->ir, false);
}

static qn_expr *postfix(parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = primary(p);
    while (eat(p, "as")) {
        struct {
            qn_rename *at;
            int32_t count, cap;
        } pairs = {0};
        int32_t below = p->height;
        need(p, "(");
        do {
            qn_rename pair = {identifier(p, "an axis"), NULL};
            need(p, "->");
            pair.to = identifier(p, "an axis");
            QN_PUSH(p->ir->arena, &pairs, pair);
        } while (eat(p, ","));
        need(p, ")");
        x = finish(p, &start, qn_as(p->ir, x, pairs.at, pairs.count), below);
    }
    return x;
}

static qn_expr *unary(parser *p)
{
    qn_token start = p->tok;
    if (!at(p, "-")) {
        return postfix(p);
    }
    qn_expr *x = NULL;
    if (enter(p, &p->nesting)) {
        advance(p);
        x = unary(p);
    }
    p->nesting--;
    x = x ? x : qn_bool(p->ir, false);
    return finish(p, &start, qn_op1(p->ir, QN_OP_NEG, x), p->height);
}

static bool infix(const parser *p, qn_op *op)
{
    for (int k = 0; k <= QN_OP_MOD; k++) {
        const qn_op_info *info = qn_op_info_of((qn_op)k);
        if (info->arity == 2 && qn_token_is(&p->tok, info->text)) {
            *op = (qn_op)k;
            return true;
        }
    }
    return false;
}

/* Precedence climbing: infix ops of precedence `least` and above. `most` falls as ops are taken:
 * a comparison, or a `not`, cannot be the left side of a comparison. */
static qn_expr *binary(parser *p, int least)
{
    enum { COMPARE = 2, PRODUCT = 4 };
    qn_token start = p->tok;
    qn_expr *x = NULL;
    int most = PRODUCT;
    qn_op op;
    if (least <= COMPARE && at(p, "not")) {
        if (enter(p, &p->nesting)) {
            advance(p);
            x = binary(p, COMPARE);
        }
        p->nesting--;
        x = x ? x : qn_bool(p->ir, false);
        x = finish(p, &start, qn_op1(p->ir, QN_OP_NOT, x), p->height);
        most = COMPARE - 1;
    } else {
        x = unary(p);
    }
    while (infix(p, &op)) {
        int precedence = qn_op_info_of(op)->precedence;
        if (precedence < least) {
            break;
        }
        if (precedence > most) {
            fail(p, "E-SYNTAX", p->tok.place, "comparisons do not chain; join them with 'and'");
        }
        int32_t left = p->height;
        advance(p);
        qn_expr *y = binary(p, precedence + 1);
        x = finish(p, &start, qn_op2(p->ir, op, x, y), taller(left, p->height));
        most = precedence == COMPARE ? COMPARE - 1 : precedence;
    }
    return x;
}

static qn_expr *expression(parser *p)
{
    qn_expr *x = enter(p, &p->nesting) ? binary(p, 0) : qn_bool(p->ir, false);
    p->nesting--;
    return x;
}

/* ---------------------------------------------------------------- parts of statements */

static qn_type type(parser *p)
{
    qn_axis axes[QN_MAX_AXES];
    qn_dtype dtype = QN_F32;
    int rank = 0;
    if (!dtype_of_token(&p->tok, &dtype)) {
        fail_expected(p, "E-SYNTAX", "a dtype");
    }
    advance(p);
    if (eat(p, "[")) {
        do {
            if (rank == QN_MAX_AXES) {
                fail(p, "E-SYNTAX", p->tok.place, "more than %d axes", QN_MAX_AXES);
                break;
            }
            axes[rank].name = identifier(p, "an axis");
            need(p, ":");
            axes[rank++].extent = extent(p);
        } while (eat(p, ","));
        need(p, "]");
    }
    return qn_type_of(p->ir, dtype, axes, rank);
}

static void attributes(parser *p, qn_attrs *out)
{
    while (p->tok.kind == QN_TOKEN_ATTR) {
        struct {
            qn_attr_arg *at;
            int32_t count, cap;
        } args = {0};
        qn_sym name = qn_intern_n(p->ir, p->tok.text + 1, p->tok.length - 1);
        advance(p);
        if (eat(p, "(") && !eat(p, ")")) {
            do {
                qn_attr_arg a = {expression(p), NULL};
                a.hi = eat(p, "..") ? expression(p) : NULL;
                QN_PUSH(p->ir->arena, &args, a);
            } while (eat(p, ","));
            need(p, ")");
        }
        qn_attr_add(p->ir, out, name, args.at, args.count);
    }
}

static qn_piece piece(parser *p)
{
    qn_piece out = {0};
    if (!eat(p, "list")) {
        out.lo = expression(p);
        need(p, "..");
        out.hi = expression(p);
        return out;
    }
    out.list = memory(p);
    need(p, "[");
    out.index = expressions(p);
    out.lo = out.index.at[--out.index.count]; /* the last of the list is the lower bound */
    need(p, "..");
    out.hi = expression(p);
    need(p, "]");
    return out;
}

static qn_iter iter(parser *p)
{
    struct {
        qn_piece *at;
        int32_t count, cap;
    } pieces = {0};
    qn_iter out = {0};
    out.name = identifier(p, "the name of an index");
    out.end = eat(p, "<") ? identifier(p, "the name of the end") : NULL;
    need(p, "in");
    do {
        QN_PUSH(p->ir->arena, &pieces, piece(p));
    } while (eat(p, "|"));
    if (eat(p, "step")) { /* an operand, since a comparison of steps means nothing */
        if (enter(p, &p->nesting)) {
            out.step = binary(p, qn_op_info_of(QN_OP_ADD)->precedence);
        }
        p->nesting--;
    }
    out.pieces = pieces.at;
    out.npieces = pieces.count;
    return out;
}

/* ---------------------------------------------------------------- statements */

static qn_stmt *statement(parser *p);

static void block(parser *p, qn_block *out)
{
    if (enter(p, &p->blocks)) {
        need(p, "{");
        while (!p->failed && !eat(p, "}")) {
            qn_block_push(p->ir, out, statement(p));
        }
    }
    p->blocks--;
}

static qn_stmt *loop(parser *p, const qn_token *start)
{
    struct {
        qn_iter *at;
        int32_t count, cap;
    } iters = {0};
    struct {
        qn_carry *at;
        int32_t count, cap;
    } carries = {0};
    qn_stmt *s = qn_stmt_new(p->ir, QN_FOR, start->place);
    s->u.loop.par = eat(p, "par");
    need(p, "for");
    do {
        QN_PUSH(p->ir->arena, &iters, iter(p));
    } while (eat(p, ","));
    if (eat(p, "carry")) {
        do {
            qn_carry c = {0};
            c.name = take(p, QN_TOKEN_VALUE, "a %value");
            need(p, ":");
            c.type = type(p);
            need(p, "=");
            c.init = expression(p);
            QN_PUSH(p->ir->arena, &carries, c);
        } while (eat(p, ","));
    }
    if (eat(p, "cost")) {
        need(p, "(");
        s->u.loop.cost = expression(p);
        need(p, ")");
    }
    attributes(p, &s->attrs);
    s->place = span(p, start);
    s->u.loop.iters = iters.at;
    s->u.loop.niters = iters.count;
    s->u.loop.carries = carries.at;
    s->u.loop.ncarries = carries.count;
    block(p, &s->u.loop.body);
    return s;
}

static qn_stmt *branch(parser *p, const qn_token *start, syms names)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_IF, start->place);
    need(p, "if");
    s->u.branch.names = names.at;
    s->u.branch.nnames = names.count;
    s->u.branch.cond = expression(p);
    s->place = span(p, start);
    block(p, &s->u.branch.then);
    s->u.branch.has_else = eat(p, "else");
    if (s->u.branch.has_else) {
        block(p, &s->u.branch.other);
    }
    return s;
}

static qn_stmt *let(parser *p, const qn_token *start)
{
    syms names = values(p);
    need(p, "=");
    if (at(p, "if")) {
        return branch(p, start, names);
    }
    qn_stmt *s = qn_let_n(p->ir, names.at, names.count, expression(p));
    attributes(p, &s->attrs);
    return s;
}

static bool is_op(const qn_expr *x, qn_op op)
{
    return x->kind == QN_OP && x->u.op.op == op && x->u.op.args.at[1]->kind == QN_LIT &&
           x->u.op.args.at[1]->u.lit.type == QN_INT_LIT;
}

/* axis, axis // n, axis % n, axis // n % n */
static bool is_layout_piece(const qn_expr *x)
{
    x = is_op(x, QN_OP_MOD) ? x->u.op.args.at[0] : x;
    x = is_op(x, QN_OP_FLOORDIV) ? x->u.op.args.at[0] : x;
    return x->kind == QN_NAME && x->u.name[0] != '%';
}

static qn_stmt *buffer(parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_BUF, start->place);
    need(p, "buf");
    s->u.buf.name = take(p, QN_TOKEN_VALUE, "the %name of a buffer");
    need(p, ":");
    s->u.buf.type = type(p);
    need(p, "in");
    s->u.buf.space = at(p, "call")   ? QN_SPACE_CALL
                     : at(p, "task") ? QN_SPACE_TASK
                                     : QN_SPACE_SHARED;
    if (s->u.buf.space == QN_SPACE_SHARED && !at(p, "shared")) {
        fail_expected(p, "E-SYNTAX", "'call', 'task' or 'shared'");
    }
    advance(p);
    if (eat(p, "ring")) {
        s->u.buf.ring = identifier(p, "an axis");
    }
    if (eat(p, "layout")) {
        need(p, "(");
        s->u.buf.layout = expressions(p);
        for (int k = 0; k < s->u.buf.layout.count && !p->failed; k++) {
            if (!is_layout_piece(s->u.buf.layout.at[k])) {
                fail(p, "E-SYNTAX", s->u.buf.layout.at[k]->place,
                     "expected a layout piece: axis, axis // n, axis %% n or axis // n %% n");
            }
        }
        need(p, ")");
    }
    attributes(p, &s->attrs);
    return s;
}

static qn_stmt *store(parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_STORE, start->place);
    s->u.store.start = eat(p, "start");
    need(p, "store");
    if (eat(p, ".")) {
        s->u.store.mode = at(p, "add")   ? QN_STORE_ADD
                          : at(p, "max") ? QN_STORE_MAX
                          : at(p, "min") ? QN_STORE_MIN
                                         : QN_STORE_SET;
        if (s->u.store.mode == QN_STORE_SET) {
            fail_expected(p, "V-OP", "store.add, store.max or store.min");
        }
        advance(p);
    }
    s->u.store.base = memory(p);
    s->u.store.index = index_list(p);
    need(p, "=");
    s->u.store.x = expression(p);
    if (eat(p, "ordered")) {
        s->u.store.order = QN_STORE_ORDERED;
    } else if (eat(p, "atomic")) {
        s->u.store.order = QN_STORE_ATOMIC;
    }
    attributes(p, &s->attrs);
    return s;
}

static qn_stmt *small(parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_YIELD, start->place);
    if (eat(p, "yield")) {
        s->u.yield = expressions(p);
    } else if (at(p, "await") || at(p, "free")) {
        s->kind = QN_SYNC;
        s->u.sync.await = at(p, "await");
        advance(p);
        s->u.sync.base = take(p, QN_TOKEN_VALUE, "the %name of a ring");
        s->u.sync.index = index_list(p);
    } else if (eat(p, "flag")) {
        s->kind = QN_FLAG;
        need(p, "(");
        s->u.flag.cond = expression(p);
        need(p, ",");
        s->u.flag.code = identifier(p, "the name of a status, E_INDEX");
        need(p, ")");
    } else if (eat(p, "prefetch")) {
        s->kind = QN_PREFETCH;
        s->u.prefetch.base = memory(p);
        s->u.prefetch.index = index_list(p);
    } else {
        fail_expected(p, "E-SYNTAX", "a statement");
        s->u.yield = qn_exprs_of(p->ir, NULL, 0);
    }
    return s;
}

static qn_stmt *statement(parser *p)
{
    qn_token start = p->tok;
    qn_stmt *s;
    if (start.kind == QN_TOKEN_VALUE) {
        s = let(p, &start);
    } else if (at(p, "for") || at(p, "par")) {
        return loop(p, &start);
    } else if (at(p, "if")) {
        return branch(p, &start, (syms){0});
    } else if (eat(p, "launch")) {
        s = qn_stmt_new(p->ir, QN_LAUNCH, start.place);
        block(p, &s->u.launch);
        return s;
    } else if (at(p, "buf")) {
        s = buffer(p, &start);
    } else if (at(p, "store") || at(p, "start")) {
        s = store(p, &start);
    } else {
        s = small(p, &start);
    }
    if (s->kind != QN_IF) { /* the place of what has a block is its head */
        s->place = span(p, &start);
    }
    return s;
}

/* ---------------------------------------------------------------- kernels and norms */

static void kernel_head(parser *p, qn_kernel_ir *k)
{
    qn_arena *a = p->ir->arena;
    for (;;) {
        qn_token start = p->tok;
        if (eat(p, "dim")) {
            do {
                qn_dim d = {.place = p->tok.place};
                d.name = identifier(p, "the name of a dim");
                d.value = eat(p, "=") ? expression(p) : NULL;
                QN_PUSH(a, &k->dims, d);
            } while (eat(p, ","));
        } else if (at(p, "in") || at(p, "out") || at(p, "inout")) {
            qn_direction direction = at(p, "in") ? QN_IN : at(p, "out") ? QN_OUT : QN_INOUT;
            advance(p);
            do {
                qn_param x = {.direction = direction, .place = p->tok.place};
                x.name = identifier(p, "the name of a parameter");
                need(p, ":");
                x.type = type(p);
                x.value = eat(p, "=") ? expression(p) : NULL;
                QN_PUSH(a, &k->params, x);
            } while (eat(p, ","));
        } else if (eat(p, "require")) {
            qn_require r = {.cond = expression(p), .text = ""};
            need(p, ",");
            if (p->tok.kind == QN_TOKEN_STRING) {
                r.text = qn_token_string(a, &p->tok);
                advance(p);
            } else {
                fail_expected(p, "E-SYNTAX", "a \"text\" for the caller");
            }
            r.place = span(p, &start);
            QN_PUSH(a, &k->requires, r);
        } else {
            return;
        }
    }
}

static qn_kernel_ir *kernel(parser *p)
{
    qn_kernel_ir *k = QN_NEW(p->ir->arena, qn_kernel_ir);
    k->place = p->tok.place;
    k->name = take(p, QN_TOKEN_AT, "the @name of a kernel");
    attributes(p, &k->attrs);
    need(p, "{");
    kernel_head(p, k);
    while (!p->failed && !eat(p, "}")) {
        qn_block_push(p->ir, &k->body, statement(p));
    }
    return k;
}

typedef struct definitions {
    qn_norm_def *at;
    int32_t count, cap;
} definitions;

static void definition(parser *p, definitions *out)
{
    qn_norm_def d = {identifier(p, "a name"), NULL};
    need(p, "=");
    d.x = expression(p);
    QN_PUSH(p->ir->arena, out, d);
}

static void statistic(parser *p, qn_norm *n)
{
    need(p, "stat");
    if (eat(p, "none")) {
        return;
    }
    n->stat = identifier(p, "a name or 'none'");
    need(p, "=");
    n->stat_op = at(p, "max")   ? QN_AX_REDUCE_MAX
                 : at(p, "min") ? QN_AX_REDUCE_MIN
                                : QN_AX_REDUCE_SUM;
    if (n->stat_op == QN_AX_REDUCE_SUM && !at(p, "sum")) {
        fail_expected(p, "E-SYNTAX", "'max', 'min' or 'sum'");
    }
    advance(p);
    need(p, "(");
    n->stat_x = expression(p);
    need(p, ")");
}

static qn_norm *norm(parser *p)
{
    qn_norm *n = QN_NEW(p->ir->arena, qn_norm);
    definitions sums = {0}, results = {0};
    n->place = p->tok.place;
    n->name = take(p, QN_TOKEN_AT, "the @name of a norm");
    need(p, "(");
    syms args = identifiers(p, "the name of an argument");
    need(p, ")");
    need(p, "->");
    need(p, "(");
    syms outs = identifiers(p, "the name of a result");
    need(p, ")");
    need(p, "{");
    statistic(p, n);
    need(p, "weight");
    n->weight = expression(p);
    if (eat(p, "rescale")) {
        need(p, "(");
        n->rescale_from = identifier(p, "a name");
        need(p, ",");
        n->rescale_to = identifier(p, "a name");
        need(p, ")");
        n->rescale = expression(p);
    }
    while (eat(p, "sum")) {
        definition(p, &sums);
    }
    need(p, "finish");
    do {
        definition(p, &results);
    } while (eat(p, ","));
    need(p, "}");
    if (outs.count > QN_MAX_AXES) {
        fail(p, "E-SYNTAX", n->place, "a norm has at most %d results", QN_MAX_AXES);
    }
    n->args = args.at;
    n->nargs = args.count;
    n->outs = outs.at;
    n->nouts = outs.count;
    n->sums = sums.at;
    n->nsums = sums.count;
    n->finish = results.at;
    n->nfinish = results.count;
    return n;
}

/* ---------------------------------------------------------------- schedules */

static void push_word(parser *p, syms *words)
{
    QN_PUSH(p->ir->arena, words, token_sym(p));
    advance(p);
}

static void need_word(parser *p, syms *words, const char *text)
{
    if (at(p, text)) {
        push_word(p, words);
    } else {
        fail_expected(p, "E-SCHED", qn_diag_text(p->d, "'%s'", text));
    }
}

/* A positive integer, in its shortest form. */
static void push_count(parser *p, syms *words)
{
    if (p->tok.kind != QN_TOKEN_INT || p->tok.i < 1) {
        fail_expected(p, "E-SCHED", "a positive integer");
        return;
    }
    qn_sym text = qn_intern(p->ir, qn_diag_text(p->d, "%lld", (long long)p->tok.i));
    QN_PUSH(p->ir->arena, words, text);
    advance(p);
}

static bool is_one_of(const qn_token *t, const char *words)
{
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        if (t->kind == QN_TOKEN_WORD && n == t->length && memcmp(w, t->text, n) == 0) {
            return true;
        }
        w += w[n] ? n + 1 : n;
    }
    return false;
}

/* One value of the kind that the key takes. */
static void sched_value(parser *p, const qn_sched_key *key, syms *words)
{
    qn_dtype dtype;
    switch (key->value) {
    case QN_SCHED_NOTHING:
        break;
    case QN_SCHED_WORD:
        if (!is_one_of(&p->tok, key->words)) {
            fail_expected(p, "E-SCHED", qn_diag_text(p->d, "one of %s", key->words));
        }
        push_word(p, words);
        break;
    case QN_SCHED_COUNT:
        push_count(p, words);
        break;
    case QN_SCHED_DTYPE:
        if (!dtype_of_token(&p->tok, &dtype)) {
            fail_expected(p, "E-SCHED", "a dtype");
        }
        push_word(p, words);
        break;
    case QN_SCHED_EXP:
        if (!is_one_of(&p->tok, key->words)) {
            fail_expected(p, "E-SCHED", qn_diag_text(p->d, "one of %s", key->words));
        }
        push_word(p, words);
        break;
    case QN_SCHED_LAYOUT:
        need_word(p, words, "(");
        for (bool more = true; more && !p->failed;) {
            if (p->tok.kind != QN_TOKEN_WORD) {
                fail_expected(p, "E-SCHED", "an axis");
            }
            push_word(p, words);
            for (int k = 0; k < 2; k++) {
                if (at(p, k ? "%" : "//")) {
                    push_word(p, words);
                    push_count(p, words);
                }
            }
            more = at(p, ",");
            need_word(p, words, more ? "," : ")");
        }
        break;
    }
}

/* value, none, free or free(value, ..) */
static void sched_values(parser *p, const qn_sched_key *key, syms *words)
{
    if (key->value == QN_SCHED_NOTHING) {
        return;
    }
    if (at(p, "none")) {
        push_word(p, words);
        return;
    }
    bool poly = key->value == QN_SCHED_EXP && at(p, "poly");
    if (poly) {
        push_word(p, words);
    }
    qn_sched_key kind = *key;
    kind.value = poly ? QN_SCHED_COUNT : key->value;
    if (!at(p, "free")) {
        sched_value(p, &kind, words);
        return;
    }
    push_word(p, words);
    if (!at(p, "(")) {
        return;
    }
    push_word(p, words);
    for (bool more = true; more && !p->failed;) {
        sched_value(p, &kind, words);
        more = at(p, ",");
        need_word(p, words, more ? "," : ")");
    }
}

static void subject(parser *p, qn_sym *out)
{
    if (p->tok.kind != QN_TOKEN_WORD && p->tok.kind != QN_TOKEN_VALUE) {
        fail_expected(p, "E-SCHED", "the name of what the line is about");
        return;
    }
    *out = token_sym(p);
    advance(p);
}

static void sched_line(parser *p, qn_schedule *s, qn_sym nest)
{
    qn_token start = p->tok;
    qn_sched_line l = {.nest = nest};
    syms words = {0};
    if (start.kind != QN_TOKEN_WORD) {
        fail_expected(p, "E-SCHED", "a key");
        return;
    }
    l.key = token_sym(p);
    const qn_sched_key *key = qn_schedule_key(l.key);
    if (!key) {
        fail(p, "E-SCHED", start.place, "there is no key '%s'", l.key);
        return;
    }
    advance(p);
    bool none = key->has_subject && at(p, "none");
    if (key->has_subject) {
        subject(p, &l.subject);
    }
    while (key->many && at(p, ",")) {
        qn_sym more = NULL;
        push_word(p, &words);
        subject(p, &more);
        QN_PUSH(p->ir->arena, &words, more);
    }
    if (!none) {
        sched_values(p, key, &words);
    }
    l.place = span(p, &start);
    if (p->tok.kind == QN_TOKEN_ATTR) {
        if (p->tok.length != 3 || memcmp(p->tok.text, "!by", 3) != 0) {
            fail_expected(p, "E-SCHED", "'!by(who)' or the next line");
        }
        advance(p);
        need(p, "(");
        subject(p, &l.by);
        need(p, ")");
    }
    l.words = words.at;
    l.nwords = words.count;
    QN_PUSH(p->ir->arena, &s->lines, l);
}

static qn_schedule *schedule(parser *p)
{
    qn_place place = p->tok.place;
    qn_sym name = take(p, QN_TOKEN_AT, "the @name of a schedule");
    qn_schedule *s = qn_schedule_new(p->ir, name, "");
    qn_sym nest = NULL;
    s->place = place;
    need(p, "for");
    if (p->tok.kind == QN_TOKEN_STRING) {
        s->target = qn_token_string(p->ir->arena, &p->tok);
        advance(p);
    } else {
        fail_expected(p, "E-SYNTAX", "the \"name\" of a target");
    }
    need(p, "{");
    while (!p->failed && !eat(p, "}")) {
        if (eat(p, "at")) {
            subject(p, &nest);
        } else {
            sched_line(p, s, nest);
        }
    }
    return s;
}

/* ---------------------------------------------------------------- files */

static parser parser_of(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    parser p = {.ir = ir, .d = d};
    bool fits = length <= TEXT_BYTES;
    p.lex = qn_lexer_of(text, fits ? length : 0);
    if (fits) {
        advance(&p);
    } else {
        fail(&p, "E-LEX", (qn_place){0}, "the text is longer than %d bytes", TEXT_BYTES);
    }
    p.end = 0;
    return p;
}

static bool at_item(const parser *p)
{
    qn_lexer ahead = p->lex;
    return (at(p, "kernel") || at(p, "norm") || at(p, "schedule")) &&
           qn_lex(&ahead).kind == QN_TOKEN_AT;
}

/* Goes on behind an error, at the next item at or after the token that was refused, but past
 * `from`, where the failed item starts. */
static void recover(parser *p, size_t from)
{
    p->failed = false;
    p->nesting = p->blocks = 0;
    p->lex = p->before;
    do {
        p->before = p->lex;
        p->tok = qn_lex(&p->lex);
    } while (p->tok.kind != QN_TOKEN_END && (p->tok.at <= from || !at_item(p)));
}

static void item(parser *p, qn_ir_file *f)
{
    qn_item it = {0};
    if (eat(p, "kernel")) {
        it.kind = QN_ITEM_KERNEL;
        it.u.kernel = kernel(p);
    } else if (eat(p, "norm")) {
        it.kind = QN_ITEM_NORM;
        it.u.norm = norm(p);
    } else if (eat(p, "schedule")) {
        it.kind = QN_ITEM_SCHEDULE;
        it.u.schedule = schedule(p);
    } else {
        fail_expected(p, "E-SYNTAX", "'kernel', 'norm' or 'schedule'");
    }
    QN_PUSH(p->ir->arena, &f->items, it);
}

qn_ir_file *qn_parse(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    parser p = parser_of(ir, text, length, d);
    qn_ir_file *f = QN_NEW(ir->arena, qn_ir_file);
    bool wrong = p.failed;
    f->ir = ir;
    if (p.failed && length <= TEXT_BYTES) {
        recover(&p, p.before.at);
    }
    while (p.tok.kind != QN_TOKEN_END) {
        size_t from = p.tok.at;
        item(&p, f);
        if (p.failed) {
            wrong = true;
            recover(&p, from);
        }
    }
    return wrong ? NULL : f;
}

qn_expr *qn_parse_expr(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    parser p = parser_of(ir, text, length, d);
    qn_expr *x = expression(&p);
    if (p.tok.kind != QN_TOKEN_END) {
        fail_expected(&p, "E-SYNTAX", "the end of the text");
    }
    return p.failed ? NULL : x;
}
