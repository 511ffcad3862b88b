/* Time of one decoded token against the context, for each key-value store: what a curve is drawn from. The pages are filled with random
 * keys and values instead of a prompt's, so that 32,768 positions cost no minutes of prefill; a model's own limit does not count.
 * One thread, best of the rounds. Prints one JSON object a line; of attention also the part that sliding layers take.
 *   build/gcc/tests/decoder/bench-contexts MODEL [contexts,.. = 256,1024,4096,16384,32768] [stores,.. = f16,q8_0,q4] [rounds = 5] */
#include <string.h>

#include "bench.h"
#include "decoder/program.h"

static const struct { const char *name; pn_kv_type type; } stores[] = {{"f32", PN_KV_F32}, {"f16", PN_KV_F16}, {"q8_0", PN_KV_Q8_0}, {"q4", PN_KV_Q4}};

static float random_value(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (float)(int32_t)*s * 0x1p-31f;
}

/* A block of some values, to be copied into every head of every page: what they are takes no time. */
static void make_block(const pn_kernels *k, const pn_kv_layout *kv, uint32_t hd, uint8_t *block)
{
    uint32_t seed = 1;
    float *key = calloc(2 * (size_t)hd, sizeof *key), *value = key + hd;
    for (uint32_t j = 0; j < PN_KEYS; j++) {
        for (uint32_t d = 0; d < 2 * hd; d++) key[d] = random_value(&seed);
        k->kv_put(kv->type, block, block + kv->key_bytes, j, hd, key, value);
    }
    free(key);
}

typedef struct rig {
    const pn_network *n;
    pn_kernels k;
    pn_kv_layout kv;
    pn_program *p;
    uint8_t **pages[PN_GROUPS];
    uint8_t *memory[PN_GROUPS];
    float *logits;
} rig;

/* As many pages as an engine would keep: a sliding layer's those of its window. */
static void fill(rig *r, uint32_t context)
{
    const uint32_t n_pages = context / PN_KEYS + 1;
    const pn_description *d = &r->n->d;
    uint8_t *block = aligned_alloc(64, r->kv.head_bytes);
    make_block(&r->k, &r->kv, d->head_dim, block);
    for (int g = 0; g < PN_GROUPS; g++) {
        const uint32_t first = g == PN_SLIDING && context >= d->window ? (context + 1 - d->window) / PN_KEYS : 0;
        const size_t bytes = r->kv.page_bytes[g];
        r->pages[g] = calloc(n_pages + 16, sizeof *r->pages[g]);
        if (!bytes) continue;
        r->memory[g] = aligned_alloc(64, bytes * (n_pages - first));
        if (!r->memory[g]) fail("no memory");
        for (uint32_t i = first; i < n_pages; i++) {
            r->pages[g][i] = r->memory[g] + (i - first) * bytes;
            for (size_t at = 0; at < bytes; at += r->kv.head_bytes) memcpy(r->pages[g][i] + at, block, r->kv.head_bytes);
        }
    }
    free(block);
}

static void empty(rig *r)
{
    for (int g = 0; g < PN_GROUPS; g++) {
        free(r->pages[g]);
        free(r->memory[g]);
        r->memory[g] = NULL;
    }
}

typedef struct times {
    double token, attention[PN_GROUPS];
} times;

static times one_token(rig *r, uint32_t context)
{
    const int32_t id = 5;
    pn_run run = {.ids = &id, .pos = context, .n = 1, .n_out = 1, .logits = r->logits};
    for (int g = 0; g < PN_GROUPS; g++) run.pages[g] = r->pages[g];
    times took = {.token = wall_seconds()};
    pn_program_begin(r->p, &run, 1);
    pn_work w = pn_program_work(r->p);
    for (uint32_t op = 0; op < w.n_ops; op = w.next(w.self, op)) {
        const pn_op o = r->p->ops[op];
        const double t0 = wall_seconds();
        const uint32_t tiles = w.enter(w.self, op);
        for (uint32_t t = 0; t < tiles; t++) w.tile(w.self, op, t, 0);
        if (o.kind == PN_OP_ATTEND || o.kind == PN_OP_JOIN) took.attention[r->n->layers[o.layer].group] += wall_seconds() - t0;
    }
    took.token = wall_seconds() - took.token;
    return took;
}

static bool listed(const char *list, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || !at[n])) return true;
    return false;
}

int main(int argc, char **argv)
{
    ponder_error err = {.size = sizeof err};
    rig r = {0};
    pn_checkpoint *c;
    pn_network *n;
    if (argc < 2) fail("see its first lines");
    const char *contexts = argc > 2 ? argv[2] : "256,1024,4096,16384,32768", *which = argc > 3 ? argv[3] : "f16,q8_0,q4";
    const int rounds = argc > 4 ? atoi(argv[4]) : 5;
    if (pn_checkpoint_open(&c, argv[1], NULL, &err) != PONDER_OK) fail(err.text);
    if (pn_network_load(&n, c, &(pn_load_options){.repack = true, .quantize = -1}, NULL, &err) != PONDER_OK) fail(err.text);
    r.n = n;
    r.logits = calloc(n->d.vocab, sizeof(float));
    pn_kernels_init(&r.k, pn_cpu_flags());
    for (size_t s = 0; s < PN_COUNT(stores); s++) {
        if (!listed(which, stores[s].name)) continue;
        pn_kv_layout_init(&r.kv, &n->d, stores[s].type);
        if (pn_program_new(&r.p, n, &r.k, &r.kv, &(pn_limits){64, 1, 1, 1}, NULL, &err) != PONDER_OK) fail(err.text);
        for (const char *at = contexts; *at; at += strcspn(at, ","), at += *at == ',') {
            const uint32_t context = (uint32_t)PN_MAX(atoi(at), 1);
            times best = {.token = 1e9};
            fill(&r, context);
            for (int i = 0; i < rounds; i++) {
                const times took = one_token(&r, context);
                if (took.token < best.token) best = took;
            }
            empty(&r);
            printf("{\"model\":\"%s\",\"store\":\"%s\",\"context\":%u,\"ms\":%.3f,\"attention_ms\":%.3f,\"sliding_ms\":%.3f,"
                   "\"sliding_layers\":%u,\"layers\":%u,\"kv_bytes_token\":%zu,\"kv_bytes_window\":%zu}\n",
                   strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1], stores[s].name, context, 1e3 * best.token,
                   1e3 * (best.attention[PN_FULL] + best.attention[PN_SLIDING]), 1e3 * best.attention[PN_SLIDING],
                   n->group_layers[PN_SLIDING], n->d.layers,
                   r.kv.page_bytes[PN_FULL] / PN_KEYS, r.kv.page_bytes[PN_SLIDING] / PN_KEYS * PN_MIN(context, n->d.window));
            fflush(stdout);
        }
        pn_program_free(r.p);
    }
    return 0;
}
