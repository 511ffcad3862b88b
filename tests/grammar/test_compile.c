/* What is understood, what is refused and why, and that hostile schemas and patterns end in a status. */
#include "support.h"

#include <cmocka.h>

static vocabulary v;

static int load(void **state)
{
    vocabulary_made(&v);
    return 0;
}

static int unload(void **state)
{
    vocabulary_free(&v);
    return 0;
}

static pn_grammar *schema(const char *json)
{
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    if (pn_grammar_schema(&g, json, strlen(json), 0, NULL, &err)) fail_msg("%s: %s", json, err.text);
    return g;
}

static bool takes_with(pn_grammar *g, const char *text, size_t n)
{
    pn_matcher *m;
    assert_int_equal(pn_matcher_new(&m, g, v.trie, 0, PN_MATCHER_CACHE, NULL, NULL), PONDER_OK);
    const bool taken = pn_matcher_accept_bytes(m, text, n, NULL) == PONDER_OK && pn_matcher_can_end(m);
    pn_matcher_free(m);
    return taken;
}

static bool takes(pn_grammar *g, const char *text) { return takes_with(g, text, strlen(text)); }

/* ---- patterns ----------------------------------------------------------------------------------------------------------------------------- */

static void check_pattern(const char *pattern, const char *const *yes, const char *const *no)
{
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    if (pn_grammar_regex(&g, pattern, strlen(pattern), NULL, &err)) fail_msg("%s: %s", pattern, err.text);
    for (; *yes; yes++)
        if (!takes(g, *yes)) fail_msg("%s does not take '%s'", pattern, *yes);
    for (; *no; no++)
        if (takes(g, *no)) fail_msg("%s takes '%s'", pattern, *no);
    pn_grammar_free(g);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void patterns_mean_what_they_say(void **state)
{
    check_pattern("", LIST(""), LIST("a"));
    check_pattern("abc", LIST("abc"), LIST("", "ab", "abcd", "xabc"));
    check_pattern("^abc$", LIST("abc"), LIST("^abc$", "abc\n"));
    check_pattern("a|b|", LIST("a", "b", ""), LIST("ab", "c"));
    check_pattern("(ab)*c+d?", LIST("c", "ababccd"), LIST("abc d", "ab", "d"));
    check_pattern("a{2}b{1,2}c{0,}d{0}", LIST("aab", "aabbccc"), LIST("ab", "aabbb", "aabd"));
    check_pattern("[^a-c\\d]{3}", LIST("xyz", "   ", "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"), LIST("xya", "xy1", "xy"));
    check_pattern("[\\]\\\\^-]+", LIST("]\\^-"), LIST("a", ""));
    check_pattern("\\u00e9\\x41\\u{1F600}\\ud83d\\ude00", LIST("\xc3\xa9" "A\xf0\x9f\x98\x80\xf0\x9f\x98\x80"), LIST("\xc3\xa9" "A"));
    check_pattern("\\w\\W\\s\\S\\D", LIST("a- -x"), LIST("a- -1", "aa -x"));
    check_pattern(".", LIST("a", "\xc3\xa9", "\xf0\x9f\x98\x80"), LIST("\n", "\r", "\xe2\x80\xa8", "ab", "\xff"));
    check_pattern("[\\s\\S]", LIST("\n", "\xe2\x80\xa8"), LIST("", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"));
    check_pattern("[a-z]{5,7}!", LIST("abcde!", "abcdefg!"), LIST("abcd!", "abcdefgh!"));
    check_pattern("x{5,}", LIST("xxxxx", "xxxxxxxxx"), LIST("xxxx"));
    check_pattern("(a{5,6}b){2}", LIST("aaaaabaaaaaab"), LIST("aaaaab", "aaaabaaaaab"));
    check_pattern("(?:a*)*b", LIST("b", "aaab"), LIST("a"));
}

static void patterns_that_are_refused(void **state)
{
    static const struct { const char *pattern; ponder_status status; const char *text; } cases[] = {
        {"(?=a)", PONDER_E_UNSUPPORTED, "ahead"}, {"(?<!a)b", PONDER_E_UNSUPPORTED, "behind"}, {"(a)\\1", PONDER_E_UNSUPPORTED, "escape"},
        {"\\bword", PONDER_E_UNSUPPORTED, "escape"}, {"\\p{L}", PONDER_E_UNSUPPORTED, "escape"}, {"a++", PONDER_E_UNSUPPORTED, "repeat"},
        {"(^a)", PONDER_E_UNSUPPORTED, "anchor"}, {"a^b", PONDER_E_UNSUPPORTED, "middle"}, {"a$b", PONDER_E_UNSUPPORTED, "middle"},
        {"a{1,100000}", PONDER_E_RANGE, "10000"}, {"a{3,2}", PONDER_E_FORMAT, "backwards"}, {"a{", PONDER_E_FORMAT, "brace"}, {"*a", PONDER_E_FORMAT, "nothing"},
        {"(a", PONDER_E_FORMAT, "without end"}, {"a)", PONDER_E_FORMAT, "too many"}, {"[a", PONDER_E_FORMAT, "without end"}, {"[z-a]", PONDER_E_FORMAT, "backwards"},
        {"\\", PONDER_E_FORMAT, "backslash"}, {"\\x4", PONDER_E_FORMAT, "escape"}, {"\\ud800", PONDER_E_FORMAT, "surrogate"}, {"\xff", PONDER_E_FORMAT, "UTF-8"},
        {"\\u{110000}", PONDER_E_FORMAT, "escape"}, {"[]", PONDER_E_RANGE, "nothing can match"}, {"\\01", PONDER_E_UNSUPPORTED, "octal"}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        pn_grammar *g;
        ponder_error err = {.size = sizeof err};
        const ponder_status st = pn_grammar_regex(&g, cases[i].pattern, strlen(cases[i].pattern), NULL, &err);
        if (st != cases[i].status || !strstr(err.text, cases[i].text)) fail_msg("%s: %s: %s", cases[i].pattern, ponder_status_name(st), err.text);
        assert_null(g);
    }
}

/* ---- schemas ------------------------------------------------------------------------------------------------------------------------------- */

static void schemas_that_are_refused(void **state)
{
    static const struct { const char *json; ponder_status status; const char *where, *what; } cases[] = {
        {"{\"properties\":{\"a\":{\"not\":{}}}}", PONDER_E_UNSUPPORTED, "#/properties/a", "not"},
        {"{\"properties\":{\"a/b~c\":{\"if\":{}}}}", PONDER_E_UNSUPPORTED, "#/properties/a~1b~0c", "if"},
        {"{\"patternProperties\":{}}", PONDER_E_UNSUPPORTED, "#", "patternProperties"},
        {"{\"items\":{\"uniqueItems\":true}}", PONDER_E_UNSUPPORTED, "#/items", "uniqueItems"},
        {"{\"minProperties\":1}", PONDER_E_UNSUPPORTED, "#", "minProperties"}, {"{\"maxProperties\":1}", PONDER_E_UNSUPPORTED, "#", "maxProperties"},
        {"{\"propertyNames\":{}}", PONDER_E_UNSUPPORTED, "#", "propertyNames"}, {"{\"dependentRequired\":{}}", PONDER_E_UNSUPPORTED, "#", "dependentRequired"},
        {"{\"contains\":{}}", PONDER_E_UNSUPPORTED, "#", "contains"}, {"{\"unevaluatedProperties\":false}", PONDER_E_UNSUPPORTED, "#", "unevaluatedProperties"},
        {"{\"$dynamicRef\":\"#x\"}", PONDER_E_UNSUPPORTED, "#", "$dynamicRef"}, {"{\"nullable\":true}", PONDER_E_UNSUPPORTED, "#", "nullable"},
        {"{\"items\":[{}]}", PONDER_E_UNSUPPORTED, "#", "prefixItems"}, {"{\"additionalItems\":false}", PONDER_E_UNSUPPORTED, "#", "additionalItems"},
        {"{\"type\":\"string\",\"format\":\"uri\"}", PONDER_E_UNSUPPORTED, "#", "format"}, {"{\"multipleOf\":0.01}", PONDER_E_UNSUPPORTED, "#", "multipleOf"},
        {"{\"type\":\"integer\",\"multipleOf\":1000}", PONDER_E_UNSUPPORTED, "#", "multipleOf"}, {"{\"exclusiveMinimum\":true}", PONDER_E_FORMAT, "#", "exclusiveMinimum"},
        {"{\"$ref\":\"other.json\"}", PONDER_E_UNSUPPORTED, "#", "$ref"}, {"{\"$ref\":\"#name\"}", PONDER_E_UNSUPPORTED, "#", "$ref"}, {"{\"$ref\":\"#/$defs/x\"}", PONDER_E_FORMAT, "#", "leads nowhere"},
        {"{\"$ref\":\"#\"}", PONDER_E_RANGE, "#", "itself"}, {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", PONDER_E_RANGE, "#", "itself"},
        {"{\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/b\"}]},\"b\":{\"$ref\":\"#/$defs/a\"}},\"$ref\":\"#/$defs/a\"}", PONDER_E_RANGE, "#", "itself"},
        {"{\"type\":\"strin\"}", PONDER_E_FORMAT, "#", "type"}, {"{\"type\":[]}", PONDER_E_FORMAT, "#", "type"}, {"{\"required\":true}", PONDER_E_FORMAT, "#", "required"},
        {"{\"properties\":{\"a\":3}}", PONDER_E_FORMAT, "#", "properties"}, {"{\"minLength\":-1}", PONDER_E_FORMAT, "#", "minLength"}, {"{\"enum\":[]}", PONDER_E_FORMAT, "#", "enum"},
        {"{\"anyOf\":[]}", PONDER_E_FORMAT, "#", "anyOf"}, {"{\"type\":\"string\",\"pattern\":\"(\"}", PONDER_E_FORMAT, "", "pattern"}, {"{\"type\":\"string\",\"maxLength\":10000000}", PONDER_E_RANGE, "#", "maxLength"},
        {"{\"allOf\":[{\"type\":\"string\",\"pattern\":\"a\"},{\"pattern\":\"b\"}]}", PONDER_E_UNSUPPORTED, "#/allOf/1", "second pattern"},
        {"{\"type\":\"string\",\"enum\":[\"a\"],\"pattern\":\"a\"}", PONDER_E_UNSUPPORTED, "#", "pattern"}, {"{\"enum\":[{}],\"required\":[\"a\"]}", PONDER_E_UNSUPPORTED, "#", "enum"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", PONDER_E_UNSUPPORTED, "#", "oneOf"}, {"{\"oneOf\":[{\"type\":\"string\"},{\"enum\":[\"a\"]}]}", PONDER_E_UNSUPPORTED, "#", "oneOf"},
        {"{\"oneOf\":[{\"properties\":{\"a\":{}}},{\"properties\":{\"b\":{}}}],\"type\":\"object\"}", PONDER_E_UNSUPPORTED, "#", "oneOf"},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", PONDER_E_RANGE, "", "nothing can match"}, {"false", PONDER_E_RANGE, "", "nothing can match"},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}", PONDER_E_RANGE, "", "nothing can match"},
        {"{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":\"#\"}}", PONDER_E_RANGE, "", "nothing can match"},
        {"[]", PONDER_E_FORMAT, "", "neither"}, {"3", PONDER_E_FORMAT, "", "neither"}, {"{", PONDER_E_FORMAT, "", "JSON"}, {"", PONDER_E_FORMAT, "", "empty"},
        {"{\"minimum\":0.000000000000000000001}", PONDER_E_RANGE, "#", "minimum"}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        pn_grammar *g;
        ponder_error err = {.size = sizeof err};
        const ponder_status st = pn_grammar_schema(&g, cases[i].json, strlen(cases[i].json), 0, NULL, &err);
        if (st != cases[i].status || !strstr(err.text, cases[i].where) || !strstr(err.text, cases[i].what)) fail_msg("%s: %s: %s", cases[i].json, ponder_status_name(st), err.text);
        assert_null(g);
    }
}

static void notes_are_ignored_and_unused_parts_not_read(void **state)
{
    pn_grammar *g = schema("{\"$schema\":\"x\",\"$id\":\"y\",\"title\":\"t\",\"description\":1,\"default\":[],\"examples\":{},\"$comment\":\"\",\"deprecated\":true,\"readOnly\":true,"
                           "\"x-mine\":{},\"uniqueItems\":false,\"minProperties\":0,\"$defs\":{\"unused\":{\"not\":{}}},\"type\":\"boolean\",\"properties\":{\"a\":{\"not\":{}}}}");
    assert_true(takes(g, "true") && takes(g, "false") && !takes(g, "{}"));
    pn_grammar_free(g);
}

static void white_space_is_bounded(void **state)
{
    char text[200] = "[\n";
    pn_grammar *g = schema("{\"type\":\"array\"}");
    static const char *const yes[] = {"[]", "[ ]", "[1,2]", "[1, 2]", "[\n  1,\n  2\n]", "[\n\t1]", "[{\"a\": 1}]", "[{\"a\":1}]"};
    static const char *const no[] = {" []", "[] ", "[1 ,2]", "[  1]", "[\r\n1]", "[1,\n\n2]", "[{\"a\" :1}]", "[{\"a\":  1}]", "[{\"a\":\n1}]", "[\t1]"};
    for (size_t i = 0; i < PN_COUNT(yes); i++)
        if (!takes(g, yes[i])) fail_msg("'%s' is not taken", yes[i]);
    for (size_t i = 0; i < PN_COUNT(no); i++)
        if (takes(g, no[i])) fail_msg("'%s' is taken", no[i]);
    for (int n = 0; n < 70; n++) { /* a line break and up to 64 blanks */
        strcpy(text + 2 + n, "]");
        assert_int_equal(takes(g, text), n <= 64);
        text[2 + n] = ' ';
    }
    pn_grammar_free(g);
    static const char json[] = "{\"type\":\"array\"}";
    assert_int_equal(pn_grammar_schema(&g, json, strlen(json), PN_GRAMMAR_COMPACT, NULL, NULL), PONDER_OK);
    assert_true(takes(g, "[1,{\"a\":2}]") && !takes(g, "[1, 2]") && !takes(g, "[{\"a\": 2}]") && !takes(g, "[\n]"));
    pn_grammar_free(g);
}

static void strings_are_whole_characters(void **state)
{
    pn_grammar *g = schema("{\"type\":\"string\",\"minLength\":1,\"maxLength\":2}");
    static const char *const yes[] = {"\"a\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\u00e9\\uD83d\\uDe00\"", "\"\\\"\\\\\"", "\"\\/\\b\"", "\"\\u0000\x7f\"", "\"\xef\xbf\xbf\""};
    static const char *const no[] = {"\"\"", "\"abc\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\xc0\xaf\"", "\"\xf4\x90\x80\x80\"", "\"\n\"",
                                     "\"\\x\"", "\"\\u12\"", "\"\x1f\"", "\"\\uD83D\\uDE00\\uD83D\\uDE00\\uD83D\\uDE00\""};
    for (size_t i = 0; i < PN_COUNT(yes); i++)
        if (!takes(g, yes[i])) fail_msg("%s is not taken", yes[i]);
    for (size_t i = 0; i < PN_COUNT(no); i++)
        if (takes(g, no[i])) fail_msg("%s is taken", no[i]);
    pn_grammar_free(g);
}

/* Every integer around the bounds, against arithmetic. */
static void integer_ranges(void **state)
{
    static const int bounds[][2] = {{-120, 345}, {0, 9}, {7, 7}, {-9, -1}, {99, 1001}, {-1000, 0}, {10, 19}, {-5, 5}};
    for (size_t i = 0; i < PN_COUNT(bounds); i++)
        for (int multiple = 1; multiple < 14; multiple += 3) {
            char json[200], text[20];
            snprintf(json, sizeof json, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d,\"multipleOf\":%d}", bounds[i][0], bounds[i][1], multiple);
            if (bounds[i][0] == 7 && multiple != 1 && multiple != 7) continue;
            if (bounds[i][0] == -9 && multiple > 9) continue;
            if (bounds[i][0] == 10 && multiple == 13) continue;
            pn_grammar *g = schema(json);
            for (int x = -1100; x <= 1100; x++) {
                snprintf(text, sizeof text, "%d", x);
                if (takes(g, text) != (x >= bounds[i][0] && x <= bounds[i][1] && x % multiple == 0)) fail_msg("%s: %s", json, text);
            }
            assert_false(takes(g, "-0") || takes(g, "007") || takes(g, "1.0") || takes(g, "1e1") || takes(g, ""));
            pn_grammar_free(g);
        }
}

/* Every number with up to two decimals around the bounds, in hundredths. */
static void number_ranges(void **state)
{
    static const struct { const char *json; int lo, hi; bool lo_open, hi_open; } cases[] = {
        {"{\"type\":\"number\",\"minimum\":-1.5,\"maximum\":2.25}", -150, 225, false, false}, {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1}", 0, 100, true, true},
        {"{\"type\":\"number\",\"minimum\":9.99,\"exclusiveMaximum\":10.01}", 999, 1001, false, true}, {"{\"type\":\"number\",\"exclusiveMinimum\":-3,\"maximum\":-0.5}", -300, -50, true, false},
        {"{\"type\":\"number\",\"minimum\":0.3,\"maximum\":0.31}", 30, 31, false, false}, {"{\"type\":\"number\",\"minimum\":-10,\"maximum\":100}", -1000, 10000, false, false}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        pn_grammar *g = schema(cases[i].json);
        for (int x = -1200; x <= 10200; x++) {
            char text[32];
            const int size = abs(x);
            const bool in = (x > cases[i].lo || (x == cases[i].lo && !cases[i].lo_open)) && (x < cases[i].hi || (x == cases[i].hi && !cases[i].hi_open));
            for (int zeros = 0; zeros < 3; zeros++) {
                snprintf(text, sizeof text, "%s%d.%02d%.*s", x < 0 ? "-" : "", size / 100, size % 100, zeros, "00");
                if (takes(g, text) != in) fail_msg("%s: %s", cases[i].json, text);
            }
            if (size % 100) continue;
            snprintf(text, sizeof text, "%d", x / 100);
            if (takes(g, text) != in) fail_msg("%s: %s", cases[i].json, text);
        }
        assert_false(takes(g, "1.") || takes(g, ".5") || takes(g, "01.5") || takes(g, "1e0"));
        pn_grammar_free(g);
    }
    pn_grammar *g = schema("{\"type\":\"number\"}");
    assert_true(takes(g, "-0.0") && takes(g, "1e279") && takes(g, "1E+5") && takes(g, "2.5e-999") && takes(g, "12345678901234567890.12345678901234567890"));
    assert_false(takes(g, "1e280") || takes(g, "1e+300") || takes(g, "123456789012345678901") || takes(g, "+1") || takes(g, "1e") || takes(g, "1e0000"));
    pn_grammar_free(g);
}

static void closed_objects_on_demand(void **state)
{
    static const char json[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"object\"},\"b\":{\"additionalProperties\":true,\"type\":\"object\",\"properties\":{}}}}";
    pn_grammar *g = schema(json);
    assert_true(takes(g, "{\"x\":1}") && takes(g, "{\"a\":{\"y\":2}}"));
    pn_grammar_free(g);
    assert_int_equal(pn_grammar_schema(&g, json, strlen(json), PN_GRAMMAR_CLOSED, NULL, NULL), PONDER_OK);
    assert_true(!takes(g, "{\"x\":1}") && takes(g, "{\"a\":{\"y\":2}}") && takes(g, "{\"b\":{\"y\":2}}"));
    pn_grammar_free(g);
}

/* ---- pieces and calls ----------------------------------------------------------------------------------------------------------------------- */

static void pieces_follow_each_other(void **state)
{
    const pn_tool_schema tools[] = {{pn_str_of("f"), pn_str_of("{\"properties\":{\"x\":{\"type\":\"integer\"}},\"required\":[\"x\"],\"additionalProperties\":false}")}, {pn_str_of("g"), {0}}};
    const pn_piece pieces[] = {
        {.kind = PN_PIECE_WITHOUT, .text = pn_str_of("<call>")}, {.kind = PN_PIECE_OR}, {.kind = PN_PIECE_UNTIL, .text = pn_str_of("<call>")},
        {.kind = PN_PIECE_CALL_JSON, .tools = tools, .n_tools = 2}, {.kind = PN_PIECE_LITERAL, .text = pn_str_of("</call>")}, {.kind = PN_PIECE_REGEX, .text = pn_str_of("\\d?")}};
    pn_grammar *g;
    assert_int_equal(pn_grammar_pieces(&g, pieces, PN_COUNT(pieces), NULL, NULL), PONDER_OK);
    static const char *const yes[] = {"", "any text < <cal <call", "{[", "<call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</call>", "well: {<<call>{\"name\":\"g\",\"arguments\":{}}</call>7"};
    static const char *const no[] = {"<call>", "<call>x", "<call>{\"name\": \"f\", \"arguments\": {}}</call>", "<call>{\"name\":\"h\",\"arguments\":{}}</call>", "<call>{\"name\":\"g\",\"arguments\":{}}</call>77",
                                     "<call>{\"name\":\"g\",\"arguments\":{\"x\":1}}</call>", "\xff"};
    for (size_t i = 0; i < PN_COUNT(yes); i++)
        if (!takes(g, yes[i])) fail_msg("'%s' is not taken", yes[i]);
    for (size_t i = 0; i < PN_COUNT(no); i++)
        if (takes(g, no[i])) fail_msg("'%s' is taken", no[i]);
    pn_grammar_free(g);
    const pn_piece wrong[][2] = {{{.kind = PN_PIECE_WITHOUT}, {.kind = PN_PIECE_LITERAL, .text = pn_str_of("a")}}, {{.kind = PN_PIECE_UNTIL}, {.kind = PN_PIECE_OR}},
                                 {{.kind = (pn_piece_kind)99}, {.kind = PN_PIECE_OR}}, {{.kind = PN_PIECE_UNTIL, .text = pn_str_of("\xff")}, {.kind = PN_PIECE_OR}}};
    for (size_t i = 0; i < PN_COUNT(wrong); i++) assert_int_not_equal(pn_grammar_pieces(&g, wrong[i], 2, NULL, NULL), PONDER_OK);
}

#define OPEN "<atem:function_calls>\n<atem:invoke name=\"ns.fn\">\n"
#define CLOSE "</atem:invoke>\n</atem:function_calls>"
#define PARAMETER(k, v) "<atem:parameter name=\"" k "\">" v "</atem:parameter>\n"

static void muse_calls(void **state)
{
    const pn_tool_schema tool = {pn_str_of("ns.fn"), pn_str_of("{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\",\"maximum\":9},\"o\":{\"type\":\"object\"},"
        "\"e\":{\"enum\":[\"x y\",2,null]},\"l\":{\"type\":\"string\",\"maxLength\":3},\"u\":{\"type\":[\"string\",\"object\"]}},\"required\":[\"s\"]}")};
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    if (pn_grammar_call_muse(&g, &tool, 1, 0, NULL, &err)) fail_msg("%s", err.text);
    static const char *const yes[] = {OPEN PARAMETER("s", "") CLOSE, OPEN PARAMETER("s", " a \"b\" <b>\n{[</atem:paramete </atem:invoke>") CLOSE, OPEN PARAMETER("s", "1") PARAMETER("n", "-3") PARAMETER("o", "{\"a\": [\"< <\"]}") CLOSE,
        OPEN PARAMETER("s", "<") PARAMETER("e", "x y") PARAMETER("l", "<<<") PARAMETER("u", "{not json") CLOSE, OPEN PARAMETER("s", "x") PARAMETER("e", "null") CLOSE};
    static const char *const no[] = {OPEN CLOSE, OPEN PARAMETER("s", "x") PARAMETER("n", "10") CLOSE, OPEN PARAMETER("n", "1") PARAMETER("s", "x") CLOSE, OPEN PARAMETER("s", "x") PARAMETER("z", "1") CLOSE,
        OPEN PARAMETER("s", "</atem:parameter>") CLOSE, OPEN PARAMETER("s", "x") PARAMETER("o", "{\"a\": \"</atem:parameter>\"}") CLOSE, OPEN PARAMETER("s", "x") PARAMETER("l", "abcd") CLOSE, OPEN PARAMETER("s", "\xff") CLOSE,
        OPEN PARAMETER("s", "x") PARAMETER("e", "\"x y\"") CLOSE};
    for (size_t i = 0; i < PN_COUNT(yes); i++)
        if (!takes(g, yes[i])) fail_msg("not taken: %s", yes[i]);
    for (size_t i = 0; i < PN_COUNT(no); i++)
        if (takes(g, no[i])) fail_msg("taken: %s", no[i]);
    pn_grammar_free(g);
    static const char *const refused[] = {"{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":3},{\"type\":\"object\"}]}}}", "{\"properties\":{\"a\\\"b\":{\"type\":\"string\"}}}", "{\"const\":{\"a\":1}}"};
    for (size_t i = 0; i < PN_COUNT(refused); i++) {
        const pn_tool_schema t = {pn_str_of("f"), pn_str_of(refused[i])};
        if (pn_grammar_call_muse(&g, &t, 1, 0, NULL, &err) != PONDER_E_UNSUPPORTED) fail_msg("%s", refused[i]);
    }
}

/* ---- hostile texts -------------------------------------------------------------------------------------------------------------------------- */

static char *repeated(const char *head, const char *unit, size_t n, const char *tail)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    pn_buf_puts(&b, head);
    for (size_t i = 0; i < n; i++) pn_buf_puts(&b, unit);
    pn_buf_puts(&b, tail);
    pn_buf_put(&b, "", 1);
    assert_false(b.failed);
    return b.p;
}

static void take_some(pn_matcher *m)
{
    uint32_t *words = malloc((v.n + 31) / 32 * sizeof *words);
    uint64_t seed = 1;
    assert_non_null(words);
    for (int i = 0; i < 10 && !pn_matcher_is_done(m); i++) {
        ponder_error err = {.size = sizeof err};
        uint32_t id = (uint32_t)random_below(&seed, v.n), tries = 0;
        if (pn_matcher_mask(m, words, &err)) fail_msg("%s", err.text);
        while (tries++ < v.n && !(words[id / 32] >> id % 32 & 1)) id = (id + 1) % v.n;
        if (pn_matcher_accept(m, (int32_t)id, &err)) fail_msg("%s", err.text);
    }
    free(words);
}

static char *nested(const char *open, size_t n, const char *middle, const char *close, size_t m)
{
    char *tail = repeated(middle, close, m, ""), *all = repeated("", open, n, tail);
    free(tail);
    return all;
}

/* Compiles or not; if it does, a mask and a few bytes must come out of it too. */
static ponder_status try(char *text, bool regex)
{
    pn_grammar *g;
    ponder_error err = {.size = sizeof err};
    const ponder_status st = regex ? pn_grammar_regex(&g, text, strlen(text), NULL, &err) : pn_grammar_schema(&g, text, strlen(text), 0, NULL, &err);
    assert_int_equal(st != PONDER_OK, err.text[0] != 0);
    free(text);
    if (st) return st;
    pn_matcher *m;
    const ponder_status made = pn_matcher_new(&m, g, v.trie, 0, PN_MATCHER_CACHE, NULL, &err);
    if (!made) take_some(m);
    pn_matcher_free(m);
    pn_grammar_free(g);
    return made;
}

static void hostile_patterns(void **state)
{
    assert_int_equal(try(repeated("", "(", 60000, ""), true), PONDER_E_RANGE);
    assert_int_equal(try(nested("(", 60000, "a", ")", 60000), true), PONDER_E_RANGE);
    assert_int_equal(try(repeated("", "(?:", 30, "a{9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}"), true), PONDER_E_RANGE);
    assert_int_equal(try(repeated("", "(?:", 4, "){10000}){10000}){10000}){10000}"), true), PONDER_E_RANGE); /* of nothing */
    assert_int_equal(try(repeated("", "", 0, "((ab){10000}){10000}"), true), PONDER_E_RANGE);
    assert_int_equal(try(repeated("", "", 0, "(.{10000}){10000}"), true), PONDER_OK);
    try(repeated("", ".{0,1000}", 30, "x"), true);
    assert_int_equal(try(repeated("", "a|", 30000, "b"), true), PONDER_OK);
    assert_int_equal(try(repeated("", "a|", 300000, "b"), true), PONDER_E_RANGE); /* by the matcher: too many ways at once */
    try(repeated("[", "a-z", 300000, "]"), true);
    try(repeated("", "[^a]*", 20000, ""), true);
    assert_int_equal(try(repeated("", "", 0, "(a|b)*a(a|b){2000}"), true), PONDER_OK);
    assert_int_equal(try(repeated("", "(a*)*", 1000, "b"), true), PONDER_OK);
}

static void hostile_schemas(void **state)
{
    try(nested("{\"items\":", 251, "{}", "}", 251), false);
    assert_int_equal(try(repeated("", "{\"items\":", 5000, ""), false), PONDER_E_FORMAT);
    try(nested("{\"anyOf\":[", 200, "{}", "]}", 200), false);
    assert_int_equal(try(repeated("{\"allOf\":[{}", ",{\"anyOf\":[{\"minimum\":1},{\"maximum\":2}]}", 12, "]}"), false), PONDER_E_RANGE);
    try(repeated("{\"enum\":[0", ",\"abcdefgh\"", 100000, "]}"), false);
    try(repeated("{\"type\":\"object\",\"properties\":{\"k\":{}", ",\"k\":{}", 100000, "}}"), false);
    try(repeated("{\"prefixItems\":[true", ",{\"type\":\"string\"}", 50000, "]}"), false);
    try(repeated("{\"required\":[\"a\"", ",\"b\"", 200000, "]}"), false);
    try(repeated("{\"oneOf\":[{\"const\":0}", ",{\"const\":1}", 20000, "]}"), false);
    pn_buf b;
    pn_buf_init(&b, NULL); /* 10,000 references in a row; 10,000 members; 1 MB each */
    pn_buf_puts(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{\"d10000\":{}");
    for (int i = 0; i < 10000; i++) pn_buf_printf(&b, ",\"d%d\":{\"$ref\":\"#/$defs/d%d\"}", i, i + 1);
    pn_buf_put(&b, "}}", 3);
    assert_int_equal(try(b.p, false), PONDER_E_RANGE);
    pn_buf_init(&b, NULL);
    pn_buf_puts(&b, "{\"type\":\"object\",\"properties\":{\"\":{}");
    for (int i = 0; i < 20000; i++) pn_buf_printf(&b, ",\"member_number_%d\":{\"type\":\"string\"}", i);
    pn_buf_put(&b, "}}", 3);
    assert_int_equal(try(b.p, false), PONDER_E_RANGE);
    pn_buf_init(&b, NULL);
    pn_buf_puts(&b, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"\":{}");
    for (int i = 0; i < 4000; i++) pn_buf_printf(&b, ",\"member_number_%d\":{\"type\":\"integer\"}", i);
    pn_buf_put(&b, "}}", 3);
    assert_int_equal(try(b.p, false), PONDER_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_mean_what_they_say), cmocka_unit_test(patterns_that_are_refused), cmocka_unit_test(schemas_that_are_refused),
        cmocka_unit_test(notes_are_ignored_and_unused_parts_not_read), cmocka_unit_test(white_space_is_bounded), cmocka_unit_test(strings_are_whole_characters),
        cmocka_unit_test(integer_ranges), cmocka_unit_test(number_ranges), cmocka_unit_test(closed_objects_on_demand), cmocka_unit_test(pieces_follow_each_other),
        cmocka_unit_test(muse_calls), cmocka_unit_test(hostile_patterns), cmocka_unit_test(hostile_schemas)};
    return cmocka_run_group_tests(tests, load, unload);
}
