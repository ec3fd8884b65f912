/* SPDX-License-Identifier: MIT
 * Arithmetic with bounds, and expressions over it; see number.h. The rules are those that the
 * interpreter of the IR keeps, written a second time so that each checks the other. */
#include "frontend/number.h"

#include "ir/build.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct qn_code {
    qn_expr_kind kind;
    qn_op op;
    qn_axop axop;
    qn_dtype cast;
    int slot; /* of a name or an iota; of the axis that a reduction runs over */
    const qn_array *array;
    qn_num lit;
    qn_code *arg[3];
    int nargs;
    qn_code *index[QN_MAX_AXES];
    int nindex;
    qn_code *extent; /* of a reduction */
};

/* Roundings of functions: exp, log, rsqrt 4; pow 8; sin, cos, tanh, erf 8 of their range. */
enum { OWN_FUNCTION = 4, OWN_POW = 8, OWN_BOUNDED = 8 };

double qn_num_unit(qn_dtype t)
{
    return t == QN_F16 ? 0x1p-11 : t == QN_BF16 ? 0x1p-8 : t == QN_F64 ? 0x1p-53 : 0x1p-24;
}

double qn_num_growth(int64_t n)
{
    return n <= 4096 ? (double)n : 64 * sqrt((double)n);
}

static double greatest(qn_dtype t)
{
    return t == QN_F16    ? 65504.0
           : t == QN_BF16 ? 0x1.fep127
           : t == QN_F64  ? DBL_MAX
                          : (double)FLT_MAX;
}

static double least_normal(qn_dtype t)
{
    return t == QN_F16 ? 0x1p-14 : t == QN_F64 ? DBL_MIN : 0x1p-126;
}

double qn_num_round(qn_dtype t, double x)
{
    if (t == QN_F32 || t == QN_FLT_LIT) {
        return (double)(float)x;
    }
    if ((t != QN_F16 && t != QN_BF16) || x == 0 || !isfinite(x)) {
        return x;
    }
    int digits = t == QN_F16 ? 11 : 8, exponent, lowest = t == QN_F16 ? -13 : -125;
    frexp(x, &exponent);
    if (exponent < lowest) { /* denormal numbers have fewer digits */
        exponent = lowest;
    }
    double unit = ldexp(1, exponent - digits);
    double y = nearbyint(x / unit) * unit;
    return fabs(y) > greatest(t) ? copysign(INFINITY, x) : y;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double by(double k, double e) /* a factor times a bound; 0 times unknown stays unknown */
{
    return e == 0 ? 0 : isinf(e) ? INFINITY : fabs(k) * e;
}

static bool is_float(const qn_num *x)
{
    return qn_dtype_is_float(x->t);
}

static qn_num of_bool(bool b, bool unsure)
{
    return (qn_num){.t = QN_BOOL, .i = b, .unsure = unsure};
}

static qn_num of_int(qn_dtype t, int64_t i, bool unsure)
{
    return (qn_num){.t = t, .i = i, .unsure = unsure};
}

/* A float result with what its operands bring and `own` roundings. */
static qn_num of_float(const qn_scope *c, qn_dtype t, double r, double e, double own)
{
    qn_num x = {.t = t, .f = c->naive ? qn_num_round(t, r) : r};
    if (c->naive) {
        return x;
    }
    if (t == QN_F64 && c->number != QN_F64) { /* decides alike everywhere: see type.c */
        own = 0;
    }
    if (!isfinite(r)) {
        x.e = isinf(e) ? INFINITY : 0;
    } else if (e == 0 && own == 1) { /* exact operands: the error that is really made */
        x.e = fabs(r - qn_num_round(t, r));
    } else {
        x.e = e + own * qn_num_unit(t) * larger(fabs(r), least_normal(t));
    }
    if (isfinite(r) && fabs(r) + x.e > greatest(t)) {
        x.e = INFINITY;
    }
    return x;
}

/* ---------------------------------------------------------------- integers */

static int64_t wrapped(qn_dtype t, uint64_t v)
{
    int64_t i;
    if (t == QN_I32) {
        v = (uint64_t)(int64_t)(int32_t)(uint32_t)v;
    } else if (t == QN_I16) {
        v = (uint64_t)(int64_t)(int16_t)(uint16_t)v;
    } else if (t == QN_I8) {
        v = (uint64_t)(int64_t)(int8_t)(uint8_t)v;
    } else if (t == QN_U8) {
        v &= 0xff;
    }
    memcpy(&i, &v, sizeof i);
    return i;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    if (b == 0) {
        return 0;
    }
    if (b == -1) {
        return wrapped(QN_I64, 0u - (uint64_t)a);
    }
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static qn_num int_op(qn_op op, const qn_num *x, int n)
{
    int64_t a = x[0].i, b = n > 1 ? x[1].i : 0, q;
    uint64_t p = (uint64_t)a, r = (uint64_t)b;
    qn_dtype t = n > 1 ? qn_dtype_join(x[0].t, x[1].t) : x[0].t;
    bool unsure = x[0].unsure || (n > 1 && x[1].unsure) || (n > 2 && x[2].unsure);
    switch ((int)op) {
    case QN_OP_ADD:
        return of_int(t, wrapped(t, p + r), unsure);
    case QN_OP_SUB:
        return of_int(t, wrapped(t, p - r), unsure);
    case QN_OP_MUL:
        return of_int(t, wrapped(t, p * r), unsure);
    case QN_OP_FLOORDIV:
        return of_int(t, floor_div(a, b), unsure);
    case QN_OP_MOD:
        q = floor_div(a, b);
        return of_int(t, b == 0 ? 0 : wrapped(t, p - (uint64_t)q * r), unsure);
    case QN_OP_NEG:
        return of_int(t, wrapped(t, 0u - p), unsure);
    case QN_OP_ABS:
        return of_int(t, a < 0 ? wrapped(t, 0u - p) : a, unsure);
    case QN_OP_MIN:
        return of_int(t, a < b ? a : b, unsure);
    case QN_OP_MAX:
        return of_int(t, a > b ? a : b, unsure);
    case QN_OP_CLAMP:
        a = a > b ? a : b;
        return of_int(t, a < x[2].i ? a : x[2].i, unsure);
    case QN_OP_BAND:
        return of_int(t, wrapped(t, p & r), unsure);
    case QN_OP_BOR:
        return of_int(t, wrapped(t, p | r), unsure);
    case QN_OP_BXOR:
        return of_int(t, wrapped(t, p ^ r), unsure);
    case QN_OP_SHL:
        return of_int(t, wrapped(t, r < 64 ? p << r : 0), unsure);
    case QN_OP_SHR:
        p = t == QN_I32                ? (uint32_t)p
            : t == QN_I16              ? (uint16_t)p
            : t == QN_I8 || t == QN_U8 ? (uint8_t)p
                                       : p;
        return of_int(t, wrapped(t, r < 64 ? p >> r : 0), unsure);
    default:
        return of_int(t, 0, true);
    }
}

/* ---------------------------------------------------------------- floats */

static double sigmoid(double x)
{
    double t = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + t) : t / (1 + t);
}

static double modulo(double a, double b)
{
    double m = fmod(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

static qn_num extreme(const qn_scope *c, qn_dtype t, const qn_num *a, const qn_num *b, bool max)
{
    bool first = isnan(b->f) || (max ? a->f >= b->f : a->f <= b->f);
    const qn_num *w = first ? a : b, *o = first ? b : a;
    double e = w->e;
    if (o->e + w->e >= fabs(w->f - o->f)) { /* the other could win */
        e = larger(e, o->e);
    }
    qn_num x = of_float(c, t, w->f, 0, 0);
    x.e = c->naive ? 0 : e;
    return x;
}

/* Where a step lies within the bound, the result may be either side's. */
static qn_num stepped(const qn_scope *c, qn_dtype t, double (*step)(double), const qn_num *a)
{
    qn_num x = {.t = t, .f = step(a->f)};
    if (!c->naive && a->e > 0) {
        x.e = isfinite(a->e) ? fabs(step(a->f + a->e) - step(a->f - a->e)) : INFINITY;
    }
    return x;
}

static double pow_bound(const qn_num *a, const qn_num *b, double r)
{
    double e = 0;
    if (a->e != 0) {
        e += a->f != 0 ? by(b->f * r / a->f, a->e) : INFINITY;
    }
    if (b->e != 0) {
        e += a->f > 0 ? by(r * log(a->f), b->e) : INFINITY;
    }
    return e;
}

static qn_num float_op(const qn_scope *c, qn_op op, const qn_num *x, int n)
{
    double a = x[0].f, ea = x[0].e, b = n > 1 ? x[1].f : 0, eb = n > 1 ? x[1].e : 0, r;
    qn_dtype t = n > 1 ? qn_dtype_join(x[0].t, x[1].t) : x[0].t;
    switch ((int)op) {
    case QN_OP_ADD:
        return of_float(c, t, a + b, ea + eb, 1);
    case QN_OP_SUB:
        return of_float(c, t, a - b, ea + eb, 1);
    case QN_OP_MUL:
        return of_float(c, t, a * b, by(b, ea) + by(a, eb), 1);
    case QN_OP_DIV:
        if (eb > 0 && fabs(b) <= eb) {
            return of_float(c, t, a / b, INFINITY, 1);
        }
        return of_float(c, t, a / b, by(1 / b, ea) + by(a / b / b, eb), 1);
    case QN_OP_FLOORDIV: {
        qn_num q = of_float(c, t, a / b, by(1 / b, ea) + by(a / b / b, eb), 1);
        return stepped(c, t, floor, &q);
    }
    case QN_OP_MOD: {
        qn_num q = {.t = t, .f = a / b, .e = by(1 / b, ea) + by(a / b / b, eb)};
        q.e += t == QN_F64 ? 0 : qn_num_unit(t) * fabs(a / b);
        qn_num s = stepped(c, t, floor, &q);
        return of_float(c, t, modulo(a, b), ea + by(s.f, eb) + by(b, s.e),
                        2 + (ea == 0 && eb == 0 ? 0 : fabs(s.f)));
    }
    case QN_OP_NEG:
        return (qn_num){.t = t, .f = -a, .e = ea};
    case QN_OP_ABS:
        return (qn_num){.t = t, .f = fabs(a), .e = ea};
    case QN_OP_MIN:
    case QN_OP_MAX:
        return extreme(c, t, &x[0], &x[1], op == QN_OP_MAX);
    case QN_OP_CLAMP: {
        qn_num up = extreme(c, t, &x[0], &x[1], true);
        return extreme(c, t, &up, &x[2], false);
    }
    case QN_OP_FMA:
        return of_float(c, t, a * b + x[2].f,
                        by(b, ea) + by(a, eb) + x[2].e + qn_num_unit(t) * fabs(a * b), 1);
    case QN_OP_POW:
        r = pow(a, b);
        return of_float(c, t, r, pow_bound(&x[0], &x[1], r), OWN_POW + fabs(b));
    case QN_OP_EXP:
    case QN_OP_EXP2: {
        double k = op == QN_OP_EXP ? 1 : 0.69314718055994531;
        r = op == QN_OP_EXP ? exp(a) : exp2(a);
        double wide = k * ea < 1e-4            ? by(r * k, ea)
                      : r == 0 && isfinite(ea) ? 0
                                               : r * expm1(k * ea);
        return of_float(c, t, r, wide + (t == QN_F64 ? 0 : least_normal(t)),
                        OWN_FUNCTION + (isfinite(a) ? fabs(a) : 0));
    }
    case QN_OP_LOG:
    case QN_OP_LOG2: {
        double k = op == QN_OP_LOG ? 1 : 1.4426950408889634;
        return of_float(c, t, op == QN_OP_LOG ? log(a) : log2(a),
                        ea > 0 && a <= ea ? INFINITY : by(k / a, ea), OWN_FUNCTION);
    }
    case QN_OP_SQRT:
        r = sqrt(a);
        return of_float(c, t, r, ea > 0 && a <= ea ? sqrt(a > 0 ? a + ea : ea) : by(0.5 / r, ea),
                        1);
    case QN_OP_RSQRT:
        r = 1 / sqrt(a);
        return of_float(c, t, r, ea > 0 && a <= ea ? INFINITY : by(0.5 * r / a, ea), OWN_FUNCTION);
    case QN_OP_SIN:
    case QN_OP_COS:
        return of_float(c, t, op == QN_OP_SIN ? sin(a) : cos(a), ea + OWN_BOUNDED * qn_num_unit(t),
                        0);
    case QN_OP_TANH:
        r = tanh(a);
        return of_float(c, t, r, by(1 - r * r, ea) + ea * ea, OWN_BOUNDED);
    case QN_OP_ERF:
        return of_float(c, t, erf(a), by(1.1283791670955126 * exp(-a * a), ea) + ea * ea,
                        OWN_BOUNDED);
    case QN_OP_SIGMOID:
        r = sigmoid(a);
        return of_float(c, t, r,
                        (ea < 1e-4 ? by(r * (1 - r), ea) + ea * ea * r
                                   : larger(r, 1 - r) * larger(ea < 1 ? 2 * ea : 1, 0)) +
                            least_normal(t),
                        OWN_FUNCTION + (isfinite(a) ? fabs(a) : 0));
    case QN_OP_FLOOR:
        return stepped(c, t, floor, &x[0]);
    case QN_OP_CEIL:
        return stepped(c, t, ceil, &x[0]);
    case QN_OP_ROUND:
        return stepped(c, t, nearbyint, &x[0]);
    default:
        return (qn_num){.t = t, .f = NAN, .e = INFINITY};
    }
}

/* ---------------------------------------------------------------- comparisons, choices, casts */

static qn_num compared(qn_op op, const qn_num *x)
{
    int order; /* -1 less, 0 equal, 1 greater, 2 neither */
    bool unsure = x[0].unsure || x[1].unsure;
    if (is_float(&x[0])) {
        double a = x[0].f, b = x[1].f, e = x[0].e + x[1].e;
        order = a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
        unsure = e > 0 && !(fabs(a - b) > e) && !(isinf(a) && a == b && isfinite(e));
    } else {
        order = x[0].i < x[1].i ? -1 : x[0].i > x[1].i;
    }
    switch ((int)op) {
    case QN_OP_EQ:
        return of_bool(order == 0, unsure);
    case QN_OP_NE:
        return of_bool(order != 0, unsure);
    case QN_OP_LT:
        return of_bool(order == -1, unsure);
    case QN_OP_LE:
        return of_bool(order == -1 || order == 0, unsure);
    case QN_OP_GT:
        return of_bool(order == 1, unsure);
    default:
        return of_bool(order == 1 || order == 0, unsure);
    }
}

static qn_num chosen(const qn_num *x)
{
    qn_num r = x[0].i ? x[1] : x[2];
    const qn_num *o = x[0].i ? &x[2] : &x[1];
    r.t = r.t == QN_BOOL ? QN_BOOL : qn_dtype_join(x[1].t, x[2].t);
    if (!x[0].unsure) {
        return r;
    }
    if (!is_float(&r)) {
        r.unsure |= o->unsure || r.i != o->i;
    } else if (r.f == o->f) { /* equal infinities too */
        r.e = larger(r.e, o->e);
    } else {
        double d = fabs(r.f - o->f);
        r.e = isfinite(d) ? larger(r.e, o->e) + d : INFINITY;
    }
    return r;
}

static qn_num cast(const qn_scope *c, qn_dtype to, const qn_num *x)
{
    if (qn_dtype_is_float(to)) {
        if (!is_float(x)) {
            return of_float(c, to, (double)x->i, x->unsure ? INFINITY : 0, 1);
        }
        bool wider = qn_dtype_bytes(to) >= qn_dtype_bytes(x->t) && x->t != QN_FLT_LIT && x->t != to;
        bool same = x->t == to;
        qn_num r = of_float(c, to, x->f, x->e, 1);
        if (!c->naive && (wider || same)) {
            r.e = x->e;
        }
        return r;
    }
    if (to == QN_BOOL) {
        return of_bool(is_float(x) ? x->f != 0 : x->i != 0, x->unsure);
    }
    if (!is_float(x)) {
        return of_int(to, wrapped(to, (uint64_t)x->i), x->unsure);
    }
    bool inside = x->f > -0x1p63 && x->f < 0x1p63;
    int64_t i = inside ? (int64_t)x->f : 0;
    bool unsure = x->e > 0 && !(trunc(x->f - x->e) == trunc(x->f + x->e));
    return of_int(to, wrapped(to, (uint64_t)i), unsure);
}

/* Literals take the type of the other operand, and are rounded to it. */
static void settle(const qn_scope *c, qn_op op, qn_num *x, int n)
{
    qn_dtype t = QN_FLT_LIT;
    int first = op == QN_OP_SELECT ? 1 : 0;
    for (int k = first; k < n; k++) {
        if (qn_dtype_is_float(x[k].t) && x[k].t != QN_FLT_LIT) {
            t = x[k].t;
        }
    }
    for (int k = first; k < n; k++) {
        if (x[k].t == QN_FLT_LIT && t != QN_FLT_LIT) {
            double r = qn_num_round(t, x[k].f);
            x[k].t = t;
            x[k].e = c->naive || !isfinite(r) ? 0 : fabs(x[k].f - r);
            x[k].f = c->naive ? r : x[k].f;
        }
    }
}

static qn_num apply(const qn_scope *c, qn_op op, qn_dtype to, qn_num *x, int n)
{
    if (op == QN_OP_CAST) {
        return cast(c, to, x);
    }
    settle(c, op, x, n);
    if (op == QN_OP_SELECT) {
        return chosen(x);
    }
    if (op == QN_OP_NOT) {
        return of_bool(!x[0].i, x[0].unsure);
    }
    if (op == QN_OP_AND || op == QN_OP_OR) {
        bool or = op == QN_OP_OR;
        bool decided =
            (!x[0].unsure && (x[0].i != 0) == or) || (!x[1].unsure && (x[1].i != 0) == or);
        return of_bool(or ? x[0].i || x[1].i : x[0].i && x[1].i,
                       !decided && (x[0].unsure || x[1].unsure));
    }
    if (qn_op_is_compare(op)) {
        return compared(op, x);
    }
    return is_float(&x[0]) ? float_op(c, op, x, n) : int_op(op, x, n);
}

/* ---------------------------------------------------------------- expressions */

int qn_scope_slot(qn_scope *c, const char *name)
{
    qn_sym s = qn_intern(c->ir, name);
    for (int k = 0; k < c->names.count; k++) {
        if (c->names.at[k] == s) {
            return k;
        }
    }
    QN_PUSH(c->ir->arena, &c->names, s);
    qn_num none = {.t = QN_I64};
    QN_PUSH(c->ir->arena, &c->slots, none);
    return c->names.count - 1;
}

void qn_scope_set(qn_scope *c, int slot, int64_t i)
{
    c->slots.at[slot] = of_int(QN_I64, i, false);
}

static int axis_slot(qn_scope *c, qn_sym axis)
{
    qn_buf b = qn_buf_of(c->ir->arena);
    qn_buf_printf(&b, ":%s", axis);
    return qn_scope_slot(c, b.text);
}

typedef struct extent_search {
    qn_sym axis;
    qn_extent found;
    bool yes;
} extent_search;

static void find_extent(const qn_expr *x, extent_search *s)
{
    qn_exprs below = x->kind == QN_OP     ? x->u.op.args
                     : x->kind == QN_LOAD ? x->u.load.index
                                          : (qn_exprs){NULL, 0};
    if (x->kind == QN_IOTA && x->u.iota.name == s->axis) {
        s->found = x->u.iota.extent;
        s->yes = true;
    }
    for (int k = 0; k < below.count; k++) {
        find_extent(below.at[k], s);
    }
}

static qn_code *code_of_literal(qn_code *y, const qn_expr *x)
{
    y->lit.t = x->u.lit.type;
    y->lit.i = x->u.lit.i;
    y->lit.f = x->u.lit.f;
    return y;
}

qn_code *qn_code_of(qn_scope *c, const qn_expr *x, const char **why)
{
    qn_code *y = QN_NEW(c->ir->arena, qn_code);
    y->kind = x->kind;
    switch (x->kind) {
    case QN_LIT:
        return code_of_literal(y, x);
    case QN_NAME:
        y->slot = qn_scope_slot(c, x->u.name);
        return y;
    case QN_IOTA:
        y->slot = axis_slot(c, x->u.iota.name);
        return y;
    case QN_LOAD:
        for (int k = 0; k < c->nargs && !y->array; k++) {
            if (strcmp(c->args[k].name, x->u.load.base) == 0) {
                y->array = &c->args[k].array;
            }
        }
        if (!y->array || y->array->rank != x->u.load.index.count) {
            *why = x->u.load.base;
            return NULL;
        }
        y->nindex = x->u.load.index.count;
        for (int k = 0; k < y->nindex; k++) {
            y->index[k] = qn_code_of(c, x->u.load.index.at[k], why);
            if (!y->index[k]) {
                return NULL;
            }
        }
        return y;
    case QN_OP:
        y->op = x->u.op.op;
        y->cast = x->u.op.cast;
        y->nargs = x->u.op.args.count;
        for (int k = 0; k < y->nargs; k++) {
            y->arg[k] = qn_code_of(c, x->u.op.args.at[k], why);
            if (!y->arg[k]) {
                return NULL;
            }
        }
        return y;
    case QN_AXOP: {
        extent_search s = {.axis = x->u.axop.nover ? x->u.axop.over[0] : NULL};
        find_extent(x->u.axop.args.at[0], &s);
        if (x->u.axop.op != QN_AX_REDUCE_SUM || x->u.axop.nover != 1 || !s.yes) {
            break;
        }
        y->slot = axis_slot(c, s.axis);
        y->extent = qn_code_of(c, qn_extent_expr(c->ir, s.found), why);
        y->arg[0] = qn_code_of(c, x->u.axop.args.at[0], why);
        return y->arg[0] && y->extent ? y : NULL;
    }
    case QN_FOLD:
    case QN_AS:
        break;
    }
    *why = "a construct that tables and functions of a spec do not have";
    return NULL;
}

static qn_num load(qn_scope *c, const qn_code *x)
{
    int64_t at = 0;
    bool inside = true, unsure = false;
    const qn_array *a = x->array;
    for (int k = 0; k < x->nindex; k++) {
        qn_num i = qn_code_run(c, x->index[k]);
        inside = inside && i.i >= 0 && i.i < a->shape[k];
        unsure |= i.unsure;
        at = inside ? at * a->shape[k] + i.i : 0;
    }
    qn_num r = {.t = a->dtype, .unsure = unsure};
    if (qn_dtype_is_float(a->dtype)) {
        r.f = inside ? a->f[at] : 0;
        r.e = unsure ? INFINITY : 0;
    } else {
        r.i = inside ? a->i[at] : 0;
    }
    return r;
}

static qn_num inner_norm(qn_scope *c, const qn_code *x, const qn_num *args)
{
    bool rescale = x->op == QN_OP_RESCALE;
    int p = rescale ? c->from : c->s, q = rescale ? c->to : c->m;
    qn_num before_p = c->slots.at[p], before_q = q >= 0 ? c->slots.at[q] : (qn_num){0};
    c->slots.at[p] = args[0];
    if (q >= 0) {
        c->slots.at[q] = args[1];
    }
    qn_num r = qn_code_run(c, rescale ? c->rescale : c->weight);
    c->slots.at[p] = before_p;
    if (q >= 0) {
        c->slots.at[q] = before_q;
    }
    return r;
}

static qn_num sum_over(qn_scope *c, const qn_code *x)
{
    int64_t n = qn_code_run(c, x->extent).i;
    qn_num total = {.t = QN_I64};
    double size = 0;
    for (int64_t k = 0; k < n; k++) {
        qn_scope_set(c, x->slot, k);
        qn_num v = qn_code_run(c, x->arg[0]);
        total.t = v.t;
        total.i = wrapped(v.t, (uint64_t)total.i + (uint64_t)v.i);
        total.f += v.f;
        total.e += v.e;
        size += fabs(v.f);
        total.unsure |= v.unsure;
    }
    total.e += is_float(&total) ? qn_num_growth(n) * qn_num_unit(total.t) * size : 0;
    return total;
}

qn_num qn_code_run(qn_scope *c, const qn_code *x)
{
    qn_num args[3] = {0};
    switch (x->kind) {
    case QN_LIT:
        return x->lit;
    case QN_NAME:
    case QN_IOTA:
        return c->slots.at[x->slot];
    case QN_LOAD:
        return load(c, x);
    case QN_AXOP:
        return sum_over(c, x);
    case QN_OP:
    case QN_FOLD:
    case QN_AS:
        break;
    }
    for (int k = 0; k < x->nargs; k++) {
        args[k] = qn_code_run(c, x->arg[k]);
    }
    if (x->op == QN_OP_RESCALE || x->op == QN_OP_WEIGHT) {
        return inner_norm(c, x, args);
    }
    return apply(c, x->op, x->cast, args, x->nargs);
}

bool qn_code_reads(const qn_code *x, int slot)
{
    if ((x->kind == QN_NAME || x->kind == QN_IOTA) && x->slot == slot) {
        return true;
    }
    for (int k = 0; k < x->nargs; k++) {
        if (qn_code_reads(x->arg[k], slot)) {
            return true;
        }
    }
    for (int k = 0; k < x->nindex; k++) {
        if (qn_code_reads(x->index[k], slot)) {
            return true;
        }
    }
    return false;
}

bool qn_code_is(const qn_code *x, int slot)
{
    return x->kind == QN_NAME && x->slot == slot;
}
