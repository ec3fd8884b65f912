/* SPDX-License-Identifier: MIT
 *
 * Inside the frontend. A kernel function is *executed* on symbols: its parameters are nodes, its
 * captures are what the host gave, and what comes out is a graph of typed scalar IR. So inlining,
 * unrolling and folding of constants are nothing but execution.
 *
 *     lex.c parse.c   text to trees (ast.h)
 *     eval.c          statements, names, calls: executes trees
 *     type.c          operators on values, with Lua's meaning
 *     builtin.c       math.* and qn.*
 *     node.c          nodes, made once each; functions of the spec from them
 *     bounds.c        is an index in range, a divisor not 0?
 *     tensor.c        declarations, dims and elements
 *     norm.c          norms
 *     check.c         the tree of the host to a spec
 *     lower.c         a spec to naive IR
 *     define.c        a spec to numbers
 */
#ifndef QN_FRONTEND_FRONT_H
#define QN_FRONTEND_FRONT_H

#include "frontend/ast.h"
#include "frontend/frontend.h"
#include "ir/build.h"

/* ---------------------------------------------------------------- nodes */

typedef enum qn_ntype {
    QN_N_BOOL,
    QN_N_INT,  /* i64 */
    QN_N_FLT,  /* the spec's number type: f32, or f64 with f64 inputs */
    QN_N_IDEAL /* f64 made of integers and constants alone, so that every target decides alike */
} qn_ntype;

enum { /* what a node depends on */
       QN_USES_B = 1,
       QN_USES_H = 2,
       QN_USES_I = 4, /* i or r */
       QN_USES_J = 8,
       QN_USES_S = 16,   /* s */
       QN_USES_ROW = 32, /* o l m, m0 m1 and the like */
       QN_USES_D = 64,
       QN_USES_DATA = 128 /* a load or a parameter */
};

typedef struct qn_flin { /* sum of coef * atom, + k */
    int32_t n;
    struct {
        struct qn_node *atom;
        int64_t coef;
    } t[6];
    int64_t k;
} qn_flin;

typedef struct qn_node qn_node;
struct qn_node {
    qn_expr x; /* its children are nodes too */
    qn_ntype type;
    uint32_t uses;
    int32_t id; /* children have lesser ones */
    int32_t depth;
    qn_sym hint;        /* the local that held it first */
    const qn_flin *lin; /* of integers */
};

/* ---------------------------------------------------------------- values */

typedef enum qn_fkind {
    QN_V_BAD, /* an error was reported */
    QN_V_NIL,
    QN_V_BOOL, /* constants */
    QN_V_INT,
    QN_V_FLOAT,
    QN_V_STRING,
    QN_V_NODE,
    QN_V_TABLE,  /* of the host */
    QN_V_TENSOR, /* with some of its indices */
    QN_V_FUNCTION,
    QN_V_BUILTIN,
    QN_V_MIXED /* not the same kind on every path: may not be used */
} qn_fkind;

typedef struct qn_fval {
    qn_fkind kind;
    bool b;
    int64_t i;
    double f;
    const char *text; /* strings and builtins */
    qn_node *node;
    const qn_host_value *host; /* tables, tensors, functions */
    struct qn_tensor *tensor;
    qn_node *const *index; /* of a tensor so far */
    int32_t nindex;
} qn_fval;

typedef struct qn_fvals {
    qn_fval *at;
    int32_t count, cap;
} qn_fvals;

typedef struct qn_tensor { /* a tensor that the spec reads */
    const qn_host_value *host;
    qn_sym name;
    qn_dtype dtype;
    int32_t rank;
    qn_axis *axes;
    bool *rows; /* axes over Nq: indexed by positions */
    int64_t order;
    bool used, is_table, sound;
    qn_place place;
} qn_tensor;

typedef struct qn_scalar { /* a param */
    const qn_host_value *host;
    qn_sym name;
    qn_dtype dtype;
    qn_expr *value;
    int64_t order;
    qn_place place;
} qn_scalar;

typedef struct qn_fact {
    qn_node *cond;
    bool holds; /* else its negation does */
} qn_fact;

typedef struct qn_facts {
    qn_fact *at;
    int32_t count, cap;
} qn_facts;

typedef struct qn_front {
    qn_ir *ir;
    qn_diags *d;
    qn_spec *spec;
    const qn_spec_options *options;
    struct {
        qn_node **at;
        int32_t count, cap;
    } nodes; /* by id */
    struct {
        qn_node **at;
        uint32_t cap;
    } table; /* hash-consing; cap is a power of two */
    struct {
        qn_tensor **at;
        int32_t count, cap;
    } tensors;
    struct {
        qn_scalar **at;
        int32_t count, cap;
    } scalars;
    struct {
        struct qn_parsed *at;
        int32_t count, cap;
    } parsed; /* trees by host function */
    struct {
        const qn_host_value **at;
        int32_t count, cap;
    } calls;                    /* being inlined now */
    const qn_host_chunk *chunk; /* of the text at hand */
    qn_facts path;              /* conditions under which the present place is reached */
    qn_facts given;             /* what holds wherever the present function's result is used */
    struct {
        qn_expr **at; /* nodes */
        int32_t count, cap;
    } flags;       /* of the present function */
    int32_t depth; /* of evaluation */
    int64_t fuel;
    bool exhausted; /* fuel or depth ran out: said once */
} qn_front;

typedef struct qn_parsed {
    const qn_host_value *host;
    const qn_ast_function *tree; /* NULL: in error */
} qn_parsed;

/* An error at a place of fr->chunk. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
qn_diag *
qn_front_error(qn_front *fr, const char *code, qn_place place, const char *format, ...);
/* The same at a value of the host. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
qn_diag *
qn_host_error(qn_front *fr, const char *code, const qn_host_value *at, const char *format, ...);

/* node.c */
qn_node *qn_node_int(qn_front *fr, int64_t i);
qn_node *qn_node_flt(qn_front *fr, double f, qn_ntype type);
qn_node *qn_node_bool(qn_front *fr, bool b);
qn_node *qn_node_name(qn_front *fr, qn_sym name, qn_ntype type, uint32_t uses);
qn_node *qn_node_op(qn_front *fr, qn_op op, qn_ntype type, qn_node *const *args, int n);
qn_node *qn_node_op1(qn_front *fr, qn_op op, qn_ntype type, qn_node *a);
qn_node *qn_node_op2(qn_front *fr, qn_op op, qn_ntype type, qn_node *a, qn_node *b);
qn_node *qn_node_op3(qn_front *fr, qn_op op, qn_ntype type, qn_node *a, qn_node *b, qn_node *c);
qn_node *qn_node_cast(qn_front *fr, qn_dtype to, qn_ntype type, qn_node *a);
qn_node *qn_node_load(qn_front *fr, qn_sym base, qn_node *const *index, int n, bool guarded,
                      qn_ntype type);
static inline qn_node *qn_node_arg(const qn_node *n, int k)
{
    return (qn_node *)n->x.u.op.args.at[k];
}
static inline bool qn_node_is_lit(const qn_node *n)
{
    return n->x.kind == QN_LIT;
}
static inline bool qn_node_is_op(const qn_node *n, qn_op op)
{
    return n->x.kind == QN_OP && n->x.u.op.op == op;
}
/* Results and flags as a function of the spec: nodes used more than once, and deep ones, become
 * lets. Afterwards the expressions are plain trees. */
qn_spec_fn *qn_node_function(qn_front *fr, qn_node *const *results, int n, qn_expr *const *flags,
                             int nflags);

/* type.c */
qn_fval qn_fval_int(int64_t i);
qn_fval qn_fval_flt(double f);
qn_fval qn_fval_bool(bool b);
qn_fval qn_fval_node(qn_node *n);
bool qn_fval_is_number(const qn_fval *v);
bool qn_fval_is_const(const qn_fval *v); /* a number, boolean, string or nil known now */
const char *qn_fval_describe(const qn_fval *v);
qn_node *qn_fval_to_flt(qn_front *fr, const qn_fval *v);   /* of a number */
qn_node *qn_fval_to_int(qn_front *fr, const qn_fval *v);   /* of an integer */
qn_node *qn_fval_to_ideal(qn_front *fr, const qn_fval *v); /* of a number without FLT */
qn_node *qn_fval_to_bool(qn_front *fr, const qn_fval *v);  /* of a boolean */
typedef enum qn_join {
    QN_JOIN_CONST,
    QN_JOIN_INT,
    QN_JOIN_FLT,
    QN_JOIN_IDEAL,
    QN_JOIN_NONE
} qn_join;
qn_join qn_fval_join(const qn_fval *vs, int n); /* the common type of numbers */
qn_node *qn_fval_to(qn_front *fr, const qn_fval *v, qn_join to);
qn_ntype qn_join_type(const qn_front *fr, qn_join j); /* not of CONST, NONE */
qn_fval qn_binary(qn_front *fr, qn_lua_op op, const qn_fval *a, const qn_fval *b, qn_place place);
qn_fval qn_unary(qn_front *fr, qn_lua_op op, const qn_fval *a, qn_place place);
/* cond ? a : b, of two numbers or two booleans; BAD without a word if they do not meet. */
qn_fval qn_choose(qn_front *fr, qn_node *cond, const qn_fval *a, const qn_fval *b);
qn_node *qn_and(qn_front *fr, qn_node *a, qn_node *b);
qn_node *qn_not(qn_front *fr, qn_node *a);
/* a // b or a % b of integers: 0 and a flag where b is 0. */
qn_node *qn_divide(qn_front *fr, qn_op op, qn_node *a, qn_node *b);
/* The function's flag is raised where the present place is reached and cond holds. */
void qn_raise(qn_front *fr, qn_node *cond);

/* builtin.c */
qn_fval qn_builtin(qn_front *fr, const char *name, const qn_fval *args, int n, qn_place place);

/* bounds.c */
const qn_flin *qn_flin_of(qn_front *fr, qn_node *n); /* by qn_node's making; never recursive */
qn_node *qn_flin_node(qn_front *fr, const qn_flin *l);
qn_flin qn_flin_const(int64_t k);
/* l + coef * x; false: too many terms or an overflow */
bool qn_flin_add(qn_flin *l, const qn_flin *x, int64_t coef);
bool qn_flin_prove(qn_front *fr, const qn_flin *l, bool with_facts);
qn_node *qn_name_row(qn_front *fr);      /* r */
qn_node *qn_name_position(qn_front *fr); /* i as a node: r + Nk - Nq, r, or i */

/* tensor.c */
qn_tensor *qn_tensor_of(qn_front *fr, const qn_host_value *host);
/* What may be put into it when nobody gives it; errors are noted. */
qn_sample qn_sample_of(qn_front *fr, const qn_tensor *t);
qn_scalar *qn_scalar_of(qn_front *fr, const qn_host_value *host);
bool qn_extent_parse(qn_front *fr, const qn_host_value *at, const char *text, qn_extent *out);
qn_node *qn_dim_node(qn_front *fr, qn_sym name);
bool qn_dim_const(const qn_front *fr, qn_sym name, int64_t *out);
qn_fval qn_tensor_element(qn_front *fr, const qn_fval *tensor, const qn_fval *index,
                          qn_place place);
qn_fval qn_param_value(qn_front *fr, const qn_scalar *s);
bool qn_name_free(qn_front *fr, const qn_host_value *at, const char *name);

/* eval.c */
qn_fval qn_fval_of_host(qn_front *fr, const qn_host_value *v);
/* Executes a function on arguments; results in *out. False: errors were reported. The flags raised
 * are in fr->flags (the caller empties it). */
bool qn_call_function(qn_front *fr, const qn_host_value *f, const qn_fval *args, int n,
                      qn_fvals *out, qn_place place);

/* norm.c */
qn_norm *qn_norm_make(qn_front *fr, const qn_host_value *host, qn_sym name, bool want_lse,
                      bool want_max, const qn_spec_fn **extra);

#endif
