/* SPDX-License-Identifier: MIT
 *
 * Tiles become loops over register blocks.
 *
 * needs  par nests whose tiles have constant extents, or dims only along walked axes
 * makes  !level(leaf), !leaf(width, registers, lane axes) on every nest it could turn
 * law    the same values; sums in another order. What cannot be turned stays as it was, with
 *        W-PLAIN, and is printed as plain loops.
 *
 * The schedule gives the lane axes and their width (`lanes i 16`), and register blocks
 * (`block j 4`); everything else is derived: which products and reductions share a loop, what
 * lives in registers, what in task buffers, what is packed and where, how far an edge is walked. */
#include "ir/lex.h"
#include "ir/verify.h"
#include "passes/leaf_internal.h"

#include <stdarg.h>
#include <string.h>

void leaf_refuse(leaf *lf, qn_place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qn_buf b = qn_buf_of(lf->ir->arena);
    qn_buf_vprintf(&b, format, args);
    va_end(args);
    lf->why = b.text ? b.text : "";
    lf->why_place = place;
    longjmp(*lf->refuse, 1);
}

void leaf_walk_lane(leaf *lf, qn_sym axis)
{
    lf->walked->at[lf->walked->count++] = axis;
    longjmp(*lf->refuse, 2);
}

/* ---------------------------------------------------------------- names */

static uint32_t slot_of(const leaf *lf, qn_sym name)
{
    uint64_t h = (uint64_t)(uintptr_t)name * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) & (uint32_t)(lf->info.cap - 1);
}

lf_info *leaf_info(leaf *lf, qn_sym name)
{
    if (!lf->info.cap) {
        return NULL;
    }
    for (uint32_t k = slot_of(lf, name); lf->info.at[k];
         k = (k + 1) & (uint32_t)(lf->info.cap - 1)) {
        if (lf->info.at[k]->name == name) {
            return lf->info.at[k];
        }
    }
    return NULL;
}

static void put_info(leaf *lf, lf_info *v)
{
    uint32_t k = slot_of(lf, v->name);
    while (lf->info.at[k]) {
        k = (k + 1) & (uint32_t)(lf->info.cap - 1);
    }
    lf->info.at[k] = v;
}

lf_info *leaf_define(leaf *lf, qn_sym name, lf_kind kind, qn_type type)
{
    lf_info *v = leaf_info(lf, name);
    if (!v) {
        if (lf->info.count * 2 >= lf->info.cap) {
            lf_info **old = lf->info.at;
            int32_t n = lf->info.cap;
            lf->info.cap = n ? n * 2 : 64;
            lf->info.at = QN_NEWN(lf->scratch, lf_info *, lf->info.cap);
            for (int k = 0; k < n; k++) {
                if (old[k]) {
                    put_info(lf, old[k]);
                }
            }
        }
        v = QN_NEW(lf->scratch, lf_info);
        v->name = name;
        put_info(lf, v);
        lf->info.count++;
    }
    v->kind = kind;
    v->type = type;
    return v;
}

qn_sym leaf_fresh(leaf *lf, const char *base)
{
    for (int k = 1;; k++) {
        qn_buf b = qn_buf_of(lf->scratch);
        qn_buf_printf(&b, "%s%d", base, k);
        qn_sym s = qn_intern(lf->ir, b.text);
        if (!qn_names_has(lf->names, s) && !qn_word_is_reserved(s)) {
            qn_names_add(lf->names, s);
            return s;
        }
    }
}

qn_type leaf_type(leaf *lf, const qn_expr *x)
{
    qn_type t = {0};
    if (!qn_type_infer(lf->env, x, &t)) {
        leaf_refuse(lf, x->place, "%s", lf->env->fault.text ? lf->env->fault.text : "ill-typed");
    }
    t.dtype = qn_dtype_settle(t.dtype);
    return t;
}

int64_t leaf_const(leaf *lf, qn_extent e)
{
    return qn_extent_const(lf->env, e);
}

/* ---------------------------------------------------------------- axes */

bool leaf_type_has(const qn_type *t, qn_sym axis)
{
    return qn_type_axis(t, axis) != NULL;
}

const lf_lane *leaf_lane_of(const leaf *lf, qn_sym axis)
{
    for (int k = 0; k < lf->nlanes; k++) {
        if (lf->lanes[k].axis == axis) {
            return &lf->lanes[k];
        }
    }
    return NULL;
}

bool leaf_is_lane(const leaf *lf, qn_sym axis)
{
    return leaf_lane_of(lf, axis) != NULL;
}

int64_t leaf_block_line(leaf *lf, qn_sym axis)
{
    return qn_schedule_int(lf->cx->schedule, lf->nest, "block", axis, 0);
}

bool leaf_is_flat(leaf *lf, qn_axis a)
{
    int64_t n = leaf_const(lf, a.extent);
    return !leaf_is_lane(lf, a.name) && n > 0 && (n == 1 || n <= leaf_block_line(lf, a.name)) &&
           n <= 8;
}

bool leaf_is_small(leaf *lf, const qn_type *t)
{
    int lanes = 0;
    for (int k = 0; k < t->rank; k++) {
        const lf_lane *l = leaf_lane_of(lf, t->axes[k].name);
        lanes += l != NULL;
        if (l ? !l->whole || lanes > 1 : !leaf_is_flat(lf, t->axes[k])) {
            return false;
        }
    }
    return true;
}

int leaf_loop_axes(leaf *lf, const qn_type *t, qn_sym lane, const qn_axis **out)
{
    qn_axis *axes = QN_NEWN(lf->scratch, qn_axis, t->rank + 1);
    int n = 0;
    for (int k = 0; k < t->rank; k++) {
        const lf_lane *l = leaf_lane_of(lf, t->axes[k].name);
        if (l ? l->axis != lane || !l->whole : !leaf_is_flat(lf, t->axes[k])) {
            axes[n++] = t->axes[k];
        }
    }
    *out = axes;
    return n;
}

/* ---------------------------------------------------------------- the lane axes of a nest */

typedef struct lane_scan {
    leaf *lf;
    int k;
    int64_t flat; /* registers of other axes beside one vector of this one, at most */
    bool found, mixed;
    qn_extent extent;
} lane_scan;

static bool see_extent(void *user, const qn_expr *x)
{
    lane_scan *s = user;
    if (x->kind == QN_IOTA && x->u.iota.name == s->lf->lanes[s->k].axis) {
        if (s->found && !qn_extent_equal(s->extent, x->u.iota.extent)) {
            s->mixed = true;
        }
        s->found = true;
        s->extent = x->u.iota.extent;
    }
    return true;
}

static int64_t flat_product(leaf *lf, const qn_type *t)
{
    int64_t n = 1;
    for (int k = 0; k < t->rank; k++) {
        n *= leaf_is_flat(lf, t->axes[k]) ? leaf_const(lf, t->axes[k].extent) : 1;
    }
    return n;
}

static void find_lanes(leaf *lf, qn_stmt *nest)
{
    const qn_schedule *s = lf->cx->schedule;
    for (int k = 0; k < s->lines.count; k++) {
        const qn_sched_line *l = &s->lines.at[k];
        if (strcmp(l->key, "lanes") != 0 || !l->subject || leaf_is_lane(lf, l->subject) ||
            (l->nest && (!lf->nest || strcmp(l->nest, lf->nest) != 0))) {
            continue;
        }
        int64_t w = qn_schedule_int(s, lf->nest, "lanes", l->subject, lf->cx->machine->lanes);
        if (w < 1 || w > 64 || (w & (w - 1)) != 0) {
            leaf_refuse(lf, l->place, "%lld lanes are no power of two up to 64", (long long)w);
        }
        if (lf->nlanes == LEAF_MAX_LANES) {
            leaf_refuse(lf, l->place, "more than %d lane axes", LEAF_MAX_LANES);
        }
        lane_scan scan = {.lf = lf, .k = lf->nlanes};
        lf->lanes[lf->nlanes++] = (lf_lane){.axis = l->subject};
        qn_block one = {&nest, 1, 1};
        qn_block_visit(&one, see_extent, &scan);
        if (!scan.found) { /* an axis of another nest */
            lf->nlanes--;
            continue;
        }
        if (scan.mixed) {
            leaf_refuse(lf, l->place, "axis %s has several extents", l->subject);
        }
        if (lf->width && lf->width != w) {
            leaf_refuse(lf, l->place, "lane axes of different widths");
        }
        lf->width = w;
        lf->lanes[lf->nlanes - 1].extent = leaf_const(lf, scan.extent);
        lf->lanes[lf->nlanes - 1].block = scan.extent.dim == NULL;
    }
}

/* An axis is whole if all of it, beside the flat axes of any value, fits a few registers. */
static void size_lanes(leaf *lf, qn_place place)
{
    for (int k = 0; k < lf->nlanes; k++) {
        lf_lane *l = &lf->lanes[k];
        int64_t flat = 1;
        for (int n = 0; n < lf->info.cap; n++) {
            const lf_info *v = lf->info.at[n];
            if (v && v->kind == LF_VALUE && leaf_type_has(&v->type, l->axis)) {
                int64_t f = flat_product(lf, &v->type);
                flat = f > flat ? f : flat;
            }
        }
        int64_t vectors = (l->extent + lf->width - 1) / lf->width;
        for (int n = 0; n < lf->walked->count; n++) {
            flat = lf->walked->at[n] == l->axis ? 9 : flat;
        }
        l->whole = l->extent > 0 && vectors * flat <= 8 && leaf_block_line(lf, l->axis) == 0;
        if (!l->whole && l->block && l->extent % lf->width != 0) {
            leaf_refuse(lf, place, "lanes of %s: its block of %lld is no multiple of %lld", l->axis,
                        (long long)l->extent, (long long)lf->width);
        }
    }
}

/* ---------------------------------------------------------------- driver */

static bool see_tile(void *user, const qn_expr *x)
{
    bool *tiles = user;
    *tiles = *tiles || x->kind == QN_AXOP || x->kind == QN_IOTA || x->kind == QN_FOLD;
    return true;
}

static bool has_tiles(const qn_stmt *nest)
{
    bool tiles = false;
    qn_block_visit(&nest->u.loop.body, see_tile, &tiles);
    return tiles;
}

/* Everything before the nest is known to the environment and to the facts. */
void leaf_enter_nest(leaf *lf, const qn_stmt *launch, const qn_stmt *nest)
{
    lf->env = qn_env_push(qn_env_kernel(lf->ir, lf->file, lf->kernel));
    lf->facts = qn_facts_kernel(lf->scratch, lf->ir, lf->kernel);
    for (int k = 0; k < lf->kernel->body.count && lf->kernel->body.at[k] != launch; k++) {
        const qn_stmt *s = lf->kernel->body.at[k];
        if (s->kind == QN_LET || s->kind == QN_BUF) {
            if (!qn_env_stmt(lf->env, s)) {
                leaf_refuse(lf, s->place, "%s", lf->env->fault.text);
            }
            qn_facts_stmt(lf->facts, s);
        }
    }
    for (const qn_env *e = lf->env; e; e = e->parent) {
        for (int k = 0; k < e->count; k++) {
            const qn_bound *b = &e->at[k];
            bool memory = b->kind == QN_BOUND_MEMORY;
            leaf_define(lf, b->name, memory ? LF_MEMORY : LF_SCALAR, b->type);
        }
    }
    qn_facts_push(lf->facts);
    qn_facts_enter_loop(lf->facts, nest);
}

static void mark(leaf *lf, qn_stmt *nest)
{
    qn_attr_arg *args = QN_NEWN(lf->ir->arena, qn_attr_arg, 2 + lf->nlanes);
    int n = 0;
    args[n++] = (qn_attr_arg){qn_int(lf->ir, lf->width), NULL};
    args[n++] = (qn_attr_arg){qn_int(lf->ir, lf->registers), NULL};
    for (int k = 0; k < lf->nlanes; k++) {
        args[n++] = (qn_attr_arg){qn_name(lf->ir, lf->lanes[k].axis), NULL};
    }
    qn_attr_remove(&nest->attrs, "leaf");
    qn_attr_add(lf->ir, &nest->attrs, "leaf", args, n);
}

typedef struct listed {
    qn_sym index;
    leaf *lf;
    qn_extent extent; /* that every store has at the index */
    bool any, other;
} listed;

static void see_listed(void *user, qn_stmt *s)
{
    listed *l = user;
    if (s->kind != QN_STORE || leaf_info(l->lf, s->u.store.base)->task) {
        return;
    }
    const qn_type *t = &leaf_info(l->lf, s->u.store.base)->type;
    bool here = false;
    for (int k = 0; k < s->u.store.index.count; k++) {
        const qn_expr *x = s->u.store.index.at[k];
        if (x->kind == QN_NAME && x->u.name == l->index) {
            l->other = l->other || (l->any && !qn_extent_equal(l->extent, t->axes[k].extent));
            l->extent = t->axes[k].extent;
            l->any = here = true;
        }
    }
    l->other = l->other || !here;
}

/* A par index that is an element of a list may lie outside of what every store is indexed by: the
 * task would store nothing. It is skipped, and its loads need no guard against that. The condition
 * of a task, or NULL. */
static qn_expr *present(leaf *lf, const qn_stmt *nest)
{
    qn_ir *ir = lf->ir;
    qn_expr *all = NULL;
    for (int k = 0; k < nest->u.loop.niters; k++) {
        const qn_iter *it = &nest->u.loop.iters[k];
        bool list = false;
        for (int n = 0; n < it->npieces; n++) {
            list = list || it->pieces[n].list;
        }
        listed l = {.index = it->name, .lf = lf};
        qn_block_stmts(&nest->u.loop.body, see_listed, &l);
        if (!list || !l.any || l.other) {
            continue;
        }
        qn_expr *index = qn_name(ir, it->name);
        qn_expr *c = qn_op2(ir, QN_OP_AND, qn_op2(ir, QN_OP_GE, index, qn_int(ir, 0)),
                            qn_op2(ir, QN_OP_LT, index, qn_extent_expr(ir, l.extent)));
        all = all ? qn_op2(ir, QN_OP_AND, all, c) : c;
    }
    return all;
}

static void only_if(leaf *lf, qn_expr *cond, qn_block *body)
{
    qn_stmt *s = qn_stmt_new(lf->ir, QN_IF, (qn_place){0});
    s->u.branch.cond = cond;
    s->u.branch.then = *body;
    *body = (qn_block){0};
    qn_block_push(lf->ir, body, s);
}

/* One nest, on a copy; returns the copy, or NULL if it refuses. */
static qn_stmt *turn(leaf *lf, const qn_stmt *launch, const qn_stmt *nest, bool *again)
{
    jmp_buf refuse;
    lf->refuse = &refuse;
    switch (setjmp(refuse)) {
    case 0:
        break;
    case 2:
        *again = true;
        return NULL;
    default:
        return NULL;
    }
    qn_stmt *copy = qn_stmt_copy(lf->ir, nest);
    leaf_enter_nest(lf, launch, nest);
    find_lanes(lf, copy);
    if (!lf->nlanes) {
        leaf_refuse(lf, nest->place, "no lane axis is chosen for it");
    }
    leaf_unique(lf, copy);
    leaf_hoist(lf, copy);
    leaf_register(lf, copy);
    size_lanes(lf, nest->place);
    qn_expr *cond = present(lf, copy);
    if (cond) {
        qn_facts_assume(lf->facts, cond, true);
    }
    qn_block opening = leaf_pretrim(lf, copy);
    qn_block body = leaf_block(lf, &copy->u.loop.body, NULL, 0);
    qn_block_append(lf->ir, &opening, &body);
    leaf_invariants(lf, &opening);
    if (cond) {
        only_if(lf, cond, &opening);
    }
    qn_block all = {0};
    for (int k = 0; k < lf->bufs.count; k++) {
        qn_block_push(lf->ir, &all, lf->bufs.at[k].stmt);
    }
    qn_block_append(lf->ir, &all, &opening);
    copy->u.loop.body = all;
    mark(lf, copy);
    leaf_report_guards(lf, copy);
    return copy;
}

leaf *leaf_new(qn_pass_cx *cx, const qn_ir_file *f, qn_kernel_ir *k, const qn_stmt *nest,
               lf_walked *walked)
{
    leaf *lf = QN_NEW(cx->scratch, leaf);
    lf->cx = cx;
    lf->ir = cx->ir;
    lf->scratch = cx->scratch;
    lf->file = f;
    lf->kernel = k;
    lf->registers = cx->machine->registers;
    lf->walked = walked;
    lf->names = qn_names_of_kernel(cx->ir, k);
    const qn_attr *name = qn_attr_find(&nest->attrs, "name");
    if (name && name->nargs == 1 && name->args[0].lo->kind == QN_NAME) {
        lf->nest = name->args[0].lo->u.name;
    }
    return lf;
}

/* Does the verifier find every value within the registers? */
static bool fits_registers(leaf *lf, const qn_ir_file *f, qn_stmt *launch, int at, qn_stmt *leafed)
{
    qn_diags d;
    qn_diags_init(&d, lf->scratch, NULL, NULL);
    qn_stmt *keep = launch->u.launch.at[at];
    launch->u.launch.at[at] = leafed;
    bool good = qn_verify(f, &d);
    launch->u.launch.at[at] = keep;
    return good;
}

static bool run(qn_pass_cx *cx, qn_ir_file *f, qn_kernel_ir *k)
{
    bool turned = false;
    for (int n = 0; n < k->body.count; n++) {
        qn_stmt *launch = k->body.at[n];
        for (int m = 0; launch->kind == QN_LAUNCH && m < launch->u.launch.count; m++) {
            qn_stmt *nest = launch->u.launch.at[m];
            if (qn_attr_find(&nest->attrs, "leaf") || !has_tiles(nest)) {
                continue;
            }
            lf_walked walked = {0};
            bool again;
            leaf *lf;
            qn_stmt *leafed;
            do {
                again = false;
                lf = leaf_new(cx, f, k, nest, &walked);
                leafed = turn(lf, launch, nest, &again);
                if (leafed && !fits_registers(lf, f, launch, m, leafed)) {
                    again = walked.shrink++ < 4;
                    leafed = NULL;
                    lf->why = "its values do not fit the registers";
                }
            } while (again);
            if (leafed) {
                leaf_require_sizes(lf, leafed);
                launch->u.launch.at[m] = leafed;
                turned = true;
            } else {
                qn_remark(cx, "W-PLAIN", lf->why_place.line ? lf->why_place : nest->place, "%s",
                          lf->why);
            }
        }
    }
    if (turned) {
        qn_attr_remove(&k->attrs, "level");
        qn_expr *level = qn_name_of(cx->ir, "leaf");
        qn_attr_add(cx->ir, &k->attrs, "level", &(qn_attr_arg){level, NULL}, 1);
    }
    return true;
}

const qn_pass qn_pass_leaf = {
    .name = "leaf",
    .doc = "tiles become loops over register blocks, with one lane axis a value",
    .ready = NULL,
    .run = run,
};
