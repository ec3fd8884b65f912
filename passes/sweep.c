/* SPDX-License-Identifier: MIT
 *
 * Loops over blocks of an axis; see sweep.h.
 *
 * Three steps. *read* goes through the statements once, takes every contraction of the axis out of
 * its expression (an item), and gives each name a level: how many loops must have ended before it
 * is known. *mask* decides for each contraction what the overhang of the last block must look
 * like. *write* prints, level by level, the statements without the axis and the loop. */
#include "passes/sweep.h"
#include "passes/norms.h"

#include "ir/build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct item {
    const qn_expr *x; /* the contraction, inner ones replaced by their names */
    const qn_sym *names;
    int32_t nnames;
    int32_t loop; /* which loop computes it */
    int32_t at;   /* index of its statement */
} item;

typedef struct entry {
    qn_stmt *s; /* NULL: dissolved into an item */
    bool row;   /* its value, or what it stores, has the axis */
    int32_t level;
} entry;

typedef struct known {
    qn_sym name;
    int32_t level;
    const qn_expr *row; /* the definition of a value with the axis */
} known;

typedef struct condition { /* of one loop: %in = c and tail */
    qn_expr *c;            /* NULL: the tail alone */
    qn_sym name;
    qn_stmt *let;
} condition;

typedef struct sweep {
    qn_tool *t;
    qn_ir *ir;
    qn_arena *scratch;
    qn_cut cut;
    bool folds;
    struct {
        item *at;
        int32_t count, cap;
    } items;
    struct {
        entry *at;
        int32_t count, cap;
    } entries;
    struct {
        known *at;
        int32_t count, cap;
    } names;
    qn_symset loaded, stored;
    const char *obstacle; /* why not */
    bool broken_law;      /* the obstacle is a norm without rescale */
    qn_place place;
    /* of the loop being written */
    qn_env *env;
    qn_block *body;
    struct {
        qn_carry *at;
        int32_t count, cap;
    } carries;
    struct {
        qn_expr **at;
        int32_t count, cap;
    } outs;
    struct {
        condition *at;
        int32_t count, cap;
    } conditions;
    bool bare; /* something in this loop is under no condition */
} sweep;

/* ---------------------------------------------------------------- small things */

static const known *find_known(const sweep *w, qn_sym name)
{
    for (int n = 0; n < w->names.count; n++) {
        if (w->names.at[n].name == name) {
            return &w->names.at[n];
        }
    }
    return NULL;
}

static bool over_axis(const qn_sym *over, int n, qn_sym axis)
{
    for (int k = 0; k < n; k++) {
        if (over[k] == axis) {
            return true;
        }
    }
    return false;
}

static qn_sym suffixed(sweep *w, qn_sym base, const char *end)
{
    char text[96];
    snprintf(text, sizeof text, "%s%.80s%s", base[0] == '%' ? "" : "%", base, end);
    return qn_tool_fresh(w->t, text);
}

/* ---------------------------------------------------------------- read */

typedef struct level_of {
    const sweep *w;
    int32_t level;
} level_of;

static bool note_level(void *user, const qn_expr *x)
{
    level_of *l = user;
    if (x->kind == QN_NAME) {
        const known *k = find_known(l->w, x->u.name);
        if (k && k->level > l->level) {
            l->level = k->level;
        }
    }
    return true;
}

static int32_t expr_level(const sweep *w, const qn_expr *x)
{
    level_of l = {w, 0};
    if (x) {
        qn_visit(x, note_level, &l);
    }
    return l.level;
}

typedef struct reader {
    sweep *w;
    int32_t at;
    const qn_stmt *s;
} reader;

static void know(sweep *w, qn_sym name, int32_t level, const qn_expr *row)
{
    known k = {name, level, row};
    QN_PUSH(w->scratch, &w->names, k);
    if (row) {
        qn_symset_add(w->scratch, &w->cut.rows, name);
    }
}

static void add_item(sweep *w, const qn_expr *x, const qn_sym *names, int nnames, int at)
{
    item i = {x, names, nnames, expr_level(w, x), at};
    QN_PUSH(w->scratch, &w->items, i);
    for (int n = 0; n < nnames; n++) {
        know(w, names[n], i.loop + 1, NULL);
    }
}

static void obstruct(sweep *w, const qn_stmt *s, const char *why)
{
    if (!w->obstacle) {
        w->obstacle = why;
        w->place = s->place;
    }
}

static bool can_carry(qn_axop op)
{
    return op == QN_AX_DOT || qn_axop_is_reduce(op);
}

static bool contracts(const sweep *w, const qn_expr *x)
{
    qn_sym axis = w->cut.axis;
    if (x->kind == QN_AXOP) {
        return over_axis(x->u.axop.over, x->u.axop.nover, axis) && qn_cut_touches(&w->cut, x);
    }
    return x->kind == QN_FOLD && over_axis(x->u.fold.over, x->u.fold.nover, axis) &&
           qn_cut_touches(&w->cut, x);
}

static qn_expr *take_item(void *user, qn_expr *x)
{
    reader *r = user;
    sweep *w = r->w;
    if (x->kind == QN_AS) {
        for (int n = 0; n < x->u.as.npairs; n++) {
            if (qn_cut_touches(&w->cut, x) &&
                (x->u.as.pairs[n].from == w->cut.axis || x->u.as.pairs[n].to == w->cut.axis)) {
                obstruct(w, r->s, "the axis is renamed");
            }
        }
        return x;
    }
    if (!contracts(w, x)) {
        return x;
    }
    if (x->kind == QN_FOLD) {
        obstruct(w, r->s, "a fold is in the way");
        return x;
    }
    if (!can_carry(x->u.axop.op)) {
        obstruct(w, r->s, "an op needs all of the axis at once");
        return x;
    }
    const char *base = x->u.axop.op == QN_AX_DOT ? "%d" : "%r";
    qn_sym *name = QN_NEW(w->ir->arena, qn_sym);
    *name = qn_tool_fresh(w->t, base);
    add_item(w, x, name, 1, r->at);
    return qn_name(w->ir, *name);
}

static bool note_load(void *user, const qn_expr *x)
{
    sweep *w = user;
    if (x->kind == QN_LOAD) {
        qn_symset_add(w->scratch, &w->loaded, x->u.load.base);
    }
    return true;
}

static void note_store(void *user, qn_stmt *s)
{
    sweep *w = user;
    if (s->kind == QN_STORE) {
        qn_symset_add(w->scratch, &w->stored, s->u.store.base);
    }
}

static bool touch_any(void *user, const qn_expr *x)
{
    reader *r = user;
    if (qn_cut_touches(&r->w->cut, x)) {
        obstruct(r->w, r->s, "a nested block has the axis");
    }
    return false;
}

static bool level_any(void *user, const qn_expr *x)
{
    note_level(user, x);
    return true;
}

static int32_t stmt_level(sweep *w, qn_stmt *s)
{
    level_of l = {w, 0};
    qn_stmt *one[1] = {s};
    const qn_block b = {one, 1, 1};
    qn_block_visit(&b, level_any, &l);
    return l.level;
}

/* A fold that a loop can carry: a let of its own, over a norm whose laws allow it. */
static bool streamable(sweep *w, const qn_stmt *s)
{
    const qn_expr *x = s->u.let.x;
    const qn_norm *norm = qn_file_norm(w->t->file, x->u.fold.norm);
    if (!w->folds || !norm) {
        return false;
    }
    bool law = !norm->stat || norm->rescale;
    for (int n = 0; law && norm->stat && n < norm->nsums; n++) {
        law = !qn_mentions_name(norm->sums[n].x, norm->stat);
    }
    if (!law) {
        qn_remark(w->t->cx, "W-NOASSOC", s->place, "%s", norm->name);
        obstruct(w, s, "a norm has no rescale law");
        w->broken_law = true;
    }
    return law;
}

static void read_let(sweep *w, qn_stmt *s, reader *r)
{
    qn_expr *x = s->u.let.x;
    if (x->kind == QN_FOLD && contracts(w, x) && streamable(w, s)) {
        /* inner contractions of its arguments first */
        qn_expr **args = QN_NEWN(w->scratch, qn_expr *, x->u.fold.args.count);
        for (int n = 0; n < x->u.fold.args.count; n++) {
            args[n] = qn_rewrite(w->ir, x->u.fold.args.at[n], take_item, r);
        }
        qn_expr *where = x->u.fold.where ? qn_rewrite(w->ir, x->u.fold.where, take_item, r) : NULL;
        qn_expr *fold = qn_fold(w->ir, x->u.fold.norm, args, x->u.fold.args.count, x->u.fold.over,
                                x->u.fold.nover, where);
        add_item(w, fold, s->u.let.names, s->u.let.nnames, r->at);
        w->entries.at[r->at].s = NULL;
        return;
    }
    if (x->kind == QN_AXOP && contracts(w, x) && can_carry(x->u.axop.op) && s->u.let.nnames == 1 &&
        s->attrs.count == 0) {
        /* the let is the contraction itself and lends it its name */
        qn_expr *copy = QN_NEW(w->ir->arena, qn_expr);
        qn_expr **args = QN_NEWN(w->ir->arena, qn_expr *, x->u.axop.args.count);
        for (int n = 0; n < x->u.axop.args.count; n++) {
            args[n] = qn_rewrite(w->ir, x->u.axop.args.at[n], take_item, r);
        }
        *copy = *x;
        copy->u.axop.args.at = args;
        add_item(w, copy, s->u.let.names, 1, r->at);
        w->entries.at[r->at].s = NULL;
        return;
    }
    qn_expr *rest = qn_rewrite(w->ir, x, take_item, r);
    qn_stmt *copy = qn_let_n(w->ir, s->u.let.names, s->u.let.nnames, rest);
    copy->place = s->place;
    copy->attrs = s->attrs;
    bool row = qn_cut_touches(&w->cut, rest);
    int32_t level = expr_level(w, rest);
    w->entries.at[r->at] = (entry){copy, row, level};
    for (int n = 0; n < s->u.let.nnames; n++) {
        know(w, s->u.let.names[n], level, row ? rest : NULL);
    }
}

static void know_results(sweep *w, const qn_stmt *s, int32_t level)
{
    if (s->kind == QN_FOR) {
        for (int n = 0; n < s->u.loop.ncarries; n++) {
            know(w, s->u.loop.carries[n].name, level, NULL);
        }
    } else if (s->kind == QN_IF) {
        for (int n = 0; n < s->u.branch.nnames; n++) {
            know(w, s->u.branch.names[n], level, NULL);
        }
    }
}

static void read_stmt(sweep *w, qn_stmt *s)
{
    entry e = {s, false, 0};
    reader r = {w, w->entries.count, s};
    QN_PUSH(w->scratch, &w->entries, e);
    if (s->kind == QN_LET) {
        read_let(w, s, &r);
        return;
    }
    if (s->kind == QN_STORE || s->kind == QN_FLAG || s->kind == QN_YIELD) {
        qn_stmt *copy = qn_stmt_copy(w->ir, s);
        qn_stmt_rewrite(w->ir, copy, false, take_item, &r);
        e.s = copy;
        e.level = stmt_level(w, copy);
        if (s->kind == QN_STORE) {
            e.row = qn_cut_touches(&w->cut, copy->u.store.x);
            for (int n = 0; n < copy->u.store.index.count; n++) {
                e.row = e.row || qn_cut_touches(&w->cut, copy->u.store.index.at[n]);
            }
        } else {
            qn_stmt_exprs(copy, touch_any, &r);
        }
        w->entries.at[r.at] = e;
        return;
    }
    qn_stmt *one[1] = {s};
    const qn_block b = {one, 1, 1};
    qn_block_visit(&b, touch_any, &r);
    w->entries.at[r.at].level = stmt_level(w, s);
    know_results(w, s, w->entries.at[r.at].level);
}

/* Statements change places only if none can see it: memory that is stored is not loaded here, and
 * two stores to one memory stay in one place. */
static bool memory_allows(const sweep *w)
{
    for (int n = 0; n < w->stored.count; n++) {
        qn_sym base = w->stored.at[n];
        const entry *row = NULL;
        int stores = 0;
        bool together = true;
        for (int k = 0; k < w->entries.count; k++) {
            const entry *e = &w->entries.at[k];
            if (!e->s || e->s->kind != QN_STORE || e->s->u.store.base != base) {
                continue;
            }
            stores++;
            together = together && (!row || row->level == e->level);
            row = e->row ? e : row;
        }
        if (qn_symset_has(&w->loaded, base) || (row && stores > 1 && !together)) {
            return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- mask */

static bool finite_beyond(const sweep *w, const qn_expr *x);

static bool all_finite_beyond(const sweep *w, qn_exprs xs)
{
    for (int n = 0; n < xs.count; n++) {
        if (!finite_beyond(w, xs.at[n])) {
            return false;
        }
    }
    return true;
}

/* Is x finite in the overhang of the last block, where loads give their pad? Data count as finite.
 */
static bool finite_beyond(const sweep *w, const qn_expr *x)
{
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.type != QN_FLT_LIT || isfinite(x->u.lit.f);
    case QN_NAME: {
        const known *k = find_known(w, x->u.name);
        return !k || !k->row || finite_beyond(w, k->row);
    }
    case QN_IOTA:
        return true;
    case QN_LOAD:
        return !x->u.load.pad || finite_beyond(w, x->u.load.pad);
    case QN_OP:
        switch ((int)x->u.op.op) {
        case QN_OP_DIV:
        case QN_OP_FLOORDIV:
        case QN_OP_MOD:
        case QN_OP_POW:
        case QN_OP_EXP:
        case QN_OP_EXP2:
        case QN_OP_LOG:
        case QN_OP_LOG2:
        case QN_OP_SQRT:
        case QN_OP_RSQRT:
            return false;
        default:
            return all_finite_beyond(w, x->u.op.args);
        }
    case QN_AXOP:
        return (x->u.axop.op == QN_AX_DOT || x->u.axop.op == QN_AX_REDUCE_SUM) &&
               all_finite_beyond(w, x->u.axop.args);
    case QN_AS:
        return finite_beyond(w, x->u.as.x);
    case QN_FOLD:
    default:
        return false;
    }
}

/* select(c, x, constant) with a condition that has the axis. */
static bool is_conditional(const sweep *w, const qn_expr *x)
{
    return x->kind == QN_OP && x->u.op.op == QN_OP_SELECT && x->u.op.args.at[2]->kind == QN_LIT &&
           qn_cut_touches(&w->cut, x->u.op.args.at[0]);
}

/* Is x zero there? */
static bool zero_beyond(const sweep *w, const qn_expr *x)
{
    if (w->cut.exact) {
        return true; /* there is no overhang */
    }
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.type == QN_FLT_LIT ? x->u.lit.f == 0.0 : x->u.lit.i == 0;
    case QN_NAME: { /* write_value puts the end of the axis into the condition of a select */
        const known *k = find_known(w, x->u.name);
        return k && k->row &&
               (is_conditional(w, k->row) ? zero_beyond(w, k->row->u.op.args.at[2])
                                          : zero_beyond(w, k->row));
    }
    case QN_LOAD: { /* an index that is the axis itself leaves the memory where the axis ends */
        bool leaves = false;
        for (int n = 0; n < x->u.load.index.count; n++) {
            const qn_expr *i = x->u.load.index.at[n];
            leaves = leaves || (i->kind == QN_IOTA && i->u.iota.name == w->cut.axis);
        }
        return leaves && (!x->u.load.pad || zero_beyond(w, x->u.load.pad));
    }
    case QN_OP: {
        qn_expr *const *a = x->u.op.args.at;
        switch ((int)x->u.op.op) {
        case QN_OP_NEG:
        case QN_OP_ABS:
        case QN_OP_CAST:
            return zero_beyond(w, a[0]);
        case QN_OP_ADD:
        case QN_OP_SUB:
            return zero_beyond(w, a[0]) && zero_beyond(w, a[1]);
        case QN_OP_MUL:
            return (zero_beyond(w, a[0]) && finite_beyond(w, a[1])) ||
                   (zero_beyond(w, a[1]) && finite_beyond(w, a[0]));
        case QN_OP_SELECT:
            return zero_beyond(w, a[1]) && zero_beyond(w, a[2]);
        default:
            return false;
        }
    }
    case QN_AXOP: {
        qn_expr *const *a = x->u.axop.args.at;
        if (x->u.axop.op == QN_AX_REDUCE_SUM) {
            return zero_beyond(w, a[0]);
        }
        return x->u.axop.op == QN_AX_DOT && ((zero_beyond(w, a[0]) && finite_beyond(w, a[1])) ||
                                             (zero_beyond(w, a[1]) && finite_beyond(w, a[0])));
    }
    case QN_AS:
        return zero_beyond(w, x->u.as.x);
    case QN_IOTA:
    case QN_FOLD:
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- write */

static void emit(sweep *w, qn_stmt *s)
{
    qn_block_push(w->ir, w->body, s);
    qn_env_stmt(w->env, s);
}

static qn_expr *emit_let(sweep *w, qn_sym name, qn_expr *x)
{
    emit(w, qn_let(w->ir, name, x));
    return qn_name(w->ir, name);
}

/* The type of a value at the place being written; literal types settled. */
static qn_type type_of(sweep *w, const qn_expr *x)
{
    qn_type t = {QN_F32, 0, NULL};
    if (!qn_type_infer(w->env, x, &t)) {
        obstruct(w, w->t->par, w->env->fault.text ? w->env->fault.text : "a type is not known");
    }
    t.dtype = qn_dtype_settle(t.dtype);
    return t;
}

static void carry(sweep *w, qn_sym name, qn_type type, qn_expr *init, qn_expr *next)
{
    qn_carry c = {name, type, init};
    QN_PUSH(w->scratch, &w->carries, c);
    QN_PUSH(w->scratch, &w->outs, next);
}

/* The condition `c and inside the axis` of this loop as a name; NULL if it is always true. */
static qn_expr *condition_of(sweep *w, qn_expr *c)
{
    if (!c && w->cut.exact) {
        w->bare = true;
        return NULL;
    }
    for (int n = 0; n < w->conditions.count; n++) {
        const condition *old = &w->conditions.at[n];
        if (old->c == c || (old->c && c && qn_expr_equal(old->c, c))) {
            return qn_name(w->ir, old->name);
        }
    }
    qn_expr *x = c ? qn_cut_expr(&w->cut, c) : NULL;
    if (!w->cut.exact) {
        qn_expr *tail = qn_cut_tail(&w->cut);
        x = x ? qn_op2(w->ir, QN_OP_AND, x, tail) : tail;
    }
    condition fresh = {c, qn_tool_fresh(w->t, "%in"), NULL};
    fresh.let = qn_let(w->ir, fresh.name, x);
    emit(w, fresh.let);
    QN_PUSH(w->scratch, &w->conditions, fresh);
    return qn_name(w->ir, fresh.name);
}

/* x where the condition holds, else `other`. */
static qn_expr *masked(sweep *w, qn_expr *in, qn_expr *x, qn_expr *other)
{
    return in ? qn_op3(w->ir, QN_OP_SELECT, in, x, other) : x;
}

/* The operand of a contraction, cut, with the overhang set to `neutral`. A select that already puts
 * the neutral element somewhere gets one condition, not two. */
static qn_expr *guarded(sweep *w, qn_expr *x, qn_expr *neutral, bool harmless)
{
    qn_expr *c = NULL;
    if (x->kind == QN_OP && x->u.op.op == QN_OP_SELECT &&
        qn_expr_equal(x->u.op.args.at[2], neutral)) {
        c = x->u.op.args.at[0];
        x = x->u.op.args.at[1];
        harmless = false;
    }
    if (harmless) {
        w->bare = true;
        return qn_cut_expr(&w->cut, x);
    }
    qn_expr *in = condition_of(w, c);
    return masked(w, in, qn_cut_expr(&w->cut, x), neutral);
}

static void write_dot(sweep *w, const item *i)
{
    qn_expr *const *a = i->x->u.axop.args.at;
    bool z0 = zero_beyond(w, a[0]), z1 = zero_beyond(w, a[1]);
    bool f0 = finite_beyond(w, a[0]), f1 = finite_beyond(w, a[1]);
    qn_expr *x = qn_cut_expr(&w->cut, a[0]), *y = qn_cut_expr(&w->cut, a[1]);
    if (w->cut.exact || (z0 && f1) || (z1 && f0)) {
        w->bare = true;
    } else { /* mask what is not already zero, and what would spoil a zero */
        if (!z0) {
            x = masked(w, condition_of(w, NULL), x, qn_zero(w->ir, type_of(w, x).dtype));
        }
        if (!f1) {
            y = masked(w, condition_of(w, NULL), y, qn_zero(w->ir, type_of(w, y).dtype));
        }
    }
    qn_expr *part = qn_dot(w->ir, x, y, i->x->u.axop.over, i->x->u.axop.nover);
    qn_type type = type_of(w, part);
    carry(w, i->names[0], type, qn_zero(w->ir, type.dtype),
          qn_op2(w->ir, QN_OP_ADD, qn_name(w->ir, i->names[0]), part));
}

/* The best so far and where it was: two carried values. */
static void write_arg(sweep *w, const item *i)
{
    qn_axop op = i->x->u.axop.op;
    bool max = op == QN_AX_REDUCE_ARGMAX;
    qn_axop best_op = max ? QN_AX_REDUCE_MAX : QN_AX_REDUCE_MIN;
    qn_ir *ir = w->ir;
    qn_expr *x = qn_cut_expr(&w->cut, i->x->u.axop.args.at[0]);
    qn_dtype dtype = type_of(w, x).dtype;
    qn_expr *none = qn_neutral(ir, op, dtype);
    const qn_sym *over = i->x->u.axop.over;
    int nover = i->x->u.axop.nover;
    qn_expr *v = guarded(w, i->x->u.axop.args.at[0], none, false);
    if (qn_dtype_is_float(dtype)) { /* NaN counts as absent */
        v = emit_let(w, suffixed(w, i->names[0], "_v"), v);
        v = qn_op3(ir, QN_OP_SELECT, qn_op2(ir, QN_OP_EQ, v, v), v, none);
    }
    v = emit_let(w, suffixed(w, i->names[0], "_x"), v);
    qn_expr *top =
        emit_let(w, suffixed(w, i->names[0], "_top"), qn_axop1(ir, best_op, v, over, nover));
    qn_expr *where = qn_axop1(ir, op, v, over, nover);
    qn_sym best = suffixed(w, i->names[0], "_best");
    qn_expr *old = qn_name(ir, best);
    qn_type type = type_of(w, top), place = type;
    place.dtype = QN_I64;
    qn_expr *better = qn_op2(ir, max ? QN_OP_GT : QN_OP_LT, top, old);
    qn_expr *global = qn_op2(ir, QN_OP_ADD, qn_name(ir, w->cut.index), where);
    qn_expr *at = qn_name(ir, i->names[0]);
    carry(w, best, type, none, qn_combine(ir, best_op, old, top));
    carry(w, i->names[0], place, qn_int(ir, -1), qn_op3(ir, QN_OP_SELECT, better, global, at));
    w->bare = true;
}

static void write_reduce(sweep *w, const item *i)
{
    qn_axop op = i->x->u.axop.op;
    if (op == QN_AX_REDUCE_ARGMAX || op == QN_AX_REDUCE_ARGMIN) {
        write_arg(w, i);
        return;
    }
    qn_expr *x = i->x->u.axop.args.at[0];
    qn_dtype dtype = type_of(w, qn_cut_expr(&w->cut, x)).dtype;
    qn_expr *none = qn_neutral(w->ir, op, dtype);
    bool harmless = op == QN_AX_REDUCE_SUM && zero_beyond(w, x);
    qn_expr *v = guarded(w, x, none, harmless);
    qn_expr *part = qn_axop1(w->ir, op, v, i->x->u.axop.over, i->x->u.axop.nover);
    carry(w, i->names[0], type_of(w, part), none,
          qn_combine(w->ir, op, qn_name(w->ir, i->names[0]), part));
}

/* ---------------------------------------------------------------- norms */

/* Carries the stat and the sums; by the laws of the norm alone. */
static void write_fold(sweep *w, const item *i)
{
    qn_ir *ir = w->ir;
    const qn_expr *fold = i->x;
    const qn_norm *norm = qn_file_norm(w->t->file, fold->u.fold.norm);
    const qn_sym *over = fold->u.fold.over;
    int nover = fold->u.fold.nover;
    qn_norm_values m = {.count = 0};
    bool finite[QN_NORM_NAMES];
    for (int n = 0; n < norm->nargs && n < fold->u.fold.args.count && n < QN_NORM_NAMES; n++) {
        qn_expr *x = fold->u.fold.args.at[n];
        finite[n] = finite_beyond(w, x);
        qn_expr *cut = qn_cut_expr(&w->cut, x);
        if (!qn_norm_cheap(x) && qn_norm_uses(norm, norm->args[n]) > 1) {
            cut = emit_let(w, suffixed(w, norm->args[n], ""), cut);
        }
        qn_norm_bind(&m, norm->args[n], cut);
    }
    qn_expr *in = condition_of(w, fold->u.fold.where);
    qn_expr *factor = NULL;
    if (norm->stat) {
        qn_expr *none = qn_stat_identity(ir, norm->stat_op);
        qn_sym old = suffixed(w, norm->stat, "");
        qn_expr *x = masked(w, in, qn_norm_expr(ir, norm, norm->stat_x, &m), none);
        qn_expr *part = qn_axop1(ir, norm->stat_op, x, over, nover);
        qn_type type = type_of(w, part);
        qn_env_define(w->env, &(qn_bound){.name = old, .kind = QN_BOUND_VALUE, .type = type});
        qn_expr *now = emit_let(w, suffixed(w, norm->stat, "1"),
                                qn_combine(ir, norm->stat_op, qn_name(ir, old), part));
        carry(w, old, type, none, now);
        qn_norm_bind(&m, norm->stat, now);
        const qn_binding ends[] = {{norm->rescale_from, qn_name(ir, old)}, {norm->rescale_to, now}};
        qn_expr *law = qn_substitute(ir, norm->rescale, ends, 2);
        factor = emit_let(w, qn_tool_fresh(w->t, "%f"), qn_norm_expr(ir, norm, law, &m));
    }
    qn_expr *weight = masked(w, in, qn_norm_expr(ir, norm, norm->weight, &m), qn_float(ir, 0.0));
    weight = emit_let(w, qn_tool_fresh(w->t, "%w"), weight);
    for (int n = 0; n < norm->nsums; n++) {
        qn_expr *e = qn_norm_expr(ir, norm, norm->sums[n].x, &m);
        bool safe = in == NULL || finite_beyond(w, norm->sums[n].x);
        for (int k = 0; k < norm->nargs && k < QN_NORM_NAMES; k++) {
            safe = safe && (finite[k] || !qn_mentions_name(norm->sums[n].x, norm->args[k]));
        }
        if (!safe) { /* what is not finite beyond the end would spoil the zero weight there */
            e = masked(w, in, e, qn_zero(ir, type_of(w, e).dtype));
        }
        qn_expr *part = qn_weighted_sum(ir, w->env, weight, e, over, nover);
        qn_sym sum = suffixed(w, norm->sums[n].name, "");
        qn_type type = type_of(w, part);
        qn_expr *kept = qn_name(ir, sum);
        if (factor) { /* the carried type takes the factor's axes too */
            qn_type both[2] = {type, type_of(w, factor)};
            both[1].dtype = type.dtype;
            qn_type_union(w->env, both, 2, &type);
            kept = qn_op2(ir, QN_OP_MUL, kept, factor);
        }
        carry(w, sum, type, qn_zero(ir, type.dtype), qn_op2(ir, QN_OP_ADD, kept, part));
    }
}

/* After the loop: the results of the fold from the carried values. `first` is its first carry. */
static void finish_fold(sweep *w, const item *i, int first, qn_block *out, qn_env *env)
{
    const qn_expr *fold = i->x;
    const qn_norm *norm = qn_file_norm(w->t->file, fold->u.fold.norm);
    qn_norm_values m = {.count = 0};
    for (int n = 0; n < norm->nargs && n < fold->u.fold.args.count; n++) {
        qn_norm_bind(&m, norm->args[n], fold->u.fold.args.at[n]);
    }
    int at = first;
    if (norm->stat) {
        qn_norm_bind(&m, norm->stat, qn_name(w->ir, w->carries.at[at++].name));
    }
    for (int n = 0; n < norm->nsums; n++) {
        qn_norm_bind(&m, norm->sums[n].name, qn_name(w->ir, w->carries.at[at++].name));
    }
    for (int n = 0; n < i->nnames && n < norm->nouts; n++) {
        for (int k = 0; k < norm->nfinish; k++) {
            if (norm->finish[k].name == norm->outs[n]) {
                qn_expr *x = qn_norm_expr(w->ir, norm, norm->finish[k].x, &m);
                qn_stmt *s = qn_let(w->ir, i->names[n], x);
                qn_block_push(w->ir, out, s);
                qn_env_stmt(env, s);
            }
        }
    }
}

/* ---------------------------------------------------------------- loops */

/* Which values with the axis does loop `level` need? Marks entries, uses before definitions. */
static void mark_needed(const sweep *w, int level, bool *needed)
{
    for (int n = w->entries.count - 1; n >= 0; n--) {
        const entry *e = &w->entries.at[n];
        if (!e->s || !e->row) {
            continue;
        }
        if (e->s->kind == QN_STORE) {
            needed[n] = e->level == level;
            continue;
        }
        bool use = false;
        for (int k = 0; k < e->s->u.let.nnames && !use; k++) {
            qn_sym name = e->s->u.let.names[k];
            for (int i = 0; i < w->items.count && !use; i++) {
                use = w->items.at[i].loop == level && qn_mentions_name(w->items.at[i].x, name);
            }
            for (int m = n + 1; m < w->entries.count && !use; m++) {
                const qn_stmt *s = w->entries.at[m].s;
                if (!needed[m] || !s) {
                    continue;
                }
                if (s->kind == QN_LET) {
                    use = qn_mentions_name(s->u.let.x, name);
                } else if (s->kind == QN_STORE) {
                    use = qn_mentions_name(s->u.store.x, name);
                    for (int j = 0; j < s->u.store.index.count; j++) {
                        use = use || qn_mentions_name(s->u.store.index.at[j], name);
                    }
                }
            }
        }
        needed[n] = use;
    }
}

/* A value with the axis. Nobody sees its overhang: stores drop it, contractions mask it. So a
 * select that gives a constant somewhere may give it beyond the end too. */
static void write_value(sweep *w, qn_stmt *s)
{
    qn_expr *x = s->kind == QN_LET ? s->u.let.x : NULL;
    if (x && !w->cut.exact && is_conditional(w, x)) {
        qn_expr *in = condition_of(w, x->u.op.args.at[0]);
        s->u.let.x = qn_op3(w->ir, QN_OP_SELECT, in, x->u.op.args.at[1], x->u.op.args.at[2]);
    }
    w->bare = w->bare || s->kind == QN_STORE;
    qn_attr_remove(&s->attrs, "mask"); /* of the whole row; ranges marks the loop's own */
    qn_cut_stmt(&w->cut, s);
    emit(w, s);
}

static void write_item(sweep *w, const item *i)
{
    if (i->x->kind == QN_FOLD) {
        write_fold(w, i);
    } else if (i->x->u.axop.op == QN_AX_DOT) {
        write_dot(w, i);
    } else {
        write_reduce(w, i);
    }
}

/* One loop: the values it needs, the contractions of its level, its stores. */
static void write_loop(sweep *w, int level, qn_block *out, qn_env *env)
{
    qn_ir *ir = w->ir;
    qn_stmt *loop = qn_for(ir, w->cut.index, qn_int(ir, 0), qn_extent_expr(ir, w->cut.extent),
                           qn_int(ir, w->cut.size));
    loop->place = w->t->par->place;
    bool *needed = QN_NEWN(w->scratch, bool, w->entries.count + 1);
    mark_needed(w, level, needed);
    w->body = &loop->u.loop.body;
    w->env = qn_env_push(env);
    qn_env_enter_loop(w->env, loop);
    w->carries.count = w->outs.count = w->conditions.count = 0;
    w->bare = false;
    int *first = QN_NEWN(w->scratch, int, w->items.count + 1);
    int at = 0;
    for (int n = 0; n <= w->entries.count; n++) {
        for (; at < w->items.count && (w->items.at[at].at <= n || n == w->entries.count); at++) {
            if (w->items.at[at].loop == level) {
                first[at] = w->carries.count;
                write_item(w, &w->items.at[at]);
            }
        }
        if (n < w->entries.count && needed[n]) {
            write_value(w, qn_stmt_copy(ir, w->entries.at[n].s));
        }
    }
    if (w->conditions.count == 1 &&
        !w->bare) { /* nothing happens in a trip without kept elements */
        qn_attr_add(ir, &w->conditions.at[0].let->attrs, "mask", NULL, 0);
    }
    if (w->carries.count) {
        loop->u.loop.carries = QN_NEWN(ir->arena, qn_carry, w->carries.count);
        memcpy(loop->u.loop.carries, w->carries.at,
               sizeof *w->carries.at * (size_t)w->carries.count);
        loop->u.loop.ncarries = w->carries.count;
        qn_block_push(ir, w->body, qn_yield(ir, w->outs.at, w->outs.count));
    }
    qn_block_push(ir, out, loop);
    qn_env_stmt(env, loop);
    for (int n = 0; n < w->items.count; n++) {
        if (w->items.at[n].loop == level && w->items.at[n].x->kind == QN_FOLD) {
            finish_fold(w, &w->items.at[n], first[n], out, env);
        }
    }
}

typedef struct outside {
    sweep *w;
    qn_env *env;
} outside;

/* A value from before the block that has the axis: its block cannot be taken out by a name. */
static bool note_outside(void *user, const qn_expr *x)
{
    outside *o = user;
    const qn_bound *b = x->kind == QN_NAME ? qn_env_find(o->env, x->u.name) : NULL;
    const qn_axis *axis = b ? qn_type_axis(&b->type, o->w->cut.axis) : NULL;
    if (axis && qn_extent_equal(axis->extent, o->w->cut.extent)) {
        obstruct(o->w, o->w->t->par, "a value from outside the block has it");
    }
    return true;
}

static int last_loop(const sweep *w)
{
    int last = -1;
    for (int n = 0; n < w->items.count; n++) {
        last = w->items.at[n].loop > last ? w->items.at[n].loop : last;
    }
    for (int n = 0; n < w->entries.count; n++) {
        const entry *e = &w->entries.at[n];
        if (e->s && e->row && e->s->kind == QN_STORE && e->level > last) {
            last = e->level;
        }
    }
    return last;
}

static bool has_fold(const sweep *w)
{
    for (int n = 0; n < w->items.count; n++) {
        if (w->items.at[n].x->kind == QN_FOLD) {
            return true;
        }
    }
    return false;
}

bool qn_sweep(qn_tool *t, qn_env *env, qn_block *b, qn_sym axis, int64_t size, bool folds)
{
    sweep w = {.t = t, .ir = t->ir, .scratch = t->cx->scratch, .folds = folds};
    w.cut = (qn_cut){.ir = t->ir, .kernel = t->kernel, .axis = axis, .size = size};
    if (!qn_axis_extent(b, axis, size, &w.cut.extent)) {
        return false;
    }
    int64_t whole = qn_extent_const(env, w.cut.extent);
    w.cut.exact = whole >= 0 && whole % size == 0;
    outside o = {&w, env};
    qn_block_visit(b, note_outside, &o);
    for (int n = 0; n < b->count && !w.obstacle; n++) {
        read_stmt(&w, b->at[n]);
    }
    qn_block_visit(b, note_load, &w);
    qn_block_stmts(b, note_store, &w);
    int last = last_loop(&w);
    if (!w.obstacle && last >= 0 && !memory_allows(&w)) {
        obstruct(&w, t->par, "memory is stored and used again");
    }
    if (last < 0 || w.obstacle || (folds && !has_fold(&w))) {
        if (w.obstacle && !folds && !w.broken_law) {
            qn_remark(t->cx, "W-REDUCED", w.place, "%s: %s", axis, w.obstacle);
        }
        return false;
    }
    if (folds && last > 0) {
        qn_remark(t->cx, "W-WHOLEROW", b->at[0]->place, "%d loops over %s", last + 1, axis);
    }
    w.cut.index = qn_tool_block_index(t, axis);
    qn_block out = {0};
    qn_env *at = qn_env_push(env);
    for (int level = 0; level <= last + 1; level++) {
        for (int n = 0; n < w.entries.count; n++) {
            const entry *e = &w.entries.at[n];
            if (e->s && !e->row && e->level == level && e->s->kind != QN_YIELD) {
                qn_block_push(t->ir, &out, e->s);
                qn_env_stmt(at, e->s);
            }
        }
        if (level <= last) {
            write_loop(&w, level, &out, at);
        }
    }
    for (int n = 0; n < w.entries.count; n++) {
        const entry *e = &w.entries.at[n];
        if (e->s && e->s->kind == QN_YIELD) {
            qn_block_push(t->ir, &out, e->s);
        }
    }
    if (w.obstacle) { /* a type that cannot be told: leave the block as it was */
        qn_remark(t->cx, "W-REDUCED", w.place, "%s: %s", axis, w.obstacle);
        return false;
    }
    *b = out;
    qn_set_level(t->ir, t->kernel, "tiled");
    return true;
}

/* ---------------------------------------------------------------- blocks of a nest */

typedef struct walker {
    qn_tool *t;
    void (*f)(qn_tool *t, qn_env *env, qn_block *b, void *user);
    void *user;
} walker;

static void walk_block(const walker *w, qn_env *env, qn_block *b)
{
    qn_env *at = qn_env_push(env);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind == QN_FOR) {
            qn_env *inner = qn_env_push(at);
            qn_env_enter_loop(inner, s);
            walk_block(w, inner, &s->u.loop.body);
        } else if (s->kind == QN_IF) {
            walk_block(w, at, &s->u.branch.then);
            walk_block(w, at, &s->u.branch.other);
        }
        qn_env_stmt(at, s);
    }
    w->f(w->t, env, b, w->user);
}

void qn_each_block(qn_tool *t, void (*f)(qn_tool *t, qn_env *env, qn_block *b, void *user),
                   void *user)
{
    walker w = {t, f, user};
    qn_env *env = qn_env_push(t->env);
    qn_env_enter_loop(env, t->par);
    walk_block(&w, env, &t->par->u.loop.body);
}
