/* SPDX-License-Identifier: MIT
 *
 * Steps of a block, and when they may be taken. Step g is: straight statements at time 2g, then at
 * time 2g + 1 one group (a loop over axes that all its items share) or one nested statement.
 *
 * An item goes into the first group with its axes that is not too early for what it reads: a value
 * of the same element, at once; a reduction's result or another element, after the group that makes
 * it. So pointwise work joins the loops of the products around it, and a reduction is carried by
 * the loop that makes its operand, whatever the statements compute. */
#include "passes/leaf_internal.h"

/* ---------------------------------------------------------------- virtual values */

bool leaf_virtual(const lf_info *v)
{
    return v && v->def && !v->real;
}

static qn_expr *expand_one(void *user, qn_expr *x)
{
    leaf *lf = user;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(lf, x->u.name);
        if (leaf_virtual(v)) {
            return leaf_expand(lf, v->def);
        }
    }
    return x;
}

qn_expr *leaf_expand(leaf *lf, qn_expr *x)
{
    return x ? qn_rewrite(lf->ir, x, expand_one, lf) : NULL;
}

bool leaf_is_as(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_AS;
}

bool leaf_is_big(leaf *lf, const lf_info *v)
{
    return v && v->kind == LF_VALUE && !leaf_is_small(lf, &v->type);
}

/* ---------------------------------------------------------------- times */

typedef struct timing {
    lf_plan *p;
    const qn_axis *axes;
    int naxes;
    qn_sym lane;
    bool strict; /* what is big is read at other elements too */
    int t;
} timing;

static bool same_axes(const qn_axis *a, int na, const qn_axis *b, int nb)
{
    for (int k = 0; k < na; k++) {
        bool found = false;
        for (int n = 0; n < nb && !found; n++) {
            found = a[k].name == b[n].name;
        }
        if (!found) {
            return false;
        }
    }
    return na == nb;
}

bool leaf_same_key(const lf_step *s, const qn_axis *axes, int n, qn_sym lane)
{
    return !s->nested && s->lane == lane && same_axes(s->axes, s->naxes, axes, n);
}

static bool time_one(void *user, const qn_expr *x)
{
    timing *t = user;
    lf_plan *p = t->p;
    int at = 0;
    if (x->kind == QN_NAME) {
        const lf_info *v = leaf_info(p->lf, x->u.name);
        if (v && v->block == p->block) {
            at = 2 * v->step;
            if (v->how == LF_BIG) {
                bool same =
                    !t->strict && leaf_same_key(&p->steps.at[v->step], t->axes, t->naxes, t->lane);
                at += same ? 1 : 2;
            } else if (v->how == LF_RESULT) {
                at += 2;
            }
        }
    } else if (x->kind == QN_LOAD) {
        const lf_info *v = leaf_info(p->lf, x->u.load.base);
        at = v && v->mblock == p->block ? v->stored : 0;
    }
    t->t = at > t->t ? at : t->t;
    return true;
}

int leaf_ready(lf_plan *p, qn_expr *x, const qn_axis *axes, int n, qn_sym lane, bool strict)
{
    timing t = {p, axes, n, lane, strict, 0};
    if (x) {
        qn_expr *full = leaf_expand(p->lf, x);
        t.strict = strict || qn_contains(full, leaf_is_as, NULL);
        qn_visit(full, time_one, &t);
    }
    return t.t;
}

int leaf_later(int a, int b)
{
    return a > b ? a : b;
}

bool leaf_note_read(void *user, const qn_expr *x)
{
    lf_reading *r = user;
    lf_info *v = x->kind == QN_LOAD ? leaf_info(r->p->lf, x->u.load.base) : NULL;
    if (v && v->mutable_) {
        if (v->mblock != r->p->block) {
            v->mblock = r->p->block;
            v->stored = v->read = 0;
        }
        v->read = leaf_later(v->read, r->t);
    }
    return true;
}

void leaf_note_reads(lf_plan *p, qn_expr *x, int t)
{
    if (x) {
        qn_visit(leaf_expand(p->lf, x), leaf_note_read, &(lf_reading){p, t});
    }
}

void leaf_note_store(lf_plan *p, qn_sym base, int t)
{
    lf_info *v = leaf_info(p->lf, base);
    if (v) {
        if (v->mblock != p->block) {
            v->mblock = p->block;
            v->read = 0;
            v->stored = 0;
        }
        v->stored = leaf_later(v->stored, t);
    }
}

/* ---------------------------------------------------------------- placing */

/* At time t or later, in straight code; returns the step. */
int leaf_put_straight(lf_plan *p, qn_stmt *s, int t)
{
    int g = (t + 1) / 2;
    qn_block_push(p->lf->ir, g < p->steps.count ? &p->steps.at[g].pre : &p->tail, s);
    return g < p->steps.count ? g : p->steps.count;
}

lf_step *leaf_new_step(lf_plan *p)
{
    lf_step s = {.pre = p->tail};
    p->tail = (qn_block){0};
    QN_PUSH(p->lf->scratch, &p->steps, s);
    return &p->steps.at[p->steps.count - 1];
}

int leaf_put_item(lf_plan *p, lf_item *it, int t)
{
    leaf *lf = p->lf;
    int g = t / 2;
    while (g < p->steps.count && !leaf_same_key(&p->steps.at[g], it->axes, it->naxes, it->lane)) {
        g++;
    }
    if (g >= p->steps.count) {
        g = p->steps.count;
        lf_step *s = leaf_new_step(p);
        s->axes = it->axes;
        s->naxes = it->naxes;
        s->lane = it->lane;
    }
    QN_PUSH(lf->scratch, &p->steps.at[g].items, it);
    lf_info *v = it->name ? leaf_info(lf, it->name) : NULL;
    if (v) {
        v->block = p->block;
        v->step = g;
        v->how = it->kind == LF_RED ? LF_RESULT : LF_BIG;
        v->lane = it->lane;
    }
    return g;
}

lf_info *leaf_new_value(leaf *lf, qn_sym name, qn_type type)
{
    qn_env_define(lf->env, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = type});
    return leaf_define(lf, name, LF_VALUE, type);
}
