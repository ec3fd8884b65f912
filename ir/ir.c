/* SPDX-License-Identifier: MIT
 * Names, tables and look-ups of the IR; see ir.h. */
#include "ir/ir.h"

#include <string.h>

/* ---------------------------------------------------------------- interning */

typedef struct qn_symtab {
    qn_sym *at; /* open addressing; cap is a power of two */
    uint32_t count, cap;
} qn_symtab;

static uint64_t hash_text(const char *t, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t k = 0; k < n; k++) {
        h = (h ^ (unsigned char)t[k]) * 0x100000001b3u;
    }
    return h;
}

void qn_ir_init(qn_ir *ir, qn_arena *arena)
{
    ir->arena = arena;
    ir->symtab = QN_NEW(arena, qn_symtab);
    ir->symtab->cap = 256;
    ir->symtab->at = QN_NEWN(arena, qn_sym, 256);
}

static void widen(qn_ir *ir)
{
    qn_symtab *t = ir->symtab;
    uint32_t cap = t->cap * 2;
    qn_sym *at = QN_NEWN(ir->arena, qn_sym, cap);
    for (uint32_t k = 0; k < t->cap; k++) {
        if (t->at[k]) {
            uint64_t h = hash_text(t->at[k], strlen(t->at[k]));
            while (at[h & (cap - 1)]) {
                h++;
            }
            at[h & (cap - 1)] = t->at[k];
        }
    }
    t->at = at;
    t->cap = cap;
}

qn_sym qn_intern_n(qn_ir *ir, const char *text, size_t length)
{
    qn_symtab *t = ir->symtab;
    uint64_t h = hash_text(text, length);
    for (;; h++) {
        qn_sym s = t->at[h & (t->cap - 1)];
        if (!s) {
            break;
        }
        if (strncmp(s, text, length) == 0 && s[length] == 0) {
            return s;
        }
    }
    if (t->count * 4 >= t->cap * 3) {
        widen(ir);
        return qn_intern_n(ir, text, length);
    }
    t->count++;
    return t->at[h & (t->cap - 1)] = qn_arena_text(ir->arena, text, length);
}

qn_sym qn_intern(qn_ir *ir, const char *text)
{
    return qn_intern_n(ir, text, strlen(text));
}

/* ---------------------------------------------------------------- dtypes */

static const struct {
    const char *name;
    int bytes;
    char class;
} dtypes[] = {
#define X(ID, name, bytes, class) {name, bytes, #class[0]},
#include "ir/types.def"
#undef X
};

const char *qn_dtype_name(qn_dtype t)
{
    return t < QN_DTYPES ? dtypes[t].name : t == QN_INT_LIT ? "int" : t == QN_FLT_LIT ? "flt" : "none";
}

int qn_dtype_bytes(qn_dtype t)
{
    return t < QN_DTYPES ? dtypes[t].bytes : 8;
}

bool qn_dtype_is_float(qn_dtype t)
{
    return t == QN_FLT_LIT || (t < QN_DTYPES && dtypes[t].class == 'F');
}

bool qn_dtype_is_int(qn_dtype t)
{
    return t == QN_INT_LIT || (t < QN_DTYPES && (dtypes[t].class == 'I' || dtypes[t].class == 'U'));
}

bool qn_dtype_find(const char *name, qn_dtype *out)
{
    for (int k = 0; k < QN_DTYPES; k++) {
        if (strcmp(dtypes[k].name, name) == 0) {
            *out = (qn_dtype)k;
            return true;
        }
    }
    return false;
}

qn_dtype qn_dtype_join(qn_dtype a, qn_dtype b)
{
    if (a == b) {
        return a;
    }
    if (a == QN_INT_LIT || a == QN_FLT_LIT) {
        qn_dtype t = a;
        a = b;
        b = t;
    }
    if (b == QN_FLT_LIT) {
        return qn_dtype_is_float(a) ? a : QN_NO_TYPE;
    }
    if (b == QN_INT_LIT) {
        return qn_dtype_is_int(a) ? a : QN_NO_TYPE;
    }
    if (qn_dtype_is_int(a) && qn_dtype_is_int(b) && dtypes[a].bytes != dtypes[b].bytes) {
        return dtypes[a].bytes > dtypes[b].bytes ? a : b;
    }
    return QN_NO_TYPE;
}

qn_dtype qn_dtype_settle(qn_dtype t)
{
    return t == QN_INT_LIT ? QN_I64 : t == QN_FLT_LIT ? QN_F32 : t;
}

qn_dtype qn_dtype_accumulator(qn_dtype t)
{
    return t == QN_F16 || t == QN_BF16 ? QN_F32 : t == QN_I8 || t == QN_U8 ? QN_I32 : qn_dtype_settle(t);
}

/* ---------------------------------------------------------------- ops */

static const qn_op_info ops[] = {
#define X(ID, text, arity, rule, prec, doc) {text, arity, #rule[0], prec},
#include "ir/ops.def"
#undef X
};

static const char *const axops[] = {
#define X(ID, text, arity, doc) text,
#include "ir/axisops.def"
#undef X
};

const qn_op_info *qn_op_info_of(qn_op op)
{
    return &ops[op];
}

const char *qn_axop_text(qn_axop op)
{
    return axops[op];
}

bool qn_axop_is_reduce(qn_axop op)
{
    return op >= QN_AX_REDUCE_SUM && op <= QN_AX_REDUCE_ARGMIN;
}

bool qn_axop_is_scan(qn_axop op)
{
    return op >= QN_AX_SCAN_SUM && op <= QN_AX_SCAN_PROD;
}

bool qn_op_is_compare(qn_op op)
{
    return op >= QN_OP_EQ && op <= QN_OP_GE;
}

/* ---------------------------------------------------------------- files and attributes */

static bool named(const char *have, const char *want)
{
    return !want || strcmp(have, want) == 0 || (have[0] == '@' && strcmp(have + 1, want) == 0);
}

qn_kernel_ir *qn_file_kernel(const qn_ir_file *f, const char *name)
{
    for (int k = 0; k < f->items.count; k++) {
        const qn_item *it = &f->items.at[k];
        if (it->kind == QN_ITEM_KERNEL && named(it->u.kernel->name, name)) {
            return it->u.kernel;
        }
    }
    return NULL;
}

qn_norm *qn_file_norm(const qn_ir_file *f, qn_sym name)
{
    for (int k = 0; k < f->items.count; k++) {
        const qn_item *it = &f->items.at[k];
        if (it->kind == QN_ITEM_NORM && it->u.norm->name == name) {
            return it->u.norm;
        }
    }
    return NULL;
}

const qn_attr *qn_attr_find(const qn_attrs *attrs, const char *name)
{
    for (int k = 0; k < attrs->count; k++) {
        if (strcmp(attrs->at[k].name, name) == 0) {
            return &attrs->at[k];
        }
    }
    return NULL;
}

void qn_attr_add(qn_ir *ir, qn_attrs *attrs, const char *name, const qn_attr_arg *args, int nargs)
{
    qn_attr_arg *copy = QN_NEWN(ir->arena, qn_attr_arg, nargs ? nargs : 1);
    if (nargs) {
        memcpy(copy, args, sizeof *args * (size_t)nargs);
    }
    qn_attr a = {qn_intern(ir, name), copy, nargs};
    QN_PUSH(ir->arena, attrs, a);
}

void qn_attr_remove(qn_attrs *attrs, const char *name)
{
    int n = 0;
    for (int k = 0; k < attrs->count; k++) {
        if (strcmp(attrs->at[k].name, name) != 0) {
            attrs->at[n++] = attrs->at[k];
        }
    }
    attrs->count = n;
}
