/* The list of operations of a network, its working memory, and how each operation is cut into tiles. */
#include "decoder/program.h"

/* ---- the list ------------------------------------------------------------------------ */

static const uint8_t attention_ops[] = {PN_OP_QKV, PN_OP_HEADS, PN_OP_ATTEND, PN_OP_JOIN, PN_OP_ATTENDED, PN_OP_O, PN_OP_MIDDLE};
static const uint8_t dense_ops[] = {PN_OP_GATE_UP, PN_OP_ACTIVATE, PN_OP_DOWN};
static const uint8_t sparse_ops[] = {PN_OP_ROUTER, PN_OP_ROUTE, PN_OP_SORT, PN_OP_GATHER, PN_OP_FETCH,
                                     PN_OP_EXPERTS_IN, PN_OP_EXPERTS_ACTIVATE, PN_OP_EXPERTS_OUT, PN_OP_COMBINE, PN_OP_LATENT_UP};
static const uint8_t context_ops[] = {PN_OP_CONTEXT, PN_OP_CONTEXT_NORM}, context_layer_ops[] = {PN_OP_CONTEXT_KV, PN_OP_CONTEXT_KEYS};
static const uint8_t end_ops[] = {PN_OP_FINAL_NORM, PN_OP_HEAD, PN_OP_LOGITS};

static void append(pn_program *p, const uint8_t *kinds, size_t n, uint32_t layer)
{
    for (size_t i = 0; i < n; i++) p->ops[p->n_ops++] = (pn_op){kinds[i], (uint16_t)layer};
}

static size_t most_ops(const pn_description *d, const pn_description *drafter)
{
    size_t n = 1 + d->layers * (PN_COUNT(attention_ops) + PN_COUNT(sparse_ops) + 1) + PN_COUNT(end_ops);
    return drafter ? n + PN_COUNT(context_ops) + drafter->layers * PN_COUNT(context_layer_ops) : n;
}

static ponder_status list_ops(pn_program *p, ponder_error *err)
{
    const size_t most = most_ops(p->d, p->drafter);
    p->ops = pn_zalloc_array(p->a, most, sizeof *p->ops);
    if (!p->ops) return pn_nomem(err, most * sizeof *p->ops);
    const uint8_t embed = PN_OP_EMBED, end = PN_OP_END;
    append(p, &embed, 1, 0);
    for (uint32_t l = 0; l < p->d->layers; l++) {
        append(p, attention_ops, sizeof attention_ops, l);
        if (p->d->layer[l].sparse) append(p, sparse_ops, sizeof sparse_ops, l);
        else append(p, dense_ops, sizeof dense_ops, l);
        append(p, &end, 1, l);
    }
    if (p->drafter) append(p, context_ops, sizeof context_ops, 0);
    for (uint32_t l = 0; p->drafter && l < p->drafter->layers; l++) append(p, context_layer_ops, sizeof context_layer_ops, l);
    append(p, end_ops, sizeof end_ops, 0);
    return PONDER_OK;
}

/* ---- working memory: one walk counts, the next hands out --------------------------------- */

typedef struct quantised_reads {
    bool in, attn, ff, out, rows, hidden, joined, taps, context; /* some matrix that reads the slot is quantised */
} quantised_reads;

static bool sparse_layers(const pn_description *d)
{
    for (uint32_t i = 0; i < d->layers; i++)
        if (d->layer[i].sparse) return true;
    return false;
}

static bool dense_layers(const pn_description *d)
{
    for (uint32_t i = 0; i < d->layers; i++)
        if (!d->layer[i].sparse) return true;
    return false;
}

static void give_experts(pn_arena *a, pn_program *p, const pn_description *d, const pn_limits *m, const quantised_reads *r)
{
    uint32_t rows = m->columns * d->experts_used;
    p->router = pn_arena_floats(a, (size_t)m->columns * d->experts);
    p->latent = pn_arena_floats(a, (size_t)m->columns * d->expert_width);
    pn_arena_slot(a, &p->rows, d->expert_width, rows, r->rows);
    pn_arena_slot(a, &p->hidden, d->expert_ff, rows, r->hidden);
    pn_arena_slot(a, &p->joined, d->expert_width, m->columns, r->joined);
    p->row_up = pn_arena_floats(a, (size_t)rows * d->expert_ff);
    p->row_out = pn_arena_floats(a, (size_t)rows * d->expert_width);
    p->chosen = pn_arena_give(a, rows, sizeof(uint32_t));
    p->chosen_weight = pn_arena_floats(a, rows);
    p->row_of = pn_arena_give(a, rows, sizeof(uint32_t));
    p->row_col = pn_arena_give(a, rows, sizeof(uint32_t));
    p->expert_from = pn_arena_give(a, (size_t)d->experts + 1, sizeof(uint32_t));
    p->active = pn_arena_give(a, d->experts, sizeof(uint32_t));
    p->round_row = pn_arena_give(a, rows, sizeof(uint32_t));
}

/* Spans of one round share the slots; at least one span of every query must fit. */
static uint32_t part_slots(const pn_description *d, const pn_limits *m)
{
    uint32_t queries = m->columns * d->heads, least = 64 * d->heads;
    return PN_MAX(queries, least);
}

static void give_context(pn_arena *a, pn_program *p, const pn_description *drafter, const pn_limits *m, const quantised_reads *r)
{
    pn_arena_slot(a, &p->taps, (size_t)drafter->n_taps * drafter->width, m->columns, r->taps);
    pn_arena_slot(a, &p->context, drafter->width, m->columns, r->context);
    p->context_rope = pn_arena_floats(a, (size_t)m->columns * drafter->rot_dim);
}

static void give_all(pn_arena *a, pn_program *p, const pn_description *d, const pn_description *drafter, const pn_limits *m, const quantised_reads *r)
{
    size_t cols = m->columns, heads = (size_t)d->heads * d->head_dim, kv = (size_t)d->kv_heads * d->head_dim;
    if (drafter) kv = PN_MAX(kv, (size_t)drafter->kv_heads * drafter->head_dim);
    p->x = pn_arena_floats(a, cols * d->width);
    p->q = pn_arena_floats(a, cols * heads);
    p->kk = pn_arena_floats(a, cols * kv);
    p->v = pn_arena_floats(a, cols * kv);
    p->g = pn_arena_floats(a, d->gate ? cols * heads : 0);
    p->t = pn_arena_floats(a, cols * d->width);
    p->rope = pn_arena_floats(a, cols * 2 * d->rot_dim);
    pn_arena_slot(a, &p->in, d->width, m->columns, r->in);
    pn_arena_slot(a, &p->attn, heads, m->columns, r->attn);
    if (dense_layers(d)) {
        pn_arena_slot(a, &p->ff, d->ff, m->columns, r->ff);
        p->up = pn_arena_floats(a, cols * d->ff);
    }
    pn_arena_slot(a, &p->out, d->width, m->outputs, r->out);
    p->logits = pn_arena_floats(a, (size_t)m->outputs * d->vocab);
    p->state_m = pn_arena_floats(a, cols * d->heads);
    p->state_l = pn_arena_floats(a, cols * d->heads);
    p->part_slots = part_slots(d, m);
    p->part_m = pn_arena_floats(a, p->part_slots);
    p->part_l = pn_arena_floats(a, p->part_slots);
    p->part_o = pn_arena_floats(a, (size_t)p->part_slots * d->head_dim);
    p->run_of = pn_arena_give(a, cols, sizeof(uint16_t));
    p->col_of = pn_arena_give(a, m->outputs, sizeof(uint32_t));
    if (sparse_layers(d)) give_experts(a, p, d, m, r);
    if (drafter) give_context(a, p, drafter, m, r);
    if (d->block) p->picks = pn_arena_give(a, (size_t)m->outputs * pn_logits_pieces(d), sizeof *p->picks);
    p->scratch_bytes = (pn_scratch_bytes(d->head_dim) + sizeof(pn_attn_part) + 63) / 64 * 64;
    p->scratch = pn_arena_give(a, m->threads, p->scratch_bytes);
}

static bool any(uint64_t roles, const pn_role *role, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (roles >> role[i] & 1) return true;
    return false;
}

#define ANY(roles, ...) any(roles, (const pn_role[]){__VA_ARGS__}, sizeof((pn_role[]){__VA_ARGS__}) / sizeof(pn_role))

size_t pn_program_bytes(const pn_description *d, const pn_limits *limits, uint64_t roles, const pn_description *drafter, uint64_t drafter_roles)
{
    const quantised_reads reads = {
        .in = ANY(roles, PN_W_Q, PN_W_K, PN_W_V, PN_W_G, PN_W_GATE, PN_W_UP, PN_W_LATENT_DOWN, PN_W_ROUTER),
        .attn = ANY(roles, PN_W_O), .ff = ANY(roles, PN_W_DOWN), .out = d->tied ? ANY(roles, PN_W_EMBED) : ANY(roles, PN_W_HEAD),
        .rows = ANY(roles, PN_W_EXPERTS_GATE, PN_W_EXPERTS_UP), .hidden = ANY(roles, PN_W_EXPERTS_DOWN),
        .joined = ANY(roles, PN_W_LATENT_UP),
        .taps = ANY(drafter_roles, PN_W_CONTEXT), .context = ANY(drafter_roles, PN_W_K, PN_W_V),
    };
    pn_program p;
    pn_arena a = {0};
    give_all(&a, &p, d, drafter, limits, &reads);
    return a.at + most_ops(d, drafter) * sizeof(pn_op) + sizeof p;
}

static bool quantised(const pn_weight *w) { return w->batch && !pn_type_is_float(w->first.type); }

static quantised_reads find_reads(const pn_network *n)
{
    quantised_reads r = {.out = quantised(pn_network_head(n))};
    for (uint32_t i = 0; i < n->d.layers; i++) {
        const pn_layer *l = &n->layers[i];
        r.in |= quantised(&l->q) || quantised(&l->k) || quantised(&l->v) || quantised(&l->g) || quantised(&l->gate) ||
                quantised(&l->up) || quantised(&l->latent_down) || quantised(&l->router);
        r.attn |= quantised(&l->o);
        r.ff |= quantised(&l->down);
        r.rows |= quantised(&l->experts_gate) || quantised(&l->experts_up);
        r.hidden |= quantised(&l->experts_down);
        r.joined |= quantised(&l->latent_up);
    }
    if (!n->drafter) return r;
    r.taps = quantised(&n->drafter->context);
    for (uint32_t i = 0; i < n->drafter->d.layers; i++) r.context |= quantised(&n->drafter->layers[i].k) || quantised(&n->drafter->layers[i].v);
    return r;
}

ponder_status pn_program_new(pn_program **out, const pn_network *n, const pn_kernels *k, const pn_kv_layout *kv,
                             const pn_limits *limits, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    pn_program *p = pn_zalloc(a, sizeof *p);
    if (!p) return pn_nomem(err, sizeof *p);
    p->n = n;
    p->d = &n->d;
    p->drafter = n->drafter ? &n->drafter->d : NULL;
    if (p->drafter) pn_kv_layout_init(&p->drafter_kv, p->drafter, kv->type);
    p->k = *k;
    p->kv = *kv;
    p->limits = *limits;
    p->a = a;
    for (uint32_t i = 0; i < p->d->layers; i++)
        if (p->d->layer[i].rope) p->rotates[p->d->layer[i].local_rope ? 1 : 0] = true;
    if (n->experts && limits->threads > pn_experts_threads(n->experts)) {
        pn_free(a, p, sizeof *p);
        return pn_fail(err, PONDER_E_INTERNAL, "%u threads, but experts are read by %u", limits->threads, pn_experts_threads(n->experts));
    }
    quantised_reads reads = find_reads(n);
    pn_arena count = {0};
    give_all(&count, p, p->d, p->drafter, limits, &reads);
    p->bytes = count.at;
    p->memory = pn_alloc_aligned(a, p->bytes, 64);
    ponder_status st = p->memory ? list_ops(p, err) : pn_nomem(err, p->bytes);
    if (st != PONDER_OK) {
        pn_program_free(p);
        return st;
    }
    pn_arena give_out = {.base = p->memory};
    give_all(&give_out, p, p->d, p->drafter, limits, &reads);
    *out = p;
    return PONDER_OK;
}

void pn_program_free(pn_program *p)
{
    if (!p) return;
    pn_free(p->a, p->memory, p->bytes);
    if (p->ops) pn_free(p->a, p->ops, most_ops(p->d, p->drafter) * sizeof *p->ops);
    pn_free(p->a, p, sizeof *p);
}

/* ---- a step ------------------------------------------------------------------------------ */

void pn_program_begin(pn_program *p, pn_run *runs, uint32_t n_runs)
{
    p->runs = runs;
    p->n_runs = n_runs;
    p->columns = p->outputs = p->span_round = 0;
    for (uint32_t r = 0; r < n_runs; r++) {
        runs[r].col = p->columns;
        runs[r].out = p->outputs;
        for (uint32_t i = 0; i < runs[r].n; i++) p->run_of[p->columns++] = (uint16_t)r;
        for (uint32_t i = 0; i < runs[r].n_out; i++) p->col_of[p->outputs++] = p->columns - runs[r].n_behind - runs[r].n_out + i;
    }
    pn_slot *const slots[] = {&p->in, &p->attn, &p->ff, &p->joined, &p->taps, &p->context}, *const rows[] = {&p->rows, &p->hidden};
    for (size_t i = 0; i < PN_COUNT(slots); i++) pn_slot_columns(slots[i], p->columns);
    for (size_t i = 0; i < PN_COUNT(rows); i++) pn_slot_columns(rows[i], p->columns * p->d->experts_used);
    pn_slot_columns(&p->out, p->outputs);
}

void pn_program_drop(pn_run *r)
{
    r->dropped = true;
    r->logits = r->hidden = NULL;
}

static uint32_t cut_columns(pn_program *p, uint32_t n, size_t values) { return pn_cut_columns(&p->cut, n, values, p->limits.threads); }

/* The products at `op`: how many, of which columns of what. 0: it is another kind of operation. */
static uint32_t products_at(pn_program *p, uint32_t op, const pn_slot **in, pn_product to[PN_MAX_PRODUCTS])
{
    const pn_layer *l = pn_op_layer(p, op);
    switch (p->ops[op].kind) {
    case PN_OP_QKV:
        *in = &p->in;
        to[0] = (pn_product){&l->q, p->q};
        to[1] = (pn_product){&l->k, p->kk};
        to[2] = (pn_product){&l->v, p->v};
        to[3] = (pn_product){&l->g, p->g};
        return 4;
    case PN_OP_GATE_UP:
        *in = &p->in;
        to[0] = (pn_product){&l->gate, p->ff.x};
        to[1] = (pn_product){&l->up, p->up};
        return 2;
    case PN_OP_ROUTER:
        *in = &p->in;
        to[0] = (pn_product){&l->router, p->router};
        to[1] = (pn_product){&l->latent_down, p->latent};
        return 2;
    case PN_OP_O: *in = &p->attn; to[0] = (pn_product){&l->o, p->t}; return 1;
    case PN_OP_DOWN: *in = &p->ff; to[0] = (pn_product){&l->down, p->t}; return 1;
    case PN_OP_LATENT_UP: *in = &p->joined; to[0] = (pn_product){&l->latent_up, p->t}; return 1;
    case PN_OP_CONTEXT: *in = &p->taps; to[0] = (pn_product){&p->n->drafter->context, p->context.x}; return 1;
    case PN_OP_CONTEXT_KV:
        *in = &p->context;
        to[0] = (pn_product){&l->k, p->kk};
        to[1] = (pn_product){&l->v, p->v};
        return 2;
    case PN_OP_HEAD: *in = &p->out; to[0] = (pn_product){pn_network_head(p->n), p->logits}; return 1;
    default: return 0;
    }
}

static uint32_t enter_products(pn_program *p, uint32_t op)
{
    pn_product list[PN_MAX_PRODUCTS];
    const pn_slot *in;
    const uint32_t n = products_at(p, op, &in, list);
    return pn_cut_products(&p->cut, in, in == &p->out ? p->outputs : p->columns, list, n, p->limits.threads);
}

/* Between products memory is idle, and so are threads, for one column has one tile of norms: they fetch what the next products read. */
enum { SOON_BYTES = 384 << 10 /* a thread's, in its L2 */, SOON_STEP = 2048 };

static void plan_soon(pn_program *p, uint32_t op)
{
    pn_product list[PN_MAX_PRODUCTS];
    const pn_slot *in;
    if (!products_at(p, op, &in, list)) return;
    uint32_t n = 0;
    while (n == 0 && ++op < p->n_ops) n = products_at(p, op, &in, list);
    const pn_weight *w = n ? list[0].w : NULL;
    size_t bytes = w && w->first.packed ? w->packed_stride : 0;
    atomic_store_explicit(&p->soon, bytes ? w->first.packed : NULL, memory_order_relaxed);
    atomic_store_explicit(&p->soon_bytes, PN_MIN(bytes, (size_t)SOON_BYTES * p->limits.threads), memory_order_relaxed);
    atomic_store_explicit(&p->soon_at, 0, memory_order_relaxed);
}

/* The three may be of different operations while one is entered: fetching the wrong lines harms nothing. */
static bool work_idle(void *self)
{
    pn_program *p = self;
    const size_t bytes = atomic_load_explicit(&p->soon_bytes, memory_order_relaxed);
    if (atomic_load_explicit(&p->soon_at, memory_order_relaxed) >= bytes) return false;
    const size_t at = atomic_fetch_add_explicit(&p->soon_at, SOON_STEP, memory_order_relaxed);
    const uint8_t *from = atomic_load_explicit(&p->soon, memory_order_relaxed);
    for (size_t i = at; from && i < PN_MIN(at + SOON_STEP, bytes); i += 64) __builtin_prefetch(from + i, 0, 2);
    return true;
}

static bool any_logits(const pn_program *p)
{
    for (uint32_t r = 0; r < p->n_runs; r++)
        if ((p->runs[r].logits || (p->d->block && !p->runs[r].dropped)) && p->runs[r].n_out) return true;
    return false;
}

static uint32_t enter(pn_program *p, uint32_t op)
{
    const pn_description *d = p->d;
    switch (p->ops[op].kind) {
    case PN_OP_QKV: case PN_OP_O: case PN_OP_GATE_UP: case PN_OP_DOWN: case PN_OP_ROUTER: case PN_OP_LATENT_UP: case PN_OP_CONTEXT: case PN_OP_CONTEXT_KV:
        return enter_products(p, op);
    case PN_OP_HEAD: return any_logits(p) ? enter_products(p, op) : 0;
    case PN_OP_LOGITS: return any_logits(p) ? pn_enter_logits(p) : 0;
    case PN_OP_FINAL_NORM: return cut_columns(p, p->outputs, d->width);
    case PN_OP_ATTEND: return pn_enter_attend(p, op);
    case PN_OP_JOIN: return pn_enter_join(p, op);
    case PN_OP_HEADS: case PN_OP_ATTENDED: return cut_columns(p, p->columns, (size_t)d->heads * d->head_dim * 2);
    case PN_OP_ACTIVATE: return cut_columns(p, p->columns, d->ff);
    case PN_OP_CONTEXT_KEYS: return cut_columns(p, p->columns, (size_t)p->drafter->kv_heads * p->drafter->head_dim * 2);
    case PN_OP_SORT: return 1;
    case PN_OP_GATHER: return cut_columns(p, p->columns * d->experts_used, d->expert_width);
    case PN_OP_FETCH: return pn_enter_fetch(p, op);
    case PN_OP_EXPERTS_ACTIVATE: return cut_columns(p, p->round_rows, d->expert_ff);
    case PN_OP_EXPERTS_IN: case PN_OP_EXPERTS_OUT: return pn_enter_experts(p, op);
    case PN_OP_ROUTE: return cut_columns(p, p->columns, (size_t)d->experts * 4 + d->expert_width);
    case PN_OP_COMBINE: return cut_columns(p, p->columns, (size_t)d->expert_width * d->experts_used);
    default: return cut_columns(p, p->columns, (size_t)d->width * 3);
    }
}

static uint32_t work_enter(void *self, uint32_t op)
{
    pn_program *p = self;
    p->cut = (pn_cut){0};
    plan_soon(p, op);
    return enter(p, op);
}

static void column(pn_program *p, uint32_t op, uint32_t col)
{
    const pn_layer *l = pn_op_layer(p, op);
    switch (p->ops[op].kind) {
    case PN_OP_EMBED: pn_tile_embed(p, col); break;
    case PN_OP_HEADS: pn_tile_heads(p, l, col); break;
    case PN_OP_JOIN: pn_tile_join(p, op, col); break;
    case PN_OP_ATTENDED: pn_tile_attended(p, l, col); break;
    case PN_OP_MIDDLE: pn_tile_middle(p, l, col); break;
    case PN_OP_ACTIVATE: pn_tile_activate(p, col); break;
    case PN_OP_ROUTE: pn_tile_route(p, l, col); break;
    case PN_OP_GATHER: pn_tile_gather(p, col); break;
    case PN_OP_EXPERTS_ACTIVATE: pn_tile_experts_activate(p, p->round_row[col]); break;
    case PN_OP_COMBINE: pn_tile_combine(p, l, col); break;
    case PN_OP_END: pn_tile_end(p, op, col); break;
    case PN_OP_FINAL_NORM: pn_tile_final_norm(p, col); break;
    case PN_OP_CONTEXT_NORM: pn_tile_context_norm(p, col); break;
    case PN_OP_CONTEXT_KEYS: pn_tile_context_keys(p, l, col); break;
    default: break;
    }
}

static void work_tile(void *self, uint32_t op, uint32_t tile, uint32_t thread)
{
    pn_program *p = self;
    switch (p->ops[op].kind) {
    case PN_OP_QKV: case PN_OP_O: case PN_OP_GATE_UP: case PN_OP_DOWN: case PN_OP_ROUTER: case PN_OP_LATENT_UP: case PN_OP_HEAD:
    case PN_OP_CONTEXT: case PN_OP_CONTEXT_KV:
        pn_tile_products(&p->cut, &p->k, tile, p->scratch + thread * p->scratch_bytes);
        return;
    case PN_OP_ATTEND: pn_tile_attend(p, op, tile, thread); return;
    case PN_OP_SORT: pn_tile_sort(p); return;
    case PN_OP_LOGITS: pn_tile_logits(p, tile); return;
    case PN_OP_FETCH: pn_tile_fetch(p, op, tile, thread); return;
    case PN_OP_EXPERTS_IN: case PN_OP_EXPERTS_OUT: pn_tile_experts(p, tile, thread); return;
    default: break;
    }
    uint32_t from = tile * p->cut.columns, to = PN_MIN(from + p->cut.columns, p->cut.total_columns);
    for (uint32_t c = from; c < to; c++) column(p, op, c);
}

static uint32_t work_next(void *self, uint32_t op)
{
    pn_program *p = self;
    if (p->ops[op].kind == PN_OP_JOIN && pn_attend_again(p, op)) return op - 1;
    if (p->ops[op].kind == PN_OP_EXPERTS_OUT && pn_experts_again(p)) return op - 3; /* fetch */
    return op + 1;
}

pn_work pn_program_work(pn_program *p) { return (pn_work){p, p->n_ops, work_enter, work_tile, work_next, work_idle}; }
