/* SPDX-License-Identifier: MIT
 * math.* and qn.*: the functions that kernel functions may call, by name. Constants fold through
 * the C library, as Lua's own do. */
#include "frontend/front.h"

#include <math.h>
#include <string.h>

typedef struct row {
    const char *name;
    int least, most; /* arguments; most -1: any number */
    qn_fval (*f)(qn_front *fr, const struct row *row, const qn_fval *args, int n);
    qn_op op;
    double (*c)(double); /* of a constant */
} row;

static double number_of(const qn_fval *v)
{
    return v->kind == QN_V_INT ? (double)v->i : v->f;
}

static bool is_int(const qn_fval *v)
{
    return v->kind == QN_V_INT || (v->kind == QN_V_NODE && v->node->type == QN_N_INT);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Floats stay what they are, integers become IDEAL. */
static qn_node *as_float(qn_front *fr, const qn_fval *v)
{
    bool flt = v->kind == QN_V_NODE && v->node->type == QN_N_FLT;
    return flt ? v->node : qn_fval_to_ideal(fr, v);
}

static qn_fval plain(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    (void)n;
    if (args[0].kind != QN_V_NODE) {
        return qn_fval_flt(r->c(number_of(&args[0])));
    }
    qn_node *x = as_float(fr, &args[0]);
    return qn_fval_node(qn_node_op1(fr, r->op, x->type, x));
}

static qn_fval absolute(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    (void)r, (void)n;
    const qn_fval *a = &args[0];
    if (a->kind == QN_V_INT) {
        return a->i == INT64_MIN ? *a : qn_fval_int(a->i < 0 ? -a->i : a->i);
    }
    return a->kind == QN_V_FLOAT ? qn_fval_flt(fabs(a->f))
                                 : qn_fval_node(qn_node_op1(fr, QN_OP_ABS, a->node->type, a->node));
}

/* floor and ceil give integers. A float outside of what integers hold becomes 0: Lua would leave it
 * a float, which no index or comparison of buckets can want. */
static qn_fval to_integer(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    (void)n;
    if (is_int(&args[0])) {
        return args[0];
    }
    if (args[0].kind == QN_V_FLOAT) {
        double f = r->c(args[0].f);
        return f >= -0x1p63 && f < 0x1p63 ? qn_fval_int((int64_t)f) : qn_fval_flt(f);
    }
    qn_node *x = args[0].node;
    qn_node *whole = qn_node_op1(fr, r->op, x->type, x);
    qn_node *small =
        qn_node_op2(fr, QN_OP_LT, QN_N_BOOL, qn_node_op1(fr, QN_OP_ABS, x->type, whole),
                    qn_node_flt(fr, 9.0e18, x->type));
    whole = qn_node_op3(fr, QN_OP_SELECT, x->type, small, whole, qn_node_flt(fr, 0, x->type));
    return qn_fval_node(qn_node_cast(fr, QN_I64, QN_N_INT, whole));
}

static qn_fval extreme(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    qn_fval best = args[0];
    for (int k = 1; k < n; k++) {
        qn_fval both[2] = {best, args[k]};
        qn_join j = qn_fval_join(both, 2);
        if (j == QN_JOIN_CONST) {
            bool ints = best.kind == QN_V_INT && args[k].kind == QN_V_INT;
            bool less = ints ? args[k].i < best.i : number_of(&args[k]) < number_of(&best);
            bool more = ints ? args[k].i > best.i : number_of(&args[k]) > number_of(&best);
            best = (r->op == QN_OP_MIN ? less : more) ? args[k] : best;
        } else {
            best = qn_fval_node(qn_node_op2(fr, r->op, qn_join_type(fr, j),
                                            qn_fval_to(fr, &best, j), qn_fval_to(fr, &args[k], j)));
        }
    }
    return best;
}

static qn_fval clamped(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    row most = *r, least = *r;
    most.op = QN_OP_MAX, least.op = QN_OP_MIN;
    qn_join j = qn_fval_join(args, n);
    if (j == QN_JOIN_CONST) {
        qn_fval up[2] = {extreme(fr, &most, args, 2), args[2]};
        return extreme(fr, &least, up, 2);
    }
    return qn_fval_node(qn_node_op3(fr, QN_OP_CLAMP, qn_join_type(fr, j),
                                    qn_fval_to(fr, &args[0], j), qn_fval_to(fr, &args[1], j),
                                    qn_fval_to(fr, &args[2], j)));
}

static qn_fval logarithm(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    if (n == 1) {
        return plain(fr, r, args, n);
    }
    if (args[0].kind != QN_V_NODE && args[1].kind != QN_V_NODE) {
        double x = number_of(&args[0]), b = number_of(&args[1]);
        return qn_fval_flt(b == 2 ? log2(x) : b == 10 ? log10(x) : log(x) / log(b));
    }
    if (args[1].kind != QN_V_NODE && number_of(&args[1]) == 2) {
        qn_node *x = as_float(fr, &args[0]);
        return qn_fval_node(qn_node_op1(fr, QN_OP_LOG2, x->type, x));
    }
    qn_fval x = plain(fr, r, &args[0], 1), b = plain(fr, r, &args[1], 1);
    return qn_binary(fr, QN_LUA_DIV, &x, &b, (qn_place){0});
}

static qn_fval tangent(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    if (args[0].kind != QN_V_NODE) {
        return plain(fr, r, args, n);
    }
    qn_node *x = as_float(fr, &args[0]);
    return qn_fval_node(qn_node_op2(fr, QN_OP_DIV, x->type, qn_node_op1(fr, QN_OP_SIN, x->type, x),
                                    qn_node_op1(fr, QN_OP_COS, x->type, x)));
}

/* The remainder with the sign of the dividend: of magnitudes, floor and truncation agree. */
static qn_fval remainder_of(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    (void)r;
    qn_join j = qn_fval_join(args, n);
    if (j == QN_JOIN_CONST && is_int(&args[0]) && is_int(&args[1])) {
        int64_t a = args[0].i, b = args[1].i;
        if (b == 0) {
            return (qn_fval){.kind = QN_V_BAD};
        }
        return qn_fval_int(b == -1 ? 0 : a % b);
    }
    if (j == QN_JOIN_CONST) {
        return qn_fval_flt(fmod(number_of(&args[0]), number_of(&args[1])));
    }
    qn_ntype type = qn_join_type(fr, j);
    qn_node *a = qn_fval_to(fr, &args[0], j), *b = qn_fval_to(fr, &args[1], j);
    qn_node *p = qn_node_op1(fr, QN_OP_ABS, type, a), *q = qn_node_op1(fr, QN_OP_ABS, type, b);
    qn_node *m =
        type == QN_N_INT ? qn_divide(fr, QN_OP_MOD, p, q) : qn_node_op2(fr, QN_OP_MOD, type, p, q);
    qn_node *zero = type == QN_N_INT ? qn_node_int(fr, 0) : qn_node_flt(fr, 0, type);
    qn_node *minus = qn_node_op2(fr, QN_OP_LT, QN_N_BOOL, a, zero);
    return qn_fval_node(
        qn_node_op3(fr, QN_OP_SELECT, type, minus, qn_node_op1(fr, QN_OP_NEG, type, m), m));
}

static qn_fval raised(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    (void)r, (void)n;
    return qn_binary(fr, QN_LUA_POW, &args[0], &args[1], (qn_place){0});
}

static qn_fval reciprocal_root(qn_front *fr, const row *r, const qn_fval *args, int n)
{
    if (args[0].kind != QN_V_NODE) {
        return qn_fval_flt(1 / sqrt(number_of(&args[0])));
    }
    return plain(fr, r, args, n);
}

static const row rows[] = {
    {"math.abs", 1, 1, absolute, QN_OP_ABS, NULL},
    {"math.ceil", 1, 1, to_integer, QN_OP_CEIL, ceil},
    {"math.floor", 1, 1, to_integer, QN_OP_FLOOR, floor},
    {"math.exp", 1, 1, plain, QN_OP_EXP, exp},
    {"math.log", 1, 2, logarithm, QN_OP_LOG, log},
    {"math.max", 1, -1, extreme, QN_OP_MAX, NULL},
    {"math.min", 1, -1, extreme, QN_OP_MIN, NULL},
    {"math.sqrt", 1, 1, plain, QN_OP_SQRT, sqrt},
    {"math.sin", 1, 1, plain, QN_OP_SIN, sin},
    {"math.cos", 1, 1, plain, QN_OP_COS, cos},
    {"math.tan", 1, 1, tangent, QN_OP_SIN, tan},
    {"math.fmod", 2, 2, remainder_of, QN_OP_MOD, NULL},
    {"qn.tanh", 1, 1, plain, QN_OP_TANH, tanh},
    {"qn.sigmoid", 1, 1, plain, QN_OP_SIGMOID, sigmoid},
    {"qn.erf", 1, 1, plain, QN_OP_ERF, erf},
    {"qn.exp2", 1, 1, plain, QN_OP_EXP2, exp2},
    {"qn.log2", 1, 1, plain, QN_OP_LOG2, log2},
    {"qn.rsqrt", 1, 1, reciprocal_root, QN_OP_RSQRT, NULL},
    {"qn.pow", 2, 2, raised, QN_OP_POW, NULL},
    {"qn.clamp", 3, 3, clamped, QN_OP_CLAMP, NULL},
};

static qn_fval bad(void)
{
    return (qn_fval){.kind = QN_V_BAD};
}

static qn_fval chosen(qn_front *fr, const qn_fval *args, int n, qn_place place)
{
    if (n != 3) {
        qn_front_error(fr, "E-CALL", place, "qn.select takes 3 arguments, not %d", n);
        return bad();
    }
    bool boolean =
        args[0].kind == QN_V_BOOL || (args[0].kind == QN_V_NODE && args[0].node->type == QN_N_BOOL);
    if (!boolean) {
        qn_front_error(fr, "E-COND", place, "qn.select chooses by a boolean, not by %s",
                       qn_fval_describe(&args[0]));
        return bad();
    }
    qn_fval v = qn_choose(fr, qn_fval_to_bool(fr, &args[0]), &args[1], &args[2]);
    if (v.kind == QN_V_BAD) {
        qn_front_error(fr, "E-TYPE", place, "qn.select between %s and %s",
                       qn_fval_describe(&args[1]), qn_fval_describe(&args[2]));
    }
    return v;
}

static qn_fval dim_of(qn_front *fr, const qn_fval *args, int n, qn_place place)
{
    if (n != 1 || args[0].kind != QN_V_STRING) {
        qn_front_error(fr, "E-CALL", place, "qn.dim takes the name of a dimension");
        return bad();
    }
    return qn_fval_node(qn_dim_node(fr, qn_intern(fr->ir, args[0].text)));
}

qn_fval qn_builtin(qn_front *fr, const char *name, const qn_fval *args, int n, qn_place place)
{
    for (int k = 0; k < n; k++) {
        if (args[k].kind == QN_V_BAD) {
            return bad();
        }
    }
    if (strcmp(name, "qn.select") == 0) {
        return chosen(fr, args, n, place);
    }
    if (strcmp(name, "qn.dim") == 0) {
        return dim_of(fr, args, n, place);
    }
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const row *r = &rows[k];
        if (strcmp(r->name, name) != 0) {
            continue;
        }
        if (n < r->least || (r->most >= 0 && n > r->most)) {
            qn_front_error(fr, "E-CALL", place, "%s takes %d argument%s%s, not %d", name, r->least,
                           r->least == 1 ? "" : "s",
                           r->most < 0          ? " or more"
                           : r->most > r->least ? " or 2"
                                                : "",
                           n);
            return bad();
        }
        for (int m = 0; m < n; m++) {
            if (!qn_fval_is_number(&args[m])) {
                qn_front_error(fr, "E-TYPE", place, "%s of %s", name, qn_fval_describe(&args[m]));
                return bad();
            }
        }
        qn_fval v = r->f(fr, r, args, n);
        if (v.kind == QN_V_BAD) {
            qn_front_error(fr, "E-TYPE", place, "%s by 0", name);
        }
        return v;
    }
    qn_front_error(fr, "E-CALL", place, "kernel functions have no %s", name)->help =
        "math.abs ceil floor exp log max min sqrt sin cos tan fmod; qn.tanh sigmoid erf exp2 log2 "
        "rsqrt pow "
        "clamp select dim";
    return bad();
}
