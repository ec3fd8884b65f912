/* SPDX-License-Identifier: MIT
 * Schedules as data: the table of keys, look-ups, additions and the printer; see schedule.h.
 * The parser is in parse.c and obeys the table. */
#include "ir/schedule.h"

#include "ir/lex.h"
#include <string.h>

static const qn_sched_key keys[] = {
    {"form", false, false, QN_SCHED_WORD, "stream twopass unfused gather chunk scan"},
    {"tile", true, false, QN_SCHED_COUNT, NULL},
    {"block", true, false, QN_SCHED_COUNT, NULL},
    {"lanes", true, false, QN_SCHED_COUNT, NULL},
    {"pack", true, false, QN_SCHED_LAYOUT, NULL},
    {"peel", true, false, QN_SCHED_NOTHING, NULL},
    {"split", true, false, QN_SCHED_COUNT, NULL},
    {"group", true, false, QN_SCHED_COUNT, NULL},
    {"strip", true, false, QN_SCHED_COUNT, NULL},
    {"order", true, false, QN_SCHED_WORD, "ascending descending"},
    {"type", true, false, QN_SCHED_DTYPE, NULL},
    {"exp", false, false, QN_SCHED_EXP, "poly approx"},
    {"hold", true, true, QN_SCHED_WORD, "registers task shared"},
    {"ring", true, false, QN_SCHED_COUNT, NULL},
    {"ranges", false, false, QN_SCHED_WORD, "on off"},
};

const qn_sched_key *qn_schedule_key(const char *name)
{
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        if (strcmp(keys[k].name, name) == 0) {
            return &keys[k];
        }
    }
    return NULL;
}

bool qn_schedule_key_is_known(const char *key)
{
    return qn_schedule_key(key) != NULL || strcmp(key, "at") == 0;
}

qn_schedule *qn_schedule_new(qn_ir *ir, const char *name, const char *target)
{
    qn_schedule *s = QN_NEW(ir->arena, qn_schedule);
    s->name = qn_intern(ir, name);
    s->target = qn_arena_text(ir->arena, target, strlen(target));
    return s;
}

qn_schedule *qn_file_schedule(const qn_ir_file *f, const char *name)
{
    for (int k = 0; k < f->items.count; k++) {
        const qn_item *it = &f->items.at[k];
        if (it->kind != QN_ITEM_SCHEDULE) {
            continue;
        }
        const char *have = it->u.schedule->name;
        if (!name || strcmp(have, name) == 0 || (have[0] == '@' && strcmp(have + 1, name) == 0)) {
            return it->u.schedule;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- look-ups */

/* Where the values start: behind further subjects, each after a comma. */
static int first_value(const qn_sched_line *l)
{
    int k = 0;
    while (k + 1 < l->nwords && strcmp(l->words[k], ",") == 0) {
        k += 2;
    }
    return k;
}

static bool has_subject(const qn_sched_line *l, const char *subject)
{
    if (l->subject && strcmp(l->subject, subject) == 0) {
        return true;
    }
    for (int k = 1; k < first_value(l); k += 2) {
        if (strcmp(l->words[k], subject) == 0) {
            return true;
        }
    }
    return false;
}

const qn_sched_line *qn_schedule_find(const qn_schedule *s, const char *nest, const char *key,
                                      const char *subject)
{
    const qn_sched_line *general = NULL;
    for (int k = s->lines.count - 1; k >= 0; k--) {
        const qn_sched_line *l = &s->lines.at[k];
        if (strcmp(l->key, key) != 0 || (subject && !has_subject(l, subject))) {
            continue;
        }
        if (!l->nest) {
            general = general ? general : l;
        } else if (nest && strcmp(l->nest, nest) == 0) {
            return l;
        }
    }
    return general;
}

int64_t qn_schedule_int(const qn_schedule *s, const char *nest, const char *key,
                        const char *subject, int64_t otherwise)
{
    const qn_sched_line *l = qn_schedule_find(s, nest, key, subject);
    if (!l) {
        return otherwise;
    }
    for (int k = first_value(l); k < l->nwords; k++) {
        const char *w = l->words[k];
        if (strcmp(w, "free") == 0) {
            return otherwise;
        }
        if (strcmp(w, "none") == 0) {
            return 0;
        }
        qn_lexer lex = qn_lexer_of(w, strlen(w));
        qn_token t = qn_lex(&lex);
        if (t.kind == QN_TOKEN_INT) {
            return t.i;
        }
    }
    return l->nwords == 0 && l->subject && strcmp(l->subject, "none") == 0 ? 0 : otherwise;
}

const char *qn_schedule_word(const qn_schedule *s, const char *nest, const char *key,
                             const char *subject, const char *otherwise)
{
    const qn_sched_line *l = qn_schedule_find(s, nest, key, subject);
    if (!l) {
        return otherwise;
    }
    int k = first_value(l);
    return k < l->nwords ? l->words[k] : l->subject ? l->subject : otherwise;
}

void qn_schedule_add(qn_ir *ir, qn_schedule *s, const char *nest, const char *key,
                     const char *subject, const char *value, const char *by)
{
    qn_sched_line l = {.key = qn_intern(ir, key)};
    struct {
        qn_sym *at;
        int32_t count, cap;
    } words = {0};
    if (value) {
        qn_lexer lex = qn_lexer_of(value, strlen(value));
        for (qn_token t = qn_lex(&lex); t.kind != QN_TOKEN_END; t = qn_lex(&lex)) {
            QN_PUSH(ir->arena, &words, qn_intern_n(ir, t.text, t.length));
        }
    }
    l.words = words.at;
    l.nwords = words.count;
    l.subject = subject ? qn_intern(ir, subject) : NULL;
    l.by = by ? qn_intern(ir, by) : NULL;
    l.nest = nest ? qn_intern(ir, nest) : NULL;
    QN_PUSH(ir->arena, &s->lines, l);
}

/* ---------------------------------------------------------------- printer */

static void print_line(const qn_sched_line *l, qn_sched_by by, qn_buf *out)
{
    qn_buf_printf(out, "  %s", l->key);
    if (l->subject) {
        qn_buf_printf(out, " %s", l->subject);
    }
    const char *before = "";
    for (int k = 0; k < l->nwords; k++) {
        const char *w = l->words[k];
        bool close = strcmp(w, ",") == 0 || strcmp(w, ")") == 0 || strcmp(before, "(") == 0 ||
                     (strcmp(w, "(") == 0 && strcmp(before, "free") == 0);
        qn_buf_printf(out, "%s%s", close ? "" : " ", w);
        before = w;
    }
    if (by == QN_BY_ALWAYS || (by == QN_BY_GIVEN && l->by)) {
        qn_buf_printf(out, " !by(%s)", l->by ? l->by : "user");
    }
    qn_buf_puts(out, "\n");
}

void qn_print_schedule_by(const qn_schedule *s, qn_sched_by by, qn_buf *out)
{
    qn_buf_printf(out, "schedule %s for ", s->name);
    qn_token_print_string(s->target, out);
    qn_buf_puts(out, " {\n");
    for (int k = 0; k < s->lines.count; k++) {
        if (!s->lines.at[k].nest) {
            print_line(&s->lines.at[k], by, out);
        }
    }
    for (int k = 0; k < s->lines.count; k++) {
        qn_sym nest = s->lines.at[k].nest;
        bool seen = nest == NULL;
        for (int e = 0; e < k && !seen; e++) {
            seen = s->lines.at[e].nest == nest;
        }
        if (seen) {
            continue;
        }
        qn_buf_printf(out, "  at %s\n", nest);
        for (int e = k; e < s->lines.count; e++) {
            if (s->lines.at[e].nest == nest) {
                print_line(&s->lines.at[e], by, out);
            }
        }
    }
    qn_buf_puts(out, "}\n");
}

void qn_print_schedule(const qn_schedule *s, bool with_by, qn_buf *out)
{
    qn_print_schedule_by(s, with_by ? QN_BY_ALWAYS : QN_BY_NEVER, out);
}
