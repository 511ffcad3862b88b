#include "engine/sampler.h"

#include <float.h>
#include <math.h>

static size_t blocks(uint32_t vocab) { return ((size_t)vocab + PN_TOP - 1) / PN_TOP; }

size_t pn_sampler_bytes(uint32_t vocab)
{
    return vocab * (sizeof(float) + sizeof(int32_t) + sizeof(uint16_t)) + blocks(vocab) * sizeof(float);
}

ponder_status pn_sampler_init(pn_sampler *s, const pn_kernels *k, uint32_t vocab, const ponder_alloc *a, ponder_error *err)
{
    *s = (pn_sampler){.a = a, .k = k, .vocab = vocab};
    s->work = pn_zalloc_array(a, vocab, sizeof *s->work);
    s->top = pn_zalloc_array(a, blocks(vocab), sizeof *s->top);
    s->candidate = pn_zalloc_array(a, vocab, sizeof *s->candidate);
    s->seen = pn_zalloc_array(a, vocab, sizeof *s->seen);
    if (s->work && s->top && s->candidate && s->seen) return PONDER_OK;
    pn_sampler_free(s);
    return pn_nomem(err, pn_sampler_bytes(vocab));
}

void pn_sampler_free(pn_sampler *s)
{
    pn_free(s->a, s->work, s->vocab * sizeof *s->work);
    pn_free(s->a, s->top, blocks(s->vocab) * sizeof *s->top);
    pn_free(s->a, s->candidate, s->vocab * sizeof *s->candidate);
    pn_free(s->a, s->seen, s->vocab * sizeof *s->seen);
    s->work = NULL;
    s->top = NULL;
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

/* Whoever looks at values by blocks has their tops in s->top. */
static int32_t arg_max(pn_sampler *s, const float *x)
{
    uint32_t best = 0;
    s->k->tops(s->top, x, s->vocab);
    for (uint32_t from = 0; from < s->vocab; from += PN_TOP) {
        if (s->top[from / PN_TOP] <= x[best]) continue;
        for (uint32_t i = from; i < PN_MIN(s->vocab, from + PN_TOP); i++)
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

/* The k best, sorted: a heap of k whose root is the worst kept. */
static size_t best_of(pn_sampler *s, const float *x, uint32_t k)
{
    int32_t *c = s->candidate;
    for (uint32_t i = 0; i < k; i++) c[i] = (int32_t)i;
    for (size_t j = k / 2; j-- > 0;) sift(x, c, k, j);
    for (uint32_t from = k; from < s->vocab; from = from / PN_TOP * PN_TOP + PN_TOP) {
        if (s->top[from / PN_TOP] <= x[c[0]]) continue;
        for (uint32_t i = from; i < PN_MIN(s->vocab, from / PN_TOP * PN_TOP + PN_TOP); i++) {
            if (!(x[i] > x[c[0]])) continue;
            c[0] = (int32_t)i;
            sift(x, c, k, 0);
        }
    }
    sort_candidates(x, c, k);
    return k;
}

static size_t above(pn_sampler *s, const float *x, float threshold)
{
    size_t kept = 0;
    for (uint32_t from = 0; from < s->vocab; from += PN_TOP) {
        if (s->top[from / PN_TOP] < threshold) continue;
        for (uint32_t i = from; i < PN_MIN(s->vocab, from + PN_TOP); i++)
            if (x[i] >= threshold) s->candidate[kept++] = (int32_t)i;
    }
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
 * bits; only the bucket in which the sum gets where it is wanted is looked into, by the bits below. A bucket's values have one
 * exponent, so its sum is exact in any order. */

enum { TOPS = 256, BANKS = 8, BUCKETS = 512, FEW = 64, TOP_SHIFT = 22, DIGIT = 9 };

static uint32_t bits_of(float p)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    return bits;
}

static uint32_t bucket_of(float p, uint32_t shift) { return bits_of(p) >> shift & (BUCKETS - 1); }

/* What is left out counts as 0, for no branch could be foretold. */
static inline void put(double *bank, float p, uint32_t low, uint32_t span)
{
    const uint32_t bits = bits_of(p), kept = bits & -(uint32_t)(bits - low <= span);
    float mass;
    memcpy(&mass, &kept, sizeof mass);
    bank[kept >> TOP_SHIFT] += (double)mass;
}

/* The masses of what is at least `least`, by bucket. Neighbours are often alike: they go to banks of their own, so that no
 * addition waits for the one before. */
static void weigh(const pn_sampler *s, const float *p, float least, double *of)
{
    double bank[BANKS][TOPS] = {0};
    const uint32_t low = bits_of(least), span = bits_of(1) - low;
    for (uint32_t from = 0; from < s->vocab; from += PN_TOP) {
        const uint32_t end = PN_MIN(s->vocab, from + PN_TOP);
        uint32_t i = from;
        if (s->top[from / PN_TOP] < least) continue;
        for (; i + BANKS <= end; i += BANKS)
            for (uint32_t k = 0; k < BANKS; k++) put(bank[k], p[i + k], low, span);
        for (; i < end; i++) put(bank[0], p[i], low, span);
    }
    for (uint32_t b = 0; b < TOPS; b++) {
        of[b] = 0;
        for (int k = 0; k < BANKS; k++) of[b] += bank[k][b];
    }
}

/* From the top: the bucket in which the sum passes `aim`; *sum then lacks it. */
static uint32_t pass(const double *of, uint32_t n, double aim, double *sum)
{
    uint32_t last = 0;
    for (uint32_t b = n; b-- > 0;) {
        if (of[b] == 0) continue;
        if (*sum + of[last = b] > aim) return b;
        *sum += of[b];
    }
    *sum -= of[last];
    return last;
}

/* Those of a bucket, in order; not below `least`. */
static size_t in_bucket(pn_sampler *s, const float *p, uint32_t bucket, float least)
{
    const uint32_t low = PN_MAX(bucket << TOP_SHIFT, bits_of(least)), span = ((bucket + 1) << TOP_SHIFT) - low;
    float limit;
    size_t n = 0;
    memcpy(&limit, &low, sizeof limit);
    for (uint32_t from = 0; from < s->vocab; from += PN_TOP) {
        if (s->top[from / PN_TOP] < limit) continue;
        for (uint32_t i = from; i < PN_MIN(s->vocab, from + PN_TOP); i++) { /* without a branch: n is at most i */
            s->candidate[n] = (int32_t)i;
            n += bits_of(p[i]) - low < span;
        }
    }
    return n;
}

/* The token at which the sum over the most likely ones passes `aim`; *sum: with it. */
static int32_t token_at(pn_sampler *s, const float *p, const double *of, float least, double aim, double *sum)
{
    int32_t *c = s->candidate;
    *sum = 0;
    uint32_t bucket = pass(of, TOPS, aim, sum);
    size_t n = in_bucket(s, p, bucket, least);
    for (uint32_t shift = TOP_SHIFT; n > FEW && shift > 0;) {
        double below[BUCKETS] = {0};
        size_t kept = 0;
        shift = shift > DIGIT ? shift - DIGIT : 0;
        for (size_t i = 0; i < n; i++) below[bucket_of(p[c[i]], shift)] += (double)p[c[i]];
        bucket = pass(below, BUCKETS, aim, sum);
        for (size_t i = 0; i < n; i++)
            if (bucket_of(p[c[i]], shift) == bucket) c[kept++] = c[i];
        n = kept;
    }
    if (n <= FEW) sort_candidates(p, c, n); /* else they are equal, and in order */
    for (size_t i = 0; i < n; i++)
        if ((*sum += (double)p[c[i]]) > aim) return c[i];
    return c[n - 1];
}

/* One of the smallest set of most likely tokens with at least top_p of the mass, as far as min_p lets it reach. What is rarer
 * than 1 - top_p of the mean has together less than 1 - top_p of the mass: it is never in the set. */
static int32_t draw_nucleus(pn_sampler *s, const pn_sampling *o, const float *p, double u)
{
    double of[TOPS], kept, reached;
    const double total = sum_all(p, s->vocab), rare = 0.999 * (1 - o->top_p) * total / s->vocab;
    const float least = (float)fmax(fmax(rare, o->min_p), FLT_TRUE_MIN);
    weigh(s, p, least, of);
    token_at(s, p, of, least, nextafter(o->top_p * total, 0), &kept);
    return token_at(s, p, of, least, u * kept, &reached);
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
    for (uint32_t from = 0; from < n; from += PN_TOP) {
        const uint32_t end = PN_MIN(n, from + PN_TOP);
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
    float *x = s->work, sum, sum_of_tops;
    int32_t token;
    s->logprob = 0;
    memcpy(x, logits, s->vocab * sizeof *x);
    for (uint32_t i = 0; i < n_bias; i++) x[bias[i].token] += bias[i].bias;
    penalise(s, o, ids, n);
    if (allowed) forbid_others(x, s->vocab, allowed);
    int32_t best = arg_max(s, x);
    if (allowed && !(x[best] > -INFINITY)) return best_allowed(logits, s->vocab, allowed);
    if (o->temperature == 0 || !(x[best] > -INFINITY)) {
        if (s->want_logprob && isfinite(x[best])) s->logprob = best_logprob(s, x, best);
        return best;
    }
    s->k->scale(x, (float)(1 / o->temperature), s->vocab);
    s->k->scale(s->top, (float)(1 / o->temperature), blocks(s->vocab));
    if (!isfinite(x[best])) return best;
    double u = uniform(o->seed, position);
    size_t kept = 0;
    if (o->top_k > 0 && o->top_k < s->vocab) kept = best_of(s, x, o->top_k);
    while (kept > 1 && !(x[s->candidate[kept - 1]] > -INFINITY)) kept--; /* fewer than k are allowed */
    s->k->exp_sum(s->top, s->top, x[best], blocks(s->vocab), &sum_of_tops);
    s->k->exp_sum(x, x, x[best], s->vocab, &sum); /* probabilities relative to the best */
    if (!kept && o->top_p < 1) {
        token = draw_nucleus(s, o, x, u);
    } else {
        if (o->top_p < 1) kept = cut_mass(x, s->candidate, kept, o->top_p);
        if (!kept && o->min_p > 0) kept = above(s, x, (float)o->min_p);
        while (kept > 1 && x[s->candidate[kept - 1]] < (float)o->min_p) kept--;
        token = kept ? draw(x, s->candidate, kept, u) : draw_all(x, s->vocab, u);
    }
    s->logprob = (float)log((double)x[token] / (double)sum);
    return token;
}

/* ---- log-probabilities ------------------------------------------------------------------------- */

static double log_sum(pn_sampler *s, const float *logits)
{
    float sum, max = logits[arg_max(s, logits)];
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
    const double max = (double)logits[arg_max(s, logits)];
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
    size_t kept = n ? best_of(s, logits, PN_MIN(n, s->vocab)) : 0;
    for (size_t i = 0; i < kept; i++)
        top[i] = (ponder_token_prob){s->candidate[i], (float)((double)logits[s->candidate[i]] - lse)};
}
