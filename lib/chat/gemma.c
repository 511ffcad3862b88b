/* Gemma: <start_of_turn>role, newline, trimmed text, <end_of_turn>, newline; roles alternate. Gemma 3 puts the system text,
 * untrimmed, before the first user text; the older ones refuse a system and know text only. */
#include "chat/value.h"

static bool old(const pn_chat *c)
{
    return c->template == PN_TEMPLATE_GEMMA2;
}

/* messages[0]['content'], a text or parts of which the first is one; refused even when no turn follows to hold it. */
static const pn_value *prefix(pn_chat *c, const pn_value *system)
{
    const pn_value *text = pn_get(system, "content");
    if (text->type == PN_V_LIST) text = text->first ? pn_get(text->first, "text") : text;
    if (text->type != PN_V_STRING) pn_refuse(c, "the system's text is not a string");
    return text;
}

static void body(pn_chat *c, const pn_value *v)
{
    if (v->type == PN_V_STRING || old(c)) {
        pn_text_trimmed(c, v);
        return;
    }
    const bool iterable = v->type == PN_V_LIST || v->type == PN_V_DICT || v->type == PN_V_UNDEFINED;
    if (!iterable) pn_refuse(c, "Invalid content type");
    if (v->type != PN_V_LIST) return;
    for (const pn_value *part = v->first; part; part = part->next) {
        const pn_value *type = pn_get(part, "type");
        if (pn_is(type, "image")) pn_control(c, "<start_of_image>");
        else if (pn_is(type, "text")) pn_text_trimmed(c, pn_get(part, "text"));
    }
}

static void role_line(pn_chat *c, const pn_value *role)
{
    pn_control(c, "<start_of_turn>");
    if (pn_is(role, "assistant")) pn_control(c, "model");
    else pn_text_concat(c, role, "role");
    pn_control(c, "\n");
}

void pn_render_gemma(pn_chat *c)
{
    const pn_value *m = c->messages->first, *system = NULL;
    if (c->first && !m) pn_refuse(c, "messages is empty");
    if (m && pn_is(pn_get(m, "role"), "system")) {
        if (old(c)) pn_refuse(c, "System role not supported");
        system = prefix(c, m);
        m = m->next;
    }
    if (c->first) pn_begin_token(c, "<bos>");
    /* A later part of a conversation goes on with whoever's turn it is. */
    bool user = c->first || (m && pn_is(pn_get(m, "role"), "user"));
    for (; m && !c->status; m = m->next, user = !user) {
        const pn_value *role = pn_get(m, "role");
        if (pn_is(role, "user") != user) pn_refuse(c, "Conversation roles must alternate user/assistant/user/assistant/...");
        role_line(c, role);
        if (system) {
            pn_text(c, system->text);
            pn_control(c, "\n\n");
        }
        system = NULL;
        body(c, pn_get(m, "content"));
        pn_control(c, "<end_of_turn>\n");
    }
    if (c->generation_prompt) pn_control(c, "<start_of_turn>model\n");
}
