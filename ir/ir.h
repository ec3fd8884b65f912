/* SPDX-License-Identifier: MIT
 *
 * The IR as data. README.md of this folder is the reference of the language; this header is its
 * picture in C:
 *
 *     qn_ir_file = norms, kernels, schedules            in the order of the text
 *     kernel  = dims, params, requires, body         body: let, buf .. in call, launch
 *     stmt    = let buf store for if yield sync launch flag prefetch
 *     expr    = lit name iota load op axop fold as   a tree owned by its statement
 *
 * Expressions are immutable once built and may be shared by reference between trees; passes make
 * new ones (build.h) and rewrite (walk.h). Statements are mutable; a block is an array of them.
 * Everything lives in the arena of its qn_ir and dies with it. Names are interned: equal names are
 * equal pointers. Value and buffer names keep their '%', kernels, norms and schedules their '@'. */
#ifndef QN_IR_IR_H
#define QN_IR_IR_H

#include "ir/base/arena.h"
#include "ir/base/diag.h"
#include <stdbool.h>
#include <stdint.h>

typedef const char *qn_sym; /* interned in a qn_ir */

/* The home of nodes and names of one compilation. */
typedef struct qn_ir {
    qn_arena *arena;
    struct qn_symtab *symtab;
} qn_ir;

void qn_ir_init(qn_ir *ir, qn_arena *arena);
qn_sym qn_intern(qn_ir *ir, const char *text);
qn_sym qn_intern_n(qn_ir *ir, const char *text, size_t length);

/* ---------------------------------------------------------------- types */

typedef enum qn_dtype {
#define X(ID, name, bytes, class) QN_##ID,
#include "ir/types.def"
#undef X
    QN_DTYPES,
    /* types of literals that no operand has settled yet; never in a text */
    QN_INT_LIT = QN_DTYPES,
    QN_FLT_LIT,
    QN_NO_TYPE
} qn_dtype;

const char *qn_dtype_name(qn_dtype t);
int qn_dtype_bytes(qn_dtype t);
bool qn_dtype_is_float(qn_dtype t); /* QN_FLT_LIT too */
bool qn_dtype_is_int(qn_dtype t);   /* QN_INT_LIT too; not bool */
bool qn_dtype_find(const char *name, qn_dtype *out);
qn_dtype qn_dtype_join(qn_dtype a, qn_dtype b); /* common type of two operands, or QN_NO_TYPE */
qn_dtype qn_dtype_settle(qn_dtype t);           /* literal types become i64 and f32 */
qn_dtype qn_dtype_accumulator(qn_dtype t);      /* of a dot: f16, bf16 give f32; i8, u8 give i32 */

typedef struct qn_extent {
    qn_sym dim; /* NULL: the constant n */
    int64_t n;
} qn_extent;

typedef struct qn_axis {
    qn_sym name;
    qn_extent extent;
} qn_axis;

enum { QN_MAX_AXES = 12 };

typedef struct qn_type {
    qn_dtype dtype;
    int32_t rank;
    const qn_axis *axes; /* in the order written; the order means nothing for values */
} qn_type;

/* ---------------------------------------------------------------- expressions */

typedef enum qn_op {
#define X(ID, text, arity, rule, prec, doc) QN_OP_##ID,
#include "ir/ops.def"
#undef X
    QN_OPS
} qn_op;

typedef enum qn_axop {
#define X(ID, text, arity, doc) QN_AX_##ID,
#include "ir/axisops.def"
#undef X
    QN_AXOPS
} qn_axop;

typedef struct qn_op_info {
    const char *text;
    int32_t arity;
    char rule; /* as in ops.def */
    int32_t precedence;
} qn_op_info;
const qn_op_info *qn_op_info_of(qn_op op);
const char *qn_axop_text(qn_axop op);
bool qn_axop_is_reduce(qn_axop op); /* reduce.*, argmax and argmin included */
bool qn_axop_is_scan(qn_axop op);
bool qn_op_is_compare(qn_op op);

typedef enum qn_expr_kind {
    QN_LIT,  /* 1  2.5  inf  true */
    QN_NAME, /* a dim, scalar parameter, loop index or %value; inside a norm its own names */
    QN_IOTA, /* i:64 */
    QN_LOAD, /* x[..]  tile x[..] pad c */
    QN_OP,   /* pointwise, casts included */
    QN_AXOP, /* dot(a, b, over d) .. */
    QN_FOLD, /* fold @norm(.., over j, where c) */
    QN_AS    /* x as (a -> b) */
} qn_expr_kind;

typedef struct qn_expr qn_expr;

typedef struct qn_exprs {
    qn_expr *const *at;
    int32_t count;
} qn_exprs;

typedef struct qn_rename {
    qn_sym from, to;
} qn_rename;

struct qn_expr {
    qn_expr_kind kind;
    qn_place place;
    union {
        struct {
            qn_dtype type; /* QN_INT_LIT, QN_FLT_LIT or QN_BOOL */
            int64_t i;     /* integers (never negative: minus is an op) and bools */
            double f;
        } lit;
        qn_sym name;
        qn_axis iota;
        struct {
            qn_sym base; /* a parameter or %buffer */
            qn_exprs index;
            bool guarded;       /* tile x[..] */
            const qn_expr *pad; /* NULL: 0; a literal, perhaps under a minus */
        } load;
        struct {
            qn_op op;
            qn_dtype cast; /* of QN_OP_CAST */
            qn_exprs args;
        } op;
        struct {
            qn_axop op;
            qn_exprs args;
            const qn_sym *over;
            int32_t nover;
            qn_axis fresh; /* of topk: r:K */
        } axop;
        struct {
            qn_sym norm;
            qn_exprs args;
            const qn_sym *over;
            int32_t nover;
            qn_expr *where; /* NULL: all */
        } fold;
        struct {
            qn_expr *x;
            const qn_rename *pairs;
            int32_t npairs;
        } as;
    } u;
};

/* ---------------------------------------------------------------- statements */

typedef struct qn_attr_arg {
    qn_expr *lo, *hi; /* hi NULL: a single expression */
} qn_attr_arg;

typedef struct qn_attr {
    qn_sym name; /* without the '!' */
    const qn_attr_arg *args;
    int32_t nargs;
} qn_attr;

typedef struct qn_attrs {
    qn_attr *at;
    int32_t count, cap;
} qn_attrs;

typedef struct qn_stmt qn_stmt;

typedef struct qn_block {
    qn_stmt **at;
    int32_t count, cap;
} qn_block;

typedef struct qn_piece { /* lo..hi, or list table[index.., lo..hi] */
    qn_sym list;          /* NULL: a plain range */
    qn_exprs index;       /* leading indices of the list */
    qn_expr *lo, *hi;
} qn_piece;

typedef struct qn_iter {
    qn_sym name;
    qn_sym end; /* NULL, or the name of the end of the piece at hand */
    const qn_piece *pieces;
    int32_t npieces;
    qn_expr *step; /* NULL: 1 */
} qn_iter;

typedef struct qn_carry {
    qn_sym name;
    qn_type type;
    qn_expr *init;
} qn_carry;

typedef enum qn_space { QN_SPACE_CALL, QN_SPACE_TASK, QN_SPACE_SHARED } qn_space;
typedef enum qn_store_mode { QN_STORE_SET, QN_STORE_ADD, QN_STORE_MAX, QN_STORE_MIN } qn_store_mode;
typedef enum qn_store_order { QN_STORE_PLAIN, QN_STORE_ORDERED, QN_STORE_ATOMIC } qn_store_order;

typedef enum qn_stmt_kind {
    QN_LET,
    QN_BUF,
    QN_STORE,
    QN_FOR, /* par nests too */
    QN_IF,
    QN_YIELD,
    QN_SYNC, /* await, free */
    QN_LAUNCH,
    QN_FLAG,    /* flag(cond, CODE): the call returns that status, sticky */
    QN_PREFETCH /* prefetch x[..]: no meaning */
} qn_stmt_kind;

struct qn_stmt {
    qn_stmt_kind kind;
    qn_place place;
    qn_attrs attrs; /* of let, buf, store, for */
    union {
        struct {
            const qn_sym *names;
            int32_t nnames;
            qn_expr *x;
        } let;
        struct {
            qn_sym name;
            qn_type type;
            qn_space space;
            qn_sym ring;     /* NULL, or the first axis */
            qn_exprs layout; /* count 0: none; axis, axis // c, axis % c, axis // c % d */
        } buf;
        struct {
            bool start;
            qn_store_mode mode;
            qn_store_order order;
            qn_sym base;
            qn_exprs index;
            qn_expr *x;
        } store;
        struct {
            bool par;
            qn_iter *iters;
            int32_t niters;
            qn_carry *carries;
            int32_t ncarries;
            qn_expr *cost; /* NULL: none */
            qn_block body;
        } loop;
        struct {
            const qn_sym *names;
            int32_t nnames;
            qn_expr *cond;
            qn_block then, other;
            bool has_else;
        } branch;
        qn_exprs yield;
        struct {
            bool await; /* else free */
            qn_sym base;
            qn_exprs index;
        } sync;
        qn_block launch;
        struct {
            qn_expr *cond;
            qn_sym code; /* "E_INDEX" */
        } flag;
        struct {
            qn_sym base;
            qn_exprs index;
        } prefetch;
    } u;
};

/* ---------------------------------------------------------------- files */

typedef enum qn_direction { QN_IN, QN_OUT, QN_INOUT } qn_direction;

typedef struct qn_dim {
    qn_sym name;
    qn_expr *value; /* NULL: an argument of the call */
    qn_place place;
} qn_dim;

/* What a program may put into an integer tensor that nobody gave; no part of the text. */
typedef struct qn_sample {
    enum { QN_SAMPLE_NONE, QN_SAMPLE_RANGE, QN_SAMPLE_OFFSETS } kind;
    int64_t lo, hi; /* RANGE: lo <= x <= hi; OFFSETS rise from 0 to the number of keys */
} qn_sample;

typedef struct qn_param {
    qn_direction direction;
    qn_sym name;
    qn_type type;
    qn_expr *value; /* default of a scalar; NULL: must be given */
    qn_place place;
    qn_sample sample;
} qn_param;

typedef struct qn_require {
    qn_expr *cond;
    const char *text;
    qn_place place;
} qn_require;

typedef struct qn_kernel_ir {
    qn_sym name;
    qn_attrs attrs;
    struct {
        qn_dim *at;
        int32_t count, cap;
    } dims;
    struct {
        qn_param *at;
        int32_t count, cap;
    } params;
    struct {
        qn_require *at;
        int32_t count, cap;
    } requires;
    qn_block body;
    qn_place place;
} qn_kernel_ir;

typedef struct qn_norm_def { /* name = expr of a sum or of finish */
    qn_sym name;
    qn_expr *x;
} qn_norm_def;

typedef struct qn_norm {
    qn_sym name;
    const qn_sym *args;
    int32_t nargs;
    const qn_sym *outs;
    int32_t nouts;
    qn_sym stat; /* NULL: stat none */
    qn_axop stat_op; /* QN_AX_REDUCE_MAX, _MIN or _SUM */
    qn_expr *stat_x;
    qn_expr *weight;
    qn_sym rescale_from, rescale_to; /* NULL: no rescale */
    qn_expr *rescale;
    const qn_norm_def *sums;
    int32_t nsums;
    const qn_norm_def *finish;
    int32_t nfinish;
    qn_place place;
} qn_norm;

typedef struct qn_schedule qn_schedule; /* schedule.h */

typedef enum qn_item_kind { QN_ITEM_NORM, QN_ITEM_KERNEL, QN_ITEM_SCHEDULE } qn_item_kind;

typedef struct qn_item {
    qn_item_kind kind;
    union {
        qn_norm *norm;
        qn_kernel_ir *kernel;
        qn_schedule *schedule;
    } u;
} qn_item;

typedef struct qn_ir_file {
    qn_ir *ir;
    struct {
        qn_item *at;
        int32_t count, cap;
    } items;
} qn_ir_file;

/* The first kernel of that name, or the first at all when name is NULL ("@x" or "x"); or NULL. */
qn_kernel_ir *qn_file_kernel(const qn_ir_file *f, const char *name);
qn_norm *qn_file_norm(const qn_ir_file *f, qn_sym name);
qn_schedule *qn_file_schedule(const qn_ir_file *f, const char *name);

/* ---------------------------------------------------------------- attributes */

const qn_attr *qn_attr_find(const qn_attrs *attrs, const char *name);
void qn_attr_add(qn_ir *ir, qn_attrs *attrs, const char *name, const qn_attr_arg *args, int nargs);
void qn_attr_remove(qn_attrs *attrs, const char *name); /* every one of that name */

#endif
