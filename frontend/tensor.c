/* SPDX-License-Identifier: MIT
 *
 * Declarations and elements. A dimension is a name, an integer, or name*int+int; over `Nq` it is
 * indexed by positions, which become rows. An index that bounds.c proves is a bare load; one that a
 * condition of the path or the mask implies is a guarded load (where it matters it is in range);
 * one that comes from data is guarded and raises the flag; any other is an error. */
#include "frontend/front.h"
#include "ir/lex.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Names that the IR of a mechanism uses itself. */
static const char *const own[] = {"b",  "h",  "i",  "j",  "r",   "d",       "e",   "g",
                                  "s",  "o",  "m",  "l",  "a",   "q",       "k",   "v",
                                  "m0", "m1", "u0", "u1", "lse", "row_max", "seg", "top"};
static const char *const own_dims[] = {"B", "Hq", "Hk", "Hv", "Nq", "Nk", "D", "Dv"};

static bool is_identifier(const char *t)
{
    size_t n = strlen(t);
    if (!(isalpha((unsigned char)t[0]) || t[0] == '_') || n > 60) {
        return false;
    }
    for (size_t k = 0; k < n; k++) {
        if (!(isalnum((unsigned char)t[k]) || t[k] == '_')) {
            return false;
        }
    }
    return true;
}

static bool among(const char *const *names, size_t n, const char *name)
{
    for (size_t k = 0; k < n; k++) {
        if (strcmp(names[k], name) == 0) {
            return true;
        }
    }
    return false;
}

/* x0, x1 ..: axes of tensors and further arguments of norms. */
static bool is_numbered(const char *name)
{
    return name[0] == 'x' && name[1] && name[1 + strspn(name + 1, "0123456789")] == 0;
}

static bool is_reserved(const char *name, bool dims_too)
{
    return is_numbered(name) || qn_word_is_reserved(name) ||
           among(own, sizeof own / sizeof *own, name) ||
           (dims_too && among(own_dims, sizeof own_dims / sizeof *own_dims, name));
}

static const char *declared(const qn_front *fr, qn_sym name)
{
    for (int k = 0; k < fr->tensors.count; k++) {
        if (fr->tensors.at[k]->name == name) {
            return "a tensor";
        }
    }
    for (int k = 0; k < fr->scalars.count; k++) {
        if (fr->scalars.at[k]->name == name) {
            return "a parameter";
        }
    }
    for (int k = 0; k < fr->spec->dims.count; k++) {
        if (fr->spec->dims.at[k].name == name) {
            return "a dimension";
        }
    }
    return NULL;
}

bool qn_name_free(qn_front *fr, const qn_host_value *at, const char *name)
{
    if (!is_identifier(name)) {
        qn_host_error(fr, "E-NAME", at, "'%s' is no name", name)->help = "letters, digits and '_'";
        return false;
    }
    if (is_reserved(name, true)) {
        qn_host_error(fr, "E-NAME", at, "'%s' is a name of quern's own", name)->help =
            qn_diag_text(fr->d, "call it %s_ or the like", name);
        return false;
    }
    const char *what = declared(fr, qn_intern(fr->ir, name));
    if (what) {
        qn_host_error(fr, "E-NAME", at, "'%s' is already the name of %s", name, what);
    }
    return !what;
}

static qn_dim *find_dim(const qn_front *fr, qn_sym name)
{
    for (int k = 0; k < fr->spec->dims.count; k++) {
        if (fr->spec->dims.at[k].name == name) {
            return &fr->spec->dims.at[k];
        }
    }
    return NULL;
}

static void add_dim(qn_front *fr, qn_sym name, qn_expr *value)
{
    if (!find_dim(fr, name)) {
        qn_dim d = {name, value, {0}};
        QN_PUSH(fr->ir->arena, &fr->spec->dims, d);
    }
}

qn_node *qn_dim_node(qn_front *fr, qn_sym name)
{
    add_dim(fr, name, NULL);
    return qn_node_name(fr, name, QN_N_INT, 0);
}

bool qn_dim_const(const qn_front *fr, qn_sym name, int64_t *out)
{
    const qn_dim *d = find_dim(fr, name);
    if (!d || !d->value || d->value->kind != QN_LIT) {
        return false;
    }
    *out = d->value->u.lit.i;
    return true;
}

static qn_diag *no_dim(qn_front *fr, const qn_host_value *at, const char *text)
{
    qn_diag *x = qn_host_error(fr, "E-DIM", at, "'%s' is no dimension", text);
    x->help = "a name (B Hq Hk Hv Nq Nk D Dv or your own), a number, or name*number+number";
    return x;
}

bool qn_extent_parse(qn_front *fr, const qn_host_value *at, const char *text, qn_extent *out)
{
    char name[64];
    size_t n = 0;
    while ((isalnum((unsigned char)text[n]) || text[n] == '_') && n < 61) {
        name[n] = text[n];
        n++;
    }
    name[n] = 0;
    if (isdigit((unsigned char)text[0])) {
        char *end;
        int64_t v = strtoll(text, &end, 10);
        if (*end || v < 0 || v > INT32_MAX) {
            no_dim(fr, at, text);
            return false;
        }
        *out = qn_extent_n(v);
        return true;
    }
    if (!is_identifier(name) || is_reserved(name, false)) {
        no_dim(fr, at, text);
        return false;
    }
    qn_sym base = qn_intern(fr->ir, name);
    const char *rest = text + n;
    int64_t times = 1, plus = 0;
    char *end = NULL;
    while (*rest == ' ') {
        rest++;
    }
    if (*rest == '*') {
        times = strtoll(rest + 1, &end, 10);
        if (end == rest + 1 || times < 1 || times > INT32_MAX) {
            no_dim(fr, at, text);
            return false;
        }
        for (rest = end; *rest == ' '; rest++) {
        }
    }
    if (*rest == '+' || *rest == '-') {
        plus = strtoll(rest + 1, &end, 10);
        if (end == rest + 1 || plus < 0 || plus > INT32_MAX) {
            no_dim(fr, at, text);
            return false;
        }
        plus = *rest == '-' ? -plus : plus;
        for (rest = end; *rest == ' '; rest++) {
        }
    }
    if (*rest) {
        no_dim(fr, at, text);
        return false;
    }
    add_dim(fr, base, NULL);
    *out = qn_extent_dim(base);
    if (times == 1 && plus == 0) {
        return true;
    }
    qn_buf b = qn_buf_of(fr->ir->arena); /* a dim of its own: Nk_x2_p1 = Nk * 2 + 1 */
    qn_expr *value = qn_name(fr->ir, base);
    qn_buf_printf(&b, "%s", name);
    if (times != 1) {
        qn_buf_printf(&b, "_x%lld", (long long)times);
        value = qn_op2(fr->ir, QN_OP_MUL, value, qn_int(fr->ir, times));
    }
    if (plus) {
        qn_buf_printf(&b, "_%c%lld", plus < 0 ? 'm' : 'p', (long long)(plus < 0 ? -plus : plus));
        value = qn_op2(fr->ir, plus < 0 ? QN_OP_SUB : QN_OP_ADD, value,
                       qn_int(fr->ir, plus < 0 ? -plus : plus));
    }
    out->dim = qn_intern(fr->ir, b.text);
    add_dim(fr, out->dim, value);
    return true;
}

/* The extent as a linear form, derived dims over their own. */
static qn_flin extent_lin(qn_front *fr, qn_extent e)
{
    if (!e.dim) {
        return qn_flin_const(e.n);
    }
    const qn_dim *d = find_dim(fr, e.dim);
    qn_flin l = qn_flin_const(0);
    if (d && d->value && d->value->kind == QN_OP) { /* name * int + int, as made above */
        const qn_expr *x = d->value;
        int64_t times = 1;
        if (x->u.op.op != QN_OP_MUL) {
            int64_t k = x->u.op.args.at[1]->u.lit.i;
            l.k = x->u.op.op == QN_OP_SUB ? -k : k;
            x = x->u.op.args.at[0];
        }
        if (x->kind == QN_OP) {
            times = x->u.op.args.at[1]->u.lit.i;
            x = x->u.op.args.at[0];
        }
        qn_flin_add(&l, qn_dim_node(fr, x->u.name)->lin, times);
        return l;
    }
    qn_flin_add(&l, qn_dim_node(fr, e.dim)->lin, 1);
    return l;
}

/* ---------------------------------------------------------------- declarations */

static const char *string_field(qn_front *fr, const qn_host_value *v, const char *key,
                                const char *what)
{
    const qn_host_value *f = qn_host_field_of(v, key);
    if (!f || f->kind != QN_HOST_STRING || strlen(f->u.string.text) != f->u.string.length) {
        qn_host_error(fr, "E-SPEC", v, "%s has no %s", what, key);
        return NULL;
    }
    return f->u.string.text;
}

static int64_t order_of(const qn_host_value *host, int64_t otherwise)
{
    const qn_host_value *f = qn_host_field_of(host, "order");
    return f && f->kind == QN_HOST_INT ? f->u.i : otherwise;
}

/* Finds "name=word" among the options. */
static const char *option_of(qn_front *fr, const char *options, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = options; p && *p;) {
        while (*p == ' ' || *p == ',') {
            p++;
        }
        size_t length = strcspn(p, " ,");
        if (length > n && strncmp(p, name, n) == 0 && p[n] == '=') {
            return qn_arena_text(fr->ir->arena, p + n + 1, length - n - 1);
        }
        p += length;
    }
    return NULL;
}

qn_tensor *qn_tensor_of(qn_front *fr, const qn_host_value *host)
{
    for (int k = 0; k < fr->tensors.count; k++) {
        if (fr->tensors.at[k]->host == host) {
            return fr->tensors.at[k];
        }
    }
    qn_tensor *t = QN_NEW(fr->ir->arena, qn_tensor);
    const char *name = string_field(fr, host, "name", "a tensor");
    const char *dtype = string_field(fr, host, "dtype", "a tensor");
    const qn_host_value *dims = qn_host_field_of(host, "dims");
    const char *other = name && fr->options ? option_of(fr, fr->options->types, name) : NULL;
    t->host = host;
    t->place = host->place;
    t->order = order_of(host, fr->tensors.count);
    t->name = qn_intern(fr->ir, name ? name : "?");
    t->sound = name && dtype && qn_name_free(fr, host, name);
    t->dtype = QN_F32;
    dtype = other ? other : dtype;
    if (dtype && !qn_dtype_find(dtype, &t->dtype)) {
        qn_host_error(fr, "E-DTYPE", host, "'%s' is no dtype", dtype)->help =
            "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64";
        t->sound = false;
    }
    if (!dims || dims->kind != QN_HOST_TABLE || dims->u.table.nitems < 1 ||
        dims->u.table.nitems > QN_MAX_AXES - 2) {
        qn_host_error(fr, "E-RANK", host, "tensor '%s' needs 1 to %d dimensions", t->name,
                      QN_MAX_AXES - 2)
            ->help = "a single number is a qn.param";
        t->sound = false;
        dims = NULL;
    }
    t->rank = dims ? dims->u.table.nitems : 0;
    t->axes = QN_NEWN(fr->ir->arena, qn_axis, t->rank + 1);
    t->rows = QN_NEWN(fr->ir->arena, bool, t->rank + 1);
    qn_sym rows = qn_intern(fr->ir, "Nq");
    for (int k = 0; k < t->rank; k++) {
        const qn_host_value *v = dims->u.table.items[k];
        qn_extent e = {0};
        bool good = false;
        if (v->kind == QN_HOST_INT && v->u.i >= 0 && v->u.i <= INT32_MAX) {
            e = qn_extent_n(v->u.i);
            good = true;
        } else if (v->kind == QN_HOST_STRING) {
            good = qn_extent_parse(fr, host, v->u.string.text, &e);
        } else if (v->kind == QN_HOST_TABLE && v->u.table.tag &&
                   strcmp(v->u.table.tag, "dim") == 0) {
            const char *text = string_field(fr, v, "name", "a dim");
            good = text && qn_extent_parse(fr, host, text, &e);
        } else {
            no_dim(fr, host, qn_diag_text(fr->d, "dimension %d of %s", k + 1, t->name));
        }
        t->sound &= good;
        t->axes[k].name = qn_intern(fr->ir, qn_diag_text(fr->d, "x%d", k));
        t->axes[k].extent = e;
        t->rows[k] = e.dim == rows;
    }
    QN_PUSH(fr->ir->arena, &fr->tensors, t);
    return t;
}

static bool fits(const qn_host_value *v, qn_dtype dtype)
{
    int bits = qn_dtype_bytes(dtype) * 8;
    if (qn_dtype_is_int(dtype) && bits < 64) {
        int64_t most = dtype == QN_U8 ? 255 : ((int64_t)1 << (bits - 1)) - 1;
        return v->u.i <= most && v->u.i >= (dtype == QN_U8 ? 0 : -most - 1);
    }
    double f = v->kind == QN_HOST_FLOAT ? v->u.f : v->kind == QN_HOST_INT ? (double)v->u.i : 0;
    double most = dtype == QN_F16 ? 65504.0 : 3.3895313892515355e38; /* of bf16, and so of f32 */
    return !qn_dtype_is_float(dtype) || dtype == QN_F64 || isinf(f) || !(fabs(f) > most);
}

/* sample = "offsets", or sample = { lo, hi }. */
qn_sample qn_sample_of(qn_front *fr, const qn_tensor *t)
{
    const qn_host_value *v = t->host ? qn_host_field_of(t->host, "sample") : NULL;
    if (!v || v->kind == QN_HOST_NIL) {
        return (qn_sample){0};
    }
    bool integers = qn_dtype_is_int(t->dtype);
    if (integers && v->kind == QN_HOST_STRING && strcmp(v->u.string.text, "offsets") == 0 &&
        t->rank == 1) {
        return (qn_sample){QN_SAMPLE_OFFSETS, 0, 0};
    }
    qn_dtype least = qn_dtype_bytes(t->dtype) > 4 ? QN_I32 : t->dtype; /* hi - lo stays exact */
    const qn_host_value *const *x =
        v->kind == QN_HOST_TABLE && v->u.table.nitems == 2 ? v->u.table.items : NULL;
    if (integers && x && x[0]->kind == QN_HOST_INT && x[1]->kind == QN_HOST_INT &&
        x[0]->u.i <= x[1]->u.i && fits(x[0], least) && fits(x[1], least)) {
        return (qn_sample){QN_SAMPLE_RANGE, x[0]->u.i, x[1]->u.i};
    }
    qn_host_error(fr, "E-SAMPLE", t->host, "the sample of %s is no range of integers", t->name)
        ->help = "sample = { 0, 7 }, or \"offsets\" for a tensor of one dimension";
    return (qn_sample){0};
}

qn_scalar *qn_scalar_of(qn_front *fr, const qn_host_value *host)
{
    for (int k = 0; k < fr->scalars.count; k++) {
        if (fr->scalars.at[k]->host == host) {
            return fr->scalars.at[k];
        }
    }
    qn_scalar *s = QN_NEW(fr->ir->arena, qn_scalar);
    const char *name = string_field(fr, host, "name", "a parameter");
    const char *dtype = string_field(fr, host, "dtype", "a parameter");
    s->host = host;
    s->place = host->place;
    s->order = order_of(host, fr->scalars.count);
    s->dtype = QN_F32;
    s->name = qn_intern(fr->ir, name ? name : "?");
    if (name && qn_name_free(fr, host, name) && dtype && !qn_dtype_find(dtype, &s->dtype)) {
        qn_host_error(fr, "E-DTYPE", host, "'%s' is no dtype", dtype)->help =
            "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64";
    }
    const qn_host_value *v = qn_host_field_of(host, "default");
    if (v && v->kind != QN_HOST_NIL) {
        bool ints = qn_dtype_is_int(s->dtype), floats = qn_dtype_is_float(s->dtype);
        if (v->kind == QN_HOST_INT && ints) {
            s->value = qn_int(fr->ir, v->u.i);
        } else if (v->kind == QN_HOST_INT && floats) {
            s->value = qn_float(fr->ir, (double)v->u.i);
        } else if (v->kind == QN_HOST_FLOAT && floats) {
            s->value = qn_float(fr->ir, v->u.f);
        } else if (v->kind == QN_HOST_BOOL && s->dtype == QN_BOOL) {
            s->value = qn_bool(fr->ir, v->u.b);
        } else {
            qn_host_error(fr, "E-DTYPE", host, "the default of '%s' is no %s", s->name,
                          qn_dtype_name(s->dtype));
        }
    }
    if (s->value && !fits(v, s->dtype)) {
        qn_host_error(fr, "E-DTYPE", host, "the default of '%s' is out of the range of %s", s->name,
                      qn_dtype_name(s->dtype));
    }
    QN_PUSH(fr->ir->arena, &fr->scalars, s);
    return s;
}

/* A loaded element or parameter as integers i64, floats of the spec's type, or a boolean. */
static qn_fval widened(qn_front *fr, qn_node *raw, qn_dtype dtype)
{
    if (dtype == QN_BOOL) {
        return qn_fval_node(raw);
    }
    if (qn_dtype_is_int(dtype)) {
        return qn_fval_node(dtype == QN_I64 ? raw : qn_node_cast(fr, QN_I64, QN_N_INT, raw));
    }
    return qn_fval_node(
        dtype == fr->spec->number ? raw : qn_node_cast(fr, fr->spec->number, QN_N_FLT, raw));
}

static qn_ntype type_of(qn_dtype dtype)
{
    return dtype == QN_BOOL ? QN_N_BOOL : qn_dtype_is_int(dtype) ? QN_N_INT : QN_N_FLT;
}

qn_fval qn_param_value(qn_front *fr, const qn_scalar *s)
{
    return widened(fr, qn_node_name(fr, s->name, type_of(s->dtype), QN_USES_DATA), s->dtype);
}

/* ---------------------------------------------------------------- elements */

static qn_node *row_index(qn_front *fr, const qn_tensor *t, qn_node *at, qn_place place)
{
    qn_flin l = *at->lin;
    if (fr->spec->position == QN_POSITION_TENSOR) {
        if (at != qn_name_position(fr)) {
            qn_front_error(
                fr, "E-ROW", place,
                "a dimension of %s is over Nq: with a position tensor only plain i is a row",
                t->name);
            return NULL;
        }
        return qn_name_row(fr);
    }
    if (fr->spec->position == QN_POSITION_ROWS) {
        return qn_flin_node(fr, &l);
    }
    qn_node *nk = qn_dim_node(fr, qn_intern(fr->ir, "Nk")),
            *nq = qn_dim_node(fr, qn_intern(fr->ir, "Nq"));
    if (qn_flin_add(&l, nk->lin, -1) && qn_flin_add(&l, nq->lin, 1)) {
        return qn_flin_node(fr, &l);
    }
    return qn_node_op2(fr, QN_OP_SUB, QN_N_INT, at, qn_node_op2(fr, QN_OP_SUB, QN_N_INT, nk, nq));
}

static void out_of_bounds(qn_front *fr, const qn_tensor *t, int k, qn_place place)
{
    qn_buf dims = qn_buf_of(fr->ir->arena), range = qn_buf_of(fr->ir->arena);
    for (int m = 0; m < t->rank; m++) {
        qn_extent e = t->axes[m].extent;
        if (e.dim) {
            const qn_dim *d = find_dim(fr, e.dim);
            qn_buf_printf(&dims, "%s%s", m ? ", " : "",
                          d && d->value && d->value->kind == QN_OP ? e.dim : e.dim);
        } else {
            qn_buf_printf(&dims, "%s%lld", m ? ", " : "", (long long)e.n);
        }
    }
    qn_extent e = t->axes[k].extent;
    if (e.dim) {
        qn_buf_printf(&range, "%s - 1", e.dim);
    } else {
        qn_buf_printf(&range, "%lld", (long long)e.n - 1);
    }
    qn_diag *x = qn_front_error(fr, "E-BOUND", place, "index %d of %s can leave 0 .. %s", k + 1,
                                t->name, range.text);
    x->note_text = qn_diag_text(fr->d, "%s has dimensions [%s], declared here", t->name, dims.text);
    x->note_place = t->place;
    x->help = "qn.clamp(index, first, last), or a condition that keeps the index inside";
}

/* The index of dimension k as the load has it; NULL after an error. */
static qn_node *checked(qn_front *fr, const qn_tensor *t, int k, qn_node *at, qn_place place,
                        bool *guarded)
{
    if (t->rows[k]) {
        at = row_index(fr, t, at, place);
        if (!at) {
            return NULL;
        }
    }
    qn_flin low = *at->lin, high = extent_lin(fr, t->axes[k].extent), extent = high;
    high.k--;
    bool linear = qn_flin_add(&high, &low, -1);
    if (linear && qn_flin_prove(fr, &low, false) && qn_flin_prove(fr, &high, false)) {
        return at;
    }
    *guarded = true;
    if (linear && qn_flin_prove(fr, &low, true) && qn_flin_prove(fr, &high, true)) {
        return at;
    }
    if (!(at->uses & QN_USES_DATA)) {
        out_of_bounds(fr, t, k, place);
        return NULL;
    }
    qn_node *below = qn_node_op2(fr, QN_OP_LT, QN_N_BOOL, at, qn_node_int(fr, 0));
    qn_node *above = qn_node_op2(fr, QN_OP_GE, QN_N_BOOL, at, qn_flin_node(fr, &extent));
    qn_raise(fr, qn_node_op2(fr, QN_OP_OR, QN_N_BOOL, below, above));
    return at;
}

qn_fval qn_tensor_element(qn_front *fr, const qn_fval *tensor, const qn_fval *index, qn_place place)
{
    qn_tensor *t = tensor->tensor;
    qn_fval at = *index;
    if (at.kind == QN_V_BAD || !t->sound) {
        return (qn_fval){.kind = QN_V_BAD};
    }
    if (at.kind == QN_V_FLOAT && at.f >= -1e15 && at.f <= 1e15 && at.f == (double)(int64_t)at.f) {
        at = qn_fval_int((int64_t)at.f);
    }
    if (at.kind != QN_V_INT && !(at.kind == QN_V_NODE && at.node->type == QN_N_INT)) {
        qn_diag *x = qn_front_error(fr, "E-TYPE", place, "%s is indexed by %s", t->name,
                                    qn_fval_describe(&at));
        x->help = "indices are integers, from 0; math.floor makes one";
        return (qn_fval){.kind = QN_V_BAD};
    }
    if (tensor->nindex >= t->rank) {
        qn_front_error(fr, "E-RANK", place, "%s has %d dimension%s", t->name, t->rank,
                       t->rank == 1 ? "" : "s");
        return (qn_fval){.kind = QN_V_BAD};
    }
    qn_node **all = QN_NEWN(fr->ir->arena, qn_node *, t->rank);
    if (tensor->nindex) {
        memcpy(all, tensor->index, sizeof *all * (size_t)tensor->nindex);
    }
    bool guarded = false;
    int k = tensor->nindex;
    all[k] = qn_fval_to_int(fr, &at);
    qn_fval out = *tensor;
    out.index = all;
    out.nindex = k + 1;
    if (out.nindex < t->rank) {
        return out;
    }
    t->used = true;
    for (int m = 0; m < t->rank; m++) {
        all[m] = checked(fr, t, m, all[m], place, &guarded);
        if (!all[m]) {
            return (qn_fval){.kind = QN_V_BAD};
        }
    }
    return widened(fr, qn_node_load(fr, t->name, all, t->rank, guarded, type_of(t->dtype)),
                   t->dtype);
}
