/* SPDX-License-Identifier: MIT
 * Running a spec file; see load.h and state.h. */
#include "dsl/state.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- memory and fuel */

static void *allocate(void *user, void *p, size_t old_size, size_t new_size)
{
    dsl_state *s = user;
    qn_alloc a = s->ir->arena->alloc;
    old_size = p ? old_size : 0; /* for a new block Lua passes its kind */
    if (new_size == 0) {
        if (p) {
            s->bytes -= (int64_t)old_size;
            a.realloc_fn(a.user, p, old_size, 0);
        }
        return NULL;
    }
    if (s->bytes - (int64_t)old_size + (int64_t)new_size > s->max_bytes) {
        s->full = true;
        return NULL;
    }
    void *q = a.realloc_fn(a.user, p, old_size, new_size);
    if (q) {
        s->bytes += (int64_t)new_size - (int64_t)old_size;
    } else if (new_size > old_size) {
        s->oom = true;
    }
    return q;
}

bool dsl_protect(dsl_state *s, void (*f)(dsl_state *s, void *arg), void *arg)
{
    jmp_buf here, *former = s->ir->arena->oom;
    s->ir->arena->oom = &here;
    bool good = setjmp(here) == 0;
    if (good) {
        f(s, arg);
    } else {
        s->oom = true;
    }
    s->ir->arena->oom = former;
    return good;
}

enum { HOOK_STEPS = 1000 };

static void hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    dsl_state *s = dsl_of(L);
    if (s->spent || --s->fuel < 0) {
        s->spent = true;
        lua_sethook(L, hook, LUA_MASKCOUNT, 1); /* from now on every instruction raises */
        luaL_error(L, "the spec does not finish");
    }
}

/* ---------------------------------------------------------------- chunks */

typedef struct new_chunk {
    const char *path, *text;
    size_t length;
    dsl_chunk *made;
    const char *why;
    qn_place place;
} new_chunk;

static void make_chunk(dsl_state *s, void *arg)
{
    new_chunk *n = arg;
    char *path = qn_arena_text(s->ir->arena, n->path, strlen(n->path));
    char *text = qn_arena_text(s->ir->arena, n->text, n->length);
    n->made = dsl_chunk_new(s, path, text, n->length, &n->why, &n->place);
}

void dsl_load_chunk(lua_State *L, const char *path, const char *text, size_t length)
{
    dsl_state *s = dsl_of(L);
    new_chunk n = {path, text, length, NULL, NULL, {0, 0, 0}};
    if (s->nchunks == DSL_MAX_CHUNKS) {
        luaL_error(L, "more than %d files", DSL_MAX_CHUNKS);
    }
    if (!dsl_protect(s, make_chunk, &n)) {
        luaL_error(L, "out of memory");
    }
    int number = s->nchunks++;
    s->chunks[number] = n.made;
    char name[16];
    snprintf(name, sizeof name, "=[q%d]", number);
    if (n.why) {
        luaL_error(L, "[q%d]:%d: %s", number, n.place.line, n.why);
    }
    if (luaL_loadbufferx(L, n.made->copy, n.made->copy_length, name, "t") != LUA_OK) {
        lua_error(L);
    }
}

/* ---------------------------------------------------------------- the protected part */

static bool is_spec(lua_State *L, int index)
{
    if (!lua_istable(L, index)) {
        return false;
    }
    index = lua_absindex(L, index);
    lua_pushstring(L, DSL_TAG);
    lua_rawget(L, index);
    bool tagged = lua_type(L, -1) == LUA_TSTRING;
    lua_pop(L, 1);
    return tagged;
}

/* Leaves the spec that was asked for at the top. */
static void choose(lua_State *L, const char *pick)
{
    if (is_spec(L, -1)) {
        if (pick) {
            luaL_error(L,
                       "E-PICK\1the file returns one spec, so it has none of the name %s\1leave "
                       "the name away",
                       pick);
        }
        return;
    }
    if (!lua_istable(L, -1)) {
        luaL_error(L,
                   "E-SPEC\1the file returns no spec (it returns %s)\1end it with `return "
                   "qn.attention { .. }`",
                   luaL_typename(L, -1));
    }
    int table = lua_gettop(L), count = 0;
    char list[512] = "";
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (lua_type(L, -2) == LUA_TSTRING && is_spec(L, -1)) {
            count++;
            if (pick ? strcmp(pick, lua_tostring(L, -2)) == 0 : count == 1) {
                lua_pushvalue(L, -1);
                lua_setfield(L, LUA_REGISTRYINDEX, "quern.picked");
            }
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, " %s", lua_tostring(L, -2));
        }
        lua_pop(L, 1);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, "quern.picked");
    if (count == 0) {
        luaL_error(L, "E-SPEC\1the file returns a table without a spec\1end it with `return "
                      "qn.attention { .. }`");
    }
    if (lua_isnil(L, -1) || (!pick && count > 1)) {
        luaL_error(L, "E-PICK\1%s%s\1write FILE:NAME with one of:%s",
                   pick ? "there is no spec " : "the file returns several specs", pick ? pick : "",
                   list);
    }
}

static int run(lua_State *L)
{
    dsl_state *s = lua_touserdata(L, 1);
    lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_STEPS);
    dsl_open(L);
    dsl_load_chunk(L, s->path, s->text, s->length);
    lua_call(L, 0, 1);
    choose(L, s->pick);
    s->result = dsl_convert(L);
    return 0;
}

/* ---------------------------------------------------------------- what went wrong */

/* "[q0]:12: text" -> chunk, line and the rest. */
static const char *take_place(const dsl_state *s, const char *t, const dsl_chunk **chunk,
                              int32_t *line)
{
    int number, copy_line, used = 0;
    *chunk = NULL;
    *line = 0;
    if (sscanf(t, "[q%d]:%d:%n", &number, &copy_line, &used) == 2 && used && number >= 0 &&
        number < s->nchunks) {
        *chunk = s->chunks[number];
        *line = dsl_user_line(*chunk, copy_line);
        t += used;
        t += *t == ' ';
    }
    return t;
}

/* Other places inside the words become the user's lines too. */
static const char *plain_words(const dsl_state *s, qn_arena *a, const char *t)
{
    qn_buf b = qn_buf_of(a);
    qn_buf_puts(&b, "");
    while (*t) {
        const dsl_chunk *c = NULL;
        int32_t line;
        const char *rest = t[0] == '[' ? take_place(s, t, &c, &line) : t;
        if (c) {
            qn_buf_printf(&b, "%s:%d: ", c->user.path, line);
            t = rest;
        } else {
            unsigned char ch = (unsigned char)*t++;
            if (ch >= 32 || ch == '\t') {
                qn_buf_put(&b, (const char *)&ch, 1);
            } else {
                qn_buf_put(&b, " ", 1);
            }
        }
    }
    return b.text;
}

static void report(dsl_state *s, const char *message, qn_diags *d)
{
    const dsl_chunk *chunk;
    int32_t line;
    const char *t = take_place(s, message, &chunk, &line), *code = "E-LUA", *help = NULL;
    qn_arena *a = s->ir->arena;
    if (s->spent) {
        code = "E-FUEL";
        t = "the spec does not finish: its budget of steps is spent";
        help = "a spec builds tables and functions; it has no reason to loop long";
    } else if (s->full) {
        code = "E-LIMIT";
        t = "the spec needs more memory than it may have";
        help = "a spec only describes a mechanism; its data come with the call";
    } else if (t[0] == 'E' && t[1] == '-' && strchr(t, '\1')) {
        const char *one = strchr(t, '\1'), *two = strchr(one + 1, '\1');
        code = qn_arena_text(a, t, (size_t)(one - t));
        t = qn_arena_text(a, one + 1, two ? (size_t)(two - one - 1) : strlen(one + 1));
        help = two && two[1] ? qn_arena_text(a, two + 1, strlen(two + 1)) : NULL;
    }
    qn_place place = {line, 0, 0};
    qn_diag *x = qn_diag_add(d, QN_ERROR, code, place, "%s", plain_words(s, a, t));
    if (chunk) {
        x->path = chunk->user.path;
        x->source = chunk->user.text;
    }
    x->help = help;
}

static bool run_state(dsl_state *s, lua_CFunction main, char *message, size_t room)
{
    message[0] = 0;
    lua_State *L = lua_newstate(allocate, s);
    if (!L) {
        s->oom = !s->full;
        return false;
    }
    jmp_buf *former = s->ir->arena->oom;
    lua_pushcfunction(L, main);
    lua_pushlightuserdata(L, s);
    int status = lua_pcall(L, 1, 0, 0);
    s->ir->arena->oom = former;
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
    int64_t fuel = options->fuel ? options->fuel : 50000000;
    return (dsl_state){.ir = ir,
                       .options = options,
                       .fuel = (fuel + HOOK_STEPS - 1) / HOOK_STEPS,
                       .max_bytes = options->max_bytes ? options->max_bytes : (int64_t)64 << 20,
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
    if (s.oom && !good) {
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
    lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_STEPS);
    dsl_open(L);
    dsl_load_chunk(L, w->s.path, w->s.text, w->s.length);
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
