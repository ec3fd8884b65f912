/* SPDX-License-Identifier: MIT
 *
 * Functions of a kernel, statements, loops and branches.
 *
 * Every function recomputes what it needs from the argument block: scalars named between launches
 * are pure, so each launch's functions make them again. Carried values are phis where they are
 * registers, and an array in scratch where a plain nest keeps a tile. Tasks are emitted before
 * setup, since setup asks for the most scratch that any of them takes. */
#include "backends/x86/gen.h"
#include "ir/walk.h"
#include <stddef.h>
#include <string.h>

/* ---------------------------------------------------------------- copies of values */

typedef struct copying {
    qn_tile *to;
    qn_node *from;
    int32_t next;
} copying;

static void copy_element(qn_gen *g, void *user, const qn_coords *c)
{
    copying *w = user;
    qn_v v = qn_eval_lanes(g, w->from, c, qn_lane_of(g, &w->to->type) != NULL);
    if (w->to->base) {
        qn_tile_put(g, &w->to->type, w->to->base, c, v);
    } else {
        w->to->regs[w->next++] = v;
    }
}

static void copy_into(qn_gen *g, qn_tile *to, qn_node *from)
{
    qn_settle(g, from, to->type.dtype);
    if (from->type.dtype != to->type.dtype) {
        qn_gen_fail(g, from->place, "a value of another dtype than its place");
    }
    qn_prepare(g, from);
    if (to->type.rank == 0) {
        to->regs[0] = qn_eval(g, from, NULL);
        return;
    }
    copying w = {to, from, 0};
    qn_each(g, to->type.axes, to->type.rank, NULL, copy_element, &w);
}

/* A tile of its own: registers without values, or an array in scratch. */
static qn_tile *new_tile(qn_gen *g, const qn_type *t)
{
    qn_tile *tile = QN_NEW(g->arena, qn_tile);
    tile->type = *t;
    if (t->rank && !g->width) {
        tile->base = qn_scratch_tile(g, t);
    } else {
        tile->nregs = t->rank ? qn_parts_of(g, t) : 1;
        tile->regs = QN_NEWN(g->arena, qn_v, tile->nregs + 1);
    }
    return tile;
}

static qn_tile *fresh_copy(qn_gen *g, const qn_type *t, qn_node *from)
{
    qn_tile *tile = new_tile(g, t);
    copy_into(g, tile, from);
    return tile;
}

/* ---------------------------------------------------------------- blocks */

/* What a block yields: one tile a value, its own copy; types NULL: as they come. */
typedef struct yielded {
    const qn_type *types;
    int32_t count;
    qn_tile **at;
} yielded;

static void emit_stmt(qn_gen *g, const qn_stmt *s, yielded *out);

static void emit_block(qn_gen *g, const qn_block *b, yielded *out)
{
    qn_entry *outer = g->scope;
    for (int32_t i = 0; i < b->count; i++) {
        emit_stmt(g, b->at[i], out);
    }
    g->scope = outer;
}

static void emit_yield(qn_gen *g, const qn_stmt *s, yielded *out)
{
    qn_exprs xs = s->u.yield;
    if (!out) {
        qn_gen_fail(g, s->place, "a yield where nothing is carried");
    }
    out->at = QN_NEWN(g->arena, qn_tile *, xs.count + 1);
    out->count = xs.count;
    for (int32_t i = 0; i < xs.count; i++) {
        qn_node *n = out->types ? qn_tree_as(g, xs.at[i], out->types[i].dtype)
                                : qn_tree_as(g, xs.at[i], QN_NO_TYPE);
        qn_type t = out->types ? out->types[i] : n->type;
        out->at[i] = fresh_copy(g, &t, n);
    }
}

/* ---------------------------------------------------------------- loops */

/* One loop statement on its way. Values are the registers of all carries, one after another. */
typedef struct looping {
    const qn_stmt *s;
    qn_tile **carry; /* those in memory have their array; those in registers only a type */
    int32_t ncarries;
    qn_v *values;
    int32_t nvalues;
    void (*body)(qn_gen *g, struct looping *w); /* of a par nest: what to do for a task */
    void *user;
    qn_v *par; /* par nests: index and end values in order */
    int32_t npar;
} looping;

static void iterate(qn_gen *g, looping *w, int32_t level);

static const qn_tile *registers_of(qn_gen *g, const qn_tile *t, qn_v *values)
{
    if (t->base) {
        return t;
    }
    qn_tile *now = QN_NEW(g->arena, qn_tile);
    *now = *t;
    now->regs = QN_NEWN(g->arena, qn_v, t->nregs + 1);
    memcpy(now->regs, values, sizeof *values * (size_t)t->nregs);
    return now;
}

static void bind_carries(qn_gen *g, looping *w)
{
    qn_v *values = w->values;
    for (int32_t i = 0; i < w->ncarries; i++) {
        const qn_tile *t = registers_of(g, w->carry[i], values);
        values += t->base ? 0 : t->nregs;
        qn_scope_tile(g, w->s->u.loop.carries[i].name, t);
    }
}

static void loop_body(qn_gen *g, looping *w)
{
    qn_entry *outer = g->scope;
    bind_carries(g, w);
    qn_type *types = QN_NEWN(g->arena, qn_type, w->ncarries + 1);
    for (int32_t i = 0; i < w->ncarries; i++) {
        types[i] = w->carry[i]->type;
    }
    yielded y = {.types = types};
    emit_block(g, &w->s->u.loop.body, w->ncarries ? &y : NULL);
    g->scope = outer;
    qn_v *values = QN_NEWN(g->arena, qn_v, w->nvalues + 1);
    int32_t n = 0;
    for (int32_t i = 0; i < y.count && w->ncarries; i++) {
        if (w->carry[i]->base) { /* every yield is a copy, so the order does not matter */
            copy_into(g, w->carry[i], qn_tile_node(g, y.at[i], w->s->place));
        } else {
            memcpy(values + n, y.at[i]->regs, sizeof *values * (size_t)y.at[i]->nregs);
            n += y.at[i]->nregs;
        }
    }
    w->values = values;
}

static void inner(qn_gen *g, looping *w, int32_t level, qn_v index, qn_v end)
{
    const qn_iter *it = &w->s->u.loop.iters[level];
    qn_entry *outer = g->scope;
    int32_t npar = w->npar;
    qn_scope_scalar(g, it->name, QN_I64, index);
    if (w->par) {
        w->par[w->npar++] = index;
    }
    if (it->end) {
        qn_scope_scalar(g, it->end, QN_I64, end);
        if (w->par) {
            w->par[w->npar++] = end;
        }
    }
    iterate(g, w, level + 1);
    w->npar = npar;
    g->scope = outer;
}

static qn_v positive(qn_gen *g, qn_v step)
{
    int64_t n;
    if (qn_is_const(g, step, &n)) {
        return qn_i64(g, n > 0 ? n : 1);
    }
    return qn_imax(g, step, qn_i64(g, 1));
}

static void begin(qn_gen *g, looping *w, qn_loop *l, qn_v lo, qn_v hi, qn_v step)
{
    qn_loop_begin(g, l, lo, hi, step, w->values, w->nvalues);
    w->values = l->carry;
}

static void end(qn_gen *g, looping *w, qn_loop *l)
{
    qn_loop_end(g, l, w->values);
    w->values = l->out;
}

static void one_piece(qn_gen *g, looping *w, int32_t level, const qn_piece *p, qn_v step)
{
    qn_loop l;
    qn_v lo = qn_index_value(g, p->lo), hi = qn_index_value(g, p->hi);
    if (p->list) { /* the positions are data: what lies outside the table is not read */
        qn_entry *e = qn_scope_find(g, p->list);
        if (!e || !e->memory) {
            qn_gen_fail(g, w->s->place, "no table of that name here: %s", p->list);
        }
        lo = qn_imax(g, lo, qn_i64(g, 0));
        hi = qn_imin(g, hi, e->memory->extent[p->index.count]);
    }
    begin(g, w, &l, lo, hi, step);
    qn_v index = l.index;
    if (p->list) {
        qn_entry *outer = g->scope;
        qn_sym at = qn_intern(g->ir, "%.at");
        qn_scope_scalar(g, at, QN_I64, l.index);
        qn_expr *all[QN_MAX_AXES];
        int32_t n = 0;
        for (; n < p->index.count && n < QN_MAX_AXES - 1; n++) {
            all[n] = p->index.at[n];
        }
        all[n++] = qn_name(g->ir, at);
        index = qn_index_value(g, qn_load(g->ir, p->list, all, n, false, NULL));
        g->scope = outer;
    }
    inner(g, w, level, index, hi);
    end(g, w, &l);
}

/* Several plain pieces: a loop over them picks the ends, so that the body stands once. */
static void plain_pieces(qn_gen *g, looping *w, int32_t level, const qn_iter *it, qn_v step)
{
    qn_v *lo = QN_NEWN(g->arena, qn_v, it->npieces), *hi = QN_NEWN(g->arena, qn_v, it->npieces);
    for (int32_t i = 0; i < it->npieces; i++) {
        lo[i] = qn_index_value(g, it->pieces[i].lo);
        hi[i] = qn_index_value(g, it->pieces[i].hi);
    }
    qn_loop pieces, l;
    begin(g, w, &pieces, qn_i64(g, 0), qn_i64(g, it->npieces), qn_i64(g, 1));
    qn_v from = lo[0], to = hi[0];
    for (int32_t i = 1; i < it->npieces; i++) {
        qn_v is = g->l->BuildICmp(g->b, LLVMIntEQ, pieces.index, qn_i64(g, i), "");
        from = g->l->BuildSelect(g->b, is, lo[i], from, "");
        to = g->l->BuildSelect(g->b, is, hi[i], to, "");
    }
    begin(g, w, &l, from, to, step);
    inner(g, w, level, l.index, to);
    end(g, w, &l);
    end(g, w, &pieces);
}

static void iterate(qn_gen *g, looping *w, int32_t level)
{
    if (level == w->s->u.loop.niters) {
        w->body(g, w);
        return;
    }
    const qn_iter *it = &w->s->u.loop.iters[level];
    qn_v step = it->step ? positive(g, qn_index_value(g, it->step)) : qn_i64(g, 1);
    bool plain = it->npieces > 1;
    for (int32_t i = 0; i < it->npieces; i++) {
        plain = plain && !it->pieces[i].list;
    }
    if (plain) {
        plain_pieces(g, w, level, it, step);
        return;
    }
    for (int32_t i = 0; i < it->npieces; i++) {
        one_piece(g, w, level, &it->pieces[i], step);
    }
}

static void emit_loop(qn_gen *g, const qn_stmt *s)
{
    looping w = {.s = s, .ncarries = s->u.loop.ncarries, .body = loop_body};
    w.carry = QN_NEWN(g->arena, qn_tile *, w.ncarries + 1);
    for (int32_t i = 0; i < w.ncarries; i++) {
        const qn_carry *c = &s->u.loop.carries[i];
        w.carry[i] = fresh_copy(g, &c->type, qn_tree_as(g, c->init, c->type.dtype));
        w.nvalues += w.carry[i]->base ? 0 : w.carry[i]->nregs;
    }
    w.values = QN_NEWN(g->arena, qn_v, w.nvalues + 1);
    for (int32_t i = 0, n = 0; i < w.ncarries; i++) {
        for (int32_t r = 0; !w.carry[i]->base && r < w.carry[i]->nregs; r++) {
            w.values[n++] = w.carry[i]->regs[r];
        }
    }
    int32_t top = g->top;
    qn_entry *outer = g->scope;
    iterate(g, &w, 0);
    g->top = top; /* scratch of the body is free again; the carries stay */
    g->scope = outer;
    bind_carries(g, &w);
}

/* ---------------------------------------------------------------- branches */

static void branch_side(qn_gen *g, const qn_block *b, qn_bb at, yielded *y, qn_bb *last)
{
    qn_place_at(g, at);
    qn_region_open(g);
    emit_block(g, b, y);
    qn_region_close(g);
    *last = qn_here(g);
}

/* Both sides are emitted, then their results, of the axes of both, are joined. */
static void emit_branch(qn_gen *g, const qn_stmt *s)
{
    qn_v cond = qn_scalar(g, s->u.branch.cond, QN_BOOL);
    qn_bb then = qn_new_bb(g, "then"), other = qn_new_bb(g, "else"), join = qn_new_bb(g, "join");
    qn_bb last_then, last_other;
    yielded a = {0}, b = {0};
    g->l->BuildCondBr(g->b, cond, then, other);
    int32_t top = g->top, results = s->u.branch.nnames;
    branch_side(g, &s->u.branch.then, then, results ? &a : NULL, &last_then);
    branch_side(g, &s->u.branch.other, other, results ? &b : NULL, &last_other);
    /* The scratch of both sides stays taken until the results are copied out of it. */
    qn_tile **to = QN_NEWN(g->arena, qn_tile *, results + 1);
    qn_v **mine = QN_NEWN(g->arena, qn_v *, results + 1);
    for (int32_t i = 0; i < results; i++) {
        qn_axis axes[QN_MAX_AXES];
        int32_t rank = 0;
        qn_union_axes(g, &a.at[i]->type, axes, &rank);
        qn_union_axes(g, &b.at[i]->type, axes, &rank);
        qn_type t =
            qn_type_of(g->ir, qn_dtype_join(a.at[i]->type.dtype, b.at[i]->type.dtype), axes, rank);
        to[i] = new_tile(g, &t);
    }
    for (int side = 0; side < 2; side++) {
        qn_place_at(g, side ? last_other : last_then);
        for (int32_t i = 0; i < results; i++) {
            qn_tile *from = (side ? b : a).at[i];
            qn_node *n = qn_tile_node(g, from, s->place);
            if (from->type.dtype != to[i]->type.dtype) {
                qn_gen_fail(g, s->place, "branches of different integer types");
            }
            copy_into(g, to[i], n);
            if (!to[i]->base && side == 0) {
                mine[i] = to[i]->regs;
                to[i]->regs = QN_NEWN(g->arena, qn_v, to[i]->nregs + 1);
            }
        }
        *(side ? &last_other : &last_then) = qn_here(g);
        g->l->BuildBr(g->b, join);
    }
    qn_place_at(g, join);
    for (int32_t i = 0; i < results; i++) {
        for (int32_t r = 0; !to[i]->base && r < to[i]->nregs; r++) {
            qn_v phi = g->l->BuildPhi(g->b, g->l->TypeOf(mine[i][r]), "");
            g->l->AddIncoming(phi, &mine[i][r], &last_then, 1);
            g->l->AddIncoming(phi, &to[i]->regs[r], &last_other, 1);
            to[i]->regs[r] = phi;
        }
        qn_scope_tile(g, s->u.branch.names[i], to[i]);
    }
    if (!results) {
        g->top = top;
    }
}

/* ---------------------------------------------------------------- other statements */

static qn_v argument(qn_gen *g, size_t offset)
{
    return g->l->BuildLoad2(g->b, g->ptr, qn_offset(g, g->args, (int64_t)offset), "");
}

static void flag_element(qn_gen *g, void *user, const qn_coords *c)
{
    qn_v cond = qn_eval(g, user, c);
    if (qn_lanes_of(g, cond)) {
        cond = qn_reduce_lanes(g, QN_AX_REDUCE_ANY, QN_BOOL, cond);
    }
    qn_bb after = qn_when(g, cond);
    g->l->BuildAtomicRMW(g->b, LLVMAtomicRMWBinOpOr, argument(g, offsetof(qn_abi_args, flag)),
                         qn_i64(g, QN_ABI_FLAG_INDEX), LLVMAtomicOrderingMonotonic, 0);
    qn_end_when(g, after);
}

static void emit_flag(qn_gen *g, const qn_stmt *s)
{
    qn_node *n = qn_tree_as(g, s->u.flag.cond, QN_BOOL);
    qn_prepare(g, n);
    qn_each(g, n->type.axes, n->type.rank, NULL, flag_element, n);
}

static void emit_buf(qn_gen *g, const qn_stmt *s)
{
    const qn_type *t = &s->u.buf.type;
    if (s->u.buf.ring) {
        qn_gen_fail(g, s->place,
                    "a ring on a machine that has none: the pass stage should have left none");
    }
    int64_t bytes = t->dtype == QN_BOOL ? 1 : qn_dtype_bytes(t->dtype);
    qn_slot slot = {.type = *t, .bytes = bytes, .padded = true, .layout = &s->u.buf.layout};
    qn_scope_memory(
        g, s->u.buf.name,
        qn_new_memory(g, s->u.buf.name, t, &s->u.buf.layout, qn_slot_take(g, &slot), NULL));
}

static void emit_let(qn_gen *g, const qn_stmt *s)
{
    const qn_tile *results[QN_MAX_AXES], *sliced = qn_slice_value(g, s->u.let.x);
    int32_t n = sliced ? 1 : qn_results(g, s->u.let.x, results);
    results[0] = sliced ? sliced : results[0];
    for (int32_t i = 0; i < n && i < s->u.let.nnames; i++) {
        qn_scope_tile(g, s->u.let.names[i], results[i]);
    }
}

static void emit_stmt(qn_gen *g, const qn_stmt *s, yielded *out)
{
    switch (s->kind) {
    case QN_LET:
        emit_let(g, s);
        return;
    case QN_BUF:
        emit_buf(g, s);
        return;
    case QN_STORE: {
        int32_t top = g->top;
        qn_emit_store(g, s);
        g->top = top;
        return;
    }
    case QN_FOR:
        if (!qn_slice_loop(g, s, emit_loop)) {
            emit_loop(g, s);
        }
        return;
    case QN_IF:
        emit_branch(g, s);
        return;
    case QN_YIELD:
        emit_yield(g, s, out);
        return;
    case QN_FLAG: {
        int32_t top = g->top;
        emit_flag(g, s);
        g->top = top;
        return;
    }
    case QN_PREFETCH:
        qn_emit_prefetch(g, s);
        return;
    case QN_SYNC:
        qn_gen_fail(g, s->place, "await and free on a machine that has no asynchronous copies");
    case QN_LAUNCH:
        break;
    }
    qn_gen_fail(g, s->place, "a launch inside a task");
}

/* ---------------------------------------------------------------- functions */

static void attribute(qn_gen *g, qn_v fn, const char *key, const char *value)
{
    LLVMAttributeRef a = g->l->CreateStringAttribute(g->context, key, (unsigned)strlen(key), value,
                                                     (unsigned)strlen(value));
    g->l->AddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

/* Starts a function: the entry block holds what is made once; the body follows. */
static qn_bb begin_function(qn_gen *g, const char *name, qn_ty type, bool own_entry)
{
    g->fn = g->l->AddFunction(g->module, name, type);
    qn_hoist_reset(g);
    attribute(g, g->fn, "no-jump-tables", "true");
    attribute(g, g->fn, "prefer-vector-width", "512");
    attribute(g, g->fn, "min-legal-vector-width", "512");
    attribute(g, g->fn, "no-builtins", "true");
    qn_bb entry = g->l->AppendBasicBlockInContext(g->context, g->fn, "entry"), body = entry;
    if (own_entry) {
        body = g->l->AppendBasicBlockInContext(g->context, g->fn, "body");
    }
    g->l->PositionBuilderAtEnd(g->entry, entry);
    qn_place_at(g, body);
    int32_t ndims = g->kernel->dims.count, nparams = g->kernel->params.count;
    g->dims = QN_NEWN(g->arena, qn_v, ndims + 1);
    g->tensors = QN_NEWN(g->arena, const qn_memory *, nparams + 1);
    g->args = g->l->GetParam(g->fn, 0);
    g->scope = NULL;
    g->top = -1;
    g->width = 0;
    g->nlanes = 0;
    LLVMBuilderRef here = g->b;
    g->b = own_entry ? g->entry : g->b;
    g->dims_array = argument(g, offsetof(qn_abi_args, dims));
    qn_v scalars = argument(g, offsetof(qn_abi_args, scalars));
    int64_t scalar = 0;
    for (int32_t i = 0; i < nparams; i++) {
        const qn_param *p = &g->kernel->params.at[i];
        if (p->type.rank == 0) {
            qn_v at = qn_offset(g, scalars, 8 * scalar++);
            qn_scope_scalar(g, p->name, p->type.dtype, qn_load_element(g, p->type.dtype, at));
        }
    }
    g->b = here;
    return body;
}

static void end_entry(qn_gen *g, qn_bb body)
{
    g->l->BuildBr(g->entry, body);
}

static void bind_tensors(qn_gen *g)
{
    for (int32_t i = 0; i < g->kernel->params.count; i++) {
        if (g->kernel->params.at[i].type.rank) {
            qn_scope_memory(g, g->kernel->params.at[i].name, qn_tensor(g, i));
        }
    }
}

typedef struct test {
    qn_gen *g;
    bool written; /* reads memory that a launch may write */
} test;

static bool reads_written(void *user, const qn_expr *x)
{
    test *t = user;
    if (x->kind != QN_LOAD) {
        return true;
    }
    bool input = false;
    for (int32_t i = 0; i < t->g->kernel->params.count; i++) {
        const qn_param *p = &t->g->kernel->params.at[i];
        input = input || (p->name == x->u.load.base && p->direction == QN_IN);
    }
    t->written = t->written || !input;
    return true;
}

/* Everything between launches that launch `number` may name. A scalar that reads memory which an
 * earlier launch wrote is visible to the launch right after it only. */
static void bind_outer(qn_gen *g, int32_t number)
{
    int32_t launch = 0, bufs = 0;
    qn_v table = NULL;
    for (int32_t i = 0; i < g->kernel->body.count && launch <= number; i++) {
        const qn_stmt *s = g->kernel->body.at[i];
        if (s->kind == QN_LAUNCH) {
            launch++;
        } else if (s->kind == QN_BUF) {
            table = table ? table : argument(g, offsetof(qn_abi_args, bufs));
            qn_v base =
                g->l->BuildLoad2(g->b, g->ptr, qn_offset(g, table, 8 * (int64_t)bufs++), "");
            qn_memory *m = QN_NEW(g->arena, qn_memory);
            *m = *qn_new_memory(g, s->u.buf.name, &s->u.buf.type, &s->u.buf.layout, base, NULL);
            qn_scope_memory(g, s->u.buf.name, m);
        } else if (s->kind == QN_LET) {
            test t = {g, false};
            qn_visit(s->u.let.x, reads_written, &t);
            if (!t.written || launch == number) {
                emit_let(g, s);
            }
        }
    }
}

/* ---- task */

static void emit_nest(qn_gen *g, const qn_stmt *nest)
{
    const qn_attr *leaf = qn_attr_find(&nest->attrs, "leaf");
    if (leaf && leaf->nargs >= 2) {
        int64_t width = leaf->args[0].lo->kind == QN_LIT ? leaf->args[0].lo->u.lit.i : 0;
        if (width < 1 || width > 64 || (width & (width - 1))) {
            qn_gen_fail(g, nest->place, "registers of a width that is no power of two up to 64");
        }
        qn_sym *lanes = QN_NEWN(g->arena, qn_sym, leaf->nargs);
        g->width = (int32_t)width;
        g->lanes = lanes;
        g->nlanes = 0;
        for (int32_t i = 2; i < leaf->nargs; i++) {
            lanes[g->nlanes++] = leaf->args[i].lo->u.name;
        }
    }
    const qn_attr *exp = qn_attr_find(&nest->attrs, "exp");
    bool degree = exp && exp->nargs == 2 && exp->args[1].lo->kind == QN_LIT;
    g->exp_degree = degree ? exp->args[1].lo->u.lit.i : 0;
    int64_t word = 2;
    for (int32_t i = 0; i < nest->u.loop.niters; i++) {
        const qn_iter *it = &nest->u.loop.iters[i];
        for (int k = 0; k < 1 + (it->end != NULL); k++) {
            qn_v p = qn_offset(g, g->row, 8 * word++);
            qn_v v = g->l->BuildLoad2(g->b, g->i64, p, "");
            const qn_expr *lo = it->pieces[0].lo;
            if (k == 0 && it->npieces == 1 && !it->pieces[0].list && lo->kind == QN_LIT) {
                qn_note_nonnegative(g, v); /* a literal has no sign */
            }
            qn_scope_scalar(g, k ? it->end : it->name, QN_I64, v);
        }
    }
    emit_block(g, &nest->u.loop.body, NULL);
    g->width = 0;
    g->nlanes = 0;
}

static void emit_task(qn_gen *g, const char *name, const qn_stmt *launch, int32_t number)
{
    qn_ty params[] = {g->ptr, g->ptr, g->ptr};
    qn_bb body = begin_function(g, name, g->l->FunctionType(g->none, params, 3, 0), true);
    g->row = g->l->GetParam(g->fn, 1);
    g->scratch = g->l->GetParam(g->fn, 2);
    bind_tensors(g);
    bind_outer(g, number);
    qn_v which = g->l->BuildLoad2(g->b, g->i64, qn_offset(g, g->row, 8), "");
    qn_bb done = qn_new_bb(g, "return");
    for (int32_t i = 0; i < launch->u.launch.count; i++) {
        qn_entry *outer = g->scope;
        qn_bb next = NULL;
        if (i + 1 < launch->u.launch.count) {
            qn_bb here = qn_new_bb(g, "nest");
            next = qn_new_bb(g, "next");
            qn_v is = g->l->BuildICmp(g->b, LLVMIntEQ, which, qn_i64(g, i), "");
            g->l->BuildCondBr(g->b, is, here, next);
            qn_place_at(g, here);
        }
        g->top = -1;
        qn_region_open(g);
        emit_nest(g, launch->u.launch.at[i]);
        qn_region_close(g);
        g->scope = outer;
        g->l->BuildBr(g->b, done);
        if (next) {
            qn_place_at(g, next);
        }
    }
    if (launch->u.launch.count == 0) {
        g->l->BuildBr(g->b, done);
    }
    qn_place_at(g, done);
    g->l->BuildRetVoid(g->b);
    end_entry(g, body);
}

/* ---- list */

typedef struct listing {
    qn_v table, room, skip; /* parameters */
    qn_v seen, written;     /* counters on the stack */
    int32_t nest;
    int32_t width;
    const qn_stmt *s;
} listing;

static qn_v counter(qn_gen *g, qn_v p)
{
    return g->l->BuildLoad2(g->b, g->i64, p, "");
}

static void list_row(qn_gen *g, looping *w)
{
    listing *o = w->user;
    const qn_llvm *l = g->l;
    qn_v seen = counter(g, o->seen), written = counter(g, o->written);
    qn_v due = l->BuildICmp(g->b, LLVMIntSGE, seen, o->skip, "");
    qn_v fits = l->BuildICmp(g->b, LLVMIntSLT, written, o->room, "");
    l->BuildStore(g->b, l->BuildAdd(g->b, seen, qn_i64(g, 1), ""), o->seen);
    qn_bb after = qn_when(g, l->BuildAnd(g->b, due, fits, ""));
    qn_v row = qn_gep(g, g->i64, o->table, qn_imul(g, written, qn_i64(g, o->width)));
    const qn_expr *cost = o->s->u.loop.cost;
    l->BuildStore(g->b, cost ? qn_index_value(g, cost) : qn_i64(g, 0), row);
    l->BuildStore(g->b, qn_i64(g, o->nest), qn_offset(g, row, 8));
    for (int32_t i = 0; i < w->npar; i++) {
        l->BuildStore(g->b, w->par[i], qn_offset(g, row, 8 * (2 + (int64_t)i)));
    }
    l->BuildStore(g->b, l->BuildAdd(g->b, written, qn_i64(g, 1), ""), o->written);
    qn_end_when(g, after);
}

static int32_t row_width(const qn_stmt *launch)
{
    int32_t most = 0;
    for (int32_t i = 0; i < launch->u.launch.count; i++) {
        const qn_stmt *nest = launch->u.launch.at[i];
        int32_t words = nest->u.loop.niters;
        for (int32_t k = 0; k < nest->u.loop.niters; k++) {
            words += nest->u.loop.iters[k].end != NULL;
        }
        most = words > most ? words : most;
    }
    return 2 + most;
}

/* Setup and lists run once a call: code generated fast beats fast code. */
static void quick(qn_gen *g)
{
    static const char *const names[] = {"optnone", "noinline"};
    for (int i = 0; i < 2; i++) {
        unsigned kind = g->l->GetEnumAttributeKindForName(names[i], strlen(names[i]));
        g->l->AddAttributeAtIndex(g->fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
                                  g->l->CreateEnumAttribute(g->context, kind, 0));
    }
}

static void emit_list(qn_gen *g, const char *name, const qn_stmt *launch, int32_t number)
{
    const qn_llvm *l = g->l;
    qn_ty params[] = {g->ptr, g->ptr, g->i64, g->i64};
    qn_bb body = begin_function(g, name, l->FunctionType(g->i64, params, 4, 0), true);
    quick(g);
    bind_tensors(g);
    bind_outer(g, number);
    listing o = {.table = l->GetParam(g->fn, 1),
                 .room = l->GetParam(g->fn, 2),
                 .skip = l->GetParam(g->fn, 3)};
    o.seen = qn_stack(g, g->i64, 1, 8);
    o.written = qn_stack(g, g->i64, 1, 8);
    o.width = row_width(launch);
    l->BuildStore(g->b, qn_i64(g, 0), o.seen);
    l->BuildStore(g->b, qn_i64(g, 0), o.written);
    for (int32_t i = 0; i < launch->u.launch.count; i++) {
        o.nest = i;
        o.s = launch->u.launch.at[i];
        looping w = {.s = o.s, .body = list_row, .user = &o};
        w.par = QN_NEWN(g->arena, qn_v, o.width);
        w.values = QN_NEW(g->arena, qn_v);
        qn_entry *outer = g->scope;
        iterate(g, &w, 0);
        g->scope = outer;
    }
    qn_v counting = l->BuildICmp(g->b, LLVMIntEQ, o.room, qn_i64(g, 0), "");
    l->BuildRet(g->b,
                l->BuildSelect(g->b, counting, counter(g, o.seen), counter(g, o.written), ""));
    end_entry(g, body);
}

/* ---- setup */

static void return_unless(qn_gen *g, const qn_expr *cond, int64_t answer)
{
    qn_v bad = g->l->BuildXor(g->b, qn_scalar(g, cond, QN_BOOL), g->l->ConstInt(g->i1, 1, 0), "");
    qn_bb leave = qn_new_bb(g, "leave"), on = qn_new_bb(g, "on");
    g->l->BuildCondBr(g->b, bad, leave, on);
    qn_place_at(g, leave);
    g->l->BuildRet(g->b, qn_i64(g, answer));
    qn_place_at(g, on);
}

static void emit_setup(qn_gen *g, const char *name)
{
    LLVMBuilderRef entry = g->entry;
    g->entry = g->b; /* everything here is made in order: derived dims feed what follows */
    begin_function(g, name, g->l->FunctionType(g->i64, &g->ptr, 1, 0), false);
    quick(g);
    for (int32_t i = 0; i < g->kernel->dims.count; i++) {
        const qn_dim *d = &g->kernel->dims.at[i];
        if (d->value) {
            qn_v v = qn_index_value(g, d->value);
            g->l->BuildStore(g->b, v, qn_offset(g, g->dims_array, 8 * (int64_t)i));
            g->dims[i] = v;
        }
    }
    const qn_attr *plan = qn_attr_find(&g->kernel->attrs, "plan");
    if (plan && plan->nargs) {
        return_unless(g, plan->args[0].lo, -1);
    }
    for (int32_t i = 0; i < g->kernel->requires.count; i++) {
        return_unless(g, g->kernel->requires.at[i].cond, i + 1);
    }
    qn_v bytes = argument(g, offsetof(qn_abi_args, buf_bytes));
    int32_t bufs = 0;
    for (int32_t i = 0; i < g->kernel->body.count; i++) {
        const qn_stmt *s = g->kernel->body.at[i];
        if (s->kind == QN_BUF) {
            qn_slot slot = {.type = s->u.buf.type,
                            .bytes = qn_dtype_bytes(s->u.buf.type.dtype),
                            .padded = true,
                            .layout = &s->u.buf.layout};
            g->l->BuildStore(g->b, qn_slot_size(g, &slot),
                             qn_offset(g, bytes, 8 * (int64_t)bufs++));
        }
    }
    g->ncallbufs = bufs;
    qn_v most = qn_i64(g, 0);
    for (int32_t i = 0; i < g->slots.count; i++) {
        qn_slot *s = &g->slots.at[i];
        qn_v start = s->below >= 0 ? g->slots.at[s->below].end : qn_i64(g, 0);
        s->end = qn_uadd_sat(g, start, qn_slot_size(g, s));
        most = qn_imax(g, most, s->end);
    }
    g->l->BuildStore(g->b, most, argument(g, offsetof(qn_abi_args, scratch_bytes)));
    g->l->BuildRet(g->b, qn_i64(g, 0));
    g->entry = entry;
}

void qn_emit_kernel(qn_gen *g, const char *symbol, qn_emitted_names *out)
{
    *out = (qn_emitted_names){0};
    for (int32_t i = 0; i < g->kernel->body.count; i++) {
        const qn_stmt *s = g->kernel->body.at[i];
        if (s->kind != QN_LAUNCH) {
            continue;
        }
        if (out->nlaunches == QN_MAX_LAUNCHES) {
            qn_gen_fail(g, s->place, "more than %d launches", QN_MAX_LAUNCHES);
        }
        qn_buf task = qn_buf_of(g->arena), list = qn_buf_of(g->arena);
        qn_buf_printf(&task, "%s_task%d", symbol, out->nlaunches);
        qn_buf_printf(&list, "%s_list%d", symbol, out->nlaunches);
        g->serial = false;
        emit_task(g, task.text, s, out->nlaunches);
        qn_abi_launch *l = &out->launches[out->nlaunches++];
        l->serial = g->serial;
        emit_list(g, list.text, s, out->nlaunches - 1);
        l->width = row_width(s);
    }
    qn_buf setup = qn_buf_of(g->arena);
    qn_buf_printf(&setup, "%s_setup", symbol);
    emit_setup(g, setup.text);
}
