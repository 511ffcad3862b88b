/* Inside the grammar room: the automaton made deterministic while it is used.
 *
 * A state is a set of elements (node, counters); states are kept once and number their transitions by byte class. A
 * transition goes to another state of the same rule, opens a level (PUSH: the state is saved, the called rules' beginnings
 * are next) or closes one (POP: what was finished decides how the saved state goes on). Saved states form frames, kept once
 * too, so that a place in a text is two numbers and a clone copies nothing else.
 *
 * Everything here is a cache: what no matcher stands on is swept away when it grows too large. */
#ifndef PN_GRAMMAR_DFA_H
#define PN_GRAMMAR_DFA_H

#include <pthread.h>

#include "grammar/nfa.h"
#include "grammar/trie.h"

typedef uint64_t pn_element; /* node << 40 | items << 20 | characters */

enum { STATE_ENDS = 1, STATE_DONE = 2, STATE_LIVE = 4 };
enum { STEP_UNKNOWN = 0, STEP_DEAD = 1 }; /* else state << 2 | kind */
enum { KIND_NEXT = 0, KIND_PUSH = 1, KIND_POP = 2 };
enum { SET_ELEMENTS_MOST = 1 << 16, WORK_MASK = 4000000 };

/* What may follow in a state. `words` (dense) or token ids, then `conts` pairs (trie node, finished set): ways that leave the
 * level, so what lies below decides. */
typedef struct pn_mask {
    uint64_t used;
    size_t bytes;
    uint32_t n_tokens, n_conts; /* n_tokens UINT32_MAX: dense */
    uint32_t deep;              /* levels it counts on; with fewer left it is of no use */
    uint32_t data[];
} pn_mask;

/* The state that most ASCII bytes lead to, and which they are: itself for a loop, the next one where it counts. */
typedef struct pn_run { uint32_t to, bytes[4]; } pn_run;

typedef struct pn_state {
    uint32_t n, hash, chain;
    uint8_t flags, need; /* need: the most of its elements */
    uint32_t *row;       /* [classes]; NULL until needed */
    struct pn_run *run;  /* NULL until needed */
    pn_mask *mask;
    pn_element e[];
} pn_state;

typedef struct pn_frame { uint32_t parent, state, depth, chain; } pn_frame; /* frame 0 is the bottom; depth UINT32_MAX: free */

typedef struct pn_place { uint32_t frame, state; } pn_place;

typedef struct pn_local { uint32_t state, parent; } pn_local; /* a level opened inside a token; parent 0: none */

typedef struct pn_config {
    const uint32_t *row;
    uint32_t state, local, base;
    int32_t room; /* levels that may still be opened */
} pn_config;

typedef struct pn_return { uint64_t key; uint32_t state; } pn_return; /* (saved state, finished set) -> state; key 0: empty */
/* What a few elements lead to without reading a byte: most bytes lead to one element, so most states are found here. */
enum { CLOSED_MOST = 3 };
typedef struct pn_closed { pn_element of[CLOSED_MOST]; uint32_t state; } pn_closed; /* of[0] 0: empty */
typedef struct pn_seen { pn_element e; uint64_t stamp; } pn_seen;

typedef struct pn_core {
    atomic_uint refs;
    pthread_mutex_t mutex;
    ponder_alloc copy;
    const ponder_alloc *a;
    pn_grammar *g;
    pn_vocab_trie *t;
    ponder_status status; /* of the call under way */
    const char *problem;
    int64_t work;         /* left for it */
    size_t cache_bytes, state_bytes, mask_bytes, sweep_at;
    pn_state **states;    /* [0] is unused; free ones are NULL */
    size_t n_states, cap_states;
    uint32_t *free_states;
    size_t n_free_states, cap_free_states;
    uint32_t *slots;      /* state by hash, chained */
    size_t n_slots;
    pn_frame *frames;
    size_t n_frames, cap_frames, live_frames;
    uint32_t free_frame;  /* chained by parent */
    uint32_t *frame_slots;
    size_t n_frame_slots;
    pn_return *returns;   /* open addressing */
    size_t n_returns, cap_returns;
    pn_closed *closed;    /* open addressing */
    size_t n_closed, cap_closed;
    uint32_t start;
    struct pn_matcher *matchers; /* all that share this */
    uint64_t tick, masks_computed, masks_cached, sweeps, cut_short;
    /* scratch */
    pn_element *set, *todo;
    size_t n_set, cap_set, n_todo, cap_todo;
    pn_seen *seen;
    size_t n_seen, cap_seen;
    uint64_t stamp;
    uint32_t *words, *conts;
    size_t n_conts, cap_conts;
    pn_config config[TOKEN_BYTES_MOST + 1];
    pn_local local[TOKEN_BYTES_MOST + 1];
} pn_core;

ponder_status pn_core_new(pn_core **out, pn_grammar *g, pn_vocab_trie *t, size_t cache_bytes, const ponder_alloc *a, ponder_error *err);
void pn_core_free(pn_core *c); /* gives up a reference */
void pn_core_begin(pn_core *c); /* locks; a call begins; sweeps when there is too much */
ponder_status pn_core_end(pn_core *c, ponder_error *err); /* unlocks */
bool pn_core_room(pn_core *c, void **p, size_t *cap, size_t n, size_t size);

/* All of these answer 0 when memory (c->status) or work (c->work) has run out. */
uint32_t pn_core_step(pn_core *c, uint32_t state, uint32_t byte_class); /* STEP_DEAD or state << 2 | kind */
uint32_t pn_core_intern(pn_core *c, const pn_element *e, size_t n); /* the state of sorted elements, each once */
uint32_t pn_core_return(pn_core *c, uint32_t saved, uint32_t finished);
const uint32_t *pn_core_row(pn_core *c, uint32_t state);
const pn_run *pn_core_run(pn_core *c, uint32_t state); /* NULL: no memory, or no work left */
/* The part of the state that can be finished with so many levels; 0: none (or no memory: c->status). */
uint32_t pn_core_limit(pn_core *c, uint32_t state, int32_t room);
size_t pn_core_frame_hash(uint32_t parent, uint32_t state);
uint32_t pn_core_frame(pn_core *c, uint32_t parent, uint32_t state); /* UINT32_MAX: no memory */
/* One byte from a place; false: not allowed, or out of memory (c->status). */
bool pn_core_advance(pn_core *c, pn_place *at, uint8_t byte);
/* The mask of a place; mask.c. */
bool pn_core_mask(pn_core *c, pn_place at, uint32_t *words);
void pn_core_drop_mask(pn_core *c, pn_state *s);
void pn_core_sweep(pn_core *c); /* sweep.c */

struct pn_matcher {
    pn_core *core;
    struct pn_matcher *next, *before;
    pn_place at;
    uint8_t flags;     /* of the state */
    uint32_t n_undo, undo_cap, undo_at; /* a ring: the places before the last tokens, the newest at undo_at - 1 */
    pn_place undo[];
};

#endif
