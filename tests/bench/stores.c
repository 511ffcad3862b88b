/* What a key-value store costs in quality: mean KL(F32 store || other store) in nats over a text, the largest, how often the most
 * likely token is the same, and the store's bytes a token of context. The last row stores 4 bits without turning the heads first.
 * Weights, arithmetic and windows are the same in all rows. Token ids come from standard input, separated by anything.
 *   gcc -O3 -march=native -std=gnu11 -D_GNU_SOURCE -Iinclude -Ilib tests/bench/stores.c build/gcc/lib/libponder-core.a -o stores -lpng -ljpeg -lspeexdsp -lpcre2-8 -lm -pthread
 *   build/gcc/examples/ponder tokenize MODEL < TEXT | ./stores MODEL [tokens = 4096] [window = 512] [begin token of each window] */
#include <math.h>
#include <string.h>

#include "bench.h"
#include "decoder/program.h"

enum { CHUNK = 64, MOST_PAGES = 4096 };

static void as_it_is(float *x, uint32_t hd, bool back) { (void)x; (void)hd; (void)back; }

typedef struct store {
    const char *name;
    pn_kv_type type;
    bool unturned;
    pn_kv_layout kv;
    pn_program *p;
    uint8_t *pages[PN_GROUPS][MOST_PAGES];
    float *logits;
    double kl, most;
    size_t rows, same;
} store;

static void open_store(store *s, const pn_network *n, uint32_t window)
{
    ponder_error err = {.size = sizeof err};
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    if (s->unturned) k.turn = as_it_is;
    pn_kv_layout_init(&s->kv, &n->d, s->type);
    if (pn_program_new(&s->p, n, &k, &s->kv, &(pn_limits){CHUNK, CHUNK, 1, 1}, NULL, &err) != PONDER_OK) fail(err.text);
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; s->kv.page_bytes[g] && i <= window / PN_KEYS; i++) s->pages[g][i] = aligned_alloc(64, s->kv.page_bytes[g]);
    s->logits = calloc((size_t)CHUNK * n->d.vocab, sizeof(float));
}

static void compute(store *s, const int32_t *ids, uint32_t pos, uint32_t n)
{
    pn_run run = {.ids = ids, .pos = pos, .n = n, .n_out = n, .logits = s->logits};
    for (int g = 0; g < PN_GROUPS; g++) run.pages[g] = s->pages[g];
    pn_program_begin(s->p, &run, 1);
    pn_work w = pn_program_work(s->p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        uint32_t tiles = w.enter(w.self, op);
        for (uint32_t t = 0; t < tiles; t++) w.tile(w.self, op, t, 0);
    }
}

static size_t arg_max(const float *v, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static double log_sum(const float *v, size_t n, float top)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)(v[i] - top));
    return top + log(sum);
}

static void compare(store *s, const float *base, size_t vocab, uint32_t n, uint32_t skip)
{
    for (uint32_t r = skip; r < n; r++) {
        const float *a = base + r * vocab, *b = s->logits + r * vocab;
        const size_t top_a = arg_max(a, vocab), top_b = arg_max(b, vocab);
        const double norm_a = log_sum(a, vocab, a[top_a]), norm_b = log_sum(b, vocab, b[top_b]);
        double kl = 0;
        for (size_t i = 0; i < vocab; i++) kl += exp(a[i] - norm_a) * ((a[i] - norm_a) - (b[i] - norm_b));
        s->kl += kl;
        s->most = fmax(s->most, kl);
        s->same += top_a == top_b;
        s->rows++;
    }
}

static uint32_t read_ids(int32_t *ids, uint32_t most)
{
    uint32_t n = 0;
    for (int c; n < most && (c = getchar()) != EOF;)
        if (c >= '0' && c <= '9') {
            ungetc(c, stdin);
            if (scanf("%d", &ids[n]) == 1) n++;
        }
    return n;
}

int main(int argc, char **argv)
{
    static store all[] = {{.name = "F32", .type = PN_KV_F32}, {.name = "F16", .type = PN_KV_F16}, {.name = "Q8_0", .type = PN_KV_Q8_0},
                          {.name = "Q4", .type = PN_KV_Q4}, {.name = "Q4, not turned", .type = PN_KV_Q4, .unturned = true}};
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    pn_network *net;
    if (argc < 2) fail("see its first lines");
    const uint32_t want = argc > 2 ? (uint32_t)atoi(argv[2]) : 4096, window = argc > 3 ? (uint32_t)atoi(argv[3]) : 512;
    const uint32_t begins = argc > 4;
    int32_t *text = calloc(want + 1, sizeof *text), *ids = calloc(window + begins, sizeof *ids);
    const uint32_t tokens = read_ids(text, want);
    if (tokens < want || window > MOST_PAGES * PN_KEYS - PN_KEYS) fail("too few tokens, or too long a window");
    if (pn_checkpoint_open(&c, argv[1], NULL, &err) != PONDER_OK) fail(err.text);
    if (pn_network_load(&net, c, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err) != PONDER_OK) fail(err.text);
    for (size_t s = 0; s < PN_COUNT(all); s++) open_store(&all[s], net, window + begins);
    if (begins) ids[0] = atoi(argv[4]);
    for (uint32_t from = 0; from < tokens; from += window) {
        const uint32_t count = PN_MIN(window, tokens - from) + begins;
        memcpy(ids + begins, text + from, (count - begins) * sizeof *ids);
        for (uint32_t at = 0, n; at < count; at += n) {
            n = PN_MIN(count - at, (uint32_t)CHUNK);
            for (size_t s = 0; s < PN_COUNT(all); s++) {
                compute(&all[s], ids + at, at, n);
                if (s) compare(&all[s], all[0].logits, net->d.vocab, n, at == 0 ? begins : 0);
            }
        }
    }
    printf("%s: %u tokens in windows of %u, against the F32 store\n  %-16s%14s%14s%12s%12s\n", argv[1], tokens, window, "", "bytes/token",
           "mean KL", "largest", "same top");
    for (size_t s = 0; s < PN_COUNT(all); s++) {
        const double bytes = (double)(all[s].kv.page_bytes[PN_FULL] + all[s].kv.page_bytes[PN_SLIDING]) / PN_KEYS;
        printf("  %-16s%14.0f", all[s].name, bytes);
        if (s) printf("%14.7f%12.4f%10.2f %%", all[s].kl / all[s].rows, all[s].most, 100.0 * all[s].same / all[s].rows);
        printf("\n");
    }
    return 0;
}
