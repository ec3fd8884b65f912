/* SPDX-License-Identifier: MIT
 *
 * The laws of norms, sampled: with them a fold may be cut, streamed and merged.
 *
 *     weight(x, m2)    = weight(x, m1) * rescale(m1, m2)     m1 covers x, m2 covers m1
 *     rescale(m1, m3)  = rescale(m1, m2) * rescale(m2, m3)
 *     rescale(identity, m) and rescale(identity, identity) are finite: no NaN from 0 * inf
 *
 * Stats are those of sampled elements, so no law is asked where the norm is never used; among the
 * elements are large ones, equal ones, and those that give the identity (a score of -inf). Where
 * the left side is not finite the whole row is lost anyway, and nothing is asked. The rest holds
 * by construction: max, min and sum are associative, and results are linear in the weight. */
#include "ir/print.h"
#include "ir/verify.h"
#include "ir/walk.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 400 };

typedef struct sample { /* one element: a value for every operand, and its stat */
    double *args;
    double stat;
} sample;

typedef struct laws {
    qn_ir *ir;
    const qn_norm *n;
    uint64_t seed;
    double identity;
    /* names at the moment */
    const double *args;
    double stat, from, to;
} laws;

/* ---------------------------------------------------------------- evaluation */

static double value_of_name(const laws *l, qn_sym name)
{
    if (name == l->n->rescale_from) {
        return l->from;
    }
    if (name == l->n->rescale_to) {
        return l->to;
    }
    for (int k = 0; k < l->n->nargs; k++) {
        if (l->n->args[k] == name) {
            return l->args[k];
        }
    }
    return name == l->n->stat ? l->stat : NAN;
}

static uint64_t bits_of(double x)
{
    return fabs(x) < 0x1p62 ? (uint64_t)(int64_t)x : 0;
}

static double eval_bits(qn_op op, double a, double b)
{
    uint64_t x = bits_of(a), y = bits_of(b);
    switch ((int)op) {
    case QN_OP_BAND:
        x &= y;
        break;
    case QN_OP_BOR:
        x |= y;
        break;
    case QN_OP_BXOR:
        x ^= y;
        break;
    case QN_OP_SHL:
        x <<= y & 63;
        break;
    default:
        x >>= y & 63;
        break;
    }
    return (double)(int64_t)x;
}

static double eval_cast(qn_dtype to, double x)
{
    return to == QN_BOOL ? x != 0 : qn_dtype_is_int(to) ? trunc(x) : x;
}

static double eval_op(const qn_expr *x, const double *v)
{
    double a = v[0], b = v[1], c = v[2];
    switch (x->u.op.op) {
    case QN_OP_OR:
        return a != 0 || b != 0;
    case QN_OP_AND:
        return a != 0 && b != 0;
    case QN_OP_NOT:
        return a == 0;
    case QN_OP_EQ:
        return a == b;
    case QN_OP_NE:
        return a != b;
    case QN_OP_LT:
        return a < b;
    case QN_OP_LE:
        return a <= b;
    case QN_OP_GT:
        return a > b;
    case QN_OP_GE:
        return a >= b;
    case QN_OP_ADD:
        return a + b;
    case QN_OP_SUB:
        return a - b;
    case QN_OP_MUL:
        return a * b;
    case QN_OP_DIV:
        return a / b;
    case QN_OP_FLOORDIV:
        return floor(a / b);
    case QN_OP_MOD:
        return a - b * floor(a / b);
    case QN_OP_NEG:
        return -a;
    case QN_OP_MIN:
        return fmin(a, b);
    case QN_OP_MAX:
        return fmax(a, b);
    case QN_OP_ABS:
        return fabs(a);
    case QN_OP_CLAMP:
        return fmin(fmax(a, b), c);
    case QN_OP_SELECT:
        return a != 0 ? b : c;
    case QN_OP_FMA:
        return a * b + c;
    case QN_OP_POW:
        return pow(a, b);
    case QN_OP_EXP:
        return exp(a);
    case QN_OP_EXP2:
        return exp2(a);
    case QN_OP_LOG:
        return log(a);
    case QN_OP_LOG2:
        return log2(a);
    case QN_OP_SQRT:
        return sqrt(a);
    case QN_OP_RSQRT:
        return 1 / sqrt(a);
    case QN_OP_SIN:
        return sin(a);
    case QN_OP_COS:
        return cos(a);
    case QN_OP_TANH:
        return tanh(a);
    case QN_OP_ERF:
        return erf(a);
    case QN_OP_SIGMOID:
        return 1 / (1 + exp(-a));
    case QN_OP_FLOOR:
        return floor(a);
    case QN_OP_CEIL:
        return ceil(a);
    case QN_OP_ROUND:
        return nearbyint(a);
    case QN_OP_BAND:
    case QN_OP_BOR:
    case QN_OP_BXOR:
    case QN_OP_SHL:
    case QN_OP_SHR:
        return eval_bits(x->u.op.op, a, b);
    case QN_OP_CAST:
        return eval_cast(x->u.op.cast, a);
    case QN_OP_RESCALE:
    case QN_OP_WEIGHT:
    case QN_OPS:
        break;
    }
    return NAN;
}

static double eval(const laws *l, const qn_expr *x)
{
    double v[3] = {0};
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.type == QN_FLT_LIT ? x->u.lit.f : (double)x->u.lit.i;
    case QN_NAME:
        return value_of_name(l, x->u.name);
    case QN_IOTA: /* some element of the axis, the same for both sides */
        return 1;
    case QN_OP:
        for (int k = 0; k < x->u.op.args.count && k < 3; k++) {
            v[k] = eval(l, x->u.op.args.at[k]);
        }
        return eval_op(x, v);
    case QN_LOAD:
    case QN_AXOP:
    case QN_FOLD:
    case QN_AS:
        break;
    }
    return NAN;
}

static double weight(laws *l, const sample *x, double m)
{
    l->args = x->args;
    l->stat = m;
    return eval(l, l->n->weight);
}

static double rescale(laws *l, const sample *x, double from, double to)
{
    l->args = x->args; /* operands may set the pace, as a temperature does */
    l->from = from;
    l->to = to;
    return eval(l, l->n->rescale);
}

static double combine(const laws *l, double a, double b)
{
    return l->n->stat_op == QN_AX_REDUCE_SUM   ? a + b
           : l->n->stat_op == QN_AX_REDUCE_MAX ? fmax(a, b)
                                               : fmin(a, b);
}

/* ---------------------------------------------------------------- samples */

static double uniform(laws *l) /* 0 <= x < 1, by splitmix64 */
{
    uint64_t z = l->seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static double random_value(laws *l, bool first)
{
    static const double scales[] = {1, 1, 1, 0.01, 30, 1e3, 1e-6, 1e5};
    double scale = scales[(int)(uniform(l) * 8)], x = (2 * uniform(l) - 1) * scale;
    int kind = (int)(uniform(l) * 16);
    return kind == 0 ? 0.0 : kind == 1 && first ? l->identity : kind == 2 ? round(x) : x;
}

static sample draw(laws *l)
{
    sample s = {QN_NEWN(l->ir->arena, double, l->n->nargs), NAN};
    for (int k = 0; k < l->n->nargs; k++) {
        s.args[k] = random_value(l, k == 0);
    }
    l->args = s.args;
    s.stat = eval(l, l->n->stat_x);
    return s;
}

/* ---------------------------------------------------------------- laws */

/* Equal up to the rounding of terms as large as `size`. */
static bool close_to(double a, double b, double size)
{
    double slack = 1e-9 + 1e-14 * (isfinite(size) ? size : 0);
    return fabs(a - b) <= slack * (fabs(a) + fabs(b)) + 1e-12; /* false for a NaN */
}

static bool broken(const laws *l, qn_diags *d, const char *law, double a, double b, double m1,
                   double m2, double m3)
{
    qn_buf t = qn_buf_of(l->ir->arena);
    qn_buf_printf(&t, "%s: %.6g against %.6g at %s", law, a, b, l->n->stat);
    qn_buf_printf(&t, " = %.6g, %.6g", m1, m2);
    if (!isnan(m3)) {
        qn_buf_printf(&t, ", %.6g", m3);
    }
    qn_diag_add(d, QN_ERROR, "V-NORM", l->n->place, "norm %s breaks a law: %s", l->n->name, t.text);
    return false;
}

static bool identity_is_finite(laws *l, const sample *x, double m, qn_diags *d)
{
    double r = rescale(l, x, l->identity, m);
    return isfinite(r) ||
           broken(l, d, "rescale from the identity is finite", r, 0, l->identity, m, NAN);
}

static bool round_of_laws(laws *l, qn_diags *d)
{
    sample x = draw(l), y = draw(l), z = draw(l), u = draw(l);
    double m1 = combine(l, l->identity, x.stat);
    if (uniform(l) < 0.7) {
        m1 = combine(l, m1, y.stat);
    }
    double m2 = combine(l, m1, z.stat), m3 = combine(l, m2, u.stat);
    double size = fmax(fmax(fabs(m1), fabs(m2)), fabs(m3));
    for (int k = 0; k < l->n->nargs; k++) {
        size = isfinite(x.args[k]) ? fmax(size, fabs(x.args[k])) : size;
    }
    if (isnan(m1) || isnan(m2) || isnan(m3)) {
        return true;
    }
    if (!identity_is_finite(l, &x, l->identity, d) || !identity_is_finite(l, &x, m1, d)) {
        return false;
    }
    double w = weight(l, &x, m2), parts = weight(l, &x, m1) * rescale(l, &x, m1, m2);
    if (isfinite(w) && !close_to(w, parts, size)) {
        return broken(l, d, "weight(.., m2) is weight(.., m1) * rescale(m1, m2)", w, parts, m1, m2,
                      NAN);
    }
    double r = rescale(l, &x, m1, m3);
    parts = rescale(l, &x, m1, m2) * rescale(l, &x, m2, m3);
    if (isfinite(r) && !close_to(r, parts, size)) {
        return broken(l, d, "rescale(m1, m3) is rescale(m1, m2) * rescale(m2, m3)", r, parts, m1,
                      m2, m3);
    }
    return true;
}

bool qn_verify_norm_laws(qn_ir *ir, const qn_norm *n, qn_diags *d)
{
    if (!n->stat || !n->rescale) { /* nothing to rescale, or never cut */
        return true;
    }
    laws l = {.ir = ir, .n = n, .seed = 1};
    l.identity = n->stat_op == QN_AX_REDUCE_SUM   ? 0.0
                 : n->stat_op == QN_AX_REDUCE_MAX ? -INFINITY
                                                  : INFINITY;
    for (int k = 0; k < ROUNDS; k++) {
        qn_mark m = qn_arena_mark(ir->arena);
        if (!round_of_laws(&l, d)) { /* the message lives in the arena */
            return false;
        }
        qn_arena_release(ir->arena, m);
    }
    return true;
}

bool qn_verify_laws(const qn_ir_file *f, qn_diags *d)
{
    bool good = true;
    for (int k = 0; k < f->items.count; k++) {
        if (f->items.at[k].kind == QN_ITEM_NORM) {
            good = qn_verify_norm_laws(f->ir, f->items.at[k].u.norm, d) && good;
        }
    }
    return good;
}
