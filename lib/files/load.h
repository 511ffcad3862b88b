/* load: matrices and vectors of a checkpoint become weights in memory. The same walk over the weights is made twice: first
 * it counts, then it fills one block of repacked panels of 16 rows and one block of vectors. */
#ifndef PN_LOAD_H
#define PN_LOAD_H

#include "files/files.h"
#include "tensor/products.h"

typedef struct pn_load_options {
    bool repack;
    bool late;                /* what can be is packed by the products that use it (pn_late), not here */
    int32_t quantize;         /* a pn_type, or -1 */
    uint64_t expert_bytes;    /* most memory for a mixture's experts (experts.h); 0: any */
    uint32_t threads;         /* that will read experts; 0: the team's */
    pn_team *team;            /* may be NULL */
    pn_pack_fn *pack;         /* of pn_kernels; NULL: the reference */
    int32_t (*progress)(void *user, uint64_t done, uint64_t total);
    void *progress_user;
} pn_load_options;

/* What loaded weights own. */
typedef struct pn_store {
    const ponder_alloc *a;
    float *vectors;           /* one block holds every vector, another every repacked matrix */
    size_t vectors_n;
    uint8_t *packed;
    size_t packed_bytes;
    struct pn_late_matrix *late; /* matrices that are packed late, and their panels' states */
    uint32_t late_n, late_panels;
    uint64_t parameters;
    pn_type main_type;        /* of most weights */
    pn_checkpoint *file;      /* a reference, held while raw pages are in use or will be, else NULL */
} pn_store;

void pn_store_free(pn_store *s);
size_t pn_store_bytes(const pn_store *s);

/* PN_LOAD_KEEP: never quantised. PN_LOAD_NOW: not packed late, because no product uses it soon. */
enum { PN_LOAD_KEEP = 1, PN_LOAD_NOW = 2 };

/* How one matrix of the file is held. */
typedef struct pn_treatment {
    pn_type type;             /* as it will compute */
    bool convert;             /* type differs from the file's */
    bool packed;
    bool late;                /* not now */
    size_t panel_bytes;
    size_t stride;            /* bytes of one expert, packed */
    size_t bytes;             /* of all, packed; 0 when not */
} pn_treatment;

/* Memory for packed weights, freed with pn_free: 64-aligned, in large pages where it is large. NULL: there is none. */
void *pn_load_alloc(const ponder_alloc *a, size_t bytes);
ponder_status pn_load_treat(pn_treatment *t, const pn_checkpoint *c, const pn_load_options *o, const pn_slice *s, uint32_t how, ponder_error *err);
/* One panel from n_rows rows of the file. `room` (pn_load_room bytes, 16-aligned): for rows that are converted. */
void pn_load_pack(pn_pack_fn *pack, const pn_slice *s, const pn_treatment *t, const uint8_t *rows, uint32_t n_rows, uint8_t *room,
                  uint8_t *panel);
static inline pn_pack_fn *pn_load_packer(const pn_load_options *o) { return o->pack ? o->pack : pn_pack_panel; }
size_t pn_load_room(const pn_slice *s, const pn_treatment *t);

/* One walk. A walk's function calls pn_load_* for each weight, in the same order every time; where the weights go is written
 * by the second walk alone. */
typedef struct pn_loader {
    pn_checkpoint *c;
    const pn_load_options *o;
    bool counting;
    pn_store *store;
    size_t packed_at, vectors_at;
    uint32_t late_at, late_panels_at;
    uint64_t mapped;          /* bytes of the file that stay in use */
    uint64_t done, total;     /* bytes of matrices in the file */
    uint64_t by_type[64];     /* weights of each element type */
    uint8_t *rows;            /* for each thread: rows of the file, floats of a row, converted rows */
    size_t rows_bytes;        /* for each thread */
    ponder_error *err;
} pn_loader;

typedef ponder_status (*pn_walk_fn)(void *ctx, pn_loader *l, ponder_error *err);

/* how: PN_LOAD_*. *t: how it is held. */
ponder_status pn_load_matrix(pn_loader *l, pn_weight *to, const pn_slice *s, uint32_t how, pn_treatment *t, ponder_error *err);
/* A matrix that somebody else holds: counted as the model's, not loaded. */
ponder_status pn_load_apart(pn_loader *l, const pn_slice *s, pn_treatment *t, ponder_error *err);
/* Rows of a slice as floats, `add` added to each. */
ponder_status pn_load_vector(pn_loader *l, float **to, const pn_slice *s, float add, ponder_error *err);
/* Room for n floats that are computed; NULL while counting. */
float *pn_load_floats(pn_loader *l, size_t n);
/* Floats that are needed for a moment: in the second walk `to` takes the slice. */
ponder_status pn_load_read(pn_loader *l, float *to, const pn_slice *s, ponder_error *err);

/* Both walks. The checkpoint is borrowed; *out holds a reference where it is needed. On failure *out is empty. */
ponder_status pn_load(pn_store *out, pn_checkpoint *c, const pn_load_options *o, pn_walk_fn walk, void *ctx, const ponder_alloc *a,
                      ponder_error *err);
/* The counting walk alone: what pn_load would own and keep mapped. */
typedef struct pn_load_plan {
    uint64_t owned, mapped;
    uint64_t transient;       /* at the height of loading, beyond owned */
} pn_load_plan;
ponder_status pn_load_count(pn_load_plan *out, pn_checkpoint *c, const pn_load_options *o, pn_walk_fn walk, void *ctx, ponder_error *err);

#endif
