/* A tokenizer from a GGUF's arrays. */
#include "tokenizer/internal.h"

#include <inttypes.h>

static uint32_t type_of(const pn_vocab *v, uint32_t id)
{
    const bool named = (int32_t)id == v->bos || (int32_t)id == v->eos || (int32_t)id == v->eot;
    const int32_t type = v->types ? v->types[id] : PN_TOK_NORMAL;
    /* Converters mark some delimiters as ordinary additions; a user's text must not become one. */
    if (type == PN_TOK_USER && (named || pn_tok_is_delimiter(v->tokens[id].p, v->tokens[id].n))) return PN_TOK_CONTROL;
    if (!v->types && named) return PN_TOK_CONTROL;
    return (uint32_t)type;
}

/* "<0xHH>" */
static bool byte_piece(pn_str s, uint8_t *out)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return false;
    uint32_t v = 0;
    for (int i = 3; i < 5; i++) {
        const char c = s.p[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        v = v * 16 + (uint32_t)digit;
    }
    *out = (uint8_t)v;
    return true;
}

static ponder_status set_byte(pn_tokenizer *t, uint32_t id, uint8_t byte, ponder_error *err)
{
    if (t->byte_id[byte] != NO_ID)
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer: tokens %" PRIu32 " and %" PRIu32 " are the same byte", t->byte_id[byte], id);
    t->byte_id[byte] = id;
    return pn_tok_set(t, id, (const char *)&byte, 1, TOKEN_BYTE, err);
}

static ponder_status set_token(pn_tokenizer *t, const pn_vocab *v, uint32_t id, pn_buf *b, ponder_error *err)
{
    const pn_str s = v->tokens[id];
    const uint32_t type = type_of(v, id);
    uint8_t byte;
    if (type == PN_TOK_CONTROL || type == PN_TOK_UNKNOWN) return pn_tok_set(t, id, s.p, s.n, TOKEN_CONTROL, err);
    if (type == PN_TOK_BYTE && t->kind == PN_VOCAB_SPM && byte_piece(s, &byte)) return set_byte(t, id, byte, err);
    const bool user = type == PN_TOK_USER;
    b->n = 0;
    if (t->kind == PN_VOCAB_SPM) pn_spaces_from_meta(s, b);
    else if (user) pn_buf_put(b, s.p, s.n); /* additions are stored as they are */
    else pn_bytes_from_unicode(s, b);
    if (b->failed) return pn_nomem(err, s.n);
    return pn_tok_set(t, id, b->p ? b->p : "", b->n, user ? TOKEN_TEXT | TOKEN_USER : TOKEN_TEXT, err);
}

static ponder_status set_tokens(pn_tokenizer *t, const pn_vocab *v, ponder_error *err)
{
    pn_buf b;
    pn_buf_init(&b, t->a);
    ponder_status s = PONDER_OK;
    for (uint32_t i = 0; i < v->n_tokens && !s; i++) s = set_token(t, v, i, &b, err);
    pn_buf_free(&b);
    return s ? s : pn_tok_index(t, err);
}

static ponder_status add_merge(pn_tokenizer *t, const pn_vocab *v, uint32_t i, pn_buf *both, uint32_t *last, ponder_error *err)
{
    const pn_str m = v->merges[i];
    const char *space = m.n > 2 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
    if (!space) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: merge %" PRIu32 " is not two tokens", i);
    const size_t n = (size_t)(space - m.p);
    both->n = 0;
    if (!pn_bytes_from_unicode((pn_str){m.p, n}, both)) return pn_nomem(err, m.n);
    const size_t left = both->n;
    if (!pn_bytes_from_unicode((pn_str){space + 1, m.n - n - 1}, both)) return pn_nomem(err, m.n);
    return pn_tok_add_pair(t, (pn_str){both->p, both->n}, left, i, last, err);
}

static ponder_status set_merges(pn_tokenizer *t, const pn_vocab *v, ponder_error *err)
{
    ponder_status s = pn_tok_pairs(t, v->n_merges, err);
    uint32_t last = NO_ID;
    pn_buf both;
    pn_buf_init(&both, t->a);
    for (uint32_t i = 0; i < v->n_merges && !s; i++) s = add_merge(t, v, i, &both, &last, err);
    pn_buf_free(&both);
    return s;
}

/* Floats in an order that integers have too, turned round: the highest score gets the lowest rank. A NaN is the worst. */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;
    if (score != score) return NO_RANK - 1;
    if (score == 0) score = 0; /* one zero */
    memcpy(&bits, &score, sizeof bits);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return PN_MIN(~ascending, NO_RANK - 1);
}

static ponder_status set_ranks(pn_tokenizer *t, const pn_vocab *v, ponder_error *err)
{
    if (!v->scores) return PONDER_OK; /* the order of the ids */
    t->rank = pn_alloc(t->a, t->n * sizeof *t->rank);
    if (!t->rank) return pn_nomem(err, t->n * sizeof *t->rank);
    for (uint32_t i = 0; i < t->n; i++) t->rank[i] = rank_of_score(v->scores[i]);
    return PONDER_OK;
}

static ponder_status check_ids(const pn_vocab *v, ponder_error *err)
{
    const struct { const char *name; int32_t id; } ids[] = {
        {"bos", v->bos}, {"eos", v->eos}, {"eot", v->eot}, {"unknown", v->unk}, {"padding", v->pad}};
    for (size_t i = 0; i < PN_COUNT(ids); i++)
        if (ids[i].id < -1 || (ids[i].id >= 0 && (uint32_t)ids[i].id >= v->n_tokens))
            return pn_fail(err, PONDER_E_FORMAT, "tokenizer: %s token %" PRId32 " of %" PRIu32, ids[i].name, ids[i].id, v->n_tokens);
    return PONDER_OK;
}

static ponder_status text_size(const pn_vocab *v, size_t *out, ponder_error *err)
{
    *out = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (!pn_add(*out, v->tokens[i].n, out)) return pn_fail(err, PONDER_E_FORMAT, "tokenizer: absurd token lengths");
    return PONDER_OK;
}

static void set_ends(pn_tokenizer *t, const pn_vocab *v)
{
    const bool llama3 = pn_str_eq(v->pre, "llama-bpe") || pn_str_eq(v->pre, "llama3") || pn_str_eq(v->pre, "llama-v3");
    t->bos = v->bos;
    t->eos = v->eos;
    t->eot = v->eot;
    t->unk = t->kind == PN_VOCAB_SPM ? v->unk : -1; /* the reference drops a byte that a byte-level vocabulary lacks */
    /* What a file does not say is what its family does. */
    t->add_bos = v->add_bos >= 0 ? v->add_bos : t->kind == PN_VOCAB_SPM || llama3;
    const bool space = v->add_space_prefix >= 0 ? v->add_space_prefix : t->kind == PN_VOCAB_SPM;
    t->prefix = space ? PREFIX_ALWAYS : PREFIX_NONE;
    t->prefix_unless_space = t->kind == PN_VOCAB_BPE;
}

ponder_status pn_tokenizer_from_vocab(pn_tokenizer **out, const pn_vocab *v, const ponder_alloc *a, ponder_error *err)
{
    size_t bytes;
    *out = NULL;
    if (!v || (v->n_tokens && !v->tokens) || (v->n_merges && !v->merges))
        return pn_fail(err, PONDER_E_ARGUMENT, "tokenizer: no vocabulary");
    if (v->kind != PN_VOCAB_BPE && v->kind != PN_VOCAB_SPM)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer: vocabulary of kind %d", (int)v->kind);
    ponder_status s = check_ids(v, err);
    if (!s) s = text_size(v, &bytes, err);
    pn_tokenizer *t = NULL;
    if (!s) s = pn_tok_new(&t, v->kind, v->n_tokens, bytes, a, err);
    if (s) return s;
    t->metaspace = v->kind == PN_VOCAB_SPM;
    t->fuse_unknown = true;
    set_ends(t, v);
    s = set_tokens(t, v, err);
    if (!s && v->kind == PN_VOCAB_BPE) s = set_merges(t, v, err);
    if (!s && v->kind == PN_VOCAB_SPM) s = set_ranks(t, v, err);
    if (!s && v->kind == PN_VOCAB_BPE) s = pn_split_preset(t, v->pre, err);
    if (!s && t->unk < 0 && v->kind == PN_VOCAB_SPM) pn_tok_guess_ends(t);
    if (s) pn_tokenizer_free(t);
    else *out = t;
    return s;
}
