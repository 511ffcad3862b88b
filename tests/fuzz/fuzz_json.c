/* JSON texts: the input as a whole, and each of its lines. What the reader makes of a text must agree with itself: as values, piece
 * by piece, with members that stay text, and written out and read again. */
#include <stdlib.h>

#include "chat/value.h"

static const char *const raw_names[] = {"vocab", "merges", "a", NULL};

static void must(bool holds)
{
    if (!holds) abort();
}

typedef struct tally {
    size_t values, keys, members, bytes;
} tally;

static bool tally_events(const char *p, size_t n, tally *t)
{
    pn_json_scan s;
    pn_buf scratch;
    pn_str text;
    pn_json_event e;
    *t = (tally){0};
    pn_buf_init(&scratch, NULL);
    pn_json_scan_init(&s, p, n, 0);
    while ((e = pn_json_next(&s)) != PN_J_END && e != PN_J_WRONG) {
        must(s.at <= n && s.depth <= PN_JSON_DEPTH);
        t->values += e == PN_J_VALUE || e == PN_J_OPEN;
        t->keys += e == PN_J_KEY;
        if (e != PN_J_KEY && (e != PN_J_VALUE || s.type != PN_V_STRING)) continue;
        must(pn_json_string(&s, &scratch, &text) && text.n == s.decoded && s.decoded <= s.text.n);
        t->bytes += text.n;
    }
    must(pn_json_next(&s) == e); /* it stays so */
    pn_buf_free(&scratch);
    return e == PN_J_END;
}

static void use_scalar(const pn_value *v)
{
    int64_t i;
    double d;
    const bool whole = pn_value_i64(v, INT64_MIN, INT64_MAX, &i);
    if (pn_value_f64(v, &d) && whole) must((double)i == d);
    must(!whole || v->type == PN_V_INT);
    pn_truth(v);
}

static void use_raw(const pn_value *v)
{
    pn_json_scan s;
    uint32_t count;
    pn_json_scan_init(&s, v->text.p, v->text.n, 0);
    must(pn_json_next(&s) == PN_J_OPEN && s.type == v->type && pn_json_skip(&s, &count) && count == v->count);
    must(pn_json_next(&s) == PN_J_END);
}

static void tally_values(const pn_value *root, tally *t)
{
    *t = (tally){.values = 1};
    for (const pn_value *v = root;;) {
        if (v->type >= PN_V_LIST && v->text.p) use_raw(v);
        else if (v->type < PN_V_LIST) use_scalar(v);
        if (v->first) {
            size_t n = 0;
            for (const pn_value *m = v->first; m; m = m->next, n++) must(m->parent == v);
            must(n == v->count);
            t->values += n;
            v = v->first;
            continue;
        }
        while (v != root && !v->next) v = v->parent;
        if (v == root) return;
        v = v->next;
    }
}

/* What was written reads as the same, and is written the same. */
static void round_trip(const pn_json *doc)
{
    pn_buf once, twice;
    pn_json again;
    pn_buf_init(&once, NULL);
    pn_buf_init(&twice, NULL);
    pn_py_json(&once, pn_json_root(doc), 0);
    if (!memmem(once.p, once.n, "Infinity", 8)) { /* Python's word for what is too large is no JSON */
        must(pn_json_read(&again, once.p, once.n, NULL, NULL) == PONDER_OK);
        pn_py_json(&twice, pn_json_root(&again), 0);
        must(once.n == twice.n && memcmp(once.p, twice.p, once.n) == 0);
        pn_json_free(&again);
    }
    pn_buf_free(&once);
    pn_buf_free(&twice);
}

static void run(const char *p, size_t n)
{
    pn_json doc;
    tally events, values;
    ponder_error err = {.size = sizeof err};
    const pn_json_options unique = {.unique = true}, raw = {.what = "raw", .raw = raw_names}, shallow = {.depth = 8};
    const bool right = tally_events(p, n, &events);
    const bool accepted = pn_json_read(&doc, p, n, NULL, &err) == PONDER_OK;
    must(right || !accepted); /* not the other way round: integers of 4301 digits */
    must(accepted || (err.status == PONDER_E_FORMAT && err.text[0]));
    if (accepted) {
        tally_values(pn_json_root(&doc), &values);
        must(values.values <= events.values); /* fewer where names are repeated */
        round_trip(&doc);
    }
    pn_json_free(&doc);
    if (pn_json_read_as(&doc, p, n, &unique, NULL, NULL) == PONDER_OK) {
        tally_values(pn_json_root(&doc), &values);
        must(accepted && values.values == events.values);
    }
    pn_json_free(&doc);
    if (pn_json_read_as(&doc, p, n, &shallow, NULL, NULL) == PONDER_OK) must(accepted);
    pn_json_free(&doc);
    if (pn_json_read_as(&doc, p, n, &raw, NULL, NULL) == PONDER_OK) tally_values(pn_json_root(&doc), &values);
    else must(!accepted);
    pn_json_free(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    run(p, n);
    for (size_t from = 0; from < n;) {
        const char *end = memchr(p + from, '\n', n - from);
        const size_t len = end ? (size_t)(end - p) - from : n - from;
        char *line = malloc(len ? len : 1); /* of exactly that size, for a sanitizer */
        if (!line) return 0;
        memcpy(line, p + from, len);
        run(line, len);
        free(line);
        from += len + 1;
    }
    return 0;
}
