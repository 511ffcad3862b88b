/* live URL[ URL2] [--template T] [--thinks] [--kill PID]: a real server, asked for everything that a remote model can do; one line a
 * check, and what was seen. --thinks: its model has thoughts and the tool "add" (tests/reference's scripted Muse Glimmer); else it is
 * a plain one (SmolLM2). --kill: the process of the first server, ended in the middle of sixteen answers. Run by llama_server.sh and vllm.sh. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ponder.h>

enum { MANY = 16, ROOM = 16384 };

static int wrong;

static void check(bool good, const char *what, const char *detail)
{
    printf("%s: %s%s%s\n", good ? "ok" : "WRONG", what, *detail ? ": " : "", detail);
    fflush(stdout);
    wrong += !good;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef struct heard {
    char thought[ROOM], answer[ROOM], calls[ROOM];
    unsigned pieces, restarts;
    ponder_event done;
    ponder_thought t;
    ponder_status st;
    char text[256];
} heard;

static void add(char *to, const char *p, size_t n)
{
    const size_t have = strlen(to);
    if (have + n >= ROOM) n = ROOM - 1 - have;
    memcpy(to + have, p, n);
    to[have + n] = 0;
}

static int32_t note(void *user, const ponder_event *e)
{
    heard *h = user;
    if (e->kind == PONDER_EVENT_THOUGHT) add(h->thought, e->text, e->text_bytes);
    if (e->kind == PONDER_EVENT_ANSWER) add(h->answer, e->text, e->text_bytes);
    if (e->kind == PONDER_EVENT_TOOL_CALL) add(h->calls, e->name, e->name_bytes), add(h->calls, e->text, e->text_bytes);
    if (e->kind == PONDER_EVENT_RESTART) h->restarts++, h->thought[0] = h->answer[0] = 0;
    if (e->kind == PONDER_EVENT_DONE) h->done = *e;
    h->pieces++;
    return 0;
}

static ponder_session *session_of(ponder_model *m, ponder_config *c)
{
    ponder_session *s;
    if (ponder_session_new(&s, m, c) == PONDER_OK) return s;
    printf("session: %s\n", ponder_config_error(c));
    exit(1);
}

static void finish(ponder_session *s, heard *h, ponder_status st)
{
    h->st = st;
    h->t.size = sizeof h->t;
    snprintf(h->text, sizeof h->text, "%s", ponder_session_error(s));
    ponder_session_thought(s, &h->t);
}

static heard ask(ponder_session *s, const char *question)
{
    heard h = {.pieces = 0};
    ponder_status st = ponder_session_add(s, "user", question, strlen(question));
    if (st == PONDER_OK) st = ponder_session_generate(s, note, &h);
    finish(s, &h, st);
    return h;
}

static heard ask_new(ponder_model *m, ponder_config *c, const char *question, const char *tools)
{
    ponder_session *s = session_of(m, c);
    if (tools && ponder_session_tools(s, tools, strlen(tools)) != PONDER_OK) printf("tools: %s\n", ponder_session_error(s));
    heard h = ask(s, question);
    ponder_session_free(s);
    return h;
}

static void set(ponder_config *c, ponder_param id, int64_t v)
{
    if (ponder_config_set_i64(c, id, v) != PONDER_OK && ponder_config_set_f64(c, id, (double)v) != PONDER_OK) exit(2);
}

static void plain(ponder_model *m, ponder_config *c)
{
    char text[512];
    heard h = ask_new(m, c, "What is the capital of France?", NULL);
    snprintf(text, sizeof text, "%u events, %llu + %llu prompt, %llu output tokens: %.60s %s", h.pieces, (unsigned long long)h.done.prompt_tokens,
             (unsigned long long)h.done.reused_tokens, (unsigned long long)h.done.output_tokens, h.answer, h.text);
    check(h.st == PONDER_OK && h.pieces > 4 && h.answer[0] && h.done.output_tokens > 1, "it streams", text);
    heard again = ask_new(m, c, "What is the capital of France?", NULL);
    check(strcmp(h.answer, again.answer) == 0, "the same seed gives the same text", "");
    ponder_session *s = session_of(m, c), *fork;
    ask(s, "My name is Ada.");
    h = ask(s, "What is my name?");
    check(h.st == PONDER_OK, "a second turn", h.answer);
    if (ponder_session_fork(&fork, s, c) == PONDER_OK) {
        h = ask(fork, "And again?");
        check(h.st == PONDER_OK, "a fork goes its own way", h.text);
        ponder_session_free(fork);
    }
    ponder_session_free(s);
}

static void bound(ponder_model *m, ponder_config *c)
{
    ponder_config_set_str(c, PONDER_P_SCHEMA, "{\"type\":\"object\",\"properties\":{\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],\"additionalProperties\":false}");
    heard h = ask_new(m, c, "The capital of France as JSON.", NULL);
    check(h.st == PONDER_OK && h.answer[0] == '{' && (strstr(h.answer, "Paris") || strstr(h.answer, "Rome")), "a schema binds the answer", h.st ? h.text : h.answer);
    ponder_config_set_str(c, PONDER_P_SCHEMA, "");
    set(c, PONDER_P_MAX_TOKENS, 5);
    h = ask_new(m, c, "Count to one hundred.", NULL);
    check(h.done.end == PONDER_END_LENGTH && h.done.output_tokens == 5, "max_tokens ends it", h.text);
    set(c, PONDER_P_MAX_TOKENS, 60);
    ponder_session *s = session_of(m, c);
    set(c, PONDER_P_MAX_TOKENS, 4);
    ponder_session_configure(s, c);
    heard first = ask(s, "Write one sentence about the sea.");
    set(c, PONDER_P_MAX_TOKENS, 30);
    ponder_session_configure(s, c);
    heard rest = {.pieces = 0};
    finish(s, &rest, ponder_session_generate(s, note, &rest));
    char text[512];
    snprintf(text, sizeof text, "%.40s|%.100s %s", first.answer, rest.answer, rest.text);
    check(rest.st == PONDER_OK && rest.answer[0], "a turn that was cut goes on", text);
    ponder_session_free(s);
}

static const char tools[] = "[{\"name\":\"add\",\"description\":\"Adds two numbers.\",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}}}}]";

/* By how many tokens a thought may seem to pass its limit. vLLM lists the tokens of each piece, so the limit is exact there. llama-server
 * does not: a piece is taken for one token, but it holds back text that may become a marker, and bytes that are no whole letter yet,
 * and sends them together with what comes next, so that a piece now and then holds two tokens. */
static int64_t slack_of(ponder_model *m)
{
    char server[32] = "";
    size_t n = 0;
    ponder_model_info_str(m, PONDER_INFO_SERVER, server, sizeof server, &n);
    return n == 9 && memcmp(server, "llama.cpp", 9) == 0;
}

static void thoughts(ponder_model *m, ponder_config *c)
{
    char text[256];
    const int64_t slack = slack_of(m);
    unsigned thought = 0, called = 0, answered = 0, over = 0, cap = 0, natural = 0, other = 0;
    set(c, PONDER_P_TEMPERATURE, 1);
    for (int seed = 1; seed <= 30; seed++) {
        set(c, PONDER_P_SEED, seed);
        heard h = ask_new(m, c, "From 3 do 4", tools);
        thought += h.thought[0] != 0;
        called += strcmp(h.calls, "add{\"a\": 7, \"b\": 5}") == 0 || strcmp(h.calls, "add{\"a\":7,\"b\":5}") == 0;
        answered += h.answer[0] >= '0' && h.answer[0] <= '9' && !h.answer[1];
        if (h.st != PONDER_OK) printf("   %s\n", h.text);
    }
    snprintf(text, sizeof text, "of 30: %u thought, %u answered with one digit, %u called add(a=7, b=5)", thought, answered, called);
    check(thought > 15 && answered > 10 && called > 0, "thoughts, answers and calls are told apart", text);
    static const struct { int64_t tokens, ms; const char *message; } budgets[] = {{0, -1, ""}, {1, -1, ""}, {5, -1, ""}, {20, -1, ""}, {5, -1, " so."}, {-1, 150, ""}};
    for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
        unsigned most = 0, bad = 0;
        over = cap = natural = other = answered = 0;
        set(c, PONDER_P_THINK_TOKENS, budgets[b].tokens);
        set(c, PONDER_P_THINK_MS, budgets[b].ms);
        ponder_config_set_str(c, PONDER_P_THINK_MESSAGE, budgets[b].message);
        for (int seed = 1; seed <= 30; seed++) {
            set(c, PONDER_P_SEED, seed);
            heard h = ask_new(m, c, "From 3 do 4", tools); /* it calls now and then: llama-server fails a call without tools */
            const size_t bytes = strlen(h.thought), note_bytes = strlen(budgets[b].message);
            const bool cut = h.t.why == PONDER_THOUGHT_CAP || h.t.why == PONDER_THOUGHT_TIME;
            const size_t told = bytes - (cut && note_bytes && bytes >= note_bytes ? note_bytes : 0); /* one letter is one token */
            if (budgets[b].tokens >= 0) over += (int64_t)told > budgets[b].tokens;
            if (told > most) most = (unsigned)told;
            cap += cut;
            natural += h.t.why == PONDER_THOUGHT_NATURAL;
            other += !cut && h.t.why != PONDER_THOUGHT_NATURAL;
            answered += h.answer[0] != 0 || h.calls[0] != 0;
            bad += h.st != PONDER_OK;
            if (h.st != PONDER_OK) printf("   %s\n", h.text);
        }
        snprintf(text, sizeof text, "tokens %lld, ms %lld, message \"%s\": of 30, %u over; longest %u; cut %u, natural %u, none %u; answered %u, failed %u",
                 (long long)budgets[b].tokens, (long long)budgets[b].ms, budgets[b].message, over, most, cap, natural, other, answered, bad);
        check((budgets[b].tokens < 0 || most <= budgets[b].tokens + slack) && bad == 0, "a thought budget is kept", text);
    }
    set(c, PONDER_P_THINK_TOKENS, -1);
    set(c, PONDER_P_THINK_MS, -1);
    ponder_config_set_str(c, PONDER_P_THINK_MESSAGE, "");
}

/* Sixteen answers at once, driven by this thread; `victim`: a server's process, ended when the first of them has said something. */
static void many(ponder_model *m, ponder_config *c, pid_t victim, bool thinks)
{
    static heard h[MANY];
    ponder_session *s[MANY];
    unsigned left = MANY, good = 0, restarts = 0;
    uint64_t tokens = 0;
    char text[256];
    set(c, PONDER_P_TEMPERATURE, 1);
    ponder_config_set_i64(c, PONDER_P_REMOTE_RESTART, 1);
    const double began = now();
    for (int i = 0; i < MANY; i++) {
        memset(&h[i], 0, sizeof h[i]);
        h[i].st = PONDER_MORE;
        set(c, PONDER_P_SEED, i + 1);
        s[i] = session_of(m, c);
        if (thinks) ponder_session_tools(s[i], tools, sizeof tools - 1); /* as above: it calls now and then */
        ponder_session_add(s[i], "user", "Tell me a number and why.", 25);
    }
    while (left)
        for (int i = 0; i < MANY; i++) {
            ponder_event e = {.size = sizeof e};
            if (h[i].st != PONDER_MORE) continue;
            ponder_status st = ponder_session_step(s[i], 2000, &e);
            if (st == PONDER_MORE) continue;
            if (st == PONDER_OK) note(&h[i], &e);
            if (victim && h[i].pieces > 2) kill(victim, SIGKILL), victim = 0;
            if (st == PONDER_OK && e.kind != PONDER_EVENT_DONE) continue;
            finish(s[i], &h[i], st);
            left--;
        }
    for (int i = 0; i < MANY; i++) {
        good += h[i].st == PONDER_OK;
        restarts += h[i].restarts;
        tokens += h[i].done.output_tokens;
        if (h[i].st != PONDER_OK) printf("   %s\n", h[i].text);
        ponder_session_free(s[i]);
    }
    snprintf(text, sizeof text, "%u of %d whole, %llu tokens in %.1f s, %u begun again", good, MANY, (unsigned long long)tokens, now() - began, restarts);
    check(good == MANY, "sixteen at once by one caller", text);
}

int main(int argc, char **argv)
{
    ponder_config *c;
    ponder_model *m;
    const char *url = argc > 1 ? argv[1] : "";
    bool thinks = false;
    pid_t victim = 0;
    char name[64], server[32], text[160];
    size_t n = 0, k = 0;
    int64_t context = 0, servers = 0;
    if (ponder_config_new(&c, NULL) != PONDER_OK) return 1;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--thinks")) thinks = true;
        if (!strcmp(argv[i], "--template") && i + 1 < argc) ponder_config_set_str(c, PONDER_P_TEMPLATE, argv[++i]);
        if (!strcmp(argv[i], "--kill") && i + 1 < argc) victim = (pid_t)atoi(argv[++i]);
    }
    set(c, PONDER_P_MAX_TOKENS, thinks ? 400 : 60);
    if (ponder_model_open_remote(&m, url, c) != PONDER_OK) {
        printf("WRONG: %s\n", ponder_config_error(c));
        return 1;
    }
    ponder_model_info_str(m, PONDER_INFO_NAME, name, sizeof name, &n);
    ponder_model_info_str(m, PONDER_INFO_SERVER, server, sizeof server, &k);
    ponder_model_info_i64(m, PONDER_INFO_CONTEXT, &context);
    ponder_model_info_i64(m, PONDER_INFO_SERVERS, &servers);
    snprintf(text, sizeof text, "%lld of the kind %.*s, model %.*s, context %lld", (long long)servers, (int)k, server, (int)n, name, (long long)context);
    check(true, "servers", text);
    if (!victim && !thinks) plain(m, c), bound(m, c);
    if (!victim && thinks) thoughts(m, c);
    many(m, c, victim, thinks);
    if (victim) {
        ponder_model_info_i64(m, PONDER_INFO_SERVERS, &servers);
        check(servers == 1, "one server is left", "");
    }
    ponder_model_free(m);
    ponder_config_free(c);
    printf("%s\n", wrong ? "FAILED" : "all well");
    return wrong != 0;
}
