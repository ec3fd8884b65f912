/* SPDX-License-Identifier: MIT
 *
 * unfuse: what a fold is over is stored whole by a launch of its own, and folded by the next.
 *
 *     %o = fold @n(e, v, over j, where c)    =>    launch { .. store %ep[b, h, i:N, j:M] = e }
 *                                                  launch { .. %o = fold @n(%ep[..], v, over j,
 * where c) }
 *
 * needs  `form unfused`; a nest over whole dims whose body is values and stores
 * makes  a call buffer of all pairs and a launch before; loops then walks the stored values in two
 *        passes. It is the form to compare with, and right for folds that are used again and again.
 * law    the same elements, stored and loaded
 *
 * It runs before tile, which cuts both nests. */
#include "ir/build.h"
#include "passes/sweep.h"

#include <stdio.h>
#include <string.h>

typedef struct unfuser {
    qn_tool *t;
    qn_stmt *fold;
    qn_env *env; /* at the fold */
} unfuser;

/* The first fold at the top of the nest whose elements are not yet a plain load. */
static bool find_fold(unfuser *u)
{
    const qn_block *b = &u->t->par->u.loop.body;
    u->env = qn_env_push(u->t->env);
    qn_env_enter_loop(u->env, u->t->par);
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind != QN_LET && s->kind != QN_STORE) {
            return false;
        }
        if (s->kind == QN_LET && s->u.let.x->kind == QN_FOLD &&
            s->u.let.x->u.fold.args.at[0]->kind != QN_LOAD) {
            u->fold = s;
            return true;
        }
        qn_env_stmt(u->env, s);
    }
    return false;
}

/* Values before the fold that do not themselves need a fold; dce takes those that are not used. */
static void copy_lets(const unfuser *u, qn_block *out)
{
    const qn_block *b = &u->t->par->u.loop.body;
    for (int n = 0; n < b->count && b->at[n] != u->fold; n++) {
        if (b->at[n]->kind == QN_LET) {
            qn_block_push(u->t->ir, out, qn_stmt_copy(u->t->ir, b->at[n]));
        }
    }
}

static void put_before(qn_kernel_ir *k, qn_ir *ir, const qn_stmt *par, qn_stmt *memory,
                       qn_stmt *launch)
{
    qn_block out = {0};
    for (int n = 0; n < k->body.count; n++) {
        qn_stmt *s = k->body.at[n];
        for (int i = 0; s->kind == QN_LAUNCH && i < s->u.launch.count; i++) {
            if (s->u.launch.at[i] == par) {
                qn_block_push(ir, &out, memory);
                qn_block_push(ir, &out, launch);
            }
        }
        qn_block_push(ir, &out, s);
    }
    k->body = out;
}

static bool unfuse_nest(qn_tool *t)
{
    unfuser u = {.t = t};
    qn_ir *ir = t->ir;
    const char *form = qn_schedule_word(t->cx->schedule, t->nest, "form", NULL, "stream");
    if (strcmp(form, "unfused") != 0 || !find_fold(&u)) {
        return true;
    }
    const qn_expr *fold = u.fold->u.let.x;
    qn_expr *elements = fold->u.fold.args.at[0];
    qn_type type;
    int outer = t->par->u.loop.niters;
    if (!qn_nest_over_dims(t) || !qn_type_infer(u.env, elements, &type) ||
        outer + type.rank > QN_MAX_AXES || type.rank == 0) {
        return true;
    }
    qn_axis axes[QN_MAX_AXES];
    qn_expr *index[QN_MAX_AXES];
    qn_par_axes(t, axes);
    for (int n = 0; n < outer; n++) {
        index[n] = qn_name(ir, t->par->u.loop.iters[n].name);
    }
    int at = outer;
    for (int last = 0; last < 2; last++) { /* the folded axes innermost, as they are walked */
        for (int n = 0; n < type.rank; n++) {
            bool over = false;
            for (int k = 0; k < fold->u.fold.nover; k++) {
                over = over || fold->u.fold.over[k] == type.axes[n].name;
            }
            if (over == (last == 1)) {
                axes[at] = type.axes[n];
                index[at++] = qn_iota(ir, type.axes[n].name, type.axes[n].extent);
            }
        }
    }
    qn_sym buf = qn_tool_fresh(t, "%each");
    qn_type memory = qn_type_of(ir, qn_dtype_settle(type.dtype), axes, at);
    qn_stmt *nest = qn_stmt_copy(ir, t->par);
    nest->u.loop.body = (qn_block){0};
    copy_lets(&u, &nest->u.loop.body);
    qn_block_push(ir, &nest->u.loop.body, qn_store(ir, buf, index, at, elements));
    qn_stmt *launch = qn_stmt_new(ir, QN_LAUNCH, t->par->place);
    qn_block_push(ir, &launch->u.launch, nest);
    qn_expr **args = QN_NEWN(ir->arena, qn_expr *, fold->u.fold.args.count);
    memcpy(args, fold->u.fold.args.at, sizeof *args * (size_t)fold->u.fold.args.count);
    args[0] = qn_load(ir, buf, index, at, false, NULL);
    u.fold->u.let.x = qn_fold(ir, fold->u.fold.norm, args, fold->u.fold.args.count,
                              fold->u.fold.over, fold->u.fold.nover, fold->u.fold.where);
    put_before(t->kernel, ir, t->par, qn_buf_stmt(ir, buf, memory, QN_SPACE_CALL), launch);
    return false; /* the body of the kernel has changed: walk it again */
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    bool changed = false;
    while (!qn_each_nest(cx, f, k, unfuse_nest)) {
        changed = true;
    }
    return !changed || qn_pass_dce.run(cx, f, k);
}

const qn_pass qn_pass_unfuse = {
    .name = "unfuse",
    .doc = "what a fold is over is stored by a launch of its own",
    .run = run,
};
