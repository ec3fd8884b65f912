/* Lua is its own witness: random kernel functions, called by Lua itself on scalars and compiled.
 * Integers must be equal, floats equal to the rounding of double. Where Lua raises, the flag of the
 * function must be raised, and nowhere else. */
#include "frontend/front.h"
#include "frontend/number.h"
#include "tests/support/host.h"
#include "tests/support/random_fn.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <math.h>
#include <string.h>

enum { FUNCTIONS = 4000, CALLS = 24 };

/* ---------------------------------------------------------------- Lua */

static int lua_unary(lua_State *L)
{
    double x = luaL_checknumber(L, 1);
    lua_pushnumber(L, lua_toboolean(L, lua_upvalueindex(1)) ? tanh(x) : 1 / (1 + exp(-x)));
    return 1;
}

static const char prelude[] =
    "K = 5\nT = { 0.25, 3 }\n"
    "function qn.clamp(x, lo, hi) return math.min(math.max(x, lo), hi) end\n"
    "function twice(x) return x * 2 end\n";

static lua_State *lua(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_newtable(L);
    lua_pushboolean(L, 1);
    lua_pushcclosure(L, lua_unary, 1);
    lua_setfield(L, -2, "tanh");
    lua_pushboolean(L, 0);
    lua_pushcclosure(L, lua_unary, 1);
    lua_setfield(L, -2, "sigmoid");
    lua_setglobal(L, "qn");
    cr_assert(luaL_dostring(L, prelude) == LUA_OK, "%s", lua_tostring(L, -1));
    return L;
}

typedef struct call {
    double s;
    int64_t b, h, i, j;
} call;

/* 0: a number; 1: Lua raised for a division by 0; 2: for a float that no integer holds (floor of a
 * NaN, say), where a kernel function goes on with 0. */
static int witness(lua_State *L, const call *c, double *out)
{
    lua_getglobal(L, "f");
    lua_pushnumber(L, c->s);
    lua_pushinteger(L, c->b);
    lua_pushinteger(L, c->h);
    lua_pushinteger(L, c->i);
    lua_pushinteger(L, c->j);
    int raised = lua_pcall(L, 5, 1, 0) != LUA_OK;
    if (raised) {
        raised = strstr(lua_tostring(L, -1), "perform 'n") ? 1 : 2;
    }
    *out = raised ? 0 : lua_tonumber(L, -1);
    lua_pop(L, 1);
    return raised;
}

/* ---------------------------------------------------------------- the compiled function */

typedef struct compiled {
    qn_scope scope;
    const qn_spec_fn *f;
    qn_code *lets[4096], *flags[512], *result;
    int slots[4096];
} compiled;

static void compile(compiled *c, qn_lab *lab, const qn_spec_fn *f)
{
    const char *why = "";
    memset(c, 0, sizeof *c);
    c->scope.ir = &lab->ir;
    c->scope.number = QN_F32;
    c->scope.m = -1;
    c->f = f;
    cr_assert(f->nlets < 4096 && f->nflags < 512);
    for (int k = 0; k < f->nlets; k++) {
        c->lets[k] = qn_code_of(&c->scope, f->lets[k].x, &why);
        c->slots[k] = qn_scope_slot(&c->scope, f->lets[k].name);
        cr_assert(c->lets[k], "%s", why);
    }
    for (int k = 0; k < f->nflags; k++) {
        c->flags[k] = qn_code_of(&c->scope, f->flags[k], &why);
        cr_assert(c->flags[k], "%s", why);
    }
    c->result = qn_code_of(&c->scope, f->results[0], &why);
    cr_assert(c->result, "%s", why);
}

static void set(compiled *c, const char *name, qn_num v)
{
    int slot = qn_scope_slot(&c->scope, name);
    c->scope.slots.at[slot] = v;
}

static void set_int(compiled *c, const char *name, int64_t i)
{
    set(c, name, (qn_num){.t = QN_I64, .i = i});
}

static qn_num run(compiled *c, const call *x, bool *flag, bool *unsure)
{
    set(c, "s", (qn_num){.t = QN_F32, .f = x->s});
    set_int(c, "b", x->b);
    set_int(c, "h", x->h);
    set_int(c, "i", x->i);
    set_int(c, "j", x->j);
    for (int k = 0; k < c->f->nlets; k++) {
        qn_num v = qn_code_run(&c->scope, c->lets[k]);
        c->scope.slots.at[c->slots[k]] = v;
    }
    *flag = *unsure = false;
    for (int k = 0; k < c->f->nflags; k++) {
        qn_num v = qn_code_run(&c->scope, c->flags[k]);
        *flag |= v.i != 0;
        *unsure |= v.unsure;
    }
    return qn_code_run(&c->scope, c->result);
}

static bool agrees(double want, const qn_num *have)
{
    if (isnan(want) || isinf(have->e)) { /* min and max of a NaN are either; too close to call */
        return true;
    }
    if (isinf(want) || isinf(have->f)) {
        return want == have->f || fabs(want) > 1e37;
    }
    return fabs(want - have->f) <=
           1e-9 * fmax(1, fabs(want)) + (fabs(have->f) < 3e38 ? 1e-3 * have->e : 0);
}

Test(lua_witness, random_functions_mean_what_lua_means)
{
    lua_State *L = lua();
    static compiled c;
    int compared = 0, raised = 0, unsure_results = 0;
    for (uint64_t seed = 1; seed <= FUNCTIONS; seed++) {
        qn_lab lab;
        host_world w;
        qn_lab_open(&lab);
        host_init(&w, &lab.ir, "random.lua");
        const char *text = qn_random_function(&lab.arena, seed);
        const qn_host_value *t = host_list(&w, NULL, host_float(&w, 0.25), host_int(&w, 3), NULL);
        const qn_host_value *twice = host_fn(&w, "function(x) return x * 2 end", NULL);
        const qn_host_value *score =
            host_fn(&w, text, "K", host_int(&w, 5), "T", t, "twice", twice, NULL);
        qn_spec *s = qn_spec_check(&lab.ir, host_table(&w, "attention", "score", score, NULL), NULL,
                                   &lab.diags);
        if (!s) { /* constants alone that divide by 0, or have no integer, are an error at once */
            const char *words = qn_lab_errors(&lab);
            cr_expect(strstr(words, "by 0") || strstr(words, "and a float"), "%s\n%s", text, words);
            qn_lab_close(&lab);
            continue;
        }
        qn_buf chunk = qn_buf_of(&lab.arena);
        qn_buf_printf(&chunk, "f = %s", text);
        cr_assert(luaL_dostring(L, chunk.text) == LUA_OK, "%s\n%s", text, lua_tostring(L, -1));
        if (s->groups.at[0].score) {
            compile(&c, &lab, s->groups.at[0].score);
        }
        qn_random r = {seed * 1000003};
        for (int n = 0; s->groups.at[0].score && n < CALLS; n++) {
            call x = {(double)(float)qn_random_normal(&r), qn_random_below(&r, 3),
                      qn_random_below(&r, 8), qn_random_below(&r, 40) - 10,
                      qn_random_below(&r, 40)};
            double want;
            bool flag, unsure;
            int error = witness(L, &x, &want);
            qn_num have = run(&c, &x, &flag, &unsure);
            if (error == 2) {
                continue;
            }
            raised += error;
            unsure_results += !error && isinf(have.e);
            cr_expect(unsure || error == flag, "%s\n(%g, %d, %d, %d, %d): Lua %s, the flag is %d",
                      text, x.s, (int)x.b, (int)x.h, (int)x.i, (int)x.j,
                      error ? "raises" : "does not raise", flag);
            if (!error) {
                compared++;
                cr_expect(agrees(want, &have),
                          "%s\n(%.9g, %d, %d, %d, %d): Lua %.17g, compiled %.17g", text, x.s,
                          (int)x.b, (int)x.h, (int)x.i, (int)x.j, want, have.f);
            }
        }
        qn_lab_close(&lab);
    }
    lua_close(L);
    cr_expect(compared > FUNCTIONS * CALLS / 2, "only %d calls were compared", compared);
    cr_expect(raised > 100, "only %d calls raised", raised);
    cr_expect(unsure_results < compared / 4, "%d of %d are too close to call", unsure_results,
              compared);
}
