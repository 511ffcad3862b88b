#include <stdlib.h>

#include "vision/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t sum_of(const pn_image *im)
{
    uint8_t sum = 0;
    const size_t n = (size_t)pn_image_width(im) * pn_image_height(im) * 3;
    for (size_t i = 0; i < n; i++) sum = (uint8_t)(sum + pn_image_pixels(im)[i]);
    return sum;
}

/* A small picture on its way to patches. */
static void use(pn_image *im)
{
    const pn_grid_rule rule = {14, 2, 4};
    pn_grid g;
    pn_resize *r;
    if (pn_grid_pick(&rule, pn_image_width(im), pn_image_height(im), &g, NULL)) abort();
    if (g.rows > 64 || g.cols > 64) return;
    if (pn_resize_new(&r, im, g.cols * 28, g.rows * 28, 0, NULL, NULL)) return;
    pn_resize_run(r);
    pn_resize_free(r);
}

/* ---- checksums: a mutated PNG would end at the first wrong one ------------------------------------------------------------- */

static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void mend(uint8_t *p, size_t n)
{
    for (size_t at = 8; at + 12 <= n;) {
        const size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (length > n - at - 12) return;
        const uint32_t crc = crc_of(p + at + 4, length + 4);
        for (int i = 0; i < 4; i++) p[at + 8 + length + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + length;
    }
}

/* Both ways to see it: one must succeed when the other does, with the same size. */
static void see(const uint8_t *data, size_t size)
{
    pn_image *white, *drop;
    ponder_error e = {.size = sizeof e};
    const pn_image_options as_white = {PN_ALPHA_WHITE, 1 << 20}, as_drop = {PN_ALPHA_DROP, 1 << 20};
    const ponder_status first = pn_image_from_memory(&white, data, size, &as_white, NULL, &e);
    if (first != pn_image_from_memory(&drop, data, size, &as_drop, NULL, &e)) abort();
    if ((first == PONDER_OK) != (white != NULL) || (first == PONDER_OK) != (drop != NULL)) abort();
    if (first == PONDER_OK) {
        if (pn_image_width(white) != pn_image_width(drop) || pn_image_height(white) != pn_image_height(drop)) abort();
        volatile uint8_t sink = sum_of(white) ^ sum_of(drop);
        (void)sink;
        use(white);
    }
    pn_image_free(white);
    pn_image_free(drop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    see(data, size);
    if (size < 8 || data[0] != 0x89) return 0;
    uint8_t *mended = malloc(size);
    if (!mended) return 0;
    memcpy(mended, data, size);
    mend(mended, size);
    see(mended, size);
    free(mended);
    return 0;
}
