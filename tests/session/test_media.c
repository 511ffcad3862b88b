/* Pictures, videos and sounds in conversations, against what the reference computes with the same checkpoint (tests/data/media). */
#include <math.h>

#include "use.h"

enum { VOCAB = SEED_VOCAB, FRAMES = 5 };

typedef struct kit {
    ponder_config *c;
    ponder_model *m;
    json_t *doc;
} kit;

/* Without libpng there are no pictures to test with; that it says so is all there is to see. */
static bool no_pictures(ponder_config *c)
{
    ponder_image *im;
    ponder_status st = ponder_image_open(&im, data_path("media/odd.png"), c);
    if (st == PONDER_E_UNSUPPORTED) assert_non_null(strstr(ponder_config_error(c), "libpng"));
    ponder_image_free(im);
    return st == PONDER_E_UNSUPPORTED;
}

static kit kit_new(void)
{
    kit k = {.c = new_config()};
    if (no_pictures(k.c)) {
        ponder_config_free(k.c);
        skip();
    }
    k.m = open_model("seed0", k.c);
    k.doc = json_load_file(data_path("media/cases.json"), 0, NULL);
    assert_non_null(k.doc);
    return k;
}

static void kit_free(kit *k)
{
    json_decref(k->doc);
    ponder_model_free(k->m);
    ponder_config_free(k->c);
}

static json_t *find_case(kit *k, const char *name)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(k->doc, "cases"), i, c)
        if (strcmp(json_string_value(json_object_get(c, "name")), name) == 0) return c;
    fail_msg("no case %s", name);
    return NULL;
}

static const char *media_path(const char *name, const char *ending)
{
    char file[64];
    snprintf(file, sizeof file, "media/%s%s", name, ending);
    return data_path(file);
}

static ponder_image *picture(kit *k, const char *name)
{
    ponder_image *im;
    ponder_status st = ponder_image_open(&im, media_path(name, ".png"), k->c);
    if (st != PONDER_OK) fail_msg("%s: %s", name, ponder_config_error(k->c));
    return im;
}

static ponder_sound *sound(kit *k, const char *name)
{
    ponder_sound *s;
    ponder_status st = ponder_sound_open(&s, media_path(name, ".wav"), k->c);
    if (st != PONDER_OK) fail_msg("%s: %s", name, ponder_config_error(k->c));
    return s;
}

static void attach_picture(kit *k, ponder_session *s, const char *name)
{
    ponder_image *im = picture(k, name);
    if (ponder_session_attach_image(s, im) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    ponder_image_free(im);
}

static void attach_video(kit *k, ponder_session *s)
{
    ponder_image *frame[FRAMES];
    double second[FRAMES];
    for (int i = 0; i < FRAMES; i++) {
        char name[16];
        snprintf(name, sizeof name, "frame%d", i);
        frame[i] = picture(k, name);
        second[i] = json_real_value(json_array_get(json_object_get(k->doc, "frame_seconds"), (size_t)i));
    }
    if (ponder_session_attach_video(s, frame, second, FRAMES) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    for (int i = 0; i < FRAMES; i++) ponder_image_free(frame[i]);
}

/* The case's parts; its last text becomes the message's own. */
static void put_case(kit *k, ponder_session *s, const json_t *c)
{
    const json_t *parts = json_object_get(c, "parts");
    const char *last = "";
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const char *kind = json_string_value(json_array_get(json_array_get(parts, i), 0));
        const char *value = json_string_value(json_array_get(json_array_get(parts, i), 1));
        if (strcmp(kind, "text") == 0 && i + 1 == json_array_size(parts)) last = value;
        else if (strcmp(kind, "text") == 0) OK(ponder_session_attach_text(s, value, strlen(value)));
        else if (strcmp(kind, "image") == 0) attach_picture(k, s, value);
        else if (strcmp(kind, "video") == 0) attach_video(k, s);
        else {
            ponder_sound *w = sound(k, value);
            OK(ponder_session_attach_sound(s, w));
            ponder_sound_free(w);
        }
    }
    add(s, "user", last);
}

static void logits_of(ponder_session *s, float to[VOCAB])
{
    size_t n;
    ponder_status st = ponder_session_logits(s, to, VOCAB, &n);
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    assert_int_equal(n, VOCAB);
}

static double largest_error(const json_t *c, const float logits[VOCAB])
{
    double worst = 0;
    for (size_t i = 0; i < VOCAB; i++)
        worst = fmax(worst, fabs((double)logits[i] - json_real_value(json_array_get(json_object_get(c, "logits"), i))));
    return worst;
}

static void as_the_reference(kit *k, ponder_session *s, const json_t *c)
{
    const ids want = ids_of_json(json_object_get(c, "ids"));
    float logits[VOCAB];
    logits_of(s, logits);
    const ids have = tokens_of(s);
    same_ids(&have, want.id, want.n);
    double error = largest_error(c, logits);
    if (error > 3e-4) fail_msg("%s: logits differ by %g", json_string_value(json_object_get(c, "name")), error);
}

static void every_case_is_the_references(void **state)
{
    (void)state;
    kit k = kit_new();
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(k.doc, "cases"), i, c) {
        ponder_session *s = new_session(k.m, k.c);
        put_case(&k, s, c);
        as_the_reference(&k, s, c);
        ponder_session_free(s);
    }
    kit_free(&k);
}

/* Left and right, red and blue, tall and wide: what is seen differs, by far more than the tolerance. */
static void opposites_differ(void **state)
{
    (void)state;
    static const char *const pair[][2] = {{"image left", "image right"}, {"image red", "image blue"}, {"image tall", "image wide"}};
    kit k = kit_new();
    for (size_t i = 0; i < COUNT(pair); i++) {
        float a[VOCAB];
        ponder_session *s = new_session(k.m, k.c);
        put_case(&k, s, find_case(&k, pair[i][0]));
        logits_of(s, a);
        assert_true(largest_error(find_case(&k, pair[i][0]), a) < 3e-4);
        assert_true(largest_error(find_case(&k, pair[i][1]), a) > 3e-3);
        ponder_session_free(s);
    }
    kit_free(&k);
}

static int64_t info(ponder_model *m, int32_t id)
{
    int64_t v;
    OK(ponder_model_info_i64(m, id, &v));
    return v;
}

/* However it comes, the same picture is encoded once. */
static void the_same_picture_is_encoded_once(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "image odd");
    ponder_session *s = new_session(k.m, k.c), *t = new_session(k.m, k.c);
    put_case(&k, s, c);
    as_the_reference(&k, s, c);
    int64_t before = info(k.m, PONDER_INFO_ENCODED);
    assert_true(before == 1);
    assert_true(info(k.m, PONDER_INFO_MEDIA_BYTES) > 0);
    put_case(&k, t, c);
    as_the_reference(&k, t, c);
    /* ... as pixels */
    ponder_image *im = picture(&k, "odd"), *again;
    ponder_view v = {.size = sizeof v, .format = PONDER_RGB};
    OK(ponder_image_size(im, &v.width, &v.height));
    size_t n;
    assert_int_equal(ponder_image_pixels(im, NULL, 0, &n), PONDER_OK);
    uint8_t *rgb = malloc(n);
    OK(ponder_image_pixels(im, rgb, n, &n));
    v.pixels = rgb;
    v.stride = (size_t)v.width * 3;
    OK(ponder_image_open_view(&again, &v, k.c));
    OK(ponder_session_attach_image(t, again));
    OK(ponder_session_features(t, NULL, 0, &n));
    assert_true(info(k.m, PONDER_INFO_ENCODED) == before);
    free(rgb);
    ponder_image_free(im);
    ponder_image_free(again);
    ponder_session_free(s);
    ponder_session_free(t);
    kit_free(&k);
}

/* Without room in the cache it is encoded again: the count can tell. */
static void without_a_cache_it_is_encoded_again(void **state)
{
    (void)state;
    kit k = kit_new();
    ponder_model_free(k.m);
    OK(ponder_config_set_i64(k.c, PONDER_P_MEDIA_CACHE, 0));
    k.m = open_model("seed0", k.c);
    for (int i = 1; i <= 2; i++) {
        ponder_session *s = new_session(k.m, k.c);
        put_case(&k, s, find_case(&k, "image odd"));
        as_the_reference(&k, s, find_case(&k, "image odd"));
        assert_true(info(k.m, PONDER_INFO_ENCODED) == i);
        ponder_session_free(s);
    }
    assert_true(info(k.m, PONDER_INFO_MEDIA_BYTES) == 0);
    kit_free(&k);
}

/* In the shortest slices: the same tokens; the encoding is cut too, and its tokens are not there before it is done. */
static void slices_give_the_same(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "image and sound");
    ponder_session *s = new_session(k.m, k.c), *t = new_session(k.m, k.c);
    put_case(&k, t, c);
    ponder_event e = {.size = sizeof e};
    uint32_t slices = 0, encoding = 0;
    ponder_status st;
    do {
        st = ponder_session_step(t, 0, &e);
        slices++;
        encoding += tokens_of(t).n == 0;
    } while (st == PONDER_MORE || (st == PONDER_OK && e.kind != PONDER_EVENT_DONE));
    OK(st);
    assert_true(slices > 50 && encoding > 10);
    put_case(&k, s, c);
    OK(ponder_session_generate(s, NULL, NULL));
    const ids a = tokens_of(s), b = tokens_of(t);
    same_ids(&a, b.id, b.n);
    ponder_session_free(s);
    ponder_session_free(t);
    kit_free(&k);
}

/* A cancel while a picture is encoded ends the turn; the message is still there for the next. */
static void encoding_can_be_cancelled(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "image table");
    ponder_session *s = new_session(k.m, k.c);
    put_case(&k, s, c);
    ponder_event e = {.size = sizeof e};
    assert_int_equal(ponder_session_step(s, 0, &e), PONDER_MORE);
    ponder_session_cancel(s);
    ponder_status st;
    while ((st = ponder_session_step(s, 0, &e)) == PONDER_MORE) { }
    OK(st);
    assert_int_equal(e.kind, PONDER_EVENT_DONE);
    assert_int_equal(e.end, PONDER_END_CANCELLED);
    as_the_reference(&k, s, c);
    ponder_session_free(s);
    kit_free(&k);
}

static void prefill_computes_and_generates_nothing(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "image and sound");
    ponder_session *s = new_session(k.m, k.c);
    put_case(&k, s, c);
    ponder_status st;
    uint32_t slices = 0;
    while ((st = ponder_session_prefill(s, 0)) == PONDER_MORE) slices++;
    OK(st);
    assert_true(slices > 20);
    const ids want = ids_of_json(json_object_get(c, "ids"));
    const ids have = tokens_of(s);
    same_ids(&have, want.id, want.n - 2); /* all but the generation prompt: <|start|>, "assistant" */
    as_the_reference(&k, s, c);
    ponder_session_free(s);
    kit_free(&k);
}

static void forks_and_states_keep_pictures(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "two images");
    ponder_session *s = new_session(k.m, k.c), *child, *t = new_session(k.m, k.c);
    put_case(&k, s, c);
    OK(ponder_session_fork(&child, s, NULL)); /* nothing is encoded yet */
    as_the_reference(&k, child, c);
    ponder_session_free(child);
    as_the_reference(&k, s, c);
    size_t n;
    OK(ponder_session_save(s, NULL, 0, &n));
    uint8_t *bytes = malloc(n);
    OK(ponder_session_save(s, bytes, n, &n));
    int64_t encoded = info(k.m, PONDER_INFO_ENCODED), prefilled = info(k.m, PONDER_INFO_PREFILLED);
    OK(ponder_session_load(t, bytes, n));
    as_the_reference(&k, t, c);
    assert_true(info(k.m, PONDER_INFO_ENCODED) == encoded);
    assert_true(info(k.m, PONDER_INFO_PREFILLED) == prefilled);
    /* Back to the very beginning of the pictures: their rows came with the state. */
    OK(ponder_session_rewind(t, 20, NULL));
    free(bytes);
    ponder_session_free(s);
    ponder_session_free(t);
    kit_free(&k);
}

/* The same prompt as raw ids: placeholders take the attached parts' rows in order, and their number must be right. */
static void raw_ids_take_rows(void **state)
{
    (void)state;
    kit k = kit_new();
    const json_t *c = find_case(&k, "two images");
    const ids want = ids_of_json(json_object_get(c, "ids"));
    float logits[VOCAB];
    ponder_session *s = new_session(k.m, k.c);
    attach_picture(&k, s, "left");
    assert_int_equal(ponder_session_prompt_ids(s, want.id, want.n), PONDER_E_ARGUMENT); /* one picture too few */
    assert_int_equal(tokens_of(s).n, 0);
    attach_picture(&k, s, "wide");
    OK(ponder_session_prompt_ids(s, want.id, want.n));
    logits_of(s, logits);
    assert_true(largest_error(c, logits) < 3e-4);
    attach_picture(&k, s, "wide");
    assert_int_equal(ponder_session_prompt_ids(s, want.id, 3), PONDER_E_ARGUMENT); /* rows left over */
    ponder_session_free(s);
    kit_free(&k);
}

/* ---- sound as it comes ------------------------------------------------------------------------------ */

static size_t read_wave(const char *name, float *to, size_t cap)
{
    FILE *f = fopen(media_path(name, ".wav"), "rb");
    int16_t v;
    size_t n = 0;
    assert_non_null(f);
    assert_int_equal(fseek(f, 44, SEEK_SET), 0);
    while (n < cap && fread(&v, sizeof v, 1, f) == 1) to[n++] = (float)v / 32768;
    fclose(f);
    return n;
}

static void listening_gives_the_rows_of_one_piece(void **state)
{
    (void)state;
    static float wave[30000];
    static const size_t chunks[] = {1, 700, 1920, 5000, 24000};
    kit k = kit_new();
    const json_t *c = find_case(&k, "long sound");
    const size_t n = read_wave("long", wave, COUNT(wave));
    for (size_t i = 0; i < COUNT(chunks); i++) {
        ponder_session *s = new_session(k.m, k.c);
        size_t before = 0, grew = 0;
        const size_t piece = chunks[i] == 1 ? 333 : chunks[i];
        for (size_t at = 0; at < n; at += piece) {
            ponder_samples p = {.size = sizeof p, .samples = wave + at, .frames = n - at < piece ? n - at : piece, .rate = 24000, .channels = 1};
            if (ponder_session_listen(s, &p) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
            OK(ponder_session_prefill(s, UINT64_MAX));
            size_t now = tokens_of(s).n;
            grew += now > before;
            before = now;
        }
        assert_true(grew > (piece < 1920 ? 8 : 0));
        add(s, "user", "");
        as_the_reference(&k, s, c);
        ponder_session_free(s);
    }
    kit_free(&k);
}

static void a_text_may_follow_what_was_heard(void **state)
{
    (void)state;
    static float wave[30000];
    kit k = kit_new();
    const json_t *c = find_case(&k, "image and sound");
    const size_t n = read_wave("short", wave, COUNT(wave));
    ponder_session *s = new_session(k.m, k.c), *child;
    attach_picture(&k, s, "tall");
    ponder_samples p = {.size = sizeof p, .samples = wave, .frames = 2000, .rate = 24000, .channels = 1};
    OK(ponder_session_listen(s, &p));
    OK(ponder_session_prefill(s, UINT64_MAX));
    ponder_event e = {.size = sizeof e};
    assert_int_equal(ponder_session_step(s, 1000, &e), PONDER_E_STATE); /* the message is not ended yet */
    OK(ponder_session_fork(&child, s, NULL));
    for (int i = 0; i < 2; i++) {
        ponder_session *who = i ? child : s;
        p.samples = wave + 2000;
        p.frames = n - 2000;
        OK(ponder_session_listen(who, &p));
        add(who, "user", "From 3 do 1p2t");
        as_the_reference(&k, who, c);
    }
    ponder_session_free(s);
    ponder_session_free(child);
    kit_free(&k);
}

/* ---- what cannot be --------------------------------------------------------------------------------------- */

static void refusals_leave_the_session_alive(void **state)
{
    (void)state;
    kit k = kit_new();
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 80));
    ponder_session *s = new_session(k.m, c);
    for (int i = 0; i < 30; i++) attach_picture(&k, s, "wide");
    add(s, "user", "Add 1+2");
    int64_t encoded = info(k.m, PONDER_INFO_ENCODED);
    assert_int_equal(ponder_session_generate(s, NULL, NULL), PONDER_E_CONTEXT);
    assert_true(info(k.m, PONDER_INFO_ENCODED) == encoded); /* refused before anything is encoded */
    add(s, "user", "Add 1+2");
    OK(ponder_session_generate(s, NULL, NULL));
    ponder_image *im = picture(&k, "wide"), *part;
    assert_int_equal(ponder_image_crop(&part, im, 139, 0, 2, 1, c), PONDER_E_RANGE);
    assert_null(part);
    double second[2] = {0, -1};
    ponder_image *two[2] = {im, im};
    assert_int_equal(ponder_session_attach_video(s, two, second, 2), PONDER_E_RANGE);
    assert_int_equal(ponder_session_attach_image(s, NULL), PONDER_E_ARGUMENT);
    ponder_samples none = {.size = sizeof none, .rate = 24000, .channels = 1};
    ponder_sound *w;
    assert_int_equal(ponder_sound_open_samples(&w, &none, c), PONDER_E_ARGUMENT);
    assert_null(w);
    ponder_session_free(s);
    ponder_model *text = open_model("llama", c);
    size_t n;
    assert_int_equal(ponder_model_image_tokens(text, 10, 10, &n, NULL), PONDER_E_UNSUPPORTED);
    s = new_session(text, c);
    assert_int_equal(ponder_session_attach_image(s, im), PONDER_E_UNSUPPORTED);
    assert_true(strlen(ponder_session_error(s)) > 10);
    ponder_session_free(s);
    ponder_image_free(im);
    ponder_model_free(text);
    ponder_config_free(c);
    kit_free(&k);
}

static void tokens_are_known_before(void **state)
{
    (void)state;
    kit k = kit_new();
    static const struct { const char *name; uint32_t w, h; } some[] = {{"wide", 140, 70}, {"odd", 101, 67}, {"table", 196, 112}};
    for (size_t i = 0; i < COUNT(some); i++) {
        char name[32];
        size_t n, width = (size_t)info(k.m, PONDER_INFO_WIDTH), floats, placeholders = 0;
        snprintf(name, sizeof name, "image %s", some[i].name);
        const ids want = ids_of_json(json_object_get(find_case(&k, name), "ids"));
        for (size_t j = 0; j < want.n; j++) placeholders += want.id[j] == 406;
        OK(ponder_model_image_tokens(k.m, some[i].w, some[i].h, &n, NULL));
        assert_int_equal(n, placeholders + 2);
        ponder_session *s = new_session(k.m, k.c);
        attach_picture(&k, s, some[i].name);
        OK(ponder_session_features(s, NULL, 0, &floats));
        assert_int_equal(floats, placeholders * width);
        ponder_session_free(s);
    }
    size_t n;
    OK(ponder_model_sound_tokens(k.m, 5000, 24000, &n, NULL));
    assert_int_equal(n, 3 + 2);
    OK(ponder_model_sound_tokens(k.m, 5000, 48000, &n, NULL));
    assert_int_equal(n, 2 + 2);
    assert_true(info(k.m, PONDER_INFO_IMAGES) == 1 && info(k.m, PONDER_INFO_SOUNDS) == 1);
    kit_free(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_the_references), cmocka_unit_test(opposites_differ),
        cmocka_unit_test(the_same_picture_is_encoded_once), cmocka_unit_test(without_a_cache_it_is_encoded_again),
        cmocka_unit_test(slices_give_the_same), cmocka_unit_test(encoding_can_be_cancelled),
        cmocka_unit_test(prefill_computes_and_generates_nothing), cmocka_unit_test(forks_and_states_keep_pictures),
        cmocka_unit_test(raw_ids_take_rows), cmocka_unit_test(listening_gives_the_rows_of_one_piece),
        cmocka_unit_test(a_text_may_follow_what_was_heard), cmocka_unit_test(refusals_leave_the_session_alive),
        cmocka_unit_test(tokens_are_known_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
