/* SPDX-License-Identifier: MIT
 *
 * Linear forms: terms, arithmetic, the way from expressions and back; see linear.h.
 *
 * Laws that every rewrite here keeps:
 *   1. Two forms with one value for all values of their terms are one pointer, as far as sums,
 *      products by constants and (n * a + b) // n = a + b // n can show it.
 *   2. Arithmetic on a value of which the data alone decides the size (an i64 that was loaded, or
 *      cast from a float) is not distributed: it could wrap, so it is a term as it stands.
 *   3. Nothing here grows without bound: a form too large is NULL. */
#include "passes/linear_in.h"

#include "ir/build.h"
#include "ir/walk.h"

#include <string.h>

/* ---------------------------------------------------------------- small numbers */

int64_t qn_gcd(int64_t a, int64_t b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static const int64_t limit = (int64_t)1 << 61;

static bool add_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out) && *out<limit && * out> - limit;
}

static bool mul_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out) && *out<limit && * out> - limit;
}

static int64_t floor_div(int64_t a, int64_t n) /* n > 0 */
{
    return a / n - (a % n < 0);
}

/* ---------------------------------------------------------------- hash-consing */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t term_hash(const qn_term *t)
{
    uint64_t h = mix(0x51ed270b, (uint64_t)t->kind);
    h = mix(h, (uint64_t)(uintptr_t)t->name);
    h = mix(h, (uint64_t)(uintptr_t)t->axis.name);
    h = mix(h, (uint64_t)(uintptr_t)t->axis.extent.dim ^ (uint64_t)t->axis.extent.n);
    h = mix(h, (uint64_t)(uintptr_t)t->a);
    h = mix(h, (uint64_t)(uintptr_t)t->b);
    return t->x ? mix(h, qn_expr_hash(t->x)) : h;
}

static bool term_equal(const qn_term *s, const qn_term *t)
{
    return s->kind == t->kind && s->name == t->name && s->axis.name == t->axis.name &&
           s->axis.extent.dim == t->axis.extent.dim && s->axis.extent.n == t->axis.extent.n &&
           s->a == t->a && s->b == t->b && !s->x == !t->x && (!s->x || qn_expr_equal(s->x, t->x));
}

const qn_term *qn_term_make(qn_facts *f, qn_term proto)
{
    if (f->terms.count * 2 >= f->terms.cap) {
        uint32_t cap = f->terms.cap ? f->terms.cap * 2 : 64;
        qn_term **at = QN_NEWN(f->arena, qn_term *, cap);
        for (uint32_t k = 0; k < f->terms.cap; k++) {
            if (f->terms.at[k]) {
                uint64_t h = term_hash(f->terms.at[k]);
                while (at[h & (cap - 1)]) {
                    h++;
                }
                at[h & (cap - 1)] = f->terms.at[k];
            }
        }
        f->terms.at = at;
        f->terms.cap = cap;
    }
    uint64_t h = term_hash(&proto);
    for (; f->terms.at[h & (f->terms.cap - 1)]; h++) {
        qn_term *t = f->terms.at[h & (f->terms.cap - 1)];
        if (term_equal(t, &proto)) {
            return t;
        }
    }
    qn_term *t = QN_NEW(f->arena, qn_term);
    *t = proto;
    t->id = (int32_t)f->terms.count++;
    return f->terms.at[h & (f->terms.cap - 1)] = t;
}

static uint64_t lin_hash(const qn_lin_part *at, int32_t n, int64_t k)
{
    uint64_t h = mix((uint64_t)n, (uint64_t)k);
    for (int32_t p = 0; p < n; p++) {
        h = mix(mix(h, (uint64_t)at[p].term->id), (uint64_t)at[p].c);
    }
    return h;
}

static int int_size(int64_t k)
{
    return k == 0 ? 0 : 2;
}

/* The one form with these parts, sorted by id, no zero coefficients. */
static const qn_lin *lin_make(qn_facts *f, const qn_lin_part *at, int32_t n, int64_t k)
{
    if (n > QN_LIN_PARTS) {
        return NULL;
    }
    int32_t size = int_size(k) + !n;
    bool tile = false;
    for (int32_t p = 0; p < n; p++) {
        size += at[p].term->size + (p > 0) + (at[p].c == 1 || at[p].c == -1 ? 0 : 2);
        tile |= at[p].term->tile;
    }
    if (size > QN_LIN_SIZE) {
        return NULL;
    }
    if (f->lins.count * 2 >= f->lins.cap) {
        uint32_t cap = f->lins.cap ? f->lins.cap * 2 : 256;
        qn_lin **table = QN_NEWN(f->arena, qn_lin *, cap);
        for (uint32_t i = 0; i < f->lins.cap; i++) {
            qn_lin *l = f->lins.at[i];
            if (l) {
                uint64_t h = lin_hash(l->at, l->n, l->k);
                while (table[h & (cap - 1)]) {
                    h++;
                }
                table[h & (cap - 1)] = l;
            }
        }
        f->lins.at = table;
        f->lins.cap = cap;
    }
    uint64_t h = lin_hash(at, n, k);
    for (; f->lins.at[h & (f->lins.cap - 1)]; h++) {
        qn_lin *l = f->lins.at[h & (f->lins.cap - 1)];
        if (l->n == n && l->k == k) {
            int32_t p = 0;
            while (p < n && l->at[p].term == at[p].term && l->at[p].c == at[p].c) {
                p++;
            }
            if (p == n) {
                return l;
            }
        }
    }
    qn_lin *l =
        qn_arena_alloc(f->arena, sizeof(qn_lin) + (size_t)n * sizeof(qn_lin_part), alignof(qn_lin));
    l->n = n;
    l->k = k;
    l->size = size;
    l->tile = tile;
    l->memo = QN_NEW(f->arena, qn_lin_memo);
    if (n > 0) {
        memcpy(l->at, at, (size_t)n * sizeof *at);
    }
    f->lins.count++;
    return f->lins.at[h & (f->lins.cap - 1)] = l;
}

/* ---------------------------------------------------------------- arithmetic */

const qn_lin *qn_lin_int(qn_facts *f, int64_t k)
{
    return k < limit && k > -limit ? lin_make(f, NULL, 0, k) : NULL;
}

const qn_lin *qn_lin_term(qn_facts *f, const qn_term *t)
{
    qn_lin_part p = {t, 1};
    return lin_make(f, &p, 1, 0);
}

/* a + c * b */
static const qn_lin *combine(qn_facts *f, const qn_lin *a, int64_t c, const qn_lin *b)
{
    if (!a || !b) {
        return NULL;
    }
    qn_lin_part parts[2 * QN_LIN_PARTS];
    int32_t n = 0, p = 0, q = 0;
    int64_t k, t;
    if (!mul_ok(c, b->k, &t) || !add_ok(a->k, t, &k)) {
        return NULL;
    }
    while (p < a->n || q < b->n) {
        bool left = q == b->n || (p < a->n && a->at[p].term->id <= b->at[q].term->id);
        bool right = p == a->n || (q < b->n && b->at[q].term->id <= a->at[p].term->id);
        int64_t sum = left ? a->at[p].c : 0;
        const qn_term *term = left ? a->at[p].term : b->at[q].term;
        if (right && (!mul_ok(c, b->at[q].c, &t) || !add_ok(sum, t, &sum))) {
            return NULL;
        }
        p += left;
        q += right;
        if (sum != 0) {
            parts[n++] = (qn_lin_part){term, sum};
        }
    }
    return lin_make(f, parts, n, k);
}

const qn_lin *qn_lin_add(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    return combine(f, a, 1, b);
}

const qn_lin *qn_lin_sub(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    return combine(f, a, -1, b);
}

const qn_lin *qn_lin_plus(qn_facts *f, const qn_lin *a, int64_t k)
{
    int64_t sum;
    return a && add_ok(a->k, k, &sum) ? lin_make(f, a->at, a->n, sum) : NULL;
}

const qn_lin *qn_lin_scale(qn_facts *f, const qn_lin *a, int64_t c)
{
    return combine(f, qn_lin_int(f, 0), c, a);
}

int64_t qn_lin_coef(const qn_lin *a, const qn_term *t)
{
    for (int32_t p = 0; p < a->n; p++) {
        if (a->at[p].term == t) {
            return a->at[p].c;
        }
    }
    return 0;
}

const qn_lin *qn_lin_without(qn_facts *f, const qn_lin *a, const qn_term *t)
{
    qn_lin_part parts[QN_LIN_PARTS];
    int32_t n = 0;
    for (int32_t p = 0; p < a->n; p++) {
        if (a->at[p].term != t) {
            parts[n++] = a->at[p];
        }
    }
    return lin_make(f, parts, n, a->k);
}

const qn_term *qn_lin_single(const qn_lin *a)
{
    return a && a->n == 1 && a->k == 0 && a->at[0].c == 1 ? a->at[0].term : NULL;
}

const qn_lin *qn_lin_pair(qn_facts *f, qn_term_kind kind, const qn_lin *a, const qn_lin *b)
{
    if (!a || !b || a->size + b->size >= QN_LIN_SIZE) {
        return NULL;
    }
    qn_term t = {.kind = kind, .a = a, .b = b, .tile = a->tile || b->tile};
    t.size = a->size + b->size + 1;
    return qn_lin_term(f, qn_term_make(f, t));
}

const qn_lin *qn_lin_mul(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    if (!a || !b) {
        return NULL;
    }
    if (a->n == 0) {
        return qn_lin_scale(f, b, a->k);
    }
    const qn_lin *r = qn_lin_scale(f, a, b->k);
    for (int32_t q = 0; q < b->n; q++) {
        const qn_lin *row = qn_lin_scale(f, qn_lin_term(f, b->at[q].term), a->k);
        for (int32_t p = 0; p < a->n; p++) {
            const qn_term *s = a->at[p].term, *t = b->at[q].term;
            int64_t c;
            /* a product of three values of any size could overflow */
            if (s->kind == QN_TERM_MUL || t->kind == QN_TERM_MUL ||
                !mul_ok(a->at[p].c, b->at[q].c, &c) || a->n * b->n > QN_LIN_PARTS) {
                return NULL;
            }
            const qn_lin *u = qn_lin_term(f, s->id < t->id ? s : t);
            const qn_lin *v = qn_lin_term(f, s->id < t->id ? t : s);
            const qn_lin *product = qn_lin_pair(f, QN_TERM_MUL, u, v);
            /* the coefficient of b belongs to this product alone */
            row = product ? combine(f, row, a->at[p].c, product) : NULL;
        }
        r = combine(f, r, b->at[q].c, row);
    }
    return r;
}

/* Splits a = n * whole + rest, the rest's constant in 0 .. n-1. */
static bool split_by(qn_facts *f, const qn_lin *a, int64_t n, const qn_lin **whole,
                     const qn_lin **rest)
{
    qn_lin_part w[QN_LIN_PARTS], r[QN_LIN_PARTS];
    int32_t nw = 0, nr = 0;
    for (int32_t p = 0; p < a->n; p++) {
        if (a->at[p].c % n == 0) {
            w[nw++] = (qn_lin_part){a->at[p].term, a->at[p].c / n};
        } else {
            r[nr++] = a->at[p];
        }
    }
    int64_t k = floor_div(a->k, n);
    *whole = lin_make(f, w, nw, k);
    *rest = lin_make(f, r, nr, a->k - k * n);
    return *whole && *rest;
}

const qn_lin *qn_lin_div(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    const qn_lin *whole, *rest;
    if (!a || !b) {
        return NULL;
    }
    if (b->n == 0 && b->k > 0 && split_by(f, a, b->k, &whole, &rest)) {
        return rest->n == 0 ? whole : qn_lin_add(f, whole, qn_lin_pair(f, QN_TERM_DIV, rest, b));
    }
    return qn_lin_pair(f, QN_TERM_DIV, a, b);
}

const qn_lin *qn_lin_mod(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    const qn_lin *whole, *rest;
    if (!a || !b) {
        return NULL;
    }
    if (b->n == 0 && b->k > 0 && split_by(f, a, b->k, &whole, &rest)) {
        bool none = qn_lin_factor(f, rest) % b->k == 0;
        return none ? qn_lin_int(f, 0) : rest->n == 0 ? rest : qn_lin_pair(f, QN_TERM_MOD, rest, b);
    }
    return qn_lin_pair(f, QN_TERM_MOD, a, b);
}

const qn_lin *qn_lin_min(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    if (qn_prove_le(f, a, b)) {
        return a;
    }
    return qn_prove_le(f, b, a) ? b : qn_lin_pair(f, QN_TERM_MIN, a, b);
}

const qn_lin *qn_lin_max(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    if (qn_prove_le(f, a, b)) {
        return b;
    }
    return qn_prove_le(f, b, a) ? a : qn_lin_pair(f, QN_TERM_MAX, a, b);
}

static int32_t expr_size(const qn_expr *x);

const qn_lin *qn_lin_select(qn_facts *f, qn_expr *cond, const qn_lin *a, const qn_lin *b)
{
    if (a == b) {
        return a;
    }
    if (!a || !b || !cond) {
        return NULL;
    }
    qn_term t = {.kind = QN_TERM_SELECT, .x = cond, .a = a, .b = b};
    t.size = a->size + b->size + expr_size(cond) + 1;
    t.tile = a->tile || b->tile || qn_facts_is_tile(f, cond);
    return t.size < QN_LIN_SIZE ? qn_lin_term(f, qn_term_make(f, t)) : NULL;
}

const qn_lin *qn_lin_less(qn_facts *f, const qn_lin *a, const qn_lin *b, const qn_lin *x,
                          const qn_lin *y)
{
    if (!a || !b || !x || !y) {
        return NULL;
    }
    if (x == y || qn_prove_le(f, qn_lin_plus(f, a, 1), b)) {
        return x;
    }
    if (qn_prove_le(f, b, a)) {
        return y;
    }
    return qn_lin_select(f, qn_lin_compare(f, QN_OP_LT, qn_lin_sub(f, a, b)), x, y);
}

qn_expr *qn_lin_compare(qn_facts *f, qn_op op, const qn_lin *a)
{
    qn_lin_part left[QN_LIN_PARTS], right[QN_LIN_PARTS];
    int32_t l = 0, r = 0;
    if (!a) {
        return NULL;
    }
    for (int32_t p = 0; p < a->n; p++) {
        if (a->at[p].c > 0) {
            left[l++] = a->at[p];
        } else {
            right[r++] = (qn_lin_part){a->at[p].term, -a->at[p].c};
        }
    }
    const qn_lin *x = lin_make(f, left, l, a->k > 0 ? a->k : 0);
    const qn_lin *y = lin_make(f, right, r, a->k < 0 ? -a->k : 0);
    return x && y ? qn_op2(f->ir, op, qn_lin_expr(f, x, false), qn_lin_expr(f, y, false)) : NULL;
}

/* ---------------------------------------------------------------- from expressions */

static bool count_node(void *user, const qn_expr *x)
{
    (void)x;
    int32_t *n = user;
    return ++*n <= QN_LIN_SIZE;
}

static int32_t expr_size(const qn_expr *x)
{
    int32_t n = 0;
    qn_visit(x, count_node, &n);
    return n;
}

/* Is the size of the value decided by data, so that sums with it might wrap? */
static bool term_is_wild(const qn_facts *f, const qn_term *t)
{
    if (t->kind == QN_TERM_OPAQUE) {
        const qn_expr *x = t->x;
        bool narrow = x->kind == QN_OP && x->u.op.op == QN_OP_CAST &&
                      qn_dtype_is_int(qn_facts_dtype(f, x->u.op.args.at[0]));
        return !narrow;
    }
    if (t->kind == QN_TERM_NAME) {
        const qn_fact_name *n = qn_fact_find(f, t->name);
        return n && !n->dim && !n->index && !n->fixed && t->name[0] == '%';
    }
    return false;
}

static bool is_wild(const qn_facts *f, const qn_lin *a)
{
    for (int32_t p = 0; a && p < a->n; p++) {
        const qn_term *t = a->at[p].term;
        if (term_is_wild(f, t)) {
            return true;
        }
        bool clamped = (t->kind == QN_TERM_MIN && qn_lin_single(t->a) &&
                        qn_lin_single(t->a)->kind == QN_TERM_MAX) ||
                       t->kind == QN_TERM_MOD;
        if (!clamped && (is_wild(f, t->a) || is_wild(f, t->b))) {
            return true;
        }
    }
    return false;
}

static qn_expr *inline_below(qn_facts *f, const qn_expr *x);

/* x, lets inlined below it, as one term. */
static const qn_lin *opaque(qn_facts *f, const qn_expr *x)
{
    qn_expr *e = inline_below(f, x);
    if (!e) {
        return NULL;
    }
    qn_term t = {.kind = QN_TERM_OPAQUE, .x = e, .size = expr_size(e)};
    t.tile = qn_facts_is_tile(f, e);
    return t.size <= QN_LIN_SIZE ? qn_lin_term(f, qn_term_make(f, t)) : NULL;
}

const qn_lin *qn_lin_name(qn_facts *f, qn_sym name)
{
    const qn_fact_name *n = qn_fact_find(f, name);
    if (n && n->value) {
        return n->value;
    }
    qn_term t = {.kind = QN_TERM_NAME, .name = name, .size = 1, .tile = n && n->tile};
    return qn_lin_term(f, qn_term_make(f, t));
}

const qn_lin *qn_lin_extent(qn_facts *f, qn_extent e)
{
    return e.dim ? qn_lin_name(f, e.dim) : qn_lin_int(f, e.n);
}

static const qn_lin *lin_of_op(qn_facts *f, const qn_expr *x)
{
    qn_expr *const *args = x->u.op.args.at;
    int32_t n = x->u.op.args.count;
    const qn_lin *a = NULL, *b = NULL, *c = NULL;
    qn_op op = x->u.op.op;
    if (op == QN_OP_CAST) {
        qn_dtype from = qn_facts_dtype(f, args[0]);
        if (x->u.op.cast == QN_I64 && qn_dtype_is_int(from)) {
            return qn_lin_of(f, args[0]);
        }
        if (x->u.op.cast == QN_I64 && from == QN_BOOL) {
            qn_expr *e = qn_facts_inline(f, args[0]);
            qn_term t = {.kind = QN_TERM_FLAG, .x = e, .size = e ? expr_size(e) + 1 : 0};
            t.tile = e && qn_facts_is_tile(f, e);
            return e && t.size <= QN_LIN_SIZE ? qn_lin_term(f, qn_term_make(f, t)) : NULL;
        }
        return opaque(f, x);
    }
    bool known = op == QN_OP_ADD || op == QN_OP_SUB || op == QN_OP_MUL || op == QN_OP_NEG ||
                 op == QN_OP_FLOORDIV || op == QN_OP_MOD || op == QN_OP_MIN || op == QN_OP_MAX ||
                 op == QN_OP_ABS || op == QN_OP_CLAMP || op == QN_OP_SELECT;
    if (!known) {
        return opaque(f, x);
    }
    int32_t first = op == QN_OP_SELECT;
    a = qn_lin_of(f, args[first]);
    b = n > first + 1 ? qn_lin_of(f, args[first + 1]) : a;
    c = n > first + 2 ? qn_lin_of(f, args[first + 2]) : a;
    if (!a || !b || !c) {
        return NULL;
    }
    bool sums = op == QN_OP_ADD || op == QN_OP_SUB || op == QN_OP_MUL || op == QN_OP_NEG ||
                op == QN_OP_ABS || op == QN_OP_FLOORDIV;
    if (sums && (is_wild(f, a) || is_wild(f, b)) &&
        !(op == QN_OP_FLOORDIV && !is_wild(f, b) && qn_lin_single(a))) {
        return opaque(f, x);
    }
    switch ((int)op) {
    case QN_OP_ADD:
        return qn_lin_add(f, a, b);
    case QN_OP_SUB:
        return qn_lin_sub(f, a, b);
    case QN_OP_MUL:
        return qn_lin_mul(f, a, b);
    case QN_OP_NEG:
        return qn_lin_scale(f, a, -1);
    case QN_OP_FLOORDIV:
        return qn_lin_div(f, a, b);
    case QN_OP_MOD:
        return qn_lin_mod(f, a, b);
    case QN_OP_MIN:
        return qn_lin_min(f, a, b);
    case QN_OP_MAX:
        return qn_lin_max(f, a, b);
    case QN_OP_ABS:
        return qn_lin_max(f, a, qn_lin_scale(f, a, -1));
    case QN_OP_CLAMP:
        return qn_lin_min(f, qn_lin_max(f, a, b), c);
    default:
        return qn_lin_select(f, qn_facts_inline(f, args[0]), a, b);
    }
}

static const qn_lin *lin_of(qn_facts *f, const qn_expr *x)
{
    qn_dtype d = qn_facts_dtype(f, x);
    if (!qn_dtype_is_int(d)) {
        return NULL;
    }
    if (d != QN_I64 && d != QN_INT_LIT) { /* sums inside it may wrap: a term of its own */
        qn_expr *e = qn_facts_inline(f, x);
        if (!e) {
            return NULL;
        }
        qn_term t = {.kind = QN_TERM_OPAQUE, .x = qn_cast(f->ir, QN_I64, e)};
        t.size = expr_size(e) + 1;
        t.tile = qn_facts_is_tile(f, e);
        return qn_lin_term(f, qn_term_make(f, t));
    }
    switch (x->kind) {
    case QN_LIT:
        return qn_lin_int(f, x->u.lit.i);
    case QN_NAME:
        return qn_lin_name(f, x->u.name);
    case QN_IOTA: {
        qn_term t = {.kind = QN_TERM_IOTA, .axis = x->u.iota, .size = 1, .tile = true};
        return qn_lin_term(f, qn_term_make(f, t));
    }
    case QN_OP:
        return lin_of_op(f, x);
    case QN_LOAD:
    case QN_AXOP:
        return opaque(f, x);
    case QN_AS: /* its axes are not those of the names inside */
    case QN_FOLD:
    default:
        return NULL;
    }
}

const qn_lin *qn_lin_of(qn_facts *f, const qn_expr *x)
{
    if (f->nest == 0) {
        f->work = QN_LIN_WORK;
    }
    if (f->nest >= QN_LIN_NEST || --f->work < 0) {
        return NULL;
    }
    f->nest++;
    const qn_lin *l = lin_of(f, x);
    f->nest--;
    return l;
}

/* ---------------------------------------------------------------- inlining */

typedef struct inlining {
    qn_facts *f;
    int32_t left; /* nodes that may still be made */
    bool failed;
} inlining;

static qn_expr *inline_in(inlining *in, const qn_expr *x);

static qn_exprs inline_all(inlining *in, qn_exprs xs)
{
    qn_expr **at = QN_NEWN(in->f->ir->arena, qn_expr *, xs.count ? xs.count : 1);
    for (int32_t k = 0; k < xs.count; k++) {
        at[k] = inline_in(in, xs.at[k]);
    }
    return (qn_exprs){at, xs.count};
}

static qn_expr *same(const qn_expr *x)
{
    union {
        const qn_expr *c;
        qn_expr *m;
    } u = {x};
    return u.m; /* trees are immutable and shared; only the type of the field is not const */
}

/* The node with what is below it inlined. */
static qn_expr *inline_node(inlining *in, const qn_expr *x)
{
    qn_facts *f = in->f;
    switch (x->kind) {
    case QN_LIT:
    case QN_IOTA:
        return same(x);
    case QN_NAME: {
        const qn_fact_name *n = qn_fact_find(f, x->u.name);
        return n && n->x ? inline_in(in, n->x) : same(x);
    }
    case QN_LOAD: {
        if (!qn_facts_is_input(f, x->u.load.base)) {
            in->failed = true;
            return same(x);
        }
        qn_exprs index = inline_all(in, x->u.load.index);
        return qn_load(f->ir, x->u.load.base, index.at, index.count, x->u.load.guarded,
                       x->u.load.pad);
    }
    case QN_OP: {
        qn_expr *copy = QN_NEW(f->ir->arena, qn_expr);
        *copy = *x;
        copy->u.op.args = inline_all(in, x->u.op.args);
        return copy;
    }
    case QN_AXOP: {
        qn_expr *copy = QN_NEW(f->ir->arena, qn_expr);
        *copy = *x;
        copy->u.axop.args = inline_all(in, x->u.axop.args);
        return copy;
    }
    case QN_AS:
    case QN_FOLD:
    default:
        in->failed = true;
        return same(x);
    }
}

/* Ops whose value qn_lin_of sees through. */
static bool is_linear_op(const qn_expr *x)
{
    return x->kind == QN_OP && x->u.op.op >= QN_OP_ADD && x->u.op.op <= QN_OP_SELECT &&
           x->u.op.op != QN_OP_DIV;
}

static qn_expr *inline_in(inlining *in, const qn_expr *x)
{
    qn_facts *f = in->f;
    if (in->failed || --in->left < 0 || f->nest >= QN_LIN_NEST) {
        in->failed = true;
        return same(x);
    }
    f->nest++;
    qn_expr *r = NULL;
    if ((x->kind == QN_NAME || is_linear_op(x)) && qn_facts_dtype(f, x) == QN_I64) {
        const qn_lin *l = qn_lin_of(f, x);
        in->failed |= !l;
        r = l ? qn_lin_expr(f, l, false) : same(x);
        in->left -= l ? l->size : 0;
    } else {
        r = inline_node(in, x);
    }
    f->nest--;
    return r;
}

qn_expr *qn_facts_inline(qn_facts *f, const qn_expr *x)
{
    inlining in = {f, QN_LIN_SIZE, false};
    qn_expr *r = inline_in(&in, x);
    return in.failed ? NULL : r;
}

static qn_expr *inline_below(qn_facts *f, const qn_expr *x)
{
    inlining in = {f, QN_LIN_SIZE, false};
    qn_expr *r = inline_node(&in, x);
    return in.failed ? NULL : r;
}

/* ---------------------------------------------------------------- back to expressions */

/* The scalar let in scope whose value is the form, or NULL. */
static const qn_fact_name *named(const qn_facts *f, const qn_lin *a)
{
    for (int32_t k = f->names.count - 1; k >= 0; k--) {
        const qn_fact_name *n = &f->names.at[k];
        if (n->value == a && !n->tile && !n->dim && n->name[0] == '%') {
            return n;
        }
    }
    return NULL;
}

static qn_expr *term_expr(qn_facts *f, const qn_term *t, bool names)
{
    qn_ir *ir = f->ir;
    if (names && t->size > 1) {
        const qn_fact_name *n = named(f, qn_lin_term(f, t));
        if (n) {
            return qn_name(ir, n->name);
        }
    }
    switch (t->kind) {
    case QN_TERM_NAME:
        return qn_name(ir, t->name);
    case QN_TERM_IOTA:
        return qn_iota(ir, t->axis.name, t->axis.extent);
    case QN_TERM_MIN: {
        const qn_term *m = qn_lin_single(t->a);
        if (m && m->kind == QN_TERM_MAX) {
            return qn_op3(ir, QN_OP_CLAMP, qn_lin_expr(f, m->a, names), qn_lin_expr(f, m->b, names),
                          qn_lin_expr(f, t->b, names));
        }
        return qn_op2(ir, QN_OP_MIN, qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    }
    case QN_TERM_MAX:
        return qn_op2(ir, QN_OP_MAX, qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    case QN_TERM_DIV:
        return qn_op2(ir, QN_OP_FLOORDIV, qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    case QN_TERM_MOD:
        return qn_op2(ir, QN_OP_MOD, qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    case QN_TERM_MUL:
        return qn_op2(ir, QN_OP_MUL, qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    case QN_TERM_SELECT:
        return qn_op3(ir, QN_OP_SELECT, names ? qn_facts_named(f, t->x) : t->x,
                      qn_lin_expr(f, t->a, names), qn_lin_expr(f, t->b, names));
    case QN_TERM_FLAG:
        return qn_cast(ir, QN_I64, t->x);
    case QN_TERM_OPAQUE:
    default:
        return t->x;
    }
}

/* A scalar let whose value is a sum of two or more parts of a: used as one name. */
static const qn_fact_name *part_named(const qn_facts *f, const qn_lin *a)
{
    for (int32_t k = f->names.count - 1; k >= 0; k--) {
        const qn_fact_name *n = &f->names.at[k];
        const qn_lin *v = n->value;
        if (!v || n->tile || n->dim || n->name[0] != '%') {
            continue;
        }
        if (v == a && v->size > 1) {
            return n;
        }
        bool inside = v->n > 1 && v->n <= a->n;
        for (int32_t p = 0; inside && p < v->n; p++) {
            inside = qn_lin_coef(a, v->at[p].term) == v->at[p].c;
        }
        if (inside) {
            return n;
        }
    }
    return NULL;
}

static qn_expr *append(qn_ir *ir, qn_expr *sum, qn_expr *x, int64_t c)
{
    int64_t m = c < 0 ? -c : c;
    x = m == 1 ? x : qn_op2(ir, QN_OP_MUL, x, qn_int(ir, m));
    if (!sum) {
        return c > 0 ? x : qn_op1(ir, QN_OP_NEG, x);
    }
    return qn_op2(ir, c > 0 ? QN_OP_ADD : QN_OP_SUB, sum, x);
}

qn_expr *qn_lin_expr(qn_facts *f, const qn_lin *a, bool names)
{
    qn_ir *ir = f->ir;
    qn_expr *sum = NULL, *named = NULL;
    if (names && a->n > 0) {
        const qn_fact_name *n = part_named(f, a);
        if (n && n->value == a) {
            return qn_name(ir, n->name);
        }
        const qn_lin *rest = n ? qn_lin_sub(f, a, n->value) : NULL;
        if (rest) {
            a = rest;
            named = qn_name(ir, n->name);
        }
    }
    for (int sign = 1; sign >= -1; sign -= 2) {
        for (int32_t p = 0; p < a->n; p++) {
            if ((a->at[p].c > 0) == (sign > 0)) {
                sum = append(ir, sum, term_expr(f, a->at[p].term, names), a->at[p].c);
            }
        }
        if (named && sign > 0) {
            sum = append(ir, sum, named, 1);
        }
    }
    if (!sum) {
        return qn_int(ir, a->k);
    }
    return a->k == 0 ? sum
                     : qn_op2(ir, a->k > 0 ? QN_OP_ADD : QN_OP_SUB, sum,
                              qn_int(ir, a->k > 0 ? a->k : -a->k));
}

qn_expr *qn_facts_named(qn_facts *f, qn_expr *x)
{
    if (x->kind != QN_OP) {
        return x;
    }
    qn_op op = x->u.op.op;
    bool logic = op == QN_OP_AND || op == QN_OP_OR || op == QN_OP_NOT;
    if (!logic && !qn_op_is_compare(op)) {
        return x;
    }
    qn_expr **at = QN_NEWN(f->ir->arena, qn_expr *, x->u.op.args.count);
    for (int32_t k = 0; k < x->u.op.args.count; k++) {
        qn_expr *arg = x->u.op.args.at[k];
        const qn_lin *l = logic ? NULL : qn_lin_of(f, arg);
        at[k] = logic ? qn_facts_named(f, arg) : l ? qn_lin_expr(f, l, true) : arg;
    }
    qn_expr *copy = QN_NEW(f->ir->arena, qn_expr);
    *copy = *x;
    copy->u.op.args.at = at;
    return copy;
}
