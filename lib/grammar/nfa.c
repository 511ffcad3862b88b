#include "grammar/nfa.h"

#include <stdio.h>

ponder_status pn_build_fail(pn_build *b, ponder_status status, const char *fmt, ...)
{
    char text[sizeof b->err->text];
    if (b->status) return b->status;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0) text[0] = 0;
    va_end(ap);
    pn_fail(b->err, status, "%s", text);
    return b->status = status;
}

bool pn_build_work(pn_build *b, uint64_t units)
{
    if (b->status) return false;
    b->work += units;
    if (b->work <= MAX_WORK) return true;
    pn_build_fail(b, PONDER_E_RANGE, "grammar: too much work to compile");
    return false;
}

bool pn_build_room(pn_build *b, void **p, size_t *cap, size_t n, size_t size)
{
    if (b->status) return false;
    if (n < *cap) return true;
    const size_t more = *cap ? 2 * *cap : 64;
    void *q = pn_grow(b->a, *p, *cap * size, more * size);
    if (!q) {
        b->status = pn_nomem(b->err, more * size);
        return false;
    }
    *p = q;
    *cap = more;
    return true;
}

ponder_status pn_build_begin(pn_build *b, const ponder_alloc *a, ponder_error *err)
{
    *b = (pn_build){.a = a, .err = err};
    pn_grammar *g = pn_zalloc(a, sizeof *g);
    if (!g) return b->status = pn_nomem(err, sizeof *g);
    atomic_init(&g->refs, 1);
    if (a) {
        g->copy = *a;
        g->a = &g->copy;
    }
    b->g = g;
    pn_node_new(b, (pn_node){.kind = N_DEAD});
    pn_rule_new(b, 0);
    return PONDER_OK;
}

pn_nid pn_node_new(pn_build *b, pn_node node)
{
    pn_grammar *g = b->g;
    if (!pn_build_work(b, 1)) return 0;
    if (g->n_nodes == MAX_NODES) {
        pn_build_fail(b, PONDER_E_RANGE, "grammar: more than %d nodes", (int)MAX_NODES);
        return 0;
    }
    if (!pn_build_room(b, (void **)&g->nodes, &g->cap_nodes, g->n_nodes, sizeof *g->nodes)) return 0;
    node.need = NEED_NEVER;
    g->nodes[g->n_nodes] = node;
    return (pn_nid)g->n_nodes++;
}

pn_nid pn_byte(pn_build *b, uint32_t lo, uint32_t hi, pn_nid next)
{
    if (!next) return 0;
    return pn_node_new(b, (pn_node){.kind = N_BYTE, .lo = (uint8_t)lo, .hi = (uint8_t)hi, .next = next});
}

pn_nid pn_split(pn_build *b, pn_nid x, pn_nid y)
{
    if (!x || !y || x == y) return x ? x : y;
    return pn_node_new(b, (pn_node){.kind = N_SPLIT, .next = x, .arg = y});
}

pn_nid pn_call(pn_build *b, uint32_t rule, pn_nid next)
{
    return next ? pn_node_new(b, (pn_node){.kind = N_CALL, .next = next, .arg = rule}) : 0;
}

pn_nid pn_count(pn_build *b, uint32_t counter, uint32_t most, bool stays, pn_nid next)
{
    if (!next || (most == 0 && !stays)) return 0;
    return pn_node_new(b, (pn_node){.kind = N_COUNT, .lo = (uint8_t)counter, .hi = stays, .next = next, .arg = most});
}

pn_nid pn_check(pn_build *b, uint32_t counter, uint32_t least, pn_nid next)
{
    return next ? pn_node_new(b, (pn_node){.kind = N_CHECK, .lo = (uint8_t)counter, .next = next, .arg = least}) : 0;
}

pn_nid pn_final(pn_build *b, uint32_t rule)
{
    return pn_node_new(b, (pn_node){.kind = N_FINAL, .arg = rule});
}

pn_nid pn_literal(pn_build *b, const char *p, size_t n, pn_nid next)
{
    while (n-- > 0) next = pn_byte(b, (uint8_t)p[n], (uint8_t)p[n], next);
    return next;
}

static int compare(pn_str x, pn_str y)
{
    const size_t n = PN_MIN(x.n, y.n);
    const int order = n ? memcmp(x.p, y.p, n) : 0;
    return order ? order : x.n < y.n ? -1 : x.n > y.n;
}

static void sift(pn_str *s, size_t n, size_t i)
{
    for (;;) {
        size_t most = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (compare(s[most], s[child]) < 0) most = child;
        if (most == i) return;
        const pn_str t = s[i];
        s[i] = s[most];
        s[most] = t;
        i = most;
    }
}

static void sort(pn_str *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift(s, n, i);
    for (size_t end = n; end > 1; end--) {
        const pn_str t = s[0];
        s[0] = s[end - 1];
        s[end - 1] = t;
        sift(s, end - 1, 0);
    }
}

/* A trie, grown along the sorted texts: branch[d] holds what is known of the node d bytes into the current text. A text of
 * `keep` common bytes with the next one is finished down to there. */
static void fold(pn_build *b, pn_nid *branch, pn_str s, size_t keep)
{
    for (size_t d = s.n; d > keep; d--)
        branch[d - 1] = pn_split(b, pn_byte(b, (uint8_t)s.p[d - 1], (uint8_t)s.p[d - 1], branch[d]), branch[d - 1]);
}

static size_t common(pn_str x, pn_str y)
{
    size_t n = 0;
    while (n < x.n && n < y.n && x.p[n] == y.p[n]) n++;
    return n;
}

pn_nid pn_literals(pn_build *b, pn_str *texts, size_t n, pn_nid next)
{
    size_t longest = 0;
    if (n == 0 || b->status) return 0;
    sort(texts, n);
    for (size_t i = 0; i < n; i++) longest = PN_MAX(longest, texts[i].n);
    const size_t bytes = (longest + 1) * sizeof(pn_nid);
    pn_nid *branch = pn_zalloc(b->a, bytes), root;
    if (!branch) {
        b->status = pn_nomem(b->err, bytes);
        return 0;
    }
    for (size_t i = 0, from = 0; i < n && pn_build_work(b, texts[i].n); i++) {
        for (size_t d = from; d < texts[i].n; d++) branch[d + 1] = 0;
        branch[texts[i].n] = next;
        from = i + 1 < n ? common(texts[i], texts[i + 1]) : 0;
        fold(b, branch, texts[i], from);
    }
    root = branch[0];
    pn_free(b->a, branch, bytes);
    return root;
}

uint32_t pn_rule_new(pn_build *b, uint8_t opener)
{
    pn_grammar *g = b->g;
    if (g->n_rules == MAX_RULES) {
        pn_build_fail(b, PONDER_E_RANGE, "grammar: more than %d kinds of arrays and objects", (int)MAX_RULES);
        return 0;
    }
    if (!pn_build_room(b, (void **)&g->rules, &g->cap_rules, g->n_rules, sizeof *g->rules)) return 0;
    g->rules[g->n_rules] = (pn_rule){.opener = opener, .need = NEED_NEVER};
    return (uint32_t)g->n_rules++;
}

pn_grammar *pn_grammar_ref(pn_grammar *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void pn_grammar_free(pn_grammar *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1) return;
    const ponder_alloc copy = g->copy, *a = g->a ? &copy : NULL;
    pn_free(a, g->nodes, g->cap_nodes * sizeof *g->nodes);
    pn_free(a, g->rules, g->cap_rules * sizeof *g->rules);
    pn_free(a, g->frees, g->cap_frees * sizeof *g->frees);
    pn_free(a, g, sizeof *g);
}
