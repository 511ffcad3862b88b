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

ponder_status pn_safetensors_scan(pn_part *part, ponder_error *err)
{
    const uint64_t size = pn_source_size(part->source);
    const uint8_t *p = pn_source_view(part->source, 0, size);
    if (!p) return pn_fail(err, PONDER_E_IO, "safetensors: cannot be mapped");
    if (size < 8) return pn_fail(err, PONDER_E_FORMAT, "truncated safetensors: no header length");
    const uint64_t n = pn_get64(p);
    if (n > MAX_HEADER || n > size - 8)
        return pn_fail(err, PONDER_E_FORMAT, "truncated safetensors: a header of %llu bytes", (unsigned long long)n);
    ponder_status s = pn_json_parse(&part->header, p + 8, (size_t)n, false, "safetensors header", err);
    if (s) return s;
    if (!json_is_object(part->header)) return pn_fail(err, PONDER_E_FORMAT, "safetensors header: not a JSON object");
    part->data = part->meta_bytes = 8 + n;
    const char *name;
    json_t *v;
    json_object_foreach(part->header, name, v) {
        if (strcmp(name, "__metadata__") == 0) continue;
        part->n_tensors++;
        part->names += strlen(name) + 1;
    }
    return PONDER_OK;
}

static const dtype *find_dtype(const json_t *v)
{
    const char *name = json_string_value(v);
    for (size_t i = 0; name && i < PN_COUNT(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

static bool natural(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* Sizes outermost first, as row-major shapes are written; ne[] has the innermost first. More than four dimensions fold
 * into the outermost: only towers have them, and nothing here computes those. */
static bool read_shape(const json_t *shape, pn_tensor *t, uint64_t *values)
{
    const size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > 16) return false;
    for (int i = 0; i < 4; i++) t->ne[i] = 1;
    *values = 1;
    for (size_t i = n; i-- > 0;) {
        uint64_t v;
        const size_t dim = PN_MIN(n - 1 - i, (size_t)3);
        if (!natural(json_array_get(shape, i), &v)) return false;
        if (__builtin_mul_overflow(*values, v, values)) return false;
        if (__builtin_mul_overflow(t->ne[dim], v, &t->ne[dim])) return false;
    }
    t->n_dims = (uint32_t)PN_MIN(n, (size_t)4);
    return true;
}

static ponder_status fill_tensor(pn_checkpoint *c, uint32_t index, const char *name, const json_t *v, ponder_error *err)
{
    const pn_part *part = &c->parts[index];
    const uint64_t room = pn_source_size(part->source) - part->data;
    const json_t *offsets = json_object_get(v, "data_offsets");
    const dtype *d = find_dtype(json_object_get(v, "dtype"));
    uint64_t values, bits, from, to;
    if (name[0] == 0) return pn_fail(err, PONDER_E_FORMAT, "safetensors: a tensor without a name");
    pn_tensor *t = pn_checkpoint_next(c, pn_str_of(name));
    if (!d) return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: dtype missing or unknown", name);
    if (!read_shape(json_object_get(v, "shape"), t, &values)) return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: shape", name);
    if (json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &from) || !natural(json_array_get(offsets, 1), &to))
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: data_offsets", name);
    if (from > to || to > room)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: data_offsets %llu..%llu lie outside the file", name,
                       (unsigned long long)from, (unsigned long long)to);
    if (__builtin_mul_overflow(values, (uint64_t)d->bits, &bits) || bits % 8 != 0 || bits / 8 != to - from)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: %llu bytes do not fit its shape", name, (unsigned long long)(to - from));
    t->type = (pn_type)d->type;
    t->part = index;
    t->offset = part->data + from;
    t->bytes = to - from;
    return PONDER_OK;
}

ponder_status pn_safetensors_fill(pn_checkpoint *c, uint32_t part, ponder_error *err)
{
    const char *name;
    json_t *v;
    json_object_foreach(c->parts[part].header, name, v) {
        if (strcmp(name, "__metadata__") == 0) continue;
        ponder_status s = fill_tensor(c, part, name, v, err);
        if (s) return s;
    }
    json_decref(c->parts[part].header);
    c->parts[part].header = NULL;
    return PONDER_OK;
}
