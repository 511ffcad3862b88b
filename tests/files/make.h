/* Small GGUF files and folders made byte by byte, and an allocator that counts and fails. */
#ifndef TEST_FILES_MAKE_H
#define TEST_FILES_MAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "files/files.h"

static inline void put32(pn_buf *b, uint32_t v) { pn_buf_put(b, &v, 4); }
static inline void put64(pn_buf *b, uint64_t v) { pn_buf_put(b, &v, 8); }
static inline void put_f32(pn_buf *b, float v) { pn_buf_put(b, &v, 4); }
static inline void put_str(pn_buf *b, const char *s)
{
    put64(b, strlen(s));
    pn_buf_puts(b, s);
}

static inline void gguf_header(pn_buf *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    pn_buf_put(b, "GGUF", 4);
    put32(b, version);
    put64(b, tensors);
    put64(b, keys);
}

static inline void key(pn_buf *b, const char *name, uint32_t type)
{
    put_str(b, name);
    put32(b, type);
}

static inline void key_u32(pn_buf *b, const char *name, uint32_t v) { key(b, name, 4); put32(b, v); }
static inline void key_f32(pn_buf *b, const char *name, float v) { key(b, name, 6); put_f32(b, v); }
static inline void key_str(pn_buf *b, const char *name, const char *v) { key(b, name, 8); put_str(b, v); }
static inline void key_u16(pn_buf *b, const char *name, uint16_t v) { key(b, name, 2); pn_buf_put(b, &v, 2); }
static inline void key_array(pn_buf *b, const char *name, uint32_t type, uint64_t n)
{
    key(b, name, 9);
    put32(b, type);
    put64(b, n);
}

static inline void tensor(pn_buf *b, const char *name, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset)
{
    put_str(b, name);
    put32(b, rows ? 2 : 1);
    put64(b, cols);
    if (rows) put64(b, rows);
    put32(b, type);
    put64(b, offset);
}

static inline void pad(pn_buf *b, size_t align)
{
    while (b->n % align) pn_buf_put(b, "", 1);
}

/* `n` floats 0, 1, 2 ... */
static inline void floats(pn_buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++) put_f32(b, (float)i);
}

/* A llama of one layer: width 32, 2 heads of 16, feed-forward 32, `vocab` tokens in the tokenizer. */
typedef struct tiny { const char *name; uint64_t cols, rows; } tiny;
static const tiny tiny_tensors[] = {
    {"token_embd.weight", 32, 0}, {"output_norm.weight", 32, 0}, {"blk.0.attn_norm.weight", 32, 0},
    {"blk.0.attn_q.weight", 32, 32}, {"blk.0.attn_k.weight", 32, 32}, {"blk.0.attn_v.weight", 32, 32},
    {"blk.0.attn_output.weight", 32, 32}, {"blk.0.ffn_norm.weight", 32, 0}, {"blk.0.ffn_gate.weight", 32, 32},
    {"blk.0.ffn_up.weight", 32, 32}, {"blk.0.ffn_down.weight", 32, 32},
};

static inline void tiny_keys(pn_buf *b)
{
    key_str(b, "general.architecture", "llama");
    key_u32(b, "llama.block_count", 1);
    key_u32(b, "llama.context_length", 64);
    key_u32(b, "llama.embedding_length", 32);
    key_u32(b, "llama.feed_forward_length", 32);
    key_u32(b, "llama.attention.head_count", 2);
    key_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
}
enum { TINY_KEYS = 7 };

static inline void tiny_vocab(pn_buf *b, uint32_t vocab)
{
    char text[16];
    key_str(b, "tokenizer.ggml.model", "gpt2");
    key_array(b, "tokenizer.ggml.tokens", 8, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        snprintf(text, sizeof text, "t%u", i);
        put_str(b, text);
    }
    key_array(b, "tokenizer.ggml.token_type", 5, vocab);
    for (uint32_t i = 0; i < vocab; i++) put32(b, i == 0 ? 3 : 1);
    key_array(b, "tokenizer.ggml.merges", 8, 2);
    put_str(b, "a b");
    put_str(b, "ab c");
    key_u32(b, "tokenizer.ggml.eos_token_id", 1);
    key_u32(b, "tokenizer.ggml.padding_token_id", UINT32_MAX);
}
enum { VOCAB_KEYS = 6 };

static inline void tiny_gguf(pn_buf *b, uint32_t vocab)
{
    uint64_t offset = 0;
    pn_buf_init(b, NULL);
    gguf_header(b, 3, PN_COUNT(tiny_tensors), TINY_KEYS + VOCAB_KEYS);
    tiny_keys(b);
    tiny_vocab(b, vocab);
    for (size_t i = 0; i < PN_COUNT(tiny_tensors); i++) {
        uint64_t rows = i == 0 ? vocab : tiny_tensors[i].rows;
        tensor(b, tiny_tensors[i].name, tiny_tensors[i].cols, rows, 0, offset);
        offset += tiny_tensors[i].cols * (rows ? rows : 1) * 4;
    }
    pad(b, 32);
    floats(b, (size_t)offset / 4);
}

/* ---- allocator ----------------------------------------------------------------------------------------------------- */

typedef struct counter {
    ponder_alloc a;
    size_t calls, live, fail_at; /* fail_at 0: never; else the call with that number fails */
    size_t bytes;
} counter;

static void *counter_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    (void)align;
    if (++c->calls == c->fail_at) return NULL;
    c->live++;
    c->bytes += bytes;
    return malloc(bytes);
}

static void counter_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live--;
    c->bytes -= bytes;
    free(p);
}

static inline void counter_init(counter *c, size_t fail_at)
{
    *c = (counter){.fail_at = fail_at};
    c->a = (ponder_alloc){.size = sizeof c->a, .user = c, .alloc = counter_alloc, .free = counter_free};
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

static inline void write_file(const char *folder, const char *name, const void *p, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A new folder under TMPDIR; remove_folder takes the files in it along. */
static inline void new_folder(char path[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/ponder-files-XXXXXX", base && strlen(base) < 200 ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static inline void remove_file(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

/* 8 bytes of length, the header, `data` zero bytes. */
static inline void write_safetensors(const char *folder, const char *name, const char *header, size_t data)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    put64(&b, strlen(header));
    pn_buf_puts(&b, header);
    for (size_t i = 0; i < data; i++) pn_buf_put(&b, "", 1);
    write_file(folder, name, b.p, b.n);
    pn_buf_free(&b);
}

static inline const char *data_path(const char *name, char path[512])
{
    const char *base = getenv("PONDER_TEST_DATA");
    assert_non_null(base);
    snprintf(path, 512, "%s/%s", base, name);
    return path;
}

static inline bool says(const ponder_error *e, const char *word)
{
    if (strstr(e->text, word)) return true;
    print_error("text is: %s\n", e->text);
    return false;
}

#endif
