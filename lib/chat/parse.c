/* The parser's common part: bytes become whole characters, characters and control markers reach the kind's own reading, and
 * what it finds waits in a queue. */
#include "chat/parser.h"

/* ---- kinds and markers -------------------------------------------------------------------------------------------- */

static const pn_marker muse_markers[] = {
    {"<|eot|>", PN_MARK_TURN_END}, {"<|end_of_text|>", PN_MARK_TURN_END}, {"<|eom|>", PN_MARK_MESSAGE_END},
    {"<|start|>", PN_MARK_START}, {"<|message|>", PN_MARK_BODY}, {"<|begin_of_text|>", PN_MARK_BEGIN}};
static const pn_marker think_markers[] = {
    {"<|im_end|>", PN_MARK_TURN_END}, {"<|endoftext|>", PN_MARK_TURN_END}, {"<|im_start|>", PN_MARK_START}, {"<think>", PN_MARK_THINK},
    {"</think>", PN_MARK_THINK_END}, {"<tool_call>", PN_MARK_CALL}, {"</tool_call>", PN_MARK_CALL_END}};
static const pn_marker llama_markers[] = {
    {"<|eot_id|>", PN_MARK_TURN_END}, {"<|end_of_text|>", PN_MARK_TURN_END}, {"<|eom_id|>", PN_MARK_TURN_END},
    {"<|start_header_id|>", PN_MARK_START}, {"<|end_header_id|>", PN_MARK_BODY}, {"<|begin_of_text|>", PN_MARK_BEGIN},
    {"<|python_tag|>", PN_MARK_PYTHON}}; /* the last: Llama 3 has none */
static const pn_marker gemma_markers[] = {{"<end_of_turn>", PN_MARK_TURN_END}, {"<eos>", PN_MARK_TURN_END},
                                          {"<start_of_turn>", PN_MARK_START}, {"<bos>", PN_MARK_BEGIN}};

pn_parser_kind pn_parser_kind_of(pn_template t)
{
    switch (t) {
    case PN_TEMPLATE_MUSE: return PN_PARSER_MUSE;
    case PN_TEMPLATE_CHATML: case PN_TEMPLATE_SMOLLM2: case PN_TEMPLATE_QWEN2: case PN_TEMPLATE_QWEN2_5:
    case PN_TEMPLATE_QWEN3: return PN_PARSER_THINK;
    case PN_TEMPLATE_LLAMA3_1: return PN_PARSER_LLAMA3_1;
    default: return PN_PARSER_PLAIN;
    }
}

static void choose(pn_parser *p, const pn_parse_options *o)
{
    p->kind_id = o->kind;
    p->kind = o->kind == PN_PARSER_MUSE ? &pn_kind_muse : o->kind == PN_PARSER_LLAMA3_1 ? &pn_kind_llama : &pn_kind_think;
    if (o->kind == PN_PARSER_MUSE) {
        p->markers = muse_markers;
        p->n_markers = PN_COUNT(muse_markers);
    } else if (o->kind == PN_PARSER_THINK) {
        p->markers = think_markers;
        p->n_markers = PN_COUNT(think_markers);
    } else if (o->kind == PN_PARSER_LLAMA3_1 || o->template == PN_TEMPLATE_LLAMA3) {
        p->markers = llama_markers;
        p->n_markers = PN_COUNT(llama_markers) - (o->kind != PN_PARSER_LLAMA3_1);
    } else if (o->template == PN_TEMPLATE_GEMMA || o->template == PN_TEMPLATE_GEMMA2) {
        p->markers = gemma_markers;
        p->n_markers = PN_COUNT(gemma_markers);
    }
}

/* A thought's markers as the host gives them, in the place of the kind's own or beside the others. */
static void choose_thoughts(pn_parser *p, const pn_parse_options *o)
{
    size_t n = 0;
    const bool own = o->think_open.n && o->think_close.n && (o->kind == PN_PARSER_THINK || o->kind == PN_PARSER_PLAIN);
    for (size_t i = 0; i < p->n_markers && own; i++)
        if (p->markers[i].mark != PN_MARK_THINK && p->markers[i].mark != PN_MARK_THINK_END) p->own[n++] = p->markers[i];
    if (own) {
        p->own[n++] = (pn_marker){o->think_open.p, PN_MARK_THINK};
        p->own[n++] = (pn_marker){o->think_close.p, PN_MARK_THINK_END};
        p->markers = p->own;
        p->n_markers = n;
    }
    for (size_t i = 0; i < p->n_markers; i++) p->starts[(unsigned char)p->markers[i].text[0]] = true;
}

const char *pn_parser_marker(const pn_parser *p, size_t i)
{
    return i < p->n_markers ? p->markers[i].text : NULL;
}

void pn_parser_marker_is_token(pn_parser *p, size_t i)
{
    if (i < p->n_markers) p->tokens_only |= 1ull << i;
}

void pn_parser_forbid_thoughts(pn_parser *p, bool forbid) { p->no_thoughts = forbid; }
uint64_t pn_parser_strays(const pn_parser *p) { return p->strays; }
bool pn_parser_undecided(const pn_parser *p) { return p->work.n > p->at; }

bool pn_parser_would_close(const pn_parser *p, const char *text, size_t n)
{
    const size_t held = p->work.n - p->at;
    for (size_t i = 0; i < p->n_markers; i++) {
        if (p->markers[i].mark != PN_MARK_THINK_END || p->tokens_only >> i & 1) continue;
        const char *m = p->markers[i].text;
        const size_t len = strlen(m);
        for (size_t from = 0; from + len <= held + n; from++) {
            size_t k = 0;
            while (k < len && (from + k < held ? p->work.p[p->at + from + k] : text[from + k - held]) == m[k]) k++;
            if (k == len) return true;
        }
    }
    return false;
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

ponder_status pn_parser_new(pn_parser **out, const pn_parse_options *o, const ponder_alloc *a, ponder_error *err)
{
    pn_parser *p = pn_zalloc(a, sizeof *p);
    *out = p;
    if (!p) return pn_nomem(err, sizeof *p);
    p->a = a;
    p->tools = pn_tools_hold(o->tools);
    p->calls = o->calls;
    pn_buf_init(&p->work, a);
    pn_buf_init(&p->bytes, a);
    pn_buf_init(&p->head, a);
    pn_buf_init(&p->body, a);
    choose(p, o);
    choose_thoughts(p, o);
    pn_parser_begin(p, o->start);
    return PONDER_OK;
}

static bool copy_buf(pn_buf *to, const pn_buf *from)
{
    pn_buf_init(to, from->a);
    return pn_buf_put(to, from->p, from->n);
}

ponder_status pn_parser_clone(pn_parser **out, const pn_parser *from, ponder_error *err)
{
    pn_parser *p = pn_zalloc(from->a, sizeof *p);
    *out = NULL;
    if (!p) return pn_nomem(err, sizeof *p);
    *p = *from;
    if (from->markers == from->own) p->markers = p->own;
    p->tools = pn_tools_hold(from->tools);
    p->queue = pn_zalloc_array(p->a, PN_MAX(p->cap_queue, (size_t)1), sizeof *p->queue);
    p->cap_queue = p->queue ? PN_MAX(p->cap_queue, (size_t)1) : 0;
    if (p->queue && from->n_queue) memcpy(p->queue, from->queue, from->n_queue * sizeof *p->queue);
    bool ok = p->queue != NULL;
    ok = copy_buf(&p->work, &from->work) && ok;
    ok = copy_buf(&p->bytes, &from->bytes) && ok;
    ok = copy_buf(&p->head, &from->head) && ok;
    ok = copy_buf(&p->body, &from->body) && ok;
    if (!ok) {
        pn_parser_free(p);
        return pn_nomem(err, sizeof *p);
    }
    *out = p;
    return PONDER_OK;
}

void pn_parser_free(pn_parser *p)
{
    if (!p) return;
    pn_tools_free(p->tools);
    pn_buf_free(&p->work);
    pn_buf_free(&p->bytes);
    pn_buf_free(&p->head);
    pn_buf_free(&p->body);
    pn_free(p->a, p->queue, p->cap_queue * sizeof *p->queue);
    pn_free(p->a, p, sizeof *p);
}

/* ---- events ------------------------------------------------------------------------------------------------------- */

static pn_queued *add(pn_parser *p, pn_parse_kind kind)
{
    if (p->n_queue == p->cap_queue) {
        const size_t cap = p->cap_queue ? 2 * p->cap_queue : 8;
        pn_queued *q = pn_grow(p->a, p->queue, p->cap_queue * sizeof *q, cap * sizeof *q);
        if (!q) {
            p->failed = true;
            return NULL;
        }
        p->queue = q;
        p->cap_queue = cap;
    }
    p->queue[p->n_queue] = (pn_queued){.kind = kind, .tool = -1};
    return &p->queue[p->n_queue++];
}

static size_t store(pn_parser *p, pn_str s)
{
    pn_buf_put(&p->bytes, s.p, s.n);
    return p->bytes.n - s.n;
}

void pn_event(pn_parser *p, pn_parse_kind kind, pn_str text)
{
    pn_queued *q = add(p, kind);
    if (!q || !pn_buf_reserve(&p->bytes, text.n)) return;
    q->text = store(p, text);
    q->n_text = text.n;
}

void pn_event_text(pn_parser *p, pn_parse_kind kind, pn_str text)
{
    if (text.n == 0) return;
    pn_queued *q = p->n_queue > p->taken ? &p->queue[p->n_queue - 1] : NULL;
    if (!q || q->kind != kind) pn_event(p, kind, text);
    else if (pn_buf_put(&p->bytes, text.p, text.n)) q->n_text += text.n; /* the newest event's text stands last */
}

void pn_event_call(pn_parser *p, pn_str name, int32_t tool, pn_str arguments)
{
    const size_t before = p->bytes.n;
    pn_event(p, PN_PARSED_CALL, arguments);
    const size_t at_name = store(p, name), at_id = p->bytes.n;
    pn_buf_printf(&p->bytes, "call_%llu", (unsigned long long)++p->calls);
    if (p->failed || p->bytes.failed) {
        p->bytes.n = before;
        return;
    }
    pn_queued *q = &p->queue[p->n_queue - 1];
    q->tool = tool;
    q->name = at_name;
    q->n_name = name.n;
    q->id = at_id;
    q->n_id = p->bytes.n - at_id;
}

bool pn_parser_next(pn_parser *p, pn_parsed *out)
{
    *out = (pn_parsed){.tool = -1};
    if (p->taken == p->n_queue || p->failed) return false;
    const pn_queued *q = &p->queue[p->taken++];
    const char *b = p->bytes.p;
    *out = (pn_parsed){.kind = q->kind, .tool = q->tool};
    out->text = q->n_text ? (pn_str){b + q->text, q->n_text} : (pn_str){"", 0};
    out->name = q->n_name ? (pn_str){b + q->name, q->n_name} : (pn_str){"", 0};
    out->id = q->n_id ? (pn_str){b + q->id, q->n_id} : (pn_str){"", 0};
    return true;
}

/* ---- counting ----------------------------------------------------------------------------------------------------- */

static void forget_token(pn_tally *t)
{
    t->start = t->end[0];
    memmove(t->end, t->end + 1, --t->n * sizeof *t->end);
    memmove(t->counted, t->counted + 1, t->n * sizeof *t->counted);
}

static void add_token(pn_tally *t, uint64_t end)
{
    if (t->n == PN_TOKENS_OPEN) forget_token(t);
    t->end[t->n] = end;
    t->counted[t->n++] = false;
}

/* The stream is decided up to `to`: from `from` on it was a thought. */
static void tally(pn_tally *t, uint64_t from, uint64_t to, bool thought)
{
    uint64_t start = t->start;
    for (size_t i = 0; i < t->n && start < to; start = t->end[i++]) {
        if (!thought || t->counted[i] || t->end[i] <= from) continue;
        t->counted[i] = true;
        t->thought++;
    }
    while (t->n && t->end[0] <= to) forget_token(t);
    if (!t->n) t->start = PN_MAX(t->start, to);
}

uint64_t pn_parser_thought_tokens(const pn_parser *p)
{
    return p->tally.thought;
}

uint64_t pn_parser_calls(const pn_parser *p)
{
    return p->calls;
}

/* ---- what a step does with text ----------------------------------------------------------------------------------- */

static void decide(pn_parser *p, size_t n, bool thought)
{
    tally(&p->tally, p->decided, p->decided + n, thought);
    p->at += n;
    p->decided += n;
    p->scanned -= PN_MIN(p->scanned, n);
}

void pn_take(pn_parser *p, size_t n)
{
    decide(p, n, false);
}

void pn_show(pn_parser *p, pn_parse_kind kind, size_t n)
{
    if (n == 0) return;
    pn_event_text(p, kind, (pn_str){p->work.p + p->at, n});
    p->since += n;
    p->fresh = false;
    decide(p, n, kind == PN_PARSED_THOUGHT);
}

void pn_keep(pn_parser *p, pn_buf *to, size_t n)
{
    pn_buf_put(to, p->work.p + p->at, n);
    decide(p, n, false);
}

size_t pn_skip_blank(const char *p, size_t n, size_t at)
{
    while (at < n && pn_blank(p[at])) at++;
    return at;
}

bool pn_there(const char *p, size_t n, size_t at, const char *what)
{
    const size_t len = strlen(what);
    return n - at >= len && memcmp(p + at, what, len) == 0;
}

bool pn_begins(const char *p, size_t n, size_t at, const char *what)
{
    return n - at < strlen(what) && memcmp(p + at, what, n - at) == 0;
}

/* ---- the stream --------------------------------------------------------------------------------------------------- */

/* Length of the character at p, of which n bytes are here; 0: more are needed; *bad: so many bytes can never become one. */
static size_t character(const unsigned char *p, size_t n, size_t *bad)
{
    const size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    *bad = len == 0;
    for (size_t i = 1; i < len && !*bad; i++) {
        if (i == n) return 0;
        const unsigned char low = i > 1 ? 0x80 : p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
        const unsigned char high = i > 1 ? 0xbf : p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
        if (p[i] < low || p[i] > high) *bad = i;
    }
    return *bad ? 0 : len;
}

static void take_byte(pn_parser *p, char c)
{
    size_t bad, len;
    p->partial[p->n_partial++] = c;
    while (p->n_partial) {
        len = character((const unsigned char *)p->partial, p->n_partial, &bad);
        if (len) pn_buf_put(&p->work, p->partial, len);
        else if (bad) pn_buf_puts(&p->work, "\xef\xbf\xbd");
        else return;
        p->n_partial -= len + bad;
        memmove(p->partial, p->partial + len + bad, p->n_partial);
    }
}

static void take_bytes(pn_parser *p, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t plain = i;
        while (!p->n_partial && plain < n && (unsigned char)s[plain] < 0x80) plain++;
        if (plain > i) pn_buf_put(&p->work, s + i, plain - i);
        else take_byte(p, s[plain++]);
        i = plain;
    }
}

static void give_up_partial(pn_parser *p)
{
    if (!p->n_partial) return;
    p->n_partial = 0;
    pn_buf_puts(&p->work, "\xef\xbf\xbd");
}

/* The first marker in w that counts as text: its index, and where; or where one may be beginning (-1). */
static int find_marker(pn_parser *p, const char *w, size_t n, size_t *where)
{
    *where = n;
    if (p->tokens_only == (1ull << p->n_markers) - 1) return -1;
    for (size_t at = p->scanned; at < n; at++) {
        if (!p->starts[(unsigned char)w[at]]) continue;
        for (size_t i = 0; i < p->n_markers; i++) {
            if (p->tokens_only >> i & 1) continue;
            if (pn_there(w, n, at, p->markers[i].text)) {
                *where = at;
                return (int)i;
            }
            if (pn_begins(w, n, at, p->markers[i].text)) *where = at;
        }
        if (*where < n) break; /* nothing behind it is longer */
    }
    p->scanned = *where;
    return -1;
}

static bool steps(pn_parser *p, size_t n, pn_follow follow)
{
    const size_t end = p->at + n;
    while (p->at < end && !p->work.failed && !p->failed)
        if (!p->kind->step(p, p->work.p + p->at, end - p->at, follow)) break;
    return p->at == end;
}

/* Bytes that are too many for a mistake: "<|e" at the end of a cut stream was to be a marker. */
enum { MARKER_PART = 3 };

/* `mark`: of the token that follows, with PN_FOLLOW_MARKER. */
static void drain(pn_parser *p, pn_follow follow, pn_mark mark)
{
    for (;;) {
        size_t n = p->work.n - p->at, where;
        const int i = n ? find_marker(p, p->work.p + p->at, n, &where) : -1;
        if (n == 0) return;
        p->marker = i < 0 ? mark : p->markers[i].mark;
        if (i < 0) {
            const bool part = follow == PN_FOLLOW_TEXT || (follow == PN_FOLLOW_NOTHING && n - where >= MARKER_PART);
            steps(p, part ? where : n, follow);
            return;
        }
        p->from_token = false;
        if (!steps(p, where, PN_FOLLOW_MARKER)) return; /* no memory */
        pn_take(p, strlen(p->markers[i].text));
        p->kind->mark(p, p->markers[i].mark, pn_str_of(p->markers[i].text));
    }
}

static void open_put(pn_parser *p)
{
    if (p->taken < p->n_queue) return;
    p->taken = p->n_queue = 0;
    p->bytes.n = 0;
}

static ponder_status close_put(pn_parser *p, ponder_error *err)
{
    p->failed |= p->work.failed || p->bytes.failed || p->head.failed || p->body.failed;
    if (p->failed) return pn_nomem(err, p->work.n + p->body.n + p->bytes.n);
    if (p->at) memmove(p->work.p, p->work.p + p->at, p->work.n - p->at);
    p->work.n -= p->at;
    p->at = 0;
    return PONDER_OK;
}

ponder_status pn_parser_put(pn_parser *p, const char *text, size_t n, ponder_error *err)
{
    open_put(p);
    take_bytes(p, text, n);
    add_token(&p->tally, p->decided + (p->work.n - p->at) + p->n_partial);
    drain(p, PN_FOLLOW_TEXT, PN_MARK_NONE);
    return close_put(p, err);
}

ponder_status pn_parser_put_token(pn_parser *p, const char *name, size_t n, ponder_error *err)
{
    const pn_str s = {name, n};
    pn_mark mark = PN_MARK_NONE;
    for (size_t i = 0; i < p->n_markers; i++)
        if (pn_str_eq(s, p->markers[i].text)) mark = p->markers[i].mark;
    open_put(p);
    give_up_partial(p);
    drain(p, mark ? PN_FOLLOW_MARKER : PN_FOLLOW_TEXT, mark);
    p->from_token = true;
    if (!p->failed && !p->work.failed) p->kind->mark(p, mark, s);
    return close_put(p, err);
}

ponder_status pn_parser_finish(pn_parser *p, ponder_error *err)
{
    open_put(p);
    give_up_partial(p);
    drain(p, PN_FOLLOW_NOTHING, PN_MARK_NONE);
    if (!p->failed && !p->work.failed) p->kind->cut(p, p->work.n - p->at);
    return close_put(p, err);
}

void pn_parser_begin(pn_parser *p, pn_parse_start start)
{
    if (p->work.n) pn_take(p, p->work.n - p->at);
    p->work.n = p->at = p->n_partial = 0;
    p->head.n = p->body.n = 0;
    p->role = 0;
    p->kind->begin(p, start);
}

pn_place pn_parser_place(const pn_parser *p)
{
    pn_place place = p->kind->place(p);
    place.since += p->work.n - p->at + p->n_partial;
    return place;
}
