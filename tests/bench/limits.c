/* What this machine can do, for the shares in tables: read bandwidth, and the multiply-add rates (two operations each) of the
 * instructions that its kernels are made of: AVX-512 with VNNI and BF16, or AVX2. Prints one line of JSON; a rate that the machine has no
 * instruction for is 0. Wall time, best of many short runs, threads pinned.
 *   gcc -O3 -pthread tests/bench/limits.c -o limits && ./limits [threads] [MB read]
 * x86-64 with AVX2 at least. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ROUNDS = 40, MOST_THREADS = 64, CHAINS = 12, LOOPS = 400000 };

typedef struct part {
    uint32_t index;
    const uint8_t *memory;
    size_t bytes;
} part;
typedef double job_fn(part *p); /* returns the units done: bytes, or multiply-adds */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define AVX512BF16 __attribute__((target("avx512f,avx512bf16")))

/* Keeps the compiler from leaving out or folding what makes the value. */
#define KEEP(v) __asm__ volatile("" : "+v"(v))

AVX2 static double read_memory(part *p)
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
    KEEP(a);
    return (double)p->bytes;
}

/* Chains that do not depend on each other hide the latencies. */
#define EACH_CHAIN _Pragma("GCC unroll 12") for (int c = 0; c < CHAINS; c++)
#define MULTIPLY_ADDS(LEVEL, NAME, VECTOR, ZERO, WEIGHT, W, X, A_STEP, STEP) \
    LEVEL static double NAME(part *p) \
    { \
        VECTOR acc[CHAINS]; \
        WEIGHT w = W, x = X; \
        (void)p; \
        EACH_CHAIN acc[c] = ZERO; \
        for (int i = 0; i < LOOPS; i++) { \
            EACH_CHAIN { \
                KEEP(w); \
                acc[c] = STEP; \
            } \
        } \
        EACH_CHAIN KEEP(acc[c]); \
        return (double)A_STEP * CHAINS * LOOPS; \
    }

MULTIPLY_ADDS(AVX2, int8_avx2, __m256i, _mm256_setzero_si256(), __m256i, _mm256_set1_epi8(3), _mm256_set1_epi8(5), 32,
              _mm256_add_epi32(acc[c], _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))))
MULTIPLY_ADDS(AVX512, int8_vnni, __m512i, _mm512_setzero_si512(), __m512i, _mm512_set1_epi8(3), _mm512_set1_epi8(5), 64,
              _mm512_dpbusd_epi32(acc[c], w, x))
MULTIPLY_ADDS(AVX2, f32_avx2, __m256, _mm256_setzero_ps(), __m256, _mm256_set1_ps(1e-9f), _mm256_set1_ps(0.5f), 8,
              _mm256_fmadd_ps(w, x, acc[c]))
MULTIPLY_ADDS(AVX512, f32_avx512, __m512, _mm512_setzero_ps(), __m512, _mm512_set1_ps(1e-9f), _mm512_set1_ps(0.5f), 16,
              _mm512_fmadd_ps(w, x, acc[c]))
MULTIPLY_ADDS(AVX512BF16, bf16_avx512, __m512, _mm512_setzero_ps(), __m512, _mm512_set1_ps(1e-9f), _mm512_set1_ps(0.5f), 32,
              _mm512_dpbf16_ps(acc[c], (__m512bh)w, (__m512bh)x))

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
    if (threads < 1 || threads > MOST_THREADS || !memory || !__builtin_cpu_supports("avx2")) return fputs("limits: see its first lines\n", stderr), 1;
    const bool vnni = __builtin_cpu_supports("avx512vnni"), bf16 = __builtin_cpu_supports("avx512bf16");
    madvise(memory, bytes, MADV_HUGEPAGE);
    memset(memory, 1, bytes);
    size_t share = bytes / threads / 4096 * 4096;
    for (uint32_t i = 0; i < threads; i++) all.parts[i] = (part){.index = i, .memory = memory + i * share, .bytes = share};
    printf("{\"threads\": %u, \"read_gb_s\": %.2f, \"int8\": \"%s\", \"int8_gop_s\": %.0f, \"f32_gop_s\": %.0f, \"bf16_gop_s\": %.0f}\n",
           threads, 1e-9 * rate(threads, read_memory), vnni ? "dpbusd" : "maddubs, madd, add",
           2e-9 * rate(threads, vnni ? int8_vnni : int8_avx2), 2e-9 * rate(threads, vnni ? f32_avx512 : f32_avx2),
           bf16 ? 2e-9 * rate(threads, bf16_avx512) : 0.0);
    free(memory);
    return 0;
}
