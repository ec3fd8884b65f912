/* SPDX-License-Identifier: MIT
 * Looking into a compilation: texts at every level, the check against the definition, counts. */
#include "runtime/arrays.h"
#include "runtime/build.h"

#include "frontend/frontend.h"
#include "ir/print.h"
#include "ir/schedule.h"
#include "ir/tolerance.h"
#include "ir/walk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keeps a text for the caller until the next call on cx. */
static const char *answer(qn_ctx *cx, const char *text)
{
    if (cx->has_answer) {
        qn_arena_fini(&cx->answer);
        cx->has_answer = false;
    }
    jmp_buf oom;
    qn_arena_init(&cx->answer, &cx->alloc, &oom);
    if (setjmp(oom)) {
        qn_arena_fini(&cx->answer);
        qn_ctx_say(cx, "%s", qn_status_text(QN_E_MEMORY));
        return NULL;
    }
    char *t = qn_arena_text(&cx->answer, text, strlen(text));
    cx->answer.oom = NULL;
    cx->has_answer = true;
    return t;
}

/* ---------------------------------------------------------------- dump and opt */

static const char *const levels[][2] = {{"tiled", "pack"}, {"leaf", NULL}};

static qn_status dump_plan(qn_build *b, const char *at, const char *form, qn_buf *out)
{
    qn_plan_build p;
    const char *stop = at;
    bool whole = strcmp(at, "schedule") == 0 || strcmp(at, "asm") == 0;
    for (size_t k = 0; k < sizeof levels / sizeof *levels; k++) {
        stop = strcmp(at, levels[k][0]) == 0 ? levels[k][1] : stop;
    }
    if (!whole && stop && !qn_pass_find(stop)) {
        qn_diag_add(&b->diags, QN_ERROR, "E-AT", (qn_place){0},
                    "there is no level or pass %s: spec, naive, tiled, leaf, schedule, asm or a "
                    "pass's name",
                    at);
        return QN_E_ARG;
    }
    qn_status s = qn_build_plan(b, form, whole ? NULL : stop, false, &p);
    if (s != QN_OK) {
        return s;
    }
    if (strcmp(at, "schedule") == 0) {
        qn_print_schedule(p.schedule, true, out);
    } else if (strcmp(at, "asm") == 0) {
        qn_emit_options eo = {.assembly = true};
        s = b->target->emit(b->target, &b->ir, &(qn_emit_item){p.file, p.kernel}, 1, &eo,
                            &p.emitted, &b->diags);
        qn_buf_puts(out, s == QN_OK && p.emitted.assembly ? p.emitted.assembly : "");
    } else if (out->length == 0) {
        qn_print_file(p.file, out);
    } else { /* a further plan: its norms stand above */
        qn_buf_puts(out, "\n");
        qn_print_kernel(p.kernel, out);
    }
    return s;
}

static qn_status dump(qn_build *b, const char *at, const char *plan, qn_buf *out)
{
    if (strcmp(at, "spec") == 0) {
        if (!b->spec) {
            qn_diag_add(&b->diags, QN_ERROR, "E-AT", (qn_place){0},
                        "a .qir text has no spec level");
            return QN_E_ARG;
        }
        qn_spec_print(b->spec, out);
        return QN_OK;
    }
    if (strcmp(at, "naive") == 0) {
        qn_print_file(b->naive, out);
        return QN_OK;
    }
    const char *forms[QN_MAX_PLANS];
    int n = qn_build_forms(b, forms);
    bool found = false;
    qn_status s = QN_OK;
    for (int k = 0; k < n && s == QN_OK; k++) {
        if (!plan || strcmp(plan, forms[k]) == 0) {
            found = true;
            s = dump_plan(b, at, forms[k], out);
        }
    }
    if (found) {
        return s;
    }
    qn_diag_add(&b->diags, QN_ERROR, "E-PLAN", (qn_place){0}, "there is no plan %s", plan);
    return QN_E_ARG;
}

const char *qn_dump(qn_ctx *cx, qn_source source, const qn_options *options, const char *at,
                    const char *plan)
{
    jmp_buf oom;
    qn_build b;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_build_fini(&b, QN_E_MEMORY);
        return NULL;
    }
    qn_build_start(&b);
    qn_status s = qn_build_source(&b, source, options);
    qn_buf out = qn_buf_of(&b.arena);
    qn_buf_puts(&out, "");
    s = s == QN_OK ? dump(&b, at, plan, &out) : s;
    const char *text = s == QN_OK ? answer(cx, out.text) : NULL;
    qn_build_fini(&b, s);
    return text;
}

const char *qn_opt(qn_ctx *cx, qn_source source, const qn_options *options, const char *passes)
{
    jmp_buf oom;
    qn_build b;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_build_fini(&b, QN_E_MEMORY);
        return NULL;
    }
    qn_build_start(&b);
    qn_options o = options ? *options : (qn_options){.size = sizeof o};
    o.flags |= QN_COMPILE_TRUST; /* the text is only shown, and shown as it is */
    qn_status s = qn_build_source(&b, source, &o);
    const char *text = NULL;
    if (s == QN_OK) {
        qn_schedule *schedule = b.user;
        qn_pass_cx pcx = {&b.ir, &b.scratch, schedule, &b.target->machine, &b.diags};
        qn_pipeline_options po = {
            .only = passes, .verify = true, .reparse = (o.flags & QN_COMPILE_REPARSE) != 0};
        const char *name = b.kernel->name;
        if (qn_pipeline_run(&pcx, &b.naive, name, &po)) {
            qn_buf out = qn_buf_of(&b.arena);
            qn_print_file(b.naive, &out);
            text = answer(cx, out.text);
        } else {
            s = QN_E_SPEC;
        }
    }
    qn_build_fini(&b, s);
    return text;
}

/* ---------------------------------------------------------------- signature */

qn_status qn_signature(qn_ctx *cx, qn_source source, const qn_options *options, qn_kernel **out)
{
    *out = NULL;
    jmp_buf oom;
    qn_build b;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_build_fini(&b, QN_E_MEMORY);
        return QN_E_MEMORY;
    }
    qn_build_start(&b);
    qn_status s = qn_build_source(&b, source, options);
    if (s == QN_OK) {
        s = qn_build_signature(&b, out);
    }
    qn_build_fini(&b, s);
    return s;
}

static const qn_dim_slot *given_dim(const qn_kernel *k, int index)
{
    for (int d = 0; k && d < k->plans[0].ndims; d++) {
        if (k->plans[0].dims[d].given && index-- == 0) {
            return &k->plans[0].dims[d];
        }
    }
    return NULL;
}

int qn_kernel_dims(const qn_kernel *k)
{
    int n = 0;
    while (given_dim(k, n)) {
        n++;
    }
    return n;
}

const char *qn_kernel_dim(const qn_kernel *k, int index)
{
    const qn_dim_slot *d = given_dim(k, index);
    return d ? d->name : NULL;
}

/* ---------------------------------------------------------------- check */

/* Runs a kernel with workspace of its own when the call brings none. */
static qn_status run_with_workspace(const qn_kernel *k, const qn_call *call)
{
    qn_call c = *call;
    size_t bytes;
    qn_status s = qn_workspace(k, &c, &bytes);
    if (s != QN_OK || (c.workspace && c.workspace_bytes >= bytes)) {
        return s == QN_OK ? qn_run(k, &c) : s;
    }
    char *raw = k->alloc.realloc_fn(k->alloc.user, NULL, 0, bytes + 64);
    if (!raw) {
        return QN_E_MEMORY;
    }
    c.workspace = raw + (64 - (uintptr_t)raw % 64) % 64;
    c.workspace_bytes = bytes;
    s = qn_run(k, &c);
    k->alloc.realloc_fn(k->alloc.user, raw, bytes + 64, 0);
    return s;
}

static int64_t array_size(const qn_array *x)
{
    int64_t n = 1;
    for (int a = 0; a < x->rank; a++) {
        n *= x->shape[a];
    }
    return n;
}

/* Folds the verdict of one output into the result. */
static void note(qn_check_result *out, qn_verdict v, const char *name)
{
    out->elements += v.compared;
    out->skipped += v.skipped;
    if (v.compared && (v.worst > out->worst || !out->output)) {
        out->worst = v.worst;
        out->output = name;
        out->index = v.at;
    }
}

/* Compares one output with what the definition says, by the formula and by the second rule, whose
 * floor is 4 u sum p |v|: `mass` is the output for |v|, or NULL. */
static void compare(const qn_array *have, const qn_array *want, const qn_array *naive,
                    const qn_array *mass, const char *name, qn_check_result *out)
{
    int64_t n = array_size(want);
    if (!want->f) {
        note(out, qn_tolerance_check_int(want->i, want->bound, have->i, n), name);
        return;
    }
    note(out, qn_tolerance_check(want->f, want->bound, have->f, n, want->dtype), name);
    double largest = 0;
    for (int64_t e = 0; e < n; e++) {
        double error =
            isfinite(want->f[e]) && isfinite(have->f[e]) ? fabs(want->f[e] - have->f[e]) : 0;
        out->max_abs = error > out->max_abs ? error : out->max_abs;
        double size = mass && isfinite(mass->f[e]) ? fabs(mass->f[e])
                      : isfinite(want->f[e])       ? fabs(want->f[e])
                                                   : 0;
        largest = size > largest ? size : largest;
    }
    if (naive) {
        double least = 4 * qn_unit_roundoff(want->dtype) * largest;
        qn_verdict v = qn_tolerance_twice(want->f, naive->f, have->f, n, least);
        out->worst_naive = v.worst > out->worst_naive ? v.worst : out->worst_naive;
    }
}

static const qn_array *find_array(const qn_arg *args, int n, const char *name)
{
    for (int k = 0; k < n; k++) {
        if (strcmp(args[k].name, name) == 0) {
            return &args[k].array;
        }
    }
    return NULL;
}

/* Is the score itself the weight? Then weights have signs, and |p| needs |q| and |k|. */
static bool signed_weights(const qn_spec *s)
{
    for (int g = 0; g < s->groups.count; g++) {
        const qn_norm *n = s->groups.at[g].norm;
        const qn_expr *w = n ? n->weight : NULL;
        bool wrapped = w && w->kind == QN_OP && w->u.op.op == QN_OP_SELECT; /* 0 at -inf */
        w = wrapped ? w->u.op.args.at[2] : w;
        if (w && w->kind == QN_NAME) {
            return true;
        }
    }
    return false;
}

/* The same arguments with |v| in the place of v. */
static qn_arg *magnitudes(qn_build *b, const qn_arg *args, int n)
{
    qn_arg *copy = QN_NEWN(&b->arena, qn_arg, n + 1);
    memcpy(copy, args, sizeof *args * (size_t)n);
    for (int k = 0; k < n; k++) {
        bool is_v = strcmp(copy[k].name, "v") == 0;
        bool is_qk = strcmp(copy[k].name, "q") == 0 || strcmp(copy[k].name, "k") == 0;
        if ((is_v || (is_qk && signed_weights(b->spec))) && copy[k].array.f) {
            int64_t count = array_size(&copy[k].array);
            double *f = QN_NEWN(&b->arena, double, count + 1);
            for (int64_t e = 0; e < count; e++) {
                f[e] = fabs(copy[k].array.f[e]);
            }
            copy[k].array.f = f;
        }
    }
    return copy;
}

static qn_status check(qn_build *b, qn_kernel *k, const qn_call *call, bool oracle,
                       qn_check_result *out)
{
    int n;
    qn_arg *args = qn_args_of_call(&b->arena, k, call, &n);
    qn_status s = run_with_workspace(k, call);
    if (s != QN_OK && s != QN_E_INDEX) {
        qn_diag_add(&b->diags, QN_ERROR, "E-RUN", (qn_place){0}, "%s",
                    call->message && call->message[0] ? call->message : qn_status_text(s));
        return s;
    }
    bool raised = s == QN_E_INDEX;
    qn_arg *want = NULL, *naive = NULL, *mass = NULL;
    int nwant = 0;
    const char *flag = NULL;
    if (b->spec && !oracle) {
        qn_definition def, rough, sizes;
        if (!qn_define(b->spec, args, n, QN_DEFINE_EXACT, &def, &b->diags) ||
            !qn_define(b->spec, args, n, QN_DEFINE_NAIVE, &rough, &b->diags)) {
            return QN_E_SPEC;
        }
        qn_arg *positive = magnitudes(b, args, n);
        if (!qn_define(b->spec, positive, n, QN_DEFINE_EXACT, &sizes, &b->diags)) {
            return QN_E_SPEC;
        }
        mass = sizes.outs;
        want = def.outs;
        nwant = def.nouts;
        naive = rough.outs;
        flag = def.flag;
    } else {
        qn_interp_options io = {.mode = QN_EXACT};
        qn_interp_result r;
        if (!qn_interp(b->naive, b->kernel, args, n, &io, &r, &b->diags)) {
            return QN_E_SPEC;
        }
        want = r.outs;
        nwant = r.nouts;
        flag = r.flag;
    }
    for (int t = 0; t < k->ntensors; t++) {
        const qn_tensor_slot *slot = &k->tensors[t];
        const qn_array *w =
            slot->info.kind != QN_ARG_IN ? find_array(want, nwant, slot->info.name) : NULL;
        if (w) {
            qn_array have = qn_array_of_tensor(&b->arena, call->args[t], slot->dtype);
            compare(&have, w, naive ? find_array(naive, nwant, slot->info.name) : NULL,
                    mass && strcmp(slot->info.name, "o") == 0 ? find_array(mass, nwant, "o") : NULL,
                    slot->info.name, out);
        }
    }
    if (raised != (flag != NULL)) {
        out->worst = INFINITY;
        out->output = "(flag)";
    }
    return QN_OK;
}

qn_status qn_check(qn_ctx *cx, qn_source source, const qn_options *options, const qn_call *call,
                   int use_oracle, qn_check_result *out)
{
    return qn_check_with(cx, source, options, NULL, call, use_oracle, out);
}

qn_status qn_check_with(qn_ctx *cx, qn_source source, const qn_options *options, qn_kernel *with,
                        const qn_call *call, int use_oracle, qn_check_result *out)
{
    qn_kernel *volatile k = NULL;
    jmp_buf oom;
    qn_build b;
    *out = (qn_check_result){.size = sizeof *out};
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_kernel_destroy(k);
        qn_build_fini(&b, QN_E_MEMORY);
        return QN_E_MEMORY;
    }
    qn_build_start(&b);
    qn_kernel *made = NULL;
    qn_status s = with ? qn_build_source(&b, source, options)
                       : qn_build_all(&b, source, options, false, &made);
    k = made;
    made = with ? with : made;
    s = s == QN_OK ? check(&b, made, call, use_oracle != 0, out) : s;
    /* names of outputs belong to the kernel, which goes: point at something that stays */
    if (out->output) {
        for (int a = 0; a < call->nargs && made; a++) {
            if (qn_kernel_arg(made, a) && qn_kernel_arg(made, a)->name == out->output) {
                const char *kept = answer(cx, out->output);
                out->output = kept ? kept : "";
                break;
            }
        }
    }
    qn_build_fini(&b, s);
    qn_kernel_destroy(k);
    return s;
}

/* ---------------------------------------------------------------- counts */

static qn_status count_oracle(qn_build *b, const qn_plan_build *p, qn_kernel *k,
                              const qn_call *call, qn_count_result *out)
{
    int n;
    qn_arg *args = qn_args_of_call(&b->arena, k, call, &n);
    qn_interp_options o = {.mode = QN_TYPED};
    qn_interp_result r;
    if (!qn_interp(p->file, p->kernel, args, n, &o, &r, &b->diags)) {
        return QN_E_SPEC;
    }
    const qn_array *x = find_array(r.outs, r.nouts, "counts");
    if (!x) {
        return QN_E_INTERNAL;
    }
    out->tiles = x->i[0];
    out->elements = x->i[1];
    return QN_OK;
}

/* Runs the kernel with counters in it, and the very same text in the interpreter. */
static qn_status count(qn_build *b, qn_kernel *k, const qn_plan_build *plans, int nplans,
                       const qn_call *call, qn_count_result *machine, qn_count_result *oracle)
{
    int at = qn_kernel_arg_index(k, "counts");
    if (at != call->nargs) {
        qn_diag_add(&b->diags, QN_ERROR, "E-COUNT", (qn_place){0},
                    "this kernel has no loop to count");
        return QN_E_ARG;
    }
    int64_t counts[2] = {0, 0}, shape[1] = {2};
    DLTensor t = {
        .data = counts, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLInt, 64, 1}, .shape = shape};
    const DLTensor **list = QN_NEWN(&b->arena, const DLTensor *, call->nargs + 1);
    memcpy(list, call->args, sizeof *list * (size_t)call->nargs);
    list[at] = &t;
    qn_call c = *call;
    c.args = list;
    c.nargs = call->nargs + 1;
    qn_status s = run_with_workspace(k, &c);
    if (s != QN_OK && s != QN_E_INDEX) {
        qn_diag_add(&b->diags, QN_ERROR, "E-RUN", (qn_place){0}, "%s",
                    call->message && call->message[0] ? call->message : qn_status_text(s));
        return s;
    }
    machine->tiles = counts[0];
    machine->elements = counts[1];
    counts[0] = counts[1] = 0;
    const char *plan = qn_kernel_plan(k, &c);
    for (int p = 0; p < nplans; p++) {
        if (nplans == 1 || (plan && strcmp(plan, plans[p].form) == 0)) {
            return count_oracle(b, &plans[p], k, &c, oracle);
        }
    }
    return QN_E_INTERNAL;
}

qn_status qn_count(qn_ctx *cx, qn_source source, const qn_options *options, const qn_call *call,
                   qn_count_result *machine, qn_count_result *oracle)
{
    qn_kernel *volatile k = NULL;
    jmp_buf oom;
    qn_build b;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_kernel_destroy(k);
        qn_build_fini(&b, QN_E_MEMORY);
        return QN_E_MEMORY;
    }
    qn_build_start(&b);
    qn_status s = qn_build_source(&b, source, options);
    const char *forms[QN_MAX_PLANS];
    qn_plan_build plans[QN_MAX_PLANS];
    int n = s == QN_OK ? qn_build_forms(&b, forms) : 0;
    for (int p = 0; p < n && s == QN_OK; p++) {
        s = qn_build_plan(&b, forms[p], NULL, true, &plans[p]);
    }
    qn_kernel *made = NULL;
    s = s == QN_OK ? qn_build_kernel(&b, plans, n, &made) : s;
    k = made;
    s = s == QN_OK ? count(&b, made, plans, n, call, machine, oracle) : s;
    qn_build_fini(&b, s);
    qn_kernel_destroy(made);
    return s;
}
