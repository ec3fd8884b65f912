/* SPDX-License-Identifier: MIT
 * Any bytes parse or are refused with an error; what parses prints to a text that parses to the
 * same text again. */
#include "ir/parse.h"
#include "ir/print.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *what, const char *text)
{
    if (!holds) {
        fprintf(stderr, "%s\n%s\n", what, text);
        abort();
    }
}

static void parse_print(qn_arena *arena, const char *text, size_t size)
{
    qn_ir ir;
    qn_diags diags;
    qn_ir_init(&ir, arena);
    qn_diags_init(&diags, arena, NULL, NULL);
    qn_ir_file *f = qn_parse(&ir, text, size, &diags);
    check((f == NULL) == (diags.errors > 0), "an error must be said, and only then", "");
    if (!f) {
        return;
    }
    const char *once = qn_file_text(arena, f);
    f = qn_parse(&ir, once, strlen(once), &diags);
    check(f != NULL, "what was printed does not parse", once);
    check(strcmp(qn_file_text(arena, f), once) == 0, "printing again gives another text", once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jmp_buf oom;
    qn_arena arena;
    qn_arena_init(&arena, NULL, &oom);
    if (setjmp(oom) == 0) {
        parse_print(&arena, (const char *)data, size);
    }
    qn_arena_fini(&arena);
    return 0;
}
