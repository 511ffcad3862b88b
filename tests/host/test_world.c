/* The host's world is left alone: locale, stack, fork, idle CPU time, floating-point state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fenv.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "host.h"

/* ---- locale ------------------------------------------------------------------------------------------------ */

static void decimal_commas(void **state)
{
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        assert_null(getenv("LOCPATH")); /* run.sh made it: then it must be found */
        skip();
    }
    assert_string_equal(localeconv()->decimal_point, ",");
    bool same;
    assert_int_equal(whole_life(&linked, NULL, 1, &seed_case, &same), PONDER_OK);
    assert_true(same);

    const char *json = "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"kwargs\": {\"reasoning_strength\": 0.5}}";
    char comma[4096], point[4096];
    size_t n_comma = 0, n_point = 0;
    ponder_status under_comma = ponder_render("muse", json, strlen(json), comma, sizeof comma, &n_comma, NULL);
    setlocale(LC_ALL, "C");
    ponder_status under_point = ponder_render("muse", json, strlen(json), point, sizeof point, &n_point, NULL);
    assert_int_equal(under_comma, under_point);
    assert_int_equal(n_comma, n_point);
    assert_memory_equal(comma, point, n_point);
}

/* ---- stack ------------------------------------------------------------------------------------------------- */

typedef struct life {
    const model_case *m;
    int64_t threads;
    ponder_status status;
    bool same;
} life;

static void *live(void *arg)
{
    life *l = arg;
    l->status = whole_life(&linked, NULL, l->threads, l->m, &l->same);
    return NULL;
}

static void small_stack(void **state)
{
    (void)state;
    if (SANITIZED) skip();
    life lives[] = {{&seed_case, 1, 0, false}, {&seed_case, 2, 0, false}, {&llama_case, 1, 0, false}};
    for (size_t i = 0; i < COUNT(lives); i++) {
        pthread_attr_t attr;
        pthread_t thread;
        assert_int_equal(pthread_attr_init(&attr), 0);
        assert_int_equal(pthread_attr_setstacksize(&attr, 64 * 1024), 0);
        assert_int_equal(pthread_create(&thread, &attr, live, &lives[i]), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        pthread_attr_destroy(&attr);
        assert_int_equal(lives[i].status, PONDER_OK);
        assert_true(lives[i].same);
    }
}

/* ---- fork -------------------------------------------------------------------------------------------------- */

typedef struct opened {
    ponder_config *config;
    ponder_model *model;
    ponder_session *session;
} opened;

static opened open_case(const model_case *m, int64_t threads)
{
    opened o = {NULL, NULL, NULL};
    char path[512];
    data_path(path, sizeof path, m->path);
    assert_int_equal(ponder_config_new(&o.config, NULL), PONDER_OK);
    assert_int_equal(set_options(&linked, o.config, threads, m), PONDER_OK);
    if (ponder_model_open(&o.model, path, o.config) != PONDER_OK) fail_msg("%s", ponder_config_error(o.config));
    assert_int_equal(ponder_session_new(&o.session, o.model, o.config), PONDER_OK);
    return o;
}

static void close_case(opened *o)
{
    ponder_session_free(o->session);
    ponder_model_free(o->model);
    ponder_config_free(o->config);
}

/* Runs in the child: the number of the first check that does not hold, or 0. No cmocka here. */
static int in_the_child(opened *o)
{
    int64_t number;
    size_t n;
    float logits[8];
    int32_t id = 5;
    ponder_session *fork_of;
    ponder_event event = {.size = sizeof event};
    ponder_eval eval = {.size = sizeof eval};
    if (ponder_session_generate(o->session, NULL, NULL) != PONDER_E_FORK) return 1;
    if (ponder_session_step(o->session, 100, &event) != PONDER_E_FORK) return 2;
    if (ponder_session_prompt_ids(o->session, &id, 1) != PONDER_E_FORK) return 3;
    if (ponder_session_fork(&fork_of, o->session, NULL) != PONDER_E_FORK || fork_of) return 4;
    if (ponder_session_eval(o->session, &id, 1, &eval) != PONDER_E_FORK) return 5;
    if (ponder_session_logits(o->session, logits, 8, &n) != PONDER_E_FORK) return 6;
    if (ponder_model_info_i64(o->model, PONDER_INFO_VOCAB, &number) != PONDER_E_FORK) return 7;
    if (ponder_session_new(&fork_of, o->model, o->config) != PONDER_E_FORK || fork_of) return 8;
    ponder_session_cancel(o->session);
    close_case(o); /* must come back */
    bool same;
    if (whole_life(&linked, NULL, 2, &seed_case, &same) != PONDER_OK) return 9; /* handles of its own work */
    return same ? 0 : 10;
}

static void child_after_fork(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* it forbids threads after a fork of a threaded process */
#endif
    opened o = open_case(&seed_case, 2);
    bool same;
    assert_int_equal(generate_and_compare(&linked, o.session, &seed_case, &same), PONDER_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60); /* a child that waits for threads it has not got ends here */
        _exit(in_the_child(&o));
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    assert_int_equal(ponder_session_rewind(o.session, 0, NULL), PONDER_OK);
    assert_int_equal(generate_and_compare(&linked, o.session, &seed_case, &same), PONDER_OK);
    assert_true(same);
    close_case(&o);
}

/* ---- idle -------------------------------------------------------------------------------------------------- */

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void no_cpu_time_when_idle(void **state)
{
    (void)state;
    opened o = open_case(&seed_case, 2);
    bool same;
    assert_int_equal(generate_and_compare(&linked, o.session, &seed_case, &same), PONDER_OK);
    usleep(100 * 1000); /* workers may look for more for a moment */
    double before = cpu_ms();
    sleep(1);
    assert_true(cpu_ms() - before < 10);
    close_case(&o);
}

/* ---- floating-point state ---------------------------------------------------------------------------------- */

typedef struct numbers {
    float logits[416], hidden[128], embedded[128], scores[8], last[416];
    bool same;
} numbers;

static void compute(numbers *r)
{
    opened o = open_case(&seed_case, 1);
    ponder_eval eval = {.size = sizeof eval, .logits = r->last, .hidden = r->hidden, .layer = 2};
    size_t n;
    assert_int_equal(generate_and_compare(&linked, o.session, &seed_case, &r->same), PONDER_OK);
    assert_int_equal(ponder_session_logits(o.session, r->logits, COUNT(r->logits), &n), PONDER_OK);
    assert_int_equal(ponder_session_eval(o.session, seed_prompt, 1, &eval), PONDER_OK);
    assert_int_equal(ponder_session_score(o.session, seed_prompt, COUNT(r->scores), r->scores), PONDER_OK);
    assert_int_equal(ponder_session_embed(o.session, "Add 904+471", 11, r->embedded, COUNT(r->embedded), &n), PONDER_OK);
    close_case(&o);
}

static void other_floating_point_state(void **state)
{
    (void)state;
    static numbers normal, other;
    compute(&normal);
    assert_true(normal.same);
    assert_int_equal(fesetround(FE_UPWARD), 0);
#if defined(__SSE2__)
    unsigned before = _mm_getcsr() | 0x8040; /* flush to zero, denormals are zero */
    before &= ~0x1e80u;                      /* every trap but the one for inexact results, which cmocka may meet */
    before |= 0x1000;
    _mm_setcsr(before);
#endif
    compute(&other);
    int round = fegetround();
#if defined(__SSE2__)
    unsigned after = _mm_getcsr();
    _mm_setcsr(0x1f80);
    assert_int_equal(before & ~0x3fu, after & ~0x3fu); /* the low six bits are flags that accumulate */
#endif
    fesetround(FE_TONEAREST);
    assert_int_equal(round, FE_UPWARD);
    assert_memory_equal(&normal, &other, sizeof normal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decimal_commas),
        cmocka_unit_test(small_stack),
        cmocka_unit_test(child_after_fork),
        cmocka_unit_test(no_cpu_time_when_idle),
        cmocka_unit_test(other_floating_point_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
