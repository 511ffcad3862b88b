/* files: byte sources, GGUF and safetensors containers, the model description read from their metadata.
 * Everything read is an attacker's: each length, offset, product and nesting is checked before use. */
#ifndef PN_FILES_H
#define PN_FILES_H

#include "base/base.h"
#include "tensor/tensor.h" /* pn_type only */
#include "tokenizer/tokenizer.h" /* pn_vocab only */

/* ---- byte sources ------------------------------------------------------------ */
typedef struct pn_source pn_source;
ponder_status pn_source_path(pn_source **out, const char *path, const ponder_alloc *a, ponder_error *err); /* mapped */
/* For files that others may still write: read by copy, since a mapped file that is cut short raises SIGBUS. */
ponder_status pn_source_path_unmapped(pn_source **out, const char *path, const ponder_alloc *a, ponder_error *err);
ponder_status pn_source_memory(pn_source **out, const void *p, size_t n, const ponder_alloc *a, ponder_error *err);
ponder_status pn_source_fd(pn_source **out, int fd, uint64_t offset, uint64_t length, const ponder_alloc *a, ponder_error *err);
ponder_status pn_source_callback(pn_source **out, const ponder_source *s, const ponder_alloc *a, ponder_error *err);
void pn_source_free(pn_source *s);
uint64_t pn_source_size(const pn_source *s);
/* Direct view or NULL when the source is only readable by copy (callback). Path and fd are mapped where possible. */
const uint8_t *pn_source_view(const pn_source *s, uint64_t offset, uint64_t n);
ponder_status pn_source_read(pn_source *s, uint64_t offset, void *to, size_t n, ponder_error *err);
/* As pn_source_read, but never from mapped pages, where a failing disk would be a signal. Any thread. */
ponder_status pn_source_copy(pn_source *s, uint64_t offset, void *to, size_t n, ponder_error *err);
/* The bytes will be copied soon: the system may begin to read them. A hint. */
void pn_source_soon(pn_source *s, uint64_t offset, uint64_t n);
/* The bytes will not be needed soon: give mapped pages back. A no-op for the other kinds. */
void pn_source_drop(pn_source *s, uint64_t offset, uint64_t n);

/* ---- a checkpoint: tensors and metadata of a GGUF or of a Hugging Face folder ----- */
typedef struct pn_tensor {
    const char *name;       /* NUL-terminated, owned by the checkpoint */
    pn_type type;
    uint32_t n_dims;
    uint64_t ne[4];         /* ne[0] varies fastest (a row); unused dimensions are 1 */
    uint32_t part;          /* which file of a split set */
    uint64_t offset;        /* bytes in that file */
    uint64_t bytes;
} pn_tensor;

typedef struct pn_checkpoint pn_checkpoint;

/* A GGUF (any part of a split set; the others are found beside it) or a folder. */
ponder_status pn_checkpoint_open(pn_checkpoint **out, const char *path, const ponder_alloc *a, ponder_error *err);
/* A GGUF from a source; takes the source over, also on failure. A split file is refused here. */
ponder_status pn_checkpoint_open_source(pn_checkpoint **out, pn_source *s, const ponder_alloc *a, ponder_error *err);
pn_checkpoint *pn_checkpoint_hold(pn_checkpoint *c);     /* one reference more; each is given back by a free */
void pn_checkpoint_free(pn_checkpoint *c);
bool pn_checkpoint_is_gguf(const pn_checkpoint *c);
uint64_t pn_checkpoint_bytes(const pn_checkpoint *c);    /* all files together */
uint32_t pn_checkpoint_count(const pn_checkpoint *c);
const pn_tensor *pn_checkpoint_at(const pn_checkpoint *c, uint32_t i);
const pn_tensor *pn_checkpoint_find(const pn_checkpoint *c, const char *name); /* NULL: none */
const uint8_t *pn_checkpoint_view(const pn_checkpoint *c, const pn_tensor *t); /* NULL: read it instead */
ponder_status pn_checkpoint_read(pn_checkpoint *c, const pn_tensor *t, uint64_t from, void *to, size_t n, ponder_error *err);
ponder_status pn_checkpoint_copy(pn_checkpoint *c, const pn_tensor *t, uint64_t from, void *to, size_t n, ponder_error *err); /* pn_source_copy */
void pn_checkpoint_soon(pn_checkpoint *c, const pn_tensor *t, uint64_t from, uint64_t n);
void pn_checkpoint_drop(pn_checkpoint *c, const pn_tensor *t, uint64_t from, uint64_t n);
/* FNV/xx-like 64-bit hash over the metadata, the tensor table, and 4 KB samples from start, middle and end of every tensor. */
ponder_status pn_checkpoint_hash(pn_checkpoint *c, uint64_t *out, ponder_error *err);

/* Metadata by key. In a folder the key is a path into config.json ("vision_config.hidden_size"), or, after "image_processor."
 * and "video_processor." and "feature_extractor.", into what these are configured with; null counts as absent. false: absent or of another type. */
bool pn_checkpoint_i64(const pn_checkpoint *c, const char *key, int64_t *out);
bool pn_checkpoint_f64(const pn_checkpoint *c, const char *key, double *out);
bool pn_checkpoint_str(const pn_checkpoint *c, const char *key, pn_str *out);
/* Element i of a list, or the value itself (i 0). */
bool pn_checkpoint_i64_at(const pn_checkpoint *c, const char *key, uint64_t i, int64_t *out);
bool pn_checkpoint_f64_at(const pn_checkpoint *c, const char *key, uint64_t i, double *out);
bool pn_checkpoint_str_at(const pn_checkpoint *c, const char *key, uint64_t i, pn_str *out);
typedef enum pn_shape { PN_SHAPE_NONE, PN_SHAPE_ONE, PN_SHAPE_LIST } pn_shape;
pn_shape pn_checkpoint_shape(const pn_checkpoint *c, const char *key, uint64_t *n); /* n: elements */

/* Numbers read one after another from keys with a common prefix: the first failure, which names its key, latches. */
typedef struct pn_keys {
    const pn_checkpoint *c;
    const char *prefix;       /* "clip.vision." */
    ponder_error *err;
    ponder_status status;
} pn_keys;

enum { PN_REQUIRED = -1 };    /* instead of a default */
/* least when something failed; float: 1. */
uint32_t pn_keys_u32(pn_keys *k, const char *name, int64_t otherwise, uint32_t least, uint32_t most);
uint32_t pn_keys_u32_at(pn_keys *k, const char *name, uint64_t i, uint32_t least, uint32_t most); /* of a list; required */
float pn_keys_f32(pn_keys *k, const char *name, double otherwise); /* finite; NAN: required */
/* Fails with PONDER_E_UNSUPPORTED unless the text is `want`, or absent and `otherwise` is. */
void pn_keys_text(pn_keys *k, const char *name, const char *otherwise, const char *want);
/* The chat template: GGUF's tokenizer.chat_template, or the folder's chat_template.jinja / tokenizer_config.json. */
bool pn_checkpoint_template(const pn_checkpoint *c, pn_str *out);
pn_str pn_checkpoint_name(const pn_checkpoint *c);       /* general.name or the folder's _name_or_path; may be empty */
/* The tokenizer: for a GGUF a vocabulary (arrays owned by the checkpoint, valid until pn_checkpoint_drop_vocab), for a folder
 * the bytes of tokenizer.json. `*found` false: it has none. Token and merge arrays are one allocation each. */
typedef struct pn_tokenizer_data {
    bool found;
    bool is_json;
    pn_vocab vocab;
    pn_str json;
} pn_tokenizer_data;
ponder_status pn_checkpoint_tokenizer(pn_checkpoint *c, pn_tokenizer_data *out, ponder_error *err);
void pn_checkpoint_drop_vocab(pn_checkpoint *c);
/* Ids that end generation, from metadata (GGUF eos/eot; generation_config.json or config.json eos_token_id, one or a list). */
uint32_t pn_checkpoint_ends(const pn_checkpoint *c, int32_t *ids, uint32_t cap);

/* ---- description ---------------------------------------------------------------
 * Every number of the decoder, from metadata alone. Both containers give the same description but for what the
 * GGUF converters change (rope_pairs, norm_offset, ...), which is said here rather than undone in the weights. */
typedef enum pn_norm_use { PN_USE_NONE = 0, PN_USE_WEIGHT = 1, PN_USE_BARE = 2, PN_USE_INPUT = 3 } pn_norm_use;
/* none; rms * weight; weightless rms; rms(x * weight) */
typedef enum pn_activation { PN_ACT_SILU = 1, PN_ACT_GELU_TANH = 2, PN_ACT_GELU = 3 } pn_activation;

typedef struct pn_layer_info {
    bool sliding;          /* sees only the last `window` positions, its own included */
    bool rope;             /* false: no positional encoding */
    bool local_rope;       /* uses theta_local without scaling (gemma3's sliding layers) */
    bool sparse;           /* mixture of experts */
} pn_layer_info;

enum { PN_MAX_LAYERS = 512, PN_MAX_TAPS = 16, PN_MAX_BLOCK = 128 };

typedef struct pn_description {
    char arch[24];         /* "llama", "qwen2", "qwen3", "gemma3", "muse-glimmer", "muse-spark" */
    uint32_t layers, width, heads, kv_heads, head_dim, ff, vocab, context;
    float eps, post_eps;   /* post_eps: of post-attention/post-feed-forward/post-expert norms */
    float embed_scale;     /* embedding rows are multiplied by it; 1: not (gemma3: sqrt(width), rounded as the reference does) */
    bool embed_norm;       /* weightless norm of every input row */
    float norm_offset;     /* added to stored weights of layer norms (1 for centred norms in safetensors, else 0) */
    float final_norm_offset;
    bool qkv_bias;
    bool out_bias;         /* attention output projection has a bias (llama attention_bias) */
    pn_norm_use qk_norm;   /* per head */
    float qk_norm_offset;  /* gemma3 safetensors: 1 */
    float q_scale;         /* q is multiplied by it after its norm; 1: not */
    bool gate;             /* attention output gate: a * sigmoid(Wg h) before the output projection */
    bool head_norm;        /* weightless norm of each head's attention result, before the gate */
    pn_norm_use post_attn, post_ffn;
    bool residual_gate;
    float residual_temperature;   /* safetensors: compute alpha, beta from the gate vectors; 0: alpha, beta are stored */
    float attn_scale;
    uint32_t window;       /* 0: none */
    bool rope_pairs;       /* rotate neighbours (GGUF of llama and muse), else split halves */
    uint32_t rot_dim;      /* values of a head that are rotated */
    float theta, theta_local;
    /* rope scaling of the global tables: 0 none, 1 linear, 2 llama3 */
    uint32_t rope_scaling;
    float rope_factor, rope_low, rope_high;
    uint32_t rope_original;
    /* llama3-scaled frequencies stored in a GGUF as rope_freqs.weight (factors dividing each frequency): found by name */
    pn_activation act;
    float logit_scale;     /* multiply, then cap */
    float softcap;         /* 0: none */
    bool tied;             /* head = embedding */
    uint32_t experts, experts_used, expert_ff, expert_width; /* expert_width: what an expert reads and writes (muse: latent) */
    float router_scale;    /* router product times this (safetensors: output_multiplier; GGUF: folded in, 1) */
    bool expert_latent;    /* pre/post expert projections and pre_expert_norm */
    float routed_scale;
    bool experts_norm;     /* routing weights divided by their sum */
    bool fused_gate_up;    /* safetensors: one tensor [E][2F][M], gate first */
    int32_t bos, eos;      /* -1: unknown */
    /* A drafter (DFlash): */
    uint32_t block;        /* positions of a pass, the newest token and mask tokens behind it; 0: no drafter */
    int32_t mask;
    uint32_t n_taps;       /* residual streams of its target that it reads side by side, */
    uint16_t tap[PN_MAX_TAPS]; /* each as it enters this layer */
    pn_layer_info layer[PN_MAX_LAYERS];
} pn_description;

/* PONDER_E_UNSUPPORTED: an architecture or a setting that is not computed here, named. PONDER_E_FORMAT: a key missing,
 * of the wrong type or absurd, named. Also checks that numbers fit each other (heads divide by kv_heads, ...). */
ponder_status pn_describe(const pn_checkpoint *c, pn_description *d, ponder_error *err);
/* A drafter for `target`: what it shares with it (vocabulary, width) must agree. */
ponder_status pn_describe_drafter(const pn_checkpoint *c, const pn_description *target, pn_description *d, ponder_error *err);

/* What a weight is for; layer is ignored by the first group. */
typedef enum pn_role {
    PN_W_EMBED, PN_W_NORM, PN_W_HEAD, PN_W_ROPE_FACTORS,
    PN_W_ATTN_NORM, PN_W_Q, PN_W_K, PN_W_V, PN_W_G, PN_W_O,
    PN_W_Q_BIAS, PN_W_K_BIAS, PN_W_V_BIAS, PN_W_O_BIAS, PN_W_Q_NORM, PN_W_K_NORM, PN_W_POST_ATTN,
    PN_W_FFN_NORM, PN_W_GATE, PN_W_UP, PN_W_DOWN, PN_W_POST_FFN,
    PN_W_ATTN_ALPHA, PN_W_ATTN_BETA, PN_W_FFN_ALPHA, PN_W_FFN_BETA, PN_W_ATTN_RGATE, PN_W_FFN_RGATE,
    PN_W_ROUTER, PN_W_ROUTER_BIAS, PN_W_LATENT_DOWN, PN_W_LATENT_UP, PN_W_PRE_EXPERT_NORM, PN_W_POST_EXPERT_NORM,
    PN_W_EXPERTS_GATE, PN_W_EXPERTS_UP, PN_W_EXPERTS_DOWN,
    PN_W_CONTEXT, PN_W_CONTEXT_NORM,
    PN_W_COUNT
} pn_role;

/* A matrix (or vector, rows 1) inside a tensor; experts: `batch` matrices, batch_stride bytes apart. */
typedef struct pn_slice {
    const pn_tensor *tensor;
    uint64_t from;          /* bytes from the tensor's start */
    uint64_t rows, cols;    /* cols = K */
    uint64_t row_stride, batch, batch_stride;
} pn_slice;

/* The tensor of that name, whose sizes must be exactly ne (as in pn_tensor; 0 counts as 1), as `rows` rows. PONDER_E_FORMAT names
 * what is missing or differs. */
ponder_status pn_slice_named(pn_slice *out, const pn_checkpoint *c, const char *name, const uint64_t ne[4], uint64_t rows,
                             ponder_error *err);
/* Finds the weight, checks its shape against the description (PONDER_E_FORMAT names tensor and shapes). An optional weight
 * that the description says is not used gives found = false and PONDER_OK. */
ponder_status pn_find_weight(const pn_checkpoint *c, const pn_description *d, pn_role role, uint32_t layer, pn_slice *out,
                             bool *found, ponder_error *err);

#endif
