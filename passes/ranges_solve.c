/* SPDX-License-Identifier: MIT
 *
 * may and must of a mask over a box; see ranges_in.h. */
#include "passes/ranges_in.h"

#include "ir/build.h"
#include "ir/walk.h"

#include <string.h>

enum {
    MAX_PIECES = 3,   /* of a loop; more are joined to their hull, or dropped */
    MAX_PRODUCT = 24, /* conjunctions that `and` may make; more, and one side is dropped */
    MAX_UNION = 48,
    MAX_ROWS = 40,  /* inequalities of a conjunction while eliminating; more are dropped */
    MAX_DEPTH = 40, /* of a mask */
    MAX_SOLVE = 8   /* nested non-linear terms */
};

typedef struct conj { /* each form <= 0 */
    const qn_lin **at;
    int32_t count, cap;
} conj;

typedef struct dnf {
    conj *at;
    int32_t count, cap;
} dnf;

/* ---------------------------------------------------------------- what varies */

enum { BY_LOOP = 1, BY_ELEMENT = 2 };

static int name_varies(const qn_box *b, qn_sym name)
{
    if (b->x && name == b->x->name) {
        return BY_LOOP | BY_ELEMENT;
    }
    for (int32_t k = 0; k < b->nrows; k++) {
        if (name == b->rows[k].var->name) {
            return BY_ELEMENT;
        }
    }
    if (name == b->index) {
        return b->at_hand ? 0 : BY_LOOP | BY_ELEMENT;
    }
    const qn_fact_name *n = qn_fact_find(b->f, name);
    if (n && n->fixed) {
        return 0;
    }
    if (!n || (n - b->f->names.at >= b->outside && !n->value)) {
        return BY_LOOP | BY_ELEMENT;
    }
    return n->tile ? BY_ELEMENT : 0;
}

typedef struct expr_look {
    const qn_box *box;
    int found;
} expr_look;

static bool look_expr(void *user, const qn_expr *x)
{
    expr_look *l = user;
    if (x->kind == QN_NAME) {
        l->found |= name_varies(l->box, x->u.name);
    } else if (x->kind == QN_IOTA) {
        l->found |= BY_ELEMENT;
    } else if (x->kind == QN_AXOP || x->kind == QN_FOLD || x->kind == QN_AS ||
               (x->kind == QN_LOAD && !qn_facts_is_input(l->box->f, x->u.load.base))) {
        l->found |= BY_LOOP | BY_ELEMENT;
    }
    return true;
}

static int lin_varies(const qn_box *b, const qn_lin *l);

static int term_varies(const qn_box *b, const qn_term *t)
{
    if (t->kind == QN_TERM_NAME) {
        return name_varies(b, t->name);
    }
    if (t->kind == QN_TERM_IOTA) {
        return BY_ELEMENT;
    }
    int found = 0;
    if (t->x) {
        expr_look l = {b, 0};
        qn_visit(t->x, look_expr, &l);
        found = l.found;
    }
    return found | (t->a ? lin_varies(b, t->a) : 0) | (t->b ? lin_varies(b, t->b) : 0);
}

static int lin_varies(const qn_box *b, const qn_lin *l)
{
    int found = 0;
    for (int32_t p = 0; p < l->n; p++) {
        found |= term_varies(b, l->at[p].term);
    }
    return found;
}

bool qn_box_varies(const qn_box *b, const qn_term *t)
{
    return term_varies(b, t) & BY_LOOP;
}

bool qn_box_is_tile(const qn_box *b, const qn_term *t)
{
    return term_varies(b, t) & BY_ELEMENT;
}

/* ---------------------------------------------------------------- positions as variables */

void qn_box_open(qn_box *b)
{
    qn_facts *f = b->f;
    const qn_lin *last = qn_lin_plus(f, b->hi, -1);
    if (b->at_hand) {
        const qn_lin *i = qn_lin_name(f, b->index);
        const qn_lin *his[2] = {qn_lin_plus(f, i, b->size - 1), last};
        qn_facts_variable(f, qn_intern(b->ir, "$x"), i, his, 2);
    } else {
        qn_facts_variable(f, qn_intern(b->ir, "$x"), b->lo, &last, 1);
    }
    b->x = qn_lin_single(qn_lin_name(f, qn_intern(b->ir, "$x")));
    for (int32_t k = 0; k < b->nrows; k++) {
        qn_row *r = &b->rows[k];
        char name[24] = "$r00";
        name[2] = (char)('0' + k / 10 % 10);
        name[3] = (char)('0' + k % 10);
        const qn_lin *i = qn_lin_name(f, r->index);
        const qn_lin *end = qn_lin_plus(f, i, r->size - 1);
        qn_facts_variable(f, qn_intern(b->ir, name), i, &end, 1);
        r->var = qn_lin_single(qn_lin_name(f, qn_intern(b->ir, name)));
    }
}

static qn_expr *position(const qn_box *b, const qn_term *var, qn_sym index)
{
    return qn_op2(b->ir, QN_OP_SUB, qn_name(b->ir, var->name), qn_name(b->ir, index));
}

/* j:64 becomes $x - j0; a reduction becomes a name of its own. */
static qn_expr *to_position(void *user, qn_expr *x)
{
    qn_box *b = user;
    if (x->kind == QN_AXOP) {
        for (int32_t k = 0; k < b->unknown.count; k += 2) {
            if (qn_expr_equal(b->unknown.at[k], x)) {
                return b->unknown.at[k + 1];
            }
        }
        char name[16] = "$u00";
        name[2] = (char)('0' + b->unknown.count / 20 % 10);
        name[3] = (char)('0' + b->unknown.count / 2 % 10);
        qn_facts_unknown(b->f, qn_intern(b->ir, name), qn_facts_dtype(b->f, x), true);
        qn_expr **at = QN_NEWN(b->ir->arena, qn_expr *, b->unknown.count + 2);
        for (int32_t k = 0; k < b->unknown.count; k++) {
            at[k] = b->unknown.at[k];
        }
        at[b->unknown.count] = x;
        at[b->unknown.count + 1] = qn_name_of(b->ir, name);
        b->unknown = (qn_exprs){at, b->unknown.count + 2};
        return at[b->unknown.count - 1];
    }
    if (x->kind != QN_IOTA || x->u.iota.extent.dim) {
        return x;
    }
    if (x->u.iota.name == b->axis && x->u.iota.extent.n == b->size) {
        return position(b, b->x, b->index);
    }
    for (int32_t k = 0; k < b->nrows; k++) {
        if (x->u.iota.name == b->rows[k].axis && x->u.iota.extent.n == b->rows[k].size) {
            return position(b, b->rows[k].var, b->rows[k].index);
        }
    }
    return x;
}

/* x inlined, its positions as variables; or NULL. */
static qn_expr *normal(qn_box *b, const qn_expr *x)
{
    qn_expr *e = qn_facts_inline(b->f, x);
    return e && b->unknown.count < 40 ? qn_rewrite(b->ir, e, to_position, b) : NULL;
}

static const qn_lin *normal_lin(qn_box *b, const qn_expr *x)
{
    qn_expr *e = normal(b, x);
    return e ? qn_lin_of(b->f, e) : NULL;
}

/* ---------------------------------------------------------------- disjunctive form */

static dnf never(void)
{
    return (dnf){0};
}

static dnf always(qn_box *b)
{
    dnf d = {0};
    conj c = {0};
    QN_PUSH(b->arena, &d, c);
    return d;
}

static dnf single(qn_box *b, const qn_lin *l)
{
    dnf d = always(b);
    if (l) {
        QN_PUSH(b->arena, &d.at[0], l);
    }
    return d;
}

static bool is_always(const dnf *d)
{
    return d->count == 1 && d->at[0].count == 0;
}

static dnf either(qn_box *b, dnf x, dnf y)
{
    if (is_always(&x) || x.count + y.count > MAX_UNION) {
        return always(b);
    }
    if (is_always(&y)) {
        return y;
    }
    dnf d = {0};
    for (int32_t k = 0; k < x.count; k++) {
        QN_PUSH(b->arena, &d, x.at[k]);
    }
    for (int32_t k = 0; k < y.count; k++) {
        QN_PUSH(b->arena, &d, y.at[k]);
    }
    return d;
}

static dnf both(qn_box *b, dnf x, dnf y)
{
    if (is_always(&y) || x.count * y.count > MAX_PRODUCT) {
        return x; /* dropping conditions only makes the set greater */
    }
    if (is_always(&x)) {
        return y;
    }
    dnf d = {0};
    for (int32_t p = 0; p < x.count; p++) {
        for (int32_t q = 0; q < y.count; q++) {
            conj c = {0};
            for (int32_t k = 0; k < x.at[p].count; k++) {
                QN_PUSH(b->arena, &c, x.at[p].at[k]);
            }
            for (int32_t k = 0; k < y.at[q].count; k++) {
                QN_PUSH(b->arena, &c, y.at[q].at[k]);
            }
            QN_PUSH(b->arena, &d, c);
        }
    }
    return d;
}

static dnf dnf_of(qn_box *b, const qn_expr *e, bool neg, int depth);
static dnf solve(qn_box *b, const qn_lin *l, int depth);

/* a <= bound (up) or a >= bound, where l is a form without the coefficient. */
static dnf against(qn_box *b, const qn_lin *a, const qn_lin *bound, bool up, int depth)
{
    return solve(b, up ? qn_lin_sub(b->f, a, bound) : qn_lin_sub(b->f, bound, a), depth - 1);
}

static const qn_lin *ceil_div(qn_facts *f, const qn_lin *a, const qn_lin *n)
{
    return qn_lin_scale(f, qn_lin_div(f, qn_lin_scale(f, a, -1), n), -1);
}

/* One term a of L <= 0 that is not linear in x: a <= bound or a >= bound solved for what is inside.
 * False: it cannot be. */
static bool solve_term(qn_box *b, const qn_term *t, const qn_lin *bound, bool up, int depth,
                       dnf *out)
{
    qn_facts *f = b->f;
    switch (t->kind) {
    case QN_TERM_DIV:
        if ((lin_varies(b, t->b) & BY_ELEMENT) || !qn_prove_ge0(f, qn_lin_plus(f, t->b, -1))) {
            return false;
        }
        bound = qn_lin_mul(f, bound, t->b); /* g // n <= p: g <= p * n + n - 1 */
        bound = up ? qn_lin_plus(f, qn_lin_add(f, bound, t->b), -1) : bound;
        *out = against(b, t->a, bound, up, depth);
        return true;
    case QN_TERM_MUL:
        for (int side = 0; side < 2; side++) {
            const qn_lin *g = side ? t->b : t->a, *n = side ? t->a : t->b;
            if (!(lin_varies(b, n) & BY_ELEMENT) && qn_prove_ge0(f, qn_lin_plus(f, n, -1))) {
                bound = up ? qn_lin_div(f, bound, n) : ceil_div(f, bound, n);
                *out = against(b, g, bound, up, depth);
                return true;
            }
        }
        return false;
    case QN_TERM_MIN:
    case QN_TERM_MAX: {
        dnf g = against(b, t->a, bound, up, depth), h = against(b, t->b, bound, up, depth);
        *out = (t->kind == QN_TERM_MIN) == up ? either(b, g, h) : both(b, g, h);
        return true;
    }
    case QN_TERM_SELECT: {
        dnf g = against(b, t->a, bound, up, depth), h = against(b, t->b, bound, up, depth);
        g = both(b, dnf_of(b, t->x, false, MAX_DEPTH - depth), g);
        h = both(b, dnf_of(b, t->x, true, MAX_DEPTH - depth), h);
        *out = either(b, g, h);
        return true;
    }
    case QN_TERM_NAME:
    case QN_TERM_IOTA:
    case QN_TERM_MOD:
    case QN_TERM_FLAG:
    case QN_TERM_OPAQUE:
    default:
        return false;
    }
}

/* L <= 0. */
static dnf solve(qn_box *b, const qn_lin *l, int depth)
{
    qn_facts *f = b->f;
    if (!l) {
        return always(b);
    }
    for (int32_t p = 0; depth > 0 && p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        int64_t c = l->at[p].c;
        if (t->kind == QN_TERM_NAME || !qn_box_varies(b, t)) {
            continue;
        }
        /* c * a + rest <= 0 */
        const qn_lin *rest = qn_lin_without(f, l, t), *n = qn_lin_int(f, c > 0 ? c : -c);
        const qn_lin *bound =
            c > 0 ? qn_lin_div(f, qn_lin_scale(f, rest, -1), n) : ceil_div(f, rest, n);
        dnf d;
        if (bound && solve_term(b, t, bound, c > 0, depth, &d)) {
            return d;
        }
    }
    return single(b, l);
}

static dnf compare(qn_box *b, qn_op op, bool neg, const qn_expr *x, const qn_expr *y, int depth)
{
    qn_facts *f = b->f;
    qn_dtype s = qn_facts_dtype(f, x), t = qn_facts_dtype(f, y);
    if (s == QN_BOOL || t == QN_BOOL) {
        bool differ = neg != (op == QN_OP_NE);
        if (op != QN_OP_EQ && op != QN_OP_NE) {
            return always(b);
        }
        /* equal: both or neither */
        /* in this order, on every compiler: what is met first is named first */
        dnf px = dnf_of(b, x, false, depth + 1), py = dnf_of(b, y, differ, depth + 1);
        dnf p = both(b, px, py);
        dnf qx = dnf_of(b, x, true, depth + 1), qy = dnf_of(b, y, !differ, depth + 1);
        dnf q = both(b, qx, qy);
        return either(b, p, q);
    }
    if (!qn_dtype_is_int(s) || !qn_dtype_is_int(t)) {
        return always(b);
    }
    const qn_lin *lx = normal_lin(b, x), *ly = normal_lin(b, y);
    const qn_lin *d = qn_lin_sub(f, lx, ly);
    const qn_lin *e = qn_lin_scale(f, d, -1);
    if (!d) {
        return always(b);
    }
    bool strict = false;
    switch ((int)op) {
    case QN_OP_EQ:
    case QN_OP_NE:
        if ((op == QN_OP_EQ) != neg) {
            dnf below = solve(b, d, MAX_SOLVE), above = solve(b, e, MAX_SOLVE);
            return both(b, below, above);
        }
        dnf lower = solve(b, qn_lin_plus(f, d, 1), MAX_SOLVE);
        dnf upper = solve(b, qn_lin_plus(f, e, 1), MAX_SOLVE);
        return either(b, lower, upper);
    case QN_OP_LT:
    case QN_OP_LE:
        strict = (op == QN_OP_LT) != neg;
        return solve(b, qn_lin_plus(f, neg ? e : d, strict), MAX_SOLVE);
    default:
        strict = (op == QN_OP_GT) != neg;
        return solve(b, qn_lin_plus(f, neg ? d : e, strict), MAX_SOLVE);
    }
}

/* e, or not e, as a union of conjunctions; a superset where it cannot be read. */
static dnf dnf_of(qn_box *b, const qn_expr *e, bool neg, int depth)
{
    if (depth > MAX_DEPTH) {
        return always(b);
    }
    if (e->kind == QN_LIT) {
        return (e->u.lit.i != 0) != neg ? always(b) : never();
    }
    if (e->kind == QN_NAME) {
        const qn_expr *x = qn_facts_value(b->f, e->u.name);
        if (x) {
            return dnf_of(b, x, neg, depth + 1);
        }
    }
    if (e->kind == QN_OP) {
        qn_expr *const *args = e->u.op.args.at;
        qn_op op = e->u.op.op;
        if (op == QN_OP_NOT) {
            return dnf_of(b, args[0], !neg, depth + 1);
        }
        if (op == QN_OP_AND || op == QN_OP_OR) {
            dnf x = dnf_of(b, args[0], neg, depth + 1), y = dnf_of(b, args[1], neg, depth + 1);
            return (op == QN_OP_OR) != neg ? either(b, x, y) : both(b, x, y);
        }
        if (op == QN_OP_SELECT) {
            dnf is = dnf_of(b, args[0], false, depth + 1), x = dnf_of(b, args[1], neg, depth + 1);
            x = both(b, is, x);
            dnf isnt = dnf_of(b, args[0], true, depth + 1), y = dnf_of(b, args[2], neg, depth + 1);
            y = both(b, isnt, y);
            return either(b, x, y);
        }
        if (qn_op_is_compare(op)) {
            return compare(b, op, neg, args[0], args[1], depth);
        }
    }
    /* a bool that is a value: 0 or 1 */
    qn_expr *x = normal(b, e);
    const qn_lin *flag = x ? qn_lin_of(b->f, qn_cast(b->ir, QN_I64, x)) : NULL;
    return flag ? single(b, neg ? flag : qn_lin_plus(b->f, qn_lin_scale(b->f, flag, -1), 1))
                : always(b);
}

/* ---------------------------------------------------------------- bounds over the box */

static qn_interval interval(qn_box *b, const qn_term *t, bool clip);

static qn_interval lin_interval(qn_box *b, const qn_lin *l, bool clip)
{
    qn_facts *f = b->f;
    qn_interval r = {qn_lin_int(f, l->k), qn_lin_int(f, l->k)};
    for (int32_t p = 0; p < l->n && (r.lo || r.hi); p++) {
        qn_interval i = interval(b, l->at[p].term, clip);
        int64_t c = l->at[p].c;
        r.lo = qn_lin_add(f, r.lo, qn_lin_scale(f, c > 0 ? i.lo : i.hi, c));
        r.hi = qn_lin_add(f, r.hi, qn_lin_scale(f, c > 0 ? i.hi : i.lo, c));
    }
    return r;
}

static const qn_lin *row_end(qn_box *b, const qn_row *r, bool clip)
{
    return clip && r->dead ? qn_lin_plus(b->f, qn_lin_extent(b->f, r->end), -1) : NULL;
}

/* Lower bounds, then upper bounds of a variable; those that are not there stay NULL. */
typedef struct var_bounds {
    const qn_lin *lo, *hi[2];
} var_bounds;

static var_bounds bounds_of(qn_box *b, const qn_term *t, bool clip)
{
    qn_facts *f = b->f;
    var_bounds v = {0};
    const qn_lin *last = qn_lin_plus(f, b->hi, -1);
    if (t == b->x) {
        const qn_lin *i = qn_lin_name(f, b->index);
        v.lo = b->at_hand ? i : b->lo;
        v.hi[0] = b->at_hand ? qn_lin_plus(f, i, b->size - 1) : last;
        v.hi[1] = b->at_hand ? last : NULL;
        return v;
    }
    for (int32_t k = 0; k < b->nrows; k++) {
        if (t == b->rows[k].var) {
            v.lo = qn_lin_name(f, b->rows[k].index);
            v.hi[0] = qn_lin_plus(f, v.lo, b->rows[k].size - 1);
            v.hi[1] = row_end(b, &b->rows[k], clip);
            return v;
        }
    }
    if (t->kind == QN_TERM_NAME && t->name == b->index) {
        v.lo = b->at_hand ? qn_lin_term(f, t) : b->lo;
        v.hi[0] = b->at_hand ? v.lo : last;
    } else if (t->kind == QN_TERM_IOTA) {
        v.lo = qn_lin_int(f, 0);
        v.hi[0] = qn_lin_plus(f, qn_lin_extent(f, t->axis.extent), -1);
    } else {
        qn_interval i = interval(b, t, clip);
        v.lo = i.lo;
        v.hi[0] = i.hi;
    }
    return v;
}

static qn_interval interval(qn_box *b, const qn_term *t, bool clip)
{
    qn_facts *f = b->f;
    qn_interval none = {NULL, NULL};
    if (!qn_box_is_tile(b, t)) {
        const qn_lin *l = qn_lin_term(f, t);
        return (qn_interval){l, l};
    }
    switch (t->kind) {
    case QN_TERM_NAME:
    case QN_TERM_IOTA: {
        bool known = t->kind == QN_TERM_IOTA || t == b->x || t->name == b->index;
        for (int32_t k = 0; k < b->nrows; k++) {
            known |= t == b->rows[k].var;
        }
        if (!known) {
            return none;
        }
        var_bounds v = bounds_of(b, t, clip);
        return (qn_interval){v.lo, v.hi[1] ? qn_lin_min(f, v.hi[0], v.hi[1]) : v.hi[0]};
    }
    case QN_TERM_DIV:
    case QN_TERM_MOD:
    case QN_TERM_MUL: {
        const qn_lin *g = t->a, *n = t->b;
        if (t->kind == QN_TERM_MUL && (lin_varies(b, n) & BY_ELEMENT)) {
            g = t->b;
            n = t->a;
        }
        if ((lin_varies(b, n) & BY_ELEMENT) || !qn_prove_ge0(f, qn_lin_plus(f, n, -1))) {
            break;
        }
        if (t->kind == QN_TERM_MOD) {
            return (qn_interval){qn_lin_int(f, 0), qn_lin_plus(f, n, -1)};
        }
        qn_interval i = lin_interval(b, g, clip);
        bool div = t->kind == QN_TERM_DIV;
        i.lo = div ? qn_lin_div(f, i.lo, n) : qn_lin_mul(f, i.lo, n);
        i.hi = div ? qn_lin_div(f, i.hi, n) : qn_lin_mul(f, i.hi, n);
        return i;
    }
    case QN_TERM_MIN:
    case QN_TERM_MAX:
    case QN_TERM_SELECT: {
        qn_interval p = lin_interval(b, t->a, clip), q = lin_interval(b, t->b, clip);
        bool low = t->kind != QN_TERM_MAX, high = t->kind != QN_TERM_MIN;
        qn_interval r = {low ? qn_lin_min(f, p.lo, q.lo) : qn_lin_max(f, p.lo, q.lo),
                         high ? qn_lin_max(f, p.hi, q.hi) : qn_lin_min(f, p.hi, q.hi)};
        return r;
    }
    case QN_TERM_FLAG:
    case QN_TERM_OPAQUE:
    default:
        break;
    }
    qn_interval r = b->data ? b->data(b->user, t, clip) : none;
    if (t->kind == QN_TERM_FLAG) {
        r.lo = r.lo ? r.lo : qn_lin_int(f, 0);
        r.hi = r.hi ? r.hi : qn_lin_int(f, 1);
    }
    return r;
}

/* ---------------------------------------------------------------- elimination */

/* What is left of a conjunction: lows <= x < highs, and conditions c <= 0. */
typedef struct projection {
    conj lows, highs, conds;
} projection;

static void push_row(qn_box *b, conj *c, const qn_lin *l)
{
    for (int32_t k = 0; k < c->count; k++) {
        if (c->at[k] == l) {
            return;
        }
    }
    if (l && c->count < MAX_ROWS) {
        QN_PUSH(b->arena, c, l);
    }
}

static const qn_term *next_variable(const qn_box *b, const conj *rows, const qn_term *const *done,
                                    int ndone)
{
    for (int32_t r = 0; r < rows->count; r++) {
        for (int32_t p = 0; p < rows->at[r]->n; p++) {
            const qn_term *t = rows->at[r]->at[p].term;
            bool seen = t == b->x && !b->at_hand;
            for (int k = 0; k < ndone && !seen; k++) {
                seen = done[k] == t;
            }
            if (!seen && qn_box_is_tile(b, t)) {
                return t;
            }
        }
    }
    return NULL;
}

/* Eliminates t: p * t + A <= 0 and B - q * t <= 0 give q * A + p * B <= 0. */
static conj eliminate(qn_box *b, conj rows, const qn_term *t)
{
    qn_facts *f = b->f;
    conj left = {0};
    for (int32_t u = 0; u < rows.count; u++) {
        if (qn_lin_coef(rows.at[u], t) == 0) {
            push_row(b, &left, rows.at[u]);
        }
    }
    for (int32_t u = 0; u < rows.count; u++) {
        int64_t p = qn_lin_coef(rows.at[u], t);
        for (int32_t d = 0; p > 0 && d < rows.count; d++) {
            int64_t q = -qn_lin_coef(rows.at[d], t);
            if (q > 0) {
                int64_t g = qn_gcd(p, q);
                const qn_lin *x = qn_lin_scale(f, qn_lin_without(f, rows.at[u], t), q / g);
                const qn_lin *y = qn_lin_scale(f, qn_lin_without(f, rows.at[d], t), p / g);
                push_row(b, &left, qn_lin_add(f, x, y));
            }
        }
    }
    return left;
}

/* False: the conjunction cannot hold. */
static bool project(qn_box *b, conj rows, bool clip, projection *out)
{
    qn_facts *f = b->f;
    const qn_term *done[MAX_ROWS];
    int ndone = 0;
    memset(out, 0, sizeof *out);
    for (;;) {
        const qn_term *t = next_variable(b, &rows, done, ndone);
        if (!t) {
            break;
        }
        if (ndone == MAX_ROWS) {
            return true; /* no condition is kept: everything */
        }
        done[ndone++] = t;
        var_bounds v = bounds_of(b, t, clip);
        const qn_lin *me = qn_lin_term(f, t);
        push_row(b, &rows, qn_lin_sub(f, v.lo, me));
        push_row(b, &rows, qn_lin_sub(f, me, v.hi[0]));
        push_row(b, &rows, qn_lin_sub(f, me, v.hi[1]));
        rows = eliminate(b, rows, t);
    }
    for (int32_t r = 0; r < rows.count; r++) {
        const qn_lin *l = rows.at[r];
        int64_t c = qn_lin_coef(l, b->x);
        const qn_lin *s = qn_lin_without(f, l, b->x);
        if (c > 0) { /* x <= -s / c */
            const qn_lin *n = qn_lin_int(f, c);
            push_row(b, &out->highs, qn_lin_plus(f, qn_lin_div(f, qn_lin_scale(f, s, -1), n), 1));
        } else if (c < 0) {
            push_row(b, &out->lows, ceil_div(f, s, qn_lin_int(f, -c)));
        } else if (qn_prove_ge0(f, qn_lin_plus(f, s, -1))) {
            return false;
        } else if (!qn_prove_ge0(f, qn_lin_scale(f, s, -1))) {
            push_row(b, &out->conds, s);
        }
    }
    return true;
}

/* ---------------------------------------------------------------- pieces */

static bool empty(qn_facts *f, qn_interval p)
{
    return !p.lo || !p.hi || qn_prove_le(f, p.hi, p.lo);
}

static qn_intervals may_pieces(qn_box *b, const qn_expr *e, bool neg, bool clip)
{
    qn_facts *f = b->f;
    qn_intervals found = {0};
    dnf d = dnf_of(b, e, neg, 0);
    for (int32_t k = 0; k < d.count; k++) {
        projection p;
        if (!project(b, d.at[k], clip, &p)) {
            continue;
        }
        qn_interval r = {b->lo, b->hi};
        for (int32_t n = 0; n < p.lows.count; n++) {
            const qn_lin *lo = qn_lin_max(f, r.lo, p.lows.at[n]);
            r.lo = lo ? lo : r.lo;
        }
        for (int32_t n = 0; n < p.highs.count; n++) {
            const qn_lin *hi = qn_lin_min(f, r.hi, p.highs.at[n]);
            r.hi = hi ? hi : r.hi;
        }
        for (int32_t n = 0; n < p.conds.count; n++) { /* a condition that fails leaves nothing */
            const qn_lin *hi = qn_lin_less(f, qn_lin_int(f, 0), p.conds.at[n], r.lo, r.hi);
            r.hi = hi ? hi : r.hi;
        }
        if (!empty(f, r)) {
            QN_PUSH(b->arena, &found, r);
        }
    }
    return found;
}

/* Two pieces as one where one holds the other or they share an end. */
static bool join(qn_facts *f, qn_interval p, qn_interval q, qn_interval *out)
{
    if (p.lo == q.lo) {
        *out = (qn_interval){p.lo, qn_lin_max(f, p.hi, q.hi)};
    } else if (p.hi == q.hi) {
        *out = (qn_interval){qn_lin_min(f, p.lo, q.lo), p.hi};
    } else if (qn_prove_le(f, p.lo, q.lo) && qn_prove_le(f, q.hi, p.hi)) {
        *out = p;
    } else if (qn_prove_le(f, q.lo, p.lo) && qn_prove_le(f, p.hi, q.hi)) {
        *out = q;
    } else {
        return false;
    }
    return out->lo && out->hi;
}

static void join_all(qn_facts *f, qn_intervals *ps)
{
    for (int32_t i = 0; i < ps->count; i++) {
        for (int32_t j = i + 1; j < ps->count; j++) {
            qn_interval one;
            if (join(f, ps->at[i], ps->at[j], &one)) {
                ps->at[j] = ps->at[ps->count - 1];
                ps->at[i] = one;
                ps->count--;
                i = -1;
                break;
            }
        }
    }
}

/* c < a ? x : y, or y if the form is too large for that: the caller then gives up. */
static bool swap_pieces(qn_facts *f, qn_interval *p, qn_interval *q)
{
    if (qn_prove_le(f, p->lo, q->lo)) {
        return true;
    }
    if (qn_prove_le(f, q->lo, p->lo)) {
        qn_interval t = *p;
        *p = *q;
        *q = t;
        return true;
    }
    qn_interval a = {qn_lin_less(f, q->lo, p->lo, q->lo, p->lo),
                     qn_lin_less(f, q->lo, p->lo, q->hi, p->hi)};
    qn_interval c = {qn_lin_less(f, q->lo, p->lo, p->lo, q->lo),
                     qn_lin_less(f, q->lo, p->lo, p->hi, q->hi)};
    *p = a;
    *q = c;
    return a.lo && a.hi && c.lo && c.hi;
}

/* Sorted, at most three. Too many: joined (may) or dropped (under). */
static void tidy(qn_box *b, qn_intervals *ps, bool under)
{
    qn_facts *f = b->f;
    join_all(f, ps);
    qn_interval whole = {b->lo, b->hi};
    if (ps->count > MAX_PIECES && !under) {
        qn_interval hull = {b->hi, b->lo};
        for (int32_t k = 0; k < ps->count; k++) { /* an empty piece may lie anywhere */
            qn_interval p = ps->at[k];
            hull.lo = qn_lin_min(f, hull.lo, qn_lin_less(f, p.lo, p.hi, p.lo, b->hi));
            hull.hi = qn_lin_max(f, hull.hi, qn_lin_less(f, p.lo, p.hi, p.hi, b->lo));
        }
        ps->at[0] = hull.lo && hull.hi ? hull : whole;
        ps->count = 1;
        b->hull = true;
    }
    ps->count = ps->count > MAX_PIECES ? MAX_PIECES : ps->count;
    /* a sorting network; a proved order needs no select */
    for (int32_t i = 0; i < ps->count; i++) {
        for (int32_t j = 0; j + 1 < ps->count - i; j++) {
            if (!swap_pieces(f, &ps->at[j], &ps->at[j + 1])) {
                ps->at[0] = whole;
                ps->count = under ? 0 : 1;
                return;
            }
        }
    }
}

qn_intervals qn_box_may(qn_box *b, const qn_expr *e, bool clip)
{
    qn_intervals ps = may_pieces(b, e, false, clip);
    tidy(b, &ps, false);
    return ps;
}

qn_intervals qn_box_must(qn_box *b, const qn_expr *e)
{
    qn_facts *f = b->f;
    qn_intervals ps = {0}, holes = may_pieces(b, e, true, false);
    qn_interval whole = {b->lo, b->hi};
    QN_PUSH(b->arena, &ps, whole);
    for (int32_t k = 0; k < holes.count; k++) {
        qn_intervals left = {0};
        for (int32_t p = 0; p < ps.count; p++) {
            qn_interval below = {ps.at[p].lo, qn_lin_min(f, ps.at[p].hi, holes.at[k].lo)};
            qn_interval above = {qn_lin_max(f, ps.at[p].lo, holes.at[k].hi), ps.at[p].hi};
            if (!empty(f, below) && left.count < 9) {
                QN_PUSH(b->arena, &left, below);
            }
            if (!empty(f, above) && left.count < 9) {
                QN_PUSH(b->arena, &left, above);
            }
        }
        ps = left;
    }
    tidy(b, &ps, true);
    for (int32_t k = 0; k + 1 < ps.count; k++) { /* pieces that touch become one */
        qn_interval p = ps.at[k], q = ps.at[k + 1];
        if (qn_prove_le(f, qn_lin_plus(f, p.hi, 1), q.lo)) {
            continue;
        }
        const qn_lin *end = qn_lin_less(f, p.hi, q.lo, p.hi, qn_lin_max(f, p.hi, q.hi));
        qn_interval next = {qn_lin_less(f, p.hi, q.lo, q.lo, end), q.hi};
        if (!end || !next.lo) {
            ps.count = k + 1;
            break;
        }
        ps.at[k].hi = end;
        ps.at[k + 1] = next;
    }
    return ps;
}

/* ---------------------------------------------------------------- the trip at hand */

/* Does the condition read the block at hand, not only compare positions? */
static bool reads(const qn_box *b, const qn_lin *l)
{
    for (int32_t p = 0; p < l->n; p++) {
        const qn_term *t = l->at[p].term;
        if ((t->x && qn_mentions_name(t->x, b->index)) || (t->a && reads(b, t->a)) ||
            (t->b && reads(b, t->b))) {
            return true;
        }
    }
    return false;
}

qn_expr *qn_box_test(qn_box *b, const qn_expr *e)
{
    qn_expr *any = NULL;
    dnf d = dnf_of(b, e, false, 0);
    projection *ps = QN_NEWN(b->arena, projection, d.count + 1);
    int32_t n = 0;
    for (int32_t k = 0; k < d.count; k++) {
        n += project(b, d.at[k], true, &ps[n]);
    }
    for (int32_t k = 0; k < n; k++) {
        qn_expr *all = NULL;
        for (int32_t c = 0; c < ps[k].conds.count; c++) {
            const qn_lin *l = ps[k].conds.at[c];
            if (n == 1 && !reads(b, l)) {
                continue; /* the bounds of the loop say that already */
            }
            qn_expr *x = qn_lin_compare(b->f, QN_OP_LE, l);
            all = x && all ? qn_op2(b->ir, QN_OP_AND, all, x) : x ? x : all;
        }
        if (!all) {
            return NULL;
        }
        any = any ? qn_op2(b->ir, QN_OP_OR, any, all) : all;
    }
    return any;
}
