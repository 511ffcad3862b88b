/* libjpeg takes memory from malloc alone: every call of it fails in turn, and nothing is left. */
#include "made.h"

#include <stdatomic.h>

#if PN_HAVE_JPEG && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void __libc_free(void *p);

static struct { bool watching, onwards; long calls, fail_at, live; } count;

static bool refused(void)
{
    if (!count.watching) return false;
    const long call = count.calls++;
    return call == count.fail_at || (count.onwards && call > count.fail_at);
}

static void *counted(void *p)
{
    if (p && count.watching) count.live++;
    return p;
}

void *malloc(size_t n) { return refused() ? NULL : counted(__libc_malloc(n)); }
void *calloc(size_t n, size_t size) { return refused() ? NULL : counted(__libc_calloc(n, size)); }

void *realloc(void *p, size_t n)
{
    if (refused()) return NULL;
    void *q = __libc_realloc(p, n);
    return p ? q : counted(q);
}

void free(void *p)
{
    if (p && count.watching) count.live--;
    __libc_free(p);
}

static void fail_each(const char *name, bool onwards)
{
    size_t n;
    uint8_t *file = data_file(name, &n);
    ponder_error e = {.size = sizeof e};
    long at = 0;
    pn_image *whole;
    assert_int_equal(pn_image_from_memory(&whole, file, n, NULL, NULL, &e), PONDER_OK);
    for (bool done = false; !done; at++) {
        pn_image *im;
        count.calls = count.live = 0;
        count.fail_at = at;
        count.onwards = onwards;
        count.watching = true;
        const ponder_status st = pn_image_from_memory(&im, file, n, NULL, NULL, &e);
        const bool same = im && pn_image_hash(im) == pn_image_hash(whole);
        pn_image_free(im);
        count.watching = false;
        done = count.calls <= at;
        /* libjpeg asks once more, for less, when one call fails: then all is well. */
        const bool may_do = done || !onwards;
        if (!(st == PONDER_E_NOMEM && !done) && !(st == PONDER_OK && may_do && same)) fail_msg("%s, call %ld: %d, %s", name, at, (int)st, e.text);
        if (count.live) fail_msg("%s, call %ld: %ld left", name, at, count.live);
    }
    assert_true(at > 5);
    pn_image_free(whole);
    free(file);
}

static void test_any_malloc(void **state)
{
    (void)state;
    static const char *names[] = {"420.jpg", "420-progressive.jpg", "cmyk.jpg", "grey.jpg", "turned6.jpg", "restart.jpg"};
    for (size_t i = 0; i < PN_COUNT(names); i++)
        for (int onwards = 0; onwards < 2; onwards++) {
            char path[64];
            snprintf(path, sizeof path, "pictures/%s", names[i]);
            fail_each(path, onwards);
        }
}
#else
static void test_any_malloc(void **state)
{
    (void)state;
    skip(); /* no libjpeg, or a malloc that cannot be stood in for */
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_malloc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
