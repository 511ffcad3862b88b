/* Ids equal to Hugging Face's `tokenizers` and to `tiktoken` (tests/reference/make_tokenizers.py). */
#include "support.h"

static json_t *vectors;

static int load(void **state)
{
    vectors = read_json("vectors.json");
    return vectors ? 0 : -1;
}

static int unload(void **state)
{
    json_decref(vectors);
    return 0;
}

static void check(const pn_tokenizer *t, const char *name)
{
    check_vectors(t, json_object_get(vectors, "texts"), json_object_get(json_object_get(vectors, "expected"), name), name);
}

static void from_json(void **state)
{
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "llama4", "qwen2", "deepseek-llm", "deepseek-coder",
                                        "deepseek-v3", "gemma", "llama2", "metaspace", "metaspace-split"};
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        char file[64];
        size_t n;
        pn_tokenizer *t;
        ponder_error err = {.size = sizeof err};
        snprintf(file, sizeof file, "%s.json", names[i]);
        char *p = read_file(file, &n);
        assert_non_null(p);
        if (pn_tokenizer_from_json(&t, p, n, NULL, &err)) fail_msg("%s: %s", file, err.text);
        check(t, names[i]);
        pn_tokenizer_free(t);
        free(p);
    }
}

static void from_gguf_arrays(void **state)
{
    static const struct { const char *file, *pre, *expected; pn_vocab_kind kind; int prefix; } cases[] = {
        {"gpt-2.json", "gpt-2", "gpt-2", PN_VOCAB_BPE, -1},      {"gpt-2.json", "", "gpt-2", PN_VOCAB_BPE, 0},
        {"gpt-2.json", "default", "gpt-2 prefix", PN_VOCAB_BPE, 1},
        {"smollm.json", "smollm", "smollm", PN_VOCAB_BPE, -1},   {"llama-bpe.json", "llama-bpe", "llama-bpe", PN_VOCAB_BPE, -1},
        {"llama4.json", "llama4", "llama4", PN_VOCAB_BPE, -1},
        {"deepseek-llm.json", "deepseek-llm", "deepseek-llm", PN_VOCAB_BPE, -1},
        {"deepseek-coder.json", "deepseek-coder", "deepseek-coder", PN_VOCAB_BPE, -1},
        {"deepseek-v3.json", "deepseek-v3", "deepseek-v3", PN_VOCAB_BPE, -1},
        {"qwen2.json", "qwen2", "qwen2", PN_VOCAB_BPE, -1},      {"gemma.json", "default", "gemma", PN_VOCAB_SPM, 0},
        {"llama2.json", "default", "llama2", PN_VOCAB_SPM, -1},
    };
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        arrays a;
        pn_tokenizer *t;
        ponder_error err = {.size = sizeof err};
        arrays_from_json(&a, cases[i].file, cases[i].kind, cases[i].pre);
        a.v.add_space_prefix = cases[i].prefix;
        if (pn_tokenizer_from_vocab(&t, &a.v, NULL, &err)) fail_msg("%s: %s", cases[i].file, err.text);
        arrays_free(&a);
        check(t, cases[i].expected);
        pn_tokenizer_free(t);
    }
}

static void from_tiktoken(void **state)
{
    size_t n;
    pn_tokenizer *t;
    ponder_error err = {.size = sizeof err};
    char *p = read_file("muse.tiktoken", &n);
    assert_non_null(p);
    if (pn_tokenizer_from_tiktoken(&t, p, n, NULL, &err)) fail_msg("%s", err.text);
    free(p);
    check(t, "muse");
    pn_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_json),
        cmocka_unit_test(from_gguf_arrays),
        cmocka_unit_test(from_tiktoken),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
