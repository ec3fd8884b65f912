/* SPDX-License-Identifier: MIT
 *
 * The tree of the host to a spec: knobs are found and typed, functions executed, masks composed,
 * norms made, parameters put in the order of a call. Everything wrong is said, not only the first.
 */
#include "frontend/front.h"

#include <stdlib.h>
#include <string.h>

enum { FUEL = 2000000, MAX_MASK_DEPTH = 64 };

static const char *const group_knobs[] = {"mask", "norm", "out", "scale", "score", "when"};
static const char *const top_knobs[] = {"heads",   "mask",     "name",  "norm", "out",
                                        "outputs", "position", "scale", "score"};

typedef struct document { /* a table made of offsets, once for equal ones */
    const qn_host_value *cu;
    qn_sym name;
    qn_extent count;
} document;

typedef struct checker {
    qn_front fr;
    struct {
        document *at;
        int32_t count, cap;
    } documents;
} checker;

static bool is_nil(const qn_host_value *v)
{
    return !v || v->kind == QN_HOST_NIL;
}

static bool tagged(const qn_host_value *v, const char *tag)
{
    return v && v->kind == QN_HOST_TABLE && v->u.table.tag && strcmp(v->u.table.tag, tag) == 0;
}

static const char *describe(checker *c, const qn_host_value *v)
{
    qn_fval x = {.kind = QN_V_TABLE};
    if (v->kind == QN_HOST_TABLE && v->u.table.tag) {
        return qn_diag_text(c->fr.d, "qn.%s", v->u.table.tag);
    }
    if (v->kind != QN_HOST_TABLE) {
        x = qn_fval_of_host(&c->fr, v);
    }
    return qn_fval_describe(&x);
}

/* ---------------------------------------------------------------- functions */

static void begin(checker *c)
{
    c->fr.flags.count = 0;
    c->fr.path.count = 0;
    c->fr.exhausted = false;
    c->fr.depth = 0;
    c->fr.fuel = FUEL;
}

/* A given order of nodes as a function, with the flags raised since begin(). */
static const qn_spec_fn *finish(checker *c, qn_node *const *results, int n)
{
    return qn_node_function(&c->fr, results, n, c->fr.flags.at, c->fr.flags.count);
}

/* One number or boolean from a function; BAD after errors. */
static qn_fval one_result(checker *c, const qn_host_value *f, const qn_fval *args, int n,
                          const char *knob)
{
    qn_fvals out = {0};
    if (!qn_call_function(&c->fr, f, args, n, &out, f->place)) {
        return (qn_fval){.kind = QN_V_BAD};
    }
    if (out.count != 1) {
        qn_host_error(&c->fr, "E-RETURN", f, "'%s' returns %d results instead of one", knob,
                      out.count);
        return (qn_fval){.kind = QN_V_BAD};
    }
    return out.at[0];
}

static qn_fval index_of(checker *c, const char *name, uint32_t uses)
{
    return qn_fval_node(qn_node_name(&c->fr, qn_intern(c->fr.ir, name), QN_N_INT, uses));
}

typedef struct indices {
    qn_fval b, h, i, j, d;
} indices;

static indices all_indices(checker *c)
{
    return (indices){index_of(c, "b", QN_USES_B), index_of(c, "h", QN_USES_H),
                     index_of(c, "i", QN_USES_I), index_of(c, "j", QN_USES_J),
                     index_of(c, "d", QN_USES_D)};
}

static qn_node *number_result(checker *c, const qn_host_value *f, const qn_fval *v,
                              const char *knob)
{
    if (v->kind == QN_V_BAD) {
        return NULL;
    }
    if (!qn_fval_is_number(v)) {
        qn_host_error(&c->fr, "E-RETURN", f, "'%s' returns %s, not a number", knob,
                      qn_fval_describe(v));
        return NULL;
    }
    return qn_fval_to_flt(&c->fr, v);
}

static qn_node *bool_result(checker *c, const qn_host_value *f, const qn_fval *v, const char *knob)
{
    if (v->kind == QN_V_BAD) {
        return NULL;
    }
    if (v->kind != QN_V_BOOL && !(v->kind == QN_V_NODE && v->node->type == QN_N_BOOL)) {
        qn_host_error(&c->fr, "E-RETURN", f, "'%s' returns %s, not a boolean", knob,
                      qn_fval_describe(v))
            ->help = "compare with something, such as ~= 0";
        return NULL;
    }
    return qn_fval_to_bool(&c->fr, v);
}

/* ---------------------------------------------------------------- masks */

/* The document number of each flat index: how many entries of cu are not above it. */
static const document *document_of(checker *c, const qn_host_value *mask)
{
    qn_front *fr = &c->fr;
    const qn_host_value *cu = qn_host_field_of(mask, "cu");
    for (int k = 0; k < c->documents.count; k++) {
        if (c->documents.at[k].cu == cu) {
            return &c->documents.at[k];
        }
    }
    if (!tagged(cu, "tensor")) {
        qn_host_error(fr, "E-SPEC", mask, "qn.document takes a tensor of offsets")->help =
            "qn.tensor(\"cu\", \"i32\", { \"Ndoc+1\" })";
        return NULL;
    }
    qn_tensor *t = qn_tensor_of(fr, cu);
    if (t->sound && (t->rank != 1 || !qn_dtype_is_int(t->dtype))) {
        qn_host_error(fr, "E-RANK", cu, "the offsets of qn.document are integers in one dimension");
        return NULL;
    }
    if (!t->sound) {
        return NULL;
    }
    t->used = true;
    document d = {cu, NULL, t->axes[0].extent};
    d.name = qn_intern(
        fr->ir, c->documents.count ? qn_diag_text(fr->d, "seg%d", c->documents.count + 1) : "seg");
    qn_sym j = qn_intern(fr->ir, "j"), x0 = t->axes[0].name;
    qn_axis keys = {j, qn_extent_dim(qn_intern(fr->ir, "Nk"))};
    qn_expr *entry =
        qn_load(fr->ir, t->name, (qn_expr *[]){qn_iota(fr->ir, x0, d.count)}, 1, false, NULL);
    qn_expr *below =
        qn_op2(fr->ir, QN_OP_LE, qn_cast(fr->ir, QN_I64, entry), qn_iota(fr->ir, j, keys.extent));
    qn_expr *sum =
        qn_axop1(fr->ir, QN_AX_REDUCE_SUM, qn_cast(fr->ir, QN_I32, below), (qn_sym[]){x0}, 1);
    qn_spec_table table = {d.name, qn_type_of(fr->ir, QN_I32, &keys, 1), sum};
    QN_PUSH(fr->ir->arena, &fr->spec->tables, table);
    QN_PUSH(fr->ir->arena, &c->documents, d);
    return &c->documents.at[c->documents.count - 1];
}

/* Same document by flat index (row + Nk - Nq, j); what lies outside of every document is masked. */
static qn_node *document_mask(checker *c, const qn_host_value *mask)
{
    qn_front *fr = &c->fr;
    const document *d = document_of(c, mask);
    if (!d) {
        return NULL;
    }
    qn_node *j = qn_node_name(fr, qn_intern(fr->ir, "j"), QN_N_INT, QN_USES_J);
    qn_node *flat = qn_name_position(fr);
    if (fr->spec->position != QN_POSITION_LAST) {
        qn_node *nk = qn_dim_node(fr, qn_intern(fr->ir, "Nk")),
                *nq = qn_dim_node(fr, qn_intern(fr->ir, "Nq"));
        flat = qn_node_op2(fr, QN_OP_ADD, QN_N_INT, qn_name_row(fr),
                           qn_node_op2(fr, QN_OP_SUB, QN_N_INT, nk, nq));
    }
    qn_node *count = d->count.dim ? qn_dim_node(fr, d->count.dim) : qn_node_int(fr, d->count.n);
    qn_node *of_j =
        qn_node_cast(fr, QN_I64, QN_N_INT, qn_node_load(fr, d->name, &j, 1, false, QN_N_INT));
    qn_node *of_i =
        qn_node_cast(fr, QN_I64, QN_N_INT, qn_node_load(fr, d->name, &flat, 1, true, QN_N_INT));
    qn_node *same = qn_node_op2(fr, QN_OP_EQ, QN_N_BOOL, of_j, of_i);
    qn_node *first = qn_node_op2(fr, QN_OP_GE, QN_N_BOOL, of_j, qn_node_int(fr, 1));
    return qn_and(fr, qn_and(fr, same, first), qn_node_op2(fr, QN_OP_LT, QN_N_BOOL, of_j, count));
}

static qn_node *mask_node(checker *c, const qn_host_value *mask, int depth)
{
    qn_front *fr = &c->fr;
    if (depth > MAX_MASK_DEPTH) {
        qn_host_error(fr, "E-DEPTH", mask, "masks are composed more than %d deep", MAX_MASK_DEPTH);
        return NULL;
    }
    if (mask->kind == QN_HOST_BOOL) {
        return qn_node_bool(fr, mask->u.b);
    }
    if (mask->kind == QN_HOST_FUNCTION) {
        indices x = all_indices(c);
        qn_fval args[] = {x.b, x.h, x.i, x.j};
        qn_fval v = one_result(c, mask, args, 4, "mask");
        return bool_result(c, mask, &v, "mask");
    }
    if (tagged(mask, "document")) {
        return document_mask(c, mask);
    }
    bool is_and = tagged(mask, "and"), is_or = tagged(mask, "or"), is_not = tagged(mask, "not");
    int n = mask->kind == QN_HOST_TABLE ? mask->u.table.nitems : 0;
    if (n < 1 || (!is_and && !is_or && !is_not)) {
        qn_host_error(fr, "E-SPEC", mask,
                      "a mask is a function, a standard mask or a composition, not %s",
                      describe(c, mask));
        return NULL;
    }
    qn_node *all = mask_node(c, mask->u.table.items[0], depth + 1);
    if (is_not) {
        return all ? qn_not(fr, all) : NULL;
    }
    int base = fr->path.count;
    bool good = all != NULL;
    for (int k = 1; k < n; k++) {
        if (all) { /* what comes later is looked at where it decides */
            qn_fact p = {all, is_and};
            QN_PUSH(fr->ir->arena, &fr->path, p);
        }
        qn_node *x = mask_node(c, mask->u.table.items[k], depth + 1);
        good &= x != NULL;
        if (all && x) {
            qn_fval a = qn_fval_node(all), b = qn_fval_node(x);
            all = qn_binary(fr, is_and ? QN_LUA_AND : QN_LUA_OR, &a, &b, mask->place).node;
        }
    }
    fr->path.count = base;
    return good ? all : NULL;
}

/* ---------------------------------------------------------------- groups */

static const qn_host_value *knob_of(const qn_host_value *group, const qn_host_value *top,
                                    const char *key)
{
    const qn_host_value *v = group ? qn_host_field_of(group, key) : NULL;
    return v ? v : qn_host_field_of(top, key);
}

static bool reaches(checker *c, const qn_node *root, const char *name)
{
    qn_front *fr = &c->fr;
    qn_sym s = qn_intern(fr->ir, name);
    bool *in = QN_NEWN(fr->ir->arena, bool, root->id + 1);
    in[root->id] = true;
    for (int id = root->id; id >= 0; id--) {
        const qn_expr *x = &fr->nodes.at[id]->x;
        if (!in[id]) {
            continue;
        }
        if (x->kind == QN_NAME && x->u.name == s) {
            return true;
        }
        qn_exprs below = x->kind == QN_OP     ? x->u.op.args
                         : x->kind == QN_LOAD ? x->u.load.index
                                              : (qn_exprs){NULL, 0};
        for (int k = 0; k < below.count; k++) {
            in[((const qn_node *)below.at[k])->id] = true;
        }
    }
    return false;
}

static void make_score(checker *c, qn_spec_group *g, const qn_host_value *score)
{
    qn_front *fr = &c->fr;
    g->uses_product = true;
    if (is_nil(score)) {
        return;
    }
    const qn_host_value *const one[] = {score};
    bool list = score->kind == QN_HOST_TABLE && !score->u.table.tag && score->u.table.nitems > 0;
    const qn_host_value *const *fs = list ? score->u.table.items : one;
    int n = list ? score->u.table.nitems : 1;
    qn_node *start = qn_node_name(fr, qn_intern(fr->ir, "s"), QN_N_FLT, QN_USES_S), *s = start;
    indices x = all_indices(c);
    begin(c);
    for (int k = 0; k < n && s; k++) {
        if (fs[k]->kind != QN_HOST_FUNCTION) {
            qn_host_error(fr, "E-SPEC", fs[k]->place.line ? fs[k] : score,
                          "'score' is function(s, b, h, i, j), not %s", describe(c, fs[k]));
            return;
        }
        qn_fval args[] = {qn_fval_node(s), x.b, x.h, x.i, x.j};
        qn_fval v = one_result(c, fs[k], args, 5, "score");
        s = number_result(c, fs[k], &v, "score");
    }
    if (s && s != start) {
        g->score = finish(c, &s, 1);
        g->uses_product = reaches(c, s, "s");
    }
}

static void make_scale(checker *c, qn_spec_group *g, const qn_host_value *scale)
{
    qn_front *fr = &c->fr;
    begin(c);
    qn_node *x;
    if (is_nil(scale)) {
        qn_fval d = qn_fval_node(qn_dim_node(fr, qn_intern(fr->ir, "D")));
        x = qn_node_op1(fr, QN_OP_RSQRT, QN_N_FLT, qn_fval_to_flt(fr, &d));
    } else {
        indices at = all_indices(c);
        qn_fval v = qn_fval_of_host(fr, scale);
        if (v.kind == QN_V_TENSOR) {
            fr->chunk = scale->chunk;
            v = qn_tensor_element(fr, &v, &at.h, scale->place);
        } else if (v.kind == QN_V_FUNCTION) {
            qn_fval args[] = {at.b, at.h};
            v = one_result(c, scale, args, 2, "scale");
        }
        x = number_result(c, scale, &v, "scale");
    }
    if (x) {
        g->scale = finish(c, &x, 1);
    }
}

static void make_out(checker *c, qn_spec_group *g, const qn_host_value *out)
{
    if (is_nil(out)) {
        return;
    }
    if (out->kind != QN_HOST_FUNCTION) {
        qn_host_error(&c->fr, "E-SPEC", out, "'out' is function(o, b, h, i, d), not %s",
                      describe(c, out));
        return;
    }
    begin(c);
    indices x = all_indices(c);
    qn_node *o = qn_node_name(&c->fr, qn_intern(c->fr.ir, "o"), QN_N_FLT, QN_USES_ROW);
    qn_fval args[] = {qn_fval_node(o), x.b, x.h, x.i, x.d};
    qn_fval v = one_result(c, out, args, 5, "out");
    qn_node *y = number_result(c, out, &v, "out");
    if (y) {
        g->out = finish(c, &y, 1);
    }
}

static void make_group(checker *c, const qn_host_value *top, const qn_host_value *group,
                       const char *name)
{
    qn_front *fr = &c->fr;
    qn_spec_group g = {.name = qn_intern(fr->ir, qn_diag_text(fr->d, "@%s", name)),
                       .uses_product = true};
    const qn_host_value *when = group ? qn_host_field_of(group, "when") : NULL;
    const qn_host_value *mask = knob_of(group, top, "mask");
    const qn_host_value *norm = knob_of(group, top, "norm");
    fr->given.count = 0;
    if (!is_nil(when)) {
        begin(c);
        indices x = all_indices(c);
        qn_fval v = when->kind == QN_HOST_FUNCTION ? one_result(c, when, &x.h, 1, "when")
                                                   : qn_fval_of_host(fr, when);
        qn_node *y = bool_result(c, when, &v, "when");
        if (y) {
            g.when = finish(c, &y, 1);
        }
    }
    if (!is_nil(mask)) {
        begin(c);
        qn_node *keep = mask_node(c, mask, 0);
        if (keep) {
            qn_fact all = {keep, true};
            g.mask = finish(c, &keep, 1);
            QN_PUSH(fr->ir->arena, &fr->given, all);
        }
    }
    make_score(c, &g, knob_of(group, top, "score"));
    fr->given.count = 0;
    make_scale(c, &g, knob_of(group, top, "scale"));
    make_out(c, &g, knob_of(group, top, "out"));
    begin(c);
    if (!is_nil(norm) && !tagged(norm, "norm")) {
        qn_host_error(fr, "E-SPEC", norm, "'norm' is one of qn.norm, not %s", describe(c, norm));
    } else {
        qn_sym id = qn_intern(fr->ir, qn_diag_text(fr->d, "@norm_%s", name));
        g.norm = qn_norm_make(fr, is_nil(norm) ? NULL : norm, id, fr->spec->out_lse,
                              fr->spec->out_max, &g.extra);
    }
    QN_PUSH(fr->ir->arena, &fr->spec->groups, g);
}

static void known_knobs(checker *c, const qn_host_value *t, const char *const *names, size_t n,
                        const char *what)
{
    for (int k = 0; k < t->u.table.nfields; k++) {
        const char *key = t->u.table.fields[k].key;
        bool known = false;
        for (size_t m = 0; m < n; m++) {
            known |= strcmp(names[m], key) == 0;
        }
        if (!known) {
            qn_buf b = qn_buf_of(c->fr.ir->arena);
            for (size_t m = 0; m < n; m++) {
                qn_buf_printf(&b, "%s%s", m ? " " : "", names[m]);
            }
            const qn_host_value *v = t->u.table.fields[k].value;
            qn_host_error(&c->fr, "E-SPEC", v->place.line ? v : t, "%s has no knob '%s'", what, key)
                ->help = b.text;
        }
    }
}

static void make_groups(checker *c, const qn_host_value *top)
{
    qn_front *fr = &c->fr;
    const qn_host_value *heads = qn_host_field_of(top, "heads");
    if (is_nil(heads)) {
        make_group(c, top, NULL, "all");
        return;
    }
    int n = heads->kind == QN_HOST_TABLE ? heads->u.table.nitems : 0;
    if (n < 1 || n > 64) {
        qn_host_error(fr, "E-HEADS", heads, "'heads' is a list of 1 to 64 groups");
        return;
    }
    for (int k = 0; k < n; k++) {
        const qn_host_value *g = heads->u.table.items[k];
        if (g->kind != QN_HOST_TABLE) {
            qn_host_error(fr, "E-HEADS", heads, "group %d of 'heads' is %s, not a table", k + 1,
                          describe(c, g));
            continue;
        }
        known_knobs(c, g, group_knobs, sizeof group_knobs / sizeof *group_knobs, "a group");
        if (k + 1 < n && is_nil(qn_host_field_of(g, "when"))) {
            qn_host_error(fr, "E-HEADS", g->place.line ? g : heads,
                          "group %d takes every head: group %d can never be chosen", k + 1, k + 2)
                ->help = "when = function(h) .. end, or put it last";
        }
        make_group(c, top, g, qn_diag_text(fr->d, "g%d", k + 1));
    }
}

/* ---------------------------------------------------------------- frame of the spec */

static void add_tensor(checker *c, const char *name, const char *const axes[4],
                       const char *const dims[4])
{
    qn_front *fr = &c->fr;
    qn_dtype dtype = QN_F32;
    const char *types = fr->options ? fr->options->types : NULL;
    size_t n = strlen(name);
    for (const char *p = types; p && *p;) {
        p += strspn(p, " ,");
        size_t length = strcspn(p, " ,");
        if (length > n && strncmp(p, name, n) == 0 && p[n] == '=') {
            const char *word = qn_arena_text(fr->ir->arena, p + n + 1, length - n - 1);
            if (!qn_dtype_find(word, &dtype) || !qn_dtype_is_float(dtype)) {
                qn_front_error(fr, "E-DTYPE", (qn_place){0},
                               "option types: '%s' is no float for %s", word, name);
                dtype = QN_F32;
            }
        }
        p += length;
    }
    qn_axis at[4];
    for (int k = 0; k < 4; k++) {
        at[k] = (qn_axis){qn_intern(fr->ir, axes[k]), qn_extent_dim(qn_intern(fr->ir, dims[k]))};
    }
    qn_param p = {.direction = QN_IN,
                  .name = qn_intern(fr->ir, name),
                  .type = qn_type_of(fr->ir, dtype, at, 4)};
    QN_PUSH(fr->ir->arena, &fr->spec->params, p);
}

/* "D=64 Dv=64"; fixed dims that nothing names yet are kept for those that will. */
static bool option_dim(checker *c, const char *name, int64_t *out)
{
    size_t n = strlen(name);
    for (const char *p = c->fr.options ? c->fr.options->dims : NULL; p && *p;) {
        p += strspn(p, " ,");
        size_t length = strcspn(p, " ,");
        if (length > n && strncmp(p, name, n) == 0 && p[n] == '=') {
            *out = strtoll(p + n + 1, NULL, 10);
            return true;
        }
        p += length;
    }
    return false;
}

static void read_dims(checker *c)
{
    static const char *const names[] = {"B", "Hq", "Hk", "Hv", "Nq", "Nk", "D", "Dv"};
    qn_front *fr = &c->fr;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        int64_t v = 0;
        qn_dim d = {qn_intern(fr->ir, names[k]), NULL, {0}};
        if (option_dim(c, names[k], &v) ||
            (strcmp(names[k], "Dv") == 0 && option_dim(c, "D", &v))) {
            d.value = qn_int(fr->ir, v);
        }
        QN_PUSH(fr->ir->arena, &fr->spec->dims, d);
    }
    for (const char *p = fr->options ? fr->options->dims : NULL;
         p && *p;) { /* and those of the user */
        p += strspn(p, " ,");
        size_t length = strcspn(p, " ,"), eq = strcspn(p, "= ,");
        char *end = NULL;
        int64_t v = eq + 1 < length ? strtoll(p + eq + 1, &end, 10) : -1;
        if (length && (eq >= length || v < 0 || end != p + length || v > INT32_MAX)) {
            qn_front_error(fr, "E-OPTION", (qn_place){0}, "option dims: '%.*s' is not NAME=NUMBER",
                           (int)length, p);
        } else if (length) {
            qn_sym name = qn_intern_n(fr->ir, p, eq);
            bool known = false;
            for (int k = 0; k < fr->spec->dims.count; k++) {
                known |= fr->spec->dims.at[k].name == name;
            }
            qn_dim d = {name, qn_int(fr->ir, v), {0}};
            if (!known) {
                QN_PUSH(fr->ir->arena, &fr->spec->dims, d);
            }
        }
        p += length;
    }
}

static void read_position(checker *c, const qn_host_value *top)
{
    qn_front *fr = &c->fr;
    const qn_host_value *v = qn_host_field_of(top, "position");
    const qn_host_value *kind = tagged(v, "position") ? qn_host_field_of(v, "kind") : NULL;
    fr->spec->position = QN_POSITION_LAST;
    if (is_nil(v) ||
        (kind && kind->kind == QN_HOST_STRING && strcmp(kind->u.string.text, "last") == 0)) {
        return;
    }
    if (kind && kind->kind == QN_HOST_STRING && strcmp(kind->u.string.text, "rows") == 0) {
        fr->spec->position = QN_POSITION_ROWS;
        return;
    }
    if (!tagged(v, "tensor")) {
        qn_host_error(fr, "E-SPEC", v,
                      "'position' is qn.last, qn.rows or a tensor of integers, not %s",
                      describe(c, v));
        return;
    }
    qn_tensor *t = qn_tensor_of(fr, v);
    bool rows = t->rank >= 1 && t->rank <= 2 && t->rows[t->rank - 1];
    bool batch = t->rank == 1 || t->axes[0].extent.dim == qn_intern(fr->ir, "B");
    if (t->sound && (!rows || !batch || !qn_dtype_is_int(t->dtype))) {
        qn_host_error(fr, "E-RANK", v, "a position tensor holds integers over [Nq] or [B, Nq]");
        return;
    }
    t->used = true;
    fr->spec->position = QN_POSITION_TENSOR;
    fr->spec->position_tensor = t->name;
}

static void read_outputs(checker *c, const qn_host_value *top)
{
    const qn_host_value *v = qn_host_field_of(top, "outputs");
    if (is_nil(v)) {
        return;
    }
    if (v->kind != QN_HOST_TABLE) {
        qn_host_error(&c->fr, "E-OUTPUT", v, "'outputs' is a list of names, not %s",
                      describe(c, v));
        return;
    }
    for (int k = 0; k < v->u.table.nitems; k++) {
        const qn_host_value *x = v->u.table.items[k];
        const char *name = x->kind == QN_HOST_STRING ? x->u.string.text : "";
        bool lse = strcmp(name, "lse") == 0, max = strcmp(name, "max") == 0;
        c->fr.spec->out_lse |= lse;
        c->fr.spec->out_max |= max;
        if (!lse && !max && strcmp(name, "o") != 0) {
            qn_host_error(&c->fr, "E-OUTPUT", v, "output %d is unknown", k + 1)->help =
                "o, lse, max";
        }
    }
}

static int by_order(const void *a, const void *b)
{
    const qn_tensor *x = *(qn_tensor *const *)a, *y = *(qn_tensor *const *)b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int scalars_by_order(const void *a, const void *b)
{
    const qn_scalar *x = *(qn_scalar *const *)a, *y = *(qn_scalar *const *)b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static bool occurs(const checker *c, qn_sym dim)
{
    for (int k = 0; k < c->fr.spec->params.count; k++) {
        const qn_type *t = &c->fr.spec->params.at[k].type;
        for (int m = 0; m < t->rank; m++) {
            if (t->axes[m].extent.dim == dim) {
                return true;
            }
        }
    }
    return false;
}

/* name * int + int, solved for the name. */
static qn_expr *solved(qn_ir *ir, const qn_expr *value, qn_sym whole)
{
    qn_expr *x = qn_name(ir, whole);
    if (value->u.op.op != QN_OP_MUL) {
        qn_op back = value->u.op.op == QN_OP_ADD ? QN_OP_SUB : QN_OP_ADD;
        x = qn_op2(ir, back, x, value->u.op.args.at[1]);
        value = value->u.op.args.at[0];
    }
    return value->kind == QN_OP ? qn_op2(ir, QN_OP_FLOORDIV, x, value->u.op.args.at[1]) : x;
}

static qn_sym base_of(const qn_expr *value)
{
    while (value->kind == QN_OP) {
        value = value->u.op.args.at[0];
    }
    return value->kind == QN_NAME ? value->u.name : NULL;
}

/* A dim that no tensor has but as name + 1 or the like is computed from that one, which the shapes
 * bind; so every dim of a tensor's own is known without being passed. */
static void turn_dims_round(checker *c)
{
    qn_spec *s = c->fr.spec;
    for (int k = 0; k < s->dims.count; k++) {
        qn_dim base = s->dims.at[k];
        int m = k + 1;
        if (base.value || occurs(c, base.name)) {
            continue;
        }
        while (m < s->dims.count &&
               !(s->dims.at[m].value && base_of(s->dims.at[m].value) == base.name &&
                 occurs(c, s->dims.at[m].name))) {
            m++;
        }
        if (m == s->dims.count) {
            continue;
        }
        qn_dim whole = s->dims.at[m];
        base.value = solved(c->fr.ir, whole.value, whole.name);
        whole.value = NULL;
        memmove(&s->dims.at[k + 2], &s->dims.at[k + 1], sizeof *s->dims.at * (size_t)(m - k - 1));
        s->dims.at[k] = whole;
        s->dims.at[++k] = base;
    }
}

static void read_params(checker *c)
{
    qn_front *fr = &c->fr;
    if (fr->tensors.count) {
        qsort(fr->tensors.at, (size_t)fr->tensors.count, sizeof *fr->tensors.at, by_order);
    }
    if (fr->scalars.count) {
        qsort(fr->scalars.at, (size_t)fr->scalars.count, sizeof *fr->scalars.at, scalars_by_order);
    }
    for (int k = 0; k < fr->tensors.count; k++) {
        const qn_tensor *t = fr->tensors.at[k];
        if (t->used) {
            qn_param p = {.direction = QN_IN,
                          .name = t->name,
                          .type = qn_type_of(fr->ir, t->dtype, t->axes, t->rank),
                          .sample = qn_sample_of(fr, t)};
            QN_PUSH(fr->ir->arena, &fr->spec->params, p);
        }
    }
    for (int k = 0; k < fr->scalars.count; k++) {
        const qn_scalar *s = fr->scalars.at[k];
        qn_param p = {.direction = QN_IN,
                      .name = s->name,
                      .type = qn_type_of(fr->ir, s->dtype, NULL, 0),
                      .value = s->value};
        QN_PUSH(fr->ir->arena, &fr->spec->params, p);
    }
    for (const char *p = fr->options ? fr->options->types : NULL; p && *p;) {
        p += strspn(p, " ,");
        size_t length = strcspn(p, " ,"), eq = strcspn(p, "= ,");
        bool known = false;
        for (int k = 0; k < fr->spec->params.count; k++) {
            const char *name = fr->spec->params.at[k].name;
            known |= strlen(name) == eq && strncmp(name, p, eq) == 0;
        }
        if (length && (eq >= length || !known)) {
            qn_front_error(fr, "E-OPTION", (qn_place){0}, "option types: '%.*s' names no input",
                           (int)length, p)
                ->help = "NAME=DTYPE of q, k, v or a captured tensor";
        }
        p += length;
    }
}

static void add_require(checker *c, qn_expr *cond, const char *text)
{
    qn_require r = {cond, text, {0}};
    QN_PUSH(c->fr.ir->arena, &c->fr.spec->requires, r);
}

static void add_requires(checker *c)
{
    static const char *const heads[] = {"Hk", "Hv"};
    static const char *const what[] = {"key", "value"};
    qn_ir *ir = c->fr.ir;
    for (int k = 0; k < 2; k++) {
        qn_expr *have = qn_name_of(ir, heads[k]);
        add_require(c, qn_op2(ir, QN_OP_GE, have, qn_int(ir, 1)),
                    qn_diag_text(c->fr.d, "there must be %s heads", what[k]));
        qn_expr *rest = qn_op2(ir, QN_OP_MOD, qn_name_of(ir, "Hq"), have);
        add_require(c, qn_op2(ir, QN_OP_EQ, rest, qn_int(ir, 0)),
                    qn_diag_text(c->fr.d, "query heads must be a multiple of %s heads", what[k]));
    }
}

/* The spec's own name, made fit for the IR. */
static qn_sym name_of(checker *c, const qn_host_value *top)
{
    const qn_host_value *v = qn_host_field_of(top, "name");
    qn_buf b = qn_buf_of(c->fr.ir->arena);
    qn_buf_puts(&b, "@");
    for (size_t k = 0; v && v->kind == QN_HOST_STRING && k < v->u.string.length && k < 60; k++) {
        char x = v->u.string.text[k];
        bool letter = (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z') || x == '_';
        bool digit = x >= '0' && x <= '9';
        x = letter || (digit && k) ? x : '_';
        qn_buf_put(&b, &x, 1);
    }
    return qn_intern(c->fr.ir, b.length > 1 ? b.text : "@attention");
}

qn_spec *qn_spec_check(qn_ir *ir, const qn_host_value *host, const qn_spec_options *options,
                       qn_diags *d)
{
    checker c = {.fr = {.ir = ir, .d = d, .options = options}};
    int errors = d->errors;
    if (!tagged(host, "attention")) {
        qn_host_error(&c.fr, "E-SPEC", host, "a spec is what qn.attention{..} returns");
        return NULL;
    }
    qn_spec *s = QN_NEW(ir->arena, qn_spec);
    c.fr.spec = s;
    s->ir = ir;
    s->name = name_of(&c, host);
    known_knobs(&c, host, top_knobs, sizeof top_knobs / sizeof *top_knobs, "qn.attention");
    read_dims(&c);
    add_tensor(&c, "q", (const char *const[]){"b", "h", "i", "d"},
               (const char *const[]){"B", "Hq", "Nq", "D"});
    add_tensor(&c, "k", (const char *const[]){"b", "g", "j", "d"},
               (const char *const[]){"B", "Hk", "Nk", "D"});
    add_tensor(&c, "v", (const char *const[]){"b", "g", "j", "e"},
               (const char *const[]){"B", "Hv", "Nk", "Dv"});
    s->number = s->params.at[0].type.dtype == QN_F64 ? QN_F64 : QN_F32;
    begin(&c);
    read_position(&c, host);
    read_outputs(&c, host);
    make_groups(&c, host);
    read_params(&c);
    turn_dims_round(&c);
    add_requires(&c);
    return d->errors == errors ? s : NULL;
}
