/* Experts that are read on demand: the same bits as when all are held, however few have room; reads that fail; what is counted. */
#include "files/experts.h"
#include "rig.h"

enum { PROMPT = 40, STEPS = 12, LIMIT = PROMPT + STEPS + 4, MOST_VOCAB = 512, ENTRY = 32 };

/* A file behind a callback whose reads can be made to fail. */
typedef struct disk {
    uint8_t *bytes;
    size_t n;
    _Atomic bool watched;
    _Atomic uint64_t reads;
    uint64_t fail_from, fail_to;      /* reads that touch these bytes fail */
    _Atomic uint8_t *touched;         /* [n / ENTRY] while watched */
} disk;

static int32_t read_disk(void *user, uint64_t offset, void *to, size_t bytes)
{
    disk *d = user;
    if (atomic_load(&d->watched)) {
        atomic_fetch_add(&d->reads, 1);
        if (d->touched)
            for (uint64_t i = offset / ENTRY; i <= (offset + bytes - 1) / ENTRY; i++) atomic_store(&d->touched[i], 1);
        if (offset < d->fail_to && offset + bytes > d->fail_from) return -1;
    }
    memcpy(to, d->bytes + offset, bytes);
    return 0;
}

static void load_disk(disk *d, const char *name)
{
    char path[512];
    *d = (disk){0};
    snprintf(path, sizeof path, "%s/%s", getenv("PONDER_TEST_DATA"), name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    d->n = (size_t)ftell(f);
    rewind(f);
    d->bytes = malloc(d->n);
    assert_int_equal(fread(d->bytes, 1, d->n, f), d->n);
    fclose(f);
}

static pn_checkpoint *open_file(const char *name, disk *d)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("PONDER_TEST_DATA"), name);
    if (d) {
        pn_source *s;
        assert_int_equal(pn_source_callback(&s, &(ponder_source){sizeof(ponder_source), d, d->n, read_disk}, NULL, &err), PONDER_OK);
        assert_int_equal(pn_checkpoint_open_source(&c, s, NULL, &err), PONDER_OK);
    } else if (pn_checkpoint_open(&c, path, NULL, &err) != PONDER_OK) {
        fail_msg("%s", err.text);
    }
    return c;
}

/* Bytes that hold so many experts. */
static uint64_t bytes_for(const char *name, uint32_t slots, pn_load_options o)
{
    uint64_t all, taken;
    pn_description *d = calloc(1, sizeof *d);
    pn_checkpoint *c = open_file(name, NULL);
    assert_int_equal(pn_describe(c, d, NULL), PONDER_OK);
    uint32_t sparse = 0;
    for (uint32_t i = 0; i < d->layers; i++) sparse += d->layer[i].sparse;
    assert_int_equal(pn_experts_sizes(&all, &taken, c, d, &o, NULL), PONDER_OK);
    assert_int_equal(all, taken);
    uint64_t want;
    const uint64_t slot = all / (sparse * d->experts), entries = 17; /* of a slot in tables */
    assert_int_equal(pn_experts_least(&want, c, d, &o, NULL), PONDER_OK);
    o.expert_bytes = want - 1;
    assert_int_equal(pn_experts_sizes(&all, &taken, c, d, &o, NULL), PONDER_E_NOMEM);
    want += (slots - 1) * (slot + entries);
    assert_true(want < all);
    free(d);
    pn_checkpoint_free(c);
    return want;
}

static rig rig_on_demand(const char *name, disk *file, uint32_t threads, uint32_t slots, bool repack, int32_t quantize)
{
    rig r;
    ponder_error err = {.size = sizeof err};
    pn_engine_options o = default_options();
    pn_team *t;
    o.threads = threads;
    assert_int_equal(pn_team_new(&t, threads, NULL, NULL, &err), PONDER_OK);
    pn_load_options lo = {.repack = repack, .quantize = quantize, .team = t};
    if (slots) lo.expert_bytes = bytes_for(name, slots, lo);
    if (pn_network_load(&r.net, open_file(name, file), &lo, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    assert_true((r.net->experts != NULL) == (slots > 0));
    if (pn_engine_new(&r.e, r.net, &o, t, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    r.vocab = r.net->d.vocab;
    assert_true(r.vocab <= MOST_VOCAB);
    return r;
}

/* A prompt in one piece, then token by token. */
static void run(rig *r, float *logits)
{
    int32_t ids[PROMPT + STEPS];
    make_ids(ids, PROMPT + STEPS, r->vocab, 5);
    pn_sequence *s = sequence(r, LIMIT);
    append(s, ids, PROMPT);
    memcpy(logits, advance(s), r->vocab * sizeof *logits);
    for (uint32_t i = 0; i < STEPS; i++) {
        append(s, ids + PROMPT + i, 1);
        memcpy(logits + (size_t)(i + 1) * r->vocab, advance(s), r->vocab * sizeof *logits);
    }
    pn_sequence_free(s);
}

static const char *const models[] = {"muse-spark-sparse/model.gguf", "muse-spark", "muse-spark-bf16"};

static void few_slots_change_no_bit(void **state)
{
    (void)state;
    static const uint32_t slots[] = {1, 2, 3, 7};
    static float want[(STEPS + 1) * MOST_VOCAB], got[(STEPS + 1) * MOST_VOCAB];
    for (size_t m = 0; m < PN_COUNT(models); m++)
        for (int32_t quantize = -1; quantize <= PN_Q8_0; quantize += PN_Q8_0 + 1) {
            rig all = rig_on_demand(models[m], NULL, 1, 0, true, quantize);
            run(&all, want);
            for (size_t i = 0; i < PN_COUNT(slots); i++)
                for (uint32_t threads = 1; threads <= 2; threads++) {
                    rig r = rig_on_demand(models[m], NULL, threads, slots[i], true, quantize);
                    run(&r, got);
                    for (uint32_t p = 0; p <= STEPS; p++) same_bits(got + p * r.vocab, want + p * r.vocab, r.vocab, models[m], p);
                    rig_free(&r);
                }
            rig_free(&all);
        }
}

static void everything_is_counted(void **state)
{
    (void)state;
    static float logits[(STEPS + 1) * MOST_VOCAB];
    uint64_t before = 0;
    for (uint32_t slots = 1; slots <= 9; slots += 4) {
        rig r = rig_on_demand(models[0], NULL, 1, slots, true, -1);
        run(&r, logits);
        pn_engine_counts c;
        pn_engine_read_counts(r.e, &c);
        uint32_t sparse = 0;
        for (uint32_t i = 0; i < r.net->d.layers; i++) sparse += r.net->d.layer[i].sparse;
        assert_int_equal(c.experts.bytes % c.experts.reads, 0);
        assert_true(c.experts.hits + c.experts.reads >= (uint64_t)STEPS * sparse * r.net->d.experts_used);
        if (slots == 1) assert_true(c.experts.reads > STEPS * sparse); /* of two experts a token, one at most is there */
        else assert_true(c.experts.reads < before);
        before = c.experts.reads;
        rig_free(&r);
    }
}

static void what_fits_is_held(void **state)
{
    (void)state;
    ponder_error err = {.size = sizeof err};
    pn_network *n;
    pn_load_options o = {.repack = true, .quantize = -1, .expert_bytes = 1 << 30};
    assert_int_equal(pn_network_load(&n, open_file(models[0], NULL), &o, NULL, &err), PONDER_OK);
    assert_null(n->experts);
    pn_network_free(n);
    o.expert_bytes = 1000; /* not even one */
    assert_int_equal(pn_network_load(&n, open_file(models[0], NULL), &o, NULL, &err), PONDER_E_NOMEM);
    assert_null(n);
}

static void plan_says_what_is_taken(void **state)
{
    (void)state;
    pn_weight_plan w;
    pn_load_options o = {.repack = true, .quantize = -1};
    pn_description *d = calloc(1, sizeof *d);
    o.expert_bytes = bytes_for(models[0], 3, o);
    pn_checkpoint *c = open_file(models[0], NULL);
    assert_int_equal(pn_describe(c, d, NULL), PONDER_OK);
    assert_int_equal(pn_network_plan(&w, c, d, &o, NULL), PONDER_OK);
    pn_network *n;
    assert_int_equal(pn_network_load(&n, c, &o, NULL, NULL), PONDER_OK);
    assert_int_equal(w.owned, pn_network_bytes(n));
    assert_true(pn_experts_bytes(n->experts) <= o.expert_bytes);
    free(d);
    pn_network_free(n);
}

/* ---- a disk that fails ------------------------------------------------------------------------------------------ */

static void a_failed_read_ends_the_step_and_may_be_tried_again(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 2; threads++) {
        disk file;
        int32_t ids[PROMPT];
        ponder_error err = {.size = sizeof err};
        load_disk(&file, models[0]);
        rig r = rig_on_demand(models[0], &file, threads, 3, true, -1);
        make_ids(ids, PROMPT, r.vocab, 5);
        pn_sequence *s = sequence(&r, LIMIT);
        append(s, ids, PROMPT);
        file.fail_to = file.n;
        atomic_store(&file.watched, true);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pn_sequence_advance(s, 0, &err), PONDER_E_IO);
            assert_true(strlen(err.text) > 0);
            assert_null(pn_sequence_logits(s));
            assert_int_equal(pn_sequence_computed(s), 0);
        }
        atomic_store(&file.watched, false);
        float got[MOST_VOCAB];
        memcpy(got, advance(s), r.vocab * sizeof *got);
        pn_sequence_free(s);
        rig_free(&r);
        rig all = rig_on_demand(models[0], NULL, 1, 0, true, -1);
        s = sequence(&all, LIMIT);
        append(s, ids, PROMPT);
        same_bits(got, advance(s), all.vocab, "after failed reads", PROMPT);
        pn_sequence_free(s);
        rig_free(&all);
        free(file.bytes);
    }
}

/* What one token alone reads. */
static void watch(const char *name, disk *file, int32_t id, uint8_t *touched, float *logits)
{
    rig r = rig_on_demand(name, file, 1, 3, true, -1);
    pn_sequence *s = sequence(&r, LIMIT);
    const size_t n = file->n / ENTRY + 1;
    file->touched = calloc(n, 1);
    file->fail_to = 0;
    append(s, &id, 1);
    atomic_store(&file->watched, true);
    memcpy(logits, advance(s), r.vocab * sizeof *logits);
    atomic_store(&file->watched, false);
    for (size_t i = 0; i < n; i++) touched[i] = atomic_load(&file->touched[i]);
    free((void *)file->touched);
    file->touched = NULL;
    pn_sequence_free(s);
    rig_free(&r);
}

static void others_in_the_step_are_not_touched(void **state)
{
    (void)state;
    disk file;
    load_disk(&file, models[0]);
    const size_t n = file.n / ENTRY + 1;
    uint8_t *one = malloc(n), *two = malloc(n);
    float want[MOST_VOCAB], other[MOST_VOCAB];
    int32_t a = 3, b = 4;
    size_t only = n;
    watch(models[0], &file, a, one, want);
    for (; b < 40 && only == n; b++) {
        watch(models[0], &file, b, two, other);
        for (only = 0; only < n && (one[only] || !two[only]); only++) {}
    }
    assert_true(only < n); /* something that b needs and a does not */
    b--;
    ponder_error err = {.size = sizeof err};
    rig r = rig_on_demand(models[0], &file, 1, 3, true, -1);
    pn_sequence *good = sequence(&r, LIMIT), *bad = sequence(&r, LIMIT);
    append(good, &a, 1);
    append(bad, &b, 1);
    file.fail_from = only * ENTRY + 1;
    file.fail_to = file.fail_from + 1;
    atomic_store(&file.watched, true);
    pn_sequence_submit(bad);
    same_bits(advance(good), want, r.vocab, "beside one that failed", 0);
    assert_int_equal(pn_sequence_advance(bad, PN_POLL, &err), PONDER_E_IO);
    assert_int_equal(pn_sequence_advance(bad, 0, &err), PONDER_E_IO);
    atomic_store(&file.watched, false);
    same_bits(advance(bad), other, r.vocab, "after the failure", 0);
    pn_sequence_free(good);
    pn_sequence_free(bad);
    rig_free(&r);
    free(file.bytes);
    free(one);
    free(two);
}

/* Steps that are parked, and given up, in the middle of reading. */
static void cut_and_given_up(void **state)
{
    (void)state;
    static float want[(STEPS + 1) * MOST_VOCAB];
    rig all = rig_on_demand(models[0], NULL, 1, 0, true, -1);
    run(&all, want);
    rig_free(&all);
    rig r = rig_on_demand(models[0], NULL, 1, 2, true, -1);
    int32_t ids[PROMPT];
    ponder_error err = {.size = sizeof err};
    make_ids(ids, PROMPT, r.vocab, 5);
    for (uint32_t cuts = 0; cuts < 200; cuts += 7) {
        pn_sequence *s = sequence(&r, LIMIT), *t = sequence(&r, LIMIT);
        append(t, ids + cuts % 8, 9);
        for (uint32_t i = 0; i < cuts; i++) pn_sequence_advance(t, 1, &err);
        pn_sequence_free(t); /* its step goes with it */
        append(s, ids, PROMPT);
        while (pn_sequence_advance(s, 1, &err) == PONDER_MORE) {}
        same_bits(pn_sequence_logits(s), want, r.vocab, "in slices", cuts);
        pn_sequence_free(s);
    }
    rig_free(&r);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

typedef struct stingy {
    uint32_t left;
    int64_t out;
} stingy;

static void *give(void *user, size_t bytes, size_t align)
{
    stingy *s = user;
    if (s->left == 0) return NULL;
    s->left--;
    s->out++;
    return aligned_alloc(align < 16 ? 16 : align, (bytes + align + 15) / 16 * 16 / align * align + align);
}

static void take_back(void *user, void *p, size_t bytes)
{
    (void)bytes;
    ((stingy *)user)->out -= p != NULL;
    free(p);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    pn_load_options o = {.repack = true, .quantize = -1};
    o.expert_bytes = bytes_for(models[0], 2, o);
    for (uint32_t n = 0;; n++) {
        stingy s = {n, 0};
        const ponder_alloc a = {sizeof a, &s, give, take_back};
        ponder_error err = {.size = sizeof err};
        pn_network *net = NULL;
        pn_checkpoint *c;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", getenv("PONDER_TEST_DATA"), models[0]);
        ponder_status st = pn_checkpoint_open(&c, path, &a, &err);
        if (st == PONDER_OK) st = pn_network_load(&net, c, &o, &a, &err);
        if (st == PONDER_OK) assert_non_null(net->experts);
        else assert_int_equal(st, PONDER_E_NOMEM);
        pn_network_free(net);
        assert_int_equal(s.out, 0);
        if (st == PONDER_OK) return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_slots_change_no_bit),
        cmocka_unit_test(everything_is_counted),
        cmocka_unit_test(what_fits_is_held),
        cmocka_unit_test(plan_says_what_is_taken),
        cmocka_unit_test(a_failed_read_ends_the_step_and_may_be_tried_again),
        cmocka_unit_test(others_in_the_step_are_not_touched),
        cmocka_unit_test(cut_and_given_up),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
