#include "files/experts.h"

#include <stdatomic.h>

enum { NONE = UINT32_MAX, TILE_BYTES = 256 << 10 };

/* One matrix of every expert of a layer. */
typedef struct part {
    pn_slice s;
    pn_treatment t;
    size_t at;                /* in a slot */
    uint32_t panels, panels_a_tile, tiles;
} part;

struct pn_experts {
    const ponder_alloc *a;
    pn_checkpoint *file;      /* a reference */
    pn_pack_fn *pack;
    uint32_t layers, experts, slots, threads;
    size_t slot_bytes, buffer_bytes;
    part (*part)[PN_EXPERT_PARTS]; /* [layers] */
    uint8_t *memory, *buffers;
    uint32_t *slot_of;        /* [layers * experts] */
    uint32_t *held;           /* [slots]: layer * experts + expert */
    uint32_t *fresh;          /* slots that are being read */
    uint64_t *used;           /* [slots]: the round that claimed it last */
    _Atomic bool *failed;     /* [slots] */
    uint32_t n_fresh;
    uint64_t round;
    _Atomic bool told;
    ponder_error failure;
    _Atomic uint64_t hits, reads, bytes;
};

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

static const pn_role roles[PN_EXPERT_PARTS] = {PN_W_EXPERTS_GATE, PN_W_EXPERTS_UP, PN_W_EXPERTS_DOWN};

static size_t round64(size_t n) { return (n + 63) / 64 * 64; }

static void size_tiles(part *p)
{
    const uint64_t panel = PN_PANEL * p->s.row_stride;
    p->panels = (uint32_t)((p->s.rows + PN_PANEL - 1) / PN_PANEL);
    p->panels_a_tile = (uint32_t)PN_MIN(PN_MAX(TILE_BYTES / panel, (uint64_t)1), (uint64_t)p->panels);
    p->tiles = (p->panels + p->panels_a_tile - 1) / p->panels_a_tile;
}

/* *bytes: of one expert; 0: there are none here, or nothing is packed. */
static ponder_status describe_layer(part of[PN_EXPERT_PARTS], size_t *bytes, size_t *buffer, const pn_checkpoint *c, const pn_description *d,
                                    const pn_load_options *o, uint32_t layer, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    bool found = true;
    size_t at = 0;
    *bytes = 0;
    for (int i = 0; i < PN_EXPERT_PARTS; i++) {
        part *p = &of[i];
        st = pn_find_weight(c, d, roles[i], layer, &p->s, &found, err);
        if (st == PONDER_OK && found) st = pn_load_treat(&p->t, c, o, &p->s, 0, err);
        if (st != PONDER_OK || !found || !p->t.packed) return st;
        p->at = at;
        size_tiles(p);
        if (!pn_add(at, p->t.stride, &at)) return pn_fail(err, PONDER_E_FORMAT, "tensor %s is too large", p->s.tensor->name);
        const size_t need = (size_t)p->panels_a_tile * PN_PANEL * (size_t)p->s.row_stride;
        *buffer = PN_MAX(*buffer, round64(need) + round64(pn_load_room(&p->s, &p->t)));
    }
    *bytes = at;
    return st;
}

typedef struct sizes {
    size_t slot, buffer, all;
    uint32_t sparse;          /* layers that have experts */
} sizes;

static ponder_status measure(sizes *z, part (*parts)[PN_EXPERT_PARTS], const pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                             ponder_error *err)
{
    ponder_status st = PONDER_OK;
    part here[PN_EXPERT_PARTS];
    *z = (sizes){0};
    for (uint32_t l = 0; l < d->layers && st == PONDER_OK; l++) {
        size_t one = 0, layer;
        if (!d->layer[l].sparse) continue;
        st = describe_layer(parts ? parts[l] : here, &one, &z->buffer, c, d, o, l, err);
        if (st == PONDER_OK && (!pn_mul(one, d->experts, &layer) || !pn_add(z->all, layer, &z->all)))
            st = pn_fail(err, PONDER_E_FORMAT, "too many experts");
        z->slot = PN_MAX(z->slot, one);
        z->sparse += one != 0;
    }
    return st;
}

static uint32_t threads_of(const pn_load_options *o) { return o->threads ? o->threads : o->team ? pn_team_size(o->team) : 1; }

static uint64_t overhead(const sizes *z, const pn_description *d, const pn_load_options *o)
{
    return sizeof(pn_experts) + d->layers * sizeof(part[PN_EXPERT_PARTS]) + (uint64_t)d->layers * d->experts * sizeof(uint32_t) +
           (uint64_t)threads_of(o) * z->buffer;
}

enum { A_SLOT = 2 * sizeof(uint32_t) + sizeof(uint64_t) + sizeof(_Atomic bool) }; /* of its entries in tables */

/* *slots 0: all are held, or there are none. */
static ponder_status count_slots(uint32_t *slots, const sizes *z, const pn_description *d, const pn_load_options *o, ponder_error *err)
{
    *slots = 0;
    if (!o->expert_bytes || z->all <= o->expert_bytes) return PONDER_OK;
    const uint64_t over = overhead(z, d, o), room = o->expert_bytes > over ? o->expert_bytes - over : 0;
    const uint64_t fit = PN_MIN(room / (z->slot + A_SLOT), (uint64_t)z->sparse * d->experts);
    if (fit == 0) return pn_fail(err, PONDER_E_NOMEM, "one expert takes %zu bytes, %llu are left for them", z->slot, (unsigned long long)room);
    *slots = (uint32_t)fit;
    return PONDER_OK;
}

ponder_status pn_experts_sizes(uint64_t *all, uint64_t *taken, const pn_checkpoint *c, const pn_description *d, const pn_load_options *o,
                               ponder_error *err)
{
    sizes z;
    uint32_t slots = 0;
    ponder_status st = measure(&z, NULL, c, d, o, err);
    if (st == PONDER_OK) st = count_slots(&slots, &z, d, o, err);
    *all = *taken = z.all;
    if (slots) *taken = overhead(&z, d, o) + (uint64_t)slots * (z.slot + A_SLOT);
    return st;
}

ponder_status pn_experts_least(uint64_t *bytes, const pn_checkpoint *c, const pn_description *d, const pn_load_options *o, ponder_error *err)
{
    sizes z;
    ponder_status st = measure(&z, NULL, c, d, o, err);
    *bytes = overhead(&z, d, o) + z.slot + A_SLOT;
    return st;
}

/* ---- made and freed ----------------------------------------------------------------------------------------------- */

static ponder_status allocate(pn_experts *e, ponder_error *err)
{
    const size_t bytes = (size_t)e->slots * e->slot_bytes, entries = (size_t)e->layers * e->experts;
    e->memory = pn_load_alloc(e->a, bytes);
    e->buffers = pn_alloc_aligned(e->a, e->threads * e->buffer_bytes, 64);
    e->slot_of = pn_zalloc_array(e->a, entries, sizeof *e->slot_of);
    e->held = pn_zalloc_array(e->a, e->slots, sizeof *e->held);
    e->fresh = pn_zalloc_array(e->a, e->slots, sizeof *e->fresh);
    e->used = pn_zalloc_array(e->a, e->slots, sizeof *e->used);
    e->failed = pn_zalloc_array(e->a, e->slots, sizeof *e->failed);
    if (!e->memory || !e->buffers || !e->slot_of || !e->held || !e->fresh || !e->used || !e->failed) return pn_nomem(err, bytes);
    for (size_t i = 0; i < entries; i++) e->slot_of[i] = NONE;
    for (uint32_t i = 0; i < e->slots; i++) e->held[i] = NONE;
    return PONDER_OK;
}

static ponder_status make(pn_experts *e, const sizes *z, pn_checkpoint *c, const pn_description *d, const pn_load_options *o, ponder_error *err)
{
    sizes again;
    e->layers = d->layers;
    e->experts = d->experts;
    e->threads = threads_of(o);
    e->pack = pn_load_packer(o);
    e->slot_bytes = z->slot;
    e->buffer_bytes = z->buffer;
    e->failure.size = sizeof e->failure;
    e->file = pn_checkpoint_hold(c);
    e->part = pn_zalloc_array(e->a, d->layers, sizeof *e->part);
    if (!e->part) return pn_nomem(err, d->layers * sizeof *e->part);
    ponder_status st = measure(&again, e->part, c, d, o, err);
    return st == PONDER_OK ? allocate(e, err) : st;
}

ponder_status pn_experts_new(pn_experts **out, pn_checkpoint *c, const pn_description *d, const pn_load_options *o, const ponder_alloc *a,
                             ponder_error *err)
{
    sizes z;
    uint32_t slots = 0;
    *out = NULL;
    ponder_status st = o->expert_bytes ? measure(&z, NULL, c, d, o, err) : PONDER_OK;
    if (st == PONDER_OK && o->expert_bytes) st = count_slots(&slots, &z, d, o, err);
    if (st != PONDER_OK || slots == 0) return st;
    pn_experts *e = pn_zalloc(a, sizeof *e);
    if (!e) return pn_nomem(err, sizeof *e);
    e->a = a;
    e->slots = slots;
    st = make(e, &z, c, d, o, err);
    if (st == PONDER_OK) *out = e;
    else pn_experts_free(e);
    return st;
}

void pn_experts_free(pn_experts *e)
{
    if (!e) return;
    pn_checkpoint_free(e->file);
    if (e->part) pn_free(e->a, e->part, e->layers * sizeof *e->part);
    pn_free(e->a, e->memory, (size_t)e->slots * e->slot_bytes);
    pn_free(e->a, e->buffers, e->threads * e->buffer_bytes);
    pn_free(e->a, e->slot_of, (size_t)e->layers * e->experts * sizeof *e->slot_of);
    pn_free(e->a, e->held, e->slots * sizeof *e->held);
    pn_free(e->a, e->fresh, e->slots * sizeof *e->fresh);
    pn_free(e->a, e->used, e->slots * sizeof *e->used);
    pn_free(e->a, e->failed, e->slots * sizeof *e->failed);
    pn_free(e->a, e, sizeof *e);
}

uint32_t pn_experts_threads(const pn_experts *e) { return e->threads; }

uint64_t pn_experts_bytes(const pn_experts *e)
{
    if (!e) return 0;
    return sizeof *e + e->layers * sizeof *e->part + (uint64_t)e->layers * e->experts * sizeof *e->slot_of + e->threads * e->buffer_bytes +
           (uint64_t)e->slots * (e->slot_bytes + A_SLOT);
}

pn_weight pn_experts_weight(const pn_experts *e, uint32_t layer, pn_expert_part which)
{
    const part *p = &e->part[layer][which];
    return (pn_weight){
        .first = {.type = p->t.type, .rows = (uint32_t)p->s.rows, .k = (size_t)p->s.cols, .packed = e->memory + p->at},
        .batch = e->experts, .packed_stride = e->slot_bytes, .slot_of = e->slot_of + (size_t)layer * e->experts,
    };
}

pn_expert_counts pn_experts_counts(const pn_experts *e)
{
    if (!e) return (pn_expert_counts){0};
    return (pn_expert_counts){atomic_load_explicit(&e->hits, memory_order_relaxed), atomic_load_explicit(&e->reads, memory_order_relaxed),
                              atomic_load_explicit(&e->bytes, memory_order_relaxed)};
}

/* ---- rounds --------------------------------------------------------------------------------------------------------- */

static void count(_Atomic uint64_t *c, uint64_t n) { atomic_fetch_add_explicit(c, n, memory_order_relaxed); }

static void empty(pn_experts *e, uint32_t slot)
{
    if (e->held[slot] != NONE) e->slot_of[e->held[slot]] = NONE;
    e->held[slot] = NONE;
    e->used[slot] = 0;
}

void pn_experts_begin(pn_experts *e)
{
    for (uint32_t i = 0; i < e->n_fresh; i++) empty(e, e->fresh[i]);
    e->n_fresh = 0;
    e->round++;
    atomic_store_explicit(&e->told, false, memory_order_relaxed);
}

bool pn_experts_has(const pn_experts *e, uint32_t layer, uint32_t expert) { return e->slot_of[(size_t)layer * e->experts + expert] != NONE; }

/* Free slots were never used: 0 is the oldest. */
static uint32_t oldest(const pn_experts *e)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < e->slots; i++)
        if (e->used[i] < e->used[best]) best = i;
    return best;
}

bool pn_experts_claim(pn_experts *e, uint32_t layer, uint32_t expert, bool *read)
{
    const uint32_t key = layer * e->experts + expert;
    uint32_t slot = e->slot_of[key];
    *read = slot == NONE;
    if (*read) {
        slot = oldest(e);
        if (e->used[slot] == e->round) return false;
        empty(e, slot);
        e->held[slot] = key;
        e->slot_of[key] = slot;
        e->fresh[e->n_fresh++] = slot;
        atomic_store_explicit(&e->failed[slot], false, memory_order_relaxed);
    }
    count(*read ? &e->reads : &e->hits, 1);
    e->used[slot] = e->round;
    return true;
}

void pn_experts_settle(pn_experts *e)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->n_fresh; i++)
        if (atomic_load_explicit(&e->failed[e->fresh[i]], memory_order_relaxed)) e->fresh[kept++] = e->fresh[i];
    e->n_fresh = kept; /* forgotten when the next round begins */
}

bool pn_experts_failed(const pn_experts *e, uint32_t layer, uint32_t expert)
{
    return atomic_load_explicit(&e->failed[e->slot_of[(size_t)layer * e->experts + expert]], memory_order_relaxed);
}

const ponder_error *pn_experts_failure(const pn_experts *e) { return &e->failure; }

/* ---- reading -------------------------------------------------------------------------------------------------------- */

uint32_t pn_experts_tiles(const pn_experts *e, uint32_t layer)
{
    uint32_t n = 0;
    for (int i = 0; i < PN_EXPERT_PARTS; i++) n += e->part[layer][i].tiles;
    return n;
}

typedef struct piece {
    const part *p;
    uint32_t panel0, panel1, rows;
    uint64_t from;            /* in the tensor */
    size_t bytes;
} piece;

static piece piece_at(const pn_experts *e, uint32_t layer, uint32_t expert, uint32_t tile)
{
    const part *p = e->part[layer];
    while (tile >= p->tiles) tile -= p++->tiles;
    piece w = {.p = p, .panel0 = tile * p->panels_a_tile};
    w.panel1 = PN_MIN(w.panel0 + p->panels_a_tile, p->panels);
    w.rows = (uint32_t)PN_MIN((uint64_t)w.panel1 * PN_PANEL, p->s.rows) - w.panel0 * PN_PANEL;
    w.from = p->s.from + expert * p->s.batch_stride + (uint64_t)w.panel0 * PN_PANEL * p->s.row_stride;
    w.bytes = (size_t)(w.rows * p->s.row_stride);
    return w;
}

static void fail(pn_experts *e, uint32_t slot, const ponder_error *why)
{
    atomic_store_explicit(&e->failed[slot], true, memory_order_relaxed);
    if (!atomic_exchange(&e->told, true)) e->failure = *why;
}

void pn_experts_read(pn_experts *e, uint32_t layer, uint32_t expert, uint32_t tile, uint32_t thread)
{
    const piece w = piece_at(e, layer, expert, tile);
    const uint32_t slot = e->slot_of[(size_t)layer * e->experts + expert];
    uint8_t *buffer = e->buffers + thread * e->buffer_bytes, *to = e->memory + slot * e->slot_bytes + w.p->at;
    ponder_error why = {.size = sizeof why};
    if (pn_checkpoint_copy(e->file, w.p->s.tensor, w.from, buffer, w.bytes, &why) != PONDER_OK) {
        fail(e, slot, &why);
        memset(to + w.panel0 * w.p->t.panel_bytes, 0, (w.panel1 - w.panel0) * w.p->t.panel_bytes);
        return;
    }
    count(&e->bytes, w.bytes);
    for (uint32_t i = w.panel0; i < w.panel1; i++) {
        const uint32_t row = (i - w.panel0) * PN_PANEL, n = PN_MIN(w.rows - row, (uint32_t)PN_PANEL);
        pn_load_pack(e->pack, &w.p->s, &w.p->t, buffer + row * w.p->s.row_stride, n, buffer + round64(w.bytes), to + i * w.p->t.panel_bytes);
    }
}

void pn_experts_soon(pn_experts *e, uint32_t layer, uint32_t expert, uint32_t tile)
{
    const piece w = piece_at(e, layer, expert, tile);
    pn_checkpoint_soon(e->file, w.p->s.tensor, w.from, w.bytes);
}
