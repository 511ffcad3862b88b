/* The files people use, when the folder PONDER_TEST_MODELS holds them: smollm2.gguf (SmolLM2-135M-Instruct), gemma3.gguf
 * (Gemma 3), muse.tiktoken (the 200k rank file). Their ids stand in real.json; the files are never stored here. */
#include "support.h"

#include "files/files.h"

static json_t *vectors, *real;

static int load(void **state)
{
    vectors = read_json("vectors.json");
    real = read_json("real.json");
    return vectors && real ? 0 : -1;
}

static int unload(void **state)
{
    json_decref(vectors);
    json_decref(real);
    return 0;
}

static const char *path_of(const char *file, char path[4096])
{
    const char *folder = getenv("PONDER_TEST_MODELS");
    snprintf(path, 4096, "%s/%s", folder ? folder : "", file);
    FILE *f = folder ? fopen(path, "rb") : NULL;
    if (f) {
        fclose(f);
        return path;
    }
    fprintf(stderr, "SKIPPED: no %s in PONDER_TEST_MODELS\n", file);
    skip();
    return NULL;
}

static void check_gguf(const char *file, const char *name)
{
    char path[4096];
    pn_checkpoint *c;
    pn_tokenizer_data data;
    pn_tokenizer *t;
    ponder_error err = {.size = sizeof err};
    if (pn_checkpoint_open(&c, path_of(file, path), NULL, &err)) fail_msg("%s", err.text);
    if (pn_checkpoint_tokenizer(c, &data, &err)) fail_msg("%s", err.text);
    assert_true(data.found && !data.is_json);
    if (pn_tokenizer_from_vocab(&t, &data.vocab, NULL, &err)) fail_msg("%s", err.text);
    pn_checkpoint_free(c);
    check_vectors(t, json_object_get(vectors, "texts"), json_object_get(real, name), name);
    pn_tokenizer_free(t);
}

static void smollm2(void **state) { check_gguf("smollm2.gguf", "smollm2"); }
static void gemma3(void **state) { check_gguf("gemma3.gguf", "gemma3"); }

static void muse(void **state)
{
    char path[4096];
    size_t n;
    pn_tokenizer *t;
    ponder_error err = {.size = sizeof err};
    char *p = read_file(path_of("muse.tiktoken", path), &n);
    if (pn_tokenizer_from_tiktoken(&t, p, n, NULL, &err)) fail_msg("%s", err.text);
    free(p);
    assert_int_equal(pn_tokenizer_size(t), 202048);
    assert_int_equal(pn_tokenizer_find(t, "<|patch|>", 9), 200092);
    check_vectors(t, json_object_get(vectors, "texts"), json_object_get(real, "muse"), "muse");
    pn_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(smollm2), cmocka_unit_test(gemma3), cmocka_unit_test(muse)};
    return cmocka_run_group_tests(tests, load, unload);
}
