/* SPDX-License-Identifier: MIT
 *
 * Schedules: `key subject value..`, one decision each; grammar and keys in README.md.
 * `hold m, l registers` is one line: subject m, words , l registers; it is found under m and l.
 * Lines before any `at NAME` hold for every nest; lines after it for the nest !name(NAME). */
#ifndef QN_IR_SCHEDULE_H
#define QN_IR_SCHEDULE_H

#include "ir/base/buf.h"
#include "ir/ir.h"

typedef struct qn_sched_line {
    qn_sym key;          /* "tile" */
    qn_sym subject;      /* "i"; NULL where the key has none (ranges off, form stream) */
    const qn_sym *words; /* values as tokens: "64", "free", "(", "32", "," .. */
    int32_t nwords;
    qn_sym by;   /* default, user, tuner, forced; NULL: user (printed as !by(..) by explain) */
    qn_sym nest; /* NULL: every nest */
    qn_place place;
} qn_sched_line;

struct qn_schedule {
    qn_sym name; /* "@x" */
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

/* Its first value as a number, the 5 of `exp poly 5`; 0 for `none`; `otherwise` if there is no line
 * or it is free. */
int64_t qn_schedule_int(const qn_schedule *s, const char *nest, const char *key,
                        const char *subject, int64_t otherwise);
/* Its first value (or subject, for keys without one) as a word; `otherwise` if none. */
const char *qn_schedule_word(const qn_schedule *s, const char *nest, const char *key,
                             const char *subject, const char *otherwise);

/* Appends a line; value is text as in a schedule ("64", "free(32, 64)", "(d, i)") or NULL. */
void qn_schedule_add(qn_ir *ir, qn_schedule *s, const char *nest, const char *key,
                     const char *subject, const char *value, const char *by);

bool qn_schedule_key_is_known(const char *key);

/* What may follow a key. Instead of a value there may be `free` or `free(a, b, ..)`, and `none`. */
typedef enum qn_sched_value {
    QN_SCHED_NOTHING,
    QN_SCHED_WORD,   /* one of `words` */
    QN_SCHED_COUNT,  /* a positive integer */
    QN_SCHED_DTYPE,  /* f16 */
    QN_SCHED_LAYOUT, /* (d // 2, i, d % 2) */
    QN_SCHED_EXP     /* approx, or poly and a count */
} qn_sched_value;

typedef struct qn_sched_key {
    const char *name;
    bool has_subject, many; /* many: subjects a, b, c */
    qn_sched_value value;
    const char *words; /* separated by blanks */
} qn_sched_key;

const qn_sched_key *qn_schedule_key(const char *name); /* or NULL; `at` is not among them */

/* Who chose a line is printed as !by(..): never; where the line says it; always. */
typedef enum qn_sched_by { QN_BY_NEVER, QN_BY_GIVEN, QN_BY_ALWAYS } qn_sched_by;
void qn_print_schedule_by(const qn_schedule *s, qn_sched_by by, qn_buf *out);

/* Lines for every nest first, then nest by nest. with_by: always, else never. */
void qn_print_schedule(const qn_schedule *s, bool with_by, qn_buf *out);

#endif
