/* SPDX-License-Identifier: MIT
 *
 * The verifier: walks a kernel as an evaluator would, with types for values; see verify.h.
 * A statement that breaks a rule is reported once, and what it should have defined becomes a name
 * without a type, whose uses are silent: so one mistake gives one message and the walk goes on.
 * Beside types it tracks, for every name, which par indices it varies with (V-RACE), and inside
 * !leaf the registers of every subexpression (V-LEAF). Each node is typed once, so the cost is
 * that of the text. */
#include "ir/verify.h"

#include "ir/build.h"
#include "ir/print.h"
#include "ir/type.h"
#include "ir/verify_norm.h"
#include "ir/walk.h"

#include <stdarg.h>
#include <string.h>

typedef enum where { IN_KERNEL, IN_LAUNCH, IN_TASK } where;

typedef struct leaf {
    int64_t width, registers;
    const qn_attr *attr; /* lane axes are its arguments from the third on */
} leaf;

enum { MAX_PAR = 64 };

typedef struct verifier {
    qn_ir *ir;
    const qn_ir_file *file;
    qn_diags *d;
    where where;
    const leaf *leaf; /* NULL: no leaf text */
    qn_sym par[MAX_PAR];
    int npar;
    struct varies { /* name to the set of par indices it varies with; open addressing */
        qn_sym name;
        uint64_t set;
    } * varies;
    uint32_t nvaries, cap;
} verifier;

/* ---------------------------------------------------------------- reports */

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static void
report(verifier *v, const char *rule, qn_place place, const char *format, ...)
{
    qn_buf b = qn_buf_of(v->ir->arena);
    va_list args;
    va_start(args, format);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    qn_diag_add(v->d, QN_ERROR, rule, place, "%s", b.text);
}

/* Reports the fault of e, at the statement if its own place is unknown. */
static void report_fault(verifier *v, const qn_env *e, qn_place place)
{
    if (e->fault.rule) {
        report(v, e->fault.rule, e->fault.place.line ? e->fault.place : place, "%s", e->fault.text);
    }
}

static const char *type_text(const verifier *v, const qn_type *t)
{
    return qn_type_text(v->ir->arena, t);
}

static const char *expr_text(const verifier *v, const qn_expr *x)
{
    return qn_expr_text(v->ir->arena, x);
}

/* ---------------------------------------------------------------- what varies with what */

static struct varies *varies_slot(const verifier *v, qn_sym name)
{
    uint64_t h = ((uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u) >> 32;
    while (v->varies[h & (v->cap - 1)].name && v->varies[h & (v->cap - 1)].name != name) {
        h++;
    }
    return &v->varies[h & (v->cap - 1)];
}

static void set_varies(verifier *v, qn_sym name, uint64_t set)
{
    if (v->nvaries * 2 >= v->cap) {
        verifier old = *v;
        v->cap = old.cap ? old.cap * 2 : 256;
        v->varies = QN_NEWN(v->ir->arena, struct varies, v->cap);
        for (uint32_t k = 0; k < old.cap; k++) {
            if (old.varies[k].name) {
                *varies_slot(v, old.varies[k].name) = old.varies[k];
            }
        }
    }
    struct varies *s = varies_slot(v, name);
    v->nvaries += s->name == NULL;
    *s = (struct varies){name, set};
}

typedef struct varying {
    const verifier *v;
    uint64_t set;
} varying;

static bool add_varying(void *user, const qn_expr *x)
{
    varying *w = user;
    if (x->kind == QN_NAME && w->v->cap) {
        w->set |= varies_slot(w->v, x->u.name)->set;
    }
    return true;
}

static uint64_t varies_with(const verifier *v, const qn_expr *x)
{
    varying w = {v, 0};
    qn_visit(x, add_varying, &w);
    return w.set;
}

static uint64_t varies_with_all(const verifier *v, qn_exprs xs)
{
    uint64_t set = 0;
    for (int k = 0; k < xs.count; k++) {
        set |= varies_with(v, xs.at[k]);
    }
    return set;
}

/* ---------------------------------------------------------------- names and types */

static void bind(verifier *v, qn_env *e, const qn_bound *b, qn_place place)
{
    if (qn_env_find(e, b->name)) {
        report(v, "V-NAME", place, "%s is defined already", b->name);
    }
    qn_env_define(e, b);
}

static void bind_value(verifier *v, qn_env *e, qn_sym name, qn_type t, uint64_t set, qn_place place)
{
    t.dtype = qn_dtype_settle(t.dtype);
    bind(v, e, &(qn_bound){.name = name, .kind = QN_BOUND_VALUE, .type = t}, place);
    set_varies(v, name, set);
}

/* Names of a statement that broke a rule: their uses are silent. */
static void bind_broken(verifier *v, qn_env *e, const qn_sym *names, int n, qn_place place)
{
    for (int k = 0; k < n; k++) {
        bind_value(v, e, names[k], (qn_type){QN_NO_TYPE, 0, NULL}, 0, place);
    }
}

static bool good_type(qn_env *e, const qn_type *t, qn_place place)
{
    if (t->rank > QN_MAX_AXES) {
        return qn_env_fail(e, "V-AXIS", place, "more than %d axes", QN_MAX_AXES);
    }
    for (int k = 0; k < t->rank; k++) {
        qn_axis a = t->axes[k];
        for (int j = 0; j < k; j++) {
            if (t->axes[j].name == a.name) {
                return qn_env_fail(e, "V-AXIS", place, "axis %s is named twice in %s", a.name,
                                   qn_type_text(e->ir->arena, t));
            }
        }
        const qn_bound *b = a.extent.dim ? qn_env_find(e, a.extent.dim) : NULL;
        if (a.extent.dim && (!b || b->kind != QN_BOUND_DIM)) {
            return qn_env_fail(e, "V-DIM", place, "extent %s of axis %s is no dim", a.extent.dim,
                               a.name);
        }
    }
    return true;
}

/* A scalar integer (or bool); else a fault of that rule. */
static bool scalar(qn_env *e, const qn_expr *x, bool integer, const char *rule)
{
    qn_type t;
    if (!qn_type_infer(e, x, &t)) {
        return false;
    }
    if (t.rank || (integer ? !qn_dtype_is_int(t.dtype) : t.dtype != QN_BOOL)) {
        return qn_env_fail(e, rule, x->place, "%s must be a scalar %s, not %s",
                           qn_expr_text(e->ir->arena, x), integer ? "integer" : "bool",
                           qn_type_text(e->ir->arena, &t));
    }
    return true;
}

static bool is_load(void *user, const qn_expr *x)
{
    (void)user;
    return x->kind == QN_LOAD;
}

/* A scalar that is known before any memory is. */
static bool early_scalar(qn_env *e, const qn_expr *x, bool integer, const char *rule)
{
    if (qn_contains(x, is_load, NULL)) {
        return qn_env_fail(e, rule, x->place, "%s reads memory, which is not known here",
                           qn_expr_text(e->ir->arena, x));
    }
    return scalar(e, x, integer, rule);
}

/* Does x fit the type, broadcast to it? */
static bool fits(qn_env *e, const qn_expr *x, const qn_type *want, const char *what, qn_sym name)
{
    qn_type t;
    if (!qn_type_infer(e, x, &t)) {
        return false;
    }
    bool good = qn_dtype_join(t.dtype, want->dtype) == want->dtype;
    for (int k = 0; good && k < t.rank; k++) {
        const qn_axis *a = qn_type_axis(want, t.axes[k].name);
        good = a && qn_extent_equal(a->extent, t.axes[k].extent);
    }
    if (!good) {
        return qn_env_fail(e, "V-CARRY", x->place, "the %s of %s is %s, not %s", what, name,
                           qn_type_text(e->ir->arena, &t), qn_type_text(e->ir->arena, want));
    }
    return qn_literals_fit(e, x, want->dtype);
}

/* ---------------------------------------------------------------- attributes */

typedef enum place_of_attr {
    ON_KERNEL = 1,
    ON_LET = 2,
    ON_BUF = 4,
    ON_STORE = 8,
    ON_FOR = 16,
    ANYWHERE = 31
} place_of_attr;

/* forms: "" nothing, "r" a range, "n" a positive integer, "w" a word, "x" a bool expression,
 * "*" any number of words */
static const struct {
    const char *name;
    int on;
    const char *form;
    const char *words; /* the words allowed; NULL: any */
} attributes[] = {
    {"level", ON_KERNEL, "w", " naive tiled leaf "},
    {"plan", ON_KERNEL, "x", NULL},
    {"mask", ON_LET, "", NULL},
    {"finite", ON_LET, "", NULL},
    {"full", ON_FOR, "r", NULL},
    {"in", ON_STORE, "", NULL},
    {"disjoint", ON_STORE, "", NULL},
    {"leaf", ON_FOR, "nn*", NULL},
    {"unroll", ON_FOR, "n", NULL},
    {"exp", ANYWHERE, "w*", " poly approx "},
    {"warps", ANYWHERE, "n*", NULL},
    {"name", ON_FOR, "w", NULL},
    {"by", ANYWHERE, "w", NULL},
};

static bool attr_arg_fits(char form, const char *words, const qn_attr_arg *a)
{
    bool word = !a->hi && a->lo->kind == QN_NAME;
    bool number = !a->hi && a->lo->kind == QN_LIT && a->lo->u.lit.type == QN_INT_LIT;
    switch (form) {
    case 'r':
        return a->hi != NULL;
    case 'x':
        return a->hi == NULL;
    case 'n':
        return number && a->lo->u.lit.i > 0;
    case 'w':
        if (word && words) {
            const char *at = strstr(words, a->lo->u.name);
            size_t n = strlen(a->lo->u.name);
            return at && at > words && at[-1] == ' ' && at[n] == ' ';
        }
        return word;
    default:
        return word || number;
    }
}

static bool attr_args_fit(const char *form, const char *words, const qn_attr *a)
{
    for (int k = 0; k < a->nargs; k++) {
        if (!*form || !attr_arg_fits(*form, words, &a->args[k])) {
            return false;
        }
        form += *form != '*';
    }
    return *form == 0 || *form == '*';
}

static void check_attrs(verifier *v, qn_env *e, const qn_attrs *attrs, place_of_attr on,
                        qn_place place)
{
    enum { COUNT = (int)(sizeof attributes / sizeof *attributes) };
    for (int k = 0; k < attrs->count; k++) {
        const qn_attr *a = &attrs->at[k];
        int row = 0;
        while (row < COUNT && strcmp(attributes[row].name, a->name) != 0) {
            row++;
        }
        if (row == COUNT) {
            report(v, "V-ATTR", place, "there is no attribute !%s", a->name);
        } else if (!(attributes[row].on & (int)on)) {
            report(v, "V-ATTR", place, "!%s says nothing here", a->name);
        } else if (!attr_args_fit(attributes[row].form, attributes[row].words, a)) {
            report(v, "V-ATTR", place, "!%s does not take these arguments", a->name);
        } else if (attributes[row].form[0] == 'r') {
            if (!scalar(e, a->args[0].lo, true, "V-ATTR") ||
                !scalar(e, a->args[0].hi, true, "V-ATTR")) {
                report_fault(v, e, place);
            }
        } else if (attributes[row].form[0] == 'x') {
            if (!early_scalar(e, a->args[0].lo, false, "V-ATTR")) {
                report_fault(v, e, place);
            }
        }
    }
}

/* ---------------------------------------------------------------- leaf text */

enum { MANY = 1 << 30 };

static bool is_lane_axis(const leaf *l, qn_sym axis)
{
    for (int k = 2; k < l->attr->nargs; k++) {
        if (l->attr->args[k].lo->kind == QN_NAME && l->attr->args[k].lo->u.name == axis) {
            return true;
        }
    }
    return false;
}

static int64_t times(int64_t a, int64_t b)
{
    return a > MANY || b > MANY || a * b > MANY ? MANY : a * b;
}

/* Registers of a value: with a lane axis its lanes, in 32-bit units; else one an element. */
static bool registers_of(qn_env *e, const leaf *l, const qn_type *t, qn_place place, int64_t *out)
{
    int64_t n = 1, lanes = 1;
    qn_sym lane = NULL;
    for (int k = 0; k < t->rank; k++) {
        int64_t extent = qn_extent_const(e, t->axes[k].extent);
        if (extent < 0) {
            return qn_env_fail(e, "V-LEAF", place, "axis %s of %s has no constant extent",
                               t->axes[k].name, qn_type_text(e->ir->arena, t));
        }
        if (is_lane_axis(l, t->axes[k].name)) {
            if (lane) {
                return qn_env_fail(e, "V-LEAF", place, "%s has two lane axes, %s and %s",
                                   qn_type_text(e->ir->arena, t), lane, t->axes[k].name);
            }
            lane = t->axes[k].name;
            lanes = extent;
        } else {
            n = times(n, extent);
        }
    }
    if (lane && lanes > 1) { /* a bool is a mask, which has registers of its own */
        int64_t bits = t->dtype == QN_BOOL ? 0 : 8 * (int64_t)qn_dtype_bytes(t->dtype);
        bits = t->dtype == QN_FLT_LIT ? 32 : bits;
        n = times(times(n, lanes), bits);
        n = (n + 32 * l->width - 1) / (32 * l->width);
    }
    *out = n;
    return true;
}

static bool check_dot(qn_env *e, const qn_expr *x)
{
    qn_type t;
    int64_t n = 1;
    if (!qn_type_infer(e, x->u.axop.args.at[0], &t)) {
        return false;
    }
    for (int k = 0; k < x->u.axop.nover; k++) {
        const qn_axis *a = qn_type_axis(&t, x->u.axop.over[k]);
        n = a ? times(n, qn_extent_const(e, a->extent)) : n;
    }
    return n <= 4 ||
           qn_env_fail(e, "V-LEAF", x->place, "dot over more than a group of 4: make it a loop");
}

/* The rule of every subexpression inside !leaf. */
static bool check_leaf(void *user, qn_env *e, const qn_expr *x, const qn_type *t)
{
    const verifier *v = user;
    int64_t n;
    if (!v->leaf) {
        return true;
    }
    if (x->kind == QN_FOLD) {
        return qn_env_fail(e, "V-LEAF", x->place, "fold is expanded before the leaf level");
    }
    if (x->kind == QN_AXOP && x->u.axop.op == QN_AX_DOT) {
        bool (*check)(void *, qn_env *, const qn_expr *, const qn_type *) = e->check;
        e->check = NULL; /* the operand has been checked */
        bool good = check_dot(e, x);
        e->check = check;
        if (!good) {
            return false;
        }
    } else if (x->kind == QN_AXOP && !qn_axop_is_reduce(x->u.axop.op)) {
        return qn_env_fail(e, "V-LEAF", x->place, "%s is expanded before the leaf level",
                           qn_axop_text(x->u.axop.op));
    }
    if (!registers_of(e, v->leaf, t, x->place, &n)) {
        return false;
    }
    return n <= v->leaf->registers ||
           qn_env_fail(e, "V-LEAF", x->place, "%s takes %lld registers of %lld; make it a buf",
                       qn_type_text(e->ir->arena, t), (long long)n, (long long)v->leaf->registers);
}

static void check_carried_registers(verifier *v, qn_env *e, const qn_stmt *s)
{
    int64_t sum = 0, n;
    for (int k = 0; v->leaf && k < s->u.loop.ncarries; k++) {
        if (!registers_of(e, v->leaf, &s->u.loop.carries[k].type, s->place, &n)) {
            report_fault(v, e, s->place);
            return;
        }
        sum += n;
    }
    if (v->leaf && sum > v->leaf->registers) {
        report(v, "V-LEAF", s->place, "the carried values take %lld registers of %lld",
               (long long)sum, (long long)v->leaf->registers);
    }
}

/* ---------------------------------------------------------------- simple statements */

static void check_block(verifier *v, qn_env *e, const qn_block *b, const qn_stmt *owner);

static void check_let(verifier *v, qn_env *e, const qn_stmt *s)
{
    qn_type ts[QN_MAX_AXES];
    int n = 0, names = s->u.let.nnames;
    uint64_t set = varies_with(v, s->u.let.x);
    const qn_expr *x = s->u.let.x;
    check_attrs(v, e, &s->attrs, ON_LET, s->place);
    bool good = qn_type_results(e, x, ts, &n);
    for (int k = 0; good && k < n; k++) {
        good = ts[k].dtype != QN_FLT_LIT || qn_literals_fit(e, x, QN_F32);
        if (x->kind == QN_FOLD || x->kind == QN_AXOP) { /* others have been checked in the walk */
            good = good && check_leaf(v, e, x, &ts[k]);
        }
    }
    if (!good) {
        report_fault(v, e, s->place);
        bind_broken(v, e, s->u.let.names, names, s->place);
        return;
    }
    if (n != names) {
        report(v, "V-NAME", s->place, "%d names for %d result%s", names, n, n == 1 ? "" : "s");
        bind_broken(v, e, s->u.let.names, names, s->place);
        return;
    }
    for (int k = 0; k < n; k++) {
        if (v->where == IN_KERNEL && ts[k].rank) {
            report(v, "V-PAR", s->place, "only scalars are computed outside launches; %s is %s",
                   s->u.let.names[k], type_text(v, &ts[k]));
        }
        if (qn_attr_find(&s->attrs, "mask") && ts[k].dtype != QN_BOOL) {
            report(v, "V-ATTR", s->place, "!mask stands on bools; %s is %s", s->u.let.names[k],
                   type_text(v, &ts[k]));
        }
        bind_value(v, e, s->u.let.names[k], ts[k], set, s->place);
    }
}

/* axis, axis // c, axis % c, axis // c % d as (axis, c, d); d 0: to the end of the axis. */
typedef struct split {
    qn_sym axis;
    int64_t from, count;
} split;

static bool is_int_op(const qn_expr *x, qn_op op, int64_t *n)
{
    if (x->kind != QN_OP || x->u.op.op != op || x->u.op.args.count != 2 ||
        x->u.op.args.at[1]->kind != QN_LIT || x->u.op.args.at[1]->u.lit.type != QN_INT_LIT) {
        return false;
    }
    *n = x->u.op.args.at[1]->u.lit.i;
    return true;
}

static bool read_split(const qn_expr *x, split *out)
{
    *out = (split){NULL, 1, 0};
    if (is_int_op(x, QN_OP_MOD, &out->count)) {
        if (out->count < 1 || out->count > INT32_MAX) {
            return false;
        }
        x = x->u.op.args.at[0];
    }
    if (is_int_op(x, QN_OP_FLOORDIV, &out->from)) {
        if (out->from < 1 || out->from > INT32_MAX) {
            return false;
        }
        x = x->u.op.args.at[0];
    }
    out->axis = x->kind == QN_NAME ? x->u.name : NULL;
    return out->axis != NULL;
}

/* The piece of the axis that starts at `from`; more than one is an overlap. */
static const split *piece_at(const split *at, int n, qn_sym axis, int64_t from)
{
    const split *found = NULL;
    for (int k = 0; k < n; k++) {
        if (at[k].axis == axis && at[k].from == from) {
            if (found) {
                return NULL;
            }
            found = &at[k];
        }
    }
    return found;
}

static void check_layout(verifier *v, const qn_stmt *s)
{
    enum { MAX_PIECES = 4 * QN_MAX_AXES };
    split pieces[MAX_PIECES];
    int n = s->u.buf.layout.count, used = 0;
    if (n > MAX_PIECES) {
        report(v, "V-LAYOUT", s->place, "more than %d pieces", MAX_PIECES);
        return;
    }
    for (int k = 0; k < n; k++) {
        const qn_expr *x = s->u.buf.layout.at[k];
        if (!read_split(x, &pieces[k]) || !qn_type_axis(&s->u.buf.type, pieces[k].axis)) {
            report(v, "V-LAYOUT", x->place, "%s is no piece of an axis", expr_text(v, x));
            return;
        }
    }
    for (int a = 0; a < s->u.buf.type.rank; a++) {
        qn_sym axis = s->u.buf.type.axes[a].name;
        int64_t from = 1;
        bool ended = false;
        for (int steps = 0; !ended && steps <= n; steps++) {
            const split *p = piece_at(pieces, n, axis, from);
            if (!p) {
                break;
            }
            used++;
            ended = p->count == 0;
            from = times(from, p->count);
        }
        if (!ended) {
            report(v, "V-LAYOUT", s->place, "the pieces of axis %s overlap or leave a gap", axis);
            return;
        }
    }
    if (used != n) {
        report(v, "V-LAYOUT", s->place, "a piece overlaps others of its axis");
    }
}

static void check_buf(verifier *v, qn_env *e, const qn_stmt *s)
{
    static const char *const spaces[] = {"call", "task", "shared"};
    check_attrs(v, e, &s->attrs, ON_BUF, s->place);
    if ((s->u.buf.space == QN_SPACE_CALL) != (v->where == IN_KERNEL)) {
        report(v, "V-SPACE", s->place, "a %s buffer cannot be made here", spaces[s->u.buf.space]);
    }
    if (!good_type(e, &s->u.buf.type, s->place)) {
        report_fault(v, e, s->place);
    } else if (s->u.buf.type.rank == 0) {
        report(v, "V-RANK", s->place, "a buffer has at least one axis");
    } else if (s->u.buf.ring && s->u.buf.space != QN_SPACE_SHARED) {
        report(v, "V-RING", s->place, "a ring stands in shared memory");
    } else if (s->u.buf.ring && s->u.buf.type.axes[0].name != s->u.buf.ring) {
        report(v, "V-RING", s->place, "the ring axis %s must be the first of %s", s->u.buf.ring,
               s->u.buf.name);
    } else if (s->u.buf.layout.count) {
        check_layout(v, s);
    }
    bind(v, e,
         &(qn_bound){.name = s->u.buf.name,
                     .kind = QN_BOUND_MEMORY,
                     .type = s->u.buf.type,
                     .is_buf = true,
                     .space = s->u.buf.space,
                     .ring = s->u.buf.ring},
         s->place);
}

static void check_race(verifier *v, const qn_stmt *s)
{
    uint64_t set = varies_with_all(v, s->u.store.index);
    qn_buf b = qn_buf_of(v->ir->arena);
    for (int k = 0; k < v->npar; k++) {
        if (!(set >> k & 1)) {
            qn_buf_printf(&b, "%s%s", b.length ? ", " : "", v->par[k]);
        }
    }
    if (b.length && !qn_attr_find(&s->attrs, "disjoint")) {
        report(v, "V-RACE", s->place,
               "tasks that differ in %s would meet in this store; !disjoint promises they do not",
               b.text);
    }
}

static bool store_type(qn_env *e, const qn_stmt *s, const qn_bound *b)
{
    qn_type index, x;
    qn_dtype have = b->type.dtype;
    if (!qn_type_access(e, s->u.store.base, s->u.store.index, s->place, &index) ||
        !qn_type_infer(e, s->u.store.x, &x)) {
        return false;
    }
    if (qn_dtype_join(x.dtype, have) != have) {
        return qn_env_fail(e, "V-TYPE", s->u.store.x->place, "a store of %s into %s needs a cast",
                           qn_type_text(e->ir->arena, &x), qn_dtype_name(have));
    }
    if (s->u.store.mode != QN_STORE_SET && have == QN_BOOL) {
        return qn_env_fail(e, "V-TYPE", s->place, "bools are not added or compared in a store");
    }
    for (int k = 0; k < x.rank; k++) {
        const qn_axis *a = qn_type_axis(&index, x.axes[k].name);
        if (!a) {
            return qn_env_fail(e, "V-STORE", s->u.store.x->place,
                               "axis %s of the value does not occur in the index", x.axes[k].name);
        }
        if (!qn_extent_equal(a->extent, x.axes[k].extent)) {
            return qn_env_fail(e, "V-AXIS", s->u.store.x->place,
                               "axis %s has two extents, in the value and in the index",
                               x.axes[k].name);
        }
    }
    return qn_literals_fit(e, s->u.store.x, have);
}

static void check_store(verifier *v, qn_env *e, const qn_stmt *s)
{
    const qn_bound *b = qn_env_find(e, s->u.store.base);
    bool combines = s->u.store.mode != QN_STORE_SET, ordered = s->u.store.order != QN_STORE_PLAIN;
    check_attrs(v, e, &s->attrs, ON_STORE, s->place);
    if (!b || b->kind != QN_BOUND_MEMORY) {
        report(v, "V-NAME", s->place, "%s is no memory known here", s->u.store.base);
        return;
    }
    if (!store_type(e, s, b)) {
        report_fault(v, e, s->place);
        return;
    }
    if (!b->is_buf && b->direction == QN_IN) {
        report(v, "V-SPACE", s->place, "%s is an input", b->name);
        return;
    }
    bool shared = !b->is_buf || b->space == QN_SPACE_CALL;
    if ((combines && shared) != ordered) {
        report(v, "V-ACC", s->place, "%s",
               ordered ? "ordered and atomic go with store.add, max and min to memory of all tasks"
                       : "other tasks may add here too: say ordered or atomic");
    } else if (s->u.store.start && (!b->ring || combines)) {
        report(v, "V-RING", s->place, "start begins a plain copy into a ring buffer");
    } else if (shared && !combines) {
        check_race(v, s);
    }
}

static void check_sync(verifier *v, qn_env *e, const qn_stmt *s)
{
    const qn_bound *b = qn_env_find(e, s->u.sync.base);
    if (!b || b->kind != QN_BOUND_MEMORY) {
        report(v, "V-NAME", s->place, "%s is no memory known here", s->u.sync.base);
    } else if (!b->ring) {
        report(v, "V-RING", s->place, "%s is no ring buffer", s->u.sync.base);
    } else if (s->u.sync.index.count != 1) {
        report(v, "V-RANK", s->place, "%s takes one slot", s->u.sync.await ? "await" : "free");
    } else if (!scalar(e, s->u.sync.index.at[0], true, "V-TYPE")) {
        report_fault(v, e, s->place);
    }
}

static void check_flag(verifier *v, qn_env *e, const qn_stmt *s)
{
    qn_type t;
    if (strcmp(s->u.flag.code, "E_INDEX") != 0) {
        report(v, "V-NAME", s->place, "a call has no status %s to flag; E_INDEX is one",
               s->u.flag.code);
    } else if (!qn_type_infer(e, s->u.flag.cond, &t)) {
        report_fault(v, e, s->place);
    } else if (t.dtype != QN_BOOL) {
        report(v, "V-TYPE", s->u.flag.cond->place, "flag takes a bool, not %s", type_text(v, &t));
    }
}

/* ---------------------------------------------------------------- loops and branches */

static bool check_piece(qn_env *e, const qn_piece *p, qn_place place)
{
    for (int k = 0; k < p->index.count; k++) {
        if (!scalar(e, p->index.at[k], true, "V-LOOP")) {
            return false;
        }
    }
    if (p->list) {
        const qn_bound *b = qn_env_find(e, p->list);
        if (!b || b->kind != QN_BOUND_MEMORY || b->type.rank != p->index.count + 1 ||
            !qn_dtype_is_int(b->type.dtype)) {
            return qn_env_fail(e, "V-LOOP", place, "%s is no list of integers with %d indices",
                               p->list, p->index.count + 1);
        }
    }
    return scalar(e, p->lo, true, "V-LOOP") && scalar(e, p->hi, true, "V-LOOP");
}

static bool check_step(qn_env *e, const qn_expr *step)
{
    if (!step) {
        return true;
    }
    if (!scalar(e, step, true, "V-LOOP")) {
        return false;
    }
    bool negated =
        step->kind == QN_OP && step->u.op.op == QN_OP_NEG && step->u.op.args.at[0]->kind == QN_LIT;
    bool zero = step->kind == QN_LIT && step->u.lit.i == 0;
    return (!negated && !zero) || qn_env_fail(e, "V-LOOP", step->place, "a step is positive");
}

static void check_iter(verifier *v, qn_env *e, const qn_stmt *s, const qn_iter *it)
{
    bool listed = false, good = true;
    uint64_t set = 0;
    for (int k = 0; good && k < it->npieces; k++) {
        const qn_piece *p = &it->pieces[k];
        good = check_piece(e, p, s->place);
        listed = listed || p->list;
        set |= varies_with(v, p->lo) | varies_with(v, p->hi) | varies_with_all(v, p->index);
    }
    if (!good || !check_step(e, it->step)) {
        report_fault(v, e, s->place);
    }
    if (s->u.loop.par && v->npar == MAX_PAR) {
        report(v, "V-PAR", s->place, "a nest has at most %d indices", MAX_PAR);
    } else if (s->u.loop.par) {
        v->par[v->npar++] = it->name;
        if (!listed) { /* a list may name one task twice */
            set = (uint64_t)1 << (v->npar - 1);
        }
    }
    qn_sym names[] = {it->name, it->end};
    for (int k = 0; k < 2 && names[k]; k++) {
        bind(v, e, &(qn_bound){.name = names[k], .kind = QN_BOUND_INDEX, .type = {QN_I64, 0, NULL}},
             s->place);
        set_varies(v, names[k], set);
    }
}

static void check_carries(verifier *v, qn_env *e, const qn_stmt *s)
{
    for (int k = 0; k < s->u.loop.ncarries; k++) { /* no initial value sees another carry */
        const qn_carry *c = &s->u.loop.carries[k];
        if (!good_type(e, &c->type, s->place) ||
            !fits(e, c->init, &c->type, "initial value", c->name)) {
            report_fault(v, e, c->init->place.line ? c->init->place : s->place);
        }
    }
    for (int k = 0; k < s->u.loop.ncarries; k++) {
        const qn_carry *c = &s->u.loop.carries[k];
        bind_value(v, e, c->name, c->type, varies_with(v, c->init), s->place);
    }
}

static void check_loop(verifier *v, qn_env *e, const qn_stmt *s)
{
    const leaf *outer_leaf = v->leaf;
    leaf mine;
    where outer = v->where;
    qn_env *inner = qn_env_push(e);
    bool par = s->u.loop.par;
    check_attrs(v, e, &s->attrs, ON_FOR, s->place);
    if (par != (v->where == IN_LAUNCH) || v->where == IN_KERNEL) {
        report(v, "V-PAR", s->place, "%s",
               v->where == IN_TASK     ? "par for stands directly in a launch"
               : v->where == IN_LAUNCH ? "a launch holds par nests only"
                                       : "a loop stands in a task of a launch");
        return;
    }
    if (par && s->u.loop.ncarries) {
        report(v, "V-PAR", s->place, "a par nest carries nothing");
    }
    for (int k = 0; k < s->u.loop.niters; k++) {
        check_iter(v, inner, s, &s->u.loop.iters[k]);
    }
    if (s->u.loop.cost && !scalar(inner, s->u.loop.cost, true, "V-LOOP")) {
        report_fault(v, inner, s->place);
    }
    const qn_attr *a = qn_attr_find(&s->attrs, "leaf");
    if (a && attr_args_fit("nn*", NULL, a)) {
        mine = (leaf){a->args[0].lo->u.lit.i, a->args[1].lo->u.lit.i, a};
        mine.width = mine.width > 4096 ? 4096 : mine.width;
        v->leaf = &mine;
    }
    check_carries(v, inner, s);
    check_carried_registers(v, inner, s);
    v->where = IN_TASK;
    check_block(v, inner, &s->u.loop.body, s);
    v->where = outer;
    v->leaf = outer_leaf;
    if (par) {
        v->npar = 0;
    }
    for (int k = 0; k < s->u.loop.ncarries; k++) { /* final values; hiding is reported already */
        qn_env_define(e, &(qn_bound){.name = s->u.loop.carries[k].name,
                                     .kind = QN_BOUND_VALUE,
                                     .type = s->u.loop.carries[k].type});
    }
}

/* Types of what a branch yields; false if they are not known. */
static bool check_arm(verifier *v, qn_env *e, const qn_stmt *s, const qn_block *b, qn_type *out,
                      uint64_t *sets)
{
    const qn_stmt *last = b->count ? b->at[b->count - 1] : NULL;
    bool yields = last && last->kind == QN_YIELD;
    int n = s->u.branch.nnames;
    qn_env *inner = qn_env_push(e);
    qn_block body = *b;
    body.count -= yields;
    check_block(v, inner, &body, NULL);
    if ((yields ? last->u.yield.count : 0) != n) {
        report(v, "V-YIELD", yields ? last->place : s->place,
               "the branch must yield %d values, and yields %d", n,
               yields ? last->u.yield.count : 0);
        return false;
    }
    for (int k = 0; k < n; k++) {
        if (!qn_type_infer(inner, last->u.yield.at[k], &out[k])) {
            report_fault(v, inner, last->place);
            return false;
        }
        sets[k] = varies_with(v, last->u.yield.at[k]);
    }
    return true;
}

static void check_if(verifier *v, qn_env *e, const qn_stmt *s)
{
    int n = s->u.branch.nnames;
    qn_type *ts = QN_NEWN(v->ir->arena, qn_type, 2 * n + 1);
    uint64_t *sets = QN_NEWN(v->ir->arena, uint64_t, 2 * n + 1);
    if (!scalar(e, s->u.branch.cond, false, "V-IF")) {
        report_fault(v, e, s->place);
    }
    bool known = check_arm(v, e, s, &s->u.branch.then, ts, sets);
    if (s->u.branch.has_else) {
        known = check_arm(v, e, s, &s->u.branch.other, ts + n, sets + n) && known;
    } else if (n) {
        report(v, "V-IF", s->place, "an if with results needs an else");
        known = false;
    }
    if (!known) {
        bind_broken(v, e, s->u.branch.names, n, s->place);
        return;
    }
    for (int k = 0; k < n; k++) {
        qn_type t, both[2] = {ts[k], ts[n + k]};
        qn_dtype d = qn_dtype_join(both[0].dtype, both[1].dtype);
        if (d == QN_NO_TYPE) {
            report(v, "V-IF", s->place, "%s is %s or %s", s->u.branch.names[k],
                   type_text(v, &both[0]), type_text(v, &both[1]));
        } else if (!qn_type_union(e, both, 2, &t)) {
            report_fault(v, e, s->place);
            d = QN_NO_TYPE;
        }
        t = d == QN_NO_TYPE ? (qn_type){d, 0, NULL} : t;
        t.dtype = d;
        bind_value(v, e, s->u.branch.names[k], t, sets[k] & sets[n + k], s->place);
    }
}

static void check_yield(verifier *v, qn_env *e, const qn_stmt *s, const qn_stmt *owner)
{
    int wanted = owner ? owner->u.loop.ncarries : 0;
    if (wanted == 0 || wanted != s->u.yield.count) {
        report(v, "V-YIELD", s->place, "%d values are yielded, %d are wanted", s->u.yield.count,
               wanted);
        return;
    }
    for (int k = 0; k < wanted; k++) {
        const qn_carry *c = &owner->u.loop.carries[k];
        if (!fits(e, s->u.yield.at[k], &c->type, "next value", c->name)) {
            report_fault(v, e, s->place);
        }
    }
}

static void check_launch(verifier *v, qn_env *e, const qn_stmt *s)
{
    qn_env *inner = qn_env_push(e);
    if (v->where != IN_KERNEL) {
        report(v, "V-PAR", s->place, "launches do not nest");
        return;
    }
    v->where = IN_LAUNCH;
    for (int k = 0; k < s->u.launch.count; k++) {
        const qn_stmt *nest = s->u.launch.at[k];
        if (nest->kind != QN_FOR) {
            report(v, "V-PAR", nest->place, "a launch holds par nests only");
        } else {
            check_loop(v, inner, nest);
        }
    }
    v->where = IN_KERNEL;
}

static void check_stmt(verifier *v, qn_env *e, const qn_stmt *s, const qn_stmt *owner)
{
    bool task_only = s->kind != QN_LET && s->kind != QN_BUF && s->kind != QN_LAUNCH;
    if (task_only && v->where == IN_KERNEL) {
        report(v, "V-PAR", s->place, "outside launches stand lets and call buffers only");
        return;
    }
    switch (s->kind) {
    case QN_LET:
        check_let(v, e, s);
        break;
    case QN_BUF:
        check_buf(v, e, s);
        break;
    case QN_STORE:
        check_store(v, e, s);
        break;
    case QN_FOR:
        check_loop(v, e, s);
        break;
    case QN_IF:
        check_if(v, e, s);
        break;
    case QN_YIELD:
        check_yield(v, e, s, owner);
        break;
    case QN_SYNC:
        check_sync(v, e, s);
        break;
    case QN_LAUNCH:
        check_launch(v, e, s);
        break;
    case QN_FLAG:
        check_flag(v, e, s);
        break;
    case QN_PREFETCH: {
        qn_type t;
        if (!qn_type_access(e, s->u.prefetch.base, s->u.prefetch.index, s->place, &t)) {
            report_fault(v, e, s->place);
        }
        break;
    }
    }
}

/* owner: the loop whose carries the block yields, or NULL. */
static void check_block(verifier *v, qn_env *e, const qn_block *b, const qn_stmt *owner)
{
    bool yielded = false;
    for (int k = 0; k < b->count && v->d->errors < 100; k++) {
        const qn_stmt *s = b->at[k];
        if (yielded) {
            report(v, "V-YIELD", s->place, "nothing follows a yield");
            return;
        }
        check_stmt(v, e, s, owner);
        yielded = s->kind == QN_YIELD;
    }
    if (owner && owner->u.loop.ncarries && !yielded) {
        report(v, "V-YIELD", owner->place, "the loop must yield %d values", owner->u.loop.ncarries);
    }
}

/* ---------------------------------------------------------------- kernels */

static void check_param(verifier *v, qn_env *e, const qn_param *p)
{
    qn_type t;
    if (!good_type(e, &p->type, p->place)) {
        report_fault(v, e, p->place);
    } else if (p->direction != QN_IN && p->type.rank == 0) {
        report(v, "V-RANK", p->place, "%s has at least one axis, being written", p->name);
    } else if (p->value && (p->type.rank || p->direction != QN_IN)) {
        report(v, "V-TYPE", p->place, "only a scalar has a default");
    } else if (p->value &&
               (qn_contains(p->value, is_load, NULL) || !qn_type_infer(e, p->value, &t) || t.rank ||
                qn_dtype_join(t.dtype, p->type.dtype) != p->type.dtype)) {
        report(v, "V-TYPE", p->value->place, "the default of %s is no %s", p->name,
               qn_dtype_name(p->type.dtype));
    } else if (p->value && !qn_literals_fit(e, p->value, p->type.dtype)) {
        report_fault(v, e, p->place);
    }
    bind(v, e,
         &(qn_bound){.name = p->name,
                     .kind =
                         p->type.rank || p->direction != QN_IN ? QN_BOUND_MEMORY : QN_BOUND_SCALAR,
                     .type = p->type,
                     .direction = p->direction},
         p->place);
}

static void check_kernel(verifier *v, const qn_kernel_ir *k)
{
    qn_env *e = qn_env_kernel(v->ir, v->file, &(qn_kernel_ir){.name = k->name});
    e->check = check_leaf;
    e->user = v;
    for (int n = 0; n < k->dims.count; n++) {
        const qn_dim *d = &k->dims.at[n];
        if (d->value && !early_scalar(e, d->value, true, "V-DIM")) {
            report_fault(v, e, d->place);
        }
        bind(v, e,
             &(qn_bound){.name = d->name,
                         .kind = QN_BOUND_DIM,
                         .type = {QN_I64, 0, NULL},
                         .value = d->value},
             d->place);
    }
    for (int n = 0; n < k->params.count; n++) {
        check_param(v, e, &k->params.at[n]);
    }
    for (int n = 0; n < k->requires.count; n++) {
        if (!early_scalar(e, k->requires.at[n].cond, false, "V-TYPE")) {
            report_fault(v, e, k->requires.at[n].place);
        }
    }
    check_attrs(v, e, &k->attrs, ON_KERNEL, k->place);
    v->where = IN_KERNEL;
    v->leaf = NULL;
    v->npar = 0;
    check_block(v, e, &k->body, NULL);
}

/* Norms, kernels and schedules of one file have names of their own. */
static void check_items(verifier *v)
{
    qn_names *seen[QN_ITEM_SCHEDULE + 1];
    for (int k = 0; k <= QN_ITEM_SCHEDULE; k++) {
        seen[k] = qn_names_of_kernel(v->ir, &(qn_kernel_ir){0});
    }
    for (int k = 0; k < v->file->items.count; k++) {
        const qn_item *it = &v->file->items.at[k];
        qn_sym name = it->kind == QN_ITEM_NORM     ? it->u.norm->name
                      : it->kind == QN_ITEM_KERNEL ? it->u.kernel->name
                                                   : NULL;
        if (name && qn_names_has(seen[it->kind], name)) {
            report(v, "V-NAME", it->kind == QN_ITEM_NORM ? it->u.norm->place : it->u.kernel->place,
                   "%s is defined already", name);
        }
        qn_names_add(seen[it->kind], name);
    }
}

bool qn_verify(const qn_ir_file *f, qn_diags *d)
{
    verifier v = {.ir = f->ir, .file = f, .d = d};
    int32_t before = d->errors;
    check_items(&v);
    for (int k = 0; k < f->items.count; k++) {
        if (f->items.at[k].kind == QN_ITEM_NORM) {
            qn_verify_norm(f->ir, f->items.at[k].u.norm, d);
        }
    }
    for (int k = 0; k < f->items.count && d->errors == before; k++) {
        if (f->items.at[k].kind == QN_ITEM_KERNEL) {
            check_kernel(&v, f->items.at[k].u.kernel);
        }
    }
    return d->errors == before;
}
