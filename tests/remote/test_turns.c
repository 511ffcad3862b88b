/* Turns over a scripted server: events, requests, settings, conversations. */
#include "use.h"

/* ---- events -------------------------------------------------------------------------------------------- */

static const char everything[] =
    CHUNK("{\"role\":\"assistant\",\"content\":null}") CHUNK("{\"reasoning_content\":\"I th\\u00e9\"}") CHUNK("{\"reasoning_content\":\"nk.\"}")
    CHUNK("{\"content\":\"It is \"}") CHUNK("{\"content\":\"7\"}")
    CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"add\",\"arguments\":\"{\\\"a\\\"\"}}]}")
    CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\": 1}\"}}]}")
    CHUNK("{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"function\":{\"name\":\"bad\",\"arguments\":\"{\"}}]}") FINISH("tool_calls")
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,\"prompt_tokens_details\":{\"cached_tokens\":8},"
    "\"completion_tokens_details\":{\"reasoning_tokens\":4}}}\n\n" DONE;

static bool in_pieces(test_server *s, test_request *r)
{
    const size_t piece = *(const size_t *)s->user;
    return test_stream_head(r->fd) && test_stream(r->fd, everything, piece) && test_stream_end(r->fd);
}

static void test_events(void **state)
{
    (void)state;
    static const size_t pieces[] = {1, 2, 3, 7, 64, 100000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        test_server s;
        size_t piece = pieces[i];
        test_server_start(&s, in_pieces, &piece, models_llama);
        ponder_model *m = open_remote(s.url, NULL);
        ponder_session *session = new_session(m, NULL);
        ask(session, "?");
        told t = generate(session);
        assert_int_equal(t.st, PONDER_OK);
        assert_string_equal(t.thought, "I th\xc3\xa9nk.");
        assert_string_equal(t.answer, "It is 7");
        assert_string_equal(t.calls, "add{\"a\": 1};");
        assert_string_equal(t.raw, "bad({)");
        assert_int_equal(t.done.end, PONDER_END_EOS);
        assert_int_equal(t.done.prompt_tokens, 12);
        assert_int_equal(t.done.reused_tokens, 8);
        assert_int_equal(t.done.output_tokens, 9);
        assert_int_equal(t.done.thought_tokens, 4);
        assert_int_equal(t.done.calls, 1);
        ponder_session_free(session);
        ponder_model_free(m);
        test_server_stop(&s);
    }
}

/* One stream, said once; what becomes of it. */
typedef struct script {
    const char *stream;
    int cut; /* 1: no chunk that ends; the connection is reset */
} script;

static bool play(test_server *s, test_request *r)
{
    const script *p = s->user;
    if (!test_stream_head(r->fd) || !test_stream(r->fd, p->stream, 4096)) return false;
    if (p->cut) return test_reset(r->fd), false;
    return test_stream_end(r->fd);
}

static told play_once(const char *stream, const char *models, ponder_config *c)
{
    test_server s;
    script p = {stream, 0};
    test_server_start(&s, play, &p, models);
    ponder_model *m = open_remote(s.url, c);
    ponder_session *session = new_session(m, c);
    ask(session, "?");
    told t = generate(session);
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
    return t;
}

static void test_ends(void **state)
{
    (void)state;
    ponder_config *c = new_config();
    told t = play_once(CHUNK("{\"content\":\"x\"}") FINISH("stop") DONE, models_openai, NULL);
    assert_int_equal(t.done.end, PONDER_END_EOS);
    t = play_once(CHUNK("{\"content\":\"x\"}") FINISH("length") DONE, models_openai, NULL);
    assert_int_equal(t.done.end, PONDER_END_CONTEXT); /* no limit was set: it can only be the context */
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 2));
    t = play_once(CHUNK("{\"content\":\"x\"}") CHUNK("{\"content\":\"x\"}") FINISH("length") DONE, models_openai, c);
    assert_int_equal(t.done.end, PONDER_END_LENGTH);
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
    t = play_once(CHUNK("{\"content\":\"x\"}") FINISH("content_filter") DONE, models_openai, NULL);
    assert_int_equal(t.done.end, PONDER_END_FAILED);
    assert_int_equal(t.st, PONDER_E_IO);
    assert_non_null(strstr(t.text, "content_filter"));
    t = play_once(CHUNK("{\"content\":\"x\"}") DONE, models_openai, NULL); /* no reason, but a proper end */
    assert_int_equal(t.done.end, PONDER_END_EOS);
    t = play_once(CHUNK("{\"content\":\"x\"}"), models_openai, NULL); /* cut, though politely */
    assert_int_equal(t.st, PONDER_E_IO);
    t = play_once(CHUNK("{\"content\":\"x\"}") "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", models_openai, NULL);
    assert_int_equal(t.st, PONDER_E_IO);
    assert_non_null(strstr(t.text, "out of memory"));
    ponder_config_free(c);
}

/* Stop strings are looked for here: no byte of one is reported, wherever the stream is cut. */
static void test_stop(void **state)
{
    (void)state;
    ponder_config *c = new_config();
    OK(ponder_config_set_str(c, PONDER_P_STOP, "END"));
    told t = play_once(CHUNK("{\"content\":\"one E\"}") CHUNK("{\"content\":\"N\"}") CHUNK("{\"content\":\"D two\"}") CHUNK("{\"content\":\"three\"}") FINISH("stop") DONE,
                       models_openai, c);
    assert_int_equal(t.st, PONDER_OK);
    assert_string_equal(t.answer, "one ");
    assert_int_equal(t.done.end, PONDER_END_STOP);
    t = play_once(CHUNK("{\"content\":\"one E\"}") CHUNK("{\"content\":\"N\"}") FINISH("stop") DONE, models_openai, c);
    assert_string_equal(t.answer, "one EN");
    ponder_config_free(c);
}

/* A server that leaves the model's markup in its text. */
static void test_markup(void **state)
{
    (void)state;
    ponder_config *c = new_config();
    OK(ponder_config_set_str(c, PONDER_P_TEMPLATE, "muse"));
    told t = play_once(CHUNK("{\"content\":\" to\"}") CHUNK("{\"content\":\"=self<|message|>Hm\"}") CHUNK("{\"content\":\".<|eom|><|start|>assistant to=user<|mess\"}")
                       CHUNK("{\"content\":\"age|>B\"}") FINISH("stop") DONE, models_vllm, c);
    assert_string_equal(t.thought, "Hm.");
    assert_string_equal(t.answer, "B");
    assert_true(t.done.thought_tokens > 0);
    /* ... and one that takes it apart */
    t = play_once(CHUNK("{\"reasoning\":\"Hm.\"}") CHUNK("{\"content\":\"B\"}") FINISH("stop") DONE, models_vllm, c);
    assert_string_equal(t.thought, "Hm.");
    assert_string_equal(t.answer, "B");
    OK(ponder_config_set_str(c, PONDER_P_TEMPLATE, "qwen3"));
    t = play_once(CHUNK("{\"content\":\"<th\"}") CHUNK("{\"content\":\"ink>Hm.</think>B\"}") FINISH("stop") DONE, models_openai, c);
    assert_string_equal(t.thought, "Hm.");
    assert_string_equal(t.answer, "B");
    ponder_config_free(c);
    c = new_config(); /* markers of its own */
    OK(ponder_config_set_str(c, PONDER_P_THINK_OPEN, "[["));
    OK(ponder_config_set_str(c, PONDER_P_THINK_CLOSE, "]]"));
    t = play_once(CHUNK("{\"content\":\"[\"}") CHUNK("{\"content\":\"[Hm.]]B\"}") FINISH("stop") DONE, models_openai, c);
    assert_string_equal(t.thought, "Hm.");
    assert_string_equal(t.answer, "B");
    ponder_config_free(c);
    /* nobody has said what it is: text is text */
    t = play_once(CHUNK("{\"content\":\"<think>Hm.</think>B\"}") FINISH("stop") DONE, models_openai, NULL);
    assert_string_equal(t.answer, "<think>Hm.</think>B");
}

/* ---- requests ---------------------------------------------------------------------------------------------- */

static bool say_hello(test_server *s, test_request *r)
{
    (void)s;
    return test_say(r, "hello");
}

static void check_real(json_t *body, const char *name, double v)
{
    json_t *got = json_object_get(body, name);
    if (!got || json_number_value(got) != v) fail_msg("%s: %g", name, got ? json_number_value(got) : -999);
}

static void check_text(json_t *at, const char *name, const char *v)
{
    const char *got = json_string_value(json_object_get(at, name));
    assert_non_null(got);
    assert_string_equal(got, v);
}

static const char tools[] = "[{\"name\": \"add\", \"parameters\": {\"type\": \"object\"}}, {\"type\": \"function\", \"function\": {\"name\": \"g\", \"description\": \"[]{}\\\"\"}}]";

static void test_settings(void **state)
{
    (void)state;
    static const struct { const char *models, *name, *repeat, *most; } kinds[] = {
        {models_vllm, "v-model", "repetition_penalty", "max_tokens"}, {models_llama, "l-model", "repeat_penalty", "max_tokens"},
        {models_openai, "plain-model", NULL, "max_completion_tokens"}};
    for (size_t i = 0; i < 3; i++) {
        test_server s;
        ponder_config *c = new_config();
        test_server_start(&s, say_hello, NULL, kinds[i].models);
        OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 0.7));
        OK(ponder_config_set_f64(c, PONDER_P_TOP_P, 0.9));
        OK(ponder_config_set_i64(c, PONDER_P_SEED, 42));
        OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 99));
        OK(ponder_config_set_str(c, PONDER_P_EFFORT, "low"));
        OK(ponder_config_set_str(c, PONDER_P_SCHEMA, "{\"type\": \"object\"}"));
        OK(ponder_config_set_str(c, PONDER_P_REMOTE_BODY, " {\"user\": \"me\"} "));
        OK(ponder_config_set_f64(c, PONDER_P_PRESENCE_PENALTY, 0.5));
        if (kinds[i].repeat) {
            OK(ponder_config_set_i64(c, PONDER_P_TOP_K, 20));
            OK(ponder_config_set_f64(c, PONDER_P_MIN_P, 0.05));
            OK(ponder_config_set_f64(c, PONDER_P_REPEAT_PENALTY, 1.1));
        }
        ponder_model *m = open_remote(s.url, c);
        ponder_session *session = new_session(m, c);
        OK(ponder_session_tools(session, tools, sizeof tools - 1));
        OK(ponder_session_add(session, "system", "S \"quoted\"\n", 11));
        ask(session, "U");
        assert_int_equal(generate(session).st, PONDER_OK);
        json_t *b = body_of(&s);
        check_text(b, "model", kinds[i].name);
        check_text(b, "user", "me");
        check_real(b, "temperature", 0.7);
        check_real(b, "top_p", 0.9);
        check_real(b, "seed", 42);
        check_real(b, kinds[i].most, 99);
        check_real(b, "presence_penalty", 0.5);
        check_text(b, "reasoning_effort", "low");
        assert_true(json_is_true(json_object_get(b, "stream")));
        if (kinds[i].repeat) {
            check_real(b, "top_k", 20);
            check_real(b, "min_p", 0.05);
            check_real(b, kinds[i].repeat, 1.1);
            check_text(json_object_get(b, "chat_template_kwargs"), "reasoning_strength", "low");
        } else {
            assert_null(json_object_get(b, "top_k"));
            assert_null(json_object_get(b, "chat_template_kwargs"));
        }
        json_t *format = json_object_get(b, "response_format");
        check_text(format, "type", "json_schema");
        check_text(json_object_get(json_object_get(format, "json_schema"), "schema"), "type", "object");
        json_t *t = json_object_get(b, "tools");
        assert_int_equal(json_array_size(t), 2);
        for (size_t k = 0; k < 2; k++) check_text(json_array_get(t, k), "type", "function");
        check_text(json_object_get(json_array_get(t, 0), "function"), "name", "add");
        check_text(json_object_get(json_array_get(t, 1), "function"), "description", "[]{}\"");
        json_t *messages = json_object_get(b, "messages");
        assert_int_equal(json_array_size(messages), 2);
        check_text(json_array_get(messages, 0), "role", "system");
        check_text(json_array_get(messages, 0), "content", "S \"quoted\"\n");
        check_text(json_array_get(messages, 1), "content", "U");
        json_decref(b);
        ponder_session_free(session);
        ponder_model_free(m);
        ponder_config_free(c);
        test_server_stop(&s);
    }
}

static void set_any(ponder_config *c, ponder_param id, double value, const char *text)
{
    if (text) OK(ponder_config_set_str(c, id, text));
    else if (ponder_config_set_f64(c, id, value) != PONDER_OK) OK(ponder_config_set_i64(c, id, (int64_t)value));
}

/* What a server would not keep to is refused, never left out. `also`: another setting, to 1, that must not hide it; 0: none. */
static void check_refused_beside(const char *models, ponder_param id, double value, const char *text, ponder_param also)
{
    test_server s;
    ponder_config *c = new_config();
    test_server_start(&s, say_hello, NULL, models);
    set_any(c, id, value, text);
    if (also) set_any(c, also, 1, NULL);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session;
    ponder_status st = ponder_session_new(&session, m, c);
    if (st == PONDER_OK) {
        ask(session, "?");
        st = generate(session).st;
        assert_true(strlen(ponder_session_error(session)) > 10);
    }
    assert_int_equal(st, PONDER_E_UNSUPPORTED);
    assert_int_equal(atomic_load(&s.requests), 0);
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
}

static void check_refused(const char *models, ponder_param id, double value, const char *text) { check_refused_beside(models, id, value, text, 0); }

static void test_refusals(void **state)
{
    (void)state;
    check_refused(models_openai, PONDER_P_TOP_K, 5, NULL);
    check_refused(models_openai, PONDER_P_MIN_P, 0.1, NULL);
    check_refused(models_openai, PONDER_P_REPEAT_PENALTY, 1.2, NULL);
    check_refused(models_openai, PONDER_P_REGEX, 0, "a+");
    check_refused(models_llama, PONDER_P_REGEX, 0, "a+");
    check_refused(models_openai, PONDER_P_IGNORE_EOS, 1, NULL);
    check_refused(models_vllm, PONDER_P_CONTEXT, 1000, NULL);
    check_refused(models_vllm, PONDER_P_LOOK_CLOSER, 1, NULL);
    check_refused(models_openai, PONDER_P_THINK_TOKENS, 100, NULL);
    check_refused(models_openai, PONDER_P_THINK_MS, 100, NULL);
    check_refused(models_vllm, PONDER_P_THINK_LEAST, 10, NULL);
    check_refused(models_vllm, PONDER_P_THINK_EXIT, 0, "entropy");
    check_refused(models_llama, PONDER_P_THINK_START, 1, NULL);
    check_refused(models_llama, PONDER_P_THINK_CONTINUE, 0, "Wait");
    check_refused(models_vllm, PONDER_P_LOGPROBS, 0, NULL);
    check_refused(models_llama, PONDER_P_LOGPROBS, 5, NULL);
    check_refused_beside(models_llama, PONDER_P_LOOK_CLOSER, 1, NULL, PONDER_P_STRICT_TOOLS);
    check_refused(models_vllm, PONDER_P_SUBAGENTS, 1, NULL);
    check_refused(models_vllm, PONDER_P_PENALTY_WINDOW, 100, NULL);
    check_refused(models_openai, PONDER_P_PENALTY_WINDOW, 100, NULL);
    check_refused(models_openai, PONDER_P_EFFORT, 0, "50");
    check_refused(models_openai, PONDER_P_THINK_MESSAGE, 0, "so");
    check_refused_beside(models_openai, PONDER_P_ANSWER_TOKENS, 10, NULL, PONDER_P_MAX_TOKENS);
    check_refused(models_vllm, PONDER_P_ANSWER_TOKENS, 10, NULL); /* of what? */
    check_refused(models_vllm, PONDER_P_THINK_SOFT, 10, NULL);
    check_refused(models_vllm, PONDER_P_THINK_GRACE, 10, NULL);
    check_refused(models_vllm, PONDER_P_THINK_RANK, 5, NULL);
    check_refused(models_vllm, PONDER_P_THINK_EXIT_AT, 0.5, NULL);
    check_refused(models_vllm, PONDER_P_THINK_PATIENCE, 2, NULL);
    check_refused(models_vllm, PONDER_P_THINK_INTERVAL, 8, NULL);
    check_refused(models_vllm, PONDER_P_THINK_PROBE_SHARE, 0.5, NULL);
}

/* What would change a local model's answers is refused when the model is opened. */
static void test_local_model_settings(void **state)
{
    (void)state;
    static const struct { ponder_param id; int64_t value; const char *text; } local[] = {
        {PONDER_P_QUANTIZE, 0, "q8_0"}, {PONDER_P_KV_TYPE, 0, "f32"}, {PONDER_P_TOKENIZER, 0, "t.json"}, {PONDER_P_PROJECTOR, 0, "p.gguf"}, {PONDER_P_IMAGE_TOKENS, 64, NULL}};
    test_server s;
    test_server_start(&s, say_hello, NULL, models_vllm);
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        ponder_config *c = new_config();
        ponder_model *m = NULL;
        set_any(c, local[i].id, (double)local[i].value, local[i].text);
        assert_int_equal(ponder_model_open_remote(&m, s.url, c), PONDER_E_UNSUPPORTED);
        assert_true(strlen(ponder_config_error(c)) > 10);
        assert_null(m);
        ponder_config_free(c);
    }
    test_server_stop(&s);
}

/* How sure an agent is of its tokens is not known: what is decided by it is refused. */
static void test_no_confidence(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, say_hello, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    for (int drop = 0; drop < 2; drop++) {
        ponder_config *c = new_config();
        ponder_session *session = new_session(m, NULL);
        ponder_contemplation *many;
        OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
        set_any(c, drop ? PONDER_P_DROP : PONDER_P_SYNTHESIS, 0.5, drop ? NULL : "confidence");
        ask(session, "?");
        assert_int_equal(ponder_contemplation_new(&many, session, c), PONDER_E_UNSUPPORTED);
        assert_int_equal(atomic_load(&s.requests), 0);
        ponder_session_free(session);
        ponder_config_free(c);
    }
    ponder_model_free(m);
    test_server_stop(&s);
}

/* strict_tools may change at any time, and what else is refused stays so. */
static void test_strict(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, say_hello, NULL, models_llama);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL);
    OK(ponder_session_tools(session, tools, sizeof tools - 1));
    for (int strict = 0; strict < 3; strict++) {
        ponder_config *c = new_config();
        OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, strict & 1));
        OK(ponder_session_configure(session, c));
        ask(session, "?");
        assert_int_equal(generate(session).st, PONDER_OK);
        json_t *b = body_of(&s), *t = json_object_get(b, "tools");
        assert_int_equal(json_array_size(t), 2);
        for (size_t k = 0; k < 2; k++) {
            json_t *f = json_object_get(json_array_get(t, k), "function");
            check_text(f, "name", k ? "g" : "add");
            assert_int_equal(json_is_true(json_object_get(f, "strict")), strict & 1);
        }
        json_decref(b);
        ponder_config_free(c);
    }
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

static void test_no_numbers(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, say_hello, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL);
    ponder_tokenizer *t;
    float f[4] = {0};
    int32_t ids[4] = {1};
    size_t n;
    int64_t v;
    ponder_eval eval = {.size = sizeof eval};
    ponder_samples samples = {.size = sizeof samples, .rate = 24000, .channels = 1};
    ponder_model *other;
    assert_int_equal(ponder_session_logits(session, f, 4, &n), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_eval(session, ids, 1, &eval), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_score(session, ids, 1, f), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_embed(session, "x", 1, f, 4, &n), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_save(session, NULL, 0, &n), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_load(session, f, 4), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_save_file(session, "/nowhere/x"), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_load_file(session, "/nowhere/x"), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_tokens(session, ids, 4, &n), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_prompt(session, "x", 1, 0), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_prompt_ids(session, ids, 1), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_bias(session, 1, 1), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_listen(session, &samples), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_features(session, NULL, 0, &n), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_prefill(session, 0), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_session_rewind(session, 3, NULL), PONDER_E_UNSUPPORTED);
    assert_non_null(strstr(ponder_session_error(session), "remote"));
    assert_int_equal(ponder_model_tokenizer(&t, m, NULL), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_model_share(&other, m, NULL), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_model_image_tokens(m, 10, 10, &n, NULL), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_model_sound_tokens(m, 10, 24000, &n, NULL), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_model_info_i64(m, PONDER_INFO_LAYERS, &v), PONDER_E_UNSUPPORTED);
    assert_int_equal(ponder_model_info_i64(m, 9999, &v), PONDER_E_UNKNOWN);
    OK(ponder_model_info_i64(m, PONDER_INFO_CONTEXT, &v));
    assert_int_equal(v, 2048);
    OK(ponder_model_info_i64(m, PONDER_INFO_SERVERS, &v));
    assert_int_equal(v, 1);
    assert_true(ponder_session_bytes(session) > 0);
    /* and none of it has done harm */
    ask(session, "?");
    assert_string_equal(generate(session).answer, "hello");
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

/* ---- budgets ------------------------------------------------------------------------------------------------------- */

/* Thinks for ever, unless it is asked to go on behind a thought: then it answers "B". */
static bool thinker(test_server *s, test_request *r)
{
    static const char letter[] = CHUNK("{\"reasoning_content\":\"x\"}");
    const bool refuses = s->user && strstr(r->body, "\"thinking_token_budget\"");
    if (refuses) return test_answer(r->fd, "400 Bad Request", "", "{\"error\":{\"message\":\"thinking_token_budget is set but reasoning_config is not configured\"}}");
    if (strstr(r->body, "\"add_generation_prompt\":false")) {
        if (strstr(r->body, "\"stream\":true")) return test_say(r, "B");
        return test_answer(r->fd, "200 OK", "", "{\"choices\":[{\"message\":{\"content\":\"B\"},\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":1}}");
    }
    if (!test_stream_head(r->fd)) return false;
    for (int i = 0; i < 2000; i++) {
        if (!test_stream(r->fd, letter, 4096)) return false; /* the other side has closed the stream */
        test_pause(1);
    }
    return false;
}

static const struct { const char *models, *template; void *refuses; } budget_kinds[] = {
    {models_llama, "", NULL}, {models_llama, "muse", NULL}, {models_vllm, "", NULL}, {models_vllm, "muse", NULL}, {models_vllm, "muse", (void *)1}};

static void test_token_budget(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof budget_kinds / sizeof *budget_kinds; i++)
        for (int64_t cap = 0; cap < 12; cap += 5)
            for (int message = 0; message < 2; message++) {
                test_server s;
                ponder_config *c = new_config();
                test_server_start(&s, thinker, budget_kinds[i].refuses, budget_kinds[i].models);
                OK(ponder_config_set_i64(c, PONDER_P_THINK_TOKENS, cap));
                OK(ponder_config_set_str(c, PONDER_P_TEMPLATE, budget_kinds[i].template));
                if (message) OK(ponder_config_set_str(c, PONDER_P_THINK_MESSAGE, " Enough."));
                ponder_model *m = open_remote(s.url, c);
                ponder_session *session = new_session(m, c);
                ask(session, "?");
                told t = generate(session);
                assert_int_equal(t.st, PONDER_OK);
                assert_string_equal(t.answer, "B");
                assert_int_equal(t.done.end, PONDER_END_EOS);
                assert_int_equal(strspn(t.thought, "x"), cap); /* not one more is told, though one more was on its way */
                assert_string_equal(t.thought + cap, message ? " Enough." : "");
                ponder_thought thought = {.size = sizeof thought};
                OK(ponder_session_thought(session, &thought));
                assert_int_equal(thought.tokens, cap);
                assert_int_equal(thought.why, PONDER_THOUGHT_CAP);
                assert_int_equal(t.done.thought_tokens, cap);
                json_t *b = body_of(&s), *list = json_object_get(b, "messages"), *own = json_array_get(list, json_array_size(list) - 1);
                check_text(own, "role", "assistant");
                check_text(own, "content", "");
                if (cap || message) check_text(own, "reasoning_content", t.thought);
                json_decref(b);
                /* the next turn thinks again */
                ask(session, "and?");
                assert_int_equal(strspn(generate(session).thought, "x"), cap);
                ponder_session_free(session);
                ponder_model_free(m);
                ponder_config_free(c);
                test_server_stop(&s);
            }
}

/* By the clock: the thought is cut, the turn ended; what matters is why, and that both end at all. */
static void test_time_budget(void **state)
{
    (void)state;
    test_server s;
    ponder_config *c = new_config();
    test_server_start(&s, thinker, NULL, models_llama);
    OK(ponder_config_set_i64(c, PONDER_P_THINK_MS, 60));
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, c);
    ask(session, "?");
    told t = generate(session);
    ponder_thought thought = {.size = sizeof thought};
    OK(ponder_session_thought(session, &thought));
    assert_string_equal(t.answer, "B");
    assert_true(t.thought[0] == 'x');
    assert_int_equal(thought.why, PONDER_THOUGHT_TIME);
    assert_true(thought.us >= 60000);
    OK(ponder_config_set_i64(c, PONDER_P_THINK_MS, -1));
    OK(ponder_config_set_i64(c, PONDER_P_TURN_MS, 60));
    OK(ponder_session_configure(session, c));
    ask(session, "?");
    t = generate(session);
    assert_int_equal(t.st, PONDER_OK);
    assert_int_equal(t.done.end, PONDER_END_TIME);
    assert_string_equal(t.answer, "");
    ponder_session_free(session);
    ponder_model_free(m);
    ponder_config_free(c);
    test_server_stop(&s);
}

static int32_t close_at_third(void *user, const ponder_event *e)
{
    ponder_session **s = user;
    static int seen;
    if (e->kind == PONDER_EVENT_THOUGHT && ++seen == 3) ponder_session_close_thought(*s);
    return 0;
}

static void test_close_thought(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, thinker, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL);
    ask(session, "?");
    OK(ponder_session_generate(session, close_at_third, &session));
    ponder_thought thought = {.size = sizeof thought};
    OK(ponder_session_thought(session, &thought));
    assert_int_equal(thought.why, PONDER_THOUGHT_CALLER);
    assert_int_equal(thought.tokens, 3);
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

/* ---- conversations --------------------------------------------------------------------------------------------- */

static bool by_number(test_server *s, test_request *r)
{
    static const char call[] = CHUNK("{\"reasoning_content\":\"hm\"}")
        CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"id7\",\"function\":{\"name\":\"add\",\"arguments\":\"{\\\"a\\\":1}\"}}]}") FINISH("tool_calls") DONE;
    (void)s;
    if (r->number != 1) return test_say(r, r->number == 0 ? "first" : "last");
    return test_stream_head(r->fd) && test_stream(r->fd, call, 50) && test_stream_end(r->fd);
}

static void test_conversation(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, by_number, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL), *fork;
    OK(ponder_session_tools(session, tools, sizeof tools - 1));
    ask(session, "one");
    assert_string_equal(generate(session).answer, "first");
    assert_int_equal(generate(session).st, PONDER_E_STATE); /* nothing was added */
    assert_int_equal(ponder_session_tools(session, "", 0), PONDER_E_STATE);
    ask(session, "two");
    assert_string_equal(generate(session).calls, "add{\"a\":1};");
    OK(ponder_session_fork(&fork, session, NULL));
    OK(ponder_session_add_result(session, "add", "2", 1));
    assert_string_equal(generate(session).answer, "last");
    json_t *b = body_of(&s), *list = json_object_get(b, "messages");
    assert_int_equal(json_array_size(list), 5);
    check_text(json_array_get(list, 1), "content", "first");
    check_text(json_array_get(list, 2), "content", "two");
    json_t *own = json_array_get(list, 3), *call = json_array_get(json_object_get(own, "tool_calls"), 0);
    check_text(own, "role", "assistant");
    check_text(own, "reasoning_content", "hm"); /* a call's thought goes back with it */
    check_text(call, "id", "id7");
    check_text(json_object_get(call, "function"), "arguments", "{\"a\":1}");
    check_text(json_array_get(list, 4), "role", "tool");
    check_text(json_array_get(list, 4), "tool_call_id", "id7");
    check_text(json_array_get(list, 4), "content", "2");
    json_decref(b);
    /* the fork knows what was said up to it, and nothing later; its tools too */
    ask(fork, "other");
    assert_string_equal(generate(fork).answer, "last");
    b = body_of(&s), list = json_object_get(b, "messages");
    assert_int_equal(json_array_size(list), 5);
    check_text(json_array_get(list, 4), "content", "other");
    assert_int_equal(json_array_size(json_object_get(b, "tools")), 2);
    json_decref(b);
    OK(ponder_session_rewind(fork, 0, NULL));
    ask(fork, "new");
    assert_string_equal(generate(fork).answer, "last");
    b = body_of(&s);
    assert_int_equal(json_array_size(json_object_get(b, "messages")), 1);
    json_decref(b);
    ponder_session_free(fork);
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

static bool cut_first(test_server *s, test_request *r)
{
    static const char cut[] = CHUNK("{\"reasoning_content\":\"hm\"}") CHUNK("{\"content\":\"one, t\"}") FINISH("length") DONE;
    (void)s;
    if (r->number) return test_say(r, "wo");
    return test_stream_head(r->fd) && test_stream(r->fd, cut, 50) && test_stream_end(r->fd);
}

/* A turn that was cut goes on where the server can take its beginning. */
static void test_going_on(void **state)
{
    (void)state;
    const char *kinds[] = {models_llama, models_vllm, models_openai};
    for (size_t i = 0; i < 3; i++) {
        test_server s;
        test_server_start(&s, cut_first, NULL, kinds[i]);
        ponder_model *m = open_remote(s.url, NULL);
        ponder_session *session = new_session(m, NULL);
        ask(session, "count");
        assert_string_equal(generate(session).answer, "one, t");
        told t = generate(session);
        if (i == 2) {
            assert_int_equal(t.st, PONDER_E_UNSUPPORTED);
        } else {
            assert_int_equal(t.st, PONDER_OK);
            assert_string_equal(t.answer, "wo");
            json_t *b = body_of(&s), *own = json_array_get(json_object_get(b, "messages"), 1);
            check_text(own, "content", "one, t");
            check_text(own, "reasoning_content", "hm");
            assert_true(json_is_false(json_object_get(b, "add_generation_prompt")));
            if (i == 0) check_text(b, "continue_final_message", "content");
            else assert_true(json_is_true(json_object_get(b, "continue_final_message")));
            json_decref(b);
        }
        ask(session, "and");
        assert_int_equal(generate(session).st, PONDER_OK);
        json_t *b = body_of(&s);
        check_text(json_array_get(json_object_get(b, "messages"), 1), "content", i == 2 ? "one, t" : "one, two");
        json_decref(b);
        ponder_session_free(session);
        ponder_model_free(m);
        test_server_stop(&s);
    }
}

static void test_picture(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, say_hello, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL);
    const uint8_t red[3] = {255, 0, 0};
    ponder_view view = {.size = sizeof view, .pixels = red, .width = 1, .height = 1, .stride = 3, .format = PONDER_RGB};
    ponder_image *image;
    OK(ponder_image_open_view(&image, &view, NULL));
    ponder_status st = ponder_session_attach_image(session, image);
    assert_int_equal(st, PONDER_OK);
    OK(ponder_session_attach_text(session, "before", 6));
    ask(session, "what?");
    told t = generate(session);
    if (t.st == PONDER_OK) { /* else a build without libpng */
        json_t *b = body_of(&s), *parts = json_object_get(json_array_get(json_object_get(b, "messages"), 0), "content");
        assert_int_equal(json_array_size(parts), 3);
        check_text(json_array_get(parts, 0), "type", "image_url");
        const char *url = json_string_value(json_object_get(json_object_get(json_array_get(parts, 0), "image_url"), "url"));
        assert_memory_equal(url, "data:image/png;base64,iVBORw0KGgo", 33); /* PNG's first eight bytes */
        check_text(json_array_get(parts, 1), "text", "before");
        check_text(json_array_get(parts, 2), "text", "what?");
        json_decref(b);
    } else {
        assert_int_equal(t.st, PONDER_E_UNSUPPORTED);
    }
    assert_int_equal(ponder_session_attach_video(session, &image, (double[]){0}, 1), PONDER_E_UNSUPPORTED);
    ponder_image_free(image);
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

/* A message that says the same as the one before it, so that the server's cache of prompts helps: byte for byte. */
static void test_same_prefix(void **state)
{
    (void)state;
    test_server s;
    test_server_start(&s, say_hello, NULL, models_vllm);
    ponder_model *m = open_remote(s.url, NULL);
    ponder_session *session = new_session(m, NULL);
    ask(session, "one");
    assert_int_equal(generate(session).st, PONDER_OK);
    char *first = strdup(atomic_load(&s.last_body));
    char *end = strstr(first, "\"one\"}");
    assert_non_null(end);
    ask(session, "two");
    assert_int_equal(generate(session).st, PONDER_OK);
    assert_memory_equal(first, atomic_load(&s.last_body), (size_t)(end - first) + 6);
    free(first);
    ponder_session_free(session);
    ponder_model_free(m);
    test_server_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),     cmocka_unit_test(test_ends),        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_markup),     cmocka_unit_test(test_settings),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_local_model_settings), cmocka_unit_test(test_no_confidence), cmocka_unit_test(test_strict),
        cmocka_unit_test(test_no_numbers), cmocka_unit_test(test_conversation), cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_token_budget), cmocka_unit_test(test_time_budget), cmocka_unit_test(test_close_thought),
        cmocka_unit_test(test_picture),    cmocka_unit_test(test_same_prefix),
    };
    return cmocka_run_group_tests_name("remote-turns", tests, NULL, NULL);
}
