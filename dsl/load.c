/* SPDX-License-Identifier: MIT
 * Running a spec file; see load.h and state.h. */
#include "dsl/state.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---------------------------------------------------------------- memory and fuel */

enum { HOOK_STEPS = 1000, WATCHED_LINES = 2000, BYTES_A_STEP = 32 };
static const int64_t max_time = 800000000; /* ns */

static int64_t processor_time(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0
               ? (int64_t)t.tv_sec * 1000000000 + t.tv_nsec
               : 0;
}

/* Memory costs fuel too: an instruction that joins two long strings is not one step. */
static bool may_allocate(dsl_state *s, bool is_string, size_t old_size, size_t new_size)
{
    s->refused = s->stop;
    if (new_size <= old_size) {
        return true; /* Lua relies on it */
    }
    s->fuel -= (int64_t)(new_size / BYTES_A_STEP);
    bool large = is_string && new_size > DSL_MAX_STRING + 64; /* a header */
    if (s->fuel < 0) {
        s->refused = DSL_NO_FUEL;
    } else if (large || new_size > (size_t)s->max_bytes ||
               s->bytes - (int64_t)old_size + (int64_t)new_size > s->max_bytes) {
        s->refused = DSL_NO_ROOM;
    }
    return s->refused == DSL_RUNS;
}

static void *allocate(void *user, void *p, size_t old_size, size_t new_size)
{
    dsl_state *s = user;
    qn_alloc a = s->ir->arena->alloc;
    bool is_string = !p && old_size == LUA_TSTRING; /* of a new block Lua passes its kind */
    old_size = p ? old_size : 0;
    if (new_size == 0) {
        if (p) {
            s->bytes -= (int64_t)old_size;
            a.realloc_fn(a.user, p, old_size, 0);
        }
        return NULL;
    }
    if (!may_allocate(s, is_string, old_size, new_size)) {
        return NULL;
    }
    void *q = a.realloc_fn(a.user, p, old_size, new_size);
    if (!q && new_size <= old_size) {
        return p; /* a block that does not shrink is still large enough */
    }
    if (q) {
        s->bytes += (int64_t)new_size - (int64_t)old_size;
    } else {
        s->refused = DSL_NO_MEMORY;
    }
    return q;
}

void dsl_note_failure(dsl_state *s, int status)
{
    if (status == LUA_ERRMEM && s->stop == DSL_RUNS) {
        s->stop = s->refused == DSL_RUNS ? DSL_NO_ROOM : s->refused;
    }
}

bool dsl_protect(dsl_state *s, void (*f)(dsl_state *s, void *arg), void *arg)
{
    jmp_buf here, *former = s->ir->arena->oom;
    s->ir->arena->oom = &here;
    bool good = setjmp(here) == 0;
    if (good) {
        f(s, arg);
    } else {
        s->stop = DSL_NO_MEMORY;
    }
    s->ir->arena->oom = former;
    return good;
}

static void see(lua_State *L, int level)
{
    dsl_state *s = dsl_of(L);
    int chunk, line;
    if (dsl_caller(L, level, &chunk, &line)) {
        s->seen.chunk = chunk;
        s->seen.line = line;
    }
}

bool dsl_caller(lua_State *L, int level, int *chunk, int *line)
{
    const dsl_state *s = dsl_of(L);
    lua_Debug ar;
    for (int last = level + 100; level < last && lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        *chunk = dsl_chunk_number(s, ar.short_src);
        *line = ar.currentline;
        if (*chunk >= 0 && !s->chunks[*chunk]->internal && *line > 0) {
            return true;
        }
    }
    return false;
}

/* Looks where the spec is and takes fuel. The first lines are looked at one by one, so that what
 * fails early fails at its line. */
static void hook(lua_State *L, lua_Debug *ar)
{
    dsl_state *s = dsl_of(L);
    if (s->stop == DSL_RUNS) {
        see(L, 0);
        if (ar->event == LUA_HOOKCOUNT) {
            s->fuel -= HOOK_STEPS;
            s->stop = s->fuel < 0 || processor_time() > s->deadline ? DSL_NO_FUEL : DSL_RUNS;
        } else if (++s->watched == WATCHED_LINES) {
            lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_STEPS);
        }
    }
    if (s->stop != DSL_RUNS) {
        lua_sethook(L, hook, LUA_MASKCOUNT, 1); /* from now on every instruction raises */
        lua_pushliteral(L, "stopped");
        lua_error(L);
    }
}

void dsl_spend(lua_State *L, double steps)
{
    dsl_state *s = dsl_of(L);
    s->fuel = steps > (double)s->fuel ? -1 : s->fuel - (int64_t)steps;
    bool late = steps > HOOK_STEPS && processor_time() > s->deadline;
    if ((s->fuel < 0 || late) && s->stop == DSL_RUNS) {
        s->stop = DSL_NO_FUEL;
        see(L, 1);
    }
    if (s->stop != DSL_RUNS) {
        luaL_error(L, "stopped");
    }
}

/* ---------------------------------------------------------------- chunks */

typedef struct new_chunk {
    const char *path, *text;
    size_t length;
    dsl_chunk *made;
    const char *why;
} new_chunk;

static void make_chunk(dsl_state *s, void *arg)
{
    new_chunk *n = arg;
    char *path = qn_arena_text(s->ir->arena, n->path, strlen(n->path));
    char *text = qn_arena_text(s->ir->arena, n->text, n->length);
    n->made = dsl_chunk_new(s, path, text, n->length, &n->why);
}

void dsl_load_chunk(lua_State *L, const char *path, const char *text, size_t length, bool internal)
{
    dsl_state *s = dsl_of(L);
    new_chunk n = {path, text, length, NULL, NULL};
    if (s->nchunks == DSL_MAX_CHUNKS) {
        luaL_error(L, "more than %d files", DSL_MAX_CHUNKS);
    }
    if (!dsl_protect(s, make_chunk, &n)) {
        luaL_error(L, "out of memory");
    }
    int number = s->nchunks++;
    s->chunks[number] = n.made;
    n.made->internal = internal;
    char name[16];
    snprintf(name, sizeof name, "=[q%d]", number);
    if (n.why) { /* at the copy's last line: there the reading stopped */
        lua_pushfstring(L, "[q%d]:%d: %s", number, n.made->nstarts, n.why);
        lua_error(L);
    }
    if (luaL_loadbufferx(L, n.made->copy, n.made->copy_length, name, "t") != LUA_OK) {
        if (strcmp(lua_tostring(L, -1), "C stack overflow") == 0) {
            lua_pushfstring(L, "[q%d]:%d: C stack overflow", number, n.made->deep_line);
        }
        lua_error(L);
    }
}

/* ---------------------------------------------------------------- the protected part */

static int run(lua_State *L)
{
    dsl_state *s = lua_touserdata(L, 1);
    lua_sethook(L, hook, LUA_MASKCOUNT | LUA_MASKLINE, HOOK_STEPS);
    dsl_open(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "quern.choose");
    dsl_load_chunk(L, s->path, s->text, s->length, false);
    lua_call(L, 0, 1);
    lua_pushstring(L, s->pick);
    lua_call(L, 2, 1);
    s->result = dsl_convert(L);
    return 0;
}

/* ---------------------------------------------------------------- what went wrong */

/* "[q0]:12: text" -> chunk, line and the rest. */
static const char *take_place(const dsl_state *s, const char *t, const dsl_chunk **chunk,
                              int32_t *line)
{
    *chunk = NULL;
    *line = 0;
    int number = dsl_chunk_number(s, t);
    const char *colon = number >= 0 ? strchr(t, ']') + 1 : t;
    char *end;
    if (number >= 0 && *colon == ':') {
        long n = strtol(colon + 1, &end, 10);
        if (*end == ':' && n >= 0 && n < INT32_MAX) {
            *chunk = s->chunks[number];
            *line = (int32_t)n;
            t = end + 1;
            t += *t == ' ';
        }
    }
    return t;
}

/* Bytes of the character at t, in UTF-8; 0: none that may be printed. */
static size_t character(const char *t)
{
    const unsigned char *u = (const unsigned char *)t;
    size_t n = u[0] >= 0xF0 && u[0] < 0xF5 ? 4 : u[0] >= 0xE0 ? 3 : u[0] >= 0xC3 ? 2 : 1;
    if (u[0] < 32 || u[0] == 127 || (u[0] >= 128 && n == 1) || u[0] >= 0xF5) {
        return 0;
    }
    for (size_t k = 1; k < n; k++) {
        if ((u[k] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return n;
}

/* Lines of copies inside the words become the user's, bytes that are no text become dots. */
static const char *plain_words(const dsl_state *s, qn_arena *a, const char *t,
                               const dsl_chunk *here)
{
    static const char at_line[] = "at line ";
    qn_buf b = qn_buf_of(a);
    qn_buf_puts(&b, "");
    while (*t) {
        const dsl_chunk *c = NULL;
        int32_t line;
        const char *rest = t[0] == '[' ? take_place(s, t, &c, &line) : t;
        if (c) {
            qn_buf_printf(&b, "%s:%d: ", c->user.path, dsl_place(c, line, NULL).line);
            t = rest;
        } else if (here && strncmp(t, at_line, sizeof at_line - 1) == 0) {
            char *end;
            long n = strtol(t + sizeof at_line - 1, &end, 10);
            qn_place p = dsl_place(here, n > 0 && n < INT32_MAX ? (int32_t)n : 0, NULL);
            qn_buf_printf(&b, "%s%d", at_line, p.line);
            t = end;
        } else {
            size_t n = character(t);
            qn_buf_put(&b, n ? t : *t == '\n' ? " " : ".", n ? n : 1);
            t += n ? n : 1;
        }
    }
    return b.text;
}

/* The word that the message is about: after "near", else the first in quotes. */
static const char *word_of(qn_arena *a, const char *t)
{
    const char *near = strstr(t, "near '"), *from = near ? near + 5 : strchr(t, '\''), *to;
    to = from ? strchr(from + 1, '\'') : NULL;
    return to ? qn_arena_text(a, from + 1, (size_t)(to - from - 1)) : NULL;
}

/* Errors of Lua itself that deserve a name and help. */
static const struct known {
    const char *part, *code, *text, *help;
} known[] = {
    {"C stack overflow", "E-DEPTH", "nested too deeply", "name parts with `local`"},
    {"too many C levels", "E-DEPTH", "nested too deeply", "name parts with `local`"},
    {"stack overflow", "E-DEPTH", "functions call each other too deeply",
     "a recursion needs an end that it reaches"},
    {"(global '", "E-LUA", NULL,
     "a spec sees assert error ipairs pairs pcall require select setmetatable tonumber tostring "
     "type, and string table math utf8"},
    {" near ", "E-SYNTAX", NULL, NULL},
    {"too many local variables", "E-SYNTAX", NULL, NULL},
};

static void report(dsl_state *s, const char *message, qn_diags *d)
{
    const dsl_chunk *chunk;
    int32_t line;
    const char *t = take_place(s, message, &chunk, &line), *code = "E-LUA", *help = NULL;
    qn_arena *a = s->ir->arena;
    if (s->stop != DSL_RUNS || (!chunk && strstr(t, "stack overflow"))) {
        chunk = s->seen.line ? s->chunks[s->seen.chunk] : NULL;
        line = s->seen.line;
    }
    if (s->stop == DSL_NO_FUEL) {
        code = "E-FUEL";
        t = "the spec does not finish: its budget of steps is spent";
        help = "a spec builds tables and functions; it has no reason to loop long";
    } else if (s->stop != DSL_RUNS) {
        code = "E-LIMIT";
        t = "the spec needs more memory than it may have";
        help = "a spec only describes a mechanism; its data come with the call";
    } else if (t[0] == 'E' && t[1] == '-' && t[strspn(t, "-ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\1') {
        const char *one = strchr(t, '\1'), *two = strchr(one + 1, '\1');
        code = qn_arena_text(a, t, (size_t)(one - t));
        t = qn_arena_text(a, one + 1, two ? (size_t)(two - one - 1) : strlen(one + 1));
        help = two && two[1] ? qn_arena_text(a, two + 1, strlen(two + 1)) : NULL;
    } else {
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            if (strstr(t, known[k].part)) {
                code = known[k].code;
                t = known[k].text ? known[k].text : t;
                help = known[k].help;
                break;
            }
        }
    }
    qn_place place = {0, 0, 0};
    if (chunk && line) {
        const char *word = word_of(a, t);
        place = dsl_place(chunk, line, word);
        bool found = word && place.length == (int32_t)strlen(word);
        for (int32_t k = 1; !found && word && strcmp(code, "E-KNOB") == 0 && k < 100; k++) {
            qn_place p = dsl_place(chunk, line + k, word); /* a table goes on below its call */
            found = p.line && p.length == (int32_t)strlen(word);
            place = found ? p : place;
        }
    }
    qn_diag *x = qn_diag_add(d, QN_ERROR, code, place, "%s", plain_words(s, a, t, chunk));
    x->path = chunk ? chunk->user.path : s->path;
    x->source = chunk ? chunk->user.text : NULL;
    x->help = help ? plain_words(s, a, help, NULL) : NULL;
}

static bool run_state(dsl_state *s, lua_CFunction main, char *message, size_t room)
{
    message[0] = 0;
    lua_State *L = lua_newstate(allocate, s);
    if (!L) {
        dsl_note_failure(s, LUA_ERRMEM);
        return false;
    }
    s->deadline = processor_time() + max_time;
    lua_pushcfunction(L, main);
    lua_pushlightuserdata(L, s);
    int status = lua_pcall(L, 1, 0, 0);
    dsl_note_failure(s, status);
    if (status != LUA_OK) {
        const char *t =
            lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error that is no text";
        snprintf(message, room, "%s", t);
    }
    lua_sethook(L, NULL, 0, 0);
    lua_close(L);
    return status == LUA_OK;
}

static dsl_state new_state(qn_ir *ir, const char *path, const char *text, size_t length,
                           const qn_dsl_options *options)
{
    return (dsl_state){.ir = ir,
                       .options = options,
                       .fuel = options->fuel > 0 ? options->fuel : 50000000,
                       .max_bytes = options->max_bytes > 0 ? options->max_bytes : (int64_t)64 << 20,
                       .path = path,
                       .text = text,
                       .length = length};
}

const qn_host_value *qn_dsl_load(qn_ir *ir, const char *path, const char *text, size_t length,
                                 const char *pick, const qn_dsl_options *options, qn_diags *d)
{
    static const qn_dsl_options none = {0};
    dsl_state s = new_state(ir, path, text, length, options ? options : &none);
    s.pick = pick;
    char message[2048];
    bool good = run_state(&s, run, message, sizeof message);
    if (s.stop == DSL_NO_MEMORY) {
        longjmp(*ir->arena->oom, 1);
    }
    if (!good) {
        report(&s, message, d);
        return NULL;
    }
    return s.result;
}

/* ---------------------------------------------------------------- Lua as a witness */

typedef struct witness {
    dsl_state s;
    const char *find, *arguments;
    char *out;
    size_t room;
} witness;

static int call(lua_State *L)
{
    witness *w = lua_touserdata(L, 1);
    lua_sethook(L, hook, LUA_MASKCOUNT | LUA_MASKLINE, HOOK_STEPS);
    dsl_open(L);
    dsl_load_chunk(L, w->s.path, w->s.text, w->s.length, false);
    lua_call(L, 0, 1);
    lua_setglobal(L, "spec");
    lua_pushfstring(L, "return %s(%s)", w->find, w->arguments);
    size_t n;
    const char *code = lua_tolstring(L, -1, &n);
    if (luaL_loadbufferx(L, code, n, "=call", "t") != LUA_OK) {
        return lua_error(L);
    }
    int base = lua_gettop(L) - 1;
    lua_call(L, 0, LUA_MULTRET);
    size_t used = 0;
    for (int k = base + 1; k <= lua_gettop(L) && used < w->room; k++) {
        const char *sep = k > base + 1 ? ", " : "";
        size_t left = w->room - used;
        int wrote = lua_isinteger(L, k) ? snprintf(w->out + used, left, "%s%lld", sep,
                                                   (long long)lua_tointeger(L, k))
                    : lua_isnumber(L, k) && lua_type(L, k) == LUA_TNUMBER
                        ? snprintf(w->out + used, left, "%s%.17g", sep, lua_tonumber(L, k))
                        : snprintf(w->out + used, left, "%s%s", sep,
                                   lua_isboolean(L, k) ? (lua_toboolean(L, k) ? "true" : "false")
                                                       : luaL_typename(L, k));
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    return 0;
}

bool qn_dsl_call(qn_arena *a, const char *text, size_t length, const char *find,
                 const char *arguments, char *out, size_t room)
{
    static const qn_dsl_options none = {0};
    qn_ir ir;
    qn_ir_init(&ir, a);
    witness w = {new_state(&ir, "call.lua", text, length, &none), find, arguments, out, room};
    char message[512];
    out[0] = 0;
    bool good = run_state(&w.s, call, message, sizeof message);
    if (!good) {
        snprintf(out, room, "error: %s", message);
    }
    return good;
}
