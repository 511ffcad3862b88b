/* A schema, a pattern or the tools' schemas bind what the model may write: the answer and the arguments of calls, never a
 * thought. One mask a token, from the matcher of the text that is being written. */
#include "session/session.h"

/* ---- the vocabulary as a trie, built when a model's first session needs it ---------------------------- */

static const char *token_bytes(void *user, uint32_t id, size_t *n)
{
    const pn_tokenizer *t = user;
    *n = 0;
    if (id >= pn_tokenizer_size(t) || pn_tokenizer_is_special(t, (int32_t)id)) return NULL;
    return pn_tokenizer_bytes(t, (int32_t)id, n);
}

static ponder_status vocab_trie(ponder_session *s, pn_vocab_trie **out)
{
    pn_core *c = s->model->core;
    ponder_status st = PONDER_OK;
    pthread_mutex_lock(&c->mutex);
    if (!c->trie) st = pn_vocab_trie_new(&c->trie, c->network->d.vocab, token_bytes, c->tokenizer, &c->meter.alloc, &s->err);
    *out = c->trie;
    pthread_mutex_unlock(&c->mutex);
    return st;
}

/* ---- settings ------------------------------------------------------------------------------------------- */

void pn_session_forget_binding(ponder_session *s)
{
    pn_matcher_free(s->answer);
    pn_matcher_free(s->call);
    pn_matcher_free(s->header);
    pn_matcher_free(s->quiet_header);
    pn_grammar_free(s->grammar);
    s->answer = s->call = s->header = s->quiet_header = s->active = NULL;
    s->grammar = NULL;
}

ponder_status pn_session_set_binding(ponder_session *s, const char *schema, const char *regex)
{
    pn_grammar *g = NULL;
    ponder_status st = PONDER_OK;
    if (s->distant && !(*schema && *regex)) return pn_distant_bind(s, schema, regex);
    if (*schema && *regex) return pn_fail(&s->err, PONDER_E_ARGUMENT, "schema and regex cannot both bind the answer");
    if ((*schema || *regex) && !s->model->core->tokenizer) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model has no tokenizer: nothing can be bound");
    if (*schema) st = pn_grammar_schema(&g, schema, strlen(schema), 0, s->a, &s->err);
    else if (*regex) st = pn_grammar_regex(&g, regex, strlen(regex), s->a, &s->err);
    if (st != PONDER_OK) return st;
    pn_session_forget_binding(s);
    s->grammar = g;
    return PONDER_OK;
}

static ponder_status matcher_of(ponder_session *s, pn_grammar *g, pn_matcher **out)
{
    pn_vocab_trie *t;
    ponder_status st = vocab_trie(s, &t);
    return st == PONDER_OK ? pn_matcher_new(out, g, t, 0, PN_MATCHER_CACHE, s->a, &s->err) : st;
}

static ponder_status call_grammar(ponder_session *s, pn_grammar **out)
{
    const size_t n = pn_tools_count(s->tools);
    pn_tool_schema *t = pn_zalloc_array(s->a, n, sizeof *t);
    if (!t) return pn_nomem(&s->err, n * sizeof *t);
    for (size_t i = 0; i < n; i++) t[i] = (pn_tool_schema){pn_tools_name(s->tools, i), pn_tools_parameters(s->tools, i)};
    ponder_status st;
    if (pn_session_is_muse(s)) {
        st = pn_grammar_call_muse(out, t, n, 0, s->a, &s->err);
    } else {
        const pn_piece pieces[] = {{.kind = PN_PIECE_LITERAL, .text = pn_str_of("\n")}, {.kind = PN_PIECE_CALL_JSON, .tools = t, .n_tools = n},
                                   {.kind = PN_PIECE_LITERAL, .text = pn_str_of("\n")}};
        st = pn_grammar_pieces(out, pieces, PN_COUNT(pieces), s->a, &s->err);
    }
    pn_free(s->a, t, n * sizeof *t);
    return st;
}

/* What may stand between <|start|> (or the prompt) and <|message|>: a recipient there is, the model itself only if it may think. */
static ponder_status header_of(ponder_session *s, bool quiet, pn_grammar **out)
{
    pn_buf b;
    pn_buf_init(&b, s->a);
    pn_buf_puts(&b, quiet ? "(assistant)? to=(user|commentary" : "(assistant)? to=(self|user|commentary");
    for (size_t i = 0; s->tools && i < pn_tools_count(s->tools); i++) {
        const pn_str name = pn_tools_name(s->tools, i);
        pn_buf_puts(&b, "|");
        for (size_t k = 0; k < name.n; k++) pn_buf_printf(&b, "\\x%02x", (unsigned)(uint8_t)name.p[k]);
    }
    pn_buf_puts(&b, ")");
    ponder_status st = b.failed ? pn_nomem(&s->err, b.n) : pn_grammar_regex(out, b.p, b.n, s->a, &s->err);
    pn_buf_free(&b);
    return st;
}

static ponder_status header_grammar(ponder_session *s, pn_grammar **out) { return header_of(s, false, out); }
static ponder_status quiet_grammar(ponder_session *s, pn_grammar **out) { return header_of(s, true, out); }

static ponder_status matcher_from(ponder_session *s, ponder_status (*make)(ponder_session *, pn_grammar **), pn_matcher **out)
{
    pn_grammar *g;
    ponder_status st = make(s, &g);
    if (st != PONDER_OK) return st;
    st = matcher_of(s, g, out);
    pn_grammar_free(g);
    return st;
}

/* Before a turn: the matchers that it may need. */
ponder_status pn_session_prepare_binding(ponder_session *s)
{
    ponder_status st = PONDER_OK;
    const uint32_t words = (s->sampler.vocab + 31) / 32;
    bool calls = s->strict_tools && s->tools && pn_tools_count(s->tools) && s->parser && pn_parser_kind_of(s->template) != PN_PARSER_LLAMA3_1;
    if (!s->grammar && !calls) return PONDER_OK;
    if (!s->mask && !(s->mask = pn_zalloc_array(s->a, words, sizeof *s->mask))) return pn_nomem(&s->err, words * sizeof *s->mask);
    if (s->grammar && !s->answer) st = matcher_of(s, s->grammar, &s->answer);
    if (st == PONDER_OK && calls && !s->call) st = matcher_from(s, call_grammar, &s->call);
    bool headers = s->grammar && s->parser && pn_session_is_muse(s);
    if (st == PONDER_OK && headers && !s->header) st = matcher_from(s, header_grammar, &s->header);
    /* A turn that goes on in the middle of a bound text: what is written already counts. */
    s->active = NULL;
    return st == PONDER_OK && s->parser ? pn_session_resume_binding(s) : st;
}

/* ---- one token --------------------------------------------------------------------------------------------- */

static void allow(uint32_t *mask, int32_t id) { mask[id / 32] |= UINT32_C(1) << (id % 32); }
static void forbid(uint32_t *mask, int32_t id) { mask[id / 32] &= ~(UINT32_C(1) << (id % 32)); }

/* Everything but the end of the turn: an answer is still owed. */
static void all_but_ends(ponder_session *s)
{
    const pn_core *c = s->model->core;
    memset(s->mask, 0xff, (s->sampler.vocab + 31) / 32 * sizeof *s->mask);
    for (uint32_t i = 0; i < c->n_ends; i++)
        if ((uint32_t)c->ends[i] < s->sampler.vocab) forbid(s->mask, c->ends[i]);
}

/* A token of this name, if the vocabulary has one. */
static void allow_named(ponder_session *s, const char *name)
{
    int32_t id = pn_tokenizer_find(s->model->core->tokenizer, name, strlen(name));
    if (id >= 0) allow(s->mask, id);
}

static bool last_is(const ponder_session *s, const char *name)
{
    const uint32_t n = pn_sequence_count(s->seq);
    return n > 0 && pn_sequence_ids(s->seq)[n - 1] == pn_tokenizer_find(s->model->core->tokenizer, name, strlen(name));
}

static ponder_status resume_header(ponder_session *s, pn_matcher *m);

static void allow_turn_ends(ponder_session *s)
{
    const pn_core *c = s->model->core;
    for (uint32_t i = 0; i < c->n_ends; i++)
        if ((uint32_t)c->ends[i] < s->sampler.vocab) allow(s->mask, c->ends[i]);
}

/* A header while an answer is owed, or no thought may open: a message begins, is addressed to somebody there is, and has its
 * body. */
static ponder_status mask_header(ponder_session *s, pn_matcher *m)
{
    ponder_status st = PONDER_OK;
    if (last_is(s, "<|eom|>")) {
        memset(s->mask, 0, (s->sampler.vocab + 31) / 32 * sizeof *s->mask);
        allow_named(s, "<|start|>");
        if (!s->answer && !s->think.t.owed) allow_turn_ends(s);
        return PONDER_OK;
    }
    if (s->think.resync) st = resume_header(s, m);
    else if (last_is(s, "<|start|>") || (s->open_turn && pn_sequence_count(s->seq) == s->turn_at)) pn_matcher_reset(m);
    s->think.resync = false;
    if (st == PONDER_OK) st = pn_matcher_mask(m, s->mask, &s->err);
    if (st == PONDER_OK && pn_matcher_can_end(m)) allow_named(s, "<|message|>");
    return st;
}

static bool is_header(const ponder_session *s, const pn_matcher *m) { return m && (m == s->header || m == s->quiet_header); }

static void allow_ends(ponder_session *s, bool call)
{
    const pn_core *c = s->model->core;
    static const char *const closers[] = {[PN_PARSER_MUSE] = "<|eom|>", [PN_PARSER_THINK] = "</tool_call>"};
    pn_parser_kind kind = pn_parser_kind_of(s->template);
    const char *close = kind < PN_COUNT(closers) ? closers[kind] : NULL;
    int32_t id = call && close ? pn_tokenizer_find(c->tokenizer, close, strlen(close)) : -1;
    if (id >= 0) allow(s->mask, id);
    if (call && kind == PN_PARSER_THINK && id >= 0) return; /* the call's own closer, then whatever follows */
    allow_turn_ends(s);
}

/* The matcher that the next token is to satisfy, NULL: none. *owed: the turn must not end here. */
static pn_matcher *choose(ponder_session *s, bool *owed, bool *may_think)
{
    const pn_place at = s->parser ? pn_parser_place(s->parser) : (pn_place){.channel = PN_CHANNEL_ANSWER, .since = s->output_tokens};
    const bool think_model = s->parser && pn_parser_kind_of(s->template) == PN_PARSER_THINK;
    pn_matcher *m = NULL;
    *owed = *may_think = false;
    switch (at.channel) {
    case PN_CHANNEL_ANSWER:
        m = s->answer;
        *may_think = think_model && at.since == 0;
        break;
    case PN_CHANNEL_HEADER:
        *may_think = think_model;
        /* A think model: what is no marker begins the answer. */
        m = think_model ? s->answer : s->think.quiet ? s->quiet_header : s->answer ? s->header : NULL;
        *owed = s->answer && !m;
        break;
    case PN_CHANNEL_THOUGHT: case PN_CHANNEL_COMMENTARY: *owed = s->answer != NULL; break;
    case PN_CHANNEL_CALL: case PN_CHANNEL_ARGUMENT: m = s->call; break;
    default: break;
    }
    if (m && !is_header(s, m) && at.since == 0 && s->active != m) pn_matcher_reset(m);
    return m;
}

/* Made when it is first needed: most turns never come to a header that must not open a thought. */
static ponder_status need_quiet_header(ponder_session *s)
{
    const uint32_t words = (s->sampler.vocab + 31) / 32;
    if (!s->think.quiet || (s->parser && pn_parser_channel(s->parser) != PN_CHANNEL_HEADER)) return PONDER_OK;
    if (!s->mask && !(s->mask = pn_zalloc_array(s->a, words, sizeof *s->mask))) return pn_nomem(&s->err, words * sizeof *s->mask);
    if (s->quiet_header) return PONDER_OK;
    s->think.resync = true;
    return matcher_from(s, quiet_grammar, &s->quiet_header);
}

/* Before a bound answer of a think model: in the role's line every marker, then the one that opens a thought. */
static void allow_thought(ponder_session *s)
{
    const bool header = pn_parser_channel(s->parser) == PN_CHANNEL_HEADER;
    for (uint32_t i = 0; i < s->n_markers; i++)
        if (header || s->marker[i] == s->think.opener_id) allow(s->mask, s->marker[i]);
}

ponder_status pn_session_mask(ponder_session *s, const uint32_t **mask)
{
    bool owed, may_think;
    *mask = NULL;
    if (!s->answer && !s->call && !s->think.quiet) return PONDER_OK;
    ponder_status st = need_quiet_header(s);
    if (st != PONDER_OK) return st;
    s->active = choose(s, &owed, &may_think);
    if (!s->active && !owed) return PONDER_OK;
    *mask = s->mask;
    if (!s->active) {
        all_but_ends(s);
        return PONDER_OK;
    }
    if (is_header(s, s->active)) return mask_header(s, s->active);
    st = pn_matcher_mask(s->active, s->mask, &s->err);
    if (st != PONDER_OK) return st;
    if (pn_matcher_can_end(s->active)) allow_ends(s, s->active == s->call);
    if (may_think) allow_thought(s);
    return PONDER_OK;
}

static bool is_control(const ponder_session *s, int32_t token)
{
    for (uint32_t i = 0; i < s->n_markers; i++)
        if (s->marker[i] == token) return true;
    return pn_tokenizer_is_control(s->model->core->tokenizer, token);
}

ponder_status pn_session_bound(ponder_session *s, int32_t token)
{
    if (!s->active) return PONDER_OK;
    if (is_control(s, token)) {
        s->active = NULL;
        return PONDER_OK;
    }
    return pn_matcher_accept(s->active, token, &s->err);
}

/* In the middle of a header: from behind <|start|>, or from where the turn began. */
static ponder_status resume_header(ponder_session *s, pn_matcher *m)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    const int32_t *ids = pn_sequence_ids(s->seq), start = pn_tokenizer_find(t, "<|start|>", 9);
    const uint32_t n = pn_sequence_count(s->seq);
    uint32_t from = n;
    while (from > (s->open_turn ? s->turn_at : 0) && ids[from - 1] != start) from--;
    ponder_status st = PONDER_OK;
    pn_matcher_reset(m);
    for (; from < n && st == PONDER_OK && !pn_tokenizer_is_control(t, ids[from]); from++) st = pn_matcher_accept(m, ids[from], &s->err);
    return st == PONDER_E_ARGUMENT ? pn_fail(&s->err, PONDER_E_STATE, "the header that stands there is none that a bound answer may have") : st;
}

/* Bytes of the bound text that stand before this turn: found by walking back over its tokens. */
ponder_status pn_session_resume_binding(ponder_session *s)
{
    bool owed, may_think;
    pn_matcher *m = choose(s, &owed, &may_think);
    const pn_place at = pn_parser_place(s->parser);
    if (is_header(s, m)) return resume_header(s, m);
    if (!m || at.since == 0) return PONDER_OK;
    const pn_tokenizer *t = s->model->core->tokenizer;
    const int32_t *ids = pn_sequence_ids(s->seq);
    uint32_t from = pn_sequence_count(s->seq);
    for (size_t left = at.since, n; left > 0 && from > 0; left -= PN_MIN(n, left)) pn_tokenizer_bytes(t, ids[--from], &n);
    ponder_status st = PONDER_OK;
    pn_matcher_reset(m);
    for (; from < pn_sequence_count(s->seq) && st == PONDER_OK; from++) st = pn_matcher_accept(m, ids[from], &s->err);
    s->active = m;
    if (st == PONDER_E_ARGUMENT) st = pn_fail(&s->err, PONDER_E_STATE, "the answer that stands there already breaks the schema");
    return st;
}
