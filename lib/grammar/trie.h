/* Inside the grammar room: the vocabulary.
 *
 * Two tries in one array, both in preorder: first the tokens that hold anything but safe characters, then the safe ones. A
 * safe token is whole characters of UTF-8, none of them a control character, one of " \ < or a line separator: inside a
 * string or free text all of them may come, so nobody walks through them there. */
#ifndef PN_GRAMMAR_TRIE_H
#define PN_GRAMMAR_TRIE_H

#include <stdatomic.h>

#include "grammar/grammar.h"

enum { TRIE_MOST = (1 << 24) - 2, TOKEN_BYTES_MOST = 255 };

typedef struct pn_trie_node {
    uint32_t skip : 24, byte : 8;   /* the next node that is not below this one: this one + skip */
    uint32_t token : 24, depth : 8; /* token + 1, 0: none ends here; depth: bytes up to here */
} pn_trie_node;

/* A node with much below it (skip is BIG_LEAST or more), so that an automaton that takes all of it need not walk there. */
enum { BIG_LEAST = 16 };
typedef struct pn_trie_big {
    uint32_t node, from, to; /* its tokens: in_order[from..to-1] */
    uint32_t after;          /* the next one that is not below it */
    uint32_t below[4];       /* the bytes of the nodes below it, those that are ASCII */
    uint8_t deepest;         /* bytes below it at most */
    bool wide;               /* not all of them are ASCII */
    bool safe;               /* what is below it are safe characters */
} pn_trie_big;

struct pn_vocab_trie {
    atomic_uint refs;
    ponder_alloc copy;
    const ponder_alloc *a;
    uint32_t n_tokens, n_words;
    pn_trie_node *nodes;
    uint32_t n_nodes, cap_nodes, n_rest; /* nodes[0..n_rest-1]: unsafe tokens; the others: safe ones */
    pn_trie_big *big;        /* in order of their nodes */
    uint32_t n_big, cap_big;
    uint32_t *in_order;      /* all tokens as the nodes come, twins behind each other */
    uint32_t n_in_order;
    uint32_t *twin;          /* of a token: another one with the same bytes, + 1; NULL: there are none */
    uint32_t *at;            /* [n_tokens + 1]: where a token's bytes are */
    char *text;
    size_t text_bytes;
    uint32_t *safe;          /* the words of the mask of all safe tokens */
    uint32_t *by_length;     /* safe tokens, fewest characters first */
    uint32_t n_safe;
    uint32_t length_from[TOKEN_BYTES_MOST + 2]; /* by_length[length_from[n]]: the first with n characters or more */
    uint32_t longest_safe;   /* characters */
    uint32_t longest;        /* bytes, of all */
};

uint32_t pn_trie_find_big(const pn_vocab_trie *t, uint32_t node); /* the first at or behind the node */

static inline const char *pn_trie_bytes(const pn_vocab_trie *t, uint32_t token, size_t *n)
{
    *n = t->at[token + 1] - t->at[token];
    return t->text + t->at[token];
}

static inline void pn_trie_set(const pn_vocab_trie *t, uint32_t *words, uint32_t token)
{
    words[token / 32] |= 1u << token % 32;
    if (PN_UNLIKELY(t->twin != NULL))
        while ((token = t->twin[token]) != 0) {
            token--;
            words[token / 32] |= 1u << token % 32;
        }
}

#endif
