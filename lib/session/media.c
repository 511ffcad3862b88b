/* Media of messages: what they will cost, and their rows, from the cache or from a tower in slices. */
#include "session/session.h"

#include <math.h>

/* ---- media ------------------------------------------------------------------------------------------ */

static void free_encoding(pn_encoding *e)
{
    pn_image_free(e->frame[0]);
    pn_image_free(e->frame[1]);
    pn_sound_free(e->sound);
    pn_rows_release(e->rows);
}

void pn_medium_free(pn_medium *m)
{
    if (!m) return;
    for (uint32_t i = 0; i < m->n; i++) free_encoding(&m->e[i]);
    pn_free(m->a, m->e, m->n * sizeof *m->e);
    pn_free(m->a, m, sizeof *m);
}

static ponder_status new_medium(pn_medium **out, pn_part_kind kind, size_t n, const ponder_alloc *a, ponder_error *err)
{
    pn_medium *m = *out = pn_zalloc(a, sizeof *m);
    if (!m) return pn_nomem(err, sizeof *m);
    *m = (pn_medium){.a = a, .kind = kind, .e = pn_zalloc_array(a, n, sizeof *m->e)};
    if (m->e) {
        m->n = (uint32_t)n;
        return PONDER_OK;
    }
    pn_medium_free(m);
    *out = NULL;
    return pn_nomem(err, n * sizeof *m->e);
}

ponder_status pn_medium_copy(pn_medium **out, const pn_medium *m, ponder_error *err)
{
    ponder_status st = new_medium(out, m->kind, m->n, m->a, err);
    for (uint32_t i = 0; i < m->n && st == PONDER_OK; i++) {
        pn_encoding *e = &(*out)->e[i];
        *e = m->e[i];
        for (int f = 0; f < 2; f++)
            if (e->frame[f]) pn_image_keep(e->frame[f]);
        if (e->sound) pn_sound_hold(e->sound);
        if (e->rows) pn_rows_hold(e->rows);
    }
    return st;
}

static uint64_t key_of(pn_part_kind kind, uint64_t a, uint64_t b)
{
    const uint64_t all[3] = {(uint64_t)kind, a, b};
    return pn_hash64(all, sizeof all, 0x6d65646961);
}

/* ---- attaching ---------------------------------------------------------------------------------------- */

static ponder_status sees(const ponder_session *s, ponder_error *err)
{
    if (s->distant) return pn_fail(err, PONDER_E_UNSUPPORTED, "a remote model takes pictures and text; a video is to be sent as pictures");
    if (!s->model->core->vision) return pn_fail(err, PONDER_E_UNSUPPORTED, "the model sees no images: no image tower was loaded");
    return PONDER_OK;
}

pn_grid_rule pn_core_grid(const pn_core *c, pn_part_kind kind)
{
    const pn_tower_info *d = pn_tower_about(c->vision);
    uint32_t most = kind == PN_PART_VIDEO ? d->max_frame_cells : c->image_tokens ? c->image_tokens : d->max_cells;
    return (pn_grid_rule){d->patch, d->merge, most};
}

static ponder_status set_frames(const ponder_session *s, pn_part_kind kind, pn_encoding *e, pn_image *first, pn_image *second, ponder_error *err)
{
    pn_grid g;
    const pn_grid_rule rule = pn_core_grid(s->model->core, kind);
    ponder_status st = pn_grid_pick(&rule, pn_image_width(first), pn_image_height(first), &g, err);
    if (st != PONDER_OK) return st;
    e->tokens = g.rows * g.cols;
    e->frame[0] = pn_image_keep(first);
    e->frame[1] = second ? pn_image_keep(second) : NULL;
    e->key = key_of(kind, pn_image_hash(first), second ? pn_image_hash(second) : 0);
    return PONDER_OK;
}

static ponder_status remember_picture(ponder_session *s, pn_image *im)
{
    if (s->n_gallery == s->cap_gallery) {
        uint32_t cap = s->cap_gallery ? 2 * s->cap_gallery : 4;
        pn_image **p = pn_grow(s->a, s->gallery, s->cap_gallery * sizeof *p, cap * sizeof *p);
        if (!p) return pn_nomem(&s->err, cap * sizeof *p);
        s->gallery = p;
        s->cap_gallery = cap;
    }
    s->gallery[s->n_gallery++] = pn_image_keep(im);
    return PONDER_OK;
}

void pn_session_forget_gallery(ponder_session *s)
{
    for (uint32_t i = 0; i < s->n_gallery; i++) pn_image_free(s->gallery[i]);
    pn_free(s->a, s->gallery, s->cap_gallery * sizeof *s->gallery);
    s->gallery = NULL;
    s->n_gallery = s->cap_gallery = 0;
}

ponder_status pn_session_copy_gallery(ponder_session *to, const ponder_session *from)
{
    ponder_status st = PONDER_OK;
    for (uint32_t i = 0; i < from->n_gallery && st == PONDER_OK; i++) st = remember_picture(to, from->gallery[i]);
    return st;
}

ponder_status pn_session_attach_image(ponder_session *s, pn_image *image)
{
    pn_medium *m = NULL;
    ponder_status st = s->distant ? PONDER_OK : sees(s, &s->err);
    if (st == PONDER_OK) st = new_medium(&m, PN_PART_IMAGE, 1, s->a, &s->err);
    if (st == PONDER_OK && s->distant) m->e[0].frame[0] = pn_image_keep(image);
    else if (st == PONDER_OK) st = set_frames(s, PN_PART_IMAGE, m->e, image, NULL, &s->err);
    if (st == PONDER_OK && s->look_closer) st = remember_picture(s, image);
    if (st != PONDER_OK) {
        pn_medium_free(m);
        return st;
    }
    st = pn_session_attach(s, m);
    if (st != PONDER_OK && s->look_closer) pn_image_free(s->gallery[--s->n_gallery]);
    return st;
}

ponder_status pn_session_attach_video(ponder_session *s, pn_image *const *frames, const double *seconds, size_t n)
{
    pn_medium *m = NULL;
    ponder_status st = sees(s, &s->err);
    if (st == PONDER_OK && (n == 0 || n > PN_FRAMES)) return pn_fail(&s->err, PONDER_E_RANGE, "a video of %zu frames: 1 to %d are taken", n, PN_FRAMES);
    for (size_t i = 0; i < n && st == PONDER_OK; i++) {
        if (!frames[i]) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "frame %zu: NULL", i);
        else if (!(seconds[i] >= 0 && seconds[i] < 1e7)) st = pn_fail(&s->err, PONDER_E_RANGE, "frame %zu: its time is no number of seconds from 0 to 10^7", i);
        else if (pn_image_width(frames[i]) != pn_image_width(frames[0]) || pn_image_height(frames[i]) != pn_image_height(frames[0]))
            st = pn_fail(&s->err, PONDER_E_ARGUMENT, "frame %zu is of another size than the first", i);
    }
    if (st == PONDER_OK) st = new_medium(&m, PN_PART_VIDEO, (n + 1) / 2, s->a, &s->err);
    for (size_t i = 0; i < n && st == PONDER_OK; i += 2) {
        pn_encoding *e = &m->e[i / 2];
        e->second = seconds[i];
        st = set_frames(s, PN_PART_VIDEO, e, frames[i], frames[PN_MIN(i + 1, n - 1)], &s->err);
    }
    if (st == PONDER_OK) return pn_session_attach(s, m);
    pn_medium_free(m);
    return st;
}

ponder_status pn_session_attach_sound(ponder_session *s, pn_sound *sound)
{
    pn_medium *m = NULL;
    const pn_audio *t = s->model->core->audio;
    if (!t) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model does not hear: no audio tower was loaded");
    uint64_t rows = pn_audio_rows(pn_sound_count(sound), pn_audio_about(t)->samples);
    if (rows > pn_sequence_limit(s->seq))
        return pn_fail(&s->err, PONDER_E_CONTEXT, "a sound of %llu tokens does not fit the context of %u", (unsigned long long)rows, pn_sequence_limit(s->seq));
    ponder_status st = new_medium(&m, PN_PART_AUDIO, 1, s->a, &s->err);
    if (st != PONDER_OK) return st;
    m->e[0] = (pn_encoding){.sound = pn_sound_hold(sound), .key = key_of(PN_PART_AUDIO, pn_sound_hash(sound), 0), .tokens = (uint32_t)rows};
    return pn_session_attach(s, m);
}

/* ---- an encoding under way ----------------------------------------------------------------------------------------- */

struct pn_encoder {
    ponder_session *s;
    pn_resize *resize[2];
    pn_encode *frames;
    pn_audio_stream *sound;
    pn_audio_encode *heard;
    pn_task *task;
    pn_rows *rows;
};

static void free_encoder(pn_encoder *c)
{
    if (!c) return;
    pn_task_free(c->task);
    pn_encode_free(c->frames);
    pn_audio_encode_free(c->heard);
    pn_audio_stream_free(c->sound);
    pn_resize_free(c->resize[0]);
    pn_resize_free(c->resize[1]);
    pn_rows_release(c->rows);
    pn_free(c->s->a, c, sizeof *c);
}

void pn_session_drop_encoding(ponder_session *s)
{
    free_encoder(s->encoder);
    s->encoder = NULL;
}

static ponder_status begin_frames(pn_encoder *c, const pn_encoding *e, pn_part_kind kind, pn_work *w)
{
    ponder_session *s = c->s;
    const pn_tower *t = s->model->core->vision;
    const pn_grid_rule rule = pn_core_grid(s->model->core, kind);
    const uint32_t cell = rule.patch * rule.merge;
    pn_encode_input in = {0};
    ponder_status st = pn_grid_pick(&rule, pn_image_width(e->frame[0]), pn_image_height(e->frame[0]), &in.grid, &s->err);
    bool same = !e->frame[1] || pn_image_hash(e->frame[0]) == pn_image_hash(e->frame[1]);
    for (int f = 0; f < (same ? 1 : 2) && st == PONDER_OK; f++)
        st = pn_resize_new(&c->resize[f], e->frame[f], in.grid.cols * cell, in.grid.rows * cell, s->model->kernels.cpu, s->a, &s->err);
    if (st != PONDER_OK) return st;
    in.frame[0] = c->resize[0];
    in.frame[1] = c->resize[same ? 0 : 1];
    st = pn_encode_new(&c->frames, t, &in, c->rows->v, &s->model->kernels, pn_engine_threads(s->model->engine), s->a, &s->err);
    if (st == PONDER_OK) *w = *pn_encode_work(c->frames);
    return st;
}

static ponder_status begin_sound(pn_encoder *c, const pn_encoding *e, pn_work *w)
{
    ponder_session *s = c->s;
    ponder_status st = pn_audio_stream_of(&c->sound, s->model->core->audio, e->sound, s->a, &s->err);
    if (st == PONDER_OK)
        st = pn_audio_encode_new(&c->heard, c->sound, e->tokens, c->rows->v, &s->model->kernels, pn_engine_threads(s->model->engine), s->a, &s->err);
    if (st == PONDER_OK) *w = *pn_audio_encode_work(c->heard);
    return st;
}

static ponder_status begin_encoding(ponder_session *s, const pn_encoding *e, pn_part_kind kind)
{
    pn_encoder *c = s->encoder = pn_zalloc(s->a, sizeof *c);
    if (!c) return pn_nomem(&s->err, sizeof *c);
    c->s = s;
    pn_work w;
    ponder_status st = pn_rows_new(&c->rows, e->tokens, s->model->core->network->d.width, e->key, &s->model->core->meter.alloc, &s->err);
    if (st == PONDER_OK) st = kind == PN_PART_AUDIO ? begin_sound(c, e, &w) : begin_frames(c, e, kind, &w);
    return st != PONDER_OK ? st : pn_task_new(&c->task, s->model->engine, &w, &s->err);
}

static bool find_cached(ponder_session *s, pn_encoding *e)
{
    pn_core *c = s->model->core;
    pthread_mutex_lock(&c->mutex);
    e->rows = pn_cache_find(&c->cache, e->key);
    pthread_mutex_unlock(&c->mutex);
    return e->rows != NULL;
}

static ponder_status encode_one(ponder_session *s, pn_encoding *e, pn_part_kind kind, uint64_t until)
{
    ponder_status st = PONDER_OK;
    pn_core *core = s->model->core;
    if (e->rows || find_cached(s, e)) return PONDER_OK;
    if (s->encoder && s->encoder->rows && s->encoder->rows->hash != e->key) pn_session_drop_encoding(s);
    if (!s->encoder) st = begin_encoding(s, e, kind);
    if (st == PONDER_OK) st = pn_task_advance(s->encoder->task, until, pn_sequence_cancelled(s->seq), &s->err);
    if (st == PONDER_MORE || st == PONDER_E_CANCELLED) return st;
    if (st == PONDER_OK) {
        e->rows = pn_rows_hold(s->encoder->rows);
        atomic_fetch_add(&core->encoded, 1);
        pthread_mutex_lock(&core->mutex);
        pn_cache_put(&core->cache, &core->meter.alloc, e->key, e->rows);
        pthread_mutex_unlock(&core->mutex);
    }
    pn_session_drop_encoding(s);
    return st;
}

/* The same for all of them; a set that the context cannot hold is refused before anything is encoded. */
ponder_status pn_session_encode_parts(ponder_session *s, pn_pending *m, size_t n, uint64_t until)
{
    uint64_t tokens = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m[i].n_parts; k++)
            for (uint32_t j = 0; m[i].media[k] && j < m[i].media[k]->n; j++) tokens += m[i].media[k]->e[j].tokens;
    const uint32_t room = pn_sequence_limit(s->seq) - pn_sequence_count(s->seq);
    if (tokens > room)
        return pn_fail(&s->err, PONDER_E_CONTEXT, "images and sounds of %llu tokens do not fit: the context has room for %u", (unsigned long long)tokens, room);
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m[i].n_parts; k++)
            for (uint32_t j = 0; m[i].media[k] && j < m[i].media[k]->n && st == PONDER_OK; j++)
                st = encode_one(s, &m[i].media[k]->e[j], m[i].media[k]->kind, until);
    return st;
}

ponder_status pn_session_encode(ponder_session *s, uint64_t until)
{
    ponder_status st = pn_session_encode_parts(s, s->pending, s->n_pending, until);
    if (st != PONDER_OK && st != PONDER_MORE && st != PONDER_E_CANCELLED) pn_session_forget_pending(s);
    return st;
}

/* ---- the rows themselves ------------------------------------------------------------------------------------ */

static ponder_status put_rows(ponder_session *s, const pn_pending *m, pn_buf *out)
{
    const pn_description *d = &s->model->core->network->d;
    for (size_t k = 0; k < m->n_parts; k++)
        for (uint32_t j = 0; m->media[k] && j < m->media[k]->n; j++) {
            const pn_rows *r = m->media[k]->e[j].rows;
            size_t at = out->n;
            if (!pn_buf_put(out, r->v, (size_t)r->n * r->width * sizeof(float))) return pn_nomem(&s->err, out->n);
            float *v = (float *)(void *)(out->p + at);
            for (uint32_t i = 0; i < r->n && d->embed_norm; i++, v += r->width)
                s->model->kernels.norm(PN_NORM_PLAIN, v, v, NULL, r->width, d->eps);
        }
    return PONDER_OK;
}

ponder_status pn_session_features(ponder_session *s, pn_buf *out)
{
    ponder_status st = pn_session_encode_parts(s, s->pending, s->n_pending, 0);
    if (st == PONDER_OK) st = pn_session_encode_parts(s, &s->next, 1, 0);
    for (size_t i = 0; i < s->n_pending && st == PONDER_OK; i++) st = put_rows(s, &s->pending[i], out);
    return st == PONDER_OK ? put_rows(s, &s->next, out) : st;
}

ponder_status pn_session_prefill(ponder_session *s, uint64_t until)
{
    if (s->phase != PN_IDLE) return pn_fail(&s->err, PONDER_E_STATE, "a turn is under way");
    pn_sequence_take_cancel(s->seq);
    ponder_status st = pn_session_encode(s, until);
    if (st == PONDER_OK) st = s->listening ? pn_session_hear(s, until) : pn_session_render(s, false);
    if (st != PONDER_OK || pn_sequence_computed(s->seq) == pn_sequence_count(s->seq)) return st;
    return pn_sequence_advance(s->seq, until, &s->err);
}
