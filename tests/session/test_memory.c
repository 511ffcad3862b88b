/* Every allocation of a rich conversation fails in turn: a status each time, nothing left behind, and the session is of use again
 * where it was made at all. */
#include <stdatomic.h>

#include "use.h"

static _Atomic long calls, fail_at, live;

static void *take(void *user, size_t bytes, size_t align)
{
    (void)user;
    if (calls++ == fail_at) return NULL;
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, bytes ? bytes : 1) != 0) return NULL;
    live++;
    return p;
}

static void give_back(void *user, void *p, size_t bytes)
{
    (void)user;
    (void)bytes;
    live -= p != NULL;
    free(p);
}

static const ponder_alloc alloc = {sizeof alloc, NULL, take, give_back};

static const char tools[] = "[{\"name\":\"lamp.set\",\"description\":\"Sets a lamp.\",\"parameters\":{\"type\":\"object\",\"properties\":"
                            "{\"on\":{\"type\":\"boolean\"},\"room\":{\"enum\":[\"hall\",\"attic\"]}},\"required\":[\"on\"]}}]";
static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],\"additionalProperties\":false}";

/* The handles of one life, and its first failure. */
typedef struct life {
    ponder_config *c;
    ponder_model *m;
    ponder_session *s, *fork;
    ponder_image *im, *part;
    ponder_sound *w;
    ponder_parser *p;
    ponder_status st;
} life;

#define TRY(l, call) do { if ((l)->st >= 0) (l)->st = (call); } while (0)

static void open_all(life *l)
{
    static uint8_t pixels[40 * 30 * 3];
    static float wave[3000];
    const ponder_view v = {.size = sizeof v, .pixels = pixels, .width = 40, .height = 30, .stride = 120, .format = PONDER_RGB};
    const ponder_samples w = {.size = sizeof w, .samples = wave, .frames = 3000, .rate = 24000, .channels = 1};
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 31);
    for (size_t i = 0; i < COUNT(wave); i++) wave[i] = (float)(i % 50) / 50;
    TRY(l, ponder_config_new(&l->c, &alloc));
    TRY(l, ponder_config_set_i64(l->c, PONDER_P_THREADS, 1));
    TRY(l, ponder_config_set_i64(l->c, PONDER_P_CONTEXT, 4096));
    TRY(l, ponder_config_set_i64(l->c, PONDER_P_MAX_TOKENS, 3));
    TRY(l, ponder_config_set_i64(l->c, PONDER_P_STRICT_TOOLS, 1));
    TRY(l, ponder_config_set_str(l->c, PONDER_P_SCHEMA, schema));
    TRY(l, ponder_config_set_str(l->c, PONDER_P_STOP, "stop"));
    TRY(l, ponder_model_open(&l->m, data_path("seed0"), l->c));
    TRY(l, ponder_session_new(&l->s, l->m, l->c));
    TRY(l, ponder_image_open_view(&l->im, &v, l->c));
    TRY(l, ponder_image_crop(&l->part, l->im, 1, 1, 20, 20, l->c));
    TRY(l, ponder_sound_open_samples(&l->w, &w, l->c));
}

static void talk(life *l)
{
    size_t n;
    ponder_image *frames[3] = {l->im, l->im, l->im};
    const double seconds[3] = {0, 0.5, 1};
    TRY(l, ponder_session_tools(l->s, tools, sizeof tools - 1));
    TRY(l, ponder_session_attach_text(l->s, "See ", 4));
    TRY(l, ponder_session_attach_image(l->s, l->im));
    TRY(l, ponder_session_attach_video(l->s, frames, seconds, 3));
    TRY(l, ponder_session_attach_sound(l->s, l->w));
    TRY(l, ponder_session_add(l->s, "user", "and hear!", 9));
    TRY(l, ponder_session_fork(&l->fork, l->s, NULL));
    TRY(l, ponder_session_features(l->s, NULL, 0, &n));
    TRY(l, ponder_session_generate(l->s, NULL, NULL));
    static float wave[4000];
    const ponder_samples w = {.size = sizeof w, .samples = wave, .frames = 4000, .rate = 24000, .channels = 1};
    TRY(l, ponder_session_attach_image(l->fork, l->part));
    TRY(l, ponder_session_listen(l->fork, &w));
    TRY(l, ponder_session_prefill(l->fork, UINT64_MAX));
    TRY(l, ponder_session_add(l->fork, "user", "?", 1));
    TRY(l, ponder_session_generate(l->fork, NULL, NULL));
    static const char call[] = " to=lamp.set<|message|>";
    TRY(l, ponder_session_add(l->s, "user", "Light!", 6));
    TRY(l, ponder_session_prompt(l->s, call, sizeof call - 1, PONDER_TOKENIZE_SPECIAL));
    TRY(l, ponder_session_run(l->s, NULL, NULL, NULL, 1));
    TRY(l, ponder_session_save(l->s, NULL, 0, &n));
}

static void parse(life *l)
{
    static const char stream[] = " to=self<|message|>Hm<|eom|><|start|>assistant to=lamp.set<|message|><atem:function_calls>\n<atem:invoke name=\""
                                 "lamp.set\">\n<atem:parameter name=\"on\">true</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>";
    ponder_event e = {.size = sizeof e};
    TRY(l, ponder_parser_new(&l->p, "muse", tools, sizeof tools - 1, l->c));
    TRY(l, ponder_parser_feed(l->p, stream, sizeof stream - 1));
    TRY(l, ponder_parser_feed(l->p, NULL, 0));
    while (l->st >= 0 && ponder_parser_next(l->p, &e) == PONDER_OK) { }
}

/* After a failure, memory being there again: the session answers a plain question. */
static void useful_again(life *l)
{
    if (!l->s) return;
    fail_at = -1;
    ponder_status st = ponder_session_add(l->s, "user", "Add 1+2", 7);
    if (st == PONDER_OK) st = ponder_session_generate(l->s, NULL, NULL);
    if (st != PONDER_OK) fail_msg("after a failed allocation: %s", ponder_session_error(l->s));
}

static ponder_status one_life(long at)
{
    life l = {.st = PONDER_OK};
    calls = live = 0;
    fail_at = at;
    open_all(&l);
    talk(&l);
    parse(&l);
    if (l.st < 0 && l.st != PONDER_E_NOMEM) fail_msg("allocation %ld failed: status %d, %s", at, (int)l.st, l.s ? ponder_session_error(l.s) : "");
    if (l.st < 0) useful_again(&l);
    ponder_parser_free(l.p);
    ponder_image_free(l.im); /* before those that hold them */
    ponder_image_free(l.part);
    ponder_sound_free(l.w);
    ponder_config_free(l.c);
    ponder_model_free(l.m);
    ponder_session_free(l.fork);
    ponder_session_free(l.s);
    if (live != 0) fail_msg("allocation %ld failed: %ld pieces left", at, (long)live);
    return l.st;
}

/* Drafts of both kinds, while a conversation goes on, forks and is saved. */
static ponder_status one_drafting_life(long at)
{
    life l = {.st = PONDER_OK};
    ponder_session *loaded = NULL;
    static char state[1 << 20];
    size_t n;
    calls = live = 0;
    fail_at = at;
    TRY(&l, ponder_config_new(&l.c, &alloc));
    TRY(&l, ponder_config_set_i64(l.c, PONDER_P_THREADS, 1));
    TRY(&l, ponder_config_set_i64(l.c, PONDER_P_CONTEXT, 512));
    TRY(&l, ponder_config_set_i64(l.c, PONDER_P_MAX_TOKENS, 12));
    TRY(&l, ponder_config_set_i64(l.c, PONDER_P_IGNORE_EOS, 1));
    TRY(&l, ponder_config_set_str(l.c, PONDER_P_DRAFTER, data_path("seed0-drafter/model.gguf")));
    TRY(&l, ponder_config_set_str(l.c, PONDER_P_DRAFT, "drafter"));
    TRY(&l, ponder_model_open(&l.m, data_path("seed0"), l.c));
    TRY(&l, ponder_session_new(&l.s, l.m, l.c));
    TRY(&l, ponder_session_add(l.s, "user", "From B do 1p2t3s4p", 18));
    TRY(&l, ponder_session_generate(l.s, NULL, NULL));
    TRY(&l, ponder_session_fork(&l.fork, l.s, NULL));
    TRY(&l, ponder_session_generate(l.fork, NULL, NULL));
    TRY(&l, ponder_session_save(l.s, state, sizeof state, &n));
    TRY(&l, ponder_session_new(&loaded, l.m, l.c));
    TRY(&l, ponder_session_load(loaded, state, n));
    TRY(&l, ponder_session_generate(loaded, NULL, NULL));
    TRY(&l, ponder_config_set_str(l.c, PONDER_P_DRAFT, "lookup"));
    TRY(&l, ponder_config_set_i64(l.c, PONDER_P_DRAFT_TOKENS, 20));
    TRY(&l, ponder_session_configure(l.s, l.c));
    TRY(&l, ponder_session_generate(l.s, NULL, NULL));
    if (l.st < 0 && l.st != PONDER_E_NOMEM) fail_msg("allocation %ld failed: status %d, %s", at, (int)l.st, l.s ? ponder_session_error(l.s) : "");
    if (l.st < 0) useful_again(&l);
    ponder_config_free(l.c);
    ponder_model_free(l.m);
    ponder_session_free(l.fork);
    ponder_session_free(loaded);
    ponder_session_free(l.s);
    if (live != 0) fail_msg("allocation %ld failed: %ld pieces left", at, (long)live);
    return l.st;
}

static void each_in_turn(ponder_status (*one)(long at))
{
    assert_true(one(-1) >= 0);
    const long all = calls;
    const char *every = getenv("PONDER_TEST_EVERY");
    const long stride = every ? atol(every) : 1;
    long survived = 0, failed = 0;
    for (long at = 0; at < all; at += stride, failed++) survived += one(at) >= 0;
    printf("%ld of %ld allocations failed, %ld of them not needed for success\n", failed, all, survived);
    assert_true(survived <= failed / 10); /* caches may forget */
}

static void every_allocation_fails_in_turn(void **state)
{
    (void)state;
    each_in_turn(one_life);
}

static void every_allocation_fails_with_drafts(void **state)
{
    (void)state;
    each_in_turn(one_drafting_life);
}

/* A picture whose attaching failed is none: when it is attached at last, it is the first, and there is no second to look at. */
static void a_failed_picture_is_not_looked_at(void **state)
{
    (void)state;
    static const char call[] =
        " to=image.zoom<|message|><atem:function_calls>\n<atem:invoke name=\"image.zoom\">\n<atem:parameter name=\"image\">2</atem:parameter>\n"
        "<atem:parameter name=\"x_min\">100</atem:parameter>\n<atem:parameter name=\"y_min\">100</atem:parameter>\n<atem:parameter name=\"x_max\">"
        "600</atem:parameter>\n<atem:parameter name=\"y_max\">700</atem:parameter>\n</atem:invoke>\n</atem:function_calls";
    static uint8_t pixels[64 * 64 * 3];
    const ponder_view v = {.size = sizeof v, .pixels = pixels, .width = 64, .height = 64, .stride = 192, .format = PONDER_RGB};
    ponder_config *c;
    ponder_image *im;
    fail_at = -1;
    OK(ponder_config_new(&c, &alloc));
    OK(ponder_config_set_i64(c, PONDER_P_THREADS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_LOOK_CLOSER, 1));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 40));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 6000));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    OK(ponder_image_open_view(&im, &v, c));
    long failed = 0;
    for (ponder_status st = PONDER_E_NOMEM; st != PONDER_OK; failed++) {
        fail_at = calls + failed;
        st = ponder_session_attach_image(s, im);
        fail_at = -1;
        assert_true(st == PONDER_OK || st == PONDER_E_NOMEM);
    }
    assert_true(failed > 2);
    add(s, "user", "Look!");
    OK(ponder_session_prompt(s, call, sizeof call - 1, PONDER_TOKENIZE_SPECIAL));
    const size_t before = tokens_of(s).n;
    assert_true(ponder_session_run(s, NULL, NULL, NULL, 2) >= 0);
    const ids after = tokens_of(s);
    static char text[MOST_TEXT];
    text[text_of_ids(m, after.id + before, after.n - before, true, text)] = 0;
    assert_non_null(strstr(text, "counted from 1"));
    ponder_image_free(im);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails_in_turn), cmocka_unit_test(every_allocation_fails_with_drafts), cmocka_unit_test(a_failed_picture_is_not_looked_at)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
