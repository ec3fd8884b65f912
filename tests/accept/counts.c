/* Acceptance: counts match. Tile products and elements as machine code counts them, as the
 * interpreter counts them in the same text, and as a closed formula of the mask says. */
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { TI = 64, TJ = 64 }; /* the tiles that the schedule below asks for */
static const char schedule[] = "tile i 64\ntile j 64";

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

typedef bool (*needed_fn)(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w);

/* Is there a kept pair with i in i0..i1-1 and j in j0..j1-1? Each in closed form. */
static bool causal(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w)
{
    (void)i0, (void)j1, (void)w;
    return j0 <= i1 - 1;
}

static bool window(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w)
{
    return j0 <= i1 - 1 && j1 - 1 >= i0 - w + 1;
}

static bool prefix(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w)
{
    return causal(i0, i1, j0, j1, w) || j0 < w;
}

static bool sinks_window(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w)
{
    return causal(i0, i1, j0, j1, w) && (window(i0, i1, j0, j1, w) || j0 < 4);
}

static bool documents(int64_t i0, int64_t i1, int64_t j0, int64_t j1, int64_t w)
{
    return j0 <= i1 - 1 && j0 / w <= (i1 - 1) / w && (j1 - 1) / w >= i0 / w;
}

static void counts(const char *mask, needed_fn needed, int64_t w, int64_t nq, int64_t nk,
                   const char *more)
{
    char spec[512], sizes[128];
    snprintf(spec, sizeof spec,
             "local qn = require 'quern'\nlocal cu = qn.tensor('cu', 'i32', { 'Ndoc+1' })\nreturn "
             "qn.attention { name = 't', mask = %s }\n",
             mask);
    if (!strstr(mask, "cu")) {
        snprintf(spec, sizeof spec,
                 "local qn = require 'quern'\nreturn qn.attention { name = 't', mask = %s }\n",
                 mask);
    }
    snprintf(sizes, sizeof sizes, "Hq=2 Hk=1 Nq=%lld Nk=%lld D=8 %s", (long long)nq, (long long)nk,
             more);
    qn_source source = qn_text("t.lua", spec);
    qn_options o = {.size = sizeof o, .schedule = schedule};
    qn_trial t;
    cr_assert(qn_trial_open(&t, source, &o, sizes, 1), "%s: %s %s", mask, qn_ctx_message(t.cx),
              t.message);
    qn_count_result machine = {.size = sizeof machine}, oracle = {.size = sizeof oracle};
    cr_assert_eq(qn_count(t.cx, source, &t.options, &t.call, &machine, &oracle), QN_OK, "%s: %s",
                 mask, qn_ctx_message(t.cx));
    cr_expect(machine.tiles == oracle.tiles && machine.elements == oracle.elements,
              "%s %s: machine %lld %lld, oracle %lld %lld", mask, sizes, (long long)machine.tiles,
              (long long)machine.elements, (long long)oracle.tiles, (long long)oracle.elements);
    int64_t tiles = 0, elements = 0, off = nk - nq;
    for (int64_t i0 = 0; i0 < nq; i0 += TI) {
        for (int64_t j0 = 0; j0 < nk; j0 += TJ) {
            int64_t i1 = least(i0 + TI, nq), j1 = least(j0 + TJ, nk);
            if (needed(i0 + off, i1 + off, j0, j1, w)) {
                tiles++;
                elements += (i1 - i0) * (j1 - j0);
            }
        }
    }
    cr_expect_eq(machine.tiles, 2 * tiles, "%s %s: %lld tile products, not %lld", mask, sizes,
                 (long long)machine.tiles, (long long)(2 * tiles));
    cr_expect_eq(machine.elements, 2 * elements, "%s %s: %lld elements, not %lld", mask, sizes,
                 (long long)machine.elements, (long long)(2 * elements));
    qn_trial_close(&t);
}

static const int64_t pairs[][2] = {{65, 130}, {130, 130}, {257, 257},
                                   {130, 65}, {64, 64},   {7, 300}};
#define EACH(...)                                               \
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) { \
        int64_t nq = pairs[k][0], nk = pairs[k][1];             \
        __VA_ARGS__;                                            \
    }

Test(counts, causal){EACH(counts("qn.causal", causal, 0, nq, nk, ""))}

Test(counts, window){EACH(counts("qn.causal & qn.window(40)", window, 40, nq, nk, ""))}

Test(counts, prefix){EACH(counts("qn.causal | qn.prefix(70)", prefix, 70, nq, nk, ""))}

Test(counts, sinks_with_window){
    EACH(counts("qn.causal & (qn.window(40) | qn.sinks(4))", sinks_window, 40, nq, nk, ""))}

Test(counts, documents)
{
    counts("qn.causal & qn.document(cu)", documents, 50, 200, 200, "Ndoc=4 Ndoc_p1=5");
    counts("qn.causal & qn.document(cu)", documents, 32, 256, 256, "Ndoc=8 Ndoc_p1=9");
}
