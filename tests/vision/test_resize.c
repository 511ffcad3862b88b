/* Grids, resampling and patches against the reference's own processor (tests/reference/make_images.py). */
#include "made.h"

#include "tensor/tensor.h"

static const pn_grid_rule image_rule = {14, 2, 4096}, frame_rule = {14, 2, 144};

/* ---- grids ---------------------------------------------------------------------------------------------------------- */

/* One CRC-32 for all widths of a height: every size there is, when every height is asked for. */
static void check_height(const pn_grid_rule *rule, uint32_t h, uint32_t expected)
{
    static uint16_t row[8192][2];
    for (uint32_t w = 1; w <= 8192; w++) {
        pn_grid g;
        assert_int_equal(pn_grid_pick(rule, w, h, &g, NULL), PONDER_OK);
        row[w - 1][0] = (uint16_t)g.rows;
        row[w - 1][1] = (uint16_t)g.cols;
    }
    if (crc32_of(row, sizeof row) != expected) fail_msg("a grid for height %u and at most %u cells differs", h, rule->max_cells);
}

static uint32_t get32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

/* A prime step, so that every remainder modulo the cell comes along. PONDER_TEST_ALL: all 2 x 67,108,864 sizes. */
static void test_every_size(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = data_file("grids.bin", &n);
    assert_int_equal(n, 2 * 8192 * 4);
    const uint32_t step = getenv("PONDER_TEST_ALL") ? 1 : 37;
    for (uint32_t h = 1; h <= 8192; h += step) {
        check_height(&image_rule, h, get32(p + 4 * (h - 1)));
        check_height(&frame_rule, h, get32(p + 4 * (8192 + h - 1)));
    }
    free(p);
}

static void test_other_rules(void **state)
{
    (void)state;
    size_t n, lines = 0;
    char *text = (char *)data_file("grids.txt", &n), *at = text, *line;
    while ((line = next_line(&at))) {
        uint32_t cell, limit, w, h, rows, cols;
        pn_grid g;
        assert_int_equal(sscanf(line, "%u %u %u %u %u %u", &cell, &limit, &w, &h, &rows, &cols), 6);
        const pn_grid_rule rule = {cell, 1, limit};
        assert_int_equal(pn_grid_pick(&rule, w, h, &g, NULL), PONDER_OK);
        if (g.rows != rows || g.cols != cols)
            fail_msg("%u x %u pixels, cell %u, limit %u: %u x %u, not %u x %u", w, h, cell, limit, g.rows, g.cols, rows, cols);
        lines++;
    }
    assert_true(lines > 500);
    free(text);
}

static void test_grid_refuses(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_grid g;
    assert_int_equal(pn_grid_pick(&image_rule, 0, 5, &g, &e), PONDER_E_RANGE);
    assert_int_equal(pn_grid_pick(&image_rule, 5, 0, &g, &e), PONDER_E_RANGE);
    assert_int_equal(pn_grid_pick(&image_rule, UINT32_MAX, UINT32_MAX, &g, &e), PONDER_E_RANGE);
    assert_int_equal(pn_grid_pick(&(pn_grid_rule){0, 2, 4096}, 5, 5, &g, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_grid_pick(&(pn_grid_rule){14, 2, 0}, 5, 5, &g, &e), PONDER_E_ARGUMENT);
}

/* ---- pixels and patches ------------------------------------------------------------------------------------------------ */

static pn_resize *resized(pn_image *im, uint32_t w, uint32_t h, uint32_t cpu)
{
    pn_resize *r;
    ponder_error e = {.size = sizeof e};
    if (pn_resize_new(&r, im, w, h, cpu, NULL, &e)) fail_msg("%s", e.text);
    pn_resize_run(r);
    return r;
}

/* How far apart, for a message. */
static void tell(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t differ = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t d = (size_t)abs(a[i] - b[i]);
        differ += d != 0;
        worst = d > worst ? d : worst;
    }
    printf("%zu of %zu samples differ, by %zu at most\n", differ, n, worst);
}

static uint32_t crc_of_patches(const uint8_t *const *frames, uint32_t n_frames, uint32_t width, uint32_t n)
{
    pn_pixel_scale scale;
    const float half[3] = {0.5f, 0.5f, 0.5f};
    const size_t size = (size_t)n_frames * 3 * 14 * 14;
    float *out = malloc(n * size * sizeof *out);
    assert_non_null(out);
    pn_pixel_scale_init(&scale, half, half);
    /* in two pieces: the order must not depend on how the work is cut */
    pn_patches(out, frames, n_frames, 14, width / 14, &scale, 0, n / 3);
    pn_patches(out + n / 3 * size, frames, n_frames, 14, width / 14, &scale, n / 3, n);
    const uint32_t crc = crc32_of(out, n * size * sizeof *out);
    free(out);
    return crc;
}

static const uint8_t *raw;

/* Patches once; pixels with and without the CPU's own code. */
static void check_line(const char *line, uint32_t cpu, bool with_patches)
{
    uint32_t limit, w, h, to_w, to_h, crc, patches;
    int kind;
    long at;
    pn_grid g;
    assert_int_equal(sscanf(line, "%u %d %u %u %u %u %u %u %ld", &limit, &kind, &w, &h, &to_w, &to_h, &crc, &patches, &at), 9);
    if (limit) { /* 0: the resampling alone */
        assert_int_equal(pn_grid_pick(&(pn_grid_rule){14, 2, limit}, w, h, &g, NULL), PONDER_OK);
        assert_int_equal(g.cols * 28, to_w);
        assert_int_equal(g.rows * 28, to_h);
    }
    pn_image *im = made_picture(kind, w, h, 0, NULL);
    pn_resize *r = resized(im, to_w, to_h, cpu);
    const size_t n = (size_t)to_w * to_h * 3;
    const uint8_t *pixels = pn_resize_pixels(r), *frames[2] = {pixels, pixels};
    if (at >= 0 && memcmp(pixels, raw + at, n) != 0) tell(pixels, raw + at, n);
    if (crc32_of(pixels, n) != crc) fail_msg("%s: other pixels (cpu %u)", line, cpu);
    if (limit && with_patches && crc_of_patches(frames, 2, to_w, g.rows * g.cols * 4) != patches) fail_msg("%s: other patches", line);
    pn_resize_free(r);
    pn_image_free(im);
}

static void test_as_the_reference(void **state)
{
    (void)state;
    size_t n, lines = 0;
    uint8_t *mine = data_file("resize.rgb", &n);
    raw = mine;
    for (int fast = 0; fast < 2; fast++) {
        char *text = (char *)data_file("resize.txt", &n), *at = text, *line;
        for (; (line = next_line(&at)); lines++) check_line(line, fast ? pn_cpu_flags() : 0, fast);
        free(text);
    }
    assert_true(lines > 200);
    free(mine);
}

/* Edge lengths that the grids above do not give: each level of the CPU must write the same bytes as the C code, and the
 * tiles, run backwards, the same as in a row. */
static void test_levels_and_tiles(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        const uint32_t w = 1 + i * 7919 % 97, h = 1 + i * 6271 % 61, to_w = 1 + i * 4127 % 83, to_h = 1 + i * 3989 % 71;
        pn_image *im = made_picture((int)(i % 3), w, h, 0, NULL);
        pn_resize *c = resized(im, to_w, to_h, 0), *fast = resized(im, to_w, to_h, pn_cpu_flags()), *back;
        assert_int_equal(pn_resize_new(&back, im, to_w, to_h, pn_cpu_flags(), NULL, NULL), PONDER_OK);
        for (uint32_t phase = 0; phase < PN_RESIZE_PHASES; phase++)
            for (uint32_t t = pn_resize_tiles(back, phase); t-- > 0;) pn_resize_tile(back, phase, t);
        const size_t n = (size_t)to_w * to_h * 3;
        if (memcmp(pn_resize_pixels(c), pn_resize_pixels(fast), n)) fail_msg("%ux%u to %ux%u: levels differ", w, h, to_w, to_h);
        if (memcmp(pn_resize_pixels(c), pn_resize_pixels(back), n)) fail_msg("%ux%u to %ux%u: tiles differ", w, h, to_w, to_h);
        pn_resize_free(c);
        pn_resize_free(fast);
        pn_resize_free(back);
        pn_image_free(im);
    }
}

/* A picture of one colour stays of that colour at every size: the weights of each output sum to one. */
static void test_plain_stays_plain(void **state)
{
    (void)state;
    uint8_t *p = malloc(3000 * 3);
    memset(p, 201, 3000 * 3);
    for (uint32_t from = 1; from < 3000; from = from * 3 / 2 + 1) {
        const pn_image_view v = {.pixels = p, .width = from, .height = 1, .format = PN_PIXELS_RGB};
        pn_image *im;
        assert_int_equal(pn_image_from_view(&im, &v, NULL, NULL, NULL), PONDER_OK);
        for (uint32_t to = 1; to < 200; to += 3) {
            pn_resize *r = resized(im, to, 3, pn_cpu_flags());
            for (uint32_t i = 0; i < to * 9; i++) assert_in_range(pn_resize_pixels(r)[i], 200, 202);
            pn_resize_free(r);
        }
        pn_image_free(im);
    }
    free(p);
}

static void test_resize_limits(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_resize *r;
    counter c;
    pn_image *im = made_picture(0, 50, 40, 0, NULL);
    assert_int_equal(pn_resize_new(&r, im, 0, 28, 0, NULL, &e), PONDER_E_RANGE);
    assert_null(r);
    assert_int_equal(pn_resize_new(&r, im, 28, PN_IMAGE_MAX_SIDE + 1, 0, NULL, &e), PONDER_E_RANGE);
    counter_init(&c, 0, false);
    assert_int_equal(pn_resize_new(&r, im, 28, 56, 0, &c.a, &e), PONDER_OK);
    assert_true(c.most <= pn_resize_bytes(50, 40, 28, 56));
    pn_image_free(im); /* the resizing keeps it */
    pn_resize_run(r);
    pn_resize_free(r);
    assert_int_equal(c.live, 0);
    im = made_picture(0, 50, 40, 0, NULL);
    counter_init(&c, 1, false);
    assert_int_equal(pn_resize_new(&r, im, 28, 28, 0, &c.a, &e), PONDER_E_NOMEM);
    assert_null(r);
    pn_image_free(im);
}

/* Nothing is copied when nothing changes. */
static void test_same_size(void **state)
{
    (void)state;
    pn_image *im = made_picture(0, 56, 28, 0, NULL);
    pn_resize *r = resized(im, 56, 28, 0);
    assert_ptr_equal(pn_resize_pixels(r), pn_image_pixels(im));
    assert_int_equal(pn_resize_tiles(r, 0) + pn_resize_tiles(r, 1), 0);
    pn_resize_free(r);
    pn_image_free(im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size), cmocka_unit_test(test_other_rules), cmocka_unit_test(test_grid_refuses),
        cmocka_unit_test(test_as_the_reference), cmocka_unit_test(test_levels_and_tiles), cmocka_unit_test(test_plain_stays_plain),
        cmocka_unit_test(test_resize_limits), cmocka_unit_test(test_same_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
