/* SPDX-License-Identifier: MIT
 *
 * Tiles: where their numbers lie, and how one is read in another order of axes. */
#include "ir/interp_internal.h"

#include <math.h>
#include <string.h>

#define BLOCK_FIRST ((size_t)1 << 18)
#define BLOCK_MOST  ((size_t)1 << 26)

/* ---------------------------------------------------------------- stacks */

static void charge(qn_interp_run *in, size_t bytes)
{
    int64_t most = in->options->max_bytes > 0 ? in->options->max_bytes : (int64_t)2 << 30;
    if (bytes > (size_t)(most - in->bytes)) {
        qn_interp_fail(in, "V-FUEL", "the tiles of this call need more than %lld MiB",
                       (long long)(most >> 20));
    }
    in->bytes += (int64_t)bytes;
}

static qn_stack_block *block_after(qn_interp_run *in, qn_stack *s, size_t bytes)
{
    qn_stack_block *b = s->now ? s->now->next : s->first;
    if (b && b->size >= bytes) {
        b->used = 0;
        return b;
    }
    size_t size = s->now && s->now->size < BLOCK_MOST ? s->now->size * 2 : BLOCK_FIRST;
    size = size < bytes ? bytes : size;
    charge(in, size);
    qn_stack_block *fresh = QN_NEW(&in->arena, qn_stack_block);
    fresh->bytes = qn_arena_alloc(&in->arena, size, 64);
    fresh->size = size;
    fresh->next = b;
    if (s->now) {
        s->now->next = fresh;
    } else {
        s->first = fresh;
    }
    return fresh;
}

void *qn_stack_take(qn_interp_run *in, qn_stack *s, int64_t count, size_t size)
{
    if (count < 0 || (uint64_t)count > ((uint64_t)1 << 46) / size) {
        qn_interp_fail(in, "V-FUEL", "a tile of %lld elements", (long long)count);
    }
    size_t bytes = ((size_t)count * size + 15) & ~(size_t)15;
    if (!s->now || s->now->size - s->now->used < bytes) {
        s->now = block_after(in, s, bytes);
    }
    void *p = s->now->bytes + s->now->used;
    s->now->used += bytes;
    return p;
}

qn_stack_mark qn_stack_at(qn_interp_run *in, qn_stack *s)
{
    if (!s->now) {
        s->now = block_after(in, s, 0);
    }
    return (qn_stack_mark){s->now, s->now->used};
}

void qn_stack_release(qn_stack *s, qn_stack_mark m)
{
    s->now = m.block;
    s->now->used = m.used;
}

/* ---------------------------------------------------------------- names */

static uint32_t hash_pointer(const void *p)
{
    uint64_t h = (uint64_t)(uintptr_t)p * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

static uint32_t find(const qn_interp_run *in, const void *key)
{
    uint32_t mask = in->names.cap - 1, h = hash_pointer(key) & mask;
    while (in->names.key[h] && in->names.key[h] != key) {
        h = (h + 1) & mask;
    }
    return h;
}

qn_slot *qn_interp_slot(qn_interp_run *in, const void *key)
{
    if (in->names.count * 2 >= in->names.cap) {
        uint32_t old = in->names.cap;
        const void **keys = in->names.key;
        qn_slot *slots = in->names.slot;
        in->names.cap = old ? old * 2 : 256;
        in->names.key = QN_NEWN(&in->arena, const void *, in->names.cap);
        in->names.slot = QN_NEWN(&in->arena, qn_slot, in->names.cap);
        for (uint32_t k = 0; k < old; k++) {
            if (keys[k]) {
                uint32_t h = find(in, keys[k]);
                in->names.key[h] = keys[k];
                in->names.slot[h] = slots[k];
            }
        }
    }
    uint32_t h = find(in, key);
    if (!in->names.key[h]) {
        in->names.key[h] = key;
        in->names.count++;
    }
    return &in->names.slot[h];
}

/* ---------------------------------------------------------------- tiles */

int64_t qn_interp_volume(qn_interp_run *in, int rank, const int64_t *n)
{
    int64_t most = (int64_t)1 << 40, volume = 1;
    for (int k = 0; k < rank; k++) {
        if (n[k] == 0) {
            return 0;
        }
    }
    for (int k = 0; k < rank; k++) {
        if (n[k] < 0 || volume > most / n[k]) {
            qn_interp_fail(in, "V-FUEL", "a tile of more than 2^40 elements");
        }
        volume *= n[k];
    }
    return volume;
}

/* Room for the numbers of a tile whose shape is known. */
static void furnish(qn_interp_run *in, qn_stack *s, qn_val *v)
{
    if (qn_dtype_is_float(v->dtype)) {
        v->f = qn_stack_take(in, s, v->count, sizeof *v->f);
    } else {
        v->i = qn_stack_take(in, s, v->count, sizeof *v->i);
    }
    if (in->bounds) {
        v->e = qn_stack_take(in, s, v->count, sizeof *v->e);
    }
}

qn_val *qn_val_new(qn_interp_run *in, qn_stack *s, qn_dtype dtype, int rank, const qn_sym *axis,
                   const int64_t *n)
{
    qn_val *v = qn_stack_take(in, s, 1, sizeof *v);
    v->dtype = dtype;
    v->rank = rank;
    v->f = v->e = NULL;
    v->i = NULL;
    for (int k = 0; k < rank; k++) {
        v->axis[k] = axis[k];
        v->n[k] = n[k];
    }
    v->count = qn_interp_volume(in, rank, n);
    furnish(in, s, v);
    return v;
}

qn_val *qn_val_int(qn_interp_run *in, qn_stack *s, int64_t x)
{
    qn_val *v = qn_stack_take(in, s, 1, sizeof *v);
    v->dtype = QN_I64;
    v->rank = 0;
    v->count = 1;
    v->f = v->e = NULL;
    v->i = qn_stack_take(in, s, 1, sizeof *v->i);
    v->i[0] = x;
    return v;
}

qn_val *qn_val_float(qn_interp_run *in, qn_stack *s, qn_dtype dtype, double x)
{
    qn_val *v = qn_val_int(in, s, 0);
    v->dtype = dtype;
    v->f = (double *)(void *)v->i;
    v->f[0] = x;
    v->i = NULL;
    return v;
}

qn_val *qn_val_copy(qn_interp_run *in, qn_stack *s, const qn_val *v)
{
    qn_val *c = qn_stack_take(in, s, 1, sizeof *c);
    *c = *v;
    size_t bytes = (size_t)v->count * 8;
    if (v->f) {
        c->f = memcpy(qn_stack_take(in, s, v->count, 8), v->f, bytes);
    }
    if (v->i) {
        c->i = memcpy(qn_stack_take(in, s, v->count, 8), v->i, bytes);
    }
    if (v->e) {
        c->e = memcpy(qn_stack_take(in, s, v->count, 8), v->e, bytes);
    }
    return c;
}

int qn_val_axis(const qn_val *v, qn_sym axis)
{
    for (int k = 0; k < v->rank; k++) {
        if (v->axis[k] == axis) {
            return k;
        }
    }
    return -1;
}

void qn_val_trim(qn_val *v)
{
    if (!v->e || v->f) {
        return;
    }
    for (int64_t k = 0; k < v->count; k++) {
        if (v->e[k] != 0) {
            return;
        }
    }
    v->e = NULL;
}

/* ---------------------------------------------------------------- walking */

void qn_walker_init(qn_walker *w, const qn_val *v, int rank, const qn_sym *axis, const int64_t *n)
{
    int64_t own[QN_MAX_AXES] = {0}, stride = 1;
    for (int k = v->rank - 1; k >= 0; k--) {
        own[k] = stride;
        stride *= v->n[k];
    }
    w->rank = 0;
    w->offset = 0;
    for (int k = 0; k < rank; k++) {
        int at = qn_val_axis(v, axis[k]);
        int64_t s = at < 0 ? 0 : own[at];
        if (n[k] == 1) {
            continue;
        }
        int last = w->rank - 1;
        if (last >= 0 && w->stride[last] == s * n[k]) { /* both axes are one run */
            w->n[last] *= n[k];
            w->stride[last] = s;
        } else {
            w->n[w->rank] = n[k];
            w->stride[w->rank] = s;
            w->at[w->rank] = 0;
            w->rank++;
        }
    }
    if (w->rank == 0) {
        w->rank = 1;
        w->n[0] = 1;
        w->stride[0] = 1;
        w->at[0] = 0;
    }
    w->dense = w->rank == 1 && w->stride[0] == 1;
}

/* Moves `at` of the axes outside the innermost one on by one; returns the new offset. */
static int64_t step_out(const qn_walker *w, int64_t *at, int64_t offset)
{
    for (int k = w->rank - 2; k >= 0; k--) {
        offset += w->stride[k];
        if (++at[k] < w->n[k]) {
            return offset;
        }
        offset -= w->stride[k] * w->n[k];
        at[k] = 0;
    }
    return offset;
}

void qn_walker_copy(const qn_walker *w, void *to, const void *from, int64_t count)
{
    int64_t at[QN_MAX_AXES], offset = w->offset;
    memcpy(at, w->at, sizeof *at * (size_t)w->rank);
    int last = w->rank - 1;
    int64_t stride = w->stride[last], n = w->n[last], here = at[last];
    char *t = to;
    const char *f = from;
    while (count > 0) {
        int64_t run = n - here < count ? n - here : count;
        const char *p = f + 8 * offset;
        if (stride == 1) {
            memcpy(t, p, 8 * (size_t)run);
        } else if (stride == 0) {
            for (int64_t k = 0; k < run; k++) {
                memcpy(t + 8 * k, p, 8);
            }
        } else {
            for (int64_t k = 0; k < run; k++) {
                memcpy(t + 8 * k, p + 8 * k * stride, 8);
            }
        }
        t += 8 * run;
        count -= run;
        if (here + run == n) {
            offset = step_out(w, at, offset - here * stride);
            here = 0;
        } else {
            offset += run * stride;
            here += run;
        }
    }
}

void qn_walker_skip(qn_walker *w, int64_t count)
{
    int last = w->rank - 1;
    while (count > 0) {
        int64_t left = w->n[last] - w->at[last];
        if (count < left) {
            w->at[last] += count;
            w->offset += count * w->stride[last];
            return;
        }
        w->offset -= w->at[last] * w->stride[last];
        w->at[last] = 0;
        w->offset = step_out(w, w->at, w->offset);
        count -= left;
    }
}

void qn_val_spread_into(qn_interp_run *in, const qn_val *v, qn_val *to)
{
    (void)in;
    if (to->count == 0) {
        return;
    }
    qn_walker w;
    qn_walker_init(&w, v, to->rank, to->axis, to->n);
    if (to->f) {
        qn_walker_copy(&w, to->f, v->f, to->count);
    } else {
        qn_walker_copy(&w, to->i, v->i, to->count);
    }
    if (v->e) {
        qn_walker_copy(&w, to->e, v->e, to->count);
    } else if (to->e) {
        memset(to->e, 0, 8 * (size_t)to->count);
    }
}

const qn_val *qn_val_spread(qn_interp_run *in, const qn_val *v, int rank, const qn_sym *axis,
                            const int64_t *n)
{
    bool same = rank == v->rank;
    for (int k = 0; same && k < rank; k++) {
        same = axis[k] == v->axis[k];
    }
    if (same) {
        return v;
    }
    qn_val *s = qn_val_new(in, &in->temp, v->dtype, rank, axis, n);
    qn_val_spread_into(in, v, s);
    if (!v->e) {
        s->e = NULL;
    }
    return s;
}

static void join_axis(qn_interp_run *in, qn_val *to, qn_sym axis, int64_t n)
{
    int at = qn_val_axis(to, axis);
    if (at >= 0) {
        if (to->n[at] != n) {
            qn_interp_fail(in, "V-AXIS", "axis %s has extents %lld and %lld", axis,
                           (long long)to->n[at], (long long)n);
        }
        return;
    }
    if (to->rank == QN_MAX_AXES) {
        qn_interp_fail(in, "V-RANK", "a value of more than %d axes", QN_MAX_AXES);
    }
    to->axis[to->rank] = axis;
    to->n[to->rank++] = n;
}

void qn_val_union(qn_interp_run *in, const qn_val *const *v, int count, bool widest, qn_val *to)
{
    int lead = -1;
    for (int k = 0; widest && k < count; k++) {
        if (lead < 0 || v[k]->rank > v[lead]->rank) {
            lead = k;
        }
    }
    to->rank = 0;
    for (int k = 0; k < count; k++) {
        for (int a = 0; k != lead && a < v[k]->rank; a++) {
            if (lead < 0 || qn_val_axis(v[lead], v[k]->axis[a]) < 0) {
                join_axis(in, to, v[k]->axis[a], v[k]->n[a]);
            }
        }
    }
    for (int a = 0; lead >= 0 && a < v[lead]->rank; a++) {
        join_axis(in, to, v[lead]->axis[a], v[lead]->n[a]);
    }
    for (int k = 0; lead >= 0 && k < count; k++) { /* extents that disagree */
        for (int a = 0; k != lead && a < v[k]->rank; a++) {
            join_axis(in, to, v[k]->axis[a], v[k]->n[a]);
        }
    }
    to->count = qn_interp_volume(in, to->rank, to->n);
}
