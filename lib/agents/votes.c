/* Counting answers. */
#include "agents/agents.h"

#include <math.h>

/* What a vote counts. Squared, an agent that doubts weighs much less: on seed0's search the full vote of 16 is right in 91.2 % so, in
 * 90.2 % by confidence itself, and an early decision is as right as the full vote after half of the tokens. */
static double weight_of(const pn_tally *t, double sure) { return t->weighted ? sure * sure : 1; }

ponder_status pn_tally_init(pn_tally *t, uint32_t most, bool weighted, const ponder_alloc *a, ponder_error *err)
{
    *t = (pn_tally){.a = a, .cap = most, .weighted = weighted};
    t->option = pn_zalloc_array(a, most, sizeof *t->option);
    return t->option ? PONDER_OK : pn_nomem(err, most * sizeof *t->option);
}

void pn_tally_free(pn_tally *t)
{
    pn_free(t->a, t->option, t->cap * sizeof *t->option);
    t->option = NULL;
}

void pn_tally_clear(pn_tally *t)
{
    t->n = t->voters = 0;
    t->weight = 0;
}

void pn_tally_add(pn_tally *t, pn_str normal, uint32_t voice, double confidence)
{
    if (normal.n == 0 || t->voters == t->cap) return;
    const double sure = confidence > 0 ? confidence : 0;
    uint32_t i = 0;
    while (i < t->n && !(t->option[i].normal.n == normal.n && memcmp(t->option[i].normal.p, normal.p, normal.n) == 0)) i++;
    pn_option *o = &t->option[i];
    if (i == t->n) {
        *o = (pn_option){.normal = normal, .voice = voice, .best = -1};
        t->n++;
    }
    o->votes++;
    o->sureness += sure;
    o->weight += weight_of(t, sure);
    if (sure > o->best) {
        o->best = sure;
        o->voice = voice;
    }
    t->voters++;
    t->weight += weight_of(t, sure);
}

static bool ahead(const pn_option *a, const pn_option *b)
{
    return a->weight > b->weight || (a->weight == b->weight && a->sureness > b->sureness); /* else who came first */
}

void pn_tally_sort(pn_tally *t)
{
    for (uint32_t i = 1; i < t->n; i++) {
        const pn_option o = t->option[i];
        uint32_t k = i;
        for (; k > 0 && ahead(&o, &t->option[k - 1]); k--) t->option[k] = t->option[k - 1];
        t->option[k] = o;
    }
}

const pn_option *pn_tally_leader(const pn_tally *t, const pn_option **second)
{
    const pn_option *first = NULL, *next = NULL;
    for (uint32_t i = 0; i < t->n; i++) {
        const pn_option *o = &t->option[i];
        if (!first || ahead(o, first)) {
            next = first;
            first = o;
        } else if (!next || ahead(o, next)) {
            next = o;
        }
    }
    if (second) *second = next;
    return first;
}

/* That the leader's share of the two is above one half, given their weights as votes and a flat prior: the part of a
 * Beta(a + 1, b + 1) above 1/2, by the midpoint rule, a >= b. */
static double probability_ahead(double a, double b)
{
    enum { POINTS = 512 };
    const double mode = a + b > 0 ? a / (a + b) : 0.5, peak = (a > 0 ? a * log(mode) : 0) + (b > 0 ? b * log(1 - mode) : 0);
    double sum[2] = {0};
    for (int i = 0; i < POINTS; i++) {
        const double x = (i + 0.5) / POINTS;
        sum[i >= POINTS / 2] += exp(a * log(x) + b * log(1 - x) - peak);
    }
    return sum[1] / (sum[0] + sum[1]);
}

bool pn_tally_decided(const pn_tally *t, uint32_t left, double certainty)
{
    const pn_option *second, *first = pn_tally_leader(t, &second);
    if (!first || certainty <= 0) return false;
    if (first->weight - (second ? second->weight : 0) > (double)left) return true; /* a vote weighs at most 1 */
    return certainty < 1 && probability_ahead(first->weight, second ? second->weight : 0) >= certainty;
}
