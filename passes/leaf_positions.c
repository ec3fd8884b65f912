/* SPDX-License-Identifier: MIT
 *
 * Positions along lanes.
 *
 * Indices are 64 bits wide, and vectors of them are slow and take twice the registers. Comparisons
 * and float casts of sums leave their 64-bit part to scalars: only the small index along the lanes
 * is a vector, and the scalar is held so near that nothing wraps. Other integer ops along lanes run
 * in 32 bits where sizes of at most 2^28 make that exact; the kernel then requires such sizes. */
#include "passes/leaf_internal.h"

enum { LARGEST_SIZE = 1 << 28 };

/* The form of x split: coefficient of the lane axis, the other axes, and the scalar rest. */
typedef struct split_form {
    int64_t lane_coef;
    qn_expr *axes; /* sum over the other axes, instantiated, or NULL */
    const qn_lin *base;
    bool ok;
} split_form;

static qn_expr *times(leaf *lf, int64_t c, qn_expr *x)
{
    return c == 1 ? x : qn_op2(lf->ir, QN_OP_MUL, x, qn_int(lf->ir, c));
}

static qn_expr *add(leaf *lf, qn_expr *a, qn_expr *b)
{
    return !a ? b : !b ? a : qn_op2(lf->ir, QN_OP_ADD, a, b);
}

static split_form split(leaf *lf, const qn_lin *l, const lf_ctx *ctx, qn_sym lane)
{
    split_form s = {.base = l, .ok = l != NULL};
    int64_t reach = 0;
    for (int k = 0; l && k < l->n; k++) {
        const qn_term *t = l->at[k].term;
        int64_t c = l->at[k].c;
        if (!t->tile) {
            continue;
        }
        int64_t n = t->kind == QN_TERM_IOTA ? leaf_const(lf, t->axis.extent) : -1;
        if (n < 1 || n > 1 << 16 || c > 64 || c < -64) {
            s.ok = false;
            return s;
        }
        reach += (c < 0 ? -c : c) * n;
        s.base = qn_lin_without(lf->facts, s.base, t);
        qn_expr *at = leaf_axis_at(ctx, t->axis.name);
        if (t->axis.name == lane) {
            s.lane_coef = c;
            if (at && at->kind == QN_OP) { /* index + lane:chunk */
                s.axes = add(lf, s.axes, times(lf, c, at->u.op.args.at[0]));
            }
        } else {
            s.axes = add(lf, s.axes,
                         times(lf, c, at ? at : qn_iota(lf->ir, t->axis.name, t->axis.extent)));
        }
    }
    s.ok = s.ok && s.base && s.lane_coef && reach < 1 << 24;
    return s;
}

static qn_op mirrored(qn_op op)
{
    switch ((int)op) {
    case QN_OP_LT:
        return QN_OP_GT;
    case QN_OP_LE:
        return QN_OP_GE;
    case QN_OP_GT:
        return QN_OP_LT;
    case QN_OP_GE:
        return QN_OP_LE;
    default:
        return op;
    }
}

static qn_sym lane_in(leaf *lf, const qn_expr *x, const lf_ctx *ctx)
{
    qn_type t = leaf_type(lf, x);
    if (ctx->lane) {
        return leaf_type_has(&t, ctx->lane) ? ctx->lane : NULL;
    }
    for (int k = 0; k < lf->nlanes; k++) {
        if (leaf_type_has(&t, lf->lanes[k].axis) && !leaf_axis_at(ctx, lf->lanes[k].axis)) {
            return lf->lanes[k].axis;
        }
    }
    return NULL;
}

static qn_expr *lane_iota(leaf *lf, const lf_ctx *ctx, const qn_expr *x, qn_sym lane)
{
    qn_expr *at = leaf_axis_at(ctx, lane);
    if (at) {
        return at->kind == QN_OP ? at->u.op.args.at[1] : at;
    }
    qn_type t = leaf_type(lf, x);
    return qn_iota(lf->ir, lane, qn_type_axis(&t, lane)->extent);
}

/* ---------------------------------------------------------------- 32-bit ops */

/* An i32 expression and its size: its value is within -2^bits .. 2^bits. */
typedef struct small_int {
    qn_expr *x; /* NULL: not proved */
    int bits;
} small_int;

static bool is_argument(const qn_kernel_ir *k, qn_sym dim)
{
    for (int n = 0; n < k->dims.count; n++) {
        if (k->dims.at[n].name == dim) {
            return k->dims.at[n].value == NULL;
        }
    }
    return false;
}

static qn_expr *size_limit(leaf *lf, qn_sym dim)
{
    return qn_op2(lf->ir, QN_OP_LE, qn_name(lf->ir, dim), qn_int(lf->ir, LARGEST_SIZE));
}

/* A sum within 2^30, if sizes are within theirs; it may wrap on the way. */
static qn_expr *small_sum(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_sym lane)
{
    qn_ir *ir = lf->ir;
    const qn_lin *l = qn_lin_of(lf->facts, leaf_expand(lf, x));
    const qn_lin *most = qn_lin_int(lf->facts, 1 << 30);
    if (!l || !qn_prove_le(lf->facts, l, most) ||
        !qn_prove_le(lf->facts, qn_lin_scale(lf->facts, l, -1), most)) {
        return NULL;
    }
    qn_type t = leaf_type(lf, x);
    if (!leaf_type_has(&t, lane)) {
        return qn_cast(ir, QN_I32, leaf_inst(lf, x, ctx));
    }
    split_form s = split(lf, l, ctx, lane);
    if (!s.ok) {
        return NULL;
    }
    qn_expr *sum = qn_cast(ir, QN_I32, qn_lin_expr(lf->facts, s.base, false));
    sum = s.axes ? qn_op2(ir, QN_OP_ADD, sum, qn_cast(ir, QN_I32, s.axes)) : sum;
    int64_t c = s.lane_coef;
    qn_expr *iota = qn_cast(ir, QN_I32, lane_iota(lf, ctx, x, lane));
    if (c != 1 && c != -1) {
        iota = qn_op2(ir, QN_OP_MUL, iota, qn_int(ir, c < 0 ? -c : c));
    }
    return qn_op2(ir, c < 0 ? QN_OP_SUB : QN_OP_ADD, sum, iota);
}

static small_int small(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_sym lane);

static small_int small_op(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_sym lane)
{
    small_int none = {NULL, 0}, a[3];
    qn_ir *ir = lf->ir;
    int n = x->u.op.args.count, first = x->u.op.op == QN_OP_SELECT ? 1 : 0, bits = 0;
    for (int k = first; k < n; k++) {
        a[k] = small(lf, x->u.op.args.at[k], ctx, lane);
        if (!a[k].x) {
            return none;
        }
        bits = a[k].bits > bits ? a[k].bits : bits;
    }
    switch ((int)x->u.op.op) {
    case QN_OP_ADD:
    case QN_OP_SUB:
        return bits < 30 ? (small_int){qn_op2(ir, x->u.op.op, a[0].x, a[1].x), bits + 1} : none;
    case QN_OP_MUL:
        return a[0].bits + a[1].bits <= 30
                   ? (small_int){qn_op2(ir, QN_OP_MUL, a[0].x, a[1].x), a[0].bits + a[1].bits}
                   : none;
    case QN_OP_MOD:
    case QN_OP_FLOORDIV:
        return bits <= 30 ? (small_int){qn_op2(ir, x->u.op.op, a[0].x, a[1].x), bits} : none;
    case QN_OP_NEG:
    case QN_OP_ABS:
        return bits <= 30 ? (small_int){qn_op1(ir, x->u.op.op, a[0].x), bits} : none;
    case QN_OP_MIN:
    case QN_OP_MAX:
        return (small_int){qn_op2(ir, x->u.op.op, a[0].x, a[1].x), bits};
    case QN_OP_CLAMP:
        return (small_int){qn_op3(ir, QN_OP_CLAMP, a[0].x, a[1].x, a[2].x), bits};
    case QN_OP_SELECT:
        return (small_int){
            qn_op3(ir, QN_OP_SELECT, leaf_inst(lf, x->u.op.args.at[0], ctx), a[1].x, a[2].x), bits};
    default:
        return none;
    }
}

static small_int small(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_sym lane)
{
    const lf_info *v = x->kind == QN_NAME ? leaf_info(lf, x->u.name) : NULL;
    if (leaf_virtual(v)) {
        return small(lf, v->def, ctx, lane);
    }
    if (x->kind == QN_LIT) {
        int bits = 0;
        while (x->u.lit.i > (int64_t)1 << bits && bits < 32) {
            bits++;
        }
        return (small_int){bits <= 30 ? x : NULL, bits};
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_CAST) {
        qn_expr *from = x->u.op.args.at[0];
        qn_dtype t = leaf_type(lf, from).dtype;
        if (t == QN_BOOL || t == QN_U8 || t == QN_I8 || t == QN_I16) {
            return (small_int){qn_cast(lf->ir, QN_I32, leaf_inst(lf, from, ctx)), 15};
        }
        return (small_int){t == QN_I32 ? leaf_inst(lf, from, ctx) : NULL, 31};
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_MOD) { /* of the size of its divisor */
        small_int r = small_op(lf, x, ctx, lane), by = small(lf, x->u.op.args.at[1], ctx, lane);
        r.bits = by.x && by.bits < r.bits ? by.bits : r.bits;
        return r;
    }
    qn_expr *sum = small_sum(lf, x, ctx, lane);
    if (sum) {
        return (small_int){sum, 30};
    }
    return x->kind == QN_OP ? small_op(lf, x, ctx, lane) : (small_int){NULL, 0};
}

static qn_expr *narrow(leaf *lf, qn_expr *x, const lf_ctx *ctx, qn_sym lane)
{
    small_int a[2] = {{NULL, 0}, {NULL, 0}};
    int n = x->u.op.args.count;
    qn_facts_push(lf->facts);
    for (int k = 0; k < lf->kernel->dims.count; k++) {
        qn_sym dim = lf->kernel->dims.at[k].name;
        if (is_argument(lf->kernel, dim)) {
            qn_facts_assume(lf->facts, size_limit(lf, dim), true);
        }
    }
    bool good = true;
    for (int k = 0; k < n; k++) {
        a[k] = small(lf, x->u.op.args.at[k], ctx, lane);
        good = good && a[k].x;
    }
    qn_facts_pop(lf->facts);
    if (!good) {
        return NULL;
    }
    lf->narrowed = true;
    return x->u.op.op == QN_OP_CAST ? qn_cast(lf->ir, x->u.op.cast, a[0].x)
                                    : qn_op2(lf->ir, x->u.op.op, a[0].x, a[1].x);
}

typedef struct dim_use {
    qn_sym dim;
    bool used;
} dim_use;

static bool see_dim(void *user, const qn_expr *x)
{
    dim_use *d = user;
    d->used = d->used || (x->kind == QN_NAME && x->u.name == d->dim);
    return true;
}

void leaf_require_sizes(leaf *lf, qn_stmt *nest)
{
    for (int k = 0; lf->narrowed && k < lf->kernel->dims.count; k++) {
        dim_use d = {lf->kernel->dims.at[k].name, false};
        qn_block one = {&nest, 1, 1};
        qn_block_visit(&one, see_dim, &d);
        qn_block_visit(&lf->kernel->body, see_dim, &d);
        qn_require r = {size_limit(lf, d.dim), "positions along lanes are 32 bits wide", {0}};
        for (int n = 0; n < lf->kernel->requires.count; n++) {
            d.used = d.used && !qn_expr_equal(lf->kernel->requires.at[n].cond, r.cond);
        }
        if (d.used && is_argument(lf->kernel, d.dim)) {
            QN_PUSH(lf->ir->arena, &lf->kernel->requires, r);
        }
    }
}

/* ---------------------------------------------------------------- comparisons and casts */

qn_expr *leaf_positions(leaf *lf, qn_expr *x, const lf_ctx *ctx)
{
    bool cast = x->u.op.op == QN_OP_CAST;
    if (cast && x->u.op.cast != QN_F32 && x->u.op.cast != QN_F64) {
        return NULL;
    }
    for (int k = 0; k < x->u.op.args.count; k++) {
        qn_type t;
        if (!qn_type_infer(lf->env, x->u.op.args.at[k], &t) ||
            (t.dtype != QN_I64 && t.dtype != QN_INT_LIT)) {
            return NULL;
        }
    }
    qn_sym lane = lane_in(lf, x, ctx);
    if (!lane) {
        return NULL;
    }
    qn_ir *ir = lf->ir;
    const qn_lin *l = qn_lin_of(lf->facts, leaf_expand(lf, x->u.op.args.at[0]));
    if (!cast) {
        l = qn_lin_sub(lf->facts, l, qn_lin_of(lf->facts, leaf_expand(lf, x->u.op.args.at[1])));
    }
    split_form s = split(lf, l, ctx, lane);
    if (!s.ok) {
        return narrow(lf, x, ctx, lane);
    }
    qn_op op = x->u.op.op;
    qn_expr *iota = qn_cast(ir, QN_I32, lane_iota(lf, ctx, x, lane));
    if (cast) { /* f32(base + axes) +- c * f32(i) */
        qn_expr *scalar =
            qn_cast(ir, x->u.op.cast, add(lf, qn_lin_expr(lf->facts, s.base, false), s.axes));
        int64_t c = s.lane_coef;
        qn_expr *lanes = qn_cast(ir, x->u.op.cast, iota);
        if (c != 1 && c != -1) {
            lanes = qn_op2(ir, QN_OP_MUL, lanes, qn_float(ir, (double)(c < 0 ? -c : c)));
        }
        return qn_op2(ir, c < 0 ? QN_OP_SUB : QN_OP_ADD, scalar, lanes);
    }
    /* base + axes + c * i OP 0, with the 64-bit base held so near that the sum fits 32 bits */
    if (s.lane_coef > 0) { /* -base - axes - c * i: c * i stays right of the comparison */
        s = split(lf, qn_lin_scale(lf->facts, l, -1), ctx, lane);
        op = mirrored(op);
        if (!s.ok) {
            return NULL;
        }
    }
    qn_expr *base = qn_cast(ir, QN_I32,
                            qn_op3(ir, QN_OP_CLAMP, qn_lin_expr(lf->facts, s.base, false),
                                   qn_int(ir, -(1 << 29)), qn_int(ir, 1 << 29)));
    if (s.axes) {
        base = qn_op2(ir, QN_OP_ADD, base, qn_cast(ir, QN_I32, s.axes));
    }
    int64_t c = -s.lane_coef;
    qn_expr *right = c == 1 ? iota : qn_op2(ir, QN_OP_MUL, iota, qn_int(ir, c));
    return qn_op2(ir, op, base, right);
}
