/* agents: sessions that grew out of another one and run as rows of its engine's steps, and what is made of many: a
 * contemplation. Everything here speaks to sessions; drive.c alone knows that an engine is behind them. */
#ifndef PN_AGENTS_H
#define PN_AGENTS_H

#include "session/session.h"

typedef struct pn_group pn_group;

/* Texts of a turn by channel. */
enum { PN_TEXT_THOUGHT, PN_TEXT_COMMENTARY, PN_TEXT_ANSWER, PN_TEXT_CALLS, PN_TEXTS };

struct ponder_agent {
    pid_t pid;
    pn_group *group;
    ponder_session *session;  /* NULL: given up, what it wrote stays */
    uint32_t number, at;      /* at: in the group's list */
    int32_t state, end, round;
    bool dropped;
    bool models;              /* the model spawned it */
    bool entered;             /* the session's clock runs */
    bool blocked;             /* by the tokens that are shared, when last polled */
    ponder_error err;
    _Atomic bool cancel;
    pn_buf text[PN_TEXTS];    /* of the last turn; of calls: an open JSON list */
    pn_buf trail;             /* float log-probability of each token; NAN: none was sampled */
    uint64_t tokens, thought_tokens, calls, prompt_tokens, shared_tokens; /* of the turns that are over */
    uint64_t turn_tokens;     /* of the one under way */
    uint64_t turn_calls, turn_answered;
    uint64_t began_us, ended_us;
};

/* ---- groups ------------------------------------------------------------------------------------------ */

struct pn_group {
    pn_attached attached;     /* of the sessions that it came from and of those in it */
    _Atomic uint32_t refs;
    const ponder_alloc *a;
    ponder_model *model;
    _Atomic bool busy;
    _Atomic bool nudge;       /* somebody else's thread wants something: look up from the step */
    ponder_agent **agent;     /* in order of spawning */
    union { pn_sequence *seq; struct pn_request *request; } *waiting; /* [cap_waiting]; scratch of drive.c */
    uint32_t n, cap, cap_waiting, spawned;
    uint32_t next;            /* who is polled next */
    bool wall;                /* the caller waits: its agents' time is the wall's */
    void (*look)(void *looker); /* after each poll; it may end agents' turns */
    void *looker;
    uint32_t window;          /* of confidence; 0: the default */
    uint64_t limit, gone;     /* tokens together, 0: no limit; of agents that were freed */
};

ponder_status pn_group_new(pn_group **out, ponder_model *m, ponder_error *err);
pn_group *pn_group_hold(pn_group *g);
void pn_group_release(pn_group *g);
/* The group of agents that come from this session; made when first needed. */
ponder_status pn_group_of(pn_group **out, ponder_session *s);
/* Takes a nudge back; what it was for is looked at after this. */
static inline void pn_group_calm(pn_group *g) { atomic_store(&g->nudge, false); }
void pn_group_nudge(pn_group *g);
/* The next event of a running agent. PONDER_MORE: the time is over (until: as pn_session_next), or a nudge. PONDER_OK with event->kind 0:
 * none is running. Failures are the engine's; an agent's own are events. */
ponder_status pn_group_next(pn_group *g, uint64_t until, ponder_agent **whose, ponder_event *event, ponder_error *err);

/* drive.c: what is behind a session. Of a server: no tokens, no bytes. */
uint32_t pn_drive_count(const ponder_session *s);
uint32_t pn_drive_computed(const ponder_session *s);
uint32_t pn_drive_limit(const ponder_session *s);
uint64_t pn_drive_bytes(const ponder_session *s, bool own); /* key-value bytes it has; own: that no other session has */
bool pn_drive_empty(const ponder_session *s);    /* nothing of the conversation was computed or sent */
bool pn_drive_in_step(const ponder_session *s);  /* agents get their tokens together: a clock of tokens makes sense */
bool pn_drive_waits(const ponder_session *s);    /* its next token has been asked for */
bool pn_drive_cancelled(const ponder_session *s); /* by the host, from wherever */
void pn_drive_forget_cancel(ponder_session *s);
/* Until a token of one of the group's running agents is there, the time is over or the group is nudged (PONDER_MORE). */
ponder_status pn_drive_group(pn_group *g, uint64_t until, ponder_error *err);

/* ---- agents ---------------------------------------------------------------------------------------------- */

/* From a session whose messages were computed (pn_agent_prepare), as far as they can be shared. tokens: its context; 0: the
 * config's. */
ponder_status pn_agent_prepare(ponder_session *s, const ponder_config *c, uint64_t until);
ponder_status pn_agent_spawn(ponder_agent **out, pn_group *g, ponder_session *s, const ponder_config *c, pn_str role, uint32_t tokens);
void pn_agent_free(ponder_agent *a);
ponder_status pn_agent_send(ponder_agent *a, const char *text, size_t n);
/* One look at a running agent: at most one token and one event (PONDER_MORE: none). */
ponder_status pn_agent_poll(ponder_agent *a, ponder_event *event);
void pn_agent_end(ponder_agent *a, int32_t end); /* its turn, in its next poll */
void pn_agent_retire(ponder_agent *a);           /* gives its session and pages up */
void pn_agent_info(const ponder_agent *a, uint32_t window, ponder_agent_info *out);
static inline uint64_t pn_agent_tokens(const ponder_agent *a) { return a->tokens + a->turn_tokens; }
static inline bool pn_agent_runs(const ponder_agent *a) { return a->state == PONDER_AGENT_RUNNING; }

/* ---- confidence -------------------------------------------------------------------------------------------- */

/* Of log-probabilities: the mean of all, and the lowest mean of `window` in a row (of all when they are fewer), each as a
 * probability; -1: of nothing. */
typedef struct pn_confidence {
    double mean, lowest;
} pn_confidence;
pn_confidence pn_confidence_of(const float *logprob, size_t n, uint32_t window);
/* The mean of the window that ends before `end`, as a probability; -1: nothing in it. */
double pn_confidence_at(const float *logprob, size_t end, uint32_t window);

/* ---- answers ------------------------------------------------------------------------------------------------- */

typedef enum pn_form { PN_FORM_ANY, PN_FORM_NUMBER, PN_FORM_CHOICE, PN_FORM_JSON, PN_FORM_TEXT } pn_form;
pn_form pn_form_by_name(const char *name);
/* Two answers are the same one when their normal forms are the same bytes; an empty one is no answer. */
ponder_status pn_answer_normal(pn_buf *out, pn_str answer, pn_form form, const ponder_alloc *a, ponder_error *err);

/* ---- votes ----------------------------------------------------------------------------------------------------- */

typedef struct pn_option {
    pn_str normal;            /* borrowed */
    uint32_t voice;           /* whose text speaks for it: the surest of its voters, the first of those */
    uint32_t votes;
    double weight, sureness, best; /* weight: what counts; sureness: sum of confidences; best: of voice */
} pn_option;

typedef struct pn_tally {
    const ponder_alloc *a;
    pn_option *option;
    uint32_t n, cap, voters;
    double weight;            /* of all votes */
    bool weighted;            /* a vote counts as its agent's confidence, squared */
} pn_tally;

ponder_status pn_tally_init(pn_tally *t, uint32_t most, bool weighted, const ponder_alloc *a, ponder_error *err);
void pn_tally_free(pn_tally *t);
void pn_tally_clear(pn_tally *t);
void pn_tally_add(pn_tally *t, pn_str normal, uint32_t voice, double confidence); /* an empty answer is no vote */
/* Best first: by weight, then by sureness, then by who came first. NULL: nobody voted. */
void pn_tally_sort(pn_tally *t);
const pn_option *pn_tally_leader(const pn_tally *t, const pn_option **second);
/* Whether the leader stays it although `left` more may vote: for certain (1), or with this probability, if the two that are
 * ahead were the only ones (Adaptive-Consistency, arXiv 2305.11860). */
bool pn_tally_decided(const pn_tally *t, uint32_t left, double certainty);

/* ---- what agents are shown of each other -------------------------------------------------------------------------- */

typedef struct pn_result {
    pn_str text;
    uint32_t votes;           /* 0: unsaid */
} pn_result;
/* Numbered and shortened, between the two texts. */
ponder_status pn_results_write(pn_buf *out, const char *before, const pn_result *r, size_t n, const char *behind, ponder_error *err);
extern const char pn_peers_text[], pn_peers_close[], pn_writer_open[], pn_writer_text[];
/* `want` different numbers below n in an order that depends on the seed alone. */
uint32_t pn_results_choose(uint32_t *out, uint32_t want, uint32_t n, uint64_t seed);

/* ---- contemplation ---------------------------------------------------------------------------------------------------- */

/* The session is busy (its flag is set, by the caller) until pn_contemplation_unclaim, or the free. */
ponder_status pn_contemplation_new(ponder_contemplation **out, ponder_session *s, const ponder_config *c);
void pn_contemplation_free(ponder_contemplation *c);
ponder_status pn_contemplation_next(ponder_contemplation *c, uint64_t until, ponder_event *event);
void pn_contemplation_cancel(ponder_contemplation *c);
void pn_contemplation_info(const ponder_contemplation *c, ponder_contemplation_info *out);
pn_str pn_contemplation_answer(const ponder_contemplation *c);
ponder_agent *pn_contemplation_agent(const ponder_contemplation *c, uint32_t number); /* NULL: there is none */
void pn_contemplation_unclaim(ponder_contemplation *c);
bool pn_contemplation_over(const ponder_contemplation *c); /* DONE was told */
pn_group *pn_contemplation_group(const ponder_contemplation *c);
ponder_error *pn_contemplation_error(ponder_contemplation *c);
ponder_session *pn_contemplation_session(const ponder_contemplation *c);
pid_t pn_contemplation_pid(const ponder_contemplation *c);

/* ---- the model's own agents ---------------------------------------------------------------------------------------------- */

typedef struct pn_subagents_host {
    int32_t (*tell)(void *user, const ponder_event *event); /* events of agents; non-zero ends the wait */
    ponder_on_call on_call;   /* for tools that are not the library's; may be NULL */
    void *user;
} pn_subagents_host;

bool pn_subagents_is(const ponder_session *s, pn_str name); /* one of the tools that the session offers */
/* Answers such a call; *ours false: it is another tool. A wait drives the agents. name ends in NUL. */
ponder_status pn_subagents_answer(ponder_session *s, pn_str name, pn_str arguments, const pn_subagents_host *host, bool *ours);
bool pn_subagents_announced(pn_str text); /* that agents are started */

#endif
