/* A turn: compute, sample, report; one event at a time, so that a callback, a frame loop and a binding share it. */
#include "session/session.h"

/* ---- text out ------------------------------------------------------------------------------------ */

/* How much of the held text may be shown: all but a tail that could still become a stop string. *stop: where one is. */
static size_t showable(const ponder_session *s, bool *stop)
{
    const char *p = s->held.p;
    size_t n = s->held.n, keep = n;
    *stop = false;
    for (size_t at = 0; at < n; at++)
        for (uint32_t i = 0; i < s->n_stop; i++) {
            size_t m = PN_MIN(s->stop[i].n, n - at);
            if (memcmp(p + at, s->stop[i].p, m) != 0) continue;
            if (m == s->stop[i].n) {
                *stop = true;
                return at;
            }
            keep = PN_MIN(keep, at);
        }
    return keep;
}

static ponder_status show(ponder_session *s, size_t n)
{
    s->shown.n = 0;
    if (n == 0) return PONDER_OK;
    if (!pn_buf_put(&s->shown, s->held.p, n)) {
        s->shown.failed = false;
        return pn_nomem(&s->err, n);
    }
    memmove(s->held.p, s->held.p + n, s->held.n - n);
    s->held.n -= n;
    return PONDER_OK;
}

/* ---- the turn -------------------------------------------------------------------------------------- */

static ponder_status begin(ponder_session *s)
{
    pn_sequence_take_cancel(s->seq);
    bool nothing_new = s->n_pending == 0 && s->open_turn && s->ended;
    if (nothing_new) return pn_fail(&s->err, PONDER_E_STATE, "nothing was added since the model ended its turn");
    ponder_status st = pn_session_render(s);
    if (st != PONDER_OK) return st;
    uint32_t n = pn_sequence_count(s->seq), computed = pn_sequence_computed(s->seq);
    if (n == 0) return pn_fail(&s->err, PONDER_E_STATE, "the session is empty: add a message or a prompt first");
    s->phase = PN_TURN;
    s->end = PONDER_END_NONE;
    s->held.n = s->shown.n = 0;
    s->prompt_tokens = n - computed;
    s->reused_tokens = computed;
    s->output_tokens = 0;
    s->began_us = pn_now_us();
    s->first_us = s->ended_us = 0;
    if (s->model->core->tokenizer) pn_detok_init(&s->detok, s->model->core->tokenizer, false);
    return PONDER_OK;
}

static void finish(ponder_session *s, int32_t end)
{
    s->end = end;
    s->phase = PN_FLUSH;
    s->ended = end == PONDER_END_EOS;
    s->ended_us = pn_now_us();
    if (!s->first_us) s->first_us = s->ended_us;
    pn_sequence_rest(s->seq);
}

static bool ends_turn(const ponder_session *s, int32_t token)
{
    const pn_core *c = s->model->core;
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] == token) return !s->ignore_eos;
    return false;
}

/* Takes the token into the sequence and its text into `held`; the event is what may be shown of it. */
static ponder_status take_token(ponder_session *s, int32_t token, ponder_event *event, bool *has_event)
{
    ponder_status st = pn_sequence_append(s->seq, &token, 1, &s->err);
    if (st != PONDER_OK) return st;
    s->output_tokens++;
    if (!s->first_us) s->first_us = pn_now_us();
    event->token = token;
    if (ends_turn(s, token)) {
        finish(s, PONDER_END_EOS);
        *has_event = s->logprobs >= 0;
        return PONDER_OK;
    }
    if (s->model->core->tokenizer && !pn_detok_put(&s->detok, token, &s->held)) {
        s->held.failed = false;
        return pn_nomem(&s->err, s->held.n);
    }
    bool stop;
    size_t n = showable(s, &stop);
    st = show(s, n);
    if (stop) {
        finish(s, PONDER_END_STOP);
        s->held.n = 0;
    } else if (s->max_tokens && s->output_tokens >= s->max_tokens) {
        finish(s, PONDER_END_LENGTH);
    } else if (pn_sequence_count(s->seq) == pn_sequence_limit(s->seq)) {
        finish(s, PONDER_END_CONTEXT);
    }
    *has_event = n > 0 || s->logprobs >= 0;
    return st;
}

static void report_probabilities(ponder_session *s, const float *logits, int32_t token, ponder_event *event)
{
    if (s->logprobs < 0) return;
    event->logprob = pn_sampler_logprob(&s->sampler, logits, token);
    uint32_t n = (uint32_t)PN_MIN((uint64_t)s->logprobs, (uint64_t)s->sampler.vocab);
    pn_sampler_top(&s->sampler, logits, s->top, n);
    event->top = s->top;
    event->n_top = n;
}

static ponder_status generate_one(ponder_session *s, uint64_t until, ponder_event *event, bool *has_event)
{
    if (pn_sequence_count(s->seq) == pn_sequence_limit(s->seq)) {
        finish(s, PONDER_END_CONTEXT);
        return PONDER_OK;
    }
    ponder_status st = pn_sequence_advance(s->seq, until, &s->err);
    if (st == PONDER_E_CANCELLED || (st == PONDER_OK && pn_sequence_take_cancel(s->seq))) {
        pn_sequence_take_cancel(s->seq);
        finish(s, PONDER_END_CANCELLED);
        return PONDER_OK;
    }
    if (st != PONDER_OK) return st;
    if (s->output_tokens == 0) pn_sequence_mark(s->seq); /* where regenerating goes back to: the prompt's end */
    const float *logits = pn_sequence_logits(s->seq);
    uint32_t n = pn_sequence_count(s->seq);
    int32_t token = pn_sampler_pick(&s->sampler, &s->sampling, logits, pn_sequence_ids(s->seq), n, s->bias, s->n_bias, NULL, n);
    report_probabilities(s, logits, token, event);
    return take_token(s, token, event, has_event);
}

static void fill(ponder_session *s, ponder_event *event, int32_t kind)
{
    event->kind = kind;
    event->text = s->shown.n ? s->shown.p : "";
    event->text_bytes = s->shown.n;
    if (kind != PONDER_EVENT_DONE) return;
    event->end = s->end;
    event->prompt_tokens = s->prompt_tokens;
    event->reused_tokens = s->reused_tokens;
    event->output_tokens = s->output_tokens;
    event->prefill_us = s->first_us - s->began_us;
    event->decode_us = s->ended_us - s->first_us;
}

/* What is held when the turn ends was no stop string after all. */
static ponder_status flush(ponder_session *s, ponder_event *event, bool *has_event)
{
    s->phase = PN_DONE;
    if (s->end == PONDER_END_STOP) return PONDER_OK;
    if (s->model->core->tokenizer) pn_detok_finish(&s->detok, &s->held);
    *has_event = s->held.n > 0;
    ponder_status st = show(s, s->held.n);
    if (*has_event) fill(s, event, PONDER_EVENT_ANSWER);
    return st;
}

ponder_status pn_session_next(ponder_session *s, uint64_t until, ponder_event *event)
{
    *event = (ponder_event){.size = sizeof *event, .token = -1, .text = ""};
    s->shown.n = 0; /* told by the event before */
    ponder_status st = s->phase == PN_IDLE ? begin(s) : PONDER_OK;
    bool has_event = false;
    while (st == PONDER_OK && !has_event && s->phase == PN_TURN) {
        st = generate_one(s, until, event, &has_event);
        if (has_event) fill(s, event, PONDER_EVENT_ANSWER);
        if (st == PONDER_OK && !has_event && s->phase == PN_TURN && until && pn_now_us() >= until) return PONDER_MORE;
    }
    if (st == PONDER_MORE) return st;
    if (st == PONDER_OK && !has_event && s->phase == PN_FLUSH) st = flush(s, event, &has_event);
    if (st == PONDER_OK && !has_event && s->phase == PN_DONE) {
        fill(s, event, PONDER_EVENT_DONE);
        event->token = -1;
        s->phase = PN_IDLE;
    }
    if (st != PONDER_OK) pn_session_drop_turn(s);
    /* In slices the host comes back when it likes: other sessions' slices take this one's next token along. */
    else if (until && s->phase == PN_TURN) pn_sequence_submit(s->seq);
    return st;
}

void pn_session_drop_turn(ponder_session *s)
{
    if (s->phase == PN_IDLE) return;
    s->phase = PN_IDLE;
    s->held.n = 0;
    pn_sequence_rest(s->seq);
}
