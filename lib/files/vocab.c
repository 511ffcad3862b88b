#include "files/checkpoint.h"

/* The tokenizer inside a GGUF's metadata: strings stay where they are, one array points at them. */

static const pn_kv *array_of(const pn_checkpoint *c, const char *key, uint8_t type)
{
    const pn_kv *kv = pn_kv_find(c, key);
    return kv && kv->array && kv->type == type ? kv : NULL;
}

static ponder_status lend_strings(const pn_checkpoint *c, const pn_kv *kv, pn_str **out, size_t *n, ponder_error *err)
{
    const uint8_t *p = kv->data;
    pn_str *s = pn_zalloc_array(c->a, (size_t)kv->count, sizeof *s);
    if (!s) return pn_nomem(err, (size_t)kv->count * sizeof *s);
    for (uint64_t i = 0; i < kv->count; i++) {
        s[i] = (pn_str){(const char *)p + 8, (size_t)pn_get64(p)};
        p += 8 + s[i].n;
    }
    *out = s;
    *n = (size_t)kv->count;
    return PONDER_OK;
}

/* Scores and types are copied: in the file they need not be aligned. */
static ponder_status copy_scores(pn_checkpoint *c, const pn_kv *kv, ponder_error *err)
{
    if (kv->count != c->n_tokens)
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer.ggml.scores: %llu for %zu tokens", (unsigned long long)kv->count, c->n_tokens);
    c->scores = pn_zalloc_array(c->a, c->n_tokens, sizeof *c->scores);
    if (!c->scores) return pn_nomem(err, c->n_tokens * sizeof *c->scores);
    c->n_scores = c->n_tokens;
    memcpy(c->scores, kv->data, c->n_scores * sizeof *c->scores);
    return PONDER_OK;
}

static ponder_status copy_types(pn_checkpoint *c, const pn_kv *kv, ponder_error *err)
{
    if (!kv->array || kv->count != c->n_tokens)
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer.ggml.token_type: %llu for %zu tokens", (unsigned long long)kv->count, c->n_tokens);
    c->types = pn_zalloc_array(c->a, c->n_tokens, sizeof *c->types);
    if (!c->types) return pn_nomem(err, c->n_tokens * sizeof *c->types);
    c->n_types = c->n_tokens;
    for (size_t i = 0; i < c->n_types; i++) {
        int64_t v;
        if (!pn_kv_i64(kv, i, &v)) return pn_fail(err, PONDER_E_FORMAT, "tokenizer.ggml.token_type: not integers");
        c->types[i] = v >= INT32_MIN && v <= INT32_MAX ? (int32_t)v : 0;
    }
    return PONDER_OK;
}

/* Files exist that write 2^32 - 1 for "none", so an id outside the vocabulary is none. */
static int32_t token_id(const pn_checkpoint *c, const char *key)
{
    int64_t v;
    if (!pn_checkpoint_i64(c, key, &v) || v < 0 || (uint64_t)v >= c->n_tokens) return -1;
    return (int32_t)v;
}

static int flag(const pn_checkpoint *c, const char *key)
{
    int64_t v;
    return pn_checkpoint_i64(c, key, &v) ? v != 0 : -1;
}

static void fill_ids(const pn_checkpoint *c, pn_vocab *v)
{
    v->bos = token_id(c, "tokenizer.ggml.bos_token_id");
    v->eos = token_id(c, "tokenizer.ggml.eos_token_id");
    v->eot = token_id(c, "tokenizer.ggml.eot_token_id");
    v->unk = token_id(c, "tokenizer.ggml.unknown_token_id");
    v->pad = token_id(c, "tokenizer.ggml.padding_token_id");
    v->add_bos = flag(c, "tokenizer.ggml.add_bos_token");
    v->add_eos = flag(c, "tokenizer.ggml.add_eos_token");
    v->add_space_prefix = flag(c, "tokenizer.ggml.add_space_prefix");
}

static ponder_status lend_arrays(pn_checkpoint *c, ponder_error *err)
{
    const pn_kv *tokens = array_of(c, "tokenizer.ggml.tokens", KV_STR);
    const pn_kv *merges = array_of(c, "tokenizer.ggml.merges", KV_STR);
    const pn_kv *scores = array_of(c, "tokenizer.ggml.scores", KV_F32);
    const pn_kv *types = pn_kv_find(c, "tokenizer.ggml.token_type");
    if (!tokens) return pn_fail(err, PONDER_E_FORMAT, "tokenizer.ggml.tokens: missing or not strings");
    if (tokens->count > INT32_MAX || (merges && merges->count > INT32_MAX))
        return pn_fail(err, PONDER_E_FORMAT, "tokenizer.ggml.tokens: too many");
    ponder_status s = lend_strings(c, tokens, &c->tokens, &c->n_tokens, err);
    if (s == PONDER_OK && merges) s = lend_strings(c, merges, &c->merges, &c->n_merges, err);
    if (s == PONDER_OK && scores) s = copy_scores(c, scores, err);
    if (s == PONDER_OK && types) s = copy_types(c, types, err);
    return s;
}

static ponder_status from_gguf(pn_checkpoint *c, pn_tokenizer_data *out, ponder_error *err)
{
    pn_str model;
    pn_vocab *v = &out->vocab;
    if (!pn_checkpoint_str(c, "tokenizer.ggml.model", &model) || pn_str_eq(model, "none") || pn_str_eq(model, "no_vocab"))
        return PONDER_OK;
    if (pn_str_eq(model, "gpt2")) v->kind = PN_VOCAB_BPE;
    else if (pn_str_eq(model, "llama")) v->kind = PN_VOCAB_SPM;
    else return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer.ggml.model: %.*s", SHOWN(model));
    pn_checkpoint_drop_vocab(c);
    ponder_status s = lend_arrays(c, err);
    if (s) {
        pn_checkpoint_drop_vocab(c);
        return s;
    }
    v->pre = pn_str_of("");
    pn_checkpoint_str(c, "tokenizer.ggml.pre", &v->pre);
    v->n_tokens = (uint32_t)c->n_tokens;
    v->tokens = c->tokens;
    v->scores = c->scores;
    v->types = c->types;
    v->n_merges = (uint32_t)c->n_merges;
    v->merges = c->merges;
    fill_ids(c, v);
    out->found = true;
    return PONDER_OK;
}

ponder_status pn_checkpoint_tokenizer(pn_checkpoint *c, pn_tokenizer_data *out, ponder_error *err)
{
    *out = (pn_tokenizer_data){0};
    if (c->gguf) return from_gguf(c, out, err);
    if (!c->tokenizer) return PONDER_OK;
    const size_t n = (size_t)pn_source_size(c->tokenizer);
    out->json = (pn_str){(const char *)pn_source_view(c->tokenizer, 0, n), n};
    if (!out->json.p) return pn_fail(err, PONDER_E_IO, "tokenizer.json: cannot be mapped");
    out->found = out->is_json = true;
    return PONDER_OK;
}

void pn_checkpoint_drop_vocab(pn_checkpoint *c)
{
    pn_free(c->a, c->tokens, c->n_tokens * sizeof *c->tokens);
    pn_free(c->a, c->merges, c->n_merges * sizeof *c->merges);
    pn_free(c->a, c->scores, c->n_scores * sizeof *c->scores);
    pn_free(c->a, c->types, c->n_types * sizeof *c->types);
    c->tokens = c->merges = NULL;
    c->scores = NULL;
    c->types = NULL;
    c->n_tokens = c->n_merges = c->n_scores = c->n_types = 0;
}
