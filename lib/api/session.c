#include "api/api.h"

#include <unistd.h>

ponder_status ponder_session_new(ponder_session **out, ponder_model *m, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!m) return pn_fail(err, PONDER_E_ARGUMENT, "model: NULL");
    ponder_status st = pn_api_pid(m->pid, err);
    return st == PONDER_OK ? pn_session_new(out, m, c, err) : st;
}

void ponder_session_free(ponder_session *s)
{
    if (!s || s->pid != getpid()) return;
    pn_session_free(s);
}

const char *ponder_session_error(const ponder_session *s) { return s ? s->err.text : ""; }

void ponder_session_cancel(ponder_session *s)
{
    if (s) pn_session_cancel(s);
}

void ponder_session_close_thought(ponder_session *s)
{
    if (!s) return;
    atomic_store(&s->think.close_now, true);
    if (s->distant) pn_distant_wake(s);
}

/* Every call below is one on a session, by the same frame. */
#define BEGIN(s) \
    pn_call call; \
    ponder_status st = pn_call_begin(&call, s); \
    if (st != PONDER_OK) return st
/* ... and one that needs what a remote model keeps to itself. */
#define BEGIN_LOCAL(s, what) \
    BEGIN(s); \
    if ((st = pn_call_local(s, what)) != PONDER_OK) return pn_call_end(&call, st)
#define END() return pn_call_end(&call, st)
#define MISSING(s, what) pn_fail(&(s)->err, PONDER_E_ARGUMENT, what ": NULL")

ponder_status ponder_session_configure(ponder_session *s, ponder_config *c)
{
    BEGIN(s);
    st = c ? pn_session_configure(s, c) : MISSING(s, "config");
    END();
}

ponder_status ponder_session_bias(ponder_session *s, int32_t token, float bias)
{
    BEGIN_LOCAL(s, "a bias");
    st = pn_session_bias(s, token, bias);
    END();
}

ponder_status ponder_session_add(ponder_session *s, const char *role, const char *text, size_t bytes)
{
    BEGIN(s);
    if (!role || (!text && bytes)) st = MISSING(s, "role or text");
    else st = pn_session_add(s, role, text, bytes);
    END();
}

ponder_status ponder_session_prompt(ponder_session *s, const char *text, size_t bytes, uint32_t flags)
{
    BEGIN_LOCAL(s, "a raw prompt");
    st = !text && bytes ? MISSING(s, "text") : pn_session_prompt(s, text, bytes, flags);
    END();
}

ponder_status ponder_session_prompt_ids(ponder_session *s, const int32_t *ids, size_t n)
{
    BEGIN_LOCAL(s, "a raw prompt");
    if (!ids && n) st = MISSING(s, "ids");
    else st = pn_session_prompt_ids(s, ids, n);
    END();
}

/* ---- turns ------------------------------------------------------------------------------------- */

ponder_status ponder_session_generate(ponder_session *s, ponder_on_event on_event, void *user)
{
    BEGIN(s);
    ponder_event event = {0};
    pn_session_enter(s, true);
    do {
        st = pn_session_next(s, 0, &event);
        if (st != PONDER_OK) break;
        if (pn_call_tell(&call, on_event, user, &event) != 0) pn_session_cancel(s);
    } while (event.kind != PONDER_EVENT_DONE);
    if (st != PONDER_OK) {
        event = (ponder_event){.size = sizeof event, .kind = PONDER_EVENT_DONE, .end = PONDER_END_FAILED, .token = -1, .agent = -1};
        event.text = s->err.text;
        event.text_bytes = strlen(s->err.text);
        pn_call_tell(&call, on_event, user, &event);
    }
    pn_session_leave(s);
    END();
}

ponder_status ponder_session_thought(ponder_session *s, ponder_thought *out)
{
    BEGIN(s);
    ponder_thought t;
    if (!pn_api_struct(out, sizeof *out)) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "thought: NULL or without its size");
    else {
        pn_session_read_thought(s, &t);
        pn_api_write(out, &t, sizeof t);
    }
    END();
}

ponder_status ponder_session_step(ponder_session *s, uint64_t max_us, ponder_event *out)
{
    BEGIN(s);
    ponder_event event;
    if (!pn_api_struct(out, PN_EVENT_FIRST)) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "event: NULL or without its size");
    else st = pn_session_next(s, pn_now_us() + PN_MIN(max_us, UINT64_C(1) << 50), &event);
    if (st >= PONDER_OK) pn_api_write(out, &event, sizeof event);
    END();
}

/* ---- tokens -------------------------------------------------------------------------------------- */

ponder_status ponder_session_fork(ponder_session **out, ponder_session *s, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    BEGIN(s);
    pn_session_drop_turn(s);
    st = pn_session_fork(out, s, c);
    END();
}

ponder_status ponder_session_rewind(ponder_session *s, size_t tokens, size_t *recompute)
{
    BEGIN(s);
    uint32_t again = 0;
    pn_session_drop_turn(s);
    st = pn_session_rewind(s, tokens, &again);
    if (recompute) *recompute = again;
    END();
}

ponder_status ponder_session_tokens(ponder_session *s, int32_t *ids, size_t cap, size_t *n)
{
    BEGIN_LOCAL(s, "tokens");
    st = pn_api_copy(pn_sequence_ids(s->seq), pn_sequence_held(s->seq), sizeof *ids, ids, cap, n, &s->err);
    END();
}

uint64_t ponder_session_bytes(const ponder_session *s)
{
    if (!s || s->pid != getpid()) return 0;
    if (s->distant) return sizeof *s + pn_distant_bytes(s);
    return sizeof *s + pn_sequence_bytes(s->seq) + pn_sampler_bytes(s->sampler.vocab);
}

/* ---- numbers -------------------------------------------------------------------------------------- */

ponder_status ponder_session_eval(ponder_session *s, const int32_t *ids, size_t n, ponder_eval *eval)
{
    BEGIN_LOCAL(s, "eval");
    if (!pn_api_struct(eval, sizeof *eval) || (!ids && n)) st = MISSING(s, "ids or eval");
    else {
        pn_session_drop_turn(s);
        st = pn_session_eval(s, ids, n, eval);
    }
    END();
}

ponder_status ponder_session_logits(ponder_session *s, float *logits, size_t cap, size_t *n)
{
    BEGIN_LOCAL(s, "logits");
    pn_session_drop_turn(s);
    if (logits && cap >= s->sampler.vocab) st = pn_session_settle(s);
    if (st == PONDER_OK) st = pn_api_copy(pn_sequence_logits(s->seq), s->sampler.vocab, sizeof *logits, logits, cap, n, &s->err);
    END();
}

ponder_status ponder_session_score(ponder_session *s, const int32_t *ids, size_t n, float *logprobs)
{
    BEGIN_LOCAL(s, "scores");
    pn_session_drop_turn(s);
    st = n && (!ids || !logprobs) ? MISSING(s, "ids or logprobs") : pn_session_score(s, ids, n, logprobs);
    END();
}

ponder_status ponder_session_embed(ponder_session *s, const char *text, size_t bytes, float *vector, size_t cap, size_t *n)
{
    BEGIN_LOCAL(s, "embeddings");
    const uint32_t width = s->model->core->network->d.width;
    if (!n || !text || (!vector && cap)) st = MISSING(s, "text, vector or n");
    else {
        *n = width;
        if (vector && cap < width) st = pn_fail(&s->err, PONDER_E_SPACE, "the buffer holds %zu, the result has %u", cap, width);
        else if (vector) st = pn_session_embed(s, text, bytes, vector);
    }
    END();
}

/* ---- saved states --------------------------------------------------------------------------------- */

ponder_status ponder_session_save(ponder_session *s, void *bytes, size_t cap, size_t *n)
{
    BEGIN_LOCAL(s, "a saved state");
    pn_buf b;
    pn_session_drop_turn(s);
    pn_buf_init(&b, s->a);
    st = pn_session_save(s, &b);
    if (st == PONDER_OK) st = pn_api_copy(b.p, b.n, 1, bytes, cap, n, &s->err);
    pn_buf_free(&b);
    END();
}

ponder_status ponder_session_save_file(ponder_session *s, const char *path)
{
    BEGIN_LOCAL(s, "a saved state");
    pn_buf b;
    pn_session_drop_turn(s);
    pn_buf_init(&b, s->a);
    st = path ? pn_session_save(s, &b) : MISSING(s, "path");
    if (st == PONDER_OK) st = pn_api_write_file(path, &b, &s->err);
    pn_buf_free(&b);
    END();
}

ponder_status ponder_session_load(ponder_session *s, const void *bytes, size_t n)
{
    BEGIN_LOCAL(s, "a saved state");
    st = bytes ? pn_session_load(s, bytes, n) : MISSING(s, "bytes");
    END();
}

ponder_status ponder_session_load_file(ponder_session *s, const char *path)
{
    BEGIN_LOCAL(s, "a saved state");
    pn_source *f = NULL;
    st = path ? pn_source_path(&f, path, s->a, &s->err) : MISSING(s, "path");
    if (st == PONDER_OK) {
        size_t n = (size_t)pn_source_size(f);
        const uint8_t *p = pn_source_view(f, 0, n);
        st = p ? pn_session_load(s, p, n) : pn_fail(&s->err, PONDER_E_FORMAT, "%s is empty", path);
    }
    pn_source_free(f);
    END();
}
