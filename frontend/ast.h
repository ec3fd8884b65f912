/* SPDX-License-Identifier: MIT
 * Tokens and trees of kernel functions: the documented subset of Lua 5.4, with exact places.
 * Names and strings are interned in the qn_ir. */
#ifndef QN_FRONTEND_AST_H
#define QN_FRONTEND_AST_H

#include "frontend/host.h"
#include "ir/ir.h"

typedef enum qn_tok_kind {
    QN_TK_END,
    QN_TK_BAD, /* an error was reported */
    QN_TK_NAME,
    QN_TK_INT,
    QN_TK_FLOAT,
    QN_TK_STRING,
    QN_TK_KEYWORD, /* text is interned: "and" .. */
    QN_TK_SYMBOL   /* text is interned: "<=" .. */
} qn_tok_kind;

typedef struct qn_tok {
    qn_tok_kind kind;
    qn_place place;
    qn_sym text; /* names, keywords, symbols, strings */
    int64_t i;
    double f;
} qn_tok;

typedef struct qn_lua_lexer {
    qn_ir *ir;
    qn_diags *d;
    const qn_host_chunk *chunk;
    size_t at, end;
    size_t line_at; /* where the present line begins */
    int32_t line;
} qn_lua_lexer;

void qn_lua_lexer_init(qn_lua_lexer *l, qn_ir *ir, qn_diags *d, const qn_host_chunk *chunk,
                       size_t begin, size_t end);
qn_tok qn_lua_lexer_next(qn_lua_lexer *l);

/* ---------------------------------------------------------------- trees */

typedef enum qn_ast_kind {
    QN_AST_NIL,
    QN_AST_BOOL,
    QN_AST_INT,
    QN_AST_FLOAT,
    QN_AST_STRING,
    QN_AST_NAME,
    QN_AST_INDEX, /* a[b], a.name */
    QN_AST_CALL,  /* a(items ..) */
    QN_AST_UNARY, /* op a */
    QN_AST_BINARY /* a op b */
} qn_ast_kind;

/* Operators of Lua, by their text in parse.c's table. */
typedef enum qn_lua_op {
    QN_LUA_OR,
    QN_LUA_AND,
    QN_LUA_LT,
    QN_LUA_GT,
    QN_LUA_LE,
    QN_LUA_GE,
    QN_LUA_NE,
    QN_LUA_EQ,
    QN_LUA_BOR,
    QN_LUA_BXOR,
    QN_LUA_BAND,
    QN_LUA_SHL,
    QN_LUA_SHR,
    QN_LUA_ADD,
    QN_LUA_SUB,
    QN_LUA_MUL,
    QN_LUA_DIV,
    QN_LUA_FLOORDIV,
    QN_LUA_MOD,
    QN_LUA_POW,
    QN_LUA_NOT,
    QN_LUA_NEG,
    QN_LUA_BNOT
} qn_lua_op;

const char *qn_lua_op_text(qn_lua_op op);

typedef struct qn_ast qn_ast;
struct qn_ast {
    qn_ast_kind kind;
    qn_place place;
    qn_lua_op op;
    bool b;
    int64_t i;
    double f;
    qn_sym text; /* names, strings */
    qn_ast *l, *r;
    qn_ast **items; /* arguments of a call */
    int32_t nitems;
    int32_t height; /* of the tree below, bounded */
};

typedef enum qn_ast_stmt_kind {
    QN_AST_LOCAL,  /* local names = exprs */
    QN_AST_ASSIGN, /* names = exprs */
    QN_AST_IF,     /* conds and blocks; the last block may have no cond */
    QN_AST_FOR,    /* for name = a, b, c do block end */
    QN_AST_DO,
    QN_AST_RETURN
} qn_ast_stmt_kind;

typedef struct qn_ast_stmt qn_ast_stmt;

typedef struct qn_ast_block {
    qn_ast_stmt **at;
    int32_t count, cap;
    bool returns; /* a return occurs in it, nested blocks included */
} qn_ast_block;

struct qn_ast_stmt {
    qn_ast_stmt_kind kind;
    qn_place place;
    const qn_sym *names;
    const qn_place *name_places;
    int32_t nnames;
    qn_ast **exprs; /* right sides, conditions, bounds, results */
    int32_t nexprs;
    qn_ast_block *blocks; /* of if: one more than conditions when there is an else */
    int32_t nblocks;
};

typedef struct qn_ast_function {
    const qn_host_chunk *chunk;
    qn_place place;
    const qn_sym *params;
    int32_t nparams;
    qn_ast_block body;
} qn_ast_function;

/* The tree of a QN_HOST_FUNCTION; NULL: at least one error is in d. */
qn_ast_function *qn_ast_parse(qn_ir *ir, const qn_host_value *function, qn_diags *d);

#endif
