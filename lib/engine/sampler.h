/* sampler: logits to a token. Random numbers are a function of (seed, position) alone, ties go to the lowest id, exp is
 * ours: the same token on every machine, in every batch. */
#ifndef PN_ENGINE_SAMPLER_H
#define PN_ENGINE_SAMPLER_H

#include "base/base.h"
#include "tensor/tensor.h"

typedef struct pn_sampling {
    double temperature, top_p, min_p, repeat, presence, frequency;
    uint32_t top_k, window;
    uint64_t seed;
} pn_sampling;

typedef struct pn_bias {
    int32_t token;
    float bias;
} pn_bias;

typedef struct pn_sampler {
    const ponder_alloc *a;
    const pn_kernels *k;
    uint32_t vocab;
    float *work;              /* [vocab] */
    float *top;               /* of each PN_TOP of what is looked at: most can be passed over */
    int32_t *candidate;       /* [vocab] */
    uint16_t *seen;           /* [vocab], all zero between calls */
    bool want_logprob;
    float logprob;            /* of the token picked, when wanted: under bias, penalties, mask and temperature, before any cut */
} pn_sampler;

ponder_status pn_sampler_init(pn_sampler *s, const pn_kernels *k, uint32_t vocab, const ponder_alloc *a, ponder_error *err);
void pn_sampler_free(pn_sampler *s);
size_t pn_sampler_bytes(uint32_t vocab);

/* Order: bias and penalties, temperature, top-k, top-p, min-p. ids: all tokens so far; position: of the token sampled.
 * allowed: a bit for each token, lowest bit of the first word first (a grammar's mask); only these are picked, and of them
 * the best by its own logit when bias has ruled out all. NULL: all are allowed. -1: none is. */
int32_t pn_sampler_pick(pn_sampler *s, const pn_sampling *o, const float *logits, const int32_t *ids, uint32_t n,
                        const pn_bias *bias, uint32_t n_bias, const uint32_t *allowed, uint32_t position);
/* Entropy of the unchanged logits, in nats. */
double pn_sampler_entropy(pn_sampler *s, const float *logits);
/* Log-probability of `token` under the unchanged logits, and the n most likely tokens. */
float pn_sampler_logprob(pn_sampler *s, const float *logits, int32_t token);
void pn_sampler_top(pn_sampler *s, const float *logits, ponder_token_prob *top, uint32_t n);

#endif
