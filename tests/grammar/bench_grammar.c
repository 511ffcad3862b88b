/* Cost of masks over walks that follow real texts, token by token as the tokenizer cuts them.
 *     bench_grammar VOCABULARY CASES.jsonl
 * A case is a line as grammar_tool takes it; its texts are walked. Cold: caches empty for every text; warm: the text again.
 * Times are the thread's own: what else the machine does is not in them; each is the best of five walks, because a neighbour on
 * the same core is. */
#include "support.h"

#include <jansson.h>
#include <math.h>
#include <time.h>

typedef struct series { double *us; size_t n, cap; } series;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void put(series *s, double us)
{
    if (s->n == s->cap) s->us = realloc(s->us, (s->cap = s->cap ? 2 * s->cap : 1024) * sizeof *s->us);
    if (!s->us) exit(2);
    s->us[s->n++] = us;
}

static int ascending(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

static void show(const char *what, series *s)
{
    double sum = 0;
    if (s->n == 0) return;
    qsort(s->us, s->n, sizeof *s->us, ascending);
    for (size_t i = 0; i < s->n; i++) sum += s->us[i];
    printf("  %-18s n %6zu  mean %8.1f  p50 %8.1f  p90 %8.1f  p99 %8.1f  max %9.1f us\n", what, s->n, sum / (double)s->n, s->us[s->n / 2], s->us[s->n * 9 / 10],
           s->us[s->n * 99 / 100], s->us[s->n - 1]);
}

enum { WALKS = 5 };

/* The best of several walks, each token for itself. */
static void put_best(series *to, const series *walks)
{
    for (size_t i = 0; i < walks[0].n; i++) {
        double best = walks[0].us[i];
        for (int k = 1; k < WALKS; k++) best = fmin(best, walks[k].us[i]);
        put(to, best);
    }
}

static void walk(pn_matcher *m, const vocabulary *v, const char *p, size_t n, series *mask, series *accept)
{
    uint32_t *words = malloc((v->n + 31) / 32 * sizeof *words);
    int32_t *ids = NULL;
    size_t n_ids = 0, cap = 0;
    ponder_error err = {.size = sizeof err};
    if (!words || pn_tokenize(v->tokenizer, p, n, 0, NULL, &ids, &n_ids, &cap, NULL)) exit(2);
    pn_matcher_reset(m);
    for (size_t i = 0; i < n_ids; i++) {
        const double a = now_us();
        if (pn_matcher_mask(m, words, &err)) exit(2);
        const double b = now_us();
        if (pn_matcher_accept(m, ids[i], &err)) {
            fprintf(stderr, "not accepted at token %zu of: %.*s\n", i, (int)n, p);
            break;
        }
        put(mask, b - a);
        put(accept, now_us() - b);
    }
    free(words);
    free(ids);
}

static pn_str str_of(const json_t *v) { return (pn_str){json_string_value(v) ? json_string_value(v) : "", json_string_length(v)}; }

static ponder_status compile(pn_grammar **g, const json_t *in, ponder_error *err)
{
    const char *kind = json_string_value(json_object_get(in, "kind"));
    const pn_str text = str_of(json_object_get(in, "text"));
    json_t *tool = json_array_get(json_object_get(in, "tools"), 0);
    const pn_tool_schema t = {str_of(json_object_get(tool, "name")), str_of(json_object_get(tool, "parameters"))};
    if (strcmp(kind, "regex") == 0) return pn_grammar_regex(g, text.p, text.n, NULL, err);
    if (strcmp(kind, "muse") == 0) return pn_grammar_call_muse(g, &t, 1, 0, NULL, err);
    return pn_grammar_schema(g, text.p, text.n, 0, NULL, err);
}

int main(int argc, char **argv)
{
    vocabulary v;
    char *line = NULL;
    size_t cap = 0;
    series all_cold = {0}, all_warm = {0}, all_accept = {0};
    if (argc < 3 || !vocabulary_read(&v, argv[1])) return 2;
    pn_vocab_trie_free(v.trie);
    const double t0 = now_us();
    if (pn_vocab_trie_new(&v.trie, v.n, token_bytes, &v, NULL, NULL)) return 2;
    printf("trie: %u tokens, %.1f ms, %.2f MB\n", (unsigned)v.n, (now_us() - t0) / 1e3, (double)pn_vocab_trie_bytes(v.trie) / 1e6);
    FILE *f = fopen(argv[2], "rb");
    if (!f) return 2;
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
        json_t *in = json_loadb(line, (size_t)n, 0, NULL), *text;
        pn_grammar *g;
        pn_matcher *m;
        size_t i;
        ponder_error err = {.size = sizeof err};
        series cold = {0}, warm = {0}, accept = {0};
        const double c0 = now_us();
        if (compile(&g, in, &err)) {
            printf("%s: %s\n", json_string_value(json_object_get(in, "name")), err.text);
            continue;
        }
        const double c1 = now_us();
        pn_matcher_stats st = {0};
        json_array_foreach(json_object_get(in, "texts"), i, text)
        {
            series colds[WALKS] = {0}, warms[WALKS] = {0}, accepts[WALKS] = {0};
            for (int k = 0; k < WALKS; k++) {
                if (pn_matcher_new(&m, g, v.trie, 16, PN_MATCHER_CACHE, NULL, &err)) return 2;
                walk(m, &v, json_string_value(text), json_string_length(text), &colds[k], &accepts[k]);
                walk(m, &v, json_string_value(text), json_string_length(text), &warms[k], &accepts[k]);
                pn_matcher_get_stats(m, &st);
                pn_matcher_free(m);
            }
            put_best(&cold, colds);
            put_best(&warm, warms);
            put_best(&accept, accepts);
            for (int k = 0; k < WALKS; k++) {
                free(colds[k].us);
                free(warms[k].us);
                free(accepts[k].us);
            }
        }
        printf("%s: compile %.0f us; last matcher: %zu states, %.0f KB\n", json_string_value(json_object_get(in, "name")), c1 - c0, (size_t)st.states, (double)st.bytes / 1024);
        for (size_t k = 0; k < cold.n; k++) put(&all_cold, cold.us[k]);
        for (size_t k = 0; k < warm.n; k++) put(&all_warm, warm.us[k]);
        for (size_t k = 0; k < accept.n; k++) put(&all_accept, accept.us[k]);
        show("mask, cold cache", &cold);
        show("mask, warm", &warm);
        pn_grammar_free(g);
        json_decref(in);
    }
    printf("all:\n");
    show("mask, cold cache", &all_cold);
    show("mask, warm", &all_warm);
    show("accept", &all_accept);
    return 0;
}
