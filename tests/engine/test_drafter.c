/* A drafter's guesses depend on the tokens alone, not on how a sequence came to them; whether it is asked depends on what it costs. */
#include "engine/internal.h"
#include "rig.h"

enum { LIMIT = 300, AT = 150, BLOCK = 16 };

typedef struct scene {
    rig r;
    int32_t ids[LIMIT];
    int32_t guess[BLOCK];     /* of a sequence that was given its tokens in one piece */
    uint32_t n;
} scene;

static pn_sequence *asking(rig *r)
{
    pn_sequence *s = sequence(r, LIMIT);
    pn_sequence_draft(s, BLOCK - 1);
    pn_sequence_ask_drafter(s, true);
    return s;
}

static rig rig_with(const char *drafter, const pn_engine_options *o)
{
    pn_network *n = load_network("muse-glimmer");
    if (drafter) load_drafter(n, drafter);
    rig r = rig_over(n, o);
    pn_engine_always_draft(r.e);
    return r;
}

/* One token more at a time, each computed. */
static void go_on(scene *c, pn_sequence *s, uint32_t to)
{
    while (pn_sequence_count(s) < to) {
        append(s, &c->ids[pn_sequence_count(s)], 1);
        advance(s);
    }
}

static scene new_scene(const pn_engine_options *o)
{
    scene c = {.r = rig_with("drafter-glimmer", o)};
    make_ids(c.ids, LIMIT, c.r.vocab, 11);
    pn_sequence *s = asking(&c.r);
    append(s, c.ids, AT - 1);
    advance(s);
    go_on(&c, s, AT);
    c.n = s->drafts.luck.n;
    assert_int_equal(c.n, BLOCK - 1);
    assert_int_equal(s->drafts.luck.at, AT);
    memcpy(c.guess, s->drafts.luck.guess, c.n * sizeof *c.guess);
    pn_sequence_free(s);
    return c;
}

/* The sequence has AT - 1 tokens: with one more, its guesses are the scene's. */
static void same_guesses(scene *c, pn_sequence *s, const char *how)
{
    assert_int_equal(pn_sequence_count(s), AT - 1);
    go_on(c, s, AT);
    if (s->drafts.luck.n != c->n || memcmp(s->drafts.luck.guess, c->guess, c->n * sizeof *c->guess) != 0) fail_msg("%s: other guesses", how);
}

static pn_sequence *at_last_but_one(scene *c, uint32_t prompt)
{
    pn_sequence *s = asking(&c->r);
    append(s, c->ids, prompt);
    advance(s);
    go_on(c, s, AT - 1);
    return s;
}

/* ---- ways to come to the same tokens ---------------------------------------------------------------------------- */

static void token_by_token(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 3);
    same_guesses(c, s, "token by token");
    pn_sequence_free(s);
}

static void forked(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45), *f, *other;
    assert_int_equal(pn_sequence_fork(&f, s, LIMIT, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_fork(&other, s, LIMIT, NULL), PONDER_OK);
    append(other, c->ids, 40); /* another way, over pages that they share */
    advance(other);
    same_guesses(c, f, "a fork");
    same_guesses(c, s, "forked from");
    pn_sequence_free(s);
    pn_sequence_free(other);
    pn_sequence_free(f);
}

static void rewound(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45);
    append(s, c->ids, 7);
    advance(s);
    assert_int_equal(pn_sequence_rewind(s, AT - 1, NULL, NULL), PONDER_OK);
    same_guesses(c, s, "rewound a little");
    pn_sequence_mark(s);
    append(s, c->ids, 120);
    advance(s);
    assert_int_equal(pn_sequence_rewind(s, AT - 1, NULL, NULL), PONDER_OK); /* before the mark: the target computes again too */
    advance(s);
    same_guesses(c, s, "rewound before the mark");
    pn_sequence_free(s);
    s = at_last_but_one(c, 45);
    pn_sequence_mark(s);
    append(s, c->ids, 120);
    advance(s);
    uint32_t again;
    assert_int_equal(pn_sequence_rewind(s, AT - 1, &again, NULL), PONDER_OK);
    assert_int_equal(again, 0);
    same_guesses(c, s, "rewound to the mark");
    pn_sequence_free(s);
}

static void tried(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45);
    assert_int_equal(pn_sequence_hold(s, NULL), PONDER_OK);
    append(s, c->ids, 40);
    advance(s);
    pn_sequence_return(s);
    same_guesses(c, s, "after a try");
    pn_sequence_free(s);
}

/* A pass or a step is given up after so many pieces. */
static void given_up(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45);
    ponder_status st = PONDER_MORE;
    uint32_t pieces = 0;
    for (; st == PONDER_MORE; pieces += 3) {
        append(s, &c->ids[5], 1);
        for (uint32_t i = 0; i <= pieces && st == PONDER_MORE; i++) st = pn_sequence_advance(s, 1, NULL);
        if (pieces % 2) pn_sequence_cancel(s);
        if (pieces % 2 && st == PONDER_MORE) assert_int_equal(pn_sequence_advance(s, 1, NULL), PONDER_E_CANCELLED);
        pn_sequence_take_cancel(s);
        assert_int_equal(pn_sequence_rewind(s, AT - 1, NULL, NULL), PONDER_OK);
    }
    assert_true(pieces > 60);
    same_guesses(c, s, "after what was given up");
    pn_sequence_free(s);
}

static pn_buf saved(pn_sequence *s)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    assert_int_equal(pn_sequence_save(s, 5, 6, &b, NULL), PONDER_OK);
    return b;
}

static void load(pn_sequence *s, const pn_buf *b)
{
    uint64_t user;
    ponder_error err = {.size = sizeof err};
    if (pn_sequence_load(s, 5, b->p, b->n, &user, &err) != PONDER_OK) fail_msg("%s", err.text);
}

static void reloaded(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45), *to = asking(&c->r);
    append(to, c->ids + 9, 70); /* to be forgotten */
    advance(to);
    pn_buf b = saved(s);
    load(to, &b);
    same_guesses(c, to, "loaded");
    pn_buf_free(&b);
    pn_sequence_free(s);
    pn_sequence_free(to);
}

static void with_others(scene *c)
{
    pn_sequence *s = at_last_but_one(c, 45), *others[3];
    for (uint32_t i = 0; i < 3; i++) {
        others[i] = asking(&c->r);
        append(others[i], c->ids + i, 60 + i);
        advance(others[i]);
        append(others[i], c->ids, 1);
        assert_int_equal(pn_sequence_advance(others[i], PN_POLL, NULL), PONDER_MORE);
    }
    pn_engine_counts before, after;
    pn_engine_read_counts(c->r.e, &before);
    same_guesses(c, s, "in a pass with others");
    pn_engine_read_counts(c->r.e, &after);
    assert_int_equal(after.passes - before.passes, 1);
    pn_sequence_free(s);
    for (uint32_t i = 0; i < 3; i++) pn_sequence_free(others[i]);
}

static void the_same_guesses(void **state)
{
    (void)state;
    static void (*const ways[])(scene *c) = {token_by_token, forked, rewound, tried, given_up, reloaded, with_others};
    for (uint32_t threads = 1; threads <= 2; threads++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            pn_engine_options o = default_options();
            pn_engine_counts counts;
            o.threads = threads;
            o.kv = kv;
            scene c = new_scene(&o);
            for (size_t i = 0; i < PN_COUNT(ways); i++) ways[i](&c);
            pn_engine_read_counts(c.r.e, &counts);
            assert_true(counts.kv_bytes == 0);
            rig_free(&c.r);
        }
}

/* ---- states of other engines --------------------------------------------------------------------------------------- */

/* With and without a drafter, and with another one: the same logits; what nobody knows of the text is not guessed from. */
static void states_are_exchanged(void **state)
{
    (void)state;
    static const char *const drafters[] = {NULL, "drafter-glimmer", "drafter-glimmer-short"};
    pn_engine_options o = default_options();
    rig r[3];
    int32_t ids[90];
    for (int i = 0; i < 3; i++) r[i] = rig_with(drafters[i], &o);
    make_ids(ids, 90, r[0].vocab, 3);
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            pn_sequence *s = asking(&r[from]), *l = asking(&r[to]), *fresh = asking(&r[0]);
            append(s, ids, 45);
            append(fresh, ids, 46);
            advance(s);
            pn_buf b = saved(s);
            load(l, &b);
            assert_int_equal(l->context_from, from == to && from > 0 ? 0 : 45);
            append(l, ids + 45, 1);
            same_bits(advance(l), advance(fresh), r[0].vocab, "a state of another engine", 46);
            for (uint32_t n = 46; n < 90; n++) {
                append(l, &ids[n], 1);
                append(fresh, &ids[n], 1);
                same_bits(advance(l), advance(fresh), r[0].vocab, "a state of another engine", n);
            }
            pn_buf_free(&b);
            pn_sequence_free(s);
            pn_sequence_free(l);
            pn_sequence_free(fresh);
        }
    for (int i = 0; i < 3; i++) rig_free(&r[i]);
}

/* Any change of a saved state is refused, or gives the same as no change. */
static void broken_states(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_with("drafter-glimmer", &o);
    int32_t ids[40];
    make_ids(ids, 40, r.vocab, 3);
    pn_sequence *s = asking(&r);
    append(s, ids, 40);
    advance(s);
    pn_buf b = saved(s);
    enum { HEADER = 2 * sizeof(uint64_t) + 2 * sizeof(uint32_t) }; /* of the drafter's part, before its two pages and the checksum */
    const size_t at = b.n - sizeof(uint64_t) - 2 * (sizeof(uint32_t) + r.e->pool[PN_DRAFTER].page_bytes) - HEADER;
    for (size_t i = 0; i < HEADER; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint64_t user;
            uint8_t *p = (uint8_t *)b.p;
            p[at + i] ^= (uint8_t)(1 << bit);
            uint64_t sum = pn_hash64(p, b.n - sizeof sum, 2), old;
            memcpy(&old, p + b.n - sizeof sum, sizeof sum);
            memcpy(p + b.n - sizeof sum, &sum, sizeof sum); /* so that it is not the checksum that is refused */
            const ponder_status st = pn_sequence_load(s, 5, p, b.n, &user, NULL);
            assert_true(st == PONDER_OK || st == PONDER_E_FORMAT);
            if (st == PONDER_OK) assert_true(s->context_from <= 40 && pn_sequence_logits(s));
            memcpy(p + b.n - sizeof sum, &old, sizeof old);
            p[at + i] ^= (uint8_t)(1 << bit);
        }
    pn_buf_free(&b);
    pn_sequence_free(s);
    rig_free(&r);
}

/* ---- what passes cost ------------------------------------------------------------------------------------------------ */

/* What steps take in which a drafter is asked, with so many guesses that come; a step without it takes 1. */
static double time_with(pn_luck *l, uint32_t right, uint32_t tokens, double pass, double column)
{
    int32_t ids[LIMIT] = {0};
    double time = 0;
    uint64_t accepted = l->accepted;
    for (uint32_t made = 0; made < tokens;) {
        float chance = 1;
        pn_luck_see(l, ids, LIMIT, accepted);
        time += 1;
        made++;
        if (!pn_luck_pays(l, pass, column, 1)) continue;
        time += pass;
        for (uint32_t i = 0; i < BLOCK - 1; i++) pn_luck_guess(l, i, 5, i < right ? 0 : 1, 0.5f, &chance);
        const uint32_t paid = PN_MIN(right + 1, (uint32_t)BLOCK - 1);
        time += column * paid;
        made += right;
        accepted += right;
    }
    return time;
}

static void a_useless_drafter_is_left_off(void **state)
{
    (void)state;
    static const double passes[] = {0.05, 0.2, 0.5, 2, 10};
    for (size_t i = 0; i < PN_COUNT(passes); i++) {
        pn_luck l;
        pn_luck_init(&l);
        const double first = time_with(&l, 0, 400, passes[i], 0.05);
        const double then = time_with(&l, 0, 20000, passes[i], 0.05) / 20000;
        print_message("a pass of %.2f steps: %.3f at first, then %.4f\n", passes[i], first / 400, then);
        assert_true(then < 1.02);
        assert_true(passes[i] > 1 || first < 400 * 1.15);
    }
}

static void a_good_one_is_asked(void **state)
{
    (void)state;
    pn_luck l;
    pn_luck_init(&l);
    double time = time_with(&l, 5, 2000, 0.3, 0.05) / 2000;
    assert_true(time < 0.3);                               /* (1 + 0.3 + 6 * 0.05) / 6 */
    assert_true(time_with(&l, 0, 4000, 0.3, 0.05) / 4000 < 1.03); /* it fails from here on */
    time_with(&l, 5, 400, 0.3, 0.05);                      /* and is found out to be good again */
    time = time_with(&l, 5, 2000, 0.3, 0.05) / 2000;
    assert_true(time < 0.3);
}

/* A class's chance becomes what came of its guesses; a chain's chance falls. */
static void chances(void **state)
{
    (void)state;
    pn_luck l;
    int32_t ids[LIMIT] = {0};
    float chance = 1;
    pn_luck_init(&l);
    pn_luck_guess(&l, 0, 5, 0, 0.99f, &chance);
    assert_true(chance > 0.5f && chance < 1);
    const float first = chance;
    pn_luck_guess(&l, 1, 5, 0, 0.01f, &chance);
    assert_true(chance < 0.2f * first);
    for (int i = 0; i < 60; i++) {
        chance = 1;
        pn_luck_guess(&l, 0, 5, i % 2, 0.99f, &chance); /* every other comes */
        pn_luck_see(&l, ids, LIMIT, 0);
    }
    chance = 1;
    pn_luck_guess(&l, 0, 5, 0, 0.99f, &chance);
    assert_true(chance > 0.4f && chance < 0.6f);
}

/* What is known of a drafter's luck is where the next text begins. */
static void luck_is_shared(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    pn_network *n = load_network("muse-glimmer");
    load_drafter(n, "drafter-glimmer");
    rig r = rig_over(n, &o);
    int32_t ids[LIMIT];
    make_ids(ids, LIMIT, r.vocab, 5);
    pn_sequence *s = asking(&r), *next;
    for (uint32_t i = 0; i < LIMIT; i++) {
        append(s, &ids[i], 1);
        advance(s);
    }
    assert_true(r.e->passes > 4 && r.e->luck < 0.5f * pn_luck_hoped);
    next = asking(&r);
    append(next, ids, 30);
    advance(next);
    append(next, ids, 1);
    advance(next);
    assert_true(next->drafts.luck.taken < 0.5f * pn_luck_hoped);
    pn_sequence_free(next);
    pn_sequence_free(s);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_guesses), cmocka_unit_test(states_are_exchanged), cmocka_unit_test(broken_states),
        cmocka_unit_test(a_useless_drafter_is_left_off), cmocka_unit_test(a_good_one_is_asked), cmocka_unit_test(chances), cmocka_unit_test(luck_is_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
