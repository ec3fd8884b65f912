/* SPDX-License-Identifier: MIT
 * Nodes: typed scalar expressions, one node for equal ones, so that sharing is identity and nothing
 * grows by being used twice. Ids rise from children to parents: walks over a graph are walks over
 * an array and never recurse. */
#include "frontend/front.h"

#include <math.h>
#include <string.h>

enum { MAX_NODES = 200000, LET_DEPTH = 24 };

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t of_pointer(const void *p)
{
    return (uint64_t)(uintptr_t)p;
}

static uint64_t of_double(double f)
{
    uint64_t v;
    memcpy(&v, &f, sizeof v);
    return v;
}

static void children(const qn_expr *x, qn_expr *const **at, int *n)
{
    bool op = x->kind == QN_OP, load = x->kind == QN_LOAD;
    *at = op ? x->u.op.args.at : load ? x->u.load.index.at : NULL;
    *n = op ? x->u.op.args.count : load ? x->u.load.index.count : 0;
}

static uint64_t hash(const qn_node *n)
{
    const qn_expr *x = &n->x;
    qn_expr *const *at;
    int count;
    uint64_t h = mix((uint64_t)x->kind, (uint64_t)n->type);
    children(x, &at, &count);
    for (int k = 0; k < count; k++) {
        h = mix(h, of_pointer(at[k]));
    }
    switch (x->kind) {
    case QN_LIT:
        return mix(mix(h, (uint64_t)x->u.lit.i), of_double(x->u.lit.f));
    case QN_NAME:
        return mix(h, of_pointer(x->u.name));
    case QN_OP:
        return mix(mix(h, (uint64_t)x->u.op.op), (uint64_t)x->u.op.cast);
    case QN_LOAD:
        return mix(mix(h, of_pointer(x->u.load.base)), x->u.load.guarded);
    case QN_IOTA:
    case QN_AXOP:
    case QN_FOLD:
    case QN_AS:
        break;
    }
    return h;
}

static bool same(const qn_node *a, const qn_node *b)
{
    const qn_expr *x = &a->x, *y = &b->x;
    if (x->kind != y->kind || a->type != b->type) {
        return false;
    }
    qn_expr *const *p, *const *q;
    int n, m;
    children(x, &p, &n);
    children(y, &q, &m);
    if (n != m || (n && memcmp(p, q, sizeof *p * (size_t)n) != 0)) {
        return false;
    }
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.type == y->u.lit.type && x->u.lit.i == y->u.lit.i &&
               of_double(x->u.lit.f) == of_double(y->u.lit.f);
    case QN_NAME:
        return x->u.name == y->u.name;
    case QN_OP:
        return x->u.op.op == y->u.op.op && x->u.op.cast == y->u.op.cast;
    case QN_LOAD:
        return x->u.load.base == y->u.load.base && x->u.load.guarded == y->u.load.guarded;
    case QN_IOTA:
    case QN_AXOP:
    case QN_FOLD:
    case QN_AS:
        break;
    }
    return false;
}

static void widen(qn_front *fr)
{
    uint32_t cap = fr->table.cap ? fr->table.cap * 2 : 256;
    qn_node **at = QN_NEWN(fr->ir->arena, qn_node *, cap);
    for (int k = 0; k < fr->nodes.count; k++) {
        uint64_t h = hash(fr->nodes.at[k]);
        while (at[h & (cap - 1)]) {
            h++;
        }
        at[h & (cap - 1)] = fr->nodes.at[k];
    }
    fr->table.at = at;
    fr->table.cap = cap;
}

/* The node equal to *draft, made if there is none. */
static qn_node *made(qn_front *fr, const qn_node *draft)
{
    if ((uint32_t)fr->nodes.count * 2 >= fr->table.cap) {
        widen(fr);
    }
    uint64_t h = hash(draft);
    for (;; h++) {
        qn_node *n = fr->table.at[h & (fr->table.cap - 1)];
        if (!n) {
            break;
        }
        if (same(n, draft)) {
            return n;
        }
    }
    if (fr->nodes.count >= MAX_NODES && fr->fuel > 0) {
        fr->fuel = 0; /* eval.c says so at its next step */
    }
    qn_node *n = QN_NEW(fr->ir->arena, qn_node);
    *n = *draft;
    n->id = fr->nodes.count;
    qn_expr *const *at;
    int count;
    children(&n->x, &at, &count);
    for (int k = 0; k < count; k++) {
        const qn_node *c = (const qn_node *)at[k];
        n->uses |= c->uses;
        n->depth = c->depth >= n->depth ? c->depth + 1 : n->depth;
    }
    QN_PUSH(fr->ir->arena, &fr->nodes, n);
    fr->table.at[h & (fr->table.cap - 1)] = n;
    if (n->type == QN_N_INT) {
        n->lin = qn_flin_of(fr, n);
    }
    return n;
}

qn_node *qn_node_int(qn_front *fr, int64_t i)
{
    qn_node n = {.type = QN_N_INT};
    if (i == INT64_MIN) { /* has no literal */
        return qn_node_op2(fr, QN_OP_SUB, QN_N_INT, qn_node_int(fr, -INT64_MAX),
                           qn_node_int(fr, 1));
    }
    n.x.kind = QN_LIT;
    n.x.u.lit.type = QN_INT_LIT;
    n.x.u.lit.i = i < 0 ? -i : i;
    qn_node *lit = made(fr, &n);
    return i < 0 ? qn_node_op1(fr, QN_OP_NEG, QN_N_INT, lit) : lit;
}

qn_node *qn_node_flt(qn_front *fr, double f, qn_ntype type)
{
    qn_node n = {.type = type};
    if (type == QN_N_FLT && fr->spec->number == QN_F32 && isinf((float)f)) {
        f = (double)(float)f; /* what a literal of f32 cannot hold is infinite there */
    }
    bool minus = f < 0 || (f == 0 && of_double(f) != 0);
    n.x.kind = QN_LIT;
    n.x.u.lit.type = QN_FLT_LIT;
    n.x.u.lit.f = minus ? -f : f;
    qn_node *lit = made(fr, &n);
    return minus ? qn_node_op1(fr, QN_OP_NEG, type, lit) : lit;
}

qn_node *qn_node_bool(qn_front *fr, bool b)
{
    qn_node n = {.type = QN_N_BOOL};
    n.x.kind = QN_LIT;
    n.x.u.lit.type = QN_BOOL;
    n.x.u.lit.i = b;
    return made(fr, &n);
}

qn_node *qn_node_name(qn_front *fr, qn_sym name, qn_ntype type, uint32_t uses)
{
    qn_node n = {.type = type, .uses = uses};
    n.x.kind = QN_NAME;
    n.x.u.name = name;
    return made(fr, &n);
}

qn_node *qn_node_op(qn_front *fr, qn_op op, qn_ntype type, qn_node *const *args, int count)
{
    qn_node n = {.type = type};
    n.x.kind = QN_OP;
    n.x.u.op.op = op;
    n.x.u.op.args = qn_exprs_of(fr->ir, (qn_expr *const *)args, count);
    return made(fr, &n);
}

qn_node *qn_node_op1(qn_front *fr, qn_op op, qn_ntype type, qn_node *a)
{
    return qn_node_op(fr, op, type, (qn_node *[]){a}, 1);
}

qn_node *qn_node_op2(qn_front *fr, qn_op op, qn_ntype type, qn_node *a, qn_node *b)
{
    return qn_node_op(fr, op, type, (qn_node *[]){a, b}, 2);
}

qn_node *qn_node_op3(qn_front *fr, qn_op op, qn_ntype type, qn_node *a, qn_node *b, qn_node *c)
{
    return qn_node_op(fr, op, type, (qn_node *[]){a, b, c}, 3);
}

qn_node *qn_node_cast(qn_front *fr, qn_dtype to, qn_ntype type, qn_node *a)
{
    qn_node n = {.type = type};
    n.x.kind = QN_OP;
    n.x.u.op.op = QN_OP_CAST;
    n.x.u.op.cast = to;
    n.x.u.op.args = qn_exprs_of(fr->ir, (qn_expr *[]){&a->x}, 1);
    return made(fr, &n);
}

qn_node *qn_node_load(qn_front *fr, qn_sym base, qn_node *const *index, int count, bool guarded,
                      qn_ntype type)
{
    qn_node n = {.type = type, .uses = QN_USES_DATA};
    n.x.kind = QN_LOAD;
    n.x.u.load.base = base;
    n.x.u.load.index = qn_exprs_of(fr->ir, (qn_expr *const *)index, count);
    n.x.u.load.guarded = guarded;
    return made(fr, &n);
}

/* ---------------------------------------------------------------- to functions of the spec */

static bool is_simple(const qn_expr *x)
{
    bool minus = x->kind == QN_OP && x->u.op.op == QN_OP_NEG && x->u.op.args.at[0]->kind == QN_LIT;
    bool widening =
        x->kind == QN_OP && x->u.op.op == QN_OP_CAST && x->u.op.args.at[0]->kind == QN_NAME;
    return x->kind == QN_LIT || x->kind == QN_NAME || minus || widening;
}

static qn_expr *with_children(qn_front *fr, const qn_node *n, qn_expr *const *done)
{
    qn_expr *const *at;
    int count;
    qn_expr *x = QN_NEW(fr->ir->arena, qn_expr);
    *x = n->x;
    children(&n->x, &at, &count);
    if (count) {
        qn_expr **copy = QN_NEWN(fr->ir->arena, qn_expr *, count);
        for (int k = 0; k < count; k++) {
            copy[k] = done[((const qn_node *)at[k])->id];
        }
        if (x->kind == QN_OP) {
            x->u.op.args.at = copy;
        } else {
            x->u.load.index.at = copy;
        }
    }
    return x;
}

typedef struct let_names {
    qn_sym *at;
    int32_t count, cap;
} let_names;

static qn_sym fresh_let(qn_front *fr, let_names *used, qn_sym hint)
{
    for (int k = 0;; k++) {
        qn_buf b = qn_buf_of(fr->ir->arena);
        qn_buf_printf(&b, "%%%s", hint ? hint : "t");
        if (k || !hint) {
            qn_buf_printf(&b, "%d", hint ? k + 1 : used->count + k + 1);
        }
        qn_sym s = qn_intern(fr->ir, b.text);
        bool taken = false;
        for (int m = 0; m < used->count && !taken; m++) {
            taken = used->at[m] == s;
        }
        if (!taken) {
            QN_PUSH(fr->ir->arena, used, s);
            return s;
        }
    }
}

qn_spec_fn *qn_node_function(qn_front *fr, qn_node *const *results, int n, qn_expr *const *flags,
                             int nflags)
{
    qn_arena *a = fr->ir->arena;
    int count = fr->nodes.count;
    int32_t *refs = QN_NEWN(a, int32_t, count + 1);
    int32_t *depth = QN_NEWN(a, int32_t, count + 1);
    qn_expr **done = QN_NEWN(a, qn_expr *, count + 1);
    struct {
        qn_spec_let *at;
        int32_t count, cap;
    } lets = {0};
    let_names used = {0};
    for (int k = 0; k < n; k++) {
        refs[results[k]->id]++;
    }
    for (int k = 0; k < nflags; k++) {
        refs[((const qn_node *)flags[k])->id]++;
    }
    for (int id = count - 1; id >= 0; id--) {
        qn_expr *const *at;
        int m;
        children(&fr->nodes.at[id]->x, &at, &m);
        for (int k = 0; refs[id] && k < m; k++) {
            refs[((const qn_node *)at[k])->id]++;
        }
    }
    for (int id = 0; id < count; id++) {
        const qn_node *node = fr->nodes.at[id];
        qn_expr *const *at;
        int m;
        if (!refs[id]) {
            continue;
        }
        done[id] = with_children(fr, node, done);
        children(&node->x, &at, &m);
        for (int k = 0; k < m; k++) {
            int32_t below = depth[((const qn_node *)at[k])->id] + 1;
            depth[id] = below > depth[id] ? below : depth[id];
        }
        if ((refs[id] > 1 && !is_simple(&node->x)) || depth[id] >= LET_DEPTH) {
            qn_spec_let let = {fresh_let(fr, &used, node->hint), done[id]};
            QN_PUSH(a, &lets, let);
            done[id] = qn_name(fr->ir, let.name);
            depth[id] = 0;
        }
    }
    qn_spec_fn *f = QN_NEW(a, qn_spec_fn);
    qn_expr **rs = QN_NEWN(a, qn_expr *, n + 1), **fs = QN_NEWN(a, qn_expr *, nflags + 1);
    for (int k = 0; k < n; k++) {
        rs[k] = done[results[k]->id];
    }
    for (int k = 0; k < nflags; k++) {
        fs[k] = done[((const qn_node *)flags[k])->id];
    }
    *f = (qn_spec_fn){lets.at, lets.count, rs, n, fs, nflags};
    return f;
}
