/* What is computed once a grammar stands: how deep the nesting must go from each node to its rule's end (and so which nodes
 * lead nowhere), and the classes of bytes. */
#include "grammar/nfa.h"

/* Nodes settle level by level, outwards from the final ones: a shortest-path search in which a call costs as much as what is
 * called needs, plus one. */
typedef struct needs {
    pn_build *b;
    pn_grammar *g;
    uint32_t *edge_from, *edge; /* the nodes before node i: edge[edge_from[i] .. edge_from[i + 1]] */
    uint32_t *call_from, *call; /* the calls of each rule */
    uint32_t *rule_at;          /* the rule that starts at a node, + 1; 0: none */
    uint8_t *ready;             /* of a call: what follows it has settled */
    uint32_t *stack, *later;    /* later: nodes of a level to come, linked */
    uint32_t head[PN_GRAMMAR_DEPTH + 2];
    size_t n_stack, n_edges, n;
} needs;

static bool has_next(const pn_node *x) { return x->kind != N_DEAD && x->kind != N_FINAL; }

/* Counts, then places: from[] ends up as the beginnings. */
static void index_edges(needs *w)
{
    const pn_node *nodes = w->g->nodes;
    for (uint32_t i = 1; i < w->n; i++) {
        if (has_next(&nodes[i])) w->edge_from[nodes[i].next + 1]++;
        if (nodes[i].kind == N_SPLIT) w->edge_from[nodes[i].arg + 1]++;
        if (nodes[i].kind == N_CALL) w->call_from[nodes[i].arg + 1]++;
    }
    for (size_t i = 1; i <= w->n; i++) w->edge_from[i] += w->edge_from[i - 1];
    for (size_t i = 1; i <= w->g->n_rules; i++) w->call_from[i] += w->call_from[i - 1];
    for (uint32_t i = 1; i < w->n; i++) {
        if (has_next(&nodes[i])) w->edge[w->edge_from[nodes[i].next]++] = i;
        if (nodes[i].kind == N_SPLIT) w->edge[w->edge_from[nodes[i].arg]++] = i;
        if (nodes[i].kind == N_CALL) w->call[w->call_from[nodes[i].arg]++] = i;
    }
    for (size_t i = w->n; i > 0; i--) w->edge_from[i] = w->edge_from[i - 1];
    for (size_t i = w->g->n_rules; i > 0; i--) w->call_from[i] = w->call_from[i - 1];
    w->edge_from[0] = w->call_from[0] = 0;
}

static void defer(needs *w, uint32_t node, uint32_t level)
{
    if (level > PN_GRAMMAR_DEPTH || w->later[node]) return; /* a level given earlier is not higher */
    w->later[node] = w->head[level] + 1;
    w->head[level] = node;
}

static void settle(needs *w, uint32_t node, uint32_t level)
{
    pn_node *x = &w->g->nodes[node];
    if (x->need != NEED_NEVER) return;
    x->need = (uint8_t)level;
    w->stack[w->n_stack++] = node;
    if (!w->rule_at[node]) return;
    const uint32_t rule = w->rule_at[node] - 1;
    w->g->rules[rule].need = (uint8_t)level;
    for (uint32_t i = w->call_from[rule]; i < w->call_from[rule + 1]; i++)
        if (w->ready[w->call[i]]) defer(w, w->call[i], level + 1);
}

static void reach(needs *w, uint32_t node, uint32_t level)
{
    const pn_node *x = &w->g->nodes[node];
    if (x->kind != N_CALL) {
        settle(w, node, level);
        return;
    }
    w->ready[node] = 1;
    const uint32_t need = w->g->rules[x->arg].need;
    if (need == NEED_NEVER) return;
    if (need + 1 <= level) settle(w, node, level);
    else defer(w, node, need + 1);
}

static void settle_level(needs *w, uint32_t level)
{
    for (uint32_t node = w->head[level]; node;) {
        const uint32_t after = w->later[node] - 1;
        settle(w, node, level);
        node = after;
    }
    while (w->n_stack > 0) {
        const uint32_t node = w->stack[--w->n_stack];
        for (uint32_t i = w->edge_from[node]; i < w->edge_from[node + 1]; i++) reach(w, w->edge[i], level);
    }
}

static void search(needs *w)
{
    index_edges(w);
    for (uint32_t r = 0; r < w->g->n_rules; r++)
        if (w->g->rules[r].start) w->rule_at[w->g->rules[r].start] = r + 1;
    for (uint32_t i = 1; i < w->n; i++)
        if (w->g->nodes[i].kind == N_FINAL) settle(w, i, 0);
    for (uint32_t level = 0; level <= PN_GRAMMAR_DEPTH; level++) settle_level(w, level);
}

static size_t words(const needs *w)
{
    return w->n + 2 + w->n_edges + w->g->n_rules + 2 + w->n + w->n + w->n + w->n;
}

static void find_needs(pn_build *b)
{
    needs w = {.b = b, .g = b->g, .n = b->g->n_nodes, .n_edges = 2 * b->g->n_nodes};
    const size_t bytes = words(&w) * sizeof(uint32_t);
    uint32_t *p = pn_zalloc(b->a, bytes);
    w.ready = pn_zalloc(b->a, w.n);
    if (p && w.ready) {
        w.edge_from = p;
        w.edge = w.edge_from + w.n + 2;
        w.call_from = w.edge + w.n_edges;
        w.call = w.call_from + w.g->n_rules + 2;
        w.rule_at = w.call + w.n;
        w.stack = w.rule_at + w.n;
        w.later = w.stack + w.n;
        search(&w);
    } else {
        b->status = pn_nomem(b->err, bytes);
    }
    pn_free(b->a, p, bytes);
    pn_free(b->a, w.ready, w.n);
}

/* A class begins wherever some edge begins, or behind where one ends. */
static void find_classes(pn_grammar *g)
{
    bool begins[257] = {true};
    for (size_t i = 1; i < g->n_nodes; i++)
        if (g->nodes[i].kind == N_BYTE) begins[g->nodes[i].lo] = begins[g->nodes[i].hi + 1] = true;
    for (size_t i = 1; i < g->n_rules; i++) begins[g->rules[i].opener] = begins[g->rules[i].opener + 1] = true;
    uint32_t n = 0;
    for (uint32_t c = 0; c < 256; c++) {
        if (begins[c]) g->byte_of[n++] = (uint8_t)c;
        g->class_of[c] = (uint8_t)(n - 1);
    }
    g->n_classes = n;
}

ponder_status pn_build_end(pn_build *b, pn_nid root, pn_grammar **out)
{
    *out = NULL;
    if (!b->status) {
        b->g->rules[0].start = root;
        find_needs(b);
    }
    if (!b->status && (!root || b->g->nodes[root].need == NEED_NEVER))
        pn_build_fail(b, PONDER_E_RANGE, "grammar: nothing can match (or only what nests more than %d deep)", (int)PN_GRAMMAR_DEPTH);
    if (b->status) {
        pn_grammar_free(b->g);
        return b->status;
    }
    find_classes(b->g);
    *out = b->g;
    return PONDER_OK;
}
