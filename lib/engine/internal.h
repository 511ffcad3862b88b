/* Inside the engine room. */
#ifndef PN_ENGINE_INTERNAL_H
#define PN_ENGINE_INTERNAL_H

#include <pthread.h>

#include "base/work.h"
#include "engine/engine.h"
#include "engine/pages.h"

typedef struct pn_table {
    pn_page **page;           /* [slots]; NULL: not kept */
    uint8_t **bytes;          /* the same pages' memory, as the decoder wants it */
    uint64_t credits;
    uint32_t first_kept;      /* of a window: pages below are gone (but for the mark's) */
} pn_table;

typedef struct pn_row_span {
    uint32_t at, n, from;     /* positions at..at+n-1 are rows from.. */
    pn_rows *rows;
} pn_row_span;

/* A caller inside a wait, on its own stack. */
typedef struct pn_caller {
    struct pn_caller *next, *prev;
    pthread_cond_t wake;
    const _Atomic bool *cancel;
    bool polls;               /* cancel is no sequence's: nobody wakes us when it is set */
    bool task, asleep;
} pn_caller;

/* What a look-up knows: the place whose token it expects next, and how many tokens before it agreed. */
enum { PN_LOOKUP_CLASSES = 6 };
typedef struct pn_lookup {
    uint32_t seen, at, agreed; /* tokens it has seen; agreed 0: it expects nothing */
    float hit[PN_LOOKUP_CLASSES]; /* share of expected tokens that came, by how many had agreed before */
    uint32_t times[PN_LOOKUP_CLASSES]; /* ... of so many */
} pn_lookup;

/* Moves a mean by what was seen now. A first opinion counts as `few` observations, and more than `many` fade. */
static inline void pn_note_mean(float *mean, uint32_t *times, float newest, uint32_t few, uint32_t many)
{
    *times = PN_MIN(PN_MAX(*times, few) + 1, many);
    *mean += (newest - *mean) / (float)*times;
}

/* How a drafter does on a sequence's text. A guess's class is how probable the drafter thinks it. */
enum { PN_LUCK_CLASSES = 8 };
typedef struct pn_luck {
    float hit[PN_LUCK_CLASSES]; /* share of guesses that came, where all before them had */
    uint32_t times[PN_LUCK_CLASSES];
    float taken;              /* guesses that came, a pass */
    uint32_t passes;          /* that it is the mean of */
    uint32_t pause;           /* steps until a pass is tried again, when they did not pay */
    int32_t guess[PN_DRAFT_MOST]; /* of the newest pass, */
    uint8_t rank[PN_DRAFT_MOST]; /* their classes, */
    uint32_t n, at;           /* how many, for the tokens from which on */
    uint64_t accepted;        /* by the sequence, before it */
} pn_luck;

typedef struct pn_drafts {
    uint32_t most;            /* a step; 0: off */
    pn_propose propose;       /* NULL: the look-up */
    void *user;
    pn_lookup lookup;
    bool ask;                 /* the drafter */
    bool wanted;              /* a pass, before the next step */
    pn_luck luck;
    uint32_t n;               /* proposed for the next step: ids behind the sequence's own, and */
    float chance[PN_DRAFT_MOST];
    uint32_t in_step;         /* of them, taken into the step that is laid out */
    float *rows;              /* [most + 1][vocab] once there were drafts: after the token before them, and after each */
    uint32_t cap;             /* drafts that rows has room for */
    int32_t ahead[PN_DRAFT_MOST];
    uint32_t ahead_at, ahead_to; /* computed, and in the store behind `past`, if they are appended now */
    uint64_t drafted, accepted;
} pn_drafts;

/* Time of a step as a line over its columns, fitted to the newest steps in which sequences generate. */
typedef struct pn_step_cost {
    double w, x, y, xx, xy;
} pn_step_cost;

struct pn_sequence {
    pn_engine *e;
    pn_sequence *next, *prev;
    int32_t *ids;
    uint32_t n, past, limit, slots;
    uint32_t mark;
    pn_row_span *spans;       /* in order of position */
    uint32_t n_spans, cap_spans;
    const float **row_at;     /* [limit] once there are spans, else NULL; NULL: the token's own embedding */
    pn_table table[PN_GROUPS];
    uint32_t context_from;    /* positions before it have no keys of the drafter's */
    float *logits;
    const float *last;        /* [vocab] after token `past`: in logits or among the drafts' rows */
    bool logits_valid;
    pn_drafts drafts;
    float *spare;             /* [vocab] once there was a hold: its logits, while it lasts */
    uint32_t hold;            /* tokens before the try; 0: there is none */
    /* what its caller waits for */
    bool waiting, in_step, done;
    ponder_status failed;     /* done, but without what was asked for: e->failure says why */
    bool hot;                 /* its caller is expected back soon */
    uint8_t late;             /* how often in a row it came after the next step had begun */
    bool at_once;             /* its caller blocks, and so comes back as soon as it has sampled */
    pn_caller *caller;        /* who is to be woken when it is done */
    pn_outputs outputs;       /* logits or hidden set: for every token; advanced as they are filled */
    bool every;
    _Atomic bool cancel;
};

struct pn_engine {
    const pn_network *n;
    const ponder_alloc *a;
    pn_engine_options o;
    pn_limits limits;
    pn_kv_layout layout;
    pn_pool pool[PN_GROUPS];
    pn_team *team;
    pn_program *program;
    pn_cursor cursor;         /* of the step that is laid out */
    pthread_mutex_t mutex;
    pthread_condattr_t clock;
    pthread_cond_t rested;    /* nobody computes: for pausers */
    bool leading, active;     /* some caller computes or gathers; a step is laid out */
    _Atomic bool rest;        /* whoever computes comes back at the next tile, and looks who was cancelled */
    pn_caller *callers, *last_caller, *gatherer, *heir; /* heir: woken to lead */
    uint32_t n_callers, n_tasks; /* of them, those that wait for a step, for a task */
    bool tasks_turn;          /* steps and tasks take turns */
    uint32_t pausers;         /* callers that want the step to rest at a tile */
    uint32_t n_waiting, n_hot; /* sequences that want a step; whose callers will soon want one */
    pn_sequence *first, *last;
    pn_run *runs;
    pn_sequence **run_of;     /* the sequence of each run; NULL: dropped */
    uint32_t n_runs, n_live;  /* runs; those that were not dropped */
    uint64_t steps, prefilled, sleeps;
    ponder_error failure;     /* of the newest step that could not read an expert */
    uint64_t busy_us, step_us; /* computing alone: of the step under way, of the last one */
    _Atomic uint64_t prefill_ns, decode_us;
    pn_step_cost cost;
    uint64_t drafted, accepted;
    pn_program *drafter;      /* NULL: none */
    pn_limits drafter_limits;
    bool always_draft;
    bool passing, passed;     /* what is laid out is a pass; the newest step was one */
    uint64_t passes, pass_us; /* smoothed, of a sequence; 0: not measured yet */
    float luck;               /* guesses that come, a pass, of the newest texts */
    uint64_t before_us;       /* of the pass before the step under way: a token waits for both */
};

static inline uint32_t pn_pending(const pn_sequence *s) { return s->n - s->past; }
static inline bool pn_wants_step(const pn_sequence *s) { return s->waiting && !s->done && !s->in_step && pn_pending(s) > 0; }
static inline bool pn_generates(const pn_sequence *s) { return pn_pending(s) == 1 && !s->every; }

/* ---- callers; all under the lock -------------------------------------------------------------------- */

void pn_callers_init(pn_engine *e);
void pn_callers_free(pn_engine *e);
void pn_caller_enter(pn_engine *e, pn_caller *c, const _Atomic bool *cancel, bool task);
void pn_caller_leave(pn_engine *e, pn_caller *c);
bool pn_caller_may_lead(const pn_engine *e, const pn_caller *c);
void pn_caller_sleep(pn_engine *e, pn_caller *c, uint64_t until);   /* 0: until it is woken */
void pn_caller_wake(pn_caller *c);
void pn_caller_gather(pn_engine *e, pn_caller *c, uint64_t until);  /* at the head, without computing */
bool pn_gather_more(const pn_engine *e);                            /* a step would be larger for waiting */
/* Unlocks while computing; true: the work is finished. */
bool pn_engine_lead(pn_engine *e, pn_cursor *c, uint64_t until, const _Atomic bool *cancel);

/* Between the two nobody computes. */
void pn_engine_pause(pn_engine *e);
void pn_engine_resume(pn_engine *e);

/* Spans of rows; room for one more comes first. */
ponder_status pn_sequence_room_for_rows(pn_sequence *s, ponder_error *err);
void pn_sequence_bind_rows(pn_sequence *s, uint32_t at, pn_rows *rows, uint32_t from, uint32_t n);
ponder_status pn_sequence_copy_rows(pn_sequence *to, const pn_sequence *from, ponder_error *err);
void pn_sequence_cut_rows(pn_sequence *s, uint32_t tokens);

/* The sequence waits for nothing any more, and a step it is part of goes on without it. */
void pn_sequence_withdraw(pn_sequence *s);
void pn_engine_drop_run(pn_engine *e, pn_sequence *s);   /* of the step that is laid out; nobody computes */
void pn_engine_to_back(pn_sequence *s);                  /* others are served first */
bool pn_sequence_prepare(pn_sequence *s, uint32_t n);   /* pages of the next n positions, own ones */
bool pn_sequence_prepare_block(pn_sequence *s, uint32_t n); /* ... the drafter's alone */
void pn_sequence_commit(pn_sequence *s, uint32_t n);
/* Drafts. The first and the last two under the lock. */
void pn_drafts_note_step(pn_engine *e, uint32_t columns, uint64_t us);
void pn_drafts_computed(pn_sequence *s, uint32_t n);    /* so many behind the last token, in a step that is committed */
void pn_sequence_look_ahead(pn_sequence *s);            /* proposes, before the sequence waits */
void pn_sequence_take_ahead(pn_sequence *s);            /* tokens that were computed ahead and have been appended */
void pn_lookup_init(pn_lookup *l);
uint32_t pn_lookup_propose(pn_lookup *l, const int32_t *ids, uint32_t n, int32_t *out, float *chance, uint32_t most);
void pn_drafts_forget(pn_sequence *s);
void pn_drafts_free(pn_sequence *s);
/* A step's time with so many generating sequences; 0: not measured. */
double pn_drafts_step_us(const pn_engine *e, uint32_t generating, double *column_us);
/* A drafter's passes. All but the first three under the lock. */
extern const float pn_luck_hoped;                       /* guesses that come, a pass, before any was seen */
void pn_luck_init(pn_luck *l);
void pn_luck_see(pn_luck *l, const int32_t *ids, uint32_t n, uint64_t accepted); /* what came of the newest guesses */
void pn_luck_guess(pn_luck *l, uint32_t i, uint32_t at, int32_t id, float probability, float *chance); /* *chance: of the one before, then its own */
bool pn_luck_pays(pn_luck *l, double pass, double column, uint32_t generating); /* times as shares of a step's */
void pn_engine_begin(pn_engine *e, pn_program *p, bool passing);
bool pn_drafter_lay_out(pn_engine *e);                  /* a pass for those who want one; false: for nobody */
void pn_drafter_commit(pn_engine *e);
/* The chance below which a draft does not pay for its column in a step of so many generating sequences. */
float pn_drafts_least_chance(const pn_engine *e, uint32_t generating);

void pn_sequence_trim(pn_sequence *s);                  /* drop pages of windows that no position needs */

#endif
