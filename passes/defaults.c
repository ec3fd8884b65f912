/* SPDX-License-Identifier: MIT
 *
 * The schedule that a machine gives when nobody chose.
 *
 * The axes are found in the text: a fold or a product is over its streamed axis; what a nest stores
 * by is its rows (extents known at run time) and its columns (constant extents). Rows go to lanes,
 * so that everything a row needs is vertical; the register block is the largest that leaves room
 * for the operands held beside it. Numeric lines (the tile of the streamed axis) depend on the
 * machine alone, never on lengths. */
#include "ir/build.h"
#include "ir/walk.h"
#include "passes/pass.h"

#include <stdio.h>
#include <string.h>

typedef struct roles {
    const qn_kernel_ir *k;
    qn_sym rows, columns, streamed;
} roles;

static bool is_constant(const qn_kernel_ir *k, qn_extent e)
{
    for (int d = 0; e.dim && d < k->dims.count; d++) {
        if (k->dims.at[d].name == e.dim) {
            return k->dims.at[d].value && k->dims.at[d].value->kind == QN_LIT;
        }
    }
    return e.dim == NULL;
}

static bool note_streamed(void *user, const qn_expr *x)
{
    roles *r = user;
    if (x->kind == QN_FOLD && !r->streamed) {
        r->streamed = x->u.fold.over[0];
    }
    return true;
}

static void note_store(void *user, qn_stmt *s)
{
    roles *r = user;
    if (s->kind != QN_STORE) {
        return;
    }
    for (int n = 0; n < s->u.store.index.count; n++) {
        const qn_expr *x = s->u.store.index.at[n];
        if (x->kind != QN_IOTA || x->u.iota.name == r->streamed) {
            continue;
        }
        qn_sym *role = is_constant(r->k, x->u.iota.extent) ? &r->columns : &r->rows;
        *role = *role ? *role : x->u.iota.name;
    }
}

static void give(qn_ir *ir, qn_schedule *s, const char *key, qn_sym axis, int64_t value)
{
    if (!axis || qn_schedule_find(s, NULL, key, axis) || qn_schedule_find(s, NULL, key, "none")) {
        return;
    }
    char number[24] = "";
    snprintf(number, sizeof number, "%lld", (long long)value);
    qn_schedule_add(ir, s, NULL, key, axis, value ? number : NULL, "default");
}

static int64_t chosen(const qn_schedule *s, const char *key, qn_sym axis, int64_t otherwise)
{
    return axis ? qn_schedule_int(s, NULL, key, axis, otherwise) : otherwise;
}

/* The register block beside `vectors` registers of rows: accumulators, the shorter side's operands
 * and one more must fit. */
static int64_t block_of(const qn_machine *m, int64_t vectors)
{
    int64_t best = 1;
    for (int64_t b = 1; b <= 16; b++) {
        int64_t held = b < vectors ? b : vectors;
        if (b * vectors + held + 1 <= m->registers && b * vectors <= 16) {
            best = b;
        }
    }
    return best;
}

/* What few rows a task need: a product's contracted axis, and the index that shares rows. */
typedef struct few_roles {
    const roles *r;
    qn_sym contracted, shared;
    qn_sym whole; /* dim of the index: h * K // H */
} few_roles;

static bool note_few(void *user, const qn_expr *x)
{
    few_roles *f = user;
    if (x->kind == QN_AXOP && x->u.axop.op == QN_AX_DOT && x->u.axop.over[0] != f->r->streamed) {
        f->contracted = f->contracted ? f->contracted : x->u.axop.over[0];
    }
    if (x->kind == QN_OP && x->u.op.op == QN_OP_FLOORDIV && !f->shared) {
        const qn_expr *m = x->u.op.args.at[0], *by = x->u.op.args.at[1];
        if (by->kind == QN_NAME && m->kind == QN_OP && m->u.op.op == QN_OP_MUL &&
            m->u.op.args.at[0]->kind == QN_NAME && m->u.op.args.at[1]->kind == QN_NAME) {
            f->shared = m->u.op.args.at[0]->u.name;
        }
    }
    return true;
}

/* The constant extent of the columns. */
static int64_t column_count(const roles *r)
{
    for (int p = 0; p < r->k->params.count; p++) {
        const qn_axis *a = qn_type_axis(&r->k->params.at[p].type, r->columns);
        for (int d = 0; a && a->extent.dim && d < r->k->dims.count; d++) {
            const qn_expr *v = r->k->dims.at[d].value;
            if (r->k->dims.at[d].name == a->extent.dim && v && v->kind == QN_LIT) {
                return v->u.lit.i;
            }
        }
        if (a && !a->extent.dim) {
            return a->extent.n;
        }
    }
    return 1;
}

/* Few rows: a row of either tensor is read once, in the order of its addresses, for all rows and
 * indices that share it. Lanes lie along the row: along the contracted axis with a sum across
 * them, along the columns of what is summed; the statistics have the streamed axis in lanes. */
static bool few_rows(qn_ir *ir, qn_schedule *s, const qn_machine *m, const roles *r)
{
    few_roles f = {.r = r};
    qn_block_visit(&r->k->body, note_few, &f);
    if (m->lanes == 1 || !f.contracted || !f.shared || !r->columns ||
        qn_schedule_find(s, NULL, "lanes", r->rows) ||
        (qn_schedule_find(s, NULL, "tile", r->rows) && !qn_schedule_find(s, NULL, "group", NULL))) {
        return false;
    }
    give(ir, s, "group", f.shared, 4);
    give(ir, s, "tile", r->rows, 1);
    /* few registers: the columns are walked in pieces, and longer blocks pay for the walk */
    bool narrow = m->registers <= 16;
    give(ir, s, "tile", r->streamed, narrow ? 32 : 16);
    give(ir, s, "split", r->streamed, 2048);
    give(ir, s, "lanes", f.contracted, m->lanes);
    give(ir, s, "lanes", r->columns, m->lanes);
    give(ir, s, "lanes", r->streamed, m->lanes);
    give(ir, s, "block", f.shared, 4);
    int64_t piece = 4 * (int64_t)m->lanes;
    if (narrow && column_count(r) % piece == 0) {
        give(ir, s, "block", r->columns, piece);
    }
    /* masks are cheap beside memory, and trims end the loops: one loop is half the code */
    give(ir, s, "peel", qn_intern(ir, "none"), 0);
    return true;
}

void qn_schedule_defaults(qn_ir *ir, qn_schedule *s, const qn_machine *m, const qn_ir_file *f,
                          const qn_kernel_ir *k, const char *form)
{
    (void)f;
    roles r = {.k = k};
    qn_block_visit(&k->body, note_streamed, &r);
    qn_block_stmts(&k->body, note_store, &r);
    if (!r.streamed || !r.rows) {
        return; /* nothing of the kind that these choices are for */
    }
    bool few = strcmp(form, "decode") == 0;
    if (few && few_rows(ir, s, m, &r)) {
        return;
    }
    int64_t vectors = few || m->lanes == 1 ? 1 : 4;
    int64_t lanes = m->lanes > 1 ? m->lanes : 4;
    give(ir, s, "tile", r.rows, vectors * lanes);
    give(ir, s, "tile", r.streamed, 64);
    if (m->lanes > 1) {
        give(ir, s, "lanes", r.rows, m->lanes);
        int64_t width = chosen(s, "lanes", r.rows, m->lanes), rows = chosen(s, "tile", r.rows, 64);
        int64_t block = block_of(m, (rows + width - 1) / width);
        block = block > 8 ? 8 : block; /* enough to hide latency; more is code */
        give(ir, s, "block", r.streamed, block);
        give(ir, s, "block", r.columns, block);
    }
    give(ir, s, "peel", r.streamed, 0);
}
