#include <math.h>

#include "make.h"

static pn_description d, other;

static pn_checkpoint *open_data(const char *name)
{
    char path[512];
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    if (pn_checkpoint_open(&c, data_path(name, path), NULL, &e)) print_error("%s: %s\n", name, e.text);
    assert_non_null(c);
    return c;
}

static void describe_data(const char *name, pn_description *out)
{
    ponder_error e = {.size = sizeof e};
    pn_checkpoint *c = open_data(name);
    if (pn_describe(c, out, &e)) fail_msg("%s: %s", name, e.text);
    pn_checkpoint_free(c);
}

/* How many weights a model has; all of them must be found in both containers with the same shapes. */
static void same_weights(const char *folder, const char *gguf)
{
    ponder_error e = {.size = sizeof e};
    pn_checkpoint *a = open_data(folder), *b = open_data(gguf);
    assert_int_equal(pn_describe(a, &d, &e), PONDER_OK);
    assert_int_equal(pn_describe(b, &other, &e), PONDER_OK);
    for (int role = 0; role < PN_W_COUNT; role++) {
        for (uint32_t i = 0; i < d.layers; i++) {
            pn_slice x, y;
            bool in_a, in_b;
            if (pn_find_weight(a, &d, (pn_role)role, i, &x, &in_a, &e)) fail_msg("%s: %s", folder, e.text);
            if (pn_find_weight(b, &other, (pn_role)role, i, &y, &in_b, &e)) fail_msg("%s: %s", gguf, e.text);
            if (!in_a || !in_b) continue;
            assert_int_equal(x.rows, y.rows);
            assert_int_equal(x.cols, y.cols);
            assert_int_equal(x.batch, y.batch);
            assert_true(x.from + (x.batch - 1) * x.batch_stride + x.rows * x.row_stride <= x.tensor->bytes);
        }
    }
    pn_checkpoint_free(a);
    pn_checkpoint_free(b);
}

/* What the GGUF converters change is undone by hand; then nothing may differ. */
static void containers_agree(void **state)
{
    (void)state;
    static const char *const names[] = {"llama", "llama-rope3", "qwen2", "qwen3", "gemma3", "muse-glimmer",
                                        "muse-glimmer-bf16", "muse-spark-sparse"};
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        char gguf[64];
        snprintf(gguf, sizeof gguf, "%s/model.gguf", names[i]);
        describe_data(names[i], &d);
        describe_data(gguf, &other);
        assert_true(d.eos == 2 || d.eos == 1);
        other.bos = d.bos, other.eos = d.eos; /* the files have no tokenizer */
        if (!strcmp(d.arch, "llama") || d.gate) assert_true(other.rope_pairs && !d.rope_pairs);
        other.rope_pairs = d.rope_pairs;
        if (d.rope_scaling == 2) { /* a tensor there */
            assert_int_equal(other.rope_scaling, 0);
            other.rope_scaling = 2, other.rope_factor = d.rope_factor, other.rope_low = d.rope_low;
            other.rope_high = d.rope_high, other.rope_original = d.rope_original;
        }
        if (d.post_attn) {
            assert_true(d.norm_offset == 1 && other.norm_offset == 0);
            d.norm_offset = d.final_norm_offset = d.qk_norm_offset = 0;
        }
        if (d.gate) {
            assert_true(d.qk_norm == PN_USE_BARE && other.qk_norm == PN_USE_WEIGHT && other.q_scale == 1);
            d.qk_norm = PN_USE_WEIGHT, d.q_scale = 1;
        }
        if (d.residual_gate) {
            assert_true(d.residual_temperature == 0.3f && d.router_scale == 0.25f && d.fused_gate_up);
            d.residual_temperature = 0, d.router_scale = 1, d.fused_gate_up = false;
            d.ff = 0; /* no dense layers there */
        }
        if (!strcmp(d.arch, "gemma3")) {
            assert_true(fabsf(d.attn_scale - 0.20412415f) < 1e-8f && other.attn_scale == 0.25f); /* 24^-0.5, 16^-0.5 */
            other.attn_scale = d.attn_scale;
        }
        assert_memory_equal(&d, &other, sizeof d);
        same_weights(names[i], gguf);
    }
}

static void numbers_come_from_the_file(void **state)
{
    (void)state;
    describe_data("muse-spark", &d);
    assert_string_equal(d.arch, "muse-spark");
    assert_true(d.layers == 5 && d.width == 96 && d.heads == 4 && d.kv_heads == 2 && d.head_dim == 16 && d.ff == 64);
    assert_true(d.vocab == 160 && d.context == 512 && d.eps == 1e-5f && d.post_eps == 1e-8f && d.embed_norm);
    assert_true(d.norm_offset == 1 && d.final_norm_offset == 0 && d.q_scale == 1.73f && d.gate && d.head_norm);
    assert_true(d.post_attn == PN_USE_BARE && d.post_ffn == PN_USE_INPUT && d.residual_gate && d.attn_scale == 0.25f);
    assert_true(d.window == 10 && d.theta == 500000 && d.rot_dim == 16 && d.act == PN_ACT_SILU && d.logit_scale == 0.25f);
    assert_true(d.softcap == 20 && !d.tied && d.experts == 6 && d.experts_used == 2 && d.expert_ff == 64 && d.expert_width == 32);
    assert_true(d.expert_latent && d.routed_scale == 1 && d.experts_norm && d.bos == 1 && d.eos == 2);
    static const char sliding[] = "01110", rope[] = "01110", sparse[] = "01101";
    for (uint32_t i = 0; i < 5; i++)
        assert_true(d.layer[i].sliding == (sliding[i] == '1') && d.layer[i].rope == (rope[i] == '1') && d.layer[i].sparse == (sparse[i] == '1'));
    describe_data("muse-spark-bf16", &d); /* mask and rotation disagree; layer_rope_theta 12345 and 3 are not bases */
    static const char turned[] = "10110";
    for (uint32_t i = 0; i < 5; i++) assert_true(d.layer[i].sliding == (sliding[i] == '1') && d.layer[i].rope == (turned[i] == '1'));
    assert_true(d.theta == 500000);
    describe_data("llama-rope3", &d);
    assert_true(d.rope_scaling == 2 && d.rope_factor == 8 && d.rope_low == 1 && d.rope_high == 4 && d.rope_original == 64);
    assert_true(d.head_dim == 32 && d.width == 64 && d.heads == 4 && d.kv_heads == 1 && !d.tied && d.embed_scale == 1);
    describe_data("gemma3", &d);
    assert_true(d.embed_scale == sqrtf(96) && d.window == 8 && d.theta == 1e6f && d.theta_local == 1e4f && d.tied);
    for (uint32_t i = 0; i < 7; i++) assert_true(d.layer[i].sliding == (i != 5) && d.layer[i].local_rope == (i != 5) && d.layer[i].rope);
}

static void copy_file(const char *data, const char *folder, const char *as)
{
    char path[512];
    pn_source *s;
    assert_int_equal(pn_source_path(&s, data_path(data, path), NULL, NULL), PONDER_OK);
    write_file(folder, as, pn_source_view(s, 0, pn_source_size(s)), pn_source_size(s));
    pn_source_free(s);
}

static void describe_folder(const char *folder, pn_description *out)
{
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    assert_int_equal(pn_checkpoint_open(&c, folder, NULL, &e), PONDER_OK);
    if (pn_describe(c, out, &e)) fail_msg("%s", e.text);
    pn_checkpoint_free(c);
}

/* The same models as transformers 4 wrote them, and Muse without the lists that have defaults. */
static void older_and_shorter_configs_say_the_same(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"llama", "v4"}, {"llama-rope3", "v4"}, {"llama-k256", "v4"}, {"qwen2", "v4"},
                                           {"qwen3", "v4"}, {"gemma3", "v4"}, {"muse-glimmer", "short"}, {"muse-spark", "short"}};
    char folder[256], file[128];
    new_folder(folder);
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        snprintf(file, sizeof file, "%s/model.safetensors", names[i][0]);
        copy_file(file, folder, "model.safetensors");
        snprintf(file, sizeof file, "%s/config.%s.json", names[i][0], names[i][1]);
        copy_file(file, folder, "config.json");
        describe_data(names[i][0], &d);
        describe_folder(folder, &other);
        assert_memory_equal(&d, &other, sizeof d);
    }
    remove_file(folder, "model.safetensors");
    remove_file(folder, "config.json");
    rmdir(folder);
}

/* ---- configurations written here, with an embedding of 4 rows by 32 and nothing else --------------------------------- */

static ponder_status try_config(const char *json, const char *tensor_name, ponder_error *e)
{
    char folder[256], header[512];
    pn_checkpoint *c;
    *e = (ponder_error){.size = sizeof *e};
    new_folder(folder);
    snprintf(header, sizeof header, "{\"%s\": {\"dtype\": \"BF16\", \"shape\": [4, 32], \"data_offsets\": [0, 256]}}", tensor_name);
    write_file(folder, "config.json", json, strlen(json));
    write_safetensors(folder, "model.safetensors", header, 256);
    ponder_status s = pn_checkpoint_open(&c, folder, NULL, e);
    if (s == PONDER_OK) s = pn_describe(c, &d, e);
    pn_checkpoint_free(c);
    remove_file(folder, "config.json");
    remove_file(folder, "model.safetensors");
    rmdir(folder);
    return s;
}

static void accept(const char *json)
{
    ponder_error e;
    if (try_config(json, "model.embed_tokens.weight", &e)) fail_msg("%s: %s", json, e.text);
}

static void refuse(const char *json, ponder_status status, const char *word)
{
    ponder_error e;
    assert_int_equal(try_config(json, "model.embed_tokens.weight", &e), status);
    assert_true(says(&e, word));
}

/* transformers 5.23's configuration classes. */
static void defaults_are_those_of_the_reference(void **state)
{
    (void)state;
    accept("{\"model_type\": \"muse_glimmer_text\", \"hidden_size\": 32, \"vocab_size\": 4}");
    assert_true(d.layers == 52 && d.heads == 32 && d.kv_heads == 2 && d.head_dim == 128 && d.ff == 19968 && d.context == 131072);
    assert_true(d.window == 2048 && d.q_scale == 3.87f && d.logit_scale == 0.19611613513818404f && d.softcap == 20 && d.theta == 10000);
    assert_true(d.layer[51].sliding == false && d.layer[50].sliding && d.layer[0].sliding && !d.layer[3].rope && d.layer[2].rope);
    accept("{\"model_type\": \"muse_spark\", \"text_config\": {\"hidden_size\": 32, \"vocab_size\": 4}}");
    assert_true(d.layers == 62 && d.heads == 128 && d.kv_heads == 16 && d.head_dim == 64 && d.ff == 16384 && d.context == 1048576);
    assert_true(d.q_scale == 5.4730064863875f && d.experts == 256 && d.experts_used == 8 && d.expert_ff == 4096 && d.expert_width == 4096);
    assert_true(d.residual_temperature == 0.3f && d.theta == 500000 && d.router_scale == 0.1767766952966369f && d.layer[9].sparse);
    assert_true(!d.layer[1].sliding && d.layer[0].sliding && !d.layer[61].rope); /* counted from the last */
    accept("{\"model_type\": \"muse_spark_text\", \"hidden_size\": 32, \"rope_parameters\": {\"rope_type\": \"default\"}}");
    assert_true(d.theta == 10000); /* parameters without a base are not the class's own */
    accept("{\"model_type\": \"gemma3\", \"text_config\": {\"hidden_size\": 32, \"vocab_size\": 4,"
           " \"rope_scaling\": {\"factor\": 8.0, \"rope_type\": \"linear\"}, \"sliding_window\": 1024}}");
    assert_true(d.layers == 26 && d.heads == 8 && d.kv_heads == 4 && d.head_dim == 256 && d.ff == 9216 && d.tied && d.eps == 1e-6f);
    assert_true(d.rope_scaling == 1 && d.rope_factor == 8 && d.theta == 1e6f && d.theta_local == 1e4f && d.window == 1024);
    assert_true(d.attn_scale == 0.0625f && d.layer[4].sliding && !d.layer[5].sliding && d.bos == 2 && d.eos == 1);
    accept("{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_attention_heads\": 4}");
    assert_true(d.layers == 32 && d.kv_heads == 4 && d.head_dim == 8 && d.ff == 11008 && d.eps == 1e-6f && d.theta == 10000 && !d.qkv_bias);
    accept("{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_attention_heads\": 4, \"attention_bias\": true}");
    assert_true(d.qkv_bias && d.out_bias);
    accept("{\"model_type\": \"qwen2\", \"hidden_size\": 32, \"num_attention_heads\": 32, \"head_dim\": 4, \"num_hidden_layers\": 3,"
           " \"use_sliding_window\": true, \"max_window_layers\": 2, \"sliding_window\": 7}");
    assert_true(d.qkv_bias && !d.out_bias && d.window == 7 && !d.layer[1].sliding && d.layer[2].sliding && !d.layer[2].local_rope);
    accept("{\"model_type\": \"qwen3\", \"hidden_size\": 32, \"rope_theta\": 5000000}");
    assert_true(d.kv_heads == 32 && d.head_dim == 128 && d.qk_norm == PN_USE_WEIGHT && d.theta == 5e6f && d.window == 0);
}

/* modeling_utils.tie_weights: the model's own flag, and only when the file has no head of its own. */
static void tied_heads(void **state)
{
    (void)state;
    ponder_error e;
    /* A second tensor by way of the name. */
    const char both[] = "lm_head.weight\": {\"dtype\": \"BF16\", \"shape\": [0, 32], \"data_offsets\": [0, 0]}, \"model.embed_tokens.weight";
    accept("{\"model_type\": \"qwen3\", \"hidden_size\": 32, \"tie_word_embeddings\": true}");
    assert_true(d.tied);
    accept("{\"model_type\": \"qwen3\", \"hidden_size\": 32}");
    assert_false(d.tied);
    accept("{\"model_type\": \"gemma3\", \"text_config\": {\"hidden_size\": 32, \"tie_word_embeddings\": false}}");
    assert_true(d.tied);
    assert_int_equal(try_config("{\"model_type\": \"qwen3\", \"hidden_size\": 32, \"tie_word_embeddings\": true}", both, &e), PONDER_OK);
    assert_false(d.tied);
}

static void layers_and_rotation_are_separate(void **state)
{
    (void)state;
    accept("{\"model_type\": \"muse_glimmer_text\", \"hidden_size\": 32, \"num_hidden_layers\": 3, \"rope_theta\": 77,"
           " \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"], \"layer_rope_theta\": [9.5, 0, 0]}");
    assert_true(!d.layer[0].sliding && d.layer[1].sliding && !d.layer[2].sliding);
    assert_true(d.layer[0].rope && !d.layer[1].rope && !d.layer[2].rope && d.theta == 77);
}

static void prefixes_of_other_releases(void **state)
{
    (void)state;
    static const char *const names[] = {"model.language_model.embed_tokens.weight", "language_model.model.embed_tokens.weight",
                                        "embed_tokens.weight"};
    ponder_error e;
    for (size_t i = 0; i < PN_COUNT(names); i++)
        assert_int_equal(try_config("{\"model_type\": \"gemma3\", \"text_config\": {\"hidden_size\": 32}}", names[i], &e), PONDER_OK);
    assert_int_equal(try_config("{\"model_type\": \"gemma3\"}", "other", &e), PONDER_E_FORMAT);
    assert_true(says(&e, "embed_tokens.weight"));
}

static void bad_configs_are_refused(void **state)
{
    (void)state;
#define L "{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_attention_heads\": 4, "
    refuse("{}", PONDER_E_FORMAT, "model_type");
    refuse("[]", PONDER_E_FORMAT, "config.json");
    refuse("{\"model_type\": \"gpt_neo\"}", PONDER_E_UNSUPPORTED, "gpt_neo");
    refuse("{\"model_type\": \"a_name_longer_than_any_architecture_that_is_known_here\"}", PONDER_E_UNSUPPORTED, "model_type");
    refuse(L "\"num_hidden_layers\": 100000}", PONDER_E_FORMAT, "num_hidden_layers");
    refuse(L "\"num_hidden_layers\": 2.5}", PONDER_E_FORMAT, "num_hidden_layers");
    refuse(L "\"num_hidden_layers\": -1}", PONDER_E_FORMAT, "num_hidden_layers");
    refuse(L "\"intermediate_size\": \"x\"}", PONDER_E_FORMAT, "intermediate_size");
    refuse(L "\"rms_norm_eps\": \"x\"}", PONDER_E_FORMAT, "rms_norm_eps");
    refuse(L "\"rms_norm_eps\": 1e300}", PONDER_E_FORMAT, "rms_norm_eps");
    refuse(L "\"num_key_value_heads\": 3}", PONDER_E_FORMAT, "key-value");
    refuse(L "\"num_key_value_heads\": 0}", PONDER_E_FORMAT, "num_key_value_heads");
    refuse(L "\"head_dim\": 7}", PONDER_E_FORMAT, "rotary");
    refuse(L "\"vocab_size\": 5}", PONDER_E_FORMAT, "vocab_size");
    refuse(L "\"hidden_act\": \"relu\"}", PONDER_E_UNSUPPORTED, "relu");
    refuse(L "\"mlp_bias\": true}", PONDER_E_UNSUPPORTED, "mlp_bias");
    refuse(L "\"attention_bias\": 1}", PONDER_E_FORMAT, "attention_bias");
    refuse(L "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", PONDER_E_UNSUPPORTED, "yarn");
    refuse(L "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0}}", PONDER_E_FORMAT, "low_freq_factor");
    refuse(L "\"rope_scaling\": {\"type\": \"linear\"}}", PONDER_E_FORMAT, "factor");
    refuse(L "\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", PONDER_E_UNSUPPORTED, "partial_rotary_factor");
    refuse(L "\"rope_theta\": 0}", PONDER_E_FORMAT, "base");
    refuse(L "\"quantization_config\": {\"quant_method\": \"gptq\"}}", PONDER_E_UNSUPPORTED, "quantization_config");
    refuse(L "\"layer_types\": [\"full_attention\"]}", PONDER_E_FORMAT, "layer_types");
    refuse("{\"model_type\": \"muse_spark_text\", \"hidden_size\": 32, \"num_experts_per_tok\": 300}", PONDER_E_FORMAT, "experts");
    refuse("{\"model_type\": \"muse_spark_text\", \"hidden_size\": 32, \"mlp_layer_types\": [\"dense\"]}", PONDER_E_FORMAT, "mlp_layer_types");
    refuse("{\"model_type\": \"muse_glimmer_text\", \"hidden_size\": 32, \"sliding_window\": 0}", PONDER_E_FORMAT, "sliding_window");
#undef L
}

/* ---- GGUF quirks ------------------------------------------------------------------------------------------------------ */

static void muse_keys(pn_buf *b)
{
    key_str(b, "general.architecture", "muse-glimmer");
    key_u32(b, "muse-glimmer.block_count", 6);
    key_u32(b, "muse-glimmer.context_length", 64);
    key_u32(b, "muse-glimmer.embedding_length", 32);
    key_u32(b, "muse-glimmer.feed_forward_length", 32);
    key_u32(b, "muse-glimmer.attention.head_count", 2);
    key_f32(b, "muse-glimmer.attention.layer_norm_rms_epsilon", 1e-5f);
    key_u32(b, "muse-glimmer.attention.sliding_window", 10);
    key_f32(b, "muse-glimmer.rope.freq_base", 123);
    key_f32(b, "muse-glimmer.logit_scale", 0.5f);
}

static ponder_status describe_bytes(pn_buf *b, ponder_error *e)
{
    pn_source *s;
    pn_checkpoint *c;
    tensor(b, "token_embd.weight", 32, 4, 0, 0);
    pad(b, 32);
    floats(b, 128);
    assert_int_equal(pn_source_memory(&s, b->p, b->n, NULL, e), PONDER_OK);
    assert_int_equal(pn_checkpoint_open_source(&c, s, NULL, e), PONDER_OK);
    ponder_status status = pn_describe(c, &d, e);
    pn_checkpoint_free(c);
    pn_buf_free(b);
    return status;
}

static pn_buf muse(uint64_t more)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    gguf_header(&b, 3, 1, 10 + more);
    muse_keys(&b);
    return b;
}

static void expect_layers(pn_buf *b, const char *sliding)
{
    ponder_error e = {.size = sizeof e};
    if (describe_bytes(b, &e)) fail_msg("%s", e.text);
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(d.layer[i].sliding, sliding[i] == 'S');
        assert_int_equal(d.layer[i].rope, sliding[i] == 'S');
    }
}

/* As llama.cpp reads them: muse-glimmer.md, "Pattern quirks". */
static void muse_sliding_patterns(void **state)
{
    (void)state;
    const char *k = "muse-glimmer.attention.sliding_window_pattern";
    pn_buf b = muse(0);
    expect_layers(&b, "SSSFSS");
    assert_true(d.theta == 123 && d.logit_scale == 0.5f && d.softcap == 0 && d.post_eps == 1e-8f && d.head_dim == 16 && !d.tied);
    b = muse(1), key_u32(&b, k, 3);
    expect_layers(&b, "SSFSSF");
    b = muse(1), key_u32(&b, k, 1);
    expect_layers(&b, "FFFFFF");
    b = muse(1), key_array(&b, k, 7, 6), pn_buf_put(&b, "\1\0\1\1\0\1", 6);
    expect_layers(&b, "SFSSFS");
    b = muse(1), key_array(&b, k, 5, 6);
    for (int i = 0; i < 6; i++) put32(&b, (uint32_t)(i % 2));
    expect_layers(&b, "FSFSFS");
    b = muse(1), key_array(&b, k, 7, 2), pn_buf_put(&b, "\1\1", 2);
    expect_layers(&b, "SSFFFF");
    b = muse(1), key_f32(&b, "muse-glimmer.rope.freq_base_swa", 456);
    expect_layers(&b, "SSSFSS");
    assert_true(d.theta == 456);
    ponder_error e = {.size = sizeof e};
    b = muse(1), key_array(&b, k, 8, 1), put_str(&b, "x");
    assert_int_equal(describe_bytes(&b, &e), PONDER_E_FORMAT);
    assert_true(says(&e, "sliding_window_pattern"));
}

static pn_buf gemma(uint32_t layers, uint64_t more)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    gguf_header(&b, 3, 1, 9 + more);
    key_str(&b, "general.architecture", "gemma3");
    key_u32(&b, "gemma3.block_count", layers);
    key_u32(&b, "gemma3.context_length", 64);
    key_u32(&b, "gemma3.embedding_length", 32);
    key_u32(&b, "gemma3.feed_forward_length", 32);
    key_u32(&b, "gemma3.attention.head_count", 2);
    key_u32(&b, "gemma3.attention.key_length", 64);
    key_u32(&b, "gemma3.attention.value_length", 64);
    key_f32(&b, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    return b;
}

static void gemma_in_gguf(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_buf b = gemma(8, 3);
    key_u32(&b, "gemma3.attention.sliding_window", 512);
    key_f32(&b, "gemma3.rope.scaling.factor", 8);
    key_str(&b, "gemma3.rope.scaling.type", "linear");
    assert_int_equal(describe_bytes(&b, &e), PONDER_OK);
    assert_true(d.attn_scale == 0.125f && d.theta_local == 10000 && d.rope_scaling == 1 && d.rope_factor == 8 && d.window == 512);
    assert_true(d.layer[4].sliding && d.layer[4].local_rope && !d.layer[5].sliding && !d.layer[5].local_rope && d.layer[7].sliding);
    assert_true(d.embed_scale == sqrtf(32) && d.tied && d.act == PN_ACT_GELU_TANH && d.post_eps == d.eps);
    b = gemma(62, 0); /* 27B: width over heads; and no window, so no local rotation */
    assert_int_equal(describe_bytes(&b, &e), PONDER_OK);
    assert_true(d.attn_scale == 0.25f && d.window == 0 && !d.layer[0].sliding && !d.layer[0].local_rope);
    b = gemma(8, 1);
    key_str(&b, "gemma3.rope.scaling.type", "yarn");
    assert_int_equal(describe_bytes(&b, &e), PONDER_E_UNSUPPORTED);
    assert_true(says(&e, "yarn"));
}

static void experts_are_sliced(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    pn_slice gate, up, down;
    bool found;
    pn_checkpoint *c = open_data("muse-spark-sparse"); /* 6 experts, 32 hidden, 32 in, float32 */
    assert_int_equal(pn_describe(c, &d, &e), PONDER_OK);
    assert_int_equal(pn_find_weight(c, &d, PN_W_EXPERTS_GATE, 1, &gate, &found, &e), PONDER_OK);
    assert_int_equal(pn_find_weight(c, &d, PN_W_EXPERTS_UP, 1, &up, &found, &e), PONDER_OK);
    assert_int_equal(pn_find_weight(c, &d, PN_W_EXPERTS_DOWN, 1, &down, &found, &e), PONDER_OK);
    assert_true(gate.tensor == up.tensor && gate.from == 0 && up.from == 32 * 32 * 4);
    assert_true(gate.rows == 32 && gate.cols == 32 && gate.batch == 6 && gate.batch_stride == 64 * 32 * 4 && gate.row_stride == 128);
    assert_true(down.rows == 32 && down.batch == 6 && down.batch_stride == 32 * 32 * 4 && down.from == 0);
    assert_int_equal(pn_find_weight(c, &d, PN_W_GATE, 1, &gate, &found, &e), PONDER_OK);
    assert_false(found); /* no dense layer */
    assert_int_equal(pn_find_weight(c, &d, PN_W_POST_ATTN, 1, &gate, &found, &e), PONDER_OK);
    assert_false(found);
    assert_int_equal(pn_find_weight(c, &d, PN_W_Q, d.layers, &gate, &found, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_find_weight(c, &d, PN_W_COUNT, 0, &gate, &found, &e), PONDER_E_ARGUMENT);
    pn_checkpoint_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_agree),
        cmocka_unit_test(numbers_come_from_the_file),
        cmocka_unit_test(older_and_shorter_configs_say_the_same),
        cmocka_unit_test(defaults_are_those_of_the_reference),
        cmocka_unit_test(tied_heads),
        cmocka_unit_test(layers_and_rotation_are_separate),
        cmocka_unit_test(prefixes_of_other_releases),
        cmocka_unit_test(bad_configs_are_refused),
        cmocka_unit_test(muse_sliding_patterns),
        cmocka_unit_test(gemma_in_gguf),
        cmocka_unit_test(experts_are_sliced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
