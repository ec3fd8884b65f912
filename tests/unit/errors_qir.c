/* SPDX-License-Identifier: MIT
 *
 * Walks tests/error/ for texts that must be refused. A line that breaks a rule ends in
 *
 *     ; error: V-AXIS part of the message
 *
 * and the errors of parser, verifier and laws must be those and no others, each on its line. */
#include "ir/parse.h"
#include "ir/verify.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path, size_t *length)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        return NULL;
    }
    char *text = calloc(1, 1 << 20);
    *length = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

/* The next line of `text` that expects an error, from *line on; its code and words are cut out. */
static const char *next_expected(const char *text, int *line, char code[32], char words[256])
{
    static const char mark[] = "; error: ";
    const char *at = strstr(text, mark);
    if (!at) {
        return NULL;
    }
    for (; text < at; text++) {
        *line += *text == '\n';
    }
    at += sizeof mark - 1;
    size_t n = strcspn(at, "\n"), c = strcspn(at, " \n");
    snprintf(code, 32, "%.*s", (int)c, at);
    snprintf(words, 256, "%.*s", (int)(n > c ? n - c - 1 : 0), n > c ? at + c + 1 : "");
    return at + n;
}

static bool reported(const qn_diags *d, int line, const char *code, const char *words)
{
    for (int k = 0; k < d->count; k++) {
        if (d->at[k].place.line == line && strcmp(d->at[k].code, code) == 0 &&
            strstr(d->at[k].text, words)) {
            return true;
        }
    }
    return false;
}

static void check_file(const char *path)
{
    jmp_buf oom;
    qn_arena arena;
    qn_ir ir;
    qn_diags d;
    size_t length = 0;
    char *text = read_file(path, &length), code[32], words[256];
    cr_assert_not_null(text, "%s", path);
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
    qn_diags_init(&d, &arena, path, text);
    qn_ir_file *f = qn_parse(&ir, text, length, &d);
    if (f && qn_verify(f, &d)) {
        qn_verify_laws(f, &d);
    }
    qn_buf said = qn_buf_of(&arena);
    qn_buf_puts(&said, "");
    qn_diags_print(&d, QN_ERROR, &said);
    int line = 1, expected = 0;
    for (const char *at = text; (at = next_expected(at, &line, code, words)); expected++) {
        cr_expect(reported(&d, line, code, words), "%s:%d: expected %s %s, got\n%s", path, line,
                  code, words, said.text);
    }
    cr_expect(expected > 0, "%s expects no error", path);
    cr_expect_eq(d.errors, expected, "%s: %d errors expected, got\n%s", path, expected, said.text);
    qn_arena_fini(&arena);
    free(text);
}

Test(errors_qir, every_text_is_refused_where_it_says)
{
    DIR *dir = opendir(QN_ROOT "/tests/error");
    int files = 0;
    cr_assert_not_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".qir") == 0) {
            char path[1024];
            snprintf(path, sizeof path, "%s/tests/error/%s", QN_ROOT, e->d_name);
            check_file(path);
            files++;
        }
    }
    closedir(dir);
    cr_assert_geq(files, 100);
}
