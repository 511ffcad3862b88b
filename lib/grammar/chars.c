/* Characters as bytes: ranges of code points, and free text, which is the product of two small machines: one knows how
 * characters are spelt, the other guards what must not (or must in the end) be written. */
#include "grammar/nfa.h"

enum { FIRST_SURROGATE = 0xd800, LAST_SURROGATE = 0xdfff, LAST_CHAR = 0x10ffff };

/* ---- ranges of code points ------------------------------------------------------------------------------------------------ */

static size_t encode(uint32_t u, uint8_t to[4])
{
    if (u < 0x80) {
        to[0] = (uint8_t)u;
        return 1;
    }
    const size_t n = u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; u >>= 6) to[i] = (uint8_t)(0x80 | (u & 63));
    to[0] = (uint8_t)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | u);
    return n;
}

static pn_nid any_tail(pn_build *b, size_t n, pn_nid next)
{
    while (n-- > 0) next = pn_byte(b, 0x80, 0xbf, next);
    return next;
}

static bool tail_is(const uint8_t *p, size_t n, uint8_t byte)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte) return false;
    return true;
}

/* From lo to hi, both of n bytes, by their first byte; four levels at most. */
static pn_nid between(pn_build *b, const uint8_t *lo, const uint8_t *hi, size_t n, pn_nid next)
{
    if (n == 0) return next;
    if (lo[0] == hi[0]) return pn_byte(b, lo[0], lo[0], between(b, lo + 1, hi + 1, n - 1, next));
    static const uint8_t least[4] = {0x80, 0x80, 0x80, 0x80}, most[4] = {0xbf, 0xbf, 0xbf, 0xbf};
    uint32_t from = lo[0], to = hi[0];
    pn_nid at = 0;
    if (!tail_is(lo + 1, n - 1, 0x80)) {
        at = pn_byte(b, from, from, between(b, lo + 1, most, n - 1, next));
        from++;
    }
    if (!tail_is(hi + 1, n - 1, 0xbf)) {
        at = pn_split(b, at, pn_byte(b, to, to, between(b, least, hi + 1, n - 1, next)));
        to--;
    }
    if (from <= to) at = pn_split(b, at, pn_byte(b, from, to, any_tail(b, n - 1, next)));
    return at;
}

static pn_nid utf8(pn_build *b, uint32_t lo, uint32_t hi, pn_nid next)
{
    static const uint32_t ends[] = {0x7f, 0x7ff, FIRST_SURROGATE - 1, 0xffff, LAST_CHAR};
    pn_nid at = 0;
    uint8_t from[4], to[4];
    for (size_t i = 0; i < PN_COUNT(ends) && lo <= hi; i++) {
        if (lo >= FIRST_SURROGATE && lo <= LAST_SURROGATE) lo = LAST_SURROGATE + 1;
        if (lo > ends[i] || lo > hi) continue;
        const size_t n = encode(lo, from);
        encode(PN_MIN(hi, ends[i]), to);
        at = pn_split(b, at, between(b, from, to, n, next));
        lo = ends[i] + 1;
    }
    return at;
}

/* How a character that may not stand as it is is escaped; 0: it may. */
static size_t escape(uint32_t u, bool avoid_lt, char to[6])
{
    static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt", hex[] = "0123456789abcdef";
    const char *hit = u && u < 0x80 ? strchr(from, (int)u) : NULL;
    if (hit) {
        to[0] = '\\';
        to[1] = into[hit - from];
        return 2;
    }
    if (u >= 0x20 && !(avoid_lt && u == '<')) return 0;
    memcpy(to, "\\u00", 4);
    to[4] = hex[u >> 4];
    to[5] = hex[u & 15];
    return 6;
}

static pn_nid escapes(pn_build *b, uint32_t lo, uint32_t hi, bool avoid_lt, pn_nid next)
{
    pn_nid at = 0;
    char text[6];
    for (uint32_t u = lo; u <= hi && u < 0x80; u++) {
        const size_t n = escape(u, avoid_lt, text);
        if (n) at = pn_split(b, at, pn_literal(b, text, n, next));
    }
    return at;
}

/* What may stand as it is between lo and hi. */
static pn_nid plain(pn_build *b, uint32_t lo, uint32_t hi, bool json, bool avoid_lt, pn_nid next)
{
    static const uint32_t cuts[] = {'"', '<', '\\'};
    pn_nid at = 0;
    if (json && lo < 0x20) lo = 0x20;
    for (size_t i = 0; i < PN_COUNT(cuts); i++) {
        const bool cut = cuts[i] == '<' ? avoid_lt : json;
        if (!cut || cuts[i] < lo || cuts[i] > hi) continue;
        if (lo < cuts[i]) at = pn_split(b, at, utf8(b, lo, cuts[i] - 1, next));
        lo = cuts[i] + 1;
    }
    return lo <= hi ? pn_split(b, at, utf8(b, lo, hi, next)) : at;
}

pn_nid pn_chars(pn_build *b, const pn_range *r, size_t n, pn_spelling s, bool avoid_lt, pn_nid next)
{
    pn_nid at = 0;
    for (size_t i = 0; i < n && pn_build_work(b, 1); i++) {
        at = pn_split(b, at, plain(b, r[i].lo, r[i].hi, s != SPELL_RAW, avoid_lt, next));
        if (s != SPELL_RAW) at = pn_split(b, at, escapes(b, r[i].lo, r[i].hi, avoid_lt, next));
    }
    return at;
}

void pn_spell(pn_buf *out, const char *p, size_t n, pn_spelling s, bool avoid_lt)
{
    char text[6];
    for (size_t i = 0; i < n; i++) {
        const size_t len = s == SPELL_RAW || (uint8_t)p[i] >= 0x80 ? 0 : escape((uint8_t)p[i], avoid_lt, text);
        if (len) pn_buf_put(out, text, len);
        else pn_buf_put(out, &p[i], 1);
    }
}

/* What pn_vocab_trie calls safe: no control, none of " \ <, no line separators. */
bool pn_range_covers_safe(const pn_range *r, size_t n)
{
    static const pn_range safe[] = {{0x20, 0x21}, {0x23, 0x3b}, {0x3d, 0x5b}, {0x5d, 0x2027}, {0x202a, LAST_CHAR}};
    for (size_t i = 0, at = 0; i < PN_COUNT(safe); i++) {
        while (at < n && r[at].hi < safe[i].hi) at++;
        if (at == n || r[at].lo > safe[i].lo) return false;
    }
    return true;
}

pn_nid pn_free_new(pn_build *b, const uint32_t except[8], uint32_t least, uint32_t most, pn_nid first, pn_nid next)
{
    pn_grammar *g = b->g;
    if (!pn_build_room(b, (void **)&g->frees, &g->cap_frees, g->n_frees, sizeof *g->frees)) return 0;
    pn_free_mark *f = &g->frees[g->n_frees];
    *f = (pn_free_mark){.first = first, .last = UINT32_MAX, .least = least, .most = most};
    if (except) memcpy(f->except, except, sizeof f->except);
    return pn_node_new(b, (pn_node){.kind = N_FREE, .next = next, .arg = (uint32_t)g->n_frees++});
}

/* ---- how characters are spelt: a machine whose state 0 lies between two of them --------------------------------------------- */

enum {
    BETWEEN, MORE1, MORE2, MORE3, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4, BACKSLASH,
    HEX1, HEX2, HEX3, HEX4, HEX_D, HIGH3, HIGH4, LOW_BACKSLASH, LOW_U, LOW_D, LOW2, /* any escape */
    CONTROL1, CONTROL2, CONTROL3, CONTROL4_0, CONTROL4_1,                            /* \u00.. of what has no short form */
    PHASES, NOWHERE = 255
};

static bool is_hex(uint8_t c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

static uint8_t begin_char(pn_spelling s, uint8_t c)
{
    if (s != SPELL_RAW) {
        if (c == '\\') return BACKSLASH;
        if (c == '"' || c < 0x20) return NOWHERE;
    }
    if (c < 0x80) return BETWEEN;
    if (c < 0xc2 || c > 0xf4) return NOWHERE;
    if (c < 0xe0) return MORE1;
    if (c < 0xf0) return c == 0xe0 ? AFTER_E0 : c == 0xed ? AFTER_ED : MORE2;
    return c == 0xf0 ? AFTER_F0 : c == 0xf4 ? AFTER_F4 : MORE3;
}

static uint8_t tail_byte(uint8_t phase, uint8_t c)
{
    static const struct { uint8_t lo, hi, then; } tails[] = {[MORE1] = {0x80, 0xbf, BETWEEN}, [MORE2] = {0x80, 0xbf, MORE1},
        [MORE3] = {0x80, 0xbf, MORE2}, [AFTER_E0] = {0xa0, 0xbf, MORE1}, [AFTER_ED] = {0x80, 0x9f, MORE1},
        [AFTER_F0] = {0x90, 0xbf, MORE2}, [AFTER_F4] = {0x80, 0x8f, MORE2}};
    return c >= tails[phase].lo && c <= tails[phase].hi ? tails[phase].then : NOWHERE;
}

static uint8_t any_escape(uint8_t phase, uint8_t c)
{
    const uint8_t lower = c | 0x20;
    switch (phase) {
    case BACKSLASH: return c == 'u' ? HEX1 : c && strchr("\"\\/bfnrt", c) ? BETWEEN : NOWHERE;
    case HEX1: return lower == 'd' ? HEX_D : is_hex(c) ? HEX2 : NOWHERE;
    case HEX2: return is_hex(c) ? HEX3 : NOWHERE;
    case HEX3: return is_hex(c) ? HEX4 : NOWHERE;
    case HEX4: return is_hex(c) ? BETWEEN : NOWHERE;
    case HEX_D: return c >= '0' && c <= '7' ? HEX3 : c == '8' || c == '9' || lower == 'a' || lower == 'b' ? HIGH3 : NOWHERE;
    case HIGH3: return is_hex(c) ? HIGH4 : NOWHERE;
    case HIGH4: return is_hex(c) ? LOW_BACKSLASH : NOWHERE;
    case LOW_BACKSLASH: return c == '\\' ? LOW_U : NOWHERE;
    case LOW_U: return c == 'u' ? LOW_D : NOWHERE;
    case LOW_D: return lower == 'd' ? LOW2 : NOWHERE;
    default: return lower >= 'c' && lower <= 'f' ? HEX3 : NOWHERE; /* LOW2 */
    }
}

static uint8_t needed_escape(uint8_t phase, uint8_t c)
{
    switch (phase) {
    case BACKSLASH: return c == 'u' ? CONTROL1 : c && strchr("\"\\bfnrt", c) ? BETWEEN : NOWHERE;
    case CONTROL1: return c == '0' ? CONTROL2 : NOWHERE;
    case CONTROL2: return c == '0' ? CONTROL3 : NOWHERE;
    case CONTROL3: return c == '0' ? CONTROL4_0 : c == '1' ? CONTROL4_1 : NOWHERE;
    case CONTROL4_0: return (c >= '0' && c <= '7') || c == 'b' || c == 'e' || c == 'f' ? BETWEEN : NOWHERE;
    default: return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ? BETWEEN : NOWHERE; /* CONTROL4_1 */
    }
}

static uint8_t spell_step(pn_spelling s, uint8_t phase, uint8_t c)
{
    if (phase == BETWEEN) return begin_char(s, c);
    if (phase < BACKSLASH) return tail_byte(phase, c);
    return s == SPELL_ANY ? any_escape(phase, c) : needed_escape(phase, c);
}

bool pn_is_utf8(pn_str s)
{
    uint8_t phase = BETWEEN;
    for (size_t i = 0; i < s.n && phase != NOWHERE; i++) phase = spell_step(SPELL_RAW, phase, (uint8_t)s.p[i]);
    return phase == BETWEEN;
}

/* ---- free text: the product ---------------------------------------------------------------------------------------------------- */

/* A guard's states are 0..n-1; its step gives the next one, FORBIDDEN, or COMPLETE. */
enum { MAX_NAMES = 32768 };
#define FORBIDDEN UINT32_MAX
#define COMPLETE (UINT32_MAX - 1)

typedef struct guard {
    size_t n;
    const uint32_t *edge; /* [n][256] */
    size_t bytes;
} guard;

typedef struct product {
    pn_build *b;
    const guard *g;
    pn_spelling spelling;
    bool name;            /* of a Muse call: '<' cannot stand in it, nor, in raw text, what ends an attribute */
    uint32_t least, most;
    pn_nid complete;      /* what follows COMPLETE */
    pn_nid *at;           /* [guard state][phase]: 0 until met */
    uint32_t *queue;
    size_t n_queue;
    bool marks;           /* safe characters cannot begin what is guarded, but for those in `except` */
    bool harmless;        /* no byte completes anything or is forbidden: there are no such */
    pn_nid first;
} product;

/* A place in the product, made when it is first met: a split whose first side is filled in later. */
static pn_nid place(product *p, uint32_t state, uint8_t phase)
{
    pn_nid *at = &p->at[(size_t)state * PHASES + phase];
    if (*at || p->b->status) return *at;
    *at = pn_node_new(p->b, (pn_node){.kind = N_SPLIT});
    p->queue[p->n_queue++] = state * PHASES + phase;
    return *at;
}

static pn_nid target(product *p, uint32_t state, uint8_t phase, uint32_t c)
{
    const uint8_t then = spell_step(p->spelling, phase, (uint8_t)c);
    if (then == NOWHERE || (p->name && c == '<')) return 0;
    if (p->name && p->spelling == SPELL_RAW && (c < 0x20 || c == '"' || c == '>')) return 0;
    const uint32_t to = p->g ? p->g->edge[(size_t)state * 256 + c] : 0;
    if (to == FORBIDDEN) return 0;
    return to == COMPLETE ? p->complete : place(p, to, then);
}

static pn_nid bytes_from(product *p, uint32_t state, uint8_t phase)
{
    pn_nid all = 0;
    for (uint32_t c = 0; c < 256;) {
        const pn_nid to = target(p, state, phase, c);
        uint32_t last = c;
        while (last < 255 && target(p, state, phase, last + 1) == to) last++;
        all = pn_split(p->b, all, pn_byte(p->b, c, last, to));
        c = last + 1;
    }
    return all;
}

/* Bytes that begin or go on with something the guard watches: what is free must not begin with them. */
static void find_except(const product *p, uint32_t state, uint32_t except[8])
{
    for (uint32_t c = 0; p->g && c < 256; c++) {
        const uint32_t to = p->g->edge[(size_t)state * 256 + c];
        if (to != 0) except[c / 32] |= 1u << c % 32;
    }
}

/* Between two characters the text may also end. The guard's state 0 must be the one that nothing was begun in. */
static pn_nid between_chars(product *p, uint32_t state, pn_nid bytes, pn_nid exit)
{
    uint32_t except[8] = {0};
    const bool counts = p->least > 0 || p->most != UINT32_MAX;
    if (counts) bytes = pn_count(p->b, COUNT_CHARS, p->most == UINT32_MAX ? p->least : p->most, p->most == UINT32_MAX, bytes);
    const pn_nid all = pn_split(p->b, bytes, exit);
    if (!p->marks) return all;
    if (!p->harmless) find_except(p, state, except);
    return pn_free_new(p->b, except, p->least, p->most, p->first, all);
}

static void fill_place(product *p, const pn_nid *exits, uint32_t id)
{
    const uint32_t state = id / PHASES;
    const uint8_t phase = (uint8_t)(id % PHASES);
    pn_nid all = bytes_from(p, state, phase);
    if (phase == BETWEEN) all = between_chars(p, state, all, exits[state]);
    if (p->b->status) return;
    p->b->g->nodes[p->at[id]].next = all;
    p->b->g->nodes[p->at[id]].arg = all;
}

/* exits[state]: where the text goes on when it ends between two characters in that state of the guard. */
static pn_nid multiply(product *p, const pn_nid *exits, uint32_t start)
{
    const size_t n = (p->g ? p->g->n : 1) * PHASES, bytes = n * sizeof(pn_nid);
    pn_build *b = p->b;
    const size_t first_free = b->g->n_frees;
    pn_nid root = 0;
    p->first = (pn_nid)b->g->n_nodes;
    p->at = pn_zalloc(b->a, bytes);
    p->queue = pn_alloc(b->a, bytes);
    if (p->at && p->queue) {
        root = place(p, start, BETWEEN);
        for (size_t i = 0; i < p->n_queue && pn_build_work(b, 256); i++) fill_place(p, exits, p->queue[i]);
    } else {
        b->status = pn_nomem(b->err, bytes);
    }
    for (size_t i = first_free; i < b->g->n_frees; i++) b->g->frees[i].last = (pn_nid)b->g->n_nodes;
    pn_free(b->a, p->at, bytes);
    pn_free(b->a, p->queue, bytes);
    return root;
}

static bool guard_new(pn_build *b, guard *g, size_t n, uint32_t **edge)
{
    *g = (guard){.n = n};
    if (!pn_build_work(b, n * 64)) return false;
    g->bytes = n * 256 * sizeof **edge;
    *edge = pn_zalloc(b->a, g->bytes);
    g->edge = *edge;
    if (!*edge) b->status = pn_nomem(b->err, g->bytes);
    return *edge != NULL;
}

static void guard_free(pn_build *b, guard *g) { pn_free(b->a, (uint32_t *)g->edge, g->bytes); }

static bool is_safe_byte(uint8_t c) { return c >= 0x20 && c != '"' && c != '\\' && c != '<'; }

/* Knuth, Morris, Pratt: state k has read k bytes of the text. */
static bool guard_text(pn_build *b, guard *g, pn_str text, uint32_t last)
{
    uint32_t *edge, back = 0;
    if (!guard_new(b, g, text.n, &edge)) return false;
    for (size_t k = 0; k < text.n; k++) {
        const uint8_t c = (uint8_t)text.p[k];
        for (uint32_t i = 0; k && i < 256; i++) edge[k * 256 + i] = edge[back * 256 + i];
        if (k) back = edge[back * 256 + c];
        edge[k * 256 + c] = k + 1 == text.n ? last : (uint32_t)k + 1;
    }
    return true;
}

pn_nid pn_text_any(pn_build *b, const pn_text_spec *s, pn_nid next)
{
    guard g = {0};
    const bool guarded = s->avoid.n > 0;
    product p = {.b = b, .spelling = s->spelling, .least = s->least, .most = s->most, .complete = next};
    if (guarded && !guard_text(b, &g, s->avoid, s->until ? COMPLETE : FORBIDDEN)) return 0;
    p.g = guarded ? &g : NULL;
    p.marks = !guarded || !is_safe_byte((uint8_t)s->avoid.p[0]);
    const bool counts = s->least > 0 || s->most != UINT32_MAX;
    const size_t n = guarded ? g.n : 1, bytes = n * sizeof(pn_nid);
    pn_nid *exits = pn_zalloc(b->a, bytes), root = 0;
    if (exits) {
        if (!s->until) exits[0] = counts ? pn_check(b, COUNT_CHARS, s->least, next) : next;
        for (size_t i = 1; i < n; i++) exits[i] = exits[0];
        root = multiply(&p, exits, 0);
    } else {
        b->status = pn_nomem(b->err, bytes);
    }
    pn_free(b->a, exits, bytes);
    guard_free(b, &g);
    return root;
}

/* The names as a trie; state 0 is outside, state 1 the root. Every byte that no name goes on with leads outside. */
static bool guard_names(pn_build *b, guard *g, const pn_str *names, size_t n, uint8_t *ends)
{
    uint32_t *edge, used = 2;
    if (!guard_new(b, g, g->n, &edge)) return false;
    for (size_t i = 0; i < n; i++) {
        uint32_t at = 1;
        for (size_t k = 0; k < names[i].n; k++) {
            uint32_t *to = &edge[(size_t)at * 256 + (uint8_t)names[i].p[k]];
            if (!*to) *to = used++;
            at = *to;
        }
        ends[at] = 1;
    }
    g->n = used;
    return true;
}

pn_nid pn_text_except(pn_build *b, pn_str *names, size_t n, pn_spelling s, bool avoid_lt, uint8_t close, pn_nid next)
{
    guard g = {.n = 2};
    for (size_t i = 0; i < n; i++)
        if (!pn_add(g.n, names[i].n, &g.n)) return 0;
    product p = {.b = b, .g = &g, .spelling = s, .name = avoid_lt, .most = UINT32_MAX, .marks = !(avoid_lt && s == SPELL_RAW), .harmless = true};
    const size_t most = g.n, bytes = most * (sizeof(pn_nid) + 1);
    if (!pn_build_work(b, most)) return 0;
    if (most > MAX_NAMES) {
        pn_build_fail(b, PONDER_E_RANGE, "grammar: the names of an object with further properties take more than %d bytes", (int)MAX_NAMES);
        return 0;
    }
    pn_nid *exits = pn_zalloc(b->a, bytes), root = 0;
    if (!exits) {
        b->status = pn_nomem(b->err, bytes);
        return 0;
    }
    uint8_t *ends = (uint8_t *)(exits + most);
    if (guard_names(b, &g, names, n, ends)) {
        const pn_nid exit = pn_byte(b, close, close, next);
        for (size_t i = 0; i < g.n; i++) exits[i] = ends[i] ? 0 : exit;
        root = multiply(&p, exits, 1);
    }
    guard_free(b, &g);
    pn_free(b->a, exits, bytes);
    return root;
}
