#include "tokenizer/internal.h"

uint32_t pn_utf8_step(const uint8_t *p, size_t n, pn_utf8 *state)
{
    const uint8_t c = p[0];
    *state = UTF8_OK;
    if (c < 0x80) return 1;
    uint32_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    *state = UTF8_BAD;
    if (c < 0xc2 || c > 0xf4) return 1;
    /* The second byte rules out overlong forms, surrogates and what lies above U+10FFFF. */
    uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (uint32_t i = 1; i < len; i++) {
        if (i == n) {
            *state = UTF8_PARTIAL;
            return i;
        }
        if (p[i] < lo || p[i] > hi) return i;
        lo = 0x80;
        hi = 0xbf;
    }
    *state = UTF8_OK;
    return len;
}

uint32_t pn_utf8_read(const uint8_t *p, uint32_t len)
{
    if (len == 1) return p[0];
    if (len == 2) return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    if (len == 3) return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

uint32_t pn_utf8_write(uint32_t c, char out[4])
{
    uint8_t *o = (uint8_t *)out;
    if (c < 0x80) {
        o[0] = (uint8_t)c;
        return 1;
    }
    uint32_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (uint32_t i = len - 1; i > 0; i--, c >>= 6) o[i] = (uint8_t)(0x80 | (c & 0x3f));
    o[0] = (uint8_t)((len == 2 ? 0xc0 : len == 3 ? 0xe0 : 0xf0) | c);
    return len;
}

static size_t ascii_run(const char *p, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        if (v & 0x8080808080808080u) break;
    }
    while (i < n && (uint8_t)p[i] < 0x80) i++;
    return i;
}

bool pn_utf8_valid(const char *p, size_t n)
{
    for (size_t i = ascii_run(p, n); i < n; i += ascii_run(p + i, n - i)) {
        pn_utf8 state;
        i += pn_utf8_step((const uint8_t *)p + i, n - i, &state);
        if (state != UTF8_OK) return false;
    }
    return true;
}

bool pn_utf8_repair(const char *p, size_t n, pn_buf *out)
{
    pn_buf_reserve(out, n);
    for (size_t i = 0; i < n;) {
        size_t run = ascii_run(p + i, n - i);
        pn_buf_put(out, p + i, run);
        i += run;
        if (i == n) break;
        pn_utf8 state;
        uint32_t len = pn_utf8_step((const uint8_t *)p + i, n - i, &state);
        if (state == UTF8_OK) pn_buf_put(out, p + i, len);
        else pn_buf_put(out, "\xef\xbf\xbd", 3);
        i += len;
    }
    return !out->failed;
}

/* GPT-2 writes printable Latin-1 bytes as themselves and the other 68 as U+0100.. in order. */
static bool printable(uint32_t b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

/* The byte behind U+0100..U+0143: 00-20, 7F-A0, AD. */
static uint32_t hidden_byte(uint32_t c)
{
    uint32_t i = c - 0x100;
    if (i <= 0x20) return i;
    if (i <= 0x20 + 34) return i - 0x21 + 0x7f;
    return 0xad;
}

bool pn_bytes_from_unicode(pn_str s, pn_buf *out)
{
    if (!pn_buf_reserve(out, s.n)) return false; /* nothing gets longer */
    if (s.n == 0) return true;
    const uint8_t *p = (const uint8_t *)s.p;
    char *to = out->p + out->n;
    for (size_t i = 0; i < s.n;) {
        if (p[i] >= 0x21 && p[i] <= 0x7e) { /* nearly all */
            *to++ = (char)p[i++];
            continue;
        }
        pn_utf8 state;
        uint32_t len = pn_utf8_step(p + i, s.n - i, &state);
        uint32_t c = state == UTF8_OK ? pn_utf8_read(p + i, len) : NO_ID;
        if (c < 0x100 && printable(c)) *to++ = (char)c;
        else if (c >= 0x100 && c < 0x144) *to++ = (char)hidden_byte(c);
        else for (uint32_t j = 0; j < len; j++) *to++ = s.p[i + j];
        i += len;
    }
    out->n = (size_t)(to - out->p);
    return true;
}

bool pn_spaces_from_meta(pn_str s, pn_buf *out)
{
    const char *end = s.p + s.n;
    pn_buf_reserve(out, s.n);
    for (const char *p = s.p; p < end;) {
        const char *m = memmem(p, (size_t)(end - p), "\xe2\x96\x81", 3);
        pn_buf_put(out, p, (size_t)((m ? m : end) - p));
        if (!m) break;
        pn_buf_put(out, " ", 1);
        p = m + 3;
    }
    return !out->failed;
}
