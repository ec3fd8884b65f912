/* SPDX-License-Identifier: MIT
 * IR to text; see print.h. Parentheses follow from precedence alone: a node is wrapped where its
 * own precedence is below what its place asks for, so parsing gives back the same tree. */
#include "ir/print.h"

#include "ir/lex.h"
#include "ir/schedule.h"
#include <string.h>

/* What a place asks for: 0 anything .. 5 a unary minus, POSTFIX a primary. */
enum { COMPARE = 2, SUM = 3, UNARY = 5, POSTFIX = 6 };

static void expr(const qn_expr *x, int least, qn_buf *out);

static void exprs(const qn_exprs *xs, qn_buf *out)
{
    for (int k = 0; k < xs->count; k++) {
        qn_buf_puts(out, k ? ", " : "");
        expr(xs->at[k], 0, out);
    }
}

static void index_of(qn_sym base, const qn_exprs *index, qn_buf *out)
{
    qn_buf_printf(out, "%s[", base);
    exprs(index, out);
    qn_buf_puts(out, "]");
}

static void names(const qn_sym *at, int n, qn_buf *out)
{
    for (int k = 0; k < n; k++) {
        qn_buf_printf(out, "%s%s", k ? ", " : "", at[k]);
    }
}

static void axis(const qn_axis *a, qn_buf *out)
{
    if (a->extent.dim) {
        qn_buf_printf(out, "%s:%s", a->name, a->extent.dim);
    } else {
        qn_buf_printf(out, "%s:%lld", a->name, (long long)a->extent.n);
    }
}

static void literal(const qn_expr *x, qn_buf *out)
{
    if (x->u.lit.type == QN_BOOL) {
        qn_buf_puts(out, x->u.lit.i ? "true" : "false");
    } else if (x->u.lit.type == QN_INT_LIT) {
        qn_buf_printf(out, "%lld", (long long)x->u.lit.i);
    } else {
        qn_buf_double(out, x->u.lit.f);
    }
}

static void op(const qn_expr *x, int least, qn_buf *out)
{
    const qn_op_info *info = qn_op_info_of(x->u.op.op);
    const qn_exprs *args = &x->u.op.args;
    int mine = info->precedence;
    bool wrap = mine < least;
    if (mine > UNARY) {
        qn_buf_printf(out, "%s(",
                      x->u.op.op == QN_OP_CAST ? qn_dtype_name(x->u.op.cast) : info->text);
        exprs(args, out);
        qn_buf_puts(out, ")");
        return;
    }
    qn_buf_puts(out, wrap ? "(" : "");
    if (x->u.op.op == QN_OP_NEG || x->u.op.op == QN_OP_NOT) {
        qn_buf_puts(out, x->u.op.op == QN_OP_NEG ? "-" : "not ");
        expr(args->at[0], mine, out);
    } else {
        expr(args->at[0], mine == COMPARE ? SUM : mine, out); /* comparisons do not chain */
        qn_buf_printf(out, " %s ", info->text);
        expr(args->at[1], mine + 1, out);
    }
    qn_buf_puts(out, wrap ? ")" : "");
}

/* (args.., fresh, over axes, where cond) */
static void over(const qn_exprs *args, const qn_axis *fresh, const qn_sym *axes, int naxes,
                 const qn_expr *where, qn_buf *out)
{
    qn_buf_puts(out, "(");
    exprs(args, out);
    if (fresh) {
        qn_buf_puts(out, ", ");
        axis(fresh, out);
    }
    qn_buf_puts(out, ", over ");
    names(axes, naxes, out);
    if (where) {
        qn_buf_puts(out, ", where ");
        expr(where, 0, out);
    }
    qn_buf_puts(out, ")");
}

static void expr(const qn_expr *x, int least, qn_buf *out)
{
    switch (x->kind) {
    case QN_LIT:
        literal(x, out);
        break;
    case QN_NAME:
        qn_buf_puts(out, x->u.name);
        break;
    case QN_IOTA:
        axis(&x->u.iota, out);
        break;
    case QN_LOAD:
        qn_buf_puts(out, x->u.load.guarded ? "tile " : "");
        index_of(x->u.load.base, &x->u.load.index, out);
        if (x->u.load.guarded && x->u.load.pad) {
            qn_buf_puts(out, " pad ");
            expr(x->u.load.pad, UNARY, out);
        }
        break;
    case QN_OP:
        op(x, least, out);
        break;
    case QN_AXOP:
        qn_buf_puts(out, qn_axop_text(x->u.axop.op));
        over(&x->u.axop.args, x->u.axop.op == QN_AX_TOPK ? &x->u.axop.fresh : NULL, x->u.axop.over,
             x->u.axop.nover, NULL, out);
        break;
    case QN_FOLD:
        qn_buf_printf(out, "fold %s", x->u.fold.norm);
        over(&x->u.fold.args, NULL, x->u.fold.over, x->u.fold.nover, x->u.fold.where, out);
        break;
    case QN_AS:
        expr(x->u.as.x, POSTFIX, out);
        qn_buf_puts(out, " as (");
        for (int k = 0; k < x->u.as.npairs; k++) {
            qn_buf_printf(out, "%s%s -> %s", k ? ", " : "", x->u.as.pairs[k].from,
                          x->u.as.pairs[k].to);
        }
        qn_buf_puts(out, ")");
        break;
    }
}

void qn_print_expr(const qn_expr *x, qn_buf *out)
{
    expr(x, 0, out);
}

void qn_print_type(const qn_type *t, qn_buf *out)
{
    qn_buf_puts(out, qn_dtype_name(t->dtype));
    for (int k = 0; k < t->rank; k++) {
        qn_buf_puts(out, k ? ", " : "[");
        axis(&t->axes[k], out);
    }
    qn_buf_puts(out, t->rank ? "]" : "");
}

/* ---------------------------------------------------------------- statements */

static void attributes(const qn_attrs *as, qn_buf *out)
{
    for (int k = 0; k < as->count; k++) {
        const qn_attr *a = &as->at[k];
        qn_buf_printf(out, " !%s", a->name);
        for (int e = 0; e < a->nargs; e++) {
            qn_buf_puts(out, e ? ", " : "(");
            expr(a->args[e].lo, 0, out);
            if (a->args[e].hi) {
                qn_buf_puts(out, "..");
                expr(a->args[e].hi, 0, out);
            }
        }
        qn_buf_puts(out, a->nargs ? ")" : "");
    }
}

static void iter(const qn_iter *it, qn_buf *out)
{
    qn_buf_puts(out, it->name);
    if (it->end) {
        qn_buf_printf(out, " < %s", it->end);
    }
    qn_buf_puts(out, " in ");
    for (int k = 0; k < it->npieces; k++) {
        const qn_piece *p = &it->pieces[k];
        qn_buf_puts(out, k ? " | " : "");
        if (p->list) {
            qn_buf_printf(out, "list %s[", p->list);
            exprs(&p->index, out);
            qn_buf_puts(out, p->index.count ? ", " : "");
        }
        expr(p->lo, 0, out);
        qn_buf_puts(out, "..");
        expr(p->hi, 0, out);
        qn_buf_puts(out, p->list ? "]" : "");
    }
    if (it->step) {
        qn_buf_puts(out, " step ");
        expr(it->step, SUM, out);
    }
}

static void pad(int indent, qn_buf *out)
{
    for (int k = 0; k < indent; k++) {
        qn_buf_puts(out, "  ");
    }
}

static void block(const qn_block *b, int indent, qn_buf *out)
{
    qn_buf_puts(out, "{\n");
    for (int k = 0; k < b->count; k++) {
        qn_print_stmt(b->at[k], indent + 1, out);
    }
    pad(indent, out);
    qn_buf_puts(out, "}");
}

static void loop(const qn_stmt *s, int indent, qn_buf *out)
{
    qn_buf_puts(out, s->u.loop.par ? "par for " : "for ");
    for (int k = 0; k < s->u.loop.niters; k++) {
        qn_buf_puts(out, k ? ", " : "");
        iter(&s->u.loop.iters[k], out);
    }
    for (int k = 0; k < s->u.loop.ncarries; k++) {
        const qn_carry *c = &s->u.loop.carries[k];
        qn_buf_printf(out, "%s%s: ", k ? ", " : " carry ", c->name);
        qn_print_type(&c->type, out);
        qn_buf_puts(out, " = ");
        expr(c->init, 0, out);
    }
    if (s->u.loop.cost) {
        qn_buf_puts(out, " cost(");
        expr(s->u.loop.cost, 0, out);
        qn_buf_puts(out, ")");
    }
    attributes(&s->attrs, out);
    qn_buf_puts(out, " ");
    block(&s->u.loop.body, indent, out);
}

static void buf(const qn_stmt *s, qn_buf *out)
{
    static const char *const spaces[] = {"call", "task", "shared"};
    qn_buf_printf(out, "buf %s: ", s->u.buf.name);
    qn_print_type(&s->u.buf.type, out);
    qn_buf_printf(out, " in %s", spaces[s->u.buf.space]);
    if (s->u.buf.ring) {
        qn_buf_printf(out, " ring %s", s->u.buf.ring);
    }
    if (s->u.buf.layout.count) {
        qn_buf_puts(out, " layout (");
        exprs(&s->u.buf.layout, out);
        qn_buf_puts(out, ")");
    }
    attributes(&s->attrs, out);
}

static void store(const qn_stmt *s, qn_buf *out)
{
    static const char *const modes[] = {"store ", "store.add ", "store.max ", "store.min "};
    static const char *const orders[] = {"", " ordered", " atomic"};
    qn_buf_printf(out, "%s%s", s->u.store.start ? "start " : "", modes[s->u.store.mode]);
    index_of(s->u.store.base, &s->u.store.index, out);
    qn_buf_puts(out, " = ");
    expr(s->u.store.x, 0, out);
    qn_buf_puts(out, orders[s->u.store.order]);
    attributes(&s->attrs, out);
}

void qn_print_stmt(const qn_stmt *s, int indent, qn_buf *out)
{
    pad(indent, out);
    switch (s->kind) {
    case QN_LET:
        names(s->u.let.names, s->u.let.nnames, out);
        qn_buf_puts(out, " = ");
        expr(s->u.let.x, 0, out);
        attributes(&s->attrs, out);
        break;
    case QN_BUF:
        buf(s, out);
        break;
    case QN_STORE:
        store(s, out);
        break;
    case QN_FOR:
        loop(s, indent, out);
        break;
    case QN_IF:
        names(s->u.branch.names, s->u.branch.nnames, out);
        qn_buf_puts(out, s->u.branch.nnames ? " = if " : "if ");
        expr(s->u.branch.cond, 0, out);
        qn_buf_puts(out, " ");
        block(&s->u.branch.then, indent, out);
        if (s->u.branch.has_else) {
            qn_buf_puts(out, " else ");
            block(&s->u.branch.other, indent, out);
        }
        break;
    case QN_YIELD:
        qn_buf_puts(out, "yield ");
        exprs(&s->u.yield, out);
        break;
    case QN_SYNC:
        qn_buf_puts(out, s->u.sync.await ? "await " : "free ");
        index_of(s->u.sync.base, &s->u.sync.index, out);
        break;
    case QN_LAUNCH:
        qn_buf_puts(out, "launch ");
        block(&s->u.launch, indent, out);
        break;
    case QN_FLAG:
        qn_buf_puts(out, "flag(");
        expr(s->u.flag.cond, 0, out);
        qn_buf_printf(out, ", %s)", s->u.flag.code);
        break;
    case QN_PREFETCH:
        qn_buf_puts(out, "prefetch ");
        index_of(s->u.prefetch.base, &s->u.prefetch.index, out);
        break;
    }
    qn_buf_puts(out, "\n");
}

/* ---------------------------------------------------------------- files */

void qn_print_kernel(const qn_kernel_ir *k, qn_buf *out)
{
    static const char *const directions[] = {"in", "out", "inout"};
    qn_buf_printf(out, "kernel %s", k->name);
    attributes(&k->attrs, out);
    qn_buf_puts(out, " {\n");
    for (int e = 0; e < k->dims.count; e++) {
        const qn_dim *d = &k->dims.at[e];
        qn_buf_printf(out, "%s%s", e ? ", " : "  dim ", d->name);
        if (d->value) {
            qn_buf_puts(out, " = ");
            expr(d->value, 0, out);
        }
    }
    qn_buf_puts(out, k->dims.count ? "\n" : "");
    for (int e = 0; e < k->params.count; e++) {
        const qn_param *p = &k->params.at[e];
        qn_buf_printf(out, "  %s %s: ", directions[p->direction], p->name);
        qn_print_type(&p->type, out);
        if (p->value) {
            qn_buf_puts(out, " = ");
            expr(p->value, 0, out);
        }
        qn_buf_puts(out, "\n");
    }
    for (int e = 0; e < k->requires.count; e++) {
        qn_buf_puts(out, "  require ");
        expr(k->requires.at[e].cond, 0, out);
        qn_buf_puts(out, ", ");
        qn_token_print_string(k->requires.at[e].text, out);
        qn_buf_puts(out, "\n");
    }
    for (int e = 0; e < k->body.count; e++) {
        qn_print_stmt(k->body.at[e], 1, out);
    }
    qn_buf_puts(out, "}\n");
}

static void definition(const qn_norm_def *d, qn_buf *out)
{
    qn_buf_printf(out, "%s = ", d->name);
    expr(d->x, 0, out);
}

void qn_print_norm(const qn_norm *n, qn_buf *out)
{
    qn_buf_printf(out, "norm %s(", n->name);
    names(n->args, n->nargs, out);
    qn_buf_puts(out, ") -> (");
    names(n->outs, n->nouts, out);
    qn_buf_puts(out, ") {\n  stat ");
    if (n->stat) {
        const char *text = qn_axop_text(n->stat_op); /* reduce.max is written max here */
        qn_buf_printf(out, "%s = %s(", n->stat, strchr(text, '.') + 1);
        expr(n->stat_x, 0, out);
        qn_buf_puts(out, ")");
    } else {
        qn_buf_puts(out, "none");
    }
    qn_buf_puts(out, "\n  weight ");
    expr(n->weight, 0, out);
    if (n->rescale) {
        qn_buf_printf(out, "\n  rescale(%s, %s) ", n->rescale_from, n->rescale_to);
        expr(n->rescale, 0, out);
    }
    for (int k = 0; k < n->nsums; k++) {
        qn_buf_puts(out, "\n  sum ");
        definition(&n->sums[k], out);
    }
    for (int k = 0; k < n->nfinish; k++) {
        qn_buf_puts(out, k ? ", " : "\n  finish ");
        definition(&n->finish[k], out);
    }
    qn_buf_puts(out, "\n}\n");
}

void qn_print_file(const qn_ir_file *f, qn_buf *out)
{
    qn_buf_puts(out, "");
    for (int k = 0; k < f->items.count; k++) {
        const qn_item *it = &f->items.at[k];
        qn_buf_puts(out, k ? "\n" : "");
        switch (it->kind) {
        case QN_ITEM_NORM:
            qn_print_norm(it->u.norm, out);
            break;
        case QN_ITEM_KERNEL:
            qn_print_kernel(it->u.kernel, out);
            break;
        case QN_ITEM_SCHEDULE:
            qn_print_schedule_by(it->u.schedule, QN_BY_GIVEN, out);
            break;
        }
    }
}

const char *qn_expr_text(qn_arena *a, const qn_expr *x)
{
    qn_buf b = qn_buf_of(a);
    expr(x, 0, &b);
    return b.text;
}

const char *qn_type_text(qn_arena *a, const qn_type *t)
{
    qn_buf b = qn_buf_of(a);
    qn_print_type(t, &b);
    return b.text;
}

const char *qn_file_text(qn_arena *a, const qn_ir_file *f)
{
    qn_buf b = qn_buf_of(a);
    qn_print_file(f, &b);
    return b.text;
}

/* ---------------------------------------------------------------- annotated */

/* The caret stands under its column, so far as the comment sign leaves room. */
static void annotate(const qn_diag *x, qn_buf *out)
{
    qn_buf_puts(out, ";");
    for (int c = 3; c < x->place.col && c < 400; c++) {
        qn_buf_puts(out, " ");
    }
    qn_buf_puts(out, x->place.col == 2 ? "^ " : " ^ ");
    for (const char *t = x->text; *t; t++) {
        qn_buf_put(out, *t == '\n' || *t == '\r' ? " " : t, 1);
    }
    qn_buf_printf(out, " [%s]\n", x->code);
}

void qn_print_annotated(const char *source, const qn_diags *d, qn_buf *out)
{
    int line = 1;
    qn_buf_puts(out, "");
    for (const char *s = source; *s; line++) {
        size_t n = strcspn(s, "\n");
        qn_buf_put(out, s, n);
        qn_buf_puts(out, "\n");
        s += s[n] ? n + 1 : n;
        for (int col = 0; col >= 0;) { /* errors of the line from left to right */
            int next = -1;
            for (int k = 0; k < d->count; k++) {
                const qn_diag *x = &d->at[k];
                if (x->severity != QN_ERROR || x->place.line != line) {
                    continue;
                }
                if (x->place.col == col) {
                    annotate(x, out);
                } else if (x->place.col > col && (next < 0 || x->place.col < next)) {
                    next = x->place.col;
                }
            }
            col = next;
        }
    }
    for (int k = 0; k < d->count; k++) { /* those without a line in this text */
        const qn_diag *x = &d->at[k];
        if (x->severity == QN_ERROR && (x->place.line < 1 || x->place.line >= line)) {
            annotate(x, out);
        }
    }
}
