/* SPDX-License-Identifier: MIT
 *
 * pack: a tensor is copied once into a call buffer with a layout, and read from there.
 *
 *     pack v (b, g, j // 2, e, j % 2)    =>    buf %vp: .. in call layout (b, g, j // 2, e, j % 2)
 *                                              launch { par for b, g { store %vp[..] = v[..] } }
 *
 * needs  an input tensor that a nest loads; a layout that splits each of its axes completely
 * makes  the buffer and a launch before all others; every load of the tensor becomes one of the
 * buffer law    a layout never changes what an index means, and extents are equal: the same
 * elements
 *
 * It runs before tile, which cuts the copy like any other nest. Worth it where the copy is read
 * many times: once a row block, say. */
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "passes/tools.h"

#include <stdio.h>
#include <string.h>

typedef struct renaming {
    qn_ir *ir;
    qn_sym from, to;
    int count;
} renaming;

static qn_expr *rename_load(void *user, qn_expr *x)
{
    renaming *r = user;
    if (x->kind != QN_LOAD || x->u.load.base != r->from) {
        return x;
    }
    r->count++;
    return qn_load(r->ir, r->to, x->u.load.index.at, x->u.load.index.count, x->u.load.guarded,
                   x->u.load.pad);
}

/* One piece of a layout as it stands in the schedule: words up to a comma or the last parenthesis.
 */
static qn_expr *piece_of(qn_pass_cx *cx, const qn_sched_line *line, int *at)
{
    qn_buf b = qn_buf_of(cx->ir->arena);
    for (; *at < line->nwords; (*at)++) {
        const char *word = line->words[*at];
        if (strcmp(word, ",") == 0 || strcmp(word, ")") == 0) {
            (*at)++;
            break;
        }
        qn_buf_printf(&b, "%s%s", b.length ? " " : "", word);
    }
    return b.length ? qn_parse_expr(cx->ir, b.text, b.length, cx->diags) : NULL;
}

/* The line's layout; false and an error if it is none. Count 0: the natural one. */
static bool layout_of(qn_pass_cx *cx, const qn_sched_line *line, qn_exprs *out)
{
    qn_expr *at[4 * QN_MAX_AXES];
    int n = 0, word = 0;
    *out = (qn_exprs){NULL, 0};
    if (line->nwords == 0) {
        return true;
    }
    bool good = strcmp(line->words[0], "(") == 0;
    word = 1;
    while (good && word < line->nwords) {
        qn_expr *x = n < 4 * QN_MAX_AXES ? piece_of(cx, line, &word) : NULL;
        good = x != NULL;
        if (good) {
            at[n++] = x;
        }
    }
    if (!good || n == 0) {
        qn_diag_add(cx->diags, QN_ERROR, "E-SCHED", line->place,
                    "pack takes a layout such as (b, j // 2, e, j %% 2)");
        return false;
    }
    *out = qn_exprs_of(cx->ir, at, n);
    return true;
}

static const qn_param *tensor(const qn_kernel_ir *k, qn_sym name)
{
    for (int n = 0; n < k->params.count; n++) {
        const qn_param *p = &k->params.at[n];
        if (strcmp(p->name, name) == 0 && p->direction == QN_IN && p->type.rank > 0) {
            return p;
        }
    }
    return NULL;
}

/* par over all axes but the last two, which are one tile. */
static qn_stmt *copy_nest(qn_ir *ir, qn_names *names, const qn_param *p, qn_sym buf)
{
    const qn_type *t = &p->type;
    int outer = t->rank > 2 ? t->rank - 2 : t->rank - 1;
    qn_stmt *nest = qn_stmt_new(ir, QN_FOR, p->place);
    qn_iter *iters = QN_NEWN(ir->arena, qn_iter, outer + 1);
    qn_expr *index[QN_MAX_AXES];
    for (int n = 0; n < t->rank; n++) {
        index[n] = qn_iota(ir, t->axes[n].name, t->axes[n].extent);
    }
    int niters = outer > 0 ? outer : 1;
    for (int n = 0; n < niters; n++) {
        qn_piece *piece = QN_NEW(ir->arena, qn_piece);
        qn_sym name = qn_names_fresh(names, t->axes[n].name);
        piece->lo = qn_int(ir, 0);
        piece->hi = qn_extent_expr(ir, t->axes[n].extent);
        iters[n] = (qn_iter){name, NULL, piece, 1, NULL};
        index[n] = qn_name(ir, name);
    }
    nest->u.loop.par = true;
    nest->u.loop.iters = iters;
    nest->u.loop.niters = niters;
    qn_expr *x = qn_load(ir, p->name, index, t->rank, false, NULL);
    qn_block_push(ir, &nest->u.loop.body, qn_store(ir, buf, index, t->rank, x));
    return nest;
}

/* Appends the buffer to bufs and the copy to copies, and rewrites the loads. */
static bool pack_one(qn_pass_cx *cx, qn_kernel_ir *k, const qn_sched_line *line, qn_block *bufs,
                     qn_block *copies)
{
    qn_ir *ir = cx->ir;
    const qn_param *p = tensor(k, line->subject);
    qn_exprs layout;
    if (!layout_of(cx, line, &layout)) {
        return false;
    }
    if (!p) {
        return true; /* a tensor of another kernel */
    }
    qn_names *names = qn_names_of_kernel(ir, k);
    char base[96];
    snprintf(base, sizeof base, "%%%.80sp", p->name);
    qn_sym buf = qn_names_fresh(names, base);
    renaming r = {ir, p->name, buf, 0};
    qn_block_rewrite(ir, &k->body, rename_load, &r);
    if (r.count == 0) {
        return true;
    }
    qn_stmt *memory = qn_buf_stmt(ir, buf, p->type, QN_SPACE_CALL);
    memory->u.buf.layout = layout;
    qn_block_push(ir, bufs, memory);
    /* names of other nests are free in this one */
    qn_kernel_ir bare = *k;
    bare.body = (qn_block){0};
    qn_block_push(ir, copies, copy_nest(ir, qn_names_of_kernel(ir, &bare), p, buf));
    return true;
}

/* Buffers and one launch of all copies, before the first launch. */
static void place(qn_ir *ir, qn_kernel_ir *k, const qn_block *bufs, const qn_block *copies)
{
    qn_stmt *launch = qn_stmt_new(ir, QN_LAUNCH, k->place);
    qn_block_append(ir, &launch->u.launch, copies);
    qn_block out = {0};
    bool placed = false;
    for (int n = 0; n < k->body.count; n++) {
        if (k->body.at[n]->kind == QN_LAUNCH && !placed) {
            qn_block_append(ir, &out, bufs);
            qn_block_push(ir, &out, launch);
            placed = true;
        }
        qn_block_push(ir, &out, k->body.at[n]);
    }
    k->body = out;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    (void)f;
    const qn_schedule *s = cx->schedule;
    qn_block bufs = {0}, copies = {0};
    for (int n = 0; n < s->lines.count; n++) {
        const qn_sched_line *line = &s->lines.at[n];
        if (strcmp(line->key, "pack") == 0 && line->subject && !line->nest &&
            !pack_one(cx, k, line, &bufs, &copies)) {
            return false;
        }
    }
    if (copies.count > 0) {
        place(cx->ir, k, &bufs, &copies);
    }
    return true;
}

const qn_pass qn_pass_pack = {
    .name = "pack",
    .doc = "a tensor is copied once into a buffer with a layout",
    .run = run,
};
