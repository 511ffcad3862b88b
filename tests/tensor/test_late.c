/* Panels that are packed late: each use gives the bits of packed weights, the first leaves the place where they belong untouched, the
 * second fills it with what the packer gives, whatever the shapes, columns, levels and threads. */
#include "quants.h"

#include <pthread.h>

#include "tensor/products.h"

typedef struct rig {
    pn_kernels k;
    pn_weight late, packed;
    pn_late state;
    uint8_t *raw, *place, *reference;
    size_t bytes;
    pn_slot in;
    void *acts;
    uint32_t columns;
    _Atomic uint32_t done, dropped; /* all panels at once; panels */
} rig;

static rig *the_rig; /* for drop() */

static void drop(pn_late *l, uint32_t from, uint32_t to)
{
    const uint32_t all = (the_rig->late.first.rows + PN_PANEL - 1) / PN_PANEL;
    assert_ptr_equal(l, &the_rig->state);
    assert_true(from < to && to <= all);
    if (to - from == all && atomic_load(&l->left) == 0) atomic_fetch_add(&the_rig->done, 1);
    else atomic_fetch_add(&the_rig->dropped, to - from);
}

static void *memory(size_t n)
{
    void *p = aligned_alloc(64, (n + 63) / 64 * 64);
    assert_non_null(p);
    return p;
}

static void fill_rows(rig *r, pn_type t, size_t n, uint64_t *seed)
{
    r->raw = malloc(n);
    if (!pn_type_is_float(t)) rnd_blocks(t, r->raw, n / pn_type_block_bytes(t), seed);
    for (size_t i = 0; i < n && pn_type_is_float(t); i++) r->raw[i] = (uint8_t)(rnd(seed) % 60); /* finite in every float type */
}

static void rig_new(rig *r, pn_type t, uint32_t rows, size_t k, uint32_t columns, uint32_t cpu, uint64_t seed)
{
    size_t row, panel = pn_panel_bytes(t, k);
    const uint32_t panels = (rows + PN_PANEL - 1) / PN_PANEL;
    *r = (rig){.bytes = panels * panel, .columns = columns};
    the_rig = r;
    pn_kernels_init(&r->k, pn_cpu_flags() & cpu);
    assert_true(pn_row_bytes(t, k, &row));
    fill_rows(r, t, row * rows, &seed);
    r->place = memory(r->bytes);
    r->reference = memory(r->bytes);
    memset(r->place, 0xa5, r->bytes);
    for (uint32_t p = 0; p < panels; p++)
        pn_pack_panel(t, r->raw + p * PN_PANEL * row, row, PN_MIN(rows - p * PN_PANEL, (uint32_t)PN_PANEL), k, r->reference + p * panel);
    atomic_init(&r->state.left, panels);
    r->state.state = calloc(panels, 1);
    r->state.drop = drop;
    r->packed = (pn_weight){.first = {.type = t, .rows = rows, .k = k, .packed = r->reference}, .batch = 1};
    r->late = (pn_weight){.first = {.type = t, .rows = rows, .k = k, .packed = r->place, .raw = r->raw, .row_stride = row}, .batch = 1, .late = &r->state};
    pn_arena count = {0};
    pn_arena_slot(&count, &r->in, k, columns, !pn_type_is_float(t));
    r->acts = memory(count.at);
    pn_arena give = {.base = r->acts};
    pn_arena_slot(&give, &r->in, k, columns, !pn_type_is_float(t));
    pn_slot_columns(&r->in, columns);
    for (uint32_t c = 0; c < columns; c++) {
        for (size_t i = 0; i < k; i++) r->in.x[c * k + i] = rnd_float(&seed);
        pn_slot_put(&r->k, &r->in, c);
    }
}

static void rig_free(rig *r)
{
    free(r->raw);
    free(r->place);
    free(r->reference);
    free((void *)r->state.state);
    free(r->acts);
}

/* One use: every tile once, the later ones first if `backwards`. */
static float *use(const rig *r, const pn_weight *w, bool backwards)
{
    float *y = malloc((size_t)w->first.rows * r->columns * sizeof *y);
    const size_t room = pn_scratch_bytes(64);
    uint8_t *scratch = memory(room + 64);
    memset(scratch + room, 0x5a, 64);
    const pn_product product = {w, y};
    pn_cut cut = {0};
    const uint32_t tiles = pn_cut_products(&cut, &r->in, r->columns, &product, 1, 2);
    for (uint32_t i = 0; i < tiles; i++) pn_tile_products(&cut, &r->k, backwards ? tiles - 1 - i : i, scratch);
    for (int i = 0; i < 64; i++) assert_int_equal(scratch[room + i], 0x5a);
    free(scratch);
    return y;
}

static void check_use(const rig *r, const float *want, bool backwards)
{
    float *y = use(r, &r->late, backwards);
    assert_memory_equal(y, want, (size_t)r->packed.first.rows * r->columns * sizeof *y);
    free(y);
}

static bool untouched(const rig *r)
{
    for (size_t i = 0; i < r->bytes; i++)
        if (r->place[i] != 0xa5) return false;
    return true;
}

/* fits: a panel has room in scratch, so that the first use need not fill the place. `from` of the uses: 0 or 1, those with tiles backwards. */
static void check_from(int from, pn_type t, uint32_t rows, size_t k, uint32_t columns, uint32_t cpu, bool fits, uint64_t seed)
{
    rig r;
    rig_new(&r, t, rows, k, columns, cpu, seed);
    float *want = use(&r, &r.packed, false), *a = malloc(k * sizeof *a), *b = malloc(k * sizeof *b);
    for (int i = 0; i < 4; i++) {
        const bool ready = i > 1 || (i == 1 && !fits);
        const pn_matrix m = pn_weight_pin(&r.late, 0), p = pn_weight_pin(&r.packed, 0);
        assert_true((m.packed != NULL) == ready);
        pn_matrix_row(&m, rows - 1, a);
        pn_matrix_row(&p, rows - 1, b);
        assert_memory_equal(a, b, k * sizeof *a);
        assert_int_equal(atomic_load(&r.done), ready);
        assert_true(ready || untouched(&r));
        check_use(&r, want, i % 2 != from);
    }
    assert_memory_equal(r.place, r.reference, r.bytes);
    /* Rows go tile by tile; those of the last tile go with all. */
    pn_cut cut = {0};
    const pn_product product = {&r.late, NULL};
    const uint32_t panels = (rows + PN_PANEL - 1) / PN_PANEL;
    pn_cut_products(&cut, &r.in, columns, &product, 1, 2);
    const uint32_t last = panels % cut.panels ? panels % cut.panels : cut.panels;
    const uint32_t dropped = atomic_load(&r.dropped);
    assert_true(dropped == panels - PN_MIN(last, panels) || dropped == panels - PN_MIN(cut.panels, panels));
    free(want);
    free(a);
    free(b);
    rig_free(&r);
}

static void check(pn_type t, uint32_t rows, size_t k, uint32_t columns, uint32_t cpu, bool fits, uint64_t seed)
{
    for (int from = 0; from < 2; from++) check_from(from, t, rows, k, columns, cpu, fits, seed);
}

static const uint32_t levels[] = {0, PN_CPU_AVX2, UINT32_MAX};

static void test_uses(void **state)
{
    static const pn_type floats[] = {PN_F32, PN_F16, PN_BF16};
    for (size_t l = 0; l < PN_COUNT(levels); l++) {
        for (size_t i = 0; i < PN_COUNT(block_types); i++) {
            check(block_types[i], 16 * 70 + 3, 256, 1, levels[l], true, 1 + i);
            check(block_types[i], 5, 512, 9, levels[l], true, 2 + i);
        }
        for (size_t i = 0; i < PN_COUNT(floats); i++) {
            check(floats[i], 16 * 21 + 1, 67, 1, levels[l], true, 3 + i);
            check(floats[i], 40, 100, 23, levels[l], true, 4 + i);
        }
    }
}

/* So many columns that a use of some panels is several tiles. */
static void test_chunks(void **state)
{
    check(PN_Q8_0, 50, 2048, 300, UINT32_MAX, true, 5);
    check(PN_BF16, 50, 2048, 300, UINT32_MAX, true, 6);
}

static void test_no_room(void **state)
{
    check(PN_F32, 35, 4000, 3, UINT32_MAX, false, 7);
    check(PN_F32, 16 * 40, 4000, 100, UINT32_MAX, false, 9);
    check(PN_F32, 16 * 40, 2048, 1, UINT32_MAX, true, 10); /* for one, not for a tile's two */
    check(PN_Q8_0, 35, 16384, 3, UINT32_MAX, false, 8);
}

static struct {
    pn_pack_fn *pack;
    const float *want;
    uint32_t uses;
} meanwhile;

/* While a panel is on its way into its place, another step uses them all. */
static void use_meanwhile(pn_type t, const void *src, size_t stride, uint32_t rows, size_t k, void *to)
{
    const size_t at = (size_t)((uint8_t *)to - the_rig->place);
    if (at < the_rig->bytes && meanwhile.uses < 3) {
        meanwhile.uses++;
        check_use(the_rig, meanwhile.want, false);
    }
    meanwhile.pack(t, src, stride, rows, k, to);
}

static void test_meanwhile(void **state)
{
    rig r;
    rig_new(&r, PN_Q4_K, 16 * 30, 512, 2, UINT32_MAX, 11);
    float *want = use(&r, &r.packed, false);
    meanwhile.pack = r.k.pack;
    meanwhile.want = want;
    meanwhile.uses = 0;
    r.k.pack = use_meanwhile;
    for (int i = 0; i < 3; i++) check_use(&r, want, false);
    assert_int_equal(meanwhile.uses, 3);
    assert_memory_equal(r.place, r.reference, r.bytes);
    free(want);
    rig_free(&r);
}

typedef struct user {
    pthread_t thread;
    const rig *r;
    const float *want;
    bool backwards;
    pthread_barrier_t *start;
} user;

static void *use_often(void *arg)
{
    const user *u = arg;
    for (int i = 0; i < 4; i++) {
        pthread_barrier_wait(u->start);
        check_use(u->r, u->want, u->backwards);
    }
    return NULL;
}

/* Two engines over the same weights, each with its own steps. */
static void test_shared(void **state)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, 2);
    for (uint64_t seed = 0; seed < 60; seed++) {
        rig r;
        rig_new(&r, seed % 2 ? PN_Q4_K : PN_F16, 16 * 30, 1024, 1, UINT32_MAX, seed);
        float *want = use(&r, &r.packed, false);
        user u[2];
        for (int i = 0; i < 2; i++) {
            u[i] = (user){.r = &r, .want = want, .backwards = i && seed % 3, .start = &start};
            assert_int_equal(pthread_create(&u[i].thread, NULL, use_often, &u[i]), 0);
        }
        for (int i = 0; i < 2; i++) pthread_join(u[i].thread, NULL);
        assert_int_equal(atomic_load(&r.done), 1);
        assert_memory_equal(r.place, r.reference, r.bytes);
        free(want);
        rig_free(&r);
    }
    pthread_barrier_destroy(&start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uses), cmocka_unit_test(test_chunks), cmocka_unit_test(test_no_room), cmocka_unit_test(test_meanwhile),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
