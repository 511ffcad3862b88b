/* Streams and the events that they are (tests/data/chat/streams.json, written by hand), at every split. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "counter.h"
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
    "{\"a\": \"", "\"}}", "\\\"", "\n", "\n\n", " ", "text", "<", "</", "<tool", "_call>", "é", "\xf0\x9f", "{", "}", "<|im_start|>", "<|im_start|>assistant\n", "user\n"};
static const char *const llama_fragments[] = {
    "{", "\"name\"", ": ", "\"f\"", ", \"parameters\": {}}", "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<|python_tag|>", "<|eot_id|>", "<|eom_id|>",
    " ", "\n", "text", "\"type\"", "<|", "é", "<|start_header_id|>", "assistant<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>"};
static const char *const plain_fragments[] = {"<start_of_turn>", "<start_of_turn>model\n", "<end_of_turn>", "user", "model", "\n", " ", "text", "<", "<start", "é"};

typedef struct family { pn_template t; const char *const *fragments; uint32_t n; } family;
static const family families[] = {{PN_TEMPLATE_MUSE, muse_fragments, PN_COUNT(muse_fragments)},
                                  {PN_TEMPLATE_QWEN3, think_fragments, PN_COUNT(think_fragments)},
                                  {PN_TEMPLATE_LLAMA3_1, llama_fragments, PN_COUNT(llama_fragments)},
                                  {PN_TEMPLATE_LLAMA3, llama_fragments, PN_COUNT(llama_fragments)},
                                  {PN_TEMPLATE_GEMMA, plain_fragments, PN_COUNT(plain_fragments)}};

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

/* ---- where the next token goes ---- */

typedef struct place_step { const char *text, *token; pn_channel channel; size_t since; const char *tool, *parameter; } place_step;

static void check_places(pn_template t, const pn_tools *tools, const place_step *steps, size_t n)
{
    const pn_parse_options o = {.kind = pn_parser_kind_of(t), .template = t, .tools = tools};
    pn_parser *p;
    assert_int_equal(pn_parser_new(&p, &o, NULL, NULL), PONDER_OK);
    all_markers_are_tokens(p);
    for (size_t i = 0; i < n; i++) {
        const place_step *s = &steps[i];
        if (s->token) assert_int_equal(pn_parser_put_token(p, s->token, strlen(s->token), NULL), PONDER_OK);
        else assert_int_equal(pn_parser_put(p, s->text, strlen(s->text), NULL), PONDER_OK);
        const pn_place at = pn_parser_place(p);
        if (at.channel != s->channel || (s->since != SIZE_MAX && at.since != s->since) || !pn_str_eq(at.tool, s->tool ? s->tool : "") ||
            !pn_str_eq(at.parameter, s->parameter ? s->parameter : ""))
            fail_msg("step %d: channel %d, %zu, %.*s, %.*s", (int)i, at.channel, at.since, (int)at.tool.n, at.tool.p, (int)at.parameter.n, at.parameter.p);
    }
    pn_parser_free(p);
}

static void test_places(void **state)
{
    static const place_step muse[] = {
        {"", NULL, PN_CHANNEL_HEADER, 0, NULL, NULL}, {" to", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL}, {"=self", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL},
        {NULL, "<|message|>", PN_CHANNEL_THOUGHT, 0, NULL, NULL}, {"Hm", NULL, PN_CHANNEL_THOUGHT, 2, NULL, NULL}, {" to", NULL, PN_CHANNEL_THOUGHT, 5, NULL, NULL},
        {NULL, "<|eom|>", PN_CHANNEL_HEADER, 0, NULL, NULL}, {NULL, "<|start|>", PN_CHANNEL_HEADER, 0, NULL, NULL},
        {"assistant to=commentary", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL}, {NULL, "<|message|>", PN_CHANNEL_COMMENTARY, 0, NULL, NULL},
        {NULL, "<|eom|>", PN_CHANNEL_HEADER, 0, NULL, NULL}, {" to=f", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL},
        {NULL, "<|message|>", PN_CHANNEL_CALL, 0, "f", NULL}, {"<atem:function_calls>\n<atem:invoke name=\"", NULL, PN_CHANNEL_CALL, 41, "f", NULL},
        {"f.g\">\n", NULL, PN_CHANNEL_CALL, 47, "f.g", NULL}, {"<atem:parameter name=\"k\">v", NULL, PN_CHANNEL_ARGUMENT, 1, "f.g", "k"},
        {"\xc3", NULL, PN_CHANNEL_ARGUMENT, 2, "f.g", "k"}, {"\xa9</atem:", NULL, PN_CHANNEL_ARGUMENT, 10, "f.g", "k"},
        {"parameter>", NULL, PN_CHANNEL_CALL, SIZE_MAX, "f.g", NULL}, {NULL, "<|eom|>", PN_CHANNEL_HEADER, 0, NULL, NULL},
        {" to=user", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL}, {NULL, "<|message|>", PN_CHANNEL_ANSWER, 0, NULL, NULL}, {"Hi <", NULL, PN_CHANNEL_ANSWER, 4, NULL, NULL},
        {NULL, "<|eot|>", PN_CHANNEL_ENDED, 0, NULL, NULL}, {NULL, "<|start|>", PN_CHANNEL_HEADER, 0, NULL, NULL}, {"user", NULL, PN_CHANNEL_RAW, SIZE_MAX, NULL, NULL}};
    static const place_step tail[] = {
        {" to=user", NULL, PN_CHANNEL_HEADER, SIZE_MAX, NULL, NULL}, {NULL, "<|message|>", PN_CHANNEL_ANSWER, 0, NULL, NULL},
        {"So <atem:function_calls>", NULL, PN_CHANNEL_CALL, SIZE_MAX, NULL, NULL}, {"<atem:invoke name=\"f\">", NULL, PN_CHANNEL_CALL, SIZE_MAX, "f", NULL},
        {"<atem:parameter name=\"x\">12", NULL, PN_CHANNEL_ARGUMENT, 2, "f", "x"}};
    static const place_step think[] = {
        {"", NULL, PN_CHANNEL_ANSWER, 0, NULL, NULL}, {NULL, "<think>", PN_CHANNEL_THOUGHT, 0, NULL, NULL}, {"\nso", NULL, PN_CHANNEL_THOUGHT, 2, NULL, NULL},
        {NULL, "</think>", PN_CHANNEL_ANSWER, 0, NULL, NULL}, {"\n\nHi", NULL, PN_CHANNEL_ANSWER, 2, NULL, NULL}, {NULL, "<tool_call>", PN_CHANNEL_CALL, 0, NULL, NULL},
        {"{\"n", NULL, PN_CHANNEL_CALL, 3, NULL, NULL}, {NULL, "<|im_end|>", PN_CHANNEL_ENDED, SIZE_MAX, NULL, NULL}};
    pn_tools *tools = two_tools();
    check_places(PN_TEMPLATE_MUSE, NULL, muse, PN_COUNT(muse));
    check_places(PN_TEMPLATE_MUSE, tools, tail, PN_COUNT(tail));
    check_places(PN_TEMPLATE_QWEN3, NULL, think, PN_COUNT(think));
    pn_tools_free(tools);
}

/* ---- nothing is held that cannot become markup ---- */

static void expect_text(pn_parser *p, const char *put, const char *shown)
{
    record r;
    record_init(&r);
    assert_int_equal(pn_parser_put(p, put, strlen(put), NULL), PONDER_OK);
    record_take(&r, p);
    const char *got = r.text.n ? memchr(r.text.p, ' ', r.text.n) : NULL;
    const size_t n = got ? r.text.n - (size_t)(got + 1 - r.text.p) : 0;
    if (n != strlen(shown) || (n && memcmp(got + 1, shown, n) != 0)) fail_msg("\"%s\" gave \"%.*s\", not \"%s\"", put, (int)n, got ? got + 1 : "", shown);
    pn_buf_free(&r.text);
}

static void test_early(void **state)
{
    static const struct { pn_template t; pn_parse_start start; bool tools; const char *steps[16][2]; } cases[] = {
        {PN_TEMPLATE_MUSE, PN_PARSE_ANSWER, true, {{"Hello", "Hello"}, {" world", " world"}, {" <", " "}, {" b", "< b"}, {"<atem:f", ""}, {"oo", "<atem:foo"}, {" ", ""}, {"t", ""}, {"o=", ""}, {"x ", ""}, {"y", " to=x y"}}},
        {PN_TEMPLATE_MUSE, PN_PARSE_THOUGHT, true, {{"a <atem:function_calls>", "a <atem:function_calls>"}, {"\n", ""}, {"\n", "\n"}, {"b", "\nb"}}},
        {PN_TEMPLATE_MUSE, PN_PARSE_ANSWER, false, {{"<atem:function_calls>", "<atem:function_calls>"}, {"\xf0\x9f", ""}, {"\x8e\x89", "🎉"}}},
        {PN_TEMPLATE_MUSE, PN_PARSE_ANSWER, true, {{"<atem:function_calls>", ""}, {"\n<atem:invoke name=\"", ""}, {"nobody\">", "<atem:function_calls>\n<atem:invoke name=\"nobody\">"}}},
        {PN_TEMPLATE_MUSE, PN_PARSE_TURN, false, {{"t", ""}, {"h", "th"}, {"e", "e"}}},
        {PN_TEMPLATE_QWEN3, PN_PARSE_TURN, false, {{"\n", ""}, {"Hi", "\nHi"}, {"\n", ""}, {"\n", "\n"}, {"x", "\nx"}, {"a<b", "a<b"}}},
        {PN_TEMPLATE_QWEN3, PN_PARSE_THOUGHT, false, {{"\n", ""}, {"Hm", "Hm"}, {"\n\n", ""}, {"so", "\n\nso"}}},
        {PN_TEMPLATE_LLAMA3_1, PN_PARSE_TURN, false, {{"Hi", "Hi"}, {"{\"name\": 1}", "{\"name\": 1}"}}},
        {PN_TEMPLATE_LLAMA3_1, PN_PARSE_TURN, false, {{"{", ""}, {" \"na", ""}, {"tion\"", "{ \"nation\""}}},
        {PN_TEMPLATE_GEMMA, PN_PARSE_TURN, false, {{" <", " <"}, {"\n", "\n"}}},
    };
    pn_tools *tools = two_tools();
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        const pn_parse_options o = {.kind = pn_parser_kind_of(cases[i].t), .template = cases[i].t, .start = cases[i].start, .tools = cases[i].tools ? tools : NULL};
        pn_parser *p;
        assert_int_equal(pn_parser_new(&p, &o, NULL, NULL), PONDER_OK);
        all_markers_are_tokens(p);
        for (size_t k = 0; k < PN_COUNT(cases[i].steps) && cases[i].steps[k][0]; k++) expect_text(p, cases[i].steps[k][0], cases[i].steps[k][1]);
        pn_parser_free(p);
    }
    pn_tools_free(tools);
}

/* ---- clones, turns, ids ---- */

static void test_clones(void **state)
{
    size_t i, bad = 0;
    json_t *c;
    json_array_foreach(golden, i, c) {
        const stream s = open_stream(c, NULL);
        record want, first;
        if (s.text) run(&s, AS_TEXT, SIZE_MAX / 2, &want);
        for (size_t cut = 0; s.text && cut <= s.n; cut++) {
            pn_parser *p = parser_of(&s, false), *q;
            record_init(&first);
            pn_parser_put(p, s.text, cut, NULL);
            assert_int_equal(pn_parser_clone(&q, p, NULL), PONDER_OK); /* with events not yet taken */
            pn_parser_put(p, "something else", 14, NULL);
            pn_parser_free(p);
            record_take(&first, q);
            pn_parser_put(q, s.text + cut, s.n - cut, NULL);
            pn_parser_finish(q, NULL);
            record_take(&first, q);
            bad += !record_same(&want, &first);
            pn_parser_free(q);
            pn_buf_free(&first.text);
        }
        if (s.text) pn_buf_free(&want.text);
        pn_tools_free(s.o.tools);
    }
    assert_int_equal(bad, 0);
}

/* A turn that was given up leaves nothing behind; ids go on; a cut thought stays a thought. */
static void test_turns(void **state)
{
    static const char call[] = " to=f<|message|><atem:function_calls><atem:invoke name=\"f\"></atem:invoke></atem:function_calls><|eot|>";
    const pn_parse_options o = {.kind = PN_PARSER_MUSE, .template = PN_TEMPLATE_MUSE, .calls = 41};
    pn_parser *p;
    pn_parsed e;
    assert_int_equal(pn_parser_new(&p, &o, NULL, NULL), PONDER_OK);
    pn_parser_put(p, call, sizeof call - 1, NULL);
    assert_true(pn_parser_next(p, &e) && e.kind == PN_PARSED_CALL && pn_str_eq(e.id, "call_42"));
    pn_parser_put(p, " to=self<|message|>so <|st", 26, NULL);
    pn_parser_begin(p, PN_PARSE_ANSWER);
    pn_parser_put(p, "art|>x", 6, NULL);
    while (pn_parser_next(p, &e) && e.kind != PN_PARSED_THOUGHT) {}
    assert_true(pn_str_eq(e.text, "so"));
    assert_true(pn_parser_next(p, &e) && e.kind == PN_PARSED_ANSWER && pn_str_eq(e.text, "art|>x"));
    pn_parser_begin(p, PN_PARSE_THOUGHT);
    pn_parser_put(p, "hm", 2, NULL);
    pn_parser_finish(p, NULL);
    pn_parser_put(p, "more", 4, NULL);
    assert_true(pn_parser_next(p, &e) && e.kind == PN_PARSED_THOUGHT && pn_str_eq(e.text, "hmmore"));
    assert_int_equal(pn_parser_calls(p), 42);
    pn_parser_free(p);
}

/* ---- memory, stack, time ---- */

static bool survives(const stream *s, counter *c)
{
    pn_parser *p, *q = NULL;
    record r;
    record_init(&r);
    ponder_status st = pn_parser_new(&p, &s->o, s->a, NULL);
    if (st == PONDER_OK) st = feed_pieces(p, s->text, s->n, 9, &r);
    if (st == PONDER_OK) st = pn_parser_clone(&q, p, NULL);
    if (st == PONDER_OK) st = pn_parser_finish(q, NULL);
    const bool done = c->calls < c->fail_at;
    assert_int_equal(st, done ? PONDER_OK : PONDER_E_NOMEM);
    pn_parser_free(p);
    pn_parser_free(q);
    pn_buf_free(&r.text);
    assert_int_equal(c->live, 0);
    return done;
}

static void test_allocations(void **state)
{
    size_t i, rounds = 0;
    json_t *c;
    json_array_foreach(golden, i, c) {
        stream s = open_stream(c, NULL);
        counter k = {.fail_at = 1};
        const ponder_alloc a = counter_alloc(&k);
        s.a = &a;
        for (bool done = !s.text; !done; rounds++) {
            const size_t next = k.fail_at + 1;
            done = survives(&s, &k);
            k = (counter){.fail_at = next};
        }
        pn_tools_free(s.o.tools);
    }
    assert_true(rounds > 1000);
}

static void *all_streams(void *bad)
{
    size_t i;
    json_t *c;
    json_array_foreach(golden, i, c) {
        const stream s = open_stream(c, NULL);
        *(size_t *)bad += !golden_holds(c, &s);
        pn_tools_free(s.o.tools);
    }
    return bad;
}

static void test_small_stack(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
    skip();
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#endif
    size_t bad = 0;
    pthread_t thread;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
    assert_int_equal(pthread_create(&thread, &attr, all_streams, &bad), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    assert_int_equal(bad, 0);
}

/* Streams made to be slow: each byte may cost a little, not what is before it. */
static void test_long(void **state)
{
    enum { MOST = 1 << 19 };
    static const struct { pn_template t; const char *opening, *again; } streams[] = {
        {PN_TEMPLATE_MUSE, " to=user<|message|>", "<"}, {PN_TEMPLATE_MUSE, " to=user<|message|>", "<atem:function_calls>"},
        {PN_TEMPLATE_MUSE, " to=user<|message|>", " to="}, {PN_TEMPLATE_MUSE, " to=self<|message|>", "\n"}, {PN_TEMPLATE_MUSE, " to=self<|message|>", " assistant"},
        {PN_TEMPLATE_MUSE, " to=user<|message|><atem:function_calls><atem:invoke name=\"f\"><atem:parameter name=\"x\">", "<atem:invoke name=\"f\">"},
        {PN_TEMPLATE_MUSE, " to=f<|message|>", "<atem:invoke name=\"f\">"}, {PN_TEMPLATE_MUSE, " to=f<|message|>", "<atem:invoke name=\"f\"><atem:parameter name=\"x\">"},
        {PN_TEMPLATE_MUSE, " to=f<|message|><atem:invoke name=\"f\"><atem:parameter name=\"x\">", "</atem:parameter>\n"},
        {PN_TEMPLATE_MUSE, " to=f<|message|><atem:invoke name=\"f\"><atem:parameter name=\"x\">", "</atem:parameter></atem:invoke>"},
        {PN_TEMPLATE_MUSE, " to=f<|message|><atem:invoke name=\"f\">", "<atem:parameter name=\"x\">[</atem:parameter>"},
        {PN_TEMPLATE_MUSE, " to=f<|message|><atem:invoke name=\"f\"></atem:invoke>", "\n"}, {PN_TEMPLATE_MUSE, " to=f<|message|>", "<"},
        {PN_TEMPLATE_MUSE, "", "<|start|>"}, {PN_TEMPLATE_MUSE, "", " "}, {PN_TEMPLATE_MUSE, "", "<|start|>a"}, {PN_TEMPLATE_MUSE, "<|start|>user", "<|message|>"},
        {PN_TEMPLATE_QWEN3, "<think>", "\n"}, {PN_TEMPLATE_QWEN3, "<think>a", "\n"}, {PN_TEMPLATE_QWEN3, "", "<tool_call>"}, {PN_TEMPLATE_QWEN3, "<tool_call>{\"", "</tool_call>"}, {PN_TEMPLATE_QWEN3, "", "<tool_call>{\"name\": \"f\"}"},
        {PN_TEMPLATE_QWEN3, "", " "}, {PN_TEMPLATE_LLAMA3_1, "{\"name\": \"f\", ", "["}, {PN_TEMPLATE_LLAMA3_1, "", " "}, {PN_TEMPLATE_LLAMA3_1, "{", "\n"}, {PN_TEMPLATE_LLAMA3_1, "<|python_tag|>", "{"}};
    pn_tools *tools = two_tools();
    for (size_t i = 0; i < PN_COUNT(streams); i++) {
        const pn_parse_options o = {.kind = pn_parser_kind_of(streams[i].t), .template = streams[i].t, .tools = tools};
        const size_t n = strlen(streams[i].again);
        pn_parser *p;
        record r;
        record_init(&r);
        assert_int_equal(pn_parser_new(&p, &o, NULL, NULL), PONDER_OK);
        const clock_t from = clock();
        assert_int_equal(pn_parser_put(p, streams[i].opening, strlen(streams[i].opening), NULL), PONDER_OK);
        for (size_t fed = 0; fed < MOST; fed += n) {
            assert_int_equal(pn_parser_put(p, streams[i].again, n, NULL), PONDER_OK);
            record_take(&r, p);
        }
        assert_int_equal(pn_parser_finish(p, NULL), PONDER_OK);
        const double seconds = (double)(clock() - from) / CLOCKS_PER_SEC;
        if (seconds > 5) fail_msg("%s ... %s: %.1f s", streams[i].opening, streams[i].again, seconds);
        if (getenv("PONDER_TEST_LONG")) printf("%6.3f s %s ... %s\n", seconds, streams[i].opening, streams[i].again);
        pn_parser_free(p);
        pn_buf_free(&r.text);
    }
    pn_tools_free(tools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_splits), cmocka_unit_test(test_thought_tokens), cmocka_unit_test(test_random),
        cmocka_unit_test(test_places), cmocka_unit_test(test_early), cmocka_unit_test(test_clones), cmocka_unit_test(test_turns),
        cmocka_unit_test(test_allocations), cmocka_unit_test(test_small_stack), cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
