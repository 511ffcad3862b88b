/* Frames of a video, their text and their patches, against the reference's own processor. */
#include "made.h"

#include "tensor/tensor.h"

static const pn_video_rule rule = {2.0, 96, 2};
static const pn_grid_rule frame_rule = {14, 2, 144};

static void check_frames(const char *line)
{
    uint32_t total, count, crc, indices[96];
    uint64_t fps;
    assert_int_equal(sscanf(line, "frames %u %" SCNu64 " %u %u", &total, &fps, &count, &crc), 4);
    const uint32_t n = pn_video_count(&rule, total, double_of(fps));
    if (n != count) fail_msg("%s: %u frames", line, n);
    for (uint32_t i = 0; i < n; i++) indices[i] = pn_video_index(total, n, i);
    if (crc32_of(indices, n * sizeof *indices) != crc) fail_msg("%s: other frames", line);
}

static void check_text(const char *line)
{
    uint64_t bits;
    int at;
    char text[PN_VIDEO_TEXT];
    assert_int_equal(sscanf(line, "text %" SCNu64 " %n", &bits, &at), 1);
    const size_t n = pn_video_text(text, double_of(bits));
    if (strcmp(text, line + at) != 0 || n != strlen(text)) fail_msg("%s: \"%s\"", line, text);
}

/* As a tower would take them: group by group, the frames of a group side by side. */
static void check_patches(const char *line)
{
    uint32_t count, w, h, crc;
    pn_grid g;
    pn_resize *frames[8];
    pn_pixel_scale scale;
    const float half[3] = {0.5f, 0.5f, 0.5f};
    assert_int_equal(sscanf(line, "patches %u %u %u %u", &count, &w, &h, &crc), 4);
    assert_int_equal(pn_grid_pick(&frame_rule, w, h, &g, NULL), PONDER_OK);
    for (uint32_t i = 0; i < count; i++) {
        pn_image *im = made_picture(1, w, h, (uint8_t)i, NULL);
        assert_int_equal(pn_resize_new(&frames[i], im, g.cols * 28, g.rows * 28, pn_cpu_flags(), NULL, NULL), PONDER_OK);
        pn_resize_run(frames[i]);
        pn_image_free(im);
    }
    pn_pixel_scale_init(&scale, half, half);
    const uint32_t n = g.rows * g.cols * 4, groups = pn_video_groups(&rule, count);
    float *out = malloc((size_t)groups * n * 1176 * sizeof *out);
    for (uint32_t i = 0; i < groups; i++) {
        const uint8_t *pair[2];
        for (uint32_t k = 0; k < 2; k++) pair[k] = pn_resize_pixels(frames[pn_video_frame(&rule, count, i, k)]);
        pn_patches(out + (size_t)i * n * 1176, pair, 2, 14, g.cols * 2, &scale, 0, n);
    }
    if (crc32_of(out, (size_t)groups * n * 1176 * sizeof *out) != crc) fail_msg("%s: other patches", line);
    for (uint32_t i = 0; i < count; i++) pn_resize_free(frames[i]);
    free(out);
}

static void test_as_the_reference(void **state)
{
    (void)state;
    size_t n, lines = 0;
    char *text = (char *)data_file("video.txt", &n), *at = text, *line;
    for (; (line = next_line(&at)); lines++) {
        if (line[0] == 'f') check_frames(line);
        else if (line[0] == 't') check_text(line);
        else check_patches(line);
    }
    assert_true(lines > 600);
    free(text);
}

/* Beyond 2^24 frames the reference's float32 steps over the end; ours stays inside. Every list rises. */
static void test_stays_inside(void **state)
{
    (void)state;
    for (uint32_t total = 1; total < UINT32_MAX / 2; total += total / 3 + 1) {
        const uint32_t n = pn_video_count(&rule, total, 1.0);
        uint32_t before = 0;
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t at = pn_video_index(total, n, i);
            assert_true(at < total && at >= before);
            before = at;
        }
        assert_int_equal(pn_video_index(total, n, 0), 0);
    }
}

static void test_odd_rules(void **state)
{
    (void)state;
    char text[PN_VIDEO_TEXT];
    assert_int_equal(pn_video_count(&rule, 0, 24), 0);
    assert_int_equal(pn_video_count(&rule, 10, 0), 0);
    assert_int_equal(pn_video_count(&rule, 10, -1), 0);
    assert_int_equal(pn_video_count(&rule, 10, double_of(0x7ff8000000000000u)), 0); /* not a number */
    assert_int_equal(pn_video_count(&rule, 10, 1e308), 2);
    assert_int_equal(pn_video_count(&rule, UINT32_MAX, 1e-300), 96);
    assert_int_equal(pn_video_count(&(pn_video_rule){2, 96, 0}, 10, 1), 0);
    assert_int_equal(pn_video_groups(&rule, 5), 3);
    assert_int_equal(pn_video_frame(&rule, 5, 2, 1), 4);
    assert_int_equal(pn_video_frame(&rule, 5, 1, 1), 3);
    assert_int_equal(pn_video_text(text, -0.1), 0);
    assert_int_equal(pn_video_text(text, 1.1e15), 0);
    assert_int_equal(pn_video_text(text, double_of(0x7ff8000000000000u)), 0);
}

static void test_rate(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    double fps;
    const double even[] = {0.5, 0.75, 1.0, 1.25}, back[] = {0, 2, 1}, nan[] = {0, double_of(0x7ff8000000000000u)}, minus[] = {-1.0}, same[] = {3, 3};
    assert_int_equal(pn_video_rate(even, 4, &fps, &e), PONDER_OK);
    assert_true(fps == 4);
    assert_int_equal(pn_video_rate(even, 1, &fps, &e), PONDER_OK);
    assert_true(fps == 24);
    assert_int_equal(pn_video_rate(same, 2, &fps, &e), PONDER_OK);
    assert_true(fps == 24);
    assert_int_equal(pn_video_rate(back, 3, &fps, &e), PONDER_E_ARGUMENT);
    assert_non_null(strstr(e.text, "frame 2"));
    assert_int_equal(pn_video_rate(nan, 2, &fps, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_video_rate(minus, 1, &fps, &e), PONDER_E_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_the_reference), cmocka_unit_test(test_stays_inside), cmocka_unit_test(test_odd_rules),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
