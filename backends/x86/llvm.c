/* SPDX-License-Identifier: MIT
 *
 * The one place with state that lives longer than a compilation: the table of LLVM's functions is
 * filled once a process, behind pthread_once, and only read afterwards; the place where a fatal
 * error of LLVM goes belongs to a thread, since LLVM's handler belongs to the process. */
#include "backends/x86/llvm.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static qn_llvm table;
static const char *missing = "LLVM is not there";
static _Thread_local jmp_buf *fatal_place;

static void fatal(const char *reason)
{
    (void)reason;
    if (fatal_place) {
        longjmp(*fatal_place, 1);
    }
}

static void open_library(void)
{
    static const char *const names[] = {"libLLVM.so.19.1", "libLLVM-19.so",   "libLLVM.so.20.1",
                                        "libLLVM-20.so",   "libLLVM.so.21.1", "libLLVM-21.so",
                                        "libLLVM.so.22.1", "libLLVM-22.so",   NULL};
    void *handle = NULL;
    for (int i = 0; names[i] && !handle; i++) {
        handle = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
    }
    if (!handle) {
        missing = "no libLLVM of version 19 or later was found";
        return;
    }
#define X(name)                                          \
    *(void **)&table.name = dlsym(handle, "LLVM" #name); \
    if (!table.name) {                                   \
        missing = "libLLVM lacks LLVM" #name;            \
        return;                                          \
    }
    QN_LLVM_FUNCTIONS(X)
#undef X
    table.InitializeX86TargetInfo();
    table.InitializeX86Target();
    table.InitializeX86TargetMC();
    table.InitializeX86AsmPrinter();
    table.InstallFatalErrorHandler(fatal);
    missing = NULL;
}

const qn_llvm *qn_llvm_open(const char **why)
{
    pthread_once(&once, open_library);
    *why = missing;
    return missing ? NULL : &table;
}

jmp_buf *qn_llvm_on_fatal(jmp_buf *where)
{
    jmp_buf *former = fatal_place;
    fatal_place = where;
    return former;
}
