/* Logits, hidden states, scores, embeddings, rewind, fork and saved states. Expected: transformers' logits (ids.json and
 * logits.npy of tests/data), arithmetic on them, or the same thing by another way of the library, bit for bit. */
#include "use.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_VOCAB = 416, MOST_WIDTH = 128, PROMPT = 40 };

/* Full attention, full and sliding (windows 8, 10, 64), dense and sparse. */
static const struct { const char *name; double tolerance; } models[] = {
    {"llama/model.gguf", 1e-3}, {"gemma3/model.gguf", 1e-3}, {"muse-glimmer", 3e-4}, {"muse-spark", 3e-4}, {"seed0", 3e-4},
};

typedef struct world {
    ponder_config *c;
    ponder_model *m;
    size_t vocab, width, layers;
    ids prompt;
    float *expected;          /* transformers' logits [prompt.n][vocab] */
    double tolerance;
} world;

static int64_t info(ponder_model *m, int32_t id)
{
    int64_t v;
    OK(ponder_model_info_i64(m, id, &v));
    return v;
}

/* The numbers of a .npy of little-endian float32. */
static float *read_npy(const char *path, size_t n)
{
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s", path);
    unsigned char head[10];
    assert_int_equal(fread(head, 1, sizeof head, f), sizeof head);
    assert_int_equal(fseek(f, 10 + head[8] + 256 * head[9], SEEK_SET), 0);
    float *v = malloc(n * sizeof *v);
    assert_int_equal(fread(v, sizeof *v, n, f), n);
    fclose(f);
    return v;
}

static void enter(world *w, size_t i)
{
    char folder[64], path[96];
    snprintf(folder, sizeof folder, "%s", models[i].name);
    if (strchr(folder, '/')) *strchr(folder, '/') = 0;
    snprintf(path, sizeof path, "%s/ids.json", folder);
    json_t *o = json_load_file(data_path(path), 0, NULL);
    assert_non_null(o);
    w->c = new_config();
    w->m = open_model(models[i].name, w->c);
    w->vocab = (size_t)info(w->m, PONDER_INFO_VOCAB);
    w->width = (size_t)info(w->m, PONDER_INFO_WIDTH);
    w->layers = (size_t)info(w->m, PONDER_INFO_LAYERS);
    w->prompt = ids_at(o, "ids");
    json_decref(o);
    snprintf(path, sizeof path, "%s/logits.npy", folder);
    w->expected = read_npy(data_path(path), w->prompt.n * w->vocab);
    w->tolerance = models[i].tolerance;
}

static void leave(world *w)
{
    free(w->expected);
    ponder_model_free(w->m);
    ponder_config_free(w->c);
}

/* Every model in turn. */
static void each(void (*test)(world *w))
{
    for (size_t i = 0; i < COUNT(models); i++) {
        world w;
        enter(&w, i);
        test(&w);
        leave(&w);
    }
}

/* A session that has been given the first n ids. */
static ponder_session *given(world *w, size_t n)
{
    ponder_session *s = new_session(w->m, w->c);
    OK(ponder_session_prompt_ids(s, w->prompt.id, n));
    return s;
}

static void logits_of(ponder_session *s, float *to)
{
    size_t n;
    OK(ponder_session_logits(s, to, MOST_VOCAB, &n));
}

static double log_softmax(const float *x, size_t n, int32_t i)
{
    double max = (double)x[0], sum = 0;
    for (size_t k = 1; k < n; k++) max = fmax(max, (double)x[k]);
    for (size_t k = 0; k < n; k++) sum += exp((double)x[k] - max);
    return (double)x[i] - max - log(sum);
}

/* ---- eval, score, embed ------------------------------------------------------------------------- */

static void eval_one(world *w)
{
    ponder_session *whole = new_session(w->m, w->c), *single = new_session(w->m, w->c), *split = given(w, 5);
    const size_t n = w->prompt.n;
    float *rows = malloc(n * w->vocab * sizeof *rows), *late = malloc(n * w->vocab * sizeof *late), one[MOST_VOCAB];
    ponder_eval e = {.size = sizeof e, .logits = rows}, from_5 = {.size = sizeof e, .logits = late};
    OK(ponder_session_eval(whole, w->prompt.id, n, &e));
    for (size_t i = 0; i < n * w->vocab; i++) assert_float_equal((double)rows[i], (double)w->expected[i], w->tolerance);
    OK(ponder_session_eval(split, w->prompt.id + 5, n - 5, &from_5));
    assert_memory_equal(late, rows + 5 * w->vocab, (n - 5) * w->vocab * sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        OK(ponder_session_prompt_ids(single, w->prompt.id + i, 1));
        logits_of(single, one);
        assert_memory_equal(one, rows + i * w->vocab, w->vocab * sizeof *one);
    }
    logits_of(whole, one); /* after the last */
    assert_memory_equal(one, rows + (n - 1) * w->vocab, w->vocab * sizeof *one);
    ids got = tokens_of(whole);
    same_ids(&w->prompt, got.id, got.n);
    OK(ponder_session_eval(whole, NULL, 0, &e));
    assert_int_equal(tokens_of(whole).n, n);
    free(rows);
    free(late);
    ponder_session_free(whole);
    ponder_session_free(single);
    ponder_session_free(split);
}

static void eval_is_logits(void **state) { (void)state; each(eval_one); }

/* Hidden rows: as many as tokens, not a float more; the same whether logits are asked for too. */
static void hidden_one(world *w)
{
    const size_t n = 7, floats = n * w->width;
    float *a = malloc((floats + 1) * sizeof *a), *b = malloc((floats + 1) * sizeof *b), *last = NULL;
    float *rows = malloc(n * w->vocab * sizeof *rows);
    for (size_t layer = 0; layer <= w->layers; layer++) {
        ponder_session *s = given(w, 3), *t = given(w, 3);
        a[floats] = b[floats] = 12345;
        for (size_t i = 0; i < floats; i++) a[i] = b[i] = NAN;
        ponder_eval only = {.size = sizeof only, .hidden = a, .layer = (int32_t)layer};
        ponder_eval both = {.size = sizeof both, .hidden = b, .layer = (int32_t)layer, .logits = rows};
        OK(ponder_session_eval(s, w->prompt.id + 3, n, &only));
        OK(ponder_session_eval(t, w->prompt.id + 3, n, &both));
        assert_memory_equal(a, b, floats * sizeof *a);
        assert_true(a[floats] == 12345);
        for (size_t i = 0; i < floats; i++) assert_true(isfinite(a[i]));
        if (last) assert_memory_not_equal(a, last, floats * sizeof *a);
        last = last ? last : malloc(floats * sizeof *last);
        memcpy(last, a, floats * sizeof *last);
        ponder_session_free(s);
        ponder_session_free(t);
    }
    ponder_session *s = given(w, 3);
    ponder_eval beyond = {.size = sizeof beyond, .hidden = a, .layer = (int32_t)w->layers + 1};
    assert_int_equal(ponder_session_eval(s, w->prompt.id, 1, &beyond), PONDER_E_RANGE);
    beyond.layer = -1;
    assert_int_equal(ponder_session_eval(s, w->prompt.id, 1, &beyond), PONDER_E_RANGE);
    assert_int_equal(tokens_of(s).n, 3);
    ponder_session_free(s);
    free(a);
    free(b);
    free(last);
    free(rows);
}

static void hidden_states(void **state) { (void)state; each(hidden_one); }

/* Trying one continuation after another computes those alone, however long. */
static void probe_one(world *w)
{
    ponder_session *s = given(w, w->prompt.n);
    float *logprobs = malloc(2 * w->prompt.n * sizeof *logprobs), one[MOST_VOCAB];
    logits_of(s, one);
    for (int i = 0; i < 3; i++) {
        const int64_t prefilled = info(w->m, PONDER_INFO_PREFILLED);
        OK(ponder_session_score(s, w->prompt.id, w->prompt.n, logprobs));
        assert_true(info(w->m, PONDER_INFO_PREFILLED) - prefilled <= (int64_t)w->prompt.n);
    }
    free(logprobs);
    ponder_session_free(s);
}

static void probes(void **state) { (void)state; each(probe_one); }

/* What is scored is log-softmax of what eval gives; afterwards the session is as before. */
static void score_one(world *w)
{
    const size_t n = w->prompt.n, before = 4;
    ponder_session *s = given(w, before), *other = given(w, before);
    float *logprobs = malloc(n * sizeof *logprobs), a[MOST_VOCAB], b[MOST_VOCAB];
    OK(ponder_session_score(s, w->prompt.id + before, n - before, logprobs));
    for (size_t i = before; i < n; i++) {
        double expected = log_softmax(w->expected + (i - 1) * w->vocab, w->vocab, w->prompt.id[i]);
        assert_float_equal((double)logprobs[i - before], expected, 4 * w->tolerance);
    }
    ids got = tokens_of(s);
    assert_int_equal(got.n, before);
    same_ids(&got, w->prompt.id, before);
    logits_of(s, a);
    logits_of(other, b);
    assert_memory_equal(a, b, w->vocab * sizeof *a);
    ids once = (free(generate(s)), tokens_of(s)), twice = (free(generate(other)), tokens_of(other));
    same_ids(&once, twice.id, twice.n);
    int32_t outside = (int32_t)w->vocab;
    assert_int_equal(ponder_session_score(s, &outside, 1, logprobs), PONDER_E_RANGE);
    got = tokens_of(s);
    same_ids(&once, got.id, got.n);
    OK(ponder_session_score(s, NULL, 0, NULL));
    free(logprobs);
    ponder_session_free(s);
    ponder_session_free(other);
}

static void scores(void **state) { (void)state; each(score_one); }

static void score_of_nothing(void **state)
{
    (void)state;
    world w;
    enter(&w, 0);
    ponder_session *s = new_session(w.m, w.c);
    float logprob;
    assert_int_equal(ponder_session_score(s, w.prompt.id, 1, &logprob), PONDER_E_STATE); /* given nothing */
    ponder_session_free(s);
    leave(&w);
}

static void embeddings(void **state)
{
    (void)state;
    world w;
    enter(&w, 4);
    ponder_session *s = given(&w, 20);
    float a[MOST_WIDTH], b[MOST_WIDTH], small[4], before[MOST_VOCAB], after[MOST_VOCAB];
    size_t n;
    logits_of(s, before);
    OK(ponder_session_embed(s, "Add 904+471", 11, NULL, 0, &n));
    assert_int_equal(n, w.width);
    assert_int_equal(ponder_session_embed(s, "Add 904+471", 11, small, COUNT(small), &n), PONDER_E_SPACE);
    OK(ponder_session_embed(s, "Add 904+471", 11, a, COUNT(a), &n));
    /* the mean of the hidden states after the final norm, scaled */
    ids text = ids_of_text(w.m, "Add 904+471", 11, PONDER_TOKENIZE_BOS);
    float *hidden = malloc(text.n * w.width * sizeof *hidden);
    ponder_eval e = {.size = sizeof e, .hidden = hidden, .layer = (int32_t)w.layers};
    ponder_session *t = new_session(w.m, w.c);
    OK(ponder_session_eval(t, text.id, text.n, &e));
    double mean[MOST_WIDTH] = {0}, norm = 0, length = 0;
    for (size_t i = 0; i < text.n * w.width; i++) mean[i % w.width] += (double)hidden[i];
    for (size_t i = 0; i < w.width; i++) norm += mean[i] * mean[i];
    for (size_t i = 0; i < w.width; i++) {
        assert_float_equal((double)a[i], mean[i] / sqrt(norm), 1e-6);
        length += (double)a[i] * (double)a[i];
    }
    assert_float_equal(length, 1, 1e-6);
    OK(ponder_session_embed(s, "Add 904+471", 11, b, COUNT(b), &n));
    assert_memory_equal(a, b, sizeof *a * w.width);
    OK(ponder_session_embed(s, "Which", 5, b, COUNT(b), &n));
    assert_memory_not_equal(a, b, sizeof *a * w.width);
    logits_of(s, after);
    assert_memory_equal(before, after, w.vocab * sizeof *after);
    assert_int_equal(tokens_of(s).n, 20);
    free(hidden);
    ponder_session_free(s);
    ponder_session_free(t);
    leave(&w);
}

/* ---- rewind and fork ----------------------------------------------------------------------------------- */

static void rewind_one(world *w)
{
    const size_t n = w->prompt.n;
    ponder_session *s = given(w, n);
    free(generate(s));
    ids first = tokens_of(s);
    for (size_t to = n; to > 0; to = to > 9 ? to - 9 : 0) {
        size_t again = 0;
        int64_t prefilled;
        OK(ponder_session_rewind(s, to, &again));
        assert_true(again <= to);
        if (to == n) assert_int_equal(again, 0); /* the turn began here: free */
        OK(ponder_session_prompt_ids(s, w->prompt.id + to, n - to));
        prefilled = info(w->m, PONDER_INFO_PREFILLED);
        told *t = generate(s);
        /* what was announced and what is new, or the one token whose logits nobody kept */
        if (to < n) assert_int_equal(t->prompt, again + n - to);
        assert_true(info(w->m, PONDER_INFO_PREFILLED) - prefilled <= (int64_t)(again + n - to));
        ids got = tokens_of(s);
        same_ids(&first, got.id, got.n);
        free(t);
    }
    assert_int_equal(ponder_session_rewind(s, first.n + 1, NULL), PONDER_E_RANGE);
    ids got = tokens_of(s);
    same_ids(&first, got.id, got.n);
    OK(ponder_session_rewind(s, 0, NULL));
    assert_int_equal(tokens_of(s).n, 0);
    ponder_session_free(s);
}

static void rewinds(void **state) { (void)state; each(rewind_one); }

static void fork_one(world *w)
{
    for (size_t n = 30; n < 36; n++) { /* around a page's end */
        ponder_session *s = given(w, n), *child, *grandchild;
        float a[MOST_VOCAB], b[MOST_VOCAB];
        logits_of(s, a);
        const int64_t prefilled = info(w->m, PONDER_INFO_PREFILLED), kv = info(w->m, PONDER_INFO_KV_BYTES);
        OK(ponder_session_fork(&child, s, NULL));
        assert_int_equal(info(w->m, PONDER_INFO_KV_BYTES), kv); /* the prefix is there once */
        logits_of(child, b);
        assert_memory_equal(a, b, w->vocab * sizeof *a);
        OK(ponder_session_fork(&grandchild, child, w->c));
        ids one = (free(generate(child)), tokens_of(child)), two = (free(generate(s)), tokens_of(s));
        ids three = (free(generate(grandchild)), tokens_of(grandchild));
        same_ids(&one, two.id, two.n);
        same_ids(&one, three.id, three.n);
        assert_int_equal(info(w->m, PONDER_INFO_PREFILLED), prefilled);
        ponder_session_free(s);
        ponder_session_free(child);
        ponder_session_free(grandchild);
        assert_int_equal(info(w->m, PONDER_INFO_KV_BYTES), 0);
    }
}

static void forks(void **state) { (void)state; each(fork_one); }

/* A fork takes the parent's settings, or those it is given. */
static void fork_settings(void **state)
{
    (void)state;
    world w;
    enter(&w, 0);
    ponder_session *s = session_with(w.m, PONDER_P_MAX_TOKENS, 3), *child, *small;
    OK(ponder_session_prompt_ids(s, w.prompt.id, 12));
    OK(ponder_session_fork(&child, s, NULL));
    assert_int_equal(generate_end(child), PONDER_END_LENGTH);
    assert_int_equal(tokens_of(child).n, 15);
    ponder_session_free(child);
    OK(ponder_config_set_i64(w.c, PONDER_P_MAX_TOKENS, 5));
    OK(ponder_session_fork(&child, s, w.c));
    assert_int_equal(generate_end(child), PONDER_END_LENGTH);
    assert_int_equal(tokens_of(child).n, 17);
    OK(ponder_config_set_i64(w.c, PONDER_P_CONTEXT, 8));
    assert_int_equal(ponder_session_fork(&small, s, w.c), PONDER_E_CONTEXT);
    assert_null(small);
    ponder_session_free(child);
    ponder_session_free(s);
    leave(&w);
}

/* ---- saved states --------------------------------------------------------------------------------------- */

static char *saved(ponder_session *s, size_t *n)
{
    size_t again;
    OK(ponder_session_save(s, NULL, 0, n));
    char *bytes = malloc(*n), *small = malloc(*n);
    memset(small, 7, *n);
    assert_int_equal(ponder_session_save(s, small, *n - 1, &again), PONDER_E_SPACE);
    assert_int_equal(again, *n);
    for (size_t i = 0; i < *n; i++) assert_int_equal(small[i], 7);
    OK(ponder_session_save(s, bytes, *n, &again));
    assert_int_equal(again, *n);
    free(small);
    return bytes;
}

static void save_one(world *w)
{
    char path[] = "/tmp/ponder-state-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int turn = 0; turn < 2; turn++) { /* a prompt; a turn of the model's with a token that is not computed yet */
        ponder_session *s = given(w, w->prompt.n - 3), *copy = given(w, 9), *from_file = new_session(w->m, w->c);
        float a[MOST_VOCAB], b[MOST_VOCAB];
        if (turn) free(generate(s));
        else logits_of(s, a);
        size_t n;
        char *bytes = saved(s, &n);
        OK(ponder_session_save_file(s, path));
        const int64_t prefilled = info(w->m, PONDER_INFO_PREFILLED);
        OK(ponder_session_load(copy, bytes, n));
        OK(ponder_session_load_file(from_file, path));
        logits_of(s, a);
        logits_of(copy, b);
        assert_memory_equal(a, b, w->vocab * sizeof *a);
        logits_of(from_file, b);
        assert_memory_equal(a, b, w->vocab * sizeof *a);
        ids one = (free(generate(s)), tokens_of(s)), two = (free(generate(copy)), tokens_of(copy));
        ids three = (free(generate(from_file)), tokens_of(from_file));
        same_ids(&one, two.id, two.n);
        same_ids(&one, three.id, three.n);
        assert_int_equal(info(w->m, PONDER_INFO_PREFILLED), prefilled);
        free(bytes);
        ponder_session_free(s);
        ponder_session_free(copy);
        ponder_session_free(from_file);
    }
    unlink(path);
}

static void saves(void **state) { (void)state; each(save_one); }

/* The session still says what it said. */
static void refuses(ponder_session *s, const void *bytes, size_t n, ponder_status expected)
{
    ids before = tokens_of(s);
    float a[MOST_VOCAB], b[MOST_VOCAB];
    logits_of(s, a);
    ponder_status st = ponder_session_load(s, bytes, n);
    if (expected) assert_int_equal(st, expected);
    assert_true(st == PONDER_E_FORMAT || st == PONDER_E_MISMATCH || st == PONDER_E_CONTEXT);
    assert_true(ponder_session_error(s)[0] != 0);
    ids after = tokens_of(s);
    same_ids(&before, after.id, after.n);
    logits_of(s, b);
    assert_memory_equal(a, b, sizeof(float) * 100);
}

static void wrong_states(void **state)
{
    (void)state;
    world llama, gemma, other_kv;
    enter(&llama, 0);
    enter(&gemma, 1);
    enter(&other_kv, 0);
    ponder_session *s = given(&llama, 30), *of_gemma = given(&gemma, 30), *into = given(&llama, 7);
    size_t n, m;
    char *bytes = saved(s, &n), *foreign = saved(of_gemma, &m);
    refuses(into, foreign, m, PONDER_E_MISMATCH);
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 1 : 501) refuses(into, bytes, cut, PONDER_E_FORMAT);
    for (size_t at = 0; at < n; at += at < 200 ? 1 : 97) {
        bytes[at] ^= 0x55;
        refuses(into, bytes, n, 0);
        bytes[at] ^= 0x55;
    }
    char *longer = calloc(1, n + 8);
    memcpy(longer, bytes, n);
    refuses(into, longer, n + 8, PONDER_E_FORMAT);
    free(longer);
    ponder_session *small = session_with(llama.m, PONDER_P_CONTEXT, 20);
    OK(ponder_session_prompt_ids(small, llama.prompt.id, 3));
    refuses(small, bytes, n, PONDER_E_CONTEXT);
    ponder_model_free(other_kv.m);
    OK(ponder_config_set_str(other_kv.c, PONDER_P_KV_TYPE, "q8_0"));
    other_kv.m = open_model("llama/model.gguf", other_kv.c);
    ponder_session *q8 = given(&other_kv, 7);
    refuses(q8, bytes, n, PONDER_E_MISMATCH);
    assert_int_equal(ponder_session_load_file(into, "/nonexistent/state"), PONDER_E_IO);
    assert_int_equal(ponder_session_save_file(into, "/nonexistent/state"), PONDER_E_IO);
    /* A device is written to, not replaced. (Through a link, so that a failure of this test replaces no device.) */
    char folder[] = "/tmp/ponder-device-XXXXXX", link[64];
    struct stat st;
    assert_non_null(mkdtemp(folder));
    snprintf(link, sizeof link, "%s/null", folder);
    assert_int_equal(symlink("/dev/null", link), 0);
    OK(ponder_session_save_file(s, link));
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(unlink(link), 0);
    assert_int_equal(rmdir(folder), 0);
    OK(ponder_session_load(into, bytes, n));
    free(bytes);
    free(foreign);
    ponder_session_free(s);
    ponder_session_free(of_gemma);
    ponder_session_free(into);
    ponder_session_free(small);
    ponder_session_free(q8);
    leave(&llama);
    leave(&gemma);
    leave(&other_kv);
}

/* The size of a step is no part of a state. */
static void state_of_a_larger_step(void **state)
{
    (void)state;
    world w;
    enter(&w, 1);
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_BATCH, 16));
    ponder_model *narrow = open_model(models[1].name, c);
    ponder_session *s = given(&w, w.prompt.n), *into = new_session(narrow, c);
    float a[MOST_VOCAB], b[MOST_VOCAB];
    size_t n;
    for (int i = 0; i < 8; i++) OK(ponder_session_prompt_ids(s, w.prompt.id, w.prompt.n));
    logits_of(s, a);
    char *bytes = saved(s, &n);
    OK(ponder_session_load(into, bytes, n));
    OK(ponder_session_prompt_ids(into, w.prompt.id, 20));
    OK(ponder_session_prompt_ids(s, w.prompt.id, 20));
    logits_of(s, a);
    logits_of(into, b);
    assert_memory_equal(a, b, w.vocab * sizeof *a);
    free(bytes);
    ponder_session_free(s);
    ponder_session_free(into);
    ponder_model_free(narrow);
    ponder_config_free(c);
    leave(&w);
}

/* An eval that asks for nothing still computes: forks made after it compute nothing of the prefix again. */
static void eval_for_nothing_one(world *w)
{
    ponder_session *s = given(w, 0);
    ponder_eval nothing = {.size = sizeof nothing};
    const int64_t before = info(w->m, PONDER_INFO_PREFILLED);
    OK(ponder_session_eval(s, w->prompt.id, w->prompt.n, &nothing));
    assert_int_equal(info(w->m, PONDER_INFO_PREFILLED) - before, (int64_t)w->prompt.n);
    ponder_session_free(s);
}

static void eval_for_nothing(void **state) { (void)state; each(eval_for_nothing_one); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eval_is_logits), cmocka_unit_test(hidden_states), cmocka_unit_test(probes), cmocka_unit_test(scores),
        cmocka_unit_test(score_of_nothing), cmocka_unit_test(eval_for_nothing),
        cmocka_unit_test(embeddings), cmocka_unit_test(rewinds), cmocka_unit_test(forks), cmocka_unit_test(fork_settings),
        cmocka_unit_test(saves), cmocka_unit_test(wrong_states), cmocka_unit_test(state_of_a_larger_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
