/* Stored references of towers, towers in both containers, and encodings of them, for the tests of this room. */
#ifndef TOWER_RIG_H
#define TOWER_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "../decoder/npy.h"
#include "files/checkpoint.h"
#include "vision/encode.h"

#define OK(call, err) \
    do { if ((call) != PONDER_OK) fail_msg("%s:%d: %s", __FILE__, __LINE__, (err).text); } while (0)

enum { PATH_ROOM = 512, MAX_CASES = 40 };
static const char *const models[] = {"vision-glimmer", "vision-spark"};

static inline void data_path(char path[PATH_ROOM], const char *name, const char *file)
{
    int n = snprintf(path, PATH_ROOM, "%s/%s%s%s", getenv("PONDER_TEST_DATA"), name, *file ? "/" : "", file);
    assert_true(n > 0 && n < PATH_ROOM);
}

/* ---- what is stored ------------------------------------------------------------------- */

/* Bytes [height][width][3] as numpy writes them. */
typedef struct picture {
    uint32_t height, width;
    uint8_t *v;
} picture;

static inline picture picture_read(const char *path)
{
    picture p = {0};
    uint8_t head[10];
    char text[512] = "";
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_true(fread(head, 1, 10, f) == 10 && !memcmp(head, "\x93NUMPY\x01", 7));
    size_t length = head[8] | (size_t)head[9] << 8;
    assert_true(length < sizeof text && fread(text, 1, length, f) == length && strstr(text, "'|u1'") && strstr(text, "False"));
    assert_int_equal(sscanf(strchr(text, '('), "(%u, %u, 3)", &p.height, &p.width), 2);
    size_t n = (size_t)p.height * p.width * 3;
    p.v = malloc(n);
    assert_int_equal(fread(p.v, 1, n, f), n);
    fclose(f);
    return p;
}

typedef struct item {
    char name[32];
    pn_grid grid;
    uint32_t n_frames;        /* given: 1 for a picture */
    picture frame[2];
    npy rows;
} item;

typedef struct reference {
    const char *model;
    double tolerance;
    uint32_t n;
    item item[MAX_CASES];
} reference;

static inline void item_read(item *c, const char *model, const json_t *o)
{
    char path[PATH_ROOM], file[80];
    const json_t *frames = json_object_get(o, "frames"), *grid = json_object_get(o, "grid");
    snprintf(c->name, sizeof c->name, "%s", json_string_value(json_object_get(o, "name")));
    c->grid = (pn_grid){(uint32_t)json_integer_value(json_array_get(grid, 0)), (uint32_t)json_integer_value(json_array_get(grid, 1))};
    c->n_frames = (uint32_t)json_array_size(frames);
    assert_true(c->n_frames == 1 || c->n_frames == 2);
    for (uint32_t i = 0; i < c->n_frames; i++) {
        snprintf(file, sizeof file, "%s.image.npy", json_string_value(json_array_get(frames, i)));
        data_path(path, model, file);
        c->frame[i] = picture_read(path);
    }
    data_path(path, model, json_string_value(json_object_get(o, "rows")));
    c->rows = npy_read(path);
    assert_true(c->rows.v && c->rows.n_dims == 2 && c->rows.dim[0] == (size_t)c->grid.rows * c->grid.cols);
}

static inline void reference_read(reference *r, const char *model)
{
    char path[PATH_ROOM];
    *r = (reference){.model = model};
    data_path(path, model, "vision.json");
    json_t *o = json_load_file(path, 0, NULL), *c;
    assert_non_null(o);
    r->tolerance = json_number_value(json_object_get(o, "tolerance"));
    assert_true(r->tolerance > 0 && r->tolerance <= 3e-4);
    size_t i;
    assert_true(json_array_size(json_object_get(o, "cases")) <= MAX_CASES);
    json_array_foreach(json_object_get(o, "cases"), i, c) item_read(&r->item[r->n++], model, c);
    assert_true(r->n >= 14); /* as many as are stored */
    json_decref(o);
}

static inline void reference_free(reference *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        for (int k = 0; k < 2; k++) free(r->item[i].frame[k].v);
        free(r->item[i].rows.v);
    }
}

static inline item *item_named(reference *r, const char *name)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (!strcmp(r->item[i].name, name)) return &r->item[i];
    fail_msg("%s: no case %s", r->model, name);
    return NULL;
}

/* ---- towers --------------------------------------------------------------------------------- */

enum { TEXT_WIDTH = 64 };
static inline const char *text_arch(const char *model) { return strstr(model, "spark") ? "muse-spark" : "muse-glimmer"; }

static inline pn_checkpoint *open_model(const char *model, const char *file)
{
    ponder_error err = {.size = sizeof err};
    char path[PATH_ROOM];
    pn_checkpoint *c;
    data_path(path, model, file);
    OK(pn_checkpoint_open(&c, path, NULL, &err), err);
    return c;
}

static inline pn_tower *load_with(const char *model, const char *file, const pn_load_options *o)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c = open_model(model, file);
    pn_tower *t;
    OK(pn_tower_load(&t, c, text_arch(model), TEXT_WIDTH, o, NULL, &err), err);
    assert_non_null(t);
    pn_checkpoint_free(c);
    return t;
}

/* file: "" the folder, or "mmproj.gguf" */
static inline pn_tower *load_tower(const char *model, const char *file)
{
    return load_with(model, file, &(pn_load_options){.repack = true, .quantize = -1});
}

/* ---- encoding ---------------------------------------------------------------------------------- */

/* Pixels (v - 127.5) / 127.5, laid out (frame, channel, row, column), patches row by row. */
static inline float *patches_of(const pn_tower_info *d, const item *c)
{
    const uint32_t p = d->patch, h = c->grid.rows * d->merge, w = c->grid.cols * d->merge;
    assert_true(c->frame[0].height == h * p && c->frame[0].width == w * p);
    float *to = malloc((size_t)h * w * pn_tower_patch_values(d) * sizeof *to), *at = to;
    for (uint32_t i = 0; i < h * w; i++)
        for (uint32_t f = 0; f < d->frames; f++)
            for (uint32_t ch = 0; ch < 3; ch++)
                for (uint32_t y = i / w * p; y < (i / w + 1) * p; y++)
                    for (uint32_t x = i % w * p; x < (i % w + 1) * p; x++) {
                        const picture *im = &c->frame[f < c->n_frames ? f : 0];
                        *at++ = ((float)im->v[((size_t)y * im->width + x) * 3 + ch] - 127.5f) / 127.5f;
                    }
    return to;
}

/* Called after each operation, on the only thread. */
typedef void (*watch_fn)(pn_encode *e, uint32_t kind, void *ctx);

static inline void run(pn_encode *e, watch_fn watch, void *ctx)
{
    const pn_work *w = pn_encode_work(e);
    for (uint32_t op = 0; op < w->n_ops;) {
        uint32_t tiles = w->enter(w->self, op);
        for (uint32_t t = 0; t < tiles; t++) w->tile(w->self, op, t, 0);
        if (watch && tiles) watch(e, pn_encode_kind(op, e->d->layers), ctx);
        op = w->next(w->self, op);
    }
}

/* Rows of the case [cells][out], released with free(). */
static inline float *encode_with(const pn_tower *t, const item *c, const pn_kernels *k, watch_fn watch, void *ctx)
{
    ponder_error err = {.size = sizeof err};
    const pn_tower_info *d = pn_tower_about(t);
    float *patches = patches_of(d, c), *rows = calloc((size_t)c->grid.rows * c->grid.cols * d->out, sizeof *rows);
    pn_encode_input in = {.grid = c->grid, .patches = patches};
    pn_encode *e;
    OK(pn_encode_new(&e, t, &in, rows, k, 1, NULL, &err), err);
    run(e, watch, ctx);
    pn_encode_free(e);
    free(patches);
    return rows;
}

static inline float *encode(const pn_tower *t, const item *c)
{
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    return encode_with(t, c, &k, NULL, NULL);
}

/* A GGUF's weights have the two frames summed: pictures alone. */
static inline bool can_encode(const pn_tower *t, const item *c) { return c->n_frames == 1 || !pn_tower_about(t)->frames_summed; }

/* ---- comparing ------------------------------------------------------------------------------------ */

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

static inline void same_bits(const float *got, const float *want, const item *c, size_t width, const char *model, const char *what)
{
    const size_t n = (size_t)c->grid.rows * c->grid.cols * width;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s, %s, %s: row %zu, value %zu: %a and %a", model, c->name, what, i / width, i % width, (double)got[i], (double)want[i]);
}

#endif
