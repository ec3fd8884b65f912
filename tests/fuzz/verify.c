/* SPDX-License-Identifier: MIT
 * Whatever parses is verified, or refused with an error that has a place; what is verified has laws
 * that can be sampled, and a type for every fold that equals that of its meaning. */
#include "ir/verify.h"
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/type.h"
#include "ir/walk.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void types_of_fold(qn_env *e, const qn_expr *x)
{
    qn_fold_meaning m;
    qn_type folded[QN_MAX_AXES], plain;
    int n;
    check(qn_type_results(e, x, folded, &n), "a verified fold has no type");
    check(qn_fold_expand(e->ir, qn_file_norm(e->file, x->u.fold.norm), x, &m) && m.nouts == n,
          "a verified fold has no meaning");
    qn_env *inner = qn_env_push(e);
    for (int k = 0; k < m.nlets; k++) {
        check(qn_env_stmt(inner, qn_let(e->ir, m.lets[k].name, m.lets[k].x)),
              "the meaning of a fold is ill-typed");
    }
    for (int k = 0; k < n; k++) {
        check(qn_type_infer(inner, m.outs[k], &plain), "a result of a fold is ill-typed");
        plain.dtype = qn_dtype_settle(plain.dtype);
        folded[k].dtype = qn_dtype_settle(folded[k].dtype);
        check(qn_type_equal(&plain, &folded[k]), "a fold and its meaning differ in type");
    }
}

static void walk(qn_env *e, const qn_block *b)
{
    for (int k = 0; k < b->count; k++) {
        const qn_stmt *s = b->at[k];
        qn_env *inner = qn_env_push(e);
        if (s->kind == QN_FOR) {
            qn_env_enter_loop(inner, s);
            walk(inner, &s->u.loop.body);
        } else if (s->kind == QN_LAUNCH) {
            walk(inner, &s->u.launch);
        } else if (s->kind == QN_IF) {
            walk(inner, &s->u.branch.then);
            walk(qn_env_push(e), &s->u.branch.other);
        } else if (s->kind == QN_LET && s->u.let.x->kind == QN_FOLD) {
            types_of_fold(e, s->u.let.x);
        }
        check(qn_env_stmt(e, s), "a verified statement is ill-typed");
    }
}

static void verify(qn_arena *arena, const char *text, size_t size)
{
    qn_ir ir;
    qn_diags d;
    qn_ir_init(&ir, arena);
    qn_diags_init(&d, arena, NULL, NULL);
    qn_ir_file *f = qn_parse(&ir, text, size, &d);
    if (!f) {
        return;
    }
    bool good = qn_verify(f, &d);
    check(good == (d.errors == 0), "an error must be said, and only then");
    for (int k = 0; k < d.count; k++) {
        check(d.at[k].place.line > 0, d.at[k].text);
    }
    if (!good) {
        return;
    }
    qn_verify_laws(f, &d);
    for (int k = 0; k < f->items.count; k++) {
        if (f->items.at[k].kind == QN_ITEM_KERNEL) {
            walk(qn_env_kernel(&ir, f, f->items.at[k].u.kernel), &f->items.at[k].u.kernel->body);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jmp_buf oom;
    qn_arena arena;
    qn_arena_init(&arena, NULL, &oom);
    if (setjmp(oom) == 0) {
        verify(&arena, (const char *)data, size);
    }
    qn_arena_fini(&arena);
    return 0;
}
