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
    qn_sym axis; /* the axis to slice */
    int64_t extent;
    bool good, dear, lanes; /* lanes: some value has a lane axis */
    const qn_block *body;   /* NULL: a single expression */
    struct {
        qn_sym at[32];
        int32_t count;
    } free; /* values of the axis that are defined outside */
} survey;

/* Axes that a body mentions, lane axes first. */
typedef struct axes_met {
    qn_gen *g;
    qn_axis at[16];
    int32_t count;
} axes_met;

static bool is_lane(const qn_gen *g, qn_sym axis)
{
    for (int32_t i = 0; i < g->nlanes; i++) {
        if (g->lanes[i] == axis) {
            return true;
        }
    }
    return false;
}

static void add_axis(axes_met *m, const qn_axis *a)
{
    for (int32_t i = 0; i < m->count; i++) {
        if (m->at[i].name == a->name) {
            return;
        }
    }
    if (m->count < 16) {
        bool lane = is_lane(m->g, a->name);
        m->at[m->count++] = lane ? m->at[0] : *a;
        if (lane) {
            m->at[0] = *a;
        }
    }
}

static const qn_tile *tile_of(qn_gen *g, qn_sym name)
{
    qn_entry *e = qn_scope_find(g, name);
    return e && e->tile && !e->tile->base ? e->tile : NULL;
}

static bool find_axes(void *user, const qn_expr *x)
{
    axes_met *m = user;
    if (x->kind == QN_IOTA) {
        add_axis(m, &x->u.iota);
    } else if (x->kind == QN_NAME) {
        const qn_tile *t = tile_of(m->g, x->u.name);
        for (int32_t i = 0; t && i < t->type.rank; i++) {
            add_axis(m, &t->type.axes[i]);
        }
    }
    return true;
}

static void meet_name(survey *v, qn_sym name)
{
    const qn_tile *t = tile_of(v->g, name);
    if (!t) {
        return;
    }
    v->lanes = v->lanes || qn_lane_of(v->g, &t->type);
    if (!qn_type_axis(&t->type, v->axis)) {
        return;
    }
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
    if (x->kind == QN_IOTA) {
        v->lanes = v->lanes || is_lane(v->g, x->u.iota.name);
    } else if (x->kind == QN_NAME) {
        meet_name(v, x->u.name);
    } else if (x->kind == QN_AS || x->kind == QN_FOLD) {
        v->good = false;
    } else if (x->kind == QN_AXOP) {
        bool plain = qn_axop_is_reduce(x->u.axop.op) && x->u.axop.op != QN_AX_REDUCE_ARGMAX &&
                     x->u.axop.op != QN_AX_REDUCE_ARGMIN;
        v->good = v->good && plain;
        for (int32_t i = 0; i < x->u.axop.nover; i++) {
            v->good = v->good && x->u.axop.over[i] != v->axis;
        }
    } else if (x->kind == QN_OP) {
        qn_op op = x->u.op.op;
        v->dear = v->dear || op == QN_OP_DIV || (op >= QN_OP_POW && op <= QN_OP_SIGMOID);
    }
    return true;
}

static bool is_value(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_NAME && x->u.name[0] == '%';
}

static bool mentions_value(const qn_expr *x)
{
    return qn_contains(x, is_value, NULL);
}

/* Is the index a sum in which the axis stands once, plainly? 2 or more: no. */
static int plain_terms(const survey *v, const qn_expr *x)
{
    if (x->kind == QN_IOTA) {
        return x->u.iota.name == v->axis;
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_ADD) {
        return plain_terms(v, x->u.op.args.at[0]) + plain_terms(v, x->u.op.args.at[1]);
    }
    if (x->kind == QN_NAME) { /* a value of the axis, inner ones too, is not plain */
        const qn_tile *t = tile_of(v->g, x->u.name);
        return !t && x->u.name[0] == '%' ? 2 : t && qn_type_axis(&t->type, v->axis) ? 2 : 0;
    }
    return qn_mentions_axis(x, v->axis) ? 2 : mentions_value(x) ? 2 : 0;
}

static int32_t plain_index(const survey *v, const qn_exprs *index)
{
    int32_t found = -1;
    for (int32_t k = 0; k < index->count; k++) {
        int n = plain_terms(v, index->at[k]);
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
        r->good = r->good && plain_index(r->v, &x->u.load.index) == r->dim &&
                  qn_expr_equal(x->u.load.index.at[r->dim], r->store->u.store.index.at[r->dim]);
    }
    return true;
}

static bool store_is_good(survey *v, const qn_stmt *s)
{
    if (s->u.store.order != QN_STORE_PLAIN || s->u.store.start) {
        return false;
    }
    reading r = {v, s, plain_index(v, &s->u.store.index), true};
    if (r.dim < 0) {
        return false;
    }
    qn_block_visit(v->body, same_lanes, &r);
    return r.good;
}

/* Do lanes stand in an index that is not the last? Then they are strided in memory (or in a buffer
 * kept the other way round, where slicing does no harm). */
static bool strided(void *user, const qn_expr *x)
{
    survey *v = user;
    if (x->kind == QN_LOAD && is_lane(v->g, v->axis)) {
        int32_t k = plain_index(v, &x->u.load.index);
        v->dear = v->dear || (k >= 0 && k + 1 < x->u.load.index.count);
    }
    return true;
}

/* An access whose lanes are strided moves runs along its last index at once: that axis stays. */
static bool is_run(const survey *v, const qn_exprs *index)
{
    int32_t last = index->count - 1;
    bool lanes_before = false;
    for (int32_t k = 0; k < last; k++) {
        for (int32_t i = 0; i < v->g->nlanes; i++) {
            lanes_before = lanes_before || qn_mentions_axis(index->at[k], v->g->lanes[i]);
        }
    }
    return last >= 0 && lanes_before && qn_mentions_axis(index->at[last], v->axis);
}

static bool breaks_runs(void *user, const qn_expr *x)
{
    survey *v = user;
    v->good = v->good && !(x->kind == QN_LOAD && is_run(v, &x->u.load.index));
    return true;
}

bool qn_is_sliced(const qn_gen *g, qn_sym axis)
{
    for (int32_t i = 0; i < g->nslices; i++) {
        if (g->slices[i].axis == axis) {
            return true;
        }
    }
    return false;
}

/* A loop over the axis must have trips to save, and whole registers. Other axes than the lanes'
 * only where there are lanes: alone they are packed into lanes, see eval.c. */
static bool start_survey(qn_gen *g, const qn_axis *a, const qn_block *body, survey *v)
{
    *v = (survey){.g = g, .axis = a->name, .good = true, .body = body};
    v->extent = qn_extent_fixed(g, a->extent);
    bool lane = is_lane(g, a->name);
    return !qn_is_sliced(g, a->name) && v->extent > 1 &&
           (!lane || (v->extent % g->width == 0 && v->extent > g->width));
}

static bool survey_loop(qn_gen *g, const qn_stmt *s, const qn_axis *a, survey *v)
{
    if (!start_survey(g, a, &s->u.loop.body, v)) {
        return false;
    }
    qn_stmt_exprs(s, look, v);
    qn_block_visit(v->body, look, v);
    for (int32_t i = 0; i < s->u.loop.ncarries && v->good; i++) {
        v->good = qn_type_axis(&s->u.loop.carries[i].type, v->axis) != NULL;
    }
    if (!v->good) {
        return false;
    }
    qn_block_visit(v->body, strided, v);
    qn_block_visit(v->body, breaks_runs, v);
    for (int32_t i = 0; i < v->body->count && v->good; i++) {
        const qn_stmt *t = v->body->at[i];
        v->good = t->kind != QN_STORE || !is_run(v, &t->u.store.index);
        if (!v->good) {
            break;
        }
        v->good = t->kind == QN_LET || t->kind == QN_YIELD ||
                  (t->kind == QN_STORE && store_is_good(v, t));
        if (t->kind == QN_STORE && is_lane(g, v->axis)) {
            int32_t k = plain_index(v, &t->u.store.index);
            v->dear = v->dear || (k >= 0 && k + 1 < t->u.store.index.count);
        }
    }
    return v->good && v->dear && v->lanes;
}

/* ---------------------------------------------------------------- through the stack */

typedef struct passing { /* registers of one value in an array [p][other parts] */
    qn_tile tile;        /* outside */
    qn_v stack;
    int32_t others; /* registers a slice */
    int64_t bytes;  /* of a register */
} passing;

static qn_ty kept_type(qn_gen *g, const qn_type *t)
{
    qn_ty e = t->dtype == QN_BOOL ? g->i8 : qn_reg_type(g, t->dtype);
    bool wide = g->width > 1 && qn_lane_of(g, t);
    return wide ? g->l->VectorType(e, (unsigned)g->width) : e;
}

static passing pass(qn_gen *g, const qn_tile *t, int64_t parts)
{
    passing p = {.tile = *t};
    p.others = t->nregs / (int32_t)parts;
    p.bytes = qn_tile_bytes(t->type.dtype) * (qn_lane_of(g, &t->type) ? g->width : 1);
    p.stack = qn_stack(g, g->i8, p.bytes * t->nregs, 64);
    return p;
}

static void put(qn_gen *g, const passing *p, qn_v at, qn_v v)
{
    if (p->tile.type.dtype == QN_BOOL) {
        v = g->l->BuildZExt(g->b, v, kept_type(g, &p->tile.type), "");
    }
    g->l->SetAlignment(g->l->BuildStore(g->b, v, at), (unsigned)p->bytes);
}

static qn_v get(qn_gen *g, const passing *p, qn_v at)
{
    qn_dtype t = p->tile.type.dtype;
    qn_v v = g->l->BuildLoad2(g->b, kept_type(g, &p->tile.type), at, "");
    g->l->SetAlignment(v, (unsigned)p->bytes);
    return t == QN_BOOL ? g->l->BuildICmp(g->b, LLVMIntNE, v, qn_int_like(g, 0, v), "") : v;
}

/* The number of register r among the others, and its p, in the order of the tile's own axes. */
static void locate(qn_gen *g, const passing *p, qn_sym axis, int32_t r, int64_t *slice,
                   int64_t *other)
{
    qn_coords c = {.count = 0};
    qn_part_coords(g, &p->tile.type, r, &c);
    *other = 0;
    for (int32_t i = 0; i < p->tile.type.rank; i++) {
        if (p->tile.type.axes[i].name == axis) {
            *slice = c.at[i].part;
        } else {
            *other = *other * qn_axis_parts(g, &p->tile.type, i) + c.at[i].part;
        }
    }
}

static void put_all(qn_gen *g, const passing *p, qn_sym axis)
{
    for (int32_t r = 0; r < p->tile.nregs; r++) {
        int64_t slice = 0, other;
        locate(g, p, axis, r, &slice, &other);
        put(g, p, qn_offset(g, p->stack, (slice * p->others + other) * p->bytes), p->tile.regs[r]);
    }
}

static void get_all(qn_gen *g, const passing *p, qn_sym axis)
{
    for (int32_t r = 0; r < p->tile.nregs; r++) {
        int64_t slice = 0, other;
        locate(g, p, axis, r, &slice, &other);
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
    int64_t parts;
    passing *in;
    qn_loop loop;
    qn_entry *scope;
} slicing;

static void begin_slices(qn_gen *g, slicing *s)
{
    bool lane = is_lane(g, s->v.axis);
    s->parts = lane ? s->v.extent / g->width : s->v.extent;
    s->in = QN_NEWN(g->arena, passing, s->v.free.count + 1);
    for (int32_t i = 0; i < s->v.free.count; i++) {
        s->in[i] = pass(g, tile_of(g, s->v.free.at[i]), s->parts);
        put_all(g, &s->in[i], s->v.axis);
    }
    s->scope = g->scope;
    qn_loop_begin(g, &s->loop, qn_i64(g, 0), qn_i64(g, s->parts), qn_i64(g, 1), NULL, 0);
    qn_v base = qn_imul(g, s->loop.index, qn_i64(g, lane ? g->width : 1));
    g->slices[g->nslices].axis = s->v.axis;
    g->slices[g->nslices++].base = base;
    for (int32_t i = 0; i < s->v.free.count; i++) {
        qn_scope_tile(g, s->v.free.at[i], get_slice(g, &s->in[i], s->loop.index));
    }
}

static void end_slices(qn_gen *g, slicing *s)
{
    g->nslices--;
    qn_loop_end(g, &s->loop, NULL);
    g->scope = s->scope;
}

/* A value of the full axis that its slices will fill. */
static passing result(qn_gen *g, const qn_type *t, int64_t parts)
{
    qn_tile *tile = QN_NEW(g->arena, qn_tile);
    tile->type = *t;
    tile->nregs = qn_parts_of(g, t);
    tile->regs = QN_NEWN(g->arena, qn_v, tile->nregs + 1);
    return pass(g, tile, parts);
}

static const qn_tile *whole(qn_gen *g, const passing *p, qn_sym axis)
{
    get_all(g, p, axis);
    qn_tile *t = QN_NEW(g->arena, qn_tile);
    *t = p->tile;
    return t;
}

static void sliced_loop(qn_gen *g, const qn_stmt *s, slicing *x,
                        void (*emit)(qn_gen *, const qn_stmt *))
{
    int32_t n = s->u.loop.ncarries;
    passing *out = QN_NEWN(g->arena, passing, n + 1);
    int64_t parts = is_lane(g, x->v.axis) ? x->v.extent / g->width : x->v.extent;
    for (int32_t i = 0; i < n; i++) {
        out[i] = result(g, &s->u.loop.carries[i].type, parts);
    }
    begin_slices(g, x);
    if (!qn_slice_loop(g, s, emit)) {
        emit(g, s);
    }
    for (int32_t i = 0; i < n; i++) {
        put_slice(g, &out[i], x->loop.index, tile_of(g, s->u.loop.carries[i].name)->regs);
    }
    end_slices(g, x);
    for (int32_t i = 0; i < n; i++) {
        qn_scope_tile(g, s->u.loop.carries[i].name, whole(g, &out[i], x->v.axis));
    }
}

bool qn_slice_loop(qn_gen *g, const qn_stmt *s, void (*emit)(qn_gen *g, const qn_stmt *s))
{
    axes_met met = {.g = g};
    if (!g->width || g->nslices == QN_MAX_SLICES) {
        return false;
    }
    qn_stmt_exprs(s, find_axes, &met);
    qn_block_visit(&s->u.loop.body, find_axes, &met);
    for (int32_t i = 0; i < met.count; i++) {
        slicing x;
        if (survey_loop(g, s, &met.at[i], &x.v)) {
            sliced_loop(g, s, &x, emit);
            return true;
        }
    }
    return false;
}

static const qn_tile *sliced_value(qn_gen *g, const qn_expr *e, slicing *x)
{
    begin_slices(g, x);
    const qn_tile *inner = qn_slice_value(g, e);
    if (!inner) {
        inner = qn_materialise(g, qn_tree_as(g, e, QN_NO_TYPE), NULL);
    }
    if (!qn_type_axis(&inner->type, x->v.axis)) {
        qn_gen_fail(g, e->place, "a value lost its axis %s", x->v.axis);
    }
    g->nslices--;
    passing out = result(g, &inner->type, x->parts);
    g->nslices++;
    put_slice(g, &out, x->loop.index, inner->regs);
    end_slices(g, x);
    return whole(g, &out, x->v.axis);
}

const qn_tile *qn_slice_value(qn_gen *g, const qn_expr *e)
{
    axes_met met = {.g = g};
    if (!g->width || g->nslices == QN_MAX_SLICES || e->kind == QN_NAME) {
        return NULL;
    }
    qn_visit(e, find_axes, &met);
    for (int32_t i = 0; i < met.count; i++) {
        slicing x;
        if (!start_survey(g, &met.at[i], NULL, &x.v)) {
            continue;
        }
        qn_visit(e, look, &x.v);
        qn_visit(e, breaks_runs, &x.v);
        if (x.v.good && x.v.dear && x.v.lanes) {
            return sliced_value(g, e, &x);
        }
    }
    return NULL;
}
