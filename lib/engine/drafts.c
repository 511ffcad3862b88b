/* Drafts: what a step computes behind a sequence's one token, and what becomes of it. */
#include "engine/internal.h"

/* Steps remembered: about 1 / (1 - KEEP). A column that was not measured yet costs COLUMN_SHARE of the rest of a step. A draft
 * has to be worth MARGIN times its column: chances and times are guesses. */
static const double KEEP = 0.98, COLUMN_SHARE = 0.12, MARGIN = 1.5, MEASURED_STEPS = 8, MEASURED_SPREAD = 0.5;
static const float LEAST_CHANCE = 0.04f, MOST_CHANCE = 0.95f;

void pn_sequence_draft(pn_sequence *s, uint32_t most) { s->drafts.most = PN_MIN(most, (uint32_t)PN_DRAFT_MOST); }

void pn_sequence_ask_drafter(pn_sequence *s, bool ask) { s->drafts.ask = ask && s->e->drafter; }

void pn_sequence_propose(pn_sequence *s, pn_propose propose, void *user)
{
    s->drafts.propose = propose;
    s->drafts.user = user;
}

void pn_sequence_read_drafts(const pn_sequence *s, uint64_t *drafted, uint64_t *accepted)
{
    *drafted = s->drafts.drafted;
    *accepted = s->drafts.accepted;
}

/* ---- what a draft costs ---------------------------------------------------------------------------- */

void pn_drafts_note_step(pn_engine *e, uint32_t columns, uint64_t us)
{
    pn_step_cost *c = &e->cost;
    const double x = columns, y = (double)us;
    *c = (pn_step_cost){KEEP * c->w + 1, KEEP * c->x + x, KEEP * c->y + y, KEEP * c->xx + x * x, KEEP * c->xy + x * y};
}

double pn_drafts_step_us(const pn_engine *e, uint32_t generating, double *column_us)
{
    const pn_step_cost *c = &e->cost;
    const double spread = c->w * c->xx - c->x * c->x, mean = c->w > 0 ? c->y / c->w : 0;
    *column_us = mean * COLUMN_SHARE / (1 + generating * COLUMN_SHARE);
    if (c->w < MEASURED_STEPS) return 0;
    if (spread < MEASURED_SPREAD * c->w * c->w) return mean;
    *column_us = (c->w * c->xy - c->x * c->y) / spread;
    return (c->y - *column_us * c->x) / c->w + *column_us * generating;
}

/* The most tokens a second: a column is worth it while its chance is above what the step's time is worth in tokens, which for
 * n sequences that generate in a + b n is n b / (a + b n). */
float pn_drafts_least_chance(const pn_engine *e, uint32_t generating)
{
    const double n = generating;
    double b = 0, step = pn_drafts_step_us(e, generating, &b);
    if (step == 0) {
        b = COLUMN_SHARE;
        step = 1 + n * b;
    }
    const double least = MARGIN * n * b / step;
    return least > LEAST_CHANCE ? (float)PN_MIN(least, (double)MOST_CHANCE) : LEAST_CHANCE;
}

/* ---- before a step --------------------------------------------------------------------------------- */

/* Room for the logits of most drafts. Without memory there are none: nothing else depends on them. */
static bool room_for_rows(pn_sequence *s)
{
    pn_drafts *d = &s->drafts;
    const size_t row = s->e->n->d.vocab * sizeof *d->rows;
    if (d->cap >= d->most) return true;
    float *rows = pn_alloc(s->e->a, (d->most + 1) * row);
    if (!rows) return false;
    if (s->last != s->logits) memcpy(s->logits, s->last, row);
    s->last = s->logits;
    pn_drafts_free(s);
    d->rows = rows;
    d->cap = d->most;
    return true;
}

void pn_sequence_look_ahead(pn_sequence *s)
{
    pn_drafts *d = &s->drafts;
    d->n = 0;
    d->wanted = false;
    if (d->most == 0 || s->hold || s->n - s->past != 1) return;
    if (d->ask) {
        pn_luck_see(&d->luck, s->ids, s->n, d->accepted);
        d->wanted = s->n < s->limit && room_for_rows(s);
        return;
    }
    const uint32_t most = PN_MIN(d->most, s->limit - s->n);
    uint32_t n = d->propose ? d->propose(d->user, s->ids, s->n, s->ids + s->n, d->chance, most)
                            : pn_lookup_propose(&d->lookup, s->ids, s->n, s->ids + s->n, d->chance, most);
    while (n > 0 && d->chance[n - 1] < LEAST_CHANCE) n--;
    if (n > 0 && room_for_rows(s)) d->n = n;
}

/* ---- after a step ------------------------------------------------------------------------------------ */

void pn_drafts_computed(pn_sequence *s, uint32_t n)
{
    pn_drafts *d = &s->drafts;
    memcpy(d->ahead, s->ids + s->n, n * sizeof *d->ahead);
    d->ahead_at = d->n = 0;
    d->ahead_to = n;
    d->drafted += n;
    s->e->drafted += n;
}

/* Not before they are needed, so that what is computed of a sequence is at any time what it would be without drafts. */
void pn_sequence_take_ahead(pn_sequence *s)
{
    pn_drafts *d = &s->drafts;
    if (d->ahead_at == d->ahead_to || s->past == s->n) return;
    pthread_mutex_lock(&s->e->mutex);
    while (d->ahead_at < d->ahead_to && s->past < s->n && s->ids[s->past] == d->ahead[d->ahead_at] && !(s->row_at && s->row_at[s->past])) {
        pn_sequence_commit(s, 1);
        s->last += s->e->n->d.vocab;
        d->ahead_at++;
        d->accepted++;
        s->e->accepted++;
    }
    if (s->past < s->n) d->ahead_at = d->ahead_to;
    pthread_mutex_unlock(&s->e->mutex);
}

void pn_drafts_forget(pn_sequence *s)
{
    s->drafts.n = s->drafts.ahead_at = s->drafts.ahead_to = 0;
    s->drafts.wanted = false;
}

void pn_drafts_free(pn_sequence *s)
{
    if (s->drafts.rows) pn_free(s->e->a, s->drafts.rows, (s->drafts.cap + 1) * s->e->n->d.vocab * sizeof *s->drafts.rows);
    s->drafts.rows = NULL;
    s->drafts.cap = 0;
}
