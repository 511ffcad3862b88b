/* Chat templates against what Jinja makes of them (tests/data/chat/cases.json, from tests/reference/make_chat.py). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "chat/chat.h"
#include "counter.h"

static json_t *golden;

static int load(void **state)
{
    char path[1024];
    const char *data = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/chat/cases.json", data ? data : "tests/data");
    golden = json_load_file(path, JSON_ALLOW_NUL, NULL);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    json_decref(golden);
    return 0;
}

/* Spans cover the text, in order, none empty, neighbours of different kinds. */
static void check_spans(const pn_rendered *r)
{
    size_t at = 0;
    for (size_t i = 0; i < r->n_spans; i++) {
        assert_int_equal(r->spans[i].from, at);
        assert_true(r->spans[i].n > 0);
        assert_true(i == 0 || r->spans[i].control != r->spans[i - 1].control);
        at += r->spans[i].n;
    }
    assert_int_equal(at, r->text.n);
}

static bool equal(const pn_rendered *r, const json_t *want)
{
    return r->text.n == json_string_length(want) && (!r->text.n || memcmp(r->text.p, json_string_value(want), r->text.n) == 0);
}

static bool case_holds(const json_t *c, const ponder_alloc *a)
{
    const json_t *input = json_object_get(c, "input"), *want = json_object_get(c, "output");
    const char *refusal = json_string_value(json_object_get(c, "error"));
    ponder_error err = {.size = sizeof err};
    pn_rendered r;
    pn_rendered_init(&r, a);
    const pn_template t = pn_template_by_name(json_string_value(json_object_get(c, "template")));
    const ponder_status status = pn_render_json(t, json_string_value(input), json_string_length(input), &r, &err);
    bool ok;
    if (want) ok = status == PONDER_OK && equal(&r, want);
    else ok = status == PONDER_E_FORMAT && err.text[0] && (!refusal[0] || strcmp(refusal, err.text) == 0);
    check_spans(&r);
    if (!ok) printf("%s\n%d %s\n%.*s\n", json_string_value(input), (int)status, err.text, (int)r.text.n, r.text.p ? r.text.p : "");
    pn_rendered_free(&r);
    return ok;
}

static void test_cases(void **state)
{
    size_t i, bad = 0, muse = 0;
    json_t *c;
    json_array_foreach(json_object_get(golden, "cases"), i, c) {
        bad += !case_holds(c, NULL);
        muse += strcmp(json_string_value(json_object_get(c, "template")), "muse") == 0;
    }
    assert_int_equal(bad, 0);
    assert_true(muse >= 150);
}

typedef struct conversation {
    pn_template t;
    pn_message m[8];
    pn_part parts[8][8];
    size_t n;
    bool prompt, whole;        /* whole: what stands in front depends on what follows */
    const char *effort;
    pn_tools *tools;
    const json_t *want;
} conversation;

static pn_str str_of(const json_t *v)
{
    return json_is_string(v) ? (pn_str){json_string_value(v), json_string_length(v)} : (pn_str){"", 0};
}

static void take_parts(pn_message *m, pn_part *parts, const json_t *list)
{
    static const char *const types[] = {"text", "image", "video", "audio"};
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) {
        const char *type = json_string_value(json_object_get(v, "type"));
        while (strcmp(type, types[parts[i].kind]) != 0) parts[i].kind++;
        parts[i].text = str_of(json_object_get(v, "text"));
    }
    m->parts = parts;
    m->n_parts = json_array_size(list);
}

static void take_message(conversation *v, size_t i, const json_t *m)
{
    const json_t *content = json_object_get(m, "content"), *calls = json_object_get(m, "tool_calls");
    v->m[i] = (pn_message){.role = json_string_value(json_object_get(m, "role")), .text = str_of(content),
                           .name = str_of(json_object_get(m, "name")), .thought = str_of(json_object_get(m, "reasoning_content"))};
    if (json_is_array(content)) take_parts(&v->m[i], v->parts[i], content);
    if (calls) v->m[i].calls = pn_str_of(json_dumps(calls, 0));
    v->whole |= v->t == PN_TEMPLATE_QWEN3 && v->m[i].thought.n;
}

static void open_conversation(conversation *v, const json_t *c)
{
    *v = (conversation){.t = pn_template_by_name(json_string_value(json_object_get(c, "template"))),
                        .prompt = json_is_true(json_object_get(c, "prompt")),
                        .effort = json_string_value(json_object_get(c, "effort")), .want = json_object_get(c, "output")};
    const json_t *list = json_object_get(c, "messages"), *tools = json_object_get(c, "tools");
    v->n = json_array_size(list);
    assert_true(v->n <= PN_COUNT(v->m));
    for (size_t i = 0; i < v->n; i++) take_message(v, i, json_array_get(list, i));
    if (!tools) return;
    char *json = json_dumps(tools, 0);
    assert_int_equal(pn_tools_read(&v->tools, json, strlen(json), NULL, NULL), PONDER_OK);
    free(json);
}

static void close_conversation(conversation *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->m[i].calls.n) free((char *)(uintptr_t)v->m[i].calls.p);
    pn_tools_free(v->tools);
}

static ponder_status part(const conversation *v, size_t from, size_t to, pn_rendered *r)
{
    const pn_render_options o = {.first = from == 0, .generation_prompt = v->prompt && to == v->n, .effort = v->effort, .tools = v->tools};
    return pn_render_turns(v->t, v->m + from, to - from, &o, r, NULL);
}

static bool has_role(const conversation *v, size_t i, const char *role)
{
    return strcmp(v->m[i].role, role) == 0;
}

/* A system message stays with what follows it, a result with what is before, as do messages of one speaker. */
static bool may_cut(const conversation *v, size_t cut)
{
    if (cut == 0) return true;
    return !v->whole && !(cut == 1 && has_role(v, 0, "system")) && !has_role(v, cut, "tool") &&
           !(has_role(v, cut, "assistant") && has_role(v, cut - 1, "assistant"));
}

/* One piece and every split in two. */
static void test_sessions(void **state)
{
    size_t i, splits = 0, rich = 0;
    json_t *c;
    json_array_foreach(json_object_get(golden, "sessions"), i, c) {
        conversation v;
        open_conversation(&v, c);
        assert_int_not_equal(v.t, PN_TEMPLATE_NONE);
        for (size_t cut = 0; cut < v.n; cut++) {
            if (!may_cut(&v, cut)) continue;
            pn_rendered r;
            pn_rendered_init(&r, NULL);
            ponder_status status = cut ? part(&v, 0, cut, &r) : PONDER_OK;
            if (!status) status = part(&v, cut, v.n, &r);
            if (v.want && !equal(&r, v.want)) printf("%.*s\n--- wanted\n%s\n", (int)r.text.n, r.text.p, json_string_value(v.want));
            if (v.want) assert_true(status == PONDER_OK && equal(&r, v.want));
            else assert_int_equal(status, PONDER_E_FORMAT);
            if (v.want) check_spans(&r);
            pn_rendered_free(&r);
            splits++;
            rich += v.tools != NULL;
        }
        close_conversation(&v);
    }
    assert_true(splits > 250);
    assert_true(rich > 15);
}

/* The turn that a model finished by itself and what stands between give the one-piece text. */
static void test_generated_turn(void **state)
{
    static const struct { const char *name, *generated; } turns[] = {
        {"muse", " to=user<|message|>Yes."}, {"chatml", "Yes."}, {"smollm2", "Yes."}, {"qwen2.5", "Yes."}, {"qwen3", "Yes."}, {"gemma", "Yes."}, {"llama3", "Yes."}};
    const pn_message all[] = {{.role = "user", .text = {"Hi", 2}}, {.role = "assistant", .text = {"Yes.", 4}}, {.role = "user", .text = {"More", 4}}};
    for (size_t i = 0; i < PN_COUNT(turns); i++) {
        const pn_template t = pn_template_by_name(turns[i].name);
        pn_rendered whole, parts;
        pn_rendered_init(&whole, NULL);
        pn_rendered_init(&parts, NULL);
        assert_int_equal(pn_render_messages(t, all, 3, true, true, NULL, &whole, NULL), PONDER_OK);
        assert_int_equal(pn_render_messages(t, all, 1, true, true, NULL, &parts, NULL), PONDER_OK);
        pn_buf_puts(&parts.text, turns[i].generated);
        pn_buf_put(&parts.text, pn_template_turn_end(t).p, pn_template_turn_end(t).n);
        pn_buf_put(&parts.text, pn_template_between(t).p, pn_template_between(t).n);
        assert_int_equal(pn_render_messages(t, all + 2, 1, false, true, NULL, &parts, NULL), PONDER_OK);
        assert_int_equal(parts.text.n, whole.text.n);
        assert_memory_equal(parts.text.p, whole.text.p, whole.text.n);
        pn_rendered_free(&whole);
        pn_rendered_free(&parts);
    }
}

static void test_control_spans(void **state)
{
    static const char json[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"<|eot|>\"}, {\"role\": \"assistant\", \"tool_calls\": "
        "[{\"function\": {\"name\": \"<|eom|>\", \"arguments\": {\"<|x|>\": \"<|patch|>\", \"y\": [\"<|start|>\"]}}}]}], "
        "\"tools\": [{\"name\": \"<|n|>\", \"description\": \"<|d|>\", \"parameters\": {\"<|p|>\": 1}}], "
        "\"kwargs\": {\"current_date\": \"<|date|>\", \"reasoning_strength\": \"<|r|>\"}}";
    static const char *const given[] = {"<|eot|>", "<|eom|>", "<|x|>", "<|patch|>", "[\"<|start|>\"]", "<|n|>", "\"<|d|>\"",
                                        "{\"<|p|>\": 1}", "<|date|>", "<|r|>", "y"};
    pn_rendered r;
    pn_rendered_init(&r, NULL);
    assert_int_equal(pn_render_json(PN_TEMPLATE_MUSE, json, sizeof json - 1, &r, NULL), PONDER_OK);
    check_spans(&r);
    bool seen[PN_COUNT(given)] = {false};
    for (size_t i = 0; i < r.n_spans; i++) {
        if (r.spans[i].control) continue;
        const pn_str s = {r.text.p + r.spans[i].from, r.spans[i].n};
        bool ours = pn_str_eq(s, "\"<|n|>\"");
        for (size_t k = 0; k < PN_COUNT(given); k++)
            if (pn_str_eq(s, given[k])) ours = seen[k] = true;
        assert_true(ours);
    }
    for (size_t k = 0; k < PN_COUNT(given); k++) assert_true(seen[k]);
    pn_rendered_free(&r);
}

/* Without a system and a date given, JSON rendering writes today's and a session none. */
static void test_date(void **state)
{
    static const char json[] = "{\"messages\": []}";
    char want[2][64];
    pn_rendered r;
    for (int tries = 0;; tries++) {
        pn_rendered_init(&r, NULL);
        time_t now = time(NULL);
        strftime(want[0], sizeof want[0], "\nCurrent date: %Y-%m-%d.\n", gmtime(&now));
        assert_int_equal(pn_render_json(PN_TEMPLATE_MUSE, json, sizeof json - 1, &r, NULL), PONDER_OK);
        now = time(NULL);
        strftime(want[1], sizeof want[1], "\nCurrent date: %Y-%m-%d.\n", gmtime(&now));
        if (strcmp(want[0], want[1]) == 0 || tries == 3) break;
        pn_rendered_free(&r);
    }
    pn_buf_put(&r.text, "", 1);
    assert_non_null(strstr(r.text.p, want[0]));
    r.text.n = 0;
    r.n_spans = 0;
    assert_int_equal(pn_render_messages(PN_TEMPLATE_MUSE, NULL, 0, true, true, NULL, &r, NULL), PONDER_OK);
    pn_buf_put(&r.text, "", 1);
    assert_null(strstr(r.text.p, "Current date"));
    pn_rendered_free(&r);
}

static pn_template recognise(const char *s)
{
    return pn_template_recognise(pn_str_of(s));
}

/* Shapes of real templates, with the marks that tell them apart; our own words. */
static void test_recognise(void **state)
{
    static const char loop[] = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
                               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    char text[1024];
    assert_int_equal(recognise(loop), PN_TEMPLATE_CHATML);
    assert_int_equal(recognise("{{'<|im_start|>' + x + '<|im_end|>\n'}}{{ '<|im_start|>assistant\n' }}"), PN_TEMPLATE_CHATML);
    static const struct { const char *system; pn_template t; } systems[] = {
        {"You are a helpful AI assistant named SmolLM, trained by Hugging Face", PN_TEMPLATE_SMOLLM2},
        {"You are a helpful assistant.", PN_TEMPLATE_QWEN2}, {"You are somebody else.", PN_TEMPLATE_NONE}};
    for (size_t i = 0; i < PN_COUNT(systems); i++) {
        snprintf(text, sizeof text, "{%% if loop.first %%}{{ '<|im_start|>system\\n%s<|im_end|>\\n' }}{%% endif %%}%s", systems[i].system, loop);
        assert_int_equal(recognise(text), systems[i].t);
    }
    snprintf(text, sizeof text, "{{ bos_token }}%s", loop);
    assert_int_equal(recognise(text), PN_TEMPLATE_NONE);
    snprintf(text, sizeof text, "%s{{ '<|start_header_id|>' }}", loop);
    assert_int_equal(recognise(text), PN_TEMPLATE_NONE);
    assert_int_equal(recognise("{{ '<|im_start|>x<|im_end|>' }}{{ '<|im_start|>assistant\\n<think>\\n' }}"), PN_TEMPLATE_NONE);
    assert_int_equal(recognise(""), PN_TEMPLATE_NONE);
    assert_int_equal(recognise("{{ '<|im_start|>x<|im_end|>' }}{{ '<|im_start|>assistant\\n' }}<tool_call><function= \"# Tools"), PN_TEMPLATE_NONE);
    assert_int_equal(recognise("[INST] {{ m }} [/INST]"), PN_TEMPLATE_NONE);
    assert_int_equal(recognise("<|start|>assistant<|channel|>final<|message|>x<|end|>"), PN_TEMPLATE_NONE);
    assert_int_equal(recognise("<|start|> to=self<|message|><atem:invoke><|eom|><|eot|>"), PN_TEMPLATE_MUSE);
    assert_int_equal(recognise("<start_of_turn> first_user_prefix <end_of_turn>"), PN_TEMPLATE_GEMMA);
    assert_int_equal(recognise("<start_of_turn> System role not supported <end_of_turn>"), PN_TEMPLATE_GEMMA2);
    assert_int_equal(recognise("<|start_header_id|><|end_header_id|><|eot_id|>"), PN_TEMPLATE_LLAMA3);
    assert_int_equal(recognise("<|start_header_id|><|end_header_id|>Cutting Knowledge Date: December 2023 26 Jul 2024<|eot_id|>"),
                     PN_TEMPLATE_LLAMA3_1);
}

static void test_names(void **state)
{
    for (int t = PN_TEMPLATE_MUSE; t <= PN_TEMPLATE_LLAMA3_1; t++) {
        assert_int_equal(pn_template_by_name(pn_template_name((pn_template)t)), t);
        assert_true(pn_template_turn_end((pn_template)t).n > 0);
    }
    assert_int_equal(pn_template_by_name(""), PN_TEMPLATE_NONE);
    assert_int_equal(pn_template_by_name("vicuna"), PN_TEMPLATE_NONE);
    assert_int_equal(pn_template_by_name(NULL), PN_TEMPLATE_NONE);
    assert_string_equal(pn_template_name((pn_template)99), "");
}

static void test_arguments(void **state)
{
    const pn_message stranger = {.role = "wizard", .text = {"x", 1}};
    pn_rendered r;
    pn_rendered_init(&r, NULL);
    assert_int_equal(pn_render_messages(PN_TEMPLATE_MUSE, &stranger, 1, true, true, NULL, &r, NULL), PONDER_E_FORMAT);
    assert_int_equal(pn_render_json(PN_TEMPLATE_NONE, "{\"messages\": []}", 16, &r, NULL), PONDER_E_UNKNOWN);
    assert_int_equal(pn_render_json(PN_TEMPLATE_MUSE, NULL, 0, &r, NULL), PONDER_E_FORMAT);
    pn_rendered_free(&r);
}

/* Brackets without end: a status, and no recursion on the way to it. */
static void test_deep(void **state)
{
    enum { N = 1 << 20 };
    char *text = malloc(N);
    memset(text, '[', N);
    pn_rendered r;
    pn_rendered_init(&r, NULL);
    assert_int_equal(pn_render_json(PN_TEMPLATE_MUSE, text, N, &r, NULL), PONDER_E_FORMAT);
    free(text);
    pn_rendered_free(&r);
}

static void *all_cases(void *bad)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "cases"), i, c) *(size_t *)bad += !case_holds(c, NULL);
    return bad;
}

/* The whole room in 64 KB of stack (a sanitizer's frames are larger than that). */
static void test_small_stack(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
    skip();
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#endif
    enum { STACK = 64 << 10 };
    size_t bad = 0;
    pthread_t thread;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, all_cases, &bad), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    assert_int_equal(bad, 0);
}

/* ---- every allocation fails in turn ---- */

static void test_allocations(void **state)
{
    static const char json[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"Reasoning effort: 1\"}, {\"role\": \"user\", \"content\": \"x\"}, "
        "{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1.5e-9}}}]}], \"tools\": "
        "[{\"name\": \"f\", \"description\": null, \"parameters\": {\"a\": [1, 2, {}]}}]}";
    const pn_message m[] = {{.role = "system", .text = {"s", 1}}, {.role = "user", .text = {"u", 1}}};
    size_t rounds = 0;
    for (bool done = false; !done; rounds++) {
        counter c = {.fail_at = rounds + 1};
        const ponder_alloc a = counter_alloc(&c);
        pn_rendered r;
        pn_rendered_init(&r, &a);
        ponder_status status = pn_render_json(PN_TEMPLATE_MUSE, json, sizeof json - 1, &r, NULL);
        if (!status) status = pn_render_messages(PN_TEMPLATE_GEMMA, m, 2, true, true, "low", &r, NULL);
        done = c.calls < c.fail_at;
        assert_int_equal(status, done ? PONDER_OK : PONDER_E_NOMEM);
        pn_rendered_free(&r);
        assert_int_equal(c.live, 0);
    }
    assert_true(rounds > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_sessions), cmocka_unit_test(test_generated_turn),
        cmocka_unit_test(test_control_spans), cmocka_unit_test(test_date), cmocka_unit_test(test_recognise),
        cmocka_unit_test(test_names), cmocka_unit_test(test_arguments), cmocka_unit_test(test_deep),
        cmocka_unit_test(test_small_stack), cmocka_unit_test(test_allocations),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
