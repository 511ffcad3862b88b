/* Forgets every state, mask and frame that no matcher stands on. What is needed again is made again. */
#include "grammar/dfa.h"

static void mark_state(pn_core *c, uint32_t id) { c->states[id]->flags |= STATE_LIVE; }

/* A frame that was marked has its depth's highest bit set, and so have those below it. */
enum { FRAME_LIVE = 1 << 30 };

static void mark_place(pn_core *c, pn_place at)
{
    mark_state(c, at.state);
    for (uint32_t f = at.frame; f && !(c->frames[f].depth & FRAME_LIVE); f = c->frames[f].parent) {
        c->frames[f].depth |= FRAME_LIVE;
        mark_state(c, c->frames[f].state);
    }
}

static void mark(pn_core *c)
{
    mark_state(c, c->start);
    for (const struct pn_matcher *m = c->matchers; m; m = m->next) {
        mark_place(c, m->at);
        for (uint32_t i = 0; i < m->n_undo; i++) mark_place(c, m->undo[(m->undo_at + m->undo_cap - 1 - i) % m->undo_cap]);
    }
}

/* Masks and rows of what stays speak of states that go: they go too. */
static void strip(pn_core *c, pn_state *s)
{
    pn_core_drop_mask(c, s);
    if (s->run) c->state_bytes -= sizeof *s->run;
    pn_free(c->a, s->run, sizeof *s->run);
    s->run = NULL;
    if (!s->row) return;
    c->state_bytes -= c->g->n_classes * sizeof *s->row;
    pn_free(c->a, s->row, c->g->n_classes * sizeof *s->row);
    s->row = NULL;
}

static void sweep_states(pn_core *c)
{
    for (size_t i = 1; i < c->n_states; i++) {
        pn_state *s = c->states[i];
        if (!s) continue;
        strip(c, s);
        if (s->flags & STATE_LIVE) {
            s->flags &= (uint8_t)~STATE_LIVE;
            continue;
        }
        if (!pn_core_room(c, (void **)&c->free_states, &c->cap_free_states, c->n_free_states, sizeof *c->free_states)) {
            c->status = PONDER_OK; /* it stays a little longer */
            continue;
        }
        c->free_states[c->n_free_states++] = (uint32_t)i;
        c->state_bytes -= sizeof *s + s->n * sizeof *s->e;
        pn_free(c->a, s, sizeof *s + s->n * sizeof *s->e);
        c->states[i] = NULL;
    }
    memset(c->slots, 0, c->n_slots * sizeof *c->slots);
    for (size_t i = 1; i < c->n_states; i++) {
        if (!c->states[i]) continue;
        uint32_t *slot = &c->slots[c->states[i]->hash & (c->n_slots - 1)];
        c->states[i]->chain = *slot;
        *slot = (uint32_t)i;
    }
}

static void sweep_frames(pn_core *c)
{
    if (c->n_frame_slots) memset(c->frame_slots, 0, c->n_frame_slots * sizeof *c->frame_slots);
    c->live_frames = 0;
    c->free_frame = 0;
    for (size_t i = 1; i < c->n_frames; i++) {
        pn_frame *f = &c->frames[i];
        if (f->depth != UINT32_MAX && (f->depth & FRAME_LIVE)) {
            f->depth &= ~(uint32_t)FRAME_LIVE;
            c->live_frames++;
        } else {
            *f = (pn_frame){.parent = c->free_frame, .depth = UINT32_MAX};
            c->free_frame = (uint32_t)i;
        }
    }
}

void pn_core_sweep(pn_core *c)
{
    mark(c);
    sweep_states(c);
    sweep_frames(c);
    if (c->cap_returns) memset(c->returns, 0, c->cap_returns * sizeof *c->returns);
    c->n_returns = 0;
    c->state_bytes -= c->cap_closed * sizeof *c->closed;
    pn_free(c->a, c->closed, c->cap_closed * sizeof *c->closed);
    c->closed = NULL;
    c->n_closed = c->cap_closed = 0;
    c->sweeps++;
    c->sweep_at = PN_MAX(c->cache_bytes / 2, 2 * c->state_bytes); /* what is stood on cannot go: do not come back at once */
    for (size_t i = 1; i < c->n_frames; i++) {
        pn_frame *f = &c->frames[i];
        if (f->depth == UINT32_MAX) continue;
        uint32_t *slot = &c->frame_slots[pn_core_frame_hash(f->parent, f->state) & (c->n_frame_slots - 1)];
        f->chain = *slot;
        *slot = (uint32_t)i;
    }
}
