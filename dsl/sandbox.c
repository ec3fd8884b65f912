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

static int rethrow_if_spent(lua_State *L)
{
    dsl_state *s = dsl_of(L);
    if (s->spent || s->full || s->oom) {
        return luaL_error(L, "the budget is spent");
    }
    return 0;
}

static int safe_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    rethrow_if_spent(L);
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
    rethrow_if_spent(L);
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

/* ---------------------------------------------------------------- strings */

/* Lua's matcher may try every way to share the subject among the repetitions of the pattern. */
static void check_pattern(lua_State *L)
{
    size_t n, m;
    luaL_checklstring(L, 1, &n);
    const char *p = luaL_checklstring(L, 2, &m);
    double ways = (double)n + 1;
    int repetitions = 0;
    for (size_t k = 0; k < m; k++) {
        if (strchr("*+-?", p[k]) && p[k]) {
            repetitions++;
        }
        if (p[k] == '%' && k + 1 < m && p[k + 1] == 'b') {
            repetitions++;
        }
    }
    for (int k = 0; k < repetitions && ways < 1e12; k++) {
        ways *= (double)n + 1;
    }
    if (ways > 2e7) {
        luaL_error(L, "a string pattern that may take too long (%d repetitions over %d bytes)",
                   repetitions, (int)n);
    }
}

/* Calls the library's function, kept as the first upvalue. */
static int forward(lua_State *L)
{
    int n = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, n, LUA_MULTRET);
    return lua_gettop(L);
}

static int safe_match(lua_State *L)
{
    check_pattern(L);
    return forward(L);
}

static int safe_rep(lua_State *L)
{
    size_t n, m = 0;
    luaL_checklstring(L, 1, &n);
    lua_Integer times = luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &m);
    if (times > 0 && (double)(n + m) * (double)times > 1 << 22) {
        return luaL_error(L, "string.rep makes more than 4 MiB");
    }
    return forward(L);
}

static int safe_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from > 1000000) {
        return luaL_error(L, "table.move of more than a million elements");
    }
    return forward(L);
}

static int safe_concat(lua_State *L)
{
    lua_Integer from = luaL_optinteger(L, 3, 1);
    lua_Integer to = lua_isnoneornil(L, 4) ? luaL_len(L, 1) : luaL_checkinteger(L, 4);
    if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from > 1000000) {
        return luaL_error(L, "table.concat of more than a million elements");
    }
    return forward(L);
}

static void guard(lua_State *L, const char *library, const char *name, lua_CFunction f)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
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
    {"tanh", m_tanh},   {"sigmoid", m_sigmoid}, {"erf", m_erf},
    {"exp2", m_exp2},   {"log2", m_log2},       {"pow", m_pow},
    {"clamp", m_clamp}, {"select", m_select},   {NULL, NULL},
};

/* ---------------------------------------------------------------- what quern.lua stands on */

/* tagged(tag, table, level, metatable): marks a table, and notes the line of its maker. */
static int tagged(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    int level = (int)luaL_checkinteger(L, 3);
    lua_pushvalue(L, 1);
    lua_setfield(L, 2, DSL_TAG);
    lua_Debug ar;
    while (lua_getstack(L, level, &ar)) { /* the first level that a spec wrote */
        lua_getinfo(L, "Sl", &ar);
        int chunk = dsl_chunk_number(ar.short_src);
        const dsl_state *s = dsl_of(L);
        if (chunk >= 0 && s->chunks[chunk] && s->chunks[chunk]->user.path[0] != '<') {
            lua_pushinteger(L, ar.currentline);
            lua_setfield(L, 2, DSL_LINE);
            lua_pushinteger(L, chunk);
            lua_setfield(L, 2, DSL_CHUNK);
            break;
        }
        level++;
    }
    if (lua_istable(L, 4)) {
        lua_pushvalue(L, 4);
        lua_setmetatable(L, 2);
    }
    lua_settop(L, 2);
    return 1;
}

static int tag_of(lua_State *L)
{
    if (lua_istable(L, 1)) {
        lua_pushstring(L, DSL_TAG);
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
    const dsl_state *s = dsl_of(L);
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        int chunk = dsl_chunk_number(ar.short_src);
        if (chunk >= 0 && s->chunks[chunk] && s->chunks[chunk]->user.path[0] != '<') {
            return luaL_error(L, "");
        }
        if (chunk >= 0 && s->chunks[chunk]) {
            lua_Debug up;
            if (lua_getstack(L, level + 1, &up)) {
                lua_getinfo(L, "Sl", &up);
                int outer = dsl_chunk_number(up.short_src);
                if (outer >= 0 && s->chunks[outer] && s->chunks[outer]->user.path[0] != '<') {
                    lua_pushfstring(L, "%s:%d: %s\1%s\1%s", up.short_src, up.currentline, code,
                                    text, help);
                    return lua_error(L);
                }
            }
        }
    }
    lua_pushfstring(L, "%s\1%s\1%s", code, text, help);
    return lua_error(L);
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
    {"tagged", tagged},
    {"tag_of", tag_of},
    {"next_order", next_order},
    {"fail", fail},
    {"set_function_metatable", set_function_metatable},
    {NULL, NULL},
};

/* ---------------------------------------------------------------- require */

static const char loaded_key[] = "quern.loaded";

static const dsl_file *embedded(const char *name)
{
    for (const dsl_file *f = dsl_files; f->name; f++) {
        if (strcmp(f->name, name) == 0) {
            return f;
        }
    }
    return NULL;
}

static int require(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    dsl_state *s = dsl_of(L);
    lua_getfield(L, LUA_REGISTRYINDEX, loaded_key);
    lua_getfield(L, -1, name);
    if (lua_isboolean(L, -1)) {
        return luaL_error(L, "files that require each other: %s", name);
    }
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    lua_pop(L, 1);
    size_t length = 0;
    const char *text = s->options->read ? s->options->read(s->options->user, name, &length) : NULL;
    if (!text) {
        return luaL_error(
            L, "there is no module %s: `require` serves \"quern\" and files beside the spec", name);
    }
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, name);
    lua_pushfstring(L, "%s.lua", name);
    dsl_load_chunk(L, lua_tostring(L, -1), text, length);
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1)) {
        return luaL_error(L, "the module %s returns nothing", name);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, name);
    return 1;
}

static void open_module(lua_State *L)
{
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, loaded_key);
    const dsl_file *f = embedded("quern.lua");
    dsl_load_chunk(L, "<quern.lua>", (const char *)f->text, f->length);
    lua_newtable(L);
    luaL_setfuncs(L, inner, 0);
    lua_newtable(L);
    luaL_setfuncs(L, own, 0);
    lua_call(L, 2, 1);
    for (const dsl_file *std = dsl_files; std->name; std++) {
        if (strncmp(std->name, "std/", 4) == 0) {
            lua_pushfstring(L, "<%s>", std->name);
            dsl_load_chunk(L, lua_tostring(L, -1), (const char *)std->text, std->length);
            lua_remove(L, -2);
            lua_pushvalue(L, -2);
            lua_call(L, 1, 0);
        }
    }
    lua_getfield(L, LUA_REGISTRYINDEX, loaded_key);
    lua_insert(L, -2);
    lua_setfield(L, -2, "quern");
    lua_pop(L, 1);
}

/* ---------------------------------------------------------------- globals */

/* Notes `library.name` for every function of the table at the top. */
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
                                          "print",  "warn", NULL};
    static const char *const no_string[] = {"dump", "pack", "unpack", "packsize", NULL};
    static const char *const no_math[] = {"random", "randomseed", NULL};
    for (size_t k = 0; k < sizeof libraries / sizeof *libraries; k++) {
        luaL_requiref(L, libraries[k].name, libraries[k].func, 1);
        lua_pop(L, 1);
    }
    drop(L, "_G", no_base);
    drop(L, "string", no_string);
    drop(L, "math", no_math);
    guard(L, "string", "find", safe_match);
    guard(L, "string", "match", safe_match);
    guard(L, "string", "gmatch", safe_match);
    guard(L, "string", "gsub", safe_match);
    guard(L, "string", "rep", safe_rep);
    guard(L, "table", "move", safe_move);
    guard(L, "table", "concat", safe_concat);
    lua_register(L, "pcall", safe_pcall);
    lua_register(L, "xpcall", safe_xpcall);
    lua_register(L, "setmetatable", safe_setmetatable);
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
    lua_getfield(L, LUA_REGISTRYINDEX, loaded_key);
    lua_getfield(L, -1, "quern");
    note_names(L, "qn.");
    lua_pop(L, 2);
}
