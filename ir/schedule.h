/* SPDX-License-Identifier: MIT
 *
 * Schedules: `key subject value..`, one decision a line; grammar and keys in README.md.
 * Lines before any `at NAME` hold for every nest; lines after it for the nest !name(NAME). */
#ifndef QN_IR_SCHEDULE_H
#define QN_IR_SCHEDULE_H

#include "ir/base/buf.h"
#include "ir/ir.h"

typedef struct qn_sched_line {
    qn_sym key;         /* "tile" */
    qn_sym subject;     /* "i"; NULL where the key has none (ranges off, form stream) */
    const qn_sym *words; /* values as tokens: "64", "free", "(", "32", "," .. */
    int32_t nwords;
    qn_sym by;   /* default, user, tuner, forced; NULL: user (printed as !by(..) by explain) */
    qn_sym nest; /* NULL: every nest */
    qn_place place;
} qn_sched_line;

struct qn_schedule {
    qn_sym name;   /* "@x" */
    const char *target;
    struct {
        qn_sched_line *at;
        int32_t count, cap;
    } lines;
    qn_place place;
};

qn_schedule *qn_schedule_new(qn_ir *ir, const char *name, const char *target);

/* The line for (nest, key, subject): one of the nest itself before one for every nest, the last
 * written first. subject NULL matches any. NULL if there is none. */
const qn_sched_line *qn_schedule_find(const qn_schedule *s, const char *nest, const char *key,
                                      const char *subject);

/* Its first value as a number; `otherwise` if there is no line or it is free. */
int64_t qn_schedule_int(const qn_schedule *s, const char *nest, const char *key,
                        const char *subject, int64_t otherwise);
/* Its first value (or subject, for keys without one) as a word; `otherwise` if none. */
const char *qn_schedule_word(const qn_schedule *s, const char *nest, const char *key,
                             const char *subject, const char *otherwise);

/* Appends a line. */
void qn_schedule_add(qn_ir *ir, qn_schedule *s, const char *nest, const char *key,
                     const char *subject, const char *value, const char *by);

/* Is the key numeric: can it change bits (tile of a reduced axis, split, exp, type, form)? */
bool qn_schedule_key_is_known(const char *key);

void qn_print_schedule(const qn_schedule *s, bool with_by, qn_buf *out);

#endif
