/* SPDX-License-Identifier: MIT
 * Kernel functions to trees: recursive descent with Lua's precedences. What Lua allows and kernel
 * functions do not is named, with what to write instead. Nesting is bounded, so no text can exhaust
 * the stack; so is the length of a chain of operators. */
#include "frontend/ast.h"

#include <string.h>

enum { MAX_DEPTH = 150, MAX_NODES = 100000, MAX_ITEMS = 250, MAX_HEIGHT = 250 };

typedef struct parser {
    qn_ir *ir;
    qn_diags *d;
    qn_lua_lexer lexer;
    qn_tok now, ahead;
    qn_place last; /* place of the token before `now` */
    int depth;
    int nodes;
    bool failed;
} parser;

typedef struct exprs {
    qn_ast **at;
    int32_t count, cap;
} exprs;

static const struct {
    const char *text;
    int left, right; /* Lua's priorities; unary operators bind with 12 */
} ops[] = {
    [QN_LUA_OR] = {"or", 1, 1},   [QN_LUA_AND] = {"and", 2, 2}, [QN_LUA_LT] = {"<", 3, 3},
    [QN_LUA_GT] = {">", 3, 3},    [QN_LUA_LE] = {"<=", 3, 3},   [QN_LUA_GE] = {">=", 3, 3},
    [QN_LUA_NE] = {"~=", 3, 3},   [QN_LUA_EQ] = {"==", 3, 3},   [QN_LUA_BOR] = {"|", 4, 4},
    [QN_LUA_BXOR] = {"~", 5, 5},  [QN_LUA_BAND] = {"&", 6, 6},  [QN_LUA_SHL] = {"<<", 7, 7},
    [QN_LUA_SHR] = {">>", 7, 7},  [QN_LUA_ADD] = {"+", 10, 10}, [QN_LUA_SUB] = {"-", 10, 10},
    [QN_LUA_MUL] = {"*", 11, 11}, [QN_LUA_DIV] = {"/", 11, 11}, [QN_LUA_FLOORDIV] = {"//", 11, 11},
    [QN_LUA_MOD] = {"%", 11, 11}, [QN_LUA_POW] = {"^", 14, 13}, [QN_LUA_NOT] = {"not", 0, 0},
    [QN_LUA_NEG] = {"-", 0, 0},   [QN_LUA_BNOT] = {"~", 0, 0},
};
enum { UNARY_PRIORITY = 12 };

const char *qn_lua_op_text(qn_lua_op op)
{
    return ops[op].text;
}

static qn_diag *fail(parser *p, const char *code, qn_place place, const char *text)
{
    static const char *const nothing = "";
    if (p->failed) { /* the first error of a function is the one that counts */
        return NULL;
    }
    p->failed = true;
    qn_diag *x = qn_diag_add(p->d, QN_ERROR, code, place, "%s", text ? text : nothing);
    x->path = p->lexer.chunk->path;
    x->source = p->lexer.chunk->text;
    return x;
}

static void fail_help(parser *p, const char *code, qn_place place, const char *text,
                      const char *help)
{
    qn_diag *x = fail(p, code, place, text);
    if (x) {
        x->help = help;
    }
}

static void next(parser *p)
{
    p->last = p->now.place;
    p->now = p->ahead;
    p->ahead = p->failed ? (qn_tok){.kind = QN_TK_END, .place = p->now.place}
                         : qn_lua_lexer_next(&p->lexer);
    if (p->now.kind == QN_TK_BAD) { /* the lexer spoke */
        p->failed = true;
    }
}

static bool at(const parser *p, const char *text)
{
    return (p->now.kind == QN_TK_KEYWORD || p->now.kind == QN_TK_SYMBOL) &&
           strcmp(p->now.text, text) == 0;
}

static bool accept(parser *p, const char *text)
{
    if (!at(p, text)) {
        return false;
    }
    next(p);
    return true;
}

static void expect(parser *p, const char *text, const char *where)
{
    if (!accept(p, text)) {
        fail(p, "E-SYNTAX", p->now.place, qn_diag_text(p->d, "'%s' is expected %s", text, where));
    }
}

static qn_place span(qn_place from, qn_place to)
{
    if (from.line == to.line && to.col + to.length > from.col) {
        from.length = to.col + to.length - from.col;
    }
    return from;
}

static qn_ast *node(parser *p, qn_ast_kind kind, qn_place place)
{
    if (++p->nodes > MAX_NODES) {
        fail(p, "E-SIZE", place, "this function is too large");
    }
    qn_ast *x = QN_NEW(p->ir->arena, qn_ast);
    x->kind = kind;
    x->place = place;
    return x;
}

/* Measures a finished node: walks of the tree recurse no deeper than MAX_HEIGHT. */
static qn_ast *finished(parser *p, qn_ast *x)
{
    int32_t h = x->l ? x->l->height : 0;
    h = x->r && x->r->height > h ? x->r->height : h;
    for (int k = 0; k < x->nitems; k++) {
        h = x->items[k]->height > h ? x->items[k]->height : h;
    }
    x->height = h + 1;
    if (x->height > MAX_HEIGHT) {
        fail_help(p, "E-DEPTH", x->place,
                  qn_diag_text(p->d, "this expression is nested deeper than %d", MAX_HEIGHT),
                  "name parts with `local`");
    }
    return x;
}

static qn_sym name(parser *p, const char *what)
{
    qn_sym text = p->now.text;
    if (p->now.kind != QN_TK_NAME) {
        fail(p, "E-SYNTAX", p->now.place, qn_diag_text(p->d, "%s is expected", what));
        return qn_intern(p->ir, "?");
    }
    next(p);
    return text;
}

static qn_ast *expression(parser *p, int limit);

static void arguments(parser *p, exprs *out, const char *closing)
{
    if (at(p, closing)) {
        return;
    }
    do {
        qn_ast *x = expression(p, 0);
        QN_PUSH(p->ir->arena, out, x);
        if (out->count > MAX_ITEMS) {
            fail(p, "E-SIZE", p->now.place, "too many expressions in one list");
        }
    } while (!p->failed && accept(p, ","));
}

static qn_ast *primary(parser *p)
{
    qn_tok t = p->now;
    qn_ast *x = node(p, QN_AST_NIL, t.place);
    switch (t.kind) {
    case QN_TK_INT:
        x->kind = QN_AST_INT;
        x->i = t.i;
        next(p);
        return x;
    case QN_TK_FLOAT:
        x->kind = QN_AST_FLOAT;
        x->f = t.f;
        next(p);
        return x;
    case QN_TK_STRING:
        x->kind = QN_AST_STRING;
        x->text = t.text;
        next(p);
        return x;
    case QN_TK_NAME:
        x->kind = QN_AST_NAME;
        x->text = t.text;
        next(p);
        return x;
    case QN_TK_KEYWORD:
    case QN_TK_SYMBOL:
    case QN_TK_END:
    case QN_TK_BAD:
        break;
    }
    if (accept(p, "nil")) {
        return x;
    }
    if (at(p, "true") || at(p, "false")) {
        x->kind = QN_AST_BOOL;
        x->b = at(p, "true");
        next(p);
        return x;
    }
    if (accept(p, "(")) {
        x = expression(p, 0);
        expect(p, ")", "here");
        if (x->kind == QN_AST_NAME || x->kind == QN_AST_CALL) {
            return x;
        }
        qn_ast *copy = QN_NEW(p->ir->arena, qn_ast); /* the place takes in the parentheses */
        *copy = *x;
        copy->place = span(t.place, p->last);
        return copy;
    }
    if (at(p, "function")) {
        fail_help(p, "E-SYNTAX", t.place, "a function cannot be made inside a kernel function",
                  "write it outside; calls of it are compiled into this one");
    } else if (at(p, "{")) {
        fail_help(p, "E-SYNTAX", t.place, "a table cannot be made inside a kernel function",
                  "make it outside: constants in it are read when the spec is compiled");
    } else if (at(p, "...")) {
        fail_help(p, "E-SYNTAX", t.place, "kernel functions have no '...'", "name the parameters");
    } else {
        fail(p, "E-SYNTAX", t.place,
             t.kind == QN_TK_END ? "an expression is expected; the function ends here"
                                 : qn_diag_text(p->d, "an expression is expected, not '%s'",
                                                t.text ? t.text : "?"));
    }
    return x;
}

static qn_ast *suffixed(parser *p)
{
    qn_place from = p->now.place;
    qn_ast *x = primary(p);
    while (!p->failed) {
        qn_ast *y;
        if (x->kind != QN_AST_NAME && x->kind != QN_AST_INDEX && x->kind != QN_AST_CALL) {
            return x;
        }
        if (accept(p, ".")) {
            y = node(p, QN_AST_INDEX, from);
            y->r = node(p, QN_AST_STRING, p->now.place);
            y->r->text = name(p, "a field name");
        } else if (accept(p, "[")) {
            y = node(p, QN_AST_INDEX, from);
            y->r = expression(p, 0);
            expect(p, "]", "after the index");
        } else if (accept(p, "(")) {
            exprs args = {0};
            y = node(p, QN_AST_CALL, from);
            arguments(p, &args, ")");
            expect(p, ")", "after the arguments");
            y->items = args.at;
            y->nitems = args.count;
        } else if (at(p, ":")) {
            fail_help(p, "E-SYNTAX", p->now.place, "kernel functions have no methods",
                      "call a function");
            return x;
        } else if (p->now.kind == QN_TK_STRING) { /* f"text" */
            y = node(p, QN_AST_CALL, from);
            y->items = QN_NEW(p->ir->arena, qn_ast *);
            y->items[0] = primary(p);
            y->nitems = 1;
        } else {
            return x;
        }
        y->l = x;
        y->place = span(from, p->last);
        x = finished(p, y);
    }
    return x;
}

static bool binary_at(const parser *p, qn_lua_op *op)
{
    for (int k = 0; k <= QN_LUA_POW; k++) {
        if (at(p, ops[k].text)) {
            *op = (qn_lua_op)k;
            return true;
        }
    }
    return false;
}

static qn_ast *expression(parser *p, int limit)
{
    qn_place from = p->now.place;
    qn_ast *x;
    if (++p->depth > MAX_DEPTH) {
        fail_help(p, "E-DEPTH", from, qn_diag_text(p->d, "nested deeper than %d", MAX_DEPTH),
                  "name parts with `local`");
        p->depth--;
        return node(p, QN_AST_NIL, from);
    }
    if (at(p, "not") || at(p, "-") || at(p, "~")) {
        qn_lua_op op = at(p, "not") ? QN_LUA_NOT : at(p, "-") ? QN_LUA_NEG : QN_LUA_BNOT;
        next(p);
        x = node(p, QN_AST_UNARY, from);
        x->op = op;
        x->l = expression(p, UNARY_PRIORITY);
        x->place = span(from, p->last);
        finished(p, x);
    } else if (at(p, "#")) {
        fail_help(p, "E-SYNTAX", from, "kernel functions have no '#'",
                  "take the length outside, or use qn.dim");
        x = node(p, QN_AST_NIL, from);
    } else {
        x = suffixed(p);
    }
    qn_lua_op op;
    while (!p->failed && binary_at(p, &op) && ops[op].left > limit) {
        next(p);
        qn_ast *y = node(p, QN_AST_BINARY, from);
        y->op = op;
        y->l = x;
        y->r = expression(p, ops[op].right);
        y->place = span(from, p->last);
        x = finished(p, y);
    }
    if (!p->failed && limit == 0 && at(p, "..")) {
        fail_help(p, "E-SYNTAX", p->now.place, "kernel functions have no '..'",
                  "join texts outside");
    }
    p->depth--;
    return x;
}

/* ---------------------------------------------------------------- statements */

static qn_ast_block block(parser *p);

static qn_ast_stmt *statement_of(parser *p, qn_ast_block *b, qn_ast_stmt_kind kind, qn_place place)
{
    qn_ast_stmt *s = QN_NEW(p->ir->arena, qn_ast_stmt);
    s->kind = kind;
    s->place = place;
    QN_PUSH(p->ir->arena, b, s);
    return s;
}

static void take_exprs(qn_ast_stmt *s, const exprs *e)
{
    s->exprs = e->at;
    s->nexprs = e->count;
}

typedef struct names {
    struct {
        qn_sym *at;
        int32_t count, cap;
    } text;
    struct {
        qn_place *at;
        int32_t count, cap;
    } places;
} names;

static void push_name(parser *p, names *n, qn_sym text, qn_place place)
{
    QN_PUSH(p->ir->arena, &n->text, text);
    QN_PUSH(p->ir->arena, &n->places, place);
    if (n->text.count > MAX_ITEMS) {
        fail(p, "E-SIZE", place, "too many names in one list");
    }
}

static void take_names(qn_ast_stmt *s, const names *n)
{
    s->names = n->text.at;
    s->name_places = n->places.at;
    s->nnames = n->text.count;
}

static void local_statement(parser *p, qn_ast_block *b, qn_place from)
{
    names n = {0};
    exprs e = {0};
    if (at(p, "function")) {
        fail_help(p, "E-SYNTAX", p->now.place, "a function cannot be made inside a kernel function",
                  "write it outside; calls of it are compiled into this one");
        return;
    }
    do {
        qn_place place = p->now.place;
        push_name(p, &n, name(p, "a name"), place);
        if (accept(p, "<")) {
            qn_place attr = p->now.place;
            qn_sym word = name(p, "const");
            if (!p->failed && strcmp(word, "const") != 0) {
                fail(p, "E-SYNTAX", attr, "the only attribute here is <const>");
            }
            expect(p, ">", "after the attribute");
        }
    } while (!p->failed && accept(p, ","));
    if (accept(p, "=")) {
        arguments(p, &e, ";");
    }
    qn_ast_stmt *s = statement_of(p, b, QN_AST_LOCAL, span(from, p->last));
    take_names(s, &n);
    take_exprs(s, &e);
}

static void if_statement(parser *p, qn_ast_block *b, qn_place from)
{
    exprs conds = {0};
    struct {
        qn_ast_block *at;
        int32_t count, cap;
    } blocks = {0};
    do { /* after `if` or `elseif` */
        qn_ast *c = expression(p, 0);
        QN_PUSH(p->ir->arena, &conds, c);
        expect(p, "then", "after the condition");
        qn_ast_block body = block(p);
        b->returns |= body.returns;
        QN_PUSH(p->ir->arena, &blocks, body);
    } while (!p->failed && accept(p, "elseif"));
    if (accept(p, "else")) {
        qn_ast_block body = block(p);
        b->returns |= body.returns;
        QN_PUSH(p->ir->arena, &blocks, body);
    }
    expect(p, "end", "to close `if`");
    qn_ast_stmt *s = statement_of(p, b, QN_AST_IF, from);
    take_exprs(s, &conds);
    s->blocks = blocks.at;
    s->nblocks = blocks.count;
}

static void body_of(parser *p, qn_ast_block *b, qn_ast_stmt *s)
{
    s->blocks = QN_NEW(p->ir->arena, qn_ast_block);
    s->blocks[0] = block(p);
    s->nblocks = 1;
    b->returns |= s->blocks[0].returns;
}

static void for_statement(parser *p, qn_ast_block *b, qn_place from)
{
    names n = {0};
    exprs e = {0};
    qn_place place = p->now.place;
    push_name(p, &n, name(p, "a name"), place);
    if (!p->failed && !at(p, "=")) {
        fail_help(p, "E-SYNTAX", from, "kernel functions have only the numeric `for`",
                  "for n = 1, 4 do .. end");
        return;
    }
    expect(p, "=", "after the name");
    arguments(p, &e, "do");
    if (!p->failed && (e.count < 2 || e.count > 3)) {
        fail(p, "E-SYNTAX", span(from, p->last),
             "`for` takes a first and a last value, and perhaps a step");
        return;
    }
    expect(p, "do", "after the bounds");
    qn_ast_stmt *s = statement_of(p, b, QN_AST_FOR, from);
    take_names(s, &n);
    take_exprs(s, &e);
    body_of(p, b, s);
    expect(p, "end", "to close `for`");
}

static void assignment(parser *p, qn_ast_block *b, qn_place from)
{
    names n = {0};
    exprs e = {0};
    do {
        qn_place place = p->now.place;
        qn_ast *target = suffixed(p);
        if (p->failed) {
            return;
        }
        if (target->kind == QN_AST_CALL) {
            fail_help(p, "E-SYNTAX", target->place, "this call's result is not used",
                      "kernel functions have no effects: use the result or drop the call");
            return;
        }
        if (target->kind != QN_AST_NAME) {
            fail_help(p, target->kind == QN_AST_INDEX ? "E-ASSIGN" : "E-SYNTAX", target->place,
                      target->kind == QN_AST_INDEX ? "elements cannot be assigned"
                                                   : "a statement is expected",
                      target->kind == QN_AST_INDEX
                          ? "kernel functions have no effects; return the value"
                          : NULL);
            return;
        }
        push_name(p, &n, target->text, place);
    } while (accept(p, ","));
    expect(p, "=", "in an assignment");
    arguments(p, &e, ";");
    qn_ast_stmt *s = statement_of(p, b, QN_AST_ASSIGN, span(from, p->last));
    take_names(s, &n);
    take_exprs(s, &e);
}

static bool refused(parser *p)
{
    static const struct {
        const char *word, *text, *help;
    } rows[] = {
        {"while", "kernel functions have no `while`",
         "for n = 1, 4 do .. end, with constant bounds"},
        {"repeat", "kernel functions have no `repeat`",
         "for n = 1, 4 do .. end, with constant bounds"},
        {"goto", "kernel functions have no `goto`", NULL},
        {"::", "kernel functions have no labels", NULL},
        {"break", "kernel functions have no `break`",
         "loops are unrolled: guard the rest with `if`"},
        {"function", "a function cannot be made inside a kernel function",
         "write it outside; calls of it are compiled into this one"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        if (at(p, rows[k].word)) {
            fail_help(p, "E-SYNTAX", p->now.place, rows[k].text, rows[k].help);
            return true;
        }
    }
    return false;
}

static bool block_ends(const parser *p)
{
    return p->now.kind == QN_TK_END || at(p, "end") || at(p, "else") || at(p, "elseif") ||
           at(p, "until");
}

static qn_ast_block block(parser *p)
{
    qn_ast_block b = {0};
    if (++p->depth > MAX_DEPTH) {
        fail(p, "E-DEPTH", p->now.place, qn_diag_text(p->d, "nested deeper than %d", MAX_DEPTH));
    }
    while (!p->failed && !block_ends(p)) {
        qn_place from = p->now.place;
        if (++p->nodes > MAX_NODES) {
            fail(p, "E-SIZE", from, "this function is too large");
        }
        if (accept(p, ";") || refused(p)) {
            continue;
        }
        if (accept(p, "local")) {
            local_statement(p, &b, from);
        } else if (accept(p, "if")) {
            if_statement(p, &b, from);
        } else if (accept(p, "for")) {
            for_statement(p, &b, from);
        } else if (accept(p, "do")) {
            qn_ast_stmt *s = statement_of(p, &b, QN_AST_DO, from);
            body_of(p, &b, s);
            expect(p, "end", "to close `do`");
        } else if (accept(p, "return")) {
            exprs e = {0};
            if (!block_ends(p) && !at(p, ";")) {
                arguments(p, &e, ";");
            }
            take_exprs(statement_of(p, &b, QN_AST_RETURN, span(from, p->last)), &e);
            b.returns = true;
            accept(p, ";");
            if (!p->failed && !block_ends(p)) {
                fail(p, "E-SYNTAX", p->now.place, "`return` ends its block");
            }
        } else {
            assignment(p, &b, from);
        }
    }
    p->depth--;
    return b;
}

qn_ast_function *qn_ast_parse(qn_ir *ir, const qn_host_value *function, qn_diags *d)
{
    parser p = {.ir = ir, .d = d};
    qn_lua_lexer_init(&p.lexer, ir, d, function->chunk, function->u.function.begin,
                      function->u.function.end);
    next(&p);
    next(&p);
    p.failed = p.now.kind == QN_TK_BAD;
    qn_ast_function *f = QN_NEW(ir->arena, qn_ast_function);
    f->chunk = function->chunk;
    f->place = p.now.place;
    names n = {0};
    expect(&p, "function", "here");
    while (p.now.kind == QN_TK_NAME || at(&p, ".") ||
           at(&p, ":")) { /* its own name, if it has one */
        if (at(&p, ":")) {
            fail_help(&p, "E-SYNTAX", p.now.place, "kernel functions are no methods", NULL);
        }
        next(&p);
    }
    expect(&p, "(", "before the parameters");
    while (!p.failed && !at(&p, ")")) {
        qn_place place = p.now.place;
        if (at(&p, "...")) {
            fail_help(&p, "E-SYNTAX", place, "kernel functions have no '...'",
                      "name the parameters");
            break;
        }
        push_name(&p, &n, name(&p, "a parameter"), place);
        if (!accept(&p, ",") && !at(&p, ")")) {
            expect(&p, ")", "after the parameters");
        }
    }
    expect(&p, ")", "after the parameters");
    f->params = n.text.at;
    f->nparams = n.text.count;
    f->body = block(&p);
    if (!p.failed && p.now.kind != QN_TK_END && !at(&p, "end")) {
        fail(&p, "E-SYNTAX", p.now.place, "`end` is expected");
    }
    expect(&p, "end", "to close the function");
    return p.failed ? NULL : f;
}
