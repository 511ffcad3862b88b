/* What the tests of agents share: seed0 thinking at a temperature, its questions, and what an agent wrote beside a session alone. */
#ifndef CREW_H
#define CREW_H

#include "../session/use.h"

enum { MOST_AGENTS = 12 };

typedef struct said {
    char thought[2048], answer[2048];
    int32_t end;
    uint64_t tokens, thought_tokens;
} said;

static inline ponder_config *thinking(double temperature, int64_t seed, int64_t threads)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, temperature));
    OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
    OK(ponder_config_set_i64(c, PONDER_P_THREADS, threads));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 120));
    OK(ponder_config_set_str(c, PONDER_P_EFFORT, "high"));
    return c;
}

static inline int32_t hear(void *user, const ponder_event *e)
{
    said *s = user;
    char *to = e->kind == PONDER_EVENT_THOUGHT ? s->thought : e->kind == PONDER_EVENT_ANSWER ? s->answer : NULL;
    if (to) strncat(to, e->text, e->text_bytes);
    if (e->kind != PONDER_EVENT_DONE) return 0;
    s->end = e->end;
    s->tokens = e->output_tokens;
    s->thought_tokens = e->thought_tokens;
    return 0;
}

/* A session alone with this seed. */
static inline said alone(ponder_model *m, ponder_config *c, int64_t seed, const char *question)
{
    said s = {.end = -1};
    OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
    ponder_session *one = new_session(m, c);
    add(one, "user", question);
    OK(ponder_session_generate(one, hear, &s));
    ponder_session_free(one);
    return s;
}

static inline said of_agent(ponder_agent *a)
{
    said s = {.end = -1};
    size_t n;
    ponder_agent_info i = {.size = sizeof i};
    OK(ponder_agent_status(a, &i));
    OK(ponder_agent_read(a, PONDER_EVENT_THOUGHT, s.thought, sizeof s.thought - 1, &n));
    OK(ponder_agent_read(a, PONDER_EVENT_ANSWER, s.answer, sizeof s.answer - 1, &n));
    s.end = i.end;
    s.tokens = i.tokens;
    s.thought_tokens = i.thought_tokens;
    return s;
}

static inline void same(const said *a, const said *b)
{
    assert_string_equal(a->thought, b->thought);
    assert_string_equal(a->answer, b->answer);
    assert_int_equal(a->end, b->end);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(a->thought_tokens, b->thought_tokens);
}

static inline ponder_agent_info status_of(ponder_agent *a)
{
    ponder_agent_info i = {.size = sizeof i};
    OK(ponder_agent_status(a, &i));
    return i;
}

static inline int64_t model_number(ponder_model *m, int32_t id)
{
    int64_t v;
    OK(ponder_model_info_i64(m, id, &v));
    return v;
}

static const char search_question[] = "Which 3 of 91462 sum to 11?";

#endif
