#include "make.h"

static const char config[] = "{\"model_type\": \"llama\", \"hidden_size\": 4, \"num_attention_heads\": 2, \"num_hidden_layers\": 1,"
                             " \"intermediate_size\": 2, \"vocab_size\": 3, \"_name_or_path\": \"me/tiny\", \"eos_token_id\": 2}";
static const char embed[] = "{\"__metadata__\": {\"format\": \"pt\"}, \"model.embed_tokens.weight\":"
                            " {\"dtype\": \"F32\", \"shape\": [3, 4], \"data_offsets\": [0, 48]}}";

static ponder_status open_folder(const char *folder, pn_checkpoint **c, ponder_error *e)
{
    *e = (ponder_error){.size = sizeof *e};
    return pn_checkpoint_open(c, folder, NULL, e);
}

static void try_header(const char *folder, const char *header, size_t data, ponder_status status, const char *word)
{
    pn_checkpoint *c;
    ponder_error e;
    write_safetensors(folder, "model.safetensors", header, data);
    assert_int_equal(open_folder(folder, &c, &e), status);
    if (status) assert_true(says(&e, word));
    pn_checkpoint_free(c);
}

#define T(dtype, shape, offsets) "{\"w\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": " offsets "}}"

static void headers_are_checked(void **state)
{
    (void)state;
    char folder[256];
    new_folder(folder);
    write_file(folder, "config.json", config, strlen(config));
    try_header(folder, T("F32", "[2, 2]", "[0, 16]"), 16, PONDER_OK, "");
    try_header(folder, T("F64", "[2]", "[0, 16]"), 16, PONDER_OK, "");
    try_header(folder, T("F32", "[]", "[12, 16]"), 16, PONDER_OK, "");
    try_header(folder, T("F32", "[0, 5]", "[0, 0]"), 16, PONDER_OK, "");
    try_header(folder, T("F32", "[2, 2]", "[0, 17]"), 17, PONDER_E_FORMAT, "w: 17 bytes");
    try_header(folder, T("F32", "[2, 2]", "[4, 20]"), 16, PONDER_E_FORMAT, "w: data_offsets");
    try_header(folder, T("F32", "[2, 2]", "[16, 0]"), 16, PONDER_E_FORMAT, "w: data_offsets");
    try_header(folder, T("F32", "[2, 2]", "[-16, 0]"), 16, PONDER_E_FORMAT, "w: data_offsets");
    try_header(folder, T("F32", "[2, 2]", "[0]"), 16, PONDER_E_FORMAT, "w: data_offsets");
    try_header(folder, T("F32", "[2, 2]", "[0.0, 16.0]"), 16, PONDER_E_FORMAT, "w: data_offsets");
    try_header(folder, T("F32", "[4611686018427387905, 4]", "[0, 16]"), 16, PONDER_E_FORMAT, "w"); /* the product wraps to 4 */
    try_header(folder, T("F32", "[4611686018427387905]", "[0, 4]"), 16, PONDER_E_FORMAT, "w");     /* in bytes */
    try_header(folder, T("F32", "[-2, -2]", "[0, 16]"), 16, PONDER_E_FORMAT, "w: shape");
    try_header(folder, T("F32", "4", "[0, 16]"), 16, PONDER_E_FORMAT, "w: shape");
    try_header(folder, T("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", "[0, 16]"), 16, PONDER_E_FORMAT, "w: shape");
    try_header(folder, T("Q9", "[4]", "[0, 16]"), 16, PONDER_E_FORMAT, "w: dtype");
    try_header(folder, "{\"w\": 3}", 16, PONDER_E_FORMAT, "w: dtype");
    try_header(folder, "{\"\": 3}", 16, PONDER_E_FORMAT, "without a name");
    try_header(folder, "{\"w\\u0000x\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}}", 16, PONDER_E_FORMAT, "a zero byte");
    try_header(folder, "{\"w\": {\"dtype\": \"F32\", \"shape\": [4], \"data_offsets\": [0, 16]}, \"w\": 3}", 16, PONDER_E_FORMAT, "w: dtype");
    try_header(folder, "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
                       " \"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 12]}}", 16, PONDER_E_FORMAT, "b: its data overlaps");
    try_header(folder, "[]", 16, PONDER_E_FORMAT, "not a JSON object");
    try_header(folder, "{", 16, PONDER_E_FORMAT, "safetensors header");
    try_header(folder, "{\"a\": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 16, PONDER_E_FORMAT, "deeper");
    write_file(folder, "model.safetensors", "\377\377\377\377\0\0\0\0{}", 10);
    pn_checkpoint *c;
    ponder_error e;
    assert_int_equal(open_folder(folder, &c, &e), PONDER_E_FORMAT);
    write_file(folder, "model.safetensors", "\3\0\0\0", 4);
    assert_int_equal(open_folder(folder, &c, &e), PONDER_E_FORMAT);
    remove_file(folder, "model.safetensors");
    assert_int_equal(open_folder(folder, &c, &e), PONDER_E_IO);
    assert_true(says(&e, "model.safetensors"));
    remove_file(folder, "config.json");
    assert_int_equal(open_folder(folder, &c, &e), PONDER_E_IO);
    assert_true(says(&e, "config.json"));
    rmdir(folder);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    char folder[256];
    pn_buf b;
    new_folder(folder);
    write_file(folder, "config.json", config, strlen(config));
    pn_buf_init(&b, NULL);
    put64(&b, strlen(embed));
    pn_buf_puts(&b, embed);
    floats(&b, 12);
    for (size_t n = 0; n <= b.n; n++) {
        pn_checkpoint *c;
        ponder_error e;
        write_file(folder, "model.safetensors", b.p, n);
        assert_int_equal(open_folder(folder, &c, &e), n == b.n ? PONDER_OK : PONDER_E_FORMAT);
        pn_checkpoint_free(c);
    }
    pn_buf_free(&b);
    remove_file(folder, "model.safetensors");
    remove_file(folder, "config.json");
    rmdir(folder);
}

static void companions_are_read(void **state)
{
    (void)state;
    char folder[256];
    pn_checkpoint *c;
    ponder_error e;
    pn_tokenizer_data t;
    pn_str s;
    int32_t ids[4];
    /* An integer beyond 64 bits, as many files have it, and a list of templates. */
    const char tokenizer_config[] = "{\"model_max_length\": 1000000000000000019884624838656, \"chat_template\":"
                                    " [{\"name\": \"rag\", \"template\": \"r\"}, {\"name\": \"default\", \"template\": \"d\"}]}";
    const char generation[] = "{\"eos_token_id\": [1, 2, -5, \"x\"]}";
    new_folder(folder);
    write_file(folder, "config.json", config, strlen(config));
    write_safetensors(folder, "model.safetensors", embed, 48);
    assert_int_equal(open_folder(folder, &c, &e), PONDER_OK);
    assert_false(pn_checkpoint_is_gguf(c));
    assert_true(pn_str_eq(pn_checkpoint_name(c), "me/tiny"));
    assert_int_equal(pn_checkpoint_ends(c, ids, 4), 1);
    assert_int_equal(ids[0], 2);
    assert_false(pn_checkpoint_template(c, &s));
    assert_int_equal(pn_checkpoint_tokenizer(c, &t, &e), PONDER_OK);
    assert_false(t.found);
    pn_checkpoint_free(c);
    write_file(folder, "tokenizer_config.json", tokenizer_config, strlen(tokenizer_config));
    write_file(folder, "generation_config.json", generation, strlen(generation));
    write_file(folder, "tokenizer.json", "{\"a\": 1}", 8);
    assert_int_equal(open_folder(folder, &c, &e), PONDER_OK);
    assert_true(pn_checkpoint_template(c, &s) && pn_str_eq(s, "d"));
    assert_int_equal(pn_checkpoint_ends(c, ids, 4), 2);
    assert_true(ids[0] == 1 && ids[1] == 2);
    assert_int_equal(pn_checkpoint_tokenizer(c, &t, &e), PONDER_OK);
    assert_true(t.found && t.is_json && pn_str_eq(t.json, "{\"a\": 1}"));
    pn_checkpoint_free(c);
    write_file(folder, "chat_template.jinja", "{{ jinja }}", 11);
    assert_int_equal(open_folder(folder, &c, &e), PONDER_OK);
    assert_true(pn_checkpoint_template(c, &s) && pn_str_eq(s, "{{ jinja }}"));
    pn_checkpoint_free(c);
    static const char *const all[] = {"config.json", "model.safetensors", "tokenizer_config.json", "generation_config.json",
                                      "tokenizer.json", "chat_template.jinja"};
    for (size_t i = 0; i < PN_COUNT(all); i++) remove_file(folder, all[i]);
    rmdir(folder);
}

static void try_index(const char *folder, const char *index, ponder_status status, const char *word)
{
    pn_checkpoint *c;
    ponder_error e;
    write_file(folder, "model.safetensors.index.json", index, strlen(index));
    assert_int_equal(open_folder(folder, &c, &e), status);
    if (status) assert_true(says(&e, word));
    if (!status) assert_int_equal(pn_checkpoint_find(c, "b")->part, 1);
    pn_checkpoint_free(c);
}

static void shards(void **state)
{
    (void)state;
    char folder[256];
    new_folder(folder);
    write_file(folder, "config.json", config, strlen(config));
    write_safetensors(folder, "one", "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8);
    write_safetensors(folder, "two", "{\"b\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8);
    try_index(folder, "{\"weight_map\": {\"a\": \"one\", \"b\": \"two\"}}", PONDER_OK, "");
    try_index(folder, "{\"weight_map\": {\"a\": \"two\", \"b\": \"one\"}}", PONDER_E_FORMAT, "tensor a");
    try_index(folder, "{\"weight_map\": {\"a\": \"one\", \"b\": \"two\", \"c\": \"two\"}}", PONDER_E_FORMAT, "tensor c");
    try_index(folder, "{\"weight_map\": {\"a\": \"one\", \"b\": \"three\"}}", PONDER_E_IO, "three");
    try_index(folder, "{\"weight_map\": {\"a\": \"../one\"}}", PONDER_E_FORMAT, "a: no plain file name");
    try_index(folder, "{\"weight_map\": {\"a\": \"/one\"}}", PONDER_E_FORMAT, "a: no plain file name");
    try_index(folder, "{\"weight_map\": {\"a\": \"one\\u0000\"}}", PONDER_E_FORMAT, "a: no plain file name");
    try_index(folder, "{\"weight_map\": {\"a\": 1}}", PONDER_E_FORMAT, "a: no plain file name");
    try_index(folder, "{\"weight_map\": {}}", PONDER_E_FORMAT, "weight_map");
    try_index(folder, "{}", PONDER_E_FORMAT, "weight_map");
    static const char *const all[] = {"config.json", "one", "two", "model.safetensors.index.json"};
    for (size_t i = 0; i < PN_COUNT(all); i++) remove_file(folder, all[i]);
    rmdir(folder);
}

/* All of a folder's memory comes from the allocator. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "qwen3-sharded"};
    static pn_description d;
    char path[512];
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        for (size_t at = 1;; at++) {
            counter k;
            pn_checkpoint *c;
            ponder_error e = {.size = sizeof e};
            counter_init(&k, at);
            ponder_status s = pn_checkpoint_open(&c, data_path(names[i], path), &k.a, &e);
            if (s == PONDER_OK) s = pn_describe(c, &d, &e);
            pn_checkpoint_free(c);
            assert_int_equal(k.live, 0);
            assert_int_equal(k.bytes, 0);
            assert_int_equal(s, k.calls < at ? PONDER_OK : PONDER_E_NOMEM);
            if (k.calls < at) break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(companions_are_read),
        cmocka_unit_test(shards),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
