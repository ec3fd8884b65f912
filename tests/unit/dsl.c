/* SPDX-License-Identifier: MIT
 *
 * The sandbox. A spec that is hostile or wrong ends with one error that has a code and a place, and
 * ends soon; a good one becomes the tree of frontend/host.h. */
#include "dsl/load.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- files beside the spec */

static const char *const files[][2] = {
    {"parts", "return { twice = function(x) return x + x end }"},
    {"ping", "local pong = require 'pong'\nreturn {}"},
    {"pong", "local ping = require 'ping'\nreturn {}"},
    {"self", "return require 'self'"},
    {"nothing", "local x = 1"},
    {"broken", "local x =\nreturn {}"},
    {"raises", "local t\n\nreturn t.x"},
    {"counted", "count = (count or 0) + 1\nreturn { n = count }"},
};

static const char *read_file(void *user, const char *name, size_t *length)
{
    (void)user;
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        if (strcmp(files[k][0], name) == 0) {
            *length = strlen(files[k][1]);
            return files[k][1];
        }
    }
    return NULL;
}

static const qn_host_value *load_with(qn_lab *lab, const char *text, size_t length,
                                      const char *pick, int64_t fuel)
{
    qn_dsl_options o = {.read = read_file, .fuel = fuel};
    return qn_dsl_load(&lab->ir, "spec.lua", text, length, pick, &o, &lab->diags);
}

static const qn_host_value *load(qn_lab *lab, const char *text, size_t length, const char *pick)
{
    return load_with(lab, text, length, pick, 0);
}

/* ---------------------------------------------------------------- wrong and hostile specs */

typedef struct wrong {
    const char *name, *text, *code;
    int line, col; /* 0: not looked at */
    const char *said;
} wrong;

#define QN    "local qn = require 'quern'\n"
#define BITS8 "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""

static const wrong wrongs[] = {
    /* that never end */
    {"loop", "while true do end", "E-FUEL", 1, 1, "does not finish"},
    {"loop in pcall", "while true do\n  pcall(function() while true do end end)\nend", "E-FUEL", 0,
     0, "does not finish"},
    {"loop in nested pcall",
     "local function f()\n  while true do pcall(f) end\nend\nwhile true do pcall(pcall, f) end",
     "E-FUEL", 0, 0, ""},
    {"loop in xpcall", "xpcall(function() while true do end end, function() while true do end end)",
     "E-FUEL", 1, 0, ""},
    {"loop in a handler", "xpcall(error, function() while true do end end)", "E-FUEL", 1, 0, ""},
    {"loop in a metamethod",
     "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })\n"
     "while true do pcall(function() return t[1] end) end",
     "E-FUEL", 0, 0, ""},
    {"loop in sort",
     "local t = {}\nfor i = 1, 1000 do t[i] = i end\n"
     "table.sort(t, function(a, b) while true do end end)",
     "E-FUEL", 3, 0, ""},
    {"loop in gsub", "(('a'):rep(100)):gsub('a', function() while true do end end)", "E-FUEL", 0, 0,
     ""},
    {"loop with close",
     "while true do\n  pcall(function()\n    local x <close> = setmetatable({}, {})\n  end)\nend",
     "E-FUEL", 0, 0, ""},
    {"goto", "::a:: goto a", "E-FUEL", 1, 0, ""},
    {"loop in a tostring",
     "tostring(setmetatable({}, { __tostring = function() while true do end end }))", "E-FUEL", 1,
     0, ""},
    {"many sorts",
     "local t = {}\nfor i = 1, 100000 do t[i] = -i end\n"
     "while true do table.sort(t) end",
     "E-FUEL", 3, 0, ""},
    {"many concats",
     "local t = {}\nfor i = 1, 100000 do t[i] = '' end\n"
     "while true do local s = table.concat(t) end",
     "E-FUEL", 3, 0, ""},
    {"many unpacks",
     "local t = {}\nfor i = 1, 100000 do t[i] = i end\n"
     "local function n(...) return select('#', ...) end\nwhile true do n(table.unpack(t)) end",
     "E-FUEL", 4, 0, ""},
    {"many inserts", "local t = {}\nwhile true do table.insert(t, 1, 0) end", "E-FUEL", 2, 0, ""},
    {"a length made up",
     "local t = setmetatable({}, { __len = function() return 1 << 60 end })\ntable.remove(t, 1)",
     "E-LUA", 2, 0, "without a metatable"},
    {"a long move", "table.move({}, 1, 1 << 60, 2)", "E-FUEL", 1, 0, ""},
    {"many moves", "local t = {}\nwhile true do table.move(t, 1, 100000, 2) end", "E-FUEL", 2, 0,
     ""},
    {"comparing long strings",
     "local a = ('x'):rep(1 << 20)\nlocal b = a:sub(1, -2) .. 'y'\nwhile a ~= b do end", "E-FUEL",
     3, 0, ""},
    {"reversing long strings", "local a = ('x'):rep(1 << 20)\nwhile true do a:reverse() end",
     "E-FUEL", 2, 0, ""},
    {"reading long strings", "local a = ('1'):rep(1 << 20)\nwhile true do tonumber(a, 2) end",
     "E-FUEL", 2, 0, ""},
    {"joining strings", "local a = ('x'):rep(500000)\nwhile true do local b = a .. a end", "E-FUEL",
     2, 0, ""},
    {"pairs again and again",
     "local t = {}\nfor i = 1, 100000 do t[i] = i end\nwhile true do pairs(t) end", "E-FUEL", 3, 0,
     ""},

    /* slow patterns */
    {"slow pattern", "local s = ('a'):rep(5000)\nreturn s:find(('.-'):rep(40) .. 'b')", "E-PATTERN",
     2, 0, "may take too long"},
    {"slow gsub", "local s = ('a'):rep(5000)\nreturn (s:gsub('.-.-.-.-b', ''))", "E-PATTERN", 2, 0,
     ""},
    {"slow optional", "return (" BITS8 "):match(('a?'):rep(40) .. ('a'):rep(40))", "E-PATTERN", 1,
     0, ""},
    {"slow balance", "return (('('):rep(100000)):gmatch('%b()')", "E-PATTERN", 1, 0, ""},
    {"slow plain find",
     "local s = ('a'):rep(1 << 20)\nreturn s:find(('a'):rep(1 << 19) .. 'b', 1, true)", "E-PATTERN",
     2, 0, ""},
    {"many patterns", "local s = ('a'):rep(2000)\nwhile true do pcall(s.find, s, 'a-a-b') end",
     "E-PATTERN", 0, 0, NULL},
    {"many fast patterns", "local s = ('a'):rep(200)\nwhile true do s:find('a-a-b') end", "E-FUEL",
     2, 0, ""},
    {"bad pattern", "return ('a'):find('[a')", "E-LUA", 1, 0, "missing ']'"},

    /* memory */
    {"10 GB table", "local t = {}\nfor i = 1, 10000000000 do\n  t[i] = i\nend", "E-LIMIT", 0, 0,
     "more memory"},
    {"10 GB table in pcall",
     "pcall(function()\n  local t = {}\n  for i = 1, 10000000000 do t[i] = {} end\nend)", "E-LIMIT",
     0, 0, "more memory"},
    {"10 GB string", "local s = ('x'):rep(10000000000)", "E-LIMIT", 1, 0, "1 MiB"},
    {"strings that double", "local s = 'x'\nwhile true do s = s .. s end", "E-LIMIT", 2, 0, ""},
    {"strings that double, held",
     "local s = 'x'\npcall(function() while true do s = s .. s end end)\nreturn {}", "E-LIMIT", 2,
     0, ""},
    {"a wide format", "local s = ('x'):rep(1 << 20)\nreturn ('%s%s'):format(s, s)", "E-LIMIT", 2, 0,
     ""},
    {"replacement that grows", "local s = ('x'):rep(10000)\nreturn (s:gsub('x', ('y'):rep(10000)))",
     "E-LIMIT", 2, 0, ""},
    {"many results", "return table.unpack({}, 1, 1 << 22)", "E-LUA", 1, 0, "too many results"},

    /* depth */
    {"deep recursion", "local function f(n)\n  return 1 + f(n + 1)\nend\nf(1)", "E-DEPTH", 2, 0,
     "too deeply"},
    {"deep recursion in pcall", "local function f() return pcall(f) end\nf()\nreturn 1", "E-SPEC",
     0, 0, "no spec"},
    {"deep recursion in tostring",
     "local t = setmetatable({}, { __tostring = function(t) return tostring(t) end })\ntostring(t)",
     "E-DEPTH", 1, 0, ""},
    {"deep index",
     "local t = {}\nfor k = 1, 3000 do t = setmetatable({}, { __index = t }) end\nreturn t.x",
     "E-LUA", 3, 0, "too long"},
    {"deep value",
     QN "local t = {}\nfor k = 1, 5000 do t = { t } end\n"
        "return qn.attention { mask = function(b, h, i, j) return t ~= nil end }",
     "E-DEPTH", 0, 0, "nested more than"},
    {"many values",
     QN "local t = {}\nfor k = 1, 600000 do t[k] = 0 end\n"
        "return qn.attention { mask = function(b, h, i, j) return t[1] > 0 end }",
     "E-LIMIT", 0, 0, "values"},

    /* ways out */
    {"os", "os.execute('true')", "E-LUA", 1, 1, "'os'"},
    {"io", "\n  io.open('/etc/passwd')", "E-LUA", 2, 3, "'io'"},
    {"debug", "debug.getregistry()", "E-LUA", 1, 1, "'debug'"},
    {"package", "package.loadlib('x', 'y')", "E-LUA", 1, 1, "'package'"},
    {"load", "local x = load('return 1')()", "E-LUA", 1, 11, "'load'"},
    {"dofile", "dofile('/etc/passwd')", "E-LUA", 1, 1, "'dofile'"},
    {"loadstring", "loadstring('x')", "E-LUA", 1, 1, "'loadstring'"},
    {"coroutine", "coroutine.wrap(function() end)", "E-LUA", 1, 0, "'coroutine'"},
    {"collectgarbage", "collectgarbage('stop')", "E-LUA", 1, 0, "'collectgarbage'"},
    {"print", "print(1)", "E-LUA", 1, 1, "'print'"},
    {"next", "next({})", "E-LUA", 1, 1, "'next'"},
    {"dump", "string.dump(function() end)", "E-LUA", 1, 0, "'dump'"},
    {"random", "math.random()", "E-LUA", 1, 0, "'random'"},
    {"address", "return ('%p'):format({})", "E-LUA", 1, 0, "%p"},
    {"address after percent", "return ('%%%5p'):format({})", "E-LUA", 1, 0, "%p"},
    {"finaliser", "setmetatable({}, { __gc = function() while true do end end })", "E-LUA", 1, 0,
     "__gc"},
    {"closer", "local x <close> = setmetatable({}, { __close = function() end })", "E-LUA", 1, 0,
     "__close"},
    {"weak", "setmetatable({}, { __mode = 'k' })", "E-LUA", 1, 0, "__mode"},
    {"metatable of strings", "getmetatable('').__index.x = 1", "E-LUA", 1, 0, "boolean"},
    {"metatable of functions", "getmetatable(error).__band = nil", "E-LUA", 1, 0, "boolean"},
    {"metatable of a tensor", QN "local t = qn.tensor('t', 'f32', { 'Hq' })\nsetmetatable(t, nil)",
     "E-LUA", 3, 0, "protected"},
    {"forged keys",
     QN "local t = qn.tensor('t', 'f32', { 'Hq' })\nt['\\1chunk'] = 99999\nt['\\1line'] = -1\n"
        "for k in pairs(t) do assert(type(k) == 'string') end\n"
        "error('reached')",
     "E-LUA", 6, 0, "reached"},
    {"parts of the library",
     QN
     "for name, f in pairs(qn) do\n  if type(f) == 'function' then pcall(f) pcall(f, {}, {}, {}) "
     "pcall(f, f, f, f) pcall(f, '', '', '') end\nend\nerror('reached')",
     "E-LUA", 5, 1, "reached"},
    {"broken globals",
     QN "pairs, type, tostring, error, setmetatable, ipairs = nil\nstring.byte, math.min = nil\n"
        "return qn.attention { maks = 1 }",
     NULL, 0, 0, ""},

    /* require */
    {"require a path", "require '../secret'", "E-REQUIRE", 1, 0, "no module"},
    {"require an absolute path", "require '/etc/passwd'", "E-REQUIRE", 1, 0, "no module"},
    {"require nothing", "require ''", "E-REQUIRE", 1, 0, "no module"},
    {"require with a NUL", "require 'parts\\0x'", "E-REQUIRE", 1, 0, "no module"},
    {"require what is not there", "\nlocal x = require 'absent'", "E-REQUIRE", 2, 0, "absent"},
    {"require in a circle", "require 'ping'", "E-REQUIRE", 1, 0, "requires itself"},
    {"require of itself", "require 'self'", "E-REQUIRE", 1, 0, "requires itself"},
    {"require an empty module", "\n\nrequire 'nothing'", "E-REQUIRE", 3, 0, "returns nothing"},
    {"require a wrong module", "require 'broken'", "E-SYNTAX", 2, 1, "near 'return'"},
    {"require a module that raises", "require 'raises'", "E-LUA", 3, 0, "local 't'"},
    {"require a number", "require(12)", "E-REQUIRE", 1, 0, "12"},
    {"require a table", "require {}", "E-LUA", 1, 0, "string expected"},

    /* texts */
    {"empty", "", "E-SPEC", 0, 0, "no spec"},
    {"syntax", "local x = = 1", "E-SYNTAX", 1, 9, "near '='"},
    {"syntax after functions",
     "local f = function() return function() end end\nlocal g = function(x) return x + end",
     "E-SYNTAX", 2, 34, "near 'end'"},
    {"unfinished function", "\nlocal f = function(x)\n  return x\n", "E-SYNTAX", 4, 0, "at line 2"},
    {"unfinished string", "local x = 'abc\n", "E-SYNTAX", 1, 0, "unfinished string"},
    {"unfinished long string", "local x = [==[ abc ]]\n", "E-SYNTAX", 0, 0, "unfinished"},
    {"UTF-8 mess", "\xff\xfe\xc3\x28 = \xf0\x9f", "E-SYNTAX", 1, 0, "unexpected symbol"},
    {"UTF-8 mess in a name", "local caf\xc3\xa9 = 1", "E-SYNTAX", 1, 0, ""},
    {"UTF-8 mess in a string", "error('\xff\xfe\xc3\x28')", "E-LUA", 1, 0, "...("},
    {"an end too many", "local x = 1 end", "E-SYNTAX", 1, 13, "'end'"},
    {"long error", "error(('x'):rep(100000))", "E-LUA", 1, 0, "xxx"},
    {"error that is a table", "error({})", "E-LUA", 0, 0, "no text"},
    {"error that is nil", "error()", "E-LUA", 0, 0, "no text"},
    {"error without a place", "error('abc', 0)", "E-LUA", 0, 0, "abc"},
    {"forged place", "error('[q0]:999999999: x', 0)", "E-LUA", 0, 0, "x"},
    {"forged chunk", "error('[q63]:1: x', 0)", "E-LUA", 0, 0, "x"},
    {"forged code", "error('E-LIMIT\\1a\\27[31m\\1b\\27[31m', 0)", "E-LIMIT", 0, 0, "a.[31m"},
    {"no code", "error('E-\\27[31m\\1', 0)", "E-LUA", 0, 0, "E-.[31m."},
    {"UTF-8 in a message", "error('caf\xc3\xa9 \xe2\x82\xac \xc2\x9b')", "E-LUA", 1, 0,
     "caf\xc3\xa9 \xe2\x82\xac .."},
    {"words in the message", "local t = {}\nlocal u = t.alpha.beta", "E-LUA", 2, 13, "'alpha'"},
    {"arithmetic on a knob", QN "local s = 1 + qn.causal", "E-LUA", 2, 0, "arithmetic"},

    /* the library */
    {"knob", QN "return qn.attention {\n  mask = qn.causal, scor = 1 }", "E-KNOB", 3, 21, "scor"},
    {"knob of a group", QN "return qn.attention { heads = { { wen = 1 } } }", "E-KNOB", 2, 0,
     "wen"},
    {"list of knobs", QN "return qn.attention { qn.causal }", "E-KNOB", 2, 0, "not a list"},
    {"attention of nothing", QN "\nreturn qn.attention()", "E-SPEC", 3, 1, "table of knobs"},
    {"tensor without a name", QN "local t = qn.tensor(1, 'f32', {})", "E-NAME", 2, 0, "name"},
    {"tensor of a strange type", QN "local t = qn.tensor('t', 'f99', {})", "E-DTYPE", 2, 0, "f99"},
    {"tensor without dims", QN "local t = qn.tensor('t', 'f32')", "E-DIM", 2, 0, "dimensions"},
    {"param default", QN "local p = qn.param('p', 'i32', 'x')", "E-SPEC", 2, 0, "default"},
    {"mask of a number", QN "local m = qn.causal & 3", "E-SPEC", 2, 0, "a mask is"},
    {"mask of a table", QN "local m = {} | qn.causal", "E-SPEC", 2, 0, "a mask is"},
    {"window of nothing", QN "return qn.attention { mask = qn.window() }", "E-SPEC", 2, 0,
     "qn.window takes"},
    {"bias of a number", QN "return qn.attention { score = qn.bias(3) }", "E-SPEC", 2, 0,
     "qn.bias"},
    {"document of a list", QN "local m = qn.document { 0, 1 }", "E-SPEC", 2, 0, "offsets"},
    {"norm of nothing", QN "return qn.attention { norm = qn.norm {} }", "E-SPEC", 2, 0, "weight"},
    {"norm part", QN "local n = qn.norm { weight = qn.causal, finsh = 1 }", "E-SPEC", 2, 0,
     "finsh"},
    {"sink of relu", QN "local n = qn.norm.relu { sink = 1 }", "E-SPEC", 2, 0, "no options"},
    {"norm that is not there", QN "local n = qn.norm.softmx", "E-SPEC", 2, 19, "softmx"},
    {"name that is not there", QN "local n = qn.windw(3)", "E-NAME", 2, 14, "windw"},
    {"several specs", QN "return { a = qn.attention {}, b = qn.attention {} }", "E-PICK", 0, 0,
     "several"},
    {"no spec in a table", "return { 1, 2, x = {} }", "E-SPEC", 0, 0, "no spec"},
};

static void explain(qn_lab *lab, const wrong *w, const char *why)
{
    cr_expect(false, "%s: %s\n%s", w->name, why, qn_lab_errors(lab));
}

static void check_with(const wrong *w, const char *text, size_t length, const char *pick,
                       int64_t fuel)
{
    qn_lab lab;
    qn_lab_open(&lab);
    double start = seconds();
    const qn_host_value *v = load_with(&lab, text, length, pick, fuel);
    double took = seconds() - start;
    if (v) {
        cr_assert_null(w->code, "%s: accepted", w->name);
        qn_lab_close(&lab);
        return;
    }
    if (lab.diags.errors != 1) {
        explain(&lab, w, "not one error");
    }
    const qn_diag *x = &lab.diags.at[0];
    if (w->code && strcmp(x->code, w->code) != 0 && w->said) {
        explain(&lab, w, x->code);
    }
    if ((w->line && x->place.line != w->line) || (w->col && x->place.col != w->col)) {
        explain(&lab, w, "another place");
    }
    if (w->said && !strstr(x->text, w->said)) {
        explain(&lab, w, "other words");
    }
    bool listed = false;
#define X(code_, text_, example_) listed |= strcmp(code_, x->code) == 0;
#include "dsl/errors.def"
#undef X
    if (!listed) {
        explain(&lab, w, "a code that errors.def does not know");
    }
    for (const char *p = qn_diag_text(&lab.diags, "%s%s", x->text, x->help ? x->help : ""); *p;
         p++) {
        if ((unsigned char)*p < 32) {
            explain(&lab, w, "a control character in the message");
        }
    }
    if (took > 1) {
        explain(&lab, w, "too slow");
    }
    qn_lab_close(&lab);
}

static void check_wrong(const wrong *w, const char *text, size_t length, const char *pick)
{
    check_with(w, text, length, pick, 0);
}

/* Some with the budget that everybody has, the others with a tenth of it. */
Test(dsl, wrong, .timeout = 300)
{
    for (size_t k = 0; k < sizeof wrongs / sizeof *wrongs; k++) {
        const wrong *w = &wrongs[k];
        bool large = strcmp(w->code ? w->code : "", "E-FUEL") != 0 || k % 8 == 0;
        check_with(w, w->text, strlen(w->text), NULL, large ? 0 : 5000000);
    }
}

/* ---------------------------------------------------------------- texts made by the test */

static char *repeated(const char *head, const char *part, int times, const char *tail)
{
    size_t n = strlen(part);
    char *t = malloc(strlen(head) + n * (size_t)times + strlen(tail) + 1);
    strcpy(t, head);
    char *p = t + strlen(head);
    for (int k = 0; k < times; k++, p += n) {
        memcpy(p, part, n);
    }
    strcpy(p, tail);
    return t;
}

Test(dsl, nested, .timeout = 60)
{
    static const struct {
        const char *head, *part, *tail;
    } texts[] = {
        {"return ", "(", "1"},
        {"return ", "{", ""},
        {"return ", "- ", "1"},
        {"return ", "not ", "1"},
        {"", "do ", ""},
        {"", "if true then ", ""},
        {"", "local function f() ", ""},
        {"local x = ", "function() return ", "1"},
        {"return 1", " .. 1", ""},
        {"return 1", " ^ 1", ""},
        {"return f", "(f", ""},
        {"return a", "[a", ""},
    };
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        char *t = repeated(texts[k].head, texts[k].part, 10000, texts[k].tail);
        wrong w = {texts[k].part, NULL, "E-DEPTH", 0, 0, "nested too deeply"};
        w.line = strpbrk(w.name, "({[") || strstr(w.name, "function") ? 1 : 0;
        check_wrong(&w, t, strlen(t), NULL);
        free(t);
    }
    char *t = repeated("local x = ", "a.", 100000, "a");
    wrong w = {"chain", NULL, "E-LUA", 1, 0, "'a'"};
    check_wrong(&w, t, strlen(t), NULL);
    free(t);
    t = repeated("", "local x = 1 ", 300, "");
    w = (wrong){"locals", NULL, "E-SYNTAX", 1, 0, "too many local variables"};
    check_wrong(&w, t, strlen(t), NULL);
    free(t);
    t = repeated("--", "x", 5 << 20, "");
    w = (wrong){"length", NULL, "E-SIZE", 1, 0, "4 MiB"};
    check_wrong(&w, t, strlen(t), NULL);
    free(t);
}

Test(dsl, bytes)
{
    static const char binary[] = "\x1bLua\x54\x00\x19\x93\r\n\x1a\n";
    wrong w = {"binary", NULL, "E-BINARY", 1, 1, "binary"};
    check_wrong(&w, binary, sizeof binary - 1, NULL);
    check_wrong(&w, "\x1bzzz", 4, NULL);
    static const char nul[] = "local x = 1\nlocal\0 y = 2\n";
    w = (wrong){"NUL", NULL, "E-LEX", 2, 0, "NUL"};
    check_wrong(&w, nul, sizeof nul - 1, NULL);
    static const char inside[] = "error('a\0b' .. 'c')";
    w = (wrong){"NUL in a string", NULL, "E-LUA", 1, 0, "a"};
    check_wrong(&w, inside, sizeof inside - 1, NULL);
}

/* Every beginning of a good spec, and the spec with any byte changed, is a spec or one error. */
Test(dsl, cut, .timeout = 120)
{
    static const char text[] =
        QN "local slope <const> = qn.tensor('slope', 'f32', { 'Hq' }) -- a comment\n"
           "local long = [==[ function ]==]\n"
           "local function add(a, b) return a + b end\n"
           "return qn.attention {\n  mask = qn.causal & function(b, h, i, j) return i ~= 3 end,\n"
           "  score = function(s, b, h, i, j) return add(s, slope[h]) end }\n";
    char copy[sizeof text];
    for (size_t n = 0; n < sizeof text; n++) {
        qn_lab lab;
        qn_lab_open(&lab);
        const qn_host_value *v = load(&lab, text, n, NULL);
        cr_assert_eq(v == NULL, lab.diags.errors == 1, "cut at %zu: %s", n, qn_lab_errors(&lab));
        memcpy(copy, text, sizeof text);
        copy[n % (sizeof text - 1)] = "(')]\n\"\\[function"[n % 14];
        qn_lab_forget(&lab);
        v = load(&lab, copy, sizeof text - 1, NULL);
        cr_assert_eq(v == NULL, lab.diags.errors == 1, "changed at %zu: %s", n,
                     qn_lab_errors(&lab));
        qn_lab_close(&lab);
    }
}

/* ---------------------------------------------------------------- good specs */

static const qn_host_value *good(qn_lab *lab, const char *text, const char *pick)
{
    const qn_host_value *v = load(lab, text, strlen(text), pick);
    cr_assert(v, "%s", qn_lab_errors(lab));
    cr_assert_eq(v->kind, QN_HOST_TABLE);
    cr_assert_str_eq(v->u.table.tag, "attention");
    return v;
}

static const qn_host_value *captured(const qn_host_value *f, const char *name)
{
    cr_assert_eq(f->kind, QN_HOST_FUNCTION);
    for (int k = 0; k < f->u.function.ncaptures; k++) {
        if (strcmp(f->u.function.captures[k].name, name) == 0) {
            return f->u.function.captures[k].value;
        }
    }
    cr_assert_fail("no capture %s", name);
    return NULL;
}

static void check_text(const qn_host_value *f, const char *text)
{
    cr_assert_eq(f->kind, QN_HOST_FUNCTION);
    size_t n = f->u.function.end - f->u.function.begin;
    cr_assert_eq(n, strlen(text), "%.*s", (int)n, f->chunk->text + f->u.function.begin);
    cr_assert_arr_eq(f->chunk->text + f->u.function.begin, text, n);
}

Test(dsl, captures)
{
    qn_lab lab;
    qn_lab_open(&lab);
    const qn_host_value *v = good(
        &lab,
        QN "local n <const>, x<const> = 3, 0.5\n"
           "local slope = qn.tensor('slope', 'f32', { 'Hq', 4 }, { sample = 'x' })\n"
           "local W = qn.param('W', 'i32', 256)\n"
           "local t = { 1, 2.5, true, name = 'a\\0b', [0] = 9, [3.5] = 1 }\n"
           "local exp, select_ = math.exp, qn.select\n"
           "local function fact(k) if k <= 1 then return 1 end return k * fact(k - 1) end\n"
           "function help(k) return fact(k) end\n"
           "return qn.attention {\n"
           "  score = function(s, b, h, i, j) return exp(s) + slope[h][0] + n + x + W + t[1] +\n"
           "    help(3) + fact(2) + select_(true, 1, 2) end,\n"
           "  scale = function(b, h) return slope[h][1] end,\n"
           "}\n",
        NULL);
    const qn_host_value *score = qn_host_field_of(v, "score"),
                        *scale = qn_host_field_of(v, "scale");
    cr_assert_eq(score->place.line, 10);
    cr_assert_eq(score->place.col, 11);
    cr_assert_eq(scale->place.line, 12);
    check_text(scale, "function(b, h) return slope[h][1] end");
    cr_assert_eq(captured(score, "n")->u.i, 3);
    cr_assert_eq(captured(score, "x")->u.f, 0.5);
    cr_assert_str_eq(captured(score, "exp")->u.builtin, "math.exp");
    cr_assert_str_eq(captured(score, "select_")->u.builtin, "qn.select");
    const qn_host_value *slope = captured(score, "slope");
    cr_assert_eq(slope, captured(scale, "slope"), "one object, one value");
    cr_assert_str_eq(slope->u.table.tag, "tensor");
    cr_assert_eq(slope->place.line, 3);
    cr_assert_eq(slope->place.col, 18);
    cr_assert_eq(qn_host_field_of(slope, "dims")->u.table.nitems, 2);
    cr_assert_str_eq(qn_host_field_of(slope, "sample")->u.string.text, "x");
    const qn_host_value *W = captured(score, "W");
    cr_assert_eq(qn_host_field_of(W, "default")->u.i, 256);
    cr_assert_gt(qn_host_field_of(W, "order")->u.i, qn_host_field_of(slope, "order")->u.i);
    const qn_host_value *t = captured(score, "t");
    cr_assert_null(t->u.table.tag);
    cr_assert_eq(t->u.table.nitems, 3);
    cr_assert_eq(t->u.table.nfields, 1);
    cr_assert_eq(t->u.table.fields[0].value->u.string.length, 3);
    const qn_host_value *fact = captured(score, "fact");
    cr_assert_eq(captured(fact, "fact"), fact, "a cycle");
    const qn_host_value *env = captured(score, "_ENV"), *help = qn_host_field_of(env, "help");
    cr_assert_eq(captured(help, "fact"), fact);
    check_text(help, "function help(k) return fact(k) end");
    const qn_host_value *math = qn_host_field_of(env, "math");
    cr_assert_eq(qn_host_field_of(math, "pi")->kind, QN_HOST_FLOAT);
    cr_assert_str_eq(qn_host_field_of(math, "floor")->u.builtin, "math.floor");
    qn_lab_close(&lab);
}

/* However a text is laid out, functions are found and lines are the user's. */
Test(dsl, layout)
{
    qn_lab lab;
    qn_lab_open(&lab);
    const qn_host_value *v = good(
        &lab,
        "\xef\xbb\xbflocal qn = require 'quern'\r\nlocal s = [[\r\nfunction end ]] -- function\r\n"
        "--[==[ function\r\n ]] end ]==] local a, b = function() return 1 end, function() return 2 "
        "end\r\nlocal c =\r\n\r\nfunction -- a comment\r\n  (x)\r\n  return '\\'end' end\r\n"
        "local d = function() if s then for k = 1, 2 do while true do break end end end repeat "
        "local z = function() end until true return 0x1p4 end\r\n"
        "return qn.attention { mask = function(x)\r\n  return a, b, c, d end }",
        NULL);
    const qn_host_value *mask = qn_host_field_of(v, "mask");
    check_text(captured(mask, "a"), "function() return 1 end");
    check_text(captured(mask, "b"), "function() return 2 end");
    check_text(captured(mask, "c"), "function -- a comment\r\n  (x)\r\n  return '\\'end' end");
    cr_assert_eq(captured(mask, "c")->place.line, 8);
    cr_assert_eq(captured(mask, "c")->place.col, 1);
    cr_assert_eq(captured(mask, "a")->place.line, 5);
    cr_assert_eq(captured(mask, "a")->place.col, 27);
    check_text(
        captured(mask, "d"),
        "function() if s then for k = 1, 2 do while true do break end end end repeat local z "
        "= function() end until true return 0x1p4 end");
    check_text(mask, "function(x)\r\n  return a, b, c, d end");
    v = good(&lab,
             "local qn = require 'quern' local f = function() return 1 end return\r"
             "qn.attention { mask = f }",
             NULL);
    check_text(qn_host_field_of(v, "mask"), "function() return 1 end");
    qn_lab_close(&lab);
}

Test(dsl, masks)
{
    qn_lab lab;
    qn_lab_open(&lab);
    const qn_host_value *v =
        good(&lab,
             QN "local cu = qn.tensor('cu', 'i32', { 'Ndoc+1' })\n"
                "return qn.attention { mask = qn.causal & qn.window(4) | ~qn.document(cu) & true }",
             NULL);
    const qn_host_value *m = qn_host_field_of(v, "mask");
    cr_assert_str_eq(m->u.table.tag, "or");
    cr_assert_str_eq(m->u.table.items[0]->u.table.tag, "and");
    cr_assert_eq(m->u.table.items[0]->u.table.items[0]->kind, QN_HOST_FUNCTION);
    const qn_host_value *right = m->u.table.items[1];
    cr_assert_str_eq(right->u.table.tag, "and");
    cr_assert_str_eq(right->u.table.items[0]->u.table.tag, "not");
    cr_assert_str_eq(right->u.table.items[0]->u.table.items[0]->u.table.tag, "document");
    cr_assert(right->u.table.items[1]->u.b);
    qn_lab_close(&lab);
}

Test(dsl, names)
{
    static const char several[] =
        QN "return { one = qn.attention {}, two = qn.attention { name = 'second' }, three = 3 }";
    qn_lab lab;
    qn_lab_open(&lab);
    const qn_host_value *v = good(&lab, several, "one");
    cr_assert_str_eq(qn_host_field_of(v, "name")->u.string.text, "one");
    v = good(&lab, several, "two");
    cr_assert_str_eq(qn_host_field_of(v, "name")->u.string.text, "second");
    v = good(&lab, QN "return { only = qn.attention {} }", NULL);
    cr_assert_str_eq(qn_host_field_of(v, "name")->u.string.text, "only");
    v = good(&lab, QN "return qn.attention {}", NULL);
    cr_assert_str_eq(qn_host_field_of(v, "name")->u.string.text, "attention");
    qn_lab_close(&lab);
    wrong w = {"pick", NULL, "E-PICK", 0, 0, "no spec three"};
    check_wrong(&w, several, strlen(several), "three");
    w.said = "no spec .[";
    check_wrong(&w, several, strlen(several), "\x1b[");
    w.said = "returns one spec";
    check_wrong(&w, QN "return qn.attention {}", strlen(QN "return qn.attention {}"), "x");
}

Test(dsl, siblings)
{
    qn_lab lab;
    qn_lab_open(&lab);
    const qn_host_value *v =
        good(&lab,
             QN "local p, q = require 'parts', require 'parts'\nassert(p == q)\n"
                "require 'counted' assert(require 'counted'.n == 1)\n"
                "assert(not pcall(require, 'absent'))\n"
                "local twice = p.twice\n"
                "return qn.attention { score = function(s) return twice(s) end }",
             NULL);
    const qn_host_value *twice = captured(qn_host_field_of(v, "score"), "twice");
    check_text(twice, "function(x) return x + x end");
    cr_assert_str_eq(twice->chunk->path, "parts.lua");
    cr_assert_eq(twice->place.line, 1);
    qn_lab_close(&lab);
}

/* A refused allocation that a collection makes good is no failure; what pcall may catch it may. */
Test(dsl, forgiven)
{
    qn_lab lab;
    qn_lab_open(&lab);
    good(&lab,
         QN "local s = ('x'):rep(1000)\n"
            "for k = 1, 20000 do local t = s .. k end\n"
            "assert(not pcall(error, 'x'))\n"
            "assert(not pcall(string.rep, 'x', 1e10))\n"
            "assert(not pcall(qn.tensor, 1))\n"
            "local ok, what = xpcall(error, function(m) return m .. '!' end, 'x', 0)\n"
            "assert(what == 'x!')\n"
            "assert(tostring({}) == 'table' and ('%s %s'):format(error, 1) == 'function 1')\n"
            "assert(tostring(setmetatable({}, { __tostring = function() return 'me' end })) == "
            "'me')\n"
            "assert(('a=1, b=22'):gsub('(%w+)=(%w+)', '%2=%1') == '1=a, 22=b')\n"
            "assert(('  trim  '):match('^%s*(.-)%s*$') == 'trim')\n"
            "assert(('a.b.c'):find('.', 1, true) == 2 and ('%d'):format(3) == '3')\n"
            "assert(select('#', table.unpack({ 1, 2, 3 })) == 3 and table.concat({ 1, 2 }) == "
            "'12')\n"
            "assert(utf8.len('\xc3\xa9') == 1 and ('%5.1f%%'):format(2) == '  2.0%')\n"
            "return qn.attention {}",
         NULL);
    qn_lab_close(&lab);
}

Test(dsl, order_of_pairs)
{
    qn_lab lab;
    qn_lab_open(&lab);
    good(&lab,
         QN "local t, seen = { 10, 20, x = 1, a = 2, [2.5] = 3, m = 4, [-1] = 5 }, {}\n"
            "for k, v in pairs(t) do seen[#seen + 1] = tostring(k) t[k] = nil end\n"
            "assert(table.concat(seen, ' ') == '-1 1 2 2.5 a m x', table.concat(seen, ' '))\n"
            "local n = 0\n"
            "for k in pairs({ [true] = 1, [{}] = 2, [error] = 3, x = 4 }) do n = n + 1 end\n"
            "assert(n == 4)\n"
            "t = { a = 1, b = 2, c = 3 }\n"
            "for k in pairs(t) do t.b = nil n = n + 1 end\n"
            "assert(n == 6)\n"
            "return qn.attention {}",
         NULL);
    qn_lab_close(&lab);
}

/* ---------------------------------------------------------------- options and memory */

Test(dsl, budgets)
{
    qn_lab lab;
    qn_lab_open(&lab);
    static const char text[] = QN "for k = 1, 100000 do end return qn.attention {}";
    qn_dsl_options o = {.fuel = 300000};
    cr_assert(qn_dsl_load(&lab.ir, "a.lua", text, sizeof text - 1, NULL, &o, &lab.diags));
    o.fuel = 50000;
    cr_assert_null(qn_dsl_load(&lab.ir, "a.lua", text, sizeof text - 1, NULL, &o, &lab.diags));
    cr_assert_str_eq(qn_lab_rule(&lab, NULL), "E-FUEL");
    qn_lab_forget(&lab);
    for (int64_t bytes = 1; bytes < 300000; bytes += 997) { /* from no state to a whole load */
        o = (qn_dsl_options){.max_bytes = bytes};
        const qn_host_value *v =
            qn_dsl_load(&lab.ir, "a.lua", text, sizeof text - 1, NULL, &o, &lab.diags);
        if (!v) {
            cr_assert_str_eq(qn_lab_rule(&lab, NULL), "E-LIMIT");
        }
        cr_assert_eq(v == NULL, lab.diags.errors == 1);
        cr_assert(v || bytes < 290000);
        qn_lab_forget(&lab);
    }
    for (int64_t fuel = 1; fuel < 40000; fuel += 97) {
        o = (qn_dsl_options){.fuel = fuel};
        cr_assert_null(qn_dsl_load(&lab.ir, "a.lua", text, sizeof text - 1, NULL, &o, &lab.diags));
        cr_assert_str_eq(qn_lab_rule(&lab, NULL), "E-FUEL");
        qn_lab_forget(&lab);
    }
    qn_lab_close(&lab);
}

typedef struct ration {
    long left, live;
} ration;

static void *rationed(void *user, void *p, size_t old_size, size_t new_size)
{
    ration *r = user;
    (void)old_size;
    if (new_size == 0) {
        r->live -= p != NULL;
        free(p);
        return NULL;
    }
    if (r->left-- <= 0) {
        return NULL;
    }
    void *q = realloc(p, new_size);
    r->live += q && !p;
    return q;
}

/* Every allocation failing in turn, from there on: the arena's landing place is reached and nothing
 * is lost, also where the spec tries to catch it. */
Test(dsl, out_of_memory, .timeout = 120)
{
    static const char text[] =
        QN "local ok = pcall(function() local t = {} for k = 1, 300 do t[k] = { k } end end)\n"
           "local p = require 'parts'\n"
           "return qn.attention { mask = qn.causal & function(b, h, i, j) return p.twice(i) > j "
           "end }";
    volatile long n = 0;
    volatile bool done = false;
    for (; !done; n = n + 7) {
        ration r = {n, 0};
        qn_alloc alloc = {rationed, &r};
        jmp_buf oom;
        qn_arena arena;
        qn_arena_init(&arena, &alloc, &oom);
        if (setjmp(oom) == 0) {
            qn_ir ir;
            qn_diags d;
            qn_ir_init(&ir, &arena);
            qn_diags_init(&d, &arena, "a.lua", text);
            qn_dsl_options o = {.read = read_file};
            const qn_host_value *v = qn_dsl_load(&ir, "a.lua", text, sizeof text - 1, NULL, &o, &d);
            cr_assert(v, "allocation %ld: an error instead of a jump: %s", n,
                      d.count ? d.at[0].text : "");
            done = true;
        }
        cr_assert_eq(arena.oom, &oom, "the landing place is put back");
        qn_arena_fini(&arena);
        cr_assert_eq(r.live, 0, "allocation %ld failing loses %ld blocks", n, r.live);
        cr_assert_lt(n, 100000);
    }
}

/* ---------------------------------------------------------------- Lua as a witness */

static void check_call(const char *text, const char *find, const char *arguments, const char *want)
{
    qn_lab lab;
    qn_lab_open(&lab);
    char out[200];
    qn_dsl_call(&lab.arena, text, strlen(text), find, arguments, out, sizeof out);
    cr_assert(strncmp(out, want, strlen(want)) == 0, "%s(%s): %s", find, arguments, out);
    qn_lab_close(&lab);
}

Test(dsl, witness)
{
    static const char text[] =
        QN "return qn.attention { mask = qn.causal & qn.window(3) | qn.sinks(1),\n"
           "  score = function(s, b, h, i, j) return (i - j) // 3, (i - j) % 3, s / 2, 7 >> 1, "
           "s == j end,\n"
           "  scale = function(b, h) return qn.clamp(b, 2, 4) + qn.select(h > 1, 0.5, 2) end,\n"
           "  out = function(o) return qn.tanh(o), qn.rsqrt(4), qn.exp2(3), qn.log2(8), "
           "qn.pow(2, 5), qn.sigmoid(0), qn.erf(0), 1 // 0 end }";
    check_call(text, "spec.score", "2.5, 0, 0, 1, 5", "-2, 2, 1.25, 3, false");
    check_call(text, "spec.score", "5.0, 0, 0, 1, 5", "-2, 2, 2.5, 3, true");
    check_call(text, "spec.mask", "0, 0, 5, 3", "true");
    check_call(text, "spec.mask", "0, 0, 5, 2", "false");
    check_call(text, "spec.mask", "0, 0, 5, 0", "true");
    check_call(text, "spec.scale", "9, 2", "4.5");
    check_call(text, "spec.scale", "1, 1", "4");
    check_call(text, "spec.out", "0.0", "error: ");
    check_call(text, "spec.nothing", "", "error: ");
    check_call("while true do end", "spec.f", "", "error: ");
}

/* The named parts, called by Lua: each is the set or the number that its comment says. */
Test(dsl, parts)
{
    qn_lab lab;
    qn_lab_open(&lab);
    good(&lab,
         QN
         "local function same(name, f, g)\n"
         "  for b = 0, 1 do for h = 0, 3 do for i = -3, 12 do for j = 0, 12 do\n"
         "    assert(f(b, h, i, j) == g(b, h, i, j), name)\n"
         "  end end end end\nend\n"
         "local function per(b, h) return 2 + b + h end\n"
         "same('causal', qn.causal, function(b, h, i, j) return j <= i end)\n"
         "same('window', qn.window(4), function(b, h, i, j) return i - j < 4 end)\n"
         "same('window of a head', qn.window(per), function(b, h, i, j) return i - j < 2 + b + h "
         "end)\n"
         "same('band', qn.band(2, 1), function(b, h, i, j) return -2 <= j - i and j - i <= 1 "
         "end)\n"
         "same('dilated', qn.dilated(3), function(b, h, i, j) return (i - j) % 3 == 0 end)\n"
         "same('prefix', qn.prefix(5), function(b, h, i, j) return j < 5 end)\n"
         "same('sinks', qn.sinks(2), function(b, h, i, j) return j < 2 end)\n"
         "same('blocks', qn.blocks(4), function(b, h, i, j) return i // 4 == j // 4 end)\n"
         "same('both', qn.causal & qn.window(3) | qn.sinks(1) & ~qn.blocks(2) | false,\n"
         "  function(b, h, i, j) return j <= i and i - j < 3 or j < 1 and i // 2 ~= j // 2 end)\n"
         "assert(qn.alibi(0.5)(1.0, 0, 0, 7, 3) == -1.0)\n"
         "assert(qn.alibi(function(b, h) return h end)(1.0, 0, 2, 7, 3) == -7.0)\n"
         "assert(math.abs(qn.softcap(2)(1.0, 0, 0, 0, 0) - 2 * qn.tanh(0.5)) < 1e-15)\n"
         "return qn.attention { norm = qn.norm.softmax { sink = 1.0 }, position = qn.rows }",
         NULL);
    qn_lab_close(&lab);
}
