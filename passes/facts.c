/* SPDX-License-Identifier: MIT
 *
 * Facts about scalars, and the prover of L >= 0; see linear.h.
 *
 * The prover replaces one term at a time by a bound: a dim by 0, an index by an end of its range,
 * min by both sides or by either, x // n by x or x - (n - 1), .. until a constant is left.
 * Congruence helps at each step: when g divides every term, the constant may be rounded up to
 * g - 1 mod g. A variable that occurs nowhere else is replaced at once, for nothing is lost; the
 * rest is a search of bounded depth and fuel that remembers its failures. */
#include "passes/linear_in.h"

#include "ir/build.h"
#include "ir/walk.h"

/* All proofs of one pass together take at most ALL steps, a fraction of a second. */
enum { DEPTH = 7, FACT_DEPTH = 3, FUEL = 300, ALL = 400000 };

/* ---------------------------------------------------------------- names */

qn_fact_name *qn_fact_find(const qn_facts *f, qn_sym name)
{
    for (int32_t k = f->names.count - 1; k >= 0; k--) {
        if (f->names.at[k].name == name) {
            return &f->names.at[k];
        }
    }
    return NULL;
}

static qn_fact_name *define(qn_facts *f, qn_sym name, qn_dtype dtype)
{
    qn_fact_name n = {.name = name, .dtype = dtype, .multiple = 1};
    QN_PUSH(f->arena, &f->names, n);
    return &f->names.at[f->names.count - 1];
}

/* What is proved may now be more, or was proved of an index that is gone. */
static void facts_changed(qn_facts *f)
{
    f->epoch++;
    if (f->scopes.count > 0) {
        f->scopes.at[f->scopes.count - 1].proofs = true;
    }
}

void qn_facts_push(qn_facts *f)
{
    qn_fact_scope s = {f->names.count, f->ge0.count, f->multiples.count, false};
    QN_PUSH(f->arena, &f->scopes, s);
}

void qn_facts_pop(qn_facts *f)
{
    if (f->scopes.count == 0) {
        return;
    }
    qn_fact_scope s = f->scopes.at[--f->scopes.count];
    f->names.count = s.names;
    f->ge0.count = s.ge0;
    f->multiples.count = s.multiples;
    f->epoch += s.proofs;
}

bool qn_facts_is_input(const qn_facts *f, qn_sym memory)
{
    const qn_fact_name *n = qn_fact_find(f, memory);
    return n && n->memory && n->input;
}

const qn_type *qn_facts_memory(const qn_facts *f, qn_sym memory)
{
    const qn_fact_name *n = qn_fact_find(f, memory);
    return n ? n->memory : NULL;
}

qn_expr *qn_facts_value(const qn_facts *f, qn_sym name)
{
    const qn_fact_name *n = qn_fact_find(f, name);
    return n ? n->x : NULL;
}

bool qn_facts_is_index(const qn_facts *f, qn_sym name)
{
    const qn_fact_name *n = qn_fact_find(f, name);
    return n && n->index;
}

/* ---------------------------------------------------------------- types */

static qn_dtype dtype_of_op(const qn_facts *f, const qn_expr *x)
{
    qn_expr *const *args = x->u.op.args.at;
    switch (qn_op_info_of(x->u.op.op)->rule) {
    case 'B':
    case 'C':
        return QN_BOOL;
    case 'K':
        return x->u.op.cast;
    case 'S':
        return qn_dtype_join(qn_facts_dtype(f, args[1]), qn_facts_dtype(f, args[2]));
    default: {
        qn_dtype d = qn_facts_dtype(f, args[0]);
        for (int32_t k = 1; k < x->u.op.args.count; k++) {
            d = qn_dtype_join(d, qn_facts_dtype(f, args[k]));
        }
        return d;
    }
    }
}

qn_dtype qn_facts_dtype(const qn_facts *f, const qn_expr *x)
{
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.type;
    case QN_NAME: {
        const qn_fact_name *n = qn_fact_find(f, x->u.name);
        return n && !n->memory ? n->dtype : QN_NO_TYPE;
    }
    case QN_IOTA:
        return QN_I64;
    case QN_LOAD: {
        const qn_type *t = qn_facts_memory(f, x->u.load.base);
        return t ? t->dtype : QN_NO_TYPE;
    }
    case QN_OP:
        return dtype_of_op(f, x);
    case QN_AXOP: {
        qn_axop op = x->u.axop.op;
        if (op == QN_AX_REDUCE_ARGMAX || op == QN_AX_REDUCE_ARGMIN) {
            return QN_I64;
        }
        qn_dtype d = qn_facts_dtype(f, x->u.axop.args.at[0]);
        if (op == QN_AX_DOT) {
            return qn_dtype_accumulator(d);
        }
        return op == QN_AX_TOPK ? QN_NO_TYPE : qn_dtype_settle(d);
    }
    case QN_AS:
        return qn_facts_dtype(f, x->u.as.x);
    case QN_FOLD:
    default:
        return QN_NO_TYPE;
    }
}

typedef struct tile_search {
    qn_facts *f;
    bool found;
} tile_search;

static bool find_tile(void *user, const qn_expr *x)
{
    tile_search *s = user;
    if (x->kind == QN_IOTA || x->kind == QN_AXOP || x->kind == QN_FOLD || x->kind == QN_AS) {
        s->found = true; /* a reduction may give a scalar; nobody needs to know */
    }
    if (x->kind == QN_NAME) {
        const qn_fact_name *n = qn_fact_find(s->f, x->u.name);
        s->found |= !n || n->tile;
    }
    return !s->found;
}

bool qn_facts_is_tile(qn_facts *f, const qn_expr *x)
{
    tile_search s = {f, false};
    qn_visit(x, find_tile, &s);
    return s.found;
}

/* ---------------------------------------------------------------- entering facts */

void qn_facts_unknown(qn_facts *f, qn_sym name, qn_dtype dtype, bool tile)
{
    define(f, name, dtype)->tile = tile;
}

static bool unstable(void *user, const qn_expr *x)
{
    const qn_facts *f = user;
    if (x->kind == QN_LOAD) {
        return !qn_facts_is_input(f, x->u.load.base);
    }
    /* a dot or a scan is a value of its own; folds and renames are never seen through */
    return x->kind == QN_FOLD || x->kind == QN_AS ||
           (x->kind == QN_AXOP && !qn_axop_is_reduce(x->u.axop.op));
}

void qn_facts_let(qn_facts *f, qn_sym name, qn_expr *x)
{
    qn_dtype d = qn_dtype_settle(qn_facts_dtype(f, x));
    bool sees = !qn_contains(x, unstable, f);
    const qn_lin *value = sees && d == QN_I64 ? qn_lin_of(f, x) : NULL;
    bool tile = value ? value->tile : qn_facts_is_tile(f, x);
    qn_fact_name *n = define(f, name, d);
    n->tile = tile;
    n->value = value;
    n->x = sees && (value || d != QN_I64) ? x : NULL;
}

static void assume_ge0(qn_facts *f, const qn_lin *l)
{
    if (l && l->n > 0) {
        QN_PUSH(f->arena, &f->ge0, l);
    }
}

void qn_facts_order(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    const qn_lin *l = qn_lin_sub(f, b, a);
    for (int32_t k = 0; k < f->ge0.count; k++) {
        if (f->ge0.at[k] == l) {
            return;
        }
    }
    assume_ge0(f, l);
    facts_changed(f);
}

static void assume_compare(qn_facts *f, qn_op op, const qn_expr *a, const qn_expr *b)
{
    const qn_lin *x = qn_lin_of(f, a), *y = qn_lin_of(f, b);
    const qn_lin *up = qn_lin_sub(f, y, x), *down = qn_lin_sub(f, x, y);
    switch ((int)op) {
    case QN_OP_LE:
        assume_ge0(f, up);
        break;
    case QN_OP_LT:
        assume_ge0(f, qn_lin_plus(f, up, -1));
        break;
    case QN_OP_GE:
        assume_ge0(f, down);
        break;
    case QN_OP_GT:
        assume_ge0(f, qn_lin_plus(f, down, -1));
        break;
    case QN_OP_EQ: {
        assume_ge0(f, up);
        assume_ge0(f, down);
        /* x % n == 0: the divisor is not 0, and for a constant n the term is a multiple */
        const qn_lin *m = y && y->n == 0 && y->k == 0 ? x : NULL;
        const qn_term *t = qn_lin_single(m);
        if (t && t->kind == QN_TERM_MOD) {
            const qn_term *d = qn_lin_single(t->b);
            const qn_fact_name *n = d && d->kind == QN_TERM_NAME ? qn_fact_find(f, d->name) : NULL;
            if (n && n->dim) {
                assume_ge0(f, qn_lin_plus(f, t->b, -1));
            }
            if (t->b->n == 0 && t->b->k > 0 && qn_lin_single(t->a)) {
                qn_fact_multiple e = {qn_lin_single(t->a), t->b->k};
                QN_PUSH(f->arena, &f->multiples, e);
            }
        }
        break;
    }
    default:
        break;
    }
}

static qn_op negated(qn_op op)
{
    switch ((int)op) {
    case QN_OP_LE:
        return QN_OP_GT;
    case QN_OP_LT:
        return QN_OP_GE;
    case QN_OP_GE:
        return QN_OP_LT;
    case QN_OP_GT:
        return QN_OP_LE;
    case QN_OP_EQ:
        return QN_OP_NE;
    default:
        return QN_OP_EQ;
    }
}

static void assume(qn_facts *f, const qn_expr *c, bool value, int depth)
{
    if (depth > 64) {
        return;
    }
    if (c->kind == QN_NAME) {
        const qn_expr *x = qn_facts_value(f, c->u.name);
        if (x) {
            assume(f, x, value, depth + 1);
        }
        return;
    }
    if (c->kind != QN_OP) {
        return;
    }
    qn_expr *const *args = c->u.op.args.at;
    qn_op op = c->u.op.op;
    if (op == QN_OP_NOT) {
        assume(f, args[0], !value, depth + 1);
    } else if (op == (value ? QN_OP_AND : QN_OP_OR)) {
        assume(f, args[0], value, depth + 1);
        assume(f, args[1], value, depth + 1);
    } else if (qn_op_is_compare(op) && qn_dtype_is_int(qn_facts_dtype(f, args[0])) &&
               !qn_facts_is_tile(f, c)) {
        assume_compare(f, value ? op : negated(op), args[0], args[1]);
    }
}

void qn_facts_assume(qn_facts *f, const qn_expr *cond, bool value)
{
    assume(f, cond, value, 0);
    facts_changed(f);
}

/* Upper bounds that hold while index < hi and index >= lo: of a min each side, of max(a, b) with
 * a <= lo the other side alone. */
static void add_hi(qn_facts *f, qn_fact_name *n, const qn_lin *lo, const qn_lin *hi, int64_t back,
                   int depth)
{
    if (!hi || n->nhis == QN_MAX_HIS) {
        return;
    }
    const qn_term *t = qn_lin_single(hi);
    if (t && depth < 4) {
        if (t->kind == QN_TERM_MIN) {
            add_hi(f, n, lo, t->a, back, depth + 1);
            add_hi(f, n, lo, t->b, back, depth + 1);
            return;
        }
        if (t->kind == QN_TERM_MAX) {
            bool left = qn_prove_le(f, t->a, lo);
            if (left || qn_prove_le(f, t->b, lo)) {
                add_hi(f, n, lo, left ? t->b : t->a, back, depth + 1);
                return;
            }
        }
    }
    const qn_lin *h = qn_lin_plus(f, hi, -back);
    if (h) {
        n->his[n->nhis++] = h;
    }
}

/* Is end the form, or a min of it and others? Seen, not proved: this runs for every loop. */
static bool ends_by(const qn_lin *end, const qn_lin *form, int depth)
{
    const qn_term *t = qn_lin_single(end);
    return end == form || (t && t->kind == QN_TERM_MIN && depth > 0 &&
                           (ends_by(t->a, form, depth - 1) || ends_by(t->b, form, depth - 1)));
}

/* Where a range begins if it has a trip: an arm of a select that lies at or past the end has none.
 */
static const qn_lin *start_within(qn_facts *f, const qn_lin *lo, const qn_lin *end, int depth)
{
    const qn_term *t = end && depth > 0 ? qn_lin_single(lo) : NULL;
    if (t && t->kind == QN_TERM_SELECT && ends_by(end, t->b, 4)) {
        return start_within(f, t->a, end, depth - 1);
    }
    if (t && t->kind == QN_TERM_SELECT && ends_by(end, t->a, 4)) {
        return start_within(f, t->b, end, depth - 1);
    }
    if (t && t->kind == QN_TERM_MAX) {
        const qn_lin *a = start_within(f, t->a, end, depth - 1);
        const qn_lin *b = start_within(f, t->b, end, depth - 1);
        bool same = a == t->a && b == t->b;
        return same ? lo : a == b ? a : qn_lin_pair(f, QN_TERM_MAX, a, b);
    }
    return lo;
}

void qn_facts_iter(qn_facts *f, const qn_iter *it)
{
    const qn_lin *step = it->step ? qn_lin_of(f, it->step) : qn_lin_int(f, 1);
    int64_t s = step && step->n == 0 && step->k > 0 ? step->k : 1;
    bool known = it->npieces > 0;
    const qn_lin *lo = NULL, *hi = NULL, *end = NULL;
    int64_t multiple = step && step->n == 0 ? s : 1, back = 1;
    for (int32_t p = 0; p < it->npieces && known; p++) {
        const qn_piece *q = &it->pieces[p];
        if (q->list) {
            known = false;
            break;
        }
        const qn_lin *b = qn_lin_of(f, q->hi), *a = start_within(f, qn_lin_of(f, q->lo), b, 4);
        const qn_lin *length = qn_lin_sub(f, b, a);
        /* an end on the grid: the last trip begins a whole step below it */
        bool grid = length && qn_lin_factor(f, length) % s == 0;
        multiple = a ? qn_gcd(multiple, qn_lin_factor(f, a)) : 1;
        /* not decided: the prover looks at both sides when it needs them */
        lo = p == 0 || lo == a ? a : qn_lin_pair(f, QN_TERM_MIN, lo, a);
        end = p == 0 || end == b ? b : qn_lin_pair(f, QN_TERM_MAX, end, b);
        back = it->npieces == 1 && grid ? s : back;
        const qn_lin *last = it->npieces > 1 && grid ? qn_lin_plus(f, b, 1 - s) : b;
        hi = p == 0 || hi == last ? last : qn_lin_pair(f, QN_TERM_MAX, hi, last);
    }
    qn_fact_name *n = define(f, it->name, QN_I64);
    n->index = true;
    qn_fact_name local = *n; /* proofs below may move the table */
    if (known) {
        local.lo = lo;
        local.multiple = multiple ? multiple : 1;
        if (lo) {
            add_hi(f, &local, lo, hi, back, 0);
        } else if (hi && qn_lin_plus(f, hi, -back)) {
            local.his[local.nhis++] = qn_lin_plus(f, hi, -back);
        }
    }
    *qn_fact_find(f, it->name) = local;
    if (known && it->npieces == 1) { /* inside it, the range is not empty */
        const qn_lin *room = qn_lin_plus(f, qn_lin_sub(f, end, lo), -1);
        bool plain = room != NULL;
        for (int32_t p = 0; plain && p < room->n; p++) {
            plain = room->at[p].term->kind == QN_TERM_NAME &&
                    !qn_facts_is_index(f, room->at[p].term->name);
        }
        assume_ge0(f, plain ? room : NULL);
    }
    if (it->end) {
        qn_fact_name e = {.name = it->end, .dtype = QN_I64, .index = true, .multiple = 1};
        if (known) {
            e.lo = qn_lin_plus(f, qn_lin_name(f, it->name), 1);
            if (end) {
                e.his[e.nhis++] = end;
            }
        }
        QN_PUSH(f->arena, &f->names, e);
    }
    facts_changed(f);
}

void qn_facts_variable(qn_facts *f, qn_sym name, const qn_lin *lo, const qn_lin *const *his,
                       int nhis)
{
    qn_fact_name *n = define(f, name, QN_I64);
    n->index = true;
    n->tile = true;
    n->lo = lo;
    for (int k = 0; k < nhis && n->nhis < QN_MAX_HIS; k++) {
        if (his[k]) {
            n->his[n->nhis++] = his[k];
        }
    }
    facts_changed(f);
}

static void unknown_results(qn_facts *f, const qn_sym *names, int32_t n)
{
    for (int32_t k = 0; k < n; k++) {
        qn_facts_unknown(f, names[k], QN_NO_TYPE, true);
    }
}

static void carries(qn_facts *f, const qn_stmt *loop)
{
    for (int32_t k = 0; k < loop->u.loop.ncarries; k++) {
        const qn_carry *c = &loop->u.loop.carries[k];
        qn_facts_unknown(f, c->name, c->type.dtype, c->type.rank > 0);
    }
}

static void memory(qn_facts *f, qn_sym name, const qn_type *type, bool input)
{
    qn_fact_name *n = define(f, name, type->dtype);
    n->memory = type;
    n->input = input;
}

void qn_facts_stmt(qn_facts *f, const qn_stmt *s)
{
    switch (s->kind) {
    case QN_LET:
        if (s->u.let.nnames == 1) {
            qn_facts_let(f, s->u.let.names[0], s->u.let.x);
        } else {
            unknown_results(f, s->u.let.names, s->u.let.nnames);
        }
        break;
    case QN_BUF:
        memory(f, s->u.buf.name, &s->u.buf.type, false);
        break;
    case QN_FOR:
        carries(f, s);
        break;
    case QN_IF:
        unknown_results(f, s->u.branch.names, s->u.branch.nnames);
        break;
    case QN_STORE:
    case QN_YIELD:
    case QN_SYNC:
    case QN_LAUNCH:
    case QN_FLAG:
    case QN_PREFETCH:
        break;
    }
}

typedef struct stored {
    qn_sym base;
    bool found;
} stored;

static void find_store(void *user, qn_stmt *s)
{
    stored *q = user;
    q->found |= s->kind == QN_STORE && s->u.store.base == q->base;
}

void qn_facts_enter_launch(qn_facts *f, const qn_block *launch)
{
    int32_t count = f->names.count;
    for (int32_t k = 0; k < count; k++) {
        qn_fact_name n = f->names.at[k];
        stored q = {n.name, false};
        if (n.memory && !n.input) {
            qn_block_stmts(launch, find_store, &q);
            n.input = !q.found;
            QN_PUSH(f->arena, &f->names, n);
        }
    }
}

void qn_facts_enter_loop(qn_facts *f, const qn_stmt *loop)
{
    for (int32_t k = 0; k < loop->u.loop.niters; k++) {
        qn_facts_iter(f, &loop->u.loop.iters[k]);
    }
    carries(f, loop);
}

qn_facts *qn_facts_kernel(qn_arena *arena, qn_ir *ir, const qn_kernel_ir *k)
{
    qn_facts *f = QN_NEW(arena, qn_facts);
    f->arena = arena;
    f->ir = ir;
    f->epoch = 1;
    f->left = ALL;
    for (int32_t d = 0; d < k->dims.count; d++) {
        const qn_expr *value = k->dims.at[d].value;
        const qn_lin *l = value ? qn_lin_of(f, value) : NULL;
        qn_fact_name *n = define(f, k->dims.at[d].name, QN_I64);
        n->dim = true;
        n->value = l;
    }
    for (int32_t p = 0; p < k->params.count; p++) {
        const qn_param *q = &k->params.at[p];
        if (q->type.rank > 0) {
            memory(f, q->name, &q->type, q->direction == QN_IN);
        } else {
            define(f, q->name, q->type.dtype);
        }
    }
    for (int32_t r = 0; r < k->requires.count; r++) {
        qn_facts_assume(f, k->requires.at[r].cond, true);
    }
    return f;
}

/* ---------------------------------------------------------------- divisors */

static int64_t known_multiple(const qn_facts *f, const qn_term *t)
{
    for (int32_t k = f->multiples.count - 1; k >= 0; k--) {
        if (f->multiples.at[k].term == t) {
            return f->multiples.at[k].n;
        }
    }
    return 1;
}

int64_t qn_term_multiple(qn_facts *f, const qn_term *t)
{
    int64_t n = known_multiple(f, t);
    if (n != 1) {
        return n;
    }
    switch (t->kind) {
    case QN_TERM_NAME: {
        const qn_fact_name *name = qn_fact_find(f, t->name);
        return name ? name->multiple : 1;
    }
    case QN_TERM_MUL: {
        int64_t p;
        return __builtin_mul_overflow(qn_lin_factor(f, t->a), qn_lin_factor(f, t->b), &p) ? 1 : p;
    }
    case QN_TERM_MIN:
    case QN_TERM_MAX:
    case QN_TERM_SELECT:
        return qn_gcd(qn_lin_factor(f, t->a), qn_lin_factor(f, t->b));
    case QN_TERM_IOTA:
    case QN_TERM_DIV:
    case QN_TERM_MOD:
    case QN_TERM_FLAG:
    case QN_TERM_OPAQUE:
    default:
        return 1;
    }
}

/* The divisor of the terms alone; 0 if there are none. */
static int64_t parts_factor(qn_facts *f, const qn_lin *a)
{
    int64_t g = 0;
    for (int32_t p = 0; p < a->n && g != 1; p++) {
        int64_t c;
        if (__builtin_mul_overflow(a->at[p].c, qn_term_multiple(f, a->at[p].term), &c)) {
            return 1;
        }
        g = qn_gcd(g, c);
    }
    return g;
}

int64_t qn_lin_factor(qn_facts *f, const qn_lin *a)
{
    return a ? qn_gcd(parts_factor(f, a), a->k) : 1;
}

/* ---------------------------------------------------------------- the prover */

static bool ge0(qn_facts *f, const qn_lin *l, int depth);

/* r + c * b >= 0 */
static bool with(qn_facts *f, const qn_lin *r, int64_t c, const qn_lin *b, int depth)
{
    const qn_lin *l = qn_lin_add(f, r, qn_lin_scale(f, b, c));
    return l && ge0(f, l, depth);
}

/* Can the value of a term depend on a tile element or on the name? */
static bool lin_mentions(const qn_lin *l, qn_sym name, qn_sym axis);

static bool expr_mentions(const qn_expr *x, qn_sym name, qn_sym axis)
{
    return name ? qn_mentions_name(x, name) : qn_mentions_axis(x, axis);
}

static bool term_mentions(const qn_term *t, qn_sym name, qn_sym axis)
{
    return (name && t->kind == QN_TERM_NAME && t->name == name) ||
           (axis && t->kind == QN_TERM_IOTA && t->axis.name == axis) ||
           (t->x && expr_mentions(t->x, name, axis)) || (t->a && lin_mentions(t->a, name, axis)) ||
           (t->b && lin_mentions(t->b, name, axis));
}

static bool lin_mentions(const qn_lin *l, qn_sym name, qn_sym axis)
{
    for (int32_t p = 0; p < l->n; p++) {
        if (term_mentions(l->at[p].term, name, axis)) {
            return true;
        }
    }
    return false;
}

bool qn_term_mentions_axis(const qn_term *t, qn_sym axis)
{
    return term_mentions(t, NULL, axis);
}

/* The term occurs in no other part of l and in no assumption. */
static bool alone(const qn_facts *f, const qn_lin *l, int32_t at)
{
    const qn_term *t = l->at[at].term;
    qn_sym name = t->kind == QN_TERM_NAME ? t->name : NULL;
    qn_sym axis = t->kind == QN_TERM_IOTA ? t->axis.name : NULL;
    for (int32_t p = 0; p < l->n; p++) {
        if (p != at && term_mentions(l->at[p].term, name, axis)) {
            return false;
        }
    }
    for (int32_t k = 0; name && k < f->ge0.count; k++) {
        if (lin_mentions(f->ge0.at[k], name, NULL)) {
            return false;
        }
    }
    return true;
}

/* The innermost index or iota that occurs nowhere else, or -1. Inner bounds mention outer indices,
 * never the reverse, so taking the innermost first loses nothing. */
static int32_t free_variable(const qn_facts *f, const qn_lin *l)
{
    int32_t best = -1, best_order = -1;
    for (int32_t p = 0; p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        int32_t order = -1;
        if (t->kind == QN_TERM_IOTA) {
            order = INT32_MAX;
        } else if (t->kind == QN_TERM_NAME) {
            const qn_fact_name *n = qn_fact_find(f, t->name);
            order = n && n->index ? (int32_t)(n - f->names.at) : -1;
        }
        if (order > best_order && alone(f, l, p)) {
            best = p;
            best_order = order;
        }
    }
    /* an index further in that is bound up elsewhere may still bring this one in */
    for (int32_t p = 0; best >= 0 && p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        if (p != best && best_order != INT32_MAX && t->kind != QN_TERM_IOTA) {
            const qn_fact_name *n = t->kind == QN_TERM_NAME ? qn_fact_find(f, t->name) : NULL;
            bool outer = n && (int32_t)(n - f->names.at) < best_order;
            bool scalar = t->kind == QN_TERM_NAME && (!n || !n->index);
            if (!outer && !scalar) {
                return -1;
            }
        }
    }
    return best;
}

static bool by_variable(qn_facts *f, const qn_lin *l, int32_t p, int depth)
{
    const qn_term *t = l->at[p].term;
    int64_t c = l->at[p].c;
    const qn_lin *r = qn_lin_without(f, l, t);
    if (t->kind == QN_TERM_IOTA) {
        const qn_lin *end = qn_lin_plus(f, qn_lin_extent(f, t->axis.extent), -1);
        return with(f, r, c, c > 0 ? qn_lin_int(f, 0) : end, depth);
    }
    qn_fact_name *n = qn_fact_find(f, t->name);
    if (!n || (!n->index && !n->dim)) {
        return false;
    }
    if (n->dim) {
        return c > 0 && with(f, r, c, qn_lin_int(f, 0), depth);
    }
    if (c > 0) {
        return n->lo && with(f, r, c, n->lo, depth);
    }
    qn_fact_name known = *n; /* the table may move below */
    for (int32_t k = 0; k < known.nhis; k++) {
        if (with(f, r, c, known.his[k], depth)) {
            return true;
        }
    }
    return false;
}

/* With n >= 1:  x // n + r >= 0  is  x + n * r >= 0;  r - x // n >= 0  is  n * r + n - 1 - x >= 0.
 */
static bool multiplied_out(qn_facts *f, const qn_term *t, int64_t c, const qn_lin *r, int depth)
{
    const qn_lin *l = qn_lin_mul(f, r, t->b);
    if (c > 0) {
        return ge0(f, qn_lin_add(f, l, t->a), depth);
    }
    return ge0(f, qn_lin_sub(f, qn_lin_plus(f, qn_lin_add(f, l, t->b), -1), t->a), depth);
}

static bool by_quotient(qn_facts *f, const qn_term *t, int64_t c, const qn_lin *r, int depth)
{
    const qn_lin *x = t->a, *n = t->b, *zero = qn_lin_int(f, 0);
    if (n->n == 0 && n->k > 0) {
        if (c % n->k == 0) { /* n * (x // n) is between x - (n - 1) and x */
            const qn_lin *b = c > 0 ? qn_lin_plus(f, x, 1 - n->k) : x;
            if (with(f, r, c / n->k, b, depth)) {
                return true;
            }
        }
        if (c > 0 && ge0(f, x, depth) && with(f, r, c, zero, depth)) {
            return true;
        }
        if (c < 0 && ge0(f, x, depth) && with(f, r, c, x, depth)) {
            return true; /* x // n <= x for x >= 0 */
        }
        return false;
    }
    /* 0 <= u * v // w <= v - 1 for 0 <= u < w and v >= 1 */
    const qn_term *m = qn_lin_single(x);
    if (m && m->kind == QN_TERM_MUL) {
        for (int side = 0; side < 2; side++) {
            const qn_lin *u = side ? m->b : m->a, *v = side ? m->a : m->b;
            const qn_lin *room = qn_lin_plus(f, qn_lin_sub(f, n, u), -1);
            if (room && ge0(f, room, depth) && ge0(f, u, depth) &&
                ge0(f, qn_lin_plus(f, v, -1), depth) &&
                with(f, r, c, c > 0 ? zero : qn_lin_plus(f, v, -1), depth)) {
                return true;
            }
        }
    }
    bool positive = n->n > 0 && ge0(f, qn_lin_plus(f, n, -1), depth);
    if (positive && (c == 1 || c == -1) && multiplied_out(f, t, c, r, depth)) {
        return true;
    }
    if (c > 0 && positive && ge0(f, x, depth) && with(f, r, c, zero, depth)) {
        return true;
    }
    return c < 0 && positive && ge0(f, x, depth) && with(f, r, c, x, depth);
}

static bool by_term(qn_facts *f, const qn_lin *l, int32_t p, int depth)
{
    const qn_term *t = l->at[p].term;
    int64_t c = l->at[p].c;
    const qn_lin *r = qn_lin_without(f, l, t);
    const qn_lin *zero = qn_lin_int(f, 0);
    switch (t->kind) {
    case QN_TERM_NAME:
    case QN_TERM_IOTA:
        return by_variable(f, l, p, depth);
    case QN_TERM_MIN:
    case QN_TERM_MAX:
        /* a lower bound of min, an upper of max needs both sides; else one is enough */
        if ((t->kind == QN_TERM_MIN) == (c > 0)) {
            return with(f, r, c, t->a, depth) && with(f, r, c, t->b, depth);
        }
        return with(f, r, c, t->a, depth) || with(f, r, c, t->b, depth);
    case QN_TERM_SELECT:
        return with(f, r, c, t->a, depth) && with(f, r, c, t->b, depth);
    case QN_TERM_DIV:
        return by_quotient(f, t, c, r, depth);
    case QN_TERM_MOD: {
        const qn_lin *last = qn_lin_plus(f, t->b, -1);
        return last && ge0(f, last, depth) && with(f, r, c, c > 0 ? zero : last, depth);
    }
    case QN_TERM_MUL:
        return c > 0 && ge0(f, t->a, depth) && ge0(f, t->b, depth) && with(f, r, c, zero, depth);
    case QN_TERM_FLAG:
        return with(f, r, c, qn_lin_int(f, c > 0 ? 0 : 1), depth);
    case QN_TERM_OPAQUE:
    default:
        return false;
    }
}

/* c * (x // n) - c * (y // n) >= 0 if x >= y, for one n >= 1. */
static bool by_pair(qn_facts *f, const qn_lin *l, int depth)
{
    for (int32_t p = 0; p < l->n; p++) {
        for (int32_t q = 0; q < l->n; q++) {
            const qn_term *s = l->at[p].term, *t = l->at[q].term;
            if (l->at[p].c > 0 && l->at[q].c == -l->at[p].c && s->kind == QN_TERM_DIV &&
                t->kind == QN_TERM_DIV && s->b == t->b) {
                const qn_lin *d = qn_lin_sub(f, s->a, t->a), *n = qn_lin_plus(f, s->b, -1);
                const qn_lin *r = qn_lin_without(f, qn_lin_without(f, l, s), t);
                if (d && n && ge0(f, n, depth) && ge0(f, d, depth) && ge0(f, r, depth)) {
                    return true;
                }
            }
        }
    }
    return false;
}

static bool by_fact(qn_facts *f, const qn_lin *l, int depth)
{
    depth = depth < FACT_DEPTH ? depth : FACT_DEPTH;
    for (int32_t k = 0; k < f->ge0.count; k++) {
        const qn_lin *fact = f->ge0.at[k];
        for (int32_t p = 0; p < fact->n; p++) {
            int64_t c = qn_lin_coef(l, fact->at[p].term), d = fact->at[p].c;
            if (c != 0 && c % d == 0 && c / d > 0) {
                const qn_lin *rest = qn_lin_sub(f, l, qn_lin_scale(f, fact, c / d));
                if (rest && ge0(f, rest, depth)) {
                    return true;
                }
            }
        }
    }
    return false;
}

static bool search(qn_facts *f, const qn_lin *l, int depth)
{
    int32_t v = free_variable(f, l);
    if (v >= 0) {
        return by_variable(f, l, v, depth + 1); /* costs no depth: the form has one term less */
    }
    for (int32_t p = 0; p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        int64_t c = l->at[p].c;
        if (t->kind == QN_TERM_DIV && t->b->n == 0 && t->b->k > 0 && (c == 1 || c == -1)) {
            /* an equivalence, so nothing else need be tried */
            return multiplied_out(f, t, c, qn_lin_without(f, l, t), depth);
        }
    }
    for (int32_t p = 0; p < l->n; p++) {
        if (by_term(f, l, p, depth)) {
            return true;
        }
    }
    return by_pair(f, l, depth) || by_fact(f, l, depth);
}

/* Divided by what divides every coefficient: g * m + k >= 0 is m + k // g >= 0. */
static const qn_lin *primitive(qn_facts *f, const qn_lin *l)
{
    int64_t g = 0;
    for (int32_t p = 0; p < l->n && g != 1; p++) {
        g = qn_gcd(g, l->at[p].c);
    }
    return g > 1 ? qn_lin_div(f, l, qn_lin_int(f, g)) : l;
}

static bool ge0(qn_facts *f, const qn_lin *l, int depth)
{
    if (!l) {
        return false;
    }
    if (l->n == 0) {
        return l->k >= 0;
    }
    int64_t g = parts_factor(f, l);
    if (g == 0) {
        return l->k >= 0; /* every term is zero */
    }
    if (g > 1) { /* terms are multiples of g: the rest may count up to g - 1 */
        int64_t rest = l->k % g + (l->k % g < 0 ? g : 0);
        l = qn_lin_plus(f, l, g - 1 - rest);
        l = l ? primitive(f, l) : NULL;
        if (!l) {
            return false;
        }
    }
    qn_lin_memo *m = l->memo;
    if (m->epoch != f->epoch) {
        *m = (qn_lin_memo){f->epoch, -1, false};
    }
    if (m->proved) {
        return true;
    }
    if (depth <= 0 || m->failed >= depth || f->fuel <= 0) {
        return false;
    }
    f->fuel--;
    f->left--;
    int32_t before = m->failed;
    m->failed = depth; /* a proof that needs itself is none */
    bool proved = search(f, l, depth - 1);
    if (m->epoch == f->epoch) {
        m->proved |= proved;
        if (!proved && f->fuel <= 0) {
            m->failed = before; /* not refuted, only given up */
        }
    }
    return proved;
}

bool qn_prove_ge0(qn_facts *f, const qn_lin *a)
{
    int32_t outer = f->fuel;
    bool nested = f->deciding;
    f->deciding = true;
    if (!nested) {
        f->fuel = f->left < FUEL ? f->left : FUEL;
    }
    bool proved = ge0(f, a, DEPTH);
    f->deciding = nested;
    if (!nested) {
        f->fuel = outer;
    }
    return proved;
}

bool qn_prove_le(qn_facts *f, const qn_lin *a, const qn_lin *b)
{
    return qn_prove_ge0(f, qn_lin_sub(f, b, a));
}

static bool prove_compare(qn_facts *f, qn_op op, const qn_expr *a, const qn_expr *b)
{
    if (!qn_dtype_is_int(qn_facts_dtype(f, a)) || !qn_dtype_is_int(qn_facts_dtype(f, b))) {
        return false;
    }
    const qn_lin *x = qn_lin_of(f, a), *y = qn_lin_of(f, b);
    switch ((int)op) {
    case QN_OP_LE:
        return qn_prove_le(f, x, y);
    case QN_OP_LT:
        return qn_prove_le(f, qn_lin_plus(f, x, 1), y);
    case QN_OP_GE:
        return qn_prove_le(f, y, x);
    case QN_OP_GT:
        return qn_prove_le(f, qn_lin_plus(f, y, 1), x);
    case QN_OP_EQ:
        return x && (x == y || (qn_prove_le(f, x, y) && qn_prove_le(f, y, x)));
    case QN_OP_NE:
        return qn_prove_le(f, qn_lin_plus(f, x, 1), y) || qn_prove_le(f, qn_lin_plus(f, y, 1), x);
    default:
        return false;
    }
}

static bool prove(qn_facts *f, const qn_expr *c, bool value, int depth)
{
    if (depth > 64) {
        return false;
    }
    if (c->kind == QN_LIT) {
        return c->u.lit.type == QN_BOOL && (c->u.lit.i != 0) == value;
    }
    if (c->kind == QN_NAME) {
        const qn_expr *x = qn_facts_value(f, c->u.name);
        return x && prove(f, x, value, depth + 1);
    }
    if (c->kind != QN_OP) {
        return false;
    }
    qn_expr *const *args = c->u.op.args.at;
    qn_op op = c->u.op.op;
    if (op == QN_OP_NOT) {
        return prove(f, args[0], !value, depth + 1);
    }
    if (op == QN_OP_AND || op == QN_OP_OR) {
        if (value == (op == QN_OP_AND)) {
            return prove(f, args[0], value, depth + 1) && prove(f, args[1], value, depth + 1);
        }
        return prove(f, args[0], value, depth + 1) || prove(f, args[1], value, depth + 1);
    }
    if (qn_op_is_compare(op)) {
        return prove_compare(f, value ? op : negated(op), args[0], args[1]);
    }
    return false;
}

bool qn_prove(qn_facts *f, const qn_expr *cond, bool value)
{
    return prove(f, cond, value, 0);
}

bool qn_inside_axis(qn_facts *f, const qn_expr *index, qn_extent extent)
{
    const qn_lin *l = qn_lin_of(f, index);
    const qn_lin *room = qn_lin_plus(f, qn_lin_sub(f, qn_lin_extent(f, extent), l), -1);
    return l && room && qn_prove_ge0(f, l) && qn_prove_ge0(f, room);
}

bool qn_inside(qn_facts *f, qn_sym base, const qn_exprs *index)
{
    const qn_type *t = qn_facts_memory(f, base);
    bool ok = t && t->rank == index->count;
    for (int32_t k = 0; ok && k < t->rank; k++) {
        ok = qn_inside_axis(f, index->at[k], t->axes[k].extent);
    }
    return ok;
}
