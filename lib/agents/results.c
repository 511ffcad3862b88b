/* What agents are shown of each other's results. */
#include "agents/agents.h"

enum { RESULT_BYTES = 1200, HEAD_BYTES = 400 };

const char pn_peers_text[] = "Other attempts at the task above came to these results. Any of them may be wrong.";
const char pn_peers_close[] = "Use what is right in them and do the task yourself.";
const char pn_writer_open[] = "Several attempts at the task above came to these results. Any of them may be wrong.";
const char pn_writer_text[] = "Write the final answer to the task above, in the form it asks for, and nothing else.";

static bool inside_character(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* A long text's beginning and end, cut between characters: what it comes to stands at its end. */
static void put_short(pn_buf *out, pn_str s)
{
    while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' ')) s.n--;
    while (s.n && (s.p[0] == '\n' || s.p[0] == ' ')) s.p++, s.n--;
    if (s.n <= RESULT_BYTES) {
        pn_buf_put(out, s.p, s.n);
        return;
    }
    size_t head = HEAD_BYTES, tail = s.n - (RESULT_BYTES - HEAD_BYTES);
    while (head > 0 && inside_character(s.p[head])) head--;
    while (tail < s.n && inside_character(s.p[tail])) tail++;
    pn_buf_put(out, s.p, head);
    pn_buf_puts(out, " [...] ");
    pn_buf_put(out, s.p + tail, s.n - tail);
}

ponder_status pn_results_write(pn_buf *out, const char *before, const pn_result *r, size_t n, const char *behind, ponder_error *err)
{
    pn_buf_puts(out, before);
    pn_buf_puts(out, "\n");
    for (size_t i = 0; i < n; i++) {
        pn_buf_printf(out, "\n%zu. ", i + 1);
        if (r[i].votes) pn_buf_printf(out, "(%u times) ", r[i].votes);
        put_short(out, r[i].text);
    }
    pn_buf_puts(out, "\n\n");
    pn_buf_puts(out, behind);
    return out->failed ? pn_nomem(err, out->n) : PONDER_OK;
}

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

uint32_t pn_results_choose(uint32_t *out, uint32_t want, uint32_t n, uint64_t seed)
{
    uint32_t chosen = 0;
    want = PN_MIN(want, n);
    for (uint64_t draw = 0; chosen < want; draw++) {
        const uint32_t pick = (uint32_t)(mix(mix(seed + 0x9e3779b97f4a7c15u) + draw * 0x9e3779b97f4a7c15u) % n);
        uint32_t i = 0;
        while (i < chosen && out[i] != pick) i++;
        if (i == chosen) out[chosen++] = pick;
    }
    return chosen;
}
