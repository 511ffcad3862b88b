/* What logits say. */
#include "think/think.h"

#include <math.h>

uint32_t pn_think_rank(const float *x, uint32_t n, int32_t id, float bias)
{
    const float own = x[id] + bias;
    uint32_t above = 0;
    for (uint32_t i = 0; i < (uint32_t)id; i++) above += x[i] >= own;
    for (uint32_t i = (uint32_t)id + 1; i < n; i++) above += x[i] > own;
    return above;
}

uint32_t pn_think_choice(uint64_t seed, uint64_t position, uint32_t n)
{
    uint64_t v = seed ^ (position + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 2; i++) {
        v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    }
    return (uint32_t)((v >> 32) * n >> 32);
}

/* ---- probes ------------------------------------------------------------------------------------------------- */

bool pn_think_probe_due(const pn_think_limits *l, const pn_thought *t, uint32_t cost)
{
    if (l->exit == PN_EXIT_NONE || pn_think_held_back(l, t) || t->block == 0) return false;
    if (t->used < t->probed + l->interval) return false;
    return (double)(t->probe_tokens + cost) <= l->probe_share * (double)t->used;
}

bool pn_think_probed(const pn_think_limits *l, pn_thought *t, double said, uint32_t cost)
{
    const double at = l->exit_at >= 0 ? l->exit_at : l->exit == PN_EXIT_ENTROPY ? 0.2 : 0.95;
    t->probes++;
    t->probe_tokens += cost;
    t->probed = t->used;
    t->sure = (l->exit == PN_EXIT_ENTROPY ? said < at : said > log(at)) ? t->sure + 1 : 0;
    return t->sure >= l->patience;
}
