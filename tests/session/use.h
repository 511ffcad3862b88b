/* What the session tests share: opening, asking, and collecting what the host is told. Only ponder.h. */
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

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define OK(call) assert_int_equal(call, PONDER_OK)

enum { EOT = 392, SEED_VOCAB = 416, MOST_IDS = 8192, MOST_TEXT = 16384 };

static inline const char *data_path(const char *name)
{
    static char path[512];
    const char *data = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/%s", data ? data : "tests/data", name);
    return path;
}

/* A config for short conversations on one thread, greedy; f32 so that references of f32 arithmetic hold. */
static inline ponder_config *new_config(void)
{
    ponder_config *c;
    OK(ponder_config_new(&c, NULL));
    OK(ponder_config_set_i64(c, PONDER_P_THREADS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 512));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 64));
    OK(ponder_config_set_str(c, PONDER_P_KV_TYPE, "f32"));
    return c;
}

static inline ponder_model *open_model(const char *name, ponder_config *c)
{
    ponder_model *m;
    ponder_status st = ponder_model_open(&m, data_path(name), c);
    if (st != PONDER_OK) fail_msg("%s: %s", name, ponder_config_error(c));
    return m;
}

static inline ponder_session *new_session(ponder_model *m, ponder_config *c)
{
    ponder_session *s;
    ponder_status st = ponder_session_new(&s, m, c);
    if (st != PONDER_OK) fail_msg("%s", ponder_config_error(c));
    return s;
}

/* A session whose settings differ from the config's only here. */
static inline ponder_session *session_with(ponder_model *m, ponder_param id, int64_t value)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, id, value));
    ponder_session *s = new_session(m, c);
    ponder_config_free(c);
    return s;
}

static inline void add(ponder_session *s, const char *role, const char *text) { OK(ponder_session_add(s, role, text, strlen(text))); }

/* ---- ids --------------------------------------------------------------------------------- */

typedef struct ids {
    int32_t id[MOST_IDS];
    size_t n;
} ids;

static inline ids tokens_of(ponder_session *s)
{
    ids v;
    OK(ponder_session_tokens(s, v.id, COUNT(v.id), &v.n));
    return v;
}

static inline ids ids_of_json(const json_t *list)
{
    ids v = {.n = 0};
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item) v.id[v.n++] = (int32_t)json_integer_value(item);
    return v;
}

static inline ids ids_of_text(ponder_model *m, const char *text, size_t n, uint32_t flags)
{
    ids v;
    ponder_tokenizer *t;
    OK(ponder_model_tokenizer(&t, m, NULL));
    OK(ponder_tokenize(t, text, n, flags, v.id, COUNT(v.id), &v.n, NULL));
    ponder_tokenizer_free(t);
    return v;
}

static inline size_t text_of_ids(ponder_model *m, const int32_t *id, size_t n, bool special, char text[MOST_TEXT])
{
    ponder_tokenizer *t;
    size_t bytes;
    OK(ponder_model_tokenizer(&t, m, NULL));
    OK(ponder_detokenize(t, id, n, special, text, MOST_TEXT, &bytes, NULL));
    ponder_tokenizer_free(t);
    return bytes;
}

static inline void same_ids(const ids *a, const int32_t *id, size_t n)
{
    assert_int_equal(a->n, n);
    assert_memory_equal(a->id, id, n * sizeof *id);
}

static inline bool has_id(const int32_t *id, size_t n, int32_t wanted)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] == wanted) return true;
    return false;
}

/* ---- what a turn tells ---------------------------------------------------------------------- */

typedef struct told {
    char text[MOST_TEXT];     /* of all text events */
    size_t n;
    char trace[4 * MOST_TEXT]; /* every event: kind, token, text */
    size_t n_trace;
    uint32_t events, dones;
    int32_t end;
    uint64_t prompt, reused, output;
    uint32_t stop_after;      /* the callback says stop at this event; 0: never */
} told;

static inline bool whole_utf8(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t c = (uint8_t)p[i];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
        if (len == 0 || len > n - i) return false;
        for (size_t k = 1; k < len; k++)
            if (((uint8_t)p[i + k] & 0xc0) != 0x80) return false;
        i += len;
    }
    return true;
}

static inline int32_t take_event(void *user, const ponder_event *e)
{
    told *t = user;
    assert_int_equal(e->size, sizeof *e);
    assert_int_equal(t->dones, 0);
    assert_true(whole_utf8(e->text, e->text_bytes));
    t->events++;
    int head = snprintf(t->trace + t->n_trace, sizeof t->trace - t->n_trace, "%d %d %zu:", e->kind, e->token, e->text_bytes);
    t->n_trace += (size_t)head;
    memcpy(t->trace + t->n_trace, e->text, e->text_bytes);
    t->n_trace += e->text_bytes;
    if (e->kind == PONDER_EVENT_DONE) {
        t->dones++;
        t->end = e->end;
        t->prompt = e->prompt_tokens;
        t->reused = e->reused_tokens;
        t->output = e->output_tokens;
    } else {
        memcpy(t->text + t->n, e->text, e->text_bytes);
        t->n += e->text_bytes;
    }
    t->text[t->n] = 0;
    return t->stop_after && t->events >= t->stop_after;
}

static inline told *new_told(void)
{
    told *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

/* One turn; to be freed. */
static inline told *generate(ponder_session *s)
{
    told *t = new_told();
    ponder_status st = ponder_session_generate(s, take_event, t);
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    assert_int_equal(t->dones, 1);
    return t;
}

static inline int32_t generate_end(ponder_session *s)
{
    told *t = generate(s);
    int32_t end = t->end;
    free(t);
    return end;
}

/* ---- the references of seed0 -------------------------------------------------------------------- */

static inline json_t *seed_references(void)
{
    json_error_t e;
    json_t *r = json_load_file(data_path("seed0/reference.json"), 0, &e);
    if (!r) fail_msg("%s", e.text);
    return r;
}

static inline const char *text_at(const json_t *o, const char *key) { return json_string_value(json_object_get(o, key)); }
static inline ids ids_at(const json_t *o, const char *key) { return ids_of_json(json_object_get(o, key)); }
static inline const char *question_of(const json_t *o)
{
    return text_at(json_array_get(json_object_get(o, "messages"), 0), "content");
}

#endif
