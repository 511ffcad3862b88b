/* What the tests of this room share: files, vectors, a GGUF-like vocabulary from a tokenizer.json, a counting allocator. */
#ifndef PN_TESTS_TOKENIZER_SUPPORT_H
#define PN_TESTS_TOKENIZER_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "tokenizer/tokenizer.h"

/* A whole file under tests/data/tokenizer (or an absolute path); free() it. NULL: not there. */
char *read_file(const char *name, size_t *n);
json_t *read_json(const char *name);

/* A tokenizer.json as the arrays of a GGUF. `v` borrows from `root`. */
typedef struct arrays {
    json_t *root;
    pn_vocab v;
    pn_str *tokens, *merges;
    float *scores;
    int32_t *types;
    char *merge_text;
} arrays;
void arrays_from_json(arrays *a, const char *file, pn_vocab_kind kind, const char *pre);
void arrays_free(arrays *a);

/* Fails the allocation number `fail_at` (counted from 1; 0: none); `live` must be 0 in the end. */
typedef struct counter {
    ponder_alloc alloc;
    size_t count, fail_at, live, bytes;
} counter;
void counter_init(counter *c);

/* Checks the ids of every text of the vectors against `expected` (special and plain); prints the first difference. */
void check_vectors(const pn_tokenizer *t, const json_t *texts, const json_t *expected, const char *name);

#endif
