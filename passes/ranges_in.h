/* SPDX-License-Identifier: MIT
 *
 * The inside of `ranges`: solving a mask for the positions of one loop.
 *
 * A box is what one trip computes: x = index + axis is the position of the loop's axis, every other
 * axis that varies in the trip is a variable of the box with scalar bounds. No axis has a role.
 *
 *     may(e)  = {x : some element of the box has e true}, or more
 *     must(e) = {x : every element has e true}, or less:  the complement of may(not e)
 *
 * may is a union of intervals with scalar ends. e is brought into disjunctive form over linear
 * comparisons L <= 0; terms that are not linear in x are solved for it (x // n <= b is
 * x <= b * n + n - 1); the other variables are eliminated by Fourier-Motzkin. A comparison that
 * cannot be read counts as true, under negation too, so may only grows and must only shrinks. */
#ifndef QN_PASSES_RANGES_IN_H
#define QN_PASSES_RANGES_IN_H

#include "passes/linear_in.h"
#include "passes/pass.h"

/* Another loop around, or the nest: its index and an axis it strides over. */
typedef struct qn_row {
    qn_sym axis, index;
    int64_t size;
    qn_extent end; /* of the index's range, if `dead` */
    bool dead;     /* elements past the end reach no memory, so they need not be kept */
    const qn_term *var;
} qn_row;

typedef struct qn_interval {
    const qn_lin *lo, *hi; /* NULL: not known. Of a range of positions: hi is exclusive. */
} qn_interval;

typedef struct qn_intervals {
    qn_interval *at;
    int32_t count, cap;
} qn_intervals;

typedef struct qn_box {
    qn_facts *f;
    qn_ir *ir;
    qn_arena *arena;
    qn_sym index, axis;
    int64_t size;
    const qn_lin *lo, *hi; /* the loop's own range */
    const qn_term *x;
    qn_row *rows;
    int32_t nrows;
    int32_t outside;  /* names known before the loop; later ones vary with it */
    bool at_hand;     /* ask for the trip at hand: the index is a scalar, x a variable of the box */
    qn_exprs unknown; /* reductions, each known by a name */
    /* Bounds over the box of a term that only data decides; NULL ends: none. */
    qn_interval (*data)(void *user, const qn_term *t, bool clip);
    void *user;
    bool hull; /* out: pieces were joined because they were many */
} qn_box;

/* Defines the box's variables in the facts; between push and pop. */
void qn_box_open(qn_box *b);

/* Does the term vary with the loop; does it vary between elements of the box? */
bool qn_box_varies(const qn_box *b, const qn_term *t);
bool qn_box_is_tile(const qn_box *b, const qn_term *t);

/* Pieces of positions, sorted, at most three, not rounded to the loop's grid. clip: rows past the
 * end do not count. */
qn_intervals qn_box_may(qn_box *b, const qn_expr *e, bool clip);
qn_intervals qn_box_must(qn_box *b, const qn_expr *e);

/* A scalar bool: may the trip at hand have an element? NULL: no way to tell (or always). */
qn_expr *qn_box_test(qn_box *b, const qn_expr *e);

/* With the bool `mask` false everywhere, does a trip of the loop change nothing? */
bool qn_loop_is_neutral(qn_arena *scratch, const qn_stmt *loop, qn_sym mask);

#endif
