/* Our reader of JSON beside jansson: both must accept or refuse a text, and read the same values, for every line of the fuzz
 * target's corpus and for changed copies of it. Where they differ by design:
 *  - integers beyond 64 bits and reals beyond doubles: jansson refuses them, ours keeps digits or infinity;
 *  - zero bytes in names: jansson refuses, ours reads them;
 *  - a zero byte in the text: jansson loses one that stands behind a number, ours refuses it;
 *  - depth: jansson's limit is 2048, ours 512; integers of more than 4300 digits are past both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/json.h"

static uint64_t state = 1;

static size_t below(size_t n)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return n ? (size_t)((z ^ z >> 31) % n) : 0;
}

static bool same_string(pn_str s, const char *p, size_t n)
{
    return s.n == n && (n == 0 || memcmp(s.p, p, n) == 0);
}

static bool same_scalar(const pn_value *v, const json_t *j)
{
    int64_t i;
    double d;
    switch (v->type) {
    case PN_V_NONE: return json_is_null(j);
    case PN_V_BOOL: return json_is_boolean(j) && v->flag == json_is_true(j);
    case PN_V_INT: return json_is_integer(j) && pn_value_i64(v, INT64_MIN, INT64_MAX, &i) && i == json_integer_value(j);
    case PN_V_STRING: return json_is_string(j) && same_string(v->text, json_string_value(j), json_string_length(j));
    case PN_V_FLOAT:
        if (!json_is_real(j) || !pn_value_f64(v, &d)) return false;
        return d == json_real_value(j) && !__builtin_signbit(d) == !__builtin_signbit(json_real_value(j));
    default: return false;
    }
}

static bool same(const pn_value *v, json_t *j);

static bool same_dict(const pn_value *v, json_t *j)
{
    const pn_value *m = v->first;
    const char *key;
    json_t *value;
    if (v->count != json_object_size(j)) return false;
    json_object_foreach(j, key, value) {
        if (!m || !same_string(m->key, key, strlen(key)) || !same(m, value)) return false;
        m = m->next;
    }
    return !m;
}

static bool same(const pn_value *v, json_t *j)
{
    if (v->type == PN_V_DICT) return json_is_object(j) && same_dict(v, j);
    if (v->type != PN_V_LIST) return same_scalar(v, j);
    if (!json_is_array(j) || v->count != json_array_size(j)) return false;
    const pn_value *m = v->first;
    for (size_t i = 0; i < v->count; i++, m = m->next)
        if (!m || !same(m, json_array_get(j, i))) return false;
    return !m;
}

typedef struct tally { size_t accepted, refused, exempt; } tally;

static void compare(const char *p, size_t n, tally *t)
{
    pn_json doc;
    json_error_t theirs = {0};
    ponder_error ours = {.size = sizeof ours};
    json_t *j = json_loadb(p, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &theirs);
    const ponder_status s = pn_json_read(&doc, p, n, NULL, &ours);
    const enum json_error_code code = j ? json_error_unknown : json_error_code(&theirs);
    const bool exempt = code == json_error_numeric_overflow || code == json_error_null_byte_in_key || code == json_error_stack_overflow ||
                        (s && (memchr(p, 0, n) || strstr(ours.text, "nested deeper")));
    bool holds = exempt || (j != NULL) == (s == PONDER_OK);
    if (holds && j && s == PONDER_OK) holds = same(pn_json_root(&doc), j);
    t->exempt += exempt;
    t->accepted += !exempt && j;
    t->refused += !exempt && !j;
    if (!holds)
        fail_msg("%.*s\njansson %s %s, ours %d %s", (int)n, p, j ? "reads it" : "refuses it:", j ? "" : theirs.text, (int)s, ours.text);
    json_decref(j);
    pn_json_free(&doc);
}

/* Bytes that mean something to JSON are more likely than others. */
static size_t change(char *p, size_t n)
{
    static const char likely[] = "{}[]\",:\\0123456789.eE+-u nulltruefalse \n\x80\xc3\xa9\xed";
    for (size_t many = 1 + below(3); many > 0 && n > 0; many--) {
        const size_t at = below(n), from = below(n), most = n - (at > from ? at : from);
        switch (below(5)) {
        case 0: p[at] = (char)below(256); break;
        case 1: memmove(p + at, p + from, below(most < 16 ? most : 16)); break;
        case 2: n = at; break;
        default: p[at] = likely[below(sizeof likely - 1)];
        }
    }
    return n;
}

static void try_line(const char *p, size_t n, tally *t)
{
    enum { CHANGES = 300 };
    char *copy = malloc(n + 1);
    assert_non_null(copy);
    compare(p, n, t);
    for (int i = 0; i < CHANGES; i++) {
        memcpy(copy, p, n);
        compare(copy, change(copy, n), t);
    }
    free(copy);
}

static char *read_corpus(const char *name, size_t *n)
{
    char path[1024];
    const char *data = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/../fuzz/corpus/json/%s", data ? data : "tests/data", name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    char *p = malloc(*n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static void reads_what_jansson_reads(void **unused)
{
    (void)unused;
    static const char *const names[] = {"numbers", "strings", "structure", "deep", "files"};
    tally t = {0};
    for (size_t i = 0; i < PN_COUNT(names); i++) {
        size_t n;
        char *p = read_corpus(names[i], &n);
        for (size_t from = 0; from < n;) {
            const char *end = memchr(p + from, '\n', n - from);
            const size_t len = end ? (size_t)(end - p) - from : n - from;
            try_line(p + from, len, &t);
            from += len + 1;
        }
        free(p);
    }
    printf("%zu accepted by both, %zu refused by both, %zu differ by design\n", t.accepted, t.refused, t.exempt);
    assert_true(t.accepted > 5000 && t.refused > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_what_jansson_reads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
