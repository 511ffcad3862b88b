/* First byte: the template. The rest: JSON to render, and a Jinja text to recognise. */
#include "chat/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1) return 0;
    const pn_template t = (pn_template)(data[0] % (PN_TEMPLATE_LLAMA3_1 + 1));
    const char *text = (const char *)data + 1;
    const pn_message m[] = {{.role = "system", .text = {text, n - 1}}, {.role = "user", .text = {text, (n - 1) / 2}},
                             {.role = "assistant", .text = {text, n - 1}}};
    pn_rendered r;
    pn_rendered_init(&r, NULL);
    pn_render_json(t, text, n - 1, &r, NULL);
    pn_rendered_free(&r);
    pn_render_messages(t, m + (data[0] >> 7), 3 - (data[0] >> 7), data[0] & 64, data[0] & 32, "low", &r, NULL);
    pn_rendered_free(&r);
    (void)pn_template_recognise((pn_str){text, n - 1});
    return 0;
}
