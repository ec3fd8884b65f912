/* SPDX-License-Identifier: MIT
 *
 * Groups become loops.
 *
 *     for j1 in 0..60 step 6 carry %r: f32[i:16] = %m {       reductions are carries of the loop
 *       for d2 in 0..D carry %d: f32[j:6, i:16] = 0.0 {       a product is a loop of its own
 *         yield fma(%q[d2, i:16], k[.., j0 + (j1 + j:6), d2], %d)
 *       }
 *       ..                                                    pointwise work at this block
 *     }
 *     the same once more with the block that is left: 60..64
 *
 * The last loop axis of a group that holds a product is walked in register blocks. The axes of an
 * accumulator are printed longer side first: emitters walk it in that order, so the operands of
 * the shorter side stay in registers, and accumulators + shorter side + 1 must not exceed them. */
#include "passes/leaf_internal.h"

#include <string.h>

/* ---------------------------------------------------------------- expressions at an element */

qn_expr *leaf_axis_at(const lf_ctx *ctx, qn_sym axis)
{
    for (int k = ctx->count - 1; k >= 0; k--) {
        if (ctx->at[k].axis == axis) {
            return ctx->at[k].x;
        }
    }
    return NULL;
}

static void put_axis(leaf *lf, lf_ctx *ctx, qn_sym axis, qn_expr *x)
{
    if (ctx->count == QN_MAX_AXES * 2) {
        leaf_refuse(lf, x->place, "too many axes");
    }
    ctx->at[ctx->count].axis = axis;
    ctx->at[ctx->count++].x = x;
}

static qn_expr *at_or_whole(leaf *lf, const lf_ctx *ctx, qn_axis a)
{
    qn_expr *x = leaf_axis_at(ctx, a.name);
    return x ? x : qn_iota(lf->ir, a.name, a.extent);
}

/* Can an index along the axis lie outside of a buffer with that extent? */
static bool overruns(leaf *lf, const lf_ctx *ctx, qn_axis a)
{
    const qn_expr *x = leaf_axis_at(ctx, a.name);
    if (!x || x->kind != QN_OP || x->u.op.args.at[1]->kind != QN_IOTA) {
        return false;
    }
    int64_t n = leaf_const(lf, a.extent), b = leaf_const(lf, x->u.op.args.at[1]->u.iota.extent);
    return leaf_is_lane(lf, a.name) && (n < 1 || b < 1 || n % b != 0);
}

/* Can a load or a store at ctx lie outside its memory? What is inside along a whole axis may not be
 * along a chunk of lanes that sticks out of it. */
static bool may_miss(leaf *lf, qn_sym base, const qn_exprs *index, bool known, const lf_ctx *ctx)
{
    const lf_info *m = leaf_info(lf, base);
    for (int k = 0; m && k < index->count; k++) {
        qn_type t = leaf_type(lf, index->at[k]);
        const qn_axis *a =
            ctx->lane && leaf_axis_at(ctx, ctx->lane) ? qn_type_axis(&t, ctx->lane) : NULL;
        if (a && overruns(lf, ctx, *a)) {
            return true;
        }
        if (!known && !leaf_inside(lf, index->at[k], m->type.axes[k].extent, ctx)) {
            return true;
        }
    }
    return !m;
}

static bool needs_guard(leaf *lf, const qn_expr *load, const lf_ctx *ctx)
{
    return may_miss(lf, load->u.load.base, &load->u.load.index, !load->u.load.guarded, ctx);
}

/* x where the lanes are inside the axis, `other` in those that stick out. */
static qn_expr *inside_only(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_axis a, qn_expr *other)
{
    qn_ir *ir = lf->ir;
    if (!overruns(lf, ctx, a)) {
        return x;
    }
    qn_expr *at = leaf_axis_at(ctx, a.name), *chunk = at->u.op.args.at[1];
    qn_expr *left = qn_op2(ir, QN_OP_SUB, qn_extent_expr(ir, a.extent), at->u.op.args.at[0]);
    left = qn_op3(ir, QN_OP_CLAMP, left, qn_int(ir, 0), qn_extent_expr(ir, chunk->u.iota.extent));
    qn_expr *c = qn_op2(ir, QN_OP_LT, qn_cast(ir, QN_I32, chunk), qn_cast(ir, QN_I32, left));
    return qn_op3(ir, QN_OP_SELECT, c, x, other);
}

static qn_expr *from_buffer(leaf *lf, const lf_info *v, const lf_ctx *ctx)
{
    const lf_info *m = leaf_info(lf, v->buf);
    qn_expr *index[QN_MAX_AXES];
    bool guarded = false;
    for (int k = 0; k < m->type.rank; k++) {
        index[k] = at_or_whole(lf, ctx, m->type.axes[k]);
        guarded = guarded || overruns(lf, ctx, m->type.axes[k]);
    }
    return qn_load(lf->ir, v->buf, index, m->type.rank, guarded, NULL);
}

static bool is_here(const lf_ctx *ctx, qn_sym name)
{
    for (int k = 0; k < ctx->nhere; k++) {
        if (ctx->here[k] == name) {
            return true;
        }
    }
    return false;
}

/* A value in registers keeps its axes; under `as` they have other names. */
static qn_expr *in_registers(leaf *lf, qn_expr *x, const lf_info *v, const lf_ctx *ctx)
{
    qn_rename pairs[QN_MAX_AXES];
    int n = 0;
    for (int k = 0; k < v->type.rank; k++) {
        const qn_expr *at = leaf_axis_at(ctx, v->type.axes[k].name);
        if (at && at->kind == QN_IOTA && at->u.iota.name != v->type.axes[k].name) {
            pairs[n++] = (qn_rename){v->type.axes[k].name, at->u.iota.name};
        } else if (at && leaf_is_small(lf, &v->type) && at->kind != QN_IOTA &&
                   !is_here(ctx, v->name)) {
            leaf_refuse(lf, x->place, "%s is in registers, but read at an index", v->name);
        }
    }
    return n ? qn_as(lf->ir, x, pairs, n) : x;
}

static qn_expr *inst_name(leaf *lf, qn_expr *x, const lf_ctx *ctx)
{
    const lf_info *v = leaf_info(lf, x->u.name);
    if (!v || v->kind != LF_VALUE || is_here(ctx, x->u.name)) {
        return x;
    }
    if (leaf_virtual(v)) {
        return leaf_inst(lf, v->def, ctx);
    }
    if (v->buf && !leaf_is_small(lf, &v->type)) {
        return from_buffer(lf, v, ctx);
    }
    return in_registers(lf, x, v, ctx);
}

static qn_expr *inst_as(leaf *lf, qn_expr *x, const lf_ctx *ctx)
{
    lf_ctx inner = *ctx;
    for (int k = 0; k < x->u.as.npairs; k++) {
        qn_rename r = x->u.as.pairs[k];
        qn_expr *to = leaf_axis_at(ctx, r.to);
        if (!to) {
            qn_type t = leaf_type(lf, x);
            const qn_axis *a = qn_type_axis(&t, r.to);
            if (!a) {
                leaf_refuse(lf, x->place, "an axis that is not there");
            }
            to = qn_iota(lf->ir, a->name, a->extent);
        }
        put_axis(lf, &inner, r.from, to);
        inner.lane = inner.lane == r.from ? NULL : inner.lane;
        inner.renamed = true;
    }
    return leaf_inst(lf, x->u.as.x, &inner);
}

qn_expr *leaf_inst(leaf *lf, qn_expr *x, const lf_ctx *ctx)
{
    qn_ir *ir = lf->ir;
    qn_expr *args[QN_MAX_AXES];
    switch (x->kind) {
    case QN_LIT:
    case QN_FOLD:
        return x;
    case QN_IOTA: {
        qn_expr *at = leaf_axis_at(ctx, x->u.iota.name);
        return at ? at : x;
    }
    case QN_NAME:
        return inst_name(lf, x, ctx);
    case QN_LOAD:
        for (int k = 0; k < x->u.load.index.count; k++) {
            args[k] = leaf_inst(lf, x->u.load.index.at[k], ctx);
        }
        return qn_load(ir, x->u.load.base, args, x->u.load.index.count, needs_guard(lf, x, ctx),
                       x->u.load.pad);
    case QN_OP: {
        if (x->u.op.op == QN_OP_CAST || qn_op_is_compare(x->u.op.op)) {
            qn_expr *p = leaf_positions(lf, x, ctx);
            if (p) {
                return p;
            }
        }
        for (int k = 0; k < x->u.op.args.count; k++) {
            args[k] = leaf_inst(lf, x->u.op.args.at[k], ctx);
        }
        qn_expr *copy = QN_NEW(ir->arena, qn_expr);
        *copy = *x;
        copy->u.op.args = qn_exprs_of(ir, args, x->u.op.args.count);
        return copy;
    }
    case QN_AXOP: {
        for (int k = 0; k < x->u.axop.args.count; k++) {
            args[k] = leaf_inst(lf, x->u.axop.args.at[k], ctx);
        }
        qn_expr *copy = QN_NEW(ir->arena, qn_expr);
        *copy = *x;
        copy->u.axop.args = qn_exprs_of(ir, args, x->u.axop.args.count);
        return copy;
    }
    case QN_AS:
        return inst_as(lf, x, ctx);
    }
    return x;
}

void leaf_straight(leaf *lf, qn_stmt *s, qn_block *out)
{
    lf_ctx none = {0};
    switch (s->kind) {
    case QN_LET:
        s->u.let.x = leaf_inst(lf, s->u.let.x, &none);
        break;
    case QN_STORE: {
        qn_expr *index[QN_MAX_AXES];
        for (int k = 0; k < s->u.store.index.count; k++) {
            index[k] = leaf_inst(lf, s->u.store.index.at[k], &none);
        }
        if (!qn_attr_find(&s->attrs, "in") &&
            !may_miss(lf, s->u.store.base, &s->u.store.index, false, &none)) {
            qn_attrs attrs = {0}; /* those of the source are shared */
            for (int k = 0; k < s->attrs.count; k++) {
                qn_attr_add(lf->ir, &attrs, s->attrs.at[k].name, s->attrs.at[k].args,
                            s->attrs.at[k].nargs);
            }
            qn_attr_add(lf->ir, &attrs, "in", NULL, 0);
            s->attrs = attrs;
        }
        s->u.store.index = qn_exprs_of(lf->ir, index, s->u.store.index.count);
        s->u.store.x = leaf_inst(lf, s->u.store.x, &none);
        break;
    }
    case QN_FOR: /* the body is printed already */
        for (int k = 0; k < s->u.loop.niters; k++) {
            qn_iter *it = &s->u.loop.iters[k];
            qn_piece *pieces = QN_NEWN(lf->ir->arena, qn_piece, it->npieces + 1);
            for (int n = 0; n < it->npieces; n++) {
                pieces[n] = it->pieces[n];
                pieces[n].lo = leaf_inst(lf, pieces[n].lo, &none);
                pieces[n].hi = leaf_inst(lf, pieces[n].hi, &none);
            }
            it->pieces = pieces;
            it->step = it->step ? leaf_inst(lf, it->step, &none) : NULL;
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            s->u.loop.carries[k].init = leaf_inst(lf, s->u.loop.carries[k].init, &none);
        }
        break;
    case QN_IF:
        s->u.branch.cond = leaf_inst(lf, s->u.branch.cond, &none);
        break;
    case QN_YIELD: {
        qn_expr **xs = QN_NEWN(lf->scratch, qn_expr *, s->u.yield.count + 1);
        for (int k = 0; k < s->u.yield.count; k++) {
            xs[k] = leaf_inst(lf, s->u.yield.at[k], &none);
        }
        s->u.yield = qn_exprs_of(lf->ir, xs, s->u.yield.count);
        break;
    }
    case QN_FLAG:
        s->u.flag.cond = leaf_inst(lf, s->u.flag.cond, &none);
        break;
    case QN_BUF:
    case QN_SYNC:
    case QN_LAUNCH:
    case QN_PREFETCH:
        break;
    }
    qn_block_push(lf->ir, out, s);
}

/* ---------------------------------------------------------------- sizes of blocks */

typedef struct group {
    leaf *lf;
    lf_step *st;
    qn_axis axes[QN_MAX_AXES]; /* in loop order: a walked lane axis first, the blocked one last */
    int naxes;
    bool lane_walked; /* the lane axis is among them */
    qn_axis lane;     /* with its whole extent; name NULL: none */
    int64_t chunk;    /* lanes taken at a time */
    int64_t block;    /* of the last axis */
    int64_t vectors;  /* registers a step of the last axis */
    bool product;
} group;

static bool find_axis(const qn_type *t, qn_sym name, qn_axis *out)
{
    const qn_axis *a = qn_type_axis(t, name);
    if (a) {
        *out = *a;
    }
    return a != NULL;
}

/* The lane axis as it is before it is cut into chunks. */
static qn_axis lane_axis(leaf *lf, const lf_step *st)
{
    qn_axis out = {NULL, {NULL, 0}};
    for (int k = 0; st->lane && k < st->items.count; k++) {
        const lf_item *it = st->items.at[k];
        qn_expr *xs[4] = {it->x, it->a, it->b, it->init};
        if (find_axis(&it->type, st->lane, &out)) {
            return out;
        }
        for (int n = 0; n < 4; n++) {
            if (xs[n]) {
                qn_type t = leaf_type(lf, xs[n]);
                if (find_axis(&t, st->lane, &out)) {
                    return out;
                }
            }
        }
    }
    return out;
}

static int64_t flat_of(leaf *lf, const qn_type *t)
{
    int64_t n = 1;
    for (int k = 0; k < t->rank; k++) {
        n *= leaf_is_flat(lf, t->axes[k]) ? leaf_const(lf, t->axes[k].extent) : 1;
    }
    return t->dtype == QN_F64 || t->dtype == QN_I64 ? 2 * n : n;
}

/* Is the axis innermost in memory while the lanes are strided there? Then neighbours along it are
 * taken together: 4 of them and the lanes make a transposition in registers. */
static bool transposed_by(leaf *lf, const qn_exprs *index, qn_sym axis, qn_sym lane)
{
    if (!index->count) {
        return false;
    }
    qn_type last = leaf_type(lf, index->at[index->count - 1]);
    if (!leaf_type_has(&last, axis) || leaf_type_has(&last, lane)) {
        return false;
    }
    for (int k = 0; k < index->count - 1; k++) {
        qn_type t = leaf_type(lf, index->at[k]);
        if (leaf_type_has(&t, lane)) {
            return true;
        }
    }
    return false;
}

static bool transposes(leaf *lf, const lf_item *it, qn_sym axis, qn_sym lane)
{
    if (!lane) {
        return false;
    }
    if (it->x && it->x->kind == QN_LOAD && transposed_by(lf, &it->x->u.load.index, axis, lane)) {
        return true;
    }
    return it->kind == LF_STORE && it->stmt->u.store.mode == QN_STORE_SET &&
           transposed_by(lf, &it->stmt->u.store.index, axis, lane);
}

static void order_axes(group *g)
{
    leaf *lf = g->lf;
    lf_step *st = g->st;
    int n = 0, last = -1;
    for (int k = 0; k < st->naxes; k++) {
        if (st->axes[k].name == st->lane) {
            g->axes[n++] = st->axes[k];
            g->lane_walked = true;
        }
    }
    for (int k = 0; k < st->naxes && last < 0; k++) {
        for (int m = 0; m < st->items.count && last < 0; m++) {
            if (st->axes[k].name != st->lane &&
                transposes(lf, st->items.at[m], st->axes[k].name, st->lane)) {
                last = k;
            }
        }
    }
    for (int k = 0; k < st->naxes; k++) {
        if (st->axes[k].name != st->lane && k != last) {
            g->axes[n++] = st->axes[k];
        }
    }
    if (last >= 0) {
        g->axes[n++] = st->axes[last];
    }
    g->naxes = n;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool fits(const leaf *lf, int64_t rows, int64_t vectors)
{
    return rows * vectors + smaller(rows, vectors) + 1 <= lf->registers;
}

/* Lanes at a time along a walked (or contracted) lane axis: as many as divide it and leave room. */
static int64_t pick_chunk(leaf *lf, qn_axis lane, int64_t flat, int64_t most)
{
    int64_t line = leaf_block_line(lf, lane.name), n = leaf_const(lf, lane.extent);
    if (line > 0) {
        return (line + lf->width - 1) / lf->width * lf->width;
    }
    int64_t best = lf->width;
    for (int64_t v = 1; v * flat <= most; v++) {
        int64_t c = v * lf->width;
        if (n > 0 && c <= n && n % c == 0 && fits(lf, flat, v)) {
            best = c;
        }
    }
    return best;
}

static int64_t pick_block(leaf *lf, qn_axis a, int64_t vectors)
{
    int64_t line = leaf_block_line(lf, a.name), n = leaf_const(lf, a.extent);
    if (line > 0) {
        line = line > 64 ? 64 : line;
        if (!fits(lf, line, vectors)) {
            qn_remark(lf->cx, "W-SPILL", (qn_place){0}, "%lld of %s beside %lld vectors",
                      (long long)line, a.name, (long long)vectors);
        }
        while (line > 1 && !fits(lf, line, vectors)) { /* a text of !leaf keeps its own numbers */
            line--;
        }
        return line;
    }
    int64_t best = 1, even = 1;
    for (int64_t r = 1; r <= 16 && fits(lf, r, vectors); r++) {
        best = r;
        even = n > 0 && n % r == 0 ? r : even;
    }
    return even * vectors >= 8 && 2 * even >= best ? even : best;
}

/* Flat axes that an item contracts are in registers too, before they are summed. */
static int64_t contracted_flat(leaf *lf, const lf_item *it)
{
    qn_expr *xs[3] = {it->a, it->b, it->x};
    int64_t product = 1;
    for (int n = 0; n < it->nover; n++) {
        qn_axis a;
        for (int k = 0; k < 3; k++) {
            qn_type t = xs[k] ? leaf_type(lf, xs[k]) : (qn_type){QN_F32, 0, NULL};
            if (xs[k] && find_axis(&t, it->over[n], &a)) {
                product *= leaf_is_flat(lf, a) ? leaf_const(lf, a.extent) : 1;
                break;
            }
        }
    }
    return product;
}

static void size_group(group *g)
{
    leaf *lf = g->lf;
    lf_step *st = g->st;
    int64_t flat = 1;
    bool across = false, transpose = st->items.count > 0;
    const qn_axis *last = g->naxes ? &g->axes[g->naxes - 1] : NULL;
    if (last && last->name == st->lane) {
        last = NULL;
    }
    for (int k = 0; k < st->items.count; k++) {
        const lf_item *it = st->items.at[k];
        int64_t f = flat_of(lf, &it->type) * contracted_flat(lf, it);
        flat = f > flat ? f : flat;
        g->product = g->product || (it->kind == LF_DOT);
        transpose = transpose && last && transposes(lf, it, last->name, st->lane);
        for (int n = 0; it->kind == LF_DOT && n < it->nover; n++) {
            across = across || it->over[n] == st->lane;
        }
    }
    const lf_lane *l = st->lane ? leaf_lane_of(lf, st->lane) : NULL;
    if (l && l->whole) {
        int64_t n = leaf_const(lf, g->lane.extent);
        g->chunk = n;
        g->vectors = (n + lf->width - 1) / lf->width * flat;
    } else if (l) {
        int64_t most = !g->product ? 4 : across ? 8 : last ? 4 : lf->registers / 2;
        g->chunk = pick_chunk(lf, g->lane, flat, most);
        g->vectors = g->chunk / lf->width * flat;
    } else {
        g->vectors = flat;
    }
    g->block = 1;
    if (last && g->product) {
        g->block = across ? leaf_block_line(lf, last->name) : pick_block(lf, *last, g->vectors);
        g->block = g->block < 1 ? 1 : g->block;
    } else if (last && transpose) {
        int64_t most = g->vectors ? lf->registers / g->vectors : 1;
        g->block = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    }
    g->block = g->block >> lf->walked->shrink > 1 ? g->block >> lf->walked->shrink : 1;
    int64_t n = last ? leaf_const(lf, last->extent) : -1;
    g->block = n > 0 ? smaller(g->block, n) : g->block;
}

/* ---------------------------------------------------------------- pieces of an axis */

typedef struct segment {
    qn_expr *lo, *hi;
    int64_t block;
} segment;

static qn_expr *end_of(leaf *lf, qn_axis a)
{
    const lf_trim *t = leaf_trim_of(lf, a.name);
    return t ? qn_name(lf->ir, t->count) : qn_extent_expr(lf->ir, a.extent);
}

/* A constant extent ends in one narrower block, or two even ones where that block would be too
 * small to hide latency; an extent known at run time ends in blocks of one. */
static int segments(leaf *lf, qn_axis a, int64_t r, int64_t vectors, segment out[2])
{
    qn_ir *ir = lf->ir;
    int64_t n = leaf_const(lf, a.extent);
    if (leaf_trim_of(lf, a.name) || n < 1) {
        if (r == 1) {
            out[0] = (segment){qn_int(ir, 0), end_of(lf, a), 1};
            return 1;
        }
        qn_expr *whole = qn_op2(
            ir, QN_OP_MUL, qn_op2(ir, QN_OP_FLOORDIV, end_of(lf, a), qn_int(ir, r)), qn_int(ir, r));
        out[0] = (segment){qn_int(ir, 0), whole, r};
        out[1] = (segment){whole, end_of(lf, a), 1};
        return 2;
    }
    int64_t rest = n % r, full = n - rest;
    if (rest == 0) {
        out[0] = (segment){qn_int(ir, 0), qn_int(ir, n), r};
        return 1;
    }
    for (int64_t b = r - 1; rest * vectors < 8 && full >= r && b > rest; b--) {
        if ((r + rest) % b == 0) {
            full -= r;
            int k = 0;
            if (full) {
                out[k++] = (segment){qn_int(ir, 0), qn_int(ir, full), r};
            }
            out[k++] = (segment){qn_int(ir, full), qn_int(ir, n), b};
            return k;
        }
    }
    out[0] = (segment){qn_int(ir, 0), qn_int(ir, full), r};
    out[1] = (segment){qn_int(ir, full), qn_int(ir, n), rest};
    return 2;
}

/* ---------------------------------------------------------------- items at a block */

typedef struct body {
    group *g;
    lf_ctx ctx;
    int64_t block; /* of the last axis, in this segment */
    qn_block out;
    qn_sym *here;
    qn_expr **yields;
    int nyields;
    const qn_sym *sums; /* names of the reductions' carries in this segment, item by item */
} body;

static qn_sym index_name(leaf *lf, qn_sym axis)
{
    qn_sym name = leaf_fresh(lf, axis);
    qn_type t = {QN_I64, 0, NULL};
    qn_env_define(lf->env, &(qn_bound){.name = name, .kind = QN_BOUND_INDEX, .type = t});
    leaf_define(lf, name, LF_SCALAR, t);
    return name;
}

/* A block of a lane axis that is not the lane axis here needs a name of its own. */
static qn_sym block_axis(leaf *lf, qn_sym axis, bool lane)
{
    return lane || !leaf_is_lane(lf, axis) ? axis : leaf_fresh(lf, axis);
}

/* The type of a value at this block. */
static qn_type type_at(body *b, const qn_type *t)
{
    leaf *lf = b->g->lf;
    qn_axis axes[QN_MAX_AXES];
    int n = 0;
    for (int k = 0; k < t->rank; k++) {
        const qn_expr *at = leaf_axis_at(&b->ctx, t->axes[k].name);
        if (!at) {
            axes[n++] = t->axes[k];
        } else if (at->kind == QN_OP) {
            axes[n++] = at->u.op.args.at[1]->u.iota;
        }
    }
    return qn_type_of(lf->ir, t->dtype, axes, n);
}

static int64_t registers_of(leaf *lf, const group *g, qn_axis a)
{
    int64_t n = leaf_const(lf, a.extent);
    return a.name == g->lane.name ? (n + lf->width - 1) / lf->width : n;
}

/* Longer side first. */
static qn_type walk_order(body *b, qn_type t)
{
    leaf *lf = b->g->lf;
    qn_axis axes[QN_MAX_AXES];
    for (int k = 0; k < t.rank; k++) {
        int at = k;
        while (at > 0 && registers_of(lf, b->g, axes[at - 1]) < registers_of(lf, b->g, t.axes[k])) {
            axes[at] = axes[at - 1];
            at--;
        }
        axes[at] = t.axes[k];
    }
    return qn_type_of(lf->ir, t.dtype, axes, t.rank);
}

static void to_buffer(body *b, qn_sym value, qn_expr *x)
{
    leaf *lf = b->g->lf;
    const lf_info *v = leaf_info(lf, value), *m = leaf_info(lf, v->buf);
    qn_expr *index[QN_MAX_AXES];
    bool inside = true;
    for (int k = 0; k < m->type.rank; k++) {
        index[k] = at_or_whole(lf, &b->ctx, m->type.axes[k]);
        inside = inside && !overruns(lf, &b->ctx, m->type.axes[k]);
    }
    qn_stmt *s = qn_store(lf->ir, v->buf, index, m->type.rank, x);
    if (inside) {
        qn_attr_add(lf->ir, &s->attrs, "in", NULL, 0);
    }
    qn_block_push(lf->ir, &b->out, s);
}

static void made(body *b, qn_sym name)
{
    leaf *lf = b->g->lf;
    b->here[b->ctx.nhere++] = name;
    const lf_info *v = leaf_info(lf, name);
    if (v->buf && !leaf_is_small(lf, &v->type)) {
        to_buffer(b, name, qn_name(lf->ir, name));
    }
}

static qn_expr *identity(leaf *lf, qn_axop op, qn_dtype t)
{
    qn_ir *ir = lf->ir;
    bool f = qn_dtype_is_float(t);
    switch ((int)op) {
    case QN_AX_REDUCE_MAX:
    case QN_AX_REDUCE_MIN:
        if (!f) {
            leaf_refuse(lf, (qn_place){0}, "a maximum of integers over a tile");
        }
        return qn_stat_identity(ir, op);
    case QN_AX_REDUCE_PROD:
        return f ? qn_float(ir, 1.0) : qn_int(ir, 1);
    case QN_AX_REDUCE_ANY:
        return qn_bool(ir, false);
    case QN_AX_REDUCE_ALL:
        return qn_bool(ir, true);
    default:
        return f ? qn_float(ir, 0.0) : qn_int(ir, 0);
    }
}

static qn_expr *combine(leaf *lf, qn_axop op, qn_expr *a, qn_expr *b)
{
    switch ((int)op) {
    case QN_AX_REDUCE_MAX:
        return qn_op2(lf->ir, QN_OP_MAX, a, b);
    case QN_AX_REDUCE_MIN:
        return qn_op2(lf->ir, QN_OP_MIN, a, b);
    case QN_AX_REDUCE_PROD:
        return qn_op2(lf->ir, QN_OP_MUL, a, b);
    case QN_AX_REDUCE_ANY:
        return qn_op2(lf->ir, QN_OP_OR, a, b);
    case QN_AX_REDUCE_ALL:
        return qn_op2(lf->ir, QN_OP_AND, a, b);
    default:
        return qn_op2(lf->ir, QN_OP_ADD, a, b);
    }
}

static qn_axop reduction(qn_axop op)
{
    return op == QN_AX_DOT ? QN_AX_REDUCE_SUM : op;
}

static qn_expr *to_dtype(leaf *lf, qn_expr *x, const qn_expr *was, qn_dtype t)
{
    return leaf_type(lf, was).dtype == t ? x : qn_cast(lf->ir, t, x);
}

/* One step of a product's sum, at the element of ctx; acc NULL: the only one. */
static qn_expr *product_step(body *b, const lf_item *it, const lf_ctx *ctx, qn_expr *acc,
                             const qn_sym *flat, int nflat)
{
    leaf *lf = b->g->lf;
    bool across = false;
    for (int k = 0; k < it->nover; k++) {
        across = across || it->over[k] == it->lane;
    }
    qn_expr *x = leaf_inst(lf, it->a, ctx);
    if (!it->b) {
        x = across ? inside_only(lf, x, ctx, b->g->lane, identity(lf, it->op, it->type.dtype)) : x;
        x = nflat ? qn_axop1(lf->ir, it->op, x, flat, nflat) : x;
        return acc ? combine(lf, it->op, acc, x) : x;
    }
    qn_dtype t = it->type.dtype;
    x = to_dtype(lf, x, it->a, t);
    qn_expr *y = to_dtype(lf, leaf_inst(lf, it->b, ctx), it->b, t);
    if (across) {
        x = inside_only(lf, x, ctx, b->g->lane, identity(lf, it->op, t));
        y = inside_only(lf, y, ctx, b->g->lane, identity(lf, it->op, t));
    }
    if (acc && !nflat && qn_dtype_is_float(t)) {
        return qn_op3(lf->ir, QN_OP_FMA, x, y, acc);
    }
    x = qn_op2(lf->ir, QN_OP_MUL, x, y);
    x = nflat ? qn_axop1(lf->ir, QN_AX_REDUCE_SUM, x, flat, nflat) : x;
    return acc ? qn_op2(lf->ir, QN_OP_ADD, acc, x) : x;
}

static const qn_axis *over_axis(leaf *lf, const lf_item *it, qn_sym name)
{
    qn_expr *xs[2] = {it->a, it->b};
    for (int k = 0; k < 2; k++) {
        if (xs[k]) {
            qn_type t = leaf_type(lf, xs[k]);
            const qn_axis *a = qn_type_axis(&t, name);
            if (a) {
                return a;
            }
        }
    }
    leaf_refuse(lf, it->a->place, "an axis that no operand has");
}

static void print_product(body *b, const lf_item *it)
{
    leaf *lf = b->g->lf;
    qn_ir *ir = lf->ir;
    lf_ctx ctx = b->ctx;
    qn_type t = type_at(b, &it->type);
    qn_iter iters[QN_MAX_AXES];
    int niters = 0, nflat = 0;
    qn_sym flat[QN_MAX_AXES];
    bool across = false;
    for (int k = 0; k < it->nover; k++) {
        const qn_axis a = *over_axis(lf, it, it->over[k]);
        if (leaf_is_flat(lf, a)) {
            flat[nflat++] = a.name;
            continue;
        }
        bool lane = a.name == it->lane;
        const lf_lane *l = lane ? leaf_lane_of(lf, a.name) : NULL;
        if (lane) {
            across = true;
            qn_axis axes[QN_MAX_AXES];
            for (int n = 0; n < t.rank; n++) {
                axes[n] = t.axes[n];
            }
            axes[t.rank] = l->whole ? a : (qn_axis){a.name, qn_extent_n(b->g->chunk)};
            t = qn_type_of(ir, t.dtype, axes, t.rank + 1);
            if (l->whole) {
                continue;
            }
        }
        qn_sym index = index_name(lf, a.name);
        qn_expr *at = qn_name(ir, index);
        qn_expr *step = NULL;
        if (lane) {
            at = qn_op2(ir, QN_OP_ADD, at, qn_iota(ir, a.name, qn_extent_n(b->g->chunk)));
            step = qn_int(ir, b->g->chunk);
        }
        put_axis(lf, &ctx, a.name, at);
        qn_piece *piece = QN_NEW(ir->arena, qn_piece);
        piece->lo = qn_int(ir, 0);
        piece->hi = end_of(lf, a);
        iters[niters++] = (qn_iter){index, NULL, piece, 1, step};
    }
    ctx.lane = it->lane;
    qn_expr *init = it->init ? leaf_inst(lf, it->init, &b->ctx) : NULL;
    qn_expr *start = init && !across ? init : identity(lf, it->op, it->type.dtype);
    qn_sym acc = across ? leaf_fresh(lf, it->name) : it->name;
    if (!niters) {
        qn_expr *only = init && !across ? init : NULL;
        qn_expr *x = product_step(b, it, &ctx, only, flat, nflat);
        qn_block_push(ir, &b->out, qn_let(ir, acc, x));
    } else {
        qn_stmt *s = qn_stmt_new(ir, QN_FOR, (qn_place){0});
        s->u.loop.iters = QN_NEWN(ir->arena, qn_iter, niters);
        memcpy(s->u.loop.iters, iters, sizeof iters[0] * (size_t)niters);
        s->u.loop.niters = niters;
        qn_carry *c = QN_NEW(ir->arena, qn_carry);
        *c = (qn_carry){acc, walk_order(b, t), start};
        s->u.loop.carries = c;
        s->u.loop.ncarries = 1;
        qn_expr *y = product_step(b, it, &ctx, qn_name(ir, acc), flat, nflat);
        qn_block_push(ir, &s->u.loop.body, qn_yield(ir, &y, 1));
        qn_block_push(ir, &b->out, s);
    }
    if (across) {
        qn_expr *r = qn_axop1(ir, reduction(it->op), qn_name(ir, acc), &it->lane, 1);
        r = init ? combine(lf, it->op, init, r) : r;
        qn_block_push(ir, &b->out, qn_let(ir, it->name, r));
    }
    made(b, it->name);
}

static void print_reduction(body *b, const lf_item *it, qn_sym carry)
{
    leaf *lf = b->g->lf;
    qn_expr *x = leaf_inst(lf, it->x, &b->ctx);
    qn_sym over[QN_MAX_AXES];
    int n = 0;
    for (int k = 0; k < it->nover; k++) {
        const qn_expr *at = leaf_axis_at(&b->ctx, it->over[k]);
        bool kept = it->over[k] == b->g->lane.name;
        if (kept) {
            x = inside_only(lf, x, &b->ctx, b->g->lane, identity(lf, it->op, it->type.dtype));
        }
        if (!kept && (!at || at->kind == QN_OP)) {
            over[n++] = at ? at->u.op.args.at[1]->u.iota.name : it->over[k];
        }
    }
    x = n ? qn_axop1(lf->ir, reduction(it->op), x, over, n) : x;
    b->yields[b->nyields++] = combine(lf, it->op, qn_name(lf->ir, carry), x);
}

static void print_store(body *b, const lf_item *it)
{
    leaf *lf = b->g->lf;
    const qn_stmt *s = it->stmt;
    qn_expr *x = leaf_inst(lf, it->x, &b->ctx);
    if (x->kind == QN_LOAD) {
        qn_sym name = leaf_fresh(lf, "%t");
        qn_block_push(lf->ir, &b->out, qn_let(lf->ir, name, x));
        x = qn_name(lf->ir, name);
    }
    qn_expr *index[QN_MAX_AXES];
    for (int k = 0; k < s->u.store.index.count; k++) {
        index[k] = leaf_inst(lf, s->u.store.index.at[k], &b->ctx);
    }
    qn_stmt *out = qn_store(lf->ir, s->u.store.base, index, s->u.store.index.count, x);
    out->u.store.mode = s->u.store.mode;
    out->u.store.order = s->u.store.order;
    bool in = qn_attr_find(&s->attrs, "in") != NULL;
    bool inside = !may_miss(lf, s->u.store.base, &s->u.store.index, in, &b->ctx);
    for (int k = 0; k < s->attrs.count; k++) {
        if (strcmp(s->attrs.at[k].name, "in") != 0) {
            qn_attr_add(lf->ir, &out->attrs, s->attrs.at[k].name, s->attrs.at[k].args,
                        s->attrs.at[k].nargs);
        }
    }
    if (inside) {
        qn_attr_add(lf->ir, &out->attrs, "in", NULL, 0);
    }
    qn_block_push(lf->ir, &b->out, out);
}

static void print_items(body *b)
{
    leaf *lf = b->g->lf;
    lf_step *st = b->g->st;
    for (int k = 0; k < st->items.count; k++) {
        const lf_item *it = st->items.at[k];
        switch (it->kind) {
        case LF_LET:
            qn_block_push(lf->ir, &b->out, qn_let(lf->ir, it->name, leaf_inst(lf, it->x, &b->ctx)));
            made(b, it->name);
            break;
        case LF_DOT:
            print_product(b, it);
            break;
        case LF_RED:
            print_reduction(b, it, b->sums[k]);
            break;
        case LF_STORE:
            print_store(b, it);
            break;
        case LF_CARRY:
            to_buffer(b, it->target, leaf_inst(lf, it->x, &b->ctx));
            break;
        }
    }
}

/* ---------------------------------------------------------------- a group */

static qn_iter iter_of(leaf *lf, qn_sym index, qn_expr *lo, qn_expr *hi, int64_t step)
{
    qn_piece *piece = QN_NEW(lf->ir->arena, qn_piece);
    piece->lo = lo;
    piece->hi = hi;
    return (qn_iter){index, NULL, piece, 1, step > 1 ? qn_int(lf->ir, step) : NULL};
}

static void start_body(body *b, group *g, int64_t block)
{
    leaf *lf = g->lf;
    memset(b, 0, sizeof *b);
    b->g = g;
    b->block = block;
    b->here = QN_NEWN(lf->scratch, qn_sym, g->st->items.count + 1);
    b->yields = QN_NEWN(lf->scratch, qn_expr *, g->st->items.count + 1);
    b->ctx.here = b->here;
    b->ctx.lane = g->st->lane;
}

static void print_segment(group *g, const segment *seg, bool first, bool last, qn_sym *sums,
                          qn_block *out)
{
    leaf *lf = g->lf;
    qn_ir *ir = lf->ir;
    lf_step *st = g->st;
    body b;
    start_body(&b, g, seg->block);
    qn_stmt *s = qn_stmt_new(ir, QN_FOR, (qn_place){0});
    s->u.loop.iters = QN_NEWN(ir->arena, qn_iter, g->naxes);
    s->u.loop.niters = g->naxes;
    for (int k = 0; k < g->naxes; k++) {
        qn_axis a = g->axes[k];
        bool lane = a.name == st->lane, blocked = k == g->naxes - 1 && !lane;
        int64_t step = lane ? g->chunk : blocked ? seg->block : 1;
        qn_sym index = index_name(lf, a.name);
        qn_expr *at = qn_name(ir, index);
        if (lane || step > 1) {
            qn_sym block = block_axis(lf, a.name, lane);
            at = qn_op2(ir, QN_OP_ADD, at, qn_iota(ir, block, qn_extent_n(step)));
        }
        put_axis(lf, &b.ctx, a.name, at);
        bool ends = blocked && seg->lo;
        s->u.loop.iters[k] = iter_of(lf, index, ends ? seg->lo : qn_int(ir, 0),
                                     ends ? seg->hi : end_of(lf, a), step);
    }
    qn_sym *now = QN_NEWN(lf->scratch, qn_sym, st->items.count + 1);
    s->u.loop.carries = QN_NEWN(ir->arena, qn_carry, st->items.count + 1);
    for (int k = 0; k < st->items.count; k++) {
        const lf_item *it = st->items.at[k];
        if (it->kind != LF_RED) {
            continue;
        }
        qn_type t = it->type;
        qn_axis axes[QN_MAX_AXES];
        for (int n = 0; n < t.rank; n++) {
            axes[n] = t.axes[n];
            if (axes[n].name == st->lane && g->lane_walked) {
                axes[n].extent = qn_extent_n(g->chunk);
            }
        }
        now[k] = last ? it->name : leaf_fresh(lf, it->name);
        lf_ctx none = {0};
        qn_expr *init = !first     ? qn_name(ir, sums[k])
                        : it->init ? leaf_inst(lf, it->init, &none)
                                   : identity(lf, it->op, it->type.dtype);
        s->u.loop.carries[s->u.loop.ncarries++] =
            (qn_carry){now[k], qn_type_of(ir, t.dtype, axes, t.rank), init};
    }
    b.sums = now;
    print_items(&b);
    memcpy(sums, now, sizeof(qn_sym) * (size_t)st->items.count);
    s->u.loop.body = b.out;
    if (b.nyields) {
        qn_block_push(ir, &s->u.loop.body, qn_yield(ir, b.yields, b.nyields));
    }
    qn_block_push(ir, out, s);
}

void leaf_group(leaf *lf, lf_step *st, qn_block *out)
{
    group g = {.lf = lf, .st = st};
    g.lane = lane_axis(lf, st);
    order_axes(&g);
    size_group(&g);
    if (!g.naxes) { /* nothing to walk: straight code */
        body b;
        start_body(&b, &g, 1);
        print_items(&b);
        qn_block_append(lf->ir, out, &b.out);
        return;
    }
    segment segs[2] = {{NULL, NULL, 1}, {NULL, NULL, 1}};
    int n = 1;
    if (g.axes[g.naxes - 1].name != st->lane) {
        n = segments(lf, g.axes[g.naxes - 1], g.block, g.vectors, segs);
    }
    qn_sym *sums = QN_NEWN(lf->scratch, qn_sym, st->items.count + 1);
    for (int k = 0; k < n; k++) {
        print_segment(&g, &segs[k], k == 0, k == n - 1, sums, out);
    }
}
