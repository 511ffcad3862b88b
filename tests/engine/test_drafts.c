/* Drafts: whatever is proposed, the same tokens and the same bits; what is right costs no step of its own. */
#include "engine/internal.h"
#include "rig.h"

enum { PROMPT = 45, TOKENS = 90, LIMIT = 200 };

/* Who drafts for whom. */
typedef struct pair {
    const char *model, *drafter; /* NULL: drafts of the test's own */
} pair;

static const pair pairs[] = {{"llama", NULL}, {"muse-glimmer", NULL}, {"gemma3", NULL}, {"muse-spark", NULL}, {"qwen3", NULL},
                             {"muse-glimmer", "drafter-glimmer"}, {"muse-glimmer", "drafter-glimmer-short"}, {"seed0", "seed0-drafter"}};

static int32_t greedy(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* What a sequence without drafts does: its ids, and its logits after each. */
typedef struct truth {
    uint32_t vocab;
    int32_t ids[PROMPT + TOKENS];
    float *logits;            /* [TOKENS][vocab] */
} truth;

static truth truth_of(rig *r)
{
    truth t = {.vocab = r->vocab, .logits = malloc(TOKENS * r->vocab * sizeof(float))};
    make_ids(t.ids, PROMPT, r->vocab, 7);
    pn_sequence *s = sequence(r, LIMIT);
    append(s, t.ids, PROMPT);
    for (uint32_t i = 0; i < TOKENS; i++) {
        memcpy(t.logits + i * t.vocab, advance(s), t.vocab * sizeof(float));
        t.ids[PROMPT + i] = greedy(t.logits + i * t.vocab, t.vocab);
        append(s, &t.ids[PROMPT + i], 1);
    }
    pn_sequence_free(s);
    return t;
}

/* ---- proposals ------------------------------------------------------------------------------------- */

typedef struct oracle {
    const truth *t;
    uint64_t random;
    int wrong;                /* in so many of 100 */
    uint32_t calls;
} oracle;

static uint32_t roll(oracle *o)
{
    o->random ^= o->random << 13, o->random ^= o->random >> 7, o->random ^= o->random << 17;
    return (uint32_t)(o->random >> 20);
}

static uint32_t propose(void *user, const int32_t *ids, uint32_t n, int32_t *out, float *chance, uint32_t most)
{
    oracle *o = user;
    (void)ids;
    o->calls++;
    for (uint32_t i = 0; i < most; i++) {
        const bool known = n + i < PROMPT + TOKENS;
        out[i] = known ? o->t->ids[n + i] : 0;
        if ((int)(roll(o) % 100) < o->wrong) out[i] = (out[i] + 1) % (int32_t)o->t->vocab;
        chance[i] = 1;
    }
    return most;
}

/* ---- scenes ---------------------------------------------------------------------------------------- */

typedef struct scene {
    const pair *p;
    rig r;
    truth t;
} scene;

static scene scene_of(const pair *p, const pn_engine_options *o)
{
    scene c = {.p = p};
    pn_network *n = load_network(p->model);
    if (p->drafter) load_drafter(n, p->drafter);
    c.r = rig_over(n, o);
    c.t = truth_of(&c.r);
    pn_engine_always_draft(c.r.e);
    return c;
}

static void scene_free(scene *c)
{
    pn_engine_counts counts;
    pn_engine_read_counts(c->r.e, &counts);
    assert_true(counts.kv_bytes == 0);
    free(c->t.logits);
    rig_free(&c->r);
}

static pn_sequence *drafting(scene *c, uint32_t limit, uint32_t most, oracle *o)
{
    pn_sequence *s = sequence(&c->r, limit);
    pn_sequence_draft(s, most);
    if (c->p->drafter) pn_sequence_ask_drafter(s, true);
    else pn_sequence_propose(s, propose, o);
    return s;
}

static void same_as_truth(const scene *c, const float *logits, uint32_t n)
{
    same_bits(logits, c->t.logits + (n - PROMPT) * c->t.vocab, c->t.vocab, c->p->drafter ? c->p->drafter : c->p->model, n);
}

static void any_proposal(void **state)
{
    (void)state;
    static const int wrong[] = {0, 10, 50, 100};
    pn_engine_options o = default_options();
    for (const pair *p = pairs; !p->drafter; p++) {
        scene c = scene_of(p, &o);
        for (size_t w = 0; w < PN_COUNT(wrong); w++)
            for (uint32_t most = 1; most <= 16; most += 5) {
                oracle or = {.t = &c.t, .random = 77 + w, .wrong = wrong[w]};
                pn_engine_counts before, after;
                pn_sequence *s = drafting(&c, LIMIT, most, &or);
                append(s, c.t.ids, PROMPT);
                advance(s);
                pn_engine_read_counts(c.r.e, &before);
                for (uint32_t n = PROMPT; n < PROMPT + TOKENS; n++) {
                    same_as_truth(&c, advance(s), n);
                    assert_int_equal(pn_sequence_computed(s), n);
                    append(s, &c.t.ids[n], 1);
                }
                pn_engine_read_counts(c.r.e, &after);
                assert_int_equal(after.prefilled, before.prefilled);
                const uint64_t steps = after.steps - before.steps, accepted = after.accepted - before.accepted;
                assert_int_equal(steps + accepted, TOKENS - 1); /* the prompt's step made the first */
                if (wrong[w] == 0) assert_int_equal(steps, (TOKENS - 1 + most) / (most + 1));
                if (wrong[w] == 100) assert_int_equal(accepted, 0);
                assert_true(after.drafted > before.drafted && or.calls == steps);
                pn_sequence_free(s);
            }
        scene_free(&c);
    }
}

/* ---- everything else that can be done to a sequence, in between ------------------------------------------ */

/* A try: some tokens of another way, then back. */
static void try_something(pn_sequence *s, const truth *t, oracle *o)
{
    advance(s);
    assert_int_equal(pn_sequence_hold(s, NULL), PONDER_OK);
    for (uint32_t k = roll(o) % 5; k > 0; k--) {
        append(s, &t->ids[roll(o) % PROMPT], 1);
        if (roll(o) % 2) advance(s);
    }
    pn_sequence_return(s);
}

static pn_sequence *forked(pn_sequence *s)
{
    pn_sequence *c;
    assert_int_equal(pn_sequence_fork(&c, s, LIMIT, NULL), PONDER_OK);
    return c;
}

static pn_sequence *reloaded(scene *c, pn_sequence *s, oracle *o)
{
    pn_buf b;
    uint64_t user;
    pn_sequence *to = drafting(c, LIMIT, 1, o);
    pn_buf_init(&b, NULL);
    assert_int_equal(pn_sequence_save(s, 5, 6, &b, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_load(to, 5, b.p, b.n, &user, NULL), PONDER_OK);
    pn_buf_free(&b);
    return to;
}

/* One thing that may be done to a sequence between two tokens. NULL: it is no more. */
static pn_sequence *something(scene *c, pn_sequence *s, oracle *o)
{
    const truth *t = &c->t;
    const uint32_t n = pn_sequence_count(s), what = n == PROMPT + TOKENS ? 0 : roll(o) % 40, more = 1 + roll(o) % 9;
    ponder_status st = PONDER_OK;
    switch (what) {
    case 0: pn_sequence_free(s); return NULL;
    case 1: st = pn_sequence_rewind(s, PROMPT + roll(o) % (n - PROMPT + 1), NULL, NULL); break;
    case 2: pn_sequence_mark(s); break;
    case 3: try_something(s, t, o); break;
    case 4: append(s, t->ids + n, PN_MIN(more, PROMPT + TOKENS - n)); break; /* put in, among them some that were computed ahead */
    case 5: pn_sequence_submit(s); break;
    case 6:
        pn_sequence_cancel(s);
        st = pn_sequence_advance(s, 0, NULL);
        assert_true(st == PONDER_OK || st == PONDER_E_CANCELLED);
        pn_sequence_take_cancel(s);
        return s;
    case 7: /* some pieces of work, then given up by what follows */
        for (uint32_t i = 0; i < more * more && st == PONDER_OK; i++) st = pn_sequence_advance(s, 1, NULL) == PONDER_MORE ? PONDER_OK : PONDER_MORE;
        st = pn_sequence_rewind(s, n - (n > PROMPT), NULL, NULL);
        break;
    default:
        same_as_truth(c, advance(s), n);
        append(s, &t->ids[n], 1);
    }
    assert_int_equal(st, PONDER_OK);
    return s;
}

static void anything_between(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    for (size_t p = 0; p < PN_COUNT(pairs); p++) {
        scene c = scene_of(&pairs[p], &o);
        oracle or = {.t = &c.t, .random = 4711 + p, .wrong = 15};
        pn_sequence *s[4] = {0};
        for (int round = 0; round < 3000; round++) {
            pn_sequence **at = &s[roll(&or) % 4], *from = s[roll(&or) % 4];
            if (*at) {
                *at = something(&c, *at, &or);
                continue;
            }
            *at = !from ? drafting(&c, LIMIT, 1, &or) : roll(&or) % 2 ? forked(from) : reloaded(&c, from, &or);
            pn_sequence_draft(*at, 1 + roll(&or) % PN_DRAFT_MOST);
            if (!from) append(*at, c.t.ids, PROMPT);
        }
        pn_engine_counts counts;
        for (int i = 0; i < 4; i++) pn_sequence_free(s[i]);
        pn_engine_read_counts(c.r.e, &counts);
        assert_true(counts.drafted > counts.accepted && (counts.passes > 0) == (pairs[p].drafter != NULL));
        if (!pairs[p].drafter) assert_true(counts.accepted > 200);
        scene_free(&c);
    }
}

/* A step with drafts that is given up in the middle, wherever that is, leaves no logits that are another token's. */
static void left_half_done(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    static const size_t some[] = {0, 1, 5};
    for (size_t p = 0; p < PN_COUNT(some); p++) {
        scene c = scene_of(&pairs[some[p]], &o);
        oracle or = {.t = &c.t, .random = 3, .wrong = 50};
        pn_sequence *s = drafting(&c, LIMIT, 5, &or);
        append(s, c.t.ids, PROMPT);
        ponder_status st = PONDER_MORE;
        uint32_t pieces = 0, half = 0;
        for (; st == PONDER_MORE; pieces++) {
            const uint32_t n = pn_sequence_count(s);
            same_as_truth(&c, advance(s), n);
            assert_int_equal(pn_sequence_rewind(s, n, NULL, NULL), PONDER_OK); /* nothing is ahead: there is a step to come */
            append(s, &c.t.ids[n], 1);
            for (uint32_t i = 0; i < pieces && st == PONDER_MORE; i++) st = pn_sequence_advance(s, 1, NULL);
            assert_int_equal(pn_sequence_rewind(s, n, NULL, NULL), PONDER_OK);
            const float *kept = pn_sequence_logits(s);
            if (kept) same_as_truth(&c, kept, n);
            half += !kept;
        }
        assert_true(pieces > 20 && half > 10);
        pn_sequence_free(s);
        scene_free(&c);
    }
}

/* ---- several in one step -------------------------------------------------------------------------------- */

static void drafted_together(const pair *p)
{
    enum { SOME = 6 };
    pn_engine_options o = default_options();
    o.columns = 24; /* less than all that is proposed */
    scene c = scene_of(p, &o);
    oracle or[SOME];
    pn_sequence *s[SOME];
    uint32_t at[SOME], left = SOME;
    for (uint32_t i = 0; i < SOME; i++) {
        or[i] = (oracle){.t = &c.t, .random = 99 + i, .wrong = (int)i * 10};
        at[i] = PROMPT;
        s[i] = drafting(&c, LIMIT, i == SOME - 1 ? 0 : 9, &or[i]);
        append(s[i], c.t.ids, PROMPT);
        assert_int_equal(pn_sequence_advance(s[i], PN_POLL, NULL), PONDER_MORE);
    }
    while (left) {
        const _Atomic bool no = false;
        pn_sequence *some[SOME];
        uint32_t n = 0;
        for (uint32_t i = 0; i < SOME; i++)
            if (at[i] < PROMPT + TOKENS) some[n++] = s[i];
        assert_int_equal(pn_engine_advance_any(c.r.e, some, n, 0, &no, NULL), PONDER_OK);
        for (uint32_t i = 0; i < SOME; i++)
            while (at[i] < PROMPT + TOKENS && pn_sequence_advance(s[i], PN_POLL, NULL) == PONDER_OK) {
                same_as_truth(&c, pn_sequence_logits(s[i]), at[i]);
                append(s[i], &c.t.ids[at[i]], 1);
                left -= ++at[i] == PROMPT + TOKENS;
            }
    }
    for (uint32_t i = 0; i < SOME; i++) {
        uint64_t drafted, accepted;
        pn_sequence_read_drafts(s[i], &drafted, &accepted);
        assert_true(accepted <= drafted && (drafted > 0) == (i < SOME - 1));
        if (!p->drafter) assert_true((accepted > 0) == (i < SOME - 1));
        pn_sequence_free(s[i]);
    }
    scene_free(&c);
}

static void together(void **state)
{
    (void)state;
    for (size_t p = 0; p < PN_COUNT(pairs); p++) drafted_together(&pairs[p]);
}

/* Never beyond what the sequence may hold: the proposer is not asked for more, a drafter's block is cut. */
static void at_the_limit(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    for (size_t p = 0; p < PN_COUNT(pairs); p++) {
        scene c = scene_of(&pairs[p], &o);
        for (uint32_t limit = PROMPT + 1; limit < PROMPT + 40; limit += 7) {
            oracle or = {.t = &c.t, .random = 5};
            pn_sequence *s = drafting(&c, limit, PN_DRAFT_MOST, &or);
            append(s, c.t.ids, PROMPT);
            for (uint32_t n = PROMPT; n < limit; n++) {
                same_as_truth(&c, advance(s), n);
                append(s, &c.t.ids[n], 1);
            }
            same_as_truth(&c, advance(s), limit);
            assert_int_equal(pn_sequence_append(s, c.t.ids, 1, NULL), PONDER_E_CONTEXT);
            pn_sequence_free(s);
        }
        scene_free(&c);
    }
}

/* Logits of an earlier token are not shown as the last token's: a prompt of two steps, left after the first. */
static void no_stale_logits(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("llama", &o);
    pn_sequence *s = sequence(&r, LIMIT);
    int32_t ids[105];
    make_ids(ids, 105, r.vocab, 8);
    append(s, ids, 5);
    advance(s);
    append(s, ids + 5, 100);
    ponder_status st = PONDER_MORE;
    while (st == PONDER_MORE && pn_sequence_computed(s) == 5) st = pn_sequence_advance(s, 1, NULL);
    assert_int_equal(pn_sequence_computed(s), 5 + o.columns);
    assert_int_equal(pn_sequence_rewind(s, 5 + o.columns, NULL, NULL), PONDER_OK);
    assert_null(pn_sequence_logits(s));
    pn_sequence_free(s);
    rig_free(&r);
}

/* ---- the look-up ------------------------------------------------------------------------------------------ */

static void looked_up(void **state)
{
    (void)state;
    static const struct { const char *seen, *expected; } cases[] = {
        {"abcdefgabc", "defgabcd"},       /* and what repeats itself goes on */
        {"xbcdyabcdzabcd", "zabcdzab"},   /* the place where more agrees, and the newer of two alike */
        {"pqrspqrtpqr", "tpqrtpqr"},
        {"aaaa", "aaaaaaaa"},
        {"abcdefgh", ""},
        {"a", ""},
    };
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        pn_lookup l;
        int32_t ids[64], *out;
        float chance[8];
        const uint32_t n = (uint32_t)strlen(cases[i].seen);
        for (uint32_t k = 0; k < n; k++) ids[k] = cases[i].seen[k];
        out = ids + n;
        pn_lookup_init(&l);
        const uint32_t got = pn_lookup_propose(&l, ids, n, out, chance, 8);
        assert_int_equal(got, strlen(cases[i].expected));
        for (uint32_t k = 0; k < got; k++) {
            assert_int_equal(out[k], cases[i].expected[k]);
            assert_true(chance[k] > 0 && chance[k] < 1 && (k == 0 || chance[k] < chance[k - 1]));
        }
    }
}

/* What did not come lowers the chance: a first guess counts as 4 observations, and no more than 16 are remembered. */
static void chances_learn(void **state)
{
    (void)state;
    pn_lookup l;
    int32_t ids[400];
    float chance[4], first;
    pn_lookup_init(&l);
    ids[0] = ids[1] = ids[3] = 1;
    ids[2] = 2;
    assert_int_equal(pn_lookup_propose(&l, ids, 4, ids + 4, chance, 1), 1); /* 1 2 1: "2", by one token */
    first = chance[0];
    uint32_t n = 4;
    for (int i = 0; i < 20; i++) {
        ids[n++] = 100 + i; /* a miss */
        assert_int_equal(pn_lookup_propose(&l, ids, n, ids + n, chance, 1), 0);
        ids[n++] = 1;
        assert_int_equal(pn_lookup_propose(&l, ids, n, ids + n, chance, 1), 1);
        first *= 1 - 1.0f / (float)(i < 12 ? 5 + i : 16);
        assert_true(chance[0] > first * 0.999f && chance[0] < first * 1.001f);
    }
}

/* A step of n columns takes 900 + 100 n: a draft beside one sequence is worth 100 of 1000, beside eight 800 of 1700, with a margin. */
static void columns_are_weighed(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("llama", &o);
    const float guess = pn_drafts_least_chance(r.e, 1);
    assert_true(guess > 0.05f && guess < 0.3f);
    for (uint32_t i = 0; i < 40; i++) pn_drafts_note_step(r.e, 1, 5000);
    assert_true(pn_drafts_least_chance(r.e, 1) == guess); /* nothing is known of a second column */
    for (uint32_t i = 0; i < 2000; i++) pn_drafts_note_step(r.e, 1 + i % 8, 900 + 100 * (1 + i % 8));
    const float one = pn_drafts_least_chance(r.e, 1), eight = pn_drafts_least_chance(r.e, 8);
    assert_true(one > 0.1499f && one < 0.1501f);
    assert_true(eight > 0.7058f && eight < 0.7060f);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_proposal), cmocka_unit_test(anything_between), cmocka_unit_test(left_half_done), cmocka_unit_test(together), cmocka_unit_test(at_the_limit),
        cmocka_unit_test(no_stale_logits), cmocka_unit_test(looked_up), cmocka_unit_test(chances_learn), cmocka_unit_test(columns_are_weighed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
