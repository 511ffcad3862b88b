#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

const char models_openai[] = "{\"object\":\"list\",\"data\":[{\"id\":\"plain-model\",\"object\":\"model\",\"owned_by\":\"somebody\"}]}";
const char models_vllm[] = "{\"object\":\"list\",\"data\":[{\"id\":\"v-model\",\"object\":\"model\",\"owned_by\":\"vllm\",\"max_model_len\":2048}]}";
const char models_llama[] = "{\"object\":\"list\",\"data\":[{\"id\":\"l-model\",\"object\":\"model\",\"owned_by\":\"llamacpp\",\"meta\":{\"n_ctx\":4096}}]}";

bool test_send(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

bool test_sends(int fd, const char *text) { return test_send(fd, text, strlen(text)); }

void test_pause(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) { }
}

void test_reset(int fd)
{
    struct linger l = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

bool test_stream_head(int fd)
{
    return test_sends(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
}

bool test_stream(int fd, const char *text, size_t piece)
{
    char head[32];
    for (size_t at = 0, n = strlen(text); at < n; at += piece) {
        const size_t k = piece < n - at ? piece : n - at;
        snprintf(head, sizeof head, "%zx\r\n", k);
        if (!test_sends(fd, head) || !test_send(fd, text + at, k) || !test_sends(fd, "\r\n")) return false;
    }
    return true;
}

bool test_stream_end(int fd) { return test_sends(fd, "0\r\n\r\n"); }

bool test_answer(int fd, const char *status, const char *more_head, const char *body)
{
    char head[512];
    snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n", status, strlen(body), more_head);
    return test_sends(fd, head) && test_sends(fd, body);
}

bool test_say(test_request *r, const char *answer)
{
    char text[2048];
    snprintf(text, sizeof text,
             "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
             "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\n"
             "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
             "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n", answer);
    return test_stream_head(r->fd) && test_stream(r->fd, text, sizeof text) && test_stream_end(r->fd);
}

typedef struct connection {
    test_server *s;
    int fd;
} connection;

/* One request, from its first byte to its last; false: there is none any more. */
static bool read_request(int fd, test_request *r)
{
    size_t n = 0, room = 1 << 16;
    char *all = malloc(room + 1);
    *r = (test_request){.fd = fd};
    for (;;) {
        if (n == room) all = realloc(all, (room *= 2) + 1);
        ssize_t k = recv(fd, all + n, room - n, 0);
        if (k <= 0) break;
        n += (size_t)k;
        all[n] = 0;
        char *end = strstr(all, "\r\n\r\n");
        if (!end) continue;
        const char *length = strcasestr(all, "\r\ncontent-length:");
        const size_t head = (size_t)(end - all) + 4, want = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
        if (n < head + want) continue;
        r->head = strndup(all, head);
        r->body = malloc(want + 1);
        memcpy(r->body, all + head, want);
        r->body[want] = 0;
        r->body_bytes = want;
        sscanf(all, "%7s %127s", r->method, r->path);
        free(all);
        return true;
    }
    free(all);
    return false;
}

static void remember(char *_Atomic *to, const char *text)
{
    free(atomic_exchange(to, strdup(text)));
}

static bool answer(test_server *s, test_request *r)
{
    if (strcmp(r->path, "/v1/models") == 0 && s->models) return test_answer(r->fd, "200 OK", "", s->models);
    if (strcmp(r->path, "/v1/models") == 0) return test_answer(r->fd, "404 Not Found", "", "{}");
    remember(&s->last_head, r->head);
    remember(&s->last_body, r->body);
    r->number = atomic_fetch_add(&s->requests, 1);
    return atomic_load(&s->handler)(s, r);
}

static void *serve(void *user)
{
    connection c = *(connection *)user;
    test_request r;
    free(user);
    bool more = true;
    while (more && !atomic_load(&c.s->stop) && read_request(c.fd, &r)) {
        more = answer(c.s, &r);
        free(r.head);
        free(r.body);
    }
    close(c.fd);
    atomic_fetch_sub(&c.s->open, 1);
    return NULL;
}

static void *listen_loop(void *user)
{
    test_server *s = user;
    for (;;) {
        int fd = accept(s->listener, NULL, NULL), one = 1;
        if (fd < 0 || atomic_load(&s->stop)) {
            if (fd >= 0) close(fd);
            return NULL;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection *c = malloc(sizeof *c);
        *c = (connection){s, fd};
        /* counted here, so that the server does not stop before the connection's thread has begun */
        unsigned now = atomic_fetch_add(&s->open, 1) + 1, most = atomic_load(&s->most_open);
        if (now > most) atomic_store(&s->most_open, now);
        pthread_t t;
        if (pthread_create(&t, NULL, serve, c) != 0) exit(1);
        pthread_detach(t);
    }
}

void test_server_start_at(test_server *s, int port, test_handler handler, void *user, const char *models)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    socklen_t n = sizeof a;
    int one = 1;
    *s = (test_server){.handler = handler, .user = user, .models = models};
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(s->listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(s->listener, 64) != 0 || getsockname(s->listener, (struct sockaddr *)&a, &n) != 0) {
        perror("test server");
        exit(1);
    }
    s->port = ntohs(a.sin_port);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", s->port);
    pthread_t t;
    if (pthread_create(&t, NULL, listen_loop, s) != 0) exit(1);
    s->thread = (unsigned long)t;
}

void test_server_start(test_server *s, test_handler handler, void *user, const char *models) { test_server_start_at(s, 0, handler, user, models); }

void test_server_stop(test_server *s)
{
    atomic_store(&s->stop, true);
    shutdown(s->listener, SHUT_RDWR);
    pthread_join((pthread_t)s->thread, NULL);
    close(s->listener);
    for (int i = 0; atomic_load(&s->open) && i < 2000; i++) test_pause(5);
    free(atomic_load(&s->last_head));
    free(atomic_load(&s->last_body));
}
