/* Masks against the bytes themselves, going back, clones, depth, caches that are too small, memory that runs out, threads. */
#include <pthread.h>

#include "support.h"

#include <cmocka.h>

static vocabulary v;

static int load(void **state)
{
    vocabulary_made(&v);
    return 0;
}

static int unload(void **state)
{
    vocabulary_free(&v);
    return 0;
}

static const char tree[] = "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":40},\"kind\":{\"enum\":[\"a\",\"ab\",3]},"
    "\"children\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/n\"},\"maxItems\":3}},\"required\":[\"name\",\"children\"],\"additionalProperties\":false}},\"$ref\":\"#/$defs/n\"}";
static const char united[] = "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"number\",\"maximum\":10}},\"required\":[\"x\"]},{\"type\":\"array\",\"items\":{\"type\":[\"null\",\"array\"]}},"
    "{\"type\":\"object\",\"properties\":{\"xy\":{\"type\":\"string\",\"pattern\":\"^\\\\w+( \\\\w+){1,3}$\"}},\"required\":[\"xy\"],\"additionalProperties\":{\"type\":\"string\",\"minLength\":200}},{\"type\":\"string\",\"minLength\":3,\"maxLength\":400}]}";
static const char any[] = "{}";

static pn_grammar *schema(const char *json)
{
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    if (pn_grammar_schema(&g, json, strlen(json), 0, NULL, &err)) fail_msg("%s: %s", json, err.text);
    return g;
}

static pn_grammar *regex(const char *pattern)
{
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    if (pn_grammar_regex(&g, pattern, strlen(pattern), NULL, &err)) fail_msg("%s: %s", pattern, err.text);
    return g;
}

static pn_matcher *matcher(pn_grammar *g, uint32_t undo, size_t cache)
{
    pn_matcher *m;
    ponder_error err = {.size = sizeof err};
    if (pn_matcher_new(&m, g, v.trie, undo, cache, NULL, &err)) fail_msg("%s", err.text);
    return m;
}

static uint32_t *new_words(void)
{
    uint32_t *w = malloc((v.n + 31) / 32 * sizeof *w);
    assert_non_null(w);
    return w;
}

static bool in_mask(const uint32_t *words, uint32_t id) { return words[id / 32] >> id % 32 & 1; }

/* Any allowed token; those that are one of the brackets and quotes first, now and then. */
static uint32_t pick(const uint32_t *words, uint64_t *seed)
{
    static const char marks[] = "\"{[]},:";
    for (int i = 0; i < 4; i++) {
        const uint32_t id = (uint8_t)marks[random_below(seed, sizeof marks - 1)];
        if (random_below(seed, 2) && in_mask(words, id)) return id;
    }
    uint32_t id = (uint32_t)random_below(seed, v.n);
    for (uint32_t tries = 0; !in_mask(words, id); id = (id + 1) % v.n)
        if (tries++ == v.n) return UINT32_MAX;
    return id;
}

/* ---- masks ---------------------------------------------------------------------------------------------------------------------------------- */

static void compare_mask(pn_matcher *m, const uint32_t *words, int step)
{
    for (uint32_t id = 0; id < v.n; id++)
        if (in_mask(words, id) != pn_matcher_allows(m, (int32_t)id)) {
            size_t n;
            const char *p = token_bytes(&v, id, &n);
            fail_msg("step %d: token '%.*s': mask %d", step, (int)n, p, in_mask(words, id));
        }
}

static void walk_and_compare(pn_grammar *g, size_t cache, uint64_t seed, int walks)
{
    pn_matcher *m = matcher(g, 0, cache);
    uint32_t *words = new_words();
    for (int k = 0; k < walks; k++) {
        pn_matcher_reset(m);
        for (int i = 0; i < 60 && !pn_matcher_is_done(m); i++) {
            assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
            compare_mask(m, words, i);
            const uint32_t id = pick(words, &seed);
            assert_int_not_equal(id, UINT32_MAX); /* never a dead end */
            assert_int_equal(pn_matcher_accept(m, (int32_t)id, NULL), PONDER_OK);
        }
    }
    pn_matcher_stats st;
    pn_matcher_get_stats(m, &st);
    assert_int_equal(st.cut_short, 0);
    if (cache < 100000) assert_true(st.sweeps > 0 && st.bytes < 2000000);
    free(words);
    pn_matcher_free(m);
    pn_grammar_free(g);
}

static void masks_are_what_the_bytes_say(void **state)
{
    walk_and_compare(schema(tree), PN_MATCHER_CACHE, 1, 8);
    walk_and_compare(schema(united), PN_MATCHER_CACHE, 2, 12);
    walk_and_compare(schema(any), PN_MATCHER_CACHE, 3, 8);
    walk_and_compare(schema("{\"type\":\"object\",\"properties\":{\"true\":{\"type\":\"integer\"},\"word\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}"), PN_MATCHER_CACHE, 4, 8);
    walk_and_compare(schema("{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":30,\"maxLength\":45},\"minItems\":2}"), PN_MATCHER_CACHE, 5, 4);
    walk_and_compare(regex(".{0,30}(the|ing)[^<\"]{3,}.*"), PN_MATCHER_CACHE, 6, 8);
    const pn_tool_schema tool = {pn_str_of("fn"), pn_str_of("{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{}},\"additionalProperties\":{\"type\":\"object\"}}")};
    pn_grammar *g;
    assert_int_equal(pn_grammar_call_muse(&g, &tool, 1, 0, NULL, NULL), PONDER_OK);
    walk_and_compare(g, PN_MATCHER_CACHE, 7, 8);
}

static void a_small_cache_changes_nothing(void **state)
{
    walk_and_compare(schema(tree), 3000, 1, 2);
    walk_and_compare(schema(united), 3000, 2, 4);
    walk_and_compare(schema(any), 1, 3, 2);
}

/* Text whose tokens open and open: the depth limit must leave a way out at every level. */
static void depth_ends_and_leaves_a_way_out(void **state)
{
    static const char *const schemas[] = {any, tree, "{\"$defs\":{\"l\":{\"type\":\"object\",\"properties\":{\"head\":{\"type\":\"integer\"},\"tail\":{\"anyOf\":[{\"$ref\":\"#/$defs/l\"},{\"type\":\"null\"}]}},"
        "\"required\":[\"head\",\"tail\"],\"additionalProperties\":false}},\"$ref\":\"#/$defs/l\"}"};
    for (size_t k = 0; k < PN_COUNT(schemas); k++) {
        pn_grammar *g = schema(schemas[k]);
        pn_matcher *m = matcher(g, 0, PN_MATCHER_CACHE);
        uint32_t *words = new_words();
        uint64_t seed = 9 + k;
        int depth = 0, deepest = 0;
        bool string = false;
        for (int i = 0; i < 30000 && !pn_matcher_is_done(m); i++) {
            assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
            if (depth > 55) compare_mask(m, words, i);
            uint32_t id = pick(words, &seed);
            if (in_mask(words, '"')) id = '"';
            for (const char *c = string ? "" : deepest < 64 ? "[{" : "]}"; *c; c++)
                if (in_mask(words, (uint8_t)*c)) id = (uint8_t)*c;
            assert_int_not_equal(id, UINT32_MAX);
            if (id >= 256) continue; /* bytes only: the depth is counted here */
            assert_int_equal(pn_matcher_accept(m, (int32_t)id, NULL), PONDER_OK);
            string ^= id == '"';
            depth += !string && (id == '{' || id == '[');
            depth -= !string && (id == '}' || id == ']');
            if (depth > deepest) deepest = depth;
        }
        assert_true(pn_matcher_is_done(m));
        assert_int_equal(deepest, 64);
        free(words);
        pn_matcher_free(m);
        pn_grammar_free(g);
    }
}

/* A pattern whose states multiply: the work is bounded, and what comes out is still allowed and never empty. */
static void work_is_bounded(void **state)
{
    pn_grammar *g = regex("(?:[a-z]{0,400}x)?(?:[a-z]{0,400}y)?(?:[a-z]{0,400}z)?(?:[a-z ]{0,400}(?:a|e|i)[a-z ]{0,300}){1,12}!");
    pn_matcher *m = matcher(g, 0, PN_MATCHER_CACHE);
    uint32_t *words = new_words();
    uint64_t seed = 5;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
        for (uint32_t id = 0; id < v.n; id++)
            if (in_mask(words, id)) assert_true(pn_matcher_allows(m, (int32_t)id));
        const uint32_t id = pick(words, &seed);
        assert_int_not_equal(id, UINT32_MAX);
        assert_int_equal(pn_matcher_accept(m, (int32_t)id, NULL), PONDER_OK);
    }
    free(words);
    pn_matcher_free(m);
    pn_grammar_free(g);
}

/* ---- places ------------------------------------------------------------------------------------------------------------------------------------ */

static void taking_back_and_clones(void **state)
{
    pn_grammar *g = schema(tree);
    pn_matcher *m = matcher(g, 8, PN_MATCHER_CACHE), *c, *other = matcher(g, 8, PN_MATCHER_CACHE);
    uint32_t *words = new_words(), *before[40];
    uint64_t seed = 77;
    for (int i = 0; i < 40; i++) {
        before[i] = new_words();
        assert_int_equal(pn_matcher_mask(m, before[i], NULL), PONDER_OK);
        assert_int_equal(pn_matcher_undoable(m), PN_MIN(i, 8));
        assert_int_equal(pn_matcher_accept(m, (int32_t)pick(before[i], &seed), NULL), PONDER_OK);
        if (pn_matcher_is_done(m)) pn_matcher_reset(m), i = -1;
    }
    assert_int_equal(pn_matcher_clone(&c, m, NULL), PONDER_OK);
    assert_int_equal(pn_matcher_rollback(m, 9), PONDER_E_RANGE);
    assert_int_equal(pn_matcher_rollback(m, 3), PONDER_OK);
    assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
    assert_memory_equal(words, before[37], (v.n + 31) / 32 * 4);
    assert_int_equal(pn_matcher_rollback(m, 5), PONDER_OK);
    assert_int_equal(pn_matcher_undoable(m), 0);
    assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
    assert_memory_equal(words, before[32], (v.n + 31) / 32 * 4);
    assert_int_equal(pn_matcher_rollback(c, 1), PONDER_OK); /* has a life of its own */
    assert_int_equal(pn_matcher_mask(c, words, NULL), PONDER_OK);
    assert_memory_equal(words, before[39], (v.n + 31) / 32 * 4);
    assert_int_equal(pn_matcher_assign(m, c), PONDER_OK);
    assert_int_equal(pn_matcher_rollback(m, 2), PONDER_OK);
    assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
    assert_memory_equal(words, before[37], (v.n + 31) / 32 * 4);
    assert_int_equal(pn_matcher_assign(m, other), PONDER_E_ARGUMENT);
    pn_matcher_reset(m);
    assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
    assert_memory_equal(words, before[0], (v.n + 31) / 32 * 4);
    for (int i = 0; i < 40; i++) free(before[i]);
    free(words);
    pn_matcher_free(m); /* the caches stay for the clone */
    assert_false(pn_matcher_allows(c, -1) || pn_matcher_allows(c, (int32_t)v.n) || pn_matcher_allows(c, (int32_t)v.n - 1));
    pn_matcher_free(c);
    pn_matcher_free(other);
    pn_grammar_free(g);
}

static void a_refused_token_leaves_the_place(void **state)
{
    pn_grammar *g = regex("abc");
    pn_matcher *m = matcher(g, 2, PN_MATCHER_CACHE);
    ponder_error err = {.size = sizeof err};
    assert_int_equal(pn_matcher_accept(m, 'x', &err), PONDER_E_ARGUMENT);
    assert_int_equal(pn_matcher_accept_bytes(m, "abx", 3, &err), PONDER_E_ARGUMENT);
    assert_int_equal(pn_matcher_undoable(m), 0);
    assert_int_equal(pn_matcher_accept_bytes(m, "ab", 2, &err), PONDER_OK);
    assert_false(pn_matcher_can_end(m) || pn_matcher_is_done(m));
    assert_int_equal(pn_matcher_accept(m, 'c', &err), PONDER_OK);
    assert_true(pn_matcher_can_end(m) && pn_matcher_is_done(m));
    assert_int_equal(pn_matcher_rollback(m, 2), PONDER_OK);
    assert_int_equal(pn_matcher_accept_bytes(m, "abc", 3, &err), PONDER_OK);
    pn_matcher_free(m);
    pn_grammar_free(g);
}

static void what_must_come(void **state)
{
    static const char json[] = "{\"type\":\"object\",\"properties\":{\"first\":{\"const\":12},\"second\":{\"enum\":[\"xa\",\"xb\"]}},\"required\":[\"first\",\"second\"],\"additionalProperties\":false}";
    pn_grammar *g;
    pn_buf b;
    pn_buf_init(&b, NULL);
    assert_int_equal(pn_grammar_schema(&g, json, strlen(json), PN_GRAMMAR_COMPACT, NULL, NULL), PONDER_OK);
    pn_matcher *m = matcher(g, 0, PN_MATCHER_CACHE);
    assert_int_equal(pn_matcher_forced(m, &b, NULL), PONDER_OK);
    assert_int_equal(b.n, strlen("{\"first\":12,\"second\":\"x"));
    assert_memory_equal(b.p, "{\"first\":12,\"second\":\"x", b.n);
    assert_int_equal(pn_matcher_accept_bytes(m, b.p, b.n, NULL), PONDER_OK);
    b.n = 0;
    assert_int_equal(pn_matcher_accept(m, 'b', NULL), PONDER_OK);
    assert_int_equal(pn_matcher_forced(m, &b, NULL), PONDER_OK);
    assert_memory_equal(b.p, "\"}", b.n);
    assert_int_equal(b.n, 2);
    pn_buf_free(&b);
    pn_matcher_free(m);
    pn_grammar_free(g);
}

/* ---- memory -------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct counter {
    ponder_alloc a;
    size_t calls, live, bytes, most, fail_at; /* fail_at 0: never */
    bool all_after;                           /* and every later one too */
} counter;

static void *counter_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    c->calls++;
    if (c->fail_at && (c->calls == c->fail_at || (c->all_after && c->calls > c->fail_at))) return NULL;
    c->live++;
    c->bytes += bytes;
    c->most = PN_MAX(c->most, c->bytes);
    return malloc(bytes);
}

static void counter_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live--;
    c->bytes -= bytes;
    free(p);
}

static void counter_init(counter *c, size_t fail_at)
{
    *c = (counter){.fail_at = fail_at};
    c->a = (ponder_alloc){.size = sizeof c->a, .user = c, .alloc = counter_alloc, .free = counter_free};
}

/* Few tokens, so that failing every allocation in turn stays quick. */
static const char *few_bytes(void *user, uint32_t id, size_t *n)
{
    static const char *const more[] = {"\"}", "}}", "\": ", "{\"a\"", "abc", "abc", "\xc3", "\xa9x"};
    static const char bytes[] = "\"\"{{}}[[]],,::  \n\naabbcc112233..--ee";
    if (id < (sizeof bytes - 1) / 2) return *n = 1, &bytes[2 * id];
    id -= (sizeof bytes - 1) / 2;
    *n = id < PN_COUNT(more) ? strlen(more[id]) : 0;
    return id < PN_COUNT(more) ? more[id] : NULL;
}

static const char failing[] = "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"type\":\"number\",\"minimum\":1.5},{\"enum\":[\"ab\",1,[2]]},{\"$ref\":\"#/$defs/n\"}]},"
    "\"b\":{\"type\":\"string\",\"pattern\":\"^a{2,9}b+$\",\"maxLength\":12},\"c\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":3},\"maxItems\":2}}}},\"$ref\":\"#/$defs/n\"}";

/* A text in tokens; every status is fine but a wrong one, and after a failure the same call must do when memory is back. */
static ponder_status use(counter *c, pn_matcher *m, pn_matcher *clone, uint32_t *words)
{
    static const char text[] = "{\"a\": {\"a\": [2], \"b\": \"aaab\", \"c\": [\"abc\", \"1\"]}}";
    ponder_status st = PONDER_OK;
    ponder_error err = {.size = sizeof err};
    for (size_t i = 0; i < sizeof text - 1; i++) {
        ponder_status one = pn_matcher_mask(m, words, &err);
        if (!one) one = pn_matcher_accept_bytes(m, text + i, 1, &err);
        if (!one && i % 5 == 0) one = pn_matcher_accept_bytes(clone, text, i + 1, &err);
        if (i % 5 == 0) pn_matcher_reset(clone);
        if (one) {
            assert_int_equal(one, PONDER_E_NOMEM);
            st = one;
            c->fail_at = 0; /* memory is back: nothing was lost */
            pn_matcher_reset(clone);
            pn_matcher_reset(m);
            i = (size_t)-1;
        }
    }
    assert_true(pn_matcher_is_done(m));
    return st;
}

static ponder_status all_of_it(counter *c, uint32_t *words)
{
    pn_grammar *g = NULL;
    pn_vocab_trie *t = NULL;
    pn_matcher *m = NULL, *clone = NULL;
    ponder_error err = {.size = sizeof err};
    ponder_status st = pn_grammar_schema(&g, failing, strlen(failing), 0, &c->a, &err);
    if (!st) st = pn_vocab_trie_new(&t, 40, few_bytes, NULL, &c->a, &err);
    if (!st) st = pn_matcher_new(&m, g, t, 4, 20000, &c->a, &err);
    if (!st) st = pn_matcher_clone(&clone, m, &err);
    if (!st) st = use(c, m, clone, words);
    pn_matcher_free(clone);
    pn_matcher_free(m);
    pn_vocab_trie_free(t);
    pn_grammar_free(g);
    assert_int_equal(c->live, 0);
    assert_int_equal(c->bytes, 0);
    return st;
}

static void every_allocation_fails_in_turn(void **state)
{
    uint32_t words[2];
    for (int all_after = 0; all_after < 2; all_after++) {
        size_t n = 1;
        for (;; n++) {
            counter c;
            counter_init(&c, n);
            c.all_after = all_after;
            const ponder_status st = all_of_it(&c, words);
            if (st == PONDER_OK && c.calls < n) break;
            if (st) assert_int_equal(st, PONDER_E_NOMEM);
        }
        assert_true(n > 300);
    }
}

static void calls_fail_in_turn_too(void **state)
{
    const pn_tool_schema tool = {pn_str_of("fn"), pn_str_of("{\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"enum\":[1,\"x\"]},\"c\":{\"type\":\"object\"}},\"additionalProperties\":{\"type\":\"integer\"}}")};
    const pn_piece pieces[] = {{.kind = PN_PIECE_UNTIL, .text = pn_str_of("go")}, {.kind = PN_PIECE_CALL_MUSE, .tools = &tool, .n_tools = 1}, {.kind = PN_PIECE_OR},
        {.kind = PN_PIECE_CALL_JSON, .tools = &tool, .n_tools = 1}, {.kind = PN_PIECE_REGEX, .text = pn_str_of("(a|b){3,7}[^x]*")}};
    for (size_t n = 1;; n++) {
        counter c;
        pn_grammar *g;
        counter_init(&c, n);
        const ponder_status st = pn_grammar_pieces(&g, pieces, PN_COUNT(pieces), &c.a, NULL);
        pn_grammar_free(g);
        assert_int_equal(c.live, 0);
        if (!st) break;
        assert_int_equal(st, PONDER_E_NOMEM);
    }
}

/* ---- threads --------------------------------------------------------------------------------------------------------------------------------------- */

typedef struct job { pn_matcher *m; uint64_t seed; pn_buf text; } job;

static void *run(void *user)
{
    job *j = user;
    for (int i = 0; i < 5; i++) {
        pn_matcher_reset(j->m);
        if (!sample(j->m, &v, &j->seed, 30, NULL, 0, &j->text)) j->text.failed = true;
    }
    return NULL;
}

static void clones_in_threads(void **state)
{
    pn_grammar *g = schema(tree);
    for (size_t cache = 20000; cache <= PN_MATCHER_CACHE; cache += PN_MATCHER_CACHE - 20000) {
        job jobs[4], alone[4];
        pthread_t threads[4];
        pn_matcher *m = matcher(g, 4, cache);
        for (int i = 0; i < 4; i++) {
            jobs[i] = alone[i] = (job){.seed = 100 + (uint64_t)i};
            pn_buf_init(&jobs[i].text, NULL);
            pn_buf_init(&alone[i].text, NULL);
            assert_int_equal(pn_matcher_clone(&jobs[i].m, m, NULL), PONDER_OK);
            assert_int_equal(pthread_create(&threads[i], NULL, run, &jobs[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            alone[i].m = matcher(g, 0, PN_MATCHER_CACHE);
            run(&alone[i]);
            assert_false(alone[i].text.failed || jobs[i].text.failed);
            assert_int_equal(jobs[i].text.n, alone[i].text.n);
            assert_memory_equal(jobs[i].text.p, alone[i].text.p, alone[i].text.n);
            pn_matcher_free(alone[i].m);
            pn_matcher_free(jobs[i].m);
            pn_buf_free(&alone[i].text);
            pn_buf_free(&jobs[i].text);
        }
        pn_matcher_free(m);
    }
    pn_grammar_free(g);
}

/* ---- the trie ------------------------------------------------------------------------------------------------------------------------------------------ */

static const char *strange_bytes(void *user, uint32_t id, size_t *n)
{
    static const char long_one[300] = "x";
    static const struct { const char *p; size_t n; } tokens[] = {{"a", 1}, {"", 0}, {"a", 1}, {long_one, 300}, {"a", 1}, {"\xff", 1}, {"ab\0c", 4}, {long_one, 255}, {NULL, 0}, {"\"", 1}};
    *n = tokens[id].n;
    return tokens[id].p;
}

static void strange_vocabularies(void **state)
{
    pn_vocab_trie *t;
    pn_matcher *m;
    uint32_t words[1];
    assert_int_equal(pn_vocab_trie_new(&t, 0, strange_bytes, NULL, NULL, NULL), PONDER_E_RANGE);
    assert_int_equal(pn_vocab_trie_new(&t, 1 << 24, strange_bytes, NULL, NULL, NULL), PONDER_E_RANGE);
    assert_int_equal(pn_vocab_trie_new(&t, 10, strange_bytes, NULL, NULL, NULL), PONDER_OK);
    static const struct { const char *pattern; uint32_t mask; } cases[] = {{"[^]*", 0x255}, {"a", 0x15}, {"[^a]", 0x200}, {"b", 0}, {"ab\\0c", 0x55}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        pn_grammar *g = regex(cases[i].pattern);
        assert_int_equal(pn_matcher_new(&m, g, t, 0, PN_MATCHER_CACHE, NULL, NULL), PONDER_OK);
        assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
        if (i != 0) assert_int_equal(words[0], cases[i].mask);
        else assert_int_equal(words[0] & 0x255, 0x255);
        assert_false(pn_matcher_allows(m, 3) || pn_matcher_allows(m, 1));
        pn_matcher_free(m);
        pn_grammar_free(g);
    }
    pn_vocab_trie_free(t);
}

/* ---- what is taken without being walked through ------------------------------------------------------------------------------------------------------ */

/* All texts of up to six letters out of four, and each of them behind a quote: every node has much below it. */
static const char *dense_bytes(void *user, uint32_t id, size_t *n)
{
    static char text[8];
    const char *letters = user;
    size_t len = 0;
    if (id & 1) text[len++] = '"';
    for (id /= 2; id > 0; id = (id - 1) / 4) text[len++] = letters[(id - 1) % 4];
    *n = len;
    return text;
}

enum { DENSE = 2 * (1 + 4 + 16 + 64 + 256 + 1024 + 4096) };

/* Every mask along the text says of each token what its bytes say. */
static void follow_dense(pn_grammar *g, pn_vocab_trie *t, const char *text)
{
    static uint32_t words[(DENSE + 31) / 32];
    pn_matcher *m;
    assert_int_equal(pn_matcher_new(&m, g, t, 0, PN_MATCHER_CACHE, NULL, NULL), PONDER_OK);
    for (;; text++) {
        assert_int_equal(pn_matcher_mask(m, words, NULL), PONDER_OK);
        for (uint32_t id = 0; id < DENSE; id++)
            if (in_mask(words, id) != pn_matcher_allows(m, (int32_t)id)) fail_msg("'%s': token %u: mask %d", text, (unsigned)id, in_mask(words, id));
        if (!*text) break;
        if (pn_matcher_accept_bytes(m, text, 1, NULL)) fail_msg("'%s' is refused", text);
    }
    pn_matcher_free(m);
}

/* Loops, counted ones with the limit in every distance, free text with limits and with what it must not contain. */
static void what_is_below_at_once(void **state)
{
    static char plain[] = "abgo", marks[] = "ab<\xc3";
    static const struct { const char *pattern, *text; } patterns[] = {{"[abgo]*", "ab"}, {"[abg]{1,9}o?", "abgabgab"}, {"[ab]+(g[ab]+)*", "abgab"}, {".{0,9}", "abgoabgoa"},
        {".{12,14}", "abgoabgoabgo"}, {"([ab]{1,3}g){2,5}", "abgag"}, {"(a|g)*o[^g]{0,4}", "agobb"}, {"(abo|[abg]{2,7})o", "abgab"}, {"[abg<]*", "ab"}, {"[^a]*", ""},
        {"[^<]{3,8}", ""}, {"[abgo]{1,9}", "abgoabgoa"}, {"([abgo]{2,4}x){1,2}", "ab"}, {"a{3}[abgo]{0,5}b?", "aaaabg"}};
    for (char *letters = plain; letters; letters = letters == plain ? marks : NULL) {
        pn_vocab_trie *t;
        assert_int_equal(pn_vocab_trie_new(&t, DENSE, dense_bytes, letters, NULL, NULL), PONDER_OK);
        for (size_t i = 0; i < PN_COUNT(patterns); i++) {
            pn_grammar *g = regex(patterns[i].pattern);
            follow_dense(g, t, letters == plain ? patterns[i].text : "");
            pn_grammar_free(g);
        }
        pn_grammar *g = schema("{\"type\":\"string\",\"maxLength\":8}");
        follow_dense(g, t, "\"abababab");
        pn_grammar_free(g);
        pn_vocab_trie_free(t);
    }
}

/* Keys that must not be a declared one again, text up to a word: free for all that any token holds. */
static void guarded_text_is_free(void **state)
{
    static char letters[] = "abgo";
    static const struct { const char *schema, *text; } objects[] = {{"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"},\"abgo\":{\"type\":\"null\"},\"g\":{\"type\":\"null\"}}}", "{\"abgo\":null,\"abgoo\":\"gob\""},
        {"{\"type\":\"object\",\"properties\":{\"g\":{}},\"additionalProperties\":{\"type\":\"string\",\"maxLength\":5}}", "{\"ab\":\"abgoa"}};
    static const struct { pn_piece_kind kind; const char *guarded, *text; } cases[] = {{PN_PIECE_UNTIL, "go", "abgagg"}, {PN_PIECE_WITHOUT, "aba", "ggabbab"},
        {PN_PIECE_WITHOUT, "o", "ab"}, {PN_PIECE_UNTIL, "aab", "aabgo"}, {PN_PIECE_UNTIL, "<a", "ab<gb<<ago"}, {PN_PIECE_WITHOUT, "\"a", "ab\"gb"}};
    pn_vocab_trie *t;
    assert_int_equal(pn_vocab_trie_new(&t, DENSE, dense_bytes, letters, NULL, NULL), PONDER_OK);
    for (size_t i = 0; i < PN_COUNT(objects); i++) {
        pn_grammar *g = schema(objects[i].schema);
        follow_dense(g, t, objects[i].text);
        pn_grammar_free(g);
    }
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        const pn_piece pieces[] = {{.kind = cases[i].kind, .text = pn_str_of(cases[i].guarded)}, {.kind = PN_PIECE_REGEX, .text = pn_str_of("[go]*")}};
        pn_grammar *g;
        assert_int_equal(pn_grammar_pieces(&g, pieces, cases[i].kind == PN_PIECE_UNTIL ? 2 : 1, NULL, NULL), PONDER_OK);
        follow_dense(g, t, cases[i].text);
        pn_grammar_free(g);
    }
    pn_vocab_trie_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_the_bytes_say), cmocka_unit_test(a_small_cache_changes_nothing), cmocka_unit_test(depth_ends_and_leaves_a_way_out), cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(taking_back_and_clones), cmocka_unit_test(a_refused_token_leaves_the_place), cmocka_unit_test(what_must_come), cmocka_unit_test(every_allocation_fails_in_turn),
        cmocka_unit_test(calls_fail_in_turn_too), cmocka_unit_test(clones_in_threads), cmocka_unit_test(strange_vocabularies), cmocka_unit_test(what_is_below_at_once), cmocka_unit_test(guarded_text_is_free)};
    return cmocka_run_group_tests(tests, load, unload);
}
