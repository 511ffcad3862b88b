/* Models that mark their thoughts with <think> and their calls with <tool_call>{json}</tool_call>, and plain ones.
 *
 * Templates write newlines round these blocks, which are no part of thought or answer: all of them at a thought's ends and
 * behind </think>, one before <tool_call>, all space between calls. What looks like a call in a thought is text. As text (not
 * as a token) <think> counts at the beginning of a line only, <tool_call> only if a brace follows, and </tool_call> not
 * inside a JSON string. */
#include "chat/parser.h"

enum { TEXT, THOUGHT, CALL, ENDED };
enum { MOST_BLANK = 64 }; /* more of it is no template's doing */
/* What a fresh answer stands behind: p->to. */
enum { TURN_BEGIN = 0, BEHIND_THOUGHT, BEHIND_CALL };

static const char call_open[] = "<tool_call>", call_close[] = "</tool_call>";

static void to_text(pn_parser *p, int behind)
{
    p->state = TEXT;
    p->to = (size_t)behind;
    p->fresh = true;
    p->line_begin = true;
    p->since = 0;
    p->body.n = 0;
}

static void to_thought(pn_parser *p)
{
    p->state = THOUGHT;
    p->fresh = true;
    p->since = 0;
}

static void begin(pn_parser *p, pn_parse_start start)
{
    p->started = false;
    to_text(p, TURN_BEGIN);
    if (start == PN_PARSE_THOUGHT) to_thought(p);
    if (start == PN_PARSE_ANSWER) p->to = BEHIND_THOUGHT;
}

static bool show(pn_parser *p, const char *w, size_t n)
{
    if (n == 0) return false;
    p->started = true;
    p->line_begin = w[n - 1] == '\n';
    pn_show(p, p->state == THOUGHT ? PN_PARSED_THOUGHT : PN_PARSED_ANSWER, n);
    return true;
}

static size_t newlines(const char *w, size_t n)
{
    size_t k = 0;
    while (k < n && w[k] == '\n') k++;
    return k;
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

static bool thought_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    size_t keep = n;
    const size_t lead = p->fresh ? newlines(w, n) : 0;
    if (lead) {
        pn_take(p, lead);
        return true;
    }
    const bool ends = follow == PN_FOLLOW_MARKER && p->marker == PN_MARK_THINK_END;
    while ((follow == PN_FOLLOW_TEXT || ends) && keep && n - keep < MOST_BLANK && w[keep - 1] == '\n') keep--;
    const bool shown = show(p, w, keep);
    if (ends) pn_take(p, n - keep);
    return shown || ends;
}

/* Space at an answer's beginning is dropped if markup follows it. */
static bool fresh_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    const size_t lead = newlines(w, n);
    if (p->to == BEHIND_THOUGHT && lead) {
        pn_take(p, lead);
        return true;
    }
    if (p->to == BEHIND_THOUGHT || n > MOST_BLANK || pn_skip_blank(w, n, 0) < n) {
        p->fresh = false;
        return true;
    }
    if (follow == PN_FOLLOW_TEXT) return false;
    const bool markup = follow == PN_FOLLOW_MARKER && (p->marker == PN_MARK_THINK || p->marker == PN_MARK_CALL);
    if (!markup && p->to != BEHIND_CALL) return show(p, w, n);
    pn_take(p, n);
    return true;
}

static bool text_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    if (p->fresh && (p->kind_id == PN_PARSER_THINK || p->to == BEHIND_THOUGHT)) return fresh_step(p, w, n, follow);
    if (p->kind_id != PN_PARSER_THINK) return show(p, w, n);
    const bool newline = w[n - 1] == '\n', call = follow == PN_FOLLOW_MARKER && p->marker == PN_MARK_CALL;
    if (!newline || (follow != PN_FOLLOW_TEXT && !call)) return show(p, w, n);
    const bool shown = show(p, w, n - 1);
    if (call) pn_take(p, 1);
    return shown || call;
}

/* Follows the JSON's strings. */
static void follow_json(pn_parser *p, size_t from)
{
    for (size_t i = from; i < p->body.n && !p->body.failed; i++) {
        const char c = p->body.p[i];
        if (p->escaped) p->escaped = false;
        else if (p->in_string && c == '\\') p->escaped = true;
        else if (c == '"') p->in_string = !p->in_string;
    }
}

static bool call_step(pn_parser *p, const char *w, size_t n)
{
    const size_t from = p->body.n, blank = pn_skip_blank(w, n, 0);
    const bool braced = pn_skip_blank(p->body.p, from, 0) < from;
    if (!braced && blank < n && w[blank] != '{' && !p->call_token) {
        pn_event_text(p, PN_PARSED_ANSWER, pn_str_of(call_open));
        pn_event_text(p, PN_PARSED_ANSWER, (pn_str){p->body.p, from});
        to_text(p, TURN_BEGIN);
        p->fresh = false;
        return true;
    }
    pn_keep(p, &p->body, n);
    follow_json(p, from);
    return true;
}

static bool behind_turn(pn_parser *p, const char *w, size_t n)
{
    const size_t lead = newlines(w, n); /* templates write one there */
    if (lead) pn_take(p, lead);
    else begin(p, PN_PARSE_TURN);
    return true;
}

static bool step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    if (p->role) {
        pn_role_step(p, w, n);
        return true;
    }
    switch (p->state) {
    case ENDED: return behind_turn(p, w, n);
    case THOUGHT: return thought_step(p, w, n, follow);
    case CALL: return call_step(p, w, n);
    default: return text_step(p, w, n, follow);
    }
}

/* ---- calls -------------------------------------------------------------------------------------------------------- */

static void raw_call(pn_parser *p, pn_str text, bool closed)
{
    pn_buf b;
    pn_buf_init(&b, p->a);
    if (!pn_there(text.p, text.n, pn_skip_blank(text.p, text.n, 0), call_open)) pn_buf_puts(&b, call_open);
    pn_buf_put(&b, text.p, text.n);
    if (closed) pn_buf_puts(&b, call_close);
    pn_event(p, PN_PARSED_RAW, (pn_str){b.p, b.failed ? 0 : b.n});
    p->failed |= b.failed;
    pn_buf_free(&b);
}

static void one_call(pn_parser *p, pn_str text, bool closed)
{
    const size_t blank = pn_skip_blank(text.p, text.n, 0), open = sizeof call_open - 1;
    const bool opened = pn_there(text.p, text.n, blank, call_open);
    const pn_str json = opened ? (pn_str){text.p + blank + open, text.n - blank - open} : text;
    if (!pn_json_call(p, json, false)) raw_call(p, text, closed);
}

/* The body of a call that has ended. If its JSON swallowed closing tags because a quote was never closed, the tags count
 * after all. */
static void end_call(pn_parser *p, bool closed)
{
    pn_str rest = {p->body.p, p->body.n};
    const size_t close = sizeof call_close - 1;
    if (!pn_json_call(p, rest, false)) {
        for (const char *hit; rest.n && (hit = memmem(rest.p, rest.n, call_close, close));) {
            one_call(p, (pn_str){rest.p, (size_t)(hit - rest.p)}, true);
            rest = (pn_str){hit + close, rest.n - (size_t)(hit - rest.p) - close};
        }
        if (pn_skip_blank(rest.p, rest.n, 0) < rest.n || rest.p == p->body.p) one_call(p, rest, closed);
    }
    to_text(p, BEHIND_CALL);
}

static void open_call(pn_parser *p)
{
    p->state = CALL;
    p->since = 0;
    p->in_string = p->escaped = false;
    p->call_token = p->from_token;
    p->body.n = 0;
}

/* ---- markers ------------------------------------------------------------------------------------------------------ */

static void literal(pn_parser *p, pn_str name)
{
    const size_t from = p->body.n;
    p->tally.thought += p->state == THOUGHT && p->from_token;
    if (p->state == CALL && pn_buf_put(&p->body, name.p, name.n)) follow_json(p, from);
    else if (p->state != CALL) pn_event_text(p, p->state == THOUGHT ? PN_PARSED_THOUGHT : PN_PARSED_ANSWER, name);
}

static void end_message(pn_parser *p, bool cut)
{
    if (p->state == CALL) end_call(p, false);
    if (p->started && !cut) pn_event(p, PN_PARSED_MESSAGE_END, (pn_str){"", 0});
}

static void call_mark(pn_parser *p, pn_str name)
{
    if (p->state == THOUGHT || (p->state == CALL && p->in_string)) {
        literal(p, name);
        return;
    }
    if (p->state == CALL) end_call(p, false);
    open_call(p);
}

static void call_end_mark(pn_parser *p, pn_str name)
{
    const bool text = p->state == CALL && p->in_string && !p->from_token;
    if (p->state == THOUGHT || text) literal(p, name);
    else if (p->state == CALL) end_call(p, true);
}

static void turn_end(pn_parser *p)
{
    const bool ended = p->state == ENDED;
    if (!ended) end_message(p, false);
    if (!ended) pn_event(p, PN_PARSED_TURN_END, (pn_str){"", 0});
    p->state = ENDED;
    p->body.n = 0;
}

static void mark(pn_parser *p, pn_mark m, pn_str name)
{
    if (p->role && pn_role_mark(p, m, name)) {
        if (!p->role) p->to = BEHIND_THOUGHT; /* Llama writes newlines there */
        return;
    }
    if (m == PN_MARK_TURN_END) {
        turn_end(p);
        return;
    }
    if (m == PN_MARK_START) {
        if (p->state != ENDED) end_message(p, false);
        begin(p, PN_PARSE_TURN);
        pn_role_open(p);
        return;
    }
    if (m == PN_MARK_BEGIN || m == PN_MARK_BODY) return;
    if (p->state == ENDED && m != PN_MARK_NONE) begin(p, PN_PARSE_TURN);
    p->started |= m != PN_MARK_NONE;
    switch (m) {
    case PN_MARK_THINK:
        if (p->state == CALL || (p->state == TEXT && !p->from_token && !p->line_begin)) literal(p, name);
        else if (p->state == TEXT && p->no_thoughts) p->strays++;
        else if (p->state == TEXT) to_thought(p);
        break;
    case PN_MARK_THINK_END:
        if (p->state == CALL) literal(p, name);
        else if (p->state == THOUGHT) to_text(p, BEHIND_THOUGHT);
        else if (p->state == TEXT) p->strays++;
        break;
    case PN_MARK_CALL: call_mark(p, name); break;
    case PN_MARK_CALL_END: call_end_mark(p, name); break;
    default:
        if (p->state == CALL) literal(p, name);
    }
}

static void cut(pn_parser *p, size_t n)
{
    if (p->role) {
        pn_role_cut(p, n);
    } else if (p->state == CALL) {
        pn_keep(p, &p->body, n);
    } else if (n) {
        pn_event(p, PN_PARSED_RAW, (pn_str){p->work.p + p->at, n});
        pn_take(p, n);
    }
    if (p->state != ENDED) end_message(p, true);
}

static pn_place place(const pn_parser *p)
{
    static const pn_channel channels[] = {PN_CHANNEL_ANSWER, PN_CHANNEL_THOUGHT, PN_CHANNEL_CALL, PN_CHANNEL_ENDED};
    if (p->role) return pn_role_place(p);
    const size_t since = p->state == CALL ? p->body.n : p->since;
    return (pn_place){.channel = channels[p->state], .since = since, .tool = {"", 0}, .parameter = {"", 0}};
}

const pn_kind pn_kind_think = {begin, step, mark, cut, place};
