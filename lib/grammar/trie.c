#include "grammar/trie.h"

/* A token on its way into the trie: sorted by kind and bytes. */
typedef struct item {
    uint64_t head; /* the first bytes, first byte highest */
    uint32_t token;
    uint16_t n;
    uint8_t safe, characters;
} item;

/* Characters of a safe token, 0: it is not safe. */
static uint32_t safe_characters(const uint8_t *p, size_t n)
{
    uint32_t characters = 0;
    for (size_t i = 0; i < n; characters++) {
        const uint8_t c = p[i];
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        const size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        uint32_t u = len == 1 ? c : c & (0xffu >> (len + 1));
        if (len == 0 || len > n - i) return 0;
        for (size_t k = 1; k < len; k++) {
            if ((p[i + k] & 0xc0) != 0x80) return 0;
            u = u << 6 | (p[i + k] & 63);
        }
        if (u < least[len] || u > 0x10ffff || (u >= 0xd800 && u <= 0xdfff)) return 0;
        if (u < 0x20 || u == '"' || u == '\\' || u == '<' || u == 0x2028 || u == 0x2029) return 0;
        i += len;
    }
    return characters;
}

static int compare(const pn_vocab_trie *t, const item *x, const item *y)
{
    if (x->safe != y->safe) return x->safe < y->safe ? -1 : 1;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    const size_t n = PN_MIN(x->n, y->n);
    const int order = n > 8 ? memcmp(t->text + t->at[x->token] + 8, t->text + t->at[y->token] + 8, n - 8) : 0;
    if (order) return order;
    return x->n != y->n ? (x->n < y->n ? -1 : 1) : x->token < y->token ? -1 : 1;
}

/* Runs of 1, 2, 4, ... merged; the result is in one of the two. */
static item *merge_sort(const pn_vocab_trie *t, item *from, item *to, size_t n)
{
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * run) {
            size_t x = begin, y = PN_MIN(begin + run, n);
            const size_t x_end = y, y_end = PN_MIN(begin + 2 * run, n);
            for (size_t k = begin; k < y_end; k++) to[k] = y == y_end || (x < x_end && compare(t, &from[x], &from[y]) < 0) ? from[x++] : from[y++];
        }
        item *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

static bool copy_text(pn_vocab_trie *t, pn_token_bytes_fn bytes, void *user)
{
    size_t n, total = 0;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        bytes(user, i, &n);
        if (n <= TOKEN_BYTES_MOST) total += n;
    }
    t->text_bytes = total;
    t->text = pn_alloc(t->a, total);
    t->at = pn_alloc(t->a, ((size_t)t->n_tokens + 1) * sizeof *t->at);
    if (!t->text || !t->at) return false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        const char *p = bytes(user, i, &n);
        t->at[i] = at;
        if (n == 0 || n > TOKEN_BYTES_MOST || n > total - at) continue;
        memcpy(t->text + at, p, n);
        at += (uint32_t)n;
        t->longest = PN_MAX(t->longest, (uint32_t)n);
    }
    t->at[t->n_tokens] = at;
    return true;
}

static size_t fill_items(const pn_vocab_trie *t, item *items)
{
    size_t count = 0, n;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        const uint8_t *p = (const uint8_t *)pn_trie_bytes(t, i, &n);
        if (n == 0) continue;
        item *x = &items[count++];
        const uint32_t characters = safe_characters(p, n);
        *x = (item){.token = i, .n = (uint16_t)n, .safe = characters > 0, .characters = (uint8_t)characters};
        for (size_t k = 0; k < 8; k++) x->head = x->head << 8 | (k < n ? p[k] : 0);
    }
    return count;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------------------------------- */

static size_t shared(const pn_vocab_trie *t, const item *x, const item *y)
{
    const char *p = t->text + t->at[x->token], *q = t->text + t->at[y->token];
    size_t n = 0;
    if (x->safe != y->safe) return 0;
    while (n < x->n && n < y->n && p[n] == q[n]) n++;
    return n;
}

static ponder_status count_nodes(pn_vocab_trie *t, const item *items, size_t n, ponder_error *err)
{
    uint64_t nodes = 0;
    for (size_t i = 0; i < n; i++) nodes += items[i].n - (i ? shared(t, &items[i - 1], &items[i]) : 0);
    if (nodes > TRIE_MOST) return pn_fail(err, PONDER_E_RANGE, "vocabulary: its trie has more than %d nodes", (int)TRIE_MOST);
    t->cap_nodes = (uint32_t)nodes;
    t->nodes = pn_alloc(t->a, nodes * sizeof *t->nodes);
    return t->nodes ? PONDER_OK : pn_nomem(err, nodes * sizeof *t->nodes);
}

static bool add_twin(pn_vocab_trie *t, uint32_t first, uint32_t second)
{
    if (!t->twin) t->twin = pn_zalloc_array(t->a, t->n_tokens, sizeof *t->twin);
    if (!t->twin) return false;
    t->twin[second] = t->twin[first];
    t->twin[first] = second + 1;
    return true;
}

/* The nodes of the way to the current token, so that their `skip` can be closed when the way leaves them. */
static bool place_nodes(pn_vocab_trie *t, const item *items, size_t n)
{
    uint32_t way[TOKEN_BYTES_MOST + 1], depth = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t keep = i ? (uint32_t)shared(t, &items[i - 1], &items[i]) : 0;
        const char *p = t->text + t->at[items[i].token];
        for (; depth > keep; depth--) t->nodes[way[depth]].skip = (t->n_nodes - way[depth]) & 0xffffff;
        if (items[i].safe && (i == 0 || !items[i - 1].safe)) t->n_rest = t->n_nodes;
        while (depth < items[i].n) {
            const pn_trie_node node = {.byte = (uint8_t)p[depth], .depth = (uint8_t)(depth + 1)};
            way[++depth] = t->n_nodes;
            t->nodes[t->n_nodes++] = node;
        }
        pn_trie_node *last = &t->nodes[way[depth]];
        if (!last->token) last->token = (items[i].token + 1) & 0xffffff;
        else if (!add_twin(t, last->token - 1, items[i].token)) return false;
    }
    for (; depth > 0; depth--) t->nodes[way[depth]].skip = (t->n_nodes - way[depth]) & 0xffffff;
    if (n == 0 || !items[n - 1].safe) t->n_rest = t->n_nodes;
    return true;
}

static bool index_safe(pn_vocab_trie *t, const item *items, size_t n)
{
    uint32_t *from = t->length_from;
    t->safe = pn_zalloc_array(t->a, t->n_words, sizeof *t->safe);
    for (size_t i = 0; i < n; i++) {
        if (!items[i].safe) continue;
        t->n_safe++;
        from[items[i].characters + 1]++;
        t->longest_safe = PN_MAX(t->longest_safe, (uint32_t)items[i].characters);
    }
    t->by_length = pn_alloc(t->a, t->n_safe * sizeof *t->by_length);
    if (!t->safe || !t->by_length) return false;
    for (size_t i = 1; i < PN_COUNT(t->length_from); i++) from[i] += from[i - 1];
    for (size_t i = 0; i < n; i++) {
        if (!items[i].safe) continue;
        t->by_length[from[items[i].characters]++] = items[i].token;
        t->safe[items[i].token / 32] |= 1u << items[i].token % 32;
    }
    for (size_t i = PN_COUNT(t->length_from) - 1; i > 0; i--) from[i] = from[i - 1];
    from[0] = 0;
    return true;
}

/* ---- nodes with much below them --------------------------------------------------------------------------------------------------------- */

typedef struct open_node { uint32_t big; pn_trie_big sum; uint8_t byte; } open_node; /* big: + 1, 0: it is none */

static void add_below(pn_trie_big *x, const open_node *child)
{
    x->wide |= child->sum.wide || child->byte >= 0x80;
    x->deepest = (uint8_t)PN_MAX(x->deepest, child->sum.deepest + 1);
    for (int i = 0; i < 4; i++) x->below[i] |= child->sum.below[i];
    if (child->byte < 0x80) x->below[child->byte / 32] |= 1u << child->byte % 32;
}

static void close_node(pn_vocab_trie *t, const open_node *x)
{
    static const uint32_t unsafe[4] = {0xffffffffu, 1u << ('"' - 32) | 1u << ('<' - 32), 1u << ('\\' - 64), 0};
    pn_trie_big *b = x->big ? &t->big[x->big - 1] : NULL;
    if (!b) return;
    memcpy(b->below, x->sum.below, sizeof b->below);
    b->to = t->n_in_order;
    b->after = t->n_big;
    b->deepest = x->sum.deepest;
    b->wide = x->sum.wide;
    b->safe = x->byte < 0x80 && (b->node >= t->n_rest || !b->wide);
    for (int i = 0; i < 4; i++) b->safe &= !(b->below[i] & unsafe[i]);
}

static void list_tokens(pn_vocab_trie *t, uint32_t token)
{
    for (; token; token = t->twin ? t->twin[token - 1] : 0) t->in_order[t->n_in_order++] = token - 1;
}

static bool index_big(pn_vocab_trie *t)
{
    open_node open[TOKEN_BYTES_MOST + 2] = {0};
    uint32_t depth = 0;
    for (uint32_t i = 0; i < t->n_nodes; i++) t->cap_big += t->nodes[i].skip >= BIG_LEAST;
    t->big = pn_zalloc_array(t->a, t->cap_big, sizeof *t->big);
    t->in_order = pn_zalloc_array(t->a, t->n_tokens, sizeof *t->in_order);
    if (!t->big || !t->in_order) return false;
    for (uint32_t i = 0; i <= t->n_nodes; i++) {
        const pn_trie_node *node = &t->nodes[i];
        const uint32_t above = i < t->n_nodes ? node->depth - 1u : 0;
        for (; depth > above; depth--) {
            close_node(t, &open[depth]);
            add_below(&open[depth - 1].sum, &open[depth]);
        }
        if (i == t->n_nodes) break;
        open[++depth] = (open_node){.byte = node->byte};
        if (node->skip >= BIG_LEAST) {
            t->big[t->n_big++] = (pn_trie_big){.node = i, .from = t->n_in_order};
            open[depth].big = t->n_big;
        }
        list_tokens(t, node->token);
    }
    return true;
}

uint32_t pn_trie_find_big(const pn_vocab_trie *t, uint32_t node)
{
    uint32_t from = 0, to = t->n_big;
    while (from < to) {
        const uint32_t middle = from + (to - from) / 2;
        if (t->big[middle].node < node) from = middle + 1;
        else to = middle;
    }
    return from;
}

static ponder_status build(pn_vocab_trie *t, item *items, item *spare, ponder_error *err)
{
    const size_t n = fill_items(t, items);
    const item *sorted = merge_sort(t, items, spare, n);
    ponder_status st = count_nodes(t, sorted, n, err);
    if (st) return st;
    if (place_nodes(t, sorted, n) && index_safe(t, sorted, n) && index_big(t)) return PONDER_OK;
    return pn_nomem(err, t->n_tokens * sizeof(uint32_t));
}

ponder_status pn_vocab_trie_new(pn_vocab_trie **out, uint32_t n_tokens, pn_token_bytes_fn bytes, void *user, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (n_tokens == 0 || n_tokens > TRIE_MOST) return pn_fail(err, PONDER_E_RANGE, "vocabulary: %u tokens", (unsigned)n_tokens);
    pn_vocab_trie *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    atomic_init(&t->refs, 1);
    if (a) {
        t->copy = *a;
        t->a = &t->copy;
    }
    t->n_tokens = n_tokens;
    t->n_words = (n_tokens + 31) / 32;
    const size_t room = (size_t)n_tokens * sizeof(item);
    item *items = pn_alloc(a, room), *spare = pn_alloc(a, room);
    ponder_status st = items && spare && copy_text(t, bytes, user) ? build(t, items, spare, err) : pn_nomem(err, 2 * room);
    pn_free(a, items, room);
    pn_free(a, spare, room);
    if (st) {
        pn_vocab_trie_free(t);
        return st;
    }
    *out = t;
    return PONDER_OK;
}

pn_vocab_trie *pn_vocab_trie_ref(pn_vocab_trie *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void pn_vocab_trie_free(pn_vocab_trie *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return;
    const ponder_alloc copy = t->copy, *a = t->a ? &copy : NULL;
    pn_free(a, t->nodes, t->cap_nodes * sizeof *t->nodes);
    pn_free(a, t->big, t->cap_big * sizeof *t->big);
    pn_free(a, t->in_order, t->n_tokens * sizeof *t->in_order);
    pn_free(a, t->twin, t->n_tokens * sizeof *t->twin);
    pn_free(a, t->at, ((size_t)t->n_tokens + 1) * sizeof *t->at);
    pn_free(a, t->text, t->text_bytes);
    pn_free(a, t->safe, t->n_words * sizeof *t->safe);
    pn_free(a, t->by_length, t->n_safe * sizeof *t->by_length);
    pn_free(a, t, sizeof *t);
}

size_t pn_vocab_trie_bytes(const pn_vocab_trie *t)
{
    return sizeof *t + t->cap_nodes * sizeof *t->nodes + t->cap_big * sizeof *t->big + t->n_tokens * sizeof *t->in_order + (t->twin ? t->n_tokens * sizeof *t->twin : 0) +
           ((size_t)t->n_tokens + 1) * sizeof *t->at + t->text_bytes + t->n_words * sizeof *t->safe + t->n_safe * sizeof *t->by_length;
}

uint32_t pn_vocab_trie_tokens(const pn_vocab_trie *t) { return t->n_tokens; }
