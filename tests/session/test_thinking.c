/* Thought budgets through ponder.h. What is counted here is counted again from the ids that stand in the session. */
#include <math.h>

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


/* The same for a random model whose markers are tokens or text: behind the opener up to the marker's end. Openers that come when a
 * thought may not open are none; `most`: of the turn. */
static uint64_t count_marked(ponder_model *m, const ids *v, size_t from, const char *open_with, const char *close_with, uint64_t most, uint64_t closer)
{
    static char text[MOST_TEXT];
    size_t n = 0, at = 0; /* of text; where the search goes on */
    uint64_t used = 0;
    bool open = false;
    for (size_t i = from; i < v->n; i++) {
        used += open;
        n += text_of_ids(m, v->id + i, 1, true, text + n);
        text[n] = 0;
        for (const char *hit; (hit = strstr(text + at, open ? close_with : open_with));) {
            at = (size_t)(hit - text) + strlen(open ? close_with : open_with);
            if (open) open = false;
            else open = used + closer < most && (open_with[0] == '<' || hit == text || hit[-1] == '\n');
        }
    }
    return used;
}

static void set(ponder_config *c, ponder_param id, int64_t v) { OK(ponder_config_set_i64(c, id, v)); }
static void set_text(ponder_config *c, ponder_param id, const char *v) { OK(ponder_config_set_str(c, id, v)); }

static ponder_config *warm(int seed)
{
    ponder_config *c = new_config();
    set(c, PONDER_P_MAX_TOKENS, 160);
    set(c, PONDER_P_SEED, seed);
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
    return c;
}

/* ---- every mode, many runs ---------------------------------------------------------------------------------- */

static const char tools[] = "[{\"name\":\"lamp.set\",\"parameters\":{\"type\":\"object\",\"properties\":{\"on\":{\"type\":\"boolean\"}},\"required\":[\"on\"]}}]";
static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[1,22,333]}},\"required\":[\"a\"],\"additionalProperties\":false}";

enum { BLOCK = 1, OPENED = 2, TOOLS = 4, SCHEMA = 8, FORKED = 16, CUT = 32, SLICED = 64, CLOSED = 128, NO_THIRD = 256, MARKED = 512, TEXT = 1024, SAVED = 2048 };

typedef struct mode {
    const char *name;
    int flags;
    int64_t cap_from, cap_range;
    void (*more)(ponder_config *c, int run);
} mode;

static void message(ponder_config *c, int run) { (void)run; set_text(c, PONDER_P_THINK_MESSAGE, " 12345"); }
static void soft_only(ponder_config *c, int run) { set(c, PONDER_P_THINK_GRACE, 0); set(c, PONDER_P_THINK_SOFT, 3 + run % 5); set(c, PONDER_P_THINK_RANK, 8); }
static void hard_only(ponder_config *c, int run) { (void)run; set(c, PONDER_P_THINK_GRACE, 0); set(c, PONDER_P_THINK_SOFT, 0); }
static void effort(ponder_config *c, int run)
{
    static const char *const levels[] = {"low", "medium", "high", "xhigh"};
    set_text(c, PONDER_P_EFFORT, levels[run % 4]);
}
static void least(ponder_config *c, int run)
{
    set(c, PONDER_P_THINK_LEAST, 1 + run % 8);
    if (run % 2) set_text(c, PONDER_P_THINK_CONTINUE, "12");
    if (run % 2) set_text(c, PONDER_P_THINK_CONTINUE, " 3");
}
static void leave(ponder_config *c, int run)
{
    set_text(c, PONDER_P_EFFORT, "xhigh");
    set_text(c, PONDER_P_THINK_EXIT, run % 2 ? "entropy" : "answer");
    set(c, PONDER_P_THINK_INTERVAL, 4);
    OK(ponder_config_set_f64(c, PONDER_P_THINK_PROBE_SHARE, 4));
}
static void few(ponder_config *c, int run) { set(c, PONDER_P_MAX_TOKENS, 8 + run % 50); }
static void start(ponder_config *c, int run) { (void)run; set(c, PONDER_P_THINK_START, 1); }
static void words_in_logprobs(ponder_config *c, int run) { message(c, run); set(c, PONDER_P_LOGPROBS, 2); set_text(c, PONDER_P_STOP, "7"); }

static const mode modes[] = {
    {"turn", 0, 2, 45, NULL},
    {"block", BLOCK, 2, 45, NULL},
    {"block, opened by a host that goes on", BLOCK | CUT | OPENED, 1, 45, NULL},
    {"opened in the prompt", OPENED, 1, 45, NULL},
    {"tools", TOOLS, 2, 60, start},
    {"tools, block", TOOLS | BLOCK, 2, 60, start},
    {"schema", SCHEMA, 2, 45, NULL},
    {"tools and schema", TOOLS | SCHEMA, 2, 60, start},
    {"efforts", 0, 4, 50, effort},
    {"zero", NO_THIRD, 0, 1, NULL},
    {"zero, tools", NO_THIRD | TOOLS, 0, 2, NULL},
    {"zero, schema", NO_THIRD | SCHEMA, 0, 2, NULL},
    {"message", 0, 2, 70, message},
    {"hard only", 0, 2, 45, hard_only},
    {"soft by rank", 0, 8, 40, soft_only},
    {"least, words", 0, 9, 45, least},
    {"exit", NO_THIRD, 20, 60, leave},
    {"max_tokens", NO_THIRD, 30, 30, few},
    {"log-probabilities, stop string", 0, 2, 70, words_in_logprobs},
    {"fork in the middle", FORKED, 2, 45, NULL},
    {"cancel and resume", CUT, 2, 45, NULL},
    {"save and load in the middle", SAVED, 2, 45, NULL},
    {"slices", SLICED, 2, 70, message},
    {"closed by the caller", CLOSED | NO_THIRD, 2, 45, NULL},
    {"think, tokens", MARKED, 2, 80, start},
    {"think, tokens, zero", MARKED | NO_THIRD, 0, 2, NULL},
    {"think, tokens, schema", MARKED | SCHEMA, 2, 140, start},
    {"think, tokens, cancel and resume", MARKED | CUT, 2, 80, start},
    {"text markers", MARKED | TEXT, 4, 120, start},
    {"text markers, fork", MARKED | TEXT | FORKED, 4, 120, start},
    {"text markers, cancel and resume", MARKED | TEXT | CUT, 4, 120, start},
};

typedef struct sums { int runs, natural, over, cut, soft; } sums;

static seen *talk(ponder_session *s, int32_t stop_after)
{
    static seen v;
    ponder_event e = {.size = sizeof e};
    memset(&v, 0, sizeof v);
    for (int n = 0; e.kind != PONDER_EVENT_DONE; n++) {
        const ponder_status st = ponder_session_step(s, 20, &e);
        if (st < 0) fail_msg("%s", ponder_session_error(s));
        if (st == PONDER_MORE) continue;
        watch(&v, &e);
        if (stop_after > 0 && n >= stop_after) ponder_session_cancel(s);
    }
    v.t.size = sizeof v.t;
    OK(ponder_session_thought(s, &v.t));
    return &v;
}

static int32_t cut_at; /* events until the callback says stop */
static int32_t stops(void *user, const ponder_event *e)
{
    watch(user, e);
    return --cut_at == 0;
}
static int32_t closes(void *user, const ponder_event *e)
{
    if (--cut_at == 0) ponder_session_close_thought(user);
    (void)e;
    return 0;
}

static void show(ponder_model *m, const ids *v, const char *what, int run, uint64_t counted, uint64_t other)
{
    static char text[MOST_TEXT];
    const size_t from = v->n > 160 ? v->n - 160 : 0; /* the text of an error is short */
    text[text_of_ids(m, v->id + from, v->n - from, true, text)] = 0;
    fail_msg("%s, run %d: counted %d, told %d: %s", what, run, (int)counted, (int)other, text);
}

static void no_markup(ponder_model *m, const ids *v, const char *what, int run, const char *answer)
{
    static const char *const marks[] = {"<|", "|>", "to=", "<think>", "</think>", "[[", "]]"};
    for (size_t i = 0; i < COUNT(marks); i++)
        if (strstr(answer, marks[i])) show(m, v, what, run, 0, 0);
}

static void check_turn(ponder_model *m, const mode *o, ponder_session *s, const seen *v, int64_t cap, size_t from, int run, sums *sum)
{
    const ids all = tokens_of(s);
    uint64_t blocks = 0, longest = 0, counted;
    if (!(o->flags & MARKED)) counted = count_muse(m, &all, from, o->flags & OPENED, &blocks, &longest);
    else if (o->flags & TEXT) counted = count_marked(m, &all, from, "[[", "]]", (uint64_t)cap, 3);
    else counted = count_marked(m, &all, from, "<think>", "</think>", (uint64_t)cap, 1);
    if (counted != v->t.tokens) show(m, &all, o->name, run, counted, v->t.tokens);
    const uint64_t most = o->flags & BLOCK ? longest : counted;
    if (most > (uint64_t)cap) show(m, &all, o->name, run, most, (uint64_t)cap);
    sum->runs++;
    sum->over += most > (uint64_t)cap;
    sum->natural += v->t.why == PONDER_THOUGHT_NATURAL;
    sum->cut += v->t.why == PONDER_THOUGHT_CAP;
    sum->soft += v->t.why == PONDER_THOUGHT_SOFT;
    no_markup(m, &all, o->name, run, v->answer);
    if (v->t.blocks) assert_int_not_equal(v->t.why, PONDER_THOUGHT_NONE);
    const bool whole = !(o->flags & (FORKED | CUT | SAVED | CLOSED)); /* all of the turn's events were seen */
    if (whole && v->done.end == PONDER_END_EOS && !(o->flags & MARKED)) assert_true(v->n_answer > 0 || v->calls > 0 || v->n_raw > 0 || v->done.calls);
    if (whole && o->flags & SCHEMA && v->done.end == PONDER_END_EOS && !v->calls) {
        json_t *j = json_loads(v->answer, 0, NULL);
        if (!j) fail_msg("%s, run %d: no JSON: %s", o->name, run, v->answer);
        json_decref(j);
    }
}

/* The long prompt that tools make is computed once. */
static ponder_session *with_tools(ponder_model *m, ponder_config *c, bool forget)
{
    static ponder_session *base;
    ponder_session *s = NULL;
    if (!base && !forget) {
        base = session_with(m, PONDER_P_CONTEXT, 4096);
        OK(ponder_session_tools(base, tools, sizeof tools - 1));
        add(base, "user", question(0));
        OK(ponder_session_prefill(base, UINT64_MAX));
    }
    if (!forget) OK(ponder_session_fork(&s, base, c));
    if (forget) ponder_session_free(base);
    if (forget) base = NULL;
    return s;
}

static ponder_session *begin(ponder_model *m, const mode *o, ponder_config *c, int run)
{
    if (o->flags & TOOLS) return with_tools(m, c, false);
    ponder_session *s = new_session(m, c);
    if (o->flags & MARKED) {
        if (o->flags & TEXT) OK(ponder_session_bias(s, 3 + ']' - ' ', 3.5f));
        else OK(ponder_session_bias(s, 4, 3.f));
        for (int32_t call = 5; !(o->flags & TEXT) && call < 7; call++) OK(ponder_session_bias(s, call, -INFINITY));
        OK(ponder_session_bias(s, 2, 1.0f));
    }
    add(s, "user", o->flags & MARKED ? "Hi there" : question(run));
    if (o->flags & OPENED) OK(ponder_session_prompt(s, " to=self<|message|>", 19, PONDER_TOKENIZE_SPECIAL));
    return s;
}

static void one_run(ponder_model *m, const mode *o, int run, sums *sum)
{
    ponder_config *c = warm(run);
    const int64_t cap = o->cap_from + run * 7 % o->cap_range;
    set(c, PONDER_P_THINK_TOKENS, cap);
    if (o->flags & MARKED) set_text(c, PONDER_P_TEMPLATE, o->flags & TEXT ? "chatml" : "qwen3");
    if (o->flags & TEXT) set_text(c, PONDER_P_THINK_OPEN, "[[");
    if (o->flags & TEXT) set_text(c, PONDER_P_THINK_CLOSE, "]]");
    if (o->flags & BLOCK) set_text(c, PONDER_P_THINK_SCOPE, "block");
    if (o->flags & SCHEMA) set_text(c, PONDER_P_SCHEMA, schema);
    if (o->flags & TOOLS) set(c, PONDER_P_CONTEXT, 4096);
    if (o->more) o->more(c, run);
    ponder_session *s = begin(m, o, c, run), *fork = NULL;
    static seen v;
    memset(&v, 0, sizeof v);
    v.t.size = sizeof v.t;
    cut_at = 1 + run % 23;
    /* The turn's prompt is computed now, so that its length is known. */
    static float logits[SEED_VOCAB];
    size_t n_logits;
    OK(ponder_session_logits(s, logits, SEED_VOCAB, &n_logits));
    const size_t from = tokens_of(s).n;
    if (o->flags & SLICED) v = *talk(s, 0);
    else if (o->flags & CLOSED) OK(ponder_session_generate(s, closes, s));
    else if (o->flags & (FORKED | CUT | SAVED)) OK(ponder_session_generate(s, stops, &v));
    else v = *ask(s);
    if (o->flags & FORKED) {
        OK(ponder_session_fork(&fork, s, NULL));
        if (v.done.end == PONDER_END_CANCELLED) {
            const seen w = *ask(fork);
            check_turn(m, o, fork, &w, cap, from, run, sum);
        }
    }
    if (o->flags & SAVED && v.done.end == PONDER_END_CANCELLED) {
        static char state[1 << 20];
        size_t n;
        OK(ponder_session_save(s, state, sizeof state, &n));
        ponder_session_free(s);
        s = new_session(m, c);
        OK(ponder_session_load(s, state, n));
    }
    if (o->flags & (FORKED | CUT | SAVED) && v.done.end == PONDER_END_CANCELLED) v = *ask(s);
    OK(ponder_session_thought(s, &v.t));
    check_turn(m, o, s, &v, cap, from, run, sum);
    ponder_session_free(fork);
    ponder_session_free(s);
    ponder_config_free(c);
}

static ponder_model *marked_model(const char *tokenizer)
{
    ponder_config *c = new_config();
    char path[512];
    snprintf(path, sizeof path, "%s", data_path(tokenizer));
    set_text(c, PONDER_P_TOKENIZER, path);
    ponder_model *m = open_model("qwen3/model.gguf", c);
    ponder_config_free(c);
    return m;
}

static void every_mode(void **state)
{
    const char *only = getenv("PONDER_TEST_MODE");
    ponder_model *think = marked_model("tiny/think.json"), *plain = marked_model("tiny/plain.json");
    printf("%-40s %6s %8s %6s %6s %6s\n", "mode", "runs", "natural", "soft", "cut", "over");
    for (size_t i = 0; i < COUNT(modes); i++) {
        const mode *o = &modes[i];
        sums sum = {0};
        if (only && !strstr(o->name, only)) continue;
        for (int run = 0; run < runs(); run++)
            one_run(!(o->flags & MARKED) ? *state : o->flags & TEXT ? plain : think, o, run, &sum);
        printf("%-40s %6d %8d %6d %6d %6d\n", o->name, sum.runs, sum.natural, sum.soft, sum.cut, sum.over);
        fflush(stdout);
        if (runs() >= DEFAULT_RUNS && !(o->flags & NO_THIRD) && sum.natural * 3 < sum.runs) fail_msg("%s: %d of %d runs ended naturally", o->name, sum.natural, sum.runs);
    }
    with_tools(NULL, NULL, true);
    ponder_model_free(plain);
    ponder_model_free(think);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_mode)};
    return cmocka_run_group_tests_name("thinking", tests, open_seed, close_seed);
}
