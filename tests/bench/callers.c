/* Sessions driven from several host threads at once, beside one thread that drives as many as a batch: throughput in turns (wall and
 * processor time, context switches), how evenly callers are served, what a long prompt that joins does to the others, and what idle models cost.
 *
 *     bench-callers MODEL [callers 16] [rounds 5] [threads 2] */
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "session/session.h"

enum { PREFIX = 64, TOKENS = 48, MOST = 128, LONG_PROMPT = 1500, GAPS = 4096 };

static ponder_model *open_model(const char *path, uint32_t threads, uint32_t sequences)
{
    ponder_config *c;
    ponder_model *m;
    must(ponder_config_new(&c, NULL), "config");
    must(ponder_config_set_i64(c, PONDER_P_THREADS, threads), "threads");
    must(ponder_config_set_i64(c, PONDER_P_SEQUENCES, sequences), "sequences");
    if (ponder_model_open(&m, path, c) != PONDER_OK) fprintf(stderr, "%s\n", ponder_config_error(c)), exit(1);
    ponder_config_free(c);
    return m;
}

static ponder_session *session(ponder_model *m, int64_t tokens, uint32_t prompt, uint32_t seed)
{
    ponder_config *c;
    ponder_session *s;
    int32_t ids[LONG_PROMPT];
    must(ponder_config_new(&c, NULL), "config");
    must(ponder_config_set_i64(c, PONDER_P_CONTEXT, 2048), "context");
    must(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1), "ignore_eos");
    must(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, tokens), "max_tokens");
    must(ponder_config_set_i64(c, PONDER_P_SEED, seed), "seed");
    must(ponder_session_new(&s, m, c), "session");
    ponder_config_free(c);
    for (uint32_t i = 0; i < prompt; i++) ids[i] = (int32_t)((i * 7919u + seed * 104729u) % 40000u + 10);
    must(ponder_session_prompt_ids(s, ids, prompt), "prompt");
    return s;
}

/* ---- what a stretch of work costs --------------------------------------------------------------- */

typedef struct cost {
    double wall, cpu;
    long switches;            /* voluntary and not, of all threads */
    uint64_t steps;
} cost;

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }

static cost now(ponder_model *m)
{
    struct rusage u;
    pn_engine_counts n;
    getrusage(RUSAGE_SELF, &u);
    pn_engine_read_counts(m->engine, &n);
    return (cost){(double)pn_now_us() * 1e-6, seconds(u.ru_utime) + seconds(u.ru_stime), u.ru_nvcsw + u.ru_nivcsw, n.steps};
}

static cost since(ponder_model *m, cost from)
{
    cost c = now(m);
    return (cost){c.wall - from.wall, c.cpu - from.cpu, c.switches - from.switches, c.steps - from.steps};
}

/* ---- callers ---------------------------------------------------------------------------------------- */

typedef struct caller {
    ponder_session *s;
    pthread_t thread;
    const _Atomic bool *over;
    uint64_t *gaps, n_gaps, last, last_tokens;
} caller;

/* Not every token is an event (an end that is ignored has no text, a character may take several): the gap is shared by those between. */
static int32_t count(void *user, const ponder_event *event)
{
    caller *c = user;
    uint64_t t = pn_now_us(), n = c->s->output_tokens - c->last_tokens;
    (void)event;
    if (n == 0) return c->over && atomic_load(c->over);
    for (uint64_t i = 0; c->gaps && c->last && i < n && c->n_gaps < GAPS; i++) c->gaps[c->n_gaps++] = (t - c->last) / n;
    c->last = t;
    c->last_tokens += n;
    return c->over && atomic_load(c->over);
}

static void *generate(void *arg)
{
    caller *c = arg;
    must(ponder_session_generate(c->s, count, c), "generate");
    return NULL;
}

static void start(caller *c) { if (pthread_create(&c->thread, NULL, generate, c) != 0) exit(1); }

/* One thread that drives n sessions as one batch: what the library does for agents. */
static void drive(ponder_model *m, caller *c, uint32_t n)
{
    static const _Atomic bool never;
    bool done[MOST] = {false};
    for (uint32_t left = n; left;) {
        pn_sequence *waiting[MOST];
        uint32_t n_waiting = 0;
        for (uint32_t i = 0; i < n; i++) {
            ponder_event event;
            ponder_status st = PONDER_OK;
            while (!done[i] && !(st == PONDER_MORE && pn_sequence_submitted(c[i].s->seq))) { /* also for a token without text */
                must(st = pn_session_next(c[i].s, PN_POLL, &event), "drive");
                done[i] = st == PONDER_OK && event.kind == PONDER_EVENT_DONE;
            }
            if (!done[i]) waiting[n_waiting++] = c[i].s->seq;
        }
        left = n_waiting;
        if (left) must(pn_engine_advance_any(m->engine, waiting, n_waiting, 0, &never, NULL), "advance");
    }
}

/* TOKENS of each of n sessions. The prompts are computed before. */
static cost together(ponder_model *m, uint32_t n, bool threads)
{
    caller c[MOST] = {0};
    for (uint32_t i = 0; i < n; i++) {
        c[i].s = session(m, TOKENS, PREFIX, i);
        must(ponder_session_prefill(c[i].s, UINT64_MAX), "prefill");
    }
    cost from = now(m);
    if (threads) {
        for (uint32_t i = 0; i < n; i++) start(&c[i]);
        for (uint32_t i = 0; i < n; i++) pthread_join(c[i].thread, NULL);
    } else {
        drive(m, c, n);
    }
    cost used = since(m, from);
    for (uint32_t i = 0; i < n; i++) ponder_session_free(c[i].s);
    return used;
}

static double median(double *x, uint32_t n)
{
    qsort(x, n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void throughput(ponder_model *m, uint32_t n, uint32_t rounds)
{
    double wall[64], cpu[64], total = n * TOKENS;
    for (uint32_t i = 0; i < rounds; i++) {
        cost one = together(m, n, false), many = together(m, n, true);
        wall[i] = one.wall / many.wall;
        cpu[i] = one.cpu / many.cpu;
        printf("  one caller %6.1f tokens/s, %.3f s cpu, %4llu steps, %5ld switches; %u callers %6.1f, %.3f s, %4llu, %5ld; ratio %.3f wall, %.3f cpu\n",
               total / one.wall, one.cpu, (unsigned long long)one.steps, one.switches, n, total / many.wall, many.cpu,
               (unsigned long long)many.steps, many.switches, wall[i], cpu[i]);
    }
    double w = median(wall, rounds), c = median(cpu, rounds);
    printf("throughput of %u callers over one caller's batch, median of %u: %.3f wall, %.3f cpu\n", n, rounds, w, c);
}

static int earlier(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* n callers for some seconds, a long prompt joining or not: least served over most served, and the gaps between tokens. */
static void evenly(ponder_model *m, uint32_t n, bool joining, const char *what)
{
    static uint64_t gaps[MOST * GAPS];
    caller c[MOST + 1] = {0};
    _Atomic bool over = false;
    for (uint32_t i = 0; i < n; i++) {
        c[i] = (caller){.s = session(m, 1500, PREFIX, i), .over = &over, .gaps = gaps + (size_t)i * GAPS};
        must(ponder_session_prefill(c[i].s, UINT64_MAX), "prefill");
    }
    caller *guest = &c[n];
    guest->s = session(m, 1, LONG_PROMPT, 99);
    cost from = now(m);
    for (uint32_t i = 0; i < n; i++) start(&c[i]);
    if (joining) {
        start(guest);
        pthread_join(guest->thread, NULL);
    } else {
        while (since(m, from).wall < 6) nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    const cost used = since(m, from);
    atomic_store(&over, true);
    uint64_t least = UINT64_MAX, most = 0, all = 0;
    size_t n_gaps = 0;
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(c[i].thread, NULL);
        const uint64_t tokens = c[i].s->output_tokens;
        least = PN_MIN(least, tokens);
        most = PN_MAX(most, tokens);
        memmove(gaps + n_gaps, c[i].gaps, c[i].n_gaps * sizeof *gaps);
        n_gaps += c[i].n_gaps;
        all += tokens;
        ponder_session_free(c[i].s);
    }
    ponder_session_free(guest->s);
    qsort(gaps, n_gaps, sizeof *gaps, earlier);
    if (n_gaps) printf("%s: %u callers, %.1f s, %llu tokens; least over most served %llu/%llu = %.3f; step %.1f, gap p50 %.1f, p99 %.1f, most %.1f ms\n", what, n, used.wall,
           (unsigned long long)all, (unsigned long long)least, (unsigned long long)most, (double)least / (double)most,
           used.wall * 1e3 / (double)used.steps, (double)gaps[n_gaps / 2] * 1e-3, (double)gaps[n_gaps * 99 / 100] * 1e-3, (double)gaps[n_gaps - 1] * 1e-3);
}

/* Two models that have worked, and nobody inside a call: processor time of the whole process in two seconds. */
static void idle(ponder_model *m, const char *path, uint32_t threads)
{
    ponder_model *other = open_model(path, threads, 4);
    together(other, 4, true);
    const cost from = now(m);
    nanosleep(&(struct timespec){2, 0}, NULL);
    const cost used = since(m, from);
    printf("idle: two models open, %.3f ms of processor time and %ld context switches in %.1f s\n", used.cpu * 1e3, used.switches, used.wall);
    ponder_model_free(other);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    uint32_t n = argc > 2 ? (uint32_t)atoi(argv[2]) : 16, rounds = argc > 3 ? (uint32_t)atoi(argv[3]) : 5;
    uint32_t threads = argc > 4 ? (uint32_t)atoi(argv[4]) : 2;
    if (n == 0 || n > MOST / 2 || rounds == 0 || rounds > 64) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    ponder_model *m = open_model(argv[1], threads, n + 1); /* the long prompt has a place too */
    throughput(m, n, rounds);
    idle(m, argv[1], threads);
    evenly(m, n, false, "as many callers as fit a step");
    evenly(m, n, true, "a long prompt joins");
    evenly(m, 2 * n, false, "twice as many");
    evenly(m, 2 * n, true, "twice as many, a long prompt joins");
    ponder_model_free(m);
    return 0;
}
