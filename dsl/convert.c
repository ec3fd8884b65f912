/* SPDX-License-Identifier: MIT
 *
 * Lua values to the tree of frontend/host.h. One Lua object is one node: a registry table leads
 * from the object to its node, which also ends cycles (a recursive function captures itself). */
#include "dsl/state.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

typedef struct request { /* arena memory, asked for where Lua cannot raise */
    size_t size;
    void *got;
} request;

static void allocate(dsl_state *s, void *arg)
{
    request *r = arg;
    r->got = qn_arena_alloc(s->ir->arena, r->size ? r->size : 1, 16);
}

static void *memory(lua_State *L, size_t size)
{
    request r = {size, NULL};
    if (!dsl_protect(dsl_of(L), allocate, &r)) {
        luaL_error(L, "out of memory");
    }
    return r.got;
}

static char *text_of(lua_State *L, int index, size_t *length)
{
    const char *t = lua_tolstring(L, index, length);
    char *copy = memory(L, *length + 1);
    memcpy(copy, t, *length);
    return copy;
}

static qn_host_value *convert(lua_State *L, int index, int memo, int depth);

static void too_many(lua_State *L)
{
    luaL_error(L,
               "E-LIMIT\1the spec holds more than %d values\1data come with the call: pass a "
               "qn.tensor",
               DSL_MAX_VALUES);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const qn_host_field *)a)->key, ((const qn_host_field *)b)->key);
}

/* The key at the index is one that a field may have: text without a NUL. */
static bool is_field(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING &&
           strlen(lua_tostring(L, index)) == lua_rawlen(L, index);
}

static void table_place(lua_State *L, int index, qn_host_value *v)
{
    const dsl_state *s = dsl_of(L);
    dsl_push_key(L, DSL_LINE);
    lua_rawget(L, index);
    dsl_push_key(L, DSL_CHUNK);
    lua_rawget(L, index);
    if (lua_isinteger(L, -1) && lua_isinteger(L, -2)) {
        const dsl_chunk *c = s->chunks[lua_tointeger(L, -1)];
        v->chunk = &c->user;
        v->place = dsl_place(c, (int32_t)lua_tointeger(L, -2), v->u.table.tag);
    }
    lua_pop(L, 2);
}

static void convert_table(lua_State *L, int index, int memo, int depth, qn_host_value *v)
{
    size_t length;
    dsl_push_key(L, DSL_TAG);
    lua_rawget(L, index);
    if (lua_type(L, -1) == LUA_TSTRING) {
        v->u.table.tag = text_of(L, -1, &length);
    }
    lua_pop(L, 1);
    table_place(L, index, v);
    int32_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        count += is_field(L, -2);
        lua_pop(L, 1);
    }
    lua_Unsigned items = lua_rawlen(L, index);
    if (items > DSL_MAX_VALUES) {
        too_many(L);
    }
    qn_host_field *fields = memory(L, sizeof *fields * (size_t)(count + 1));
    const qn_host_value **list = memory(L, sizeof *list * (size_t)(items + 1));
    int32_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (is_field(L, -2)) {
            fields[n].key = text_of(L, -2, &length);
            fields[n++].value = convert(L, lua_gettop(L), memo, depth + 1);
        }
        lua_pop(L, 1);
    }
    qsort(fields, (size_t)n, sizeof *fields, by_key);
    for (lua_Unsigned k = 0; k < items; k++) {
        lua_rawgeti(L, index, (lua_Integer)k + 1);
        list[k] = convert(L, lua_gettop(L), memo, depth + 1);
        lua_pop(L, 1);
    }
    v->u.table.fields = fields;
    v->u.table.nfields = n;
    v->u.table.items = list;
    v->u.table.nitems = (int32_t)items;
}

static void convert_function(lua_State *L, int index, int memo, int depth, qn_host_value *v)
{
    const char *builtin = dsl_builtin_name(L, index);
    size_t length;
    if (builtin) {
        v->kind = QN_HOST_BUILTIN;
        lua_pushstring(L, builtin);
        v->u.builtin = text_of(L, -1, &length);
        lua_pop(L, 1);
        return;
    }
    lua_Debug ar;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">Su", &ar);
    int chunk = dsl_chunk_number(dsl_of(L), ar.short_src);
    const dsl_function *f = chunk >= 0 && ar.linedefined > 0
                                ? dsl_function_at(dsl_of(L)->chunks[chunk], ar.linedefined)
                                : NULL;
    if (!f) {
        v->kind = QN_HOST_BUILTIN;
        v->u.builtin = "a function without source";
        return;
    }
    v->chunk = &dsl_of(L)->chunks[chunk]->user;
    v->place = f->place;
    v->u.function.begin = f->begin;
    v->u.function.end = f->end;
    qn_host_capture *captures = memory(L, sizeof *captures * (size_t)(ar.nups + 1));
    for (int k = 1; k <= ar.nups; k++) {
        const char *name = lua_getupvalue(L, index, k);
        lua_pushstring(L, name ? name : "");
        captures[k - 1].name = text_of(L, -1, &length);
        lua_pop(L, 1);
        captures[k - 1].value = convert(L, lua_gettop(L), memo, depth + 1);
        lua_pop(L, 1);
    }
    v->u.function.captures = captures;
    v->u.function.ncaptures = ar.nups;
}

static qn_host_value *convert(lua_State *L, int index, int memo, int depth)
{
    luaL_checkstack(L, 12, "values nested too deeply");
    if (depth > DSL_MAX_DEPTH) {
        luaL_error(L, "E-DEPTH\1the values of the spec are nested more than %d deep",
                   DSL_MAX_DEPTH);
    }
    int type = lua_type(L, index);
    bool object = type == LUA_TTABLE || type == LUA_TFUNCTION;
    if (object) {
        lua_pushvalue(L, index);
        lua_rawget(L, memo);
        qn_host_value *known = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (known) {
            return known;
        }
    }
    if (++dsl_of(L)->values > DSL_MAX_VALUES) {
        too_many(L);
    }
    qn_host_value *v = memory(L, sizeof *v);
    if (object) {
        lua_pushvalue(L, index);
        lua_pushlightuserdata(L, v);
        lua_rawset(L, memo);
    }
    switch (type) {
    case LUA_TBOOLEAN:
        v->kind = QN_HOST_BOOL;
        v->u.b = lua_toboolean(L, index);
        break;
    case LUA_TNUMBER:
        v->kind = lua_isinteger(L, index) ? QN_HOST_INT : QN_HOST_FLOAT;
        if (v->kind == QN_HOST_INT) {
            v->u.i = lua_tointeger(L, index);
        } else {
            v->u.f = lua_tonumber(L, index);
        }
        break;
    case LUA_TSTRING:
        v->kind = QN_HOST_STRING;
        v->u.string.text = text_of(L, index, &v->u.string.length);
        break;
    case LUA_TTABLE:
        v->kind = QN_HOST_TABLE;
        convert_table(L, index, memo, depth, v);
        break;
    case LUA_TFUNCTION:
        v->kind = QN_HOST_FUNCTION;
        convert_function(L, index, memo, depth, v);
        break;
    default:
        v->kind = QN_HOST_NIL;
    }
    return v;
}

const qn_host_value *dsl_convert(lua_State *L)
{
    lua_newtable(L);
    int memo = lua_gettop(L);
    const qn_host_value *v = convert(L, memo - 1, memo, 0);
    lua_settop(L, memo - 2);
    return v;
}
