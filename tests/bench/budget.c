/* What a thought's budget costs a step, and how far a limit in milliseconds is passed.
 *
 *     bench-budget MODEL [tokens 400] [rounds 6]
 *
 * SmolLM2 and its like mark no thoughts: the host's markers hold one open for the whole run. Sessions with budgets that never bind write the
 * same text as one without, in turns of a few tokens, one thread; so a token's processor time can be compared pairwise. */

#include "bench.h"
#include "session/session.h"

enum { TURN = 4, WAYS = 5, MOST = 1 << 14, TEXT = 1 << 16 };

static void set(ponder_config *c, ponder_param id, int64_t v) { must(ponder_config_set_i64(c, id, v), "a parameter"); }

static ponder_session *session(ponder_model *m, void (*more)(ponder_config *c), int64_t seed)
{
    ponder_config *c;
    ponder_session *s;
    must(ponder_config_new(&c, NULL), "config");
    set(c, PONDER_P_CONTEXT, 2048);
    set(c, PONDER_P_IGNORE_EOS, 1);
    set(c, PONDER_P_SEED, seed);
    set(c, PONDER_P_THINK_START, 1);
    must(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 0.7), "temperature");
    must(ponder_config_set_str(c, PONDER_P_THINK_OPEN, "<think>"), "think_open");
    must(ponder_config_set_str(c, PONDER_P_THINK_CLOSE, "</think>"), "think_close");
    more(c);
    if (ponder_session_new(&s, m, c) != PONDER_OK) fprintf(stderr, "%s\n", ponder_config_error(c)), exit(1);
    ponder_config_free(c);
    static const char question[] = "Tell me everything about the history of lighthouses.";
    must(ponder_session_add(s, "user", question, sizeof question - 1), "add");
    must(ponder_session_prefill(s, UINT64_MAX), "prefill");
    return s;
}

/* ---- the cost of a step ------------------------------------------------------------------------------ */

static void nothing(ponder_config *c) { (void)c; }
static void cap(ponder_config *c) { set(c, PONDER_P_THINK_TOKENS, 100000); }
static void time_too(ponder_config *c)
{
    cap(c);
    set(c, PONDER_P_THINK_MS, 3600000);
    set(c, PONDER_P_TURN_MS, 7200000);
    set(c, PONDER_P_ANSWER_TOKENS, 64);
}
static void soft(ponder_config *c) /* in the soft region from the first token on: the closing marker's rank is looked up each time */
{
    cap(c);
    set(c, PONDER_P_THINK_SOFT, 100000);
    set(c, PONDER_P_THINK_GRACE, 0);
    set(c, PONDER_P_THINK_RANK, 1);
}

static const struct {
    const char *name;
    void (*more)(ponder_config *c);
} ways[WAYS] = {{"no budget", nothing}, {"no budget, again", nothing}, {"think_tokens", cap}, {"tokens, both times, a reserve", time_too}, {"always in the soft region", soft}};

typedef struct text {
    char p[TEXT];
    size_t n;
} text;

static double take(ponder_session *s, uint32_t tokens, text *to)
{
    const uint64_t aim = s->output_tokens + tokens;
    const double from = 1e6 * thread_seconds();
    while (s->output_tokens < aim) {
        ponder_event event = {.size = sizeof event};
        must(ponder_session_step(s, UINT64_MAX, &event), "step");
        if (event.kind == PONDER_EVENT_DONE) exit(1);
        for (size_t i = 0; i < event.text_bytes && to->n < TEXT; i++) to->p[to->n++] = event.text[i];
    }
    return (1e6 * thread_seconds() - from) / tokens;
}

static void costs(ponder_model *m, uint32_t tokens, uint32_t rounds)
{
    static double us[WAYS][MOST], more[WAYS][MOST];
    static text said[WAYS];
    uint32_t n = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        ponder_session *s[WAYS];
        for (uint32_t w = 0; w < WAYS; w++) {
            s[w] = session(m, ways[w].more, r);
            said[w].n = 0;
            take(s[w], TURN, &said[w]);
        }
        for (uint32_t done = TURN; done < tokens && n < MOST; done += TURN, n++)
            for (uint32_t w = 0; w < WAYS; w++) {
                const uint32_t at = (w + n) % WAYS; /* nobody is always behind the same */
                us[at][n] = take(s[at], TURN, &said[at]);
            }
        for (uint32_t w = 0; w < WAYS; w++) {
            ponder_thought t = {.size = sizeof t};
            must(ponder_session_thought(s[w], &t), "thought");
            const bool same = said[w].n == said[0].n && memcmp(said[w].p, said[0].p, said[0].n) == 0;
            if (!same || t.why != PONDER_THOUGHT_OPEN) printf("round %u, %s: %s\n", r, ways[w].name, same ? "the thought has ended" : "another text");
            ponder_session_free(s[w]);
        }
    }
    printf("processor time of a token, us, %u turns of %u tokens:\n%-32s %9s %9s %17s\n", n, TURN, "", "best", "median", "more (of pairs)");
    for (uint32_t w = 0; w < WAYS; w++)
        for (uint32_t i = 0; i < n; i++) more[w][i] = us[w][i] / us[0][i] - 1;
    for (uint32_t w = 0; w < WAYS; w++) {
        qsort(us[w], n, sizeof **us, ascending);
        qsort(more[w], n, sizeof **more, ascending);
        printf("%-32s %9.1f %9.1f %15.2f %%\n", ways[w].name, us[w][0], us[w][n / 2], 100 * more[w][n / 2]);
    }
}

/* ---- milliseconds ---------------------------------------------------------------------------------------- */

static int64_t limit_ms;
static void limited(ponder_config *c)
{
    set(c, PONDER_P_THINK_MS, limit_ms);
    set(c, PONDER_P_THINK_GRACE, 0);
    set(c, PONDER_P_THINK_SOFT, 0);
    must(ponder_config_set_str(c, PONDER_P_CLOCK, "wall"), "clock");
}

/* A step's time is the mean of this run's own. */
static void overshoot(ponder_model *m, uint32_t runs)
{
    static double over[MOST], step[MOST];
    uint32_t within = 0;
    for (uint32_t i = 0; i < runs; i++) {
        limit_ms = 60 + i % 97;
        ponder_session *s = session(m, limited, i);
        ponder_thought t = {.size = sizeof t};
        do {
            ponder_event event = {.size = sizeof event};
            must(ponder_session_step(s, UINT64_MAX, &event), "step");
            must(ponder_session_thought(s, &t), "thought");
        } while (t.why == PONDER_THOUGHT_OPEN || t.why == PONDER_THOUGHT_NONE);
        step[i] = (double)t.us * 1e-3 / (double)t.tokens;
        over[i] = (double)t.us * 1e-3 - (double)limit_ms;
        within += over[i] <= step[i];
        ponder_session_free(s);
    }
    qsort(over, runs, sizeof *over, ascending);
    qsort(step, runs, sizeof *step, ascending);
    printf("think_ms of 60 to 156, %u runs: over by p50 %.2f, p99 %.2f, most %.2f ms, least %.2f; a step takes %.2f ms (median); %u within one step\n", runs,
           over[runs / 2], over[runs * 99 / 100], over[runs - 1], over[0], step[runs / 2], within);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    const uint32_t tokens = argc > 2 ? (uint32_t)atoi(argv[2]) : 400, rounds = argc > 3 ? (uint32_t)atoi(argv[3]) : 6;
    ponder_config *c;
    ponder_model *m;
    must(ponder_config_new(&c, NULL), "config");
    set(c, PONDER_P_THREADS, 1);
    if (ponder_model_open(&m, argv[1], c) != PONDER_OK) fprintf(stderr, "%s\n", ponder_config_error(c)), exit(1);
    ponder_config_free(c);
    setvbuf(stdout, NULL, _IOLBF, 0);
    costs(m, tokens, rounds);
    overshoot(m, 200);
    ponder_model_free(m);
    return 0;
}
