/* Rows from a tower in the place of tokens: counted, shared by sequences, sessions and the cache. */
#include "engine/internal.h"

ponder_status pn_rows_new(pn_rows **out, uint32_t n, uint32_t width, uint64_t hash, const ponder_alloc *a, ponder_error *err)
{
    size_t values, bytes = 0;
    *out = NULL;
    bool fits = pn_mul(n, width, &values) && pn_mul(values, sizeof(float), &bytes) && pn_add(bytes, sizeof(pn_rows), &bytes);
    pn_rows *r = fits ? pn_zalloc(a, bytes) : NULL;
    if (!r) return pn_nomem(err, bytes);
    r->a = a;
    r->n = n;
    r->width = width;
    r->hash = hash;
    atomic_init(&r->refs, 1);
    *out = r;
    return PONDER_OK;
}

size_t pn_rows_bytes(const pn_rows *r) { return sizeof *r + (size_t)r->n * r->width * sizeof(float); }

pn_rows *pn_rows_hold(pn_rows *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void pn_rows_release(pn_rows *r)
{
    if (r && atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1) pn_free(r->a, r, pn_rows_bytes(r));
}

/* ---- in a sequence ------------------------------------------------------------------------- */

ponder_status pn_sequence_room_for_rows(pn_sequence *s, ponder_error *err)
{
    if (!s->row_at && !(s->row_at = pn_zalloc_array(s->e->a, s->limit, sizeof *s->row_at))) return pn_nomem(err, s->limit * sizeof *s->row_at);
    if (s->n_spans < s->cap_spans) return PONDER_OK;
    uint32_t cap = s->cap_spans ? 2 * s->cap_spans : 8;
    pn_row_span *p = pn_grow(s->e->a, s->spans, s->cap_spans * sizeof *p, cap * sizeof *p);
    if (!p) return pn_nomem(err, cap * sizeof *p);
    s->spans = p;
    s->cap_spans = cap;
    return PONDER_OK;
}

ponder_status pn_sequence_append_rows(pn_sequence *s, int32_t id, pn_rows *rows, uint32_t from, uint32_t n, ponder_error *err)
{
    if (rows->width != s->e->n->d.width) return pn_fail(err, PONDER_E_ARGUMENT, "rows of %u values for a model of %u", rows->width, s->e->n->d.width);
    if (from > rows->n || n > rows->n - from) return pn_fail(err, PONDER_E_RANGE, "rows %u..%u of %u", from, from + n, rows->n);
    if (n == 0) return PONDER_OK;
    ponder_status st = pn_sequence_room_for_rows(s, err);
    const uint32_t at = s->n;
    for (uint32_t i = 0; i < n && st == PONDER_OK; i++) {
        st = pn_sequence_append(s, &id, 1, err);
    }
    if (st != PONDER_OK) {
        s->n = at;
        return st;
    }
    pn_sequence_bind_rows(s, at, rows, from, n);
    return PONDER_OK;
}

void pn_sequence_bind_rows(pn_sequence *s, uint32_t at, pn_rows *rows, uint32_t from, uint32_t n)
{
    s->spans[s->n_spans++] = (pn_row_span){at, n, from, pn_rows_hold(rows)};
    for (uint32_t i = 0; i < n; i++) s->row_at[at + i] = rows->v + (size_t)(from + i) * rows->width;
}

ponder_status pn_sequence_copy_rows(pn_sequence *to, const pn_sequence *from, ponder_error *err)
{
    for (uint32_t i = 0; i < from->n_spans; i++) {
        const pn_row_span *r = &from->spans[i];
        ponder_status st = pn_sequence_room_for_rows(to, err);
        if (st != PONDER_OK) return st;
        pn_sequence_bind_rows(to, r->at, r->rows, r->from, r->n);
    }
    return PONDER_OK;
}

void pn_sequence_cut_rows(pn_sequence *s, uint32_t tokens)
{
    while (s->n_spans && s->spans[s->n_spans - 1].at + s->spans[s->n_spans - 1].n > tokens) {
        pn_row_span *r = &s->spans[s->n_spans - 1];
        uint32_t keep = r->at < tokens ? tokens - r->at : 0;
        memset(s->row_at + r->at + keep, 0, (r->n - keep) * sizeof *s->row_at);
        r->n = keep;
        if (keep) return;
        pn_rows_release(r->rows);
        s->n_spans--;
    }
}
