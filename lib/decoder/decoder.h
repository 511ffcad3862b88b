/* decoder: a description becomes weights in memory (network) and a flat list of operations, each cut into tiles
 * (program). A step is a cursor over that list; nothing here knows threads, time or sequences beyond their columns. */
#ifndef PN_DECODER_H
#define PN_DECODER_H

#include "base/work.h"
#include "files/experts.h"
#include "files/load.h"
#include "tensor/products.h"

/* ---- weights ------------------------------------------------------------------ */

/* Layers share pages with the layers that keep the same positions; a drafter's are apart. */
enum { PN_FULL = 0, PN_SLIDING = 1, PN_DRAFTER = 2, PN_GROUPS = 3 };

typedef struct pn_layer {
    pn_weight q, k, v, g, o, gate, up, down, router, latent_down, latent_up, experts_gate, experts_up, experts_down;
    /* Vectors as floats, their offset added; NULL where the model has none. */
    float *attn_norm, *q_bias, *k_bias, *v_bias, *o_bias, *q_norm, *k_norm, *post_attn, *ffn_norm, *post_ffn;
    float *attn_alpha, *attn_beta, *ffn_alpha, *ffn_beta;
    float *router_bias, *pre_expert_norm, *post_expert_norm;
    uint32_t group;           /* PN_FULL, PN_SLIDING, PN_DRAFTER */
    uint32_t index;           /* of this layer inside its group's pages */
} pn_layer;

typedef struct pn_network {
    pn_description d;
    const ponder_alloc *a;
    pn_layer *layers;
    pn_weight embed, head;    /* head.batch 0: tied, use embed */
    float *norm;
    float *freq[2];           /* inverse frequencies [rot_dim / 2]: global, local */
    uint32_t group_layers[PN_GROUPS];
    pn_store store;
    pn_experts *experts;      /* NULL: all weights are held */
    struct pn_network *drafter; /* NULL: none */
    /* of a drafter; embed and head are its target's */
    pn_weight context;        /* the target's residual streams, side by side, to the width */
    float *context_norm;
    uint64_t hash;            /* of its file */
} pn_network;

/* Takes the checkpoint over, also on failure. Experts that do not fit into o->expert_bytes are read from it when they are needed: then
 * the network serves one program, of at most o->threads threads (0: as many as o->team has). */
ponder_status pn_network_load(pn_network **out, pn_checkpoint *c, const pn_load_options *o, const ponder_alloc *a, ponder_error *err);
/* A drafter for n, which it then belongs to. Takes the checkpoint over, also on failure. PONDER_E_MISMATCH: it is another model's. */
ponder_status pn_network_load_drafter(pn_network *n, pn_checkpoint *c, const pn_load_options *o, ponder_error *err);
void pn_network_free(pn_network *n);
static inline uint64_t pn_network_bytes(const pn_network *n) /* the drafter's too */ { return n ? pn_store_bytes(&n->store) + pn_experts_bytes(n->experts) + pn_network_bytes(n->drafter) : 0; }
static inline const pn_weight *pn_network_head(const pn_network *n) { return n->head.batch ? &n->head : &n->embed; }

/* What pn_network_load would own and keep mapped, from metadata alone. */
typedef struct pn_weight_plan {
    uint64_t owned, mapped;
    uint64_t transient;       /* at the height of loading, beyond owned */
    uint64_t experts;         /* what all of a mixture's experts would take; owned has what they take with these options */
    uint64_t quantised;       /* bit per pn_role: the weights in that role are quantised once loaded */
} pn_weight_plan;
ponder_status pn_network_plan(pn_weight_plan *out, pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                              ponder_error *err);

/* ---- key-value pages -------------------------------------------------------------
 * A page of a group holds PN_KEYS positions of all its layers: for each layer and key-value head a key block, then a
 * value block (tensor.h). */
typedef struct pn_kv_layout {
    pn_kv_type type;
    size_t key_bytes, head_bytes;    /* a key block; a key and a value block */
    size_t layer_bytes;              /* all heads of a layer */
    size_t page_bytes[PN_GROUPS];    /* 0: no such layers */
    uint32_t window[PN_GROUPS];      /* positions that a query sees, its own included; 0: all before it */
    uint32_t block;                  /* a drafter's: positions that a pass writes, for a moment */
} pn_kv_layout;

void pn_kv_layout_init(pn_kv_layout *l, const pn_description *d, pn_kv_type type);
void pn_kv_layout_add_drafter(pn_kv_layout *l, const pn_description *drafter);

/* ---- a batch: what one step computes --------------------------------------------- */

/* Consecutive positions of one sequence. pages[g][p] is the page of positions 32p..32p+31, NULL where it is not kept. */
typedef struct pn_run {
    const int32_t *ids;
    const float *const *rows;        /* NULL, or [n]: the row that stands for the token's embedding; NULL: its own */
    uint32_t pos, n;
    uint32_t from;                   /* a drafter's: the first position whose keys it may see */
    uint32_t col;                    /* its first column; set by pn_program_begin */
    uint8_t *const *pages[PN_GROUPS];
    float *hidden;                   /* NULL, or [n][width]: the residual stream after hidden_layer */
    uint32_t hidden_layer;           /* layers: after the final norm; then n_out must be n */
    uint32_t n_out, n_behind;        /* n_out columns go through the final norm: the last ones, but for n_behind */
    uint32_t out;                    /* its first output; set by pn_program_begin */
    float *logits;                   /* NULL, or [n_out][vocab] */
    bool dropped;                    /* its columns hold whatever, and nothing of its sequence is touched */
    bool failed;                     /* dropped, because an expert could not be read: pn_experts_failure */
} pn_run;

typedef struct pn_limits {
    uint32_t columns, outputs, runs, threads;
} pn_limits;

/* ---- the program ------------------------------------------------------------------ */
typedef struct pn_program pn_program;

/* Of a network that has a drafter: leaves what the drafter reads of each position in the drafter's pages. Of a drafter: one pass over
 * blocks, whose positions are a run's; ids has the first token alone. */
ponder_status pn_program_new(pn_program **out, const pn_network *n, const pn_kernels *k, const pn_kv_layout *kv,
                             const pn_limits *limits, const ponder_alloc *a, ponder_error *err);
void pn_program_free(pn_program *p);
/* What pn_program_new allocates; `quantised` as in pn_weight_plan. drafter: NULL, or the one that the network has. A drafter's own program
 * reads its target's head, so that `quantised` has that one's bits for it. */
size_t pn_program_bytes(const pn_description *d, const pn_limits *limits, uint64_t quantised, const pn_description *drafter, uint64_t drafter_quantised);

/* Lays the runs out as columns; they must stay valid until the step ends. Sums of n and n_out within the limits. */
void pn_program_begin(pn_program *p, pn_run *runs, uint32_t n_runs);
/* The run's sequence leaves the step, between two tiles; the other runs' bits do not change. */
void pn_program_drop(pn_run *r);
/* After a pass: the likeliest token of an output, and how likely it is. */
void pn_program_pick(const pn_program *p, uint32_t out, int32_t *id, float *probability);
/* The step as work: its operations in order (attention goes round while spans are left). */
pn_work pn_program_work(pn_program *p);

#endif
