/* A loaded checkpoint and an engine over it, for the tests of this room. */
#ifndef RIG_H
#define RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"

typedef struct rig {
    pn_network *net;
    pn_engine *e;
    uint32_t vocab;
} rig;

static inline pn_network *load_network_at(const char *path)
{
    ponder_error err = {.size = sizeof err};
    pn_checkpoint *c;
    if (pn_checkpoint_open(&c, path, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    pn_load_options o = {.repack = true, .quantize = -1};
    pn_network *n;
    if (pn_network_load(&n, c, &o, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    return n;
}

static inline pn_network *load_network(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", getenv("PONDER_TEST_DATA"), name);
    return load_network_at(path);
}

/* A drafter for it, of a folder with a GGUF. */
static inline void load_drafter(pn_network *n, const char *name)
{
    ponder_error err = {.size = sizeof err};
    char path[512];
    pn_checkpoint *c;
    snprintf(path, sizeof path, "%s/%s/model.gguf", getenv("PONDER_TEST_DATA"), name);
    if (pn_checkpoint_open(&c, path, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    pn_load_options o = {.repack = true, .quantize = -1};
    if (pn_network_load_drafter(n, c, &o, &err) != PONDER_OK) fail_msg("%s", err.text);
}

static inline pn_engine_options default_options(void)
{
    return (pn_engine_options){.threads = 1, .cpu = 7, .columns = 64, .chunk = 16, .sequences = 16, .kv = PN_KV_F16};
}

static inline rig rig_over(pn_network *net, const pn_engine_options *o)
{
    rig r = {.net = net};
    ponder_error err = {.size = sizeof err};
    pn_team *t;
    if (pn_team_new(&t, o->threads, o->runner, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    if (pn_engine_new(&r.e, r.net, o, t, NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    r.vocab = r.net->d.vocab;
    return r;
}

static inline rig rig_new(const char *name, const pn_engine_options *o) { return rig_over(load_network(name), o); }

static inline void rig_free(rig *r)
{
    pn_engine_free(r->e);
    pn_network_free(r->net);
}

/* Ids that do not repeat with a short period. */
static inline void make_ids(int32_t *ids, uint32_t n, uint32_t vocab, uint32_t seed)
{
    uint64_t x = seed * 2654435761u + 12345;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (int32_t)((x >> 33) % vocab);
    }
}

static inline pn_sequence *sequence(rig *r, uint32_t limit)
{
    pn_sequence *s;
    ponder_error err = {.size = sizeof err};
    if (pn_sequence_new(&s, r->e, limit, &err) != PONDER_OK) fail_msg("%s", err.text);
    return s;
}

static inline void append(pn_sequence *s, const int32_t *ids, uint32_t n)
{
    ponder_error err = {.size = sizeof err};
    if (pn_sequence_append(s, ids, n, &err) != PONDER_OK) fail_msg("%s", err.text);
}

static inline const float *advance(pn_sequence *s)
{
    ponder_error err = {.size = sizeof err};
    if (pn_sequence_advance(s, 0, &err) != PONDER_OK) fail_msg("%s", err.text);
    return pn_sequence_logits(s);
}

/* The number of the position the logits follow, for a useful failure. */
static inline void same_bits(const float *a, const float *b, uint32_t n, const char *what, uint32_t position)
{
    if (memcmp(a, b, n * sizeof *a) == 0) return;
    for (uint32_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) fail_msg("%s: position %u, logit %u: %a and %a", what, position, i, (double)a[i], (double)b[i]);
}

#endif
