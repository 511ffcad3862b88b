/* A drafter's passes: whether one pays, what it is laid out as, and what becomes of its guesses. */
#include "engine/internal.h"

/* A first opinion counts as FEW observations, and more than MANY fade. A pass has to be worth MARGIN times its time. While passes do not
 * pay, one is tried when the steps since would make it TRIAL_SHARE of the time. */
enum { FEW = 2, MANY = 16, TRIAL_COUNTS = 4, LEAST_PAUSE = 32, MOST_PAUSE = 4096 };
static const float UNSURE = 0.9f;
static const double MARGIN = 1.2, TRIAL_SHARE = 0.01;

const float pn_luck_hoped = 2;

void pn_luck_init(pn_luck *l)
{
    *l = (pn_luck){.taken = pn_luck_hoped, .passes = FEW};
    for (uint32_t i = 0; i < PN_LUCK_CLASSES; i++) l->hit[i] = UNSURE * ((float)i + 0.5f) / PN_LUCK_CLASSES;
}

void pn_luck_see(pn_luck *l, const int32_t *ids, uint32_t n, uint64_t accepted)
{
    bool came = true;
    if (l->n == 0) return;
    for (uint32_t i = 0; i < l->n && came && l->at + i < n; i++) {
        came = ids[l->at + i] == l->guess[i];
        pn_note_mean(&l->hit[l->rank[i]], &l->times[l->rank[i]], came ? 1 : 0, FEW, MANY);
    }
    pn_note_mean(&l->taken, &l->passes, (float)(accepted - l->accepted), FEW, MANY);
    l->accepted = accepted;
    l->n = 0;
}

void pn_luck_guess(pn_luck *l, uint32_t i, uint32_t at, int32_t id, float probability, float *chance)
{
    l->at = at;
    l->n = i + 1;
    l->guess[i] = id;
    l->rank[i] = (uint8_t)PN_MIN((uint32_t)(probability * PN_LUCK_CLASSES), (uint32_t)PN_LUCK_CLASSES - 1);
    *chance *= l->hit[l->rank[i]];
}

/* n sequences make n tokens a step, and wait for each other's passes and columns. */
bool pn_luck_pays(pn_luck *l, double pass, double column, uint32_t generating)
{
    if (l->pause > 0) return --l->pause == 0;
    const double cost = generating * (pass + l->taken * column) * MARGIN;
    if (l->taken >= cost) return true;
    l->pause = (uint32_t)PN_MIN(PN_MAX(generating * pass / TRIAL_SHARE, (double)LEAST_PAUSE), (double)MOST_PAUSE);
    l->passes = PN_MIN(l->passes, (uint32_t)TRIAL_COUNTS);
    return false;
}

void pn_engine_always_draft(pn_engine *e) { e->always_draft = true; }

/* ---- a pass ------------------------------------------------------------------------------------------------ */

/* A text that nothing is known of is taken for what the newest ones were. */
static void share_luck(pn_engine *e, pn_luck *l)
{
    if (l->passes == FEW) l->taken = e->luck;
    else e->luck += (l->taken - e->luck) / MANY;
}

static bool pays(pn_engine *e, pn_sequence *s, uint32_t generating)
{
    double column;
    const double step = pn_drafts_step_us(e, generating, &column);
    share_luck(e, &s->drafts.luck);
    if (e->always_draft || step <= 0 || e->pass_us == 0) return true;
    return pn_luck_pays(&s->drafts.luck, (double)e->pass_us / step, column / step, generating);
}

/* The whole block, of which less than all may be of use: what a guess is depends on the others. */
static bool add_block(pn_engine *e, pn_sequence *s, uint32_t most)
{
    const pn_description *d = &e->n->drafter->d;
    const uint32_t block = PN_MIN(d->block, s->limit - s->past), guesses = PN_MIN(PN_MIN(most, block - 1), PN_MIN(s->drafts.most, s->limit - s->n));
    if (!pn_sequence_prepare_block(s, block)) return false;
    pn_run *r = &e->runs[e->n_runs];
    *r = (pn_run){.ids = s->ids + s->past, .pos = s->past, .n = block, .from = s->context_from, .n_out = guesses, .n_behind = block - 1 - guesses};
    r->pages[PN_DRAFTER] = s->table[PN_DRAFTER].bytes;
    s->in_step = true;
    e->run_of[e->n_runs++] = s;
    return true;
}

bool pn_drafter_lay_out(pn_engine *e)
{
    uint32_t generating = 0, asking = 0;
    if (!e->drafter) return false;
    for (const pn_sequence *s = e->first; s; s = s->next) {
        generating += pn_wants_step(s) && pn_generates(s);
        asking += pn_wants_step(s) && s->drafts.wanted;
    }
    if (asking == 0) return false;
    asking = PN_MIN(asking, e->drafter_limits.runs);
    e->n_runs = 0;
    for (pn_sequence *s = e->first; s && e->n_runs < asking; s = s->next) {
        if (!pn_wants_step(s) || !s->drafts.wanted) continue;
        s->drafts.wanted = false;
        if (pays(e, s, generating)) add_block(e, s, e->drafter_limits.outputs / asking);
    }
    if (e->n_runs == 0) return false;
    pn_engine_begin(e, e->drafter, true);
    return true;
}

static void take_guesses(pn_engine *e, pn_sequence *s, const pn_run *r)
{
    pn_drafts *d = &s->drafts;
    float chance = 1, probability;
    s->in_step = false;
    pn_engine_to_back(s); /* where not all fit a pass, others are next */
    d->luck.accepted = d->accepted;
    for (uint32_t i = 0; i < r->n_out; i++) {
        pn_program_pick(e->drafter, r->out + i, &s->ids[s->n + i], &probability);
        pn_luck_guess(&d->luck, i, s->n, s->ids[s->n + i], probability, &chance);
        d->chance[i] = e->always_draft ? 1 : chance;
    }
    d->n = r->n_out;
}

void pn_drafter_commit(pn_engine *e)
{
    const uint64_t us = PN_MAX(e->busy_us / e->n_runs, (uint64_t)1);
    e->pass_us = e->pass_us ? (7 * e->pass_us + us + 7) / 8 : us;
    e->before_us = e->busy_us;
    e->passes++;
    for (uint32_t i = 0; i < e->n_runs; i++)
        if (e->run_of[i]) take_guesses(e, e->run_of[i], &e->runs[i]);
}
