/* SPDX-License-Identifier: MIT
 * Tests of ir/walk.h: equality, visits, rewriting, copies and fresh names. */
#include "ir/walk.h"
#include "ir/build.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static qn_arena arena;
static qn_ir ir;
static jmp_buf oom;

static void init(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
}

static void fini(void)
{
    qn_arena_fini(&arena);
}

TestSuite(walk, .init = init, .fini = fini);

/* x[i, 2 * n] + n */
static qn_expr *sample(const char *index)
{
    qn_expr *n = qn_name_of(&ir, "n");
    qn_expr *at[2] = {qn_name_of(&ir, index), qn_op2(&ir, QN_OP_MUL, qn_int(&ir, 2), n)};
    return qn_op2(&ir, QN_OP_ADD, qn_load(&ir, qn_intern(&ir, "x"), at, 2, true, NULL), n);
}

static bool count(void *user, const qn_expr *x)
{
    (void)x;
    ++*(int *)user;
    return true;
}

static void count_stmt(void *user, qn_stmt *s)
{
    (void)s;
    ++*(int *)user;
}

Test(walk, equality_and_hash_see_every_part)
{
    cr_assert(qn_expr_equal(sample("i"), sample("i")));
    cr_assert_eq(qn_expr_hash(sample("i")), qn_expr_hash(sample("i")));
    cr_assert_not(qn_expr_equal(sample("i"), sample("j")));
    cr_assert_neq(qn_expr_hash(sample("i")), qn_expr_hash(sample("j")));
    cr_assert_not(qn_expr_equal(qn_int(&ir, 1), qn_float(&ir, 1.0)));
    cr_assert(qn_expr_equal(qn_float(&ir, NAN), qn_float(&ir, NAN)));
    cr_assert_not(
        qn_expr_equal(qn_cast(&ir, QN_F16, qn_int(&ir, 1)), qn_cast(&ir, QN_F32, qn_int(&ir, 1))));
    qn_expr *i = qn_name_of(&ir, "i");
    qn_sym x = qn_intern(&ir, "x");
    cr_assert_not(qn_expr_equal(qn_load(&ir, x, &i, 1, true, NULL),
                                qn_load(&ir, x, &i, 1, true, qn_int(&ir, 1))));
}

Test(walk, visit_is_parents_first_and_can_skip)
{
    int n = 0;
    qn_visit(sample("i"), count, &n);
    cr_assert_eq(n, 7);
    cr_assert(qn_mentions_name(sample("i"), qn_intern(&ir, "x")));
    cr_assert(qn_mentions_name(sample("i"), qn_intern(&ir, "n")));
    cr_assert_not(qn_mentions_name(sample("i"), qn_intern(&ir, "j")));
}

Test(walk, substitution_shares_what_did_not_change)
{
    qn_expr *x = sample("i");
    qn_binding map[] = {{qn_intern(&ir, "j"), qn_int(&ir, 3)}};
    cr_assert_eq(qn_substitute(&ir, x, map, 1), x);
    map[0].name = qn_intern(&ir, "i");
    qn_expr *y = qn_substitute(&ir, x, map, 1);
    cr_assert_neq(y, x);
    cr_assert_eq(y->u.op.args.at[1], x->u.op.args.at[1]);
    cr_assert_eq(y->u.op.args.at[0]->u.load.index.at[1], x->u.op.args.at[0]->u.load.index.at[1]);
    cr_assert_eq(y->u.op.args.at[0]->u.load.index.at[0]->u.lit.i, 3);
    cr_assert(qn_expr_equal(x, sample("i")), "the original is as it was");
}

Test(walk, substitution_renames_the_base_of_a_load)
{
    qn_binding map[] = {{qn_intern(&ir, "x"), qn_name_of(&ir, "y")}};
    qn_expr *y = qn_substitute(&ir, sample("i"), map, 1);
    cr_assert_str_eq(y->u.op.args.at[0]->u.load.base, "y");
}

static qn_stmt *loop(void)
{
    qn_stmt *s = qn_for(&ir, qn_intern(&ir, "j0"), qn_int(&ir, 0), qn_name_of(&ir, "n"), NULL);
    qn_attr_arg words = {qn_name_of(&ir, "n"), NULL};
    qn_attr_arg range = {qn_int(&ir, 0), qn_name_of(&ir, "n")};
    qn_attr_add(&ir, &s->attrs, "leaf", &words, 1);
    qn_attr_add(&ir, &s->attrs, "full", &range, 1);
    qn_block_push(&ir, &s->u.loop.body, qn_let(&ir, qn_intern(&ir, "%a"), sample("j0")));
    return s;
}

Test(walk, statements_are_copied_deeply)
{
    qn_stmt *s = loop();
    qn_stmt *copy = qn_stmt_copy(&ir, s);
    qn_binding map[] = {{qn_intern(&ir, "n"), qn_int(&ir, 9)}};
    copy->u.loop.body.at[0]->u.let.x = qn_substitute(&ir, copy->u.loop.body.at[0]->u.let.x, map, 1);
    qn_block_push(&ir, &copy->u.loop.body, qn_yield(&ir, NULL, 0));
    copy->u.loop.iters[0].step = qn_int(&ir, 4);
    qn_attr_remove(&copy->attrs, "full");
    cr_assert_eq(s->u.loop.body.count, 1);
    cr_assert(qn_expr_equal(s->u.loop.body.at[0]->u.let.x, sample("j0")));
    cr_assert_null(s->u.loop.iters[0].step);
    cr_assert_not_null(qn_attr_find(&s->attrs, "full"));
    int n = 0;
    qn_block b = {&copy, 1, 1};
    qn_block_stmts(&b, count_stmt, &n);
    cr_assert_eq(n, 3);
}

static qn_expr *to_nine(void *user, qn_expr *x)
{
    (void)user;
    return x->kind == QN_NAME && strcmp(x->u.name, "n") == 0 ? qn_int(&ir, 9) : x;
}

Test(walk, rewriting_a_statement_leaves_words_alone)
{
    qn_stmt *s = loop();
    qn_stmt_rewrite(&ir, s, true, to_nine, NULL);
    cr_assert_eq(s->u.loop.iters[0].pieces[0].hi->u.lit.i, 9);
    cr_assert_eq(qn_attr_find(&s->attrs, "full")->args[0].hi->u.lit.i, 9);
    cr_assert_eq(qn_attr_find(&s->attrs, "leaf")->args[0].lo->kind, QN_NAME);
    cr_assert_eq(s->u.loop.body.at[0]->u.let.x->u.op.args.at[1]->u.lit.i, 9);
}

Test(walk, fresh_names_avoid_all_that_a_kernel_knows)
{
    qn_kernel_ir k = {0};
    qn_block_push(&ir, &k.body, loop());
    qn_names *n = qn_names_of_kernel(&ir, &k);
    cr_assert(qn_names_has(n, qn_intern(&ir, "j0")));
    cr_assert(qn_names_has(n, qn_intern(&ir, "x")));
    cr_assert_str_eq(qn_names_fresh(n, "%a"), "%a_1");
    cr_assert_str_eq(qn_names_fresh(n, "%a"), "%a_2");
    cr_assert_str_eq(qn_names_fresh(n, "q"), "q");
    for (int i = 0; i < 1000; i++) { /* the set grows */
        qn_names_fresh(n, "t");
    }
    cr_assert_str_eq(qn_names_fresh(n, "t"), "t_1000");
    cr_assert(qn_names_has(n, qn_intern(&ir, "j0")));
}
