/* A session: its life and settings. */
#include "session/session.h"

#include <unistd.h>

enum { LEAST_CONTEXT = 256, CONTEXT_SHARE = 4 };

/* ---- settings ----------------------------------------------------------------------------------- */

ponder_status pn_session_configure(ponder_session *s, const ponder_config *c)
{
    const char *effort = pn_config_str(c, PONDER_P_EFFORT);
    if (strlen(effort) >= sizeof s->effort) return pn_fail(&s->err, PONDER_E_RANGE, "effort: longer than %zu bytes", sizeof s->effort - 1);
    const char *draft = pn_config_str(c, PONDER_P_DRAFT);
    const bool ask = strcmp(draft, "drafter") == 0;
    if (ask && !s->distant && !s->model->core->network->drafter)
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "draft: the model was opened without a drafter");
    ponder_status st = pn_session_set_binding(s, pn_config_str(c, PONDER_P_SCHEMA), pn_config_str(c, PONDER_P_REGEX));
    if (st == PONDER_OK && s->distant) st = pn_distant_configure(s, c);
    if (st == PONDER_OK) st = pn_session_set_thinking(s, c);
    if (st != PONDER_OK) return st;
    s->sampling = (pn_sampling){
        .temperature = pn_config_f64(c, PONDER_P_TEMPERATURE), .top_p = pn_config_f64(c, PONDER_P_TOP_P),
        .min_p = pn_config_f64(c, PONDER_P_MIN_P), .repeat = pn_config_f64(c, PONDER_P_REPEAT_PENALTY),
        .presence = pn_config_f64(c, PONDER_P_PRESENCE_PENALTY), .frequency = pn_config_f64(c, PONDER_P_FREQUENCY_PENALTY),
        .top_k = (uint32_t)pn_config_i64(c, PONDER_P_TOP_K), .window = (uint32_t)pn_config_i64(c, PONDER_P_PENALTY_WINDOW),
        .seed = (uint64_t)pn_config_i64(c, PONDER_P_SEED),
    };
    s->max_tokens = (uint64_t)pn_config_i64(c, PONDER_P_MAX_TOKENS);
    s->logprobs = pn_config_i64(c, PONDER_P_LOGPROBS);
    s->ignore_eos = pn_config_i64(c, PONDER_P_IGNORE_EOS) != 0;
    s->strict_tools = pn_config_i64(c, PONDER_P_STRICT_TOOLS) != 0;
    s->look_closer = pn_config_i64(c, PONDER_P_LOOK_CLOSER) != 0;
    s->subagents = pn_config_i64(c, PONDER_P_SUBAGENTS) != 0;
    s->agent_limit = (uint32_t)pn_config_i64(c, PONDER_P_AGENT_LIMIT);
    s->agent_depth = (uint32_t)pn_config_i64(c, PONDER_P_AGENT_DEPTH);
    s->agent_tokens = (uint64_t)pn_config_i64(c, PONDER_P_AGENT_TOKENS);
    s->drafts = *draft ? (uint32_t)pn_config_i64(c, PONDER_P_DRAFT_TOKENS) : 0;
    s->ask_drafter = ask;
    memcpy(s->effort, effort, strlen(effort) + 1);
    static const pn_strings none = {.n = 0};
    return pn_strings_copy(&s->stop, c ? &c->stop : &none, s->a, &s->err);
}

static ponder_status choose_template(ponder_session *s, const ponder_config *c, ponder_error *err)
{
    const char *name = pn_config_str(c, PONDER_P_TEMPLATE);
    s->template = *name ? pn_template_by_name(name) : s->model->core->template;
    if (*name && s->template == PN_TEMPLATE_NONE) return pn_fail(err, PONDER_E_UNKNOWN, "template: no template is called \"%s\"", name);
    return PONDER_OK;
}

ponder_status pn_session_bias(ponder_session *s, int32_t token, float bias)
{
    if (token < 0 || (uint32_t)token >= s->model->core->network->d.vocab)
        return pn_fail(&s->err, PONDER_E_RANGE, "token %d is outside the vocabulary", token);
    if (bias != bias) return pn_fail(&s->err, PONDER_E_RANGE, "bias: not a number");
    uint32_t i = 0;
    while (i < s->n_bias && s->bias[i].token != token) i++;
    if (bias == 0) {
        if (i < s->n_bias) s->bias[i] = s->bias[--s->n_bias];
        return PONDER_OK;
    }
    if (i == PN_BIASES) return pn_fail(&s->err, PONDER_E_RANGE, "bias: more than %d tokens", PN_BIASES);
    if (!s->bias && !(s->bias = pn_zalloc_array(s->a, PN_BIASES, sizeof *s->bias))) return pn_nomem(&s->err, PN_BIASES * sizeof *s->bias);
    s->bias[i] = (pn_bias){token, bias};
    if (i == s->n_bias) s->n_bias++;
    return PONDER_OK;
}

/* ---- life ------------------------------------------------------------------------------------------ */

static ponder_status new_session(ponder_session **out, ponder_model *m, ponder_error *err)
{
    const ponder_alloc *a = &m->meter.alloc;
    ponder_session *s = pn_zalloc(a, sizeof *s);
    if (!s) return pn_nomem(err, sizeof *s);
    s->a = a;
    s->pid = getpid();
    atomic_store(&s->holders, 1);
    s->model = pn_model_hold(m);
    pn_buf_init(&s->held, a);
    pn_buf_init(&s->shown, a);
    pn_buf_init(&s->piece, a);
    s->think.message = s->think.open = s->think.close = "";
    *out = s;
    if (m->fleet) return pn_distant_new(s, err);
    ponder_status st = pn_sampler_init(&s->sampler, &m->kernels, m->core->network->d.vocab, a, err);
    if (st != PONDER_OK) return st;
    s->top = pn_zalloc_array(a, 64, sizeof *s->top);
    return s->top ? PONDER_OK : pn_nomem(err, 64 * sizeof *s->top);
}

static uint64_t physical_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? (uint64_t)pages * (uint64_t)bytes : UINT64_MAX;
}

static ponder_status new_sequence(ponder_session *s, const ponder_config *c, ponder_error *err)
{
    const uint32_t limit = s->model->core->network->d.context;
    int64_t want = pn_config_i64(c, PONDER_P_CONTEXT);
    if (want > 0) return pn_sequence_new(&s->seq, s->model->engine, (uint32_t)want, err);
    /* Without a number: as much of the model's limit as memory allows. The system promises more pages than it has, so the
     * promise is kept to a share of the machine's memory here. */
    ponder_status st = PONDER_E_NOMEM;
    uint32_t tokens = pn_engine_fit(s->model->engine, limit, physical_memory() / CONTEXT_SHARE);
    for (; st == PONDER_E_NOMEM; tokens /= 2) {
        st = pn_sequence_new(&s->seq, s->model->engine, PN_MAX(tokens, 1u), err);
        if (tokens <= LEAST_CONTEXT) break;
    }
    return st;
}

ponder_status pn_session_new(ponder_session **out, ponder_model *m, const ponder_config *c, ponder_error *err)
{
    ponder_session *s = NULL;
    ponder_status st = new_session(&s, m, err);
    if (st == PONDER_OK) st = choose_template(s, c, err);
    if (st == PONDER_OK && (st = pn_session_configure(s, c)) != PONDER_OK && err) pn_fail(err, st, "%s", s->err.text);
    if (st == PONDER_OK && !s->distant) st = new_sequence(s, c, err);
    if (st != PONDER_OK) {
        pn_session_free(s);
        return pn_name_cap(st, m->meter.cap, err);
    }
    *out = s;
    return PONDER_OK;
}

static void take_settings(ponder_session *c, const ponder_session *s)
{
    c->sampling = s->sampling;
    c->max_tokens = s->max_tokens;
    c->logprobs = s->logprobs;
    c->ignore_eos = s->ignore_eos;
    c->strict_tools = s->strict_tools;
    c->look_closer = s->look_closer;
    c->subagents = s->subagents;
    c->agent_limit = s->agent_limit;
    c->agent_depth = s->agent_depth;
    c->agent_tokens = s->agent_tokens;
    c->drafts = s->drafts;
    c->ask_drafter = s->ask_drafter;
    c->grammar = s->grammar ? pn_grammar_ref(s->grammar) : NULL;
    memcpy(c->effort, s->effort, sizeof c->effort);
}

ponder_status pn_session_fork(ponder_session **out, ponder_session *s, const ponder_config *config)
{
    return pn_session_fork_sized(out, s, config, 0);
}

ponder_status pn_session_fork_sized(ponder_session **out, ponder_session *s, const ponder_config *config, uint32_t tokens)
{
    ponder_session *c = NULL;
    ponder_status st = new_session(&c, s->model, &s->err);
    if (st == PONDER_OK && config) st = choose_template(c, config, &s->err);
    if (st == PONDER_OK && config) st = pn_session_configure(c, config);
    if (st == PONDER_OK && !config) {
        c->template = s->template;
        take_settings(c, s);
        if ((st = pn_session_copy_thinking(c, s)) == PONDER_OK) st = pn_strings_copy(&c->stop, &s->stop, c->a, &s->err);
    }
    if (st == PONDER_OK && s->distant) {
        st = pn_distant_copy(c, s);
        if (st == PONDER_OK && !config) st = pn_distant_copy_binding(c, s);
    } else if (st == PONDER_OK) {
        int64_t want = tokens ? tokens : config ? pn_config_i64(config, PONDER_P_CONTEXT) : 0;
        st = pn_sequence_fork(&c->seq, s->seq, want ? (uint32_t)want : pn_sequence_limit(s->seq), &s->err);
    }
    for (uint32_t i = 0; i < s->n_bias && st == PONDER_OK; i++) st = pn_session_bias(c, s->bias[i].token, s->bias[i].bias);
    if (st == PONDER_OK) st = pn_session_copy_pending(c, s);
    if (st == PONDER_OK) st = pn_session_copy_listening(c, s);
    if (st == PONDER_OK) st = pn_session_copy_gallery(c, s);
    if (st != PONDER_OK) {
        if (c && c->err.text[0]) s->err = c->err;
        pn_session_free(c);
        return pn_name_cap(st, s->model->meter.cap, &s->err);
    }
    c->template = config && *pn_config_str(config, PONDER_P_TEMPLATE) ? c->template : s->template;
    c->tools = pn_tools_hold(s->tools);
    c->calls = s->calls;
    c->unprompted = s->unprompted;
    c->asked = s->asked;
    c->prompt_at = s->prompt_at;
    c->open_turn = s->open_turn;
    c->ended = s->ended;
    c->turn_at = s->turn_at;
    c->think.t = s->think.t;
    c->think.said_at = s->think.said_at;
    c->think.said_to = s->think.said_to;
    *out = c;
    return PONDER_OK;
}

ponder_session *pn_session_hold(ponder_session *s)
{
    atomic_fetch_add(&s->holders, 1);
    return s;
}

void pn_session_free(ponder_session *s)
{
    if (!s || atomic_fetch_sub(&s->holders, 1) > 1) return;
    if (s->crew) s->crew->release(s->crew);
    if (s->agents) s->agents->release(s->agents);
    pn_distant_free(s);
    pn_sequence_free(s->seq);
    pn_sampler_free(&s->sampler);
    pn_session_drop_encoding(s);
    pn_session_forget_pending(s);
    pn_session_forget_parts(s);
    pn_session_forget_parser(s);
    pn_session_forget_binding(s);
    pn_session_forget_thinking(s);
    pn_session_forget_listening(s);
    pn_session_forget_gallery(s);
    pn_tools_free(s->tools);
    pn_strings_forget(&s->stop, s->a);
    pn_free(s->a, s->pending, s->cap_pending * sizeof *s->pending);
    pn_free(s->a, s->mask, (s->sampler.vocab + 31) / 32 * sizeof *s->mask);
    pn_free(s->a, s->bias, PN_BIASES * sizeof *s->bias);
    pn_free(s->a, s->top, 64 * sizeof *s->top);
    pn_buf_free(&s->held);
    pn_buf_free(&s->shown);
    pn_buf_free(&s->piece);
    ponder_model *m = s->model;
    pn_free(s->a, s, sizeof *s);
    pn_model_release(m);
}

/* ---- going back ---------------------------------------------------------------------------------------- */

/* Inside the model's turn it is a turn that was cut; before it, nothing is known of turns. */
ponder_status pn_session_rewind(ponder_session *s, size_t tokens, uint32_t *recompute)
{
    if (s->distant && tokens > 0) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "a remote model rewinds to its start only: its tokens are not here");
    if (s->distant) {
        pn_distant_forget(s);
        return PONDER_OK;
    }
    const uint32_t n = pn_sequence_count(s->seq);
    if (tokens > n) return pn_fail(&s->err, PONDER_E_RANGE, "position %zu is beyond the %u tokens there are", tokens, n);
    ponder_status st = pn_sequence_rewind(s->seq, (uint32_t)tokens, recompute, &s->err);
    if (st != PONDER_OK) return st;
    s->ended = s->ended && tokens == n;
    s->open_turn = s->open_turn && tokens >= s->turn_at;
    s->unprompted = s->unprompted && tokens == n;
    s->think.said_to = PN_MIN(s->think.said_to, (uint32_t)tokens);
    pn_session_forget_parser(s);
    return PONDER_OK;
}
