/* Muse: messages with a recipient.
 *
 *     [<|start|>assistant] to=RECIPIENT<|message|>BODY<|eom|> ... <|eot|>
 *
 * RECIPIENT: self is a thought, commentary its own kind, user (or none) the answer, anything else a tool. What the rules are
 * where the model leaves them:
 *  - a header may lack <|start|>, "assistant", its space; a body without any header is an answer; a header without
 *    <|message|> counts if its recipient is one of the three, or a block of calls follows;
 *  - " to=NAME<|message|>" inside a body is a message of its own (the model left the one before without <|eom|>), if a space
 *    or nothing is before it; any other <|message|> in a body is a slip, and vanishes there;
 *  - a message to a tool is read when it ends (atem.c). One without a call in it comes out raw, header and all;
 *  - what looks like a call in a thought is text. In an answer it is text too, unless it is a whole block at the very end of
 *    the message, every name in it a tool's, or, as long as tools are not known, the message had no header;
 *  - what somebody else says ("<|start|>user"), and a header that cannot be read, comes out raw. */
#include "chat/parser.h"

enum { HEADER, BODY, CALLS, TAIL, FOREIGN, ENDED };
enum { MOST_HEADER = 256, MOST_RECIPIENT = 128, MOST_BARE = 160, ATEM_PART = 6 };

static const char opener[] = "<atem:function_calls>";

/* ---- headers ------------------------------------------------------------------------------------------------------ */

typedef enum header_kind {
    MAYBE,      /* so far, or as a whole, a header */
    PROSE,      /* no header: text from `at` on */
    BEHIND,     /* a header without <|message|>, its body from `at` on */
    SOMEBODY,   /* another role's */
} header_kind;
typedef struct header {
    header_kind kind;
    size_t at, to, n_to;
    bool has_to;
} header;

/* Whether `what` stands at *at and is passed; at the text's end its beginning will do (*part). */
static bool word(const char *w, size_t n, size_t *at, const char *what, bool *part)
{
    if (pn_there(w, n, *at, what)) {
        *at += strlen(what);
        return true;
    }
    *part = *at < n && pn_begins(w, n, *at, what);
    return false;
}

static bool known_recipient(pn_str s)
{
    return pn_str_eq(s, "self") || pn_str_eq(s, "user") || pn_str_eq(s, "commentary");
}

/* The role, or where a header without one goes on. */
static bool role(const char *w, size_t n, bool started, header *h)
{
    bool part;
    size_t i = pn_skip_blank(w, n, 0);
    h->at = 0;
    if (word(w, n, &i, "assistant", &part)) {
        const bool other = i < n && !pn_blank(w[i]) && !pn_there(w, n, i, "to=") && !pn_begins(w, n, i, "to=");
        if (other) h->kind = started ? SOMEBODY : PROSE;
        else if (started) h->at = i;
        h->to = i;
        return !other;
    }
    if (part || i == n) return false;
    h->to = i;
    if (started) h->kind = SOMEBODY;
    return !started;
}

static header read_header(const char *w, size_t n, bool started)
{
    header h = {.kind = MAYBE};
    bool part = false;
    if (!role(w, n, started, &h)) return h;
    size_t i = pn_skip_blank(w, n, h.to);
    if (i == n) return h;
    h.has_to = word(w, n, &i, "to=", &part);
    if (!h.has_to && part) return h;
    h.kind = PROSE;
    if (!h.has_to) return h;
    h.to = i;
    while (i < n && !pn_blank(w[i]) && w[i] != '<' && i - h.to <= MOST_RECIPIENT) i++;
    h.n_to = i - h.to;
    if (h.n_to > MOST_RECIPIENT) return h;
    i = pn_skip_blank(w, n, i);
    if (i == n || known_recipient((pn_str){w + h.to, h.n_to}) || pn_there(w, n, i, opener)) {
        h.kind = i == n ? MAYBE : BEHIND;
        h.at = i;
    } else if (pn_begins(w, n, i, opener)) {
        h.kind = MAYBE;
    }
    return h;
}

/* Where " to=NAME" begins at the end of w, or may be beginning (`whole`: all of it is to be there); n: nowhere. `fresh`: w
 * is the body's beginning. */
static size_t bare_header(const char *w, size_t n, bool fresh, bool whole)
{
    for (size_t from = n > MOST_BARE ? n - MOST_BARE : 0; from < n; from++) {
        size_t i = from + pn_blank(w[from]);
        bool part = false;
        if (i == from && !(fresh && from == 0)) continue;
        const bool named_role = word(w, n, &i, "assistant", &part);
        if (part && !whole) return from;
        if (named_role && i < n && pn_blank(w[i])) i++;
        if (i == n && !whole) return from;
        if (!word(w, n, &i, "to=", &part)) {
            if (part && !whole) return from;
            continue;
        }
        const size_t name = i;
        while (i < n && !pn_blank(w[i]) && w[i] != '<') i++;
        const bool named = i > name && i - name <= MOST_RECIPIENT;
        if (i < n && pn_blank(w[i])) i++;
        if (i == n && (named || (!whole && i == name))) return from;
    }
    return n;
}

/* ---- messages ----------------------------------------------------------------------------------------------------- */

static void open_body(pn_parser *p, pn_parse_kind channel, bool framed)
{
    p->state = BODY;
    p->channel = channel;
    p->framed = framed;
    p->fresh = true;
    p->since = 0;
    p->head.n = p->body.n = 0;
}

static pn_str recipient(const pn_parser *p)
{
    return p->head.n ? (pn_str){p->head.p + p->to, p->n_to} : (pn_str){"", 0};
}

/* The header that is in `head`. */
static void open_message(pn_parser *p, const header *h)
{
    p->to = h->to;
    p->n_to = h->n_to;
    const pn_str to = recipient(p);
    if (!h->has_to || pn_str_eq(to, "user")) {
        open_body(p, PN_PARSED_ANSWER, true);
    } else if (pn_str_eq(to, "self")) {
        open_body(p, PN_PARSED_THOUGHT, true);
    } else if (pn_str_eq(to, "commentary")) {
        open_body(p, PN_PARSED_COMMENTARY, true);
    } else {
        p->state = CALLS;
        p->body.n = 0;
        p->atem = (pn_atem){0};
    }
}

/* Raw bytes of `head` (behind its <|start|>, if it had one), a <|message|> and the body. */
static void raw_message(pn_parser *p, bool body)
{
    pn_buf b;
    pn_buf_init(&b, p->a);
    if (p->started) pn_buf_puts(&b, "<|start|>");
    pn_buf_put(&b, p->head.p, p->head.n);
    if (body) pn_buf_puts(&b, "<|message|>");
    if (body) pn_buf_put(&b, p->body.p, p->body.n);
    pn_event(p, PN_PARSED_RAW, (pn_str){b.p, b.failed ? 0 : b.n});
    p->failed |= b.failed;
    pn_buf_free(&b);
}

/* A header that no <|message|> followed. Says whether it was anything. */
static bool end_header(pn_parser *p, bool cut)
{
    const header h = read_header(p->head.p, p->head.n, p->started);
    const size_t blank = pn_skip_blank(p->head.p, p->head.n, 0);
    const bool empty = blank == p->head.n || (p->started && !h.has_to && h.at && pn_skip_blank(p->head.p, p->head.n, h.at) == p->head.n);
    if (empty) return false;
    if (!p->started && !h.has_to && !cut) pn_event_text(p, PN_PARSED_ANSWER, (pn_str){p->head.p, p->head.n});
    else raw_message(p, false);
    return true;
}

static void end_message(pn_parser *p, bool cut)
{
    bool any = p->state != ENDED;
    if (p->state == HEADER && p->head.n) any = end_header(p, cut);
    else if (p->state == HEADER) any = false;
    else if (p->state == FOREIGN) pn_event(p, PN_PARSED_RAW, (pn_str){p->body.p, p->body.n});
    else if (p->state == CALLS && !pn_atem_calls(p, (pn_str){p->body.p, p->body.n}, recipient(p))) raw_message(p, true);
    if (any && !cut) pn_event(p, PN_PARSED_MESSAGE_END, (pn_str){"", 0});
    p->body.n = 0;
}

static void next_message(pn_parser *p, bool started)
{
    p->state = HEADER;
    p->started = started;
    p->head.n = p->body.n = 0;
    p->since = 0;
}

static void begin(pn_parser *p, pn_parse_start start)
{
    next_message(p, false);
    if (start != PN_PARSE_TURN) open_body(p, start == PN_PARSE_THOUGHT ? PN_PARSED_THOUGHT : PN_PARSED_ANSWER, true);
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

static bool header_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    header h = read_header(w, n, p->started);
    if (h.kind == MAYBE && n > MOST_HEADER) h.kind = PROSE;
    switch (h.kind) {
    case MAYBE:
        if (follow == PN_FOLLOW_TEXT) return false;
        pn_keep(p, &p->head, n);
        break;
    case PROSE:
        pn_take(p, p->started ? h.at : 0);
        open_body(p, PN_PARSED_ANSWER, false);
        break;
    case BEHIND:
        pn_keep(p, &p->head, h.at);
        open_message(p, &h);
        break;
    case SOMEBODY:
        p->state = FOREIGN;
        p->body.n = 0;
        pn_buf_puts(&p->body, "<|start|>");
    }
    return true;
}

/* Whether a block in this body, which is no thought, can be a call. */
static bool may_call(const pn_parser *p)
{
    return p->tools ? pn_tools_count(p->tools) > 0 : !p->framed;
}

/* Where a block of calls stands or begins to; n: nowhere. */
static size_t find_opener(const char *w, size_t n, bool whole_ones, bool *whole)
{
    for (size_t at = 0; at < n; at++) {
        const char *hit = memchr(w + at, '<', n - at);
        if (!hit) break;
        at = (size_t)(hit - w);
        *whole = pn_there(w, n, at, opener);
        if (*whole ? whole_ones : pn_begins(w, n, at, opener)) return at;
    }
    *whole = false;
    return n;
}

/* The beginning of a tag that nothing completes: too much of it to be a chance. */
static bool raw_part(const pn_parser *p, size_t n, pn_follow follow)
{
    return follow == PN_FOLLOW_NOTHING || (n >= ATEM_PART && may_call(p));
}

static bool body_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    const bool thought = p->channel == PN_PARSED_THOUGHT, bare = follow == PN_FOLLOW_MARKER && p->marker == PN_MARK_BODY;
    bool whole = false;
    size_t tail = follow == PN_FOLLOW_TEXT || bare ? bare_header(w, n, p->fresh, bare) : n;
    const size_t block = thought ? n : find_opener(w, n, may_call(p), &whole);
    if (whole) {
        pn_show(p, p->channel, block);
        p->state = TAIL;
        p->atem = (pn_atem){0};
        return true;
    }
    if (follow == PN_FOLLOW_TEXT) {
        const size_t shown = PN_MIN(tail, block);
        pn_show(p, p->channel, shown);
        return shown > 0;
    }
    if (block < n && raw_part(p, n - block, follow)) {
        pn_show(p, p->channel, block);
        pn_event(p, PN_PARSED_RAW, (pn_str){p->work.p + p->at, n - block});
        pn_take(p, n - block);
        return true;
    }
    pn_show(p, p->channel, tail);
    if (tail < n) pn_keep(p, &p->head, n - tail);
    return true;
}

static bool wrong_name(const pn_parser *p, const char *w)
{
    pn_str name = {w + p->atem.name, p->atem.n_name};
    return p->tools && p->atem.n_name && pn_call_tool(p, (pn_str){"", 0}, &name) < 0;
}

/* A block in an answer, so far. Its text stays undecided: if it turns out to be none, it is shown. */
static bool tail_step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    const size_t name = p->atem.name;
    pn_atem_read(&p->atem, w, n);
    const bool named = p->atem.name != name && wrong_name(p, w);
    if (p->atem.state == PN_ATEM_WRONG || named) {
        const size_t shown = PN_MAX(named ? p->atem.name : p->atem.at, sizeof opener - 1);
        p->state = BODY;
        pn_show(p, p->channel, shown);
        return true;
    }
    if (follow == PN_FOLLOW_TEXT) return false;
    const bool complete = p->atem.state == PN_ATEM_AFTER || (p->atem.state == PN_ATEM_BLOCK && p->atem.invokes);
    const bool begun = p->atem.state != PN_ATEM_BLOCK || follow == PN_FOLLOW_NOTHING;
    p->state = BODY;
    if (complete && pn_atem_calls(p, (pn_str){w, n}, (pn_str){"", 0})) {
        pn_take(p, n);
    } else if (begun || complete) {
        pn_event(p, PN_PARSED_RAW, (pn_str){w, n});
        pn_take(p, n);
    } else {
        pn_show(p, p->channel, n);
    }
    return true;
}

static bool step(pn_parser *p, const char *w, size_t n, pn_follow follow)
{
    switch (p->state) {
    case ENDED: next_message(p, false); return true;
    case HEADER: return header_step(p, w, n, follow);
    case BODY: return body_step(p, w, n, follow);
    case TAIL: return tail_step(p, w, n, follow);
    case CALLS:
        pn_keep(p, &p->body, n);
        if (!p->body.failed) pn_atem_read(&p->atem, p->body.p, p->body.n);
        return true;
    default: pn_keep(p, &p->body, n); return true;
    }
}

/* ---- markers ------------------------------------------------------------------------------------------------------ */

/* The header at the end of a message to a tool, moved to `head` when the message has ended. */
static bool leave_calls(pn_parser *p)
{
    char bare[MOST_BARE];
    const bool inside = p->atem.state == PN_ATEM_NAME || p->atem.state == PN_ATEM_PARAMETER || p->atem.state == PN_ATEM_VALUE;
    const size_t from = inside ? p->body.n : bare_header(p->body.p, p->body.n, true, true), n = p->body.n - from;
    if (n == 0) return false;
    memcpy(bare, p->body.p + from, n);
    p->body.n = from;
    end_message(p, false);
    next_message(p, false);
    pn_buf_put(&p->head, bare, n);
    return true;
}

static void body_mark(pn_parser *p)
{
    if (p->state == BODY && p->head.n) {
        pn_event(p, PN_PARSED_MESSAGE_END, (pn_str){"", 0});
        p->started = false;
        p->state = HEADER;
    } else if (p->state == FOREIGN || (p->state == CALLS && !leave_calls(p))) {
        pn_buf_puts(&p->body, "<|message|>");
        return;
    } else if (p->state == BODY) {
        return;
    }
    if (p->head.failed) return;
    const header h = read_header(p->head.p, p->head.n, p->started);
    if (h.kind == MAYBE && (!h.has_to || h.n_to)) {
        open_message(p, &h);
    } else { /* "to=" and nothing, or half a word */
        p->state = CALLS;
        p->n_to = 0;
        p->body.n = 0;
        p->atem = (pn_atem){0};
    }
}

static void mark(pn_parser *p, pn_mark m, pn_str name)
{
    const bool ended = p->state == ENDED;
    switch (m) {
    case PN_MARK_BODY: body_mark(p); return;
    case PN_MARK_BEGIN: case PN_MARK_START:
        end_message(p, false);
        next_message(p, m == PN_MARK_START);
        return;
    case PN_MARK_MESSAGE_END:
        end_message(p, false);
        if (!ended) next_message(p, false);
        return;
    case PN_MARK_TURN_END:
        end_message(p, false);
        next_message(p, false);
        p->state = ENDED;
        if (!ended) pn_event(p, PN_PARSED_TURN_END, (pn_str){"", 0});
        return;
    default:
        if (p->state == CALLS || p->state == FOREIGN) pn_buf_put(&p->body, name.p, name.n);
    }
}

static void cut(pn_parser *p, size_t n)
{
    if (n && (p->state == BODY || p->state == TAIL)) {
        pn_event(p, PN_PARSED_RAW, (pn_str){p->work.p + p->at, n});
        pn_take(p, n);
    } else if (n) {
        if (p->state == ENDED) p->state = HEADER;
        pn_keep(p, p->state == HEADER ? &p->head : &p->body, n);
    }
    end_message(p, true);
    if (p->state == HEADER) next_message(p, false);
}

static pn_place place(const pn_parser *p)
{
    static const pn_channel channels[] = {[PN_PARSED_THOUGHT] = PN_CHANNEL_THOUGHT, [PN_PARSED_COMMENTARY] = PN_CHANNEL_COMMENTARY,
                                          [PN_PARSED_ANSWER] = PN_CHANNEL_ANSWER};
    const bool tail = p->state == TAIL;
    const char *text = tail ? p->work.p + p->at : p->body.p;
    pn_place at = {.channel = PN_CHANNEL_HEADER, .since = p->since, .tool = {"", 0}, .parameter = {"", 0}};
    if (p->state == BODY) at.channel = channels[p->channel];
    if (p->state == FOREIGN) at.channel = PN_CHANNEL_RAW;
    if (p->state == ENDED) at.channel = PN_CHANNEL_ENDED;
    if (p->state != CALLS && !tail) return at;
    at.channel = PN_CHANNEL_CALL;
    at.since = tail ? 0 : p->body.n;
    at.tool = p->atem.n_name ? (pn_str){text + p->atem.name, p->atem.n_name} : tail ? at.tool : recipient(p);
    if (p->atem.state != PN_ATEM_VALUE) return at;
    at.channel = PN_CHANNEL_ARGUMENT;
    at.parameter = (pn_str){text + p->atem.parameter, p->atem.n_parameter};
    at.since = (tail ? 0 : p->body.n) - p->atem.from;
    return at;
}

const pn_kind pn_kind_muse = {begin, step, mark, cut, place};
