/* Weights in memory: the shared loader fills them, walking the places that plan.c lists. */
#include "decoder/weights.h"

#include <math.h>

static pn_weight *weight_at(pn_network *n, const pn_place *p)
{
    if (p->role == PN_W_EMBED) return &n->embed;
    if (p->role == PN_W_HEAD) return &n->head;
    if (p->role == PN_W_CONTEXT) return &n->context;
    return (pn_weight *)(void *)((uint8_t *)&n->layers[p->layer] + p->weight);
}

static float **vector_at(pn_network *n, const pn_place *p)
{
    if (p->role == PN_W_NORM) return &n->norm;
    if (p->role == PN_W_CONTEXT_NORM) return &n->context_norm;
    return (float **)(void *)((uint8_t *)&n->layers[p->layer] + p->vector);
}

typedef struct filling {
    pn_network *n;
    pn_loader *l;
} filling;

/* The residual gate of muse-spark: alpha = sqrt(1 - beta^2), floored, from s = a / temperature. */
static void finish_gate(float *alpha, float *beta, size_t n, float temperature)
{
    for (size_t i = 0; i < n; i++) {
        double s = (double)(beta[i] / temperature), b = 1 / (1 + exp(-s)), other = 1 / (1 + exp(s));
        beta[i] = (float)b;
        alpha[i] = (float)sqrt(fmax(other * (1 + b), 1e-3));
    }
}

static ponder_status take(void *ctx, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    filling *f = ctx;
    pn_network *n = f->n;
    pn_treatment t;
    if (n->experts && pn_part_of(p->role) != PN_EXPERT_PARTS) {
        *weight_at(n, p) = pn_experts_weight(n->experts, p->layer, pn_part_of(p->role));
        return pn_load_apart(f->l, s, &t, err);
    }
    if (p->weight != SIZE_MAX) return pn_load_matrix(f->l, weight_at(n, p), s, pn_how_to_load(&n->d, p->role), &t, err);
    float **to = vector_at(n, p);
    ponder_status st = pn_load_vector(f->l, to, s, p->add, err);
    if (st != PONDER_OK || !pn_is_gate(p->role)) return st;
    const size_t count = (size_t)(s->rows * s->cols);
    float *alpha = pn_load_floats(f->l, count);
    if (!alpha) return PONDER_OK;
    *(p->role == PN_W_ATTN_RGATE ? &n->layers[p->layer].attn_alpha : &n->layers[p->layer].ffn_alpha) = alpha;
    finish_gate(alpha, *to, count, n->d.residual_temperature);
    return PONDER_OK;
}

/* ---- rotary frequencies -------------------------------------------------------------- */

static float scaled_llama3(const pn_description *d, float f)
{
    const float pi2 = 6.28318530717958647692f;
    float wavelength = pi2 / f, low = (float)d->rope_original / d->rope_low, high = (float)d->rope_original / d->rope_high;
    if (wavelength > low) return f / d->rope_factor;
    if (wavelength < high) return f;
    float smooth = ((float)d->rope_original / wavelength - d->rope_low) / (d->rope_high - d->rope_low);
    return (1 - smooth) * (f / d->rope_factor) + smooth * f;
}

/* llama3's factors as a GGUF stores them: a vector that divides each frequency. */
static ponder_status apply_factors(pn_network *n, pn_loader *l, const pn_slice *s, size_t half, ponder_error *err)
{
    float *factors = (float *)pn_zalloc_array(n->a, half, sizeof(float));
    if (!factors) return pn_nomem(err, half * sizeof(float));
    ponder_status st = pn_load_read(l, factors, s, err);
    for (size_t i = 0; i < half && st == PONDER_OK && !l->counting; i++) {
        if (!(factors[i] > 0)) st = pn_fail(err, PONDER_E_FORMAT, "tensor %s holds a factor that is not positive", s->tensor->name);
        n->freq[0][i] /= factors[i];
    }
    pn_free(n->a, factors, half * sizeof(float));
    return st;
}

static ponder_status take_frequencies(pn_network *n, pn_loader *l, ponder_error *err)
{
    const pn_description *d = &n->d;
    size_t half = d->rot_dim / 2;
    float *freq = pn_load_floats(l, 2 * half);
    if (freq) {
        n->freq[0] = freq;
        n->freq[1] = freq + half;
        pn_rope_frequencies(n->freq[0], d->rot_dim, d->theta);
        pn_rope_frequencies(n->freq[1], d->rot_dim, d->theta_local);
        for (size_t i = 0; i < half; i++) {
            if (d->rope_scaling == 1) freq[i] /= d->rope_factor;
            if (d->rope_scaling == 2) freq[i] = scaled_llama3(d, freq[i]);
        }
    }
    pn_slice s;
    bool found = false;
    ponder_status st = pn_find_weight(l->c, d, PN_W_ROPE_FACTORS, 0, &s, &found, err);
    if (st != PONDER_OK || !found) return st;
    if (s.rows * s.cols != half) return pn_fail(err, PONDER_E_FORMAT, "tensor %s has not %zu values", s.tensor->name, half);
    return apply_factors(n, l, &s, half, err);
}

/* ---- the whole ------------------------------------------------------------------------ */

static ponder_status walk(void *ctx, pn_loader *l, ponder_error *err)
{
    filling f = {ctx, l};
    ponder_status st = pn_for_each_weight(l->c, &f.n->d, take, &f, err);
    return st == PONDER_OK ? take_frequencies(f.n, l, err) : st;
}

static uint32_t group_of(const pn_description *d, uint32_t layer)
{
    return d->block ? PN_DRAFTER : d->layer[layer].sliding && d->window ? PN_SLIDING : PN_FULL;
}

static void number_layers(pn_network *n)
{
    for (uint32_t i = 0; i < n->d.layers; i++) {
        pn_layer *l = &n->layers[i];
        l->group = group_of(&n->d, i);
        l->index = n->group_layers[l->group]++;
    }
}

static ponder_status load(pn_network *n, const pn_network *target, pn_checkpoint *c, const pn_load_options *o, ponder_error *err)
{
    ponder_status st = target ? pn_describe_drafter(c, &target->d, &n->d, err) : pn_describe(c, &n->d, err);
    if (st == PONDER_OK && target) st = pn_checkpoint_hash(c, &n->hash, err);
    if (st != PONDER_OK) return st;
    n->layers = pn_zalloc_array(n->a, n->d.layers, sizeof *n->layers);
    if (!n->layers) return pn_nomem(err, n->d.layers * sizeof *n->layers);
    number_layers(n);
    st = pn_experts_new(&n->experts, c, &n->d, o, n->a, err);
    return st != PONDER_OK ? st : pn_load(&n->store, c, o, walk, n, n->a, err);
}

static ponder_status new_network(pn_network **out, const pn_network *target, pn_checkpoint *c, const pn_load_options *o, const ponder_alloc *a,
                                 ponder_error *err)
{
    *out = NULL;
    pn_network *n = pn_zalloc(a, sizeof *n);
    ponder_status st = n ? PONDER_OK : pn_nomem(err, sizeof *n);
    if (n) {
        n->a = n->store.a = a;
        st = load(n, target, c, o, err);
    }
    pn_checkpoint_free(c); /* raw pages hold a reference of their own */
    if (st == PONDER_OK) *out = n;
    else pn_network_free(n);
    return st;
}

ponder_status pn_network_load(pn_network **out, pn_checkpoint *c, const pn_load_options *o, const ponder_alloc *a, ponder_error *err)
{
    return new_network(out, NULL, c, o, a, err);
}

ponder_status pn_network_load_drafter(pn_network *n, pn_checkpoint *c, const pn_load_options *o, ponder_error *err)
{
    ponder_status st = new_network(&n->drafter, n, c, o, n->a, err);
    if (st != PONDER_OK) return st;
    n->drafter->embed = n->embed;
    n->drafter->head = *pn_network_head(n);
    return PONDER_OK;
}

void pn_network_free(pn_network *n)
{
    if (!n) return;
    pn_network_free(n->drafter);
    pn_experts_free(n->experts);
    pn_store_free(&n->store);
    pn_free(n->a, n->layers, n->d.layers * sizeof *n->layers);
    pn_free(n->a, n, sizeof *n);
}

void pn_kv_layout_init(pn_kv_layout *l, const pn_description *d, pn_kv_type type)
{
    *l = (pn_kv_layout){.type = type, .window = {[PN_SLIDING] = d->window}};
    l->key_bytes = pn_kv_key_bytes(type, d->head_dim);
    l->head_bytes = l->key_bytes + pn_kv_value_bytes(type, d->head_dim);
    l->layer_bytes = l->head_bytes * d->kv_heads;
    for (uint32_t i = 0; i < d->layers; i++) l->page_bytes[group_of(d, i)] += l->layer_bytes;
}

void pn_kv_layout_add_drafter(pn_kv_layout *l, const pn_description *drafter)
{
    pn_kv_layout own;
    pn_kv_layout_init(&own, drafter, l->type);
    l->page_bytes[PN_DRAFTER] = own.page_bytes[PN_DRAFTER];
    l->window[PN_DRAFTER] = drafter->window + 1;
    l->block = drafter->block;
}
