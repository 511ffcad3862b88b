/* JSON as Python's json module reads it: integers of any size, the last of repeated keys. Not jansson, whose integers end
 * at 64 bits, whose recursion outgrows 64 KB of stack and whose memory is not the host's. */
#include "base/json.h"

enum { DEPTH = 512, INT_DIGITS = 4300 }; /* where Python gives up too: about 490 levels, and exactly 4300 digits */

typedef struct reader {
    pn_json *doc;
    char *p;
    size_t n, at;
    const char *problem;
} reader;

static bool fail(reader *r, const char *problem)
{
    if (!r->problem) r->problem = problem;
    return false;
}

static int peek(reader *r)
{
    while (r->at < r->n) {
        const char c = r->p[r->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return (unsigned char)c;
        r->at++;
    }
    return -1;
}

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

static size_t put_utf8(char *to, uint32_t u)
{
    if (u < 0x80) {
        to[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        to[0] = (char)(0xc0 | u >> 6);
        to[1] = (char)(0x80 | (u & 63));
        return 2;
    }
    if (u < 0x10000) {
        to[0] = (char)(0xe0 | u >> 12);
        to[1] = (char)(0x80 | (u >> 6 & 63));
        to[2] = (char)(0x80 | (u & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | u >> 18);
    to[1] = (char)(0x80 | (u >> 12 & 63));
    to[2] = (char)(0x80 | (u >> 6 & 63));
    to[3] = (char)(0x80 | (u & 63));
    return 4;
}

/* \uXXXX, a surrogate pair as one character; half a pair has no UTF-8. r->at stands behind "\u". */
static bool unicode_escape(reader *r, char *to, size_t *len)
{
    if (r->n - r->at < 4) return fail(r, "a cut escape");
    int u = hex4(r->p + r->at);
    if (u < 0) return fail(r, "a wrong escape");
    r->at += 4;
    if (u >= 0xdc00 && u < 0xe000) return fail(r, "half a surrogate pair");
    if (u >= 0xd800 && u < 0xdc00) {
        const bool pair = r->n - r->at >= 6 && r->p[r->at] == '\\' && r->p[r->at + 1] == 'u';
        const int low = pair ? hex4(r->p + r->at + 2) : -1;
        if (low < 0xdc00 || low >= 0xe000) return fail(r, "half a surrogate pair");
        r->at += 6;
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    *len = put_utf8(to, (uint32_t)u);
    return true;
}

static bool escape(reader *r, char *to, size_t *len)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (r->at >= r->n) return fail(r, "a cut escape");
    const char c = r->p[r->at++];
    if (c == 'u') return unicode_escape(r, to, len);
    const char *hit = c ? strchr(from, c) : NULL;
    if (!hit) return fail(r, "a wrong escape");
    *to = into[hit - from];
    *len = 1;
    return true;
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

/* In place: an escape is never shorter than what it stands for. */
static bool string(reader *r, pn_str *out)
{
    char *to = r->p + ++r->at;
    *out = (pn_str){to, 0};
    while (r->at < r->n) {
        const unsigned char c = (unsigned char)r->p[r->at];
        size_t len = 1;
        if (c == '"') {
            r->at++;
            out->n = (size_t)(to - out->p);
            return true;
        }
        if (c < 0x20) return fail(r, "a control character in a string");
        if (c == '\\') {
            r->at++;
            if (!escape(r, to, &len)) return false;
        } else {
            len = utf8_length((unsigned char *)r->p + r->at, r->n - r->at);
            if (len == 0) return fail(r, "bytes that are not UTF-8");
            memmove(to, r->p + r->at, len);
            r->at += len;
        }
        to += len;
    }
    return fail(r, "a string without end");
}

static size_t digits(reader *r)
{
    const size_t from = r->at;
    while (r->at < r->n && r->p[r->at] >= '0' && r->p[r->at] <= '9') r->at++;
    return r->at - from;
}

static bool exponent(reader *r, long *e)
{
    bool minus = false;
    r->at++;
    if (r->at < r->n && (r->p[r->at] == '+' || r->p[r->at] == '-')) minus = r->p[r->at++] == '-';
    const size_t n = digits(r);
    if (n == 0) return fail(r, "a wrong number");
    for (size_t i = r->at - n; i < r->at; i++)
        if (*e < 100000000) *e = *e * 10 + (r->p[i] - '0');
    if (minus) *e = -*e;
    return true;
}

static bool number(reader *r, pn_value *v)
{
    const size_t from = r->at;
    const bool minus = r->p[r->at] == '-';
    if (minus) r->at++;
    char *whole = r->p + r->at;
    const size_t n_whole = digits(r);
    if (n_whole == 0 || (n_whole > 1 && whole[0] == '0')) return fail(r, "a wrong number");
    size_t n_fraction = 0;
    long e = 0;
    const bool point = r->at < r->n && r->p[r->at] == '.';
    if (point) {
        r->at++;
        n_fraction = digits(r);
        if (n_fraction == 0) return fail(r, "a wrong number");
    }
    const bool scaled = r->at < r->n && (r->p[r->at] | 0x20) == 'e';
    if (scaled && !exponent(r, &e)) return false;
    if (!point && !scaled) {
        if (n_whole > INT_DIGITS) return fail(r, "an integer of more than 4300 digits");
        v->type = PN_V_INT;
        const bool zero = n_whole == 1 && whole[0] == '0'; /* Python's -0 is 0 */
        v->text = zero ? (pn_str){whole, 1} : (pn_str){r->p + from, r->at - from};
        return true;
    }
    if (point) memmove(whole + n_whole, whole + n_whole + 1, n_fraction); /* the copy is ours: close up the point */
    v->type = PN_V_FLOAT;
    v->real = pn_decimal(whole, n_whole + n_fraction, e - (long)n_fraction);
    if (minus) v->real = -v->real;
    return true;
}

static bool word(reader *r, pn_value *v)
{
    static const struct { const char *text; pn_value_type type; bool flag; } words[] = {
        {"true", PN_V_BOOL, true}, {"false", PN_V_BOOL, false}, {"null", PN_V_NONE, false}};
    for (size_t i = 0; i < PN_COUNT(words); i++) {
        const size_t n = strlen(words[i].text);
        if (r->n - r->at < n || memcmp(r->p + r->at, words[i].text, n) != 0) continue;
        r->at += n;
        v->type = words[i].type;
        v->flag = words[i].flag;
        return true;
    }
    return fail(r, "something that is no value");
}

static bool scalar(reader *r, pn_value *v, int c)
{
    if (c == '"') {
        v->type = PN_V_STRING;
        return string(r, &v->text);
    }
    if (c == '-' || (c >= '0' && c <= '9')) return number(r, v);
    return c < 0 ? fail(r, "an early end") : word(r, v);
}

void pn_value_append(pn_value *parent, pn_value *child)
{
    child->parent = parent;
    if (parent->last) parent->last->next = child;
    else parent->first = child;
    parent->last = child;
    parent->count++;
}

/* The dict's member of that name, made if it is new and emptied if it is not. */
static pn_value *named(pn_json *doc, pn_value *dict, pn_str key)
{
    const size_t mask = doc->n_slots - 1;
    size_t i = (size_t)pn_hash64(key.p, key.n, (uint64_t)(dict - doc->values)) & mask;
    for (; doc->slots[i]; i = (i + 1) & mask) {
        pn_value *v = doc->slots[i];
        if (v->parent != dict || v->key.n != key.n || memcmp(v->key.p, key.p, key.n) != 0) continue;
        for (pn_value *m = v->first; m; m = m->next) m->parent = NULL; /* or a new member would find them again */
        v->first = v->last = NULL;
        v->count = 0;
        return v;
    }
    pn_value *v = &doc->values[doc->n++];
    *v = (pn_value){.key = key};
    pn_value_append(dict, v);
    return doc->slots[i] = v;
}

/* The next member of a container, up to where its value begins. */
static pn_value *member(reader *r, pn_value *parent)
{
    pn_json *doc = r->doc;
    pn_str key;
    if (parent->type == PN_V_LIST) {
        pn_value *v = &doc->values[doc->n++];
        *v = (pn_value){0};
        pn_value_append(parent, v);
        return v;
    }
    if (peek(r) != '"') {
        fail(r, "a member without a name");
        return NULL;
    }
    if (!string(r, &key)) return NULL;
    if (peek(r) != ':') {
        fail(r, "a name without a value");
        return NULL;
    }
    r->at++;
    return named(doc, parent, key);
}

/* One value: a scalar, or a container's opening, in which case *inside is its first member. */
static bool begin(reader *r, pn_value *v, pn_value **inside)
{
    const int c = peek(r);
    *inside = NULL;
    if (c != '{' && c != '[') return scalar(r, v, c);
    v->type = c == '{' ? PN_V_DICT : PN_V_LIST;
    r->at++;
    if (peek(r) == c + 2) { /* ASCII: '{' + 2 is '}', '[' + 2 is ']' */
        r->at++;
        return true;
    }
    *inside = member(r, v);
    return *inside != NULL;
}

static bool document(reader *r)
{
    pn_value *const root = &r->doc->values[r->doc->n++], *v = root, *inside;
    *root = (pn_value){0};
    for (;;) {
        if (!begin(r, v, &inside)) return false;
        if (inside) {
            v = inside;
            continue;
        }
        while (v != root && peek(r) == (v->parent->type == PN_V_DICT ? '}' : ']')) {
            r->at++;
            v = v->parent;
        }
        if (v == root) break;
        if (peek(r) != ',') return fail(r, "a missing comma");
        r->at++;
        v = member(r, v->parent);
        if (!v) return false;
    }
    return peek(r) < 0 || fail(r, "more than one value");
}

/* Every value but the first follows a comma or an opening bracket, so this many suffice. */
static size_t count_values(const char *p, size_t n)
{
    size_t count = 2;
    bool inside = false;
    for (size_t i = 0; i < n; i++) {
        if (inside && p[i] == '\\') i++;
        else if (p[i] == '"') inside = !inside;
        else if (!inside && (p[i] == ',' || p[i] == '[' || p[i] == '{')) count++;
    }
    return count;
}

static bool room(pn_json *doc, const char *p, size_t n)
{
    size_t bytes;
    doc->cap = count_values(p, n);
    for (doc->n_slots = 4; doc->n_slots < doc->cap; doc->n_slots *= 2) {}
    doc->n_slots *= 2;
    doc->bytes = n + 1;
    if (!pn_mul(doc->cap, sizeof *doc->values, &bytes)) return false;
    doc->text = pn_alloc(doc->a, doc->bytes);
    doc->values = pn_alloc(doc->a, bytes);
    doc->slots = pn_zalloc_array(doc->a, doc->n_slots, sizeof *doc->slots);
    return doc->text && doc->values && doc->slots;
}

void pn_json_free(pn_json *doc)
{
    pn_free(doc->a, doc->text, doc->bytes);
    pn_free(doc->a, doc->values, doc->cap * sizeof *doc->values);
    pn_free(doc->a, doc->slots, doc->n_slots * sizeof *doc->slots);
    *doc = (pn_json){0};
}

ponder_status pn_json_read(pn_json *doc, const char *p, size_t n, const ponder_alloc *a, ponder_error *err)
{
    *doc = (pn_json){.a = a};
    if (!pn_json_depth_ok(p, n, DEPTH)) return pn_fail(err, PONDER_E_FORMAT, "JSON: nested more than %d deep", (int)DEPTH);
    if (!room(doc, p, n)) {
        pn_json_free(doc);
        return pn_nomem(err, n);
    }
    if (n) memcpy(doc->text, p, n);
    reader r = {.doc = doc, .p = doc->text, .n = n};
    if (document(&r)) return PONDER_OK;
    pn_json_free(doc);
    return pn_fail(err, PONDER_E_FORMAT, "JSON, byte %zu: %s", r.at, r.problem);
}
