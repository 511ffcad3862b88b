/* ChatML: <|im_start|>role, newline, text, <|im_end|>, newline. The bare loop and SmolLM2's and Qwen2's differ in the default
 * system; Qwen 2.5 and 3 (qwen.c) also write tools, calls and results. */
#include "chat/value.h"

static const char *default_system(pn_template t)
{
    switch (t) {
    case PN_TEMPLATE_SMOLLM2: return "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    case PN_TEMPLATE_QWEN2: return "You are a helpful assistant.";
    case PN_TEMPLATE_QWEN2_5: return "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    default: return NULL;
    }
}

static void turn(pn_chat *c, const pn_value *role, const pn_value *text)
{
    pn_control(c, "<|im_start|>");
    pn_text_concat(c, role, "role");
    pn_control(c, "\n");
    pn_text_concat(c, text, "content");
    pn_control(c, "<|im_end|>\n");
}

static void loop(pn_chat *c)
{
    const pn_value *m = c->messages->first;
    const char *system = default_system(c->template);
    if (c->first && m && system && !pn_is(pn_get(m, "role"), "system")) {
        pn_control(c, "<|im_start|>system\n");
        pn_control(c, system);
        pn_control(c, "<|im_end|>\n");
    }
    for (; m && !c->status; m = m->next) turn(c, pn_get(m, "role"), pn_get(m, "content"));
}

void pn_render_chatml(pn_chat *c)
{
    if (c->template == PN_TEMPLATE_QWEN2_5 || c->template == PN_TEMPLATE_QWEN3) {
        pn_render_qwen(c, default_system(c->template));
        return;
    }
    loop(c);
    if (c->generation_prompt) pn_control(c, "<|im_start|>assistant\n");
}
