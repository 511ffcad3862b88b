/* What the tests of remote models share. Only ponder.h. */
#ifndef USE_H
#define USE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <ponder.h>

#include "server.h"

#define OK(call) assert_int_equal(call, PONDER_OK)
#define CHUNK(delta) "data: {\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define FINISH(reason) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

/* What a turn told: each kind's text in one piece, kinds in order of their first coming. */
typedef struct told {
    char thought[4096], answer[4096], raw[4096], calls[4096];
    ponder_event done;
    ponder_status st;
    unsigned restarts, events;
    char text[256]; /* of the failure */
} told;

static inline void append(char *to, size_t room, const char *p, size_t n)
{
    const size_t have = strlen(to);
    if (have + n >= room) n = room - 1 - have;
    memcpy(to + have, p, n);
    to[have + n] = 0;
}

static inline int32_t note(void *user, const ponder_event *e)
{
    told *t = user;
    t->events++;
    switch (e->kind) {
    case PONDER_EVENT_THOUGHT: append(t->thought, sizeof t->thought, e->text, e->text_bytes); break;
    case PONDER_EVENT_ANSWER: append(t->answer, sizeof t->answer, e->text, e->text_bytes); break;
    case PONDER_EVENT_RAW: append(t->raw, sizeof t->raw, e->text, e->text_bytes); break;
    case PONDER_EVENT_TOOL_CALL:
        append(t->calls, sizeof t->calls, e->name, e->name_bytes);
        append(t->calls, sizeof t->calls, e->text, e->text_bytes);
        append(t->calls, sizeof t->calls, ";", 1);
        break;
    case PONDER_EVENT_RESTART:
        t->restarts++;
        t->thought[0] = t->answer[0] = t->raw[0] = t->calls[0] = 0;
        break;
    case PONDER_EVENT_DONE: t->done = *e; break;
    default: break;
    }
    return 0;
}

static inline told generate(ponder_session *s)
{
    told t = {.st = 0};
    t.st = ponder_session_generate(s, note, &t);
    snprintf(t.text, sizeof t.text, "%s", ponder_session_error(s));
    return t;
}

static inline ponder_config *new_config(void)
{
    ponder_config *c;
    OK(ponder_config_new(&c, NULL));
    return c;
}

static inline ponder_model *open_remote(const char *url, ponder_config *c)
{
    ponder_model *m;
    ponder_status st = ponder_model_open_remote(&m, url, c);
    if (st != PONDER_OK) fail_msg("%s: %s", url, c ? ponder_config_error(c) : "");
    return m;
}

static inline ponder_session *new_session(ponder_model *m, ponder_config *c)
{
    ponder_session *s;
    ponder_status st = ponder_session_new(&s, m, c);
    if (st != PONDER_OK) fail_msg("%s", c ? ponder_config_error(c) : "");
    return s;
}

static inline void ask(ponder_session *s, const char *text) { OK(ponder_session_add(s, "user", text, strlen(text))); }

/* The newest request's body as JSON. */
static inline json_t *body_of(const test_server *s)
{
    json_error_t e;
    json_t *v = json_loads(atomic_load(&s->last_body), 0, &e);
    if (!v) fail_msg("the request is no JSON: %s", e.text);
    return v;
}

#endif
