/* Every allocation of ours failing in turn: a clean status, nothing lost (run under ASan and LSan).
 */
#define QN_UNSTABLE
#include "runtime/quern.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

typedef struct budget {
    long left; /* allocations that succeed before one fails */
    long live; /* blocks not given back */
} budget;

static void *ration(void *user, void *p, size_t old_size, size_t new_size)
{
    budget *b = user;
    (void)old_size;
    if (new_size == 0) {
        b->live -= p != NULL;
        free(p);
        return NULL;
    }
    if (b->left-- == 0) {
        return NULL;
    }
    void *q = realloc(p, new_size);
    b->live += q && !p;
    return q;
}

static const char spec[] =
    "local qn = require 'quern'\n"
    "local slope = qn.tensor('slope', 'f32', {'Hq'})\n"
    "return qn.attention { name = 't', mask = qn.causal & qn.window(9),\n"
    "  score = function(s, b, h, i, j) return s + slope[h] * (j - i) end }\n";
static const char text[] = "kernel @sum {\n  dim M, N\n  in x: f32[m:M, n:N]\n  out y: f32[m:M]\n"
                           "  launch {\n    par for m in 0..M {\n      store y[m] = "
                           "reduce.sum(x[m, n:N], over n)\n    }\n  }\n}\n";

static void compile_poorly(qn_source source)
{
    bool done = false;
    for (long n = 0; !done; n++) {
        budget b = {n, 0};
        qn_config config = {.size = sizeof config, .realloc_fn = ration, .user = &b};
        qn_ctx *cx = qn_ctx_create(&config);
        if (!cx) {
            cr_assert_eq(b.live, 0);
            continue;
        }
        qn_kernel *k = NULL;
        qn_options o = {.size = sizeof o, .dims = "D=8"};
        qn_status s = qn_compile(cx, source, &o, &k);
        done = s == QN_OK;
        cr_assert(s == QN_OK || s == QN_E_MEMORY, "allocation %ld: %s: %s", n, qn_status_text(s),
                  qn_ctx_message(cx));
        cr_assert_eq(k != NULL, done);
        qn_kernel_destroy(k);
        qn_ctx_destroy(cx);
        cr_assert_eq(b.live, 0, "allocation %ld failing loses %ld blocks", n, b.live);
        cr_assert_lt(n, 100000);
    }
}

Test(oom, spec)
{
    compile_poorly(qn_text("t.lua", spec));
}

Test(oom, ir_text)
{
    compile_poorly(qn_text("t.qir", text));
}
