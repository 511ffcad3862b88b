/* A drafter's passes beside transformers: the head's raw products for each row of a block, after contexts shorter and longer than the
 * window, in both containers. Then the mistakes that would go unnoticed, each made on purpose. */
#include "rig.h"

enum { MOST_ROWS = 64, MOST_CASES = 8, MOST_PAGES = MAX_IDS / PN_KEYS };

static const char *const names[] = {"drafter-glimmer", "drafter-glimmer-short"}, *const containers[] = {"", "model.gguf"};

typedef struct drafts {
    char target[64];
    int32_t ids[MAX_IDS], length[MOST_CASES];
    uint32_t n, cases;
    double tolerance;
    npy rows;                 /* [cases][block - 1][vocab] */
} drafts;

static drafts read_drafts(const char *name)
{
    drafts d = {.n = 0};
    char path[PATH_ROOM];
    data_path(path, name, "drafts.json");
    json_t *o = json_load_file(path, 0, NULL);
    assert_non_null(o);
    snprintf(d.target, sizeof d.target, "%s", json_string_value(json_object_get(o, "target")));
    d.n = read_ids(o, "ids", d.ids);
    d.cases = (uint32_t)json_array_size(json_object_get(o, "lengths"));
    assert_true(d.cases > 1 && d.cases <= MOST_CASES);
    read_ids(o, "lengths", d.length);
    d.tolerance = json_number_value(json_object_get(o, "tolerance"));
    assert_true(d.tolerance > 0 && d.tolerance <= 3e-4);
    json_decref(o);
    data_path(path, name, "drafts.npy");
    d.rows = npy_read(path);
    assert_true(d.rows.v && d.rows.n_dims == 3 && d.rows.dim[0] == d.cases);
    return d;
}

static pn_network *load_pair(const drafts *d, const char *name, const char *file)
{
    ponder_error err = {.size = sizeof err};
    pn_network *n = load_named(d->target, "");
    variant v;
    snprintf(v.name, sizeof v.name, "%s", name);
    snprintf(v.file, sizeof v.file, "%s", file);
    OK(pn_network_load_drafter(n, open_variant(&v), &(pn_load_options){.repack = true, .quantize = -1}, &err), err);
    return n;
}

/* ---- computing ---------------------------------------------------------------------------------------------- */

/* Where a trap lays the block, beside where it belongs. */
static uint32_t shift;

typedef struct store {
    uint8_t *page[PN_GROUPS][MOST_PAGES];
} store;

static store new_store(const pn_network *n)
{
    store s;
    pn_kv_layout kv;
    pn_kv_layout_init(&kv, &n->d, PN_KV_F32);
    pn_kv_layout_add_drafter(&kv, &n->drafter->d);
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; i < MOST_PAGES; i++) {
            s.page[g][i] = aligned_alloc(64, kv.page_bytes[g] + 64);
            memset(s.page[g][i], 0xff, kv.page_bytes[g] + 64); /* NaN: what was not computed shows */
        }
    return s;
}

static void free_store(store *s)
{
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; i < MOST_PAGES; i++) free(s->page[g][i]);
}

static void run_program(const pn_network *n, store *s, pn_run *r)
{
    ponder_error err = {.size = sizeof err};
    pn_kernels k;
    pn_kv_layout kv;
    pn_program *p;
    pn_kv_layout_init(&kv, &n->d, PN_KV_F32);
    pn_kernels_init(&k, pn_cpu_flags());
    for (int g = 0; g < PN_GROUPS; g++) r->pages[g] = s->page[g];
    OK(pn_program_new(&p, n, &k, &kv, &(pn_limits){.columns = r->n, .outputs = r->n, .runs = 1, .threads = 1}, NULL, &err), err);
    pn_program_begin(p, r, 1);
    pn_work w = pn_program_work(p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        const uint32_t tiles = w.enter(w.self, op);
        for (uint32_t t = 0; t < tiles; t++) w.tile(w.self, op, t, 0);
    }
    for (uint32_t i = 0; n->d.block && i < r->n_out; i++) {
        int32_t id;
        float probability;
        double sum = 0;
        const float *row = r->logits + (size_t)i * n->d.vocab;
        pn_program_pick(p, i, &id, &probability);
        assert_int_equal(id, arg_max(row, n->d.vocab));
        for (uint32_t v = 0; v < n->d.vocab; v++) sum += exp((double)row[v] - (double)row[id]);
        assert_true(shift || fabs(probability * sum - 1) < 1e-4);
    }
    pn_program_free(p);
}

/* The context in `pieces`, and a block after each, as a sequence does it. The last block's rows. */
static void compute(const pn_network *n, const int32_t *ids, uint32_t length, uint32_t pieces, float *to)
{
    const uint32_t block = n->drafter->d.block;
    store s = new_store(n);
    for (uint32_t i = 1, at = 0; i <= pieces; i++) {
        const uint32_t end = length * i / pieces;
        if (end == at) continue;
        pn_run r = {.ids = ids + at, .pos = at, .n = end - at};
        run_program(n, &s, &r);
        pn_run b = {.ids = ids + end, .pos = end + shift, .n = block, .n_out = block - 1, .logits = to};
        run_program(n->drafter, &s, &b);
        at = end;
    }
    free_store(&s);
}

static double worst(const pn_network *n, const drafts *d, uint32_t pieces)
{
    const size_t rows = (size_t)(n->drafter->d.block - 1) * n->d.vocab;
    float *got = calloc(rows, sizeof *got);
    double most = 0;
    assert_int_equal(d->rows.n, rows * d->cases);
    for (uint32_t c = 0; c < d->cases; c++) {
        compute(n, d->ids, (uint32_t)d->length[c], pieces, got);
        most = fmax(most, max_error(got, d->rows.v + c * rows, rows));
    }
    free(got);
    return most;
}

static void parity(void **state)
{
    (void)state;
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        drafts d = read_drafts(names[i]);
        for (size_t f = 0; f < PN_COUNT(containers); f++) {
            if (!data_exists(names[i], f ? containers[f] : "config.json")) continue;
            pn_network *n = load_pair(&d, names[i], containers[f]);
            for (uint32_t pieces = 1; pieces <= 5; pieces += 2) {
                const double e = worst(n, &d, pieces);
                print_message("%-22s %-10s in %u: %.1e of %.0e\n", names[i], containers[f], pieces, e, d.tolerance);
                assert_true(e <= d.tolerance);
            }
            pn_network_free(n);
        }
        free(d.rows.v);
    }
}

/* How the context came changes no bit, nor does what the pages before the window hold. */
static void same_bits_in_pieces(void **state)
{
    (void)state;
    drafts d = read_drafts(names[0]);
    pn_network *n = load_pair(&d, names[0], "");
    const size_t rows = (size_t)(n->drafter->d.block - 1) * n->d.vocab;
    float *whole = calloc(rows, sizeof *whole), *got = calloc(rows, sizeof *got);
    compute(n, d.ids, 64, 1, whole);
    for (uint32_t pieces = 2; pieces <= 64; pieces *= 2) {
        compute(n, d.ids, 64, pieces, got);
        same_bits(got, whole, rows, n->d.vocab, names[0], "context in pieces");
    }
    free(whole);
    free(got);
    free(d.rows.v);
    pn_network_free(n);
}

/* ---- traps ----------------------------------------------------------------------------------------------------- */

static void window_more(pn_network *n) { n->d.window++; }
static void window_less(pn_network *n) { n->d.window--; }
static void window_off(pn_network *n) { n->d.window = 1 << 20; }
static void embedding_normed(pn_network *n) { n->d.embed_norm = true; }
static void another_mask(pn_network *n) { n->d.mask++; }
static void block_further(pn_network *n) { (void)n; shift = 1; }
static void streams_that_leave(pn_network *n) { for (uint32_t i = 0; i < n->d.n_taps; i++) n->d.tap[i] -= n->d.tap[i] > 1; }
static void pairs_rotated(pn_network *n) { n->d.rope_pairs = true; }
static void capped(pn_network *n) { n->d.softcap = 20; }
static void q_not_normed(pn_network *n) { for (uint32_t i = 0; i < n->d.layers; i++) n->layers[i].q_norm = NULL; }
static void k_not_normed(pn_network *n) { for (uint32_t i = 0; i < n->d.layers; i++) n->layers[i].k_norm = NULL; }

static void streams_swapped(pn_network *n)
{
    const uint16_t first = n->d.tap[0];
    n->d.tap[0] = n->d.tap[1];
    n->d.tap[1] = first;
}

static void each_trap_shows(void **state)
{
    (void)state;
    static const struct { const char *name; void (*change)(pn_network *drafter); } traps[] = {
        {"window + 1", window_more}, {"window - 1", window_less}, {"window off", window_off}, {"embedding normed", embedding_normed},
        {"another mask token", another_mask}, {"block one further", block_further}, {"streams one layer earlier", streams_that_leave},
        {"streams swapped", streams_swapped}, {"neighbours rotated", pairs_rotated}, {"capped", capped},
        {"q norm without weight", q_not_normed}, {"k norm without weight", k_not_normed},
    };
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        drafts d = read_drafts(names[i]);
        for (size_t t = 0; t < PN_COUNT(traps); t++) {
            pn_network *n = load_pair(&d, names[i], "model.gguf");
            shift = 0;
            traps[t].change(n->drafter);
            const double e = worst(n, &d, 1);
            print_message("%-22s %-26s %.2g\n", names[i], traps[t].name, e);
            if (!(e > 10 * d.tolerance)) fail_msg("%s: %s does not show", names[i], traps[t].name);
            pn_network_free(n);
        }
        shift = 0;
        free(d.rows.v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parity), cmocka_unit_test(same_bits_in_pieces), cmocka_unit_test(each_trap_shows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
