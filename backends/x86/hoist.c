/* SPDX-License-Identifier: MIT
 *
 * Scalars are made once, and as far out as they can be. No pass of LLVM's optimiser runs over the
 * code, so what does not vary in a loop must be printed before it:
 *
 *     before:  .. hoisted here ..  br loop         open loops, outermost first; a value that was
 *     loop:    ..                                  made before a loop's front can be used in what
 *                                                  is put at the end of the block before it
 *
 * Every scalar op is total (division too), so making one that is not needed does no harm. An equal
 * op on equal operands is the value already made, as long as the place it was made in leads here:
 * entries belong to a region (loop body, branch) and die with it. */
#include "backends/x86/gen.h"

typedef struct qn_made {
    int32_t code, depth;
    qn_dtype t, to;
    qn_v a[3], value;
    struct qn_made *next; /* in its bucket */
} qn_made;

enum { BUCKETS = 256 };

struct qn_hoist {
    struct {
        qn_bb *at;
        int32_t count, cap;
    } blocks; /* of the function, in order of creation */
    struct {
        struct {
            qn_bb before;
            int32_t front, depth;
            qn_v index;
            int64_t lo, hi; /* of the index; lo > hi: not known */
        } * at;
        int32_t count, cap;
    } loops; /* open ones */
    int32_t depth;
    qn_made *bucket[BUCKETS];
    struct {
        qn_v *at;
        int32_t count, cap;
    } nonnegative; /* values known to be 0 or more */
};

void qn_hoist_reset(qn_gen *g)
{
    g->hoist = QN_NEW(g->arena, struct qn_hoist);
}

void qn_hoist_block(qn_gen *g, qn_bb b)
{
    QN_PUSH(g->arena, &g->hoist->blocks, b);
}

void qn_region_open(qn_gen *g)
{
    g->hoist->depth++;
}

void qn_region_close(qn_gen *g)
{
    struct qn_hoist *h = g->hoist;
    for (int32_t i = 0; i < BUCKETS; i++) {
        qn_made **at = &h->bucket[i];
        while (*at) {
            if ((*at)->depth >= h->depth) {
                *at = (*at)->next;
            } else {
                at = &(*at)->next;
            }
        }
    }
    h->depth--;
}

static int32_t serial_of(const struct qn_hoist *h, qn_bb b)
{
    for (int32_t i = h->blocks.count - 1; i >= 0; i--) {
        if (h->blocks.at[i] == b) {
            return i;
        }
    }
    return -1;
}

void qn_hoist_loop(qn_gen *g, qn_bb before, const qn_loop *l)
{
    struct qn_hoist *h = g->hoist;
    __typeof__(*h->loops.at) open = {before, serial_of(h, l->front), h->depth, l->index, 1, 0};
    int64_t lo, hi, step;
    if (qn_is_const(g, l->lo, &lo) && qn_is_const(g, l->hi, &hi) &&
        qn_is_const(g, l->step, &step) && lo >= 0 && hi > lo && step > 0) {
        open.lo = lo;
        open.hi = lo + (hi - 1 - lo) / step * step;
    }
    QN_PUSH(g->arena, &h->loops, open);
    qn_region_open(g);
    if (qn_is_nonnegative(g, l->lo)) {
        qn_note_nonnegative(g, l->index);
    }
}

void qn_note_nonnegative(qn_gen *g, qn_v v)
{
    QN_PUSH(g->arena, &g->hoist->nonnegative, v);
}

bool qn_is_nonnegative(qn_gen *g, qn_v v)
{
    int64_t n;
    if (qn_is_const(g, v, &n)) {
        return n >= 0;
    }
    for (int32_t i = 0; i < g->hoist->nonnegative.count; i++) {
        if (g->hoist->nonnegative.at[i] == v) {
            return true;
        }
    }
    return false;
}

bool qn_range_of(qn_gen *g, qn_v v, int64_t *lo, int64_t *hi)
{
    if (qn_is_const(g, v, lo)) {
        *hi = *lo;
        return *lo > -(1ll << 40) && *lo < 1ll << 40;
    }
    for (int32_t i = 0; i < g->hoist->loops.count; i++) {
        if (g->hoist->loops.at[i].index == v &&
            g->hoist->loops.at[i].lo <= g->hoist->loops.at[i].hi) {
            *lo = g->hoist->loops.at[i].lo;
            *hi = g->hoist->loops.at[i].hi;
            return *hi < 1ll << 40;
        }
    }
    return false;
}

void qn_hoist_loop_end(qn_gen *g)
{
    qn_region_close(g);
    g->hoist->loops.count--;
}

int32_t qn_level_of(qn_gen *g, qn_v v)
{
    const struct qn_hoist *h = g->hoist;
    if (!g->l->IsAInstruction(v)) {
        return 0;
    }
    int32_t serial = serial_of(h, g->l->GetInstructionParent(v)), level = 0;
    while (level < h->loops.count && serial >= h->loops.at[level].front) {
        level++;
    }
    return level;
}

static qn_v make(qn_gen *g, int32_t code, qn_dtype t, qn_dtype to, qn_v *a)
{
    switch (code) {
    case QN_PURE_CAST:
        return qn_cast_value(g, t, to, a[0]);
    case QN_PURE_PLACE:
        return qn_gep(g, qn_memory_type(g, t), a[0], a[1]);
    case QN_PURE_BELOW:
        return g->l->BuildICmp(g->b, LLVMIntULT, a[0], a[1], "");
    default:
        return qn_op_value(g, (qn_op)code, t, a, (qn_place){0, 0, 0});
    }
}

qn_v qn_pure(qn_gen *g, int32_t code, qn_dtype t, qn_dtype to, qn_v *a, int n)
{
    struct qn_hoist *h = g->hoist;
    bool constant = true;
    int32_t level = 0;
    uint64_t hash = (uint64_t)code * 31 + (uint64_t)t;
    qn_v key[3] = {NULL, NULL, NULL};
    for (int i = 0; i < n; i++) {
        int32_t own = qn_level_of(g, a[i]);
        level = own > level ? own : level;
        constant = constant && g->l->IsAConstant(a[i]);
        key[i] = a[i];
        hash = (hash ^ (uint64_t)(uintptr_t)a[i]) * 0x9e3779b97f4a7c15u;
    }
    if (constant || g->b == g->entry) {
        return make(g, code, t, to, a);
    }
    qn_made **bucket = &h->bucket[hash >> 56];
    for (qn_made *m = *bucket; m; m = m->next) {
        if (m->code == code && m->t == t && m->to == to && m->a[0] == key[0] && m->a[1] == key[1] &&
            m->a[2] == key[2]) {
            return m->value;
        }
    }
    qn_made *m = QN_NEW(g->arena, qn_made);
    *m = (qn_made){code, h->depth, t, to, {key[0], key[1], key[2]}, NULL, *bucket};
    if (level < h->loops.count) {
        qn_bb here = qn_here(g), before = h->loops.at[level].before;
        g->l->PositionBuilderBefore(g->b, g->l->GetBasicBlockTerminator(before));
        m->value = make(g, code, t, to, a);
        qn_place_at(g, here);
        m->depth = h->loops.at[level].depth;
    } else {
        m->value = make(g, code, t, to, a);
    }
    m->next = *bucket;
    *bucket = m;
    return m->value;
}

qn_v qn_pure_add(qn_gen *g, qn_v a, qn_v b)
{
    qn_v ab[] = {a, b};
    return qn_pure(g, QN_OP_ADD, QN_I64, QN_I64, ab, 2);
}

qn_v qn_pure_mul(qn_gen *g, qn_v a, qn_v b)
{
    qn_v ab[] = {a, b};
    return qn_pure(g, QN_OP_MUL, QN_I64, QN_I64, ab, 2);
}

qn_v qn_pure_cast(qn_gen *g, qn_dtype from, qn_dtype to, qn_v v)
{
    return from == to ? v : qn_pure(g, QN_PURE_CAST, from, to, &v, 1);
}

/* The sum of `n` terms, those that vary least first. The array is sorted. */
qn_v qn_pure_sum(qn_gen *g, qn_v *terms, int n)
{
    int64_t fixed = 0, value;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (qn_is_const(g, terms[i], &value)) {
            fixed = (int64_t)((uint64_t)fixed + (uint64_t)value);
            continue;
        }
        qn_v t = terms[i];
        int32_t level = qn_level_of(g, t);
        int at = count++;
        for (; at > 0 && qn_level_of(g, terms[at - 1]) > level; at--) {
            terms[at] = terms[at - 1];
        }
        terms[at] = t;
    }
    qn_v sum = count ? terms[0] : qn_i64(g, fixed);
    for (int i = 1; i < count; i++) {
        sum = qn_pure_add(g, sum, terms[i]);
    }
    return count && fixed ? qn_pure_add(g, sum, qn_i64(g, fixed)) : sum;
}
