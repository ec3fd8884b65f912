/* SPDX-License-Identifier: MIT
 *
 * Operators on values, with Lua 5.4's meaning: `//` and `%` floor, `/` and `^` give floats, mixed
 * arithmetic promotes, constants fold as Lua folds them. Where Lua raises (integer division by 0)
 * the value is 0 and the flag of the function is raised.
 *
 * Floats have two types. FLT is the number type of the spec. IDEAL is f64: what is made of integers
 * and constants alone, such as a bucket by logarithm; it decides floors and comparisons the same
 * way on every target, and becomes FLT where it meets one. */
#include "frontend/front.h"

#include <math.h>
#include <string.h>

qn_fval qn_fval_int(int64_t i)
{
    return (qn_fval){.kind = QN_V_INT, .i = i};
}

qn_fval qn_fval_flt(double f)
{
    return (qn_fval){.kind = QN_V_FLOAT, .f = f};
}

qn_fval qn_fval_bool(bool b)
{
    return (qn_fval){.kind = QN_V_BOOL, .b = b};
}

qn_fval qn_fval_node(qn_node *n)
{
    return (qn_fval){.kind = QN_V_NODE, .node = n};
}

bool qn_fval_is_number(const qn_fval *v)
{
    return v->kind == QN_V_INT || v->kind == QN_V_FLOAT ||
           (v->kind == QN_V_NODE && v->node->type != QN_N_BOOL);
}

static bool is_bool(const qn_fval *v)
{
    return v->kind == QN_V_BOOL || (v->kind == QN_V_NODE && v->node->type == QN_N_BOOL);
}

static bool is_int(const qn_fval *v)
{
    return v->kind == QN_V_INT || (v->kind == QN_V_NODE && v->node->type == QN_N_INT);
}

bool qn_fval_is_const(const qn_fval *v)
{
    return v->kind == QN_V_NIL || v->kind == QN_V_BOOL || v->kind == QN_V_INT ||
           v->kind == QN_V_FLOAT || v->kind == QN_V_STRING;
}

const char *qn_fval_describe(const qn_fval *v)
{
    switch (v->kind) {
    case QN_V_NIL:
        return "nil";
    case QN_V_BOOL:
        return "a boolean";
    case QN_V_INT:
        return "an integer";
    case QN_V_FLOAT:
        return "a float";
    case QN_V_STRING:
        return "a string";
    case QN_V_NODE:
        return v->node->type == QN_N_BOOL  ? "a boolean"
               : v->node->type == QN_N_INT ? "an integer"
                                           : "a float";
    case QN_V_TABLE:
        return "a table";
    case QN_V_TENSOR:
        return v->nindex ? "a tensor with too few indices" : "a tensor";
    case QN_V_FUNCTION:
    case QN_V_BUILTIN:
        return "a function";
    case QN_V_MIXED:
        return "a value that differs in kind between paths";
    case QN_V_BAD:
        break;
    }
    return "an error";
}

/* ---------------------------------------------------------------- conversions */

static qn_dtype number_dtype(const qn_front *fr)
{
    return fr->spec->number;
}

/* IDEAL to FLT. Sums and products of integers are computed anew in FLT (they are exact there as far
 * as positions go), and so are choices; anything else keeps its f64 and is rounded once. */
static qn_node *ideal_to_flt(qn_front *fr, qn_node *n, int depth)
{
    if (n->x.kind == QN_LIT) {
        return qn_node_flt(fr, n->x.u.lit.f, QN_N_FLT);
    }
    if (depth < 16 && n->x.kind == QN_OP) {
        qn_op op = n->x.u.op.op;
        qn_node *a = qn_node_arg(n, 0);
        if (op == QN_OP_CAST && a->type == QN_N_INT) {
            return qn_node_cast(fr, number_dtype(fr), QN_N_FLT, a);
        }
        if (op == QN_OP_CAST && a->x.kind == QN_LIT) { /* a literal told to be f64 */
            return qn_node_flt(fr, a->x.u.lit.f, QN_N_FLT);
        }
        if (op == QN_OP_NEG || op == QN_OP_ABS) {
            return qn_node_op1(fr, op, QN_N_FLT, ideal_to_flt(fr, a, depth + 1));
        }
        if (op == QN_OP_SELECT) {
            return qn_node_op3(fr, op, QN_N_FLT, a, ideal_to_flt(fr, qn_node_arg(n, 1), depth + 1),
                               ideal_to_flt(fr, qn_node_arg(n, 2), depth + 1));
        }
        if (op == QN_OP_ADD || op == QN_OP_SUB || op == QN_OP_MUL || op == QN_OP_MIN ||
            op == QN_OP_MAX) {
            return qn_node_op2(fr, op, QN_N_FLT, ideal_to_flt(fr, a, depth + 1),
                               ideal_to_flt(fr, qn_node_arg(n, 1), depth + 1));
        }
    }
    return qn_node_cast(fr, number_dtype(fr), QN_N_FLT, n);
}

qn_node *qn_fval_to_flt(qn_front *fr, const qn_fval *v)
{
    if (v->kind == QN_V_INT || v->kind == QN_V_FLOAT) {
        return qn_node_flt(fr, v->kind == QN_V_INT ? (double)v->i : v->f, QN_N_FLT);
    }
    if (v->node->type == QN_N_INT) {
        return qn_node_cast(fr, number_dtype(fr), QN_N_FLT, v->node);
    }
    return v->node->type == QN_N_IDEAL ? ideal_to_flt(fr, v->node, 0) : v->node;
}

qn_node *qn_fval_to_int(qn_front *fr, const qn_fval *v)
{
    return v->kind == QN_V_INT ? qn_node_int(fr, v->i) : v->node;
}

/* The type of floats made of integers and constants. */
static qn_ntype ideal(const qn_front *fr)
{
    return number_dtype(fr) == QN_F64 ? QN_N_FLT : QN_N_IDEAL;
}

qn_node *qn_fval_to_ideal(qn_front *fr, const qn_fval *v)
{
    if (v->kind == QN_V_INT || v->kind == QN_V_FLOAT) {
        return qn_node_flt(fr, v->kind == QN_V_INT ? (double)v->i : v->f, ideal(fr));
    }
    if (v->node->type == QN_N_INT || v->node->type == QN_N_FLT) {
        bool is_f64 = v->node->type == QN_N_FLT && number_dtype(fr) == QN_F64;
        return is_f64 ? v->node : qn_node_cast(fr, QN_F64, ideal(fr), v->node);
    }
    return v->node;
}

qn_node *qn_fval_to_bool(qn_front *fr, const qn_fval *v)
{
    return v->kind == QN_V_BOOL ? qn_node_bool(fr, v->b) : v->node;
}

qn_join qn_fval_join(const qn_fval *vs, int n)
{
    bool constant = true, ints = true, flt = false;
    for (int k = 0; k < n; k++) {
        if (!qn_fval_is_number(&vs[k])) {
            return QN_JOIN_NONE;
        }
        constant &= vs[k].kind != QN_V_NODE;
        ints &= is_int(&vs[k]);
        flt |= vs[k].kind == QN_V_NODE && vs[k].node->type == QN_N_FLT;
    }
    return constant ? QN_JOIN_CONST : ints ? QN_JOIN_INT : flt ? QN_JOIN_FLT : QN_JOIN_IDEAL;
}

qn_node *qn_fval_to(qn_front *fr, const qn_fval *v, qn_join to)
{
    return to == QN_JOIN_INT   ? qn_fval_to_int(fr, v)
           : to == QN_JOIN_FLT ? qn_fval_to_flt(fr, v)
                               : qn_fval_to_ideal(fr, v);
}

qn_ntype qn_join_type(const qn_front *fr, qn_join j)
{
    return j == QN_JOIN_INT ? QN_N_INT : j == QN_JOIN_FLT ? QN_N_FLT : ideal(fr);
}

/* ---------------------------------------------------------------- booleans */

static bool is_lit_bool(const qn_node *n, bool b)
{
    return n->x.kind == QN_LIT && n->x.u.lit.type == QN_BOOL && (n->x.u.lit.i != 0) == b;
}

qn_node *qn_and(qn_front *fr, qn_node *a, qn_node *b)
{
    if (is_lit_bool(a, true) || is_lit_bool(b, false) || a == b) {
        return b;
    }
    if (is_lit_bool(b, true) || is_lit_bool(a, false)) {
        return a;
    }
    return qn_node_op2(fr, QN_OP_AND, QN_N_BOOL, a, b);
}

static qn_node *or_of(qn_front *fr, qn_node *a, qn_node *b)
{
    if (is_lit_bool(a, false) || is_lit_bool(b, true) || a == b) {
        return b;
    }
    if (is_lit_bool(b, false) || is_lit_bool(a, true)) {
        return a;
    }
    return qn_node_op2(fr, QN_OP_OR, QN_N_BOOL, a, b);
}

qn_node *qn_not(qn_front *fr, qn_node *a)
{
    if (a->x.kind == QN_LIT) {
        return qn_node_bool(fr, !a->x.u.lit.i);
    }
    return qn_node_is_op(a, QN_OP_NOT) ? qn_node_arg(a, 0)
                                       : qn_node_op1(fr, QN_OP_NOT, QN_N_BOOL, a);
}

void qn_raise(qn_front *fr, qn_node *cond)
{
    for (int k = fr->path.count - 1; k >= 0; k--) {
        qn_node *c = fr->path.at[k].cond;
        cond = qn_and(fr, fr->path.at[k].holds ? c : qn_not(fr, c), cond);
    }
    for (int k = 0; k < fr->flags.count; k++) {
        if (fr->flags.at[k] == &cond->x) {
            return;
        }
    }
    if (!is_lit_bool(cond, false)) {
        QN_PUSH(fr->ir->arena, &fr->flags, &cond->x);
    }
}

qn_fval qn_choose(qn_front *fr, qn_node *cond, const qn_fval *a, const qn_fval *b)
{
    if (cond->x.kind == QN_LIT) {
        return cond->x.u.lit.i ? *a : *b;
    }
    if (is_bool(a) && is_bool(b)) {
        qn_node *x = qn_fval_to_bool(fr, a), *y = qn_fval_to_bool(fr, b);
        if (x == y) {
            return *a;
        }
        return qn_fval_node(or_of(fr, qn_and(fr, cond, x), qn_and(fr, qn_not(fr, cond), y)));
    }
    qn_fval both[2] = {*a, *b};
    qn_join j = qn_fval_join(both, 2);
    if (j == QN_JOIN_NONE) {
        return (qn_fval){.kind = QN_V_BAD};
    }
    if (j == QN_JOIN_CONST) {
        bool ints = a->kind == QN_V_INT && b->kind == QN_V_INT;
        if ((ints && a->i == b->i) || (!ints && a->kind == b->kind && a->f == b->f && a->f != 0)) {
            return *a;
        }
        j = ints ? QN_JOIN_INT : QN_JOIN_IDEAL;
    }
    qn_ntype type = qn_join_type(fr, j);
    qn_node *x = qn_fval_to(fr, a, j), *y = qn_fval_to(fr, b, j);
    if (x == y) {
        return qn_fval_node(x);
    }
    if (type != QN_N_INT && (type == QN_N_IDEAL || number_dtype(fr) == QN_F64) &&
        both[0].kind != QN_V_NODE &&
        both[1].kind != QN_V_NODE) { /* two literals alone would be f32 */
        x = qn_node_cast(fr, QN_F64, type, x);
    }
    return qn_fval_node(qn_node_op3(fr, QN_OP_SELECT, type, cond, x, y));
}

/* ---------------------------------------------------------------- arithmetic */

static double floor_mod(double a, double b)
{
    double m = fmod(a, b);
    return (m != 0 && (m < 0) != (b < 0)) ? m + b : m;
}

static int64_t wrap(uint64_t v)
{
    int64_t i;
    memcpy(&i, &v, sizeof i);
    return i;
}

static int64_t shift_left(int64_t x, int64_t by)
{
    if (by <= -64 || by >= 64) {
        return 0;
    }
    return by >= 0 ? wrap((uint64_t)x << by) : wrap((uint64_t)x >> -by);
}

static int64_t floor_div_int(int64_t a, int64_t b)
{
    if (b == -1) {
        return wrap(0u - (uint64_t)a);
    }
    int64_t q = a / b;
    return (a % b != 0 && (a % b < 0) != (b < 0)) ? q - 1 : q;
}

static bool fold_ints(qn_lua_op op, int64_t a, int64_t b, int64_t *out)
{
    uint64_t x = (uint64_t)a, y = (uint64_t)b;
    if (op == QN_LUA_ADD || op == QN_LUA_SUB || op == QN_LUA_MUL) {
        *out = wrap(op == QN_LUA_ADD ? x + y : op == QN_LUA_SUB ? x - y : x * y);
        return true;
    }
    if (op == QN_LUA_FLOORDIV || op == QN_LUA_MOD) {
        if (b == 0) {
            return false;
        }
        int64_t q = floor_div_int(a, b);
        *out = op == QN_LUA_FLOORDIV ? q : wrap((uint64_t)a - (uint64_t)q * y);
        return true;
    }
    if (op == QN_LUA_BAND || op == QN_LUA_BOR || op == QN_LUA_BXOR) {
        *out = wrap(op == QN_LUA_BAND ? x & y : op == QN_LUA_BOR ? x | y : x ^ y);
        return true;
    }
    if (op == QN_LUA_SHL || op == QN_LUA_SHR) {
        bool least = b == INT64_MIN;
        *out = op == QN_LUA_SHL ? shift_left(a, b) : least ? 0 : shift_left(a, -b);
        return true;
    }
    return false;
}

static double fold_floats(qn_lua_op op, double a, double b)
{
    switch ((int)op) {
    case QN_LUA_ADD:
        return a + b;
    case QN_LUA_SUB:
        return a - b;
    case QN_LUA_MUL:
        return a * b;
    case QN_LUA_DIV:
        return a / b;
    case QN_LUA_FLOORDIV:
        return floor(a / b);
    case QN_LUA_MOD:
        return isinf(b) && !isinf(a) && !isnan(a) ? (a == 0 || (a < 0) == (b < 0) ? a : b)
                                                  : floor_mod(a, b);
    default:
        return b == 2 ? a * a : pow(a, b);
    }
}

/* The integer that a bit operation takes; false if there is none. */
static bool as_integer(const qn_fval *v, qn_fval *out)
{
    *out = *v;
    if (v->kind == QN_V_FLOAT && v->f >= -0x1p63 && v->f < 0x1p63 && v->f == floor(v->f)) {
        *out = qn_fval_int((int64_t)v->f);
    }
    return is_int(out);
}

static qn_op ir_op(qn_lua_op op)
{
    switch (op) {
    case QN_LUA_ADD:
        return QN_OP_ADD;
    case QN_LUA_SUB:
        return QN_OP_SUB;
    case QN_LUA_MUL:
        return QN_OP_MUL;
    case QN_LUA_DIV:
        return QN_OP_DIV;
    case QN_LUA_FLOORDIV:
        return QN_OP_FLOORDIV;
    case QN_LUA_MOD:
        return QN_OP_MOD;
    case QN_LUA_LT:
        return QN_OP_LT;
    case QN_LUA_GT:
        return QN_OP_GT;
    case QN_LUA_LE:
        return QN_OP_LE;
    case QN_LUA_GE:
        return QN_OP_GE;
    case QN_LUA_EQ:
        return QN_OP_EQ;
    case QN_LUA_NE:
        return QN_OP_NE;
    case QN_LUA_BAND:
        return QN_OP_BAND;
    case QN_LUA_BOR:
        return QN_OP_BOR;
    case QN_LUA_BXOR:
        return QN_OP_BXOR;
    case QN_LUA_SHL:
        return QN_OP_SHL;
    case QN_LUA_SHR:
        return QN_OP_SHR;
    case QN_LUA_POW:
        return QN_OP_POW;
    case QN_LUA_OR:
        return QN_OP_OR;
    case QN_LUA_AND:
        return QN_OP_AND;
    case QN_LUA_NOT:
        return QN_OP_NOT;
    case QN_LUA_NEG:
    case QN_LUA_BNOT:
        break;
    }
    return QN_OP_NEG;
}

qn_node *qn_divide(qn_front *fr, qn_op op, qn_node *a, qn_node *b)
{
    qn_flin below = qn_flin_const(-1), above = *b->lin;
    above.k--;
    bool nonzero = qn_flin_add(&below, b->lin, -1) &&
                   (qn_flin_prove(fr, &above, false) || qn_flin_prove(fr, &below, false));
    if (nonzero) {
        return qn_node_op2(fr, op, QN_N_INT, a, b);
    }
    qn_node *zero = qn_node_op2(fr, QN_OP_EQ, QN_N_BOOL, b, qn_node_int(fr, 0));
    qn_node *safe = qn_node_op3(fr, QN_OP_SELECT, QN_N_INT, zero, qn_node_int(fr, 1), b);
    qn_raise(fr, zero);
    return qn_node_op3(fr, QN_OP_SELECT, QN_N_INT, zero, qn_node_int(fr, 0),
                       qn_node_op2(fr, op, QN_N_INT, a, safe));
}

/* Lua's shifts take any count: negative ones turn round, and from 64 on nothing is left. */
static qn_node *shift(qn_front *fr, qn_node *x, qn_node *by, bool left)
{
    if (by->lin->n == 0) {
        int64_t n = left ? by->lin->k : by->lin->k == INT64_MIN ? INT64_MAX : -by->lin->k;
        if (n <= -64 || n >= 64) {
            return qn_node_int(fr, 0);
        }
        return qn_node_op2(fr, n >= 0 ? QN_OP_SHL : QN_OP_SHR, QN_N_INT, x,
                           qn_node_int(fr, n < 0 ? -n : n));
    }
    qn_node *zero = qn_node_int(fr, 0), *most = qn_node_int(fr, 63);
    qn_node *minus = qn_node_op1(fr, QN_OP_NEG, QN_N_INT, by);
    qn_node *ahead = qn_node_op3(fr, QN_OP_CLAMP, QN_N_INT, by, zero, most);
    qn_node *back = qn_node_op3(fr, QN_OP_CLAMP, QN_N_INT, minus, zero, most);
    qn_node *up = qn_node_op2(fr, left ? QN_OP_SHL : QN_OP_SHR, QN_N_INT, x, ahead);
    qn_node *down = qn_node_op2(fr, left ? QN_OP_SHR : QN_OP_SHL, QN_N_INT, x, back);
    qn_node *some = qn_node_op2(fr, QN_OP_GE, QN_N_BOOL, by, zero);
    qn_node *wide = or_of(fr, qn_node_op2(fr, QN_OP_GE, QN_N_BOOL, by, qn_node_int(fr, 64)),
                          qn_node_op2(fr, QN_OP_LE, QN_N_BOOL, by, qn_node_int(fr, -64)));
    qn_node *moved = qn_node_op3(fr, QN_OP_SELECT, QN_N_INT, some, up, down);
    return qn_node_op3(fr, QN_OP_SELECT, QN_N_INT, wide, zero, moved);
}

static qn_fval wrong(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b, qn_place place)
{
    const char *text = qn_lua_op_text(op);
    if (b) {
        qn_front_error(fr, "E-TYPE", place, "'%s' of %s and %s", text, qn_fval_describe(a),
                       qn_fval_describe(b));
    } else {
        qn_front_error(fr, "E-TYPE", place, "'%s' of %s", text, qn_fval_describe(a));
    }
    return (qn_fval){.kind = QN_V_BAD};
}

static qn_fval compare(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b,
                       qn_place place)
{
    bool equality = op == QN_LUA_EQ || op == QN_LUA_NE;
    qn_fval both[2] = {*a, *b};
    qn_join j = qn_fval_join(both, 2);
    if (j == QN_JOIN_CONST) {
        bool ints = a->kind == QN_V_INT && b->kind == QN_V_INT;
        double x = a->kind == QN_V_INT ? (double)a->i : a->f,
               y = b->kind == QN_V_INT ? (double)b->i : b->f;
        bool lt = ints ? a->i < b->i : x < y, gt = ints ? a->i > b->i : x > y,
             eq = ints ? a->i == b->i : x == y;
        return qn_fval_bool(op == QN_LUA_LT   ? lt
                            : op == QN_LUA_GT ? gt
                            : op == QN_LUA_LE ? lt || eq
                            : op == QN_LUA_GE ? gt || eq
                            : op == QN_LUA_EQ ? eq
                                              : !eq);
    }
    if (j != QN_JOIN_NONE) { /* an integer against FLT is exact in f64 */
        bool mixed =
            j == QN_JOIN_FLT && ((both[0].kind == QN_V_NODE && both[0].node->type != QN_N_FLT) ||
                                 (both[1].kind == QN_V_NODE && both[1].node->type != QN_N_FLT));
        qn_join as = mixed ? QN_JOIN_IDEAL : j;
        return qn_fval_node(
            qn_node_op2(fr, ir_op(op), QN_N_BOOL, qn_fval_to(fr, a, as), qn_fval_to(fr, b, as)));
    }
    if (equality && is_bool(a) && is_bool(b)) {
        if (a->kind == QN_V_BOOL || b->kind == QN_V_BOOL) {
            const qn_fval *c = a->kind == QN_V_BOOL ? a : b, *x = c == a ? b : a;
            bool plain = c->b == (op == QN_LUA_EQ);
            return x->kind == QN_V_BOOL ? qn_fval_bool(plain ? x->b : !x->b)
                                        : qn_fval_node(plain ? x->node : qn_not(fr, x->node));
        }
        return qn_fval_node(qn_node_op2(fr, ir_op(op), QN_N_BOOL, a->node, b->node));
    }
    if (equality && qn_fval_is_const(a) && qn_fval_is_const(b)) {
        bool eq = a->kind == b->kind && (a->kind == QN_V_NIL ||
                                         (a->kind == QN_V_STRING && strcmp(a->text, b->text) == 0));
        return qn_fval_bool(eq == (op == QN_LUA_EQ));
    }
    if (equality && (a->kind == QN_V_NIL || b->kind == QN_V_NIL) && a->kind != QN_V_MIXED &&
        b->kind != QN_V_MIXED) {
        return qn_fval_bool(op == QN_LUA_NE);
    }
    return wrong(fr, op, a, b, place);
}

static qn_fval power(qn_front *fr, const qn_fval *a, const qn_fval *b, qn_join j)
{
    qn_join as = j == QN_JOIN_FLT ? j : QN_JOIN_IDEAL;
    qn_ntype type = qn_join_type(fr, as);
    double e = b->kind == QN_V_INT ? (double)b->i : b->f,
           base = a->kind == QN_V_INT ? (double)a->i : a->f;
    if (b->kind != QN_V_NODE && (e == 1 || e == 2)) {
        qn_node *x = qn_fval_to(fr, a, as);
        return qn_fval_node(e == 1 ? x : qn_node_op2(fr, QN_OP_MUL, type, x, x));
    }
    if (a->kind != QN_V_NODE && base == 2) {
        return qn_fval_node(qn_node_op1(fr, QN_OP_EXP2, type, qn_fval_to(fr, b, as)));
    }
    return qn_fval_node(
        qn_node_op2(fr, QN_OP_POW, type, qn_fval_to(fr, a, as), qn_fval_to(fr, b, as)));
}

static qn_fval arithmetic(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b,
                          qn_place place)
{
    qn_fval both[2] = {*a, *b};
    qn_join j = qn_fval_join(both, 2);
    bool floats = op == QN_LUA_DIV || op == QN_LUA_POW;
    if (j == QN_JOIN_NONE) {
        return wrong(fr, op, a, b, place);
    }
    if (j == QN_JOIN_CONST) {
        int64_t i;
        if (!floats && a->kind == QN_V_INT && b->kind == QN_V_INT) {
            if (fold_ints(op, a->i, b->i, &i)) {
                return qn_fval_int(i);
            }
            qn_front_error(fr, "E-TYPE", place, "integer '%s' by 0", qn_lua_op_text(op));
            return (qn_fval){.kind = QN_V_BAD};
        }
        return qn_fval_flt(fold_floats(op, a->kind == QN_V_INT ? (double)a->i : a->f,
                                       b->kind == QN_V_INT ? (double)b->i : b->f));
    }
    if (op == QN_LUA_POW) {
        return power(fr, a, b, j);
    }
    j = floats && j == QN_JOIN_INT ? QN_JOIN_IDEAL : j;
    qn_node *x = qn_fval_to(fr, a, j), *y = qn_fval_to(fr, b, j);
    if (j == QN_JOIN_INT && (op == QN_LUA_FLOORDIV || op == QN_LUA_MOD)) {
        return qn_fval_node(qn_divide(fr, ir_op(op), x, y));
    }
    return qn_fval_node(qn_node_op2(fr, ir_op(op), qn_join_type(fr, j), x, y));
}

static qn_fval bits(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b, qn_place place)
{
    qn_fval x, y;
    int64_t i;
    if (!as_integer(a, &x) || !as_integer(b, &y)) {
        qn_fval bad = wrong(fr, op, a, b, place);
        fr->d->at[fr->d->count - 1].help = "bit operations take integers; math.floor makes one";
        return bad;
    }
    if (x.kind == QN_V_INT && y.kind == QN_V_INT) {
        fold_ints(op, x.i, y.i, &i);
        return qn_fval_int(i);
    }
    qn_node *p = qn_fval_to_int(fr, &x), *q = qn_fval_to_int(fr, &y);
    if (op == QN_LUA_SHL || op == QN_LUA_SHR) {
        return qn_fval_node(shift(fr, p, q, op == QN_LUA_SHL));
    }
    return qn_fval_node(qn_node_op2(fr, ir_op(op), QN_N_INT, p, q));
}

qn_fval qn_binary(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b, qn_place place)
{
    if (a->kind == QN_V_BAD || b->kind == QN_V_BAD) {
        return (qn_fval){.kind = QN_V_BAD};
    }
    switch (op) {
    case QN_LUA_LT:
    case QN_LUA_GT:
    case QN_LUA_LE:
    case QN_LUA_GE:
    case QN_LUA_EQ:
    case QN_LUA_NE:
        return compare(fr, op, a, b, place);
    case QN_LUA_BAND:
    case QN_LUA_BOR:
    case QN_LUA_BXOR:
    case QN_LUA_SHL:
    case QN_LUA_SHR:
        return bits(fr, op, a, b, place);
    case QN_LUA_AND:
    case QN_LUA_OR:
        if (!is_bool(a) || !is_bool(b)) {
            return wrong(fr, op, a, b, place);
        }
        if (op == QN_LUA_AND) {
            return qn_fval_node(qn_and(fr, qn_fval_to_bool(fr, a), qn_fval_to_bool(fr, b)));
        }
        return qn_fval_node(or_of(fr, qn_fval_to_bool(fr, a), qn_fval_to_bool(fr, b)));
    case QN_LUA_ADD:
    case QN_LUA_SUB:
    case QN_LUA_MUL:
    case QN_LUA_DIV:
    case QN_LUA_FLOORDIV:
    case QN_LUA_MOD:
    case QN_LUA_POW:
        return arithmetic(fr, op, a, b, place);
    case QN_LUA_NOT:
    case QN_LUA_NEG:
    case QN_LUA_BNOT:
        break;
    }
    return wrong(fr, op, a, b, place);
}

qn_fval qn_unary(qn_front *fr, qn_lua_op op, const qn_fval *a, qn_place place)
{
    if (a->kind == QN_V_BAD) {
        return *a;
    }
    if (op == QN_LUA_NOT && (is_bool(a) || a->kind == QN_V_NIL)) {
        return a->kind == QN_V_NODE ? qn_fval_node(qn_not(fr, a->node)) : qn_fval_bool(!a->b);
    }
    if (op == QN_LUA_NEG && qn_fval_is_number(a)) {
        return a->kind == QN_V_INT ? qn_fval_int(wrap(0u - (uint64_t)a->i))
               : a->kind == QN_V_FLOAT
                   ? qn_fval_flt(-a->f)
                   : qn_fval_node(qn_node_op1(fr, QN_OP_NEG, a->node->type, a->node));
    }
    qn_fval x, ones = qn_fval_int(-1);
    if (op == QN_LUA_BNOT && as_integer(a, &x)) {
        return bits(fr, QN_LUA_BXOR, &x, &ones, place);
    }
    return wrong(fr, op, a, NULL, place);
}
