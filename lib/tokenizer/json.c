/* A tokenizer from Hugging Face's tokenizer.json. */
#include "tokenizer/internal.h"

#include <inttypes.h>

#include "base/json.h"

enum { MAX_NESTING = 64 };

/* The vocabulary and the merges are most of such a file: they stay text, which is walked and never becomes values. */
typedef struct reader {
    const ponder_alloc *a;
    ponder_error *err;
    pn_json doc;
    const pn_value *root, *model, *vocab, *added;
    pn_tokenizer *t;
    bool byte_level, metaspace, nfc;
    pn_prefix prefix;
    bool prefix_unless_space;
    uint32_t *key_at; /* where in the vocabulary's text the key of an id is; 0: it has none */
    uint32_t n;       /* ids */
    int64_t most;     /* the largest id that may be */
    pn_buf key, part[2];
    uint32_t merged;          /* the last token that a merge made */
} reader;

/* ---- JSON at hand ---- */

static pn_str text_of(const pn_value *v)
{
    pn_str s = {"", 0};
    pn_value_str(v, &s);
    return s;
}

static bool flag_of(const pn_value *object, const char *key, bool missing)
{
    pn_value_bool(pn_get(object, key), &missing);
    return missing;
}

static ponder_status unsupported(const reader *r, const char *what, const pn_value *type)
{
    const pn_str s = text_of(type);
    return pn_fail(r->err, PONDER_E_UNSUPPORTED, "tokenizer.json: %s \"%.*s\"", what, (int)PN_MIN(s.n, 80), s.p);
}

static ponder_status parse(reader *r, const char *p, size_t n)
{
    static const char *const raw[] = {"vocab", "merges", NULL};
    const pn_json_options o = {.what = "tokenizer.json", .depth = MAX_NESTING, .unique = true, .raw = raw};
    ponder_status s = pn_json_read_as(&r->doc, p, n, &o, r->a, r->err);
    if (s) return s;
    r->root = pn_json_root(&r->doc);
    r->model = pn_get(r->root, "model");
    r->vocab = pn_get(r->model, "vocab");
    r->added = pn_get(r->root, "added_tokens");
    const pn_value *type = pn_get(r->model, "type");
    if (r->model->type != PN_V_DICT) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: no model");
    if (type->type && !pn_is(type, "BPE")) return unsupported(r, "model type", type);
    if (r->vocab->type != PN_V_DICT) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: model.vocab is no object");
    if (r->added->type && r->added->type != PN_V_LIST)
        return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: added_tokens is no list");
    const pn_value *before = pn_get(r->model, "continuing_subword_prefix");
    const pn_value *after = pn_get(r->model, "end_of_word_suffix");
    if (text_of(before).n) return unsupported(r, "continuing_subword_prefix", before);
    if (text_of(after).n) return unsupported(r, "end_of_word_suffix", after);
    return PONDER_OK;
}

/* Begins a walk over a list or dict that stayed text. */
static pn_json_scan walk(const pn_value *v)
{
    pn_json_scan s;
    pn_json_scan_init(&s, v->text.p, v->text.n, MAX_NESTING);
    pn_json_next(&s);
    return s;
}

/* ---- lists of stages: one object, or a Sequence of them ---- */

typedef ponder_status (*stage_fn)(reader *r, const pn_value *stage, const pn_value *type);

static ponder_status each_stage(reader *r, const char *key, const char *list, stage_fn fn)
{
    const pn_value *v = pn_get(r->root, key);
    if (v->type <= PN_V_NONE) return PONDER_OK;
    const pn_value *type = pn_get(v, "type");
    if (!pn_is(type, "Sequence")) return fn(r, v, type);
    const pn_value *items = pn_get(v, list);
    ponder_status s = PONDER_OK;
    for (const pn_value *item = items->type == PN_V_LIST ? items->first : NULL; item && !s; item = item->next)
        s = fn(r, item, pn_get(item, "type"));
    return s;
}

/* ---- normalizer ---- */

static ponder_status normalizer(reader *r, const pn_value *v, const pn_value *type)
{
    const pn_value *from = pn_get(pn_get(v, "pattern"), "String");
    if (pn_is(type, "NFC")) {
        r->nfc = true;
    } else if (pn_is(type, "Replace") && pn_is(from, " ") && pn_is(pn_get(v, "content"), "\xe2\x96\x81")) {
        r->metaspace = true;
    } else if (pn_is(type, "Prepend") && pn_is(pn_get(v, "prepend"), "\xe2\x96\x81")) {
        r->prefix = PREFIX_ALWAYS;
    } else {
        return unsupported(r, "normalizer", type);
    }
    return PONDER_OK;
}

/* ---- pre-tokenizer ---- */

static ponder_status metaspace(reader *r, const pn_value *v)
{
    const pn_value *scheme = pn_get(v, "prepend_scheme");
    if (!pn_is(pn_get(v, "replacement"), "\xe2\x96\x81"))
        return unsupported(r, "Metaspace replacement", pn_get(v, "replacement"));
    r->metaspace = r->prefix_unless_space = true;
    if (pn_is(scheme, "first")) r->prefix = PREFIX_FIRST;
    else if (pn_is(scheme, "always") || (!scheme->type && flag_of(v, "add_prefix_space", true))) r->prefix = PREFIX_ALWAYS;
    return PONDER_OK;
}

/* First pass: what must be known before the tokens are read. */
static ponder_status look_at_stage(reader *r, const pn_value *v, const pn_value *type)
{
    if (pn_is(type, "Metaspace")) return metaspace(r, v);
    if (!pn_is(type, "ByteLevel")) return PONDER_OK;
    r->byte_level = true;
    if (flag_of(v, "add_prefix_space", true)) {
        r->prefix = PREFIX_ALWAYS;
        r->prefix_unless_space = true;
    }
    return PONDER_OK;
}

static ponder_status split(reader *r, const pn_value *v)
{
    static const struct { const char *name; bool invert; pn_behavior behavior; } known[] = {
        {"Isolated", false, SPLIT_ISOLATED}, {"Isolated", true, SPLIT_ISOLATED},
        {"Removed", false, SPLIT_REMOVED}, {"Removed", true, SPLIT_KEEP_MATCHES},
        {"MergedWithPrevious", false, SPLIT_WITH_PREVIOUS}, {"MergedWithNext", false, SPLIT_WITH_NEXT}};
    const pn_value *pattern = pn_get(v, "pattern"), *behavior = pn_get(v, "behavior");
    const pn_value *regex = pn_get(pattern, "Regex"), *literal = pn_get(pattern, "String");
    const bool invert = flag_of(v, "invert", false);
    size_t i = 0;
    while (i < PN_COUNT(known) && !(pn_is(behavior, known[i].name) && known[i].invert == invert)) i++;
    if (i == PN_COUNT(known)) return unsupported(r, "Split behavior", behavior);
    if (regex->type == PN_V_STRING) return pn_split_add(r->t, text_of(regex), known[i].behavior, r->err);
    if (literal->type != PN_V_STRING) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: Split without a pattern");
    /* Spaces were U+2581 by then, and are kept as spaces here: a pattern of spaces never met one. */
    if (r->metaspace && memchr(text_of(literal).p, ' ', text_of(literal).n)) return PONDER_OK;
    return pn_split_add_literal(r->t, text_of(literal), known[i].behavior, r->err);
}

/* Second pass: the patterns. */
static ponder_status add_stage(reader *r, const pn_value *v, const pn_value *type)
{
    if (pn_is(type, "Split")) return split(r, v);
    if (pn_is(type, "Digits")) return pn_split_digits(r->t, flag_of(v, "individual_digits", false), r->err);
    if (pn_is(type, "ByteLevel"))
        return flag_of(v, "use_regex", true) ? pn_split_preset(r->t, pn_str_of("gpt2"), r->err) : PONDER_OK;
    if (pn_is(type, "Metaspace"))
        return flag_of(v, "split", true) ? pn_split_add_literal(r->t, pn_str_of(" "), SPLIT_WITH_NEXT, r->err) : PONDER_OK;
    return unsupported(r, "pre-tokenizer", type);
}

/* ---- tokens ---- */

static ponder_status bad_id(const reader *r, pn_str key, pn_str id)
{
    return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: token \"%.*s\" has id %.*s", (int)PN_MIN(key.n, 60), key.p,
                   (int)PN_MIN(id.n, 20), id.p);
}

/* The next member of the vocabulary; at its end the key is NULL. */
static ponder_status next_token(reader *r, pn_json_scan *s, pn_str *key, int64_t *id, uint32_t *at)
{
    *key = (pn_str){0};
    if (pn_json_next(s) != PN_J_KEY) return PONDER_OK;
    *at = (uint32_t)(s->text.p - s->p);
    if (!pn_json_string(s, &r->key, key)) return pn_nomem(r->err, s->decoded);
    const bool integer = pn_json_next(s) == PN_J_VALUE && s->type == PN_V_INT;
    if (!integer || !pn_digits_i64(s->text, 0, r->most, id)) return bad_id(r, *key, integer ? s->text : pn_str_of("-1"));
    return PONDER_OK;
}

static ponder_status measure_added(reader *r, int64_t *most, size_t *bytes)
{
    for (const pn_value *v = r->added->first; v; v = v->next) {
        const pn_value *id = pn_get(v, "id");
        const pn_str s = text_of(pn_get(v, "content"));
        int64_t n;
        if (s.n == 0 || !pn_value_i64(id, 0, r->most, &n)) return bad_id(r, s, id->type == PN_V_INT ? id->text : pn_str_of("-1"));
        *most = PN_MAX(*most, n);
        *bytes += s.n;
    }
    return PONDER_OK;
}

/* How many ids there are, and the bytes that the tokens take. */
static ponder_status measure(reader *r, size_t *bytes)
{
    pn_str key;
    int64_t id, most = -1;
    uint32_t at;
    ponder_status s;
    pn_json_scan scan = walk(r->vocab);
    /* Holes are allowed; a few entries with huge ids are not. */
    r->most = PN_MIN(8 * ((int64_t)r->vocab->count + r->added->count) + 4096, MAX_TOKENS) - 1;
    for (*bytes = 0; !(s = next_token(r, &scan, &key, &id, &at)) && key.p; *bytes += key.n) most = PN_MAX(most, id);
    if (!s) s = measure_added(r, &most, bytes);
    r->most = most;
    r->n = (uint32_t)(most + 1);
    return s;
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

static bool byte_fallback_piece(const reader *r, pn_str key, uint8_t *byte)
{
    unsigned v = 0;
    if (key.n != 6 || memcmp(key.p, "<0x", 3) != 0 || key.p[5] != '>' || !flag_of(r->model, "byte_fallback", false)) return false;
    for (int i = 3; i < 5; i++) {
        const char c = key.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'))) return false;
        v = v * 16 + (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
    }
    *byte = (uint8_t)v;
    return true;
}

static ponder_status set_ordinary(reader *r, pn_str key, uint32_t id)
{
    uint8_t byte;
    if (r->t->token[id].flags) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: id %" PRIu32 " is given twice", id);
    if (byte_fallback_piece(r, key, &byte)) {
        if (r->t->byte_id[byte] != NO_ID) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: \"%.6s\" is there twice", key.p);
        r->t->byte_id[byte] = id;
        return pn_tok_set(r->t, id, (const char *)&byte, 1, TOKEN_BYTE, r->err);
    }
    /* Where spaces are U+2581, a token with a space in it cannot come about. */
    const uint32_t flags = r->metaspace && memchr(key.p, ' ', key.n) ? TOKEN_BYTE : TOKEN_TEXT;
    if (!to_bytes(r, key, 0)) return pn_nomem(r->err, key.n);
    return pn_tok_set(r->t, id, r->part[0].p, r->part[0].n, flags, r->err);
}

/* Whether the vocabulary has that text under that id. */
static bool is_copy(reader *r, pn_str s, uint32_t id)
{
    pn_json_scan scan;
    pn_str key;
    const uint32_t at = r->key_at[id];
    if (!at) return false;
    pn_json_scan_init(&scan, r->vocab->text.p + at - 1, r->vocab->text.n - at + 1, 0);
    pn_json_next(&scan);
    return pn_json_string(&scan, &r->key, &key) && key.n == s.n && memcmp(key.p, s.p, s.n) == 0;
}

static ponder_status set_added(reader *r, const pn_value *v)
{
    const pn_str s = text_of(pn_get(v, "content"));
    int64_t n = 0;
    pn_value_i64(pn_get(v, "id"), 0, r->most, &n);
    const uint32_t id = (uint32_t)n;
    const bool control = flag_of(v, "special", false) || pn_tok_is_delimiter(s.p, s.n);
    /* A copy in the vocabulary can also be reached by merging, unless it is a control token. */
    const bool copy = is_copy(r, s, id);
    if (r->key.failed) return pn_nomem(r->err, s.n);
    if (r->t->token[id].flags && !copy)
        return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: added token \"%.*s\" has the id %" PRIu32 " of another",
                       (int)PN_MIN(s.n, 60), s.p, id);
    const uint32_t text = copy ? r->t->token[id].flags & TOKEN_TEXT : 0;
    if (!r->metaspace || !memmem(s.p, s.n, "\xe2\x96\x81", 3))
        return pn_tok_set(r->t, id, s.p, s.n, control ? TOKEN_CONTROL : TOKEN_USER | text, r->err);
    /* Added tokens are looked for before spaces become U+2581, so a run of U+2581 is reached by merging alone. */
    if (!to_bytes(r, s, 0)) return pn_nomem(r->err, s.n);
    return pn_tok_set(r->t, id, r->part[0].p, r->part[0].n, control ? TOKEN_CONTROL : text ? text : TOKEN_BYTE, r->err);
}

static ponder_status set_each(reader *r)
{
    pn_str key;
    int64_t id;
    uint32_t at;
    ponder_status s;
    pn_json_scan scan = walk(r->vocab);
    while (!(s = next_token(r, &scan, &key, &id, &at)) && key.p) {
        if ((s = set_ordinary(r, key, (uint32_t)id))) return s;
        r->key_at[id] = at;
    }
    for (const pn_value *v = r->added->first; v && !s; v = v->next) s = set_added(r, v);
    return s;
}

static ponder_status set_tokens(reader *r)
{
    r->key_at = pn_zalloc_array(r->a, r->n, sizeof *r->key_at);
    if (!r->key_at) return pn_nomem(r->err, r->n * sizeof *r->key_at);
    ponder_status s = set_each(r);
    pn_free(r->a, r->key_at, r->n * sizeof *r->key_at);
    return s ? s : pn_tok_index(r->t, r->err);
}

/* ---- merges: "left right" or ["left", "right"] ---- */

/* One string, or its two halves; n 0: it is neither. */
static ponder_status halves(reader *r, const pn_json_scan *s, size_t n[2])
{
    pn_str text;
    if (!pn_json_string(s, &r->key, &text)) return pn_nomem(r->err, s->decoded);
    const char *space = text.n > 2 ? memchr(text.p + 1, ' ', text.n - 1) : NULL;
    n[0] = space ? (size_t)(space - text.p) : 0;
    n[1] = space ? text.n - n[0] - 1 : 0;
    if (space && (!to_bytes(r, (pn_str){text.p, n[0]}, 0) || !to_bytes(r, (pn_str){space + 1, n[1]}, 1))) return pn_nomem(r->err, text.n);
    return PONDER_OK;
}

static ponder_status pair(reader *r, pn_json_scan *s, size_t n[2])
{
    for (int i = 0; i < 2; i++) {
        pn_str text;
        if (pn_json_next(s) != PN_J_VALUE || s->type != PN_V_STRING) return PONDER_OK;
        if (!pn_json_string(s, &r->key, &text) || !to_bytes(r, text, i)) return pn_nomem(r->err, s->decoded);
        n[i] = text.n;
    }
    if (pn_json_next(s) != PN_J_CLOSE) n[0] = 0;
    return PONDER_OK;
}

static ponder_status add_merge(reader *r, pn_json_scan *s, pn_json_event e, uint32_t i)
{
    ponder_status st = PONDER_OK;
    size_t n[2] = {0, 0};
    if (e == PN_J_VALUE && s->type == PN_V_STRING) st = halves(r, s, n);
    else if (e == PN_J_OPEN && s->type == PN_V_LIST) st = pair(r, s, n);
    if (st) return st;
    if (n[0] == 0 || n[1] == 0) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: merge %" PRIu32 " is not two tokens", i);
    const size_t left = r->part[0].n;
    if (!pn_buf_put(&r->part[0], r->part[1].p, r->part[1].n)) return pn_nomem(r->err, r->part[1].n);
    return pn_tok_add_pair(r->t, (pn_str){r->part[0].p, r->part[0].n}, left, i, &r->merged, r->err);
}

static ponder_status set_merges(reader *r)
{
    const pn_value *merges = pn_get(r->model, "merges");
    if (merges->type != PN_V_LIST) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: model.merges is no list");
    if (merges->count > MAX_TOKENS) return pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.json: too many merges");
    ponder_status s = pn_tok_pairs(r->t, merges->count, r->err);
    r->merged = NO_ID;
    pn_json_scan scan = walk(merges);
    for (uint32_t i = 0; i < merges->count && !s; i++) s = add_merge(r, &scan, pn_json_next(&scan), i);
    return s;
}

/* ---- post-processor: a special token before the text is bos ---- */

static ponder_status post_processor(reader *r, const pn_value *v, const pn_value *type)
{
    if (!pn_is(type, "TemplateProcessing")) return PONDER_OK;
    const pn_value *first = pn_at(pn_get(v, "single"), 0);
    const pn_str name = text_of(pn_get(pn_get(first, "SpecialToken"), "id"));
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
    const pn_str unk = text_of(pn_get(r->model, "unk_token"));
    t->metaspace = r->metaspace;
    t->nfc = r->nfc;
    t->prefix = r->prefix;
    t->prefix_unless_space = r->prefix_unless_space;
    t->fuse_unknown = flag_of(r->model, "fuse_unk", false);
    t->unk = pn_tokenizer_find(t, unk.p, unk.n);
}

static ponder_status build(reader *r)
{
    size_t bytes = 0;
    ponder_status s = each_stage(r, "normalizer", "normalizers", normalizer);
    if (!s) s = each_stage(r, "pre_tokenizer", "pretokenizers", look_at_stage);
    if (!s) s = measure(r, &bytes);
    if (!s) s = pn_tok_new(&r->t, r->byte_level ? PN_VOCAB_BPE : PN_VOCAB_SPM, r->n, bytes, r->a, r->err);
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
    pn_buf_init(&r.key, a);
    for (int i = 0; i < 2; i++) pn_buf_init(&r.part[i], a);
    ponder_status s = parse(&r, json, n);
    if (!s) s = build(&r);
    for (int i = 0; i < 2; i++) pn_buf_free(&r.part[i]);
    pn_buf_free(&r.key);
    pn_json_free(&r.doc);
    if (s) pn_tokenizer_free(r.t);
    else *out = r.t;
    return s;
}
