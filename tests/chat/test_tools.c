/* Tool definitions, and what a session renders beside text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "chat/parse.h"
#include "counter.h"

static pn_tools *tools_of(const char *json)
{
    pn_tools *t;
    ponder_error err = {.size = sizeof err};
    if (pn_tools_read(&t, json, strlen(json), NULL, &err) != PONDER_OK) fail_msg("%s", err.text);
    return t;
}

static void test_read(void **state)
{
    pn_tools *t = tools_of("[{\"type\": \"function\", \"function\": {\"name\": \"ns.fn\", \"description\": \"D\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {}}}}},"
                           " {\"name\": \"bare\"}, {\"name\": \"null\", \"description\": null, \"parameters\": null, \"strict\": true}]");
    assert_int_equal(pn_tools_count(t), 3);
    assert_true(pn_str_eq(pn_tools_name(t, 0), "ns.fn") && pn_str_eq(pn_tools_name(t, 2), "null"));
    assert_true(pn_str_eq(pn_tools_parameters(t, 0), "{\"type\": \"object\", \"properties\": {\"a\": {}}}"));
    assert_int_equal(pn_tools_parameters(t, 1).n, 0);
    assert_int_equal(pn_tools_parameters(t, 9).n + pn_tools_name(t, 9).n, 0);
    assert_int_equal(pn_tools_find(t, pn_str_of("bare")), 1);
    assert_int_equal(pn_tools_find(t, pn_str_of("bar")), -1);
    assert_ptr_equal(pn_tools_hold(t), t);
    pn_tools_free(t);
    assert_int_equal(pn_tools_count(t), 3);
    pn_tools_free(t);
    pn_tools_free(NULL);
    assert_null(pn_tools_hold(NULL));
    t = tools_of("[]");
    assert_int_equal(pn_tools_count(t) + pn_tools_count(NULL), 0);
    pn_tools_free(t);
}

static void expect_refused(const char *json, size_t n, const char *text)
{
    pn_tools *t;
    ponder_error err = {.size = sizeof err};
    assert_int_not_equal(pn_tools_read(&t, json, n, NULL, &err), PONDER_OK);
    assert_null(t);
    if (!strstr(err.text, text)) fail_msg("%.80s: \"%s\" does not say \"%s\"", json, err.text, text);
}

static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {"", "tools"}, {"{}", "not a JSON list"}, {"[1]", "tool 0 is not an object"}, {"[{\"name\": \"a\"}, {}]", "tool 1 has no name"}, {"[{\"name\": 5}]", "tool 0 has no name"},
        {"[{\"function\": 5}]", "no name"}, {"[{\"name\": \"\"}]", "cannot be"}, {"[{\"name\": \"a b\"}]", "\"a b\" cannot be"}, {"[{\"name\": \"a<b\"}]", "cannot be"},
        {"[{\"name\": \"a\\\"\"}]", "cannot be"}, {"[{\"name\": \"self\"}]", "\"self\" cannot be"}, {"[{\"name\": \"user\"}]", "cannot be"}, {"[{\"name\": \".a\"}]", "cannot be"},
        {"[{\"name\": \"twice\"}, {\"name\": \"twice\"}]", "\"twice\" is there twice"}, {"[{\"name\": \"f\", \"description\": []}]", "\"f\": description"},
        {"[{\"name\": \"f\", \"parameters\": []}]", "\"f\": parameters"}, {"[{\"name\": \"f\", \"parameters\": {\"type\": \"array\"}}]", "\"f\": the type"},
        {"[{\"name\": \"f\", \"parameters\": {\"properties\": []}}]", "\"f\": properties"}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) expect_refused(cases[i][0], strlen(cases[i][0]), cases[i][1]);
}

/* A schema of `levels` lists, and more tools than anyone has. */
static void test_limits(void **state)
{
    static char json[1 << 20];
    for (int levels = 1; levels < 64; levels += 62) {
        size_t n = (size_t)sprintf(json, "[{\"name\": \"deep\", \"parameters\": {\"x\": ");
        for (int i = 0; i < levels; i++) json[n++] = '[';
        for (int i = 0; i < levels; i++) json[n++] = ']';
        sprintf(json + n, "}}]");
        pn_tools_free(tools_of(json));
    }
    size_t n = (size_t)sprintf(json, "[{\"name\": \"deep\", \"parameters\": {\"x\": ");
    for (int i = 0; i < 64; i++) json[n++] = '[';
    json[n++] = '1';
    for (int i = 0; i < 64; i++) json[n++] = ']';
    n += (size_t)sprintf(json + n, "}}]");
    expect_refused(json, n, "\"deep\": parameters nested more than 64 deep");
    memset(json, '[', sizeof json - 1);
    expect_refused(json, sizeof json - 1, "tools");
    n = (size_t)sprintf(json, "[");
    for (int i = 0; i <= 1024; i++) n += (size_t)sprintf(json + n, "%s{\"name\": \"t%d\"}", i ? ", " : "", i);
    n += (size_t)sprintf(json + n, "]");
    expect_refused(json, n, "1025");
    n = (size_t)sprintf(json, "[{\"name\": \"");
    memset(json + n, 'x', 129);
    n += 129;
    n += (size_t)sprintf(json + n, "\"}]");
    expect_refused(json, n, "cannot be");
}

static void test_types(void **state)
{
    enum { S = PN_TYPE_STRING, I = PN_TYPE_INTEGER, N = PN_TYPE_NUMBER, B = PN_TYPE_BOOLEAN, Z = PN_TYPE_NULL, A = PN_TYPE_ARRAY, O = PN_TYPE_OBJECT };
    static const struct { const char *schema; uint32_t types; } cases[] = {
        {"{\"type\": \"string\"}", S}, {"{\"type\": \"integer\"}", I}, {"{\"type\": \"number\"}", N}, {"{\"type\": \"boolean\"}", B}, {"{\"type\": \"null\"}", Z},
        {"{\"type\": \"array\"}", A}, {"{\"type\": \"object\"}", O}, {"{\"type\": [\"string\", \"null\"]}", S | Z}, {"{\"type\": \"string\", \"nullable\": true}", S | Z},
        {"{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", S | Z}, {"{\"oneOf\": [{\"type\": \"integer\"}, {\"anyOf\": [{\"type\": \"array\"}]}]}", I | A},
        {"{\"allOf\": [{\"$ref\": \"#/$defs/E\"}]}", S}, {"{\"$ref\": \"#/definitions/N\"}", N}, {"{\"$ref\": \"#/$defs/Round\"}", 0}, {"{\"$ref\": \"#/$defs/Nowhere\"}", 0},
        {"{\"$ref\": \"other.json\"}", 0}, {"{\"$ref\": \"#\"}", O}, {"{\"enum\": [\"a\", 1, null]}", S | I | Z}, {"{\"const\": true}", B}, {"{\"const\": 1.5}", N}, {"{}", 0}, {"true", 0},
        {"{\"type\": \"any\"}", 0}, {"{\"anyOf\": [{\"type\": \"string\"}, {}]}", 0}, {"{\"anyOf\": []}", 0}, {"{\"properties\": {}}", O}, {"{\"items\": {}}", A},
        {"{\"description\": \"x\", \"type\": \"string\", \"enum\": [\"1\"]}", S}};
    char json[1024];
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        snprintf(json, sizeof json, "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"$defs\": {\"E\": {\"enum\": [\"x\"]}, \"Round\": {\"$ref\": \"#/$defs/Round\"}}, "
                 "\"definitions\": {\"N\": {\"type\": \"number\"}}, \"properties\": {\"p\": %s}}}, {\"name\": \"g\"}, {\"name\": \"h\", \"parameters\": {\"additionalProperties\": {\"type\": \"integer\"}}}]", cases[i].schema);
        pn_tools *t = tools_of(json);
        const uint32_t types = pn_tools_types(t, 0, pn_str_of("p"));
        if (types != cases[i].types) fail_msg("%s: %u", cases[i].schema, types);
        assert_int_equal(pn_tools_types(t, 0, pn_str_of("q")), 0);
        assert_int_equal(pn_tools_types(t, 1, pn_str_of("p")), 0);
        assert_int_equal(pn_tools_types(t, 2, pn_str_of("p")), I);
        assert_int_equal(pn_tools_types(t, 3, pn_str_of("p")), 0);
        pn_tools_free(t);
    }
}

/* ---- rendering ---- */

static ponder_status render(pn_template t, const pn_message *m, size_t n, const pn_render_options *o, pn_rendered *r, ponder_error *err)
{
    pn_rendered_init(r, NULL);
    return pn_render_turns(t, m, n, o, r, err);
}

static void expect_status(pn_template t, const pn_message *m, const pn_tools *tools, ponder_status want, const char *text)
{
    const pn_message both[] = {{.role = "user", .text = {"x", 1}}, *m};
    const pn_render_options o = {.first = true, .tools = tools};
    ponder_error err = {.size = sizeof err};
    pn_rendered r;
    const ponder_status st = render(t, both, 2, &o, &r, &err);
    if (st != want || !strstr(err.text, text)) fail_msg("%s: %d \"%s\", not %d \"%s\"", pn_template_name(t), st, err.text, want, text);
    pn_rendered_free(&r);
}

static void test_unsupported(void **state)
{
    static const pn_part image = {.kind = PN_PART_IMAGE}, video = {.kind = PN_PART_VIDEO}, audio = {.kind = PN_PART_AUDIO}, odd = {.kind = (pn_part_kind)7};
    const pn_message plain = {.role = "assistant", .text = {"y", 1}}, called = {.role = "assistant", .calls = pn_str_of("[{\"name\": \"f\"}]")};
    const pn_message see = {.role = "user", .parts = &image, .n_parts = 1}, watch = {.role = "user", .parts = &video, .n_parts = 1};
    const pn_message hear = {.role = "user", .parts = &audio, .n_parts = 1}, what = {.role = "user", .parts = &odd, .n_parts = 1};
    pn_tools *t = tools_of("[{\"name\": \"f\"}]"), *none = tools_of("[]");
    static const pn_template without[] = {PN_TEMPLATE_CHATML, PN_TEMPLATE_SMOLLM2, PN_TEMPLATE_QWEN2, PN_TEMPLATE_LLAMA3, PN_TEMPLATE_GEMMA2, PN_TEMPLATE_GEMMA};
    for (size_t i = 0; i < PN_COUNT(without); i++) {
        expect_status(without[i], &plain, t, PONDER_E_UNSUPPORTED, "takes no tools");
        expect_status(without[i], &plain, none, PONDER_OK, "");
        expect_status(without[i], &called, NULL, PONDER_E_UNSUPPORTED, "writes no calls");
        if (without[i] != PN_TEMPLATE_GEMMA) expect_status(without[i], &see, NULL, PONDER_E_UNSUPPORTED, "takes no image");
        expect_status(without[i], &watch, NULL, PONDER_E_UNSUPPORTED, "takes no video");
        expect_status(without[i], &hear, NULL, PONDER_E_UNSUPPORTED, "takes no audio");
    }
    expect_status(PN_TEMPLATE_QWEN3, &see, NULL, PONDER_E_UNSUPPORTED, "takes no image");
    expect_status(PN_TEMPLATE_MUSE, &hear, t, PONDER_OK, "");
    expect_status(PN_TEMPLATE_MUSE, &what, t, PONDER_E_RANGE, "7");
    pn_tools_free(t);
    pn_tools_free(none);
}

static bool has(const pn_rendered *r, const char *what)
{
    return memmem(r->text.p, r->text.n, what, strlen(what)) != NULL;
}

/* Marks are control text, what a user writes is not. */
static void test_parts(void **state)
{
    const pn_part parts[] = {{PN_PART_TEXT, {"<|patch|>", 9}}, {.kind = PN_PART_IMAGE}, {.kind = PN_PART_AUDIO}, {.kind = PN_PART_VIDEO}};
    const pn_message m = {.role = "user", .parts = parts, .n_parts = 4};
    const pn_render_options o = {0};
    pn_rendered r;
    assert_int_equal(render(PN_TEMPLATE_MUSE, &m, 1, &o, &r, NULL), PONDER_OK);
    assert_int_equal(r.n_spans, 3);
    assert_true(pn_str_eq((pn_str){r.text.p, r.text.n}, "<|start|>user<|message|><|patch|><|patch|><|audio|><|video|><|eot|>"));
    assert_int_equal(r.spans[1].n, 9);
    assert_false(r.spans[1].control);
    pn_rendered_free(&r);
    const pn_part texts[] = {{PN_PART_TEXT, {"a ", 2}}, {PN_PART_TEXT, {"", 0}}, {PN_PART_TEXT, {"b", 1}}};
    const pn_message joined = {.role = "user", .parts = texts, .n_parts = 3};
    assert_int_equal(render(PN_TEMPLATE_CHATML, &joined, 1, &o, &r, NULL), PONDER_OK);
    assert_true(pn_str_eq((pn_str){r.text.p, r.text.n}, "<|im_start|>user\na b<|im_end|>\n"));
    pn_rendered_free(&r);
}

/* What definitions may lack, and bare ones. */
static void test_definitions(void **state)
{
    pn_tools *bare = tools_of("[{\"name\": \"ns.f\"}, {\"name\": \"ns.g\", \"description\": null}, {\"name\": \"h\", \"description\": \"D\", \"parameters\": {\"type\": \"object\"}}]");
    pn_tools *wrapped = tools_of("[{\"type\": \"function\", \"function\": {\"name\": \"ns.f\"}}, {\"type\": \"function\", \"function\": {\"name\": \"ns.g\", \"description\": null}}, "
                                 "{\"type\": \"function\", \"function\": {\"name\": \"h\", \"description\": \"D\", \"parameters\": {\"type\": \"object\"}}}]");
    static const pn_template templates[] = {PN_TEMPLATE_MUSE, PN_TEMPLATE_QWEN2_5, PN_TEMPLATE_QWEN3, PN_TEMPLATE_LLAMA3_1};
    const pn_message m = {.role = "user", .text = {"x", 1}};
    pn_rendered a, b;
    for (size_t i = 0; i < PN_COUNT(templates); i++) {
        assert_int_equal(render(templates[i], &m, 1, &(pn_render_options){.first = true, .tools = bare}, &a, NULL), PONDER_OK);
        assert_int_equal(render(templates[i], &m, 1, &(pn_render_options){.first = true, .tools = wrapped}, &b, NULL), PONDER_OK);
        assert_int_equal(a.text.n, b.text.n);
        assert_memory_equal(a.text.p, b.text.p, a.text.n);
        if (i == 0) {
            assert_true(has(&a, "{\"name\": \"ns.f\", \"description\": \"\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}\n{\"name\": \"ns.g\", \"description\": \"\", "));
            assert_true(has(&a, "\"self\", \"ns.*\", \"h.*\", \"user\"."));
        } else {
            assert_true(has(&a, "\"type\": \"function\""));
        }
        pn_rendered_free(&a);
        pn_rendered_free(&b);
    }
    pn_tools_free(bare);
    pn_tools_free(wrapped);
}

/* A host's calls: arguments as an object or as its text, which stays inside its place. */
static void test_history(void **state)
{
    static const char *const good[] = {"[{\"id\": \"call_1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}}]",
                                       "[{\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"a\\\": \\\"x\\\"}\"}}]", "[{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}]"};
    static const char want[] = "<|start|>assistant to=f<|message|><atem:function_calls>\n<atem:invoke name=\"f\">\n<atem:parameter name=\"a\">x</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>";
    for (size_t i = 0; i < PN_COUNT(good); i++) {
        const pn_message m = {.role = "assistant", .calls = pn_str_of(good[i])};
        pn_rendered r;
        assert_int_equal(render(PN_TEMPLATE_MUSE, &m, 1, &(pn_render_options){0}, &r, NULL), PONDER_OK);
        assert_true(pn_str_eq((pn_str){r.text.p, r.text.n}, want));
        pn_rendered_free(&r);
    }
    static const char *const bad[] = {"{}", "[", "[5]", "[{\"arguments\": {}}]", "[{\"name\": \"f\", \"arguments\": [1]}]", "[{\"name\": \"f\", \"arguments\": \"[1]\"}]",
                                      "[{\"name\": \"f\", \"arguments\": \"{}, \\\"name\\\": \\\"g\\\"\"}]", "[{\"name\": \"f\", \"arguments\": \"{}}}, {\\\"function\\\": {\\\"name\\\": \\\"g\\\", \\\"arguments\\\": {}\"}]",
                                      "[{\"name\": \"f\", \"arguments\": \"{}}, \\\"x\\\": {\\\"y\\\": 1\"}]", "[{\"name\": \"f\", \"arguments\": \"\"}]"};
    for (size_t i = 0; i < PN_COUNT(bad); i++) {
        const pn_message m = {.role = "assistant", .calls = pn_str_of(bad[i])};
        pn_rendered r;
        if (render(PN_TEMPLATE_MUSE, &m, 1, &(pn_render_options){0}, &r, NULL) != PONDER_E_FORMAT) fail_msg("%s: %.*s", bad[i], (int)r.text.n, r.text.p);
        pn_rendered_free(&r);
    }
}

/* V#54186, MV#1884: the level is written where the template reads it, and nowhere else: flipping it changes that word only. */
static void test_effort(void **state)
{
    static const char *const levels[][2] = {{NULL, "high"}, {"", "high"}, {"low", "low"}, {"medium", "medium"}, {"xhigh", "xhigh"}, {"256", "256"}};
    static const pn_message given[] = {{.role = "system", .text = {"Be brief.", 9}}, {.role = "user", .text = {"x", 1}}};
    for (size_t first = 0; first < 2; first++) {
        pn_rendered high, r;
        assert_int_equal(render(PN_TEMPLATE_MUSE, given + first, 2 - first, &(pn_render_options){.first = true}, &high, NULL), PONDER_OK);
        const char *word = memmem(high.text.p, high.text.n, "Reasoning strength: high.", 25);
        assert_non_null(word);
        const size_t at = (size_t)(word - high.text.p) + 20;
        for (size_t i = 0; i < PN_COUNT(levels); i++) {
            const size_t n = strlen(levels[i][1]);
            assert_int_equal(render(PN_TEMPLATE_MUSE, given + first, 2 - first, &(pn_render_options){.first = true, .effort = levels[i][0]}, &r, NULL), PONDER_OK);
            assert_int_equal(r.text.n, high.text.n - 4 + n);
            assert_memory_equal(r.text.p, high.text.p, at);
            assert_memory_equal(r.text.p + at, levels[i][1], n);
            assert_memory_equal(r.text.p + at + n, high.text.p + at + 4, high.text.n - at - 4);
            pn_rendered_free(&r);
        }
        pn_rendered_free(&high);
    }
    const pn_message own = {.role = "system", .text = {"Reasoning effort: low", 21}}; /* scouzi1966/maclocal-api#178: the sentence is the switch */
    pn_rendered r;
    assert_int_equal(render(PN_TEMPLATE_MUSE, &own, 1, &(pn_render_options){.first = true, .effort = "xhigh"}, &r, NULL), PONDER_OK);
    assert_true(has(&r, "Reasoning strength: low\n") && !has(&r, "xhigh") && !has(&r, "effort"));
    pn_rendered_free(&r);
}

/* Muse: eot is the turn's end token, whatever the file's eos says. */
static void test_turn_end(void **state)
{
    assert_true(pn_str_eq(pn_template_turn_end(PN_TEMPLATE_MUSE), "<|eot|>"));
}

static void test_kinds(void **state)
{
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_MUSE), PN_PARSER_MUSE);
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_QWEN3), PN_PARSER_THINK);
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_CHATML), PN_PARSER_THINK);
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_LLAMA3_1), PN_PARSER_LLAMA3_1);
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_LLAMA3), PN_PARSER_PLAIN);
    assert_int_equal(pn_parser_kind_of(PN_TEMPLATE_NONE), PN_PARSER_PLAIN);
}

static ponder_status whole_life(const ponder_alloc *a)
{
    static const char json[] = "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"string\"}}}}, {\"type\": \"function\", \"function\": {\"name\": \"g\"}}]";
    static const pn_part parts[] = {{PN_PART_TEXT, {"a", 1}}, {.kind = PN_PART_IMAGE}, {PN_PART_TEXT, {"b", 1}}};
    const pn_message m[] = {{.role = "user", .parts = parts, .n_parts = 3}, {.role = "assistant", .thought = {"t", 1}, .calls = pn_str_of("[{\"name\": \"f\", \"arguments\": \"{}\"}]")},
                            {.role = "tool", .name = {"f", 1}, .text = {"r", 1}}};
    pn_tools *t;
    pn_rendered r;
    ponder_status st = pn_tools_read(&t, json, sizeof json - 1, a, NULL);
    pn_rendered_init(&r, a);
    if (st == PONDER_OK) st = pn_render_turns(PN_TEMPLATE_MUSE, m, 3, &(pn_render_options){.first = true, .generation_prompt = true, .tools = t}, &r, NULL);
    pn_rendered_free(&r);
    pn_tools_free(t);
    return st;
}

static void test_allocations(void **state)
{
    size_t rounds = 0;
    for (bool done = false; !done; rounds++) {
        counter c = {.fail_at = rounds + 1};
        const ponder_alloc a = counter_alloc(&c);
        const ponder_status st = whole_life(&a);
        done = c.calls < c.fail_at;
        assert_int_equal(st, done ? PONDER_OK : PONDER_E_NOMEM);
        assert_int_equal(c.live, 0);
    }
    assert_true(rounds > 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read), cmocka_unit_test(test_refused), cmocka_unit_test(test_limits), cmocka_unit_test(test_types),
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_parts), cmocka_unit_test(test_definitions), cmocka_unit_test(test_history),
        cmocka_unit_test(test_effort), cmocka_unit_test(test_turn_end), cmocka_unit_test(test_kinds), cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
