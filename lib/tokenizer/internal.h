/* What the files of this room share. */
#ifndef PN_TOKENIZER_INTERNAL_H
#define PN_TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tokenizer/tokenizer.h"

enum {
    TOKEN_TEXT = 1,     /* text can become it by merging */
    TOKEN_CONTROL = 2,  /* matched whole, and only when special tokens are asked for */
    TOKEN_USER = 4,     /* matched whole in any text (the file adds it as ordinary text) */
    TOKEN_BYTE = 8      /* stands for one byte that has no piece of its own (SPM) */
};

enum { MAX_SPLITS = 12, MAX_TOKENS = 1 << 24, MAX_TEXT = 1 << 30 };
#define NO_RANK UINT32_MAX
#define NO_ID UINT32_MAX

typedef struct pn_token { uint32_t at, len, flags; } pn_token;
typedef struct pn_slot { uint32_t id, tag; } pn_slot;                 /* id NO_ID: empty */
typedef struct pn_pair { uint32_t left, right, rank, id; } pn_pair;   /* left NO_ID: empty */

/* How a match and the text between matches become pieces (Hugging Face's names). */
typedef enum pn_behavior { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_KEEP_MATCHES, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT } pn_behavior;
typedef struct pn_split {
    pcre2_code *code;
    bool jit;
    pn_behavior behavior;
} pn_split;

typedef enum pn_prefix { PREFIX_NONE, PREFIX_FIRST, PREFIX_ALWAYS } pn_prefix;

struct pn_tokenizer {
    ponder_alloc copy;
    const ponder_alloc *a;      /* &copy or NULL */
    pn_vocab_kind kind;
    uint32_t n;                 /* ids are 0..n-1; holes have length 0 */
    pn_token *token;
    char *text;                 /* every token's bytes; SPM: U+2581 already turned into spaces */
    size_t text_n, text_cap;
    pn_slot *slot;              /* bytes -> id of TOKEN_TEXT tokens; slot_mask + 1 of them */
    uint32_t slot_mask;
    pn_pair *pair;              /* (left, right) -> rank, merged; NULL: any two whose joined bytes are a token merge */
    uint32_t pair_mask;
    uint32_t *rank;             /* without pairs: of each token, the lowest merges first; NULL: the id itself */
    uint32_t max_len;           /* bytes of the longest TOKEN_TEXT token */
    uint32_t *special;          /* ids of control and user tokens, sorted by bytes */
    uint32_t n_special;
    bool special_start[256];
    uint32_t byte_id[256];      /* BPE: token of this one byte; SPM: byte fallback */
    bool whole_first;           /* a piece that is a token is taken whole, without merging */
    bool fuse_unknown, metaspace, nfc;
    pn_prefix prefix;
    bool prefix_unless_space;   /* not before text that already begins with a space */
    bool add_bos;
    int32_t bos, eos, eot, unk;
    pcre2_general_context *pcre;
    pn_split split[MAX_SPLITS];
    uint32_t n_splits;
};

/* One call's working memory. */
typedef struct pn_node { uint32_t prev, next, id, rank, merged; } pn_node;
typedef struct pn_work {
    const pn_tokenizer *t;
    const ponder_alloc *a;
    ponder_error *err;
    int32_t **ids;
    size_t *n_ids, *cap;
    pn_node *node;
    uint64_t *heap;
    size_t node_cap, heap_n;
    pcre2_general_context *pcre;
    pcre2_match_context *match;
    pcre2_match_data *data;
    pcre2_jit_stack *stack;
    bool after_unknown;
} pn_work;

/* ---- table.c: building and looking up ---- */
ponder_status pn_tok_new(pn_tokenizer **out, pn_vocab_kind kind, uint32_t n, size_t text_bytes, const ponder_alloc *a,
                         ponder_error *err);
/* Gives id its bytes; what does not fit the room asked for is PONDER_E_INTERNAL. A second call for an id replaces the first. */
ponder_status pn_tok_set(pn_tokenizer *t, uint32_t id, const char *p, size_t n, uint32_t flags, ponder_error *err);
ponder_status pn_tok_index(pn_tokenizer *t, ponder_error *err); /* after the last pn_tok_set */
uint32_t pn_tok_lookup(const pn_tokenizer *t, const char *p, size_t n);
ponder_status pn_tok_pairs(pn_tokenizer *t, uint32_t n, ponder_error *err);
/* Both as bytes, the left one's n_left first; the number is for the error text and is the rank. *last: the token that the merge before
 * made (NO_ID: none), and then this one's. */
ponder_status pn_tok_add_pair(pn_tokenizer *t, pn_str both, size_t n_left, uint32_t number, uint32_t *last, ponder_error *err);
const pn_pair *pn_tok_pair(const pn_tokenizer *t, uint32_t left, uint32_t right);
/* The longest special token that text begins with, or NO_ID. */
uint32_t pn_tok_special_at(const pn_tokenizer *t, const char *p, size_t n, bool control);
bool pn_tok_is_delimiter(const char *p, size_t n); /* looks like a chat delimiter: never made from a user's text */
void pn_tok_guess_ends(pn_tokenizer *t);           /* bos, eos, eot by their usual names, where unset */

/* ---- text.c ---- */
typedef enum pn_utf8 { UTF8_OK, UTF8_BAD, UTF8_PARTIAL } pn_utf8;
/* Bytes of the character at p (n > 0); UTF8_BAD: of the maximal ill-formed part; UTF8_PARTIAL: it may still be completed. */
uint32_t pn_utf8_step(const uint8_t *p, size_t n, pn_utf8 *state);
uint32_t pn_utf8_read(const uint8_t *p, uint32_t len);        /* of a valid character */
uint32_t pn_utf8_write(uint32_t c, char out[4]);
bool pn_utf8_valid(const char *p, size_t n);
bool pn_utf8_repair(const char *p, size_t n, pn_buf *out);    /* ill-formed parts become U+FFFD */
bool pn_bytes_from_unicode(pn_str s, pn_buf *out);            /* GPT-2's printable text -> bytes; other characters stay */
bool pn_spaces_from_meta(pn_str s, pn_buf *out);              /* U+2581 -> space */

/* ---- pattern.c ---- */
/* Adds a stage. The pattern is Oniguruma's as far as the supported files use it; PONDER_E_UNSUPPORTED names what is not. */
ponder_status pn_split_add(pn_tokenizer *t, pn_str pattern, pn_behavior behavior, ponder_error *err);
ponder_status pn_split_add_literal(pn_tokenizer *t, pn_str text, pn_behavior behavior, ponder_error *err);
ponder_status pn_split_preset(pn_tokenizer *t, pn_str name, ponder_error *err); /* by tokenizer.ggml.pre; also sets whole_first */
ponder_status pn_split_digits(pn_tokenizer *t, bool individual, ponder_error *err);
void pn_split_free(pn_tokenizer *t);
ponder_status pn_split_begin(pn_work *w); /* makes what matching needs */
void pn_split_end(pn_work *w);
/* Cuts text and hands every piece to pn_merge. */
ponder_status pn_split_run(pn_work *w, uint32_t stage, const char *p, size_t n);

/* ---- merge.c ---- */
ponder_status pn_merge(pn_work *w, const char *p, size_t n);
ponder_status pn_work_room(pn_work *w, size_t more); /* in *ids */
void pn_work_free(pn_work *w);

/* ---- nfc.c ---- */
bool pn_nfc_is(const char *p, size_t n);               /* false: may need work */
bool pn_nfc(const char *p, size_t n, pn_buf *out);     /* valid UTF-8 in and out */

#endif
