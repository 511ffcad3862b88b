/* Rows in the place of tokens: a row that is a token's own embedding computes what the token computes, wherever it stands. */
#include "rig.h"

enum { TOKENS = 150, AT = 40, ROWS = 70, PLACEHOLDER = 3 };

typedef struct prompt {
    rig r;
    int32_t ids[TOKENS];
    pn_rows *rows;            /* the embeddings of ids[AT..AT+ROWS) */
} prompt;

static prompt prompt_new(const char *model)
{
    pn_engine_options o = default_options();
    prompt p = {.r = rig_new(model, &o)};
    const uint32_t width = p.r.net->d.width;
    make_ids(p.ids, TOKENS, p.r.vocab, 9);
    assert_int_equal(pn_rows_new(&p.rows, ROWS, width, 77, NULL, NULL), PONDER_OK);
    for (uint32_t i = 0; i < ROWS; i++) pn_matrix_row(&p.r.net->embed.first, (uint32_t)p.ids[AT + i], p.rows->v + (size_t)i * width);
    return p;
}

static void prompt_free(prompt *p)
{
    pn_rows_release(p->rows);
    rig_free(&p->r);
}

static void append_mixed(prompt *p, pn_sequence *s)
{
    append(s, p->ids, AT);
    assert_int_equal(pn_sequence_append_rows(s, PLACEHOLDER, p->rows, 0, 30, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_append_rows(s, PLACEHOLDER, p->rows, 30, ROWS - 30, NULL), PONDER_OK);
    append(s, p->ids + AT + ROWS, TOKENS - AT - ROWS);
}

static void same_logits(prompt *p, pn_sequence *a, pn_sequence *b)
{
    assert_memory_equal(advance(a), advance(b), p->r.vocab * sizeof(float));
}

static void a_row_is_an_embedding(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "muse-glimmer", "muse-spark"};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        prompt p = prompt_new(models[m]);
        pn_sequence *ids = sequence(&p.r, 200), *rows = sequence(&p.r, 200), *plain = sequence(&p.r, 200);
        append(ids, p.ids, TOKENS);
        append_mixed(&p, rows);
        assert_int_equal(pn_sequence_ids(rows)[AT], PLACEHOLDER);
        same_logits(&p, ids, rows);
        /* The placeholder itself is another token: the rows are what counted. */
        append(plain, pn_sequence_ids(rows), TOKENS);
        assert_memory_not_equal(advance(plain), advance(ids), p.r.vocab * sizeof(float));
        pn_sequence_free(ids);
        pn_sequence_free(rows);
        pn_sequence_free(plain);
        prompt_free(&p);
    }
}

/* Forks hold the rows, also when the parent has not computed them and goes away. */
static void forks_and_rewinds_keep_rows(void **state)
{
    (void)state;
    prompt p = prompt_new("muse-glimmer");
    pn_sequence *ids = sequence(&p.r, 200), *parent = sequence(&p.r, 200), *child;
    append(ids, p.ids, TOKENS);
    append_mixed(&p, parent);
    assert_int_equal(pn_sequence_fork(&child, parent, 200, NULL), PONDER_OK);
    pn_sequence_free(parent);
    same_logits(&p, ids, child);
    /* Back into the middle of the rows: what is left of them is computed again from where the store begins. */
    uint32_t again;
    assert_int_equal(pn_sequence_rewind(child, AT + 50, &again, NULL), PONDER_OK);
    append(child, p.ids + AT + 50, TOKENS - AT - 50);
    same_logits(&p, ids, child);
    assert_int_equal(pn_sequence_rewind(child, 0, NULL, NULL), PONDER_OK);
    append(child, p.ids, TOKENS);
    same_logits(&p, ids, child);
    pn_sequence_free(ids);
    pn_sequence_free(child);
    prompt_free(&p);
}

static void states_carry_rows(void **state)
{
    (void)state;
    prompt p = prompt_new("muse-glimmer");
    pn_sequence *ids = sequence(&p.r, 200), *s = sequence(&p.r, 200), *other = sequence(&p.r, 200);
    append(ids, p.ids, TOKENS);
    append_mixed(&p, s);
    advance(s);
    pn_buf b;
    uint64_t user;
    pn_buf_init(&b, NULL);
    assert_int_equal(pn_sequence_save(s, 1, 5, &b, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_load(other, 1, b.p, b.n, &user, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_computed(other), TOKENS);
    same_logits(&p, ids, other);
    /* Everything is computed again: the rows came along. */
    assert_int_equal(pn_sequence_rewind(other, AT + ROWS, NULL, NULL), PONDER_OK);
    append(other, p.ids + AT + ROWS, TOKENS - AT - ROWS);
    same_logits(&p, ids, other);
    /* Cut or changed bytes are refused, wherever. */
    for (size_t n = b.n - 1; n > b.n - 20000 && n > 0; n -= 173) assert_int_not_equal(pn_sequence_load(other, 1, b.p, n, &user, NULL), PONDER_OK);
    same_logits(&p, ids, other);
    pn_buf_free(&b);
    pn_sequence_free(ids);
    pn_sequence_free(s);
    pn_sequence_free(other);
    prompt_free(&p);
}

static void wrong_rows_are_refused(void **state)
{
    (void)state;
    prompt p = prompt_new("llama");
    pn_sequence *s = sequence(&p.r, 60);
    pn_rows *narrow;
    assert_int_equal(pn_rows_new(&narrow, 2, p.r.net->d.width - 1, 0, NULL, NULL), PONDER_OK);
    assert_int_equal(pn_sequence_append_rows(s, PLACEHOLDER, narrow, 0, 2, NULL), PONDER_E_ARGUMENT);
    assert_int_equal(pn_sequence_append_rows(s, PLACEHOLDER, p.rows, ROWS - 1, 2, NULL), PONDER_E_RANGE);
    assert_int_equal(pn_sequence_append_rows(s, (int32_t)p.r.vocab, p.rows, 0, 2, NULL), PONDER_E_RANGE);
    assert_int_equal(pn_sequence_append_rows(s, PLACEHOLDER, p.rows, 0, 61, NULL), PONDER_E_CONTEXT);
    assert_int_equal(pn_sequence_count(s), 0);
    ponder_error err = {.size = sizeof err};
    pn_rows_release(narrow);
    assert_int_equal(pn_rows_new(&narrow, UINT32_MAX, UINT32_MAX, 0, NULL, &err) == PONDER_OK, 0);
    assert_null(narrow);
    pn_sequence_free(s);
    prompt_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_an_embedding), cmocka_unit_test(forks_and_rewinds_keep_rows),
        cmocka_unit_test(states_carry_rows), cmocka_unit_test(wrong_rows_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
