/* Loading: weights of a checkpoint into one block of repacked panels and one block of vectors. */
#include "decoder/weights.h"

#include <math.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, PART_BYTES = 1 << 20 };

typedef struct loader {
    pn_network *n;
    pn_checkpoint *c;
    const pn_load_options *o;
    bool counting;            /* first walk: sizes only */
    bool raw;                 /* some weights stay where the file is mapped */
    size_t packed_at;
    uint64_t done, total;
    uint64_t by_type[64];     /* weights of each element type */
    uint8_t *rows;            /* for each thread: rows of the file, floats of a row, converted rows */
    size_t rows_bytes;        /* for each thread */
    ponder_error *err;
} loader;

static pn_weight *weight_at(pn_network *n, const pn_place *p)
{
    if (p->role == PN_W_EMBED) return &n->embed;
    if (p->role == PN_W_HEAD) return &n->head;
    return (pn_weight *)(void *)((uint8_t *)&n->layers[p->layer] + p->weight);
}

static float **vector_at(pn_network *n, const pn_place *p)
{
    if (p->role == PN_W_NORM) return &n->norm;
    return (float **)(void *)((uint8_t *)&n->layers[p->layer] + p->vector);
}

static bool report(loader *l, uint64_t bytes)
{
    l->done += bytes;
    return !l->o->progress || l->o->progress(l->o->progress_user, PN_MIN(l->done, l->total), l->total) == 0;
}

/* ---- matrices --------------------------------------------------------------------- */

typedef struct packing {
    loader *l;
    const pn_slice *s;
    pn_treatment t;
    uint8_t *to;
    uint32_t panels, panels_a_part;
    uint64_t expert;
    _Atomic int32_t status;
} packing;

/* Rows of the file: in place where it is mapped, else read into this thread's buffer. */
static const uint8_t *fetch_rows(packing *k, uint64_t at, size_t bytes, uint8_t *buffer, ponder_status *st)
{
    const uint8_t *view = pn_checkpoint_view(k->l->c, k->s->tensor);
    if (view) return view + at;
    *st = pn_checkpoint_read(k->l->c, k->s->tensor, at, buffer, bytes, k->l->err);
    return buffer;
}

static ponder_status pack_one(packing *k, uint32_t panel, uint8_t *buffer)
{
    const pn_slice *s = k->s;
    uint32_t n_rows = (uint32_t)PN_MIN(s->rows - (uint64_t)panel * PN_PANEL, (uint64_t)PN_PANEL);
    uint64_t at = s->from + k->expert * s->batch_stride + (uint64_t)panel * PN_PANEL * s->row_stride;
    ponder_status st = PONDER_OK;
    const uint8_t *rows = fetch_rows(k, at, (size_t)(n_rows * s->row_stride), buffer, &st);
    if (st != PONDER_OK) return st;
    size_t stride = (size_t)s->row_stride;
    if (k->t.convert) {
        float *values = (float *)(void *)(buffer + PN_PANEL * s->row_stride);
        uint8_t *converted = (uint8_t *)(values + s->cols);
        size_t bytes = 0;
        pn_row_bytes(k->t.type, s->cols, &bytes);
        for (uint32_t r = 0; r < n_rows; r++) {
            pn_dequantize_row(s->tensor->type, rows + r * stride, values, (size_t)s->cols);
            pn_quantize_row(k->t.type, values, converted + r * bytes, (size_t)s->cols);
        }
        rows = converted;
        stride = bytes;
    }
    pn_pack_panel(k->t.type, rows, stride, n_rows, (size_t)s->cols, k->to + panel * k->t.panel_bytes);
    return PONDER_OK;
}

static void pack_part(void *ctx, uint32_t thread, uint32_t part)
{
    packing *k = ctx;
    uint32_t from = part * k->panels_a_part, to = PN_MIN(from + k->panels_a_part, k->panels);
    for (uint32_t p = from; p < to; p++) {
        if (atomic_load_explicit(&k->status, memory_order_relaxed) != PONDER_OK) return;
        ponder_status st = pack_one(k, p, k->l->rows + thread * k->l->rows_bytes);
        if (st != PONDER_OK) atomic_store(&k->status, st);
    }
    uint64_t first = k->s->from + k->expert * k->s->batch_stride + (uint64_t)from * PN_PANEL * k->s->row_stride;
    pn_checkpoint_drop(k->l->c, k->s->tensor, first, (uint64_t)(to - from) * PN_PANEL * k->s->row_stride);
}

static ponder_status pack_matrix(loader *l, const pn_slice *s, const pn_treatment *t, uint8_t *to, ponder_error *err)
{
    packing k = {.l = l, .s = s, .t = *t, .panels = (uint32_t)((s->rows + PN_PANEL - 1) / PN_PANEL)};
    uint64_t source = PN_MAX((uint64_t)PN_PANEL * s->row_stride, (uint64_t)1);
    k.panels_a_part = (uint32_t)PN_MAX(PART_BYTES / source, (uint64_t)1);
    uint32_t parts = (k.panels + k.panels_a_part - 1) / k.panels_a_part;
    for (k.expert = 0; k.expert < s->batch; k.expert++) {
        k.to = to + k.expert * t->stride;
        /* A callback source is read on the opening thread alone. */
        if (l->o->team && pn_checkpoint_view(l->c, s->tensor)) {
            pn_team_run(l->o->team, pack_part, &k, parts);
        } else {
            for (uint32_t i = 0; i < parts; i++) pack_part(&k, 0, i);
        }
        ponder_status st = atomic_load(&k.status);
        if (st != PONDER_OK) return st;
        if (!report(l, s->rows * s->row_stride)) return pn_fail(err, PONDER_E_CANCELLED, "loading was cancelled");
    }
    return PONDER_OK;
}

static ponder_status take_matrix(loader *l, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    pn_treatment t;
    ponder_status st = pn_treat(&t, l->c, s, p->role, l->o, err);
    if (st != PONDER_OK) return st;
    if (l->counting) {
        l->packed_at += t.bytes;
        l->total += s->rows * s->row_stride * s->batch;
        size_t need = (size_t)(PN_PANEL * s->row_stride + s->cols * sizeof(float)) + 64;
        size_t row = 0;
        if (pn_row_bytes(t.type, s->cols, &row)) need += PN_PANEL * row;
        l->rows_bytes = PN_MAX(l->rows_bytes, need);
        l->n->parameters += s->rows * s->cols * s->batch;
        if (t.type < PN_COUNT(l->by_type)) l->by_type[t.type] += s->rows * s->cols * s->batch;
        return PONDER_OK;
    }
    pn_weight *w = weight_at(l->n, p);
    w->first = (pn_matrix){.type = t.type, .rows = (uint32_t)s->rows, .k = (size_t)s->cols};
    w->batch = (uint32_t)s->batch;
    if (!t.packed) {
        l->raw = true;
        w->first.raw = pn_checkpoint_view(l->c, s->tensor) + s->from;
        w->first.row_stride = (size_t)s->row_stride;
        w->raw_stride = (size_t)s->batch_stride;
        return report(l, s->rows * s->row_stride * s->batch) ? PONDER_OK : pn_fail(err, PONDER_E_CANCELLED, "loading was cancelled");
    }
    uint8_t *to = l->n->packed + l->packed_at;
    l->packed_at += t.bytes;
    w->first.packed = to;
    w->packed_stride = t.stride;
    return pack_matrix(l, s, &t, to, err);
}

/* ---- vectors ---------------------------------------------------------------------- */

static ponder_status read_floats(loader *l, const pn_slice *s, uint64_t row, float *to, ponder_error *err)
{
    uint64_t at = s->from + row * s->row_stride;
    const uint8_t *view = pn_checkpoint_view(l->c, s->tensor);
    const uint8_t *from = view ? view + at : l->rows;
    if (!view) {
        ponder_status st = pn_checkpoint_read(l->c, s->tensor, at, l->rows, (size_t)s->row_stride, err);
        if (st != PONDER_OK) return st;
    }
    pn_dequantize_row(s->tensor->type, from, to, (size_t)s->cols);
    return PONDER_OK;
}

/* The residual gate of muse-spark: alpha = sqrt(1 - beta^2), floored, from s = a / temperature. */
static void finish_gate(float *alpha, float *beta, size_t n, float temperature)
{
    for (size_t i = 0; i < n; i++) {
        double s = (double)(beta[i] / temperature), b = 1 / (1 + exp(-s)), other = 1 / (1 + exp(s));
        beta[i] = (float)b;
        alpha[i] = (float)sqrt(fmax(other * (1 + b), 1e-3));
    }
}

static ponder_status take_vector(loader *l, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    pn_network *n = l->n;
    size_t count = (size_t)(s->rows * s->cols);
    bool gate = p->role == PN_W_ATTN_RGATE || p->role == PN_W_FFN_RGATE;
    float *to = n->vectors + n->vectors_n;
    n->vectors_n += count * (gate ? 2 : 1);
    if (l->counting) {
        l->rows_bytes = PN_MAX(l->rows_bytes, (size_t)s->row_stride);
        n->parameters += count;
        return PONDER_OK;
    }
    for (uint64_t r = 0; r < s->rows; r++) {
        ponder_status st = read_floats(l, s, r, to + r * s->cols, err);
        if (st != PONDER_OK) return st;
    }
    for (size_t i = 0; i < count; i++) to[i] += p->add;
    *vector_at(n, p) = to;
    if (gate) {
        float **alpha = p->role == PN_W_ATTN_RGATE ? &n->layers[p->layer].attn_alpha : &n->layers[p->layer].ffn_alpha;
        *alpha = to + count;
        finish_gate(*alpha, to, count, n->d.residual_temperature);
    }
    return PONDER_OK;
}

static ponder_status take(void *ctx, const pn_place *p, const pn_slice *s, ponder_error *err)
{
    return p->weight == SIZE_MAX ? take_vector(ctx, p, s, err) : take_matrix(ctx, p, s, err);
}

/* ---- rotary frequencies -------------------------------------------------------------- */

/* In float, as the reference computes them. */
static void frequencies(float *to, uint32_t n_rot, float theta)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        float exponent = (float)(2 * i) / (float)n_rot;
        to[i] = 1.0f / (float)pow((double)theta, (double)exponent);
    }
}

static float scaled_llama3(const pn_description *d, float f)
{
    const float pi2 = 6.28318530717958647692f;
    float wavelength = pi2 / f, low = (float)d->rope_original / d->rope_low, high = (float)d->rope_original / d->rope_high;
    if (wavelength > low) return f / d->rope_factor;
    if (wavelength < high) return f;
    float smooth = ((float)d->rope_original / wavelength - d->rope_low) / (d->rope_high - d->rope_low);
    return (1 - smooth) * (f / d->rope_factor) + smooth * f;
}

static ponder_status take_frequencies(loader *l, ponder_error *err)
{
    pn_network *n = l->n;
    const pn_description *d = &n->d;
    size_t half = d->rot_dim / 2;
    n->freq[0] = n->vectors + n->vectors_n;
    n->freq[1] = n->freq[0] + half;
    n->vectors_n += 2 * half;
    if (l->counting) return PONDER_OK;
    frequencies(n->freq[0], d->rot_dim, d->theta);
    frequencies(n->freq[1], d->rot_dim, d->theta_local);
    for (size_t i = 0; i < half; i++) {
        if (d->rope_scaling == 1) n->freq[0][i] /= d->rope_factor;
        if (d->rope_scaling == 2) n->freq[0][i] = scaled_llama3(d, n->freq[0][i]);
    }
    pn_slice s;
    bool found = false;
    ponder_status st = pn_find_weight(l->c, d, PN_W_ROPE_FACTORS, 0, &s, &found, err);
    if (st != PONDER_OK || !found) return st;
    if (s.rows * s.cols != half) return pn_fail(err, PONDER_E_FORMAT, "tensor %s has not %zu values", s.tensor->name, half);
    float *factors = (float *)pn_zalloc_array(n->a, half, sizeof(float));
    if (!factors) return pn_nomem(err, half * sizeof(float));
    st = read_floats(l, &s, 0, factors, err);
    for (size_t i = 0; i < half && st == PONDER_OK; i++) {
        if (!(factors[i] > 0)) st = pn_fail(err, PONDER_E_FORMAT, "tensor %s holds a factor that is not positive", s.tensor->name);
        n->freq[0][i] /= factors[i];
    }
    pn_free(n->a, factors, half * sizeof(float));
    return st;
}

/* ---- the whole ------------------------------------------------------------------------ */

static ponder_status walk(loader *l, ponder_error *err)
{
    ponder_status st = pn_for_each_weight(l->c, &l->n->d, take, l, err);
    return st == PONDER_OK ? take_frequencies(l, err) : st;
}

static ponder_status allocate(loader *l, ponder_error *err)
{
    pn_network *n = l->n;
    n->packed_bytes = l->packed_at;
    size_t vector_bytes, threads = l->o->team ? pn_team_size(l->o->team) : 1;
    if (!pn_mul(n->vectors_n, sizeof(float), &vector_bytes)) return pn_fail(err, PONDER_E_FORMAT, "too many weights");
    n->vectors = pn_zalloc(n->a, vector_bytes);
    if (!n->vectors) return pn_nomem(err, vector_bytes);
    if (n->packed_bytes) {
        bool big = n->packed_bytes >= 2 * (size_t)HUGE_PAGE;
        n->packed = pn_alloc_aligned(n->a, n->packed_bytes, big ? HUGE_PAGE : 64);
        if (!n->packed) return pn_nomem(err, n->packed_bytes);
        /* Weights are streamed once a step: large pages spare most of the address translation. A hint only. */
        if (big) madvise(n->packed, n->packed_bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    }
    l->rows_bytes = (l->rows_bytes + 63) / 64 * 64;
    l->rows = pn_alloc_aligned(n->a, l->rows_bytes * threads, 64);
    return l->rows ? PONDER_OK : pn_nomem(err, l->rows_bytes * threads);
}

static void number_layers(pn_network *n)
{
    for (uint32_t i = 0; i < n->d.layers; i++) {
        pn_layer *l = &n->layers[i];
        l->group = n->d.layer[i].sliding && n->d.window ? PN_SLIDING : PN_FULL;
        l->index = n->group_layers[l->group]++;
    }
}

static void find_main_type(loader *l)
{
    size_t best = PN_F32;
    for (size_t t = 0; t < PN_COUNT(l->by_type); t++)
        if (l->by_type[t] > l->by_type[best]) best = t;
    l->n->main_type = (pn_type)best;
}

ponder_status pn_network_load(pn_network **out, pn_checkpoint *c, const pn_load_options *o, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    loader l = {.c = c, .o = o, .counting = true, .err = err};
    pn_network *n = pn_zalloc(a, sizeof *n);
    if (!n) {
        pn_checkpoint_free(c);
        return pn_nomem(err, sizeof *n);
    }
    n->a = a;
    n->file = c;
    l.n = n;
    ponder_status st = pn_describe(c, &n->d, err);
    if (st != PONDER_OK) goto fail;
    st = PONDER_E_NOMEM;
    n->layers = pn_zalloc_array(a, n->d.layers, sizeof *n->layers);
    if (!n->layers) {
        pn_nomem(err, n->d.layers * sizeof *n->layers);
        goto fail;
    }
    number_layers(n);
    if ((st = walk(&l, err)) != PONDER_OK) goto fail;
    size_t threads = o->team ? pn_team_size(o->team) : 1;
    if ((st = allocate(&l, err)) != PONDER_OK) goto done;
    size_t counted = n->vectors_n;
    n->vectors_n = 0;
    l.packed_at = 0;
    l.counting = false;
    if (o->team) pn_team_begin(o->team);
    st = walk(&l, err);
    if (o->team) pn_team_end(o->team);
    n->vectors_n = counted;
    find_main_type(&l);
done:
    pn_free(a, l.rows, l.rows_bytes * threads);
    if (st != PONDER_OK) goto fail;
    if (!l.raw) {
        pn_checkpoint_free(n->file);
        n->file = NULL;
    }
    *out = n;
    return PONDER_OK;
fail:
    pn_network_free(n);
    return st;
}

void pn_network_free(pn_network *n)
{
    if (!n) return;
    pn_checkpoint_free(n->file);
    pn_free(n->a, n->layers, n->d.layers * sizeof *n->layers);
    pn_free(n->a, n->vectors, n->vectors_n * sizeof(float));
    pn_free(n->a, n->packed, n->packed_bytes);
    pn_free(n->a, n, sizeof *n);
}

void pn_kv_layout_init(pn_kv_layout *l, const pn_description *d, pn_kv_type type)
{
    *l = (pn_kv_layout){.type = type};
    l->key_bytes = pn_kv_key_bytes(type, d->head_dim);
    l->head_bytes = l->key_bytes + pn_kv_value_bytes(type, d->head_dim);
    l->layer_bytes = l->head_bytes * d->kv_heads;
    for (uint32_t i = 0; i < d->layers; i++) l->page_bytes[d->layer[i].sliding && d->window ? PN_SLIDING : PN_FULL] += l->layer_bytes;
}
