#include "make.h"

static ponder_status open_bytes(pn_checkpoint **c, const pn_buf *b, size_t n, const ponder_alloc *a, ponder_error *e)
{
    pn_source *s;
    ponder_status status = pn_source_memory(&s, b->p, n, a, e);
    return status ? (*c = NULL, status) : pn_checkpoint_open_source(c, s, a, e);
}

/* Everything that reads a checkpoint; the first failure. */
static ponder_status use(pn_checkpoint *c, ponder_error *e)
{
    static pn_description d;
    pn_tokenizer_data t;
    uint64_t hash;
    ponder_status s = pn_describe(c, &d, e);
    for (int role = 0; role < PN_W_COUNT && s == PONDER_OK; role++) {
        pn_slice slice;
        bool found;
        for (uint32_t i = 0; i < d.layers && s == PONDER_OK; i++) s = pn_find_weight(c, &d, (pn_role)role, i, &slice, &found, e);
    }
    if (s == PONDER_OK) s = pn_checkpoint_tokenizer(c, &t, e);
    if (s == PONDER_OK) s = pn_checkpoint_hash(c, &hash, e);
    return s;
}

static ponder_status open_and_use(const pn_buf *b, const ponder_alloc *a, ponder_error *e)
{
    pn_checkpoint *c;
    ponder_status s = open_bytes(&c, b, b->n, a, e);
    if (s == PONDER_OK) s = use(c, e);
    pn_checkpoint_free(c);
    return s;
}

static void all_value_types(void **state)
{
    (void)state;
    pn_buf b;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    int64_t i;
    double f;
    pn_str s;
    pn_buf_init(&b, NULL);
    gguf_header(&b, 2, 0, 13);
    key(&b, "u8", 0); pn_buf_put(&b, "\xff", 1);
    key(&b, "i8", 1); pn_buf_put(&b, "\xff", 1);
    key(&b, "u16", 2); pn_buf_put(&b, "\xfe\xff", 2);
    key(&b, "i16", 3); pn_buf_put(&b, "\xfe\xff", 2);
    key_u32(&b, "u32", 4000000000u);
    key(&b, "i32", 5); put32(&b, (uint32_t)-5);
    key_f32(&b, "f32", 0.25f);
    key(&b, "bool", 7); pn_buf_put(&b, "\1", 1);
    key_str(&b, "str", "text");
    key(&b, "u64", 10); put64(&b, UINT64_MAX);
    key(&b, "i64", 11); put64(&b, (uint64_t)-6);
    key(&b, "f64", 12); pn_buf_put(&b, &(double){0.1}, 8);
    key_array(&b, "array", 4, 1); put32(&b, 1);
    assert_int_equal(open_bytes(&c, &b, b.n, NULL, &e), PONDER_OK);
    assert_true(pn_checkpoint_i64(c, "u8", &i) && i == 255);
    assert_true(pn_checkpoint_i64(c, "i8", &i) && i == -1);
    assert_true(pn_checkpoint_i64(c, "u16", &i) && i == 65534);
    assert_true(pn_checkpoint_i64(c, "i16", &i) && i == -2);
    assert_true(pn_checkpoint_i64(c, "u32", &i) && i == 4000000000);
    assert_true(pn_checkpoint_i64(c, "i32", &i) && i == -5);
    assert_true(pn_checkpoint_i64(c, "bool", &i) && i == 1);
    assert_true(pn_checkpoint_i64(c, "i64", &i) && i == -6);
    assert_true(pn_checkpoint_f64(c, "f32", &f) && f == 0.25);
    assert_true(pn_checkpoint_f64(c, "f64", &f) && f == 0.1);
    assert_true(pn_checkpoint_f64(c, "i32", &f) && f == -5);
    assert_true(pn_checkpoint_str(c, "str", &s) && pn_str_eq(s, "text"));
    assert_false(pn_checkpoint_i64(c, "u64", &i)); /* beyond int64 */
    assert_false(pn_checkpoint_i64(c, "f32", &i));
    assert_false(pn_checkpoint_i64(c, "array", &i));
    assert_false(pn_checkpoint_str(c, "u32", &s));
    assert_false(pn_checkpoint_f64(c, "str", &f));
    assert_false(pn_checkpoint_i64(c, "none", &i));
    pn_checkpoint_free(c);
    pn_buf_free(&b);
}

static void tiny_is_read(void **state)
{
    (void)state;
    pn_buf b;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    pn_tokenizer_data t;
    int32_t ids[4];
    tiny_gguf(&b, 5);
    assert_int_equal(open_bytes(&c, &b, b.n, NULL, &e), PONDER_OK);
    assert_int_equal(use(c, &e), PONDER_OK);
    assert_int_equal(pn_checkpoint_count(c), PN_COUNT(tiny_tensors));
    assert_null(pn_checkpoint_at(c, PN_COUNT(tiny_tensors)));
    assert_null(pn_checkpoint_find(c, "blk.1.attn_q.weight"));
    const pn_tensor *q = pn_checkpoint_find(c, "blk.0.attn_q.weight");
    assert_true(q && q->ne[0] == 32 && q->ne[1] == 32 && q->ne[2] == 1 && q->bytes == 4096 && q->type == PN_F32);
    float first;
    memcpy(&first, pn_checkpoint_view(c, q), 4);
    assert_true(first == (5 + 1 + 1) * 32); /* the embedding's five rows and two norms stand before it */
    assert_int_equal(pn_checkpoint_tokenizer(c, &t, &e), PONDER_OK);
    assert_true(t.found && !t.is_json && t.vocab.kind == PN_VOCAB_BPE && t.vocab.n_tokens == 5 && t.vocab.n_merges == 2);
    assert_true(pn_str_eq(t.vocab.tokens[4], "t4") && pn_str_eq(t.vocab.merges[1], "ab c"));
    assert_true(t.vocab.types[0] == 3 && t.vocab.types[4] == 1 && !t.vocab.scores);
    assert_true(t.vocab.eos == 1 && t.vocab.pad == -1 && t.vocab.bos == -1 && t.vocab.add_bos == -1);
    assert_int_equal(pn_checkpoint_ends(c, ids, 4), 1);
    assert_int_equal(ids[0], 1);
    pn_checkpoint_free(c);
    pn_buf_free(&b);
}

/* A file cut anywhere is refused; the bytes beyond the cut are never touched (malloc'ed to the length, for ASan). */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    pn_buf b;
    tiny_gguf(&b, 3);
    for (size_t n = 0; n < b.n; n += n < 1700 ? 1 : 97) {
        pn_checkpoint *c;
        ponder_error e = {.size = sizeof e};
        pn_buf cut = {.p = malloc(n ? n : 1), .n = n};
        memcpy(cut.p, b.p, n);
        ponder_status s = open_bytes(&c, &cut, n, NULL, &e);
        assert_int_equal(s, PONDER_E_FORMAT);
        assert_null(c);
        assert_true(e.text[0] != 0);
        free(cut.p);
    }
    pn_buf_free(&b);
}

/* The same file at an odd address: no view, but the same bytes. */
static void unaligned_data_are_copied(void **state)
{
    (void)state;
    pn_buf b;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    float first;
    tiny_gguf(&b, 5);
    pn_buf odd = {.p = malloc(b.n + 1), .n = b.n};
    memcpy(odd.p + 1, b.p, b.n);
    odd.p++;
    assert_int_equal(open_bytes(&c, &odd, odd.n, NULL, &e), PONDER_OK);
    assert_int_equal(use(c, &e), PONDER_OK);
    const pn_tensor *q = pn_checkpoint_find(c, "blk.0.attn_q.weight");
    assert_null(pn_checkpoint_view(c, q));
    assert_int_equal(pn_checkpoint_read(c, q, 0, &first, 4, &e), PONDER_OK);
    assert_true(first == (5 + 1 + 1) * 32);
    pn_checkpoint_free(c);
    free(odd.p - 1);
    pn_buf_free(&b);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    pn_buf b;
    counter c;
    tiny_gguf(&b, 3);
    for (size_t at = 1;; at++) {
        ponder_error e = {.size = sizeof e};
        counter_init(&c, at);
        ponder_status s = open_and_use(&b, &c.a, &e);
        assert_int_equal(c.live, 0);
        assert_int_equal(c.bytes, 0);
        if (c.calls < at) {
            assert_int_equal(s, PONDER_OK);
            assert_true(at > 5);
            break;
        }
        assert_int_equal(s, PONDER_E_NOMEM);
        assert_int_equal(e.status, PONDER_E_NOMEM);
    }
    pn_buf_free(&b);
}

static void allocations_do_not_grow_with_the_vocabulary(void **state)
{
    (void)state;
    size_t calls[2];
    for (int i = 0; i < 2; i++) {
        pn_buf b;
        counter c;
        ponder_error e = {.size = sizeof e};
        tiny_gguf(&b, i ? 5000 : 5);
        counter_init(&c, 0);
        assert_int_equal(open_and_use(&b, &c.a, &e), PONDER_OK);
        calls[i] = c.calls;
        pn_buf_free(&b);
    }
    assert_int_equal(calls[0], calls[1]);
}

static void refuse(pn_buf *b, ponder_status status, const char *word)
{
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    assert_int_equal(open_bytes(&c, b, b->n, NULL, &e), status);
    assert_true(says(&e, word));
    pn_buf_free(b);
}

static pn_buf start(uint32_t version, uint64_t tensors, uint64_t keys)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    gguf_header(&b, version, tensors, keys);
    return b;
}

static void headers_and_keys_are_checked(void **state)
{
    (void)state;
    pn_buf b = start(0x03000000, 0, 0);
    refuse(&b, PONDER_E_UNSUPPORTED, "big-endian");
    b = start(1, 0, 0);
    refuse(&b, PONDER_E_UNSUPPORTED, "version 1");
    b = start(3, UINT64_MAX, 0);
    refuse(&b, PONDER_E_FORMAT, "tensors");
    b = start(3, 0, UINT64_MAX);
    refuse(&b, PONDER_E_FORMAT, "keys");
    b = start(3, 0, 0);
    b.p[0] = 'X';
    refuse(&b, PONDER_E_FORMAT, "not a GGUF");
    b = start(3, 0, 1);
    key(&b, "some.key", 13), put64(&b, 0);
    refuse(&b, PONDER_E_FORMAT, "some.key");
    b = start(3, 0, 1);
    key_array(&b, "nested", 9, 1), put64(&b, 0), put64(&b, 0);
    refuse(&b, PONDER_E_UNSUPPORTED, "nested");
    b = start(3, 0, 1);
    key_array(&b, "huge.array", 4, UINT64_MAX / 4 + 2);
    refuse(&b, PONDER_E_FORMAT, "huge.array");
    b = start(3, 0, 1);
    key_array(&b, "huge.strings", 8, UINT64_MAX);
    refuse(&b, PONDER_E_FORMAT, "huge.strings");
    b = start(3, 0, 1);
    key(&b, "long", 8), put64(&b, UINT64_MAX);
    refuse(&b, PONDER_E_FORMAT, "long");
    b = start(3, 0, 1);
    key_u32(&b, "general.alignment", 24);
    refuse(&b, PONDER_E_FORMAT, "general.alignment");
    b = start(3, 0, 1);
    key_u32(&b, "general.alignment", 0);
    refuse(&b, PONDER_E_FORMAT, "general.alignment");
}

static void one_tensor(uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset, ponder_status status, const char *word)
{
    pn_buf b = start(3, 1, 0);
    tensor(&b, "w.weight", cols, rows, type, offset);
    pad(&b, 32);
    floats(&b, 64);
    if (status) {
        refuse(&b, status, word);
        return;
    }
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    assert_int_equal(open_bytes(&c, &b, b.n, NULL, &e), PONDER_OK);
    pn_checkpoint_free(c);
    pn_buf_free(&b);
}

static void tensors_are_checked(void **state)
{
    (void)state;
    one_tensor(8, 8, 0, 0, PONDER_OK, "");
    one_tensor(8, 9, 0, 0, PONDER_E_FORMAT, "w.weight");
    one_tensor(8, 8, 0, 32, PONDER_E_FORMAT, "w.weight");
    one_tensor(8, 7, 0, 32, PONDER_OK, "");
    one_tensor(8, 7, 0, 16, PONDER_E_FORMAT, "w.weight");              /* not aligned */
    one_tensor(1ull << 40, 1ull << 40, 0, 0, PONDER_E_FORMAT, "w.weight"); /* the product wraps */
    one_tensor(1ull << 62, 4, 0, 0, PONDER_E_FORMAT, "w.weight");
    one_tensor(0, 8, 0, 0, PONDER_E_FORMAT, "w.weight");
    one_tensor(8, 8, 0, UINT64_MAX - 31, PONDER_E_FORMAT, "w.weight");
    one_tensor(48, 1, 2, 0, PONDER_E_FORMAT, "w.weight");              /* half a block of Q4_0 */
    one_tensor(32, 14, 2, 0, PONDER_OK, "");                            /* 14 blocks of 18 bytes in 256 */
    one_tensor(32, 15, 2, 0, PONDER_E_FORMAT, "w.weight");
    pn_buf b = start(3, 2, 0);
    tensor(&b, "a", 8, 0, 0, 0);
    tensor(&b, "a", 8, 0, 0, 32);
    pad(&b, 32), floats(&b, 16);
    refuse(&b, PONDER_E_FORMAT, "twice");
    b = start(3, 2, 0);
    tensor(&b, "late", 8, 0, 0, 32);
    tensor(&b, "wide", 16, 0, 0, 0);
    pad(&b, 32), floats(&b, 16);
    refuse(&b, PONDER_E_FORMAT, "late");
    b = start(3, 1, 0);
    put_str(&b, "deep"), put32(&b, 5);
    for (int i = 0; i < 8; i++) put64(&b, 1);
    refuse(&b, PONDER_E_FORMAT, "deep");
    b = start(3, 1, 1);
    key_u32(&b, "general.alignment", 128);
    tensor(&b, "w", 8, 0, 0, 32);
    pad(&b, 128), floats(&b, 16);
    refuse(&b, PONDER_E_FORMAT, "aligned");
}

/* A key of the tiny model replaced in place: `bytes` at the value. */
static void patched(const char *name, const void *value, size_t bytes, ponder_status status, const char *word)
{
    pn_buf b;
    ponder_error e = {.size = sizeof e};
    tiny_gguf(&b, 3);
    char *at = memmem(b.p, b.n, name, strlen(name));
    assert_non_null(at);
    memcpy(at + strlen(name) + 4, value, bytes);
    assert_int_equal(open_and_use(&b, NULL, &e), status);
    if (status) assert_true(says(&e, word));
    pn_buf_free(&b);
}

static void absurd_numbers_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"llama.block_count", "llama.context_length", "llama.embedding_length",
                                        "llama.feed_forward_length", "llama.attention.head_count"};
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        patched(names[i], &(uint32_t){0}, 4, PONDER_E_FORMAT, names[i]);
        patched(names[i], &(uint32_t){UINT32_MAX}, 4, PONDER_E_FORMAT, names[i]);
    }
    patched("llama.attention.head_count", &(uint32_t){4}, 4, PONDER_OK, "");
    patched("llama.attention.head_count", &(uint32_t){3}, 4, PONDER_E_FORMAT, "attn_q"); /* 3 heads of 10 */
    patched("llama.block_count", &(uint32_t){2}, 4, PONDER_E_FORMAT, "blk.1.");
    patched("llama.embedding_length", &(uint32_t){64}, 4, PONDER_E_FORMAT, "token_embd.weight");
    patched("llama.feed_forward_length", &(uint32_t){64}, 4, PONDER_E_FORMAT, "blk.0.ffn_gate.weight");
    patched("llama.attention.layer_norm_rms_epsilon", &(float){-1}, 4, PONDER_E_FORMAT, "epsilon");
    patched("llama.attention.layer_norm_rms_epsilon", &(uint32_t){0x7fc00000}, 4, PONDER_E_FORMAT, "epsilon");
    patched("general.architecture", "\5\0\0\0\0\0\0\0lLama", 13, PONDER_E_UNSUPPORTED, "lLama");
    patched("tokenizer.ggml.model", "\4\0\0\0\0\0\0\0bert", 12, PONDER_E_UNSUPPORTED, "tokenizer.ggml.model");
}

static void foreign_types_are_refused_when_needed(void **state)
{
    (void)state;
    pn_buf b;
    ponder_error e = {.size = sizeof e};
    tiny_gguf(&b, 3);
    const char *name = "blk.0.ffn_up.weight";
    char *at = memmem(b.p, b.n, name, strlen(name));
    uint32_t type = 16; /* IQ2_XXS */
    memcpy(at + strlen(name) + 4 + 16, &type, 4);
    assert_int_equal(open_and_use(&b, NULL, &e), PONDER_E_UNSUPPORTED);
    assert_true(says(&e, name) && says(&e, "IQ2_XXS"));
    pn_buf_free(&b);
}

/* ---- split sets ------------------------------------------------------------------------------------------------------ */

/* Part `no` of `count`, with tensors from..to of the tiny model (3 tokens). */
static void write_part(const char *folder, uint32_t no, uint32_t count, size_t from, size_t to, int32_t total, const char *name)
{
    pn_buf b = start(3, to - from, (no ? 0 : TINY_KEYS) + 3);
    uint64_t offset = 0;
    if (no == 0) tiny_keys(&b);
    key_u16(&b, "split.no", (uint16_t)no);
    key_u16(&b, "split.count", (uint16_t)count);
    key(&b, "split.tensors.count", 5), put32(&b, (uint32_t)total);
    for (size_t i = from; i < to; i++) {
        uint64_t rows = i == 0 ? 3 : tiny_tensors[i].rows;
        tensor(&b, tiny_tensors[i].name, tiny_tensors[i].cols, rows, 0, offset);
        offset += tiny_tensors[i].cols * (rows ? rows : 1) * 4;
    }
    pad(&b, 32);
    floats(&b, (size_t)offset / 4);
    write_file(folder, name, b.p, b.n);
    pn_buf_free(&b);
}

static ponder_status open_named(const char *folder, const char *name, ponder_error *e)
{
    char path[512];
    pn_checkpoint *c;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ponder_status s = pn_checkpoint_open(&c, path, NULL, e);
    if (s == PONDER_OK) s = use(c, e);
    if (s == PONDER_OK) assert_int_equal(pn_checkpoint_find(c, "blk.0.ffn_down.weight")->part, 2);
    pn_checkpoint_free(c);
    return s;
}

static void split_sets(void **state)
{
    (void)state;
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"};
    char folder[256];
    ponder_error e = {.size = sizeof e};
    new_folder(folder);
    write_part(folder, 0, 3, 0, 4, 11, names[0]);
    write_part(folder, 1, 3, 4, 5, 11, names[1]);
    write_part(folder, 2, 3, 5, 11, 11, names[2]);
    for (int i = 0; i < 3; i++) assert_int_equal(open_named(folder, names[i], &e), PONDER_OK);
    write_part(folder, 0, 3, 0, 4, 12, names[0]);
    assert_int_equal(open_named(folder, names[0], &e), PONDER_E_FORMAT);
    assert_true(says(&e, "split.tensors.count"));
    write_part(folder, 0, 3, 0, 4, 11, names[0]);
    write_part(folder, 2, 3, 4, 5, 11, names[1]);
    assert_int_equal(open_named(folder, names[0], &e), PONDER_E_FORMAT);
    assert_true(says(&e, "split.no"));
    write_part(folder, 1, 2, 4, 5, 11, names[1]);
    assert_int_equal(open_named(folder, names[0], &e), PONDER_E_FORMAT);
    assert_true(says(&e, "split.count"));
    write_part(folder, 1, 3, 3, 5, 12, names[1]); /* blk.0.attn_q.weight a second time */
    assert_int_equal(open_named(folder, names[0], &e), PONDER_E_FORMAT);
    assert_true(says(&e, "blk.0.attn_q.weight"));
    remove_file(folder, names[1]);
    assert_int_equal(open_named(folder, names[2], &e), PONDER_E_IO);
    assert_true(says(&e, names[1]));
    write_part(folder, 0, 3, 0, 4, 11, "other.gguf");
    assert_int_equal(open_named(folder, "other.gguf", &e), PONDER_E_FORMAT);
    assert_true(says(&e, "split.count"));
    remove_file(folder, "other.gguf");
    remove_file(folder, names[0]);
    remove_file(folder, names[2]);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_value_types),
        cmocka_unit_test(tiny_is_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(unaligned_data_are_copied),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(allocations_do_not_grow_with_the_vocabulary),
        cmocka_unit_test(headers_and_keys_are_checked),
        cmocka_unit_test(tensors_are_checked),
        cmocka_unit_test(absurd_numbers_are_refused),
        cmocka_unit_test(foreign_types_are_refused_when_needed),
        cmocka_unit_test(split_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
