/* A session: its life, settings, and the text that goes in. */
#include "session/session.h"

#include <unistd.h>

enum { LEAST_CONTEXT = 256, CONTEXT_SHARE = 4 };

/* ---- settings ----------------------------------------------------------------------------------- */

static void free_stops(ponder_session *s)
{
    for (uint32_t i = 0; i < s->n_stop; i++) pn_free(s->a, (char *)(uintptr_t)s->stop[i].p, s->stop[i].n);
    s->n_stop = 0;
}

static ponder_status copy_stops(ponder_session *s, const pn_str *from, uint32_t n)
{
    free_stops(s);
    for (uint32_t i = 0; i < n; i++) {
        char *p = pn_alloc(s->a, from[i].n);
        if (!p) return pn_nomem(&s->err, from[i].n);
        memcpy(p, from[i].p, from[i].n);
        s->stop[s->n_stop++] = (pn_str){p, from[i].n};
    }
    return PONDER_OK;
}

ponder_status pn_session_configure(ponder_session *s, const ponder_config *c)
{
    const char *effort = pn_config_str(c, PONDER_P_EFFORT);
    if (strlen(effort) >= sizeof s->effort) return pn_fail(&s->err, PONDER_E_RANGE, "effort: longer than %zu bytes", sizeof s->effort - 1);
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
    memcpy(s->effort, effort, strlen(effort) + 1);
    return copy_stops(s, c ? c->stop : NULL, c ? c->n_stop : 0);
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

/* ---- messages to be rendered ---------------------------------------------------------------------- */

static char *copy(ponder_session *s, const char *p, size_t n)
{
    char *to = pn_alloc(s->a, n);
    if (to && n) memcpy(to, p, n);
    return to;
}

static ponder_status put_pending(ponder_session *s, const char *role, const char *text, size_t n)
{
    if (s->n_pending == s->cap_pending) {
        size_t cap = s->cap_pending ? 2 * s->cap_pending : 8;
        pn_pending *p = pn_grow(s->a, s->pending, s->cap_pending * sizeof *p, cap * sizeof *p);
        if (!p) return pn_nomem(&s->err, cap * sizeof *p);
        s->pending = p;
        s->cap_pending = cap;
    }
    pn_pending m = {.role_n = strlen(role) + 1, .text_n = n};
    m.role = copy(s, role, m.role_n);
    m.text = copy(s, text, n);
    if (!m.role || !m.text) {
        pn_free(s->a, m.role, m.role_n);
        pn_free(s->a, m.text, m.text_n);
        return pn_nomem(&s->err, n);
    }
    s->pending[s->n_pending++] = m;
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
    s->model = pn_model_hold(m);
    pn_buf_init(&s->held, a);
    pn_buf_init(&s->shown, a);
    *out = s;
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
    if (st == PONDER_OK) st = new_sequence(s, c, err);
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
    memcpy(c->effort, s->effort, sizeof c->effort);
}

ponder_status pn_session_fork(ponder_session **out, ponder_session *s, const ponder_config *config)
{
    ponder_session *c = NULL;
    ponder_status st = new_session(&c, s->model, &s->err);
    if (st == PONDER_OK && config) st = choose_template(c, config, &s->err);
    if (st == PONDER_OK && config) st = pn_session_configure(c, config);
    if (st == PONDER_OK && !config) {
        take_settings(c, s);
        st = copy_stops(c, s->stop, s->n_stop);
    }
    if (st == PONDER_OK) {
        int64_t want = config ? pn_config_i64(config, PONDER_P_CONTEXT) : 0;
        st = pn_sequence_fork(&c->seq, s->seq, want ? (uint32_t)want : pn_sequence_limit(s->seq), &s->err);
    }
    for (uint32_t i = 0; i < s->n_bias && st == PONDER_OK; i++) st = pn_session_bias(c, s->bias[i].token, s->bias[i].bias);
    for (size_t i = 0; i < s->n_pending && st == PONDER_OK; i++)
        st = put_pending(c, s->pending[i].role, s->pending[i].text, s->pending[i].text_n);
    if (st != PONDER_OK) {
        if (c && c->err.text[0]) s->err = c->err;
        pn_session_free(c);
        return pn_name_cap(st, s->model->meter.cap, &s->err);
    }
    c->template = config && *pn_config_str(config, PONDER_P_TEMPLATE) ? c->template : s->template;
    c->open_turn = s->open_turn;
    c->ended = s->ended;
    c->turn_at = s->turn_at;
    *out = c;
    return PONDER_OK;
}

void pn_session_forget_pending(ponder_session *s)
{
    for (size_t i = 0; i < s->n_pending; i++) {
        pn_free(s->a, s->pending[i].role, s->pending[i].role_n);
        pn_free(s->a, s->pending[i].text, s->pending[i].text_n);
    }
    s->n_pending = 0;
}

void pn_session_free(ponder_session *s)
{
    if (!s) return;
    pn_sequence_free(s->seq);
    pn_sampler_free(&s->sampler);
    pn_session_forget_pending(s);
    free_stops(s);
    pn_free(s->a, s->pending, s->cap_pending * sizeof *s->pending);
    pn_free(s->a, s->bias, PN_BIASES * sizeof *s->bias);
    pn_free(s->a, s->top, 64 * sizeof *s->top);
    pn_buf_free(&s->held);
    pn_buf_free(&s->shown);
    ponder_model *m = s->model;
    pn_free(s->a, s, sizeof *s);
    pn_model_release(m);
}

/* ---- text in ------------------------------------------------------------------------------------------ */

static ponder_status needs(ponder_session *s, bool template)
{
    if (!s->model->core->tokenizer) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model has no tokenizer: use ponder_session_prompt_ids");
    if (template && s->template == PN_TEMPLATE_NONE)
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model's chat template is unknown: use ponder_session_prompt");
    return PONDER_OK;
}

ponder_status pn_session_add(ponder_session *s, const char *role, const char *text, size_t n)
{
    ponder_status st = needs(s, true);
    return st == PONDER_OK ? put_pending(s, role, text, n) : st;
}

typedef struct ids {
    int32_t *p;
    size_t n, cap;
} ids;

/* Raw ids after messages begin the model's turn for it; without messages nothing is known of turns any more. */
ponder_status pn_session_prompt_ids(ponder_session *s, const int32_t *p, size_t n)
{
    bool in_turn = s->n_pending > 0;
    ponder_status st = pn_session_render(s);
    if (st == PONDER_OK) st = pn_sequence_append(s->seq, p, n, &s->err);
    if (st == PONDER_OK && !in_turn) s->open_turn = s->ended = false;
    return st;
}

ponder_status pn_session_prompt(ponder_session *s, const char *text, size_t n, uint32_t flags)
{
    ponder_status st = needs(s, false);
    if (st != PONDER_OK) return st;
    ids v = {0};
    uint32_t f = (flags & PONDER_TOKENIZE_SPECIAL ? PN_TOKENIZE_SPECIAL : 0) | (flags & PONDER_TOKENIZE_BOS ? PN_TOKENIZE_BOS : 0);
    st = pn_tokenize(s->model->core->tokenizer, text, n, f, s->a, &v.p, &v.n, &v.cap, &s->err);
    if (st == PONDER_OK) st = pn_session_prompt_ids(s, v.p, v.n);
    pn_free(s->a, v.p, v.cap * sizeof *v.p);
    return st;
}

/* The special token that begins at `at`, if the template wrote one there; *n its length. Every template's markers run
 * from '<' to the next '>'. */
static int32_t special_at(const pn_tokenizer *t, const char *text, size_t at, size_t end, size_t *n)
{
    if (text[at] != '<') return -1;
    const char *close = memchr(text + at, '>', end - at);
    if (!close) return -1;
    *n = (size_t)(close - (text + at)) + 1;
    int32_t id = pn_tokenizer_find(t, text + at, *n);
    return id >= 0 && pn_tokenizer_is_special(t, id) ? id : -1;
}

static ponder_status put_id(ponder_session *s, ids *v, int32_t id)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 64;
        int32_t *p = pn_grow(s->a, v->p, v->cap * sizeof *p, cap * sizeof *p);
        if (!p) return pn_nomem(&s->err, cap * sizeof *p);
        v->p = p;
        v->cap = cap;
    }
    v->p[v->n++] = id;
    return PONDER_OK;
}

/* Special tokens count in the template's own text only; what stands between two of them is split as one text. */
static ponder_status tokenize_rendered(ponder_session *s, const pn_rendered *r, ids *v)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    const char *text = r->text.p;
    size_t from = 0;
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < r->n_spans && st == PONDER_OK; i++) {
        if (!r->spans[i].control) continue;
        size_t end = r->spans[i].from + r->spans[i].n, n = 0;
        for (size_t at = r->spans[i].from; at < end && st == PONDER_OK; at++) {
            int32_t id = special_at(t, text, at, end, &n);
            if (id < 0) continue;
            if (at > from) st = pn_tokenize(t, text + from, at - from, 0, s->a, &v->p, &v->n, &v->cap, &s->err);
            if (st == PONDER_OK) st = put_id(s, v, id);
            from = at + n;
            at = from - 1;
        }
    }
    if (st == PONDER_OK && from < r->text.n) st = pn_tokenize(t, text + from, r->text.n - from, 0, s->a, &v->p, &v->n, &v->cap, &s->err);
    return st;
}

/* The model's last turn may lack its end token (it was cut), and most templates write something after that token. */
static ponder_status close_turn(ponder_session *s, ids *v)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    const pn_str end = pn_template_turn_end(s->template), between = pn_template_between(s->template);
    const uint32_t n = pn_sequence_count(s->seq);
    bool at_end = (s->open_turn && s->ended) || (n > 0 && pn_sequence_ids(s->seq)[n - 1] == pn_tokenizer_find(t, end.p, end.n));
    ponder_status st = PONDER_OK;
    if (s->open_turn && !at_end && end.n) {
        st = pn_tokenize(t, end.p, end.n, PN_TOKENIZE_SPECIAL, s->a, &v->p, &v->n, &v->cap, &s->err);
        at_end = true;
    }
    if (st == PONDER_OK && at_end && between.n) st = pn_tokenize(t, between.p, between.n, 0, s->a, &v->p, &v->n, &v->cap, &s->err);
    return st;
}

ponder_status pn_session_render(ponder_session *s)
{
    if (s->n_pending == 0) return PONDER_OK;
    pn_rendered r;
    ids v = {0};
    pn_rendered_init(&r, s->a);
    pn_message *m = pn_zalloc_array(s->a, s->n_pending, sizeof *m);
    ponder_status st = m ? PONDER_OK : pn_nomem(&s->err, s->n_pending * sizeof *m);
    for (size_t i = 0; i < s->n_pending && m; i++) m[i] = (pn_message){.role = s->pending[i].role, .text = {s->pending[i].text, s->pending[i].text_n}};
    bool first = pn_sequence_count(s->seq) == 0;
    if (st == PONDER_OK) st = pn_render_messages(s->template, m, s->n_pending, first, true, s->effort, &r, &s->err);
    if (st == PONDER_OK) st = close_turn(s, &v);
    if (st == PONDER_OK) st = tokenize_rendered(s, &r, &v);
    if (st == PONDER_OK) st = pn_sequence_append(s->seq, v.p, v.n, &s->err);
    pn_free(s->a, v.p, v.cap * sizeof *v.p);
    pn_free(s->a, m, s->n_pending * sizeof *m);
    pn_rendered_free(&r);
    pn_session_forget_pending(s); /* also after a failure: the conversation must not hang on a message that cannot be rendered */
    if (st == PONDER_OK) {
        s->open_turn = true;
        s->ended = false;
        s->turn_at = pn_sequence_count(s->seq);
    }
    return st;
}

/* Inside the model's turn it is a turn that was cut; before it, nothing is known of turns. */
ponder_status pn_session_rewind(ponder_session *s, size_t tokens, uint32_t *recompute)
{
    const uint32_t n = pn_sequence_count(s->seq);
    if (tokens > n) return pn_fail(&s->err, PONDER_E_RANGE, "position %zu is beyond the %u tokens there are", tokens, n);
    ponder_status st = pn_sequence_rewind(s->seq, (uint32_t)tokens, recompute, &s->err);
    if (st != PONDER_OK) return st;
    s->ended = s->ended && tokens == n;
    s->open_turn = s->open_turn && tokens >= s->turn_at;
    return PONDER_OK;
}
