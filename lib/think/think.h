/* think: decisions about a thought. Knows tokens only as numbers: no session, no parser, no engine. A turn's state is a plain
 * value, so that it is copied with a fork; what limits leave is worked out anew for every token, so that nothing has to be
 * rolled back. */
#ifndef PN_THINK_H
#define PN_THINK_H

#include "base/base.h"

typedef enum pn_exit { PN_EXIT_NONE = 0, PN_EXIT_ENTROPY, PN_EXIT_ANSWER } pn_exit;

/* What the host asked for. */
typedef struct pn_think_limits {
    int64_t tokens;           /* most; -1: no limit */
    int64_t least;
    int64_t think_us;         /* -1: no limit */
    uint64_t turn_us;         /* 0: no limit */
    uint64_t answer;          /* tokens kept for the answer */
    bool block;               /* tokens and time are of each block, not of the turn */
    int64_t soft, grace;      /* tokens before the cut; -1: chosen here; 0: off */
    uint32_t rank;
    pn_exit exit;
    double exit_at;           /* negative: the kind's own */
    uint32_t patience, interval;
    double probe_share;
} pn_think_limits;

bool pn_think_limited(const pn_think_limits *l); /* whether any of it can make a difference */

/* ---- the state of a turn ------------------------------------------------------------------------------ */

enum { PN_THINK_TAIL = 32 };

typedef struct pn_thought {
    uint64_t used, used_us;   /* tokens and time of the turn's thoughts; the closing markers count, the opening ones do not */
    uint64_t block, block_us; /* of them, in the newest block */
    uint64_t blocks, injected, probes, probe_tokens;
    uint64_t probed;          /* `used` at the newest probe */
    uint32_t sure;            /* probes in a row that said enough */
    int32_t why;              /* PONDER_THOUGHT_* of the newest block that ended */
    int32_t closing;          /* why a close is being written; 0: none is */
    bool open, over;          /* over: closed by us, none may open in this turn any more */
    bool owed;                /* since a close of ours nothing was said */
    bool escaped;
    uint32_t over_at;         /* the sequence's length when a close of ours was written */
    uint8_t n_tail;
    char tail[PN_THINK_TAIL]; /* the newest bytes of the block */
} pn_thought;

void pn_thought_begin(pn_thought *t); /* a turn begins */
/* A token was taken; before, after: whether it, and the next one, is of a thought; anew: another block began with it. */
void pn_thought_token(pn_thought *t, bool before, bool after, bool anew, const char *bytes, size_t n);

/* ---- how far it may go ------------------------------------------------------------------------------------ */

/* What the limits are held against. */
typedef struct pn_think_cost {
    uint32_t closer;          /* tokens of the closing marker that count for the thought */
    uint32_t behind;          /* tokens written behind it before the answer begins */
    uint32_t message;         /* tokens of the host's closing message */
    uint64_t left;            /* tokens that context and max_tokens leave; UINT64_MAX: no such limit */
    uint64_t turn_us;         /* of the turn, so far */
    uint64_t step_us;         /* of one more token, as measured; 0: not known */
} pn_think_cost;

typedef struct pn_think_room {
    int64_t tokens;           /* that may be taken before the closing marker must be; INT64_MAX: no limit */
    int64_t until_cut;        /* the same, before the message too, if there is to be one */
    bool by_time;             /* the nearest limit is one of time */
    bool message;             /* the message fits */
} pn_think_room;

/* fresh: of a block that would open now. */
pn_think_room pn_think_room_of(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c, bool fresh);
bool pn_think_may_open(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c);
bool pn_think_held_back(const pn_think_limits *l, const pn_thought *t);   /* a close of the model's is not to be yet */
bool pn_think_in_soft(const pn_think_limits *l, const pn_thought *t, const pn_think_room *r);
bool pn_think_in_grace(const pn_think_limits *l, const pn_thought *t, const pn_think_room *r);

/* Whether a sentence or a line ends between the text and what follows it. */
bool pn_think_boundary(const char *text, size_t n, const char *next, size_t n_next);
/* Bytes that the character at the end of text lacks; 0: it is whole (or never will be). */
uint32_t pn_think_unfinished(const char *text, size_t n);

/* How many of x are larger than x[id] (of equals, those with a lower id). */
uint32_t pn_think_rank(const float *x, uint32_t n, int32_t id, float bias);
/* One of n, by seed and position alone. */
uint32_t pn_think_choice(uint64_t seed, uint64_t position, uint32_t n);

/* ---- leaving early ------------------------------------------------------------------------------------------ */

/* Whether a probe that costs so many tokens is to be made now. */
bool pn_think_probe_due(const pn_think_limits *l, const pn_thought *t, uint32_t cost);
/* A probe said this (entropy in nats, or the trial answer's mean log-probability): true closes the thought. */
bool pn_think_probed(const pn_think_limits *l, pn_thought *t, double said, uint32_t cost);

#endif
