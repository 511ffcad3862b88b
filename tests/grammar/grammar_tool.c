/* Grammars for scripts: one JSON object a line in, one out.
 *     grammar_tool [VOCABULARY] < lines
 * in:  {"kind": "schema" | "regex" | "muse" | "call", "text": "...", "tools": [{"name": ..., "parameters": "..."}], "flags": 0,
 *       "texts": ["..."], "samples": 0, "seed": 1, "steer": 60, "hints": ["..."]}
 * out: {"status": "PONDER_OK", "error": "...", "taken": [bytes of each text; -1: it is whole], "samples": ["..."]} */
#include "support.h"

#include <jansson.h>

static pn_str str_of(const json_t *v) { return (pn_str){json_string_value(v) ? json_string_value(v) : "", json_string_length(v)}; }

static ponder_status compile(pn_grammar **g, const json_t *in, ponder_error *err)
{
    const char *kind = json_string_value(json_object_get(in, "kind"));
    const pn_str text = str_of(json_object_get(in, "text"));
    const uint32_t flags = (uint32_t)json_integer_value(json_object_get(in, "flags"));
    pn_tool_schema tools[32];
    size_t i, n = 0;
    json_t *tool;
    json_array_foreach(json_object_get(in, "tools"), i, tool)
    {
        if (n < PN_COUNT(tools)) tools[n++] = (pn_tool_schema){str_of(json_object_get(tool, "name")), str_of(json_object_get(tool, "parameters"))};
    }
    if (strcmp(kind, "regex") == 0) return pn_grammar_regex(g, text.p, text.n, NULL, err);
    if (strcmp(kind, "muse") == 0) return pn_grammar_call_muse(g, tools, n, flags, NULL, err);
    if (strcmp(kind, "call") == 0) return pn_grammar_call_json(g, tools, n, flags, NULL, err);
    return pn_grammar_schema(g, text.p, text.n, flags, NULL, err);
}

static json_t *walk_all(pn_matcher *m, const vocabulary *v, const json_t *texts, uint64_t *seed)
{
    json_t *out = json_array(), *text;
    size_t i;
    json_array_foreach(texts, i, text)
    {
        const pn_str s = str_of(text);
        pn_matcher_reset(m);
        const size_t taken = walk_text(m, v, s.p, s.n, seed);
        json_array_append_new(out, json_integer(taken == s.n ? -1 : (json_int_t)taken));
    }
    return out;
}

static json_t *sample_all(pn_matcher *m, const vocabulary *v, const json_t *in, uint64_t *seed)
{
    json_t *out = json_array(), *hint;
    pn_str hints[16];
    size_t n_hints = 0, k;
    json_array_foreach(json_object_get(in, "hints"), k, hint)
    {
        if (n_hints < PN_COUNT(hints)) hints[n_hints++] = str_of(hint);
    }
    const json_int_t n = json_integer_value(json_object_get(in, "samples")), steer = json_integer_value(json_object_get(in, "steer"));
    for (json_int_t i = 0; i < n; i++) {
        pn_buf b;
        pn_buf_init(&b, NULL);
        pn_matcher_reset(m);
        const bool ok = sample(m, v, seed, steer ? (size_t)steer : 60, hints, n_hints, &b);
        json_t *text = ok ? json_stringn(b.n ? b.p : "", b.n) : NULL; /* NULL too when it is not UTF-8 */
        json_array_append_new(out, text ? text : json_null());
        pn_buf_free(&b);
    }
    return out;
}

static void answer(const json_t *in, const vocabulary *v)
{
    pn_grammar *g;
    pn_matcher *m = NULL;
    ponder_error err = {.size = sizeof err};
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(in, "seed"));
    json_t *out = json_object();
    ponder_status st = compile(&g, in, &err);
    if (!st) st = pn_matcher_new(&m, g, v->trie, 0, PN_MATCHER_CACHE, NULL, &err);
    json_object_set_new(out, "status", json_string(ponder_status_name(st)));
    if (st) {
        json_object_set_new(out, "error", json_string(err.text));
    } else {
        json_object_set_new(out, "taken", walk_all(m, v, json_object_get(in, "texts"), &seed));
        json_object_set_new(out, "samples", sample_all(m, v, in, &seed));
    }
    pn_matcher_free(m);
    pn_grammar_free(g);
    json_dumpf(out, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(out);
}

int main(int argc, char **argv)
{
    vocabulary v;
    char *line = NULL;
    size_t cap = 0;
    if (argc < 2) vocabulary_made(&v);
    else if (!vocabulary_read(&v, argv[1])) return 2;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        if (!in) return 2;
        answer(in, &v);
        json_decref(in);
    }
    free(line);
    vocabulary_free(&v);
    return 0;
}
