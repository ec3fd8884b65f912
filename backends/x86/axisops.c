/* SPDX-License-Identifier: MIT
 *
 * What works over axes: dot, reduce, scan, argmax, topk, solve. In a leaf nest the registers along
 * the axes are combined one after another and lanes last; elsewhere each element of the result is
 * a loop over memory. */
#include "backends/x86/gen.h"
#include <math.h>

typedef struct over {
    qn_axop op;
    qn_node *a, *b;            /* operands; b of dot and solve */
    qn_node *start;            /* of a dot in registers: what it is added to, or NULL */
    qn_axis axes[QN_MAX_AXES]; /* what goes */
    int32_t rank;
    qn_dtype acc; /* the dtype that sums are kept in */
    qn_tile *out;
    int32_t next;
    qn_sym lane;           /* of the operands */
    qn_v *across, *starts; /* results whose lanes are still to be combined */
} over;

static qn_dtype kept_in(qn_dtype t, bool dot)
{
    if (dot) {
        return qn_dtype_accumulator(t);
    }
    return t == QN_F16 || t == QN_BF16 ? QN_F32 : t;
}

static qn_v identity(qn_gen *g, qn_axop op, qn_dtype t)
{
    bool f = qn_dtype_is_float(t);
    qn_ty ty = qn_reg_type(g, t);
    int bits = qn_dtype_bytes(t) * 8;
    int64_t least = t == QN_U8 ? 0 : (int64_t)(~(uint64_t)0 << (bits - 1));
    int64_t greatest = t == QN_U8 ? 255 : (int64_t) ~((uint64_t)least);
    bool max = op == QN_AX_REDUCE_MAX || op == QN_AX_SCAN_MAX || op == QN_AX_REDUCE_ARGMAX;
    bool min = op == QN_AX_REDUCE_MIN || op == QN_AX_SCAN_MIN || op == QN_AX_REDUCE_ARGMIN;
    if (max || min) {
        return f ? g->l->ConstReal(ty, max ? -(double)INFINITY : (double)INFINITY)
                 : g->l->ConstInt(ty, (unsigned long long)(max ? least : greatest), 1);
    }
    int64_t n = op == QN_AX_REDUCE_PROD || op == QN_AX_SCAN_PROD || op == QN_AX_REDUCE_ALL;
    return f ? g->l->ConstReal(ty, (double)n) : g->l->ConstInt(ty, (unsigned long long)n, 0);
}

static qn_v combine(qn_gen *g, qn_axop op, qn_dtype t, qn_v a, qn_v b)
{
    qn_v ab[] = {a, b};
    qn_op pointwise = QN_OP_ADD;
    switch (op) {
    case QN_AX_REDUCE_MAX:
    case QN_AX_SCAN_MAX:
        pointwise = QN_OP_MAX;
        break;
    case QN_AX_REDUCE_MIN:
    case QN_AX_SCAN_MIN:
        pointwise = QN_OP_MIN;
        break;
    case QN_AX_REDUCE_PROD:
    case QN_AX_SCAN_PROD:
        pointwise = QN_OP_MUL;
        break;
    case QN_AX_REDUCE_ANY:
        pointwise = QN_OP_OR;
        break;
    case QN_AX_REDUCE_ALL:
        pointwise = QN_OP_AND;
        break;
    case QN_AX_DOT:
    case QN_AX_REDUCE_SUM:
    case QN_AX_SCAN_SUM:
    case QN_AX_REDUCE_ARGMAX:
    case QN_AX_REDUCE_ARGMIN:
    case QN_AX_TOPK:
    case QN_AX_SOLVE:
    case QN_AXOPS:
        break;
    }
    return qn_op_value(g, pointwise, t, ab, (qn_place){0, 0, 0});
}

/* Halves the lanes until one is left: a fixed order for a given count. */
qn_v qn_reduce_lanes(qn_gen *g, qn_axop op, qn_dtype t, qn_v v)
{
    int32_t n = qn_lanes_of(g, v);
    for (; n > 1; n /= 2) {
        qn_v lo[64], hi[64];
        for (int32_t i = 0; i < n / 2 && i < 64; i++) {
            lo[i] = qn_i32(g, i);
            hi[i] = qn_i32(g, i + n / 2);
        }
        qn_v undef = g->l->GetUndef(g->l->TypeOf(v));
        qn_v a =
            g->l->BuildShuffleVector(g->b, v, undef, g->l->ConstVector(lo, (unsigned)n / 2), "");
        qn_v b =
            g->l->BuildShuffleVector(g->b, v, undef, g->l->ConstVector(hi, (unsigned)n / 2), "");
        v = combine(g, op, t, a, b);
    }
    return qn_lanes_of(g, v) ? g->l->BuildExtractElement(g->b, v, qn_i32(g, 0), "") : v;
}

/* One contribution at c: the product of a dot, the element of a reduction. */
static qn_v term(qn_gen *g, over *o, const qn_coords *c, qn_v acc)
{
    bool lanes = o->lane != NULL;
    qn_v x = qn_eval_lanes(g, o->a, c, lanes);
    x = qn_cast_value(g, o->a->type.dtype, o->acc, x);
    if (o->op != QN_AX_DOT) {
        return acc ? combine(g, o->op, o->acc, acc, x) : x;
    }
    qn_v y = qn_eval_lanes(g, o->b, c, lanes);
    y = qn_cast_value(g, o->b->type.dtype, o->acc, y);
    if (acc && g->width && qn_dtype_is_float(o->acc)) {
        return qn_fma(g, x, y, acc);
    }
    qn_v xy[] = {x, y};
    qn_v product = qn_op_value(g, QN_OP_MUL, o->acc, xy, o->a->place);
    return acc ? combine(g, QN_AX_REDUCE_SUM, o->acc, acc, product) : product;
}

static qn_v finish(qn_gen *g, over *o, qn_v acc)
{
    return qn_cast_value(g, o->acc, o->out->type.dtype, acc);
}

static bool is_over(const over *o, qn_sym axis)
{
    for (int32_t i = 0; i < o->rank; i++) {
        if (o->axes[i].name == axis) {
            return true;
        }
    }
    return false;
}

/* Registers of one element (or register) of the result. A tree of pairs keeps sums short. */
static qn_v in_registers(qn_gen *g, over *o, const qn_coords *c)
{
    qn_type along = {QN_F32, o->rank, o->axes};
    int32_t parts = qn_parts_of(g, &along);
    qn_v *at = QN_NEWN(g->arena, qn_v, parts + 1);
    bool across = o->lane && is_over(o, o->lane);
    qn_v start = NULL;
    if (o->start) {
        start = qn_eval_lanes(g, o->start, c, o->lane != NULL && !across);
    }
    bool chain = o->op == QN_AX_DOT;
    qn_v acc = start && !across ? start : NULL;
    for (int32_t p = 0; p < parts; p++) {
        qn_coords inner = *c;
        qn_part_coords(g, &along, p, &inner);
        qn_v x = term(g, o, &inner, chain ? acc : NULL);
        int64_t valid = across ? qn_lanes_valid(g, &along, o->lane, &inner) : g->width;
        if (valid < g->width) {
            qn_v none =
                qn_splat(g, identity(g, chain ? QN_AX_REDUCE_SUM : o->op, o->acc), g->width);
            x = g->l->BuildSelect(g->b, qn_lane_mask(g, valid), x, chain && acc ? acc : none, "");
        }
        at[p] = x;
        acc = x;
    }
    if (parts == 0 && across) {
        acc = qn_splat(g, identity(g, chain ? QN_AX_REDUCE_SUM : o->op, o->acc), g->width);
    } else if (parts == 0) {
        acc = identity(g, o->op, o->acc);
        return start ? start : qn_splat(g, acc, o->lane && !across ? g->width : 0);
    }
    if (!chain && parts) {
        for (int32_t n = parts; n > 1; n = (n + 1) / 2) {
            for (int32_t i = 0; i < n / 2; i++) {
                at[i] = combine(g, o->op, o->acc, at[2 * i], at[2 * i + 1]);
            }
            if (n % 2) {
                at[n / 2] = at[n - 1];
            }
        }
        acc = at[0];
    }
    if (across) {
        o->across[o->next] = acc;
        o->starts[o->next] = start;
    }
    return acc;
}

static qn_v shuffle(qn_gen *g, qn_v a, qn_v b, const int32_t *from, int32_t n)
{
    qn_v mask[64];
    for (int32_t i = 0; i < n; i++) {
        mask[i] = qn_i32(g, from[i]);
    }
    return g->l->BuildShuffleVector(g->b, a, b, g->l->ConstVector(mask, (unsigned)n), "");
}

/* The lanes of four registers at once: pairs are interleaved within each four lanes, so that two
 * steps leave the four results side by side, and the rest of the width is halved for all of them.
 */
static qn_v four_across(qn_gen *g, const over *o, qn_axop op, qn_v *v)
{
    int32_t n = g->width, lo[64], hi[64], first[64], last[64];
    for (int32_t i = 0; i < n; i++) {
        int32_t block = i / 4 * 4, k = i % 4;
        lo[i] = block + k / 2 + (k % 2 ? n : 0);
        hi[i] = lo[i] + 2;
        first[i] = block + k % 2 + (k / 2 ? n : 0);
        last[i] = first[i] + 2;
    }
    qn_v pair[2];
    for (int k = 0; k < 2; k++) {
        qn_v a = v[2 * k], b = v[2 * k + 1];
        pair[k] = combine(g, op, o->acc, shuffle(g, a, b, lo, n), shuffle(g, a, b, hi, n));
    }
    qn_v sum = combine(g, op, o->acc, shuffle(g, pair[0], pair[1], first, n),
                       shuffle(g, pair[0], pair[1], last, n));
    for (n /= 2; n >= 4; n /= 2) {
        for (int32_t i = 0; i < n; i++) {
            lo[i] = i;
            hi[i] = i + n;
        }
        sum = combine(g, op, o->acc, shuffle(g, sum, sum, lo, n), shuffle(g, sum, sum, hi, n));
    }
    return sum;
}

/* Results whose operands lie along the lanes: combined across them, by fours where there are. */
static void finish_across(qn_gen *g, over *o)
{
    qn_axop op = o->op == QN_AX_DOT ? QN_AX_REDUCE_SUM : o->op;
    for (int32_t i = 0; i < o->next; i += 4) {
        int32_t n = o->next - i < 4 ? o->next - i : 4;
        bool fours = n > 1 && g->width >= 4;
        qn_v four[4];
        for (int32_t k = 0; k < 4; k++) {
            four[k] = o->across[k < n ? i + k : i];
        }
        qn_v sum = fours ? four_across(g, o, op, four) : NULL;
        for (int32_t k = 0; k < n; k++) {
            qn_v x = fours ? g->l->BuildExtractElement(g->b, sum, qn_i32(g, k), "")
                           : qn_reduce_lanes(g, op, o->acc, four[k]);
            if (o->starts[i + k]) {
                x = combine(g, op, o->acc, o->starts[i + k], x);
            }
            o->out->regs[i + k] = finish(g, o, x);
        }
    }
}

static qn_v in_loops(qn_gen *g, over *o, const qn_coords *c)
{
    qn_loop loops[QN_MAX_AXES];
    qn_coords inner = *c;
    qn_v *acc = QN_NEW(g->arena, qn_v);
    acc[0] = identity(g, o->op, o->acc);
    for (int32_t i = 0; i < o->rank; i++) {
        qn_loop_begin(g, &loops[i], qn_i64(g, 0), qn_extent_value(g, o->axes[i].extent),
                      qn_i64(g, 1), acc, 1);
        qn_coord_push(&inner, o->axes[i].name, loops[i].index, 0);
        acc = loops[i].carry;
    }
    qn_v next = term(g, o, &inner, acc[0]);
    for (int32_t i = o->rank - 1; i >= 0; i--) {
        qn_loop_end(g, &loops[i], &next);
        next = loops[i].out[0];
    }
    return next;
}

static void put(qn_gen *g, over *o, const qn_coords *c, qn_v v)
{
    if (o->out->base) {
        qn_tile_put(g, &o->out->type, o->out->base, c, v);
    } else {
        o->out->regs[o->next++] = v;
    }
}

static void reduce_element(qn_gen *g, void *user, const qn_coords *c)
{
    over *o = user;
    qn_v v = g->width ? in_registers(g, o, c) : in_loops(g, o, c);
    put(g, o, c, o->across ? v : finish(g, o, v));
}

/* The first best along the one axis that goes: NaN and the identity count as nothing there. */
static qn_v better(qn_gen *g, over *o, qn_v x, qn_v best, qn_v at)
{
    qn_v xb[] = {x, best};
    qn_op op = o->op == QN_AX_REDUCE_ARGMAX ? QN_OP_GT : QN_OP_LT;
    qn_v wins = qn_op_value(g, op, o->acc, xb, o->a->place);
    if (!qn_dtype_is_float(o->acc)) {
        qn_v none = g->l->BuildICmp(g->b, LLVMIntSLT, at, qn_int_like(g, 0, at), "");
        wins = g->l->BuildOr(g->b, wins, none, "");
    }
    return wins;
}

static qn_v arg_in_loops(qn_gen *g, over *o, const qn_coords *c)
{
    qn_v init[] = {identity(g, o->op, o->acc), qn_i64(g, -1)};
    qn_loop loop;
    qn_coords inner = *c;
    qn_loop_begin(g, &loop, qn_i64(g, 0), qn_extent_value(g, o->axes[0].extent), qn_i64(g, 1), init,
                  2);
    qn_coord_push(&inner, o->axes[0].name, loop.index, 0);
    qn_v x = qn_eval(g, o->a, &inner);
    qn_v wins = better(g, o, x, loop.carry[0], loop.carry[1]);
    qn_v next[] = {g->l->BuildSelect(g->b, wins, x, loop.carry[0], ""),
                   g->l->BuildSelect(g->b, wins, loop.index, loop.carry[1], "")};
    qn_loop_end(g, &loop, next);
    return loop.out[1];
}

static qn_v arg_in_registers(qn_gen *g, over *o, const qn_coords *c)
{
    qn_type along = {QN_F32, 1, o->axes};
    bool across = o->lane == o->axes[0].name;
    int32_t lanes = o->lane ? g->width : 0, parts = qn_parts_of(g, &along);
    qn_v none = identity(g, o->op, o->acc);
    qn_v best = qn_splat(g, none, lanes), at = qn_splat(g, qn_i64(g, -1), lanes);
    for (int32_t p = 0; p < parts; p++) {
        qn_coords inner = *c;
        qn_part_coords(g, &along, p, &inner);
        qn_v x = qn_eval_lanes(g, o->a, &inner, lanes > 0);
        qn_v here = qn_splat(g, qn_i64(g, across ? (int64_t)p * g->width : p), lanes);
        if (across) {
            here = qn_iadd(g, here, qn_iota_lanes(g, g->i64, g->width));
        }
        qn_v wins = better(g, o, x, best, at);
        int64_t valid = across ? qn_lanes_valid(g, &along, o->lane, &inner) : g->width;
        if (valid < g->width) {
            wins = g->l->BuildAnd(g->b, wins, qn_lane_mask(g, valid), "");
        }
        best = g->l->BuildSelect(g->b, wins, x, best, "");
        at = g->l->BuildSelect(g->b, wins, here, at, "");
    }
    if (!across || g->width < 2) {
        return at;
    }
    /* Lanes last: the better value, and of equal ones the lower index. */
    qn_v value = none, index = qn_i64(g, -1);
    for (int32_t i = 0; i < g->width; i++) {
        qn_v x = g->l->BuildExtractElement(g->b, best, qn_i32(g, i), "");
        qn_v k = g->l->BuildExtractElement(g->b, at, qn_i32(g, i), "");
        qn_v xb[] = {x, value};
        qn_op op = o->op == QN_AX_REDUCE_ARGMAX ? QN_OP_GT : QN_OP_LT;
        qn_v wins = qn_op_value(g, op, o->acc, xb, o->a->place);
        qn_v same = qn_op_value(g, QN_OP_EQ, o->acc, xb, o->a->place);
        qn_v lower = g->l->BuildICmp(g->b, LLVMIntULT, k, index, ""); /* -1 is the greatest */
        wins = g->l->BuildOr(g->b, wins, g->l->BuildAnd(g->b, same, lower, ""), "");
        value = g->l->BuildSelect(g->b, wins, x, value, "");
        index = g->l->BuildSelect(g->b, wins, k, index, "");
    }
    return index;
}

static void arg_element(qn_gen *g, void *user, const qn_coords *c)
{
    over *o = user;
    put(g, o, c, g->width ? arg_in_registers(g, o, c) : arg_in_loops(g, o, c));
}

static void scan_line(qn_gen *g, void *user, const qn_coords *c)
{
    over *o = user;
    qn_v none = identity(g, o->op, o->acc);
    qn_loop loop;
    qn_coords inner = *c;
    qn_loop_begin(g, &loop, qn_i64(g, 0), qn_extent_value(g, o->axes[0].extent), qn_i64(g, 1),
                  &none, 1);
    qn_coord_push(&inner, o->axes[0].name, loop.index, 0);
    qn_v next = term(g, o, &inner, loop.carry[0]);
    qn_tile_put(g, &o->out->type, o->out->base, &inner, finish(g, o, next));
    qn_loop_end(g, &loop, &next);
}

/* X[j] = B[j] - sum over k < j of A[j, k] X[k], row after row. over: i, then j. */
static void solve_line(qn_gen *g, void *user, const qn_coords *c)
{
    over *o = user;
    const qn_axis *i = &o->axes[0], *j = &o->axes[1];
    qn_loop rows, columns;
    qn_loop_begin(g, &rows, qn_i64(g, 0), qn_extent_value(g, i->extent), qn_i64(g, 1), NULL, 0);
    qn_coords row = *c;
    qn_coord_push(&row, i->name, rows.index, 0);
    qn_v b = qn_cast_value(g, o->b->type.dtype, o->acc, qn_eval(g, o->b, &row));
    qn_loop_begin(g, &columns, qn_i64(g, 0), rows.index, qn_i64(g, 1), &b, 1);
    qn_coord_push(&row, j->name, columns.index, 0);
    qn_v ax[] = {qn_cast_value(g, o->a->type.dtype, o->acc, qn_eval(g, o->a, &row)),
                 qn_tile_at(g, o->out, &row)};
    qn_v diff[] = {columns.carry[0], qn_op_value(g, QN_OP_MUL, o->acc, ax, o->a->place)};
    qn_v next = qn_op_value(g, QN_OP_SUB, o->acc, diff, o->a->place);
    qn_loop_end(g, &columns, &next);
    qn_coords at = *c;
    qn_coord_push(&at, j->name, rows.index, 0);
    qn_tile_put(g, &o->out->type, o->out->base, &at, finish(g, o, columns.out[0]));
    qn_loop_end(g, &rows, NULL);
}

/* Would evaluating it again for every element of another axis be dear? */
static bool is_dear(const qn_node *n)
{
    if (n->kind == QN_NODE_OP && n->op != QN_OP_CAST) {
        return true;
    }
    for (int32_t i = 0; i < n->nkids; i++) {
        if (is_dear(n->kid[i])) {
            return true;
        }
    }
    return false;
}

static qn_tile *new_result(qn_gen *g, qn_dtype t, const qn_axis *axes, int32_t rank)
{
    qn_tile *out = QN_NEW(g->arena, qn_tile);
    qn_axis *copy = QN_NEWN(g->arena, qn_axis, rank + 1);
    for (int32_t i = 0; i < rank; i++) {
        copy[i] = axes[i];
    }
    out->type = (qn_type){t, rank, copy};
    if (rank == 0 || g->width) {
        out->nregs = rank ? qn_parts_of(g, &out->type) : 1;
        out->regs = QN_NEWN(g->arena, qn_v, out->nregs + 1);
    } else {
        out->base = qn_scratch_tile(g, &out->type);
    }
    return out;
}

static void plain_only(qn_gen *g, const qn_expr *x)
{
    if (g->width) {
        qn_gen_fail(g, x->place, "%s has no form in registers", qn_axop_text(x->u.axop.op));
    }
}

/* Operands, the axes that go, and the axes that stay. */
static void set_up(qn_gen *g, const qn_expr *x, over *o, qn_axis *stay, int32_t *rank)
{
    o->op = x->u.axop.op;
    o->a = qn_tree_as(g, x->u.axop.args.at[0], QN_NO_TYPE);
    if (x->u.axop.args.count > 1) {
        o->b = qn_tree_as(g, x->u.axop.args.at[1], QN_NO_TYPE);
    }
    qn_axis all[QN_MAX_AXES];
    int32_t n = 0;
    qn_union_axes(g, &o->a->type, all, &n);
    if (o->b) {
        qn_union_axes(g, &o->b->type, all, &n);
    }
    for (int32_t k = 0; k < x->u.axop.nover; k++) {
        for (int32_t i = 0; i < n; i++) {
            if (all[i].name == x->u.axop.over[k]) {
                o->axes[o->rank++] = all[i];
            }
        }
    }
    *rank = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!is_over(o, all[i].name)) {
            stay[(*rank)++] = all[i];
        }
    }
    o->acc = kept_in(o->a->type.dtype, o->op == QN_AX_DOT);
    o->lane = o->a->lane ? o->a->lane : o->b ? o->b->lane : NULL;
}

static void materialise_dear(qn_gen *g, over *o, int32_t stays)
{
    qn_node **kids[] = {&o->a, &o->b};
    for (int k = 0; k < 2; k++) {
        qn_node *n = *kids[k];
        if (n && n->type.rank && n->type.rank < stays + o->rank && is_dear(n)) {
            *kids[k] = qn_tile_node(g, qn_materialise(g, n, NULL), n->place);
        }
    }
}

static qn_dtype wider(qn_gen *g, over *o)
{
    if (!o->b || o->a->type.dtype == o->b->type.dtype) {
        return o->acc;
    }
    qn_dtype both = qn_dtype_join(o->a->type.dtype, o->b->type.dtype);
    if (both == QN_NO_TYPE) {
        qn_gen_fail(g, o->b->place, "operands of different dtypes");
    }
    return kept_in(both, o->op == QN_AX_DOT);
}

const qn_tile *qn_axisop(qn_gen *g, const qn_expr *x, qn_node *add_to)
{
    over o = {.rank = 0};
    qn_axis stay[QN_MAX_AXES];
    int32_t rank;
    set_up(g, x, &o, stay, &rank);
    o.acc = wider(g, &o);
    qn_dtype t = o.op == QN_AX_DOT ? o.acc : o.a->type.dtype;
    if (add_to) {
        qn_settle(g, add_to, o.acc);
        o.start = add_to;
        qn_union_axes(g, &add_to->type, stay, &rank);
    }
    qn_each_fn body = reduce_element;
    switch (o.op) {
    case QN_AX_REDUCE_ARGMAX:
    case QN_AX_REDUCE_ARGMIN:
        t = QN_I64;
        body = arg_element;
        break;
    case QN_AX_SCAN_SUM:
    case QN_AX_SCAN_MAX:
    case QN_AX_SCAN_MIN:
    case QN_AX_SCAN_PROD:
        plain_only(g, x);
        body = scan_line;
        break;
    case QN_AX_SOLVE:
        plain_only(g, x);
        t = qn_dtype_join(o.a->type.dtype, o.b->type.dtype);
        body = solve_line;
        break;
    case QN_AX_TOPK:
        qn_gen_fail(g, x->place, "topk has two results");
    case QN_AX_DOT:
    case QN_AX_REDUCE_SUM:
    case QN_AX_REDUCE_MAX:
    case QN_AX_REDUCE_MIN:
    case QN_AX_REDUCE_PROD:
    case QN_AX_REDUCE_ANY:
    case QN_AX_REDUCE_ALL:
    case QN_AXOPS:
        break;
    }
    qn_axis axes[QN_MAX_AXES];
    int32_t n = 0;
    qn_type stays = {t, rank, stay};
    qn_union_axes(g, &stays, axes, &n);
    if (body == scan_line) {
        qn_type line = {t, 1, o.axes};
        qn_union_axes(g, &line, axes, &n);
    } else if (body == solve_line) {
        qn_type line = {t, 1, &o.axes[1]};
        qn_union_axes(g, &line, axes, &n);
    }
    o.out = new_result(g, t, axes, n);
    if (!g->width) {
        materialise_dear(g, &o, rank);
    }
    qn_prepare(g, o.a);
    if (o.b) {
        qn_prepare(g, o.b);
    }
    if (o.start) {
        qn_prepare(g, o.start);
    }
    bool across = g->width && body == reduce_element && o.lane && is_over(&o, o.lane);
    if (across) {
        o.across = QN_NEWN(g->arena, qn_v, o.out->nregs + 1);
        o.starts = QN_NEWN(g->arena, qn_v, o.out->nregs + 1);
    }
    qn_each(g, stay, rank, NULL, body, &o);
    if (across) {
        finish_across(g, &o);
    }
    return o.out;
}

/* ---------------------------------------------------------------- topk */

typedef struct best {
    qn_node *x;
    qn_axis along, rank;
    qn_tile *values, *indices;
} best;

/* Insertion into the list of the best so far: an element moves down while the next one is better.
 * Equal ones stay before it, so ties go to the lower index. */
static void topk_line(qn_gen *g, void *user, const qn_coords *c)
{
    best *o = user;
    const qn_llvm *l = g->l;
    qn_dtype t = o->values->type.dtype;
    qn_v none = identity(g, QN_AX_REDUCE_MAX, t), count = qn_extent_value(g, o->rank.extent);
    qn_loop fill, items, slots;
    qn_loop_begin(g, &fill, qn_i64(g, 0), count, qn_i64(g, 1), NULL, 0);
    qn_coords at = *c;
    qn_coord_push(&at, o->rank.name, fill.index, 0);
    qn_tile_put(g, &o->values->type, o->values->base, &at, none);
    qn_tile_put(g, &o->indices->type, o->indices->base, &at, qn_i64(g, -1));
    qn_loop_end(g, &fill, NULL);

    qn_loop_begin(g, &items, qn_i64(g, 0), qn_extent_value(g, o->along.extent), qn_i64(g, 1), NULL,
                  0);
    qn_coords item = *c;
    qn_coord_push(&item, o->along.name, items.index, 0);
    qn_v init[] = {qn_eval(g, o->x, &item), items.index, l->ConstInt(g->i1, 0, 0)};
    qn_loop_begin(g, &slots, qn_i64(g, 0), count, qn_i64(g, 1), init, 3);
    at = *c;
    qn_coord_push(&at, o->rank.name, slots.index, 0);
    qn_v value = qn_tile_at(g, o->values, &at), index = qn_tile_at(g, o->indices, &at);
    qn_v xv[] = {slots.carry[0], value};
    qn_v wins = qn_op_value(g, QN_OP_GT, t, xv, o->x->place);
    wins =
        l->BuildOr(g->b, wins, slots.carry[2], ""); /* what was moved keeps its rank among equals */
    qn_tile_put(g, &o->values->type, o->values->base, &at,
                l->BuildSelect(g->b, wins, slots.carry[0], value, ""));
    qn_tile_put(g, &o->indices->type, o->indices->base, &at,
                l->BuildSelect(g->b, wins, slots.carry[1], index, ""));
    qn_v next[] = {l->BuildSelect(g->b, wins, value, slots.carry[0], ""),
                   l->BuildSelect(g->b, wins, index, slots.carry[1], ""), wins};
    qn_loop_end(g, &slots, next);
    qn_loop_end(g, &items, NULL);
}

void qn_topk(qn_gen *g, const qn_expr *x, const qn_tile **values, const qn_tile **indices)
{
    plain_only(g, x);
    over o = {.rank = 0};
    qn_axis stay[QN_MAX_AXES], axes[QN_MAX_AXES];
    int32_t rank, n = 0;
    set_up(g, x, &o, stay, &rank);
    if (o.rank != 1) {
        qn_gen_fail(g, x->place, "topk goes over one axis");
    }
    qn_type stays = {QN_F32, rank, stay}, fresh = {QN_F32, 1, &x->u.axop.fresh};
    qn_union_axes(g, &stays, axes, &n);
    qn_union_axes(g, &fresh, axes, &n);
    best k = {.x = o.a, .along = o.axes[0], .rank = x->u.axop.fresh};
    k.values = new_result(g, o.a->type.dtype, axes, n);
    k.indices = new_result(g, QN_I64, axes, n);
    qn_prepare(g, k.x);
    qn_each(g, stay, rank, NULL, topk_line, &k);
    *values = k.values;
    *indices = k.indices;
}
