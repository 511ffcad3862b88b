/* Values and calls that do not fit: a status, a text, and everything as before. NULL, sizes and numbers of every function
 * are tried by tests/bindings/test_arguments.py, from the prototypes; here stand the table of parameters, calls in the wrong
 * order or in the middle of a turn, and buffers that are too small. */
#include "use.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

/* ---- parameters ------------------------------------------------------------------------------------ */

static ponder_param_info param(uint32_t i)
{
    ponder_param_info p = {.size = sizeof p};
    OK(ponder_param_at(i, &p));
    assert_int_equal(p.size, sizeof p);
    return p;
}

static uint32_t n_params(void)
{
    uint32_t n = 0;
    ponder_param_info p = {.size = sizeof p};
    while (ponder_param_at(n, &p) == PONDER_OK) n++;
    assert_int_equal(ponder_param_at(n, &p), PONDER_E_RANGE);
    assert_int_equal(ponder_param_at(UINT32_MAX, &p), PONDER_E_RANGE);
    return n;
}

static void table(void **state)
{
    (void)state;
    const uint32_t n = n_params();
    assert_true(n >= 37);
    for (uint32_t i = 0; i < n; i++) {
        ponder_param_info p = param(i);
        assert_true(strlen(p.name) > 0 && strspn(p.name, "abcdefghijklmnopqrstuvwxyz_") == strlen(p.name));
        assert_true(strlen(p.help) > 0 && !strchr(p.help, '\n'));
        assert_true(p.since >= 1000 && p.since <= ponder_version());
        assert_true(p.live == 0 || p.live == 1);
        if (i) assert_true(p.id > param(i - 1).id); /* also unique */
        for (uint32_t k = 0; k < i; k++) assert_string_not_equal(p.name, param(k).name);
        if (p.id < 200) assert_false(p.live); /* the model's */
        if (p.type == PONDER_TYPE_I64) assert_true(p.i64_min <= p.i64_default && p.i64_default <= p.i64_max);
        if (p.type == PONDER_TYPE_F64) assert_true(p.f64_min <= p.f64_default && p.f64_default <= p.f64_max);
        assert_int_equal(p.type == PONDER_TYPE_STR, p.str_default != NULL);
    }
}

static void says(ponder_config *c, ponder_status st, ponder_status expected, const char *word)
{
    assert_int_equal(st, expected);
    if (st == PONDER_OK) assert_string_equal(ponder_config_error(c), "");
    else if (!strstr(ponder_config_error(c), word)) fail_msg("\"%s\" does not name %s", ponder_config_error(c), word);
}

static void setters(void **state)
{
    (void)state;
    ponder_config *c;
    OK(ponder_config_new(&c, NULL));
    for (uint32_t i = 0; i < n_params(); i++) {
        const ponder_param_info p = param(i);
        const bool is_int = p.type == PONDER_TYPE_I64, is_float = p.type == PONDER_TYPE_F64, is_text = p.type == PONDER_TYPE_STR;
        says(c, ponder_config_set_i64(c, p.id, p.i64_default), is_int ? PONDER_OK : PONDER_E_ARGUMENT, p.name);
        says(c, ponder_config_set_f64(c, p.id, p.f64_default), is_float ? PONDER_OK : PONDER_E_ARGUMENT, p.name);
        says(c, ponder_config_set_str(c, p.id, is_text ? p.str_default : "1"), is_text ? PONDER_OK : PONDER_E_ARGUMENT, p.name);
        if (is_int) {
            OK(ponder_config_set_i64(c, p.id, p.i64_min));
            OK(ponder_config_set_i64(c, p.id, p.i64_max));
            if (p.i64_min > INT64_MIN) says(c, ponder_config_set_i64(c, p.id, p.i64_min - 1), PONDER_E_RANGE, p.name);
            if (p.i64_max < INT64_MAX) says(c, ponder_config_set_i64(c, p.id, p.i64_max + 1), PONDER_E_RANGE, p.name);
        }
        if (is_float) {
            OK(ponder_config_set_f64(c, p.id, p.f64_min));
            OK(ponder_config_set_f64(c, p.id, p.f64_max));
            const double bad[] = {nextafter(p.f64_min, -INFINITY), nextafter(p.f64_max, INFINITY), NAN, INFINITY, -INFINITY};
            for (size_t k = 0; k < COUNT(bad); k++) says(c, ponder_config_set_f64(c, p.id, bad[k]), PONDER_E_RANGE, p.name);
        }
        if (is_text) says(c, ponder_config_set_str(c, p.id, NULL), PONDER_E_ARGUMENT, p.name);
    }
    says(c, ponder_config_set_str(c, PONDER_P_KV_TYPE, "f8"), PONDER_E_RANGE, "kv_type");
    says(c, ponder_config_set_str(c, PONDER_P_QUANTIZE, "q9"), PONDER_E_RANGE, "quantize");
    says(c, ponder_config_set_str(c, PONDER_P_TEMPLATE, "alpaca"), PONDER_E_RANGE, "template");
    says(c, ponder_config_set_str(c, PONDER_P_EFFORT, "a strength of twenty-four"), PONDER_E_RANGE, "effort");
    OK(ponder_config_set_str(c, PONDER_P_STOP, ""));
    ponder_status st = PONDER_OK;
    for (int i = 0; i < 100 && st == PONDER_OK; i++) st = ponder_config_set_str(c, PONDER_P_STOP, "x");
    says(c, st, PONDER_E_RANGE, "stop");
    OK(ponder_config_set_str(c, PONDER_P_STOP, ""));
    OK(ponder_config_set_str(c, PONDER_P_STOP, "y"));
    ponder_config_free(c);
}

/* A value that was refused changes nothing. */
static void refused_values_change_nothing(void **state)
{
    ponder_model *m = *state;
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 3));
    assert_int_equal(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, -1), PONDER_E_RANGE);
    assert_int_equal(ponder_config_set_i64(c, PONDER_P_CONTEXT, 1 << 30), PONDER_E_RANGE);
    ponder_session *s = new_session(m, c);
    add(s, "user", "Add 904+471");
    told *t = generate(s);
    assert_int_equal(t->output, 3);
    free(t);
    ponder_session_free(s);
    ponder_config_free(c);
}

/* ---- wrong order ---------------------------------------------------------------------------------------- */

static void nothing_to_do(void **state)
{
    ponder_config *c = new_config();
    ponder_session *s = new_session(*state, c);
    float logits[SEED_VOCAB];
    ponder_event e = {.size = sizeof e};
    size_t n;
    assert_int_equal(ponder_session_generate(s, NULL, NULL), PONDER_E_STATE);
    assert_int_equal(ponder_session_step(s, 10, &e), PONDER_E_STATE);
    assert_int_equal(ponder_session_logits(s, logits, COUNT(logits), &n), PONDER_E_STATE);
    assert_true(ponder_session_error(s)[0] != 0);
    OK(ponder_session_rewind(s, 0, NULL));
    OK(ponder_session_prompt(s, "", 0, 0));
    OK(ponder_session_prompt_ids(s, NULL, 0));
    OK(ponder_session_tokens(s, NULL, 0, &n));
    assert_int_equal(n, 0);
    assert_string_equal(ponder_session_error(s), "");
    add(s, "user", "Add 1+2");
    assert_true(generate_end(s) != PONDER_END_FAILED);
    ponder_session_free(s);
    ponder_config_free(c);
}

/* Every call in the middle of a turn: the turn is given up or goes on, and the conversation with it. */
static void middle_of_a_turn(void **state)
{
    ponder_model *m = *state;
    for (int call = 0; call < 14; call++)
        for (int slices = 1; slices < 120; slices += 17) {
            ponder_config *c = new_config();
            ponder_session *s = new_session(m, c), *fork = NULL;
            ponder_event e = {.size = sizeof e};
            float floats[SEED_VOCAB], logprob;
            int32_t id = 5;
            size_t n, recompute;
            static char bytes[1 << 20];
            ponder_eval eval = {.size = sizeof eval, .logits = floats};
            add(s, "user", "Add 904+471");
            for (int i = 0; i < slices; i++) ponder_session_step(s, 0, &e);
            ponder_status st = PONDER_OK;
            switch (call) {
            case 0: st = ponder_session_add(s, "user", "x", 1); break;
            case 1: st = ponder_session_prompt(s, "x", 1, 0); break;
            case 2: st = ponder_session_prompt_ids(s, &id, 1); break;
            case 3: st = ponder_session_fork(&fork, s, NULL); break;
            case 4: st = ponder_session_rewind(s, 11, &recompute); break;
            case 5: st = ponder_session_tokens(s, NULL, 0, &n); break;
            case 6: st = ponder_session_eval(s, &id, 1, &eval); break;
            case 7: st = ponder_session_logits(s, floats, COUNT(floats), &n); break;
            case 8: st = ponder_session_score(s, &id, 1, &logprob); break;
            case 9: st = ponder_session_embed(s, "x", 1, floats, COUNT(floats), &n); break;
            case 10: st = ponder_session_save(s, bytes, sizeof bytes, &n); break;
            case 11:
                st = ponder_session_save(s, bytes, sizeof bytes, &n);
                if (st == PONDER_OK) ponder_session_step(s, 0, &e);
                if (st == PONDER_OK) st = ponder_session_load(s, bytes, n);
                break;
            case 12: st = ponder_session_configure(s, c); break;
            default: st = ponder_session_bias(s, 5, 1); break;
            }
            if (st != PONDER_OK) fail_msg("call %d after %d slices: %s", call, slices, ponder_session_error(s));
            told *t = new_told();
            OK(ponder_session_generate(s, take_event, t)); /* what was going on, or a new turn */
            assert_int_equal(t->dones, 1);
            free(t);
            if (fork) OK(ponder_session_generate(fork, NULL, NULL));
            ponder_session_free(s);
            ponder_session_free(fork);
            ponder_config_free(c);
        }
}

/* A message during a turn belongs after it. */
static void message_during_a_turn(void **state)
{
    ponder_model *m = *state;
    ponder_session *s = session_with(m, PONDER_P_MAX_TOKENS, 6);
    ponder_event e = {.size = sizeof e};
    add(s, "user", "Add 904+471");
    while (e.kind == 0) ponder_session_step(s, 0, &e);
    add(s, "user", "Add 1+2");
    while (e.kind != PONDER_EVENT_DONE) ponder_session_step(s, 1000, &e);
    assert_int_equal(e.end, PONDER_END_LENGTH);
    ids before = tokens_of(s);
    static const char next[] = "<|eot|><|start|>user<|message|>Add 1+2<|eot|><|start|>assistant";
    ids expected = ids_of_text(m, next, strlen(next), PONDER_TOKENIZE_SPECIAL);
    free(generate(s));
    ids after = tokens_of(s);
    same_ids(&before, after.id, before.n);
    same_ids(&expected, after.id + before.n, expected.n);
    ponder_session_free(s);
}

/* ---- buffers ------------------------------------------------------------------------------------------------ */

/* Too small: the number, and not a byte written. */
static void small_buffers(void **state)
{
    ponder_model *m = *state;
    ponder_session *s = session_with(m, PONDER_P_MAX_TOKENS, 4);
    ponder_tokenizer *t;
    ponder_error error = {.size = sizeof error};
    OK(ponder_model_tokenizer(&t, m, &error));
    int32_t id[64];
    char text[64];
    float logits[SEED_VOCAB];
    size_t n, again;
    memset(id, 7, sizeof id);
    memset(text, 7, sizeof text);
    memset(logits, 7, sizeof logits);
    OK(ponder_tokenize(t, "From D do", 9, 0, NULL, 0, &n, NULL));
    assert_int_equal(ponder_tokenize(t, "From D do", 9, 0, id, n - 1, &again, &error), PONDER_E_SPACE);
    assert_int_equal(again, n);
    assert_int_equal(error.status, PONDER_E_SPACE);
    assert_true(error.text[0] != 0);
    assert_int_equal(ponder_session_prompt_ids(s, (const int32_t[]){5, 6, 7}, 3), PONDER_OK);
    assert_int_equal(ponder_session_tokens(s, id, 2, &n), PONDER_E_SPACE);
    assert_int_equal(n, 3);
    for (size_t i = 0; i < COUNT(id); i++) assert_int_equal(id[i], 0x07070707);
    assert_int_equal(ponder_detokenize(t, (const int32_t[]){5, 6, 7}, 3, 0, text, 2, &n, NULL), PONDER_E_SPACE);
    assert_int_equal(n, 3);
    assert_int_equal(ponder_model_info_str(m, PONDER_INFO_ARCHITECTURE, text, 3, &n), PONDER_E_SPACE);
    assert_int_equal(n, strlen("muse-spark"));
    assert_int_equal(ponder_session_logits(s, logits, SEED_VOCAB - 1, &n), PONDER_E_SPACE);
    assert_int_equal(n, SEED_VOCAB);
    for (size_t i = 0; i < sizeof text; i++) assert_int_equal(text[i], 7);
    for (size_t i = 0; i < sizeof logits; i++) assert_int_equal(((char *)logits)[i], 7);
    int64_t number;
    assert_int_equal(ponder_model_info_i64(m, PONDER_INFO_NAME, &number), PONDER_E_UNKNOWN);
    assert_int_equal(ponder_model_info_str(m, PONDER_INFO_VOCAB, text, sizeof text, &n), PONDER_E_UNKNOWN);
    ponder_tokenizer_free(t);
    ponder_session_free(s);
}

/* ---- opening what is none ------------------------------------------------------------------------------------ */

static int32_t broken_read(void *user, uint64_t offset, void *to, size_t n)
{
    long *left = user;
    (void)offset;
    memset(to, 0, n);
    return (*left)-- <= 0;
}

static void no_models(void **state)
{
    (void)state;
    ponder_config *c = new_config();
    ponder_model *m = (void *)c;
    static const char zeros[4096];
    says(c, ponder_model_open(&m, "/nonexistent/model.gguf", c), PONDER_E_IO, "nonexistent");
    assert_null(m);
    assert_true(ponder_model_open(&m, data_path("seed0/README.md"), c) < 0);
    assert_true(ponder_model_open(&m, data_path("chat"), c) < 0); /* a folder without a model */
    assert_true(ponder_config_error(c)[0] != 0);
    assert_int_equal(ponder_model_open_memory(&m, zeros, sizeof zeros, c), PONDER_E_FORMAT);
    assert_true(ponder_model_open_memory(&m, zeros, 0, c) < 0);
    assert_true(ponder_model_open_fd(&m, -1, 0, 0, c) < 0);
    int fd = open(data_path("llama/model.gguf"), O_RDONLY);
    assert_true(ponder_model_open_fd(&m, fd, UINT64_MAX - 5, 10, c) < 0);
    assert_true(ponder_model_open_fd(&m, fd, 1 << 30, 0, c) < 0);
    assert_true(ponder_model_open_fd(&m, fd, 0, 100, c) < 0);
    OK(ponder_model_open_fd(&m, fd, 0, 0, c));
    close(fd);
    ponder_model_free(m);
    for (long reads = 0; reads < 3; reads++) {
        long left = reads;
        ponder_source source = {sizeof source, &left, 1 << 20, broken_read};
        assert_true(ponder_model_open_source(&m, &source, c) < 0);
        assert_null(m);
    }
    ponder_plan plan = {.size = sizeof plan};
    assert_int_equal(ponder_model_plan(&plan, "/nonexistent", c), PONDER_E_IO);
    ponder_tokenizer *t;
    assert_int_equal(ponder_tokenizer_open(&t, "/nonexistent", c), PONDER_E_IO);
    assert_null(t);
    assert_int_equal(ponder_tokenizer_open(&t, data_path("llama/model.gguf"), c), PONDER_E_UNSUPPORTED);
    ponder_config_free(c);
}

/* A drafter that is another model's, or none, is refused when the model is opened and planned; asking one that is not there is, when it is asked for. */
static void no_drafters(void **state)
{
    (void)state;
    static const struct { const char *model, *drafter; ponder_status status; const char *word; } cases[] = {
        {"llama", "drafter-glimmer", PONDER_E_MISMATCH, "drafter"}, {"seed0", "drafter-glimmer/model.gguf", PONDER_E_MISMATCH, "width"},
        {"muse-glimmer", "muse-glimmer", PONDER_E_UNSUPPORTED, "muse_glimmer_assistant"}, {"muse-glimmer", "llama/model.gguf", PONDER_E_UNSUPPORTED, "dflash"},
        {"muse-glimmer", "nothing-here", PONDER_E_IO, "nothing-here"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        ponder_config *c = new_config();
        ponder_model *m;
        ponder_plan plan = {.size = sizeof plan};
        OK(ponder_config_set_str(c, PONDER_P_DRAFTER, data_path(cases[i].drafter)));
        assert_int_equal(ponder_model_open(&m, data_path(cases[i].model), c), cases[i].status);
        assert_null(m);
        if (!strstr(ponder_config_error(c), cases[i].word)) fail_msg("%s", ponder_config_error(c));
        assert_int_equal(ponder_model_plan(&plan, data_path(cases[i].model), c), cases[i].status);
        ponder_config_free(c);
    }
    ponder_config *c = new_config();
    ponder_model *m = open_model("seed0", c);
    ponder_session *s;
    assert_int_equal(ponder_config_set_str(c, PONDER_P_DRAFT, "models"), PONDER_E_RANGE);
    OK(ponder_config_set_str(c, PONDER_P_DRAFT, "drafter"));
    assert_int_equal(ponder_session_new(&s, m, c), PONDER_E_UNSUPPORTED);
    assert_non_null(strstr(ponder_config_error(c), "drafter"));
    OK(ponder_config_set_str(c, PONDER_P_DRAFT, "lookup"));
    s = new_session(m, c);
    OK(ponder_config_set_str(c, PONDER_P_DRAFT, "drafter"));
    assert_int_equal(ponder_session_configure(s, c), PONDER_E_UNSUPPORTED);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

static void status_names(void **state)
{
    (void)state;
    assert_string_equal(ponder_status_name(PONDER_OK), "PONDER_OK");
    assert_string_equal(ponder_status_name(PONDER_MORE), "PONDER_MORE");
    for (int a = -16; a < 0; a++)
        for (int b = -16; b <= a; b++) {
            assert_true(strncmp(ponder_status_name(a), "PONDER_E_", 9) == 0);
            if (a != b) assert_string_not_equal(ponder_status_name(a), ponder_status_name(b));
        }
    assert_string_equal(ponder_status_name(-17), "PONDER_E_?");
    assert_string_equal(ponder_status_name(INT32_MIN), "PONDER_E_?");
    assert_string_equal(ponder_status_name(INT32_MAX), "PONDER_E_?");
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(table), cmocka_unit_test(setters), cmocka_unit_test(refused_values_change_nothing),
        cmocka_unit_test(nothing_to_do), cmocka_unit_test(middle_of_a_turn), cmocka_unit_test(message_during_a_turn),
        cmocka_unit_test(small_buffers), cmocka_unit_test(no_models), cmocka_unit_test(no_drafters), cmocka_unit_test(status_names),
    };
    ponder_config *c = new_config();
    ponder_model *m = open_model("seed0", c);
    for (size_t i = 0; i < COUNT(tests); i++) tests[i].initial_state = m;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ponder_model_free(m);
    ponder_config_free(c);
    return failed;
}
