/* Sessions that offer their model agents, and the calls that are written for it. */
#ifndef OFFERED_H
#define OFFERED_H

#include "crew.h"

static inline ponder_config *offering(int64_t limit, int64_t depth, int64_t tokens)
{
    ponder_config *c = thinking(1, 40, 1);
    OK(ponder_config_set_i64(c, PONDER_P_SUBAGENTS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 8192));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 60));
    OK(ponder_config_set_i64(c, PONDER_P_AGENT_LIMIT, limit));
    OK(ponder_config_set_i64(c, PONDER_P_AGENT_DEPTH, depth));
    OK(ponder_config_set_i64(c, PONDER_P_AGENT_TOKENS, tokens));
    return c;
}

typedef struct heard {
    uint32_t agents_done, calls;
    int32_t announced;
} heard;

static inline int32_t watch(void *user, const ponder_event *e)
{
    heard *h = user;
    if (e->agent >= 0) h->agents_done += e->kind == PONDER_EVENT_DONE;
    else h->calls += e->kind == PONDER_EVENT_TOOL_CALL;
    if (e->kind == PONDER_EVENT_DONE && e->agent < 0) h->announced |= e->announced;
    return 0;
}

/* One call by the model, and what it gets for it. */
static inline const char *call(ponder_model *m, ponder_session *s, const char *verb, const char *parameters, heard *h)
{
    static char text[MOST_TEXT];
    snprintf(text, sizeof text, " to=subagents.%s<|message|><atem:function_calls>\n<atem:invoke name=\"subagents.%s\">\n%s</atem:invoke>\n</atem:function_calls",
             verb, verb, parameters);
    add(s, "user", "Go on.");
    if (ponder_session_prompt(s, text, strlen(text), PONDER_TOKENIZE_SPECIAL) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    const size_t before = tokens_of(s).n;
    const uint32_t calls = h->calls;
    ponder_status st = ponder_session_run(s, watch, NULL, h, 2);
    if (st < 0) fail_msg("%s: %s", verb, ponder_session_error(s));
    assert_true(h->calls > calls);
    ids v = tokens_of(s);
    size_t n = text_of_ids(m, v.id + before, v.n - before, true, text);
    text[n] = 0;
    char head[64];
    snprintf(head, sizeof head, "<tool_output name=\"subagents.%s\">\n", verb);
    char *result = strstr(text, head);
    assert_non_null(result);
    result += strlen(head);
    char *end = strstr(result, "\n</tool_output>");
    assert_non_null(end);
    *end = 0;
    return result;
}

#define TASK(text) "<atem:parameter name=\"task\">" text "</atem:parameter>\n"
#define AGENT(n) "<atem:parameter name=\"agent\">" #n "</atem:parameter>\n"

#endif
