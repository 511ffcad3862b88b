/* When two answers are the same: 1,000 is 1000 and 1000.0; "(B)", "B." and "Answer: B" are B; JSON is compared as values, text
 * without case and without what stands at its ends. */
#include "agents/agents.h"

#include "base/json.h"

pn_form pn_form_by_name(const char *name)
{
    static const char *const names[] = {"", "number", "choice", "json", "text"};
    for (size_t i = 0; i < PN_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return (pn_form)i;
    return PN_FORM_ANY;
}

static bool space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }
static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static bool letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

static pn_str trim(pn_str s)
{
    while (s.n && space(s.p[0])) s.p++, s.n--;
    while (s.n && space(s.p[s.n - 1])) s.n--;
    return s;
}

/* Pairs round the whole: **bold**, `code`, $math$, "quoted", \boxed{x}. */
static pn_str unwrap(pn_str s)
{
    static const struct { const char *open, *close; } pairs[] = {
        {"**", "**"}, {"```json", "```"}, {"```", "```"}, {"`", "`"}, {"$$", "$$"}, {"$", "$"}, {"\"", "\""}, {"'", "'"}, {"\\boxed{", "}"}};
    for (size_t i = 0; i < PN_COUNT(pairs); i++) {
        const size_t a = strlen(pairs[i].open), b = strlen(pairs[i].close);
        if (s.n < a + b || memcmp(s.p, pairs[i].open, a) != 0 || memcmp(s.p + s.n - b, pairs[i].close, b) != 0) continue;
        s = trim((pn_str){s.p + a, s.n - a - b});
        i = (size_t)-1; /* once more round */
    }
    return s;
}

/* Behind "Answer:", "The final answer is" and their like. */
static pn_str behind_label(pn_str s)
{
    static const char *const words[] = {"the ", "final ", "correct ", "answer", "option", "choice", " is", ":", " "};
    size_t at = 0;
    bool label = false;
    for (size_t i = 0; i < PN_COUNT(words); i++) {
        const size_t n = strlen(words[i]);
        bool same = s.n - at >= n;
        for (size_t k = 0; same && k < n; k++) same = lower(s.p[at + k]) == words[i][k];
        if (!same) continue;
        if (i >= 3 && i <= 5) label = true;
        else if (i > 5 && !label) continue;
        at += n;
        if (i >= 6) i = 5; /* " is", ":" and blanks in any order */
    }
    /* "Answers differ" is no label: it ends in something that is not a letter. */
    if (!label || (at < s.n && at > 0 && letter(s.p[at - 1]) && letter(s.p[at]))) return s;
    return trim((pn_str){s.p + at, s.n - at});
}

static pn_str core(pn_str s)
{
    s = unwrap(trim(s));
    pn_str t = behind_label(s);
    return t.n ? unwrap(t) : s;
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* A decimal number that is all of s, after a currency sign and before a full stop or a percent sign; commas group three digits. Its
 * normal form has no zeros in front and none behind the point; an exponent is kept as it is. */
static bool number(pn_buf *out, pn_str s)
{
    size_t i = 0;
    if (s.n && s.p[s.n - 1] == '.') s.n--;
    const bool percent = s.n && s.p[s.n - 1] == '%';
    if (percent) s = trim((pn_str){s.p, s.n - 1});
    bool minus = false;
    if (i < s.n && (s.p[i] == '-' || s.p[i] == '+')) minus = s.p[i++] == '-';
    if (i < s.n && s.p[i] == '$') i++;
    const size_t from = i;
    size_t whole_end, group = 0, digits = 0, commas = 0;
    for (; i < s.n && (digit(s.p[i]) || s.p[i] == ','); i++) {
        if (s.p[i] == ',') {
            if (group == 0 || group > 3 || (commas && group != 3)) return false;
            commas++;
            group = 0;
        } else {
            group++;
            digits++;
        }
    }
    if (commas && group != 3) return false;
    whole_end = i;
    size_t fraction = 0, fraction_from = i + 1;
    if (i < s.n && s.p[i] == '.')
        for (i++; i < s.n && digit(s.p[i]); i++) fraction++;
    if (digits + fraction == 0) return false;
    const size_t exponent = i;
    if (i < s.n && lower(s.p[i]) == 'e') {
        i++;
        if (i < s.n && (s.p[i] == '-' || s.p[i] == '+')) i++;
        const size_t n = i;
        while (i < s.n && digit(s.p[i])) i++;
        if (i == n) return false;
    }
    if (i != s.n) return false;
    while (fraction && s.p[fraction_from + fraction - 1] == '0') fraction--;
    const size_t start = out->n;
    for (size_t k = from; k < whole_end; k++)
        if (s.p[k] != ',' && (s.p[k] != '0' || out->n > start)) pn_buf_put(out, s.p + k, 1);
    const bool zero = out->n == start && fraction == 0;
    if (out->n == start) pn_buf_puts(out, "0");
    if (fraction) {
        pn_buf_puts(out, ".");
        pn_buf_put(out, s.p + fraction_from, fraction);
    }
    for (size_t k = exponent; k < s.n; k++) {
        const char c = lower(s.p[k]);
        pn_buf_put(out, &c, 1);
    }
    if (percent) pn_buf_puts(out, "%");
    if (minus && !zero && !out->failed) {
        pn_buf_puts(out, "-"); /* in front: room for it is there now */
        if (out->failed) return true;
        memmove(out->p + start + 1, out->p + start, out->n - start - 1);
        out->p[start] = '-';
    }
    return true;
}

/* The last number in a text that is more than a number. */
static bool last_number(pn_buf *out, pn_str s)
{
    size_t end = s.n;
    while (end > 0) {
        while (end > 0 && !digit(s.p[end - 1])) end--;
        size_t from = end;
        while (from > 0 && (digit(s.p[from - 1]) || s.p[from - 1] == ',' || s.p[from - 1] == '.')) from--;
        while (from < end && !digit(s.p[from])) from++;
        if (from < end) {
            if (from > 0 && s.p[from - 1] == '-' && (from == 1 || space(s.p[from - 2]) || s.p[from - 2] == '=')) from--;
            if (number(out, (pn_str){s.p + from, end - from})) return true;
            end = from;
        }
    }
    return false;
}

/* ---- choices -------------------------------------------------------------------------------------------- */

/* One letter that is all there is, but for brackets and what follows it: "B", "(b)", "B.", "B) Paris". `strict`: nothing but a
 * closing mark follows. */
static bool choice(pn_buf *out, pn_str s, bool strict)
{
    size_t i = 0;
    const bool open = s.n && (s.p[0] == '(' || s.p[0] == '[');
    i += open;
    if (i >= s.n || !letter(s.p[i])) return false;
    const char c = (char)(lower(s.p[i++]) - 32);
    if (i < s.n && open && s.p[i] != ')' && s.p[i] != ']') return false;
    const bool mark = i < s.n && (s.p[i] == ')' || s.p[i] == ']' || s.p[i] == '.' || s.p[i] == ':');
    i += mark;
    if (i < s.n && s.p[i] == '.') i++;
    if (i < s.n && (strict || !mark || !space(s.p[i]))) return false;
    return pn_buf_put(out, &c, 1) || out->failed;
}

/* ---- JSON ------------------------------------------------------------------------------------------------ */

static int by_key(const pn_value *a, const pn_value *b)
{
    const int c = memcmp(a->key.p, b->key.p, PN_MIN(a->key.n, b->key.n));
    return c ? c : (a->key.n > b->key.n) - (a->key.n < b->key.n);
}

/* The member whose key comes next after `last` (NULL: the first). */
static const pn_value *next_key(const pn_value *dict, const pn_value *last)
{
    const pn_value *best = NULL;
    for (const pn_value *v = dict->first; v; v = v->next)
        if ((!last || by_key(v, last) > 0) && (!best || by_key(v, best) < 0)) best = v;
    return best;
}

static void put_string(pn_buf *out, pn_str s)
{
    pn_buf_printf(out, "\"%zu:", s.n); /* its length tells where it ends */
    pn_buf_put(out, s.p, s.n);
}

/* Members in order of their keys, numbers in their normal form, no blanks. Depth is what the reader allows. */
static void put_value(pn_buf *out, const pn_value *v)
{
    const pn_value *m = NULL;
    switch (v->type) {
    case PN_V_BOOL: pn_buf_puts(out, v->flag ? "true" : "false"); break;
    case PN_V_INT: number(out, v->text); break;
    case PN_V_STRING: put_string(out, v->text); break;
    case PN_V_LIST:
        pn_buf_puts(out, "[");
        for (m = v->first; m; m = m->next) {
            put_value(out, m);
            if (m->next) pn_buf_puts(out, ",");
        }
        pn_buf_puts(out, "]");
        break;
    case PN_V_DICT:
        pn_buf_puts(out, "{");
        while ((m = next_key(v, m)) != NULL) {
            put_string(out, m->key);
            pn_buf_puts(out, ":");
            put_value(out, m);
            pn_buf_puts(out, ";");
        }
        pn_buf_puts(out, "}");
        break;
    case PN_V_FLOAT: {
        /* Its value: 1.0, 1.00 and 1 are one number, and 1e2 is 100. */
        const double r = v->real;
        if (r == (double)(int64_t)PN_MAX(PN_MIN(r, 9e15), -9e15)) pn_buf_printf(out, "%lld", (long long)r);
        else {
            uint64_t bits;
            memcpy(&bits, &r, sizeof bits);
            pn_buf_printf(out, "f%llx", (unsigned long long)bits);
        }
        break;
    }
    default: pn_buf_puts(out, "null"); break;
    }
}

enum { DEPTH = 32 };

/* *is false: the text is no JSON. */
static ponder_status json(pn_buf *out, pn_str s, bool containers, bool *is, const ponder_alloc *a, ponder_error *err)
{
    static const pn_json_options o = {.depth = DEPTH};
    pn_json doc;
    *is = false;
    if (s.n == 0 || (containers && s.p[0] != '{' && s.p[0] != '[')) return PONDER_OK;
    ponder_error kept = {.size = sizeof kept};
    ponder_status st = pn_json_read_as(&doc, s.p, s.n, &o, a, &kept);
    if (st == PONDER_E_NOMEM && err) *err = kept;
    if (st != PONDER_OK) return st == PONDER_E_NOMEM ? st : PONDER_OK;
    *is = true;
    put_value(out, pn_json_root(&doc));
    pn_json_free(&doc);
    return PONDER_OK;
}

/* ---- text ------------------------------------------------------------------------------------------------- */

static bool mark(char c) { return (unsigned char)c < 0x80 && !letter(c) && !digit(c); }

/* Folded (ASCII, and Latin, Greek and Cyrillic capitals of two bytes), one blank between words, no marks at the ends. */
static void text(pn_buf *out, pn_str s)
{
    while (s.n && mark(s.p[0]) && s.p[0] != '-' && s.p[0] != '+') s.p++, s.n--;
    while (s.n && mark(s.p[s.n - 1]) && s.p[s.n - 1] != '%') s.n--;
    bool blank = false;
    for (size_t i = 0; i < s.n; i++) {
        if (space(s.p[i])) {
            blank = true;
            continue;
        }
        if (blank) pn_buf_puts(out, " ");
        blank = false;
        const unsigned char c = (unsigned char)s.p[i], d = i + 1 < s.n ? (unsigned char)s.p[i + 1] : 0;
        unsigned code = c >= 0xc3 && c <= 0xd0 && (d & 0xc0) == 0x80 ? (unsigned)(c & 0x1f) << 6 | (d & 0x3f) : 0;
        if ((code >= 0xc0 && code <= 0xde && code != 0xd7) || (code >= 0x391 && code <= 0x3a9) || (code >= 0x410 && code <= 0x42f)) code += 32;
        else if (code >= 0x400 && code <= 0x40f) code += 80;
        else code = 0;
        if (code) {
            const char two[2] = {(char)(0xc0 | code >> 6), (char)(0x80 | (code & 0x3f))};
            pn_buf_put(out, two, 2);
            i++;
        } else {
            const char one = lower(s.p[i]);
            pn_buf_put(out, &one, 1);
        }
    }
}

ponder_status pn_answer_normal(pn_buf *out, pn_str answer, pn_form form, const ponder_alloc *a, ponder_error *err)
{
    const pn_str s = core(answer);
    const size_t from = out->n;
    bool is = false;
    ponder_status st = PONDER_OK;
    if (form == PN_FORM_ANY || form == PN_FORM_JSON) st = json(out, s, form == PN_FORM_ANY, &is, a, err);
    if (!is && (form == PN_FORM_ANY || form == PN_FORM_NUMBER)) is = number(out, s);
    if (!is && form == PN_FORM_NUMBER) is = last_number(out, s);
    if (!is && form != PN_FORM_JSON && form != PN_FORM_TEXT && form != PN_FORM_NUMBER) is = choice(out, s, form == PN_FORM_ANY);
    if (!is && out->n > from) out->n = from;
    if (!is && st == PONDER_OK) text(out, s);
    if (st == PONDER_OK && out->failed) st = pn_nomem(err, out->n);
    return st;
}
