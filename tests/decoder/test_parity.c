/* Parity with transformers: logits at every position, the residual stream, greedy continuations, for every stored
 * checkpoint in each of its containers and configs. */
#include "rig.h"

static void check_logits(const variant *v, const pn_network *n, const reference *r)
{
    assert_int_equal(r->logits.dim[1], n->d.vocab);
    float *got = all_logits(n, PN_KV_F32, 7, r->ids, r->n);
    double e = max_error(got, r->logits.v, r->logits.n);
    print_message("%-20s %-18s logits %.1e of %.0e", v->name, v->file, e, r->tolerance);
    if (!(e <= r->tolerance)) fail_msg("%s/%s: logits are off by %g, tolerance %g", v->name, v->file, e, r->tolerance);
    free(got);
}

/* The stream's values are not the logits' size: the tolerance is taken relative to the largest of the layer, and never
 * below what it is for logits (both are sums of the same number of float products). */
static void check_hidden(const variant *v, const pn_network *n, const reference *r)
{
    ponder_error err = {.size = sizeof err};
    const size_t values = (size_t)r->n * n->d.width;
    float *got = calloc(values, sizeof *got);
    pn_engine *e = engine_over(n, PN_KV_F32, 7);
    assert_int_equal(r->hidden.dim[2], n->d.width);
    for (uint32_t i = 0; i < r->n_hidden; i++) {
        pn_sequence *s = sequence_of(e, r->ids, r->n);
        OK(pn_sequence_compute(s, &(pn_outputs){.hidden = got, .layer = r->hidden_layer[i]}, &err), err);
        const float *want = r->hidden.v + i * values;
        double off = max_error(got, want, values), most = r->tolerance * fmax(1, max_magnitude(want, values) / 10);
        print_message(", layer %u %.1e", r->hidden_layer[i], off);
        if (!(off <= most)) fail_msg("%s/%s: layer %u is off by %g, tolerance %g", v->name, v->file, r->hidden_layer[i], off, most);
        pn_sequence_free(s);
    }
    print_message("\n");
    pn_engine_free(e);
    free(got);
}

/* Generated one token a step, and read off one pass over the whole: the reference's tokens, and bit for bit the same logits. */
static void check_greedy(const variant *v, const pn_network *n, const reference *r)
{
    ponder_error err = {.size = sizeof err};
    const uint32_t vocab = n->d.vocab;
    float *pass = all_logits(n, PN_KV_F32, 7, r->greedy, r->n_greedy);
    pn_engine *e = engine_over(n, PN_KV_F32, 7);
    pn_sequence *s = sequence_of(e, r->greedy, r->n_prompt);
    for (uint32_t i = r->n_prompt; i < r->n_greedy; i++) {
        OK(pn_sequence_advance(s, 0, &err), err);
        const float *step = pn_sequence_logits(s);
        int32_t id = (int32_t)arg_max(step, vocab);
        if (id != r->greedy[i]) fail_msg("%s/%s: greedy token %u is %d, not %d", v->name, v->file, i, id, r->greedy[i]);
        assert_int_equal(arg_max(pass + (size_t)(i - 1) * vocab, vocab), id);
        same_bits(step, pass + (size_t)(i - 1) * vocab, vocab, vocab, v->name, "token by token and in one pass");
        OK(pn_sequence_append(s, &id, 1, &err), err);
    }
    pn_sequence_free(s);
    pn_engine_free(e);
    free(pass);
}

static void parity(void **state)
{
    (void)state;
    static variant v[MAX_MODELS];
    uint32_t n = find_variants(v);
    for (uint32_t i = 0; i < n; i++) {
        reference r;
        arena a = {0};
        reference_read(&r, v[i].name);
        pn_network *net = load_variant(&v[i]);
        if (is_mixed(&v[i])) dequantize_network(&a, net);
        check_logits(&v[i], net, &r);
        check_hidden(&v[i], net, &r);
        check_greedy(&v[i], net, &r);
        pn_network_free(net);
        arena_free(&a);
        reference_free(&r);
    }
}

/* The production kernels over block formats round activations to 8 bits, 32 values to a scale: an error of
 * (amax / 127) / sqrt(12), about 0.6 % of a column's size, amax being some 2.2 to 2.5 times that. Two layers of four such
 * products and the head: 0.6 % * sqrt(9) = 2 % of the logits' spread (4 here), 0.08; KL is half the variance, 0.003. The
 * bounds leave a factor of 3 in KL and 8 standard deviations for the worst of 6,400 logits, because attention and norms
 * pass errors on at more than one to one. */
static void rounded_activations(void **state)
{
    (void)state;
    static const char *const models[] = {"llama-mixed", "muse-glimmer-mixed"};
    for (size_t i = 0; i < PN_COUNT(models); i++) {
        reference r;
        reference_read(&r, models[i]);
        pn_network *n = load_named(models[i], "model.gguf");
        const uint32_t vocab = n->d.vocab;
        float *got = all_logits(n, PN_KV_F32, 7, r.ids, r.n);
        double kl = mean_kl(got, r.logits.v, r.n, vocab), off = max_error(got, r.logits.v, r.logits.n);
        uint32_t agree = 0;
        for (uint32_t p = 0; p < r.n; p++) agree += arg_max(got + (size_t)p * vocab, vocab) == arg_max(r.logits.v + (size_t)p * vocab, vocab);
        print_message("%-20s native: KL %.1e, max %.2g, top %u/%u\n", models[i], kl, off, agree, r.n);
        assert_true(kl > 0 && kl < 0.01 && off < 0.64);
        assert_true(agree * 10 >= r.n * 9); /* four to six of the 40 winners lead by less than 0.3 */
        pn_network_free(n);
        reference_free(&r);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parity), cmocka_unit_test(rounded_activations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
