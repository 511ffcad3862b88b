/* The thought budget of a session: lib/think decides, this knows the sequence, the parser and the clocks. Closing tokens
 * go in as ids, one by one, like tokens of the model's own; a probe is a try of the engine's. */
#include "session/session.h"

enum { MOST_TRIAL = 8, MOST_TRIES = 16, MOST_FORBIDDEN = PN_MARKERS + PN_ENDS };

static bool has_tools(const ponder_session *s) { return s->tools && pn_tools_count(s->tools) > 0; }

/* ---- clocks ------------------------------------------------------------------------------------------------------- */

static bool by_wall(const pn_thinking *t) { return t->clock == PN_CLOCK_CALL ? t->wall : t->clock == PN_CLOCK_WALL; }

static pn_stamp stamp(const pn_thinking *t)
{
    const uint64_t now = pn_now_us();
    return (pn_stamp){now, t->inside_us + (t->depth ? now - t->entered : 0)};
}

static uint64_t since(const pn_thinking *t, pn_stamp from)
{
    const pn_stamp now = stamp(t);
    return by_wall(t) ? now.wall - from.wall : now.inside - from.inside;
}

void pn_session_enter(ponder_session *s, bool wall)
{
    pn_thinking *t = &s->think;
    if (t->depth++) return;
    t->wall = wall;
    t->entered = pn_now_us();
}

void pn_session_leave(ponder_session *s)
{
    pn_thinking *t = &s->think;
    if (--t->depth == 0) t->inside_us += pn_now_us() - t->entered;
}

/* The time since the last look goes to the thought, if one is open. */
static void count_time(pn_thinking *t)
{
    const pn_stamp now = stamp(t), then = t->counted;
    t->counted = now;
    if (!t->t.open) return;
    const uint64_t us = by_wall(t) ? now.wall - then.wall : now.inside - then.inside;
    t->t.used_us += us;
    t->t.block_us += us;
}

uint64_t pn_session_until(ponder_session *s, uint64_t until)
{
    const pn_thinking *t = &s->think;
    if (!t->limits.turn_us) return until;
    const uint64_t gone = since(t, t->turn), left = t->limits.turn_us > gone ? t->limits.turn_us - gone : 0, end = pn_now_us() + left;
    return until ? PN_MIN(until, end) : end;
}

bool pn_session_out_of_time(ponder_session *s)
{
    return s->think.limits.turn_us && since(&s->think, s->think.turn) >= s->think.limits.turn_us;
}

/* ---- the state ------------------------------------------------------------------------------------------------------ */

void pn_session_begin_thinking(ponder_session *s)
{
    pn_thinking *t = &s->think;
    atomic_store(&t->close_now, false);
    t->n_queue = t->queued = 0;
    t->turn = t->counted = stamp(t);
}

static uint64_t left_of(const ponder_session *s)
{
    const uint64_t context = pn_sequence_limit(s->seq) - pn_sequence_count(s->seq);
    return s->max_tokens ? PN_MIN(context, s->max_tokens - PN_MIN(s->max_tokens, s->output_tokens)) : context;
}

static const pn_phrase *behind(const ponder_session *s) { return has_tools(s) ? &s->think.role : &s->think.behind; }

static pn_think_cost cost(const ponder_session *s)
{
    const pn_thinking *t = &s->think;
    pn_think_cost c = {.closer = (uint32_t)(t->line.n + t->closer.n), .behind = (uint32_t)behind(s)->n, .message = (uint32_t)t->note.n,
                       .left = left_of(s)};
    if (t->limits.turn_us) c.turn_us = since(t, t->turn);
    if (t->limits.turn_us || t->limits.think_us >= 0) c.step_us = pn_engine_measured(s->model->engine).decode_us;
    return c;
}

static bool may_open(const ponder_session *s)
{
    if (s->think.t.over) return false;
    if (!s->think.on) return true;
    const pn_think_cost c = cost(s);
    return pn_think_may_open(&s->think.limits, &s->think.t, &c);
}

bool pn_session_renders_no_thought(const ponder_session *s)
{
    const pn_think_limits *l = &s->think.limits;
    const int64_t least = (int64_t)(s->think.line.n + s->think.closer.n) + 1;
    return l->think_us == 0 || (l->tokens >= 0 && l->tokens < least);
}

/* The text of a token, "" of a control token. */
static pn_str text_of(const ponder_session *s, int32_t token)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    size_t n;
    if (!t || pn_tokenizer_is_control(t, token)) return (pn_str){"", 0};
    const char *p = pn_tokenizer_bytes(t, token, &n);
    return (pn_str){p, n};
}

/* The model's end tokens, and the template's, which not every file names among them. */
static bool is_end(const ponder_session *s, int32_t token)
{
    const pn_core *c = s->model->core;
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] == token) return true;
    return token == s->think.end_id;
}

static bool is_marker(const ponder_session *s, int32_t token)
{
    for (uint32_t i = 0; i < s->n_markers; i++)
        if (s->marker[i] == token) return true;
    return false;
}

static void count(ponder_session *s, int32_t token, pn_place before, pn_place after, bool counts)
{
    pn_thought *t = &s->think.t;
    const bool was = before.channel == PN_CHANNEL_THOUGHT, is = after.channel == PN_CHANNEL_THOUGHT;
    const pn_str text = text_of(s, token);
    const bool anew = pn_session_is_muse(s) && was && is && after.since == 0 && before.since > 0; /* " to=self<|message|>" in a thought */
    pn_thought_token(t, was && counts, is, anew, text.p, text.n);
    const bool said = (after.channel == PN_CHANNEL_ANSWER && after.since > 0) || after.channel == PN_CHANNEL_CALL || after.channel == PN_CHANNEL_ARGUMENT;
    if (said) t->owed = false;
}

/* What may follow changes with every token. */
static void look_ahead(ponder_session *s, pn_place at)
{
    pn_thinking *t = &s->think;
    if (!t->on && !t->t.over) return;
    if (pn_session_is_muse(s) && at.channel == PN_CHANNEL_HEADER && at.since == 0) t->quiet = !may_open(s);
    if (!pn_session_is_muse(s)) pn_parser_forbid_thoughts(s->parser, !t->t.open && !may_open(s));
}

void pn_session_recount_thought(ponder_session *s)
{
    pn_thinking *t = &s->think;
    const pn_thought kept = t->t;
    pn_thought_begin(&t->t);
    const uint32_t n = pn_sequence_count(s->seq);
    const bool new_turn = n != t->said_to || n <= t->said_at || s->ended;
    t->quiet = t->resync = false;
    t->strays = 0;
    if (new_turn) {
        t->said_at = t->said_to = n;
        return;
    }
    t->t.used_us = kept.used_us; /* spent is spent, also where the tokens were taken back */
    t->t.block_us = kept.block_us;
    t->t.injected = kept.injected;
    t->t.probes = kept.probes;
    t->t.probe_tokens = kept.probe_tokens;
    t->t.over = kept.over && n >= kept.over_at;
    t->t.over_at = kept.over_at;
    t->t.escaped = t->t.over && kept.escaped;
    t->t.why = t->t.over ? kept.why : PONDER_THOUGHT_NONE;
}

void pn_session_counted(ponder_session *s, int32_t token, uint32_t at, pn_place before)
{
    pn_thinking *t = &s->think;
    const pn_place after = pn_parser_place(s->parser);
    const bool over = t->t.over;
    const int32_t why = t->t.why;
    if (at < t->said_at) {
        /* The prompt's: it may leave a thought open, but none of it counts. */
        if (at + 1 == t->said_at && after.channel == PN_CHANNEL_THOUGHT) pn_thought_token(&t->t, false, true, true, "", 0);
        return;
    }
    count(s, token, before, after, true);
    if (over) t->t.why = why;
}

ponder_status pn_session_prepare_thinking(ponder_session *s, uint32_t prompt)
{
    pn_thinking *t = &s->think;
    if (!s->parser) return PONDER_OK;
    const pn_place at = pn_parser_place(s->parser);
    if (pn_parser_kind_of(s->template) == PN_PARSER_LLAMA3_1 && *t->open && has_tools(s))
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "think_open: this template's calls cannot be told from thoughts");
    t->strays = pn_parser_strays(s->parser);
    if (at.channel == PN_CHANNEL_THOUGHT && !t->t.open) pn_thought_token(&t->t, false, true, true, "", 0);
    if (!t->on) return PONDER_OK;
    const pn_think_limits *l = &t->limits;
    const uint32_t closer = (uint32_t)(t->line.n + t->closer.n);
    if (t->t.open && t->t.used == 0 && l->tokens >= 0 && l->tokens < closer)
        return pn_fail(&s->err, PONDER_E_RANGE, "think_tokens: the prompt has opened a thought, and closing it takes %u tokens", closer);
    const pn_engine_speed v = pn_engine_measured(s->model->engine);
    const uint64_t need = (prompt * v.prefill_ns + (l->answer + 1) * v.decode_us * 1000) / 1000;
    if (l->turn_us && v.prefill_ns && v.decode_us && need > l->turn_us)
        return pn_fail(&s->err, PONDER_E_RANGE, "turn_ms: %llu ms; the prompt's %u tokens and the answer's reserve are estimated to take %llu ms",
                       (unsigned long long)(l->turn_us / 1000), prompt, (unsigned long long)(need + 999) / 1000);
    if (l->exit != PN_EXIT_NONE) s->think.probing = false;
    look_ahead(s, at);
    t->quiet = pn_session_is_muse(s) && at.channel == PN_CHANNEL_HEADER && !may_open(s);
    return PONDER_OK;
}

void pn_session_took(ponder_session *s, int32_t token, pn_place before, bool ours)
{
    pn_thinking *t = &s->think;
    t->said_to = pn_sequence_count(s->seq);
    t->t.injected += ours;
    count_time(t);
    if (!s->parser) return;
    const pn_place after = pn_parser_place(s->parser);
    count(s, token, before, after, true);
    const bool closed = before.channel == PN_CHANNEL_THOUGHT && after.channel != PN_CHANNEL_THOUGHT;
    if (closed && t->t.closing) {
        t->t.over = t->t.over || t->t.closing == PONDER_THOUGHT_CALLER || (!t->limits.block && t->t.closing != PONDER_THOUGHT_NATURAL);
        t->t.over_at = t->said_to;
        t->t.closing = 0;
    }
    if (ours) t->resync = true;
    const uint64_t strays = pn_parser_strays(s->parser);
    if (strays > t->strays && t->t.over) t->t.escaped = true;
    t->strays = strays;
    look_ahead(s, after);
}

/* ---- of a remote model: pieces as they come, instead of tokens -------------------------------------------------------- */

int64_t pn_session_distant_cap(const ponder_session *s)
{
    const pn_think_limits *l = &s->think.limits;
    if (!l->answer || !s->max_tokens) return l->tokens;
    const int64_t rest = (int64_t)PN_MIN(s->max_tokens - PN_MIN(s->max_tokens, l->answer), (uint64_t)INT64_MAX);
    return l->tokens < 0 ? rest : PN_MIN(l->tokens, rest);
}

void pn_session_distant_piece(ponder_session *s, bool thought, uint32_t tokens)
{
    pn_thought *t = &s->think.t;
    count_time(&s->think);
    if (thought && !t->open) {
        t->blocks++;
        t->block = t->block_us = 0;
    }
    const int64_t cap = pn_session_distant_cap(s);
    const bool full = cap >= 0 && (s->think.limits.block ? t->block : t->used) >= (uint64_t)cap; /* the server has cut it, then */
    if (!thought && t->open) t->why = full ? PONDER_THOUGHT_CAP : PONDER_THOUGHT_NATURAL;
    t->open = thought;
    if (!thought) return;
    t->used += tokens;
    t->block += tokens;
}

int32_t pn_session_distant_over(ponder_session *s, uint32_t tokens)
{
    pn_thinking *t = &s->think;
    const pn_think_limits *l = &t->limits;
    const int64_t cap = pn_session_distant_cap(s);
    count_time(t);
    if (atomic_exchange(&t->close_now, false)) return PONDER_THOUGHT_CALLER;
    if (cap >= 0 && (l->block ? t->t.block : t->t.used) + tokens > (uint64_t)cap) return PONDER_THOUGHT_CAP;
    if (l->think_us >= 0 && (l->block ? t->t.block_us : t->t.used_us) >= (uint64_t)l->think_us) return PONDER_THOUGHT_TIME;
    return 0;
}

uint64_t pn_session_distant_until(const ponder_session *s, uint64_t until)
{
    const pn_thinking *t = &s->think;
    if (t->limits.think_us < 0 || !t->t.open) return until;
    const uint64_t gone = t->limits.block ? t->t.block_us : t->t.used_us, most = (uint64_t)t->limits.think_us;
    const uint64_t end = pn_now_us() + (most > gone ? most - gone : 0);
    return until ? PN_MIN(until, end) : end;
}

void pn_session_distant_closed(ponder_session *s, int32_t why)
{
    pn_thought *t = &s->think.t;
    t->escaped = t->escaped || t->over;
    t->over = t->over || !s->think.limits.block || why == PONDER_THOUGHT_CALLER;
    t->open = false;
    t->why = why;
}

void pn_session_read_thought(const ponder_session *s, ponder_thought *out)
{
    const pn_thought *t = &s->think.t;
    *out = (ponder_thought){.size = sizeof *out, .why = t->open ? PONDER_THOUGHT_OPEN : t->why, .escaped = t->escaped, .tokens = t->used,
                            .us = t->used_us, .blocks = t->blocks, .injected = t->injected, .probes = t->probes, .probe_tokens = t->probe_tokens};
}

/* ---- writing -------------------------------------------------------------------------------------------------------- */

bool pn_session_queued(ponder_session *s, int32_t *token)
{
    pn_thinking *t = &s->think;
    if (t->queued == t->n_queue) return false;
    *token = t->queue[t->queued++];
    return true;
}

static void put(pn_thinking *t, const int32_t *ids, size_t n)
{
    if (t->queued == t->n_queue) t->queued = t->n_queue = 0;
    if (n) memcpy(t->queue + t->n_queue, ids, n * sizeof *ids);
    t->n_queue += (uint32_t)n;
}

/* Tokens of the closing marker that stand there already: a turn may have been cut in the middle of it. */
static size_t closer_begun(const ponder_session *s)
{
    const pn_phrase *c = &s->think.closer;
    const uint32_t n = pn_sequence_count(s->seq);
    const int32_t *ids = pn_sequence_ids(s->seq);
    for (size_t k = PN_MIN(c->n - 1, (size_t)s->think.t.block); k > 0; k--)
        if (memcmp(ids + n - k, c->ids, k * sizeof *ids) == 0) return k;
    return 0;
}

static void close_thought(ponder_session *s, int32_t why, const pn_think_room *room)
{
    pn_thinking *t = &s->think;
    const bool cut = why == PONDER_THOUGHT_CAP || why == PONDER_THOUGHT_TIME || why == PONDER_THOUGHT_CALLER;
    const size_t begun = closer_begun(s);
    t->t.closing = why;
    if (cut && room->message && !begun) put(t, t->note.ids, t->note.n);
    if (!begun && (pn_parser_undecided(s->parser) || (cut && room->message))) put(t, t->line.ids, t->line.n);
    put(t, t->closer.ids + begun, t->closer.n - begun);
    put(t, behind(s)->ids, behind(s)->n);
}

ponder_status pn_session_before_step(ponder_session *s)
{
    pn_thinking *t = &s->think;
    if (!s->parser || !t->closer.n || t->queued < t->n_queue) return PONDER_OK; /* what is begun is written first */
    if (atomic_exchange(&t->close_now, false)) {
        t->t.over = true;
        t->t.over_at = pn_sequence_count(s->seq);
        look_ahead(s, pn_parser_place(s->parser));
    }
    if (!t->t.open || (!t->on && !t->t.over)) return PONDER_OK;
    count_time(t);
    const pn_think_cost c = cost(s);
    const pn_think_room r = pn_think_room_of(&t->limits, &t->t, &c, false);
    if (t->t.over) close_thought(s, PONDER_THOUGHT_CALLER, &r);
    else if (r.until_cut <= 0) close_thought(s, r.by_time ? PONDER_THOUGHT_TIME : PONDER_THOUGHT_CAP, &r);
    return PONDER_OK;
}

/* The turn has just begun: nothing of it is the model's yet. */
static bool at_beginning(const ponder_session *s)
{
    return pn_sequence_count(s->seq) == s->think.said_at && pn_parser_place(s->parser).since == 0;
}

static float bias_of(const ponder_session *s, int32_t token)
{
    for (uint32_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token == token) return s->bias[i].bias;
    return 0;
}

static ponder_status begin_probe(ponder_session *s, bool *began);

ponder_status pn_session_before_sample(ponder_session *s)
{
    pn_thinking *t = &s->think;
    if (!s->parser || !t->closer.n || !(t->on || t->start || t->t.over)) return PONDER_OK;
    if (!t->t.open) {
        if (!at_beginning(s)) return PONDER_OK;
        const bool header = pn_parser_channel(s->parser) == PN_CHANNEL_HEADER || !pn_session_is_muse(s);
        if (t->start && header && may_open(s)) put(t, t->opener.ids, t->opener.n);
        else if (t->quiet && pn_session_is_muse(s) && !has_tools(s)) put(t, t->to_user.ids, t->to_user.n);
        return PONDER_OK;
    }
    const pn_think_cost c = cost(s);
    const pn_think_room r = pn_think_room_of(&t->limits, &t->t, &c, false);
    if (pn_think_in_soft(&t->limits, &t->t, &r)) {
        const int32_t id = t->closer.ids[0];
        if (pn_think_rank(pn_sequence_logits(s->seq), s->sampler.vocab, id, bias_of(s, id)) < t->limits.rank) {
            close_thought(s, PONDER_THOUGHT_SOFT, &r);
            return PONDER_OK;
        }
    }
    bool began;
    return begin_probe(s, &began);
}

/* ---- what may be sampled ----------------------------------------------------------------------------------------------- */

static uint32_t add_id(int32_t *list, uint32_t n, int32_t id)
{
    if (id >= 0 && n < MOST_FORBIDDEN) list[n++] = id;
    return n;
}

static uint32_t forbidden(const ponder_session *s, int32_t list[MOST_FORBIDDEN])
{
    const pn_thinking *t = &s->think;
    const pn_place at = pn_parser_place(s->parser);
    const bool header = at.channel == PN_CHANNEL_HEADER, bare = at.channel == PN_CHANNEL_ANSWER && at.since == 0;
    uint32_t n = 0;
    if (at.channel == PN_CHANNEL_THOUGHT) return 0;
    if (!may_open(s) && !(header && pn_session_is_muse(s))) n = add_id(list, n, pn_session_is_muse(s) ? pn_session_special(s, "<|message|>") : t->opener_id);
    if (!t->t.owed || !(header || bare || at.channel == PN_CHANNEL_COMMENTARY)) return n;
    for (uint32_t i = 0; i < s->model->core->n_ends; i++) n = add_id(list, n, s->model->core->ends[i]);
    if (bare) n = add_id(list, n, pn_session_is_muse(s) ? pn_session_special(s, "<|eom|>") : pn_session_special(s, "<|im_start|>"));
    if (bare && pn_session_is_muse(s)) n = add_id(list, n, pn_session_special(s, "<|start|>"));
    return n;
}

static ponder_status own_mask(ponder_session *s, const uint32_t **mask)
{
    const size_t words = (s->sampler.vocab + 31) / 32;
    if (!s->mask && !(s->mask = pn_zalloc_array(s->a, words, sizeof *s->mask))) return pn_nomem(&s->err, words * sizeof *s->mask);
    if (!*mask) memset(s->mask, 0xff, words * sizeof *s->mask);
    *mask = s->mask;
    return PONDER_OK;
}

ponder_status pn_session_allowed(ponder_session *s, const uint32_t **mask)
{
    int32_t list[MOST_FORBIDDEN];
    ponder_status st = pn_session_mask(s, mask);
    if (st != PONDER_OK || !s->parser || !(s->think.on || s->think.t.over)) return st;
    const uint32_t n = forbidden(s, list);
    if (n == 0) return PONDER_OK;
    if ((st = own_mask(s, mask)) != PONDER_OK) return st;
    for (uint32_t i = 0; i < n; i++)
        if ((uint32_t)list[i] < s->sampler.vocab) s->mask[list[i] / 32] &= ~(UINT32_C(1) << list[i] % 32);
    return PONDER_OK;
}

static int32_t pick(ponder_session *s, const uint32_t *mask)
{
    const uint32_t n = pn_sequence_count(s->seq);
    return pn_sampler_pick(&s->sampler, &s->sampling, pn_sequence_logits(s->seq), pn_sequence_ids(s->seq), n, s->bias, s->n_bias, mask, n);
}

/* A token that ends more than the thought: the turn, or (but for Muse, whose messages begin so) what one is to begin with. */
static bool ends_turn(const ponder_session *s, int32_t token)
{
    if (is_end(s, token)) return true;
    if (pn_session_is_muse(s) || !is_marker(s, token) || token == s->think.closer_id || token == s->think.opener_id) return false;
    size_t n;
    const char *name = pn_tokenizer_bytes(s->model->core->tokenizer, token, &n);
    return !memmem(name, n, "tool_call", 9);
}

/* A token that would end the thought. */
static bool would_close(const ponder_session *s, int32_t token)
{
    if (is_marker(s, token) || is_end(s, token)) return true;
    const pn_str text = text_of(s, token);
    return s->think.closer_id < 0 && pn_parser_would_close(s->parser, text.p, text.n);
}

/* In the place of a close that comes too soon: words of the host's, or the next best token. */
static ponder_status hold_back(ponder_session *s, int32_t *token, const uint32_t *mask, const pn_think_room *room)
{
    pn_thinking *t = &s->think;
    const pn_phrase *w = t->more.n ? &t->words[pn_think_choice(s->sampling.seed, pn_sequence_count(s->seq), t->more.n)] : NULL;
    if (w && w->n && (int64_t)w->n <= room->tokens) {
        put(t, w->ids, w->n);
        *token = -1;
        return PONDER_OK;
    }
    ponder_status st = own_mask(s, &mask);
    for (uint32_t i = 0; i < s->n_markers && st == PONDER_OK; i++) s->mask[s->marker[i] / 32] &= ~(UINT32_C(1) << s->marker[i] % 32);
    for (uint32_t i = 0; i < s->model->core->n_ends && st == PONDER_OK; i++) {
        const uint32_t id = (uint32_t)s->model->core->ends[i];
        if (id < s->sampler.vocab) s->mask[id / 32] &= ~(UINT32_C(1) << id % 32);
    }
    for (int i = 0; i < MOST_TRIES && st == PONDER_OK && would_close(s, *token); i++) {
        s->mask[*token / 32] &= ~(UINT32_C(1) << *token % 32);
        *token = pick(s, mask);
    }
    return st;
}

/* Whether the thought would end in a part of a character that the room does not allow to be finished. */
static bool breaks_character(const pn_thinking *t, pn_str text, const pn_think_room *room)
{
    char tail[8];
    const size_t more = PN_MIN(text.n, (size_t)4), old = PN_MIN((size_t)t->t.n_tail, (size_t)4);
    memcpy(tail, t->t.tail + t->t.n_tail - old, old);
    if (more) memcpy(tail + old, text.p + text.n - more, more);
    const uint32_t lacks = pn_think_unfinished(tail, old + more);
    return lacks > 0 && room->until_cut != INT64_MAX && (int64_t)lacks > room->until_cut - 1;
}

static void note_escape(ponder_session *s, int32_t token)
{
    const pn_thinking *t = &s->think;
    const int32_t id = pn_session_is_muse(s) ? pn_session_special(s, "<|message|>") : t->opener_id;
    if (!t->t.over || id < 0 || t->t.escaped || pn_parser_channel(s->parser) != PN_CHANNEL_ANSWER) return;
    const float *x = pn_sequence_logits(s->seq);
    s->think.t.escaped = x[id] > x[token];
}

ponder_status pn_session_judge(ponder_session *s, int32_t *token, const uint32_t *mask)
{
    pn_thinking *t = &s->think;
    if (!s->parser || !t->closer.n || !(t->on || t->t.over)) return PONDER_OK;
    if (!t->t.open) {
        note_escape(s, *token);
        return PONDER_OK;
    }
    const pn_think_cost c = cost(s);
    const pn_think_room r = pn_think_room_of(&t->limits, &t->t, &c, false);
    const bool closes = would_close(s, *token);
    if (closes && pn_think_held_back(&t->limits, &t->t)) return hold_back(s, token, mask, &r);
    const pn_str text = text_of(s, *token);
    int32_t why = 0;
    if (ends_turn(s, *token)) why = PONDER_THOUGHT_NATURAL;
    else if (closes) return PONDER_OK;
    else if (pn_think_in_grace(&t->limits, &t->t, &r) && pn_think_boundary(t->t.tail, t->t.n_tail, text.p, text.n)) why = PONDER_THOUGHT_SOFT;
    else if (breaks_character(t, text, &r)) why = r.by_time ? PONDER_THOUGHT_TIME : PONDER_THOUGHT_CAP;
    if (!why) return PONDER_OK;
    close_thought(s, why, &r);
    *token = -1;
    return PONDER_OK;
}

/* ---- probes ------------------------------------------------------------------------------------------------------------- */

/* The close and the answer's beginning are appended as a try. */
static ponder_status begin_probe(ponder_session *s, bool *began)
{
    pn_thinking *t = &s->think;
    const uint32_t n = (uint32_t)(t->closer.n + t->behind.n), most = n + (t->limits.exit == PN_EXIT_ANSWER ? MOST_TRIAL - 1 : 0);
    *began = pn_think_probe_due(&t->limits, &t->t, most) && most <= pn_engine_try_most(s->model->engine) &&
             most <= pn_sequence_limit(s->seq) - pn_sequence_count(s->seq);
    if (!*began) return PONDER_OK;
    ponder_status st = pn_sequence_hold(s->seq, &s->err);
    if (st != PONDER_OK) return st;
    t->probing = true;
    t->trial = 0;
    t->trial_sum = 0;
    st = pn_sequence_append(s->seq, t->closer.ids, t->closer.n, &s->err);
    return st == PONDER_OK ? pn_sequence_append(s->seq, t->behind.ids, t->behind.n, &s->err) : st;
}

void pn_session_end_probe(ponder_session *s)
{
    if (!s->think.probing) return;
    pn_sequence_return(s->seq);
    s->think.probing = false;
}

static int32_t best(const float *x, uint32_t n)
{
    uint32_t b = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[b]) b = i;
    return (int32_t)b;
}

/* The trial answer's next token; *done: it has ended. */
static ponder_status try_answer(ponder_session *s, bool *done)
{
    pn_thinking *t = &s->think;
    const float *x = pn_sequence_logits(s->seq);
    const int32_t id = best(x, s->sampler.vocab);
    t->trial_sum += (double)pn_sampler_logprob(&s->sampler, x, id);
    *done = ++t->trial == MOST_TRIAL || is_end(s, id) || is_marker(s, id);
    return *done ? PONDER_OK : pn_sequence_append(s->seq, &id, 1, &s->err);
}

ponder_status pn_session_probe(ponder_session *s, uint64_t until)
{
    pn_thinking *t = &s->think;
    bool done = true;
    ponder_status st = pn_sequence_advance(s->seq, until, &s->err);
    if (st != PONDER_OK) return st;
    double said = 0;
    if (t->limits.exit == PN_EXIT_ANSWER) st = try_answer(s, &done);
    else said = pn_sampler_entropy(&s->sampler, pn_sequence_logits(s->seq));
    if (st != PONDER_OK || !done) return st;
    if (t->limits.exit == PN_EXIT_ANSWER) said = t->trial_sum / t->trial;
    const uint32_t computed = pn_sequence_count(s->seq) - pn_sequence_held(s->seq);
    pn_session_end_probe(s);
    if (!pn_think_probed(&t->limits, &t->t, said, computed)) return PONDER_OK;
    const pn_think_room none = {0};
    close_thought(s, PONDER_THOUGHT_CONFIDENT, &none);
    return PONDER_OK;
}
