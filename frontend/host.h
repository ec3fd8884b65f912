/* SPDX-License-Identifier: MIT
 *
 * What the host language (dsl/, Lua) hands to the frontend: a tree of values. The frontend knows
 * nothing of Lua's state; the host knows nothing of what a spec may say.
 *
 * Constructors of the library make tables with a tag. One Lua object is one qn_host_value: identity
 * of a tensor is identity of its pointer. Tags and the fields that the frontend reads ([..] may be
 * absent; a fn is a QN_HOST_FUNCTION):
 *
 *     tensor     name, dtype, dims = {string or integer ..}, [order: integer of declaration],
 *                [sample: {lo, hi} or "offsets"]
 *     param      name, dtype, [default: number or boolean], [order]
 *     dim        name
 *     attention  name, [score, mask, scale, norm, out, position, outputs = {string ..},
 *                heads = {{[when], ..any of the knobs before outputs} ..}]
 *     and or     items a, b          masks: fn, boolean, or a tagged mask
 *     not        item a
 *     document   cu = tensor
 *     norm       kind = "softmax" "sigmoid" "relu" "relu2" "linear" "none", [sink: number, param,
 *                tensor over Hq, or fn(b, h)]; or kind = "user": [stat = "max" "min" "sum" "none"],
 *                weight = fn(s, m, b, h), [rescale = fn(m0, m1), finish = fn(o, l, m, b, h)]
 *     position   kind = "last" "rows"; or a tensor stands in its place
 *
 * score = fn(s, b, h, i, j) or a plain list of them, each applied to what the one before returned;
 * mask = fn(b, h, i, j); scale = number, param, tensor over Hq or fn(b, h); out = fn(o, b, h, i,
 * d); when = fn(h). Builtins are named "math.exp", "qn.tanh"; numbers such as math.pi are plain
 * floats. */
#ifndef QN_FRONTEND_HOST_H
#define QN_FRONTEND_HOST_H

#include "ir/base/diag.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum qn_host_kind {
    QN_HOST_NIL,
    QN_HOST_BOOL,
    QN_HOST_INT,
    QN_HOST_FLOAT,
    QN_HOST_STRING,
    QN_HOST_TABLE,    /* plain when tag is NULL */
    QN_HOST_FUNCTION, /* written in the spec (or in a std part): its text is compiled */
    QN_HOST_BUILTIN   /* "math.exp", "qn.tanh": known to the frontend by name */
} qn_host_kind;

typedef struct qn_host_value qn_host_value;

typedef struct qn_host_field {
    const char *key;
    const qn_host_value *value;
} qn_host_field;

typedef struct qn_host_capture { /* an upvalue, by the name it has in the function's text */
    const char *name;
    const qn_host_value *value; /* "_ENV": a table of the globals that a spec sees */
} qn_host_capture;

/* Text of one chunk as the user wrote it. */
typedef struct qn_host_chunk {
    const char *path;
    const char *text;
    size_t length;
} qn_host_chunk;

struct qn_host_value {
    qn_host_kind kind;
    const qn_host_chunk *chunk; /* where it was made, if known */
    qn_place place;             /* line at least; of functions: of the `function` token, exact */
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *text;
            size_t length;
        } string;
        struct {
            const char *tag;             /* "tensor", "attention" ..; NULL: a plain table */
            const qn_host_field *fields; /* string keys, in the order of the keys' bytes */
            int32_t nfields;
            const qn_host_value *const *items; /* 1..n */
            int32_t nitems;
        } table;
        struct {
            size_t begin, end; /* bytes in chunk->text, from `function` to past its `end` */
            const qn_host_capture *captures;
            int32_t ncaptures;
        } function;
        const char *builtin;
    } u;
};

/* The field of a table, or NULL. */
const qn_host_value *qn_host_field_of(const qn_host_value *v, const char *key);

#endif
