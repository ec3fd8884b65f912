/* SPDX-License-Identifier: MIT
 *
 * The inside of the sandbox. One load is one lua_State:
 *
 *     load.c      runs a chunk under lua_pcall and turns what went wrong into a diagnostic
 *     sandbox.c   what a spec may call, and the budgets of it
 *     source.c    rewriting of chunks, function spans, the map back to the user's lines
 *     convert.c   Lua values to frontend/host.h
 *
 * Lua raises by longjmp to its own lua_pcall, arenas by longjmp to theirs; neither may cross the
 * other's frames. So arena memory is asked for only in C functions that set their own landing place
 * (dsl_protect), and turn it into a Lua error. */
#ifndef QN_DSL_STATE_H
#define QN_DSL_STATE_H

#include "dsl/load.h"

#include <lua.h>

typedef struct dsl_function { /* one `function` token of a chunk */
    size_t begin, end;        /* bytes of the user's text; end 0: never closed */
    int32_t new_line;         /* its line in the rewritten copy */
    int32_t line, col;        /* in the user's text */
} dsl_function;

typedef struct dsl_chunk {
    qn_host_chunk user; /* as written */
    char *copy;         /* rewritten */
    size_t copy_length;
    dsl_function *functions; /* in the order of the text */
    int32_t nfunctions, cap_functions;
    int32_t *lines; /* line of the copy (from 1) -> the user's line */
    int32_t nlines, cap_lines;
} dsl_chunk;

enum { DSL_MAX_CHUNKS = 64, DSL_MAX_DEPTH = 100 };

typedef struct dsl_state {
    qn_ir *ir;
    const qn_dsl_options *options;
    int64_t fuel;     /* hook calls left */
    bool spent, full; /* fuel is gone; the memory cap was hit */
    bool oom;         /* the real allocator refused */
    int64_t bytes, max_bytes;
    dsl_chunk *chunks[DSL_MAX_CHUNKS];
    int32_t nchunks;
    int32_t order; /* of declarations */
    const qn_host_value *result;
    const char *pick;
    const char *path, *text;
    size_t length;
} dsl_state;

dsl_state *dsl_of(lua_State *L);

/* Runs f with the arena's failures caught: false when memory is out (the state notes it). */
bool dsl_protect(dsl_state *s, void (*f)(dsl_state *s, void *arg), void *arg);

/* source.c: parses the text and makes the copy. *why: what is wrong with the text (NULL: nothing).
 */
dsl_chunk *dsl_chunk_new(dsl_state *s, const char *path, const char *text, size_t length,
                         const char **why, qn_place *place);
int32_t dsl_user_line(const dsl_chunk *c, int32_t copy_line);
const dsl_function *dsl_function_at(const dsl_chunk *c, int32_t copy_line);
/* "[q3]" of a chunk name; -1: none of ours. */
int dsl_chunk_number(const char *source);

/* Loads a chunk onto the stack as a function; raises a Lua error with place. */
void dsl_load_chunk(lua_State *L, const char *path, const char *text, size_t length);

/* sandbox.c: fills the globals and the module table of "quern". */
void dsl_open(lua_State *L);
/* The name of a library function ("math.exp") at the index; NULL: not one of ours. */
const char *dsl_builtin_name(lua_State *L, int index);

/* convert.c: the value at the top of the stack, popped. Raises Lua errors. */
const qn_host_value *dsl_convert(lua_State *L);

/* Keys of tagged tables that no spec can spell. */
#define DSL_TAG   "\1tag"
#define DSL_LINE  "\1line"
#define DSL_CHUNK "\1chunk"

typedef struct dsl_file { /* embedded Lua text */
    const char *name;
    const unsigned char *text;
    size_t length;
} dsl_file;
extern const dsl_file dsl_files[]; /* name NULL at the end */

#endif
