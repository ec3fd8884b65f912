/* SPDX-License-Identifier: MIT
 *
 * The driver: source -> spec -> naive IR -> passes -> target -> kernel.
 *
 * One compilation lives in the arenas of a qn_build. Every unwinding for want of memory lands in
 * the setjmp of the public entry point; nothing but arenas, the source's text and mapped blobs has
 * to be given back, and qn_build_fini does that. */
#include "runtime/internal.h"

#include "backends/x86/blob.h"
#include "dsl/load.h"
#include "frontend/frontend.h"
#include "ir/build.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "ir/walk.h"
#include "runtime/build.h"

#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- reading the source */

static char *read_file(qn_arena *a, const char *path, size_t *length)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        return NULL;
    }
    qn_buf b = qn_buf_of(a);
    qn_buf_puts(&b, "");
    char block[1 << 14];
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0 && b.length < ((size_t)1 << 26)) {
        qn_buf_put(&b, block, n);
    }
    bool bad = ferror(f) != 0;
    fclose(f);
    *length = b.length;
    return bad ? NULL : b.text;
}

typedef struct sibling { /* `require` served from files beside the spec */
    qn_arena *arena;
    const char *path;
} sibling;

static const char *read_sibling(void *user, const char *name, size_t *length)
{
    const sibling *s = user;
    for (const char *p = name; *p;
         p++) { /* a plain name, so that nothing outside the folder is read */
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
              *p == '_' || *p == '-')) {
            return NULL;
        }
    }
    const char *slash = s->path ? strrchr(s->path, '/') : NULL;
    qn_buf b = qn_buf_of(s->arena);
    qn_buf_put(&b, s->path ? s->path : "", slash ? (size_t)(slash - s->path) + 1 : 0);
    qn_buf_printf(&b, "%s.lua", name);
    return read_file(s->arena, b.text, length);
}

static bool ends_with(const char *t, const char *end)
{
    size_t n = strlen(t), m = strlen(end);
    return n >= m && strcmp(t + n - m, end) == 0;
}

static qn_status take_text(qn_build *b, const qn_source *s)
{
    if (s->size != sizeof *s) {
        qn_diag_add(&b->diags, QN_ERROR, "E-ARG", (qn_place){0},
                    "qn_source.size is not sizeof(qn_source)");
        return QN_E_ARG;
    }
    b->path = s->path ? s->path : "spec";
    b->pick = s->pick;
    if (s->pick && s->path && s->pick > s->path && s->pick <= s->path + strlen(s->path)) {
        b->path =
            qn_arena_text(&b->arena, s->path, (size_t)(s->pick - s->path) - 1); /* "path:name" */
    }
    if (s->text) {
        b->text = qn_arena_text(&b->arena, s->text, s->length);
        b->length = s->length;
    } else {
        b->text = s->path ? read_file(&b->arena, b->path, &b->length) : NULL;
        if (!b->text) {
            qn_diag_add(&b->diags, QN_ERROR, "E-IO", (qn_place){0}, "the file cannot be read")
                ->path = b->path;
            return QN_E_IO;
        }
    }
    b->diags.path = b->path;
    b->diags.source = b->text;
    return QN_OK;
}

/* ---------------------------------------------------------------- the schedule of the user */

static qn_status take_schedule(qn_build *b)
{
    b->user = qn_schedule_new(&b->ir, "@user", b->target->name);
    const qn_schedule *from = b->spec ? NULL : qn_file_schedule(b->naive, b->kernel->name + 1);
    const char *text = b->options->schedule;
    qn_diags d;
    qn_diags_init(&d, &b->arena, "schedule", text);
    if (text) {
        qn_buf t = qn_buf_of(&b->arena);
        const char *first = text + strspn(text, " \t\r\n");
        if (strncmp(first, "schedule", 8) == 0) {
            qn_buf_puts(&t, text);
        } else {
            qn_buf_printf(&t, "schedule @user for \"any\" { %s\n}", text);
        }
        d.source = t.text;
        qn_ir_file *f = qn_parse(&b->ir, t.text, t.length, &d);
        from = f ? qn_file_schedule(f, NULL) : NULL;
        if (!from) {
            b->diags = d;
            if (!d.errors) {
                qn_diag_add(&b->diags, QN_ERROR, "E-SCHED", (qn_place){0},
                            "the schedule text holds no schedule");
            }
            return QN_E_SPEC;
        }
    }
    for (int k = 0; from && k < from->lines.count; k++) {
        qn_sched_line line = from->lines.at[k];
        line.by = line.by ? line.by : qn_intern(&b->ir, "user");
        QN_PUSH(&b->arena, &b->user->lines, line);
    }
    return QN_OK;
}

/* ---------------------------------------------------------------- up to naive IR */

static qn_expr *guard_load(void *user, qn_expr *x)
{
    if (x->kind != QN_LOAD || x->u.load.guarded) {
        return x;
    }
    return qn_load(user, x->u.load.base, x->u.load.index.at, x->u.load.index.count, true, NULL);
}

static void forget_facts(void *user, qn_stmt *s)
{
    (void)user;
    qn_attr_remove(&s->attrs, "in");
}

/* A text from outside promises: bare loads and !in are proved again by `bare`, or stay guarded.
 */
static void distrust(qn_build *b, qn_kernel_ir *k)
{
    qn_block_rewrite(&b->ir, &k->body, guard_load, &b->ir);
    qn_block_stmts(&k->body, forget_facts, NULL);
}

static bool is_leaf(const qn_kernel_ir *k)
{
    const qn_attr *a = qn_attr_find(&k->attrs, "level");
    return a && a->nargs == 1 && a->args[0].lo->kind == QN_NAME &&
           strcmp(a->args[0].lo->u.name, "leaf") == 0;
}

static qn_status source_qir(qn_build *b)
{
    b->naive = qn_parse(&b->ir, b->text, b->length, &b->diags);
    if (!b->naive || !qn_verify(b->naive, &b->diags) || !qn_verify_laws(b->naive, &b->diags)) {
        return QN_E_SPEC;
    }
    b->kernel = qn_file_kernel(b->naive, b->pick);
    if (!b->kernel) {
        qn_diag_add(&b->diags, QN_ERROR, "E-PICK", (qn_place){0},
                    b->pick ? "there is no kernel %s" : "there is no kernel%s",
                    b->pick ? b->pick : "");
        return QN_E_SPEC;
    }
    /* kernels of which all but the last have a condition are the plans of one */
    for (int k = 0; k < b->naive->items.count; k++) {
        const qn_item *it = &b->naive->items.at[k];
        if (it->kind == QN_ITEM_KERNEL && (!b->pick || it->u.kernel == b->kernel) &&
            b->nplans < QN_MAX_PLANS) {
            b->plans[b->nplans++] = it->u.kernel;
        }
    }
    for (int n = 0; n < b->nplans; n++) {
        bool plan = qn_attr_find(&b->plans[n]->attrs, "plan") != NULL;
        if (plan != (n + 1 < b->nplans) && b->nplans > 1) {
            b->plans[0] = b->kernel; /* unrelated kernels: the first */
            b->nplans = 1;
        }
    }
    for (int n = 0; n < b->nplans && !(b->options->flags & QN_COMPILE_TRUST); n++) {
        distrust(b, b->plans[n]);
    }
    return QN_OK;
}

static qn_status source_lua(qn_build *b, const qn_source *s)
{
    sibling beside = {&b->arena, b->path};
    qn_dsl_options o = {s->read ? s->read : read_sibling, s->read ? s->user : &beside, 0, 0};
    const qn_host_value *v =
        qn_dsl_load(&b->ir, b->path, b->text, b->length, b->pick, &o, &b->diags);
    if (!v) {
        return QN_E_SPEC;
    }
    qn_spec_options so = {.types = b->options->types, .dims = b->options->dims};
    b->spec = qn_spec_check(&b->ir, v, &so, &b->diags);
    if (!b->spec || b->diags.errors) {
        return QN_E_SPEC;
    }
    b->naive = qn_lower(&b->ir, b->spec, &b->diags);
    if (!b->naive) {
        return b->diags.errors ? QN_E_SPEC : QN_E_INTERNAL;
    }
    b->kernel = qn_file_kernel(b->naive, NULL);
    for (int d = 0; d < b->kernel->dims.count; d++) {
        const qn_dim *x = &b->kernel->dims.at[d];
        if (!x->value && (strcmp(x->name, "D") == 0 || strcmp(x->name, "Dv") == 0)) {
            qn_diag_add(&b->diags, QN_REMARK, "W-DYND", (qn_place){0},
                        "the head size %s is open, so register blocks cannot have its extent: slow",
                        x->name)
                ->help = "fix it: .dims = \"D=64\"";
        }
    }
    return qn_verify(b->naive, &b->diags) ? QN_OK : QN_E_INTERNAL;
}

qn_status qn_build_source(qn_build *b, qn_source source, const qn_options *options)
{
    static const qn_options none = {.size = sizeof(qn_options)};
    b->options = options ? options : &none;
    if (b->options->size != sizeof *b->options) {
        qn_diag_add(&b->diags, QN_ERROR, "E-ARG", (qn_place){0},
                    "qn_options.size is not sizeof(qn_options)");
        return QN_E_ARG;
    }
    b->target = qn_target_find(b->options->target);
    if (!b->target) {
        qn_diag_add(&b->diags, QN_ERROR, "E-TARGET", (qn_place){0}, "there is no target %s",
                    b->options->target ? b->options->target : "for this machine");
        return QN_E_TARGET;
    }
    qn_status s = take_text(b, &source);
    if (s != QN_OK) {
        return s;
    }
    bool qir = source.kind == QN_SOURCE_QIR ||
               (source.kind == QN_SOURCE_AUTO && ends_with(b->path, ".qir"));
    s = qir ? source_qir(b) : source_lua(b, &source);
    return s == QN_OK ? take_schedule(b) : s;
}

/* ---------------------------------------------------------------- one plan */

int qn_build_forms(const qn_build *b, const char *forms[QN_MAX_PLANS])
{
    if (!b->spec) {
        for (int n = 0; n < b->nplans; n++) {
            forms[n] = b->plans[n]->name + 1;
        }
        return b->nplans;
    }
    forms[0] = "decode";
    forms[1] = "prefill";
    return 2;
}

/* The decode plan is for calls with few rows: all rows of a group of heads are one small tile. */
static void add_plan_condition(qn_build *b, qn_kernel_ir *k, const char *form)
{
    if (strcmp(form, "decode") != 0) {
        return;
    }
    qn_diags d;
    qn_diags_init(&d, &b->arena, "plan", NULL);
    static const char cond[] = "Nq <= 4";
    qn_attr_arg arg = {qn_parse_expr(&b->ir, cond, sizeof cond - 1, &d), NULL};
    qn_attr_add(&b->ir, &k->attrs, "plan", &arg, 1);
}

qn_status qn_build_plan(qn_build *b, const char *form, const char *stop, bool count,
                        qn_plan_build *out)
{
    *out = (qn_plan_build){.form = form};
    out->file = qn_file_copy(b->naive);
    out->kernel = qn_file_kernel(out->file, b->spec ? b->kernel->name : form);
    if (b->spec) {
        qn_buf name = qn_buf_of(&b->arena);
        qn_buf_printf(&name, "%s_%s", b->kernel->name, form);
        out->kernel->name = qn_intern(&b->ir, name.text);
        add_plan_condition(b, out->kernel, form);
    }
    bool trusted = !b->spec && (b->options->flags & QN_COMPILE_TRUST);
    out->schedule = qn_schedule_new(&b->ir, b->kernel->name, b->target->name);
    for (int k = 0; k < b->user->lines.count; k++) {
        QN_PUSH(&b->arena, &out->schedule->lines, b->user->lines.at[k]);
    }
    bool leaf = is_leaf(out->kernel);
    if (!leaf) {
        qn_schedule_defaults(&b->ir, out->schedule, &b->target->machine, out->file, out->kernel,
                             form);
    }
    qn_pass_cx cx = {&b->ir, &b->scratch, out->schedule, &b->target->machine, &b->diags};
    bool reparse = (b->options->flags & QN_COMPILE_REPARSE) != 0;
    qn_pipeline_options po = {.stop = stop, .reparse = reparse, .verify = reparse};
    if (leaf) {
        po.only = trusted ? "" : "bare";
    }
    const char *name = out->kernel->name;
    if (!qn_pipeline_run(&cx, &out->file, name, &po)) {
        return b->diags.errors ? QN_E_SPEC : QN_E_INTERNAL;
    }
    if (count) {
        qn_pipeline_options counting = {.only = "count", .reparse = reparse};
        if (!qn_pipeline_run(&cx, &out->file, name, &counting)) {
            return QN_E_INTERNAL;
        }
    }
    out->kernel = qn_file_kernel(out->file, name);
    return qn_verify(out->file, &b->diags) ? QN_OK : QN_E_INTERNAL;
}

/* ---------------------------------------------------------------- the kernel */

static DLDataType dl_type(qn_dtype t)
{
    uint8_t code = t == QN_BF16                 ? (uint8_t)kDLBfloat
                   : qn_dtype_is_float(t)       ? (uint8_t)kDLFloat
                   : t == QN_BOOL || t == QN_U8 ? (uint8_t)kDLUInt
                                                : (uint8_t)kDLInt;
    return (DLDataType){code, (uint8_t)(8 * qn_dtype_bytes(t)), 1};
}

static char *keep(qn_kernel *k, const char *t)
{
    return qn_arena_text(&k->arena, t, strlen(t));
}

static int dim_index(const qn_kernel_ir *k, qn_sym name)
{
    for (int d = 0; d < k->dims.count; d++) {
        if (k->dims.at[d].name == name) {
            return d;
        }
    }
    return -1;
}

static void keep_tensor(qn_kernel *k, const qn_kernel_ir *ir, qn_tensor_slot *slot,
                        const qn_param *p)
{
    slot->dtype = p->type.dtype;
    slot->rank = p->type.rank;
    const char **dims = QN_NEWN(&k->arena, const char *, p->type.rank + 1);
    for (int a = 0; a < p->type.rank; a++) {
        qn_extent e = p->type.axes[a].extent;
        int d = e.dim ? dim_index(ir, e.dim) : -1;
        const qn_expr *fixed = d >= 0 ? ir->dims.at[d].value : NULL;
        if (fixed && fixed->kind == QN_LIT) { /* a size that is compiled in is a number */
            e = (qn_extent){NULL, fixed->u.lit.i};
        }
        char number[128];
        snprintf(number, sizeof number, "%lld", (long long)e.n);
        if (e.dim && fixed && fixed->kind == QN_OP && fixed->u.op.args.count == 2 &&
            fixed->u.op.args.at[0]->kind == QN_NAME && fixed->u.op.args.at[1]->kind == QN_LIT) {
            /* a size made from another reads as it was declared: Nk+1 */
            snprintf(number, sizeof number, "%.64s%s%lld", fixed->u.op.args.at[0]->u.name,
                     qn_op_info_of(fixed->u.op.op)->text,
                     (long long)fixed->u.op.args.at[1]->u.lit.i);
            dims[a] = keep(k, number);
        } else {
            dims[a] = keep(k, e.dim ? e.dim : number);
        }
        slot->extent[a] = e.n;
    }
    slot->info = (qn_arg_info){keep(k, p->name),
                               p->direction == QN_IN    ? QN_ARG_IN
                               : p->direction == QN_OUT ? QN_ARG_OUT
                                                        : QN_ARG_INOUT,
                               dl_type(p->type.dtype), p->type.rank, dims};
}

static void keep_scalar(qn_kernel *k, qn_scalar_slot *slot, const qn_param *p)
{
    slot->name = keep(k, p->name);
    slot->dtype = p->type.dtype;
    slot->value.dtype = dl_type(p->type.dtype);
    const qn_expr *x = p->value;
    bool minus = x && x->kind == QN_OP && x->u.op.op == QN_OP_NEG;
    x = minus ? x->u.op.args.at[0] : x;
    if (x && x->kind == QN_LIT) {
        slot->has_default = true;
        double f = x->u.lit.type == QN_FLT_LIT ? x->u.lit.f : (double)x->u.lit.i;
        if (qn_dtype_is_float(p->type.dtype)) {
            slot->value.u.f = minus ? -f : f;
        } else {
            slot->value.u.i = minus ? -x->u.lit.i : x->u.lit.i;
        }
    }
}

static void keep_params(qn_kernel *k, const qn_kernel_ir *ir)
{
    k->tensors = QN_NEWN(&k->arena, qn_tensor_slot, ir->params.count + 1);
    k->scalars = QN_NEWN(&k->arena, qn_scalar_slot, ir->params.count + 1);
    for (int p = 0; p < ir->params.count; p++) {
        const qn_param *x = &ir->params.at[p];
        if (x->type.rank || x->direction != QN_IN) {
            keep_tensor(k, ir, &k->tensors[k->ntensors++], x);
        } else {
            keep_scalar(k, &k->scalars[k->nscalars++], x);
        }
    }
}

typedef struct buf_test {
    bool hit;
} buf_test;

static bool reads_buf(void *user, const qn_expr *x)
{
    if (x->kind == QN_LOAD && x->u.load.base[0] == '%') {
        ((buf_test *)user)->hit = true;
    }
    return true;
}

/* Do the par ranges of this launch read what an earlier launch wrote? */
static bool listed(const qn_stmt *launch)
{
    buf_test t = {false};
    for (int n = 0; n < launch->u.launch.count; n++) {
        const qn_stmt *nest = launch->u.launch.at[n];
        for (int i = 0; i < nest->u.loop.niters; i++) {
            const qn_iter *it = &nest->u.loop.iters[i];
            for (int p = 0; p < it->npieces; p++) {
                t.hit |= it->pieces[p].list != NULL && it->pieces[p].list[0] == '%';
                for (int j = 0; j < it->pieces[p].index.count; j++) {
                    qn_visit(it->pieces[p].index.at[j], reads_buf, &t);
                }
                qn_visit(it->pieces[p].lo, reads_buf, &t);
                qn_visit(it->pieces[p].hi, reads_buf, &t);
            }
        }
        if (nest->u.loop.cost) {
            qn_visit(nest->u.loop.cost, reads_buf, &t);
        }
    }
    return t.hit;
}

/* Scalars named between launches may stand for a load; then their users count as listed too. */
static bool lets_read_bufs(const qn_kernel_ir *ir)
{
    buf_test t = {false};
    for (int s = 0; s < ir->body.count; s++) {
        if (ir->body.at[s]->kind == QN_LET) {
            qn_visit(ir->body.at[s]->u.let.x, reads_buf, &t);
        }
    }
    return t.hit;
}

static void keep_plan(qn_kernel *k, qn_plan *p, const qn_plan_build *from)
{
    const qn_kernel_ir *ir = from->kernel;
    p->name = keep(k, from->form[0] ? from->form : "only");
    p->code = from->emitted.code;
    p->code.bytes = NULL; /* the kernel has it mapped */
    p->ndims = ir->dims.count;
    p->dims = QN_NEWN(&k->arena, qn_dim_slot, ir->dims.count + 1);
    for (int d = 0; d < ir->dims.count; d++) {
        const qn_dim *x = &ir->dims.at[d];
        bool literal = x->value && x->value->kind == QN_LIT;
        p->dims[d] =
            (qn_dim_slot){keep(k, x->name), x->value == NULL, literal ? x->value->u.lit.i : -1};
    }
    p->nrequires = ir->requires.count;
    p->requires = QN_NEWN(&k->arena, const char *, ir->requires.count + 1);
    for (int r = 0; r < ir->requires.count; r++) {
        p->requires[r] = keep(k, ir->requires.at[r].text);
    }
    p->axis_dim =
        (int32_t(*)[QN_MAX_AXES])QN_NEWN(&k->arena, int32_t, (k->ntensors + 1) * QN_MAX_AXES);
    for (int q = 0, t = 0; q < ir->params.count; q++) {
        const qn_param *x = &ir->params.at[q];
        if (x->type.rank || x->direction != QN_IN) {
            for (int a = 0; a < x->type.rank; a++) {
                p->axis_dim[t][a] =
                    x->type.axes[a].extent.dim ? dim_index(ir, x->type.axes[a].extent.dim) : -1;
            }
            t++;
        }
    }
    bool lets = lets_read_bufs(ir);
    for (int s = 0, l = 0; s < ir->body.count; s++) {
        if (ir->body.at[s]->kind == QN_LAUNCH && l < QN_MAX_LAUNCHES) {
            p->listed[l] = l > 0 && (lets || listed(ir->body.at[s]));
            l++;
        }
    }
}

/* An empty kernel with an arena of its own; *oom is the caller's. */
static qn_kernel *new_kernel(qn_build *b, jmp_buf *oom)
{
    qn_alloc alloc = b->cx->alloc;
    qn_kernel *k = alloc.realloc_fn(alloc.user, NULL, 0, sizeof *k);
    if (k) {
        memset(k, 0, sizeof *k);
        k->alloc = alloc;
        k->target = b->target;
        qn_arena_init(&k->arena, &alloc, oom);
    }
    return k;
}

qn_status qn_build_signature(qn_build *b, qn_kernel **out)
{
    jmp_buf oom;
    qn_kernel *k = new_kernel(b, &oom);
    if (!k) {
        return QN_E_MEMORY;
    }
    if (setjmp(oom)) {
        qn_kernel_destroy(k);
        return QN_E_MEMORY;
    }
    keep_params(k, b->kernel);
    for (int t = 0; b->spec && t < k->ntensors; t++) {
        const qn_param *p = qn_spec_param_of(b->spec, qn_intern(&b->ir, k->tensors[t].info.name));
        k->tensors[t].sample = p ? p->sample : (qn_sample){0};
    }
    qn_plan_build p = {.form = "", .file = b->naive, .kernel = b->kernel};
    keep_plan(k, &k->plans[0], &p);
    k->explain = "";
    k->arena.oom = NULL;
    *out = k;
    return QN_OK;
}

qn_status qn_build_kernel(qn_build *b, qn_plan_build *plans, int nplans, qn_kernel **out)
{
    qn_emit_item items[QN_MAX_PLANS];
    qn_emitted emitted[QN_MAX_PLANS];
    for (int n = 0; n < nplans; n++) {
        if (plans[n].kernel->dims.count > QN_MAX_DIMS ||
            plans[n].kernel->params.count > QN_MAX_SCALARS) {
            qn_diag_add(&b->diags, QN_ERROR, "E-LIMIT", (qn_place){0},
                        "the kernel has more than %d sizes or %d parameters", QN_MAX_DIMS,
                        QN_MAX_SCALARS);
            return QN_E_SPEC;
        }
        items[n] = (qn_emit_item){plans[n].file, plans[n].kernel};
    }
    qn_status s = b->target->emit(b->target, &b->ir, items, nplans, &(qn_emit_options){0}, emitted,
                                  &b->diags);
    if (s != QN_OK) {
        return s;
    }
    b->cx->codegen_seconds += emitted[0].seconds_codegen;
    for (int n = 0; n < nplans; n++) {
        plans[n].emitted = emitted[n];
    }
    jmp_buf oom;
    qn_kernel *k = new_kernel(b, &oom);
    if (!k) {
        return QN_E_MEMORY;
    }
    if (setjmp(oom)) {
        qn_kernel_destroy(k);
        return QN_E_MEMORY;
    }
    keep_params(k, plans[0].kernel);
    k->map_size = emitted[0].code.size;
    k->map = qn_map_code(emitted[0].code.bytes, k->map_size);
    if (!k->map) {
        qn_kernel_destroy(k);
        return QN_E_MEMORY;
    }
    for (int n = 0; n < nplans; n++) {
        keep_plan(k, &k->plans[n], &plans[n]);
        k->plans[n].map = k->map;
        k->nplans = n + 1;
    }
    k->explain = keep(k, qn_build_explain(b, plans, nplans));
    const qn_emitted *e = &plans[nplans - 1].emitted;
    unsigned char *object = qn_arena_alloc(&k->arena, (size_t)e->object_size + 1, 64);
    memcpy(object, e->object, (size_t)e->object_size);
    k->object = object;
    k->object_size = e->object_size;
    k->arena.oom = NULL; /* nothing allocates in a finished kernel */
    *out = k;
    return QN_OK;
}

void qn_kernel_destroy(qn_kernel *k)
{
    if (!k) {
        return;
    }
    qn_unmap_code(k->map, k->map_size);
    qn_arena_fini(&k->arena);
    k->alloc.realloc_fn(k->alloc.user, k, sizeof *k, 0);
}

/* ---------------------------------------------------------------- the public entry */

static bool listed_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = words; p && *p; p += strcspn(p, " ,")) {
        p += strspn(p, " ,");
        if (strncmp(p, word, n) == 0 && (p[n] == 0 || p[n] == ' ' || p[n] == ',')) {
            return true;
        }
    }
    return false;
}

/* Remarks that the options make errors. */
static qn_status judge_remarks(qn_build *b)
{
    bool bad = false;
    for (int k = 0; k < b->diags.count; k++) {
        qn_diag *d = &b->diags.at[k];
        if (d->severity == QN_REMARK && listed_word(b->options->errors, d->code)) {
            d->severity = QN_ERROR;
            bad = true;
        }
    }
    return bad ? QN_E_REMARK : QN_OK;
}

void qn_build_init(qn_build *b, qn_ctx *cx, jmp_buf *oom)
{
    *b = (qn_build){.cx = cx};
    qn_arena_init(&b->arena, &cx->alloc, oom);
    qn_arena_init(&b->scratch, &cx->alloc, oom);
    qn_ctx_say(cx, NULL);
}

void qn_build_start(qn_build *b)
{
    qn_ir_init(&b->ir, &b->arena);
    qn_diags_init(&b->diags, &b->arena, NULL, NULL);
}

void qn_build_fini(qn_build *b, qn_status status)
{
    if (status != QN_OK && status != QN_E_MEMORY) {
        jmp_buf oom;
        b->arena.oom = &oom;
        if (setjmp(oom) == 0) {
            qn_buf t = qn_buf_of(&b->arena);
            qn_diags_print(&b->diags, QN_ERROR, &t);
            qn_ctx_say_text(b->cx, t.length ? t.text : qn_status_text(status));
        }
    } else if (status == QN_E_MEMORY) {
        qn_ctx_say(b->cx, "%s", qn_status_text(status));
    }
    qn_arena_fini(&b->scratch);
    qn_arena_fini(&b->arena);
}

qn_status qn_build_all(qn_build *b, qn_source source, const qn_options *options, bool count,
                       qn_kernel **out)
{
    qn_status s = qn_build_source(b, source, options);
    const char *forms[QN_MAX_PLANS];
    int n = s == QN_OK ? qn_build_forms(b, forms) : 0;
    qn_plan_build plans[QN_MAX_PLANS];
    for (int k = 0; k < n && s == QN_OK; k++) {
        s = qn_build_plan(b, forms[k], NULL, count, &plans[k]);
    }
    s = s == QN_OK ? judge_remarks(b) : s;
    return s == QN_OK ? qn_build_kernel(b, plans, n, out) : s;
}

qn_status qn_compile(qn_ctx *cx, qn_source source, const qn_options *options, qn_kernel **out)
{
    if (!cx || !out) {
        return QN_E_ARG;
    }
    *out = NULL;
    jmp_buf oom;
    qn_build b;
    double start = qn_now();
    cx->codegen_seconds = 0;
    qn_build_init(&b, cx, &oom);
    if (setjmp(oom)) {
        qn_build_fini(&b, QN_E_MEMORY);
        return QN_E_MEMORY;
    }
    qn_build_start(&b);
    qn_status s = qn_build_all(&b, source, options, false, out);
    qn_build_fini(&b, s);
    cx->seconds = qn_now() - start;
    return s;
}
