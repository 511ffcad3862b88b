/* Pages and sequences: what sharing costs, what rewinding keeps, cancel, saved states, reservations. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "rig.h"

enum { WINDOW_MODEL_TOKENS = 200 };

/* A prefix of P tokens and its forks hold P plus the suffixes, to within a page each. */
static void forks_store_the_prefix_once(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("llama", &o);
    pn_sequence *parent = sequence(&r, 2048), *child[8];
    int32_t ids[1000];
    make_ids(ids, 1000, r.vocab, 3);
    append(parent, ids, 1000);
    advance(parent);
    pn_engine_counts one, all;
    pn_engine_read_counts(r.e, &one);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pn_sequence_fork(&child[i], parent, 2048, NULL), PONDER_OK);
        append(child[i], ids + i, 40);
        advance(child[i]);
    }
    pn_engine_read_counts(r.e, &all);
    uint64_t page = one.kv_bytes / 32; /* 1000 tokens: 32 pages */
    assert_true(one.kv_bytes == 32 * page);
    assert_true(all.kv_bytes == (32 + 8 * 2) * page); /* each its copy of the last page, and one more */
    assert_int_equal(all.prefilled - one.prefilled, 8 * 40);
    for (int i = 0; i < 8; i++) pn_sequence_free(child[i]);
    pn_engine_read_counts(r.e, &all);
    assert_true(all.kv_bytes == one.kv_bytes);
    pn_sequence_free(parent);
    pn_engine_read_counts(r.e, &all);
    assert_true(all.kv_bytes == 0);
    rig_free(&r);
}

/* Any order of freeing, writing and rewinding leaves every sequence with the pages it was promised. */
/* A 4k prefix and what eight forks write of their own: whole pages of the prefix once, what is behind them eight times. Where the
 * prefix ends with a page, within 3 % of prefix + suffixes at the bytes of a token (2 layers, a key and a value of 2 heads of 16 halves);
 * else each fork has a copy of the last page. */
static void a_long_prefix_is_shared(void **state)
{
    (void)state;
    enum { PREFIX = 4096, FORKS = 8, SUFFIX = 500, TOKEN = 2 * 2 * 2 * 16 * 2 };
    static int32_t ids[PREFIX + 1 + SUFFIX];
    pn_engine_options o = default_options();
    o.columns = 512;
    rig r = rig_new("llama", &o);
    make_ids(ids, PN_COUNT(ids), r.vocab, 3);
    for (uint32_t prefix = PREFIX - 1; prefix <= PREFIX + 1; prefix++) {
        pn_sequence *s = sequence(&r, 8192), *fork[FORKS];
        pn_engine_counts n;
        append(s, ids, prefix);
        advance(s);
        for (int i = 0; i < FORKS; i++) {
            assert_int_equal(pn_sequence_fork(&fork[i], s, 8192, NULL), PONDER_OK);
            append(fork[i], ids + prefix - (uint32_t)i, SUFFIX);
            advance(fork[i]);
        }
        pn_engine_read_counts(r.e, &n);
        const uint64_t whole = prefix / 32, each = (prefix + SUFFIX + 31) / 32 - whole, rest = prefix % 32 ? 1 : 0; /* the parent's last page */
        assert_int_equal(n.kv_bytes, (whole + rest + FORKS * each) * 32 * TOKEN);
        if (rest == 0) assert_true(n.kv_bytes * 100 <= (uint64_t)TOKEN * (prefix + FORKS * SUFFIX) * 103);
        for (int i = 0; i < FORKS; i++) pn_sequence_free(fork[i]);
        pn_sequence_free(s);
    }
    rig_free(&r);
}

static void credits_survive_anything(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "muse-glimmer", "gemma3"};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        pn_engine_options o = default_options();
        rig r = rig_new(models[m], &o);
        pn_sequence *s[6] = {sequence(&r, 300)};
        int32_t ids[300];
        make_ids(ids, 300, r.vocab, 5);
        uint64_t x = 88172645463325252u + m;
        for (int round = 0; round < 1500; round++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            uint32_t i = x % 6, what = (x >> 8) % 6, amount = (x >> 16) % 70;
            if (!s[i]) {
                uint32_t from = (x >> 24) % 6;
                if (s[from]) assert_int_equal(pn_sequence_fork(&s[i], s[from], 300, NULL), PONDER_OK);
                else s[i] = sequence(&r, 300);
            } else if (what == 0) {
                pn_sequence_free(s[i]);
                s[i] = NULL;
            } else if (what == 1) {
                uint32_t n = pn_sequence_count(s[i]);
                assert_int_equal(pn_sequence_rewind(s[i], n * amount / 70, NULL, NULL), PONDER_OK);
            } else if (what == 2) {
                pn_sequence_mark(s[i]);
            } else {
                uint32_t room = 300 - pn_sequence_count(s[i]);
                append(s[i], ids, PN_MIN(amount, room));
                if (pn_sequence_count(s[i])) advance(s[i]);
            }
        }
        for (int i = 0; i < 6; i++) pn_sequence_free(s[i]);
        pn_engine_counts c;
        pn_engine_read_counts(r.e, &c);
        assert_true(c.kv_bytes == 0);
        rig_free(&r);
    }
}

/* A sliding layer keeps its window only; back to the mark is free, further back says how much it costs. */
static void sliding_layers_keep_their_window(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    o.columns = 32;
    rig r = rig_new("muse-glimmer", &o); /* window 10 */
    pn_sequence *s = sequence(&r, 1024);
    int32_t ids[1000];
    make_ids(ids, 1000, r.vocab, 11);
    append(s, ids, WINDOW_MODEL_TOKENS);
    advance(s);
    float want[512];
    assert_true(r.vocab <= 512);
    memcpy(want, pn_sequence_logits(s), r.vocab * sizeof *want);
    pn_sequence_mark(s);
    pn_engine_counts at_mark, later;
    pn_engine_read_counts(r.e, &at_mark);
    append(s, ids, 500);
    advance(s);
    pn_engine_read_counts(r.e, &later);
    /* 500 tokens are 16 pages of the full layers; the sliding ones keep two ends and the mark's window. */
    pn_kv_layout l;
    pn_kv_layout_init(&l, &r.net->d, PN_KV_F16);
    assert_true(later.kv_bytes <= at_mark.kv_bytes + 16 * l.page_bytes[PN_FULL] + 3 * l.page_bytes[PN_SLIDING]);
    uint32_t again = 99;
    assert_int_equal(pn_sequence_rewind(s, WINDOW_MODEL_TOKENS, &again, NULL), PONDER_OK);
    assert_int_equal(again, 0);
    same_bits(advance(s), want, r.vocab, "back at the mark", WINDOW_MODEL_TOKENS);
    append(s, ids, 500);
    advance(s);
    assert_int_equal(pn_sequence_rewind(s, 150, &again, NULL), PONDER_OK);
    assert_int_equal(again, 150);
    append(s, ids + 150, 50);
    same_bits(advance(s), want, r.vocab, "computed again", WINDOW_MODEL_TOKENS);
    pn_sequence_free(s);
    rig_free(&r);
}

/* A try of any length, begun anywhere, computed wholly, in part or not at all, leaves nothing behind: not in the logits, not in what is
 * computed later, not in pages or what is set aside. */
static void a_try_leaves_no_trace(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "muse-glimmer", "seed0"}; /* windows: none, 10, 64 */
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        pn_engine_options o = default_options();
        rig r = rig_new(models[m], &o);
        pn_sequence *plain = sequence(&r, 420), *tried = sequence(&r, 420), *fork = NULL;
        int32_t ids[420];
        make_ids(ids, 420, PN_MIN(r.vocab, 380u), 5);
        append(plain, ids, 70);
        append(tried, ids, 70);
        advance(plain);
        advance(tried);
        pn_sequence_mark(plain);
        pn_sequence_mark(tried);
        pn_sequence_rest(plain);
        pn_sequence_rest(tried);
        for (uint32_t at = 70; at < 230; at++) {
            const uint32_t n = 1 + at * 7 % pn_engine_try_most(r.e), half = n / 2;
            pn_engine_counts before, after;
            const uint64_t bytes = pn_sequence_bytes(tried);
            if (at % 40 == 0) {
                pn_sequence_free(fork);
                assert_int_equal(pn_sequence_fork(&fork, tried, 420, NULL), PONDER_OK);
            }
            pn_engine_read_counts(r.e, &before);
            assert_int_equal(pn_sequence_hold(tried, NULL), PONDER_OK);
            append(tried, ids + 3, half);
            if (at % 3 && half) advance(tried);
            append(tried, ids + 50, n - half);
            if (at % 3 == 1) advance(tried);
            if (at % 3 == 2) pn_sequence_advance(tried, 1, NULL); /* a tile, then it rests */
            assert_int_equal(pn_sequence_held(tried), at);
            pn_sequence_return(tried);
            pn_engine_read_counts(r.e, &after);
            assert_int_equal(pn_sequence_count(tried), at);
            if (at % 40) assert_true(after.kv_bytes == before.kv_bytes && pn_sequence_bytes(tried) == bytes);
            same_bits(pn_sequence_logits(tried), pn_sequence_logits(plain), r.vocab, "after a try", at);
            append(plain, ids + at, 1);
            append(tried, ids + at, 1);
            advance(tried);
            pn_sequence_rest(tried); /* one thread has both: nobody is to be waited for */
            same_bits(pn_sequence_logits(tried), advance(plain), r.vocab, "one on", at + 1);
            pn_sequence_rest(plain);
        }
        pn_sequence_free(fork);
        pn_sequence_free(plain);
        pn_sequence_free(tried);
        pn_engine_counts end;
        pn_engine_read_counts(r.e, &end);
        assert_int_equal(end.kv_bytes, 0);
        rig_free(&r);
    }
}

static void a_full_context_is_refused(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("llama", &o);
    ponder_error err = {.size = sizeof err};
    pn_sequence *s = sequence(&r, 40);
    int32_t ids[41];
    make_ids(ids, 41, r.vocab, 1);
    assert_int_equal(pn_sequence_append(s, ids, 41, &err), PONDER_E_CONTEXT);
    append(s, ids, 40);
    advance(s);
    assert_int_equal(pn_sequence_append(s, ids, 1, &err), PONDER_E_CONTEXT);
    ids[0] = (int32_t)r.vocab;
    assert_int_equal(pn_sequence_rewind(s, 10, NULL, &err), PONDER_OK);
    assert_int_equal(pn_sequence_append(s, ids, 1, &err), PONDER_E_RANGE);
    assert_int_equal(pn_sequence_rewind(s, 11, NULL, &err), PONDER_E_RANGE);
    pn_sequence_free(s);
    rig_free(&r);
}

/* ---- cancel ------------------------------------------------------------------------------------ */

typedef struct caller {
    pn_sequence *s;
    _Atomic bool back;
    ponder_status st;
} caller;

static void *advance_it(void *arg)
{
    caller *c = arg;
    c->st = pn_sequence_advance(c->s, 0, NULL);
    atomic_store(&c->back, true);
    return NULL;
}

static void cancel_returns_and_leaves_the_rest(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("seed0", &o);
    int32_t ids[1500];
    make_ids(ids, 1500, 300, 2);
    pn_sequence *alone = sequence(&r, 1600), *other = sequence(&r, 1600), *doomed = sequence(&r, 1600);
    append(alone, ids, 1500);
    float *want = malloc(r.vocab * sizeof *want);
    memcpy(want, advance(alone), r.vocab * sizeof *want);
    for (int round = 0; round < 5; round++) {
        append(other, ids, 1500);
        append(doomed, ids + 7, 1400);
        caller a = {.s = other}, b = {.s = doomed};
        pthread_t ta, tb;
        pthread_create(&ta, NULL, advance_it, &a);
        pthread_create(&tb, NULL, advance_it, &b);
        usleep(500 * (useconds_t)round);
        pn_sequence_cancel(doomed);
        pthread_join(ta, NULL);
        pthread_join(tb, NULL);
        assert_int_equal(a.st, PONDER_OK);
        assert_true(b.st == PONDER_E_CANCELLED || b.st == PONDER_OK);
        same_bits(pn_sequence_logits(other), want, r.vocab, "beside a cancelled one", 1500);
        pn_sequence_take_cancel(doomed);
        advance(doomed); /* usable again */
        assert_int_equal(pn_sequence_rewind(doomed, 0, NULL, NULL), PONDER_OK);
        assert_int_equal(pn_sequence_rewind(other, 0, NULL, NULL), PONDER_OK);
    }
    pn_sequence_cancel(doomed);
    append(doomed, ids, 10);
    assert_int_equal(pn_sequence_advance(doomed, 0, NULL), PONDER_E_CANCELLED);
    free(want);
    pn_sequence_free(alone);
    pn_sequence_free(other);
    pn_sequence_free(doomed);
    rig_free(&r);
}

/* ---- saved states ---------------------------------------------------------------------------------- */

static void a_state_comes_back(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "muse-glimmer", "muse-spark"};
    for (size_t m = 0; m < PN_COUNT(models); m++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            pn_engine_options o = default_options();
            o.kv = kv;
            rig r = rig_new(models[m], &o);
            pn_sequence *s = sequence(&r, 400), *t = sequence(&r, 300);
            int32_t ids[150];
            make_ids(ids, 150, r.vocab, 4);
            append(s, ids, 120);
            advance(s);
            pn_buf b;
            pn_buf_init(&b, NULL);
            assert_int_equal(pn_sequence_save(s, 77, 5, &b, NULL), PONDER_OK);
            uint64_t user = 0;
            assert_int_equal(pn_sequence_load(t, 77, b.p, b.n, &user, NULL), PONDER_OK);
            assert_int_equal(user, 5);
            pn_engine_counts before, after;
            pn_engine_read_counts(r.e, &before);
            same_bits(pn_sequence_logits(t), pn_sequence_logits(s), r.vocab, "loaded", 120);
            append(s, ids + 120, 1);
            append(t, ids + 120, 1);
            same_bits(advance(t), advance(s), r.vocab, "one on", 121);
            pn_engine_read_counts(r.e, &after);
            assert_int_equal(after.prefilled, before.prefilled);
            /* Every kind of damage is refused and changes nothing. */
            assert_int_equal(pn_sequence_load(t, 78, b.p, b.n, &user, NULL), PONDER_E_MISMATCH);
            for (size_t cut = 0; cut < b.n; cut += 1 + b.n / 97) assert_true(pn_sequence_load(t, 77, b.p, cut, &user, NULL) < 0);
            for (size_t at = 0; at < b.n; at += 1 + b.n / 211) {
                b.p[at] ^= 0x10;
                assert_true(pn_sequence_load(t, 77, b.p, b.n, &user, NULL) < 0);
                b.p[at] ^= 0x10;
            }
            assert_int_equal(pn_sequence_count(t), 121);
            same_bits(advance(t), advance(s), r.vocab, "after refusals", 121);
            pn_buf_free(&b);
            pn_sequence_free(s);
            pn_sequence_free(t);
            rig_free(&r);
        }
}

/* A prompt of many chunks does not keep a generating sequence waiting, nor the other way round: each of its tokens takes
 * one chunk of the prompt along. One thread, so that nothing depends on who wakes first. */
static void prefill_does_not_starve_decoding(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    o.columns = 64;
    o.chunk = 8;
    rig r = rig_new("seed0", &o);
    int32_t ids[1200];
    make_ids(ids, 1200, 300, 6);
    pn_sequence *talker = sequence(&r, 400), *reader = sequence(&r, 1300);
    append(talker, ids, 20);
    advance(talker);
    append(reader, ids, 1200);
    for (uint32_t i = 1; i <= 100; i++) {
        append(talker, ids + i, 1);
        pn_sequence_submit(reader);
        advance(talker);
        assert_int_equal(pn_sequence_computed(reader), 8 * i);
    }
    pn_sequence_rest(talker);
    pn_engine_counts before, after;
    pn_engine_read_counts(r.e, &before);
    advance(reader);
    pn_engine_read_counts(r.e, &after);
    assert_int_equal(after.steps - before.steps, 7); /* alone: 400 tokens in steps of 64 */
    pn_sequence_free(talker);
    pn_sequence_free(reader);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_store_the_prefix_once), cmocka_unit_test(a_long_prefix_is_shared), cmocka_unit_test(credits_survive_anything),
        cmocka_unit_test(sliding_layers_keep_their_window), cmocka_unit_test(a_try_leaves_no_trace), cmocka_unit_test(a_full_context_is_refused),
        cmocka_unit_test(cancel_returns_and_leaves_the_rest), cmocka_unit_test(a_state_comes_back),
        cmocka_unit_test(prefill_does_not_starve_decoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
