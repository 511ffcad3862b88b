/* A sound that is still being recorded: its rows go into the sequence as they are made, so that they can be computed while more
 * of it arrives. */
#include "session/session.h"

struct pn_listening {
    pn_audio_stream *stream;
    uint32_t rate, channels;
    bool open;                /* the message's beginning is in the sequence */
    /* rows being made */
    pn_audio_encode *encode;
    pn_task *task;
    pn_rows *rows;
};

static void drop_encoding(pn_listening *l)
{
    pn_task_free(l->task);
    pn_audio_encode_free(l->encode);
    pn_rows_release(l->rows);
    l->task = NULL;
    l->encode = NULL;
    l->rows = NULL;
}

void pn_session_forget_listening(ponder_session *s)
{
    pn_listening *l = s->listening;
    if (!l) return;
    drop_encoding(l);
    pn_audio_stream_free(l->stream);
    pn_free(s->a, l, sizeof *l);
    s->listening = NULL;
}

static ponder_status new_listening(ponder_session *s, uint32_t rate, uint32_t channels, pn_listening **out)
{
    pn_listening *l = *out = pn_zalloc(s->a, sizeof *l);
    if (!l) return pn_nomem(&s->err, sizeof *l);
    l->rate = rate;
    l->channels = channels;
    return PONDER_OK;
}

ponder_status pn_session_listen(ponder_session *s, const float *samples, size_t frames, uint32_t rate, uint32_t channels)
{
    const pn_audio *t = s->model->core->audio;
    ponder_status st = pn_session_needs(s, true);
    if (st != PONDER_OK) return st;
    if (!t) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model does not hear: no audio tower was loaded");
    if (s->phase != PN_IDLE) return pn_fail(&s->err, PONDER_E_STATE, "a turn is under way");
    if (s->listening && (s->listening->rate != rate || s->listening->channels != channels))
        return pn_fail(&s->err, PONDER_E_ARGUMENT, "the sound began with %u samples a second in %u channels", s->listening->rate, s->listening->channels);
    if (!s->listening) {
        pn_listening *l;
        const uint64_t most = (uint64_t)pn_sequence_limit(s->seq) * pn_audio_about(t)->samples;
        st = new_listening(s, rate, channels, &l);
        if (st == PONDER_OK) st = pn_audio_stream_new(&l->stream, t, rate, channels, most, s->a, &s->err);
        if (st != PONDER_OK) {
            pn_free(s->a, l, sizeof *l);
            return st;
        }
        s->listening = l;
    }
    return frames ? pn_audio_stream_push(s->listening->stream, samples, frames, &s->err) : PONDER_OK;
}

/* The message's beginning, once: what was added before it, its own parts, and the sound's mark. */
static ponder_status open_message(ponder_session *s)
{
    pn_medium *live = pn_zalloc(s->a, sizeof *live);
    if (!live) return pn_nomem(&s->err, sizeof *live);
    *live = (pn_medium){.a = s->a, .kind = PN_PART_AUDIO};
    ponder_status st = pn_session_open_listening(s, live);
    if (st == PONDER_OK) s->listening->open = true;
    if (st == PONDER_OK || st != PONDER_E_CANCELLED) pn_session_forget_parts(s);
    return st;
}

static ponder_status begin_rows(ponder_session *s, uint32_t n)
{
    pn_listening *l = s->listening;
    pn_work w;
    ponder_status st = pn_rows_new(&l->rows, n, s->model->core->network->d.width, 0, &s->model->core->meter.alloc, &s->err);
    if (st == PONDER_OK)
        st = pn_audio_encode_new(&l->encode, l->stream, n, l->rows->v, &s->model->kernels, pn_engine_threads(s->model->engine), s->a, &s->err);
    if (st == PONDER_OK) {
        w = *pn_audio_encode_work(l->encode);
        st = pn_task_new(&l->task, s->model->engine, &w, &s->err);
    }
    if (st != PONDER_OK) drop_encoding(l);
    return st;
}

ponder_status pn_session_hear(ponder_session *s, uint64_t until)
{
    pn_listening *l = s->listening;
    ponder_status st = l->open ? PONDER_OK : open_message(s);
    while (st == PONDER_OK) {
        uint64_t ready = pn_audio_stream_ready(l->stream);
        const uint32_t room = pn_sequence_limit(s->seq) - pn_sequence_count(s->seq);
        if (!l->task && ready == 0) return PONDER_OK;
        if (!l->task && ready > room) return pn_fail(&s->err, PONDER_E_CONTEXT, "the context has room for %u more tokens of sound", room);
        if (!l->task) st = begin_rows(s, (uint32_t)ready);
        if (st == PONDER_OK) st = pn_task_advance(l->task, until, pn_sequence_cancelled(s->seq), &s->err);
        if (st != PONDER_OK) return st;
        st = pn_sequence_append_rows(s->seq, s->model->core->placeholder[PN_PART_AUDIO], l->rows, 0, l->rows->n, &s->err);
        drop_encoding(l);
    }
    return st;
}

/* The last samples, the sound's end, and the text behind it. Blocks for what is left to be encoded. */
ponder_status pn_session_end_listening(ponder_session *s, const char *text, size_t n)
{
    pn_listening *l = s->listening;
    ponder_status st = pn_audio_stream_ended(l->stream) ? PONDER_OK : pn_audio_stream_end(l->stream, &s->err);
    if (st == PONDER_OK) st = pn_session_hear(s, 0);
    if (st == PONDER_OK) st = pn_session_close_listening(s, text, n);
    if (st == PONDER_OK) pn_session_forget_listening(s);
    return st;
}

ponder_status pn_session_copy_listening(ponder_session *to, const ponder_session *from)
{
    const pn_listening *l = from->listening;
    if (!l) return PONDER_OK;
    if (l->task) return pn_fail(&to->err, PONDER_E_STATE, "rows of the sound are being made: finish ponder_session_prefill first");
    ponder_status st = new_listening(to, l->rate, l->channels, &to->listening);
    if (st != PONDER_OK) return st;
    to->listening->open = l->open;
    return pn_audio_stream_copy(&to->listening->stream, l->stream, to->a, &to->err);
}
