/* Inside the decoder room: which weight goes where in pn_layer, walked by loading and by planning. */
#ifndef PN_DECODER_WEIGHTS_H
#define PN_DECODER_WEIGHTS_H

#include "decoder/decoder.h"

/* A residual gate of muse-spark's folders: one vector in the file becomes two. */
static inline bool pn_is_gate(pn_role r) { return r == PN_W_ATTN_RGATE || r == PN_W_FFN_RGATE; }

/* PN_LOAD_*. An embedding that is no head meets no product, so it would be read from the file for ever; a drafter may never be asked. */
static inline uint32_t pn_how_to_load(const pn_description *d, pn_role r)
{
    const bool now = d->block || (r == PN_W_EMBED && !d->tied);
    return (r == PN_W_ROUTER ? PN_LOAD_KEEP : 0) | (now ? PN_LOAD_NOW : 0);
}

/* PN_EXPERT_PARTS: none of them. */
static inline pn_expert_part pn_part_of(pn_role r)
{
    return r == PN_W_EXPERTS_GATE ? PN_EXPERT_GATE : r == PN_W_EXPERTS_UP ? PN_EXPERT_UP : r == PN_W_EXPERTS_DOWN ? PN_EXPERT_DOWN : PN_EXPERT_PARTS;
}

/* Calls fn for every weight that the model has: w or v (with what to add to it) says where it goes. */
typedef struct pn_place {
    pn_role role;
    uint32_t layer;
    size_t weight;            /* offset of the pn_weight in pn_layer, or SIZE_MAX */
    size_t vector;            /* offset of the float pointer in pn_layer, or SIZE_MAX */
    float add;
} pn_place;
typedef ponder_status (*pn_place_fn)(void *ctx, const pn_place *p, const pn_slice *s, ponder_error *err);
ponder_status pn_for_each_weight(const pn_checkpoint *c, const pn_description *d, pn_place_fn fn, void *ctx, ponder_error *err);

#endif
