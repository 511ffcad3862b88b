/* From a JPEG to patches, beside libjpeg-turbo alone on the same file: best of N, one thread, its own processor time.
 *   pictures FILE.jpg [N] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jpeglib.h>

#include "tensor/tensor.h"
#include "vision/image.h"

static double best[5];
static uint64_t since;

static uint64_t used_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void lap(int what)
{
    const uint64_t now = used_us();
    const double ms = (double)(now - since) / 1000;
    if (best[what] == 0 || ms < best[what]) best[what] = ms;
    since = used_us();
}

static void turbo(const unsigned char *p, size_t n)
{
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    c.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&c);
    jpeg_mem_src(&c, p, n);
    jpeg_read_header(&c, TRUE);
    jpeg_start_decompress(&c);
    unsigned char *pixels = malloc((size_t)c.output_width * c.output_height * 3);
    while (pixels && c.output_scanline < c.output_height) {
        unsigned char *row = pixels + (size_t)c.output_scanline * c.output_width * 3;
        jpeg_read_scanlines(&c, &row, 1);
    }
    jpeg_finish_decompress(&c);
    jpeg_destroy_decompress(&c);
    free(pixels);
}

static void whole(const unsigned char *p, size_t n, bool last)
{
    const pn_grid_rule rule = {14, 2, 4096};
    const float half[3] = {0.5f, 0.5f, 0.5f};
    pn_image *im;
    pn_resize *r;
    pn_grid g;
    pn_pixel_scale scale;
    since = used_us();
    if (pn_image_from_memory(&im, p, n, NULL, NULL, NULL)) exit(2);
    lap(1);
    if (pn_grid_pick(&rule, pn_image_width(im), pn_image_height(im), &g, NULL)) exit(2);
    if (pn_resize_new(&r, im, g.cols * 28, g.rows * 28, pn_cpu_flags(), NULL, NULL)) exit(2);
    for (uint32_t phase = 0; phase < PN_RESIZE_PHASES; phase++) {
        for (uint32_t i = 0; i < pn_resize_tiles(r, phase); i++) pn_resize_tile(r, phase, i);
        lap(2 + (int)phase);
    }
    pn_pixel_scale_init(&scale, half, half);
    const uint8_t *frames[2] = {pn_resize_pixels(r), pn_resize_pixels(r)};
    float *out = malloc((size_t)112 * 1176 * sizeof *out);
    for (uint32_t at = 0; out && at < g.rows * g.cols * 4; at += 112) /* as a tower takes them: some at a time */
        pn_patches(out, frames, 2, 14, g.cols * 2, &scale, at, PN_MIN(at + 112, g.rows * g.cols * 4));
    lap(4);
    if (last) printf("%u x %u pixels to %u x %u cells\n", pn_image_width(im), pn_image_height(im), g.cols, g.rows);
    free(out);
    pn_resize_free(r);
    pn_image_free(im);
}

int main(int argc, char **argv)
{
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    const int rounds = argc > 2 ? atoi(argv[2]) : 10;
    unsigned char *p = malloc(64 << 20);
    const size_t n = f && p ? fread(p, 1, 64 << 20, f) : 0;
    if (!n) return 2;
    for (int i = 0; i < rounds; i++) {
        since = used_us();
        turbo(p, n);
        lap(0);
        whole(p, n, i + 1 == rounds);
    }
    const double rest = best[2] + best[3] + best[4];
    printf("libjpeg-turbo alone %.1f ms; decode with hash %.1f; across %.1f, down %.1f, patches %.1f\n", best[0], best[1], best[2], best[3],
           best[4]);
    printf("JPEG to patches %.1f ms = %.2f x libjpeg-turbo alone; resizing and patches %.2f x\n", best[1] + rest, (best[1] + rest) / best[0],
           rest / best[0]);
    return 0;
}
