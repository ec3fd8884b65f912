/* SPDX-License-Identifier: MIT
 *
 * The order of the passes, and the runner.
 *
 * The state of a compilation is the text. The runner can therefore print and parse it between any
 * two passes without changing what comes out, stop anywhere, and start from any text. It knows
 * nothing of what a pass does. */
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "passes/pass.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

/* Why this order. A pass whose row is absent has no file yet. */
const qn_pass *const qn_pipeline[] = {
    &qn_pass_canon,
    &qn_pass_fuse,   /* before tile, while loads are bare */
    &qn_pass_unfuse, /* before tile, like split: both make nests that are cut later */
    &qn_pass_split,  /* before tile, which then cuts the parts and the merge alike */
    &qn_pass_pack,   /* before tile, which cuts the copy too */
    &qn_pass_group,  /* before tile: the nest is still values and stores over whole axes */
    &qn_pass_tile,   /* before stream: a fold's carried values take the block of its rows */
    &qn_pass_stream, /* before loops: what a fold's loop can take along needs no loop of its own */
    &qn_pass_loops,
    &qn_pass_ranges, /* sees a loop as `0..N` once, with its masks in the body */
    &qn_pass_peel,   /* needs the facts of ranges */
    &qn_pass_bare,   /* the loops that peel made are those whose loads can be proved */
    &qn_pass_strip,  /* on tiles: leaf packs and blocks each panel */
    &qn_pass_leaf,   /* what is left of tiles becomes loops over registers */
    &qn_pass_hoist,  /* of the loops that leaf made */
    &qn_pass_dce,    /* last, since every other pass leaves things behind */
    NULL,
};

/* Known by name alone. */
static const qn_pass *const on_request[] = {
    &qn_pass_count,
    NULL,
};

static const qn_pass *find_in(const qn_pass *const *table, const char *name, size_t length)
{
    for (; *table; table++) {
        if (strlen((*table)->name) == length && memcmp((*table)->name, name, length) == 0) {
            return *table;
        }
    }
    return NULL;
}

static const qn_pass *find(const char *name, size_t length)
{
    const qn_pass *p = find_in(qn_pipeline, name, length);
    return p ? p : find_in(on_request, name, length);
}

const qn_pass *qn_pass_find(const char *name)
{
    return find(name, strlen(name));
}

/* What every code of why.def says of itself; the remark adds the particulars. */
static const char *why_text(const char *code)
{
    static const struct {
        const char *code, *text;
    } why[] = {
#define X(CODE, text) {CODE, text},
#include "passes/why.def"
#undef X
    };
    for (size_t n = 0; n < sizeof why / sizeof *why; n++) {
        if (strcmp(why[n].code, code) == 0) {
            return why[n].text;
        }
    }
    return "a remark without a row in why.def";
}

void qn_remark(qn_pass_cx *cx, const char *code, qn_place place, const char *format, ...)
{
    qn_diags *d = cx->diags;
    qn_buf b = qn_buf_of(d->arena);
    qn_buf_puts(&b, why_text(code));
    if (format && *format) {
        qn_buf_puts(&b, ": ");
        va_list args;
        va_start(args, format);
        qn_buf_vprintf(&b, format, args);
        va_end(args);
    }
    for (int n = 0; n < d->count; n++) { /* a copied statement says the same thing only once */
        const qn_diag *old = &d->at[n];
        if (old->severity == QN_REMARK && strcmp(old->code, code) == 0 &&
            old->place.line == place.line && old->place.col == place.col &&
            strcmp(old->text, b.text) == 0) {
            return;
        }
    }
    qn_diag_add(d, QN_REMARK, code, place, "%s", b.text);
}

static double now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const qn_place nowhere = {0, 0, 0};

/* Prints and parses *f. From here on places are those of the printed text, so diagnostics quote it.
 * The text of a pass always parses; if not, the pass or the printer is wrong. */
static bool reparse(qn_pass_cx *cx, qn_ir_file **f, const qn_pass *p)
{
    const char *text = qn_file_text(cx->ir->arena, *f);
    cx->diags->path = qn_diag_text(cx->diags, "<after %s>", p->name);
    cx->diags->source = text;
    qn_ir_file *fresh = qn_parse(cx->ir, text, strlen(text), cx->diags);
    if (fresh) {
        *f = fresh;
    }
    return fresh != NULL;
}

static bool run_one(qn_pass_cx *cx, qn_ir_file **f, const char *kernel, const qn_pass *p,
                    bool asked, const qn_pipeline_options *o)
{
    qn_kernel_ir *k = qn_file_kernel(*f, kernel);
    if (!k) {
        qn_diag_add(cx->diags, QN_ERROR, "E-PASS", nowhere, "there is no kernel %s in the file",
                    kernel ? kernel : "");
        return false;
    }
    const char *why = "the text is not ready";
    if (p->ready && !p->ready(*f, k, &why)) {
        /* Within the pipeline a text of a lower level passes through; asked by name it is a slip.
         */
        if (asked) {
            qn_diag_add(cx->diags, QN_ERROR, "E-PASS", k->place, "%s cannot run: %s", p->name, why);
        }
        return !asked;
    }
    const char *before = o->after ? qn_file_text(cx->ir->arena, *f) : NULL;
    qn_mark mark = qn_arena_mark(cx->scratch);
    double start = now();
    int errors = cx->diags->errors;
    bool good = p->run(cx, *f, k);
    double seconds = now() - start;
    if (cx->scratch != cx->ir->arena) {
        qn_arena_release(cx->scratch, mark);
    }
    if (!good) {
        if (cx->diags->errors == errors) {
            qn_diag_add(cx->diags, QN_ERROR, "E-PASS", k->place, "%s failed", p->name);
        }
        return false;
    }
    if (o->reparse && !reparse(cx, f, p)) {
        return false;
    }
    if (o->verify && !qn_verify(*f, cx->diags)) {
        qn_diag_add(cx->diags, QN_ERROR, "E-PASS", nowhere, "%s made a text that breaks a rule",
                    p->name);
        return false;
    }
    if (o->after) {
        bool changed = strcmp(before, qn_file_text(cx->ir->arena, *f)) != 0;
        o->after(o->user, p, *f, changed, seconds);
    }
    return true;
}

static bool unknown(qn_pass_cx *cx, const char *name, int length)
{
    qn_buf b = qn_buf_of(cx->diags->arena);
    for (const qn_pass *const *p = qn_pipeline; *p; p++) {
        qn_buf_printf(&b, "%s%s", p == qn_pipeline ? "" : " ", (*p)->name);
    }
    for (const qn_pass *const *p = on_request; *p; p++) {
        qn_buf_printf(&b, " %s", (*p)->name);
    }
    qn_diag *d =
        qn_diag_add(cx->diags, QN_ERROR, "E-PASS", nowhere, "there is no pass %.*s", length, name);
    if (d) {
        d->help = qn_diag_text(cx->diags, "the passes are: %s", b.text ? b.text : "");
    }
    return false;
}

/* The passes of a list such as "tile, stream", in its order. */
static bool run_list(qn_pass_cx *cx, qn_ir_file **f, const char *kernel,
                     const qn_pipeline_options *o)
{
    const char *at = o->only;
    for (;;) {
        at += strspn(at, " ,");
        size_t length = strcspn(at, " ,");
        if (length == 0) {
            return true;
        }
        const qn_pass *p = find(at, length);
        if (!p) {
            return unknown(cx, at, (int)(length < 64 ? length : 64));
        }
        if (!run_one(cx, f, kernel, p, true, o)) {
            return false;
        }
        if (o->stop && strcmp(o->stop, p->name) == 0) {
            return true;
        }
        at += length;
    }
}

bool qn_pipeline_run(qn_pass_cx *cx, qn_ir_file **f, const char *kernel,
                     const qn_pipeline_options *options)
{
    static const qn_pipeline_options plain = {0};
    const qn_pipeline_options *o = options ? options : &plain;
    if (o->stop && !qn_pass_find(o->stop)) {
        return unknown(cx, o->stop, (int)(strlen(o->stop) < 64 ? strlen(o->stop) : 64));
    }
    if (o->only) {
        return run_list(cx, f, kernel, o);
    }
    for (const qn_pass *const *p = qn_pipeline; *p; p++) {
        if (!run_one(cx, f, kernel, *p, false, o)) {
            return false;
        }
        if (o->stop && strcmp(o->stop, (*p)->name) == 0) {
            break;
        }
    }
    return true;
}
