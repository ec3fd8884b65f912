/* SPDX-License-Identifier: MIT
 * quern: run, check, time and look into attention kernels from the command line. */
#include "runtime/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "quern " QN_VERSION ": attention kernels from small Lua specs\n"
    "\n"
    "usage: quern VERB FILE[:NAME] [NAME=VALUE ..] [options]\n"
    "\n"
    "  run      runs the kernel; -o NAME=FILE.npy writes an output (--count: counts tiles "
    "instead)\n"
    "  check    runs it and compares every element with the definition; exit 1 if they differ\n"
    "  bench    times it beside the FMA peak of the same threads (--json: one object)\n"
    "  explain  says which algorithm, which tiles, who chose them, and what could not be done\n"
    "  dump     prints the text: --at=spec|naive|tiled|leaf|schedule|asm or a pass's name\n"
    "  opt      runs --passes=a,b over IR text and prints the result\n"
    "  compile  writes a relocatable object: -o kernel.o\n"
    "\n"
    "FILE is a spec (.lua) or IR text (.qir). NAME=VALUE binds by declared name: a size (Nq=128), "
    "a\n"
    "parameter (window=64) or a tensor (q=q.npy). Sizes come from the tensors where they can; "
    "floats\n"
    "that are not given are standard normal by seed.\n"
    "\n"
    "  --types=\"q=f16 k=f16\"  element types          --threads=N     0: one a core (default 1)\n"
    "  --schedule=FILE        lines that you choose  --seed=N        of random tensors\n"
    "  --target=NAME          x86-64[-v3|-v4]        --runs=N        timed runs of bench\n"
    "  --errors=\"W-PLAIN\"     remarks made errors    --plan=NAME     which plan to dump\n"
    "  --oracle               check against the interpreter\n"
    "  --reparse              print and parse the IR between every two passes\n"
    "  --trust                believe the promises of a .qir text (unsafe on wrong texts)\n"
    "\n"
    "QUERN_ISA=scalar|avx2|avx512 forces a lower instruction set.\n"
    "exit: 0 good, 1 the answer is no, 2 a mistake in the input, 3 a bug of quern, 4 the machine\n";

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

char *cli_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        return NULL;
    }
    size_t cap = 1 << 16, n = 0, got;
    char *text = malloc(cap + 1);
    while (text && (got = fread(text + n, 1, cap - n, f)) > 0) {
        n += got;
        if (n == cap) {
            cap *= 2;
            char *wider = realloc(text, cap + 1);
            if (!wider) {
                free(text);
            }
            text = wider;
        }
    }
    fclose(f);
    if (text) {
        text[n] = 0;
    }
    return text;
}

int cli_fail(const cli_job *j, qn_status s, const char *text)
{
    if (!text || !text[0]) {
        text = j && j->cx ? qn_ctx_message(j->cx) : "";
    }
    size_t n = strlen(text);
    fprintf(stderr, "%s%s", n ? text : qn_status_text(s), n && text[n - 1] == '\n' ? "" : "\n");
    return s == QN_OK                                               ? CLI_GOOD
           : s == QN_E_INTERNAL                                     ? CLI_BUG
           : s == QN_E_MEMORY || s == QN_E_TOOL || s == QN_E_TARGET ? CLI_MACHINE
                                                                    : CLI_USER;
}

static int mistake(const char *what, const char *word)
{
    fprintf(stderr, "quern: %s %s (quern --help)\n", what, word);
    return CLI_USER;
}

static bool number(const char *t, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(t, &end, 10);
    return *t && !*end && !errno;
}

static bool pair(cli_pair *p, const char *word)
{
    const char *eq = strchr(word, '=');
    if (!eq || eq == word || (size_t)(eq - word) >= sizeof p->name) {
        return false;
    }
    memcpy(p->name, word, (size_t)(eq - word));
    p->name[eq - word] = 0;
    p->value = eq + 1;
    p->used = false;
    return true;
}

static int option(cli_args *a, const char *word)
{
    static const struct {
        const char *name;
        size_t offset;
    } texts[] = {
        {"--at=", offsetof(cli_args, at)},         {"--plan=", offsetof(cli_args, plan)},
        {"--passes=", offsetof(cli_args, passes)}, {"--types=", offsetof(cli_args, types)},
        {"--target=", offsetof(cli_args, target)}, {"--schedule=", offsetof(cli_args, schedule)},
        {"--errors=", offsetof(cli_args, errors)},
    };
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        {"--json", offsetof(cli_args, json)},     {"--count", offsetof(cli_args, count)},
        {"--oracle", offsetof(cli_args, oracle)}, {"--reparse", offsetof(cli_args, reparse)},
        {"--trust", offsetof(cli_args, trust)},
    };
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        size_t n = strlen(texts[k].name);
        if (strncmp(word, texts[k].name, n) == 0) {
            const char *value = word + n;
            memcpy((char *)a + texts[k].offset, &value, sizeof value);
            return CLI_GOOD;
        }
    }
    for (size_t k = 0; k < sizeof flags / sizeof *flags; k++) {
        if (strcmp(word, flags[k].name) == 0) {
            *(bool *)((char *)a + flags[k].offset) = true;
            return CLI_GOOD;
        }
    }
    long n;
    if (strncmp(word, "--threads=", 10) == 0 && number(word + 10, &n) && n >= 0 && n <= 1024) {
        a->threads = (int)n;
    } else if (strncmp(word, "--runs=", 7) == 0 && number(word + 7, &n) && n >= 1 && n <= 100000) {
        a->runs = (int)n;
    } else if (strncmp(word, "--seed=", 7) == 0 && number(word + 7, &n)) {
        a->seed = n;
    } else {
        return mistake("unknown option or value", word);
    }
    return CLI_GOOD;
}

int cli_parse(int argc, char **argv, cli_args *a)
{
    *a = (cli_args){.verb = argv[1], .seed = 1, .threads = 1, .runs = 0};
    for (int k = 2; k < argc; k++) {
        const char *w = argv[k];
        if (strcmp(w, "-o") == 0) {
            if (++k == argc) {
                return mistake("-o wants", "a file");
            }
            if (a->nouts == CLI_MAX) {
                return mistake("too many", "-o");
            }
            if (!strchr(argv[k], '=')) {
                a->object = argv[k];
            } else if (!pair(&a->outs[a->nouts++], argv[k])) {
                return mistake("-o wants NAME=FILE.npy, not", argv[k]);
            }
        } else if (w[0] == '-' && w[1]) {
            int bad = option(a, w);
            if (bad) {
                return bad;
            }
        } else if (!a->source) {
            a->source = w;
        } else if (a->npairs == CLI_MAX || !pair(&a->pairs[a->npairs], w)) {
            return mistake("expected NAME=VALUE, found", w);
        } else {
            a->npairs++;
        }
    }
    if (!a->source) {
        return mistake("expected a spec or .qir file after", a->verb);
    }
    if (a->schedule && !(a->schedule_text = cli_read(a->schedule))) {
        return mistake("cannot read", a->schedule);
    }
    return CLI_GOOD;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(cli_args *a);
    } verbs[] = {
        {"run", cmd_run},         {"check", cmd_check}, {"bench", cmd_bench},
        {"explain", cmd_explain}, {"dump", cmd_dump},   {"opt", cmd_opt},
        {"compile", cmd_compile},
    };
    if (argc < 2) {
        fputs(help, stderr);
        return CLI_USER;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        fputs(help, stdout);
        return CLI_GOOD;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("quern " QN_VERSION);
        return CLI_GOOD;
    }
    for (size_t v = 0; v < sizeof verbs / sizeof *verbs; v++) {
        if (strcmp(argv[1], verbs[v].name) == 0) {
            cli_args a;
            int bad = cli_parse(argc, argv, &a);
            int answer = bad ? bad : verbs[v].run(&a);
            free(a.schedule_text);
            if (fflush(stdout) != 0 || ferror(stdout)) {
                fputs("quern: standard output cannot be written\n", stderr);
                return CLI_USER;
            }
            return answer;
        }
    }
    return mistake("unknown verb", argv[1]);
}
