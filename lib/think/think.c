/* Limits against what was used. */
#include "think/think.h"

bool pn_think_limited(const pn_think_limits *l)
{
    return l->tokens >= 0 || l->least > 0 || l->think_us >= 0 || l->turn_us > 0 || l->answer > 0 || l->exit != PN_EXIT_NONE;
}

/* ---- the state -------------------------------------------------------------------------------------------- */

void pn_thought_begin(pn_thought *t) { *t = (pn_thought){0}; }

static void open_block(pn_thought *t)
{
    t->open = true;
    t->blocks++;
    t->block = t->block_us = 0;
    t->n_tail = 0;
    t->sure = 0;
}

static void keep_tail(pn_thought *t, const char *bytes, size_t n)
{
    const size_t kept = PN_MIN(n, (size_t)PN_THINK_TAIL), old = PN_MIN((size_t)t->n_tail, PN_THINK_TAIL - kept);
    memmove(t->tail, t->tail + t->n_tail - old, old);
    if (kept) memcpy(t->tail + old, bytes + n - kept, kept);
    t->n_tail = (uint8_t)(old + kept);
}

void pn_thought_token(pn_thought *t, bool before, bool after, bool anew, const char *bytes, size_t n)
{
    if (before) {
        t->used++;
        t->block++;
    }
    if (before && !after) {
        t->open = false;
        t->why = t->closing ? t->closing : PONDER_THOUGHT_NATURAL;
        t->owed = true;
    }
    if (after && (!before || anew)) open_block(t);
    else if (after) keep_tail(t, bytes, n);
}

/* ---- room --------------------------------------------------------------------------------------------------- */

static int64_t minus(uint64_t have, uint64_t gone)
{
    const uint64_t most = INT64_MAX;
    return have >= gone ? (int64_t)PN_MIN(have - gone, most) : -(int64_t)PN_MIN(gone - have, most);
}

/* Tokens that can be computed in what is left of a time, the step under way always counted as gone. */
static int64_t steps_in(int64_t us, uint64_t step_us)
{
    if (us <= 0) return 0;
    return step_us ? us / (int64_t)step_us : INT64_MAX;
}

static int64_t time_room(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c, bool fresh)
{
    int64_t room = INT64_MAX;
    if (l->think_us >= 0) {
        const uint64_t spent = !l->block ? t->used_us : fresh ? 0 : t->block_us;
        room = steps_in(minus((uint64_t)l->think_us, spent), c->step_us);
    }
    if (l->turn_us > 0) {
        const uint64_t reserved = (l->answer + 1) * c->step_us; /* closing tokens are computed together with the answer's first */
        room = PN_MIN(room, steps_in(minus(l->turn_us, c->turn_us + reserved), c->step_us));
    }
    return room;
}

static int64_t token_room(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c, bool fresh)
{
    int64_t room = INT64_MAX;
    if (l->tokens >= 0) room = minus((uint64_t)l->tokens, (!l->block ? t->used : fresh ? 0 : t->block) + c->closer);
    if (c->left != UINT64_MAX) room = PN_MIN(room, minus(c->left, (uint64_t)c->closer + c->behind + PN_MAX(l->answer, (uint64_t)1)));
    return room;
}

pn_think_room pn_think_room_of(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c, bool fresh)
{
    const int64_t tokens = token_room(l, t, c, fresh), time = time_room(l, t, c, fresh), message = c->message;
    const uint64_t gone = fresh ? 0 : t->block;
    pn_think_room r = {.tokens = PN_MIN(tokens, time), .by_time = time < tokens};
    /* The message is written if the block had room for it and a token from the beginning. */
    r.message = message > 0 && tokens >= message && (tokens == INT64_MAX || minus((uint64_t)tokens + gone, (uint64_t)message) > 0);
    r.until_cut = r.tokens == INT64_MAX ? INT64_MAX : r.tokens - (r.message && !r.by_time ? message : 0);
    return r;
}

bool pn_think_may_open(const pn_think_limits *l, const pn_thought *t, const pn_think_cost *c)
{
    return !t->over && pn_think_room_of(l, t, c, true).tokens > 0;
}

bool pn_think_held_back(const pn_think_limits *l, const pn_thought *t)
{
    return l->least > 0 && (l->block ? t->block : t->used) < (uint64_t)l->least;
}

/* ---- closing where it reads well -------------------------------------------------------------------------------- */

enum { SOFT_SHARE = 2, SOFT_MOST = 256, GRACE_SHARE = 2, GRACE_MOST = 64 };

static bool within(const pn_thought *t, const pn_think_room *r, int64_t asked, int64_t share, int64_t most)
{
    if (asked == 0 || r->until_cut == INT64_MAX) return false;
    const int64_t whole = PN_MAX(r->until_cut, 0) + (int64_t)t->block; /* as the block began */
    return r->until_cut <= (asked > 0 ? asked : PN_MIN(whole / share, most));
}

bool pn_think_in_soft(const pn_think_limits *l, const pn_thought *t, const pn_think_room *r)
{
    return !pn_think_held_back(l, t) && within(t, r, l->soft, SOFT_SHARE, SOFT_MOST);
}

bool pn_think_in_grace(const pn_think_limits *l, const pn_thought *t, const pn_think_room *r)
{
    return !pn_think_held_back(l, t) && within(t, r, l->grace, GRACE_SHARE, GRACE_MOST);
}
