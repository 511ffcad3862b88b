/* What this machine can do, for the shares in tables: read bandwidth, and the multiply-add rates of the instruction sequences that
 * the kernels are made of. Prints one line for one thread and one for all. Wall time, best of many short runs, threads pinned.
 *   gcc -O3 -march=native -pthread tests/bench/limits.c -o limits && ./limits [threads] [MB read]
 * x86-64 with AVX2 only. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ROUNDS = 40, MOST_THREADS = 64, CHAINS = 10, LOOPS = 100000 };

typedef struct part {
    uint32_t index;
    const uint8_t *memory;
    size_t bytes;
    uint64_t sink;
} part;
typedef double job_fn(part *p); /* returns the units done: bytes, or multiply-adds */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double read_memory(part *p)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i + 256 <= p->bytes; i += 256) {
        const __m256i *v = (const void *)(p->memory + i);
        a = _mm256_or_si256(a, _mm256_or_si256(_mm256_load_si256(v), _mm256_load_si256(v + 1)));
        b = _mm256_or_si256(b, _mm256_or_si256(_mm256_load_si256(v + 2), _mm256_load_si256(v + 3)));
        c = _mm256_or_si256(c, _mm256_or_si256(_mm256_load_si256(v + 4), _mm256_load_si256(v + 5)));
        d = _mm256_or_si256(d, _mm256_or_si256(_mm256_load_si256(v + 6), _mm256_load_si256(v + 7)));
    }
    a = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    p->sink += (uint64_t)_mm256_extract_epi64(a, 0);
    return (double)p->bytes;
}

/* Chains that do not depend on each other hide the latencies; the empty assembly keeps the compiler from folding them. */
#define EACH_CHAIN _Pragma("GCC unroll 10")
#define KEEP(v) __asm__ volatile("" : "+x"(v))

static double int8_dot(part *p)
{
    __m256i acc[CHAINS], w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    EACH_CHAIN for (int c = 0; c < CHAINS; c++) acc[c] = _mm256_setzero_si256();
    for (int i = 0; i < LOOPS; i++) {
        EACH_CHAIN for (int c = 0; c < CHAINS; c++) {
            KEEP(w);
            acc[c] = _mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
        }
    }
    EACH_CHAIN for (int c = 0; c < CHAINS; c++) p->sink += (uint64_t)_mm256_extract_epi64(acc[c], 0);
    return 32.0 * CHAINS * LOOPS;
}

static double float_fma(part *p)
{
    __m256 acc[CHAINS], w = _mm256_set1_ps(1e-9f), x = _mm256_set1_ps(0.5f);
    EACH_CHAIN for (int c = 0; c < CHAINS; c++) acc[c] = _mm256_setzero_ps();
    for (int i = 0; i < LOOPS; i++) {
        EACH_CHAIN for (int c = 0; c < CHAINS; c++) {
            KEEP(w);
            acc[c] = _mm256_fmadd_ps(w, x, acc[c]);
        }
    }
    EACH_CHAIN for (int c = 0; c < CHAINS; c++) p->sink += (uint64_t)_mm256_cvtss_f32(acc[c]);
    return 8.0 * CHAINS * LOOPS;
}

typedef struct crew {
    pthread_barrier_t start, end;
    job_fn *job;
    part parts[MOST_THREADS];
    double units[MOST_THREADS];
} crew;
static crew all;

static void *member(void *arg)
{
    part *p = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(p->index, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    for (;;) {
        pthread_barrier_wait(&all.start);
        if (!all.job) return NULL;
        all.units[p->index] = all.job(p);
        pthread_barrier_wait(&all.end);
    }
}

/* Units a second of all threads together: the best round. */
static double rate(uint32_t threads, job_fn *job)
{
    pthread_t id[MOST_THREADS];
    double best = 0;
    pthread_barrier_init(&all.start, NULL, threads + 1);
    pthread_barrier_init(&all.end, NULL, threads + 1);
    for (uint32_t i = 0; i < threads; i++) pthread_create(&id[i], NULL, member, &all.parts[i]);
    for (int round = 0; round < ROUNDS; round++) {
        all.job = job;
        double units = 0, t = now();
        pthread_barrier_wait(&all.start);
        pthread_barrier_wait(&all.end);
        t = now() - t;
        for (uint32_t i = 0; i < threads; i++) units += all.units[i];
        if (units / t > best) best = units / t;
    }
    all.job = NULL;
    pthread_barrier_wait(&all.start);
    for (uint32_t i = 0; i < threads; i++) pthread_join(id[i], NULL);
    return best;
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 2;
    size_t bytes = (argc > 2 ? (size_t)atoi(argv[2]) : 256) << 20;
    uint8_t *memory = aligned_alloc(2 << 20, bytes);
    if (memory) madvise(memory, bytes, getenv("SMALL") ? MADV_NOHUGEPAGE: MADV_HUGEPAGE);
    if (threads < 1 || threads > MOST_THREADS || !memory) return fputs("limits: see its first lines\n", stderr), 1;
    memset(memory, 1, bytes);
    for (uint32_t n = 1; n <= threads; n += threads > 1 ? threads - 1 : 1) {
        size_t share = bytes / n / 4096 * 4096;
        for (uint32_t i = 0; i < n; i++) all.parts[i] = (part){.index = i, .memory = memory + i * share, .bytes = share};
        double read = rate(n, read_memory), int8 = rate(n, int8_dot), f32 = rate(n, float_fma);
        printf("%u thread%s: read %.1f GB/s, int8 (maddubs, madd, add) %.0f GOP/s, float %.0f GFLOP/s\n", n, n > 1 ? "s" : "", 1e-9 * read,
               2e-9 * int8, 2e-9 * f32);
    }
    free(memory);
    return 0;
}
