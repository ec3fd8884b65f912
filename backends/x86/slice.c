/* SPDX-License-Identifier: MIT
 *
 * A loop over registers instead of copies of the code.
 *
 *     for j in .. carry %r: f32[i:64] = ..      for p in 0..4:        one register of i at a time
 *       %w = exp(%s[j, i:64] - %m)        =>      for j in .. carry %r: f32[i: p*16 .. p*16+16]
 *       store %s[j, i:64] = %w                      ..
 *
 * Where each register along the lane axis minds its own business, the loop over them may go
 * outside: the same operations on every element in the same order, a fraction of the code, and the
 * constants of a polynomial stay in registers. It is done for bodies with dear ops or with
 * transposing accesses; a register block that shares its operands (a contraction) is left whole.
 *
 * Values that live outside pass through arrays on the stack, indexed by p. */
#include "backends/x86/gen.h"
#include "ir/walk.h"
#include <string.h>

/* ---------------------------------------------------------------- may it be sliced? */

typedef struct survey {
    qn_gen *g;
    qn_sym lane; /* the one lane axis met, or NULL */
    int64_t extent;
    bool good, dear;
    const qn_block *body; /* NULL: a single expression */
    struct {
        qn_sym at[32];
        int32_t count;
    } free; /* values of the lane axis that are defined outside */
} survey;

static bool is_lane(const qn_gen *g, qn_sym axis)
{
    for (int32_t i = 0; i < g->nlanes; i++) {
        if (g->lanes[i] == axis) {
            return true;
        }
    }
    return false;
}

static void meet(survey *v, const qn_axis *a)
{
    int64_t n = qn_extent_fixed(v->g, a->extent);
    v->good = v->good && (!v->lane || (v->lane == a->name && v->extent == n));
    v->lane = a->name;
    v->extent = n;
}

static void meet_name(survey *v, qn_sym name)
{
    qn_entry *e = qn_scope_find(v->g, name);
    qn_sym lane = e && e->tile ? qn_lane_of(v->g, &e->tile->type) : NULL;
    if (!lane) {
        return;
    }
    meet(v, qn_type_axis(&e->tile->type, lane));
    for (int32_t i = 0; i < v->free.count; i++) {
        if (v->free.at[i] == name) {
            return;
        }
    }
    v->good = v->good && v->free.count < 32;
    if (v->good) {
        v->free.at[v->free.count++] = name;
    }
}

static bool look(void *user, const qn_expr *x)
{
    survey *v = user;
    if (x->kind == QN_IOTA && is_lane(v->g, x->u.iota.name)) {
        meet(v, &x->u.iota);
    } else if (x->kind == QN_NAME) {
        meet_name(v, x->u.name);
    } else if (x->kind == QN_AS || x->kind == QN_FOLD) {
        v->good = false;
    } else if (x->kind == QN_AXOP) {
        bool plain = qn_axop_is_reduce(x->u.axop.op) && x->u.axop.op != QN_AX_REDUCE_ARGMAX &&
                     x->u.axop.op != QN_AX_REDUCE_ARGMIN;
        v->good = v->good && plain;
        for (int32_t i = 0; i < x->u.axop.nover; i++) {
            v->good = v->good && !is_lane(v->g, x->u.axop.over[i]);
        }
    } else if (x->kind == QN_OP) {
        qn_op op = x->u.op.op;
        v->dear = v->dear || op == QN_OP_DIV || (op >= QN_OP_POW && op <= QN_OP_SIGMOID);
    }
    return true;
}

/* Is the index a sum in which the lane axis stands once, plainly? */
static int lane_terms(const survey *v, const qn_expr *x)
{
    if (x->kind == QN_IOTA) {
        return x->u.iota.name == v->lane;
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_ADD) {
        return lane_terms(v, x->u.op.args.at[0]) + lane_terms(v, x->u.op.args.at[1]);
    }
    return qn_mentions_axis(x, v->lane) ? 2 : 0;
}

static int32_t lane_index(const survey *v, const qn_exprs *index)
{
    int32_t found = -1;
    for (int32_t k = 0; k < index->count; k++) {
        int n = lane_terms(v, index->at[k]);
        if (n > 1 || (n == 1 && found >= 0)) {
            return -1;
        }
        found = n ? k : found;
    }
    return found;
}

typedef struct reading {
    const survey *v;
    const qn_stmt *store;
    int32_t dim;
    bool good;
} reading;

/* What is read of memory that is stored must be read along the same lanes. */
static bool same_lanes(void *user, const qn_expr *x)
{
    reading *r = user;
    if (x->kind == QN_LOAD && x->u.load.base == r->store->u.store.base) {
        r->good = r->good && lane_index(r->v, &x->u.load.index) == r->dim &&
                  qn_expr_equal(x->u.load.index.at[r->dim], r->store->u.store.index.at[r->dim]);
    }
    return true;
}

static bool store_is_good(survey *v, const qn_stmt *s)
{
    if (s->u.store.order != QN_STORE_PLAIN || s->u.store.start) {
        return false;
    }
    reading r = {v, s, lane_index(v, &s->u.store.index), true};
    if (r.dim < 0) {
        return false;
    }
    qn_block_visit(v->body, same_lanes, &r);
    return r.good;
}

/* Does the lane axis stand in an index that is not the last? Then lanes are strided in memory
 * (or in a buffer kept the other way round, where slicing does no harm). */
static bool strided(void *user, const qn_expr *x)
{
    survey *v = user;
    if (x->kind == QN_LOAD) {
        int32_t k = lane_index(v, &x->u.load.index);
        v->dear = v->dear || (k >= 0 && k + 1 < x->u.load.index.count);
    }
    return true;
}

static bool can_slice(qn_gen *g, survey *v)
{
    return v->good && v->dear && v->lane && v->extent % g->width == 0 && v->extent / g->width > 1;
}

static bool survey_loop(qn_gen *g, const qn_stmt *s, survey *v)
{
    *v = (survey){.g = g, .good = true, .body = &s->u.loop.body};
    qn_stmt_exprs(s, look, v);
    qn_block_visit(v->body, look, v);
    if (!v->good || !v->lane || v->extent % g->width || v->extent / g->width < 2) {
        return false;
    }
    qn_block_visit(v->body, strided, v);
    for (int32_t i = 0; i < s->u.loop.ncarries && v->good; i++) {
        v->good = qn_type_axis(&s->u.loop.carries[i].type, v->lane) != NULL;
    }
    for (int32_t i = 0; i < v->body->count && v->good; i++) {
        const qn_stmt *t = v->body->at[i];
        v->good = t->kind == QN_LET || t->kind == QN_YIELD ||
                  (t->kind == QN_STORE && store_is_good(v, t));
        if (t->kind == QN_STORE) {
            int32_t k = lane_index(v, &t->u.store.index);
            v->dear = v->dear || (k >= 0 && k + 1 < t->u.store.index.count);
        }
    }
    return can_slice(g, v);
}

/* ---------------------------------------------------------------- through the stack */

typedef struct passing { /* registers of one value in an array [p][other parts] */
    qn_tile tile;        /* outside */
    qn_v stack;
    int32_t others; /* registers a slice */
    int64_t bytes;  /* of a register */
} passing;

static qn_ty kept_type(qn_gen *g, qn_dtype t)
{
    qn_ty e = t == QN_BOOL ? g->i8 : qn_reg_type(g, t);
    return g->width > 1 ? g->l->VectorType(e, (unsigned)g->width) : e;
}

static passing pass(qn_gen *g, const qn_tile *t, int64_t parts)
{
    passing p = {.tile = *t};
    p.others = t->nregs / (int32_t)parts;
    p.bytes = qn_tile_bytes(t->type.dtype) * g->width;
    p.stack = qn_stack(g, g->i8, p.bytes * t->nregs, 64);
    return p;
}

static void put(qn_gen *g, const passing *p, qn_v at, qn_v v)
{
    if (p->tile.type.dtype == QN_BOOL) {
        v = g->l->BuildZExt(g->b, v, kept_type(g, QN_BOOL), "");
    }
    g->l->SetAlignment(g->l->BuildStore(g->b, v, at), (unsigned)p->bytes);
}

static qn_v get(qn_gen *g, const passing *p, qn_v at)
{
    qn_dtype t = p->tile.type.dtype;
    qn_v v = g->l->BuildLoad2(g->b, kept_type(g, t), at, "");
    g->l->SetAlignment(v, (unsigned)p->bytes);
    return t == QN_BOOL ? g->l->BuildICmp(g->b, LLVMIntNE, v, qn_int_like(g, 0, v), "") : v;
}

/* The number of register r among the others, and its p, in the order of the tile's own axes. */
static void locate(qn_gen *g, const passing *p, qn_sym lane, int32_t r, int64_t *slice,
                   int64_t *other)
{
    qn_coords c = {.count = 0};
    qn_part_coords(g, &p->tile.type, r, &c);
    *other = 0;
    for (int32_t i = 0; i < p->tile.type.rank; i++) {
        if (p->tile.type.axes[i].name == lane) {
            *slice = c.at[i].part;
        } else {
            *other = *other * qn_axis_parts(g, &p->tile.type, i) + c.at[i].part;
        }
    }
}

static void put_all(qn_gen *g, const passing *p, qn_sym lane)
{
    for (int32_t r = 0; r < p->tile.nregs; r++) {
        int64_t slice = 0, other;
        locate(g, p, lane, r, &slice, &other);
        put(g, p, qn_offset(g, p->stack, (slice * p->others + other) * p->bytes), p->tile.regs[r]);
    }
}

static void get_all(qn_gen *g, const passing *p, qn_sym lane)
{
    for (int32_t r = 0; r < p->tile.nregs; r++) {
        int64_t slice = 0, other;
        locate(g, p, lane, r, &slice, &other);
        p->tile.regs[r] = get(g, p, qn_offset(g, p->stack, (slice * p->others + other) * p->bytes));
    }
}

static qn_v slice_place(qn_gen *g, const passing *p, qn_v slice)
{
    qn_v bytes = qn_i64(g, p->others * p->bytes);
    return qn_gep(g, g->i8, p->stack, qn_imul(g, slice, bytes));
}

/* Within the loop over p the value has one register along the lanes. */
static const qn_tile *get_slice(qn_gen *g, const passing *p, qn_v slice)
{
    qn_tile *t = QN_NEW(g->arena, qn_tile);
    t->type = p->tile.type;
    t->nregs = p->others;
    t->regs = QN_NEWN(g->arena, qn_v, p->others + 1);
    qn_v place = slice_place(g, p, slice);
    for (int32_t i = 0; i < p->others; i++) {
        t->regs[i] = get(g, p, qn_offset(g, place, i * p->bytes));
    }
    return t;
}

static void put_slice(qn_gen *g, const passing *p, qn_v slice, qn_v *regs)
{
    qn_v place = slice_place(g, p, slice);
    for (int32_t i = 0; i < p->others; i++) {
        put(g, p, qn_offset(g, place, i * p->bytes), regs[i]);
    }
}

typedef struct slicing {
    survey v;
    passing *in;
    qn_loop loop;
    qn_entry *scope;
} slicing;

static void begin_slices(qn_gen *g, slicing *s)
{
    int64_t parts = s->v.extent / g->width;
    s->in = QN_NEWN(g->arena, passing, s->v.free.count + 1);
    for (int32_t i = 0; i < s->v.free.count; i++) {
        s->in[i] = pass(g, qn_scope_find(g, s->v.free.at[i])->tile, parts);
        put_all(g, &s->in[i], s->v.lane);
    }
    s->scope = g->scope;
    qn_loop_begin(g, &s->loop, qn_i64(g, 0), qn_i64(g, parts), qn_i64(g, 1), NULL, 0);
    g->slice = s->v.lane;
    g->slice_base = qn_imul(g, s->loop.index, qn_i64(g, g->width));
    for (int32_t i = 0; i < s->v.free.count; i++) {
        qn_scope_tile(g, s->v.free.at[i], get_slice(g, &s->in[i], s->loop.index));
    }
}

static void end_slices(qn_gen *g, slicing *s)
{
    g->slice = NULL;
    qn_loop_end(g, &s->loop, NULL);
    g->scope = s->scope;
}

/* A value of the full lane axis that its slices will fill. */
static passing result(qn_gen *g, const qn_type *t, int64_t parts)
{
    qn_tile *tile = QN_NEW(g->arena, qn_tile);
    tile->type = *t;
    tile->nregs = qn_parts_of(g, t);
    tile->regs = QN_NEWN(g->arena, qn_v, tile->nregs + 1);
    return pass(g, tile, parts);
}

static const qn_tile *whole(qn_gen *g, const passing *p, qn_sym lane)
{
    get_all(g, p, lane);
    qn_tile *t = QN_NEW(g->arena, qn_tile);
    *t = p->tile;
    return t;
}

bool qn_slice_loop(qn_gen *g, const qn_stmt *s, void (*emit)(qn_gen *g, const qn_stmt *s))
{
    slicing x;
    if (!g->width || g->slice || !survey_loop(g, s, &x.v)) {
        return false;
    }
    int32_t n = s->u.loop.ncarries;
    passing *out = QN_NEWN(g->arena, passing, n + 1);
    for (int32_t i = 0; i < n; i++) {
        out[i] = result(g, &s->u.loop.carries[i].type, x.v.extent / g->width);
    }
    begin_slices(g, &x);
    emit(g, s);
    for (int32_t i = 0; i < n; i++) {
        const qn_tile *t = qn_scope_find(g, s->u.loop.carries[i].name)->tile;
        put_slice(g, &out[i], x.loop.index, t->regs);
    }
    end_slices(g, &x);
    for (int32_t i = 0; i < n; i++) {
        qn_scope_tile(g, s->u.loop.carries[i].name, whole(g, &out[i], x.v.lane));
    }
    return true;
}

const qn_tile *qn_slice_value(qn_gen *g, const qn_expr *e)
{
    slicing x = {.v = {.g = g, .good = true}};
    if (!g->width || g->slice || e->kind == QN_FOLD) {
        return NULL;
    }
    qn_visit(e, look, &x.v);
    if (!can_slice(g, &x.v)) {
        return NULL;
    }
    passing out = {.others = 0};
    begin_slices(g, &x);
    const qn_tile *t = qn_materialise(g, qn_tree_as(g, e, QN_NO_TYPE), NULL);
    g->slice = NULL;
    bool lanes = qn_lane_of(g, &t->type) != NULL;
    if (lanes) {
        out = result(g, &t->type, x.v.extent / g->width);
        put_slice(g, &out, x.loop.index, t->regs);
    }
    end_slices(g, &x);
    if (!lanes) {
        qn_gen_fail(g, e->place, "a value lost its lanes");
    }
    return whole(g, &out, x.v.lane);
}
