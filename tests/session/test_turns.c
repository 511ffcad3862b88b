/* How a turn runs and ends: slices, stop strings, limits, cancel, sampling. Expected ids and texts are transformers'
 * (tests/data/seed0/reference.json), or follow from the session's own logits by arithmetic. */
#include "use.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

/* The turn as text, headers and all: these tests read it through a template without channels, so that every token's text comes out.
 * compose-03 without its special tokens: */
static const char said[] = " to=self1uH2pA3pC4rE5sA6rCassistant to=userC";

static void ask(ponder_session *s, const json_t *r)
{
    const char *text = text_at(r, "rendered");
    OK(ponder_session_prompt(s, text, strlen(text), PONDER_TOKENIZE_SPECIAL));
}

static ponder_config *config_of_case(const json_t *r)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_str(c, PONDER_P_EFFORT, text_at(r, "reasoning_strength")));
    OK(ponder_config_set_str(c, PONDER_P_TEMPLATE, "llama3"));
    return c;
}

/* A session with the question of a case; c is used up. */
static ponder_session *asked(ponder_model *m, const json_t *r, ponder_config *c)
{
    ponder_session *s = new_session(m, c);
    ask(s, r);
    ponder_config_free(c);
    return s;
}

/* One slice; true at the end of the turn. */
static bool one_step(ponder_session *s, uint64_t max_us, told *t, uint64_t *more)
{
    ponder_event e = {.size = sizeof e};
    ponder_status st = ponder_session_step(s, max_us, &e);
    if (st != PONDER_OK && st != PONDER_MORE) fail_msg("%s", ponder_session_error(s));
    if (st == PONDER_OK) take_event(t, &e);
    else ++*more;
    return t->dones > 0;
}

static void same_told(const told *a, const told *b)
{
    assert_int_equal(a->n_trace, b->n_trace);
    assert_memory_equal(a->trace, b->trace, a->n_trace);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->prompt, b->prompt);
    assert_int_equal(a->output, b->output);
}

static void slices(void **state)
{
    static const uint64_t lengths[] = {0, 1, 50, 1000, UINT64_MAX};
    json_t *all = seed_references();
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *r = json_array_get(all, i);
        ponder_session *s = asked(*state, r, config_of_case(r));
        told *whole = generate(s);
        ids expected = tokens_of(s);
        ponder_session_free(s);
        for (size_t k = 0; k < COUNT(lengths); k++) {
            uint64_t more = 0;
            told *t = new_told();
            s = asked(*state, r, config_of_case(r));
            while (!one_step(s, lengths[k], t, &more)) {}
            ids got = tokens_of(s);
            same_ids(&expected, got.id, got.n);
            same_told(whole, t);
            if (lengths[k] == 0) assert_true(more > whole->output);
            if (lengths[k] == UINT64_MAX) assert_int_equal(more, 0);
            free(t);
            ponder_session_free(s);
        }
        free(whole);
    }
    json_decref(all);
}

static void two_in_turn(void **state)
{
    json_t *all = seed_references();
    const json_t *r[2] = {json_array_get(all, 0), json_array_get(all, 3)};
    ponder_session *s[2];
    told *t[2], *whole[2];
    uint64_t more = 0;
    for (int i = 0; i < 2; i++) {
        s[i] = asked(*state, r[i], config_of_case(r[i]));
        whole[i] = generate(s[i]);
        ponder_session_free(s[i]);
        s[i] = asked(*state, r[i], config_of_case(r[i]));
        t[i] = new_told();
    }
    for (bool done[2] = {false, false}; !done[0] || !done[1];)
        for (int i = 0; i < 2; i++)
            if (!done[i]) done[i] = one_step(s[i], i ? 0 : 30, t[i], &more);
    for (int i = 0; i < 2; i++) {
        same_told(whole[i], t[i]);
        free(t[i]);
        free(whole[i]);
        ponder_session_free(s[i]);
    }
    json_decref(all);
}

/* ---- stop strings -------------------------------------------------------------------------------- */

static const struct { const char *stop[3]; const char *text; int32_t end; } stops[] = {
    {{"uH2"}, " to=self1", PONDER_END_STOP},                       /* over several tokens */
    {{" "}, "", PONDER_END_STOP},                                  /* at the very start */
    {{" to="}, "", PONDER_END_STOP},
    {{"1uX"}, said, PONDER_END_EOS},                               /* begins like one, is none */
    {{"self1uH2pX", "pA3"}, " to=self1uH2", PONDER_END_STOP},      /* one inside what the other held back */
    {{"elf1uH2", "f1"}, " to=sel", PONDER_END_STOP},               /* the one complete first */
    {{"rE5sA6rCassistant to=userC!", "userC?", "x"}, said, PONDER_END_EOS}, /* held back to the end */
    {{"pCpC", "pC4"}, " to=self1uH2pA3", PONDER_END_STOP},
    {{"userC"}, " to=self1uH2pA3pC4rE5sA6rCassistant to=", PONDER_END_STOP},
    {{"self"}, " to=", PONDER_END_STOP},                           /* inside a token */
    {{"el", "lf"}, " to=s", PONDER_END_STOP},
};

static ponder_config *with_stops(const json_t *r, size_t i)
{
    ponder_config *c = config_of_case(r);
    for (size_t k = 0; k < 3 && stops[i].stop[k]; k++) OK(ponder_config_set_str(c, PONDER_P_STOP, stops[i].stop[k]));
    return c;
}

static void stop_strings(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    for (size_t i = 0; i < COUNT(stops); i++) {
        ponder_session *s = asked(*state, r, with_stops(r, i));
        told *t = generate(s), *sliced = new_told();
        assert_string_equal(t->text, stops[i].text);
        assert_int_equal(t->end, stops[i].end);
        ponder_session_free(s);
        uint64_t more = 0;
        s = asked(*state, r, with_stops(r, i));
        while (!one_step(s, 0, sliced, &more)) {}
        same_told(t, sliced);
        free(t);
        free(sliced);
        ponder_session_free(s);
    }
    json_decref(all);
}

/* "" in a config forgets them; configure takes the new ones. */
static void stops_are_forgotten(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    ponder_config *c = config_of_case(r);
    OK(ponder_config_set_str(c, PONDER_P_STOP, "uH2"));
    ponder_session *s = new_session(*state, c);
    OK(ponder_config_set_str(c, PONDER_P_STOP, ""));
    OK(ponder_session_configure(s, c));
    ask(s, r);
    told *t = generate(s);
    assert_string_equal(t->text, said);
    free(t);
    ponder_session_free(s);
    ponder_config_free(c);
    json_decref(all);
}

/* ---- limits ----------------------------------------------------------------------------------------- */

static void context_full(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    const size_t prompt = ids_at(r, "prompt_ids").n;
    for (size_t room = 0; room < 4; room++) {
        ponder_config *c = config_of_case(r);
        OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, (int64_t)(prompt + room)));
        ponder_session *s = asked(*state, r, c);
        for (int again = 0; again < 2; again++) {
            told *t = generate(s);
            assert_int_equal(t->end, PONDER_END_CONTEXT);
            assert_int_equal(t->output, again ? 0 : room);
            free(t);
        }
        assert_int_equal(tokens_of(s).n, prompt + room);
        OK(ponder_session_rewind(s, 10, NULL));
        assert_true(generate_end(s) != PONDER_END_FAILED);
        ponder_session_free(s);
    }
    json_decref(all);
}

static void prompt_too_long(void **state)
{
    ponder_session *s = session_with(*state, PONDER_P_CONTEXT, 40);
    add(s, "user", "x");
    told *t = new_told();
    assert_int_equal(ponder_session_generate(s, take_event, t), PONDER_E_CONTEXT);
    assert_int_equal(t->dones, 1);
    assert_int_equal(t->end, PONDER_END_FAILED);
    assert_non_null(strstr(ponder_session_error(s), "40"));
    assert_int_equal(tokens_of(s).n, 0);
    OK(ponder_session_prompt(s, "AB", 2, 0)); /* what fits still works */
    OK(ponder_session_generate(s, NULL, NULL));
    free(t);
    ponder_session_free(s);
}

static void most_tokens(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    ids answer = ids_at(r, "greedy_ids");
    for (size_t most = 1; most <= answer.n + 1; most += 4) {
        ponder_config *c = config_of_case(r);
        OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, (int64_t)most));
        ponder_session *s = asked(*state, r, c);
        told *t = generate(s);
        assert_int_equal(t->output, most < answer.n ? most : answer.n);
        assert_int_equal(t->end, most < answer.n ? PONDER_END_LENGTH : PONDER_END_EOS);
        assert_memory_equal(t->text, said, t->n);
        free(t);
        ponder_session_free(s);
    }
    json_decref(all);
}

/* ---- cancel ------------------------------------------------------------------------------------------ */

/* A conversation after a cancel: the turn can go on, to the same ids. */
static void goes_on(ponder_session *s, const json_t *r)
{
    ids prompt = ids_at(r, "prompt_ids"), answer = ids_at(r, "greedy_ids");
    assert_int_equal(generate_end(s), PONDER_END_EOS);
    ids got = tokens_of(s);
    assert_int_equal(got.n, prompt.n + answer.n);
    same_ids(&answer, got.id + prompt.n, answer.n);
}

static void callback_cancels(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    for (uint32_t after = 1; after < 20; after += 6) {
        ponder_session *s = asked(*state, r, config_of_case(r));
        told *t = new_told();
        t->stop_after = after;
        OK(ponder_session_generate(s, take_event, t));
        assert_int_equal(t->end, PONDER_END_CANCELLED);
        assert_int_equal(t->events, after + 1);
        free(t);
        goes_on(s, r);
        ponder_session_free(s);
    }
    json_decref(all);
}

static void cancel_between_steps(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    for (int steps = 1; steps < 400; steps += 57) {
        uint64_t more = 0;
        ponder_session *s = asked(*state, r, config_of_case(r));
        told *t = new_told();
        bool done = false;
        for (int i = 0; i < steps && !done; i++) done = one_step(s, 0, t, &more);
        assert_false(done);
        ponder_session_cancel(s);
        assert_true(one_step(s, 0, t, &more));
        assert_int_equal(t->end, PONDER_END_CANCELLED);
        free(t);
        goes_on(s, r);
        ponder_session_free(s);
    }
    json_decref(all);
}

static void cancel_of_nothing(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    float logits[SEED_VOCAB], logprob;
    int32_t id = 5;
    size_t n;
    ponder_session *s = asked(*state, r, config_of_case(r));
    ponder_session_cancel(s);
    OK(ponder_session_logits(s, logits, COUNT(logits), &n));
    OK(ponder_session_prompt_ids(s, &id, 1));
    ponder_session_cancel(s);
    OK(ponder_session_score(s, &id, 1, &logprob));
    ponder_eval e = {.size = sizeof e, .logits = logits};
    ponder_session_cancel(s);
    OK(ponder_session_eval(s, &id, 1, &e));
    ponder_session_cancel(s);
    assert_true(generate_end(s) != PONDER_END_CANCELLED);
    ponder_session_cancel(NULL);
    ponder_session_free(s);
    json_decref(all);
}

typedef struct canceller {
    ponder_session *s;
    _Atomic uint32_t events;
} canceller;

static void *cancel_later(void *user)
{
    canceller *c = user;
    while (atomic_load(&c->events) < 5) sched_yield();
    ponder_session_cancel(c->s);
    return NULL;
}

static int32_t count_event(void *user, const ponder_event *e)
{
    canceller *c = user;
    if (e->kind == PONDER_EVENT_DONE && e->end != PONDER_END_CANCELLED) return 1;
    atomic_fetch_add(&c->events, 1);
    return 0;
}

/* Without a limit but the context, which is far away: the turn ends only because of the cancel. */
static void cancel_from_a_thread(void **state)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 1 << 15));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
    OK(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1));
    ponder_session *s = new_session(*state, c);
    pthread_t thread;
    canceller who = {.s = s};
    add(s, "user", "Add 904+471");
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &who), 0);
    OK(ponder_session_generate(s, count_event, &who));
    assert_int_equal(pthread_join(thread, NULL), 0);
    ids got = tokens_of(s);
    assert_true(got.n < 1 << 15);
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 3));
    OK(ponder_session_configure(s, c));
    add(s, "user", "Add 1+2");
    assert_int_equal(generate_end(s), PONDER_END_LENGTH);
    ponder_session_free(s);
    ponder_config_free(c);
}

typedef struct talker {
    ponder_model *m;
    const json_t *r;
    bool right;
} talker;

static void *talk(void *user)
{
    talker *t = user;
    ponder_session *s = asked(t->m, t->r, config_of_case(t->r));
    ids answer = ids_at(t->r, "greedy_ids"), got;
    if (ponder_session_generate(s, NULL, NULL) == PONDER_OK) {
        got = tokens_of(s);
        t->right = got.n > answer.n && memcmp(got.id + got.n - answer.n, answer.id, answer.n * sizeof *answer.id) == 0;
    }
    ponder_session_free(s);
    return NULL;
}

static void threads_on_one_model(void **state)
{
    json_t *all = seed_references();
    pthread_t thread[5];
    talker who[5];
    for (size_t i = 0; i < COUNT(who); i++) {
        who[i] = (talker){*state, json_array_get(all, i), false};
        assert_int_equal(pthread_create(&thread[i], NULL, talk, &who[i]), 0);
    }
    for (size_t i = 0; i < COUNT(who); i++) pthread_join(thread[i], NULL);
    for (size_t i = 0; i < COUNT(who); i++) assert_true(who[i].right);
    json_decref(all);
}

/* The session of a callback is in use: every call on it says so, but for cancel. */
static int32_t calls_back(void *user, const ponder_event *e)
{
    ponder_session *s = user;
    size_t n;
    if (e->kind == PONDER_EVENT_DONE) return 0;
    assert_int_equal(ponder_session_tokens(s, NULL, 0, &n), PONDER_E_BUSY);
    assert_int_equal(ponder_session_add(s, "user", "x", 1), PONDER_E_BUSY);
    assert_int_equal(ponder_session_generate(s, NULL, NULL), PONDER_E_BUSY);
    return 0;
}

static void calls_from_a_callback(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 4);
    ponder_session *s = asked(*state, r, config_of_case(r));
    OK(ponder_session_generate(s, calls_back, s));
    ponder_session_free(s);
    json_decref(all);
}

/* ---- probabilities and sampling ------------------------------------------------------------------------ */

static double log_softmax(const float *x, size_t n, size_t i)
{
    double max = (double)x[0], sum = 0;
    for (size_t k = 1; k < n; k++) max = fmax(max, (double)x[k]);
    for (size_t k = 0; k < n; k++) sum += exp((double)x[k] - max);
    return (double)x[i] - max - log(sum);
}

static int32_t check_top(void *user, const ponder_event *e)
{
    const float *logits = user;
    if (e->kind == PONDER_EVENT_DONE || e->token < 0) return 0;
    assert_float_equal((double)e->logprob, log_softmax(logits, SEED_VOCAB, (size_t)e->token), 1e-5);
    assert_int_equal(e->n_top, 7);
    size_t better = 0;
    for (size_t k = 0; k < SEED_VOCAB; k++) better += logits[k] > logits[e->top[6].token];
    assert_true(better <= 6);
    for (size_t k = 0; k < 7; k++) {
        assert_float_equal((double)e->top[k].logprob, log_softmax(logits, SEED_VOCAB, (size_t)e->top[k].token), 1e-5);
        if (k) assert_true(e->top[k].logprob <= e->top[k - 1].logprob && e->top[k].token != e->top[k - 1].token);
    }
    return 0;
}

static void log_probabilities(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    ponder_config *c = config_of_case(r);
    OK(ponder_config_set_i64(c, PONDER_P_LOGPROBS, 7));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 1));
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 3)); /* reported are those of the unchanged logits */
    ponder_session *s = asked(*state, r, c);
    float logits[SEED_VOCAB];
    size_t n;
    for (int i = 0; i < 8; i++) {
        OK(ponder_session_logits(s, logits, COUNT(logits), &n));
        ponder_status st = ponder_session_generate(s, check_top, logits);
        if (st == PONDER_E_STATE) break; /* the model ended its turn */
        OK(st);
    }
    ponder_session_free(s);
    json_decref(all);
}

/* With probabilities each token has its event; the text is the same, the end token brings none. */
static void probabilities_change_no_text(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    for (size_t i = 0; i < 2; i++) {
        ponder_config *c = config_of_case(r);
        OK(ponder_config_set_i64(c, PONDER_P_LOGPROBS, 0));
        if (i) OK(ponder_config_set_str(c, PONDER_P_STOP, "Cassistant to=userC!"));
        ponder_session *s = asked(*state, r, c);
        told *t = generate(s);
        assert_string_equal(t->text, said);
        assert_int_equal(t->output, ids_at(r, "greedy_ids").n);
        assert_int_equal(t->events, t->output + 1 + i); /* what was held back comes after the last token */
        free(t);
        ponder_session_free(s);
    }
    json_decref(all);
}

static void biases(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 0);
    ponder_config *c = config_of_case(r);
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 1));
    ponder_session *s = asked(*state, r, c);
    float logits[SEED_VOCAB];
    size_t n, best = 0, second;
    OK(ponder_session_logits(s, logits, COUNT(logits), &n));
    const size_t start = tokens_of(s).n;
    for (size_t i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    second = best == 0;
    for (size_t i = 0; i < n; i++) second = i != best && logits[i] > logits[second] ? i : second;
    const struct { float bias; size_t token; } tries[] = {{-INFINITY, second}, {0, best}, {-1000, second}, {1000, best}};
    for (size_t i = 0; i < COUNT(tries); i++) {
        OK(ponder_session_bias(s, (int32_t)best, tries[i].bias));
        OK(ponder_session_generate(s, NULL, NULL));
        assert_int_equal(tokens_of(s).id[start], tries[i].token);
        OK(ponder_session_rewind(s, start, NULL));
    }
    assert_int_equal(ponder_session_bias(s, -1, 1), PONDER_E_RANGE);
    assert_int_equal(ponder_session_bias(s, SEED_VOCAB, 1), PONDER_E_RANGE);
    assert_int_equal(ponder_session_bias(s, 0, NAN), PONDER_E_RANGE);
    ponder_session_free(s);
    json_decref(all);
}

static told *sampled(ponder_model *m, const json_t *r, int64_t seed)
{
    ponder_config *c = config_of_case(r);
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
    OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
    ponder_session *s = asked(m, r, c);
    told *t = generate(s);
    ponder_session_free(s);
    return t;
}

static void seeds(void **state)
{
    json_t *all = seed_references();
    const json_t *r = json_array_get(all, 2); /* a search: the thought is open */
    told *first = sampled(*state, r, 1);
    bool other = false;
    for (int64_t seed = 1; seed < 9; seed++) {
        told *a = sampled(*state, r, seed), *b = sampled(*state, r, seed);
        same_told(a, b);
        other = other || strcmp(a->text, first->text) != 0;
        free(a);
        free(b);
    }
    assert_true(other);
    free(first);
    json_decref(all);
}

/* ---- whole characters only ---------------------------------------------------------------------------------- */

/* seed0's first 256 tokens are bytes: the printable ones of Latin-1 in order, then the others. */
static int32_t byte_token(uint8_t b)
{
    if (b >= 0x21 && b <= 0x7e) return b - 0x21;
    if (b >= 0xa1 && b <= 0xac) return 94 + b - 0xa1;
    if (b >= 0xae) return 106 + b - 0xae;
    return b <= 0x20 ? 188 + b : b == 0xad ? 255 : 221 + b - 0x7f;
}

static void whole_characters(void **state)
{
    static const struct { const char *bytes, *text; } tries[] = {
        {"\xe2\x82\xac", "\xe2\x82\xac"}, {"\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!"}, {"a\xc3\xa9", "a\xc3\xa9"},
        {"\xe2\x82""A", "\xef\xbf\xbd""A"}, {"\xf0\x9f", "\xef\xbf\xbd"}, {"\x80""x", "\xef\xbf\xbdx"},
    };
    for (size_t i = 0; i < COUNT(tries); i++) {
        ponder_config *c = new_config();
        OK(ponder_config_set_i64(c, PONDER_P_LOGPROBS, 0)); /* an event for each token */
        ponder_session *s = new_session(*state, c);
        told *t = new_told();
        uint64_t more = 0;
        add(s, "user", "x");
        for (size_t k = 0; k <= strlen(tries[i].bytes); k++) {
            int32_t token = tries[i].bytes[k] ? byte_token((uint8_t)tries[i].bytes[k]) : EOT;
            OK(ponder_session_bias(s, token, 1e9f));
            one_step(s, UINT64_MAX, t, &more);
            OK(ponder_session_bias(s, token, 0));
        }
        while (t->dones == 0) one_step(s, UINT64_MAX, t, &more);
        assert_int_equal(t->end, PONDER_END_EOS);
        assert_string_equal(t->text, tries[i].text);
        free(t);
        ponder_session_free(s);
        ponder_config_free(c);
    }
}

int main(void)
{
    struct CMUnitTest tests[] = {
        cmocka_unit_test(slices), cmocka_unit_test(two_in_turn), cmocka_unit_test(stop_strings), cmocka_unit_test(stops_are_forgotten),
        cmocka_unit_test(context_full), cmocka_unit_test(prompt_too_long), cmocka_unit_test(most_tokens),
        cmocka_unit_test(callback_cancels), cmocka_unit_test(cancel_between_steps), cmocka_unit_test(cancel_of_nothing),
        cmocka_unit_test(cancel_from_a_thread), cmocka_unit_test(threads_on_one_model), cmocka_unit_test(calls_from_a_callback),
        cmocka_unit_test(log_probabilities), cmocka_unit_test(probabilities_change_no_text), cmocka_unit_test(biases),
        cmocka_unit_test(seeds), cmocka_unit_test(whole_characters),
    };
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_THREADS, 2));
    ponder_model *m = open_model("seed0", c);
    for (size_t i = 0; i < COUNT(tests); i++) tests[i].initial_state = m;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ponder_model_free(m);
    ponder_config_free(c);
    return failed;
}
