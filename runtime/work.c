/* SPDX-License-Identifier: MIT
 *
 * How much work the definition asks for, so that speeds have a meaning that no schedule changes.
 *
 * Of a spec: 2 (D + Dv) for each kept pair. The pairs are counted by a kernel made from the naive
 * text: every fold becomes the number of elements its `where` keeps, a row at a time, and the rest
 * is dead. Of a .qir: twice the products of its dots, from the extents of the naive text. */
#include "runtime/build.h"

#include "ir/build.h"
#include "ir/interp.h"
#include "ir/type.h"
#include "ir/walk.h"
#include "runtime/arrays.h"

#include <string.h>

/* ---------------------------------------------------------------- kept pairs of a spec */

static qn_expr *kept_of(qn_ir *ir, const qn_expr *fold, const qn_expr *row)
{
    qn_sym over = fold->u.fold.over[0];
    qn_expr *key = qn_iota(ir, over, qn_extent_dim(qn_intern(ir, "Nk")));
    qn_expr *zero = qn_op2(ir, QN_OP_MUL, qn_op2(ir, QN_OP_ADD, key, (qn_expr *)row),
                           qn_int(ir, 0)); /* gives the value its axes */
    qn_expr *one = fold->u.fold.where ? qn_cast(ir, QN_I64, fold->u.fold.where) : qn_int(ir, 1);
    return qn_axop1(ir, QN_AX_REDUCE_SUM, qn_op2(ir, QN_OP_ADD, one, zero), &over, 1);
}

static const qn_stmt *store_of_o(const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        if (s->kind == QN_STORE && strcmp(s->u.store.base, "o") == 0 &&
            s->u.store.index.count == 4) {
            return s;
        }
    }
    return NULL;
}

/* Turns a nest that folds into one that counts; false if it has another form. */
static bool count_nest(qn_ir *ir, qn_stmt *nest)
{
    qn_block *body = &nest->u.loop.body;
    for (int k = 0; k < body->count; k++) {
        const qn_stmt *s = body->at[k];
        if (s->kind != QN_LET || s->u.let.x->kind != QN_FOLD) {
            continue;
        }
        const qn_stmt *o = store_of_o(body);
        if (!o) {
            return false;
        }
        qn_expr *const *at = o->u.store.index.at;
        qn_stmt *count = qn_store(ir, qn_intern(ir, "kept"), at, 3, kept_of(ir, s->u.let.x, at[2]));
        count->attrs = o->attrs;
        body->count = k;
        qn_block_push(ir, body, count);
        return true;
    }
    return true; /* lists and tables stay as they are */
}

static bool count_kernel(qn_build *b, qn_kernel_ir *k)
{
    qn_ir *ir = &b->ir;
    static const char *const dims[] = {"B", "Hq", "Nq"}, *const axes[] = {"b", "h", "i"};
    qn_axis type[3];
    for (int a = 0; a < 3; a++) {
        type[a] = (qn_axis){qn_intern(ir, axes[a]), qn_extent_dim(qn_intern(ir, dims[a]))};
    }
    qn_param kept = {.direction = QN_OUT,
                     .name = qn_intern(ir, "kept"),
                     .type = qn_type_of(ir, QN_I64, type, 3)};
    QN_PUSH(ir->arena, &k->params, kept);
    for (int s = 0; s < k->body.count; s++) {
        for (int n = 0; k->body.at[s]->kind == QN_LAUNCH && n < k->body.at[s]->u.launch.count;
             n++) {
            if (!count_nest(ir, k->body.at[s]->u.launch.at[n])) {
                return false;
            }
        }
    }
    return true;
}

static int64_t dim_of(const qn_arg *args, int n, const char *name, int64_t otherwise)
{
    for (int k = 0; k < n; k++) {
        if (strcmp(args[k].name, name) == 0 && args[k].array.i) {
            return *args[k].array.i;
        }
    }
    return otherwise;
}

static qn_status spec_pairs(qn_build *b, const qn_call *call, const qn_kernel *shape, double *pairs)
{
    qn_plan_build p = {.form = "", .file = qn_file_copy(b->naive)};
    p.kernel = qn_file_kernel(p.file, b->kernel->name);
    if (!count_kernel(b, p.kernel)) {
        return QN_E_INTERNAL;
    }
    p.schedule = qn_schedule_new(&b->ir, b->kernel->name, b->target->name);
    qn_schedule_add(&b->ir, p.schedule, NULL, "tile", "i", "16", "default");
    qn_pass_cx cx = {&b->ir, &b->scratch, p.schedule, &b->target->machine, &b->diags};
    qn_pipeline_options po = {.only = "canon,tile,dce"};
    if (!qn_pipeline_run(&cx, &p.file, b->kernel->name, &po)) {
        return QN_E_INTERNAL;
    }
    p.kernel = qn_file_kernel(p.file, b->kernel->name);
    qn_kernel *k = NULL;
    qn_status s = qn_build_kernel(b, &p, 1, &k);
    if (s != QN_OK) {
        return s;
    }
    int n;
    const qn_arg *args = qn_args_of_call(&b->arena, shape, call, &n);
    int64_t size[3] = {dim_of(args, n, "B", 0), dim_of(args, n, "Hq", 0), dim_of(args, n, "Nq", 0)};
    int64_t total = size[0] * size[1] * size[2];
    qn_call c = *call;
    DLTensor kept = {.data = QN_NEWN(&b->arena, int64_t, total + 1),
                     .device = {kDLCPU, 0},
                     .ndim = 3,
                     .dtype = {kDLInt, 64, 1},
                     .shape = size};
    const DLTensor **list = QN_NEWN(&b->arena, const DLTensor *, call->nargs + 1);
    memcpy(list, call->args, sizeof *list * (size_t)call->nargs);
    list[call->nargs] = &kept;
    c.args = list;
    c.nargs = call->nargs + 1;
    size_t bytes;
    s = qn_workspace(k, &c, &bytes);
    if (s == QN_OK) {
        c.workspace = qn_arena_alloc(&b->arena, bytes + 64, 64);
        c.workspace_bytes = bytes;
        s = qn_run(k, &c);
    }
    if (s != QN_OK && s != QN_E_INDEX) {
        qn_diag_add(&b->diags, QN_ERROR, "E-RUN", (qn_place){0}, "%s",
                    c.message && c.message[0] ? c.message : qn_status_text(s));
    }
    *pairs = 0;
    for (int64_t e = 0; e < total; e++) {
        *pairs += (double)((const int64_t *)kept.data)[e];
    }
    qn_kernel_destroy(k);
    return s == QN_E_INDEX ? QN_OK : s;
}

/* ---------------------------------------------------------------- products of a text */

typedef struct work {
    qn_build *b;
    const qn_arg *args;
    int nargs;
    const qn_env *env;
    double times, flops; /* times: trips of the loops around */
} work;

static double value_of(work *w, const qn_expr *x, double otherwise)
{
    double f;
    int64_t i;
    bool known = x && qn_interp_scalar(&w->b->ir, x, w->args, w->nargs, &f, &i);
    return known ? (double)i : otherwise;
}

static double extent_of(work *w, qn_extent e)
{
    return e.dim ? value_of(w, qn_name(&w->b->ir, e.dim), 1) : (double)e.n;
}

static bool add_dot(void *user, const qn_expr *x)
{
    work *w = user;
    bool dot = x->kind == QN_AXOP && x->u.axop.op == QN_AX_DOT;
    if (!dot && x->kind != QN_FOLD) {
        return true;
    }
    qn_exprs args = dot ? x->u.axop.args : x->u.fold.args;
    qn_type types[QN_MAX_AXES], all;
    int n = 0;
    for (int k = 0; k < args.count && k < QN_MAX_AXES; k++) {
        if (!qn_type_infer((qn_env *)w->env, args.at[k], &types[n++])) {
            return true;
        }
    }
    if (qn_type_union((qn_env *)w->env, types, n, &all)) {
        double products = 2 * w->times;
        for (int a = 0; a < all.rank; a++) {
            products *= extent_of(w, all.axes[a].extent);
        }
        w->flops += products;
    }
    return true;
}

static void block_work(work *w, qn_env *env, const qn_block *b);

static void stmt_work(work *w, qn_env *env, const qn_stmt *s)
{
    w->env = env;
    if (s->kind == QN_FOR) {
        double outer = w->times;
        for (int i = 0; i < s->u.loop.niters; i++) {
            double trips = 0, step = value_of(w, s->u.loop.iters[i].step, 1);
            for (int p = 0; p < s->u.loop.iters[i].npieces; p++) {
                const qn_piece *q = &s->u.loop.iters[i].pieces[p];
                double length = value_of(w, q->hi, 1) - value_of(w, q->lo, 0);
                trips += length > 0 ? (double)(int64_t)((length + step - 1) / step) : 0;
            }
            w->times *= trips;
        }
        qn_env *inner = qn_env_push(env);
        if (qn_env_enter_loop(inner, s)) {
            block_work(w, inner, &s->u.loop.body);
        }
        w->times = outer;
    } else if (s->kind == QN_LAUNCH) {
        block_work(w, env, &s->u.launch);
    } else if (s->kind == QN_IF) {
        block_work(w, qn_env_push(env), &s->u.branch.then);
    } else {
        qn_stmt_exprs(s, add_dot, w);
    }
    qn_env_stmt(env, s);
}

static void block_work(work *w, qn_env *env, const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        stmt_work(w, env, b->at[k]);
    }
}

qn_status qn_work(qn_ctx *cx, qn_source source, const qn_options *options, const qn_call *call,
                  double *flops)
{
    qn_kernel *volatile shape = NULL;
    jmp_buf oom;
    qn_build b;
    *flops = 0;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_kernel_destroy(shape);
        qn_build_fini(&b, QN_E_MEMORY);
        return QN_E_MEMORY;
    }
    qn_build_start(&b);
    qn_status s = qn_build_source(&b, source, options);
    qn_kernel *made = NULL;
    s = s == QN_OK ? qn_build_signature(&b, &made) : s;
    shape = made;
    if (s == QN_OK && b.spec) {
        int n;
        const qn_arg *args = qn_args_of_call(&b.arena, made, call, &n);
        double pairs = 0;
        s = spec_pairs(&b, call, made, &pairs);
        /* fixed head sizes are no arguments: their values stand in the text */
        double d = 0;
        for (int k = 0; k < b.kernel->dims.count; k++) {
            const qn_dim *x = &b.kernel->dims.at[k];
            if (strcmp(x->name, "D") == 0 || strcmp(x->name, "Dv") == 0) {
                d += x->value && x->value->kind == QN_LIT ? (double)x->value->u.lit.i
                                                          : (double)dim_of(args, n, x->name, 0);
            }
        }
        *flops = 2 * d * pairs;
    } else if (s == QN_OK) {
        work w = {.b = &b, .times = 1};
        w.args = qn_args_of_call(&b.arena, made, call, &w.nargs);
        block_work(&w, qn_env_kernel(&b.ir, b.naive, b.kernel), &b.kernel->body);
        *flops = w.flops;
    }
    qn_build_fini(&b, s);
    qn_kernel_destroy(made);
    return s;
}
