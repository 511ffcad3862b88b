#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "program.h"

enum { PREFIX = 256, MOST_TOKENS = 1 << 20, MOST_COUNTS = 16, MOST_REPEATS = 100 };

struct bench;
typedef struct result {
    char name[32];
    size_t sequences; /* of those that decode together */
    ponder_status (*once)(struct bench *b, size_t sequences, double *rate);
    double best, median;
} result;

typedef struct bench {
    int json, stepped;
    int64_t repeat, prompt, context, tokens;
    const char *sequences;
    ponder_model *model;
    ponder_config *config;
    int32_t *ids;
    size_t n_ids;
    double load_ms;
    result results[2 + MOST_COUNTS];
    size_t n;
} bench;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The most memory this process ever had. getrusage would count what the shell had before it started this program. */
static uint64_t peak_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long kb = 0;
    struct rusage usage;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lu", &kb) == 1)
            break;
    if (f)
        fclose(f);
    if (!kb && !getrusage(RUSAGE_SELF, &usage))
        kb = (unsigned long)usage.ru_maxrss;
    return (uint64_t)kb * 1024;
}

static ponder_status new_session(bench *b, ponder_session **out, int64_t max_tokens)
{
    ponder_status status = ponder_config_set_i64(b->config, PONDER_P_MAX_TOKENS, max_tokens);
    *out = NULL;
    if (status == PONDER_OK)
        status = ponder_session_new(out, b->model, b->config);
    if (status != PONDER_OK)
        fail("session", status, ponder_config_error(b->config));
    return status;
}

static int32_t keep_done(void *user, const ponder_event *event)
{
    if (event->kind == PONDER_EVENT_DONE)
        *(ponder_event *)user = *event;
    return 0;
}

/* From handing over the prompt to its first token, as a host waits for it. */
static ponder_status prefill_once(bench *b, size_t sequences, double *rate)
{
    ponder_session *session;
    ponder_status status = new_session(b, &session, 1);
    double begin = now();
    (void)sequences;
    if (status != PONDER_OK)
        return status;
    status = ponder_session_prompt_ids(session, b->ids, (size_t)b->prompt);
    if (status == PONDER_OK)
        status = ponder_session_generate(session, NULL, NULL);
    *rate = (double)b->prompt / (now() - begin);
    if (status != PONDER_OK)
        fail("prefill", status, ponder_session_error(session));
    ponder_session_free(session);
    return status;
}

/* The first token belongs to the prompt's step: one more is asked for, and the others are timed. */
static ponder_status decode_once(bench *b, size_t sequences, double *rate)
{
    ponder_session *session;
    ponder_event done = {0};
    ponder_status status = new_session(b, &session, b->tokens + 1);
    (void)sequences;
    if (status != PONDER_OK)
        return status;
    status = ponder_session_prompt_ids(session, b->ids, (size_t)b->context);
    if (status == PONDER_OK)
        status = ponder_session_generate(session, keep_done, &done);
    *rate = done.decode_us ? (double)(done.output_tokens - 1) * 1e6 / (double)done.decode_us : 0;
    if (status != PONDER_OK)
        fail("decode", status, ponder_session_error(session));
    ponder_session_free(session);
    return status;
}

typedef struct sequence {
    ponder_session *session;
    ponder_status status;
    int done;
    pthread_t thread;
} sequence;

/* A prefix computed once and forked; each fork goes on with a token of its own. */
static ponder_status fork_all(bench *b, sequence *seqs, size_t n)
{
    ponder_eval nothing = {.size = sizeof nothing};
    ponder_session *base;
    ponder_status status = new_session(b, &base, b->tokens);
    if (status != PONDER_OK)
        return status;
    status = ponder_session_eval(base, b->ids, PREFIX, &nothing);
    for (size_t i = 0; i < n && status == PONDER_OK; i++) {
        status = ponder_session_fork(&seqs[i].session, base, NULL);
        if (status == PONDER_OK)
            status = ponder_session_prompt_ids(seqs[i].session, &b->ids[PREFIX + i % PREFIX], 1);
    }
    if (status != PONDER_OK)
        fail("fork", status, ponder_session_error(base));
    ponder_session_free(base);
    return status;
}

static void *generate(void *arg)
{
    sequence *s = arg;
    s->status = ponder_session_generate(s->session, NULL, NULL);
    return NULL;
}

/* A thread for each sequence, as a server would have. */
static void run_threads(sequence *seqs, size_t n)
{
    size_t started = 0;
    while (started < n && !pthread_create(&seqs[started].thread, NULL, generate, &seqs[started]))
        started++;
    for (size_t i = 0; i < n; i++) {
        if (i < started)
            pthread_join(seqs[i].thread, NULL);
        else
            seqs[i].status = PONDER_E_THREAD;
    }
}

/* One thread that steps them in turn, as a game loop would. */
static void run_steps(sequence *seqs, size_t n)
{
    for (size_t left = n; left;) {
        for (size_t i = 0; i < n; i++) {
            ponder_event event = {.size = sizeof event};
            if (seqs[i].done)
                continue;
            seqs[i].status = ponder_session_step(seqs[i].session, 1000000, &event);
            seqs[i].done = seqs[i].status < 0 || (seqs[i].status == PONDER_OK && event.kind == PONDER_EVENT_DONE);
            left -= (size_t)seqs[i].done;
        }
    }
}

static ponder_status together_once(bench *b, size_t n, double *rate)
{
    sequence *seqs = must_alloc(n, sizeof *seqs);
    ponder_status status;
    double begin;
    memset(seqs, 0, n * sizeof *seqs);
    status = fork_all(b, seqs, n);
    begin = now();
    if (status == PONDER_OK)
        (b->stepped ? run_steps : run_threads)(seqs, n);
    *rate = (double)n * (double)b->tokens / (now() - begin);
    for (size_t i = 0; i < n; i++) {
        if (seqs[i].status < 0 && status == PONDER_OK)
            fail("decode together", status = seqs[i].status, ponder_session_error(seqs[i].session));
        ponder_session_free(seqs[i].session);
    }
    free(seqs);
    return status;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static ponder_status measure(bench *b, result *r)
{
    double rates[MOST_REPEATS];
    for (int64_t i = 0; i < b->repeat; i++) {
        ponder_status status = r->once(b, r->sequences, &rates[i]);
        if (status != PONDER_OK)
            return status;
    }
    qsort(rates, (size_t)b->repeat, sizeof *rates, descending);
    r->best = rates[0];
    r->median = b->repeat & 1 ? rates[b->repeat / 2] : (rates[b->repeat / 2 - 1] + rates[b->repeat / 2]) / 2;
    return PONDER_OK;
}

/* Untimed: the second step that uses the weights repacks them. With --repeat 1 that is measured like everything else. */
static ponder_status warm_up(bench *b)
{
    ponder_session *session;
    ponder_status status = new_session(b, &session, 2);
    if (status != PONDER_OK)
        return status;
    status = ponder_session_prompt_ids(session, b->ids, 8);
    if (status == PONDER_OK)
        status = ponder_session_generate(session, NULL, NULL);
    if (status != PONDER_OK)
        fail("warm-up", status, ponder_session_error(session));
    ponder_session_free(session);
    return status;
}

static void print_json(const bench *b, const char *path)
{
    char type[32];
    model_text(b->model, PONDER_INFO_TYPE, type, sizeof type);
    fputs("{\"model\":", stdout);
    json_text(stdout, path, strlen(path));
    fputs(",\"type\":", stdout);
    json_text(stdout, type, strlen(type));
    printf(",\"threads\":%d,\"repeat\":%d", (int)model_number(b->model, PONDER_INFO_THREADS), (int)b->repeat);
    for (size_t i = 0; i < b->n; i++)
        printf(",\"%s\":%.2f", b->results[i].name, b->results[i].best);
    printf(",\"load_ms\":%.1f,\"peak_bytes\":%llu,\"median\":{", b->load_ms, (unsigned long long)peak_bytes());
    for (size_t i = 0; i < b->n; i++)
        printf("%s\"%s\":%.2f", i ? "," : "", b->results[i].name, b->results[i].median);
    puts("}}");
}

static void print_table(const bench *b, const char *path)
{
    char human[16];
    printf("%s%s%s, %d threads, best and median of %d, tokens a second\n", tint(stdout, TINT_BOLD), path,
           tint(stdout, TINT_PLAIN), (int)model_number(b->model, PONDER_INFO_THREADS), (int)b->repeat);
    for (size_t i = 0; i < b->n; i++)
        printf("  %-14s%9.1f %9.1f\n", b->results[i].name, b->results[i].best, b->results[i].median);
    printf("loaded in %.0f ms, at most %s of memory\n", b->load_ms, human_bytes(human, peak_bytes()));
}

static result *add_result(bench *b, ponder_status (*once)(bench *, size_t, double *), size_t sequences)
{
    result *r = &b->results[b->n++];
    r->once = once;
    r->sequences = sequences;
    return r;
}

/* "8" or "1,8,16": one result for each. */
static int plan_results(bench *b, size_t *most)
{
    const char *text = b->sequences;
    if (b->prompt)
        snprintf(add_result(b, prefill_once, 0)->name, sizeof b->results->name, "prefill_%d", (int)b->prompt);
    if (b->context)
        strcpy(add_result(b, decode_once, 0)->name, "decode");
    while (text && *text) {
        char *end;
        unsigned long count = strtoul(text, &end, 10);
        if (end == text || !count || count > 1024 || (*end && *end != ',') || b->n == sizeof b->results / sizeof *b->results)
            return fail_usage("--sequences", "wants numbers from 1 to 1024, such as 1,8,16");
        snprintf(add_result(b, together_once, count)->name, sizeof b->results->name, "decode_%lu", count);
        *most = count > *most ? count : *most;
        text = *end ? end + 1 : end;
    }
    return 0;
}

/* What a fair measurement needs: greedy, no early end. Options given by hand come on top. */
static ponder_config *bench_config(void)
{
    ponder_config *config = new_config();
    ponder_config_set_i64(config, PONDER_P_IGNORE_EOS, 1);
    ponder_config_set_f64(config, PONDER_P_TEMPERATURE, 0);
    return config;
}

/* Always the same ids of the model's vocabulary. */
static void choose_ids(bench *b)
{
    uint64_t x = 88172645463325252u, vocab = (uint64_t)model_number(b->model, PONDER_INFO_VOCAB);
    for (size_t i = 0; i < b->n_ids; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        b->ids[i] = vocab ? (int32_t)(x % vocab) : 0;
    }
}

static int run(bench *b, const char *path)
{
    double begin = now();
    int code = open_model(&b->model, path, b->config, b->json);
    if (code)
        return code;
    b->load_ms = (now() - begin) * 1e3;
    choose_ids(b);
    if (b->repeat > 1)
        code = warm_up(b) != PONDER_OK;
    for (size_t i = 0; i < b->n && !code; i++)
        code = measure(b, &b->results[i]) != PONDER_OK;
    if (!code) {
        (b->json ? print_json : print_table)(b, path);
        code = finish_output();
    }
    ponder_model_free(b->model);
    return code;
}

static int outside(int64_t value, int64_t least)
{
    return value < least || value > MOST_TOKENS;
}

/* Ids and room for the longest of what is measured. */
static int make_room(bench *b)
{
    int64_t longest = 2 * PREFIX;
    longest = b->prompt > longest ? b->prompt : longest;
    longest = b->context > longest ? b->context : longest;
    b->n_ids = (size_t)longest;
    b->ids = must_alloc(b->n_ids, sizeof *b->ids);
    if (ponder_config_set_i64(b->config, PONDER_P_CONTEXT, longest + 2 * b->tokens) != PONDER_OK)
        return fail("--context", PONDER_E_RANGE, ponder_config_error(b->config));
    return 0;
}

static int check_and_run(bench *b, const char *path)
{
    size_t most = 0;
    int code = plan_results(b, &most);
    if (code)
        return code;
    if (b->repeat < 1 || b->repeat > MOST_REPEATS)
        return fail_usage("--repeat", "wants a number from 1 to 100");
    if (outside(b->prompt, 0) || outside(b->context, 0) || outside(b->tokens, 1))
        return fail_usage("--prompt, --context, --tokens", "want numbers up to 1048576, and at least one token");
    if (most && ponder_config_set_i64(b->config, PONDER_P_SEQUENCES, (int64_t)most) != PONDER_OK)
        return fail("--sequences", PONDER_E_RANGE, ponder_config_error(b->config));
    code = make_room(b);
    return code ? code : run(b, path);
}

int command_bench(int argc, char **argv)
{
    bench b = {.repeat = 3, .prompt = 512, .context = 8, .tokens = 128, .config = bench_config()};
    int args, code;
    const option table[] = {
        {"--json", NULL, "one JSON object on one line", OPTION_FLAG, &b.json, 0},
        OPTION_THREADS,
        {"--sequences", "N[,N..]", "also decode N sequences at once that share a prefix of 256 tokens (total rate)", OPTION_TEXT, &b.sequences, 0},
        {"--stepped", NULL, "step those sequences in turn on one thread, not on a thread each", OPTION_FLAG, &b.stepped, 0},
        {"--prompt", "N", "tokens of the prompt that is measured (512); 0: none", OPTION_NUMBER, &b.prompt, 0},
        {"--context", "N", "tokens before those that one sequence decodes (8); 0: that is left out", OPTION_NUMBER, &b.context, 0},
        {"--tokens", "N", "tokens that each sequence decodes (128)", OPTION_NUMBER, &b.tokens, 0},
        {"--repeat", "R", "measure R times (3); the best counts, the median is shown too", OPTION_NUMBER, &b.repeat, 0},
        OPTION_ANY,
    };
    const options o = {
        "bench MODEL [--json] [--threads T] [--sequences N]",
        "How fast a model runs here, in tokens a second: a prompt of 512 tokens (prefill_512), 128 tokens decoded after a short\n"
        "prompt (decode), N sequences at once (decode_N); also the time to load and the most memory the process had. Measured more than\n"
        "once, after a few tokens that repack the weights; with --repeat 1 what comes first is measured as it comes.",
        "examples:\n"
        "  ponder bench model.gguf\n"
        "  ponder bench model.gguf --json --threads 2 --sequences 1,8,16\n"
        "  ponder bench model.gguf --prompt 0 --context 4096 --tokens 32",
        table, sizeof table / sizeof *table, b.config, 1, 1};
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = check_and_run(&b, argv[1]);
    free(b.ids);
    ponder_config_free(b.config);
    return code;
}
