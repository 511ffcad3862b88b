/* What the tests of grammars share: a vocabulary, texts through a matcher, random walks over its masks. */
#ifndef TEST_GRAMMAR_SUPPORT_H
#define TEST_GRAMMAR_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "grammar/grammar.h"
#include "tokenizer/tokenizer.h"

typedef struct vocabulary {
    uint32_t n;
    char *text;
    uint32_t *at;        /* [n + 1] */
    size_t n_text, cap_text, cap_at;
    pn_tokenizer *tokenizer; /* NULL: the made-up vocabulary */
    pn_vocab_trie *trie;
} vocabulary;

/* Every byte, what JSON and calls are made of in every combination of two and three, words, pieces of characters. */
void vocabulary_made(vocabulary *v);
/* A tiktoken rank file (Muse's) or a GGUF. False: there is none. */
bool vocabulary_read(vocabulary *v, const char *path);
void vocabulary_free(vocabulary *v);
const char *token_bytes(void *user, uint32_t id, size_t *n);

uint64_t random_next(uint64_t *state);
size_t random_below(uint64_t *state, size_t n);

/* How far a text gets, token by token: each token must be in the mask and be taken. Returns the bytes taken; n when all
 * were, and the text may end there (else n - 1 at most). */
size_t walk_text(pn_matcher *m, const vocabulary *v, const char *p, size_t n, uint64_t *seed);
/* Tokens from the masks until the text ends; false: a mask led nowhere. After steer_after tokens those that close things are
 * preferred, and now and then one of the hints is written: nobody writes "error" by chance. */
bool sample(pn_matcher *m, const vocabulary *v, uint64_t *seed, size_t steer_after, const pn_str *hints, size_t n_hints, pn_buf *out);

#endif
