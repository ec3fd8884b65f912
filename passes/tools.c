/* SPDX-License-Identifier: MIT
 * Tools of passes; see tools.h. */
#include "passes/tools.h"

#include "ir/build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool qn_symset_has(const qn_symset *s, qn_sym name)
{
    for (int n = 0; n < s->count; n++) {
        if (s->at[n] == name) {
            return true;
        }
    }
    return false;
}

void qn_symset_add(qn_arena *a, qn_symset *s, qn_sym name)
{
    if (!qn_symset_has(s, name)) {
        QN_PUSH(a, s, name);
    }
}

static const char *nest_name(const qn_stmt *par)
{
    const qn_attr *a = qn_attr_find(&par->attrs, "name");
    if (a && a->nargs == 1 && a->args[0].lo && a->args[0].lo->kind == QN_NAME) {
        return a->args[0].lo->u.name;
    }
    return NULL;
}

/* Names may be used again in another nest, so that equal nests get equal texts. */
static qn_names *names_of_nest(const qn_tool *t)
{
    qn_kernel_ir part = *t->kernel;
    qn_block body = {0};
    for (int n = 0; n < t->kernel->body.count; n++) {
        if (t->kernel->body.at[n]->kind != QN_LAUNCH) {
            qn_block_push(t->ir, &body, t->kernel->body.at[n]);
        }
    }
    qn_block_push(t->ir, &body, t->par);
    part.body = body;
    return qn_names_of_kernel(t->ir, &part);
}

bool qn_each_nest(qn_pass_cx *cx, qn_ir_file *file, qn_kernel_ir *k, bool (*f)(qn_tool *t))
{
    qn_tool t = {.cx = cx, .ir = cx->ir, .file = file, .kernel = k};
    t.env = qn_env_kernel(cx->ir, file, k);
    for (int n = 0; n < k->body.count; n++) {
        qn_stmt *s = k->body.at[n];
        if (s->kind != QN_LAUNCH) {
            qn_env_stmt(t.env, s);
            continue;
        }
        for (int i = 0; i < s->u.launch.count; i++) {
            t.par = s->u.launch.at[i];
            if (t.par->kind != QN_FOR) {
                continue;
            }
            t.nest = nest_name(t.par);
            t.names = names_of_nest(&t);
            if (!f(&t)) {
                return false;
            }
        }
    }
    return true;
}

bool qn_nest_over_dims(const qn_tool *t)
{
    const qn_stmt *par = t->par;
    for (int n = 0; n < par->u.loop.niters; n++) {
        const qn_iter *it = &par->u.loop.iters[n];
        const qn_piece *p = it->pieces;
        bool plain = it->npieces == 1 && !p->list && !it->end && !it->step &&
                     p->lo->kind == QN_LIT && p->lo->u.lit.i == 0 && p->hi->kind == QN_NAME;
        const qn_bound *b = plain ? qn_env_find(t->env, p->hi->u.name) : NULL;
        if (!b || b->kind != QN_BOUND_DIM) {
            return false;
        }
    }
    return par->u.loop.niters + 2 <= QN_MAX_AXES;
}

void qn_par_axes(qn_tool *t, qn_axis *axes)
{
    for (int n = 0; n < t->par->u.loop.niters; n++) {
        const qn_iter *it = &t->par->u.loop.iters[n];
        char base[80];
        snprintf(base, sizeof base, "%.70s_", it->name);
        axes[n] = (qn_axis){qn_tool_fresh(t, base), qn_extent_dim(it->pieces[0].hi->u.name)};
    }
}

static bool number(qn_sym word, int64_t *out)
{
    char *end;
    long long n = strtoll(word, &end, 10);
    *out = n;
    return end != word && *end == '\0';
}

int64_t qn_tool_size(const qn_tool *t, const char *key, const char *subject, int64_t otherwise)
{
    const qn_sched_line *line = qn_schedule_find(t->cx->schedule, t->nest, key, subject);
    for (int n = 0; line && n < line->nwords; n++) {
        int64_t size;
        if (number(line->words[n], &size)) {
            return size;
        }
    }
    return otherwise;
}

qn_symset qn_tool_axes(const qn_tool *t, const char *key)
{
    const qn_schedule *s = t->cx->schedule;
    qn_symset axes = {0};
    for (int n = 0; n < s->lines.count; n++) {
        const qn_sched_line *line = &s->lines.at[n];
        bool here = !line->nest || (t->nest && strcmp(line->nest, t->nest) == 0);
        if (here && line->subject && strcmp(line->key, key) == 0) {
            qn_symset_add(t->cx->scratch, &axes, qn_intern(t->ir, line->subject));
        }
    }
    return axes;
}

qn_sym qn_tool_fresh(qn_tool *t, const char *base)
{
    return qn_names_fresh(t->names, base);
}

qn_sym qn_tool_block_index(qn_tool *t, qn_sym axis)
{
    char base[80];
    snprintf(base, sizeof base, "%.70s0", axis);
    return qn_names_fresh(t->names, base);
}

void qn_set_level(qn_ir *ir, qn_kernel_ir *k, const char *level)
{
    qn_attr_arg arg = {qn_name_of(ir, level), NULL};
    qn_attr_remove(&k->attrs, "level");
    qn_attr_add(ir, &k->attrs, "level", &arg, 1);
}

/* ---------------------------------------------------------------- names */

typedef struct mention {
    qn_sym name;
    bool hit;
} mention;

static bool note_mention(void *user, const qn_expr *x)
{
    mention *m = user;
    m->hit = m->hit || (x->kind == QN_NAME && x->u.name == m->name) ||
             (x->kind == QN_LOAD && x->u.load.base == m->name);
    return !m->hit;
}

static void note_base(void *user, qn_stmt *s)
{
    mention *m = user;
    m->hit = m->hit || (s->kind == QN_STORE && s->u.store.base == m->name) ||
             (s->kind == QN_SYNC && s->u.sync.base == m->name) ||
             (s->kind == QN_PREFETCH && s->u.prefetch.base == m->name);
    for (int n = 0; s->kind == QN_FOR && n < s->u.loop.niters; n++) {
        for (int k = 0; k < s->u.loop.iters[n].npieces; k++) {
            m->hit = m->hit || s->u.loop.iters[n].pieces[k].list == m->name;
        }
    }
}

bool qn_stmt_mentions(const qn_stmt *s, qn_sym name)
{
    mention m = {name, false};
    qn_stmt *one[1] = {(qn_stmt *)(uintptr_t)s}; /* only read */
    const qn_block b = {one, 1, 1};
    qn_block_visit(&b, note_mention, &m);
    qn_block_stmts(&b, note_base, &m);
    return m.hit;
}

typedef struct renaming {
    const qn_binding *map;
    int n;
} renaming;

static qn_expr *rename_node(void *user, qn_expr *x)
{
    const renaming *r = user;
    for (int n = 0; x->kind == QN_NAME && n < r->n; n++) {
        if (r->map[n].name == x->u.name) {
            return r->map[n].x;
        }
    }
    return x;
}

void qn_block_rename(qn_ir *ir, qn_block *b, const qn_binding *map, int n)
{
    renaming r = {map, n};
    qn_block_rewrite(ir, b, rename_node, &r);
}

/* ---------------------------------------------------------------- cutting an axis */

typedef struct extents {
    qn_sym axis;
    int64_t above;
    qn_extent found;
    int count; /* different dims met */
} extents;

static bool note_extent(void *user, const qn_expr *x)
{
    extents *e = user;
    if (x->kind == QN_IOTA && x->u.iota.name == e->axis &&
        (x->u.iota.extent.dim || x->u.iota.extent.n > e->above)) {
        if (e->count == 0) {
            e->found = x->u.iota.extent;
            e->count = 1;
        } else if (!qn_extent_equal(e->found, x->u.iota.extent)) {
            e->count = 2;
        }
    }
    return true;
}

bool qn_axis_extent(const qn_block *b, qn_sym axis, int64_t above, qn_extent *out)
{
    extents e = {.axis = axis, .above = above};
    qn_block_visit(b, note_extent, &e);
    *out = e.found;
    return e.count == 1;
}

typedef struct touch {
    const qn_cut *cut;
    bool hit;
} touch;

static bool is_whole(const qn_cut *c, const qn_expr *x)
{
    return x->kind == QN_IOTA && x->u.iota.name == c->axis &&
           qn_extent_equal(x->u.iota.extent, c->extent);
}

static bool note_touch(void *user, const qn_expr *x)
{
    touch *t = user;
    t->hit = t->hit || is_whole(t->cut, x) ||
             (x->kind == QN_NAME && qn_symset_has(&t->cut->rows, x->u.name));
    return !t->hit;
}

bool qn_cut_touches(const qn_cut *c, const qn_expr *x)
{
    touch t = {c, false};
    if (x) {
        qn_visit(x, note_touch, &t);
    }
    return t.hit;
}

/* After the rewrite of an index the whole axis has become axis:size. */
static bool note_cut_touch(void *user, const qn_expr *x)
{
    touch *t = user;
    t->hit = t->hit || (x->kind == QN_IOTA && x->u.iota.name == t->cut->axis) ||
             (x->kind == QN_NAME && qn_symset_has(&t->cut->rows, x->u.name));
    return !t->hit;
}

static bool index_touches(const qn_cut *c, qn_exprs index)
{
    touch t = {c, false};
    for (int n = 0; n < index.count; n++) {
        qn_visit(index.at[n], note_cut_touch, &t);
    }
    return t.hit;
}

static qn_expr *block_iota(const qn_cut *c)
{
    return qn_iota(c->ir, c->axis, qn_extent_n(c->size));
}

static qn_expr *position(const qn_cut *c)
{
    return qn_op2(c->ir, QN_OP_ADD, qn_name(c->ir, c->index), block_iota(c));
}

qn_expr *qn_cut_tail(const qn_cut *c)
{
    return qn_op2(c->ir, QN_OP_LT, position(c), qn_extent_expr(c->ir, c->extent));
}

static bool is_own(const qn_cut *c, qn_sym base)
{
    for (int n = 0; n < c->nown; n++) {
        if (c->own[n] == base) {
            return true;
        }
    }
    return false;
}

/* index + axis:size, as cut_node has just made it: private memory is indexed by axis:size alone. */
static qn_exprs own_index(const qn_cut *c, qn_exprs index)
{
    qn_expr **at = QN_NEWN(c->ir->arena, qn_expr *, index.count);
    qn_expr *cut = position(c);
    for (int n = 0; n < index.count; n++) {
        at[n] = qn_expr_equal(index.at[n], cut) ? block_iota(c) : index.at[n];
    }
    return (qn_exprs){at, index.count};
}

static qn_expr *cut_node(void *user, qn_expr *x)
{
    qn_cut *c = user;
    if (is_whole(c, x)) {
        return position(c);
    }
    if (x->kind != QN_LOAD) {
        return x;
    }
    if (is_own(c, x->u.load.base)) {
        qn_exprs index = own_index(c, x->u.load.index);
        return qn_load(c->ir, x->u.load.base, index.at, index.count, x->u.load.guarded,
                       x->u.load.pad);
    }
    if (!c->exact && !x->u.load.guarded && index_touches(c, x->u.load.index)) {
        return qn_load(c->ir, x->u.load.base, x->u.load.index.at, x->u.load.index.count, true,
                       NULL);
    }
    return x;
}

qn_expr *qn_cut_expr(qn_cut *c, qn_expr *x)
{
    return x ? qn_rewrite(c->ir, x, cut_node, c) : NULL;
}

qn_type qn_cut_type(const qn_cut *c, qn_type t)
{
    qn_axis axes[QN_MAX_AXES];
    for (int n = 0; n < t.rank; n++) {
        axes[n] = t.axes[n];
        if (axes[n].name == c->axis && qn_extent_equal(axes[n].extent, c->extent)) {
            axes[n].extent = qn_extent_n(c->size);
        }
    }
    return qn_type_of(c->ir, t.dtype, axes, t.rank);
}

/* Does the overhang fall out of range by itself: is one index exactly the axis, over memory that
 * ends where the axis ends? The memory's type is not at hand, but in a verified text a bare
 * axis:N index never leaves the memory, so its extent is at least N; it is N when it is the same
 * dim, which the caller asks by `ends`. */
static void cut_store(qn_cut *c, qn_stmt *s, const qn_type *memory)
{
    qn_exprs old = s->u.store.index;
    bool varies = false, ends = false;
    for (int n = 0; n < old.count; n++) {
        varies = varies || qn_cut_touches(c, old.at[n]);
        ends = ends || (is_whole(c, old.at[n]) && memory && n < memory->rank &&
                        qn_extent_equal(memory->axes[n].extent, c->extent));
    }
    qn_stmt_rewrite(c->ir, s, false, cut_node, c);
    if (is_own(c, s->u.store.base)) {
        s->u.store.index = own_index(c, s->u.store.index);
        return;
    }
    if (!varies || c->exact) {
        return;
    }
    qn_attr_remove(&s->attrs, "in"); /* the overhang is not in */
    if (ends) {
        return;
    }
    qn_expr **at = QN_NEWN(c->ir->arena, qn_expr *, old.count);
    memcpy(at, s->u.store.index.at, sizeof *at * (size_t)old.count);
    at[0] = qn_op3(c->ir, QN_OP_SELECT, qn_cut_tail(c), at[0], qn_int(c->ir, -1));
    s->u.store.index = (qn_exprs){at, old.count};
}

static const qn_type *memory_type(const qn_kernel_ir *k, qn_sym name)
{
    for (int n = 0; k && n < k->body.count; n++) {
        if (k->body.at[n]->kind == QN_BUF && k->body.at[n]->u.buf.name == name) {
            return &k->body.at[n]->u.buf.type;
        }
    }
    for (int n = 0; k && n < k->params.count; n++) {
        if (k->params.at[n].name == name) {
            return &k->params.at[n].type;
        }
    }
    return NULL;
}

void qn_cut_stmt(qn_cut *c, qn_stmt *s)
{
    if (s->kind == QN_STORE) {
        cut_store(c, s, memory_type(c->kernel, s->u.store.base));
        return;
    }
    qn_stmt_rewrite(c->ir, s, false, cut_node, c);
    if (s->kind == QN_BUF && is_own(c, s->u.buf.name)) {
        s->u.buf.type = qn_cut_type(c, s->u.buf.type);
    } else if (s->kind == QN_FOR) {
        for (int n = 0; n < s->u.loop.ncarries; n++) {
            s->u.loop.carries[n].type = qn_cut_type(c, s->u.loop.carries[n].type);
        }
        for (int n = 0; n < s->u.loop.body.count; n++) {
            qn_cut_stmt(c, s->u.loop.body.at[n]);
        }
    } else if (s->kind == QN_IF) {
        for (int n = 0; n < s->u.branch.then.count; n++) {
            qn_cut_stmt(c, s->u.branch.then.at[n]);
        }
        for (int n = 0; n < s->u.branch.other.count; n++) {
            qn_cut_stmt(c, s->u.branch.other.at[n]);
        }
    }
}

typedef struct rows {
    qn_cut *cut;
    qn_arena *arena;
} rows;

static bool block_yields_touch(const qn_cut *c, const qn_block *b)
{
    const qn_stmt *last = b->count ? b->at[b->count - 1] : NULL;
    for (int n = 0; last && last->kind == QN_YIELD && n < last->u.yield.count; n++) {
        if (qn_cut_touches(c, last->u.yield.at[n])) {
            return true;
        }
    }
    return false;
}

static void note_rows(void *user, qn_stmt *s)
{
    rows *r = user;
    qn_cut *c = r->cut;
    if (s->kind == QN_LET && qn_cut_touches(c, s->u.let.x)) {
        for (int n = 0; n < s->u.let.nnames; n++) {
            qn_symset_add(r->arena, &c->rows, s->u.let.names[n]);
        }
    } else if (s->kind == QN_FOR) {
        for (int n = 0; n < s->u.loop.ncarries; n++) {
            const qn_axis *axis = qn_type_axis(&s->u.loop.carries[n].type, c->axis);
            if (axis) {
                qn_symset_add(r->arena, &c->rows, s->u.loop.carries[n].name);
            }
        }
    } else if (s->kind == QN_IF && (block_yields_touch(c, &s->u.branch.then) ||
                                    block_yields_touch(c, &s->u.branch.other))) {
        for (int n = 0; n < s->u.branch.nnames; n++) {
            qn_symset_add(r->arena, &c->rows, s->u.branch.names[n]);
        }
    }
}

/* Names come before their uses, except that results of an `if` are seen before its blocks: once
 * more for those. */
void qn_cut_rows(qn_cut *c, qn_arena *a, const qn_block *b)
{
    rows r = {c, a};
    for (int before = -1; before != c->rows.count;) {
        before = c->rows.count;
        qn_block_stmts(b, note_rows, &r);
    }
}
