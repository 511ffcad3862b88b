/* JSON to write. */
#include "remote/remote.h"

#include <stdio.h>
#include <math.h>

/* Length of the whole character at p, 0: none. */
static size_t character(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t k = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || k > n) return 0;
    for (size_t i = 1; i < k; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool beyond = (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return overlong || beyond ? 0 : k;
}

static void write_escaped(pn_buf *b, unsigned char c)
{
    switch (c) {
    case '"': pn_buf_puts(b, "\\\""); break;
    case '\\': pn_buf_puts(b, "\\\\"); break;
    case '\n': pn_buf_puts(b, "\\n"); break;
    case '\r': pn_buf_puts(b, "\\r"); break;
    case '\t': pn_buf_puts(b, "\\t"); break;
    default: pn_buf_printf(b, "\\u%04x", (unsigned)c);
    }
}

bool pn_write_string(pn_buf *b, pn_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t from = 0, i = 0;
    pn_buf_put(b, "\"", 1);
    while (i < s.n) {
        size_t k = character(p + i, s.n - i);
        if (k && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\' && p[i] != 0x7f) {
            i += k;
            continue;
        }
        pn_buf_put(b, s.p + from, i - from);
        if (k) write_escaped(b, p[i]);
        else pn_buf_puts(b, "\xef\xbf\xbd");
        from = ++i;
    }
    if (s.n > from) pn_buf_put(b, s.p + from, s.n - from);
    return pn_buf_put(b, "\"", 1);
}

/* The locale's point, whatever its bytes, becomes ours. */
static size_t plain_point(char *text, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        bool known = (text[i] >= '0' && text[i] <= '9') || text[i] == '-' || text[i] == '+' || text[i] == 'e';
        if (known) text[to++] = text[i];
        else if (to == 0 || text[to - 1] != '.') text[to++] = '.';
    }
    return to;
}

/* The shortest digits that read back as the same number. */
bool pn_write_number(pn_buf *b, double v)
{
    char text[40];
    size_t n = 0;
    if (!isfinite(v)) return pn_buf_put(b, "0", 1);
    for (int digits = 1; digits <= 17; digits++) {
        n = plain_point(text, (size_t)snprintf(text, sizeof text, "%.*g", digits, v));
        if (pn_decimal((pn_str){text, n}) == v) break;
    }
    return pn_buf_put(b, text, n);
}

bool pn_write_base64(pn_buf *b, const void *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = p;
    if (!pn_buf_reserve(b, n / 3 * 4 + 4)) return false;
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t left = (uint32_t)PN_MIN(n - i, (size_t)3);
        const uint32_t v = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) | (left > 2 ? from[i + 2] : 0u);
        const char four[4] = {digit[v >> 18], digit[v >> 12 & 63], left > 1 ? digit[v >> 6 & 63] : '=', left > 2 ? digit[v & 63] : '='};
        pn_buf_put(b, four, 4);
    }
    return !b->failed;
}
