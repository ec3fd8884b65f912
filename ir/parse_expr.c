/* SPDX-License-Identifier: MIT
 * Text to expressions and types; see parser.h. */
#include "ir/build.h"
#include "ir/parser.h"
#include <math.h>
#include <string.h>

typedef struct exprs {
    qn_expr **at;
    int32_t count, cap;
} exprs;

/* ---------------------------------------------------------------- expressions */

/* Every node passes here: its place, and the height over its tallest part. */
static qn_expr *finish(qn_parser *p, const qn_token *start, qn_expr *x, int32_t below)
{
    x->place = qn_parser_span(p, start);
    p->height = below + 1;
    if (p->height > QN_HEIGHT) {
        qn_parser_fail(p, "E-SYNTAX", x->place, "the expression is taller than %d operations",
                       QN_HEIGHT);
    }
    return x;
}

static int32_t taller(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* expr {"," expr}; the height becomes that of the tallest. */
qn_exprs qn_parser_expressions(qn_parser *p)
{
    exprs out = {0};
    int32_t height = 0;
    do {
        QN_PUSH(p->ir->arena, &out, qn_parser_expression(p));
        height = taller(height, p->height);
    } while (qn_parser_eat(p, ","));
    p->height = height;
    return (qn_exprs){out.at, out.count};
}

qn_exprs qn_parser_index_list(qn_parser *p)
{
    qn_parser_need(p, "[");
    qn_exprs out = qn_parser_expressions(p);
    qn_parser_need(p, "]");
    return out;
}

/* 1  2.5  inf  nan  true  false, or NULL and nothing taken. */
static qn_expr *literal(qn_parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = NULL;
    if (start.kind == QN_TOKEN_INT) {
        x = qn_int(p->ir, start.i);
    } else if (start.kind == QN_TOKEN_FLOAT) {
        x = qn_float(p->ir, start.f);
    } else if (qn_parser_at(p, "inf")) {
        x = qn_float(p->ir, (double)INFINITY);
    } else if (qn_parser_at(p, "nan")) {
        x = qn_float(p->ir, (double)NAN);
    } else if (qn_parser_at(p, "true") || qn_parser_at(p, "false")) {
        x = qn_bool(p->ir, qn_parser_at(p, "true"));
    } else {
        return NULL;
    }
    qn_parser_advance(p);
    return finish(p, &start, x, 0);
}

static qn_extent extent(qn_parser *p)
{
    if (p->tok.kind == QN_TOKEN_INT) {
        qn_extent e = qn_extent_n(p->tok.i);
        qn_parser_advance(p);
        return e;
    }
    return qn_extent_dim(qn_parser_identifier(p, "an extent, an integer or a dim,"));
}

static qn_expr *load(qn_parser *p, const qn_token *start, qn_sym base, bool guarded)
{
    qn_exprs index = qn_parser_index_list(p);
    int32_t below = p->height;
    qn_expr *pad = NULL;
    if (guarded && qn_parser_eat(p, "pad")) {
        qn_token sign = p->tok;
        bool minus = qn_parser_eat(p, "-");
        pad = literal(p);
        if (!pad) {
            qn_parser_fail_expected(p, "E-SYNTAX", "a literal to pad with");
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

bool qn_parser_dtype_token(const qn_token *t, qn_dtype *out)
{
    for (int k = 0; k < QN_DTYPES; k++) {
        if (qn_token_is(t, qn_dtype_name((qn_dtype)k))) {
            *out = (qn_dtype)k;
            return true;
        }
    }
    return false;
}

static void need_arity(qn_parser *p, const qn_token *start, const char *name, int want, int have)
{
    if (want != have) {
        qn_parser_fail(p, "V-OP", qn_parser_span(p, start), "%s takes %d operand%s, not %d", name,
                       want, want == 1 ? "" : "s", have);
    }
}

/* name(args), the name taken. */
static qn_expr *call(qn_parser *p, const qn_token *start, qn_op op, qn_dtype cast)
{
    qn_parser_need(p, "(");
    qn_exprs args = qn_parser_expressions(p);
    int32_t below = p->height;
    qn_parser_need(p, ")");
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
    qn_parser_syms axes;
    qn_expr *where;
} over_list;

static over_list over(qn_parser *p, bool may_filter)
{
    over_list out = {0};
    exprs args = {0};
    int32_t height = 0;
    qn_parser_need(p, "(");
    while (!p->failed && !qn_parser_at(p, "over")) {
        QN_PUSH(p->ir->arena, &args, qn_parser_expression(p));
        height = taller(height, p->height);
        if (!qn_parser_eat(p, ",")) {
            qn_parser_fail_expected(p, "E-SYNTAX", "', over' and the axes");
        }
    }
    qn_parser_need(p, "over");
    do {
        if (out.axes.count && qn_parser_at(p, "where")) {
            if (!may_filter) {
                qn_parser_fail_expected(p, "E-SYNTAX", "an axis");
            }
            qn_parser_advance(p);
            out.where = qn_parser_expression(p);
            height = taller(height, p->height);
            break;
        }
        QN_PUSH(p->ir->arena, &out.axes, qn_parser_identifier(p, "an axis"));
    } while (qn_parser_eat(p, ","));
    qn_parser_need(p, ")");
    out.args = (qn_exprs){args.at, args.count};
    p->height = height;
    return out;
}

static qn_expr *axis_op(qn_parser *p, const qn_token *start, qn_axop op)
{
    over_list list = over(p, false);
    int32_t below = p->height;
    qn_axis fresh = {0};
    if (op == QN_AX_TOPK && !p->failed) {
        if (list.args.count != 2 || list.args.at[1]->kind != QN_IOTA) {
            qn_parser_fail(p, "V-OP", qn_parser_span(p, start),
                           "topk is written topk(x, axis:count, over axis)");
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

static qn_expr *fold(qn_parser *p, const qn_token *start)
{
    qn_sym norm = qn_parser_take(p, QN_TOKEN_AT, "the @name of a norm");
    over_list list = over(p, true);
    int32_t below = p->height;
    return finish(p, start,
                  qn_fold(p->ir, norm, list.args.at, list.args.count, list.axes.at, list.axes.count,
                          list.where),
                  below);
}

/* reduce.sum, scan.max ..: the name is three tokens. */
static qn_expr *dotted(qn_parser *p, const qn_token *start)
{
    qn_axop op = QN_AX_DOT;
    bool reduce = qn_parser_eat(p, "reduce");
    if (!reduce) {
        qn_parser_need(p, "scan");
    }
    qn_parser_need(p, ".");
    const char *name = qn_diag_text(p->d, "%s.%.*s", reduce ? "reduce" : "scan",
                                    (int)(p->tok.length < 40 ? p->tok.length : 40), p->tok.text);
    if (p->tok.kind != QN_TOKEN_WORD) {
        qn_parser_fail_expected(p, "E-SYNTAX", "the name of an op");
    } else if (!axop_of_text(name, strlen(name), &op)) {
        qn_parser_fail(p, "V-OP", p->tok.place, "there is no op %s", name);
    }
    qn_parser_advance(p);
    return axis_op(p, start, op);
}

/* What starts with a word: an op, an axis, a load or a name. */
static qn_expr *word(qn_parser *p, const qn_token *start)
{
    qn_op op;
    qn_axop axop;
    qn_dtype dtype;
    if (qn_parser_dtype_token(start, &dtype)) {
        qn_parser_advance(p);
        return call(p, start, QN_OP_CAST, dtype);
    }
    if (op_of_word(start, &op)) {
        qn_parser_advance(p);
        return call(p, start, op, QN_NO_TYPE);
    }
    if (axop_of_text(start->text, start->length, &axop)) {
        qn_parser_advance(p);
        return axis_op(p, start, axop);
    }
    qn_sym name = qn_parser_identifier(p, "an expression");
    if (qn_parser_at(p, "[")) {
        return load(p, start, name, false);
    }
    if (qn_parser_eat(p, ":")) {
        return finish(p, start, qn_iota(p->ir, name, extent(p)), 0);
    }
    if (qn_parser_at(p, "(")) {
        qn_parser_fail(p, "V-OP", start->place, "there is no op %s", name);
    }
    return finish(p, start, qn_name(p->ir, name), 0);
}

static qn_expr *primary(qn_parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = literal(p);
    if (x) {
        return x;
    }
    if (qn_parser_eat(p, "(")) {
        x = qn_parser_expression(p);
        qn_parser_need(p, ")");
        return x;
    }
    if (qn_parser_eat(p, "tile")) {
        return load(p, &start, qn_parser_memory(p), true);
    }
    if (qn_parser_at(p, "reduce") || qn_parser_at(p, "scan")) {
        return dotted(p, &start);
    }
    if (qn_parser_eat(p, "fold")) {
        return fold(p, &start);
    }
    if (start.kind == QN_TOKEN_VALUE) {
        qn_sym name = qn_parser_take(p, QN_TOKEN_VALUE, "a %value");
        return qn_parser_at(p, "[") ? load(p, &start, name, false)
                                    : finish(p, &start, qn_name(p->ir, name), 0);
    }
    if (start.kind == QN_TOKEN_WORD) {
        return word(p, &start);
    }
    qn_parser_fail_expected(p, "E-SYNTAX", "an expression");
    return qn_bool(p->ir, false);
}

static qn_expr *postfix(qn_parser *p)
{
    qn_token start = p->tok;
    qn_expr *x = primary(p);
    while (qn_parser_eat(p, "as")) {
        struct {
            qn_rename *at;
            int32_t count, cap;
        } pairs = {0};
        int32_t below = p->height;
        qn_parser_need(p, "(");
        do {
            qn_rename pair = {qn_parser_identifier(p, "an axis"), NULL};
            qn_parser_need(p, "->");
            pair.to = qn_parser_identifier(p, "an axis");
            QN_PUSH(p->ir->arena, &pairs, pair);
        } while (qn_parser_eat(p, ","));
        qn_parser_need(p, ")");
        x = finish(p, &start, qn_as(p->ir, x, pairs.at, pairs.count), below);
    }
    return x;
}

static qn_expr *unary(qn_parser *p)
{
    qn_token start = p->tok;
    if (!qn_parser_at(p, "-")) {
        return postfix(p);
    }
    qn_expr *x = NULL;
    if (qn_parser_enter(p, &p->nesting)) {
        qn_parser_advance(p);
        x = unary(p);
    }
    p->nesting--;
    x = x ? x : qn_bool(p->ir, false);
    return finish(p, &start, qn_op1(p->ir, QN_OP_NEG, x), p->height);
}

static bool infix(const qn_parser *p, qn_op *op)
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
qn_expr *qn_parser_binary(qn_parser *p, int least)
{
    enum { COMPARE = 2, PRODUCT = 4 };
    qn_token start = p->tok;
    qn_expr *x = NULL;
    int most = PRODUCT;
    qn_op op;
    if (least <= COMPARE && qn_parser_at(p, "not")) {
        if (qn_parser_enter(p, &p->nesting)) {
            qn_parser_advance(p);
            x = qn_parser_binary(p, COMPARE);
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
            qn_parser_fail(p, "E-SYNTAX", p->tok.place,
                           "comparisons do not chain; join them with 'and'");
        }
        int32_t left = p->height;
        qn_parser_advance(p);
        qn_expr *y = qn_parser_binary(p, precedence + 1);
        x = finish(p, &start, qn_op2(p->ir, op, x, y), taller(left, p->height));
        most = precedence == COMPARE ? COMPARE - 1 : precedence;
    }
    return x;
}

qn_expr *qn_parser_expression(qn_parser *p)
{
    qn_expr *x = qn_parser_enter(p, &p->nesting) ? qn_parser_binary(p, 0) : qn_bool(p->ir, false);
    p->nesting--;
    return x;
}

qn_type qn_parser_type(qn_parser *p)
{
    qn_axis axes[QN_MAX_AXES];
    qn_dtype dtype = QN_F32;
    int rank = 0;
    if (!qn_parser_dtype_token(&p->tok, &dtype)) {
        qn_parser_fail_expected(p, "E-SYNTAX", "a dtype");
    }
    qn_parser_advance(p);
    if (qn_parser_eat(p, "[")) {
        do {
            if (rank == QN_MAX_AXES) {
                qn_parser_fail(p, "E-SYNTAX", p->tok.place, "more than %d axes", QN_MAX_AXES);
                break;
            }
            axes[rank].name = qn_parser_identifier(p, "an axis");
            qn_parser_need(p, ":");
            axes[rank++].extent = extent(p);
        } while (qn_parser_eat(p, ","));
        qn_parser_need(p, "]");
    }
    return qn_type_of(p->ir, dtype, axes, rank);
}
