/* SPDX-License-Identifier: MIT
 * Any bytes as a spec file become a spec or one error of the sandbox; what the frontend accepts
 * lowers to a text that the verifier accepts. */
#include "dsl/load.h"
#include "frontend/frontend.h"
#include "ir/print.h"
#include "ir/verify.h"
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

/* `require "x"` gives what stands after a line "--file". */
typedef struct sibling {
    const char *text;
    size_t length;
} sibling;

static const char *read_sibling(void *user, const char *name, size_t *length)
{
    const sibling *s = user;
    *length = s->length;
    return name[0] == 'x' ? s->text : NULL;
}

static void spec(qn_arena *arena, const char *text, size_t size)
{
    static const char mark[] = "\n--file\n";
    qn_ir ir;
    qn_diags diags;
    qn_ir_init(&ir, arena);
    const char *copy = qn_arena_text(arena, text, size), *cut = strstr(copy, mark);
    qn_diags_init(&diags, arena, "fuzz.lua", copy);
    sibling beside = {NULL, 0};
    if (cut) {
        beside = (sibling){cut + sizeof mark - 1, size - (size_t)(cut - copy) - sizeof mark + 1};
        size = (size_t)(cut - copy);
    }
    qn_dsl_options o = {
        .read = read_sibling, .user = &beside, .fuel = 300000, .max_bytes = 4 << 20};
    const qn_host_value *v = qn_dsl_load(&ir, "fuzz.lua", copy, size, NULL, &o, &diags);
    qn_buf said = qn_buf_of(arena);
    qn_diags_print(&diags, QN_ERROR, &said);
    check((v == NULL) == (diags.errors == 1), "one error, or none", said.text ? said.text : "");
    if (!v) {
        return;
    }
    qn_spec *s = qn_spec_check(&ir, v, NULL, &diags);
    check((s == NULL) == (diags.errors > 0), "an error must be said, and only then", "");
    if (!s) {
        return;
    }
    qn_ir_file *f = qn_lower(&ir, s, &diags);
    check((f == NULL) == (diags.errors > 0), "lowering: an error must be said, and only then", "");
    if (f && !qn_verify(f, &diags)) {
        qn_diags_print(&diags, QN_ERROR, &said);
        check(false, "what was lowered is refused", said.text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jmp_buf oom;
    qn_arena arena;
    qn_arena_init(&arena, NULL, &oom);
    if (setjmp(oom) == 0) {
        spec(&arena, (const char *)data, size);
    }
    qn_arena_fini(&arena);
    return 0;
}
