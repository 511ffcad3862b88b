/* audio: sounds in (WAV, raw samples), averaged to one channel and brought to the model's rate; the waveform tower of
 * muse-spark that makes rows of them, one piece or as they come. */
#ifndef PN_AUDIO_H
#define PN_AUDIO_H

#include "base/work.h"
#include "files/load.h"

enum { PN_AUDIO_RATE = 24000 }; /* samples a second that muse-spark hears; no file says otherwise */

/* ---- sounds ------------------------------------------------------------------------
 * A sound is mono float samples at the model's rate: immutable, counted, shared by any number of threads. Samples are finite and
 * at most PN_AUDIO_LOUDEST in magnitude; nothing else is done to their level (the reference does not either). */
typedef struct pn_sound pn_sound;

enum { PN_AUDIO_MAX_CHANNELS = 256, PN_AUDIO_MIN_RATE = 100, PN_AUDIO_MAX_RATE = 768000 };
#define PN_AUDIO_LOUDEST 1e10f /* beyond it sums of squares could leave the range of float */

typedef struct pn_sound_options {
    uint32_t rate;         /* of the result; 0: PN_AUDIO_RATE */
    uint64_t max_samples;  /* of the result (4 bytes each): longer ones are PONDER_E_RANGE; 0: no limit */
} pn_sound_options;

/* A WAV file: PCM of 8 to 32 bits, float of 32 and 64, plain or extensible, RIFF or RF64. Data that end early, or whose length
 * was never filled in (streams), reach to the end of the file. PONDER_E_FORMAT: damaged or without samples;
 * PONDER_E_UNSUPPORTED: another coding, named, or a rate that needs a resampler this build lacks. Sources are left to the caller. */
ponder_status pn_sound_wav(pn_sound **out, pn_source *s, const pn_sound_options *o, const ponder_alloc *a, ponder_error *err);
/* Read by copy, not mapped: another program may cut the file short meanwhile. */
ponder_status pn_sound_wav_path(pn_sound **out, const char *path, const pn_sound_options *o, const ponder_alloc *a, ponder_error *err);
ponder_status pn_sound_wav_memory(pn_sound **out, const void *p, size_t n, const pn_sound_options *o, const ponder_alloc *a,
                                  ponder_error *err);
/* samples: [frames][channels], -1..1, copied. PONDER_E_ARGUMENT: none, or a number that is none; PONDER_E_RANGE. */
ponder_status pn_sound_raw(pn_sound **out, const float *samples, uint64_t frames, uint32_t channels, uint32_t rate,
                           const pn_sound_options *o, const ponder_alloc *a, ponder_error *err);
pn_sound *pn_sound_hold(pn_sound *s);  /* one more reference */
void pn_sound_free(pn_sound *s);       /* one less */
const float *pn_sound_samples(const pn_sound *s);
uint64_t pn_sound_count(const pn_sound *s);
uint32_t pn_sound_rate(const pn_sound *s);
uint64_t pn_sound_hash(const pn_sound *s);  /* of rate and samples: a cache's key */
size_t pn_sound_bytes(const pn_sound *s);   /* memory it holds */

/* What a WAV file says of itself, before anything is decoded. */
typedef struct pn_wav {
    uint32_t rate, channels;
    uint32_t container;    /* bytes a sample takes: 1, 2, 3, 4, 8 */
    bool is_float;
    uint64_t frames;
    uint64_t data;         /* offset of the first frame */
} pn_wav;
ponder_status pn_wav_open(pn_wav *w, pn_source *s, ponder_error *err);
/* How many samples come of n at another rate: ceil(n * to / from), as the reference has it. UINT64_MAX when that is too many. */
uint64_t pn_resampled_count(uint64_t n, uint32_t from, uint32_t to);
/* Rows that n samples become: ceil(n / samples a row). */
static inline uint64_t pn_audio_rows(uint64_t n, uint32_t samples_a_row) { return n / samples_a_row + (n % samples_a_row != 0); }

/* ---- one sample stream to another rate --------------------------------------------------
 * Mono. Whatever the pieces, the samples are those of one piece, bit for bit; after the last piece there have been
 * pn_resampled_count of them. Equal rates pass through. */
typedef struct pn_resampler pn_resampler;
ponder_status pn_resampler_new(pn_resampler **out, uint32_t from, uint32_t to, const ponder_alloc *a, ponder_error *err);
ponder_status pn_resampler_copy(pn_resampler **out, const pn_resampler *r, const ponder_alloc *a, ponder_error *err);
void pn_resampler_free(pn_resampler *r);
size_t pn_resampler_bytes(const pn_resampler *r); /* of our own; the library's state is not counted */
uint32_t pn_resampler_from(const pn_resampler *r); /* the rate of what it takes */
/* The most samples that a push of n may give. */
size_t pn_resampler_room(const pn_resampler *r, size_t n);
/* last: nothing follows (n may be 0). `out` has pn_resampler_room(n) of room. PONDER_E_STATE: after the last. */
ponder_status pn_resampler_push(pn_resampler *r, const float *in, size_t n, bool last, float *out, size_t *n_out, ponder_error *err);

/* Frames to mono: the average, as the reference forms it. false: a sample that is no number or too large, at *bad. */
bool pn_audio_mono(float *to, const float *frames, size_t n, uint32_t channels, size_t *bad);

/* ---- the tower: every number from metadata alone -------------------------------------------- */

enum { PN_AUDIO_STAGES = 8, PN_AUDIO_DEPTH = 64, PN_AUDIO_TAPS = 64 }; /* at most */

typedef struct pn_audio_info {
    uint32_t stages;
    uint32_t patch[PN_AUDIO_STAGES], width[PN_AUDIO_STAGES], depth[PN_AUDIO_STAGES], ff[PN_AUDIO_STAGES];
    uint32_t taps;            /* of the convolutions */
    uint32_t out;             /* width of the rows, which is the text model's */
    float eps;
    uint32_t rate;            /* samples a second that it hears */
    uint32_t samples;         /* that become one row: the product of the patches */
} pn_audio_info;

/* From a folder with a tower in it, or from a GGUF of the projector (architecture "clip"). *found false: the checkpoint has no such
 * tower. PONDER_E_UNSUPPORTED: another tower, a setting that is not computed here, or a text model that has no ears;
 * PONDER_E_FORMAT: a key or a tensor that does not fit; both named. */
ponder_status pn_audio_describe(pn_audio_info *d, bool *found, const pn_checkpoint *c, const char *text_arch, uint32_t text_width,
                                ponder_error *err);

/* ---- weights: immutable, shared by any number of streams -------------------------------------- */
typedef struct pn_audio pn_audio;

/* The checkpoint is borrowed. *out NULL with PONDER_OK: it has no tower. */
ponder_status pn_audio_load(pn_audio **out, pn_checkpoint *c, const char *text_arch, uint32_t text_width, const pn_load_options *o,
                            const ponder_alloc *a, ponder_error *err);
void pn_audio_free(pn_audio *t);
const pn_audio_info *pn_audio_about(const pn_audio *t);
const pn_store *pn_audio_store(const pn_audio *t);
bool pn_audio_quantised(const pn_audio *t); /* some matrix is */
size_t pn_audio_bytes(const pn_audio *t);   /* what it owns, the handle included */
/* What pn_audio_load would own and keep mapped. */
ponder_status pn_audio_plan(pn_load_plan *out, pn_checkpoint *c, const pn_audio_info *d, const pn_load_options *o, ponder_error *err);

/* ---- a sound on its way through the tower --------------------------------------------------------
 * Samples that no row was made of yet, and what the convolutions remember: everything in the tower looks back alone, so rows are
 * final once made, and have the same bits whatever the pieces that the samples come in and the rows are asked for in. Belongs
 * to one thread at a time; the tower must outlive it. */
typedef struct pn_audio_stream pn_audio_stream;

/* Sound that is still coming: at `rate`, in `channels`. max_samples: in all, at the tower's rate; 0: no limit. */
ponder_status pn_audio_stream_new(pn_audio_stream **out, const pn_audio *t, uint32_t rate, uint32_t channels, uint64_t max_samples,
                                  const ponder_alloc *a, ponder_error *err);
/* A whole sound (held, not copied), already ended. PONDER_E_ARGUMENT: it is at another rate than the tower hears. */
ponder_status pn_audio_stream_of(pn_audio_stream **out, const pn_audio *t, pn_sound *s, const ponder_alloc *a, ponder_error *err);
/* frames: [n][channels], copied. PONDER_E_STATE: it has ended; PONDER_E_RANGE: longer than allowed; PONDER_E_FORMAT: no number.
 * After a failure the stream is as before. */
ponder_status pn_audio_stream_push(pn_audio_stream *s, const float *frames, size_t n, ponder_error *err);
/* Nothing follows: the last row is filled up with silence. PONDER_E_ARGUMENT: there was no sample at all. */
ponder_status pn_audio_stream_end(pn_audio_stream *s, ponder_error *err);
bool pn_audio_stream_ended(const pn_audio_stream *s);
uint64_t pn_audio_stream_ready(const pn_audio_stream *s); /* rows that can be made now */
uint64_t pn_audio_stream_done(const pn_audio_stream *s);  /* rows that were made */
uint64_t pn_audio_stream_hash(const pn_audio_stream *s);  /* of the samples that became rows: a cache's key */
/* A second one that goes on from here: for a fork. */
ponder_status pn_audio_stream_copy(pn_audio_stream **out, const pn_audio_stream *s, const ponder_alloc *a, ponder_error *err);
size_t pn_audio_stream_bytes(const pn_audio_stream *s);   /* memory it holds; of a whole sound, without the sound's */
void pn_audio_stream_free(pn_audio_stream *s);

/* ---- encoding: rows of a stream, as work ------------------------------------------------------------ */
typedef struct pn_audio_encode pn_audio_encode;

enum { PN_AUDIO_CHUNK = 16 }; /* rows computed at a time: working memory is in proportion to these, not to the sound */

/* The stream's next n rows (at most pn_audio_stream_ready) go to rows: [n][out], before the text model's weightless norm. Stream
 * and rows are borrowed until the work is done; samples may be pushed while it rests, and other encodings wait. Work that
 * is given up leaves the stream behind the last chunk that was finished: so many rows are made, and a new encoding goes on. */
ponder_status pn_audio_encode_new(pn_audio_encode **out, pn_audio_stream *s, uint32_t n, float *rows, const pn_kernels *k,
                                  uint32_t threads, const ponder_alloc *a, ponder_error *err);
const pn_work *pn_audio_encode_work(const pn_audio_encode *e);
uint32_t pn_audio_encode_done(const pn_audio_encode *e);
void pn_audio_encode_free(pn_audio_encode *e);
/* What pn_audio_encode_new allocates. */
size_t pn_audio_encode_bytes(const pn_audio_info *d, bool quantised, uint32_t n, uint32_t threads);

#endif
