/* SPDX-License-Identifier: MIT
 *
 * Bump allocation with mark and release.
 * Everything built during one compilation lives in one arena and dies with it; who needs
 * scratch memory takes a mark and releases it before returning. */
#ifndef QN_IR_BASE_ARENA_H
#define QN_IR_BASE_ARENA_H

#include <setjmp.h>
#include <stdalign.h>
#include <stddef.h>

/* The caller's allocator: realloc_fn(user, NULL, 0, n) allocates, new_size 0 frees. */
typedef struct qn_alloc {
    void *(*realloc_fn)(void *user, void *p, size_t old_size, size_t new_size);
    void *user;
} qn_alloc;

/* The allocator over malloc. */
qn_alloc qn_alloc_default(void);

typedef struct qn_arena {
    qn_alloc alloc;
    struct qn_arena_block *head; /* newest block first */
    jmp_buf *oom;                /* where to go when memory runs out; never NULL in the library */
} qn_arena;

typedef struct qn_mark {
    struct qn_arena_block *block;
    size_t used;
} qn_mark;

void qn_arena_init(qn_arena *a, const qn_alloc *alloc, jmp_buf *oom);
void qn_arena_fini(qn_arena *a);

/* Never returns NULL: when memory runs out, longjmp(*a->oom, 1). The bytes are zeroed. */
void *qn_arena_alloc(qn_arena *a, size_t size, size_t align);

/* Copies `length` bytes and ends them with a NUL. */
char *qn_arena_text(qn_arena *a, const char *text, size_t length);

qn_mark qn_arena_mark(const qn_arena *a);
void qn_arena_release(qn_arena *a, qn_mark m);

#define QN_NEW(a, T) ((T *)qn_arena_alloc((a), sizeof(T), alignof(T)))
#define QN_NEWN(a, T, n) ((T *)qn_arena_alloc((a), sizeof(T) * (size_t)(n), alignof(T)))

/* Growing arrays in an arena: T *at; int32_t count, cap. The old storage stays in the arena. */
#define QN_PUSH(a, v, x)                                                                           \
    do {                                                                                           \
        if ((v)->count == (v)->cap) {                                                              \
            (v)->at = qn_arena_grow((a), (v)->at, (v)->count, &(v)->cap, sizeof *(v)->at);         \
        }                                                                                          \
        (v)->at[(v)->count++] = (x);                                                               \
    } while (0)
void *qn_arena_grow(qn_arena *a, void *at, int count, int *cap, size_t size);

#endif
