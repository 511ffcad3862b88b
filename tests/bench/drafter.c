/* What a drafter costs when none of its guesses comes: a step without it, beside it (what it reads of each token is worked out), asked
 * while it pays, and asked whatever it costs; and a pass alone. bench-drafter MODEL DRAFTER [sequences] [tokens] [rounds] [threads]: the four
 * take turns. Tokens are random ids, so a drafter with random weights is as good as any. */
#include "bench.h"
#include "engine/internal.h"

enum { MOST = 64, MOST_ROUNDS = 64, WAYS = 4, PROMPT = 64 };

static const char *const names[WAYS] = {"without a drafter", "beside it", "asked while it pays", "asked always"};

static void check(ponder_status st, const ponder_error *err)
{
    if (st < 0) fail(err->text);
}

static pn_checkpoint *open_file(const char *path)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    check(pn_checkpoint_open(&c, path, NULL, &err), &err);
    return c;
}

static pn_engine *new_engine(const pn_network *n, uint32_t threads)
{
    ponder_error err = {.size = sizeof err};
    const pn_engine_options o = {.threads = threads, .cpu = 7, .columns = 64, .chunk = 64, .sequences = MOST, .kv = PN_KV_F16};
    pn_engine *e;
    pn_team *t;
    check(pn_team_new(&t, threads, NULL, NULL, &err), &err);
    check(pn_engine_new(&e, n, &o, t, NULL, &err), &err);
    return e;
}

static uint64_t seed = 88172645463325252u;

static int32_t some_id(const pn_engine *e)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (int32_t)((seed >> 11) % e->n->d.vocab);
}

typedef struct group {
    pn_engine *e;
    pn_sequence *s[MOST];
    double ms[MOST_ROUNDS];   /* a step */
} group;

static void start(group *g, pn_engine *e, uint32_t n, uint32_t tokens, bool ask)
{
    ponder_error err = {.size = sizeof err};
    g->e = e;
    for (uint32_t i = 0; i < n; i++) {
        check(pn_sequence_new(&g->s[i], e, PROMPT + tokens + 1, &err), &err);
        pn_sequence_draft(g->s[i], ask ? 15 : 0);
        pn_sequence_ask_drafter(g->s[i], ask);
        for (uint32_t k = 0; k < PROMPT; k++) {
            const int32_t id = some_id(e);
            check(pn_sequence_append(g->s[i], &id, 1, &err), &err);
        }
        check(pn_sequence_advance(g->s[i], 0, &err), &err);
    }
}

static void steps(group *g, uint32_t n, uint32_t tokens, uint32_t round)
{
    static const _Atomic bool no;
    ponder_error err = {.size = sizeof err};
    const double began = wall_seconds();
    for (uint32_t t = 0; t < tokens; t++) {
        pn_sequence *left[MOST];
        uint32_t n_left = 0;
        for (uint32_t i = 0; i < n; i++) {
            const int32_t id = some_id(g->e);
            check(pn_sequence_append(g->s[i], &id, 1, &err), &err);
            if (pn_sequence_advance(g->s[i], PN_POLL, &err) == PONDER_MORE) left[n_left++] = g->s[i]; /* else a guess came by chance */
        }
        check(pn_engine_advance_any(g->e, left, n_left, 0, &no, &err), &err);
        for (uint32_t i = 0; i < n; i++) check(pn_sequence_advance(g->s[i], 0, &err), &err);
    }
    g->ms[round] = (wall_seconds() - began) * 1000 / tokens;
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    const uint32_t n = argc > 3 ? (uint32_t)atoi(argv[3]) : 1, tokens = argc > 4 ? (uint32_t)atoi(argv[4]) : 200;
    const uint32_t rounds = argc > 5 ? (uint32_t)atoi(argv[5]) : 5, threads = argc > 6 ? (uint32_t)atoi(argv[6]) : 2;
    if (argc < 3 || n < 1 || n > MOST || tokens < 1 || rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: %s MODEL DRAFTER [sequences] [tokens] [rounds] [threads]\n", argv[0]);
        return 2;
    }
    pn_network *net;
    pn_team *team;
    check(pn_team_new(&team, threads, NULL, NULL, &err), &err);
    const pn_load_options o = {.repack = true, .quantize = -1, .team = team};
    check(pn_network_load(&net, open_file(argv[1]), &o, NULL, &err), &err);
    check(pn_network_load_drafter(net, open_file(argv[2]), &o, &err), &err);
    pn_team_free(team);
    pn_network plain = *net;
    plain.drafter = NULL;
    static group g[WAYS];
    for (int w = 0; w < WAYS; w++) start(&g[w], new_engine(w ? net : &plain, threads), n, tokens * rounds, w > 1);
    pn_engine_always_draft(g[3].e);
    for (uint32_t r = 0; r < rounds; r++)
        for (int w = 0; w < WAYS; w++) steps(&g[w], n, tokens, r);
    for (int w = 0; w < WAYS; w++) {
        pn_engine_counts c;
        pn_engine_read_counts(g[w].e, &c);
        const double first = g[w].ms[0];
        qsort(g[w].ms, rounds, sizeof *g[w].ms, ascending);
        printf("%-20s ms a step: best %8.3f median %8.3f (%.3fx) first round %8.3f; %u passes of %.3f ms a sequence, %u drafts, %u came\n", names[w],
               g[w].ms[0], g[w].ms[rounds / 2], g[w].ms[rounds / 2] / g[0].ms[rounds / 2], first, (unsigned)c.passes, (double)g[w].e->pass_us / 1000,
               (unsigned)c.drafted, (unsigned)c.accepted);
    }
    for (int w = 0; w < WAYS; w++) {
        for (uint32_t i = 0; i < n; i++) pn_sequence_free(g[w].s[i]);
        pn_engine_free(g[w].e);
    }
    pn_network_free(net);
    return 0;
}
