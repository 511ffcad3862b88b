/* What may cost quality, and how much: weights quantised while loading, smaller key-value types. Bounds come from the
 * formats' steps; each must cost something too, or it was not done. */
#include "rig.h"

/* Standard deviation of all logits. */
static double spread(const float *x, size_t n)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        square += (double)x[i] * x[i];
    }
    sum /= (double)n;
    return sqrt(square / (double)n - sum * sum);
}

/* ---- quantised while loading ------------------------------------------------------------------------------------ */

/* Every matrix has the type asked for where its rows are whole blocks, Q8_0 otherwise; the router stays as it was. */
static void check_types(pn_network *n, pn_type want)
{
    pn_weight *list[16], *ends[] = {&n->embed, &n->head};
    for (size_t i = 0; i < 2; i++)
        if (ends[i]->batch) assert_int_equal(ends[i]->first.type, ends[i]->first.k % pn_type_block(want) ? PN_Q8_0 : want);
    for (uint32_t l = 0; l < n->d.layers; l++)
        for (pn_weight **w = weights_of(n, l, list); *w; w++) {
            if (!(*w)->batch) continue;
            if (*w == &n->layers[l].router) assert_true(pn_type_is_float((*w)->first.type));
            else assert_int_equal((*w)->first.type, (*w)->first.k % pn_type_block(want) ? PN_Q8_0 : want);
        }
}

/* Each stored value of a network is what quantising the original and reading it back gives. */
static void check_values(arena *a, const pn_weight *w, const pn_weight *original)
{
    a->at = 0;
    const size_t k = w->first.k, rows = (size_t)w->first.rows * w->batch;
    size_t bytes;
    assert_true(pn_row_bytes(w->first.type, k, &bytes));
    float *want = weight_floats(a, original), *got = weight_floats(a, w);
    void *row = take(a, bytes);
    for (size_t i = 0; i < rows && w->first.type != original->first.type; i++) {
        pn_quantize_row(w->first.type, want + i * k, row, k);
        pn_dequantize_row(w->first.type, row, want + i * k, k);
    }
    assert_memory_equal(got, want, rows * k * sizeof *got);
}

/* A product's relative error: the step of the weights' format over sqrt(12), over their size (amax is 2.2 to 2.5 times
 * that in 32 normal values), and the activations' 0.6 % beside it. Q8_0: step amax / 127: 0.6 %. Q4_0: step amax / 8: 9 %.
 * Q4_K: step (max - min) / 15, its scales in 6 bits: 8 %. */
static double product_error(pn_type t) { return pn_type_is_float(t) ? 0.006 : t == PN_Q8_0 ? 0.0085 : 0.09; }

/* Four products in a row a layer, and the head; errors add as squares; KL is half the variance that the softmax sees.
 * Attention and norms pass errors on at more than one to one: a factor of 2 in size, 4 in KL. Where that expects the
 * logits to move by more than 1 (four bits through random deep models) it says nothing: there the values above must do. */
static void check_loss(const char *what, const float *got, const float *want, const reference *r, const pn_network *n, double error)
{
    double sd = spread(want, r->logits.n) * error * sqrt(4.0 * n->d.layers + 1), most = 4 * sd * sd / 2;
    double kl = mean_kl(got, want, r->n, n->d.vocab);
    print_message("%-18s %-30s KL %.1e of %.1e%s\n", r->name, what, kl, most, sd > 1 ? " (no bound)" : "");
    if (!(kl > 0 && (kl <= most || sd > 1))) fail_msg("%s, %s: KL %g, bound %g", r->name, what, kl, most);
}

/* Which experts are chosen jumps with the smallest change near a tie, and then there is no bound: choose by bias alone. */
static void pin_experts(pn_network *n)
{
    for (uint32_t l = 0; l < n->d.layers; l++)
        for (uint32_t e = 0; n->layers[l].router_bias && e < n->d.experts; e++) n->layers[l].router_bias[e] = (float)((e * 5 + l) % n->d.experts * 10);
}

static void check_matrices(pn_network *n, pn_network *original)
{
    arena a = {0};
    pn_weight *list[16], *of[16];
    check_values(&a, &n->embed, &original->embed);
    if (n->head.batch) check_values(&a, &n->head, &original->head);
    for (uint32_t l = 0; l < n->d.layers; l++) {
        weights_of(n, l, list);
        weights_of(original, l, of);
        for (size_t i = 0; list[i]; i++)
            if (list[i]->batch) check_values(&a, list[i], of[i]);
    }
    arena_free(&a);
}

static void quantised(const char *model, const char *file_, pn_type ask, pn_type get)
{
    reference r;
    variant v;
    arena a = {0};
    snprintf(v.name, sizeof v.name, "%s", model);
    snprintf(v.file, sizeof v.file, "%s", file_);
    reference_read(&r, model);
    pn_network *n = load(open_variant(&v), true, (int32_t)ask), *raw = load(open_variant(&v), false, (int32_t)ask), *f = load_variant(&v);
    check_types(n, ask);
    assert_int_equal(n->store.main_type, get);
    check_matrices(n, f);
    float *got = all_logits(n, PN_KV_F32, 7, r.ids, r.n), *also = all_logits(raw, PN_KV_F32, 7, r.ids, r.n);
    same_bits(also, got, r.logits.n, n->d.vocab, model, "quantised, repack off");
    free(got);
    free(also);
    pin_experts(n);
    pin_experts(f);
    got = all_logits(n, PN_KV_F32, 7, r.ids, r.n);
    float *want = all_logits(f, PN_KV_F32, 7, r.ids, r.n);
    check_loss(pn_type_name(ask), got, want, &r, n, product_error(get));
    dequantize_network(&a, n); /* the floats they mean, in F32 arithmetic: the activations' rounding alone lies between */
    float *exact = all_logits(n, PN_KV_F32, 7, r.ids, r.n);
    check_loss("its activations alone", got, exact, &r, n, product_error(PN_F32));
    arena_free(&a);
    free(got);
    free(want);
    free(exact);
    pn_network_free(n);
    pn_network_free(raw);
    pn_network_free(f);
    reference_free(&r);
}

static void quantised_while_loading(void **state)
{
    (void)state;
    quantised("llama-k256", "", PN_Q8_0, PN_Q8_0);
    quantised("llama-k256", "", PN_Q4_0, PN_Q4_0);
    quantised("llama-k256", "", PN_Q4_K, PN_Q4_K);
    quantised("muse-glimmer", "", PN_Q8_0, PN_Q8_0);
    quantised("muse-glimmer", "", PN_Q4_0, PN_Q4_0);
    quantised("muse-glimmer", "", PN_Q4_K, PN_Q8_0); /* 96 and 64 wide */
    quantised("muse-glimmer", "model.gguf", PN_Q4_0, PN_Q4_0);
    quantised("muse-spark-sparse", "", PN_Q8_0, PN_Q8_0);
    quantised("muse-spark-sparse", "", PN_Q4_0, PN_Q4_0);
}

/* ---- key-value types ------------------------------------------------------------------------------------------------ */

/* Keys and values are rounded, relative to their size: F16 by 2^-11 at most, 2.1e-4 on the average (root of squares); Q8_0
 * by the 0.6 % of an 8-bit group, as above; Q4 by 8 % (16 levels at their best for normal values in groups of 32). Values pass it on as it is; keys change the scores by as much of the scores'
 * spread, some 3, and the weights with them: sqrt(1 + 9) in all, for each layer, as squares. The worst logit of thousands
 * is some four deviations off, and up to three times that where attention is sharp or keys have outliers (seed0 is trained). */
static void kv_types(void **state)
{
    (void)state;
    static const double relative[PN_KV_TYPES] = {0, 2.1e-4, 0.006, 0.08};
    static const char *const names[PN_KV_TYPES] = {"F32", "F16", "Q8_0", "Q4"};
    static variant all[MAX_MODELS];
    uint32_t n_all = find_variants(all);
    for (uint32_t i = 0; i < n_all; i++) {
        reference r;
        if (all[i].file[0]) continue;
        reference_read(&r, all[i].name);
        pn_network *n = load_variant(&all[i]);
        for (pn_kv_type kv = PN_KV_F16; kv < PN_KV_TYPES; kv++) {
            float *got = all_logits(n, kv, 7, r.ids, r.n);
            double sd = spread(r.logits.v, r.logits.n) * relative[kv] * sqrt(10.0 * n->d.layers);
            double off = max_error(got, r.logits.v, r.logits.n), kl = mean_kl(got, r.logits.v, r.n, n->d.vocab);
            print_message("%-18s KV %-4s: max %.1e of %.1e, KL %.1e of %.1e\n", r.name, names[kv], off, 12 * sd, kl, sd * sd / 2);
            if (!(off > r.tolerance && off <= 12 * sd && kl <= sd * sd / 2)) fail_msg("%s, KV type %d: off by %g, KL %g", r.name, (int)kv, off, kl);
            free(got);
        }
        pn_network_free(n);
        reference_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantised_while_loading), cmocka_unit_test(kv_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
