/* Pictures made by arithmetic, files of tests/data/vision, CRC-32, an allocator that counts and fails. */
#ifndef TEST_VISION_MADE_H
#define TEST_VISION_MADE_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "vision/image.h"

#define UNUSED __attribute__((unused))

/* A sample at (x, y) of channel c: noise, waves with a little noise, or hard edges. tests/reference/make_images.py has the same. */
static UNUSED uint8_t made_sample(int kind, uint32_t x, uint32_t y, uint32_t c)
{
    uint32_t n = x * 2654435761u + y * 2246822519u + c * 3266489917u;
    n ^= n >> 15;
    n *= 2246822519u;
    n ^= n >> 13;
    if (kind == 0) return (uint8_t)n;
    if (kind == 2) return ((x / 3 + y / 5) & 1) ? 255 : 0;
    uint32_t wave = (x * 2 + y + c * 60) & 511;
    if (wave > 255) wave = 511 - wave;
    return (uint8_t)((wave * 7 + (n & 255)) >> 3);
}

/* `add` goes to every sample (it wraps). */
static UNUSED pn_image *made_picture(int kind, uint32_t w, uint32_t h, uint8_t add, const ponder_alloc *a)
{
    uint8_t *p = malloc((size_t)w * h * 3);
    pn_image *im;
    ponder_error e = {.size = sizeof e};
    assert_non_null(p);
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < 3; c++) p[((size_t)y * w + x) * 3 + c] = (uint8_t)(made_sample(kind, x, y, c) + add);
    const pn_image_view v = {.pixels = p, .width = w, .height = h, .format = PN_PIXELS_RGB};
    if (pn_image_from_view(&im, &v, NULL, a, &e)) fail_msg("%s", e.text);
    free(p);
    return im;
}

static UNUSED uint32_t crc32_of(const void *p, size_t n)
{
    static uint32_t table[256];
    const uint8_t *b = p;
    uint32_t crc = ~0u;
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            table[i] = i;
            for (int k = 0; k < 8; k++) table[i] = (table[i] >> 1) ^ (table[i] & 1 ? 0xedb88320u : 0);
        }
    for (size_t i = 0; i < n; i++) crc = (crc >> 8) ^ table[(crc ^ b[i]) & 255];
    return ~crc;
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static UNUSED const char *data_path(const char *name)
{
    static char path[1024];
    const char *root = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/vision/%s", root ? root : "tests/data", name);
    return path;
}

/* The whole file, with a NUL behind it; the caller frees it. */
static UNUSED uint8_t *data_file(const char *name, size_t *n)
{
    FILE *f = fopen(data_path(name), "rb");
    if (!f) fail_msg("cannot open %s", data_path(name));
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    p[*n] = 0;
    return p;
}

/* The next line of `*text`, ended by NUL; NULL at the end. */
static UNUSED char *next_line(char **text)
{
    char *line = *text;
    if (!*line) return NULL;
    char *end = strchr(line, '\n');
    *text = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    return line;
}

static UNUSED double double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* ---- allocator: frees must name the size -------------------------------------------------------------------------------- */

typedef struct counter {
    ponder_alloc a;
    size_t calls, live, fail_at; /* fail_at 0: never */
    bool onwards;                /* all later ones fail too */
    size_t bytes, most;
} counter;

static void *counter_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    (void)align;
    c->calls++;
    if (c->fail_at && (c->calls == c->fail_at || (c->onwards && c->calls > c->fail_at))) return NULL;
    char *p = malloc(bytes + 64);
    if (!p) return NULL;
    memcpy(p, &bytes, sizeof bytes);
    c->live++;
    c->bytes += bytes;
    if (c->bytes > c->most) c->most = c->bytes;
    return p + 64;
}

static void counter_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    size_t had;
    if (!p) return;
    memcpy(&had, (char *)p - 64, sizeof had);
    if (had != bytes) fail_msg("freed with %zu bytes, allocated with %zu", bytes, had);
    c->live--;
    c->bytes -= bytes;
    free((char *)p - 64);
}

static UNUSED void counter_init(counter *c, size_t fail_at, bool onwards)
{
    *c = (counter){.fail_at = fail_at, .onwards = onwards};
    c->a = (ponder_alloc){.size = sizeof c->a, .user = c, .alloc = counter_alloc, .free = counter_free};
}

#endif
