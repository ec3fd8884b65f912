/* SPDX-License-Identifier: MIT
 *
 * tile: an axis of a nest is cut into blocks, a task a block.
 *
 *     tile i 64        i:N becomes i0 + i:64, and i0 in 0..N step 64 joins the par indices
 *     tile h 4         where h is a par index: h becomes h0 + h:4, and h0 strides by 4
 *
 * needs  an axis of symbolic extent that nothing in the nest contracts
 * makes  constant extents; guards on the loads that the last block overhangs, since the extent need
 *        not be a multiple of the block
 * law    every element of the axis is computed in exactly one task, from the same elements; what
 *        overhangs is computed and dropped, because its stores fall out of range
 *
 * An axis that is folded or reduced over is left to the loops that stream and loops make. */
#include "ir/build.h"
#include "passes/tools.h"

#include <string.h>

typedef struct uses {
    const qn_cut *cut;
    bool contracted; /* by an op that a loop over blocks can take */
    bool whole;      /* by an op that needs the whole axis at once */
    bool renamed;    /* by `as` */
    bool shared;     /* a store to shared memory that the axis does not reach */
    qn_symset bufs;  /* memory of the task */
    qn_arena *arena;
} uses;

static bool over_axis(const qn_sym *over, int n, qn_sym axis)
{
    for (int k = 0; k < n; k++) {
        if (over[k] == axis) {
            return true;
        }
    }
    return false;
}

static bool note_use(void *user, const qn_expr *x)
{
    uses *u = user;
    qn_sym axis = u->cut->axis;
    if (x->kind == QN_FOLD && over_axis(x->u.fold.over, x->u.fold.nover, axis)) {
        u->contracted = true;
    } else if (x->kind == QN_AXOP && over_axis(x->u.axop.over, x->u.axop.nover, axis)) {
        if (qn_axop_is_scan(x->u.axop.op) || x->u.axop.op == QN_AX_TOPK ||
            x->u.axop.op == QN_AX_SOLVE) {
            u->whole = true;
        } else {
            u->contracted = true;
        }
    } else if (x->kind == QN_AS) {
        for (int n = 0; n < x->u.as.npairs; n++) {
            u->renamed = u->renamed || x->u.as.pairs[n].from == axis || x->u.as.pairs[n].to == axis;
        }
    }
    return true;
}

/* A store without the axis is done by one task; in every block's task it would be done again. */
static void note_reach(void *user, qn_stmt *s)
{
    uses *u = user;
    if (s->kind == QN_BUF) {
        qn_symset_add(u->arena, &u->bufs, s->u.buf.name);
    } else if (s->kind == QN_STORE && !qn_symset_has(&u->bufs, s->u.store.base)) {
        bool reached = false;
        for (int n = 0; n < s->u.store.index.count; n++) {
            reached = reached || qn_cut_touches(u->cut, s->u.store.index.at[n]);
        }
        u->shared = u->shared || !reached;
    }
}

typedef struct private_bufs {
    qn_cut *cut;
    qn_arena *arena;
    qn_symset own;
} private_bufs;

static void note_private(void *user, qn_stmt *s)
{
    private_bufs *p = user;
    if (s->kind == QN_BUF) {
        const qn_axis *a = qn_type_axis(&s->u.buf.type, p->cut->axis);
        if (a && qn_extent_equal(a->extent, p->cut->extent)) {
            qn_symset_add(p->arena, &p->own, s->u.buf.name);
        }
    }
}

typedef struct whole_index {
    const private_bufs *bufs;
    bool bad;
} whole_index;

/* Memory of the task that has the axis may be indexed by the bare axis alone: then each task can
 * keep just its own block. */
static bool own_index_good(const private_bufs *p, qn_sym base, qn_exprs index)
{
    if (!qn_symset_has(&p->own, base)) {
        return true;
    }
    for (int n = 0; n < index.count; n++) {
        const qn_expr *x = index.at[n];
        bool bare = x->kind == QN_IOTA && x->u.iota.name == p->cut->axis;
        if (!bare && qn_cut_touches(p->cut, x)) {
            return false;
        }
    }
    return true;
}

static bool note_own_load(void *user, const qn_expr *x)
{
    whole_index *w = user;
    if (x->kind == QN_LOAD && !own_index_good(w->bufs, x->u.load.base, x->u.load.index)) {
        w->bad = true;
    }
    return true;
}

static void note_own_store(void *user, qn_stmt *s)
{
    whole_index *w = user;
    if (s->kind == QN_STORE && !own_index_good(w->bufs, s->u.store.base, s->u.store.index)) {
        w->bad = true;
    }
}

/* In place of par index number `at`, or after the last one when at is negative. */
static void put_iter(qn_ir *ir, qn_stmt *par, int at, qn_sym index, qn_expr *hi, int64_t step)
{
    qn_iter *iters = QN_NEWN(ir->arena, qn_iter, par->u.loop.niters + 1);
    memcpy(iters, par->u.loop.iters, sizeof *iters * (size_t)par->u.loop.niters);
    if (at < 0) {
        at = par->u.loop.niters++;
    }
    qn_piece *piece = QN_NEW(ir->arena, qn_piece);
    piece->lo = qn_int(ir, 0);
    piece->hi = hi;
    iters[at] = (qn_iter){index, NULL, piece, 1, qn_int(ir, step)};
    par->u.loop.iters = iters;
}

static bool tile_axis(qn_tool *t, qn_sym axis, qn_extent extent, int64_t size, int at)
{
    qn_stmt *par = t->par;
    qn_cut cut = {.ir = t->ir, .kernel = t->kernel, .axis = axis, .extent = extent, .size = size};
    uses u = {.cut = &cut, .arena = t->cx->scratch};
    qn_block_visit(&par->u.loop.body, note_use, &u);
    if (u.whole) {
        qn_remark(t->cx, "W-REDUCED", par->place, "%s, by an op that needs all of it at once",
                  axis);
        return true;
    }
    if (u.contracted || u.renamed) {
        return true;
    }
    qn_cut_rows(&cut, t->cx->scratch, &par->u.loop.body);
    qn_block_stmts(&par->u.loop.body, note_reach, &u);
    if (u.shared) {
        qn_remark(t->cx, "W-NOTILE", par->place, "a store does not have the axis %s", axis);
        return true;
    }
    private_bufs p = {.cut = &cut, .arena = t->cx->scratch};
    qn_block_stmts(&par->u.loop.body, note_private, &p);
    whole_index w = {.bufs = &p};
    qn_block_visit(&par->u.loop.body, note_own_load, &w);
    qn_block_stmts(&par->u.loop.body, note_own_store, &w);
    if (w.bad) {
        qn_remark(t->cx, "W-NOTILE", par->place, "%s indexes memory of the task", axis);
        return true;
    }
    cut.own = p.own.at;
    cut.nown = p.own.count;
    cut.index = qn_tool_block_index(t, axis);
    int64_t whole = qn_extent_const(t->env, extent);
    cut.exact = whole >= 0 && whole % size == 0;
    for (int n = 0; n < par->u.loop.body.count; n++) {
        qn_cut_stmt(&cut, par->u.loop.body.at[n]);
    }
    put_iter(t->ir, par, at, cut.index, qn_extent_expr(t->ir, extent), size);
    qn_set_level(t->ir, t->kernel, "tiled");
    return true;
}

/* ---------------------------------------------------------------- par indices */

typedef struct scalar_uses {
    qn_cut *cut;
    qn_sym index;
    bool bad;
} scalar_uses;

static bool mentions(const scalar_uses *u, const qn_expr *x)
{
    return x && (qn_mentions_name(x, u->index) || qn_cut_touches(u->cut, x));
}

/* Bounds, conditions and carried types have no place for an axis. */
static void note_scalar_use(void *user, qn_stmt *s)
{
    scalar_uses *u = user;
    if (s->kind == QN_FOR) {
        u->bad = u->bad || s->u.loop.ncarries > 0;
        for (int n = 0; n < s->u.loop.niters; n++) {
            const qn_iter *it = &s->u.loop.iters[n];
            for (int k = 0; k < it->npieces; k++) {
                u->bad = u->bad || mentions(u, it->pieces[k].lo) || mentions(u, it->pieces[k].hi);
                for (int j = 0; j < it->pieces[k].index.count; j++) {
                    u->bad = u->bad || mentions(u, it->pieces[k].index.at[j]);
                }
            }
            u->bad = u->bad || mentions(u, it->step);
        }
    } else if (s->kind == QN_IF) {
        u->bad = u->bad || s->u.branch.nnames > 0 || mentions(u, s->u.branch.cond);
    } else if (s->kind == QN_FLAG) {
        u->bad = u->bad || mentions(u, s->u.flag.cond);
    } else if (s->kind == QN_BUF || s->kind == QN_SYNC || s->kind == QN_PREFETCH) {
        u->bad = true;
    }
}

static bool note_axis_name(void *user, const qn_expr *x)
{
    scalar_uses *u = user;
    if ((x->kind == QN_IOTA && x->u.iota.name == u->index) || (x->kind == QN_AS)) {
        u->bad = true;
    }
    return true;
}

/* user is the axis as an iota; its name is the index's. */
static qn_expr *to_axis(void *user, qn_expr *x)
{
    qn_expr *axis = user;
    return x->kind == QN_NAME && x->u.name == axis->u.iota.name ? axis : x;
}

/* A par index over 0..N becomes an axis of N, which is then cut like any other. */
static bool tile_index(qn_tool *t, int at, int64_t size)
{
    qn_stmt *par = t->par;
    qn_iter *it = &par->u.loop.iters[at];
    qn_sym name = it->name;
    const qn_piece *piece = it->pieces;
    bool plain = it->npieces == 1 && !piece->list && !it->end && !it->step &&
                 piece->lo->kind == QN_LIT && piece->lo->u.lit.i == 0 && piece->hi->kind == QN_NAME;
    const qn_bound *dim = plain ? qn_env_find(t->env, piece->hi->u.name) : NULL;
    qn_expr *axis = NULL;
    qn_cut cut = {.ir = t->ir, .kernel = t->kernel, .axis = name, .size = size};
    scalar_uses u = {.cut = &cut, .index = name, .bad = !dim || dim->kind != QN_BOUND_DIM};
    if (!u.bad) {
        cut.extent = qn_extent_dim(piece->hi->u.name);
        axis = qn_iota(t->ir, name, cut.extent);
        qn_block_visit(&par->u.loop.body, note_axis_name, &u);
        u.bad = u.bad || (par->u.loop.cost && qn_mentions_name(par->u.loop.cost, name));
        for (int n = 0; n < par->u.loop.niters; n++) {
            const qn_iter *other = &par->u.loop.iters[n];
            for (int k = 0; n != at && k < other->npieces; k++) {
                u.bad = u.bad || qn_mentions_name(other->pieces[k].lo, name) ||
                        qn_mentions_name(other->pieces[k].hi, name);
            }
        }
    }
    if (!u.bad) {
        qn_symset_add(t->cx->scratch, &cut.rows, name); /* as if it were a value with the axis */
        qn_cut_rows(&cut, t->cx->scratch, &par->u.loop.body);
        qn_block_stmts(&par->u.loop.body, note_scalar_use, &u);
    }
    if (u.bad) {
        qn_remark(t->cx, "W-NOTILE", par->place, "the index %s is used where only a scalar can be",
                  name);
        return true;
    }
    qn_block_rewrite(t->ir, &par->u.loop.body, to_axis, axis);
    return tile_axis(t, name, cut.extent, size, at);
}

static int par_index(const qn_stmt *par, qn_sym name)
{
    for (int n = 0; n < par->u.loop.niters; n++) {
        if (par->u.loop.iters[n].name == name) {
            return n;
        }
    }
    return -1;
}

static bool tile_nest(qn_tool *t)
{
    qn_symset axes = qn_tool_axes(t, "tile");
    for (int n = 0; n < axes.count; n++) {
        qn_sym axis = axes.at[n];
        int64_t size = qn_tool_size(t, "tile", axis, 0);
        if (size <= 0) {
            continue;
        }
        qn_extent extent;
        int at = par_index(t->par, axis);
        if (qn_axis_extent(&t->par->u.loop.body, axis, INT64_MAX, &extent)) {
            tile_axis(t, axis, extent, size, -1);
        } else if (at >= 0) {
            tile_index(t, at, size);
        }
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, tile_nest);
}

const qn_pass qn_pass_tile = {
    .name = "tile",
    .doc = "axes are cut into blocks, a task a block",
    .run = run,
};
