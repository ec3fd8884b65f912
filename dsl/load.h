/* SPDX-License-Identifier: MIT
 *
 * The sandbox: runs a spec file (Lua 5.4) and hands back the value it returns. Terminating and
 * bounded: fuel, memory, string functions and depth all have budgets, and nothing of the machine
 * can be reached. The Lua state is gone when the call returns. */
#ifndef QN_DSL_LOAD_H
#define QN_DSL_LOAD_H

#include "frontend/host.h"
#include "ir/ir.h"

typedef struct qn_dsl_options {
    /* Serves `require "name"` with the text of a sibling file, or NULL; may itself be NULL. The
     * text stays valid until the load returns. */
    const char *(*read)(void *user, const char *name, size_t *length);
    void *user;
    int64_t fuel;      /* VM instructions; 0: 50 million */
    int64_t max_bytes; /* of Lua's memory; 0: 64 MiB */
} qn_dsl_options;

/* Runs the text. `pick` chooses one of a table of named specs; NULL: the file returns one spec (or
 * a table of one). The result and all it holds live in ir's arena. NULL: errors are in d. */
const qn_host_value *qn_dsl_load(qn_ir *ir, const char *path, const char *text, size_t length,
                                 const char *pick, const qn_dsl_options *options, qn_diags *d);

/* Calls a loaded function by Lua itself on scalar arguments: the first of the three definitions.
 * For tests: runs the text again, finds the function by `find` (an expression such as
 * "spec.score" over the chunk's result `spec`) and calls it with arguments given as Lua literals;
 * prints its results, comma-separated, into out ("error: .." if it raises). */
bool qn_dsl_call(qn_arena *a, const char *text, size_t length, const char *find,
                 const char *arguments, char *out, size_t room);

#endif
