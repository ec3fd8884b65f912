/* Every example of dsl/README.md is a spec that compiles. */
#define QN_UNSTABLE
#include "runtime/quern.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    char *text = calloc(1, 1 << 20);
    cr_assert_gt(fread(text, 1, (1 << 20) - 1, f), 0u);
    fclose(f);
    return text;
}

Test(dsl_readme, examples_lower)
{
    static const char *const names[] = {NULL, NULL, "packed streaming strange", NULL, NULL};
    char *text = read_all(QN_ROOT "/dsl/README.md"), *p = text;
    int n = 0;
    while ((p = strstr(p, "```lua\n"))) {
        p += 7;
        char *end = strstr(p, "```");
        cr_assert(end && n < 5);
        *end = 0;
        char list[64] = "";
        snprintf(list, sizeof list, "%s", names[n] ? names[n] : "");
        qn_ctx *cx = qn_ctx_create(NULL);
        qn_options o = {.size = sizeof o, .dims = "D=16"};
        char *word = names[n] ? strtok(list, " ") : NULL;
        do {
            qn_source s = qn_text("README.lua", p);
            s.pick = word;
            cr_expect(qn_dump(cx, s, &o, "leaf", NULL) != NULL, "example %d: %s", n + 1, qn_ctx_message(cx));
            word = word ? strtok(NULL, " ") : NULL;
        } while (word);
        qn_ctx_destroy(cx);
        p = end + 3;
        n++;
    }
    cr_assert_eq(n, 5, "%d examples", n);
    free(text);
}
