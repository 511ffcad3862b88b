/* Regular expressions: the part of ECMAScript's that is regular. Parsed into a tree with an explicit stack, then built. */
#include "grammar/nfa.h"

enum { COUNT_FROM = 4, GROUPS = 32, REPEAT_MOST = 10000, UNROLL_MOST = 1 << 22, LAST_CHAR = 0x10ffff };
#define NO_LIMIT UINT32_MAX

typedef enum tree_kind { T_CLASS = 1, T_CAT, T_ALT, T_REPEAT } tree_kind;

typedef struct tree {
    uint8_t kind;
    bool begin, end;        /* of a sequence at the top: ^ and $ */
    uint32_t child, before; /* the last child; the sibling before this one; 0: none */
    uint32_t lo, hi;        /* T_REPEAT: how often; T_CLASS: ranges[lo] .. ranges[hi - 1] */
} tree;

typedef struct group { uint32_t alt, cat; } group;

typedef struct parser {
    pn_build *b;
    const pn_pattern_spec *s;
    const uint8_t *p;
    size_t n, at;
    tree *trees;
    size_t n_trees, cap_trees;
    pn_range *ranges;
    size_t n_ranges, cap_ranges;
    group groups[GROUPS + 1];
    size_t depth;
    bool counts;
    pn_nid end; /* while characters are counted */
} parser;

static bool refuse(parser *r, const char *what)
{
    pn_build_fail(r->b, PONDER_E_UNSUPPORTED, "%s: pattern, byte %zu: %s", r->s->where, r->at, what);
    return false;
}

static bool wrong(parser *r, const char *what)
{
    pn_build_fail(r->b, PONDER_E_FORMAT, "%s: pattern, byte %zu: %s", r->s->where, r->at, what);
    return false;
}

static uint32_t tree_new(parser *r, tree_kind kind)
{
    if (!pn_build_work(r->b, 1)) return 0;
    if (r->n_trees == 0) r->n_trees = 1; /* 0 is none */
    if (!pn_build_room(r->b, (void **)&r->trees, &r->cap_trees, r->n_trees, sizeof *r->trees)) return 0;
    r->trees[r->n_trees] = (tree){.kind = kind};
    return (uint32_t)r->n_trees++;
}

static void append(parser *r, uint32_t parent, uint32_t child)
{
    if (!parent || !child) return;
    r->trees[child].before = r->trees[parent].child;
    r->trees[parent].child = child;
}

/* ---- characters and classes ------------------------------------------------------------------------------------------------- */

static bool add_range(parser *r, uint32_t lo, uint32_t hi)
{
    if (!pn_build_work(r->b, 1)) return false;
    if (!pn_build_room(r->b, (void **)&r->ranges, &r->cap_ranges, r->n_ranges, sizeof *r->ranges)) return false;
    r->ranges[r->n_ranges++] = (pn_range){lo, hi};
    return true;
}

/* Sorted (few, so by insertion) and joined where they touch. */
static void tidy(parser *r, size_t from)
{
    pn_range *x = r->ranges + from;
    size_t n = r->n_ranges - from, kept = 0;
    for (size_t i = 1; i < n && pn_build_work(r->b, i); i++)
        for (size_t j = i; j > 0 && x[j].lo < x[j - 1].lo; j--) {
            const pn_range t = x[j];
            x[j] = x[j - 1];
            x[j - 1] = t;
        }
    for (size_t i = 0; i < n; i++) {
        if (kept && x[i].lo <= x[kept - 1].hi + 1) x[kept - 1].hi = PN_MAX(x[kept - 1].hi, x[i].hi);
        else x[kept++] = x[i];
    }
    r->n_ranges = from + kept;
}

static bool negate(parser *r, size_t from)
{
    tidy(r, from);
    const size_t n = r->n_ranges - from;
    uint32_t lo = 0;
    for (size_t i = 0; i < n; i++) {
        const pn_range x = r->ranges[from + i];
        if (x.lo > lo && !add_range(r, lo, x.lo - 1)) return false;
        lo = x.hi + 1;
    }
    if (lo <= LAST_CHAR && !add_range(r, lo, LAST_CHAR)) return false;
    memmove(r->ranges + from, r->ranges + from + n, (r->n_ranges - from - n) * sizeof *r->ranges);
    r->n_ranges -= n;
    return true;
}

static bool named_class(parser *r, uint8_t c)
{
    static const pn_range digit[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
        space[] = {{9, 13}, {' ', ' '}, {0xa0, 0xa0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                   {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    const uint8_t lower = c | 0x20;
    const pn_range *x = lower == 'd' ? digit : lower == 'w' ? word : space;
    const size_t n = lower == 'd' ? PN_COUNT(digit) : lower == 'w' ? PN_COUNT(word) : PN_COUNT(space), from = r->n_ranges;
    for (size_t i = 0; i < n; i++)
        if (!add_range(r, x[i].lo, x[i].hi)) return false;
    return c == lower || negate(r, from);
}

static bool hex(parser *r, size_t n, uint32_t *u)
{
    *u = 0;
    for (; n > 0; n--, r->at++) {
        const uint8_t c = r->at < r->n ? r->p[r->at] : 0, lower = c | 0x20;
        if (c >= '0' && c <= '9') *u = *u * 16 + c - '0';
        else if (lower >= 'a' && lower <= 'f') *u = *u * 16 + lower - 'a' + 10;
        else return wrong(r, "a wrong escape");
    }
    return true;
}

static bool braced_hex(parser *r, uint32_t *u)
{
    uint32_t digit;
    *u = 0;
    for (r->at++; r->at < r->n && r->p[r->at] != '}'; *u = *u * 16 + digit)
        if (!hex(r, 1, &digit) || *u > LAST_CHAR) return wrong(r, "a wrong escape");
    if (r->at++ >= r->n || *u > LAST_CHAR) return wrong(r, "a wrong escape");
    return true;
}

static bool unicode_escape(parser *r, uint32_t *u)
{
    uint32_t low;
    if (r->at < r->n && r->p[r->at] == '{') {
        if (!braced_hex(r, u)) return false;
    } else if (!hex(r, 4, u)) {
        return false;
    }
    if (*u >= 0xd800 && *u < 0xdc00 && r->n - r->at >= 6 && r->p[r->at] == '\\' && r->p[r->at + 1] == 'u') {
        r->at += 2;
        if (!hex(r, 4, &low)) return false;
        if (low < 0xdc00 || low > 0xdfff) return wrong(r, "half a surrogate pair");
        *u = 0x10000 + ((*u - 0xd800) << 10) + (low - 0xdc00);
    }
    return (*u < 0xd800 || *u > 0xdfff) || wrong(r, "half a surrogate pair");
}

/* Behind a backslash. *is_class: its ranges were added. */
static bool escape(parser *r, uint32_t *u, bool *is_class)
{
    static const char from[] = "tnvfr0", into[] = "\t\n\v\f\r";
    *is_class = false;
    if (r->at >= r->n) return wrong(r, "a backslash at the end");
    const uint8_t c = r->p[r->at++];
    const char *hit = c ? strchr(from, c) : NULL;
    if (c == '0' && r->at < r->n && r->p[r->at] >= '0' && r->p[r->at] <= '9') return refuse(r, "octal escapes are not supported");
    if (hit) *u = (uint8_t)into[hit - from];
    else if (c == 'x') return hex(r, 2, u);
    else if (c == 'u') return unicode_escape(r, u);
    else if (c && strchr("dDwWsS", c)) return *is_class = true, named_class(r, c);
    else if (c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        return refuse(r, "this escape is not supported (back references, \\b, \\p and the like are not)");
    else *u = c;
    return true;
}

/* The character at r->at, decoded. */
static bool plain(parser *r, uint32_t *u)
{
    const uint8_t c = r->p[r->at];
    const size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (len == 0 || len > r->n - r->at) return wrong(r, "bytes that are not UTF-8");
    *u = len == 1 ? c : c & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((r->p[r->at + i] & 0xc0) != 0x80) return wrong(r, "bytes that are not UTF-8");
        *u = *u << 6 | (r->p[r->at + i] & 63);
    }
    if (*u < least[len] || *u > LAST_CHAR || (*u >= 0xd800 && *u <= 0xdfff)) return wrong(r, "bytes that are not UTF-8");
    r->at += len;
    return true;
}

static bool class_item(parser *r, uint32_t *u, bool *is_class)
{
    *is_class = false;
    if (r->p[r->at] != '\\') return plain(r, u);
    r->at++;
    if (r->at < r->n && r->p[r->at] == 'b') {
        r->at++;
        *u = '\b';
        return true;
    }
    if (r->at < r->n && r->p[r->at] == '-') {
        r->at++;
        *u = '-';
        return true;
    }
    return escape(r, u, is_class);
}

static bool class_range(parser *r)
{
    uint32_t lo, hi;
    bool is_class;
    if (!class_item(r, &lo, &is_class)) return false;
    if (is_class) return true;
    hi = lo;
    if (r->n - r->at >= 2 && r->p[r->at] == '-' && r->p[r->at + 1] != ']') {
        const size_t dash = r->at++;
        if (!class_item(r, &hi, &is_class)) return false;
        if (is_class) { /* [a-\d]: the dash is itself */
            return add_range(r, lo, lo) && add_range(r, r->p[dash], r->p[dash]);
        }
        if (hi < lo) return wrong(r, "a class's range is backwards");
    }
    return add_range(r, lo, hi);
}

static uint32_t class_done(parser *r, size_t from)
{
    tidy(r, from);
    const uint32_t t = tree_new(r, T_CLASS);
    if (t) {
        r->trees[t].lo = (uint32_t)from;
        r->trees[t].hi = (uint32_t)r->n_ranges;
    }
    return t;
}

static uint32_t char_class(parser *r)
{
    const size_t from = r->n_ranges;
    const bool negative = r->at + 1 < r->n && r->p[r->at + 1] == '^';
    r->at += 1 + negative;
    while (r->at < r->n && r->p[r->at] != ']')
        if (!class_range(r)) return 0;
    if (r->at++ >= r->n) return wrong(r, "a class without end");
    if (negative && !negate(r, from)) return 0;
    return class_done(r, from);
}

static uint32_t dot(parser *r)
{
    static const uint32_t lines[] = {'\n', '\r', 0x2028, 0x2029};
    const size_t from = r->n_ranges;
    r->at++;
    for (size_t i = 0; i < PN_COUNT(lines); i++)
        if (!add_range(r, lines[i], lines[i])) return 0;
    return negate(r, from) ? class_done(r, from) : 0;
}

static uint32_t single(parser *r)
{
    const size_t from = r->n_ranges;
    uint32_t u;
    bool is_class = false;
    if (r->p[r->at] == '\\') {
        r->at++;
        if (!escape(r, &u, &is_class)) return 0;
    } else if (!plain(r, &u)) {
        return 0;
    }
    if (!is_class && !add_range(r, u, u)) return 0;
    return class_done(r, from);
}

/* ---- structure ---------------------------------------------------------------------------------------------------------------- */

static bool number(parser *r, uint32_t *v)
{
    const size_t from = r->at;
    *v = 0;
    for (; r->at < r->n && r->p[r->at] >= '0' && r->p[r->at] <= '9'; r->at++)
        if (*v <= REPEAT_MOST) *v = *v * 10 + r->p[r->at] - '0';
    return r->at > from;
}

static bool counts(parser *r, uint32_t *lo, uint32_t *hi)
{
    r->at++;
    if (!number(r, lo)) return wrong(r, "a brace that counts nothing (write \\{ for the character)");
    *hi = *lo;
    if (r->at < r->n && r->p[r->at] == ',') {
        r->at++;
        if (!number(r, hi)) *hi = NO_LIMIT;
    }
    if (r->at >= r->n || r->p[r->at++] != '}') return wrong(r, "a brace that counts nothing (write \\{ for the character)");
    if (*lo <= REPEAT_MOST && (*hi <= REPEAT_MOST || *hi == NO_LIMIT)) return *lo <= *hi || wrong(r, "a repeat is backwards");
    pn_build_fail(r->b, PONDER_E_RANGE, "%s: pattern, byte %zu: repeats more than %d times", r->s->where, r->at, (int)REPEAT_MOST);
    return false;
}

static bool is_quantifier(const parser *r) { return r->at < r->n && r->p[r->at] && strchr("*+?{", r->p[r->at]); }

static uint32_t quantified(parser *r, uint32_t atom)
{
    uint32_t lo = 0, hi = NO_LIMIT;
    if (!atom || !is_quantifier(r)) return atom;
    const uint8_t c = r->p[r->at];
    if (c == '{') {
        if (!counts(r, &lo, &hi)) return 0;
    } else {
        r->at++;
        lo = c == '+';
        hi = c == '?' ? 1 : NO_LIMIT;
    }
    if (r->at < r->n && r->p[r->at] == '?') r->at++; /* lazy: the same texts */
    if (is_quantifier(r)) return refuse(r, "a repeat of a repeat (possessive ones are not supported)");
    const uint32_t t = tree_new(r, T_REPEAT);
    if (!t) return 0;
    r->trees[t].lo = lo;
    r->trees[t].hi = hi;
    append(r, t, atom);
    return t;
}

static bool begin_alternative(parser *r)
{
    group *g = &r->groups[r->depth];
    g->cat = tree_new(r, T_CAT);
    append(r, g->alt, g->cat);
    return g->cat != 0;
}

static bool open_group(parser *r)
{
    const uint8_t *p = r->p + r->at;
    const size_t left = r->n - r->at;
    if (left >= 2 && p[1] == '?') {
        if (left >= 3 && p[2] == ':') r->at += 3;
        else if (left >= 4 && p[2] == '<' && p[3] != '=' && p[3] != '!') {
            while (r->at < r->n && r->p[r->at] != '>') r->at++;
            if (r->at++ >= r->n) return wrong(r, "a group's name without end");
        } else return refuse(r, "looking ahead or behind is not supported");
    } else {
        r->at++;
    }
    if (r->depth == GROUPS) {
        pn_build_fail(r->b, PONDER_E_RANGE, "%s: pattern: groups nest more than %d deep", r->s->where, (int)GROUPS);
        return false;
    }
    group *g = &r->groups[++r->depth];
    g->alt = tree_new(r, T_ALT);
    return g->alt && begin_alternative(r);
}

static bool take_atom(parser *r, uint32_t atom)
{
    const uint32_t cat = r->groups[r->depth].cat;
    if (!atom) return false;
    if (r->trees[cat].end) return refuse(r, "$ in the middle");
    atom = quantified(r, atom);
    append(r, r->groups[r->depth].cat, atom);
    return atom != 0;
}

static bool anchor(parser *r, uint8_t c)
{
    tree *cat = &r->trees[r->groups[r->depth].cat];
    if (r->depth > 0) return refuse(r, "an anchor inside a group is not supported");
    if (c == '^' && (cat->child || cat->end)) return refuse(r, "^ in the middle");
    if (c == '^') cat->begin = true;
    else cat->end = true;
    r->at++;
    return !is_quantifier(r) || wrong(r, "an anchor repeats");
}

static bool close_group(parser *r)
{
    if (r->depth == 0) return wrong(r, "a parenthesis too many");
    r->at++;
    r->depth--;
    return take_atom(r, r->groups[r->depth + 1].alt);
}

static bool item(parser *r)
{
    const uint8_t c = r->p[r->at];
    switch (c) {
    case '(': return open_group(r);
    case ')': return close_group(r);
    case '|': r->at++; return begin_alternative(r);
    case '^': case '$': return anchor(r, c);
    case '[': return take_atom(r, char_class(r));
    case '.': return take_atom(r, dot(r));
    case '*': case '+': case '?': case '{': return wrong(r, "a repeat of nothing (write \\ before the character)");
    default: return take_atom(r, single(r));
    }
}

static bool parse(parser *r)
{
    r->groups[0].alt = tree_new(r, T_ALT);
    if (!r->groups[0].alt || !begin_alternative(r)) return false;
    while (r->at < r->n)
        if (!item(r)) return false;
    return r->depth == 0 || wrong(r, "a group without end");
}

/* ---- building -------------------------------------------------------------------------------------------------------------------- */

static pn_nid build(parser *r, uint32_t at, pn_nid next);

static pn_nid build_class(parser *r, const tree *t, pn_nid next)
{
    const pn_nid one = pn_chars(r->b, r->ranges + t->lo, t->hi - t->lo, r->s->spelling, r->s->avoid_lt, next);
    return r->counts ? pn_count(r->b, COUNT_CHARS, COUNT_MOST, true, one) : one; /* see unroll */
}

static void close_loop(pn_build *b, pn_nid loop, pn_nid body, pn_nid next)
{
    if (b->status) return;
    b->g->nodes[loop].next = body;
    b->g->nodes[loop].arg = next;
}

/* One class again and again: by the counter when it has to be so many times. The counter's other uses are elsewhere: a string
 * that is counted as a whole is unrolled. */
static pn_nid class_loop(parser *r, const tree *t, uint32_t lo, uint32_t hi, pn_nid next)
{
    pn_build *b = r->b;
    const bool counts = lo > 0 || hi != NO_LIMIT;
    const pn_nid loop = pn_node_new(b, (pn_node){.kind = N_SPLIT});
    pn_nid body = build_class(r, t, loop), end = counts ? pn_check(b, COUNT_CHARS, lo, next) : next;
    if (counts) body = pn_count(b, COUNT_CHARS, hi == NO_LIMIT ? lo : hi, hi == NO_LIMIT, body);
    if (!loop || !pn_range_covers_safe(r->ranges + t->lo, t->hi - t->lo)) {
        close_loop(b, loop, body, end);
        return loop;
    }
    const pn_nid mark = pn_free_new(b, NULL, lo, hi, loop, pn_split(b, body, end));
    if (!b->status) b->g->frees[b->g->n_frees - 1].last = (pn_nid)b->g->n_nodes;
    close_loop(b, loop, mark, mark);
    return loop;
}

static pn_nid build_loop(parser *r, uint32_t child, pn_nid next)
{
    const tree *t = &r->trees[child];
    if (t->kind == T_CLASS && !r->counts) return class_loop(r, t, 0, NO_LIMIT, next);
    const pn_nid loop = pn_node_new(r->b, (pn_node){.kind = N_SPLIT});
    close_loop(r->b, loop, build(r, child, loop), next);
    return loop;
}

static pn_nid build_repeat(parser *r, const tree *t, pn_nid next)
{
    const uint32_t child = t->child, lo = t->lo, hi = t->hi;
    pn_nid at = next;
    const bool many = hi == NO_LIMIT ? lo > COUNT_FROM : hi > COUNT_FROM;
    if (many && r->trees[child].kind == T_CLASS && !r->counts) return class_loop(r, &r->trees[child], lo, hi, next);
    if (hi == NO_LIMIT) at = build_loop(r, child, next);
    for (uint32_t i = lo; hi != NO_LIMIT && i < hi && pn_build_work(r->b, 1); i++) at = pn_split(r->b, build(r, child, at), next);
    for (uint32_t i = 0; i < lo && pn_build_work(r->b, 1); i++) at = build(r, child, at);
    return at;
}

/* As deep as groups nest. */
static pn_nid build(parser *r, uint32_t at, pn_nid next)
{
    const tree t = r->trees[at];
    if (!pn_build_work(r->b, 1)) return 0;
    if (t.kind == T_CLASS) return build_class(r, &t, next);
    if (t.kind == T_REPEAT) return build_repeat(r, &t, next);
    pn_nid all = t.kind == T_CAT ? next : 0;
    for (uint32_t i = t.child; i; i = r->trees[i].before) {
        if (t.kind == T_CAT) all = build(r, i, all);
        else all = pn_split(r->b, build(r, i, next), all);
    }
    return all;
}

static pn_nid anything(parser *r, pn_nid next)
{
    static const pn_range all = {0, LAST_CHAR};
    const size_t from = r->n_ranges;
    if (!add_range(r, all.lo, all.hi)) return 0;
    const uint32_t t = class_done(r, from);
    return t ? build_loop(r, t, next) : 0;
}

static pn_nid build_top(parser *r, pn_nid next)
{
    pn_nid all = 0;
    uint32_t before;
    for (uint32_t i = r->trees[r->groups[0].alt].child; i && !r->b->status; i = before) {
        const tree t = r->trees[i]; /* the array may move */
        before = t.before;
        pn_nid at = t.end || r->s->whole ? next : anything(r, next);
        at = build(r, i, at);
        if (!t.begin && !r->s->whole) at = anything(r, at);
        all = pn_split(r->b, at, all);
    }
    return all;
}

/* ---- a pattern with a length: every node once for each count, so that no way ends in a dead end ------------------------------------ */

typedef struct unrolling {
    parser *r;
    pn_nid first, end, next;
    uint32_t levels; /* counts 0 .. levels - 1 */
    pn_nid *at;
    uint32_t *queue;
    size_t n_queue;
} unrolling;

static pn_nid place(unrolling *u, pn_nid node, uint32_t count)
{
    pn_build *b = u->r->b;
    const pn_pattern_spec *s = u->r->s;
    while (node && node != u->end && b->g->nodes[node].kind == N_COUNT) {
        if (count == s->most) return 0;
        if (count + 1 < u->levels) count++; /* beyond the least all counts are the same when there is no most */
        node = b->g->nodes[node].next;
    }
    if (!node) return 0;
    if (node == u->end) return count >= s->least ? u->next : 0;
    pn_nid *at = &u->at[(size_t)(node - u->first) * u->levels + count];
    if (*at || b->status) return *at;
    *at = pn_node_new(b, b->g->nodes[node]);
    u->queue[u->n_queue++] = (node - u->first) * u->levels + count;
    return *at;
}

static pn_nid unroll_from(unrolling *u, pn_nid start)
{
    pn_build *b = u->r->b;
    const pn_nid root = place(u, start, 0);
    for (size_t i = 0; i < u->n_queue && pn_build_work(b, 1); i++) {
        const pn_nid from = u->first + u->queue[i] / u->levels;
        const uint32_t count = u->queue[i] % u->levels;
        const pn_node x = b->g->nodes[from];
        const pn_nid next = place(u, x.next, count), arg = x.kind == N_SPLIT ? place(u, x.arg, count) : x.arg;
        if (b->status) break;
        b->g->nodes[u->at[u->queue[i]]].next = next;
        b->g->nodes[u->at[u->queue[i]]].arg = arg;
    }
    return root;
}

static pn_nid unroll(parser *r, pn_nid start, pn_nid first, pn_nid next)
{
    pn_build *b = r->b;
    unrolling u = {.r = r, .first = first, .end = r->end, .next = next};
    size_t cells, bytes;
    u.levels = (r->s->most == NO_LIMIT ? r->s->least : r->s->most) + 1;
    if (b->status) return 0;
    if (!pn_mul(b->g->n_nodes - first, u.levels, &cells) || cells > UNROLL_MOST) {
        pn_build_fail(b, PONDER_E_RANGE, "%s: pattern and length together are too large", r->s->where);
        return 0;
    }
    bytes = cells * sizeof(uint32_t);
    u.at = pn_zalloc(b->a, bytes);
    u.queue = pn_alloc(b->a, bytes);
    pn_nid root = 0;
    if (u.at && u.queue) root = unroll_from(&u, start);
    else b->status = pn_nomem(b->err, bytes);
    pn_free(b->a, u.at, bytes);
    pn_free(b->a, u.queue, bytes);
    return root;
}

pn_nid pn_pattern(pn_build *b, pn_str pattern, const pn_pattern_spec *s, pn_nid next)
{
    parser r = {.b = b, .s = s, .p = (const uint8_t *)pattern.p, .n = pattern.n};
    pn_nid root = 0;
    r.counts = s->least > 0 || s->most != NO_LIMIT;
    if (!b->status && parse(&r)) {
        const pn_nid first = (pn_nid)b->g->n_nodes;
        r.end = r.counts ? pn_node_new(b, (pn_node){.kind = N_SPLIT}) : 0;
        root = build_top(&r, r.counts ? r.end : next);
        if (r.counts) root = unroll(&r, root, first, next);
    }
    pn_free(b->a, r.trees, r.cap_trees * sizeof *r.trees);
    pn_free(b->a, r.ranges, r.cap_ranges * sizeof *r.ranges);
    return root;
}
