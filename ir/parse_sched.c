/* SPDX-License-Identifier: MIT
 * Text to schedules, as the table of keys in schedule.c has it; see parser.h. */
#include "ir/parser.h"
#include "ir/schedule.h"
#include <string.h>

static void push_word(qn_parser *p, qn_parser_syms *words)
{
    QN_PUSH(p->ir->arena, words, qn_parser_token_sym(p));
    qn_parser_advance(p);
}

static void need_word(qn_parser *p, qn_parser_syms *words, const char *text)
{
    if (qn_parser_at(p, text)) {
        push_word(p, words);
    } else {
        qn_parser_fail_expected(p, "E-SCHED", qn_diag_text(p->d, "'%s'", text));
    }
}

/* A positive integer, in its shortest form. */
static void push_count(qn_parser *p, qn_parser_syms *words)
{
    if (p->tok.kind != QN_TOKEN_INT || p->tok.i < 1) {
        qn_parser_fail_expected(p, "E-SCHED", "a positive integer");
        return;
    }
    qn_sym text = qn_intern(p->ir, qn_diag_text(p->d, "%lld", (long long)p->tok.i));
    QN_PUSH(p->ir->arena, words, text);
    qn_parser_advance(p);
}

static bool is_one_of(const qn_token *t, const char *words)
{
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, " ");
        if (t->kind == QN_TOKEN_WORD && n == t->length && memcmp(w, t->text, n) == 0) {
            return true;
        }
        w += w[n] ? n + 1 : n;
    }
    return false;
}

/* One value of the kind that the key takes. */
static void sched_value(qn_parser *p, const qn_sched_key *key, qn_parser_syms *words)
{
    qn_dtype dtype;
    switch (key->value) {
    case QN_SCHED_NOTHING:
        break;
    case QN_SCHED_WORD:
        if (!is_one_of(&p->tok, key->words)) {
            qn_parser_fail_expected(p, "E-SCHED", qn_diag_text(p->d, "one of %s", key->words));
        }
        push_word(p, words);
        break;
    case QN_SCHED_COUNT:
        push_count(p, words);
        break;
    case QN_SCHED_DTYPE:
        if (!qn_parser_dtype_token(&p->tok, &dtype)) {
            qn_parser_fail_expected(p, "E-SCHED", "a dtype");
        }
        push_word(p, words);
        break;
    case QN_SCHED_EXP:
        if (!is_one_of(&p->tok, key->words)) {
            qn_parser_fail_expected(p, "E-SCHED", qn_diag_text(p->d, "one of %s", key->words));
        }
        push_word(p, words);
        break;
    case QN_SCHED_LAYOUT:
        need_word(p, words, "(");
        for (bool more = true; more && !p->failed;) {
            if (p->tok.kind != QN_TOKEN_WORD) {
                qn_parser_fail_expected(p, "E-SCHED", "an axis");
            }
            push_word(p, words);
            for (int k = 0; k < 2; k++) {
                if (qn_parser_at(p, k ? "%" : "//")) {
                    push_word(p, words);
                    push_count(p, words);
                }
            }
            more = qn_parser_at(p, ",");
            need_word(p, words, more ? "," : ")");
        }
        break;
    }
}

/* value, none, free or free(value, ..) */
static void sched_values(qn_parser *p, const qn_sched_key *key, qn_parser_syms *words)
{
    if (key->value == QN_SCHED_NOTHING) {
        return;
    }
    if (qn_parser_at(p, "none")) {
        push_word(p, words);
        return;
    }
    bool poly = key->value == QN_SCHED_EXP && qn_parser_at(p, "poly");
    if (poly) {
        push_word(p, words);
    }
    qn_sched_key kind = *key;
    kind.value = poly ? QN_SCHED_COUNT : key->value;
    if (!qn_parser_at(p, "free")) {
        sched_value(p, &kind, words);
        return;
    }
    push_word(p, words);
    if (!qn_parser_at(p, "(")) {
        return;
    }
    push_word(p, words);
    for (bool more = true; more && !p->failed;) {
        sched_value(p, &kind, words);
        more = qn_parser_at(p, ",");
        need_word(p, words, more ? "," : ")");
    }
}

static void subject(qn_parser *p, qn_sym *out)
{
    if (p->tok.kind != QN_TOKEN_WORD && p->tok.kind != QN_TOKEN_VALUE) {
        qn_parser_fail_expected(p, "E-SCHED", "the name of what the line is about");
        return;
    }
    *out = qn_parser_token_sym(p);
    qn_parser_advance(p);
}

static void sched_line(qn_parser *p, qn_schedule *s, qn_sym nest)
{
    qn_token start = p->tok;
    qn_sched_line l = {.nest = nest};
    qn_parser_syms words = {0};
    if (start.kind != QN_TOKEN_WORD) {
        qn_parser_fail_expected(p, "E-SCHED", "a key");
        return;
    }
    l.key = qn_parser_token_sym(p);
    const qn_sched_key *key = qn_schedule_key(l.key);
    if (!key) {
        qn_parser_fail(p, "E-SCHED", start.place, "there is no key '%s'", l.key);
        return;
    }
    qn_parser_advance(p);
    bool none = key->has_subject && qn_parser_at(p, "none");
    if (key->has_subject) {
        subject(p, &l.subject);
    }
    while (key->many && qn_parser_at(p, ",")) {
        qn_sym more = NULL;
        push_word(p, &words);
        subject(p, &more);
        QN_PUSH(p->ir->arena, &words, more);
    }
    if (!none) {
        sched_values(p, key, &words);
    }
    l.place = qn_parser_span(p, &start);
    if (p->tok.kind == QN_TOKEN_ATTR) {
        if (p->tok.length != 3 || memcmp(p->tok.text, "!by", 3) != 0) {
            qn_parser_fail_expected(p, "E-SCHED", "'!by(who)' or the next line");
        }
        qn_parser_advance(p);
        qn_parser_need(p, "(");
        subject(p, &l.by);
        qn_parser_need(p, ")");
    }
    l.words = words.at;
    l.nwords = words.count;
    QN_PUSH(p->ir->arena, &s->lines, l);
}

qn_schedule *qn_parser_schedule(qn_parser *p)
{
    qn_place place = p->tok.place;
    qn_sym name = qn_parser_take(p, QN_TOKEN_AT, "the @name of a schedule");
    qn_schedule *s = qn_schedule_new(p->ir, name, "");
    qn_sym nest = NULL;
    s->place = place;
    qn_parser_need(p, "for");
    if (p->tok.kind == QN_TOKEN_STRING) {
        s->target = qn_token_string(p->ir->arena, &p->tok);
        qn_parser_advance(p);
    } else {
        qn_parser_fail_expected(p, "E-SYNTAX", "the \"name\" of a target");
    }
    qn_parser_need(p, "{");
    while (!p->failed && !qn_parser_eat(p, "}")) {
        if (qn_parser_eat(p, "at")) {
            subject(p, &nest);
        } else {
            sched_line(p, s, nest);
        }
    }
    return s;
}
