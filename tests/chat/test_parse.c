/* Streams and the events that they are (tests/data/chat/streams.json, written by hand), at every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "streams.h"

static json_t *golden;

static int load(void **state)
{
    char path[1024];
    json_error_t e;
    const char *data = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/chat/streams.json", data ? data : "tests/data");
    golden = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!golden) printf("%s:%d: %s\n", path, e.line, e.text);
    return golden ? 0 : -1;
}

static int unload(void **state)
{
    json_decref(golden);
    return 0;
}

/* ---- one case ---- */

typedef struct stream {
    const char *name;
    const json_t *tokens;      /* or a raw text */
    const char *text;
    size_t n;
    pn_parse_options o;
    bool raw_only;
    const ponder_alloc *a;
} stream;

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const json_t *v = json_object_get(object, key);
    return v ? json_string_value(v) : otherwise;
}

static pn_parse_start start_of(const char *s)
{
    return strcmp(s, "thought") == 0 ? PN_PARSE_THOUGHT : strcmp(s, "answer") == 0 ? PN_PARSE_ANSWER : PN_PARSE_TURN;
}

static stream open_stream(const json_t *c, const ponder_alloc *a)
{
    const json_t *in = json_object_get(c, "in"), *list = json_object_get(c, "tools");
    stream s = {.name = text_of(c, "name", ""), .tokens = json_object_get(c, "tokens"), .a = a,
                .raw_only = json_is_true(json_object_get(c, "raw_only"))};
    s.text = in ? json_string_value(in) : NULL;
    s.n = in ? json_string_length(in) : 0;
    s.o.template = pn_template_by_name(text_of(c, "template", "muse"));
    s.o.kind = pn_parser_kind_of(s.o.template);
    s.o.start = start_of(text_of(c, "start", "turn"));
    if (list) {
        char *json = json_dumps(list, 0);
        ponder_error err = {.size = sizeof err};
        pn_tools *tools;
        if (pn_tools_read(&tools, json, strlen(json), NULL, &err) != PONDER_OK) fail_msg("%s: %s", s.name, err.text);
        s.o.tools = tools;
        free(json);
    }
    return s;
}

static pn_parser *parser_of(const stream *s, bool tokens)
{
    pn_parser *p;
    assert_int_equal(pn_parser_new(&p, &s->o, s->a, NULL), PONDER_OK);
    if (tokens) all_markers_are_tokens(p);
    return p;
}

static size_t bytes_of_hex(const char *hex, char *to)
{
    size_t n = 0;
    for (unsigned v; sscanf(hex + 2 * n, "%2x", &v) == 1; n++) to[n] = (char)v;
    return n;
}

/* One token of a list, its bytes in pieces. */
static void put_listed(pn_parser *p, const json_t *v, size_t piece, record *r)
{
    char bytes[64];
    const char *name = text_of(v, "t", NULL), *hex = text_of(v, "x", NULL);
    const char *text = json_is_string(v) ? json_string_value(v) : bytes;
    const size_t n = json_is_string(v) ? json_string_length(v) : hex ? bytes_of_hex(hex, bytes) : 0;
    if (name) assert_int_equal(pn_parser_put_token(p, name, strlen(name), NULL), PONDER_OK);
    else assert_int_equal(feed_pieces(p, text, n, piece, r), PONDER_OK);
    if (r) record_take(r, p);
}

typedef enum how { AS_TEXT, AS_TOKENS } how;

static uint64_t run(const stream *s, how h, size_t piece, record *r)
{
    pn_parser *p = parser_of(s, h == AS_TOKENS);
    record_init(r);
    if (s->tokens) {
        size_t i;
        json_t *v;
        json_array_foreach(s->tokens, i, v) put_listed(p, v, piece, r);
    } else if (h == AS_TEXT) {
        assert_int_equal(feed_pieces(p, s->text, s->n, piece, r), PONDER_OK);
    } else {
        assert_int_equal(feed_tokens(p, s->text, s->n, piece, r), PONDER_OK);
    }
    assert_int_equal(pn_parser_finish(p, NULL), PONDER_OK);
    record_take(r, p);
    const uint64_t thought = pn_parser_thought_tokens(p);
    assert_int_equal(pn_parser_calls(p), r->calls);
    pn_parser_free(p);
    return thought;
}

/* ---- against what is expected ---- */

static bool call_as_wanted(const pn_parsed *e, const json_t *want)
{
    const json_t *args = json_array_get(want, 2), *tool = json_array_get(want, 3);
    const char *name = json_string_value(json_array_get(want, 1));
    json_t *got = json_loadb(e->text.p, e->text.n, JSON_REJECT_DUPLICATES, NULL);
    bool ok = e->name.n == strlen(name) && memcmp(e->name.p, name, e->name.n) == 0;
    if (json_is_string(args)) ok = ok && e->text.n == json_string_length(args) && !memcmp(e->text.p, json_string_value(args), e->text.n);
    else ok = ok && got && json_equal(got, args);
    if (tool) ok = ok && e->tool == json_integer_value(tool);
    json_decref(got);
    return ok && e->id.n > 5 && memcmp(e->id.p, "call_", 5) == 0;
}

static bool as_wanted(const pn_parsed *e, const json_t *want)
{
    static const char *const names[] = {"", "thought", "commentary", "answer", "call", "raw", "end", "turn"};
    const json_t *text = json_array_get(want, 1);
    if (strcmp(json_string_value(json_array_get(want, 0)), names[e->kind]) != 0) return false;
    if (e->kind == PN_PARSED_CALL) return call_as_wanted(e, want);
    return e->text.n == json_string_length(text) && (!e->text.n || memcmp(e->text.p, json_string_value(text), e->text.n) == 0);
}

/* Fed in one go, only neighbours of one kind across tokens need joining: a text may come in several events. */
static bool golden_holds(const json_t *c, const stream *s)
{
    const json_t *want = json_object_get(c, "out");
    pn_parser *p = parser_of(s, s->tokens != NULL);
    pn_parsed e;
    size_t n = 0, i;
    json_t *v;
    bool ok = true;
    if (s->tokens) json_array_foreach(s->tokens, i, v) put_listed(p, v, SIZE_MAX / 2, NULL);
    else assert_int_equal(pn_parser_put(p, s->text, s->n, NULL), PONDER_OK);
    assert_int_equal(pn_parser_finish(p, NULL), PONDER_OK);
    for (; pn_parser_next(p, &e); n++) ok = ok && as_wanted(&e, json_array_get(want, n));
    pn_parser_free(p);
    return ok && n == json_array_size(want);
}

static void show(const stream *s, const char *what, size_t piece)
{
    record r;
    run(s, s->tokens ? AS_TOKENS : AS_TEXT, piece, &r);
    printf("%s: %s:%.*s\n", s->name, what, (int)r.text.n, r.text.p);
    pn_buf_free(&r.text);
}

static void test_golden(void **state)
{
    size_t i, bad = 0;
    json_t *c;
    json_array_foreach(golden, i, c) {
        const stream s = open_stream(c, NULL);
        if (!golden_holds(c, &s)) {
            show(&s, "got", SIZE_MAX / 2);
            bad++;
        }
        pn_tools_free(s.o.tools);
    }
    assert_int_equal(bad, 0);
}

/* ---- every split ---- */

static size_t splits_of(const stream *s)
{
    static const size_t pieces[] = {1, 2, 3, 4, 5, 7, 11, 16, 31};
    const how base = s->tokens ? AS_TOKENS : AS_TEXT;
    record want, got;
    size_t bad = 0;
    run(s, base, SIZE_MAX / 2, &want);
    for (size_t i = 0; i < PN_COUNT(pieces); i++) {
        for (how h = base; h <= (s->raw_only ? base : AS_TOKENS); h++) {
            run(s, h, pieces[i], &got);
            const bool same = record_same(&want, &got);
            if (!same) printf("%s, pieces of %zu%s:%.*s\n", s->name, pieces[i], h ? ", tokens" : "", (int)got.text.n, got.text.p);
            bad += !same;
            pn_buf_free(&got.text);
        }
    }
    for (size_t cut = 1; !s->tokens && cut < s->n; cut++) {
        pn_parser *p = parser_of(s, false);
        record_init(&got);
        feed_pieces(p, s->text, cut, cut, &got);
        feed_pieces(p, s->text + cut, s->n - cut, s->n, &got);
        pn_parser_finish(p, NULL);
        record_take(&got, p);
        bad += !record_same(&want, &got);
        pn_buf_free(&got.text);
        pn_parser_free(p);
    }
    pn_buf_free(&want.text);
    return bad;
}

static void test_splits(void **state)
{
    size_t i, bad = 0;
    json_t *c;
    json_array_foreach(golden, i, c) {
        const stream s = open_stream(c, NULL);
        bad += splits_of(&s);
        pn_tools_free(s.o.tools);
    }
    assert_int_equal(bad, 0);
}

/* Tokens of thoughts, where text between two markers is one token, or as listed. */
static void test_thought_tokens(void **state)
{
    size_t i, checked = 0;
    json_t *c;
    json_array_foreach(golden, i, c) {
        const json_t *want = json_object_get(c, "thought_tokens");
        if (!want) continue;
        const stream s = open_stream(c, NULL);
        record r;
        const uint64_t got = run(&s, AS_TOKENS, SIZE_MAX / 2, &r);
        if (got != (uint64_t)json_integer_value(want)) fail_msg("%s: %d tokens", s.name, (int)got);
        pn_buf_free(&r.text);
        pn_tools_free(s.o.tools);
        checked++;
    }
    assert_true(checked >= 5);
}

/* ---- random streams ---- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) % n);
}

static const char *const muse_fragments[] = {
    "<|start|>", "<|message|>", "<|eom|>", "<|eot|>", "<|start|>assistant to=self<|message|>", "<|start|>assistant to=user<|message|>",
    "<|start|>assistant to=f<|message|>", " to=ns.g<|message|>", " to=commentary<|message|>", "assistant", " to=", "self", "user", "f",
    "<atem:function_calls>", "</atem:function_calls>", "<atem:invoke name=\"f\">", "<atem:invoke name=\"ns.g\">", "</atem:invoke>",
    "<atem:parameter name=\"", "\">", "</atem:parameter>", "\n", " ", "<", "</", "<|", "|>", "<atem:", "<|eo", "é", "🎉", "\xff", "\xe2\x82",
    "text ", "{\"a\": [1, 2]}", "\"", "<|begin_of_text|>"};
static const char *const think_fragments[] = {
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "{\"name\": \"f\", \"arguments\": ", "{\"name\": \"f\", \"arguments\": {}}",
    "{\"a\": \"", "\"}}", "\\\"", "\n", "\n\n", " ", "text", "<", "</", "<tool", "_call>", "é", "\xf0\x9f", "{", "}"};
static const char *const llama_fragments[] = {
    "{", "\"name\"", ": ", "\"f\"", ", \"parameters\": {}}", "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<|python_tag|>", "<|eot_id|>", "<|eom_id|>",
    " ", "\n", "text", "\"type\"", "<|", "é"};

typedef struct family { pn_template t; const char *const *fragments; uint32_t n; } family;
static const family families[] = {{PN_TEMPLATE_MUSE, muse_fragments, PN_COUNT(muse_fragments)},
                                  {PN_TEMPLATE_QWEN3, think_fragments, PN_COUNT(think_fragments)},
                                  {PN_TEMPLATE_LLAMA3_1, llama_fragments, PN_COUNT(llama_fragments)}};

static bool in_recipient(const char *text, size_t n)
{
    size_t from = n;
    while (from > 0 && text[from - 1] != ' ' && text[from - 1] != '\n' && text[from - 1] != '>') from--;
    return n > from && memmem(text + from, n - from, "to=", 3);
}

/* Fragments and words that occur once; words[] says which are in the text where they may not vanish. */
static size_t random_text(const family *f, char *text, size_t cap, bool *words, uint32_t n_words)
{
    size_t n = 0;
    for (uint32_t word = 0, many = 2 + random_below(30); many > 0 && n + 64 < cap; many--) {
        const char *piece = f->fragments[random_below(f->n)];
        char fresh[16];
        if (word < n_words && random_below(3) == 0) {
            snprintf(fresh, sizeof fresh, "w%uw", word);
            words[word++] = !in_recipient(text, n); /* which is in no event of a call */
            piece = fresh;
        }
        const size_t len = strlen(piece);
        memcpy(text + n, piece, len);
        n += len;
    }
    return n;
}

static pn_tools *two_tools(void)
{
    static const char json[] = "[{\"name\": \"f\", \"parameters\": {\"type\": \"object\", \"properties\": {\"x\": {\"type\": \"string\"}}}}, {\"name\": \"ns.g\"}]";
    pn_tools *t;
    assert_int_equal(pn_tools_read(&t, json, sizeof json - 1, NULL, NULL), PONDER_OK);
    return t;
}

/* Lines of a record that are calls hold JSON; no answer or thought holds a control marker that was fed as one. */
static bool record_sound(const stream *s, const record *r)
{
    pn_parser *p = parser_of(s, false);
    bool ok = true;
    for (size_t at = 0; at < r->text.n && ok;) {
        const char *line = r->text.p + at + 1, *end = memchr(line, '\n', r->text.n - at - 1);
        const size_t n = end ? (size_t)(end - line) : r->text.n - at - 1;
        const bool text = n > 7 && (memcmp(line, "answer ", 7) == 0 || memcmp(line, "thought", 7) == 0);
        for (size_t i = 0; text && s->o.kind == PN_PARSER_MUSE && i < n; i++) ok = ok && !marker_at(p, line + i, n - i);
        at = end ? (size_t)(end - r->text.p) : r->text.n;
    }
    pn_parser_free(p);
    return ok;
}

static bool call_is_json(const pn_parsed *e)
{
    json_t *v = json_loadb(e->text.p, e->text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const bool ok = json_is_object(v);
    json_decref(v);
    return ok;
}

static bool events_sound(const stream *s)
{
    pn_parser *p = parser_of(s, false);
    pn_parsed e;
    bool ok = pn_parser_put(p, s->text, s->n, NULL) == PONDER_OK && pn_parser_finish(p, NULL) == PONDER_OK;
    while (pn_parser_next(p, &e)) {
        ok = ok && (e.kind != PN_PARSED_CALL || call_is_json(&e));
        json_t *text = json_stringn(e.text.p, e.text.n); /* NULL: not UTF-8 */
        ok = ok && text;
        json_decref(text);
    }
    pn_parser_free(p);
    return ok;
}

static bool words_there(const record *r, const bool *words, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char word[16];
        const int len = snprintf(word, sizeof word, "w%uw", i);
        if (words[i] && !memmem(r->text.p, r->text.n, word, (size_t)len)) {
            printf("lost: %s\n", word);
            return false;
        }
    }
    return true;
}

static bool random_case(const family *f, const pn_tools *tools)
{
    enum { WORDS = 12 };
    char text[4096];
    bool words[WORDS] = {false};
    record want, got;
    stream s = {.name = "random", .text = text, .o = {.template = f->t, .kind = pn_parser_kind_of(f->t), .tools = tools}};
    s.o.start = (pn_parse_start)(random_below(3) ? 0 : random_below(3));
    s.n = random_text(f, text, sizeof text, words, WORDS);
    run(&s, AS_TEXT, SIZE_MAX / 2, &want);
    bool ok = record_sound(&s, &want) && events_sound(&s) && words_there(&want, words, WORDS);
    for (int i = 0; i < 4 && ok; i++) {
        run(&s, AS_TEXT, i ? 1 + random_below(20) : 1, &got);
        ok = record_same(&want, &got);
        pn_buf_free(&got.text);
    }
    if (!ok) printf("%s (%d): %.*s\n%.*s\n", pn_template_name(f->t), (int)s.o.start, (int)s.n, text, (int)want.text.n, want.text.p);
    pn_buf_free(&want.text);
    return ok;
}

static void test_random(void **state)
{
    const char *env = getenv("PONDER_TEST_LONG");
    const unsigned many = env ? (unsigned)atoi(env) : 20000;
    pn_tools *tools = two_tools();
    size_t bad = 0;
    for (unsigned i = 0; i < many && bad < 3; i++) {
        random_state = i;
        bad += !random_case(&families[i % PN_COUNT(families)], i & 4 ? tools : NULL);
    }
    pn_tools_free(tools);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_splits), cmocka_unit_test(test_thought_tokens),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, load, unload);
}
