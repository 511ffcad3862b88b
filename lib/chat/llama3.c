/* Llama 3: <|start_header_id|>role<|end_header_id|>, two newlines, trimmed text, <|eot_id|>. 3.1 and 3.2 always open with a
 * system turn that holds two dates (these, when nobody says which) before the system text. */
#include "chat/value.h"

static void header(pn_chat *c, const pn_value *role)
{
    pn_control(c, "<|start_header_id|>");
    pn_text_concat(c, role, "role");
    pn_control(c, "<|end_header_id|>\n\n");
}

static void dated_system(pn_chat *c, const pn_value *system)
{
    pn_control(c, "<|start_header_id|>system<|end_header_id|>\n\n"
                  "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (system) pn_text_trimmed(c, pn_get(system, "content"));
    pn_control(c, "<|eot_id|>");
}

void pn_render_llama3(pn_chat *c)
{
    const pn_value *m = c->messages->first;
    const bool dated = c->template == PN_TEMPLATE_LLAMA3_1;
    /* Llama 3 adds it to the first message's text, so it must be one. */
    const pn_value *begin = pn_get(c->kwargs, "bos_token");
    if (m && !dated && begin->type != PN_V_UNDEFINED && begin->type != PN_V_STRING) pn_refuse(c, "bos_token is not a string");
    if (c->first && (m || dated)) pn_begin_token(c, "<|begin_of_text|>");
    if (c->first && dated) {
        const pn_value *system = m && pn_is(pn_get(m, "role"), "system") ? m : NULL;
        dated_system(c, system);
        if (system) m = m->next;
    }
    for (; m && !c->status; m = m->next) {
        header(c, pn_get(m, "role"));
        pn_text_trimmed(c, pn_get(m, "content"));
        pn_control(c, "<|eot_id|>");
    }
    if (c->generation_prompt) pn_control(c, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}
