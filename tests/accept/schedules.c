/* Acceptance: the schedule decides. One spec under many schedules: every answer right, every object
 * another one; and text is the only channel: printing and parsing between every two passes, and
 * compiling the text of the last level with no spec, give the very same bytes. */
#include "tests/support/trial.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char spec[] =
    "local qn = require 'quern'\n"
    "return qn.attention { name = 't', mask = qn.causal & qn.window(200),\n"
    "  score = function(s, b, h, i, j) return s + 0.01 * (j - i) end, outputs = { 'lse' } }\n";

/* Checks a kernel at sizes with tails, rows without keys, and both plans. */
static void right(const char *schedule, qn_source source)
{
    static const char *const sizes[] = {
        "Hq=4 Hk=2 Nq=65 Nk=130 D=24 Dv=8", "Hq=2 Hk=1 Nq=70 Nk=33 D=24 Dv=8",
        "Hq=2 Hk=2 Nq=1 Nk=100 D=24 Dv=8", "Hq=4 Hk=4 Nq=3 Nk=2 D=24 Dv=8"};
    qn_trial t;
    qn_options o = {.size = sizeof o, .schedule = schedule};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        cr_assert(qn_trial_open(&t, source, &o, sizes[k], k + 1), "%s: %s %s",
                  schedule ? schedule : "", qn_ctx_message(t.cx), t.message);
        qn_check_result r = {.size = sizeof r};
        qn_status s = qn_check(t.cx, source, &t.options, &t.call, 0, &r);
        cr_assert_eq(s, QN_OK, "%s: %s", schedule, qn_ctx_message(t.cx));
        cr_expect(r.worst <= 1 && r.worst_naive <= 1,
                  "%s at %s: %g tolerances off, %g of twice naive", schedule ? schedule : "default",
                  sizes[k], r.worst, r.worst_naive);
        qn_trial_close(&t);
    }
}

static unsigned char *object_of(qn_source source, const qn_options *o, size_t *size)
{
    qn_ctx *cx = qn_ctx_create(NULL);
    qn_kernel *k = NULL;
    cr_assert_eq(qn_compile(cx, source, o, &k), QN_OK, "%s: %s", source.path, qn_ctx_message(cx));
    const void *bytes;
    cr_assert_eq(qn_kernel_object(k, &bytes, size), QN_OK);
    unsigned char *copy = malloc(*size);
    memcpy(copy, bytes, *size);
    qn_kernel_destroy(k);
    qn_ctx_destroy(cx);
    return copy;
}

Test(schedules, all_right_all_different)
{
    static const char *const lines[] = {
        NULL,
        "tile i 48\ntile j 80\nlanes i 16",
        "tile i 32\ntile j 64\nlanes i 8\nblock j 3\nblock e 3",
        "tile i 64\ntile j 32\nlanes i 16\nblock j 2",
        "tile i 16\ntile j 16\nlanes i 16",
        "peel none",
        "ranges off",
        "form unfused",
        "form twopass",
        "split j 64",
        "pack v (b, g, e, j)",
        "tile i 128\nstrip i 32",
    };
    enum { COUNT = sizeof lines / sizeof *lines };
    unsigned char *objects[COUNT];
    size_t length[COUNT];
    for (int k = 0; k < COUNT; k++) {
        right(lines[k], qn_text("t.lua", spec));
        qn_options o = {.size = sizeof o, .dims = "D=24 Dv=8", .schedule = lines[k]};
        objects[k] = object_of(qn_text("t.lua", spec), &o, &length[k]);
        for (int p = 0; p < k; p++) {
            cr_expect(length[p] != length[k] || memcmp(objects[p], objects[k], length[k]) != 0,
                      "'%s' and '%s' give the same object", lines[p] ? lines[p] : "default",
                      lines[k]);
        }
    }
    for (int k = 0; k < COUNT; k++) {
        free(objects[k]);
    }
}

/* ---------------------------------------------------------------- text is the only channel */

static void only_channel(const char *path)
{
    qn_options plain = {.size = sizeof plain, .dims = "D=16 Dv=16"}, again = plain, trust = plain;
    again.flags = QN_COMPILE_REPARSE;
    trust.flags = QN_COMPILE_TRUST;
    trust.dims = NULL;
    qn_ctx *cx = qn_ctx_create(NULL);
    const char *text = qn_dump(cx, qn_file(path), &plain, "leaf", NULL);
    cr_assert(text, "%s: %s", path, qn_ctx_message(cx));
    size_t a, b, c;
    unsigned char *direct = object_of(qn_file(path), &plain, &a);
    unsigned char *reparsed = object_of(qn_file(path), &again, &b);
    unsigned char *dumped = object_of(qn_text("dumped.qir", text), &trust, &c);
    cr_expect(a == b && memcmp(direct, reparsed, a) == 0,
              "%s: printing and parsing between passes changes the object", path);
    cr_expect(a == c && memcmp(direct, dumped, a) == 0, "%s: the dumped text gives another object",
              path);
    free(direct);
    free(reparsed);
    free(dumped);
    qn_ctx_destroy(cx);
}

static int each_spec(const char *folder)
{
    DIR *d = opendir(folder);
    cr_assert(d, "%s", folder);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t length = strlen(e->d_name);
        if (length > 4 && strcmp(e->d_name + length - 4, ".lua") == 0) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            only_channel(path);
            n++;
        }
    }
    closedir(d);
    return n;
}

Test(channel, zoo, .timeout = 120)
{
    cr_assert_gt(each_spec(QN_ROOT "/examples/zoo"), 0);
}

Test(channel, zoo_flex, .timeout = 120)
{
    each_spec(QN_ROOT "/examples/zoo/flex");
}
