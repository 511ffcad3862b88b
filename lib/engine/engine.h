/* engine: a paged key-value store, sequences over it, and steps that take every waiting sequence through the decoder
 * together. There is no hidden thread: whoever waits for a sequence leads, one caller at a time; the others sleep. A step
 * changes nothing that lasts until it is committed, so it can be parked or abandoned at any tile. */
#ifndef PN_ENGINE_H
#define PN_ENGINE_H

#include <stdatomic.h>

#include "decoder/decoder.h"

typedef struct pn_engine pn_engine;
typedef struct pn_sequence pn_sequence;

typedef struct pn_engine_options {
    uint32_t threads;         /* the caller's included */
    const ponder_runner *runner; /* or NULL; copied */
    uint32_t cpu;             /* PN_CPU_* allowed */
    uint32_t columns, chunk, sequences;
    pn_kv_type kv;
} pn_engine_options;

/* The network is borrowed. The team is taken over, also on failure. */
ponder_status pn_engine_new(pn_engine **out, const pn_network *n, const pn_engine_options *o, pn_team *team,
                            const ponder_alloc *a, ponder_error *err);
void pn_engine_free(pn_engine *e); /* every sequence must have been freed */

/* What an engine with these options allocates, and what a sequence of `tokens` reserves. */
void pn_engine_limits(const pn_description *d, const pn_engine_options *o, pn_limits *out);
void pn_engine_drafter_limits(const pn_description *drafter, const pn_engine_options *o, pn_limits *out); /* of its passes */
/* `tokens`, halved until what a sequence of them reserves is at most `bytes` (or 1). */
uint32_t pn_engine_fit(const pn_engine *e, uint32_t tokens, uint64_t bytes);
uint64_t pn_kv_reserve_bytes(const pn_kv_layout *l, uint32_t columns, uint64_t tokens);
uint64_t pn_sequence_own_bytes(const pn_description *d, uint64_t tokens); /* beside its pages */

typedef struct pn_engine_counts {
    uint64_t steps, prefilled, kv_bytes; /* pages in use; shared ones count once */
    uint64_t sleeps;          /* times that a caller went to sleep */
    pn_expert_counts experts; /* zeros when all are held */
    uint64_t drafted, accepted; /* draft tokens computed; of them, those that were then appended */
    uint64_t passes;          /* of a drafter */
    uint32_t threads, cpu;
} pn_engine_counts;
void pn_engine_read_counts(pn_engine *e, pn_engine_counts *out);

/* Smoothed over the newest steps, of computing alone; 0: not measured yet. */
typedef struct pn_engine_speed {
    uint64_t prefill_ns;      /* a token of a prompt */
    uint64_t decode_us;       /* a step in which sequences generate */
} pn_engine_speed;
pn_engine_speed pn_engine_measured(const pn_engine *e); /* any thread */

/* ---- sequences: one thread at a time each, any number of threads on one engine ------------------------ */

/* Pages for `tokens` positions are reserved, or PONDER_E_NOMEM. */
ponder_status pn_sequence_new(pn_sequence **out, pn_engine *e, uint32_t tokens, ponder_error *err);
void pn_sequence_free(pn_sequence *s);
/* The same tokens, pages shared until one of the two writes. */
ponder_status pn_sequence_fork(pn_sequence **out, pn_sequence *s, uint32_t tokens, ponder_error *err);

uint32_t pn_sequence_limit(const pn_sequence *s);     /* tokens it may hold */
uint32_t pn_sequence_count(const pn_sequence *s);     /* tokens it holds */
uint32_t pn_sequence_computed(const pn_sequence *s);  /* of them, how many the store has */
const int32_t *pn_sequence_ids(const pn_sequence *s);
uint64_t pn_sequence_bytes(const pn_sequence *s);
uint64_t pn_sequence_kv_bytes(const pn_sequence *s, bool own); /* of the pages it has; own: those that no other has */
ponder_status pn_sequence_append(pn_sequence *s, const int32_t *ids, size_t n, ponder_error *err); /* PONDER_E_CONTEXT */
/* Rows of a tower ([n][width], before the decoder's own norm of its input). Shared by count; immutable once appended. */
typedef struct pn_rows {
    _Atomic uint32_t refs;
    uint32_t n, width;
    const ponder_alloc *a;
    uint64_t hash;            /* of what they were made from */
    float v[];
} pn_rows;

ponder_status pn_rows_new(pn_rows **out, uint32_t n, uint32_t width, uint64_t hash, const ponder_alloc *a, ponder_error *err);
pn_rows *pn_rows_hold(pn_rows *r);
void pn_rows_release(pn_rows *r);
size_t pn_rows_bytes(const pn_rows *r);
/* Appends n tokens `id` whose embeddings are rows from..from+n-1. The sequence holds the rows. */
ponder_status pn_sequence_append_rows(pn_sequence *s, int32_t id, pn_rows *rows, uint32_t from, uint32_t n, ponder_error *err);

/* A turn starts here: rewinding to this position stays free. */
void pn_sequence_mark(pn_sequence *s);
/* Keeps the first `tokens`; *recompute: how many of them the store has lost (sliding layers) and will compute again. */
ponder_status pn_sequence_rewind(pn_sequence *s, uint32_t tokens, uint32_t *recompute, ponder_error *err);

/* A try: tokens after the hold are taken back by pn_sequence_return, which costs nothing and leaves the sequence, its logits
 * too, bit for bit as it was. The logits must be there (pn_sequence_logits), and the try be no longer than pn_engine_try_most
 * tokens. Whatever else changes the sequence has to come after the return. The first hold allocates. */
ponder_status pn_sequence_hold(pn_sequence *s, ponder_error *err);
void pn_sequence_return(pn_sequence *s);              /* without a hold: nothing */
uint32_t pn_sequence_held(const pn_sequence *s);      /* tokens before the try, or all that there are */
uint32_t pn_engine_try_most(const pn_engine *e);

/* Logits after the last token ([vocab]), or NULL when they have to be computed first. */
const float *pn_sequence_logits(const pn_sequence *s);

/* ---- drafts --------------------------------------------------------------------------------------------
 * Behind the one token that a generating sequence computes, a step may compute tokens that will probably follow it, with the
 * logits after each. Should they be appended, they and their logits are there; should others, they are forgotten. Nothing else
 * of a sequence shows that they were computed. */
enum { PN_DRAFT_MOST = 31 };

/* Writes at most `most` ids that probably follow the n (which end in one not computed yet), and how probable it is that each of
 * them comes to be appended, falling; returns how many. On the sequence's caller's thread. */
typedef uint32_t (*pn_propose)(void *user, const int32_t *ids, uint32_t n, int32_t *out, float *chance, uint32_t most);

/* At most so many drafts a step (0: none), looked up in the sequence's own tokens. Forks take it over. */
void pn_sequence_draft(pn_sequence *s, uint32_t most);
/* The drafts come of the network's drafter: a pass of it before a step, where it seems to be worth its time. Without a drafter: the look-up.
 * Forks take it over. */
void pn_sequence_ask_drafter(pn_sequence *s, bool ask);
void pn_engine_always_draft(pn_engine *e);            /* whatever passes and their guesses' columns cost: for tests */
void pn_sequence_propose(pn_sequence *s, pn_propose propose, void *user); /* in the place of the look-up; NULL: again that */
void pn_sequence_read_drafts(const pn_sequence *s, uint64_t *drafted, uint64_t *accepted);

/* Computes every token that the store does not have, and the logits after the last one. `until`: pn_now_us() at which to
 * come back with PONDER_MORE, 0: never. PONDER_E_CANCELLED after pn_sequence_cancel; PONDER_E_IO: an expert could not be read. After
 * both, the tokens that were not computed still wait to be. */
ponder_status pn_sequence_advance(pn_sequence *s, uint64_t until, ponder_error *err);

/* Asks for the same without waiting: whoever leads next takes it along. A later advance collects it. */
void pn_sequence_submit(pn_sequence *s);

/* One caller and many sequences: pn_sequence_advance(s, PN_POLL) submits and never computes (PONDER_MORE until it is done);
 * then pn_engine_advance_any leads until at least one of the submitted ones is done, or as pn_sequence_advance. `cancel`
 * set: PONDER_E_CANCELLED, nothing is withdrawn. */
#define PN_POLL 2 /* as a time: long past, and not the 1 that asks for the least slice */
ponder_status pn_engine_advance_any(pn_engine *e, pn_sequence *const *s, uint32_t n, uint64_t until, const _Atomic bool *cancel, ponder_error *err);
void pn_engine_nudge(pn_engine *e); /* after `cancel` was set: it is looked at after the next tile. Any thread, a signal handler too */
bool pn_sequence_submitted(const pn_sequence *s); /* of its own caller's: it was asked for and not collected */

/* The same, filling for each token not computed yet: logits [n][vocab] and/or hidden [n][width] after `layer` (layers:
 * after the final norm). */
typedef struct pn_outputs {
    float *logits, *hidden;
    uint32_t layer;
} pn_outputs;
ponder_status pn_sequence_compute(pn_sequence *s, const pn_outputs *o, ponder_error *err);

uint32_t pn_engine_threads(const pn_engine *e);
const _Atomic bool *pn_sequence_cancelled(const pn_sequence *s); /* set by a cancel until it is taken */
void pn_sequence_cancel(pn_sequence *s);        /* any thread, a signal handler too */
bool pn_sequence_take_cancel(pn_sequence *s);   /* true once after a cancel */
void pn_sequence_rest(pn_sequence *s);          /* its caller will not come back soon: steps need not wait for it */

/* ---- other work on the same team ---------------------------------------------------------------------- */

/* A tower's work. It takes turns with the steps: while sequences wait, it gives the team up after about a step's time. */
typedef struct pn_task pn_task;
ponder_status pn_task_new(pn_task **out, pn_engine *e, const pn_work *w, ponder_error *err);
/* As pn_sequence_advance; `cancel` may be NULL. PONDER_OK: finished. */
ponder_status pn_task_advance(pn_task *t, uint64_t until, const _Atomic bool *cancel, ponder_error *err);
void pn_task_free(pn_task *t);

/* ---- saved states: a header, ids, pages, checksum ------------------------------------------------------- */
/* user: a number of the caller's that comes back with the state. A failed load leaves the sequence as it was, unless it is
 * PONDER_E_MISMATCH for a larger step, or PONDER_E_NOMEM for rows: then it is empty. */
ponder_status pn_sequence_save(pn_sequence *s, uint64_t model_hash, uint64_t user, pn_buf *out, ponder_error *err);
ponder_status pn_sequence_load(pn_sequence *s, uint64_t model_hash, const void *bytes, size_t n, uint64_t *user, ponder_error *err);

#endif
