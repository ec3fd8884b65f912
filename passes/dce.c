/* SPDX-License-Identifier: MIT
 *
 * dce: what nothing uses goes.
 *
 * needs  nothing
 * makes  no value, buffer, carried value, branch result, loop, nest or launch without a use; stores
 *        to buffers that nobody reads go with them
 * law    stores to parameters, flags and asynchronous copies stay, and all that they need
 *
 * *mark* numbers what can be taken out (a node: a statement, a carried value, a branch result),
 * notes which node needs which, and spreads life from the effects. *sweep* walks the same way again
 * and takes out what did not come to life. */
#include "ir/build.h"
#include "passes/tools.h"

#include <string.h>

typedef struct need {
    int32_t node, next; /* next need of the same node, -1: none */
} need;

typedef struct node {
    int32_t first; /* of its needs */
    bool live;
} node;

typedef struct visible {
    qn_sym name;
    int32_t node;
} visible;

typedef struct reaper {
    qn_ir *ir;
    qn_arena *arena;
    struct {
        node *at;
        int32_t count, cap;
    } nodes;
    struct {
        need *at;
        int32_t count, cap;
    } needs;
    struct {
        visible *at;
        int32_t count, cap;
    } scope;
    struct {
        int32_t *at;
        int32_t count, cap;
    } work;
    int32_t user;   /* the node whose expressions are visited */
    int32_t cursor; /* of the sweep */
} reaper;

static int32_t add_node(reaper *r)
{
    node n = {-1, false};
    QN_PUSH(r->arena, &r->nodes, n);
    return r->nodes.count - 1;
}

static void add_need(reaper *r, int32_t from, int32_t to)
{
    if (from >= 0 && to >= 0) {
        need n = {to, r->nodes.at[from].first};
        r->nodes.at[from].first = r->needs.count;
        QN_PUSH(r->arena, &r->needs, n);
    }
}

static void wake(reaper *r, int32_t n)
{
    if (n >= 0 && !r->nodes.at[n].live) {
        r->nodes.at[n].live = true;
        QN_PUSH(r->arena, &r->work, n);
    }
}

static void show(reaper *r, qn_sym name, int32_t node_id)
{
    visible v = {name, node_id};
    QN_PUSH(r->arena, &r->scope, v);
}

static int32_t lookup(const reaper *r, qn_sym name)
{
    for (int n = r->scope.count - 1; n >= 0; n--) {
        if (r->scope.at[n].name == name) {
            return r->scope.at[n].node;
        }
    }
    return -1; /* a dim, a parameter, an index */
}

static bool note_use(void *user, const qn_expr *x)
{
    reaper *r = user;
    if (x->kind == QN_NAME) {
        add_need(r, r->user, lookup(r, x->u.name));
    } else if (x->kind == QN_LOAD) {
        add_need(r, r->user, lookup(r, x->u.load.base));
    }
    return true;
}

static void uses(reaper *r, int32_t user, const qn_expr *x)
{
    r->user = user;
    if (x) {
        qn_visit(x, note_use, r);
    }
}

static void attr_uses(reaper *r, int32_t user, const qn_attrs *attrs)
{
    for (int n = 0; n < attrs->count; n++) {
        for (int k = 0; k < attrs->at[n].nargs; k++) {
            uses(r, user, attrs->at[n].args[k].lo);
            uses(r, user, attrs->at[n].args[k].hi);
        }
    }
}

/* ---------------------------------------------------------------- mark */

static void mark_block(reaper *r, const qn_block *b, int32_t around, int32_t first,
                       int32_t nresults);

static void mark_loop(reaper *r, const qn_stmt *s, int32_t around)
{
    int32_t frame = add_node(r), first = r->nodes.count;
    add_need(r, frame, around);
    attr_uses(r, frame, &s->attrs);
    uses(r, frame, s->u.loop.cost);
    int32_t outside = r->scope.count;
    for (int n = 0; n < s->u.loop.niters; n++) {
        const qn_iter *it = &s->u.loop.iters[n];
        for (int k = 0; k < it->npieces; k++) {
            const qn_piece *p = &it->pieces[k];
            if (p->list) {
                add_need(r, frame, lookup(r, p->list));
            }
            for (int j = 0; j < p->index.count; j++) {
                uses(r, frame, p->index.at[j]);
            }
            uses(r, frame, p->lo);
            uses(r, frame, p->hi);
        }
        uses(r, frame, it->step);
        show(r, it->name, -1); /* hides nothing: indices and values have no name in common */
        if (it->end) {
            show(r, it->end, -1);
        }
    }
    for (int n = 0; n < s->u.loop.ncarries; n++) {
        int32_t c = add_node(r);
        add_need(r, c, frame);
        uses(r, c, s->u.loop.carries[n].init);
    }
    for (int n = 0; n < s->u.loop.ncarries; n++) {
        show(r, s->u.loop.carries[n].name, first + n);
    }
    mark_block(r, &s->u.loop.body, frame, first, s->u.loop.ncarries);
    r->scope.count = outside;
    for (int n = 0; n < s->u.loop.ncarries; n++) {
        show(r, s->u.loop.carries[n].name, first + n);
    }
}

static void mark_if(reaper *r, const qn_stmt *s, int32_t around)
{
    int32_t frame = add_node(r), first = r->nodes.count;
    add_need(r, frame, around);
    uses(r, frame, s->u.branch.cond);
    for (int n = 0; n < s->u.branch.nnames; n++) {
        add_need(r, add_node(r), frame);
    }
    mark_block(r, &s->u.branch.then, frame, first, s->u.branch.nnames);
    mark_block(r, &s->u.branch.other, frame, first, s->u.branch.nnames);
    for (int n = 0; n < s->u.branch.nnames; n++) {
        show(r, s->u.branch.names[n], first + n);
    }
}

static void mark_store(reaper *r, const qn_stmt *s, int32_t around)
{
    int32_t n = add_node(r), memory = lookup(r, s->u.store.base);
    add_need(r, n, around);
    attr_uses(r, n, &s->attrs);
    uses(r, n, s->u.store.x);
    for (int k = 0; k < s->u.store.index.count; k++) {
        uses(r, n, s->u.store.index.at[k]);
    }
    if (memory < 0 || s->u.store.start) {
        wake(r, n); /* a parameter */
    }
    add_need(r, n, memory);
    add_need(r, memory, n); /* a buffer that is read needs what was stored */
}

static void mark_stmt(reaper *r, const qn_stmt *s, int32_t around, int32_t first, int32_t nresults)
{
    int32_t n;
    switch (s->kind) {
    case QN_LET:
        n = add_node(r);
        add_need(r, n, around);
        attr_uses(r, n, &s->attrs);
        uses(r, n, s->u.let.x);
        for (int k = 0; k < s->u.let.nnames; k++) {
            show(r, s->u.let.names[k], n);
        }
        break;
    case QN_BUF:
        n = add_node(r);
        add_need(r, n, around);
        show(r, s->u.buf.name, n);
        break;
    case QN_STORE:
        mark_store(r, s, around);
        break;
    case QN_FOR:
        mark_loop(r, s, around);
        break;
    case QN_IF:
        mark_if(r, s, around);
        break;
    case QN_YIELD:
        for (int k = 0; k < s->u.yield.count && k < nresults; k++) {
            uses(r, first + k, s->u.yield.at[k]);
        }
        break;
    case QN_LAUNCH:
        n = add_node(r);
        add_need(r, n, around);
        mark_block(r, &s->u.launch, n, 0, 0);
        break;
    case QN_SYNC:
        n = add_node(r);
        add_need(r, n, around);
        add_need(r, n, lookup(r, s->u.sync.base));
        for (int k = 0; k < s->u.sync.index.count; k++) {
            uses(r, n, s->u.sync.index.at[k]);
        }
        wake(r, n);
        break;
    case QN_FLAG:
        n = add_node(r);
        add_need(r, n, around);
        uses(r, n, s->u.flag.cond);
        wake(r, n);
        break;
    case QN_PREFETCH: /* lives if the loop around it does */
        n = add_node(r);
        add_need(r, around, n);
        for (int k = 0; k < s->u.prefetch.index.count; k++) {
            uses(r, n, s->u.prefetch.index.at[k]);
        }
        break;
    }
}

/* The block lives only inside `around`; its yields feed the nodes first .. first + nresults - 1. */
static void mark_block(reaper *r, const qn_block *b, int32_t around, int32_t first,
                       int32_t nresults)
{
    int32_t outside = r->scope.count;
    for (int n = 0; n < b->count; n++) {
        mark_stmt(r, b->at[n], around, first, nresults);
    }
    if (around >= 0) {
        r->scope.count = outside;
    }
}

static void spread(reaper *r)
{
    while (r->work.count > 0) {
        int32_t n = r->work.at[--r->work.count];
        for (int32_t k = r->nodes.at[n].first; k >= 0; k = r->needs.at[k].next) {
            wake(r, r->needs.at[k].node);
        }
    }
}

/* ---------------------------------------------------------------- sweep */

static void sweep_block(reaper *r, qn_block *b, int32_t first, int32_t nresults);

static void sweep_yield(reaper *r, qn_stmt *s, int32_t first, int32_t nresults)
{
    qn_expr **at = QN_NEWN(r->ir->arena, qn_expr *, nresults + 1);
    int kept = 0;
    for (int n = 0; n < s->u.yield.count && n < nresults; n++) {
        if (r->nodes.at[first + n].live) {
            at[kept++] = s->u.yield.at[n];
        }
    }
    s->u.yield = (qn_exprs){at, kept};
}

static void sweep_loop(reaper *r, qn_stmt *s)
{
    int n = s->u.loop.ncarries, kept = 0;
    int32_t first = r->cursor;
    r->cursor += n;
    sweep_block(r, &s->u.loop.body, first, n);
    qn_carry *carries = QN_NEWN(r->ir->arena, qn_carry, n + 1);
    for (int k = 0; k < n; k++) {
        if (r->nodes.at[first + k].live) {
            carries[kept++] = s->u.loop.carries[k];
        }
    }
    s->u.loop.carries = carries;
    s->u.loop.ncarries = kept;
}

static void sweep_if(reaper *r, qn_stmt *s)
{
    int n = s->u.branch.nnames, kept = 0;
    int32_t first = r->cursor;
    r->cursor += n;
    sweep_block(r, &s->u.branch.then, first, n);
    sweep_block(r, &s->u.branch.other, first, n);
    qn_sym *names = QN_NEWN(r->ir->arena, qn_sym, n + 1);
    for (int k = 0; k < n; k++) {
        if (r->nodes.at[first + k].live) {
            names[kept++] = s->u.branch.names[k];
        }
    }
    s->u.branch.names = names;
    s->u.branch.nnames = kept;
    s->u.branch.has_else = s->u.branch.has_else && (s->u.branch.other.count > 0 || kept > 0);
}

static bool sweep_stmt(reaper *r, qn_stmt *s, int32_t first, int32_t nresults)
{
    if (s->kind == QN_YIELD) {
        sweep_yield(r, s, first, nresults);
        return s->u.yield.count > 0;
    }
    bool live = r->nodes.at[r->cursor++].live;
    switch (s->kind) {
    case QN_FOR:
        sweep_loop(r, s);
        break;
    case QN_IF:
        sweep_if(r, s);
        break;
    case QN_LAUNCH:
        sweep_block(r, &s->u.launch, 0, 0);
        break;
    case QN_LET:
    case QN_BUF:
    case QN_STORE:
    case QN_YIELD:
    case QN_SYNC:
    case QN_FLAG:
    case QN_PREFETCH:
        break;
    }
    return live;
}

static void sweep_block(reaper *r, qn_block *b, int32_t first, int32_t nresults)
{
    int kept = 0;
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (sweep_stmt(r, s, first, nresults)) {
            b->at[kept++] = s;
        }
    }
    b->count = kept;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    (void)f;
    reaper r = {.ir = cx->ir, .arena = cx->scratch};
    mark_block(&r, &k->body, -1, 0, 0);
    spread(&r);
    sweep_block(&r, &k->body, 0, 0);
    return true;
}

const qn_pass qn_pass_dce = {
    .name = "dce",
    .doc = "what nothing uses goes",
    .run = run,
};
