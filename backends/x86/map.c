/* SPDX-License-Identifier: MIT
 * The loader of blobs: memory that is first written, then only read and executed. */
#include "backends/x86/blob.h"
#include <string.h>
#include <sys/mman.h>

void *qn_map_code(const void *bytes, int64_t size)
{
    if (size <= 0) {
        return NULL;
    }
    void *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    memcpy(p, bytes, (size_t)size);
    if (mprotect(p, (size_t)size, PROT_READ | PROT_EXEC) != 0) {
        munmap(p, (size_t)size);
        return NULL;
    }
    return p;
}

void qn_unmap_code(void *code, int64_t size)
{
    if (code) {
        munmap(code, (size_t)size);
    }
}
