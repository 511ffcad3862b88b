/* ATEM: Muse's calls.
 *
 *     <atem:function_calls>
 *     <atem:invoke name="ns.fn">
 *     <atem:parameter name="k">value</atem:parameter>
 *     </atem:invoke>
 *     </atem:function_calls>
 *
 * Values are bare, so they may hold these tags themselves. A closing tag closes only if what follows can follow there: behind
 * a parameter another parameter or the invoke's end, behind that another invoke or the end of block and message. When no tag
 * closes so, the first that might is taken (a model that adds a sentence behind the block); then the tags may also lack their
 * prefix or their quotes. What still is no call is not made one. */
#include "chat/parser.h"
#include "chat/value.h"

static const char block_open[] = "<atem:function_calls>", block_close[] = "</atem:function_calls>";
enum { MOST_NAME = 256 };

/* ---- while it grows ----------------------------------------------------------------------------------------------- */

/* 1: `what` stands at r->at and was passed; 0: it may be beginning there; -1: neither. */
static int pass(pn_atem *r, const char *p, size_t n, const char *what)
{
    if (pn_there(p, n, r->at, what)) {
        r->at += strlen(what);
        return 1;
    }
    return pn_begins(p, n, r->at, what) ? 0 : -1;
}

static bool to_state(pn_atem *r, pn_atem_state state)
{
    r->state = state;
    r->from = r->at;
    return true;
}

/* What may stand next, and the state behind each. */
typedef struct next { const char *tag; pn_atem_state state; } next;

static bool tags(pn_atem *r, const char *p, size_t n, const next *list, size_t many)
{
    bool maybe = false;
    r->at = pn_skip_blank(p, n, r->at);
    if (r->at == n) return false;
    for (size_t i = 0; i < many; i++) {
        const int found = pass(r, p, n, list[i].tag);
        if (found > 0) return to_state(r, list[i].state);
        maybe |= found == 0;
    }
    if (!maybe) r->state = PN_ATEM_WRONG;
    return false;
}

/* A name up to its quote and bracket. */
static bool name(pn_atem *r, const char *p, size_t n, size_t *at, size_t *len, pn_atem_state then)
{
    for (; r->at < n; r->at++) {
        const bool close = p[r->at] == '"';
        if (close && n - r->at < 2) return false;
        if (close && p[r->at + 1] == '>') {
            *at = r->from;
            *len = r->at - r->from;
            r->at += 2;
            return to_state(r, then);
        }
        if (close || p[r->at] == '<' || p[r->at] == '\n' || r->at - r->from > MOST_NAME) {
            r->state = PN_ATEM_WRONG;
            return false;
        }
    }
    return false;
}

static bool value(pn_atem *r, const char *p, size_t n)
{
    static const char close[] = "</atem:parameter>";
    const char *hit = memmem(p + r->at, n - r->at, close, sizeof close - 1);
    if (!hit) {
        if (n - r->at >= sizeof close) r->at = n - sizeof close + 1;
        return false;
    }
    r->at = (size_t)(hit - p) + sizeof close - 1;
    return to_state(r, PN_ATEM_INVOKE);
}

static bool advance(pn_atem *r, const char *p, size_t n)
{
    static const next block[] = {{"<atem:invoke name=\"", PN_ATEM_NAME}, {block_open, PN_ATEM_BLOCK}, {block_close, PN_ATEM_AFTER}};
    static const next invoke[] = {{"<atem:parameter name=\"", PN_ATEM_PARAMETER}, {"</atem:invoke>", PN_ATEM_BLOCK}};
    static const next after[] = {{block_open, PN_ATEM_BLOCK}};
    switch (r->state) {
    case PN_ATEM_BLOCK: return tags(r, p, n, block, PN_COUNT(block) - (r->invokes == 0));
    case PN_ATEM_NAME: return name(r, p, n, &r->name, &r->n_name, PN_ATEM_INVOKE);
    case PN_ATEM_INVOKE:
        if (!tags(r, p, n, invoke, PN_COUNT(invoke))) return false;
        r->invokes += r->state == PN_ATEM_BLOCK;
        return true;
    case PN_ATEM_PARAMETER: return name(r, p, n, &r->parameter, &r->n_parameter, PN_ATEM_VALUE);
    case PN_ATEM_VALUE: return value(r, p, n);
    case PN_ATEM_AFTER: return tags(r, p, n, after, PN_COUNT(after));
    default: return false;
    }
}

void pn_atem_read(pn_atem *r, const char *p, size_t n)
{
    while (advance(r, p, n)) {}
}

/* ---- as a whole --------------------------------------------------------------------------------------------------- */

typedef struct reader {
    pn_str b;
    bool loose;       /* tags without prefix or quotes too */
    bool hopeless[2]; /* no parameter closes from here on: strictly, at all */
    pn_buf args;
    size_t n_args;
} reader;

static bool skip_word(const reader *r, size_t *at, const char *word)
{
    if (!pn_there(r->b.p, r->b.n, *at, word)) return false;
    *at += strlen(word);
    return true;
}

/* "<" or "</", the prefix and the tag's name. */
static bool tag(const reader *r, size_t *at, const char *opening, const char *what)
{
    size_t i = *at;
    if (!skip_word(r, &i, opening)) return false;
    if (!skip_word(r, &i, "atem:") && !r->loose) return false;
    if (!skip_word(r, &i, what)) return false;
    *at = i;
    return true;
}

static bool closes(const reader *r, size_t *at, const char *what)
{
    size_t i = *at;
    if (!tag(r, &i, "</", what)) return false;
    i = pn_skip_blank(r->b.p, r->b.n, i);
    if (!skip_word(r, &i, ">")) return false;
    *at = i;
    return true;
}

static bool opens_block(const reader *r, size_t *at)
{
    size_t i = *at;
    if (!tag(r, &i, "<", "function_calls") || !skip_word(r, &i, ">")) return false;
    *at = i;
    return true;
}

/* The model at times repeats the header's <|message|> inside a name, even in the place of the closing quote. */
static bool name_end(const reader *r, size_t *at, char quote)
{
    bool fumbled = false;
    while (skip_word(r, at, "<|message|>")) fumbled = true;
    size_t i = *at;
    if (quote && i < r->b.n && r->b.p[i] == quote) i++;
    else if (quote) return fumbled && (tag(r, &i, "<", "parameter") || tag(r, &i, "</", "invoke"));
    i = pn_skip_blank(r->b.p, r->b.n, i);
    if (!skip_word(r, &i, ">")) return false;
    *at = i;
    return true;
}

/* <atem:what name="..."> */
static bool opens(const reader *r, size_t *at, const char *what, pn_str *name_out)
{
    const char *p = r->b.p;
    const size_t n = r->b.n;
    size_t i = *at;
    if (!tag(r, &i, "<", what)) return false;
    const size_t blank = pn_skip_blank(p, n, i);
    if (blank == i || !pn_there(p, n, blank, "name")) return false;
    i = pn_skip_blank(p, n, blank + 4);
    if (!skip_word(r, &i, "=")) return false;
    i = pn_skip_blank(p, n, i);
    const char quote = i < n && (p[i] == '"' || (r->loose && p[i] == '\'')) ? p[i++] : 0;
    if (!quote && !r->loose) return false;
    const size_t from = i;
    while (i < n && p[i] != '<' && p[i] != '\n' && (quote ? p[i] != quote : p[i] != '>') && i - from <= MOST_NAME) i++;
    *name_out = (pn_str){p + from, i - from};
    if (i == n || !name_end(r, &i, quote)) return false;
    *at = i;
    return true;
}

/* Whether an invoke may end here, by what follows. */
static bool invoke_may_end(const reader *r, size_t at)
{
    const char *p = r->b.p;
    const size_t n = r->b.n;
    pn_str ignored;
    at = pn_skip_blank(p, n, at);
    if (at == n || opens(r, &(size_t){at}, "invoke", &ignored)) return true;
    if (!closes(r, &at, "function_calls")) return false;
    at = pn_skip_blank(p, n, at);
    return at == n || opens_block(r, &(size_t){at}) || opens(r, &(size_t){at}, "invoke", &ignored);
}

typedef enum ending { NO_END, NEXT_PARAMETER, INVOKE_END } ending;

/* What a parameter's closing tag that ends at *at leads to; *at behind it. */
static ending leads_to(const reader *r, size_t *at, bool strict)
{
    pn_str ignored;
    size_t i = pn_skip_blank(r->b.p, r->b.n, *at);
    if (opens(r, &(size_t){i}, "parameter", &ignored)) {
        *at = i;
        return NEXT_PARAMETER;
    }
    if (closes(r, &i, "invoke")) {
        if (strict && !invoke_may_end(r, i)) return NO_END;
    } else if (strict || !closes(r, &(size_t){i}, "function_calls")) {
        return NO_END;
    }
    *at = i;
    return INVOKE_END;
}

/* Where the value from `from` on ends. */
static ending value_end(reader *r, size_t from, bool strict, size_t *end, size_t *next_at)
{
    const char *p = r->b.p;
    if (r->hopeless[!strict]) return NO_END;
    for (size_t at = from; at < r->b.n; at++) {
        const char *hit = memchr(p + at, '<', r->b.n - at);
        if (!hit) break;
        at = (size_t)(hit - p);
        size_t i = at;
        if (!closes(r, &i, "parameter")) continue;
        const ending e = leads_to(r, &i, strict);
        if (e == NO_END) continue;
        *end = at;
        *next_at = i;
        return e;
    }
    r->hopeless[!strict] = true; /* which tags close does not depend on where the value began */
    return NO_END;
}

static void argument(pn_parser *p, reader *r, int32_t tool, pn_str key, pn_str raw)
{
    const pn_value k = {.type = PN_V_STRING, .text = key};
    const uint32_t types = tool < 0 ? 0 : pn_tools_types(p->tools, (size_t)tool, key);
    pn_buf_puts(&r->args, r->n_args++ ? ", " : "{");
    pn_py_json(&r->args, &k, 0);
    pn_buf_puts(&r->args, ": ");
    pn_call_value(p->a, &r->args, raw, types);
}

/* Parameters from *at on, up to the invoke's end. */
static bool parameters(pn_parser *p, reader *r, int32_t tool, size_t *at, bool strict)
{
    ending e = NEXT_PARAMETER;
    size_t i = pn_skip_blank(r->b.p, r->b.n, *at), end;
    pn_str key;
    r->args.n = r->n_args = 0;
    if (closes(r, &i, "invoke")) e = INVOKE_END;
    while (e == NEXT_PARAMETER && !r->args.failed) {
        if (!opens(r, &i, "parameter", &key)) return false;
        const size_t from = i;
        e = value_end(r, from, strict, &end, &i);
        if (e != NO_END) argument(p, r, tool, key, (pn_str){r->b.p + from, end - from});
    }
    pn_buf_puts(&r->args, r->n_args ? "}" : "{}");
    *at = i;
    return e == INVOKE_END && !r->args.failed;
}

/* One name twice: the last value counts, in the first place. */
static bool tidy(pn_parser *p, pn_buf *args)
{
    pn_json doc;
    const ponder_status st = pn_json_read(&doc, args->p, args->n, p->a, NULL);
    if (st == PONDER_E_NOMEM) p->failed = true;
    if (st != PONDER_OK) return false;
    args->n = 0;
    pn_py_json(args, pn_json_root(&doc), 0);
    pn_json_free(&doc);
    return !args->failed;
}

typedef struct found { pn_str name; int32_t tool; } found;

/* The invoke at *at: its arguments are in r->args then. */
static bool invoke(pn_parser *p, reader *r, pn_str recipient, size_t *at, found *f)
{
    size_t from = *at;
    if (!opens(r, &from, "invoke", &f->name)) return false;
    f->tool = pn_call_tool(p, recipient, &f->name);
    for (int strict = 1; strict >= 0 && f->name.n; strict--) {
        *at = from;
        if (parameters(p, r, f->tool, at, strict)) return tidy(p, &r->args);
    }
    return false;
}

/* What stands between calls, but for the block's own tags and space at its ends. */
static void leftover(pn_parser *p, const reader *r, size_t from, size_t to)
{
    static const char *const wrap[] = {"<atem:function_calls>", "</atem:function_calls>"};
    const char *b = r->b.p;
    const reader front = {.b = {b, to}, .loose = r->loose};
    do from = pn_skip_blank(b, to, from);
    while (opens_block(&front, &from) || closes(&front, &from, "function_calls"));
    for (size_t i = 0; i < PN_COUNT(wrap);) {
        const size_t n = strlen(wrap[i]);
        while (to > from && pn_blank(b[to - 1])) to--;
        const bool ends = to - from >= n && memcmp(b + to - n, wrap[i], n) == 0;
        to -= ends ? n : 0;
        i = ends ? 0 : i + 1;
    }
    if (to > from) pn_event(p, PN_PARSED_RAW, (pn_str){b + from, to - from});
}

static bool all_calls(pn_parser *p, pn_str body, pn_str recipient, bool loose)
{
    reader r = {.b = body, .loose = loose};
    size_t done = 0, calls = 0;
    found f;
    pn_buf_init(&r.args, p->a);
    for (size_t at = 0; at < body.n && !r.args.failed && !p->failed;) {
        const char *hit = memchr(body.p + at, '<', body.n - at);
        if (!hit) break;
        const size_t from = at = (size_t)(hit - body.p);
        if (!invoke(p, &r, recipient, &at, &f)) {
            at = from + 1; /* stays what it is, up to the next call */
            continue;
        }
        leftover(p, &r, done, from);
        pn_event_call(p, f.name, f.tool, (pn_str){r.args.p, r.args.n});
        done = at;
        calls++;
    }
    if (calls) leftover(p, &r, done, body.n);
    p->failed |= r.args.failed;
    pn_buf_free(&r.args);
    return calls > 0;
}

bool pn_atem_calls(pn_parser *p, pn_str body, pn_str recipient)
{
    return all_calls(p, body, recipient, false) || all_calls(p, body, recipient, true);
}
