/* work: a computation as a list of operations, each cut into tiles, and the cursor that takes a team through it. */
#ifndef PN_WORK_H
#define PN_WORK_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct pn_work {
    void *self;
    uint32_t n_ops;
    /* Enters an operation: how many tiles it has now (0: skip). One thread, all earlier tiles done. */
    uint32_t (*enter)(void *self, uint32_t op);
    /* Computes one tile: at most about a quarter of a millisecond of one core. Any thread, any order within the operation. */
    void (*tile)(void *self, uint32_t op, uint32_t tile, uint32_t thread);
    /* After the last tile of `op`: the operation to enter next (an earlier one goes round again); n_ops: the end. */
    uint32_t (*next)(void *self, uint32_t op);
    /* What a thread may do while others hold the last tiles: some hundred nanoseconds, nothing that lasts (fetching what comes next
     * from memory). Any thread, at any time. False: nothing is left to do. May be NULL. */
    bool (*idle)(void *self);
} pn_work;

/* A place in the work: operation, next tile, tiles taken and done. The team's threads and nobody else touch it while it runs. */
typedef struct pn_cursor {
    pn_work work;
    pn_team *team;
    uint32_t op;
    uint16_t generation;
    _Alignas(64) _Atomic uint64_t job;  /* generation 16 | tiles 24 | next tile 24 */
    _Alignas(64) _Atomic uint32_t done;
    _Alignas(64) _Atomic bool stop;     /* take no further tile */
    _Atomic bool finished;
    uint64_t until;           /* stop at this time; 0: never */
    const _Atomic bool *cancel, *rest; /* or when one of these is set; NULL: never */
} pn_cursor;

void pn_cursor_begin(pn_cursor *c); /* work, team and rest are set */
/* Goes on until the work is finished (true), or `until` (pn_now_us(); 0: never), `cancel` or c->rest says to stop. */
bool pn_cursor_run(pn_cursor *c, uint64_t until, const _Atomic bool *cancel);

#endif
