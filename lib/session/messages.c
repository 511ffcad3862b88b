/* Messages that wait to be rendered, and the parts attached to the next one. */
#include "session/session.h"

static ponder_status copy_text(ponder_session *s, const char *p, size_t n, pn_str *out)
{
    char *to = pn_alloc(s->a, n);
    if (!to) return pn_nomem(&s->err, n);
    if (n) memcpy(to, p, n);
    *out = (pn_str){to, n};
    return PONDER_OK;
}

static void free_text(ponder_session *s, pn_str t) { pn_free(s->a, (char *)(uintptr_t)t.p, t.n); }

static void free_message(ponder_session *s, pn_pending *m)
{
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].kind == PN_PART_TEXT) free_text(s, m->parts[i].text);
        else pn_medium_free(m->media[i]);
    }
    pn_free(s->a, m->parts, m->cap_parts * sizeof *m->parts);
    pn_free(s->a, m->media, m->cap_parts * sizeof *m->media);
    free_text(s, m->role);
    free_text(s, m->name);
    *m = (pn_pending){0};
}

/* Room for one more part: two arrays, so that the first is what the renderer takes. */
static ponder_status room_for_part(ponder_session *s, pn_pending *m)
{
    if (m->n_parts < m->cap_parts) return PONDER_OK;
    size_t cap = m->cap_parts ? 2 * m->cap_parts : 4;
    pn_part *parts = pn_zalloc_array(s->a, cap, sizeof *parts);
    pn_medium **media = pn_zalloc_array(s->a, cap, sizeof *media);
    if (!parts || !media) {
        pn_free(s->a, parts, cap * sizeof *parts);
        pn_free(s->a, media, cap * sizeof *media);
        return pn_nomem(&s->err, cap * sizeof *parts);
    }
    if (m->n_parts) {
        memcpy(parts, m->parts, m->n_parts * sizeof *parts);
        memcpy(media, m->media, m->n_parts * sizeof *media);
    }
    pn_free(s->a, m->parts, m->cap_parts * sizeof *parts);
    pn_free(s->a, m->media, m->cap_parts * sizeof *media);
    m->parts = parts;
    m->media = media;
    m->cap_parts = cap;
    return PONDER_OK;
}

static ponder_status add_text(ponder_session *s, pn_pending *m, const char *text, size_t n)
{
    pn_str copy;
    ponder_status st = room_for_part(s, m);
    if (st == PONDER_OK) st = copy_text(s, text, n, &copy);
    if (st == PONDER_OK) m->parts[m->n_parts++] = (pn_part){PN_PART_TEXT, copy};
    return st;
}

ponder_status pn_session_needs(ponder_session *s, bool template)
{
    if (s->distant) return PONDER_OK;
    if (!s->model->core->tokenizer) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model has no tokenizer: use ponder_session_prompt_ids");
    if (template && s->template == PN_TEMPLATE_NONE)
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the model's chat template is unknown: use ponder_session_prompt");
    return PONDER_OK;
}

ponder_status pn_session_attach_text(ponder_session *s, const char *text, size_t n) { return add_text(s, &s->next, text, n); }

ponder_status pn_session_attach(ponder_session *s, pn_medium *m)
{
    ponder_status st = room_for_part(s, &s->next);
    if (st != PONDER_OK) {
        pn_medium_free(m);
        return st;
    }
    s->next.parts[s->next.n_parts] = (pn_part){.kind = m->kind};
    s->next.media[s->next.n_parts++] = m;
    return PONDER_OK;
}

static ponder_status room_for_message(ponder_session *s)
{
    if (s->n_pending < s->cap_pending) return PONDER_OK;
    size_t cap = s->cap_pending ? 2 * s->cap_pending : 8;
    pn_pending *p = pn_grow(s->a, s->pending, s->cap_pending * sizeof *p, cap * sizeof *p);
    if (!p) return pn_nomem(&s->err, cap * sizeof *p);
    s->pending = p;
    s->cap_pending = cap;
    return PONDER_OK;
}

/* The parts attached so far become a message with this text behind them. After a failure they are still attached. */
static ponder_status put_message(ponder_session *s, const char *role, pn_str name, const char *text, size_t n)
{
    pn_pending *m = &s->next;
    size_t parts = m->n_parts;
    ponder_status st = room_for_message(s);
    if (st == PONDER_OK) st = copy_text(s, role, strlen(role) + 1, &m->role);
    if (st == PONDER_OK) st = copy_text(s, name.p, name.n, &m->name);
    if (st == PONDER_OK && (n > 0 || parts == 0)) st = add_text(s, m, text, n);
    if (st != PONDER_OK) {
        free_text(s, m->role);
        free_text(s, m->name);
        m->role = m->name = (pn_str){0};
        return st;
    }
    s->pending[s->n_pending++] = *m;
    s->asked = strcmp(role, "system") != 0;
    *m = (pn_pending){0};
    return PONDER_OK;
}

ponder_status pn_session_add(ponder_session *s, const char *role, const char *text, size_t n)
{
    ponder_status st = pn_session_needs(s, true);
    if (st == PONDER_OK && s->listening) {
        if (strcmp(role, "user") != 0) return pn_fail(&s->err, PONDER_E_STATE, "a sound is being listened to: its message is the user's");
        s->asked = true;
        return pn_session_end_listening(s, text, n);
    }
    return st == PONDER_OK ? put_message(s, role, (pn_str){0}, text, n) : st;
}

ponder_status pn_session_add_result(ponder_session *s, const char *name, const char *text, size_t n)
{
    ponder_status st = pn_session_needs(s, true);
    if (st == PONDER_OK && s->listening) return pn_fail(&s->err, PONDER_E_STATE, "a sound is being listened to: its message is the user's");
    return st == PONDER_OK ? put_message(s, "tool", pn_str_of(name), text, n) : st;
}

/* The same messages for a fork; what is encoded is shared. */
static ponder_status copy_message(ponder_session *to, pn_pending *out, const pn_pending *m)
{
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < m->n_parts && st == PONDER_OK; i++) {
        if (m->parts[i].kind == PN_PART_TEXT) {
            st = add_text(to, out, m->parts[i].text.p, m->parts[i].text.n);
            continue;
        }
        pn_medium *media = NULL;
        st = room_for_part(to, out);
        if (st == PONDER_OK) st = pn_medium_copy(&media, m->media[i], &to->err);
        if (st != PONDER_OK) break;
        out->parts[out->n_parts] = m->parts[i];
        out->media[out->n_parts++] = media;
    }
    if (st == PONDER_OK && m->role.p) st = copy_text(to, m->role.p, m->role.n, &out->role);
    if (st == PONDER_OK && m->name.p) st = copy_text(to, m->name.p, m->name.n, &out->name);
    return st;
}

ponder_status pn_session_copy_pending(ponder_session *to, const ponder_session *from)
{
    ponder_status st = copy_message(to, &to->next, &from->next);
    for (size_t i = 0; i < from->n_pending && st == PONDER_OK; i++) {
        if ((st = room_for_message(to)) != PONDER_OK) break;
        pn_pending *m = &to->pending[to->n_pending++];
        *m = (pn_pending){0};
        st = copy_message(to, m, &from->pending[i]);
    }
    return st;
}

void pn_session_forget_pending(ponder_session *s)
{
    for (size_t i = 0; i < s->n_pending; i++) free_message(s, &s->pending[i]);
    s->n_pending = 0;
}

void pn_session_forget_parts(ponder_session *s) { free_message(s, &s->next); }
