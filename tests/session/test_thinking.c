/* Thought budgets through ponder.h. What is counted here is counted again from the ids that stand in the session. */
#include "use.h"

enum { EOM = 391, START = 394, MESSAGE = 395, DEFAULT_RUNS = 60 };

static int runs(void)
{
    const char *n = getenv("PONDER_TEST_RUNS");
    return n ? atoi(n) : DEFAULT_RUNS;
}

/* ---- what a turn told -------------------------------------------------------------------------------- */

typedef struct seen {
    char thought[MOST_TEXT], answer[MOST_TEXT], raw[MOST_TEXT];
    size_t n_thought, n_answer, n_raw, calls;
    ponder_event done;
    ponder_thought t;
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
    switch (e->kind) {
    case PONDER_EVENT_THOUGHT: put(s->thought, &s->n_thought, e); break;
    case PONDER_EVENT_ANSWER: put(s->answer, &s->n_answer, e); break;
    case PONDER_EVENT_RAW: put(s->raw, &s->n_raw, e); break;
    case PONDER_EVENT_TOOL_CALL: s->calls++; break;
    case PONDER_EVENT_DONE: s->done = *e; break;
    default: break;
    }
    return 0;
}

static seen *ask(ponder_session *s)
{
    static seen v;
    memset(&v, 0, sizeof v);
    v.t.size = sizeof v.t;
    ponder_status st = ponder_session_generate(s, watch, &v);
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    OK(ponder_session_thought(s, &v.t));
    return &v;
}

/* ---- seed0 ------------------------------------------------------------------------------------------------ */

static const char *question(int i)
{
    static const char *const all[] = {"From B do 1p2t3s4p", "Which 3 of 91462 sum to 11?", "Add 861+524", "From C do 1t2p3p4q5t6s",
                                      "Which 3 of 73518 sum to 16?", "From H do 1u2p", "Add 12+99", "From A do 1s2s3t4r5q"};
    return all[i % (int)COUNT(all)];
}

/* Tokens of thought among the ids from `from` on, by the format alone: behind " to=self<|message|>" up to the marker that ends it. */
static uint64_t count_muse(ponder_model *m, const ids *v, size_t from, bool open, uint64_t *blocks, uint64_t *longest)
{
    char text[MOST_TEXT];
    size_t header = from;
    uint64_t n = 0, block = 0;
    *blocks = open;
    *longest = 0;
    for (size_t i = from; i < v->n; i++) {
        if (open) {
            n++;
            block++;
            *longest = block > *longest ? block : *longest;
        }
        if (v->id[i] == MESSAGE) {
            size_t k = text_of_ids(m, v->id + header, i - header, false, text);
            text[k] = 0;
            const char *to = strrchr(text, '=');
            const bool bare = open && !(to && to >= text + 3 && memcmp(to - 3, " to", 3) == 0 && !strpbrk(to, " \n")); /* a slip */
            const bool self = to && strcmp(to, "=self") == 0;
            if (!bare) {
                *blocks += self;
                block = 0;
                open = self;
            }
            header = i + 1;
        } else if (v->id[i] == EOM || v->id[i] == START || v->id[i] == EOT) {
            open = false;
            header = i + 1;
        }
    }
    return n;
}

static void set(ponder_config *c, ponder_param id, int64_t v) { OK(ponder_config_set_i64(c, id, v)); }
__attribute__((unused)) static void set_text(ponder_config *c, ponder_param id, const char *v) { OK(ponder_config_set_str(c, id, v)); }

static ponder_config *warm(int seed)
{
    ponder_config *c = new_config();
    set(c, PONDER_P_MAX_TOKENS, 160);
    set(c, PONDER_P_SEED, seed);
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
    return c;
}

static void turn_scope(void **state)
{
    ponder_model *m = *state;
    int natural = 0, over = 0;
    const int n = runs();
    for (int i = 0; i < n; i++) {
        ponder_config *c = warm(i);
        const int64_t cap = 2 + i * 7 % 40;
        uint64_t blocks, longest;
        set(c, PONDER_P_THINK_TOKENS, cap);
        ponder_session *s = new_session(m, c);
        add(s, "user", question(i));
        const seen *v = ask(s);
        const ids all = tokens_of(s);
        const uint64_t counted = count_muse(m, &all, all.n - v->done.output_tokens, false, &blocks, &longest);
        if (counted != v->t.tokens || blocks != v->t.blocks) {
            char text[MOST_TEXT];
            text[text_of_ids(m, all.id, all.n, true, text)] = 0;
            fail_msg("run %d: counted %d, told %d: %s", i, (int)counted, (int)v->t.tokens, text);
        }
        over += counted > (uint64_t)cap;
        natural += v->t.why == PONDER_THOUGHT_NATURAL;
        assert_null(strchr(v->answer, '<'));
        assert_null(strstr(v->answer, "to="));
        if (v->done.end == PONDER_END_EOS) assert_true(v->n_answer > 0);
        ponder_session_free(s);
        ponder_config_free(c);
    }
    printf("%d runs, %d natural, %d over\n", n, natural, over);
    assert_int_equal(over, 0);
    assert_true(natural * 3 >= n);
}

static int open_seed(void **state)
{
    ponder_config *c = new_config();
    *state = open_model("seed0", c);
    ponder_config_free(c);
    return 0;
}

static int close_seed(void **state)
{
    ponder_model_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(turn_scope)};
    return cmocka_run_group_tests_name("thinking", tests, open_seed, close_seed);
}
