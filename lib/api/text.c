/* Tokenizers and templates. */
#include "api/api.h"

#include <unistd.h>

ponder_status ponder_tokenizer_open(ponder_tokenizer **out, const char *path, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!path) return pn_fail(err, PONDER_E_ARGUMENT, "path: NULL");
    const ponder_alloc *a = c && c->alloc.alloc ? &c->alloc : NULL;
    ponder_tokenizer *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    t->pid = getpid();
    pn_meter_init(&t->meter, a, 0, NULL);
    ponder_status st = pn_tokenizer_open(&t->t, path, &t->meter.alloc, err);
    if (st != PONDER_OK) {
        pn_free(a, t, sizeof *t);
        return st;
    }
    *out = t;
    return PONDER_OK;
}

void ponder_tokenizer_free(ponder_tokenizer *t)
{
    if (!t || t->pid != getpid()) return;
    ponder_alloc a = t->meter.inner;
    if (t->core) pn_core_release(t->core);
    else pn_tokenizer_free(t->t);
    pn_free(a.alloc ? &a : NULL, t, sizeof *t);
}

ponder_status ponder_model_tokenizer(ponder_tokenizer **out, ponder_model *m, ponder_error *error)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_error(error);
    if (!m) return pn_fail(err, PONDER_E_ARGUMENT, "model: NULL");
    ponder_status st = pn_api_pid(m->pid, err);
    if (st != PONDER_OK) return st;
    if (!m->core->tokenizer) return pn_fail(err, PONDER_E_UNSUPPORTED, "the model has no tokenizer");
    const ponder_alloc *a = m->core->meter.inner.alloc ? &m->core->meter.inner : NULL;
    ponder_tokenizer *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    t->pid = m->pid;
    pn_meter_init(&t->meter, a, 0, NULL);
    atomic_fetch_add(&m->core->refs, 1);
    t->core = m->core;
    t->t = m->core->tokenizer;
    *out = t;
    return PONDER_OK;
}

ponder_status ponder_tokenize(ponder_tokenizer *t, const char *text, size_t bytes, uint32_t flags, int32_t *ids, size_t cap,
                              size_t *n, ponder_error *error)
{
    ponder_error *err = pn_api_error(error);
    if (!t || (!text && bytes) || !n) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    ponder_status st = pn_api_pid(t->pid, err);
    if (st != PONDER_OK) return st;
    const ponder_alloc *a = t->meter.inner.alloc ? &t->meter.inner : NULL;
    uint32_t f = (flags & PONDER_TOKENIZE_SPECIAL ? PN_TOKENIZE_SPECIAL : 0) | (flags & PONDER_TOKENIZE_BOS ? PN_TOKENIZE_BOS : 0);
    int32_t *made = NULL;
    size_t n_made = 0, cap_made = 0;
    st = pn_tokenize(t->t, text, bytes, f, a, &made, &n_made, &cap_made, err);
    if (st == PONDER_OK) st = pn_api_copy(made, n_made, sizeof *made, ids, cap, n, err);
    pn_free(a, made, cap_made * sizeof *made);
    return st;
}

static ponder_status detokenize(const ponder_tokenizer *t, const int32_t *ids, size_t n_ids, bool special, pn_buf *out, ponder_error *err)
{
    pn_detok d;
    pn_detok_init(&d, t->t, special);
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= pn_tokenizer_size(t->t))
            return pn_fail(err, PONDER_E_RANGE, "token %d is outside the vocabulary of %u", ids[i], pn_tokenizer_size(t->t));
        pn_detok_put(&d, ids[i], out);
    }
    pn_detok_finish(&d, out);
    return out->failed ? pn_nomem(err, out->n) : PONDER_OK;
}

ponder_status ponder_detokenize(ponder_tokenizer *t, const int32_t *ids, size_t n_ids, int32_t special, char *text, size_t cap,
                                size_t *n, ponder_error *error)
{
    ponder_error *err = pn_api_error(error);
    if (!t || (!ids && n_ids) || !n) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    ponder_status st = pn_api_pid(t->pid, err);
    if (st != PONDER_OK) return st;
    pn_buf out;
    pn_buf_init(&out, t->meter.inner.alloc ? &t->meter.inner : NULL);
    st = detokenize(t, ids, n_ids, special != 0, &out, err);
    if (st == PONDER_OK) st = pn_api_copy(out.p, out.n, 1, text, cap, n, err);
    pn_buf_free(&out);
    return st;
}

ponder_status ponder_render(const char *template_name, const char *json, size_t bytes, char *text, size_t cap, size_t *n,
                            ponder_error *error)
{
    ponder_error *err = pn_api_error(error);
    if (!template_name || !json || !n) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    pn_template t = pn_template_by_name(template_name);
    if (t == PN_TEMPLATE_NONE) return pn_fail(err, PONDER_E_UNKNOWN, "no template is called \"%s\"", template_name);
    pn_fenv fenv;
    pn_rendered r;
    pn_fenv_enter(&fenv);
    pn_rendered_init(&r, NULL);
    ponder_status st = pn_render_json(t, json, bytes, &r, err);
    if (st == PONDER_OK) st = pn_api_copy(r.text.p, r.text.n, 1, text, cap, n, err);
    pn_rendered_free(&r);
    pn_fenv_leave(&fenv);
    return st;
}
