/* A session's messages: text only, so they become the values that a template sees. */
#include "chat/value.h"

static bool known(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < PN_COUNT(roles); i++)
        if (role && strcmp(role, roles[i]) == 0) return true;
    return false;
}

static void member(pn_value *dict, pn_value *v, const char *key, pn_str text)
{
    *v = (pn_value){.type = PN_V_STRING, .key = pn_str_of(key), .text = text};
    pn_value_append(dict, v);
}

ponder_status pn_render_messages(pn_template t, const pn_message *m, size_t n, bool first, bool generation_prompt,
                                 const char *effort, pn_rendered *out, ponder_error *err)
{
    enum { EACH = 3 }; /* the message, its role, its text */
    pn_value messages = {.type = PN_V_LIST}, kwargs = {.type = PN_V_DICT}, strength;
    const pn_value no_tools = {0};
    for (size_t i = 0; i < n; i++)
        if (!known(m[i].role)) return pn_fail(err, PONDER_E_FORMAT, "\"%s\" is no role of a message", m[i].role ? m[i].role : "");
    size_t count;
    pn_value *values = pn_mul(n, EACH, &count) ? pn_zalloc_array(out->a, count, sizeof *values) : NULL;
    if (!values) return pn_nomem(err, n);
    for (size_t i = 0; i < n; i++) {
        pn_value *v = values + EACH * i;
        v->type = PN_V_DICT;
        pn_value_append(&messages, v);
        member(v, v + 1, "role", pn_str_of(m[i].role));
        member(v, v + 2, "content", m[i].text);
    }
    if (effort && effort[0]) member(&kwargs, &strength, "reasoning_strength", pn_str_of(effort));
    pn_chat c = {.out = out, .err = err, .template = t, .messages = &messages, .tools = &no_tools, .kwargs = &kwargs,
                 .first = first, .session = true, .generation_prompt = generation_prompt};
    pn_render_any(&c);
    pn_free(out->a, values, count * sizeof *values);
    return c.status;
}
