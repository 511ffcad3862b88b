/* Servers, and the driving of all transfers by whoever waits. */
#include "remote/fleet.h"

#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

enum { FIRST_REST_US = 250000, LONGEST_REST_US = 15000000, OPEN_TIMEOUT_US = 15000000 };

/* ---- servers ---------------------------------------------------------------------------------------------------------- */

void pn_fleet_say(const pn_fleet *p, int32_t level, const char *fmt, ...)
{
    char line[320];
    va_list ap;
    if (!p->log) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    p->log(p->log_user, level, line);
}

bool pn_fleet_hopeless(const pn_fleet *p)
{
    for (uint32_t i = 0; i < p->n_servers; i++)
        if (p->server[i].failures <= p->retries) return false;
    return true;
}

/* A failure that comes while the server rests already is the same one. Half of the rest varies, so that many hosts do not come
 * back at one moment. */
void pn_server_failed(pn_fleet *p, uint32_t i, uint64_t wait_us)
{
    pn_server *s = &p->server[i];
    const uint64_t now = pn_now_us();
    if (s->rest_until <= now) s->failures++;
    uint64_t rest = FIRST_REST_US;
    for (uint32_t k = 1; k < s->failures && rest < LONGEST_REST_US; k++) rest *= 2;
    rest = PN_MIN(rest, (uint64_t)LONGEST_REST_US);
    rest = rest / 2 + pn_hash64(&now, sizeof now, i) % (rest / 2 + 1);
    s->rest_until = PN_MAX(s->rest_until, now + PN_MAX(rest, wait_us));
    if (!pn_fleet_hopeless(p)) return;
    for (uint32_t k = 0; k < p->n_servers; k++) p->server[k].rest_until = 0; /* the next request asks at once */
}

static int choose(const pn_fleet *p, const pn_request *r, uint64_t now)
{
    int best = -1;
    for (uint32_t i = 0; i < p->n_servers; i++) {
        const pn_server *s = &p->server[i], *b = best < 0 ? NULL : &p->server[best];
        if (r->only >= 0 ? (int)i != r->only : s->rest_until > now) continue;
        if (p->flights && s->running >= p->flights) continue;
        if (r->only < 0 && s->failures && s->running) continue; /* one at a time finds out whether it is back */
        if (!b || s->running < b->running || (s->running == b->running && s->sent < b->sent)) best = (int)i;
    }
    return best;
}

/* ---- one round ----------------------------------------------------------------------------------------------------------- */

static void give_up(pn_request *r, ponder_status st, const char *why)
{
    r->state = PN_ENDED;
    r->st = st == PONDER_E_NOMEM ? pn_nomem(&r->err, sizeof *r) : pn_fail(&r->err, st, "%s", why);
    r->fleet->news++;
}

static void reap(pn_fleet *p)
{
    for (pn_request **at = &p->first, *r; (r = *at) != NULL;) {
        if (!r->orphan) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        pn_request_close(r);
        pn_request_drop(r);
    }
}

static void start_waiting(pn_fleet *p)
{
    const uint64_t now = pn_now_us();
    for (pn_request *r = p->first; r; r = r->next) {
        int server = r->state == PN_WAITING ? choose(p, r, now) : -1;
        if (server >= 0 && pn_request_send(r, (uint32_t)server) != PONDER_OK) give_up(r, PONDER_E_NOMEM, "");
        if (r->paused && r->in.n == 0) {
            r->paused = false;
            p->curl->easy_pause(r->easy, CURLPAUSE_CONT);
        }
    }
}

/* A peer that is gone raises SIGPIPE in some libraries of TLS; the host is not to hear of it. */
static void perform(pn_fleet *p)
{
    sigset_t pipe, before, pending;
    int running;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    const bool was = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    p->curl->multi_perform(p->multi, &running);
    sigpending(&pending);
    if (!was && sigismember(&pending, SIGPIPE) == 1) sigtimedwait(&pipe, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* When every server is given up, so is who waits for one after having tried. */
static void end_hopeless(pn_fleet *p, const pn_request *last)
{
    if (last->state != PN_ENDED || last->st == PONDER_OK || last->only >= 0 || !pn_fleet_hopeless(p)) return;
    for (pn_request *r = p->first; r; r = r->next)
        if (r->state == PN_WAITING && r->only < 0 && r->attempts) give_up(r, last->st, last->err.text);
}

static void take_ends(pn_fleet *p)
{
    CURLMsg *m;
    int left;
    while ((m = p->curl->multi_info_read(p->multi, &left)) != NULL) {
        if (m->msg != CURLMSG_DONE) continue;
        char *r = NULL;
        CURLcode code = m->data.result;
        p->curl->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &r);
        pn_request_ended((pn_request *)(void *)r, code);
        end_hopeless(p, (pn_request *)(void *)r);
    }
}

static void end_silent(pn_fleet *p)
{
    const uint64_t now = pn_now_us();
    for (pn_request *r = p->first; r; r = r->next) {
        if (r->state != PN_RUNNING || r->paused || now - r->heard < p->timeout_us) continue;
        snprintf(r->text, sizeof r->text, "no answer for %llu ms", (unsigned long long)(p->timeout_us / 1000));
        pn_request_ended(r, CURLE_OPERATION_TIMEDOUT);
        end_hopeless(p, r);
    }
}

static void pump(pn_fleet *p)
{
    reap(p);
    start_waiting(p);
    perform(p);
    take_ends(p);
    end_silent(p);
}

/* Milliseconds until something has to be looked at. */
static int patience(const pn_fleet *p, uint64_t until)
{
    const uint64_t now = pn_now_us();
    uint64_t at = now + 60000000;
    if (until) at = PN_MIN(at, until);
    for (const pn_request *r = p->first; r; r = r->next) {
        if (r->state == PN_RUNNING && !r->paused) at = PN_MIN(at, r->heard + p->timeout_us);
        if (r->state != PN_WAITING) continue;
        for (uint32_t i = 0; i < p->n_servers; i++)
            if (p->server[i].rest_until > now) at = PN_MIN(at, p->server[i].rest_until);
    }
    return at <= now ? 0 : (int)((at - now + 999) / 1000);
}

static void wait_for_leader(pn_fleet *p, uint64_t until)
{
    if (!until) {
        pthread_cond_wait(&p->news_cond, &p->mutex);
        return;
    }
    const struct timespec at = {(time_t)(until / 1000000), (long)(until % 1000000) * 1000};
    pthread_cond_timedwait(&p->news_cond, &p->mutex, &at);
}

void pn_fleet_drive(pn_fleet *p, uint64_t until)
{
    if (p->leading) {
        if (!until || pn_now_us() < until) wait_for_leader(p, until);
        return;
    }
    const uint64_t before = p->news;
    pump(p);
    if (p->news == before && (!until || pn_now_us() < until)) {
        int ready, ms = patience(p, until);
        p->leading = true;
        pthread_mutex_unlock(&p->mutex);
        p->curl->multi_poll(p->multi, NULL, 0, ms, &ready);
        pthread_mutex_lock(&p->mutex);
        p->leading = false;
    }
    pthread_cond_broadcast(&p->news_cond);
}

void pn_fleet_wake(pn_fleet *p) { p->curl->multi_wakeup(p->multi); }

/* ---- life --------------------------------------------------------------------------------------------------------------------- */

char *pn_fleet_copy(const ponder_alloc *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = pn_alloc(a, n);
    if (copy) memcpy(copy, s, n);
    return copy;
}

void pn_fleet_drop_text(const ponder_alloc *a, char *s)
{
    if (!s) return;
    size_t n = strlen(s);
    explicit_bzero(s, n);
    pn_free(a, s, n + 1);
}

/* The base of an address: "/v1" behind a bare one, no slash at the end. */
static ponder_status add_server(pn_fleet *p, const char *url, ponder_error *err)
{
    size_t skip = strncasecmp(url, "http://", 7) == 0 ? 7 : strncasecmp(url, "https://", 8) == 0 ? 8 : 0, n = strlen(url);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)url[i] <= ' ' || (unsigned char)url[i] >= 0x7f) skip = 0;
    if (!skip || !url[skip]) return pn_fail(err, PONDER_E_ARGUMENT, "a server's address begins with http:// or https:// and has no blanks");
    if (strpbrk(url + skip, "@?#")) return pn_fail(err, PONDER_E_ARGUMENT, "a server's address has no name, password, query or fragment");
    if (p->n_servers == PN_SERVERS) return pn_fail(err, PONDER_E_RANGE, "more than %d servers", PN_SERVERS);
    while (n > skip && url[n - 1] == '/') n--;
    const bool bare = !memchr(url + skip, '/', n - skip);
    char *base = pn_alloc(p->a, n + 4);
    if (!base) return pn_nomem(err, n + 4);
    memcpy(base, url, n);
    memcpy(base + n, bare ? "/v1" : "", bare ? 4 : 1);
    char *fitting = pn_fleet_copy(p->a, base); /* freed by its length */
    pn_free(p->a, base, n + 4);
    if (!fitting) return pn_nomem(err, n + 4);
    p->server[p->n_servers++].url = fitting;
    return PONDER_OK;
}

static ponder_status set_headers(pn_fleet *p, ponder_error *err)
{
    static const char *const fixed[] = {"Content-Type: application/json", "Accept: text/event-stream, application/json", "Expect:"};
    for (size_t i = 0; i < PN_COUNT(fixed) + (*p->key != 0); i++) {
        pn_buf line;
        pn_buf_init(&line, p->a);
        if (i < PN_COUNT(fixed)) pn_buf_puts(&line, fixed[i]);
        else pn_buf_puts(&line, "Authorization: Bearer "), pn_buf_puts(&line, p->key);
        struct curl_slist *longer = pn_buf_put(&line, "", 1) ? p->curl->slist_append(p->headers, line.p) : NULL;
        if (line.p) explicit_bzero(line.p, line.n);
        pn_buf_free(&line);
        if (!longer) return pn_nomem(err, 64);
        p->headers = longer;
    }
    return PONDER_OK;
}

static ponder_status check_key(const char *key, ponder_error *err)
{
    for (; *key; key++)
        if ((unsigned char)*key <= ' ' || (unsigned char)*key >= 0x7f) return pn_fail(err, PONDER_E_ARGUMENT, "remote_key: it holds a byte that no key has");
    return PONDER_OK;
}

static ponder_status make(pn_fleet *p, const pn_fleet_options *o, ponder_error *err)
{
    ponder_status st = check_key(o->key, err);
    p->key = pn_fleet_copy(p->a, o->key);
    p->model = pn_fleet_copy(p->a, o->model);
    p->ca = pn_fleet_copy(p->a, o->ca);
    p->proxy = pn_fleet_copy(p->a, o->proxy);
    p->multi = p->curl->multi_init();
    if (st == PONDER_OK && (!p->key || !p->model || !p->ca || !p->proxy || !p->multi)) st = pn_nomem(err, sizeof *p);
    for (uint32_t i = 0; i < o->n_urls && st == PONDER_OK; i++) st = add_server(p, o->url[i], err);
    return st == PONDER_OK ? set_headers(p, err) : st;
}

void pn_fleet_free(pn_fleet *p)
{
    if (!p) return;
    reap(p);
    if (p->multi) p->curl->multi_cleanup(p->multi);
    for (struct curl_slist *h = p->headers; h; h = h->next) explicit_bzero(h->data, strlen(h->data));
    if (p->headers) p->curl->slist_free_all(p->headers);
    for (uint32_t i = 0; i < p->n_servers; i++) pn_fleet_drop_text(p->a, p->server[i].url);
    pn_fleet_drop_text(p->a, p->key);
    pn_fleet_drop_text(p->a, p->model);
    pn_fleet_drop_text(p->a, p->ca);
    pn_fleet_drop_text(p->a, p->proxy);
    pthread_cond_destroy(&p->news_cond);
    pthread_mutex_destroy(&p->mutex);
    pn_free(p->a, p, sizeof *p);
}

/* ---- asking what they serve ------------------------------------------------------------------------------------------------------ */

static void note_server(pn_fleet *p, const pn_value *model)
{
    static const struct { const char *owner; pn_dialect d; } owners[] = {{"vllm", PN_SERVER_VLLM}, {"sglang", PN_SERVER_SGLANG}, {"llamacpp", PN_SERVER_LLAMA}};
    int64_t n = 0;
    for (size_t i = 0; i < PN_COUNT(owners); i++)
        if (pn_is(pn_get(model, "owned_by"), owners[i].owner)) p->dialect = owners[i].d;
    if (!pn_value_i64(pn_get(model, "max_model_len"), 1, INT64_MAX, &n)) pn_value_i64(pn_get(pn_get(model, "meta"), "n_ctx"), 1, INT64_MAX, &n);
    if (n) p->context = (uint64_t)n;
}

/* The model of the config, else the first. */
static ponder_status read_models(pn_fleet *p, const char *url, pn_str body, ponder_error *err)
{
    pn_json doc;
    pn_str id = {0};
    ponder_status st = pn_json_read_as(&doc, body.p, body.n, &(pn_json_options){.what = url}, p->a, err);
    if (st != PONDER_OK) return st;
    const pn_value *list = pn_get(pn_json_root(&doc), "data"), *model = pn_at(list, 0);
    for (const pn_value *v = list->type == PN_V_LIST ? list->first : NULL; v && *p->model; v = v->next)
        if (pn_is(pn_get(v, "id"), p->model)) model = v;
    if (!*p->model && (!pn_value_str(pn_get(model, "id"), &id) || id.n == 0 || memchr(id.p, 0, id.n)))
        st = pn_fail(err, PONDER_E_UNSUPPORTED, "%s does not say which models it has: name one (remote_model)", url);
    if (st == PONDER_OK && !*p->model) {
        char *name = pn_alloc(p->a, id.n + 1);
        if (!name) st = pn_nomem(err, id.n + 1);
        if (name) {
            memcpy(name, id.p, id.n);
            name[id.n] = 0;
            pn_fleet_drop_text(p->a, p->model);
            p->model = name;
        }
    }
    if (st == PONDER_OK) note_server(p, model);
    pn_json_free(&doc);
    return st;
}

/* A server without such a list will do when the model is named. */
static ponder_status ask_one(pn_fleet *p, pn_request *r, ponder_error *err)
{
    pn_str body;
    bool end;
    ponder_status st = pn_request_next(r, 0, NULL, &body, &end, err);
    if (st == PONDER_OK && !end) return pn_fleet_scrub(p, read_models(p, pn_request_server(r), body, err), err);
    const bool no_list = (r->http == 404 || r->http == 405 || r->http == 501) && *p->model;
    return st != PONDER_OK && no_list ? PONDER_OK : st == PONDER_OK ? pn_fail(err, PONDER_E_FORMAT, "%s: an empty answer", pn_request_server(r)) : st;
}

static ponder_status ask_models(pn_fleet *p, ponder_error *err)
{
    pn_request *r[PN_SERVERS] = {0};
    uint32_t good = 0;
    ponder_status st = PONDER_OK, bad = PONDER_OK;
    const uint64_t timeout = p->timeout_us;
    p->timeout_us = PN_MIN(timeout, (uint64_t)OPEN_TIMEOUT_US);
    for (uint32_t i = 0; i < p->n_servers && st == PONDER_OK; i++)
        if ((st = pn_request_pinned(&r[i], p, "/models", i, err)) != PONDER_OK) break;
    for (uint32_t i = 0; i < p->n_servers && r[i]; i++) {
        ponder_status one = st == PONDER_OK ? ask_one(p, r[i], err) : st;
        good += one == PONDER_OK;
        if (one != PONDER_OK) bad = one;
        pn_request_free(r[i]);
    }
    p->timeout_us = timeout;
    return st != PONDER_OK || bad == PONDER_E_NOMEM || good == 0 ? (st != PONDER_OK ? st : bad) : PONDER_OK;
}

ponder_status pn_fleet_new(pn_fleet **out, const pn_fleet_options *o, const ponder_alloc *a, ponder_error *err)
{
    pn_dialect dialect = PN_SERVER_OPENAI;
    if (*o->dialect && !pn_dialect_by_name(o->dialect, &dialect))
        return pn_fail(err, PONDER_E_RANGE, "remote_server: \"%s\" is none of openai, vllm, sglang, llama.cpp", o->dialect);
    const pn_curl *curl = pn_curl_load(err);
    if (!curl) return PONDER_E_UNSUPPORTED;
    pn_fleet *p = pn_zalloc(a, sizeof *p);
    pthread_condattr_t monotonic;
    if (!p) return pn_nomem(err, sizeof *p);
    p->a = a;
    p->curl = curl;
    p->retries = o->retries;
    p->flights = o->flights;
    p->timeout_us = o->timeout_us;
    p->log = o->log;
    p->log_user = o->log_user;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->news_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    ponder_status st = make(p, o, err);
    if (st == PONDER_OK) st = ask_models(p, err);
    if (*o->dialect) p->dialect = dialect;
    if (st != PONDER_OK) pn_fleet_free(p);
    else *out = p;
    return st;
}

/* ---- facts ---------------------------------------------------------------------------------------------------------------------- */

pn_dialect pn_fleet_dialect(const pn_fleet *p) { return p->dialect; }
const char *pn_fleet_model(const pn_fleet *p) { return p->model; }
uint64_t pn_fleet_context(const pn_fleet *p) { return p->context; }

uint32_t pn_fleet_servers(pn_fleet *p, uint32_t *alive)
{
    pthread_mutex_lock(&p->mutex);
    *alive = 0;
    for (uint32_t i = 0; i < p->n_servers; i++) *alive += p->server[i].failures == 0;
    pthread_mutex_unlock(&p->mutex);
    return p->n_servers;
}

ponder_status pn_fleet_scrub(const pn_fleet *p, ponder_status st, ponder_error *err)
{
    const size_t n = strlen(p->key), text = err ? strlen(err->text) : 0;
    for (char *at = text && n ? strstr(err->text, p->key) : NULL; at; at = strstr(at, p->key)) memset(at, '*', n);
    for (size_t k = PN_MIN(n, text); k > 2; k--) /* the text was cut inside it */
        if (memcmp(err->text + text - k, p->key, k) == 0) memset(err->text + text - k, '*', k);
    return st;
}
