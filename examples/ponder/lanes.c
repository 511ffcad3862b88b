/* Agents in a terminal: a line each, drawn again in place. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "crew.h"

enum { LEAST_MS = 80, BAR = 24 };

static void size_of_terminal(int *rows, int *columns)
{
    struct winsize w;
    *rows = 24;
    *columns = 80;
    if (ioctl(fileno(stderr), TIOCGWINSZ, &w) || !w.ws_row || !w.ws_col)
        return;
    *rows = w.ws_row;
    *columns = w.ws_col;
}

/* The end of a text that fits `columns`, one character one column; what is none that is shown becomes a blank. */
static void add_tail(buffer *b, const char *text, size_t n, int columns)
{
    size_t at = n;
    int left = columns;
    while (at > 0 && left > 0) {
        at--;
        if (((unsigned char)text[at] & 0xc0) != 0x80)
            left--;
    }
    for (; at < n; at++) {
        unsigned char c = (unsigned char)text[at];
        buffer_add(b, c < 0x20 || c == 0x7f ? " " : text + at, 1);
    }
}

static uint64_t longest(const crew *c)
{
    uint64_t most = 1;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->agents[i].pieces > most)
            most = c->agents[i].pieces;
    return most;
}

static void add_lane(buffer *b, const crew *c, uint32_t i, uint64_t most, int columns)
{
    const seen *a = &c->agents[i];
    char head[64];
    int bar = columns >= 70 ? BAR : columns >= 50 ? 10 : 0, used;
    const char *state = a->ended >= 0 ? (a->end == PONDER_END_EOS || a->end == PONDER_END_STOP ? "done" : end_name(a->end)) : a->answering >= 0 ? "answers" : "thinks";
    used = snprintf(head, sizeof head, "%3u %-9.9s %5llu ", i + 1, state, (unsigned long long)a->thoughts);
    if (used > columns)
        head[used = columns] = 0;
    buffer_add(b, tint(stderr, a->ended >= 0 ? TINT_PLAIN : TINT_DIM), strlen(tint(stderr, a->ended >= 0 ? TINT_PLAIN : TINT_DIM)));
    buffer_add(b, head, (size_t)used);
    for (int k = 0; k < bar; k++)
        buffer_add(b, (uint64_t)k * most < a->pieces * (uint64_t)bar ? "=" : " ", 1);
    if (bar)
        buffer_add(b, " ", 1);
    add_tail(b, a->answer.p, a->answer.n, columns - used - bar - 2);
    buffer_add(b, tint(stderr, TINT_PLAIN), strlen(tint(stderr, TINT_PLAIN)));
}

/* All in one write, each line cleared behind its text: nothing flickers. Agents that do not fit the window: the newest are shown. */
void lanes_draw(crew *c, int last)
{
    int rows, columns;
    uint32_t first, show;
    char up[32];
    buffer b = {0};
    if (!last && crew_ms(c) - c->drawn_at < LEAST_MS)
        return;
    c->drawn_at = crew_ms(c);
    size_of_terminal(&rows, &columns);
    show = rows > 3 ? (uint32_t)rows - 2 : 1;
    if (show > c->n)
        show = c->n;
    first = c->n - show;
    if (c->drawn)
        buffer_add(&b, up, (size_t)snprintf(up, sizeof up, "\033[%uA", c->drawn));
    buffer_add(&b, "\r", 1);
    for (uint32_t i = 0; i < show; i++) {
        add_lane(&b, c, first + i, longest(c), columns);
        buffer_add(&b, "\033[K\n", 4);
    }
    for (uint32_t i = show; i < c->drawn; i++) /* the window became smaller */
        buffer_add(&b, "\033[K\n", 4);
    c->drawn = show > c->drawn ? show : c->drawn;
    fwrite(b.p, 1, b.n, stderr);
    fflush(stderr);
    free(b.p);
}

void lanes_say(const crew *c, uint32_t number, ponder_agent *agent)
{
    const seen *a = &c->agents[number];
    ponder_agent_info i = {.size = sizeof i};
    buffer b = {0};
    ponder_agent_status(agent, &i);
    add_tail(&b, a->answer.p, a->answer.n, 200);
    fprintf(stderr, "agent %u: %s, %llu tokens, %llu of thought", number + 1, end_name(i.end), (unsigned long long)i.tokens,
            (unsigned long long)i.thought_tokens);
    if (i.confidence >= 0)
        fprintf(stderr, ", confidence %.2f", i.confidence);
    fprintf(stderr, ": %.*s\n", (int)b.n, b.n ? b.p : "");
    free(b.p);
}
