/* SPDX-License-Identifier: MIT
 * Contexts, statuses and sources. */
#include "runtime/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *qn_status_text(qn_status status)
{
    switch (status) {
#define X(name, value, text) \
    case QN_##name:          \
        return text;
        QN_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

int qn_abi_version(void)
{
    return QN_ABI;
}

double qn_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

qn_ctx *qn_ctx_create(const qn_config *config)
{
    qn_alloc alloc = qn_alloc_default();
    if (config && config->realloc_fn) {
        alloc = (qn_alloc){config->realloc_fn, config->user};
    }
    qn_ctx *cx = alloc.realloc_fn(alloc.user, NULL, 0, sizeof *cx);
    if (cx) {
        memset(cx, 0, sizeof *cx);
        cx->alloc = alloc;
    }
    return cx;
}

void qn_ctx_destroy(qn_ctx *cx)
{
    if (!cx) {
        return;
    }
    if (cx->has_answer) {
        qn_arena_fini(&cx->answer);
    }
    if (cx->message) {
        cx->alloc.realloc_fn(cx->alloc.user, cx->message, cx->message_cap, 0);
    }
    cx->alloc.realloc_fn(cx->alloc.user, cx, sizeof *cx, 0);
}

const char *qn_ctx_message(const qn_ctx *cx)
{
    return cx && cx->message ? cx->message : "";
}

void qn_ctx_say_text(qn_ctx *cx, const char *text)
{
    size_t n = strlen(text) + 1;
    if (n > cx->message_cap) {
        char *m = cx->alloc.realloc_fn(cx->alloc.user, cx->message, cx->message_cap, n);
        if (m) {
            cx->message = m;
            cx->message_cap = n;
        } else if (n > cx->message_cap) {
            n = cx->message_cap;
        }
    }
    if (n > 0 && cx->message) {
        memcpy(cx->message, text, n - 1);
        cx->message[n - 1] = 0;
    }
}

void qn_ctx_say(qn_ctx *cx, const char *format, ...)
{
    char t[2048] = "";
    if (format) {
        va_list args;
        va_start(args, format);
        vsnprintf(t, sizeof t, format, args);
        va_end(args);
    }
    qn_ctx_say_text(cx, t);
}

qn_source qn_text(const char *name, const char *text)
{
    qn_source s = {.size = sizeof s, .path = name, .text = text, .length = strlen(text)};
    return s;
}

qn_source qn_file(const char *path)
{
    /* "file.lua:name": the name after the last colon that no slash follows. It points into path. */
    qn_source s = {.size = sizeof s, .path = path};
    const char *colon = strrchr(path, ':');
    if (colon && !strchr(colon, '/')) {
        s.pick = colon + 1;
    }
    return s;
}
