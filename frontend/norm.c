/* SPDX-License-Identifier: MIT
 *
 * Norms of the library and of the user as norms of the IR: written as text and parsed, so that what
 * is checked and streamed is what a reader sees. A user's functions are executed on the symbols s,
 * m, l, a; what in them depends on batch, head and data alone becomes a further argument of the
 * norm. A user's norm is wrapped so that a score of -inf weighs nothing, nothing is carried over
 * from before the first element, and a row without elements gives 0 and an lse of -inf. */
#include "frontend/front.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"

#include <string.h>

enum { MAX_TREE = 4000, MAX_TREE_DEPTH = 120, MAX_EXTRA = 16 };

typedef struct maker {
    qn_front *fr;
    const qn_host_value *host;
    qn_node *extra[MAX_EXTRA]; /* FLT, of b and h */
    int nextra;
    bool failed;
} maker;

/* ---------------------------------------------------------------- a user's functions */

static bool is_outside(const qn_node *n)
{
    return !(n->uses & (QN_USES_S | QN_USES_ROW)) && n->x.kind != QN_LIT &&
           !(qn_node_is_op(n, QN_OP_NEG) && qn_node_arg(n, 0)->x.kind == QN_LIT);
}

static qn_expr *argument(maker *m, qn_node *n)
{
    qn_front *fr = m->fr;
    qn_fval v = qn_fval_node(n);
    qn_node *flt = n->type == QN_N_BOOL ? qn_node_cast(fr, fr->spec->number, QN_N_FLT, n)
                                        : qn_fval_to_flt(fr, &v);
    int k = 0;
    while (k < m->nextra && m->extra[k] != flt) {
        k++;
    }
    if (k == MAX_EXTRA) {
        if (!m->failed) {
            qn_host_error(fr, "E-SIZE", m->host, "this norm reads more than %d values of its head",
                          MAX_EXTRA);
        }
        m->failed = true;
        k = 0;
    } else if (k == m->nextra) {
        m->extra[m->nextra++] = flt;
    }
    qn_expr *x = qn_name_of(fr->ir, qn_diag_text(fr->d, "x%d", k));
    switch (n->type) {
    case QN_N_BOOL:
        return qn_op2(fr->ir, QN_OP_NE, x, qn_float(fr->ir, 0));
    case QN_N_INT:
        return qn_cast(fr->ir, QN_I64, x);
    case QN_N_IDEAL:
        return qn_cast(fr->ir, QN_F64, x);
    case QN_N_FLT:
        break;
    }
    return x;
}

/* The node as one tree over s, m, l, a and further arguments; its text. */
static const char *text_of(maker *m, qn_node *root)
{
    qn_front *fr = m->fr;
    qn_arena *a = fr->ir->arena;
    int count = root->id + 1;
    qn_expr **done = QN_NEWN(a, qn_expr *, count);
    bool *needed = QN_NEWN(a, bool, count);
    int64_t *size = QN_NEWN(a, int64_t, count);
    needed[root->id] = true;
    for (int id = count - 1; id >= 0; id--) {
        const qn_node *n = fr->nodes.at[id];
        for (int k = 0;
             needed[id] && !is_outside(n) && n->x.kind == QN_OP && k < n->x.u.op.args.count; k++) {
            needed[qn_node_arg(n, k)->id] = true;
        }
    }
    for (int id = 0; id < count && !m->failed; id++) {
        qn_node *n = fr->nodes.at[id];
        if (!needed[id]) {
            continue;
        }
        size[id] = 1;
        if (is_outside(n)) {
            done[id] = argument(m, n);
            continue;
        }
        qn_expr *x = QN_NEW(a, qn_expr);
        *x = n->x;
        if (x->kind == QN_OP) {
            qn_expr **args = QN_NEWN(a, qn_expr *, x->u.op.args.count);
            for (int k = 0; k < x->u.op.args.count; k++) {
                args[k] = done[qn_node_arg(n, k)->id];
                size[id] += size[qn_node_arg(n, k)->id];
            }
            x->u.op.args.at = args;
        }
        done[id] = x;
        m->failed |= size[id] > MAX_TREE || n->depth > MAX_TREE_DEPTH || x->kind == QN_LOAD;
        if (m->failed) {
            qn_host_error(fr, "E-SIZE", m->host,
                          x->kind == QN_LOAD ? "a norm's index depends on the score"
                                             : "this norm is too large");
        }
    }
    return m->failed ? "0.0" : qn_expr_text(a, done[root->id]);
}

static qn_fval symbol(qn_front *fr, const char *name, uint32_t uses)
{
    return qn_fval_node(qn_node_name(fr, qn_intern(fr->ir, name), QN_N_FLT, uses));
}

static qn_fval index_symbol(qn_front *fr, const char *name, uint32_t uses)
{
    return qn_fval_node(qn_node_name(fr, qn_intern(fr->ir, name), QN_N_INT, uses));
}

/* Calls a field that is a function; numbers come back as texts. Returns how many, 0 on an error. */
static int call_field(maker *m, const char *key, const qn_fval *args, int n, int most,
                      const char **texts, qn_node **first)
{
    qn_front *fr = m->fr;
    const qn_host_value *f = qn_host_field_of(m->host, key);
    qn_fvals out = {0};
    if (!f || f->kind != QN_HOST_FUNCTION) {
        qn_host_error(fr, "E-SPEC", m->host, "'%s' of a norm must be a function", key);
        m->failed = true;
        return 0;
    }
    if (!qn_call_function(fr, f, args, n, &out, f->place)) {
        m->failed = true;
        return 0;
    }
    if (out.count < 1 || out.count > most) {
        qn_host_error(fr, "E-RETURN", f, "'%s' returns %d results", key, out.count);
        m->failed = true;
        return 0;
    }
    for (int k = 0; k < out.count; k++) {
        if (!qn_fval_is_number(&out.at[k])) {
            qn_host_error(fr, "E-RETURN", f, "'%s' returns %s, not a number", key,
                          qn_fval_describe(&out.at[k]));
            m->failed = true;
            return 0;
        }
        qn_node *node = qn_fval_to_flt(fr, &out.at[k]);
        if (k == 0 && first) {
            *first = node;
        }
        texts[k] = text_of(m, node);
    }
    return m->failed ? 0 : out.count;
}

static bool mentions(qn_front *fr, const qn_node *root, const char *name)
{
    qn_sym s = qn_intern(fr->ir, name);
    bool *in = QN_NEWN(fr->ir->arena, bool, root->id + 1);
    in[root->id] = true;
    for (int id = root->id; id >= 0; id--) {
        const qn_node *n = fr->nodes.at[id];
        if (!in[id]) {
            continue;
        }
        if (n->x.kind == QN_NAME && n->x.u.name == s) {
            return true;
        }
        for (int k = 0; n->x.kind == QN_OP && k < n->x.u.op.args.count; k++) {
            in[qn_node_arg(n, k)->id] = true;
        }
    }
    return false;
}

/* o times something: 0 where there is no element, without being told. */
static bool is_multiple(const qn_node *n)
{
    if (n->x.kind == QN_NAME && strcmp(n->x.u.name, "a") == 0) {
        return true;
    }
    bool mul = qn_node_is_op(n, QN_OP_MUL), div = qn_node_is_op(n, QN_OP_DIV);
    return (mul || div) && is_multiple(qn_node_arg(n, 0)) && is_outside(qn_node_arg(n, 1));
}

/* ---------------------------------------------------------------- texts */

typedef struct parts { /* NULL: not there */
    const char *stat, *weight, *rescale, *o, *lse, *top;
    bool sum_l;
} parts;

static void user_parts(maker *m, parts *p, bool want_lse)
{
    qn_front *fr = m->fr;
    const qn_host_value *stat = qn_host_field_of(m->host, "stat");
    const char *kind = stat && stat->kind == QN_HOST_STRING ? stat->u.string.text : "none";
    if (strcmp(kind, "none") != 0) {
        p->stat = kind;
        if (strcmp(kind, "max") != 0 && strcmp(kind, "min") != 0 && strcmp(kind, "sum") != 0) {
            qn_host_error(fr, "E-SPEC", m->host, "stat = \"%s\" is none of max, min, sum, none",
                          kind);
            m->failed = true;
            return;
        }
    }
    const char *empty = !p->stat                      ? "l == 0.0"
                        : strcmp(p->stat, "max") == 0 ? "m == -inf"
                        : strcmp(p->stat, "min") == 0 ? "m == inf"
                                                      : "l == 0.0";
    qn_fval nil = {.kind = QN_V_NIL};
    qn_fval s = symbol(fr, "s", QN_USES_S), mm = p->stat ? symbol(fr, "m", QN_USES_ROW) : nil;
    qn_fval b = index_symbol(fr, "b", QN_USES_B), h = index_symbol(fr, "h", QN_USES_H);
    const char *texts[2] = {"0.0", "0.0"};
    qn_node *first = NULL;
    call_field(m, "weight", (qn_fval[]){s, mm, b, h}, 4, 1, texts, NULL);
    p->weight = qn_diag_text(fr->d, "select(s == -inf, 0.0, %s)", texts[0]);
    if (!m->failed && qn_host_field_of(m->host, "rescale")) {
        if (!p->stat) {
            qn_host_error(fr, "E-SPEC", m->host, "a norm without a stat has nothing to rescale");
            m->failed = true;
            return;
        }
        qn_fval m0 = symbol(fr, "m0", QN_USES_ROW), m1 = symbol(fr, "m1", QN_USES_ROW);
        call_field(m, "rescale", (qn_fval[]){m0, m1, b, h}, 4, 1, texts, NULL);
        p->rescale = strcmp(p->stat, "sum") == 0
                         ? texts[0]
                         : qn_diag_text(fr->d, "select(m0 == %s, 0.0, %s)",
                                        strcmp(p->stat, "max") == 0 ? "-inf" : "inf", texts[0]);
    }
    p->o = "a";
    int n = 1;
    if (!m->failed && qn_host_field_of(m->host, "finish")) {
        qn_fval l = symbol(fr, "l", QN_USES_ROW), o = symbol(fr, "a", QN_USES_ROW);
        n = call_field(m, "finish", (qn_fval[]){o, l, mm, b, h}, 5, 2, texts, &first);
        p->sum_l = first && (n > 1 || mentions(fr, first, "l"));
        if (first && !is_multiple(first)) {
            p->sum_l |= strcmp(empty, "l == 0.0") == 0;
            p->o = qn_diag_text(fr->d, "select(%s, 0.0, %s)", empty, texts[0]);
        } else {
            p->o = texts[0];
        }
        p->sum_l |= n > 1;
        p->lse = n > 1 ? qn_diag_text(fr->d, "select(%s, -inf, %s)", empty, texts[1]) : NULL;
    }
    if (want_lse && !p->lse && !m->failed) {
        qn_host_error(fr, "E-OUTPUT", m->host, "this norm has no lse")->help =
            "return it as a second result of `finish`";
        m->failed = true;
    }
}

#define SOFTMAX_WEIGHT  "select(s == -inf, 0.0, exp(s - m))"
#define SOFTMAX_RESCALE "select(m0 == -inf, 0.0, exp(m0 - m1))"

static void sink_parts(maker *m, parts *p, const qn_host_value *sink)
{
    qn_front *fr = m->fr;
    qn_fval v = qn_fval_of_host(fr, sink);
    if (v.kind == QN_V_TENSOR) {
        qn_fval h = index_symbol(fr, "h", QN_USES_H);
        fr->chunk = sink->chunk;
        v = qn_tensor_element(fr, &v, &h, sink->place);
    } else if (v.kind == QN_V_FUNCTION) {
        qn_fvals out = {0};
        qn_fval args[2] = {index_symbol(fr, "b", QN_USES_B), index_symbol(fr, "h", QN_USES_H)};
        bool good = qn_call_function(fr, sink, args, 2, &out, sink->place);
        v = good && out.count ? out.at[0] : (qn_fval){.kind = QN_V_BAD};
    }
    if (!qn_fval_is_number(&v)) {
        if (v.kind != QN_V_BAD) {
            qn_host_error(fr, "E-SPEC", sink, "a sink is a number for a head, not %s",
                          qn_fval_describe(&v))
                ->help = "a tensor over Hq, a parameter, a number, or function(b, h)";
        }
        m->failed = true;
        return;
    }
    m->extra[m->nextra++] = qn_fval_to_flt(fr, &v);
    /* The sink takes part in the maximum, so that nothing overflows; a sink of -inf is none. */
    const char *top = "max(m, x0)", *den = "(l * rescale(m, max(m, x0)) + weight(x0, max(m, x0)))";
    p->o = qn_diag_text(fr->d, "select(%s > 0.0, a * rescale(m, %s) / %s, 0.0)", den, top, den);
    p->lse = qn_diag_text(fr->d, "select(%s > 0.0, %s + log(%s), -inf)", den, top, den);
}

static void library_parts(maker *m, parts *p, const char *kind, bool want_lse)
{
    const qn_host_value *sink = qn_host_field_of(m->host, "sink");
    static const struct {
        const char *kind, *weight, *o;
        bool sum_l;
    } rows[] = {
        {"sigmoid", "sigmoid(s)", "a", false},
        {"relu", "max(s, 0.0)", "a", false},
        {"relu2", "max(s, 0.0) * max(s, 0.0)", "a", false},
        {"none", "select(s == -inf, 0.0, s)", "a", false},
        {"linear", "select(s == -inf, 0.0, s)", "select(l == 0.0, 0.0, a / l)", true},
    };
    if (strcmp(kind, "softmax") == 0) {
        *p = (parts){
            .stat = "max", .weight = SOFTMAX_WEIGHT, .rescale = SOFTMAX_RESCALE, .sum_l = true};
        p->o = "select(l > 0.0, a / l, 0.0)";
        p->lse = "select(l > 0.0, m + log(l), -inf)";
        if (sink && sink->kind != QN_HOST_NIL) {
            sink_parts(m, p, sink);
        }
        return;
    }
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        if (strcmp(rows[k].kind, kind) == 0) {
            *p = (parts){.weight = rows[k].weight, .o = rows[k].o, .sum_l = rows[k].sum_l};
            if (want_lse) {
                qn_host_error(m->fr, "E-OUTPUT", m->host, "the norm '%s' has no lse", kind);
                m->failed = true;
            }
            return;
        }
    }
    qn_host_error(m->fr, "E-SPEC", m->host, "'%s' is no norm", kind)->help =
        "softmax sigmoid relu relu2 linear none, or a table with stat, weight, rescale, finish";
    m->failed = true;
}

static void put_text(qn_buf *b, const char *name, int nextra, const parts *p, bool lse, bool top)
{
    qn_buf_printf(b, "norm %s(s, v", name);
    for (int k = 0; k < nextra; k++) {
        qn_buf_printf(b, ", x%d", k);
    }
    qn_buf_printf(b, ") -> (o%s%s) {\n", lse ? ", lse" : "", top ? ", top" : "");
    if (p->stat) {
        qn_buf_printf(b, "  stat m = %s(s)\n", p->stat);
    } else {
        qn_buf_puts(b, "  stat none\n");
    }
    qn_buf_printf(b, "  weight %s\n", p->weight);
    if (p->rescale) {
        qn_buf_printf(b, "  rescale(m0, m1) %s\n", p->rescale);
    }
    if (p->sum_l) {
        qn_buf_puts(b, "  sum l = 1.0\n");
    }
    qn_buf_printf(b, "  sum a = v\n  finish o = %s", p->o);
    if (lse) {
        qn_buf_printf(b, ", lse = %s", p->lse);
    }
    qn_buf_printf(b, "%s\n}\n", top ? ", top = m" : "");
}

static bool is_user(const qn_host_value *host)
{
    const qn_host_value *kind = qn_host_field_of(host, "kind");
    return host &&
           (!kind || kind->kind != QN_HOST_STRING || strcmp(kind->u.string.text, "user") == 0);
}

/* Samples the laws; what fails is said with its numbers, at the function that must mend it. */
static bool obeys_laws(qn_front *fr, const qn_host_value *host, const qn_norm *n)
{
    qn_diags laws;
    qn_diags_init(&laws, fr->ir->arena, NULL, NULL);
    if (qn_verify_norm_laws(fr->ir, n, &laws)) {
        return true;
    }
    const qn_host_value *rescale = qn_host_field_of(host, "rescale");
    for (int k = 0; k < laws.count; k++) {
        qn_host_error(fr, "E-LAW", rescale ? rescale : host, "%s", laws.at[k].text)->help =
            "weight(s, m2) = weight(s, m1) * rescale(m1, m2), and rescale composes; without "
            "`rescale` "
            "the norm is computed whole";
    }
    return false;
}

qn_norm *qn_norm_make(qn_front *fr, const qn_host_value *host, qn_sym name, bool want_lse,
                      bool want_max, const qn_spec_fn **extra)
{
    static const qn_host_value softmax = {.kind = QN_HOST_TABLE};
    maker m = {.fr = fr, .host = host ? host : &softmax};
    parts p = {0};
    const qn_host_value *kind = qn_host_field_of(m.host, "kind");
    const char *word = kind && kind->kind == QN_HOST_STRING ? kind->u.string.text
                       : host                               ? "user"
                                                            : "softmax";
    fr->flags.count = 0;
    if (strcmp(word, "user") == 0) {
        user_parts(&m, &p, want_lse);
    } else {
        library_parts(&m, &p, word, want_lse);
    }
    if (want_max && !p.stat && !m.failed) { /* the maximum alone is carried */
        p.stat = "max";
        p.rescale = "1.0";
    }
    if (want_max && !m.failed && strcmp(p.stat, "max") != 0) {
        qn_host_error(fr, "E-OUTPUT", m.host, "a norm with stat = \"%s\" has no max", p.stat);
        m.failed = true;
    }
    if (m.failed) {
        return NULL;
    }
    qn_buf b = qn_buf_of(fr->ir->arena);
    put_text(&b, name, m.nextra, &p, want_lse, want_max);
    qn_ir_file *f = qn_parse(fr->ir, b.text, b.length, fr->d);
    qn_norm *n = f ? qn_file_norm(f, name) : NULL;
    if (!n) {
        return NULL;
    }
    qn_expr **flags = QN_NEWN(fr->ir->arena, qn_expr *, fr->flags.count + 1);
    int nflags = 0;
    for (int k = 0; k < fr->flags.count; k++) { /* of b and h alone: others need a score */
        const qn_node *c = (const qn_node *)fr->flags.at[k];
        if (!(c->uses & (QN_USES_S | QN_USES_ROW))) {
            flags[nflags++] = fr->flags.at[k];
        }
    }
    *extra = m.nextra || nflags ? qn_node_function(fr, m.extra, m.nextra, flags, nflags) : NULL;
    fr->flags.count = 0;
    return !is_user(host) || obeys_laws(fr, m.host, n) ? n : NULL;
}
