/* Saved states: header, ids, logits, pages of each group, rows, a drafter's pages, checksum. Machine byte order, named in the header. */
#include "engine/internal.h"

enum { STATE_VERSION = 2, STATE_ORDER = 0x01020304, FLAG_LOGITS = 1, FLAG_ROWS = 2, FLAG_DRAFTER = 4, STATE_GROUPS = PN_DRAFTER };

typedef struct header {
    char magic[8];            /* "PONDERST" */
    uint32_t version, order, kv_type, page_keys;
    uint64_t model_hash, page_bytes[STATE_GROUPS];
    uint32_t vocab, n, past, mark, flags, pages[STATE_GROUPS], unused;
    uint64_t user;
} header;

static const char magic[8] = {'P', 'O', 'N', 'D', 'E', 'R', 'S', 'T'};

/* What a drafter knows of the text; its pages follow. Another drafter, or none, passes it over. */
typedef struct saved_context {
    uint64_t hash, page_bytes;
    uint32_t from, pages;
} saved_context;

/* A span of rows as it is saved; its values follow. */
typedef struct saved_span {
    uint32_t at, n;
    uint64_t hash;
} saved_span;

static void put_rows(const pn_sequence *s, pn_buf *out)
{
    pn_buf_put(out, &s->n_spans, sizeof s->n_spans);
    for (uint32_t i = 0; i < s->n_spans; i++) {
        const pn_row_span *r = &s->spans[i];
        saved_span h = {r->at, r->n, r->rows->hash};
        pn_buf_put(out, &h, sizeof h);
        pn_buf_put(out, s->row_at[r->at], (size_t)r->n * r->rows->width * sizeof(float));
    }
}

static void put_pages(const pn_sequence *s, int g, pn_buf *out)
{
    for (uint32_t i = 0; i < s->slots; i++) {
        const pn_page *p = s->table[g].page[i];
        if (!p) continue;
        pn_buf_put(out, &i, sizeof i);
        pn_buf_put(out, p->bytes, s->e->pool[g].page_bytes);
    }
}

static void put_context(const pn_sequence *s, pn_buf *out)
{
    saved_context c = {.hash = s->e->n->drafter->hash, .page_bytes = s->e->pool[PN_DRAFTER].page_bytes, .from = s->context_from};
    for (uint32_t i = 0; i < s->slots; i++) c.pages += s->table[PN_DRAFTER].page[i] != NULL;
    pn_buf_put(out, &c, sizeof c);
    put_pages(s, PN_DRAFTER, out);
}

ponder_status pn_sequence_save(pn_sequence *s, uint64_t model_hash, uint64_t user, pn_buf *out, ponder_error *err)
{
    pn_engine *e = s->e;
    pthread_mutex_lock(&e->mutex);
    pn_sequence_withdraw(s);
    pthread_mutex_unlock(&e->mutex);
    header h = {.version = STATE_VERSION, .order = STATE_ORDER, .kv_type = e->layout.type, .page_keys = PN_KEYS,
                .model_hash = model_hash, .vocab = e->n->d.vocab, .n = s->n, .past = s->past, .mark = s->mark, .user = user};
    memcpy(h.magic, magic, sizeof magic);
    h.flags = (pn_sequence_logits(s) ? FLAG_LOGITS : 0) | (s->n_spans ? FLAG_ROWS : 0) | (e->drafter ? FLAG_DRAFTER : 0);
    size_t from = out->n;
    for (int g = 0; g < STATE_GROUPS; g++) {
        h.page_bytes[g] = e->pool[g].page_bytes;
        for (uint32_t i = 0; i < s->slots; i++) h.pages[g] += s->table[g].page[i] != NULL;
    }
    pn_buf_put(out, &h, sizeof h);
    pn_buf_put(out, s->ids, s->n * sizeof *s->ids);
    if (h.flags & FLAG_LOGITS) pn_buf_put(out, s->last, h.vocab * sizeof *s->logits);
    for (int g = 0; g < STATE_GROUPS; g++) put_pages(s, g, out);
    if (h.flags & FLAG_ROWS) put_rows(s, out);
    if (h.flags & FLAG_DRAFTER) put_context(s, out);
    if (out->failed) return pn_nomem(err, out->n);
    uint64_t sum = pn_hash64(out->p + from, out->n - from, STATE_VERSION);
    return pn_buf_put(out, &sum, sizeof sum) ? PONDER_OK : pn_nomem(err, out->n);
}

/* ---- loading: everything is checked before the sequence is touched ------------------------------- */

static ponder_status check_header(const pn_sequence *s, uint64_t model_hash, const header *h, ponder_error *err)
{
    const pn_engine *e = s->e;
    if (memcmp(h->magic, magic, sizeof magic) != 0) return pn_fail(err, PONDER_E_FORMAT, "these bytes are not a saved session");
    if (h->version != STATE_VERSION || h->order != STATE_ORDER)
        return pn_fail(err, PONDER_E_MISMATCH, "saved session of version %u, this library reads %d", h->version, STATE_VERSION);
    if (h->model_hash != model_hash || h->vocab != e->n->d.vocab)
        return pn_fail(err, PONDER_E_MISMATCH, "the session was saved with another model");
    if (h->kv_type != (uint32_t)e->layout.type || h->page_keys != PN_KEYS)
        return pn_fail(err, PONDER_E_MISMATCH, "the session was saved with another kv_type");
    for (int g = 0; g < STATE_GROUPS; g++)
        if (h->page_bytes[g] != e->pool[g].page_bytes) return pn_fail(err, PONDER_E_MISMATCH, "the session was saved with other pages");
    if (h->n > s->limit) return pn_fail(err, PONDER_E_CONTEXT, "the saved %u tokens do not fit a context of %u", h->n, s->limit);
    if (h->past > h->n || h->mark > h->past || h->flags > (FLAG_LOGITS | FLAG_ROWS | FLAG_DRAFTER)) return pn_fail(err, PONDER_E_FORMAT, "saved session with impossible counts");
    return PONDER_OK;
}

/* Where the parts lie; the pages of a group are (slot, bytes) pairs. */
typedef struct parts {
    const uint8_t *ids, *logits, *pages[PN_GROUPS], *rows;
    uint32_t n_spans;
    saved_context context;
} parts;

/* The spans lie in order, inside the tokens, each with its values. */
static bool find_rows(const pn_sequence *s, const header *h, const uint8_t *p, size_t n, size_t *at, parts *out)
{
    const size_t width = s->e->n->d.width;
    uint32_t end = 0;
    if (*at > n || n - *at < sizeof out->n_spans) return false;
    memcpy(&out->n_spans, p + *at, sizeof out->n_spans);
    *at += sizeof out->n_spans;
    out->rows = p + *at;
    for (uint32_t i = 0; i < out->n_spans; i++) {
        saved_span r;
        if (n - *at < sizeof r) return false;
        memcpy(&r, p + *at, sizeof r);
        *at += sizeof r;
        if (r.n == 0 || r.at < end || r.at > h->n || r.n > h->n - r.at || r.n > (n - *at) / (width * sizeof(float))) return false;
        *at += r.n * width * sizeof(float);
        end = r.at + r.n;
    }
    return true;
}

static bool find_context(const uint8_t *p, size_t n, size_t *at, parts *out)
{
    size_t bytes, one;
    if (*at > n || n - *at < sizeof out->context) return false;
    memcpy(&out->context, p + *at, sizeof out->context);
    *at += sizeof out->context;
    out->pages[PN_DRAFTER] = p + *at;
    return pn_add(sizeof(uint32_t), out->context.page_bytes, &one) && pn_mul(out->context.pages, one, &bytes) && pn_add(*at, bytes, at);
}

static ponder_status find_parts(const pn_sequence *s, const header *h, const uint8_t *p, size_t n, parts *out, ponder_error *err)
{
    size_t at = sizeof *h;
    out->ids = p + at;
    at += h->n * sizeof(int32_t);
    out->logits = p + at;
    if (h->flags & FLAG_LOGITS) at += h->vocab * sizeof(float);
    for (int g = 0; g < STATE_GROUPS; g++) {
        size_t bytes, one = sizeof(uint32_t) + (size_t)h->page_bytes[g];
        out->pages[g] = at <= n ? p + at : p;
        if (!pn_mul(h->pages[g], one, &bytes) || !pn_add(at, bytes, &at)) return pn_fail(err, PONDER_E_FORMAT, "saved session with impossible counts");
    }
    if (h->flags & FLAG_ROWS && !find_rows(s, h, p, n, &at, out)) return pn_fail(err, PONDER_E_FORMAT, "saved session with impossible rows");
    if (h->flags & FLAG_DRAFTER && !find_context(p, n, &at, out)) return pn_fail(err, PONDER_E_FORMAT, "saved session with impossible counts");
    if (at > n || n - at != sizeof(uint64_t)) return pn_fail(err, PONDER_E_FORMAT, "saved session is cut or too long");
    for (uint32_t i = 0; i < h->n; i++) {
        int32_t id;
        memcpy(&id, out->ids + i * sizeof id, sizeof id);
        if (id < 0 || (uint32_t)id >= s->e->n->d.vocab) return pn_fail(err, PONDER_E_FORMAT, "saved session with token %d", id);
    }
    return PONDER_OK;
}

static uint32_t slot_of(const pn_sequence *s, const parts *p, int g, uint32_t i)
{
    uint32_t slot;
    memcpy(&slot, p->pages[g] + i * (sizeof slot + s->e->pool[g].page_bytes), sizeof slot);
    return slot;
}

static bool rising_slots(const pn_sequence *s, const parts *p, int g, uint32_t n, uint32_t end)
{
    for (uint32_t i = 0; i < n; i++)
        if (slot_of(s, p, g, i) >= end || (i > 0 && slot_of(s, p, g, i) <= slot_of(s, p, g, i - 1))) return false;
    return true;
}

/* The pages must be those that a sequence of `past` positions needs, in order. */
static bool right_pages(const pn_sequence *s, const header *h, const parts *p)
{
    uint32_t slots = (h->past + PN_KEYS - 1) / PN_KEYS, window = s->e->n->d.window;
    for (int g = 0; g < STATE_GROUPS; g++) {
        if (!s->e->layout.page_bytes[g]) {
            if (h->pages[g]) return false;
            continue;
        }
        if (!rising_slots(s, p, g, h->pages[g], slots)) return false;
        uint32_t low = g == PN_SLIDING && h->past + 1 > window ? (h->past + 1 - window) / PN_KEYS : 0;
        uint32_t needed = slots > low ? slots - low : 0;
        if (h->pages[g] < needed) return false;
        for (uint32_t i = 0; i < needed; i++)
            if (slot_of(s, p, g, h->pages[g] - 1 - i) != slots - 1 - i) return false;
    }
    return true;
}

static void take_pages(pn_sequence *s, const parts *p, int g, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        pn_page *page = pn_pool_take(&s->e->pool[g]);
        uint32_t slot = slot_of(s, p, g, i);
        s->table[g].credits--;
        s->table[g].page[slot] = page;
        s->table[g].bytes[slot] = page->bytes;
        const uint8_t *from = p->pages[g] + i * (sizeof slot + s->e->pool[g].page_bytes) + sizeof slot;
        memcpy(page->bytes, from, s->e->pool[g].page_bytes);
    }
}

/* Without it a drafter knows nothing of what is before: its guesses are worse, no token is another. */
static bool knows_context(const pn_sequence *s, const header *h, const parts *p)
{
    const saved_context *c = &p->context;
    if (!(h->flags & FLAG_DRAFTER) || !s->e->drafter || c->hash != s->e->n->drafter->hash || c->page_bytes != s->e->pool[PN_DRAFTER].page_bytes) return false;
    if (c->from > h->past || c->pages > s->table[PN_DRAFTER].credits) return false;
    return rising_slots(s, p, PN_DRAFTER, c->pages, (h->past + PN_KEYS - 1) / PN_KEYS);
}

static ponder_status take_rows(pn_sequence *s, const parts *p, ponder_error *err)
{
    const uint8_t *at = p->rows;
    const uint32_t width = s->e->n->d.width;
    ponder_status st = PONDER_OK;
    for (uint32_t i = 0; i < p->n_spans && st == PONDER_OK; i++) {
        saved_span h;
        pn_rows *r = NULL;
        memcpy(&h, at, sizeof h);
        at += sizeof h;
        if ((st = pn_rows_new(&r, h.n, width, h.hash, s->e->a, err)) != PONDER_OK) break;
        memcpy(r->v, at, (size_t)h.n * width * sizeof(float));
        at += (size_t)h.n * width * sizeof(float);
        st = pn_sequence_room_for_rows(s, err);
        if (st == PONDER_OK) pn_sequence_bind_rows(s, h.at, r, 0, h.n);
        pn_rows_release(r);
    }
    if (st != PONDER_OK) pn_sequence_cut_rows(s, 0);
    return st;
}

ponder_status pn_sequence_load(pn_sequence *s, uint64_t model_hash, const void *bytes, size_t n, uint64_t *user, ponder_error *err)
{
    header h;
    parts p = {0};
    if (n < sizeof h + sizeof(uint64_t)) return pn_fail(err, PONDER_E_FORMAT, "saved session of %zu bytes is cut", n);
    memcpy(&h, bytes, sizeof h);
    ponder_status st = check_header(s, model_hash, &h, err);
    if (st == PONDER_OK) st = find_parts(s, &h, bytes, n, &p, err);
    if (st != PONDER_OK) return st;
    uint64_t sum;
    memcpy(&sum, (const uint8_t *)bytes + n - sizeof sum, sizeof sum);
    if (sum != pn_hash64(bytes, n - sizeof sum, STATE_VERSION)) return pn_fail(err, PONDER_E_FORMAT, "saved session with a wrong checksum");
    if (!right_pages(s, &h, &p)) return pn_fail(err, PONDER_E_FORMAT, "saved session with impossible pages");
    if ((st = pn_sequence_rewind(s, 0, NULL, err)) != PONDER_OK) return st;
    if ((st = take_rows(s, &p, err)) != PONDER_OK) return st;
    pthread_mutex_lock(&s->e->mutex);
    bool fits = true;
    for (int g = 0; g < STATE_GROUPS; g++) fits = fits && h.pages[g] <= s->table[g].credits;
    for (int g = 0; g < STATE_GROUPS && fits; g++) take_pages(s, &p, g, h.pages[g]);
    s->context_from = h.past;
    if (fits && knows_context(s, &h, &p)) {
        take_pages(s, &p, PN_DRAFTER, p.context.pages);
        s->context_from = p.context.from;
    }
    pthread_mutex_unlock(&s->e->mutex);
    if (!fits) {
        pn_sequence_cut_rows(s, 0);
        return pn_fail(err, PONDER_E_MISMATCH, "the session was saved with a larger step");
    }
    memcpy(s->ids, p.ids, h.n * sizeof *s->ids);
    s->n = h.n;
    s->past = h.past;
    s->mark = h.mark;
    for (int g = 0; g < PN_GROUPS; g++) s->table[g].first_kept = 0;
    *user = h.user;
    s->logits_valid = h.flags & FLAG_LOGITS;
    s->last = s->logits;
    if (s->logits_valid) memcpy(s->logits, p.logits, h.vocab * sizeof *s->logits);
    return PONDER_OK;
}
