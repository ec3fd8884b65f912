/* SPDX-License-Identifier: MIT
 * Host trees by hand; see host.h. */
#include "tests/support/host.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static qn_host_value *value(host_world *w, qn_host_kind kind)
{
    qn_host_value *v = QN_NEW(w->ir->arena, qn_host_value);
    v->kind = kind;
    return v;
}

const qn_host_value *host_int(host_world *w, int64_t i)
{
    qn_host_value *v = value(w, QN_HOST_INT);
    v->u.i = i;
    return v;
}

const qn_host_value *host_float(host_world *w, double f)
{
    qn_host_value *v = value(w, QN_HOST_FLOAT);
    v->u.f = f;
    return v;
}

const qn_host_value *host_bool(host_world *w, bool b)
{
    qn_host_value *v = value(w, QN_HOST_BOOL);
    v->u.b = b;
    return v;
}

const qn_host_value *host_string(host_world *w, const char *s)
{
    qn_host_value *v = value(w, QN_HOST_STRING);
    v->u.string.text = qn_arena_text(w->ir->arena, s, strlen(s));
    v->u.string.length = strlen(s);
    return v;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const qn_host_field *)a)->key, ((const qn_host_field *)b)->key);
}

static const qn_host_value *table_of(host_world *w, const char *tag, qn_host_field *fields, int n)
{
    qn_host_value *v = value(w, QN_HOST_TABLE);
    qn_host_field *copy = QN_NEWN(w->ir->arena, qn_host_field, n + 1);
    memcpy(copy, fields, sizeof *fields * (size_t)n);
    qsort(copy, (size_t)n, sizeof *copy, by_key);
    v->u.table.tag = tag;
    v->u.table.fields = copy;
    v->u.table.nfields = n;
    return v;
}

const qn_host_value *host_table(host_world *w, const char *tag, ...)
{
    qn_host_field fields[40];
    int n = 0;
    va_list args;
    va_start(args, tag);
    for (const char *key; n < 40 && (key = va_arg(args, const char *)) != NULL; n++) {
        fields[n].key = key;
        fields[n].value = va_arg(args, const qn_host_value *);
    }
    va_end(args);
    return table_of(w, tag, fields, n);
}

static const qn_host_value *list_of(host_world *w, const char *tag,
                                    const qn_host_value *const *items, int n)
{
    qn_host_value *v = value(w, QN_HOST_TABLE);
    const qn_host_value **copy = QN_NEWN(w->ir->arena, const qn_host_value *, n + 1);
    memcpy(copy, items, sizeof *items * (size_t)n);
    v->u.table.tag = tag;
    v->u.table.items = copy;
    v->u.table.nitems = n;
    return v;
}

const qn_host_value *host_list(host_world *w, const char *tag, ...)
{
    const qn_host_value *items[70];
    int n = 0;
    va_list args;
    va_start(args, tag);
    for (const qn_host_value *x; n < 70 && (x = va_arg(args, const qn_host_value *)) != NULL; n++) {
        items[n] = x;
    }
    va_end(args);
    return list_of(w, tag, items, n);
}

const qn_host_value *host_fn(host_world *w, const char *text, ...)
{
    qn_host_value *v = value(w, QN_HOST_FUNCTION);
    qn_host_chunk *chunk = QN_NEW(w->ir->arena, qn_host_chunk);
    qn_host_capture *captures = QN_NEWN(w->ir->arena, qn_host_capture, 40);
    int n = 0;
    va_list args;
    va_start(args, text);
    for (const char *name; n < 39 && (name = va_arg(args, const char *)) != NULL; n++) {
        captures[n].name = name;
        captures[n].value = va_arg(args, const qn_host_value *);
    }
    va_end(args);
    captures[n++] = (qn_host_capture){"_ENV", w->env};
    chunk->path = w->path;
    chunk->length = strlen(text);
    chunk->text = qn_arena_text(w->ir->arena, text, chunk->length);
    v->chunk = chunk;
    v->place = (qn_place){1, 1, 8};
    v->u.function.end = chunk->length;
    v->u.function.captures = captures;
    v->u.function.ncaptures = n;
    return v;
}

const qn_host_value *host_tensor(host_world *w, const char *name, const char *dtype, ...)
{
    const qn_host_value *items[12];
    int n = 0;
    va_list args;
    va_start(args, dtype);
    for (const char *d; n < 12 && (d = va_arg(args, const char *)) != NULL; n++) {
        items[n] = host_string(w, d);
    }
    va_end(args);
    return host_table(w, "tensor", "name", host_string(w, name), "dtype", host_string(w, dtype),
                      "dims", list_of(w, NULL, items, n), "order", host_int(w, w->order++), NULL);
}

const qn_host_value *host_param(host_world *w, const char *name, const char *dtype,
                                const qn_host_value *fallback)
{
    return host_table(w, "param", "name", host_string(w, name), "dtype", host_string(w, dtype),
                      "order", host_int(w, w->order++), fallback ? "default" : NULL, fallback,
                      NULL);
}

const qn_host_value *host_norm(host_world *w, const char *kind)
{
    return host_table(w, "norm", "kind", host_string(w, kind), NULL);
}

static const qn_host_value *builtins(host_world *w, const char *module, const char *names)
{
    qn_host_field fields[40];
    int n = 0;
    char *copy = qn_arena_text(w->ir->arena, names, strlen(names)), *save = NULL;
    for (char *t = strtok_r(copy, " ", &save); t && n < 36; t = strtok_r(NULL, " ", &save)) {
        qn_buf b = qn_buf_of(w->ir->arena);
        qn_host_value *v = value(w, QN_HOST_BUILTIN);
        qn_buf_printf(&b, "%s.%s", module, t);
        v->u.builtin = b.text;
        fields[n++] = (qn_host_field){t, v};
    }
    if (strcmp(module, "math") == 0) {
        fields[n++] = (qn_host_field){"pi", host_float(w, 3.14159265358979323846)};
        fields[n++] = (qn_host_field){"huge", host_float(w, (double)INFINITY)};
    }
    return table_of(w, NULL, fields, n);
}

void host_init(host_world *w, qn_ir *ir, const char *path)
{
    *w = (host_world){.ir = ir, .path = path};
    w->env = host_table(
        w, NULL, "math",
        builtins(w, "math", "abs ceil floor exp log max min sqrt sin cos tan fmod random"), "qn",
        builtins(w, "qn", "tanh sigmoid erf exp2 log2 rsqrt pow clamp select dim"), NULL);
}
