/* Llama 3: <|start_header_id|>role<|end_header_id|>, two newlines, trimmed text, <|eot_id|>. */
#include "chat/value.h"

void pn_render_llama3(pn_chat *c)
{
    const pn_value *m = c->messages->first, *begin = pn_get(c->kwargs, "bos_token");
    /* The template adds the token to the first message's text, so it must be a text. */
    if (m && begin->type != PN_V_UNDEFINED && begin->type != PN_V_STRING) pn_refuse(c, "bos_token is not a string");
    if (c->first && m) pn_begin_token(c, "<|begin_of_text|>");
    for (; m && !c->status; m = m->next) {
        pn_control(c, "<|start_header_id|>");
        pn_text_concat(c, pn_get(m, "role"), "role");
        pn_control(c, "<|end_header_id|>\n\n");
        pn_text_trimmed(c, pn_get(m, "content"));
        pn_control(c, "<|eot_id|>");
    }
    if (c->generation_prompt) pn_control(c, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}
