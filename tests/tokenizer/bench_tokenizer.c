/* bench_tokenizer TOKENIZER TEXT [ROUNDS]: the best time of tokenising TEXT, as one line of JSON. Run by tests/bench/tokenizer.py. */
#include <stdio.h>
#include <stdlib.h>

#include "files/files.h"

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    if (p) *n = fread(p, 1, *n, f);
    fclose(f);
    return p;
}

static ponder_status open_any(pn_tokenizer **t, const char *path, ponder_error *err)
{
    size_t n;
    char *p = slurp(path, &n);
    if (!p) return pn_fail(err, PONDER_E_IO, "%s", path);
    ponder_status s;
    if (n > 4 && memcmp(p, "GGUF", 4) == 0) {
        pn_checkpoint *c;
        pn_tokenizer_data data;
        s = pn_checkpoint_open(&c, path, NULL, err);
        if (!s) s = pn_checkpoint_tokenizer(c, &data, err);
        if (!s) s = pn_tokenizer_from_vocab(t, &data.vocab, NULL, err);
        pn_checkpoint_free(c);
    } else if (p[0] == '{') {
        s = pn_tokenizer_from_json(t, p, n, NULL, err);
    } else {
        s = pn_tokenizer_from_tiktoken(t, p, n, NULL, err);
    }
    free(p);
    return s;
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    pn_tokenizer *t = NULL;
    size_t n = 0, count = 0, cap = 0;
    if (argc < 3) return fprintf(stderr, "usage: bench_tokenizer TOKENIZER TEXT [ROUNDS]\n"), 2;
    const uint64_t start = pn_now_us();
    if (open_any(&t, argv[1], &err)) return fprintf(stderr, "%s\n", err.text), 1;
    const uint64_t load = pn_now_us() - start;
    char *text = slurp(argv[2], &n);
    if (!text) return fprintf(stderr, "cannot read %s\n", argv[2]), 1;
    uint64_t best = UINT64_MAX;
    int32_t *ids = NULL;
    for (int i = 0; i < (argc > 3 ? atoi(argv[3]) : 5); i++) {
        count = 0;
        const uint64_t before = pn_now_us();
        if (pn_tokenize(t, text, n, 0, NULL, &ids, &count, &cap, &err)) return fprintf(stderr, "%s\n", err.text), 1;
        const uint64_t took = pn_now_us() - before;
        if (took < best) best = took;
    }
    uint32_t sum = 0; /* to compare the ids themselves */
    for (size_t i = 0; i < count; i++) sum = sum * 31 + (uint32_t)ids[i];
    printf("{\"bytes\":%zu,\"ids\":%zu,\"sum\":%u,\"us\":%llu,\"load_us\":%llu}\n", n, count, sum, (unsigned long long)best, (unsigned long long)load);
    return 0;
}
