/* SPDX-License-Identifier: MIT
 * Text to files: tokens, statements, kernels, norms and going on after errors; see parser.h. */
#include "ir/parse.h"

#include "ir/build.h"
#include "ir/parser.h"
#include <string.h>

/* ---------------------------------------------------------------- tokens */

void qn_parser_fail(qn_parser *p, const char *code, qn_place place, const char *format, ...)
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

void qn_parser_advance(qn_parser *p)
{
    if (p->failed) {
        return;
    }
    p->end = p->tok.at + p->tok.length;
    p->end_line = p->tok.place.line;
    p->before = p->lex;
    p->tok = qn_lex(&p->lex);
    if (p->tok.kind == QN_TOKEN_BAD) {
        qn_parser_fail(p, "E-LEX", p->tok.place, "%s", p->tok.fault);
    }
}

static const char *found(const qn_parser *p)
{
    const qn_token *t = &p->tok;
    if (t->kind == QN_TOKEN_END) {
        return "the end of the text";
    }
    return qn_diag_text(p->d, "'%.*s'", (int)(t->length < 40 ? t->length : 40), t->text);
}

void qn_parser_fail_expected(qn_parser *p, const char *code, const char *what)
{
    if (!p->failed) {
        qn_parser_fail(p, code, p->tok.place, "expected %s, found %s", what, found(p));
    }
}

bool qn_parser_at(const qn_parser *p, const char *text)
{
    return qn_token_is(&p->tok, text);
}

bool qn_parser_eat(qn_parser *p, const char *text)
{
    bool yes = qn_parser_at(p, text);
    if (yes) {
        qn_parser_advance(p);
    }
    return yes;
}

void qn_parser_need(qn_parser *p, const char *text)
{
    if (!p->failed && !qn_parser_eat(p, text)) {
        qn_parser_fail_expected(p, "E-SYNTAX", qn_diag_text(p->d, "'%s'", text));
    }
}

qn_sym qn_parser_token_sym(qn_parser *p)
{
    return qn_intern_n(p->ir, p->tok.text, p->tok.length);
}

qn_sym qn_parser_take(qn_parser *p, qn_token_kind kind, const char *what)
{
    if (p->tok.kind != kind) {
        qn_parser_fail_expected(p, "E-SYNTAX", what);
        return qn_intern(p->ir, "%");
    }
    qn_sym s = qn_parser_token_sym(p);
    qn_parser_advance(p);
    return s;
}

qn_sym qn_parser_identifier(qn_parser *p, const char *what)
{
    if (p->tok.kind != QN_TOKEN_WORD) {
        qn_parser_fail_expected(p, "E-SYNTAX", what);
        return qn_intern(p->ir, "%");
    }
    qn_sym s = qn_parser_token_sym(p);
    if (qn_word_is_reserved(s)) {
        qn_parser_fail(p, "E-SYNTAX", p->tok.place,
                       "expected %s, but '%s' is a word of the language", what, s);
    }
    qn_parser_advance(p);
    return s;
}

qn_sym qn_parser_memory(qn_parser *p)
{
    return p->tok.kind == QN_TOKEN_VALUE ? qn_parser_take(p, QN_TOKEN_VALUE, "a buffer")
                                         : qn_parser_identifier(p, "a tensor or a buffer");
}

static qn_parser_syms identifiers(qn_parser *p, const char *what)
{
    qn_parser_syms out = {0};
    do {
        QN_PUSH(p->ir->arena, &out, qn_parser_identifier(p, what));
    } while (qn_parser_eat(p, ","));
    return out;
}

static qn_parser_syms values(qn_parser *p)
{
    qn_parser_syms out = {0};
    do {
        QN_PUSH(p->ir->arena, &out, qn_parser_take(p, QN_TOKEN_VALUE, "a %value"));
    } while (qn_parser_eat(p, ","));
    return out;
}

qn_place qn_parser_span(const qn_parser *p, const qn_token *start)
{
    qn_place place = start->place;
    size_t end = p->end;
    place.length = 1;
    if (end <= start->at) { /* an error: nothing was taken since */
        return place;
    }
    if (p->end_line != place.line) {
        const char *stop = memchr(p->lex.text + start->at, '\n', end - start->at);
        end = stop ? (size_t)(stop - p->lex.text) : end;
    }
    place.length = (int32_t)(end - start->at);
    return place;
}

bool qn_parser_enter(qn_parser *p, int32_t *depth)
{
    if (++*depth > QN_NESTING) {
        qn_parser_fail(p, "E-SYNTAX", p->tok.place, "nested deeper than %d", QN_NESTING);
    }
    return !p->failed;
}

/* ---------------------------------------------------------------- parts of statements */

static void attributes(qn_parser *p, qn_attrs *out)
{
    while (p->tok.kind == QN_TOKEN_ATTR) {
        struct {
            qn_attr_arg *at;
            int32_t count, cap;
        } args = {0};
        qn_sym name = qn_intern_n(p->ir, p->tok.text + 1, p->tok.length - 1);
        qn_parser_advance(p);
        if (qn_parser_eat(p, "(") && !qn_parser_eat(p, ")")) {
            do {
                qn_attr_arg a = {qn_parser_expression(p), NULL};
                a.hi = qn_parser_eat(p, "..") ? qn_parser_expression(p) : NULL;
                QN_PUSH(p->ir->arena, &args, a);
            } while (qn_parser_eat(p, ","));
            qn_parser_need(p, ")");
        }
        qn_attr_add(p->ir, out, name, args.at, args.count);
    }
}

static qn_piece piece(qn_parser *p)
{
    qn_piece out = {0};
    if (!qn_parser_eat(p, "list")) {
        out.lo = qn_parser_expression(p);
        qn_parser_need(p, "..");
        out.hi = qn_parser_expression(p);
        return out;
    }
    out.list = qn_parser_memory(p);
    qn_parser_need(p, "[");
    out.index = qn_parser_expressions(p);
    out.lo = out.index.at[--out.index.count]; /* the last of the list is the lower bound */
    qn_parser_need(p, "..");
    out.hi = qn_parser_expression(p);
    qn_parser_need(p, "]");
    return out;
}

static qn_iter iter(qn_parser *p)
{
    struct {
        qn_piece *at;
        int32_t count, cap;
    } pieces = {0};
    qn_iter out = {0};
    out.name = qn_parser_identifier(p, "the name of an index");
    out.end = qn_parser_eat(p, "<") ? qn_parser_identifier(p, "the name of the end") : NULL;
    qn_parser_need(p, "in");
    do {
        QN_PUSH(p->ir->arena, &pieces, piece(p));
    } while (qn_parser_eat(p, "|"));
    if (qn_parser_eat(p, "step")) { /* an operand, since a comparison of steps means nothing */
        if (qn_parser_enter(p, &p->nesting)) {
            out.step = qn_parser_binary(p, qn_op_info_of(QN_OP_ADD)->precedence);
        }
        p->nesting--;
    }
    out.pieces = pieces.at;
    out.npieces = pieces.count;
    return out;
}

/* ---------------------------------------------------------------- statements */

static qn_stmt *statement(qn_parser *p);

static void block(qn_parser *p, qn_block *out)
{
    if (qn_parser_enter(p, &p->blocks)) {
        qn_parser_need(p, "{");
        while (!p->failed && !qn_parser_eat(p, "}")) {
            qn_block_push(p->ir, out, statement(p));
        }
    }
    p->blocks--;
}

static qn_stmt *loop(qn_parser *p, const qn_token *start)
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
    s->u.loop.par = qn_parser_eat(p, "par");
    qn_parser_need(p, "for");
    do {
        QN_PUSH(p->ir->arena, &iters, iter(p));
    } while (qn_parser_eat(p, ","));
    if (qn_parser_eat(p, "carry")) {
        do {
            qn_carry c = {0};
            c.name = qn_parser_take(p, QN_TOKEN_VALUE, "a %value");
            qn_parser_need(p, ":");
            c.type = qn_parser_type(p);
            qn_parser_need(p, "=");
            c.init = qn_parser_expression(p);
            QN_PUSH(p->ir->arena, &carries, c);
        } while (qn_parser_eat(p, ","));
    }
    if (qn_parser_eat(p, "cost")) {
        qn_parser_need(p, "(");
        s->u.loop.cost = qn_parser_expression(p);
        qn_parser_need(p, ")");
    }
    attributes(p, &s->attrs);
    s->place = qn_parser_span(p, start);
    s->u.loop.iters = iters.at;
    s->u.loop.niters = iters.count;
    s->u.loop.carries = carries.at;
    s->u.loop.ncarries = carries.count;
    block(p, &s->u.loop.body);
    return s;
}

static qn_stmt *branch(qn_parser *p, const qn_token *start, qn_parser_syms names)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_IF, start->place);
    qn_parser_need(p, "if");
    s->u.branch.names = names.at;
    s->u.branch.nnames = names.count;
    s->u.branch.cond = qn_parser_expression(p);
    s->place = qn_parser_span(p, start);
    block(p, &s->u.branch.then);
    s->u.branch.has_else = qn_parser_eat(p, "else");
    if (s->u.branch.has_else) {
        block(p, &s->u.branch.other);
    }
    return s;
}

static qn_stmt *let(qn_parser *p, const qn_token *start)
{
    qn_parser_syms names = values(p);
    qn_parser_need(p, "=");
    if (qn_parser_at(p, "if")) {
        return branch(p, start, names);
    }
    qn_stmt *s = qn_let_n(p->ir, names.at, names.count, qn_parser_expression(p));
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

static qn_stmt *buffer(qn_parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_BUF, start->place);
    qn_parser_need(p, "buf");
    s->u.buf.name = qn_parser_take(p, QN_TOKEN_VALUE, "the %name of a buffer");
    qn_parser_need(p, ":");
    s->u.buf.type = qn_parser_type(p);
    qn_parser_need(p, "in");
    s->u.buf.space = qn_parser_at(p, "call")   ? QN_SPACE_CALL
                     : qn_parser_at(p, "task") ? QN_SPACE_TASK
                                               : QN_SPACE_SHARED;
    if (s->u.buf.space == QN_SPACE_SHARED && !qn_parser_at(p, "shared")) {
        qn_parser_fail_expected(p, "E-SYNTAX", "'call', 'task' or 'shared'");
    }
    qn_parser_advance(p);
    if (qn_parser_eat(p, "ring")) {
        s->u.buf.ring = qn_parser_identifier(p, "an axis");
    }
    if (qn_parser_eat(p, "layout")) {
        qn_parser_need(p, "(");
        s->u.buf.layout = qn_parser_expressions(p);
        for (int k = 0; k < s->u.buf.layout.count && !p->failed; k++) {
            if (!is_layout_piece(s->u.buf.layout.at[k])) {
                qn_parser_fail(
                    p, "E-SYNTAX", s->u.buf.layout.at[k]->place,
                    "expected a layout piece: axis, axis // n, axis %% n or axis // n %% n");
            }
        }
        qn_parser_need(p, ")");
    }
    attributes(p, &s->attrs);
    return s;
}

static qn_stmt *store(qn_parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_STORE, start->place);
    s->u.store.start = qn_parser_eat(p, "start");
    qn_parser_need(p, "store");
    if (qn_parser_eat(p, ".")) {
        s->u.store.mode = qn_parser_at(p, "add")   ? QN_STORE_ADD
                          : qn_parser_at(p, "max") ? QN_STORE_MAX
                          : qn_parser_at(p, "min") ? QN_STORE_MIN
                                                   : QN_STORE_SET;
        if (s->u.store.mode == QN_STORE_SET) {
            qn_parser_fail_expected(p, "V-OP", "store.add, store.max or store.min");
        }
        qn_parser_advance(p);
    }
    s->u.store.base = qn_parser_memory(p);
    s->u.store.index = qn_parser_index_list(p);
    qn_parser_need(p, "=");
    s->u.store.x = qn_parser_expression(p);
    if (qn_parser_eat(p, "ordered")) {
        s->u.store.order = QN_STORE_ORDERED;
    } else if (qn_parser_eat(p, "atomic")) {
        s->u.store.order = QN_STORE_ATOMIC;
    }
    attributes(p, &s->attrs);
    return s;
}

static qn_stmt *small(qn_parser *p, const qn_token *start)
{
    qn_stmt *s = qn_stmt_new(p->ir, QN_YIELD, start->place);
    if (qn_parser_eat(p, "yield")) {
        s->u.yield = qn_parser_expressions(p);
    } else if (qn_parser_at(p, "await") || qn_parser_at(p, "free")) {
        s->kind = QN_SYNC;
        s->u.sync.await = qn_parser_at(p, "await");
        qn_parser_advance(p);
        s->u.sync.base = qn_parser_take(p, QN_TOKEN_VALUE, "the %name of a ring");
        s->u.sync.index = qn_parser_index_list(p);
    } else if (qn_parser_eat(p, "flag")) {
        s->kind = QN_FLAG;
        qn_parser_need(p, "(");
        s->u.flag.cond = qn_parser_expression(p);
        qn_parser_need(p, ",");
        s->u.flag.code = qn_parser_identifier(p, "the name of a status, E_INDEX");
        qn_parser_need(p, ")");
    } else if (qn_parser_eat(p, "prefetch")) {
        s->kind = QN_PREFETCH;
        s->u.prefetch.base = qn_parser_memory(p);
        s->u.prefetch.index = qn_parser_index_list(p);
    } else {
        qn_parser_fail_expected(p, "E-SYNTAX", "a statement");
        s->u.yield = qn_exprs_of(p->ir, NULL, 0);
    }
    return s;
}

static qn_stmt *statement(qn_parser *p)
{
    qn_token start = p->tok;
    qn_stmt *s;
    if (start.kind == QN_TOKEN_VALUE) {
        s = let(p, &start);
    } else if (qn_parser_at(p, "for") || qn_parser_at(p, "par")) {
        return loop(p, &start);
    } else if (qn_parser_at(p, "if")) {
        return branch(p, &start, (qn_parser_syms){0});
    } else if (qn_parser_eat(p, "launch")) {
        s = qn_stmt_new(p->ir, QN_LAUNCH, start.place);
        block(p, &s->u.launch);
        return s;
    } else if (qn_parser_at(p, "buf")) {
        s = buffer(p, &start);
    } else if (qn_parser_at(p, "store") || qn_parser_at(p, "start")) {
        s = store(p, &start);
    } else {
        s = small(p, &start);
    }
    if (s->kind != QN_IF) { /* the place of what has a block is its head */
        s->place = qn_parser_span(p, &start);
    }
    return s;
}

/* ---------------------------------------------------------------- kernels and norms */

static void kernel_head(qn_parser *p, qn_kernel_ir *k)
{
    qn_arena *a = p->ir->arena;
    for (;;) {
        qn_token start = p->tok;
        if (qn_parser_eat(p, "dim")) {
            do {
                qn_dim d = {.place = p->tok.place};
                d.name = qn_parser_identifier(p, "the name of a dim");
                d.value = qn_parser_eat(p, "=") ? qn_parser_expression(p) : NULL;
                QN_PUSH(a, &k->dims, d);
            } while (qn_parser_eat(p, ","));
        } else if (qn_parser_at(p, "in") || qn_parser_at(p, "out") || qn_parser_at(p, "inout")) {
            qn_direction direction = qn_parser_at(p, "in")    ? QN_IN
                                     : qn_parser_at(p, "out") ? QN_OUT
                                                              : QN_INOUT;
            qn_parser_advance(p);
            do {
                qn_param x = {.direction = direction, .place = p->tok.place};
                x.name = qn_parser_identifier(p, "the name of a parameter");
                qn_parser_need(p, ":");
                x.type = qn_parser_type(p);
                x.value = qn_parser_eat(p, "=") ? qn_parser_expression(p) : NULL;
                QN_PUSH(a, &k->params, x);
            } while (qn_parser_eat(p, ","));
        } else if (qn_parser_eat(p, "require")) {
            qn_require r = {.cond = qn_parser_expression(p), .text = ""};
            qn_parser_need(p, ",");
            if (p->tok.kind == QN_TOKEN_STRING) {
                r.text = qn_token_string(a, &p->tok);
                qn_parser_advance(p);
            } else {
                qn_parser_fail_expected(p, "E-SYNTAX", "a \"text\" for the caller");
            }
            r.place = qn_parser_span(p, &start);
            QN_PUSH(a, &k->requires, r);
        } else {
            return;
        }
    }
}

static qn_kernel_ir *kernel(qn_parser *p)
{
    qn_kernel_ir *k = QN_NEW(p->ir->arena, qn_kernel_ir);
    k->place = p->tok.place;
    k->name = qn_parser_take(p, QN_TOKEN_AT, "the @name of a kernel");
    attributes(p, &k->attrs);
    qn_parser_need(p, "{");
    kernel_head(p, k);
    while (!p->failed && !qn_parser_eat(p, "}")) {
        qn_block_push(p->ir, &k->body, statement(p));
    }
    return k;
}

typedef struct definitions {
    qn_norm_def *at;
    int32_t count, cap;
} definitions;

static void definition(qn_parser *p, definitions *out)
{
    qn_norm_def d = {qn_parser_identifier(p, "a name"), NULL};
    qn_parser_need(p, "=");
    d.x = qn_parser_expression(p);
    QN_PUSH(p->ir->arena, out, d);
}

static void statistic(qn_parser *p, qn_norm *n)
{
    qn_parser_need(p, "stat");
    if (qn_parser_eat(p, "none")) {
        return;
    }
    n->stat = qn_parser_identifier(p, "a name or 'none'");
    qn_parser_need(p, "=");
    n->stat_op = qn_parser_at(p, "max")   ? QN_AX_REDUCE_MAX
                 : qn_parser_at(p, "min") ? QN_AX_REDUCE_MIN
                                          : QN_AX_REDUCE_SUM;
    if (n->stat_op == QN_AX_REDUCE_SUM && !qn_parser_at(p, "sum")) {
        qn_parser_fail_expected(p, "E-SYNTAX", "'max', 'min' or 'sum'");
    }
    qn_parser_advance(p);
    qn_parser_need(p, "(");
    n->stat_x = qn_parser_expression(p);
    qn_parser_need(p, ")");
}

static qn_norm *norm(qn_parser *p)
{
    qn_norm *n = QN_NEW(p->ir->arena, qn_norm);
    definitions sums = {0}, results = {0};
    n->place = p->tok.place;
    n->name = qn_parser_take(p, QN_TOKEN_AT, "the @name of a norm");
    qn_parser_need(p, "(");
    qn_parser_syms args = identifiers(p, "the name of an argument");
    qn_parser_need(p, ")");
    qn_parser_need(p, "->");
    qn_parser_need(p, "(");
    qn_parser_syms outs = identifiers(p, "the name of a result");
    qn_parser_need(p, ")");
    qn_parser_need(p, "{");
    statistic(p, n);
    qn_parser_need(p, "weight");
    n->weight = qn_parser_expression(p);
    if (qn_parser_eat(p, "rescale")) {
        qn_parser_need(p, "(");
        n->rescale_from = qn_parser_identifier(p, "a name");
        qn_parser_need(p, ",");
        n->rescale_to = qn_parser_identifier(p, "a name");
        qn_parser_need(p, ")");
        n->rescale = qn_parser_expression(p);
    }
    while (qn_parser_eat(p, "sum")) {
        definition(p, &sums);
    }
    qn_parser_need(p, "finish");
    do {
        definition(p, &results);
    } while (qn_parser_eat(p, ","));
    qn_parser_need(p, "}");
    if (outs.count > QN_MAX_AXES) {
        qn_parser_fail(p, "E-SYNTAX", n->place, "a norm has at most %d results", QN_MAX_AXES);
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

/* ---------------------------------------------------------------- files */

static qn_parser parser_of(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    qn_parser p = {.ir = ir, .d = d};
    bool fits = length <= QN_TEXT_BYTES;
    p.lex = qn_lexer_of(text, fits ? length : 0);
    if (fits) {
        qn_parser_advance(&p);
    } else {
        qn_parser_fail(&p, "E-LEX", (qn_place){0}, "the text is longer than %d bytes",
                       QN_TEXT_BYTES);
    }
    p.end = 0;
    return p;
}

static bool at_item(const qn_parser *p)
{
    qn_lexer ahead = p->lex;
    return (qn_parser_at(p, "kernel") || qn_parser_at(p, "norm") || qn_parser_at(p, "schedule")) &&
           qn_lex(&ahead).kind == QN_TOKEN_AT;
}

/* Goes on behind an error, at the next item at or after the token that was refused, but past
 * `from`, where the failed item starts. */
static void recover(qn_parser *p, size_t from)
{
    p->failed = false;
    p->nesting = p->blocks = 0;
    p->lex = p->before;
    do {
        p->before = p->lex;
        p->tok = qn_lex(&p->lex);
    } while (p->tok.kind != QN_TOKEN_END && (p->tok.at <= from || !at_item(p)));
}

static void item(qn_parser *p, qn_ir_file *f)
{
    qn_item it = {0};
    if (qn_parser_eat(p, "kernel")) {
        it.kind = QN_ITEM_KERNEL;
        it.u.kernel = kernel(p);
    } else if (qn_parser_eat(p, "norm")) {
        it.kind = QN_ITEM_NORM;
        it.u.norm = norm(p);
    } else if (qn_parser_eat(p, "schedule")) {
        it.kind = QN_ITEM_SCHEDULE;
        it.u.schedule = qn_parser_schedule(p);
    } else {
        qn_parser_fail_expected(p, "E-SYNTAX", "'kernel', 'norm' or 'schedule'");
    }
    QN_PUSH(p->ir->arena, &f->items, it);
}

qn_ir_file *qn_parse(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    qn_parser p = parser_of(ir, text, length, d);
    qn_ir_file *f = QN_NEW(ir->arena, qn_ir_file);
    bool wrong = p.failed;
    f->ir = ir;
    if (p.failed && length <= QN_TEXT_BYTES) {
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
    qn_parser p = parser_of(ir, text, length, d);
    qn_expr *x = qn_parser_expression(&p);
    if (p.tok.kind != QN_TOKEN_END) {
        qn_parser_fail_expected(&p, "E-SYNTAX", "the end of the text");
    }
    return p.failed ? NULL : x;
}
