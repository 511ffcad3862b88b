/* Servers that fail, in every way, and many requests at once. */
#include "use.h"

#include <pthread.h>
#include <time.h>

static bool say_hello(test_server *s, test_request *r)
{
    (void)s;
    return test_say(r, "hello");
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- failures before the answer -------------------------------------------------------------------------------- */

typedef struct failing {
    const char *status, *head, *body;
    unsigned times;  /* so many requests fail, the next one is answered */
    int how;         /* 0: that status; 1: the connection is reset; 2: closed without a byte; 3: half a head */
} failing;

static bool fail_first(test_server *s, test_request *r)
{
    const failing *f = s->user;
    if (r->number >= f->times) return test_say(r, "hello");
    if (f->how == 1) return test_reset(r->fd), false;
    if (f->how == 2) return false;
    if (f->how == 3) return test_sends(r->fd, "HTTP/1.1 200 OK\r\nContent-"), false;
    return test_answer(r->fd, f->status, f->head, f->body);
}

static told with_failures(failing f, int64_t retries, unsigned *requests, uint64_t *ms)
{
    test_server s;
    ponder_config *c = new_config();
    test_server_start(&s, fail_first, &f, models_openai);
    OK(ponder_config_set_i64(c, PONDER_P_REMOTE_RETRIES, retries));
    ponder_model *m = open_remote(s.url, c);
    ponder_session *session = new_session(m, NULL);
    ask(session, "?");
    const uint64_t began = now_ms();
    told t = generate(session);
    if (ms) *ms = now_ms() - began;
    *requests = atomic_load(&s.requests);
    if (t.st != PONDER_OK && t.st != PONDER_E_UNSUPPORTED) { /* nothing is lost: the same question can be asked again */
        f.times = 0;
        assert_string_equal(generate(session).answer, "hello");
    }
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
    return t;
}

static void test_retries(void **state)
{
    (void)state;
    static const failing passing[] = {
        {"500 Oops", "", "{\"error\":{\"message\":\"oops\"}}", 2, 0}, {"503 Loading", "", "{}", 1, 0}, {"429 Slow", "", "", 1, 0}, {"408 Late", "", "", 1, 0},
        {"502 Bad", "", "<html>", 1, 0}, {NULL, NULL, NULL, 1, 1}, {NULL, NULL, NULL, 2, 2}, {NULL, NULL, NULL, 1, 3}};
    unsigned n;
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        told t = with_failures(passing[i], 3, &n, NULL);
        if (t.st != PONDER_OK) fail_msg("%zu: %s", i, t.text);
        assert_string_equal(t.answer, "hello");
        assert_int_equal(n, passing[i].times + 1);
    }
    /* too many, and none allowed */
    told t = with_failures((failing){"500 Oops", "", "{\"error\":{\"message\":\"oops\"}}", 99, 0}, 1, &n, NULL);
    assert_int_equal(t.st, PONDER_E_IO);
    assert_int_equal(n, 2);
    assert_non_null(strstr(t.text, "oops"));
    t = with_failures((failing){"503 Busy", "", "", 99, 0}, 0, &n, NULL);
    assert_int_equal(t.st, PONDER_E_IO);
    assert_int_equal(n, 1);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct { failing f; ponder_status st; } cases[] = {
        {{"400 Bad Request", "", "{\"error\":{\"message\":\"what is that\"}}", 99, 0}, PONDER_E_ARGUMENT},
        {{"401 Unauthorized", "", "{\"error\":{\"message\":\"what is that\"}}", 99, 0}, PONDER_E_IO},
        {{"404 Not Found", "", "{\"message\":\"what is that\"}", 99, 0}, PONDER_E_ARGUMENT},
        {{"400 Bad Request", "", "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"what is that\"}}", 99, 0}, PONDER_E_CONTEXT},
        {{"302 Found", "Location: http://127.0.0.1:1/\r\n", "what is that", 99, 0}, PONDER_E_IO}, /* never followed: the key is for this server */
    };
    unsigned n;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        told t = with_failures(cases[i].f, 3, &n, NULL);
        assert_int_equal(t.st, cases[i].st);
        assert_int_equal(n, 1); /* asking again would change nothing */
        assert_non_null(strstr(t.text, "what is that"));
        assert_non_null(strstr(t.text, "127.0.0.1"));
    }
}

static void test_retry_after(void **state)
{
    (void)state;
    unsigned n;
    uint64_t ms;
    told t = with_failures((failing){"429 Slow", "Retry-After: 1\r\n", "", 1, 0}, 3, &n, &ms);
    assert_int_equal(t.st, PONDER_OK);
    assert_true(ms >= 1000); /* it was waited for */
}

/* ---- silence -------------------------------------------------------------------------------------------------------- */

static bool sleeper(test_server *s, test_request *r)
{
    const int *at = s->user; /* 0: before the head; 1: behind it; 2: in the middle of the answer */
    if (*at > 0 && !test_stream_head(r->fd)) return false;
    if (*at > 1 && !test_stream(r->fd, CHUNK("{\"content\":\"half\"}"), 4096)) return false;
    for (int i = 0; i < 400 && !atomic_load(&s->stop); i++) test_pause(5);
    return false;
}

static void test_timeouts(void **state)
{
    (void)state;
    for (int at = 0; at < 3; at++) {
        test_server s;
        ponder_config *c = new_config();
        test_server_start(&s, sleeper, &at, models_openai);
        OK(ponder_config_set_i64(c, PONDER_P_REMOTE_TIMEOUT_MS, 100));
        OK(ponder_config_set_i64(c, PONDER_P_REMOTE_RETRIES, 0));
        ponder_model *m = open_remote(s.url, c);
        ponder_session *session = new_session(m, NULL);
        ask(session, "?");
        told t = generate(session);
        assert_int_equal(t.st, PONDER_E_IO);
        assert_int_equal(t.done.end, PONDER_END_FAILED);
        assert_non_null(strstr(t.text, "100 ms"));
        ponder_session_free(session);
        ponder_model_free(m);
        ponder_config_free(c);
        test_server_stop(&s);
    }
}

/* A slow server is no dead one: each byte counts. */
static bool slow(test_server *s, test_request *r)
{
    (void)s;
    if (!test_stream_head(r->fd)) return false;
    for (int i = 0; i < 8; i++) {
        test_pause(40);
        if (!test_stream(r->fd, CHUNK("{\"content\":\"s\"}"), 4096)) return false;
    }
    return test_stream(r->fd, FINISH("stop") DONE, 4096) && test_stream_end(r->fd);
}

static void test_slow(void **state)
{
    (void)state;
    test_server s;
    ponder_config *c = new_config();
    test_server_start(&s, slow, NULL, models_openai);
    OK(ponder_config_set_i64(c, PONDER_P_REMOTE_TIMEOUT_MS, 250));
    ponder_model *m = open_remote(s.url, c);
    ponder_session *session = new_session(m, NULL);
    ask(session, "?");
    /* in slices too: none blocks, and what comes is the same */
    ponder_event e = {.size = sizeof e};
    char answer[64] = "";
    ponder_status st;
    unsigned more = 0;
    do {
        st = ponder_session_step(session, 1000, &e);
        if (st == PONDER_MORE) more++;
        else if (e.kind == PONDER_EVENT_ANSWER) append(answer, sizeof answer, e.text, e.text_bytes);
    } while (st == PONDER_MORE || (st == PONDER_OK && e.kind != PONDER_EVENT_DONE));
    assert_int_equal(st, PONDER_OK);
    assert_string_equal(answer, "ssssssss");
    assert_true(more > 20);
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
}

/* ---- cancel ------------------------------------------------------------------------------------------------------------ */

typedef struct canceller {
    ponder_session *session;
    test_server *server;
    bool half;         /* not before the answer's beginning was heard */
    _Atomic bool heard;
    told t;
} canceller;

static int32_t hear(void *user, const ponder_event *e)
{
    canceller *c = user;
    if (e->kind == PONDER_EVENT_ANSWER) atomic_store(&c->heard, true);
    return note(&c->t, e);
}

static void *cancel_soon(void *user)
{
    canceller *c = user;
    for (int i = 0; i < 2000 && (atomic_load(&c->server->requests) == 0 || (c->half && !atomic_load(&c->heard))); i++) test_pause(5);
    test_pause(30); /* it waits for more by now, or does not: both must do */
    ponder_session_cancel(c->session);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    for (int at = 0; at < 3; at++) {
        test_server s;
        pthread_t thread;
        test_server_start(&s, sleeper, &at, models_openai);
        ponder_model *m = open_remote(s.url, NULL);
        ponder_session *session = new_session(m, NULL);
        ask(session, "?");
        canceller c = {.session = session, .server = &s, .half = at == 2};
        assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &c), 0);
        const ponder_status st = ponder_session_generate(session, hear, &c);
        pthread_join(thread, NULL);
        assert_int_equal(st, PONDER_OK);
        assert_int_equal(c.t.done.end, PONDER_END_CANCELLED);
        assert_string_equal(c.t.answer, at == 2 ? "half" : "");
        atomic_store(&s.handler, say_hello);
        ask(session, "again");
        assert_string_equal(generate(session).answer, "hello");
        ponder_session_free(session);
        ponder_model_free(m);
        test_server_stop(&s);
    }
}

/* ---- streams that break ---------------------------------------------------------------------------------------------------- */

typedef struct breaking {
    const char *before; /* what is said before the end comes */
    unsigned times;
} breaking;

static bool break_first(test_server *s, test_request *r)
{
    const breaking *b = s->user;
    if (r->number >= b->times) return test_say(r, "hello");
    if (test_stream_head(r->fd) && test_stream(r->fd, b->before, 4096)) test_pause(30); /* on its way before the reset */
    return test_reset(r->fd), false;
}

static told with_break(const char *before, int64_t restart, unsigned times)
{
    test_server s;
    breaking b = {before, times};
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_REMOTE_RESTART, restart));
    test_server_start(&s, break_first, &b, models_openai);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, c);
    ask(session, "?");
    told t = generate(session);
    b.times = 0;
    if (t.st != PONDER_OK) assert_string_equal(generate(session).answer, "hello"); /* the question is still there */
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
    return t;
}

static void test_breaks(void **state)
{
    (void)state;
    static const char quiet[] = CHUNK("{\"role\":\"assistant\",\"content\":\"\"}") ": ping\n\n", half[] = CHUNK("{\"content\":\"hel\"}");
    told t = with_break(quiet, 0, 2); /* nothing was told: it begins again unseen */
    assert_int_equal(t.st, PONDER_OK);
    assert_string_equal(t.answer, "hello");
    t = with_break(half, 0, 1);
    assert_int_equal(t.st, PONDER_E_IO);
    assert_string_equal(t.answer, "hel");
    assert_non_null(strstr(t.text, "broke"));
    t = with_break(CHUNK("{\"role\":\"assistant\"}") ": polite\n\n", 0, 1);
    assert_string_equal(t.answer, "hello");
    t = with_break(half, 1, 2); /* ... or it begins again and says so */
    assert_int_equal(t.st, PONDER_OK);
    assert_string_equal(t.answer, "hello");
    assert_int_equal(t.restarts, 2);
    t = with_break(CHUNK("{\"content\":\"all\"}") FINISH("stop"), 0, 1); /* all that matters had come */
    assert_int_equal(t.st, PONDER_OK);
    assert_string_equal(t.answer, "all");
}

/* ---- several servers ----------------------------------------------------------------------------------------------------------- */

static bool say_port(test_server *s, test_request *r)
{
    char text[16];
    snprintf(text, sizeof text, "%d", s->port);
    test_pause(20);
    return test_say(r, text);
}

static bool never(test_server *s, test_request *r)
{
    (void)s;
    return test_reset(r->fd), false;
}

enum { MANY = 16 };

/* All sessions by one caller: each step is short, nothing blocks. */
static void drive_all(ponder_session **s, size_t n, char answer[][32])
{
    bool done[MANY] = {false};
    for (size_t left = n; left > 0;)
        for (size_t i = 0; i < n; i++) {
            ponder_event e = {.size = sizeof e};
            if (done[i]) continue;
            ponder_status st = ponder_session_step(s[i], 500, &e);
            if (st == PONDER_MORE) continue;
            if (st != PONDER_OK) fail_msg("%zu: %s", i, ponder_session_error(s[i]));
            if (e.kind == PONDER_EVENT_ANSWER) append(answer[i], 32, e.text, e.text_bytes);
            if (e.kind != PONDER_EVENT_DONE) continue;
            done[i] = true;
            left--;
        }
}

/* No answer before all of its half have come: that they are there at the same time must not depend on who is faster. */
static bool say_port_together(test_server *s, test_request *r)
{
    for (int i = 0; i < 2000 && atomic_load(&s->requests) < MANY / 2; i++) test_pause(5);
    return say_port(s, r);
}

static void test_spread(void **state)
{
    (void)state;
    test_server a, b;
    char urls[160], answer[MANY][32] = {{0}};
    ponder_session *s[MANY];
    test_server_start(&a, say_port_together, NULL, models_openai);
    test_server_start(&b, say_port_together, NULL, models_openai);
    snprintf(urls, sizeof urls, "%s  %s/v1/", a.url, b.url);
    ponder_model *m = open_remote(urls, NULL);
    for (int i = 0; i < MANY; i++) ask(s[i] = new_session(m, NULL), "?");
    drive_all(s, MANY, answer);
    assert_int_equal(atomic_load(&a.requests), MANY / 2); /* the least loaded first */
    assert_int_equal(atomic_load(&b.requests), MANY / 2);
    assert_true(atomic_load(&a.most_open) >= MANY / 2); /* at the same time */
    for (int i = 0; i < MANY; i++) {
        assert_true(atoi(answer[i]) == a.port || atoi(answer[i]) == b.port);
        ponder_session_free(s[i]);
    }
    ponder_model_free(m);
    test_server_stop(&a);
    test_server_stop(&b);
}

/* One server dies under them. */
static void test_dying(void **state)
{
    (void)state;
    test_server a, b;
    char urls[160], answer[MANY][32] = {{0}}, again[MANY][32] = {{0}};
    ponder_session *s[MANY];
    int64_t alive;
    test_server_start(&a, never, NULL, models_openai);
    test_server_start(&b, say_port, NULL, models_openai);
    snprintf(urls, sizeof urls, "%s %s", a.url, b.url);
    ponder_model *m = open_remote(urls, NULL);
    OK(ponder_model_info_i64(m, PONDER_INFO_SERVERS, &alive));
    assert_int_equal(alive, 2);
    for (int i = 0; i < MANY; i++) ask(s[i] = new_session(m, NULL), "?");
    drive_all(s, MANY, answer);
    for (int i = 0; i < MANY; i++) assert_int_equal(atoi(answer[i]), b.port);
    OK(ponder_model_info_i64(m, PONDER_INFO_SERVERS, &alive));
    assert_int_equal(alive, 1);
    /* gone for good: nobody listens there any more */
    const int port = a.port;
    test_server_stop(&a);
    for (int i = 0; i < MANY; i++) ask(s[i], "again");
    drive_all(s, MANY, again);
    for (int i = 0; i < MANY; i++) assert_int_equal(atoi(again[i]), b.port);
    /* ... and back: it gets its share once it has shown that it lives */
    test_server_start_at(&a, port, say_port, NULL, models_openai);
    for (int tries = 0; atomic_load(&a.requests) < 3 && tries < 400; tries++) {
        memset(again, 0, sizeof again);
        for (int i = 0; i < 4; i++) ask(s[i], "again");
        drive_all(s, 4, again);
    }
    assert_true(atomic_load(&a.requests) >= 3);
    for (int i = 0; i < MANY; i++) ponder_session_free(s[i]);
    ponder_model_free(m);
    test_server_stop(&a);
    test_server_stop(&b);
}

static void test_flights(void **state)
{
    (void)state;
    test_server a;
    char answer[MANY][32] = {{0}};
    ponder_session *s[MANY];
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_REMOTE_FLIGHTS, 2));
    test_server_start(&a, say_port, NULL, models_openai);
    ponder_model *m = open_remote(a.url, c);
    for (int i = 0; i < MANY; i++) ask(s[i] = new_session(m, NULL), "?");
    drive_all(s, MANY, answer);
    assert_int_equal(atomic_load(&a.requests), MANY);
    assert_true(atomic_load(&a.most_open) <= 3); /* one more for the list of models */
    for (int i = 0; i < MANY; i++) ponder_session_free(s[i]);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&a);
}

/* Many callers, each with its own session: whoever waits drives for all. */
static void *one_caller(void *user)
{
    ponder_session *s = user;
    for (int i = 0; i < 3; i++) {
        if (ponder_session_add(s, "user", "?", 1) != PONDER_OK) return "add";
        told t = generate(s);
        if (t.st != PONDER_OK || strcmp(t.answer, "hello") != 0) return "generate";
    }
    return NULL;
}

static void test_callers(void **state)
{
    (void)state;
    test_server a;
    pthread_t thread[8];
    ponder_session *s[8];
    test_server_start(&a, say_hello, NULL, models_openai);
    ponder_model *m = open_remote(a.url, NULL);
    for (int i = 0; i < 8; i++) s[i] = new_session(m, NULL);
    for (int i = 0; i < 8; i++) assert_int_equal(pthread_create(&thread[i], NULL, one_caller, s[i]), 0);
    for (int i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        if (wrong) fail_msg("%s: %s", (char *)wrong, ponder_session_error(s[i]));
        ponder_session_free(s[i]);
    }
    assert_int_equal(atomic_load(&a.requests), 24);
    ponder_model_free(m);
    test_server_stop(&a);
}

/* Sessions that are freed in the middle close their streams: the server sees it. */
static void test_freed(void **state)
{
    (void)state;
    int at = 2;
    test_server a;
    test_server_start(&a, sleeper, &at, models_openai);
    ponder_model *m = open_remote(a.url, NULL);
    ponder_session *s = new_session(m, NULL);
    ponder_event e = {.size = sizeof e};
    ask(s, "?");
    while (ponder_session_step(s, 1000, &e) == PONDER_MORE) { }
    assert_int_equal(e.kind, PONDER_EVENT_ANSWER);
    ponder_model_free(m); /* the session holds it */
    ponder_session_free(s);
    test_server_stop(&a);
}

/* ---- the key ------------------------------------------------------------------------------------------------------------------------ */

static const char key[] = "sk-very-secret-0123456789";

static bool tell_tale(test_server *s, test_request *r)
{
    char body[512];
    const int *http = s->user;
    snprintf(body, sizeof body, "{\"error\":{\"message\":\"Incorrect key %s provided, %s indeed. %.*s%s\"}}", key, key, *http == 500 ? 90 : 0,
             "........................................................................................", key);
    return test_answer(r->fd, *http == 500 ? "500 Oops" : "401 Unauthorized", "", body);
}

typedef struct lines {
    char text[8192];
} lines;

static void log_line(void *user, int32_t level, const char *line)
{
    (void)level;
    append(((lines *)user)->text, sizeof((lines *)user)->text, line, strlen(line));
}

static void check_no_key(const char *text)
{
    for (size_t n = sizeof key - 1; n > 6; n--) {
        char part[sizeof key];
        memcpy(part, key, n);
        part[n] = 0;
        if (strstr(text, part)) fail_msg("the key is in a text: %s", text);
    }
}

static void test_key(void **state)
{
    (void)state;
    for (int http = 401; http <= 500; http += 99) {
        for (int file = 0; file < 2; file++) {
            test_server s;
            static lines log;
            ponder_config *c = new_config();
            log.text[0] = 0;
            test_server_start(&s, tell_tale, &http, models_openai);
            if (file) {
                char path[] = "/tmp/ponder-key-XXXXXX";
                FILE *f = fdopen(mkstemp(path), "w");
                fprintf(f, "%s\nmore\n", key);
                fclose(f);
                OK(ponder_config_set_str(c, PONDER_P_REMOTE_KEY_FILE, path));
                OK(ponder_config_set_log(c, log_line, &log));
                ponder_model *probe = open_remote(s.url, c);
                ponder_model_free(probe);
                ponder_model *again;
                remove(path);
                assert_int_equal(ponder_model_open_remote(&again, s.url, c), PONDER_E_IO); /* the file is gone */
                check_no_key(ponder_config_error(c));
                OK(ponder_config_set_str(c, PONDER_P_REMOTE_KEY_FILE, ""));
            }
            OK(ponder_config_set_str(c, PONDER_P_REMOTE_KEY, key));
            OK(ponder_config_set_i64(c, PONDER_P_REMOTE_RETRIES, 1));
            OK(ponder_config_set_log(c, log_line, &log));
            ponder_model *m = open_remote(s.url, c);
            ponder_session *session = new_session(m, c);
            ask(session, "?");
            told t = generate(session);
            assert_int_equal(t.st, PONDER_E_IO);
            assert_non_null(strstr(atomic_load(&s.last_head), "Authorization: Bearer sk-very-secret-0123456789\r\n"));
            check_no_key(t.text);
            check_no_key(log.text);
            assert_non_null(strstr(t.text, "Incorrect key *"));
            ponder_session_free(session);
            ponder_model_free(m);
            ponder_config_free(c);
            test_server_stop(&s);
        }
    }
}

/* ---- opening -------------------------------------------------------------------------------------------------------------------------- */

static void check_open(const char *url, ponder_param id, const char *value, ponder_status want)
{
    ponder_config *c = new_config();
    ponder_model *m = (ponder_model *)(uintptr_t)1;
    if (value) OK(ponder_config_set_str(c, id, value));
    ponder_status st = ponder_model_open_remote(&m, url, c);
    if (st != want) fail_msg("%s: status %d, %s", url, st, ponder_config_error(c));
    assert_null(m);
    assert_true(strlen(ponder_config_error(c)) > 8);
    ponder_config_free(c);
}

static void test_opening(void **state)
{
    (void)state;
    test_server s;
    ponder_model *m;
    assert_int_equal(ponder_model_open_remote(NULL, "http://x", NULL), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_model_open_remote(&m, NULL, NULL), PONDER_E_ARGUMENT);
    check_open("", 0, NULL, PONDER_E_ARGUMENT);
    check_open("ftp://x", 0, NULL, PONDER_E_ARGUMENT);
    check_open("127.0.0.1:8000", 0, NULL, PONDER_E_ARGUMENT);
    check_open("http://me:secret@127.0.0.1:1", 0, NULL, PONDER_E_ARGUMENT);
    check_open("http://127.0.0.1:1/v1?key=x", 0, NULL, PONDER_E_ARGUMENT);
    check_open("file:///etc/passwd", 0, NULL, PONDER_E_ARGUMENT);
    check_open("http://127.0.0.1:1", 0, NULL, PONDER_E_IO); /* nobody there */
    check_open("http://127.0.0.1:1", PONDER_P_REMOTE_KEY, "two words", PONDER_E_ARGUMENT);
    check_open("http://127.0.0.1:1", PONDER_P_REMOTE_KEY_FILE, "/nowhere/at/all", PONDER_E_IO);
    check_open("http://127.0.0.1:1", PONDER_P_REMOTE_URL, "nonsense", PONDER_E_ARGUMENT);
    /* a server without a list of models: the name must be given */
    test_server_start(&s, say_hello, NULL, NULL);
    check_open(s.url, 0, NULL, PONDER_E_ARGUMENT);
    ponder_config *c = new_config();
    OK(ponder_config_set_str(c, PONDER_P_REMOTE_MODEL, "mine"));
    m = open_remote(s.url, c);
    char name[16];
    size_t n;
    OK(ponder_model_info_str(m, PONDER_INFO_NAME, name, sizeof name, &n));
    assert_memory_equal(name, "mine", 4);
    ponder_session *session = new_session(m, NULL);
    ask(session, "?");
    assert_string_equal(generate(session).answer, "hello");
    json_t *b = body_of(&s);
    assert_string_equal(json_string_value(json_object_get(b, "model")), "mine");
    json_decref(b);
    ponder_session_free(session);
    ponder_model_free(m);
    /* one of two is enough to begin with */
    char urls[160];
    snprintf(urls, sizeof urls, "http://127.0.0.1:1 %s", s.url);
    OK(ponder_config_set_str(c, PONDER_P_REMOTE_URL, "http://127.0.0.1:2"));
    m = open_remote(urls, c);
    session = new_session(m, NULL);
    ask(session, "?");
    assert_string_equal(generate(session).answer, "hello");
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
}

/* The environment's proxy is the program's business, not ours. */
static void test_environment(void **state)
{
    (void)state;
    test_server s;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    test_server_start(&s, say_hello, NULL, models_openai);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_model_free(m);
    test_server_stop(&s);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retries), cmocka_unit_test(test_refused), cmocka_unit_test(test_retry_after), cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_slow),    cmocka_unit_test(test_cancel),  cmocka_unit_test(test_breaks),      cmocka_unit_test(test_spread),
        cmocka_unit_test(test_dying),   cmocka_unit_test(test_flights), cmocka_unit_test(test_callers),     cmocka_unit_test(test_freed),
        cmocka_unit_test(test_key),     cmocka_unit_test(test_opening), cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests_name("remote-fleet", tests, NULL, NULL);
}
