/* SPDX-License-Identifier: MIT
 * Random kernel functions; see random_fn.h. */
#include "tests/support/random_fn.h"

#include "ir/base/buf.h"
#include "tests/support/support.h"

#include <stdarg.h>

typedef struct gen {
    qn_random r;
    qn_buf out;
    int ints, floats; /* locals n1 .., x1 .. in sight */
    int depth;
} gen;

static bool chance(gen *g, int percent)
{
    return qn_random_below(&g->r, 100) < percent;
}

static void put(gen *g, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    qn_buf_vprintf(&g->out, format, args);
    va_end(args);
}

static const char *pick(gen *g, const char *const *from, int64_t n)
{
    return from[qn_random_below(&g->r, n)];
}

static void integer(gen *g, int depth);
static void floating(gen *g, int depth);

static void number(gen *g, int depth)
{
    if (chance(g, 50)) {
        integer(g, depth);
    } else {
        floating(g, depth);
    }
}

static void boolean(gen *g, int depth)
{
    static const char *const ops[] = {"<", "<=", ">", ">=", "==", "~="};
    int64_t k = qn_random_below(&g->r, depth > 0 ? 6 : 2);
    if (k == 2) {
        put(g, "not (");
        boolean(g, depth - 1);
        put(g, ")");
    } else if (k >= 3 && k <= 4) {
        put(g, "(");
        boolean(g, depth - 1);
        put(g, k == 3 ? " and " : " or ");
        boolean(g, depth - 1);
        put(g, ")");
    } else if (k == 5) {
        put(g, "(");
        boolean(g, depth - 1);
        put(g, chance(g, 50) ? ") == (" : ") ~= (");
        boolean(g, depth - 1);
        put(g, ")");
    } else {
        put(g, "(");
        number(g, depth - 1);
        put(g, ") %s (", pick(g, ops, 6));
        number(g, depth - 1);
        put(g, ")");
    }
}

static void integer(gen *g, int depth)
{
    static const char *const leaves[] = {"b", "h", "i",  "j", "7",    "-3",  "2",
                                         "0", "1", "64", "K", "T[2]", "0x10"};
    static const char *const ops[] = {"+", "-", "*", "//", "%", "&", "|", "~", "<<", ">>"};
    if (depth <= 0) {
        if (g->ints && chance(g, 30)) {
            put(g, "n%d", 1 + (int)qn_random_below(&g->r, g->ints));
        } else {
            put(g, "%s", pick(g, leaves, 13));
        }
        return;
    }
    switch ((int)qn_random_below(&g->r, 12)) {
    case 0:
        put(g, "math.floor((");
        floating(g, depth - 1);
        put(g, ") %% 37)");
        return;
    case 1:
        put(g, "math.ceil((");
        floating(g, depth - 1);
        put(g, ") %% 5.5)");
        return;
    case 2:
        put(g, "math.abs(");
        integer(g, depth - 1);
        put(g, ")");
        return;
    case 3:
        put(g, chance(g, 50) ? "math.min(" : "math.max(");
        integer(g, depth - 1);
        put(g, ", ");
        integer(g, depth - 1);
        put(g, ")");
        return;
    case 4:
        put(g, "(");
        boolean(g, depth - 1);
        put(g, " and ");
        integer(g, depth - 1);
        put(g, " or ");
        integer(g, depth - 1);
        put(g, ")");
        return;
    case 5:
        put(g, chance(g, 50) ? "~(" : "-(");
        integer(g, depth - 1);
        put(g, ")");
        return;
    case 6:
        put(g, "twice(");
        integer(g, depth - 1);
        put(g, ")");
        return;
    default:
        put(g, "(");
        integer(g, depth - 1);
        put(g, " %s ", pick(g, ops, 10));
        integer(g, depth - 1);
        put(g, ")");
    }
}

static void floating(gen *g, int depth)
{
    static const char *const leaves[] = {"s",    "s",    "0.5",     "-1.25", "2.0",
                                         "1e-3", "T[1]", "math.pi", "0x.8p1"};
    static const char *const ops[] = {"+", "-", "*", "/", "%", "//"};
    static const char *const functions[] = {"math.sin", "math.cos", "qn.tanh", "qn.sigmoid",
                                            "math.abs"};
    if (depth <= 0) {
        if (g->floats && chance(g, 30)) {
            put(g, "x%d", 1 + (int)qn_random_below(&g->r, g->floats));
        } else {
            put(g, "%s", pick(g, leaves, 9));
        }
        return;
    }
    switch ((int)qn_random_below(&g->r, 12)) {
    case 0:
        put(g, "%s(", pick(g, functions, 5));
        number(g, depth - 1);
        put(g, ")");
        return;
    case 1:
        put(g, chance(g, 50) ? "math.exp(-math.abs(" : "math.sqrt(math.abs(");
        number(g, depth - 1);
        put(g, "))");
        return;
    case 2:
        put(g, "math.log(1 + math.abs(");
        number(g, depth - 1);
        put(g, chance(g, 50) ? "))" : "), 2)");
        return;
    case 3:
        put(g, "(");
        boolean(g, depth - 1);
        put(g, " and ");
        floating(g, depth - 1);
        put(g, " or ");
        number(g, depth - 1);
        put(g, ")");
        return;
    case 4:
        put(g, "qn.clamp(");
        floating(g, depth - 1);
        put(g, ", -3, 4.5)");
        return;
    case 5:
        put(g, "math.fmod(");
        floating(g, depth - 1);
        put(g, ", 1.75)");
        return;
    case 6:
        put(g, "(");
        integer(g, depth - 1);
        put(g, " / 4)");
        return;
    case 7:
        put(g, "(");
        floating(g, depth - 1);
        put(g, ")^2");
        return;
    default:
        put(g, "(");
        floating(g, depth - 1);
        put(g, " %s ", pick(g, ops, 6));
        number(g, depth - 1);
        put(g, ")");
    }
}

static void block(gen *g, int depth);

static void statement(gen *g, int depth)
{
    int64_t k = qn_random_below(&g->r, 8);
    if (k < 2) {
        put(g, "local n%d = ", g->ints + 1);
        integer(g, depth);
        g->ints++;
    } else if (k < 4) {
        put(g, "local x%d = (", g->floats + 1);
        floating(g, depth);
        put(g, ") * 1.0");
        g->floats++;
    } else if (k == 4 && g->ints) {
        put(g, "n%d = ", 1 + (int)qn_random_below(&g->r, g->ints));
        integer(g, depth);
    } else if (k == 5 && g->floats) {
        put(g, "for k = 1, %d do x1 = x1 * 0.5 + k end", 1 + (int)qn_random_below(&g->r, 4));
    } else {
        int ints = g->ints, floats = g->floats;
        put(g, "if ");
        boolean(g, depth);
        put(g, " then\n");
        block(g, depth - 1);
        g->ints = ints, g->floats = floats;
        if (chance(g, 40)) {
            put(g, " elseif ");
            boolean(g, depth - 1);
            put(g, " then\n");
            block(g, depth - 1);
            g->ints = ints, g->floats = floats;
        }
        if (chance(g, 40)) {
            put(g, " else\n");
            block(g, depth - 1);
            g->ints = ints, g->floats = floats;
        }
        put(g, " end");
    }
    put(g, "\n");
}

static void block(gen *g, int depth)
{
    for (int64_t n = qn_random_below(&g->r, 3); depth > 0 && n > 0; n--) {
        statement(g, depth);
    }
    if (chance(g, 30)) {
        put(g, "return ");
        number(g, depth);
        put(g, "\n");
    }
}

const char *qn_random_function(qn_arena *a, uint64_t seed)
{
    gen g = {.r = {seed}, .out = qn_buf_of(a)};
    put(&g, "function(s, b, h, i, j)\n");
    for (int64_t n = qn_random_below(&g.r, 4); n > 0; n--) {
        statement(&g, 2);
    }
    put(&g, "return ");
    number(&g, 3);
    put(&g, "\nend");
    return g.out.text;
}
