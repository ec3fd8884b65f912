/* SPDX-License-Identifier: MIT
 *
 * What a spec may call. Lua's base, string, table, math and utf8 libraries without what reaches out
 * of the sandbox, what reads code, and what runs long inside C where no hook looks: those have a
 * budget each. Once the fuel is spent every pcall raises again, so that nothing can swallow it. */
#include "dsl/state.h"

#include <lauxlib.h>
#include <lualib.h>
#include <math.h>
#include <string.h>

static const char registry_names[] = "quern.builtins"; /* function -> name */

dsl_state *dsl_of(lua_State *L)
{
    void *user;
    lua_getallocf(L, &user);
    return user;
}

/* ---------------------------------------------------------------- protected calls */

/* A failure that no spec may swallow goes on upwards. */
static void rethrow(lua_State *L, int status)
{
    dsl_state *s = dsl_of(L);
    dsl_note_failure(s, status);
    if (s->stop != DSL_RUNS) {
        luaL_error(L, "stopped");
    }
}

static int safe_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    rethrow(L, status);
    lua_pushboolean(L, status == LUA_OK);
    lua_insert(L, 1);
    return lua_gettop(L);
}

static int safe_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_replace(L, 2);
    lua_replace(L, 1); /* handler, function, arguments */
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
    rethrow(L, status);
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* No finalisers: they would run where no budget holds. */
static int safe_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (lua_istable(L, 2)) {
        static const char *const refused[] = {"__gc", "__close", "__mode"};
        for (int k = 0; k < 3; k++) {
            lua_pushstring(L, refused[k]);
            lua_rawget(L, 2);
            if (!lua_isnil(L, -1)) {
                return luaL_error(L, "a metatable with %s is not allowed in a spec", refused[k]);
            }
            lua_pop(L, 1);
        }
    }
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return luaL_error(L, "cannot change a protected metatable");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

/* ---------------------------------------------------------------- strings and tables
 *
 * The hook does not run inside C. So what a library function may cost is taken from the fuel before
 * it starts. Each guard holds the function itself as its upvalue and calls it as its own body, so
 * that the function's errors name the line of the spec. */

static int guarded(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Steps in the length of the first argument. */
static int linear(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING) {
        dsl_spend(L, (double)lua_rawlen(L, 1) / 8);
    }
    return guarded(L);
}

static bool is_plain_find(lua_State *L, const char *p, size_t m)
{
    size_t specials = strcspn(p, "^$*+?.([%-");
    return specials == m || lua_toboolean(L, 4);
}

/* Lua's matcher may try every way to share the subject among the repetitions of the pattern. */
static double ways_of(size_t n, const char *p, size_t m)
{
    double length = (double)n + 1, ways = m && p[0] == '^' ? 1 : length;
    for (size_t k = 0; k < m && ways < 1e15; k++) {
        if (p[k] == '%' && k + 1 < m) {
            ways *= p[k + 1] == 'b' ? length : 1;
            k++;
        } else if (p[k] == '*' || p[k] == '+' || p[k] == '-') {
            ways *= length;
        } else if (p[k] == '?') {
            ways *= 2;
        }
    }
    return ways * (1 + (double)m / 16);
}

static int match(lua_State *L)
{
    size_t n, m;
    luaL_checklstring(L, 1, &n);
    const char *p = luaL_checklstring(L, 2, &m);
    double ways = is_plain_find(L, p, m) ? (double)n * (1 + (double)m / 64) : ways_of(n, p, m);
    if (ways > 1e8) {
        return luaL_error(L, "E-PATTERN\1a string pattern that may take too long over %d bytes",
                          (int)n);
    }
    dsl_spend(L, ways / 8);
    return guarded(L);
}

static int rep(lua_State *L)
{
    size_t n, m = 0;
    luaL_checklstring(L, 1, &n);
    lua_Integer times = luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &m);
    if (times > 0 && (double)(n + m) * (double)times > DSL_MAX_STRING) {
        return luaL_error(L, "E-LIMIT\1string.rep makes more than 1 MiB");
    }
    return guarded(L);
}

/* What is no number and no text goes into it by the name of its type: addresses differ from run to
 * run. */
static void name_objects(lua_State *L, int from)
{
    for (int k = from; k <= lua_gettop(L); k++) {
        int type = lua_type(L, k);
        if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TBOOLEAN &&
            type != LUA_TNIL && luaL_getmetafield(L, k, "__tostring") == LUA_TNIL) {
            lua_pushstring(L, lua_typename(L, type));
            lua_replace(L, k);
        } else if (type == LUA_TTABLE || type == LUA_TFUNCTION) {
            lua_pop(L, 1);
        }
    }
}

static int format(lua_State *L)
{
    const char *f = luaL_checkstring(L, 1);
    for (const char *p = strchr(f, '%'); p; p = strchr(p, '%')) {
        p += 1 + strspn(p + 1, "-+ #0123456789.");
        if (*p == 'p') {
            return luaL_error(L, "string.format has no %%p in a spec");
        }
        p += *p == '%';
    }
    name_objects(L, 2);
    return guarded(L);
}

static int to_string(lua_State *L)
{
    luaL_checkany(L, 1);
    name_objects(L, 1);
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* A list without a metatable, whose length no function of the spec can make up. */
static double plain_length(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_getmetatable(L, 1)) {
        luaL_error(L, "the functions of `table` take tables without a metatable");
    }
    return (double)lua_rawlen(L, 1);
}

static int list(lua_State *L)
{
    dsl_spend(L, plain_length(L) / 4);
    return guarded(L);
}

static int sort(lua_State *L)
{
    double n = plain_length(L);
    dsl_spend(L, n * log2(n + 2) * 4);
    return guarded(L);
}

static void spend_range(lua_State *L, lua_Integer from, lua_Integer to)
{
    if (to >= from) {
        dsl_spend(L, (double)((lua_Unsigned)to - (lua_Unsigned)from) / 2);
    }
}

static int move(lua_State *L)
{
    plain_length(L);
    spend_range(L, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3));
    return guarded(L);
}

static int concat(lua_State *L)
{
    double n = plain_length(L);
    spend_range(L, luaL_optinteger(L, 3, 1), luaL_optinteger(L, 4, (lua_Integer)n));
    return guarded(L);
}

static int unpack(lua_State *L)
{
    double n = plain_length(L);
    spend_range(L, luaL_optinteger(L, 2, 1), luaL_optinteger(L, 3, (lua_Integer)n));
    return guarded(L);
}

static int rank_of(lua_State *L, int index)
{
    return lua_isinteger(L, index) ? 0 : lua_type(L, index) == LUA_TNUMBER ? 1 : 2;
}

/* Numbers before strings, anything else last. */
static int key_below(lua_State *L)
{
    int a = lua_type(L, 1), b = lua_type(L, 2);
    bool below = a == LUA_TNUMBER && b == LUA_TNUMBER && rank_of(L, 1) + rank_of(L, 2) <= 2
                     ? lua_compare(L, 1, 2, LUA_OPLT)
                 : a == LUA_TSTRING && b == LUA_TSTRING ? lua_compare(L, 1, 2, LUA_OPLT)
                                                        : (a == LUA_TNUMBER && b != LUA_TNUMBER) ||
                                                              (a == LUA_TSTRING && b > LUA_TSTRING);
    lua_pushboolean(L, below);
    return 1;
}

/* The iterator of `pairs`: upvalues are the table, its keys and the place among them. */
static int next_pair(lua_State *L)
{
    for (;;) {
        lua_Integer k = lua_tointeger(L, lua_upvalueindex(3)) + 1;
        lua_pushinteger(L, k);
        lua_replace(L, lua_upvalueindex(3));
        if (lua_rawgeti(L, lua_upvalueindex(2), k) == LUA_TNIL) {
            return 1;
        }
        lua_pushvalue(L, -1);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
            return 2;
        }
        lua_pop(L, 2); /* removed meanwhile */
    }
}

/* Keys in their order, so that a spec means the same in every run: Lua's own order hangs on
 * addresses. The upvalue is table.sort. */
static int sorted_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L);
    lua_Integer n = 0;
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (!lua_islightuserdata(L, -1)) { /* a key of the library's own */
            lua_pushvalue(L, -1);
            lua_rawseti(L, 2, ++n);
        }
    }
    dsl_spend(L, (double)n * log2((double)n + 2) * 8);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 2);
    lua_pushcfunction(L, key_below);
    lua_call(L, 2, 0);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_pair, 3);
    return 1;
}

static void guard(lua_State *L, const char *library, const char *name, lua_CFunction f)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void guard_all(lua_State *L)
{
    static const struct {
        const char *library, *name;
        lua_CFunction f;
    } guards[] = {
        {"string", "find", match},     {"string", "match", match},  {"string", "gmatch", match},
        {"string", "gsub", match},     {"string", "rep", rep},      {"string", "format", format},
        {"string", "byte", linear},    {"string", "lower", linear}, {"string", "upper", linear},
        {"string", "reverse", linear}, {"utf8", "len", linear},     {"utf8", "codepoint", linear},
        {"utf8", "offset", linear},    {"_G", "tonumber", linear},  {"table", "insert", list},
        {"table", "remove", list},     {"table", "sort", sort},     {"table", "move", move},
        {"table", "concat", concat},   {"table", "unpack", unpack},
    };
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_pushcclosure(L, sorted_pairs, 1);
    lua_setglobal(L, "pairs");
    lua_pop(L, 1);
    for (size_t k = 0; k < sizeof guards / sizeof *guards; k++) {
        guard(L, guards[k].library, guards[k].name, guards[k].f);
    }
}

/* ---------------------------------------------------------------- quern's own builtins on scalars
 */

static int m_tanh(lua_State *L)
{
    lua_pushnumber(L, tanh(luaL_checknumber(L, 1)));
    return 1;
}

static int m_sigmoid(lua_State *L)
{
    lua_pushnumber(L, 1 / (1 + exp(-luaL_checknumber(L, 1))));
    return 1;
}

static int m_erf(lua_State *L)
{
    lua_pushnumber(L, erf(luaL_checknumber(L, 1)));
    return 1;
}

static int m_exp2(lua_State *L)
{
    lua_pushnumber(L, exp2(luaL_checknumber(L, 1)));
    return 1;
}

static int m_log2(lua_State *L)
{
    lua_pushnumber(L, log2(luaL_checknumber(L, 1)));
    return 1;
}

static int m_rsqrt(lua_State *L)
{
    lua_pushnumber(L, 1 / sqrt(luaL_checknumber(L, 1)));
    return 1;
}

static int m_pow(lua_State *L)
{
    lua_pushnumber(L, pow(luaL_checknumber(L, 1), luaL_checknumber(L, 2)));
    return 1;
}

static int m_clamp(lua_State *L)
{
    luaL_checknumber(L, 1);
    luaL_checknumber(L, 2);
    luaL_checknumber(L, 3);
    int low = lua_compare(L, 1, 2, LUA_OPLT), high = lua_compare(L, 3, 1, LUA_OPLT);
    lua_pushvalue(L, high ? 3 : low ? 2 : 1);
    return 1;
}

static int m_select(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    lua_pushvalue(L, lua_toboolean(L, 1) ? 2 : 3);
    return 1;
}

static const luaL_Reg own[] = {
    {"tanh", m_tanh},     {"sigmoid", m_sigmoid}, {"erf", m_erf}, {"exp2", m_exp2},
    {"log2", m_log2},     {"rsqrt", m_rsqrt},     {"pow", m_pow}, {"clamp", m_clamp},
    {"select", m_select}, {NULL, NULL},
};

/* ---------------------------------------------------------------- what quern.lua stands on */

void dsl_push_key(lua_State *L, int key)
{
    static const char keys[3];
    lua_pushlightuserdata(L, (void *)&keys[key]);
}

static void set_key(lua_State *L, int key, int value)
{
    dsl_push_key(L, key);
    lua_pushinteger(L, value);
    lua_rawset(L, 2);
}

/* tagged(tag, table, metatable): marks a table, and notes the line of its maker. */
static int tagged(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    dsl_push_key(L, DSL_TAG);
    lua_pushvalue(L, 1);
    lua_rawset(L, 2);
    int chunk, line;
    if (dsl_caller(L, 1, &chunk, &line)) {
        set_key(L, DSL_CHUNK, chunk);
        set_key(L, DSL_LINE, line);
    }
    lua_setmetatable(L, 2);
    return 1;
}

static int tag_of(lua_State *L)
{
    if (lua_istable(L, 1)) {
        dsl_push_key(L, DSL_TAG);
        lua_rawget(L, 1);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int next_order(lua_State *L)
{
    lua_pushinteger(L, ++dsl_of(L)->order);
    return 1;
}

/* fail(code, text, help): an error at the line of the spec that called the library. */
static int fail(lua_State *L)
{
    const char *code = luaL_checkstring(L, 1), *text = luaL_checkstring(L, 2),
               *help = luaL_optstring(L, 3, "");
    int chunk, line;
    if (dsl_caller(L, 1, &chunk, &line)) {
        lua_pushfstring(L, "[q%d]:%d: %s\1%s\1%s", chunk, line, code, text, help);
    } else {
        lua_pushfstring(L, "%s\1%s\1%s", code, text, help);
    }
    return lua_error(L);
}

/* Calls its upvalue. A tail call of a Lua function forgets the caller; one of C does not. */
static int enter(lua_State *L)
{
    int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

static int entry(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    if (!lua_iscfunction(L, 1)) {
        lua_pushcclosure(L, enter, 1);
    }
    return 1;
}

static int set_function_metatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushcfunction(L, set_function_metatable);
    lua_pushvalue(L, 1);
    lua_setmetatable(L, -2);
    return 0;
}

static const luaL_Reg inner[] = {
    {"tagged", tagged}, {"tag_of", tag_of}, {"next_order", next_order},
    {"fail", fail},     {"entry", entry},   {"set_function_metatable", set_function_metatable},
    {NULL, NULL},
};

/* ---------------------------------------------------------------- require */

static const char loaded_key[] = "quern.loaded";

typedef struct sibling {
    const char *name, *text;
    size_t length;
} sibling;

static void read_sibling(dsl_state *s, void *arg)
{
    sibling *f = arg;
    f->text = s->options->read(s->options->user, f->name, &f->length);
}

static bool is_file_name(const char *name, size_t length)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return length > 0 && length < 200 && strspn(name, letters) == length;
}

static int require(lua_State *L)
{
    sibling f = {NULL, NULL, 0};
    size_t n;
    f.name = luaL_checklstring(L, 1, &n);
    dsl_state *s = dsl_of(L);
    lua_settop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, loaded_key);
    lua_pushvalue(L, 1);
    lua_rawget(L, 2);
    if (lua_isboolean(L, 3) && !lua_toboolean(L, 3)) {
        return luaL_error(L, "E-REQUIRE\1%s requires itself, by way of other files or at once",
                          f.name);
    }
    if (!lua_isnil(L, 3)) {
        return 1;
    }
    if (is_file_name(f.name, n) && s->options->read && !dsl_protect(s, read_sibling, &f)) {
        return luaL_error(L, "stopped");
    }
    if (!f.text) {
        return luaL_error(L,
                          "E-REQUIRE\1there is no module %s\1`require` serves \"quern\" and the "
                          "files beside the spec, by their names without .lua",
                          f.name);
    }
    lua_pushvalue(L, 1);
    lua_pushboolean(L, 0);
    lua_rawset(L, 2);
    lua_pushfstring(L, "%s.lua", f.name);
    dsl_load_chunk(L, lua_tostring(L, -1), f.text, f.length, false);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1) || (lua_isboolean(L, -1) && !lua_toboolean(L, -1))) {
        return luaL_error(L, "E-REQUIRE\1the module %s returns nothing", f.name);
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, 2);
    return 1;
}

static void note_names(lua_State *L, const char *library);

static void load_embedded(lua_State *L, const dsl_file *f)
{
    lua_pushfstring(L, "quern/%s", f->name);
    dsl_load_chunk(L, lua_tostring(L, -1), (const char *)f->text, f->length, true);
    lua_remove(L, -2);
}

/* The module: quern.lua makes it, the parts under std/ add to it. */
static void open_module(lua_State *L)
{
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, loaded_key);
    for (const dsl_file *f = dsl_files; f->name; f++) {
        if (strcmp(f->name, "quern.lua") == 0) {
            load_embedded(L, f);
        }
    }
    lua_newtable(L);
    luaL_setfuncs(L, inner, 0);
    lua_newtable(L);
    luaL_setfuncs(L, own, 0);
    lua_call(L, 2, 3); /* the module, `choose`, `value` */
    for (const dsl_file *f = dsl_files; f->name; f++) {
        if (strncmp(f->name, "std/", 4) == 0) {
            load_embedded(L, f);
            lua_pushvalue(L, -4);
            lua_pushcfunction(L, entry);
            lua_pushcfunction(L, fail);
            lua_pushvalue(L, -5);
            lua_pushcfunction(L, tag_of);
            lua_call(L, 5, 0);
        }
    }
    lua_pop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "quern.choose");
    note_names(L, "qn.");
    lua_getfield(L, LUA_REGISTRYINDEX, loaded_key);
    lua_insert(L, -2);
    lua_setfield(L, -2, "quern");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- globals */

/* Notes `library.name` for every function of the table at the top that C made: kernel
 * functions know them by name, others by their source. */
static void note_names(lua_State *L, const char *library)
{
    lua_getfield(L, LUA_REGISTRYINDEX, registry_names);
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        if (lua_iscfunction(L, -1) && lua_type(L, -2) == LUA_TSTRING) {
            lua_pushfstring(L, "%s%s", library, lua_tostring(L, -2));
            lua_rawset(L, -4);
        } else {
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

const char *dsl_builtin_name(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_getfield(L, LUA_REGISTRYINDEX, registry_names);
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    const char *name = lua_tostring(L, -1); /* the registry keeps it */
    lua_pop(L, 2);
    return name;
}

static void drop(lua_State *L, const char *library, const char *const *names)
{
    lua_getglobal(L, library);
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, -2, *names);
    }
    lua_pop(L, 1);
}

void dsl_open(lua_State *L)
{
    static const luaL_Reg libraries[] = {
        {"_G", luaopen_base},   {"string", luaopen_string}, {"table", luaopen_table},
        {"math", luaopen_math}, {"utf8", luaopen_utf8},
    };
    static const char *const no_base[] = {"dofile", "load", "loadfile", "collectgarbage",
                                          "print",  "warn", "next",     NULL};
    static const char *const no_string[] = {"dump", "pack", "unpack", "packsize", NULL};
    static const char *const no_math[] = {"random", "randomseed", NULL};
    for (size_t k = 0; k < sizeof libraries / sizeof *libraries; k++) {
        luaL_requiref(L, libraries[k].name, libraries[k].func, 1);
        lua_pop(L, 1);
    }
    drop(L, "_G", no_base);
    drop(L, "string", no_string);
    drop(L, "math", no_math);
    guard_all(L);
    lua_register(L, "pcall", safe_pcall);
    lua_register(L, "xpcall", safe_xpcall);
    lua_register(L, "setmetatable", safe_setmetatable);
    lua_register(L, "tostring", to_string);
    lua_register(L, "require", require);
    lua_pushliteral(L, ""); /* the metatable of strings cannot be reached */
    lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, registry_names);
    lua_pushglobaltable(L);
    note_names(L, "");
    lua_pop(L, 1);
    for (size_t k = 1; k < sizeof libraries / sizeof *libraries; k++) {
        lua_getglobal(L, libraries[k].name);
        char prefix[16];
        size_t n = strlen(libraries[k].name);
        memcpy(prefix, libraries[k].name, n);
        prefix[n] = '.';
        prefix[n + 1] = 0;
        note_names(L, prefix);
        lua_pop(L, 1);
    }
    open_module(L);
}
