/* The zoo does not rot: every spec of examples/zoo compiles and gives what its definition says. */
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static const char *const sizes[] = {"Hq=4 Hk=2 Nq=65 Nk=70 D=24 Dv=8 Ndoc=4 Ndoc_p1=5 Nrel=90",
                                    "Hq=3 Hk=3 Nq=1 Nk=33 D=16 Dv=16 Ndoc=2 Ndoc_p1=3",
                                    "B=2 Hq=4 Hk=1 Nq=19 Nk=7 D=8 Dv=40 Ndoc=3 Ndoc_p1=4"};

static void good(const char *path)
{
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        qn_trial t;
        cr_assert(qn_trial_arguments(&t, qn_file(path), NULL, sizes[k], k + 1), "%s: %s %s", path,
                  qn_ctx_message(t.cx), t.message);
        qn_check_result r = {.size = sizeof r};
        cr_assert_eq(qn_check(t.cx, t.source, &t.options, &t.call, 0, &r), QN_OK, "%s: %s", path,
                     qn_ctx_message(t.cx));
        cr_expect(r.worst <= 1 && r.worst_naive <= 1,
                  "%s at %s: %g tolerances, %g of twice naive, at %s[%lld]", path, sizes[k],
                  r.worst, r.worst_naive, r.output ? r.output : "", (long long)r.index);
        cr_expect(r.elements > 0 && r.skipped * 2 <= r.elements + r.skipped,
                  "%s at %s: %lld of %lld without a verdict", path, sizes[k], (long long)r.skipped,
                  (long long)(r.elements + r.skipped));
        qn_trial_close(&t);
    }
}

static void each(const char *folder, int from, int of)
{
    DIR *d = opendir(folder);
    cr_assert(d, "%s", folder);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t length = strlen(e->d_name);
        if (length > 4 && strcmp(e->d_name + length - 4, ".lua") == 0 && n++ % of == from) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            good(path);
        }
    }
    closedir(d);
    cr_assert_gt(n, 20);
}

Test(zoo, mechanisms, .timeout = 300)
{
    each(QN_ROOT "/examples/zoo", 0, 1);
}

Test(zoo, flex_even, .timeout = 300)
{
    each(QN_ROOT "/examples/zoo/flex", 0, 2);
}

Test(zoo, flex_odd, .timeout = 300)
{
    each(QN_ROOT "/examples/zoo/flex", 1, 2);
}
