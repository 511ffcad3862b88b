/* The sampler against arithmetic: which tokens may come, how often, and that the same seed gives the same token. */
#include <math.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/sampler.h"

enum { VOCAB = 1000, DRAWS = 20000 };

static pn_sampler sampler(void)
{
    static pn_kernels k;
    pn_sampler s;
    pn_kernels_init(&k, pn_cpu_flags());
    assert_int_equal(pn_sampler_init(&s, &k, VOCAB, NULL, NULL), PONDER_OK);
    return s;
}

static pn_sampling plain(void)
{
    return (pn_sampling){.temperature = 1, .top_p = 1, .repeat = 1, .window = 64, .seed = 42};
}

/* Four tokens with probabilities 0.5, 0.25, 0.15, 0.1, the rest impossible. */
static void four(float *logits, double p[4])
{
    static const double q[4] = {0.5, 0.25, 0.15, 0.1};
    static const int at[4] = {17, 500, 3, 999};
    for (int i = 0; i < VOCAB; i++) logits[i] = -INFINITY;
    for (int i = 0; i < 4; i++) logits[at[i]] = (float)log(q[i]), p[i] = q[i];
}

static void count(const pn_sampling *o, const float *logits, uint32_t counts[VOCAB])
{
    pn_sampler s = sampler();
    memset(counts, 0, VOCAB * sizeof *counts);
    for (uint32_t i = 0; i < DRAWS; i++) counts[pn_sampler_pick(&s, o, logits, NULL, 0, NULL, 0, NULL, i)]++;
    pn_sampler_free(&s);
}

/* Five standard deviations of a binomial. */
static void near_share(uint32_t got, double p)
{
    double sd = sqrt(DRAWS * p * (1 - p));
    if (fabs(got - DRAWS * p) > 5 * sd + 1) fail_msg("%u draws, expected %g +- %g", got, DRAWS * p, sd);
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    float logits[VOCAB];
    double p[4];
    uint32_t n[VOCAB];
    four(logits, p);
    pn_sampling o = plain();
    count(&o, logits, n);
    near_share(n[17], 0.5), near_share(n[500], 0.25), near_share(n[3], 0.15), near_share(n[999], 0.1);
    o.temperature = 0.5; /* squares: 0.25, 0.0625, 0.0225, 0.01 over 0.345 */
    count(&o, logits, n);
    near_share(n[17], 0.25 / 0.345), near_share(n[500], 0.0625 / 0.345), near_share(n[3], 0.0225 / 0.345);
    o = plain();
    o.top_k = 2;
    count(&o, logits, n);
    near_share(n[17], 2.0 / 3), near_share(n[500], 1.0 / 3);
    assert_int_equal(n[3] + n[999], 0);
    o = plain();
    o.top_p = 0.8; /* 0.5 + 0.25 < 0.8 <= 0.9 */
    count(&o, logits, n);
    near_share(n[17], 0.5 / 0.9), near_share(n[500], 0.25 / 0.9), near_share(n[3], 0.15 / 0.9);
    assert_int_equal(n[999], 0);
    o = plain();
    o.min_p = 0.25; /* of the best, 0.5: at least 0.125 */
    count(&o, logits, n);
    near_share(n[17], 0.5 / 0.9);
    assert_int_equal(n[999], 0);
    o.top_k = 3;
    o.top_p = 0.7; /* of the three (0.9): 0.5 + 0.25 = 0.83 of it */
    count(&o, logits, n);
    near_share(n[17], 2.0 / 3), near_share(n[500], 1.0 / 3);
    assert_int_equal(n[3], 0);
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float logits[VOCAB] = {0};
    pn_sampler s = sampler();
    pn_sampling o = plain();
    o.temperature = 0;
    logits[700] = logits[300] = 2;
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, 0), 300);
    pn_bias bias[] = {{300, -INFINITY}, {5, 1.5f}};
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, bias, 2, NULL, 0), 700);
    bias[0] = (pn_bias){5, 2.5f};
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, bias, 1, NULL, 0), 5);
    o.temperature = 1;
    o.top_k = 1;
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, 9), 300);
    pn_sampler_free(&s);
}

static void penalties_are_the_documented_ones(void **state)
{
    (void)state;
    float logits[VOCAB] = {0};
    pn_sampler s = sampler();
    pn_sampling o = plain();
    o.temperature = 0;
    logits[1] = 2, logits[2] = 1.9f;
    const int32_t ids[] = {1, 1, 7};
    o.repeat = 1.1; /* 2 / 1.1 = 1.818 < 1.9 */
    assert_int_equal(pn_sampler_pick(&s, &o, logits, ids, 3, NULL, 0, NULL, 3), 2);
    o.window = 1; /* only the 7 counts */
    assert_int_equal(pn_sampler_pick(&s, &o, logits, ids, 3, NULL, 0, NULL, 3), 1);
    o = plain();
    o.temperature = 0;
    o.frequency = 0.04; /* twice: 1.92 */
    assert_int_equal(pn_sampler_pick(&s, &o, logits, ids, 3, NULL, 0, NULL, 3), 1);
    o.frequency = 0.06; /* 1.88 */
    assert_int_equal(pn_sampler_pick(&s, &o, logits, ids, 3, NULL, 0, NULL, 3), 2);
    o.frequency = 0;
    o.presence = 0.15;
    assert_int_equal(pn_sampler_pick(&s, &o, logits, ids, 3, NULL, 0, NULL, 3), 2);
    for (int i = 0; i < VOCAB; i++) assert_int_equal(s.seen[i], 0);
    pn_sampler_free(&s);
}

static void seeds_and_positions_decide(void **state)
{
    (void)state;
    float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i % 7);
    pn_sampler s = sampler();
    pn_sampling o = plain();
    uint32_t same = 0, other_seed = 0;
    for (uint32_t i = 0; i < 200; i++) {
        int32_t a = pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, i);
        same += a == pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, i);
        o.seed = 43;
        other_seed += a == pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, i);
        o.seed = 42;
    }
    assert_int_equal(same, 200);
    assert_true(other_seed < 20);
    pn_sampler_free(&s);
}

static void log_probabilities(void **state)
{
    (void)state;
    float logits[VOCAB];
    double p[4];
    four(logits, p);
    for (int i = 0; i < VOCAB; i++) logits[i] += 3; /* a shift changes nothing */
    pn_sampler s = sampler();
    assert_float_equal(pn_sampler_logprob(&s, logits, 500), log(0.25), 1e-5);
    ponder_token_prob top[3];
    pn_sampler_top(&s, logits, top, 3);
    assert_true(top[0].token == 17 && top[1].token == 500 && top[2].token == 3);
    assert_float_equal(top[2].logprob, log(0.15), 1e-5);
    pn_sampler_free(&s);
}

/* Whatever the settings, nothing but what is allowed comes, in the shares it has among that. */
static void only_allowed_tokens_come(void **state)
{
    (void)state;
    float logits[VOCAB];
    double p[4];
    uint32_t n[VOCAB] = {0}, allowed[(VOCAB + 31) / 32] = {0};
    four(logits, p);
    allowed[500 / 32] |= 1u << 500 % 32, allowed[999 / 32] |= 1u << 999 % 32, allowed[600 / 32] |= 1u << 600 % 32;
    pn_sampler s = sampler();
    pn_sampling ways[] = {plain(), plain(), plain(), plain(), plain()};
    ways[1].top_k = 40, ways[2].top_p = 0.99, ways[3].min_p = 0.01, ways[4].top_k = 3, ways[4].top_p = 0.999;
    for (size_t w = 0; w < PN_COUNT(ways); w++) {
        memset(n, 0, sizeof n);
        for (uint32_t i = 0; i < DRAWS; i++) n[pn_sampler_pick(&s, &ways[w], logits, NULL, 0, NULL, 0, allowed, i)]++;
        near_share(n[500], 0.25 / 0.35), near_share(n[999], 0.1 / 0.35);
        assert_int_equal(n[500] + n[999], DRAWS); /* 600 is allowed and impossible */
    }
    ways[0].temperature = 0;
    assert_int_equal(pn_sampler_pick(&s, &ways[0], logits, NULL, 0, NULL, 0, allowed, 0), 500);
    pn_sampler_free(&s);
}

static void one_allowed_token_must_come(void **state)
{
    (void)state;
    float logits[VOCAB];
    uint32_t allowed[(VOCAB + 31) / 32] = {0};
    pn_sampler s = sampler();
    pn_sampling o = plain();
    for (int i = 0; i < VOCAB; i++) logits[i] = i == 3 || i == 700 ? (float)-i : -INFINITY;
    allowed[4 / 32] |= 1u << 4 % 32, allowed[600 / 32] |= 1u << 600 % 32;
    for (int t = 0; t < 2; t++, o.temperature = 0)
        assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, allowed, 0), 4); /* both impossible: the lower */
    const pn_bias bias[] = {{3, -INFINITY}, {700, -INFINITY}};
    allowed[3 / 32] |= 1u << 3 % 32, allowed[700 / 32] |= 1u << 700 % 32;
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, bias, 2, allowed, 0), 3); /* best by its own logit */
    for (int i = 0; i < VOCAB; i++) logits[i] = NAN;
    assert_true(allowed[0] >> pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, allowed, 0) & 1);
    memset(allowed, 0, sizeof allowed);
    assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, allowed, 0), -1);
    pn_sampler_free(&s);
}

/* With everything allowed the same tokens come as without a mask. */
static void a_full_mask_changes_nothing(void **state)
{
    (void)state;
    float logits[VOCAB];
    uint32_t allowed[(VOCAB + 31) / 32];
    memset(allowed, 0xff, sizeof allowed);
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i * 37 % 101) / 10;
    pn_sampler s = sampler();
    pn_sampling o = plain();
    o.top_p = 0.9;
    for (uint32_t i = 0; i < 500; i++)
        assert_int_equal(pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, allowed, i), pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, i));
    pn_sampler_free(&s);
}

/* A reference that sorts everything: which tokens make up the nucleus, in any shape of distribution, equal ones too. */
static const float *sorted_by;

static int more_likely(const void *a, const void *b)
{
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (sorted_by[i] != sorted_by[j]) return sorted_by[i] < sorted_by[j] ? 1 : -1;
    return (i > j) - (i < j);
}

static void the_nucleus_is_that_of_sorting(void **state)
{
    (void)state;
    enum { MANY = 5000, PICKS = 2000 };
    static float logits[MANY];
    static int32_t order[MANY], ids[1];
    static uint32_t rank[MANY];
    static const double spread[] = {0, 0.01, 1, 4, 20};
    pn_kernels k;
    pn_sampler s;
    pn_kernels_init(&k, pn_cpu_flags());
    assert_int_equal(pn_sampler_init(&s, &k, MANY, NULL, NULL), PONDER_OK);
    for (size_t w = 0; w < PN_COUNT(spread); w++)
        for (double top_p = 0.1; top_p < 1; top_p += 0.2) {
            uint64_t x = 88172645463325252u + w;
            double total = 0, sum = 0;
            for (uint32_t i = 0; i < MANY; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                logits[i] = (float)(spread[w] * ((double)(x >> 40) / (1 << 24)));
                if (i % 3 == 0 && i > 0) logits[i] = logits[i - 1];
                order[i] = (int32_t)i;
                total += exp((double)logits[i]);
            }
            sorted_by = logits;
            qsort(order, MANY, sizeof *order, more_likely);
            uint32_t kept = 0, seen = 0, beyond = 0;
            while (sum < top_p * total) rank[order[kept]] = kept + 1, sum += exp((double)logits[order[kept++]]);
            for (uint32_t i = kept; i < MANY; i++) rank[order[i]] = i + 1;
            pn_sampling o = plain();
            o.top_p = top_p;
            double mean = 0, expected = 0;
            for (uint32_t i = 0; i < kept; i++) expected += exp((double)logits[order[i]]) / sum * (i + 1);
            for (uint32_t i = 0; i < PICKS; i++) {
                int32_t got = pn_sampler_pick(&s, &o, logits, ids, 0, NULL, 0, NULL, i);
                beyond += rank[got] > kept + 1; /* one more by rounding */
                mean += (double)rank[got] / PICKS;
                seen = PN_MAX(seen, rank[got]);
            }
            assert_int_equal(beyond, 0);
            assert_true(fabs(mean - expected) < 0.05 * kept + 0.5);
            if (kept < 100 && spread[w] < 4) assert_true(seen + 1 >= kept);
        }
    pn_sampler_free(&s);
}

/* The whole rule over a full sort: temperature, top-k, top-p of what is left, min-p, and a draw down the list. */
static double expected_uniform(uint64_t seed, uint64_t position)
{
    uint64_t v[2] = {seed + 0x9e3779b97f4a7c15u, 0};
    for (int i = 0; i < 2; i++) {
        v[i] = (v[i] ^ v[i] >> 30) * 0xbf58476d1ce4e5b9u;
        v[i] = (v[i] ^ v[i] >> 27) * 0x94d049bb133111ebu;
        v[i] ^= v[i] >> 31;
        if (i == 0) v[1] = v[0] + (position + 1) * 0x9e3779b97f4a7c15u;
    }
    return (double)(v[1] >> 11) / 9007199254740992.0;
}

static int32_t by_sorting(const pn_kernels *k, const pn_sampling *o, const float *logits, uint32_t n, uint32_t position, int32_t *order, float *p)
{
    float unused, most = -INFINITY;
    memcpy(p, logits, n * sizeof *p);
    k->scale(p, (float)(1 / o->temperature), n);
    for (uint32_t i = 0; i < n; i++) most = fmaxf(most, p[i]), order[i] = (int32_t)i;
    sorted_by = p;
    if (o->top_k) qsort(order, n, sizeof *order, more_likely); /* by what exp may round to one */
    k->exp_sum(p, p, most, n, &unused);
    if (!o->top_k) qsort(order, n, sizeof *order, more_likely);
    const uint32_t first = o->top_k > 0 && o->top_k < n ? o->top_k : n;
    uint32_t kept = 0;
    double total = 0, sum = 0, drawn = 0;
    for (uint32_t i = 0; i < first; i++) total += (double)p[order[i]];
    while (kept < first && (kept == 0 || (sum < o->top_p * total && p[order[kept]] >= (float)o->min_p))) sum += (double)p[order[kept++]];
    const double aim = expected_uniform(o->seed, position) * sum;
    for (uint32_t i = 0; i < kept; i++)
        if ((drawn += (double)p[order[i]]) > aim) return order[i];
    return order[kept - 1];
}

static void tokens_are_those_of_sorting(void **state)
{
    (void)state;
    enum { MANY = 3001, PICKS = 25 };
    static float logits[MANY], p[MANY];
    static int32_t order[MANY];
    static const double spread[] = {0, 0.01, 1, 4, 20, 200};
    static const pn_sampling ways[] = {
        {.top_p = 0.95}, {.top_p = 0.5}, {.top_p = 0.999}, {.top_p = 0.01}, {.top_p = 0.9, .min_p = 0.1}, {.top_p = 0.9, .min_p = 1e-6},
        {.top_p = 0.9, .top_k = 40}, {.top_p = 1, .top_k = 7}, {.top_p = 1, .top_k = 300, .min_p = 0.02}, {.top_p = 0.7, .top_k = 2999},
    };
    pn_kernels k;
    pn_sampler s;
    pn_kernels_init(&k, pn_cpu_flags());
    assert_int_equal(pn_sampler_init(&s, &k, MANY, NULL, NULL), PONDER_OK);
    uint64_t x = 88172645463325252u;
    for (size_t w = 0; w < PN_COUNT(ways); w++)
        for (size_t d = 0; d < PN_COUNT(spread); d++)
            for (uint32_t i = 0; i < PICKS; i++) {
                pn_sampling o = ways[w];
                o.temperature = i % 3 ? 1 : 0.6;
                o.repeat = 1;
                o.seed = w * 1000 + d;
                for (uint32_t j = 0; j < MANY; j++) {
                    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                    logits[j] = (float)(spread[d] * ((double)(x >> 40) / (1 << 24)));
                    if (i % 2 && j % 3) logits[j] = logits[j - 1]; /* ties */
                }
                const int32_t got = pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, i);
                const int32_t expected = by_sorting(&k, &o, logits, MANY, i, order, p);
                if (got != expected) fail_msg("way %zu, spread %g, pick %u: %d, by sorting %d", w, spread[d], i, got, expected);
                double sum = 0;
                for (uint32_t j = 0; j < MANY; j++) sum += (double)p[j];
                assert_float_equal(s.logprob, log((double)p[got] / sum), 1e-4);
            }
    pn_sampler_free(&s);
}

static void odd_logits_do_no_harm(void **state)
{
    (void)state;
    float logits[VOCAB];
    pn_sampler s = sampler();
    pn_sampling o = plain();
    o.top_p = 0.9;
    const float odd[] = {NAN, INFINITY, -INFINITY, 0, 1e38f};
    for (size_t i = 0; i < PN_COUNT(odd); i++) {
        for (int j = 0; j < VOCAB; j++) logits[j] = odd[i];
        int32_t t = pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, 1);
        assert_true(t >= 0 && t < VOCAB);
        logits[5] = 1;
        t = pn_sampler_pick(&s, &o, logits, NULL, 0, NULL, 0, NULL, 1);
        assert_true(t >= 0 && t < VOCAB);
    }
    pn_sampler_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_distribution), cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(penalties_are_the_documented_ones), cmocka_unit_test(seeds_and_positions_decide),
        cmocka_unit_test(log_probabilities), cmocka_unit_test(only_allowed_tokens_come),
        cmocka_unit_test(one_allowed_token_must_come), cmocka_unit_test(a_full_mask_changes_nothing), cmocka_unit_test(the_nucleus_is_that_of_sorting),
        cmocka_unit_test(tokens_are_those_of_sorting), cmocka_unit_test(odd_logits_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
