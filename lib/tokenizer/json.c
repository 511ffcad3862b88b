/* A tokenizer from Hugging Face's tokenizer.json. */
#include "tokenizer/internal.h"

#include <inttypes.h>
#include <jansson.h>

enum { MAX_NESTING = 64 }; /* jansson descends by recursion, for which a small stack has no room */

typedef struct reader {
    const ponder_alloc *a;
    ponder_error *err;
    json_t *root, *model, *vocab, *added;
    pn_tokenizer *t;
    bool byte_level, metaspace, nfc;
    pn_prefix prefix;
    bool prefix_unless_space;
    pn_buf part[3];
} reader;

/* ---- JSON at hand ---- */

static pn_str text_of(const json_t *v)
{
    return json_is_string(v) ? (pn_str){json_string_value(v), json_string_length(v)} : (pn_str){"", 0};
}

static bool is_text(const json_t *v, const char *text)
{
    return json_is_string(v) && pn_str_eq(text_of(v), text);
}

static bool flag_of(const json_t *object, const char *key, bool missing)
{
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : missing;
}

static ponder_status unsupported(const reader *r, const char *what, const json_t *type)
{
    const pn_str s = text_of(type);
    return pn_fail(r->err, PONDER_E_UNSUPPORTED, "tokenizer.json: %s \"%.*s\"", what, (int)PN_MIN(s.n, 80), s.p);
}

static ponder_status parse(reader *r, const char *p, size_t n)
{
    json_error_t e = {0}; /* jansson leaves it alone when its very first allocation fails */
    if (!pn_json_depth_ok(p, n, MAX_NESTING)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: nested too deep");
    r->root = json_loadb(p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!r->root && (!e.text[0] || json_error_code(&e) == json_error_out_of_memory)) return pn_nomem(r->err, n);
    if (!r->root) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: line %d: %s", e.line, e.text);
    r->model = json_object_get(r->root, "model");
    r->vocab = json_object_get(r->model, "vocab");
    r->added = json_object_get(r->root, "added_tokens");
    const json_t *type = json_object_get(r->model, "type");
    if (!json_is_object(r->model)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: no model");
    if (type && !is_text(type, "BPE")) return unsupported(r, "model type", type);
    if (!json_is_object(r->vocab)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: model.vocab is no object");
    if (r->added && !json_is_array(r->added)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: added_tokens is no list");
    const json_t *before = json_object_get(r->model, "continuing_subword_prefix");
    const json_t *after = json_object_get(r->model, "end_of_word_suffix");
    if (text_of(before).n) return unsupported(r, "continuing_subword_prefix", before);
    if (text_of(after).n) return unsupported(r, "end_of_word_suffix", after);
    return PONDER_OK;
}

/* ---- lists of stages: one object, or a Sequence of them ---- */

typedef ponder_status (*stage_fn)(reader *r, const json_t *stage, const json_t *type);

static ponder_status each_stage(reader *r, const char *key, const char *list, stage_fn fn)
{
    const json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v)) return PONDER_OK;
    const json_t *type = json_object_get(v, "type");
    if (!is_text(type, "Sequence")) return fn(r, v, type);
    const json_t *items = json_object_get(v, list);
    ponder_status s = PONDER_OK;
    for (size_t i = 0; i < json_array_size(items) && !s; i++) {
        const json_t *item = json_array_get(items, i);
        s = fn(r, item, json_object_get(item, "type"));
    }
    return s;
}

/* ---- normalizer ---- */

static ponder_status normalizer(reader *r, const json_t *v, const json_t *type)
{
    const json_t *from = json_object_get(json_object_get(v, "pattern"), "String");
    if (is_text(type, "NFC")) {
        r->nfc = true;
    } else if (is_text(type, "Replace") && is_text(from, " ") && is_text(json_object_get(v, "content"), "\xe2\x96\x81")) {
        r->metaspace = true;
    } else if (is_text(type, "Prepend") && is_text(json_object_get(v, "prepend"), "\xe2\x96\x81")) {
        r->prefix = PREFIX_ALWAYS;
    } else {
        return unsupported(r, "normalizer", type);
    }
    return PONDER_OK;
}

/* ---- pre-tokenizer ---- */

static ponder_status metaspace(reader *r, const json_t *v)
{
    const json_t *scheme = json_object_get(v, "prepend_scheme");
    if (!is_text(json_object_get(v, "replacement"), "\xe2\x96\x81"))
        return unsupported(r, "Metaspace replacement", json_object_get(v, "replacement"));
    r->metaspace = r->prefix_unless_space = true;
    if (is_text(scheme, "first")) r->prefix = PREFIX_FIRST;
    else if (is_text(scheme, "always") || (!scheme && flag_of(v, "add_prefix_space", true))) r->prefix = PREFIX_ALWAYS;
    return PONDER_OK;
}

/* First pass: what must be known before the tokens are read. */
static ponder_status look_at_stage(reader *r, const json_t *v, const json_t *type)
{
    if (is_text(type, "Metaspace")) return metaspace(r, v);
    if (!is_text(type, "ByteLevel")) return PONDER_OK;
    r->byte_level = true;
    if (flag_of(v, "add_prefix_space", true)) {
        r->prefix = PREFIX_ALWAYS;
        r->prefix_unless_space = true;
    }
    return PONDER_OK;
}

static ponder_status split(reader *r, const json_t *v)
{
    static const struct { const char *name; bool invert; pn_behavior behavior; } known[] = {
        {"Isolated", false, SPLIT_ISOLATED}, {"Isolated", true, SPLIT_ISOLATED},
        {"Removed", false, SPLIT_REMOVED}, {"Removed", true, SPLIT_KEEP_MATCHES},
        {"MergedWithPrevious", false, SPLIT_WITH_PREVIOUS}, {"MergedWithNext", false, SPLIT_WITH_NEXT}};
    const json_t *pattern = json_object_get(v, "pattern"), *behavior = json_object_get(v, "behavior");
    const json_t *regex = json_object_get(pattern, "Regex"), *literal = json_object_get(pattern, "String");
    const bool invert = flag_of(v, "invert", false);
    size_t i = 0;
    while (i < PN_COUNT(known) && !(is_text(behavior, known[i].name) && known[i].invert == invert)) i++;
    if (i == PN_COUNT(known)) return unsupported(r, "Split behavior", behavior);
    if (json_is_string(regex)) return pn_split_add(r->t, text_of(regex), known[i].behavior, r->err);
    if (!json_is_string(literal)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: Split without a pattern");
    /* Spaces were U+2581 by then, and are kept as spaces here: a pattern of spaces never met one. */
    if (r->metaspace && memchr(text_of(literal).p, ' ', text_of(literal).n)) return PONDER_OK;
    return pn_split_add_literal(r->t, text_of(literal), known[i].behavior, r->err);
}

/* Second pass: the patterns. */
static ponder_status add_stage(reader *r, const json_t *v, const json_t *type)
{
    if (is_text(type, "Split")) return split(r, v);
    if (is_text(type, "Digits")) return pn_split_digits(r->t, flag_of(v, "individual_digits", false), r->err);
    if (is_text(type, "ByteLevel"))
        return flag_of(v, "use_regex", true) ? pn_split_preset(r->t, pn_str_of("gpt2"), r->err) : PONDER_OK;
    if (is_text(type, "Metaspace"))
        return flag_of(v, "split", true) ? pn_split_add_literal(r->t, pn_str_of(" "), SPLIT_WITH_NEXT, r->err) : PONDER_OK;
    return unsupported(r, "pre-tokenizer", type);
}

/* ---- tokens ---- */

static ponder_status bad_id(const reader *r, const char *key, const json_t *id)
{
    return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: token \"%.60s\" has id %" JSON_INTEGER_FORMAT, key,
                   json_is_integer(id) ? json_integer_value(id) : -1);
}

/* One more than the largest id, and the bytes that the tokens take. */
static ponder_status measure(reader *r, uint32_t *n, size_t *bytes)
{
    const char *key;
    json_t *v;
    size_t i;
    json_int_t most = -1;
    /* Holes are allowed; a few entries with huge ids are not. */
    const json_int_t limit = PN_MIN(8 * ((json_int_t)json_object_size(r->vocab) + (json_int_t)json_array_size(r->added)) + 4096, MAX_TOKENS);
    *bytes = 0;
    json_object_foreach(r->vocab, key, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= limit) return bad_id(r, key, v);
        most = PN_MAX(most, json_integer_value(v));
        *bytes += strlen(key);
    }
    json_array_foreach(r->added, i, v)
    {
        const json_t *id = json_object_get(v, "id");
        const pn_str s = text_of(json_object_get(v, "content"));
        if (!json_is_integer(id) || s.n == 0 || json_integer_value(id) < 0 || json_integer_value(id) >= limit) return bad_id(r, s.p, id);
        most = PN_MAX(most, json_integer_value(id));
        *bytes += s.n;
    }
    *n = (uint32_t)(most + 1);
    return PONDER_OK;
}

/* A token's or merge part's text as bytes, in r->part[i]. */
static bool to_bytes(reader *r, pn_str s, int i)
{
    pn_buf *b = &r->part[i];
    b->n = 0;
    if (r->byte_level) pn_bytes_from_unicode(s, b);
    else if (r->metaspace) pn_spaces_from_meta(s, b);
    else pn_buf_put(b, s.p, s.n);
    return !b->failed && pn_buf_reserve(b, 1); /* p is never NULL */
}

static bool byte_fallback_piece(const reader *r, const char *key, uint8_t *byte)
{
    unsigned v = 0;
    if (!flag_of(r->model, "byte_fallback", false) || strlen(key) != 6 || memcmp(key, "<0x", 3) != 0 || key[5] != '>') return false;
    for (int i = 3; i < 5; i++) {
        const char c = key[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'))) return false;
        v = v * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
    }
    *byte = (uint8_t)v;
    return true;
}

static ponder_status set_ordinary(reader *r, const char *key, uint32_t id)
{
    uint8_t byte;
    if (r->t->token[id].flags) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: id %" PRIu32 " is given twice", id);
    if (byte_fallback_piece(r, key, &byte)) {
        r->t->byte_id[byte] = id;
        return pn_tok_set(r->t, id, (const char *)&byte, 1, TOKEN_BYTE, r->err);
    }
    /* Where spaces are U+2581, a token with a space in it cannot come about. */
    const uint32_t flags = r->metaspace && strchr(key, ' ') ? TOKEN_BYTE : TOKEN_TEXT;
    if (!to_bytes(r, pn_str_of(key), 0)) return pn_nomem(r->err, strlen(key));
    return pn_tok_set(r->t, id, r->part[0].p, r->part[0].n, flags, r->err);
}

static ponder_status set_added(reader *r, const json_t *v)
{
    const pn_str s = text_of(json_object_get(v, "content"));
    const uint32_t id = (uint32_t)json_integer_value(json_object_get(v, "id"));
    const bool control = flag_of(v, "special", false) || pn_tok_is_delimiter(s.p, s.n);
    /* A copy in the vocabulary can also be reached by merging, unless it is a control token. */
    const json_t *copy = json_object_getn(r->vocab, s.p, s.n);
    if (r->t->token[id].flags && (!copy || json_integer_value(copy) != (json_int_t)id))
        return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: added token \"%.*s\" has the id %" PRIu32 " of another",
                       (int)PN_MIN(s.n, 60), s.p, id);
    const uint32_t text = copy ? r->t->token[id].flags & TOKEN_TEXT : 0;
    if (!r->metaspace || !memmem(s.p, s.n, "\xe2\x96\x81", 3))
        return pn_tok_set(r->t, id, s.p, s.n, control ? TOKEN_CONTROL : TOKEN_USER | text, r->err);
    /* Added tokens are looked for before spaces become U+2581, so a run of U+2581 is reached by merging alone. */
    if (!to_bytes(r, s, 0)) return pn_nomem(r->err, s.n);
    return pn_tok_set(r->t, id, r->part[0].p, r->part[0].n, control ? TOKEN_CONTROL : text ? text : TOKEN_BYTE, r->err);
}

static ponder_status set_tokens(reader *r)
{
    const char *key;
    json_t *v;
    size_t i;
    ponder_status s;
    json_object_foreach(r->vocab, key, v)
    {
        if ((s = set_ordinary(r, key, (uint32_t)json_integer_value(v)))) return s;
    }
    json_array_foreach(r->added, i, v)
    {
        if ((s = set_added(r, v))) return s;
    }
    return pn_tok_index(r->t, r->err);
}

/* ---- merges: "left right" or ["left", "right"] ---- */

static ponder_status add_merge(reader *r, const json_t *v, uint32_t i)
{
    pn_str left = {0}, right = {0};
    if (json_is_string(v)) {
        const pn_str s = text_of(v);
        const char *space = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        if (space) {
            left = (pn_str){s.p, (size_t)(space - s.p)};
            right = (pn_str){space + 1, s.n - left.n - 1};
        }
    } else if (json_array_size(v) == 2) {
        left = text_of(json_array_get(v, 0));
        right = text_of(json_array_get(v, 1));
    }
    if (left.n == 0 || right.n == 0) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: merge %" PRIu32 " is not two tokens", i);
    if (!to_bytes(r, left, 0) || !to_bytes(r, right, 1)) return pn_nomem(r->err, left.n + right.n);
    return pn_tok_add_pair(r->t, (pn_str){r->part[0].p, r->part[0].n}, (pn_str){r->part[1].p, r->part[1].n}, i, &r->part[2], r->err);
}

static ponder_status set_merges(reader *r)
{
    const json_t *merges = json_object_get(r->model, "merges");
    if (!json_is_array(merges)) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: model.merges is no list");
    if (json_array_size(merges) > MAX_TOKENS) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: too many merges");
    const uint32_t n = (uint32_t)json_array_size(merges);
    ponder_status s = pn_tok_pairs(r->t, n, r->err);
    for (uint32_t i = 0; i < n && !s; i++) s = add_merge(r, json_array_get(merges, i), i);
    return s;
}

/* ---- post-processor: a special token before the text is bos ---- */

static ponder_status post_processor(reader *r, const json_t *v, const json_t *type)
{
    if (!is_text(type, "TemplateProcessing")) return PONDER_OK;
    const json_t *first = json_array_get(json_object_get(v, "single"), 0);
    const pn_str name = text_of(json_object_get(json_object_get(first, "SpecialToken"), "id"));
    const int32_t id = pn_tokenizer_find(r->t, name.p, name.n);
    if (id < 0) return PONDER_OK;
    r->t->bos = id;
    r->t->add_bos = true;
    return PONDER_OK;
}

/* ---- all of it ---- */

static void copy_settings(reader *r)
{
    pn_tokenizer *t = r->t;
    const pn_str unk = text_of(json_object_get(r->model, "unk_token"));
    t->metaspace = r->metaspace;
    t->nfc = r->nfc;
    t->prefix = r->prefix;
    t->prefix_unless_space = r->prefix_unless_space;
    t->fuse_unknown = flag_of(r->model, "fuse_unk", false);
    t->unk = pn_tokenizer_find(t, unk.p, unk.n);
}

static ponder_status build(reader *r)
{
    uint32_t n = 0;
    size_t bytes = 0;
    ponder_status s = each_stage(r, "normalizer", "normalizers", normalizer);
    if (!s) s = each_stage(r, "pre_tokenizer", "pretokenizers", look_at_stage);
    if (!s) s = measure(r, &n, &bytes);
    if (!s) s = pn_tok_new(&r->t, r->byte_level ? PN_VOCAB_BPE : PN_VOCAB_SPM, n, bytes, r->a, r->err);
    if (s) return s;
    r->t->metaspace = r->metaspace;
    s = set_tokens(r);
    if (!s) s = set_merges(r);
    if (!s) s = each_stage(r, "pre_tokenizer", "pretokenizers", add_stage);
    if (s) return s;
    copy_settings(r);
    r->t->whole_first = flag_of(r->model, "ignore_merges", false);
    s = each_stage(r, "post_processor", "processors", post_processor);
    const int32_t unk = r->t->unk;
    pn_tok_guess_ends(r->t);
    r->t->unk = unk;
    return s;
}

ponder_status pn_tokenizer_from_json(pn_tokenizer **out, const void *json, size_t n, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!json) return pn_fail(err, PONDER_E_ARGUMENT, "tokenizer.json: no text");
    reader r = {.a = a, .err = err};
    for (int i = 0; i < 3; i++) pn_buf_init(&r.part[i], a);
    ponder_status s = parse(&r, json, n);
    if (!s) s = build(&r);
    for (int i = 0; i < 3; i++) pn_buf_free(&r.part[i]);
    json_decref(r.root);
    if (s) pn_tokenizer_free(r.t);
    else *out = r.t;
    return s;
}
