/* A server on the loopback that does as it is told: each connection is a thread, each request a call of the test's own. */
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct test_request {
    int fd;
    unsigned number;        /* how many chat requests the server had before this one */
    char method[8], path[128];
    char *head, *body;      /* with a NUL */
    size_t body_bytes;
} test_request;

typedef struct test_server test_server;
/* Answers one request; true: the connection stays open for another. */
typedef bool (*test_handler)(test_server *s, test_request *r);

struct test_server {
    int listener;
    int port;
    char url[64];
    _Atomic(test_handler) handler; /* a test may change it between requests */
    void *user;
    const char *models;     /* what /v1/models says; NULL: a plain server's */
    _Atomic unsigned requests, open; /* chat requests; connections that are open */
    _Atomic unsigned most_open;
    _Atomic bool stop;
    unsigned long thread;
    char *_Atomic last_head;  /* of the newest chat request */
    char *_Atomic last_body;
};

extern const char models_openai[], models_vllm[], models_llama[];

void test_server_start(test_server *s, test_handler handler, void *user, const char *models);
void test_server_start_at(test_server *s, int port, test_handler handler, void *user, const char *models);
void test_server_stop(test_server *s);
/* Writes everything; false: the other side is gone. */
bool test_send(int fd, const char *p, size_t n);
bool test_sends(int fd, const char *text);
void test_pause(unsigned ms);
void test_reset(int fd); /* the connection ends in a way that nobody can take for a good end */
/* A stream: head, then pieces of at most `piece` bytes as chunks; `end`: the last chunk too. */
bool test_stream_head(int fd);
bool test_stream(int fd, const char *text, size_t piece);
bool test_stream_end(int fd);
/* A whole answer that is no stream. */
bool test_answer(int fd, const char *status, const char *more_head, const char *body);
/* The usual stream: an answer in one delta, then the end and [DONE]. */
bool test_say(test_request *r, const char *answer);

#endif
