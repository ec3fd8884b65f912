/* SPDX-License-Identifier: MIT
 *
 * Simplification of one expression, bottom-up.
 *
 * A rule may drop an operand only if the result keeps its type: the axes of what goes must be among
 * those of what stays, and a literal must not be left without the operand that gave it its type.
 * Floats are only simplified where no rounding and no sign of zero changes. */
#include "ir/build.h"
#include "passes/tools.h"

typedef struct simplifier {
    qn_ir *ir;
    qn_env *env;
    const qn_symset *truths;
} simplifier;

bool qn_is_bool(const qn_expr *x, bool value)
{
    return x->kind == QN_LIT && x->u.lit.type == QN_BOOL && (x->u.lit.i != 0) == value;
}

static bool is_int(const qn_expr *x, int64_t value)
{
    return x->kind == QN_LIT && x->u.lit.type == QN_INT_LIT && x->u.lit.i == value;
}

static bool is_one(const qn_expr *x)
{
    return is_int(x, 1) || (x->kind == QN_LIT && x->u.lit.type == QN_FLT_LIT && x->u.lit.f == 1.0);
}

/* An integer literal, perhaps under a minus. */
static bool int_of(const qn_expr *x, int64_t *out)
{
    if (x->kind == QN_LIT && x->u.lit.type == QN_INT_LIT) {
        *out = x->u.lit.i;
        return true;
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_NEG && x->u.op.args.at[0]->kind == QN_LIT &&
        x->u.op.args.at[0]->u.lit.type == QN_INT_LIT) {
        *out = -x->u.op.args.at[0]->u.lit.i;
        return true;
    }
    return false;
}

/* A literal of this size is in the range of every integer type it may stand beside. */
static bool small(int64_t n)
{
    return n >= 0 && n <= 127;
}

/* Is x known to be true? Its axes may still matter. */
static bool is_true(const simplifier *s, const qn_expr *x)
{
    return qn_is_bool(x, true) ||
           (x->kind == QN_NAME && s->truths && qn_symset_has(s->truths, x->u.name));
}

static bool infer(const simplifier *s, const qn_expr *x, qn_type *t)
{
    return s->env && qn_type_infer(s->env, x, t);
}

static bool is_literal_type(qn_dtype t)
{
    return t == QN_INT_LIT || t == QN_FLT_LIT;
}

/* Can `whole`, whose operand `kept` stays, be replaced by it? */
static bool same_type(const simplifier *s, const qn_expr *whole, const qn_expr *kept)
{
    qn_type a, b;
    if (!infer(s, whole, &a) || !infer(s, kept, &b) || a.dtype != b.dtype || a.rank != b.rank) {
        return false;
    }
    for (int n = 0; n < a.rank; n++) {
        if (!qn_type_axis(&b, a.axes[n].name)) {
            return false;
        }
    }
    return true;
}

static bool scalar(const simplifier *s, const qn_expr *x)
{
    qn_type t;
    return infer(s, x, &t) && t.rank == 0;
}

static bool fold_ints(qn_op op, int64_t a, int64_t b, int64_t *out)
{
    const int64_t big = INT64_C(1) << 30;
    if (a > big || a < -big || b > big || b < -big) {
        return false;
    }
    int64_t q;
    switch ((int)op) {
    case QN_OP_ADD:
        *out = a + b;
        return true;
    case QN_OP_SUB:
        *out = a - b;
        return true;
    case QN_OP_MUL:
        *out = a * b;
        return true;
    case QN_OP_MIN:
        *out = a < b ? a : b;
        return true;
    case QN_OP_MAX:
        *out = a > b ? a : b;
        return true;
    case QN_OP_FLOORDIV:
    case QN_OP_MOD:
        if (b == 0) {
            return false;
        }
        q = a / b - (a % b != 0 && (a < 0) != (b < 0));
        *out = op == QN_OP_MOD ? a - b * q : q;
        return true;
    default:
        return false;
    }
}

static bool compare_ints(qn_op op, int64_t a, int64_t b)
{
    switch ((int)op) {
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
    default:
        return a >= b;
    }
}

/* (x + 3) + 4 is x + 7: sums wrap, so the order is free. */
static qn_expr *add_constants(const simplifier *s, qn_expr *x)
{
    qn_expr *const *a = x->u.op.args.at;
    int64_t outer, inner;
    if (int_of(a[1], &outer) && a[0]->kind == QN_OP && a[0]->u.op.op == QN_OP_ADD &&
        int_of(a[0]->u.op.args.at[1], &inner) && small(outer) && small(inner) &&
        small(outer + inner)) {
        return qn_op2(s->ir, QN_OP_ADD, a[0]->u.op.args.at[0], qn_int(s->ir, outer + inner));
    }
    return x;
}

static qn_expr *binary(const simplifier *s, qn_expr *x)
{
    qn_expr *a = x->u.op.args.at[0], *b = x->u.op.args.at[1];
    int64_t p, q, r;
    if (int_of(a, &p) && int_of(b, &q)) {
        if (qn_op_is_compare(x->u.op.op)) {
            return qn_bool(s->ir, compare_ints(x->u.op.op, p, q));
        }
        if (fold_ints(x->u.op.op, p, q, &r) && small(r)) {
            return qn_int(s->ir, r);
        }
        return x;
    }
    switch ((int)x->u.op.op) {
    case QN_OP_ADD:
        if (is_int(b, 0)) {
            return a;
        }
        return is_int(a, 0) ? b : add_constants(s, x);
    case QN_OP_SUB:
        return is_int(b, 0) ? a : x;
    case QN_OP_MUL:
        return is_one(b) ? a : is_one(a) ? b : x;
    case QN_OP_DIV:
        return is_one(b) ? a : x;
    case QN_OP_FLOORDIV:
        return is_int(b, 1) ? a : x;
    case QN_OP_MIN:
    case QN_OP_MAX:
        return qn_expr_equal(a, b) ? a : x;
    case QN_OP_AND:
        if (is_true(s, a) && (qn_is_bool(a, true) || same_type(s, x, b))) {
            return b;
        }
        if (is_true(s, b) && (qn_is_bool(b, true) || same_type(s, x, a))) {
            return a;
        }
        if ((qn_is_bool(a, false) && scalar(s, b)) || (qn_is_bool(b, false) && scalar(s, a))) {
            return qn_bool(s->ir, false);
        }
        return qn_expr_equal(a, b) ? a : x;
    case QN_OP_OR:
        if (qn_is_bool(a, false)) {
            return b;
        }
        if (qn_is_bool(b, false)) {
            return a;
        }
        if ((is_true(s, a) && scalar(s, x)) || (is_true(s, b) && scalar(s, x))) {
            return qn_bool(s->ir, true);
        }
        if ((is_true(s, a) && same_type(s, x, a))) {
            return a;
        }
        if ((is_true(s, b) && same_type(s, x, b))) {
            return b;
        }
        return qn_expr_equal(a, b) ? a : x;
    default:
        return x;
    }
}

static qn_expr *one_select(const simplifier *s, qn_expr *x)
{
    qn_expr *const *a = x->u.op.args.at;
    bool yes = is_true(s, a[0]), no = qn_is_bool(a[0], false);
    if (yes || no || qn_expr_equal(a[1], a[2])) {
        qn_expr *kept = no ? a[2] : a[1];
        return same_type(s, x, kept) ? kept : x;
    }
    return x;
}

static qn_expr *one_cast(const simplifier *s, qn_expr *x)
{
    qn_expr *a = x->u.op.args.at[0];
    int64_t n;
    if (x->u.op.cast == QN_F32 && int_of(a, &n) && n >= 0 && n <= (1 << 24)) {
        return qn_float(s->ir, (double)n); /* alone, a float literal is an f32 */
    }
    qn_type t;
    if (infer(s, a, &t) && !is_literal_type(t.dtype) && t.dtype == x->u.op.cast) {
        return a;
    }
    return x;
}

static qn_expr *simplify_node(void *user, qn_expr *x)
{
    const simplifier *s = user;
    if (x->kind != QN_OP) {
        return x;
    }
    qn_expr *const *a = x->u.op.args.at;
    switch ((int)x->u.op.op) {
    case QN_OP_SELECT:
        return one_select(s, x);
    case QN_OP_CAST:
        return one_cast(s, x);
    case QN_OP_NOT:
        if (a[0]->kind == QN_LIT) {
            return qn_bool(s->ir, !a[0]->u.lit.i);
        }
        return a[0]->kind == QN_OP && a[0]->u.op.op == QN_OP_NOT ? a[0]->u.op.args.at[0] : x;
    case QN_OP_NEG:
        return a[0]->kind == QN_OP && a[0]->u.op.op == QN_OP_NEG ? a[0]->u.op.args.at[0] : x;
    case QN_OP_RESCALE:
    case QN_OP_WEIGHT:
        return x;
    default:
        return x->u.op.args.count == 2 ? binary(s, x) : x;
    }
}

qn_expr *qn_simplify(qn_ir *ir, qn_env *env, const qn_symset *truths, qn_expr *x)
{
    simplifier s = {ir, env, truths};
    return x ? qn_rewrite(ir, x, simplify_node, &s) : NULL;
}

void qn_simplify_stmt(qn_ir *ir, qn_env *env, const qn_symset *truths, qn_stmt *s)
{
    simplifier x = {ir, env, truths};
    qn_stmt_rewrite(ir, s, false, simplify_node, &x);
}
