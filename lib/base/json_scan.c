/* JSON piece by piece, strictly as RFC 8259 has it, and only valid UTF-8. */
#include "base/json.h"

enum { DEAD, VALUE, OPENED, AFTER }; /* what must come: nothing, a value, a first member or an end, a comma or an end */

void pn_json_scan_init(pn_json_scan *s, const char *p, size_t n, uint32_t limit)
{
    *s = (pn_json_scan){.p = p, .n = n, .state = VALUE, .limit = PN_JSON_DEPTH};
    if (limit && limit < PN_JSON_DEPTH) s->limit = limit;
}

static bool fail(pn_json_scan *s, const char *problem)
{
    s->problem = problem;
    s->state = DEAD;
    return false;
}

static int peek(pn_json_scan *s)
{
    for (; s->at < s->n; s->at++) {
        const char c = s->p[s->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return (unsigned char)c;
    }
    return -1;
}

/* ---- strings ---- */

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        const int lower = c | 0x20;
        if (c >= '0' && c <= '9') v = v * 16 + c - '0';
        else if (lower >= 'a' && lower <= 'f') v = v * 16 + lower - 'a' + 10;
        else return -1;
    }
    return v;
}

static size_t utf8_bytes(uint32_t u)
{
    return u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
}

static size_t put_utf8(char *to, uint32_t u)
{
    static const unsigned char lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t n = utf8_bytes(u);
    for (size_t i = n; i-- > 1; u >>= 6) to[i] = (char)(0x80 | (u & 63));
    to[0] = (char)(lead[n] | u);
    return n;
}

/* Length of the well-formed UTF-8 character at p, 0 when there is none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    if (len < 2) return len;
    if (len > n) return 0;
    uint32_t u = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        u = u << 6 | (p[i] & 63);
    }
    return u < least[len] || u > 0x10ffff || (u >= 0xd800 && u < 0xe000) ? 0 : len;
}

/* The character that \uXXXX means, behind whose "\u" p stands; a surrogate pair is one. Returns the bytes read, 0: none. */
static size_t unicode_escape(const char *p, size_t n, uint32_t *u, const char **problem)
{
    const int high = n < 4 ? -1 : hex4(p);
    *problem = n < 4 ? "a cut escape" : high < 0 ? "a wrong escape" : "half a surrogate pair";
    if (high < 0 || (high >= 0xdc00 && high < 0xe000)) return 0;
    *u = (uint32_t)high;
    if (high < 0xd800 || high >= 0xe000) return 4;
    const int low = n >= 10 && p[4] == '\\' && p[5] == 'u' ? hex4(p + 6) : -1;
    if (low < 0xdc00 || low >= 0xe000) return 0; /* half a pair has no UTF-8 */
    *u = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    return 10;
}

/* The same for any escape; p stands behind the backslash. */
static size_t escape(const char *p, size_t n, uint32_t *u, const char **problem)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    *problem = n ? "a wrong escape" : "a cut escape";
    if (n == 0 || p[0] == 0) return 0;
    if (p[0] == 'u') {
        const size_t len = unicode_escape(p + 1, n - 1, u, problem);
        return len ? len + 1 : 0;
    }
    const char *hit = strchr(from, p[0]);
    if (!hit) return 0;
    *u = (uint32_t)into[hit - from];
    return 1;
}

/* Eight bytes of plain ASCII: none below ' ', no quote, no backslash, none above 0x7f. A borrow can only come from a byte
 * that is one of those. */
static bool plain(const char *p)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t v;
    memcpy(&v, p, 8);
    return ((v | (v - ones * 0x20) | ((v ^ ones * '"') - ones) | ((v ^ ones * '\\') - ones)) & ones * 0x80) == 0;
}

/* At the opening quote; text and decoded say what it held. */
static bool string(pn_json_scan *s)
{
    const char *const p = s->p;
    size_t at = s->at + 1, saved = 0;
    const size_t from = at, n = s->n;
    for (;;) {
        while (n - at >= 8 && plain(p + at)) at += 8;
        s->at = at;
        if (at >= n) return fail(s, "a string without end");
        const unsigned char c = (unsigned char)p[at];
        if (c == '"') break;
        if (c < 0x20) return fail(s, "a control character in a string");
        if (c == '\\') {
            uint32_t u;
            const char *problem;
            const size_t len = escape(p + at + 1, n - at - 1, &u, &problem);
            if (len == 0) return fail(s, problem);
            at += len + 1;
            saved += len + 1 - utf8_bytes(u);
        } else {
            const size_t len = c < 0x80 ? 1 : utf8_length((const unsigned char *)p + at, n - at);
            if (len == 0) return fail(s, "bytes that are not UTF-8");
            at += len;
        }
    }
    s->at = at + 1;
    s->text = (pn_str){p + from, at - from};
    s->decoded = s->text.n - saved;
    return true;
}

void pn_json_decode(const pn_json_scan *s, char *to)
{
    const char *p = s->text.p, *const end = p + s->text.n;
    if (s->decoded == s->text.n) {
        if (s->decoded) memcpy(to, p, s->decoded);
        return;
    }
    while (p < end) {
        uint32_t u = 0;
        const char *problem;
        if (*p != '\\') {
            *to++ = *p++;
            continue;
        }
        p += 1 + escape(p + 1, (size_t)(end - p) - 1, &u, &problem);
        to += put_utf8(to, u);
    }
}

bool pn_json_string(const pn_json_scan *s, pn_buf *scratch, pn_str *out)
{
    *out = s->text;
    if (s->decoded == s->text.n) return true;
    scratch->n = 0;
    if (!pn_buf_reserve(scratch, s->decoded)) return false;
    pn_json_decode(s, scratch->p);
    *out = (pn_str){scratch->p, s->decoded};
    return true;
}

/* ---- other scalars ---- */

static size_t digits(pn_json_scan *s)
{
    const size_t from = s->at;
    while (s->at < s->n && s->p[s->at] >= '0' && s->p[s->at] <= '9') s->at++;
    return s->at - from;
}

static bool number(pn_json_scan *s)
{
    const size_t from = s->at;
    if (s->p[s->at] == '-') s->at++;
    const char *whole = s->p + s->at;
    const size_t n = digits(s);
    bool ok = n > 0 && (n == 1 || whole[0] != '0');
    s->type = PN_V_INT;
    if (ok && s->at < s->n && s->p[s->at] == '.') {
        s->at++;
        s->type = PN_V_FLOAT;
        ok = digits(s) > 0;
    }
    if (ok && s->at < s->n && (s->p[s->at] | 0x20) == 'e') {
        s->at++;
        s->type = PN_V_FLOAT;
        if (s->at < s->n && (s->p[s->at] == '+' || s->p[s->at] == '-')) s->at++;
        ok = digits(s) > 0;
    }
    s->text = (pn_str){s->p + from, s->at - from};
    return ok || fail(s, "a wrong number");
}

static bool word(pn_json_scan *s)
{
    static const struct { const char *text; pn_value_type type; bool flag; } words[] = {
        {"true", PN_V_BOOL, true}, {"false", PN_V_BOOL, false}, {"null", PN_V_NONE, false}};
    for (size_t i = 0; i < PN_COUNT(words); i++) {
        const size_t n = strlen(words[i].text);
        if (s->n - s->at < n || memcmp(s->p + s->at, words[i].text, n) != 0) continue;
        s->at += n;
        s->type = words[i].type;
        s->flag = words[i].flag;
        return true;
    }
    return fail(s, "something that is no value");
}

/* ---- structure ---- */

static bool in_dict(const pn_json_scan *s)
{
    return s->dicts[(s->depth - 1) / 64] >> (s->depth - 1) % 64 & 1;
}

static pn_json_event open(pn_json_scan *s, bool dict)
{
    if (s->depth == s->limit) {
        fail(s, "nested deeper than is allowed");
        return PN_J_WRONG;
    }
    const uint64_t bit = (uint64_t)1 << s->depth % 64;
    uint64_t *word64 = &s->dicts[s->depth / 64];
    *word64 = dict ? *word64 | bit : *word64 & ~bit;
    s->depth++;
    s->at++;
    s->type = dict ? PN_V_DICT : PN_V_LIST;
    s->state = OPENED;
    return PN_J_OPEN;
}

static pn_json_event close(pn_json_scan *s)
{
    s->depth--;
    s->at++;
    s->state = AFTER;
    return PN_J_CLOSE;
}

static pn_json_event value(pn_json_scan *s, int c)
{
    bool ok;
    if (c == '{' || c == '[') return open(s, c == '{');
    s->state = AFTER;
    if (c == '"') {
        s->type = PN_V_STRING;
        ok = string(s);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        ok = number(s);
    } else {
        ok = c < 0 ? fail(s, "an early end") : word(s);
    }
    return ok ? PN_J_VALUE : PN_J_WRONG;
}

static pn_json_event key(pn_json_scan *s, int c)
{
    s->state = VALUE;
    bool ok = c == '"' ? string(s) : fail(s, "a member without a name");
    if (ok && peek(s) != ':') ok = fail(s, "a name without a value");
    s->at += ok;
    return ok ? PN_J_KEY : PN_J_WRONG;
}

pn_json_event pn_json_next(pn_json_scan *s)
{
    if (s->state == DEAD) return s->problem ? PN_J_WRONG : PN_J_END;
    int c = peek(s);
    if (s->state == VALUE) return value(s, c);
    if (s->depth == 0) {
        if (c >= 0) fail(s, "more than one value");
        s->state = DEAD;
        return c < 0 ? PN_J_END : PN_J_WRONG;
    }
    const bool dict = in_dict(s);
    if (c == (dict ? '}' : ']')) return close(s);
    if (s->state == AFTER) {
        if (c != ',') {
            fail(s, c < 0 ? "an early end" : "a missing comma");
            return PN_J_WRONG;
        }
        s->at++;
        c = peek(s);
    }
    return dict ? key(s, c) : value(s, c);
}

bool pn_json_skip(pn_json_scan *s, uint32_t *count)
{
    const uint32_t inside = s->depth;
    *count = 0;
    while (s->depth >= inside) {
        const pn_json_event e = pn_json_next(s);
        if (e == PN_J_WRONG) return false;
        if (e == PN_J_VALUE ? s->depth == inside : e == PN_J_OPEN && s->depth == inside + 1) ++*count;
    }
    return true;
}

ponder_status pn_json_wrong(const pn_json_scan *s, const char *what, ponder_error *err)
{
    size_t line = 1, from = 0;
    for (size_t i = 0; i < s->at && i < s->n; i++) {
        if (s->p[i] != '\n') continue;
        line++;
        from = i + 1;
    }
    return pn_fail(err, PONDER_E_FORMAT, "%s: line %zu, column %zu: %s", what, line, s->at - from + 1, s->problem);
}
