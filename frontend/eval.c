/* SPDX-License-Identifier: MIT
 *
 * Executes kernel functions on symbols. A condition known now picks its branch; one that is not
 * runs both and chooses between what they leave. Where a branch may return, what follows the `if`
 * is run once under each side. Loops are unrolled and calls are inlined, so what remains is one
 * expression a result. Fuel bounds the steps, `depth` the recursion. */
#include "frontend/front.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 700, MAX_CALLS = 64 };

typedef struct frame { /* locals of one call, innermost last */
    qn_front *fr;
    const qn_host_value *function;
    qn_sym *names;
    qn_fval *vals;
    int count, cap;
} frame;

/* What is still to run: a list that is shared between branches and never changed. */
typedef struct cont {
    const qn_ast_block *block;
    int at;                  /* the next statement */
    int scope;               /* locals that live when the block is left */
    const qn_ast_stmt *loop; /* NULL, or the loop whose body this is */
    qn_fval value, last, step;
    const struct cont *next;
} cont;

typedef enum outcome { FAILED, ENDED, RETURNED } outcome;

qn_diag *qn_front_error(qn_front *fr, const char *code, qn_place place, const char *format, ...)
{
    va_list args;
    qn_buf b = qn_buf_of(fr->ir->arena);
    va_start(args, format);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    qn_diag *x = qn_diag_add(fr->d, QN_ERROR, code, place, "%s", b.text);
    if (fr->chunk) {
        x->path = fr->chunk->path;
        x->source = fr->chunk->text;
    }
    return x;
}

qn_diag *qn_host_error(qn_front *fr, const char *code, const qn_host_value *at, const char *format,
                       ...)
{
    va_list args;
    qn_buf b = qn_buf_of(fr->ir->arena);
    va_start(args, format);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    qn_diag *x = qn_diag_add(fr->d, QN_ERROR, code, at ? at->place : (qn_place){0}, "%s", b.text);
    if (at && at->chunk) {
        x->path = at->chunk->path;
        x->source = at->chunk->text;
    }
    return x;
}

static qn_fval bad(void)
{
    return (qn_fval){.kind = QN_V_BAD};
}

static bool spend(qn_front *fr, qn_place place)
{
    if (fr->exhausted) {
        return false;
    }
    if (fr->depth > MAX_DEPTH) {
        fr->exhausted = true;
        qn_front_error(fr, "E-DEPTH", place,
                       "too deep: nested expressions, branches and calls together")
            ->help = "name parts with `local`";
        return false;
    }
    if (--fr->fuel <= 0) {
        fr->exhausted = true;
        qn_front_error(fr, "E-SIZE", place, "unrolled and inlined, this function is too large")
            ->help = "fewer rounds of `for`, or a tensor made outside";
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- names */

static void define(frame *f, qn_sym name, qn_fval v)
{
    if (f->count == f->cap) {
        int cap = f->cap ? f->cap * 2 : 16;
        qn_sym *names = QN_NEWN(f->fr->ir->arena, qn_sym, cap);
        qn_fval *vals = QN_NEWN(f->fr->ir->arena, qn_fval, cap);
        if (f->count) {
            memcpy(names, f->names, sizeof *names * (size_t)f->count);
            memcpy(vals, f->vals, sizeof *vals * (size_t)f->count);
        }
        f->names = names;
        f->vals = vals;
        f->cap = cap;
    }
    if (v.kind == QN_V_NODE && !v.node->hint) {
        v.node->hint = name;
    }
    f->names[f->count] = name;
    f->vals[f->count++] = v;
}

static qn_fval *local(const frame *f, qn_sym name)
{
    for (int k = f->count - 1; k >= 0; k--) {
        if (f->names[k] == name) {
            return &f->vals[k];
        }
    }
    return NULL;
}

/* A copy with locals of its own. */
static frame fork(const frame *f)
{
    frame g = *f;
    g.names = QN_NEWN(f->fr->ir->arena, qn_sym, f->count + 8);
    g.vals = QN_NEWN(f->fr->ir->arena, qn_fval, f->count + 8);
    g.cap = f->count + 8;
    if (f->count) {
        memcpy(g.names, f->names, sizeof *g.names * (size_t)f->count);
        memcpy(g.vals, f->vals, sizeof *g.vals * (size_t)f->count);
    }
    return g;
}

static bool tagged(const qn_host_value *v, const char *tag)
{
    return v->kind == QN_HOST_TABLE && v->u.table.tag && strcmp(v->u.table.tag, tag) == 0;
}

qn_fval qn_fval_of_host(qn_front *fr, const qn_host_value *v)
{
    qn_fval x = {.kind = QN_V_NIL};
    if (!v) {
        return x;
    }
    switch (v->kind) {
    case QN_HOST_NIL:
        return x;
    case QN_HOST_BOOL:
        return qn_fval_bool(v->u.b);
    case QN_HOST_INT:
        return qn_fval_int(v->u.i);
    case QN_HOST_FLOAT:
        return qn_fval_flt(v->u.f);
    case QN_HOST_STRING:
        x.kind = QN_V_STRING;
        x.text = v->u.string.text;
        return x;
    case QN_HOST_FUNCTION:
        x.kind = QN_V_FUNCTION;
        x.host = v;
        return x;
    case QN_HOST_BUILTIN:
        x.kind = QN_V_BUILTIN;
        x.text = v->u.builtin;
        return x;
    case QN_HOST_TABLE:
        break;
    }
    x.host = v;
    if (tagged(v, "tensor")) {
        x.kind = QN_V_TENSOR;
        x.tensor = qn_tensor_of(fr, v);
    } else if (tagged(v, "param")) {
        x = qn_param_value(fr, qn_scalar_of(fr, v));
    } else if (tagged(v, "dim")) {
        const qn_host_value *name = qn_host_field_of(v, "name");
        qn_extent e = {0};
        bool good =
            name && name->kind == QN_HOST_STRING && qn_extent_parse(fr, v, name->u.string.text, &e);
        x = !good ? bad() : e.dim ? qn_fval_node(qn_dim_node(fr, e.dim)) : qn_fval_int(e.n);
    } else {
        x.kind = QN_V_TABLE;
    }
    return x;
}

static const qn_host_value *capture(const frame *f, const char *name)
{
    for (int k = 0; k < f->function->u.function.ncaptures; k++) {
        if (strcmp(f->function->u.function.captures[k].name, name) == 0) {
            return f->function->u.function.captures[k].value;
        }
    }
    return NULL;
}

static bool is_captured(const frame *f, const char *name)
{
    for (int k = 0; k < f->function->u.function.ncaptures; k++) {
        if (strcmp(f->function->u.function.captures[k].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static qn_fval lookup(frame *f, const qn_ast *x)
{
    const qn_fval *v = local(f, x->text);
    if (v) {
        return *v;
    }
    if (is_captured(f, x->text)) {
        return qn_fval_of_host(f->fr, capture(f, x->text));
    }
    const qn_host_value *globals = capture(f, "_ENV");
    const qn_host_value *g =
        globals && globals->kind == QN_HOST_TABLE ? qn_host_field_of(globals, x->text) : NULL;
    if (g && g->kind != QN_HOST_NIL) {
        return qn_fval_of_host(f->fr, g);
    }
    qn_front_error(f->fr, "E-NAME", x->place, "'%s' is not defined", x->text);
    return bad();
}

/* ---------------------------------------------------------------- expressions */

static qn_fval eval(frame *f, const qn_ast *x);
static bool eval_list(frame *f, qn_ast *const *xs, int n, qn_fvals *out);

/* 1: true, 0: false, -1: decided by *node, -2: an error. nil and constants decide as in Lua. */
static int truth(qn_front *fr, const qn_fval *v, qn_place place, qn_node **node)
{
    switch (v->kind) {
    case QN_V_BAD:
        return -2;
    case QN_V_NIL:
        return 0;
    case QN_V_BOOL:
        return v->b;
    case QN_V_NODE:
        if (v->node->type == QN_N_BOOL) {
            *node = v->node;
            return v->node->x.kind == QN_LIT ? v->node->x.u.lit.i != 0 : -1;
        }
        break;
    case QN_V_INT:
    case QN_V_FLOAT:
    case QN_V_STRING:
    case QN_V_TABLE:
    case QN_V_FUNCTION:
    case QN_V_BUILTIN:
        return 1;
    case QN_V_TENSOR:
        if (v->nindex == 0) {
            return 1; /* given, not nil */
        }
        break;
    case QN_V_MIXED:
        break;
    }
    qn_front_error(fr, "E-COND", place, "the condition is %s", qn_fval_describe(v))->help =
        "a condition is boolean: compare with something, such as ~= 0";
    return -2;
}

static void push_path(qn_front *fr, qn_node *cond, bool holds)
{
    qn_fact p = {cond, holds};
    QN_PUSH(fr->ir->arena, &fr->path, p);
}

/* a `and` b, a `or` b, where a is at hand and b is still to be evaluated. */
static qn_fval joined(frame *f, const qn_ast *x, qn_fval a)
{
    qn_front *fr = f->fr;
    bool is_or = x->op == QN_LUA_OR;
    qn_node *cond = NULL;
    int t = truth(fr, &a, x->l->place, &cond);
    if (t == -2) {
        return bad();
    }
    if (t >= 0) {
        return t == is_or ? a : eval(f, x->r);
    }
    push_path(fr, cond, !is_or);
    qn_fval b = eval(f, x->r);
    fr->path.count--;
    if (b.kind == QN_V_NIL) {
        b = qn_fval_bool(false);
    }
    return qn_binary(fr, x->op, &a, &b, x->place);
}

/* `c and x or y` chooses where x is a number, which is always true. */
static qn_fval logical(frame *f, const qn_ast *x)
{
    qn_front *fr = f->fr;
    const qn_ast *l = x->l;
    if (x->op != QN_LUA_OR || l->kind != QN_AST_BINARY || l->op != QN_LUA_AND) {
        return joined(f, x, eval(f, l));
    }
    qn_node *cond = NULL;
    qn_fval c = eval(f, l->l);
    int t = truth(fr, &c, l->l->place, &cond);
    if (t == -2) {
        return bad();
    }
    if (t == 0) {
        return eval(f, x->r);
    }
    if (t == -1) {
        push_path(fr, cond, true);
    }
    qn_fval a = eval(f, l->r);
    fr->path.count -= t == -1;
    if (!qn_fval_is_number(&a)) {
        return joined(f, x, t == 1 ? a : qn_binary(fr, QN_LUA_AND, &c, &a, l->place));
    }
    if (t == 1) {
        return a;
    }
    push_path(fr, cond, false);
    qn_fval b = eval(f, x->r);
    fr->path.count--;
    qn_fval v = qn_choose(fr, cond, &a, &b);
    if (v.kind == QN_V_BAD && b.kind != QN_V_BAD) {
        qn_front_error(fr, "E-TYPE", x->place, "a choice between %s and %s", qn_fval_describe(&a),
                       qn_fval_describe(&b));
    }
    return v;
}

static qn_fval indexed(frame *f, const qn_ast *x)
{
    qn_front *fr = f->fr;
    qn_fval a = eval(f, x->l);
    qn_fval k = x->r->kind == QN_AST_STRING ? (qn_fval){.kind = QN_V_STRING, .text = x->r->text}
                                            : eval(f, x->r);
    if (a.kind == QN_V_BAD || k.kind == QN_V_BAD) {
        return bad();
    }
    if (a.kind == QN_V_TENSOR) {
        return qn_tensor_element(fr, &a, &k, x->place);
    }
    if (a.kind != QN_V_TABLE) {
        bool number = qn_fval_is_number(&a);
        qn_front_error(fr, number ? "E-RANK" : "E-TYPE", x->place, "%s is indexed",
                       qn_fval_describe(&a));
        return bad();
    }
    const qn_host_value *t = a.host;
    if (k.kind == QN_V_STRING) {
        return qn_fval_of_host(fr, qn_host_field_of(t, k.text));
    }
    if (k.kind == QN_V_FLOAT && k.f >= -1e15 && k.f <= 1e15 && k.f == (double)(int64_t)k.f) {
        k = qn_fval_int((int64_t)k.f);
    }
    if (k.kind == QN_V_INT) {
        bool inside = k.i >= 1 && k.i <= t->u.table.nitems;
        return inside ? qn_fval_of_host(fr, t->u.table.items[k.i - 1])
                      : (qn_fval){.kind = QN_V_NIL};
    }
    qn_front_error(fr, "E-CONST", x->place,
                   "a table of constants is indexed by something not known now")
        ->help = "pass it as a qn.tensor";
    return bad();
}

static bool call(frame *f, const qn_ast *x, qn_fvals *out)
{
    qn_front *fr = f->fr;
    qn_fval callee = eval(f, x->l);
    qn_fvals args = {0};
    if (callee.kind == QN_V_BAD || !eval_list(f, x->items, x->nitems, &args)) {
        return false;
    }
    if (callee.kind == QN_V_BUILTIN) {
        qn_fval v = qn_builtin(fr, callee.text, args.at, args.count, x->place);
        QN_PUSH(fr->ir->arena, out, v);
        return v.kind != QN_V_BAD;
    }
    if (callee.kind != QN_V_FUNCTION) {
        qn_front_error(fr, "E-CALL", x->place, "%s is called", qn_fval_describe(&callee));
        return false;
    }
    const qn_host_chunk *here = fr->chunk;
    bool good = qn_call_function(fr, callee.host, args.at, args.count, out, x->place);
    fr->chunk = here;
    return good;
}

static qn_fval eval_inner(frame *f, const qn_ast *x)
{
    qn_front *fr = f->fr;
    switch (x->kind) {
    case QN_AST_NIL:
        return (qn_fval){.kind = QN_V_NIL};
    case QN_AST_BOOL:
        return qn_fval_bool(x->b);
    case QN_AST_INT:
        return qn_fval_int(x->i);
    case QN_AST_FLOAT:
        return qn_fval_flt(x->f);
    case QN_AST_STRING:
        return (qn_fval){.kind = QN_V_STRING, .text = x->text};
    case QN_AST_NAME:
        return lookup(f, x);
    case QN_AST_INDEX:
        return indexed(f, x);
    case QN_AST_CALL: {
        qn_fvals out = {0};
        if (!call(f, x, &out)) {
            return bad();
        }
        return out.count ? out.at[0] : (qn_fval){.kind = QN_V_NIL};
    }
    case QN_AST_UNARY: {
        qn_fval a = eval(f, x->l);
        return qn_unary(fr, x->op, &a, x->place);
    }
    case QN_AST_BINARY:
        break;
    }
    if (x->op == QN_LUA_AND || x->op == QN_LUA_OR) {
        return logical(f, x);
    }
    qn_fval a = eval(f, x->l), b = eval(f, x->r);
    return qn_binary(fr, x->op, &a, &b, x->place);
}

static qn_fval eval(frame *f, const qn_ast *x)
{
    if (!spend(f->fr, x->place)) {
        return bad();
    }
    f->fr->depth++;
    qn_fval v = eval_inner(f, x);
    f->fr->depth--;
    return v;
}

/* Lua's lists: a call at the end gives all its results, elsewhere one. */
static bool eval_list(frame *f, qn_ast *const *xs, int n, qn_fvals *out)
{
    for (int k = 0; k < n; k++) {
        if (k == n - 1 && xs[k]->kind == QN_AST_CALL) {
            if (!spend(f->fr, xs[k]->place)) {
                return false;
            }
            f->fr->depth++;
            bool good = call(f, xs[k], out);
            f->fr->depth--;
            return good;
        }
        qn_fval v = eval(f, xs[k]);
        if (v.kind == QN_V_BAD) {
            return false;
        }
        QN_PUSH(f->fr->ir->arena, out, v);
    }
    return true;
}

/* ---------------------------------------------------------------- statements */

static outcome run(frame *f, const cont *c, qn_fvals *out);

static const cont *enter(frame *f, const qn_ast_block *b, const cont *next)
{
    cont *c = QN_NEW(f->fr->ir->arena, cont);
    c->block = b;
    c->scope = f->count;
    c->next = next;
    return c;
}

static const cont *after(frame *f, const cont *c)
{
    cont *d = QN_NEW(f->fr->ir->arena, cont);
    *d = *c;
    d->at++;
    return d;
}

static qn_fval merged(qn_front *fr, qn_node *cond, const qn_fval *a, const qn_fval *b)
{
    if (a->kind == b->kind) {
        bool equal = a->kind == QN_V_NODE     ? a->node == b->node
                     : a->kind == QN_V_INT    ? a->i == b->i
                     : a->kind == QN_V_FLOAT  ? a->f == b->f && a->f != 0
                     : a->kind == QN_V_STRING ? strcmp(a->text, b->text) == 0
                     : a->kind == QN_V_BOOL   ? a->b == b->b
                     : a->kind == QN_V_TENSOR
                         ? a->tensor == b->tensor && a->nindex == 0 && b->nindex == 0
                     : a->kind == QN_V_BUILTIN ? strcmp(a->text, b->text) == 0
                                               : a->host == b->host;
        if (equal) {
            return *a;
        }
    }
    qn_fval v = qn_choose(fr, cond, a, b);
    return v.kind == QN_V_BAD ? (qn_fval){.kind = QN_V_MIXED} : v;
}

static bool merge_results(qn_front *fr, qn_node *cond, const qn_fvals *a, const qn_fvals *b,
                          qn_fvals *out, qn_place place)
{
    if (a->count != b->count) {
        qn_front_error(fr, "E-RETURN", place, "one path returns %d result%s, another %d", a->count,
                       a->count == 1 ? "" : "s", b->count);
        return false;
    }
    for (int k = 0; k < a->count; k++) {
        qn_fval v = merged(fr, cond, &a->at[k], &b->at[k]);
        if (v.kind == QN_V_MIXED) {
            qn_front_error(fr, "E-RETURN", place, "one path returns %s, another %s",
                           qn_fval_describe(&a->at[k]), qn_fval_describe(&b->at[k]));
            return false;
        }
        QN_PUSH(fr->ir->arena, out, v);
    }
    return true;
}

/* The statement from its k-th condition on. *next is where to go on, if the outcome is ENDED. */
static outcome branch(frame *f, const qn_ast_stmt *s, int k, const cont *rest, const cont **next,
                      qn_fvals *out)
{
    qn_front *fr = f->fr;
    *next = rest;
    qn_node *cond = NULL;
    int t = 0;
    for (; k < s->nexprs; k++) {
        qn_fval c = eval(f, s->exprs[k]);
        t = truth(fr, &c, s->exprs[k]->place, &cond);
        if (t == -2) {
            return FAILED;
        }
        if (t != 0) {
            break;
        }
    }
    if (k >= s->nexprs || t == 1) {
        if (k < s->nblocks) {
            *next = enter(f, &s->blocks[k], rest);
        }
        return ENDED;
    }
    if (!spend(fr, s->place)) {
        return FAILED;
    }
    bool returns = false;
    for (int m = k; m < s->nblocks; m++) {
        returns |= s->blocks[m].returns;
    }
    const cont *tail = returns ? rest : NULL;
    frame g = fork(f);
    qn_fvals a = {0}, b = {0};
    int base = fr->path.count;
    push_path(fr, cond, true);
    outcome x = run(&g, enter(&g, &s->blocks[k], tail), &a);
    fr->path.count = base;
    frame other = fork(f);
    const cont *go = NULL;
    push_path(fr, cond, false);
    fr->depth++;
    outcome y = x == FAILED ? FAILED : branch(&other, s, k + 1, tail, &go, &b);
    fr->depth--;
    if (y == ENDED) {
        y = go ? run(&other, go, &b) : ENDED;
    }
    fr->path.count = base;
    if (x == FAILED || y == FAILED) {
        return FAILED;
    }
    if (x == RETURNED && y == RETURNED) {
        return merge_results(fr, cond, &a, &b, out, s->place) ? RETURNED : FAILED;
    }
    if (x != y) {
        qn_front_error(fr, "E-RETURN", s->place, "one path of this `if` ends without `return`");
        return FAILED;
    }
    if (returns) { /* both ran to the end of the function */
        *next = NULL;
        return ENDED;
    }
    for (int m = 0; m < f->count; m++) {
        f->vals[m] = merged(fr, cond, &g.vals[m], &other.vals[m]);
    }
    return ENDED;
}

static bool assign(frame *f, const qn_ast_stmt *s)
{
    qn_fvals vs = {0};
    if (!eval_list(f, s->exprs, s->nexprs, &vs)) {
        return false;
    }
    for (int k = 0; k < s->nnames; k++) {
        qn_fval v = k < vs.count ? vs.at[k] : (qn_fval){.kind = QN_V_NIL};
        if (s->kind == QN_AST_LOCAL) {
            define(f, s->names[k], v);
            continue;
        }
        qn_fval *to = local(f, s->names[k]);
        if (!to) {
            bool known = is_captured(f, s->names[k]);
            qn_front_error(f->fr, "E-ASSIGN", s->name_places[k],
                           known ? "'%s' lives outside of this function"
                                 : "'%s' is no local of this function",
                           s->names[k])
                ->help = "kernel functions have no effects: use a `local`";
            return false;
        }
        *to = v;
    }
    return true;
}

static bool loop_bound(frame *f, const qn_ast_stmt *s, int k, qn_fval *out)
{
    *out = k < s->nexprs ? eval(f, s->exprs[k]) : qn_fval_int(1);
    if (out->kind == QN_V_NODE && out->node->lin && out->node->lin->n == 0) {
        *out = qn_fval_int(out->node->lin->k); /* a size fixed by the options */
    }
    if (out->kind == QN_V_INT || (out->kind == QN_V_FLOAT && k < 3)) {
        return true;
    }
    if (out->kind != QN_V_BAD) {
        qn_front_error(f->fr, "E-CONST", s->exprs[k]->place,
                       "the bounds of `for` must be known now; this is %s", qn_fval_describe(out))
            ->help = "loops are unrolled: a constant bound, and `if` inside";
    }
    return false;
}

/* Is the loop's value still within its last? */
static bool in_loop(const cont *c)
{
    if (c->value.kind == QN_V_INT && c->last.kind == QN_V_INT) {
        return c->step.i > 0 ? c->value.i <= c->last.i : c->value.i >= c->last.i;
    }
    double v = c->value.kind == QN_V_INT ? (double)c->value.i : c->value.f;
    double last = c->last.kind == QN_V_INT ? (double)c->last.i : c->last.f;
    double step = c->step.kind == QN_V_INT ? (double)c->step.i : c->step.f;
    return step > 0 ? v <= last : v >= last;
}

/* The body with its variable, or what follows the loop. */
static const cont *round_of(frame *f, const cont *c)
{
    if (!in_loop(c)) {
        return c->next;
    }
    define(f, c->loop->names[0], c->value);
    return c;
}

static const cont *loop(frame *f, const qn_ast_stmt *s, const cont *rest)
{
    cont *c = QN_NEW(f->fr->ir->arena, cont);
    *c = (cont){.block = &s->blocks[0], .scope = f->count, .loop = s, .next = rest};
    if (!loop_bound(f, s, 0, &c->value) || !loop_bound(f, s, 1, &c->last) ||
        !loop_bound(f, s, 2, &c->step)) {
        return NULL;
    }
    bool ints = c->value.kind == QN_V_INT && c->step.kind == QN_V_INT;
    if ((c->step.kind == QN_V_INT && c->step.i == 0) ||
        (c->step.kind == QN_V_FLOAT && c->step.f == 0)) {
        qn_front_error(f->fr, "E-CONST", s->place, "the step of `for` is 0");
        return NULL;
    }
    if (!ints) {
        c->value = qn_fval_flt(c->value.kind == QN_V_INT ? (double)c->value.i : c->value.f);
        c->step = qn_fval_flt(c->step.kind == QN_V_INT ? (double)c->step.i : c->step.f);
    }
    return round_of(f, c);
}

static const cont *again(frame *f, const cont *c)
{
    cont *d = QN_NEW(f->fr->ir->arena, cont);
    *d = *c;
    d->at = 0;
    if (c->value.kind == QN_V_INT) {
        if (__builtin_add_overflow(c->value.i, c->step.i, &d->value.i)) {
            return c->next;
        }
    } else {
        d->value.f += c->step.f;
    }
    return round_of(f, d);
}

static outcome run_inner(frame *f, const cont *c, qn_fvals *out)
{
    qn_front *fr = f->fr;
    while (c) {
        if (c->at == c->block->count) {
            f->count = c->scope;
            if (!spend(fr, f->function->place)) {
                return FAILED;
            }
            c = c->loop ? again(f, c) : c->next;
            continue;
        }
        const qn_ast_stmt *s = c->block->at[c->at];
        const cont *rest = after(f, c);
        if (!spend(fr, s->place)) {
            return FAILED;
        }
        switch (s->kind) {
        case QN_AST_LOCAL:
        case QN_AST_ASSIGN:
            if (!assign(f, s)) {
                return FAILED;
            }
            c = rest;
            break;
        case QN_AST_DO:
            c = enter(f, &s->blocks[0], rest);
            break;
        case QN_AST_FOR: {
            int errors = fr->d->errors;
            c = loop(f, s, rest);
            if (fr->d->errors > errors) {
                return FAILED;
            }
            break;
        }
        case QN_AST_IF: {
            outcome x = branch(f, s, 0, rest, &c, out);
            if (x != ENDED) {
                return x;
            }
            break;
        }
        case QN_AST_RETURN:
            return eval_list(f, s->exprs, s->nexprs, out) ? RETURNED : FAILED;
        }
    }
    return ENDED;
}

static outcome run(frame *f, const cont *c, qn_fvals *out)
{
    f->fr->depth += 4;
    outcome x = run_inner(f, c, out);
    f->fr->depth -= 4;
    return x;
}

static const qn_ast_function *tree_of(qn_front *fr, const qn_host_value *function)
{
    for (int k = 0; k < fr->parsed.count; k++) {
        if (fr->parsed.at[k].host == function) {
            return fr->parsed.at[k].tree;
        }
    }
    qn_parsed p = {function, function->chunk ? qn_ast_parse(fr->ir, function, fr->d) : NULL};
    if (!function->chunk) {
        qn_host_error(fr, "E-CALL", function, "the text of this function is not known");
    }
    QN_PUSH(fr->ir->arena, &fr->parsed, p);
    return p.tree;
}

bool qn_call_function(qn_front *fr, const qn_host_value *function, const qn_fval *args, int n,
                      qn_fvals *out, qn_place place)
{
    for (int k = 0; k < fr->calls.count; k++) {
        if (fr->calls.at[k] == function) {
            qn_front_error(fr, "E-RECUR", place, "this call reaches the function that it is in")
                ->help = "kernel functions are inlined: write a `for` with constant bounds";
            return false;
        }
    }
    if (fr->calls.count >= MAX_CALLS) {
        qn_front_error(fr, "E-DEPTH", place, "more than %d calls inside each other", MAX_CALLS);
        return false;
    }
    const qn_ast_function *tree = tree_of(fr, function);
    if (!tree) {
        return false;
    }
    frame f = {.fr = fr, .function = function};
    fr->chunk = function->chunk;
    for (int k = 0; k < tree->nparams; k++) {
        define(&f, tree->params[k], k < n ? args[k] : (qn_fval){.kind = QN_V_NIL});
    }
    QN_PUSH(fr->ir->arena, &fr->calls, function);
    outcome x = run(&f, enter(&f, &tree->body, NULL), out);
    fr->calls.count--;
    if (x == ENDED) {
        qn_front_error(fr, "E-RETURN", tree->place, "this function can end without `return`")
            ->help = "every path returns a value";
    }
    return x == RETURNED;
}
