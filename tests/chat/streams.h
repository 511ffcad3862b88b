/* For the parser's tests: feeding a stream in pieces, and what came out as one text. */
#ifndef CHAT_STREAMS_H
#define CHAT_STREAMS_H

#include "chat/parse.h"

/* Events as lines: KIND TEXT, neighbouring text of one kind joined. */
typedef struct record {
    pn_buf text;
    pn_parse_kind last;
    uint64_t calls;
} record;

static inline void record_init(record *r)
{
    *r = (record){0};
    pn_buf_init(&r->text, NULL);
}

static inline void record_take(record *r, pn_parser *p)
{
    static const char *const names[] = {"", "thought", "commentary", "answer", "call", "raw", "end", "turn"};
    pn_parsed e;
    while (pn_parser_next(p, &e)) {
        const bool joins = e.kind <= PN_PARSED_ANSWER && e.kind == r->last;
        if (!joins) pn_buf_printf(&r->text, "\n%s ", names[e.kind]);
        if (e.kind == PN_PARSED_CALL) {
            r->calls++;
            pn_buf_put(&r->text, e.id.p, e.id.n);
            pn_buf_printf(&r->text, " %d ", e.tool);
            pn_buf_put(&r->text, e.name.p, e.name.n);
            pn_buf_puts(&r->text, " ");
        }
        pn_buf_put(&r->text, e.text.p, e.text.n);
        r->last = e.kind;
    }
}

static inline bool record_same(const record *a, const record *b)
{
    return a->text.n == b->text.n && (!a->text.n || memcmp(a->text.p, b->text.p, a->text.n) == 0);
}

static inline void all_markers_are_tokens(pn_parser *p)
{
    for (size_t i = 0; pn_parser_marker(p, i); i++) pn_parser_marker_is_token(p, i);
}

/* The marker that stands at text, or NULL. */
static inline const char *marker_at(const pn_parser *p, const char *text, size_t n)
{
    const char *m;
    for (size_t i = 0; (m = pn_parser_marker(p, i)); i++)
        if (strlen(m) <= n && memcmp(m, text, strlen(m)) == 0) return m;
    return NULL;
}

/* A raw stream as a tokenizer gives it: markers by name, text between them in pieces of at most `piece` bytes. */
static inline ponder_status feed_tokens(pn_parser *p, const char *text, size_t n, size_t piece, record *r)
{
    ponder_status st = PONDER_OK;
    for (size_t at = 0; at < n && st == PONDER_OK;) {
        const char *m = marker_at(p, text + at, n - at);
        size_t len = m ? strlen(m) : 1;
        while (!m && len < piece && at + len < n && !marker_at(p, text + at + len, n - at - len)) len++;
        st = m ? pn_parser_put_token(p, m, len, NULL) : pn_parser_put(p, text + at, len, NULL);
        if (r) record_take(r, p);
        at += len;
    }
    return st;
}

static inline ponder_status feed_pieces(pn_parser *p, const char *text, size_t n, size_t piece, record *r)
{
    ponder_status st = PONDER_OK;
    for (size_t at = 0; at < n && st == PONDER_OK; at += piece) {
        st = pn_parser_put(p, text + at, PN_MIN(piece, n - at), NULL);
        if (r) record_take(r, p);
    }
    return st;
}

#endif
