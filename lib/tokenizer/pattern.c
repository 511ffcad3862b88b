/* Pre-tokenisers: PCRE2 patterns applied one after the other. */
#include "tokenizer/internal.h"

#include "tokenizer/unicode_new.h"

/* ---- PCRE2 on our allocator: its free gives no size, so each block carries it ---- */

enum { HEADER = 16 };

static void *pcre_alloc(PCRE2_SIZE n, void *user)
{
    size_t bytes;
    if (!pn_add(n, HEADER, &bytes)) return NULL;
    char *p = pn_alloc(user, bytes);
    if (!p) return NULL;
    memcpy(p, &bytes, sizeof bytes);
    return p + HEADER;
}

static void pcre_free(void *p, void *user)
{
    if (!p) return;
    char *block = (char *)p - HEADER;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    pn_free(user, block, bytes);
}

/* ---- translation from Oniguruma's meaning to PCRE2's ---- */

/* White_Space as Unicode defines it; PCRE2's \s adds U+180E. */
static const char spaces[] = "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

static bool in_category(const char *have, const char *want, size_t n)
{
    return have[0] == want[0] && (n == 1 || have[1] == want[1]);
}

/* Characters of a category that this PCRE2 may be too old to know. */
static void put_new_characters(pn_buf *out, const char *category, size_t n)
{
    for (size_t i = 0; i < PN_COUNT(unicode_new); i++) {
        if (!in_category(unicode_new[i].category, category, n)) continue;
        const uint32_t lo = unicode_new[i].lo;
        uint32_t hi = unicode_new[i].hi;
        while (i + 1 < PN_COUNT(unicode_new) && unicode_new[i + 1].lo == hi + 1 &&
               in_category(unicode_new[i + 1].category, category, n))
            hi = unicode_new[++i].hi;
        pn_buf_printf(out, lo == hi ? "\\x{%x}" : "\\x{%x}-\\x{%x}", lo, hi);
    }
}

/* \p{X} or \P{X} at p; the length of the escape, or 0 when it is another property (PCRE2 then judges it). */
static size_t put_property(pn_buf *out, const char *p, size_t n, bool in_class)
{
    size_t name = 3, end = name;
    while (end < n && p[end] != '}') end++;
    const size_t len = end - name;
    if (n < 5 || p[2] != '{' || end == n || len < 1 || len > 2 || (p[1] == 'P' && in_class)) return 0;
    if (!memchr("LMNPS", p[name], 5)) return 0;
    if (!in_class) pn_buf_puts(out, p[1] == 'P' ? "[^" : "[");
    pn_buf_puts(out, "\\p");
    pn_buf_put(out, p + 2, end + 1 - 2);
    put_new_characters(out, p + name, len);
    if (!in_class) pn_buf_puts(out, "]");
    return end + 1;
}

/* The escape at p (p[0] is a backslash, n >= 2); how much of it was read. */
static size_t put_escape(pn_buf *out, const char *p, size_t n, bool in_class)
{
    const char c = p[1];
    if (c == 's' || (c == 'S' && !in_class)) {
        if (!in_class) pn_buf_puts(out, c == 's' ? "[" : "[^");
        pn_buf_puts(out, spaces);
        if (!in_class) pn_buf_puts(out, "]");
        return 2;
    }
    if (c == 'p' || c == 'P') {
        const size_t used = put_property(out, p, n, in_class);
        if (used) return used;
    }
    if (c == 'd') {
        put_property(out, "\\p{Nd}", 6, in_class);
        return 2;
    }
    if (c == 'u' && n >= 6) {
        pn_buf_puts(out, "\\x{");
        pn_buf_put(out, p + 2, 4);
        pn_buf_puts(out, "}");
        return 6;
    }
    pn_buf_put(out, p, 2);
    return 2;
}

static ponder_status translate(pn_buf *out, pn_str s, ponder_error *err)
{
    bool in_class = false;
    for (size_t i = 0; i < s.n;) {
        const char c = s.p[i];
        if (c == '\\' && i + 1 < s.n) {
            i += put_escape(out, s.p + i, s.n - i, in_class);
            continue;
        }
        if (in_class && (c == '[' || (c == '&' && i + 1 < s.n && s.p[i + 1] == '&')))
            return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer: a class inside a class in the pattern %.*s",
                           (int)PN_MIN(s.n, 100), s.p);
        if (c == '[') in_class = true;
        else if (c == ']') in_class = false;
        pn_buf_put(out, &c, 1);
        i++;
    }
    return out->failed ? pn_nomem(err, s.n) : PONDER_OK;
}

/* ---- compiling ---- */

static ponder_status compile_failed(int code, size_t offset, pn_str pattern, ponder_error *err)
{
    char text[120];
    /* The numbers of compile errors are positive; 121 is PCRE2's "failed to allocate heap memory". */
    if (code == 121) return pn_nomem(err, pattern.n);
    if (pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text) < 0) text[0] = 0;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer: pattern: %s at %zu in %.*s", text, offset,
                   (int)PN_MIN(pattern.n, 100), pattern.p);
}

enum { MAX_GROUPS_DEEP = 16, MAX_PATTERN = 64 << 10 };

static ponder_status compile(pn_tokenizer *t, pn_str pattern, pn_behavior behavior, ponder_error *err)
{
    if (t->n_splits == MAX_SPLITS) return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer: more than %d patterns", MAX_SPLITS);
    if (!t->pcre) t->pcre = pcre2_general_context_create(pcre_alloc, pcre_free, (void *)t->a);
    if (!t->pcre) return pn_nomem(err, 64);
    pcre2_compile_context *c = pcre2_compile_context_create(t->pcre);
    if (!c) return pn_nomem(err, 64);
    /* PCRE2 compiles by recursion, and patterns come from files: a small stack must do. */
    pcre2_set_parens_nest_limit(c, MAX_GROUPS_DEEP);
    pcre2_set_max_pattern_length(c, MAX_PATTERN);
    int code;
    PCRE2_SIZE offset;
    pn_split *s = &t->split[t->n_splits];
    s->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &code, &offset, c);
    pcre2_compile_context_free(c);
    if (!s->code) return compile_failed(code, offset, pattern, err);
    s->behavior = behavior;
    s->jit = pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE) == 0; /* without it the interpreter serves */
    t->n_splits++;
    return PONDER_OK;
}

ponder_status pn_split_add(pn_tokenizer *t, pn_str pattern, pn_behavior behavior, ponder_error *err)
{
    pn_buf b;
    pn_buf_init(&b, t->a);
    ponder_status s = translate(&b, pattern, err);
    if (!s) s = compile(t, (pn_str){b.p ? b.p : "", b.n}, behavior, err);
    pn_buf_free(&b);
    return s;
}

ponder_status pn_split_add_literal(pn_tokenizer *t, pn_str text, pn_behavior behavior, ponder_error *err)
{
    pn_buf b;
    pn_buf_init(&b, t->a);
    for (size_t i = 0; i < text.n; i++) {
        const char c = text.p[i];
        if ((uint8_t)c < 0x80) pn_buf_printf(&b, "\\x%02x", (unsigned)(uint8_t)c);
        else pn_buf_put(&b, &c, 1);
    }
    ponder_status s = b.failed ? pn_nomem(err, text.n) : compile(t, (pn_str){b.p ? b.p : "", b.n}, behavior, err);
    pn_buf_free(&b);
    return s;
}

void pn_split_free(pn_tokenizer *t)
{
    for (uint32_t i = 0; i < t->n_splits; i++) pcre2_code_free(t->split[i].code);
    t->n_splits = 0;
    pcre2_general_context_free(t->pcre);
    t->pcre = NULL;
}

/* ---- the patterns by name ---- */

#define APOSTROPHE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 APOSTROPHE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES
#define QWEN2 APOSTROPHE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES
#define LLAMA4 \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" APOSTROPHE "?" \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" APOSTROPHE "?" \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" LINES
#define CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
/* The letters DeepSeek's first models know: Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and the like. */
#define DEEPSEEK_LETTERS \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\\x{1f7d}ᾀ-ᾴᾶ-ᾼ\\x{1fbe}ῂ-ῄῆ-ῌῐ-\\x{1fd3}" \
    "ῖ-\\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
/* `\s+$`, written so that a run of spaces inside a line is looked at once, not once for each start. */
#define TRAILING "(?<!\\s)\\s++\\z"
#define DIGITS "\\p{N}" /* stands for Hugging Face's Digits stage: pn_split_digits */

typedef struct preset {
    const char *names; /* separated by spaces */
    bool whole_first, nfc;
    const char *stage[7];
} preset;

static const preset presets[] = {
    {"gpt-2 gpt2 default phi-2 mpt olmo", false, false, {GPT2}},
    {"smollm starcoder refact command-r codeshell", false, false, {DIGITS, GPT2}},
    {"llama-bpe llama3 llama-v3", true, false, {LLAMA3}},
    {"llama4 gpt-4o", true, false, {LLAMA4}},
    {"qwen2", false, true, {QWEN2}},
    {"deepseek-r1-qwen", false, false, {QWEN2}},
    {"deepseek-llm", false, false,
     {"[\\r\\n]", "\\s?[" DEEPSEEK_LETTERS "]+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+", TRAILING, CJK, DIGITS}},
    {"deepseek-coder", false, false, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, DIGITS}},
    {"deepseek-v3", false, false,
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
      "| ?[\\p{P}\\p{S}]+[\\r\\n]*" LINES}},
};

static bool names_include(const char *names, pn_str name)
{
    for (const char *p = names; *p;) {
        const size_t n = strcspn(p, " ");
        if (n == name.n && memcmp(p, name.p, n) == 0) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

ponder_status pn_split_digits(pn_tokenizer *t, bool individual, ponder_error *err)
{
    /* Rust's idea of a number is one Unicode version ahead of its regular expressions'. */
    static const char digit[] = "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]+";
    return pn_split_add(t, (pn_str){digit, sizeof digit - 1 - individual}, SPLIT_ISOLATED, err);
}

ponder_status pn_split_preset(pn_tokenizer *t, pn_str name, ponder_error *err)
{
    const preset *p = presets;
    if (name.n == 0) name = pn_str_of("default");
    while (p < presets + PN_COUNT(presets) && !names_include(p->names, name)) p++;
    if (p == presets + PN_COUNT(presets))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "tokenizer: pre-tokenizer \"%.*s\"", (int)PN_MIN(name.n, 100), name.p);
    t->whole_first = p->whole_first;
    t->nfc = p->nfc;
    ponder_status s = PONDER_OK;
    for (size_t i = 0; i < PN_COUNT(p->stage) && p->stage[i] && !s; i++) {
        const bool digits = strcmp(p->stage[i], DIGITS) == 0;
        s = digits ? pn_split_digits(t, true, err) : pn_split_add(t, pn_str_of(p->stage[i]), SPLIT_ISOLATED, err);
    }
    return s;
}

/* ---- matching ---- */

enum { JIT_STACK_START = 32 << 10, JIT_STACK_MOST = 512 << 10, HEAP_KIB = 64 << 10, MATCH_LIMIT = 1 << 30 };

ponder_status pn_split_begin(pn_work *w)
{
    if (w->t->n_splits == 0) return PONDER_OK;
    w->pcre = pcre2_general_context_create(pcre_alloc, pcre_free, (void *)w->a);
    if (!w->pcre) return pn_nomem(w->err, 64);
    w->match = pcre2_match_context_create(w->pcre);
    w->data = pcre2_match_data_create(1, w->pcre);
    if (!w->match || !w->data) return pn_nomem(w->err, 256);
    pcre2_set_heap_limit(w->match, HEAP_KIB);
    pcre2_set_match_limit(w->match, MATCH_LIMIT);
    if (!w->t->split[0].jit) return PONDER_OK;
    /* Compiled code must not use the thread's own stack, which may have 64 KB in all. */
    w->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MOST, w->pcre);
    if (!w->stack) return pn_nomem(w->err, JIT_STACK_START);
    pcre2_jit_stack_assign(w->match, NULL, w->stack);
    return PONDER_OK;
}

void pn_split_end(pn_work *w)
{
    pcre2_jit_stack_free(w->stack);
    pcre2_match_data_free(w->data);
    pcre2_match_context_free(w->match);
    pcre2_general_context_free(w->pcre);
}

/* The next match at or after `from`: PONDER_OK, PONDER_MORE when there is none. Empty matches count as none there. */
static ponder_status next_match(pn_work *w, const pn_split *s, const char *p, size_t n, size_t from, size_t *lo, size_t *hi)
{
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int r = PCRE2_ERROR_JIT_STACKLIMIT;
    if (s->jit && w->stack) r = pcre2_jit_match(s->code, (PCRE2_SPTR)p, n, from, PCRE2_NOTEMPTY, w->data, w->match);
    if (r == PCRE2_ERROR_JIT_STACKLIMIT)
        r = pcre2_match(s->code, (PCRE2_SPTR)p, n, from, options | PCRE2_NO_JIT, w->data, w->match);
    if (r == PCRE2_ERROR_NOMATCH) return PONDER_MORE;
    if (r == PCRE2_ERROR_NOMEMORY) return pn_nomem(w->err, n);
    if (r < 0) return pn_fail(w->err, PONDER_E_UNSUPPORTED, "tokenizer: the pattern takes too long on this text (%d)", r);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(w->data);
    *lo = v[0];
    *hi = v[1];
    if (*lo >= *hi || *hi > n || *lo < from) /* \K and lookbehind tricks of a hostile pattern */
        return pn_fail(w->err, PONDER_E_UNSUPPORTED, "tokenizer: the pattern moves its own match");
    return PONDER_OK;
}

ponder_status pn_split_run(pn_work *w, uint32_t stage, const char *p, size_t n)
{
    if (stage == w->t->n_splits) return pn_merge(w, p, n);
    const pn_split *s = &w->t->split[stage];
    size_t done = 0, from = 0, lo = 0, hi = 0;
    ponder_status r;
    while (from < n && !(r = next_match(w, s, p, n, from, &lo, &hi))) {
        size_t gap_end = s->behavior == SPLIT_WITH_PREVIOUS ? hi : lo;
        if (gap_end > done && s->behavior != SPLIT_KEEP_MATCHES)
            if ((r = pn_split_run(w, stage + 1, p + done, gap_end - done))) return r;
        if (s->behavior == SPLIT_ISOLATED || s->behavior == SPLIT_KEEP_MATCHES)
            if ((r = pn_split_run(w, stage + 1, p + lo, hi - lo))) return r;
        done = s->behavior == SPLIT_WITH_NEXT ? lo : hi;
        from = hi;
    }
    if (from < n && r < 0) return r;
    if (done == n || s->behavior == SPLIT_KEEP_MATCHES) return PONDER_OK;
    return pn_split_run(w, stage + 1, p + done, n - done);
}
