/* SPDX-License-Identifier: MIT
 *
 * Golden tests: tests/golden/<pass>/<name>.qir, one case a file, each in its own process.
 *
 *     ; what this shows, in a line or two
 *     ; test: passes tile,stream            needed; options: kernel @x, fails E-CODE
 *     ; run: Nq=1..9 Nk=1,7 seed=1          executed before and after in the oracle, exact mode
 *     ; remark: W-NOASSOC                   each remark that must appear; none other may
 *     <norms, the kernel, a schedule>
 *     ; expect:
 *     ; <the kernel after the passes, exactly>
 *
 * In `run:` a dim or an integer parameter takes each number of a range lo..hi or a list; every
 * combination is run. A dim that is not named is 3, an integer parameter 2. An integer tensor holds
 * random numbers of its range (0..2), sorted when it is named as NAME=sorted.
 * The passes run with and without parsing in between; both must print the same text.
 *
 * QN_BLESS=1 QN_FILTER=tile/causal writes the expected part anew; refused where CI=true. */
#include "ir/interp.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/type.h"
#include "ir/verify.h"
#include "passes/pass.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct one {
    char path[512];
} one;

typedef struct world {
    qn_arena arena, scratch;
    jmp_buf oom;
    qn_ir ir;
    qn_diags diags;
} world;

enum { MAX_LIST = 64, MAX_KEYS = 24 };

typedef struct range {
    char name[64];
    bool sorted;
    int count;
    int64_t at[MAX_LIST];
} range;

typedef struct spec {
    char passes[256], kernel[64], fails[32];
    char remarks[8][32];
    int nremarks;
    bool run;
    range keys[MAX_KEYS];
    int nkeys;
    uint64_t seed;
    const char *expect; /* where the expected part starts in the source, or NULL */
} spec;

/* ---------------------------------------------------------------- files */

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f, "cannot open %s", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *text = malloc((size_t)n + 1);
    size_t got = fread(text, 1, (size_t)n, f);
    text[got] = '\0';
    fclose(f);
    return text;
}

static bool selected(const char *path)
{
    const char *filter = getenv("QN_FILTER");
    return !filter || strstr(path, filter);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const one *)a)->path, ((const one *)b)->path);
}

/* The cases, in cr_malloc memory when `make`, else only counted. */
static int collect(one *out)
{
    const char *root = QN_ROOT "/tests/golden";
    int count = 0;
    DIR *top = opendir(root);
    for (struct dirent *d; top && (d = readdir(top));) {
        char folder[256];
        if (d->d_name[0] == '.') {
            continue;
        }
        snprintf(folder, sizeof folder, "%.120s/%.100s", root, d->d_name);
        DIR *sub = opendir(folder);
        for (struct dirent *e; sub && (e = readdir(sub));) {
            const char *dot = strrchr(e->d_name, '.');
            char path[512];
            snprintf(path, sizeof path, "%s/%.200s", folder, e->d_name);
            if (dot && strcmp(dot, ".qir") == 0 && selected(path)) {
                if (out) {
                    strcpy(out[count].path, path);
                }
                count++;
            }
        }
        if (sub) {
            closedir(sub);
        }
    }
    if (top) {
        closedir(top);
    }
    return count;
}

ParameterizedTestParameters(golden, passes)
{
    int count = collect(NULL);
    one *list = cr_malloc(sizeof *list * (size_t)(count ? count : 1));
    collect(list);
    qsort(list, (size_t)count, sizeof *list, by_path);
    return cr_make_param_array(one, list, (size_t)count);
}

/* ---------------------------------------------------------------- headers */

static void parse_range(range *r, const char *text)
{
    while (*text && r->count < MAX_LIST) {
        char *end;
        int64_t lo = strtoll(text, &end, 10), hi = lo;
        if (end == text) {
            break;
        }
        if (strncmp(end, "..", 2) == 0) {
            hi = strtoll(end + 2, &end, 10);
        }
        for (int64_t n = lo; n <= hi && r->count < MAX_LIST; n++) {
            r->at[r->count++] = n;
        }
        text = *end == ',' ? end + 1 : end;
    }
}

static void parse_run(spec *s, char *line)
{
    s->run = true;
    for (char *word = strtok(line, " \t"); word; word = strtok(NULL, " \t")) {
        char *eq = strchr(word, '=');
        cr_assert(eq && s->nkeys < MAX_KEYS, "bad run word %s", word);
        *eq = '\0';
        if (strcmp(word, "seed") == 0) {
            s->seed = strtoull(eq + 1, NULL, 10);
            continue;
        }
        range *r = &s->keys[s->nkeys++];
        snprintf(r->name, sizeof r->name, "%s", word);
        r->sorted = strcmp(eq + 1, "sorted") == 0;
        parse_range(r, eq + 1);
    }
}

static void word_after(char *out, size_t size, const char *line, const char *key)
{
    const char *at = strstr(line, key);
    if (at) {
        at += strlen(key);
        at += strspn(at, " ");
        size_t n = strcspn(at, " ");
        snprintf(out, size, "%.*s", (int)n, at);
    }
}

static spec parse_spec(const char *source)
{
    spec s = {.seed = 1};
    for (const char *at = source; *at;) {
        size_t n = strcspn(at, "\n");
        char line[1024];
        snprintf(line, sizeof line, "%.*s", (int)(n < 1000 ? n : 1000), at);
        if (strncmp(line, "; test:", 7) == 0) {
            word_after(s.passes, sizeof s.passes, line, "passes ");
            word_after(s.kernel, sizeof s.kernel, line, "kernel ");
            word_after(s.fails, sizeof s.fails, line, "fails ");
        } else if (strncmp(line, "; run:", 6) == 0) {
            parse_run(&s, line + 6);
        } else if (strncmp(line, "; remark:", 9) == 0 && s.nremarks < 8) {
            word_after(s.remarks[s.nremarks++], sizeof s.remarks[0], line, "; remark:");
        } else if (strncmp(line, "; expect:", 9) == 0) {
            s.expect = at;
            break;
        }
        at += n + (at[n] == '\n');
    }
    return s;
}

/* ---------------------------------------------------------------- runs */

static uint64_t next(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double normal(uint64_t *state)
{
    double sum = 0; /* of twelve uniforms: near enough */
    for (int n = 0; n < 12; n++) {
        sum += (double)(next(state) >> 11) * 0x1p-53;
    }
    return sum - 6.0;
}

static const range *key_of(const spec *s, const char *name)
{
    for (int n = 0; n < s->nkeys; n++) {
        if (strcmp(s->keys[n].name, name) == 0) {
            return &s->keys[n];
        }
    }
    return NULL;
}

typedef struct call {
    qn_arg *args;
    int count;
} call;

static void add_int(world *w, call *c, const char *name, qn_dtype t, int64_t value)
{
    qn_arg *a = &c->args[c->count++];
    *a = (qn_arg){.name = name, .array = {.dtype = t, .rank = 0}};
    a->array.i = QN_NEW(&w->arena, int64_t);
    *a->array.i = value;
}

static int64_t dim_value(world *w, const call *c, const qn_kernel_ir *k, qn_sym name)
{
    for (int n = 0; n < c->count; n++) {
        if (strcmp(c->args[n].name, name) == 0) {
            return *c->args[n].array.i;
        }
    }
    for (int n = 0; n < k->dims.count; n++) {
        if (k->dims.at[n].name == name && k->dims.at[n].value) {
            double f;
            int64_t i = 0;
            bool good = qn_interp_scalar(&w->ir, k->dims.at[n].value, c->args, c->count, &f, &i);
            cr_assert(good, "dim %s", name);
            return i;
        }
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void add_param(world *w, const spec *s, call *c, const qn_kernel_ir *k, const qn_param *p,
                      const int64_t *chosen, uint64_t *state)
{
    const range *r = key_of(s, p->name);
    bool real = qn_dtype_is_float(p->type.dtype);
    if (p->type.rank == 0) {
        if (p->value && !r) {
            return; /* its default */
        }
        int64_t value = r ? chosen[r - s->keys] : 2;
        add_int(w, c, p->name, p->type.dtype, value);
        if (real) {
            qn_array *a = &c->args[c->count - 1].array;
            a->f = QN_NEW(&w->arena, double);
            *a->f = r ? (double)value : normal(state);
        }
        return;
    }
    qn_arg a = {.name = p->name, .array = {.dtype = p->type.dtype, .rank = p->type.rank}};
    int64_t count = 1;
    for (int n = 0; n < p->type.rank; n++) {
        qn_extent e = p->type.axes[n].extent;
        a.array.shape[n] = e.dim ? dim_value(w, c, k, e.dim) : e.n;
        count *= a.array.shape[n];
    }
    if (real) {
        a.array.f = QN_NEWN(&w->arena, double, count + 1);
        for (int64_t n = 0; n < count; n++) {
            a.array.f[n] = normal(state);
        }
    } else {
        int64_t lo = r && r->count ? r->at[0] : 0, hi = r && r->count ? r->at[r->count - 1] : 2;
        hi = p->type.dtype == QN_BOOL ? 1 : hi;
        a.array.i = QN_NEWN(&w->arena, int64_t, count + 1);
        for (int64_t n = 0; n < count; n++) {
            a.array.i[n] = lo + (int64_t)(next(state) % (uint64_t)(hi - lo + 1));
        }
        if (r && r->sorted) {
            qsort(a.array.i, (size_t)count, sizeof *a.array.i, by_value);
        }
    }
    c->args[c->count++] = a;
}

static call make_call(world *w, const spec *s, const qn_kernel_ir *k, const int64_t *chosen)
{
    call c = {QN_NEWN(&w->arena, qn_arg, k->dims.count + k->params.count + 1), 0};
    uint64_t state = s->seed;
    for (int n = 0; n < k->dims.count; n++) {
        const range *r = key_of(s, k->dims.at[n].name);
        if (!k->dims.at[n].value) {
            add_int(w, &c, k->dims.at[n].name, QN_I64, r ? chosen[r - s->keys] : 3);
        }
    }
    for (int n = 0; n < k->params.count; n++) {
        if (k->params.at[n].direction != QN_OUT) {
            add_param(w, s, &c, k, &k->params.at[n], chosen, &state);
        }
    }
    return c;
}

static const char *errors_of(world *w)
{
    qn_buf b = qn_buf_of(&w->arena);
    qn_diags_print(&w->diags, QN_ERROR, &b);
    return b.text ? b.text : "";
}

static bool close_enough(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return isnan(a) && isnan(b);
    }
    if (isinf(a) || isinf(b)) {
        return a == b;
    }
    return fabs(a - b) <= 1e-10 * (1.0 + fabs(a));
}

static const char *shape_text(world *w, const spec *s, const int64_t *chosen)
{
    qn_buf b = qn_buf_of(&w->arena);
    for (int n = 0; n < s->nkeys; n++) {
        qn_buf_printf(&b, "%s=%lld ", s->keys[n].name, (long long)chosen[n]);
    }
    return b.text ? b.text : "";
}

static void compare(world *w, const spec *s, const char *path, const qn_interp_result *a,
                    const qn_interp_result *b, const int64_t *chosen)
{
    for (int n = 0; n < a->nouts; n++) {
        const qn_array *x = &a->outs[n].array;
        const qn_array *y = NULL; /* the passes may add outputs */
        for (int m = 0; m < b->nouts; m++) {
            y = strcmp(b->outs[m].name, a->outs[n].name) == 0 ? &b->outs[m].array : y;
        }
        cr_assert(y, "%s: %s is lost", path, a->outs[n].name);
        int64_t count = 1;
        for (int k = 0; k < x->rank; k++) {
            count *= x->shape[k];
        }
        for (int64_t k = 0; k < count; k++) {
            bool same = x->f ? close_enough(x->f[k], y->f[k]) : x->i[k] == y->i[k];
            cr_assert(same, "%s: %sseed=%llu: %s[%lld] is %.17g before, %.17g after", path,
                      shape_text(w, s, chosen), (unsigned long long)s->seed, a->outs[n].name,
                      (long long)k, x->f ? x->f[k] : (double)x->i[k],
                      y->f ? y->f[k] : (double)y->i[k]);
        }
    }
}

static void run_once(world *w, const spec *s, const char *path, const qn_ir_file *before,
                     const qn_ir_file *after, const int64_t *chosen)
{
    const qn_kernel_ir *k = qn_file_kernel(before, s->kernel[0] ? s->kernel : NULL);
    const qn_kernel_ir *l = qn_file_kernel(after, s->kernel[0] ? s->kernel : NULL);
    call c = make_call(w, s, k, chosen), d = make_call(w, s, l, chosen);
    qn_interp_options o = {.mode = QN_EXACT};
    qn_interp_result a, b;
    bool good = qn_interp(before, k, c.args, c.count, &o, &a, &w->diags);
    cr_assert(good, "%s: %sbefore: %s", path, shape_text(w, s, chosen), errors_of(w));
    o.shuffle = 7; /* tasks in another order */
    good = qn_interp(after, l, d.args, d.count, &o, &b, &w->diags);
    cr_assert(good, "%s: %safter: %s", path, shape_text(w, s, chosen), errors_of(w));
    compare(w, s, path, &a, &b, chosen);
}

static void run_all(world *w, const spec *s, const char *path, const qn_ir_file *before,
                    const qn_ir_file *after)
{
    int64_t chosen[MAX_KEYS] = {0};
    int at[MAX_KEYS] = {0};
    for (;;) {
        for (int n = 0; n < s->nkeys; n++) {
            chosen[n] = s->keys[n].count ? s->keys[n].at[at[n]] : 0;
        }
        run_once(w, s, path, before, after, chosen); /* it interns, so nothing is released */
        int n = 0;
        while (n < s->nkeys) {
            const qn_kernel_ir *k = qn_file_kernel(before, s->kernel[0] ? s->kernel : NULL);
            bool tensor = false; /* its range is that of its elements */
            for (int p = 0; p < k->params.count; p++) {
                tensor = tensor || (k->params.at[p].type.rank > 0 &&
                                    strcmp(k->params.at[p].name, s->keys[n].name) == 0);
            }
            if (!tensor && ++at[n] < s->keys[n].count) {
                break;
            }
            at[n++] = 0;
        }
        if (n == s->nkeys) {
            return;
        }
    }
}

/* ---------------------------------------------------------------- one case */

static void world_init(world *w, const char *path, const char *source)
{
    qn_alloc alloc = qn_alloc_default();
    qn_arena_init(&w->arena, &alloc, &w->oom);
    qn_arena_init(&w->scratch, &alloc, &w->oom);
    qn_ir_init(&w->ir, &w->arena);
    qn_diags_init(&w->diags, &w->arena, path, source);
}

static qn_ir_file *run_passes(world *w, const spec *s, const char *source, bool reparse, bool *good)
{
    static const qn_machine machine = {"any", 8, 16, 32768, 524288};
    qn_ir_file *f = qn_parse(&w->ir, source, strlen(source), &w->diags);
    cr_assert(f, "%s", errors_of(w));
    bool valid = qn_verify(f, &w->diags);
    cr_assert(valid, "%s", errors_of(w));
    const qn_schedule *schedule = qn_schedule_new(&w->ir, "@none", "any");
    for (int n = 0; n < f->items.count; n++) {
        if (f->items.at[n].kind == QN_ITEM_SCHEDULE) {
            schedule = f->items.at[n].u.schedule;
        }
    }
    qn_pass_cx cx = {&w->ir, &w->scratch, schedule, &machine, &w->diags};
    qn_pipeline_options o = {.only = s->passes, .reparse = reparse, .verify = true};
    *good = qn_pipeline_run(&cx, &f, s->kernel[0] ? s->kernel : NULL, &o);
    return f;
}

static bool has_code(const world *w, qn_severity severity, const char *code)
{
    for (int n = 0; n < w->diags.count; n++) {
        if (w->diags.at[n].severity == severity && strcmp(w->diags.at[n].code, code) == 0) {
            return true;
        }
    }
    return false;
}

static void check_remarks(const world *w, const spec *s, const char *path)
{
    for (int n = 0; n < s->nremarks; n++) {
        cr_assert(has_code(w, QN_REMARK, s->remarks[n]), "%s: no remark %s", path, s->remarks[n]);
    }
    for (int n = 0; n < w->diags.count; n++) {
        const qn_diag *d = &w->diags.at[n];
        bool named = d->severity != QN_REMARK;
        for (int k = 0; k < s->nremarks; k++) {
            named = named || strcmp(d->code, s->remarks[k]) == 0;
        }
        cr_assert(named, "%s: unexpected remark %s: %s", path, d->code, d->text);
    }
}

static const char *kernel_text(world *w, const spec *s, const qn_ir_file *f)
{
    qn_buf b = qn_buf_of(&w->arena);
    qn_print_kernel(qn_file_kernel(f, s->kernel[0] ? s->kernel : NULL), &b);
    return b.text;
}

/* The expected part of a file: every line behind "; ". */
static const char *commented(world *w, const char *text)
{
    qn_buf b = qn_buf_of(&w->arena);
    qn_buf_puts(&b, "; expect:\n");
    text += strspn(text, "\n");
    while (*text) {
        size_t n = strcspn(text, "\n");
        qn_buf_printf(&b, n ? "; %.*s\n" : ";\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
    return b.text;
}

static void bless(const char *path, const char *source, const spec *s, const char *expected)
{
    cr_assert(getenv("QN_FILTER"), "QN_BLESS needs QN_FILTER: bless by name");
    const char *ci = getenv("CI");
    cr_assert(!ci || strcmp(ci, "true") != 0, "expectations are not written where CI=true");
    size_t n = s->expect ? (size_t)(s->expect - source) : strlen(source);
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    fwrite(source, 1, n, f);
    fputs(expected, f);
    fclose(f);
}

ParameterizedTest(one *c, golden, passes)
{
    char *source = read_all(c->path);
    spec s = parse_spec(source);
    const char *path = strstr(c->path, "golden/");
    cr_assert(s.passes[0], "%s: no `; test: passes ..` line", path);
    world *w = calloc(1, sizeof *w);
    if (setjmp(w->oom)) {
        cr_assert_fail("out of memory");
    }
    world_init(w, path, source);
    bool good;
    qn_ir_file *before = qn_parse(&w->ir, source, strlen(source), &w->diags);
    cr_assert(before, "%s", errors_of(w));
    qn_ir_file *after = run_passes(w, &s, source, false, &good);
    check_remarks(w, &s, path);
    if (s.fails[0]) {
        cr_assert(!good && has_code(w, QN_ERROR, s.fails), "%s: does not fail with %s: %s", path,
                  s.fails, errors_of(w));
        return;
    }
    cr_assert(good, "%s: %s", path, errors_of(w));
    const char *text = kernel_text(w, &s, after);
    qn_ir_file *printed = run_passes(w, &s, source, true, &good);
    cr_assert(good, "%s: with --reparse: %s", path, errors_of(w));
    cr_assert_str_eq(kernel_text(w, &s, printed), text, "%s: parsing in between changes it", path);
    const char *expected = commented(w, text);
    if (getenv("QN_BLESS")) {
        bless(c->path, source, &s, expected);
    } else {
        cr_assert(s.expect, "%s: no expected part", path);
        cr_assert_str_eq(s.expect, expected, "%s: got\n%s", path, expected);
    }
    if (s.run) {
        run_all(w, &s, path, before, after);
    }
    qn_arena_fini(&w->arena);
    qn_arena_fini(&w->scratch);
    free(w);
    free(source);
}
