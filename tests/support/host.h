/* SPDX-License-Identifier: MIT
 *
 * Host trees by hand, for tests of the frontend that need no Lua:
 *
 *     host_world w; host_init(&w, &ir, "spec.lua");
 *     const qn_host_value *slope = host_tensor(&w, "slope", "f32", "Hq", NULL);
 *     const qn_host_value *spec = host_table(&w, "attention",
 *         "score", host_fn(&w, "function(s, b, h, i, j) return s + slope[h] * (j - i) end",
 *                          "slope", slope, NULL),
 *         "mask", host_fn(&w, "function(b, h, i, j) return j <= i end", NULL), NULL);
 *
 * Every function's text is a chunk of its own; `math` and `qn` are among its globals. */
#ifndef QN_TESTS_HOST_H
#define QN_TESTS_HOST_H

#include "frontend/host.h"
#include "ir/ir.h"

typedef struct host_world {
    qn_ir *ir;
    const char *path;
    const qn_host_value *env; /* { math = .., qn = .. } */
    int64_t order;
} host_world;

void host_init(host_world *w, qn_ir *ir, const char *path);
const qn_host_value *host_int(host_world *w, int64_t i);
const qn_host_value *host_float(host_world *w, double f);
const qn_host_value *host_bool(host_world *w, bool b);
const qn_host_value *host_string(host_world *w, const char *s);
/* Pairs of key and value, ended by NULL. tag NULL: a plain table. */
const qn_host_value *host_table(host_world *w, const char *tag, ...);
/* Items, ended by NULL. */
const qn_host_value *host_list(host_world *w, const char *tag, ...);
/* Pairs of name and captured value, ended by NULL. */
const qn_host_value *host_fn(host_world *w, const char *text, ...);
/* Dims as texts, ended by NULL. */
const qn_host_value *host_tensor(host_world *w, const char *name, const char *dtype, ...);
const qn_host_value *host_param(host_world *w, const char *name, const char *dtype,
                                const qn_host_value *value);
const qn_host_value *host_norm(host_world *w, const char *kind);

#endif
