/* Sounds: frames from a file or from memory, block by block to mono samples at the model's rate. */
#include <math.h>
#include <stdatomic.h>

#include "audio/wav.h"

struct pn_sound {
    ponder_alloc own;      /* a copy: the sound may outlive the config that gave it */
    const ponder_alloc *a; /* it, or NULL */
    _Atomic uint32_t refs;
    uint32_t rate;
    uint64_t n, hash;
    size_t bytes;          /* allocated for samples */
    float *samples;
};

bool pn_audio_mono(float *to, const float *frames, size_t n, uint32_t channels, size_t *bad)
{
    for (size_t i = 0; i < n; i++, frames += channels) {
        float sum = frames[0];
        for (uint32_t c = 1; c < channels; c++) sum += frames[c];
        to[i] = sum / (float)channels;
        if (!(fabsf(to[i]) <= PN_AUDIO_LOUDEST)) {
            *bad = i;
            return false;
        }
    }
    return true;
}

uint64_t pn_resampled_count(uint64_t n, uint32_t from, uint32_t to)
{
    if (n > (UINT64_MAX - from) / to) return UINT64_MAX;
    return (n * to + from - 1) / from;
}

/* ---- filling ---------------------------------------------------------------------------- */

enum { BLOCK_SAMPLES = 16384 }; /* taken in at a time, all channels together */

typedef struct filling {
    pn_sound *s;
    pn_resampler *r;       /* NULL: the rate is right */
    uint32_t channels;
    size_t block;          /* frames */
    uint64_t frames, seen;
    float *mono;           /* [block], when there is a resampler */
    ponder_error *err;
} filling;

static ponder_status check_form(uint64_t frames, uint32_t channels, uint32_t rate, uint32_t to, ponder_error *err)
{
    if (frames == 0) return pn_fail(err, PONDER_E_ARGUMENT, "a sound without samples");
    if (channels < 1 || channels > PN_AUDIO_MAX_CHANNELS)
        return pn_fail(err, PONDER_E_RANGE, "a sound of %u channels: 1..%d are possible", channels, PN_AUDIO_MAX_CHANNELS);
    if (rate < PN_AUDIO_MIN_RATE || rate > PN_AUDIO_MAX_RATE || to < PN_AUDIO_MIN_RATE || to > PN_AUDIO_MAX_RATE)
        return pn_fail(err, PONDER_E_RANGE, "a sound of %u samples a second for %u: %d..%d are possible", rate, to, PN_AUDIO_MIN_RATE,
                       PN_AUDIO_MAX_RATE);
    return PONDER_OK;
}

static ponder_status new_samples(filling *f, const pn_sound_options *o, const ponder_alloc *a, uint32_t from)
{
    pn_sound *s = f->s;
    s->n = pn_resampled_count(f->frames, from, s->rate);
    if (s->n == UINT64_MAX || (o->max_samples && s->n > o->max_samples))
        return pn_fail(f->err, PONDER_E_RANGE, "a sound of %llu samples at %u a second; %llu are allowed", (unsigned long long)s->n, s->rate,
                       (unsigned long long)o->max_samples);
    if (s->n > SIZE_MAX / sizeof(float)) return pn_nomem(f->err, SIZE_MAX);
    size_t bytes = (size_t)s->n * sizeof(float);
    s->samples = pn_alloc_aligned(a, bytes, 64);
    if (!s->samples) return pn_nomem(f->err, bytes);
    s->bytes = bytes;
    return PONDER_OK;
}

static ponder_status filling_begin(filling *f, const pn_sound_options *o, const ponder_alloc *a, uint32_t from)
{
    uint32_t to = o && o->rate ? o->rate : PN_AUDIO_RATE;
    ponder_status st = check_form(f->frames, f->channels, from, to, f->err);
    if (st != PONDER_OK) return st;
    f->s = pn_zalloc(a, sizeof *f->s);
    if (!f->s) return pn_nomem(f->err, sizeof *f->s);
    if (a) f->s->own = *a;
    f->s->a = a ? &f->s->own : NULL;
    f->s->rate = to;
    atomic_init(&f->s->refs, 1);
    f->block = BLOCK_SAMPLES / f->channels;
    if (from != to) {
        f->mono = pn_alloc(a, f->block * sizeof(float));
        if (!f->mono) return pn_nomem(f->err, f->block * sizeof(float));
        if ((st = pn_resampler_new(&f->r, from, to, a, f->err)) != PONDER_OK) return st;
    }
    return new_samples(f, o ? o : &(pn_sound_options){0}, a, from);
}

/* The next n frames; *at is how many samples there are already. */
static ponder_status take_frames(filling *f, const float *frames, size_t n, uint64_t *at)
{
    float *to = f->r ? f->mono : f->s->samples + *at;
    size_t bad, made = n;
    if (!pn_audio_mono(to, frames, n, f->channels, &bad))
        return pn_fail(f->err, PONDER_E_FORMAT, "sound: frame %llu is not a number, or beyond 1e10", (unsigned long long)(f->seen + bad));
    f->seen += n;
    ponder_status st = PONDER_OK;
    if (f->r) st = pn_resampler_push(f->r, f->mono, n, f->seen == f->frames, f->s->samples + *at, &made, f->err);
    *at += made;
    return st;
}

static ponder_status filling_end(filling *f, ponder_status st, const ponder_alloc *a, pn_sound **out)
{
    pn_resampler_free(f->r);
    pn_free(a, f->mono, f->block * sizeof(float));
    if (st != PONDER_OK) {
        pn_sound_free(f->s);
        return st;
    }
    f->s->hash = pn_hash64(f->s->samples, (size_t)f->s->n * sizeof(float), f->s->rate);
    *out = f->s;
    return PONDER_OK;
}

/* ---- from where --------------------------------------------------------------------------- */

ponder_status pn_sound_raw(pn_sound **out, const float *samples, uint64_t frames, uint32_t channels, uint32_t rate,
                           const pn_sound_options *o, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!samples) return pn_fail(err, PONDER_E_ARGUMENT, "a sound without samples");
    filling f = {.channels = channels, .frames = frames, .err = err};
    ponder_status st = filling_begin(&f, o, a, rate);
    uint64_t at = 0;
    while (st == PONDER_OK && f.seen < frames) {
        size_t n = (size_t)PN_MIN(frames - f.seen, (uint64_t)f.block);
        st = take_frames(&f, samples + f.seen * channels, n, &at);
    }
    return filling_end(&f, st, a, out);
}

static ponder_status read_all(filling *f, const pn_wav *w, pn_source *s, uint8_t *bytes, float *frames)
{
    const uint64_t frame = (uint64_t)w->container * w->channels;
    ponder_status st = PONDER_OK;
    uint64_t at = 0;
    while (st == PONDER_OK && f->seen < f->frames) {
        size_t n = (size_t)PN_MIN(f->frames - f->seen, (uint64_t)f->block);
        st = pn_source_read(s, w->data + f->seen * frame, bytes, (size_t)(n * frame), f->err);
        if (st != PONDER_OK) break;
        pn_wav_floats(w, frames, bytes, n * w->channels);
        st = take_frames(f, frames, n, &at);
    }
    return st;
}

ponder_status pn_sound_wav(pn_sound **out, pn_source *s, const pn_sound_options *o, const ponder_alloc *a, ponder_error *err)
{
    pn_wav w;
    *out = NULL;
    ponder_status st = pn_wav_open(&w, s, err);
    if (st != PONDER_OK) return st;
    filling f = {.channels = w.channels, .frames = w.frames, .err = err};
    st = filling_begin(&f, o, a, w.rate);
    const size_t size = BLOCK_SAMPLES * (sizeof(double) + sizeof(float));
    float *frames = st == PONDER_OK ? pn_alloc(a, size) : NULL; /* [BLOCK_SAMPLES], and then their bytes */
    if (frames) st = read_all(&f, &w, s, (uint8_t *)(frames + BLOCK_SAMPLES), frames);
    else if (st == PONDER_OK) st = pn_nomem(err, size);
    pn_free(a, frames, size);
    return filling_end(&f, st, a, out);
}

ponder_status pn_sound_wav_path(pn_sound **out, const char *path, const pn_sound_options *o, const ponder_alloc *a, ponder_error *err)
{
    pn_source *s;
    *out = NULL;
    ponder_status st = pn_source_path_unmapped(&s, path, a, err);
    if (st != PONDER_OK) return st;
    st = pn_sound_wav(out, s, o, a, err);
    pn_source_free(s);
    return st;
}

ponder_status pn_sound_wav_memory(pn_sound **out, const void *p, size_t n, const pn_sound_options *o, const ponder_alloc *a,
                                  ponder_error *err)
{
    pn_source *s;
    *out = NULL;
    ponder_status st = pn_source_memory(&s, p, n, a, err);
    if (st != PONDER_OK) return st;
    st = pn_sound_wav(out, s, o, a, err);
    pn_source_free(s);
    return st;
}

/* ---- sharing -------------------------------------------------------------------------------- */

pn_sound *pn_sound_hold(pn_sound *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void pn_sound_free(pn_sound *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1) return;
    const ponder_alloc own = s->own, *a = s->a ? &own : NULL;
    pn_free(a, s->samples, s->bytes);
    pn_free(a, s, sizeof *s);
}

const float *pn_sound_samples(const pn_sound *s) { return s->samples; }
uint64_t pn_sound_count(const pn_sound *s) { return s->n; }
uint32_t pn_sound_rate(const pn_sound *s) { return s->rate; }
uint64_t pn_sound_hash(const pn_sound *s) { return s->hash; }
size_t pn_sound_bytes(const pn_sound *s) { return s->bytes + sizeof *s; }
