/* Streams: samples that wait to become rows, and what the convolutions remember of those that did. */
#include "audio/tower.h"

#include <math.h>

size_t pn_audio_memory(const pn_audio_info *d)
{
    size_t n = 0;
    for (uint32_t s = 0; s < d->stages; s++) n += (size_t)d->depth[s] * d->width[s] * (d->taps - 1);
    return n;
}

static size_t memory_bytes(const pn_audio *t) { return pn_audio_memory(&t->d) * sizeof(float); }

static ponder_status new_stream(pn_audio_stream **out, const pn_audio *t, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    pn_audio_stream *s = pn_zalloc(a, sizeof *s);
    if (!s) return pn_nomem(err, sizeof *s);
    s->t = t;
    s->a = a;
    s->hash = t->d.rate;
    s->memory = pn_zalloc(a, memory_bytes(t)); /* zeros before the start */
    if (!s->memory) {
        pn_audio_stream_free(s);
        return pn_nomem(err, memory_bytes(t));
    }
    *out = s;
    return PONDER_OK;
}

ponder_status pn_audio_stream_new(pn_audio_stream **out, const pn_audio *t, uint32_t rate, uint32_t channels, uint64_t max_samples,
                                  const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (channels < 1 || channels > PN_AUDIO_MAX_CHANNELS)
        return pn_fail(err, PONDER_E_RANGE, "a sound of %u channels: 1..%d are possible", channels, PN_AUDIO_MAX_CHANNELS);
    pn_audio_stream *s;
    ponder_status st = new_stream(&s, t, a, err);
    if (st != PONDER_OK) return st;
    s->channels = channels;
    s->max_samples = max_samples;
    st = pn_resampler_new(&s->resampler, rate, t->d.rate, a, err);
    if (st == PONDER_OK) *out = s;
    else pn_audio_stream_free(s);
    return st;
}

ponder_status pn_audio_stream_of(pn_audio_stream **out, const pn_audio *t, pn_sound *sound, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (pn_sound_rate(sound) != t->d.rate)
        return pn_fail(err, PONDER_E_ARGUMENT, "a sound of %u samples a second: the model hears %u", pn_sound_rate(sound), t->d.rate);
    ponder_status st = new_stream(out, t, a, err);
    if (st != PONDER_OK) return st;
    (*out)->whole = pn_sound_hold(sound);
    (*out)->ended = true;
    return PONDER_OK;
}

void pn_audio_stream_free(pn_audio_stream *s)
{
    if (!s) return;
    pn_sound_free(s->whole);
    pn_resampler_free(s->resampler);
    pn_free(s->a, s->samples, s->cap * sizeof *s->samples);
    pn_free(s->a, s->memory, memory_bytes(s->t));
    pn_free(s->a, s, sizeof *s);
}

/* ---- samples in ------------------------------------------------------------------------------ */

/* Room for `more` samples behind those that wait. Moves them at most once for each that came. */
static ponder_status reserve(pn_audio_stream *s, size_t more, ponder_error *err)
{
    const size_t live = s->n - s->at;
    if (s->cap - s->n >= more) return PONDER_OK;
    if (s->at >= live && s->cap - live >= more) {
        memmove(s->samples, s->samples + s->at, live * sizeof *s->samples);
    } else {
        size_t cap, bytes;
        if (!pn_add(live + live / 2, more, &cap) || !pn_mul(cap, sizeof *s->samples, &bytes)) return pn_nomem(err, SIZE_MAX);
        float *p = pn_alloc(s->a, bytes);
        if (!p) return pn_nomem(err, bytes);
        if (live) memcpy(p, s->samples + s->at, live * sizeof *p);
        pn_free(s->a, s->samples, s->cap * sizeof *s->samples);
        s->samples = p;
        s->cap = cap;
    }
    s->n = live;
    s->at = 0;
    return PONDER_OK;
}

enum { BLOCK = 512 }; /* frames made mono at a time */

static ponder_status check_frames(const pn_audio_stream *s, const float *frames, size_t n, ponder_error *err)
{
    float mono[BLOCK];
    size_t bad;
    for (size_t at = 0; at < n; at += BLOCK)
        if (!pn_audio_mono(mono, frames + at * s->channels, PN_MIN(n - at, (size_t)BLOCK), s->channels, &bad))
            return pn_fail(err, PONDER_E_FORMAT, "sound: frame %zu of these is not a number, or beyond 1e10", at + bad);
    return PONDER_OK;
}

ponder_status pn_audio_stream_push(pn_audio_stream *s, const float *frames, size_t n, ponder_error *err)
{
    float mono[BLOCK];
    size_t made, bad;
    if (s->ended) return pn_fail(err, PONDER_E_STATE, "sound after its end");
    if (n == 0) return PONDER_OK;
    if (!frames) return pn_fail(err, PONDER_E_ARGUMENT, "no samples are given");
    const uint64_t total = pn_resampled_count(s->frames + n, pn_resampler_from(s->resampler), s->t->d.rate);
    if (s->frames + n < n || total == UINT64_MAX || (s->max_samples && total > s->max_samples))
        return pn_fail(err, PONDER_E_RANGE, "a sound of %llu samples at %u a second; %llu are allowed", (unsigned long long)total,
                       s->t->d.rate, (unsigned long long)s->max_samples);
    ponder_status st = check_frames(s, frames, n, err);
    if (st == PONDER_OK) st = reserve(s, pn_resampler_room(s->resampler, n), err);
    if (st != PONDER_OK) return st;
    for (size_t at = 0; at < n && st == PONDER_OK; at += BLOCK) {
        const size_t some = PN_MIN(n - at, (size_t)BLOCK);
        pn_audio_mono(mono, frames + at * s->channels, some, s->channels, &bad);
        st = pn_resampler_push(s->resampler, mono, some, false, s->samples + s->n, &made, err);
        s->n += made;
    }
    s->frames += n;
    return st;
}

ponder_status pn_audio_stream_end(pn_audio_stream *s, ponder_error *err)
{
    size_t made;
    if (s->ended) return PONDER_OK;
    if (s->frames == 0) return pn_fail(err, PONDER_E_ARGUMENT, "a sound without samples");
    ponder_status st = reserve(s, pn_resampler_room(s->resampler, 0), err);
    if (st == PONDER_OK) st = pn_resampler_push(s->resampler, NULL, 0, true, s->samples + s->n, &made, err);
    if (st != PONDER_OK) return st;
    s->n += made;
    s->ended = true;
    return PONDER_OK;
}

/* ---- rows out ----------------------------------------------------------------------------------- */

/* What waits: *n samples. */
static const float *waiting(const pn_audio_stream *s, uint64_t *n)
{
    if (!s->whole) {
        *n = s->n - s->at;
        return s->samples ? s->samples + s->at : NULL;
    }
    const uint64_t count = pn_sound_count(s->whole), from = PN_MIN(count, s->done * s->t->d.samples);
    *n = count - from;
    return pn_sound_samples(s->whole) + from;
}

bool pn_audio_stream_ended(const pn_audio_stream *s) { return s->ended; }
uint64_t pn_audio_stream_done(const pn_audio_stream *s) { return s->done; }
uint64_t pn_audio_stream_hash(const pn_audio_stream *s) { return s->hash; }

uint64_t pn_audio_stream_ready(const pn_audio_stream *s)
{
    uint64_t n;
    waiting(s, &n);
    return s->ended ? pn_audio_rows(n, s->t->d.samples) : n / s->t->d.samples;
}

void pn_audio_stream_take(const pn_audio_stream *s, uint32_t rows, float *to, uint64_t *hash)
{
    uint64_t n;
    const size_t row = s->t->d.samples, want = rows * row;
    const float *from = waiting(s, &n);
    const size_t have = (size_t)PN_MIN(n, (uint64_t)want);
    if (have) memcpy(to, from, have * sizeof *to);
    memset(to + have, 0, (want - have) * sizeof *to);
    *hash = s->hash;
    for (uint32_t r = 0; r < rows; r++) *hash = pn_hash64(to + r * row, row * sizeof *to, *hash);
}

void pn_audio_stream_commit(pn_audio_stream *s, uint32_t rows, uint64_t hash, const float *memory)
{
    if (!s->whole) s->at += PN_MIN((size_t)rows * s->t->d.samples, s->n - s->at);
    if (s->at == s->n) s->at = s->n = 0;
    s->done += rows;
    s->hash = hash;
    memcpy(s->memory, memory, memory_bytes(s->t));
}

/* ---- copies ---------------------------------------------------------------------------------------- */

size_t pn_audio_stream_bytes(const pn_audio_stream *s)
{
    const size_t ring = s->resampler ? pn_resampler_bytes(s->resampler) : 0;
    return sizeof *s + memory_bytes(s->t) + s->cap * sizeof *s->samples + ring;
}

static ponder_status copy_into(pn_audio_stream *to, const pn_audio_stream *s, ponder_error *err)
{
    const size_t live = s->n - s->at;
    memcpy(to->memory, s->memory, memory_bytes(s->t));
    to->channels = s->channels;
    to->max_samples = s->max_samples;
    to->frames = s->frames;
    to->ended = s->ended;
    to->done = s->done;
    to->hash = s->hash;
    if (s->whole) to->whole = pn_sound_hold(s->whole);
    ponder_status st = s->resampler ? pn_resampler_copy(&to->resampler, s->resampler, to->a, err) : PONDER_OK;
    if (st == PONDER_OK) st = reserve(to, live, err);
    if (st != PONDER_OK || live == 0) return st;
    memcpy(to->samples, s->samples + s->at, live * sizeof *s->samples);
    to->n = live;
    return PONDER_OK;
}

ponder_status pn_audio_stream_copy(pn_audio_stream **out, const pn_audio_stream *s, const ponder_alloc *a, ponder_error *err)
{
    ponder_status st = new_stream(out, s->t, a, err);
    if (st == PONDER_OK) st = copy_into(*out, s, err);
    if (st == PONDER_OK) return PONDER_OK;
    pn_audio_stream_free(*out);
    *out = NULL;
    return st;
}
