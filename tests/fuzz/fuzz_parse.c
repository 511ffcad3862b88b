/* First byte: template, start, and whether tools are known and markers are tokens. Second: the pieces' size. The rest is a
 * stream, fed in one piece, in such pieces and through a clone: the events must be the same. It is also read as tools and
 * as a message's calls. */
#include <stdlib.h>

#include "../chat/streams.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const pn_template templates[] = {PN_TEMPLATE_MUSE, PN_TEMPLATE_QWEN3, PN_TEMPLATE_LLAMA3_1, PN_TEMPLATE_GEMMA};

static pn_parser *parser_of(uint8_t how, const pn_tools *tools)
{
    const pn_template t = templates[how & 3];
    const pn_parse_options o = {.kind = pn_parser_kind_of(t), .template = t, .start = (pn_parse_start)((how >> 2 & 3) % 3),
                                .tools = how & 16 ? tools : NULL};
    pn_parser *p;
    if (pn_parser_new(&p, &o, NULL, NULL) != PONDER_OK) abort();
    if (how & 32) all_markers_are_tokens(p);
    return p;
}

static void feed(pn_parser *p, uint8_t how, const char *text, size_t n, size_t piece, record *r)
{
    if (how & 32) feed_tokens(p, text, n, piece, r);
    else feed_pieces(p, text, n, piece, r);
    const pn_place at = pn_parser_place(p);
    volatile char sink = 0;
    for (size_t i = 0; i < at.tool.n; i++) sink ^= at.tool.p[i];
    for (size_t i = 0; i < at.parameter.n; i++) sink ^= at.parameter.p[i];
    (void)sink;
    if (pn_parser_finish(p, NULL) != PONDER_OK) abort();
    record_take(r, p);
}

static void compare(uint8_t how, size_t piece, const char *text, size_t n, const pn_tools *tools)
{
    record whole, parts;
    pn_parser *p = parser_of(how, tools), *q = parser_of(how, tools), *clone;
    record_init(&whole);
    record_init(&parts);
    feed(p, how, text, n, n ? n : 1, &whole);
    if (pn_parser_clone(&clone, q, NULL) != PONDER_OK) abort();
    feed(clone, how, text, n, piece, &parts);
    if (!record_same(&whole, &parts)) abort();
    pn_parser_free(p);
    pn_parser_free(q);
    pn_parser_free(clone);
    pn_buf_free(&whole.text);
    pn_buf_free(&parts.text);
}

static void read_as_json(const char *text, size_t n)
{
    pn_tools *t;
    pn_rendered r;
    const pn_message m = {.role = "assistant", .calls = {text, n}};
    if (pn_tools_read(&t, text, n, NULL, NULL) == PONDER_OK)
        for (size_t i = 0; i < pn_tools_count(t); i++) (void)pn_tools_types(t, i, pn_str_of("x"));
    pn_rendered_init(&r, NULL);
    pn_render_turns(PN_TEMPLATE_MUSE, &m, 1, &(pn_render_options){.first = true, .tools = t}, &r, NULL);
    pn_rendered_free(&r);
    pn_tools_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char json[] = "[{\"name\": \"f\", \"parameters\": {\"properties\": {\"x\": {\"type\": \"string\"}, \"n\": {\"type\": \"number\"}}}}, {\"name\": \"ns.fn\"}]";
    pn_tools *tools;
    if (n < 2 || pn_tools_read(&tools, json, sizeof json - 1, NULL, NULL) != PONDER_OK) return 0;
    const char *text = (const char *)data + 2;
    compare(data[0], 1 + data[1] % 40, text, n - 2, tools);
    if (data[0] & 64) read_as_json(text, n - 2);
    pn_tools_free(tools);
    return 0;
}
