/* SPDX-License-Identifier: MIT
 *
 * An axis of a nest is walked in panels inside the sequential loops, so that what a trip of such a
 * loop reads is used by every panel while it is in cache.
 *
 *     strip i 32       i:128 becomes `for ip in 0..4`, ip * 32 + i:32
 *
 * needs  an axis of one constant extent, a multiple of the panel, that nothing contracts or renames
 * makes  loops over panels; what lives across them in task buffers with a panel axis first; integer
 *        values, such as positions, are computed anew in every panel
 * law    every element is computed once, from the same elements, in the same order along every
 *        other axis */
#include "passes/leaf_internal.h"

#include <string.h>

typedef struct strip {
    leaf *lf;
    qn_sym axis, panel; /* the axis, and the index of the panel loops */
    int64_t size, panels;
    qn_expr *count; /* panels with a row that a store keeps */
    qn_block bufs;
    qn_block run; /* statements of the panel loop being collected */
    int runs;     /* its number: lf_info.block of what is defined in it */
} strip;

/* ---------------------------------------------------------------- is it legal */

typedef struct survey {
    qn_sym axis;
    qn_extent extent;
    bool seen, mixed, contracted;
} survey;

static bool look(void *user, const qn_expr *x)
{
    survey *s = user;
    const qn_sym *over = x->kind == QN_AXOP ? x->u.axop.over : NULL;
    int n = x->kind == QN_AXOP ? x->u.axop.nover : 0;
    if (x->kind == QN_FOLD) {
        over = x->u.fold.over;
        n = x->u.fold.nover;
    }
    for (int k = 0; k < n; k++) {
        s->contracted = s->contracted || over[k] == s->axis;
    }
    for (int k = 0; x->kind == QN_AS && k < x->u.as.npairs; k++) {
        s->contracted =
            s->contracted || x->u.as.pairs[k].from == s->axis || x->u.as.pairs[k].to == s->axis;
    }
    if (x->kind == QN_IOTA && x->u.iota.name == s->axis) {
        s->mixed = s->mixed || (s->seen && !qn_extent_equal(s->extent, x->u.iota.extent));
        s->seen = true;
        s->extent = x->u.iota.extent;
    }
    return true;
}

/* ---------------------------------------------------------------- values across panels */

static bool has_axis(const strip *s, const qn_type *t)
{
    return leaf_type_has(t, s->axis);
}

static bool touches(strip *s, qn_expr *x)
{
    qn_type t = leaf_type(s->lf, x);
    return has_axis(s, &t);
}

/* The buffer of a value: panel axis, its other axes, the axis itself. */
static void place(strip *s, lf_info *v)
{
    leaf *lf = s->lf;
    if (v->buf) {
        return;
    }
    qn_axis axes[QN_MAX_AXES + 1];
    int n = 0;
    axes[n++] = (qn_axis){s->panel, qn_extent_n(s->panels)};
    for (int k = 0; k < v->type.rank; k++) {
        if (v->type.axes[k].name != s->axis) {
            axes[n++] = v->type.axes[k];
        }
    }
    axes[n++] = (qn_axis){s->axis, qn_extent_n(s->size)};
    if (n > QN_MAX_AXES) {
        leaf_refuse(lf, (qn_place){0}, "too many axes");
    }
    qn_buf name = qn_buf_of(lf->scratch);
    qn_buf_printf(&name, "%%p_%s", v->name + 1);
    v->buf = qn_names_fresh(lf->names, name.text);
    qn_type t = qn_type_of(lf->ir, v->type.dtype, axes, n);
    qn_block_push(lf->ir, &s->bufs, qn_buf_stmt(lf->ir, v->buf, t, QN_SPACE_TASK));
}

static int place_index(strip *s, const lf_info *v, qn_expr **index)
{
    leaf *lf = s->lf;
    int n = 0;
    index[n++] = qn_name(lf->ir, s->panel);
    for (int k = 0; k < v->type.rank; k++) {
        if (v->type.axes[k].name != s->axis) {
            index[n++] = qn_iota(lf->ir, v->type.axes[k].name, v->type.axes[k].extent);
        }
    }
    index[n++] = qn_iota(lf->ir, s->axis, qn_extent_n(s->size));
    return n;
}

static qn_expr *at_panel(strip *s, qn_expr *x);

static qn_expr *panel_one(void *user, qn_expr *x)
{
    strip *s = user;
    leaf *lf = s->lf;
    if (x->kind == QN_IOTA && x->u.iota.name == s->axis) {
        qn_expr *base =
            qn_op2(lf->ir, QN_OP_MUL, qn_name(lf->ir, s->panel), qn_int(lf->ir, s->size));
        return qn_op2(lf->ir, QN_OP_ADD, base, qn_iota(lf->ir, s->axis, qn_extent_n(s->size)));
    }
    if (x->kind != QN_NAME) {
        return x;
    }
    lf_info *v = leaf_info(lf, x->u.name);
    if (!v || v->kind != LF_VALUE || !has_axis(s, &v->type) || v->block == s->runs) {
        return x;
    }
    if (v->def) {
        return at_panel(s, v->def);
    }
    qn_expr *index[QN_MAX_AXES];
    int n = place_index(s, v, index);
    qn_expr *load = qn_load(lf->ir, v->buf, index, n, false, NULL);
    if (v->type.rank == 1) { /* read once a panel, before anything replaces it */
        qn_block_push(lf->ir, &s->run, qn_let(lf->ir, v->name, load));
        v->block = s->runs;
        return x;
    }
    return load;
}

static qn_expr *at_panel(strip *s, qn_expr *x)
{
    return qn_rewrite(s->lf->ir, x, panel_one, s);
}

static void store_panel(strip *s, const lf_info *v, qn_expr *x)
{
    qn_expr *index[QN_MAX_AXES];
    int n = place_index(s, v, index);
    qn_block_push(s->lf->ir, &s->run, qn_store(s->lf->ir, v->buf, index, n, x));
}

static void flush(strip *s, qn_block *out)
{
    leaf *lf = s->lf;
    if (s->run.count) {
        qn_stmt *loop = qn_for(lf->ir, s->panel, qn_int(lf->ir, 0), s->count, NULL);
        loop->u.loop.body = s->run;
        qn_block_push(lf->ir, out, loop);
    }
    s->run = (qn_block){0};
    s->runs++;
}

/* ---------------------------------------------------------------- statements */

static qn_block strip_block(strip *s, const qn_block *body, const lf_target *targets, int n);

static bool reads_changing(void *user, const qn_expr *x)
{
    const lf_info *v = x->kind == QN_LOAD ? leaf_info(user, x->u.load.base) : NULL;
    return v && v->mutable_;
}

static bool crosses(const qn_block *body, int at, qn_sym name)
{
    for (int k = at + 1; k < body->count; k++) {
        if (body->at[k]->kind == QN_FOR || body->at[k]->kind == QN_IF) {
            qn_block rest = leaf_rest(body, k);
            return leaf_block_mentions(&rest, name);
        }
    }
    return false;
}

static qn_stmt *copy_of(leaf *lf, const qn_stmt *s)
{
    qn_stmt *out = qn_stmt_new(lf->ir, s->kind, s->place);
    out->attrs = s->attrs;
    out->u = s->u;
    return out;
}

static void strip_let(strip *s, const qn_block *body, int at, qn_block *out)
{
    leaf *lf = s->lf;
    qn_stmt *st = body->at[at];
    bool changing = qn_contains(st->u.let.x, reads_changing, lf);
    lf_info *v = leaf_info(lf, st->u.let.names[0]);
    if (st->u.let.nnames != 1) {
        leaf_refuse(lf, st->place, "a statement with several results");
    }
    if (!has_axis(s, &v->type)) {
        if (changing) {
            flush(s, out);
        }
        qn_block_push(lf->ir, out, st);
        return;
    }
    if (!qn_dtype_is_float(v->type.dtype) && v->type.dtype != QN_BOOL && !changing) {
        v->def = st->u.let.x;
        if (v->uses < 2 || leaf_size_of(lf, v->def) < 50) {
            return;
        }
        v->def = NULL; /* too long to be computed at every use */
    }
    qn_expr *x = at_panel(s, st->u.let.x);
    if (crosses(body, at, v->name)) {
        place(s, v);
        store_panel(s, v, x);
        return;
    }
    qn_block_push(lf->ir, &s->run, qn_let(lf->ir, v->name, x));
    v->block = s->runs;
}

static void strip_store(strip *s, const qn_stmt *st, qn_block *out)
{
    leaf *lf = s->lf;
    bool touched = touches(s, st->u.store.x);
    qn_expr **index = QN_NEWN(lf->scratch, qn_expr *, st->u.store.index.count + 1);
    for (int k = 0; k < st->u.store.index.count; k++) {
        touched = touched || touches(s, st->u.store.index.at[k]);
    }
    qn_stmt *copy = copy_of(lf, st);
    if (!touched) {
        flush(s, out);
        qn_block_push(lf->ir, out, copy);
        return;
    }
    for (int k = 0; k < st->u.store.index.count; k++) {
        index[k] = at_panel(s, st->u.store.index.at[k]);
    }
    copy->u.store.index = qn_exprs_of(lf->ir, index, st->u.store.index.count);
    copy->u.store.x = at_panel(s, st->u.store.x);
    qn_block_push(lf->ir, &s->run, copy);
}

static void strip_loop(strip *s, const qn_block *body, int at, qn_block *out)
{
    leaf *lf = s->lf;
    qn_stmt *st = body->at[at], *copy = copy_of(lf, st);
    int n = st->u.loop.ncarries, kept = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_carry *carries = QN_NEWN(lf->ir->arena, qn_carry, n + 1);
    for (int k = 0; k < n; k++) {
        const qn_carry *c = &st->u.loop.carries[k];
        targets[k] = (lf_target){c->name, c->type};
        if (!has_axis(s, &c->type)) {
            carries[kept++] = *c;
            continue;
        }
        lf_info *v = leaf_info(lf, c->name);
        lf_info *from = c->init->kind == QN_NAME ? leaf_info(lf, c->init->u.name) : NULL;
        qn_block rest = leaf_rest(body, at + 1);
        if (from && from->buf && from->crosses && !leaf_block_mentions(&rest, from->name) &&
            !leaf_block_mentions(&st->u.loop.body, from->name) &&
            qn_type_equal(&from->type, &c->type)) {
            v->buf = from->buf; /* a carry of an earlier loop of this block, which ends here */
        } else {
            place(s, v);
            store_panel(s, v, at_panel(s, c->init));
        }
    }
    flush(s, out);
    copy->u.loop.carries = carries;
    copy->u.loop.ncarries = kept;
    copy->u.loop.body = strip_block(s, &st->u.loop.body, targets, n);
    s->runs++;
    for (int k = 0; k < n; k++) {
        leaf_info(lf, targets[k].name)->crosses = true;
    }
    qn_block_push(lf->ir, out, copy);
}

static qn_sym given_to(const qn_block *body, int at, qn_sym name, const lf_target *targets, int n)
{
    const qn_stmt *end = body->at[body->count - 1];
    for (int k = 0; end->kind == QN_YIELD && k < n && k < end->u.yield.count; k++) {
        const qn_expr *y = end->u.yield.at[k];
        if (y->kind == QN_NAME && y->u.name == name) {
            qn_block rest = leaf_rest(body, at + 1);
            return leaf_block_mentions(&rest, targets[k].name) ? NULL : targets[k].name;
        }
    }
    return NULL;
}

static void strip_if(strip *s, const qn_block *body, int at, const lf_target *outer, int nouter,
                     qn_block *out)
{
    leaf *lf = s->lf;
    qn_stmt *st = body->at[at], *copy = copy_of(lf, st);
    int n = st->u.branch.nnames, kept = 0;
    lf_target *targets = QN_NEWN(lf->scratch, lf_target, n + 1);
    qn_sym *names = QN_NEWN(lf->ir->arena, qn_sym, n + 1);
    flush(s, out);
    for (int k = 0; k < n; k++) {
        lf_info *v = leaf_info(lf, st->u.branch.names[k]);
        targets[k] = (lf_target){v->name, v->type};
        if (!has_axis(s, &v->type)) {
            names[kept++] = v->name;
            continue;
        }
        qn_sym to = v->uses == 1 ? given_to(body, at, v->name, outer, nouter) : NULL;
        const lf_info *c = to ? leaf_info(lf, to) : NULL;
        if (c && c->buf && qn_type_equal(&c->type, &v->type)) {
            v->buf = c->buf;
        } else {
            place(s, v);
        }
    }
    copy->u.branch.names = names;
    copy->u.branch.nnames = kept;
    copy->u.branch.then = strip_block(s, &st->u.branch.then, targets, n);
    copy->u.branch.other = strip_block(s, &st->u.branch.other, targets, n);
    qn_block_push(lf->ir, out, copy);
    s->runs++;
}

static bool loads_from(const qn_expr *x, qn_sym buf)
{
    return qn_mentions_name(x, buf);
}

static void strip_yield(strip *s, const qn_stmt *st, const lf_target *targets, int n, qn_block *out)
{
    leaf *lf = s->lf;
    qn_expr **kept = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    qn_expr **xs = QN_NEWN(lf->scratch, qn_expr *, n + 1);
    int nkept = 0;
    for (int k = 0; k < n; k++) {
        qn_expr *y = st->u.yield.at[k];
        if (!has_axis(s, &targets[k].type)) {
            kept[nkept++] = y;
            continue;
        }
        const lf_info *from = y->kind == QN_NAME ? leaf_info(lf, y->u.name) : NULL;
        if (from && from->buf && from->buf == leaf_info(lf, targets[k].name)->buf) {
            continue; /* already there */
        }
        xs[k] = at_panel(s, y);
    }
    for (int k = 0; k < n; k++) { /* all change at once */
        for (int m = 0; xs[k] && m < k; m++) {
            if (xs[m] && loads_from(xs[k], leaf_info(lf, targets[m].name)->buf)) {
                qn_sym name = leaf_fresh(lf, "%y");
                qn_block_push(lf->ir, &s->run, qn_let(lf->ir, name, xs[k]));
                xs[k] = qn_name(lf->ir, name);
                break;
            }
        }
    }
    for (int k = 0; k < n; k++) {
        if (xs[k]) {
            store_panel(s, leaf_info(lf, targets[k].name), xs[k]);
        }
    }
    flush(s, out);
    if (nkept) {
        qn_block_push(lf->ir, out, qn_yield(lf->ir, kept, nkept));
    }
}

static qn_block strip_block(strip *s, const qn_block *body, const lf_target *targets, int n)
{
    leaf *lf = s->lf;
    qn_block out = {0};
    s->runs++;
    for (int k = 0; k < body->count; k++) {
        qn_stmt *st = body->at[k];
        switch (st->kind) {
        case QN_LET:
            strip_let(s, body, k, &out);
            break;
        case QN_STORE:
            strip_store(s, st, &out);
            break;
        case QN_FOR:
            strip_loop(s, body, k, &out);
            break;
        case QN_IF:
            strip_if(s, body, k, targets, n, &out);
            break;
        case QN_YIELD:
            strip_yield(s, st, targets, n, &out);
            break;
        case QN_FLAG:
            if (touches(s, st->u.flag.cond)) {
                leaf_refuse(lf, st->place, "a flag over the axis");
            }
            qn_block_push(lf->ir, &out, st);
            break;
        case QN_BUF:
        case QN_PREFETCH:
            qn_block_push(lf->ir, &out, st);
            break;
        case QN_SYNC:
        case QN_LAUNCH:
            leaf_refuse(lf, st->place, "a statement that only other machines have");
        }
    }
    flush(s, &out);
    return out;
}

/* ---------------------------------------------------------------- a nest */

static qn_stmt *strip_nest(leaf *lf, const qn_stmt *launch, const qn_stmt *nest, qn_sym axis,
                           int64_t size)
{
    jmp_buf refuse;
    lf->refuse = &refuse;
    if (setjmp(refuse)) {
        return NULL;
    }
    survey seen = {.axis = axis};
    qn_block_visit(&nest->u.loop.body, look, &seen);
    leaf_enter_nest(lf, launch, nest);
    int64_t extent = seen.seen ? leaf_const(lf, seen.extent) : -1;
    if (!seen.seen || extent == size) {
        return NULL;
    }
    if (seen.contracted) {
        leaf_refuse(lf, nest->place, "%s is contracted", axis);
    }
    if (seen.mixed || size < 1 || extent < size || extent % size) {
        leaf_refuse(lf, nest->place, "panels of %lld do not divide axis %s", (long long)size, axis);
    }
    qn_stmt *copy = qn_stmt_copy(lf->ir, nest);
    lf->lanes[lf->nlanes++] = (lf_lane){.axis = axis, .extent = extent};
    leaf_unique(lf, copy);
    leaf_hoist(lf, copy);
    leaf_register(lf, copy);
    qn_buf panel = qn_buf_of(lf->scratch);
    qn_buf_printf(&panel, "%sp", axis);
    strip *s = QN_NEW(lf->scratch, strip);
    s->lf = lf;
    s->axis = axis;
    s->panel = qn_names_fresh(lf->names, panel.text);
    s->size = size;
    s->panels = extent / size;
    s->count = qn_int(lf->ir, s->panels);
    qn_block all = {0};
    qn_expr *end = leaf_axis_end(lf, copy, axis);
    if (end) { /* panels past the last row are not walked */
        qn_expr *n = qn_op2(lf->ir, QN_OP_ADD, end, qn_int(lf->ir, size - 1));
        n = qn_op2(lf->ir, QN_OP_FLOORDIV, n, qn_int(lf->ir, size));
        n = qn_op3(lf->ir, QN_OP_CLAMP, n, qn_int(lf->ir, 0), qn_int(lf->ir, s->panels));
        qn_buf count = qn_buf_of(lf->scratch);
        qn_buf_printf(&count, "%%%sn", panel.text);
        qn_sym name = qn_names_fresh(lf->names, count.text);
        qn_block_push(lf->ir, &all, qn_let(lf->ir, name, n));
        s->count = qn_name(lf->ir, name);
    }
    qn_block body = strip_block(s, &copy->u.loop.body, NULL, 0);
    qn_block_append(lf->ir, &all, &s->bufs);
    qn_block_append(lf->ir, &all, &body);
    copy->u.loop.body = all;
    return copy;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    for (int n = 0; n < k->body.count; n++) {
        qn_stmt *launch = k->body.at[n];
        for (int m = 0; launch->kind == QN_LAUNCH && m < launch->u.launch.count; m++) {
            for (int l = 0; l < cx->schedule->lines.count; l++) {
                const qn_sched_line *line = &cx->schedule->lines.at[l];
                const qn_stmt *nest = launch->u.launch.at[m];
                lf_walked walked = {0};
                leaf *lf = leaf_new(cx, f, k, nest, &walked);
                if (strcmp(line->key, "strip") != 0 || !line->subject ||
                    qn_attr_find(&nest->attrs, "leaf") ||
                    (line->nest && (!lf->nest || strcmp(line->nest, lf->nest) != 0))) {
                    continue;
                }
                int64_t size = qn_schedule_int(cx->schedule, lf->nest, "strip", line->subject, 0);
                qn_stmt *panels = strip_nest(lf, launch, nest, line->subject, size);
                if (panels) {
                    launch->u.launch.at[m] = panels;
                } else if (lf->why) {
                    qn_remark(cx, "W-REDUCED", nest->place, "%s", lf->why);
                }
            }
        }
    }
    return true;
}

const qn_pass qn_pass_strip = {
    .name = "strip",
    .doc = "an axis is walked in panels inside the sequential loops",
    .ready = NULL,
    .run = run,
};
