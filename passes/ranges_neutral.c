/* SPDX-License-Identifier: MIT
 *
 * Is a trip of a loop without kept elements a trip that changes nothing?
 *
 * The body is evaluated with the mask false, over values that say only what matters: zero, one, the
 * infinities, true, false, or a carry as it came in. A trip is neutral if every carry comes out as
 * it came in, or times a factor that is 0 or 1 where it started from 0 (the rescale of a statistic
 * that did not change: 0 only while nothing was met), and what it stores adds nothing. A masked
 * element takes no part, so 0 * x is 0 here. */
#include "passes/ranges_in.h"

#include <math.h>

typedef enum known_kind {
    OTHER,
    ZERO,
    ONE,
    GATE, /* 0 or 1 */
    MINUS_INF,
    PLUS_INF,
    TRUE,
    FALSE,
    CARRY,      /* the value of a carry at the start of the trip */
    GATED_CARRY /* the same, times a gate */
} known_kind;

typedef struct known {
    known_kind kind;
    qn_sym carry;
} known;

typedef struct known_name {
    qn_sym name;
    known value;
} known_name;

typedef struct valuation {
    qn_arena *arena;
    known_name *at;
    int32_t count, cap;
} valuation;

static known of(known_kind kind)
{
    return (known){kind, NULL};
}

static bool same(known a, known b)
{
    return a.kind != OTHER && a.kind == b.kind && a.carry == b.carry;
}

static known literal(const qn_expr *x)
{
    if (x->u.lit.type == QN_BOOL) {
        return of(x->u.lit.i ? TRUE : FALSE);
    }
    double v = x->u.lit.type == QN_INT_LIT ? (double)x->u.lit.i : x->u.lit.f;
    return of(v == 0.0 ? ZERO : v == 1.0 ? ONE : isinf(v) ? PLUS_INF : OTHER);
}

static bool is(known a, known_kind k)
{
    return a.kind == k;
}

static known times(known a, known b)
{
    if (is(a, ZERO) || is(b, ZERO)) {
        return of(ZERO);
    }
    if (is(a, ONE) || is(b, ONE)) {
        return is(a, ONE) ? b : a;
    }
    if (is(b, CARRY) || is(b, GATED_CARRY)) {
        known t = a;
        a = b;
        b = t;
    }
    if (is(b, GATE) && (is(a, CARRY) || is(a, GATED_CARRY))) {
        return (known){GATED_CARRY, a.carry};
    }
    return of(is(a, GATE) && is(b, GATE) ? GATE : OTHER);
}

static known plus(known a, known b)
{
    return is(a, ZERO) ? b : is(b, ZERO) ? a : of(OTHER);
}

static known pick(known c, known a, known b)
{
    if (is(c, TRUE) || same(a, b)) {
        return a;
    }
    if (is(c, FALSE)) {
        return b;
    }
    bool gates =
        (is(a, ZERO) || is(a, ONE) || is(a, GATE)) && (is(b, ZERO) || is(b, ONE) || is(b, GATE));
    return of(gates ? GATE : OTHER);
}

static known evaluate(const valuation *v, const qn_expr *x, int depth);

static known evaluate_op(const valuation *v, const qn_expr *x, int depth)
{
    known a[3] = {of(OTHER), of(OTHER), of(OTHER)};
    for (int32_t k = 0; k < x->u.op.args.count && k < 3; k++) {
        a[k] = evaluate(v, x->u.op.args.at[k], depth + 1);
    }
    switch ((int)x->u.op.op) {
    case QN_OP_AND:
        return is(a[0], FALSE) || is(a[1], FALSE) ? of(FALSE)
               : is(a[0], TRUE)                   ? a[1]
               : is(a[1], TRUE)                   ? a[0]
                                                  : of(OTHER);
    case QN_OP_OR:
        return is(a[0], TRUE) || is(a[1], TRUE) ? of(TRUE)
               : is(a[0], FALSE)                ? a[1]
               : is(a[1], FALSE)                ? a[0]
                                                : of(OTHER);
    case QN_OP_NOT:
        return of(is(a[0], TRUE) ? FALSE : is(a[0], FALSE) ? TRUE : OTHER);
    case QN_OP_GT: /* nothing is less than -inf, or greater than inf */
        return of(is(a[0], MINUS_INF) || is(a[1], PLUS_INF) ? FALSE : OTHER);
    case QN_OP_LT:
        return of(is(a[0], PLUS_INF) || is(a[1], MINUS_INF) ? FALSE : OTHER);
    case QN_OP_ADD:
        return plus(a[0], a[1]);
    case QN_OP_SUB:
        return is(a[1], ZERO) ? a[0] : of(same(a[0], a[1]) && is(a[0], CARRY) ? ZERO : OTHER);
    case QN_OP_MUL:
        return times(a[0], a[1]);
    case QN_OP_FMA:
        return plus(times(a[0], a[1]), a[2]);
    case QN_OP_NEG:
        return is(a[0], ZERO) ? a[0]
                              : of(is(a[0], MINUS_INF)  ? PLUS_INF
                                   : is(a[0], PLUS_INF) ? MINUS_INF
                                                        : OTHER);
    case QN_OP_MAX:
        return is(a[0], MINUS_INF) || same(a[0], a[1]) ? a[1]
               : is(a[1], MINUS_INF)                   ? a[0]
                                                       : of(OTHER);
    case QN_OP_MIN:
        return is(a[0], PLUS_INF) || same(a[0], a[1]) ? a[1]
               : is(a[1], PLUS_INF)                   ? a[0]
                                                      : of(OTHER);
    case QN_OP_SELECT:
        return pick(a[0], a[1], a[2]);
    case QN_OP_EXP:
    case QN_OP_EXP2:
        return of(is(a[0], ZERO) ? ONE : is(a[0], MINUS_INF) ? ZERO : OTHER);
    case QN_OP_CAST:
        return is(a[0], FALSE)                            ? of(ZERO)
               : is(a[0], TRUE)                           ? of(ONE)
               : is(a[0], CARRY) || is(a[0], GATED_CARRY) ? of(OTHER)
                                                          : a[0];
    case QN_OP_DIV:
        return of(is(a[1], ONE) && is(a[0], ZERO) ? ZERO : OTHER);
    default:
        return of(OTHER);
    }
}

static known evaluate_axop(const valuation *v, const qn_expr *x, int depth)
{
    known a = evaluate(v, x->u.axop.args.at[0], depth + 1);
    switch ((int)x->u.axop.op) {
    case QN_AX_DOT:
        return of(is(a, ZERO) || is(evaluate(v, x->u.axop.args.at[1], depth + 1), ZERO) ? ZERO
                                                                                        : OTHER);
    case QN_AX_REDUCE_SUM:
        return of(is(a, ZERO) ? ZERO : OTHER);
    case QN_AX_REDUCE_MAX:
        return of(is(a, MINUS_INF) ? MINUS_INF : OTHER);
    case QN_AX_REDUCE_MIN:
        return of(is(a, PLUS_INF) ? PLUS_INF : OTHER);
    case QN_AX_REDUCE_PROD:
        return of(is(a, ONE) ? ONE : OTHER);
    case QN_AX_REDUCE_ANY:
        return of(is(a, FALSE) ? FALSE : OTHER);
    case QN_AX_REDUCE_ALL:
        return of(is(a, TRUE) ? TRUE : OTHER);
    default:
        return of(OTHER);
    }
}

static known evaluate(const valuation *v, const qn_expr *x, int depth)
{
    if (depth > 250) {
        return of(OTHER);
    }
    switch (x->kind) {
    case QN_LIT:
        return literal(x);
    case QN_NAME:
        for (int32_t k = v->count - 1; k >= 0; k--) {
            if (v->at[k].name == x->u.name) {
                return v->at[k].value;
            }
        }
        return of(OTHER);
    case QN_OP:
        return evaluate_op(v, x, depth);
    case QN_AXOP:
        return evaluate_axop(v, x, depth);
    case QN_AS: {
        known a = evaluate(v, x->u.as.x, depth + 1);
        return is(a, CARRY) || is(a, GATED_CARRY) ? of(OTHER) : a;
    }
    case QN_IOTA:
    case QN_LOAD:
    case QN_FOLD:
    default:
        return of(OTHER);
    }
}

static void set(valuation *v, qn_sym name, known value)
{
    known_name n = {name, value};
    QN_PUSH(v->arena, v, n);
}

/* A block that only computes values: no effect outside it. */
static bool is_pure(const qn_block *b, int depth)
{
    for (int32_t k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        bool ok = s->kind == QN_LET || s->kind == QN_YIELD || s->kind == QN_PREFETCH;
        if (s->kind == QN_FOR && depth < 64) {
            ok = is_pure(&s->u.loop.body, depth + 1);
        } else if (s->kind == QN_IF && depth < 64) {
            ok = is_pure(&s->u.branch.then, depth + 1) && is_pure(&s->u.branch.other, depth + 1);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool adds_nothing(const qn_stmt *s, known x)
{
    switch (s->u.store.mode) {
    case QN_STORE_ADD:
        return is(x, ZERO);
    case QN_STORE_MAX:
        return is(x, MINUS_INF);
    case QN_STORE_MIN:
        return is(x, PLUS_INF);
    case QN_STORE_SET:
    default:
        return false;
    }
}

static bool keeps_carries(const valuation *v, const qn_stmt *loop, const qn_stmt *yield)
{
    for (int32_t k = 0; k < loop->u.loop.ncarries && k < yield->u.yield.count; k++) {
        const qn_carry *c = &loop->u.loop.carries[k];
        known x = evaluate(v, yield->u.yield.at[k], 0);
        valuation none = {0};
        bool from_zero = is(evaluate(&none, c->init, 0), ZERO);
        if (x.carry != c->name || !(is(x, CARRY) || (is(x, GATED_CARRY) && from_zero))) {
            return false;
        }
    }
    return true;
}

bool qn_loop_is_neutral(qn_arena *scratch, const qn_stmt *loop, qn_sym mask)
{
    valuation v = {.arena = scratch};
    for (int32_t k = 0; k < loop->u.loop.ncarries; k++) {
        set(&v, loop->u.loop.carries[k].name, (known){CARRY, loop->u.loop.carries[k].name});
    }
    for (int32_t k = 0; k < loop->u.loop.body.count; k++) {
        const qn_stmt *s = loop->u.loop.body.at[k];
        switch (s->kind) {
        case QN_LET:
            if (s->u.let.nnames == 1) {
                qn_sym name = s->u.let.names[0];
                set(&v, name, name == mask ? of(FALSE) : evaluate(&v, s->u.let.x, 0));
            }
            break;
        case QN_STORE:
            if (!adds_nothing(s, evaluate(&v, s->u.store.x, 0))) {
                return false;
            }
            break;
        case QN_YIELD:
            if (!keeps_carries(&v, loop, s)) {
                return false;
            }
            break;
        case QN_FOR:
            if (!is_pure(&s->u.loop.body, 0)) {
                return false;
            }
            break;
        case QN_IF:
            if (!is_pure(&s->u.branch.then, 0) || !is_pure(&s->u.branch.other, 0)) {
                return false;
            }
            break;
        case QN_PREFETCH:
            break;
        case QN_BUF:
        case QN_SYNC:
        case QN_LAUNCH:
        case QN_FLAG:
        default:
            return false;
        }
    }
    return true;
}
