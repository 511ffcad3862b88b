/* A drafter from hostile bytes: a GGUF, or config.json up to the first zero byte and safetensors behind it. What loads drafts a block
 * for a target of zeros. */
#include <stdlib.h>

#include "decoder/decoder.h"
#include "open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WIDTH = 8, VOCAB = 4, LAYERS = 3, MOST_BYTES = 16 << 20, PAGES = PN_MAX_BLOCK / PN_KEYS + 1 };

static void draft(const pn_network *n)
{
    const pn_limits limits = {.columns = n->d.block, .outputs = n->d.block - 1, .runs = 1, .threads = 1};
    static const int32_t id = 1;
    uint8_t *pages[PAGES] = {0};
    pn_kernels k;
    pn_kv_layout kv;
    pn_program *p;
    if (pn_program_bytes(&n->d, &limits, 0, NULL, 0) > MOST_BYTES) return;
    pn_kernels_init(&k, pn_cpu_flags());
    pn_kv_layout_init(&kv, &n->d, PN_KV_F16);
    for (int i = 0; i < PAGES; i++) pages[i] = aligned_alloc(64, (kv.page_bytes[PN_DRAFTER] + 63) / 64 * 64);
    pn_run r = {.ids = &id, .pos = 5, .n = n->d.block, .from = 5, .n_out = n->d.block - 1, .pages = {[PN_DRAFTER] = pages}};
    if (pn_program_new(&p, n, &k, &kv, &limits, NULL, NULL) != PONDER_OK) abort();
    pn_program_begin(p, &r, 1);
    pn_work w = pn_program_work(p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        const uint32_t tiles = w.enter(w.self, op);
        for (uint32_t i = 0; i < tiles; i++) w.tile(w.self, op, i, 0);
    }
    for (uint32_t i = 0; i < r.n_out; i++) {
        int32_t picked;
        float probability;
        pn_program_pick(p, i, &picked, &probability);
        if (picked < 0 || picked >= VOCAB || !(probability >= 0 && probability <= 1)) abort();
    }
    pn_program_free(p);
    for (int i = 0; i < PAGES; i++) free(pages[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float table[WIDTH * VOCAB];
    static pn_network n;
    pn_checkpoint *c = open_any(data, size);
    const pn_load_options o = {.repack = size % 2, .quantize = -1};
    if (!c) return 0;
    n = (pn_network){.d = {.layers = LAYERS, .width = WIDTH, .vocab = VOCAB, .embed_scale = 1}};
    n.embed = (pn_weight){.first = {.type = PN_F32, .rows = VOCAB, .k = WIDTH, .raw = table, .row_stride = WIDTH * sizeof *table}, .batch = 1};
    if (pn_network_load_drafter(&n, c, &o, NULL) != PONDER_OK) return 0;
    draft(n.drafter);
    pn_network_free(n.drafter);
    return 0;
}
