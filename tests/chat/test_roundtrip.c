/* Random turns, rendered as the reference renders them and read back: the same thoughts, text and calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "streams.h"

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) % n);
}

/* ---- random values ---- */

static void random_text(char *to, size_t cap, uint32_t most)
{
    static const char *const fragments[] = {
        "a", "word ", " ", "\n", "é", "🎉", "<", ">", "\"", "'", "\\", "{", "}", "[", "1", "true", "null", "<|eot|>", "<|eom|>", "<|start|>assistant",
        " to=user", "<|message|>", "</atem:parameter> x", "<atem:invoke name=\"f\">", "<atem:function_calls>", "</atem:function_calls>", "<think>",
        "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "<|eot_id|>", "\t", "&amp;", "0.10", "- "};
    size_t n = 0;
    for (uint32_t many = below(most); many > 0; many--) {
        const char *f = fragments[below(PN_COUNT(fragments))];
        if (n + strlen(f) + 8 > cap) break;
        memcpy(to + n, f, strlen(f));
        n += strlen(f);
    }
    to[n] = 0;
}

static json_t *random_string(void)
{
    char text[512];
    random_text(text, sizeof text, 8);
    return json_string(text);
}

static double random_real(void)
{
    static const double some[] = {0.1, 1e-7, 1e16, -2.5, 3.0, 1.0 / 3.0, 1e300, -0.0, 123456789.125};
    return below(3) ? some[below(PN_COUNT(some))] : (double)below(1u << 31) / 1000.0;
}

static json_t *random_value(const char *type, unsigned depth)
{
    static const char *const types[] = {"string", "integer", "number", "boolean", "null", "array", "object"};
    if (strcmp(type, "string") == 0) return random_string();
    if (strcmp(type, "integer") == 0) return json_integer((json_int_t)below(2000000) - 1000000);
    if (strcmp(type, "number") == 0) return below(2) ? json_real(random_real()) : json_integer(below(100));
    if (strcmp(type, "boolean") == 0) return json_boolean(below(2));
    if (strcmp(type, "null") == 0) return json_null();
    const bool list = strcmp(type, "array") == 0;
    json_t *v = list ? json_array() : json_object();
    for (uint32_t many = below(4); many > 0; many--) {
        char key[520];
        json_t *member = random_value(types[below(depth < 4 ? 7 : 5)], depth + 1);
        random_text(key, sizeof key, 3);
        if (list) json_array_append_new(v, member);
        else json_object_set_new(v, key, member);
    }
    return v;
}

/* Parameters are named by their types; "any" has none. */
static const char *const parameters[] = {"string", "integer", "number", "boolean", "null", "array", "object", "any"};

static json_t *random_arguments(void)
{
    json_t *args = json_object();
    for (size_t i = 0; i < PN_COUNT(parameters); i++) {
        const bool any = strcmp(parameters[i], "any") == 0;
        if (below(3) == 0) json_object_set_new(args, parameters[i], random_value(any ? "object" : parameters[i], 0));
    }
    return args;
}

static pn_tools *make_tools(void)
{
    json_t *properties = json_object(), *list = json_array();
    for (size_t i = 0; i + 1 < PN_COUNT(parameters); i++) json_object_set_new(properties, parameters[i], json_pack("{s:s}", "type", parameters[i]));
    static const char *const names[] = {"f", "ns.fn", "ns.other"};
    for (size_t i = 0; i < PN_COUNT(names); i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:{s:s, s:O}}", "name", names[i], "description", "d", "parameters", "type", "object", "properties", properties));
    char *text = json_dumps(list, 0);
    pn_tools *t;
    assert_int_equal(pn_tools_read(&t, text, strlen(text), NULL, NULL), PONDER_OK);
    free(text);
    json_decref(list);
    json_decref(properties);
    return t;
}

/* ---- one turn ---- */

typedef struct turn {
    char thought[2048], text[2048];
    json_t *calls;
    char *calls_text;
} turn;

/* At the ends of thought and text templates drop or add newlines; an answer's end must not be half a tag. */
static void bound(char *text, bool always)
{
    const size_t n = strlen(text);
    if (!n && !always) return;
    memmove(text + 1, text, n + 1);
    text[0] = '.';
    strcat(text, ".");
}

static void random_turn(turn *t, pn_template template)
{
    const bool llama = template == PN_TEMPLATE_LLAMA3_1, muse = template == PN_TEMPLATE_MUSE;
    *t = (turn){.calls = json_array()};
    if (!llama && template != PN_TEMPLATE_QWEN2_5 && below(2)) random_text(t->thought, sizeof t->thought, 12);
    if (below(2)) {
        static const char *const names[] = {"f", "ns.fn", "ns.other"};
        for (uint32_t many = 1 + below(llama ? 1 : 3); many > 0; many--)
            json_array_append_new(t->calls, json_pack("{s:{s:s, s:o}}", "function", "name", names[below(3)], "arguments", random_arguments()));
    }
    if (json_array_size(t->calls) == 0 || (!muse && !llama && below(2))) random_text(t->text, sizeof t->text, 12);
    if (!muse) bound(t->thought, false);
    if (strstr(t->text, "</think>") && template == PN_TEMPLATE_QWEN3) strcpy(t->text, "-"); /* the template itself cuts there */
    bound(t->text, json_array_size(t->calls) == 0);
    t->calls_text = json_array_size(t->calls) ? json_dumps(t->calls, 0) : NULL;
}

/* What the model would have written: the turn's text behind the generation prompt, control text as tokens. */
static void feed_rendered(pn_parser *p, const pn_rendered *r, size_t from, size_t piece)
{
    for (size_t i = 0; i < r->n_spans; i++) {
        const pn_span s = r->spans[i];
        const size_t begin = PN_MAX(s.from, from), end = s.from + s.n;
        if (begin >= end) continue;
        if (s.control) feed_tokens(p, r->text.p + begin, end - begin, piece, NULL);
        else feed_pieces(p, r->text.p + begin, end - begin, piece, NULL);
    }
    assert_int_equal(pn_parser_finish(p, NULL), PONDER_OK);
}

static void render(pn_template t, const pn_message *m, size_t n, bool prompt, const pn_tools *tools, pn_rendered *r)
{
    const pn_render_options o = {.first = true, .generation_prompt = prompt, .tools = tools};
    ponder_error err = {.size = sizeof err};
    pn_rendered_init(r, NULL);
    if (pn_render_turns(t, m, n, &o, r, &err) != PONDER_OK) fail_msg("%s", err.text);
}

static bool same_call(const pn_parsed *e, const json_t *call)
{
    const json_t *fn = json_object_get(call, "function");
    const char *name = json_string_value(json_object_get(fn, "name"));
    json_t *got = json_loadb(e->text.p, e->text.n, JSON_REJECT_DUPLICATES, NULL);
    const bool ok = got && json_equal(got, json_object_get(fn, "arguments")) && e->name.n == strlen(name) && !memcmp(e->name.p, name, e->name.n) && e->tool >= 0;
    json_decref(got);
    return ok;
}

static bool read_back(pn_parser *p, const turn *t)
{
    pn_buf thought, text;
    pn_parsed e;
    size_t calls = 0;
    bool ok = true, ended = false;
    pn_buf_init(&thought, NULL);
    pn_buf_init(&text, NULL);
    while (pn_parser_next(p, &e)) {
        if (e.kind == PN_PARSED_THOUGHT) pn_buf_put(&thought, e.text.p, e.text.n);
        else if (e.kind == PN_PARSED_ANSWER) pn_buf_put(&text, e.text.p, e.text.n);
        else if (e.kind == PN_PARSED_CALL) ok = same_call(&e, json_array_get(t->calls, calls++)) && ok;
        else if (e.kind == PN_PARSED_TURN_END) ended = true;
        else ok = ok && e.kind == PN_PARSED_MESSAGE_END;
    }
    ok = ok && ended && calls == json_array_size(t->calls) && thought.n == strlen(t->thought) && text.n == strlen(t->text) &&
         (!thought.n || !memcmp(thought.p, t->thought, thought.n)) && (!text.n || !memcmp(text.p, t->text, text.n));
    pn_buf_free(&thought);
    pn_buf_free(&text);
    return ok;
}

static bool holds(pn_template template, const pn_tools *tools)
{
    turn t;
    pn_rendered prompt, full;
    pn_parser *p;
    random_turn(&t, template);
    const pn_message m[] = {{.role = "user", .text = {"?", 1}},
                            {.role = "assistant", .text = pn_str_of(t.text), .thought = pn_str_of(t.thought), .calls = pn_str_of(t.calls_text)}};
    render(template, m, 1, true, tools, &prompt);
    render(template, m, 2, false, tools, &full);
    assert_true(full.text.n > prompt.text.n && memcmp(full.text.p, prompt.text.p, prompt.text.n) == 0);
    const pn_parse_options o = {.kind = pn_parser_kind_of(template), .template = template, .tools = tools};
    assert_int_equal(pn_parser_new(&p, &o, NULL, NULL), PONDER_OK);
    all_markers_are_tokens(p);
    feed_rendered(p, &full, prompt.text.n, 1 + below(40));
    const bool ok = read_back(p, &t);
    if (!ok) printf("%s: %.*s\n", pn_template_name(template), (int)(full.text.n - prompt.text.n), full.text.p + prompt.text.n);
    pn_parser_free(p);
    pn_rendered_free(&prompt);
    pn_rendered_free(&full);
    json_decref(t.calls);
    free(t.calls_text);
    return ok;
}

static void test_roundtrip(void **state)
{
    static const pn_template templates[] = {PN_TEMPLATE_MUSE, PN_TEMPLATE_MUSE, PN_TEMPLATE_QWEN3, PN_TEMPLATE_QWEN2_5, PN_TEMPLATE_LLAMA3_1};
    const char *env = getenv("PONDER_TEST_LONG");
    const unsigned many = env ? (unsigned)atoi(env) : 10000;
    pn_tools *tools = make_tools();
    unsigned bad = 0;
    for (unsigned i = 0; i < many && bad < 3; i++) {
        random_state = i;
        bad += !holds(templates[i % PN_COUNT(templates)], tools);
    }
    pn_tools_free(tools);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_roundtrip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
