/* audio: sounds in (WAV, raw samples), averaged to one channel and brought to the model's rate; the waveform tower of
 * muse-spark that makes rows of them, one piece or as they come. */
#ifndef PN_AUDIO_H
#define PN_AUDIO_H

#include "base/base.h"
#include "files/files.h"

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
ponder_status pn_resampler_copy(pn_resampler **out, const pn_resampler *r, ponder_error *err);
void pn_resampler_free(pn_resampler *r);
size_t pn_resampler_bytes(const pn_resampler *r); /* of our own; the library's state is not counted */
/* The most samples that a push of n may give. */
size_t pn_resampler_room(const pn_resampler *r, size_t n);
/* last: nothing follows (n may be 0). `out` has pn_resampler_room(n) of room. PONDER_E_STATE: after the last. */
ponder_status pn_resampler_push(pn_resampler *r, const float *in, size_t n, bool last, float *out, size_t *n_out, ponder_error *err);

/* Frames to mono: the average, as the reference forms it. false: a sample that is no number or too large, at *bad. */
bool pn_audio_mono(float *to, const float *frames, size_t n, uint32_t channels, size_t *bad);

#endif
