/* bench-tower FOLDER ROWS COLS THREADS [ROUNDS]: the time of encoding a picture of ROWS x COLS cells with the tower in FOLDER (the
 * first round and the best), where it goes, and the largest tile, as one line of JSON. FOLDER/mmproj.gguf has the weights when it is there; FOLDER/pixels (bytes [height][width][3]) is
 * encoded when it is there, and FOLDER/rows (floats) compared. Run by tests/bench/tower.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "vision/encode.h"

enum { KINDS = PN_E_PROJECT + 1, MOST_THREADS = 64 };
static const char *const names[KINDS] = {
    "resize", "resize", "angles", "patches", "embed", "place", "kv_in", "kv", "kv_put", "q_in", "q", "q_turn", "attend", "attended", "o",
    "middle", "up", "gelu", "down", "end", "merge", "fc1", "fc1_gelu", "fc2", "fc2_gelu", "project"};

/* Processor time, so that other work on the machine disturbs less. */
typedef struct timed {
    pn_work work;             /* the real one */
    uint32_t layers;
    struct { double took[KINDS], longest[KINDS]; } of[MOST_THREADS];
} timed;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t enter(void *self, uint32_t op)
{
    timed *b = self;
    return b->work.enter(b->work.self, op);
}

static void tile(void *self, uint32_t op, uint32_t i, uint32_t thread)
{
    timed *b = self;
    const uint32_t kind = pn_encode_kind(op, b->layers);
    double t = cpu();
    b->work.tile(b->work.self, op, i, thread);
    t = cpu() - t;
    b->of[thread].took[kind] += t;
    if (t > b->of[thread].longest[kind]) b->of[thread].longest[kind] = t;
}

static uint32_t next(void *self, uint32_t op)
{
    timed *b = self;
    return b->work.next(b->work.self, op);
}

static void *slurp(const char *folder, const char *name, size_t want)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    void *p = malloc(want);
    if (fread(p, 1, want, f) != want) {
        free(p);
        p = NULL;
    }
    fclose(f);
    return p;
}

static int die(const ponder_error *e)
{
    fprintf(stderr, "%s\n", e->text);
    return 1;
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    if (argc < 5 || atoi(argv[4]) < 1 || atoi(argv[4]) > MOST_THREADS) return fprintf(stderr, "bench-tower FOLDER ROWS COLS THREADS [ROUNDS]\n"), 2;
    const pn_grid grid = {(uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3])};
    const uint32_t threads = (uint32_t)atoi(argv[4]), rounds = argc > 5 ? (uint32_t)atoi(argv[5]) : 3;
    pn_team *team;
    pn_checkpoint *c, *file;
    pn_tower *t;
    char mmproj[1024];
    snprintf(mmproj, sizeof mmproj, "%s/mmproj.gguf", argv[1]);
    pn_description *text = malloc(sizeof *text);
    if (pn_team_new(&team, threads, NULL, NULL, &err) || pn_checkpoint_open(&c, argv[1], NULL, &err) || pn_describe(c, text, &err)) return die(&err);
    if (pn_checkpoint_open(&file, mmproj, NULL, NULL)) file = c;
    if (pn_tower_load(&t, file, text->arch, text->width, &(pn_load_options){.repack = true, .quantize = -1, .team = team}, NULL, &err)) return die(&err);
    const pn_tower_info *d = pn_tower_about(t);
    const uint32_t unit = d->merge * d->patch, height = grid.rows * unit, width = grid.cols * unit;
    const size_t n = (size_t)grid.rows * grid.cols * d->out;
    uint8_t *pixels = slurp(argv[1], "pixels", (size_t)height * width * 3);
    float *want = pixels ? slurp(argv[1], "rows", n * sizeof *want) : NULL, *rows = malloc(n * sizeof *rows);
    pn_image *im;
    if (!pixels) pixels = calloc((size_t)height * width, 3);
    pn_image_view view = {.pixels = pixels, .width = width, .height = height, .format = PN_PIXELS_RGB};
    if (pn_image_from_view(&im, &view, NULL, NULL, &err)) return die(&err);
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    static timed best, b;
    double least = INFINITY, first = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        pn_resize *resize;
        pn_encode *e;
        b = (timed){.layers = d->layers};
        double begin = now();
        if (pn_resize_new(&resize, im, width, height, pn_cpu_flags(), NULL, &err)) return die(&err);
        pn_encode_input in = {.grid = grid, .frame = {resize, resize}};
        if (pn_encode_new(&e, t, &in, rows, &k, threads, NULL, &err)) return die(&err);
        b.work = *pn_encode_work(e);
        pn_cursor cursor = {.work = {.self = &b, .n_ops = b.work.n_ops, .enter = enter, .tile = tile, .next = next}, .team = team};
        pn_cursor_begin(&cursor);
        while (!pn_cursor_run(&cursor, 0, NULL)) {}
        double took = now() - begin;
        if (r == 0) first = took;
        if (took < least) least = took, best = b;
        pn_encode_free(e);
        pn_resize_free(resize);
    }
    double off = 0;
    for (size_t i = 0; want && i < n; i++) off = fmax(off, fabs((double)want[i] - (double)rows[i]));
    printf("{\"seconds\": %.4f, \"first\": %.4f, \"bytes\": %zu, \"off\": %s%.2g", least, first, pn_encode_bytes(d, pn_tower_quantised(t), grid, threads),
           want ? "" : "-", want ? off : 1.0);
    double all = 0;
    for (int i = 0; i < KINDS; i++) {
        double sum = 0, longest = 0;
        for (uint32_t w = 0; w < threads; w++) {
            sum += best.of[w].took[i];
            longest = fmax(longest, best.of[w].longest[i]);
        }
        all += sum;
        if (i > 0) printf(", \"%s\": [%.4f, %.0f]", i == 1 ? "resize" : names[i], sum, 1e6 * longest);
    }
    printf(", \"processor\": %.4f}\n", all);
    return 0;
}
