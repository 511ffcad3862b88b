/* A host program's side of the tests: only ponder.h. Expected tokens are transformers' (tests/data/seed0/reference.json,
 * compose-03, and tests/data/llama/ids.json). */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ponder.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* another malloc, larger frames, threads of its own */
#else
#define SANITIZED 0
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

typedef struct model_case {
    const char *path; /* under PONDER_TEST_DATA */
    const int32_t *prompt, *answer;
    size_t n_prompt, n_answer;
} model_case;

static const int32_t seed_prompt[] = {389, 394, 287, 395, 294, 319, 273, 333, 321, 315, 290, 334, 332, 25, 220, 17, 15, 17,
    21, 12, 15, 16, 12, 15, 19, 261, 326, 335, 25, 387, 261, 2, 331, 336, 25, 272, 286, 288, 272, 269, 1, 13, 392, 394, 269,
    395, 382, 220, 35, 371, 220, 16, 84, 17, 79, 18, 79, 19, 81, 20, 82, 21, 81, 392, 394, 270};
static const int32_t seed_answer[] = {314, 352, 395, 16, 84, 39, 17, 79, 32, 18, 79, 34, 19, 81, 36, 20, 82, 32, 21, 81, 34,
    391, 394, 270, 314, 351, 395, 34, 392};
static const int32_t llama_prompt[] = {110, 22, 52, 21, 79, 132, 10, 52, 68, 148, 128, 9};
static const int32_t llama_answer[] = {133, 37, 113, 100, 51, 16, 113, 113};

static const model_case seed_case = {"seed0", seed_prompt, seed_answer, COUNT(seed_prompt), COUNT(seed_answer)};
static const model_case llama_case = {"llama/model.gguf", llama_prompt, llama_answer, COUNT(llama_prompt), COUNT(llama_answer)};


/* The library's functions, found at run time or linked: the dlopen test uses the first, all others the second. */
typedef struct api {
    ponder_status (*config_new)(ponder_config **, const ponder_alloc *);
    void (*config_free)(ponder_config *);
    ponder_status (*config_set_i64)(ponder_config *, ponder_param, int64_t);
    ponder_status (*config_set_f64)(ponder_config *, ponder_param, double);
    ponder_status (*model_open)(ponder_model **, const char *, ponder_config *);
    void (*model_free)(ponder_model *);
    ponder_status (*session_new)(ponder_session **, ponder_model *, ponder_config *);
    void (*session_free)(ponder_session *);
    ponder_status (*session_prompt_ids)(ponder_session *, const int32_t *, size_t);
    ponder_status (*session_generate)(ponder_session *, ponder_on_event, void *);
    ponder_status (*session_tokens)(ponder_session *, int32_t *, size_t, size_t *);
} api;

static inline void data_path(char *to, size_t cap, const char *name)
{
    const char *data = getenv("PONDER_TEST_DATA");
    snprintf(to, cap, "%s/%s", data ? data : "tests/data", name);
}

static inline ponder_status set_options(const api *a, ponder_config *c, int64_t threads, const model_case *m)
{
    ponder_status s = a->config_set_i64(c, PONDER_P_THREADS, threads);
    if (s == PONDER_OK) s = a->config_set_i64(c, PONDER_P_CONTEXT, 192);
    if (s == PONDER_OK) s = a->config_set_i64(c, PONDER_P_MAX_TOKENS, (int64_t)m->n_answer);
    if (s == PONDER_OK) s = a->config_set_f64(c, PONDER_P_TEMPERATURE, 0);
    return s;
}

/* Tokens of the session after a generate are prompt and answer? */
static inline ponder_status generate_and_compare(const api *a, ponder_session *session, const model_case *m, bool *same)
{
    int32_t ids[256];
    size_t n = 0;
    ponder_status s = a->session_prompt_ids(session, m->prompt, m->n_prompt);
    if (s == PONDER_OK) s = a->session_generate(session, NULL, NULL);
    if (s == PONDER_OK) s = a->session_tokens(session, ids, COUNT(ids), &n);
    *same = s == PONDER_OK && n == m->n_prompt + m->n_answer && memcmp(ids, m->prompt, m->n_prompt * sizeof *ids) == 0 &&
            memcmp(ids + m->n_prompt, m->answer, m->n_answer * sizeof *ids) == 0;
    return s;
}

/* open -> generate -> free; the first status that is not OK. */
static inline ponder_status whole_life(const api *a, const ponder_alloc *alloc, int64_t threads, const model_case *m, bool *same)
{
    char path[512];
    ponder_config *config = NULL;
    ponder_model *model = NULL;
    ponder_session *session = NULL;
    data_path(path, sizeof path, m->path);
    *same = false;
    ponder_status s = a->config_new(&config, alloc);
    if (s == PONDER_OK) s = set_options(a, config, threads, m);
    if (s == PONDER_OK) s = a->model_open(&model, path, config);
    if (s == PONDER_OK) s = a->session_new(&session, model, config);
    if (s == PONDER_OK) s = generate_and_compare(a, session, m, same);
    a->session_free(session);
    a->model_free(model);
    a->config_free(config);
    return s;
}

#ifndef HOST_DLOPEN
static const api linked = {ponder_config_new, ponder_config_free, ponder_config_set_i64, ponder_config_set_f64,
    ponder_model_open, ponder_model_free, ponder_session_new, ponder_session_free, ponder_session_prompt_ids,
    ponder_session_generate, ponder_session_tokens};
#endif

#endif
