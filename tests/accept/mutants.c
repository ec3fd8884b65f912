/* Acceptance: mutants follow. One token of a tiled or blocked text is changed: a constant, a
 * comparison, an operator, a reduction, a name by another of its kind. Then the verifier or the
 * oracle refuses the mutant, or the oracle and machine code agree on it: code is made from the text
 * and from nothing else. Each mutant runs in a child of its own with 2 seconds
 * of processor time. */
#include "ir/parse.h"
#include "ir/verify.h"
#include "tests/support/exec.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MUTANTS = 560, MUST_COMPARE = 150 };
typedef enum outcome { REFUSED, AGREES, NO_VERDICT, DIFFERS, SLOW, CRASHED } outcome;

/* ---------------------------------------------------------------- what is mutated */

static const struct {
    const char *text;
    bool corpus;
} texts[] = {{"b_tiled", true},   {"c_leaf", true},     {"e_splitkv", true},  {"l_plain", true},
             {"m_sigmoid", true}, {"i_backward", true}, {"intervals", false}, {"recurrence", false},
             {"gather", false},   {"merge", false}};
enum { TEXTS = sizeof texts / sizeof *texts };

typedef struct token {
    size_t at, length;
} token;

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '%' || c == '@';
}

/* Tokens after the header of the kernel's launches, so that the call stays callable. */
static int tokens_of(const char *t, token *out, int room)
{
    const char *body = strstr(t, "launch");
    int n = 0;
    for (const char *p = body ? body : t; *p && n < room;) {
        if (*p == ';') {
            p += strcspn(p, "\n");
        } else if (isspace((unsigned char)*p)) {
            p++;
        } else {
            size_t length = 1;
            if (is_word(*p)) {
                while (is_word(p[length]) && !(p[length] == '.' && p[length + 1] == '.')) {
                    length++;
                }
            } else if (p[1] == '=' && strchr("<>=!", p[0])) {
                length = 2;
            } else if (strncmp(p, "..", 2) == 0 || strncmp(p, "//", 2) == 0) {
                length = 2;
            }
            out[n++] = (token){(size_t)(p - t), length};
            p += length;
        }
    }
    return n;
}

static const char *const swaps[][2] = {{"<", "<="},
                                       {"<=", "<"},
                                       {">", ">="},
                                       {">=", ">"},
                                       {"==", "!="},
                                       {"!=", "=="},
                                       {"+", "-"},
                                       {"-", "+"},
                                       {"*", "+"},
                                       {"//", "%"},
                                       {"max", "min"},
                                       {"min", "max"},
                                       {"and", "or"},
                                       {"or", "and"},
                                       {"reduce.sum", "reduce.max"},
                                       {"reduce.max", "reduce.min"},
                                       {"exp", "abs"},
                                       {"select", "fma"},
                                       {"inf", "0.0"},
                                       {"0.0", "1.0"},
                                       {"0", "1"},
                                       {"1", "2"},
                                       {"64", "63"},
                                       {"16", "8"},
                                       {"4", "2"},
                                       {"32", "16"},
                                       {"log", "exp"},
                                       {"sigmoid", "tanh"},
                                       {"i", "j"},
                                       {"Nk", "Nq"},
                                       {"d", "e"},
                                       {"clamp", "fma"},
                                       {"%m", "%l"},
                                       {"true", "false"}};

/* Writes the mutant of this seed; false: the token drawn has no other form. */
static bool mutate(const char *t, qn_random *r, char *out, size_t room, char *what,
                   size_t what_room)
{
    static token tokens[8192];
    int n = tokens_of(t, tokens, 8192);
    token k = tokens[qn_random_below(r, n)];
    const char *with = NULL;
    char number[32];
    for (size_t s = 0; s < sizeof swaps / sizeof *swaps; s++) {
        if (strlen(swaps[s][0]) == k.length && strncmp(t + k.at, swaps[s][0], k.length) == 0) {
            with = swaps[s][1];
        }
    }
    if (!with && isdigit((unsigned char)t[k.at])) {
        snprintf(number, sizeof number, "%lld", (long long)(strtoll(t + k.at, NULL, 10) + 1));
        with = number;
    }
    if (!with) {
        return false;
    }
    snprintf(out, room, "%.*s%s%s", (int)k.at, t, with, t + k.at + k.length);
    int line = 1;
    for (size_t c = 0; c < k.at; c++) {
        line += t[c] == '\n';
    }
    snprintf(what, what_room, "line %d: %.*s becomes %s", line, (int)k.length, t + k.at, with);
    return true;
}

/* ---------------------------------------------------------------- one mutant */

static void give(qn_lab *lab, const qn_kernel_ir *k, qn_args *a, int64_t base)
{
    for (int p = 0; p < k->params.count; p++) {
        const qn_param *x = &k->params.at[p];
        if (x->direction == QN_OUT) {
            continue;
        }
        if (x->type.rank == 0) {
            if (qn_dtype_is_float(x->type.dtype)) {
                qn_args_float(a, x->name, x->type.dtype, 0.5);
            } else {
                qn_args_int(a, x->name, x->type.dtype, 9);
            }
            continue;
        }
        int64_t shape[QN_MAX_AXES], count = 1;
        for (int r = 0; r < x->type.rank; r++) {
            const char *dim = x->type.axes[r].extent.dim;
            int64_t n = x->type.axes[r].extent.n;
            static const struct {
                const char *name;
                int64_t n;
            } sizes[] = {{"B", 1}, {"H", 2}, {"Hq", 4}, {"Hk", 2}, {"G", 2},
                         {"D", 4}, {"E", 3}, {"K", 5},  {"C", 3}};
            for (size_t s = 0; dim && s < sizeof sizes / sizeof *sizes; s++) {
                n = strcmp(dim, sizes[s].name) == 0 ? sizes[s].n : n;
            }
            shape[r] = dim && n == 0
                           ? (strcmp(dim, "Nq") == 0 || strcmp(dim, "M") == 0 ? base : base + 7)
                           : n;
            count *= shape[r];
        }
        if (qn_dtype_is_float(x->type.dtype)) {
            qn_args_array(a, x->name,
                          qn_normal(lab, x->type.dtype, (uint64_t)p + 1, x->type.rank, shape));
        } else {
            int64_t *v = QN_NEWN(&lab->arena, int64_t, count + 1);
            for (int64_t e = 0; e < count; e++) {
                v[e] = e % 3;
            }
            qn_args_array(a, x->name, qn_ints(lab, x->type.dtype, x->type.rank, shape, v));
        }
    }
    for (int d = 0; d < k->dims.count; d++) {
        if (!k->dims.at[d].value) {
            bool bound = false;
            for (int p = 0; p < k->params.count; p++) {
                for (int r = 0;
                     k->params.at[p].direction != QN_OUT && r < k->params.at[p].type.rank; r++) {
                    bound = bound || k->params.at[p].type.axes[r].extent.dim == k->dims.at[d].name;
                }
            }
            if (!bound) {
                qn_args_dim(a, k->dims.at[d].name, base);
            }
        }
    }
}

/* Leaf texts of 64 lanes are left to vector machines: without vectors they become 64 times the
 * code, which is right but takes seconds to make. */
static bool is_wide(const char *text)
{
    return strstr(text, "!leaf(16, 32") && strstr(text, ":64");
}

static outcome judge(const char *text, int turn)
{
    qn_lab lab;
    qn_lab_open(&lab);
    qn_ir_file *f = qn_parse(&lab.ir, text, strlen(text), &lab.diags);
    if (!f || !qn_verify(f, &lab.diags) || !qn_verify_laws(f, &lab.diags)) {
        return REFUSED;
    }
    const qn_target *all[4];
    int n = 0;
    for (const qn_target *const *t = qn_targets; *t && n < 4; t++) {
        if ((*t)->here() && ((*t)->machine.lanes > 1 || n == 0 || !is_wide(text))) {
            all[n++] = *t;
        }
    }
    bool compared = false;
    for (int64_t base = 13; base <= 24; base += 11) {
        qn_args a = {0};
        give(&lab, qn_file_kernel(f, NULL), &a, base);
        const qn_interp_result *exact = qn_lab_try_run(&lab, f, NULL, &a, QN_EXACT, 0);
        if (!exact) {
            return REFUSED;
        }
        qn_exec_result r = qn_exec(&lab, f, NULL, &a, &(qn_exec_options){.target = all[turn % n]});
        if (r.status != QN_OK) {
            return CRASHED; /* what the verifier lets through has to become code */
        }
        for (int k = 0; k < exact->nouts; k++) {
            qn_verdict v = qn_judge(&exact->outs[k].array, qn_exec_out(&r, exact->outs[k].name));
            if (!v.ok || r.touched) {
                return DIFFERS;
            }
            compared = compared || v.compared > 0;
        }
    }
    return compared ? AGREES : NO_VERDICT;
}

static outcome in_child(const char *text, int turn)
{
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CPU,
                  &(struct rlimit){2, 2}); /* of this process, however busy the machine */
        alarm(60);
        _exit((int)judge(text, turn));
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) <= CRASHED ? (outcome)WEXITSTATUS(status)
           : WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL ||
                                     WTERMSIG(status) == SIGALRM)
               ? SLOW
               : CRASHED;
}

Test(mutants, follow, .timeout = 400)
{
    static const char *const names[] = {"refused", "agree", "no verdict",
                                        "differ",  "slow",  "crashed"};
    qn_lab lab;
    qn_lab_open(&lab);
    qn_random r = {20};
    int counts[6] = {0}, made = 0;
    while (made < MUTANTS) {
        int which = (int)qn_random_below(&r, TEXTS);
        char path[128], what[160];
        snprintf(path, sizeof path,
                 texts[which].corpus ? "tests/corpus/%s.qir" : "tests/accept/foreign/%s.qir",
                 texts[which].text);
        const char *t = qn_lab_read(&lab, path);
        size_t room = strlen(t) + 64;
        char *mutant = malloc(room);
        if (mutate(t, &r, mutant, room, what, sizeof what)) {
            outcome o = in_child(mutant, made++);
            counts[o]++;
            cr_expect(o != DIFFERS && o != CRASHED, "mutant %d of %s, %s: %s", made, path, what,
                      names[o]);
        }
        free(mutant);
    }
    printf("mutants: %d made;", made);
    for (int k = 0; k < 6; k++) {
        printf(" %d %s%s", counts[k], names[k], k < 5 ? "," : "\n");
    }
    cr_assert_geq(counts[AGREES] + counts[DIFFERS], MUST_COMPARE,
                  "only %d mutants reached comparison", counts[AGREES]);
    qn_lab_close(&lab);
}
