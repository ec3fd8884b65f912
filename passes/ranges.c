/* SPDX-License-Identifier: MIT
 *
 * ranges: from a mask's expression alone, a loop walks only the blocks that may keep an element,
 * and knows those in which every element is kept.
 *
 *     for j0 in 0..Nk step 64          =>    for j0 in 0..%j0_hi step 64 !full(0..%j0_f1)
 *       %keep = j0 + j:64 <= %p .. !mask
 *
 * needs  loops over blocks, `for x0 in lo..hi step s` with x0 + x:s in the body, and masks as lets
 * makes  bounds as scalar lets before the loop, !full facts on the grid of the loop, !mask on the
 *        value that decides. A mask that reads data gets per-block least and greatest values in a
 *        launch of its own, and an `if` around the body: W-DATADEP.
 * law    a trip that no longer runs has its mask false everywhere, and such a trip changes nothing
 *        (ranges_neutral.c). In a !full range every element of the mask is true, rows past the end
 *        included.
 *
 * The loop may be over any axis: rows inside a task of keys are the same as keys in a task of
 * rows. `ranges off` in the schedule leaves a nest as it is. */
#include "passes/ranges_in.h"
#include "passes/tools.h"

#include "ir/build.h"
#include "ir/walk.h"

#include <string.h>

enum { MAX_STEP = 1 << 20, MAX_LOOPS = 90 };

/* Least and greatest values of an expression over blocks of an axis, in call buffers. */
typedef struct summary {
    qn_expr *x; /* with $x for the position */
    int64_t size;
    const qn_lin *extent;
    qn_sym names[2];
    qn_type type;
    qn_sym index[QN_MAX_AXES]; /* par indices, before the block */
    int32_t nindex;
} summary;

typedef struct row_value { /* a reduction over the rows of the task, as a let before the loop */
    const qn_expr *x;
    qn_sym name;
} row_value;

typedef struct ranges {
    qn_pass_cx *cx;
    qn_ir *ir;
    qn_facts *f;
    qn_kernel_ir *kernel;
    qn_names *names;
    bool off; /* for the nest at hand */
    struct {
        qn_row *at;
        int32_t count, cap;
    } rows;
    struct {
        qn_iter *at; /* par indices that run over a whole dim */
        int32_t count, cap;
    } outer;
    struct {
        summary *at;
        int32_t count, cap;
    } summaries;
    qn_block launches; /* to be put before the launch at hand */
    /* the loop at hand */
    qn_box *box;
    qn_block pre;
    struct {
        row_value *at;
        int32_t count, cap;
    } row_values;
    bool reads_data;
} ranges;

static qn_sym fresh(ranges *r, qn_sym index, const char *suffix)
{
    qn_buf b = qn_buf_of(r->cx->scratch);
    qn_buf_printf(&b, "%%%s_%s", index, suffix);
    return qn_names_fresh(r->names, b.text);
}

/* ---------------------------------------------------------------- the axes of a loop */

typedef struct axis_search {
    qn_sym index;
    int64_t step;
    qn_sym found[4];
    int32_t count;
} axis_search;

static void operands(const qn_expr *x, const axis_search *s, bool *index, qn_sym *axis, int depth)
{
    if (x->kind == QN_OP && x->u.op.op == QN_OP_ADD && depth < 64) {
        operands(x->u.op.args.at[0], s, index, axis, depth + 1);
        operands(x->u.op.args.at[1], s, index, axis, depth + 1);
    } else if (x->kind == QN_NAME && x->u.name == s->index) {
        *index = true;
    } else if (x->kind == QN_IOTA && !x->u.iota.extent.dim && x->u.iota.extent.n == s->step) {
        *axis = x->u.iota.name;
    }
}

static bool find_axis(void *user, const qn_expr *x)
{
    axis_search *s = user;
    bool index = false;
    qn_sym axis = NULL;
    if (x->kind == QN_OP && x->u.op.op == QN_OP_ADD) {
        operands(x, s, &index, &axis, 0);
    }
    if (index && axis) {
        for (int32_t k = 0; k < s->count; k++) {
            if (s->found[k] == axis) {
                return true;
            }
        }
        if (s->count < 4) {
            s->found[s->count++] = axis;
        }
    }
    return true;
}

/* Axes that appear as index + axis:step. */
static axis_search axes_of(const qn_block *body, const qn_iter *it)
{
    axis_search s = {.index = it->name, .step = it->step ? 0 : 1};
    if (it->step && it->step->kind == QN_LIT) {
        s.step = it->step->u.lit.i;
    }
    if (s.step > 0) {
        qn_block_visit(body, find_axis, &s);
    }
    return s;
}

static bool reduces_axis(void *user, const qn_expr *x)
{
    qn_sym axis = *(qn_sym *)user;
    const qn_sym *over = x->kind == QN_AXOP ? x->u.axop.over : x->u.fold.over;
    int32_t n = x->kind == QN_AXOP ? x->u.axop.nover : x->kind == QN_FOLD ? x->u.fold.nover : 0;
    for (int32_t k = 0; k < n; k++) {
        if (over[k] == axis) {
            return true;
        }
    }
    for (int32_t k = 0; x->kind == QN_AS && k < x->u.as.npairs; k++) {
        if (x->u.as.pairs[k].from == axis || x->u.as.pairs[k].to == axis) {
            return true;
        }
    }
    return false;
}

typedef struct dead_search {
    const qn_facts *f;
    const qn_iter *it;
    qn_sym axis;
    int64_t size;
    qn_sym end;
    bool dead;
} dead_search;

static bool note_reduction(void *user, const qn_expr *x)
{
    dead_search *d = user;
    if (reduces_axis(&d->axis, x)) {
        d->dead = false;
    }
    return d->dead;
}

static bool depends(void *user, const qn_expr *x)
{
    const dead_search *d = user;
    return (x->kind == QN_IOTA && x->u.iota.name == d->axis) ||
           (x->kind == QN_NAME && x->u.name[0] == '%');
}

static void note_store(void *user, qn_stmt *s)
{
    dead_search *d = user;
    if (s->kind != QN_STORE || !d->dead) {
        return;
    }
    const qn_type *t = qn_facts_memory(d->f, s->u.store.base);
    for (int32_t k = 0; t && k < s->u.store.index.count && k < t->rank; k++) {
        const qn_expr *x = s->u.store.index.at[k];
        if (t->axes[k].extent.dim == d->end && x->kind == QN_OP && x->u.op.op == QN_OP_ADD &&
            x->u.op.args.at[0]->kind == QN_NAME && x->u.op.args.at[0]->u.name == d->it->name &&
            x->u.op.args.at[1]->kind == QN_IOTA && x->u.op.args.at[1]->u.iota.name == d->axis &&
            x->u.op.args.at[1]->u.iota.extent.n == d->size) {
            return;
        }
    }
    for (int32_t k = 0; k < s->u.store.index.count; k++) {
        if (qn_contains(s->u.store.index.at[k], depends, d)) {
            d->dead = false;
        }
    }
}

/* Elements past the end reach no memory: they are never reduced over, and stored only under their
 * own index, in a dimension that ends there. */
static bool past_end_is_dead(ranges *r, const qn_block *body, const qn_iter *it, qn_sym axis,
                             int64_t size)
{
    dead_search d = {r->f, it, axis, size, it->pieces[0].hi->u.name, true};
    qn_block_visit(body, note_reduction, &d);
    qn_block_stmts(body, note_store, &d);
    return d.dead;
}

static void add_rows(ranges *r, const qn_stmt *loop)
{
    for (int32_t k = 0; k < loop->u.loop.niters; k++) {
        const qn_iter *it = &loop->u.loop.iters[k];
        axis_search s = axes_of(&loop->u.loop.body, it);
        bool plain = it->npieces == 1 && !it->pieces[0].list;
        bool whole = plain && it->pieces[0].lo->kind == QN_LIT && it->pieces[0].lo->u.lit.i == 0 &&
                     it->pieces[0].hi->kind == QN_NAME && it->pieces[0].hi->u.name[0] != '%';
        if (loop->u.loop.par && whole && !it->step) {
            QN_PUSH(r->cx->scratch, &r->outer, *it);
        }
        for (int32_t n = 0; plain && n < s.count && r->rows.count < MAX_LOOPS; n++) {
            qn_row row = {.axis = s.found[n], .index = it->name, .size = s.step};
            row.dead = whole && past_end_is_dead(r, &loop->u.loop.body, it, row.axis, row.size);
            row.end = row.dead ? qn_extent_dim(it->pieces[0].hi->u.name) : qn_extent_n(0);
            QN_PUSH(r->cx->scratch, &r->rows, row);
        }
    }
}

/* ---------------------------------------------------------------- data */

typedef struct data_look {
    const ranges *r;
    bool load;            /* reads memory */
    bool loop;            /* mentions the position */
    bool rows[MAX_LOOPS]; /* mentions the variable of a row */
    bool any_row;
    bool alien; /* mentions something else that varies, or is not visible before the launch */
    bool inner; /* .. or is not visible before the loop */
    bool par[QN_MAX_AXES];
} data_look;

static void look_name(data_look *l, qn_sym name)
{
    const ranges *r = l->r;
    if (name == r->box->x->name) {
        l->loop = true;
        return;
    }
    for (int32_t k = 0; k < r->rows.count; k++) {
        if (r->box->rows[k].var->name == name) {
            l->rows[k] = l->any_row = l->alien = true;
            return;
        }
    }
    for (int32_t k = 0; k < r->outer.count && k < QN_MAX_AXES; k++) {
        if (r->outer.at[k].name == name) {
            l->par[k] = true;
            return;
        }
    }
    const qn_fact_name *n = qn_fact_find(r->f, name);
    l->inner |= !n || n->tile;
    l->alien |= !n || n->tile || n->index || name[0] == '%';
}

static bool look_data(void *user, const qn_expr *x)
{
    data_look *l = user;
    if (x->kind == QN_LOAD) {
        l->load = true;
    } else if (x->kind == QN_NAME) {
        look_name(l, x->u.name);
    } else if (x->kind == QN_IOTA || x->kind == QN_AXOP || x->kind == QN_AS) {
        l->alien = l->inner = true;
    }
    return true;
}

static int64_t greatest(qn_dtype d)
{
    switch ((int)d) {
    case QN_U8:
        return 255;
    case QN_I8:
        return 127;
    case QN_I16:
        return 32767;
    case QN_I32:
        return 2147483647;
    default:
        return (int64_t)1 << 60;
    }
}

static int64_t least(qn_dtype d)
{
    return d == QN_U8 ? 0 : -greatest(d);
}

static qn_expr *place(ranges *r, qn_sym index, qn_sym axis, int64_t size)
{
    return qn_op2(r->ir, QN_OP_ADD, qn_name(r->ir, index), qn_iota(r->ir, axis, qn_extent_n(size)));
}

/* The value of a term, in as narrow a type as it has. */
static qn_expr *term_value(ranges *r, const qn_term *t, qn_dtype *d)
{
    qn_expr *x = t->x;
    *d = QN_I64;
    if (t->kind == QN_TERM_FLAG) {
        *d = QN_I32;
        return qn_cast(r->ir, QN_I32, x);
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_CAST) {
        qn_dtype from = qn_facts_dtype(r->f, x->u.op.args.at[0]);
        if (qn_dtype_is_int(from)) {
            *d = from;
            return x->u.op.args.at[0];
        }
    }
    return x;
}

/* reduce.min or reduce.max of x over the axes, as an i64. */
static qn_expr *reduced(ranges *r, bool max, qn_expr *x, qn_dtype d, const qn_sym *over, int n)
{
    qn_expr *y = qn_axop1(r->ir, max ? QN_AX_REDUCE_MAX : QN_AX_REDUCE_MIN, x, over, n);
    return d == QN_I64 ? y : qn_cast(r->ir, QN_I64, y);
}

static void know_row_value(ranges *r, qn_sym name)
{
    qn_facts_unknown(r->f, name, QN_I64, false);
    qn_fact_find(r->f, name)->fixed = true;
}

/* A value of the task's rows alone: reduced once, before the loop. */
static qn_interval row_bounds(ranges *r, const qn_term *t, const data_look *l, bool clip)
{
    qn_interval none = {NULL, NULL};
    qn_ir *ir = r->ir;
    qn_binding map[MAX_LOOPS];
    qn_sym over[MAX_LOOPS];
    int n = 0;
    qn_dtype d;
    qn_expr *x = term_value(r, t, &d);
    if (!l->any_row || l->inner) {
        return none;
    }
    for (int32_t k = 0; k < r->rows.count; k++) {
        const qn_row *row = &r->box->rows[k];
        if (l->rows[k]) {
            map[n] = (qn_binding){row->var->name, place(r, row->index, row->axis, row->size)};
            over[n++] = row->axis;
        }
    }
    x = qn_substitute(ir, x, map, n);
    const qn_lin *ends[2];
    for (int max = 0; max < 2; max++) {
        qn_expr *y = x;
        for (int32_t k = 0; k < r->rows.count; k++) {
            const qn_row *row = &r->box->rows[k];
            if (l->rows[k] && clip && row->dead) {
                qn_expr *in = qn_op2(ir, QN_OP_LT, place(r, row->index, row->axis, row->size),
                                     qn_extent_expr(ir, row->end));
                y = qn_op3(ir, QN_OP_SELECT, in, y, qn_int(ir, max ? least(d) : greatest(d)));
            }
        }
        y = reduced(r, max, y, d, over, n);
        qn_sym name = NULL;
        for (int32_t k = 0; k < r->row_values.count && !name; k++) {
            name = qn_expr_equal(r->row_values.at[k].x, y) ? r->row_values.at[k].name : NULL;
        }
        if (!name) {
            name = fresh(r, r->box->index, max ? "most" : "least");
            row_value v = {y, name};
            QN_PUSH(r->cx->scratch, &r->row_values, v);
            qn_block_push(ir, &r->pre, qn_let(ir, name, y));
        }
        if (!qn_fact_find(r->f, name)) {
            know_row_value(r, name);
        }
        qn_term s = {.kind = QN_TERM_NAME, .name = name, .size = 1};
        ends[max] = qn_lin_term(r->f, qn_term_make(r->f, s));
    }
    qn_facts_order(r->f, ends[0], ends[1]); /* a task has at least one row */
    return (qn_interval){ends[0], ends[1]};
}

static bool only_dims(const ranges *r, const qn_lin *l)
{
    for (int32_t p = 0; p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        const qn_fact_name *n = t->kind == QN_TERM_NAME ? qn_fact_find(r->f, t->name) : NULL;
        bool dim = n && n->dim;
        bool parts = t->kind == QN_TERM_DIV && only_dims(r, t->a) && only_dims(r, t->b);
        if (!dim && !parts) {
            return false;
        }
    }
    return true;
}

/* The launch that fills the summary's buffers. */
static void make_summary(ranges *r, summary *s, qn_expr *x, qn_dtype d, const data_look *l)
{
    qn_ir *ir = r->ir;
    qn_facts *f = r->f;
    qn_box *b = r->box;
    qn_dim dim = {.name = qn_names_fresh(r->names, "T")};
    dim.value = qn_lin_expr(
        f, qn_lin_div(f, qn_lin_plus(f, b->hi, b->size - 1), qn_lin_int(f, b->size)), false);
    QN_PUSH(ir->arena, &r->kernel->dims, dim);
    qn_sym block = qn_names_fresh(r->names, "blk");
    qn_axis axes[QN_MAX_AXES];
    qn_iter *iters = QN_NEWN(ir->arena, qn_iter, s->nindex + 1);
    qn_expr *at[QN_MAX_AXES];
    int32_t n = 0;
    for (int32_t k = 0; k < r->outer.count && k < QN_MAX_AXES; k++) {
        if (l->par[k]) {
            qn_sym whole = r->outer.at[k].pieces[0].hi->u.name;
            axes[n] = (qn_axis){r->outer.at[k].name, qn_extent_dim(whole)};
            at[n] = qn_name(ir, r->outer.at[k].name);
            iters[n++] = r->outer.at[k];
        }
    }
    axes[n] = (qn_axis){block, qn_extent_dim(dim.name)};
    at[n] = qn_name(ir, block);
    qn_stmt *loop = qn_for(ir, block, qn_int(ir, 0), qn_name(ir, dim.name), NULL);
    iters[n++] = loop->u.loop.iters[0];
    s->type = qn_type_of(ir, QN_I64, axes, n);
    loop->u.loop.par = true;
    loop->u.loop.iters = iters;
    loop->u.loop.niters = n;
    qn_expr *where =
        qn_op2(ir, QN_OP_ADD, qn_op2(ir, QN_OP_MUL, qn_name(ir, block), qn_int(ir, b->size)),
               qn_iota(ir, b->axis, qn_extent_n(b->size)));
    qn_binding map = {b->x->name, where};
    x = qn_substitute(ir, x, &map, 1);
    qn_expr *in = qn_op2(ir, QN_OP_LT, where, qn_lin_expr(f, b->hi, false));
    for (int max = 0; max < 2; max++) {
        s->names[max] = fresh(r, b->axis, max ? "max" : "min");
        qn_expr *y = qn_op3(ir, QN_OP_SELECT, in, x, qn_int(ir, max ? least(d) : greatest(d)));
        qn_block_push(ir, &r->launches, qn_buf_stmt(ir, s->names[max], s->type, QN_SPACE_CALL));
        qn_block_push(ir, &loop->u.loop.body,
                      qn_store(ir, s->names[max], at, n, reduced(r, max, y, d, &b->axis, 1)));
    }
    qn_stmt *launch = qn_stmt_new(ir, QN_LAUNCH, loop->place);
    qn_block_push(ir, &launch->u.launch, loop);
    qn_block_push(ir, &r->launches, launch);
}

/* Makes the summary's buffers known memory in the scope at hand. */
static void know_summary(ranges *r, const summary *s)
{
    for (int k = 0; k < 2; k++) {
        if (!qn_facts_memory(r->f, s->names[k])) {
            qn_stmt *buf = qn_buf_stmt(r->ir, s->names[k], s->type, QN_SPACE_CALL);
            qn_facts_stmt(r->f, buf);
            qn_fact_find(r->f, s->names[k])->input = true;
        }
    }
}

/* A value of the positions alone that reads memory: least and greatest of each block. */
static qn_interval block_bounds(ranges *r, const qn_term *t, const data_look *l)
{
    qn_interval none = {NULL, NULL};
    qn_box *b = r->box;
    qn_ir *ir = r->ir;
    if (!l->load) {
        return none;
    }
    r->reads_data = true;
    if (!b->at_hand || l->alien || b->lo->n != 0 || b->lo->k != 0 || !only_dims(r, b->hi)) {
        return none;
    }
    qn_dtype d;
    qn_expr *x = term_value(r, t, &d);
    summary *s = NULL;
    for (int32_t k = 0; k < r->summaries.count && !s; k++) {
        summary *q = &r->summaries.at[k];
        s = qn_expr_equal(q->x, x) && q->size == b->size && q->extent == b->hi ? q : NULL;
    }
    if (!s) {
        summary fresh_one = {.x = x, .size = b->size, .extent = b->hi};
        for (int32_t k = 0; k < r->outer.count && k < QN_MAX_AXES; k++) {
            if (l->par[k]) {
                fresh_one.index[fresh_one.nindex++] = r->outer.at[k].name;
            }
        }
        if (fresh_one.nindex + 1 >= QN_MAX_AXES) {
            return none;
        }
        make_summary(r, &fresh_one, x, d, l);
        QN_PUSH(r->cx->scratch, &r->summaries, fresh_one);
        s = &r->summaries.at[r->summaries.count - 1];
    }
    know_summary(r, s);
    const qn_lin *ends[2];
    for (int k = 0; k < 2; k++) {
        qn_expr *at[QN_MAX_AXES];
        for (int32_t n = 0; n < s->nindex; n++) {
            at[n] = qn_name(ir, s->index[n]);
        }
        at[s->nindex] = qn_op2(ir, QN_OP_FLOORDIV, qn_name(ir, b->index), qn_int(ir, b->size));
        ends[k] = qn_lin_of(r->f, qn_load(ir, s->names[k], at, s->nindex + 1, false, NULL));
    }
    qn_facts_order(r->f, ends[0], ends[1]); /* a block has at least one position */
    return (qn_interval){ends[0], ends[1]};
}

static qn_interval data_bounds(void *user, const qn_term *t, bool clip)
{
    ranges *r = user;
    qn_interval none = {NULL, NULL};
    data_look l = {.r = r};
    if (t->kind != QN_TERM_OPAQUE && t->kind != QN_TERM_FLAG) {
        return none;
    }
    qn_visit(t->x, look_data, &l);
    if (qn_box_varies(r->box, t)) {
        return block_bounds(r, t, &l);
    }
    return row_bounds(r, t, &l, clip);
}

/* ---------------------------------------------------------------- printing bounds */

typedef struct term_use {
    const qn_term *term;
    int32_t uses;
} term_use;

typedef struct uses {
    ranges *r;
    term_use *at;
    int32_t count, cap;
} uses;

static void count_lin(uses *u, const qn_lin *l);

static bool count_cond(void *user, const qn_expr *x)
{
    uses *u = user;
    if (x->kind == QN_OP && qn_op_is_compare(x->u.op.op)) {
        for (int32_t k = 0; k < 2; k++) {
            const qn_lin *l = qn_lin_of(u->r->f, x->u.op.args.at[k]);
            if (l) {
                count_lin(u, l);
            }
        }
        return false;
    }
    return true;
}

static void count_term(uses *u, const qn_term *t)
{
    for (int32_t k = 0; k < u->count; k++) {
        if (u->at[k].term == t) {
            u->at[k].uses++;
            return;
        }
    }
    term_use use = {t, 1};
    QN_PUSH(u->r->cx->scratch, u, use);
    if (t->kind == QN_TERM_SELECT) {
        qn_visit(t->x, count_cond, u);
    }
    if (t->a) {
        count_lin(u, t->a);
    }
    if (t->b) {
        count_lin(u, t->b);
    }
}

static void count_lin(uses *u, const qn_lin *l)
{
    for (int32_t p = 0; p < l->n; p++) {
        if (l->at[p].term->size > 2) {
            count_term(u, l->at[p].term);
        }
    }
}

static void define_let(ranges *r, qn_sym name, const qn_lin *l)
{
    qn_block_push(r->ir, &r->pre, qn_let(r->ir, name, qn_lin_expr(r->f, l, true)));
    qn_facts_unknown(r->f, name, QN_I64, false);
    qn_fact_find(r->f, name)->value = l;
}

/* Parts that occur twice become lets of their own, inner ones first: a term is older than one it is
 * part of. */
static void name_shared(ranges *r, const qn_lin *const *roots, int n, qn_sym index)
{
    uses u = {.r = r};
    for (int k = 0; k < n; k++) {
        count_lin(&u, roots[k]);
    }
    for (int32_t last = -1;;) {
        const term_use *next = NULL;
        for (int32_t k = 0; k < u.count; k++) {
            if (u.at[k].term->id > last && (!next || u.at[k].term->id < next->term->id)) {
                next = &u.at[k];
            }
        }
        if (!next) {
            return;
        }
        last = next->term->id;
        const qn_lin *l = qn_lin_term(r->f, next->term);
        qn_expr *x = qn_lin_expr(r->f, l, true);
        if (next->uses > 1 && x->kind != QN_NAME) {
            define_let(r, fresh(r, index, "t"), l);
        }
    }
}

/* The form as a literal, a name, or a let before the loop. */
static qn_expr *bound(ranges *r, const qn_lin *l, qn_sym index, const char *suffix)
{
    qn_expr *x = qn_lin_expr(r->f, l, true);
    if (l->n == 0 || x->kind == QN_NAME) {
        return x;
    }
    qn_sym name = fresh(r, index, suffix);
    define_let(r, name, l);
    return qn_name(r->ir, name);
}

/* ---------------------------------------------------------------- one loop */

/* Rounding to the grid of a loop from `base` with step s. */
typedef struct grid {
    qn_facts *f;
    const qn_lin *base;
    int64_t step;
} grid;

static bool on_grid(const grid *g, const qn_lin *l)
{
    const qn_lin *d = qn_lin_sub(g->f, l, g->base);
    return d && qn_lin_factor(g->f, d) % g->step == 0;
}

static const qn_lin *down(const grid *g, const qn_lin *l)
{
    const qn_lin *n = qn_lin_div(g->f, qn_lin_sub(g->f, l, g->base), qn_lin_int(g->f, g->step));
    return qn_lin_add(g->f, g->base, qn_lin_scale(g->f, n, g->step));
}

static const qn_lin *up(const grid *g, const qn_lin *l)
{
    return on_grid(g, l) ? l : down(g, qn_lin_plus(g->f, l, g->step - 1));
}

typedef struct result {
    qn_interval pieces[3], full[3];
    int npieces, nfull;
} result;

/* The pieces on the grid: each starts at or below its first position, and not inside the one
 * before; an empty one stays empty. False: too large to say. */
static bool round_pieces(const grid *g, qn_intervals may, qn_intervals must, result *out)
{
    qn_facts *f = g->f;
    const qn_lin *end = NULL;
    for (int32_t k = 0; k < may.count; k++) {
        const qn_lin *a = may.at[k].lo, *b = may.at[k].hi;
        const qn_lin *first = on_grid(g, a) ? a : qn_lin_less(f, a, b, down(g, a), b);
        first = end ? qn_lin_max(f, first, end) : first;
        if (!first) {
            return false;
        }
        out->pieces[out->npieces++] = (qn_interval){first, b};
        if (k + 1 < may.count) {
            const qn_lin *past = qn_lin_less(f, first, b, up(g, b), g->base);
            end = end ? qn_lin_max(f, end, past) : past;
            if (!end) {
                return false;
            }
        }
    }
    for (int32_t k = 0; k < must.count; k++) {
        const qn_lin *a = up(g, must.at[k].lo), *b = must.at[k].hi;
        b = qn_lin_max(f, a, on_grid(g, b) ? b : down(g, b));
        if (a && b && !qn_prove_le(f, b, a)) {
            out->full[out->nfull++] = (qn_interval){a, b};
        }
    }
    return true;
}

/* What holds but for the data may reach further than what is walked. */
static void clip_full(const grid *g, result *out)
{
    qn_facts *f = g->f;
    int kept = 0;
    for (int k = 0; k < out->nfull && out->npieces == 1; k++) {
        qn_interval w = out->pieces[0], *full = &out->full[k];
        const qn_lin *a = qn_lin_max(f, full->lo, w.lo);
        const qn_lin *b = qn_lin_min(f, full->hi, up(g, w.hi));
        b = qn_lin_max(f, a, b);
        if (a && b && on_grid(g, a)) {
            out->full[kept++] = (qn_interval){a, b};
        }
    }
    out->nfull = kept;
}

/* Enters the body's values: phase one knows nothing of the index, so that what is solved holds
 * before the loop; at hand it has its bounds. */
static void enter_body(ranges *r, qn_stmt *loop, bool at_hand)
{
    qn_facts *f = r->f;
    const qn_iter *it = &loop->u.loop.iters[0];
    if (at_hand) {
        qn_facts_iter(f, it);
    } else {
        qn_facts_unknown(f, it->name, QN_I64, false);
        qn_fact_find(f, it->name)->index = true;
    }
    for (int32_t k = 0; k < loop->u.loop.ncarries; k++) {
        const qn_carry *c = &loop->u.loop.carries[k];
        qn_facts_unknown(f, c->name, c->type.dtype, c->type.rank > 0);
    }
    for (int32_t k = 0; k < loop->u.loop.body.count; k++) {
        qn_facts_stmt(f, loop->u.loop.body.at[k]);
    }
}

/* The last bool of the body with which a trip may be left out. */
static qn_stmt *find_mask(ranges *r, qn_stmt *loop, bool *candidates)
{
    qn_block *b = &loop->u.loop.body;
    *candidates = false;
    for (int32_t k = b->count - 1; k >= 0; k--) {
        qn_stmt *s = b->at[k];
        if (s->kind == QN_LET && s->u.let.nnames == 1 &&
            qn_fact_find(r->f, s->u.let.names[0])->dtype == QN_BOOL) {
            *candidates = true;
            if (qn_loop_is_neutral(r->cx->scratch, loop, s->u.let.names[0])) {
                return s;
            }
        }
    }
    return NULL;
}

static bool can_bound(const qn_stmt *loop)
{
    const qn_iter *it = &loop->u.loop.iters[0];
    if (loop->u.loop.par || loop->u.loop.niters != 1 || it->npieces != 1 || it->pieces[0].list ||
        it->end || qn_attr_find(&loop->attrs, "full")) {
        return false;
    }
    /* ends that are values were bounded before */
    const qn_expr *lo = it->pieces[0].lo, *hi = it->pieces[0].hi;
    return !(lo->kind == QN_NAME && lo->u.name[0] == '%') &&
           !(hi->kind == QN_NAME && hi->u.name[0] == '%');
}

static void mark_mask(ranges *r, qn_stmt *loop, const qn_stmt *mask)
{
    for (int32_t k = 0; k < loop->u.loop.body.count; k++) {
        qn_stmt *s = loop->u.loop.body.at[k];
        if (s->kind == QN_LET) {
            qn_attr_remove(&s->attrs, "mask");
            if (s == mask) {
                qn_attr_add(r->ir, &s->attrs, "mask", NULL, 0);
            }
        }
    }
}

/* ---------------------------------------------------------------- a mask in two parts */

typedef struct parts { /* of a conjunction; NULL: there is none */
    qn_expr *data;     /* reads memory at the loop's positions */
    qn_expr *plain;    /* the rest */
} parts;

static bool reads_position(void *user, const qn_expr *x)
{
    const qn_box *b = user;
    return x->kind == QN_LOAD && (qn_mentions_axis(x, b->axis) || qn_mentions_name(x, b->index));
}

static void split_mask(ranges *r, qn_expr *e, parts *p, int depth)
{
    if (e->kind == QN_OP && e->u.op.op == QN_OP_AND && depth < 40) {
        split_mask(r, e->u.op.args.at[0], p, depth + 1);
        split_mask(r, e->u.op.args.at[1], p, depth + 1);
        return;
    }
    qn_expr *x = qn_facts_inline(r->f, e);
    bool data = !x || qn_contains(x, reads_position, r->box);
    qn_expr *let = e->kind == QN_NAME && data ? qn_facts_value(r->f, e->u.name) : NULL;
    if (let && depth < 40) {
        split_mask(r, let, p, depth + 1);
        return;
    }
    qn_expr **to = data ? &p->data : &p->plain;
    *to = *to ? qn_op2(r->ir, QN_OP_AND, *to, e) : e;
}

/* %keep = data and plain becomes %in = plain !mask, %keep = data and %in: where plain is known to
 * hold, the data alone decides, and the ends of the memory are out of the way. */
static void separate(ranges *r, qn_stmt *loop, qn_stmt *mask, const parts *p)
{
    qn_ir *ir = r->ir;
    qn_sym name = fresh(r, loop->u.loop.iters[0].name, "in");
    qn_stmt *let = qn_let(ir, name, p->plain);
    qn_attr_add(ir, &let->attrs, "mask", NULL, 0);
    qn_attr_remove(&mask->attrs, "mask");
    mask->u.let.x = qn_op2(ir, QN_OP_AND, p->data, qn_name(ir, name));
    qn_block body = {0};
    for (int32_t k = 0; k < loop->u.loop.body.count; k++) {
        if (loop->u.loop.body.at[k] == mask) {
            qn_block_push(ir, &body, let);
        }
        qn_block_push(ir, &body, loop->u.loop.body.at[k]);
    }
    loop->u.loop.body = body;
}

/* The body becomes: if the blocks' values may meet, the body, else the carries as they are. */
static void skip_by_data(ranges *r, qn_stmt *loop, qn_expr *cond)
{
    qn_ir *ir = r->ir;
    int32_t n = loop->u.loop.ncarries;
    qn_stmt *s = qn_stmt_new(ir, QN_IF, loop->place);
    s->u.branch.cond = cond;
    s->u.branch.then = loop->u.loop.body;
    qn_sym *names = QN_NEWN(ir->arena, qn_sym, n ? n : 1);
    qn_expr **old = QN_NEWN(ir->arena, qn_expr *, n ? n : 1);
    qn_expr **now = QN_NEWN(ir->arena, qn_expr *, n ? n : 1);
    for (int32_t k = 0; k < n; k++) {
        names[k] = qn_names_fresh(r->names, loop->u.loop.carries[k].name);
        old[k] = qn_name(ir, loop->u.loop.carries[k].name);
        now[k] = qn_name(ir, names[k]);
    }
    s->u.branch.names = names;
    s->u.branch.nnames = n;
    loop->u.loop.body = (qn_block){0};
    qn_block_push(ir, &loop->u.loop.body, s);
    if (n > 0) {
        s->u.branch.has_else = true;
        qn_block_push(ir, &s->u.branch.other, qn_yield(ir, old, n));
        qn_block_push(ir, &loop->u.loop.body, qn_yield(ir, now, n));
    }
}

static void set_ranges(ranges *r, qn_stmt *loop, const result *res)
{
    qn_ir *ir = r->ir;
    qn_iter *it = QN_NEW(ir->arena, qn_iter);
    *it = loop->u.loop.iters[0];
    const qn_lin *roots[12];
    int n = 0;
    for (int k = 0; k < res->npieces; k++) {
        roots[n++] = res->pieces[k].lo;
        roots[n++] = res->pieces[k].hi;
    }
    for (int k = 0; k < res->nfull; k++) {
        roots[n++] = res->full[k].lo;
        roots[n++] = res->full[k].hi;
    }
    name_shared(r, roots, n, it->name);
    int count = res->npieces > 0 ? res->npieces : 1;
    qn_piece *pieces = QN_NEWN(ir->arena, qn_piece, count);
    pieces[0].lo = pieces[0].hi = it->pieces[0].lo; /* nothing is ever kept */
    for (int k = 0; k < res->npieces; k++) {
        pieces[k].lo = bound(r, res->pieces[k].lo, it->name, "lo");
        pieces[k].hi = bound(r, res->pieces[k].hi, it->name, "hi");
    }
    it->pieces = pieces;
    it->npieces = count;
    loop->u.loop.iters = it;
    for (int k = 0; k < res->nfull; k++) {
        qn_attr_arg arg = {bound(r, res->full[k].lo, it->name, "f0"),
                           bound(r, res->full[k].hi, it->name, "f1")};
        qn_attr_add(ir, &loop->attrs, "full", &arg, 1);
    }
}

/* Row values that no bound came to mention go. */
static void drop_unused(ranges *r, const qn_stmt *loop)
{
    for (int32_t k = r->pre.count - 1; k >= 0; k--) {
        const qn_stmt *s = r->pre.at[k];
        bool used = qn_stmt_mentions(loop, s->u.let.names[0]);
        for (int32_t n = k + 1; n < r->pre.count && !used; n++) {
            used = qn_stmt_mentions(r->pre.at[n], s->u.let.names[0]);
        }
        if (!used) {
            memmove(r->pre.at + k, r->pre.at + k + 1,
                    sizeof *r->pre.at * (size_t)(r->pre.count - k - 1));
            r->pre.count--;
        }
    }
}

/* Bounds one loop; what must stand before it goes to r->pre. */
static void bound_loop(ranges *r, qn_stmt *loop)
{
    qn_facts *f = r->f;
    const qn_iter *it = &loop->u.loop.iters[0];
    axis_search axes = axes_of(&loop->u.loop.body, it);
    qn_box box = {.f = f, .ir = r->ir, .arena = r->cx->scratch, .index = it->name};
    box.lo = qn_lin_of(f, it->pieces[0].lo);
    box.hi = qn_lin_of(f, it->pieces[0].hi);
    if (axes.count != 1 || axes.step > MAX_STEP || !box.lo || !box.hi) {
        return;
    }
    box.axis = axes.found[0];
    box.size = axes.step;
    box.rows = r->rows.at;
    box.nrows = r->rows.count;
    box.outside = f->names.count;
    box.data = data_bounds;
    box.user = r;
    r->box = &box;
    r->row_values.count = 0;
    r->reads_data = false;
    result res = {0};
    parts p = {0};
    bool candidates;
    qn_facts_push(f);
    enter_body(r, loop, false);
    qn_stmt *mask = find_mask(r, loop, &candidates);
    if (mask) {
        const qn_expr *e = mask->u.let.x;
        grid g = {f, box.lo, box.size};
        qn_box_open(&box);
        qn_intervals may = qn_box_may(&box, e, true), must = {0};
        if (r->reads_data) {
            split_mask(r, mask->u.let.x, &p, 0);
        }
        if (!r->reads_data || (p.data && p.plain)) {
            must = qn_box_must(&box, p.plain ? p.plain : e);
        }
        bool known = round_pieces(&g, may, must, &res);
        if (known && p.data) {
            clip_full(&g, &res);
        }
        if (!known) {
            res = (result){.pieces = {{box.lo, box.hi}}, .npieces = 1};
        }
    }
    qn_facts_pop(f);
    if (!mask) {
        if (candidates) {
            qn_remark(r->cx, "W-NOMASK", loop->place, "loop over %s", it->name);
        }
        return;
    }
    for (int32_t k = 0; k < r->row_values.count; k++) {
        know_row_value(r, r->row_values.at[k].name);
    }
    mark_mask(r, loop, mask);
    set_ranges(r, loop, &res);
    const qn_expr *whole = mask->u.let.x;
    if (p.data && p.plain) {
        separate(r, loop, mask, &p);
    }
    if (box.hull) {
        qn_remark(r->cx, "W-HULL", loop->place, "loop over %s", it->name);
    }
    if (r->reads_data) {
        qn_remark(r->cx, "W-DATADEP", loop->place, "loop over %s", it->name);
        qn_facts_push(f);
        box.at_hand = true;
        box.outside = f->names.count;
        box.unknown = (qn_exprs){0};
        enter_body(r, loop, true);
        qn_box_open(&box);
        qn_expr *cond = qn_box_test(&box, whole);
        qn_facts_pop(f);
        if (cond) {
            qn_facts_push(f);
            qn_facts_iter(f, &loop->u.loop.iters[0]);
            for (int32_t k = 0; k < r->summaries.count; k++) {
                know_summary(r, &r->summaries.at[k]);
            }
            cond = qn_facts_named(f, cond);
            qn_facts_pop(f);
            skip_by_data(r, loop, cond);
        }
    }
    drop_unused(r, loop);
}

/* ---------------------------------------------------------------- cost of a task */

static bool is_local(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_LOAD || (x->kind == QN_NAME && x->u.name[0] == '%');
}

/* Can it be said before the task starts: dims, parameters, par indices? */
static bool known_before(const qn_facts *f, const qn_stmt *par, const qn_lin *l)
{
    for (int32_t p = 0; p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        bool ok = t->kind != QN_TERM_IOTA && t->kind != QN_TERM_FLAG &&
                  !(t->x && qn_contains(t->x, is_local, NULL));
        if (t->kind == QN_TERM_OPAQUE) { /* a narrow parameter */
            const qn_expr *x =
                t->x->kind == QN_OP && t->x->u.op.op == QN_OP_CAST ? t->x->u.op.args.at[0] : t->x;
            ok = x->kind == QN_NAME && x->u.name[0] != '%';
        } else if (t->kind == QN_TERM_NAME) {
            const qn_fact_name *n = qn_fact_find(f, t->name);
            ok = n && t->name[0] != '%' && !n->index;
            for (int32_t k = 0; k < par->u.loop.niters; k++) {
                ok |= par->u.loop.iters[k].name == t->name;
            }
        }
        if (!ok || (t->a && !known_before(f, par, t->a)) || (t->b && !known_before(f, par, t->b))) {
            return false;
        }
    }
    return true;
}

/* Tasks differ in length by what their loops walk; the scheduler starts long ones first. Called
 * where the loops' bounds are in scope. */
static void set_cost(ranges *r, qn_stmt *par)
{
    qn_facts *f = r->f;
    const qn_lin *sum = NULL;
    for (int32_t k = 0; k < par->u.loop.body.count; k++) {
        const qn_stmt *s = par->u.loop.body.at[k];
        for (int32_t p = 0; s->kind == QN_FOR && p < s->u.loop.iters[0].npieces; p++) {
            const qn_piece *q = &s->u.loop.iters[0].pieces[p];
            const qn_lin *hi = qn_lin_of(f, q->hi), *lo = qn_lin_of(f, q->lo);
            const qn_lin *n = q->list ? NULL : qn_lin_sub(f, hi, lo);
            n = qn_lin_max(f, n, qn_lin_int(f, 0));
            sum = sum ? qn_lin_add(f, sum, n) : n;
            if (!sum) {
                return;
            }
        }
    }
    bool varies = false;
    for (int32_t k = 0; sum && k < par->u.loop.niters; k++) {
        varies |= qn_mentions_name(qn_lin_expr(f, sum, false), par->u.loop.iters[k].name);
    }
    if (varies && sum->size <= 60 && known_before(f, par, sum)) {
        par->u.loop.cost = qn_lin_expr(f, sum, false);
    }
}

/* ---------------------------------------------------------------- the walk */

static void walk(ranges *r, qn_block *block)
{
    qn_facts *f = r->f;
    qn_block out = {0};
    for (int32_t k = 0; k < block->count; k++) {
        qn_stmt *s = block->at[k];
        if (s->kind == QN_FOR) {
            r->pre = (qn_block){0};
            if (!r->off && can_bound(s)) {
                bound_loop(r, s);
            }
            qn_block_append(r->ir, &out, &r->pre);
            int32_t rows = r->rows.count, outer = r->outer.count;
            add_rows(r, s);
            qn_facts_push(f);
            qn_facts_enter_loop(f, s);
            walk(r, &s->u.loop.body);
            if (s->u.loop.par && !s->u.loop.cost && !r->off) {
                set_cost(r, s);
            }
            qn_facts_pop(f);
            r->rows.count = rows;
            r->outer.count = outer;
        } else if (s->kind == QN_IF) {
            qn_block *sides[2] = {&s->u.branch.then, &s->u.branch.other};
            for (int side = 0; side < 2; side++) {
                qn_facts_push(f);
                qn_facts_assume(f, s->u.branch.cond, side == 0);
                walk(r, sides[side]);
                qn_facts_pop(f);
            }
        }
        qn_block_push(r->ir, &out, s);
        qn_facts_stmt(f, s);
    }
    *block = out;
}

static const char *name_of_nest(const qn_stmt *par)
{
    const qn_attr *a = qn_attr_find(&par->attrs, "name");
    return a && a->nargs == 1 && a->args[0].lo->kind == QN_NAME ? a->args[0].lo->u.name : NULL;
}

static void walk_launch(ranges *r, qn_stmt *launch)
{
    qn_facts_push(r->f);
    qn_facts_enter_launch(r->f, &launch->u.launch);
    for (int32_t k = 0; k < launch->u.launch.count; k++) {
        qn_block nest = {0};
        qn_block_push(r->ir, &nest, launch->u.launch.at[k]);
        const char *off =
            qn_schedule_word(r->cx->schedule, name_of_nest(nest.at[0]), "ranges", NULL, "on");
        r->off = strcmp(off, "off") == 0;
        walk(r, &nest);
    }
    qn_facts_pop(r->f);
}

static bool run(qn_pass_cx *cx, qn_ir_file *file, qn_kernel_ir *k)
{
    (void)file;
    ranges r = {.cx = cx, .ir = cx->ir, .kernel = k};
    r.f = qn_facts_kernel(cx->scratch, cx->ir, k);
    r.names = qn_names_of_kernel(cx->ir, k);
    qn_block out = {0};
    for (int32_t n = 0; n < k->body.count; n++) {
        qn_stmt *s = k->body.at[n];
        r.launches = (qn_block){0};
        if (s->kind == QN_LAUNCH) {
            walk_launch(&r, s);
        }
        qn_block_append(cx->ir, &out, &r.launches);
        qn_block_push(cx->ir, &out, s);
        qn_facts_stmt(r.f, s);
    }
    k->body = out;
    return true;
}

const qn_pass qn_pass_ranges = {
    .name = "ranges",
    .doc = "loops walk only blocks that a mask may keep, and know those it keeps whole",
    .run = run,
};
