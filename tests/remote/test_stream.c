/* The reader of events by itself: what comes out does not depend on how the stream was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "remote/remote.h"

typedef struct record {
    char text[4096];
    ponder_status st;
} record;

static void put(record *r, const char *kind, pn_str a, pn_str b)
{
    const size_t n = strlen(r->text);
    snprintf(r->text + n, sizeof r->text - n, "%s%.*s%s%.*s|", kind, (int)a.n, a.n ? a.p : "", b.n ? "=" : "", (int)b.n, b.n ? b.p : "");
}

/* Neighbouring texts of one kind are joined by the comparison: a stream's pieces are its own. */
static void take(record *r, pn_reply *reply, bool end)
{
    pn_reply_piece p;
    ponder_error e = {.size = sizeof e};
    while (r->st == PONDER_OK) {
        r->st = pn_reply_next(reply, end, &p, &e);
        if (r->st != PONDER_OK || !p.kind) return;
        if (p.kind == PN_REPLY_THOUGHT) put(r, "T:", p.text, (pn_str){0});
        if (p.kind == PN_REPLY_TEXT) put(r, "A:", p.text, (pn_str){0});
        if (p.kind == PN_REPLY_CALL) put(r, "C:", p.name, p.text);
        if (p.kind == PN_REPLY_RAW) put(r, "R:", p.text, (pn_str){0});
        if (p.kind == PN_REPLY_END) put(r, "E:", p.text, (pn_str){0});
    }
}

static record read_cut(const char *stream, size_t cut, size_t piece)
{
    record r = {.st = PONDER_OK};
    pn_sse sse;
    pn_reply reply;
    pn_str data;
    ponder_error e = {.size = sizeof e};
    pn_sse_init(&sse, NULL);
    pn_reply_init(&reply, NULL);
    for (size_t at = 0, n = strlen(stream), k; r.st == PONDER_OK; at += k) {
        k = at < cut ? cut - at : piece;
        k = PN_MIN(k, n - at);
        if (k) pn_sse_put(&sse, stream + at, k);
        while (r.st == PONDER_OK && pn_sse_next(&sse, at + k == n, &data)) {
            r.st = pn_reply_read(&reply, data, &e);
            take(&r, &reply, false);
        }
        if (at + k == n) break;
    }
    if (r.st == PONDER_OK) take(&r, &reply, true);
    if (r.st != PONDER_OK) put(&r, "!", pn_str_of(e.text), (pn_str){0});
    pn_sse_free(&sse);
    pn_reply_free(&reply);
    return r;
}

#define DELTA(d) "data: {\"choices\":[{\"index\":0,\"delta\":" d "}]}\n\n"

static const struct {
    const char *stream, *expect;
} cases[] = {
    {DELTA("{\"role\":\"assistant\",\"content\":null}") DELTA("{\"content\":\"Hel\"}") DELTA("{\"content\":\"lo\"}")
         "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", "A:Hel|A:lo|E:stop|"},
    /* both names of thoughts, also both at once */
    {DELTA("{\"reasoning_content\":\"a\"}") DELTA("{\"reasoning\":\"b\"}") DELTA("{\"reasoning\":\"c\",\"reasoning_content\":\"c\",\"content\":\"d\"}")
         "data: [DONE]\n\n", "T:a|T:b|T:c|A:d|E:|"},
    /* lines may end in \r\n or \r; comments, other fields, data in several lines, no blank */
    {": ping\r\n\r\nevent: x\r\nid: 7\r\ndata:{\"choices\":[{\"delta\":\r\ndata: {\"content\":\"x\"}}]}\r\n\r\ndata: [DONE]\r\n\r\n", "A:x|E:|"},
    {"data: {\"choices\":[{\"delta\":{\"content\":\"y\"}}]}\r\rdata: [DONE]\r\r", "A:y|E:|"},
    /* calls in pieces, two of them in turns, one without arguments */
    {DELTA("{\"tool_calls\":[{\"index\":0,\"id\":\"i0\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}]}")
     DELTA("{\"tool_calls\":[{\"index\":1,\"id\":\"i1\",\"function\":{\"name\":\"g\"}},{\"index\":0,\"function\":{\"arguments\":\"[1,\"}}]}")
     DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"2]}\"}}]}")
         "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n", "C:f={\"a\":[1,2]}|C:g={}|E:tool_calls|"},
    /* arguments that are no object: not lost, not believed */
    {DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": \"}}]}") "data: [DONE]\n\n", "R:f({\"a\": )|E:|"},
    {DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}}]}") "data: [DONE]\n\n", "R:f([1])|E:|"},
    {DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"\",\"arguments\":\"{}\"}}]}") "data: [DONE]\n\n", "R:({})|E:|"},
    /* whole calls without an index */
    {DELTA("{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}")
         "data: [DONE]\n\n", "C:f={}|C:f={}|E:|"},
    /* characters beyond ASCII, as they are and escaped */
    {DELTA("{\"content\":\"\xc3\xa9\\u00e9\\ud83d\\ude00\"}") "data: [DONE]\n\n", "A:\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80|E:|"},
    /* an answer that is no stream */
    {"{\"choices\":[{\"message\":{\"content\":\"whole\",\"reasoning\":\"th\"},\"finish_reason\":\"length\"}]}", "T:th|A:whole|E:length|"},
    /* errors in the middle, in each form */
    {DELTA("{\"content\":\"x\"}") "data: {\"error\":{\"message\":\"it broke\",\"code\":500}}\n\n", "A:x|!the server: HTTP 500: it broke|"},
    {"error: {\"error\":{\"message\":\"of old\"}}\n\n", "!the server: of old|"},
    {"data: {\"object\":\"error\",\"message\":\"flat\"}\n\n", "!the server: flat|"},
    {"data: {\"error\":\"words\"}\n\n", "!the server: words|"},
    /* no end at all: the caller sees an end without a reason, and no [DONE] */
    {DELTA("{\"content\":\"x\"}"), "A:x|E:|"},
    {"data: [DONE]\n\n", "E:|"},
    {"data:\n\ndata: [DONE]\n\n", "E:|"},
};

static void test_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        const size_t n = strlen(cases[i].stream);
        for (size_t cut = 0; cut <= n; cut++) {
            record whole = read_cut(cases[i].stream, cut, n ? n : 1);
            assert_string_equal(whole.text, cases[i].expect);
        }
        for (size_t piece = 1; piece < 8; piece++) {
            record small = read_cut(cases[i].stream, 0, piece);
            assert_string_equal(small.text, cases[i].expect);
        }
    }
}

static void test_wrong_json(void **state)
{
    (void)state;
    static const char *const streams[] = {"data: {\"choices\":[\n\n", "data: nonsense\n\n", "data: {\"choices\":[{\"delta\":{\"content\":\"\\ud800\"}}]}\n\n", "{\"cut\":"};
    for (size_t i = 0; i < PN_COUNT(streams); i++) assert_int_equal(read_cut(streams[i], 0, 3).st, PONDER_E_FORMAT);
    /* shapes that nobody expects are passed over */
    static const char *const odd[] = {"data: []\n\n", "data: {\"choices\":{}}\n\n", "data: {\"choices\":[{\"delta\":7}]}\n\n", "data: 5\n\n",
                                      "data: {\"choices\":[{\"delta\":{\"content\":[1],\"tool_calls\":[3,{}]}}],\"usage\":9}\n\n"};
    for (size_t i = 0; i < PN_COUNT(odd); i++) assert_int_equal(read_cut(odd[i], 0, 3).st, PONDER_OK);
}

static void test_usage(void **state)
{
    (void)state;
    pn_reply r;
    pn_reply_init(&r, NULL);
    static const char usage[] = "{\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":4},"
                                "\"completion_tokens_details\":{\"reasoning_tokens\":5}}}";
    assert_int_equal(pn_reply_read(&r, pn_str_of(usage), NULL), PONDER_OK);
    assert_true(r.has_usage && r.prompt_tokens == 11 && r.output_tokens == 7 && r.cached_tokens == 4 && r.thought_tokens == 5);
    pn_reply_free(&r);
}

static void check_error(const char *body, long http, ponder_status st, const char *text)
{
    ponder_error e = {.size = sizeof e};
    assert_int_equal(pn_reply_error(pn_str_of(body), http, "http://x", NULL, &e), st);
    assert_string_equal(e.text, text);
}

static void test_errors(void **state)
{
    (void)state;
    check_error("{\"error\":{\"message\":\"no such model\"}}", 404, PONDER_E_ARGUMENT, "http://x: HTTP 404: no such model");
    check_error("{\"detail\":\"not you\"}", 401, PONDER_E_IO, "http://x: HTTP 401: not you");
    check_error("<html>\nx", 502, PONDER_E_IO, "http://x: HTTP 502: <html>");
    check_error("", 500, PONDER_E_IO, "http://x: HTTP 500: ");
    check_error("{\"error\":{\"type\":\"exceed_context_size_error\",\"message\":\"too long\"}}", 400, PONDER_E_CONTEXT, "http://x: HTTP 400: too long");
    check_error("{\"error\":{\"message\":\"This model's maximum context length is 2048\"}}", 400, PONDER_E_CONTEXT,
                "http://x: HTTP 400: This model's maximum context length is 2048");
}

static void check_number(double v, const char *text)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    pn_write_number(&b, v);
    pn_buf_put(&b, "", 1);
    assert_string_equal(b.p, text);
    pn_buf_free(&b);
}

static void test_writing(void **state)
{
    (void)state;
    pn_buf b;
    pn_buf_init(&b, NULL);
    pn_write_string(&b, (pn_str){"a\"\\\n\t\x01\x7f\0z\xc3\xa9\xff\xed\xa0\x80", 15});
    pn_buf_put(&b, "", 1);
    assert_string_equal(b.p, "\"a\\\"\\\\\\n\\t\\u0001\\u007f\\u0000z\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    b.n = 0;
    pn_write_base64(&b, "Man", 3);
    pn_write_base64(&b, "Ma", 2);
    pn_write_base64(&b, "M", 1);
    pn_buf_put(&b, "", 1);
    assert_string_equal(b.p, "TWFuTWE=TQ=="); /* RFC 4648 */
    pn_buf_free(&b);
    check_number(0.7, "0.7");
    check_number(1, "1");
    check_number(0, "0");
    check_number(-1.5, "-1.5");
    check_number(1e-9, "1e-09");
    check_number(1.0 / 3, "0.3333333333333333");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split), cmocka_unit_test(test_wrong_json), cmocka_unit_test(test_usage),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_writing),
    };
    return cmocka_run_group_tests_name("remote-stream", tests, NULL, NULL);
}
