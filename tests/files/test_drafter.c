/* A drafter's description: both containers say the same, defaults are the reference's, and what is wrong, of another model or not computed
 * here is refused by name. */
#include "make.h"

static pn_description target, d, other;

static pn_checkpoint *open_data(const char *name)
{
    char path[512];
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    if (pn_checkpoint_open(&c, data_path(name, path), NULL, &e)) fail_msg("%s: %s", name, e.text);
    return c;
}

static void describe_target(const char *name)
{
    pn_checkpoint *c = open_data(name);
    assert_int_equal(pn_describe(c, &target, NULL), PONDER_OK);
    pn_checkpoint_free(c);
}

static void containers_agree(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    describe_target("muse-glimmer");
    pn_checkpoint *a = open_data("drafter-glimmer"), *b = open_data("drafter-glimmer/model.gguf");
    if (pn_describe_drafter(a, &target, &d, &e)) fail_msg("%s", e.text);
    if (pn_describe_drafter(b, &target, &other, &e)) fail_msg("%s", e.text);
    assert_memory_equal(&d, &other, sizeof d);
    assert_true(d.layers == 2 && d.block == 16 && d.window == 12 && d.mask == 156 && d.vocab == 160 && d.theta == 20000 && d.kv_heads == 2);
    assert_true(d.n_taps == 3 && d.tap[0] == 1 && d.tap[1] == 3 && d.tap[2] == 4 && !d.rope_pairs && d.softcap == 0 && !d.embed_norm);
    for (int role = 0; role < PN_W_COUNT; role++)
        for (uint32_t i = 0; i < d.layers; i++) {
            pn_slice x, y;
            bool in_a, in_b;
            assert_int_equal(pn_find_weight(a, &d, (pn_role)role, i, &x, &in_a, &e), PONDER_OK);
            assert_int_equal(pn_find_weight(b, &d, (pn_role)role, i, &y, &in_b, &e), PONDER_OK);
            assert_true(in_a == in_b && x.rows == y.rows && x.cols == y.cols);
        }
    assert_int_equal(pn_describe(b, &other, &e), PONDER_E_UNSUPPORTED); /* it is no model */
    assert_true(says(&e, "drafter"));
    pn_checkpoint_free(a);
    pn_checkpoint_free(b);
}

/* ---- a GGUF with one key changed ------------------------------------------------------------------------------------- */

typedef struct numbers {
    const char *arch;
    uint32_t layers, width, heads, kv_heads, head_dim, value_dim, ff, window, block, mask, n_taps, n_pattern;
    int32_t tap[20];
    bool full, scaled, more;
    float eps, theta;
} numbers;

static const numbers right = {"dflash", 1, 32, 2, 2, 16, 16, 32, 8, 4, 7, 2, 1, {1, 2}, false, false, false, 1e-5f, 10000};

static ponder_status try_numbers(const numbers *n, ponder_error *e)
{
    static const tiny layer[] = {{"attn_norm", 32, 0}, {"attn_q", 32, 32}, {"attn_k", 32, 32}, {"attn_v", 32, 32}, {"attn_output", 32, 32},
                                 {"attn_q_norm", 16, 0}, {"attn_k_norm", 16, 0}, {"ffn_norm", 32, 0}, {"ffn_gate", 32, 32}, {"ffn_up", 32, 32}, {"ffn_down", 32, 32}};
    static const tiny whole[] = {{"fc", 64, 32}, {"enc.output_norm", 32, 0}, {"output_norm", 32, 0}, {"d2t", 32, 0}};
    const size_t n_whole = n->more ? 4 : 3;
    pn_buf b;
    pn_source *s;
    pn_checkpoint *c;
    uint64_t offset = 0;
    char name[64];
    pn_buf_init(&b, NULL);
    gguf_header(&b, 3, PN_COUNT(layer) + n_whole, n->scaled ? 17 : 16);
    key_str(&b, "general.architecture", n->arch);
    key_u32(&b, "dflash.block_count", n->layers);
    key_u32(&b, "dflash.context_length", 64);
    key_u32(&b, "dflash.embedding_length", n->width);
    key_u32(&b, "dflash.feed_forward_length", n->ff);
    key_u32(&b, "dflash.attention.head_count", n->heads);
    key_u32(&b, "dflash.attention.head_count_kv", n->kv_heads);
    key_u32(&b, "dflash.attention.key_length", n->head_dim);
    key_u32(&b, "dflash.attention.value_length", n->value_dim);
    key_u32(&b, "dflash.attention.sliding_window", n->window);
    key_array(&b, "dflash.attention.sliding_window_pattern", 7, n->n_pattern);
    for (uint32_t i = 0; i < n->n_pattern; i++) pn_buf_put(&b, n->full ? "\0" : "\1", 1);
    key_f32(&b, "dflash.attention.layer_norm_rms_epsilon", n->eps);
    key_f32(&b, "dflash.rope.freq_base", n->theta);
    key_u32(&b, "dflash.block_size", n->block);
    key_array(&b, "dflash.target_layers", 5, n->n_taps);
    for (uint32_t i = 0; i < n->n_taps; i++) put32(&b, (uint32_t)n->tap[i]);
    key_u32(&b, "tokenizer.ggml.mask_token_id", n->mask);
    if (n->scaled) key_f32(&b, "dflash.rope.scaling.factor", 2);
    for (size_t i = 0; i < n_whole + PN_COUNT(layer); i++) {
        const tiny *t = i < n_whole ? &whole[i] : &layer[i - n_whole];
        snprintf(name, sizeof name, i < n_whole ? "%s.weight" : "blk.0.%s.weight", t->name);
        tensor(&b, name, t->cols, t->rows, 0, offset);
        offset += t->cols * (t->rows ? t->rows : 1) * 4;
    }
    pad(&b, 32);
    floats(&b, (size_t)offset / 4);
    *e = (ponder_error){.size = sizeof *e};
    assert_int_equal(pn_source_memory(&s, b.p, b.n, NULL, NULL), PONDER_OK);
    ponder_status st = pn_checkpoint_open_source(&c, s, NULL, e);
    if (st == PONDER_OK) st = pn_describe_drafter(c, &target, &d, e);
    for (int role = 0; role < PN_W_COUNT && st == PONDER_OK; role++) {
        pn_slice slice;
        bool found;
        st = pn_find_weight(c, &d, (pn_role)role, 0, &slice, &found, e);
    }
    pn_checkpoint_free(c);
    pn_buf_free(&b);
    return st;
}

#define REFUSED(member, value, status, word) \
    do { \
        numbers n = right; \
        ponder_error why; \
        n.member = value; \
        assert_int_equal(try_numbers(&n, &why), status); \
        assert_true(says(&why, word)); \
    } while (0)

static void wrong_ones_are_refused(void **state)
{
    (void)state;
    ponder_error e;
    target = (pn_description){.layers = 3, .width = 32, .vocab = 8, .embed_scale = 1};
    if (try_numbers(&right, &e)) fail_msg("%s", e.text);
    assert_true(d.block == 4 && d.tap[1] == 2 && d.mask == 7);
    REFUSED(arch, "llama", PONDER_E_UNSUPPORTED, "dflash");
    REFUSED(width, 64, PONDER_E_MISMATCH, "width");
    REFUSED(mask, 8, PONDER_E_MISMATCH, "mask");
    REFUSED(mask, 0x80000000u, PONDER_E_FORMAT, "mask_token_id");
    REFUSED(tap[1], 3, PONDER_E_MISMATCH, "layer 3");
    REFUSED(tap[1], 0, PONDER_E_MISMATCH, "layer 0");
    REFUSED(tap[0], -1, PONDER_E_FORMAT, "target_layers");
    REFUSED(tap[0], 1 << 30, PONDER_E_FORMAT, "target_layers");
    REFUSED(n_taps, 0, PONDER_E_FORMAT, "target_layers");
    REFUSED(n_taps, 17, PONDER_E_FORMAT, "target_layers");
    REFUSED(n_taps, 1, PONDER_E_FORMAT, "fc.weight");
    REFUSED(block, 1, PONDER_E_FORMAT, "block_size");
    REFUSED(block, PN_MAX_BLOCK + 1, PONDER_E_FORMAT, "block_size");
    REFUSED(window, 0, PONDER_E_FORMAT, "sliding_window");
    REFUSED(n_pattern, 0, PONDER_E_FORMAT, "sliding_window_pattern");
    REFUSED(n_pattern, 2, PONDER_E_FORMAT, "sliding_window_pattern");
    REFUSED(full, true, PONDER_E_UNSUPPORTED, "sliding");
    REFUSED(scaled, true, PONDER_E_UNSUPPORTED, "scaling");
    REFUSED(more, true, PONDER_E_UNSUPPORTED, "15 tensors");
    REFUSED(layers, 2, PONDER_E_FORMAT, "sliding_window_pattern");
    REFUSED(layers, 0, PONDER_E_FORMAT, "block_count");
    REFUSED(kv_heads, 3, PONDER_E_FORMAT, "heads");
    REFUSED(heads, 0, PONDER_E_FORMAT, "head_count");
    REFUSED(value_dim, 8, PONDER_E_UNSUPPORTED, "value_length");
    REFUSED(head_dim, 15, PONDER_E_UNSUPPORTED, "value_length");
    REFUSED(eps, -1, PONDER_E_FORMAT, "epsilon");
    REFUSED(theta, 0, PONDER_E_FORMAT, "rotary");
    REFUSED(ff, 64, PONDER_E_FORMAT, "ffn_gate");
}

/* ---- config.json ---------------------------------------------------------------------------------------------------------- */

static ponder_status try_config(const char *json, ponder_error *e)
{
    char folder[256];
    pn_checkpoint *c;
    *e = (ponder_error){.size = sizeof *e};
    new_folder(folder);
    write_file(folder, "config.json", json, strlen(json));
    write_safetensors(folder, "model.safetensors", "{\"norm.weight\": {\"dtype\": \"BF16\", \"shape\": [4], \"data_offsets\": [0, 8]}}", 8);
    ponder_status s = pn_checkpoint_open(&c, folder, NULL, e);
    if (s == PONDER_OK) s = pn_describe_drafter(c, &target, &d, e);
    pn_checkpoint_free(c);
    remove_file(folder, "config.json");
    remove_file(folder, "model.safetensors");
    rmdir(folder);
    return s;
}

static void refused(const char *json, ponder_status status, const char *word)
{
    ponder_error e;
    assert_int_equal(try_config(json, &e), status);
    assert_true(says(&e, word));
}

/* The folder has one tensor, which is noticed when all else was read. */
static void configs(void **state)
{
    (void)state;
#define START "{\"model_type\": \"muse_glimmer_assistant\""
    target = (pn_description){.layers = 52, .width = 6656, .vocab = 202048, .embed_scale = 1};
    refused(START "}", PONDER_E_UNSUPPORTED, "58");
    assert_true(d.layers == 5 && d.heads == 32 && d.kv_heads == 8 && d.head_dim == 128 && d.ff == 19968 && d.window == 2048 && d.block == 16);
    assert_true(d.mask == 201818 && d.theta == 500000 && d.eps == 1e-5f && d.n_taps == 5 && d.tap[0] == 2 && d.tap[4] == 50);
    refused(START ", \"target_layer_ids\": [3]}", PONDER_E_UNSUPPORTED, "58");
    assert_true(d.n_taps == 1 && d.tap[0] == 4);
    refused("{\"model_type\": \"muse_glimmer\"}", PONDER_E_UNSUPPORTED, "muse_glimmer_assistant");
    refused(START ", \"layer_types\": [\"sliding_attention\"]}", PONDER_E_FORMAT, "layer_types");
    refused(START ", \"layer_types\": [\"sliding_attention\", \"full_attention\", \"sliding_attention\", \"sliding_attention\", \"sliding_attention\"]}",
            PONDER_E_UNSUPPORTED, "layer_types");
    refused(START ", \"target_layer_ids\": [51]}", PONDER_E_MISMATCH, "layer 52");
    refused(START ", \"target_layer_ids\": [-1]}", PONDER_E_FORMAT, "target_layer_ids");
    refused(START ", \"target_layer_ids\": 3}", PONDER_E_FORMAT, "target_layer_ids");
    refused(START ", \"rope_parameters\": {\"rope_type\": \"yarn\"}}", PONDER_E_UNSUPPORTED, "rope_type");
    refused(START ", \"hidden_act\": \"gelu\"}", PONDER_E_UNSUPPORTED, "hidden_act");
    refused(START ", \"hidden_size\": 64}", PONDER_E_MISMATCH, "width");
    refused(START ", \"mask_token_id\": 202048}", PONDER_E_MISMATCH, "mask");
    refused(START ", \"block_size\": 4096}", PONDER_E_FORMAT, "block_size");
    refused(START ", \"sliding_window\": 0}", PONDER_E_FORMAT, "sliding_window");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(containers_agree), cmocka_unit_test(wrong_ones_are_refused), cmocka_unit_test(configs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
