/* What a contemplation was, as JSON and as a picture of its time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"

static char *text_of(ponder_agent *agent, int32_t kind, size_t *n)
{
    char *text;
    *n = 0;
    ponder_agent_read(agent, kind, NULL, 0, n);
    text = must_alloc(*n + 1, 1);
    ponder_agent_read(agent, kind, text, *n, n);
    return text;
}

static void put_text(FILE *f, const char *name, ponder_agent *agent, int32_t kind)
{
    size_t n;
    char *text = text_of(agent, kind, &n);
    fprintf(f, "\"%s\": ", name);
    json_text(f, text, n);
    free(text);
}

static void put_agent(FILE *f, ponder_agent *agent)
{
    ponder_agent_info i = {.size = sizeof i};
    ponder_agent_status(agent, &i);
    fputs("    {", f);
    put_text(f, "answer", agent, PONDER_EVENT_ANSWER);
    fputs(", ", f);
    put_text(f, "thought", agent, PONDER_EVENT_THOUGHT);
    fprintf(f, ", \"tokens\": %llu, \"thought_tokens\": %llu, \"ms\": %.3f", (unsigned long long)i.tokens, (unsigned long long)i.thought_tokens,
            (double)i.us / 1e3);
    if (i.confidence >= 0)
        fprintf(f, ", \"confidence\": %.6f, \"lowest\": %.6f", i.confidence, i.lowest);
    else
        fputs(", \"confidence\": null, \"lowest\": null", f);
    fprintf(f, ", \"end\": \"%s\", \"round\": %d, \"dropped\": %s", end_name(i.end), (int)i.round, i.dropped ? "true" : "false");
    if (i.state == PONDER_AGENT_FAILED) {
        fputs(", \"error\": ", f);
        json_text(f, ponder_agent_error(agent), strlen(ponder_agent_error(agent)));
    }
    fputs("}", f);
}

static int close_file(FILE *f, const char *path)
{
    int bad = ferror(f);
    return fclose(f) || bad ? fail(path, PONDER_E_IO, "could not be written") : 0;
}

/* The whole answer; the caller frees it. */
static char *answer_of(ponder_contemplation *k, size_t *n)
{
    char *answer;
    *n = 0;
    ponder_contemplation_answer(k, NULL, 0, n);
    answer = must_alloc(*n + 1, 1);
    ponder_contemplation_answer(k, answer, *n, n);
    return answer;
}

int report_write(const char *path, const crew *c, ponder_contemplation *k)
{
    ponder_contemplation_info i = {.size = sizeof i};
    size_t n;
    char *answer;
    FILE *f = fopen(path, "w");
    if (!f)
        return fail(path, PONDER_E_IO, strerror(errno));
    ponder_contemplation_status(k, &i);
    answer = answer_of(k, &n);
    fputs("{\n  \"answer\": ", f);
    json_text(f, answer, n);
    free(answer);
    fprintf(f, ",\n  \"ms\": %.3f,\n  \"decided_by\": \"%s\",\n  \"end\": \"%s\",\n  \"votes\": %u,\n  \"voters\": %u,\n  \"share\": %.6f,\n", c->decided,
            decided_name(i.decided_by), end_name(i.end), i.votes, i.voters, i.share);
    fprintf(f, "  \"writer\": %d,\n  \"fallback\": %s,\n  \"tokens\": %llu,\n  \"thought_tokens\": %llu,\n", (int)i.writer, i.fallback ? "true" : "false",
            (unsigned long long)i.tokens, (unsigned long long)i.thought_tokens);
    fprintf(f, "  \"critical_tokens\": %llu,\n  \"critical_ms\": %.3f,\n  \"shared_tokens\": %llu,\n  \"prompt_tokens\": %llu,\n",
            (unsigned long long)i.critical_tokens, (double)i.critical_us / 1e3, (unsigned long long)i.shared_tokens, (unsigned long long)i.prompt_tokens);
    fprintf(f, "  \"shared_bytes\": %llu,\n  \"own_bytes\": %llu,\n  \"agents\": [\n", (unsigned long long)i.shared_bytes, (unsigned long long)i.own_bytes);
    for (uint32_t a = 0; a < i.agents; a++) {
        ponder_agent *agent;
        if (ponder_contemplation_agent(&agent, k, a) == PONDER_OK)
            put_agent(f, agent);
        fputs(a + 1 < i.agents ? ",\n" : "\n", f);
    }
    fputs("  ]\n}\n", f);
    return close_file(f, path);
}

/* ---- the picture --------------------------------------------------------------------------------------- */

enum { LEFT = 60, WIDE = 720, LANE = 22, TOP = 46, MOST_LABEL = 60 };

/* Text inside XML: control characters have no place in it. Broken UTF-8 and long texts are cut at a character. */
static void put_xml(FILE *f, const char *text, size_t n, size_t most)
{
    if (n > most) {
        for (n = most; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80; n--) { }
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '<')
            fputs("&lt;", f);
        else if (c == '>')
            fputs("&gt;", f);
        else if (c == '&')
            fputs("&amp;", f);
        else
            fputc(c < 0x20 || c == 0x7f ? ' ' : c, f);
    }
}

static void put_bar(FILE *f, double from, double to, double ms, double y, const char *colour)
{
    if (to > from)
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LEFT + from / ms * WIDE, y, (to - from) / ms * WIDE, LANE - 8, colour);
}

static void put_lane(FILE *f, const crew *c, uint32_t i, double ms)
{
    const seen *a = &c->agents[i];
    const double end = a->ended >= 0 ? a->ended : c->decided, turn = a->answering >= 0 ? a->answering : end, y = TOP + (double)i * LANE;
    const int whole = a->end == PONDER_END_EOS || a->end == PONDER_END_STOP;
    if (a->begun < 0)
        return;
    put_bar(f, a->begun, turn, ms, y, whole ? "#8fb3d9" : "#c9c9c9");
    put_bar(f, turn, end, ms, y, whole ? "#2f6db3" : "#9a9a9a");
    fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%u</text>\n<text x=\"%d\" y=\"%.1f\">", LEFT - 8, y + 11, i + 1, LEFT + WIDE + 10, y + 11);
    if (whole)
        put_xml(f, a->answer.n ? a->answer.p : "", a->answer.n, MOST_LABEL);
    else
        fprintf(f, "(%s)", end_name(a->end));
    fputs("</text>\n", f);
}

static void put_axis(FILE *f, double ms, double bottom)
{
    double step = 1;
    while (ms / step > 8)
        step *= ms / step > 40 ? 10 : ms / step > 16 ? 5 : 2;
    for (double t = 0; t <= ms; t += step)
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>\n<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n",
                LEFT + t / ms * WIDE, TOP - 6, LEFT + t / ms * WIDE, bottom, LEFT + t / ms * WIDE, bottom + 16, t);
    fprintf(f, "<text x=\"%d\" y=\"%.1f\">ms</text>\n", LEFT + WIDE + 10, bottom + 16);
}

int svg_write(const char *path, const crew *c, ponder_contemplation *k)
{
    ponder_contemplation_info i = {.size = sizeof i};
    const double ms = c->decided > 0 ? c->decided : 1, bottom = TOP + (double)c->n * LANE;
    size_t n;
    char *answer;
    FILE *f = fopen(path, "w");
    if (!f)
        return fail(path, PONDER_E_IO, strerror(errno));
    ponder_contemplation_status(k, &i);
    answer = answer_of(k, &n);
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\" height=\"%.0f\" viewBox=\"0 0 1200 %.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" y=\"22\" font-size=\"15\">", bottom + 30, bottom + 30, LEFT);
    put_xml(f, answer, n, 2 * MOST_LABEL);
    free(answer);
    fprintf(f, "</text>\n<text x=\"%d\" y=\"22\" fill=\"#666666\">decided by: %s, %u of %u votes, %.0f ms</text>\n", LEFT + WIDE + 10, decided_name(i.decided_by),
            i.votes, i.voters, ms);
    put_axis(f, ms, bottom);
    for (uint32_t a = 0; a < c->n; a++)
        put_lane(f, c, a, ms);
    fputs("</svg>\n", f);
    return close_file(f, path);
}
