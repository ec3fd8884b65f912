/* SPDX-License-Identifier: MIT
 *
 * Can an index leave its dimension? Integers are linear forms over atoms (names, dims, opaque
 * terms); L >= 0 is proved by replacing one atom after the other by a bound that makes L smaller,
 * and by subtracting facts (conditions of the path, the mask) that are >= 0 themselves. Steps are
 * counted, so the search ends. */
#include "frontend/front.h"

#include <string.h>

enum { MAX_TERMS = 6, MAX_STEPS = 4000, MAX_PROOF = 10 };

/* ---------------------------------------------------------------- linear forms */

qn_flin qn_flin_const(int64_t k)
{
    qn_flin l = {.k = k};
    return l;
}

static bool times(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool qn_flin_add(qn_flin *l, const qn_flin *x, int64_t coef)
{
    int64_t c;
    if (!times(x->k, coef, &c) || __builtin_add_overflow(l->k, c, &l->k)) {
        return false;
    }
    for (int m = 0; m < x->n; m++) {
        int k = 0;
        while (k < l->n && l->t[k].atom != x->t[m].atom) {
            k++;
        }
        if (k == l->n) {
            if (l->n == MAX_TERMS) {
                return false;
            }
            l->t[l->n].atom = x->t[m].atom;
            l->t[l->n++].coef = 0;
        }
        if (!times(x->t[m].coef, coef, &c) ||
            __builtin_add_overflow(l->t[k].coef, c, &l->t[k].coef)) {
            return false;
        }
        if (l->t[k].coef == 0) {
            l->t[k] = l->t[--l->n];
        }
    }
    return true;
}

static qn_flin atom(qn_node *n)
{
    qn_flin l = {.n = 1};
    l.t[0].atom = n;
    l.t[0].coef = 1;
    return l;
}

static bool is_name(const qn_node *n, const char *name)
{
    return n->x.kind == QN_NAME && strcmp(n->x.u.name, name) == 0;
}

qn_node *qn_name_row(qn_front *fr)
{
    return qn_node_name(fr, qn_intern(fr->ir, "r"), QN_N_INT, QN_USES_I);
}

qn_node *qn_name_position(qn_front *fr)
{
    return qn_node_name(fr, qn_intern(fr->ir, "i"), QN_N_INT, QN_USES_I);
}

/* Position i over its row. */
static qn_flin position(qn_front *fr, qn_node *i)
{
    qn_flin l = atom(i);
    if (fr->spec->position != QN_POSITION_TENSOR) {
        l = atom(qn_name_row(fr));
    }
    if (fr->spec->position == QN_POSITION_LAST) {
        qn_flin nk = *qn_dim_node(fr, qn_intern(fr->ir, "Nk"))->lin;
        qn_flin nq = *qn_dim_node(fr, qn_intern(fr->ir, "Nq"))->lin;
        qn_flin_add(&l, &nk, 1);
        qn_flin_add(&l, &nq, -1);
    }
    return l;
}

static bool combine(const qn_node *n, qn_flin *l)
{
    const qn_expr *x = &n->x;
    if (x->kind != QN_OP) {
        return false;
    }
    const qn_flin *a = qn_node_arg(n, 0)->lin,
                  *b = x->u.op.args.count > 1 ? qn_node_arg(n, 1)->lin : NULL;
    *l = qn_flin_const(0);
    if (!a || (x->u.op.args.count > 1 && !b)) {
        return false;
    }
    if (x->u.op.op == QN_OP_NEG) {
        return qn_flin_add(l, a, -1);
    }
    if (x->u.op.op == QN_OP_ADD || x->u.op.op == QN_OP_SUB) {
        return qn_flin_add(l, a, 1) && qn_flin_add(l, b, x->u.op.op == QN_OP_ADD ? 1 : -1);
    }
    if (x->u.op.op == QN_OP_MUL && (a->n == 0 || b->n == 0)) {
        return a->n == 0 ? qn_flin_add(l, b, a->k) : qn_flin_add(l, a, b->k);
    }
    return false;
}

const qn_flin *qn_flin_of(qn_front *fr, qn_node *n)
{
    qn_flin *l = QN_NEW(fr->ir->arena, qn_flin);
    int64_t fixed;
    if (n->x.kind == QN_LIT) {
        *l = qn_flin_const(n->x.u.lit.i);
    } else if (is_name(n, "i")) {
        *l = position(fr, n);
    } else if (n->x.kind == QN_NAME && qn_dim_const(fr, n->x.u.name, &fixed)) {
        *l = qn_flin_const(fixed);
    } else if (!combine(n, l)) {
        *l = atom(n);
    }
    return l;
}

qn_node *qn_flin_node(qn_front *fr, const qn_flin *l)
{
    qn_node *sum = NULL;
    for (int pass = 0; pass < 2; pass++) { /* what is added first, so that no minus leads */
        for (int k = 0; k < l->n; k++) {
            int64_t c = l->t[k].coef, size = c < 0 ? -c : c;
            qn_node *x = l->t[k].atom;
            if ((c < 0) != (pass == 1)) {
                continue;
            }
            x = size == 1 ? x : qn_node_op2(fr, QN_OP_MUL, QN_N_INT, qn_node_int(fr, size), x);
            sum = sum     ? qn_node_op2(fr, c < 0 ? QN_OP_SUB : QN_OP_ADD, QN_N_INT, sum, x)
                  : c < 0 ? qn_node_op1(fr, QN_OP_NEG, QN_N_INT, x)
                          : x;
        }
    }
    if (!sum) {
        return qn_node_int(fr, l->k);
    }
    if (l->k == 0) {
        return sum;
    }
    bool minus = l->k < 0 && l->k != INT64_MIN;
    return qn_node_op2(fr, minus ? QN_OP_SUB : QN_OP_ADD, QN_N_INT, sum,
                       qn_node_int(fr, minus ? -l->k : l->k));
}

/* ---------------------------------------------------------------- the prover */

typedef struct facts {
    qn_flin at[32]; /* each >= 0 */
    int n;
} facts;

typedef struct prover {
    qn_front *fr;
    int steps;
    facts facts;
} prover;

/* Adds what the condition says of integers. */
static void learn(facts *f, const qn_node *c, bool holds, int depth)
{
    if (depth > 16 || f->n >= 30 || c->x.kind != QN_OP) {
        return;
    }
    qn_op op = c->x.u.op.op;
    if (op == QN_OP_NOT) {
        learn(f, qn_node_arg(c, 0), !holds, depth + 1);
        return;
    }
    if ((op == QN_OP_AND && holds) || (op == QN_OP_OR && !holds)) {
        learn(f, qn_node_arg(c, 0), holds, depth + 1);
        learn(f, qn_node_arg(c, 1), holds, depth + 1);
        return;
    }
    if (!qn_op_is_compare(op) || qn_node_arg(c, 0)->type != QN_N_INT) {
        return;
    }
    qn_flin ab = *qn_node_arg(c, 0)->lin, ba = *qn_node_arg(c, 1)->lin;
    if (!qn_flin_add(&ab, qn_node_arg(c, 1)->lin, -1) ||
        !qn_flin_add(&ba, qn_node_arg(c, 0)->lin, -1)) {
        return;
    }
    bool eq = (op == QN_OP_EQ && holds) || (op == QN_OP_NE && !holds);
    bool lt = (op == QN_OP_LT && holds) || (op == QN_OP_GE && !holds);
    bool gt = (op == QN_OP_GT && holds) || (op == QN_OP_LE && !holds);
    bool le = (op == QN_OP_LE && holds) || (op == QN_OP_GT && !holds);
    bool ge = (op == QN_OP_GE && holds) || (op == QN_OP_LT && !holds);
    if (eq || ge || gt) { /* a - b >= 0 or 1 */
        ab.k -= gt ? 1 : 0;
        f->at[f->n++] = ab;
    }
    if (eq || le || lt) {
        ba.k -= lt ? 1 : 0;
        f->at[f->n++] = ba;
    }
}

static bool prove(prover *p, const qn_flin *l, int depth);

/* l with term k replaced: coef * atom becomes coef * by. */
static bool with(prover *p, const qn_flin *l, int k, const qn_flin *by, int depth)
{
    qn_flin m = *l;
    int64_t coef = m.t[k].coef;
    m.t[k] = m.t[--m.n];
    return qn_flin_add(&m, by, coef) && prove(p, &m, depth);
}

static bool with_sum(prover *p, const qn_flin *l, int k, const qn_node *dim, int64_t coef,
                     int64_t add, int depth)
{
    qn_flin by = qn_flin_const(add);
    return qn_flin_add(&by, dim->lin, coef) && with(p, l, k, &by, depth);
}

static qn_node *dim(prover *p, const char *name)
{
    return qn_dim_node(p->fr, qn_intern(p->fr->ir, name));
}

static bool by_name(prover *p, const qn_flin *l, int k, int depth)
{
    const qn_node *a = l->t[k].atom;
    bool up = l->t[k].coef < 0; /* an upper bound makes l smaller */
    static const struct {
        const char *name, *extent;
    } indices[] = {{"b", "B"}, {"h", "Hq"}, {"r", "Nq"}, {"j", "Nk"}, {"d", "Dv"}};
    for (size_t m = 0; m < sizeof indices / sizeof *indices; m++) {
        if (is_name(a, indices[m].name)) {
            qn_flin zero = qn_flin_const(0);
            return up ? with_sum(p, l, k, dim(p, indices[m].extent), 1, -1, depth)
                      : with(p, l, k, &zero, depth);
        }
    }
    if (up || is_name(a, "i")) {
        return false;
    }
    /* A dim or a parameter's name; dims are not negative, and those of what is being evaluated
     * have elements. */
    bool some = is_name(a, "B") || is_name(a, "Hq") || is_name(a, "Nq") || is_name(a, "Hk") ||
                is_name(a, "Hv");
    qn_flin least = qn_flin_const(some ? 1 : 0);
    return !(a->uses & QN_USES_DATA) && with(p, l, k, &least, depth);
}

/* n * (x // n) lies in x-n+1 .. x: l is scaled by n first, and n * l >= 1 - n is what remains. */
static bool by_division(prover *p, const qn_flin *l, int k, const qn_flin *x, int64_t n, int depth)
{
    qn_flin m = qn_flin_const(n - 1);
    qn_flin rest = *l;
    int64_t coef = rest.t[k].coef;
    rest.t[k] = rest.t[--rest.n];
    qn_flin by = *x;
    by.k += coef > 0 ? 1 - n : 0;
    return qn_flin_add(&m, &rest, n) && qn_flin_add(&m, &by, coef) && prove(p, &m, depth);
}

/* h * K // Hq lies in 0..K-1, and so does h // (Hq // K). */
static bool is_group_map(const qn_node *a, const qn_node **k)
{
    const qn_node *x = qn_node_arg(a, 0), *y = qn_node_arg(a, 1);
    if (is_name(y, "Hq") && qn_node_is_op(x, QN_OP_MUL)) {
        const qn_node *u = qn_node_arg(x, 0), *v = qn_node_arg(x, 1);
        *k = is_name(u, "h") ? v : u;
        return (is_name(u, "h") || is_name(v, "h")) && (is_name(*k, "Hk") || is_name(*k, "Hv"));
    }
    if (is_name(x, "h") && qn_node_is_op(y, QN_OP_FLOORDIV) && is_name(qn_node_arg(y, 0), "Hq")) {
        *k = qn_node_arg(y, 1);
        return is_name(*k, "Hk") || is_name(*k, "Hv");
    }
    return false;
}

static bool by_op(prover *p, const qn_flin *l, int k, int depth)
{
    const qn_node *a = l->t[k].atom;
    bool up = l->t[k].coef < 0;
    qn_flin zero = qn_flin_const(0);
    if (a->x.kind != QN_OP) {
        return false;
    }
    int count = a->x.u.op.args.count;
    const qn_node *arg[3] = {0};
    for (int m = 0; m < count && m < 3; m++) {
        arg[m] = qn_node_arg(a, m);
    }
    const qn_flin *x = arg[0] ? arg[0]->lin : NULL, *y = count > 1 ? arg[1]->lin : NULL;
    const qn_flin *z = count > 2 ? arg[2]->lin : NULL;
    int64_t n = y && y->n == 0 ? y->k : 0;
    qn_op op = a->x.u.op.op;
    if (op == QN_OP_FLOORDIV) {
        const qn_node *groups;
        if (!up && is_name(arg[0], "Hq") && (is_name(arg[1], "Hk") || is_name(arg[1], "Hv"))) {
            qn_flin one = qn_flin_const(1); /* Hq is a multiple of both */
            return with(p, l, k, &one, depth);
        }
        if (is_group_map(a, &groups)) {
            return up ? with_sum(p, l, k, groups, 1, -1, depth) : with(p, l, k, &zero, depth);
        }
        return x && n >= 1 && n < INT32_MAX && by_division(p, l, k, x, n, depth);
    }
    if (op == QN_OP_MOD && y) {
        qn_flin most = *y, least = *y;
        most.k--, least.k--;
        bool positive = n >= 1 || (y->n && prove(p, &least, depth - 2));
        return positive && with(p, l, k, up ? &most : &zero, depth);
    }
    if (op == QN_OP_MIN || op == QN_OP_MAX) {
        bool either = (op == QN_OP_MIN) == up; /* min(x, y) <= x, and <= y */
        return x && y &&
               (either ? with(p, l, k, x, depth) || with(p, l, k, y, depth)
                       : with(p, l, k, x, depth) && with(p, l, k, y, depth));
    }
    if (op == QN_OP_CLAMP) { /* min(max(x, y), z) */
        return x && y && z &&
               (up ? with(p, l, k, z, depth) || (with(p, l, k, x, depth) && with(p, l, k, y, depth))
                   : with(p, l, k, z, depth) &&
                         (with(p, l, k, y, depth) || with(p, l, k, x, depth)));
    }
    if (op == QN_OP_ABS && x) {
        qn_flin minus = zero;
        return qn_flin_add(&minus, x, -1) &&
               (up ? with(p, l, k, x, depth) && with(p, l, k, &minus, depth)
                   : with(p, l, k, &zero, depth) || with(p, l, k, x, depth) ||
                         with(p, l, k, &minus, depth));
    }
    if (op == QN_OP_SELECT && y && z) {
        int before = p->facts.n;
        learn(&p->facts, arg[0], true, 0);
        bool good = with(p, l, k, y, depth);
        p->facts.n = before;
        if (good) {
            learn(&p->facts, arg[0], false, 0);
            good = with(p, l, k, z, depth);
            p->facts.n = before;
        }
        return good;
    }
    if (op == QN_OP_BAND && x && y && (n > 0 || (x->n == 0 && x->k > 0))) {
        qn_flin most = qn_flin_const(n > 0 ? n : x->k);
        return with(p, l, k, up ? &most : &zero, depth);
    }
    if (op == QN_OP_CAST && arg[0]->type == QN_N_BOOL) {
        qn_flin one = qn_flin_const(1);
        return with(p, l, k, up ? &one : &zero, depth);
    }
    return false;
}

static bool shares(const qn_flin *a, const qn_flin *b)
{
    for (int m = 0; m < a->n; m++) {
        for (int k = 0; k < b->n; k++) {
            if (a->t[m].atom == b->t[k].atom && (a->t[m].coef < 0) == (b->t[k].coef < 0)) {
                return true;
            }
        }
    }
    return false;
}

static bool prove(prover *p, const qn_flin *l, int depth)
{
    if (l->n == 0) {
        return l->k >= 0;
    }
    if (depth <= 0 || ++p->steps > MAX_STEPS) {
        return false;
    }
    for (int k = 0; k < l->n; k++) { /* opaque terms first: their bounds bring names */
        if (by_op(p, l, k, depth - 1)) {
            return true;
        }
    }
    for (int f = 0; f < p->facts.n; f++) {
        qn_flin m = *l;
        if (shares(l, &p->facts.at[f]) && qn_flin_add(&m, &p->facts.at[f], -1)) {
            qn_flin fact = p->facts.at[f]; /* used up below */
            p->facts.at[f] = qn_flin_const(0);
            bool good = prove(p, &m, depth - 1);
            p->facts.at[f] = fact;
            if (good) {
                return true;
            }
        }
    }
    static const char *const order[] = {"r", "j", "b", "h", "d", NULL};
    for (int o = 0; o < 6; o++) { /* indices bring dims: dims last */
        for (int k = 0; k < l->n; k++) {
            const qn_node *a = l->t[k].atom;
            bool index = false;
            for (int q = 0; q < 5; q++) {
                index |= is_name(a, order[q]);
            }
            bool mine = order[o] ? is_name(a, order[o]) : !index;
            if (mine && a->x.kind == QN_NAME && by_name(p, l, k, depth - 1)) {
                return true;
            }
        }
    }
    return false;
}

bool qn_flin_prove(qn_front *fr, const qn_flin *l, bool with_facts)
{
    prover p = {.fr = fr};
    for (int k = 0; k < 2; k++) { /* there are no fewer query heads than others */
        qn_flin f = *dim(&p, "Hq")->lin;
        if (qn_flin_add(&f, dim(&p, k ? "Hv" : "Hk")->lin, -1)) {
            p.facts.at[p.facts.n++] = f;
        }
    }
    for (int k = 0; with_facts && k < fr->path.count; k++) {
        learn(&p.facts, fr->path.at[k].cond, fr->path.at[k].holds, 0);
    }
    for (int k = 0; with_facts && k < fr->given.count; k++) {
        learn(&p.facts, fr->given.at[k].cond, fr->given.at[k].holds, 0);
    }
    return prove(&p, l, MAX_PROOF);
}
