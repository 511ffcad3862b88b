#include "files/checkpoint.h"

/* A safetensors file: 8 bytes of length, that many bytes of JSON (name -> dtype, shape, data_offsets), the data. */

enum { MAX_HEADER = 100 << 20 };

typedef struct dtype {
    const char *name;
    uint32_t type, bits;
} dtype;

/* The first three are computed with; the rest is known so that its size can be checked and its name said. */
static const dtype dtypes[] = {
    {"F32", PN_F32, 32}, {"F16", PN_F16, 16}, {"BF16", PN_BF16, 16},
    {"F64", FOREIGN_TYPE + 3, 64}, {"I64", FOREIGN_TYPE + 4, 64}, {"I32", FOREIGN_TYPE + 5, 32},
    {"I16", FOREIGN_TYPE + 6, 16}, {"I8", FOREIGN_TYPE + 7, 8}, {"U64", FOREIGN_TYPE + 8, 64},
    {"U32", FOREIGN_TYPE + 9, 32}, {"U16", FOREIGN_TYPE + 10, 16}, {"U8", FOREIGN_TYPE + 11, 8},
    {"BOOL", FOREIGN_TYPE + 12, 8}, {"F8_E4M3", FOREIGN_TYPE + 13, 8}, {"F8_E5M2", FOREIGN_TYPE + 14, 8},
    {"F8_E8M0", FOREIGN_TYPE + 15, 8}, {"C64", FOREIGN_TYPE + 16, 64}, {"F4", FOREIGN_TYPE + 17, 4},
};

const char *pn_element_name(const pn_tensor *t)
{
    static const char *const ggml[] = {
        "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64",
        "F64", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8",
        "IQ4_NL_8_8", "MXFP4", "NVFP4",
    };
    const uint32_t type = (uint32_t)t->type;
    if (type < PN_COUNT(ggml)) return ggml[type];
    if (type >= FOREIGN_TYPE && type - FOREIGN_TYPE < PN_COUNT(dtypes)) return dtypes[type - FOREIGN_TYPE].name;
    return "an unknown type";
}

static bool is_tensor(const pn_value *v)
{
    return !pn_str_eq(v->key, "__metadata__");
}

ponder_status pn_safetensors_scan(pn_part *part, const ponder_alloc *a, ponder_error *err)
{
    const uint64_t size = pn_source_size(part->source);
    const uint8_t *p = pn_source_view(part->source, 0, size);
    if (!p) return pn_fail(err, PONDER_E_IO, "safetensors: cannot be mapped");
    if (size < 8) return pn_fail(err, PONDER_E_FORMAT, "truncated safetensors: no header length");
    const uint64_t n = pn_get64(p);
    if (n > MAX_HEADER || n > size - 8)
        return pn_fail(err, PONDER_E_FORMAT, "truncated safetensors: a header of %llu bytes", (unsigned long long)n);
    ponder_status s = pn_json_object(&part->header, p + 8, (size_t)n, "safetensors header", a, err);
    if (s) return s;
    part->data = part->meta_bytes = 8 + n;
    for (const pn_value *v = pn_json_root(&part->header)->first; v; v = v->next) {
        if (!is_tensor(v)) continue;
        part->n_tensors++;
        part->names += v->key.n + 1;
    }
    return PONDER_OK;
}

static const dtype *find_dtype(const pn_value *v)
{
    for (size_t i = 0; i < PN_COUNT(dtypes); i++)
        if (pn_is(v, dtypes[i].name)) return &dtypes[i];
    return NULL;
}

static bool natural(const pn_value *v, uint64_t *out)
{
    int64_t n;
    if (!pn_value_i64(v, 0, INT64_MAX, &n)) return false;
    *out = (uint64_t)n;
    return true;
}

/* Sizes outermost first, as row-major shapes are written; ne[] has the innermost first. More than four dimensions fold
 * into the outermost: only towers have them, and nothing here computes those. */
static bool read_shape(const pn_value *shape, pn_tensor *t, uint64_t *values)
{
    const size_t n = shape->count;
    if (shape->type != PN_V_LIST || n > 16) return false;
    for (int i = 0; i < 4; i++) t->ne[i] = 1;
    *values = 1;
    size_t i = 0;
    for (const pn_value *e = shape->first; e; e = e->next, i++) {
        uint64_t v;
        const size_t dim = PN_MIN(n - 1 - i, (size_t)3);
        if (!natural(e, &v)) return false;
        if (__builtin_mul_overflow(*values, v, values)) return false;
        if (__builtin_mul_overflow(t->ne[dim], v, &t->ne[dim])) return false;
    }
    t->n_dims = (uint32_t)PN_MIN(n, (size_t)4);
    return true;
}

static ponder_status fill_tensor(pn_checkpoint *c, uint32_t index, const pn_value *v, ponder_error *err)
{
    const pn_part *part = &c->parts[index];
    const uint64_t room = pn_source_size(part->source) - part->data;
    const pn_value *offsets = pn_get(v, "data_offsets");
    const dtype *d = find_dtype(pn_get(v, "dtype"));
    const pn_str name = v->key;
    uint64_t values, bits, from, to;
    if (name.n == 0) return pn_fail(err, PONDER_E_FORMAT, "safetensors: a tensor without a name");
    if (memchr(name.p, 0, name.n)) return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: a zero byte in its name", SHOWN(name));
    pn_tensor *t = pn_checkpoint_next(c, name);
    if (!d) return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: dtype missing or unknown", SHOWN(name));
    if (!read_shape(pn_get(v, "shape"), t, &values)) return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: shape", SHOWN(name));
    if (offsets->count != 2 || !natural(pn_at(offsets, 0), &from) || !natural(pn_at(offsets, 1), &to))
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: data_offsets", SHOWN(name));
    if (from > to || to > room)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: data_offsets %llu..%llu lie outside the file", SHOWN(name),
                       (unsigned long long)from, (unsigned long long)to);
    if (__builtin_mul_overflow(values, (uint64_t)d->bits, &bits) || bits % 8 != 0 || bits / 8 != to - from)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.*s: %llu bytes do not fit its shape", SHOWN(name), (unsigned long long)(to - from));
    t->type = (pn_type)d->type;
    t->part = index;
    t->offset = part->data + from;
    t->bytes = to - from;
    return PONDER_OK;
}

ponder_status pn_safetensors_fill(pn_checkpoint *c, uint32_t part, ponder_error *err)
{
    pn_json *header = &c->parts[part].header;
    for (const pn_value *v = pn_json_root(header)->first; v; v = v->next) {
        ponder_status s = is_tensor(v) ? fill_tensor(c, part, v, err) : PONDER_OK;
        if (s) return s;
    }
    pn_json_free(header);
    return PONDER_OK;
}
