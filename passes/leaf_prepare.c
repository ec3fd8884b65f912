/* SPDX-License-Identifier: MIT
 *
 * Before a nest is planned: every name means one thing in the whole nest, so that tables may be
 * flat; and a product's operand that no loop changes is named before that loop, so that it is
 * packed once. */
#include "passes/leaf_internal.h"

#include <string.h>

/* ---------------------------------------------------------------- unique names */

typedef struct renames {
    leaf *lf;
    struct {
        qn_binding *at;
        int32_t count, cap;
    } map; /* the newest wins */
} renames;

static qn_expr *rename_one(void *user, qn_expr *x)
{
    renames *r = user;
    qn_sym name = x->kind == QN_NAME ? x->u.name : x->kind == QN_LOAD ? x->u.load.base : NULL;
    for (int k = r->map.count - 1; name && k >= 0; k--) {
        if (r->map.at[k].name != name) {
            continue;
        }
        qn_expr *to = r->map.at[k].x;
        if (to->u.name == name) {
            return x;
        }
        if (x->kind == QN_NAME) {
            return to;
        }
        return qn_load(r->lf->ir, to->u.name, x->u.load.index.at, x->u.load.index.count,
                       x->u.load.guarded, x->u.load.pad);
    }
    return x;
}

static qn_sym renamed(renames *r, qn_sym name)
{
    for (int k = r->map.count - 1; k >= 0; k--) {
        if (r->map.at[k].name == name) {
            return r->map.at[k].x->u.name;
        }
    }
    return name;
}

/* The name in the nest of a name defined here. */
static qn_sym define(renames *r, qn_sym name)
{
    qn_sym to = leaf_info(r->lf, name) ? leaf_fresh(r->lf, name) : name;
    leaf_define(r->lf, to, LF_SCALAR, (qn_type){0});
    QN_PUSH(r->lf->scratch, &r->map, ((qn_binding){name, qn_name(r->lf->ir, to)}));
    return to;
}

static const qn_sym *define_all(renames *r, const qn_sym *names, int n)
{
    qn_sym *out = QN_NEWN(r->lf->ir->arena, qn_sym, n + 1);
    for (int k = 0; k < n; k++) {
        out[k] = define(r, names[k]);
    }
    return out;
}

static void unique_block(renames *r, qn_block *b);

static void unique_scope(renames *r, qn_block *b)
{
    int32_t mark = r->map.count;
    unique_block(r, b);
    r->map.count = mark;
}

static void unique_loop(renames *r, qn_stmt *s)
{
    leaf *lf = r->lf;
    int32_t mark = r->map.count;
    /* bounds of a later iter may name an earlier index; initial values see none of them */
    qn_carry *carries = QN_NEWN(lf->ir->arena, qn_carry, s->u.loop.ncarries + 1);
    for (int k = 0; k < s->u.loop.ncarries; k++) {
        carries[k] = s->u.loop.carries[k];
        carries[k].init = qn_rewrite(lf->ir, carries[k].init, rename_one, r);
    }
    qn_iter *iters = QN_NEWN(lf->ir->arena, qn_iter, s->u.loop.niters + 1);
    for (int k = 0; k < s->u.loop.niters; k++) {
        iters[k] = s->u.loop.iters[k];
        qn_piece *pieces = QN_NEWN(lf->ir->arena, qn_piece, iters[k].npieces + 1);
        for (int p = 0; p < iters[k].npieces; p++) {
            pieces[p] = iters[k].pieces[p];
            qn_expr **index = QN_NEWN(lf->scratch, qn_expr *, pieces[p].index.count + 1);
            for (int n = 0; n < pieces[p].index.count; n++) {
                index[n] = qn_rewrite(lf->ir, pieces[p].index.at[n], rename_one, r);
            }
            pieces[p].index = qn_exprs_of(lf->ir, index, pieces[p].index.count);
            pieces[p].lo = qn_rewrite(lf->ir, pieces[p].lo, rename_one, r);
            pieces[p].hi = qn_rewrite(lf->ir, pieces[p].hi, rename_one, r);
        }
        iters[k].pieces = pieces;
        iters[k].step = iters[k].step ? qn_rewrite(lf->ir, iters[k].step, rename_one, r) : NULL;
        iters[k].name = s->u.loop.par ? iters[k].name : define(r, iters[k].name);
        iters[k].end = s->u.loop.par || !iters[k].end ? iters[k].end : define(r, iters[k].end);
        if (s->u.loop.par) { /* not renamed, and not free for others */
            leaf_define(lf, iters[k].name, LF_SCALAR, (qn_type){0});
            if (iters[k].end) {
                leaf_define(lf, iters[k].end, LF_SCALAR, (qn_type){0});
            }
        }
    }
    s->u.loop.iters = iters;
    int32_t indices = r->map.count;
    for (int k = 0; k < s->u.loop.ncarries; k++) {
        carries[k].name = define(r, carries[k].name);
    }
    s->u.loop.carries = carries;
    for (int k = 0; k < s->attrs.count; k++) { /* !full(lo..hi) names scalars */
        qn_attr *a = &s->attrs.at[k];
        qn_attr_arg *args = QN_NEWN(lf->ir->arena, qn_attr_arg, a->nargs + 1);
        for (int n = 0; n < a->nargs; n++) {
            args[n] = a->args[n];
            if (strcmp(a->name, "full") == 0) {
                args[n].lo = qn_rewrite(lf->ir, args[n].lo, rename_one, r);
                args[n].hi = args[n].hi ? qn_rewrite(lf->ir, args[n].hi, rename_one, r) : NULL;
            }
        }
        a->args = args;
    }
    unique_scope(r, &s->u.loop.body);
    /* the carries stay visible after the loop, the indices do not */
    for (int k = mark; k < indices; k++) {
        r->map.at[k] = (qn_binding){"", r->map.at[k].x};
    }
}

static void unique_block(renames *r, qn_block *b)
{
    leaf *lf = r->lf;
    for (int n = 0; n < b->count; n++) {
        qn_stmt *s = b->at[n];
        if (s->kind == QN_FOR) {
            unique_loop(r, s);
            continue;
        }
        qn_stmt_rewrite(lf->ir, s, false, rename_one, r);
        switch (s->kind) {
        case QN_LET:
            s->u.let.names = define_all(r, s->u.let.names, s->u.let.nnames);
            break;
        case QN_BUF:
            s->u.buf.name = define(r, s->u.buf.name);
            break;
        case QN_STORE:
            s->u.store.base = renamed(r, s->u.store.base);
            break;
        case QN_PREFETCH:
            s->u.prefetch.base = renamed(r, s->u.prefetch.base);
            break;
        case QN_IF:
            unique_scope(r, &s->u.branch.then);
            unique_scope(r, &s->u.branch.other);
            s->u.branch.names = define_all(r, s->u.branch.names, s->u.branch.nnames);
            break;
        case QN_FLAG:
        case QN_YIELD:
            break;
        case QN_FOR:
        case QN_SYNC:
        case QN_LAUNCH:
            leaf_refuse(lf, s->place, "a statement that only other machines have");
        }
    }
}

void leaf_unique(leaf *lf, qn_stmt *nest)
{
    renames r = {.lf = lf};
    unique_loop(&r, nest);
}

/* ---------------------------------------------------------------- hoisted operands */

typedef struct hoisting {
    leaf *lf;
    struct {
        qn_sym *at;
        int32_t count, cap;
    } vary; /* names that change in the loop at hand */
    struct seen {
        qn_expr *x;
        qn_sym name;
    } * seen; /* loads already named, visible here */
    int nseen, room;
    qn_block *out; /* where new names are defined */
} hoisting;

static void collect_defined(void *user, qn_stmt *s)
{
    hoisting *h = user;
    qn_arena *a = h->lf->scratch;
    switch (s->kind) {
    case QN_LET:
        for (int k = 0; k < s->u.let.nnames; k++) {
            QN_PUSH(a, &h->vary, s->u.let.names[k]);
        }
        break;
    case QN_BUF:
        QN_PUSH(a, &h->vary, s->u.buf.name);
        break;
    case QN_FOR:
        for (int k = 0; k < s->u.loop.niters; k++) {
            QN_PUSH(a, &h->vary, s->u.loop.iters[k].name);
            if (s->u.loop.iters[k].end) {
                QN_PUSH(a, &h->vary, s->u.loop.iters[k].end);
            }
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            QN_PUSH(a, &h->vary, s->u.loop.carries[k].name);
        }
        break;
    case QN_IF:
        for (int k = 0; k < s->u.branch.nnames; k++) {
            QN_PUSH(a, &h->vary, s->u.branch.names[k]);
        }
        break;
    case QN_STORE:
    case QN_YIELD:
    case QN_SYNC:
    case QN_LAUNCH:
    case QN_FLAG:
    case QN_PREFETCH:
        break;
    }
}

static bool mentions_vary(void *user, const qn_expr *x)
{
    const hoisting *h = user;
    qn_sym name = x->kind == QN_NAME ? x->u.name : x->kind == QN_LOAD ? x->u.load.base : NULL;
    for (int k = 0; name && k < h->vary.count; k++) {
        if (h->vary.at[k] == name) {
            return true;
        }
    }
    return false;
}

static bool is_lane_iota(void *user, const qn_expr *x)
{
    return x->kind == QN_IOTA && leaf_is_lane(user, x->u.iota.name);
}

static qn_expr *name_operand(hoisting *h, qn_expr *a)
{
    leaf *lf = h->lf;
    const lf_info *base = a->kind == QN_LOAD ? leaf_info(lf, a->u.load.base) : NULL;
    if (!base || base->mutable_ || a->u.load.base[0] == '%' || !qn_contains(a, is_lane_iota, lf) ||
        qn_contains(a, mentions_vary, h)) {
        return a;
    }
    for (int k = 0; k < h->nseen; k++) {
        if (qn_expr_equal(h->seen[k].x, a)) {
            return qn_name(lf->ir, h->seen[k].name);
        }
    }
    qn_buf b = qn_buf_of(lf->scratch);
    qn_buf_printf(&b, "%%%s_", a->u.load.base);
    qn_sym name = leaf_fresh(lf, b.text);
    leaf_define(lf, name, LF_SCALAR, (qn_type){0});
    qn_block_push(lf->ir, h->out, qn_let(lf->ir, name, a));
    if (h->nseen == h->room) {
        int room = h->room * 2 + 8;
        struct seen *more = QN_NEWN(lf->scratch, struct seen, room);
        for (int k = 0; k < h->nseen; k++) {
            more[k] = h->seen[k];
        }
        h->seen = more;
        h->room = room;
    }
    h->seen[h->nseen++] = (struct seen){a, name};
    return qn_name(lf->ir, name);
}

static qn_expr *name_operands(void *user, qn_expr *x)
{
    hoisting *h = user;
    if (x->kind != QN_AXOP || x->u.axop.op != QN_AX_DOT) {
        return x;
    }
    qn_expr *a = name_operand(h, x->u.axop.args.at[0]), *b = name_operand(h, x->u.axop.args.at[1]);
    if (a == x->u.axop.args.at[0] && b == x->u.axop.args.at[1]) {
        return x;
    }
    return qn_dot(h->lf->ir, a, b, x->u.axop.over, x->u.axop.nover);
}

/* Operands are named before the outermost loop that does not change them. */
static void hoist_block(hoisting *h, qn_block *b)
{
    leaf *lf = h->lf;
    qn_block out = {0};
    for (int k = 0; k < b->count; k++) {
        qn_stmt *s = b->at[k];
        if (s->kind == QN_FOR) {
            qn_block *keep = h->out;
            h->vary.count = 0;
            qn_block one = {&s, 1, 1};
            qn_block_stmts(&one, collect_defined, h);
            h->out = &out;
            qn_block_rewrite(lf->ir, &s->u.loop.body, name_operands, h);
            h->out = keep;
            int seen = h->nseen;
            hoist_block(h, &s->u.loop.body);
            h->nseen = seen;
        } else if (s->kind == QN_IF) {
            int seen = h->nseen;
            hoist_block(h, &s->u.branch.then);
            h->nseen = seen;
            hoist_block(h, &s->u.branch.other);
            h->nseen = seen;
        }
        qn_block_push(lf->ir, &out, s);
    }
    *b = out;
}

void leaf_hoist(leaf *lf, qn_stmt *nest)
{
    hoisting h = {.lf = lf};
    hoist_block(&h, &nest->u.loop.body);
}

/* ---------------------------------------------------------------- types of every name */

static void define_value(leaf *lf, qn_sym name, lf_kind kind)
{
    const qn_bound *b = qn_env_find(lf->env, name);
    if (!b) {
        leaf_refuse(lf, (qn_place){0}, "no type of %s", name);
    }
    qn_type t = b->type;
    t.dtype = qn_dtype_settle(t.dtype);
    leaf_define(lf, name, kind, t)->local = true;
}

static void register_block(leaf *lf, const qn_block *b);

static void register_stmt(leaf *lf, const qn_stmt *s)
{
    if (s->kind == QN_FOR) {
        if (!qn_env_enter_loop(lf->env, s)) {
            leaf_refuse(lf, s->place, "%s", lf->env->fault.text ? lf->env->fault.text : "");
        }
        for (int k = 0; k < s->u.loop.niters; k++) {
            const qn_iter *it = &s->u.loop.iters[k];
            define_value(lf, it->name, LF_SCALAR);
            leaf_info(lf, it->name)->local = !s->u.loop.par;
            if (it->end) {
                define_value(lf, it->end, LF_SCALAR);
                leaf_info(lf, it->end)->local = !s->u.loop.par;
            }
        }
        for (int k = 0; k < s->u.loop.ncarries; k++) {
            define_value(lf, s->u.loop.carries[k].name, LF_VALUE);
        }
        register_block(lf, &s->u.loop.body);
        return;
    }
    if (s->kind == QN_IF) {
        register_block(lf, &s->u.branch.then);
        register_block(lf, &s->u.branch.other);
    }
    if (s->kind == QN_LET || s->kind == QN_BUF || s->kind == QN_IF) {
        if (!qn_env_stmt(lf->env, s)) {
            leaf_refuse(lf, s->place, "%s", lf->env->fault.text ? lf->env->fault.text : "");
        }
    }
    if (s->kind == QN_LET) {
        for (int k = 0; k < s->u.let.nnames; k++) {
            define_value(lf, s->u.let.names[k], LF_VALUE);
        }
    } else if (s->kind == QN_IF) {
        for (int k = 0; k < s->u.branch.nnames; k++) {
            define_value(lf, s->u.branch.names[k], LF_VALUE);
        }
    } else if (s->kind == QN_BUF) {
        define_value(lf, s->u.buf.name, LF_MEMORY);
        lf_info *v = leaf_info(lf, s->u.buf.name);
        v->task = true;
        v->mutable_ = true;
    } else if (s->kind == QN_STORE) {
        lf_info *v = leaf_info(lf, s->u.store.base);
        if (v) {
            v->mutable_ = true;
        }
    }
}

static void register_block(leaf *lf, const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        register_stmt(lf, b->at[k]);
    }
}

static bool count_use(void *user, const qn_expr *x)
{
    leaf *lf = user;
    if (x->kind == QN_NAME) {
        lf_info *v = leaf_info(lf, x->u.name);
        if (v) {
            v->uses++;
        }
    } else if (x->kind == QN_AXOP && x->u.axop.op == QN_AX_DOT) {
        for (int k = 0; k < 2; k++) {
            const qn_expr *a = x->u.axop.args.at[k];
            lf_info *v = a->kind == QN_NAME ? leaf_info(lf, a->u.name) : NULL;
            if (v) {
                v->dotted = true;
            }
        }
    }
    return true;
}

void leaf_register(leaf *lf, const qn_stmt *nest)
{
    register_stmt(lf, nest);
    qn_block_visit(&nest->u.loop.body, count_use, lf);
}
