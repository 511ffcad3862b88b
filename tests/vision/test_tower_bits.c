/* What may not change a bit of a row: threads, slices, the order of tiles, the CPU level, repacking, where weights and pixels come
 * from. */
#include "tower_rig.h"

enum { ODD = 4099 };          /* bytes before a file, so that nothing in it is aligned */

static reference references[PN_COUNT(models)];

/* The cases that take more than one chunk, more than one span of keys, several windows; and some that do not. */
static const char *const cases[] = {"one", "wide", "left", "large", "pair"};

typedef struct expected {
    const char *model, *file;
    pn_tower *t;
    const item *c;
    float *rows;
} expected;

static void expect(const expected *x, float *got, const char *what)
{
    same_bits(got, x->rows, x->c, pn_tower_about(x->t)->out, x->model, what);
    free(got);
}

static void each(void (*check)(const expected *x), bool all_files)
{
    static const char *const files[] = {"", "mmproj.gguf"};
    for (size_t m = 0; m < PN_COUNT(models); m++)
        for (size_t f = 0; f < (all_files ? PN_COUNT(files) : 1); f++) {
            expected x = {.model = models[m], .file = files[f], .t = load_tower(models[m], files[f])};
            for (size_t i = 0; i < PN_COUNT(cases); i++) {
                x.c = item_named(&references[m], cases[i]);
                if (!can_encode(x.t, x.c)) continue;
                x.rows = encode(x.t, x.c);
                check(&x);
                free(x.rows);
            }
            pn_tower_free(x.t);
        }
}

/* ---- threads and slices ------------------------------------------------------------------------------------------------ */

/* slice: microseconds; 0: at one go. Returns how often it was parked. */
static uint32_t with_team(const expected *x, uint32_t threads, bool sliced, float *rows)
{
    ponder_error err = {.size = sizeof err};
    const pn_tower_info *d = pn_tower_about(x->t);
    float *patches = patches_of(d, x->c);
    pn_encode_input in = {.grid = x->c->grid, .patches = patches};
    pn_kernels k;
    pn_encode *e;
    pn_team *team;
    uint32_t parked = 0;
    pn_kernels_init(&k, pn_cpu_flags());
    OK(pn_team_new(&team, threads, NULL, NULL, &err), err);
    OK(pn_encode_new(&e, x->t, &in, rows, &k, threads, NULL, &err), err);
    pn_cursor c = {.work = *pn_encode_work(e), .team = team};
    pn_cursor_begin(&c);
    for (;; parked++) {
        atomic_store(&c.stop, false);
        if (pn_cursor_run(&c, sliced ? 1 : 0, NULL)) break; /* long past: a tile each, then rest */
    }
    pn_encode_free(e);
    pn_team_free(team);
    free(patches);
    return parked;
}

static void check_threads(const expected *x)
{
    char what[64];
    const size_t n = (size_t)x->c->grid.rows * x->c->grid.cols * pn_tower_about(x->t)->out;
    for (uint32_t threads = 1; threads <= 3; threads++)
        for (int sliced = 0; sliced < 2; sliced++) {
            float *got = calloc(n, sizeof *got);
            uint32_t parked = with_team(x, threads, sliced, got);
            assert_true(sliced ? parked > 50 : parked == 0);
            snprintf(what, sizeof what, "%u threads%s", threads, sliced ? ", a tile a slice" : "");
            expect(x, got, what);
        }
}
static void threads_and_slices(void **state) { (void)state, each(check_threads, false); }

/* Tiles of an operation in any order: here from the last to the first. */
static void check_order(const expected *x)
{
    ponder_error err = {.size = sizeof err};
    const pn_tower_info *d = pn_tower_about(x->t);
    float *patches = patches_of(d, x->c), *got = calloc((size_t)x->c->grid.rows * x->c->grid.cols * d->out, sizeof *got);
    pn_encode_input in = {.grid = x->c->grid, .patches = patches};
    pn_kernels k;
    pn_encode *e;
    pn_kernels_init(&k, pn_cpu_flags());
    OK(pn_encode_new(&e, x->t, &in, got, &k, 2, NULL, &err), err);
    const pn_work *w = pn_encode_work(e);
    for (uint32_t op = 0; op < w->n_ops; op = w->next(w->self, op))
        for (uint32_t i = w->enter(w->self, op); i-- > 0;) w->tile(w->self, op, i, i % 2);
    pn_encode_free(e);
    free(patches);
    expect(x, got, "tiles backwards");
}
static void order_of_tiles(void **state) { (void)state, each(check_order, false); }

/* ---- CPU levels --------------------------------------------------------------------------------------------------------- */

static void check_levels(const expected *x)
{
    static const uint32_t masks[] = {0, 1, 3, 7};
    for (size_t i = 0; i < PN_COUNT(masks); i++) {
        char what[64];
        pn_kernels k;
        if (masks[i] & ~pn_cpu_flags()) continue; /* not on this machine */
        pn_kernels_init(&k, masks[i]);
        snprintf(what, sizeof what, "CPU mask %u", masks[i]);
        expect(x, encode_with(x->t, x->c, &k, NULL, NULL), what);
    }
}
static void cpu_levels(void **state) { (void)state, each(check_levels, true); }

/* ---- ways to the weights -------------------------------------------------------------------------------------------------- */

static void check_tower(const expected *x, pn_tower *t, const char *what)
{
    expect(x, encode(t, x->c), what);
    pn_tower_free(t);
}

static void check_repacked(const expected *x)
{
    ponder_error err = {.size = sizeof err};
    pn_team *team;
    assert_true(pn_tower_store(x->t)->file == NULL && x->t->blocks[0].q.first.packed != NULL);
    pn_tower *raw = load_with(x->model, x->file, &(pn_load_options){.quantize = -1});
    assert_true(pn_tower_store(raw)->file != NULL && raw->blocks[0].q.first.packed == NULL);
    check_tower(x, raw, "not repacked");
    OK(pn_team_new(&team, 3, NULL, NULL, &err), err);
    check_tower(x, load_with(x->model, x->file, &(pn_load_options){.repack = true, .quantize = -1, .team = team}), "loaded by a team");
    pn_team_free(team);
}
static void repacked_or_not(void **state) { (void)state, each(check_repacked, true); }

typedef struct block {
    const uint8_t *p;
    size_t n;
} block;

static int32_t read_block(void *user, uint64_t offset, void *to, size_t bytes)
{
    const block *b = user;
    if (offset > b->n || bytes > b->n - offset) return -1;
    memcpy(to, b->p + offset, bytes);
    return 0;
}

static pn_tower *from_source(const expected *x, pn_source *s, bool repack)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    pn_tower *t;
    OK(pn_checkpoint_open_source(&c, s, NULL, &err), err);
    pn_load_options o = {.repack = repack, .quantize = -1};
    OK(pn_tower_load(&t, c, text_arch(x->model), TEXT_WIDTH, &o, NULL, &err), err);
    pn_checkpoint_free(c);
    return t;
}

static void check_sources(const expected *x)
{
    ponder_error err = {.size = sizeof err};
    char path[PATH_ROOM];
    if (!*x->file || strcmp(x->c->name, "left")) return;
    data_path(path, x->model, x->file);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    block b = {.n = (size_t)ftell(f)};
    rewind(f);
    uint8_t *p = malloc(ODD + b.n);
    assert_int_equal(fread(p + ODD, 1, b.n, f), b.n);
    fclose(f);
    b.p = p + ODD;
    for (int repack = 0; repack < 2; repack++) {
        pn_source *s;
        OK(pn_source_memory(&s, b.p, b.n, NULL, &err), err);
        check_tower(x, from_source(x, s, repack), "from memory");
        ponder_source callback = {.size = sizeof callback, .user = &b, .length = b.n, .read = read_block};
        OK(pn_source_callback(&s, &callback, NULL, &err), err);
        check_tower(x, from_source(x, s, repack), "from a callback");
    }
    free(p);
}
static void any_source(void **state) { (void)state, each(check_sources, true); }

/* ---- ways to the pixels ------------------------------------------------------------------------------------------------------ */

static pn_resize *resized(const picture *p)
{
    ponder_error err = {.size = sizeof err};
    pn_image_view v = {.pixels = p->v, .width = p->width, .height = p->height, .format = PN_PIXELS_RGB};
    pn_image *im;
    pn_resize *r;
    OK(pn_image_from_view(&im, &v, NULL, NULL, &err), err);
    OK(pn_resize_new(&r, im, p->width, p->height, pn_cpu_flags(), NULL, &err), err);
    pn_image_free(im);
    return r;
}

/* Pictures on their way: the resampling (of nothing here) and the cutting are part of the work. */
static void check_pixels(const expected *x)
{
    ponder_error err = {.size = sizeof err};
    const pn_tower_info *d = pn_tower_about(x->t);
    pn_resize *first = resized(&x->c->frame[0]), *second = x->c->n_frames > 1 ? resized(&x->c->frame[1]) : first;
    pn_encode_input in = {.grid = x->c->grid, .frame = {first, second}};
    float *got = calloc((size_t)x->c->grid.rows * x->c->grid.cols * d->out, sizeof *got);
    pn_kernels k;
    pn_encode *e;
    pn_kernels_init(&k, pn_cpu_flags());
    OK(pn_encode_new(&e, x->t, &in, got, &k, 1, NULL, &err), err);
    run(e, NULL, NULL);
    pn_encode_free(e);
    pn_resize_free(first);
    if (second != first) pn_resize_free(second);
    expect(x, got, "from pixels");
}
static void pixels_or_patches(void **state) { (void)state, each(check_pixels, true); }

/* The same picture from another size is another picture, and its resampling happens inside the work. */
static void resampled_inside(void **state)
{
    (void)state;
    ponder_error err = {.size = sizeof err};
    pn_tower *t = load_tower(models[0], "");
    const picture *p = &item_named(&references[0], "left")->frame[0];
    pn_image_view v = {.pixels = p->v, .width = p->width, .height = p->height, .format = PN_PIXELS_RGB};
    pn_image *im;
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    OK(pn_image_from_view(&im, &v, NULL, NULL, &err), err);
    const pn_grid grid = {5, 2};
    const size_t n = (size_t)grid.rows * grid.cols * t->d.out;
    float *rows[2];
    for (int ahead = 0; ahead < 2; ahead++) {
        pn_resize *r;
        pn_encode *e;
        OK(pn_resize_new(&r, im, grid.cols * t->d.merge * t->d.patch, grid.rows * t->d.merge * t->d.patch, pn_cpu_flags(), NULL, &err), err);
        if (ahead) pn_resize_run(r);
        rows[ahead] = calloc(n, sizeof(float));
        OK(pn_encode_new(&e, t, &(pn_encode_input){.grid = grid, .frame = {r, r}}, rows[ahead], &k, 1, NULL, &err), err);
        run(e, NULL, NULL);
        pn_encode_free(e);
        pn_resize_free(r);
    }
    assert_memory_equal(rows[0], rows[1], n * sizeof(float));
    assert_true(fabsf(rows[0][0]) > 0);
    free(rows[0]);
    free(rows[1]);
    pn_image_free(im);
    pn_tower_free(t);
}

static int read_all(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) reference_read(&references[m], models[m]);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) reference_free(&references[m]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_and_slices), cmocka_unit_test(order_of_tiles), cmocka_unit_test(cpu_levels),
                                       cmocka_unit_test(repacked_or_not), cmocka_unit_test(any_source), cmocka_unit_test(pixels_or_patches),
                                       cmocka_unit_test(resampled_inside)};
    return cmocka_run_group_tests(tests, read_all, free_all);
}
