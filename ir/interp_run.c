/* SPDX-License-Identifier: MIT
 *
 * Statements of the oracle. A block leaves its values in the slots of their names; a yield leaves
 * its values to whoever runs the block. A loop keeps two sets of tiles for its carries and takes
 * turns, so that a trip's memory can be given back before the next one. */
#include "ir/interp_internal.h"

#include <string.h>

/* What a yield hands over: tiles in temp, to be copied before temp is released. */
typedef struct yielded {
    qn_val **at;
    int32_t count;
} yielded;

static void run_block(qn_interp_run *in, const qn_block *b, yielded *y);

static void fail_yield(qn_interp_run *in, int wanted, int given)
{
    qn_interp_fail(in, "V-YIELD", "%d values are wanted and %d are yielded", wanted, given);
}

static void deeper(qn_interp_run *in)
{
    if (++in->depth > QN_DEEPEST) {
        qn_interp_fail(in, "V-FUEL", "expressions or blocks nested too deeply");
    }
}

/* ---------------------------------------------------------------- simple statements */

static bool all_true(const qn_val *v)
{
    for (int64_t k = 0; k < v->count; k++) {
        if (!v->i[k]) {
            return false;
        }
    }
    return true;
}

static void let(qn_interp_run *in, const qn_stmt *s)
{
    qn_val *out[QN_MAX_AXES];
    int n = qn_interp_results(in, s->u.let.x, out);
    if (n != s->u.let.nnames) {
        qn_interp_fail(in, "V-NAME", "%d names for %d results", s->u.let.nnames, n);
    }
    bool mask = in->full && qn_attr_find(&s->attrs, "mask");
    for (int k = 0; k < n; k++) {
        if (mask && out[k]->i && !all_true(out[k])) {
            qn_interp_fail(in, "V-FACT", "inside a !full range, but %s is not all true",
                           s->u.let.names[k]);
        }
        const qn_val *v = qn_interp_settle(in, out[k], qn_dtype_settle(out[k]->dtype));
        bool alias = s->u.let.x->kind == QN_NAME && v == out[k];
        qn_interp_slot(in, s->u.let.names[k])->val = alias ? out[k] : qn_val_copy(in, &in->keep, v);
    }
}

static void buf(qn_interp_run *in, const qn_stmt *s)
{
    const qn_type *t = &s->u.buf.type;
    int64_t shape[QN_MAX_AXES];
    for (int k = 0; k < t->rank; k++) {
        shape[k] = qn_interp_extent(in, t->axes[k].extent);
    }
    qn_mem *m = qn_mem_new(in, &in->keep, s->u.buf.name, t->dtype, t->rank, shape);
    qn_mem_undefined(in, m);
    if (s->u.buf.space == QN_SPACE_CALL) {
        qn_mem_share(in, m);
    }
    if (s->u.buf.ring && t->rank > 0) {
        m->ring = qn_stack_take(in, &in->keep, shape[0], sizeof *m->ring);
        memset(m->ring, QN_RING_FREE, (size_t)shape[0]);
    }
    qn_interp_slot(in, s->u.buf.name)->mem = m;
}

static void flag(qn_interp_run *in, const qn_stmt *s)
{
    const qn_val *v = qn_interp_eval(in, s->u.flag.cond);
    if (!v->i) {
        qn_interp_fail(in, "V-TYPE", "the condition of a flag is no bool");
    }
    for (int64_t k = 0; k < v->count; k++) {
        if (v->i[k]) {
            in->flag = s->u.flag.code;
            return;
        }
    }
}

static void branch(qn_interp_run *in, const qn_stmt *s)
{
    const qn_val *c = qn_interp_eval(in, s->u.branch.cond);
    if (c->rank != 0 || c->dtype != QN_BOOL) {
        qn_interp_fail(in, "V-IF", "the condition of an if is no scalar bool");
    }
    if (c->e && c->e[0] > 0) {
        in->lost = true;
    }
    yielded y = {NULL, 0};
    if (c->i[0]) {
        run_block(in, &s->u.branch.then, &y);
    } else if (s->u.branch.has_else) {
        run_block(in, &s->u.branch.other, &y);
    }
    if (y.count < s->u.branch.nnames) {
        fail_yield(in, s->u.branch.nnames, y.count);
    }
    for (int k = 0; k < s->u.branch.nnames; k++) {
        qn_val *v = qn_interp_settle(in, y.at[k], qn_dtype_settle(y.at[k]->dtype));
        qn_interp_slot(in, s->u.branch.names[k])->val = qn_val_copy(in, &in->keep, v);
    }
}

/* ---------------------------------------------------------------- ranges */

/* Runs `body` for every combination of the iterators from `level` on. */
typedef struct walk {
    qn_interp_run *in;
    const qn_stmt *loop;
    qn_val *index, *end; /* tiles of the indices and ends, one each an iterator */
    void (*body)(struct walk *w);
    void *user;
} walk;

static void bind_int(qn_interp_run *in, qn_sym name, qn_val *v)
{
    qn_interp_slot(in, name)->val = v;
    (void)in;
}

/* at + step, or hi where that would be past it: at < hi, and nothing may wrap. */
static int64_t further(int64_t at, int64_t step, int64_t hi)
{
    return (uint64_t)step < (uint64_t)hi - (uint64_t)at ? at + step : hi;
}

static void walk_level(walk *w, int level)
{
    qn_interp_run *in = w->in;
    if (level == w->loop->u.loop.niters) {
        w->body(w);
        return;
    }
    deeper(in);
    const qn_iter *it = &w->loop->u.loop.iters[level];
    int64_t step = it->step ? qn_interp_int(in, it->step) : 1, seen = INT64_MIN;
    if (step <= 0) {
        qn_interp_fail(in, "V-LOOP", "a step must be positive and is %lld", (long long)step);
    }
    for (int p = 0; p < it->npieces; p++) {
        const qn_piece *piece = &it->pieces[p];
        int64_t lo = qn_interp_int(in, piece->lo), hi = qn_interp_int(in, piece->hi);
        if (!piece->list && hi > lo) {
            if (lo < seen) {
                qn_interp_fail(in, "V-LOOP", "the pieces of a range must rise and not overlap");
            }
            seen = hi;
        }
        for (int64_t at = lo; at < hi; at = further(at, step, hi)) {
            int64_t x = piece->list ? qn_interp_entry(in, piece->list, &piece->index, at) : at;
            w->index[level].i[0] = x;
            w->end[level].i[0] = hi;
            bind_int(in, it->name, &w->index[level]);
            if (it->end) {
                bind_int(in, it->end, &w->end[level]);
            }
            qn_interp_burn(in, 1);
            walk_level(w, level + 1);
        }
    }
    in->depth--;
}

static void walk_all(qn_interp_run *in, const qn_stmt *s, void (*body)(walk *w), void *user)
{
    int n = s->u.loop.niters;
    walk w = {in, s, NULL, NULL, body, user};
    w.index = qn_stack_take(in, &in->keep, n, sizeof *w.index);
    w.end = qn_stack_take(in, &in->keep, n, sizeof *w.end);
    for (int k = 0; k < n; k++) {
        w.index[k] = *qn_val_int(in, &in->keep, 0);
        w.end[k] = *qn_val_int(in, &in->keep, 0);
    }
    walk_level(&w, 0);
}

/* ---------------------------------------------------------------- loops */

typedef struct carry {
    qn_val *now, *next;
    double *now_e, *next_e; /* room for bounds; a tile drops its pointer when all are 0 */
} carry;

typedef struct loop_state {
    const qn_stmt *s;
    carry *carries;
    int nfull;
    int64_t (*full)[2];
    bool outer_full;
} loop_state;

static qn_val *carry_tile(qn_interp_run *in, const qn_type *t)
{
    qn_sym axis[QN_MAX_AXES];
    int64_t n[QN_MAX_AXES];
    for (int k = 0; k < t->rank; k++) {
        axis[k] = t->axes[k].name;
        n[k] = qn_interp_extent(in, t->axes[k].extent);
    }
    return qn_val_new(in, &in->keep, t->dtype, t->rank, axis, n);
}

/* Brings a value to the type of a carry. */
static void widen(qn_interp_run *in, qn_val *v, qn_val *to, double *room)
{
    v = qn_interp_settle(in, v, to->dtype);
    for (int k = 0; k < v->rank; k++) {
        int at = qn_val_axis(to, v->axis[k]);
        if (at < 0 || to->n[at] != v->n[k]) {
            qn_interp_fail(in, "V-CARRY", "axis %s does not fit the carry", v->axis[k]);
        }
    }
    to->e = room;
    qn_val_spread_into(in, v, to);
    qn_val_trim(to);
    qn_interp_burn(in, to->count);
}

static void bind_carries(qn_interp_run *in, const loop_state *l)
{
    for (int k = 0; k < l->s->u.loop.ncarries; k++) {
        qn_interp_slot(in, l->s->u.loop.carries[k].name)->val = l->carries[k].now;
    }
}

static void trip(walk *w)
{
    qn_interp_run *in = w->in;
    loop_state *l = w->user;
    int n = l->s->u.loop.ncarries;
    qn_stack_mark keep = qn_stack_at(in, &in->keep), temp = qn_stack_at(in, &in->temp);
    bind_carries(in, l);
    in->full = l->outer_full;
    for (int k = 0; k < l->nfull; k++) {
        int64_t x = w->index[0].i[0];
        in->full = in->full || (x >= l->full[k][0] && x < l->full[k][1]);
    }
    yielded y = {NULL, 0};
    run_block(in, &l->s->u.loop.body, &y);
    if (y.count < n) {
        in->place = l->s->place;
        fail_yield(in, n, y.count);
    }
    for (int k = 0; k < n; k++) {
        widen(in, y.at[k], l->carries[k].next, l->carries[k].next_e);
    }
    for (int k = 0; k < n; k++) {
        carry *c = &l->carries[k];
        *c = (carry){c->next, c->now, c->next_e, c->now_e};
    }
    qn_stack_release(&in->temp, temp);
    qn_stack_release(&in->keep, keep);
    in->place = l->s->place;
}

/* The !full(lo..hi) facts of a loop. */
static void full_ranges(qn_interp_run *in, const qn_stmt *s, loop_state *l)
{
    int room = 0;
    for (int k = 0; k < s->attrs.count; k++) {
        room += s->attrs.at[k].nargs;
    }
    l->full = qn_stack_take(in, &in->keep, room, sizeof *l->full);
    for (int k = 0; k < s->attrs.count; k++) {
        const qn_attr *a = &s->attrs.at[k];
        for (int j = 0; strcmp(a->name, "full") == 0 && j < a->nargs; j++) {
            if (a->args[j].hi) {
                l->full[l->nfull][0] = qn_interp_int(in, a->args[j].lo);
                l->full[l->nfull][1] = qn_interp_int(in, a->args[j].hi);
                l->nfull++;
            }
        }
    }
}

static void loop(qn_interp_run *in, const qn_stmt *s)
{
    loop_state l = {.s = s, .outer_full = in->full};
    int n = s->u.loop.ncarries;
    l.carries = qn_stack_take(in, &in->keep, n, sizeof *l.carries);
    for (int k = 0; k < n; k++) {
        const qn_carry *c = &s->u.loop.carries[k];
        carry *to = &l.carries[k];
        to->now = carry_tile(in, &c->type);
        to->next = carry_tile(in, &c->type);
        to->now_e = to->now->e;
        to->next_e = to->next->e;
        widen(in, qn_interp_eval(in, c->init), to->now, to->now_e);
    }
    full_ranges(in, s, &l);
    walk_all(in, s, trip, &l);
    in->full = l.outer_full;
    bind_carries(in, &l);
}

/* ---------------------------------------------------------------- launches */

/* The tasks of a launch, in task order: rows of indices and ends in a table that grows. */
typedef struct tasks {
    const qn_stmt **nest; /* of each task */
    int64_t **row;
    int64_t count, cap;
} tasks;

static void *wider(qn_interp_run *in, const void *at, int64_t count, int64_t cap)
{
    void *p = qn_stack_take(in, &in->keep, cap, sizeof(void *));
    if (count) {
        memcpy(p, at, sizeof(void *) * (size_t)count);
    }
    return p;
}

static void add_task(walk *w)
{
    qn_interp_run *in = w->in;
    tasks *t = w->user;
    int n = w->loop->u.loop.niters;
    if (t->count >= INT32_MAX) {
        qn_interp_fail(in, "V-FUEL", "a launch of more than 2^31 tasks");
    }
    if (t->count == t->cap) {
        int64_t cap = t->cap ? t->cap * 2 : 64;
        t->nest = wider(in, t->nest, t->count, cap);
        t->row = wider(in, t->row, t->count, cap);
        t->cap = cap;
    }
    int64_t *row = qn_stack_take(in, &in->keep, 2 * (int64_t)n, sizeof *row);
    for (int k = 0; k < n; k++) {
        row[2 * k] = w->index[k].i[0];
        row[2 * k + 1] = w->end[k].i[0];
    }
    t->nest[t->count] = w->loop;
    t->row[t->count++] = row;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void run_task(qn_interp_run *in, const tasks *t, int64_t number)
{
    const qn_stmt *nest = t->nest[number];
    const int64_t *row = t->row[number];
    qn_stack_mark keep = qn_stack_at(in, &in->keep), temp = qn_stack_at(in, &in->temp);
    for (int k = 0; k < nest->u.loop.niters; k++) {
        const qn_iter *it = &nest->u.loop.iters[k];
        bind_int(in, it->name, qn_val_int(in, &in->keep, row[2 * k]));
        if (it->end) {
            bind_int(in, it->end, qn_val_int(in, &in->keep, row[2 * k + 1]));
        }
    }
    in->task = (int32_t)number;
    in->full = false;
    yielded y = {NULL, 0};
    run_block(in, &nest->u.loop.body, &y);
    qn_stack_release(&in->temp, temp);
    qn_stack_release(&in->keep, keep);
}

static void launch(qn_interp_run *in, const qn_stmt *s)
{
    qn_mem_untag(in);
    qn_stack_mark keep = qn_stack_at(in, &in->keep), defer = qn_stack_at(in, &in->defer);
    tasks t = {NULL, NULL, 0, 0};
    in->task = QN_MANY_TASKS; /* what decides the tasks may not be written by one */
    for (int k = 0; k < s->u.launch.count; k++) {
        const qn_stmt *nest = s->u.launch.at[k];
        if (nest->kind != QN_FOR) {
            qn_interp_fail(in, "V-PAR", "a launch holds par nests only");
        }
        in->place = nest->place;
        walk_all(in, nest, add_task, &t);
    }
    int64_t *order = qn_stack_take(in, &in->keep, t.count, sizeof *order);
    for (int64_t k = 0; k < t.count; k++) {
        order[k] = k;
    }
    uint64_t state = in->options->shuffle;
    for (int64_t k = t.count - 1; in->options->shuffle && k > 0; k--) {
        int64_t j = (int64_t)(next_random(&state) % (uint64_t)(k + 1)), o = order[k];
        order[k] = order[j];
        order[j] = o;
    }
    for (int64_t k = 0; k < t.count; k++) {
        run_task(in, &t, order[k]);
    }
    in->task = QN_NO_TASK;
    in->place = s->place;
    qn_interp_land(in);
    qn_stack_release(&in->keep, keep);
    qn_stack_release(&in->defer, defer);
}

/* ---------------------------------------------------------------- blocks */

static void yield_values(qn_interp_run *in, const qn_stmt *s, yielded *y)
{
    y->count = s->u.yield.count;
    y->at = qn_stack_take(in, &in->temp, y->count, sizeof *y->at);
    for (int k = 0; k < y->count; k++) {
        y->at[k] = qn_interp_eval(in, s->u.yield.at[k]);
    }
}

static void run_stmt(qn_interp_run *in, const qn_stmt *s, yielded *y)
{
    switch (s->kind) {
    case QN_LET:
        let(in, s);
        break;
    case QN_BUF:
        buf(in, s);
        break;
    case QN_STORE:
        qn_interp_store(in, s);
        break;
    case QN_FOR:
        loop(in, s);
        break;
    case QN_IF:
        branch(in, s);
        break;
    case QN_YIELD:
        yield_values(in, s, y);
        break;
    case QN_SYNC:
        qn_interp_sync(in, s);
        break;
    case QN_LAUNCH:
        launch(in, s);
        break;
    case QN_FLAG:
        flag(in, s);
        break;
    case QN_PREFETCH:
        break;
    }
}

static void run_block(qn_interp_run *in, const qn_block *b, yielded *y)
{
    deeper(in);
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        qn_stack_mark temp = qn_stack_at(in, &in->temp);
        in->place = s->place;
        qn_interp_burn(in, 1);
        run_stmt(in, s, y);
        if (s->kind == QN_YIELD) {
            break;
        }
        qn_stack_release(&in->temp, temp);
    }
    in->depth--;
}

void qn_interp_block(qn_interp_run *in, const qn_block *b)
{
    yielded y = {NULL, 0};
    run_block(in, b, &y);
}
