/* ChatML, Gemma and Llama: what stands behind the marker that opens a turn. The assistant's own line is passed over, a turn
 * of anybody else's (the model ran on, or the stream is a whole dump) comes out raw. */
#include "chat/parser.h"

enum { NOTHING, LINE, FOREIGN };
enum { MOST_LINE = 128 };

static const char *opener_of(const pn_parser *p)
{
    for (size_t i = 0; i < p->n_markers; i++)
        if (p->markers[i].mark == PN_MARK_START) return p->markers[i].text;
    return "";
}

void pn_role_open(pn_parser *p)
{
    p->role = LINE;
    p->head.n = p->body.n = 0;
}

static bool ours(const pn_parser *p)
{
    pn_str s = {p->head.p, p->head.n};
    while (s.n && pn_blank(s.p[0])) s.p++, s.n--;
    while (s.n && pn_blank(s.p[s.n - 1])) s.n--;
    return pn_str_eq(s, "assistant") || pn_str_eq(s, "model");
}

/* The line has ended, with a newline or the marker `end`. */
static void end_line(pn_parser *p, const char *end)
{
    if (p->head.n <= MOST_LINE && ours(p)) {
        p->role = NOTHING;
        p->kind->begin(p, PN_PARSE_TURN);
        return;
    }
    p->role = FOREIGN;
    pn_buf_puts(&p->body, opener_of(p));
    pn_buf_put(&p->body, p->head.p, p->head.n);
    pn_buf_puts(&p->body, end);
    p->head.n = 0;
}

void pn_role_step(pn_parser *p, const char *w, size_t n)
{
    const char *newline = memchr(w, '\n', n);
    const size_t line = newline ? (size_t)(newline - w) : n;
    if (p->role == FOREIGN) {
        pn_keep(p, &p->body, n);
        return;
    }
    pn_keep(p, &p->head, line);
    if (newline) pn_take(p, 1);
    if (newline || p->head.n > MOST_LINE) end_line(p, newline ? "\n" : "");
}

/* What there is comes out; says whether there was anything. */
static bool role_close(pn_parser *p)
{
    const bool line = p->role == LINE;
    if (line && !ours(p) && pn_skip_blank(p->head.p, p->head.n, 0) < p->head.n) end_line(p, "");
    const bool any = p->role == FOREIGN;
    if (any) pn_event(p, PN_PARSED_RAW, (pn_str){p->body.p, p->body.n});
    p->role = NOTHING;
    p->head.n = p->body.n = 0;
    return any;
}

void pn_role_cut(pn_parser *p, size_t n)
{
    pn_keep(p, p->role == FOREIGN ? &p->body : &p->head, n);
    role_close(p);
}

pn_place pn_role_place(const pn_parser *p)
{
    const pn_channel channel = p->role == FOREIGN ? PN_CHANNEL_RAW : PN_CHANNEL_HEADER;
    return (pn_place){.channel = channel, .since = p->head.n + p->body.n, .tool = {"", 0}, .parameter = {"", 0}};
}

/* Whether the marker was a matter of the line or of the foreign turn; else that is closed, and the marker the kind's. */
bool pn_role_mark(pn_parser *p, pn_mark mark, pn_str name)
{
    if (mark == PN_MARK_TURN_END || mark == PN_MARK_START) {
        if (role_close(p)) pn_event(p, PN_PARSED_MESSAGE_END, (pn_str){"", 0});
        return false;
    }
    if (p->role == FOREIGN) pn_buf_put(&p->body, name.p, name.n);
    else if (mark == PN_MARK_BODY) end_line(p, name.p);
    return true;
}
