/* The third promise, forced bit by bit: the logits of a sequence are the same alone and in a batch of 16, prefilled in
 * whatever chunks, sliced at every tile, with one thread, two and the host's own, forked where no page ends. */
#include <pthread.h>

#include "rig.h"
#include "../files/make.h"

enum { PROMPT = 75, MORE = 12, ALL = PROMPT + MORE, CROWD = 16 };

static const char *const models[] = {"llama", "gemma3", "muse-glimmer", "muse-spark", "muse-glimmer-mixed/model.gguf", "llama-mixed/model.gguf"};

/* Logits after the prompt and after each further token, alone, prefilled in one step. */
static float *reference(const char *model, pn_kv_type kv, const int32_t *ids, uint32_t *vocab)
{
    pn_engine_options o = default_options();
    o.kv = kv;
    o.columns = 128;
    rig r = rig_new(model, &o);
    *vocab = r.vocab;
    float *all = malloc((MORE + 1) * r.vocab * sizeof *all);
    pn_sequence *s = sequence(&r, 256);
    append(s, ids, PROMPT);
    for (uint32_t i = 0; i <= MORE; i++) {
        memcpy(all + i * r.vocab, advance(s), r.vocab * sizeof *all);
        if (i < MORE) append(s, ids + PROMPT + i, 1);
    }
    pn_sequence_free(s);
    rig_free(&r);
    return all;
}

static void follow(pn_sequence *s, const int32_t *ids, const float *want, uint32_t vocab, const char *what)
{
    for (uint32_t i = 0; i <= MORE; i++) {
        same_bits(advance(s), want + i * vocab, vocab, what, PROMPT + i);
        if (i < MORE) append(s, ids + PROMPT + i, 1);
    }
}

typedef struct given {
    int32_t ids[ALL];
    float *want;
    uint32_t vocab;
    const char *model;
    pn_kv_type kv;
} given;

static void with_chunks(const given *g)
{
    static const uint32_t sizes[] = {16, 17, 31, 64};
    for (size_t i = 0; i < PN_COUNT(sizes); i++) {
        pn_engine_options o = default_options();
        o.kv = g->kv;
        o.columns = sizes[i];
        rig r = rig_new(g->model, &o);
        pn_sequence *s = sequence(&r, 256);
        append(s, g->ids, PROMPT);
        follow(s, g->ids, g->want, g->vocab, "other chunks");
        pn_sequence_free(s);
        rig_free(&r);
    }
}

static void token_by_token(const given *g)
{
    pn_engine_options o = default_options();
    o.kv = g->kv;
    rig r = rig_new(g->model, &o);
    pn_sequence *s = sequence(&r, 256);
    for (uint32_t i = 0; i < PROMPT; i++) {
        append(s, g->ids + i, 1);
        advance(s);
    }
    follow(s, g->ids, g->want, g->vocab, "token by token");
    pn_sequence_free(s);
    rig_free(&r);
}

/* until = 1: long past, so that every call computes the least there is, one tile. */
static void sliced(const given *g)
{
    pn_engine_options o = default_options();
    o.kv = g->kv;
    rig r = rig_new(g->model, &o);
    pn_sequence *s = sequence(&r, 256);
    append(s, g->ids, PROMPT);
    uint32_t calls = 0;
    for (uint32_t i = 0; i <= MORE; i++) {
        ponder_status st;
        while ((st = pn_sequence_advance(s, 1, NULL)) == PONDER_MORE) calls++;
        assert_int_equal(st, PONDER_OK);
        same_bits(pn_sequence_logits(s), g->want + i * g->vocab, g->vocab, "sliced", PROMPT + i);
        if (i < MORE) append(s, g->ids + PROMPT + i, 1);
    }
    assert_true(calls > MORE * 10); /* it was cut indeed */
    pn_sequence_free(s);
    rig_free(&r);
}

static void run_parts(void *user, void (*fn)(void *ctx, uint32_t part), void *ctx, uint32_t parts)
{
    (void)user;
    for (uint32_t i = 0; i < parts; i++) fn(ctx, i);
}

static void threads(const given *g)
{
    ponder_runner runner = {sizeof runner, NULL, 2, 0, run_parts};
    for (uint32_t n = 1; n <= 4; n++) {
        pn_engine_options o = default_options();
        o.kv = g->kv;
        o.threads = n;
        o.runner = n == 4 ? &runner : NULL;
        rig r = rig_new(g->model, &o);
        pn_sequence *s = sequence(&r, 256);
        append(s, g->ids, PROMPT);
        follow(s, g->ids, g->want, g->vocab, n == 4 ? "the host's runner" : "threads");
        pn_sequence_free(s);
        rig_free(&r);
    }
}

static void forked(const given *g)
{
    static const uint32_t points[] = {1, 31, 32, 33, 50, 64, PROMPT - 1};
    for (size_t i = 0; i < PN_COUNT(points); i++) {
        pn_engine_options o = default_options();
        o.kv = g->kv;
        rig r = rig_new(g->model, &o);
        pn_sequence *parent = sequence(&r, 256), *child;
        int32_t other[40];
        make_ids(other, 40, r.vocab, 99);
        append(parent, g->ids, points[i]);
        advance(parent);
        pn_engine_counts before, after;
        pn_engine_read_counts(r.e, &before);
        assert_int_equal(pn_sequence_fork(&child, parent, 256, NULL), PONDER_OK);
        pn_engine_read_counts(r.e, &after);
        assert_true(before.kv_bytes == after.kv_bytes && before.prefilled == after.prefilled);
        append(parent, other, 40); /* the parent goes its own way over the shared page */
        advance(parent);
        append(child, g->ids + points[i], PROMPT - points[i]);
        follow(child, g->ids, g->want, g->vocab, "forked");
        /* and back: the parent on the way of the child */
        assert_int_equal(pn_sequence_rewind(parent, points[i], NULL, NULL), PONDER_OK);
        append(parent, g->ids + points[i], PROMPT - points[i]);
        follow(parent, g->ids, g->want, g->vocab, "rewound");
        pn_sequence_free(parent);
        pn_sequence_free(child);
        rig_free(&r);
    }
}

/* ---- a batch of sixteen, each with a caller of its own ------------------------------------------- */

typedef struct member {
    pthread_t thread;
    const given *g;
    pn_sequence *s;
    uint32_t index;
    bool ok;
} member;

static void *run_member(void *arg)
{
    member *m = arg;
    const uint32_t vocab = m->g->vocab;
    m->ok = true;
    for (uint32_t i = 0; i <= MORE && m->ok; i++) {
        m->ok = pn_sequence_advance(m->s, 0, NULL) == PONDER_OK;
        if (m->ok && m->index % 2 == 0) m->ok = memcmp(pn_sequence_logits(m->s), m->g->want + i * vocab, vocab * sizeof(float)) == 0;
        if (i < MORE) m->ok = m->ok && pn_sequence_append(m->s, m->g->ids + PROMPT + i, 1, NULL) == PONDER_OK;
    }
    pn_sequence_rest(m->s);
    return NULL;
}

static void run_crowd(member *m, const char *model, const char *what)
{
    for (uint32_t i = 0; i < CROWD; i++) assert_int_equal(pthread_create(&m[i].thread, NULL, run_member, &m[i]), 0);
    for (uint32_t i = 0; i < CROWD; i++) pthread_join(m[i].thread, NULL);
    for (uint32_t i = 0; i < CROWD; i++) {
        if (!m[i].ok) fail_msg("%s: sequence %u of %s differs from itself alone", model, i, what);
        pn_sequence_free(m[i].s);
    }
}

static void crowded(const given *g)
{
    pn_engine_options o = default_options();
    o.kv = g->kv;
    o.threads = 2;
    rig r = rig_new(g->model, &o);
    member m[CROWD];
    int32_t noise[PROMPT];
    for (uint32_t i = 0; i < CROWD; i++) {
        m[i] = (member){.g = g, .s = sequence(&r, 256), .index = i};
        make_ids(noise, PROMPT, r.vocab, 1000 + i);
        /* every other one is somebody else, with a prompt of another length */
        if (i % 2) append(m[i].s, noise, PROMPT - i);
        else append(m[i].s, g->ids, PROMPT);
    }
    run_crowd(m, g->model, "a batch");
    rig_free(&r);
}

/* Sixteen that share the pages of one prefix: every other one goes another way after it. */
static void branched(const given *g)
{
    static const uint32_t points[] = {20, 64, PROMPT - 1};
    for (size_t k = 0; k < PN_COUNT(points); k++) {
        pn_engine_options o = default_options();
        o.kv = g->kv;
        o.threads = 2;
        rig r = rig_new(g->model, &o);
        member m[CROWD];
        int32_t noise[PROMPT];
        pn_sequence *parent = sequence(&r, 256);
        append(parent, g->ids, points[k]);
        advance(parent);
        for (uint32_t i = 0; i < CROWD; i++) {
            m[i] = (member){.g = g, .index = i};
            assert_int_equal(pn_sequence_fork(&m[i].s, parent, 256, NULL), PONDER_OK);
            make_ids(noise, PROMPT, r.vocab, 2000 + i);
            append(m[i].s, i % 2 ? noise : g->ids + points[k], PROMPT - points[k]);
        }
        run_crowd(m, g->model, "forks of one prefix");
        pn_sequence_free(parent);
        rig_free(&r);
    }
}

/* ---- more than one span of 512 keys, in rounds ------------------------------------------------------ */

enum { LONG = 1300, TAIL = 5 };

static void run_long(const char *model, uint32_t columns, uint32_t threads_, uint32_t fork_at, bool slices, const int32_t *ids, float *to)
{
    pn_engine_options o = default_options();
    o.columns = columns;
    o.threads = threads_;
    rig r = rig_new(model, &o);
    pn_sequence *s = sequence(&r, 2048), *child = NULL;
    append(s, ids, fork_at);
    if (fork_at) advance(s);
    if (fork_at) assert_int_equal(pn_sequence_fork(&child, s, 2048, NULL), PONDER_OK);
    pn_sequence *t = child ? child : s;
    append(t, ids + fork_at, LONG - fork_at);
    for (uint32_t i = 0; i <= TAIL; i++) {
        while (slices && pn_sequence_advance(t, 1, NULL) == PONDER_MORE) {}
        memcpy(to + i * r.vocab, advance(t), r.vocab * sizeof *to);
        append(t, ids + LONG + i, 1);
    }
    pn_sequence_free(s);
    pn_sequence_free(child);
    rig_free(&r);
}

static void same_over_several_spans(void **state)
{
    (void)state;
    static const struct { uint32_t columns, threads, fork_at; bool slices; } ways[] = {
        {64, 1, 0, false}, {37, 2, 0, false}, {512, 3, 0, true}, {64, 2, 513, false}, {300, 1, 700, true},
    };
    static const char *const some[] = {"llama", "gemma3", "seed0", "muse-spark"};
    int32_t ids[LONG + TAIL + 1];
    make_ids(ids, LONG + TAIL + 1, 150, 21);
    for (size_t m = 0; m < PN_COUNT(some); m++) {
        static float want[(TAIL + 1) * 512], got[(TAIL + 1) * 512];
        run_long(some[m], 512, 1, 0, false, ids, want);
        for (size_t w = 0; w < PN_COUNT(ways); w++) {
            run_long(some[m], ways[w].columns, ways[w].threads, ways[w].fork_at, ways[w].slices, ids, got);
            if (memcmp(want, got, sizeof want) != 0) fail_msg("%s: way %zu differs over %d tokens", some[m], w, LONG);
        }
    }
}

/* ---- forks at the edges of pages and spans, for every store ------------------------------------------------ */

enum { EDGES_END = 520, EDGES_MORE = 3 };

typedef struct branch {
    pthread_t thread;
    pn_sequence *s;
    const int32_t *ids;       /* from EDGES_END on */
    const float *want;        /* NULL: somebody else's way */
    uint32_t vocab;
    bool ok;
} branch;

static void *run_branch(void *arg)
{
    branch *b = arg;
    b->ok = true;
    for (uint32_t i = 0; i <= EDGES_MORE && b->ok; i++) {
        b->ok = pn_sequence_advance(b->s, 0, NULL) == PONDER_OK;
        if (b->ok && b->want) b->ok = memcmp(pn_sequence_logits(b->s), b->want + i * b->vocab, b->vocab * sizeof(float)) == 0;
        if (i < EDGES_MORE) b->ok = b->ok && pn_sequence_append(b->s, b->ids + i, 1, NULL) == PONDER_OK;
    }
    pn_sequence_rest(b->s);
    return NULL;
}

static rig edges_rig(const char *model, pn_kv_type kv)
{
    pn_engine_options o = default_options();
    o.kv = kv;
    o.columns = 128;
    o.threads = 2;
    return rig_new(model, &o);
}

/* Three forks of one prefix in the same steps: two go the way of `want`, one between them goes astray. */
static void check_edge(const char *model, pn_kv_type kv, uint32_t at, const int32_t *ids, const int32_t *other, const float *want)
{
    rig r = edges_rig(model, kv);
    branch b[3];
    pn_sequence *parent = sequence(&r, 1024);
    append(parent, ids, at);
    advance(parent);
    for (int i = 0; i < 3; i++) {
        const int32_t *way = i == 1 ? other : ids;
        b[i] = (branch){.ids = way + EDGES_END, .want = i == 1 ? NULL : want, .vocab = r.vocab};
        assert_int_equal(pn_sequence_fork(&b[i].s, parent, 1024, NULL), PONDER_OK);
        append(b[i].s, way + at, EDGES_END - at);
    }
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&b[i].thread, NULL, run_branch, &b[i]), 0);
    for (int i = 0; i < 3; i++) pthread_join(b[i].thread, NULL);
    for (int i = 0; i < 3; i++) {
        if (!b[i].ok) fail_msg("%s, store %d: fork %d at %u differs from the same tokens unshared", model, (int)kv, i, at);
        pn_sequence_free(b[i].s);
    }
    pn_sequence_free(parent);
    rig_free(&r);
}

static void same_when_forked_at_edges(void **state)
{
    (void)state;
    static const uint32_t points[] = {1, 31, 32, 33, 511, 512, 513};
    static const char *const some[] = {"llama", "gemma3", "muse-glimmer"};
    static float want[(EDGES_MORE + 1) * 512];
    int32_t ids[EDGES_END + EDGES_MORE], other[EDGES_END + EDGES_MORE];
    make_ids(ids, EDGES_END + EDGES_MORE, 150, 31);
    make_ids(other, EDGES_END + EDGES_MORE, 150, 32);
    for (size_t m = 0; m < PN_COUNT(some); m++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            rig r = edges_rig(some[m], kv);
            pn_sequence *alone = sequence(&r, 1024);
            assert_true(r.vocab <= 512);
            append(alone, ids, EDGES_END);
            for (uint32_t i = 0; i <= EDGES_MORE; i++) {
                memcpy(want + i * r.vocab, advance(alone), r.vocab * sizeof *want);
                if (i < EDGES_MORE) append(alone, ids + EDGES_END + i, 1);
            }
            pn_sequence_free(alone);
            rig_free(&r);
            for (size_t i = 0; i < PN_COUNT(points); i++) check_edge(some[m], kv, points[i], ids, other, want);
        }
}

/* ---- a head of more than one tile ------------------------------------------------------------------------ */

/* The llama with its embedding repeated: token i has the bits of token i % 160. WIDE takes two tiles of logits, and many of products. */
enum { NARROW = 160, WIDE = 40000, ROW = 64 * 4, FIRST = NARROW * ROW };

static char *whole_file(const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/llama/%s", getenv("PONDER_TEST_DATA"), name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = calloc(1, 1 << 20);
    *n = fread(p, 1, (1 << 20) - 1, f);
    fclose(f);
    return p;
}

static void write_wide_config(const char *folder)
{
    size_t n;
    char *config = whole_file("config.json", &n), *at = strstr(config, "\"vocab_size\": 160"), wide[2048];
    assert_non_null(at);
    snprintf(wide, sizeof wide, "%.*s\"vocab_size\": %d%s", (int)(at - config), config, WIDE, at + 17);
    write_file(folder, "config.json", wide, strlen(wide));
    free(config);
}

static void write_wide_weights(const char *folder)
{
    size_t n;
    char *file = whole_file("model.safetensors", &n), *header = file + 8, head[4096];
    uint64_t header_bytes;
    pn_buf b;
    memcpy(&header_bytes, file, sizeof header_bytes);
    char *data = header + header_bytes, *from = header;
    int at = 0;
    data[-1] = 0; /* a blank */
    for (char *offsets; (offsets = strstr(from, "\"data_offsets\":["));) { /* the embedding is the first; all others move */
        unsigned long begin, end;
        assert_int_equal(sscanf(offsets, "\"data_offsets\":[%lu,%lu", &begin, &end), 2);
        const unsigned long more = (unsigned long)(WIDE - NARROW) * ROW, moved = begin ? begin + more : 0;
        const char *shape = begin ? NULL : strstr(from, "[160,64]");
        const int before = (int)((shape ? shape : offsets) - from);
        at += snprintf(head + at, sizeof head - (size_t)at, "%.*s%s\"data_offsets\":[%lu,%lu]", before, from, shape ? "[40000,64]," : "", moved, end + more);
        from = strchr(offsets, ']') + 1;
    }
    at += snprintf(head + at, sizeof head - (size_t)at, "%s", from);
    pn_buf_init(&b, NULL);
    put64(&b, (uint64_t)at);
    pn_buf_puts(&b, head);
    for (int i = 0; i < WIDE / NARROW; i++) pn_buf_put(&b, data, FIRST);
    pn_buf_put(&b, data + FIRST, (size_t)(file + n - data) - FIRST);
    write_file(folder, "model.safetensors", b.p, b.n);
    pn_buf_free(&b);
    free(file);
}

static void same_with_a_head_of_many_tiles(void **state)
{
    (void)state;
    char folder[256];
    int32_t ids[ALL];
    uint32_t vocab, calls[2] = {0};
    new_folder(folder);
    write_wide_config(folder);
    write_wide_weights(folder);
    make_ids(ids, ALL, NARROW, 7);
    float *want = reference("llama", PN_KV_F16, ids, &vocab), *uncut = malloc(WIDE * sizeof *uncut);
    for (uint32_t way = 0; way < 4; way++) { /* uncut and sliced at every tile, one thread and three */
        pn_engine_options o = default_options();
        o.threads = way < 2 ? 1 : 3;
        rig r = rig_over(load_network_at(folder), &o);
        assert_int_equal(r.vocab, WIDE);
        pn_sequence *s = sequence(&r, 256);
        append(s, ids, PROMPT);
        while (way % 2 && pn_sequence_advance(s, 1, NULL) == PONDER_MORE) calls[way / 2]++;
        const float *got = advance(s);
        for (uint32_t i = 0; i < WIDE; i += NARROW) same_bits(got + i, want, NARROW, "a wide head", i);
        if (way == 0) memcpy(uncut, got, WIDE * sizeof *uncut);
        same_bits(got, uncut, WIDE, "a wide head", way);
        pn_sequence_free(s);
        rig_free(&r);
    }
    assert_true(calls[0] > 40); /* 10 MB of head in pieces of at most 256 KB */
    free(want);
    free(uncut);
    remove_file(folder, "config.json");
    remove_file(folder, "model.safetensors");
    rmdir(folder);
}

static void every(void (*check)(const given *g))
{
    for (size_t i = 0; i < PN_COUNT(models); i++)
        for (pn_kv_type kv = PN_KV_F32; kv < PN_KV_TYPES; kv++) {
            given g = {.model = models[i], .kv = kv};
            make_ids(g.ids, ALL, 150, 7);
            g.want = reference(g.model, kv, g.ids, &g.vocab);
            check(&g);
            free(g.want);
        }
}

static void same_in_other_chunks(void **state) { (void)state; every(with_chunks); }
static void same_token_by_token(void **state) { (void)state; every(token_by_token); }
static void same_sliced_at_every_tile(void **state) { (void)state; every(sliced); }
static void same_with_other_threads(void **state) { (void)state; every(threads); }
static void same_when_forked(void **state) { (void)state; every(forked); }
static void same_beside_other_forks(void **state) { (void)state; every(branched); }
static void same_in_a_batch_of_16(void **state) { (void)state; every(crowded); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_in_other_chunks), cmocka_unit_test(same_token_by_token), cmocka_unit_test(same_sliced_at_every_tile),
        cmocka_unit_test(same_with_other_threads), cmocka_unit_test(same_when_forked), cmocka_unit_test(same_beside_other_forks),
        cmocka_unit_test(same_in_a_batch_of_16),
        cmocka_unit_test(same_over_several_spans), cmocka_unit_test(same_when_forked_at_edges),
        cmocka_unit_test(same_with_a_head_of_many_tiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
