/* From host trees to specs and naive IR: what is understood, and what is refused where. */
#include "frontend/frontend.h"
#include "ir/print.h"
#include "tests/support/host.h"
#include "tests/support/support.h"
#include <criterion/criterion.h>
#include <string.h>

static jmp_buf oom;
static qn_arena arena;
static qn_ir ir;
static qn_diags diags;
static host_world world;

static void setup(void)
{
    qn_arena_init(&arena, NULL, &oom);
    qn_ir_init(&ir, &arena);
    qn_diags_init(&diags, &arena, NULL, NULL);
    host_init(&world, &ir, "spec.lua");
}

static void teardown(void)
{
    qn_arena_fini(&arena);
}

TestSuite(frontend, .init = setup, .fini = teardown);

static const char *errors(void)
{
    qn_buf b = qn_buf_of(&arena);
    qn_buf_puts(&b, "");
    qn_diags_print(&diags, QN_ERROR, &b);
    return b.text;
}

static const qn_host_value *alibi(void)
{
    host_world *w = &world;
    const qn_host_value *slope = host_tensor(w, "slope", "f32", "Hq", NULL);
    return host_table(w, "attention", "name", host_string(w, "causal_alibi"), "score",
                      host_fn(w, "function(s, b, h, i, j) return s + slope[h] * (j - i) end",
                              "slope", slope, NULL),
                      "mask", host_fn(w, "function(b, h, i, j) return j <= i end", NULL), "outputs",
                      host_list(w, NULL, host_string(w, "o"), host_string(w, "lse"), NULL), NULL);
}

Test(frontend, causal_alibi_lowers_to_the_definition)
{
    const qn_spec *s = qn_spec_check(&ir, alibi(), NULL, &diags);
    cr_assert(s, "%s", errors());
    const qn_ir_file *f = qn_lower(&ir, s, &diags);
    cr_assert(f, "%s", errors());
    cr_expect_str_eq(
        qn_file_text(&arena, f),
        "norm @norm_all(s, v) -> (o, lse) {\n"
        "  stat m = max(s)\n"
        "  weight select(s == -inf, 0.0, exp(s - m))\n"
        "  rescale(m0, m1) select(m0 == -inf, 0.0, exp(m0 - m1))\n"
        "  sum l = 1.0\n"
        "  sum a = v\n"
        "  finish o = select(l > 0.0, a / l, 0.0), lse = select(l > 0.0, m + log(l), -inf)\n"
        "}\n"
        "\n"
        "kernel @causal_alibi !level(naive) {\n"
        "  dim B, Hq, Hk, Hv, Nq, Nk, D, Dv\n"
        "  in q: f32[b:B, h:Hq, i:Nq, d:D]\n"
        "  in k: f32[b:B, g:Hk, j:Nk, d:D]\n"
        "  in v: f32[b:B, g:Hv, j:Nk, e:Dv]\n"
        "  in slope: f32[x0:Hq]\n"
        "  out o: f32[b:B, h:Hq, i:Nq, e:Dv]\n"
        "  out lse: f32[b:B, h:Hq, i:Nq]\n"
        "  require Hk >= 1, \"there must be key heads\"\n"
        "  require Hq % Hk == 0, \"query heads must be a multiple of key heads\"\n"
        "  require Hv >= 1, \"there must be value heads\"\n"
        "  require Hq % Hv == 0, \"query heads must be a multiple of value heads\"\n"
        "  launch {\n"
        "    par for b in 0..B, h in 0..Hq {\n"
        "      %g = h * Hk // Hq\n"
        "      %gv = h * Hv // Hq\n"
        "      %p = i:Nq + (Nk - Nq)\n"
        "      %keep = j:Nk <= %p\n"
        "      %qk = dot(q[b, h, i:Nq, d:D], k[b, %g, j:Nk, d:D], over d) * rsqrt(f32(D))\n"
        "      %s = %qk + slope[h] * f32(j:Nk - %p)\n"
        "      %o, %lse = fold @norm_all(%s, v[b, %gv, j:Nk, e:Dv], over j, where %keep)\n"
        "      store o[b, h, i:Nq, e:Dv] = %o\n"
        "      store lse[b, h, i:Nq] = %lse\n"
        "    }\n"
        "  }\n"
        "}\n");
}

Test(frontend, the_text_of_a_spec_reads_back)
{
    const qn_spec *s =
        qn_spec_check(&ir, alibi(), &(qn_spec_options){"q=f16 slope=f64", "D=64"}, &diags);
    cr_assert(s, "%s", errors());
    qn_buf a = qn_buf_of(&arena), b = qn_buf_of(&arena);
    qn_spec_print(s, &a);
    const qn_spec *t = qn_spec_parse(&ir, a.text, a.length, &diags);
    cr_assert(t, "%s", errors());
    qn_spec_print(t, &b);
    cr_expect_str_eq(a.text, b.text);
    cr_expect(strstr(a.text, "  dim Dv = 64\n"));
    cr_expect(strstr(a.text, "  in q: f16[b:B, h:Hq, i:Nq, d:D]\n"));
}

/* ---------------------------------------------------------------- one score at a time */

static const qn_host_value *score_spec(const char *body)
{
    host_world *w = &world;
    qn_buf text = qn_buf_of(&arena);
    qn_buf_printf(&text, "function(s, b, h, i, j)\n%s\nend", body);
    const qn_host_value *t = host_list(w, NULL, host_float(w, 0.5), host_int(w, 7), NULL);
    const qn_host_value *f = host_fn(
        w, text.text, "slope", host_tensor(w, "slope", "f32", "Hq", NULL), "bias",
        host_tensor(w, "bias", "f32", "B", "Nq", "Nk", NULL), "live",
        host_tensor(w, "live", "i32", "B", "Nk", NULL), "W",
        host_param(w, "window", "i32", host_int(w, 256)), "T", t, "half",
        host_fn(w, "function(x, y) if y == nil then return x / 2 end return x / 2, y end", NULL),
        "Hk", host_table(w, "dim", "name", host_string(w, "Hk"), NULL), "flag", host_bool(w, true),
        NULL);
    return host_table(w, "attention", "score", f, NULL);
}

/* The score as the spec has it, lets before it, one a line. */
static const char *score_text(const char *body)
{
    const qn_spec *s = qn_spec_check(&ir, score_spec(body), NULL, &diags);
    cr_assert(s, "%s\n%s", body, errors());
    const qn_spec_fn *f = s->groups.at[0].score;
    qn_buf b = qn_buf_of(&arena);
    for (int k = 0; f && k < f->nlets; k++) {
        qn_buf_printf(&b, "%s = %s; ", f->lets[k].name, qn_expr_text(&arena, f->lets[k].x));
    }
    for (int k = 0; f && k < f->nflags; k++) {
        qn_buf_printf(&b, "flag %s; ", qn_expr_text(&arena, f->flags[k]));
    }
    qn_buf_puts(&b, f ? qn_expr_text(&arena, f->results[0]) : "s");
    return b.text;
}

Test(frontend, scores_become_typed_expressions)
{
    static const struct {
        const char *body, *text;
    } rows[] = {
        {"return s", "s"},
        {"return 2 * s", "2.0 * s"},
        {"return s + 7 // 2 - 7 % -3 + 2^3", "s + 3.0 - -2.0 + 8.0"},
        {"return s + (j - i)", "s + f32(j - i)"},
        {"return s + 0.5 * (j - i)", "s + 0.5 * f32(j - i)"},
        {"return s + i / 2", "s + f32(f64(i) / 2.0)"},
        {"return s + math.floor(s)",
         "%t1 = floor(s); s + f32(i64(select(abs(%t1) < 9e+18, %t1, 0.0)))"},
        {"return s + (i & 3 | j ~ 1)", "s + f32(bor(band(i, 3), bxor(j, 1)))"},
        {"return s + (i << 2) + (j >> 1)", "s + f32(shl(i, 2)) + f32(shr(j, 1))"},
        {"return s^2 + 2^s", "s * s + exp2(s)"},
        {"if j > i then return s end\nreturn -s", "select(j > i, s, -s)"},
        {"local x = 1\nif j > i then x = s elseif i == 3 then x = 2 end\nreturn x",
         "select(j > i, s, f32(select(i == 3, 2, 1)))"},
        {"return j > i and s or 0", "select(j > i, s, 0.0)"},
        {"local a = 0\nfor n = 1, 3 do a = a + n * s end\nreturn a",
         "0.0 + 1.0 * s + 2.0 * s + 3.0 * s"},
        {"for n = 3, 1, -1 do s = s + n end\nreturn s", "s + 3.0 + 2.0 + 1.0"},
        {"local x, y = half(s, j), half(s)\nreturn x + y", "%x = s / 2.0; %x + %x"},
        {"return s * T[1] + T[2]", "s * 0.5 + 7.0"},
        {"if T[3] == nil and flag then return s else return 1 end", "s"},
        {"return s + slope[h]", "s + slope[h]"},
        {"return s + bias[b][i][j]", "s + bias[b, r, j]"},
        {"return s + bias[b][qn.clamp(i + 1, qn.dim('Nk') - qn.dim('Nq'), qn.dim('Nk') - 1)][j]",
         "s + bias[b, clamp(i + 1, Nk - Nq, Nk - 1) + Nq - Nk, j]"},
        {"if j > 0 then return s + live[b][j - 1] end\nreturn s",
         "select(j > 0, s + f32(i64(tile live[b, j - 1])), s)"},
        {"return s + slope[h // (qn.dim('Hq') // Hk)]", "s + slope[h // (Hq // Hk)]"},
        {"return s + bias[b][i][live[b][j]]",
         "%t1 = i64(live[b, j]); flag %t1 < 0 or %t1 >= Nk; s + tile bias[b, r, %t1]"},
        {"return s + j // W", "%t1 = i64(window) == 0; flag %t1; s + f32(select(%t1, 0, j // "
                              "select(%t1, 1, i64(window))))"},
        {"return s == j and 1 or 0.5", "select(f64(s) == f64(j), 1.0, 0.5)"},
        {"return math.max(s, 0, i)", "max(max(s, 0.0), f32(i))"},
        {"return not (j <= i and i > 3) and s or -s", "select(not (j <= i and i > 3), s, -s)"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const char *have = score_text(rows[k].body);
        bool same = strcmp(have, rows[k].text) == 0;
        cr_expect(same, "%s\n  gives %s\n  not   %s", rows[k].body, have, rows[k].text);
    }
}

Test(frontend, what_is_wrong_is_said_where_it_is)
{
    static const struct {
        const char *body, *code;
        int line, col;
    } rows[] = {
        {"return 3x", "E-LEX", 2, 8},
        {"return 'a", "E-LEX", 2, 8},
        {"return s $ 1", "E-LEX", 2, 10},
        {"return s +", "E-SYNTAX", 3, 1},
        {"while true do end", "E-SYNTAX", 2, 1},
        {"repeat until s", "E-SYNTAX", 2, 1},
        {"goto x", "E-SYNTAX", 2, 1},
        {"return {}", "E-SYNTAX", 2, 8},
        {"return s .. 1", "E-SYNTAX", 2, 10},
        {"return #T", "E-SYNTAX", 2, 8},
        {"math.exp(s)\nreturn s", "E-SYNTAX", 2, 1},
        {"return s:exp()", "E-SYNTAX", 2, 9},
        {"local f = function() end return s", "E-SYNTAX", 2, 11},
        {"for k in pairs(T) do end", "E-SYNTAX", 2, 1},
        {"return qq + 1", "E-NAME", 2, 8},
        {"return s + true", "E-TYPE", 2, 8},
        {"return s & 1", "E-TYPE", 2, 8},
        {"return T + 1", "E-TYPE", 2, 8},
        {"return slope + 1", "E-TYPE", 2, 8},
        {"return T[9] + 1", "E-TYPE", 2, 8},
        {"return 1 // 0", "E-TYPE", 2, 8},
        {"if i - j then return s end return 0", "E-COND", 2, 4},
        {"return live[b][j] and s or 0", "E-COND", 2, 8},
        {"if j > i then return s end", "E-RETURN", 2, 1},
        {"return", "E-RETURN", 1, 1},
        {"return s, s", "E-RETURN", 1, 1},
        {"return j > i", "E-RETURN", 1, 1},
        {"if j > i then return s end return true", "E-RETURN", 2, 1},
        {"slope = 1 return s", "E-ASSIGN", 2, 1},
        {"zz = 1 return s", "E-ASSIGN", 2, 1},
        {"T[1] = 2 return s", "E-ASSIGN", 2, 1},
        {"return math.random()", "E-CALL", 2, 8},
        {"return math.exp(s, s)", "E-CALL", 2, 8},
        {"return T(1)", "E-CALL", 2, 8},
        {"local a = 0 for n = 1, i do a = a + n end return a", "E-CONST", 2, 24},
        {"return T[i]", "E-CONST", 2, 8},
        {"local a = 0 for n = 1, 1e9 do a = a + s end return a", "E-SIZE", 1, 1},
        {"return live[b][j + 1]", "E-BOUND", 2, 8},
        {"return live[b][i]", "E-BOUND", 2, 8},
        {"return slope[h][0]", "E-RANK", 2, 8},
        {"return slope[0.5]", "E-TYPE", 2, 8},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        diags.count = diags.errors = 0;
        const qn_spec *s = qn_spec_check(&ir, score_spec(rows[k].body), NULL, &diags);
        cr_expect(!s && diags.count >= 1, "%s: accepted", rows[k].body);
        if (diags.count >= 1) {
            const qn_diag *d = &diags.at[0];
            bool right = strcmp(d->code, rows[k].code) == 0 && d->place.line == rows[k].line &&
                         d->place.col == rows[k].col;
            cr_expect(right, "%s: %s expected at %d:%d\n%s", rows[k].body, rows[k].code,
                      rows[k].line, rows[k].col, errors());
        }
    }
}

Test(frontend, depth_is_an_error_and_no_crash)
{
    static const char *const parts[][3] = {{"(", "s", ")"},    {"- ", "s", ""}, {"not ", "s", ""},
                                           {"s^", "s", ""},    {"s+", "s", ""}, {"T[", "1", "]"},
                                           {"half(", "s", ")"}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        qn_buf b = qn_buf_of(&arena);
        qn_buf_puts(&b, "return ");
        for (int n = 0; n < 10000; n++) {
            qn_buf_puts(&b, parts[k][0]);
        }
        qn_buf_puts(&b, parts[k][1]);
        for (int n = 0; n < 10000; n++) {
            qn_buf_puts(&b, parts[k][2]);
        }
        diags.count = diags.errors = 0;
        cr_expect(!qn_spec_check(&ir, score_spec(b.text), NULL, &diags));
        cr_expect(diags.count >= 1 && strcmp(diags.at[0].code, "E-DEPTH") == 0, "%s",
                  diags.count ? diags.at[0].code : "none");
    }
}

/* ---------------------------------------------------------------- whole specs */

static const qn_host_value *knob(const char *key, const qn_host_value *v)
{
    return host_table(&world, "attention", key, v, NULL);
}

static const qn_host_value *text(const char *s)
{
    return host_string(&world, s);
}

static const qn_host_value *with_tensor(const char *name, const char *dtype, const char *dim)
{
    host_world *w = &world;
    return knob("score", host_fn(w, "function(s, b, h, i, j) return s + t[0] end", "t",
                                 host_tensor(w, name, dtype, dim, NULL), NULL));
}

static const qn_host_value *wrong_spec(int k)
{
    host_world *w = &world;
    const qn_host_value *one = host_int(w, 1), *f = host_fn(w, "function(s) return s end", NULL);
    const qn_host_value *t = host_tensor(w, "t", "f32", "Hq", NULL);
    switch (k) {
    case 0:
        return one;
    case 1:
        return knob("maks", f);
    case 2:
        return knob("mask", one);
    case 3:
        return knob("mask", f);
    case 4:
        return knob("score", t);
    case 5:
        return knob("norm", one);
    case 6:
        return knob("norm", host_norm(w, "softmin"));
    case 7:
        return knob("norm", host_table(w, "norm", "weight", one, NULL));
    case 8:
        return host_table(w, "attention", "norm", host_norm(w, "sigmoid"), "outputs",
                          host_list(w, NULL, text("lse"), NULL), NULL);
    case 9:
        return knob("outputs", host_list(w, NULL, text("ls"), NULL));
    case 10:
        return knob("heads", host_list(w, NULL, NULL));
    case 11:
        return knob("heads", host_list(w, NULL, host_table(w, NULL, "mask", f, NULL),
                                       host_table(w, NULL, NULL), NULL));
    case 12:
        return knob("heads", host_list(w, NULL, host_table(w, NULL, "when", one, NULL), NULL));
    case 13:
        return knob("position", one);
    case 14:
        return knob("position", t);
    case 15:
        return with_tensor("t", "f31", "Hq");
    case 16:
        return with_tensor("t", "f32", "Hq*");
    case 17:
        return with_tensor("max", "f32", "Hq");
    case 18:
        return with_tensor("no name", "f32", "Hq");
    case 19:
        return with_tensor("t", "f32", NULL);
    case 20:
        return knob("scale", text("x"));
    case 21:
        return knob("out", one);
    case 22:
        return knob("mask", host_table(w, "document", "cu", one, NULL));
    case 23:
        return knob("score", host_list(w, NULL, f, one, NULL));
    case 24: { /* two declarations of one name */
        const qn_host_value *u = host_tensor(w, "t", "i32", "Nk", NULL);
        return knob("score", host_fn(w, "function(s, b, h, i, j) return s + t[h] + u[j] end", "t",
                                     t, "u", u, NULL));
    }
    default:
        return knob("norm", host_table(w, "norm", "stat", text("median"), "weight", f, NULL));
    }
}

Test(frontend, what_is_wrong_with_a_spec_has_its_code)
{
    static const char *const codes[] = {
        "E-SPEC", "E-SPEC",   "E-SPEC",   "E-RETURN", "E-SPEC",  "E-SPEC",   "E-SPEC",
        "E-SPEC", "E-OUTPUT", "E-OUTPUT", "E-HEADS",  "E-HEADS", "E-RETURN", "E-SPEC",
        "E-RANK", "E-DTYPE",  "E-DIM",    "E-NAME",   "E-NAME",  "E-RANK",   "E-RETURN",
        "E-SPEC", "E-SPEC",   "E-SPEC",   "E-NAME",   "E-SPEC"};
    for (int k = 0; k < (int)(sizeof codes / sizeof *codes); k++) {
        diags.count = diags.errors = 0;
        cr_expect(!qn_spec_check(&ir, wrong_spec(k), NULL, &diags), "%d is accepted", k);
        bool right = diags.count && strcmp(diags.at[0].code, codes[k]) == 0;
        cr_expect(right, "%d: %s expected\n%s", k, codes[k], errors());
    }
}

Test(frontend, options_that_name_nothing_are_errors)
{
    static const struct {
        const char *types, *dims, *code;
    } rows[] = {
        {"q=f31", NULL, "E-DTYPE"}, {"q=i32", NULL, "E-DTYPE"}, {"slop=f16", NULL, "E-OPTION"},
        {"q", NULL, "E-OPTION"},    {NULL, "D", "E-OPTION"},    {NULL, "D=", "E-OPTION"},
        {NULL, "D=-1", "E-OPTION"}, {NULL, "D=6x", "E-OPTION"}, {NULL, "D=99999999999", "E-OPTION"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        diags.count = diags.errors = 0;
        cr_expect(
            !qn_spec_check(&ir, alibi(), &(qn_spec_options){rows[k].types, rows[k].dims}, &diags),
            "%d", (int)k);
        bool right = diags.count && strcmp(diags.at[0].code, rows[k].code) == 0;
        cr_expect(right, "%d: %s expected\n%s", (int)k, rows[k].code, errors());
    }
}

/* errors.def is the list: every code that the sources use is in it. */
Test(frontend, every_code_is_in_the_list)
{
    static const char *const files[] = {"lex",    "parse", "eval",  "type",  "builtin",
                                        "tensor", "norm",  "check", "define"};
    qn_lab lab;
    qn_lab_open(&lab);
    const char *list = qn_lab_read(&lab, "frontend/errors.def");
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        qn_buf path = qn_buf_of(&arena);
        qn_buf_printf(&path, "frontend/%s.c", files[k]);
        for (const char *p = qn_lab_read(&lab, path.text); (p = strstr(p, "\"E-")) != NULL; p++) {
            qn_buf code = qn_buf_of(&arena);
            qn_buf_put(&code, p, strcspn(p + 1, "\"") + 2);
            cr_expect(strstr(list, code.text), "%s uses %s", files[k], code.text);
        }
    }
    qn_lab_close(&lab);
}

Test(frontend, dims_are_bound_by_shapes_alone)
{
    host_world *w = &world;
    const qn_host_value *cu = host_tensor(w, "cu", "i32", "Ndoc*2+1", NULL),
                        *u = host_tensor(w, "u", "f32", "Ndoc-3", NULL);
    const qn_host_value *n = host_table(w, "dim", "name", text("Ndoc"), NULL);
    const qn_host_value *h =
        knob("score", host_fn(w, "function(s, b, h, i, j) return s + cu[n] + u[0 * h] end", "cu",
                              cu, "u", u, "n", n, NULL));
    const qn_spec *s = qn_spec_check(&ir, h, NULL, &diags);
    cr_assert(!s && strcmp(diags.at[0].code, "E-BOUND") == 0, "%s", errors()); /* u may be empty */
    diags.count = diags.errors = 0;
    h = knob("score",
             host_fn(w, "function(s, b, h, i, j) return s + cu[n] + u[qn.clamp(0, 0, n - 4)] end",
                     "cu", cu, "u", u, "n", n, NULL));
    s = qn_spec_check(&ir, h, NULL, &diags);
    cr_assert(!s, "an empty table has no element 0");
    diags.count = diags.errors = 0;
    h = knob(
        "score",
        host_fn(w, "function(s, b, h, i, j) if n > 3 then return s + cu[n] + u[0] end return s end",
                "cu", cu, "u", u, "n", n, NULL));
    s = qn_spec_check(&ir, h, NULL, &diags);
    cr_assert(s, "%s", errors());
    qn_buf b = qn_buf_of(&arena);
    qn_spec_print(s, &b);
    cr_expect(
        strstr(b.text,
               "  dim Ndoc_x2_p1\n  dim Ndoc = (Ndoc_x2_p1 - 1) // 2\n  dim Ndoc_m3 = Ndoc - 3\n"),
        "%s", b.text);
}

static const qn_host_value *exponential(const char *rescale)
{
    host_world *w = &world;
    return knob("norm", host_table(w, "norm", "stat", text("max"), "weight",
                                   host_fn(w, "function(s, m) return math.exp(s - m) end", NULL),
                                   "rescale", host_fn(w, rescale, NULL), "finish",
                                   host_fn(w, "function(o, l) return o / l end", NULL), NULL));
}

Test(frontend, a_norm_whose_laws_fail_is_refused_with_the_numbers)
{
    cr_expect(
        qn_spec_check(&ir, exponential("function(a, b) return math.exp(a - b) end"), NULL, &diags),
        "%s", errors());
    static const char *const wrong[] = {"function(a, b) return math.exp(b - a) end",
                                        "function(a, b) return 1 end",
                                        "function(a, b) return math.exp(2 * (a - b)) end"};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        diags.count = diags.errors = 0;
        cr_expect(!qn_spec_check(&ir, exponential(wrong[k]), NULL, &diags), "%s", wrong[k]);
        bool right = diags.count && strcmp(diags.at[0].code, "E-LAW") == 0 &&
                     strpbrk(diags.at[0].text, "0123456789");
        cr_expect(right, "%s:\n%s", wrong[k], errors());
    }
}
