/* Files of every kind against the reference's pixels, and damaged or hostile files. */
#include "made.h"

#include <pthread.h>
#include <unistd.h>

#include "vision/image_internal.h"

static ponder_error e = {.size = sizeof e};

/* ---- the list of pictures: file, way to see it, size, where its pixels lie -------------------------------------------------- */

typedef struct picture {
    char name[64], mode[8];
    uint32_t width, height;
    size_t at;
} picture;

static picture list[200];
static size_t n_list;
static uint8_t *pixels;

static int read_list(void **state)
{
    (void)state;
    size_t n;
    char *text = (char *)data_file("pictures.txt", &n), *at = text, *line;
    while ((line = next_line(&at))) {
        picture *p = &list[n_list++];
        assert_true(n_list <= PN_COUNT(list));
        assert_int_equal(sscanf(line, "%63s %7s %u %u %zu", p->name, p->mode, &p->width, &p->height, &p->at), 5);
    }
    free(text);
    pixels = data_file("pictures.rgb", &n);
    assert_true(n_list > 100);
    return 0;
}

static int drop_list(void **state)
{
    (void)state;
    free(pixels);
    return 0;
}

static bool is_png(const char *name) { return strstr(name, ".png") != NULL; }
static bool readable(const char *name) { return is_png(name) ? PN_HAVE_PNG : PN_HAVE_JPEG; }
static const char *library_of(const char *name) { return is_png(name) ? "libpng" : "libjpeg-turbo"; }

static uint8_t *file_of(const char *name, size_t *n)
{
    char path[80];
    snprintf(path, sizeof path, "pictures/%.60s", name);
    return data_file(path, n);
}

static ponder_status load(pn_image **im, const void *p, size_t n, const char *mode, const ponder_alloc *a)
{
    const pn_image_options o = {.alpha = !strcmp(mode, "drop") ? PN_ALPHA_DROP : PN_ALPHA_WHITE};
    *im = (pn_image *)(uintptr_t)1;
    ponder_status st = pn_image_from_memory(im, p, n, &o, a, &e);
    if (st) assert_null(*im);
    return st;
}

/* ---- as the reference ------------------------------------------------------------------------------------------------------- */

static void test_pixels(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i++) {
        const picture *p = &list[i];
        size_t n;
        pn_image *im;
        uint8_t *file = file_of(p->name, &n);
        ponder_status st = load(&im, file, n, p->mode, NULL);
        if (!readable(p->name)) {
            assert_int_equal(st, PONDER_E_UNSUPPORTED);
            assert_non_null(strstr(e.text, library_of(p->name)));
        } else {
            if (st) fail_msg("%s: %s", p->name, e.text);
            if (pn_image_width(im) != p->width || pn_image_height(im) != p->height) fail_msg("%s: other size", p->name);
            if (memcmp(pn_image_pixels(im), pixels + p->at, (size_t)p->width * p->height * 3)) fail_msg("%s %s: other pixels", p->name, p->mode);
            pn_image_free(im);
        }
        free(file);
    }
}

/* By path, from memory and as a view: one hash. */
static void test_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i++) {
        const picture *p = &list[i];
        char name[80];
        pn_image *by_path, *by_view;
        const pn_image_options o = {.alpha = !strcmp(p->mode, "drop") ? PN_ALPHA_DROP : PN_ALPHA_WHITE};
        const pn_image_view v = {.pixels = pixels + p->at, .width = p->width, .height = p->height, .format = PN_PIXELS_RGB};
        if (!readable(p->name)) continue;
        snprintf(name, sizeof name, "pictures/%s", p->name);
        assert_int_equal(pn_image_from_path(&by_path, data_path(name), &o, NULL, &e), PONDER_OK);
        assert_int_equal(pn_image_from_view(&by_view, &v, NULL, NULL, &e), PONDER_OK);
        assert_true(pn_image_hash(by_path) == pn_image_hash(by_view));
        pn_image_free(by_path);
        pn_image_free(by_view);
    }
}

static void test_bytes_behind(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i++) {
        size_t n;
        pn_image *im;
        uint8_t *file = file_of(list[i].name, &n), *more = malloc(n + 100);
        memcpy(more, file, n);
        memset(more + n, 0xff, 100);
        if (readable(list[i].name)) {
            assert_int_equal(load(&im, more, n + 100, list[i].mode, NULL), PONDER_OK);
            assert_memory_equal(pn_image_pixels(im), pixels + list[i].at, (size_t)list[i].width * list[i].height * 3);
            pn_image_free(im);
        }
        free(more);
        free(file);
    }
}

/* ---- damaged ------------------------------------------------------------------------------------------------------------------ */

/* Cut at every length; in memory of exactly that length, so that a sanitizer sees one byte too many. */
static void test_cut_short(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i += 2) {
        size_t n;
        uint8_t *file = file_of(list[i].name, &n);
        for (size_t cut = 0; cut < n && readable(list[i].name); cut++) {
            uint8_t *part = malloc(cut ? cut : 1);
            pn_image *im;
            memcpy(part, file, cut);
            const ponder_status st = load(&im, part, cut, list[i].mode, NULL);
            if (st != PONDER_E_FORMAT) fail_msg("%s cut to %zu of %zu bytes: status %d", list[i].name, cut, n, (int)st);
            free(part);
        }
        free(file);
    }
}

/* Every byte of a PNG is covered by a mark, a length or a checksum. */
static void test_wrong_checksum(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i += 7) {
        size_t n;
        pn_image *im;
        uint8_t *file = file_of(list[i].name, &n);
        for (size_t at = 0; at < n && is_png(list[i].name) && PN_HAVE_PNG; at++) {
            file[at] ^= 0x10;
            if (load(&im, file, n, list[i].mode, NULL) == PONDER_OK) fail_msg("%s: byte %zu of %zu does not matter", list[i].name, at, n);
            file[at] ^= 0x10;
        }
        free(file);
    }
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* A PNG that says it is w x h, with a right checksum. */
static ponder_status claim_png(uint32_t w, uint32_t h, uint64_t limit, size_t *most)
{
    size_t n;
    counter c;
    pn_image *im;
    uint8_t *file = file_of("rgb8.png", &n);
    const pn_image_options o = {.max_pixels = limit};
    put32(file + 16, w);
    put32(file + 20, h);
    put32(file + 29, crc32_of(file + 12, 17));
    counter_init(&c, 0, false);
    ponder_status st = pn_image_from_memory(&im, file, n, &o, &c.a, &e);
    pn_image_free(im);
    assert_int_equal(c.live, 0);
    *most = c.most;
    free(file);
    return st;
}

static void test_png_sizes(void **state)
{
    (void)state;
    size_t most;
    if (!PN_HAVE_PNG) skip();
    const uint32_t bombs[][2] = {{65535, 65535}, {0x7fffffff, 0x7fffffff}, {0xffffffff, 0xffffffff}, {8193, 16384}, {1 << 21, 1}};
    for (size_t i = 0; i < PN_COUNT(bombs); i++) {
        assert_int_equal(claim_png(bombs[i][0], bombs[i][1], 0, &most), PONDER_E_RANGE);
        assert_non_null(strstr(e.text, "limit") ? strstr(e.text, "limit") : strstr(e.text, "longer"));
        assert_true(most < 1000); /* looked at before anything else */
    }
    assert_int_equal(claim_png(0, 5, 0, &most), PONDER_E_FORMAT);
    assert_int_equal(claim_png(5, 0, 0, &most), PONDER_E_FORMAT);
    assert_int_equal(claim_png(13, 11, 13 * 11, &most), PONDER_OK);
    assert_int_equal(claim_png(13, 11, 13 * 11 - 1, &most), PONDER_E_RANGE);
    assert_int_equal(claim_png(13, 12, 0, &most), PONDER_E_FORMAT); /* one row too few */
}

static void test_large(void **state)
{
    (void)state;
    pn_image *im;
    if (!PN_HAVE_PNG) skip();
    assert_int_equal(pn_image_from_path(&im, data_path("large.png"), NULL, NULL, &e), PONDER_OK);
    assert_int_equal(pn_image_width(im), 8192);
    assert_int_equal(pn_image_height(im), 8192);
    pn_image_free(im);
}

/* Where the frame header (SOF0..SOF2) of a JPEG lies. */
static size_t frame_header(const uint8_t *p, size_t n)
{
    size_t at = 2;
    while (at + 4 < n && (p[at + 1] < 0xc0 || p[at + 1] > 0xc2)) at += 2 + (size_t)(p[at + 2] << 8 | p[at + 3]);
    return at;
}

static void test_jpeg_sizes(void **state)
{
    (void)state;
    if (!PN_HAVE_JPEG) skip();
    const uint16_t sides[][2] = {{65535, 65535}, {65500, 65500}, {0, 30}, {30, 0}};
    const char *names[] = {"420.jpg", "420-progressive.jpg", "cmyk.jpg"};
    for (size_t i = 0; i < PN_COUNT(sides) * PN_COUNT(names); i++) {
        size_t n;
        counter c;
        pn_image *im;
        uint8_t *file = file_of(names[i % 3], &n), *p = file + frame_header(file, n);
        for (int k = 0; k < 4; k++) p[5 + k] = (uint8_t)(sides[i / 3][k / 2] >> (k % 2 ? 0 : 8));
        counter_init(&c, 0, false);
        const ponder_status st = load(&im, file, n, "white", &c.a);
        assert_int_equal(st, sides[i / 3][0] && sides[i / 3][1] ? PONDER_E_RANGE : PONDER_E_FORMAT);
        assert_int_equal(c.calls, 0);
        free(file);
    }
}

/* libjpeg reads a memory limit from the environment; the host's environment is none of our business. */
static void test_environment(void **state)
{
    (void)state;
    size_t n;
    pn_image *im;
    if (!PN_HAVE_JPEG) skip();
    uint8_t *file = file_of("tall-progressive.jpg", &n);
    assert_int_equal(setenv("JPEGMEM", "1", 1), 0);
    const ponder_status st = load(&im, file, n, "white", NULL);
    assert_int_equal(unsetenv("JPEGMEM"), 0);
    if (st) fail_msg("%s", e.text);
    pn_image_free(im);
    free(file);
}

/* A picture sent in hundreds of passes: refused, not sat through. */
static void test_many_passes(void **state)
{
    (void)state;
    size_t n, last = 0, size = 2;
    pn_image *im;
    if (!PN_HAVE_JPEG) skip();
    uint8_t *file = file_of("420-progressive.jpg", &n);
    for (size_t i = 0; i + 1 < n; i++)
        if (file[i] == 0xff && file[i + 1] == 0xda) last = i;
    const size_t scan = n - 2 - last;
    uint8_t *many = malloc(n + 300 * scan);
    memcpy(many, file, size = n - 2);
    for (int i = 0; i < 300; i++, size += scan) memcpy(many + size, file + last, scan);
    memcpy(many + size, "\xff\xd9", 2);
    assert_int_equal(load(&im, many, size + 2, "white", NULL), PONDER_E_RANGE);
    assert_non_null(strstr(e.text, "passes"));
    free(many);
    free(file);
}

static void test_other_formats(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t n; const char *name; } others[] = {
        {"GIF89a........", 14, "GIF"}, {"RIFF....WEBPVP8 ", 16, "WebP"}, {"BM............", 14, "BMP"}, {"II*\0........", 12, "TIFF"},
        {"....ftypheic....", 16, "HEIC"}, {"....ftypavif....", 16, "AVIF"}, {"%PDF-1.7", 8, "PDF"}, {"<svg ", 5, "SVG"},
        {"hello, this is text", 19, "neither PNG nor JPEG"}, {"\0", 1, "neither PNG nor JPEG"},
    };
    pn_image *im;
    for (size_t i = 0; i < PN_COUNT(others); i++) {
        assert_int_equal(load(&im, others[i].bytes, others[i].n, "white", NULL), PONDER_E_UNSUPPORTED);
        if (!strstr(e.text, others[i].name)) fail_msg("%s: %s", others[i].name, e.text);
    }
    assert_int_equal(load(&im, "", 0, "white", NULL), PONDER_E_FORMAT);
    assert_int_equal(load(&im, NULL, 0, "white", NULL), PONDER_E_FORMAT);
    assert_int_equal(load(&im, NULL, 5, "white", NULL), PONDER_E_ARGUMENT);
}

static void test_paths(void **state)
{
    (void)state;
    pn_image *im;
    assert_int_equal(pn_image_from_path(&im, "/no/such/picture.png", NULL, NULL, &e), PONDER_E_IO);
    assert_non_null(strstr(e.text, "/no/such/picture.png"));
    assert_null(im);
    assert_int_equal(pn_image_from_path(&im, data_path("pictures"), NULL, NULL, &e), PONDER_E_IO);
    assert_int_equal(pn_image_from_path(&im, "/dev/zero", NULL, NULL, &e), PONDER_E_IO);
    assert_int_equal(pn_image_from_path(&im, NULL, NULL, NULL, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_image_from_path(&im, data_path("pictures.txt"), NULL, NULL, &e), PONDER_E_UNSUPPORTED);
}

/* ---- EXIF ---------------------------------------------------------------------------------------------------------------------- */

/* The block in a JPEG of one segment, in memory of exactly that length. */
static uint32_t orientation(const void *tiff, size_t n)
{
    uint8_t *p = malloc(n + 12);
    memcpy(p, "\xff\xd8\xff\xe1..Exif\0\0", 12);
    p[4] = (uint8_t)((n + 8) >> 8);
    p[5] = (uint8_t)(n + 8);
    memcpy(p + 12, tiff, n);
    const uint32_t v = pn_orientation_of_jpeg(p, n + 12);
    free(p);
    return v;
}

static void test_exif(void **state)
{
    (void)state;
    uint8_t little[] = "II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0";
    const uint8_t big[] = "MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\0\x01\0\0\0\0\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0";
    assert_int_equal(orientation(little, 26), 6);
    assert_int_equal(orientation(big, 38), 8);
    for (size_t n = 0; n < 26; n++) assert_int_equal(orientation(little, n), n < 22 ? 1 : 6);
    for (int v = 0; v < 256; v++) {
        little[18] = (uint8_t)v;
        assert_int_equal(orientation(little, 26), v >= 1 && v <= 8 ? v : 1);
    }
    little[18] = 6;
    little[14] = 2; /* two values */
    assert_int_equal(orientation(little, 26), 1);
    little[14] = 1;
    little[12] = 2; /* text */
    assert_int_equal(orientation(little, 26), 1);
    little[12] = 3;
    memset(little + 8, 0xff, 2); /* 65535 entries */
    assert_int_equal(orientation(little, 26), 6);
    memset(little + 4, 0xff, 4); /* a directory 4 GB away */
    assert_int_equal(orientation(little, 26), 1);
    memcpy(little + 4, "\x19\0\0\0", 4); /* half outside */
    assert_int_equal(orientation(little, 26), 1);
}

/* ---- memory and stack ------------------------------------------------------------------------------------------------------------ */

/* Every allocation fails in turn, alone and with all that follow it. */
static void fail_each(const char *name, const char *mode)
{
    size_t n, rounds = 0;
    uint8_t *file = file_of(name, &n);
    for (int onwards = 0; onwards < 2 && readable(name); onwards++) {
        for (bool done = false; !done;) {
            counter c;
            pn_image *im;
            counter_init(&c, ++rounds, onwards);
            const ponder_status st = load(&im, file, n, mode, &c.a);
            done = c.calls < c.fail_at;
            if (st != (done ? PONDER_OK : PONDER_E_NOMEM)) fail_msg("%s, allocation %zu: %d, %s", name, rounds, (int)st, e.text);
            pn_image_free(im);
            assert_int_equal(c.live, 0);
        }
        assert_true(rounds > 1);
        rounds = 0;
    }
    free(file);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_list; i++) fail_each(list[i].name, list[i].mode);
    counter c;
    pn_image *im = made_picture(0, 20, 20, 0, NULL), *out;
    for (size_t at = 1; at < 40; at++) {
        pn_buf b;
        counter_init(&c, at, false);
        pn_buf_init(&b, &c.a);
        const ponder_status st = pn_image_to_png(im, &b, &e);
        if (PN_HAVE_PNG) assert_int_equal(st, c.calls < at ? PONDER_OK : PONDER_E_NOMEM);
        pn_buf_free(&b);
        assert_int_equal(c.live, 0);
    }
    pn_image_free(im);
    counter_init(&c, 2, false);
    im = made_picture(0, 20, 20, 0, &c.a);
    assert_int_equal(pn_image_crop(&out, im, 0, 0, 5, 5, &e), PONDER_E_NOMEM);
    assert_null(out);
    pn_image_free(im);
}

static void *all_pictures(void *bad)
{
    for (size_t i = 0; i < n_list; i++) {
        size_t n;
        pn_image *im;
        uint8_t *file = file_of(list[i].name, &n);
        *(size_t *)bad += (load(&im, file, n, list[i].mode, NULL) == PONDER_OK) != readable(list[i].name);
        pn_image_free(im);
        free(file);
    }
    return bad;
}

/* 64 KB of stack are enough (a sanitizer's frames are larger than that). */
static void test_small_stack(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__)
    skip();
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#endif
    size_t bad = 0;
    pthread_t thread;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attr, all_pictures, &bad), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pixels), cmocka_unit_test(test_ways), cmocka_unit_test(test_bytes_behind), cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_wrong_checksum), cmocka_unit_test(test_png_sizes), cmocka_unit_test(test_large),
        cmocka_unit_test(test_jpeg_sizes), cmocka_unit_test(test_environment), cmocka_unit_test(test_many_passes), cmocka_unit_test(test_other_formats),
        cmocka_unit_test(test_paths), cmocka_unit_test(test_exif), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_small_stack),
    };
    return cmocka_run_group_tests(tests, read_list, drop_list);
}
