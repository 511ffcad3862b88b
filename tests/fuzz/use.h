/* Reads everything that a checkpoint offers; for the fuzz targets of the files room. */
#ifndef FUZZ_USE_H
#define FUZZ_USE_H

#include <stdlib.h>

#include "files/files.h"

static void use_strings(const pn_tokenizer_data *t)
{
    volatile char sink = 0;
    for (uint32_t i = 0; i < t->vocab.n_tokens; i++)
        if (t->vocab.tokens[i].n) sink ^= t->vocab.tokens[i].p[t->vocab.tokens[i].n - 1];
    for (uint32_t i = 0; i < t->vocab.n_merges; i++)
        if (t->vocab.merges[i].n) sink ^= t->vocab.merges[i].p[t->vocab.merges[i].n - 1];
    (void)sink;
}

/* What a slice promises must lie inside the tensor, and the tensor inside the file. */
static void use_slice(const pn_checkpoint *c, const pn_slice *s)
{
    if (s->batch == 0 || s->rows == 0 || s->from + (s->batch - 1) * s->batch_stride + s->rows * s->row_stride > s->tensor->bytes) abort();
    const uint8_t *p = pn_checkpoint_view(c, s->tensor);
    if (!p) return; /* not aligned */
    volatile uint8_t sink = p[s->from] ^ p[s->tensor->bytes - 1];
    (void)sink;
}

static void use_checkpoint(pn_checkpoint *c)
{
    static pn_description d;
    ponder_error e = {.size = sizeof e};
    pn_tokenizer_data t;
    uint64_t hash;
    pn_str s;
    int32_t ids[8];
    if (pn_describe(c, &d, &e) == PONDER_OK) {
        for (int role = 0; role < PN_W_COUNT; role++) {
            for (uint32_t i = 0; i < d.layers; i++) {
                pn_slice slice;
                bool found;
                if (pn_find_weight(c, &d, (pn_role)role, i, &slice, &found, &e)) break;
                if (found) use_slice(c, &slice);
            }
        }
    }
    if (pn_checkpoint_tokenizer(c, &t, &e) == PONDER_OK && t.found) use_strings(&t);
    pn_checkpoint_hash(c, &hash, &e);
    pn_checkpoint_template(c, &s);
    pn_checkpoint_name(c);
    pn_checkpoint_ends(c, ids, 8);
    pn_checkpoint_free(c);
}

#endif
