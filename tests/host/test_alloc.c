/* Every allocation fails in turn over open -> generate -> free: through the host's ponder_alloc, and through malloc,
 * which this program replaces for every library in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>

#include "host.h"

/* ---- counting ---------------------------------------------------------------------------------------------- */

static struct {
    _Atomic long calls, fail_at, live;
    _Atomic bool onwards; /* every later one fails too */
} count;

static void count_from(long fail_at, bool onwards)
{
    count.calls = 0;
    count.live = 0;
    count.onwards = onwards;
    count.fail_at = fail_at;
}

static bool fails(void)
{
    long call = count.calls++, at = count.fail_at;
    return at >= 0 && (call == at || (count.onwards && call > at));
}

/* ---- ponder_alloc ------------------------------------------------------------------------------------------ */

enum { GUARD = 64 };

/* The size stands before the memory, so that a wrong size at free is seen. */
static void *host_alloc(void *user, size_t bytes, size_t align)
{
    (void)user;
    if (fails() || bytes > SIZE_MAX - 2 * align - GUARD) return NULL;
    size_t head = align > GUARD ? align : GUARD;
    char *p = NULL;
    if (posix_memalign((void **)&p, head, head + bytes)) return NULL;
    memcpy(p + head - sizeof bytes, &bytes, sizeof bytes);
    memcpy(p + head - 2 * sizeof bytes, &head, sizeof head);
    count.live++;
    return p + head;
}

static void host_free(void *user, void *p, size_t bytes)
{
    (void)user;
    if (!p) return;
    size_t had, head;
    memcpy(&had, (char *)p - sizeof had, sizeof had);
    memcpy(&head, (char *)p - 2 * sizeof had, sizeof head);
    if (had != bytes) {
        fprintf(stderr, "freed with %zu bytes, allocated with %zu\n", bytes, had);
        abort();
    }
    count.live--;
    free((char *)p - head);
}

static const ponder_alloc host = {sizeof host, NULL, host_alloc, host_free};

static bool may_be(ponder_status s)
{
    return s == PONDER_OK || s == PONDER_E_NOMEM || s == PONDER_E_THREAD;
}

/* Returns the number of allocations of a whole life. Each must have failed once, with a status, and with nothing left. */
static long every_one_fails(const ponder_alloc *alloc, const model_case *m, int64_t threads, bool onwards)
{
    for (long at = 0;; at++) {
        bool same;
        count_from(at, onwards);
        ponder_status s = whole_life(&linked, alloc, threads, m, &same);
        count.fail_at = -1;
        bool reached = count.calls > at;
        if (count.live != 0) fail_msg("allocation %ld failed: %ld left", at, (long)count.live);
        if (s == PONDER_OK && !same) fail_msg("allocation %ld failed: other tokens", at);
        if (!may_be(s)) fail_msg("allocation %ld failed: status %d", at, (int)s);
        if (s == PONDER_OK && !reached) return count.calls;
        if (s != PONDER_OK && !reached) fail_msg("status %d though no allocation failed", (int)s);
    }
}

static void host_allocator(void **state)
{
    (void)state;
    for (int onwards = 0; onwards < 2; onwards++) {
        long n = every_one_fails(&host, &llama_case, 1, onwards);
        printf("llama: %ld allocations\n", n);
        n = every_one_fails(&host, &llama_case, 2, onwards);
        n = every_one_fails(&host, &seed_case, 1, onwards);
        printf("seed0: %ld allocations\n", n);
    }
}

/* ---- malloc ------------------------------------------------------------------------------------------------ */

#if !SANITIZED && defined(__GLIBC__)
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
extern void __libc_free(void *p);

static _Atomic bool watching;

static void *counted(void *p)
{
    if (p && watching) count.live++;
    return p;
}

static bool refused(void)
{
    if (!watching || !fails()) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return refused() ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return refused() ? NULL : counted(__libc_calloc(n, size)); }
void *aligned_alloc(size_t align, size_t n) { return refused() ? NULL : counted(__libc_memalign(align, n)); }
void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n) { return refused() ? NULL : counted(__libc_memalign(align, n)); }

void *realloc(void *p, size_t n)
{
    if (refused()) return NULL;
    void *q = __libc_realloc(p, n);
    return p ? q : counted(q);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    if (refused()) return ENOMEM;
    *out = counted(__libc_memalign(align, n));
    return *out ? 0 : ENOMEM;
}

void free(void *p)
{
    if (p && watching) count.live--;
    __libc_free(p);
}

static void any_malloc(void **state)
{
    (void)state;
    bool same;
    count_from(-1, false);
    assert_int_equal(whole_life(&linked, &host, 1, &seed_case, &same), PONDER_OK);
    const long all = count.calls; /* the host's allocator gets every piece of memory: there is no malloc beside it */
    assert_int_equal(whole_life(&linked, NULL, 1, &seed_case, &same), PONDER_OK); /* what the C library keeps for itself */
    for (int onwards = 0; onwards < 2; onwards++) {
        watching = true;
        long n = every_one_fails(NULL, &llama_case, 1, onwards);
        watching = false;
        printf("llama: %ld calls of malloc\n", n);
        watching = true;
        n = every_one_fails(NULL, &seed_case, 1, onwards);
        watching = false;
        assert_int_equal(n, all);
        printf("seed0: %ld calls of malloc\n", n);
    }
}
#else
static void any_malloc(void **state)
{
    (void)state;
    skip(); /* the sanitizer has its own malloc */
}
#endif

/* Opening must not allocate for each entry of a vocabulary: seed0 has 416 tokens and some eighty tensors. */
static void few_allocations(void **state)
{
    (void)state;
    static const model_case *const cases[] = {&llama_case, &seed_case};
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool same;
        count_from(-1, false);
        assert_int_equal(whole_life(&linked, &host, 1, cases[i], &same), PONDER_OK);
        assert_true(same);
        assert_true(count.calls < 160);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_allocations),
        cmocka_unit_test(host_allocator),
        cmocka_unit_test(any_malloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
