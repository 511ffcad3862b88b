/* Inside the audio room: the state of an encoding. A chunk of rows goes through all operations, then the next one: a stage has
 * `each` columns a row, fewer and wider from stage to stage. */
#ifndef PN_AUDIO_ENCODE_H
#define PN_AUDIO_ENCODE_H

#include "audio/tower.h"

typedef enum pn_audio_kind {
    PN_AO_TAKE,                                                     /* samples of the chunk */
    PN_AO_PUT, PN_AO_FOLD, PN_AO_FOLDED,                            /* a stage */
    PN_AO_CONV, PN_AO_FC1, PN_AO_GELU, PN_AO_FC2, PN_AO_ADD,        /* a block */
    PN_AO_NORM, PN_AO_PROJ, PN_AO_POST
} pn_audio_kind;

typedef struct pn_audio_op {
    uint8_t kind, stage;
    uint16_t block;           /* of all stages */
} pn_audio_op;

/* Columns of one stage. What they are read from is shared by all stages, which come one after another. */
typedef struct pn_audio_columns {
    uint32_t each;            /* columns a row */
    float *x;                 /* the stream [columns][width]; in front of it there is room for taps - 1 columns */
    pn_slot fold, norm, hidden; /* fold: the samples, or the columns of the stage before, side by side */
} pn_audio_columns;

struct pn_audio_encode {
    pn_audio_stream *s;
    const pn_audio *t;
    pn_kernels k;
    pn_work work;
    const ponder_alloc *a;
    uint32_t threads;
    float *rows;              /* [n][out] */
    uint32_t n, done, chunk;  /* rows: of all, made, at a time */
    uint32_t now;             /* of this chunk */
    uint64_t hash;            /* the stream's when this chunk is made, */
    float *memory;            /* and what its convolutions then remember */
    pn_audio_op *ops;
    pn_audio_columns stage[PN_AUDIO_STAGES];
    uint8_t *scratch;
    size_t scratch_bytes;     /* a thread */
    pn_cut cut;
    uint8_t *block;           /* what all of it lies in */
    size_t block_bytes;
};

#endif
