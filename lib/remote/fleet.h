/* Inside the remote room: servers, transfers, and who drives them. */
#ifndef PN_FLEET_H
#define PN_FLEET_H

#include <pthread.h>

#include "remote/curl.h"
#include "remote/remote.h"

typedef struct pn_server {
    char *url;                /* without a slash at its end */
    uint32_t running;         /* requests */
    uint64_t sent;            /* requests so far: who has had fewer goes first */
    uint64_t rest_until;      /* not to be asked before */
    uint32_t failures;        /* in a row */
} pn_server;

typedef enum pn_request_state { PN_WAITING, PN_RUNNING, PN_ENDED } pn_request_state;

struct pn_request {
    pn_request *next;
    pn_fleet *fleet;
    pn_request_state state;
    CURL *easy;
    int server;               /* that it was sent to last; -1: none yet */
    int only;                 /* may go to this one alone, once; -1: to any */
    uint32_t attempts;
    char *path;
    pn_buf body;              /* empty: a GET */
    bool orphan;              /* nobody waits for it any more */
    bool paused, nomem;
    /* of this attempt */
    uint64_t heard;           /* when the last byte came, or it was sent */
    long http;
    uint64_t received;        /* bytes of the body */
    pn_buf in;                /* not taken yet */
    char text[CURL_ERROR_SIZE];
    /* the end */
    ponder_status st;
    ponder_error err;
    /* the waiting caller's alone */
    pn_sse sse;
};

struct pn_fleet {
    const ponder_alloc *a;
    const pn_curl *curl;
    CURLM *multi;
    struct curl_slist *headers;
    pthread_mutex_t mutex;
    pthread_cond_t news_cond;
    bool leading;             /* somebody is in multi_poll */
    uint64_t news;            /* counts bytes' arrivals and ends */
    pn_request *first;
    pn_server server[PN_SERVERS];
    uint32_t n_servers;
    char *key, *model, *ca, *proxy;
    pn_dialect dialect;
    uint64_t context;
    uint32_t retries, flights;
    uint64_t timeout_us;
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
};

char *pn_fleet_copy(const ponder_alloc *a, const char *s);
void pn_fleet_drop_text(const ponder_alloc *a, char *s);  /* wiped first */

/* request.c; the first four with the mutex held */
ponder_status pn_request_send(pn_request *r, uint32_t server); /* PONDER_E_NOMEM */
void pn_request_close(pn_request *r);                     /* takes the transfer out of the multi handle */
void pn_request_drop(pn_request *r);                      /* closed and out of the list: its memory */
void pn_request_ended(pn_request *r, CURLcode code);
/* A GET that goes to this server alone, once. */
ponder_status pn_request_pinned(pn_request **out, pn_fleet *p, const char *path, uint32_t server, ponder_error *err);

/* fleet.c */
void pn_server_failed(pn_fleet *p, uint32_t i, uint64_t wait_us); /* wait_us: as it said; 0: it did not */
bool pn_fleet_hopeless(const pn_fleet *p);
void pn_fleet_say(const pn_fleet *p, int32_t level, const char *fmt, ...) PN_PRINTF(3, 4);
void pn_fleet_drive(pn_fleet *p, uint64_t until);           /* one round; mutex held */

#endif
