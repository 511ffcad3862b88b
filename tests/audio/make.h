/* WAV files made byte by byte, and an allocator that counts and fails. */
#ifndef TEST_AUDIO_MAKE_H
#define TEST_AUDIO_MAKE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "audio/audio.h"

#define OK(call, err) \
    do { if ((call) != PONDER_OK) fail_msg("%s:%d: %s", __FILE__, __LINE__, (err).text); } while (0)

static inline void put16(pn_buf *b, uint32_t v) { pn_buf_put(b, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8)}, 2); }
static inline void put32(pn_buf *b, uint32_t v) { put16(b, v & 0xffff); put16(b, v >> 16); }
static inline void put64(pn_buf *b, uint64_t v) { put32(b, (uint32_t)v); put32(b, (uint32_t)(v >> 32)); }
static inline void put_f32(pn_buf *b, float f) { uint32_t v; memcpy(&v, &f, 4); put32(b, v); }
static inline void put_f64(pn_buf *b, double f) { uint64_t v; memcpy(&v, &f, 8); put64(b, v); }

static inline void set32(pn_buf *b, size_t at, uint32_t v)
{
    for (size_t i = 0; i < 4; i++) b->p[at + i] = (char)(v >> 8 * i);
}

/* "RIFF" and its size, "WAVE". */
static inline void wav_begin(pn_buf *b, const char *id)
{
    pn_buf_init(b, NULL);
    pn_buf_puts(b, id);
    put32(b, 0);
    pn_buf_puts(b, "WAVE");
}

static inline void wav_format(pn_buf *b, uint32_t tag, uint32_t channels, uint32_t rate, uint32_t bits, uint32_t container)
{
    pn_buf_puts(b, "fmt ");
    put32(b, 16);
    put16(b, tag);
    put16(b, channels);
    put32(b, rate);
    put32(b, rate * channels * container);
    put16(b, channels * container);
    put16(b, bits);
}

/* `bytes`: what the header says; the samples follow. */
static inline void wav_data(pn_buf *b, uint32_t bytes)
{
    pn_buf_puts(b, "data");
    put32(b, bytes);
}

static inline void wav_end(pn_buf *b) { set32(b, 4, (uint32_t)b->n - 8); }

/* ---- allocator ------------------------------------------------------------------------- */

typedef struct counter {
    ponder_alloc a;
    size_t calls, live, fail_at; /* fail_at 0: never; else the call with that number fails */
    size_t bytes, peak;
} counter;

static inline void *counter_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    if (++c->calls == c->fail_at) return NULL;
    c->live++;
    c->bytes += bytes;
    c->peak = PN_MAX(c->peak, c->bytes);
    return aligned_alloc(align, (bytes + align - 1) / align * align);
}

static inline void counter_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live--;
    c->bytes -= bytes;
    free(p);
}

static inline void counter_init(counter *c, size_t fail_at)
{
    *c = (counter){.fail_at = fail_at};
    c->a = (ponder_alloc){.size = sizeof c->a, .user = c, .alloc = counter_alloc, .free = counter_free};
}

/* Reproducible numbers: the state goes on. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
