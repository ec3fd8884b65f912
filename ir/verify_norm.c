/* SPDX-License-Identifier: MIT
 *
 * The rules of a norm that its text alone shows; see verify_norm.h.
 * A fold may be cut into blocks and put together again because the stat, the weight and the sums
 * say what one element gives, element by element. So those parts see the operands (the weight the
 * stat too), hold no op over axes and no renaming; a sum that saw the final stat or another sum
 * would not be a sum of parts. finish comes after all of it and is free. */
#include "ir/verify_norm.h"

#include "ir/walk.h"

/* Every fold is typed and expanded through the text of its norm: both stay small. */
enum { MAX_NODES = 4096, MAX_CALLS = 32 };

typedef struct part {
    qn_diags *d;
    const qn_norm *n;
    const char *what;     /* "weight" */
    const qn_names *seen; /* names it may use */
    qn_sym also[2];       /* and these */
    bool finish;
    bool in_call; /* inside an operand of rescale or weight */
    bool broken;
    int32_t nodes, calls;
} part;

static void report(part *p, const char *rule, const qn_expr *x, const char *text, qn_sym name)
{
    if (!p->broken) { /* one mistake a part */
        qn_diag_add(p->d, QN_ERROR, rule, x->place.line ? x->place : p->n->place, "%s of %s: %s%s",
                    p->what, p->n->name, name ? name : "", text);
    }
    p->broken = true;
}

static bool check(void *user, const qn_expr *x);

static void check_norm_call(part *p, const qn_expr *x)
{
    if (!p->finish) {
        report(p, "V-OP", x, "rescale and weight are called in finish only", NULL);
    } else if (p->in_call || ++p->calls > MAX_CALLS) {
        report(p, "V-NORM", x,
               p->in_call ? "calls of rescale and weight do not nest"
                          : "too many calls of rescale and weight",
               NULL);
    }
    bool outer = p->in_call;
    p->in_call = true;
    for (int k = 0; k < x->u.op.args.count; k++) {
        qn_visit(x->u.op.args.at[k], check, p);
    }
    p->in_call = outer;
}

static bool check(void *user, const qn_expr *x)
{
    part *p = user;
    if (++p->nodes > MAX_NODES) {
        report(p, "V-NORM", x, "longer than a norm may be", NULL);
        return false;
    }
    switch (x->kind) {
    case QN_NAME:
        if (!qn_names_has(p->seen, x->u.name) && x->u.name != p->also[0] &&
            x->u.name != p->also[1]) {
            report(p, "V-NAME", x, " is not known here", x->u.name);
        }
        break;
    case QN_LOAD:
        report(p, "V-NORM", x, "a norm reads no memory; make the value an operand", NULL);
        return false;
    case QN_FOLD:
        report(p, "V-NORM", x, "folds do not nest", NULL);
        return false;
    case QN_AXOP:
    case QN_AS:
        if (!p->finish) {
            report(p, "V-NORM", x, "only finish works over axes", NULL);
            return false;
        }
        break;
    case QN_OP:
        if (x->u.op.op == QN_OP_RESCALE || x->u.op.op == QN_OP_WEIGHT) {
            check_norm_call(p, x);
            return false;
        }
        break;
    case QN_LIT:
    case QN_IOTA:
        break;
    }
    return !p->broken;
}

static void check_part(part *p, const char *what, const qn_expr *x, qn_sym a, qn_sym b)
{
    p->what = what;
    p->also[0] = a;
    p->also[1] = b;
    p->broken = false;
    qn_visit(x, check, p);
}

static void define(qn_names *all, qn_sym name, const qn_norm *n, qn_diags *d)
{
    if (name && qn_names_has(all, name)) {
        qn_diag_add(d, QN_ERROR, "V-NAME", n->place, "norm %s: %s is defined already", n->name,
                    name);
    }
    qn_names_add(all, name);
}

static void check_results(qn_ir *ir, const qn_norm *n, qn_diags *d)
{
    qn_names *outs = qn_names_of_kernel(ir, &(qn_kernel_ir){0});
    qn_names *done = qn_names_of_kernel(ir, &(qn_kernel_ir){0});
    for (int k = 0; k < n->nouts; k++) {
        define(outs, n->outs[k], n, d);
    }
    for (int k = 0; k < n->nfinish; k++) {
        define(done, n->finish[k].name, n, d);
        if (!qn_names_has(outs, n->finish[k].name)) {
            qn_diag_add(d, QN_ERROR, "V-NORM", n->place, "norm %s: %s is no result of it", n->name,
                        n->finish[k].name);
        }
    }
    for (int k = 0; k < n->nouts; k++) {
        if (!qn_names_has(done, n->outs[k])) {
            qn_diag_add(d, QN_ERROR, "V-NORM", n->place, "norm %s: finish gives no %s", n->name,
                        n->outs[k]);
        }
    }
}

bool qn_verify_norm(qn_ir *ir, const qn_norm *n, qn_diags *d)
{
    int32_t before = d->errors;
    qn_names *all = qn_names_of_kernel(ir, &(qn_kernel_ir){0});  /* defined in the norm */
    qn_names *args = qn_names_of_kernel(ir, &(qn_kernel_ir){0}); /* its operands */
    for (int k = 0; k < n->nargs; k++) {
        define(all, n->args[k], n, d);
        qn_names_add(args, n->args[k]);
    }
    define(all, n->stat, n, d);
    for (int k = 0; k < n->nsums; k++) {
        define(all, n->sums[k].name, n, d);
    }
    check_results(ir, n, d);
    if (n->rescale && (n->rescale_from == n->rescale_to || !n->stat)) {
        qn_diag_add(d, QN_ERROR, n->stat ? "V-NAME" : "V-NORM", n->place,
                    "norm %s: rescale goes from one stat to another", n->name);
    }
    part p = {.d = d, .n = n, .seen = args};
    if (n->stat) {
        check_part(&p, "stat", n->stat_x, NULL, NULL);
    }
    check_part(&p, "weight", n->weight, n->stat, NULL);
    if (n->rescale) {
        check_part(&p, "rescale", n->rescale, n->rescale_from, n->rescale_to);
    }
    for (int k = 0; k < n->nsums; k++) {
        check_part(&p, "sum", n->sums[k].x, NULL, NULL);
    }
    p.finish = true;
    p.seen = all;
    for (int k = 0; k < n->nfinish; k++) {
        check_part(&p, "finish", n->finish[k].x, NULL, NULL);
    }
    return d->errors == before;
}
