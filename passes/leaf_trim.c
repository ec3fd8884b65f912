/* SPDX-License-Identifier: MIT
 *
 * How far an axis must be walked, and which guards are needed.
 *
 * An element that every consumer ignores need not be computed: a sum ignores what a select made
 * zero, a maximum what it made -inf, a store what lies past the end. So the bounds that all
 * consumers of an axis share end its loops, and with the loops so bounded most guards are proved
 * away. */
#include "passes/leaf_internal.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- bounds from masks */

static bool is_identity(const qn_expr *x, qn_axop op)
{
    bool minus = x->kind == QN_OP && x->u.op.op == QN_OP_NEG;
    const qn_expr *l = minus ? x->u.op.args.at[0] : x;
    if (l->kind != QN_LIT) {
        return false;
    }
    if (l->u.lit.type == QN_BOOL) {
        return (op == QN_AX_REDUCE_ANY && !l->u.lit.i) || (op == QN_AX_REDUCE_ALL && l->u.lit.i);
    }
    double v = l->u.lit.type == QN_INT_LIT ? (double)l->u.lit.i : l->u.lit.f;
    v = minus ? -v : v;
    switch ((int)op) {
    case QN_AX_DOT:
    case QN_AX_REDUCE_SUM:
        return v == 0.0;
    case QN_AX_REDUCE_MAX:
        return isinf(v) && v < 0;
    case QN_AX_REDUCE_MIN:
        return isinf(v) && v > 0;
    case QN_AX_REDUCE_PROD:
        return v == 1.0;
    default:
        return false;
    }
}

static void add_bound(leaf *lf, lf_bounds *b, const qn_lin *l)
{
    for (int k = 0; k < b->count; k++) {
        if (b->at[k] == l) {
            return;
        }
    }
    QN_PUSH(lf->scratch, b, l);
}

/* rest + the greatest that the axes in it can add; NULL if that is not known. */
static const qn_lin *greatest(leaf *lf, const qn_lin *l)
{
    const qn_lin *out = l;
    for (int k = 0; l && k < l->n; k++) {
        const qn_term *t = l->at[k].term;
        if (!t->tile) {
            continue;
        }
        int64_t n = t->kind == QN_TERM_IOTA ? leaf_const(lf, t->axis.extent) : -1;
        if (n < 1) {
            return NULL;
        }
        out = qn_lin_without(lf->facts, out, t);
        if (out && l->at[k].c > 0) {
            out = qn_lin_plus(lf->facts, out, l->at[k].c * (n - 1));
        }
    }
    return out;
}

/* What `hi - lo >= strict` says of the axis. */
static void bound_of(leaf *lf, const qn_expr *lo, const qn_expr *hi, bool strict, qn_sym axis,
                     lf_bounds *b)
{
    const qn_lin *l = qn_lin_sub(lf->facts, qn_lin_of(lf->facts, hi), qn_lin_of(lf->facts, lo));
    for (int k = 0; l && k < l->n; k++) {
        const qn_term *t = l->at[k].term;
        if (t->kind != QN_TERM_IOTA || t->axis.name != axis || l->at[k].c >= 0) {
            continue;
        }
        int64_t c = -l->at[k].c;
        const qn_lin *rest = greatest(lf, qn_lin_without(lf->facts, l, t));
        rest = rest ? qn_lin_plus(lf->facts, rest, strict ? -1 : 0) : NULL;
        if (rest && c > 1) {
            rest = qn_lin_div(lf->facts, rest, qn_lin_int(lf->facts, c));
        }
        rest = rest ? qn_lin_plus(lf->facts, rest, 1) : NULL;
        if (rest) {
            add_bound(lf, b, rest);
        }
        return;
    }
}

static void conjuncts(leaf *lf, const qn_expr *c, qn_sym axis, lf_bounds *b)
{
    const lf_info *v = c->kind == QN_NAME ? leaf_info(lf, c->u.name) : NULL;
    if (v && v->def) {
        conjuncts(lf, v->def, axis, b);
    }
    if (c->kind != QN_OP || c->u.op.args.count != 2) {
        return;
    }
    const qn_expr *l = c->u.op.args.at[0], *r = c->u.op.args.at[1];
    switch ((int)c->u.op.op) {
    case QN_OP_AND:
        conjuncts(lf, l, axis, b);
        conjuncts(lf, r, axis, b);
        break;
    case QN_OP_LT:
        bound_of(lf, l, r, true, axis, b);
        break;
    case QN_OP_LE:
        bound_of(lf, l, r, false, axis, b);
        break;
    case QN_OP_GT:
        bound_of(lf, r, l, true, axis, b);
        break;
    case QN_OP_GE:
        bound_of(lf, r, l, false, axis, b);
        break;
    default:
        break;
    }
}

static void mask_bounds(leaf *lf, const qn_expr *x, qn_axop op, qn_sym axis, lf_bounds *b)
{
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(lf, x->u.name);
        if (v && v->def) {
            mask_bounds(lf, v->def, op, axis, b);
        }
    } else if (x->kind == QN_AS) {
        for (int k = 0; k < x->u.as.npairs; k++) {
            if (x->u.as.pairs[k].to == axis) {
                mask_bounds(lf, x->u.as.x, op, x->u.as.pairs[k].from, b);
            }
        }
    } else if (x->kind == QN_OP) {
        qn_expr *const *a = x->u.op.args.at;
        bool sum = op == QN_AX_DOT || op == QN_AX_REDUCE_SUM;
        if (x->u.op.op == QN_OP_SELECT) {
            if (is_identity(a[2], op)) {
                conjuncts(lf, a[0], axis, b);
                mask_bounds(lf, a[1], op, axis, b);
            } else if (is_identity(a[1], op)) {
                mask_bounds(lf, a[2], op, axis, b);
            }
        } else if (sum && x->u.op.op == QN_OP_MUL) {
            mask_bounds(lf, a[0], op, axis, b);
            mask_bounds(lf, a[1], op, axis, b);
        } else if (sum && (x->u.op.op == QN_OP_CAST || x->u.op.op == QN_OP_NEG)) {
            mask_bounds(lf, a[0], op, axis, b);
        }
    }
}

lf_bounds leaf_mask_bounds(leaf *lf, qn_expr *x, qn_axop op, qn_sym axis)
{
    lf_bounds b = {0};
    mask_bounds(lf, x, op, axis, &b);
    return b;
}

lf_bounds leaf_store_bounds(leaf *lf, const qn_stmt *store, qn_sym axis)
{
    lf_bounds b = {0};
    const lf_info *m = leaf_info(lf, store->u.store.base);
    for (int k = 0; m && m->kind == LF_MEMORY && k < store->u.store.index.count; k++) {
        const qn_lin *l = qn_lin_of(lf->facts, store->u.store.index.at[k]);
        for (int n = 0; l && n < l->n; n++) {
            const qn_term *t = l->at[n].term;
            if (t->kind != QN_TERM_IOTA || t->axis.name != axis || l->at[n].c != 1) {
                continue;
            }
            const qn_lin *rest = qn_lin_without(lf->facts, l, t);
            if (rest && !rest->tile && (rest->n || rest->k)) {
                const qn_lin *end = qn_lin_extent(lf->facts, m->type.axes[k].extent);
                const qn_lin *bound = qn_lin_sub(lf->facts, end, rest);
                if (bound) {
                    add_bound(lf, &b, bound);
                }
            }
        }
    }
    return b;
}

/* ---------------------------------------------------------------- trims */

void leaf_consume(leaf *lf, lf_consumers *c, qn_sym axis, qn_extent extent, const lf_bounds *b)
{
    for (int k = 0; k < c->count; k++) {
        lf_consumer *one = &c->at[k];
        if (one->axis != axis) {
            continue;
        }
        lf_bounds both = {0};
        for (int n = 0; b && n < b->count; n++) {
            for (int m = 0; m < one->common.count; m++) {
                if (one->common.at[m] == b->at[n]) {
                    add_bound(lf, &both, b->at[n]);
                }
            }
        }
        one->common = both;
        return;
    }
    lf_consumer one = {.axis = axis, .extent = extent};
    for (int n = 0; b && n < b->count; n++) {
        add_bound(lf, &one.common, b->at[n]);
    }
    QN_PUSH(lf->scratch, c, one);
}

const lf_trim *leaf_trim_of(const leaf *lf, qn_sym axis)
{
    for (int k = lf->trims.count - 1; k >= 0; k--) {
        if (lf->trims.at[k].axis == axis) {
            return &lf->trims.at[k];
        }
    }
    return NULL;
}

typedef struct late_names {
    leaf *lf;
    int block; /* 0: any name of the nest is late */
    bool found;
} late_names;

static bool see_late(void *user, const qn_expr *x)
{
    late_names *l = user;
    const lf_info *v = x->kind == QN_NAME ? leaf_info(l->lf, x->u.name) : NULL;
    bool tile = x->kind == QN_IOTA || (v && v->kind == LF_VALUE && v->type.rank);
    l->found = l->found || tile ||
               (v && (l->block ? v->block == l->block : v->local && v->kind != LF_MEMORY));
    if (x->kind == QN_LOAD) {
        const lf_info *m = leaf_info(l->lf, x->u.load.base);
        l->found = l->found || !m || m->mutable_;
    }
    return !l->found;
}

/* The bound as an expression of what is known where the block begins; NULL if there is none. */
static qn_expr *early(leaf *lf, const qn_lin *l, int block)
{
    for (int names = 1; names >= 0; names--) {
        qn_expr *x = qn_lin_expr(lf->facts, l, names == 1);
        late_names late = {lf, block, false};
        qn_visit(x, see_late, &late);
        if (!late.found) {
            return x;
        }
    }
    return NULL;
}

/* The bounds that can be computed where the block begins. */
static int early_bounds(leaf *lf, const lf_consumer *c, int block, qn_expr ***out,
                        const qn_lin ***lins)
{
    int n = 0;
    *out = QN_NEWN(lf->scratch, qn_expr *, c->common.count + 1);
    *lins = QN_NEWN(lf->scratch, const qn_lin *, c->common.count + 1);
    for (int k = 0; k < c->common.count; k++) {
        qn_expr *x = early(lf, c->common.at[k], block);
        if (x) {
            (*lins)[n] = c->common.at[k];
            (*out)[n++] = x;
        }
    }
    return n;
}

static qn_expr *least_of(leaf *lf, qn_expr *const *xs, int n)
{
    qn_expr *least = n ? xs[0] : NULL;
    for (int k = 1; k < n; k++) {
        least = qn_op2(lf->ir, QN_OP_MIN, least, xs[k]);
    }
    return least;
}

static void trim_axis(leaf *lf, const lf_consumer *c, int block, qn_block *out)
{
    int64_t n = leaf_const(lf, c->extent);
    const lf_lane *lane = leaf_lane_of(lf, c->axis);
    if (n < 1 || (lane && lane->whole) || leaf_is_flat(lf, (qn_axis){c->axis, c->extent}) ||
        leaf_trim_of(lf, c->axis)) {
        return;
    }
    qn_expr **bounds;
    const qn_lin **lins;
    int nbounds = early_bounds(lf, c, block, &bounds, &lins);
    if (!nbounds) {
        return;
    }
    qn_buf base = qn_buf_of(lf->scratch);
    qn_buf_printf(&base, "%%%sn", c->axis);
    qn_sym name = leaf_fresh(lf, base.text);
    qn_type t = {QN_I64, 0, NULL};
    qn_env_define(lf->env, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = t});
    leaf_define(lf, name, LF_VALUE, t);
    qn_expr *count = qn_op3(lf->ir, QN_OP_CLAMP, least_of(lf, bounds, nbounds), qn_int(lf->ir, 0),
                            qn_int(lf->ir, n));
    qn_block_push(lf->ir, out, qn_let(lf->ir, name, count));
    QN_PUSH(lf->scratch, &lf->trims, ((lf_trim){c->axis, name, lins, nbounds}));
}

void leaf_trim(leaf *lf, const lf_consumers *c, int block, qn_block *out)
{
    for (int k = 0; k < c->count; k++) {
        trim_axis(lf, &c->at[k], block, out);
    }
}

/* An axis that nothing contracts or renames, and that every store drops beyond a bound, is walked
 * to that bound in the whole nest. */
typedef struct whole_nest {
    leaf *lf;
    lf_consumers consumers;
} whole_nest;

static bool see_contracted(void *user, const qn_expr *x)
{
    whole_nest *w = user;
    if (x->kind == QN_AXOP) {
        for (int k = 0; k < x->u.axop.nover; k++) {
            leaf_consume(w->lf, &w->consumers, x->u.axop.over[k], qn_extent_n(1), NULL);
        }
    } else if (x->kind == QN_AS) {
        for (int k = 0; k < x->u.as.npairs; k++) {
            leaf_consume(w->lf, &w->consumers, x->u.as.pairs[k].from, qn_extent_n(1), NULL);
            leaf_consume(w->lf, &w->consumers, x->u.as.pairs[k].to, qn_extent_n(1), NULL);
        }
    }
    return true;
}

static void see_stored(void *user, qn_stmt *s)
{
    whole_nest *w = user;
    if (s->kind != QN_STORE) {
        return;
    }
    const qn_exprs *i = &s->u.store.index;
    qn_type t = leaf_type(w->lf, qn_load(w->lf->ir, s->u.store.base, i->at, i->count, false, NULL));
    for (int k = 0; k < t.rank; k++) {
        lf_bounds b = leaf_store_bounds(w->lf, s, t.axes[k].name);
        leaf_consume(w->lf, &w->consumers, t.axes[k].name, t.axes[k].extent, &b);
    }
}

static lf_consumers of_nest(leaf *lf, const qn_stmt *nest)
{
    whole_nest w = {.lf = lf};
    qn_block_visit(&nest->u.loop.body, see_contracted, &w);
    qn_block_stmts(&nest->u.loop.body, see_stored, &w);
    return w.consumers;
}

qn_block leaf_pretrim(leaf *lf, const qn_stmt *nest)
{
    qn_block out = {0};
    lf_consumers c = of_nest(lf, nest);
    leaf_trim(lf, &c, 0, &out);
    return out;
}

qn_expr *leaf_axis_end(leaf *lf, const qn_stmt *nest, qn_sym axis)
{
    lf_consumers c = of_nest(lf, nest);
    for (int k = 0; k < c.count; k++) {
        if (c.at[k].axis == axis) {
            qn_expr **bounds;
            const qn_lin **lins;
            int n = early_bounds(lf, &c.at[k], 0, &bounds, &lins);
            return least_of(lf, bounds, n);
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- guards that are not needed */

/* Below the extent, because an axis is walked no further than a bound of its trim. */
static bool below_by_trim(leaf *lf, const qn_lin *l, const qn_lin *end, const lf_ctx *ctx)
{
    for (int k = 0; k < l->n && !ctx->renamed; k++) {
        const qn_term *t = l->at[k].term;
        const lf_trim *trim =
            t->kind == QN_TERM_IOTA && l->at[k].c == 1 ? leaf_trim_of(lf, t->axis.name) : NULL;
        if (!trim || t->axis.name == ctx->lane) {
            continue; /* lanes are taken in chunks that may stick out of a trim */
        }
        const qn_lin *rest = qn_lin_without(lf->facts, l, t);
        for (int b = 0; b < trim->nbounds; b++) {
            const qn_lin *top = qn_lin_add(lf->facts, rest, trim->bounds[b]);
            if (top && qn_prove_le(lf->facts, top, end)) {
                return true;
            }
        }
    }
    return false;
}

bool leaf_inside(leaf *lf, qn_expr *index, qn_extent extent, const lf_ctx *ctx)
{
    const qn_lin *l = qn_lin_of(lf->facts, leaf_expand(lf, index));
    const qn_lin *end = qn_lin_extent(lf->facts, extent);
    if (!l || !end || !qn_prove_ge0(lf->facts, l)) {
        return false;
    }
    return below_by_trim(lf, l, end, ctx) ||
           qn_prove_le(lf->facts, qn_lin_plus(lf->facts, l, 1), end);
}

static bool is_guarded(void *user, const qn_expr *x)
{
    bool *found = user;
    *found = *found || (x->kind == QN_LOAD && x->u.load.guarded);
    return !*found;
}

/* True if the block holds no loop; *guard: a guarded load is in it. */
static bool report_block(leaf *lf, const qn_block *b, bool *guard)
{
    bool inner = true;
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        qn_stmt_exprs(s, is_guarded, guard);
        if (s->kind == QN_FOR) {
            bool inside = false;
            if (report_block(lf, &s->u.loop.body, &inside) && inside && s->u.loop.ncarries) {
                qn_remark(lf->cx, "W-GUARD", s->place, "of index %s", s->u.loop.iters[0].name);
            }
            inner = false;
        } else if (s->kind == QN_IF) {
            inner = report_block(lf, &s->u.branch.then, guard) && inner;
            inner = report_block(lf, &s->u.branch.other, guard) && inner;
        }
    }
    return inner;
}

void leaf_report_guards(leaf *lf, const qn_stmt *nest)
{
    bool guard = false;
    report_block(lf, &nest->u.loop.body, &guard);
}
