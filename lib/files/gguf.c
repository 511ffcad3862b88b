#include "files/checkpoint.h"

/* Reads the metadata of one GGUF file: header, keys, tensor table. The same walk is made twice: once to check and to
 * measure (pn_gguf_scan, which allocates nothing but the bytes of a source without a view), once to fill the tables. */

/* Fewest bytes that a key and a tensor take in the file: bounds the counts in the header before anything trusts them. */
enum { MIN_KEY = 8 + 1 + 4 + 1, MIN_TENSOR = 8 + 1 + 4 + 8 + 4 + 8, MAX_DIMS = 4 };
enum { MAX_META = 512 << 20, FIRST_READ = 256 << 10 };

typedef struct cursor {
    const uint8_t *p;
    uint64_t n;     /* bytes at hand */
    uint64_t size;  /* bytes of the file */
    uint64_t pos;
    uint64_t need;  /* PONDER_MORE: how many must be at hand */
    pn_str what;    /* for the message */
    ponder_error *err;
} cursor;

static ponder_status truncated(cursor *c)
{
    return pn_fail(c->err, PONDER_E_FORMAT, "truncated GGUF: %.*s ends outside the file", SHOWN(c->what));
}

static ponder_status take(cursor *c, uint64_t n, const uint8_t **p)
{
    *p = NULL;
    if (n > c->size - c->pos) return truncated(c);
    if (n > c->n - c->pos) {
        c->need = c->pos + n;
        return PONDER_MORE;
    }
    *p = c->p + c->pos;
    c->pos += n;
    return PONDER_OK;
}

static ponder_status take32(cursor *c, uint32_t *v)
{
    const uint8_t *p;
    *v = 0;
    ponder_status s = take(c, 4, &p);
    if (s == PONDER_OK) *v = pn_get32(p);
    return s;
}

static ponder_status take64(cursor *c, uint64_t *v)
{
    const uint8_t *p;
    *v = 0;
    ponder_status s = take(c, 8, &p);
    if (s == PONDER_OK) *v = pn_get64(p);
    return s;
}

static ponder_status take_str(cursor *c, pn_str *s)
{
    uint64_t n;
    const uint8_t *p;
    ponder_status status = take64(c, &n);
    if (status == PONDER_OK) status = take(c, n, &p);
    if (status == PONDER_OK) *s = (pn_str){(const char *)p, (size_t)n};
    return status;
}

static const uint8_t value_bytes[KV_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static ponder_status take_strings(cursor *c, uint64_t count)
{
    pn_str s;
    ponder_status status = PONDER_OK;
    if (count > (c->size - c->pos) / 8) return truncated(c);
    for (uint64_t i = 0; i < count && status == PONDER_OK; i++) status = take_str(c, &s);
    return status;
}

/* `count` values of kv->type; kv->data and kv->bytes are set. */
static ponder_status take_values(cursor *c, pn_kv *kv)
{
    const uint64_t from = c->pos;
    ponder_status status;
    const uint8_t *p;
    if (kv->type == KV_STR) {
        status = take_strings(c, kv->count);
    } else {
        if (kv->count > (c->size - c->pos) / value_bytes[kv->type]) return truncated(c);
        status = take(c, kv->count * value_bytes[kv->type], &p);
    }
    kv->data = c->p + from;
    kv->bytes = c->pos - from;
    return status;
}

static ponder_status take_kv(cursor *c, pn_kv *kv)
{
    uint32_t type = 0;
    c->what = pn_str_of("a key");
    ponder_status s = take_str(c, &kv->key);
    if (s) return s;
    if (kv->key.n == 0) return pn_fail(c->err, PONDER_E_FORMAT, "an empty key");
    c->what = kv->key;
    kv->count = 1;
    kv->array = false;
    if ((s = take32(c, &type))) return s;
    if (type == KV_ARRAY) {
        kv->array = true;
        if ((s = take32(c, &type))) return s;
        if (type == KV_ARRAY)
            return pn_fail(c->err, PONDER_E_UNSUPPORTED, "key %.*s: an array of arrays", SHOWN(kv->key));
        if ((s = take64(c, &kv->count))) return s;
    }
    if (type >= KV_TYPES) return pn_fail(c->err, PONDER_E_FORMAT, "key %.*s: value type %u", SHOWN(kv->key), type);
    kv->type = (uint8_t)type;
    return take_values(c, kv);
}

typedef struct entry {
    pn_str name;
    uint32_t n_dims, type;
    uint64_t ne[MAX_DIMS], offset;
} entry;

static ponder_status take_tensor(cursor *c, entry *e)
{
    c->what = pn_str_of("a tensor's name");
    ponder_status s = take_str(c, &e->name);
    if (s) return s;
    c->what = e->name;
    if (e->name.n == 0 || memchr(e->name.p, 0, e->name.n)) return pn_fail(c->err, PONDER_E_FORMAT, "a tensor without a proper name");
    if ((s = take32(c, &e->n_dims))) return s;
    if (e->n_dims > MAX_DIMS)
        return pn_fail(c->err, PONDER_E_FORMAT, "tensor %.*s: %u dimensions", SHOWN(e->name), e->n_dims);
    for (uint32_t i = 0; i < MAX_DIMS; i++) {
        e->ne[i] = 1;
        if (i < e->n_dims && (s = take64(c, &e->ne[i]))) return s;
    }
    if ((s = take32(c, &e->type))) return s;
    return take64(c, &e->offset);
}

/* Magic, version and the two counts. */
static ponder_status take_header(cursor *c, uint64_t *n_tensors, uint64_t *n_kv)
{
    const uint8_t *magic;
    uint32_t version = 0;
    c->what = pn_str_of("the header");
    ponder_status s = take(c, 4, &magic);
    if (s) return s;
    if (memcmp(magic, "GGUF", 4) != 0) return pn_fail(c->err, PONDER_E_FORMAT, "not a GGUF file");
    if ((s = take32(c, &version))) return s;
    if (version == 0x02000000 || version == 0x03000000)
        return pn_fail(c->err, PONDER_E_UNSUPPORTED, "a big-endian GGUF file");
    if (version != 2 && version != 3) return pn_fail(c->err, PONDER_E_UNSUPPORTED, "GGUF version %u", version);
    if ((s = take64(c, n_tensors))) return s;
    if ((s = take64(c, n_kv))) return s;
    const uint64_t left = c->size - c->pos;
    if (*n_tensors > left / MIN_TENSOR || *n_tensors >= UINT32_MAX)
        return pn_fail(c->err, PONDER_E_FORMAT, "truncated GGUF: no room for %llu tensors", (unsigned long long)*n_tensors);
    if (*n_kv > left / MIN_KEY || *n_kv >= UINT32_MAX)
        return pn_fail(c->err, PONDER_E_FORMAT, "truncated GGUF: no room for %llu keys", (unsigned long long)*n_kv);
    return PONDER_OK;
}

static ponder_status note_alignment(cursor *c, const pn_kv *kv, pn_part *part)
{
    if (!pn_str_eq(kv->key, "general.alignment")) return PONDER_OK;
    if (kv->array || kv->type != KV_U32) return pn_fail(c->err, PONDER_E_FORMAT, "general.alignment: not a u32");
    uint32_t v = pn_get32(kv->data);
    if (v == 0 || (v & (v - 1)) != 0) return pn_fail(c->err, PONDER_E_FORMAT, "general.alignment: %u is no power of two", v);
    part->alignment = v;
    return PONDER_OK;
}

static ponder_status scan(cursor *c, pn_part *part)
{
    uint64_t n_tensors = 0, n_kv = 0;
    ponder_status s = take_header(c, &n_tensors, &n_kv);
    if (s) return s;
    part->n_tensors = (uint32_t)n_tensors;
    part->n_kv = (uint32_t)n_kv;
    part->alignment = 32;
    part->names = 0;
    for (uint64_t i = 0; i < n_kv; i++) {
        pn_kv kv;
        if ((s = take_kv(c, &kv))) return s;
        if ((s = note_alignment(c, &kv, part))) return s;
    }
    for (uint64_t i = 0; i < n_tensors; i++) {
        entry e;
        if ((s = take_tensor(c, &e))) return s;
        part->names += e.name.n + 1;
    }
    part->meta_bytes = c->pos;
    part->data = (c->pos + part->alignment - 1) & ~(part->alignment - 1);
    return PONDER_OK;
}

/* Sources without a view: how long the metadata is shows only while reading it, so the bytes at hand grow until the scan
 * is content. */
static ponder_status read_up_to(pn_part *part, uint64_t want, const ponder_alloc *a, ponder_error *err)
{
    if (want > MAX_META) return pn_fail(err, PONDER_E_FORMAT, "metadata of more than 512 MB");
    uint8_t *p = pn_grow(a, part->owned, part->owned_bytes, (size_t)want);
    if (!p) return pn_nomem(err, (size_t)want);
    const uint64_t had = part->owned_bytes;
    part->owned = p;
    part->owned_bytes = want;
    if (want <= had) return PONDER_OK;
    return pn_source_read(part->source, had, p + had, (size_t)(want - had), err);
}

static ponder_status scan_by_reading(pn_part *part, const ponder_alloc *a, ponder_error *err)
{
    const uint64_t size = pn_source_size(part->source);
    uint64_t want = PN_MIN(size, (uint64_t)FIRST_READ);
    for (;;) {
        ponder_status s = read_up_to(part, want, a, err);
        if (s) return s;
        cursor c = {.p = part->owned, .n = part->owned_bytes, .size = size, .err = err};
        s = scan(&c, part);
        if (s == PONDER_OK) break;
        if (s != PONDER_MORE) return s;
        want = PN_MIN(size, PN_MAX(c.need, part->owned_bytes * 2));
        if (want > MAX_META && c.need <= MAX_META) want = MAX_META;
    }
    ponder_status s = read_up_to(part, part->meta_bytes, a, err);
    part->meta = part->owned;
    return s;
}

ponder_status pn_gguf_scan(pn_part *part, const ponder_alloc *a, ponder_error *err)
{
    const uint64_t size = pn_source_size(part->source);
    part->meta = pn_source_view(part->source, 0, size);
    if (!part->meta) return scan_by_reading(part, a, err);
    cursor c = {.p = part->meta, .n = size, .size = size, .err = err};
    return scan(&c, part);
}

/* ---- filling the tables: the bytes were scanned, so reading them again cannot fail ------------------------------ */

static cursor again(const pn_part *part, ponder_error *err)
{
    return (cursor){.p = part->meta, .n = part->meta_bytes, .size = part->meta_bytes, .pos = 24, .err = err};
}

ponder_status pn_gguf_fill_kv(pn_checkpoint *c, ponder_error *err)
{
    const pn_part *part = &c->parts[0];
    cursor cur = again(part, err);
    c->kv = pn_zalloc_array(c->a, part->n_kv, sizeof *c->kv);
    if (!c->kv) return pn_nomem(err, part->n_kv * sizeof *c->kv);
    c->n_kv = part->n_kv;
    for (uint32_t i = 0; i < c->n_kv; i++) {
        ponder_status s = take_kv(&cur, &c->kv[i]);
        if (s) return s;
    }
    return PONDER_OK;
}

/* Bytes of a tensor of a known type. */
static bool tensor_bytes(const entry *e, uint64_t *bytes)
{
    size_t row, n = 1;
    for (int i = 1; i < MAX_DIMS; i++)
        if (!pn_mul(n, (size_t)e->ne[i], &n)) return false;
    if (!pn_row_bytes((pn_type)e->type, e->ne[0], &row) || !pn_mul(row, n, &n)) return false;
    *bytes = n;
    return true;
}

static ponder_status fill_tensor(pn_checkpoint *c, uint32_t part_index, const entry *e, ponder_error *err)
{
    const pn_part *part = &c->parts[part_index];
    const uint64_t size = pn_source_size(part->source);
    uint64_t bytes = 0;
    for (int i = 0; i < MAX_DIMS; i++)
        if (e->ne[i] == 0) return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: a dimension of 0", SHOWN(e->name));
    /* A type that is not computed here has a size that is not known here: refused when the tensor is needed. */
    if (pn_type_known(e->type) && !tensor_bytes(e, &bytes))
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: shape [%llu, %llu, %llu, %llu] is no multiple of the block or too large",
                       SHOWN(e->name), (unsigned long long)e->ne[3], (unsigned long long)e->ne[2],
                       (unsigned long long)e->ne[1], (unsigned long long)e->ne[0]);
    if (e->offset % part->alignment != 0)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: offset %llu is not aligned", SHOWN(e->name), (unsigned long long)e->offset);
    if (part->data > size || e->offset > size - part->data || bytes > size - part->data - e->offset)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: %llu bytes at %llu lie outside the file", SHOWN(e->name),
                       (unsigned long long)bytes, (unsigned long long)e->offset);
    pn_tensor *t = pn_checkpoint_next(c, e->name);
    t->type = (pn_type)e->type;
    t->n_dims = e->n_dims;
    memcpy(t->ne, e->ne, sizeof t->ne);
    t->part = part_index;
    t->offset = part->data + e->offset;
    t->bytes = bytes;
    return PONDER_OK;
}

ponder_status pn_gguf_fill_tensors(pn_checkpoint *c, uint32_t part, ponder_error *err)
{
    cursor cur = again(&c->parts[part], err);
    ponder_status s = PONDER_OK;
    for (uint32_t i = 0; i < c->parts[part].n_kv && s == PONDER_OK; i++) {
        pn_kv kv;
        s = take_kv(&cur, &kv);
    }
    for (uint32_t i = 0; i < c->parts[part].n_tensors && s == PONDER_OK; i++) {
        entry e;
        s = take_tensor(&cur, &e);
        if (s == PONDER_OK) s = fill_tensor(c, part, &e, err);
    }
    return s;
}
