/* A contemplation: agents in waves and rounds, what stops them, and the answer.
 *
 * Decisions are taken on a clock of tokens: an agent that ended after 20 tokens ended before one that took 21, whichever the
 * engine served first, and nothing is decided on level t before every running agent has reached it. So a contemplation in
 * slices, on any number of threads and beside any other work, is the same. */
#include "agents/agents.h"

#include <math.h>
#include <unistd.h>

enum { SUFFIX_TOKENS = 64 };

typedef enum synthesis { VOTE, CONFIDENCE, WRITTEN } synthesis;
typedef enum phase { BEGIN, SPAWN, RUN, WRITE, FINISH, TELL, OVER } phase;

typedef struct member {
    ponder_agent *agent;
    pn_buf normal;            /* of its answer */
    double confidence, lowest;
    bool over, counted, out;  /* its turns are over; it was counted; it is out of play (dropped, stopped, failed) */
} member;

struct ponder_contemplation {
    pid_t pid;
    const ponder_alloc *a;
    ponder_session *session;  /* held */
    ponder_session *base;     /* a fork with the agents' settings: what they are forked from */
    ponder_config *config;    /* a copy, or NULL */
    pn_group *group;
    ponder_error err;
    _Atomic bool cancel;
    bool claims;              /* the session is busy with it */
    /* what was asked */
    uint32_t n, at_once, rounds, peers, warm_up, window, n_roles;
    synthesis how;
    pn_form form;
    double quorum, decide, drop;
    uint64_t deadline_us, seed;
    /* where it is */
    phase phase;
    member *member;           /* [n * rounds + 1]: round by round, the writer last */
    uint32_t spawned, wave_from, wave_to; /* members; wave_to: where the wave under way ends */
    int32_t round, decided_by, end, fallback;
    bool stopped;             /* the round needs no more agents */
    uint64_t level;           /* of the token clock: everything up to here was looked at */
    uint32_t counted, n_lowest; /* members of this round that were */
    uint32_t n_over;          /* are over, not counted and not out */
    double *lowest;           /* [n] of the first finishers */
    double threshold;         /* under which agents are dropped; < 0: not yet known */
    pn_tally tally;
    pn_buf answer, message;
    pn_option chosen;
    uint32_t voters;
    double share;
    uint64_t entered_us, spent_us, critical_us, critical_tokens, prefilled, shared_tokens, shared_bytes, own_bytes;
};

static void look(void *contemplation);

/* ---- life --------------------------------------------------------------------------------------------------- */

static uint32_t most_members(const ponder_contemplation *c) { return c->n * c->rounds + 1; }

static double temperature(const ponder_session *s, const ponder_config *c)
{
    return c ? pn_config_f64(c, PONDER_P_TEMPERATURE) : s->sampling.temperature;
}

static void read_config(ponder_contemplation *c, const ponder_session *s, const ponder_config *f)
{
    const char *how = pn_config_str(f, PONDER_P_SYNTHESIS);
    c->n = (uint32_t)pn_config_i64(f, PONDER_P_AGENTS);
    c->at_once = (uint32_t)pn_config_i64(f, PONDER_P_AT_ONCE);
    if (c->at_once == 0 || c->at_once > c->n) c->at_once = c->n;
    c->rounds = (uint32_t)pn_config_i64(f, PONDER_P_ROUNDS);
    c->peers = (uint32_t)pn_config_i64(f, PONDER_P_PEERS);
    c->warm_up = (uint32_t)pn_config_i64(f, PONDER_P_WARM_UP);
    if (c->warm_up == 0) c->warm_up = PN_MAX(c->n / 4, 2u);
    c->window = c->group->window = (uint32_t)pn_config_i64(f, PONDER_P_CONFIDENCE_WINDOW);
    c->n_roles = f ? f->role.n : 0;
    c->how = strcmp(how, "written") == 0 ? WRITTEN : strcmp(how, "confidence") == 0 ? CONFIDENCE : VOTE;
    c->form = pn_form_by_name(pn_config_str(f, PONDER_P_ANSWER_FORM));
    c->quorum = pn_config_f64(f, PONDER_P_QUORUM);
    c->decide = pn_config_f64(f, PONDER_P_DECIDE);
    c->drop = pn_config_f64(f, PONDER_P_DROP);
    c->deadline_us = (uint64_t)pn_config_i64(f, PONDER_P_DEADLINE_MS) * 1000;
    c->seed = f ? (uint64_t)pn_config_i64(f, PONDER_P_SEED) : s->sampling.seed;
    c->group->limit = f ? (uint64_t)pn_config_i64(f, PONDER_P_AGENT_TOKENS) : s->agent_tokens;
}

static ponder_status check(const ponder_contemplation *c, ponder_session *s, const ponder_config *f)
{
    if (c->n == 2 && c->how == VOTE)
        return pn_fail(&s->err, PONDER_E_ARGUMENT, "two agents in a plain vote gain nothing over one: set synthesis to confidence or written, or ask more");
    if (c->n > 1 && temperature(s, f) == 0 && c->n_roles < c->n)
        return pn_fail(&s->err, PONDER_E_ARGUMENT, "%u agents at temperature 0 with %u roles would write the same: set a temperature", c->n, c->n_roles);
    if (s->distant && (c->how == CONFIDENCE || c->drop > 0))
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: how sure a remote model is of its tokens is not known here", c->drop > 0 ? "drop" : "synthesis confidence");
    if (!pn_session_waits(s)) return pn_fail(&s->err, PONDER_E_STATE, "nothing was asked: add a message first");
    return c->how == WRITTEN || c->rounds > 1 || c->n_roles ? pn_session_needs(s, true) : PONDER_OK;
}

static ponder_status set_up(ponder_contemplation *c, ponder_session *s, const ponder_config *f)
{
    ponder_status st = pn_group_new(&c->group, s->model, &s->err);
    if (st != PONDER_OK) return st;
    c->group->look = look;
    c->group->looker = c;
    read_config(c, s, f);
    st = check(c, s, f);
    if (st == PONDER_OK && f) st = pn_config_copy(&c->config, f, &s->err);
    if (st == PONDER_OK) st = pn_tally_init(&c->tally, c->n, c->how == CONFIDENCE, c->a, &s->err);
    if (st != PONDER_OK) return st;
    c->lowest = pn_zalloc_array(c->a, c->n, sizeof *c->lowest);
    c->member = pn_zalloc_array(c->a, most_members(c), sizeof *c->member);
    return c->lowest && c->member ? PONDER_OK : pn_nomem(&s->err, most_members(c) * sizeof *c->member);
}

ponder_status pn_contemplation_new(ponder_contemplation **out, ponder_session *s, const ponder_config *f)
{
    *out = NULL;
    ponder_contemplation *c = pn_zalloc(s->a, sizeof *c);
    if (!c) return pn_nomem(&s->err, sizeof *c);
    c->pid = getpid();
    c->a = s->a;
    c->threshold = -1;
    c->fallback = PONDER_OK;
    pn_buf_init(&c->answer, c->a);
    pn_buf_init(&c->message, c->a);
    pn_session_drop_turn(s);
    ponder_status st = set_up(c, s, f);
    if (st != PONDER_OK) {
        pn_contemplation_free(c);
        return st;
    }
    for (uint32_t i = 0; i < most_members(c); i++) pn_buf_init(&c->member[i].normal, c->a);
    const char *effort = pn_config_str(f, PONDER_P_EFFORT);
    if (*effort && pn_drive_empty(s)) memcpy(s->effort, effort, strlen(effort) + 1); /* it is written with the question */
    pn_drive_forget_cancel(s);
    c->session = pn_session_hold(s);
    c->claims = true;
    *out = c;
    return PONDER_OK;
}

void pn_contemplation_free(ponder_contemplation *c)
{
    if (!c) return;
    for (uint32_t i = 0; c->member && i < most_members(c); i++) {
        pn_agent_free(c->member[i].agent);
        pn_buf_free(&c->member[i].normal);
    }
    if (c->member) pn_free(c->a, c->member, most_members(c) * sizeof *c->member);
    pn_free(c->a, c->lowest, c->n * sizeof *c->lowest);
    pn_tally_free(&c->tally);
    pn_buf_free(&c->answer);
    pn_buf_free(&c->message);
    pn_config_free(c->config);
    pn_session_free(c->base);
    pn_contemplation_unclaim(c);
    ponder_model *m = c->group ? pn_model_hold(c->group->model) : NULL; /* whose allocator the last line needs */
    pn_group_release(c->group);
    pn_session_free(c->session);
    pn_free(c->a, c, sizeof *c);
    pn_model_release(m);
}

void pn_contemplation_unclaim(ponder_contemplation *c)
{
    if (c->claims) atomic_store(&c->session->busy, false);
    c->claims = false;
}

void pn_contemplation_cancel(ponder_contemplation *c)
{
    atomic_store(&c->cancel, true);
    pn_group_nudge(c->group);
}

/* ---- the clock of tokens --------------------------------------------------------------------------------------- */

static uint32_t round_from(const ponder_contemplation *c) { return (uint32_t)c->round * c->n; }
static uint32_t round_to(const ponder_contemplation *c) { return round_from(c) + c->n; }
static bool running(const member *m) { return m->agent && !m->over && !m->out; }

/* The level that all running agents of the wave have reached. */
static uint64_t reached(const ponder_contemplation *c)
{
    uint64_t least = UINT64_MAX;
    if (!pn_drive_in_step(c->session)) return least; /* servers' streams have no common clock: who is first is first */
    for (uint32_t i = c->wave_from; i < c->spawned; i++)
        if (running(&c->member[i])) least = PN_MIN(least, pn_agent_tokens(c->member[i].agent));
    return least;
}

/* Who ended first of those not yet counted. */
static member *first_over(const ponder_contemplation *c)
{
    member *best = NULL;
    for (uint32_t i = c->wave_from; i < c->spawned; i++) {
        member *m = &c->member[i];
        if (m->over && !m->counted && !m->out && (!best || pn_agent_tokens(m->agent) < pn_agent_tokens(best->agent))) best = m;
    }
    return best;
}

static void put_out(ponder_contemplation *c, member *m, bool dropped)
{
    c->n_over -= m->over;
    m->out = true;
    m->agent->dropped = dropped;
    if (pn_agent_runs(m->agent)) pn_agent_end(m->agent, PONDER_END_CANCELLED);
}

/* Nothing that is not counted by now matters any more. */
static void stop(ponder_contemplation *c, int32_t why)
{
    if (c->stopped) return;
    c->stopped = true;
    c->decided_by = why;
    for (uint32_t i = c->wave_from; i < c->spawned; i++)
        if (!c->member[i].counted && !c->member[i].out) put_out(c, &c->member[i], false);
}

static void drop_weak(ponder_contemplation *c, uint64_t level)
{
    for (uint32_t i = c->wave_from; i < c->spawned; i++) {
        member *m = &c->member[i];
        if (m->out || m->counted || pn_agent_tokens(m->agent) <= (m->over ? level : level - 1)) continue;
        const pn_buf *trail = &m->agent->trail;
        const double sure = pn_confidence_at((const float *)(const void *)trail->p, PN_MIN(level, trail->n / sizeof(float)), c->window);
        if (level >= c->window && sure >= 0 && sure < c->threshold) put_out(c, m, true);
    }
}

static void learn_threshold(ponder_contemplation *c, double lowest)
{
    if (c->drop <= 0 || c->threshold >= 0 || lowest < 0) return;
    uint32_t i = c->n_lowest++;
    for (; i > 0 && c->lowest[i - 1] > lowest; i--) c->lowest[i] = c->lowest[i - 1];
    c->lowest[i] = lowest;
    if (c->n_lowest == c->warm_up || c->n_lowest == c->n) c->threshold = c->lowest[PN_MIN((uint32_t)(c->drop * c->n_lowest), c->n_lowest - 1)];
}

static bool whole(const member *m) { return m->agent->end == PONDER_END_EOS || m->agent->end == PONDER_END_STOP; }

static void vote(ponder_contemplation *c, uint32_t i)
{
    pn_tally_add(&c->tally, (pn_str){c->member[i].normal.p, c->member[i].normal.n}, i, c->member[i].confidence);
}

static uint32_t left_to_vote(const ponder_contemplation *c)
{
    uint32_t n = round_to(c) - c->spawned;
    for (uint32_t i = round_from(c); i < c->spawned; i++) n += !c->member[i].counted && !c->member[i].out;
    return n;
}

static void count(ponder_contemplation *c, member *m)
{
    m->counted = true;
    c->n_over--;
    c->counted++;
    if (whole(m)) vote(c, (uint32_t)(m - c->member));
    learn_threshold(c, m->lowest);
    const uint32_t left = left_to_vote(c);
    const bool last_round = c->round + 1 == (int32_t)c->rounds;
    if (left == 0) return;
    if (c->quorum < 1 && c->counted >= ceil(c->quorum * c->n)) stop(c, PONDER_DECIDED_QUORUM);
    else if (last_round && c->how != WRITTEN && pn_tally_decided(&c->tally, left, c->decide)) stop(c, PONDER_DECIDED_VOTE);
}

static void look(void *contemplation)
{
    ponder_contemplation *c = contemplation;
    while (!c->stopped && c->phase == RUN && (c->n_over || c->threshold >= 0)) {
        member *m = first_over(c);
        const uint64_t sure = reached(c), next = m ? pn_agent_tokens(m->agent) : UINT64_MAX;
        const uint64_t to = PN_MIN(sure, next);
        if (c->threshold >= 0 && to != UINT64_MAX && c->level < to) {
            drop_weak(c, ++c->level);
            continue; /* who ended first may be another one now */
        }
        if (!m || next > sure) return;
        c->level = PN_MAX(c->level, next);
        count(c, m);
    }
}

/* ---- waves and rounds --------------------------------------------------------------------------------------------- */

static uint32_t room_for(const ponder_contemplation *c, size_t suffix)
{
    const uint32_t limit = c->config && pn_config_i64(c->config, PONDER_P_CONTEXT) ? (uint32_t)pn_config_i64(c->config, PONDER_P_CONTEXT)
                                                                                 : pn_drive_limit(c->session);
    const uint64_t need = pn_drive_count(c->base) + suffix + SUFFIX_TOKENS + c->base->max_tokens;
    return c->base->max_tokens && !c->base->tools && need < limit ? (uint32_t)need : limit;
}

static ponder_status spawn(ponder_contemplation *c, pn_str role, pn_str message)
{
    member *m = &c->member[c->spawned];
    ponder_status st = pn_agent_spawn(&m->agent, c->group, c->base, NULL, role, room_for(c, role.n + message.n));
    if (st == PONDER_OK && message.n && (st = pn_session_add(m->agent->session, "user", message.p, message.n)) != PONDER_OK)
        c->base->err = m->agent->session->err;
    if (st != PONDER_OK) {
        c->err = c->base->err;
        pn_agent_free(m->agent);
        m->agent = NULL;
        return st;
    }
    m->agent->session->sampling.seed = c->seed + c->spawned;
    m->agent->round = c->round;
    c->spawned++;
    return PONDER_OK;
}

static pn_str answer_of(const member *m) { return (pn_str){m->agent->text[PN_TEXT_ANSWER].p, m->agent->text[PN_TEXT_ANSWER].n}; }

/* What an agent of a later round is shown of the round before. */
static ponder_status write_peers(ponder_contemplation *c, uint32_t number)
{
    c->message.n = 0;
    const uint32_t from = round_from(c) - c->n;
    const char *given = pn_config_str(c->config, PONDER_P_PEERS_TEXT);
    uint32_t n = 0, *pool = pn_zalloc_array(c->a, 2 * (size_t)c->n, sizeof *pool), *chosen = pool + c->n;
    pn_result *r = pn_zalloc_array(c->a, c->n, sizeof *r);
    ponder_status st = pool && r ? PONDER_OK : pn_nomem(&c->err, c->n * sizeof *r);
    if (st == PONDER_OK) {
        for (uint32_t i = from; i < from + c->n; i++)
            if (c->member[i].agent && c->member[i].counted && c->member[i].normal.n) pool[n++] = i;
        const uint32_t some = pn_results_choose(chosen, c->peers, n, c->seed + number);
        for (uint32_t i = 0; i < some; i++) r[i].text = answer_of(&c->member[pool[chosen[i]]]);
        if (some) st = pn_results_write(&c->message, *given ? given : pn_peers_text, r, some, *given ? "" : pn_peers_close, &c->err);
    }
    pn_free(c->a, pool, 2 * (size_t)c->n * sizeof *pool);
    pn_free(c->a, r, c->n * sizeof *r);
    return st;
}

static ponder_status spawn_next(ponder_contemplation *c)
{
    const uint32_t i = c->spawned - round_from(c);
    ponder_status st = c->round > 0 ? write_peers(c, c->spawned) : PONDER_OK;
    const pn_str role = c->n_roles ? c->config->role.s[i % c->n_roles] : (pn_str){"", 0};
    if (st == PONDER_OK) st = spawn(c, role, c->round > 0 ? (pn_str){c->message.p, c->message.n} : (pn_str){"", 0});
    return st;
}

static void next_wave(ponder_contemplation *c)
{
    c->wave_from = c->spawned;
    c->wave_to = PN_MIN(c->spawned + c->at_once, round_to(c));
    c->level = 0;
    c->phase = SPAWN;
}

static void begin_round(ponder_contemplation *c)
{
    c->counted = c->n_lowest = c->n_over = 0;
    c->threshold = -1;
    c->stopped = false;
    c->decided_by = PONDER_DECIDED_NONE;
    pn_tally_clear(&c->tally);
    next_wave(c);
}

static ponder_status begin(ponder_contemplation *c, uint64_t until)
{
    ponder_session *s = c->session;
    const uint32_t before = pn_drive_computed(s);
    ponder_status st = pn_agent_prepare(s, c->config, until);
    c->prefilled += pn_drive_computed(s) - before;
    if (st == PONDER_E_CANCELLED) { /* ponder_session_cancel, in the middle of the question */
        atomic_store(&c->cancel, true);
        return PONDER_OK;
    }
    if (st == PONDER_OK) st = pn_session_fork_sized(&c->base, s, c->config, pn_drive_count(s) + SUFFIX_TOKENS);
    if (st != PONDER_OK) {
        c->err = s->err;
        return st;
    }
    c->base->depth = s->depth;
    c->shared_tokens = pn_drive_computed(s);
    c->shared_bytes = pn_drive_bytes(s, false);
    begin_round(c);
    return PONDER_OK;
}

/* ---- the answer ---------------------------------------------------------------------------------------------------- */

static ponder_status write_results(ponder_contemplation *c)
{
    const char *given = pn_config_str(c->config, PONDER_P_WRITER_TEXT);
    pn_result *r = pn_zalloc_array(c->a, c->n, sizeof *r);
    if (!r) return pn_nomem(&c->err, c->n * sizeof *r);
    pn_tally_sort(&c->tally);
    for (uint32_t i = 0; i < c->tally.n; i++) r[i] = (pn_result){answer_of(&c->member[c->tally.option[i].voice]), c->tally.option[i].votes};
    c->message.n = 0;
    ponder_status st = pn_results_write(&c->message, pn_writer_open, r, c->tally.n, *given ? given : pn_writer_text, &c->err);
    pn_free(c->a, r, c->n * sizeof *r);
    return st;
}

/* The longest chain of what had to come one after the other. */
static void add_to_chain(ponder_contemplation *c, uint32_t from, uint32_t to)
{
    uint64_t tokens = 0, us = 0;
    for (uint32_t i = from; i < to; i++) {
        const ponder_agent *a = c->member[i].agent;
        if (!a) continue;
        tokens = PN_MAX(tokens, pn_agent_tokens(a));
        us = PN_MAX(us, a->ended_us - a->began_us);
    }
    c->critical_tokens += tokens;
    c->critical_us += us;
}

static ponder_status take_answer(ponder_contemplation *c, const member *m)
{
    const pn_str s = answer_of(m);
    if (!pn_buf_put(&c->answer, s.p, s.n)) return pn_nomem(&c->err, s.n);
    return PONDER_OK;
}

static ponder_status elect(ponder_contemplation *c)
{
    const pn_option *first = pn_tally_leader(&c->tally, NULL);
    if (!first) return PONDER_OK;
    c->chosen = *first;
    c->voters = c->tally.voters;
    c->share = c->tally.weight > 0 ? first->weight / c->tally.weight : 0;
    return PONDER_OK;
}

/* A round is over: another one, the writing, or the vote. */
static ponder_status end_round(ponder_contemplation *c)
{
    bool dropped = false, used_up = false;
    for (uint32_t i = round_from(c); i < c->spawned; i++) {
        dropped |= c->member[i].agent->dropped;
        used_up |= c->member[i].agent->end == PONDER_END_BUDGET;
    }
    if (!c->stopped) c->decided_by = used_up ? PONDER_DECIDED_TOKENS : dropped ? PONDER_DECIDED_DROP : PONDER_DECIDED_ALL;
    add_to_chain(c, round_from(c), c->spawned);
    if (c->decided_by == PONDER_DECIDED_CANCELLED) {
        c->phase = FINISH;
        return PONDER_OK;
    }
    if (c->tally.voters == 0) /* nobody has a whole answer: pieces then */
        for (uint32_t i = round_from(c); i < c->spawned; i++)
            if (c->member[i].counted) vote(c, i);
    ponder_status st = elect(c);
    const bool in_time = c->decided_by != PONDER_DECIDED_DEADLINE && c->decided_by != PONDER_DECIDED_TOKENS;
    if (c->round + 1 < (int32_t)c->rounds && in_time && c->spawned == round_to(c)) {
        c->round++;
        begin_round(c);
        return PONDER_OK;
    }
    c->phase = FINISH;
    if (c->how != WRITTEN || c->tally.n == 0) return st;
    if (!in_time) {
        c->fallback = PONDER_MORE;
        return st;
    }
    if (st == PONDER_OK) st = write_results(c);
    if (st != PONDER_OK) return st;
    c->wave_from = c->spawned;
    if (spawn(c, (pn_str){"", 0}, (pn_str){c->message.p, c->message.n}) == PONDER_OK) c->phase = WRITE;
    else c->fallback = c->err.status;
    return PONDER_OK;
}

static void end_writing(ponder_contemplation *c)
{
    const member *m = &c->member[c->spawned - 1];
    add_to_chain(c, c->spawned - 1, c->spawned);
    if (m->agent->state == PONDER_AGENT_FAILED) c->fallback = m->agent->err.status;
    else if (!whole(m) || m->normal.n == 0) c->fallback = PONDER_MORE;
    if (m->agent->end == PONDER_END_CANCELLED && atomic_load(&c->cancel)) c->decided_by = PONDER_DECIDED_CANCELLED;
    c->phase = FINISH;
}

/* Because they failed, or wrote nothing. */
static ponder_status no_answer(ponder_contemplation *c)
{
    for (uint32_t i = 0; i < c->spawned; i++) {
        const ponder_agent *a = c->member[i].agent;
        if (a->state == PONDER_AGENT_FAILED) return pn_fail(&c->err, a->err.status, "no agent came to an answer; the first that failed: %s", a->err.text);
    }
    return pn_fail(&c->err, PONDER_E_STATE, "no agent came to an answer");
}

static ponder_status finish(ponder_contemplation *c)
{
    ponder_status st = PONDER_OK;
    const bool cancelled = c->decided_by == PONDER_DECIDED_CANCELLED;
    const bool written = c->how == WRITTEN && c->tally.n > 0 && c->fallback == PONDER_OK;
    c->end = PONDER_END_EOS;
    if (cancelled) c->end = PONDER_END_CANCELLED;
    else if (written) st = take_answer(c, &c->member[c->spawned - 1]);
    else if (c->chosen.votes) st = take_answer(c, &c->member[c->chosen.voice]);
    else c->end = c->decided_by == PONDER_DECIDED_DEADLINE ? PONDER_END_TIME : c->decided_by == PONDER_DECIDED_TOKENS ? PONDER_END_BUDGET : PONDER_END_FAILED;
    if (c->end == PONDER_END_FAILED) st = no_answer(c);
    const bool conversation = pn_session_needs(c->session, true) == PONDER_OK;
    if (st == PONDER_OK && c->end == PONDER_END_EOS && conversation)
        if ((st = pn_session_add(c->session, "assistant", c->answer.p, c->answer.n)) != PONDER_OK) c->err = c->session->err;
    c->phase = TELL;
    return st;
}

/* ---- events ------------------------------------------------------------------------------------------------------------ */

/* Calls that the host did not answer get empty results; the agent goes on. */
static ponder_status answer_calls(ponder_agent *a)
{
    ponder_session *s = a->session;
    ponder_status st = PONDER_OK;
    for (uint64_t i = s->n_pending; i < a->turn_calls && st == PONDER_OK; i++) st = pn_session_add_result(s, "", "", 0);
    return st == PONDER_OK ? pn_agent_send(a, NULL, 0) : st;
}

static ponder_status agent_over(ponder_contemplation *c, ponder_agent *a)
{
    member *m = &c->member[a->number];
    if (a->state == PONDER_AGENT_CALLS && !m->out) {
        if (answer_calls(a) == PONDER_OK) return PONDER_OK;
        a->state = PONDER_AGENT_FAILED;
        a->err = a->session->err;
    }
    m->over = true;
    m->out |= a->state == PONDER_AGENT_FAILED || a->state == PONDER_AGENT_CANCELLED;
    c->n_over += !m->out;
    ponder_agent_info info;
    pn_agent_info(a, c->window, &info);
    m->confidence = info.confidence;
    m->lowest = info.lowest;
    c->own_bytes += pn_drive_bytes(a->session, true);
    pn_agent_retire(a);
    const pn_str s = answer_of(m);
    return pn_answer_normal(&m->normal, s, c->form, c->a, &c->err);
}

static uint64_t spent(const ponder_contemplation *c) { return c->spent_us + (c->entered_us ? pn_now_us() - c->entered_us : 0); }

/* Time over or cancelled: in the middle of a step, too. */
static void look_up(ponder_contemplation *c)
{
    const bool cancelled = atomic_load(&c->cancel) || pn_drive_cancelled(c->session);
    const bool late = c->deadline_us && spent(c) >= c->deadline_us;
    if (cancelled) atomic_store(&c->cancel, true);
    if (!cancelled && !late) return;
    if (c->phase != WRITE) stop(c, cancelled ? PONDER_DECIDED_CANCELLED : PONDER_DECIDED_DEADLINE);
    else if (running(&c->member[c->spawned - 1])) put_out(c, &c->member[c->spawned - 1], false);
}

static uint64_t soonest(const ponder_contemplation *c, uint64_t until)
{
    if (!c->deadline_us || c->stopped) return until;
    const uint64_t done = spent(c), at = pn_now_us() + (c->deadline_us > done ? c->deadline_us - done : 0);
    return until ? PN_MIN(until, at) : at;
}

static ponder_status run(ponder_contemplation *c, uint64_t until, ponder_event *event)
{
    ponder_agent *a = NULL;
    pn_group_calm(c->group);
    look_up(c);
    ponder_status st = pn_group_next(c->group, soonest(c, until), &a, event, &c->err);
    if (st < 0) return st;
    if (st == PONDER_OK && event->kind == PONDER_EVENT_DONE && (st = agent_over(c, a)) != PONDER_OK) return st;
    look(c);
    if (st == PONDER_MORE && until && pn_now_us() >= until) return st;
    if (st == PONDER_MORE || event->kind) return PONDER_OK;
    if (c->phase == WRITE) end_writing(c);
    else if (!c->stopped && c->spawned < round_to(c)) next_wave(c);
    else st = end_round(c);
    return st;
}

static void tell(ponder_contemplation *c, ponder_event *event)
{
    *event = (ponder_event){.size = sizeof *event, .token = -1, .agent = -1, .text = ""};
    if (c->answer.n && c->phase == TELL) {
        event->kind = PONDER_EVENT_ANSWER;
        event->text = c->answer.p;
        event->text_bytes = c->answer.n;
        c->phase = OVER;
        return;
    }
    ponder_contemplation_info i;
    pn_contemplation_info(c, &i);
    event->kind = PONDER_EVENT_DONE;
    event->end = c->end;
    event->prompt_tokens = i.prompt_tokens;
    event->reused_tokens = i.shared_tokens;
    event->output_tokens = i.tokens;
    event->thought_tokens = i.thought_tokens;
    event->decode_us = i.us;
    c->phase = OVER;
    c->level = UINT64_MAX; /* told */
}

static ponder_status proceed(ponder_contemplation *c, uint64_t until, ponder_event *event)
{
    ponder_status st = PONDER_OK;
    switch (c->phase) {
    case BEGIN:
        look_up(c);
        if (c->stopped) {
            c->phase = FINISH;
            return PONDER_OK;
        }
        return begin(c, soonest(c, until));
    case SPAWN:
        look_up(c);
        if (!c->stopped && c->spawned < c->wave_to) return spawn_next(c);
        c->phase = RUN;
        return PONDER_OK;
    case RUN: case WRITE: return run(c, until, event);
    case FINISH: return finish(c);
    default:
        if (c->level == UINT64_MAX) return pn_fail(&c->err, PONDER_E_STATE, "the contemplation is over");
        tell(c, event);
        return st;
    }
}

ponder_status pn_contemplation_next(ponder_contemplation *c, uint64_t until, ponder_event *event)
{
    ponder_status st = PONDER_OK;
    *event = (ponder_event){.size = sizeof *event, .token = -1, .agent = -1, .text = ""};
    c->entered_us = pn_now_us();
    pn_error_clear(&c->err);
    while (st == PONDER_OK && !event->kind) {
        st = proceed(c, until, event);
        if (st == PONDER_MORE && !(until && pn_now_us() >= until)) st = PONDER_OK; /* a deadline, or a nudge */
        else if (st == PONDER_OK && !event->kind && until && pn_now_us() >= until) st = PONDER_MORE;
    }
    c->spent_us += pn_now_us() - c->entered_us;
    c->entered_us = 0;
    return st;
}

/* ---- what is known of it ------------------------------------------------------------------------------------------------- */

void pn_contemplation_info(const ponder_contemplation *c, ponder_contemplation_info *out)
{
    *out = (ponder_contemplation_info){
        .size = sizeof *out, .decided_by = c->decided_by, .end = c->end, .agents = c->spawned, .round = c->round,
        .votes = c->chosen.votes, .voters = c->voters, .share = c->share, .fallback = c->fallback, .us = spent(c),
        .critical_tokens = c->critical_tokens, .critical_us = c->critical_us, .shared_tokens = c->shared_tokens, .shared_bytes = c->shared_bytes,
        .own_bytes = c->own_bytes, .prompt_tokens = c->prefilled, .writer = -1};
    for (uint32_t i = 0; i < c->spawned; i++) {
        ponder_agent_info a;
        pn_agent_info(c->member[i].agent, c->window, &a);
        out->finished += c->member[i].counted && whole(&c->member[i]);
        out->dropped += c->member[i].agent->dropped;
        out->tokens += a.tokens;
        out->thought_tokens += a.thought_tokens;
        out->prompt_tokens += a.prompt_tokens;
    }
    if (c->how == WRITTEN && c->end == PONDER_END_EOS && c->tally.n > 0 && c->fallback == PONDER_OK) out->writer = (int32_t)c->spawned - 1;
}

pn_str pn_contemplation_answer(const ponder_contemplation *c) { return (pn_str){c->answer.p, c->answer.n}; }

ponder_agent *pn_contemplation_agent(const ponder_contemplation *c, uint32_t number)
{
    return number < c->spawned ? c->member[number].agent : NULL;
}

ponder_session *pn_contemplation_session(const ponder_contemplation *c) { return c->session; }
pn_group *pn_contemplation_group(const ponder_contemplation *c) { return c->group; }
ponder_error *pn_contemplation_error(ponder_contemplation *c) { return &c->err; }
bool pn_contemplation_over(const ponder_contemplation *c) { return c->phase == OVER && c->level == UINT64_MAX; }
pid_t pn_contemplation_pid(const ponder_contemplation *c) { return c->pid; }
