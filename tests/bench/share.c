/* What share of the memory's read bandwidth decoding reaches. One sequence decodes some tokens, then all threads read the packed
 * weights straight through (the probe), and so on in turns; medians of both, so that a machine that changes meanwhile shows in both.
 *   gcc -O3 -march=native -std=gnu11 -D_GNU_SOURCE -Iinclude -Ilib tests/bench/share.c build/gcc/lib/libponder-core.a -o share -lpng -ljpeg -lspeexdsp -lpcre2-8 -lm -pthread
 *   ./share MODEL [threads = 2] [prefix = 64] [rounds = 15] [tokens a round = 4] [MB of a probe = 2048] [MB for experts = 0: all]
 * With fewer experts in memory than there are, it tells what was read from the file: that explains the time.
 * x86-64 with AVX2 only. */
#include <immintrin.h>
#include <pthread.h>

#include "bench.h"
#include "engine/engine.h"

enum { MOST_THREADS = 64, MOST_ROUNDS = 1000 };

typedef struct part {
    pthread_t thread;
    const uint8_t *from;
    size_t bytes;
    uint64_t sink;
} part;

static void *read_part(void *arg)
{
    part *p = arg;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i + 256 <= p->bytes; i += 256) {
        const __m256i *v = (const void *)(p->from + i);
        a = _mm256_or_si256(a, _mm256_or_si256(_mm256_or_si256(v[0], v[1]), _mm256_or_si256(v[2], v[3])));
        b = _mm256_or_si256(b, _mm256_or_si256(_mm256_or_si256(v[4], v[5]), _mm256_or_si256(v[6], v[7])));
    }
    p->sink += (uint64_t)_mm256_extract_epi64(_mm256_or_si256(a, b), 0);
    return NULL;
}

/* Gigabytes a second. Threads start within some 50 microseconds, which a probe of a second does not see. */
static double probe(const pn_store *s, uint32_t threads, size_t bytes, size_t *at)
{
    static part parts[MOST_THREADS];
    if (*at + bytes > s->packed_bytes) *at = 0;
    const size_t share = bytes / threads / 4096 * 4096;
    const uint64_t t0 = pn_now_us();
    for (uint32_t i = 0; i < threads; i++) {
        parts[i] = (part){.from = s->packed + *at + i * share, .bytes = share};
        if (pthread_create(&parts[i].thread, NULL, read_part, &parts[i])) fail("no thread");
    }
    for (uint32_t i = 0; i < threads; i++) pthread_join(parts[i].thread, NULL);
    *at += bytes;
    return 1e-3 * (double)(share * threads) / (double)(pn_now_us() - t0);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, uint32_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double bytes_of(const pn_weight *w) { return w->batch ? (double)w->packed_stride * w->batch : 0; }

/* What a token reads: every matrix but the embedding, of the experts those that are used. */
static double bytes_a_token(const pn_network *n)
{
    double sum = bytes_of(pn_network_head(n));
    for (uint32_t i = 0; i < n->d.layers; i++) {
        const pn_layer *l = &n->layers[i];
        const pn_weight *const every[] = {&l->q, &l->k, &l->v, &l->g, &l->o, &l->gate, &l->up, &l->down, &l->router, &l->latent_down, &l->latent_up};
        const pn_weight *const some[] = {&l->experts_gate, &l->experts_up, &l->experts_down};
        for (size_t w = 0; w < PN_COUNT(every); w++) sum += bytes_of(every[w]);
        for (size_t w = 0; w < PN_COUNT(some); w++) sum += (double)some[w]->packed_stride * n->d.experts_used;
    }
    return sum;
}

static int32_t best(const float *logits, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[at]) at = i;
    return (int32_t)at;
}

int main(int argc, char **argv)
{
    if (argc < 2) fail("see its first lines");
    const uint32_t threads = argc > 2 ? (uint32_t)atoi(argv[2]) : 2, prefix = argc > 3 ? (uint32_t)atoi(argv[3]) : 64;
    const uint32_t rounds = argc > 4 ? (uint32_t)atoi(argv[4]) : 15, tokens = argc > 5 ? (uint32_t)atoi(argv[5]) : 4;
    size_t mb = argc > 6 ? (size_t)atoi(argv[6]) : 2048, at = 0;
    if (threads < 1 || threads > MOST_THREADS || prefix < 1 || rounds < 1 || rounds > MOST_ROUNDS || tokens < 1) fail("see its first lines");
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    pn_network *n;
    pn_team *team;
    pn_engine *e;
    pn_sequence *s;
    const uint64_t expert_bytes = (argc > 7 ? (uint64_t)atoi(argv[7]) : 0) << 20;
    const pn_engine_options o = {.threads = threads, .cpu = pn_cpu_flags(), .columns = 512, .chunk = 64, .sequences = 1, .kv = PN_KV_F16};
    if (pn_team_new(&team, threads, NULL, NULL, &err) != PONDER_OK) fail(err.text);
    if (pn_checkpoint_open(&c, argv[1], NULL, &err) != PONDER_OK) fail(err.text);
    const uint64_t t0 = pn_now_us();
    if (pn_network_load(&n, c, &(pn_load_options){.repack = true, .quantize = -1, .team = team, .expert_bytes = expert_bytes}, NULL, &err) != PONDER_OK) fail(err.text);
    printf("loaded %.2f GB in %.1f s\n", 1e-9 * (double)pn_network_bytes(n), 1e-6 * (double)(pn_now_us() - t0));
    if (pn_engine_new(&e, n, &o, team, NULL, &err) != PONDER_OK) fail(err.text);
    if (pn_sequence_new(&s, e, prefix + rounds * tokens + 1, &err) != PONDER_OK) fail(err.text);
    mb = PN_MIN(mb, n->store.packed_bytes >> 20);
    for (uint32_t i = 0; i < prefix; i++) {
        int32_t id = (int32_t)(i * 7919u % n->d.vocab);
        pn_sequence_append(s, &id, 1, &err);
    }
    if (pn_sequence_advance(s, 0, &err) != PONDER_OK) fail(err.text);
    static double ms[MOST_ROUNDS], gbs[MOST_ROUNDS];
    const pn_expert_counts before = pn_experts_counts(n->experts);
    double seconds = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        const uint64_t began = pn_now_us();
        for (uint32_t i = 0; i < tokens; i++) {
            int32_t id = best(pn_sequence_logits(s), n->d.vocab);
            if (pn_sequence_append(s, &id, 1, &err) != PONDER_OK || pn_sequence_advance(s, 0, &err) != PONDER_OK) fail(err.text);
        }
        ms[r] = 1e-3 * (double)(pn_now_us() - began) / tokens;
        seconds += 1e-3 * ms[r] * tokens;
        gbs[r] = probe(&n->store, threads, mb << 20, &at);
    }
    const double bytes = bytes_a_token(n), token = median(ms, rounds), read = median(gbs, rounds);
    printf("%u threads: %.1f ms a token (best %.1f), %.3f GB of weights: %.1f GB/s; read probe %.1f GB/s (best %.1f); share %.1f %%\n", threads,
           token, ms[0], 1e-9 * bytes, 1e-6 * bytes / token, read, gbs[rounds - 1], 100 * 1e-6 * bytes / token / read);
    if (n->experts) {
        const pn_expert_counts c = pn_experts_counts(n->experts);
        const double hits = (double)(c.hits - before.hits), reads = (double)(c.reads - before.reads), gb = 1e-9 * (double)(c.bytes - before.bytes);
        const double all = rounds * tokens;
        printf("experts a token: %.1f there, %.1f read (%.1f %% there), %.3f GB from the file; %.1f ms a token in the mean: %.2f GB/s\n", hits / all,
               reads / all, 100 * hits / (hits + reads), gb / all, 1e3 * seconds / all, gb / seconds);
    }
    pn_sequence_free(s);
    pn_engine_free(e);
    pn_network_free(n);
    return 0;
}
