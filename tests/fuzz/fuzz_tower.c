/* A vision tower from hostile bytes: a GGUF projector, or config.json up to the first zero byte and safetensors behind it. What
 * loads encodes pictures of one and of six cells. */
#include <stdlib.h>

#include "open.h"
#include "vision/vision.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 8, MOST_BYTES = 16 << 20, MOST_LAYERS = 8 };

static void encode(const pn_tower *t, pn_grid grid)
{
    const pn_tower_info *d = pn_tower_about(t);
    pn_kernels k;
    pn_encode *e;
    const size_t n = (size_t)grid.rows * grid.cols * d->merge * d->merge, values = pn_tower_patch_values(d);
    if (pn_encode_bytes(d, pn_tower_quantised(t), grid, 1) > MOST_BYTES || n * values * sizeof(float) > MOST_BYTES || d->layers > MOST_LAYERS) return;
    float *patches = calloc(n * values, sizeof *patches), *rows = calloc((size_t)grid.rows * grid.cols * d->out, sizeof *rows);
    pn_kernels_init(&k, pn_cpu_flags());
    pn_encode_input in = {.grid = grid, .patches = patches};
    if (pn_encode_new(&e, t, &in, rows, &k, 1, NULL, NULL) != PONDER_OK) abort(); /* the two frames are the same */
    const pn_work *w = pn_encode_work(e);
    for (uint32_t op = 0; op < w->n_ops; op = w->next(w->self, op)) {
        const uint32_t tiles = w->enter(w->self, op);
        for (uint32_t i = 0; i < tiles; i++) w->tile(w->self, op, i, 0);
    }
    pn_encode_free(e);
    free(patches);
    free(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_checkpoint *c = open_any(data, size);
    if (!c) return 0;
    static pn_tower_info d;
    bool found;
    pn_tower *t = NULL;
    pn_load_plan plan = {0};
    const pn_load_options o = {.repack = size % 2, .quantize = -1};
    ponder_status s = pn_tower_describe(&d, &found, c, size % 3 ? "muse-glimmer" : "muse-spark", WIDTH, NULL);
    if (s == PONDER_OK && found) s = pn_tower_plan(&plan, c, &d, &o, NULL);
    if (s == PONDER_OK && found && pn_tower_load(&t, c, size % 3 ? "muse-glimmer" : "muse-spark", WIDTH, &o, NULL, NULL) != PONDER_OK) abort();
    pn_checkpoint_free(c);
    if (t) {
        encode(t, (pn_grid){1, 1});
        encode(t, (pn_grid){2, 3});
    }
    pn_tower_free(t);
    return 0;
}
