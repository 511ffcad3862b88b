/* What looks at numbers rather than text: logits of given ids, scores, embeddings, saved states. */
#include "session/session.h"

#include <math.h>

enum { SCORE_ROWS = 16 };
enum { SAVED_OPEN = 1, SAVED_ENDED = 2, SAVED_TURN_SHIFT = 2, SAVED_SAID_SHIFT = 32 }; /* above the flags: where the turn, and what the
    model said of it, began */

/* Everything before is in the store, so that what is computed next is exactly the new ids. A cancel of before this call
 * met no turn and counts for nothing. */
static ponder_status catch_up(ponder_session *s)
{
    pn_sequence_take_cancel(s->seq);
    if (pn_sequence_computed(s->seq) == pn_sequence_count(s->seq)) return PONDER_OK;
    return pn_sequence_advance(s->seq, 0, &s->err);
}

/* A failure must leave the session as it was; the text of the failure counts, not the rewind's. */
static void take_back(ponder_session *s, uint32_t n)
{
    ponder_error kept = s->err;
    pn_sequence_rewind(s->seq, n, NULL, &s->err);
    s->err = kept;
}

ponder_status pn_session_eval(ponder_session *s, const int32_t *ids, size_t n, const ponder_eval *eval)
{
    const pn_description *d = &s->model->core->network->d;
    if (eval->hidden && (eval->layer < 0 || (uint32_t)eval->layer > d->layers))
        return pn_fail(&s->err, PONDER_E_RANGE, "layer: %d is outside 0..%u", eval->layer, d->layers);
    ponder_status st = pn_session_render(s, true);
    if (st == PONDER_OK) st = catch_up(s);
    if (st != PONDER_OK) return st;
    uint32_t before = pn_sequence_count(s->seq);
    if ((st = pn_sequence_append(s->seq, ids, n, &s->err)) != PONDER_OK) return st;
    pn_outputs o = {eval->logits, eval->hidden, (uint32_t)eval->layer};
    if (n > 0 && (eval->logits || eval->hidden)) st = pn_sequence_compute(s->seq, &o, &s->err);
    else if (n > 0) st = pn_sequence_advance(s->seq, 0, &s->err); /* computed all the same: forks rely on it */
    if (st != PONDER_OK) take_back(s, before);
    else s->open_turn = false;
    return st;
}

ponder_status pn_session_score(ponder_session *s, const int32_t *ids, size_t n, float *logprobs)
{
    if (n == 0) return pn_session_render(s, true);
    ponder_status st = pn_session_settle(s);
    if (st != PONDER_OK) return st;
    const uint32_t before = pn_sequence_count(s->seq), vocab = s->sampler.vocab;
    pn_sequence_mark(s->seq); /* coming back here must be free, and so must the next try */
    if ((st = pn_sequence_append(s->seq, ids, n, &s->err)) != PONDER_OK) return st;
    take_back(s, before);
    float *rows = pn_zalloc_array(s->a, (size_t)SCORE_ROWS * vocab, sizeof *rows);
    if (!rows) return pn_nomem(&s->err, (size_t)SCORE_ROWS * vocab * sizeof *rows);
    st = pn_sequence_advance(s->seq, 0, &s->err);
    if (st == PONDER_OK) logprobs[0] = pn_sampler_logprob(&s->sampler, pn_sequence_logits(s->seq), ids[0]);
    for (size_t at = 0; at + 1 < n && st == PONDER_OK; at += SCORE_ROWS) {
        size_t m = PN_MIN((size_t)SCORE_ROWS, n - 1 - at);
        pn_outputs o = {.logits = rows};
        st = pn_sequence_append(s->seq, ids + at, m, &s->err);
        if (st == PONDER_OK) st = pn_sequence_compute(s->seq, &o, &s->err);
        for (size_t i = 0; i < m && st == PONDER_OK; i++)
            logprobs[at + i + 1] = pn_sampler_logprob(&s->sampler, rows + i * vocab, ids[at + i + 1]);
    }
    pn_free(s->a, rows, (size_t)SCORE_ROWS * vocab * sizeof *rows);
    take_back(s, before);
    return st;
}

ponder_status pn_session_settle(ponder_session *s)
{
    ponder_status st = pn_session_render(s, true);
    pn_sequence_take_cancel(s->seq);
    return st == PONDER_OK ? pn_sequence_advance(s->seq, 0, &s->err) : st;
}

static void mean_and_scale(const float *rows, size_t n, size_t width, float *to)
{
    double norm = 0;
    for (size_t i = 0; i < width; i++) {
        double sum = 0;
        for (size_t r = 0; r < n; r++) sum += (double)rows[r * width + i];
        to[i] = (float)(sum / (double)n);
        norm += (double)to[i] * (double)to[i];
    }
    float scale = norm > 0 ? (float)(1 / sqrt(norm)) : 0;
    for (size_t i = 0; i < width; i++) to[i] *= scale;
}

static ponder_status embed_ids(ponder_session *s, const int32_t *ids, size_t n, float *vector)
{
    const pn_description *d = &s->model->core->network->d;
    pn_sequence *q;
    size_t count;
    if (n > UINT32_MAX || !pn_mul(n, d->width, &count)) return pn_fail(&s->err, PONDER_E_RANGE, "the text has too many tokens");
    ponder_status st = pn_sequence_new(&q, s->model->engine, (uint32_t)n, &s->err);
    if (st != PONDER_OK) return st;
    float *rows = pn_zalloc_array(s->a, count, sizeof *rows);
    st = rows ? pn_sequence_append(q, ids, n, &s->err) : pn_nomem(&s->err, count * sizeof *rows);
    pn_outputs o = {.hidden = rows, .layer = d->layers};
    if (st == PONDER_OK) st = pn_sequence_compute(q, &o, &s->err);
    if (st == PONDER_OK) mean_and_scale(rows, n, d->width, vector);
    pn_free(s->a, rows, count * sizeof *rows);
    pn_sequence_free(q);
    return st;
}

ponder_status pn_session_embed(ponder_session *s, const char *text, size_t n, float *vector)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    if (!t) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model has no tokenizer");
    int32_t *ids = NULL;
    size_t n_ids = 0, cap = 0;
    ponder_status st = pn_tokenize(t, text, n, PN_TOKENIZE_BOS, s->a, &ids, &n_ids, &cap, &s->err);
    if (st == PONDER_OK && n_ids == 0) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "the text is empty");
    if (st == PONDER_OK) st = embed_ids(s, ids, n_ids, vector);
    pn_free(s->a, ids, cap * sizeof *ids);
    return st;
}

ponder_status pn_session_save(ponder_session *s, pn_buf *out)
{
    ponder_status st = pn_session_render(s, true);
    const bool said = s->think.said_to == pn_sequence_count(s->seq); /* the last token is the model's */
    uint64_t flags = (s->open_turn ? SAVED_OPEN : 0) | (s->ended ? SAVED_ENDED : 0) | s->turn_at << SAVED_TURN_SHIFT;
    flags |= (uint64_t)(said ? s->think.said_at : pn_sequence_count(s->seq)) << SAVED_SAID_SHIFT;
    return st == PONDER_OK ? pn_sequence_save(s->seq, s->model->core->hash, flags, out, &s->err) : st;
}

ponder_status pn_session_load(ponder_session *s, const void *bytes, size_t n)
{
    uint64_t flags = 0;
    pn_session_end_probe(s);
    ponder_status st = pn_sequence_load(s->seq, s->model->core->hash, bytes, n, &flags, &s->err);
    if (st != PONDER_OK) return st;
    pn_session_drop_turn(s);
    pn_session_forget_pending(s);
    s->turn_at = (uint32_t)flags >> SAVED_TURN_SHIFT;
    s->open_turn = flags & SAVED_OPEN;
    s->ended = flags & SAVED_ENDED;
    s->think.said_to = pn_sequence_count(s->seq);
    s->think.said_at = (uint32_t)PN_MIN(flags >> SAVED_SAID_SHIFT, (uint64_t)s->think.said_to);
    pn_thought_begin(&s->think.t);
    return PONDER_OK;
}
