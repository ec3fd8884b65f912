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
    int32_t copy_line;        /* its line in the rewritten copy, from 1 */
    qn_place place;           /* in the user's text */
} dsl_function;

typedef struct dsl_chunk {
    qn_host_chunk user; /* as written */
    char *copy;         /* rewritten */
    size_t copy_length;
    dsl_function *functions; /* in the order of the text */
    int32_t nfunctions, cap_functions;
    size_t *rows; /* bytes of the user's text where its lines start */
    int32_t nrows;
    size_t *starts; /* line of the copy (from 0) -> byte of the user's text where it starts */
    int32_t nstarts, cap_starts;
    int32_t deep_line; /* of the copy: where brackets and blocks nest too deeply; 0: nowhere */
    bool internal;     /* a part of the library: errors inside are blamed on its caller */
} dsl_chunk;

enum {
    DSL_MAX_CHUNKS = 64,
    DSL_MAX_DEPTH = 100,
    DSL_MAX_VALUES = 500000,
    DSL_MAX_STRING = 1 << 20, /* bytes: comparing them is one instruction */
    DSL_MAX_TEXT = 1 << 22
};

/* Why nothing of the spec may run any more; once set, every pcall raises again. */
typedef enum dsl_stop {
    DSL_RUNS,
    DSL_NO_FUEL,   /* steps, or processor time, are spent */
    DSL_NO_ROOM,   /* the memory cap */
    DSL_NO_MEMORY, /* the real allocator refused */
} dsl_stop;

typedef struct dsl_state {
    qn_ir *ir;
    const qn_dsl_options *options;
    int64_t fuel;     /* instructions left; memory and library functions cost some too */
    int64_t deadline; /* of the thread's processor time, ns: what no count of steps foresees */
    dsl_stop stop;
    dsl_stop refused; /* why the allocator refused last; it may have been only the first try */
    int64_t bytes, max_bytes;
    int64_t values;  /* converted so far */
    int32_t watched; /* lines that the hook has looked at */
    dsl_chunk *chunks[DSL_MAX_CHUNKS];
    int32_t nchunks;
    int32_t order; /* of declarations */
    struct {
        int32_t chunk, line; /* where the spec ran when the hook looked last; line 0: nowhere */
    } seen;
    const qn_host_value *result;
    const char *pick;
    const char *path, *text;
    size_t length;
} dsl_state;

dsl_state *dsl_of(lua_State *L);

/* Runs f with the arena's failures caught: false when memory is out (the state notes it). */
bool dsl_protect(dsl_state *s, void (*f)(dsl_state *s, void *arg), void *arg);

/* source.c: parses the text and makes the copy. *why: what is wrong where the copy ends, as code,
 * "\1" and words; NULL: nothing. */
dsl_chunk *dsl_chunk_new(dsl_state *s, const char *path, const char *text, size_t length,
                         const char **why);
/* The place in the user's text of a line of the copy: of the first word that is `word`, if there is
 * one, else of all that the line holds. */
qn_place dsl_place(const dsl_chunk *c, int32_t copy_line, const char *word);
const dsl_function *dsl_function_at(const dsl_chunk *c, int32_t copy_line);
/* The chunk of a name "[q3]"; -1: none. */
int dsl_chunk_number(const dsl_state *s, const char *source);

/* Loads a chunk onto the stack as a function; raises a Lua error with place. */
void dsl_load_chunk(lua_State *L, const char *path, const char *text, size_t length, bool internal);

/* load.c: takes steps from the fuel; raises when it is spent. */
void dsl_spend(lua_State *L, double steps);
/* After a protected call has failed: stops for good if memory was the reason. */
void dsl_note_failure(dsl_state *s, int status);
/* The innermost function of a spec that runs now, from a level on: its chunk's number and line. */
bool dsl_caller(lua_State *L, int level, int *chunk, int *line);

/* sandbox.c: fills the globals and the module table of "quern". */
void dsl_open(lua_State *L);
/* The name of a library function ("math.exp") at the index; NULL: not one of ours. */
const char *dsl_builtin_name(lua_State *L, int index);

/* convert.c: the value at the top of the stack, popped. Raises Lua errors. */
const qn_host_value *dsl_convert(lua_State *L);

/* What the library knows of a table that it made is kept under keys that no spec can spell: light
 * pointers. */
enum { DSL_TAG, DSL_LINE, DSL_CHUNK };
void dsl_push_key(lua_State *L, int key);

typedef struct dsl_file { /* embedded Lua text */
    const char *name;
    const unsigned char *text;
    size_t length;
} dsl_file;
extern const dsl_file dsl_files[]; /* name NULL at the end */

#endif
