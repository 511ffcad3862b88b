/* `ponder contemplate`: many agents, one answer. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crew.h"

typedef struct contemplate {
    crew crew;
    const char *system, *report, *svg, *schema;
    int64_t agents, max_ms, answer_tokens;
    int quiet;
    char *question;
    size_t bytes;
} contemplate;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

double crew_ms(const crew *c)
{
    return now_ms() - c->began;
}

const char *end_name(int32_t end)
{
    static const char *const names[] = {"running", "eos", "length", "stop", "context", "cancelled", "failed", "time", "budget"};
    return end >= 0 && (size_t)end < sizeof names / sizeof *names ? names[end] : "unknown";
}

const char *decided_name(int32_t decided_by)
{
    static const char *const names[] = {"none", "all", "quorum", "decided", "drop", "deadline", "tokens", "cancelled"};
    return decided_by >= 0 && (size_t)decided_by < sizeof names / sizeof *names ? names[decided_by] : "unknown";
}

static seen *agent_of(crew *c, uint32_t number)
{
    while (c->n <= number) {
        if (c->n == c->room) {
            c->room = c->room ? 2 * c->room : 16;
            c->agents = must_realloc(c->agents, c->room, sizeof *c->agents);
        }
        c->agents[c->n++] = (seen){.begun = -1, .answering = -1, .ended = -1};
    }
    return &c->agents[number];
}

static void take(crew *c, ponder_contemplation *k, const ponder_event *event)
{
    seen *a = agent_of(c, (uint32_t)event->agent);
    double ms = crew_ms(c);
    ponder_agent *agent;
    if (a->begun < 0)
        a->begun = ms;
    a->pieces += event->text_bytes > 0;
    if (event->kind == PONDER_EVENT_THOUGHT)
        a->thoughts++;
    if (event->kind == PONDER_EVENT_ANSWER) {
        if (a->answering < 0)
            a->answering = ms;
        buffer_add(&a->answer, event->text, event->text_bytes);
    }
    if (event->kind == PONDER_EVENT_DONE && !event->calls) {
        a->ended = ms;
        a->end = event->end;
        a->thoughts = event->thought_tokens ? event->thought_tokens : a->thoughts;
        if (!c->lanes && !c->quiet && ponder_contemplation_agent(&agent, k, (uint32_t)event->agent) == PONDER_OK)
            lanes_say(c, (uint32_t)event->agent, agent);
    }
}

static void print_summary(const ponder_contemplation_info *i, const crew *c)
{
    fprintf(stderr, "%s[decided by: %s", tint(stderr, TINT_DIM), decided_name(i->decided_by));
    if (i->writer >= 0)
        fprintf(stderr, ", written by agent %d", (int)i->writer + 1);
    else if (i->votes)
        fprintf(stderr, ", %u of %u votes", i->votes, i->voters);
    if (i->fallback)
        fprintf(stderr, ", the vote instead of a written answer");
    fprintf(stderr, "; %u agents, %u finished, %llu tokens, %.1f s]%s\n", i->agents, i->finished, (unsigned long long)i->tokens,
            crew_ms(c) / 1e3, tint(stderr, TINT_PLAIN));
}

/* Events until the end; Ctrl-C cancels the session, and with it all. */
static ponder_status drive(crew *c, ponder_contemplation *k, ponder_session *session)
{
    ponder_event event = {.size = sizeof event};
    ponder_status status;
    interrupt_cancels(session);
    do {
        status = ponder_contemplation_step(k, c->lanes ? 50000 : 1000000, &event);
        if (status == PONDER_OK && event.agent >= 0)
            take(c, k, &event);
        if (c->lanes)
            lanes_draw(c, 0);
        if (interrupted())
            ponder_contemplation_cancel(k);
    } while (status == PONDER_MORE || (status == PONDER_OK && !(event.kind == PONDER_EVENT_DONE && event.agent < 0)));
    interrupt_cancels(NULL);
    c->decided = crew_ms(c);
    if (c->lanes)
        lanes_draw(c, 1);
    return status;
}

static int print_answer(ponder_contemplation *k)
{
    size_t n;
    char *text;
    if (ponder_contemplation_answer(k, NULL, 0, &n) != PONDER_OK)
        return EXIT_FAIL;
    text = must_alloc(n + 1, 1);
    ponder_contemplation_answer(k, text, n, &n);
    fwrite(text, 1, n, stdout);
    if (!n || text[n - 1] != '\n')
        putchar('\n');
    free(text);
    return finish_output();
}

static int finish(contemplate *a, ponder_contemplation *k, ponder_status status)
{
    ponder_contemplation_info info = {.size = sizeof info};
    int code = 0;
    ponder_contemplation_status(k, &info);
    if (a->report)
        code = report_write(a->report, &a->crew, k);
    if (a->svg && !code)
        code = svg_write(a->svg, &a->crew, k);
    if (status != PONDER_OK)
        return fail("contemplate", status, ponder_contemplation_error(k));
    if (!a->quiet)
        print_summary(&info, &a->crew);
    if (info.end != PONDER_END_EOS)
        return fail("contemplate", PONDER_E_CANCELLED, info.end == PONDER_END_CANCELLED ? "cancelled" : "no agent was finished in time");
    return code ? code : print_answer(k);
}

static int run(contemplate *a, ponder_model *model, ponder_config *config)
{
    ponder_session *session;
    ponder_contemplation *k;
    ponder_status status;
    int code = open_session(&session, model, config, a->system);
    if (code)
        return code;
    status = ponder_session_add(session, "user", a->question, a->bytes);
    a->crew.began = now_ms();
    if (status == PONDER_OK)
        status = ponder_contemplation_new(&k, session, config);
    if (status != PONDER_OK) {
        code = fail("contemplate", status, ponder_session_error(session));
    } else {
        status = drive(&a->crew, k, session);
        code = finish(a, k, status);
        ponder_contemplation_free(k);
    }
    ponder_session_free(session);
    return code;
}

static ponder_status set_options(contemplate *a, ponder_config *config)
{
    ponder_status status = ponder_config_set_i64(config, PONDER_P_AGENTS, a->agents);
    /* Its agents stop thinking early enough to answer before the whole ends. */
    if (status == PONDER_OK && a->max_ms)
        status = ponder_config_set_i64(config, PONDER_P_DEADLINE_MS, a->max_ms);
    if (status == PONDER_OK && a->max_ms)
        status = ponder_config_set_i64(config, PONDER_P_TURN_MS, a->max_ms * 9 / 10 + 1);
    if (status == PONDER_OK && a->max_ms)
        status = ponder_config_set_str(config, PONDER_P_CLOCK, "wall");
    if (status == PONDER_OK && a->answer_tokens)
        status = ponder_config_set_i64(config, PONDER_P_ANSWER_TOKENS, a->answer_tokens);
    return status;
}

static int open_and_run(contemplate *a, ponder_config *config, const char *path)
{
    ponder_model *model = NULL;
    ponder_status status = set_options(a, config);
    int code = status == PONDER_OK ? 0 : fail("option", status, ponder_config_error(config));
    if (!code && a->schema)
        code = set_schema(config, a->schema);
    if (!code)
        code = open_model(&model, path, config, a->quiet);
    if (!code)
        code = run(a, model, config);
    ponder_model_free(model);
    return code;
}

static void join(contemplate *a, int words, char **word)
{
    buffer b = {0};
    for (int i = 0; i < words; i++) {
        if (i)
            buffer_add(&b, " ", 1);
        buffer_add(&b, word[i], strlen(word[i]));
    }
    a->question = b.p;
    a->bytes = b.n;
}

int command_contemplate(int argc, char **argv)
{
    contemplate a = {.agents = 8};
    int args, code;
    const option table[] = {
        {"-n", "N", "how many agents work on it; 8 if unsaid", OPTION_NUMBER, &a.agents, 0},
        {"--synthesis", "HOW", "vote, confidence (a weighted vote) or written (the model writes the answer from the results)", OPTION_PARAM, NULL, PONDER_P_SYNTHESIS},
        {"--quorum", "X", "stop when this share of the agents is done", OPTION_PARAM, NULL, PONDER_P_QUORUM},
        {"--decide", "X", "stop when the vote is decided: 1 for certain, below with this probability, 0 never", OPTION_PARAM, NULL, PONDER_P_DECIDE},
        {"--at-once", "N", "so many agents at a time, then the next ones unless it is decided; 0: all", OPTION_PARAM, NULL, PONDER_P_AT_ONCE},
        {"--rounds", "N", "rounds; from the second on agents see results of the one before", OPTION_PARAM, NULL, PONDER_P_ROUNDS},
        {"--role", "TEXT", "a role; agents take them in turn; may be given again", OPTION_PARAM, NULL, PONDER_P_ROLE},
        {"--answers", "FORM", "what answers are compared as: number, choice, json, text", OPTION_PARAM, NULL, PONDER_P_ANSWER_FORM},
        {"--max-thought", "N", "most tokens of an agent's thought; -1: no limit", OPTION_PARAM, NULL, PONDER_P_THINK_TOKENS},
        {"--max-ms", "N", "most milliseconds of it all; thoughts close in time to answer", OPTION_NUMBER, &a.max_ms, 0},
        {"--answer-tokens", "N", "tokens that a thought leaves to the answer", OPTION_NUMBER, &a.answer_tokens, 0},
        {"--report", "FILE", "what every agent wrote and took, as JSON", OPTION_TEXT, &a.report, 0},
        {"--svg", "FILE", "the timeline as a picture", OPTION_TEXT, &a.svg, 0},
        {"--system", "TEXT", "a system message before the question", OPTION_TEXT, &a.system, 0},
        {"--json", "FILE", "a JSON Schema that binds the answers", OPTION_TEXT, &a.schema, 0},
        OPTIONS_ANSWERING,
        OPTION_ANY,
        {"--quiet", NULL, "no progress, no summary", OPTION_FLAG, &a.quiet, 0},
    };
    const options o = {
        "contemplate MODEL -n N [OPTIONS] QUESTION...",
        "Several agents think about one question side by side, and their answers become one. It alone goes to standard output; the\n"
        "agents are shown on standard error: as lanes in a terminal, else as a line when one is done. The temperature is 1 if\n"
        "unsaid: agents that always take the most likely token would all write the same. Ctrl-C ends it.",
        "examples:\n"
        "  ponder contemplate model.gguf -n 8 'How many primes are there below 100?'\n"
        "  ponder contemplate muse/ -n 16 --effort high --max-ms 20000 --report r.json --svg r.svg 'Which 3 of 91462 sum to 11?'",
        table, sizeof table / sizeof *table, new_config(), 2, INT_MAX};
    interrupt_install();
    ponder_config_set_f64(o.config, PONDER_P_TEMPERATURE, 1);
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON) {
        a.crew.quiet = a.quiet;
        a.crew.lanes = !a.quiet && is_terminal(stderr) && *tint(stderr, TINT_DIM);
        a.crew.asked = a.agents > 0 ? (uint32_t)a.agents : 0;
        a.crew.decided = -1;
        join(&a, args - 1, argv + 2);
        code = open_and_run(&a, o.config, argv[1]);
    }
    for (uint32_t i = 0; i < a.crew.n; i++)
        free(a.crew.agents[i].answer.p);
    free(a.crew.agents);
    free(a.question);
    ponder_config_free(o.config);
    return code;
}
