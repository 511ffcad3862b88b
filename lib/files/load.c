#include "files/load.h"

#include <stdatomic.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, PART_BYTES = 1 << 20 };

/* Q4_K needs rows of whole 256-blocks; narrower models get Q8_0 for such a matrix, quality before size. */
static pn_type target_type(pn_type from, uint64_t k, bool keep, int32_t want)
{
    if (want < 0 || !pn_type_is_float(from) || keep) return from;
    if (k % pn_type_block((pn_type)want) == 0) return (pn_type)want;
    return k % pn_type_block(PN_Q8_0) == 0 ? PN_Q8_0 : from;
}

ponder_status pn_load_treat(pn_treatment *t, const pn_checkpoint *c, const pn_load_options *o, const pn_slice *s, uint32_t how, ponder_error *err)
{
    *t = (pn_treatment){0};
    t->type = target_type(s->tensor->type, s->cols, how & PN_LOAD_KEEP, o->quantize);
    t->convert = t->type != s->tensor->type;
    const bool view = pn_checkpoint_view(c, s->tensor) != NULL;
    t->packed = o->repack || t->convert || !view;
    t->late = t->packed && o->late && !(how & PN_LOAD_NOW) && view && !t->convert && s->batch == 1;
    t->panel_bytes = pn_panel_bytes(t->type, s->cols);
    size_t panels = (size_t)((s->rows + PN_PANEL - 1) / PN_PANEL);
    bool fits = pn_mul(panels, t->panel_bytes, &t->stride) && pn_mul(t->stride, s->batch, &t->bytes);
    if (!fits || s->rows > UINT32_MAX || s->batch > UINT32_MAX)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %s is too large", s->tensor->name);
    if (!t->packed) t->bytes = 0;
    return PONDER_OK;
}

static ponder_status report(pn_loader *l, uint64_t bytes, ponder_error *err)
{
    l->done += bytes;
    if (!l->o->progress || l->o->progress(l->o->progress_user, PN_MIN(l->done, l->total), l->total) == 0) return PONDER_OK;
    return pn_fail(err, PONDER_E_CANCELLED, "loading was cancelled");
}

/* ---- matrices --------------------------------------------------------------------- */

typedef struct packing {
    pn_loader *l;
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

size_t pn_load_room(const pn_slice *s, const pn_treatment *t)
{
    size_t row = 0;
    return pn_row_bytes(t->type, s->cols, &row) ? (size_t)s->cols * sizeof(float) + PN_PANEL * row : 0;
}

void pn_load_pack(pn_pack_fn *pack, const pn_slice *s, const pn_treatment *t, const uint8_t *rows, uint32_t n_rows, uint8_t *room,
                  uint8_t *panel)
{
    size_t stride = (size_t)s->row_stride;
    if (t->convert) {
        float *values = (float *)(void *)room;
        uint8_t *converted = (uint8_t *)(values + s->cols);
        size_t bytes = 0;
        pn_row_bytes(t->type, s->cols, &bytes);
        for (uint32_t r = 0; r < n_rows; r++) {
            pn_dequantize_row(s->tensor->type, rows + r * stride, values, (size_t)s->cols);
            pn_quantize_row(t->type, values, converted + r * bytes, (size_t)s->cols);
        }
        rows = converted;
        stride = bytes;
    }
    pack(t->type, rows, stride, n_rows, (size_t)s->cols, panel);
}

static ponder_status pack_one(packing *k, uint32_t panel, uint8_t *buffer)
{
    const pn_slice *s = k->s;
    uint32_t n_rows = (uint32_t)PN_MIN(s->rows - (uint64_t)panel * PN_PANEL, (uint64_t)PN_PANEL);
    uint64_t at = s->from + k->expert * s->batch_stride + (uint64_t)panel * PN_PANEL * s->row_stride;
    ponder_status st = PONDER_OK;
    const uint8_t *rows = fetch_rows(k, at, (size_t)(n_rows * s->row_stride), buffer, &st);
    if (st != PONDER_OK) return st;
    pn_load_pack(pn_load_packer(k->l->o), s, &k->t, rows, n_rows, buffer + PN_PANEL * s->row_stride, k->to + panel * k->t.panel_bytes);
    return PONDER_OK;
}

/* Rows of panels [from, to) of an expert need not stay in memory. */
static void drop_rows(pn_checkpoint *c, const pn_slice *s, uint64_t expert, uint32_t from, uint32_t to)
{
    const uint64_t first = (uint64_t)from * PN_PANEL, end = PN_MIN((uint64_t)to * PN_PANEL, s->rows);
    pn_checkpoint_drop(c, s->tensor, s->from + expert * s->batch_stride + first * s->row_stride, (end - first) * s->row_stride);
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
    drop_rows(k->l->c, k->s, k->expert, from, to);
}

static ponder_status pack_matrix(pn_loader *l, const pn_slice *s, const pn_treatment *t, uint8_t *to, ponder_error *err)
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
        if (st == PONDER_OK) st = report(l, s->rows * s->row_stride, err);
        if (st != PONDER_OK) return st;
    }
    return PONDER_OK;
}

/* ---- matrices that are packed late (tensor/products.h) ---------------------------------- */

typedef struct pn_late_matrix {
    pn_late l;
    pn_checkpoint *c;         /* the store's */
    pn_slice s;
} late_matrix;

static uint32_t panels_of(const pn_slice *s) { return (uint32_t)((s->rows + PN_PANEL - 1) / PN_PANEL); }
static size_t late_bytes(uint32_t matrices, uint32_t panels) { return matrices * sizeof(late_matrix) + panels; }

static void drop_late(pn_late *l, uint32_t from, uint32_t to)
{
    const late_matrix *m = (const late_matrix *)(const void *)l;
    drop_rows(m->c, &m->s, 0, from, to);
}

static void load_late(pn_loader *l, pn_weight *to, const pn_slice *s)
{
    pn_store *store = l->store;
    late_matrix *m = &store->late[l->late_at++];
    m->c = l->c;
    m->s = *s;
    m->l.state = (_Atomic uint8_t *)(void *)(store->late + store->late_n) + l->late_panels_at;
    m->l.drop = drop_late;
    atomic_init(&m->l.left, panels_of(s));
    l->late_panels_at += panels_of(s);
    to->late = &m->l;
}

static void count_values(pn_loader *l, const pn_slice *s, const pn_treatment *t)
{
    const uint64_t values = s->rows * s->cols * s->batch;
    l->store->parameters += values;
    if (t->type < PN_COUNT(l->by_type)) l->by_type[t->type] += values;
}

static void count_matrix(pn_loader *l, const pn_slice *s, const pn_treatment *t)
{
    const uint64_t bytes = s->rows * s->row_stride * s->batch;
    l->rows_bytes = PN_MAX(l->rows_bytes, (size_t)(PN_PANEL * s->row_stride) + pn_load_room(s, t) + 64);
    l->packed_at += t->bytes;
    l->late_at += t->late;
    if (t->late) l->late_panels_at += panels_of(s);
    l->total += bytes;
    if (!t->packed) l->mapped += bytes;
    count_values(l, s, t);
}

ponder_status pn_load_apart(pn_loader *l, const pn_slice *s, pn_treatment *t, ponder_error *err)
{
    ponder_status st = pn_load_treat(t, l->c, l->o, s, 0, err);
    if (st == PONDER_OK && l->counting) count_values(l, s, t);
    return st;
}

ponder_status pn_load_matrix(pn_loader *l, pn_weight *to, const pn_slice *s, uint32_t how, pn_treatment *t, ponder_error *err)
{
    ponder_status st = pn_load_treat(t, l->c, l->o, s, how, err);
    if (st != PONDER_OK) return st;
    if (l->counting) {
        count_matrix(l, s, t);
        return PONDER_OK;
    }
    to->first = (pn_matrix){.type = t->type, .rows = (uint32_t)s->rows, .k = (size_t)s->cols};
    to->batch = (uint32_t)s->batch;
    if (!t->packed || t->late) {
        to->first.raw = pn_checkpoint_view(l->c, s->tensor) + s->from;
        to->first.row_stride = (size_t)s->row_stride;
        to->raw_stride = (size_t)s->batch_stride;
    }
    if (t->late) load_late(l, to, s);
    if (!t->packed) return report(l, s->rows * s->row_stride * s->batch, err);
    uint8_t *at = l->store->packed + l->packed_at;
    l->packed_at += t->bytes;
    to->first.packed = at;
    to->packed_stride = t->stride;
    return t->late ? report(l, s->rows * s->row_stride, err) : pack_matrix(l, s, t, at, err);
}

/* ---- vectors ---------------------------------------------------------------------- */

static ponder_status read_row(pn_loader *l, const pn_slice *s, uint64_t row, float *to, ponder_error *err)
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

float *pn_load_floats(pn_loader *l, size_t n)
{
    float *to = l->counting ? NULL : l->store->vectors + l->vectors_at;
    l->vectors_at += n;
    return to;
}

ponder_status pn_load_read(pn_loader *l, float *to, const pn_slice *s, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    if (l->counting) l->rows_bytes = PN_MAX(l->rows_bytes, (size_t)s->row_stride);
    else for (uint64_t r = 0; r < s->rows && st == PONDER_OK; r++) st = read_row(l, s, r, to + r * s->cols, err);
    return st;
}

ponder_status pn_load_vector(pn_loader *l, float **to, const pn_slice *s, float add, ponder_error *err)
{
    const size_t count = (size_t)(s->rows * s->cols);
    float *x = pn_load_floats(l, count);
    ponder_status st = pn_load_read(l, x, s, err);
    if (l->counting) {
        l->store->parameters += count;
        return st;
    }
    for (size_t i = 0; i < count && st == PONDER_OK; i++) x[i] += add;
    *to = x;
    return st;
}

/* ---- the whole ------------------------------------------------------------------------ */

void *pn_load_alloc(const ponder_alloc *a, size_t bytes)
{
    const bool big = bytes >= 2 * (size_t)HUGE_PAGE;
    void *p = pn_alloc_aligned(a, bytes, big ? HUGE_PAGE : 64);
    /* Weights are streamed once a step: large pages spare most of the address translation. A hint only. */
    if (p && big) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

static ponder_status allocate(pn_loader *l, ponder_error *err)
{
    pn_store *s = l->store;
    s->packed_bytes = l->packed_at;
    s->vectors_n = l->vectors_at;
    size_t vector_bytes, threads = l->o->team ? pn_team_size(l->o->team) : 1;
    if (!pn_mul(s->vectors_n, sizeof(float), &vector_bytes)) return pn_fail(err, PONDER_E_FORMAT, "too many weights");
    s->vectors = pn_zalloc(s->a, vector_bytes);
    if (!s->vectors) return pn_nomem(err, vector_bytes);
    s->late_n = l->late_at;
    s->late_panels = l->late_panels_at;
    if (s->late_n) {
        s->late = pn_zalloc(s->a, late_bytes(s->late_n, s->late_panels));
        if (!s->late) return pn_nomem(err, late_bytes(s->late_n, s->late_panels));
    }
    if (s->packed_bytes) {
        s->packed = pn_load_alloc(s->a, s->packed_bytes);
        if (!s->packed) return pn_nomem(err, s->packed_bytes);
    }
    l->rows_bytes = (l->rows_bytes + 63) / 64 * 64;
    l->rows = pn_alloc_aligned(s->a, l->rows_bytes * threads, 64);
    return l->rows ? PONDER_OK : pn_nomem(err, l->rows_bytes * threads);
}

static pn_type most_frequent(const pn_loader *l)
{
    size_t best = PN_F32;
    for (size_t t = 0; t < PN_COUNT(l->by_type); t++)
        if (l->by_type[t] > l->by_type[best]) best = t;
    return (pn_type)best;
}

static ponder_status fill(pn_loader *l, pn_walk_fn walk, void *ctx, ponder_error *err)
{
    ponder_status st = allocate(l, err);
    size_t threads = l->o->team ? pn_team_size(l->o->team) : 1;
    l->counting = false;
    l->packed_at = l->vectors_at = 0;
    l->late_at = l->late_panels_at = 0;
    if (st == PONDER_OK) {
        if (l->o->team) pn_team_begin(l->o->team);
        st = walk(ctx, l, err);
        if (l->o->team) pn_team_end(l->o->team);
    }
    pn_free(l->store->a, l->rows, l->rows_bytes * threads);
    return st;
}

ponder_status pn_load(pn_store *out, pn_checkpoint *c, const pn_load_options *o, pn_walk_fn walk, void *ctx, const ponder_alloc *a,
                      ponder_error *err)
{
    *out = (pn_store){.a = a};
    pn_loader l = {.c = c, .o = o, .counting = true, .store = out, .err = err};
    ponder_status st = walk(ctx, &l, err);
    if (st == PONDER_OK) st = fill(&l, walk, ctx, err);
    if (st != PONDER_OK) {
        pn_store_free(out);
        return st;
    }
    out->main_type = most_frequent(&l);
    if (l.mapped || out->late) out->file = pn_checkpoint_hold(c);
    return st;
}

ponder_status pn_load_count(pn_load_plan *out, pn_checkpoint *c, const pn_load_options *o, pn_walk_fn walk, void *ctx, ponder_error *err)
{
    pn_store store = {0};
    pn_loader l = {.c = c, .o = o, .counting = true, .store = &store, .err = err};
    ponder_status st = walk(ctx, &l, err);
    /* Beyond: the source pages of the panels being packed, and row buffers. */
    *out = (pn_load_plan){.owned = l.packed_at + l.vectors_at * sizeof(float) + late_bytes(l.late_at, l.late_panels_at), .mapped = l.mapped, .transient = 2u << 20};
    return st;
}

size_t pn_store_bytes(const pn_store *s)
{
    return s->packed_bytes + s->vectors_n * sizeof(float) + late_bytes(s->late_n, s->late_panels);
}

void pn_store_free(pn_store *s)
{
    pn_checkpoint_free(s->file);
    if (s->late) pn_free(s->a, s->late, late_bytes(s->late_n, s->late_panels));
    pn_free(s->a, s->vectors, s->vectors_n * sizeof(float));
    pn_free(s->a, s->packed, s->packed_bytes);
    *s = (pn_store){0};
}
