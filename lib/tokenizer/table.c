#include "tokenizer/internal.h"

#include <inttypes.h>

static uint64_t load8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint32_t load4(const char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Only for tables in memory: its value may differ between machines. */
static uint32_t hash_bytes(const char *p, size_t n)
{
    const uint64_t m = 0x9e3779b97f4a7c15u;
    uint64_t h = n * m, v;
    for (; n > 8; n -= 8, p += 8) {
        h = (h ^ load8(p)) * m;
        h ^= h >> 32;
    }
    if (n == 8) v = load8(p);
    else if (n >= 4) v = (uint64_t)load4(p) << 32 | load4(p + n - 4);
    else v = n ? (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint8_t)p[n - 1] : 0;
    h = (h ^ v) * m;
    return (uint32_t)(h >> 32);
}

static uint32_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

/* A power of two at least 1.5 times n, so that a probe ends soon. */
static uint32_t table_size(uint32_t n)
{
    uint32_t size = 16;
    while (size < n + n / 2) size *= 2;
    return size;
}

ponder_status pn_tok_new(pn_tokenizer **out, pn_vocab_kind kind, uint32_t n, size_t text_bytes, const ponder_alloc *a,
                         ponder_error *err)
{
    *out = NULL;
    if (n == 0 || n > MAX_TOKENS) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: %" PRIu32 " tokens", n);
    if (text_bytes > UINT32_MAX / 2) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: %zu bytes of tokens", text_bytes);
    pn_tokenizer *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    if (a) {
        t->copy = *a;
        t->a = &t->copy;
    }
    t->kind = kind;
    t->n = n;
    t->bos = t->eos = t->eot = t->unk = -1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    t->text_cap = text_bytes;
    t->token = pn_zalloc_array(t->a, n, sizeof *t->token);
    t->text = pn_alloc(t->a, text_bytes);
    if (!t->token || !t->text) {
        pn_tokenizer_free(t);
        return pn_nomem(err, text_bytes + n * sizeof *t->token);
    }
    *out = t;
    return PONDER_OK;
}

void pn_tokenizer_free(pn_tokenizer *t)
{
    if (!t) return;
    pn_split_free(t);
    const ponder_alloc copy = t->copy, *a = t->a ? &copy : NULL;
    pn_free(a, t->token, t->n * sizeof *t->token);
    pn_free(a, t->text, t->text_cap);
    if (t->slot) pn_free(a, t->slot, ((size_t)t->slot_mask + 1) * sizeof *t->slot);
    if (t->pair) pn_free(a, t->pair, ((size_t)t->pair_mask + 1) * sizeof *t->pair);
    pn_free(a, t->rank, t->n * sizeof *t->rank);
    pn_free(a, t->special, t->n_special * sizeof *t->special);
    pn_free(a, t, sizeof *t);
}

ponder_status pn_tok_set(pn_tokenizer *t, uint32_t id, const char *p, size_t n, uint32_t flags, ponder_error *err)
{
    if (id >= t->n) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: id %" PRIu32 " of %" PRIu32, id, t->n);
    if (n > t->text_cap - t->text_n) return pn_fail(err, PONDER_E_INTERNAL, "tokenizer: token text passes its room");
    t->token[id] = (pn_token){(uint32_t)t->text_n, (uint32_t)n, flags};
    if (n) memcpy(t->text + t->text_n, p, n);
    t->text_n += n;
    return PONDER_OK;
}

static bool token_is(const pn_tokenizer *t, uint32_t id, const char *p, size_t n)
{
    const pn_token *k = &t->token[id];
    return k->len == n && memcmp(t->text + k->at, p, n) == 0;
}

uint32_t pn_tok_lookup(const pn_tokenizer *t, const char *p, size_t n)
{
    if (n > t->max_len) return NO_ID;
    const uint32_t tag = hash_bytes(p, n);
    for (uint32_t i = tag & t->slot_mask;; i = (i + 1) & t->slot_mask) {
        const pn_slot s = t->slot[i];
        if (s.id == NO_ID) return NO_ID;
        if (s.tag == tag && token_is(t, s.id, p, n)) return s.id;
    }
}

static ponder_status insert(pn_tokenizer *t, uint32_t id, ponder_error *err)
{
    const pn_token *k = &t->token[id];
    const char *p = t->text + k->at;
    const uint32_t tag = hash_bytes(p, k->len);
    uint32_t i = tag & t->slot_mask;
    for (; t->slot[i].id != NO_ID; i = (i + 1) & t->slot_mask) {
        const uint32_t other = t->slot[i].id;
        if (t->slot[i].tag != tag || !token_is(t, other, p, k->len)) continue;
        if (k->flags & TOKEN_USER) return PONDER_OK; /* an added copy of an ordinary token: the ordinary one merges */
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer: tokens %" PRIu32 " and %" PRIu32 " have the same text", other, id);
    }
    t->slot[i] = (pn_slot){id, tag};
    t->max_len = PN_MAX(t->max_len, k->len);
    if (k->len == 1 && t->kind == PN_VOCAB_BPE) t->byte_id[(uint8_t)p[0]] = id;
    return PONDER_OK;
}

/* Order by bytes, a prefix before what it begins; equal texts by id. */
static int compare_special(const void *x, const void *y, void *ctx)
{
    const pn_tokenizer *t = ctx;
    const uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    const pn_token *ka = &t->token[a], *kb = &t->token[b];
    int c = memcmp(t->text + ka->at, t->text + kb->at, PN_MIN(ka->len, kb->len));
    if (c == 0) c = (ka->len > kb->len) - (ka->len < kb->len);
    return c ? c : (a > b) - (a < b);
}

static void sift(uint32_t *v, size_t i, size_t n, const pn_tokenizer *t)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && compare_special(&v[child], &v[child + 1], (void *)t) < 0) child++;
        if (compare_special(&v[i], &v[child], (void *)t) >= 0) return;
        uint32_t x = v[i];
        v[i] = v[child];
        v[child] = x;
    }
}

/* Heap sort: qsort of the C library may call malloc. */
static void sort_specials(uint32_t *v, size_t n, const pn_tokenizer *t)
{
    for (size_t i = n / 2; i-- > 0;) sift(v, i, n, t);
    while (n > 1) {
        uint32_t x = v[0];
        v[0] = v[--n];
        v[n] = x;
        sift(v, 0, n, t);
    }
}

static bool matched_whole(const pn_token *k)
{
    return k->len > 0 && (k->flags & (TOKEN_CONTROL | TOKEN_USER));
}

static ponder_status index_specials(pn_tokenizer *t, ponder_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) n += matched_whole(&t->token[i]);
    if (n == 0) return PONDER_OK;
    t->special = pn_alloc(t->a, n * sizeof *t->special);
    if (!t->special) return pn_nomem(err, n * sizeof *t->special);
    for (uint32_t i = 0; i < t->n; i++) {
        if (!matched_whole(&t->token[i])) continue;
        t->special[t->n_special++] = i;
        t->special_start[(uint8_t)t->text[t->token[i].at]] = true;
    }
    sort_specials(t->special, n, t);
    return PONDER_OK;
}

ponder_status pn_tok_index(pn_tokenizer *t, ponder_error *err)
{
    const uint32_t size = table_size(t->n);
    t->slot = pn_alloc(t->a, size * sizeof *t->slot);
    if (!t->slot) return pn_nomem(err, size * sizeof *t->slot);
    memset(t->slot, 0xff, size * sizeof *t->slot);
    t->slot_mask = size - 1;
    /* Ordinary tokens first, so that an added token of the same text gives way. */
    for (uint32_t added = 0; added < 2; added++) {
        for (uint32_t i = 0; i < t->n; i++) {
            const pn_token *k = &t->token[i];
            if (!(k->flags & TOKEN_TEXT) || k->len == 0 || !!(k->flags & TOKEN_USER) != added) continue;
            ponder_status s = insert(t, i, err);
            if (s) return s;
        }
    }
    return index_specials(t, err);
}

/* ---- merges ---- */

ponder_status pn_tok_pairs(pn_tokenizer *t, uint32_t n, ponder_error *err)
{
    if (n > 1u << 26) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: %" PRIu32 " merges", n);
    const uint32_t size = table_size(n);
    t->pair = pn_alloc(t->a, size * sizeof *t->pair);
    if (!t->pair) return pn_nomem(err, size * sizeof *t->pair);
    memset(t->pair, 0xff, size * sizeof *t->pair);
    t->pair_mask = size - 1;
    return PONDER_OK;
}

static pn_pair *pair_slot(const pn_tokenizer *t, uint32_t left, uint32_t right)
{
    for (uint32_t i = hash_pair(left, right) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        pn_pair *q = &t->pair[i];
        if (q->left == NO_ID || (q->left == left && q->right == right)) return q;
    }
}

const pn_pair *pn_tok_pair(const pn_tokenizer *t, uint32_t left, uint32_t right)
{
    const pn_pair *q = pair_slot(t, left, right);
    return q->left == NO_ID ? NULL : q;
}

/* The token named in a merge: an ordinary one, or a control token that merging must not make. */
static uint32_t merge_part(const pn_tokenizer *t, pn_str s, bool *control)
{
    uint32_t id = pn_tok_lookup(t, s.p, s.n);
    if (id != NO_ID || s.n == 0) return id;
    id = pn_tok_special_at(t, s.p, s.n, true);
    if (id == NO_ID || t->token[id].len != s.n) return NO_ID;
    *control = true;
    return id;
}

/* Merges mostly make the tokens in their order, so that the one after the last that was made need not be looked for. */
static uint32_t merged(const pn_tokenizer *t, pn_str s, uint32_t last, bool *control)
{
    const uint32_t id = last + 1;
    if (id < t->n && s.n && (t->token[id].flags & (TOKEN_TEXT | TOKEN_USER)) == TOKEN_TEXT && token_is(t, id, s.p, s.n)) return id;
    return merge_part(t, s, control);
}

ponder_status pn_tok_add_pair(pn_tokenizer *t, pn_str both, size_t n_left, uint32_t number, uint32_t *last, ponder_error *err)
{
    bool control = false;
    const uint32_t l = merge_part(t, (pn_str){both.p, n_left}, &control);
    const uint32_t r = merge_part(t, (pn_str){both.p + n_left, both.n - n_left}, &control), whole = merged(t, both, *last, &control);
    if (l == NO_ID || r == NO_ID || whole == NO_ID)
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer: merge %" PRIu32 " names an unknown token: %.*s", number,
                       (int)PN_MIN(both.n, 60), both.p);
    *last = whole;
    if (control) return PONDER_OK; /* text never merges into a control token */
    *pair_slot(t, l, r) = (pn_pair){l, r, number, whole}; /* repeated: the last counts, as in the reference */
    return PONDER_OK;
}

/* ---- special tokens ---- */

/* The first i in [lo, hi) whose byte at depth is at least c; shorter tokens count as smaller. */
static uint32_t bound(const pn_tokenizer *t, uint32_t lo, uint32_t hi, uint32_t depth, uint32_t c)
{
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        const pn_token *k = &t->token[t->special[mid]];
        const bool less = k->len <= depth || (uint8_t)t->text[k->at + depth] < c;
        if (less) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

uint32_t pn_tok_special_at(const pn_tokenizer *t, const char *p, size_t n, bool control)
{
    uint32_t lo = 0, hi = t->n_special, best = NO_ID;
    for (uint32_t depth = 0; depth < n && lo < hi; depth++) {
        const uint32_t c = (uint8_t)p[depth];
        lo = bound(t, lo, hi, depth, c);
        hi = bound(t, lo, hi, depth, c + 1);
        for (uint32_t i = lo; i < hi && t->token[t->special[i]].len == depth + 1; i++) {
            if (!control && (t->token[t->special[i]].flags & TOKEN_CONTROL)) continue;
            best = t->special[i];
            break;
        }
    }
    return best;
}

bool pn_tok_is_delimiter(const char *p, size_t n)
{
    if (n >= 5 && memcmp(p, "<|", 2) == 0 && memcmp(p + n - 2, "|>", 2) == 0) return true;
    static const char *const others[] = {"<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"};
    for (size_t i = 0; i < PN_COUNT(others); i++)
        if (pn_str_eq((pn_str){p, n}, others[i])) return true;
    return false;
}

static int32_t first_of(const pn_tokenizer *t, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = pn_tok_special_at(t, names[i], strlen(names[i]), true);
        if (id != NO_ID && token_is(t, id, names[i], strlen(names[i]))) return (int32_t)id;
    }
    return -1;
}

void pn_tok_guess_ends(pn_tokenizer *t)
{
    static const char *const bos[] = {"<|begin_of_text|>", "<bos>", "<s>", "<|startoftext|>"};
    static const char *const eos[] = {"<|end_of_text|>", "<eos>", "</s>", "<|endoftext|>", "<|im_end|>"};
    static const char *const eot[] = {"<|eot|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>"};
    static const char *const unk[] = {"<unk>"};
    if (t->bos < 0) t->bos = first_of(t, bos, PN_COUNT(bos));
    if (t->eos < 0) t->eos = first_of(t, eos, PN_COUNT(eos));
    if (t->eot < 0) t->eot = first_of(t, eot, PN_COUNT(eot));
    if (t->unk < 0) t->unk = first_of(t, unk, PN_COUNT(unk));
}

/* ---- what the other rooms ask ---- */

uint32_t pn_tokenizer_size(const pn_tokenizer *t) { return t->n; }
int32_t pn_tokenizer_bos(const pn_tokenizer *t) { return t->bos; }
int32_t pn_tokenizer_eos(const pn_tokenizer *t) { return t->eos; }
int32_t pn_tokenizer_eot(const pn_tokenizer *t) { return t->eot; }
bool pn_tokenizer_add_bos(const pn_tokenizer *t) { return t->add_bos; }

int32_t pn_tokenizer_find(const pn_tokenizer *t, const char *text, size_t n)
{
    if (!text || n == 0) return -1;
    uint32_t id = pn_tok_special_at(t, text, n, true);
    if (id == NO_ID || t->token[id].len != n) id = pn_tok_lookup(t, text, n);
    return id == NO_ID ? -1 : (int32_t)id;
}

static uint32_t flags_of(const pn_tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->n ? t->token[id].flags : 0;
}

bool pn_tokenizer_is_special(const pn_tokenizer *t, int32_t id)
{
    return flags_of(t, id) & (TOKEN_CONTROL | TOKEN_USER);
}

bool pn_tokenizer_is_control(const pn_tokenizer *t, int32_t id)
{
    return flags_of(t, id) & TOKEN_CONTROL;
}

const char *pn_tokenizer_bytes(const pn_tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || (uint32_t)id >= t->n) return "";
    *n = t->token[id].len;
    return t->text + t->token[id].at;
}
