/* Acceptance: a stranger's norm. Norms written here, at run time, go through the same passes as
 * softmax; one whose law is false is refused with the numbers. */
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define SPEC(norm)                                                                  \
    "local qn = require 'quern'\nlocal sink = qn.tensor('sink', 'f32', { 'Hq' })\n" \
    "return qn.attention { name = 't', mask = qn.causal, norm = qn.norm { " norm " } }\n"

static const char softplus[] = SPEC(
    "weight = function(s) return math.max(s, 0.0) + math.log(1.0 + math.exp(-math.abs(s))) end,\n"
    "finish = function(o, l) return o / l end");
static const char base2[] = SPEC("stat = 'max',\n"
                                 "weight = function(s, m) return qn.exp2(s - m) end,\n"
                                 "rescale = function(a, b) return qn.exp2(a - b) end,\n"
                                 "finish = function(o, l, m, b, h)\n"
                                 "  local t = math.max(m, sink[h])\n"
                                 "  local f = qn.exp2(m - t)\n"
                                 "  return o * f / (l * f + qn.exp2(sink[h] - t))\n"
                                 "end");
static const char lie[] = SPEC("stat = 'max',\n"
                               "weight = function(s, m) return qn.exp2(s - m) end,\n"
                               "rescale = function(a, b) return qn.exp2(b - a) end,\n"
                               "finish = function(o, l) return o / l end");

static void right(const char *spec)
{
    static const char *const sizes[] = {
        "Hq=4 Hk=2 Nq=65 Nk=130 D=40 Dv=24", "Hq=2 Hk=1 Nq=1 Nk=257 D=40 Dv=24",
        "Hq=3 Hk=3 Nq=64 Nk=64 D=40 Dv=24", "Hq=2 Hk=2 Nq=9 Nk=4 D=40 Dv=24"};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        qn_trial t;
        cr_assert(qn_trial_open(&t, qn_text("norm.lua", spec), NULL, sizes[k], k + 7), "%s %s",
                  qn_ctx_message(t.cx), t.message);
        qn_check_result r = {.size = sizeof r};
        cr_assert_eq(qn_check(t.cx, t.source, &t.options, &t.call, 0, &r), QN_OK, "%s",
                     qn_ctx_message(t.cx));
        cr_expect(r.worst <= 1 && r.worst_naive <= 1 && r.elements > 0,
                  "%s: %g tolerances off, %g of twice naive", sizes[k], r.worst, r.worst_naive);
        qn_trial_close(&t);
    }
}

static void streams(const char *spec)
{
    qn_ctx *cx = qn_ctx_create(NULL);
    qn_options o = {.size = sizeof o, .dims = "D=64"};
    const char *leaf = qn_dump(cx, qn_text("norm.lua", spec), &o, "leaf", "prefill");
    cr_assert(leaf, "%s", qn_ctx_message(cx));
    cr_expect(!strstr(leaf, "fold @"), "the norm is left whole");
    cr_expect(strstr(leaf, "!leaf("), "the norm does not reach registers");
    qn_ctx_destroy(cx);
}

Test(norms, softplus)
{
    right(softplus);
    streams(softplus);
}

Test(norms, base_2_with_a_sink)
{
    right(base2);
    streams(base2);
}

Test(norms, false_law_is_refused_with_the_numbers)
{
    qn_ctx *cx = qn_ctx_create(NULL);
    qn_kernel *k = NULL;
    qn_options o = {.size = sizeof o, .dims = "D=8"};
    cr_assert_eq(qn_compile(cx, qn_text("lie.lua", lie), &o, &k), QN_E_SPEC);
    const char *said = qn_ctx_message(cx);
    cr_expect(strstr(said, "[E-LAW]"), "%s", said);
    cr_expect(strpbrk(said, "0123456789"), "%s", said);
    cr_expect(strstr(said, "lie.lua:"), "%s", said);
    qn_ctx_destroy(cx);
}
