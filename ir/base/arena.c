/* SPDX-License-Identifier: MIT
 * Bump allocation; see arena.h. */
#include "ir/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct qn_arena_block {
    struct qn_arena_block *next;
    size_t size, used; /* bytes of data, not counting this header */
} block;

#define HEADER ((sizeof(block) + 63) / 64 * 64)
#define BLOCK_MIN ((size_t)1 << 16)

static void *realloc_default(void *user, void *p, size_t old_size, size_t new_size)
{
    (void)user;
    (void)old_size;
    if (new_size == 0) {
        free(p);
        return NULL;
    }
    return realloc(p, new_size);
}

qn_alloc qn_alloc_default(void)
{
    return (qn_alloc){realloc_default, NULL};
}

void qn_arena_init(qn_arena *a, const qn_alloc *alloc, jmp_buf *oom)
{
    *a = (qn_arena){alloc && alloc->realloc_fn ? *alloc : qn_alloc_default(), NULL, oom};
}

static void drop(qn_arena *a, block *b)
{
    a->alloc.realloc_fn(a->alloc.user, b, HEADER + b->size, 0);
}

void qn_arena_fini(qn_arena *a)
{
    for (block *b = a->head, *next; b; b = next) {
        next = b->next;
        drop(a, b);
    }
    a->head = NULL;
}

/* Where the next piece may start, so that its address is a multiple of align. */
static size_t place(const block *b, size_t align)
{
    uintptr_t data = (uintptr_t)b + HEADER;
    return (size_t)(((data + b->used + align - 1) & ~(uintptr_t)(align - 1)) - data);
}

void *qn_arena_alloc(qn_arena *a, size_t size, size_t align)
{
    block *b = a->head;
    size_t at = b ? place(b, align) : 0;
    if (!b || at > b->size || size > b->size - at) {
        size_t want = b && b->size < ((size_t)1 << 24) ? b->size * 2 : BLOCK_MIN;
        if (want < size || want - size < align) {
            want = size + align;
        }
        if (size > SIZE_MAX / 2) {
            longjmp(*a->oom, 1);
        }
        b = a->alloc.realloc_fn(a->alloc.user, NULL, 0, HEADER + want);
        if (!b) {
            longjmp(*a->oom, 1);
        }
        *b = (block){a->head, want, 0};
        a->head = b;
        at = place(b, align);
    }
    b->used = at + size;
    return memset((char *)b + HEADER + at, 0, size);
}

char *qn_arena_text(qn_arena *a, const char *text, size_t length)
{
    char *t = qn_arena_alloc(a, length + 1, 1);
    memcpy(t, text, length);
    return t;
}

void *qn_arena_grow(qn_arena *a, void *at, int count, int *cap, size_t size)
{
    int wider = *cap ? *cap * 2 : 4;
    void *p = qn_arena_alloc(a, size * (size_t)wider, alignof(max_align_t));
    if (count) {
        memcpy(p, at, size * (size_t)count);
    }
    *cap = wider;
    return p;
}

qn_mark qn_arena_mark(const qn_arena *a)
{
    return (qn_mark){a->head, a->head ? a->head->used : 0};
}

void qn_arena_release(qn_arena *a, qn_mark m)
{
    while (a->head != m.block) {
        block *b = a->head;
        a->head = b->next;
        drop(a, b);
    }
    if (a->head) {
        a->head->used = m.used;
    }
}
