/* Where a step's time goes: N sequences that share a prefix decode one token each (and one prompt is prefilled), on one thread, each
 * operation timed by itself. An operation's time is the best of the rounds, so a busy machine hardly shows; the sum of them is what
 * one core would take. Threads and the waits between operations are left out: `ponder bench` has them.
 *   gcc -O3 -std=gnu11 -D_GNU_SOURCE -Iinclude -Ilib tests/bench/steps.c build/gcc/lib/libponder-core.a -o steps -lpng -ljpeg -lspeexdsp -lpcre2-8 -lm -pthread
 *   ./steps MODEL [columns,.. = 1,8,16] [prefix = 256] [rounds = 20] [prefill = 512] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "decoder/program.h"

enum { MOST_SEQUENCES = 64, MOST_PAGES = 4096, KINDS = PN_OP_LOGITS + 1 };

static const char *const names[KINDS] = {"embed", "qkv", "heads", "attend", "join", "attended", "o", "middle", "gate+up", "activate", "down",
    "router", "route", "sort", "gather", "fetch", "experts in", "experts activate", "experts out", "combine", "latent up", "end", "final norm",
    "head", "logits"};

static void fail(const char *what)
{
    fprintf(stderr, "steps: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct rig {
    pn_network *n;
    pn_kv_layout kv;
    pn_program *p;
    double *best;             /* of each operation of the list */
    double longest_tile;      /* best of the rounds, of the longest */
    double *tile_best;        /* of each operation: its longest tile in the best round */
    int32_t ids[MOST_PAGES * PN_KEYS];
    uint8_t *pages[MOST_SEQUENCES][PN_GROUPS][MOST_PAGES];
    float *logits;
} rig;

static uint8_t *page(const rig *r, int g)
{
    return r->kv.page_bytes[g] ? aligned_alloc(64, r->kv.page_bytes[g]) : NULL;
}

static void run_once(rig *r, pn_run *runs, uint32_t n)
{
    pn_program_begin(r->p, runs, n);
    pn_work w = pn_program_work(r->p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        double t0 = now(), most = 0, last = t0;
        uint32_t tiles = w.enter(w.self, op);
        for (uint32_t t = 0; t < tiles; t++) {
            w.tile(w.self, op, t, 0);
            if (r->tile_best) {
                double at = now();
                most = at - last > most ? at - last : most;
                last = at;
            }
        }
        double took = now() - t0;
        if (took < r->best[op]) r->best[op] = took;
        if (r->tile_best && most < r->tile_best[op]) r->tile_best[op] = most;
    }
}

static void forget(rig *r)
{
    for (uint32_t i = 0; i < r->p->n_ops; i++) r->best[i] = r->tile_best[i] = 1e9;
}

static void report(const rig *r, const char *title, uint32_t tokens)
{
    double by_kind[KINDS] = {0}, tile[KINDS] = {0}, sum = 0;
    for (uint32_t i = 0; i < r->p->n_ops; i++) {
        if (r->best[i] > 1e8) continue;
        uint16_t k = r->p->ops[i].kind;
        by_kind[k] += r->best[i];
        sum += r->best[i];
        if (r->tile_best[i] < 1e8 && r->tile_best[i] > tile[k]) tile[k] = r->tile_best[i];
    }
    printf("%s: %.2f ms, %.0f tokens/s\n", title, 1e3 * sum, tokens / sum);
    for (int k = 0; k < KINDS; k++)
        if (by_kind[k] > 0)
            printf("    %-16s %8.3f ms %5.1f %%   longest tile %.0f us\n", names[k], 1e3 * by_kind[k], 100 * by_kind[k] / sum, 1e6 * tile[k]);
}

static pn_run run_of(rig *r, uint32_t s, uint32_t pos, uint32_t n, bool out)
{
    pn_run run = {.ids = r->ids, .pos = pos, .n = n, .n_out = out, .logits = out ? r->logits + (size_t)s * r->n->d.vocab : NULL};
    for (int g = 0; g < PN_GROUPS; g++) run.pages[g] = r->pages[s][g];
    return run;
}

/* Every sequence: the pages of sequence 0 up to the prefix, then its own. */
static void share(rig *r, uint32_t prefix, uint32_t most)
{
    const uint32_t last = prefix / PN_KEYS;
    for (uint32_t s = 0; s < MOST_SEQUENCES; s++)
        for (int g = 0; g < PN_GROUPS; g++)
            for (uint32_t i = 0; i <= most / PN_KEYS; i++)
                r->pages[s][g][i] = s && i < last ? r->pages[0][g][i] : page(r, g);
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    if (argc < 2) fail("see its first lines");
    const char *list = argc > 2 ? argv[2] : "1,8,16";
    uint32_t prefix = argc > 3 ? (uint32_t)atoi(argv[3]) : 256, rounds = argc > 4 ? (uint32_t)atoi(argv[4]) : 20;
    uint32_t prompt = argc > 5 ? (uint32_t)atoi(argv[5]) : 512, most = PN_MAX(prefix + 1, prompt), columns = PN_MAX(most, 64u);
    rig *r = calloc(1, sizeof *r);
    pn_checkpoint *c;
    pn_kernels k;
    if (pn_checkpoint_open(&c, argv[1], NULL, &err) != PONDER_OK) fail(err.text);
    if (pn_network_load(&r->n, c, &(pn_load_options){.repack = true, .quantize = getenv("QUANTIZE") ? atoi(getenv("QUANTIZE")) : -1}, NULL, &err) != PONDER_OK) fail(err.text);
    pn_kernels_init(&k, pn_cpu_flags());
    pn_kv_layout_init(&r->kv, &r->n->d, PN_KV_F16);
    if (pn_program_new(&r->p, r->n, &k, &r->kv, &(pn_limits){columns, MOST_SEQUENCES, MOST_SEQUENCES, 2}, NULL, &err) != PONDER_OK) fail(err.text);
    r->best = calloc(r->p->n_ops, sizeof *r->best);
    r->tile_best = calloc(r->p->n_ops, sizeof *r->best);
    r->logits = calloc((size_t)MOST_SEQUENCES * r->n->d.vocab, sizeof(float));
    if (most / PN_KEYS >= MOST_PAGES) fail("too long");
    share(r, prefix, most);
    for (uint32_t i = 0; i < most; i++) r->ids[i] = (int32_t)(i * 7919 % r->n->d.vocab);
    forget(r);
    if (prompt)
        for (uint32_t i = 0; i < (rounds + 3) / 4; i++) run_once(r, (pn_run[]){run_of(r, 0, 0, prompt, true)}, 1);
    if (prompt) report(r, "prefill", prompt);
    run_once(r, (pn_run[]){run_of(r, 0, 0, prefix, true)}, 1);
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',') {
        pn_run runs[MOST_SEQUENCES];
        char title[64];
        uint32_t n = (uint32_t)PN_MIN(atoi(at), (int)MOST_SEQUENCES);
        for (uint32_t s = 0; s < n; s++) {
            runs[s] = run_of(r, s, prefix, 1, true);
            if (prefix % PN_KEYS) /* the part of a page that a copy would hold */
                for (int g = 0; g < PN_GROUPS; g++)
                    if (s && r->kv.page_bytes[g])
                        memcpy(r->pages[s][g][prefix / PN_KEYS], r->pages[0][g][prefix / PN_KEYS], r->kv.page_bytes[g]);
        }
        forget(r);
        for (uint32_t i = 0; i < rounds; i++) run_once(r, runs, n);
        snprintf(title, sizeof title, "decode %u", n);
        report(r, title, n);
    }
    return 0;
}
