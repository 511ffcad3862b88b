/* bench-ears FOLDER ROWS THREADS [A_TIME] [ROUNDS]: the time of making ROWS rows with the audio tower in FOLDER (the best round),
 * A_TIME at a time, where it goes, the largest tile, and what resampling that much sound takes, as one line of JSON. The
 * sound is FOLDER/samples (floats at 24,000), and FOLDER/rows (floats) is compared, when they are there. Run by
 * tests/bench/ears.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "audio/encode.h"

enum { KINDS = PN_AO_POST + 1, MOST_THREADS = 64 };
static const char *const names[KINDS] = {"take", "put", "fold", "folded", "conv", "fc1", "gelu", "fc2", "add", "norm", "proj", "post"};

/* Processor time, so that other work on the machine disturbs less. */
typedef struct timed {
    pn_work work;             /* the real one */
    const pn_audio_encode *e;
    struct { double took[KINDS], longest[KINDS]; } of[MOST_THREADS];
} timed;

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
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
    const uint32_t kind = b->e->ops[op].kind;
    double t = seconds(CLOCK_THREAD_CPUTIME_ID);
    b->work.tile(b->work.self, op, i, thread);
    t = seconds(CLOCK_THREAD_CPUTIME_ID) - t;
    b->of[thread].took[kind] += t;
    b->of[thread].longest[kind] = fmax(b->of[thread].longest[kind], t);
}

static uint32_t next(void *self, uint32_t op)
{
    timed *b = self;
    return b->work.next(b->work.self, op);
}

static float *slurp(const char *folder, const char *name, size_t n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    float *p = malloc(n * sizeof *p);
    if (fread(p, sizeof *p, n, f) != n) {
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

/* One round: all rows, `step` at a time. */
static ponder_status round_of(timed *b, const pn_audio *t, pn_sound *sound, uint32_t n, uint32_t step, float *rows, pn_team *team, ponder_error *err)
{
    pn_audio_stream *s;
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    ponder_status st = pn_audio_stream_of(&s, t, sound, NULL, err);
    if (st != PONDER_OK) return st;
    for (uint32_t at = 0; at < n && st == PONDER_OK; at += step) {
        pn_audio_encode *e;
        st = pn_audio_encode_new(&e, s, PN_MIN(step, n - at), rows + (size_t)at * pn_audio_about(t)->out, &k, pn_team_size(team), NULL, err);
        if (st != PONDER_OK) break;
        b->e = e;
        b->work = *pn_audio_encode_work(e);
        pn_cursor cursor = {.work = {.self = b, .n_ops = b->work.n_ops, .enter = enter, .tile = tile, .next = next}, .team = team};
        pn_team_begin(team);
        pn_cursor_begin(&cursor);
        while (!pn_cursor_run(&cursor, 0, NULL)) {}
        pn_team_end(team);
        pn_audio_encode_free(e);
    }
    pn_audio_stream_free(s);
    return st;
}

/* Processor time of bringing so much sound from `rate` to 24,000; 0: not possible here. */
static double resampling(uint32_t rate, double length)
{
    ponder_error err = {.size = sizeof err};
    const size_t n = (size_t)(rate * length);
    float *x = calloc(n, sizeof *x);
    double least = INFINITY;
    for (int r = 0; r < 3; r++) {
        pn_sound *s;
        double t = seconds(CLOCK_THREAD_CPUTIME_ID);
        if (pn_sound_raw(&s, x, n, 1, rate, NULL, NULL, &err)) break;
        least = fmin(least, seconds(CLOCK_THREAD_CPUTIME_ID) - t);
        pn_sound_free(s);
    }
    free(x);
    return isfinite(least) ? least : 0;
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    if (argc < 4 || atoi(argv[2]) < 1 || atoi(argv[3]) < 1 || atoi(argv[3]) > MOST_THREADS)
        return fprintf(stderr, "bench-ears FOLDER ROWS THREADS [A_TIME] [ROUNDS]\n"), 2;
    const uint32_t n = (uint32_t)atoi(argv[2]), step = argc > 4 ? (uint32_t)atoi(argv[4]) : n, rounds = argc > 5 ? (uint32_t)atoi(argv[5]) : 3;
    pn_team *team;
    pn_checkpoint *c;
    pn_audio *t;
    pn_sound *sound;
    pn_description *text = malloc(sizeof *text);
    if (pn_team_new(&team, (uint32_t)atoi(argv[3]), NULL, NULL, &err) || pn_checkpoint_open(&c, argv[1], NULL, &err) || pn_describe(c, text, &err))
        return die(&err);
    if (pn_audio_load(&t, c, text->arch, text->width, &(pn_load_options){.repack = true, .quantize = -1, .team = team}, NULL, &err)) return die(&err);
    const pn_audio_info *d = pn_audio_about(t);
    const size_t samples = (size_t)n * d->samples, values = (size_t)n * d->out;
    float *x = slurp(argv[1], "samples", samples), *want = x ? slurp(argv[1], "rows", values) : NULL, *rows = malloc(values * sizeof *rows);
    if (!x) x = calloc(samples, sizeof *x);
    if (pn_sound_raw(&sound, x, samples, 1, d->rate, NULL, NULL, &err)) return die(&err);
    static timed best, b;
    double least = INFINITY, off = 0, all = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        b = (timed){0};
        double begin = seconds(CLOCK_MONOTONIC);
        if (round_of(&b, t, sound, n, step, rows, team, &err)) return die(&err);
        double took = seconds(CLOCK_MONOTONIC) - begin;
        if (took < least) least = took, best = b;
    }
    for (size_t i = 0; want && i < values; i++) off = fmax(off, fabs((double)want[i] - (double)rows[i]));
    const double length = (double)samples / d->rate;
    printf("{\"seconds\": %.4f, \"bytes\": %zu, \"off\": %.2g, \"44100\": %.4f, \"48000\": %.4f, \"16000\": %.4f", least,
           pn_audio_encode_bytes(d, pn_audio_quantised(t), PN_MIN(step, n), pn_team_size(team)), want ? off : -1.0, resampling(44100, length),
           resampling(48000, length), resampling(16000, length));
    for (int i = 0; i < KINDS; i++) {
        double sum = 0, longest = 0;
        for (uint32_t w = 0; w < pn_team_size(team); w++) sum += best.of[w].took[i], longest = fmax(longest, best.of[w].longest[i]);
        all += sum;
        printf(", \"%s\": [%.4f, %.0f]", names[i], sum, 1e6 * longest);
    }
    printf(", \"processor\": %.4f}\n", all);
    return 0;
}
