/* One sample stream to another rate. */
#include "audio/audio.h"

struct pn_resampler {
    const ponder_alloc *a;
};

ponder_status pn_resampler_new(pn_resampler **out, uint32_t from, uint32_t to, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (from != to) return pn_fail(err, PONDER_E_UNSUPPORTED, "sound at %u samples a second: this build has no resampler", from);
    *out = pn_zalloc(a, sizeof **out);
    if (!*out) return pn_nomem(err, sizeof **out);
    (*out)->a = a;
    return PONDER_OK;
}

ponder_status pn_resampler_copy(pn_resampler **out, const pn_resampler *r, ponder_error *err)
{
    return pn_resampler_new(out, 1, 1, r->a, err);
}

void pn_resampler_free(pn_resampler *r)
{
    if (r) pn_free(r->a, r, sizeof *r);
}

size_t pn_resampler_room(const pn_resampler *r, size_t n)
{
    return n;
}

ponder_status pn_resampler_push(pn_resampler *r, const float *in, size_t n, bool last, float *out, size_t *n_out, ponder_error *err)
{
    memcpy(out, in, n * sizeof *in);
    *n_out = n;
    return PONDER_OK;
}
