/* Parity with transformers: the rows of every stored sound, from a folder and from a GGUF projector; a file at another rate. */
#include "tower_rig.h"

static void parity(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        reference r;
        reference_read(&r, models[m]);
        for (size_t f = 0; f < PN_COUNT(files); f++) {
            pn_audio *t = load_tower(models[m], files[f]);
            double most = 0;
            for (uint32_t i = 0; i < r.n; i++) {
                const item *c = &r.item[i];
                assert_int_equal(pn_audio_rows(c->n, pn_audio_about(t)->samples), c->rows.dim[0]);
                float *got = encode(t, c->samples, c->n);
                double e = max_error(got, c->rows.v, c->rows.n);
                if (!(e <= r.tolerance)) fail_msg("%s/%s, %s: rows are off by %g, tolerance %g", models[m], files[f], c->name, e, r.tolerance);
                most = fmax(most, e);
                free(got);
            }
            print_message("%-17s %-12s rows %.1e of %.0e\n", models[m], files[f], most, r.tolerance);
            pn_audio_free(t);
        }
        reference_free(&r);
    }
}

/* Raw pages (not repacked) hold the same weights. */
static void raw_weights(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        reference r;
        reference_read(&r, models[m]);
        pn_audio *t = load_tower(models[m], ""), *raw = load_with(models[m], "", &(pn_load_options){.quantize = -1});
        const item *c = item_named(&r, "other");
        float *want = encode(t, c->samples, c->n), *got = encode(raw, c->samples, c->n);
        same_bits(got, want, c->rows.n, models[m]);
        free(want), free(got);
        pn_audio_free(t), pn_audio_free(raw);
        reference_free(&r);
    }
}

/* Quantised as it loads: near, not equal. Widths that are no multiple of 32 stay as they are. */
static void quantised_weights(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        reference r;
        reference_read(&r, models[m]);
        pn_audio *t = load_with(models[m], "", &(pn_load_options){.repack = true, .quantize = PN_Q8_0});
        assert_true(pn_audio_quantised(t));
        const item *c = item_named(&r, "other");
        float *got = encode(t, c->samples, c->n);
        double e = max_error(got, c->rows.v, c->rows.n);
        print_message("%-17s Q8_0: rows %.1e\n", models[m], e);
        assert_true(e < 0.2 && e > r.tolerance);
        free(got);
        pn_audio_free(t);
        reference_free(&r);
    }
}

#if PN_HAVE_SPEEXDSP
static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return ab / sqrt(aa * bb);
}

/* The reference resamples with another filter: samples near, rows in the same direction. */
static void a_file_at_another_rate(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    char path[PATH_ROOM];
    reference r;
    reference_read(&r, "audio-spark");
    pn_audio *t = load_tower("audio-spark", "");
    pn_sound *sound;
    data_path(path, r.model, r.file);
    OK(pn_sound_wav_path(&sound, path, NULL, NULL, &e), e);
    assert_int_equal(pn_sound_count(sound), r.file_samples.n);
    const double off = max_error(pn_sound_samples(sound), r.file_samples.v, r.file_samples.n);
    float *own = encode(t, pn_sound_samples(sound), r.file_samples.n), *theirs = encode(t, r.file_samples.v, r.file_samples.n);
    double least = 1;
    for (size_t i = 0; i < r.file_rows.dim[0]; i++)
        least = fmin(least, cosine(own + i * TEXT_WIDTH, r.file_rows.v + i * TEXT_WIDTH, TEXT_WIDTH));
    print_message("44100 to 24000: samples %.1e, rows' least cosine 1 - %.1e; from the reference's samples %.1e\n", off, 1 - least,
                  max_error(theirs, r.file_rows.v, r.file_rows.n));
    assert_true(off < 1e-3);
    assert_true(least > 0.9999);
    assert_true(max_error(theirs, r.file_rows.v, r.file_rows.n) <= r.tolerance);
    free(own), free(theirs);
    pn_sound_free(sound);
    pn_audio_free(t);
    reference_free(&r);
}
#else
static void a_file_at_another_rate(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parity),
        cmocka_unit_test(raw_weights),
        cmocka_unit_test(quantised_weights),
        cmocka_unit_test(a_file_at_another_rate),
    };
    return cmocka_run_group_tests_name("audio: parity", tests, NULL, NULL);
}
