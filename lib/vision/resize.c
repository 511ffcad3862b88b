#include "vision/resize.h"

#include <math.h>

#include "vision/image.h"

/* The reference resamples 8-bit pictures in integers (it follows Pillow-SIMD, not Pillow, whose weights have 22 bits and
 * which differs by one level now and then): weights in double, divided by their sum, then rounded to 16 bits with as many
 * binary places as the largest weight of the axis allows. Sums are exact, so neither CPU nor tile can change a pixel. */
struct pn_resize {
    const ponder_alloc *a;
    pn_image *im;
    size_t bytes;               /* of this block */
    uint32_t width, height;
    pn_axis x, y;               /* n 0: that side stays as it is */
    pn_resize_kernels k;
    uint32_t tile_rows[PN_RESIZE_PHASES];
    uint8_t *across;            /* [source height][width][3], slack behind: between the phases */
    uint8_t *out;               /* [height][width][3] */
    double weights[];           /* one output's, while the axes are made; then the tables */
};

/* ---- weights of one axis ------------------------------------------------------------------------------------------ */

/* sin(pi x) / (pi x), for 0 <= x < 3: ours, because the C library picks variants by CPU. */
static double sinc(double x)
{
    if (x == 0) return 1;
    const double pi = 3.14159265358979323846, n = floor(x + 0.5), r = (x - n) * pi, z = r * r;
    double p = -1.0 / 51090942171709440000.0; /* -1/21!: the first term left out is below 2e-18 at pi/2 */
    p = p * z + 1.0 / 121645100408832000.0;
    p = p * z - 1.0 / 355687428096000.0;
    p = p * z + 1.0 / 1307674368000.0;
    p = p * z - 1.0 / 6227020800.0;
    p = p * z + 1.0 / 39916800.0;
    p = p * z - 1.0 / 362880.0;
    p = p * z + 1.0 / 5040.0;
    p = p * z - 1.0 / 120.0;
    p = p * z + 1.0 / 6.0;
    const double s = r - r * z * p;
    return (n == 1 || n == 3 ? -s : s) / (pi * x);
}

static double lanczos3(double x)
{
    x = fabs(x);
    return x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

typedef struct reach { double scale, support; uint32_t most; } reach; /* most: taps of an output */

static reach reach_of(uint32_t from, uint32_t to)
{
    reach r = {.scale = (double)from / to};
    r.support = r.scale >= 1 ? 3 * r.scale : 3;
    r.most = 2 * (uint32_t)ceil(r.support) + 1;
    return r;
}

/* Weights of output i into `w`; returns the largest. */
static double weigh(const reach *r, uint32_t from, uint32_t i, uint32_t *first, uint32_t *count, double *w)
{
    const double center = r->scale * (i + 0.5), inverse = r->scale >= 1 ? 1 / r->scale : 1;
    const int64_t low = (int64_t)(center - r->support + 0.5), high = (int64_t)(center + r->support + 0.5);
    const int64_t start = PN_MAX(low, 0), n = PN_MIN(PN_MIN(high, (int64_t)from) - start, (int64_t)r->most);
    double sum = 0, largest = 0;
    *first = (uint32_t)start;
    *count = n > 0 ? (uint32_t)n : 0;
    for (uint32_t k = 0; k < *count; k++) sum += w[k] = lanczos3(((double)(k + start) - center + 0.5) * inverse);
    for (uint32_t k = 0; k < *count && sum != 0; k++) {
        w[k] /= sum;
        largest = PN_MAX(largest, w[k]);
    }
    return largest;
}

/* As many binary places as keep the largest weight within 16 bits, at most 22. */
static uint32_t places(double largest)
{
    uint32_t n = 0;
    while (n < 22 && 0.5 + largest * (double)(1 << (n + 1)) < 32768) n++;
    return n;
}

static void fill_axis(pn_axis *axis, uint32_t from, double *w)
{
    const reach r = reach_of(from, axis->n);
    double largest = 0;
    for (uint32_t i = 0; i < axis->n; i++) largest = PN_MAX(largest, weigh(&r, from, i, &axis->first[i], &axis->count[i], w));
    axis->shift = places(largest);
    const double one = (double)(1 << axis->shift);
    for (uint32_t i = 0; i < axis->n; i++) {
        int16_t *to = axis->w + (size_t)i * axis->taps;
        weigh(&r, from, i, &axis->first[i], &axis->count[i], w);
        for (uint32_t k = 0; k < axis->count[i]; k++) to[k] = (int16_t)(w[k] * one + (w[k] < 0 ? -0.5 : 0.5));
    }
}

/* ---- layout: one block ----------------------------------------------------------------------------------------------- */

typedef struct layout { size_t weights, first[2], count[2], w[2], across, out, bytes; uint32_t taps[2]; bool ok; } layout;

/* The next n * size bytes of the block. */
static size_t take(layout *l, size_t n, size_t size)
{
    const size_t at = l->bytes;
    size_t bytes;
    l->ok = l->ok && pn_mul(n, size, &bytes) && pn_add(bytes, 63, &bytes) && pn_add(l->bytes, bytes & ~(size_t)63, &l->bytes);
    return at;
}

static layout lay_out(const uint32_t from[2], const uint32_t to[2])
{
    layout l = {.ok = true, .bytes = sizeof(pn_resize)};
    uint32_t most = 0;
    for (int d = 0; d < 2; d++) {
        if (from[d] == to[d]) continue;
        l.taps[d] = (reach_of(from[d], to[d]).most + 3) & ~3u;
        most = PN_MAX(most, l.taps[d]);
    }
    l.weights = take(&l, most, sizeof(double));
    for (int d = 0; d < 2; d++) {
        if (from[d] == to[d]) continue;
        l.first[d] = take(&l, to[d], sizeof(uint32_t));
        l.count[d] = take(&l, to[d], sizeof(uint32_t));
        l.w[d] = take(&l, to[d], (size_t)l.taps[d] * sizeof(int16_t));
    }
    l.across = from[0] != to[0] ? take(&l, from[1], (size_t)to[0] * 3) : 0;
    l.out = from[1] != to[1] ? take(&l, to[1], (size_t)to[0] * 3) : 0;
    return l;
}

static void make_axis(pn_resize *r, pn_axis *axis, const layout *l, int d, uint32_t from, uint32_t to)
{
    uint8_t *base = (uint8_t *)r;
    if (from == to) return;
    *axis = (pn_axis){.n = to, .taps = l->taps[d], .first = (uint32_t *)(void *)(base + l->first[d]),
                      .count = (uint32_t *)(void *)(base + l->count[d]), .w = (int16_t *)(void *)(base + l->w[d])};
    memset(axis->w, 0, (size_t)to * axis->taps * sizeof *axis->w);
    fill_axis(axis, from, r->weights);
}

/* Rows a tile: about a quarter of a millisecond of the C kernels; in fours, which the fast kernels take at once. */
static uint32_t rows_a_tile(size_t row_bytes, uint32_t taps)
{
    const size_t products = row_bytes * taps, rows = products ? 400000 / products : 1;
    return rows < 4 ? 4 : (uint32_t)PN_MIN(rows, (size_t)1024) & ~3u;
}

size_t pn_resize_bytes(uint32_t from_width, uint32_t from_height, uint32_t width, uint32_t height)
{
    const uint32_t from[2] = {from_width, from_height}, to[2] = {width, height};
    const layout l = lay_out(from, to);
    return l.ok ? l.bytes : SIZE_MAX;
}

ponder_status pn_resize_new(pn_resize **out, pn_image *im, uint32_t width, uint32_t height, uint32_t cpu, const ponder_alloc *a,
                            ponder_error *err)
{
    const uint32_t from[2] = {pn_image_width(im), pn_image_height(im)}, to[2] = {width, height};
    *out = NULL;
    if (width == 0 || height == 0 || width > PN_IMAGE_MAX_SIDE || height > PN_IMAGE_MAX_SIDE)
        return pn_fail(err, PONDER_E_RANGE, "resizing to %u x %u pixels", width, height);
    const layout l = lay_out(from, to);
    pn_resize *r = l.ok ? pn_alloc(a, l.bytes) : NULL;
    if (!r) return pn_nomem(err, l.ok ? l.bytes : SIZE_MAX);
    *r = (pn_resize){.a = a, .im = pn_image_keep(im), .bytes = l.bytes, .width = width, .height = height};
    pn_resize_kernels_init(&r->k, cpu);
    make_axis(r, &r->x, &l, 0, from[0], width);
    make_axis(r, &r->y, &l, 1, from[1], height);
    r->across = r->x.n ? (uint8_t *)r + l.across : NULL;
    r->out = r->y.n ? (uint8_t *)r + l.out : NULL;
    r->tile_rows[0] = rows_a_tile((size_t)width * 3, r->x.taps);
    r->tile_rows[1] = rows_a_tile((size_t)width * 3, r->y.taps);
    *out = r;
    return PONDER_OK;
}

void pn_resize_free(pn_resize *r)
{
    if (!r) return;
    pn_image_free(r->im);
    pn_free(r->a, r, r->bytes);
}

/* ---- the work -------------------------------------------------------------------------------------------------------- */

static uint32_t phase_rows(const pn_resize *r, uint32_t phase)
{
    if (phase == 0) return r->x.n ? pn_image_height(r->im) : 0;
    return r->y.n;
}

uint32_t pn_resize_tiles(const pn_resize *r, uint32_t phase)
{
    const uint32_t rows = phase_rows(r, phase);
    return rows / r->tile_rows[phase] + (rows % r->tile_rows[phase] != 0);
}

static void down_row(pn_resize *r, uint32_t y)
{
    const size_t stride = (size_t)r->width * 3;
    const uint8_t *in = r->x.n ? r->across : pn_image_pixels(r->im);
    r->k.down(r->out + y * stride, in + r->y.first[y] * stride, stride, stride, r->y.w + (size_t)y * r->y.taps, r->y.count[y], r->y.shift);
}

void pn_resize_tile(pn_resize *r, uint32_t phase, uint32_t tile)
{
    const size_t in_stride = (size_t)pn_image_width(r->im) * 3, stride = (size_t)r->width * 3;
    const uint32_t rows = phase_rows(r, phase), from = tile * r->tile_rows[phase], n = PN_MIN(r->tile_rows[phase], rows - from);
    if (phase == 0) {
        r->k.across(r->across + from * stride, stride, pn_image_pixels(r->im) + from * in_stride, in_stride, n, &r->x);
        return;
    }
    for (uint32_t y = from; y < from + n; y++) down_row(r, y);
}

void pn_resize_run(pn_resize *r)
{
    for (uint32_t phase = 0; phase < PN_RESIZE_PHASES; phase++)
        for (uint32_t i = 0; i < pn_resize_tiles(r, phase); i++) pn_resize_tile(r, phase, i);
}

const uint8_t *pn_resize_pixels(const pn_resize *r)
{
    if (r->out) return r->out;
    return r->across ? r->across : pn_image_pixels(r->im);
}
