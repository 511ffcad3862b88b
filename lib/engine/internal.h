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
} pn_table;

struct pn_sequence {
    pn_engine *e;
    pn_sequence *next, *prev;
    int32_t *ids;
    uint32_t n, past, limit, slots;
    uint32_t mark;
    pn_table table[PN_GROUPS];
    uint32_t first_kept;      /* sliding pages below are gone (but for the mark's) */
    float *logits;
    bool logits_valid;
    /* what its caller waits for */
    bool waiting, in_step, hot, done;
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
    pthread_cond_t changed;
    bool leading, active;     /* some caller computes; a step is laid out */
    uint32_t pausers;         /* callers that want the step to rest at a tile */
    uint32_t n_waiting, n_hot;
    pn_sequence *first, *last;
    pn_run *runs;
    pn_sequence **run_of;     /* the sequence of each run */
    uint32_t n_runs;
    uint64_t steps, prefilled, step_began, step_us;
};

/* Under the lock, and no caller computing. */
void pn_engine_pause(pn_engine *e);
void pn_engine_resume(pn_engine *e);
void pn_engine_abandon(pn_engine *e);         /* forget the step that is laid out */

/* The sequence waits for nothing any more; a step it is part of is given up, for nothing else may touch its pages. */
void pn_sequence_withdraw(pn_sequence *s);
bool pn_sequence_prepare(pn_sequence *s, uint32_t n);   /* pages of the next n positions, own ones */
void pn_sequence_commit(pn_sequence *s, uint32_t n);
void pn_sequence_trim(pn_sequence *s);                  /* drop sliding pages that no position needs */

#endif
