/* Descriptions and files that do not fit: named, refused, nothing lost; memory as planned, and ending anywhere. */
#include <fcntl.h>
#include <sys/stat.h>

#include "files/checkpoint.h"
#include "tower_rig.h"

/* ---- changed files ------------------------------------------------------------------------- */

static pn_buf bytes_of(const char *model, const char *file)
{
    char path[PATH_ROOM];
    pn_buf b;
    data_path(path, model, file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    pn_buf_init(&b, NULL);
    assert_true(pn_buf_reserve(&b, 1 << 20));
    b.n = fread(b.p, 1, 1 << 20, f);
    fclose(f);
    return b;
}

static char *find_bytes(const pn_buf *b, const char *what, size_t n)
{
    for (size_t i = 0; i + n <= b->n; i++)
        if (!memcmp(b->p + i, what, n)) return b->p + i;
    fail_msg("no %s", what);
    return NULL;
}

/* The text `from` of config.json becomes `to`. */
static pn_checkpoint *folder_with(const char *from, const char *to)
{
    ponder_error e = {.size = sizeof e};
    char path[PATH_ROOM];
    pn_buf b = bytes_of("audio-spark", "config.json"), changed;
    const size_t at = (size_t)(find_bytes(&b, from, strlen(from)) - b.p);
    pn_buf_init(&changed, NULL);
    pn_buf_put(&changed, b.p, at);
    pn_buf_puts(&changed, to);
    pn_buf_put(&changed, b.p + at + strlen(from), b.n - at - strlen(from));
    pn_source *config, *weights;
    pn_checkpoint *c;
    OK(pn_source_memory(&config, changed.p, changed.n, NULL, &e), e);
    data_path(path, "audio-spark", "model.safetensors");
    OK(pn_source_path(&weights, path, NULL, &e), e);
    OK(pn_folder_open_sources(&c, config, weights, NULL, &e), e);
    pn_buf_free(&b);
    pn_buf_free(&changed);
    return c;
}

static void refused(pn_checkpoint *c, const char *arch, uint32_t width, ponder_status want, const char *text)
{
    ponder_error e = {.size = sizeof e};
    const pn_load_options o = {.repack = true, .quantize = -1};
    pn_audio *t = (pn_audio *)(void *)&e;
    ponder_status st = pn_audio_load(&t, c, arch, width, &o, NULL, &e);
    if (st != want || !strstr(e.text, text)) fail_msg("%d \"%s\", not %d \"%s\"", (int)st, e.text, (int)want, text);
    assert_null(t);
    pn_checkpoint_free(c);
}

static void config_refused(const char *from, const char *to, ponder_status want, const char *text)
{
    refused(folder_with(from, to), "muse-spark", TEXT_WIDTH, want, text);
}

static void folders_that_do_not_fit(void **state)
{
    (void)state;
    const char *patches = "\"patch_sizes\": [\n      16,", *widths = "\"hidden_sizes\": [\n      16,", *depths = "\"depths\": [\n      2,";
    config_refused("\"conv_kernel_size\": 7", "\"conv_kernel_size\": 0", PONDER_E_FORMAT, "audio_config.conv_kernel_size");
    config_refused("\"conv_kernel_size\": 7", "\"conv_kernel_size\": 65", PONDER_E_FORMAT, "audio_config.conv_kernel_size");
    config_refused("\"conv_kernel_size\": 7", "\"conv_kernel_size\": 6", PONDER_E_FORMAT, "conv.weight");
    config_refused("\"conv_kernel_size\": 7", "\"conv_kernel_size\": \"7\"", PONDER_E_FORMAT, "no integer");
    config_refused("\"hidden_act\": \"gelu\",\n    \"hidden_sizes\"", "\"hidden_act\": \"gelu_pytorch_tanh\",\n    \"hidden_sizes\"",
                   PONDER_E_UNSUPPORTED, "audio_config.hidden_act");
    config_refused("\"mlp_ratio\": 2.6", "\"mlp_ratio\": -2.6", PONDER_E_FORMAT, "audio_config.mlp_ratio");
    config_refused("\"mlp_ratio\": 2.6", "\"mlp_ratio\": 1e30", PONDER_E_FORMAT, "audio_config.mlp_ratio");
    config_refused("\"mlp_ratio\": 2.6", "\"mlp_ratio\": \"four\"", PONDER_E_FORMAT, "audio_config.mlp_ratio");
    config_refused("\"mlp_ratio\": 2.6", "\"mlp_ratio\": 2.5", PONDER_E_FORMAT, "mlp.fc1.weight");
    config_refused("\"out_hidden_size\": 64", "\"out_hidden_size\": 65", PONDER_E_FORMAT, "65 values, the text model's 64");
    config_refused("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": 0", PONDER_E_FORMAT, "epsilon");
    config_refused(patches, "\"patch_sizes\": [\n      0,", PONDER_E_FORMAT, "audio_config.patch_sizes");
    config_refused(patches, "\"patch_sizes\": [\n      16, 2,", PONDER_E_FORMAT, "has 5");
    config_refused(patches, "\"patch_sizes\": [\n      1, 1, 1, 1, 1, 1,", PONDER_E_FORMAT, "audio_config.patch_sizes");
    config_refused(patches, "\"patch_sizes\": [\n      4096, 4096, 16],\"p\": [", PONDER_E_FORMAT, "stages");
    config_refused(patches, "\"patch_sizes\": [\n      4000,", PONDER_E_FORMAT, "patch_embedder.proj.weight");
    config_refused(patches, "\"patch_sizes\": [\n      4096, 4096, 1, 1], \"p\": [", PONDER_E_FORMAT, "samples");
    config_refused(patches, "\"patch_sizes\": 16, \"p\": [", PONDER_E_FORMAT, "no list");
    config_refused(widths, "\"hidden_sizes\": [\n      17,", PONDER_E_FORMAT, "patch_embedder");
    config_refused(widths, "\"hidden_sizes\": [\n      99999,", PONDER_E_FORMAT, "audio_config.hidden_sizes");
    config_refused(depths, "\"depths\": [\n      3,", PONDER_E_FORMAT, "layers.0.conv_blocks.2");
    config_refused(depths, "\"depths\": [\n      -1,", PONDER_E_FORMAT, "audio_config.depths");
    config_refused(depths, "\"depths\": [\n      2.5,", PONDER_E_FORMAT, "audio_config.depths");
    config_refused("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", PONDER_E_FORMAT, "num_hidden_layers");
    config_refused("\"audio_config\"", "\"no_audio_config\"", PONDER_E_FORMAT, "8192 values"); /* the defaults are the release's */
    refused(open_model("audio-spark", ""), "muse-glimmer", TEXT_WIDTH, PONDER_E_UNSUPPORTED, "muse-glimmer");
    refused(open_model("audio-spark", ""), "muse-spark", 96, PONDER_E_FORMAT, "64 values");
}

/* ---- GGUF ---------------------------------------------------------------------------------- */

static void gguf_refused(const char *what, size_t n, size_t skip, const char *to, size_t bytes, ponder_status want, const char *text)
{
    ponder_error e = {.size = sizeof e};
    pn_buf b = bytes_of("audio-spark", "mmproj.gguf");
    memcpy(find_bytes(&b, what, n) + skip, to, bytes);
    pn_source *s;
    pn_checkpoint *c;
    OK(pn_source_memory(&s, b.p, b.n, NULL, &e), e);
    OK(pn_checkpoint_open_source(&c, s, NULL, &e), e);
    refused(c, "muse-spark", TEXT_WIDTH, want, text);
    pn_buf_free(&b);
}

/* A value follows its key and its type (4 bytes); a list its element type and its length besides. */
#define VALUE(key, to, want, text) gguf_refused(key, strlen(key), strlen(key) + 4, to, 4, want, text)
#define LISTED(key, to, want, text) gguf_refused(key, strlen(key), strlen(key) + 16, to, 4, want, text)
#define RENAMED(name, want, text) gguf_refused(name, strlen(name), 0, "Z", 1, want, text)

static void projectors_that_do_not_fit(void **state)
{
    (void)state;
    VALUE("clip.audio.conv_kernel_size", "\0\0\0\0", PONDER_E_FORMAT, "clip.audio.conv_kernel_size");
    VALUE("clip.audio.projection_dim", "\x41\0\0\0", PONDER_E_FORMAT, "65 values");
    VALUE("clip.audio.block_count", "\x08\0\0\0", PONDER_E_FORMAT, "clip.audio.block_count");
    VALUE("clip.audio.attention.layer_norm_epsilon", "\0\0\x80\x7f", PONDER_E_FORMAT, "layer_norm_epsilon");
    LISTED("clip.audio.hidden_sizes", "\x11\0\0\0", PONDER_E_FORMAT, "a.patch.0.weight");
    LISTED("clip.audio.patch_sizes", "\xff\xff\xff\xff", PONDER_E_FORMAT, "clip.audio.patch_sizes");
    LISTED("clip.audio.depths", "\x01\0\0\0", PONDER_E_FORMAT, "clip.audio.block_count");
    LISTED("clip.audio.depths", "\x41\0\0\0", PONDER_E_FORMAT, "clip.audio.depths");
    RENAMED("clip.audio.depths", PONDER_E_FORMAT, "clip.audio.depths");
    RENAMED("clip.audio.projection_dim", PONDER_E_FORMAT, "projection_dim is missing");
    RENAMED("a.patch.2.norm.weight", PONDER_E_FORMAT, "a.patch.2.norm.weight is missing");
    RENAMED("a.conv1d.6.weight", PONDER_E_FORMAT, "a.conv1d.6.weight is missing");
    RENAMED("a.blk.0.ffn_up.weight", PONDER_E_FORMAT, "a.blk.0.ffn_up.weight");
    RENAMED("a.blk.3.ffn_up.weight", PONDER_E_FORMAT, "a.blk.3.ffn_up.weight");
    RENAMED("mm.a.fc.bias", PONDER_E_FORMAT, "mm.a.fc.bias is missing");
    RENAMED("a.post_ln.weight", PONDER_E_FORMAT, "a.post_ln.weight is missing");
    RENAMED("muse-spark-audio", PONDER_E_UNSUPPORTED, "\"Zuse-spark-audio\"");
}

/* No tower is no failure: a text model's file, a projector without ears. */
static void without_ears(void **state)
{
    (void)state;
    static const char *const none[][2] = {{"audio-spark", "model.gguf"}, {"llama", ""}, {"muse-glimmer", ""}, {"vision-spark", "mmproj.gguf"}};
    for (size_t i = 0; i < PN_COUNT(none); i++) {
        ponder_error e = {.size = sizeof e};
        pn_checkpoint *c = open_model(none[i][0], none[i][1]);
        pn_audio *t = (pn_audio *)(void *)&e;
        const pn_load_options o = {.repack = true, .quantize = -1};
        OK(pn_audio_load(&t, c, "muse-spark", TEXT_WIDTH, &o, NULL, &e), e);
        assert_null(t);
        pn_checkpoint_free(c);
    }
}

/* ---- what is right ----------------------------------------------------------------------------- */

static void every_number(void **state)
{
    (void)state;
    for (size_t f = 0; f < PN_COUNT(files); f++) {
        pn_audio *t = load_tower("audio-spark", files[f]);
        const pn_audio_info *d = pn_audio_about(t);
        const uint32_t patch[] = {16, 6, 5, 4}, width[] = {16, 24, 32, 40}, depth[] = {2, 1, 2, 2}, ff[] = {41, 62, 83, 104};
        assert_int_equal(d->stages, 4);
        assert_memory_equal(d->patch, patch, sizeof patch);
        assert_memory_equal(d->width, width, sizeof width);
        assert_memory_equal(d->depth, depth, sizeof depth);
        assert_memory_equal(d->ff, ff, sizeof ff); /* 2.6 times the width, cut */
        assert_int_equal(d->taps, 7);
        assert_int_equal(d->out, 64);
        assert_true(d->eps == 1e-6f);
        assert_int_equal(d->rate, 24000);
        assert_int_equal(d->samples, 1920);
        assert_false(pn_audio_quantised(t));
        pn_audio_free(t);
    }
}

static void write_text(const char *folder, const char *name, const void *p, size_t n)
{
    char path[PATH_ROOM + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

/* The rate stands with the processor's settings. */
static void another_rate(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    char folder[PATH_ROOM], path[PATH_ROOM + 32], weights[PATH_ROOM];
    static const char *const rates[] = {"16000", "99", "\"high\""};
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/ponder-ears-XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
    pn_buf config = bytes_of("audio-spark", "config.json");
    write_text(folder, "config.json", config.p, config.n);
    pn_buf_free(&config);
    data_path(weights, "audio-spark", "model.safetensors");
    char *real = realpath(weights, NULL);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(symlink(real, path), 0);
    free(real);
    for (size_t i = 0; i < PN_COUNT(rates); i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"feature_extractor\": {\"sampling_rate\": %s}}", rates[i]);
        write_text(folder, "processor_config.json", text, strlen(text));
        pn_checkpoint *c;
        pn_audio_info d;
        bool found;
        OK(pn_checkpoint_open(&c, folder, NULL, &e), e);
        ponder_status st = pn_audio_describe(&d, &found, c, "muse-spark", TEXT_WIDTH, &e);
        assert_int_equal(st, i == 0 ? PONDER_OK : PONDER_E_FORMAT);
        assert_int_equal(found, i == 0);
        if (i == 0) assert_int_equal(d.rate, 16000);
        else assert_non_null(strstr(e.text, "feature_extractor.sampling_rate"));
        pn_checkpoint_free(c);
        snprintf(path, sizeof path, "%s/processor_config.json", folder);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    unlink(path);
    rmdir(folder);
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void memory_as_planned(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        for (int32_t repack = 0; repack < 2; repack++) {
            ponder_error e = {.size = sizeof e};
            pn_checkpoint *c = open_model(models[m], "");
            const pn_load_options o = {.repack = repack, .quantize = -1};
            pn_audio_info d;
            pn_load_plan plan;
            pn_audio *t;
            bool found;
            counter count;
            counter_init(&count, 0);
            OK(pn_audio_describe(&d, &found, c, "muse-spark", TEXT_WIDTH, &e), e);
            OK(pn_audio_plan(&plan, c, &d, &o, &e), e);
            OK(pn_audio_load(&t, c, "muse-spark", TEXT_WIDTH, &o, &count.a, &e), e);
            assert_int_equal(count.bytes, plan.owned);
            assert_true(pn_store_bytes(pn_audio_store(t)) < plan.owned);
            assert_true((plan.mapped == 0) == (repack == 1));
            assert_true(pn_audio_store(t)->parameters > 10000);
            pn_audio_free(t);
            assert_int_equal(count.live, 0);
            pn_checkpoint_free(c);
        }
    }
}

static void memory_ends_anywhere(void **state)
{
    (void)state;
    for (size_t f = 0; f < PN_COUNT(files); f++) {
        pn_checkpoint *c = open_model("audio-spark", files[f]);
        bool done = false;
        for (size_t at = 1; !done; at++) {
            ponder_error e = {.size = sizeof e};
            const pn_load_options o = {.repack = true, .quantize = -1};
            pn_audio *t;
            counter count;
            counter_init(&count, at);
            ponder_status st = pn_audio_load(&t, c, "muse-spark", TEXT_WIDTH, &o, &count.a, &e);
            done = count.calls < at;
            assert_int_equal(st, done ? PONDER_OK : PONDER_E_NOMEM);
            pn_audio_free(t);
            assert_int_equal(count.live, 0);
            assert_int_equal(count.bytes, 0);
        }
        pn_checkpoint_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number),
        cmocka_unit_test(folders_that_do_not_fit),
        cmocka_unit_test(projectors_that_do_not_fit),
        cmocka_unit_test(without_ears),
        cmocka_unit_test(another_rate),
        cmocka_unit_test(memory_as_planned),
        cmocka_unit_test(memory_ends_anywhere),
    };
    return cmocka_run_group_tests_name("audio: files of towers", tests, NULL, NULL);
}
