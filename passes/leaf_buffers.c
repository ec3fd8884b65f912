/* SPDX-License-Identifier: MIT
 *
 * What crosses a group goes through a task buffer, lanes innermost. A value takes over the buffer
 * of one that dies where it is made; buffers of a finished block are used again. */
#include "passes/leaf_internal.h"

#include <string.h>

/* ---------------------------------------------------------------- buffers */

static qn_type buffer_type(leaf *lf, const lf_info *v)
{
    qn_axis axes[QN_MAX_AXES];
    int n = 0;
    qn_sym lane = v->lane && leaf_type_has(&v->type, v->lane) ? v->lane : NULL;
    for (int k = 0; !lane && k < lf->nlanes; k++) {
        lane = leaf_type_has(&v->type, lf->lanes[k].axis) ? lf->lanes[k].axis : NULL;
    }
    for (int k = 0; k < v->type.rank; k++) {
        if (v->type.axes[k].name == lane) {
            continue;
        }
        int at = n++; /* by name, so that equal axes have equal layouts */
        for (; at > 0 && strcmp(axes[at - 1].name, v->type.axes[k].name) > 0; at--) {
            axes[at] = axes[at - 1];
        }
        axes[at] = v->type.axes[k];
    }
    if (lane) {
        axes[n++] = *qn_type_axis(&v->type, lane);
    }
    return qn_type_of(lf->ir, v->type.dtype, axes, n);
}

static bool same_layout(const qn_type *a, const qn_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) {
        return false;
    }
    for (int k = 0; k < a->rank; k++) {
        if (a->axes[k].name != b->axes[k].name ||
            !qn_extent_equal(a->axes[k].extent, b->axes[k].extent)) {
            return false;
        }
    }
    return true;
}

void leaf_need(lf_plan *p, lf_info *v)
{
    leaf *lf = p->lf;
    if (v->buf) {
        return;
    }
    qn_type t = buffer_type(lf, v);
    for (int k = 0; k < lf->pool.count; k++) {
        /* What blocks inside this one gave back is in use while they run, and a value of this block
         * may be made before that. */
        if (lf->pool.at[k].freed < p->block && same_layout(&lf->pool.at[k].type, &t)) {
            lf_buf b = lf->pool.at[k];
            lf->pool.at[k] = lf->pool.at[--lf->pool.count];
            v->buf = b.name;
            QN_PUSH(lf->scratch, &p->own, b);
            return;
        }
    }
    qn_buf base = qn_buf_of(lf->scratch);
    qn_buf_printf(&base, "%%b_%s_", v->name + 1);
    v->buf = leaf_fresh(lf, base.text);
    lf_buf b = {v->buf, t, qn_buf_stmt(lf->ir, v->buf, t, QN_SPACE_TASK), 0};
    qn_sym *order = QN_NEWN(lf->scratch, qn_sym, t.rank + 1);
    for (int k = 0; k < t.rank; k++) {
        order[k] = t.axes[k].name;
    }
    qn_env_define(lf->env, &(qn_bound){.name = v->buf,
                                       .kind = QN_BOUND_MEMORY,
                                       .type = t,
                                       .is_buf = true,
                                       .space = QN_SPACE_TASK});
    lf_info *m = leaf_define(lf, v->buf, LF_MEMORY, t);
    m->task = m->mutable_ = true;
    m->order = order;
    QN_PUSH(lf->scratch, &lf->bufs, b);
    QN_PUSH(lf->scratch, &p->own, b);
}

typedef struct crossing {
    lf_plan *p;
    int step;
    lf_item *item;
    bool strict;
} crossing;

static bool mark_last(void *user, const qn_expr *x)
{
    crossing *c = user;
    lf_info *v = x->kind == QN_NAME ? leaf_info(c->p->lf, x->u.name) : NULL;
    if (!v || v->block != c->p->block || v->how != LF_BIG || leaf_virtual(v) ||
        leaf_is_small(c->p->lf, &v->type)) {
        return true;
    }
    v->last = c->item;
    v->crosses = v->crosses || v->step != c->step;
    return true;
}

static void mark_item(crossing *c, qn_expr *x, bool strict)
{
    if (x) {
        qn_expr *full = leaf_expand(c->p->lf, x);
        c->strict = strict || qn_contains(full, leaf_is_as, NULL);
        qn_visit(full, mark_last, c);
    }
}

typedef struct heir {
    lf_plan *p;
    lf_item *item;
    int step;
    qn_sym buf;
} heir;

/* A value takes over the buffer of one that dies where it is made, element by element. */
static bool find_heir(void *user, const qn_expr *x)
{
    heir *h = user;
    leaf *lf = h->p->lf;
    lf_info *o = x->kind == QN_NAME ? leaf_info(lf, x->u.name) : NULL;
    if (!h->buf && o && o->buf && o->block == h->p->block && o->how == LF_BIG && !o->pinned &&
        o->step < h->step && o->last == h->item) {
        lf_info *v = leaf_info(lf, h->item->name);
        qn_type mine = buffer_type(lf, v), his = leaf_info(lf, o->buf)->type;
        if (same_layout(&mine, &his)) {
            h->buf = o->buf;
            o->pinned = true;
        }
    }
    return true;
}

/* What crosses a group goes through a buffer. */
void leaf_give_buffers(lf_plan *p)
{
    leaf *lf = p->lf;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            crossing c = {p, g, it, false};
            mark_item(&c, it->a, true);
            mark_item(&c, it->b, true);
            mark_item(&c, it->init, false);
            mark_item(&c, it->x, false);
        }
    }
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            lf_info *v = it->name ? leaf_info(lf, it->name) : NULL;
            if (!v || !v->crosses || v->buf || it->kind == LF_RED) {
                continue;
            }
            heir h = {p, it, g, NULL};
            if (it->kind == LF_LET && !qn_contains(leaf_expand(lf, it->x), leaf_is_as, NULL)) {
                qn_visit(leaf_expand(lf, it->x), find_heir, &h);
            }
            v->buf = h.buf;
            leaf_need(p, v);
        }
    }
}
