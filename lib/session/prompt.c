/* What was added becomes tokens: rendered text with control tokens where the template wrote them, and rows of a tower where it
 * put a mark. */
#include "session/session.h"

/* Ids, and what stands between them. */
typedef struct pn_mark {
    size_t at;                /* before the id of this index */
    pn_medium *m;
} pn_mark;

typedef struct script {
    ponder_session *s;
    int32_t *ids;
    size_t n, cap;
    pn_mark *marks;
    size_t n_marks, cap_marks;
    pn_medium **media;        /* what the marks stand for, in order */
    size_t n_media, next_medium;
} script;

static void script_free(script *v)
{
    pn_free(v->s->a, v->ids, v->cap * sizeof *v->ids);
    pn_free(v->s->a, v->marks, v->cap_marks * sizeof *v->marks);
    pn_free(v->s->a, v->media, v->n_media * sizeof *v->media);
}

static ponder_status put_id(script *v, int32_t id)
{
    if (v->n == v->cap) {
        size_t cap = v->cap ? 2 * v->cap : 64;
        int32_t *p = pn_grow(v->s->a, v->ids, v->cap * sizeof *p, cap * sizeof *p);
        if (!p) return pn_nomem(&v->s->err, cap * sizeof *p);
        v->ids = p;
        v->cap = cap;
    }
    v->ids[v->n++] = id;
    return PONDER_OK;
}

static ponder_status put_text(script *v, const char *text, size_t n, uint32_t flags)
{
    if (n == 0) return PONDER_OK;
    return pn_tokenize(v->s->model->core->tokenizer, text, n, flags, v->s->a, &v->ids, &v->n, &v->cap, &v->s->err);
}

static ponder_status put_mark(script *v, pn_medium *m)
{
    if (v->n_marks == v->cap_marks) {
        size_t cap = v->cap_marks ? 2 * v->cap_marks : 8;
        pn_mark *p = pn_grow(v->s->a, v->marks, v->cap_marks * sizeof *p, cap * sizeof *p);
        if (!p) return pn_nomem(&v->s->err, cap * sizeof *p);
        v->marks = p;
        v->cap_marks = cap;
    }
    v->marks[v->n_marks++] = (pn_mark){v->n, m};
    return PONDER_OK;
}

/* The special token that begins at `at`, if the template wrote one there; *n its length. Every template's markers run
 * from '<' to the next '>'. */
static int32_t special_at(const pn_tokenizer *t, const char *text, size_t at, size_t end, size_t *n)
{
    if (text[at] != '<') return -1;
    const char *close = memchr(text + at, '>', end - at);
    if (!close) return -1;
    *n = (size_t)(close - (text + at)) + 1;
    int32_t id = pn_tokenizer_find(t, text + at, *n);
    return id >= 0 && pn_tokenizer_is_special(t, id) ? id : -1;
}

static ponder_status put_special(script *v, int32_t id)
{
    for (int kind = PN_PART_IMAGE; kind <= PN_PART_AUDIO; kind++)
        if (id == v->s->model->core->placeholder[kind]) {
            if (v->next_medium < v->n_media && v->media[v->next_medium]->kind == (pn_part_kind)kind) return put_mark(v, v->media[v->next_medium++]);
            return pn_fail(&v->s->err, PONDER_E_INTERNAL, "a mark of the template stands for nothing");
        }
    return put_id(v, id);
}

/* Special tokens count in the template's own text only; what stands between two of them is split as one text. */
static ponder_status put_rendered(script *v, const pn_rendered *r)
{
    const pn_tokenizer *t = v->s->model->core->tokenizer;
    const char *text = r->text.p;
    size_t from = 0;
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < r->n_spans && st == PONDER_OK; i++) {
        if (!r->spans[i].control) continue;
        size_t end = r->spans[i].from + r->spans[i].n, n = 0;
        for (size_t at = r->spans[i].from; at < end && st == PONDER_OK; at++) {
            int32_t id = special_at(t, text, at, end, &n);
            if (id < 0) continue;
            if (at > from) st = put_text(v, text + from, at - from, 0);
            if (st == PONDER_OK) st = put_special(v, id);
            from = at + n;
            at = from - 1;
        }
    }
    if (st == PONDER_OK && from < r->text.n) st = put_text(v, text + from, r->text.n - from, 0);
    return st;
}

/* The model's last turn may lack its end token (it was cut), and most templates write something after that token. */
static ponder_status close_turn(script *v)
{
    ponder_session *s = v->s;
    const pn_str end = pn_template_turn_end(s->template), between = pn_template_between(s->template);
    const uint32_t n = pn_sequence_count(s->seq);
    bool at_end = (s->open_turn && s->ended) ||
                  (n > 0 && end.n && pn_sequence_ids(s->seq)[n - 1] == pn_tokenizer_find(s->model->core->tokenizer, end.p, end.n));
    ponder_status st = PONDER_OK;
    if (s->open_turn && !at_end && end.n) {
        st = put_text(v, end.p, end.n, PN_TOKENIZE_SPECIAL);
        at_end = true;
    }
    if (st == PONDER_OK && at_end) st = put_text(v, between.p, between.n, 0);
    return st;
}

/* ---- into the sequence ------------------------------------------------------------------------------ */

static ponder_status append_rows(ponder_session *s, const pn_medium *m, uint32_t i)
{
    pn_rows *r = m->e[i].rows;
    return pn_sequence_append_rows(s->seq, s->model->core->placeholder[m->kind], r, 0, r->n, &s->err);
}

static ponder_status append_named(ponder_session *s, const char *name)
{
    int32_t id = pn_tokenizer_find(s->model->core->tokenizer, name, strlen(name));
    if (id < 0) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "the tokenizer has no token %s", name);
    return pn_sequence_append(s->seq, &id, 1, &s->err);
}

/* "Time: 1.5s" before each group of a video's frames. */
static ponder_status append_time(ponder_session *s, double second)
{
    char text[PN_VIDEO_TEXT];
    script v = {.s = s};
    ponder_status st = put_text(&v, text, pn_video_text(text, second), 0);
    if (st == PONDER_OK) st = pn_sequence_append(s->seq, v.ids, v.n, &s->err);
    script_free(&v);
    return st;
}

static ponder_status append_video(ponder_session *s, const pn_medium *m)
{
    ponder_status st = append_named(s, "<|vid_start|>");
    for (uint32_t i = 0; i < m->n && st == PONDER_OK; i++) {
        st = append_time(s, m->e[i].second);
        if (st == PONDER_OK) st = append_rows(s, m, i);
        if (st == PONDER_OK) st = append_named(s, i + 1 < m->n ? "<|vid_frame_separator|>" : "<|vid_end|>");
    }
    return st;
}

static ponder_status append_medium(ponder_session *s, const pn_medium *m)
{
    if (m->kind == PN_PART_VIDEO) return append_video(s, m);
    bool image = m->kind == PN_PART_IMAGE;
    ponder_status st = append_named(s, image ? "<|image_start|>" : "<|soft_audio_start|>");
    if (st == PONDER_OK) st = append_rows(s, m, 0);
    return st == PONDER_OK ? append_named(s, image ? "<|image_end|>" : "<|soft_audio_end|>") : st;
}

/* From mark `from_mark` on (that mark itself left out when > 0 says so), all or nothing. */
static ponder_status append_script(script *v, size_t from, size_t to, size_t first_mark, size_t end_mark)
{
    ponder_session *s = v->s;
    const uint32_t before = pn_sequence_count(s->seq);
    ponder_status st = PONDER_OK;
    for (size_t i = first_mark; i < end_mark && st == PONDER_OK; i++) {
        st = pn_sequence_append(s->seq, v->ids + from, v->marks[i].at - from, &s->err);
        from = v->marks[i].at;
        if (st == PONDER_OK) st = append_medium(s, v->marks[i].m);
    }
    if (st == PONDER_OK) st = pn_sequence_append(s->seq, v->ids + from, to - from, &s->err);
    if (st != PONDER_OK) {
        ponder_error kept = s->err;
        pn_sequence_rewind(s->seq, before, NULL, &s->err);
        s->err = kept;
    }
    return st;
}

/* ---- rendering ------------------------------------------------------------------------------------------ */

static ponder_status gather_media(script *v, const pn_pending *m, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m[i].n_parts; k++) count += m[i].media[k] != NULL;
    if (count == 0) return PONDER_OK;
    v->media = pn_zalloc_array(v->s->a, count, sizeof *v->media);
    if (!v->media) return pn_nomem(&v->s->err, count * sizeof *v->media);
    v->n_media = count;
    count = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < m[i].n_parts; k++)
            if (m[i].media[k]) v->media[count++] = m[i].media[k];
    return PONDER_OK;
}

/* The script of these messages; of none, of the generation prompt alone. */
static ponder_status write_script(script *v, const pn_pending *p, size_t n, bool prompt)
{
    ponder_session *s = v->s;
    pn_rendered r;
    pn_rendered_init(&r, s->a);
    pn_message *m = pn_zalloc_array(s->a, n, sizeof *m);
    ponder_status st = m ? gather_media(v, p, n) : pn_nomem(&s->err, n * sizeof *m);
    for (size_t i = 0; i < n && m; i++) {
        m[i] = (pn_message){.role = p[i].role.p, .name = p[i].name};
        if (p[i].n_parts == 1 && p[i].parts[0].kind == PN_PART_TEXT) m[i].text = p[i].parts[0].text;
        else m[i].parts = p[i].parts, m[i].n_parts = p[i].n_parts;
    }
    pn_render_options o = {.first = pn_sequence_count(s->seq) == 0, .generation_prompt = prompt, .effort = s->effort, .tools = s->tools,
                           .no_thought = pn_session_renders_no_thought(s)};
    if (st == PONDER_OK) st = pn_render_turns(s->template, m, n, &o, &r, &s->err);
    if (st == PONDER_OK && n > 0) st = close_turn(v);
    if (st == PONDER_OK) st = put_rendered(v, &r);
    pn_free(s->a, m, n * sizeof *m);
    pn_rendered_free(&r);
    return st;
}

static void turn_is_open(ponder_session *s)
{
    s->open_turn = true;
    s->ended = s->unprompted = false;
    s->turn_at = pn_sequence_count(s->seq);
    pn_session_forget_parser(s);
}

ponder_status pn_session_render(ponder_session *s, bool prompt)
{
    pn_session_end_probe(s);
    bool speak = prompt && (s->n_pending > 0 || s->unprompted);
    if (s->listening && prompt) return pn_fail(&s->err, PONDER_E_STATE, "a sound is being listened to: end its message with ponder_session_add first");
    if (s->n_pending == 0 && !speak) return PONDER_OK;
    const bool own_tools = (s->look_closer || s->subagents) && !s->tools && pn_sequence_count(s->seq) == 0;
    ponder_status st = own_tools ? pn_session_set_tools(s, "", 0) : PONDER_OK;
    if (speak && s->subagents && s->n_pending > 0) { /* in two parts: its agents begin between them */
        if (st == PONDER_OK) st = pn_session_render(s, false);
        return st == PONDER_OK ? pn_session_render(s, true) : st;
    }
    if (speak) s->prompt_at = pn_sequence_count(s->seq);
    if (st == PONDER_OK) st = pn_session_encode(s, 0);
    if (st != PONDER_OK) return st;
    script v = {.s = s};
    st = write_script(&v, s->pending, s->n_pending, speak);
    if (st == PONDER_OK) st = append_script(&v, 0, v.n, 0, v.n_marks);
    if (st == PONDER_OK && s->n_pending) {
        s->open_turn = false;
        s->unprompted = true;
    }
    script_free(&v);
    pn_session_forget_pending(s); /* also after a failure: the conversation must not hang on a message that cannot be rendered */
    if (st == PONDER_OK && speak) turn_is_open(s);
    return st;
}

/* ---- raw prompts ------------------------------------------------------------------------------------------ */

/* Which kind of row the placeholder stands for, if it is one. */
static pn_part_kind placeholder_kind(const ponder_session *s, int32_t id)
{
    for (int kind = PN_PART_IMAGE; kind <= PN_PART_AUDIO; kind++)
        if (id >= 0 && id == s->model->core->placeholder[kind]) return (pn_part_kind)kind;
    return PN_PART_TEXT;
}

typedef struct feed {
    ponder_session *s;
    size_t part;
    uint32_t encoding, row;
} feed;

/* The next attached medium's rows for a run of `n` placeholders: as many as it has left, at most n. */
static ponder_status feed_rows(feed *f, int32_t id, size_t n, size_t *taken)
{
    ponder_session *s = f->s;
    while (f->part < s->next.n_parts && (!s->next.media[f->part] || f->encoding == s->next.media[f->part]->n)) {
        f->part++;
        f->encoding = f->row = 0;
    }
    if (f->part == s->next.n_parts || s->next.media[f->part]->kind != placeholder_kind(s, id))
        return pn_fail(&s->err, PONDER_E_ARGUMENT, "the prompt has more placeholders (token %d) than the attached parts have rows", id);
    pn_rows *r = s->next.media[f->part]->e[f->encoding].rows;
    *taken = PN_MIN(n, (size_t)(r->n - f->row));
    ponder_status st = pn_sequence_append_rows(s->seq, id, r, f->row, (uint32_t)*taken, &s->err);
    f->row += (uint32_t)*taken;
    if (f->row == r->n) {
        f->row = 0;
        f->encoding++;
    }
    return st;
}

static bool all_fed(feed *f)
{
    const pn_pending *m = &f->s->next;
    for (size_t i = f->part; i < m->n_parts; i++)
        if (m->media[i] && (i > f->part || f->encoding < m->media[i]->n)) return false;
    return true;
}

/* Placeholders in raw ids take the rows of the attached parts in order; a count that differs is an error. */
static ponder_status append_fed(ponder_session *s, const int32_t *p, size_t n)
{
    feed f = {.s = s};
    ponder_status st = pn_session_encode_parts(s, &s->next, 1, 0);
    for (size_t i = 0, m; i < n && st == PONDER_OK; i += m) {
        const bool rows = placeholder_kind(s, p[i]) != PN_PART_TEXT;
        for (m = 1; i + m < n && (rows ? p[i + m] == p[i] : placeholder_kind(s, p[i + m]) == PN_PART_TEXT); m++) { }
        st = rows ? feed_rows(&f, p[i], m, &m) : pn_sequence_append(s->seq, p + i, m, &s->err);
    }
    if (st == PONDER_OK && !all_fed(&f))
        st = pn_fail(&s->err, PONDER_E_ARGUMENT, "the attached parts have more rows than the prompt has placeholders");
    if (st == PONDER_OK) pn_session_forget_parts(s);
    return st;
}

/* Raw ids after messages begin the model's turn for it; without messages nothing is known of turns any more. */
ponder_status pn_session_prompt_ids(ponder_session *s, const int32_t *p, size_t n)
{
    bool in_turn = s->n_pending > 0 || s->unprompted, fed = false;
    ponder_status st = pn_session_render(s, true);
    const uint32_t before = pn_sequence_count(s->seq);
    for (size_t i = 0; i < s->next.n_parts; i++) fed |= s->next.media[i] != NULL;
    if (st == PONDER_OK) st = fed ? append_fed(s, p, n) : pn_sequence_append(s->seq, p, n, &s->err);
    if (st != PONDER_OK && pn_sequence_count(s->seq) > before) {
        ponder_error kept = s->err;
        pn_sequence_rewind(s->seq, before, NULL, &s->err);
        s->err = kept;
    }
    if (st == PONDER_OK && !in_turn) s->open_turn = s->ended = false;
    if (st == PONDER_OK) pn_session_forget_parser(s);
    return st;
}

ponder_status pn_session_prompt(ponder_session *s, const char *text, size_t n, uint32_t flags)
{
    ponder_status st = pn_session_needs(s, false);
    if (st != PONDER_OK) return st;
    script v = {.s = s};
    uint32_t f = (flags & PONDER_TOKENIZE_SPECIAL ? PN_TOKENIZE_SPECIAL : 0) | (flags & PONDER_TOKENIZE_BOS ? PN_TOKENIZE_BOS : 0);
    st = pn_tokenize(s->model->core->tokenizer, text, n, f, s->a, &v.ids, &v.n, &v.cap, &s->err);
    if (st == PONDER_OK) st = pn_session_prompt_ids(s, v.ids, v.n);
    script_free(&v);
    return st;
}

/* ---- a sound that is still being recorded -------------------------------------------------------------------- */

/* The parts attached so far and the sound's mark open the user's message: everything up to the mark goes in now. */
ponder_status pn_session_open_listening(ponder_session *s, pn_medium *live)
{
    ponder_status st = pn_session_render(s, false);
    if (st == PONDER_OK) st = pn_session_encode_parts(s, &s->next, 1, 0);
    if (st != PONDER_OK) {
        pn_medium_free(live);
        return st;
    }
    if ((st = pn_session_attach(s, live)) != PONDER_OK) return st;
    script v = {.s = s};
    pn_pending m = s->next;
    m.role = pn_str_of("user");
    st = write_script(&v, &m, 1, false);
    if (st == PONDER_OK && v.n_marks == 0) st = pn_fail(&s->err, PONDER_E_INTERNAL, "the template left the sound's mark out");
    if (st == PONDER_OK) st = append_script(&v, 0, v.marks[v.n_marks - 1].at, 0, v.n_marks - 1);
    if (st == PONDER_OK) st = append_named(s, "<|soft_audio_start|>");
    script_free(&v);
    if (st == PONDER_OK) s->open_turn = false;
    return st;
}

/* The rest of the same message. It is rendered as a whole again, as if it opened the conversation or not, for the bytes behind
 * the mark are the same either way. */
ponder_status pn_session_close_listening(ponder_session *s, const char *text, size_t n)
{
    script v = {.s = s};
    pn_part parts[2] = {{.kind = PN_PART_AUDIO}, {.kind = PN_PART_TEXT, .text = {text, n}}};
    pn_medium live = {.kind = PN_PART_AUDIO}, *media[2] = {&live, NULL};
    pn_pending m = {.role = pn_str_of("user"), .parts = parts, .media = media, .n_parts = n ? 2 : 1};
    ponder_status st = append_named(s, "<|soft_audio_end|>");
    if (st == PONDER_OK) st = write_script(&v, &m, 1, false);
    if (st == PONDER_OK) st = append_script(&v, v.marks[0].at, v.n, 1, v.n_marks);
    script_free(&v);
    if (st == PONDER_OK) s->unprompted = true;
    return st;
}
