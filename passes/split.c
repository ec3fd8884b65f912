/* SPDX-License-Identifier: MIT
 *
 * split: a long contraction is cut into parts that are separate tasks, merged by a second launch.
 *
 *     %o = fold @n(s, v, over j)    =>    launch: par .., jp in 0..P    the fold of 4096 elements,
 * its store o[..] = %o                      stat and sums stored to call buffers launch: par .. %m
 * = reduce.max(%mp, over p) %f = rescale(%mp, %m), %l = dot(%f, %lp, over p), .. finish, and all
 * that follows
 *
 * needs  a `split axis length` line; a nest over whole dims whose body is values and stores; folds
 *        with a rescale, sums, maxima and the like over the axis
 * makes  a dim for the number of parts, call buffers, a norm that ends with its sums, a nest in a
 *        launch before; stores that have the axis move to the parts
 * law    the norm's: a sum under the stat of a part becomes the sum under the stat of all by
 *        rescale. Parts are counted from element 0, so they depend on the length alone.
 *
 * It runs before tile: both nests are then cut alike. */
#include "ir/build.h"
#include "passes/norms.h"

#include <stdio.h>
#include <string.h>

typedef struct splitter {
    qn_tool *t;
    qn_ir *ir;
    qn_cut cut;
    qn_sym count;    /* the dim: number of parts */
    qn_sym index;    /* par index of a part */
    qn_sym axis;     /* of the parts in the buffers */
    qn_symset after; /* names that need the merged values */
    qn_block parts, merge;
    qn_env *env; /* of the parts' body */
    qn_block bufs;
    qn_axis par_axes[QN_MAX_AXES];
    const char *obstacle;
} splitter;

static bool over_axis(const qn_sym *over, int n, qn_sym axis)
{
    for (int k = 0; k < n; k++) {
        if (over[k] == axis) {
            return true;
        }
    }
    return false;
}

/* Does the expression need a value that only the merge knows? */
typedef struct finding {
    const qn_symset *names;
    bool hit;
} finding;

static bool note_merged(void *user, const qn_expr *x)
{
    finding *f = user;
    f->hit = f->hit || (x->kind == QN_NAME && qn_symset_has(f->names, x->u.name));
    return !f->hit;
}

static bool needs_merged(const splitter *s, const qn_expr *x)
{
    finding f = {&s->after, false};
    qn_visit(x, note_merged, &f);
    return f.hit;
}

static void refuse(splitter *s, const char *why)
{
    s->obstacle = s->obstacle ? s->obstacle : why;
}

/* ---------------------------------------------------------------- buffers of parts */

/* The index of a value in its buffer: par indices, the part, the value's axes. */
static int index_of(splitter *s, const qn_type *type, qn_expr *part, qn_expr **at)
{
    int n = 0;
    for (int k = 0; k < s->t->par->u.loop.niters; k++) {
        at[n++] = qn_name(s->ir, s->t->par->u.loop.iters[k].name);
    }
    at[n++] = part;
    for (int k = 0; k < type->rank; k++) {
        at[n++] = qn_iota(s->ir, type->axes[k].name, type->axes[k].extent);
    }
    return n;
}

/* The type with the axes of `first` in front: rows before columns, as the results are stored. */
static qn_type ordered(splitter *s, const qn_type *type, const qn_type *first)
{
    qn_axis axes[QN_MAX_AXES];
    int n = 0;
    for (int want = 1; want >= 0; want--) {
        for (int k = 0; k < type->rank; k++) {
            if ((first && qn_type_axis(first, type->axes[k].name)) == want) {
                axes[n++] = type->axes[k];
            }
        }
    }
    return qn_type_of(s->ir, qn_dtype_settle(type->dtype), axes, n);
}

/* Stores the value in the parts' nest and returns what the merging nest loads. */
static qn_expr *pass_on(splitter *s, const char *base, qn_expr *value, const qn_type *first,
                        qn_type *type)
{
    if (!qn_type_infer(s->env, value, type)) {
        refuse(s, "a type is not known");
        return value;
    }
    *type = ordered(s, type, first);
    qn_stmt *par = s->t->par;
    int rank = par->u.loop.niters + type->rank + 1;
    if (rank > QN_MAX_AXES) {
        refuse(s, "a buffer would have too many axes");
        return value;
    }
    qn_axis axes[QN_MAX_AXES];
    int n = 0;
    for (int k = 0; k < par->u.loop.niters; k++) {
        axes[n++] = s->par_axes[k];
    }
    axes[n++] = (qn_axis){s->axis, qn_extent_dim(s->count)};
    for (int k = 0; k < type->rank; k++) {
        axes[n++] = type->axes[k];
    }
    char text[96];
    snprintf(text, sizeof text, "%s%.80sp", base[0] == '%' ? "" : "%", base);
    qn_sym buf = qn_tool_fresh(s->t, text);
    qn_type memory = qn_type_of(s->ir, type->dtype, axes, n);
    qn_block_push(s->ir, &s->bufs, qn_buf_stmt(s->ir, buf, memory, QN_SPACE_CALL));
    qn_expr *at[QN_MAX_AXES];
    n = index_of(s, type, qn_name(s->ir, s->index), at);
    qn_block_push(s->ir, &s->parts, qn_store(s->ir, buf, at, n, value));
    n = index_of(s, type, qn_iota(s->ir, s->axis, qn_extent_dim(s->count)), at);
    return qn_load(s->ir, buf, at, n, false, NULL);
}

static void put(splitter *s, qn_block *b, qn_stmt *stmt)
{
    qn_block_push(s->ir, b, stmt);
    if (b == &s->parts) {
        qn_env_stmt(s->env, stmt);
    }
}

static qn_expr *put_let(splitter *s, qn_block *b, qn_sym name, qn_expr *x)
{
    put(s, b, qn_let(s->ir, name, x));
    return qn_name(s->ir, name);
}

static qn_sym value_name(splitter *s, const char *base)
{
    char text[96];
    snprintf(text, sizeof text, "%s%.80s", base[0] == '%' ? "" : "%", base);
    return qn_tool_fresh(s->t, text);
}

/* ---------------------------------------------------------------- folds */

static qn_expr *take(void *user, qn_expr *x);

/* The norm that ends with its stat and its sums. */
static qn_norm *parts_norm(splitter *s, const qn_norm *norm)
{
    qn_ir *ir = s->ir;
    char text[128];
    snprintf(text, sizeof text, "%.100s_parts", norm->name);
    qn_sym name = qn_intern(ir, text);
    qn_norm *made = qn_file_norm(s->t->file, name);
    int nouts = norm->nsums + (norm->stat != NULL);
    if (made && made->nouts == nouts) {
        return made;
    }
    made = QN_NEW(ir->arena, qn_norm);
    *made = *norm;
    made->name = name;
    qn_sym *outs = QN_NEWN(ir->arena, qn_sym, nouts + 1);
    qn_norm_def *finish = QN_NEWN(ir->arena, qn_norm_def, nouts + 1);
    int n = 0;
    for (int k = -1; k < norm->nsums; k++) {
        qn_sym kept = k < 0 ? norm->stat : norm->sums[k].name;
        if (kept) {
            snprintf(text, sizeof text, "%.100s_all", kept);
            outs[n] = qn_intern(ir, text);
            finish[n] = (qn_norm_def){outs[n], qn_name(ir, kept)};
            n++;
        }
    }
    made->outs = outs;
    made->nouts = made->nfinish = n;
    made->finish = finish;
    qn_item item = {.kind = QN_ITEM_NORM, .u.norm = made};
    qn_ir_file *file = s->t->file;
    QN_PUSH(ir->arena, &file->items, item);
    for (int k = file->items.count - 1; k > 0; k--) { /* norms first, as a reader expects */
        file->items.at[k] = file->items.at[k - 1];
    }
    file->items.at[0] = item;
    return made;
}

static void split_fold(splitter *s, const qn_stmt *stmt)
{
    qn_ir *ir = s->ir;
    const qn_expr *x = stmt->u.let.x;
    const qn_norm *norm = qn_file_norm(s->t->file, x->u.fold.norm);
    if (!norm || (norm->stat && !norm->rescale)) {
        if (norm) {
            qn_remark(s->t->cx, "W-NOASSOC", stmt->place, "%s", norm->name);
        }
        refuse(s, "a norm has no rescale law");
        return;
    }
    for (int n = 0; n < x->u.fold.args.count; n++) { /* finish may use what the parts do not have */
        qn_expr *a = x->u.fold.args.at[n];
        if (needs_merged(s, a) || qn_rewrite(ir, a, take, s) != a) {
            refuse(s, "a fold waits for another contraction");
            return;
        }
    }
    if (x->u.fold.where && qn_rewrite(ir, x->u.fold.where, take, s) != x->u.fold.where) {
        refuse(s, "a fold waits for another contraction");
        return;
    }
    const qn_norm *ends = parts_norm(s, norm);
    qn_expr **args = QN_NEWN(s->t->cx->scratch, qn_expr *, x->u.fold.args.count);
    for (int n = 0; n < x->u.fold.args.count; n++) {
        args[n] = qn_cut_expr(&s->cut, x->u.fold.args.at[n]);
    }
    qn_expr *where = x->u.fold.where ? qn_cut_expr(&s->cut, x->u.fold.where) : NULL;
    if (!s->cut.exact) {
        qn_expr *tail = qn_cut_tail(&s->cut);
        where = where ? qn_op2(ir, QN_OP_AND, where, tail) : tail;
    }
    qn_sym *names = QN_NEWN(ir->arena, qn_sym, ends->nouts);
    for (int n = 0; n < ends->nouts; n++) {
        bool stat = norm->stat && n == 0;
        names[n] = value_name(s, stat ? norm->stat : norm->sums[n - (norm->stat != NULL)].name);
    }
    put(s, &s->parts,
        qn_let_n(ir, names, ends->nouts,
                 qn_fold(ir, ends->name, args, x->u.fold.args.count, x->u.fold.over,
                         x->u.fold.nover, where)));
    qn_expr *factor = NULL;
    qn_type rows = {QN_F32, 0, NULL}; /* of the stat */
    qn_norm_values values = {.count = 0};
    for (int n = 0; n < norm->nargs && n < x->u.fold.args.count; n++) {
        qn_norm_bind(&values, norm->args[n], x->u.fold.args.at[n]);
    }
    const qn_sym *over = &s->axis;
    for (int n = 0; n < ends->nouts; n++) {
        bool stat = norm->stat && n == 0;
        qn_sym own = stat ? norm->stat : norm->sums[n - (norm->stat != NULL)].name;
        qn_type type;
        qn_expr *all = pass_on(s, names[n], qn_name(ir, names[n]), factor ? &rows : NULL, &type);
        qn_expr *merged;
        if (stat) {
            rows = type;
            all = put_let(s, &s->merge, value_name(s, "each"), all);
            merged = put_let(s, &s->merge, value_name(s, own),
                             qn_axop1(ir, norm->stat_op, all, over, 1));
            const qn_binding ends_of[] = {{norm->rescale_from, all}, {norm->rescale_to, merged}};
            qn_expr *law = qn_substitute(ir, norm->rescale, ends_of, 2);
            factor =
                put_let(s, &s->merge, value_name(s, "f"), qn_norm_expr(ir, norm, law, &values));
        } else {
            qn_expr *sum = factor ? qn_dot(ir, factor, all, over, 1)
                                  : qn_axop1(ir, QN_AX_REDUCE_SUM, all, over, 1);
            merged = put_let(s, &s->merge, value_name(s, own), sum);
        }
        qn_norm_bind(&values, own, merged);
    }
    for (int n = 0; n < stmt->u.let.nnames && n < norm->nouts; n++) {
        for (int k = 0; k < norm->nfinish; k++) {
            if (norm->finish[k].name == norm->outs[n]) {
                put_let(s, &s->merge, stmt->u.let.names[n],
                        qn_norm_expr(ir, norm, norm->finish[k].x, &values));
            }
        }
    }
}

/* ---------------------------------------------------------------- plain contractions */

static bool contracts(const splitter *s, const qn_expr *x)
{
    return (x->kind == QN_AXOP && over_axis(x->u.axop.over, x->u.axop.nover, s->cut.axis) &&
            qn_cut_touches(&s->cut, x)) ||
           (x->kind == QN_FOLD && over_axis(x->u.fold.over, x->u.fold.nover, s->cut.axis) &&
            qn_cut_touches(&s->cut, x));
}

/* x of one part: beyond the end of the axis it is neutral. */
static qn_expr *masked(splitter *s, qn_expr *x, qn_expr *neutral)
{
    qn_expr *cut = qn_cut_expr(&s->cut, x);
    return s->cut.exact ? cut : qn_op3(s->ir, QN_OP_SELECT, qn_cut_tail(&s->cut), cut, neutral);
}

/* The contraction of one part; NULL if its type is not known. */
static qn_expr *part_of(splitter *s, const qn_expr *x)
{
    qn_ir *ir = s->ir;
    const qn_sym *over = x->u.axop.over;
    qn_expr *const *a = x->u.axop.args.at;
    qn_type t, u;
    if (!qn_type_infer(s->env, qn_cut_expr(&s->cut, a[0]), &t)) {
        return NULL;
    }
    if (x->u.axop.op != QN_AX_DOT) {
        qn_expr *none = qn_neutral(ir, x->u.axop.op, t.dtype);
        return qn_axop1(ir, x->u.axop.op, masked(s, a[0], none), over, x->u.axop.nover);
    }
    if (!qn_type_infer(s->env, qn_cut_expr(&s->cut, a[1]), &u)) {
        return NULL;
    }
    return qn_dot(ir, masked(s, a[0], qn_zero(ir, t.dtype)), masked(s, a[1], qn_zero(ir, u.dtype)),
                  over, x->u.axop.nover);
}

/* Takes a contraction over the axis out of an expression: the parts compute it, the merge loads it.
 */
static qn_expr *take(void *user, qn_expr *x)
{
    splitter *s = user;
    if (!contracts(s, x) || s->obstacle) {
        return x;
    }
    if (x->kind == QN_FOLD || needs_merged(s, x)) {
        refuse(s, "a contraction waits for another");
        return x;
    }
    qn_axop op = x->u.axop.op;
    bool sum = op == QN_AX_DOT || op == QN_AX_REDUCE_SUM;
    if (!sum && op != QN_AX_REDUCE_MAX && op != QN_AX_REDUCE_MIN && op != QN_AX_REDUCE_PROD &&
        op != QN_AX_REDUCE_ANY && op != QN_AX_REDUCE_ALL) {
        refuse(s, "an op cannot be merged from parts");
        return x;
    }
    qn_expr *mine = part_of(s, x);
    if (!mine) {
        refuse(s, "a type is not known");
        return x;
    }
    qn_sym name = value_name(s, "r");
    qn_type type;
    qn_expr *all = pass_on(s, name, put_let(s, &s->parts, name, mine), NULL, &type);
    return qn_axop1(s->ir, op == QN_AX_DOT ? QN_AX_REDUCE_SUM : op, all, &s->axis, 1);
}

/* ---------------------------------------------------------------- statements */

static bool has_axis(const splitter *s, const qn_stmt *st)
{
    bool row = qn_cut_touches(&s->cut, st->u.store.x);
    for (int n = 0; n < st->u.store.index.count; n++) {
        row = row || qn_cut_touches(&s->cut, st->u.store.index.at[n]);
    }
    return row;
}

static void split_let(splitter *s, qn_stmt *st)
{
    qn_expr *x = st->u.let.x;
    if (x->kind == QN_FOLD && contracts(s, x)) {
        split_fold(s, st);
        for (int n = 0; n < st->u.let.nnames; n++) {
            qn_symset_add(s->t->cx->scratch, &s->after, st->u.let.names[n]);
        }
        return;
    }
    qn_expr *rest = qn_rewrite(s->ir, x, take, s);
    bool merged = rest != x || needs_merged(s, rest);
    bool row = qn_cut_touches(&s->cut, rest);
    if (merged && row) {
        refuse(s, "a later statement needs the axis again");
        return;
    }
    if (merged) {
        qn_stmt *copy = qn_stmt_copy(s->ir, st);
        copy->u.let.x = rest;
        put(s, &s->merge, copy);
        for (int n = 0; n < st->u.let.nnames; n++) {
            qn_symset_add(s->t->cx->scratch, &s->after, st->u.let.names[n]);
        }
        return;
    }
    qn_stmt *copy = qn_stmt_copy(s->ir, st); /* both nests may need it; dce takes the rest */
    if (row) {
        qn_attr_remove(&copy->attrs, "mask");
        qn_cut_stmt(&s->cut, copy);
        for (int n = 0; n < st->u.let.nnames; n++) {
            qn_symset_add(s->t->cx->scratch, &s->cut.rows, st->u.let.names[n]);
        }
    } else {
        qn_block_push(s->ir, &s->merge, qn_stmt_copy(s->ir, st));
    }
    put(s, &s->parts, copy);
}

static void split_store(splitter *s, qn_stmt *st)
{
    qn_stmt *copy = qn_stmt_copy(s->ir, st);
    copy->u.store.x = qn_rewrite(s->ir, st->u.store.x, take, s);
    bool row = has_axis(s, copy);
    if (row && (copy->u.store.x != st->u.store.x || needs_merged(s, copy->u.store.x))) {
        refuse(s, "a store needs the axis again");
    } else if (row) {
        qn_cut_stmt(&s->cut, copy);
        put(s, &s->parts, copy);
    } else {
        put(s, &s->merge, copy);
    }
}

static void split_stmt(splitter *s, qn_stmt *st)
{
    if (st->kind == QN_LET) {
        split_let(s, st);
    } else if (st->kind == QN_STORE) {
        split_store(s, st);
    } else if (st->kind == QN_FLAG && !qn_cut_touches(&s->cut, st->u.flag.cond)) {
        put(s, &s->merge, qn_stmt_copy(s->ir, st));
    } else {
        refuse(s, "the body is more than values and stores");
    }
}

/* ---------------------------------------------------------------- nests */

typedef struct axis_use {
    qn_sym axis;
    bool folded;
} axis_use;

static bool note_fold(void *user, const qn_expr *x)
{
    axis_use *u = user;
    u->folded = u->folded ||
                (x->kind == QN_FOLD && over_axis(x->u.fold.over, x->u.fold.nover, u->axis)) ||
                (x->kind == QN_AXOP && over_axis(x->u.axop.over, x->u.axop.nover, u->axis));
    return !u->folded;
}

static qn_stmt *nest_over(splitter *s, const qn_block *body, bool parts)
{
    qn_stmt *par = s->t->par, *made = qn_stmt_new(s->ir, QN_FOR, par->place);
    int n = par->u.loop.niters;
    made->attrs = par->attrs;
    made->u.loop.par = true;
    qn_iter *iters = QN_NEWN(s->ir->arena, qn_iter, n + 1);
    memcpy(iters, par->u.loop.iters, sizeof *iters * (size_t)n);
    if (parts) {
        qn_piece *piece = QN_NEW(s->ir->arena, qn_piece);
        piece->lo = qn_int(s->ir, 0);
        piece->hi = qn_name(s->ir, s->count);
        iters[n] = (qn_iter){s->index, NULL, piece, 1, NULL};
    }
    made->u.loop.iters = iters;
    made->u.loop.niters = n + parts;
    made->u.loop.cost = parts ? NULL : par->u.loop.cost;
    made->u.loop.body = *body;
    return made;
}

/* ceil(N / length), as a dim that no text uses for anything else. */
static qn_dim parts_dim(const splitter *s, int64_t length)
{
    qn_ir *ir = s->ir;
    qn_expr *n = qn_op2(ir, QN_OP_ADD, qn_extent_expr(ir, s->cut.extent), qn_int(ir, length - 1));
    return (qn_dim){s->count, qn_op2(ir, QN_OP_FLOORDIV, n, qn_int(ir, length)), {0, 0, 0}};
}

/* Makes both nests; false: refused, nothing changed. */
static bool split_nest(splitter *s, int64_t length)
{
    qn_tool *t = s->t;
    qn_ir *ir = t->ir;
    int64_t whole = qn_extent_const(t->env, s->cut.extent);
    s->cut.size = length;
    s->cut.exact = whole >= 0 && whole % length == 0;
    char base[80];
    snprintf(base, sizeof base, "%.70sp", s->cut.axis);
    s->index = qn_tool_fresh(t, base);
    s->axis = qn_tool_fresh(t, "p");
    s->count = qn_tool_fresh(t, "P");
    s->cut.index = qn_tool_fresh(t, "%from");
    qn_par_axes(t, s->par_axes);
    qn_dim dim = parts_dim(s, length);
    s->env = qn_env_push(t->env);
    qn_type i64 = qn_type_of(ir, QN_I64, NULL, 0);
    qn_env_define(
        s->env,
        &(qn_bound){.name = s->count, .kind = QN_BOUND_DIM, .type = i64, .value = dim.value});
    qn_stmt *frame = nest_over(s, &s->parts, true);
    s->env = qn_env_push(s->env);
    qn_env_enter_loop(s->env, frame);
    put(s, &s->parts,
        qn_let(ir, s->cut.index, qn_op2(ir, QN_OP_MUL, qn_name(ir, s->index), qn_int(ir, length))));
    for (int n = 0; n < t->par->u.loop.body.count && !s->obstacle; n++) {
        split_stmt(s, t->par->u.loop.body.at[n]);
    }
    if (s->obstacle) {
        qn_remark(t->cx, "W-NOSPLIT", t->par->place, "%s: %s", s->cut.axis, s->obstacle);
        return false;
    }
    QN_PUSH(ir->arena, &t->kernel->dims, dim);
    return true;
}

/* Puts the buffers and the launch of parts before the launch, and the merge in place of the nest.
 */
static void place(splitter *s, qn_kernel_ir *k, qn_stmt *launch)
{
    qn_ir *ir = s->ir;
    qn_stmt *first = qn_stmt_new(ir, QN_LAUNCH, launch->place);
    qn_block_push(ir, &first->u.launch, nest_over(s, &s->parts, true));
    for (int n = 0; n < launch->u.launch.count; n++) {
        if (launch->u.launch.at[n] == s->t->par) {
            launch->u.launch.at[n] = nest_over(s, &s->merge, false);
        }
    }
    qn_block out = {0};
    for (int n = 0; n < k->body.count; n++) {
        if (k->body.at[n] == launch) {
            qn_block_append(ir, &out, &s->bufs);
            qn_block_push(ir, &out, first);
        }
        qn_block_push(ir, &out, k->body.at[n]);
    }
    k->body = out;
}

static qn_stmt *launch_of(const qn_kernel_ir *k, const qn_stmt *par)
{
    for (int n = 0; n < k->body.count; n++) {
        qn_stmt *s = k->body.at[n];
        for (int i = 0; s->kind == QN_LAUNCH && i < s->u.launch.count; i++) {
            if (s->u.launch.at[i] == par) {
                return s;
            }
        }
    }
    return NULL;
}

static bool try_nest(qn_tool *t)
{
    qn_symset axes = qn_tool_axes(t, "split");
    for (int n = 0; n < axes.count; n++) {
        int64_t length = qn_tool_size(t, "split", axes.at[n], 0);
        axis_use use = {axes.at[n], false};
        qn_extent extent;
        qn_block_visit(&t->par->u.loop.body, note_fold, &use);
        if (length <= 0 || !use.folded ||
            !qn_axis_extent(&t->par->u.loop.body, axes.at[n], INT64_MAX, &extent)) {
            continue;
        }
        splitter s = {.t = t, .ir = t->ir};
        s.cut = (qn_cut){.ir = t->ir, .kernel = t->kernel, .axis = axes.at[n], .extent = extent};
        if (!qn_nest_over_dims(t)) {
            qn_remark(t->cx, "W-NOSPLIT", t->par->place, "%s: the nest is not over whole dims",
                      axes.at[n]);
        } else if (split_nest(&s, length)) {
            place(&s, t->kernel, launch_of(t->kernel, t->par));
            return false; /* the body of the kernel has changed: walk it again */
        }
    }
    return true;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    bool split = false;
    /* A nest that is split leaves nothing to split in it; the others are found in the next walk. */
    while (!qn_each_nest(cx, f, k, try_nest)) {
        split = true;
    }
    return !split || qn_pass_dce.run(cx, f, k);
}

const qn_pass qn_pass_split = {
    .name = "split",
    .doc = "a long contraction becomes parts and a merge",
    .run = run,
};
