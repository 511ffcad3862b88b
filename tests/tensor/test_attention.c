/* Key and value blocks and attention over them: plain C against a softmax in double over everything visible, the other
 * levels against plain C in bits; what is not visible is NaN all along. */
#include "floats.h"

enum { BLOCKS = 4, MOST_HD = 256, MOST_Q = 21 };
static const pn_kv_type kv_types[] = {PN_KV_F32, PN_KV_F16, PN_KV_Q8_0, PN_KV_Q4};
static const char *const kv_names[] = {"F32", "F16", "Q8_0", "Q4"};

typedef struct scene {
    pn_kv_type type;
    uint32_t hd, n_q;
    uint64_t seed;
    float scale;
    char *keys[BLOCKS], *values[BLOCKS];
    float *k, *v;                        /* [BLOCKS * 32][hd], as stored: rounded by the cache's type */
    float *q;                            /* [n_q][hd] */
    uint32_t lo[MOST_Q], hi[MOST_Q];     /* absolute */
    bool put[BLOCKS * PN_KEYS];
} scene;

/* The level nearest to x / (the value of greatest magnitude), times that value as F16 has it. */
static void q4_as_stored(float *x, uint32_t n)
{
    static const float levels16[16] = {-0.8769f, -0.6982f, -0.5537f, -0.4293f, -0.3179f, -0.2147f, -0.1168f, -0.0216f,
                                       0.0731f,  0.1695f,  0.2697f,  0.3762f,  0.4929f,  0.6250f,  0.7829f,  0.9863f};
    float top = 0;
    for (uint32_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top) || x[i] == -top) top = fabsf(x[i]) > fabsf(top) ? x[i] : fabsf(top);
    const float d = pn_f16_to_f32(pn_f32_to_f16(top));
    for (uint32_t i = 0; i < n; i++) {
        const float z = x[i] * (1.0f / d);
        float best = levels16[0];
        for (int c = 1; c < 16; c++)
            if (fabs((double)levels16[c] - z) < fabs((double)best - z)) best = levels16[c];
        x[i] = best * d;
    }
}

/* What a stored value stands for, by the formats' words alone. */
static void as_stored(pn_kv_type t, float *x, uint32_t hd)
{
    for (uint32_t g = 0; g < hd && t == PN_KV_Q8_0; g += 32) {
        const uint32_t n = PN_MIN(hd - g, 32);
        float top = 0;
        for (uint32_t i = 0; i < n; i++) top = fmaxf(top, fabsf(x[g + i]));
        const float d = top / 127.0f, inverse = 1.0f / d;
        for (uint32_t i = 0; i < n; i++) x[g + i] = top > 0 ? nearbyintf(x[g + i] * inverse) * d : 0;
    }
    for (uint32_t i = 0; i < hd && t == PN_KV_F16; i++) x[i] = pn_f16_to_f32(pn_f32_to_f16(x[i]));
    for (uint32_t g = 0; g < hd && t == PN_KV_Q4; g += 32) q4_as_stored(x + g, PN_MIN(hd - g, 32));
}

/* NaN in every float form; in Q8_0 and Q4 through the scales. */
static void poison(pn_kv_type t, char *p, uint32_t hd, size_t bytes)
{
    memset(p, 0xff, bytes);
    const float bad = NAN;
    for (size_t at = (size_t)hd * PN_KEYS; t == PN_KV_Q8_0 && at + 4 <= bytes; at += 4) memcpy(p + at, &bad, 4);
}

static void set_ranges(scene *s, uint64_t *r)
{
    for (uint32_t i = 0; i < s->n_q; i++) {
        if (i % 5 && i % 3) { /* runs of one range, as heads of a position have */
            s->lo[i] = s->lo[i - 1];
            s->hi[i] = s->hi[i - 1];
        } else {
            s->lo[i] = (uint32_t)(next64(r) % (BLOCKS * PN_KEYS));
            if (i % 2) s->lo[i] = 0;
            s->hi[i] = s->lo[i] + 1 + (uint32_t)(next64(r) % (BLOCKS * PN_KEYS - s->lo[i]));
        }
        for (uint32_t j = s->lo[i]; j < s->hi[i]; j++) s->put[j] = true;
    }
}

static scene scene_new(pn_kv_type t, uint32_t hd, uint32_t n_q, float spread, uint64_t seed, const pn_kernels *k)
{
    scene s = {.type = t, .hd = hd, .n_q = n_q, .seed = seed, .scale = 1.0f / sqrtf((float)hd)};
    uint64_t r = seed;
    const size_t n = (size_t)BLOCKS * PN_KEYS * hd, key_bytes = pn_kv_key_bytes(t, hd), value_bytes = pn_kv_value_bytes(t, hd);
    assert_int_equal(key_bytes % 64, 0);
    assert_int_equal(value_bytes % 64, 0);
    s.k = malloc(n * sizeof(float));
    s.v = malloc(n * sizeof(float));
    s.q = malloc((size_t)n_q * hd * sizeof(float));
    fill(s.k, n, &r, -spread, spread);
    fill(s.v, n, &r, -2, 2);
    fill(s.q, (size_t)n_q * hd, &r, -2, 2);
    set_ranges(&s, &r);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        s.keys[b] = aligned_alloc(64, key_bytes);
        s.values[b] = aligned_alloc(64, value_bytes);
        poison(t, s.keys[b], hd, key_bytes);
        poison(t, s.values[b], hd, value_bytes);
    }
    for (uint32_t j = 0; j < BLOCKS * PN_KEYS; j++) {
        float *kj = s.k + (size_t)j * hd, *vj = s.v + (size_t)j * hd;
        if (s.put[j]) k->kv_put(t, s.keys[j / PN_KEYS], s.values[j / PN_KEYS], j % PN_KEYS, hd, kj, vj);
        as_stored(t, kj, hd);
        as_stored(t, vj, hd);
    }
    return s;
}

static void scene_free(scene *s)
{
    for (uint32_t b = 0; b < BLOCKS; b++) {
        free(s->keys[b]);
        free(s->values[b]);
    }
    free(s->k);
    free(s->v);
    free(s->q);
}

typedef struct result { float m[MOST_Q], l[MOST_Q], o[MOST_Q * MOST_HD + FENCE]; } result;

static void run(const scene *s, const pn_kernels *k, uint32_t block0, uint32_t block1, result *r)
{
    pn_attn_query q[MOST_Q];
    const size_t scratch_bytes = pn_scratch_bytes(s->hd);
    char *scratch = aligned_alloc(64, scratch_bytes + 64);
    memset(scratch + scratch_bytes, 77, 64);
    memset(r->o, 0, sizeof r->o);
    for (uint32_t i = 0; i < s->n_q; i++) {
        r->m[i] = -INFINITY;
        r->l[i] = 0;
    }
    for (uint32_t b = block0; b < block1; b++) {
        for (uint32_t i = 0; i < s->n_q; i++) {
            int lo = (int)s->lo[i] - (int)(b * PN_KEYS), hi = (int)s->hi[i] - (int)(b * PN_KEYS);
            q[i] = (pn_attn_query){s->q + (size_t)i * s->hd, r->m + i, r->l + i, r->o + (size_t)i * s->hd,
                                   (uint32_t)PN_MIN(PN_MAX(lo, 0), 32), (uint32_t)PN_MIN(PN_MAX(hi, 0), 32)};
        }
        k->attn_block(s->type, s->keys[b], s->values[b], s->hd, s->scale, q, s->n_q, b + 1 < block1 ? s->keys[b + 1] : NULL, scratch);
    }
    for (int i = 0; i < 64; i++) assert_int_equal(scratch[scratch_bytes + i], 77);
    free(scratch);
    for (size_t i = 0; i < FENCE; i++) assert_true(r->o[(size_t)s->n_q * s->hd + i] == 0);
}

/* Scores of hd terms below 2 * spread: (hd + 2) half units of their size in s, seen through e^s by every weight;
 * values below 2. Far more than needed in the mean, yet a lost or doubled key shows. */
static void check_softmax(const scene *s, const result *r, float spread)
{
    static double p[BLOCKS * PN_KEYS];
    for (uint32_t i = 0; i < s->n_q; i++) {
        double top = -INFINITY, sum = 0;
        for (uint32_t j = s->lo[i]; j < s->hi[i]; j++) {
            double dot = 0;
            for (uint32_t d = 0; d < s->hd; d++) dot += (double)s->q[i * s->hd + d] * s->k[(size_t)j * s->hd + d];
            p[j] = dot * s->scale;
            top = fmax(top, p[j]);
        }
        for (uint32_t j = s->lo[i]; j < s->hi[i]; j++) sum += p[j] = exp(p[j] - top);
        const double bound = 2 * (1e-6 + 6e-8 * sqrt(s->hd) * 2 * (double)spread * 4);
        for (uint32_t d = 0; d < s->hd; d++) {
            double o = 0;
            for (uint32_t j = s->lo[i]; j < s->hi[i]; j++) o += p[j] / sum * s->v[(size_t)j * s->hd + d];
            double e = fabs(r->o[i * s->hd + d] / (double)r->l[i] - o);
            if (!(e <= bound))
                fail_msg("%s hd %u, %u queries, seed %llu: query %u (%u..%u) value %u: error %g, bound %g", kv_names[s->type], s->hd,
                         s->n_q, (unsigned long long)s->seed, i, s->lo[i], s->hi[i], d, e, bound);
        }
        assert_true(fabs(r->m[i] - top) <= 1e-6 * sqrt(s->hd) * 2 * (double)spread);
    }
}

static void same_bits(const scene *s, const result *a, const result *b, const char *what)
{
    const size_t n = (size_t)s->n_q * s->hd, at = differs(a->o, b->o, n);
    if (at < n || differs(a->m, b->m, s->n_q) < s->n_q || differs(a->l, b->l, s->n_q) < s->n_q)
        fail_msg("%s hd %u, %u queries, seed %llu: %s differs at value %zu of query %zu", kv_names[s->type], s->hd, s->n_q,
                 (unsigned long long)s->seed, what, at % s->hd, at / s->hd);
}

/* Each query alone gives what it gives in company. */
static void check_alone(const scene *s, const pn_kernels *k, const result *all)
{
    static result r;
    for (uint32_t i = 0; i < s->n_q; i++) {
        scene one = *s;
        one.n_q = 1;
        one.q = s->q + (size_t)i * s->hd;
        one.lo[0] = s->lo[i];
        one.hi[0] = s->hi[i];
        run(&one, k, 0, BLOCKS, &r);
        assert_int_equal(differs(r.o, all->o + (size_t)i * s->hd, s->hd), s->hd);
    }
}

static void check_scene(pn_kv_type t, uint32_t hd, uint32_t n_q, float spread, uint64_t seed)
{
    static result want, got;
    pn_kernels c, k;
    pn_kernels_init(&c, 0);
    scene s = scene_new(t, hd, n_q, spread, seed, &c);
    run(&s, &c, 0, BLOCKS, &want);
    check_softmax(&s, &want, spread);
    for (size_t l = 1; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels_init(&k, levels[l].flags);
        scene other = scene_new(t, hd, n_q, spread, seed, &k);
        for (uint32_t b = 0; b < BLOCKS; b++) {
            assert_memory_equal(s.keys[b], other.keys[b], pn_kv_key_bytes(t, hd));
            assert_memory_equal(s.values[b], other.values[b], pn_kv_value_bytes(t, hd));
        }
        run(&other, &k, 0, BLOCKS, &got);
        same_bits(&s, &want, &got, levels[l].name);
        if (seed % 4 == 0) check_alone(&s, &k, &want);
        scene_free(&other);
    }
    scene_free(&s);
}

static void attention_is_softmax(void **state)
{
    (void)state;
    static const uint32_t hds[] = {8, 16, 24, 32, 40, 64, 72, 80, 96, 128, 136, 256}, n_qs[] = {1, 2, 3, 5, 8, 9, 21};
    uint64_t seed = 100;
    for (size_t t = 0; t < PN_COUNT(kv_types); t++)
        for (size_t h = 0; h < PN_COUNT(hds); h++)
            for (size_t n = 0; n < PN_COUNT(n_qs); n++) check_scene(kv_types[t], hds[h], n_qs[n], n % 2 ? 8 : 1, seed++);
}

/* Blocks 0..1 and 2..3 apart, then joined: within rounding of the whole, and the same bits at every level. */
static void spans_join(void **state)
{
    (void)state;
    static result whole, a, b, first;
    pn_kernels k;
    pn_kernels_init(&k, 0);
    scene s = scene_new(PN_KV_F32, 72, 9, 2, 5, &k);
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels_init(&k, levels[l].flags);
        run(&s, &k, 0, BLOCKS, &whole);
        run(&s, &k, 0, 2, &a);
        run(&s, &k, 2, BLOCKS, &b);
        for (uint32_t i = 0; i < s.n_q; i++) {
            k.attn_join(a.m + i, a.l + i, a.o + i * 72, b.m[i], b.l[i], b.o + i * 72, 72);
            assert_true(a.m[i] == whole.m[i] && fabsf(a.l[i] - whole.l[i]) <= 1e-5f * whole.l[i]);
            for (uint32_t d = 0; d < 72; d++) assert_true(fabsf(a.o[i * 72 + d] - whole.o[i * 72 + d]) <= 1e-4f);
        }
        if (!l) first = a;
        same_bits(&s, &first, &a, "join");
    }
    scene_free(&s);
}

/* Joining one block's own state to an empty one is what attn_block does: the same bits. */
static void one_block_joined_is_the_block(void **state)
{
    (void)state;
    static result whole, a, b;
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        pn_kernels_init(&k, levels[l].flags);
        scene s = scene_new(PN_KV_F16, 64, 8, 2, 9, &k);
        for (uint32_t end = 1; end < BLOCKS; end++) {
            run(&s, &k, 0, end + 1, &whole);
            run(&s, &k, 0, end, &a);
            run(&s, &k, end, end + 1, &b);
            for (uint32_t i = 0; i < s.n_q; i++) k.attn_join(a.m + i, a.l + i, a.o + i * 64, b.m[i], b.l[i], b.o + i * 64, 64);
            same_bits(&s, &whole, &a, "join of one block");
        }
        scene_free(&s);
    }
}

/* What one query sees and another does not, stays out of the other's result, infinite or not, though they go together. */
static void unseen_values_stay_out(void **state)
{
    (void)state;
    enum { HD = 64, N_Q = 7, AT = 20 };
    static result want, got;
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        if (!level_here(l)) continue;
        pn_kernels k;
        pn_kernels_init(&k, levels[l].flags);
        scene s = scene_new(PN_KV_F16, HD, N_Q, 2, 11, &k);
        float key[HD], value[HD];
        for (uint32_t j = 0; j < PN_KEYS; j++) k.kv_put(PN_KV_F16, s.keys[0], s.values[0], j, HD, s.k, s.v + j * HD);
        for (uint32_t i = 0; i < N_Q; i++) {
            s.lo[i] = i < 3 ? 0 : AT + 1 - i % 2;
            s.hi[i] = i < 3 ? AT + i % 2 : 32;
        }
        run(&s, &k, 0, 1, &want);
        for (uint32_t d = 0; d < HD; d++) key[d] = value[d] = INFINITY;
        k.kv_put(PN_KV_F16, s.keys[0], s.values[0], AT, HD, key, value);
        run(&s, &k, 0, 1, &got);
        for (uint32_t i = 0; i < N_Q; i++) {
            const bool sees = s.lo[i] <= AT && AT < s.hi[i];
            assert_true((differs(got.o + i * HD, want.o + i * HD, HD) < HD) == sees);
            assert_true((differs(got.l + i, want.l + i, 1) < 1) == sees);
        }
        scene_free(&s);
    }
}

/* A turned head: as long as before, another head's product with it as before; back again it is what it was; and what stood out
 * alone is spread over its block. */
static void turning_keeps_products(void **state)
{
    (void)state;
    static const uint32_t hds[] = {1, 3, 8, 16, 24, 40, 64, 72, 80, 96, 128, 256, 320, 512};
    uint64_t r = 4;
    for (size_t h = 0; h < PN_COUNT(hds); h++) {
        const uint32_t hd = hds[h];
        guarded a = guarded_new(hd), b = guarded_new(hd), one = guarded_new(hd);
        float was[512], first[2][512];
        for (size_t l = 0; l < PN_COUNT(levels); l++) {
            if (!level_here(l)) continue;
            pn_kernels k;
            pn_kernels_init(&k, levels[l].flags);
            uint64_t same = r;
            fill(a.p, hd, &same, -3, 3);
            fill(b.p, hd, &same, -3, 3);
            memcpy(was, a.p, hd * sizeof *was);
            double dot = 0, turned = 0;
            for (uint32_t i = 0; i < hd; i++) dot += (double)a.p[i] * b.p[i];
            k.turn(a.p, hd, false);
            k.turn(b.p, hd, false);
            for (uint32_t i = 0; i < hd; i++) turned += (double)a.p[i] * b.p[i];
            assert_true(fabs(dot - turned) <= 1e-5 * hd);
            if (!l) memcpy(first[0], a.p, hd * sizeof **first);
            assert_int_equal(differs(a.p, first[0], hd), hd);
            k.turn(a.p, hd, true);
            if (!l) memcpy(first[1], a.p, hd * sizeof **first);
            assert_int_equal(differs(a.p, first[1], hd), hd);
            for (uint32_t i = 0; i < hd; i++) assert_true(fabsf(a.p[i] - was[i]) <= 3e-6f);
            const uint32_t n = PN_MIN(hd & (~hd + 1), 256u), at = hd / 2;
            memset(one.p, 0, hd * sizeof *one.p);
            one.p[at] = 1;
            k.turn(one.p, hd, false);
            for (uint32_t i = 0; i < hd; i++) assert_true(fabs(fabs((double)one.p[i]) - (i / n == at / n ? 1 / sqrt(n) : 0)) < 1e-7);
            assert_true(guarded_whole(&a) && guarded_whole(&b) && guarded_whole(&one));
        }
        r++;
        free(a.base);
        free(b.base);
        free(one.base);
    }
}

/* ---- --bench ------------------------------------------------------------------------- */
typedef struct timed { const pn_kernels *k; const scene *s; pn_attn_query *q; void *scratch; uint32_t block; } timed;

static void one_block(void *ctx)
{
    timed *t = ctx;
    t->k->attn_block(t->s->type, t->s->keys[t->block], t->s->values[t->block], t->s->hd, t->s->scale, t->q, t->s->n_q, NULL, t->scratch);
    t->block = (t->block + 1) % BLOCKS;
}

static void bench_scene(pn_kv_type type, uint32_t hd, uint32_t n_q)
{
    enum { MOST = 64 };
    static float q[MOST * MOST_HD], o[MOST * MOST_HD], m[MOST], l[MOST];
    pn_attn_query queries[MOST];
    pn_kernels k;
    uint64_t r = 1;
    fill(q, MOST * MOST_HD, &r, -1, 1);
    for (size_t v = 1; v < PN_COUNT(levels); v++) {
        if (!level_here(v)) continue;
        pn_kernels_init(&k, levels[v].flags);
        scene s = scene_new(type, hd, 1, 1, 3, &k);
        for (uint32_t j = 0; j < BLOCKS * PN_KEYS; j++)
            k.kv_put(type, s.keys[j / PN_KEYS], s.values[j / PN_KEYS], j % PN_KEYS, hd, s.k + (size_t)j * hd, s.v + (size_t)j * hd);
        for (uint32_t i = 0; i < n_q; i++) {
            m[i] = l[i] = 0;
            queries[i] = (pn_attn_query){q + i * hd, m + i, l + i, o + i * hd, 0, 32};
        }
        memset(o, 0, sizeof o);
        s.n_q = n_q;
        timed t = {&k, &s, queries, aligned_alloc(64, pn_scratch_bytes(hd)), 0};
        const double sec = bench_seconds(one_block, &t);
        printf("attn_block %-4s %-6s hd %3u queries %2u: %6.1f GFLOP/s, %5.1f GB/s, %7.0f ns\n", kv_names[type], levels[v].name, hd, n_q,
               4.0 * PN_KEYS * hd * n_q / sec * 1e-9, (double)(pn_kv_key_bytes(type, hd) + pn_kv_value_bytes(type, hd)) / sec * 1e-9, sec * 1e9);
        free(t.scratch);
        scene_free(&s);
    }
}

static int bench(void)
{
    static const uint32_t hds[] = {64, 128, 256}, n_qs[] = {1, 2, 3, 4, 8, 16, 64};
    for (size_t t = 0; t < PN_COUNT(kv_types); t++)
        for (size_t h = 0; h < PN_COUNT(hds); h++)
            for (size_t n = 0; n < PN_COUNT(n_qs); n++) bench_scene(kv_types[t], hds[h], n_qs[n]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) return bench();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_softmax),
        cmocka_unit_test(spans_join),
        cmocka_unit_test(one_block_joined_is_the_block),
        cmocka_unit_test(unseen_values_stay_out),
        cmocka_unit_test(turning_keeps_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
