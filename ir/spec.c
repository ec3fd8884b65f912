/* SPDX-License-Identifier: MIT
 * The text of a spec: one thing a line, expressions in the grammar of the IR; see spec.h. */
#include "ir/spec.h"

#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"

#include <ctype.h>
#include <string.h>

const qn_param *qn_spec_param_of(const qn_spec *s, qn_sym name)
{
    for (int k = 0; k < s->params.count; k++) {
        if (s->params.at[k].name == name) {
            return &s->params.at[k];
        }
    }
    return NULL;
}

const qn_spec_table *qn_spec_table_of(const qn_spec *s, qn_sym name)
{
    for (int k = 0; k < s->tables.count; k++) {
        if (s->tables.at[k].name == name) {
            return &s->tables.at[k];
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- print */

static void print_line(qn_buf *out, const char *head, const qn_expr *x)
{
    qn_buf_printf(out, "%s = ", head);
    qn_print_expr(x, out);
    qn_buf_puts(out, "\n");
}

static void print_fn(qn_buf *out, const char *name, const qn_spec_fn *f)
{
    for (int k = 0; f && k < f->nlets; k++) {
        qn_buf_printf(out, "    %s let ", name);
        print_line(out, f->lets[k].name, f->lets[k].x);
    }
    for (int k = 0; f && k < f->nflags; k++) {
        qn_buf_printf(out, "    %s ", name);
        print_line(out, "flag", f->flags[k]);
    }
    for (int k = 0; f && k < f->nresults; k++) {
        qn_buf_puts(out, "    ");
        print_line(out, name, f->results[k]);
    }
}

void qn_spec_print(const qn_spec *s, qn_buf *out)
{
    for (int k = 0; k < s->groups.count; k++) {
        qn_print_norm(s->groups.at[k].norm, out);
        qn_buf_puts(out, "\n");
    }
    qn_buf_printf(out, "spec %s {\n  number %s\n", s->name, qn_dtype_name(s->number));
    for (int k = 0; k < s->dims.count; k++) {
        qn_buf_printf(out, "  dim %s", s->dims.at[k].name);
        if (s->dims.at[k].value) {
            qn_buf_puts(out, " = ");
            qn_print_expr(s->dims.at[k].value, out);
        }
        qn_buf_puts(out, "\n");
    }
    for (int k = 0; k < s->params.count; k++) {
        const qn_param *p = &s->params.at[k];
        qn_buf_printf(out, "  in %s: ", p->name);
        qn_print_type(&p->type, out);
        if (p->value) {
            qn_buf_puts(out, " = ");
            qn_print_expr(p->value, out);
        }
        qn_buf_puts(out, "\n");
    }
    for (int k = 0; k < s->tables.count; k++) {
        const qn_spec_table *t = &s->tables.at[k];
        qn_buf_printf(out, "  table %s: ", t->name);
        qn_print_type(&t->type, out);
        print_line(out, "", t->value);
    }
    qn_buf_printf(out, "  position %s\n",
                  s->position == QN_POSITION_LAST   ? "last"
                  : s->position == QN_POSITION_ROWS ? "rows"
                                                    : s->position_tensor);
    qn_buf_printf(out, "  output o%s%s\n", s->out_lse ? ", lse" : "", s->out_max ? ", max" : "");
    for (int k = 0; k < s->requires.count; k++) {
        qn_buf_puts(out, "  require ");
        qn_print_expr(s->requires.at[k].cond, out);
        qn_buf_printf(out, ", \"%s\"\n", s->requires.at[k].text);
    }
    for (int k = 0; k < s->groups.count; k++) {
        const qn_spec_group *g = &s->groups.at[k];
        qn_buf_printf(out, "  group %s {\n    norm %s\n%s", g->name, g->norm->name,
                      g->uses_product ? "" : "    product off\n");
        print_fn(out, "when", g->when);
        print_fn(out, "mask", g->mask);
        print_fn(out, "scale", g->scale);
        print_fn(out, "score", g->score);
        print_fn(out, "extra", g->extra);
        print_fn(out, "out", g->out);
        qn_buf_puts(out, "  }\n");
    }
    qn_buf_puts(out, "}\n");
}

/* ---------------------------------------------------------------- parse */

typedef struct fn_draft {
    struct {
        qn_spec_let *at;
        int32_t count, cap;
    } lets;
    struct {
        qn_expr **at;
        int32_t count, cap;
    } results, flags;
} fn_draft;

enum { WHEN, MASK, SCALE, SCORE, EXTRA, OUT, FNS };
static const char *const fn_names[] = {"when", "mask", "scale", "score", "extra", "out"};

typedef struct reader {
    qn_ir *ir;
    qn_diags *d;
    qn_spec *s;
    const qn_ir_file *norms;
    const char *line, *end; /* of the line at hand, without blanks around */
    int32_t number;
    bool in_group, failed;
    qn_spec_group group;
    fn_draft fns[FNS];
} reader;

static void refuse(reader *r, const char *text)
{
    qn_diag_add(r->d, QN_ERROR, "E-SYNTAX", (qn_place){r->number, 1, 1}, "%s", text);
    r->failed = true;
}

static bool word(reader *r, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(r->end - r->line) < n || strncmp(r->line, w, n) != 0) {
        return false;
    }
    const char *next = r->line + n;
    if (isalnum((unsigned char)w[n - 1]) && next < r->end &&
        (isalnum((unsigned char)*next) || *next == '_')) {
        return false;
    }
    for (r->line = next; r->line < r->end && *r->line == ' '; r->line++) {
    }
    return true;
}

/* A name with its sigil, if it has one. */
static qn_sym name(reader *r)
{
    const char *from = r->line;
    if (r->line < r->end && (*r->line == '@' || *r->line == '%')) {
        r->line++;
    }
    while (r->line < r->end && (isalnum((unsigned char)*r->line) || *r->line == '_')) {
        r->line++;
    }
    if (r->line == from) {
        refuse(r, "a name is expected");
        return qn_intern(r->ir, "?");
    }
    qn_sym s = qn_intern_n(r->ir, from, (size_t)(r->line - from));
    for (; r->line < r->end && *r->line == ' '; r->line++) {
    }
    return s;
}

static qn_expr *expression(reader *r, const char *end)
{
    int errors = r->d->errors, count = r->d->count;
    qn_expr *x = qn_parse_expr(r->ir, r->line, (size_t)(end - r->line), r->d);
    r->failed |= !x || r->d->errors > errors;
    for (int k = count; k < r->d->count; k++) { /* places are of the expression alone */
        r->d->at[k].place.line = r->number;
    }
    r->line = end;
    return x ? x : qn_int(r->ir, 0);
}

static void expect(reader *r, const char *w)
{
    if (!word(r, w)) {
        refuse(r, "this line is not of a spec");
    }
}

static qn_type type(reader *r)
{
    qn_dtype dtype = QN_F32;
    qn_axis axes[QN_MAX_AXES];
    int rank = 0;
    if (!qn_dtype_find(name(r), &dtype)) {
        refuse(r, "a dtype is expected");
    }
    if (word(r, "[")) {
        do {
            if (rank == QN_MAX_AXES) {
                refuse(r, "too many axes");
                break;
            }
            axes[rank].name = name(r);
            expect(r, ":");
            qn_sym extent = name(r);
            int64_t n = 0;
            bool digits = isdigit((unsigned char)extent[0]) != 0;
            for (const char *p = extent; digits && *p && n < INT32_MAX; p++) {
                n = n * 10 + (*p - '0');
            }
            axes[rank++].extent = digits ? qn_extent_n(n) : qn_extent_dim(extent);
        } while (!r->failed && word(r, ","));
        expect(r, "]");
    }
    return qn_type_of(r->ir, dtype, axes, rank);
}

static void param_line(reader *r)
{
    qn_param p = {.direction = QN_IN, .name = name(r)};
    expect(r, ":");
    p.type = type(r);
    p.value = word(r, "=") ? expression(r, r->end) : NULL;
    QN_PUSH(r->ir->arena, &r->s->params, p);
}

static void table_line(reader *r)
{
    qn_spec_table t = {.name = name(r)};
    expect(r, ":");
    t.type = type(r);
    expect(r, "=");
    t.value = expression(r, r->end);
    QN_PUSH(r->ir->arena, &r->s->tables, t);
}

static void require_line(reader *r)
{
    const char *quote = memchr(r->line, '"', (size_t)(r->end - r->line));
    const char *comma = quote;
    while (comma && comma > r->line && *comma != ',') {
        comma--;
    }
    if (!quote || *comma != ',' || r->end[-1] != '"' || r->end - 1 == quote) {
        refuse(r, "`require condition, \"text\"` is expected");
        return;
    }
    const char *end = r->end;
    qn_require q = {.cond = expression(r, comma)};
    q.text = qn_arena_text(r->ir->arena, quote + 1, (size_t)(end - 1 - quote - 1));
    r->line = end;
    QN_PUSH(r->ir->arena, &r->s->requires, q);
}

static const qn_spec_fn *fn_of(reader *r, const fn_draft *f)
{
    if (!f->results.count && !f->flags.count) {
        return NULL;
    }
    qn_spec_fn *out = QN_NEW(r->ir->arena, qn_spec_fn);
    *out = (qn_spec_fn){f->lets.at,       f->lets.count, f->results.at,
                        f->results.count, f->flags.at,   f->flags.count};
    return out;
}

static void group_ends(reader *r)
{
    qn_spec_group *g = &r->group;
    g->when = fn_of(r, &r->fns[WHEN]);
    g->mask = fn_of(r, &r->fns[MASK]);
    g->scale = fn_of(r, &r->fns[SCALE]);
    g->score = fn_of(r, &r->fns[SCORE]);
    g->extra = fn_of(r, &r->fns[EXTRA]);
    g->out = fn_of(r, &r->fns[OUT]);
    if (!g->norm || !g->scale) {
        refuse(r, "a group has a norm and a scale");
    }
    QN_PUSH(r->ir->arena, &r->s->groups, *g);
    r->in_group = false;
}

static void group_line(reader *r)
{
    if (word(r, "}")) {
        group_ends(r);
        return;
    }
    if (word(r, "product")) {
        expect(r, "off");
        r->group.uses_product = false;
        return;
    }
    if (word(r, "norm")) {
        r->group.norm = r->norms ? qn_file_norm(r->norms, name(r)) : NULL;
        r->line = r->end;
        return;
    }
    for (int k = 0; k < FNS; k++) {
        fn_draft *f = &r->fns[k];
        if (!word(r, fn_names[k])) {
            continue;
        }
        if (word(r, "let")) {
            qn_spec_let let = {.name = name(r)};
            expect(r, "=");
            let.x = expression(r, r->end);
            QN_PUSH(r->ir->arena, &f->lets, let);
        } else {
            bool flag = word(r, "flag");
            expect(r, "=");
            qn_expr *x = expression(r, r->end);
            if (flag) {
                QN_PUSH(r->ir->arena, &f->flags, x);
            } else {
                QN_PUSH(r->ir->arena, &f->results, x);
            }
        }
        return;
    }
    refuse(r, "this line is not of a group");
}

static void spec_line(reader *r, bool *done)
{
    qn_spec *s = r->s;
    if (word(r, "}")) {
        *done = true;
    } else if (word(r, "number")) {
        r->failed |= !qn_dtype_find(name(r), &s->number);
    } else if (word(r, "dim")) {
        qn_dim d = {.name = name(r)};
        d.value = word(r, "=") ? expression(r, r->end) : NULL;
        QN_PUSH(r->ir->arena, &s->dims, d);
    } else if (word(r, "in")) {
        param_line(r);
    } else if (word(r, "table")) {
        table_line(r);
    } else if (word(r, "require")) {
        require_line(r);
    } else if (word(r, "position")) {
        bool last = word(r, "last"), rows = !last && word(r, "rows");
        s->position = last ? QN_POSITION_LAST : rows ? QN_POSITION_ROWS : QN_POSITION_TENSOR;
        s->position_tensor = last || rows ? NULL : name(r);
    } else if (word(r, "output")) {
        expect(r, "o");
        while (!r->failed && word(r, ",")) {
            bool lse = word(r, "lse"), max = !lse && word(r, "max");
            s->out_lse |= lse;
            s->out_max |= max;
            if (!lse && !max) {
                refuse(r, "an unknown output");
            }
        }
    } else if (word(r, "group")) {
        memset(r->fns, 0, sizeof r->fns);
        r->group = (qn_spec_group){.name = name(r), .uses_product = true};
        expect(r, "{");
        r->in_group = true;
    } else {
        refuse(r, "this line is not of a spec");
    }
}

/* The next line, without blanks around it. */
static const char *take_line(reader *r, const char *at, const char *stop)
{
    const char *nl = memchr(at, '\n', (size_t)(stop - at));
    const char *next = nl ? nl + 1 : stop;
    r->line = at;
    r->end = nl ? nl : stop;
    r->number++;
    while (r->line < r->end && isspace((unsigned char)*r->line)) {
        r->line++;
    }
    while (r->end > r->line && isspace((unsigned char)r->end[-1])) {
        r->end--;
    }
    return next;
}

qn_spec *qn_spec_parse(qn_ir *ir, const char *text, size_t length, qn_diags *d)
{
    reader r = {.ir = ir, .d = d};
    const char *stop = text + length, *at = text;
    bool open = false, done = false;
    while (at < stop && !open) { /* norms before the spec */
        const char *from = at;
        at = take_line(&r, at, stop);
        open = word(&r, "spec");
        if (open) {
            r.norms = qn_parse(ir, text, (size_t)(from - text), d);
            r.failed = !r.norms;
        }
    }
    if (!open || r.failed) {
        if (!open) {
            refuse(&r, "`spec @name {` is expected");
        }
        return NULL;
    }
    r.s = QN_NEW(ir->arena, qn_spec);
    r.s->ir = ir;
    r.s->number = QN_F32;
    r.s->name = name(&r);
    expect(&r, "{");
    while (at < stop && !done && !r.failed) {
        at = take_line(&r, at, stop);
        if (r.line == r.end || *r.line == ';') {
            continue;
        }
        if (r.in_group) {
            group_line(&r);
        } else {
            spec_line(&r, &done);
        }
        if (!r.failed && r.line < r.end) {
            refuse(&r, "something is left over at the end of this line");
        }
    }
    if (!r.failed && !done) {
        refuse(&r, "`}` is expected");
    }
    return r.failed ? NULL : r.s;
}
