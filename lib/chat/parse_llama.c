/* Llama 3.1: a whole message that is one JSON object with a name is a call, perhaps behind a <|python_tag|>. Text is held only
 * while it can be one. What follows a <|python_tag|> and is no such object comes out raw. */
#include "chat/parser.h"

enum { START, TEXT, HELD, ENDED };
enum { MOST_BLANK = 64 };

static void begin(pn_parser *p, pn_parse_start start)
{
    p->state = start == PN_PARSE_ANSWER ? TEXT : START;
    p->started = p->held = false;
    p->since = 0;
}

/* 1: a call's beginning, 0: perhaps, -1: no. */
static int looks_like_call(const char *w, size_t n)
{
    static const char *const keys[] = {"\"name\"", "\"type\"", "\"function\"", "\"parameters\""};
    size_t i = pn_skip_blank(w, n, 0);
    if (i < n && i <= MOST_BLANK && w[i] == '{') i = pn_skip_blank(w, n, i + 1);
    else if (i < n) return -1;
    if (i > MOST_BLANK) return -1;
    int found = i == n ? 0 : -1;
    for (size_t k = 0; k < PN_COUNT(keys); k++) {
        if (pn_there(w, n, i, keys[k])) return 1;
        if (pn_begins(w, n, i, keys[k])) found = 0;
    }
    return found;
}

static bool show(pn_parser *p, size_t n)
{
    p->state = TEXT;
    p->started = true;
    pn_show(p, PN_PARSED_ANSWER, n);
    return true;
}

static void raw(pn_parser *p, pn_str text)
{
    pn_buf b;
    pn_buf_init(&b, p->a);
    if (p->held) pn_buf_puts(&b, "<|python_tag|>");
    pn_buf_put(&b, text.p, text.n);
    pn_event(p, PN_PARSED_RAW, (pn_str){b.p, b.failed ? 0 : b.n});
    p->failed |= b.failed;
    pn_buf_free(&b);
}

/* Whether the object that was cut names a tool already. */
static bool names_tool(const pn_parser *p, const char *w, size_t n)
{
    const char *hit = memmem(w, n, "\"name\"", 6);
    size_t i = hit ? pn_skip_blank(w, n, (size_t)(hit - w) + 6) : n;
    if (i < n && w[i] == ':') i = pn_skip_blank(w, n, i + 1);
    if (i == n || w[i] != '"') return false;
    const char *end = memchr(w + i + 1, '"', n - i - 1);
    pn_str name = {w + i + 1, end ? (size_t)(end - w) - i - 1 : 0};
    return end && name.n && (!p->tools || pn_call_tool(p, (pn_str){"", 0}, &name) >= 0);
}

static bool held_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    if (follow == PN_FOLLOW_TEXT) return false;
    const bool call = pn_json_call(p, (pn_str){w, n}, !p->held), part = follow == PN_FOLLOW_NOTHING && names_tool(p, w, n);
    if (!call && !p->held && !part) return show(p, n);
    if (!call) raw(p, (pn_str){w, n});
    p->started = true;
    p->held = false;
    p->state = TEXT;
    pn_take(p, n);
    return true;
}

static bool step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    if (p->role) {
        pn_role_step(p, w, n);
        return true;
    }
    if (p->behind_header && w[0] == '\n') {
        pn_take(p, 1);
        return true;
    }
    p->behind_header = false;
    if (p->state == ENDED) begin(p, PN_PARSE_TURN);
    if (p->state == HELD) return held_step(p, w, n, follow);
    if (p->state == TEXT || (p->tools && pn_tools_count(p->tools) == 0)) return show(p, n);
    const int call = looks_like_call(w, n);
    if (call < 0 || (call == 0 && follow != PN_FOLLOW_TEXT)) return show(p, n);
    if (call > 0) p->state = HELD;
    return call > 0;
}

static void end_message(pn_parser *p)
{
    if (p->held) raw(p, (pn_str){"", 0}); /* a tag and nothing */
    if (p->started) pn_event(p, PN_PARSED_MESSAGE_END, (pn_str){"", 0});
}

static void mark(pn_parser *p, pn_mark m, pn_str name)
{
    if (p->role && pn_role_mark(p, m, name)) {
        p->behind_header = !p->role;
        return;
    }
    p->behind_header = false;
    if (m == PN_MARK_START) {
        if (p->state != ENDED) end_message(p);
        begin(p, PN_PARSE_TURN);
        pn_role_open(p);
    } else if (m == PN_MARK_PYTHON) {
        if (p->state == ENDED) begin(p, PN_PARSE_TURN);
        p->state = HELD;
        p->held = p->started = true;
    } else if (m == PN_MARK_TURN_END && p->state != ENDED) {
        end_message(p);
        pn_event(p, PN_PARSED_TURN_END, (pn_str){"", 0});
        p->state = ENDED;
    }
}

static void cut(pn_parser *p, size_t n)
{
    if (p->role) {
        pn_role_cut(p, n);
    } else if (n) {
        pn_event(p, PN_PARSED_RAW, (pn_str){p->work.p + p->at, n});
        pn_take(p, n);
    }
}

static pn_place place(const pn_parser *p)
{
    static const pn_channel channels[] = {PN_CHANNEL_ANSWER, PN_CHANNEL_ANSWER, PN_CHANNEL_CALL, PN_CHANNEL_ENDED};
    if (p->role) return pn_role_place(p);
    return (pn_place){.channel = channels[p->state], .since = p->since, .tool = {"", 0}, .parameter = {"", 0}};
}

const pn_kind pn_kind_llama = {begin, step, mark, cut, place};
