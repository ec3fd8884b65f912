/* SPDX-License-Identifier: MIT
 *
 * From a relocatable object to a blob that runs wherever it is mapped.
 *
 *     +-------+-----------+-----------+----
 *     | .text | .rodata.. | .rodata.. |       one flat piece, sections at their alignment
 *     +-------+-----------+-----------+----
 *
 * The emitter makes code whose every reference is relative to the program counter and ends inside
 * the object; those are resolved here, anything else is refused. */
#ifndef QN_BACKENDS_X86_BLOB_H
#define QN_BACKENDS_X86_BLOB_H

#include "ir/base/arena.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct qn_blob {
    unsigned char *bytes; /* in the arena */
    int64_t size;
    const unsigned char *object;
    int64_t object_size;
    const int64_t *at; /* per section: its place in bytes, or -1 */
} qn_blob;

/* False: *why says what the object has that a blob cannot. */
bool qn_blob_link(qn_arena *a, const void *object, int64_t size, qn_blob *out, const char **why);

/* Where a global function starts, or -1. */
int64_t qn_blob_symbol(const qn_blob *b, const char *name);

/* Maps a blob read + execute at a page; NULL if the system refuses. */
void *qn_map_code(const void *bytes, int64_t size);
void qn_unmap_code(void *code, int64_t size);

#endif
