/* Resampling: counts, pieces and copies bit for bit, tones where arithmetic says, what the library allocates failing. */
#include "make.h"

#if PN_HAVE_SPEEXDSP
static const uint32_t rates[][2] = {
    {44100, 24000}, {48000, 24000}, {16000, 24000}, {8000, 24000}, {11025, 24000}, {22050, 24000}, {32000, 24000}, {96000, 24000},
    {192000, 24000}, {768000, 24000}, {44099, 24000}, {23999, 24000}, {100, 24000}, {12000, 24000}, {24000, 24000}, {24000, 16000},
};

static pn_resampler *new_resampler(uint32_t from, uint32_t to)
{
    ponder_error e = {.size = sizeof e};
    pn_resampler *r;
    OK(pn_resampler_new(&r, from, to, NULL, &e), e);
    return r;
}

static float *noise(size_t n, uint64_t seed)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(int32_t)(uint32_t)next_random(&seed) / 2147483648.0f;
    return x;
}

/* Every output has exactly the room that was promised: a sanitizer sees one sample too many. */
static size_t push(pn_resampler *r, const float *in, size_t n, bool last, float *to)
{
    ponder_error e = {.size = sizeof e};
    size_t room = pn_resampler_room(r, n), made;
    float *out = malloc(room ? room * sizeof *out : 1);
    OK(pn_resampler_push(r, in, n, last, out, &made, &e), e);
    assert_true(made <= room);
    memcpy(to, out, made * sizeof *out);
    free(out);
    return made;
}

static float *one_piece(uint32_t from, uint32_t to, const float *x, size_t n)
{
    size_t want = (size_t)pn_resampled_count(n, from, to);
    float *y = malloc((want + 1) * sizeof *y);
    pn_resampler *r = new_resampler(from, to);
    assert_int_equal(push(r, x, n, true, y), want);
    pn_resampler_free(r);
    return y;
}

static void same(const float *a, const float *b, size_t n, uint32_t rate)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a)) fail_msg("%u: sample %zu: %a, not %a", rate, i, (double)a[i], (double)b[i]);
}

static void counts(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 7, 79, 80, 81, 147, 160, 161, 1000, 1920, 4410};
    for (size_t k = 0; k < PN_COUNT(rates); k++) {
        for (size_t i = 0; i < PN_COUNT(lengths); i++) {
            float *x = noise(lengths[i], i);
            free(one_piece(rates[k][0], rates[k][1], x, lengths[i]));
            free(x);
        }
    }
}

/* Pieces of one sample, of none, of random lengths. */
static void pieces_are_one_piece(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (size_t k = 0; k < PN_COUNT(rates); k++) {
        const uint32_t from = rates[k][0], to = rates[k][1];
        const size_t n = from == 100 ? 700 : from > 500000 ? 60000 : 9000;
        float *x = noise(n, k), *want = one_piece(from, to, x, n);
        const size_t total = (size_t)pn_resampled_count(n, from, to);
        float *got = malloc(total * sizeof *got);
        for (size_t most = 1; most <= 5000; most *= 17) {
            pn_resampler *r = new_resampler(from, to);
            size_t at = 0, made = 0;
            while (at < n) {
                size_t some = (size_t)(next_random(&random) % (most + 1));
                some = PN_MIN(some, n - at);
                made += push(r, x + at, some, false, got + made);
                at += some;
            }
            made += push(r, NULL, 0, true, got + made);
            assert_int_equal(made, total);
            same(got, want, total, from);
            pn_resampler_free(r);
        }
        free(x), free(want), free(got);
    }
}

/* A copy goes on as the original does, and neither disturbs the other. */
static void copies_go_on(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    uint64_t random = 11;
    for (size_t k = 0; k < PN_COUNT(rates); k++) {
        const uint32_t from = rates[k][0], to = rates[k][1];
        const size_t n = from == 100 ? 700 : from > 500000 ? 60000 : from == 44099 || from == 23999 ? 100000 : 9000;
        float *x = noise(n, k), *want = one_piece(from, to, x, n);
        const size_t total = (size_t)pn_resampled_count(n, from, to);
        float *got = malloc(total * sizeof *got), *other = malloc(total * sizeof *got);
        pn_resampler *r = new_resampler(from, to), *copy;
        size_t at = 0, made = 0;
        for (int i = 0; i < 12 && at < n; i++) {
            size_t some = i == 0 ? 0 : i < 4 ? (size_t)i * 50 : (size_t)(next_random(&random) % (n / 6));
            some = PN_MIN(some, n - at);
            made += push(r, x + at, some, false, got + made);
            at += some;
            OK(pn_resampler_copy(&copy, r, NULL, &e), e);
            memcpy(other, got, made * sizeof *got);
            assert_int_equal(made + push(copy, x + at, n - at, true, other + made), total);
            same(other, want, total, from);
            pn_resampler_free(copy);
        }
        made += push(r, x + at, n - at, true, got + made);
        assert_int_equal(made, total);
        same(got, want, total, from);
        OK(pn_resampler_copy(&copy, r, NULL, &e), e); /* one that has ended stays so */
        assert_int_equal(pn_resampler_push(copy, x, 1, false, other, &made, &e), PONDER_E_STATE);
        pn_resampler_free(copy);
        pn_resampler_free(r);
        free(x), free(want), free(got), free(other);
    }
}

/* A tone comes out as the same tone at the same time: level, delay and noise in one number. Bounds: the filter's ripple
 * and stop band (100 dB) with room for float. `cycles`: a second. */
static double tone_error(uint32_t from, double cycles, double *loudest)
{
    const size_t n = from / 2;
    const double pi2 = 6.283185307179586476925286766559;
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (float)(0.5 * sin(pi2 * fmod(cycles * (double)i / from, 1)));
    float *y = one_piece(from, 24000, x, n);
    double worst = 0;
    *loudest = 0;
    for (size_t i = 3000; i < 9000; i++) { /* the ends of the tone are no tone */
        worst = fmax(worst, fabs(y[i] - 0.5 * sin(pi2 * fmod(cycles * (double)i / 24000, 1))));
        *loudest = fmax(*loudest, fabs((double)y[i]));
    }
    free(x), free(y);
    return worst;
}

static void tones(void **state)
{
    (void)state;
    static const uint32_t from[] = {8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000};
    static const double part[] = {0.01, 0.2, 0.5, 0.8, 0.9};
    for (size_t k = 0; k < PN_COUNT(from); k++) {
        const double top = PN_MIN(from[k], 24000u) / 2.0;
        double loudest, worst = 0;
        for (size_t i = 0; i < PN_COUNT(part); i++) worst = fmax(worst, tone_error(from[k], floor(part[i] * top), &loudest));
        printf("%u: tones to 0.9 of the band: %.1e\n", from[k], worst);
        assert_true(worst < 1e-4);
        if (from[k] <= 24000) continue;
        double alias = 0;
        for (double f = 1.06 * top; f < from[k] / 2.0; f += top / 7) {
            tone_error(from[k], floor(f), &loudest);
            alias = fmax(alias, loudest);
        }
        printf("%u: what remains of tones above the band: %.1e\n", from[k], alias);
        assert_true(alias < 2e-5);
    }
}

/* The same through files and raw samples, in blocks. */
static void sounds_are_resampled(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    enum { FRAMES = 40001 };
    pn_buf b;
    wav_begin(&b, "RIFF");
    wav_format(&b, 3, 2, 44100, 32, 4);
    wav_data(&b, FRAMES * 8);
    float *x = noise(FRAMES, 3), *twice = malloc(FRAMES * 2 * sizeof *x);
    for (size_t i = 0; i < FRAMES; i++) {
        twice[2 * i] = twice[2 * i + 1] = x[i];
        put_f32(&b, x[i]);
        put_f32(&b, x[i]);
    }
    wav_end(&b);
    float *want = one_piece(44100, 24000, x, FRAMES);
    pn_sound *file, *raw;
    OK(pn_sound_wav_memory(&file, b.p, b.n, NULL, NULL, &e), e);
    OK(pn_sound_raw(&raw, twice, FRAMES, 2, 44100, NULL, NULL, &e), e);
    assert_int_equal(pn_sound_count(file), 21770); /* 40001 * 24000 / 44100, rounded up */
    assert_int_equal(pn_sound_count(raw), 21770);
    same(pn_sound_samples(file), want, 21770, 44100);
    same(pn_sound_samples(raw), want, 21770, 44100);
    assert_true(pn_sound_hash(file) == pn_sound_hash(raw));
    pn_sound_free(file), pn_sound_free(raw);
    pn_buf_free(&b);
    free(x), free(twice), free(want);
}

/* ---- memory ------------------------------------------------------------------------------ */

static bool whole_life(const ponder_alloc *a, bool *wrong)
{
    ponder_error e = {.size = sizeof e};
    pn_resampler *r = NULL, *copy = NULL;
    float in[300] = {1}, out[600];
    size_t made;
    ponder_status st = pn_resampler_new(&r, 44100, 24000, a, &e);
    if (st == PONDER_OK) st = pn_resampler_push(r, in, 300, false, out, &made, &e);
    if (st == PONDER_OK) st = pn_resampler_copy(&copy, r, a, &e);
    pn_resampler_free(copy);
    pn_resampler_free(r);
    *wrong = st != PONDER_OK && (st != PONDER_E_NOMEM || !e.text[0]);
    return st == PONDER_OK;
}

static void memory_ends_anywhere(void **state)
{
    (void)state;
    bool wrong, done = false;
    for (size_t at = 1; !done; at++) {
        counter c;
        counter_init(&c, at);
        done = whole_life(&c.a, &wrong);
        assert_false(wrong);
        assert_int_equal(done, c.calls < at);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.bytes, 0);
    }
}

/* speexdsp takes its memory from the C library: that fails here too. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if !SANITIZED && defined(__GLIBC__)
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
static long calls, fail_at = -1;

void *calloc(size_t n, size_t size) { return fail_at >= 0 && calls++ == fail_at ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fail_at >= 0 && calls++ == fail_at ? NULL : __libc_realloc(p, n); }

static void library_memory_ends(void **state)
{
    (void)state;
    bool wrong, done = false;
    for (long at = 0; !done; at++) {
        calls = 0;
        fail_at = at;
        done = whole_life(NULL, &wrong);
        fail_at = -1;
        assert_false(wrong);
        assert_int_equal(done, calls <= at);
        if (done) assert_true(calls > 4); /* the library's own were among them */
    }
}
#else
static void library_memory_ends(void **state)
{
    (void)state;
    skip(); /* the sanitizer has its own malloc */
}
#endif

static void wrong_uses(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_resampler *r;
    assert_int_equal(pn_resampler_new(&r, 99, 24000, NULL, &e), PONDER_E_RANGE);
    assert_null(r);
    assert_int_equal(pn_resampler_new(&r, 24000, 768001, NULL, &e), PONDER_E_RANGE);
    r = new_resampler(48000, 24000);
    float out[8];
    size_t made;
    OK(pn_resampler_push(r, (float[]){1, 1, 1}, 3, true, out, &made, &e), e);
    assert_int_equal(made, 2);
    assert_int_equal(pn_resampler_push(r, out, 1, false, out, &made, &e), PONDER_E_STATE);
    assert_int_equal(made, 0);
    pn_resampler_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(pieces_are_one_piece),
        cmocka_unit_test(copies_go_on),
        cmocka_unit_test(tones),
        cmocka_unit_test(sounds_are_resampled),
        cmocka_unit_test(memory_ends_anywhere),
        cmocka_unit_test(library_memory_ends),
        cmocka_unit_test(wrong_uses),
    };
    return cmocka_run_group_tests_name("audio: resampling", tests, NULL, NULL);
}
#else
static void named_when_missing(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_sound *s;
    assert_int_equal(pn_sound_raw(&s, (float[]){1, 1}, 2, 1, 44100, NULL, NULL, &e), PONDER_E_UNSUPPORTED);
    assert_non_null(strstr(e.text, "speexdsp"));
    assert_null(s);
    OK(pn_sound_raw(&s, (float[]){1, 1}, 2, 1, 24000, NULL, NULL, &e), e);
    pn_sound_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(named_when_missing)};
    return cmocka_run_group_tests_name("audio: resampling", tests, NULL, NULL);
}
#endif
