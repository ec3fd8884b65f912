/* SPDX-License-Identifier: MIT
 * Builders of IR nodes; see build.h. */
#include "ir/build.h"

#include <math.h>
#include <string.h>

static qn_expr *new_expr(qn_ir *ir, qn_expr_kind kind)
{
    qn_expr *x = QN_NEW(ir->arena, qn_expr);
    x->kind = kind;
    return x;
}

static qn_sym *copy_syms(qn_ir *ir, const qn_sym *at, int n)
{
    qn_sym *copy = QN_NEWN(ir->arena, qn_sym, n ? n : 1);
    if (n) {
        memcpy(copy, at, sizeof *at * (size_t)n);
    }
    return copy;
}

qn_exprs qn_exprs_of(qn_ir *ir, qn_expr *const *at, int n)
{
    qn_expr **copy = QN_NEWN(ir->arena, qn_expr *, n ? n : 1);
    if (n) {
        memcpy(copy, at, sizeof *at * (size_t)n);
    }
    return (qn_exprs){copy, n};
}

qn_expr *qn_int(qn_ir *ir, int64_t n)
{
    qn_expr *x = new_expr(ir, QN_LIT);
    x->u.lit.type = QN_INT_LIT;
    if (n == INT64_MIN) { /* has no literal: -(2^63 - 1) - 1 */
        return qn_op2(ir, QN_OP_SUB, qn_int(ir, -INT64_MAX), qn_int(ir, 1));
    }
    x->u.lit.i = n < 0 ? -n : n;
    return n < 0 ? qn_op1(ir, QN_OP_NEG, x) : x;
}

qn_expr *qn_float(qn_ir *ir, double v)
{
    qn_expr *x = new_expr(ir, QN_LIT);
    bool minus = signbit(v) && !isnan(v);
    x->u.lit.type = QN_FLT_LIT;
    x->u.lit.f = minus ? -v : v;
    return minus ? qn_op1(ir, QN_OP_NEG, x) : x;
}

qn_expr *qn_bool(qn_ir *ir, bool b)
{
    qn_expr *x = new_expr(ir, QN_LIT);
    x->u.lit.type = QN_BOOL;
    x->u.lit.i = b;
    return x;
}

qn_expr *qn_name(qn_ir *ir, qn_sym name)
{
    qn_expr *x = new_expr(ir, QN_NAME);
    x->u.name = name;
    return x;
}

qn_expr *qn_name_of(qn_ir *ir, const char *name)
{
    return qn_name(ir, qn_intern(ir, name));
}

qn_expr *qn_iota(qn_ir *ir, qn_sym axis, qn_extent extent)
{
    qn_expr *x = new_expr(ir, QN_IOTA);
    x->u.iota = (qn_axis){axis, extent};
    return x;
}

qn_expr *qn_load(qn_ir *ir, qn_sym base, qn_expr *const *index, int n, bool guarded,
                 const qn_expr *pad)
{
    qn_expr *x = new_expr(ir, QN_LOAD);
    x->u.load.base = base;
    x->u.load.index = qn_exprs_of(ir, index, n);
    x->u.load.guarded = guarded;
    x->u.load.pad = pad;
    return x;
}

static qn_expr *op(qn_ir *ir, qn_op o, qn_expr *const *args, int n)
{
    qn_expr *x = new_expr(ir, QN_OP);
    x->u.op.op = o;
    x->u.op.args = qn_exprs_of(ir, args, n);
    return x;
}

qn_expr *qn_op1(qn_ir *ir, qn_op o, qn_expr *a)
{
    return op(ir, o, (qn_expr *[]){a}, 1);
}

qn_expr *qn_op2(qn_ir *ir, qn_op o, qn_expr *a, qn_expr *b)
{
    return op(ir, o, (qn_expr *[]){a, b}, 2);
}

qn_expr *qn_op3(qn_ir *ir, qn_op o, qn_expr *a, qn_expr *b, qn_expr *c)
{
    return op(ir, o, (qn_expr *[]){a, b, c}, 3);
}

qn_expr *qn_cast(qn_ir *ir, qn_dtype to, qn_expr *a)
{
    qn_expr *x = op(ir, QN_OP_CAST, (qn_expr *[]){a}, 1);
    x->u.op.cast = to;
    return x;
}

static qn_expr *axop(qn_ir *ir, qn_axop o, qn_expr *const *args, int n, const qn_sym *over,
                     int nover)
{
    qn_expr *x = new_expr(ir, QN_AXOP);
    x->u.axop.op = o;
    x->u.axop.args = qn_exprs_of(ir, args, n);
    x->u.axop.over = copy_syms(ir, over, nover);
    x->u.axop.nover = nover;
    return x;
}

qn_expr *qn_axop1(qn_ir *ir, qn_axop o, qn_expr *a, const qn_sym *over, int nover)
{
    return axop(ir, o, (qn_expr *[]){a}, 1, over, nover);
}

qn_expr *qn_dot(qn_ir *ir, qn_expr *a, qn_expr *b, const qn_sym *over, int nover)
{
    return axop(ir, QN_AX_DOT, (qn_expr *[]){a, b}, 2, over, nover);
}

qn_expr *qn_fold(qn_ir *ir, qn_sym norm, qn_expr *const *args, int n, const qn_sym *over, int nover,
                 qn_expr *where)
{
    qn_expr *x = new_expr(ir, QN_FOLD);
    x->u.fold.norm = norm;
    x->u.fold.args = qn_exprs_of(ir, args, n);
    x->u.fold.over = copy_syms(ir, over, nover);
    x->u.fold.nover = nover;
    x->u.fold.where = where;
    return x;
}

qn_expr *qn_as(qn_ir *ir, qn_expr *a, const qn_rename *pairs, int npairs)
{
    qn_expr *x = new_expr(ir, QN_AS);
    qn_rename *copy = QN_NEWN(ir->arena, qn_rename, npairs ? npairs : 1);
    memcpy(copy, pairs, sizeof *pairs * (size_t)npairs);
    x->u.as.x = a;
    x->u.as.pairs = copy;
    x->u.as.npairs = npairs;
    return x;
}

qn_expr *qn_extent_expr(qn_ir *ir, qn_extent e)
{
    return e.dim ? qn_name(ir, e.dim) : qn_int(ir, e.n);
}

qn_type qn_type_of(qn_ir *ir, qn_dtype dtype, const qn_axis *axes, int rank)
{
    qn_axis *copy = QN_NEWN(ir->arena, qn_axis, rank ? rank : 1);
    if (rank) {
        memcpy(copy, axes, sizeof *axes * (size_t)rank);
    }
    return (qn_type){dtype, rank, copy};
}

const qn_axis *qn_type_axis(const qn_type *t, qn_sym name)
{
    for (int k = 0; k < t->rank; k++) {
        if (t->axes[k].name == name) {
            return &t->axes[k];
        }
    }
    return NULL;
}

bool qn_type_equal(const qn_type *a, const qn_type *b)
{
    if (a->dtype != b->dtype || a->rank != b->rank) {
        return false;
    }
    for (int k = 0; k < a->rank; k++) {
        const qn_axis *x = qn_type_axis(b, a->axes[k].name);
        if (!x || !qn_extent_equal(x->extent, a->axes[k].extent)) {
            return false;
        }
    }
    return true;
}

qn_stmt *qn_stmt_new(qn_ir *ir, qn_stmt_kind kind, qn_place place)
{
    qn_stmt *s = QN_NEW(ir->arena, qn_stmt);
    s->kind = kind;
    s->place = place;
    return s;
}

qn_stmt *qn_let_n(qn_ir *ir, const qn_sym *names, int n, qn_expr *x)
{
    qn_stmt *s = qn_stmt_new(ir, QN_LET, x->place);
    s->u.let.names = copy_syms(ir, names, n);
    s->u.let.nnames = n;
    s->u.let.x = x;
    return s;
}

qn_stmt *qn_let(qn_ir *ir, qn_sym name, qn_expr *x)
{
    return qn_let_n(ir, &name, 1, x);
}

qn_stmt *qn_buf_stmt(qn_ir *ir, qn_sym name, qn_type type, qn_space space)
{
    qn_stmt *s = qn_stmt_new(ir, QN_BUF, (qn_place){0});
    s->u.buf.name = name;
    s->u.buf.type = type;
    s->u.buf.space = space;
    return s;
}

qn_stmt *qn_store(qn_ir *ir, qn_sym base, qn_expr *const *index, int n, qn_expr *x)
{
    qn_stmt *s = qn_stmt_new(ir, QN_STORE, x->place);
    s->u.store.base = base;
    s->u.store.index = qn_exprs_of(ir, index, n);
    s->u.store.x = x;
    return s;
}

qn_stmt *qn_yield(qn_ir *ir, qn_expr *const *xs, int n)
{
    qn_stmt *s = qn_stmt_new(ir, QN_YIELD, (qn_place){0});
    s->u.yield = qn_exprs_of(ir, xs, n);
    return s;
}

qn_stmt *qn_for(qn_ir *ir, qn_sym index, qn_expr *lo, qn_expr *hi, qn_expr *step)
{
    qn_stmt *s = qn_stmt_new(ir, QN_FOR, (qn_place){0});
    qn_piece *piece = QN_NEW(ir->arena, qn_piece);
    piece->lo = lo;
    piece->hi = hi;
    qn_iter *it = QN_NEW(ir->arena, qn_iter);
    *it = (qn_iter){index, NULL, piece, 1, step};
    s->u.loop.iters = it;
    s->u.loop.niters = 1;
    return s;
}

void qn_block_push(qn_ir *ir, qn_block *b, qn_stmt *s)
{
    QN_PUSH(ir->arena, b, s);
}

void qn_block_append(qn_ir *ir, qn_block *b, const qn_block *more)
{
    for (int k = 0; k < more->count; k++) {
        QN_PUSH(ir->arena, b, more->at[k]);
    }
}

qn_sym qn_fresh(qn_ir *ir, const char *base, bool (*used)(void *user, qn_sym name), void *user)
{
    qn_sym s = qn_intern(ir, base);
    for (int k = 1; used(user, s); k++) {
        qn_buf b = qn_buf_of(ir->arena);
        qn_buf_printf(&b, "%s_%d", base, k);
        s = qn_intern(ir, b.text);
    }
    return s;
}
