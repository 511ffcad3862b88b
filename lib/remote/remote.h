/* remote: requests to servers that speak OpenAI's protocol, and what comes back. It knows no session.
 *
 * A fleet is some servers of the same model. A request is one POST, its answer a stream of server-sent events. There is no hidden
 * thread: whoever waits for a request drives the transfers of all (one caller at a time, the others sleep), so one caller can
 * have any number of requests in flight, and many callers can share a fleet. libcurl is loaded when the first fleet is made. */
#ifndef PN_REMOTE_H
#define PN_REMOTE_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/json.h"

/* ---- server-sent events ------------------------------------------------------------------------------------ */

enum { PN_SSE_MOST = 16 << 20 }; /* bytes of one event: what is longer is not believed */

/* Fed in any pieces. A body that is no stream but one JSON object becomes one event when it ends. */
typedef struct pn_sse {
    pn_buf in, data;          /* not looked at yet; data lines of the event that is being read */
    size_t at, looked;        /* in `in`: the next byte; behind it, how many are no line's end */
    bool after_cr, any, whole; /* any: the event has a data line; whole: a JSON body */
    bool begun;
} pn_sse;

void pn_sse_init(pn_sse *s, const ponder_alloc *a);
void pn_sse_free(pn_sse *s);
bool pn_sse_put(pn_sse *s, const char *p, size_t n);   /* false: no memory */
/* The next event's data, valid until the next call; false: none yet. `end`: nothing follows. */
bool pn_sse_next(pn_sse *s, bool end, pn_str *data);
bool pn_sse_wrong(const pn_sse *s);                    /* an event without end, or no memory (then s->data.failed) */

/* ---- what an event says ---------------------------------------------------------------------------------------- */

typedef enum pn_piece_of_reply {
    PN_REPLY_THOUGHT = 1, /* text */
    PN_REPLY_TEXT,        /* text */
    PN_REPLY_CALL,        /* name, id; text: the arguments, a JSON object */
    PN_REPLY_RAW,         /* text: a call whose arguments are no JSON object */
    PN_REPLY_END,         /* text: the server's reason */
} pn_piece_of_reply;

typedef struct pn_reply_piece {
    pn_piece_of_reply kind;
    pn_str text, name, id;
    uint32_t tokens;      /* THOUGHT, TEXT: as the server says, or 1 */
} pn_reply_piece;

typedef struct pn_reply_call {
    int64_t index;
    pn_buf id, name, arguments;
} pn_reply_call;

/* Pieces of calls are joined; whole calls come at the end of the choice. */
typedef struct pn_reply {
    const ponder_alloc *a;
    pn_json doc;
    bool open, ended, done;  /* the document has pieces left; an END was given; [DONE] came */
    bool has_usage;
    uint32_t stage, told;    /* told: of the calls */
    pn_reply_call *calls;
    uint32_t n_calls, cap_calls;
    pn_buf raw;
    /* usage; 0: not said */
    uint64_t prompt_tokens, cached_tokens, output_tokens, thought_tokens;
} pn_reply;

void pn_reply_init(pn_reply *r, const ponder_alloc *a);
void pn_reply_free(pn_reply *r);
void pn_reply_begin(pn_reply *r); /* another answer, from its start */
/* One event. PONDER_E_FORMAT: no such JSON; PONDER_E_IO and others: the server's error, with its text. */
ponder_status pn_reply_read(pn_reply *r, pn_str data, ponder_error *err);
/* The next piece, texts valid until the next read; kind 0: none. `end`: the stream is over. */
ponder_status pn_reply_next(pn_reply *r, bool end, pn_reply_piece *out, ponder_error *err);
/* What a server says went wrong: {"error": {"message": ...}} and the like, else the text's first line. */
ponder_status pn_reply_error(pn_str body, long http, const char *server, const ponder_alloc *a, ponder_error *err);

/* ---- JSON to write ------------------------------------------------------------------------------------------------ */

bool pn_write_string(pn_buf *b, pn_str s);   /* quoted; what is no UTF-8 becomes U+FFFD */
bool pn_write_number(pn_buf *b, double v);   /* no locale; a value that is none is written as 0 */
bool pn_write_base64(pn_buf *b, const void *p, size_t n);

/* ---- the fleet ------------------------------------------------------------------------------------------------------ */

/* Which extensions of the protocol the servers know. */
typedef enum pn_dialect { PN_SERVER_OPENAI = 0, PN_SERVER_VLLM, PN_SERVER_SGLANG, PN_SERVER_LLAMA } pn_dialect;
const char *pn_dialect_name(pn_dialect d);
bool pn_dialect_by_name(const char *name, pn_dialect *out);

enum { PN_SERVERS = 64 };

typedef struct pn_fleet_options {
    const char *url[PN_SERVERS];
    uint32_t n_urls;
    const char *key, *model, *ca, *proxy, *dialect; /* "" where unsaid */
    uint32_t retries, flights;  /* flights: most requests at a time to one server; 0: any number */
    uint64_t timeout_us;        /* without a byte */
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
} pn_fleet_options;

typedef struct pn_fleet pn_fleet;
typedef struct pn_request pn_request;

/* Asks every server for its models; one must answer. Blocks. */
ponder_status pn_fleet_new(pn_fleet **out, const pn_fleet_options *o, const ponder_alloc *a, ponder_error *err);
void pn_fleet_free(pn_fleet *p); /* no request must be left */
pn_dialect pn_fleet_dialect(const pn_fleet *p);
const char *pn_fleet_model(const pn_fleet *p);
uint64_t pn_fleet_context(const pn_fleet *p);  /* tokens, as the server says; 0: it does not */
/* How many servers there are, and how many of them are not known to be dead. */
uint32_t pn_fleet_servers(pn_fleet *p, uint32_t *alive);
/* The key, should a server have repeated it, becomes stars. Returns st. */
ponder_status pn_fleet_scrub(const pn_fleet *p, ponder_status st, ponder_error *err);
void pn_fleet_wake(pn_fleet *p);               /* whoever waits looks at its cancel flag; any thread */

/* POSTs `body` to `path` ("/chat/completions") on the least loaded server. The body is copied. */
ponder_status pn_request_new(pn_request **out, pn_fleet *p, const char *path, pn_str body, ponder_error *err);
void pn_request_free(pn_request *r);         /* closes the stream, so that the server stops */
/* The next event: its data, valid until the next call; *end: there is none any more, the stream ended as it should.
 * `until`: pn_now_us() at which to come back with PONDER_MORE; 0: never; in the past: what there is without waiting.
 * PONDER_E_CANCELLED when *cancel (may be NULL) is set. PONDER_E_IO: no server, or the stream broke: see pn_request_again. */
ponder_status pn_request_next(pn_request *r, uint64_t until, const _Atomic bool *cancel, pn_str *data, bool *end, ponder_error *err);
/* After a stream that ended too early: from its start again, on another server if there is one, if an attempt is left. */
bool pn_request_again(pn_request *r);
const char *pn_request_server(const pn_request *r); /* its URL; "" before it was sent */
/* Waits until one of them has something to say; PONDER_MORE, PONDER_E_CANCELLED as above. All of one fleet. */
ponder_status pn_fleet_wait(pn_fleet *p, pn_request *const *r, uint32_t n, uint64_t until, const _Atomic bool *cancel);

#endif
