/* Pictures as objects: views, alpha, crops, hashes, places, outlines, PNG out. */
#include "made.h"

#include <math.h>
#include <pthread.h>

static ponder_error e = {.size = sizeof e};

static pn_image *from_view(const void *p, uint32_t w, uint32_t h, size_t stride, pn_pixels format, pn_alpha alpha)
{
    const pn_image_view v = {.pixels = p, .width = w, .height = h, .stride = stride, .format = format};
    const pn_image_options o = {.alpha = alpha};
    pn_image *im;
    if (pn_image_from_view(&im, &v, &o, NULL, &e)) fail_msg("%s", e.text);
    return im;
}

static void test_view(void **state)
{
    (void)state;
    const uint8_t close[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const uint8_t apart[16] = {1, 2, 3, 4, 5, 6, 99, 99, 7, 8, 9, 10, 11, 12, 99, 99};
    pn_image *a = from_view(close, 2, 2, 0, PN_PIXELS_RGB, PN_ALPHA_WHITE), *b = from_view(apart, 2, 2, 8, PN_PIXELS_RGB, PN_ALPHA_DROP);
    pn_image *wide = from_view(close, 4, 1, 0, PN_PIXELS_RGB, PN_ALPHA_WHITE);
    assert_memory_equal(pn_image_pixels(a), close, 12);
    assert_memory_equal(pn_image_pixels(b), close, 12);
    assert_int_equal(pn_image_width(b), 2);
    assert_int_equal(pn_image_height(b), 2);
    assert_true(pn_image_hash(a) == pn_image_hash(b));
    assert_true(pn_image_hash(a) != pn_image_hash(wide)); /* the same bytes in another shape */
    pn_image_free(a);
    pn_image_free(b);
    pn_image_free(wide);
    pn_image_free(NULL);
}

/* One row, the last row without its padding: not a byte behind it may be read (a sanitizer sees it). */
static void test_view_ends(void **state)
{
    (void)state;
    const size_t stride = 5 * 4 + 7, n = 2 * stride + 5 * 4;
    uint8_t *p = malloc(n);
    memset(p, 255, n);
    pn_image *im = from_view(p, 5, 3, stride, PN_PIXELS_RGBA, PN_ALPHA_WHITE);
    for (int i = 0; i < 45; i++) assert_int_equal(pn_image_pixels(im)[i], 255);
    pn_image_free(im);
    free(p);
}

static void refused(const pn_image_view *v, const pn_image_options *o, ponder_status expected)
{
    pn_image *im = (pn_image *)(uintptr_t)1;
    assert_int_equal(pn_image_from_view(&im, v, o, NULL, &e), expected);
    assert_null(im);
    assert_true(e.text[0] != 0);
}

static void test_view_refused(void **state)
{
    (void)state;
    const uint8_t p[64] = {0};
    refused(&(pn_image_view){NULL, 1, 1, 0, PN_PIXELS_RGB}, NULL, PONDER_E_ARGUMENT);
    refused(&(pn_image_view){p, 1, 1, 0, (pn_pixels)7}, NULL, PONDER_E_ARGUMENT);
    refused(&(pn_image_view){p, 2, 2, 5, PN_PIXELS_RGB}, NULL, PONDER_E_ARGUMENT);
    refused(&(pn_image_view){p, 0, 1, 0, PN_PIXELS_RGB}, NULL, PONDER_E_RANGE);
    refused(&(pn_image_view){p, 1, 0, 0, PN_PIXELS_RGB}, NULL, PONDER_E_RANGE);
    refused(&(pn_image_view){p, UINT32_MAX, UINT32_MAX, 0, PN_PIXELS_RGBA}, NULL, PONDER_E_RANGE);
    refused(&(pn_image_view){p, 65535, 65535, 0, PN_PIXELS_RGBA}, NULL, PONDER_E_RANGE);
    refused(&(pn_image_view){p, 3, 3, 0, PN_PIXELS_RGB}, &(pn_image_options){.max_pixels = 8}, PONDER_E_RANGE);
    assert_non_null(strstr(e.text, "3 x 3"));
}

/* Every sample on every alpha: the exact value, rounded. No tie exists, since 255 is odd. */
static void test_alpha(void **state)
{
    (void)state;
    static uint8_t p[256 * 256][4];
    for (uint32_t a = 0; a < 256; a++)
        for (uint32_t v = 0; v < 256; v++) memcpy(p[a * 256 + v], (uint8_t[4]){(uint8_t)v, (uint8_t)(255 - v), (uint8_t)(v / 2), (uint8_t)a}, 4);
    pn_image *white = from_view(p, 256, 256, 0, PN_PIXELS_RGBA, PN_ALPHA_WHITE), *drop = from_view(p, 256, 256, 0, PN_PIXELS_RGBA, PN_ALPHA_DROP);
    for (uint32_t i = 0; i < 65536; i++)
        for (uint32_t c = 0; c < 3; c++) {
            const uint32_t v = p[i][c], a = p[i][3], exact = v * a + 255 * (255 - a);
            assert_int_equal(pn_image_pixels(white)[i * 3 + c], (2 * exact + 255) / 510);
            assert_int_equal(pn_image_pixels(drop)[i * 3 + c], v);
        }
    pn_image_free(white);
    pn_image_free(drop);
}

static void test_crop(void **state)
{
    (void)state;
    pn_image *im = made_picture(0, 31, 17, 0, NULL), *part;
    assert_int_equal(pn_image_crop(&part, im, 5, 3, 20, 14, &e), PONDER_OK);
    for (uint32_t y = 0; y < 14; y++)
        for (uint32_t i = 0; i < 60; i++) assert_int_equal(pn_image_pixels(part)[y * 60 + i], pn_image_pixels(im)[((y + 3) * 31 + 5) * 3 + i]);
    pn_image_free(part);
    assert_int_equal(pn_image_crop(&part, im, 0, 0, 31, 17, &e), PONDER_OK);
    assert_true(pn_image_hash(part) == pn_image_hash(im));
    pn_image_free(part);
    const uint32_t wrong[][4] = {{0, 0, 0, 1}, {0, 0, 1, 0}, {31, 0, 1, 1}, {0, 17, 1, 1}, {30, 0, 2, 1}, {0, 0, 1, 18}, {1, 1, UINT32_MAX, 1}};
    for (size_t i = 0; i < PN_COUNT(wrong); i++) {
        assert_int_equal(pn_image_crop(&part, im, wrong[i][0], wrong[i][1], wrong[i][2], wrong[i][3], &e), PONDER_E_RANGE);
        assert_null(part);
    }
    pn_image_free(im);
}

/* One changed bit anywhere changes the hash; small pictures of all sizes differ. */
static void test_hash(void **state)
{
    (void)state;
    uint8_t p[5 * 3 * 3] = {0};
    pn_image *plain = from_view(p, 5, 3, 0, PN_PIXELS_RGB, PN_ALPHA_WHITE);
    for (uint32_t bit = 0; bit < sizeof p * 8; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        pn_image *im = from_view(p, 5, 3, 0, PN_PIXELS_RGB, PN_ALPHA_WHITE);
        assert_true(pn_image_hash(im) != pn_image_hash(plain));
        pn_image_free(im);
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    pn_image_free(plain);
}

/* ---- shared between threads ---------------------------------------------------------------------------------------------- */

static void *keep_and_free(void *im)
{
    for (int i = 0; i < 20000; i++) pn_image_free(pn_image_keep(im));
    pn_image_free(im);
    return NULL;
}

static void test_references(void **state)
{
    (void)state;
    counter c;
    pthread_t thread[4];
    counter_init(&c, 0, false);
    pn_image *im = made_picture(0, 9, 9, 0, &c.a);
    assert_int_equal(c.bytes, pn_image_bytes(im));
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, keep_and_free, pn_image_keep(im)), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    assert_int_equal(c.live, 1);
    pn_image_free(im);
    assert_int_equal(c.live, 0);
}

/* ---- places -------------------------------------------------------------------------------------------------------------- */

/* Every pixel edge of every side to 8192 comes back to itself, through fractions of the model's thousand; whole numbers of the
 * model come back within half a step of them. */
static void test_round_trip(void **state)
{
    (void)state;
    for (uint32_t side = 1; side <= 8192; side++) {
        const uint32_t step = side < 600 ? 1 : 1 + side / 97;
        for (uint32_t x = 0; x <= side; x += step) {
            const double model = pn_pixel_to_model(side, x);
            assert_true(model >= 0 && model <= 1000);
            assert_true(fabs(pn_model_to_pixel(side, model) - x) < 1e-9);
            assert_true(fabs(pn_model_to_pixel(side, floor(model + 0.5)) - x) <= side / 2000.0 + 1e-9);
        }
        assert_true(pn_model_to_pixel(side, 1000) == side);
    }
}

static void test_regions_round_trip(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200000; i++) {
        const uint32_t w = 1 + i * 2654435761u % 8192, h = 1 + i * 2246822519u % 8192;
        pn_region r = {.x = i * 7919u % w, .y = i * 6271u % h}, back;
        r.width = 1 + i * 104729u % (w - r.x);
        r.height = 1 + i * 15485863u % (h - r.y);
        const pn_box box = pn_region_to_box(w, h, &r);
        assert_true(pn_box_to_region(w, h, &box, &back));
        assert_memory_equal(&r, &back, sizeof r);
        /* and as a model would write it, in whole numbers: within a pixel while the side allows it */
        const pn_box whole = {floor(box.x_min + 0.5), floor(box.y_min + 0.5), floor(box.x_max + 0.5), floor(box.y_max + 0.5)};
        assert_true(pn_box_to_region(w, h, &whole, &back));
        assert_true(fabs((double)back.x - r.x) <= 1 + w / 2000.0);
        if (w <= 1000) assert_true(fabs((double)back.x + back.width - r.x - r.width) <= 1);
    }
}

static void test_box(void **state)
{
    (void)state;
    pn_region r;
    assert_true(pn_box_to_region(200, 100, &(pn_box){250, 100, 500, 900}, &r));
    assert_true(r.x == 50 && r.width == 50 && r.y == 10 && r.height == 80);
    assert_true(pn_box_to_region(200, 100, &(pn_box){500, 900, 250, 100}, &r)); /* corners the other way round */
    assert_true(r.x == 50 && r.width == 50 && r.y == 10 && r.height == 80);
    assert_true(pn_box_to_region(200, 100, &(pn_box){-50, -1e300, 2000, INFINITY}, &r));
    assert_true(r.x == 0 && r.width == 200 && r.y == 0 && r.height == 100);
    assert_true(pn_box_to_region(200, 100, &(pn_box){1000, 1000, 1000, 1000}, &r)); /* a point at the end: the last pixel */
    assert_true(r.x == 199 && r.width == 1 && r.y == 99 && r.height == 1);
    assert_true(pn_box_to_region(200, 100, &(pn_box){500, 500, 500, 500}, &r));
    assert_true(r.x == 100 && r.width == 1 && r.y == 50 && r.height == 1);
    assert_true(pn_box_to_region(200, 100, &(pn_box){5000, 5000, 6000, 6000}, &r));
    assert_true(r.x == 199 && r.width == 1 && r.y == 99 && r.height == 1);
    assert_false(pn_box_to_region(200, 100, &(pn_box){NAN, 0, 1, 1}, &r));
    assert_false(pn_box_to_region(200, 100, &(pn_box){0, 0, 1, NAN}, &r));
    assert_false(pn_box_to_region(0, 100, &(pn_box){0, 0, 1, 1}, &r));
    assert_false(pn_box_to_region(200, 100, &(pn_box){-INFINITY, 0, INFINITY, 1}, &r)); /* says nothing */
}

/* ---- outlines and PNG --------------------------------------------------------------------------------------------------- */

static void test_outline(void **state)
{
    (void)state;
    pn_image *im = made_picture(2, 40, 30, 0, NULL), *drawn;
    const pn_region regions[] = {{4, 5, 10, 8}, {39, 29, 1, 1}}, outside = {35, 0, 6, 2};
    size_t differ = 0;
    assert_int_equal(pn_image_outline(&drawn, im, &outside, 1, &e), PONDER_E_RANGE);
    assert_null(drawn);
    assert_int_equal(pn_image_outline(&drawn, im, regions, 2, &e), PONDER_OK);
    assert_true(pn_image_hash(drawn) != pn_image_hash(im));
    for (uint32_t i = 0; i < 40 * 30; i++) {
        const uint32_t x = i % 40, y = i / 40;
        const bool edge = (x >= 4 && x < 14 && y >= 5 && y < 13 && (x == 4 || x == 13 || y == 5 || y == 12)) || i == 40 * 30 - 1;
        const bool changed = memcmp(pn_image_pixels(drawn) + 3 * i, pn_image_pixels(im) + 3 * i, 3) != 0;
        if (changed != edge) fail_msg("pixel (%u, %u)", x, y);
        differ += changed;
    }
    assert_int_equal(differ, 2 * 10 + 2 * 6 + 1);
    pn_image_free(drawn);
    pn_image_free(im);
}

static void test_png_out(void **state)
{
    (void)state;
    const uint32_t sizes[][2] = {{1, 1}, {3, 200}, {333, 77}};
    for (size_t i = 0; i < PN_COUNT(sizes); i++) {
        pn_image *im = made_picture((int)i % 3, sizes[i][0], sizes[i][1], 0, NULL), *back;
        pn_buf b;
        pn_buf_init(&b, NULL);
        if (!PN_HAVE_PNG) {
            assert_int_equal(pn_image_to_png(im, &b, &e), PONDER_E_UNSUPPORTED);
            assert_non_null(strstr(e.text, "libpng"));
        } else {
            assert_int_equal(pn_image_to_png(im, &b, &e), PONDER_OK);
            assert_int_equal(pn_image_from_memory(&back, b.p, b.n, NULL, NULL, &e), PONDER_OK);
            assert_true(pn_image_hash(back) == pn_image_hash(im));
            pn_image_free(back);
        }
        pn_buf_free(&b);
        pn_image_free(im);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_view), cmocka_unit_test(test_view_ends), cmocka_unit_test(test_view_refused), cmocka_unit_test(test_alpha),
        cmocka_unit_test(test_crop), cmocka_unit_test(test_hash), cmocka_unit_test(test_references), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_regions_round_trip), cmocka_unit_test(test_box), cmocka_unit_test(test_outline),
        cmocka_unit_test(test_png_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
