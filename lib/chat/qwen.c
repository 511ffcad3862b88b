/* Qwen 2.5's and 3's ChatML: tools listed in the system turn, calls as JSON inside <tool_call>, results as a user's turn.
 * Qwen 3 keeps thoughts only behind the last real question. */
#include "chat/value.h"

static const char tools_opening[] =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
static const char tools_closing[] =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
    "</tool_call><|im_end|>\n";

static bool third(const pn_chat *c)
{
    return c->template == PN_TEMPLATE_QWEN3;
}

static bool has_role(const pn_value *m, const char *role)
{
    return m && pn_is(pn_get(m, "role"), role);
}

static pn_str strip_lines(pn_str s, bool left, bool right)
{
    while (left && s.n && s.p[0] == '\n') s.p++, s.n--;
    while (right && s.n && s.p[s.n - 1] == '\n') s.n--;
    return s;
}

static bool begins(pn_str s, const char *what)
{
    const size_t n = strlen(what);
    return s.n >= n && memcmp(s.p, what, n) == 0;
}

static bool ends(pn_str s, const char *what)
{
    const size_t n = strlen(what);
    return s.n >= n && memcmp(s.p + s.n - n, what, n) == 0;
}

/* What stands behind the last `mark`; *before (may be NULL) what stands before the first. The whole text without one. */
static pn_str behind(pn_str s, const char *mark, pn_str *before)
{
    const size_t n = strlen(mark);
    pn_str rest = s;
    bool first = true;
    for (const char *hit; rest.n && (hit = memmem(rest.p, rest.n, mark, n)); first = false) {
        if (first && before) *before = (pn_str){s.p, (size_t)(hit - s.p)};
        rest = (pn_str){hit + n, rest.n - (size_t)(hit + n - rest.p)};
    }
    if (first && before) *before = s;
    return rest;
}

/* Qwen 3 takes only strings for content, 2.5 prints or adds whatever there is. */
static void content(pn_chat *c, const pn_value *m, bool concat)
{
    const pn_value *v = pn_get(m, "content");
    if (third(c)) pn_text(c, v->type == PN_V_STRING ? v->text : (pn_str){"", 0});
    else if (concat) pn_text_concat(c, v, "content");
    else pn_text_str(c, v);
}

static void system_turn(pn_chat *c, const char *fallback)
{
    const pn_value *m = c->messages->first, *text = has_role(m, "system") ? pn_get(m, "content") : NULL;
    const bool tools = pn_truth(c->tools);
    if (!text && !fallback && !tools) return;
    pn_control(c, "<|im_start|>system\n");
    if (text && (third(c) || !tools)) pn_text_concat(c, text, "the system's content");
    else if (text) pn_text_str(c, text);
    else if (fallback) pn_control(c, fallback);
    if (!tools) {
        pn_control(c, "<|im_end|>\n");
        return;
    }
    if (text || fallback) pn_control(c, "\n\n");
    pn_control(c, tools_opening);
    for (const pn_value *v = c->tools->first; v && !c->status; v = v->next) {
        pn_control(c, "\n");
        pn_text_json(c, v, 0);
    }
    pn_control(c, tools_closing);
}

static void calls(pn_chat *c, const pn_value *list, bool newline)
{
    if (list->type != PN_V_LIST) pn_refuse(c, "tool_calls is not a list");
    for (const pn_value *v = list->first; v && !c->status; v = v->next) {
        const pn_value *fn = pn_get(v, "function");
        if (third(c) ? !pn_truth(fn) : fn->type == PN_V_UNDEFINED) fn = v;
        const pn_value *args = pn_get(fn, "arguments");
        if (newline) pn_control(c, "\n");
        newline = true;
        pn_control(c, "<tool_call>\n{\"name\": \"");
        pn_text_str(c, pn_get(fn, "name"));
        pn_control(c, "\", \"arguments\": ");
        if (third(c) && args->type == PN_V_STRING) pn_text(c, args->text);
        else pn_text_json(c, args, 0);
        pn_control(c, "}\n</tool_call>");
    }
}

static void assistant_2_5(pn_chat *c, const pn_value *m)
{
    const pn_value *list = pn_get(m, "tool_calls"), *text = pn_get(m, "content");
    pn_control(c, "<|im_start|>assistant");
    if (!pn_truth(list) || pn_truth(text)) {
        pn_control(c, "\n");
        pn_text_concat(c, text, "content");
    }
    if (pn_truth(list)) calls(c, list, true);
}

static void assistant_3(pn_chat *c, const pn_value *m, bool behind_question)
{
    const pn_value *list = pn_get(m, "tool_calls"), *given = pn_get(m, "reasoning_content"), *v = pn_get(m, "content");
    pn_str text = v->type == PN_V_STRING ? v->text : (pn_str){"", 0}, thought = {"", 0};
    if (given->type == PN_V_STRING) {
        thought = given->text;
    } else {
        pn_str before;
        const pn_str rest = behind(text, "</think>", &before);
        if (rest.p != text.p) {
            thought = strip_lines(behind(strip_lines(before, false, true), "<think>", NULL), true, false);
            text = strip_lines(rest, true, false);
        }
    }
    pn_control(c, "<|im_start|>assistant\n");
    /* A session's own thoughts are in its ids; what a host adds is history, which has no empty ones. */
    if (behind_question && (thought.n || (!c->session && !m->next)) && (!c->session || given->type == PN_V_STRING)) {
        pn_control(c, "<think>\n");
        pn_text(c, strip_lines(thought, true, true));
        pn_control(c, "\n</think>\n\n");
        pn_text(c, strip_lines(text, true, false));
    } else {
        pn_text(c, text);
    }
    if (pn_truth(list)) calls(c, list, text.n > 0);
}

static void result(pn_chat *c, const pn_value *m, const pn_value *before)
{
    if (!has_role(before, "tool")) pn_control(c, "<|im_start|>user");
    pn_control(c, "\n<tool_response>\n");
    content(c, m, false);
    pn_control(c, "\n</tool_response>");
    if (!has_role(m->next, "tool")) pn_control(c, "<|im_end|>\n");
}

/* The last user message that is no result in disguise; without one, the last message. */
static const pn_value *last_question(const pn_chat *c)
{
    const pn_value *last = NULL;
    for (const pn_value *m = c->messages->first; m; m = m->next) {
        const pn_value *text = pn_get(m, "content");
        if (!has_role(m, "user") || text->type != PN_V_STRING) continue;
        if (!begins(text->text, "<tool_response>") || !ends(text->text, "</tool_response>")) last = m;
    }
    return last ? last : c->messages->last;
}

void pn_render_qwen(pn_chat *c, const char *fallback)
{
    const pn_value *before = NULL, *question = last_question(c);
    bool behind_question = false;
    if (c->first && !c->messages->first) pn_refuse(c, "messages is empty");
    if (c->first) system_turn(c, fallback);
    for (const pn_value *m = c->messages->first; m && !c->status; before = m, m = m->next) {
        if (has_role(m, "user") || (has_role(m, "system") && (before || !c->first))) {
            pn_control(c, "<|im_start|>");
            pn_text(c, pn_get(m, "role")->text);
            pn_control(c, "\n");
            content(c, m, true);
            pn_control(c, "<|im_end|>\n");
        } else if (has_role(m, "assistant")) {
            if (third(c)) assistant_3(c, m, behind_question);
            else assistant_2_5(c, m);
            pn_control(c, "<|im_end|>\n");
        } else if (has_role(m, "tool")) {
            result(c, m, before);
        }
        if (m == question) behind_question = true;
    }
    const pn_value *thinking = pn_get(c->kwargs, "enable_thinking");
    if (!c->generation_prompt) return;
    pn_control(c, "<|im_start|>assistant\n");
    if (third(c) && thinking->type == PN_V_BOOL && !thinking->flag) pn_control(c, "<think>\n\n</think>\n\n");
}
