/* SPDX-License-Identifier: MIT
 *
 * Walks tests/error/ for specs that must be refused. The guilty line of one ends in
 *
 *     -- error: E-CODE words of the message
 *
 * and qn_compile must say that code and those words on that line; where there is a caret, it stands
 * under the guilty line's text. `-- error at 0:` is said of an error that has no line, and
 * `-- help: words` on a line of its own asks for words of the help. One mistake a file: exactly one
 * error comes. */
#include "runtime/quern.h"
#include "tests/support/support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int count_of(const char *text, const char *part)
{
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part)) {
        n++;
    }
    return n;
}

/* The rest of the line after `mark`, or NULL. */
static bool after(const char *text, const char *mark, char *out, size_t room, int *line)
{
    const char *at = strstr(text, mark);
    if (!at) {
        return false;
    }
    *line = 1;
    for (const char *p = text; p < at; p++) {
        *line += *p == '\n';
    }
    at += strlen(mark);
    snprintf(out, room, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

static void check_file(qn_ctx *cx, const char *path)
{
    qn_lab lab;
    qn_lab_open(&lab);
    const char *text = qn_lab_read(&lab, path);
    char want[256], help[256], head[512];
    int line = 0, unused = 0;
    bool placed = after(text, "-- error: ", want, sizeof want, &line);
    cr_assert(placed || after(text, "-- error at 0: ", want, sizeof want, &line),
              "%s expects no error", path);
    qn_options options = {.size = sizeof options, .dims = "D=8"};
    qn_kernel *k = NULL;
    qn_status s = qn_compile(cx, qn_text(path, text), &options, &k);
    const char *said = qn_ctx_message(cx);
    cr_expect_eq(s, QN_E_SPEC, "%s: status %d\n%s", path, (int)s, said);
    cr_expect_null(k, "%s", path);
    qn_kernel_destroy(k);

    size_t n = strcspn(want, " ");
    char code[40];
    snprintf(code, sizeof code, "[%.*s]", (int)n, want);
    const char *words = want[n] ? want + n + 1 : "";
    snprintf(head, sizeof head, placed ? "%s:%d:" : "%s: error:", path, line);
    const char *first = strstr(said, head);
    size_t length = first ? strcspn(first, "\n") : 0;
    const char *is_code = first ? strstr(first, code) : NULL;
    const char *is_words = first ? strstr(first, words) : NULL;
    cr_expect(*words, "%s asks for no words of the message", path);
    cr_expect(is_code && is_code < first + length, "%s: no %s at line %d in\n%s", path, code, line,
              said);
    cr_expect(is_words && is_words < first + length, "%s: no '%s' at line %d in\n%s", path, words,
              line, said);
    cr_expect_eq(count_of(said, ": error: "), 1, "%s: not one error but\n%s", path, said);
    cr_expect(!placed || strstr(said, "^"), "%s: no caret in\n%s", path, said);
    if (after(text, "-- help: ", help, sizeof help, &unused)) {
        const char *says = strstr(said, "help: ");
        cr_expect(says && strstr(says, help), "%s: the help lacks '%s' in\n%s", path, help, said);
    }
    qn_lab_close(&lab);
}

Test(errors_lua, every_mistake_is_told_where_it_is)
{
    DIR *dir = opendir(QN_ROOT "/tests/error");
    cr_assert_not_null(dir);
    qn_ctx *cx = qn_ctx_create(NULL);
    int files = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".lua") == 0) {
            char path[300];
            snprintf(path, sizeof path, "tests/error/%s", e->d_name);
            check_file(cx, path);
            files++;
        }
    }
    closedir(dir);
    qn_ctx_destroy(cx);
    cr_assert_geq(files, 50);
}
