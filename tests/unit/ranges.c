/* SPDX-License-Identifier: MIT
 * The pass `ranges` against brute force: for many masks, shapes and tile sizes, the trips that run
 * are compared with the blocks that keep an element, and the trips in a !full range with the blocks
 * that keep every element.
 *
 * A small evaluator of integer expressions, element by element, stands in for the machine: it walks
 * the loops of the text that the pass made and evaluates the mask of the text that it was given. */
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ir/walk.h"
#include "passes/pass.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf oom;
static qn_arena arena, scratch;
static qn_ir ir;
static qn_lab lab; /* for the oracle: it has names of its own */

static void setup(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_arena_init(&scratch, NULL, &oom);
    qn_ir_init(&ir, &arena);
    qn_lab_open(&lab);
}

static void teardown(void)
{
    qn_lab_close(&lab);
    qn_arena_fini(&scratch);
    qn_arena_fini(&arena);
}

TestSuite(ranges, .init = setup, .fini = teardown, .timeout = 120);

static const char *print_of(const qn_kernel_ir *k)
{
    qn_buf b = qn_buf_of(&arena);
    qn_print_kernel(k, &b);
    return b.text;
}

/* ---------------------------------------------------------------- the evaluator */

typedef struct cell {
    qn_sym name;
    bool axis;
    int64_t value;
    const qn_expr *let; /* evaluated where it is used */
} cell;

typedef struct memory {
    qn_sym name;
    int rank;
    int64_t shape[4];
    int64_t *at;
} memory;

enum { MAX_CELLS = 256, MAX_BLOCKS = 64 };

typedef struct world {
    const qn_kernel_ir *kernel;
    bool lenient; /* a load outside gives 0 */
    cell cells[MAX_CELLS];
    int ncells;
    memory mem[16];
    int nmem;
    /* what happened: by task and block of keys */
    int64_t h, i0;
    int ran[2][MAX_BLOCKS][MAX_BLOCKS], full[2][MAX_BLOCKS][MAX_BLOCKS];
    int64_t ti, tj;
} world;

static void bind(world *w, qn_sym name, bool axis, int64_t value, const qn_expr *let)
{
    cr_assert(w->ncells < MAX_CELLS);
    w->cells[w->ncells++] = (cell){name, axis, value, let};
}

static int64_t eval(world *w, const qn_expr *x);

static const cell *find(const world *w, qn_sym name, bool axis)
{
    for (int k = w->ncells - 1; k >= 0; k--) {
        if (w->cells[k].name == name && w->cells[k].axis == axis) {
            return &w->cells[k];
        }
    }
    cr_assert_fail("not bound: %s", name);
    return NULL;
}

static int64_t extent(world *w, qn_extent e)
{
    return e.dim ? eval(w, qn_name(&ir, e.dim)) : e.n;
}

static int64_t *element(world *w, qn_sym base, const qn_exprs *index)
{
    for (int m = 0; m < w->nmem; m++) {
        if (w->mem[m].name == base) {
            int64_t at = 0;
            for (int k = 0; k < index->count; k++) {
                int64_t n = eval(w, index->at[k]);
                if (n < 0 || n >= w->mem[m].shape[k]) {
                    return NULL;
                }
                at = at * w->mem[m].shape[k] + n;
            }
            return &w->mem[m].at[at];
        }
    }
    cr_assert_fail("no memory: %s", base);
    return NULL;
}

static int64_t floordiv(int64_t a, int64_t b)
{
    cr_assert(b != 0, "division by zero");
    return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}

/* Axes that x has, with their extents. */
static bool collect_axis(void *user, const qn_expr *x)
{
    qn_type *t = user;
    if (x->kind == QN_IOTA) {
        for (int k = 0; k < t->rank; k++) {
            if (t->axes[k].name == x->u.iota.name) {
                return true;
            }
        }
        qn_axis axes[QN_MAX_AXES];
        for (int k = 0; k < t->rank; k++) {
            axes[k] = t->axes[k];
        }
        axes[t->rank] = x->u.iota;
        *t = qn_type_of(&ir, QN_I64, axes, t->rank + 1);
    }
    return true;
}

static int64_t reduce(world *w, const qn_expr *x)
{
    cr_assert_eq(x->u.axop.nover, 1);
    qn_type t = {QN_I64, 0, NULL};
    const qn_expr *arg = x->u.axop.args.at[0];
    qn_visit(arg, collect_axis, &t);
    const qn_axis *a = qn_type_axis(&t, x->u.axop.over[0]);
    cr_assert(a);
    int64_t n = extent(w, a->extent), best = 0;
    for (int64_t k = 0; k < n; k++) {
        int mark = w->ncells;
        bind(w, a->name, true, k, NULL);
        int64_t v = eval(w, arg);
        w->ncells = mark;
        if (x->u.axop.op == QN_AX_REDUCE_SUM) {
            best += v;
            continue;
        }
        bool better = x->u.axop.op == QN_AX_REDUCE_MIN ? v < best : v > best;
        best = k == 0 || better ? v : best;
    }
    return best;
}

static int64_t eval_op(world *w, const qn_expr *x)
{
    qn_expr *const *a = x->u.op.args.at;
    if (x->u.op.op == QN_OP_SELECT) {
        return eval(w, eval(w, a[0]) ? a[1] : a[2]);
    }
    int64_t p = eval(w, a[0]), q = x->u.op.args.count > 1 ? eval(w, a[1]) : 0;
    int64_t s = x->u.op.args.count > 2 ? eval(w, a[2]) : 0;
    switch ((int)x->u.op.op) {
    case QN_OP_OR:
        return p || q;
    case QN_OP_AND:
        return p && q;
    case QN_OP_NOT:
        return !p;
    case QN_OP_EQ:
        return p == q;
    case QN_OP_NE:
        return p != q;
    case QN_OP_LT:
        return p < q;
    case QN_OP_LE:
        return p <= q;
    case QN_OP_GT:
        return p > q;
    case QN_OP_GE:
        return p >= q;
    case QN_OP_ADD:
        return p + q;
    case QN_OP_SUB:
        return p - q;
    case QN_OP_MUL:
        return p * q;
    case QN_OP_FLOORDIV:
        return floordiv(p, q);
    case QN_OP_MOD:
        return p - q * floordiv(p, q);
    case QN_OP_NEG:
        return -p;
    case QN_OP_MIN:
        return p < q ? p : q;
    case QN_OP_MAX:
        return p > q ? p : q;
    case QN_OP_ABS:
        return p < 0 ? -p : p;
    case QN_OP_CLAMP:
        p = p > q ? p : q;
        return p < s ? p : s;
    case QN_OP_CAST:
        return p;
    default:
        cr_assert_fail("op %s", qn_op_info_of(x->u.op.op)->text);
        return 0;
    }
}

static int64_t eval(world *w, const qn_expr *x)
{
    switch (x->kind) {
    case QN_LIT:
        return x->u.lit.i;
    case QN_NAME: {
        const cell *c = find(w, x->u.name, false);
        return c->let ? eval(w, c->let) : c->value;
    }
    case QN_IOTA:
        return find(w, x->u.iota.name, true)->value;
    case QN_LOAD: {
        int64_t *p = element(w, x->u.load.base, &x->u.load.index);
        cr_assert(p || x->u.load.guarded || w->lenient, "bare load outside %s", x->u.load.base);
        return p ? *p : x->u.load.pad ? eval(w, x->u.load.pad) : 0;
    }
    case QN_OP:
        return eval_op(w, x);
    case QN_AXOP:
        return reduce(w, x);
    case QN_FOLD:
    case QN_AS:
    default:
        cr_assert_fail("expression");
        return 0;
    }
}

static void store_elements(world *w, const qn_stmt *s, const qn_type *t, int axis)
{
    if (axis == t->rank) {
        int64_t *p = element(w, s->u.store.base, &s->u.store.index);
        if (p) {
            *p = eval(w, s->u.store.x);
        }
        return;
    }
    int64_t n = extent(w, t->axes[axis].extent);
    for (int64_t k = 0; k < n; k++) {
        int mark = w->ncells;
        bind(w, t->axes[axis].name, true, k, NULL);
        store_elements(w, s, t, axis + 1);
        w->ncells = mark;
    }
}

static void run_block(world *w, const qn_block *b);

static void run_trip(world *w, const qn_stmt *loop, int64_t x)
{
    int64_t block = x / w->tj, row = w->i0 / w->ti;
    const qn_stmt *first = loop->u.loop.body.at[0];
    if (first->kind == QN_IF && !eval(w, first->u.branch.cond)) {
        return;
    }
    cr_assert(block < MAX_BLOCKS && row < MAX_BLOCKS && x % w->tj == 0, "trip at %d:\n%s", (int)x,
              print_of(w->kernel));
    w->ran[w->h][row][block]++;
    for (int a = 0; a < loop->attrs.count; a++) {
        for (int k = 0; strcmp(loop->attrs.at[a].name, "full") == 0 && k < loop->attrs.at[a].nargs;
             k++) {
            const qn_attr_arg *r = &loop->attrs.at[a].args[k];
            w->full[w->h][row][block] += eval(w, r->lo) <= x && x < eval(w, r->hi);
        }
    }
}

/* Iterates the loop's indices from `k` on. */
static void run_loop(world *w, const qn_stmt *s, int k)
{
    if (k == s->u.loop.niters) {
        run_block(w, &s->u.loop.body);
        return;
    }
    const qn_iter *it = &s->u.loop.iters[k];
    int64_t step = it->step ? eval(w, it->step) : 1, past = INT64_MIN;
    for (int p = 0; p < it->npieces; p++) {
        int64_t lo = eval(w, it->pieces[p].lo), hi = eval(w, it->pieces[p].hi);
        cr_assert(lo >= hi || lo >= past, "pieces overlap");
        for (int64_t x = lo; x < hi; x += step) {
            int mark = w->ncells;
            past = x + step;
            bind(w, it->name, false, x, NULL);
            w->h = strcmp(it->name, "h") == 0 ? x : w->h;
            w->i0 = strcmp(it->name, "i0") == 0 ? x : w->i0;
            if (!s->u.loop.par && strcmp(it->name, "j0") == 0) {
                run_trip(w, s, x);
            } else {
                run_loop(w, s, k + 1);
            }
            w->ncells = mark;
        }
    }
}

static void run_block(world *w, const qn_block *b)
{
    int mark = w->ncells;
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        if (s->kind == QN_LET && s->u.let.nnames == 1) {
            bind(w, s->u.let.names[0], false, 0, s->u.let.x);
        } else if (s->kind == QN_FOR) {
            run_loop(w, s, 0);
        } else if (s->kind == QN_LAUNCH) {
            run_block(w, &s->u.launch);
        } else if (s->kind == QN_BUF && s->u.buf.space == QN_SPACE_CALL) {
            memory m = {.name = s->u.buf.name, .rank = s->u.buf.type.rank};
            int64_t n = 1;
            for (int r = 0; r < m.rank; r++) {
                n *= m.shape[r] = extent(w, s->u.buf.type.axes[r].extent);
            }
            m.at = QN_NEWN(&scratch, int64_t, n + 1);
            w->mem[w->nmem++] = m;
        } else if (s->kind == QN_STORE && s->u.store.base[0] == '%') {
            qn_type t = {QN_I64, 0, NULL};
            for (int n = 0; n < s->u.store.index.count; n++) {
                qn_visit(s->u.store.index.at[n], collect_axis, &t);
            }
            store_elements(w, s, &t, 0);
        }
    }
    if (mark > 0 && b != &w->kernel->body) {
        w->ncells = mark;
    }
}

/* ---------------------------------------------------------------- masks */

static uint64_t seed = 88172645463325252u;

static int64_t random_in(int64_t lo, int64_t hi) /* hi exclusive */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return hi <= lo ? lo : lo + (int64_t)(seed % (uint64_t)(hi - lo));
}

typedef struct param {
    const char *name; /* of a scalar or tensor; NULL ends the list */
    char kind;        /* s scalar, h a value a slice, i sorted positions, d q's documents,
                         k documents of keys, K the same a slice, b bools a slice, B bools a key */
    int64_t lo, hi;
} param;

typedef struct mask_case {
    const char *name, *mask, *declare;
    param params[3];
    bool ran_exact, full_exact; /* the sets are equal, not only contained */
    const char *remark;
} mask_case;

#define C "j:Nk <= %p"

static const mask_case cases[] = {
    {"causal", C, "", {{0}}, true, true, NULL},
    {"window", C " and %p - j:Nk < W", "in W: i64", {{"W", 's', 1, 40}}, true, true, NULL},
    {"window of any size",
     C " and %p - j:Nk < i64(W)",
     "in W: i32",
     {{"W", 's', -3, 3}},
     true,
     true,
     NULL},
    {"band",
     "%p - j:Nk <= i64(L) and j:Nk - %p <= i64(RR)",
     "in L: i32\n  in RR: i32",
     {{"L", 's', -9, 30}, {"RR", 's', -9, 30}},
     true,
     true,
     NULL},
    {"prefix", "j:Nk < PP or " C, "in PP: i32", {{"PP", 's', -2, 90}}, true, true, NULL},
    {"sinks and window",
     C " and (j:Nk < S or %p - j:Nk < i64(W[h]))",
     "in S: i32\n  in W: i32[h:H]",
     {{"S", 's', 0, 20}, {"W", 'h', 0, 50}},
     true,
     true,
     NULL},
    {"dilated",
     "(%p - j:Nk) % DD == 0",
     "in DD: i32\n  require DD >= 1, \"d\"",
     {{"DD", 's', 1, 5}},
     false,
     false,
     NULL},
    {"dilated causal", "(%p - j:Nk) % 3 == 0 and " C, "", {{0}}, false, true, NULL},
    {"blocks of 16", "%p // 16 == j:Nk // 16", "", {{0}}, true, true, NULL},
    {"blocks of n",
     "%p // NB == j:Nk // NB",
     "in NB: i32\n  require NB >= 1, \"n\"",
     {{"NB", 's', 1, 40}},
     true,
     true,
     NULL},
    {"not causal", "not (" C ")", "", {{0}}, true, true, NULL},
    {"not window",
     "not (" C " and %p - j:Nk < W)",
     "in W: i32",
     {{"W", 's', -3, 40}},
     true,
     true,
     NULL},
    {"not the diagonal", "j:Nk != %p", "", {{0}}, true, true, NULL},
    {"nested",
     "(j:Nk < 7 or (" C " and not (%p - j:Nk >= 20 and j:Nk >= 30))) and j:Nk != 3",
     "",
     {{0}},
     true,
     true,
     NULL},
    {"a mask a slice",
     "select(h % 2 == 0, " C ", %p - j:Nk < i64(W[h]))",
     "in W: i32[h:H]",
     {{"W", 'h', 0, 50}},
     true,
     true,
     NULL},
    {"flag a slice", C " or on[h]", "in on: bool[h:H]", {{"on", 'b', 0, 2}}, true, true, NULL},
    {"true", "j:Nk >= 0", "", {{0}}, true, true, NULL},
    {"false", "j:Nk < 0", "", {{0}}, true, true, NULL},
    {"rows alone",
     "%p >= 9 or %p < i64(W[h])",
     "in W: i32[h:H]",
     {{"W", 'h', -5, 5}},
     true,
     true,
     NULL},
    {"rows and causal",
     "i:Nq >= 9 and i:Nq % 1 == 0 and " C " and %p - j:Nk < 5",
     "",
     {{0}},
     true,
     true,
     NULL},
    {"antidiagonal", "%p + j:Nk < i64(c)", "in c: i32", {{"c", 's', -5, 200}}, true, true, NULL},
    {"slanted", "2 * j:Nk <= 3 * %p + c", "in c: i32", {{"c", 's', -50, 50}}, true, true, NULL},
    {"clamped", "clamp(%p, 5, 40) >= j:Nk and max(j:Nk, 8) < %p + 30", "", {{0}}, true, true, NULL},
    {"near", "abs(%p - j:Nk) <= c", "in c: i32", {{"c", 's', -1, 30}}, true, true, NULL},
    {"far", "abs(%p - j:Nk) > c", "in c: i32", {{"c", 's', -1, 30}}, true, true, NULL},
    {"neighbourhood",
     "abs(clamp(i:Nq % 11, 2, 8) - j:Nk % 11) <= 2 and abs(clamp(i:Nq // 11, 2, 8) - j:Nk // 11) "
     "<= 2",
     "",
     {{0}},
     false,
     false,
     NULL},
    {"chunks",
     C " and (%p // 16 - j:Nk // 16 <= 1 or j:Nk % 16 < 2)",
     "",
     {{0}},
     false,
     true,
     NULL},
    {"positions",
     "j:Nk <= i64(pos[i:Nq])",
     "in pos: i32[i:Nq]",
     {{"pos", 'i', 0, 0}},
     true,
     true,
     NULL},
    {"documents",
     "dk[j:Nk] == dq[i:Nq] and " C,
     "in dk: i32[j:Nk]\n  in dq: i32[i:Nq]",
     {{"dk", 'k', 0, 6}, {"dq", 'd', 0, 6}},
     false,
     false,
     "W-DATADEP"},
    {"documents a slice",
     "dk[h, j:Nk] == dq[i:Nq]",
     "in dk: i32[h:H, j:Nk]\n  in dq: i32[i:Nq]",
     {{"dk", 'K', 0, 6}, {"dq", 'd', 0, 6}},
     false,
     false,
     "W-DATADEP"},
    {"documents by a table",
     "i64(%seg[j:Nk]) == i64(tile %seg[%p]) and i64(%seg[j:Nk]) >= 1 and " C,
     "in cu: i32[x:H]",
     {{"cu", 'h', 0, 60}},
     false,
     false,
     "W-DATADEP"},
    {"live keys",
     C " and live[j:Nk]",
     "in live: bool[j:Nk]",
     {{"live", 'B', 0, 2}},
     false,
     false,
     "W-DATADEP"},
};

/* The number of offsets at or below each position. */
static const char table[] =
    "  buf %seg: i32[j:Nk] in call\n"
    "  launch {\n"
    "    par for u0 in 0..Nk step 16 {\n"
    "      store %seg[u0 + u:16] = reduce.sum(i32(i64(cu[x:H]) <= u0 + u:16), over x)\n"
    "    }\n"
    "  }\n";

static const char *source(const mask_case *m)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_printf(
        &b,
        "norm @softmax(s, v) -> (o, lse) {\n"
        "  stat m = max(s)\n"
        "  weight select(s == -inf, 0.0, exp(s - m))\n"
        "  rescale(m0, m1) select(m0 == -inf, 0.0, exp(m0 - m1))\n"
        "  sum l = 1.0\n"
        "  sum a = v\n"
        "  finish o = select(l > 0.0, a / l, 0.0), lse = select(l > 0.0, m + log(l), -inf)\n"
        "}\n"
        "kernel @k !level(naive) {\n"
        "  dim H, Nq, Nk, D, E\n"
        "  in q: f32[h:H, i:Nq, d:D]\n"
        "  in k: f32[h:H, j:Nk, d:D]\n"
        "  in v: f32[h:H, j:Nk, e:E]\n"
        "  out o: f32[h:H, i:Nq, e:E]\n"
        "  out lse: f32[h:H, i:Nq]\n"
        "  %s\n"
        "  %%off = Nk - Nq\n"
        "%s"
        "  launch {\n"
        "    par for h in 0..H {\n"
        "      %%p = i:Nq + %%off\n"
        "      %%s = dot(q[h, i:Nq, d:D], k[h, j:Nk, d:D], over d)\n"
        "      %%keep = %s\n"
        "      %%o, %%lse = fold @softmax(%%s, v[h, j:Nk, e:E], over j, where %%keep)\n"
        "      store o[h, i:Nq, e:E] = %%o\n"
        "      store lse[h, i:Nq] = %%lse\n"
        "    }\n"
        "  }\n"
        "}\n",
        m->declare, strstr(m->mask, "%seg") ? table : "", m->mask);
    return b.text;
}

static qn_diags diags;

static qn_ir_file *parse(const char *text)
{
    qn_diags_init(&diags, &arena, "t.qir", text);
    qn_ir_file *f = qn_parse(&ir, text, strlen(text), &diags);
    bool good = f && qn_verify(f, &diags);
    if (!good) {
        qn_buf b = qn_buf_of(&arena);
        qn_diags_print(&diags, QN_ERROR, &b);
        cr_assert_fail("%s%s", text, b.text ? b.text : "");
    }
    return f;
}

static qn_ir_file *file_through(const char *text, const char *passes, int ti, int tj)
{
    qn_ir_file *f = parse(text);
    qn_schedule *s = qn_schedule_new(&ir, "@s", "any");
    char size[16];
    snprintf(size, sizeof size, "%d", ti);
    qn_schedule_add(&ir, s, NULL, "tile", "i", size, "user");
    snprintf(size, sizeof size, "%d", tj);
    qn_schedule_add(&ir, s, NULL, "tile", "j", size, "user");
    qn_machine machine = {"any", 8, 16, 32768, 1 << 20};
    qn_pass_cx cx = {&ir, &scratch, s, &machine, &diags};
    qn_pipeline_options o = {.only = passes, .reparse = true, .verify = true};
    bool ok = qn_pipeline_run(&cx, &f, NULL, &o);
    if (!ok) {
        qn_buf b = qn_buf_of(&arena);
        qn_diags_print(&diags, QN_ERROR, &b);
        cr_assert_fail("%s%s", qn_file_text(&arena, f), b.text ? b.text : "");
    }
    return f;
}

static qn_kernel_ir *through(const char *text, const char *passes, int ti, int tj)
{
    return qn_file_kernel(file_through(text, passes, ti, tj), NULL);
}

static void give(world *w, const param *p, int64_t H, int64_t Nq, int64_t Nk)
{
    memory m = {.name = qn_intern(&ir, p->name), .rank = 1};
    if (p->kind == 's') {
        bind(w, m.name, false, random_in(p->lo, p->hi), NULL);
        return;
    }
    bool keys = p->kind == 'k' || p->kind == 'K' || p->kind == 'B';
    int64_t n = keys ? Nk : p->kind == 'h' || p->kind == 'b' ? H : Nq;
    int64_t hi = p->kind == 'i' ? Nk : p->hi, slices = p->kind == 'K' ? H : 1;
    m.shape[0] = p->kind == 'K' ? H : n;
    m.shape[1] = n;
    m.rank = p->kind == 'K' ? 2 : 1;
    m.at = QN_NEWN(&scratch, int64_t, n * slices + 1);
    for (int64_t s = 0; s < slices; s++) {
        for (int64_t k = 0; k < n; k++) {
            m.at[s * n + k] = random_in(p->lo, hi);
        }
        bool sorted = p->kind == 'i' || p->kind == 'd' || p->kind == 'k' || p->kind == 'K';
        for (int64_t k = 1; sorted && k < n; k++) { /* by insertion */
            for (int64_t j = k; j > 0 && m.at[s * n + j] < m.at[s * n + j - 1]; j--) {
                int64_t t = m.at[s * n + j];
                m.at[s * n + j] = m.at[s * n + j - 1];
                m.at[s * n + j - 1] = t;
            }
        }
        /* padded batches keep runs of keys */
        for (int64_t k = 0; p->kind == 'B' && k < n; k++) {
            m.at[k] = k / 20 % 2;
        }
    }
    w->mem[w->nmem++] = m;
}

static void give_dims(world *w, const qn_kernel_ir *k, const int64_t *sizes)
{
    for (int d = 0; d < k->dims.count; d++) {
        const qn_dim *dim = &k->dims.at[d];
        bind(w, dim->name, false, d < 5 ? sizes[d] : 0, dim->value);
    }
}

typedef struct tally {
    int64_t need, ran, full, marked;
} tally;

/* Runs one shape; adds to the tally, fails if a needed block did not run or a marked one is not
 * full. */
static void try_shape(const mask_case *m, const qn_kernel_ir *naive, const qn_kernel_ir *made,
                      int ti, int tj, int64_t Nq, int64_t Nk, tally *t)
{
    enum { H = 2 };
    static world w, n; /* large; one case a process */
    memset(&w, 0, sizeof w);
    memset(&n, 0, sizeof n);
    w.ti = ti;
    w.tj = tj;
    w.kernel = made;
    n.kernel = naive;
    int64_t sizes[5] = {H, Nq, Nk, 1, 1};
    uint64_t start = seed;
    give_dims(&w, made, sizes);
    for (int k = 0; k < 3 && m->params[k].name; k++) {
        give(&w, &m->params[k], H, Nq, Nk);
    }
    seed = start;
    give_dims(&n, naive, sizes);
    for (int k = 0; k < 3 && m->params[k].name; k++) {
        give(&n, &m->params[k], H, Nq, Nk);
    }
    run_block(&w, &made->body);
    run_block(&n, &naive->body); /* fills tables */
    /* the mask of the naive text, element by element; rows past the end count for fullness */
    const qn_block *task = NULL;
    for (int k = 0; k < naive->body.count; k++) {
        const qn_stmt *s = naive->body.at[k];
        if (s->kind == QN_LET) {
            bind(&n, s->u.let.names[0], false, 0, s->u.let.x);
        } else if (s->kind == QN_LAUNCH) {
            task = &s->u.launch.at[0]->u.loop.body; /* of the last launch */
        }
    }
    const qn_expr *keep = NULL;
    for (int k = 0; k < task->count; k++) {
        if (task->at[k]->kind == QN_LET && task->at[k]->u.let.nnames == 1) {
            bind(&n, task->at[k]->u.let.names[0], false, 0, task->at[k]->u.let.x);
            bool mask = strcmp(task->at[k]->u.let.names[0], "%keep") == 0;
            keep = mask ? task->at[k]->u.let.x : keep;
        }
    }
    n.lenient = true; /* as the guards of rows past the end do */
    qn_sym h = qn_intern(&ir, "h"), i = qn_intern(&ir, "i"), j = qn_intern(&ir, "j");
    for (int64_t a = 0; a < H; a++) {
        for (int64_t r = 0; r * ti < Nq; r++) {
            for (int64_t c = 0; c * tj < Nk; c++) {
                bool any = false, all = (c + 1) * tj <= Nk;
                for (int64_t y = 0; y < ti; y++) {
                    for (int64_t x = 0; x < tj && c * tj + x < Nk; x++) {
                        int mark = n.ncells;
                        bind(&n, h, false, a, NULL);
                        bind(&n, i, true, r * ti + y, NULL);
                        bind(&n, j, true, c * tj + x, NULL);
                        bool kept = eval(&n, keep) != 0;
                        n.ncells = mark;
                        any |= kept && r * ti + y < Nq;
                        all &= kept;
                    }
                }
                int ran = w.ran[a][r][c], full = w.full[a][r][c];
                cr_assert(ran <= 1 && ran >= any,
                          "%s: Nq=%d Nk=%d tiles %d x %d: block (%d, %d, %d) %s", m->name, (int)Nq,
                          (int)Nk, ti, tj, (int)a, (int)r, (int)c, ran ? "ran twice" : "is needed");
                /* a mask that reads data is full where the rest of it is */
                cr_assert((m->remark || full <= all) && full <= ran,
                          "%s: Nq=%d Nk=%d tiles %d x %d: block (%d, %d, %d) is not full", m->name,
                          (int)Nq, (int)Nk, ti, tj, (int)a, (int)r, (int)c);
                t->need += any;
                t->ran += ran;
                t->full += all;
                t->marked += full;
            }
        }
    }
}

static const int tiles[][2] = {{4, 4}, {16, 8}, {64, 64}};
static const int shapes[][2] = {{1, 1},   {1, 130},  {130, 1},  {7, 65},  {65, 7},
                                {64, 64}, {63, 130}, {130, 63}, {33, 97}, {128, 128},
                                {5, 5},   {2, 64},   {17, 16},  {0, 9},   {9, 0}};

static bool has_remark(const char *code)
{
    for (int k = 0; k < diags.count; k++) {
        if (diags.at[k].severity == QN_REMARK && strcmp(diags.at[k].code, code) == 0) {
            return true;
        }
    }
    return false;
}

static void check_case(const mask_case *m)
{
    const char *text = source(m);
    tally t = {0};
    for (int k = 0; k < 3; k++) {
        qn_kernel_ir *naive = qn_file_kernel(parse(text), NULL);
        qn_kernel_ir *made = through(text, "tile,stream,ranges", tiles[k][0], tiles[k][1]);
        cr_expect_eq(has_remark("W-DATADEP"), m->remark != NULL, "%s", m->name);
        cr_expect(!has_remark("W-NOMASK"), "%s", m->name);
        if (getenv("QN_SHOW") && k == 1) {
            fprintf(stderr, "%s", print_of(made));
        }
        for (int s = 0; s < (int)(sizeof shapes / sizeof *shapes); s++) {
            try_shape(m, naive, made, tiles[k][0], tiles[k][1], shapes[s][0], shapes[s][1], &t);
        }
    }
    if (getenv("QN_SHOW")) {
        fprintf(stderr, "%-20s need %5d ran %5d full %5d marked %5d\n", m->name, (int)t.need,
                (int)t.ran, (int)t.full, (int)t.marked);
    }
    cr_expect(!m->ran_exact || t.ran == t.need, "%s: %d of %d trips are needed", m->name,
              (int)t.need, (int)t.ran);
    /* blocks whose values lie between the least and the greatest of the rows' */
    cr_expect(!m->remark || t.ran * 10 <= t.need * 11, "%s: %d of %d trips are needed", m->name,
              (int)t.need, (int)t.ran);
    cr_expect(!m->full_exact || t.full == t.marked, "%s: %d of %d full blocks are known", m->name,
              (int)t.marked, (int)t.full);
}

Test(ranges, trips_are_those_that_keep_an_element)
{
    const char *only = getenv("QN_ONLY");
    for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
        if (!only || strcmp(only, cases[k].name) == 0) {
            check_case(&cases[k]);
        }
    }
}

/* ---------------------------------------------------------------- by meaning */

static void arguments(const mask_case *m, const qn_kernel_ir *naive, int Nq, int Nk, qn_args *a)
{
    static world w;
    memset(&w, 0, sizeof w);
    const int64_t sizes[5] = {2, Nq, Nk, 2, 3};
    static const char *const names[5] = {"H", "Nq", "Nk", "D", "E"};
    for (int k = 0; k < 5; k++) {
        qn_args_dim(a, names[k], sizes[k]);
    }
    qn_args_array(a, "q", qn_normal(&lab, QN_F32, 1, 3, (int64_t[]){2, Nq, 2}));
    qn_args_array(a, "k", qn_normal(&lab, QN_F32, 2, 3, (int64_t[]){2, Nk, 2}));
    qn_args_array(a, "v", qn_normal(&lab, QN_F32, 3, 3, (int64_t[]){2, Nk, 3}));
    for (int k = 0; k < 3 && m->params[k].name; k++) {
        give(&w, &m->params[k], 2, Nq, Nk);
    }
    for (int p = 0; p < naive->params.count; p++) {
        const qn_param *q = &naive->params.at[p];
        for (int k = 0; k < w.ncells; k++) {
            if (w.cells[k].name == q->name) {
                qn_args_int(a, q->name, q->type.dtype, w.cells[k].value);
            }
        }
        for (int k = 0; k < w.nmem; k++) {
            if (w.mem[k].name == q->name) {
                qn_args_array(
                    a, q->name,
                    qn_ints(&lab, q->type.dtype, w.mem[k].rank, w.mem[k].shape, w.mem[k].at));
            }
        }
    }
}

Test(ranges, results_stay_and_facts_are_true)
{
    static const char *const passes[] = {"tile,stream,ranges", "tile,stream,ranges,peel,bare,dce"};
    static const int tries[][4] = {{4, 4, 7, 9}, {4, 4, 13, 5},   {4, 4, 1, 14},
                                   {4, 4, 0, 3}, {16, 8, 33, 40}, {16, 8, 20, 11}};
    for (int c = 0; c < (int)(sizeof cases / sizeof *cases); c++) {
        const mask_case *m = &cases[c];
        const char *text = source(m);
        for (int t = 0; t < (int)(sizeof tries / sizeof *tries); t++) {
            const int *s = tries[t];
            qn_args a = {0};
            qn_kernel_ir *naive = qn_file_kernel(parse(text), NULL);
            arguments(m, naive, s[2], s[3], &a);
            const qn_interp_result *want =
                qn_lab_run(&lab, qn_lab_text(&lab, text), NULL, &a, QN_EXACT, 0);
            for (int p = 0; p < 2; p++) {
                const char *made = qn_file_text(&arena, file_through(text, passes[p], s[0], s[1]));
                const qn_interp_result *got =
                    qn_lab_try_run(&lab, qn_lab_text(&lab, made), NULL, &a, QN_EXACT, 3);
                cr_assert(got, "%s, Nq=%d Nk=%d: %s%s", m->name, s[2], s[3], made,
                          qn_lab_errors(&lab));
                for (int o = 0; o < want->nouts; o++) {
                    double far = qn_distance(&want->outs[o].array, &got->outs[o].array);
                    cr_assert(far < 1e-12, "%s, Nq=%d Nk=%d, %s: %g", m->name, s[2], s[3],
                              want->outs[o].name, far);
                }
            }
        }
    }
}

/* ---------------------------------------------------------------- by chance */

static void random_int(qn_buf *b, int depth)
{
    static const char *const leaves[] = {"j:Nk", "j:Nk", "%p", "%p", "i:Nq", "i64(U)", "i64(V)"};
    int64_t kind = depth > 2 ? random_in(0, 2) : random_in(0, 8);
    int64_t c = random_in(1, 9);
    if (kind < 2) {
        if (random_in(0, 4) == 0) {
            qn_buf_printf(b, "%d", (int)random_in(0, 30));
        } else {
            qn_buf_puts(b, leaves[random_in(0, 7)]);
        }
        return;
    }
    const char *const forms[] = {"(", "(", "min(", "max(", "abs(", "(", "("};
    qn_buf_puts(b, kind == 7 ? "clamp(" : forms[kind - 2]);
    random_int(b, depth + 1);
    switch (kind) {
    case 2:
    case 3:
        qn_buf_puts(b, kind == 2 ? " + " : " - ");
        random_int(b, depth + 1);
        break;
    case 4:
    case 5:
        qn_buf_puts(b, ", ");
        random_int(b, depth + 1);
        break;
    case 6:
        break;
    default:
        qn_buf_puts(b, ", ");
        random_int(b, depth + 1);
        qn_buf_puts(b, ", ");
        random_int(b, depth + 1);
        break;
    }
    qn_buf_puts(b, ")");
    if (random_in(0, 3) == 0) {
        static const char *const by[] = {" * ", " // ", " % "};
        qn_buf_printf(b, "%s%d", by[random_in(0, 3)], (int)c);
    }
}

static void random_bool(qn_buf *b, int depth)
{
    int64_t kind = depth > 2 ? 0 : random_in(0, 8);
    if (kind < 3) {
        static const char *const ops[] = {" <= ", " < ", " > ", " >= ", " == ", " != "};
        random_int(b, 1);
        qn_buf_puts(b, ops[random_in(0, random_in(0, 3) == 0 ? 6 : 4)]);
        random_int(b, 1);
        return;
    }
    qn_buf_puts(b, kind == 6 ? "not (" : kind == 7 ? "select(" : "(");
    random_bool(b, depth + 1);
    if (kind == 7) {
        qn_buf_puts(b, ", ");
        random_bool(b, depth + 1);
        qn_buf_puts(b, ", ");
        random_bool(b, depth + 1);
    } else if (kind < 6) {
        qn_buf_puts(b, kind == 3 ? " or " : " and ");
        random_bool(b, depth + 1);
    }
    qn_buf_puts(b, ")");
}

Test(ranges, any_mask_keeps_what_it_needs)
{
    const char *given = getenv("QN_SEED");
    int tries = given ? 4000 : 250;
    seed = given ? (uint64_t)atoll(given) * 2654435761u + 1 : seed;
    tally t = {0};
    for (int k = 0; k < tries; k++) {
        qn_mark m = qn_arena_mark(&scratch);
        qn_buf b = qn_buf_of(&arena);
        random_bool(&b, 0);
        mask_case c = {.name = b.text,
                       .mask = b.text,
                       .declare = "in U: i32\n  in V: i32",
                       .params = {{"U", 's', -6, 25}, {"V", 's', -6, 25}}};
        const char *text = source(&c);
        qn_kernel_ir *naive = qn_file_kernel(parse(text), NULL);
        qn_kernel_ir *made = through(text, "tile,stream,ranges", 4, 4);
        static const int few[][2] = {{9, 14}, {13, 6}, {1, 21}, {8, 8}};
        for (int s = 0; s < 4; s++) {
            try_shape(&c, naive, made, 4, 4, few[s][0], few[s][1], &t);
        }
        qn_arena_release(&scratch, m);
    }
    if (getenv("QN_SHOW")) {
        fprintf(stderr, "need %d ran %d full %d marked %d\n", (int)t.need, (int)t.ran, (int)t.full,
                (int)t.marked);
    }
    /* most of the work is left out even for masks nobody would write */
    cr_expect(t.ran * 10 <= t.need * 15, "%d needed, %d ran", (int)t.need, (int)t.ran);
}

/* ---------------------------------------------------------------- other loops */

static const char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert(at, "no %s", from);
    qn_buf b = qn_buf_of(&arena);
    qn_buf_printf(&b, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return b.text;
}

/* Rows inside a task of keys: the backward of causal attention with its bounds taken out. */
Test(ranges, rows_in_a_task_of_keys)
{
    static const char *const masks[] = {"j0 + j:32 <= %p",
                                        "j0 + j:32 <= %p and %p - (j0 + j:32) < 40",
                                        "j0 + j:32 > %p + 3 or %p - (j0 + j:32) > 50"};
    static const int shapes_of[][2] = {{1, 1}, {33, 70}, {70, 33}, {64, 64}};
    const char *text = qn_lab_read(&lab, "tests/corpus/i_backward.qir");
    text = replaced(text, "%ilo..Nq step 32", "0..Nq step 32");
    text =
        replaced(text, "%ilo = clamp((j0 - %off) // 32, 0, (Nq + 31) // 32) * 32", "%unused = 0");
    for (int k = 0; k < 3; k++) {
        const char *whole = replaced(text, "j0 + j:32 <= %p", masks[k]);
        for (int p = 0; p < 2; p++) {
            const char *made = qn_file_text(
                &arena, file_through(whole, p ? "ranges,peel,bare" : "ranges", 32, 32));
            cr_expect(strstr(made, "in 0..Nq step 32 carry") == NULL, "not bounded: %s", made);
            cr_expect(p || strstr(made, "!full(") != NULL, "no full range: %s", made);
            for (int s = 0; s < 4; s++) {
                int64_t Nq = shapes_of[s][0], Nk = shapes_of[s][1];
                qn_args a = {0};
                qn_args_dim(&a, "Nq", Nq);
                qn_args_dim(&a, "Nk", Nk);
                qn_args_array(&a, "q", qn_normal(&lab, QN_F32, 1, 3, (int64_t[]){2, Nq, 2}));
                qn_args_array(&a, "k", qn_normal(&lab, QN_F32, 2, 3, (int64_t[]){1, Nk, 2}));
                qn_args_array(&a, "v", qn_normal(&lab, QN_F32, 3, 3, (int64_t[]){1, Nk, 3}));
                qn_args_array(&a, "slope", qn_normal(&lab, QN_F32, 4, 1, (int64_t[]){2}));
                qn_args_array(&a, "o", qn_normal(&lab, QN_F32, 5, 3, (int64_t[]){2, Nq, 3}));
                qn_args_array(&a, "lse", qn_normal(&lab, QN_F32, 6, 2, (int64_t[]){2, Nq}));
                qn_args_array(&a, "do", qn_normal(&lab, QN_F32, 7, 3, (int64_t[]){2, Nq, 3}));
                const qn_interp_result *want =
                    qn_lab_run(&lab, qn_lab_text(&lab, whole), NULL, &a, QN_EXACT, 0);
                const qn_interp_result *got =
                    qn_lab_try_run(&lab, qn_lab_text(&lab, made), NULL, &a, QN_EXACT, 0);
                cr_assert(got, "%s%s", made, qn_lab_errors(&lab));
                for (int o = 0; o < want->nouts; o++) {
                    cr_assert(qn_distance(&want->outs[o].array, &got->outs[o].array) < 1e-11,
                              "%s Nq=%d Nk=%d %s", masks[k], (int)Nq, (int)Nk, want->outs[o].name);
                }
            }
        }
    }
}

static const char *loop_with(const char *body)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_printf(&b,
                  "kernel @k {\n"
                  "  dim N\n"
                  "  in x: f32[j:N]\n"
                  "  in n: i32\n"
                  "  out y: f32[c:4]\n"
                  "  launch {\n"
                  "    par for t in 0..4 {\n"
                  "%s"
                  "    }\n"
                  "  }\n"
                  "}\n",
                  body);
    return b.text;
}

#define KEPT "        %keep = j0 + j:8 < N and j0 + j:8 < i64(n)\n"

Test(ranges, a_loop_that_is_not_neutral_stays)
{
    /* counts its trips, whatever the mask says */
    const char *text =
        loop_with("      for j0 in 0..N step 8 carry %s: f32 = 0.0 {\n" KEPT
                  "        yield %s + reduce.sum(select(%keep, tile x[j0 + j:8], 1.0), over j)\n"
                  "      }\n"
                  "      store y[t] = %s\n");
    const char *made = qn_file_text(&arena, file_through(text, "ranges", 8, 8));
    cr_expect(has_remark("W-NOMASK"));
    cr_expect(strstr(made, "for j0 in 0..N step 8") != NULL, "%s", made);
    cr_expect(strstr(made, "!mask") == NULL, "%s", made);
}

Test(ranges, a_started_sum_is_no_rescaled_one)
{
    /* times 0 or 1 is only the same for a sum that begins at 0 */
    static const char body[] =
        "      for j0 in 0..N step 8 carry %%m: f32 = -inf, %%s: f32 = %s {\n"
        "        %%keep = j0 + j:8 < N and j0 + j:8 < i64(n)\n"
        "        %%m1 = max(%%m, reduce.max(select(%%keep, tile x[j0 + j:8], -inf), over j))\n"
        "        %%f = select(%%m == -inf, 0.0, exp(%%m - %%m1))\n"
        "        yield %%m1, %%s * %%f + reduce.sum(select(%%keep, 1.0, 0.0), over j)\n"
        "      }\n"
        "      store y[t] = %%s\n";
    for (int zero = 0; zero < 2; zero++) {
        qn_buf b = qn_buf_of(&arena);
        qn_buf_printf(&b, body, zero ? "0.0" : "2.0");
        file_through(loop_with(b.text), "ranges", 8, 8);
        cr_expect_eq(has_remark("W-NOMASK"), !zero);
    }
}

Test(ranges, a_greatest_index_a_count_and_another_name_are_neutral)
{
    const char *text = loop_with(
        "      for j0 in 0..N step 8 carry %m: f32 = -inf, %at: i64 = -1, %c: i64 = 0 {\n" KEPT
        "        %z = select(%keep, tile x[j0 + j:8], -inf)\n"
        "        %top = reduce.max(%z, over j)\n"
        "        yield max(%m, %top), select(%top > %m, j0 + reduce.argmax(%z, over j), %at), %c + "
        "reduce.sum(i64(%keep), over j)\n"
        "      }\n"
        "      store y[t] = f32(%at + %c)\n");
    const char *made = qn_file_text(&arena, file_through(text, "ranges", 8, 8));
    cr_expect(!has_remark("W-NOMASK"));
    cr_expect(strstr(made, "min(N, i64(n))") != NULL, "%s", made);
}

Test(ranges, many_pieces_are_walked_as_one)
{
    const mask_case m = {.name = "",
                         .mask = "j:Nk < 3 or j:Nk > 20 and j:Nk < 33 or j:Nk > 60 and j:Nk < 71 "
                                 "or j:Nk > 90 and j:Nk < 101 or j:Nk > 120 and j:Nk < 130",
                         .declare = ""};
    file_through(source(&m), "tile,stream,ranges", 8, 8);
    cr_expect(has_remark("W-HULL"));
}

Test(ranges, a_schedule_can_say_no)
{
    const char *text =
        loop_with("      for j0 in 0..N step 8 carry %s: f32 = 0.0 {\n" KEPT
                  "        yield %s + reduce.sum(select(%keep, tile x[j0 + j:8], 0.0), over j)\n"
                  "      }\n"
                  "      store y[t] = %s\n");
    qn_ir_file *f = parse(text);
    qn_schedule *s = qn_schedule_new(&ir, "@s", "any");
    qn_schedule_add(&ir, s, NULL, "ranges", NULL, "off", "user");
    qn_machine machine = {"any", 8, 16, 32768, 1 << 20};
    qn_pass_cx cx = {&ir, &scratch, s, &machine, &diags};
    qn_pipeline_options o = {.only = "ranges"};
    cr_assert(qn_pipeline_run(&cx, &f, NULL, &o));
    cr_expect(strstr(qn_file_text(&arena, f), "for j0 in 0..N step 8") != NULL);
    const char *made = qn_file_text(&arena, file_through(text, "ranges", 8, 8));
    cr_expect(strstr(made, "for j0 in 0..N step 8") == NULL, "%s", made);
}

Test(ranges, twice_is_once)
{
    for (int c = 0; c < (int)(sizeof cases / sizeof *cases); c++) {
        const char *once =
            qn_file_text(&arena, file_through(source(&cases[c]), "tile,stream,ranges", 16, 8));
        const char *twice = qn_file_text(&arena, file_through(once, "ranges", 16, 8));
        cr_expect_str_eq(once, twice);
    }
}
