/* What drafts are worth: tokens a second without and with them, a text that is copied and one that is not, alone and in a batch.
 * bench-drafts MODEL [sessions] [rounds] [threads]: the two ways take turns in one process; the ids must be the same. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ponder.h>

enum { MOST_SESSIONS = 64, MOST_ROUNDS = 50, TOKENS = 192, MOST_IDS = 4096 };

static const char text[] =
    "The lighthouse keeper wrote every evening in a grey ledger: the wind, the height of the tide, and the names of the ships that "
    "had passed. On the fourth of March he noted that the brig Antelope had turned back twice before the fog, that the lamp had "
    "burned eleven pints of oil, and that his daughter had counted forty-one gannets on the western rock. He did not write that "
    "he was tired, nor that the stair had one hundred and ninety-six steps, because both were always so.";

static const char *const asked[2][2] = {
    {"copy", "Repeat the following text word for word, and then once more.\n\n"},
    {"prose", "Write a long story about a village by a river that forgets its own name."},
};

typedef struct turn {
    pthread_t thread;
    ponder_session *s;
    uint64_t tokens, drafted, accepted, decode_us;
    int32_t ids[MOST_IDS];
    size_t n;
} turn;

static void check(ponder_status st, const char *text_)
{
    if (st >= 0) return;
    fprintf(stderr, "%s: %s\n", ponder_status_name(st), text_);
    exit(1);
}

static int32_t on_event(void *user, const ponder_event *e)
{
    turn *t = user;
    if (e->kind != PONDER_EVENT_DONE) return 0;
    t->tokens = e->output_tokens;
    t->drafted = e->drafted;
    t->accepted = e->accepted;
    t->decode_us = e->decode_us;
    return 0;
}

static void *run(void *arg)
{
    turn *t = arg;
    check(ponder_session_generate(t->s, on_event, t), ponder_session_error(t->s));
    check(ponder_session_tokens(t->s, t->ids, MOST_IDS, &t->n), "ids");
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All sessions' turns; tokens a second from the prompt's end on. */
static double measure(ponder_model *m, ponder_config *c, int what, turn *t, int sessions)
{
    char prompt[2048];
    uint64_t tokens = 0;
    snprintf(prompt, sizeof prompt, "%s%s", asked[what][1], what == 0 ? text : "");
    for (int i = 0; i < sessions; i++) {
        ponder_config_set_i64(c, PONDER_P_SEED, i);
        check(ponder_session_new(&t[i].s, m, c), ponder_config_error(c));
        check(ponder_session_add(t[i].s, "user", prompt, strlen(prompt)), "message");
        check(ponder_session_prefill(t[i].s, UINT64_MAX), "prompt");
    }
    const double began = now();
    for (int i = 0; i < sessions; i++) pthread_create(&t[i].thread, NULL, run, &t[i]);
    for (int i = 0; i < sessions; i++) pthread_join(t[i].thread, NULL);
    const double took = now() - began;
    for (int i = 0; i < sessions; i++) {
        tokens += t[i].tokens;
        ponder_session_free(t[i].s);
    }
    return (double)tokens / took;
}

static int by_value(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static void compare(ponder_model *m, ponder_config *c, int what, int sessions, int rounds, double temperature)
{
    static turn t[2][MOST_SESSIONS];
    double speed[2][MOST_ROUNDS];
    uint64_t drafted = 0, accepted = 0, tokens = 0, different = 0;
    ponder_config_set_f64(c, PONDER_P_TEMPERATURE, temperature);
    for (int r = -1; r < rounds; r++) /* the first warms up */
        for (int way = 0; way < 2; way++) {
            ponder_config_set_str(c, PONDER_P_DRAFT, way ? "lookup" : "");
            speed[way][r < 0 ? 0 : r] = measure(m, c, what, t[way], sessions);
        }
    for (int i = 0; i < sessions; i++) {
        drafted += t[1][i].drafted;
        accepted += t[1][i].accepted;
        tokens += t[1][i].tokens;
        different += t[0][i].n != t[1][i].n || memcmp(t[0][i].ids, t[1][i].ids, t[0][i].n * sizeof(int32_t)) != 0;
    }
    for (int way = 0; way < 2; way++) qsort(speed[way], (size_t)rounds, sizeof(double), by_value);
    printf("%-5s %2d sessions, temperature %.1f: off %7.1f best %7.1f median; lookup %7.1f best %7.1f median: %.2fx; %llu tokens, "
           "%llu drafted, %llu accepted%s\n", asked[what][0], sessions, temperature, speed[0][rounds - 1], speed[0][rounds / 2], speed[1][rounds - 1],
           speed[1][rounds / 2], speed[1][rounds / 2] / speed[0][rounds / 2], (unsigned long long)tokens, (unsigned long long)drafted,
           (unsigned long long)accepted, different ? "; IDS DIFFER" : "");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    ponder_config *c;
    ponder_model *m;
    const int sessions = argc > 2 ? atoi(argv[2]) : 1, rounds = argc > 3 ? atoi(argv[3]) : 5;
    if (argc < 2 || sessions < 1 || sessions > MOST_SESSIONS || rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: %s MODEL [sessions] [rounds] [threads]\n", argv[0]);
        return 2;
    }
    check(ponder_config_new(&c, NULL), "config");
    ponder_config_set_i64(c, PONDER_P_CONTEXT, 1024);
    ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, TOKENS);
    ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1);
    if (argc > 4) ponder_config_set_i64(c, PONDER_P_THREADS, atoi(argv[4]));
    check(ponder_model_open(&m, argv[1], c), ponder_config_error(c));
    for (int what = 0; what < 2; what++)
        for (int k = 0; k < 2; k++) compare(m, c, what, sessions, rounds, k ? 0.8 : 0);
    ponder_model_free(m);
    ponder_config_free(c);
    return 0;
}
