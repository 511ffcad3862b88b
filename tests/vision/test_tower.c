/* The tower's description from both containers and from damaged ones, what loading and encoding cost, and what they refuse. */
#include "tower_rig.h"

#include <sys/stat.h>
#include <unistd.h>

static bool says(const ponder_error *e, const char *word)
{
    if (strstr(e->text, word)) return true;
    print_error("text is: %s\n", e->text);
    return false;
}

static ponder_status describe(const char *model, const char *file, const char *arch, uint32_t width, pn_tower_info *d, bool *found, ponder_error *err)
{
    pn_checkpoint *c = open_model(model, file);
    ponder_status s = pn_tower_describe(d, found, c, arch, width, err);
    pn_checkpoint_free(c);
    return s;
}

/* ---- both containers ---------------------------------------------------------------------------------------------------- */

static void containers_agree(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        ponder_error err = {.size = sizeof err};
        pn_tower_info a, b;
        bool found;
        OK(describe(models[m], "", text_arch(models[m]), TEXT_WIDTH, &a, &found, &err), err);
        assert_true(found);
        OK(describe(models[m], "mmproj.gguf", text_arch(models[m]), TEXT_WIDTH, &b, &found, &err), err);
        assert_true(found && b.frames_summed && b.rope_pairs && !a.frames_summed && !a.rope_pairs);
        b.frames_summed = b.rope_pairs = false;
        assert_memory_equal(&a, &b, sizeof a);
        assert_true(a.width == (m ? 32 : 48) && a.heads == (m ? 2 : 4) && a.ff == (m ? 56 : 72) && a.layers == (m ? 6 : 5));
        assert_true(a.patch == (m ? 4 : 6) && a.side == (m ? 24 : 8) && a.merge == 2 && a.frames == 2 && a.adapter == 40 && a.out == TEXT_WIDTH);
        assert_true(a.lookup == (m ? PN_LOOKUP_SPARK : PN_LOOKUP_GLIMMER) && a.eps == (m ? 1e-5f : 3e-3f) && a.theta == 10000);
        for (uint32_t i = 0; i < a.layers; i++) assert_true(a.full[i] == (i == 3 || i + 1 == a.layers));
        for (int i = 0; i < 3; i++) assert_true(a.mean[i] == 0.5f && a.std[i] == 0.5f);
        assert_true(a.max_cells == 4096 && a.max_frame_cells == 144 && a.video_frames == 96 && a.video_rate == 2);
    }
}

/* No tower is no failure. */
static void absent(void **state)
{
    (void)state;
    static const char *const none[][2] = {{"llama", ""}, {"llama", "model.gguf"}, {"vision-glimmer", "model.gguf"}, {"qwen3-sharded", ""}};
    for (size_t i = 0; i < PN_COUNT(none); i++) {
        ponder_error err = {.size = sizeof err};
        pn_tower *t = (pn_tower *)(uintptr_t)1;
        pn_checkpoint *c = open_model(none[i][0], none[i][1]);
        OK(pn_tower_load(&t, c, "llama", 64, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err), err);
        assert_null(t);
        pn_checkpoint_free(c);
    }
}

static void the_text_model_must_fit(void **state)
{
    (void)state;
    static const char *const files[] = {"", "mmproj.gguf"};
    for (size_t i = 0; i < PN_COUNT(files); i++) {
        ponder_error err = {.size = sizeof err};
        pn_tower_info d;
        bool found;
        assert_int_equal(describe(models[0], files[i], "llama", TEXT_WIDTH, &d, &found, &err), PONDER_E_UNSUPPORTED);
        assert_true(says(&err, "llama") && !found);
        pn_checkpoint *c = open_model(models[0], files[i]);
        pn_tower *t;
        assert_int_equal(pn_tower_load(&t, c, "muse-glimmer", 65, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err), PONDER_E_FORMAT);
        assert_true(says(&err, "65") && !t);
        pn_checkpoint_free(c);
    }
}

/* ---- damaged files ---------------------------------------------------------------------------------------------------------- */

static uint8_t *slurp(const char *model, const char *file, size_t *n)
{
    char path[PATH_ROOM];
    data_path(path, model, file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*n + 1);
    assert_int_equal(fread(p, 1, *n, f), *n);
    p[*n] = 0;
    fclose(f);
    return p;
}

typedef struct damage {
    const char *from, *to;    /* the last occurrence of `from` (its length in a GGUF) is replaced */
    ponder_status status;
    const char *word;
    size_t value;             /* GGUF: 0, or how far behind `from` the four bytes of `to` go */
} damage;

static uint8_t *find_last(uint8_t *p, size_t n, const char *what)
{
    const size_t m = strlen(what);
    for (size_t i = n - m + 1; i-- > 0;)
        if (!memcmp(p + i, what, m)) return p + i;
    fail_msg("no %s", what);
    return NULL;
}

static void check_damage(pn_checkpoint *c, const damage *x)
{
    ponder_error err = {.size = sizeof err};
    pn_tower *t;
    ponder_status s = pn_tower_load(&t, c, "muse-glimmer", TEXT_WIDTH, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err);
    if (s != x->status) fail_msg("%s -> %s: status %d: %s", x->from, x->to, (int)s, err.text);
    if (s != PONDER_OK) assert_true(t == NULL && says(&err, x->word));
    pn_tower_free(t);
    pn_checkpoint_free(c);
}

static void damaged_configs(void **state)
{
    (void)state;
    static const damage list[] = {
        {"\"hidden_size\": 48", "\"hidden_size\": 44", PONDER_E_FORMAT, "out_hidden_size", 0},
        {"\"hidden_size\": 48", "\"hidden_size\": \"48\"", PONDER_E_FORMAT, "vision_config.hidden_size: no integer", 0},
        {"\"hidden_size\": 48", "\"hidden_size\": 0", PONDER_E_FORMAT, "vision_config.hidden_size", 0},
        {"\"hidden_size\": 48", "\"hidden_size\": 4800000000", PONDER_E_FORMAT, "vision_config.hidden_size", 0},
        {"\"num_attention_heads\": 4", "\"num_attention_heads\": 5", PONDER_E_FORMAT, "5 heads", 0},
        {"\"num_attention_heads\": 4", "\"num_attention_heads\": 8", PONDER_E_UNSUPPORTED, "heads of 6", 0},
        {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 6", PONDER_E_FORMAT, "layer_types", 0},
        {"\"num_hidden_layers\": 5", "\"num_hidden_layers\": 100000", PONDER_E_FORMAT, "num_hidden_layers", 0},
        {"\"intermediate_size\": 72", "\"intermediate_size\": 73", PONDER_E_FORMAT, "layers.0.mlp.fc1.weight", 0},
        {"\"patch_size\": 6", "\"patch_size\": 7", PONDER_E_FORMAT, "patch_embedding.weight", 0},
        {"\"patch_temporal\": 2", "\"patch_temporal\": 3", PONDER_E_UNSUPPORTED, "vision_config.patch_temporal", 0},
        {"\"pos_emb_height\": 8", "\"pos_emb_height\": 9", PONDER_E_UNSUPPORTED, "pos_emb_width", 0},
        {"\"pos_emb_height\": 8,\n    \"pos_emb_width\": 8", "\"pos_emb_height\": 9, \"pos_emb_width\": 9", PONDER_E_FORMAT, "position_embedding_table.weight", 0},
        {"\"merge_size\": 2", "\"merge_size\": 4", PONDER_E_FORMAT, "out_hidden_size", 0},
        {"\"hidden_act\": \"gelu\"", "\"hidden_act\": \"gelu_pytorch_tanh\"", PONDER_E_UNSUPPORTED, "vision_config.hidden_act", 0},
        {"\"projector_hidden_act\": \"gelu\"", "\"projector_hidden_act\": \"silu\"", PONDER_E_UNSUPPORTED, "projector_hidden_act", 0},
        {"\"projector_hidden_size\": 40", "\"projector_hidden_size\": 41", PONDER_E_FORMAT, "vision_adapter.fc1.weight", 0},
        {"\"layer_norm_eps\": 0.003", "\"layer_norm_eps\": -1", PONDER_E_FORMAT, "epsilon", 0},
        {"\"layer_norm_eps\": 0.003", "\"layer_norm_eps\": \"x\"", PONDER_E_FORMAT, "layer_norm_eps", 0},
        {"\"rope_theta\": 10000.0", "\"rope_theta\": 0", PONDER_E_FORMAT, "base of the rotary", 0},
        {"\"rope_type\": \"axial\"", "\"rope_type\": \"default\"", PONDER_E_UNSUPPORTED, "rope_parameters.rope_type", 0},
        {"\"window_attention\",\n      \"full", "\"sliding_attention\",\n      \"full", PONDER_E_UNSUPPORTED, "entry 2", 0},
        /* what may be missing */
        {"\"layer_types\"", "\"layer_types_\"", PONDER_OK, NULL, 0},
        {"\"rope_parameters\"", "\"rope\"", PONDER_OK, NULL, 0},
        {"\"hidden_act\"", "\"act\"", PONDER_OK, NULL, 0},
        {"\"patch_temporal\"", "\"temporal\"", PONDER_OK, NULL, 0},
        {"\"vision_config\"", "\"vision\"", PONDER_E_FORMAT, "out_hidden_size", 0},
    };
    for (size_t i = 0; i < PN_COUNT(list); i++) {
        ponder_error err = {.size = sizeof err};
        size_t n, m, cut = strlen(list[i].from), put = strlen(list[i].to);
        uint8_t *config = slurp(models[0], "config.json", &n), *weights = slurp(models[0], "model.safetensors", &m);
        uint8_t *text = malloc(n + put), *at = find_last(config, n, list[i].from);
        const size_t before = (size_t)(at - config);
        memcpy(text, config, before);
        memcpy(text + before, list[i].to, put);
        memcpy(text + before + put, at + cut, n - before - cut);
        pn_source *a, *b;
        pn_checkpoint *c;
        OK(pn_source_memory(&a, text, n - cut + put, NULL, &err), err);
        OK(pn_source_memory(&b, weights, m, NULL, &err), err);
        OK(pn_folder_open_sources(&c, a, b, NULL, &err), err);
        check_damage(c, &list[i]);
        free(config);
        free(weights);
        free(text);
    }
}

static void damaged_projectors(void **state)
{
    (void)state;
    static const damage list[] = {
        {"clip.projector_type", "clip.projector_typf", PONDER_E_UNSUPPORTED, "projector_type", 0},
        {"muse-glimmer", "muse-glimmes", PONDER_E_UNSUPPORTED, "\"muse-glimmes\"", 0},
        {"clip.vision.block_count", "clip.vision.block_counu", PONDER_E_FORMAT, "clip.vision.block_count is missing", 0},
        {"clip.vision.embedding_length", "clip.vision.embedding_lengti", PONDER_E_FORMAT, "clip.vision.embedding_length is missing", 0},
        {"clip.vision.feed_forward_length", "clip.vision.feed_forward_lengti", PONDER_E_FORMAT, "feed_forward_length is missing", 0},
        {"clip.vision.attention.head_count", "clip.vision.attention.head_counu", PONDER_E_FORMAT, "head_count is missing", 0},
        {"clip.vision.attention.layer_norm_epsilon", "clip.vision.attention.layer_norm_epsiloo", PONDER_E_FORMAT, "epsilon is missing", 0},
        {"clip.vision.patch_size", "clip.vision.patch_sizf", PONDER_E_FORMAT, "patch_size is missing", 0},
        {"clip.vision.projection_dim", "clip.vision.projection_din", PONDER_E_FORMAT, "projection_dim is missing", 0},
        {"clip.vision.projection_dim", "\x41\0\0\0", PONDER_E_FORMAT, "65", 4},
        {"clip.vision.block_count", "\x06\0\0\0", PONDER_E_FORMAT, "v.blk.5.ln1.weight is missing", 4},
        {"clip.vision.patch_size", "\x07\0\0\0", PONDER_E_FORMAT, "v.patch_embd.weight", 4},
        {"clip.vision.feed_forward_length", "\x49\0\0\0", PONDER_E_FORMAT, "v.blk.0.ffn_up.weight", 4},
        {"clip.vision.embedding_length", "\x40\0\0\0", PONDER_E_FORMAT, "v.patch_embd.weight", 4},
        {"clip.vision.attention.layer_norm_epsilon", "\0\0\x80\xbf", PONDER_E_FORMAT, "epsilon", 4},
        {"clip.vision.image_std", "\0\0\0\0", PONDER_E_FORMAT, "image_std", 4 + 4 + 8},
        {"v.position_embd.weight", "v.position_embd.weighu", PONDER_E_FORMAT, "v.position_embd.weight", 0},
        {"mm.0.weight", "mm.0.weighu", PONDER_E_FORMAT, "mm.0.weight", 0},
        {"mm.2.weight", "mm.2.weighu", PONDER_E_FORMAT, "mm.2.weight is missing", 0},
        {"v.blk.3.attn_k.bias", "v.blk.3.attn_k.biat", PONDER_E_FORMAT, "v.blk.3.attn_k.bias is missing", 0},
        /* what may be missing */
        {"clip.vision.spatial_merge_size", "clip.vision.spatial_merge_sizf", PONDER_OK, NULL, 0},
        {"clip.vision.image_mean", "clip.vision.image_meao", PONDER_OK, NULL, 0},
        {"clip.vision.image_size", "clip.vision.image_sizf", PONDER_OK, NULL, 0},
    };
    for (size_t i = 0; i < PN_COUNT(list); i++) {
        ponder_error err = {.size = sizeof err};
        size_t n;
        uint8_t *file = slurp(models[0], "mmproj.gguf", &n), *at = find_last(file, n, list[i].from);
        if (list[i].value) memcpy(at + strlen(list[i].from) + list[i].value, list[i].to, 4);
        else memcpy(at, list[i].to, strlen(list[i].from));
        pn_source *s;
        pn_checkpoint *c;
        OK(pn_source_memory(&s, file, n, NULL, &err), err);
        OK(pn_checkpoint_open_source(&c, s, NULL, &err), err);
        check_damage(c, &list[i]);
        free(file);
    }
}

/* A file that says it has no vision encoder (one for sound alone), and one of another kind altogether. */
static void projectors_without_vision(void **state)
{
    (void)state;
    static const damage list[] = {{"clip.has_vision_encoder", "\0\0\0\0", PONDER_OK, NULL, 1}, {"clip.has_vision_encoder", "clip.has_vision_encodes", PONDER_OK, NULL, 0}};
    for (size_t i = 0; i < PN_COUNT(list); i++) {
        ponder_error err = {.size = sizeof err};
        size_t n;
        uint8_t *file = slurp(models[0], "mmproj.gguf", &n), *at = find_last(file, n, list[i].from);
        if (list[i].value) at[strlen(list[i].from) + 4] = 0; /* behind the type */
        else memcpy(at, list[i].to, strlen(list[i].from));
        pn_source *s;
        pn_checkpoint *c;
        pn_tower *t;
        OK(pn_source_memory(&s, file, n, NULL, &err), err);
        OK(pn_checkpoint_open_source(&c, s, NULL, &err), err);
        OK(pn_tower_load(&t, c, "muse-glimmer", TEXT_WIDTH, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err), err);
        assert_null(t);
        pn_checkpoint_free(c);
        free(file);
    }
}

/* ---- processors ------------------------------------------------------------------------------------------------------------- */

static void processor_settings(void **state)
{
    (void)state;
    static const struct { const char *file, *text, *word; } cases[] = {
        {"processor_config.json", "{\"image_processor\": {\"max_image_tokens\": 100, \"image_mean\": [0.1, 0.2, 0.3], \"image_std\": 0.25},"
         " \"video_processor\": {\"max_video_frame_tokens\": 20, \"num_frames\": 8, \"fps\": 1.5}}", NULL},
        {"preprocessor_config.json", "{\"max_image_tokens\": 0}", "max_image_tokens"},
        {"preprocessor_config.json", "{\"image_std\": [0.5, 0, 0.5]}", "image_std"},
        {"preprocessor_config.json", "{\"image_mean\": [0.5, 0.5]}", "image_mean"},
        {"video_preprocessor_config.json", "{\"fps\": -2}", "fps"},
    };
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        ponder_error err = {.size = sizeof err};
        char folder[] = "/tmp/ponder-tower-XXXXXX", path[PATH_ROOM], link[PATH_ROOM];
        static const char *const files[] = {"config.json", "model.safetensors"};
        pn_tower_info d;
        bool found;
        pn_checkpoint *c;
        assert_non_null(mkdtemp(folder));
        for (size_t f = 0; f < PN_COUNT(files); f++) {
            data_path(path, models[0], files[f]);
            snprintf(link, sizeof link, "%s/%s", folder, files[f]);
            assert_int_equal(symlink(path, link), 0);
        }
        snprintf(link, sizeof link, "%s/%s", folder, cases[i].file);
        FILE *f = fopen(link, "w");
        fputs(cases[i].text, f);
        fclose(f);
        OK(pn_checkpoint_open(&c, folder, NULL, &err), err);
        ponder_status s = pn_tower_describe(&d, &found, c, "muse-glimmer", TEXT_WIDTH, &err);
        if (cases[i].word) {
            assert_int_equal(s, PONDER_E_FORMAT);
            assert_true(says(&err, cases[i].word));
        } else {
            OK(s, err);
            assert_true(d.max_cells == 100 && d.max_frame_cells == 20 && d.video_frames == 8 && d.video_rate == 1.5f);
            assert_true(d.mean[0] == 0.1f && d.mean[1] == 0.2f && d.mean[2] == 0.3f && d.std[0] == 0.25f && d.std[2] == 0.25f);
        }
        pn_checkpoint_free(c);
        unlink(link);
        for (size_t k = 0; k < PN_COUNT(files); k++) {
            snprintf(link, sizeof link, "%s/%s", folder, files[k]);
            unlink(link);
        }
        rmdir(folder);
    }
}

/* ---- what it costs ------------------------------------------------------------------------------------------------------------ */

typedef struct counter {
    ponder_alloc a;
    size_t calls, live, bytes, fail_at; /* fail_at 0: never; else the call with that number fails */
} counter;

static void *counter_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    if (++c->calls == c->fail_at) return NULL;
    c->live++;
    c->bytes += bytes;
    return aligned_alloc(PN_MAX(align, (size_t)16), (bytes + align + 15) / PN_MAX(align, (size_t)16) * PN_MAX(align, (size_t)16));
}

static void counter_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live--;
    c->bytes -= bytes;
    free(p);
}

static void counter_init(counter *c, size_t fail_at)
{
    *c = (counter){.fail_at = fail_at};
    c->a = (ponder_alloc){.size = sizeof c->a, .user = c, .alloc = counter_alloc, .free = counter_free};
}

static void plans_hold(void **state)
{
    (void)state;
    static const char *const files[] = {"", "mmproj.gguf"};
    static const int32_t quantise[] = {-1, PN_Q8_0};
    for (int i = 0; i < 16; i++) {
        const char *model = models[i % 2], *file = files[i / 2 % 2];
        const pn_load_options o = {.repack = i / 4 % 2, .quantize = quantise[i / 8]};
        ponder_error err = {.size = sizeof err};
        pn_tower_info d;
        bool found;
        pn_load_plan plan;
        pn_tower *t;
        counter m;
        pn_checkpoint *c = open_model(model, file);
        OK(pn_tower_describe(&d, &found, c, text_arch(model), TEXT_WIDTH, &err), err);
        OK(pn_tower_plan(&plan, c, &d, &o, &err), err);
        counter_init(&m, 0);
        OK(pn_tower_load(&t, c, text_arch(model), TEXT_WIDTH, &o, &m.a, &err), err);
        assert_int_equal(m.bytes, plan.owned);
        assert_int_equal(plan.mapped != 0, pn_tower_store(t)->file != NULL);
        assert_int_equal(pn_tower_quantised(t), o.quantize >= 0);
        const pn_grid grid = {3, 5};
        const size_t before = m.bytes, n = 60 * pn_tower_patch_values(&d);
        float *patches = calloc(n, sizeof *patches), *rows = calloc(15 * TEXT_WIDTH, sizeof *rows);
        pn_kernels k;
        pn_encode *e;
        pn_kernels_init(&k, pn_cpu_flags());
        OK(pn_encode_new(&e, t, &(pn_encode_input){.grid = grid, .patches = patches}, rows, &k, 3, &m.a, &err), err);
        assert_int_equal(m.bytes - before, pn_encode_bytes(&d, o.quantize >= 0, grid, 3));
        const size_t calls = m.calls;
        run(e, NULL, NULL);
        assert_int_equal(m.calls, calls); /* nothing while it computes */
        for (size_t v = 0; v < 15 * TEXT_WIDTH; v++) assert_true(isfinite(rows[v]));
        pn_encode_free(e);
        pn_tower_free(t);
        assert_int_equal(m.live, 0);
        pn_checkpoint_free(c);
        free(patches);
        free(rows);
    }
}

/* The released tower: 50 layers, width 1536; the largest picture has 4,096 cells. */
static void released_sizes(void **state)
{
    (void)state;
    const pn_tower_info d = {.layers = 50, .width = 1536, .heads = 16, .head_dim = 96, .ff = 8960, .patch = 14, .merge = 2, .frames = 2,
                             .side = 32, .adapter = 4096, .out = 6656};
    const size_t most = pn_encode_bytes(&d, false, (pn_grid){64, 64}, 8), small = pn_encode_bytes(&d, false, (pn_grid){16, 16}, 8);
    print_message("working memory of the released tower: %.0f MB for 4096 rows, %.0f MB for 256\n", (double)most / 1e6, (double)small / 1e6);
    assert_true(most < 400e6 && small < 80e6);
}

static void every_allocation_fails(void **state)
{
    (void)state;
    static const char *const files[] = {"", "mmproj.gguf"};
    for (size_t f = 0; f < PN_COUNT(files); f++) {
        ponder_status s = PONDER_E_NOMEM;
        for (size_t at = 1; s != PONDER_OK; at++) {
            ponder_error err = {.size = sizeof err};
            counter m;
            pn_tower *t;
            pn_encode *e = NULL;
            pn_kernels k;
            float *patches = calloc(4 * 6 * 6 * 6, sizeof *patches), rows[TEXT_WIDTH];
            pn_checkpoint *c = open_model(models[0], files[f]);
            pn_kernels_init(&k, pn_cpu_flags());
            counter_init(&m, at);
            s = pn_tower_load(&t, c, "muse-glimmer", TEXT_WIDTH, &(pn_load_options){.repack = true, .quantize = -1}, &m.a, &err);
            if (s == PONDER_OK) s = pn_encode_new(&e, t, &(pn_encode_input){.grid = {1, 1}, .patches = patches}, rows, &k, 1, &m.a, &err);
            assert_true(s == PONDER_OK || (s == PONDER_E_NOMEM && !e && says(&err, "memory")));
            assert_true(at < 100 && (s == PONDER_OK) == (m.calls < at));
            pn_encode_free(e);
            pn_tower_free(t);
            assert_int_equal(m.live, 0);
            pn_checkpoint_free(c);
            free(patches);
        }
    }
}

static int32_t stop_at_once(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    assert_true(done <= total && total > 0);
    return 1;
}

static void loading_is_cancelled(void **state)
{
    (void)state;
    ponder_error err = {.size = sizeof err};
    pn_tower *t;
    pn_checkpoint *c = open_model(models[0], "");
    const pn_load_options o = {.repack = true, .quantize = -1, .progress = stop_at_once};
    assert_int_equal(pn_tower_load(&t, c, "muse-glimmer", TEXT_WIDTH, &o, NULL, &err), PONDER_E_CANCELLED);
    assert_null(t);
    pn_checkpoint_free(c);
}

/* ---- what encoding refuses ------------------------------------------------------------------------------------------------------ */

static void refused_inputs(void **state)
{
    (void)state;
    static const pn_grid wrong[] = {{0, 1}, {1, 0}, {0, 0}, {1 << 19, 1}, {1024, 513}, {UINT32_MAX, UINT32_MAX}, {1u << 31, 2}};
    ponder_error err = {.size = sizeof err};
    pn_tower *t = load_tower(models[0], "");
    pn_kernels k;
    pn_encode *e;
    float none = 0;
    pn_kernels_init(&k, pn_cpu_flags());
    for (size_t i = 0; i < PN_COUNT(wrong); i++) {
        assert_int_equal(pn_encode_new(&e, t, &(pn_encode_input){.grid = wrong[i], .patches = &none}, &none, &k, 1, NULL, &err), PONDER_E_RANGE);
        assert_true(e == NULL && says(&err, "grid"));
    }
    pn_tower_free(t);
}

static void summed_frames(void **state)
{
    (void)state;
    ponder_error err = {.size = sizeof err};
    static reference r;
    reference_read(&r, models[0]);
    pn_tower *t = load_tower(models[0], "mmproj.gguf");
    const item *c = item_named(&r, "pair");
    float *patches = patches_of(&t->d, c), rows[6 * TEXT_WIDTH];
    pn_kernels k;
    pn_encode *e;
    pn_kernels_init(&k, pn_cpu_flags());
    pn_encode_input in = {.grid = c->grid, .patches = patches};
    assert_int_equal(pn_encode_new(&e, t, &in, rows, &k, 1, NULL, &err), PONDER_E_UNSUPPORTED);
    assert_true(e == NULL && says(&err, "v.patch_embd.weight"));
    pn_resize *frame[2];
    for (int i = 0; i < 2; i++) {
        pn_image_view v = {.pixels = c->frame[i].v, .width = c->frame[i].width, .height = c->frame[i].height, .format = PN_PIXELS_RGB};
        pn_image *im;
        OK(pn_image_from_view(&im, &v, NULL, NULL, &err), err);
        OK(pn_resize_new(&frame[i], im, v.width, v.height, 0, NULL, &err), err);
        pn_image_free(im);
    }
    in = (pn_encode_input){.grid = c->grid, .frame = {frame[0], frame[1]}};
    assert_int_equal(pn_encode_new(&e, t, &in, rows, &k, 1, NULL, &err), PONDER_E_UNSUPPORTED);
    for (int i = 0; i < 2; i++) pn_resize_free(frame[i]);
    free(patches);
    pn_tower_free(t);
    reference_free(&r);
}

/* Quantised towers come near: Q8_0 weights and activations of 8 bits. Rows have size 1. */
static void quantised(void **state)
{
    (void)state;
    static reference r;
    reference_read(&r, models[1]);
    pn_tower *t = load_with(models[1], "", &(pn_load_options){.repack = true, .quantize = PN_Q8_0});
    const item *c = item_named(&r, "large");
    float *got = encode(t, c);
    double dot = 0, a = 0, b = 0;
    for (size_t i = 0; i < c->rows.n; i++) {
        dot += (double)got[i] * (double)c->rows.v[i];
        a += (double)got[i] * (double)got[i];
        b += (double)c->rows.v[i] * (double)c->rows.v[i];
    }
    print_message("Q8_0: cosine %.5f\n", dot / sqrt(a * b));
    assert_true(dot / sqrt(a * b) > 0.999 && max_error(got, c->rows.v, c->rows.n) > r.tolerance);
    free(got);
    pn_tower_free(t);
    reference_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_agree), cmocka_unit_test(absent), cmocka_unit_test(the_text_model_must_fit), cmocka_unit_test(damaged_configs),
        cmocka_unit_test(damaged_projectors), cmocka_unit_test(projectors_without_vision), cmocka_unit_test(processor_settings),
        cmocka_unit_test(plans_hold), cmocka_unit_test(released_sizes), cmocka_unit_test(every_allocation_fails),
        cmocka_unit_test(loading_is_cancelled), cmocka_unit_test(refused_inputs), cmocka_unit_test(summed_frames), cmocka_unit_test(quantised)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
