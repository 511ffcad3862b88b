/* vision: the tower that makes rows of pictures and of pairs of video frames (muse-glimmer, muse-spark): its description from
 * metadata, its weights, and one picture's encoding as work. Pictures themselves are in image.h. */
#ifndef PN_VISION_H
#define PN_VISION_H

#include "base/work.h"
#include "files/load.h"
#include "vision/image.h"

/* ---- description: every number from metadata alone ----------------------------------- */

/* Where patch n of a grid of H rows and W columns reads the position table. */
typedef enum pn_lookup {
    PN_LOOKUP_GLIMMER,        /* at its row of H and its column of W */
    PN_LOOKUP_SPARK           /* at element n of a grid of W rows and H columns */
} pn_lookup;

typedef struct pn_tower_info {
    uint32_t layers, width, heads, head_dim, ff;
    uint32_t patch, merge;    /* pixels a side; patches a side that become one row */
    uint32_t frames;          /* of a patch */
    bool frames_summed;       /* a GGUF: weights of one frame, and both must be the same picture */
    uint32_t side;            /* of the position table, and of the windows, in patches */
    uint32_t adapter, out;    /* width of the adapter; of the rows, which is the text model's */
    float eps;                /* of the norms before and after the blocks; inside them it is PN_BLOCK_EPS */
    float theta;
    bool rope_pairs;          /* rotate neighbours (GGUF), else split halves */
    pn_lookup lookup;
    float mean[3], std[3];    /* of pixels 0..1 */
    uint32_t max_cells, max_frame_cells; /* rows of a picture, of a pair of video frames (pn_grid_rule) */
    uint32_t video_frames;    /* at most, */
    float video_rate;         /* and so many a second */
    bool full[PN_MAX_LAYERS]; /* attention over the whole picture, not within windows */
} pn_tower_info;

#define PN_BLOCK_EPS 1e-5f

static inline uint32_t pn_tower_patch_values(const pn_tower_info *d) { return d->frames * 3 * d->patch * d->patch; }

/* From a folder with a tower in it, or from a GGUF of the projector (architecture "clip"). The text model's architecture decides the
 * lookup, its width must be the rows'. *found false: the checkpoint has no such tower. PONDER_E_UNSUPPORTED: another tower or a
 * setting that is not computed here, PONDER_E_FORMAT: a key or a tensor that does not fit; both named. */
ponder_status pn_tower_describe(pn_tower_info *d, bool *found, const pn_checkpoint *c, const char *text_arch, uint32_t text_width,
                                ponder_error *err);

/* ---- weights: immutable, shared by any number of jobs ----------------------------------- */
typedef struct pn_tower pn_tower;

/* The checkpoint is borrowed. *out NULL with PONDER_OK: it has no tower. */
ponder_status pn_tower_load(pn_tower **out, pn_checkpoint *c, const char *text_arch, uint32_t text_width, const pn_load_options *o,
                            const ponder_alloc *a, ponder_error *err);
void pn_tower_free(pn_tower *t);
const pn_tower_info *pn_tower_about(const pn_tower *t);
const pn_store *pn_tower_store(const pn_tower *t);
size_t pn_tower_bytes(const pn_tower *t);   /* what it owns, the handle included */
/* What pn_tower_load would own and keep mapped. */
ponder_status pn_tower_plan(pn_load_plan *out, pn_checkpoint *c, const pn_tower_info *d, const pn_load_options *o, ponder_error *err);

/* ---- encoding: one picture, or one pair of video frames, as work ---------------------------- */
typedef struct pn_encode pn_encode;

/* What is encoded. Everything is borrowed until the work is done. */
typedef struct pn_encode_input {
    pn_grid grid;             /* cells: a row each */
    const float *patches;     /* [patches][pn_tower_patch_values], row-major; NULL: they are cut from */
    pn_resize *frame[2];      /* pictures on their way to grid x merge x patch pixels, whose tiles become part of the work; the
                               * same one twice for a picture */
} pn_encode_input;

enum { PN_ENCODE_PATCHES = 1 << 20 }; /* at most */

/* rows: [grid.rows * grid.cols][out], before the text model's weightless norm; written by the work. Nothing is allocated after
 * this call. The rows' bits depend on the weights and the pixels alone. PONDER_E_UNSUPPORTED: two frames that differ, and
 * weights that have them summed; PONDER_E_RANGE: an empty grid or more than PN_ENCODE_PATCHES. */
ponder_status pn_encode_new(pn_encode **out, const pn_tower *t, const pn_encode_input *in, float *rows, const pn_kernels *k,
                            uint32_t threads, const ponder_alloc *a, ponder_error *err);
void pn_encode_free(pn_encode *e);
const pn_work *pn_encode_work(const pn_encode *e);
/* What pn_encode_new allocates. quantised: some matrix of the tower is. */
size_t pn_encode_bytes(const pn_tower_info *d, bool quantised, pn_grid grid, uint32_t threads);
bool pn_tower_quantised(const pn_tower *t);

#endif
