/* tokenizer: byte-level BPE, SentencePiece-style BPE, special tokens, whole-UTF-8 streaming. Depends on base only. */
#ifndef PN_TOKENIZER_H
#define PN_TOKENIZER_H

#include "base/base.h"

typedef struct pn_tokenizer pn_tokenizer; /* immutable after creation: any number of threads may use one */

typedef enum pn_vocab_kind { PN_VOCAB_BPE = 1, PN_VOCAB_SPM = 2 } pn_vocab_kind;

/* GGUF's tokenizer.ggml.token_type */
enum { PN_TOK_NORMAL = 1, PN_TOK_UNKNOWN = 2, PN_TOK_CONTROL = 3, PN_TOK_USER = 4, PN_TOK_UNUSED = 5, PN_TOK_BYTE = 6 };

/* A vocabulary as a GGUF holds it. Arrays are borrowed during the call only (the tokenizer copies what it keeps). */
typedef struct pn_vocab {
    pn_vocab_kind kind;
    pn_str pre;                /* tokenizer.ggml.pre: "smollm", "gpt-2", "llama-bpe", "llama4", "qwen2", "deepseek-llm", ... */
    uint32_t n_tokens;
    const pn_str *tokens;      /* BPE: GPT-2 byte-to-unicode text; SPM: pieces with U+2581 */
    const float *scores;       /* SPM; may be NULL */
    const int32_t *types;      /* may be NULL: all normal */
    uint32_t n_merges;
    const pn_str *merges;      /* "left right"; BPE */
    int32_t bos, eos, eot, unk, pad;  /* -1: none */
    int add_bos, add_eos, add_space_prefix; /* -1: not said */
} pn_vocab;

ponder_status pn_tokenizer_from_vocab(pn_tokenizer **out, const pn_vocab *v, const ponder_alloc *a, ponder_error *err);
/* Hugging Face tokenizer.json (type BPE, byte-level or with Metaspace/byte fallback). */
ponder_status pn_tokenizer_from_json(pn_tokenizer **out, const void *json, size_t n, const ponder_alloc *a, ponder_error *err);
/* A tiktoken rank file ("base64 rank" lines) with Muse's pre-tokeniser and Muse's special tokens after the ranks. */
ponder_status pn_tokenizer_from_tiktoken(pn_tokenizer **out, const void *text, size_t n, const ponder_alloc *a, ponder_error *err);
void pn_tokenizer_free(pn_tokenizer *t);

uint32_t pn_tokenizer_size(const pn_tokenizer *t);
int32_t pn_tokenizer_bos(const pn_tokenizer *t);   /* -1: none */
int32_t pn_tokenizer_eos(const pn_tokenizer *t);
int32_t pn_tokenizer_eot(const pn_tokenizer *t);
bool pn_tokenizer_add_bos(const pn_tokenizer *t);
/* The id of a token given as its text (special or plain), or -1. */
int32_t pn_tokenizer_find(const pn_tokenizer *t, const char *text, size_t n);
bool pn_tokenizer_is_special(const pn_tokenizer *t, int32_t id); /* control or user-defined special */
bool pn_tokenizer_is_control(const pn_tokenizer *t, int32_t id); /* never shown as text */
/* The bytes a token stands for (control tokens: their literal text). *n = 0 for ids out of range. */
const char *pn_tokenizer_bytes(const pn_tokenizer *t, int32_t id, size_t *n);

enum {
    PN_TOKENIZE_SPECIAL = 1,   /* special tokens in the text become their ids; without it they are plain text */
    PN_TOKENIZE_BOS = 2        /* put bos first where the model wants it */
};
/* Appends ids to *ids (grown with `a`; *n used, *cap allocated, all may start 0). Any bytes are allowed (invalid UTF-8 too). */
ponder_status pn_tokenize(const pn_tokenizer *t, const char *text, size_t n, uint32_t flags, const ponder_alloc *a,
                          int32_t **ids, size_t *n_ids, size_t *cap, ponder_error *err);

/* Streaming ids -> text: only whole UTF-8 characters come out; bytes that can never become one come out as U+FFFD. */
typedef struct pn_detok {
    const pn_tokenizer *t;
    bool show_control;         /* control tokens appear as their text; otherwise they are dropped */
    bool at_start;             /* SPM: the first piece loses its leading space */
    uint8_t pending[8];
    uint32_t n_pending;
} pn_detok;

void pn_detok_init(pn_detok *d, const pn_tokenizer *t, bool show_control);
/* Appends to out what is complete after this token. */
bool pn_detok_put(pn_detok *d, int32_t id, pn_buf *out);
bool pn_detok_finish(pn_detok *d, pn_buf *out); /* what is pending comes out as U+FFFD */

#endif
