/* Inside the grammar room: the automaton while it is built and when it is done.
 *
 * A grammar is a set of rules. A rule is a nondeterministic automaton over bytes; one of its edges may be a *call*: the
 * bytes of another rule stand there. What is called begins with an opener byte ('{' or '[') that belongs to nothing else
 * there, and ends with its closer: the nesting is visible in the text (a visibly pushdown automaton), which is why sets of
 * states with one stack suffice (dfa.h) and no alternative ever needs a stack of its own.
 *
 * Two counters run along, of array items and of characters. Both are functions of the text alone (every alternative that
 * counts has begun at the same byte), so they do not multiply the sets either. */
#ifndef PN_GRAMMAR_NFA_H
#define PN_GRAMMAR_NFA_H

#include <stdatomic.h>

#include "grammar/grammar.h"

typedef uint32_t pn_nid; /* a node; 0 is the dead one */

typedef enum pn_node_kind {
    N_DEAD = 0,
    N_BYTE,  /* lo..hi -> next */
    N_SPLIT, /* next or arg, nothing read */
    N_CALL,  /* rule arg, then next */
    N_COUNT, /* counter lo goes up, at most to arg: with hi it stays there, without hi the way ends */
    N_CHECK, /* counter lo is at least arg and goes back to 0 */
    N_FREE,  /* a promise about what follows: frees[arg] */
    N_FINAL  /* of rule arg */
} pn_node_kind;

enum { COUNT_ITEMS = 0, COUNT_CHARS = 1, COUNT_MOST = 1000000 };
enum { NEED_NEVER = 255 };
enum { MAX_NODES = 1 << 20, MAX_RULES = 1 << 16, MAX_WORK = 40000000 };

typedef struct pn_node {
    uint8_t kind, lo, hi;
    uint8_t need; /* levels of nesting below this one that reaching the rule's end takes at least; NEED_NEVER: no way */
    uint32_t next, arg;
} pn_node;

/* Text of safe characters (trie.c) may stand here, whatever it is, unless its first byte is in `except`; inside the loop it stays. */
typedef struct pn_free_mark {
    uint32_t except[8];
    pn_nid first, last; /* the nodes of the loop: first <= node < last */
    uint32_t least, most; /* what the character counter must reach, and may; UINT32_MAX: no limit */
} pn_free_mark;

typedef struct pn_rule {
    uint8_t opener, need; /* rule 0 is the text itself: no opener */
    pn_nid start;         /* after the opener */
} pn_rule;

struct pn_grammar {
    atomic_uint refs;
    ponder_alloc copy;
    const ponder_alloc *a;
    pn_node *nodes;
    size_t n_nodes, cap_nodes;
    pn_rule *rules;
    size_t n_rules, cap_rules;
    pn_free_mark *frees;
    size_t n_frees, cap_frees;
    uint32_t n_classes;      /* bytes that no edge tells apart share a class */
    uint8_t class_of[256], byte_of[256];
};

/* ---- building: backwards, each piece is given what follows it and returns where it begins. The first failure latches; what
 * is built after it is rubbish that nobody looks at. */
typedef struct pn_build {
    pn_grammar *g;
    const ponder_alloc *a;
    ponder_error *err;
    ponder_status status;
    uint64_t work;
} pn_build;

ponder_status pn_build_begin(pn_build *b, const ponder_alloc *a, ponder_error *err);
/* Computes what the matcher wants to know; drops the grammar unless all went well. Root: rule 0's start. */
ponder_status pn_build_end(pn_build *b, pn_nid root, pn_grammar **out);
ponder_status pn_build_fail(pn_build *b, ponder_status status, const char *fmt, ...) PN_PRINTF(3, 4);
bool pn_build_work(pn_build *b, uint64_t units); /* false: stop (too much, or failed before) */
bool pn_build_room(pn_build *b, void **p, size_t *cap, size_t n, size_t size); /* an array with place for one more */

pn_nid pn_node_new(pn_build *b, pn_node node);
pn_nid pn_byte(pn_build *b, uint32_t lo, uint32_t hi, pn_nid next);
pn_nid pn_split(pn_build *b, pn_nid x, pn_nid y); /* a dead side falls away */
pn_nid pn_call(pn_build *b, uint32_t rule, pn_nid next);
pn_nid pn_count(pn_build *b, uint32_t counter, uint32_t most, bool stays, pn_nid next);
pn_nid pn_check(pn_build *b, uint32_t counter, uint32_t least, pn_nid next);
pn_nid pn_final(pn_build *b, uint32_t rule);
pn_nid pn_literal(pn_build *b, const char *p, size_t n, pn_nid next);
/* One of the texts; they are sorted in place. */
pn_nid pn_literals(pn_build *b, pn_str *texts, size_t n, pn_nid next);
uint32_t pn_rule_new(pn_build *b, uint8_t opener);

/* ---- characters (chars.c) */
typedef enum pn_spelling {
    SPELL_RAW = 0, /* UTF-8 as it is */
    SPELL_JSON,    /* inside a JSON string, each character in one way: escaped only where it must be */
    SPELL_ANY      /* inside a JSON string, every escape JSON knows, but half surrogate pairs */
} pn_spelling;

typedef struct pn_range { uint32_t lo, hi; } pn_range; /* code points */

/* A character out of sorted ranges that do not touch. avoid_lt (a JSON string inside a Muse call): '<' as \u003c, and in
 * raw text not at all, so that nothing can close the parameter. */
pn_nid pn_chars(pn_build *b, const pn_range *r, size_t n, pn_spelling s, bool avoid_lt, pn_nid next);
void pn_spell(pn_buf *out, const char *p, size_t n, pn_spelling s, bool avoid_lt);
bool pn_is_utf8(pn_str s);
bool pn_range_covers_safe(const pn_range *r, size_t n); /* every safe character is in it */
pn_nid pn_free_new(pn_build *b, const uint32_t except[8], uint32_t least, uint32_t most, pn_nid first, pn_nid next);

/* Any characters, `least` to `most` of them (UINT32_MAX: no limit), then `next`. `avoid`: bytes that must not occur in what is
 * written ("" for none). With `until` the text goes up to and with their first occurrence, and nothing is counted. */
typedef struct pn_text_spec {
    pn_spelling spelling;
    uint32_t least, most;
    pn_str avoid;
    bool until;
} pn_text_spec;
pn_nid pn_text_any(pn_build *b, const pn_text_spec *s, pn_nid next);
/* Characters (`spelling` once each) that do not spell one of the names, and are followed by the byte `close`, then next. */
pn_nid pn_text_except(pn_build *b, pn_str *names, size_t n, pn_spelling s, bool avoid_lt, uint8_t close, pn_nid next);

/* ---- patterns (pattern.c) */
typedef struct pn_pattern_spec {
    pn_spelling spelling;
    bool avoid_lt;
    bool whole;           /* anchors are implied; otherwise the pattern may match anywhere, as JSON Schema says */
    uint32_t least, most; /* characters */
    const char *where;    /* for the error text */
} pn_pattern_spec;
pn_nid pn_pattern(pn_build *b, pn_str pattern, const pn_pattern_spec *s, pn_nid next);

/* ---- numbers (number.c): decimal digits, exact */
enum { NUMBER_DIGITS = 20 };
typedef struct pn_bound {
    bool set, open; /* open: the value itself is outside */
    bool minus;
    uint8_t whole[NUMBER_DIGITS], fraction[NUMBER_DIGITS]; /* digits; no leading zero in whole, no trailing one in fraction */
    uint8_t n_whole, n_fraction;
    bool huge; /* beyond NUMBER_DIGITS whole digits */
} pn_bound;
typedef struct pn_number_spec {
    pn_bound lo, hi;
    bool integer;
    uint32_t multiple; /* 1: any */
} pn_number_spec;
enum { NUMBER_MULTIPLE = 128 };
struct pn_value;
bool pn_bound_read(pn_bound *out, const struct pn_value *v); /* false: too many digits after the point */
int pn_bound_compare(const pn_bound *x, const pn_bound *y); /* of the values */
pn_nid pn_number(pn_build *b, const pn_number_spec *s, pn_nid next);
bool pn_number_holds(const pn_number_spec *s, const struct pn_value *v);
void pn_number_spell(pn_buf *out, const struct pn_value *v);

#endif
