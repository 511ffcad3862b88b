#include "support.h"

char *read_file(const char *name, size_t *n)
{
    char path[4096];
    const char *folder = getenv("PONDER_TEST_DATA");
    if (name[0] == '/') snprintf(path, sizeof path, "%s", name);
    else snprintf(path, sizeof path, "%s/tokenizer/%s", folder ? folder : "tests/data", name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

json_t *read_json(const char *name)
{
    size_t n;
    char *p = read_file(name, &n);
    if (!p) return NULL;
    json_t *v = json_loadb(p, n, JSON_ALLOW_NUL, NULL);
    free(p);
    return v;
}

static void add_token(arrays *a, const char *key, json_int_t id, int32_t type)
{
    a->tokens[id] = pn_str_of(key);
    a->types[id] = type;
}

static void fill_tokens(arrays *a)
{
    const char *key;
    json_t *v;
    size_t i;
    json_object_foreach(json_object_get(json_object_get(a->root, "model"), "vocab"), key, v)
    {
        const bool byte = a->v.kind == PN_VOCAB_SPM && strlen(key) == 6 && strncmp(key, "<0x", 3) == 0;
        add_token(a, key, json_integer_value(v), byte ? PN_TOK_BYTE : PN_TOK_NORMAL);
    }
    json_array_foreach(json_object_get(a->root, "added_tokens"), i, v)
    {
        const char *text = json_string_value(json_object_get(v, "content"));
        const int32_t type = json_is_true(json_object_get(v, "special")) ? PN_TOK_CONTROL : PN_TOK_USER;
        add_token(a, text, json_integer_value(json_object_get(v, "id")), strcmp(text, "<unk>") ? type : PN_TOK_UNKNOWN);
    }
    for (i = 0; i < a->v.n_tokens; i++) a->scores[i] = -(float)i;
}

static void fill_merges(arrays *a)
{
    json_t *merges = json_object_get(json_object_get(a->root, "model"), "merges"), *v;
    size_t i;
    a->merges = calloc(json_array_size(merges) + 1, sizeof *a->merges);
    a->merge_text = malloc(json_array_size(merges) * 1000 + 1);
    assert_true(a->merges && a->merge_text);
    char *p = a->merge_text;
    json_array_foreach(merges, i, v)
    {
        const int n = snprintf(p, 1000, "%s %s", json_string_value(json_array_get(v, 0)), json_string_value(json_array_get(v, 1)));
        a->merges[i] = (pn_str){p, (size_t)n};
        p += n;
    }
    a->v.n_merges = (uint32_t)json_array_size(merges);
    a->v.merges = a->merges;
}

void arrays_from_json(arrays *a, const char *file, pn_vocab_kind kind, const char *pre)
{
    memset(a, 0, sizeof *a);
    a->root = read_json(file);
    assert_non_null(a->root);
    size_t n = json_object_size(json_object_get(json_object_get(a->root, "model"), "vocab"));
    json_t *added = json_object_get(a->root, "added_tokens"), *v;
    size_t i;
    json_array_foreach(added, i, v) n = PN_MAX(n, (size_t)json_integer_value(json_object_get(v, "id")) + 1);
    a->tokens = calloc(n, sizeof *a->tokens);
    a->scores = calloc(n, sizeof *a->scores);
    a->types = calloc(n, sizeof *a->types);
    assert_true(a->tokens && a->scores && a->types);
    a->v = (pn_vocab){.kind = kind, .pre = pn_str_of(pre), .n_tokens = (uint32_t)n, .tokens = a->tokens, .types = a->types,
                      .bos = -1, .eos = -1, .eot = -1, .unk = -1, .pad = -1, .add_bos = -1, .add_eos = -1, .add_space_prefix = 0};
    fill_tokens(a);
    if (kind == PN_VOCAB_BPE) fill_merges(a);
    else a->v.scores = a->scores;
}

void arrays_free(arrays *a)
{
    free(a->tokens);
    free(a->merges);
    free(a->scores);
    free(a->types);
    free(a->merge_text);
    json_decref(a->root);
}

static void *count_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    if (++c->count == c->fail_at) return NULL;
    c->live++;
    c->bytes += bytes;
    return align > 16 ? aligned_alloc(align, (bytes + align - 1) / align * align) : malloc(bytes);
}

static void count_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live--;
    c->bytes -= bytes;
    free(p);
}

void counter_init(counter *c)
{
    *c = (counter){.alloc = {sizeof(ponder_alloc), c, count_alloc, count_free}};
}

static void print_ids(const char *name, const int32_t *ids, size_t n)
{
    fprintf(stderr, "  %s:", name);
    for (size_t i = 0; i < n; i++) fprintf(stderr, " %d", ids[i]);
    fprintf(stderr, "\n");
}

static bool same_ids(const pn_tokenizer *t, const json_t *text, const json_t *want, uint32_t flags, const char *name)
{
    int32_t *ids = NULL;
    size_t n = 0, cap = 0, i;
    const json_t *v;
    const pn_str s = {json_string_value(text), json_string_length(text)};
    ponder_error err = {.size = sizeof err};
    if (pn_tokenize(t, s.p, s.n, flags, NULL, &ids, &n, &cap, &err)) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        return false;
    }
    bool same = n == json_array_size(want);
    json_array_foreach(want, i, v) same = same && ids[i] == (int32_t)json_integer_value(v);
    if (!same) {
        char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII), *list = json_dumps(want, 0);
        fprintf(stderr, "%s (%s): %s\n  want: %s\n", name, flags ? "special" : "plain", shown, list);
        print_ids("have", ids, n);
        free(shown);
        free(list);
    }
    pn_free(NULL, ids, cap * sizeof *ids);
    return same;
}

void check_vectors(const pn_tokenizer *t, const json_t *texts, const json_t *expected, const char *name)
{
    size_t i, wrong = 0;
    const json_t *text;
    assert_non_null(expected);
    assert_int_equal(json_array_size(texts), json_array_size(json_object_get(expected, "special")));
    json_array_foreach(texts, i, text)
    {
        for (int plain = 0; plain < 2; plain++) {
            const json_t *want = json_array_get(json_object_get(expected, plain ? "plain" : "special"), i);
            const uint32_t flags = plain ? 0 : PN_TOKENIZE_SPECIAL;
            wrong += wrong < 5 ? !same_ids(t, text, want, flags, name) : 0;
        }
    }
    assert_int_equal(wrong, 0);
}
