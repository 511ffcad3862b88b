/* Muse Glimmer's template, statement by statement. Where Jinja or Python would raise, this refuses. */
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "chat/value.h"

static const pn_value *function_of(const pn_value *tool)
{
    const pn_value *fn = pn_get(tool, "function");
    return fn->type == PN_V_UNDEFINED ? tool : fn;
}

static pn_str namespace_of(const pn_value *tool)
{
    pn_str name = pn_get(function_of(tool), "name")->text;
    const char *dot = name.n ? memchr(name.p, '.', name.n) : NULL;
    if (dot) name.n = (size_t)(dot - name.p);
    return name;
}

/* Once for a list of tools: each system turn lists the namespaces twice. Names first, so that a refusal changes nothing. */
bool pn_mark_namespaces(const pn_value *tools)
{
    for (const pn_value *v = tools->first; v; v = v->next)
        if (pn_get(function_of(v), "name")->type != PN_V_STRING) return false;
    for (const pn_value *v = tools->first; v; v = v->next) {
        const pn_str name = namespace_of(v);
        bool seen = false;
        for (const pn_value *w = tools->first; w != v && !seen; w = w->next) {
            const pn_str other = namespace_of(w);
            seen = w->flag && other.n == name.n && memcmp(other.p, name.p, name.n) == 0;
        }
        ((pn_value *)(uintptr_t)v)->flag = !seen; /* the values are the rendering's own, or of tools just being read */
    }
    return true;
}

/* The description's value, or NULL where the template writes ''; refuses what Python cannot look into. */
static const pn_value *namespace_description(pn_chat *c, pn_str name)
{
    const pn_value *nd = pn_get(c->kwargs, "tool_namespace_descriptions");
    if (nd->type == PN_V_UNDEFINED) return NULL;
    const bool list = nd->type == PN_V_LIST, text = nd->type == PN_V_STRING;
    if (text && (name.n == 0 || memmem(nd->text.p, nd->text.n, name.p, name.n)))
        pn_refuse(c, "tool_namespace_descriptions is not an object");
    if (!text && !list && nd->type != PN_V_DICT) pn_refuse(c, "tool_namespace_descriptions is not an object");
    for (const pn_value *m = nd->first; m; m = m->next) {
        const pn_str key = list ? m->text : m->key;
        if ((list && m->type != PN_V_STRING) || key.n != name.n || memcmp(key.p, name.p, name.n) != 0) continue;
        if (!list) return m;
        pn_refuse(c, "tool_namespace_descriptions is not an object");
    }
    return NULL;
}

static void content(pn_chat *c, const pn_value *v)
{
    if (v->type == PN_V_STRING) {
        pn_text(c, v->text);
        return;
    }
    if (v->type == PN_V_BOOL || v->type == PN_V_INT || v->type == PN_V_FLOAT) pn_refuse(c, "content is neither text nor parts");
    if (v->type != PN_V_LIST) return; /* a dict's keys are parts without a type */
    for (const pn_value *part = v->first; part; part = part->next) {
        const pn_value *type = pn_get(part, "type");
        if (pn_is(type, "image")) pn_control(c, "<|patch|>");
        else if (pn_is(type, "video")) pn_control(c, "<|video|>");
        else if (c->session && pn_is(type, "audio")) pn_control(c, "<|audio|>"); /* Spark's; this template drops it */
        else if (pn_is(type, "text")) pn_text_str(c, pn_get(part, "text"));
    }
}

static void argument(pn_chat *c, const pn_value *v)
{
    pn_control(c, "<atem:parameter name=\"");
    pn_text(c, v->key);
    pn_control(c, "\">");
    if (v->type == PN_V_BOOL) pn_control(c, v->flag ? "true" : "false");
    else if (v->type == PN_V_NONE) pn_control(c, "null");
    else if (v->type == PN_V_DICT || v->type == PN_V_LIST) pn_text_json(c, v, 0);
    else pn_text_str(c, v);
    pn_control(c, "</atem:parameter>\n");
}

static void call(pn_chat *c, const pn_value *function)
{
    const pn_value *args = pn_get(function, "arguments"), *name = pn_get(function, "name");
    pn_control(c, "<|start|>assistant to=");
    pn_text_concat(c, name, "a tool call's function.name");
    pn_control(c, "<|message|>");
    if (args->type != PN_V_DICT)
        pn_refuse(c, "Muse Glimmer ATEM chat template requires tool_call.function.arguments to be a dict (mapping); a JSON "
                     "string cannot be parsed in the HF jinja sandbox.");
    pn_control(c, "<atem:function_calls>\n<atem:invoke name=\"");
    pn_text_concat(c, name, "a tool call's function.name");
    pn_control(c, "\">\n");
    for (const pn_value *v = args->first; v && !c->status; v = v->next) argument(c, v);
    pn_control(c, "</atem:invoke>\n</atem:function_calls>");
}

static const char tools_opening[] =
    "In this environment you have access to a set of tools you can use to answer the user's question.\n\n"
    "You can invoke a function by writing a \"<atem:function_calls>\" block like the following:\n"
    "<atem:function_calls>\n<atem:invoke name=\"$FUNCTION_NAME\">\n"
    "<atem:parameter name=\"$PARAMETER_NAME\">$PARAMETER_VALUE</atem:parameter>\n...\n</atem:invoke>\n"
    "</atem:function_calls>\n\n"
    "String and scalar parameters should be specified as is, while lists and objects should use JSON format. Note that "
    "spaces for string values are not stripped. The output is not expected to be valid XML and is parsed with regular "
    "expressions.\n"
    "Here are the functions available in JSONSchema format:\n"
    "// Tool metadata\n";

static const char tools_closing[] =
    "\n\nHere's an example of how to call a function in the tool set:\n"
    "(If the tool namespace is not specified, invoke the function directly as `example_function_name` rather than "
    "`example_tool_name.example_function_name`)\n\n"
    "to=example_tool_name.example_function_name\n\n"
    "<atem:function_calls>\n<atem:invoke name=\"example_tool_name.example_function_name\">\n"
    "<atem:parameter name=\"example_parameter_1\">value_1</atem:parameter>\n"
    "<atem:parameter name=\"example_parameter_2\">This is the value for the second parameter\nthat can span\n"
    "\"multiple\" lines\n</atem:parameter>\n</atem:invoke>\n</atem:function_calls>";

/* A member of a definition. A session's tools may lack one, for which the reference finds no words. */
static void tool_member(pn_chat *c, const pn_value *fn, const char *key, const char *otherwise)
{
    const pn_value *v = pn_get(fn, key);
    if (c->session && v->type <= PN_V_NONE) pn_control(c, otherwise);
    else pn_text_json(c, v, 0);
}

static void tool_definitions(pn_chat *c)
{
    pn_control(c, tools_opening);
    for (const pn_value *v = c->tools->first; v && !c->status; v = v->next) {
        if (!v->flag) continue;
        const pn_value name = {.type = PN_V_STRING, .text = namespace_of(v)};
        const pn_value *description = namespace_description(c, name.text);
        pn_control(c, "{\"name\": ");
        pn_text_json(c, &name, 0);
        pn_control(c, ", \"description\": ");
        if (description) pn_text_json(c, description, 0);
        else pn_control(c, "\"\"");
        pn_control(c, "}\n");
    }
    pn_control(c, "// Function schemas");
    for (const pn_value *v = c->tools->first; v && !c->status; v = v->next) {
        const pn_value *fn = function_of(v);
        pn_control(c, "\n{\"name\": ");
        pn_text_json(c, pn_get(fn, "name"), 0);
        pn_control(c, ", \"description\": ");
        tool_member(c, fn, "description", "\"\"");
        pn_control(c, ", \"parameters\": ");
        tool_member(c, fn, "parameters", "{\"type\": \"object\", \"properties\": {}}");
        pn_control(c, "}");
    }
    pn_control(c, tools_closing);
}

static void strength(pn_chat *c)
{
    const pn_value *rs = pn_get(c->kwargs, "reasoning_strength");
    pn_control(c, "\n\nReasoning strength: ");
    if (pn_truth(rs)) pn_text_concat(c, rs, "reasoning_strength");
    else pn_control(c, "high");
    pn_control(c, ".");
}

/* The end of every system turn: tools, and who may be addressed. */
static void system_end(pn_chat *c)
{
    if (pn_truth(c->tools)) {
        pn_control(c, "\n\n");
        tool_definitions(c);
    }
    pn_control(c, "\n\n# Valid recipients: \"self\"");
    for (const pn_value *v = c->tools->first; v && !c->status; v = v->next) {
        if (!v->flag) continue;
        pn_control(c, ", \"");
        pn_text(c, namespace_of(v));
        pn_control(c, ".*\"");
    }
    pn_control(c, ", \"user\".<|eot|>");
}

/* In UTC: the time zone would be read from the environment. */
static void today(pn_chat *c)
{
    struct tm tm;
    char text[40];
    const time_t now = time(NULL);
    if (!gmtime_r(&now, &tm)) return;
    snprintf(text, sizeof text, "%d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    pn_control(c, "\nCurrent date: ");
    pn_control(c, text);
    pn_control(c, ".");
}

static void default_system(pn_chat *c)
{
    const pn_value *cutoff = pn_get(c->kwargs, "knowledge_cutoff"), *date = pn_get(c->kwargs, "current_date");
    pn_control(c, "<|start|>system<|message|>You are a helpful AI assistant.\nKnowledge cutoff: ");
    if (pn_truth(cutoff)) pn_text_concat(c, cutoff, "knowledge_cutoff");
    else pn_control(c, "2026-01-04");
    pn_control(c, ".");
    if (pn_truth(date)) {
        pn_control(c, "\nCurrent date: ");
        pn_text_concat(c, date, "current_date");
        pn_control(c, ".");
    } else if (!c->session) {
        today(c);
    }
    strength(c);
    system_end(c);
}

/* Writes system text with "reasoning effort" renamed, in the four casings that the template replaces. Says whether
 * "reasoning strength" is in it then, in any casing (letters beyond ASCII that lower to these: there are none). */
static bool system_text(pn_chat *c, pn_str s)
{
    static const char *const casings[][2] = {{"Reasoning effort", "strength"}, {"Reasoning Effort", "Strength"},
                                             {"reasoning effort", "strength"}, {"REASONING EFFORT", "STRENGTH"}};
    enum { HEAD = 10, OLD = 16, NEW = 18 };
    bool found = false;
    size_t from = 0;
    for (size_t i = 0; i + OLD <= s.n; i++) {
        if ((s.p[i] | 0x20) != 'r') continue;
        found |= i + NEW <= s.n && strncasecmp(s.p + i, "reasoning strength", NEW) == 0;
        for (size_t k = 0; k < PN_COUNT(casings); k++) {
            if (memcmp(s.p + i, casings[k][0], OLD) != 0) continue;
            pn_text(c, (pn_str){s.p + from, i + HEAD - from});
            pn_text(c, pn_str_of(casings[k][1]));
            from = i + OLD;
            found = true;
        }
    }
    pn_text(c, (pn_str){s.p + from, s.n - from});
    return found;
}

static void system_turn(pn_chat *c, const pn_value *message)
{
    /* The phrase may run over two parts, so they are joined first. */
    pn_rendered joined, *const out = c->out;
    bool found = false;
    pn_rendered_init(&joined, out->a);
    c->out = &joined;
    content(c, pn_get(message, "content"));
    c->out = out;
    pn_control(c, "<|start|>system<|message|>");
    for (size_t i = 0; i < joined.n_spans; i++) {
        const pn_str s = {joined.text.p + joined.spans[i].from, joined.spans[i].n};
        if (joined.spans[i].control) pn_control_part(c, s);
        else found |= system_text(c, s);
    }
    pn_rendered_free(&joined);
    if (!found) strength(c);
    system_end(c);
}

static const pn_value *call_of_id(pn_chat *c, const pn_value *id)
{
    const pn_value *name = id;
    for (const pn_value *m = c->messages->first; m; m = m->next) {
        const pn_value *calls = pn_get(m, "tool_calls");
        if (!pn_truth(calls)) continue;
        if (calls->type < PN_V_STRING) pn_refuse(c, "tool_calls is not a list");
        if (calls->type != PN_V_LIST || id->type <= PN_V_NONE) continue;
        for (const pn_value *call_ = calls->first; call_; call_ = call_->next) {
            const pn_value *other = pn_get(call_, "id");
            if (other->type == PN_V_UNDEFINED || !pn_same(other, id)) continue;
            const pn_value *function = pn_get(call_, "function");
            if (function->type == PN_V_UNDEFINED) pn_refuse(c, "a tool call's function is missing");
            name = pn_get(function, "name");
        }
    }
    return name;
}

static void tool_turn(pn_chat *c, const pn_value *message)
{
    static const pn_value empty = {.type = PN_V_STRING, .text = {"", 0}};
    const pn_value *name = pn_get(message, "name");
    if (!pn_truth(name)) {
        const pn_value *id = pn_get(message, "tool_call_id");
        name = call_of_id(c, id);
        if (name == id && !pn_truth(id)) name = &empty;
    }
    pn_control(c, "<|start|>tool ");
    pn_text_concat(c, name, "a tool message's name");
    pn_control(c, "<|message|><tool_output name=\"");
    pn_text_concat(c, name, "a tool message's name");
    pn_control(c, "\">\n");
    content(c, pn_get(message, "content"));
    pn_control(c, "\n</tool_output><|eot|>");
}

static void calls(pn_chat *c, const pn_value *message, const pn_value *list)
{
    const pn_value *next = message->next;
    const bool goes_on = next && pn_is(pn_get(next, "role"), "assistant");
    if (list->type != PN_V_LIST) pn_refuse(c, "tool_calls is not a list");
    for (const pn_value *v = list->first; v && !c->status; v = v->next) {
        call(c, pn_get(v, "function"));
        pn_control(c, v->next || goes_on ? "<|eom|>" : "<|eot|>");
    }
}

static void assistant_turn(pn_chat *c, const pn_value *message)
{
    const pn_value *reasoning = pn_get(message, "reasoning_content"), *list = pn_get(message, "tool_calls");
    const pn_value *recipient = pn_get(message, "recipient"), *end_turn = pn_get(message, "end_turn");
    if (pn_truth(reasoning)) {
        pn_control(c, "<|start|>assistant to=self<|message|>");
        pn_text_concat(c, reasoning, "reasoning_content");
        pn_control(c, "<|eom|>");
    }
    if (pn_truth(list)) {
        calls(c, message, list);
        return;
    }
    const bool other = pn_truth(recipient) && !pn_is(recipient, "user");
    pn_control(c, "<|start|>assistant to=");
    if (pn_truth(recipient)) pn_text_concat(c, recipient, "recipient");
    else pn_control(c, "user");
    pn_control(c, "<|message|>");
    content(c, pn_get(message, "content"));
    pn_control(c, (end_turn->type <= PN_V_NONE ? !other : pn_truth(end_turn)) ? "<|eot|>" : "<|eom|>");
}

static bool has_system(const pn_chat *c)
{
    for (const pn_value *m = c->messages->first; m; m = m->next)
        if (pn_is(pn_get(m, "role"), "system")) return true;
    return false;
}

void pn_render_muse(pn_chat *c)
{
    const bool system = has_system(c);
    /* A session's tools are shared between threads, and marked since they were read. */
    if (!c->session && pn_truth(c->tools) && !pn_mark_namespaces(c->tools)) pn_refuse(c, "a tool's name is not a string");
    if (c->first) {
        pn_begin_token(c, "<|begin_of_text|>");
        if (!system) default_system(c);
    }
    for (const pn_value *m = c->messages->first; m && !c->status; m = m->next) {
        const pn_value *role = pn_get(m, "role");
        if (pn_is(role, "system")) {
            system_turn(c, m);
        } else if (pn_is(role, "user")) {
            pn_control(c, "<|start|>user<|message|>");
            content(c, pn_get(m, "content"));
            pn_control(c, "<|eot|>");
        } else if (pn_is(role, "tool")) {
            tool_turn(c, m);
        } else if (pn_is(role, "assistant")) {
            assistant_turn(c, m);
        }
    }
    if (c->generation_prompt) pn_control(c, "<|start|>assistant");
}
