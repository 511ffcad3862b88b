/* base: status and error text, allocator, growable bytes, clock, thread team.
 * Depends on nothing but the C library, POSIX threads and ponder.h's types. */
#ifndef PN_BASE_H
#define PN_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ponder.h"

#if defined(__GNUC__)
#define PN_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define PN_LIKELY(x) __builtin_expect(!!(x), 1)
#define PN_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define PN_PRINTF(f, a)
#define PN_LIKELY(x) (x)
#define PN_UNLIKELY(x) (x)
#endif

#define PN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define PN_MAX(a, b) ((a) > (b) ? (a) : (b))
#define PN_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A string that need not end in NUL and is not owned. */
typedef struct pn_str {
    const char *p;
    size_t n;
} pn_str;

static inline pn_str pn_str_of(const char *s) { pn_str r = {s, s ? strlen(s) : 0}; return r; }
static inline bool pn_str_eq(pn_str a, const char *b)
{
    size_t n = strlen(b);
    return a.n == n && memcmp(a.p, b, n) == 0;
}

/* ---- errors ---------------------------------------------------------------
 * Writes one line (control bytes replaced) into `err` when it is not NULL and
 * returns `status`, so that a failure is `return pn_fail(err, PONDER_E_..., ...)`.
 * Never allocates, never depends on the locale. */
ponder_status pn_fail(ponder_error *err, ponder_status status, const char *fmt, ...) PN_PRINTF(3, 4);
ponder_status pn_nomem(ponder_error *err, size_t bytes);
void pn_error_clear(ponder_error *err);

/* ---- memory ----------------------------------------------------------------
 * `a` may be NULL: the C library. Frees take the size that was asked for.
 * All memory is aligned to at least 16; pn_alloc_aligned takes more. */
void *pn_alloc(const ponder_alloc *a, size_t bytes);                 /* uninitialised; bytes 0 -> 1 */
void *pn_zalloc(const ponder_alloc *a, size_t bytes);                /* zeroed */
void *pn_zalloc_array(const ponder_alloc *a, size_t n, size_t size); /* NULL on overflow too */
void *pn_alloc_aligned(const ponder_alloc *a, size_t bytes, size_t align);
void *pn_grow(const ponder_alloc *a, void *p, size_t old_bytes, size_t new_bytes); /* p stays valid on NULL */
void pn_free(const ponder_alloc *a, void *p, size_t bytes);          /* NULL p is a no-op */
bool pn_mul(size_t a, size_t b, size_t *out);                        /* false on overflow */
bool pn_add(size_t a, size_t b, size_t *out);

/* Growable bytes. `failed` latches, so a run of appends needs one check. */
typedef struct pn_buf {
    const ponder_alloc *a;
    char *p;
    size_t n, cap;
    bool failed;
} pn_buf;

void pn_buf_init(pn_buf *b, const ponder_alloc *a);
void pn_buf_free(pn_buf *b);
bool pn_buf_reserve(pn_buf *b, size_t more);
bool pn_buf_put(pn_buf *b, const void *p, size_t n);
bool pn_buf_puts(pn_buf *b, const char *s);
bool pn_buf_printf(pn_buf *b, const char *fmt, ...) PN_PRINTF(2, 3);  /* integers and strings only: locale */

/* ---- clock ----------------------------------------------------------------- */
uint64_t pn_now_us(void); /* monotonic */

/* ---- thread team -------------------------------------------------------------
 * `threads` counts the caller: 1 means no thread is started. Workers spin
 * briefly between jobs of one pn_team_begin/_end span and sleep otherwise. */
typedef struct pn_team pn_team;
typedef void (*pn_team_fn)(void *ctx, uint32_t thread, uint32_t part);

ponder_status pn_team_new(pn_team **out, uint32_t threads, const ponder_runner *runner, const ponder_alloc *a,
                          ponder_error *err);
void pn_team_free(pn_team *t);
uint32_t pn_team_size(const pn_team *t);
void pn_team_begin(pn_team *t); /* wake the workers: jobs follow soon */
void pn_team_end(pn_team *t);   /* let them sleep */
/* Runs fn(ctx, thread, part) for every part in 0..parts-1, each once, on the team; returns when all are done. */
void pn_team_run(pn_team *t, pn_team_fn fn, void *ctx, uint32_t parts);

/* ---- hashing (state files, caches) -------------------------------------------- */
uint64_t pn_hash64(const void *p, size_t n, uint64_t seed);

/* ---- the host's world ----------------------------------------------------------
 * Floating-point control word: round to nearest, no traps, denormals kept. */
typedef struct pn_fenv { uint32_t mxcsr; uint64_t other; } pn_fenv;
void pn_fenv_enter(pn_fenv *saved);
void pn_fenv_leave(const pn_fenv *saved);
/* A number as JSON writes it, of any length, to the nearest double (infinity when it is too large); in any locale. */
double pn_decimal(pn_str number);

#endif
