/* Thought budgets through ponder.h. What is counted here is counted again from the ids that stand in the session. */
#include <math.h>

#include "use.h"

enum { EOM = 391, START = 394, MESSAGE = 395, DEFAULT_RUNS = 40 };

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
            while (k > 0 && text[k - 1] == ' ') k--;
            const char *to = memrchr(text, '=', k); /* the model writes NULs too */
            const size_t n_to = to ? (size_t)(text + k - to) : 0;
            const bool slip = !(to && to >= text + 3 && memcmp(to - 3, " to", 3) == 0 && !memchr(to, ' ', n_to) && !memchr(to, '\n', n_to));
            const bool self = n_to == 5 && memcmp(to, "=self", 5) == 0;
            if (!slip) {
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
static uint64_t count_marked(ponder_model *m, const ids *v, size_t from, const char *open_with, const char *close_with, uint64_t most, uint64_t closer, bool each,
                             uint64_t *longest)
{
    static char text[MOST_TEXT];
    size_t n = 0, at = 0; /* of text; where the search goes on */
    uint64_t used = 0, block = 0;
    bool open = false;
    *longest = 0;
    for (size_t i = from; i < v->n; i++) {
        used += open;
        block += open;
        *longest = block > *longest ? block : *longest;
        n += text_of_ids(m, v->id + i, 1, true, text + n);
        text[n] = 0;
        for (const char *hit; (hit = strstr(text + at, open ? close_with : open_with));) {
            at = (size_t)(hit - text) + strlen(open ? close_with : open_with);
            if (open) open = false;
            else open = (each ? 0 : used) + closer < most && (open_with[0] == '<' || hit == text || hit[-1] == '\n');
            block = 0;
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

enum { BLOCK = 1, OPENED = 2, TOOLS = 4, SCHEMA = 8, FORKED = 16, CUT = 32, SLICED = 64, CLOSED = 128, NO_THIRD = 256, MARKED = 512, TEXT = 1024, SAVED = 2048, MANY = 4096 };

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
    {"several blocks", MANY, 4, 110, NULL},
    {"several blocks, block", MANY | BLOCK, 3, 70, NULL},
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
    {"think, several blocks", MARKED | MANY, 4, 90, start},
    {"think, several blocks, block", MARKED | MANY | BLOCK, 3, 40, start},
    {"text markers", MARKED | TEXT, 4, 120, start},
    {"text markers, fork", MARKED | TEXT | FORKED, 4, 120, start},
    {"text markers, cancel and resume", MARKED | TEXT | CUT, 4, 120, start},
};

typedef struct sums { int runs, natural, over, cut, soft; uint64_t blocks; } sums;

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
    const size_t from = v->n > 90 ? v->n - 90 : 0; /* the text of an error is short */
    text[text_of_ids(m, v->id + from, v->n - from, true, text)] = 0;
    fail_msg("%s, run %d: counted %d, told %d: %s", what, run, (int)counted, (int)other, text);
}

static void no_markup(ponder_model *m, const ids *v, const char *what, int run, const char *answer)
{
    static const char *const marks[] = {"<|im_", "<|start", "<|message", "<|eo", "<think>", "</think>", "[[", "]]"};
    const size_t n = strstr(what, "text") ? COUNT(marks) : COUNT(marks) - 2; /* brackets are markers of that mode alone */
    for (size_t i = 0; i < n; i++)
        if (strstr(answer, marks[i])) show(m, v, what, run, 0, 0);
}

static void check_turn(ponder_model *m, const mode *o, ponder_session *s, const seen *v, int64_t cap, size_t from, int run, sums *sum)
{
    const ids all = tokens_of(s);
    uint64_t blocks = 0, longest = 0, counted;
    if (!(o->flags & MARKED)) counted = count_muse(m, &all, from, o->flags & OPENED, &blocks, &longest);
    else if (o->flags & TEXT) counted = count_marked(m, &all, from, "[[", "]]", (uint64_t)cap, 3, o->flags & BLOCK, &longest);
    else counted = count_marked(m, &all, from, "<think>", "</think>", (uint64_t)cap, 1, o->flags & BLOCK, &longest);
    if (counted != v->t.tokens && getenv("PONDER_TEST_MODE")) printf("thought: %s\nanswer: %s\n", v->thought, v->answer);
    if (counted != v->t.tokens) show(m, &all, o->name, run, counted, v->t.tokens);
    const uint64_t most = o->flags & BLOCK ? longest : counted;
    if (most > (uint64_t)cap) show(m, &all, o->name, run, most, (uint64_t)cap);
    sum->runs++;
    sum->over += most > (uint64_t)cap;
    sum->blocks += v->t.blocks;
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
        OK(ponder_session_bias(s, 1, -INFINITY)); /* no turns of others: what stands in them is no thought */
        for (int32_t call = 5; !(o->flags & TEXT) && call < 7; call++) OK(ponder_session_bias(s, call, -INFINITY));
        OK(ponder_session_bias(s, 2, 1.0f));
    }
    if (o->flags & MANY) {
        /* A turn that does not end, and talks to itself again and again. */
        const ids user = ids_of_text(m, " to=user", 8, 0); /* its last token is the recipient */
        OK(ponder_session_bias(s, o->flags & MARKED ? 3 : user.id[user.n - 1], o->flags & MARKED ? 3.f : -INFINITY));
        if (!(o->flags & MARKED)) OK(ponder_session_bias(s, EOT, -INFINITY));
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
    if (o->flags & MANY) set(c, PONDER_P_MAX_TOKENS, 90);
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
    printf("%-40s %6s %7s %8s %6s %6s %6s\n", "mode", "runs", "blocks", "natural", "soft", "cut", "over");
    for (size_t i = 0; i < COUNT(modes); i++) {
        const mode *o = &modes[i];
        sums sum = {0};
        if (only && !strstr(o->name, only)) continue;
        for (int run = 0; run < runs(); run++)
            one_run(!(o->flags & MARKED) ? *state : o->flags & TEXT ? plain : think, o, run, &sum);
        printf("%-40s %6d %7d %8d %6d %6d %6d\n", o->name, sum.runs, (int)sum.blocks, sum.natural, sum.soft, sum.cut, sum.over);
        fflush(stdout);
        /* At least a third; in a few runs chance may make it less. */
        const int share = runs() >= 500 ? 3 : 5;
        if (runs() >= DEFAULT_RUNS && !(o->flags & NO_THIRD) && sum.natural * share < sum.runs)
            fail_msg("%s: %d of %d runs ended naturally", o->name, sum.natural, sum.runs);
    }
    with_tools(NULL, NULL, true);
    ponder_model_free(plain);
    ponder_model_free(think);
}

/* ---- what is refused -------------------------------------------------------------------------------------- */

static void refused(void **state)
{
    ponder_model *m = *state, *plain = marked_model("tiny/plain.json"), *llama;
    ponder_config *c = new_config();
    ponder_session *s;
    ponder_thought t = {.size = sizeof t};
    llama = open_model("llama", c);
    set(c, PONDER_P_THINK_TOKENS, 5);
    assert_int_equal(ponder_session_new(&s, plain, c), PONDER_E_UNSUPPORTED);
    assert_non_null(strstr(ponder_config_error(c), "think_tokens"));
    assert_int_equal(ponder_session_new(&s, llama, c), PONDER_E_UNSUPPORTED); /* no tokenizer at all */
    set(c, PONDER_P_THINK_TOKENS, -1);
    set_text(c, PONDER_P_THINK_EXIT, "entropy");
    assert_int_equal(ponder_session_new(&s, plain, c), PONDER_E_UNSUPPORTED);
    set_text(c, PONDER_P_THINK_EXIT, "");
    set(c, PONDER_P_TURN_MS, 100000); /* a turn's time needs no markers */
    ponder_session_free(new_session(plain, c));
    set(c, PONDER_P_TURN_MS, 0);
    set_text(c, PONDER_P_THINK_OPEN, "[[");
    assert_int_equal(ponder_session_new(&s, plain, c), PONDER_E_ARGUMENT);
    set_text(c, PONDER_P_THINK_CLOSE, "]]");
    assert_int_equal(ponder_session_new(&s, m, c), PONDER_E_UNSUPPORTED); /* Muse has its own */
    set(c, PONDER_P_THINK_LEAST, 9);
    set(c, PONDER_P_THINK_TOKENS, 8);
    assert_int_equal(ponder_session_new(&s, plain, c), PONDER_E_RANGE);
    set(c, PONDER_P_THINK_TOKENS, 9);
    ponder_session_free(new_session(plain, c));
    ponder_config_free(c);
    /* A thought that the prompt opened, and no room for its end. */
    c = new_config();
    set(c, PONDER_P_THINK_TOKENS, 0);
    s = new_session(m, c);
    add(s, "user", question(0));
    OK(ponder_session_prompt(s, " to=self<|message|>", 19, PONDER_TOKENIZE_SPECIAL));
    assert_int_equal(ponder_session_generate(s, NULL, NULL), PONDER_E_RANGE);
    set(c, PONDER_P_THINK_TOKENS, 1);
    OK(ponder_session_configure(s, c));
    assert_int_equal(ask(s)->t.tokens, 1);
    assert_int_equal(ponder_session_thought(s, NULL), PONDER_E_ARGUMENT);
    t.size = 8;
    assert_int_equal(ponder_session_thought(s, &t), PONDER_E_ARGUMENT);
    ponder_session_free(s);
    ponder_config_free(c);
    ponder_model_free(llama);
    ponder_model_free(plain);
}

/* ---- no thought ------------------------------------------------------------------------------------------------ */

static void qwen_is_told_in_the_prompt(void **state)
{
    (void)state;
    static const char closed[] = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    ponder_model *m = marked_model("tiny/think.json");
    for (int cap = -1; cap < 4; cap++) {
        ponder_config *c = new_config();
        static char text[MOST_TEXT];
        float logits[160];
        size_t n;
        set_text(c, PONDER_P_TEMPLATE, "qwen3");
        set(c, PONDER_P_THINK_TOKENS, cap);
        ponder_session *s = new_session(m, c);
        add(s, "user", "Hi");
        OK(ponder_session_logits(s, logits, COUNT(logits), &n));
        const ids v = tokens_of(s);
        n = text_of_ids(m, v.id, v.n, true, text);
        const bool told_so = n > sizeof closed && memcmp(text + n - (sizeof closed - 1), closed, sizeof closed - 1) == 0;
        assert_int_equal(told_so, cap == 0 || cap == 1); /* one token and its end are two */
        ponder_session_free(s);
        ponder_config_free(c);
    }
    ponder_model_free(m);
}

/* ---- messages, words ---------------------------------------------------------------------------------------------- */

static bool ends_in(const char *text, size_t n, const char *what)
{
    const size_t len = strlen(what);
    return n >= len && memcmp(text + n - len, what, len) == 0;
}

static void message_ends_a_cut_thought(void **state)
{
    ponder_model *m = *state;
    int cut = 0;
    for (int i = 0; i < 30; i++) {
        ponder_config *c = warm(i);
        hard_only(c, i);
        message(c, i);
        set(c, PONDER_P_THINK_TOKENS, 9);
        ponder_session *s = new_session(m, c);
        add(s, "user", question(i));
        const seen *v = ask(s);
        if (v->t.why == PONDER_THOUGHT_CAP) {
            cut++;
            assert_true(ends_in(v->thought, v->n_thought, " 12345"));
            assert_int_equal(v->t.tokens, 9); /* as many as there may be */
        } else {
            assert_false(ends_in(v->thought, v->n_thought, " 12345"));
        }
        ponder_session_free(s);
        ponder_config_free(c);
    }
    assert_true(cut > 5);
}

static void least_is_held(void **state)
{
    ponder_model *m = *state;
    for (int i = 0; i < 40; i++) {
        ponder_config *c = warm(i);
        set(c, PONDER_P_THINK_LEAST, 40);
        set(c, PONDER_P_THINK_START, 1);
        if (i % 2) set_text(c, PONDER_P_THINK_CONTINUE, "12345");
        ponder_session *s = new_session(m, c);
        add(s, "user", question(i));
        const seen *v = ask(s);
        assert_true(v->t.tokens >= 40);
        assert_int_equal(v->t.why, PONDER_THOUGHT_NATURAL);
        if (i % 2) assert_non_null(strstr(v->thought, "12345")); /* no thought of this model is so long by itself */
        else assert_in_range(v->t.injected, 3, 9);              /* the opening; the end, if the model wanted the turn's */
        ponder_session_free(s);
        ponder_config_free(c);
    }
}

/* ---- the same in slices; probes leave no trace ------------------------------------------------------------------------ */

static void everything(ponder_config *c, int run)
{
    message(c, run);
    leave(c, run);
    set(c, PONDER_P_THINK_LEAST, 6);
    set_text(c, PONDER_P_THINK_CONTINUE, "12");
    set(c, PONDER_P_LOGPROBS, 1);
}

static void same_in_slices(void **state)
{
    ponder_model *m = *state;
    for (int i = 0; i < 24; i++) {
        ponder_config *c = warm(i);
        everything(c, i);
        set(c, PONDER_P_THINK_TOKENS, 12 + i);
        ponder_session *a = new_session(m, c), *b = new_session(m, c);
        add(a, "user", question(i));
        add(b, "user", question(i));
        told *x = generate(a), *y = new_told();
        ponder_event e = {.size = sizeof e};
        while (e.kind != PONDER_EVENT_DONE) {
            const ponder_status st = ponder_session_step(b, 0, &e);
            if (st < 0) fail_msg("%s", ponder_session_error(b));
            /* A host that looks at a session between slices sees no probe, and disturbs none. */
            if (i % 3 == 0) assert_true(tokens_of(b).n > 0);
            if (st == PONDER_OK) take_event(y, &e);
        }
        const ids v = tokens_of(a), w = tokens_of(b);
        same_ids(&v, w.id, w.n);
        assert_int_equal(x->n_trace, y->n_trace);
        assert_memory_equal(x->trace, y->trace, x->n_trace);
        free(x);
        free(y);
        ponder_session_free(a);
        ponder_session_free(b);
        ponder_config_free(c);
    }
}

static void probes_leave_no_trace(void **state)
{
    ponder_model *m = *state;
    uint64_t probes = 0;
    for (int i = 0; i < 32; i++) {
        ponder_config *c = warm(i);
        set_text(c, PONDER_P_EFFORT, "xhigh");
        set_text(c, PONDER_P_KV_TYPE, (const char *const[]){"f32", "f16", "q8_0", "q4"}[i % 4]);
        ponder_session *a = new_session(m, c);
        set_text(c, PONDER_P_THINK_EXIT, i % 2 ? "entropy" : "answer");
        set(c, PONDER_P_THINK_INTERVAL, 1);
        OK(ponder_config_set_f64(c, PONDER_P_THINK_PROBE_SHARE, 100));
        OK(ponder_config_set_f64(c, PONDER_P_THINK_EXIT_AT, i % 2 ? 0 : 2)); /* never certain enough */
        ponder_session *b = new_session(m, c);
        add(a, "user", question(i));
        add(b, "user", question(i));
        ask(a);
        const seen *v = ask(b);
        probes += v->t.probes;
        if (v->t.probes) assert_true(v->t.probe_tokens >= 6 * v->t.probes);
        const ids x = tokens_of(a), y = tokens_of(b);
        same_ids(&x, y.id, y.n);
        float p[SEED_VOCAB], q[SEED_VOCAB];
        size_t n;
        OK(ponder_session_logits(a, p, SEED_VOCAB, &n));
        OK(ponder_session_logits(b, q, SEED_VOCAB, &n));
        assert_memory_equal(p, q, sizeof p);
        ponder_session_free(a);
        ponder_session_free(b);
        ponder_config_free(c);
    }
    assert_true(probes > 300);
}

static void certain_answers_leave_early(void **state)
{
    ponder_model *m = *state;
    ponder_config *c = warm(1);
    set_text(c, PONDER_P_THINK_EXIT, "entropy");
    set(c, PONDER_P_THINK_INTERVAL, 3);
    OK(ponder_config_set_f64(c, PONDER_P_THINK_PROBE_SHARE, 100));
    OK(ponder_config_set_f64(c, PONDER_P_THINK_EXIT_AT, 100)); /* anything is certain enough */
    ponder_session *s = new_session(m, c);
    add(s, "user", question(1));
    const seen *v = ask(s);
    assert_int_equal(v->t.why, PONDER_THOUGHT_CONFIDENT);
    assert_int_equal(v->t.probes, 1);
    assert_int_equal(v->t.tokens, 3 + 1);
    assert_true(v->n_answer > 0);
    ponder_session_free(s);
    /* The share of probes is kept. */
    OK(ponder_config_set_f64(c, PONDER_P_THINK_PROBE_SHARE, 0.03));
    s = new_session(m, c);
    add(s, "user", question(1));
    assert_int_equal(ask(s)->t.probes, 0);
    ponder_session_free(s);
    ponder_config_free(c);
}

/* ---- from outside: the caller, the clock -------------------------------------------------------------------------------- */

static int32_t close_at_first(void *user, const ponder_event *e)
{
    seen *v = user;
    watch(v, e);
    if (e->kind == PONDER_EVENT_THOUGHT) ponder_session_close_thought((ponder_session *)(uintptr_t)v->done.name);
    return 0;
}

static void closed_by_the_caller(void **state)
{
    ponder_model *m = *state;
    for (int i = 0; i < 8; i++) {
        ponder_config *c = warm(i);
        static seen v;
        memset(&v, 0, sizeof v);
        v.t.size = sizeof v.t;
        set_text(c, PONDER_P_EFFORT, "xhigh");
        if (i % 2) set_text(c, PONDER_P_THINK_SCOPE, "block");
        ponder_session *s = new_session(m, c); /* with no limit at all */
        ponder_session_close_thought(s);       /* no turn is under way: nothing */
        add(s, "user", "Which 3 of 91462 sum to 11?");
        v.done.name = (const char *)s;
        OK(ponder_session_generate(s, close_at_first, &v));
        OK(ponder_session_thought(s, &v.t));
        assert_int_equal(v.t.why, PONDER_THOUGHT_CALLER);
        assert_in_range(v.t.tokens, 2, 4);
        assert_int_equal(v.t.blocks, 1);
        assert_true(v.n_answer > 0);
        ponder_session_free(s);
        ponder_config_free(c);
    }
}

static int32_t keep_done(void *user, const ponder_event *e)
{
    if (e->kind == PONDER_EVENT_DONE) memcpy(user, e, sizeof *e);
    return 0;
}

/* The end of a turn of so many milliseconds; a machine that is too busy to promise the prompt in that time is given more. */
static int32_t timed_end(ponder_session *s, ponder_config *c, int64_t ms, bool sliced)
{
    for (ponder_status st = PONDER_E_RANGE; st == PONDER_E_RANGE; ms *= 2) {
        ponder_event e = {.size = sizeof e};
        set(c, PONDER_P_TURN_MS, ms);
        OK(ponder_session_configure(s, c));
        do st = sliced ? ponder_session_step(s, 50, &e) : ponder_session_generate(s, keep_done, &e);
        while (st >= 0 && e.kind != PONDER_EVENT_DONE);
        if (st >= 0) return e.end;
    }
    fail_msg("%s", ponder_session_error(s));
    return 0;
}

static void time_ends_a_turn(void **state)
{
    ponder_model *m = *state;
    for (int i = 0; i < 4; i++) {
        ponder_config *c = warm(i);
        static const char *const clocks[] = {"", "wall", "inside", ""};
        set(c, PONDER_P_MAX_TOKENS, 0);
        set(c, PONDER_P_CONTEXT, 8192);
        set(c, PONDER_P_IGNORE_EOS, 1);
        set_text(c, PONDER_P_CLOCK, clocks[i]);
        ponder_session *s = new_session(m, c);
        add(s, "user", question(i));
        /* 8,000 tokens take far longer than 100 ms. */
        assert_int_equal(timed_end(s, c, 100, i == 3), PONDER_END_TIME);
        const size_t n = tokens_of(s).n;
        assert_in_range(n, 50, 8000);
        assert_int_equal(timed_end(s, c, 50, i == 3), PONDER_END_TIME); /* and may go on, with time of its own */
        assert_true(tokens_of(s).n > n);
        /* A prompt that cannot be computed in time is refused, and says how long it would take. */
        int32_t *prompt = calloc(4000, sizeof *prompt);
        for (int k = 0; k < 4000; k++) prompt[k] = 3 + k % 50;
        set(c, PONDER_P_TURN_MS, 1);
        OK(ponder_session_configure(s, c));
        OK(ponder_session_rewind(s, 0, NULL));
        OK(ponder_session_prompt_ids(s, prompt, 4000));
        assert_int_equal(ponder_session_generate(s, NULL, NULL), PONDER_E_RANGE);
        assert_non_null(strstr(ponder_session_error(s), "estimated"));
        free(prompt);
        ponder_session_free(s);
        ponder_config_free(c);
    }
}

static void time_ends_a_thought(void **state)
{
    ponder_model *m = *state;
    for (int ms = 0; ms < 2; ms++) {
        ponder_config *c = warm(3);
        set(c, PONDER_P_MAX_TOKENS, 0);
        set(c, PONDER_P_CONTEXT, 4096);
        set(c, PONDER_P_THINK_START, 1);
        set(c, PONDER_P_THINK_LEAST, 100000); /* it would go on for ever */
        set(c, PONDER_P_THINK_MS, ms ? 30 : 0);
        ponder_session *s = new_session(m, c);
        add(s, "user", question(0));
        const seen *v = ask(s);
        assert_int_equal(v->t.why, ms ? PONDER_THOUGHT_TIME : PONDER_THOUGHT_NONE);
        assert_int_equal(v->t.tokens > 0, ms > 0);
        assert_true(v->n_answer > 0);
        ponder_session_free(s);
        ponder_config_free(c);
    }
}

/* ---- going on thinking in the answer ---------------------------------------------------------------------------------------- */

static void escapes_are_told(void **state)
{
    (void)state;
    ponder_model *m = marked_model("tiny/plain.json");
    for (int i = 0; i < 8; i++) {
        ponder_config *c = warm(i);
        set(c, PONDER_P_MAX_TOKENS, 60);
        set(c, PONDER_P_THINK_TOKENS, 9);
        set(c, PONDER_P_THINK_START, 1);
        set_text(c, PONDER_P_TEMPLATE, "chatml");
        set_text(c, PONDER_P_THINK_OPEN, "[[");
        set_text(c, PONDER_P_THINK_CLOSE, "]]");
        ponder_session *s = new_session(m, c);
        OK(ponder_session_bias(s, 3 + ']' - ' ', -INFINITY));
        OK(ponder_session_bias(s, 3 + '[' - ' ', i % 2 ? 100 : -INFINITY)); /* nothing but openers, or none */
        add(s, "user", "Hi");
        const seen *v = ask(s);
        assert_int_equal(v->t.escaped, i % 2);
        assert_null(strstr(v->answer, "[["));
        assert_true(v->t.tokens <= 9);
        assert_int_equal(v->t.blocks, 1);
        ponder_session_free(s);
        ponder_config_free(c);
    }
    ponder_model_free(m);
}

/* ---- no memory ------------------------------------------------------------------------------------------------------------------ */

static long allocations, fail_at = -1;

static void *take(void *user, size_t bytes, size_t align)
{
    void *p = NULL;
    (void)user;
    if (allocations++ == fail_at) return NULL;
    return posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, bytes ? bytes : 1) == 0 ? p : NULL;
}

static void give_back(void *user, void *p, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(p);
}

/* A turn with everything that a budget has; its status. */
static ponder_status budgeted_turn(ponder_model *m, ponder_config *c, bool with)
{
    ponder_session *s = NULL, *fork = NULL;
    ponder_status st = ponder_session_new(&s, m, c);
    if (st == PONDER_OK && with) st = ponder_session_tools(s, tools, sizeof tools - 1);
    if (st == PONDER_OK) st = ponder_session_add(s, "user", "Add 1+2", 7);
    if (st == PONDER_OK) st = ponder_session_fork(&fork, s, NULL);
    if (st == PONDER_OK) st = ponder_session_generate(s, NULL, NULL);
    if (st == PONDER_OK) st = ponder_session_generate(fork, NULL, NULL);
    if (st != PONDER_OK && s) {
        fail_at = -1; /* memory is there again: the session is of use */
        ponder_status again = ponder_session_add(s, "user", "Add 1+2", 7);
        if (again == PONDER_OK) again = ponder_session_generate(s, NULL, NULL);
        if (again != PONDER_OK) fail_msg("after a failed allocation: %s", ponder_session_error(s));
    }
    ponder_session_free(fork);
    ponder_session_free(s);
    return st;
}

static void every_allocation_of_a_turn(void **state)
{
    (void)state;
    const ponder_alloc a = {sizeof a, NULL, take, give_back};
    ponder_config *c;
    ponder_model *m;
    OK(ponder_config_new(&c, &a));
    set(c, PONDER_P_THREADS, 1);
    set(c, PONDER_P_CONTEXT, 4096);
    set(c, PONDER_P_MAX_TOKENS, 40);
    set(c, PONDER_P_THINK_TOKENS, 14);
    set(c, PONDER_P_THINK_LEAST, 4);
    set(c, PONDER_P_THINK_START, 1);
    set_text(c, PONDER_P_THINK_MESSAGE, " 12");
    set_text(c, PONDER_P_THINK_CONTINUE, "3");
    set_text(c, PONDER_P_THINK_EXIT, "answer");
    set(c, PONDER_P_THINK_INTERVAL, 4);
    OK(ponder_config_set_f64(c, PONDER_P_THINK_PROBE_SHARE, 10));
    OK(ponder_config_set_f64(c, PONDER_P_THINK_EXIT_AT, 2));
    OK(ponder_model_open(&m, data_path("seed0"), c));
    for (int with = 0; with < 2; with++) { /* tools make a long prompt: then one in forty */
        const long before = allocations;
        OK(budgeted_turn(m, c, with));
        const long all = allocations - before, stride = with ? 40 : 1;
        long failed = 0;
        for (long at = 0; at < all; at += stride) {
            fail_at = allocations + at;
            const ponder_status st = budgeted_turn(m, c, with);
            fail_at = -1;
            if (st != PONDER_OK && st != PONDER_E_NOMEM) fail_msg("allocation %ld of %ld failed: status %d", at, all, (int)st);
            failed += st != PONDER_OK;
        }
        printf("%ld allocations, %ld failures\n", all, failed);
        assert_true(failed * stride > all / 2);
    }
    ponder_config_free(c);
    ponder_model_free(m);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mode), cmocka_unit_test(refused), cmocka_unit_test(qwen_is_told_in_the_prompt), cmocka_unit_test(message_ends_a_cut_thought),
        cmocka_unit_test(least_is_held), cmocka_unit_test(same_in_slices), cmocka_unit_test(probes_leave_no_trace),
        cmocka_unit_test(certain_answers_leave_early), cmocka_unit_test(closed_by_the_caller), cmocka_unit_test(time_ends_a_turn),
        cmocka_unit_test(time_ends_a_thought), cmocka_unit_test(escapes_are_told), cmocka_unit_test(every_allocation_of_a_turn),
    };
    return cmocka_run_group_tests_name("thinking", tests, open_seed, close_seed);
}
