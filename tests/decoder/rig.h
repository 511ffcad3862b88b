/* Stored references, checkpoints in their variants, engines and networks over them, for the tests of this room. */
#ifndef RIG_H
#define RIG_H

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/engine.h"
#include "files/checkpoint.h"
#include "npy.h"

enum { MAX_IDS = 512, MAX_MODELS = 64, PATH_ROOM = 512 };

#define OK(call, err) \
    do { if ((call) != PONDER_OK) fail_msg("%s:%d: %s", __FILE__, __LINE__, (err).text); } while (0)

static inline void data_path(char path[PATH_ROOM], const char *name, const char *file)
{
    int n = snprintf(path, PATH_ROOM, "%s/%s%s%s", getenv("PONDER_TEST_DATA"), name, *file ? "/" : "", file);
    assert_true(n > 0 && n < PATH_ROOM);
}

static inline bool data_exists(const char *name, const char *file)
{
    char path[PATH_ROOM];
    data_path(path, name, file);
    return access(path, R_OK) == 0;
}

/* ---- what is stored ------------------------------------------------------------------- */

typedef struct reference {
    char name[64];
    int32_t ids[MAX_IDS], greedy[MAX_IDS]; /* greedy: the prompt, then what follows */
    uint32_t n, n_prompt, n_greedy;        /* n_greedy: with the prompt */
    uint32_t hidden_layer[8], n_hidden;
    double tolerance;
    npy logits, hidden;
} reference;

static inline uint32_t read_ids(const json_t *o, const char *key, int32_t *to)
{
    const json_t *a = json_object_get(o, key);
    uint32_t n = (uint32_t)json_array_size(a);
    assert_true(n > 0 && n <= MAX_IDS);
    for (uint32_t i = 0; i < n; i++) to[i] = (int32_t)json_integer_value(json_array_get(a, i));
    return n;
}

static inline void reference_read(reference *r, const char *name)
{
    char path[PATH_ROOM];
    int32_t layers[MAX_IDS], more[MAX_IDS];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    data_path(path, name, "ids.json");
    json_t *o = json_load_file(path, 0, NULL);
    assert_non_null(o);
    r->n = read_ids(o, "ids", r->ids);
    r->n_prompt = read_ids(o, "greedy_prompt", r->greedy);
    uint32_t n_more = read_ids(o, "greedy", more);
    assert_true(r->n_prompt + n_more <= MAX_IDS);
    memcpy(r->greedy + r->n_prompt, more, n_more * sizeof *more);
    r->n_greedy = r->n_prompt + n_more;
    r->n_hidden = read_ids(o, "hidden_layers", layers);
    assert_true(r->n_hidden <= PN_COUNT(r->hidden_layer));
    for (uint32_t i = 0; i < r->n_hidden; i++) r->hidden_layer[i] = (uint32_t)layers[i];
    r->tolerance = json_number_value(json_object_get(o, "tolerance"));
    assert_true(r->tolerance > 0 && r->tolerance <= 1e-3);
    if (!strncmp(name, "muse", 4)) assert_true(r->tolerance <= 3e-4);
    json_decref(o);
    data_path(path, name, "logits.npy");
    r->logits = npy_read(path);
    assert_true(r->logits.v && r->logits.n_dims == 2 && r->logits.dim[0] == r->n);
    data_path(path, name, "hidden.npy");
    r->hidden = npy_read(path);
    assert_true(r->hidden.v && r->hidden.n_dims == 3 && r->hidden.dim[0] == r->n_hidden && r->hidden.dim[1] == r->n);
}

static inline void reference_free(reference *r)
{
    free(r->logits.v);
    free(r->hidden.v);
}

/* Every way in which a stored model can be opened: "llama" as a folder, as a GGUF, with another config. */
typedef struct variant {
    char name[64], file[32];  /* file: "" the folder, "model.gguf", or the config that stands in for config.json */
} variant;

static inline int by_name(const void *a, const void *b) { return strcmp(a, b); }

static inline uint32_t find_variants(variant *v)
{
    static const char *const files[] = {"config.json", "model.gguf", "config.v4.json", "config.short.json"};
    char path[PATH_ROOM];
    uint32_t n = 0;
    data_path(path, "", "");
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || !data_exists(e->d_name, "ids.json")) continue;
        for (size_t i = 0; i < PN_COUNT(files); i++) {
            if (!data_exists(e->d_name, files[i])) continue;
            assert_true(n < MAX_MODELS && strlen(e->d_name) < sizeof v->name);
            memcpy(v[n].name, e->d_name, strlen(e->d_name) + 1);
            snprintf(v[n].file, sizeof v->file, "%s", i ? files[i] : "");
            n++;
        }
    }
    closedir(d);
    qsort(v, n, sizeof *v, by_name);
    assert_true(n >= 31); /* as many as are stored: none may silently go missing */
    return n;
}

static inline bool is_gguf(const variant *v) { return !strcmp(v->file, "model.gguf"); }
static inline bool is_mixed(const variant *v) { return strstr(v->name, "-mixed") != NULL; }

/* ---- networks --------------------------------------------------------------------------- */

static inline pn_checkpoint *open_variant(const variant *v)
{
    ponder_error err = {.size = sizeof err};
    char path[PATH_ROOM];
    pn_checkpoint *c = NULL;
    if (!v->file[0] || is_gguf(v)) {
        data_path(path, v->name, v->file);
        OK(pn_checkpoint_open(&c, path, NULL, &err), err);
        return c;
    }
    pn_source *config, *weights;
    data_path(path, v->name, v->file);
    OK(pn_source_path(&config, path, NULL, &err), err);
    data_path(path, v->name, "model.safetensors");
    OK(pn_source_path(&weights, path, NULL, &err), err);
    OK(pn_folder_open_sources(&c, config, weights, NULL, &err), err);
    return c;
}

static inline pn_network *load(pn_checkpoint *c, bool repack, int32_t quantize)
{
    ponder_error err = {.size = sizeof err};
    pn_load_options o = {.repack = repack, .quantize = quantize};
    pn_network *n;
    OK(pn_network_load(&n, c, &o, NULL, &err), err);
    return n;
}

static inline pn_network *load_variant(const variant *v) { return load(open_variant(v), true, -1); }

static inline pn_network *load_named(const char *name, const char *file)
{
    variant v;
    snprintf(v.name, sizeof v.name, "%s", name);
    snprintf(v.file, sizeof v.file, "%s", file);
    return load_variant(&v);
}

/* ---- engines ------------------------------------------------------------------------------ */

static inline pn_engine *engine_over(const pn_network *n, pn_kv_type kv, uint32_t cpu)
{
    ponder_error err = {.size = sizeof err};
    pn_engine_options o = {.threads = 1, .cpu = cpu, .columns = 192, .chunk = 32, .sequences = 2, .kv = kv};
    pn_team *t;
    pn_engine *e;
    OK(pn_team_new(&t, 1, NULL, NULL, &err), err);
    OK(pn_engine_new(&e, n, &o, t, NULL, &err), err);
    return e;
}

static inline pn_sequence *sequence_of(pn_engine *e, const int32_t *ids, uint32_t n)
{
    ponder_error err = {.size = sizeof err};
    pn_sequence *s;
    OK(pn_sequence_new(&s, e, MAX_IDS, &err), err);
    OK(pn_sequence_append(s, ids, n, &err), err);
    return s;
}

/* Logits at every position, in one pass (released with free()). */
static inline float *all_logits(const pn_network *n, pn_kv_type kv, uint32_t cpu, const int32_t *ids, uint32_t count)
{
    ponder_error err = {.size = sizeof err};
    pn_engine *e = engine_over(n, kv, cpu);
    pn_sequence *s = sequence_of(e, ids, count);
    float *to = calloc((size_t)count * n->d.vocab, sizeof *to);
    OK(pn_sequence_compute(s, &(pn_outputs){.logits = to}, &err), err);
    pn_sequence_free(s);
    pn_engine_free(e);
    return to;
}

/* The same, one token a step. */
static inline float *logits_by_token(const pn_network *n, pn_kv_type kv, uint32_t cpu, const int32_t *ids, uint32_t count)
{
    ponder_error err = {.size = sizeof err};
    pn_engine *e = engine_over(n, kv, cpu);
    pn_sequence *s = sequence_of(e, ids, 1);
    const size_t vocab = n->d.vocab;
    float *to = calloc(count * vocab, sizeof *to);
    for (uint32_t i = 0; i < count; i++) {
        OK(pn_sequence_advance(s, 0, &err), err);
        memcpy(to + i * vocab, pn_sequence_logits(s), vocab * sizeof *to);
        if (i + 1 < count) OK(pn_sequence_append(s, ids + i + 1, 1, &err), err);
    }
    pn_sequence_free(s);
    pn_engine_free(e);
    return to;
}

/* ---- comparing ------------------------------------------------------------------------------ */

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

static inline double max_magnitude(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static inline void same_bits(const float *got, const float *want, size_t n, size_t vocab, const char *model, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s, %s: position %zu, logit %zu: %a and %a", model, what, i / vocab, i % vocab, (double)got[i], (double)want[i]);
}

static inline uint32_t arg_max(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static inline double log_sum_exp(const float *x, uint32_t n)
{
    double sum = 0, top = x[arg_max(x, n)];
    for (uint32_t i = 0; i < n; i++) sum += exp(x[i] - top);
    return top + log(sum);
}

/* Mean over positions of KL(want || got). */
static inline double mean_kl(const float *got, const float *want, uint32_t positions, uint32_t vocab)
{
    double sum = 0;
    for (uint32_t p = 0; p < positions; p++, got += vocab, want += vocab) {
        double zg = log_sum_exp(got, vocab), zw = log_sum_exp(want, vocab);
        for (uint32_t i = 0; i < vocab; i++) sum += exp(want[i] - zw) * ((want[i] - zw) - (got[i] - zg));
    }
    return sum / positions;
}

/* ---- other weights in a loaded network -------------------------------------------------------- */

/* Memory that lives until the test is done with the network. */
typedef struct arena {
    uint8_t *p;
    size_t at, bytes;
} arena;

static inline void *take(arena *a, size_t bytes)
{
    if (!a->p) {
        a->bytes = 16 << 20;
        a->p = aligned_alloc(64, a->bytes);
        a->at = 0;
    }
    assert_true(a->p && a->bytes - a->at >= bytes + 64);
    void *p = a->p + a->at;
    a->at += (bytes + 63) / 64 * 64;
    return p;
}

static inline void arena_free(arena *a)
{
    free(a->p);
    *a = (arena){0};
}

/* [batch][rows][k] */
static inline float *weight_floats(arena *a, const pn_weight *w)
{
    const size_t rows = w->first.rows, k = w->first.k;
    float *x = take(a, w->batch * rows * k * sizeof *x);
    for (uint32_t e = 0; e < w->batch; e++) {
        pn_matrix m = pn_weight_pin(w, e);
        for (uint32_t r = 0; r < rows; r++) pn_matrix_row(&m, r, x + (e * rows + r) * k);
        pn_weight_unpin(w, e);
    }
    return x;
}

/* The weight becomes F32 with these values. */
static inline void set_weight(arena *a, pn_weight *w, const float *x)
{
    const uint32_t rows = w->first.rows, panels = (rows + PN_PANEL - 1) / PN_PANEL;
    const size_t k = w->first.k, panel = pn_panel_bytes(PN_F32, k);
    uint8_t *to = take(a, panel * panels * w->batch);
    for (uint32_t e = 0; e < w->batch; e++)
        for (uint32_t p = 0; p < panels; p++)
            pn_pack_panel(PN_F32, x + (e * (size_t)rows + p * PN_PANEL) * k, k * sizeof *x, PN_MIN(rows - p * PN_PANEL, (uint32_t)PN_PANEL), k,
                          to + (e * (size_t)panels + p) * panel);
    w->first = (pn_matrix){.type = PN_F32, .rows = rows, .k = k, .packed = to};
    w->packed_stride = panel * panels;
}

static inline pn_weight **weights_of(pn_network *n, uint32_t layer, pn_weight *list[16])
{
    pn_layer *l = &n->layers[layer];
    pn_weight *all[] = {&l->q, &l->k, &l->v, &l->g, &l->o, &l->gate, &l->up, &l->down, &l->router, &l->latent_down, &l->latent_up,
                        &l->experts_gate, &l->experts_up, &l->experts_down, NULL};
    memcpy(list, all, sizeof all);
    return list;
}

/* Every block format becomes the floats it means: F32 arithmetic over dequantised weights. */
static inline void dequantize_network(arena *a, pn_network *n)
{
    pn_weight *list[16], *ends[] = {&n->embed, &n->head};
    for (size_t i = 0; i < 2; i++)
        if (ends[i]->batch && !pn_type_is_float(ends[i]->first.type)) set_weight(a, ends[i], weight_floats(a, ends[i]));
    for (uint32_t l = 0; l < n->d.layers; l++)
        for (pn_weight **w = weights_of(n, l, list); *w; w++)
            if ((*w)->batch && !pn_type_is_float((*w)->first.type)) set_weight(a, *w, weight_floats(a, *w));
}

#endif
