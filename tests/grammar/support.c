#include "support.h"

#include "files/files.h"

/* ---- random numbers ------------------------------------------------------------------------------------------------------------------ */

uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

size_t random_below(uint64_t *state, size_t n) { return (size_t)(random_next(state) % n); }

/* ---- vocabularies --------------------------------------------------------------------------------------------------------------------- */

static void *grown(void *p, size_t bytes)
{
    p = realloc(p, bytes);
    if (!p) exit(2);
    return p;
}

static void add(vocabulary *v, const char *p, size_t n)
{
    if (v->n_text + n > v->cap_text) v->text = grown(v->text, v->cap_text = 2 * (v->n_text + n) + 1024);
    if (v->n + 2 > v->cap_at) v->at = grown(v->at, (v->cap_at = 2 * v->n + 1024) * sizeof *v->at);
    memcpy(v->text + v->n_text, p, n);
    v->at[v->n++] = (uint32_t)v->n_text;
    v->n_text += n;
    v->at[v->n] = (uint32_t)v->n_text;
}

const char *token_bytes(void *user, uint32_t id, size_t *n)
{
    const vocabulary *v = user;
    if (v->tokenizer) {
        *n = 0;
        if (pn_tokenizer_is_special(v->tokenizer, (int32_t)id)) return NULL;
        return pn_tokenizer_bytes(v->tokenizer, (int32_t)id, n);
    }
    *n = v->at[id + 1] - v->at[id];
    return v->text + v->at[id];
}

static void make_trie(vocabulary *v)
{
    ponder_error err = {.size = sizeof err};
    if (pn_vocab_trie_new(&v->trie, v->n, token_bytes, v, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(2);
    }
}

void vocabulary_made(vocabulary *v)
{
    static const char marks[] = "{}[]\",: \n-0.1eE/\\<>";
    static const char *const words[] = {"true", "false", "null", "name", "value", "the", " the", "ing", " of", "items", "type", "\": \"",
        "\", \"", "\": ", "\":\"", "},\n", "  ", "    ", "\n  ", "\n    ", "\"}\n", "{\"name\": \"", "\"arguments\": {", "atem", "</atem",
        ":parameter>", "parameter", "invoke", "function", "_calls>", "12", "345", "2024", "-01", "e-", "\\u", "\\n", "\\\"", "00e9", "\\ud83d",
        "\xc3\xa9", "\xe4\xb8\xad", "\xe6\x96\x87", "\xf0\x9f\x98\x80", "\xf0\x9f", "\x98\x80", "\xe2\x80\xa8", " \xc3", "Hello, world", "abc", "xyz",
        "ABC", "@", ".com", "red", "green", "blue", "a\"", "z\",", "9}", "9,", "9]", "]]", "}}", "}]", "]}", "}}}", "[[", "{\"", "[{\"", "\"]", "\"]}", "word word word word"};
    *v = (vocabulary){0};
    for (int c = 0; c < 256; c++) add(v, &(char){(char)c}, 1);
    for (size_t i = 0; i + 1 < sizeof marks; i++)
        for (size_t k = 0; k + 1 < sizeof marks; k++) {
            add(v, (char[]){marks[i], marks[k]}, 2);
            for (size_t l = 0; i < 10 && k < 10 && l < 10; l++) add(v, (char[]){marks[i], marks[k], marks[l]}, 3);
        }
    for (size_t i = 0; i < PN_COUNT(words); i++) add(v, words[i], strlen(words[i]));
    for (char c = 'a'; c <= 'z'; c++)
        for (char d = 'a'; d <= 'z'; d++) add(v, (char[]){c, d}, 2);
    add(v, "", 0); /* a special token */
    make_trie(v);
}

bool vocabulary_read(vocabulary *v, const char *path)
{
    ponder_error err = {.size = sizeof err};
    *v = (vocabulary){0};
    const size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) {
        pn_checkpoint *c;
        pn_tokenizer_data data;
        if (pn_checkpoint_open(&c, path, NULL, &err)) return false;
        if (pn_checkpoint_tokenizer(c, &data, &err) || pn_tokenizer_from_vocab(&v->tokenizer, &data.vocab, NULL, &err)) exit(2);
        pn_checkpoint_free(c);
    } else {
        FILE *f = fopen(path, "rb");
        if (!f) return false;
        char *p = malloc(64 << 20);
        const size_t got = p ? fread(p, 1, 64 << 20, f) : 0;
        fclose(f);
        if (pn_tokenizer_from_tiktoken(&v->tokenizer, p, got, NULL, &err)) exit(2);
        free(p);
    }
    v->n = pn_tokenizer_size(v->tokenizer);
    make_trie(v);
    return true;
}

void vocabulary_free(vocabulary *v)
{
    pn_vocab_trie_free(v->trie);
    pn_tokenizer_free(v->tokenizer);
    free(v->text);
    free(v->at);
}

/* ---- texts -------------------------------------------------------------------------------------------------------------------------------- */

static bool in_mask(const uint32_t *words, uint32_t id) { return words[id / 32] >> id % 32 & 1; }

/* Any token that the text goes on with; the longest ones mostly. */
static uint32_t some_token(const vocabulary *v, const char *p, size_t n, uint64_t *seed)
{
    uint32_t best = 0, count = 0;
    size_t most = 0, len;
    const bool longest = random_below(seed, 3) > 0;
    for (uint32_t i = 0; i < v->n; i++) {
        const char *q = token_bytes((void *)v, i, &len);
        if (len == 0 || len > n || memcmp(p, q, len) != 0) continue;
        if (longest ? len > most : random_below(seed, ++count) == 0) best = i, most = len;
    }
    return best;
}

static bool take(pn_matcher *m, const vocabulary *v, uint32_t *words, uint32_t id)
{
    ponder_error err = {.size = sizeof err};
    if (pn_matcher_mask(m, words, &err)) exit(2);
    const bool allowed = in_mask(words, id), taken = pn_matcher_accept(m, (int32_t)id, &err) == PONDER_OK;
    if (allowed == taken) return taken;
    fprintf(stderr, "token %u: mask says %d, accept says %d\n", (unsigned)id, allowed, taken);
    exit(3);
}

size_t walk_text(pn_matcher *m, const vocabulary *v, const char *p, size_t n, uint64_t *seed)
{
    uint32_t *words = malloc((v->n + 31) / 32 * sizeof *words);
    int32_t *ids = NULL;
    size_t n_ids = 0, cap = 0, at = 0, len = 0;
    if (!words) exit(2);
    if (v->tokenizer && pn_tokenize(v->tokenizer, p, n, 0, NULL, &ids, &n_ids, &cap, NULL)) exit(2);
    for (size_t i = 0; at < n; i++, at += len) {
        const uint32_t id = v->tokenizer ? (uint32_t)ids[i] : some_token(v, p + at, n - at, seed);
        token_bytes((void *)v, id, &len);
        if (!take(m, v, words, id)) break;
    }
    free(words);
    free(ids);
    return at == n && !pn_matcher_can_end(m) ? n - 1 : at;
}

/* ---- samples --------------------------------------------------------------------------------------------------------------------------------- */

static uint32_t nth_allowed(const uint32_t *words, uint32_t n_words, size_t k)
{
    for (uint32_t i = 0; i < n_words; i++) {
        const size_t here = (size_t)__builtin_popcount(words[i]);
        if (k >= here) {
            k -= here;
            continue;
        }
        uint32_t w = words[i];
        while (k-- > 0) w &= w - 1;
        return i * 32 + (uint32_t)__builtin_ctz(w);
    }
    return UINT32_MAX;
}

/* An allowed token, its first byte drawn before itself: quotes and brackets come as often as all letters together would. */
static uint32_t by_first_byte(const vocabulary *v, const uint32_t *words, uint64_t *seed, const char *only)
{
    uint32_t pick[256], count[256] = {0}, kinds = 0, chosen = UINT32_MAX;
    for (uint32_t i = 0; i < (v->n + 31) / 32; i++)
        for (uint32_t left = words[i]; left; left &= left - 1) {
            size_t n;
            const uint32_t id = i * 32 + (uint32_t)__builtin_ctz(left);
            const uint8_t c = (uint8_t)*token_bytes((void *)v, id, &n);
            if (only && !strchr(only, c)) continue;
            if (random_below(seed, ++count[c]) == 0) pick[c] = id;
        }
    for (int c = 0; c < 256; c++)
        if (count[c] && random_below(seed, ++kinds) == 0) chosen = pick[c];
    return chosen;
}

static uint32_t one_byte(const vocabulary *v, const uint32_t *words, char c)
{
    for (uint32_t i = 0; i < v->n; i++) {
        size_t n;
        const char *p = token_bytes((void *)v, i, &n);
        if (n == 1 && *p == c && in_mask(words, i)) return i;
    }
    return UINT32_MAX;
}

/* How much of `closer` the text ends with. */
static size_t begun(const pn_buf *text, const char *closer)
{
    size_t n = PN_MIN(strlen(closer) - 1, text->n);
    while (n > 0 && memcmp(text->p + text->n - n, closer, n) != 0) n--;
    return n;
}

static bool is_muse(const pn_buf *text) { return text->n > 5 && memcmp(text->p, "<atem", 5) == 0; }

/* steer: the text is long enough. Brackets and quotes close, and so does the parameter of a Muse call. */
static uint32_t choose(const vocabulary *v, const uint32_t *words, uint64_t *seed, bool steer, const pn_buf *text)
{

    static const char closer[] = "</atem:parameter>";
    size_t allowed = 0;
    for (uint32_t i = 0; i < (v->n + 31) / 32; i++) allowed += (size_t)__builtin_popcount(words[i]);
    if (allowed == 0) return UINT32_MAX;
    if (steer) {
        const bool muse = is_muse(text) && random_below(seed, 20) > 0;
        uint32_t id = muse ? one_byte(v, words, closer[begun(text, closer)]) : random_below(seed, 2) ? one_byte(v, words, '"') : UINT32_MAX;
        if (id == UINT32_MAX && !muse) id = by_first_byte(v, words, seed, "\"]}");
        if (id != UINT32_MAX) return id;
    }
    if (steer || random_below(seed, 4) > 0) return by_first_byte(v, words, seed, NULL);
    return nth_allowed(words, (v->n + 31) / 32, random_below(seed, allowed));
}

/* A hint as a whole, if it may come. */
static bool take_hint(pn_matcher *m, uint64_t *seed, const pn_str *hints, size_t n, pn_buf *out)
{
    const pn_str s = n ? hints[random_below(seed, n)] : (pn_str){0};
    return s.n && pn_matcher_accept_bytes(m, s.p, s.n, NULL) == PONDER_OK && pn_buf_put(out, s.p, s.n);
}

bool sample(pn_matcher *m, const vocabulary *v, uint64_t *seed, size_t steer_after, const pn_str *hints, size_t n_hints, pn_buf *out)
{
    uint32_t *words = malloc((v->n + 31) / 32 * sizeof *words);
    bool ok = words != NULL;
    ponder_error err = {.size = sizeof err};
    for (size_t i = 0; ok; i++) {
        size_t n;
        if (pn_matcher_is_done(m) || (pn_matcher_can_end(m) && (i > steer_after || random_below(seed, 3) == 0))) break;
        const size_t rare = i <= steer_after ? 8 : is_muse(out) ? 25 : 2;
        if (n_hints && random_below(seed, rare) == 0 && take_hint(m, seed, hints, n_hints, out)) continue;
        ok = pn_matcher_mask(m, words, &err) == PONDER_OK && i < 20 * steer_after + 2000;
        const uint32_t id = ok ? choose(v, words, seed, i > steer_after, out) : UINT32_MAX;
        ok = id != UINT32_MAX && pn_matcher_accept(m, (int32_t)id, &err) == PONDER_OK;
        if (!ok) break;
        const char *p = token_bytes((void *)v, id, &n);
        pn_buf_put(out, p, n);
    }
    free(words);
    return ok;
}
