/* A turn: encode, compute, sample, parse, report; one event at a time, so that a callback, a frame loop and a binding share it. */
#include "session/session.h"

#include <math.h>

/* ---- the parser --------------------------------------------------------------------------------------- */

void pn_session_forget_parser(ponder_session *s)
{
    pn_parser_free(s->parser);
    s->parser = NULL;
    s->n_markers = 0;
}

/* Where the vocabulary has a marker as a token, that token alone counts. */
static void name_markers(ponder_session *s)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    const char *name;
    for (size_t i = 0; (name = pn_parser_marker(s->parser, i)) != NULL; i++) {
        int32_t id = pn_tokenizer_find(t, name, strlen(name));
        if (id < 0 || !pn_tokenizer_is_special(t, id) || s->n_markers == PN_MARKERS) continue;
        pn_parser_marker_is_token(s->parser, i);
        s->marker[s->n_markers++] = id;
    }
}

static bool is_marker(const ponder_session *s, int32_t id)
{
    for (uint32_t i = 0; i < s->n_markers; i++)
        if (s->marker[i] == id) return true;
    return false;
}

/* One token to the parser: a control token or a marker by its name, everything else as text. */
static ponder_status parse_token(ponder_session *s, int32_t id)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    s->piece.n = 0;
    if (!pn_tokenizer_is_control(t, id) && !is_marker(s, id)) {
        if (!pn_detok_put(&s->detok, id, &s->piece)) goto nomem;
        return pn_parser_put(s->parser, s->piece.p, s->piece.n, &s->err);
    }
    if (!pn_detok_finish(&s->detok, &s->piece)) goto nomem;
    ponder_status st = s->piece.n ? pn_parser_put(s->parser, s->piece.p, s->piece.n, &s->err) : PONDER_OK;
    size_t n;
    const char *name = pn_tokenizer_bytes(t, id, &n);
    return st == PONDER_OK ? pn_parser_put_token(s->parser, name, n, &s->err) : st;
nomem:
    s->piece.failed = false;
    return pn_nomem(&s->err, s->piece.n);
}

static void drop_events(pn_parser *p)
{
    pn_parsed e;
    while (pn_parser_next(p, &e)) { }
}

/* Where the tokens from `at` that spell "assistant" end; UINT32_MAX: they spell something else. */
static uint32_t behind_role(const ponder_session *s, uint32_t at)
{
    static const char role[] = "assistant";
    size_t have = 0, n;
    while (have < sizeof role - 1 && at < pn_sequence_count(s->seq)) {
        const char *p = pn_tokenizer_bytes(s->model->core->tokenizer, pn_sequence_ids(s->seq)[at++], &n);
        if (n > sizeof role - 1 - have || memcmp(role + have, p, n) != 0) return UINT32_MAX;
        have += n;
    }
    return have == sizeof role - 1 ? at : UINT32_MAX;
}

/* In a raw prompt: behind the last "<|start|>assistant" or its like; UINT32_MAX when there is none. */
static uint32_t raw_turn_start(const ponder_session *s, pn_parser_kind kind)
{
    const char *opener = kind == PN_PARSER_MUSE ? "<|start|>" : kind == PN_PARSER_THINK ? "<|im_start|>" : NULL;
    const int32_t *ids = pn_sequence_ids(s->seq);
    int32_t id = opener ? pn_tokenizer_find(s->model->core->tokenizer, opener, strlen(opener)) : -1;
    for (uint32_t i = pn_sequence_count(s->seq); id >= 0 && i-- > 0;)
        if (ids[i] == id) return behind_role(s, i + 1);
    return UINT32_MAX;
}

/* A parser that has read what the turn has so far: nothing, the part before a cut, or what a raw prompt opened. */
static ponder_status open_parser(ponder_session *s)
{
    if (s->parser || !s->model->core->tokenizer) return PONDER_OK;
    pn_parse_options o = {.kind = pn_parser_kind_of(s->template), .template = s->template, .tools = s->tools, .calls = s->calls,
                          .think_open = pn_str_of(s->think.open), .think_close = pn_str_of(s->think.close)};
    if (o.think_open.n && o.kind == PN_PARSER_LLAMA3_1) {
        o.kind = PN_PARSER_PLAIN; /* its calls have no markers that could stand beside those of thoughts */
        o.template = PN_TEMPLATE_LLAMA3;
    }
    uint32_t from = s->open_turn ? s->turn_at : raw_turn_start(s, o.kind);
    if (from == UINT32_MAX) {
        from = pn_sequence_count(s->seq);
        if (o.kind == PN_PARSER_MUSE) o.kind = PN_PARSER_PLAIN;
    }
    ponder_status st = pn_parser_new(&s->parser, &o, s->a, &s->err);
    if (st != PONDER_OK) return st;
    name_markers(s);
    pn_detok_init(&s->detok, s->model->core->tokenizer, false);
    pn_session_recount_thought(s);
    for (uint32_t i = from; i < pn_sequence_count(s->seq) && st == PONDER_OK; i++) {
        const pn_place before = pn_parser_place(s->parser);
        const int32_t id = pn_sequence_ids(s->seq)[i];
        st = parse_token(s, id);
        drop_events(s->parser);
        pn_session_counted(s, id, i, before);
    }
    return st;
}

/* ---- text out ------------------------------------------------------------------------------------ */

/* How much of the held answer may be shown: all but a tail that could still become a stop string. *stop: where one is. */
static size_t showable(const ponder_session *s, bool *stop)
{
    const char *p = s->held.p;
    size_t n = s->held.n, keep = n;
    *stop = false;
    for (size_t at = 0; at < n; at++)
        for (uint32_t i = 0; i < s->stop.n; i++) {
            size_t m = PN_MIN(s->stop.s[i].n, n - at);
            if (memcmp(p + at, s->stop.s[i].p, m) != 0) continue;
            if (m == s->stop.s[i].n) {
                *stop = true;
                return at;
            }
            keep = PN_MIN(keep, at);
        }
    return keep;
}

static ponder_status show(ponder_session *s, size_t n, ponder_event *event)
{
    s->shown.n = 0;
    if (n == 0) return PONDER_OK;
    if (!pn_buf_put(&s->shown, s->held.p, n)) {
        s->shown.failed = false;
        return pn_nomem(&s->err, n);
    }
    memmove(s->held.p, s->held.p + n, s->held.n - n);
    s->held.n -= n;
    event->kind = PONDER_EVENT_ANSWER;
    event->text = s->shown.p;
    event->text_bytes = s->shown.n;
    return PONDER_OK;
}

static void finish(ponder_session *s, int32_t end)
{
    pn_session_end_probe(s);
    s->end = end;
    s->phase = PN_FLUSH;
    s->ended = end == PONDER_END_EOS;
    s->ended_us = pn_now_us();
    if (!s->first_us) s->first_us = s->ended_us;
    if (s->distant) pn_distant_rest(s);
    else pn_sequence_rest(s->seq);
}

void pn_session_finish(ponder_session *s, int32_t end) { finish(s, end); }

void pn_session_cancel(ponder_session *s)
{
    if (s->distant) pn_distant_cancel(s);
    else pn_sequence_cancel(s->seq);
}

static bool take_cancel(ponder_session *s) { return s->distant ? pn_distant_take_cancel(s) : pn_sequence_take_cancel(s->seq); }

static ponder_status show_answer(ponder_session *s, pn_str text, ponder_event *event)
{
    bool stop;
    if (!pn_buf_put(&s->held, text.p, text.n)) {
        s->held.failed = false;
        return pn_nomem(&s->err, text.n);
    }
    size_t n = showable(s, &stop);
    ponder_status st = show(s, n, event);
    if (stop) {
        finish(s, PONDER_END_STOP);
        s->held.n = 0;
    }
    return st;
}

int32_t pn_event_kind(pn_parse_kind kind)
{
    static const int32_t kinds[] = {
        [PN_PARSED_THOUGHT] = PONDER_EVENT_THOUGHT, [PN_PARSED_COMMENTARY] = PONDER_EVENT_COMMENTARY, [PN_PARSED_ANSWER] = PONDER_EVENT_ANSWER,
        [PN_PARSED_CALL] = PONDER_EVENT_TOOL_CALL, [PN_PARSED_RAW] = PONDER_EVENT_RAW, [PN_PARSED_MESSAGE_END] = 0, [PN_PARSED_TURN_END] = 0,
    };
    return kinds[kind];
}

static void tell_parsed(ponder_session *s, const pn_parsed *p, ponder_event *event)
{
    event->kind = pn_event_kind(p->kind);
    event->text = p->text.n ? p->text.p : "";
    event->text_bytes = p->text.n;
    s->messages += p->kind == PN_PARSED_MESSAGE_END;
    if (p->kind != PN_PARSED_CALL) return;
    event->name = p->name.p;
    event->name_bytes = p->name.n;
    s->calls++;
}

/* The next event of what was parsed; event->kind 0: none. Held text of the answer goes before whatever follows it. */
static ponder_status next_parsed(ponder_session *s, ponder_event *event)
{
    ponder_status st = PONDER_OK;
    while (st == PONDER_OK && !event->kind && s->parser && s->end != PONDER_END_STOP) {
        pn_parsed p = s->parsed;
        s->parsed.kind = 0;
        if (!p.kind && !pn_parser_next(s->parser, &p)) break;
        if (p.kind == PN_PARSED_ANSWER && s->stop.n > 0) {
            st = show_answer(s, p.text, event);
        } else if (s->held.n > 0) {
            st = show(s, s->held.n, event);
            s->parsed = p;
        } else {
            tell_parsed(s, &p, event);
        }
    }
    return st;
}

/* ---- the turn -------------------------------------------------------------------------------------- */

static ponder_status begin(ponder_session *s)
{
    take_cancel(s);
    bool nothing_new = s->n_pending == 0 && !s->unprompted && s->open_turn && s->ended;
    if (nothing_new) return pn_fail(&s->err, PONDER_E_STATE, "nothing was added since the model ended its turn");
    s->phase = PN_PREPARE;
    s->end = PONDER_END_NONE;
    s->held.n = s->shown.n = 0;
    s->parsed.kind = 0;
    s->fresh = s->finished = false;
    s->last_token = -1;
    s->prompt_tokens = s->reused_tokens = s->output_tokens = s->messages = 0;
    s->began_us = pn_now_us();
    s->first_us = s->ended_us = 0;
    pn_session_begin_thinking(s);
    if (!s->seq) return PONDER_OK;
    pn_sequence_draft(s->seq, s->drafts);
    pn_sequence_ask_drafter(s->seq, s->ask_drafter);
    pn_sequence_read_drafts(s->seq, &s->drafted_before, &s->accepted_before);
    return PONDER_OK;
}

static ponder_status prepare(ponder_session *s, uint64_t until)
{
    ponder_status st = pn_session_encode(s, until);
    if (st == PONDER_OK) st = pn_session_render(s, true);
    if (st != PONDER_OK) return st;
    uint32_t n = pn_sequence_count(s->seq), computed = pn_sequence_computed(s->seq);
    if (n == 0) return pn_fail(&s->err, PONDER_E_STATE, "the session is empty: add a message or a prompt first");
    if ((st = open_parser(s)) != PONDER_OK) return st;
    if ((st = pn_session_prepare_thinking(s, n - computed)) != PONDER_OK) return st;
    if ((st = pn_session_prepare_binding(s)) != PONDER_OK) return st;
    s->prompt_tokens = n - computed;
    s->reused_tokens = computed;
    s->thought_before = s->parser ? pn_parser_thought_tokens(s->parser) : 0;
    s->calls_before = s->calls;
    s->phase = PN_TURN;
    return PONDER_OK;
}

static bool ends_turn(const ponder_session *s, int32_t token)
{
    const pn_core *c = s->model->core;
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] == token) return !s->ignore_eos;
    return false;
}

/* Takes the token into the sequence and its text to the parser. ours: it was not sampled. */
static ponder_status take_token(ponder_session *s, int32_t token, bool ours)
{
    const pn_place before = s->parser ? pn_parser_place(s->parser) : (pn_place){.channel = PN_CHANNEL_ANSWER};
    ponder_status st = pn_sequence_append(s->seq, &token, 1, &s->err);
    if (st != PONDER_OK) return st;
    s->output_tokens++;
    s->last_token = token;
    s->fresh = true;
    if (!s->first_us) s->first_us = pn_now_us();
    if (!ours && (st = pn_session_bound(s, token)) != PONDER_OK) return st;
    if (s->parser && (st = parse_token(s, token)) != PONDER_OK) return st;
    pn_session_took(s, token, before, ours);
    if (ends_turn(s, token)) finish(s, PONDER_END_EOS);
    else if (s->max_tokens && s->output_tokens >= s->max_tokens) finish(s, PONDER_END_LENGTH);
    else if (pn_sequence_count(s->seq) == pn_sequence_limit(s->seq)) finish(s, PONDER_END_CONTEXT);
    return PONDER_OK;
}

static void note_probabilities(ponder_session *s, const float *logits, int32_t token)
{
    if (s->logprobs < 0) return;
    s->logprob = pn_sampler_logprob(&s->sampler, logits, token);
    s->n_top = (uint32_t)PN_MIN((uint64_t)s->logprobs, (uint64_t)s->sampler.vocab);
    pn_sampler_top(&s->sampler, logits, s->top, s->n_top);
}

/* A token that the budget puts in: nothing has to be computed before it, so nothing is known of its probability. */
static ponder_status take_ours(ponder_session *s, int32_t token)
{
    s->logprob = 0;
    s->sampler.logprob = NAN;
    s->n_top = 0;
    return take_token(s, token, true);
}

static ponder_status sample_one(ponder_session *s)
{
    const uint32_t *mask = NULL;
    ponder_status st = pn_session_allowed(s, &mask);
    if (st != PONDER_OK) return st;
    const float *logits = pn_sequence_logits(s->seq);
    uint32_t n = pn_sequence_count(s->seq);
    int32_t token = pn_sampler_pick(&s->sampler, &s->sampling, logits, pn_sequence_ids(s->seq), n, s->bias, s->n_bias, mask, n);
    if ((st = pn_session_judge(s, &token, mask)) != PONDER_OK) return st;
    if (token < 0) return pn_session_queued(s, &token) ? take_ours(s, token) : PONDER_OK;
    note_probabilities(s, logits, token);
    return take_token(s, token, false);
}

static ponder_status generate_one(ponder_session *s, uint64_t until)
{
    int32_t ours;
    if (pn_sequence_held(s->seq) == pn_sequence_limit(s->seq)) {
        finish(s, PONDER_END_CONTEXT);
        return PONDER_OK;
    }
    if (s->think.probing) return pn_session_probe(s, until);
    ponder_status st = pn_session_before_step(s);
    if (st != PONDER_OK) return st;
    if (s->output_tokens > 0 && pn_session_queued(s, &ours)) return take_ours(s, ours);
    const uint64_t came = until ? pn_now_us() : 0;
    st = pn_sequence_advance(s->seq, until, &s->err);
    if (st == PONDER_OK && pn_sequence_take_cancel(s->seq)) st = PONDER_E_CANCELLED;
    if (st == PONDER_OK && until > came && pn_now_us() >= until) st = PONDER_MORE; /* sampling is the next slice's */
    if (st != PONDER_OK) return st;
    if (s->output_tokens == 0) pn_sequence_mark(s->seq); /* where regenerating goes back to: the prompt's end */
    if (!pn_session_queued(s, &ours)) {
        if ((st = pn_session_before_sample(s)) != PONDER_OK || s->think.probing) return st;
        if (!pn_session_queued(s, &ours)) return sample_one(s);
    }
    return take_ours(s, ours);
}

/* What is held when the turn ends was no stop string after all, and what was begun comes out as it is. */
static ponder_status flush(ponder_session *s, ponder_event *event)
{
    ponder_status st = PONDER_OK;
    if (s->end == PONDER_END_CANCELLED) {
        s->phase = PN_DONE; /* nobody is listening; should the turn go on, what was begun comes with what follows */
        s->held.n = 0;
        pn_session_forget_parser(s);
        return PONDER_OK;
    }
    if (!s->finished && s->parser && s->end != PONDER_END_STOP) {
        s->finished = true;
        s->piece.n = 0;
        if (!pn_detok_finish(&s->detok, &s->piece)) return pn_nomem(&s->err, s->piece.n);
        if (s->piece.n) st = pn_parser_put(s->parser, s->piece.p, s->piece.n, &s->err);
        if (st == PONDER_OK) st = pn_parser_finish(s->parser, &s->err);
        if (st == PONDER_OK) st = next_parsed(s, event);
    }
    if (st != PONDER_OK || event->kind) return st;
    if (s->held.n > 0) return show(s, s->held.n, event);
    s->phase = PN_DONE;
    if (s->end != PONDER_END_EOS) pn_session_forget_parser(s); /* it was told of an end: a turn that goes on is read again */
    return PONDER_OK;
}

static void tell_done(ponder_session *s, ponder_event *event)
{
    event->kind = PONDER_EVENT_DONE;
    event->end = s->end;
    event->prompt_tokens = s->prompt_tokens;
    event->reused_tokens = s->reused_tokens;
    event->output_tokens = s->output_tokens;
    event->prefill_us = s->first_us - s->began_us;
    event->decode_us = s->ended_us - s->first_us;
    event->thought_tokens = s->thought_tokens;
    event->calls = s->calls - s->calls_before;
    event->message = s->messages;
    if (!s->seq) return;
    pn_sequence_read_drafts(s->seq, &event->drafted, &event->accepted);
    event->drafted -= s->drafted_before;
    event->accepted -= s->accepted_before;
}

static int32_t channel_kind(const ponder_session *s)
{
    pn_channel c = s->parser ? pn_parser_channel(s->parser) : PN_CHANNEL_ANSWER;
    return c == PN_CHANNEL_THOUGHT ? PONDER_EVENT_THOUGHT : c == PN_CHANNEL_COMMENTARY ? PONDER_EVENT_COMMENTARY : PONDER_EVENT_ANSWER;
}

/* With log-probabilities every token is reported, with an empty text if need be. */
static void tell_token(ponder_session *s, ponder_event *event)
{
    if (s->fresh && s->logprobs >= 0 && !event->kind) event->kind = channel_kind(s);
    if (!event->kind) return;
    event->message = s->messages;
    if (s->fresh) event->token = s->last_token;
    if (s->fresh && s->logprobs >= 0) {
        event->logprob = s->logprob;
        event->top = s->top;
        event->n_top = s->n_top;
    }
    s->fresh = false;
}

/* One piece of the turn: at most one event comes of it. */
static ponder_status proceed(ponder_session *s, uint64_t until, ponder_event *event)
{
    ponder_status st = next_parsed(s, event);
    if (st != PONDER_OK || event->kind) return st;
    switch (s->phase) {
    case PN_PREPARE: st = s->distant ? pn_distant_prepare(s) : prepare(s, until); break;
    case PN_TURN:
        st = s->distant ? pn_distant_generate(s, until, event) : generate_one(s, until);
        if (st == PONDER_OK && !event->kind) st = next_parsed(s, event);
        break;
    case PN_FLUSH: st = flush(s, event); break;
    default: break;
    }
    if (st == PONDER_E_CANCELLED) {
        take_cancel(s);
        finish(s, PONDER_END_CANCELLED);
        st = PONDER_OK;
    }
    /* The turn's time is looked at inside a step too, and between tokens. */
    const bool working = s->phase == PN_PREPARE || s->phase == PN_TURN;
    if ((st == PONDER_OK || st == PONDER_MORE) && working && pn_session_out_of_time(s)) {
        const bool unread = s->phase == PN_PREPARE;
        finish(s, PONDER_END_TIME);
        if (unread) s->phase = PN_DONE;
        st = PONDER_OK;
    }
    return st;
}

static ponder_status next_event(ponder_session *s, uint64_t until, ponder_event *event)
{
    *event = (ponder_event){.size = sizeof *event, .token = -1, .text = "", .agent = -1};
    s->shown.n = 0; /* told by the event before */
    ponder_status st = s->phase == PN_IDLE ? begin(s) : PONDER_OK;
    const uint64_t stop = pn_session_until(s, until);
    while (st == PONDER_OK && !event->kind && s->phase != PN_DONE) {
        st = proceed(s, stop, event);
        if (st == PONDER_OK) tell_token(s, event);
        if (st == PONDER_OK && !event->kind && (s->phase == PN_TURN || s->phase == PN_PREPARE) && until && pn_now_us() >= until) return PONDER_MORE;
    }
    if (st == PONDER_MORE) return st;
    if (s->parser && s->phase != PN_PREPARE) s->thought_tokens = pn_parser_thought_tokens(s->parser) - s->thought_before;
    if (st == PONDER_OK && !event->kind) {
        tell_done(s, event);
        s->phase = PN_IDLE;
    }
    if (st == PONDER_OK && s->distant) st = pn_distant_note(s, event);
    if (st != PONDER_OK && s->distant) pn_distant_failed(s);
    if (st != PONDER_OK) pn_session_drop_turn(s);
    /* In slices the host comes back when it likes: other sessions' slices take this one's next token along. */
    else if (until && s->phase == PN_TURN && s->seq) pn_sequence_submit(s->seq);
    return st;
}

ponder_status pn_session_next(ponder_session *s, uint64_t until, ponder_event *event)
{
    pn_session_enter(s, until == 0);
    ponder_status st = next_event(s, until, event);
    pn_session_leave(s);
    return st;
}

void pn_session_end_turn(ponder_session *s, int32_t end)
{
    if (s->phase == PN_PREPARE || s->phase == PN_TURN) finish(s, end);
}

bool pn_session_waits(const ponder_session *s)
{
    if (s->phase != PN_IDLE) return true;
    if (s->n_pending > 0 || s->unprompted) return s->asked;
    if (s->distant) return s->open_turn && !s->ended;
    return !(s->open_turn && s->ended) && pn_sequence_count(s->seq) > 0;
}

void pn_session_drop_turn(ponder_session *s)
{
    pn_session_end_probe(s);
    if (s->phase == PN_IDLE) return;
    s->phase = PN_IDLE;
    s->held.n = 0;
    pn_session_forget_parser(s);
    pn_session_drop_encoding(s);
    if (s->distant) pn_distant_rest(s);
    else pn_sequence_rest(s->seq);
}
