/* experts: a mixture's matrices, read from the file when a token needs them. All layers share one block of slots; a slot holds one
 * expert's matrices, packed, and who was not used for longest makes room. A program uses the slots in rounds: it claims what a round
 * computes with, reads what was missing as tiles of its work, and computes. One program at a time. */
#ifndef PN_EXPERTS_H
#define PN_EXPERTS_H

#include "files/load.h"

typedef struct pn_experts pn_experts;
typedef enum pn_expert_part { PN_EXPERT_GATE, PN_EXPERT_UP, PN_EXPERT_DOWN, PN_EXPERT_PARTS } pn_expert_part;

/* What the experts take when all of them are held in memory (0: there are none, or the file's own pages are used), and what they
 * take with o->expert_bytes. PONDER_E_NOMEM: that is too little for one. */
ponder_status pn_experts_sizes(uint64_t *all, uint64_t *taken, const pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                               ponder_error *err);
/* The least that o->expert_bytes may be: one is held at a time. */
ponder_status pn_experts_least(uint64_t *bytes, const pn_checkpoint *c, const pn_description *d, const pn_load_options *o, ponder_error *err);
/* *out NULL: all of them fit into o->expert_bytes, or there are none: nothing is to be read on demand. The threads of o->team, or o->threads, read. */
ponder_status pn_experts_new(pn_experts **out, pn_checkpoint *c, const pn_description *d, const pn_load_options *o, const ponder_alloc *a,
                             ponder_error *err);
void pn_experts_free(pn_experts *e);
uint64_t pn_experts_bytes(const pn_experts *e);       /* NULL: 0 */
uint32_t pn_experts_threads(const pn_experts *e);
/* The matrices of a layer: pinned by an expert's number, as long as a round has claimed it. */
pn_weight pn_experts_weight(const pn_experts *e, uint32_t layer, pn_expert_part part);

/* ---- a round: begun, claimed and settled by one thread while no tile is under way -------------------------------------- */

void pn_experts_begin(pn_experts *e);                 /* what the last round did not settle is forgotten */
bool pn_experts_has(const pn_experts *e, uint32_t layer, uint32_t expert);
/* False: the round has all slots already. *read: it is to be read, tile by tile. The first claim of a round never fails. */
bool pn_experts_claim(pn_experts *e, uint32_t layer, uint32_t expert, bool *read);
uint32_t pn_experts_tiles(const pn_experts *e, uint32_t layer);
/* Any thread. A read that fails leaves zeros, and is told by pn_experts_failed. */
void pn_experts_read(pn_experts *e, uint32_t layer, uint32_t expert, uint32_t tile, uint32_t thread);
/* The same tile will be read soon: the system may begin. A hint, any thread. */
void pn_experts_soon(pn_experts *e, uint32_t layer, uint32_t expert, uint32_t tile);
void pn_experts_settle(pn_experts *e);                /* all tiles of the round were read */
bool pn_experts_failed(const pn_experts *e, uint32_t layer, uint32_t expert);
const ponder_error *pn_experts_failure(const pn_experts *e); /* of the newest round that had one */

typedef struct pn_expert_counts {
    uint64_t hits, reads;     /* experts that were there when a layer needed them, and that were read */
    uint64_t bytes;           /* of the file, for these reads */
} pn_expert_counts;
pn_expert_counts pn_experts_counts(const pn_experts *e); /* any thread; NULL: zeros */

#endif
