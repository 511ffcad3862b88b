/* Settings of the thought budget, and what the model's markers and the host's words are in its tokens. */
#include "session/session.h"

#include <stdio.h>

enum { MOST_MARKER = 64 };

/* ---- what the model's tokens are ------------------------------------------------------------------------- */

static ponder_status tokenize(ponder_session *s, pn_phrase *p, const char *text, uint32_t flags)
{
    pn_thinking *t = &s->think;
    *p = (pn_phrase){.at = t->n_ids};
    if (!*text) return PONDER_OK;
    ponder_status st = pn_tokenize(s->model->core->tokenizer, text, strlen(text), flags, s->a, &t->ids, &t->n_ids, &t->cap_ids, &s->err);
    p->n = t->n_ids - p->at;
    return st;
}

int32_t pn_session_special(const ponder_session *s, const char *name)
{
    const pn_tokenizer *t = s->model->core->tokenizer;
    const int32_t id = t ? pn_tokenizer_find(t, name, strlen(name)) : -1;
    return id >= 0 && pn_tokenizer_is_special(t, id) ? id : -1;
}


typedef struct markers { const char *open, *close; } markers;

/* The model's markers, or the host's; open NULL: none. */
static markers markers_of(const ponder_session *s, const char *open, const char *close)
{
    const pn_parser_kind kind = pn_parser_kind_of(s->template);
    if (kind == PN_PARSER_MUSE) {
        const bool all = pn_session_special(s, "<|eom|>") >= 0 && pn_session_special(s, "<|start|>") >= 0 && pn_session_special(s, "<|message|>") >= 0;
        return all ? (markers){" to=self<|message|>", "<|eom|>"} : (markers){0};
    }
    if (*open && *close) return (markers){open, close};
    const bool known = kind == PN_PARSER_THINK && pn_session_special(s, "<think>") >= 0 && pn_session_special(s, "</think>") >= 0;
    return known ? (markers){"<think>", "</think>"} : (markers){0};
}

static ponder_status write_phrases(ponder_session *s, pn_thinking *t, markers m)
{
    char text[MOST_MARKER + 2];
    const uint32_t f = PN_TOKENIZE_SPECIAL;
    ponder_status st = tokenize(s, &t->closer, m.close, f);
    t->closer_id = pn_session_special(s, m.close);
    t->opener_id = pn_session_special(s, m.open);
    t->end_id = pn_session_special(s, pn_template_turn_end(s->template).p);
    snprintf(text, sizeof text, pn_session_is_muse(s) ? "%s" : "%s\n", m.open);
    if (st == PONDER_OK) st = tokenize(s, &t->opener, text, f);
    if (st == PONDER_OK) st = tokenize(s, &t->behind, pn_session_is_muse(s) ? "<|start|>assistant to=user<|message|>" : "\n\n", f);
    if (st == PONDER_OK) st = tokenize(s, &t->role, pn_session_is_muse(s) ? "<|start|>assistant" : "\n\n", f);
    if (st == PONDER_OK) st = tokenize(s, &t->to_user, pn_session_is_muse(s) ? " to=user<|message|>" : "", f);
    if (st == PONDER_OK) st = tokenize(s, &t->line, t->closer_id < 0 ? "\n" : "", 0);
    if (st == PONDER_OK) st = tokenize(s, &t->note, t->message, 0);
    size_t most = PN_MAX(t->opener.n, t->note.n + t->line.n + t->closer.n + t->behind.n);
    for (uint32_t i = 0; i < t->more.n && st == PONDER_OK; i++) {
        st = tokenize(s, &t->words[i], t->more.s[i].p, 0);
        most = PN_MAX(most, t->words[i].n);
    }
    if (st != PONDER_OK) return st;
    pn_phrase *const all[] = {&t->closer, &t->line, &t->behind, &t->role, &t->to_user, &t->opener, &t->note};
    for (size_t i = 0; i < PN_COUNT(all); i++) all[i]->ids = t->ids + all[i]->at;
    for (uint32_t i = 0; i < t->more.n; i++) t->words[i].ids = t->ids + t->words[i].at;
    if (most <= t->cap_queue) return st;
    int32_t *queue = pn_grow(s->a, t->queue, t->cap_queue * sizeof *queue, most * sizeof *queue);
    if (!queue) return pn_nomem(&s->err, most * sizeof *queue);
    t->queue = queue;
    t->cap_queue = (uint32_t)most;
    return PONDER_OK;
}

/* ---- settings -------------------------------------------------------------------------------------------------- */

static pn_think_limits read_limits(const ponder_config *c)
{
    const char *exit = pn_config_str(c, PONDER_P_THINK_EXIT);
    const int64_t ms = pn_config_i64(c, PONDER_P_THINK_MS);
    return (pn_think_limits){
        .tokens = pn_config_i64(c, PONDER_P_THINK_TOKENS), .least = pn_config_i64(c, PONDER_P_THINK_LEAST), .think_us = ms < 0 ? -1 : ms * 1000,
        .turn_us = (uint64_t)pn_config_i64(c, PONDER_P_TURN_MS) * 1000, .answer = (uint64_t)pn_config_i64(c, PONDER_P_ANSWER_TOKENS),
        .block = strcmp(pn_config_str(c, PONDER_P_THINK_SCOPE), "block") == 0, .soft = pn_config_i64(c, PONDER_P_THINK_SOFT),
        .grace = pn_config_i64(c, PONDER_P_THINK_GRACE), .rank = (uint32_t)pn_config_i64(c, PONDER_P_THINK_RANK),
        .exit = !*exit ? PN_EXIT_NONE : *exit == 'e' ? PN_EXIT_ENTROPY : PN_EXIT_ANSWER, .exit_at = pn_config_f64(c, PONDER_P_THINK_EXIT_AT),
        .patience = (uint32_t)pn_config_i64(c, PONDER_P_THINK_PATIENCE), .interval = (uint32_t)pn_config_i64(c, PONDER_P_THINK_INTERVAL),
        .probe_share = pn_config_f64(c, PONDER_P_THINK_PROBE_SHARE),
    };
}

/* Whether the host asked for anything that needs the model's thoughts to be marked; the first such parameter's name. */
static const char *asks(const ponder_config *c)
{
    for (ponder_param id = PONDER_P_THINK_TOKENS; id <= PONDER_P_THINK_START; id++) {
        if (id == PONDER_P_TURN_MS || id == PONDER_P_ANSWER_TOKENS || id == PONDER_P_CLOCK) continue;
        if (!pn_config_default(c, id)) return pn_params[pn_param_index(id)].name;
    }
    return NULL;
}

static ponder_status check(ponder_session *s, const ponder_config *c, const pn_think_limits *l, const char *open, const char *close)
{
    const char *asked = asks(c);
    if (!*open != !*close) return pn_fail(&s->err, PONDER_E_ARGUMENT, "think_open and think_close go together");
    if (strlen(open) > MOST_MARKER || strlen(close) > MOST_MARKER) return pn_fail(&s->err, PONDER_E_RANGE, "a marker of thoughts is longer than %d bytes", MOST_MARKER);
    if (*open && pn_session_is_muse(s)) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "think_open: the template \"muse\" has markers of its own");
    if (s->distant) return pn_distant_check_thinking(s, c);
    if (asked && !markers_of(s, open, close).open)
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: nothing marks this model's thoughts; give think_open and think_close", asked);
    if (asked && !s->model->core->tokenizer) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: the model has no tokenizer", asked);
    if (l->tokens >= 0 && l->least > l->tokens)
        return pn_fail(&s->err, PONDER_E_RANGE, "think_least: %lld is more than think_tokens: %lld", (long long)l->least, (long long)l->tokens);
    return PONDER_OK;
}

static void forget_texts(ponder_session *s)
{
    pn_thinking *t = &s->think;
    t->n_ids = 0;
    t->closer = (pn_phrase){0};
    pn_strings_forget(&t->text, s->a);
    pn_strings_forget(&t->more, s->a);
    t->message = t->open = t->close = "";
}

static ponder_status keep_text(ponder_session *s, const char *text, const char **out)
{
    pn_strings *l = &s->think.text;
    *out = "";
    if (!*text) return PONDER_OK;
    const ponder_status st = pn_strings_add(l, "", text, s->a, &s->err);
    if (st == PONDER_OK) *out = l->s[l->n - 1].p;
    return st;
}

static ponder_status take_texts(ponder_session *s, const char *message, const char *open, const char *close, const pn_strings *more)
{
    pn_thinking *t = &s->think;
    forget_texts(s);
    ponder_status st = keep_text(s, message, &t->message);
    if (st == PONDER_OK) st = keep_text(s, open, &t->open);
    if (st == PONDER_OK) st = keep_text(s, close, &t->close);
    if (st == PONDER_OK) st = pn_strings_copy(&t->more, more, s->a, &s->err);
    const markers m = markers_of(s, t->open, t->close);
    t->closer_id = t->opener_id = t->end_id = -1;
    return st == PONDER_OK && m.open && !s->distant ? write_phrases(s, t, m) : st;
}

ponder_status pn_session_set_thinking(ponder_session *s, const ponder_config *c)
{
    static const pn_strings none = {.n = 0};
    pn_thinking *t = &s->think;
    const pn_think_limits l = read_limits(c);
    const char *open = pn_config_str(c, PONDER_P_THINK_OPEN), *close = pn_config_str(c, PONDER_P_THINK_CLOSE);
    const char *clock = pn_config_str(c, PONDER_P_CLOCK);
    ponder_status st = check(s, c, &l, open, close);
    if (st == PONDER_OK) st = take_texts(s, pn_config_str(c, PONDER_P_THINK_MESSAGE), open, close, c ? &c->more : &none);
    if (st != PONDER_OK) return st;
    t->limits = l;
    t->start = pn_config_i64(c, PONDER_P_THINK_START) != 0;
    t->on = pn_think_limited(&l);
    t->clock = !*clock ? PN_CLOCK_CALL : *clock == 'w' ? PN_CLOCK_WALL : PN_CLOCK_INSIDE;
    return PONDER_OK;
}

ponder_status pn_session_copy_thinking(ponder_session *to, const ponder_session *from)
{
    pn_thinking *t = &to->think;
    const pn_thinking *f = &from->think;
    t->limits = f->limits;
    t->start = f->start;
    t->on = f->on;
    t->clock = f->clock;
    return take_texts(to, f->message, f->open, f->close, &f->more);
}

void pn_session_forget_thinking(ponder_session *s)
{
    forget_texts(s);
    pn_free(s->a, s->think.ids, s->think.cap_ids * sizeof *s->think.ids);
    pn_free(s->a, s->think.queue, s->think.cap_queue * sizeof *s->think.queue);
}
