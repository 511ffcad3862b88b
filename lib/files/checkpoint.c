#include "files/checkpoint.h"

#include <sys/stat.h>

static ponder_status new_checkpoint(pn_checkpoint **out, const ponder_alloc *a, ponder_error *err)
{
    *out = pn_zalloc(a, sizeof **out);
    if (!*out) return pn_nomem(err, sizeof **out);
    (*out)->a = a;
    return PONDER_OK;
}

static ponder_status finish(pn_checkpoint **out, ponder_status status)
{
    if (status) {
        pn_checkpoint_free(*out);
        *out = NULL;
    }
    return status;
}

ponder_status pn_checkpoint_open(pn_checkpoint **out, const char *path, const ponder_alloc *a, ponder_error *err)
{
    struct stat st;
    *out = NULL;
    ponder_status s = new_checkpoint(out, a, err);
    if (s) return s;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) s = pn_folder_open(*out, path, err);
    else s = pn_gguf_open_path(*out, path, err);
    return finish(out, s);
}

ponder_status pn_checkpoint_open_source(pn_checkpoint **out, pn_source *source, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    ponder_status s = new_checkpoint(out, a, err);
    if (s) {
        pn_source_free(source);
        return s;
    }
    return finish(out, pn_gguf_open_source(*out, source, err));
}

pn_checkpoint *pn_checkpoint_hold(pn_checkpoint *c)
{
    atomic_fetch_add(&c->held, 1);
    return c;
}

void pn_checkpoint_free(pn_checkpoint *c)
{
    if (!c || atomic_fetch_sub(&c->held, 1) != 0) return;
    pn_checkpoint_drop_vocab(c);
    for (uint32_t i = 0; i < c->n_parts; i++) {
        pn_json_free(&c->parts[i].header);
        pn_free(c->a, c->parts[i].owned, (size_t)c->parts[i].owned_bytes);
        pn_source_free(c->parts[i].source);
    }
    pn_free(c->a, c->parts, c->n_parts * sizeof *c->parts);
    pn_free(c->a, c->tensors, c->tensors_cap * sizeof *c->tensors);
    pn_free(c->a, c->names, c->names_bytes);
    pn_free(c->a, c->index, c->index_cap * sizeof *c->index);
    pn_free(c->a, c->kv, c->n_kv * sizeof *c->kv);
    pn_json_free(&c->config);
    pn_json_free(&c->generation);
    pn_json_free(&c->tokenizer_config);
    for (size_t i = 0; i < PN_COUNT(c->processors); i++) pn_json_free(&c->processors[i]);
    pn_source_free(c->tokenizer);
    pn_source_free(c->jinja);
    pn_free(c->a, c, sizeof *c);
}

/* ---- the tensor table ---------------------------------------------------------------------------------------- */

ponder_status pn_checkpoint_parts(pn_checkpoint *c, uint32_t n, ponder_error *err)
{
    c->parts = pn_zalloc_array(c->a, n, sizeof *c->parts);
    if (!c->parts) return pn_nomem(err, n * sizeof *c->parts);
    c->n_parts = n;
    return PONDER_OK;
}

static ponder_status reserve(pn_checkpoint *c, uint64_t tensors, uint64_t names, ponder_error *err)
{
    enum { MOST = 1 << 24 };
    if (tensors > MOST || names > SIZE_MAX) return pn_fail(err, PONDER_E_FORMAT, "more than %d tensors", MOST);
    uint32_t cap = 8;
    while (cap < tensors * 2) cap *= 2;
    c->tensors = pn_zalloc_array(c->a, (size_t)tensors, sizeof *c->tensors);
    if (!c->tensors) return pn_nomem(err, (size_t)tensors * sizeof *c->tensors);
    c->tensors_cap = (uint32_t)tensors;
    c->names = pn_alloc(c->a, (size_t)names);
    if (!c->names) return pn_nomem(err, (size_t)names);
    c->names_bytes = (size_t)names;
    c->index = pn_alloc(c->a, cap * sizeof *c->index);
    if (!c->index) return pn_nomem(err, cap * sizeof *c->index);
    c->index_cap = cap;
    memset(c->index, 0xff, cap * sizeof *c->index);
    return PONDER_OK;
}

pn_tensor *pn_checkpoint_next(pn_checkpoint *c, pn_str name)
{
    pn_tensor *t = &c->tensors[c->n_tensors++];
    char *to = c->names + c->names_used;
    memcpy(to, name.p, name.n);
    to[name.n] = 0;
    c->names_used += name.n + 1;
    t->name = to;
    return t;
}

/* The slot where `name` is, or the free one where it would go: the table is never more than half full. */
static uint32_t *slot(const pn_checkpoint *c, pn_str name)
{
    uint32_t i = (uint32_t)pn_hash64(name.p, name.n, 0) & (c->index_cap - 1);
    while (c->index[i] != UINT32_MAX && !pn_str_eq(name, c->tensors[c->index[i]].name)) i = (i + 1) & (c->index_cap - 1);
    return &c->index[i];
}

static ponder_status build_index(pn_checkpoint *c, ponder_error *err)
{
    for (uint32_t i = 0; i < c->n_tensors; i++) {
        uint32_t *at = slot(c, pn_str_of(c->tensors[i].name));
        if (*at != UINT32_MAX) return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s occurs twice", c->tensors[i].name);
        *at = i;
    }
    return PONDER_OK;
}

static bool before(const pn_checkpoint *c, uint32_t a, uint32_t b)
{
    const pn_tensor *x = &c->tensors[a], *y = &c->tensors[b];
    if (x->part != y->part) return x->part < y->part;
    if (x->offset != y->offset) return x->offset < y->offset;
    return x->bytes < y->bytes;
}

static void sift(const pn_checkpoint *c, uint32_t *order, uint32_t at, uint32_t n)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && before(c, order[child], order[child + 1])) child++;
        if (!before(c, order[at], order[child])) return;
        uint32_t t = order[at];
        order[at] = order[child];
        order[child] = t;
        at = child;
    }
}

/* Heap sort: the C library's qsort may allocate behind the host's back. */
static void sort_by_place(const pn_checkpoint *c, uint32_t *order)
{
    const uint32_t n = c->n_tensors;
    for (uint32_t i = n / 2; i-- > 0;) sift(c, order, i, n);
    for (uint32_t i = n; i-- > 1;) {
        uint32_t t = order[0];
        order[0] = order[i];
        order[i] = t;
        sift(c, order, 0, i);
    }
}

static ponder_status refuse_overlap(pn_checkpoint *c, ponder_error *err)
{
    uint32_t *order = pn_zalloc_array(c->a, c->n_tensors, sizeof *order);
    ponder_status s = PONDER_OK;
    if (!order) return pn_nomem(err, c->n_tensors * sizeof *order);
    for (uint32_t i = 0; i < c->n_tensors; i++) order[i] = i;
    sort_by_place(c, order);
    for (uint32_t i = 1; i < c->n_tensors && s == PONDER_OK; i++) {
        const pn_tensor *x = &c->tensors[order[i - 1]], *y = &c->tensors[order[i]];
        if (x->part == y->part && x->bytes && y->bytes && x->offset + x->bytes > y->offset)
            s = pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: its data overlaps that of %.96s", y->name, x->name);
    }
    pn_free(c->a, order, c->n_tensors * sizeof *order);
    return s;
}

ponder_status pn_checkpoint_assemble(pn_checkpoint *c, pn_fill_fn fill, ponder_error *err)
{
    uint64_t tensors = 0, names = 0;
    for (uint32_t i = 0; i < c->n_parts; i++) {
        tensors += c->parts[i].n_tensors;
        names += c->parts[i].names;
    }
    ponder_status s = reserve(c, tensors, names, err);
    for (uint32_t i = 0; i < c->n_parts && s == PONDER_OK; i++) s = fill(c, i, err);
    if (s == PONDER_OK) s = build_index(c, err);
    return s ? s : refuse_overlap(c, err);
}

/* ---- access ---------------------------------------------------------------------------------------------------- */

bool pn_checkpoint_is_gguf(const pn_checkpoint *c)
{
    return c->gguf;
}

uint64_t pn_checkpoint_bytes(const pn_checkpoint *c)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < c->n_parts; i++) n += pn_source_size(c->parts[i].source);
    return n;
}

uint32_t pn_checkpoint_count(const pn_checkpoint *c)
{
    return c->n_tensors;
}

const pn_tensor *pn_checkpoint_at(const pn_checkpoint *c, uint32_t i)
{
    return i < c->n_tensors ? &c->tensors[i] : NULL;
}

const pn_tensor *pn_checkpoint_named(const pn_checkpoint *c, pn_str name)
{
    uint32_t i = *slot(c, name);
    return i == UINT32_MAX ? NULL : &c->tensors[i];
}

const pn_tensor *pn_checkpoint_find(const pn_checkpoint *c, const char *name)
{
    return pn_checkpoint_named(c, pn_str_of(name));
}

/* Files may put data anywhere (alignment 1, a header of odd length, memory at an odd address): a view that could not be
 * read as floats or half-precision scales is none, and the data are copied instead. */
const uint8_t *pn_checkpoint_view(const pn_checkpoint *c, const pn_tensor *t)
{
    const uint8_t *p = pn_source_view(c->parts[t->part].source, t->offset, t->bytes);
    return (uintptr_t)p % (t->type == PN_F32 ? 4 : 2) == 0 ? p : NULL;
}

ponder_status pn_checkpoint_read(pn_checkpoint *c, const pn_tensor *t, uint64_t from, void *to, size_t n, ponder_error *err)
{
    if (from > t->bytes || n > t->bytes - from)
        return pn_fail(err, PONDER_E_RANGE, "tensor %.96s: %zu bytes at %llu", t->name, n, (unsigned long long)from);
    return pn_source_read(c->parts[t->part].source, t->offset + from, to, n, err);
}

ponder_status pn_checkpoint_copy(pn_checkpoint *c, const pn_tensor *t, uint64_t from, void *to, size_t n, ponder_error *err)
{
    if (from > t->bytes || n > t->bytes - from)
        return pn_fail(err, PONDER_E_RANGE, "tensor %.96s: %zu bytes at %llu", t->name, n, (unsigned long long)from);
    return pn_source_copy(c->parts[t->part].source, t->offset + from, to, n, err);
}

void pn_checkpoint_soon(pn_checkpoint *c, const pn_tensor *t, uint64_t from, uint64_t n)
{
    if (from <= t->bytes && n <= t->bytes - from) pn_source_soon(c->parts[t->part].source, t->offset + from, n);
}

void pn_checkpoint_drop(pn_checkpoint *c, const pn_tensor *t, uint64_t from, uint64_t n)
{
    if (from <= t->bytes && n <= t->bytes - from) pn_source_drop(c->parts[t->part].source, t->offset + from, n);
}

/* ---- hash -------------------------------------------------------------------------------------------------------- */

enum { SAMPLE = 4096 };

/* Through a buffer even where a view exists, so that all kinds of sources take one path. */
static ponder_status hash_tensor(pn_checkpoint *c, const pn_tensor *t, uint8_t *buffer, uint64_t *h, ponder_error *err)
{
    const uint64_t last = t->bytes > SAMPLE ? t->bytes - SAMPLE : 0;
    const uint64_t places[3] = {0, last / 2, last};
    *h = pn_hash64(t->name, strlen(t->name), *h);
    *h = pn_hash64(t->ne, sizeof t->ne, *h ^ (uint64_t)t->type);
    for (int i = 0; i < 3; i++) {
        size_t n = (size_t)PN_MIN(t->bytes - places[i], (uint64_t)SAMPLE);
        ponder_status s = pn_checkpoint_read(c, t, places[i], buffer, n, err);
        if (s) return s;
        *h = pn_hash64(buffer, n, *h);
    }
    return PONDER_OK;
}

ponder_status pn_checkpoint_hash(pn_checkpoint *c, uint64_t *out, ponder_error *err)
{
    uint64_t h = c->config_hash;
    ponder_status s = PONDER_OK;
    uint8_t *buffer = pn_alloc(c->a, SAMPLE);
    *out = 0;
    if (!buffer) return pn_nomem(err, SAMPLE);
    for (uint32_t i = 0; c->gguf && i < c->n_parts; i++) h = pn_hash64(c->parts[i].meta, (size_t)c->parts[i].meta_bytes, h);
    for (uint32_t i = 0; i < c->n_tensors && s == PONDER_OK; i++) s = hash_tensor(c, &c->tensors[i], buffer, &h, err);
    pn_free(c->a, buffer, SAMPLE);
    if (s == PONDER_OK) *out = h;
    return s;
}
