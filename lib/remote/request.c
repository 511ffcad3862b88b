/* One request: sent, its bytes taken in, ended, and sent again elsewhere where that loses nothing. */
#include "remote/fleet.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

enum { MOST_WAITING = 1 << 20, MOST_ERROR = 1 << 16, MOST_CONNECT_MS = 15000 };

/* ---- libcurl's callbacks: on the driving thread, with the mutex held ---------------------------------------- */

static size_t on_body(char *p, size_t one, size_t n, void *user)
{
    pn_request *r = user;
    const size_t bytes = one * n;
    r->heard = pn_now_us();
    if (r->received == 0) r->fleet->curl->easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->http);
    if (r->http == 200 && r->in.n >= MOST_WAITING) {
        r->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    r->received += bytes;
    r->fleet->news++;
    if (r->http == 200) r->fleet->server[r->server].failures = 0;
    else if (r->in.n >= MOST_ERROR) return bytes;
    if (pn_buf_put(&r->in, p, bytes)) return bytes;
    r->nomem = true;
    return 0;
}

/* A program that this process starts gets no copy of the connection. */
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)user, (void)purpose;
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* ---- sending ----------------------------------------------------------------------------------------------------------- */

static bool set_url(pn_request *r, uint32_t server)
{
    pn_fleet *p = r->fleet;
    pn_buf url;
    pn_buf_init(&url, p->a);
    pn_buf_puts(&url, p->server[server].url);
    pn_buf_puts(&url, r->path);
    bool ok = pn_buf_put(&url, "", 1) && p->curl->easy_setopt(r->easy, CURLOPT_URL, url.p) == CURLE_OK;
    pn_buf_free(&url);
    return ok;
}

static bool set_protocols(const pn_curl *c, CURL *e)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    if (c->version_info(CURLVERSION_NOW)->version_num >= 0x075500)
        return c->easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
#endif
    return c->easy_setopt(e, (CURLoption)181, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS)) == CURLE_OK; /* CURLOPT_PROTOCOLS, of old */
}

static bool set_options(pn_request *r)
{
    const pn_fleet *p = r->fleet;
    const pn_curl *c = p->curl;
    CURL *e = r->easy;
    const long ms = (long)PN_MIN(p->timeout_us / 1000, (uint64_t)MOST_CONNECT_MS);
    bool ok = true;
#define SET(option, value) ok = ok && c->easy_setopt(e, option, value) == CURLE_OK
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PRIVATE, r);
    SET(CURLOPT_ERRORBUFFER, r->text);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, r);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_HTTPHEADER, p->headers);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L); /* the key is for this server */
    SET(CURLOPT_PROXY, p->proxy);    /* "" also keeps the environment out */
    SET(CURLOPT_CONNECTTIMEOUT_MS, PN_MAX(ms, 1L));
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    if (*p->ca) SET(CURLOPT_CAINFO, p->ca);
    if (r->body.n) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, r->body.p); /* ours; it lives as long as the transfer */
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
    }
#undef SET
    return ok && set_protocols(c, e);
}

ponder_status pn_request_send(pn_request *r, uint32_t server)
{
    pn_fleet *p = r->fleet;
    const pn_curl *c = p->curl;
    r->easy = c->easy_init();
    r->text[0] = 0;
    r->http = 0;
    r->received = 0;
    r->in.n = 0;
    r->paused = r->nomem = false;
    if (!r->easy || !set_options(r) || !set_url(r, server) || c->multi_add_handle(p->multi, r->easy) != CURLM_OK) {
        if (r->easy) c->easy_cleanup(r->easy);
        r->easy = NULL;
        return PONDER_E_NOMEM;
    }
    r->server = (int)server;
    r->state = PN_RUNNING;
    r->attempts++;
    r->heard = pn_now_us();
    p->server[server].running++;
    p->server[server].sent++;
    return PONDER_OK;
}

void pn_request_close(pn_request *r)
{
    if (!r->easy) return;
    r->fleet->curl->multi_remove_handle(r->fleet->multi, r->easy);
    r->fleet->curl->easy_cleanup(r->easy);
    r->easy = NULL;
    r->fleet->server[r->server].running--;
}

void pn_request_drop(pn_request *r)
{
    const ponder_alloc *a = r->fleet->a;
    pn_fleet_drop_text(a, r->path);
    pn_buf_free(&r->body);
    pn_buf_free(&r->in);
    pn_sse_free(&r->sse);
    pn_free(a, r, sizeof *r);
}

/* ---- the end of a transfer ------------------------------------------------------------------------------------------------ */

static void end(pn_request *r, ponder_status st)
{
    r->state = PN_ENDED;
    r->st = st;
    r->fleet->news++;
}

/* What the certificate of a server is, does not change by asking again. */
static bool is_tls(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CIPHER || code == CURLE_SSL_ISSUER_ERROR;
}

static bool may_pass(long http) { return http == 408 || http == 425 || http == 429 || http >= 500; }

static ponder_status say(pn_request *r, CURLcode code)
{
    const char *url = r->fleet->server[r->server].url;
    const char *why = r->text[0] ? r->text : r->fleet->curl->easy_strerror(code);
    if (code == CURLE_OK && r->http == 200) return pn_fail(&r->err, PONDER_E_IO, "%s: an empty answer", url);
    if (code == CURLE_OK) return pn_reply_error((pn_str){r->in.p, r->in.n}, r->http, url, r->fleet->a, &r->err);
    if (r->nomem || code == CURLE_OUT_OF_MEMORY) return pn_nomem(&r->err, r->in.n);
    if (is_tls(code)) return pn_fail(&r->err, PONDER_E_IO, "%s: its certificate is not accepted: %s", url, why);
    if (r->received && r->http == 200) return pn_fail(&r->err, PONDER_E_IO, "%s: the stream broke: %s", url, why);
    return pn_fail(&r->err, PONDER_E_IO, "%s: %s", url, why);
}

static uint64_t wait_asked(pn_request *r)
{
    curl_off_t seconds = 0;
    r->fleet->curl->easy_getinfo(r->easy, CURLINFO_RETRY_AFTER, &seconds);
    return seconds > 0 ? (uint64_t)PN_MIN(seconds, (curl_off_t)86400) * 1000000 : 0;
}

/* Another attempt, if there may be one. A request that fails everywhere is not sent for ever. */
static bool may_try_again(const pn_request *r)
{
    const pn_fleet *p = r->fleet;
    return r->only < 0 && r->attempts < p->retries + p->n_servers && !pn_fleet_hopeless(p);
}

void pn_request_ended(pn_request *r, CURLcode code)
{
    pn_fleet *p = r->fleet;
    p->curl->easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &r->http);
    const bool good = code == CURLE_OK && r->http == 200 && r->received > 0;
    const bool started = r->received > 0 && r->http == 200;
    const bool servers_fault = !good && !r->nomem && code != CURLE_OUT_OF_MEMORY && (code != CURLE_OK || r->http == 200 || may_pass(r->http));
    const ponder_status st = good ? PONDER_OK : pn_fleet_scrub(p, say(r, code), &r->err);
    const uint64_t wait = servers_fault ? wait_asked(r) : 0;
    const uint32_t server = (uint32_t)r->server;
    pn_request_close(r);
    if (servers_fault) pn_server_failed(p, server, wait);
    if (servers_fault && !started && (p->n_servers > 1 || !is_tls(code)) && wait <= p->timeout_us && may_try_again(r)) {
        pn_fleet_say(p, 2, "%s: sent again", r->err.text);
        r->state = PN_WAITING;
        r->in.n = 0;
        p->news++;
        return;
    }
    if (!good && !started) r->in.n = 0; /* the error's text, told already */
    end(r, st);
}

/* ---- the caller's side -------------------------------------------------------------------------------------------------- */

static ponder_status new_request(pn_request **out, pn_fleet *p, const char *path, pn_str body, int only, ponder_error *err)
{
    pn_request *r = pn_zalloc(p->a, sizeof *r);
    if (!r) return pn_nomem(err, sizeof *r);
    r->fleet = p;
    r->server = -1;
    r->only = only;
    r->err.size = sizeof r->err;
    pn_buf_init(&r->body, p->a);
    pn_buf_init(&r->in, p->a);
    pn_sse_init(&r->sse, p->a);
    r->path = pn_fleet_copy(p->a, path);
    if (!r->path || !pn_buf_put(&r->body, body.p, body.n)) {
        pn_request_drop(r);
        return pn_nomem(err, body.n);
    }
    pthread_mutex_lock(&p->mutex);
    pn_request **at = &p->first;
    while (*at) at = &(*at)->next; /* first come, first served */
    *at = r;
    if (p->leading) p->curl->multi_wakeup(p->multi);
    else pn_fleet_drive(p, 1); /* on its way before anybody waits */
    pthread_mutex_unlock(&p->mutex);
    *out = r;
    return PONDER_OK;
}

ponder_status pn_request_new(pn_request **out, pn_fleet *p, const char *path, pn_str body, ponder_error *err)
{
    return new_request(out, p, path, body, -1, err);
}

ponder_status pn_request_pinned(pn_request **out, pn_fleet *p, const char *path, uint32_t server, ponder_error *err)
{
    return new_request(out, p, path, (pn_str){0}, (int)server, err);
}

void pn_request_free(pn_request *r)
{
    if (!r) return;
    pn_fleet *p = r->fleet;
    pthread_mutex_lock(&p->mutex);
    r->orphan = true;
    if (p->leading) p->curl->multi_wakeup(p->multi);
    else pn_fleet_drive(p, 1);
    pthread_mutex_unlock(&p->mutex);
}

const char *pn_request_server(const pn_request *r) { return r->server < 0 ? "" : r->fleet->server[r->server].url; }

static bool has_news(const pn_request *r) { return r->in.n > 0 || r->state == PN_ENDED; }

/* Its bytes to the reader of events; the mutex is held. */
static bool take(pn_request *r)
{
    bool ok = pn_sse_put(&r->sse, r->in.p, r->in.n);
    r->in.n = 0;
    return ok;
}

ponder_status pn_fleet_wait(pn_fleet *p, pn_request *const *r, uint32_t n, uint64_t until, const _Atomic bool *cancel)
{
    ponder_status st = PONDER_MORE;
    pthread_mutex_lock(&p->mutex);
    for (bool driven = false;; driven = true) {
        if (cancel && atomic_load(cancel)) st = PONDER_E_CANCELLED;
        for (uint32_t i = 0; i < n && st == PONDER_MORE; i++)
            if (has_news(r[i])) st = PONDER_OK;
        if (st != PONDER_MORE || (driven && until && pn_now_us() >= until)) break;
        pn_fleet_drive(p, until);
    }
    pthread_mutex_unlock(&p->mutex);
    return st;
}

/* Everything was given; why there is no more. */
static ponder_status tell_end(pn_request *r, bool *end, ponder_error *err)
{
    if (pn_sse_wrong(&r->sse) && !r->sse.in.failed && !r->sse.data.failed)
        return pn_fail(err, PONDER_E_FORMAT, "%s: an event of more than %d bytes", pn_request_server(r), PN_SSE_MOST);
    if (r->sse.in.failed || r->sse.data.failed) return pn_nomem(err, r->sse.in.n);
    *end = r->st == PONDER_OK;
    if (r->st != PONDER_OK && err) *err = r->err;
    return r->st;
}

ponder_status pn_request_next(pn_request *r, uint64_t until, const _Atomic bool *cancel, pn_str *data, bool *end, ponder_error *err)
{
    pn_fleet *p = r->fleet;
    *end = false;
    for (;;) {
        if (pn_sse_next(&r->sse, false, data)) return PONDER_OK;
        if (pn_sse_wrong(&r->sse)) return tell_end(r, end, err);
        ponder_status st = pn_fleet_wait(p, &r, 1, until, cancel);
        if (st != PONDER_OK) return st;
        pthread_mutex_lock(&p->mutex);
        const bool more = r->in.n > 0, ended = r->state == PN_ENDED, ok = take(r);
        pthread_mutex_unlock(&p->mutex);
        if (!ok || more) continue;
        if (ended && r->st == PONDER_OK && pn_sse_next(&r->sse, true, data)) return PONDER_OK;
        if (ended) return tell_end(r, end, err);
    }
}

bool pn_request_again(pn_request *r)
{
    pn_fleet *p = r->fleet;
    pthread_mutex_lock(&p->mutex);
    const bool ok = r->state == PN_ENDED && r->http == 200 && may_try_again(r);
    if (ok) {
        pn_fleet_say(p, 2, "%s: a stream broke: begun again", pn_request_server(r));
        r->state = PN_WAITING;
        r->in.n = 0;
        pn_sse_free(&r->sse);
        pn_sse_init(&r->sse, p->a);
        if (p->leading) p->curl->multi_wakeup(p->multi);
    }
    pthread_mutex_unlock(&p->mutex);
    return ok;
}
