/* One sample stream to another rate, by speexdsp: its positions are integers, so that pieces join without a seam and an
 * hour drifts by nothing. Quality 8 follows the reference's filter closest (doc/dependencies.md). */
#include "audio/audio.h"

#if PN_HAVE_SPEEXDSP
#include <speex/speex_resampler.h>
#else
typedef struct SpeexResamplerState SpeexResamplerState;
#endif

enum { QUALITY = 8, MOST_AT_ONCE = 1 << 20 };

struct pn_resampler {
    const ponder_alloc *a;
    uint32_t from, to;
    SpeexResamplerState *state; /* NULL: equal rates */
    uint64_t taken, made;
    bool ended;
    uint32_t period;            /* the filter's phase comes again after so many samples taken */
    uint32_t length;            /* of the filter, in samples taken */
    size_t kept;                /* the last samples taken, in a ring: what a copy's state is made of */
    float *ring;
};

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

#if PN_HAVE_SPEEXDSP
static ponder_status open_state(pn_resampler *r, ponder_error *err)
{
    int failure = RESAMPLER_ERR_SUCCESS;
    r->state = speex_resampler_init(1, r->from, r->to, QUALITY, &failure);
    if (!r->state && failure != RESAMPLER_ERR_ALLOC_FAILED)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "sound of %u samples a second for %u", r->from, r->to);
    if (!r->state) return pn_fail(err, PONDER_E_NOMEM, "no memory for the resampler");
    speex_resampler_skip_zeros(r->state); /* the first sample out stands at the first one in */
    return PONDER_OK;
}

static void close_state(pn_resampler *r)
{
    if (r->state) speex_resampler_destroy(r->state);
}

static uint32_t filter_length(const pn_resampler *r) { return 2 * (uint32_t)speex_resampler_get_input_latency(r->state); }

/* Takes of the n samples (in NULL: silence) and gives at most `room`, until either is used up. */
static void run_state(pn_resampler *r, const float **in, size_t *n, float **out, uint64_t *room)
{
    while (*n && *room) {
        spx_uint32_t i = (spx_uint32_t)PN_MIN(*n, (size_t)MOST_AT_ONCE), o = (spx_uint32_t)PN_MIN(*room, (uint64_t)MOST_AT_ONCE);
        speex_resampler_process_float(r->state, 0, *in, &i, *out, &o);
        *out += o;
        *room -= o;
        *n -= i;
        if (*in) *in += i;
    }
}
#else
static ponder_status open_state(pn_resampler *r, ponder_error *err)
{
    return pn_fail(err, PONDER_E_UNSUPPORTED, "sound of %u samples a second where %u are needed: this build has no speexdsp", r->from, r->to);
}
static void close_state(pn_resampler *r) { (void)r; }
static uint32_t filter_length(const pn_resampler *r) { return r->from; }
static void run_state(pn_resampler *r, const float **in, size_t *n, float **out, uint64_t *room) { *n = 0; }
#endif

ponder_status pn_resampler_new(pn_resampler **out, uint32_t from, uint32_t to, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (from < PN_AUDIO_MIN_RATE || from > PN_AUDIO_MAX_RATE || to < PN_AUDIO_MIN_RATE || to > PN_AUDIO_MAX_RATE)
        return pn_fail(err, PONDER_E_RANGE, "a sound of %u samples a second for %u: %d..%d are possible", from, to, PN_AUDIO_MIN_RATE,
                       PN_AUDIO_MAX_RATE);
    pn_resampler *r = pn_zalloc(a, sizeof *r);
    if (!r) return pn_nomem(err, sizeof *r);
    r->a = a;
    r->from = from;
    r->to = to;
    r->period = from / common_divisor(from, to);
    ponder_status st = from == to ? PONDER_OK : open_state(r, err);
    if (st == PONDER_OK && from != to) {
        r->length = filter_length(r);
        r->kept = (size_t)r->length + r->period;
        r->ring = pn_alloc(a, r->kept * sizeof(float));
        if (!r->ring) st = pn_nomem(err, r->kept * sizeof(float));
    }
    if (st == PONDER_OK) *out = r;
    else pn_resampler_free(r);
    return st;
}

void pn_resampler_free(pn_resampler *r)
{
    if (!r) return;
    close_state(r);
    pn_free(r->a, r->ring, r->kept * sizeof(float));
    pn_free(r->a, r, sizeof *r);
}

/* ---- copies --------------------------------------------------------------------------------- */

/* speexdsp cannot copy a state. But a state is the samples under the filter and the phase, and the phase is that of any
 * sample whole periods earlier: a new state that takes the samples kept from there on comes to the same one. */
static void replay(pn_resampler *to, const pn_resampler *r)
{
    uint64_t at = r->taken <= r->length ? 0 : (r->taken - r->length) / r->period * r->period;
    float made[128];
    while (at < r->taken) {
        size_t from = (size_t)(at % r->kept), n = (size_t)PN_MIN(r->taken - at, (uint64_t)(r->kept - from));
        const float *in = r->ring + from;
        at += n;
        while (n) {
            float *out = made; /* made before, by the original */
            uint64_t room = PN_COUNT(made);
            run_state(to, &in, &n, &out, &room);
        }
    }
}

ponder_status pn_resampler_copy(pn_resampler **out, const pn_resampler *r, const ponder_alloc *a, ponder_error *err)
{
    ponder_status st = pn_resampler_new(out, r->from, r->to, a, err);
    if (st != PONDER_OK) return st;
    (*out)->taken = r->taken;
    (*out)->made = r->made;
    (*out)->ended = r->ended;
    if (!r->ring) return PONDER_OK;
    memcpy((*out)->ring, r->ring, r->kept * sizeof *r->ring);
    replay(*out, r);
    return PONDER_OK;
}

size_t pn_resampler_bytes(const pn_resampler *r) { return sizeof *r + r->kept * sizeof *r->ring; }

uint32_t pn_resampler_from(const pn_resampler *r) { return r->from; }

/* ---- samples ---------------------------------------------------------------------------------- */

size_t pn_resampler_room(const pn_resampler *r, size_t n)
{
    uint64_t most = pn_resampled_count(r->taken + n, r->from, r->to) - r->made;
    return (size_t)PN_MIN(most, (uint64_t)SIZE_MAX);
}

static void keep(pn_resampler *r, const float *in, size_t n)
{
    uint64_t at = r->taken;
    if (n > r->kept) {
        at += n - r->kept;
        in += n - r->kept;
        n = r->kept;
    }
    while (n) {
        size_t to = (size_t)(at % r->kept), some = PN_MIN(n, r->kept - to);
        memcpy(r->ring + to, in, some * sizeof *in);
        at += some;
        in += some;
        n -= some;
    }
}

ponder_status pn_resampler_push(pn_resampler *r, const float *in, size_t n, bool last, float *out, size_t *n_out, ponder_error *err)
{
    *n_out = 0;
    if (r->ended) return pn_fail(err, PONDER_E_STATE, "sound after its last sample");
    uint64_t room = pn_resampler_room(r, n), had = room;
    if (r->state) {
        keep(r, in, n);
        r->taken += n;
        /* The filter looks ahead, so what it gives is less than the room as long as more can come: all of n is taken. */
        run_state(r, &in, &n, &out, &room);
        while (last && room) {
            const float *silence = NULL;
            size_t some = r->length;
            run_state(r, &silence, &some, &out, &room);
        }
    } else {
        if (n) memcpy(out, in, n * sizeof *in);
        r->taken += n;
        room = 0;
    }
    r->ended = last;
    r->made += had - room;
    *n_out = (size_t)(had - room);
    return PONDER_OK;
}
