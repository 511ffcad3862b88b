/* Inside the audio room: the tower's weights, a stream's memory, the state of an encoding. */
#ifndef PN_AUDIO_TOWER_H
#define PN_AUDIO_TOWER_H

#include "audio/audio.h"

/* ---- weights ------------------------------------------------------------------------------ */

typedef struct pn_audio_block {
    pn_weight fc1, fc2;
    float *conv_w, *conv_b;   /* [taps][width], oldest first; [width] */
    float *norm, *fc1_b, *fc2_b;
} pn_audio_block;

typedef struct pn_audio_stage {
    pn_weight fold;
    float *fold_b, *fold_norm;
    pn_audio_block *blocks;   /* [depth] */
} pn_audio_stage;

struct pn_audio {
    pn_audio_info d;
    const ponder_alloc *a;
    uint32_t n_blocks;
    pn_audio_block *blocks;   /* of all stages */
    pn_audio_stage stage[PN_AUDIO_STAGES];
    pn_weight proj;
    float *norm, *proj_b, *post_norm;
    pn_store store;
};

/* Floats that the convolutions remember: taps - 1 rows of each block. */
size_t pn_audio_memory(const pn_audio_info *d);

/* Tensors of the container: of the tower, of a stage, or of a block (counted within its stage). */
typedef enum pn_audio_role {
    PN_A_NORM, PN_A_PROJ, PN_A_PROJ_B, PN_A_POST,
    PN_A_FOLD, PN_A_FOLD_B, PN_A_FOLD_NORM,
    PN_A_CONV, PN_A_CONV_B, PN_A_BLOCK_NORM, PN_A_FC1, PN_A_FC1_B, PN_A_FC2, PN_A_FC2_B,
    PN_A_COUNT
} pn_audio_role;

enum { PN_AUDIO_NAME = 96 };
/* NULL: this container has no such tensor (of any tower); else `name` filled in. */
const char *pn_audio_name(const pn_checkpoint *c, const pn_audio_info *d, pn_audio_role role, uint32_t stage, uint32_t block,
                          char name[PN_AUDIO_NAME]);

/* ---- streams ------------------------------------------------------------------------------- */

struct pn_audio_stream {
    const pn_audio *t;
    const ponder_alloc *a;
    pn_sound *whole;          /* or: */
    pn_resampler *resampler;
    uint32_t channels;
    uint64_t max_samples;
    uint64_t frames;          /* pushed */
    float *samples;           /* [at..n): what waits; [at] is the first of row `done` */
    size_t at, n, cap;
    bool ended;
    uint64_t done;            /* rows */
    uint64_t hash;
    float *memory;            /* [pn_audio_memory]: block after block, [taps - 1][width], oldest first */
};

/* The samples of the next n rows, silence behind the end; *hash: what the stream's will be when they are made. */
void pn_audio_stream_take(const pn_audio_stream *s, uint32_t rows, float *to, uint64_t *hash);
void pn_audio_stream_commit(pn_audio_stream *s, uint32_t rows, uint64_t hash, const float *memory);

#endif
