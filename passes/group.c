/* SPDX-License-Identifier: MIT
 *
 * Par indices that share what they read become an axis of one task.
 *
 *     group h 4        par for h in 0..H { %g = h * K // H ..       with `require H % K == 0`
 *     =>               par for g0 in 0..K, h0 in 0..H // K step 4 { %g = g0 ..
 *
 * with %h = g0 * (H // K) + (h0 + h:4) in place of h, and -1 past the end of the group: there loads
 * pad and stores drop.
 *
 * needs  a nest of values and stores, with a par index over a whole dim that is mapped to groups
 * makes  an axis h of n elements; rows of shared tensors are read once a task, not once an index
 * law    every index is computed in exactly one task, from the same elements
 *
 * Where two maps are used, to K and to L groups, the text holds for K == L alone: the plan's
 * condition and a `require` say so, and a kernel without a plan keeps its other map. */
#include "ir/build.h"
#include "passes/linear.h"
#include "passes/tools.h"

#include <string.h>

typedef struct group {
    qn_tool *t;
    qn_sym index;         /* h */
    qn_sym whole;         /* H */
    qn_symset maps;       /* K, L: dims with h * K // H */
    qn_sym first;         /* K */
    bool equal;           /* L is K by the plan's condition */
    qn_expr *group, *row; /* g0, and what stands for h */
    bool obstacle;
    qn_symset rows; /* names whose value has the axis */
} group;

/* The dim K if x is h * K // H. */
static qn_sym map_of(const group *g, const qn_expr *x)
{
    if (x->kind != QN_OP || x->u.op.op != QN_OP_FLOORDIV) {
        return NULL;
    }
    const qn_expr *m = x->u.op.args.at[0], *by = x->u.op.args.at[1];
    if (by->kind != QN_NAME || by->u.name != g->whole || m->kind != QN_OP ||
        m->u.op.op != QN_OP_MUL) {
        return NULL;
    }
    for (int k = 0; k < 2; k++) {
        const qn_expr *a = m->u.op.args.at[k], *b = m->u.op.args.at[1 - k];
        if (a->kind == QN_NAME && a->u.name == g->index && b->kind == QN_NAME) {
            const qn_bound *dim = qn_env_find(g->t->env, b->u.name);
            return dim && dim->kind == QN_BOUND_DIM ? b->u.name : NULL;
        }
    }
    return NULL;
}

static bool note_map(void *user, const qn_expr *x)
{
    group *g = user;
    qn_sym k = map_of(g, x);
    if (k) {
        qn_symset_add(g->t->cx->scratch, &g->maps, k);
    }
    g->obstacle =
        g->obstacle || (x->kind == QN_IOTA && x->u.iota.name == g->index) || x->kind == QN_AS;
    return true;
}

/* Is H % K == 0 promised? */
static bool divides(const group *g, qn_sym k)
{
    qn_ir *ir = g->t->ir;
    qn_expr *rest = qn_op2(ir, QN_OP_MOD, qn_name(ir, g->whole), qn_name(ir, k));
    qn_expr *zero = qn_op2(ir, QN_OP_EQ, rest, qn_int(ir, 0));
    for (int n = 0; n < g->t->kernel->requires.count; n++) {
        if (qn_expr_equal(g->t->kernel->requires.at[n].cond, zero)) {
            return true;
        }
    }
    return false;
}

static bool varies(void *user, const qn_expr *x)
{
    const group *g = user;
    return x->kind == QN_NAME && (x->u.name == g->index || qn_symset_has(&g->rows, x->u.name));
}

/* Values and stores alone; every store reaches the index. */
static bool plain_body(group *g)
{
    const qn_block *b = &g->t->par->u.loop.body;
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        if (s->kind == QN_LET) {
            /* group maps become scalars of the task */
            bool map = map_of(g, s->u.let.x) && (g->equal || map_of(g, s->u.let.x) == g->first);
            for (int n = 0; !map && n < s->u.let.nnames; n++) {
                if (qn_contains(s->u.let.x, varies, g)) {
                    qn_symset_add(g->t->cx->scratch, &g->rows, s->u.let.names[n]);
                }
            }
        } else if (s->kind == QN_STORE) {
            bool reaches = false;
            for (int n = 0; n < s->u.store.index.count; n++) {
                reaches = reaches || qn_contains(s->u.store.index.at[n], varies, g);
            }
            if (!reaches || s->u.store.start) {
                return false;
            }
        } else {
            return false;
        }
    }
    return true;
}

static qn_expr *to_group(void *user, qn_expr *x)
{
    group *g = user;
    qn_sym k = map_of(g, x);
    return k && (k == g->first || g->equal) ? g->group : x;
}

static qn_expr *to_row(void *user, qn_expr *x)
{
    group *g = user;
    qn_ir *ir = g->t->ir;
    if (x->kind == QN_NAME && x->u.name == g->index) {
        return g->row;
    }
    if (x->kind == QN_LOAD && !x->u.load.guarded) {
        for (int k = 0; k < x->u.load.index.count; k++) {
            const qn_expr *i = x->u.load.index.at[k];
            if (qn_contains(i, varies, g) || qn_mentions_name(i, g->row->u.name)) {
                return qn_load(ir, x->u.load.base, x->u.load.index.at, x->u.load.index.count, true,
                               NULL);
            }
        }
    }
    return x;
}

static qn_expr *scalar_row(void *user, qn_expr *x)
{
    group *g = user;
    return x->kind == QN_NAME && x->u.name == g->index ? g->row : x;
}

/* A second map equals the first if the plan says so; the condition is added to the plan's own. */
static void settle_maps(group *g)
{
    qn_ir *ir = g->t->ir;
    const qn_attr *plan = qn_attr_find(&g->t->kernel->attrs, "plan");
    g->equal = g->maps.count == 1;
    if (g->equal || !plan || plan->nargs != 1) {
        return;
    }
    qn_expr *cond = plan->args[0].lo;
    for (int k = 1; k < g->maps.count; k++) {
        qn_expr *same =
            qn_op2(ir, QN_OP_EQ, qn_name(ir, g->maps.at[k]), qn_name(ir, g->maps.at[0]));
        cond = qn_op2(ir, QN_OP_AND, cond, same);
        qn_require promise = {same, "this plan is for one number of groups", {0}};
        QN_PUSH(ir->arena, &g->t->kernel->requires, promise);
    }
    qn_attr_remove(&g->t->kernel->attrs, "plan");
    qn_attr_add(ir, &g->t->kernel->attrs, "plan", &(qn_attr_arg){cond, NULL}, 1);
    g->equal = true;
}

static qn_iter plain_iter(qn_ir *ir, qn_sym name, qn_expr *hi, qn_expr *step)
{
    qn_piece *p = QN_NEW(ir->arena, qn_piece);
    p->lo = qn_int(ir, 0);
    p->hi = hi;
    return (qn_iter){name, NULL, p, 1, step};
}

static void rewrite(group *g, int at, int64_t size)
{
    qn_tool *t = g->t;
    qn_ir *ir = t->ir;
    qn_stmt *par = t->par;
    qn_buf base = qn_buf_of(t->cx->scratch);
    qn_buf_printf(&base, "%%%s", g->index);
    qn_sym row = qn_tool_fresh(t, base.text), h0 = qn_tool_block_index(t, g->index);
    qn_sym g0 = qn_tool_fresh(t, "g0");
    qn_expr *members = qn_op2(ir, QN_OP_FLOORDIV, qn_name(ir, g->whole), qn_name(ir, g->first));
    qn_expr *first = qn_op2(ir, QN_OP_MUL, qn_name(ir, g0), members);
    g->group = qn_name(ir, g0);
    if (par->u.loop.cost) {
        g->row = qn_op2(ir, QN_OP_ADD, first, qn_name(ir, h0));
        par->u.loop.cost = qn_rewrite(ir, par->u.loop.cost, scalar_row, g);
    }
    qn_block_rewrite(ir, &par->u.loop.body, to_group, g);
    g->row = qn_name(ir, row);
    qn_block_rewrite(ir, &par->u.loop.body, to_row, g);
    qn_expr *in = qn_op2(ir, QN_OP_ADD, qn_name(ir, h0), qn_iota(ir, g->index, qn_extent_n(size)));
    qn_expr *here = qn_op2(ir, QN_OP_LT, in, members);
    qn_expr *x = size == 1 ? qn_op2(ir, QN_OP_ADD, first, in)
                           : qn_op3(ir, QN_OP_SELECT, here, qn_op2(ir, QN_OP_ADD, first, in),
                                    qn_int(ir, -1));
    qn_block body = {0};
    qn_block_push(ir, &body, qn_let(ir, row, x));
    qn_block_append(ir, &body, &par->u.loop.body);
    par->u.loop.body = body;
    qn_iter *iters = QN_NEWN(ir->arena, qn_iter, par->u.loop.niters + 1);
    int n = 0;
    for (int k = 0; k < par->u.loop.niters; k++) {
        if (k != at) {
            iters[n++] = par->u.loop.iters[k];
            continue;
        }
        iters[n++] = plain_iter(ir, g0, qn_name(ir, g->first), NULL);
        iters[n++] = plain_iter(ir, h0, members, size > 1 ? qn_int(ir, size) : NULL);
    }
    par->u.loop.iters = iters;
    par->u.loop.niters = n;
}

static bool group_index(qn_tool *t, int at, int64_t size)
{
    qn_stmt *par = t->par;
    const qn_iter *it = &par->u.loop.iters[at];
    const qn_piece *p = it->pieces;
    group *g = QN_NEW(t->cx->scratch, group);
    g->t = t;
    g->index = it->name;
    bool plain = it->npieces == 1 && !p->list && !it->end && !it->step && p->lo->kind == QN_LIT &&
                 p->lo->u.lit.i == 0 && p->hi->kind == QN_NAME;
    if (!plain || size < 1 || size > 16) {
        return true;
    }
    g->whole = p->hi->u.name;
    qn_block_visit(&par->u.loop.body, note_map, g);
    if (!g->maps.count) {
        return true; /* nothing is shared in this nest */
    }
    g->first = g->maps.at[0];
    for (int k = 0; k < par->u.loop.niters; k++) {
        const qn_iter *other = &par->u.loop.iters[k];
        for (int n = 0; k != at && n < other->npieces; n++) {
            g->obstacle = g->obstacle || other->pieces[n].list ||
                          qn_mentions_name(other->pieces[n].lo, g->index) ||
                          qn_mentions_name(other->pieces[n].hi, g->index);
        }
    }
    for (int k = 0; k < g->maps.count; k++) {
        g->obstacle = g->obstacle || !divides(g, g->maps.at[k]);
    }
    if (g->obstacle) {
        qn_remark(t->cx, "W-NOTILE", par->place, "the groups of %s are not even", g->index);
        return true;
    }
    settle_maps(g);
    if (!plain_body(g)) {
        qn_remark(t->cx, "W-NOTILE", par->place, "%s is used where only a scalar can be", g->index);
        return true;
    }
    rewrite(g, at, size);
    return true;
}

static bool group_nest(qn_tool *t)
{
    qn_symset axes = qn_tool_axes(t, "group");
    for (int n = 0; n < axes.count; n++) {
        for (int k = 0; k < t->par->u.loop.niters; k++) {
            if (t->par->u.loop.iters[k].name == axes.at[n]) {
                group_index(t, k, qn_tool_size(t, "group", axes.at[n], 1));
                break;
            }
        }
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    return qn_each_nest(cx, f, k, group_nest);
}

const qn_pass qn_pass_group = {
    .name = "group",
    .doc = "par indices that share what they read become an axis of one task",
    .run = run,
};
