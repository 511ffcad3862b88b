/* Each allocation fails in turn, from opening to a second turn: a status, and nothing left. The library's own go through the
 * host's functions; libcurl's are the C library's, which this program replaces (on the calling thread: the server must live). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ponder.h>

#include "server.h"

static struct {
    long calls, fail_at, live;
} count;

static bool fails(void) { return count.calls++ == count.fail_at; }

static void *host_alloc(void *user, size_t bytes, size_t align)
{
    void *p = NULL;
    (void)user;
    if (fails() || posix_memalign(&p, align < 16 ? 16 : align, bytes)) return NULL;
    count.live++;
    return p;
}

static void host_free(void *user, void *p, size_t bytes)
{
    (void)user, (void)bytes;
    if (p) count.live--;
    free(p);
}

static const char answer[] =
    "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";

static bool serve(test_server *s, test_request *r)
{
    (void)s;
    return test_stream_head(r->fd) && test_stream(r->fd, answer, 100) && test_stream_end(r->fd);
}

static int32_t listen_to(void *user, const ponder_event *e)
{
    size_t *bytes = user;
    *bytes += e->text_bytes;
    return 0;
}

static const char tools[] = "[{\"name\": \"f\"}]";

/* Two turns and a fork. */
static ponder_status talk(ponder_model *m, ponder_config *c)
{
    ponder_session *s = NULL, *fork = NULL;
    size_t bytes = 0;
    ponder_status st = ponder_session_new(&s, m, c);
    if (st == PONDER_OK) st = ponder_session_tools(s, tools, sizeof tools - 1);
    if (st == PONDER_OK) st = ponder_session_add(s, "user", "one", 3);
    if (st == PONDER_OK) st = ponder_session_generate(s, listen_to, &bytes);
    if (st == PONDER_OK) st = ponder_session_add_result(s, "f", "2", 1);
    if (st == PONDER_OK) st = ponder_session_fork(&fork, s, NULL);
    if (st == PONDER_OK) st = ponder_session_generate(fork, listen_to, &bytes);
    ponder_session_free(fork);
    ponder_session_free(s);
    return st;
}

static ponder_status whole_life(const ponder_alloc *a, const char *url)
{
    ponder_config *c;
    ponder_model *m = NULL;
    ponder_status st = ponder_config_new(&c, a);
    if (st != PONDER_OK) return st;
    st = ponder_config_set_str(c, PONDER_P_REMOTE_KEY, "k3y");
    if (st == PONDER_OK) st = ponder_config_set_str(c, PONDER_P_SCHEMA, "{}");
    if (st == PONDER_OK) st = ponder_config_set_str(c, PONDER_P_STOP, "END");
    if (st == PONDER_OK) st = ponder_config_set_i64(c, PONDER_P_REMOTE_RETRIES, 0);
    if (st == PONDER_OK) st = ponder_model_open_remote(&m, url, c);
    if (st == PONDER_OK) st = talk(m, c);
    ponder_model_free(m);
    ponder_config_free(c);
    return st;
}

static void test_host_allocator(void **state)
{
    (void)state;
    static const ponder_alloc host = {sizeof host, NULL, host_alloc, host_free};
    test_server s;
    test_server_start(&s, serve, NULL, models_vllm);
    for (long at = 0;; at++) {
        count.calls = count.live = 0;
        count.fail_at = at;
        ponder_status st = whole_life(&host, s.url);
        if (count.live != 0) fail_msg("allocation %ld failed: %ld left", at, count.live);
        if (count.calls <= at) {
            assert_int_equal(st, PONDER_OK);
            break;
        }
        if (st != PONDER_E_NOMEM && st != PONDER_OK) fail_msg("allocation %ld failed: status %d", at, st);
    }
    printf("%ld allocations\n", count.calls);
    test_server_stop(&s);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

static __thread bool watching;

static bool refused(void)
{
    if (!watching || !fails()) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return refused() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return refused() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return refused() ? NULL : __libc_realloc(p, n); }

/* libcurl says "out of memory", or no more than that it could not connect or send: any failure will do, a crash or a hang will not. */
static void test_every_malloc(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, serve, NULL, models_vllm);
    assert_int_equal(whole_life(NULL, s.url), PONDER_OK); /* what is loaded once is loaded */
    for (long at = 0;; at++) {
        count.calls = 0;
        count.fail_at = at;
        watching = true;
        ponder_status st = whole_life(NULL, s.url);
        watching = false;
        if (count.calls <= at) {
            assert_int_equal(st, PONDER_OK);
            break;
        }
        if (st != PONDER_OK && st != PONDER_E_NOMEM && st != PONDER_E_IO && st != PONDER_E_UNSUPPORTED) fail_msg("call %ld failed: status %d", at, st);
    }
    printf("%ld calls of malloc\n", count.calls);
    test_server_stop(&s);
}
#else
static void test_every_malloc(void **state)
{
    (void)state;
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_host_allocator), cmocka_unit_test(test_every_malloc)};
    return cmocka_run_group_tests_name("remote-memory", tests, NULL, NULL);
}
