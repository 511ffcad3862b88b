/* checkpoint: what the files of lib/files share and nobody else sees. */
#ifndef PN_FILES_CHECKPOINT_H
#define PN_FILES_CHECKPOINT_H

#include <stdatomic.h>

#include "base/json.h"
#include "files/files.h"

/* Names from files are cut to this length in messages. */
enum { NAME_SHOWN = 96 };
#define SHOWN(s) (int)PN_MIN((s).n, (size_t)NAME_SHOWN), (s).p

/* GGUF's value types. */
enum {
    KV_U8 = 0, KV_I8 = 1, KV_U16 = 2, KV_I16 = 3, KV_U32 = 4, KV_I32 = 5, KV_F32 = 6, KV_BOOL = 7, KV_STR = 8, KV_ARRAY = 9,
    KV_U64 = 10, KV_I64 = 11, KV_F64 = 12, KV_TYPES = 13
};

/* A key with its value, both inside the metadata bytes. Arrays: `type` is the element's, `count` elements follow. */
typedef struct pn_kv {
    pn_str key;
    const uint8_t *data; /* unaligned */
    uint64_t bytes, count;
    uint8_t type;
    bool array;
} pn_kv;

/* One file of the set. `meta` are the bytes before the data: a view of the source, or `owned` when it can only be read. */
typedef struct pn_part {
    pn_source *source;
    const uint8_t *meta;
    uint8_t *owned;
    uint64_t meta_bytes, owned_bytes;
    uint64_t data;      /* offset of the tensors' data */
    uint64_t alignment; /* GGUF */
    uint64_t names;     /* bytes that the tensors' names take, ends included */
    uint32_t n_tensors, n_kv;
    pn_json header;     /* safetensors, while opening */
} pn_part;

/* Element types that a file may hold and nothing here computes with get numbers from here on (safetensors). */
enum { FOREIGN_TYPE = 0x10000 };

struct pn_checkpoint {
    const ponder_alloc *a;
    _Atomic uint32_t held;      /* references beyond the first */
    bool gguf;
    pn_part *parts;
    uint32_t n_parts;
    pn_tensor *tensors;
    uint32_t n_tensors, tensors_cap;
    char *names;
    size_t names_bytes, names_used;
    uint32_t *index;    /* open addressing by name; UINT32_MAX: free */
    uint32_t index_cap;
    pn_kv *kv;
    uint32_t n_kv;
    /* folder */
    pn_json config, generation, tokenizer_config, processors[3]; /* of both; of images and of videos where that has none */
    const pn_value *image_processor, *video_processor, *feature_extractor;
    uint64_t config_hash;
    pn_source *tokenizer, *jinja;
    /* arrays lent out by pn_checkpoint_tokenizer */
    pn_str *tokens, *merges;
    float *scores;
    int32_t *types;
    size_t n_tokens, n_merges, n_scores, n_types;
};

/* gguf.c: one file. Scan finds extents and counts and checks everything that needs no table; fill appends to the checkpoint. */
ponder_status pn_gguf_scan(pn_part *part, const ponder_alloc *a, ponder_error *err);
ponder_status pn_gguf_fill_kv(pn_checkpoint *c, ponder_error *err);
ponder_status pn_gguf_fill_tensors(pn_checkpoint *c, uint32_t part, ponder_error *err);

/* gguf_set.c */
ponder_status pn_gguf_open_path(pn_checkpoint *c, const char *path, ponder_error *err);
ponder_status pn_gguf_open_source(pn_checkpoint *c, pn_source *s, ponder_error *err);

/* safetensors.c: reads and counts a header; appends its tensors. */
ponder_status pn_safetensors_scan(pn_part *part, const ponder_alloc *a, ponder_error *err);
ponder_status pn_safetensors_fill(pn_checkpoint *c, uint32_t part, ponder_error *err);

/* folder.c */
ponder_status pn_folder_open(pn_checkpoint *c, const char *path, ponder_error *err);

/* A folder that is not on a disk: takes both sources over, also on failure. For tests. */
ponder_status pn_folder_open_sources(pn_checkpoint **out, pn_source *config, pn_source *weights, const ponder_alloc *a, ponder_error *err);

/* checkpoint.c */
ponder_status pn_checkpoint_parts(pn_checkpoint *c, uint32_t n, ponder_error *err);
/* The next tensor with its name copied; room was reserved. */
pn_tensor *pn_checkpoint_next(pn_checkpoint *c, pn_str name);
/* Once all parts are scanned: the table of tensors, which `fill` appends part by part, and its index. Refuses names that
 * occur twice and data that overlaps. */
typedef ponder_status (*pn_fill_fn)(pn_checkpoint *c, uint32_t part, ponder_error *err);
ponder_status pn_checkpoint_assemble(pn_checkpoint *c, pn_fill_fn fill, ponder_error *err);
const pn_tensor *pn_checkpoint_named(const pn_checkpoint *c, pn_str name);
/* The element type as a text, foreign ones included. */
const char *pn_element_name(const pn_tensor *t);

/* metadata.c */
const pn_kv *pn_kv_find(const pn_checkpoint *c, const char *key);
bool pn_kv_i64(const pn_kv *kv, uint64_t i, int64_t *out); /* element i of an array, or the value (i 0); no strings, no floats */
bool pn_kv_f64(const pn_kv *kv, uint64_t i, double *out);

/* json.c: a whole document, which must be an object. `what` names it in errors. */
ponder_status pn_json_object(pn_json *out, const void *p, size_t n, const char *what, const ponder_alloc *a, ponder_error *err);
ponder_status pn_json_source(pn_json *out, pn_source *s, const char *what, const ponder_alloc *a, ponder_error *err);

/* describe_*.c; describe.c checks what they found. */
ponder_status pn_describe_gguf(const pn_checkpoint *c, pn_description *d, ponder_error *err);
ponder_status pn_describe_hf(const pn_checkpoint *c, pn_description *d, ponder_error *err);
ponder_status pn_describe_vocab(const pn_checkpoint *c, pn_description *d, ponder_error *err);
/* Numbers that no model can have, whatever they were read from. */
ponder_status pn_describe_check(const pn_description *d, ponder_error *err);
/* What is the same in both containers for an architecture; false: not known here. */
bool pn_describe_arch(pn_description *d, const char *arch);
/* The configuration of the text model inside config.json, and its model_type without "_text". */
const pn_value *pn_folder_text(const pn_checkpoint *c);
/* ids of a JSON value that is an id or a list of ids */
uint32_t pn_json_ids(const pn_value *v, int32_t *ids, uint32_t cap);

/* weights.c: the embedding table and the output head by any of their names; NULL: not there. */
const pn_tensor *pn_find_embedding(const pn_checkpoint *c);
const pn_tensor *pn_find_head(const pn_checkpoint *c);

static inline uint32_t pn_get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t pn_get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

#endif
