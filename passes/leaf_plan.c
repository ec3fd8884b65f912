/* SPDX-License-Identifier: MIT
 *
 * Statements become steps: straight code, groups and nested statements. Carries and results with
 * loop axes live in buffers; those in registers stay carries. */
#include "passes/leaf_internal.h"

/* ---------------------------------------------------------------- nested statements */

typedef struct nested_scan {
    lf_plan *p;
    int t;
} nested_scan;

static bool nested_read(void *user, const qn_expr *x)
{
    nested_scan *s = user;
    leaf *lf = s->p->lf;
    if (x->kind == QN_LOAD) {
        leaf_note_read(&(lf_reading){s->p, s->t}, x);
        return true;
    }
    lf_info *v = x->kind == QN_NAME ? leaf_info(lf, x->u.name) : NULL;
    if (!leaf_is_big(lf, v)) {
        return true;
    }
    if (leaf_virtual(v)) {
        qn_visit(leaf_expand(lf, v->def), nested_read, s);
    } else if (v->block == s->p->block || v->buf) {
        v->pinned = true;
        leaf_need(s->p, v);
    }
    for (int k = 0; k < v->type.rank; k++) {
        leaf_consume(lf, &s->p->consumers, v->type.axes[k].name, v->type.axes[k].extent, NULL);
    }
    return true;
}

static void nested_store(void *user, qn_stmt *st)
{
    nested_scan *s = user;
    if (st->kind == QN_STORE) {
        leaf_note_store(s->p, st->u.store.base, s->t);
    }
}

/* Before a nested statement is planned, as the step that will come next. */
static void before_nested(lf_plan *p, qn_stmt *s)
{
    nested_scan scan = {p, 2 * p->steps.count + 2};
    qn_block one = {&s, 1, 1};
    qn_block_visit(&one, nested_read, &scan);
    qn_block_stmts(&one, nested_store, &scan);
}

typedef struct mention {
    qn_sym name;
    bool found;
} mention;

static bool see_name(void *user, const qn_expr *x)
{
    mention *m = user;
    m->found = m->found || (x->kind == QN_NAME && x->u.name == m->name);
    return !m->found;
}

bool leaf_block_mentions(const qn_block *b, qn_sym name)
{
    mention m = {name, false};
    qn_block_visit(b, see_name, &m);
    return m.found;
}

qn_block leaf_rest(const qn_block *b, int at)
{
    return (qn_block){b->at + at, b->count - at, b->count - at};
}

static void placed_nested(lf_plan *p, qn_stmt *s, const qn_sym *names, int n)
{
    lf_step *st = leaf_new_step(p);
    st->nested = s;
    for (int k = 0; k < n; k++) {
        lf_info *v = leaf_info(p->lf, names[k]);
        v->block = p->block;
        v->step = p->steps.count - 1;
        v->how = LF_RESULT;
    }
}

static qn_expr *flat_scalar(lf_plan *p, qn_expr *x)
{
    return x ? leaf_flatten(p, x) : NULL;
}

/* Stores x into the buffer of `target`, for every element. */
static void put_carry(lf_plan *p, qn_sym target, const qn_type *type, qn_expr *x, int t)
{
    leaf *lf = p->lf;
    lf_info *v = leaf_info(lf, target);
    qn_expr *named = qn_name(lf->ir, target);
    qn_expr *xs[2] = {x, named};
    lf_item *it =
        leaf_new_item(lf, LF_CARRY, NULL, type, leaf_choose_lane(lf, type, xs, 2, NULL, 0, NULL));
    it->target = target;
    it->x = x;
    it->type = *type;
    if (!v->lane) {
        v->lane = it->lane;
    }
    leaf_put_item(p, it, leaf_later(t, leaf_ready(p, x, it->axes, it->naxes, it->lane, false)));
    for (int k = 0; k < type->rank; k++) {
        leaf_consume(lf, &p->consumers, type->axes[k].name, type->axes[k].extent, NULL);
    }
}

/* The time after which the buffer of `name` may be stored to. */
static int after_readers(lf_plan *p, qn_sym name, const qn_axis *axes, int naxes, qn_sym lane)
{
    leaf *lf = p->lf;
    int t = 0;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        bool same = leaf_same_key(st, axes, naxes, lane);
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            qn_expr *strict[2] = {it->a, it->b}, *loose[2] = {it->x, it->init};
            for (int n = 0; n < 2; n++) {
                if (strict[n] && qn_mentions_name(leaf_expand(lf, strict[n]), name)) {
                    t = leaf_later(t, 2 * g + 2);
                }
                if (loose[n] && qn_mentions_name(leaf_expand(lf, loose[n]), name)) {
                    bool as = qn_contains(leaf_expand(lf, loose[n]), leaf_is_as, NULL);
                    t = leaf_later(t, same && !as ? 2 * g + 1 : 2 * g + 2);
                }
            }
        }
        if (st->nested) {
            qn_block one = {&st->nested, 1, 1};
            t = leaf_block_mentions(&one, name) ? leaf_later(t, 2 * g + 2) : t;
        }
    }
    return t;
}

static void plan_yield(lf_plan *p, const qn_stmt *s, const lf_target *targets, int n)
{
    leaf *lf = p->lf;
    qn_expr **small = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    qn_expr **xs = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    int nsmall = 0;
    for (int k = 0; k < n; k++) {
        xs[k] = leaf_flatten(p, s->u.yield.at[k]);
        if (leaf_is_small(lf, &targets[k].type)) {
            small[nsmall++] = xs[k];
            xs[k] = NULL;
            continue;
        }
        const lf_info *v = leaf_info(lf, targets[k].name);
        const lf_info *from = xs[k]->kind == QN_NAME ? leaf_info(lf, xs[k]->u.name) : NULL;
        if (from && from->buf && from->buf == v->buf) {
            xs[k] = NULL; /* already there */
            continue;
        }
        qn_expr *full = leaf_expand(lf, xs[k]);
        for (int m = 0; m < n; m++) { /* all change at once: what another replaces is kept first */
            if (m != k && !leaf_is_small(lf, &targets[m].type) &&
                qn_mentions_name(full, targets[m].name)) {
                xs[k] = leaf_make_real(p, leaf_fresh(lf, "%t"), xs[k], NULL);
                break;
            }
        }
    }
    for (int k = 0; k < n; k++) {
        if (!xs[k]) {
            continue;
        }
        const qn_axis *axes;
        qn_expr *both[2] = {xs[k], qn_name(lf->ir, targets[k].name)};
        qn_sym lane = leaf_choose_lane(lf, &targets[k].type, both, 2, NULL, 0, NULL);
        int naxes = leaf_loop_axes(lf, &targets[k].type, lane, &axes);
        int t = after_readers(p, targets[k].name, axes, naxes, lane);
        put_carry(p, targets[k].name, &targets[k].type, xs[k], t);
    }
    if (nsmall) {
        qn_block_push(lf->ir, &p->tail, qn_yield(lf->ir, small, nsmall));
    }
}

static qn_stmt *shell_of(leaf *lf, const qn_stmt *s)
{
    qn_stmt *out = qn_stmt_new(lf->ir, s->kind, s->place);
    out->attrs = s->attrs;
    out->u = s->u;
    return out;
}

static void plan_loop(lf_plan *p, const qn_block *body, int at)
{
    leaf *lf = p->lf;
    qn_stmt *s = body->at[at];
    qn_stmt *out = shell_of(lf, s);
    qn_iter *iters = QN_NEWN(lf->ir->arena, qn_iter, s->u.loop.niters + 1);
    for (int k = 0; k < s->u.loop.niters; k++) {
        iters[k] = s->u.loop.iters[k];
        qn_piece *pieces = QN_NEWN(lf->ir->arena, qn_piece, iters[k].npieces + 1);
        for (int n = 0; n < iters[k].npieces; n++) {
            pieces[n] = iters[k].pieces[n];
            pieces[n].lo = flat_scalar(p, pieces[n].lo);
            pieces[n].hi = flat_scalar(p, pieces[n].hi);
        }
        iters[k].pieces = pieces;
        iters[k].step = flat_scalar(p, iters[k].step);
    }
    out->u.loop.iters = iters;
    int n = s->u.loop.ncarries, nsmall = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_sym *names = QN_NEWN(lf->scratch, qn_sym, n + 1);
    qn_carry *carries = QN_NEWN(lf->ir->arena, qn_carry, n + 1);
    for (int k = 0; k < n; k++) {
        const qn_carry *c = &s->u.loop.carries[k];
        names[k] = c->name;
        targets[k] = (lf_target){c->name, c->type};
        qn_expr *init = leaf_flatten(p, c->init);
        if (leaf_is_small(lf, &c->type)) {
            carries[nsmall++] = (qn_carry){c->name, c->type, init};
            continue;
        }
        lf_info *v = leaf_info(lf, c->name);
        lf_info *from = init->kind == QN_NAME ? leaf_info(lf, init->u.name) : NULL;
        qn_block rest = leaf_rest(body, at + 1);
        if (from && from->buf && from->block == p->block && from->how == LF_RESULT &&
            !leaf_block_mentions(&rest, from->name) &&
            !leaf_block_mentions(&s->u.loop.body, from->name) &&
            qn_type_equal(&from->type, &c->type)) {
            v->buf = from->buf; /* the old carry dies here */
            v->lane = from->lane;
            continue;
        }
        v->lane = leaf_choose_lane(lf, &c->type, &init, 1, NULL, 0, NULL);
        leaf_need(p, v);
        put_carry(p, c->name, &c->type, init, 0);
    }
    out->u.loop.carries = carries;
    out->u.loop.ncarries = nsmall;
    before_nested(p, s);
    qn_facts_push(lf->facts);
    qn_facts_enter_loop(lf->facts, s);
    out->u.loop.body = leaf_block(lf, &s->u.loop.body, targets, n);
    qn_facts_pop(lf->facts);
    qn_facts_stmt(lf->facts, s);
    placed_nested(p, out, names, n);
}

/* May the result live where the carry lives that the block's yield gives it to? */
static qn_sym carry_of_result(lf_plan *p, const qn_block *body, int at, qn_sym name,
                              const lf_target *targets, int n)
{
    leaf *lf = p->lf;
    const qn_stmt *end = body->at[body->count - 1];
    if (end->kind != QN_YIELD || leaf_info(lf, name)->uses != 1) {
        return NULL;
    }
    for (int k = 0; k < n && k < end->u.yield.count; k++) {
        const qn_expr *y = end->u.yield.at[k];
        if (y->kind == QN_NAME && y->u.name == name) {
            qn_block rest = leaf_rest(body, at + 1);
            return leaf_block_mentions(&rest, targets[k].name) ? NULL : targets[k].name;
        }
    }
    return NULL;
}

static void plan_if(lf_plan *p, const qn_block *body, int at, const lf_target *outer, int nouter)
{
    leaf *lf = p->lf;
    qn_stmt *s = body->at[at];
    qn_stmt *out = shell_of(lf, s);
    out->u.branch.cond = leaf_flatten(p, s->u.branch.cond);
    int n = s->u.branch.nnames, nsmall = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_sym *names = QN_NEWN(lf->ir->arena, qn_sym, n + 1);
    for (int k = 0; k < n; k++) {
        lf_info *v = leaf_info(lf, s->u.branch.names[k]);
        targets[k] = (lf_target){v->name, v->type};
        if (leaf_is_small(lf, &v->type)) {
            names[nsmall++] = v->name;
            continue;
        }
        qn_sym carry = carry_of_result(p, body, at, v->name, outer, nouter);
        const lf_info *c = carry ? leaf_info(lf, carry) : NULL;
        if (c && c->buf && qn_type_equal(&c->type, &v->type)) {
            v->buf = c->buf;
            v->lane = c->lane;
        } else {
            leaf_need(p, v);
        }
    }
    out->u.branch.names = names;
    out->u.branch.nnames = nsmall;
    before_nested(p, s);
    qn_facts_push(lf->facts);
    qn_facts_assume(lf->facts, s->u.branch.cond, true);
    out->u.branch.then = leaf_block(lf, &s->u.branch.then, targets, n);
    qn_facts_pop(lf->facts);
    if (s->u.branch.has_else) {
        qn_facts_push(lf->facts);
        out->u.branch.other = leaf_block(lf, &s->u.branch.other, targets, n);
        qn_facts_pop(lf->facts);
    }
    qn_facts_stmt(lf->facts, s);
    placed_nested(p, out, s->u.branch.names, n);
}

/* ---------------------------------------------------------------- statements */

static void plan_let(lf_plan *p, const qn_stmt *s)
{
    leaf *lf = p->lf;
    if (s->u.let.nnames != 1) {
        leaf_refuse(lf, s->place, "a statement with several results");
    }
    lf_info *v = leaf_info(lf, s->u.let.names[0]);
    qn_expr *x = leaf_flatten(p, s->u.let.x);
    if (leaf_is_small(lf, &v->type)) {
        bool lanes = false;
        for (int k = 0; k < v->type.rank; k++) {
            lanes = lanes || leaf_is_lane(lf, v->type.axes[k].name);
        }
        if (lanes && v->type.dtype == QN_I64 && (v->uses < 2 || leaf_size_of(lf, x) < 50) &&
            !qn_contains(x, leaf_reads_mutable, lf)) {
            v->def = x; /* a position: written out where it is used */
            return;
        }
        qn_stmt *let = shell_of(lf, s);
        let->u.let.x = x;
        v->step = leaf_put_straight(p, let, leaf_ready(p, x, NULL, 0, NULL, false));
        v->block = p->block;
        v->how = LF_PRE;
        leaf_note_reads(p, x, 2 * v->step);
        return;
    }
    v->def = x;
    if (leaf_be_real(lf, v, x)) {
        leaf_make_real(p, v->name, x, NULL);
    }
}

typedef struct own_reads {
    const qn_stmt *store;
    leaf *lf;
    bool other;
} own_reads;

static bool see_own(void *user, const qn_expr *x)
{
    own_reads *o = user;
    if (x->kind == QN_LOAD && x->u.load.base == o->store->u.store.base) {
        for (int k = 0; k < x->u.load.index.count; k++) {
            o->other =
                o->other || !qn_expr_equal(x->u.load.index.at[k], o->store->u.store.index.at[k]);
        }
    }
    return true;
}

static bool other_read(leaf *lf, qn_expr *x, const qn_stmt *store)
{
    own_reads o = {store, lf, false};
    qn_visit(leaf_expand(lf, x), see_own, &o);
    return o.other;
}

typedef struct memory_read {
    leaf *lf;
    const qn_stmt *store;
    bool any, other; /* is the memory read; at other elements than those stored to */
} memory_read;

static bool see_memory(void *user, const qn_expr *x)
{
    memory_read *r = user;
    if (x->kind == QN_LOAD && x->u.load.base == r->store->u.store.base) {
        r->any = true;
        for (int k = 0; k < x->u.load.index.count; k++) {
            r->other = r->other || !qn_expr_equal(leaf_expand(r->lf, x->u.load.index.at[k]),
                                                  r->store->u.store.index.at[k]);
        }
    }
    return true;
}

/* The time after which the memory may be stored to: items of the same element may read what the
 * store replaces in their own group. */
static int after_memory_readers(lf_plan *p, const qn_stmt *store, const qn_axis *axes, int naxes,
                                qn_sym lane)
{
    leaf *lf = p->lf;
    int t = 0;
    for (int g = 0; g < p->steps.count; g++) {
        lf_step *st = &p->steps.at[g];
        bool same = leaf_same_key(st, axes, naxes, lane);
        for (int k = 0; k < st->items.count; k++) {
            lf_item *it = st->items.at[k];
            memory_read strict = {lf, store, false, false}, loose = strict;
            qn_expr *xs[4] = {it->a, it->b, it->x, it->init};
            for (int n = 0; n < 4; n++) {
                if (xs[n]) {
                    qn_visit(leaf_expand(lf, xs[n]), see_memory, n < 2 ? &strict : &loose);
                }
            }
            for (int n = 0; it->stmt && n < it->stmt->u.store.index.count; n++) {
                qn_visit(it->stmt->u.store.index.at[n], see_memory, &strict);
            }
            if (strict.any || loose.other || (loose.any && (!same || it->kind == LF_RED))) {
                t = leaf_later(t, 2 * g + 2);
            } else if (loose.any) {
                t = leaf_later(t, 2 * g + 1);
            }
        }
    }
    return t;
}

static void plan_store(lf_plan *p, qn_stmt *s)
{
    leaf *lf = p->lf;
    if (s->u.store.start) {
        leaf_refuse(lf, s->place, "an asynchronous store");
    }
    qn_stmt *st = shell_of(lf, s);
    int n = s->u.store.index.count;
    qn_expr **index = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    for (int k = 0; k < n; k++) {
        index[k] = leaf_expand(lf, leaf_flatten(p, s->u.store.index.at[k]));
    }
    st->u.store.index = qn_exprs_of(lf->ir, index, n);
    qn_expr *x = leaf_flatten(p, s->u.store.x);
    qn_type space = leaf_type(lf, qn_load(lf->ir, s->u.store.base, index, n, false, NULL));
    if (!leaf_is_small(lf, &space) && other_read(lf, x, st)) {
        qn_type t = leaf_type(lf, x);
        x = leaf_is_small(lf, &t) ? x : leaf_make_real(p, leaf_fresh(lf, "%t"), x, NULL);
    }
    st->u.store.x = x;
    lf_info *m = leaf_info(lf, s->u.store.base);
    int t = m && m->mblock == p->block ? leaf_later(m->stored, m->read) : 0;
    if (leaf_is_small(lf, &space)) {
        t = leaf_later(t, after_memory_readers(p, st, NULL, 0, NULL));
        t = leaf_later(t, leaf_ready(p, x, NULL, 0, NULL, false));
        for (int k = 0; k < n; k++) {
            t = leaf_later(t, leaf_ready(p, index[k], NULL, 0, NULL, false));
        }
        int g = leaf_put_straight(p, st, t);
        leaf_note_reads(p, x, 2 * g);
        leaf_note_store(p, s->u.store.base, 2 * g);
        return;
    }
    lf_item *it =
        leaf_new_item(lf, LF_STORE, NULL, &space, leaf_choose_lane(lf, &space, &x, 1, NULL, 0, st));
    it->x = x;
    it->stmt = st;
    it->type = space;
    t = leaf_later(t, after_memory_readers(p, st, it->axes, it->naxes, it->lane));
    t = leaf_later(t, leaf_ready(p, x, it->axes, it->naxes, it->lane, false));
    for (int k = 0; k < n; k++) {
        t = leaf_later(t, leaf_ready(p, index[k], it->axes, it->naxes, it->lane, true));
    }
    int g = leaf_put_item(p, it, t);
    leaf_note_store(p, s->u.store.base, 2 * g + 2);
    for (int k = 0; k < space.rank; k++) {
        lf_bounds b = leaf_store_bounds(lf, st, space.axes[k].name);
        leaf_consume(lf, &p->consumers, space.axes[k].name, space.axes[k].extent, &b);
    }
}

qn_block leaf_block(leaf *lf, const qn_block *body, const lf_target *targets, int ntargets)
{
    lf_plan *p = QN_NEW(lf->scratch, lf_plan);
    p->lf = lf;
    p->block = ++lf->blocks;
    int32_t trims = lf->trims.count;
    for (int k = 0; k < body->count; k++) {
        qn_stmt *s = body->at[k];
        switch (s->kind) {
        case QN_LET:
            plan_let(p, s);
            qn_facts_stmt(lf->facts, s);
            break;
        case QN_STORE:
            plan_store(p, s);
            break;
        case QN_BUF: {
            lf_buf b = {s->u.buf.name, s->u.buf.type, s, 0};
            QN_PUSH(lf->scratch, &lf->bufs, b);
            qn_facts_stmt(lf->facts, s);
            break;
        }
        case QN_FOR:
            plan_loop(p, body, k);
            break;
        case QN_IF:
            plan_if(p, body, k, targets, ntargets);
            break;
        case QN_YIELD:
            plan_yield(p, s, targets, ntargets);
            break;
        case QN_FLAG: {
            qn_stmt *flag = shell_of(lf, s);
            flag->u.flag.cond = leaf_flatten(p, s->u.flag.cond);
            qn_type t = leaf_type(lf, flag->u.flag.cond);
            if (!leaf_is_small(lf, &t)) {
                leaf_refuse(lf, s->place, "a flag over a tile");
            }
            leaf_put_straight(p, flag, leaf_ready(p, flag->u.flag.cond, NULL, 0, NULL, false));
            break;
        }
        case QN_PREFETCH:
            leaf_put_straight(p, shell_of(lf, s), 2 * p->steps.count);
            break;
        case QN_SYNC:
        case QN_LAUNCH:
            leaf_refuse(lf, s->place, "a statement that only other machines have");
        }
    }
    qn_block out = {0};
    leaf_trim(lf, &p->consumers, p->block, &out);
    leaf_give_buffers(p);
    for (int k = 0; k < p->steps.count; k++) {
        lf_step *st = &p->steps.at[k];
        for (int n = 0; n < st->pre.count; n++) {
            leaf_straight(lf, st->pre.at[n], &out);
        }
        if (st->nested) {
            leaf_straight(lf, st->nested, &out);
        } else {
            leaf_group(lf, st, &out);
        }
    }
    for (int n = 0; n < p->tail.count; n++) {
        leaf_straight(lf, p->tail.at[n], &out);
    }
    lf->trims.count = trims;
    for (int k = 0; k < p->own.count; k++) {
        p->own.at[k].freed = lf->blocks;
        QN_PUSH(lf->scratch, &lf->pool, p->own.at[k]);
    }
    return out;
}
