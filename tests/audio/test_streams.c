/* Streams: rows have the same bits whatever the pieces, chunks, copies, threads, slices and CPU levels; work given up goes on;
 * memory stays bounded; what is refused leaves a stream as it was. */
#include "tower_rig.h"

/* A tower, a sound longer than several chunks, and its rows in one piece. */
typedef struct rig {
    pn_audio *t;
    float *samples, *want;
    size_t n;
    uint32_t rows, row;       /* row: samples */
    pn_kernels k;
} rig;

static void rig_init(rig *g, const char *model, const char *name, size_t n)
{
    reference r;
    reference_read(&r, model);
    const item *c = item_named(&r, name);
    *g = (rig){.t = load_tower(model, ""), .n = n ? n : c->n, .k = usual_kernels()};
    g->row = pn_audio_about(g->t)->samples;
    g->rows = (uint32_t)pn_audio_rows(g->n, g->row);
    g->samples = malloc(g->n * sizeof *g->samples);
    for (size_t i = 0; i < g->n; i++) g->samples[i] = c->samples[i % c->n];
    g->want = encode(g->t, g->samples, g->n);
    reference_free(&r);
}

static void rig_free(rig *g)
{
    free(g->samples), free(g->want);
    pn_audio_free(g->t);
}

static pn_audio_stream *live(const rig *g, const ponder_alloc *a)
{
    ponder_error e = {.size = sizeof e};
    pn_audio_stream *s;
    OK(pn_audio_stream_new(&s, g->t, PN_AUDIO_RATE, 1, 0, a, &e), e);
    return s;
}

/* Rows that are ready now go behind those that are there. */
static void take_ready(pn_audio_stream *s, const rig *g, float *rows)
{
    const uint64_t done = pn_audio_stream_done(s), n = pn_audio_stream_ready(s);
    assert_true(done + n <= g->rows);
    if (n) next_rows(s, (uint32_t)n, rows + done * TEXT_WIDTH, &g->k);
    assert_int_equal(pn_audio_stream_done(s), done + n);
    assert_int_equal(pn_audio_stream_ready(s), 0);
}

static void push(pn_audio_stream *s, const float *samples, size_t n)
{
    ponder_error e = {.size = sizeof e};
    float *copy = malloc(n ? n * sizeof *copy : 1); /* gone after the call */
    memcpy(copy, samples, n * sizeof *copy);
    OK(pn_audio_stream_push(s, copy, n, &e), e);
    free(copy);
}

static void finish(pn_audio_stream *s, const rig *g, float *rows, const char *what)
{
    ponder_error e = {.size = sizeof e};
    OK(pn_audio_stream_end(s, &e), e);
    take_ready(s, g, rows);
    assert_int_equal(pn_audio_stream_done(s), g->rows);
    same_bits(rows, g->want, (size_t)g->rows * TEXT_WIDTH, what);
}

/* ---- pieces -------------------------------------------------------------------------------- */

static void pieces_by_rows(void **state)
{
    (void)state;
    static const uint32_t rows_a_piece[] = {1, 3, 1, 5, 2, 40};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        rig g;
        rig_init(&g, models[m], m ? "long" : "nine", 0);
        float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
        pn_audio_stream *s = live(&g, NULL);
        size_t at = 0;
        for (size_t i = 0; at < g.n; i++) {
            size_t n = PN_MIN((size_t)rows_a_piece[i % PN_COUNT(rows_a_piece)] * g.row, g.n - at);
            push(s, g.samples + at, n);
            at += n;
            take_ready(s, &g, rows);
        }
        finish(s, &g, rows, models[m]);
        pn_audio_stream_free(s);
        free(rows);
        rig_free(&g);
    }
}

/* Any number of samples at a time, rows asked for now and then. The hash is that of one piece too. */
static void pieces_by_chance(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        rig g;
        rig_init(&g, models[m], m ? "long" : "nine", 0);
        float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
        uint64_t hash = 0;
        for (size_t most = 7; most < 20000; most *= 9) {
            pn_audio_stream *s = live(&g, NULL);
            for (size_t at = 0; at < g.n;) {
                size_t n = (size_t)(next_random(&random) % most);
                n = PN_MIN(n, g.n - at);
                push(s, g.samples + at, n);
                at += n;
                if (next_random(&random) % 3 == 0) take_ready(s, &g, rows);
            }
            finish(s, &g, rows, models[m]);
            assert_true(hash == 0 || hash == pn_audio_stream_hash(s));
            hash = pn_audio_stream_hash(s);
            pn_audio_stream_free(s);
        }
        pn_audio_stream *whole = stream_of(g.t, g.samples, g.n);
        assert_true(pn_audio_stream_ended(whole) && pn_audio_stream_hash(whole) != hash);
        take_ready(whole, &g, rows);
        assert_true(pn_audio_stream_hash(whole) == hash);
        pn_audio_stream_free(whole);
        for (size_t i = 0; i < g.row; i++) { /* two rows change places */
            const float kept = g.samples[i];
            g.samples[i] = g.samples[g.row + i];
            g.samples[g.row + i] = kept;
        }
        whole = stream_of(g.t, g.samples, g.n);
        take_ready(whole, &g, rows);
        assert_true(pn_audio_stream_hash(whole) != hash);
        pn_audio_stream_free(whole);
        free(rows);
        rig_free(&g);
    }
}

#if PN_HAVE_SPEEXDSP
/* Two channels at another rate: as the whole sound. */
static void pieces_at_another_rate(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    enum { FRAMES = 15000 };
    uint64_t random = 9;
    rig g;
    rig_init(&g, "audio-spark-bf16", "long", 8164); /* 15000 * 24000 / 44100 */
    float *both = malloc(FRAMES * 2 * sizeof *both), *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
    for (size_t i = 0; i < FRAMES * 2; i++) both[i] = (float)(int32_t)(uint32_t)next_random(&random) / 2147483648.0f;
    pn_sound *sound;
    OK(pn_sound_raw(&sound, both, FRAMES, 2, 44100, NULL, NULL, &e), e);
    assert_int_equal(pn_sound_count(sound), g.n);
    free(g.want);
    g.want = encode(g.t, pn_sound_samples(sound), g.n);
    pn_sound_free(sound);
    pn_audio_stream *s;
    OK(pn_audio_stream_new(&s, g.t, 44100, 2, g.n, NULL, &e), e);
    for (size_t at = 0; at < FRAMES;) {
        size_t n = (size_t)(next_random(&random) % 700);
        n = PN_MIN(n, FRAMES - at);
        OK(pn_audio_stream_push(s, both + at * 2, n, &e), e);
        at += n;
        take_ready(s, &g, rows);
    }
    assert_int_equal(pn_audio_stream_push(s, both, 2, &e), PONDER_E_RANGE); /* one more sample than allowed */
    finish(s, &g, rows, "44100 in two channels");
    pn_audio_stream_free(s);
    free(both), free(rows);
    rig_free(&g);
}
#else
static void pieces_at_another_rate(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    rig g;
    rig_init(&g, "audio-spark-bf16", "row", 0);
    pn_audio_stream *s;
    assert_int_equal(pn_audio_stream_new(&s, g.t, 44100, 2, 0, NULL, &e), PONDER_E_UNSUPPORTED);
    assert_null(s);
    rig_free(&g);
}
#endif

/* Copies from any point on come to the same rows, and the original goes on. */
static void copies_go_on(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    uint64_t random = 21;
    rig g;
    rig_init(&g, "audio-spark-bf16", "long", 2600);
    float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows), *other = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *other);
    pn_audio_stream *s, *copy;
    uint64_t hash = 0;
    OK(pn_audio_stream_new(&s, g.t, PN_AUDIO_RATE, 1, g.n, NULL, &e), e);
    for (size_t at = 0; at < g.n;) {
        OK(pn_audio_stream_copy(&copy, s, NULL, &e), e);
        memcpy(other, rows, pn_audio_stream_done(s) * TEXT_WIDTH * sizeof *rows);
        assert_int_equal(pn_audio_stream_push(copy, g.samples, g.n - at + 1, &e), PONDER_E_RANGE); /* the limit comes along */
        push(copy, g.samples + at, g.n - at);
        finish(copy, &g, other, "a copy");
        assert_true(hash == 0 || hash == pn_audio_stream_hash(copy));
        hash = pn_audio_stream_hash(copy);
        pn_audio_stream_free(copy);
        size_t n = (size_t)(next_random(&random) % 300);
        n = PN_MIN(n, g.n - at);
        push(s, g.samples + at, n);
        at += n;
        if (next_random(&random) % 2) take_ready(s, &g, rows);
    }
    finish(s, &g, rows, "the original");
    pn_audio_stream_free(s);
    /* of a whole sound, in its middle */
    s = stream_of(g.t, g.samples, g.n);
    next_rows(s, 7, rows, &g.k);
    OK(pn_audio_stream_copy(&copy, s, NULL, &e), e);
    pn_audio_stream_free(s);
    take_ready(copy, &g, rows);
    same_bits(rows, g.want, (size_t)g.rows * TEXT_WIDTH, "a copy of a whole sound");
    pn_audio_stream_free(copy);
    free(rows), free(other);
    rig_free(&g);
}

/* ---- work ------------------------------------------------------------------------------------- */

/* Runs at most `tiles` tiles; false: there are more. *op and *tile say where it stands. */
static bool run_some(const pn_work *w, uint32_t *op, uint32_t *tile, uint32_t *of, uint64_t tiles)
{
    while (*op < w->n_ops) {
        for (; *tile < *of; ++*tile) {
            if (tiles-- == 0) return false;
            w->tile(w->self, *op, *tile, 0);
        }
        *op = w->next(w->self, *op);
        *tile = 0;
        *of = *op < w->n_ops ? w->enter(w->self, *op) : 0;
    }
    return true;
}

/* Given up after any number of tiles, the stream stands behind the last whole chunk, and a new encoding goes on from there. */
static void given_up_anywhere(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    rig g;
    rig_init(&g, "audio-spark-bf16", "long", 40 * 120 - 5); /* chunks of 16, 16, 8 */
    float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
    bool finished = false;
    uint32_t seen[3] = {0};
    for (uint64_t tiles = 0; !finished; tiles += 1 + tiles / 40) {
        pn_audio_stream *s = stream_of(g.t, g.samples, g.n);
        pn_audio_encode *c;
        for (size_t i = 0; i < (size_t)g.rows * TEXT_WIDTH; i++) rows[i] = NAN;
        OK(pn_audio_encode_new(&c, s, g.rows, rows, &g.k, 1, NULL, &e), e);
        const pn_work *w = pn_audio_encode_work(c);
        uint32_t op = 0, tile = 0, of = w->enter(w->self, 0);
        finished = run_some(w, &op, &tile, &of, tiles);
        const uint32_t done = pn_audio_encode_done(c);
        assert_int_equal(pn_audio_stream_done(s), done);
        assert_int_equal(done % PN_AUDIO_CHUNK, finished ? 40 % PN_AUDIO_CHUNK : 0);
        seen[done / PN_AUDIO_CHUNK]++;
        pn_audio_encode_free(c);
        take_ready(s, &g, rows);
        same_bits(rows, g.want, (size_t)g.rows * TEXT_WIDTH, "after work given up");
        pn_audio_stream_free(s);
    }
    assert_true(seen[0] > 3 && seen[1] > 3 && seen[2] > 3);
    free(rows);
    rig_free(&g);
}

/* Samples may come while the work rests, though they make the stream's memory move. */
static void pushed_while_it_rests(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    rig g;
    rig_init(&g, "audio-spark-bf16", "long", 0);
    float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
    const size_t first = 33 * 120 + 50;
    pn_audio_stream *s = live(&g, NULL);
    push(s, g.samples, first);
    pn_audio_encode *c;
    OK(pn_audio_encode_new(&c, s, 33, rows, &g.k, 1, NULL, &e), e);
    const pn_work *w = pn_audio_encode_work(c);
    uint32_t op = 0, tile = 0, of = w->enter(w->self, 0);
    size_t at = first;
    while (!run_some(w, &op, &tile, &of, 3)) {
        size_t n = PN_MIN((size_t)41, g.n - at);
        push(s, g.samples + at, n);
        at += n;
    }
    assert_true(at > first + 500);
    pn_audio_encode_free(c);
    push(s, g.samples + at, g.n - at);
    finish(s, &g, rows, "pushed meanwhile");
    pn_audio_stream_free(s);
    free(rows);
    rig_free(&g);
}

static void threads_and_slices(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        rig g;
        rig_init(&g, models[m], m ? "long" : "nine", 0);
        float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
        for (uint32_t threads = 1; threads <= 4; threads++) {
            pn_team *team;
            pn_audio_encode *c;
            pn_audio_stream *s = stream_of(g.t, g.samples, g.n);
            OK(pn_team_new(&team, threads, NULL, NULL, &e), e);
            OK(pn_audio_encode_new(&c, s, g.rows, rows, &g.k, threads, NULL, &e), e);
            pn_cursor *cursor = aligned_alloc(64, (sizeof *cursor + 63) / 64 * 64);
            memset(cursor, 0, sizeof *cursor);
            cursor->work = *pn_audio_encode_work(c);
            cursor->team = team;
            pn_cursor_begin(cursor);
            uint32_t slices = 1;
            while (!pn_cursor_run(cursor, threads == 4 ? 0 : pn_now_us() + 20, NULL)) {
                cursor->stop = false;
                slices++;
            }
            if (threads == 1 && m == 1) assert_true(slices > 3);
            same_bits(rows, g.want, (size_t)g.rows * TEXT_WIDTH, "threads");
            free(cursor);
            pn_audio_encode_free(c);
            pn_audio_stream_free(s);
            pn_team_free(team);
        }
        free(rows);
        rig_free(&g);
    }
}

static void cpu_levels(void **state)
{
    (void)state;
    static const uint32_t levels[] = {0, PN_CPU_AVX2, PN_CPU_AVX2 | PN_CPU_AVX512, PN_CPU_AVX2 | PN_CPU_AVX512 | PN_CPU_AVX512VNNI};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        for (int32_t quantize = -1; quantize <= PN_Q8_0; quantize += PN_Q8_0 + 1) { /* as stored; Q8_0 */
            reference r;
            reference_read(&r, models[m]);
            pn_audio *t = load_with(models[m], "", &(pn_load_options){.repack = true, .quantize = quantize});
            const item *c = item_named(&r, "other");
            float *want = NULL;
            for (size_t l = 0; l < PN_COUNT(levels); l++) {
                if (levels[l] & ~pn_cpu_flags()) continue;
                pn_kernels k;
                pn_kernels_init(&k, levels[l]);
                float *got = encode_with(t, c->samples, c->n, &k);
                if (want) same_bits(got, want, c->rows.n, "levels");
                free(want);
                want = got;
            }
            free(want);
            pn_audio_free(t);
            reference_free(&r);
        }
    }
}

/* ---- memory ------------------------------------------------------------------------------------ */

/* Working memory is a chunk's; what waits is what nobody asked for yet. */
static void memory_is_bounded(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    rig g;
    rig_init(&g, "audio-spark-bf16", "seven", 0);
    const pn_audio_info *d = pn_audio_about(g.t);
    const size_t hour = pn_audio_encode_bytes(d, false, 45000, 2);
    assert_int_equal(hour, pn_audio_encode_bytes(d, false, PN_AUDIO_CHUNK, 2));
    assert_true(pn_audio_encode_bytes(d, false, 1, 2) < hour);
    counter c;
    counter_init(&c, 0);
    pn_audio_stream *s = live(&g, &c.a);
    const size_t empty = c.bytes;
    size_t most = 0;
    for (uint32_t i = 0; i < 600; i++) { /* 0.1 s at a time, taken when there are 10 rows: a minute */
        push(s, g.samples, 500);
        if (pn_audio_stream_ready(s) < 10) continue;
        float rows[64 * 16];
        assert_true(pn_audio_stream_ready(s) <= 16);
        const uint32_t n = (uint32_t)pn_audio_stream_ready(s);
        pn_audio_encode *w;
        OK(pn_audio_encode_new(&w, s, n, rows, &g.k, 2, &c.a, &e), e);
        assert_int_equal(c.bytes, pn_audio_stream_bytes(s) + pn_audio_encode_bytes(d, false, n, 2));
        pn_audio_encode_free(w);
        next_rows(s, n, rows, &g.k);
        most = PN_MAX(most, pn_audio_stream_bytes(s));
        assert_int_equal(c.bytes, pn_audio_stream_bytes(s));
    }
    assert_true(pn_audio_stream_done(s) > 2400 && most < empty + 30000);
    pn_audio_stream_free(s);
    assert_int_equal(c.live, 0);
    assert_int_equal(c.bytes, 0);
    rig_free(&g);
}

static ponder_status whole_life(const rig *g, const ponder_alloc *a, float *rows, ponder_error *e)
{
    pn_audio_stream *s = NULL, *copy = NULL;
    pn_audio_encode *c = NULL;
    ponder_status st = pn_audio_stream_new(&s, g->t, PN_AUDIO_RATE, 1, 0, a, e);
    for (size_t at = 0; at < g->n && st == PONDER_OK; at += 300)
        st = pn_audio_stream_push(s, g->samples + at, PN_MIN(g->n - at, (size_t)300), e);
    if (st == PONDER_OK) st = pn_audio_stream_end(s, e);
    if (st == PONDER_OK) st = pn_audio_stream_copy(&copy, s, a, e);
    if (st == PONDER_OK) st = pn_audio_encode_new(&c, copy, g->rows, rows, &g->k, 1, a, e);
    if (st == PONDER_OK) {
        const pn_work *w = pn_audio_encode_work(c);
        uint32_t op = 0, tile = 0, of = w->enter(w->self, 0);
        assert_true(run_some(w, &op, &tile, &of, UINT64_MAX));
    }
    pn_audio_encode_free(c);
    pn_audio_stream_free(copy);
    pn_audio_stream_free(s);
    return st;
}

static void memory_ends_anywhere(void **state)
{
    (void)state;
    rig g;
    rig_init(&g, "audio-spark-bf16", "seven", 0);
    float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows);
    bool done = false;
    for (size_t at = 1; !done; at++) {
        ponder_error e = {.size = sizeof e};
        counter c;
        counter_init(&c, at);
        ponder_status st = whole_life(&g, &c.a, rows, &e);
        done = c.calls < at;
        assert_int_equal(st, done ? PONDER_OK : PONDER_E_NOMEM);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.bytes, 0);
    }
    same_bits(rows, g.want, (size_t)g.rows * TEXT_WIDTH, "the last life");
    free(rows);
    rig_free(&g);
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static void refused_and_unharmed(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    rig g;
    rig_init(&g, "audio-spark-bf16", "seven", 0);
    float *rows = malloc((size_t)g.rows * TEXT_WIDTH * sizeof *rows), bad[700] = {0};
    pn_audio_encode *c;
    pn_audio_stream *s;
    assert_int_equal(pn_audio_stream_new(&s, g.t, PN_AUDIO_RATE, 0, 0, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_audio_stream_new(&s, g.t, PN_AUDIO_RATE, 257, 0, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_audio_stream_new(&s, g.t, 7, 1, 0, NULL, &e), PONDER_E_RANGE);
    assert_null(s);
    OK(pn_audio_stream_new(&s, g.t, PN_AUDIO_RATE, 1, g.n, NULL, &e), e);
    assert_int_equal(pn_audio_stream_end(s, &e), PONDER_E_ARGUMENT); /* not a sample */
    assert_non_null(strstr(e.text, "without samples"));
    assert_int_equal(pn_audio_stream_push(s, NULL, 3, &e), PONDER_E_ARGUMENT);
    push(s, g.samples, 300);
    bad[650] = INFINITY;
    assert_int_equal(pn_audio_stream_push(s, bad, 520, &e), PONDER_OK); /* the bad one is further on */
    pn_audio_stream_free(s);
    OK(pn_audio_stream_new(&s, g.t, PN_AUDIO_RATE, 1, g.n, NULL, &e), e);
    push(s, g.samples, 100);
    assert_int_equal(pn_audio_stream_push(s, bad, 651, &e), PONDER_E_FORMAT);
    assert_non_null(strstr(e.text, "650"));
    assert_int_equal(pn_audio_stream_push(s, g.samples, g.n - 99, &e), PONDER_E_RANGE);
    assert_int_equal(pn_audio_encode_new(&c, s, 1, rows, &g.k, 1, NULL, &e), PONDER_E_RANGE); /* 100 samples of 120 */
    push(s, g.samples + 100, 200);
    assert_int_equal(pn_audio_stream_ready(s), 2);
    assert_int_equal(pn_audio_encode_new(&c, s, 3, rows, &g.k, 1, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_audio_encode_new(&c, s, 0, rows, &g.k, 1, NULL, &e), PONDER_E_RANGE);
    assert_null(c);
    push(s, g.samples + 300, g.n - 300);
    finish(s, &g, rows, "after refusals");
    assert_int_equal(pn_audio_stream_push(s, g.samples, 1, &e), PONDER_E_STATE);
    OK(pn_audio_stream_end(s, &e), e); /* twice does nothing */
    pn_audio_stream_free(s);
    pn_sound *sound;
    OK(pn_sound_raw(&sound, g.samples, g.n, 1, 16000, &(pn_sound_options){.rate = 16000}, NULL, &e), e);
    assert_int_equal(pn_audio_stream_of(&s, g.t, sound, NULL, &e), PONDER_E_ARGUMENT);
    assert_null(s);
    pn_sound_free(sound);
    free(rows);
    rig_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_by_rows),
        cmocka_unit_test(pieces_by_chance),
        cmocka_unit_test(pieces_at_another_rate),
        cmocka_unit_test(copies_go_on),
        cmocka_unit_test(given_up_anywhere),
        cmocka_unit_test(pushed_while_it_rests),
        cmocka_unit_test(threads_and_slices),
        cmocka_unit_test(cpu_levels),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(memory_ends_anywhere),
        cmocka_unit_test(refused_and_unharmed),
    };
    return cmocka_run_group_tests_name("audio: streams", tests, NULL, NULL);
}
