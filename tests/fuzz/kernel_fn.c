/* SPDX-License-Identifier: MIT
 * Any bytes as the body of a score, and after a line "--mask" as that of a mask, become a spec or
 * errors; a spec lowers to a text that the verifier accepts, and its own text reads back. */
#include "frontend/frontend.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "tests/support/host.h"
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

static const qn_host_value *function(host_world *w, const char *head, const char *body, size_t size)
{
    const qn_host_value *t =
        host_list(w, NULL, host_float(w, 0.5), host_int(w, 7), host_string(w, "x"), NULL);
    const qn_host_value *half =
        host_fn(w, "function(x, y) if y == nil then return x / 2 end return x / 2, y end", NULL);
    qn_buf text = qn_buf_of(w->ir->arena);
    qn_buf_puts(&text, head);
    qn_buf_put(&text, body, size);
    qn_buf_puts(&text, "\nend");
    const qn_host_value *f = host_fn(
        w, text.text, "slope", host_tensor(w, "slope", "f32", "Hq", NULL), "bias",
        host_tensor(w, "bias", "f16", "B", "Nq", "Nk", NULL), "live",
        host_tensor(w, "live", "i32", "B", "Nk+1", NULL), "W",
        host_param(w, "window", "i32", host_int(w, 256)), "T", t, "half", half, "Hk",
        host_table(w, "dim", "name", host_string(w, "Hk"), NULL), "flag", host_bool(w, true), NULL);
    return f;
}

static void kernel_fn(qn_arena *arena, const char *text, size_t size)
{
    qn_ir ir;
    qn_diags diags;
    host_world w;
    qn_ir_init(&ir, arena);
    qn_diags_init(&diags, arena, NULL, NULL);
    host_init(&w, &ir, "fuzz.lua");
    const char *copy = qn_arena_text(arena, text, size), *cut = strstr(copy, "--mask\n");
    size_t first = cut ? (size_t)(cut - copy) : size;
    const qn_host_value *score = function(&w, "function(s, b, h, i, j)\n", copy, first);
    const qn_host_value *mask =
        cut ? function(&w, "function(b, h, i, j)\n", cut, size - first) : host_bool(&w, true);
    const qn_host_value *spec = host_table(&w, "attention", "score", score, "mask", mask, NULL);
    qn_spec *s = qn_spec_check(&ir, spec, NULL, &diags);
    check((s == NULL) == (diags.errors > 0), "an error must be said, and only then", "");
    if (!s) {
        return;
    }
    qn_buf a = qn_buf_of(arena), b = qn_buf_of(arena);
    qn_spec_print(s, &a);
    qn_ir_file *f = qn_lower(&ir, s, &diags);
    check(f != NULL, "a spec does not lower", a.text);
    if (!qn_verify(f, &diags)) {
        qn_diags_print(&diags, QN_ERROR, &b);
        check(false, b.text, qn_file_text(arena, f));
    }
    s = qn_spec_parse(&ir, a.text, a.length, &diags);
    check(s != NULL, "the text of a spec does not parse", a.text);
    qn_spec_print(s, &b);
    check(strcmp(a.text, b.text) == 0, "printing again gives another text", a.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jmp_buf oom;
    qn_arena arena;
    qn_arena_init(&arena, NULL, &oom);
    if (setjmp(oom) == 0) {
        kernel_fn(&arena, (const char *)data, size < 1 << 16 ? size : 1 << 16);
    }
    qn_arena_fini(&arena);
    return 0;
}
