/* How long picking a token takes: processor time of one thread in microseconds, p50 and p99 of many, at a small and a large
 * vocabulary. */
#include <math.h>

#include "bench.h"
#include "engine/sampler.h"

enum { RUNS = 400 };

static void report(const char *what, uint32_t vocab, double *took)
{
    qsort(took, RUNS, sizeof *took, ascending);
    printf("%-28s %7u  p50 %6.0f  p99 %6.0f us\n", what, vocab, took[RUNS / 2], took[RUNS * 99 / 100]);
}

static const struct {
    const char *name;
    pn_sampling o;
} ways[] = {
    {"greedy", {.temperature = 0, .top_p = 1, .repeat = 1}},
    {"temperature", {.temperature = 1, .top_p = 1, .repeat = 1}},
    {"top_k 40", {.temperature = 1, .top_k = 40, .top_p = 1, .repeat = 1}},
    {"top_k 40, top_p 0.95", {.temperature = 1, .top_k = 40, .top_p = 0.95, .repeat = 1}},
    {"top_p 0.95", {.temperature = 1, .top_p = 0.95, .repeat = 1}},
    {"top_p 0.95, hot", {.temperature = 3, .top_p = 0.95, .repeat = 1}},
    {"top_p 0.95, colder", {.temperature = 0.6, .top_p = 0.95, .repeat = 1}},
    {"min_p 0.05", {.temperature = 1, .top_p = 1, .min_p = 0.05, .repeat = 1}},
};

static void run(uint32_t vocab)
{
    pn_kernels k;
    pn_sampler s;
    static int32_t ids[1];
    static double took[RUNS];
    static ponder_token_prob top[20];
    float *logits = malloc(vocab * sizeof *logits);
    uint64_t x = 88172645463325252u;
    for (uint32_t i = 0; i < vocab; i++) { /* about normal, deviation 2.5, and a few ahead, as models have it */
        double sum = 0;
        for (int j = 0; j < 12; j++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            sum += (double)(x >> 40) / (1 << 24);
        }
        logits[i] = (float)((sum - 6) * 2.5 + (i % (vocab / 20) == 7 ? 9 : 0));
    }
    pn_kernels_init(&k, pn_cpu_flags());
    if (pn_sampler_init(&s, &k, vocab, NULL, NULL) != PONDER_OK) exit(1);
    for (size_t w = 0; w < PN_COUNT(ways); w++) {
        for (uint32_t i = 0; i < RUNS; i++) {
            double from = 1e6 * thread_seconds();
            pn_sampler_pick(&s, &ways[w].o, logits, ids, 0, NULL, 0, NULL, i);
            took[i] = 1e6 * thread_seconds() - from;
        }
        report(ways[w].name, vocab, took);
    }
    uint32_t *mask = calloc(vocab / 32 + 1, sizeof *mask);
    for (uint32_t i = 0; i <= vocab / 32; i++) mask[i] = 0x00010100u << i % 8;
    for (uint32_t i = 0; i < RUNS; i++) {
        double from = 1e6 * thread_seconds();
        pn_sampler_pick(&s, &ways[4].o, logits, ids, 0, NULL, 0, mask, i);
        took[i] = 1e6 * thread_seconds() - from;
    }
    report("top_p 0.95 under a mask", vocab, took);
    for (uint32_t i = 0; i < RUNS; i++) {
        double from = 1e6 * thread_seconds();
        pn_sampler_logprob(&s, logits, 5);
        pn_sampler_top(&s, logits, top, 20);
        took[i] = 1e6 * thread_seconds() - from;
    }
    report("log-probabilities, top 20", vocab, took);
    for (uint32_t i = 0; i < RUNS; i++) {
        double from = 1e6 * thread_seconds();
        pn_sampler_entropy(&s, logits);
        took[i] = 1e6 * thread_seconds() - from;
    }
    report("entropy", vocab, took);
    pn_sampler_free(&s);
    free(mask);
    free(logits);
}

int main(void)
{
    run(49152);
    run(202048);
    return 0;
}
