/* SPDX-License-Identifier: MIT
 *
 * Traversal, comparison and rewriting; see walk.h.
 * Two tables of children carry the file: children() lists the expressions below an expression, and
 * owned() those that a statement owns, both in the order of the text. Visits read them; rewrites
 * are their mirror images and build a new node only where a child changed. Depth of recursion is
 * that of the nesting of the text, which the parser bounds. */
#include "ir/walk.h"

#include "ir/build.h"
#include "ir/schedule.h"
#include <stdint.h>
#include <string.h>

/* ---------------------------------------------------------------- equality and hash */

static bool exprs_equal(qn_exprs a, qn_exprs b)
{
    if (a.count != b.count) {
        return false;
    }
    for (int k = 0; k < a.count; k++) {
        if (!qn_expr_equal(a.at[k], b.at[k])) {
            return false;
        }
    }
    return true;
}

static bool syms_equal(const qn_sym *a, int na, const qn_sym *b, int nb)
{
    if (na != nb) {
        return false;
    }
    for (int k = 0; k < na; k++) {
        if (a[k] != b[k]) {
            return false;
        }
    }
    return true;
}

static bool axis_equal(qn_axis a, qn_axis b)
{
    return a.name == b.name && qn_extent_equal(a.extent, b.extent);
}

bool qn_expr_equal(const qn_expr *a, const qn_expr *b)
{
    if (a == b) {
        return true;
    }
    if (!a || !b || a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case QN_LIT: /* floats bit by bit: a NaN equals itself */
        return a->u.lit.type == b->u.lit.type && a->u.lit.i == b->u.lit.i &&
               memcmp(&a->u.lit.f, &b->u.lit.f, sizeof a->u.lit.f) == 0;
    case QN_NAME:
        return a->u.name == b->u.name;
    case QN_IOTA:
        return axis_equal(a->u.iota, b->u.iota);
    case QN_LOAD:
        return a->u.load.base == b->u.load.base && a->u.load.guarded == b->u.load.guarded &&
               qn_expr_equal(a->u.load.pad, b->u.load.pad) &&
               exprs_equal(a->u.load.index, b->u.load.index);
    case QN_OP:
        return a->u.op.op == b->u.op.op &&
               (a->u.op.op != QN_OP_CAST || a->u.op.cast == b->u.op.cast) &&
               exprs_equal(a->u.op.args, b->u.op.args);
    case QN_AXOP:
        return a->u.axop.op == b->u.axop.op &&
               syms_equal(a->u.axop.over, a->u.axop.nover, b->u.axop.over, b->u.axop.nover) &&
               (a->u.axop.op != QN_AX_TOPK || axis_equal(a->u.axop.fresh, b->u.axop.fresh)) &&
               exprs_equal(a->u.axop.args, b->u.axop.args);
    case QN_FOLD:
        return a->u.fold.norm == b->u.fold.norm &&
               syms_equal(a->u.fold.over, a->u.fold.nover, b->u.fold.over, b->u.fold.nover) &&
               exprs_equal(a->u.fold.args, b->u.fold.args) &&
               qn_expr_equal(a->u.fold.where, b->u.fold.where);
    case QN_AS:
        if (a->u.as.npairs != b->u.as.npairs) {
            return false;
        }
        for (int k = 0; k < a->u.as.npairs; k++) {
            if (a->u.as.pairs[k].from != b->u.as.pairs[k].from ||
                a->u.as.pairs[k].to != b->u.as.pairs[k].to) {
                return false;
            }
        }
        return qn_expr_equal(a->u.as.x, b->u.as.x);
    }
    return false;
}

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* By the letters, not by the address, so that a hash is the same in every run. */
static uint64_t mix_sym(uint64_t h, qn_sym s)
{
    for (; s && *s; s++) {
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    }
    return mix(h, 0x5b);
}

static uint64_t mix_exprs(uint64_t h, qn_exprs xs)
{
    for (int k = 0; k < xs.count; k++) {
        h = mix(h, qn_expr_hash(xs.at[k]));
    }
    return mix(h, (uint64_t)xs.count);
}

static uint64_t mix_syms(uint64_t h, const qn_sym *at, int n)
{
    for (int k = 0; k < n; k++) {
        h = mix_sym(h, at[k]);
    }
    return h;
}

static uint64_t mix_axis(uint64_t h, qn_axis a)
{
    return mix(mix_sym(mix_sym(h, a.name), a.extent.dim), a.extent.dim ? 0 : (uint64_t)a.extent.n);
}

uint64_t qn_expr_hash(const qn_expr *x)
{
    if (!x) {
        return 0;
    }
    uint64_t h = mix(0x71756572u, (uint64_t)x->kind), bits = 0;
    switch (x->kind) {
    case QN_LIT:
        memcpy(&bits, &x->u.lit.f, sizeof bits);
        return mix(mix(mix(h, (uint64_t)x->u.lit.type), (uint64_t)x->u.lit.i), bits);
    case QN_NAME:
        return mix_sym(h, x->u.name);
    case QN_IOTA:
        return mix_axis(h, x->u.iota);
    case QN_LOAD:
        h = mix(mix_sym(h, x->u.load.base), x->u.load.guarded);
        return mix_exprs(mix(h, qn_expr_hash(x->u.load.pad)), x->u.load.index);
    case QN_OP:
        h = mix(h, (uint64_t)x->u.op.op);
        h = x->u.op.op == QN_OP_CAST ? mix(h, (uint64_t)x->u.op.cast) : h;
        return mix_exprs(h, x->u.op.args);
    case QN_AXOP:
        h = mix_syms(mix(h, (uint64_t)x->u.axop.op), x->u.axop.over, x->u.axop.nover);
        h = x->u.axop.op == QN_AX_TOPK ? mix_axis(h, x->u.axop.fresh) : h;
        return mix_exprs(h, x->u.axop.args);
    case QN_FOLD:
        h = mix_syms(mix_sym(h, x->u.fold.norm), x->u.fold.over, x->u.fold.nover);
        return mix_exprs(mix(h, qn_expr_hash(x->u.fold.where)), x->u.fold.args);
    case QN_AS:
        for (int k = 0; k < x->u.as.npairs; k++) {
            h = mix_sym(mix_sym(h, x->u.as.pairs[k].from), x->u.as.pairs[k].to);
        }
        return mix(h, qn_expr_hash(x->u.as.x));
    }
    return h;
}

/* ---------------------------------------------------------------- visits */

static void visit_all(qn_exprs xs, qn_visit_fn f, void *user)
{
    for (int k = 0; k < xs.count; k++) {
        qn_visit(xs.at[k], f, user);
    }
}

void qn_visit(const qn_expr *x, qn_visit_fn f, void *user)
{
    if (!x || !f(user, x)) {
        return;
    }
    switch (x->kind) {
    case QN_LIT:
    case QN_NAME:
    case QN_IOTA:
        break;
    case QN_LOAD:
        visit_all(x->u.load.index, f, user);
        break;
    case QN_OP:
        visit_all(x->u.op.args, f, user);
        break;
    case QN_AXOP:
        visit_all(x->u.axop.args, f, user);
        break;
    case QN_FOLD:
        visit_all(x->u.fold.args, f, user);
        qn_visit(x->u.fold.where, f, user);
        break;
    case QN_AS:
        qn_visit(x->u.as.x, f, user);
        break;
    }
}

/* Only !full holds expressions; the arguments of the others are words and plain numbers, and an
 * axis `i` named there is not the loop index i. */
static bool attr_has_exprs(const qn_attr *a)
{
    return strcmp(a->name, "full") == 0;
}

void qn_stmt_exprs(const qn_stmt *s, qn_visit_fn f, void *user)
{
    switch (s->kind) {
    case QN_LET:
        qn_visit(s->u.let.x, f, user);
        break;
    case QN_BUF:
    case QN_LAUNCH:
        break;
    case QN_STORE:
        visit_all(s->u.store.index, f, user);
        qn_visit(s->u.store.x, f, user);
        break;
    case QN_FOR:
        for (int k = 0; k < s->u.loop.niters; k++) {
            const qn_iter *it = &s->u.loop.iters[k];
            for (int p = 0; p < it->npieces; p++) {
                visit_all(it->pieces[p].index, f, user);
                qn_visit(it->pieces[p].lo, f, user);
                qn_visit(it->pieces[p].hi, f, user);
            }
            qn_visit(it->step, f, user);
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            qn_visit(s->u.loop.carries[k].init, f, user);
        }
        qn_visit(s->u.loop.cost, f, user);
        break;
    case QN_IF:
        qn_visit(s->u.branch.cond, f, user);
        break;
    case QN_YIELD:
        visit_all(s->u.yield, f, user);
        break;
    case QN_SYNC:
        visit_all(s->u.sync.index, f, user);
        break;
    case QN_FLAG:
        qn_visit(s->u.flag.cond, f, user);
        break;
    case QN_PREFETCH:
        visit_all(s->u.prefetch.index, f, user);
        break;
    }
    for (int k = 0; k < s->attrs.count; k++) {
        const qn_attr *a = &s->attrs.at[k];
        for (int n = 0; attr_has_exprs(a) && n < a->nargs; n++) {
            qn_visit(a->args[n].lo, f, user);
            qn_visit(a->args[n].hi, f, user);
        }
    }
}

/* The blocks that a statement holds: at most two. */
static int blocks_of(qn_stmt *s, qn_block *out[2])
{
    switch (s->kind) {
    case QN_FOR:
        out[0] = &s->u.loop.body;
        return 1;
    case QN_IF:
        out[0] = &s->u.branch.then;
        out[1] = &s->u.branch.other;
        return s->u.branch.has_else ? 2 : 1;
    case QN_LAUNCH:
        out[0] = &s->u.launch;
        return 1;
    case QN_LET:
    case QN_BUF:
    case QN_STORE:
    case QN_YIELD:
    case QN_SYNC:
    case QN_FLAG:
    case QN_PREFETCH:
        break;
    }
    return 0;
}

void qn_block_stmts(const qn_block *b, void (*f)(void *user, qn_stmt *s), void *user)
{
    for (int k = 0; k < b->count; k++) {
        qn_stmt *s = b->at[k];
        qn_block *inner[2];
        f(user, s);
        for (int n = 0, count = blocks_of(s, inner); n < count; n++) {
            qn_block_stmts(inner[n], f, user);
        }
    }
}

typedef struct expr_visit {
    qn_visit_fn f;
    void *user;
} expr_visit;

static void visit_stmt(void *user, qn_stmt *s)
{
    const expr_visit *v = user;
    qn_stmt_exprs(s, v->f, v->user);
}

void qn_block_visit(const qn_block *b, qn_visit_fn f, void *user)
{
    qn_block_stmts(b, visit_stmt, &(expr_visit){f, user});
}

/* ---------------------------------------------------------------- searches */

typedef struct search {
    bool (*test)(void *user, const qn_expr *e);
    void *user;
    bool found;
} search;

static bool look(void *user, const qn_expr *x)
{
    search *s = user;
    s->found = s->found || s->test(s->user, x);
    return !s->found;
}

bool qn_contains(const qn_expr *x, bool (*test)(void *user, const qn_expr *e), void *user)
{
    search s = {test, user, false};
    qn_visit(x, look, &s);
    return s.found;
}

static bool is_name(void *user, const qn_expr *x)
{
    const qn_sym *name = user;
    return (x->kind == QN_NAME && x->u.name == *name) ||
           (x->kind == QN_LOAD && x->u.load.base == *name);
}

bool qn_mentions_name(const qn_expr *x, qn_sym name)
{
    return qn_contains(x, is_name, &name);
}

static bool is_iota(void *user, const qn_expr *x)
{
    const qn_sym *axis = user;
    return x->kind == QN_IOTA && x->u.iota.name == *axis;
}

bool qn_mentions_axis(const qn_expr *x, qn_sym axis)
{
    return qn_contains(x, is_iota, &axis);
}

/* ---------------------------------------------------------------- rewriting */

/* True if one of them changed; then *xs is a new array. */
static bool rewrite_all(qn_ir *ir, qn_exprs *xs, qn_rewrite_fn f, void *user)
{
    qn_expr **copy = NULL;
    for (int k = 0; k < xs->count; k++) {
        qn_expr *x = qn_rewrite(ir, xs->at[k], f, user);
        if (x != xs->at[k]) {
            if (!copy) {
                copy = QN_NEWN(ir->arena, qn_expr *, xs->count);
                memcpy(copy, xs->at, sizeof *copy * (size_t)xs->count);
            }
            copy[k] = x;
        }
    }
    if (copy) {
        xs->at = copy;
    }
    return copy != NULL;
}

static bool rewrite_one(qn_ir *ir, qn_expr **x, qn_rewrite_fn f, void *user)
{
    qn_expr *old = *x;
    *x = old ? qn_rewrite(ir, old, f, user) : NULL;
    return *x != old;
}

qn_expr *qn_rewrite(qn_ir *ir, qn_expr *x, qn_rewrite_fn f, void *user)
{
    qn_expr new = *x;
    bool changed = false;
    switch (x->kind) {
    case QN_LIT:
    case QN_NAME:
    case QN_IOTA:
        break;
    case QN_LOAD: /* the pad stays: the grammar wants a literal there */
        changed = rewrite_all(ir, &new.u.load.index, f, user);
        break;
    case QN_OP:
        changed = rewrite_all(ir, &new.u.op.args, f, user);
        break;
    case QN_AXOP:
        changed = rewrite_all(ir, &new.u.axop.args, f, user);
        break;
    case QN_FOLD:
        changed = rewrite_all(ir, &new.u.fold.args, f, user);
        changed = rewrite_one(ir, &new.u.fold.where, f, user) || changed;
        break;
    case QN_AS:
        changed = rewrite_one(ir, &new.u.as.x, f, user);
        break;
    }
    if (changed) {
        x = QN_NEW(ir->arena, qn_expr);
        *x = new;
    }
    return f(user, x);
}

static void rewrite_attrs(qn_ir *ir, qn_attrs *attrs, qn_rewrite_fn f, void *user)
{
    for (int k = 0; k < attrs->count; k++) {
        qn_attr *a = &attrs->at[k];
        if (!attr_has_exprs(a) || a->nargs == 0) {
            continue;
        }
        qn_attr_arg *args = QN_NEWN(ir->arena, qn_attr_arg, a->nargs);
        for (int n = 0; n < a->nargs; n++) {
            args[n] = a->args[n];
            rewrite_one(ir, &args[n].lo, f, user);
            rewrite_one(ir, &args[n].hi, f, user);
        }
        a->args = args;
    }
}

static void rewrite_loop(qn_ir *ir, qn_stmt *s, qn_rewrite_fn f, void *user)
{
    for (int k = 0; k < s->u.loop.niters; k++) {
        qn_iter *it = &s->u.loop.iters[k];
        qn_piece *pieces = QN_NEWN(ir->arena, qn_piece, it->npieces);
        for (int p = 0; p < it->npieces; p++) {
            pieces[p] = it->pieces[p];
            rewrite_all(ir, &pieces[p].index, f, user);
            rewrite_one(ir, &pieces[p].lo, f, user);
            rewrite_one(ir, &pieces[p].hi, f, user);
        }
        it->pieces = pieces;
        rewrite_one(ir, &it->step, f, user);
    }
    for (int k = 0; k < s->u.loop.ncarries; k++) {
        rewrite_one(ir, &s->u.loop.carries[k].init, f, user);
    }
    rewrite_one(ir, &s->u.loop.cost, f, user);
}

void qn_stmt_rewrite(qn_ir *ir, qn_stmt *s, bool deep, qn_rewrite_fn f, void *user)
{
    switch (s->kind) {
    case QN_LET:
        rewrite_one(ir, &s->u.let.x, f, user);
        break;
    case QN_BUF:
    case QN_LAUNCH:
        break;
    case QN_STORE:
        rewrite_all(ir, &s->u.store.index, f, user);
        rewrite_one(ir, &s->u.store.x, f, user);
        break;
    case QN_FOR:
        rewrite_loop(ir, s, f, user);
        break;
    case QN_IF:
        rewrite_one(ir, &s->u.branch.cond, f, user);
        break;
    case QN_YIELD:
        rewrite_all(ir, &s->u.yield, f, user);
        break;
    case QN_SYNC:
        rewrite_all(ir, &s->u.sync.index, f, user);
        break;
    case QN_FLAG:
        rewrite_one(ir, &s->u.flag.cond, f, user);
        break;
    case QN_PREFETCH:
        rewrite_all(ir, &s->u.prefetch.index, f, user);
        break;
    }
    rewrite_attrs(ir, &s->attrs, f, user);
    qn_block *inner[2];
    for (int k = 0, n = deep ? blocks_of(s, inner) : 0; k < n; k++) {
        qn_block_rewrite(ir, inner[k], f, user);
    }
}

void qn_block_rewrite(qn_ir *ir, qn_block *b, qn_rewrite_fn f, void *user)
{
    for (int k = 0; k < b->count; k++) {
        qn_stmt_rewrite(ir, b->at[k], true, f, user);
    }
}

typedef struct substitution {
    qn_ir *ir;
    const qn_binding *map;
    int n;
} substitution;

static qn_expr *bound(const substitution *s, qn_sym name)
{
    for (int k = 0; k < s->n; k++) {
        if (s->map[k].name == name) {
            return s->map[k].x;
        }
    }
    return NULL;
}

static qn_expr *replace(void *user, qn_expr *x)
{
    const substitution *s = user;
    if (x->kind == QN_NAME) {
        qn_expr *by = bound(s, x->u.name);
        return by ? by : x;
    }
    if (x->kind == QN_LOAD) {
        const qn_expr *by = bound(s, x->u.load.base);
        if (by && by->kind == QN_NAME && by->u.name != x->u.load.base) {
            qn_expr *copy = QN_NEW(s->ir->arena, qn_expr);
            *copy = *x;
            copy->u.load.base = by->u.name;
            return copy;
        }
    }
    return x;
}

qn_expr *qn_substitute(qn_ir *ir, qn_expr *x, const qn_binding *map, int n)
{
    return n ? qn_rewrite(ir, x, replace, &(substitution){ir, map, n}) : x;
}

/* ---------------------------------------------------------------- copies */

/* n objects of the size in new memory; NULL for none. */
static void *copy_array(qn_ir *ir, const void *at, int n, size_t size)
{
    if (n == 0) {
        return NULL;
    }
    void *copy = qn_arena_alloc(ir->arena, (size_t)n * size, alignof(max_align_t));
    memcpy(copy, at, (size_t)n * size);
    return copy;
}

static qn_attrs copy_attrs(qn_ir *ir, const qn_attrs *a)
{
    return (qn_attrs){copy_array(ir, a->at, a->count, sizeof *a->at), a->count, a->count};
}

qn_stmt *qn_stmt_copy(qn_ir *ir, const qn_stmt *s)
{
    qn_stmt *copy = QN_NEW(ir->arena, qn_stmt);
    qn_block *inner[2];
    *copy = *s;
    copy->attrs = copy_attrs(ir, &s->attrs);
    if (s->kind == QN_FOR) {
        copy->u.loop.iters =
            copy_array(ir, s->u.loop.iters, s->u.loop.niters, sizeof *s->u.loop.iters);
        copy->u.loop.carries =
            copy_array(ir, s->u.loop.carries, s->u.loop.ncarries, sizeof *s->u.loop.carries);
    }
    for (int k = 0, n = blocks_of(copy, inner); k < n; k++) {
        *inner[k] = qn_block_copy(ir, inner[k]);
    }
    return copy;
}

qn_block qn_block_copy(qn_ir *ir, const qn_block *b)
{
    qn_block copy = {copy_array(ir, b->at, b->count, sizeof *b->at), b->count, b->count};
    for (int k = 0; k < b->count; k++) {
        copy.at[k] = qn_stmt_copy(ir, b->at[k]);
    }
    return copy;
}

#define COPY_LIST(ir, list)                                                           \
    do {                                                                              \
        (list)->at = copy_array((ir), (list)->at, (list)->count, sizeof *(list)->at); \
        (list)->cap = (list)->count;                                                  \
    } while (0)

static qn_item copy_item(qn_ir *ir, qn_item it)
{
    switch (it.kind) {
    case QN_ITEM_NORM:
        it.u.norm = copy_array(ir, it.u.norm, 1, sizeof *it.u.norm);
        break;
    case QN_ITEM_KERNEL:
        it.u.kernel = copy_array(ir, it.u.kernel, 1, sizeof *it.u.kernel);
        it.u.kernel->attrs = copy_attrs(ir, &it.u.kernel->attrs);
        COPY_LIST(ir, &it.u.kernel->dims);
        COPY_LIST(ir, &it.u.kernel->params);
        COPY_LIST(ir, &it.u.kernel->requires);
        it.u.kernel->body = qn_block_copy(ir, &it.u.kernel->body);
        break;
    case QN_ITEM_SCHEDULE:
        it.u.schedule = copy_array(ir, it.u.schedule, 1, sizeof *it.u.schedule);
        COPY_LIST(ir, &it.u.schedule->lines);
        break;
    }
    return it;
}

qn_ir_file *qn_file_copy(const qn_ir_file *f)
{
    qn_ir_file *copy = QN_NEW(f->ir->arena, qn_ir_file);
    *copy = *f;
    COPY_LIST(f->ir, &copy->items);
    for (int k = 0; k < copy->items.count; k++) {
        copy->items.at[k] = copy_item(f->ir, copy->items.at[k]);
    }
    return copy;
}

/* ---------------------------------------------------------------- sets of names */

struct qn_names {
    qn_ir *ir;
    qn_sym *at; /* open addressing; cap is a power of two */
    uint32_t count, cap;
};

static uint32_t slot_of(const qn_names *n, qn_sym name)
{
    uint64_t h = mix(0, (uint64_t)(uintptr_t)name);
    while (n->at[h & (n->cap - 1)] && n->at[h & (n->cap - 1)] != name) {
        h++;
    }
    return (uint32_t)(h & (n->cap - 1));
}

bool qn_names_has(const qn_names *n, qn_sym name)
{
    return n->at[slot_of(n, name)] != NULL;
}

void qn_names_add(qn_names *n, qn_sym name)
{
    if (!name || qn_names_has(n, name)) {
        return;
    }
    if (n->count * 2 >= n->cap) {
        qn_names old = *n;
        n->cap *= 2;
        n->at = QN_NEWN(n->ir->arena, qn_sym, n->cap);
        for (uint32_t k = 0; k < old.cap; k++) {
            if (old.at[k]) {
                n->at[slot_of(n, old.at[k])] = old.at[k];
            }
        }
    }
    n->at[slot_of(n, name)] = name;
    n->count++;
}

static bool has_name(void *user, qn_sym name)
{
    return qn_names_has(user, name);
}

qn_sym qn_names_fresh(qn_names *n, const char *base)
{
    qn_sym s = qn_fresh(n->ir, base, has_name, n);
    qn_names_add(n, s);
    return s;
}

static void add_all(qn_names *n, const qn_sym *at, int count)
{
    for (int k = 0; k < count; k++) {
        qn_names_add(n, at[k]);
    }
}

static void add_type(qn_names *n, const qn_type *t)
{
    for (int k = 0; k < t->rank; k++) {
        qn_names_add(n, t->axes[k].name);
        qn_names_add(n, t->axes[k].extent.dim);
    }
}

static bool add_expr(void *user, const qn_expr *x)
{
    qn_names *n = user;
    switch (x->kind) {
    case QN_LIT:
    case QN_OP:
        break;
    case QN_NAME:
        qn_names_add(n, x->u.name);
        break;
    case QN_IOTA:
        qn_names_add(n, x->u.iota.name);
        qn_names_add(n, x->u.iota.extent.dim);
        break;
    case QN_LOAD:
        qn_names_add(n, x->u.load.base);
        break;
    case QN_AXOP:
        add_all(n, x->u.axop.over, x->u.axop.nover);
        qn_names_add(n, x->u.axop.fresh.name);
        qn_names_add(n, x->u.axop.fresh.extent.dim);
        break;
    case QN_FOLD:
        add_all(n, x->u.fold.over, x->u.fold.nover);
        break;
    case QN_AS:
        for (int k = 0; k < x->u.as.npairs; k++) {
            qn_names_add(n, x->u.as.pairs[k].from);
            qn_names_add(n, x->u.as.pairs[k].to);
        }
        break;
    }
    return true;
}

static void add_stmt(void *user, qn_stmt *s)
{
    qn_names *n = user;
    switch (s->kind) {
    case QN_LET:
        add_all(n, s->u.let.names, s->u.let.nnames);
        break;
    case QN_BUF:
        qn_names_add(n, s->u.buf.name);
        add_type(n, &s->u.buf.type);
        break;
    case QN_STORE:
        qn_names_add(n, s->u.store.base);
        break;
    case QN_FOR:
        for (int k = 0; k < s->u.loop.niters; k++) {
            const qn_iter *it = &s->u.loop.iters[k];
            qn_names_add(n, it->name);
            qn_names_add(n, it->end);
            for (int p = 0; p < it->npieces; p++) {
                qn_names_add(n, it->pieces[p].list);
            }
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            qn_names_add(n, s->u.loop.carries[k].name);
            add_type(n, &s->u.loop.carries[k].type);
        }
        break;
    case QN_IF:
        add_all(n, s->u.branch.names, s->u.branch.nnames);
        break;
    case QN_SYNC:
        qn_names_add(n, s->u.sync.base);
        break;
    case QN_PREFETCH:
        qn_names_add(n, s->u.prefetch.base);
        break;
    case QN_YIELD:
    case QN_LAUNCH:
    case QN_FLAG:
        break;
    }
    qn_stmt_exprs(s, add_expr, n);
}

qn_names *qn_names_of_kernel(qn_ir *ir, const qn_kernel_ir *k)
{
    qn_names *n = QN_NEW(ir->arena, qn_names);
    *n = (qn_names){ir, QN_NEWN(ir->arena, qn_sym, 128), 0, 128};
    for (int d = 0; d < k->dims.count; d++) {
        qn_names_add(n, k->dims.at[d].name);
        qn_visit(k->dims.at[d].value, add_expr, n);
    }
    for (int p = 0; p < k->params.count; p++) {
        qn_names_add(n, k->params.at[p].name);
        add_type(n, &k->params.at[p].type);
    }
    for (int r = 0; r < k->requires.count; r++) {
        qn_visit(k->requires.at[r].cond, add_expr, n);
    }
    qn_block_stmts(&k->body, add_stmt, n);
    return n;
}
