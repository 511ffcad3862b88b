/* Server-sent events, from any pieces: data lines are joined, comments and other fields passed over. */
#include "remote/remote.h"

void pn_sse_init(pn_sse *s, const ponder_alloc *a)
{
    *s = (pn_sse){0};
    pn_buf_init(&s->in, a);
    pn_buf_init(&s->data, a);
}

void pn_sse_free(pn_sse *s)
{
    pn_buf_free(&s->in);
    pn_buf_free(&s->data);
}

bool pn_sse_put(pn_sse *s, const char *p, size_t n)
{
    if (s->at == s->in.n) s->at = s->in.n = 0;
    if (s->at > 4096 && s->at > s->in.n / 2) {
        memmove(s->in.p, s->in.p + s->at, s->in.n - s->at);
        s->in.n -= s->at;
        s->at = 0;
    }
    return pn_buf_put(&s->in, p, n);
}

bool pn_sse_wrong(const pn_sse *s) { return s->in.failed || s->data.failed || s->in.n - s->at > PN_SSE_MOST || s->data.n > PN_SSE_MOST; }

/* The next line without its end; false: it has not ended yet. */
static bool take_line(pn_sse *s, bool end, pn_str *line)
{
    if (s->after_cr && s->at < s->in.n) {
        if (s->in.p[s->at] == '\n') s->at++;
        s->after_cr = false;
    }
    const char *from = s->in.p + s->at;
    size_t left = s->in.n - s->at, n = s->looked;
    while (n < left && from[n] != '\n' && from[n] != '\r') n++;
    s->looked = n;
    if (n == left && !(end && n)) return false;
    s->looked = 0;
    *line = (pn_str){from, n};
    if (n < left) s->after_cr = from[n] == '\r';
    s->at += n + (n < left);
    return true;
}

/* Some servers tell an error as a field of that name. */
static bool is_data(pn_str line, pn_str *value)
{
    static const char *const fields[] = {"data:", "error:"};
    for (size_t i = 0; i < PN_COUNT(fields); i++) {
        size_t n = strlen(fields[i]);
        if (line.n < n || memcmp(line.p, fields[i], n) != 0) continue;
        if (line.n > n && line.p[n] == ' ') n++;
        *value = (pn_str){line.p + n, line.n - n};
        return true;
    }
    return false;
}

static void begin(pn_sse *s)
{
    static const char bom[3] = {'\xef', '\xbb', '\xbf'};
    while (s->at < s->in.n && (s->in.p[s->at] == ' ' || s->in.p[s->at] == '\n' || s->in.p[s->at] == '\r' || s->in.p[s->at] == '\t')) s->at++;
    if (s->in.n - s->at >= 3 && memcmp(s->in.p + s->at, bom, 3) == 0) s->at += 3;
    s->begun = s->at < s->in.n && s->in.p[s->at] != bom[0];
    s->whole = s->begun && (s->in.p[s->at] == '{' || s->in.p[s->at] == '[');
}

static bool give(pn_sse *s, pn_str *data)
{
    s->any = false;
    *data = (pn_str){s->data.n ? s->data.p : "", s->data.n};
    return true;
}

bool pn_sse_next(pn_sse *s, bool end, pn_str *data)
{
    pn_str line, value;
    if (!s->begun) begin(s);
    if (s->whole) {
        if (!end || s->at == s->in.n || s->in.failed) return false;
        *data = (pn_str){s->in.p + s->at, s->in.n - s->at};
        s->at = s->in.n;
        return true;
    }
    if (!s->any) s->data.n = 0; /* told by the call before */
    while (!pn_sse_wrong(s) && take_line(s, end, &line)) {
        if (line.n == 0 && s->any) return give(s, data);
        if (!is_data(line, &value)) continue;
        if (s->any) pn_buf_put(&s->data, "\n", 1);
        pn_buf_put(&s->data, value.p, value.n);
        s->any = true;
    }
    return end && s->any && !pn_sse_wrong(s) && give(s, data);
}
