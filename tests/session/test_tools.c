/* Channels, tools and bound answers, on a small model that thinks: what the host is told, and what the model may write. */
#include "use.h"

typedef struct seen {
    char thought[MOST_TEXT], answer[MOST_TEXT], raw[MOST_TEXT], call_name[256], call[MOST_TEXT];
    size_t n_thought, n_answer, n_raw;
    uint32_t calls, events;
    uint64_t thought_message, answer_message;
    ponder_event done;
} seen;

static void put(char *to, size_t *n, const ponder_event *e)
{
    assert_true(*n + e->text_bytes < MOST_TEXT);
    memcpy(to + *n, e->text, e->text_bytes);
    *n += e->text_bytes;
    to[*n] = 0;
}

static int32_t watch(void *user, const ponder_event *e)
{
    seen *s = user;
    s->events++;
    switch (e->kind) {
    case PONDER_EVENT_THOUGHT: put(s->thought, &s->n_thought, e); s->thought_message = e->message; break;
    case PONDER_EVENT_ANSWER: put(s->answer, &s->n_answer, e); s->answer_message = e->message; break;
    case PONDER_EVENT_RAW: put(s->raw, &s->n_raw, e); break;
    case PONDER_EVENT_TOOL_CALL:
        s->calls++;
        snprintf(s->call_name, sizeof s->call_name, "%.*s", (int)e->name_bytes, e->name);
        snprintf(s->call, sizeof s->call, "%.*s", (int)e->text_bytes, e->text);
        break;
    case PONDER_EVENT_DONE: s->done = *e; break;
    default: fail_msg("an event of kind %d", e->kind);
    }
    return 0;
}

static ponder_config *thinking_config(void)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 120));
    return c;
}

static void thoughts_and_answers_are_told_apart(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    static seen whole, sliced;
    memset(&whole, 0, sizeof whole);
    memset(&sliced, 0, sizeof sliced);
    add(s, "user", "From 3 do 1p2t");
    OK(ponder_session_generate(s, watch, &whole));
    assert_true(whole.n_thought > 0 && whole.n_answer > 0);
    assert_null(strchr(whole.answer, '<'));
    assert_null(strstr(whole.answer, "to="));
    assert_null(strstr(whole.thought, "to="));
    assert_int_equal(whole.done.end, PONDER_END_EOS);
    assert_int_equal(whole.calls + whole.n_raw, 0);
    assert_int_equal(whole.thought_message, 0);
    assert_int_equal(whole.answer_message, 1);
    assert_int_equal(whole.done.message, 2);
    /* The thought's tokens: those between <|message|> and <|eom|>, counted in the ids. */
    ids v = tokens_of(s);
    size_t from = v.n - (size_t)whole.done.output_tokens, thought = 0;
    bool inside = false;
    for (size_t i = from; i < v.n; i++) {
        if (v.id[i] == 391) break; /* <|eom|> */
        if (inside) thought++;
        if (v.id[i] == 395) inside = true; /* <|message|> */
    }
    assert_int_equal(whole.done.thought_tokens, thought);
    /* The same turn in the shortest slices. */
    ponder_session *t = new_session(m, c);
    add(t, "user", "From 3 do 1p2t");
    ponder_event e = {.size = sizeof e};
    ponder_status st;
    do {
        st = ponder_session_step(t, 0, &e);
        if (st == PONDER_OK) watch(&sliced, &e);
    } while (st == PONDER_MORE || (st == PONDER_OK && e.kind != PONDER_EVENT_DONE));
    OK(st);
    assert_string_equal(whole.thought, sliced.thought);
    assert_string_equal(whole.answer, sliced.answer);
    ponder_session_free(s);
    ponder_session_free(t);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* A turn cut in its thought goes on there: the second part's answer is the whole turn's. */
static void a_cut_thought_goes_on(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c), *t = new_session(m, c), *fork;
    static seen whole, first, rest, forked;
    memset(&whole, 0, sizeof whole);
    memset(&first, 0, sizeof first);
    memset(&rest, 0, sizeof rest);
    memset(&forked, 0, sizeof forked);
    add(s, "user", "From 3 do 1p2t");
    OK(ponder_session_generate(s, watch, &whole));
    add(t, "user", "From 3 do 1p2t");
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 10));
    OK(ponder_session_configure(t, c));
    OK(ponder_session_generate(t, watch, &first));
    assert_int_equal(first.done.end, PONDER_END_LENGTH);
    assert_int_equal(first.n_answer, 0);
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
    OK(ponder_session_configure(t, c));
    OK(ponder_session_fork(&fork, t, NULL));
    OK(ponder_session_generate(t, watch, &rest));
    OK(ponder_session_generate(fork, watch, &forked));
    assert_string_equal(whole.answer, rest.answer);
    assert_string_equal(whole.answer, forked.answer);
    strcat(first.thought, rest.thought);
    assert_string_equal(whole.thought, first.thought);
    ponder_session_free(s);
    ponder_session_free(t);
    ponder_session_free(fork);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- bound answers --------------------------------------------------------------------------------- */

static void a_schema_binds_the_answer_alone(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"state\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":7},"
                                 "\"sure\":{\"type\":\"boolean\"},\"word\":{\"enum\":[\"one\",\"two\"]}},"
                                 "\"required\":[\"state\",\"sure\",\"word\"],\"additionalProperties\":false}";
    ponder_config *c = thinking_config();
    ponder_model *m = open_model("seed0", c);
    for (int seed = 0; seed < 20; seed++) {
        OK(ponder_config_set_str(c, PONDER_P_SCHEMA, seed % 4 == 3 ? "" : schema));
        OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, seed == 0 ? 0 : seed % 3 ? 1.5 : 4)); /* hot: it would write anything */
        OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
        OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 400));
        ponder_session *s = new_session(m, c);
        static seen got;
        memset(&got, 0, sizeof got);
        add(s, "user", "From 3 do 1p2t");
        if (ponder_session_generate(s, watch, &got) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
        if (got.done.end == PONDER_END_EOS && seed % 4 != 3) {
            json_t *v = json_loads(got.answer, 0, NULL);
            if (!v) fail_msg("seed %d: no JSON: %s", seed, got.answer);
            assert_true(json_is_integer(json_object_get(v, "state")));
            assert_in_range(json_integer_value(json_object_get(v, "state")), 0, 7);
            assert_true(json_is_boolean(json_object_get(v, "sure")));
            assert_int_equal(json_object_size(v), 3);
            json_decref(v);
        }
        if (seed == 0) assert_int_equal(got.done.end, PONDER_END_EOS);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

static void a_pattern_binds_the_answer(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    OK(ponder_config_set_str(c, PONDER_P_REGEX, "(yes|no), [0-9]{3}"));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    static seen got;
    memset(&got, 0, sizeof got);
    add(s, "user", "Add 1+2");
    OK(ponder_session_generate(s, watch, &got));
    assert_int_equal(got.done.end, PONDER_END_EOS);
    assert_true(!strncmp(got.answer, "yes, ", 5) || !strncmp(got.answer, "no, ", 4));
    assert_int_equal(strlen(strchr(got.answer, ' ')), 4);
    OK(ponder_config_set_str(c, PONDER_P_REGEX, "(?=x)"));
    assert_true(ponder_session_configure(s, c) < 0);
    assert_true(strlen(ponder_session_error(s)) > 5);
    OK(ponder_config_set_str(c, PONDER_P_REGEX, "x"));
    OK(ponder_config_set_str(c, PONDER_P_SCHEMA, "{}"));
    assert_int_equal(ponder_session_configure(s, c), PONDER_E_ARGUMENT);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- tools ------------------------------------------------------------------------------------------ */

static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"lamp.set\",\"description\":\"Sets a lamp.\",\"parameters\":"
                            "{\"type\":\"object\",\"properties\":{\"on\":{\"type\":\"boolean\"},\"room\":{\"enum\":[\"hall\",\"attic\"]}},"
                            "\"required\":[\"on\",\"room\"],\"additionalProperties\":false}}}]";

/* A raw prompt opens a call; the tool's schema leaves the model no choice but to make it a right one. */
static ponder_session *session_in_a_call(ponder_model *m, ponder_config *c)
{
    static const char prompt[] = "<|begin_of_text|><|start|>user<|message|>Light!<|eot|><|start|>assistant to=lamp.set<|message|>";
    ponder_session *s = new_session(m, c);
    if (ponder_session_tools(s, tools, sizeof tools - 1) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    OK(ponder_session_prompt(s, prompt, sizeof prompt - 1, PONDER_TOKENIZE_SPECIAL));
    return s;
}

static void strict_tools_make_right_calls(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 300));
    ponder_model *m = open_model("seed0", c);
    for (int seed = 0; seed < 5; seed++) {
        OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
        OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
        ponder_session *s = session_in_a_call(m, c);
        static seen got;
        memset(&got, 0, sizeof got);
        if (ponder_session_generate(s, watch, &got) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
        assert_true(got.calls >= 1);
        assert_string_equal(got.call_name, "lamp.set");
        json_t *v = json_loads(got.call, 0, NULL);
        if (!v) fail_msg("no JSON: %s", got.call);
        assert_true(json_is_boolean(json_object_get(v, "on")));
        const char *room = json_string_value(json_object_get(v, "room"));
        assert_true(room && (!strcmp(room, "hall") || !strcmp(room, "attic")));
        json_decref(v);
        assert_int_equal(got.n_raw, 0);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

typedef struct loop {
    seen seen;
    uint32_t answered;
} loop;

static int32_t watch_loop(void *user, const ponder_event *e) { return watch(&((loop *)user)->seen, e); }

static int32_t on_call(void *user, ponder_session *s, const ponder_event *call)
{
    loop *l = user;
    assert_int_equal(call->kind, PONDER_EVENT_TOOL_CALL);
    assert_true(call->name_bytes == 8 && !memcmp(call->name, "lamp.set", 8));
    l->answered++;
    OK(ponder_session_add_result(s, "lamp.set", "done", 4));
    return 0;
}

static void the_loop_answers_calls(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 300));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 2048));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = session_in_a_call(m, c);
    static loop l;
    memset(&l, 0, sizeof l);
    ponder_status st = ponder_session_run(s, watch_loop, on_call, &l, 1);
    if (st != PONDER_MORE) fail_msg("%d: %s", st, ponder_session_error(s));
    assert_int_equal(l.answered, 0);
    ponder_session_free(s);
    s = session_in_a_call(m, c);
    memset(&l, 0, sizeof l);
    st = ponder_session_run(s, watch_loop, on_call, &l, 2);
    assert_true(st == PONDER_OK || st == PONDER_MORE);
    assert_true(l.answered >= 1);
    /* The result stands in the conversation as the template writes it. */
    ids v = tokens_of(s);
    static char text[MOST_TEXT];
    size_t n = text_of_ids(m, v.id, v.n, true, text);
    text[n] = 0;
    assert_non_null(strstr(text, "<|start|>tool lamp.set<|message|><tool_output name=\"lamp.set\">\ndone\n</tool_output><|eot|><|start|>assistant"));
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

static void tools_are_told_to_the_model(void **state)
{
    (void)state;
    ponder_config *c = thinking_config();
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 2048));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    OK(ponder_session_tools(s, tools, sizeof tools - 1));
    add(s, "user", "Add 1+2");
    OK(ponder_session_prefill(s, UINT64_MAX));
    ids v = tokens_of(s);
    static char text[MOST_TEXT];
    size_t n = text_of_ids(m, v.id, v.n, true, text);
    text[n] = 0;
    assert_non_null(strstr(text, "{\"name\": \"lamp.set\", \"description\": \"Sets a lamp.\""));
    assert_non_null(strstr(text, "# Valid recipients: \"self\", \"lamp.*\", \"user\"."));
    assert_int_equal(ponder_session_tools(s, tools, sizeof tools - 1), PONDER_E_STATE);
    ponder_session_free(s);
    s = new_session(m, c);
    static const char twice[] = "[{\"name\":\"a.b\"},{\"name\":\"a.b\"}]";
    assert_true(ponder_session_tools(s, twice, sizeof twice - 1) < 0);
    assert_non_null(strstr(ponder_session_error(s), "a.b"));
    assert_true(ponder_session_tools(s, "[{", 2) < 0);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* The library's own tool: a part of a picture comes back as a further picture, or a text that says why not. */
static void looking_closer(void **state)
{
    (void)state;
    static const char call[] = " to=image.zoom<|message|>";
    static const char whole_call[] =
        " to=image.zoom<|message|><atem:function_calls>\n<atem:invoke name=\"image.zoom\">\n<atem:parameter name=\"image\">1</atem:parameter>\n"
        "<atem:parameter name=\"x_min\">100</atem:parameter>\n<atem:parameter name=\"y_min\">100</atem:parameter>\n<atem:parameter name=\"x_max\">"
        "600</atem:parameter>\n<atem:parameter name=\"y_max\">700</atem:parameter>\n</atem:invoke>\n</atem:function_calls";
    ponder_config *c = thinking_config();
    OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_LOOK_CLOSER, 1));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 1000));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 6000));
    ponder_model *m = open_model("seed0", c);
    ponder_image *im;
    static uint8_t pixels[90 * 120 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 7);
    ponder_view v = {.size = sizeof v, .pixels = pixels, .width = 120, .height = 90, .stride = 360, .format = PONDER_RGB};
    OK(ponder_image_open_view(&im, &v, c));
    uint32_t seen_parts = 0, refused = 0;
    for (int seed = 0; seed < 6; seed++) {
        OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
        OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
        ponder_session *s = new_session(m, c);
        OK(ponder_session_attach_image(s, im));
        add(s, "user", "Look!");
        const char *said = seed % 2 ? call : whole_call; /* the model has its last byte to write, or all of the call */
        if (ponder_session_prompt(s, said, strlen(said), PONDER_TOKENIZE_SPECIAL) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
        ids before = tokens_of(s);
        static loop l;
        memset(&l, 0, sizeof l);
        ponder_status st = ponder_session_run(s, watch_loop, NULL, &l, 2);
        if (st < 0) fail_msg("%s", ponder_session_error(s));
        assert_true(l.seen.calls >= 1);
        ids after = tokens_of(s);
        static char text[MOST_TEXT];
        size_t n = text_of_ids(m, after.id + before.n, after.n - before.n, true, text);
        text[n] = 0;
        const char *result = strstr(text, "<tool_output name=\"image.zoom\">\n");
        assert_non_null(result);
        bool picture = strstr(result, "<|image_start|><|patch|>") != NULL, refusal = strstr(result, "counted from 1") != NULL;
        assert_true(picture || refusal);
        if (seed % 2 == 0) assert_true(picture);
        seen_parts += picture;
        refused += refusal;
        ponder_session_free(s);
    }
    printf("parts shown %u, refused %u\n", seen_parts, refused);
    ponder_image_free(im);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* Two comments in a row are two messages, and what was cut off belongs to one that did not end. */
static void messages_are_numbered(void **state)
{
    (void)state;
    static const char stream[] = " to=commentary<|message|>One.<|eom|><|start|>assistant to=commentary<|message|>Two.<|eom|><|start|>assistant to=user<|message|>Three.<|eot|>"
                                 "<|start|>assistant to=commentary<|message|>Again";
    static const struct { int32_t kind; uint64_t message; const char *text; } want[] = {{PONDER_EVENT_COMMENTARY, 0, "One."}, {PONDER_EVENT_COMMENTARY, 1, "Two."},
        {PONDER_EVENT_ANSWER, 2, "Three."}, {PONDER_EVENT_DONE, 3, ""}, {PONDER_EVENT_COMMENTARY, 0, "Again"}};
    for (size_t piece = 1; piece < sizeof stream; piece++) {
        ponder_parser *p;
        size_t at = 0, n = 0;
        char text[64] = "";
        OK(ponder_parser_new(&p, "muse", NULL, 0, NULL));
        while (at < sizeof stream) {
            ponder_event e = {.size = sizeof e};
            const size_t left = sizeof stream - 1 - at, take = left < piece ? left : piece;
            OK(ponder_parser_feed(p, take ? stream + at : NULL, take));
            at += take ? take : 1;
            while (ponder_parser_next(p, &e) == PONDER_OK) {
                if (n == 0 || e.kind != want[n - 1].kind || e.message != want[n - 1].message) {
                    if (n) assert_string_equal(text, want[n - 1].text);
                    assert_in_range(n, 0, 4);
                    assert_int_equal(e.kind, want[n].kind);
                    assert_int_equal(e.message, want[n].message);
                    n++;
                    text[0] = 0;
                }
                strncat(text, e.text, e.text_bytes);
            }
        }
        assert_int_equal(n, 5);
        assert_string_equal(text, "Again");
        ponder_parser_free(p);
    }
}

/* ---- the parser by itself ------------------------------------------------------------------------------- */

static void the_parser_gives_the_same_at_every_split(void **state)
{
    (void)state;
    static const char stream[] = " to=self<|message|>Hm, \xc3\xa4.<|eom|><|start|>assistant to=lamp.set<|message|><atem:function_calls>\n"
                                 "<atem:invoke name=\"lamp.set\">\n<atem:parameter name=\"on\">true</atem:parameter>\n"
                                 "<atem:parameter name=\"room\">hall</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eom|>"
                                 "<|start|>assistant to=user<|message|>Done.<|eot|>";
    for (size_t piece = 1; piece < sizeof stream; piece += piece < 8 ? 1 : 37) {
        ponder_parser *p;
        static seen got;
        memset(&got, 0, sizeof got);
        OK(ponder_parser_new(&p, "muse", tools, sizeof tools - 1, NULL));
        ponder_event e = {.size = sizeof e};
        for (size_t at = 0; at <= sizeof stream - 1; at += piece) {
            size_t n = sizeof stream - 1 - at < piece ? sizeof stream - 1 - at : piece;
            if (n) OK(ponder_parser_feed(p, stream + at, n));
            while (ponder_parser_next(p, &e) == PONDER_OK) watch(&got, &e);
        }
        OK(ponder_parser_feed(p, NULL, 0));
        while (ponder_parser_next(p, &e) == PONDER_OK) watch(&got, &e);
        assert_string_equal(got.thought, "Hm, \xc3\xa4.");
        assert_string_equal(got.answer, "Done.");
        assert_string_equal(got.call_name, "lamp.set");
        assert_int_equal(got.calls, 1);
        json_t *v = json_loads(got.call, 0, NULL);
        assert_true(json_is_true(json_object_get(v, "on")));
        assert_string_equal(json_string_value(json_object_get(v, "room")), "hall");
        json_decref(v);
        assert_int_equal(got.done.end, PONDER_END_EOS);
        assert_string_equal(ponder_parser_error(p), "");
        assert_int_equal(ponder_parser_feed(p, "x", 1), PONDER_E_STATE);
        assert_non_null(strstr(ponder_parser_error(p), "ended"));
        ponder_parser_free(p);
    }
    ponder_parser *p;
    assert_int_equal(ponder_parser_new(&p, "nothing", NULL, 0, NULL), PONDER_E_UNKNOWN);
    assert_null(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thoughts_and_answers_are_told_apart), cmocka_unit_test(a_cut_thought_goes_on),
        cmocka_unit_test(a_schema_binds_the_answer_alone), cmocka_unit_test(a_pattern_binds_the_answer),
        cmocka_unit_test(strict_tools_make_right_calls), cmocka_unit_test(the_loop_answers_calls),
        cmocka_unit_test(tools_are_told_to_the_model), cmocka_unit_test(looking_closer), cmocka_unit_test(the_parser_gives_the_same_at_every_split), cmocka_unit_test(messages_are_numbered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
