/* How far step(max_us) goes over: wall time and the thread's own processor time, p50, p99 and most of many calls, one thread,
 * sampling included. On a busy machine the first also counts what others took.
 *
 *     bench-slices MODEL [calls 10000] */

#include "bench.h"
#include "session/session.h"

static ponder_session *session(ponder_model *m, uint32_t seed)
{
    ponder_config *c;
    ponder_session *s;
    int32_t ids[200];
    must(ponder_config_new(&c, NULL), "config");
    must(ponder_config_set_i64(c, PONDER_P_CONTEXT, 2048), "context");
    must(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1), "ignore_eos");
    must(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 500), "max_tokens");
    must(ponder_config_set_i64(c, PONDER_P_SEED, seed), "seed");
    must(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1), "temperature");
    must(ponder_config_set_i64(c, PONDER_P_TOP_K, 0), "top_k");
    must(ponder_config_set_f64(c, PONDER_P_TOP_P, 0.95), "top_p");
    must(ponder_config_set_i64(c, PONDER_P_LOGPROBS, 5), "logprobs");
    must(ponder_session_new(&s, m, c), "session");
    ponder_config_free(c);
    const uint32_t vocab = m->core->network->d.vocab;
    for (uint32_t i = 0; i < PN_COUNT(ids); i++) ids[i] = (int32_t)((i * 7919u + seed * 104729u) % (vocab - 10) + 10);
    must(ponder_session_prompt_ids(s, ids, PN_COUNT(ids)), "prompt");
    return s;
}

static void run(ponder_model *m, uint64_t max_us, uint32_t calls)
{
    double *wall = malloc(calls * sizeof *wall), *cpu = malloc(calls * sizeof *cpu);
    uint32_t tokens = 0, seed = 1;
    ponder_session *s = session(m, seed);
    for (uint32_t i = 0; i < calls; i++) {
        ponder_event event = {.size = sizeof event};
        double from = 1e6 * thread_seconds();
        uint64_t began = pn_now_us();
        ponder_status st = ponder_session_step(s, max_us, &event);
        wall[i] = (double)(pn_now_us() - began) - (double)max_us;
        cpu[i] = 1e6 * thread_seconds() - from - (double)max_us;
        must(st, "step");
        tokens += st == PONDER_OK && event.kind != PONDER_EVENT_DONE;
        if (st == PONDER_OK && event.kind == PONDER_EVENT_DONE) {
            ponder_session_free(s);
            s = session(m, ++seed);
        }
    }
    ponder_session_free(s);
    qsort(wall, calls, sizeof *wall, ascending);
    qsort(cpu, calls, sizeof *cpu, ascending);
    printf("max_us %5llu: %u calls, %5u events; over by, us: wall p50 %6.0f p99 %6.0f most %6.0f; cpu p50 %6.0f p99 %6.0f p99.9 %6.0f most %6.0f\n",
           (unsigned long long)max_us, calls, tokens, wall[calls / 2], wall[calls * 99 / 100], wall[calls - 1], cpu[calls / 2], cpu[calls * 99 / 100],
           cpu[(size_t)calls * 999 / 1000], cpu[calls - 1]);
    free(wall);
    free(cpu);
}

int main(int argc, char **argv)
{
    static const uint64_t times[] = {100, 200, 1000, 2000};
    if (argc < 2) return 2;
    uint32_t calls = argc > 2 ? (uint32_t)atoi(argv[2]) : 10000;
    ponder_config *c;
    ponder_model *m;
    must(ponder_config_new(&c, NULL), "config");
    must(ponder_config_set_i64(c, PONDER_P_THREADS, 1), "threads");
    if (ponder_model_open(&m, argv[1], c) != PONDER_OK) fprintf(stderr, "%s\n", ponder_config_error(c)), exit(1);
    ponder_config_free(c);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < PN_COUNT(times); i++) run(m, times[i], calls);
    ponder_model_free(m);
    return 0;
}
