/* SPDX-License-Identifier: MIT
 *
 * fuse: a launch that only prepares elements disappears into those that read them.
 *
 *     launch { par for m in 0..M { store %t[m, k:K] = x[m, k:K] * w[k:K] } }
 *     launch { .. dot(%t[m, k:K], y[n:N, k:K], over k) .. }
 *  =>
 *     launch { .. dot(x[m, k:K] * w[k:K], y[n:N, k:K], over k) .. }
 *
 * needs  a call buffer with one plain store, each index of which is a par index or an axis over
 *        all of it; a value of plain arithmetic on inputs; loads that are bare
 * makes  the value in place of every load, its indices put in; dce takes buffer, nest and launch
 * law    each element is written once, from inputs alone, so computing it where it is read gives
 * the same value. Where contraction or costly ops stand in it, computing it once is worth the
 *        memory, and it stays.
 *
 * It runs before tile, while loads are bare. Values within one nest are joined by canon and leaf.
 */
#include "ir/build.h"
#include "passes/tools.h"

#include <string.h>

enum { MAX_OPS = 6 }; /* computed again at every read */

typedef struct fuser {
    qn_pass_cx *cx;
    qn_ir *ir;
    qn_kernel_ir *kernel;
    const qn_stmt *buf, *store;
    const qn_stmt *nest;
    qn_expr *value;
    int stores, loads, bad_loads;
} fuser;

static void note_store(void *user, qn_stmt *s)
{
    fuser *f = user;
    qn_sym base = f->buf->u.buf.name;
    if (s->kind == QN_STORE && s->u.store.base == base) {
        f->stores++;
    } else if (s->kind == QN_PREFETCH && s->u.prefetch.base == base) {
        f->bad_loads++;
    }
    for (int n = 0; s->kind == QN_FOR && n < s->u.loop.niters; n++) {
        for (int k = 0; k < s->u.loop.iters[n].npieces; k++) {
            f->bad_loads += s->u.loop.iters[n].pieces[k].list == base;
        }
    }
}

static bool note_load(void *user, const qn_expr *x)
{
    fuser *f = user;
    if (x->kind == QN_LOAD && x->u.load.base == f->buf->u.buf.name) {
        f->loads++;
        f->bad_loads += x->u.load.guarded;
    }
    return true;
}

static const qn_param *input(const qn_kernel_ir *k, qn_sym name)
{
    for (int n = 0; n < k->params.count; n++) {
        if (k->params.at[n].name == name && k->params.at[n].direction == QN_IN) {
            return &k->params.at[n];
        }
    }
    return NULL;
}

typedef struct judge {
    const qn_kernel_ir *kernel;
    int ops;
    bool bad;
} judge;

static bool note_value(void *user, const qn_expr *x)
{
    judge *j = user;
    if (x->kind == QN_OP) {
        j->ops++;
        switch ((int)x->u.op.op) {
        case QN_OP_ADD:
        case QN_OP_SUB:
        case QN_OP_MUL:
        case QN_OP_NEG:
        case QN_OP_FMA:
        case QN_OP_CAST:
        case QN_OP_SELECT:
        case QN_OP_MIN:
        case QN_OP_MAX:
        case QN_OP_CLAMP:
        case QN_OP_ABS:
        case QN_OP_FLOORDIV:
        case QN_OP_MOD:
            break;
        default:
            j->bad = j->bad || !qn_op_is_compare(x->u.op.op);
        }
    } else if (x->kind == QN_LOAD) {
        j->bad = j->bad || !input(j->kernel, x->u.load.base);
    } else if (x->kind == QN_AXOP || x->kind == QN_FOLD || x->kind == QN_AS) {
        j->bad = true;
    }
    return true;
}

/* Is index n of the store the whole of the buffer's axis n, once? */
static bool covers(const fuser *f, int n)
{
    const qn_expr *x = f->store->u.store.index.at[n];
    qn_extent extent = f->buf->u.buf.type.axes[n].extent;
    for (int k = 0; k < n; k++) {
        if (qn_expr_equal(f->store->u.store.index.at[k], x)) {
            return false;
        }
    }
    if (x->kind == QN_IOTA) {
        return qn_extent_equal(x->u.iota.extent, extent);
    }
    for (int k = 0; x->kind == QN_NAME && k < f->nest->u.loop.niters; k++) {
        const qn_iter *it = &f->nest->u.loop.iters[k];
        const qn_piece *p = it->pieces;
        if (it->name == x->u.name) {
            return it->npieces == 1 && !p->list && !it->step && p->lo->kind == QN_LIT &&
                   p->lo->u.lit.i == 0 &&
                   (extent.dim ? p->hi->kind == QN_NAME && p->hi->u.name == extent.dim
                               : p->hi->kind == QN_LIT && p->hi->u.lit.i == extent.n);
        }
    }
    return false;
}

/* The value with the nest's own names written out; NULL if its body is more than values and stores.
 */
static qn_expr *whole_value(fuser *f)
{
    qn_binding map[32];
    int n = 0;
    for (int k = 0; k < f->nest->u.loop.body.count; k++) {
        const qn_stmt *s = f->nest->u.loop.body.at[k];
        if (s == f->store) {
            break;
        }
        if (s->kind == QN_LET) {
            if (s->u.let.nnames != 1 || n == 32) {
                return NULL;
            }
            map[n] = (qn_binding){s->u.let.names[0], qn_substitute(f->ir, s->u.let.x, map, n)};
            n++;
        } else if (s->kind != QN_STORE) {
            return NULL;
        }
    }
    return qn_substitute(f->ir, f->store->u.store.x, map, n);
}

typedef struct placing {
    const fuser *f;
    const qn_expr *load;
} placing;

static qn_expr *put_index(void *user, qn_expr *x)
{
    const placing *p = user;
    qn_exprs from = p->f->store->u.store.index;
    for (int n = 0; n < from.count; n++) {
        if ((x->kind == QN_NAME || x->kind == QN_IOTA) && qn_expr_equal(x, from.at[n])) {
            return p->load->u.load.index.at[n];
        }
    }
    return x;
}

static qn_expr *put_value(void *user, qn_expr *x)
{
    fuser *f = user;
    if (x->kind != QN_LOAD || x->u.load.base != f->buf->u.buf.name) {
        return x;
    }
    placing p = {f, x};
    return qn_rewrite(f->ir, f->value, put_index, &p);
}

/* Finds the buffer's only store at the top of a nest. */
static void find_store(fuser *f)
{
    for (int n = 0; n < f->kernel->body.count; n++) {
        const qn_stmt *launch = f->kernel->body.at[n];
        for (int i = 0; launch->kind == QN_LAUNCH && i < launch->u.launch.count; i++) {
            const qn_stmt *nest = launch->u.launch.at[i];
            for (int k = 0; nest->kind == QN_FOR && k < nest->u.loop.body.count; k++) {
                const qn_stmt *s = nest->u.loop.body.at[k];
                if (s->kind == QN_STORE && s->u.store.base == f->buf->u.buf.name) {
                    f->store = s;
                    f->nest = nest;
                }
            }
        }
    }
}

static bool typed(const qn_expr *x)
{
    return x->kind == QN_LOAD ||
           (x->kind == QN_OP && (x->u.op.op == QN_OP_CAST || typed(x->u.op.args.at[0]) ||
                                 typed(x->u.op.args.at[x->u.op.args.count - 1])));
}

static bool fuse_one(fuser *f)
{
    qn_block_stmts(&f->kernel->body, note_store, f);
    qn_block_visit(&f->kernel->body, note_load, f);
    find_store(f);
    if (f->stores != 1 || f->loads == 0 || f->bad_loads > 0 || !f->store ||
        f->store->u.store.mode != QN_STORE_SET || f->store->u.store.start) {
        return false;
    }
    for (int n = 0; n < f->store->u.store.index.count; n++) {
        if (!covers(f, n)) {
            return false;
        }
    }
    f->value = whole_value(f);
    judge j = {f->kernel, 0, false};
    if (!f->value) {
        return false;
    }
    qn_visit(f->value, note_value, &j);
    if (j.bad || j.ops > MAX_OPS || !typed(f->value)) {
        return false;
    }
    qn_block_rewrite(f->ir, &f->kernel->body, put_value, f);
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *file, qn_kernel_ir *k)
{
    bool fused = false;
    for (int n = 0; n < k->body.count; n++) {
        if (k->body.at[n]->kind == QN_BUF) {
            fuser f = {.cx = cx, .ir = cx->ir, .kernel = k, .buf = k->body.at[n]};
            fused = fuse_one(&f) || fused;
        }
    }
    return !fused || qn_pass_dce.run(cx, file, k);
}

const qn_pass qn_pass_fuse = {
    .name = "fuse",
    .doc = "a launch that only prepares elements joins those that read them",
    .run = run,
};
