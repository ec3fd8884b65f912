/* Arenas, texts and names: what everything else stands on. */
#include "ir/base/buf.h"
#include "ir/build.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static jmp_buf oom;
static qn_arena arena;

static void setup(void)
{
    qn_arena_init(&arena, NULL, &oom);
}

static void teardown(void)
{
    qn_arena_fini(&arena);
}

TestSuite(base, .init = setup, .fini = teardown);

Test(base, arena_zeroes_and_aligns_and_releases)
{
    char *small = qn_arena_alloc(&arena, 3, 1);
    cr_assert(small[0] == 0 && small[2] == 0);
    double *d = QN_NEW(&arena, double);
    cr_assert_eq((uintptr_t)d % alignof(double), 0u);
    for (size_t align = 1; align <= 256; align *= 2) {
        qn_arena_alloc(&arena, 1, 1);
        cr_assert_eq((uintptr_t)qn_arena_alloc(&arena, 5, align) % align, 0u);
    }
    qn_mark m = qn_arena_mark(&arena);
    char *big = qn_arena_alloc(&arena, 1 << 20, 64);
    memset(big, 1, 1 << 20);
    qn_arena_release(&arena, m);
    char *again = qn_arena_alloc(&arena, 1 << 20, 64);
    cr_assert_eq(again[12345], 0);
}

static void *refuse(void *user, void *p, size_t old_size, size_t new_size)
{
    (void)user, (void)p, (void)old_size, (void)new_size;
    return NULL;
}

Test(base, arena_unwinds_when_memory_is_out)
{
    jmp_buf here;
    qn_arena poor;
    qn_arena_init(&poor, &(qn_alloc){refuse, NULL}, &here);
    if (setjmp(here) == 0) {
        qn_arena_alloc(&poor, 8, 8);
        cr_assert_fail("an allocation that cannot succeed returned");
    }
    qn_arena_fini(&poor);
}

Test(base, doubles_print_shortest_and_read_back)
{
    const double xs[] = {0.0, 1.0, 0.1, 1e300, 5e-324, 3.14159265358979312, 1e22, 123456789.0};
    for (size_t k = 0; k < sizeof xs / sizeof *xs; k++) {
        qn_buf b = qn_buf_of(&arena);
        qn_buf_double(&b, xs[k]);
        cr_assert_eq(strtod(b.text, NULL), xs[k], "%s", b.text);
        cr_assert(strpbrk(b.text, ".e") != NULL, "%s", b.text);
    }
    qn_buf b = qn_buf_of(&arena);
    qn_buf_double(&b, 0.1);
    cr_assert_str_eq(b.text, "0.1");
}

Test(base, names_are_interned)
{
    qn_ir ir;
    qn_ir_init(&ir, &arena);
    qn_sym first = qn_intern(&ir, "%x");
    for (int k = 0; k < 2000; k++) {
        char t[16];
        snprintf(t, sizeof t, "n%d", k);
        qn_intern(&ir, t);
    }
    cr_assert_eq(first, qn_intern(&ir, "%x"));
    cr_assert_neq(first, qn_intern(&ir, "%y"));
}

Test(base, diagnostics_quote_the_line_and_sort)
{
    qn_diags d;
    qn_diags_init(&d, &arena, "a.lua", "one\ntwo three\n");
    qn_diag_add(&d, QN_ERROR, "E-B", (qn_place){2, 5, 5}, "second %d", 2)->help = "try it";
    qn_diag_add(&d, QN_ERROR, "E-A", (qn_place){1, 1, 1}, "first");
    qn_buf b = qn_buf_of(&arena);
    qn_diags_print(&d, QN_ERROR, &b);
    cr_assert_str_eq(b.text, "a.lua:1:1: error: first [E-A]\n   1 | one\n     | ^\n"
                             "a.lua:2:5: error: second 2 [E-B]\n   2 | two three\n     |     ^~~~~\n"
                             "   help: try it\n");
}
