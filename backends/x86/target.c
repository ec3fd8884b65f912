/* SPDX-License-Identifier: MIT
 *
 * The three x86 targets: one emitter, a table of facts each. CPU features are pinned by target and
 * never the host's, so the object is a function of the text and the target alone. */
#include "backends/x86/blob.h"
#include "backends/x86/gen.h"
#include "backends/x86/helpers/helpers.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- facts */

static bool here_v4(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}

static bool here_v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2"); /* f16c comes with avx2 */
}

static bool here_v1(void)
{
    return true;
}

static const qn_isa isa_v4 = {"x86-64-v4", 16, true, true, true, true};
static const qn_isa isa_v3 = {"x86-64-v3", 8, true, true, true, false};
static const qn_isa isa_v1 = {"x86-64", 1, false, false, false, false};

static qn_status emit(const qn_target *t, qn_ir *ir, const qn_emit_item *items, int n,
                      const qn_emit_options *options, qn_emitted *out, qn_diags *d);

static const qn_target target_v4 = {
    .name = "x86-64-v4",
    .isa = "avx512",
    .machine = {"x86-64-v4", 16, 32, 32 << 10, 1 << 20},
    .here = here_v4,
    .emit = emit,
    .helpers = qn_helpers_table,
};
static const qn_target target_v3 = {
    .name = "x86-64-v3",
    .isa = "avx2",
    .machine = {"x86-64-v3", 8, 16, 32 << 10, 512 << 10},
    .here = here_v3,
    .emit = emit,
    .helpers = qn_helpers_table,
};
static const qn_target target_v1 = {
    .name = "x86-64",
    .isa = "scalar",
    .machine = {"x86-64", 1, 16, 32 << 10, 256 << 10},
    .here = here_v1,
    .emit = emit,
    .helpers = qn_helpers_table,
};

const qn_target *const qn_targets[] = {&target_v4, &target_v3, &target_v1, NULL};

static const qn_isa *isa_of(const qn_target *t)
{
    return t == &target_v4 ? &isa_v4 : t == &target_v3 ? &isa_v3 : &isa_v1;
}

const qn_target *qn_target_find(const char *name)
{
    const char *forced = name ? NULL : getenv("QUERN_ISA");
    for (int pass = 0; pass < 2; pass++) {
        for (const qn_target *const *t = qn_targets; *t; t++) {
            const char *want = name ? name : forced;
            bool match = !want || strcmp(want, (*t)->name) == 0 || strcmp(want, (*t)->isa) == 0;
            if (match && (name || (*t)->here())) {
                return *t;
            }
        }
        if (name) {
            return NULL;
        }
        forced = NULL; /* a wish that this machine cannot fulfil: its best */
    }
    return NULL;
}

/* ---------------------------------------------------------------- one emission */

/* LLVM's own objects, given back whatever happens. */
typedef struct session {
    const qn_llvm *l;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef b, entry;
    LLVMTargetMachineRef machine;
    LLVMTargetDataRef layout;
    LLVMMemoryBufferRef buffer;
} session;

static void close_session(session *s)
{
    const qn_llvm *l = s->l;
    if (s->buffer) {
        l->DisposeMemoryBuffer(s->buffer);
    }
    if (s->b) {
        l->DisposeBuilder(s->b);
    }
    if (s->entry) {
        l->DisposeBuilder(s->entry);
    }
    if (s->module) {
        l->DisposeModule(s->module);
    }
    if (s->layout) {
        l->DisposeTargetData(s->layout);
    }
    if (s->machine) {
        l->DisposeTargetMachine(s->machine);
    }
    if (s->context) {
        l->ContextDispose(s->context);
    }
}

static void quiet(LLVMDiagnosticInfoRef info, void *user)
{
    (void)info;
    (void)user;
}

static const char triple[] = "x86_64-unknown-linux-gnu";

static bool open_session(session *s, const qn_isa *isa, qn_diags *d)
{
    const qn_llvm *l = s->l;
    LLVMTargetRef target;
    char *error = NULL;
    if (l->GetTargetFromTriple(triple, &target, &error)) {
        l->DisposeMessage(error);
        qn_diag_add(d, QN_ERROR, "E-TOOL", (qn_place){0, 0, 0}, "LLVM knows no x86");
        return false;
    }
    s->machine = l->CreateTargetMachine(target, triple, isa->cpu, "", LLVMCodeGenLevelDefault,
                                        LLVMRelocPIC, LLVMCodeModelSmall);
    s->context = l->ContextCreate();
    l->ContextSetDiagnosticHandler(s->context, quiet, NULL);
    s->module = l->ModuleCreateWithNameInContext("quern", s->context);
    s->layout = l->CreateTargetDataLayout(s->machine);
    l->SetModuleDataLayout(s->module, s->layout);
    l->SetTarget(s->module, triple);
    s->b = l->CreateBuilderInContext(s->context);
    s->entry = l->CreateBuilderInContext(s->context);
    return true;
}

static void fill_types(qn_gen *g)
{
    const qn_llvm *l = g->l;
    LLVMContextRef c = g->context;
    g->i1 = l->IntTypeInContext(c, 1);
    g->i8 = l->IntTypeInContext(c, 8);
    g->i16 = l->IntTypeInContext(c, 16);
    g->i32 = l->IntTypeInContext(c, 32);
    g->i64 = l->IntTypeInContext(c, 64);
    g->f16 = l->HalfTypeInContext(c);
    g->f32 = l->FloatTypeInContext(c);
    g->f64 = l->DoubleTypeInContext(c);
    g->ptr = l->PointerTypeInContext(c, 0);
    g->none = l->VoidTypeInContext(c);
}

static bool emit_buffer(session *s, LLVMCodeGenFileType kind, qn_diags *d)
{
    char *error = NULL;
    if (s->buffer) {
        s->l->DisposeMemoryBuffer(s->buffer);
        s->buffer = NULL;
    }
    if (s->l->TargetMachineEmitToMemoryBuffer(s->machine, s->module, kind, &error, &s->buffer)) {
        qn_diag_add(d, QN_ERROR, "E-TOOL", (qn_place){0, 0, 0}, "LLVM: %s",
                    error ? error : "no code");
        s->l->DisposeMessage(error);
        s->buffer = NULL;
        return false;
    }
    return true;
}

/* Offsets of the functions of one kernel in the blob. */
static bool take_code(qn_ir *ir, const qn_blob *blob, const char *symbol,
                      const qn_emitted_names *names, qn_code *code, qn_diags *d)
{
    code->bytes = blob->bytes;
    code->size = blob->size;
    code->nlaunches = names->nlaunches;
    qn_buf name = qn_buf_of(ir->arena);
    qn_buf_printf(&name, "%s_setup", symbol);
    int64_t at = qn_blob_symbol(blob, name.text);
    bool good = at >= 0;
    code->setup = (uint32_t)at;
    for (int32_t i = 0; i < names->nlaunches && good; i++) {
        qn_abi_launch *l = &code->launches[i];
        *l = names->launches[i];
        for (int k = 0; k < 2; k++) {
            name = qn_buf_of(ir->arena);
            qn_buf_printf(&name, "%s_%s%d", symbol, k ? "task" : "list", i);
            at = qn_blob_symbol(blob, name.text);
            good = good && at >= 0;
            *(k ? &l->task : &l->list) = (uint32_t)at;
        }
    }
    if (!good) {
        qn_diag_add(d, QN_ERROR, "E-EMIT", (qn_place){0, 0, 0},
                    "a function is missing in the object");
    }
    return good;
}

/* From LLVM's buffer to an object of ours and a blob. */
static bool take_blob(qn_ir *ir, session *s, qn_blob *blob, qn_diags *d)
{
    const char *why = NULL;
    int64_t size = (int64_t)s->l->GetBufferSize(s->buffer);
    char *copy = qn_arena_alloc(ir->arena, (size_t)size + 1, 64);
    memcpy(copy, s->l->GetBufferStart(s->buffer), (size_t)size);
    if (!qn_blob_link(ir->arena, copy, size, blob, &why)) {
        qn_diag_add(d, QN_ERROR, "E-EMIT", (qn_place){0, 0, 0},
                    "the object cannot become a blob: %s", why);
        return false;
    }
    return true;
}

/* Adds the functions of one kernel to the module. False: the diagnostic is there. */
static bool add_kernel(session *s, const qn_target *t, qn_ir *ir, const qn_emit_item *item,
                       qn_emitted_names *names, int32_t *nbufs, qn_diags *d)
{
    jmp_buf failed;
    qn_gen *g = QN_NEW(ir->arena, qn_gen);
    *g = (qn_gen){.l = s->l,
                  .isa = isa_of(t),
                  .ir = ir,
                  .arena = ir->arena,
                  .file = item->file,
                  .kernel = item->kernel,
                  .d = d,
                  .failed = &failed,
                  .context = s->context,
                  .module = s->module,
                  .b = s->b,
                  .entry = s->entry};
    fill_types(g);
    if (setjmp(failed)) {
        return false;
    }
    qn_emit_kernel(g, item->kernel->name + 1, names);
    *nbufs = g->ncallbufs;
    return true;
}

static qn_status run_session(session *s, const qn_target *t, qn_ir *ir, const qn_emit_item *items,
                             int n, const qn_emit_options *options, qn_emitted *out, qn_diags *d)
{
    double start = now();
    if (!open_session(s, isa_of(t), d)) {
        return QN_E_TOOL;
    }
    qn_emitted_names *names = QN_NEWN(ir->arena, qn_emitted_names, n);
    for (int k = 0; k < n; k++) {
        if (!add_kernel(s, t, ir, &items[k], &names[k], &out[k].code.nbufs, d)) {
            return QN_E_INTERNAL;
        }
    }
    double built = now();
    if (options->assembly) { /* emission consumes the module: text or code, not both */
        bool good = emit_buffer(s, LLVMAssemblyFile, d);
        out->assembly = good ? qn_arena_text(ir->arena, s->l->GetBufferStart(s->buffer),
                                             s->l->GetBufferSize(s->buffer))
                             : NULL;
        return good ? QN_OK : QN_E_INTERNAL;
    }
    qn_blob blob;
    if (!emit_buffer(s, LLVMObjectFile, d) || !take_blob(ir, s, &blob, d)) {
        return QN_E_INTERNAL;
    }
    out->seconds_build = built - start;
    out->seconds_codegen = now() - built;
    for (int k = 0; k < n; k++) {
        out[k].object = blob.object;
        out[k].object_size = blob.object_size;
        if (!take_code(ir, &blob, items[k].kernel->name + 1, &names[k], &out[k].code, d)) {
            return QN_E_INTERNAL;
        }
    }
    return QN_OK;
}

static qn_status emit(const qn_target *t, qn_ir *ir, const qn_emit_item *items, int n,
                      const qn_emit_options *options, qn_emitted *out, qn_diags *d)
{
    const char *why = NULL;
    session s = {.l = qn_llvm_open(&why)};
    memset(out, 0, sizeof *out * (size_t)n);
    if (!s.l) {
        qn_diag_add(d, QN_ERROR, "E-TOOL", (qn_place){0, 0, 0}, "compiling needs LLVM: %s", why);
        return QN_E_TOOL;
    }
    session *volatile open = &s;
    jmp_buf fatal, oom, *former_oom = ir->arena->oom, *former = qn_llvm_on_fatal(&fatal);
    qn_status status;
    if (setjmp(fatal)) {
        qn_diag_add(d, QN_ERROR, "E-TOOL", (qn_place){0, 0, 0}, "LLVM gave up on this kernel");
        status = QN_E_INTERNAL; /* LLVM's state is unknown: its objects are left alone */
        ir->arena->oom = former_oom;
        qn_llvm_on_fatal(former);
        return status;
    }
    ir->arena->oom = &oom;
    if (setjmp(oom)) { /* give LLVM's objects back, then unwind further */
        ir->arena->oom = former_oom;
        qn_llvm_on_fatal(former);
        close_session(open);
        longjmp(*former_oom, 1);
    }
    status = run_session(&s, t, ir, items, n, options, out, d);
    ir->arena->oom = former_oom;
    qn_llvm_on_fatal(former);
    close_session(&s);
    return status;
}
