/* Stored references of audio towers, towers in both containers, and streams through them, for the tests of this room. */
#ifndef TOWER_RIG_H
#define TOWER_RIG_H

#include <jansson.h>

#include "../decoder/npy.h"
#include "audio/encode.h"
#include "make.h"

enum { PATH_ROOM = 512, MAX_CASES = 16, TEXT_WIDTH = 64 };
static const char *const models[] = {"audio-spark", "audio-spark-bf16"};
static const char *const files[] = {"", "mmproj.gguf"};

static inline void data_path(char path[PATH_ROOM], const char *name, const char *file)
{
    int n = snprintf(path, PATH_ROOM, "%s/%s%s%s", getenv("PONDER_TEST_DATA"), name, *file ? "/" : "", file);
    assert_true(n > 0 && n < PATH_ROOM);
}

static inline npy stored(const char *model, const char *file)
{
    char path[PATH_ROOM];
    data_path(path, model, file);
    npy a = npy_read(path);
    if (!a.v) fail_msg("%s: not there", path);
    return a;
}

/* ---- what is stored ------------------------------------------------------------------- */

typedef struct item {
    char name[32];
    float *samples;
    size_t n;
    npy rows;
} item;

typedef struct reference {
    const char *model;
    double tolerance;
    uint32_t n;
    item item[MAX_CASES];
    char file[32];            /* a WAV file, what the reference resamples it to, and the rows of that; empty: none */
    npy file_samples, file_rows;
} reference;

static inline const char *text_of(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }

/* A piece of the wave, perhaps backwards, perhaps quieter. */
static inline void item_read(item *c, const char *model, const npy *wave, const json_t *o)
{
    const size_t from = (size_t)json_integer_value(json_object_get(o, "from"));
    const float divided = (float)json_integer_value(json_object_get(o, "divided"));
    snprintf(c->name, sizeof c->name, "%s", text_of(o, "name"));
    c->n = (size_t)json_integer_value(json_object_get(o, "n"));
    assert_true(c->n > 0 && from + c->n <= wave->n);
    c->samples = malloc(c->n * sizeof *c->samples);
    for (size_t i = 0; i < c->n; i++) {
        const size_t at = json_is_true(json_object_get(o, "backwards")) ? c->n - 1 - i : i;
        c->samples[i] = wave->v[from + at] / (divided > 0 ? divided : 1);
    }
    c->rows = stored(model, text_of(o, "rows"));
    assert_true(c->rows.n_dims == 2 && c->rows.dim[1] == TEXT_WIDTH);
}

static inline void reference_read(reference *r, const char *model)
{
    char path[PATH_ROOM];
    *r = (reference){.model = model};
    data_path(path, model, "audio.json");
    json_t *o = json_load_file(path, 0, NULL), *c;
    assert_non_null(o);
    r->tolerance = json_number_value(json_object_get(o, "tolerance"));
    assert_true(r->tolerance > 0 && r->tolerance <= 3e-4);
    npy wave = stored(model, text_of(o, "wave"));
    size_t i;
    assert_true(json_array_size(json_object_get(o, "cases")) <= MAX_CASES);
    json_array_foreach(json_object_get(o, "cases"), i, c) item_read(&r->item[r->n++], model, &wave, c);
    assert_true(r->n >= 9); /* as many as are stored */
    const json_t *file = json_object_get(o, "resampled");
    if (file) {
        snprintf(r->file, sizeof r->file, "%s", text_of(file, "file"));
        r->file_samples = stored(model, text_of(file, "samples"));
        r->file_rows = stored(model, text_of(file, "rows"));
    }
    free(wave.v);
    json_decref(o);
}

static inline void reference_free(reference *r)
{
    for (uint32_t i = 0; i < r->n; i++) free(r->item[i].samples), free(r->item[i].rows.v);
    free(r->file_samples.v);
    free(r->file_rows.v);
}

static inline item *item_named(reference *r, const char *name)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (!strcmp(r->item[i].name, name)) return &r->item[i];
    fail_msg("%s: no case %s", r->model, name);
    return NULL;
}

/* Not finite counts as infinitely far: a comparison with NaN must not pass. */
static inline double max_error(const float *got, const float *want, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)got[i] - (double)want[i]);
        if (!(e <= most)) most = isfinite(e) ? e : INFINITY;
    }
    return most;
}

static inline void same_bits(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got))
            fail_msg("%s: row %zu, value %zu: %a and %a", what, i / TEXT_WIDTH, i % TEXT_WIDTH, (double)got[i], (double)want[i]);
}

/* ---- towers --------------------------------------------------------------------------------- */

static inline pn_checkpoint *open_model(const char *model, const char *file)
{
    ponder_error err = {.size = sizeof err};
    char path[PATH_ROOM];
    pn_checkpoint *c;
    data_path(path, model, file);
    OK(pn_checkpoint_open(&c, path, NULL, &err), err);
    return c;
}

static inline pn_audio *load_with(const char *model, const char *file, const pn_load_options *o)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c = open_model(model, file);
    pn_audio *t;
    OK(pn_audio_load(&t, c, "muse-spark", TEXT_WIDTH, o, NULL, &err), err);
    assert_non_null(t);
    pn_checkpoint_free(c);
    return t;
}

/* file: "" the folder, or "mmproj.gguf" */
static inline pn_audio *load_tower(const char *model, const char *file)
{
    return load_with(model, file, &(pn_load_options){.repack = true, .quantize = -1});
}

/* ---- rows ------------------------------------------------------------------------------------- */

/* The stream's next n rows, by one thread. */
static inline void next_rows(pn_audio_stream *s, uint32_t n, float *rows, const pn_kernels *k)
{
    ponder_error err = {.size = sizeof err};
    pn_audio_encode *e;
    OK(pn_audio_encode_new(&e, s, n, rows, k, 1, NULL, &err), err);
    const pn_work *w = pn_audio_encode_work(e);
    for (uint32_t op = 0; op < w->n_ops; op = w->next(w->self, op)) {
        uint32_t tiles = w->enter(w->self, op);
        for (uint32_t t = 0; t < tiles; t++) w->tile(w->self, op, t, 0);
    }
    assert_int_equal(pn_audio_encode_done(e), n);
    pn_audio_encode_free(e);
}

static inline pn_audio_stream *stream_of(const pn_audio *t, const float *samples, size_t n)
{
    ponder_error err = {.size = sizeof err};
    const uint32_t rate = pn_audio_about(t)->rate;
    pn_sound *sound;
    pn_audio_stream *s;
    OK(pn_sound_raw(&sound, samples, n, 1, rate, &(pn_sound_options){.rate = rate}, NULL, &err), err);
    OK(pn_audio_stream_of(&s, t, sound, NULL, &err), err);
    pn_sound_free(sound);
    return s;
}

/* All rows of the samples in one piece, released with free(). */
static inline float *encode_with(const pn_audio *t, const float *samples, size_t n, const pn_kernels *k)
{
    pn_audio_stream *s = stream_of(t, samples, n);
    const uint32_t rows = (uint32_t)pn_audio_stream_ready(s);
    assert_int_equal(rows, (n + pn_audio_about(t)->samples - 1) / pn_audio_about(t)->samples);
    float *to = calloc((size_t)rows * pn_audio_about(t)->out, sizeof *to);
    next_rows(s, rows, to, k);
    pn_audio_stream_free(s);
    return to;
}

static inline pn_kernels usual_kernels(void)
{
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    return k;
}

static inline float *encode(const pn_audio *t, const float *samples, size_t n)
{
    const pn_kernels k = usual_kernels();
    return encode_with(t, samples, n, &k);
}

#endif
