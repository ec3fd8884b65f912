/* Lua is its own witness, to the end: random kernel functions as scores, through the passes into
 * machine code, one key and a value of 1 so that the output is the function's value. lua_witness
 * shows that Lua and the definition mean the same; this shows that machine code means it too, the
 * sticky flag included. */
#include "tests/support/random_fn.h"
#include "tests/support/support.h"
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <string.h>

enum { FUNCTIONS = 120 };

static void functions(uint64_t from, uint64_t to)
{
    int compared = 0;
    for (uint64_t seed = from; seed <= to; seed++) {
        qn_lab lab;
        qn_lab_open(&lab);
        qn_buf spec = qn_buf_of(&lab.arena);
        qn_buf_printf(&spec,
                      "local qn = require 'quern'\nlocal K, T = 5, { 0.25, 3 }\n"
                      "local function twice(x) return x * 2 end\n"
                      "return qn.attention { name = 't', norm = qn.norm.none, position = qn.rows, "
                      "score =\n%s\n}\n",
                      qn_random_function(&lab.arena, seed));
        qn_trial t;
        bool open = qn_trial_arguments(&t, qn_text("random.lua", spec.text), NULL,
                                       "B=2 Hq=3 Hk=1 Nq=19 Nk=1 D=4 Dv=4", seed);
        if (!open) { /* constants alone that divide by 0, or have no integer, are an error at once
                      */
            const char *said = qn_ctx_message(t.cx);
            cr_expect(strstr(said, "by 0") || strstr(said, "and a float"), "seed %llu: %s",
                      (unsigned long long)seed, said);
        } else {
            qn_check_result r = {.size = sizeof r};
            qn_status s = qn_check(t.cx, t.source, &t.options, &t.call, 0, &r);
            cr_expect_eq(s, QN_OK, "seed %llu: %s", (unsigned long long)seed, qn_ctx_message(t.cx));
            cr_expect(r.worst <= 1, "seed %llu: %g tolerances off at %s[%lld]\n%s",
                      (unsigned long long)seed, r.worst, r.output ? r.output : "",
                      (long long)r.index, spec.text);
            compared += r.elements > 0;
        }
        qn_trial_close(&t);
        qn_lab_close(&lab);
    }
    cr_expect_gt(compared, (int)(to - from) / 2, "only %d functions were compared", compared);
}

Test(lua_machine, first_half, .timeout = 300)
{
    functions(1, FUNCTIONS / 2);
}

Test(lua_machine, second_half, .timeout = 300)
{
    functions(FUNCTIONS / 2 + 1, FUNCTIONS);
}
