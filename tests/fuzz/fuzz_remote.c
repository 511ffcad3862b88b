/* First byte: the pieces' size. The rest is the body of a server's answer: read whole and in such pieces, what comes out must be the
 * same. It is also read as an error. */
#include <stdlib.h>

#include "remote/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef struct record {
    pn_buf text;
    ponder_status st;
} record;

static void take(record *r, pn_reply *reply, bool end)
{
    pn_reply_piece p;
    while (r->st == PONDER_OK) {
        r->st = pn_reply_next(reply, end, &p, NULL);
        if (r->st != PONDER_OK || !p.kind) return;
        pn_buf_printf(&r->text, "%d:", (int)p.kind);
        pn_buf_put(&r->text, p.name.p, p.name.n);
        pn_buf_put(&r->text, p.id.p, p.id.n);
        pn_buf_put(&r->text, p.text.p, p.text.n);
    }
}

static void read_body(record *r, const char *body, size_t n, size_t piece)
{
    pn_sse sse;
    pn_reply reply;
    pn_str event;
    pn_sse_init(&sse, NULL);
    pn_reply_init(&reply, NULL);
    pn_buf_init(&r->text, NULL);
    r->st = PONDER_OK;
    for (size_t at = 0; at < n && r->st == PONDER_OK;) {
        const size_t k = PN_MIN(piece, n - at);
        pn_sse_put(&sse, body + at, k);
        at += k;
        while (r->st == PONDER_OK && pn_sse_next(&sse, at == n, &event)) {
            r->st = pn_reply_read(&reply, event, NULL);
            take(r, &reply, false);
        }
    }
    take(r, &reply, true);
    pn_sse_free(&sse);
    pn_reply_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    record whole, parts;
    ponder_error e = {.size = sizeof e};
    if (n < 2) return 0;
    const char *body = (const char *)data + 1;
    read_body(&whole, body, n - 1, n - 1);
    read_body(&parts, body, n - 1, 1 + data[0] % 40);
    if (whole.st != parts.st || whole.text.n != parts.text.n || (whole.text.n && memcmp(whole.text.p, parts.text.p, whole.text.n) != 0)) abort();
    pn_buf_free(&whole.text);
    pn_buf_free(&parts.text);
    pn_reply_error((pn_str){body, n - 1}, data[0] & 1 ? 400 : 500, "http://x", NULL, &e);
    return 0;
}
