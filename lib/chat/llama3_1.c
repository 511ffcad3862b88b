/* Llama 3.1's template, which also serves 3.2's texts: a system turn that holds two dates, tools as indented JSON in the first
 * user turn or the system, one call a message. */
#include "chat/value.h"

typedef struct given {
    const pn_value *tools, *builtin; /* undefined when there are none; an empty list of tools is some */
    bool in_user;
} given;

static bool defined(const pn_value *v)
{
    return v->type != PN_V_UNDEFINED;
}

static given given_of(const pn_chat *c)
{
    static const pn_value undefined = {0};
    const pn_value *custom = pn_get(c->kwargs, "custom_tools"), *in_user = pn_get(c->kwargs, "tools_in_user_message");
    given g = {c->tools, pn_get(c->kwargs, "builtin_tools"), !defined(in_user) || pn_truth(in_user)};
    if (defined(custom)) g.tools = custom->type == PN_V_NONE ? &undefined : custom;
    return g;
}

static bool in_list(const pn_value *list, const pn_value *v)
{
    for (const pn_value *m = list->type == PN_V_LIST ? list->first : NULL; m; m = m->next)
        if (pn_same(m, v)) return true;
    return false;
}

static void builtin_line(pn_chat *c, const pn_value *builtin)
{
    if (builtin->type != PN_V_LIST) pn_refuse(c, "builtin_tools is not a list");
    pn_control(c, "Tools: ");
    bool first = true;
    for (const pn_value *v = builtin->first; v; v = v->next) {
        if (pn_is(v, "code_interpreter")) continue;
        if (!first) pn_control(c, ", ");
        first = false;
        pn_text_str(c, v);
    }
    pn_control(c, "\n\n");
}

static void tool_list(pn_chat *c, const pn_value *tools)
{
    pn_control(c, "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its value}."
                  "Do not use variables.\n\n");
    if (tools->type != PN_V_LIST) pn_refuse(c, "tools is not a list");
    for (const pn_value *v = tools->first; v && !c->status; v = v->next) {
        pn_text_json(c, v, 4);
        pn_control(c, "\n\n");
    }
}

static void system_turn(pn_chat *c, const given *g, const pn_value *system)
{
    const pn_value *date = pn_get(c->kwargs, "date_string");
    pn_control(c, "<|start_header_id|>system<|end_header_id|>\n\n");
    if (defined(g->builtin) || defined(g->tools)) pn_control(c, "Environment: ipython\n");
    if (defined(g->builtin)) builtin_line(c, g->builtin);
    pn_control(c, "Cutting Knowledge Date: December 2023\nToday Date: ");
    if (defined(date)) pn_text_concat(c, date, "date_string");
    else pn_control(c, "26 Jul 2024");
    pn_control(c, "\n\n");
    if (defined(g->tools) && !g->in_user) {
        pn_control(c, "You have access to the following functions. To call a function, please respond with JSON for a function call.");
        tool_list(c, g->tools);
    }
    if (system) pn_text_trimmed(c, pn_get(system, "content"));
    pn_control(c, "<|eot_id|>");
}

static void first_user(pn_chat *c, const given *g, const pn_value *m)
{
    if (!m) {
        pn_refuse(c, "Cannot put tools in the first user message when there's no first user message!");
        return;
    }
    pn_control(c, "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a "
                  "function call with its proper arguments that best answers the given prompt.\n\n");
    tool_list(c, g->tools);
    pn_text_trimmed(c, pn_get(m, "content"));
    pn_control(c, "<|eot_id|>");
}

static void builtin_call(pn_chat *c, const pn_value *function)
{
    const pn_value *args = pn_get(function, "arguments");
    pn_control(c, "<|python_tag|>");
    pn_text_concat(c, pn_get(function, "name"), "a tool call's function.name");
    pn_control(c, ".call(");
    if (args->type != PN_V_DICT && defined(args)) pn_refuse(c, "a tool call's arguments are no object");
    for (const pn_value *v = args->first; v && !c->status; v = v->next) {
        pn_text(c, v->key);
        pn_control(c, "=\"");
        pn_text_concat(c, v, "an argument of a built-in tool");
        pn_control(c, v->next ? "\", " : "\"");
    }
    pn_control(c, ")");
}

static void call(pn_chat *c, const given *g, const pn_value *list)
{
    if (list->count != 1 && list->type != PN_V_STRING) pn_refuse(c, "This model only supports single tool-calls at once!");
    if (list->type != PN_V_LIST) pn_refuse(c, "tool_calls is not a list");
    const pn_value *function = list->first ? pn_get(list->first, "function") : list;
    pn_control(c, "<|start_header_id|>assistant<|end_header_id|>\n\n");
    if (defined(g->builtin) && in_list(g->builtin, pn_get(function, "name"))) {
        builtin_call(c, function);
    } else {
        pn_control(c, "{\"name\": \"");
        pn_text_concat(c, pn_get(function, "name"), "a tool call's function.name");
        pn_control(c, "\", \"parameters\": ");
        pn_text_json(c, pn_get(function, "arguments"), 0);
        pn_control(c, "}");
    }
    pn_control(c, defined(g->builtin) ? "<|eom_id|>" : "<|eot_id|>");
}

static void result(pn_chat *c, const pn_value *v)
{
    pn_control(c, "<|start_header_id|>ipython<|end_header_id|>\n\n");
    if (v->type == PN_V_NONE || v->type == PN_V_BOOL || v->type == PN_V_INT || v->type == PN_V_FLOAT) pn_text_str(c, v);
    else pn_text_json(c, v, 0);
    pn_control(c, "<|eot_id|>");
}

void pn_render_llama3_1(pn_chat *c)
{
    const given g = given_of(c);
    const pn_value *m = c->messages->first;
    if (c->first) {
        if (!m) pn_refuse(c, "messages is empty");
        const pn_value *system = m && pn_is(pn_get(m, "role"), "system") ? m : NULL;
        pn_begin_token(c, "<|begin_of_text|>");
        system_turn(c, &g, system);
        if (system) m = m->next;
        if (defined(g.tools) && g.in_user) {
            first_user(c, &g, m);
            if (m) m = m->next;
        }
    }
    for (; m && !c->status; m = m->next) {
        const pn_value *role = pn_get(m, "role"), *list = pn_get(m, "tool_calls");
        if (pn_is(role, "tool") || pn_is(role, "ipython") || defined(list)) {
            if (defined(list)) call(c, &g, list);
            else result(c, pn_get(m, "content"));
            continue;
        }
        pn_control(c, "<|start_header_id|>");
        pn_text_concat(c, role, "role");
        pn_control(c, "<|end_header_id|>\n\n");
        pn_text_trimmed(c, pn_get(m, "content"));
        pn_control(c, "<|eot_id|>");
    }
    if (c->generation_prompt) pn_control(c, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}
