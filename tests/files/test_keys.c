/* Metadata by key or path, the same questions to both containers; references to a checkpoint; slices by name. */
#include <math.h>

#include "make.h"

static const char config[] =
    "{\"model_type\": \"m\", \"vision_config\": {\"hidden_size\": 48, \"eps\": 1e-5, \"big\": 1e300, \"act\": \"gelu\", \"on\": true,"
    " \"none\": null, \"sizes\": [3, 4, \"x\"], \"types\": [\"a\", \"bc\"]}}";
static const char weights[] = "{\"w\": {\"dtype\": \"F32\", \"shape\": [2, 3, 4], \"data_offsets\": [0, 96]}}";

static pn_checkpoint *open_folder(const char *file, const char *text)
{
    char folder[256];
    ponder_error e = {.size = sizeof e};
    pn_checkpoint *c;
    new_folder(folder);
    write_file(folder, "config.json", config, strlen(config));
    write_safetensors(folder, "model.safetensors", weights, 96);
    write_file(folder, file, text, strlen(text));
    if (pn_checkpoint_open(&c, folder, NULL, &e)) fail_msg("%s", e.text);
    const char *const files[] = {"config.json", "model.safetensors", file};
    for (size_t i = 0; i < PN_COUNT(files); i++) remove_file(folder, files[i]);
    rmdir(folder);
    return c;
}

/* The bytes must stay as long as the checkpoint. */
static pn_checkpoint *open_gguf(pn_buf *b)
{
    pn_source *s;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    pn_buf_init(b, NULL);
    gguf_header(b, 3, 1, 6);
    key_u32(b, "vision_config.hidden_size", 48);
    key_f32(b, "vision_config.eps", 1e-5f);
    key_str(b, "vision_config.act", "gelu");
    key_array(b, "vision_config.sizes", 5, 2);
    put32(b, 3);
    put32(b, 4);
    key_array(b, "vision_config.types", 8, 2);
    put_str(b, "a");
    put_str(b, "bc");
    key_f32(b, "vision_config.nan", NAN);
    tensor(b, "w", 4, 6, 0, 0);
    pad(b, 32);
    floats(b, 24);
    assert_int_equal(pn_source_memory(&s, b->p, b->n, NULL, &e), PONDER_OK);
    if (pn_checkpoint_open_source(&c, s, NULL, &e)) fail_msg("%s", e.text);
    return c;
}

static void check_values(const pn_checkpoint *c)
{
    int64_t i;
    double f;
    pn_str s;
    uint64_t n;
    assert_true(pn_checkpoint_i64(c, "vision_config.hidden_size", &i) && i == 48);
    assert_true(pn_checkpoint_f64(c, "vision_config.hidden_size", &f) && f == 48);
    assert_true(pn_checkpoint_f64(c, "vision_config.eps", &f) && (float)f == 1e-5f);
    assert_false(pn_checkpoint_i64(c, "vision_config.eps", &i));
    assert_true(pn_checkpoint_str(c, "vision_config.act", &s) && pn_str_eq(s, "gelu"));
    assert_false(pn_checkpoint_i64(c, "vision_config.act", &i));
    assert_false(pn_checkpoint_i64(c, "vision_config.sizes", &i));
    assert_true(pn_checkpoint_i64_at(c, "vision_config.sizes", 1, &i) && i == 4);
    assert_false(pn_checkpoint_i64_at(c, "vision_config.sizes", 3, &i));
    assert_true(pn_checkpoint_str_at(c, "vision_config.types", 1, &s) && pn_str_eq(s, "bc"));
    assert_false(pn_checkpoint_str_at(c, "vision_config.types", 2, &s));
    assert_true(pn_checkpoint_i64_at(c, "vision_config.hidden_size", 0, &i) && i == 48);
    assert_false(pn_checkpoint_i64_at(c, "vision_config.hidden_size", 1, &i));
    assert_int_equal(pn_checkpoint_shape(c, "vision_config.types", &n), PN_SHAPE_LIST);
    assert_int_equal(n, 2);
    assert_int_equal(pn_checkpoint_shape(c, "vision_config.act", &n), PN_SHAPE_ONE);
    assert_int_equal(pn_checkpoint_shape(c, "vision_config.none", &n), PN_SHAPE_NONE);
    assert_int_equal(pn_checkpoint_shape(c, "nothing.at.all", &n), PN_SHAPE_NONE);
}

static void values(void **state)
{
    (void)state;
    pn_buf bytes;
    pn_checkpoint *folder = open_folder("generation_config.json", "{}"), *gguf = open_gguf(&bytes);
    check_values(folder);
    check_values(gguf);
    int64_t i;
    assert_true(pn_checkpoint_i64(folder, "vision_config.on", &i) && i == 1);
    assert_false(pn_checkpoint_i64(folder, "model_type.x", &i));
    pn_checkpoint_free(folder);
    pn_checkpoint_free(gguf);
    pn_buf_free(&bytes);
}

static void check_failure(const pn_checkpoint *c, const char *name, int how, ponder_status want, const char *word)
{
    ponder_error e = {.size = sizeof e};
    pn_keys k = {.c = c, .prefix = "vision_config.", .err = &e};
    if (how == 0) assert_int_equal(pn_keys_u32(&k, name, PN_REQUIRED, 1, 40), 1);
    else if (how == 1) assert_true(pn_keys_f32(&k, name, NAN) == 1);
    else if (how == 2) pn_keys_text(&k, name, "gelu", "silu");
    else assert_int_equal(pn_keys_u32_at(&k, name, 2, 1, 40), 1);
    assert_int_equal(k.status, want);
    assert_true(says(&e, word));
    e.text[0] = 0;
    pn_keys_u32(&k, "missing", PN_REQUIRED, 0, 1); /* the first failure stays */
    assert_true(e.text[0] == 0 && k.status == want);
}

static void numbers(void **state)
{
    (void)state;
    pn_buf bytes;
    pn_checkpoint *folder = open_folder("generation_config.json", "{}"), *gguf = open_gguf(&bytes), *both[] = {folder, gguf};
    for (int i = 0; i < 2; i++) {
        pn_keys k = {.c = both[i], .prefix = "vision_config."};
        assert_int_equal(pn_keys_u32(&k, "hidden_size", PN_REQUIRED, 1, 48), 48);
        assert_int_equal(pn_keys_u32(&k, "absent", 7, 1, 48), 7);
        assert_int_equal(pn_keys_u32(&k, "none", 8, 1, 48), 8);
        assert_int_equal(pn_keys_u32_at(&k, "sizes", 1, 1, 48), 4);
        assert_true(pn_keys_f32(&k, "eps", NAN) == 1e-5f && pn_keys_f32(&k, "absent", 0.5) == 0.5f);
        pn_keys_text(&k, "act", "silu", "gelu");
        pn_keys_text(&k, "absent", "gelu", "gelu");
        assert_int_equal(k.status, PONDER_OK);
        check_failure(both[i], "hidden_size", 0, PONDER_E_FORMAT, "key vision_config.hidden_size: 48 is outside 1..40");
        check_failure(both[i], "absent", 0, PONDER_E_FORMAT, "key vision_config.absent is missing");
        check_failure(both[i], "act", 0, PONDER_E_FORMAT, "vision_config.act: no integer");
        check_failure(both[i], "sizes", 0, PONDER_E_FORMAT, "vision_config.sizes: no integer");
        check_failure(both[i], "sizes", 3, PONDER_E_FORMAT, "vision_config.sizes: no integer at 2");
        check_failure(both[i], "absent", 1, PONDER_E_FORMAT, "vision_config.absent is missing");
        check_failure(both[i], "act", 1, PONDER_E_FORMAT, "vision_config.act: no number");
        check_failure(both[i], "act", 2, PONDER_E_UNSUPPORTED, "vision_config.act: \"gelu\"");
        check_failure(both[i], "absent", 2, PONDER_E_UNSUPPORTED, "\"silu\"");
        check_failure(both[i], "eps", 2, PONDER_E_FORMAT, "no text");
    }
    check_failure(folder, "big", 1, PONDER_E_FORMAT, "vision_config.big: not finite");
    check_failure(gguf, "nan", 1, PONDER_E_FORMAT, "vision_config.nan: not finite");
    pn_checkpoint_free(folder);
    pn_checkpoint_free(gguf);
    pn_buf_free(&bytes);
}

static void processors(void **state)
{
    (void)state;
    static const struct { const char *file, *text; bool image, video; } cases[] = {
        {"processor_config.json", "{\"image_processor\": {\"most\": 5}, \"video_processor\": {\"most\": 6}}", true, true},
        {"preprocessor_config.json", "{\"most\": 5}", true, false},
        {"video_preprocessor_config.json", "{\"most\": 6}", false, true},
        {"generation_config.json", "{\"most\": 7}", false, false},
    };
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        int64_t v = 0;
        pn_checkpoint *c = open_folder(cases[i].file, cases[i].text);
        assert_int_equal(pn_checkpoint_i64(c, "image_processor.most", &v), cases[i].image);
        if (cases[i].image) assert_int_equal(v, 5);
        assert_int_equal(pn_checkpoint_i64(c, "video_processor.most", &v), cases[i].video);
        if (cases[i].video) assert_int_equal(v, 6);
        pn_checkpoint_free(c);
    }
}

static void slices_by_name(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_checkpoint *c = open_folder("generation_config.json", "{}");
    pn_slice s;
    assert_int_equal(pn_slice_named(&s, c, "w", (const uint64_t[4]){4, 3, 2}, 2, &e), PONDER_OK);
    assert_true(s.rows == 2 && s.cols == 12 && s.row_stride == 48 && s.batch == 1 && s.from == 0);
    assert_int_equal(pn_slice_named(&s, c, "w", (const uint64_t[4]){4, 3, 2, 1}, 6, &e), PONDER_OK);
    assert_true(s.rows == 6 && s.cols == 4);
    assert_int_equal(pn_slice_named(&s, c, "w", (const uint64_t[4]){4, 6}, 6, &e), PONDER_E_FORMAT);
    assert_true(says(&e, "tensor w: shape [1, 2, 3, 4] where [1, 1, 6, 4]"));
    assert_int_equal(pn_slice_named(&s, c, "v", (const uint64_t[4]){4, 6}, 6, &e), PONDER_E_FORMAT);
    assert_true(says(&e, "tensor v is missing"));
    assert_ptr_equal(pn_checkpoint_hold(c), c);
    pn_checkpoint_free(c);
    assert_non_null(pn_checkpoint_find(c, "w")); /* still there */
    pn_checkpoint_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(numbers), cmocka_unit_test(processors),
                                       cmocka_unit_test(slices_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
