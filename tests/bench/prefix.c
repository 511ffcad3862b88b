/* Key-value bytes of N sessions that share a prefix, beside prefix + suffixes at what the model says a token takes in its full layers.
 *
 *     bench-prefix MODEL [prefix 4096] [suffix 500] */

#include "bench.h"
#include "session/session.h"

enum { MOST = 32, MOST_IDS = 1 << 16 };

static void write_ids(ponder_session *s, uint32_t n, uint32_t seed)
{
    static int32_t ids[MOST_IDS];
    const uint32_t vocab = s->model->core->network->d.vocab;
    for (uint32_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 7919u + seed * 104729u) % (vocab - 10) + 10);
    must(ponder_session_prompt_ids(s, ids, n), "prompt");
    must(ponder_session_prefill(s, UINT64_MAX), "prefill");
}

static uint64_t kv_bytes(ponder_model *m)
{
    int64_t n;
    must(ponder_model_info_i64(m, PONDER_INFO_KV_BYTES, &n), "info");
    return (uint64_t)n;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    const uint32_t prefix = argc > 2 ? (uint32_t)atoi(argv[2]) : 4096, suffix = argc > 3 ? (uint32_t)atoi(argv[3]) : 500;
    if (prefix == 0 || suffix == 0 || prefix > MOST_IDS || suffix > MOST_IDS) return 2;
    ponder_config *c;
    ponder_model *m;
    ponder_session *s, *fork[MOST];
    ponder_plan plan = {.size = sizeof plan};
    must(ponder_config_new(&c, NULL), "config");
    must(ponder_config_set_i64(c, PONDER_P_CONTEXT, prefix + suffix + 1), "context");
    must(ponder_model_plan(&plan, argv[1], c), "plan");
    if (ponder_model_open(&m, argv[1], c) != PONDER_OK) fprintf(stderr, "%s\n", ponder_config_error(c)), exit(1);
    must(ponder_session_new(&s, m, c), "session");
    write_ids(s, prefix, 1);
    const uint64_t alone = kv_bytes(m);
    printf("a prefix of %u tokens: %.2f MB, %.3f of %llu bytes a token\n", prefix, (double)alone / 1e6,
           (double)alone / (double)(plan.kv_bytes_token * prefix), (unsigned long long)plan.kv_bytes_token);
    for (uint32_t n = 0; n++ < MOST;) {
        must(ponder_session_fork(&fork[n - 1], s, c), "fork");
        write_ids(fork[n - 1], suffix, n + 1);
        if (n & (n - 1)) continue;
        const uint64_t want = plan.kv_bytes_token * (prefix + (uint64_t)n * suffix), got = kv_bytes(m);
        printf("%2u sessions with %u tokens of their own: %.2f MB, %.4f of prefix + suffixes, %.3f of as many copies\n", n, suffix, (double)got / 1e6,
               (double)got / (double)want, (double)got / (double)(plan.kv_bytes_token * n * (uint64_t)(prefix + suffix)));
    }
    for (uint32_t i = 0; i < MOST; i++) ponder_session_free(fork[i]);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
    return 0;
}
