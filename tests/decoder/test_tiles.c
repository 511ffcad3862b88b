/* How large a tile can become: every operation of layers as wide as those of the released models is entered, with weights that
 * have a shape but no bytes, and the work of its largest tile counted. A quarter of a millisecond of one core is about
 * 10 million multiply-adds of a product (two panels of the widest row by 16 columns), 1.3 MB of weights (one panel of it in
 * F32), or some 100,000 values of an operation by column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "decoder/program.h"

enum { MOST_MACS = 10 << 20, MOST_BYTES = 5 << 18, MOST_VALUES = 128 << 10 };

static pn_weight weight(pn_type type, uint32_t rows, size_t k)
{
    pn_weight w = {.batch = 1};
    w.first = (pn_matrix){.type = type, .rows = rows, .k = k};
    return w;
}

static pn_description wide(uint32_t vocab)
{
    pn_description d = {.layers = 2, .width = 6656, .heads = 32, .kv_heads = 2, .head_dim = 128, .rot_dim = 128, .ff = 19968, .vocab = vocab, .window = 2048};
    d.gate = true;
    return d;
}

static pn_layer layer(const pn_description *d, pn_type type, uint32_t group)
{
    const uint32_t q = d->heads * d->head_dim, kv = d->kv_heads * d->head_dim;
    return (pn_layer){.q = weight(type, q, d->width), .k = weight(type, kv, d->width), .v = weight(type, kv, d->width), .g = weight(type, q, d->width),
                      .o = weight(type, d->width, q), .gate = weight(type, d->ff, d->width), .up = weight(type, d->ff, d->width),
                      .down = weight(type, d->width, d->ff), .group = group};
}

typedef struct load {
    uint64_t macs, bytes, values;
} load;

static load products(const pn_program *p)
{
    load most = {0};
    for (uint32_t i = 0; i < p->cut.n_products; i++) {
        const pn_matrix *m = &p->cut.product[i].w->first;
        most.macs = PN_MAX(most.macs, (uint64_t)p->cut.panels * PN_PANEL * m->k * p->cut.columns);
        most.bytes = PN_MAX(most.bytes, p->cut.panels * pn_panel_bytes(m->type, m->k));
    }
    return most;
}

/* Queries of one tile over a whole span, keys and values. */
static load attend(const pn_program *p)
{
    const uint32_t group = p->d->heads / p->d->kv_heads, per = p->cut.columns;
    return (load){.macs = (uint64_t)per * group * SPAN_KEYS * p->d->head_dim * 2};
}

static load of_operation(const pn_program *p, uint32_t op)
{
    const pn_description *d = p->d;
    const uint64_t heads = (uint64_t)d->heads * d->head_dim;
    switch (p->ops[op].kind) {
    case PN_OP_QKV: case PN_OP_O: case PN_OP_GATE_UP: case PN_OP_DOWN: case PN_OP_HEAD: return products(p);
    case PN_OP_ATTEND: return attend(p);
    case PN_OP_HEADS: case PN_OP_ATTENDED: return (load){.values = p->cut.columns * 2 * heads};
    case PN_OP_JOIN: return (load){.values = (uint64_t)p->cut.columns * d->head_dim * p->spans_a_round};
    case PN_OP_ACTIVATE: return (load){.values = (uint64_t)p->cut.columns * d->ff};
    case PN_OP_LOGITS: return (load){.values = PN_MIN((uint64_t)p->cut.columns * d->vocab, (uint64_t)pn_logits_a_tile(p))};
    default: return (load){.values = (uint64_t)p->cut.columns * d->width * 3};
    }
}

static void check(pn_type type, uint32_t vocab, uint32_t columns, uint32_t n_out, uint32_t pos)
{
    static uint8_t *pages[4096];
    pn_network n = {.d = wide(vocab)};
    pn_layer layers[2] = {layer(&n.d, type, PN_FULL), layer(&n.d, type, PN_SLIDING)};
    n.layers = layers;
    n.embed = weight(type, vocab, n.d.width);
    n.head = weight(type, vocab, n.d.width);
    pn_kernels k;
    pn_kv_layout kv;
    pn_program *p;
    pn_limits limits = {.columns = 512, .outputs = 64, .runs = 16, .threads = 1};
    pn_kernels_init(&k, pn_cpu_flags());
    pn_kv_layout_init(&kv, &n.d, PN_KV_F16);
    assert_int_equal(pn_program_new(&p, &n, &k, &kv, &limits, NULL, NULL), PONDER_OK);
    float nothing;
    pn_run run = {.pos = pos, .n = columns, .n_out = n_out, .logits = &nothing, .pages = {pages, pages}};
    pn_program_begin(p, &run, 1);
    pn_work w = pn_program_work(p);
    uint32_t entered = 0;
    for (uint32_t op = 0; op < p->n_ops; op++) {
        if (w.enter(w.self, op) == 0) continue;
        load l = of_operation(p, op);
        entered++;
        if (l.macs > MOST_MACS || l.bytes > MOST_BYTES || l.values > MOST_VALUES)
            fail_msg("%s, %u columns at %u: a tile of operation %u does %llu multiply-adds, reads %llu bytes of weights, goes over %llu values", pn_type_name(type),
                     columns, pos, p->ops[op].kind, (unsigned long long)l.macs, (unsigned long long)l.bytes, (unsigned long long)l.values);
    }
    assert_true(entered >= p->n_ops - 3);
    pn_program_free(p);
}

static void tiles_are_small(void **state)
{
    (void)state;
    static const pn_type types[] = {PN_Q4_K, PN_Q8_0, PN_BF16, PN_F32};
    for (size_t i = 0; i < PN_COUNT(types); i++) {
        check(types[i], 202048, 1, 1, 0);
        check(types[i], 202048, 1, 1, 100000);
        check(types[i], 202048, 16, 16, 3000);
        check(types[i], 202048, 512, 1, 60000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiles_are_small)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
