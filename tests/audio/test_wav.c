/* WAV files of every coding, damaged ones, raw samples, sharing, failing allocations. */
#include "make.h"

static pn_sound *sound_of(const pn_buf *b)
{
    ponder_error e = {.size = sizeof e};
    pn_sound *s;
    OK(pn_sound_wav_memory(&s, b->p, b->n, NULL, NULL, &e), e);
    return s;
}

static void expect(const pn_buf *b, const float *want, uint64_t n)
{
    pn_sound *s = sound_of(b);
    assert_int_equal(pn_sound_count(s), n);
    assert_int_equal(pn_sound_rate(s), PN_AUDIO_RATE);
    for (uint64_t i = 0; i < n; i++)
        if (pn_sound_samples(s)[i] != want[i])
            fail_msg("sample %d: %a, not %a", (int)i, (double)pn_sound_samples(s)[i], (double)want[i]);
    pn_sound_free(s);
}

static void refused(const pn_buf *b, ponder_status status, const char *text)
{
    ponder_error e = {.size = sizeof e};
    pn_sound *s = (pn_sound *)(void *)&e;
    ponder_status got = pn_sound_wav_memory(&s, b->p, b->n, NULL, NULL, &e);
    if (got != status || !strstr(e.text, text)) fail_msg("%d %s, not %d %s", (int)got, e.text, (int)status, text);
    assert_null(s);
}

/* ---- codings: the values of the ends, the middle and one step ------------------------------- */

static void pcm(uint32_t bits, uint32_t container, const uint32_t *codes, const float *want, size_t n)
{
    pn_buf b;
    wav_begin(&b, "RIFF");
    wav_format(&b, 1, 1, PN_AUDIO_RATE, bits, container);
    wav_data(&b, (uint32_t)(n * container));
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < container; k++) pn_buf_put(&b, (uint8_t[]){(uint8_t)(codes[i] >> 8 * k)}, 1);
    wav_end(&b);
    expect(&b, want, n);
    pn_buf_free(&b);
}

static void every_pcm(void **state)
{
    (void)state;
    pcm(8, 1, (uint32_t[]){0, 255, 128, 129}, (float[]){-1, 0x1.fcp-1f, 0, 0x1p-7f}, 4);
    pcm(16, 2, (uint32_t[]){0x8000, 0x7fff, 0, 1, 0xffff}, (float[]){-1, 0x1.fffcp-1f, 0, 0x1p-15f, -0x1p-15f}, 5);
    pcm(24, 3, (uint32_t[]){0x800000, 0x7fffff, 0, 1, 0xffffff}, (float[]){-1, 0x1.fffffcp-1f, 0, 0x1p-23f, -0x1p-23f}, 5);
    pcm(32, 4, (uint32_t[]){0x80000000, 0x7fffffff, 0, 1, 0xffffffff, 0x40000000}, (float[]){-1, 1, 0, 0x1p-31f, -0x1p-31f, 0.5f}, 6);
    /* Fewer bits than the container: the upper ones. */
    pcm(12, 2, (uint32_t[]){0x8000, 0x4000, 0x0010}, (float[]){-1, 0.5f, 0x1p-11f}, 3);
    pcm(24, 4, (uint32_t[]){0x80000000, 0x40000000, 0x100}, (float[]){-1, 0.5f, 0x1p-23f}, 3);
}

static void floats_of(pn_buf *b, uint32_t bits, const double *v, size_t n)
{
    wav_begin(b, "RIFF");
    wav_format(b, 3, 1, PN_AUDIO_RATE, bits, bits / 8);
    wav_data(b, (uint32_t)(n * bits / 8));
    for (size_t i = 0; i < n; i++) {
        if (bits == 64) put_f64(b, v[i]);
        else put_f32(b, (float)v[i]);
    }
    wav_end(b);
}

static void every_float(void **state)
{
    (void)state;
    const double v[] = {0, -1, 1.5, 0x1p-40, 0.1, -3e4};
    const float want[] = {0, -1, 1.5f, 0x1p-40f, 0.1f, -3e4f};
    pn_buf b;
    for (uint32_t bits = 32; bits <= 64; bits += 32) {
        floats_of(&b, bits, v, PN_COUNT(v));
        expect(&b, want, PN_COUNT(want));
        pn_buf_free(&b);
    }
}

static void numbers_that_are_none(void **state)
{
    (void)state;
    const double bad[] = {NAN, INFINITY, -INFINITY, 1.1e10, 1e300};
    pn_buf b;
    for (size_t i = 0; i < PN_COUNT(bad); i++) {
        floats_of(&b, 64, (double[]){0, 0, bad[i]}, 3);
        refused(&b, PONDER_E_FORMAT, "frame 2");
        pn_buf_free(&b);
    }
    floats_of(&b, 32, (double[]){-1e10}, 1);
    expect(&b, (float[]){-1e10f}, 1);
    pn_buf_free(&b);
}

/* The reference's order: a float sum from the first channel, then one division. */
static void channels_are_averaged(void **state)
{
    (void)state;
    pn_buf b;
    wav_begin(&b, "RIFF");
    wav_format(&b, 3, 3, PN_AUDIO_RATE, 32, 4);
    wav_data(&b, 24);
    const float v[] = {0.3f, 0.7f, -0.35f, 1, 1e-8f, -1};
    for (size_t i = 0; i < 6; i++) put_f32(&b, v[i]);
    wav_end(&b);
    expect(&b, (float[]){(0.3f + 0.7f + -0.35f) / 3, 0.0f}, 2);
    pn_buf_free(&b);
    wav_begin(&b, "RIFF");
    wav_format(&b, 1, 256, PN_AUDIO_RATE, 16, 2);
    wav_data(&b, 512 * 2);
    for (uint32_t i = 0; i < 512; i++) put16(&b, i < 256 ? i : 0x8000);
    wav_end(&b);
    expect(&b, (float[]){127.5f / 32768, -1}, 2);
    pn_buf_free(&b);
}

/* ---- containers ------------------------------------------------------------------------------ */

static void put_guid(pn_buf *b, uint32_t tag)
{
    static const uint8_t tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    put16(b, tag);
    pn_buf_put(b, tail, sizeof tail);
}

static void extensible(pn_buf *b, uint32_t tag, uint32_t bits, uint32_t size)
{
    wav_begin(b, "RIFF");
    wav_format(b, 0xfffe, 2, PN_AUDIO_RATE, bits, bits / 8);
    set32(b, 16, size);
    put16(b, 22);
    put16(b, bits);
    put32(b, 3);
    put_guid(b, tag);
}

static void extensible_formats(void **state)
{
    (void)state;
    pn_buf b;
    extensible(&b, 1, 16, 40);
    wav_data(&b, 4);
    put32(&b, 0x4000c000);
    wav_end(&b);
    expect(&b, (float[]){0}, 1);
    pn_buf_free(&b);
    extensible(&b, 3, 32, 40);
    wav_data(&b, 8);
    put_f32(&b, 0.5f);
    put_f32(&b, 1);
    wav_end(&b);
    expect(&b, (float[]){0.75f}, 1);
    b.p[50] ^= 1; /* another family of codes */
    refused(&b, PONDER_E_UNSUPPORTED, "unknown coding");
    pn_buf_free(&b);
    extensible(&b, 6, 8, 40);
    refused(&b, PONDER_E_UNSUPPORTED, "A-law");
    pn_buf_free(&b);
}

/* Chunks before the format, between it and the data, and after them; one of odd length with its padding. */
static void other_chunks_are_skipped(void **state)
{
    (void)state;
    pn_buf b;
    wav_begin(&b, "RIFF");
    pn_buf_puts(&b, "JUNK");
    put32(&b, 3);
    pn_buf_put(&b, "abc", 4);
    wav_format(&b, 1, 1, PN_AUDIO_RATE, 16, 2);
    pn_buf_puts(&b, "LIST");
    put32(&b, 0);
    wav_data(&b, 4);
    put32(&b, 0x40008000);
    pn_buf_puts(&b, "id3 ");
    put32(&b, 100);
    wav_end(&b);
    expect(&b, (float[]){-1, 0.5f}, 2);
    pn_buf_free(&b);
}

/* A length never filled in, one beyond the file, a frame cut in two: what is there counts. */
static void lengths_that_lie(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {UINT32_MAX, 0x7ffff000, 8, 0};
    for (size_t i = 0; i < PN_COUNT(sizes); i++) {
        pn_buf b;
        wav_begin(&b, "RIFF");
        wav_format(&b, 1, 2, PN_AUDIO_RATE, 16, 2);
        wav_data(&b, sizes[i]);
        put32(&b, 0x40004000);
        put16(&b, 0x7fff);
        if (i < 2) set32(&b, 4, UINT32_MAX - 8);
        expect(&b, (float[]){0.5f}, 1);
        if (sizes[i] == 0) { /* the file says that something else follows */
            wav_end(&b);
            refused(&b, PONDER_E_FORMAT, "without samples");
        }
        pn_buf_free(&b);
    }
}

static void rf64(void **state)
{
    (void)state;
    pn_buf b;
    for (uint64_t bytes = 2; bytes <= 4; bytes += 2) {
        wav_begin(&b, bytes == 2 ? "RF64" : "BW64");
        set32(&b, 4, UINT32_MAX);
        pn_buf_puts(&b, "ds64");
        put32(&b, 28);
        put64(&b, 100);
        put64(&b, bytes);
        put64(&b, bytes / 2);
        put32(&b, 0);
        wav_format(&b, 1, 1, PN_AUDIO_RATE, 16, 2);
        wav_data(&b, UINT32_MAX);
        put32(&b, 0xc0004000);
        expect(&b, (float[]){0.5f, -0.5f}, bytes / 2);
        pn_buf_free(&b);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------- */

static void with_format(uint32_t tag, uint32_t channels, uint32_t rate, uint32_t bits, uint32_t container, ponder_status st, const char *text)
{
    pn_buf b;
    wav_begin(&b, "RIFF");
    wav_format(&b, tag, channels, rate, bits, container);
    wav_data(&b, 64);
    for (int i = 0; i < 16; i++) put32(&b, 0);
    refused(&b, st, text);
    pn_buf_free(&b);
}

static void formats_that_are_refused(void **state)
{
    (void)state;
    with_format(1, 0, PN_AUDIO_RATE, 16, 2, PONDER_E_FORMAT, "0 channels");
    with_format(1, 257, PN_AUDIO_RATE, 16, 2, PONDER_E_FORMAT, "257 channels");
    with_format(1, 1, 0, 16, 2, PONDER_E_FORMAT, "0 samples a second");
    with_format(1, 1, 768001, 16, 2, PONDER_E_FORMAT, "768001");
    with_format(1, 1, PN_AUDIO_RATE, 0, 2, PONDER_E_FORMAT, "0 bits");
    with_format(1, 1, PN_AUDIO_RATE, 24, 2, PONDER_E_FORMAT, "24 bits");
    with_format(1, 1, PN_AUDIO_RATE, 16, 0, PONDER_E_FORMAT, "frames of 0 bytes");
    with_format(1, 1, PN_AUDIO_RATE, 40, 5, PONDER_E_UNSUPPORTED, "40 bits");
    with_format(1, 1, PN_AUDIO_RATE, 64, 8, PONDER_E_UNSUPPORTED, "64 bits");
    with_format(3, 1, PN_AUDIO_RATE, 16, 2, PONDER_E_UNSUPPORTED, "16 bits");
    with_format(3, 1, PN_AUDIO_RATE, 24, 4, PONDER_E_UNSUPPORTED, "24 bits");
    with_format(2, 1, PN_AUDIO_RATE, 4, 1, PONDER_E_UNSUPPORTED, "Microsoft ADPCM");
    with_format(7, 1, PN_AUDIO_RATE, 8, 1, PONDER_E_UNSUPPORTED, "mu-law");
    with_format(0x55, 1, PN_AUDIO_RATE, 0, 1, PONDER_E_UNSUPPORTED, "MPEG");
}

static void good_file(pn_buf *b)
{
    wav_begin(b, "RIFF");
    wav_format(b, 1, 1, PN_AUDIO_RATE, 16, 2);
    wav_data(b, 8);
    for (int i = 0; i < 2; i++) put32(b, 0x40008000);
    wav_end(b);
}

/* Every prefix of a file: refused, or what is there of its samples. */
static void cut_anywhere(void **state)
{
    (void)state;
    pn_buf b;
    good_file(&b);
    for (size_t n = 0; n < b.n; n++) {
        ponder_error e = {.size = sizeof e};
        uint8_t *copy = malloc(n ? n : 1); /* of that very size: a sanitizer sees a byte too many */
        pn_sound *s;
        memcpy(copy, b.p, n);
        ponder_status st = pn_sound_wav_memory(&s, copy, n, NULL, NULL, &e);
        assert_int_equal(st, n < 46 ? PONDER_E_FORMAT : PONDER_OK);
        if (st == PONDER_OK) assert_int_equal(pn_sound_count(s), (n - 44) / 2);
        else assert_true(e.text[0]);
        pn_sound_free(s);
        free(copy);
    }
    pn_buf_free(&b);
}

static void not_a_wav_file(void **state)
{
    (void)state;
    pn_buf b;
    good_file(&b);
    memcpy(b.p, "RIFX", 4);
    refused(&b, PONDER_E_UNSUPPORTED, "big-endian");
    memcpy(b.p, "FORM", 4);
    refused(&b, PONDER_E_FORMAT, "not a WAV file");
    memcpy(b.p, "RIFF", 4);
    memcpy(b.p + 8, "AVI ", 4);
    refused(&b, PONDER_E_FORMAT, "not a WAV file");
    memcpy(b.p + 8, "WAVE", 4);
    memcpy(b.p + 12, "fmtx", 4);
    refused(&b, PONDER_E_FORMAT, "before their format");
    memcpy(b.p + 12, "fmt ", 4);
    set32(&b, 16, 15);
    refused(&b, PONDER_E_FORMAT, "15 bytes");
    set32(&b, 16, 1000);
    refused(&b, PONDER_E_FORMAT, "1000 bytes");
    pn_buf_free(&b);
    wav_begin(&b, "RIFF");
    for (int i = 0; i < 10001; i++) put64(&b, 0x4b4e554a);
    refused(&b, PONDER_E_FORMAT, "chunks");
    pn_buf_free(&b);
}

/* ---- raw samples, limits, sharing ---------------------------------------------------------------- */

static void raw_samples(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_sound *s, *again;
    const float v[] = {0.5f, -0.25f, 1, 1};
    OK(pn_sound_raw(&s, v, 2, 2, PN_AUDIO_RATE, NULL, NULL, &e), e);
    assert_int_equal(pn_sound_count(s), 2);
    assert_true(pn_sound_samples(s)[0] == 0.125f && pn_sound_samples(s)[1] == 1);
    OK(pn_sound_raw(&again, (float[]){0.125f, 1}, 2, 1, PN_AUDIO_RATE, NULL, NULL, &e), e);
    assert_true(pn_sound_hash(s) == pn_sound_hash(again));
    pn_sound_free(again);
    OK(pn_sound_raw(&again, (float[]){0.125f, 0x1.000002p0f}, 2, 1, PN_AUDIO_RATE, NULL, NULL, &e), e);
    assert_true(pn_sound_hash(s) != pn_sound_hash(again));
    pn_sound_free(again);
    assert_ptr_equal(pn_sound_hold(s), s);
    pn_sound_free(s);
    assert_true(pn_sound_samples(s)[0] == 0.125f);
    pn_sound_free(s);
    assert_int_equal(pn_sound_raw(&s, v, 0, 1, PN_AUDIO_RATE, NULL, NULL, &e), PONDER_E_ARGUMENT);
    assert_non_null(strstr(e.text, "without samples"));
    assert_int_equal(pn_sound_raw(&s, NULL, 1, 1, PN_AUDIO_RATE, NULL, NULL, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_sound_raw(&s, v, 1, 0, PN_AUDIO_RATE, NULL, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_sound_raw(&s, v, 1, 257, PN_AUDIO_RATE, NULL, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_sound_raw(&s, v, 1, 1, 99, NULL, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_sound_raw(&s, v, 1, 1, 768001, NULL, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_sound_raw(&s, (float[]){0, NAN}, 2, 1, PN_AUDIO_RATE, NULL, NULL, &e), PONDER_E_FORMAT);
    assert_null(s);
}

/* A file that claims more than is allowed is refused before memory is asked for. */
static void length_is_limited(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_sound *s;
    pn_buf b;
    counter c;
    good_file(&b);
    for (uint64_t most = 3; most <= 4; most++) {
        counter_init(&c, 0);
        ponder_status st = pn_sound_wav_memory(&s, b.p, b.n, &(pn_sound_options){.max_samples = most}, &c.a, &e);
        assert_int_equal(st, most == 3 ? PONDER_E_RANGE : PONDER_OK);
        if (most == 3) assert_non_null(strstr(e.text, "4 samples"));
        pn_sound_free(s);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.bytes, 0);
    }
    pn_buf_free(&b);
}

static void from_a_path(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    char path[300];
    const char *base = getenv("TMPDIR");
    pn_sound *s, *t;
    pn_buf b;
    snprintf(path, sizeof path, "%s/ponder-audio-XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
    int fd = mkstemp(path);
    good_file(&b);
    assert_int_equal(write(fd, b.p, b.n), b.n);
    close(fd);
    OK(pn_sound_wav_path(&s, path, NULL, NULL, &e), e);
    t = sound_of(&b);
    assert_true(pn_sound_hash(s) == pn_sound_hash(t) && pn_sound_count(s) == pn_sound_count(t));
    pn_sound_free(s);
    pn_sound_free(t);
    unlink(path);
    assert_int_equal(pn_sound_wav_path(&s, path, NULL, NULL, &e), PONDER_E_IO);
    assert_null(s);
    pn_buf_free(&b);
}

/* More blocks than one, every allocation failing in turn. */
static void memory_ends_anywhere(void **state)
{
    (void)state;
    pn_buf b;
    wav_begin(&b, "RIFF");
    wav_format(&b, 1, 2, PN_AUDIO_RATE, 16, 2);
    wav_data(&b, 50000 * 4);
    for (uint32_t i = 0; i < 50000; i++) put32(&b, (i & 0x7fff) | (i & 0x7fff) << 16);
    wav_end(&b);
    bool done = false;
    for (size_t at = 1; !done; at++) {
        ponder_error e = {.size = sizeof e};
        pn_sound *s;
        counter c;
        counter_init(&c, at);
        ponder_status st = pn_sound_wav_memory(&s, b.p, b.n, NULL, &c.a, &e);
        done = c.calls < at;
        assert_int_equal(st, done ? PONDER_OK : PONDER_E_NOMEM);
        if (done)
            for (uint32_t i = 0; i < 50000; i++) assert_true(pn_sound_samples(s)[i] == (float)(i & 0x7fff) / 32768);
        pn_sound_free(s);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.bytes, 0);
    }
    pn_buf_free(&b);
}

static void rows_and_counts(void **state)
{
    (void)state;
    assert_int_equal(pn_audio_rows(0, 1920), 0);
    assert_int_equal(pn_audio_rows(1, 1920), 1);
    assert_int_equal(pn_audio_rows(1920, 1920), 1);
    assert_int_equal(pn_audio_rows(1921, 1920), 2);
    assert_int_equal(pn_resampled_count(44100, 44100, 24000), 24000);
    assert_int_equal(pn_resampled_count(1, 48000, 24000), 1);
    assert_int_equal(pn_resampled_count(3, 48000, 24000), 2);
    assert_int_equal(pn_resampled_count(10, 16000, 24000), 15);
    assert_int_equal(pn_resampled_count(11, 16000, 24000), 17);
    assert_true(pn_resampled_count(UINT64_MAX / 24000, 16000, 24000) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pcm),
        cmocka_unit_test(every_float),
        cmocka_unit_test(numbers_that_are_none),
        cmocka_unit_test(channels_are_averaged),
        cmocka_unit_test(extensible_formats),
        cmocka_unit_test(other_chunks_are_skipped),
        cmocka_unit_test(lengths_that_lie),
        cmocka_unit_test(rf64),
        cmocka_unit_test(formats_that_are_refused),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(not_a_wav_file),
        cmocka_unit_test(raw_samples),
        cmocka_unit_test(length_is_limited),
        cmocka_unit_test(from_a_path),
        cmocka_unit_test(memory_ends_anywhere),
        cmocka_unit_test(rows_and_counts),
    };
    return cmocka_run_group_tests_name("audio: WAV", tests, NULL, NULL);
}
