/* A tiktoken rank file with Muse's pattern and special tokens. */
#include "tokenizer/internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { SPECIALS = 2048, NAME_ROOM = 40 };

static const struct { uint32_t at; const char *name; } named[] = {
    {0, "<|begin_of_text|>"}, {1, "<|end_of_text|>"},   {7, "<|eom|>"},         {8, "<|eot|>"},
    {18, "<|finetune_right_pad|>"}, {22, "<|start|>"},  {23, "<|message|>"},    {80, "<|image_start|>"},
    {81, "<|image_end|>"},    {82, "<|vid_start|>"},    {83, "<|vid_end|>"},    {87, "<|vid_frame_separator|>"},
    {90, "<|image|>"},        {91, "<|video|>"},        {92, "<|patch|>"},
};

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base 64 with padding; false when it is none. */
static bool decode64(pn_str s, pn_buf *out)
{
    if (s.n == 0 || s.n % 4) return false;
    const size_t pad = s.p[s.n - 1] != '=' ? 0 : s.p[s.n - 2] != '=' ? 1 : 2;
    for (size_t i = 0; i < s.n; i += 4) {
        uint32_t v = 0;
        for (size_t j = 0; j < 4; j++) {
            const int d = i + j >= s.n - pad ? 0 : digit64(s.p[i + j]);
            if (d < 0) return false;
            v = v << 6 | (uint32_t)d;
        }
        const char b[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        pn_buf_put(out, b, i + 4 < s.n ? 3 : 3 - pad);
    }
    return true;
}

/* "BASE64 RANK"; the line is without its end. */
static ponder_status read_line(pn_str line, uint32_t number, pn_buf *bytes, uint32_t *rank, ponder_error *err)
{
    const char *space = memchr(line.p, ' ', line.n), *end = line.p + line.n;
    uint64_t v = 0;
    bool ok = space && space + 1 < end;
    for (const char *p = ok ? space + 1 : end; ok && p < end; p++) {
        ok = *p >= '0' && *p <= '9' && v < MAX_TOKENS;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    bytes->n = 0;
    if (!ok || !decode64((pn_str){line.p, (size_t)(space - line.p)}, bytes))
        return pn_fail(err, PONDER_E_FORMAT, "rank file: line %" PRIu32 " is not \"base64 rank\"", number);
    if (bytes->failed) return pn_nomem(err, line.n);
    *rank = (uint32_t)PN_MIN(v, MAX_TOKENS);
    return PONDER_OK;
}

static bool next_line(pn_str *rest, pn_str *line)
{
    if (rest->n == 0) return false;
    const char *end = memchr(rest->p, '\n', rest->n);
    line->p = rest->p;
    line->n = end ? (size_t)(end - rest->p) : rest->n;
    const size_t used = line->n + (end != NULL);
    rest->p += used;
    rest->n -= used;
    if (line->n && line->p[line->n - 1] == '\r') line->n--;
    return true;
}

static uint32_t count_lines(pn_str text)
{
    uint32_t n = 0;
    for (pn_str line; next_line(&text, &line) && n <= MAX_TOKENS;) n += line.n > 0;
    return n;
}

static ponder_status read_ranks(pn_tokenizer *t, pn_str text, uint32_t n, pn_buf *b, ponder_error *err)
{
    uint32_t number = 0, rank = 0;
    for (pn_str line; next_line(&text, &line);) {
        number++;
        if (line.n == 0) continue;
        ponder_status s = read_line(line, number, b, &rank, err);
        if (s) return s;
        if (rank >= n || t->token[rank].flags)
            return pn_fail(err, PONDER_E_FORMAT, "rank file: line %" PRIu32 ": rank %" PRIu32 " of %" PRIu32 " %s", number, rank, n,
                           rank >= n ? "is too large" : "is there twice");
        if ((s = pn_tok_set(t, rank, b->p, b->n, TOKEN_TEXT, err))) return s;
    }
    return PONDER_OK;
}

static ponder_status add_specials(pn_tokenizer *t, uint32_t first, ponder_error *err)
{
    ponder_status s = PONDER_OK;
    for (uint32_t i = 0, known = 0; i < SPECIALS && !s; i++) {
        char name[NAME_ROOM];
        const bool has_name = known < PN_COUNT(named) && named[known].at == i;
        if (has_name) snprintf(name, sizeof name, "%s", named[known++].name);
        else snprintf(name, sizeof name, "<|reserved_special_token_%" PRIu32 "|>", i - known);
        s = pn_tok_set(t, first + i, name, strlen(name), TOKEN_CONTROL, err);
    }
    return s;
}

ponder_status pn_tokenizer_from_tiktoken(pn_tokenizer **out, const void *text, size_t n, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!text && n) return pn_fail(err, PONDER_E_ARGUMENT, "rank file: no text");
    const pn_str file = {text, n};
    const uint32_t ranks = count_lines(file);
    if (ranks == 0) return pn_fail(err, PONDER_E_FORMAT, "rank file: no ranks");
    pn_tokenizer *t;
    ponder_status s = pn_tok_new(&t, PN_VOCAB_BPE, ranks + SPECIALS, n / 4 * 3 + SPECIALS * NAME_ROOM, a, err);
    if (s) return s;
    pn_buf b;
    pn_buf_init(&b, a);
    s = read_ranks(t, file, ranks, &b, err);
    pn_buf_free(&b);
    if (!s) s = add_specials(t, ranks, err);
    if (!s) s = pn_tok_index(t, err);
    if (!s) s = pn_split_preset(t, pn_str_of("llama4"), err);
    t->bos = (int32_t)ranks;
    t->eos = (int32_t)ranks + 1;
    t->eot = (int32_t)ranks + 8;
    t->add_bos = true;
    if (s) pn_tokenizer_free(t);
    else *out = t;
    return s;
}
