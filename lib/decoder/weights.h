/* Inside the decoder room: which weight goes where in pn_layer, walked by loading and by planning. */
#ifndef PN_DECODER_WEIGHTS_H
#define PN_DECODER_WEIGHTS_H

#include "decoder/decoder.h"

/* How loading treats one matrix of the file. */
typedef struct pn_treatment {
    pn_type type;             /* as it will compute */
    bool convert;             /* type differs from the file's */
    bool packed;
    size_t panel_bytes;
    size_t stride;            /* bytes of one expert, packed */
    size_t bytes;             /* of all, packed; 0 when not */
} pn_treatment;

ponder_status pn_treat(pn_treatment *t, const pn_checkpoint *c, const pn_slice *s, pn_role role, const pn_load_options *o,
                       ponder_error *err);

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
