/* SPDX-License-Identifier: MIT
 *
 * The state of one emission, and what its parts offer each other.
 *
 *     target.c   slots of the targets; object, blob
 *     emit.c     functions of a kernel, statements, loops, branches
 *     tree.c     expressions become typed trees; names are looked up, contractions get their tiles
 *     eval.c     one element (or one register of lanes) of a tree
 *     ops.c      pointwise ops, casts;  math.c  exp, log and their kin
 *     address.c  arrays, layouts, indices, what is in range;  memory.c  loads and stores
 *     axisops.c  dot, reduce, scan, topk, solve: over registers or over memory
 *     gen.c      builders of small code, loops, scratch
 *     hoist.c    scalars, made once and outside of loops
 *
 * A nest with !leaf(width, ..) keeps every value in registers: one LLVM value for each `width`
 * lanes along the value's lane axis and each index of its other axes. Any other nest keeps values
 * with axes as arrays in the task's scratch. The same trees and the same evaluator serve both: an
 * element's coordinates are constants in the first case and loop indices in the second. */
#ifndef QN_BACKENDS_X86_GEN_H
#define QN_BACKENDS_X86_GEN_H

#include "backends/target.h"
#include "backends/x86/llvm.h"
#include "ir/build.h"

typedef LLVMValueRef qn_v;
typedef LLVMTypeRef qn_ty;
typedef LLVMBasicBlockRef qn_bb;

/* Facts of an instruction set that emission depends on. */
typedef struct qn_isa {
    const char *cpu;
    int32_t lanes;
    bool fma, rounding, f16c, scalef; /* fused multiply-add, round to integral, half floats, 2^n */
} qn_isa;

/* A value of the text. In registers: one a part, parts in row-major order over type.axes, the lane
 * axis counted in registers. In memory: `base` is its array, row-major over type.axes. */
typedef struct qn_tile {
    qn_type type; /* settled */
    qn_v *regs;
    int32_t nregs;
    qn_v base; /* NULL: in registers */
} qn_tile;

typedef struct qn_layout_piece {
    int32_t axis;     /* index of the dimension */
    int64_t div, mod; /* idx // div % mod; mod 0: none */
    qn_v stride;      /* elements */
} qn_layout_piece;

/* A tensor, call buffer or task buffer. */
typedef struct qn_memory {
    qn_sym name;
    qn_type type;
    qn_v base;
    qn_v *extent; /* per dimension, i64 */
    qn_layout_piece *pieces;
    int32_t npieces;
    bool row_major; /* one piece a dimension, in order */
} qn_memory;

/* What a name stands for. */
typedef struct qn_entry {
    qn_sym name;
    const qn_tile *tile;     /* dims, scalars and indices too */
    const qn_memory *memory; /* or this */
    struct qn_entry *next;
} qn_entry;

/* Where an evaluation stands: each axis at an element, or at the first lane of a register. */
typedef struct qn_at {
    qn_sym axis;
    qn_v index;   /* i64 */
    int64_t part; /* number of the register along the axis; only in leaf nests */
} qn_at;

enum { QN_MAX_AT = 2 * QN_MAX_AXES };

typedef struct qn_coords {
    qn_at at[QN_MAX_AT];
    int32_t count;
} qn_coords;

typedef enum qn_node_kind {
    QN_NODE_LITERAL, /* not yet of a dtype */
    QN_NODE_TILE,    /* a value; of rank 0: a scalar in a register */
    QN_NODE_IOTA,
    QN_NODE_LOAD,
    QN_NODE_OP
} qn_node_kind;

typedef struct qn_node qn_node;
struct qn_node {
    qn_node_kind kind;
    qn_place place;
    qn_type type;     /* dtype may be a literal type until settled */
    qn_sym lane;      /* the lane axis among type's axes, or NULL */
    const qn_expr *x; /* of a literal */
    const qn_tile *tile;
    qn_sym axis; /* of an iota */
    qn_op op;
    qn_node **kid; /* operands, or indices of a load */
    int32_t nkids;
    const qn_memory *memory;
    bool guarded;
    qn_node *pad;
    qn_v once;              /* the value of a node without axes, made once */
    struct qn_index *index; /* of a load: its indices taken apart, see memory.c */
    qn_v once_cond;         /* of a load: what its indices without axes need to be in range */
};

/* A piece of scratch: starts where `below` ends. */
typedef struct qn_slot {
    int32_t below;         /* slot, or -1 */
    qn_type type;          /* extents */
    int64_t bytes;         /* of an element */
    bool padded;           /* a register may reach past the end */
    const qn_expr *pieces; /* reserved */
    const qn_exprs *layout;
    qn_v end; /* in the current function */
} qn_slot;

/* A loop: body runs at least once after the guard. */
typedef struct qn_loop {
    qn_bb before, front, exit;
    bool guarded;
    qn_v index, lo, hi, step;
    qn_v *init, *carry, *out; /* before, inside, after */
    int32_t count;
} qn_loop;

enum { QN_MAX_SLICES = 3 };

typedef struct qn_gen {
    const qn_llvm *l;
    const qn_isa *isa;
    qn_ir *ir;
    qn_arena *arena;
    const qn_ir_file *file;
    const qn_kernel_ir *kernel;
    qn_diags *d;
    jmp_buf *failed;

    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef b, entry; /* at the current place; in the entry block */
    qn_ty i1, i8, i16, i32, i64, f16, f32, f64, ptr, none;

    /* the current function */
    qn_v fn, args, row, scratch;
    qn_v dims_array, *dims;    /* values of dims, made when first asked for */
    const qn_memory **tensors; /* and of parameters with axes */
    qn_v *scalars;             /* and of those without */
    qn_entry *scope;

    /* the current nest */
    int32_t width;      /* lanes a register; 0: not a leaf */
    int64_t exp_degree; /* !exp(poly, n): 3, 4 or 5; else the default */
    const qn_sym *lanes;
    int32_t nlanes;
    struct {
        qn_sym axis;
        qn_v base;
    } slices[QN_MAX_SLICES]; /* loops over registers: their axis, the index of the first lane */
    int32_t nslices;
    int32_t top; /* newest slot in use, or -1 */
    struct {
        qn_slot *at;
        int32_t count, cap;
    } slots;
    int32_t first_slot; /* of the current function */

    struct qn_hoist *hoist; /* of the current function */

    int32_t ncallbufs;
    bool serial; /* an ordered store was met in the current launch */
} qn_gen;

/* ---- gen.c */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), noreturn))
#endif
void qn_gen_fail(qn_gen *g, qn_place place, const char *format, ...);

qn_v qn_i64(qn_gen *g, int64_t n);
qn_v qn_i32(qn_gen *g, int64_t n);
bool qn_is_const(qn_gen *g, qn_v v, int64_t *out); /* an integer constant */
qn_ty qn_reg_type(qn_gen *g, qn_dtype t);          /* of one element in a register */
qn_ty qn_memory_type(qn_gen *g, qn_dtype t);       /* of one element in a tensor */
int64_t qn_tile_bytes(qn_dtype t);                 /* of one element of a value kept in scratch */
int32_t qn_lanes_of(qn_gen *g, qn_v v);            /* 0: a scalar */
qn_ty qn_like(qn_gen *g, qn_ty element, qn_v v);   /* element, in as many lanes as v has */
qn_ty qn_element(qn_gen *g, qn_v v);
qn_v qn_splat(qn_gen *g, qn_v scalar, int32_t lanes); /* lanes 0: the scalar itself */
qn_v qn_iota_lanes(qn_gen *g, qn_ty element, int32_t lanes);
qn_v qn_real(qn_gen *g, double x, qn_v like); /* constant of like's type */
qn_v qn_int_like(qn_gen *g, int64_t x, qn_v like);
qn_v qn_bits(qn_gen *g, qn_v v, qn_ty to); /* bit cast; `to` is an element type */
qn_v qn_intrinsic(qn_gen *g, const char *intrinsic, qn_ty *over, int nover, qn_v *args, int nargs);
qn_v qn_gep(qn_gen *g, qn_ty element, qn_v base, qn_v index);
qn_v qn_offset(qn_gen *g, qn_v base, int64_t bytes);
qn_v qn_imul(qn_gen *g, qn_v a, qn_v b); /* i64, folding 0 and 1 */
qn_v qn_iadd(qn_gen *g, qn_v a, qn_v b);
qn_v qn_imin(qn_gen *g, qn_v a, qn_v b);
qn_v qn_imax(qn_gen *g, qn_v a, qn_v b);
qn_v qn_floordiv(qn_gen *g, qn_v a, qn_v b); /* any integer type, scalars or lanes */
qn_v qn_floormod(qn_gen *g, qn_v a, qn_v b);
qn_v qn_umul_sat(qn_gen *g, qn_v a, qn_v b); /* of two i64 >= 0: the product or INT64_MAX */
qn_v qn_uadd_sat(qn_gen *g, qn_v a, qn_v b);
qn_bb qn_new_bb(qn_gen *g, const char *name);
void qn_place_at(qn_gen *g, qn_bb b);
qn_bb qn_here(qn_gen *g);
/* Code below runs only where cond holds, up to qn_end_when. */
qn_bb qn_when(qn_gen *g, qn_v cond);
void qn_end_when(qn_gen *g, qn_bb after);

void qn_loop_begin(qn_gen *g, qn_loop *l, qn_v lo, qn_v hi, qn_v step, qn_v *init, int count);
void qn_loop_end(qn_gen *g, qn_loop *l, qn_v *next);

qn_v qn_stack(qn_gen *g, qn_ty t, int64_t count, int64_t align); /* in the entry block */
qn_v qn_scratch_tile(qn_gen *g, const qn_type *t);               /* a slot for a value's array */
qn_v qn_slot_take(qn_gen *g, const qn_slot *s); /* its address; released by g->top = former */
qn_v qn_slot_size(qn_gen *g, const qn_slot *s); /* bytes, saturating */
qn_v qn_extent_value(qn_gen *g, qn_extent e);

qn_entry *qn_scope_find(qn_gen *g, qn_sym name);
void qn_scope_tile(qn_gen *g, qn_sym name, const qn_tile *t);
void qn_scope_scalar(qn_gen *g, qn_sym name, qn_dtype t, qn_v v);
void qn_scope_memory(qn_gen *g, qn_sym name, const qn_memory *m);

/* ---- axes */
qn_sym qn_lane_of(qn_gen *g, const qn_type *t);
int64_t qn_extent_fixed(qn_gen *g, qn_extent e);  /* constant extents; fails otherwise */
int32_t qn_parts_of(qn_gen *g, const qn_type *t); /* registers of a value */
int64_t qn_axis_parts(qn_gen *g, const qn_type *t, int axis);
void qn_part_coords(qn_gen *g, const qn_type *t, int32_t part, qn_coords *c); /* appended */
int32_t qn_part_index(qn_gen *g, const qn_type *t, const qn_coords *c);
const qn_at *qn_coord(const qn_coords *c, qn_sym axis);
void qn_coord_push(qn_coords *c, qn_sym axis, qn_v index, int64_t part);
/* Lanes of the register at `c` that exist: width, or fewer in the last one. */
int64_t qn_lanes_valid(qn_gen *g, const qn_type *t, qn_sym lane, const qn_coords *c);
qn_v qn_lane_mask(qn_gen *g, int64_t valid); /* constant <width x i1> */

/* Calls body at every element of the axes (loops), or at every register (constants) in a leaf. */
typedef void (*qn_each_fn)(qn_gen *g, void *user, const qn_coords *c);
void qn_each(qn_gen *g, const qn_axis *axes, int32_t rank, const qn_coords *outer, qn_each_fn body,
             void *user);

/* ---- tree.c */
qn_node *qn_tree(qn_gen *g, const qn_expr *x); /* not settled: literals may be left */
qn_node *qn_tree_as(qn_gen *g, const qn_expr *x, qn_dtype t); /* settled; literals become t */
void qn_settle(qn_gen *g, qn_node *n, qn_dtype t);
qn_node *qn_tile_node(qn_gen *g, const qn_tile *t, qn_place place);
const qn_tile *qn_materialise(qn_gen *g, qn_node *n,
                              const qn_type *as); /* as: more axes, or NULL */
/* All results of a right side. */
int32_t qn_results(qn_gen *g, const qn_expr *x, const qn_tile **out);
qn_v qn_scalar(qn_gen *g, const qn_expr *x, qn_dtype t); /* t QN_NO_TYPE: its own */
qn_v qn_index_value(qn_gen *g, const qn_expr *x);        /* an integer, as i64 */
bool qn_union_axes(qn_gen *g, const qn_type *more, qn_axis *axes, int32_t *rank);

/* ---- eval.c */
void qn_prepare(qn_gen *g, qn_node *n); /* makes what has no axes, here */
qn_v qn_eval(qn_gen *g, qn_node *n, const qn_coords *c);
qn_v qn_eval_lanes(qn_gen *g, qn_node *n, const qn_coords *c, bool lanes); /* spread if lanes */
qn_v qn_tile_at(qn_gen *g, const qn_tile *t, const qn_coords *c);
void qn_tile_put(qn_gen *g, const qn_type *t, qn_v base, const qn_coords *c, qn_v v);

/* ---- ops.c, math.c */
qn_v qn_op_value(qn_gen *g, qn_op op, qn_dtype t, qn_v *a, qn_place place);
qn_v qn_cast_value(qn_gen *g, qn_dtype from, qn_dtype to, qn_v v);
qn_v qn_round_to(qn_gen *g, qn_dtype t, qn_v v); /* f16, bf16: through their bits; else v */
qn_v qn_to_bits16(qn_gen *g, qn_dtype t, qn_v v);
qn_v qn_from_bits16(qn_gen *g, qn_dtype t, qn_v v);
qn_v qn_fma(qn_gen *g, qn_v a, qn_v b, qn_v c);
qn_v qn_math(qn_gen *g, qn_op op, qn_dtype t, qn_v x);
qn_v qn_math2(qn_gen *g, qn_op op, qn_dtype t, qn_v x, qn_v y);
qn_v qn_round_even(qn_gen *g, qn_v x);
qn_v qn_floor(qn_gen *g, qn_v x);
qn_v qn_ceil(qn_gen *g, qn_v x);
void qn_helper(qn_gen *g, int32_t which, qn_v *args, int nargs);

/* ---- hoist.c */
enum { QN_PURE_CAST = QN_OPS, QN_PURE_PLACE, QN_PURE_BELOW }; /* besides qn_op */
void qn_hoist_reset(qn_gen *g);                               /* a function begins */
void qn_hoist_block(qn_gen *g, qn_bb b);
void qn_hoist_loop(qn_gen *g, qn_bb before, const qn_loop *l);
void qn_hoist_loop_end(qn_gen *g);
void qn_region_open(qn_gen *g); /* what is made from here on may not lead past region_close */
void qn_region_close(qn_gen *g);
int32_t qn_level_of(qn_gen *g, qn_v v); /* open loops that v varies in */
void qn_note_nonnegative(qn_gen *g, qn_v v);
bool qn_is_nonnegative(qn_gen *g, qn_v v);
bool qn_range_of(qn_gen *g, qn_v v, int64_t *lo, int64_t *hi);
qn_v qn_pure(qn_gen *g, int32_t code, qn_dtype t, qn_dtype to, qn_v *a, int n);
qn_v qn_pure_add(qn_gen *g, qn_v a, qn_v b);
qn_v qn_pure_mul(qn_gen *g, qn_v a, qn_v b);
qn_v qn_pure_cast(qn_gen *g, qn_dtype from, qn_dtype to, qn_v v);
qn_v qn_pure_sum(qn_gen *g, qn_v *terms, int n);

/* ---- address.c, memory.c */
/* One index of an access: scalars + plain axes + the rest. */
enum { QN_INDEX_PARTS = 8, QN_INDEX_TERMS = 2 * QN_INDEX_PARTS + QN_MAX_AXES };
typedef struct qn_index {
    qn_v scalar[QN_INDEX_PARTS];
    int32_t nscalars;
    qn_sym plain[QN_MAX_AXES];
    int32_t nplain;
    qn_node *rest[QN_INDEX_PARTS];
    int32_t nrest;
    bool lane_plain, lane_rest;
} qn_index;
qn_v qn_load_node(qn_gen *g, qn_node *n, const qn_coords *c);
typedef struct qn_place_of {
    qn_v address;       /* of the element or of lane 0 */
    qn_v cond;          /* in range, as far as it does not vary along the lanes; NULL: true */
    bool lanes;         /* varies along the lanes */
    qn_v stride;        /* elements between lanes, or NULL: only addresses tell */
    qn_v addresses;     /* per lane, when there is no stride */
    qn_v first, extent; /* a run of lanes starts at index `first` of `extent`; NULL: in range */
    bool nonnegative;   /* first is known to be */
    qn_v mask;          /* lanes in range by other indices, or NULL */
    int64_t valid;      /* lanes that exist */
} qn_place_of;
void qn_address_prepare(qn_gen *g, qn_node *access);
/* apart: leave the guard of the index that is this plain axis to the caller. */
void qn_address(qn_gen *g, qn_node *access, const qn_coords *c, qn_sym apart, qn_place_of *out);
qn_v qn_index_at(qn_gen *g, const qn_node *access, int32_t k, const qn_coords *c);
qn_v qn_index_inside(qn_gen *g, const qn_node *access, int32_t k, const qn_coords *c);
qn_v qn_both(qn_gen *g, qn_v a, qn_v b); /* conditions, either NULL: true */
bool qn_whole_stride(const qn_memory *m, int32_t axis, qn_v *stride);
void qn_load_prepare(qn_gen *g, qn_node *access); /* strided lanes become registers here */
qn_v qn_load_element(qn_gen *g, qn_dtype t, qn_v address);
void qn_store_element(qn_gen *g, qn_dtype t, qn_v address, qn_v v);
/* Extents and strides of an array in row-major order or in a layout; strides: of its dimensions,
 * the last one is 1; NULL: to be computed. */
const qn_memory *qn_new_memory(qn_gen *g, qn_sym name, const qn_type *t, const qn_exprs *layout,
                               qn_v base, const qn_v *strides);
const qn_memory *qn_tensor(qn_gen *g, int32_t param);
qn_node *qn_access(qn_gen *g, qn_sym base, const qn_exprs *index, bool guarded, qn_place place);
void qn_emit_store(qn_gen *g, const qn_stmt *s);
void qn_emit_prefetch(qn_gen *g, const qn_stmt *s);

/* ---- slice.c: false or NULL where there is nothing to gain, or it may not be done */
bool qn_slice_loop(qn_gen *g, const qn_stmt *s, void (*emit)(qn_gen *g, const qn_stmt *s));
bool qn_is_sliced(const qn_gen *g, qn_sym axis);
const qn_tile *qn_slice_value(qn_gen *g, const qn_expr *x);

/* ---- axisops.c */
const qn_tile *qn_axisop(qn_gen *g, const qn_expr *x, qn_node *add_to);
void qn_topk(qn_gen *g, const qn_expr *x, const qn_tile **values, const qn_tile **indices);
qn_v qn_reduce_lanes(qn_gen *g, qn_axop op, qn_dtype t, qn_v v);

/* ---- emit.c */
typedef struct qn_emitted_names {
    int32_t nlaunches;
    qn_abi_launch launches[QN_MAX_LAUNCHES];
} qn_emitted_names;
void qn_emit_kernel(qn_gen *g, const char *symbol, qn_emitted_names *out);

#endif
