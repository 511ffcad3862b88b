#include <fcntl.h>

#include "make.h"

static int32_t read_block(void *user, uint64_t offset, void *to, size_t n)
{
    memcpy(to, (const char *)user + offset, n);
    return 0;
}

static int32_t read_nothing(void *user, uint64_t offset, void *to, size_t n)
{
    (void)user, (void)offset, (void)to, (void)n;
    return 1;
}

/* Four sources over the same bytes: out[0..3]. The file holds `lead` other bytes first for the descriptor. */
static void open_all(pn_source *out[4], const pn_buf *b, const char *folder, size_t lead)
{
    ponder_error e = {.size = sizeof e};
    char path[512];
    ponder_source s = {.size = sizeof s, .user = b->p, .length = b->n, .read = read_block};
    pn_buf shifted;
    pn_buf_init(&shifted, NULL);
    for (size_t i = 0; i < lead; i++) pn_buf_put(&shifted, "x", 1);
    pn_buf_put(&shifted, b->p, b->n);
    pn_buf_puts(&shifted, "tail");
    write_file(folder, "whole", b->p, b->n);
    write_file(folder, "inside", shifted.p, shifted.n);
    pn_buf_free(&shifted);
    snprintf(path, sizeof path, "%s/whole", folder);
    assert_int_equal(pn_source_path(&out[0], path, NULL, &e), PONDER_OK);
    assert_int_equal(pn_source_memory(&out[1], b->p, b->n, NULL, &e), PONDER_OK);
    snprintf(path, sizeof path, "%s/inside", folder);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pn_source_fd(&out[2], fd, lead, b->n, NULL, &e), PONDER_OK);
    close(fd);
    assert_int_equal(pn_source_callback(&out[3], &s, NULL, &e), PONDER_OK);
    remove_file(folder, "whole");
    remove_file(folder, "inside");
}

static void four_sources_give_the_same_bytes(void **state)
{
    (void)state;
    static const size_t leads[] = {0, 1, 4096, 5000};
    char folder[256];
    pn_buf b;
    new_folder(folder);
    pn_buf_init(&b, NULL);
    for (int i = 0; i < 10000; i++) pn_buf_put(&b, &(char){(char)(i * 7 ^ i >> 5)}, 1);
    for (size_t l = 0; l < PN_COUNT(leads); l++) {
        pn_source *s[4];
        open_all(s, &b, folder, leads[l]);
        for (int k = 0; k < 4; k++) {
            char got[3000];
            ponder_error e = {.size = sizeof e};
            assert_int_equal(pn_source_size(s[k]), b.n);
            assert_int_equal(pn_source_read(s[k], 6789, got, sizeof got, &e), PONDER_OK);
            assert_memory_equal(got, b.p + 6789, sizeof got);
            pn_source_drop(s[k], 100, 9000); /* the bytes must still be there after it */
            const uint8_t *view = pn_source_view(s[k], 0, b.n);
            assert_true(k == 3 ? !view : memcmp(view, b.p, b.n) == 0);
            assert_null(pn_source_view(s[k], 1, b.n));
            assert_null(pn_source_view(s[k], UINT64_MAX, 2));
            assert_int_equal(pn_source_read(s[k], b.n - 1, got, 2, &e), PONDER_E_FORMAT);
            assert_int_equal(pn_source_read(s[k], UINT64_MAX, got, 2, &e), PONDER_E_FORMAT);
            pn_source_free(s[k]);
        }
    }
    pn_buf_free(&b);
    rmdir(folder);
}

static void bad_sources_are_refused(void **state)
{
    (void)state;
    pn_source *s;
    char folder[256], path[512], byte;
    ponder_error e = {.size = sizeof e};
    new_folder(folder);
    assert_int_equal(pn_source_path(&s, folder, NULL, &e), PONDER_E_IO);
    assert_null(s);
    snprintf(path, sizeof path, "%s/none", folder);
    assert_int_equal(pn_source_path(&s, path, NULL, &e), PONDER_E_IO);
    assert_true(says(&e, "none"));
    write_file(folder, "empty", "", 0);
    snprintf(path, sizeof path, "%s/empty", folder);
    assert_int_equal(pn_source_path(&s, path, NULL, &e), PONDER_OK);
    assert_int_equal(pn_source_size(s), 0);
    pn_source_free(s);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pn_source_fd(&s, fd, 1, 0, NULL, &e), PONDER_E_RANGE);
    assert_int_equal(pn_source_fd(&s, fd, 0, UINT64_MAX, NULL, &e), PONDER_E_RANGE);
    close(fd);
    assert_int_equal(pn_source_fd(&s, -1, 0, 0, NULL, &e), PONDER_E_IO);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pn_source_fd(&s, ends[0], 0, 0, NULL, &e), PONDER_E_IO);
    close(ends[0]);
    close(ends[1]);
    ponder_source c = {.size = sizeof c, .length = 10, .read = read_nothing};
    assert_int_equal(pn_source_callback(&s, &c, NULL, &e), PONDER_OK);
    assert_int_equal(pn_source_read(s, 0, &byte, 1, &e), PONDER_E_IO);
    pn_checkpoint *ck;
    assert_int_equal(pn_checkpoint_open_source(&ck, s, NULL, &e), PONDER_E_IO);
    c.read = NULL;
    assert_int_equal(pn_source_callback(&s, &c, NULL, &e), PONDER_E_ARGUMENT);
    assert_int_equal(pn_source_memory(&s, NULL, 1, NULL, &e), PONDER_E_ARGUMENT);
    remove_file(folder, "empty");
    rmdir(folder);
}

static void checkpoints_are_equal_from_all_sources(void **state)
{
    (void)state;
    char folder[256];
    pn_buf b;
    pn_source *s[4];
    pn_checkpoint *c[4];
    uint64_t hash[4];
    ponder_error e = {.size = sizeof e};
    static pn_description d[4];
    new_folder(folder);
    tiny_gguf(&b, 40000); /* more metadata than a source without a view reads at first */
    open_all(s, &b, folder, 123);
    for (int k = 0; k < 4; k++) {
        pn_tokenizer_data t;
        float row[32];
        assert_int_equal(pn_checkpoint_open_source(&c[k], s[k], NULL, &e), PONDER_OK);
        assert_int_equal(pn_checkpoint_hash(c[k], &hash[k], &e), PONDER_OK);
        assert_int_equal(pn_describe(c[k], &d[k], &e), PONDER_OK);
        assert_int_equal(pn_checkpoint_bytes(c[k]), b.n);
        assert_true(hash[k] == hash[0] && hash[k] != 0);
        assert_memory_equal(&d[k], &d[0], sizeof d[0]);
        assert_int_equal(pn_checkpoint_tokenizer(c[k], &t, &e), PONDER_OK);
        assert_int_equal(t.vocab.n_tokens, 40000);
        assert_true(pn_str_eq(t.vocab.tokens[39999], "t39999"));
        const pn_tensor *norm = pn_checkpoint_find(c[k], "output_norm.weight");
        assert_int_equal(pn_checkpoint_read(c[k], norm, 0, row, sizeof row, &e), PONDER_OK);
        assert_true(row[31] == 40000 * 32 + 31);
        assert_int_equal(pn_checkpoint_read(c[k], norm, 4, row, sizeof row, &e), PONDER_E_RANGE);
    }
    for (int k = 0; k < 4; k++) pn_checkpoint_free(c[k]);
    b.p[b.n - 1] ^= 1; /* one bit of the last weight is another model */
    uint64_t other;
    assert_int_equal(pn_source_memory(&s[0], b.p, b.n, NULL, &e), PONDER_OK);
    assert_int_equal(pn_checkpoint_open_source(&c[0], s[0], NULL, &e), PONDER_OK);
    assert_int_equal(pn_checkpoint_hash(c[0], &other, &e), PONDER_OK);
    assert_true(other != hash[0]);
    pn_checkpoint_free(c[0]);
    pn_buf_free(&b);
    rmdir(folder);
}

/* The way without a view allocates the metadata itself. */
static void allocations_behind_a_callback_may_fail(void **state)
{
    (void)state;
    pn_buf b;
    tiny_gguf(&b, 40000);
    for (size_t at = 1;; at++) {
        counter k;
        pn_source *s;
        pn_checkpoint *c = NULL;
        pn_tokenizer_data t;
        ponder_error e = {.size = sizeof e};
        ponder_source from = {.size = sizeof from, .user = b.p, .length = b.n, .read = read_block};
        counter_init(&k, at);
        ponder_status status = pn_source_callback(&s, &from, &k.a, &e);
        if (status == PONDER_OK) status = pn_checkpoint_open_source(&c, s, &k.a, &e);
        if (status == PONDER_OK) status = pn_checkpoint_tokenizer(c, &t, &e);
        pn_checkpoint_free(c);
        assert_int_equal(k.live, 0);
        assert_int_equal(k.bytes, 0);
        assert_int_equal(status, k.calls < at ? PONDER_OK : PONDER_E_NOMEM);
        if (k.calls < at) break;
    }
    pn_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_sources_give_the_same_bytes),
        cmocka_unit_test(bad_sources_are_refused),
        cmocka_unit_test(checkpoints_are_equal_from_all_sources),
        cmocka_unit_test(allocations_behind_a_callback_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
