/* Counting answers. */
#include "agents/agents.h"

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
    o->weight += t->weighted ? sure : 1;
    if (sure > o->best) {
        o->best = sure;
        o->voice = voice;
    }
    t->voters++;
    t->weight += t->weighted ? sure : 1;
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

/* That the leader's share of the two is above one half, given their votes and a flat prior: a Beta(a + 1, b + 1) above 1/2,
 * which is a binomial sum. */
static double probability_ahead(uint32_t a, uint32_t b)
{
    const uint32_t n = a + b + 1;
    double term = 1, sum = 0, all = 0; /* n over k, over 2^n at the end; scaled when it grows */
    for (uint32_t k = 0; k <= n; k++) {
        if (k <= a) sum += term;
        all += term;
        term = term * (double)(n - k) / (double)(k + 1);
        if (all > 1e200) {
            term *= 1e-200;
            sum *= 1e-200;
            all *= 1e-200;
        }
    }
    return sum / all;
}

bool pn_tally_decided(const pn_tally *t, uint32_t left, double certainty)
{
    const pn_option *second, *first = pn_tally_leader(t, &second);
    if (!first || certainty <= 0) return false;
    if (first->weight - (second ? second->weight : 0) > (double)left) return true; /* a vote weighs at most 1 */
    return certainty < 1 && probability_ahead(first->votes, second ? second->votes : 0) >= certainty;
}
