/* SPDX-License-Identifier: MIT
 *
 * A spec to naive IR, whose meaning is the definition: full extents as tiles, one task a (batch,
 * head), the norm as a fold. Scalars become tiles by substitution (i by its positions, j by the
 * keys' iota, d by the columns); the text is put together and parsed, so that a reader sees what
 * the passes see.
 *
 * Tables are made by a launch before; with several groups of heads, a launch puts every head on its
 * group's list, and each group is a nest over its list. */
#include "frontend/front.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/walk.h"

#include <string.h>

typedef struct lowering {
    qn_ir *ir;
    const qn_spec *s;
    qn_buf out;
    struct {
        qn_sym *at;
        int32_t count, cap;
    } used; /* value names of the nest at hand */
    struct {
        qn_binding *at;
        int32_t count, cap;
    } map; /* names of the spec to expressions of the nest */
} lowering;

static void bind(lowering *l, const char *name, qn_expr *x)
{
    qn_binding b = {qn_intern(l->ir, name), x};
    for (int k = 0; k < l->map.count; k++) {
        if (l->map.at[k].name == b.name) {
            l->map.at[k] = b;
            return;
        }
    }
    QN_PUSH(l->ir->arena, &l->map, b);
}

static qn_sym fresh(lowering *l, const char *name)
{
    for (int n = 1;; n++) {
        qn_buf b = qn_buf_of(l->ir->arena);
        qn_buf_puts(&b, name);
        if (n > 1) {
            qn_buf_printf(&b, "_%d", n);
        }
        qn_sym s = qn_intern(l->ir, b.text);
        bool taken = false;
        for (int k = 0; k < l->used.count && !taken; k++) {
            taken = l->used.at[k] == s;
        }
        if (!taken) {
            QN_PUSH(l->ir->arena, &l->used, s);
            return s;
        }
    }
}

/* Loads of tables become loads of the buffers that hold them. */
static qn_expr *table_loads(void *user, qn_expr *x)
{
    lowering *l = user;
    if (x->kind != QN_LOAD || !qn_spec_table_of(l->s, x->u.load.base)) {
        return x;
    }
    qn_expr *y = QN_NEW(l->ir->arena, qn_expr);
    qn_buf b = qn_buf_of(l->ir->arena);
    *y = *x;
    qn_buf_printf(&b, "%%%s", x->u.load.base);
    y->u.load.base = qn_intern(l->ir, b.text);
    return y;
}

static qn_expr *tiled(lowering *l, qn_expr *x)
{
    return qn_rewrite(l->ir, qn_substitute(l->ir, x, l->map.at, l->map.count), table_loads, l);
}

static const char *text(lowering *l, const qn_expr *x)
{
    return qn_expr_text(l->ir->arena, x);
}

static void line(lowering *l, int indent, const char *format, ...)
{
    va_list args;
    qn_buf_printf(&l->out, "%*s", indent * 2, "");
    va_start(args, format);
    qn_buf_vprintf(&l->out, format, args);
    va_end(args);
    qn_buf_puts(&l->out, "\n");
}

/* Prints the lets of a function and binds their names; flags under `keep`. */
static void lets(lowering *l, int indent, const qn_spec_fn *f, const char *keep)
{
    for (int k = 0; f && k < f->nlets; k++) {
        qn_expr *x = tiled(l, f->lets[k].x);
        qn_sym name = fresh(l, f->lets[k].name);
        line(l, indent, "%s = %s", name, text(l, x));
        bind(l, f->lets[k].name, qn_name(l->ir, name));
    }
    for (int k = 0; f && k < f->nflags; k++) {
        const char *cond = text(l, tiled(l, f->flags[k]));
        line(l, indent, keep ? "flag(%s and (%s), E_INDEX)" : "flag(%s%s, E_INDEX)",
             keep ? keep : "", cond);
    }
}

static bool fn_mentions(const qn_spec_fn *f, qn_sym name)
{
    bool yes = false;
    for (int k = 0; f && k < f->nlets; k++) {
        yes |= qn_mentions_name(f->lets[k].x, name);
    }
    for (int k = 0; f && k < f->nresults; k++) {
        yes |= qn_mentions_name(f->results[k], name);
    }
    for (int k = 0; f && k < f->nflags; k++) {
        yes |= qn_mentions_name(f->flags[k], name);
    }
    return yes;
}

/* The load of an input's block, as the number type. */
static const char *input(lowering *l, const char *name, const char *index)
{
    const qn_param *p = qn_spec_param_of(l->s, qn_intern(l->ir, name));
    qn_buf b = qn_buf_of(l->ir->arena);
    if (p->type.dtype == l->s->number) {
        qn_buf_printf(&b, "%s[%s]", name, index);
    } else {
        qn_buf_printf(&b, "%s(%s[%s])", qn_dtype_name(l->s->number), name, index);
    }
    return b.text;
}

static void positions(lowering *l, int indent, const qn_spec_group *g)
{
    qn_sym i = qn_intern(l->ir, "i"), j = qn_intern(l->ir, "j");
    qn_extent rows = qn_extent_dim(qn_intern(l->ir, "Nq")),
              keys = qn_extent_dim(qn_intern(l->ir, "Nk"));
    qn_expr *row = qn_iota(l->ir, i, rows);
    bind(l, "r", row);
    bind(l, "j", qn_iota(l->ir, j, keys));
    bind(l, "d", qn_iota(l->ir, qn_intern(l->ir, "e"), qn_extent_dim(qn_intern(l->ir, "Dv"))));
    bind(l, "i", row);
    if (l->s->position == QN_POSITION_ROWS ||
        !(fn_mentions(g->mask, i) || fn_mentions(g->score, i) || fn_mentions(g->out, i))) {
        return;
    }
    qn_sym p = fresh(l, "%p");
    bind(l, "i", qn_name(l->ir, p));
    if (l->s->position == QN_POSITION_LAST) {
        line(l, indent, "%s = i:Nq + (Nk - Nq)", p);
    } else {
        const qn_param *t = qn_spec_param_of(l->s, l->s->position_tensor);
        line(l, indent, t->type.dtype == QN_I64 ? "%s = %s[%si:Nq]" : "%s = i64(%s[%si:Nq])", p,
             t->name, t->type.rank == 2 ? "b, " : "");
    }
}

/* The score as text, after its lets; "%s" or the like. */
static qn_sym score(lowering *l, int indent, const qn_spec_group *g, const char *keep)
{
    qn_sym s = NULL;
    if (g->uses_product) {
        bool alone = !g->score;
        const char *qs = input(l, "q", "b, h, i:Nq, d:D"), *ks = input(l, "k", "b, %g, j:Nk, d:D");
        lets(l, indent, g->scale, NULL);
        const qn_expr *by = tiled(l, g->scale->results[0]);
        bool one = by->kind == QN_LIT && by->u.lit.f == 1.0;
        bool sum = by->kind == QN_OP && qn_op_info_of(by->u.op.op)->precedence <= 4;
        s = fresh(l, alone ? "%s" : "%qk");
        if (one) {
            line(l, indent, "%s = dot(%s, %s, over d)", s, qs, ks);
        } else {
            line(l, indent,
                 sum ? "%s = dot(%s, %s, over d) * (%s)" : "%s = dot(%s, %s, over d) * %s", s, qs,
                 ks, text(l, by));
        }
        bind(l, "s", qn_name(l->ir, s));
    }
    if (g->score) {
        lets(l, indent, g->score, keep);
        const char *x = text(l, tiled(l, g->score->results[0]));
        s = fresh(l, "%s");
        if (g->uses_product) {
            line(l, indent, "%s = %s", s, x);
        } else { /* a score of neither rows nor keys still has their axes */
            line(l, indent, "%s = select(i:Nq < Nq and j:Nk < Nk, %s, -inf)", s, x);
        }
    }
    return s;
}

static const char *stored(lowering *l, const char *x, qn_dtype to)
{
    qn_buf b = qn_buf_of(l->ir->arena);
    qn_buf_printf(&b, to == l->s->number ? "%s%s" : "%s(%s)",
                  to == l->s->number ? "" : qn_dtype_name(to), x);
    return b.text;
}

static void body(lowering *l, int indent, const qn_spec_group *g, bool listed)
{
    static const char *const fixed[] = {"%g", "%gv", "%keep", "%o", "%lse", "%top"};
    const char *end = listed ? " !disjoint" : "";
    const qn_dtype out = qn_spec_param_of(l->s, qn_intern(l->ir, "q"))->type.dtype;
    l->used.count = l->map.count = 0;
    for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++) {
        fresh(l, fixed[k]);
    }
    for (int k = 0; k < l->s->tables.count; k++) {
        qn_buf b = qn_buf_of(l->ir->arena);
        qn_buf_printf(&b, "%%%s", l->s->tables.at[k].name);
        fresh(l, b.text);
    }
    if (listed) { /* a list gives i32 */
        bind(l, "h", qn_name_of(l->ir, "h"));
    }
    if (g->uses_product) {
        line(l, indent, "%%g = h * Hk // Hq");
    }
    line(l, indent, "%%gv = h * Hv // Hq");
    positions(l, indent, g);
    const char *keep = NULL;
    if (g->mask) {
        lets(l, indent, g->mask, NULL);
        line(l, indent, "%%keep = %s", text(l, tiled(l, g->mask->results[0])));
        keep = "%keep";
    }
    qn_sym s = score(l, indent, g, keep);
    lets(l, indent, g->extra, NULL);
    qn_buf extra = qn_buf_of(l->ir->arena);
    qn_buf_puts(&extra, "");
    for (int k = 0; g->extra && k < g->extra->nresults; k++) {
        qn_buf_printf(&extra, ", %s", text(l, tiled(l, g->extra->results[k])));
    }
    line(l, indent, "%%o%s%s = fold %s(%s, %s%s, over j%s)", l->s->out_lse ? ", %lse" : "",
         l->s->out_max ? ", %top" : "", g->norm->name, s, input(l, "v", "b, %gv, j:Nk, e:Dv"),
         extra.text, keep ? ", where %keep" : "");
    const char *o = "%o";
    if (g->out) {
        bind(l, "o", qn_name_of(l->ir, "%o"));
        lets(l, indent, g->out, NULL);
        o = text(l, tiled(l, g->out->results[0]));
    }
    line(l, indent, "store o[b, h, i:Nq, e:Dv] = %s%s", stored(l, o, out), end);
    if (l->s->out_lse) {
        line(l, indent, "store lse[b, h, i:Nq] = %%lse%s", end);
    }
    if (l->s->out_max) {
        line(l, indent, "store row_max[b, h, i:Nq] = %%top%s", end);
    }
}

typedef struct iota_swap {
    lowering *l;
    qn_sym axis;
    qn_expr *by;
} iota_swap;

static qn_expr *swap_iota(void *user, qn_expr *x)
{
    const iota_swap *w = user;
    return x->kind == QN_IOTA && x->u.iota.name == w->axis ? w->by : x;
}

/* The table's value in pieces of 256 along its first axis, so that it is made by many tasks. */
static void tables(lowering *l, int indent)
{
    for (int k = 0; k < l->s->tables.count; k++) {
        const qn_spec_table *t = &l->s->tables.at[k];
        qn_extent e = t->type.axes[0].extent;
        qn_expr *piece = qn_iota(l->ir, qn_intern(l->ir, "u"), qn_extent_n(256));
        iota_swap swap = {l, t->type.axes[0].name,
                          qn_op2(l->ir, QN_OP_ADD, qn_name_of(l->ir, "u0"), piece)};
        qn_expr *value = qn_rewrite(l->ir, t->value, swap_iota, &swap);
        line(l, indent, "par for u0 in 0..%s step 256 {", text(l, qn_extent_expr(l->ir, e)));
        line(l, indent + 1, "store %%%s[u0 + u:256] = %s", t->name, text(l, value));
        line(l, indent, "}");
    }
}

/* Which group takes head `h`, as an expression: the first whose condition holds, else the count. */
static qn_expr *chooser(lowering *l, int indent)
{
    int n = l->s->groups.count;
    qn_expr *x = qn_int(l->ir, n);
    for (int k = n - 1; k >= 0; k--) {
        const qn_spec_fn *w = l->s->groups.at[k].when;
        lets(l, indent, w, NULL);
        x = w ? qn_op3(l->ir, QN_OP_SELECT, tiled(l, w->results[0]), qn_int(l->ir, k), x)
              : qn_int(l->ir, k);
    }
    return x;
}

static void head_lists(lowering *l, int indent)
{
    int n = l->s->groups.count;
    qn_expr *all = qn_iota(l->ir, qn_intern(l->ir, "u"), qn_extent_dim(qn_intern(l->ir, "Hq")));
    line(l, indent, "par for h in 0..Hq {");
    l->used.count = l->map.count = 0;
    const char *mine = text(l, chooser(l, indent + 1));
    qn_sym group = fresh(l, "%group");
    line(l, indent + 1, "%s = %s", group, mine);
    bind(l, "h", all);
    const char *of_all = text(l, chooser(l, indent + 1));
    qn_sym groups = fresh(l, "%groups"), place = fresh(l, "%place");
    line(l, indent + 1, "%s = %s", groups, of_all);
    line(l, indent + 1, "%s = reduce.sum(i64(%s == %s and u:Hq < h), over u)", place, groups,
         group);
    if (l->s->groups.at[n - 1].when) {
        line(l, indent + 1, "flag(%s == %d, E_INDEX)", group, n);
    }
    line(l, indent + 1, "store %%head[%s, %s] = i32(h) !disjoint", group, place);
    line(l, indent, "}");
    line(l, indent, "par for u1 in 0..%d {", n);
    l->used.count = l->map.count = 0;
    bind(l, "h", all);
    of_all = text(l, chooser(l, indent + 1));
    line(l, indent + 1, "store %%heads[u1] = reduce.sum(i32(%s == u1), over u)", of_all);
    line(l, indent, "}");
}

static void head_of_kernel(lowering *l)
{
    const qn_spec *s = l->s;
    const qn_param *q = qn_spec_param_of(s, qn_intern(l->ir, "q"));
    const char *out = qn_dtype_name(q->type.dtype), *row = qn_dtype_name(s->number);
    line(l, 0, "kernel %s !level(naive) {", s->name);
    for (int k = 0; k < s->dims.count; k++) {
        const qn_dim *d = &s->dims.at[k];
        line(l, 1, d->value ? "dim %s = %s" : "dim %s", d->name, d->value ? text(l, d->value) : "");
    }
    for (int scalars = 0; scalars < 2; scalars++) {
        for (int k = 0; k < s->params.count; k++) {
            const qn_param *p = &s->params.at[k];
            if ((p->type.rank == 0) == (scalars != 0)) {
                line(l, 1, p->value ? "in %s: %s = %s" : "in %s: %s", p->name,
                     qn_type_text(l->ir->arena, &p->type), p->value ? text(l, p->value) : "");
            }
        }
    }
    line(l, 1, "out o: %s[b:B, h:Hq, i:Nq, e:Dv]", out);
    if (s->out_lse) {
        line(l, 1, "out lse: %s[b:B, h:Hq, i:Nq]", row);
    }
    if (s->out_max) {
        line(l, 1, "out row_max: %s[b:B, h:Hq, i:Nq]", row);
    }
    for (int k = 0; k < s->requires.count; k++) {
        line(l, 1, "require %s, \"%s\"", text(l, s->requires.at[k].cond), s->requires.at[k].text);
    }
}

qn_ir_file *qn_lower(qn_ir *ir, const qn_spec *s, qn_diags *d)
{
    lowering l = {.ir = ir, .s = s, .out = qn_buf_of(ir->arena)};
    bool mixture = s->groups.count > 1 || (s->groups.count == 1 && s->groups.at[0].when);
    for (int k = 0; k < s->groups.count; k++) {
        qn_print_norm(s->groups.at[k].norm, &l.out);
    }
    head_of_kernel(&l);
    for (int k = 0; k < s->tables.count; k++) {
        const qn_spec_table *t = &s->tables.at[k];
        line(&l, 1, "buf %%%s: %s in call", t->name, qn_type_text(ir->arena, &t->type));
    }
    if (mixture) {
        line(&l, 1, "buf %%head: i32[n:%d, h:Hq] in call", s->groups.count);
        line(&l, 1, "buf %%heads: i32[n:%d] in call", s->groups.count);
    }
    if (mixture || s->tables.count) {
        line(&l, 1, "launch {");
        tables(&l, 2);
        if (mixture) {
            head_lists(&l, 2);
        }
        line(&l, 1, "}");
    }
    line(&l, 1, "launch {");
    for (int k = 0; k < s->groups.count; k++) {
        const qn_spec_group *g = &s->groups.at[k];
        if (mixture) {
            line(&l, 2, "par for b in 0..B, h in list %%head[%d, 0..%%heads[%d]] !name(%s) {", k, k,
                 g->name + 1);
        } else {
            line(&l, 2, "par for b in 0..B, h in 0..Hq {");
        }
        body(&l, 3, g, mixture);
        line(&l, 2, "}");
    }
    line(&l, 1, "}");
    line(&l, 0, "}");
    int errors = d->errors;
    qn_ir_file *f = qn_parse(ir, l.out.text, l.out.length, d);
    if (!f && d->errors > errors) { /* ours: the text that came out goes with the report */
        d->at[d->count - 1].source = l.out.text;
    }
    return f;
}
