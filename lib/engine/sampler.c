#include "engine/sampler.h"

#include <math.h>

size_t pn_sampler_bytes(uint32_t vocab)
{
    return vocab * (sizeof(float) + sizeof(int32_t) + sizeof(uint16_t));
}

ponder_status pn_sampler_init(pn_sampler *s, const pn_kernels *k, uint32_t vocab, const ponder_alloc *a, ponder_error *err)
{
    *s = (pn_sampler){.a = a, .k = k, .vocab = vocab};
    s->work = pn_zalloc_array(a, vocab, sizeof *s->work);
    s->candidate = pn_zalloc_array(a, vocab, sizeof *s->candidate);
    s->seen = pn_zalloc_array(a, vocab, sizeof *s->seen);
    if (s->work && s->candidate && s->seen) return PONDER_OK;
    pn_sampler_free(s);
    return pn_nomem(err, pn_sampler_bytes(vocab));
}

void pn_sampler_free(pn_sampler *s)
{
    pn_free(s->a, s->work, s->vocab * sizeof *s->work);
    pn_free(s->a, s->candidate, s->vocab * sizeof *s->candidate);
    pn_free(s->a, s->seen, s->vocab * sizeof *s->seen);
    s->work = NULL;
    s->candidate = NULL;
    s->seen = NULL;
}

/* ---- random numbers ---------------------------------------------------------------------- */

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

/* In [0, 1), 53 bits. */
static double uniform(uint64_t seed, uint64_t position)
{
    uint64_t v = mix(mix(seed + 0x9e3779b97f4a7c15u) + (position + 1) * 0x9e3779b97f4a7c15u);
    return (double)(v >> 11) * (1.0 / 9007199254740992.0);
}

/* ---- penalties ------------------------------------------------------------------------------ */

static void penalise(pn_sampler *s, const pn_sampling *o, const int32_t *ids, uint32_t n)
{
    if (o->repeat == 1 && o->presence == 0 && o->frequency == 0) return;
    uint32_t from = n > o->window ? n - o->window : 0;
    for (uint32_t i = from; i < n; i++)
        if (s->seen[ids[i]] < UINT16_MAX) s->seen[ids[i]]++;
    for (uint32_t i = from; i < n; i++) {
        uint16_t *times = &s->seen[ids[i]];
        float *x = &s->work[ids[i]];
        if (*times == 0) continue; /* done at its first occurrence */
        *x = *x > 0 ? *x / (float)o->repeat : *x * (float)o->repeat;
        *x -= (float)o->presence + (float)o->frequency * (float)*times;
        *times = 0;
    }
}

enum { BLOCK = 64 }; /* values looked at together: most of them can be passed over */

static float block_max(const float *x)
{
    float m[8];
    for (int j = 0; j < 8; j++) m[j] = -INFINITY;
    for (uint32_t i = 0; i < BLOCK; i += 8)
        for (uint32_t j = 0; j < 8; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (int j = 1; j < 8; j++) m[0] = m[j] > m[0] ? m[j] : m[0];
    return m[0];
}

static int32_t arg_max(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t from = 0; from < n; from += BLOCK) {
        if (n - from >= BLOCK && block_max(x + from) <= x[best]) continue;
        for (uint32_t i = from; i < PN_MIN(n, from + BLOCK); i++)
            if (x[i] > x[best] || isnan(x[best])) best = i;
    }
    return (int32_t)best;
}

/* ---- the candidates, most likely first ------------------------------------------------------- */

static bool before(const float *x, int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); }

static void sift(const float *x, int32_t *heap, size_t n, size_t i)
{
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (before(x, heap[least], heap[child])) least = child;
        if (least == i) return;
        int32_t t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

/* Heap sort, best first: the heap's root is the worst of what is left. */
static void sort_candidates(const float *x, int32_t *c, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift(x, c, n, i);
    for (size_t end = n; end > 1; end--) {
        int32_t t = c[0];
        c[0] = c[end - 1];
        c[end - 1] = t;
        sift(x, c, end - 1, 0);
    }
}

/* The k best of n, sorted: a heap of k whose root is the worst kept. */
static size_t best_of(const float *x, uint32_t n, uint32_t k, int32_t *c)
{
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (kept == k && i % BLOCK == 0)
            while (n - i >= BLOCK && block_max(x + i) <= x[c[0]]) i += BLOCK;
        if (i == n) break;
        if (kept < k) {
            c[kept++] = (int32_t)i;
            if (kept == k)
                for (size_t j = k / 2; j-- > 0;) sift(x, c, kept, j);
        } else if (x[i] > x[c[0]]) {
            c[0] = (int32_t)i;
            sift(x, c, kept, 0);
        }
    }
    sort_candidates(x, c, kept);
    return kept;
}

static size_t above(const float *x, uint32_t n, float threshold, int32_t *c)
{
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (x[i] >= threshold) c[kept++] = (int32_t)i;
    return kept;
}

static double sum_of(const float *p, const int32_t *c, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)p[c[i]];
    return sum;
}

static double sum_all(const float *p, uint32_t n)
{
    double lane[8] = {0};
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) lane[j] += (double)p[i + (uint32_t)j];
    for (; i < n; i++) lane[0] += (double)p[i];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

/* ---- most likely first, without sorting them all --------------------------------------------------------------------
 * Relative probabilities (0 to 1) are positive floats, so their bits are in order. Their masses are added up by the upper
 * bits; only the bucket in which the sum gets where it is wanted is looked into, by the bits below. */

enum { BUCKETS = 512, BANKS = 4, FEW = 64, TOP_SHIFT = 21, DIGIT = 9 };

static uint32_t bucket_of(float p, uint32_t shift)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return p > 0 ? bits >> shift & (BUCKETS - 1) : 0;
}

/* Neighbours are often alike: they go to banks of their own, so that no addition waits for the one before. */
static double weigh(const float *p, uint32_t n, double *of)
{
    double bank[BANKS][BUCKETS] = {0}, total = 0;
    for (uint32_t i = 0; i < n; i++)
        if (p[i] > 0) bank[i % BANKS][bucket_of(p[i], TOP_SHIFT)] += (double)p[i];
    for (uint32_t b = BUCKETS; b-- > 0;) total += of[b] = (bank[0][b] + bank[1][b]) + (bank[2][b] + bank[3][b]);
    return total;
}

/* From the top: the bucket in which the sum passes `aim`; *sum then lacks it. */
static uint32_t pass(const double *of, double aim, double *sum)
{
    uint32_t last = 0;
    for (uint32_t b = BUCKETS; b-- > 0;) {
        if (of[b] == 0) continue;
        if (*sum + of[last = b] > aim) return b;
        *sum += of[b];
    }
    *sum -= of[last];
    return last;
}

/* The token at which the sum over the most likely ones passes `aim`; *sum: with it. */
static int32_t token_at(const float *p, uint32_t vocab, const double *of, double aim, int32_t *c, double *sum)
{
    size_t n = 0;
    *sum = 0;
    uint32_t bucket = pass(of, aim, sum), bits[2] = {PN_MAX(bucket << TOP_SHIFT, 1u), (bucket + 1) << TOP_SHIFT};
    float limit[2];
    memcpy(limit, bits, sizeof limit);
    for (uint32_t i = 0; i < vocab; i++) { /* without a branch: n is at most i */
        c[n] = (int32_t)i;
        n += (p[i] >= limit[0]) & (p[i] < limit[1]);
    }
    for (uint32_t shift = TOP_SHIFT; n > FEW && shift > 0;) {
        double below[BUCKETS] = {0};
        size_t kept = 0;
        shift = shift > DIGIT ? shift - DIGIT : 0;
        for (size_t i = 0; i < n; i++) below[bucket_of(p[c[i]], shift)] += (double)p[c[i]];
        bucket = pass(below, aim, sum);
        for (size_t i = 0; i < n; i++)
            if (bucket_of(p[c[i]], shift) == bucket) c[kept++] = c[i];
        n = kept;
    }
    if (n <= FEW) sort_candidates(p, c, n); /* else they are equal, and in order */
    for (size_t i = 0; i < n; i++)
        if ((*sum += (double)p[c[i]]) > aim) return c[i];
    return c[n - 1];
}

static double mass_from(const float *p, uint32_t n, float least)
{
    double sum = 0;
    for (uint32_t from = 0; from < n; from += BLOCK) {
        if (n - from >= BLOCK && block_max(p + from) < least) continue;
        for (uint32_t i = from; i < PN_MIN(n, from + BLOCK); i++)
            if (p[i] >= least) sum += (double)p[i];
    }
    return sum;
}

/* One of the smallest set of most likely tokens with at least top_p of the mass, as far as min_p lets it reach. */
static int32_t draw_nucleus(pn_sampler *s, const pn_sampling *o, const float *p, double u)
{
    double of[BUCKETS], kept, reached;
    double total = weigh(p, s->vocab, of);
    token_at(p, s->vocab, of, nextafter(o->top_p * total, 0), s->candidate, &kept);
    if (o->min_p > 0) kept = fmin(kept, mass_from(p, s->vocab, (float)o->min_p));
    return token_at(p, s->vocab, of, u * kept, s->candidate, &reached);
}

static size_t cut_mass(const float *p, const int32_t *c, size_t n, double mass)
{
    double sum = 0, total = sum_of(p, c, n);
    for (size_t i = 0; i < n; i++)
        if ((sum += (double)p[c[i]]) >= mass * total) return i + 1;
    return n;
}

static int32_t draw(const float *p, const int32_t *c, size_t n, double u)
{
    double sum = 0, aim = u * sum_of(p, c, n);
    for (size_t i = 0; i < n; i++)
        if ((sum += (double)p[c[i]]) > aim) return c[i];
    return c[n - 1];
}

static int32_t draw_all(const float *p, uint32_t n, double u)
{
    double sum = 0, aim = u * sum_all(p, n);
    int32_t last = 0;
    for (uint32_t from = 0; from < n; from += BLOCK) {
        const uint32_t end = PN_MIN(n, from + BLOCK);
        const double block = sum_all(p + from, end - from);
        if (block == 0) continue;
        double inside = sum;
        for (uint32_t i = from; sum + block > aim && i < end; i++)
            if ((inside += (double)p[i]) > aim) return (int32_t)i;
        last = (int32_t)from;
        sum += block;
    }
    for (uint32_t i = (uint32_t)last; i < n; i++) /* rounding: the last that can be */
        if (p[i] > 0) last = (int32_t)i;
    return last;
}

static void forbid_others(float *x, uint32_t n, const uint32_t *allowed)
{
    for (uint32_t i = 0; i < n; i += 32) {
        const uint32_t word = allowed[i / 32], end = PN_MIN(n - i, 32);
        for (uint32_t k = 0; word != UINT32_MAX && k < end; k++)
            if (!(word >> k & 1)) x[i + k] = -INFINITY;
    }
}

static int32_t best_allowed(const float *x, uint32_t n, const uint32_t *allowed)
{
    int32_t best = -1;
    for (uint32_t i = 0; i < n; i++)
        if ((allowed[i / 32] >> i % 32 & 1) && (best < 0 || x[i] > x[best])) best = (int32_t)i;
    return best;
}

/* Of the best of x, which holds logits; x is used up. */
static float best_logprob(pn_sampler *s, float *x, int32_t best)
{
    float sum;
    s->k->exp_sum(x, x, x[best], s->vocab, &sum);
    return (float)-log(sum);
}

int32_t pn_sampler_pick(pn_sampler *s, const pn_sampling *o, const float *logits, const int32_t *ids, uint32_t n,
                        const pn_bias *bias, uint32_t n_bias, const uint32_t *allowed, uint32_t position)
{
    float *x = s->work, sum;
    s->logprob = 0;
    memcpy(x, logits, s->vocab * sizeof *x);
    for (uint32_t i = 0; i < n_bias; i++) x[bias[i].token] += bias[i].bias;
    penalise(s, o, ids, n);
    if (allowed) forbid_others(x, s->vocab, allowed);
    int32_t best = arg_max(x, s->vocab);
    if (allowed && !(x[best] > -INFINITY)) return best_allowed(logits, s->vocab, allowed);
    if (o->temperature == 0 || !(x[best] > -INFINITY)) {
        if (s->want_logprob && isfinite(x[best])) s->logprob = best_logprob(s, x, best);
        return best;
    }
    s->k->scale(x, (float)(1 / o->temperature), s->vocab);
    if (!isfinite(x[best])) return best;
    double u = uniform(o->seed, position);
    size_t kept = 0;
    if (o->top_k > 0 && o->top_k < s->vocab) kept = best_of(x, s->vocab, o->top_k, s->candidate);
    while (kept > 1 && !(x[s->candidate[kept - 1]] > -INFINITY)) kept--; /* fewer than k are allowed */
    s->k->exp_sum(x, x, x[best], s->vocab, &sum); /* probabilities relative to the best */
    if (!kept && o->top_p < 1) return draw_nucleus(s, o, x, u);
    if (o->top_p < 1) kept = cut_mass(x, s->candidate, kept, o->top_p);
    if (o->min_p > 0) {
        if (!kept) kept = above(x, s->vocab, (float)o->min_p, s->candidate);
        else while (kept > 1 && x[s->candidate[kept - 1]] < (float)o->min_p) kept--;
    }
    int32_t token = kept ? draw(x, s->candidate, kept, u) : draw_all(x, s->vocab, u);
    s->logprob = (float)log((double)x[token] / (double)sum);
    return token;
}

/* ---- log-probabilities ------------------------------------------------------------------------- */

static double log_sum(pn_sampler *s, const float *logits)
{
    float sum, max = logits[arg_max(logits, s->vocab)];
    s->k->exp_sum(s->work, logits, max, s->vocab, &sum);
    return (double)max + log(sum_all(s->work, s->vocab));
}

float pn_sampler_logprob(pn_sampler *s, const float *logits, int32_t token)
{
    return (float)((double)logits[token] - log_sum(s, logits));
}

double pn_sampler_entropy(pn_sampler *s, const float *logits)
{
    float sum;
    const double max = (double)logits[arg_max(logits, s->vocab)];
    s->k->exp_sum(s->work, logits, (float)max, s->vocab, &sum);
    const double all = sum_all(s->work, s->vocab);
    double mean = 0; /* of the distance to the best; what is impossible has none */
    for (uint32_t i = 0; i < s->vocab; i++)
        if (s->work[i] > 0) mean += (double)s->work[i] * (max - (double)logits[i]);
    return log(all) + mean / all;
}

void pn_sampler_top(pn_sampler *s, const float *logits, ponder_token_prob *top, uint32_t n)
{
    double lse = log_sum(s, logits);
    size_t kept = n ? best_of(logits, s->vocab, PN_MIN(n, s->vocab), s->candidate) : 0;
    for (size_t i = 0; i < kept; i++)
        top[i] = (ponder_token_prob){s->candidate[i], (float)((double)logits[s->candidate[i]] - lse)};
}
