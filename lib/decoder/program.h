/* Inside the decoder room: the program's state, shared by the files that compute its operations. */
#ifndef PN_DECODER_PROGRAM_H
#define PN_DECODER_PROGRAM_H

#include <stdatomic.h>

#include "decoder/decoder.h"

typedef enum pn_op_kind {
    PN_OP_EMBED, PN_OP_QKV, PN_OP_HEADS, PN_OP_ATTEND, PN_OP_JOIN, PN_OP_ATTENDED, PN_OP_O, PN_OP_MIDDLE,
    PN_OP_GATE_UP, PN_OP_ACTIVATE, PN_OP_DOWN,
    PN_OP_ROUTER, PN_OP_ROUTE, PN_OP_SORT, PN_OP_GATHER, PN_OP_FETCH, PN_OP_EXPERTS_IN, PN_OP_EXPERTS_ACTIVATE, PN_OP_EXPERTS_OUT,
    PN_OP_COMBINE, PN_OP_LATENT_UP,
    PN_OP_CONTEXT, PN_OP_CONTEXT_NORM, PN_OP_CONTEXT_KV, PN_OP_CONTEXT_KEYS,
    PN_OP_END, PN_OP_FINAL_NORM, PN_OP_HEAD, PN_OP_LOGITS
} pn_op_kind;

typedef struct pn_op {
    uint16_t kind, layer;
} pn_op;

/* Queries of an attention tile: of one key-value head, ascending columns, each at the span that its run has in this slot. */
enum { PN_TILE_QUERIES = 64 };
typedef struct pn_attn_part {
    pn_attn_query query[PN_TILE_QUERIES];
    const uint8_t *const *pages[PN_TILE_QUERIES];                 /* of the span's blocks */
    uint32_t low[PN_TILE_QUERIES], end[PN_TILE_QUERIES];          /* positions that it sees */
    uint32_t base[PN_TILE_QUERIES];                               /* the span's first */
    uint32_t n;
} pn_attn_part;

enum { SPAN_BLOCKS = 16, SPAN_KEYS = SPAN_BLOCKS * PN_KEYS };

/* The likeliest of a piece of an output's logits, and the piece's sum of exp(logit - max). */
typedef struct pn_pick {
    float max, sum;
    int32_t id;
} pn_pick;

struct pn_program {
    const pn_network *n;
    const pn_description *d;
    const pn_description *drafter; /* of the network's drafter, or NULL */
    pn_kernels k;
    pn_kv_layout kv;
    pn_limits limits;
    const ponder_alloc *a;
    pn_op *ops;
    uint32_t n_ops;
    uint8_t *memory;          /* everything below lies in it */
    size_t bytes;

    float *x;                 /* residual stream [columns][width] */
    float *q, *kk, *v, *g;    /* projections */
    float *t;                 /* what a half adds to the stream */
    float *up;
    float *logits;            /* [outputs][vocab] */
    float *rope;              /* [columns][2][rot_dim]: global, local; cosines then sines */
    bool rotates[2];          /* some layer does, by the global table, by the local one */
    pn_slot in, attn, ff, out;
    float *state_m, *state_l; /* attention so far [columns][heads]; its rows are attn.x */
    float *part_m, *part_l, *part_o; /* of one span each */
    uint32_t part_slots;
    uint16_t *run_of;         /* [columns] */
    uint32_t *col_of;         /* [outputs] */
    uint8_t *scratch;
    size_t scratch_bytes;     /* a thread */
    pn_pick *picks;           /* of a drafter: [outputs][pieces] */

    /* what a drafter reads */
    pn_kv_layout drafter_kv;
    pn_slot taps, context;    /* residual streams side by side; what becomes of them */
    float *context_rope;      /* [columns][rot_dim] */

    /* experts */
    float *router, *latent, *joined_t;
    pn_slot rows, hidden, joined;
    float *row_up, *row_out;
    uint32_t *chosen;         /* [columns][used], ascending experts */
    float *chosen_weight;
    uint32_t *row_of;         /* [columns][used]: row in expert order */
    uint32_t *expert_from;    /* [experts + 1] */
    uint32_t *row_col;        /* [rows] */
    uint32_t *active;         /* experts that have rows, in the order in which they are computed */
    uint32_t n_active;
    /* Rounds: all active experts at once, or those that are in memory now and then some at a time. */
    uint32_t round_from, round_to; /* in active */
    uint32_t n_ready;         /* of them, from the first on, that were there before the first round */
    uint32_t n_announced;     /* of them, that the system was told of */
    uint32_t fetched;         /* experts of the round that are read, or announced */
    uint32_t *round_row;      /* rows of the round */
    uint32_t round_rows;

    pn_run *runs;
    uint32_t n_runs, columns, outputs;
    pn_cut cut;
    _Atomic(const uint8_t *) soon;  /* what the next products read, */
    _Atomic size_t soon_bytes, soon_at; /* how much of it is worth fetching, and how much was */
    uint32_t span_round, spans_a_round;
};

static inline bool pn_op_is_context(const pn_program *p, uint32_t op) { return p->ops[op].kind >= PN_OP_CONTEXT && p->ops[op].kind <= PN_OP_CONTEXT_KEYS; }
static inline pn_layer *pn_op_layer(const pn_program *p, uint32_t op)
{
    return &(pn_op_is_context(p, op) ? p->n->drafter : p->n)->layers[p->ops[op].layer];
}

void pn_rope_table(const pn_network *n, float *to, int table, uint32_t pos);
void pn_tile_embed(pn_program *p, uint32_t col);
void pn_tile_heads(pn_program *p, const pn_layer *l, uint32_t col);
/* A position's keys and values, turned where the store wants it, into its block of the layer. */
void pn_put_heads(const pn_program *p, const pn_kv_layout *kv, const pn_description *d, uint8_t *block, uint32_t pos, float *k, float *v);
void pn_tile_attended(pn_program *p, const pn_layer *l, uint32_t col);
void pn_tile_middle(pn_program *p, const pn_layer *l, uint32_t col);
void pn_tile_activate(pn_program *p, uint32_t col);
void pn_tile_end(pn_program *p, uint32_t op, uint32_t col);
void pn_tile_final_norm(pn_program *p, uint32_t out);
void pn_tile_logits(pn_program *p, uint32_t tile);
uint32_t pn_logits_a_tile(const pn_program *p);
uint32_t pn_logits_pieces(const pn_description *d);
uint32_t pn_enter_logits(pn_program *p);

/* ops_drafter.c */
void pn_take_tap(pn_program *p, uint32_t layer, uint32_t col); /* what enters the layer */
void pn_tile_context_norm(pn_program *p, uint32_t col);
void pn_tile_context_keys(pn_program *p, const pn_layer *l, uint32_t col);
void pn_pick_piece(pn_program *p, uint32_t out, uint32_t piece, float *y, uint32_t from, uint32_t n);

uint32_t pn_enter_attend(pn_program *p, uint32_t op);
void pn_tile_attend(pn_program *p, uint32_t op, uint32_t tile, uint32_t thread);
uint32_t pn_enter_join(pn_program *p, uint32_t op);
void pn_tile_join(pn_program *p, uint32_t op, uint32_t at);   /* column * heads + head */
bool pn_attend_again(pn_program *p, uint32_t op);

uint32_t pn_enter_fetch(pn_program *p, uint32_t op);
void pn_tile_fetch(pn_program *p, uint32_t op, uint32_t tile, uint32_t thread);
bool pn_experts_again(const pn_program *p);
uint32_t pn_enter_experts(pn_program *p, uint32_t op);
void pn_tile_route(pn_program *p, const pn_layer *l, uint32_t col);
void pn_tile_sort(pn_program *p);
void pn_tile_gather(pn_program *p, uint32_t row);
void pn_tile_experts(pn_program *p, uint32_t tile, uint32_t thread);
void pn_tile_experts_activate(pn_program *p, uint32_t row);
void pn_tile_combine(pn_program *p, const pn_layer *l, uint32_t col);

#endif
