/* What Python makes of values: equality, spelling. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/value.h"

static bool number(const pn_value *v, double *out)
{
    char digits[32];
    if (v->type == PN_V_FLOAT) *out = v->real;
    else if (v->type == PN_V_BOOL) *out = v->flag;
    else if (v->type == PN_V_INT && v->text.n < sizeof digits) {
        memcpy(digits, v->text.p, v->text.n);
        digits[v->text.n] = 0;
        *out = strtod(digits, NULL);
    } else return false;
    return true;
}

bool pn_same(const pn_value *a, const pn_value *b)
{
    double x, y;
    if (a->type == b->type && (a->type == PN_V_STRING || a->type == PN_V_INT))
        return a->text.n == b->text.n && memcmp(a->text.p, b->text.p, a->text.n) == 0;
    if (a->type == PN_V_NONE) return b->type == PN_V_NONE;
    return number(a, &x) && number(b, &y) && x == y;
}

/* Bytes of the white space character (as str.isspace sees it) at p; 0 when it is none. */
static size_t space(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s;
    if (n < 1) return 0;
    if (p[0] == ' ' || (p[0] >= 0x09 && p[0] <= 0x0d) || (p[0] >= 0x1c && p[0] <= 0x1f)) return 1;
    if (n >= 2 && p[0] == 0xc2 && (p[1] == 0x85 || p[1] == 0xa0)) return 2;
    if (n < 3) return 0;
    const unsigned u = (unsigned)p[0] << 16 | (unsigned)p[1] << 8 | p[2];
    const bool wide = (u >= 0xe28080 && u <= 0xe2808a) || u == 0xe280a8 || u == 0xe280a9 || u == 0xe280af ||
                      u == 0xe2819f || u == 0xe19a80 || u == 0xe38080;
    return wide ? 3 : 0;
}

pn_str pn_py_strip(pn_str s)
{
    for (size_t len; (len = space(s.p, s.n)) > 0; s.n -= len) s.p += len;
    for (;;) {
        size_t len = 0;
        for (size_t back = 1; back <= 3 && back <= s.n && !len; back++)
            if (space(s.p + s.n - back, back) == back) len = back;
        if (!len) return s;
        s.n -= len;
    }
}

static bool reads_back(double v, const char *digits, int n, int power)
{
    char text[48];
    snprintf(text, sizeof text, "%.*se%d", n, digits, power - (n - 1));
    return strtod(text, NULL) == v;
}

/* The fewest digits that read back as v, and the power of ten of the first. Above a power of two the doubles are twice as
 * far apart as below it, so there the next digits up may do where the nearest (from below) do not: 2^-44. A 9 would carry
 * into fewer digits, which were tried. */
static int shortest(double v, char digits[20], int *power)
{
    char text[48];
    for (int n = 1;; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, v);
        const char *p = text;
        for (int k = 0; k < n; p++) /* the point between them is the locale's, of any length */
            if (*p >= '0' && *p <= '9') digits[k++] = *p;
        *power = (int)strtol(strchr(p, 'e') + 1, NULL, 10);
        if (n == 17 || reads_back(v, digits, n, *power)) return n;
        if (digits[n - 1] == '9') continue;
        digits[n - 1]++;
        if (reads_back(v, digits, n, *power)) return n;
    }
}

static void zeros(pn_buf *b, int n)
{
    while (n-- > 0) pn_buf_puts(b, "0");
}

/* repr(float): plain between 1e-4 and 1e16, else with an exponent of two digits or more. */
void pn_py_float(pn_buf *b, double v)
{
    char d[20];
    int power;
    if (isnan(v)) {
        pn_buf_puts(b, "nan");
        return;
    }
    if (signbit(v)) pn_buf_puts(b, "-");
    v = fabs(v);
    if (isinf(v) || v == 0) {
        pn_buf_puts(b, v == 0 ? "0.0" : "inf");
        return;
    }
    const int n = shortest(v, d, &power);
    if (power < -4 || power >= 16) {
        pn_buf_put(b, d, 1);
        if (n > 1) pn_buf_printf(b, ".%.*s", n - 1, d + 1);
        pn_buf_printf(b, "e%c%02d", power < 0 ? '-' : '+', abs(power));
    } else if (power < 0) {
        pn_buf_puts(b, "0.");
        zeros(b, -power - 1);
        pn_buf_put(b, d, (size_t)n);
    } else {
        const int whole = PN_MIN(n, power + 1);
        pn_buf_put(b, d, (size_t)whole);
        zeros(b, power + 1 - whole);
        pn_buf_puts(b, ".");
        if (n > whole) pn_buf_put(b, d + whole, (size_t)(n - whole));
        else pn_buf_puts(b, "0");
    }
}

static void json_string(pn_buf *b, pn_str s)
{
    pn_buf_puts(b, "\"");
    for (size_t i = 0, from = 0; i <= s.n; i++) {
        const unsigned char c = i < s.n ? (unsigned char)s.p[i] : 0;
        if (i < s.n && c >= 0x20 && c != '"' && c != '\\') continue;
        pn_buf_put(b, s.p + from, i - from);
        from = i + 1;
        if (i == s.n) break;
        const char *short_form = c == '"' ? "\\\"" : c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '\r' ? "\\r"
            : c == '\t' ? "\\t" : c == '\b' ? "\\b" : c == '\f' ? "\\f" : NULL;
        if (short_form) pn_buf_puts(b, short_form);
        else pn_buf_printf(b, "\\u%04x", c);
    }
    pn_buf_puts(b, "\"");
}

/* Which characters repr() escapes: controls, formats, every space but ' ', private ones. The unassigned should be too, but
 * which those are depends on the Python. */
static bool unprintable(uint32_t u)
{
    static const uint32_t ranges[][2] = {
        {0x7f, 0xa0}, {0xad, 0xad}, {0x600, 0x605}, {0x61c, 0x61c}, {0x6dd, 0x6dd}, {0x70f, 0x70f}, {0x890, 0x891},
        {0x8e2, 0x8e2}, {0x1680, 0x1680}, {0x180e, 0x180e}, {0x2000, 0x200f}, {0x2028, 0x202f}, {0x205f, 0x206f},
        {0x3000, 0x3000}, {0xe000, 0xf8ff}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xfffe, 0xffff}, {0x110bd, 0x110bd},
        {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff},
        {0xe01f0, 0x10ffff}};
    for (size_t i = 0; i < PN_COUNT(ranges); i++)
        if (u >= ranges[i][0] && u <= ranges[i][1]) return true;
    return u < 0x20;
}

static uint32_t decode(const char *s, size_t n, size_t *len)
{
    const unsigned char *p = (const unsigned char *)s;
    const size_t want = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    *len = PN_MIN(want, n);
    uint32_t u = want == 1 ? p[0] : p[0] & (0xffu >> (want + 1));
    for (size_t i = 1; i < *len; i++) u = u << 6 | (p[i] & 63);
    return u;
}

static void repr_string(pn_buf *b, pn_str s)
{
    const bool one = s.n && memchr(s.p, '\'', s.n), two = s.n && memchr(s.p, '"', s.n);
    const char quote = one && !two ? '"' : '\'';
    pn_buf_put(b, &quote, 1);
    for (size_t i = 0, len; i < s.n; i += len) {
        const uint32_t u = decode(s.p + i, s.n - i, &len);
        if (u == (unsigned char)quote || u == '\\') pn_buf_printf(b, "\\%c", (char)u);
        else if (u == '\n') pn_buf_puts(b, "\\n");
        else if (u == '\r') pn_buf_puts(b, "\\r");
        else if (u == '\t') pn_buf_puts(b, "\\t");
        else if (!unprintable(u)) pn_buf_put(b, s.p + i, len);
        else if (u < 0x100) pn_buf_printf(b, "\\x%02x", u);
        else if (u < 0x10000) pn_buf_printf(b, "\\u%04x", u);
        else pn_buf_printf(b, "\\U%08x", u);
    }
    pn_buf_put(b, &quote, 1);
}

typedef struct style {
    bool json;
    unsigned indent;
} style;

static void scalar(pn_buf *b, const pn_value *v, style s)
{
    switch (v->type) {
    case PN_V_NONE: pn_buf_puts(b, s.json ? "null" : "None"); break;
    case PN_V_BOOL: pn_buf_puts(b, s.json ? (v->flag ? "true" : "false") : v->flag ? "True" : "False"); break;
    case PN_V_INT: pn_buf_put(b, v->text.p, v->text.n); break;
    case PN_V_FLOAT:
        if (s.json && isinf(v->real)) pn_buf_puts(b, v->real < 0 ? "-Infinity" : "Infinity");
        else pn_py_float(b, v->real);
        break;
    case PN_V_STRING:
        if (s.json) json_string(b, v->text);
        else repr_string(b, v->text);
        break;
    case PN_V_LIST: pn_buf_puts(b, "[]"); break; /* empty ones only */
    case PN_V_DICT: pn_buf_puts(b, "{}"); break;
    default: break;
    }
}

static void line(pn_buf *b, style s, size_t depth)
{
    if (!s.indent) return;
    pn_buf_puts(b, "\n");
    for (size_t i = 0; i < depth * s.indent; i++) pn_buf_puts(b, " ");
}

/* Walks by links instead of recursion, so that depth costs no stack. */
static void write(pn_buf *b, const pn_value *root, style s)
{
    size_t depth = 0;
    for (const pn_value *v = root; !b->failed;) {
        if (v != root && v->parent->type == PN_V_DICT) {
            if (s.json) json_string(b, v->key);
            else repr_string(b, v->key);
            pn_buf_puts(b, ": ");
        }
        if (v->first) {
            pn_buf_puts(b, v->type == PN_V_DICT ? "{" : "[");
            line(b, s, ++depth);
            v = v->first;
            continue;
        }
        scalar(b, v, s);
        while (v != root && !v->next) {
            v = v->parent;
            line(b, s, --depth);
            pn_buf_puts(b, v->type == PN_V_DICT ? "}" : "]");
        }
        if (v == root) return;
        pn_buf_puts(b, s.indent ? "," : ", ");
        line(b, s, depth);
        v = v->next;
    }
}

void pn_py_str(pn_buf *b, const pn_value *v)
{
    if (v->type == PN_V_STRING) pn_buf_put(b, v->text.p, v->text.n);
    else write(b, v, (style){0});
}

void pn_py_json(pn_buf *b, const pn_value *v, unsigned indent)
{
    write(b, v, (style){.json = true, .indent = indent});
}
