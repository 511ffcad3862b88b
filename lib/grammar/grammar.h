/* grammar: JSON Schema, regular expressions and tool calls -> an automaton over bytes, with a stack -> token masks.
 * Depends on base only. What is understood and what is refused: doc/structured-output.md.
 *
 * A grammar says which byte strings are whole; a matcher follows one text through it and says which tokens may come next.
 * Every state a matcher can reach can be finished: no mask leads into a dead end. */
#ifndef PN_GRAMMAR_H
#define PN_GRAMMAR_H

#include "base/base.h"

/* ---- grammars: immutable, counted, any number of threads ---------------------------------------------------------- */
typedef struct pn_grammar pn_grammar;

enum {
    PN_GRAMMAR_COMPACT = 1, /* JSON without white space; otherwise the usual spellings, bounded (structured-output.md) */
    PN_GRAMMAR_CLOSED = 2   /* objects that do not speak of additionalProperties take none (JSON Schema lets them take any) */
};
enum { PN_GRAMMAR_DEPTH = 64 }; /* arrays and objects nest at most so deep in what is written */

/* PONDER_E_FORMAT: no JSON, or a keyword's value is none; PONDER_E_UNSUPPORTED: a keyword outside the subset; PONDER_E_RANGE:
 * too deep, too large, or nothing can match. The text names keyword and JSON pointer. */
ponder_status pn_grammar_schema(pn_grammar **out, const char *json, size_t n, uint32_t flags, const ponder_alloc *a,
                                ponder_error *err);
/* The whole text matches the pattern (anchors are implied). */
ponder_status pn_grammar_regex(pn_grammar **out, const char *pattern, size_t n, const ponder_alloc *a, ponder_error *err);

typedef struct pn_tool_schema {
    pn_str name;       /* as it is to be written: "ns.fn" */
    pn_str parameters; /* JSON Schema of an object; empty: no arguments */
} pn_tool_schema;

/* One of the tools is called:
 * <atem:function_calls>\n<atem:invoke name="ns.fn">\n<atem:parameter name="k">VALUE</atem:parameter>\n...</atem:invoke>\n</atem:function_calls>
 * Strings are bare text without "</atem:parameter>", everything else is JSON. Parameters the schema does not declare are
 * taken only if additionalProperties says so. */
ponder_status pn_grammar_call_muse(pn_grammar **out, const pn_tool_schema *tools, size_t n, uint32_t flags,
                                   const ponder_alloc *a, ponder_error *err);
/* {"name": "fn", "arguments": {...}}, nothing around it. */
ponder_status pn_grammar_call_json(pn_grammar **out, const pn_tool_schema *tools, size_t n, uint32_t flags,
                                   const ponder_alloc *a, ponder_error *err);

/* The same things one after another; PN_PIECE_OR begins an alternative sequence. */
typedef enum pn_piece_kind {
    PN_PIECE_LITERAL = 1, /* text */
    PN_PIECE_UNTIL,       /* any UTF-8 text up to and with the first occurrence of `text` */
    PN_PIECE_WITHOUT,     /* any UTF-8 text in which `text` does not occur; empty `text`: any at all. Must stand last */
    PN_PIECE_SCHEMA,      /* JSON Schema in `text` */
    PN_PIECE_REGEX,       /* pattern in `text` */
    PN_PIECE_CALL_MUSE,   /* tools */
    PN_PIECE_CALL_JSON,   /* tools */
    PN_PIECE_OR
} pn_piece_kind;

typedef struct pn_piece {
    pn_piece_kind kind;
    uint32_t flags; /* PN_GRAMMAR_* */
    pn_str text;
    const pn_tool_schema *tools;
    size_t n_tools;
} pn_piece;

ponder_status pn_grammar_pieces(pn_grammar **out, const pn_piece *pieces, size_t n, const ponder_alloc *a, ponder_error *err);

pn_grammar *pn_grammar_ref(pn_grammar *g);
void pn_grammar_free(pn_grammar *g); /* gives up one reference; NULL is fine */

/* ---- the vocabulary as a trie: built once a model, immutable, counted, any number of threads ------------------------- */
typedef struct pn_vocab_trie pn_vocab_trie;

/* The bytes that token `id` stands for. *n = 0 for what no grammar may write: special tokens, unused ids. The bytes must
 * stay only until the trie is built. */
typedef const char *(*pn_token_bytes_fn)(void *user, uint32_t id, size_t *n);

/* n_tokens: width of the logits. PONDER_E_RANGE above 2^24 - 2 tokens or trie nodes. */
ponder_status pn_vocab_trie_new(pn_vocab_trie **out, uint32_t n_tokens, pn_token_bytes_fn bytes, void *user,
                                const ponder_alloc *a, ponder_error *err);
pn_vocab_trie *pn_vocab_trie_ref(pn_vocab_trie *t);
void pn_vocab_trie_free(pn_vocab_trie *t);
size_t pn_vocab_trie_bytes(const pn_vocab_trie *t); /* memory held */
uint32_t pn_vocab_trie_tokens(const pn_vocab_trie *t);

/* ---- a matcher: the state of one text over a grammar. One thread at a time; clones may live in other threads ----------- */
typedef struct pn_matcher pn_matcher;

enum { PN_MATCHER_CACHE = 16 << 20 }; /* bytes of cached states and masks that a matcher and its clones share */

/* `undo`: how many tokens can be taken back (8 bytes each). Holds references on both. */
ponder_status pn_matcher_new(pn_matcher **out, pn_grammar *g, pn_vocab_trie *t, uint32_t undo, size_t cache_bytes,
                             const ponder_alloc *a, ponder_error *err);
/* Same place in the text, own life; the caches are shared (and locked), so a clone costs a few hundred bytes. */
ponder_status pn_matcher_clone(pn_matcher **out, const pn_matcher *m, ponder_error *err);
void pn_matcher_free(pn_matcher *m);
/* `to` takes the place of `from`, undo included; they must be clones of each other (PONDER_E_ARGUMENT). Never allocates. */
ponder_status pn_matcher_assign(pn_matcher *to, const pn_matcher *from);
void pn_matcher_reset(pn_matcher *m); /* to the beginning; the caches stay warm */

/* Takes a token. PONDER_E_ARGUMENT: the grammar does not allow it; PONDER_E_NOMEM. After a failure the place is unchanged. */
ponder_status pn_matcher_accept(pn_matcher *m, int32_t token, ponder_error *err);
/* Takes bytes; counts as one token for pn_matcher_rollback. */
ponder_status pn_matcher_accept_bytes(pn_matcher *m, const void *p, size_t n, ponder_error *err);
/* Takes back the last n tokens. PONDER_E_RANGE: more than are remembered; the place is unchanged. */
ponder_status pn_matcher_rollback(pn_matcher *m, uint32_t n);
uint32_t pn_matcher_undoable(const pn_matcher *m);

/* words[(n_tokens + 31) / 32]: bit id % 32 of word id / 32 is set when the token may come next. End tokens are the caller's:
 * they may come when pn_matcher_can_end. All bits are written. */
ponder_status pn_matcher_mask(pn_matcher *m, uint32_t *words, ponder_error *err);
bool pn_matcher_allows(pn_matcher *m, int32_t token); /* also false when memory is out */
bool pn_matcher_can_end(const pn_matcher *m); /* the text so far is whole */
bool pn_matcher_is_done(const pn_matcher *m); /* it is whole and nothing can follow */
/* Appends the bytes that must come next whatever the model says (none at a choice or where the text may end). */
ponder_status pn_matcher_forced(pn_matcher *m, pn_buf *out, ponder_error *err);

/* How the caches did; for tests and measurements. */
typedef struct pn_matcher_stats {
    uint64_t states, masks_computed, masks_cached, sweeps, cut_short;
    size_t bytes;
} pn_matcher_stats;
void pn_matcher_get_stats(const pn_matcher *m, pn_matcher_stats *out);

#endif
