/* Tokenizer files and texts. The first byte says what the rest is: 0 a tokenizer.json, 1 a rank file, 2 a vocabulary (byte-level)
 * and 3 (SentencePiece-like), both as lines "token" and, after an empty line, "left right"; bytes after a NUL are text to encode. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tokenizer/tokenizer.h"

enum { MOST = 256 };

static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "llama4", "qwen2", "deepseek-llm", "deepseek-coder", "deepseek-v3"};

static ponder_status from_lines(pn_tokenizer **t, pn_vocab_kind kind, const char *p, size_t n, ponder_error *err)
{
    pn_str tokens[MOST], merges[MOST];
    pn_vocab v = {.kind = kind, .pre = pn_str_of(pres[n % PN_COUNT(pres)]), .tokens = tokens, .merges = merges, .bos = -1, .eos = 0,
                  .eot = -1, .unk = -1, .pad = -1, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1};
    bool in_merges = false;
    for (size_t i = 0; i < n;) {
        const char *end = memchr(p + i, '\n', n - i);
        const size_t len = end ? (size_t)(end - p) - i : n - i;
        if (len == 0) in_merges = true;
        else if (!in_merges && v.n_tokens < MOST) tokens[v.n_tokens++] = (pn_str){p + i, len};
        else if (in_merges && v.n_merges < MOST) merges[v.n_merges++] = (pn_str){p + i, len};
        i += len + 1;
    }
    return pn_tokenizer_from_vocab(t, &v, NULL, err);
}

static void use(const pn_tokenizer *t, const char *text, size_t n)
{
    for (uint32_t flags = 0; flags < 4; flags++) {
        int32_t *ids = NULL;
        size_t count = 0, cap = 0;
        pn_detok d;
        pn_buf out;
        pn_buf_init(&out, NULL);
        pn_tokenize(t, text, n, flags, NULL, &ids, &count, &cap, NULL);
        pn_detok_init(&d, t, flags & 1);
        for (size_t i = 0; i < count; i++) pn_detok_put(&d, ids[i], &out);
        pn_detok_finish(&d, &out);
        pn_buf_free(&out);
        pn_free(NULL, ids, cap * sizeof *ids);
    }
    pn_tokenizer_find(t, text, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const char *p = (const char *)data + 1, *nul = memchr(p, 0, size - 1);
    const size_t n = nul ? (size_t)(nul - p) : size - 1;
    ponder_error err = {.size = sizeof err};
    pn_tokenizer *t = NULL;
    if (data[0] % 4 == 0) pn_tokenizer_from_json(&t, p, n, NULL, &err);
    else if (data[0] % 4 == 1) pn_tokenizer_from_tiktoken(&t, p, n, NULL, &err);
    else from_lines(&t, data[0] % 4 == 2 ? PN_VOCAB_BPE : PN_VOCAB_SPM, p, n, &err);
    if (t) {
        if (nul) use(t, nul + 1, size - 2 - n);
        use(t, (const char *)data, size);
    }
    pn_tokenizer_free(t);
    return 0;
}
