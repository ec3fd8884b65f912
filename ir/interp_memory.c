/* SPDX-License-Identifier: MIT
 *
 * Tensors and buffers: loads and stores by index tiles, and the rules that only a run can check.
 *
 * An access is first turned into offsets, one an element in the order of its axes; a negative one
 * is out of range. Each index is scaled on its own small tile and then spread, so a block costs
 * one addition an element and index.
 *
 * Memory that tasks share carries two tags an element for the launch at hand: who wrote it and who
 * read it. Any two tasks that meet where one of them writes is V-RACE. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

/* Small enough that a sum of QN_MAX_AXES of them does not wrap, greater than any tensor. */
#define OUTSIDE (-((int64_t)1 << 58))

typedef struct access {
    qn_val shape;        /* axes of the indices, by first appearance: memory order of a block */
    int64_t *at;         /* offsets */
    double *doubt;       /* NULL, or inf where an index is in doubt */
    bool left;           /* some offset is out of range */
    bool injective;      /* no two elements can meet */
    const qn_val *first; /* the value of the first index: the slot of a ring */
} access;

/* ---------------------------------------------------------------- making memory */

qn_mem *qn_mem_new(qn_interp_run *in, qn_stack *s, qn_sym name, qn_dtype dtype, int rank,
                   const int64_t *shape)
{
    qn_mem *m = qn_stack_take(in, s, 1, sizeof *m);
    memset(m, 0, sizeof *m);
    m->name = name;
    m->dtype = dtype;
    m->rank = rank;
    for (int k = 0; k < rank; k++) {
        m->shape[k] = shape[k];
    }
    m->count = qn_interp_volume(in, rank, shape);
    if (qn_dtype_is_float(dtype)) {
        m->f = qn_stack_take(in, s, m->count, sizeof *m->f);
    } else {
        m->i = qn_stack_take(in, s, m->count, sizeof *m->i);
    }
    if (in->bounds) {
        m->e = qn_stack_take(in, s, m->count, sizeof *m->e);
    }
    return m;
}

void qn_mem_undefined(qn_interp_run *in, qn_mem *m)
{
    int64_t junk = qn_wrap_int(m->dtype, (int64_t)0xA5A5A5A5A5A5A5A5u);
    for (int64_t k = 0; k < m->count; k++) {
        if (m->f) {
            m->f[k] = NAN;
        } else {
            m->i[k] = m->dtype == QN_BOOL ? 0 : junk;
        }
    }
    for (int64_t k = 0; m->e && k < m->count; k++) {
        m->e[k] = INFINITY;
    }
    qn_interp_burn(in, m->count);
}

void qn_mem_share(qn_interp_run *in, qn_mem *m)
{
    m->shared = true;
    m->wrote = qn_stack_take(in, &in->keep, m->count, sizeof *m->wrote);
    m->read = qn_stack_take(in, &in->keep, m->count, sizeof *m->read);
    m->next = in->memories;
    in->memories = m;
}

void qn_mem_untag(qn_interp_run *in)
{
    for (qn_mem *m = in->memories; m; m = m->next) {
        for (int64_t k = 0; k < m->count; k++) {
            m->wrote[k] = m->read[k] = QN_NO_TASK;
        }
    }
}

static qn_mem *memory(qn_interp_run *in, qn_sym base, int indices)
{
    qn_mem *m = qn_interp_slot(in, base)->mem;
    if (!m) {
        qn_interp_fail(in, "V-NAME", "%s is no memory here", base);
    }
    if (m->rank != indices) {
        qn_interp_fail(in, "V-RANK", "%s has %d indices and is given %d", base, m->rank, indices);
    }
    return m;
}

/* ---------------------------------------------------------------- offsets */

static bool rises(const qn_val *v)
{
    for (int64_t k = 1; k < v->count; k++) {
        if (v->i[k] <= v->i[k - 1]) {
            return false;
        }
    }
    return true;
}

static void add_spread(qn_interp_run *in, access *a, const qn_val *part)
{
    qn_walker w;
    qn_walker_init(&w, part, a->shape.rank, a->shape.axis, a->shape.n);
    for (int64_t at = 0; at < a->shape.count; at += QN_CHUNK) {
        int64_t n = a->shape.count - at < QN_CHUNK ? a->shape.count - at : QN_CHUNK;
        const int64_t *p = in->chunk_i[0];
        if (w.dense) {
            p = part->i + at;
        } else {
            qn_walker_copy(&w, in->chunk_i[0], part->i, n);
            qn_walker_skip(&w, n);
        }
        for (int64_t k = 0; k < n; k++) {
            a->at[at + k] += p[k];
        }
    }
}

static void add_doubt(qn_interp_run *in, access *a, const qn_val *index)
{
    double *d = qn_stack_take(in, &in->temp, a->shape.count, sizeof *d);
    if (a->shape.count == 0) {
        return;
    }
    qn_walker w;
    qn_walker_init(&w, index, a->shape.rank, a->shape.axis, a->shape.n);
    qn_walker_copy(&w, d, index->e, a->shape.count);
    for (int64_t k = 0; a->doubt && k < a->shape.count; k++) {
        d[k] = d[k] > 0 || a->doubt[k] > 0 ? INFINITY : 0;
    }
    a->doubt = d;
}

static access offsets(qn_interp_run *in, const qn_mem *m, const qn_exprs *index)
{
    access a = {.doubt = NULL, .left = false};
    const qn_val *ix[QN_MAX_AXES];
    for (int k = 0; k < m->rank; k++) {
        ix[k] = qn_interp_eval(in, index->at[k]);
        if (!ix[k]->i || ix[k]->dtype == QN_BOOL) {
            qn_interp_fail(in, "V-TYPE", "an index of %s is no integer", m->name);
        }
    }
    a.first = m->rank ? ix[0] : NULL;
    qn_val_union(in, ix, m->rank, false, &a.shape);
    qn_interp_burn(in, a.shape.count);
    a.at = qn_stack_take(in, &in->temp, a.shape.count, sizeof *a.at);

    int64_t stride = 1, base = 0;
    bool reached[QN_MAX_AXES] = {false};
    qn_val *parts[QN_MAX_AXES];
    int nparts = 0;
    for (int k = m->rank - 1; k >= 0; k--) {
        uint64_t extent = (uint64_t)m->shape[k];
        if (ix[k]->rank == 0) {
            base += (uint64_t)ix[k]->i[0] < extent ? ix[k]->i[0] * stride : OUTSIDE;
        } else {
            qn_val *part = qn_stack_take(in, &in->temp, 1, sizeof *part);
            *part = *ix[k];
            part->e = NULL;
            part->i = qn_stack_take(in, &in->temp, part->count, sizeof *part->i);
            for (int64_t j = 0; j < part->count; j++) {
                int64_t x = ix[k]->i[j];
                part->i[j] = (uint64_t)x < extent ? x * stride : OUTSIDE;
            }
            if (part->rank == 1 && rises(ix[k])) {
                reached[qn_val_axis(&a.shape, part->axis[0])] = true;
            }
            parts[nparts++] = part;
        }
        stride *= m->shape[k];
    }
    a.injective = true;
    for (int k = 0; k < a.shape.rank; k++) {
        a.injective = a.injective && (reached[k] || a.shape.n[k] == 1);
    }
    for (int64_t k = 0; k < a.shape.count; k++) {
        a.at[k] = base;
    }
    for (int k = 0; k < nparts; k++) {
        add_spread(in, &a, parts[k]);
    }
    for (int k = 0; k < m->rank; k++) {
        if (ix[k]->e) {
            add_doubt(in, &a, ix[k]);
        }
    }
    for (int64_t k = 0; k < a.shape.count; k++) {
        if (a.at[k] < 0) {
            a.left = true;
            break;
        }
    }
    return a;
}

/* Every slot that the access touches must be in one of the states of the mask. */
static void ring_in(qn_interp_run *in, const qn_mem *m, const access *a, unsigned states,
                    const char *what)
{
    for (int64_t k = 0; k < a->first->count; k++) {
        int64_t slot = a->first->i[k];
        if (slot >= 0 && slot < m->shape[0] && !(states >> m->ring[slot] & 1)) {
            qn_interp_fail(in, "V-RING", "%s %s slot %lld", m->name, what, (long long)slot);
        }
    }
}

/* ---------------------------------------------------------------- load */

static void tag_reads(qn_interp_run *in, qn_mem *m, const access *a)
{
    for (int64_t k = 0; k < a->shape.count; k++) {
        int64_t at = a->at[k];
        if (at < 0) {
            continue;
        }
        if (m->wrote[at] != QN_NO_TASK && m->wrote[at] != in->task) {
            qn_interp_fail(in, "V-RACE", "%s is read where another task of this launch writes",
                           m->name);
        }
        m->read[at] =
            m->read[at] == QN_NO_TASK || m->read[at] == in->task ? in->task : QN_MANY_TASKS;
    }
}

qn_val *qn_interp_load(qn_interp_run *in, const qn_expr *x)
{
    qn_mem *m = memory(in, x->u.load.base, x->u.load.index.count);
    access a = offsets(in, m, &x->u.load.index);
    if (a.left && !x->u.load.guarded) {
        qn_interp_fail(in, "V-BOUND", "%s[..] reads outside its extents", m->name);
    }
    if (m->shared && in->task != QN_NO_TASK) {
        tag_reads(in, m, &a);
    }
    if (m->ring) {
        ring_in(in, m, &a, 1u << QN_RING_READY, "is read before it is awaited:");
    }
    qn_val *r = qn_val_new(in, &in->temp, m->dtype, a.shape.rank, a.shape.axis, a.shape.n);
    double pad_f = 0;
    int64_t pad_i = 0;
    if (x->u.load.pad) {
        qn_val *pad = qn_interp_eval(in, x->u.load.pad);
        pad = qn_interp_settle(in, pad, m->dtype);
        pad_f = pad->f ? pad->f[0] : 0;
        pad_i = pad->i ? pad->i[0] : 0;
    }
    for (int64_t k = 0; k < r->count; k++) {
        int64_t at = a.at[k];
        if (r->f) {
            r->f[k] = at < 0 ? pad_f : m->f[at];
        } else {
            r->i[k] = at < 0 ? pad_i : m->i[at];
        }
    }
    if (r->e && !m->e && !a.doubt && !m->lost) {
        r->e = NULL;
    }
    for (int64_t k = 0; r->e && k < r->count; k++) {
        int64_t at = a.at[k];
        bool lost = m->lost || (a.doubt && a.doubt[k] > 0);
        r->e[k] = lost ? INFINITY : at < 0 || !m->e ? 0 : m->e[at];
    }
    qn_val_trim(r);
    return r;
}

int64_t qn_interp_entry(qn_interp_run *in, qn_sym base, const qn_exprs *index, int64_t last)
{
    qn_mem *m = memory(in, base, index->count + 1);
    int64_t at = 0;
    for (int k = 0; k < m->rank; k++) {
        int64_t x = k < index->count ? qn_interp_int(in, index->at[k]) : last;
        if (x < 0 || x >= m->shape[k]) {
            qn_interp_fail(in, "V-BOUND", "the list %s is read outside its extents", base);
        }
        at = at * m->shape[k] + x;
    }
    if (!m->i) {
        qn_interp_fail(in, "V-LOOP", "the list %s holds no integers", base);
    }
    if (m->shared && in->task != QN_NO_TASK) {
        access a = {.at = &at, .shape = {.count = 1}};
        tag_reads(in, m, &a);
    }
    if ((m->e && m->e[at] > 0) || m->lost) {
        in->lost = true;
    }
    qn_interp_burn(in, 1);
    return m->i[at];
}

/* ---------------------------------------------------------------- store */

typedef struct qn_deferred { /* an ordered store, kept until its launch ends */
    int32_t task;
    int64_t sequence;
    qn_mem *m;
    qn_store_mode mode;
    int64_t n, *at;
    double *f, *e;
    int64_t *i;
} deferred;

static void tag_writes(qn_interp_run *in, qn_mem *m, const access *a, bool combined)
{
    for (int64_t k = 0; k < a->shape.count; k++) {
        int64_t at = a->at[k];
        if (at < 0) {
            continue;
        }
        int32_t w = m->wrote[at], r = m->read[at];
        bool mine =
            combined ? w == QN_NO_TASK || w == QN_COMBINED : w == QN_NO_TASK || w == in->task;
        if (!mine || (r != QN_NO_TASK && r != in->task)) {
            qn_interp_fail(in, "V-RACE", "two tasks of this launch meet at %s", m->name);
        }
        m->wrote[at] = combined ? QN_COMBINED : in->task;
    }
}

/* A set of the offsets seen so far: open addressing, twice as large as it can fill. */
static void refuse_doubles(qn_interp_run *in, const qn_mem *m, const access *a)
{
    int64_t size = 2;
    while (size < 2 * a->shape.count) {
        size *= 2;
    }
    int64_t *seen = qn_stack_take(in, &in->temp, size, sizeof *seen);
    for (int64_t k = 0; k < size; k++) {
        seen[k] = -1;
    }
    for (int64_t k = 0; k < a->shape.count; k++) {
        int64_t at = a->at[k];
        if (at < 0) {
            continue;
        }
        uint64_t h = (uint64_t)at * 0x9E3779B97F4A7C15u >> 20;
        int64_t p = (int64_t)(h & (uint64_t)(size - 1));
        while (seen[p] >= 0 && seen[p] != at) {
            p = (p + 1) & (size - 1);
        }
        if (seen[p] == at) {
            qn_interp_fail(in, "V-DUP", "two elements of one store meet in %s", m->name);
        }
        seen[p] = at;
    }
}

/* m[at] = m[at] combined with one element, rounded to the memory's dtype. */
static void combine(qn_interp_run *in, qn_mem *m, qn_store_mode mode, int64_t at, double f,
                    double e, int64_t i)
{
    qn_op op = mode == QN_STORE_ADD ? QN_OP_ADD : mode == QN_STORE_MAX ? QN_OP_MAX : QN_OP_MIN;
    double was_e = m->e ? m->e[at] : 0;
    qn_lanes c = {.n = 1, .dtype = m->dtype, .result = m->dtype};
    c.f[0] = m->f ? &m->f[at] : NULL;
    c.f[1] = &f;
    c.i[0] = m->i ? &m->i[at] : NULL;
    c.i[1] = &i;
    c.e[0] = &was_e;
    c.e[1] = &e;
    double rf = 0, re = 0;
    int64_t ri = 0;
    c.rf = &rf;
    c.ri = &ri;
    c.re = m->e ? &re : NULL;
    qn_lanes_format(&c);
    qn_lanes_run(op, &c);
    if (m->f) {
        m->f[at] = in->typed ? qn_round_float(m->dtype, rf) : rf;
    } else {
        m->i[at] = ri;
    }
    if (m->e) {
        m->e[at] = re;
    }
}

static void defer(qn_interp_run *in, const qn_stmt *s, qn_mem *m, const access *a, const qn_val *v)
{
    if (in->ndeferred == in->deferred_cap) {
        int64_t cap = in->deferred_cap ? in->deferred_cap * 2 : 64;
        deferred *wider = qn_stack_take(in, &in->defer, cap, sizeof *wider);
        if (in->ndeferred) {
            memcpy(wider, in->deferred, sizeof *wider * (size_t)in->ndeferred);
        }
        in->deferred = wider;
        in->deferred_cap = cap;
    }
    int64_t n = 0;
    for (int64_t k = 0; k < a->shape.count; k++) {
        n += a->at[k] >= 0;
    }
    deferred d = {.task = in->task, .sequence = in->ndeferred, .m = m, .mode = s->u.store.mode};
    d.at = qn_stack_take(in, &in->defer, n, sizeof *d.at);
    d.f = v->f ? qn_stack_take(in, &in->defer, n, sizeof *d.f) : NULL;
    d.e = v->e ? qn_stack_take(in, &in->defer, n, sizeof *d.e) : NULL;
    d.i = v->i ? qn_stack_take(in, &in->defer, n, sizeof *d.i) : NULL;
    for (int64_t k = 0; k < a->shape.count; k++) {
        if (a->at[k] < 0) {
            continue;
        }
        d.at[d.n] = a->at[k];
        if (d.f) {
            d.f[d.n] = v->f[k];
        } else {
            d.i[d.n] = v->i[k];
        }
        if (d.e) {
            d.e[d.n] = v->e[k];
        }
        d.n++;
    }
    in->deferred[in->ndeferred++] = d;
}

static int by_task(const deferred *a, const deferred *b)
{
    return a->task != b->task ? (a->task < b->task ? -1 : 1)
                              : (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

/* Bottom-up merge sort: the standard one may ask the heap for memory. */
static deferred *sorted(qn_interp_run *in)
{
    int64_t n = in->ndeferred;
    deferred *from = in->deferred, *to = qn_stack_take(in, &in->defer, n, sizeof *to);
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * width) {
            int64_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
            for (int64_t a = lo, b = mid, k = lo; k < hi; k++) {
                bool left = b == hi || (a < mid && by_task(&from[a], &from[b]) <= 0);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        deferred *t = from;
        from = to;
        to = t;
    }
    return from;
}

void qn_interp_land(qn_interp_run *in)
{
    deferred *d = in->ndeferred ? sorted(in) : NULL;
    for (int64_t s = 0; s < in->ndeferred; s++) {
        for (int64_t k = 0; k < d[s].n; k++) {
            combine(in, d[s].m, d[s].mode, d[s].at[k], d[s].f ? d[s].f[k] : 0,
                    d[s].e ? d[s].e[k] : 0, d[s].i ? d[s].i[k] : 0);
        }
        qn_interp_burn(in, d[s].n);
    }
    in->deferred = NULL;
    in->ndeferred = in->deferred_cap = 0;
}

static void put(const access *a, qn_mem *m, const qn_val *v)
{
    for (int64_t k = 0; k < a->shape.count; k++) {
        int64_t at = a->at[k];
        if (at < 0) {
            continue;
        }
        if (m->f) {
            m->f[at] = v->f[k];
        } else {
            m->i[at] = v->i[k];
        }
        if (m->e) {
            m->e[at] = v->e ? v->e[k] : 0;
        }
    }
}

void qn_interp_store(qn_interp_run *in, const qn_stmt *s)
{
    qn_mem *m = memory(in, s->u.store.base, s->u.store.index.count);
    qn_val *x = qn_interp_eval(in, s->u.store.x);
    x = qn_interp_settle(in, x, m->dtype);
    access a = offsets(in, m, &s->u.store.index);
    for (int k = 0; k < x->rank; k++) {
        int at = qn_val_axis(&a.shape, x->axis[k]);
        if (at < 0 || a.shape.n[at] != x->n[k]) {
            qn_interp_fail(in, "V-STORE", "axis %s of the value is not in the index", x->axis[k]);
        }
    }
    const qn_val *v = qn_val_spread(in, x, a.shape.rank, a.shape.axis, a.shape.n);
    if (a.left && qn_attr_find(&s->attrs, "in")) {
        qn_interp_fail(in, "V-FACT", "!in, but the store leaves the extents of %s", m->name);
    }
    bool plain = s->u.store.mode == QN_STORE_SET;
    if (m->shared && in->task != QN_NO_TASK) {
        tag_writes(in, m, &a, !plain);
    }
    if (m->ring) {
        if (s->u.store.start) {
            ring_in(in, m, &a, 1u << QN_RING_FREE | 1u << QN_RING_STARTED,
                    "is started into before it is freed:");
        }
        for (int64_t k = 0; k < a.first->count; k++) {
            int64_t slot = a.first->i[k];
            if (slot >= 0 && slot < m->shape[0]) {
                m->ring[slot] = s->u.store.start ? QN_RING_STARTED : QN_RING_READY;
            }
        }
    }
    for (int64_t k = 0; a.doubt && k < a.shape.count && !m->lost; k++) {
        m->lost = a.doubt[k] > 0;
    }
    if (plain) {
        if (!a.injective) {
            refuse_doubles(in, m, &a);
        }
        put(&a, m, v);
    } else if (s->u.store.order == QN_STORE_ORDERED) {
        defer(in, s, m, &a, v);
    } else {
        for (int64_t k = 0; k < a.shape.count; k++) {
            if (a.at[k] >= 0) {
                combine(in, m, s->u.store.mode, a.at[k], v->f ? v->f[k] : 0, v->e ? v->e[k] : 0,
                        v->i ? v->i[k] : 0);
            }
        }
    }
}

/* ---------------------------------------------------------------- rings */

void qn_interp_sync(qn_interp_run *in, const qn_stmt *s)
{
    qn_mem *m = qn_interp_slot(in, s->u.sync.base)->mem;
    if (!m || !m->ring || s->u.sync.index.count < 1) {
        qn_interp_fail(in, "V-RING", "%s is no ring", s->u.sync.base);
    }
    int64_t slot = qn_interp_int(in, s->u.sync.index.at[0]);
    if (slot < 0 || slot >= m->shape[0]) {
        qn_interp_fail(in, "V-RING", "%s has no slot %lld", m->name, (long long)slot);
    }
    uint8_t wanted = s->u.sync.await ? QN_RING_STARTED : QN_RING_READY;
    if (m->ring[slot] != wanted) {
        qn_interp_fail(in, "V-RING", "%s slot %lld of %s, which %s",
                       s->u.sync.await ? "await of" : "free of", (long long)slot, m->name,
                       m->ring[slot] == QN_RING_FREE      ? "is free"
                       : m->ring[slot] == QN_RING_STARTED ? "is still being filled"
                                                          : "is ready already");
    }
    m->ring[slot] = s->u.sync.await ? QN_RING_READY : QN_RING_FREE;
}
