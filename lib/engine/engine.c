/* The engine: who leads, what a step takes, when it is committed. */
#include "engine/internal.h"

enum { GATHER_LEAST_US = 100, GATHER_MOST_US = 20000, OUTPUT_BYTES = 32 << 20, PREFILL_LEAST = 16, LATE_OFTEN = 4, LATE_CHANCE = 8 };

void pn_engine_limits(const pn_description *d, const pn_engine_options *o, pn_limits *out)
{
    uint64_t logits = (uint64_t)d->vocab * sizeof(float);
    *out = (pn_limits){.columns = o->columns, .runs = o->sequences, .threads = PN_MAX(o->threads, 1u)};
    if (o->runner) out->threads = PN_MIN(PN_MAX(o->runner->threads, 1u), 64u);
    out->outputs = (uint32_t)PN_MIN(PN_MAX(OUTPUT_BYTES / logits, (uint64_t)o->sequences), (uint64_t)o->columns);
}

/* A pass takes as many blocks as a step has columns, but one at least. */
void pn_engine_drafter_limits(const pn_description *drafter, const pn_engine_options *o, pn_limits *out)
{
    pn_engine_limits(drafter, o, out);
    const uint32_t blocks = PN_MIN(PN_MAX(o->columns / drafter->block, 1u), out->runs);
    out->columns = blocks * drafter->block;
    out->runs = blocks;
    out->outputs = PN_MIN(PN_MAX(out->outputs, blocks), blocks * PN_MIN(drafter->block - 1, (uint32_t)PN_DRAFT_MOST));
}

static ponder_status new_drafter(pn_engine *e, const pn_kernels *k, ponder_error *err)
{
    const pn_network *n = e->n->drafter;
    pn_kv_layout layout;
    pn_kv_layout_init(&layout, &n->d, e->o.kv);
    pn_engine_drafter_limits(&n->d, &e->o, &e->drafter_limits);
    e->drafter_limits.threads = e->limits.threads;
    return pn_program_new(&e->drafter, n, k, &layout, &e->drafter_limits, e->a, err);
}

ponder_status pn_engine_new(pn_engine **out, const pn_network *n, const pn_engine_options *o, pn_team *team,
                            const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    pn_engine *e = pn_alloc_aligned(a, sizeof *e, 64);
    if (!e) {
        pn_team_free(team);
        return pn_nomem(err, sizeof *e);
    }
    memset(e, 0, sizeof *e);
    e->n = n;
    e->a = a;
    e->o = *o;
    e->team = team;
    e->luck = pn_luck_hoped;
    pn_callers_init(e);
    pn_engine_limits(&n->d, o, &e->limits);
    e->limits.threads = pn_team_size(team);
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags() & o->cpu);
    e->o.cpu = k.cpu;
    pn_kv_layout_init(&e->layout, &n->d, o->kv);
    if (n->drafter) pn_kv_layout_add_drafter(&e->layout, &n->drafter->d);
    for (int g = 0; g < PN_GROUPS; g++) pn_pool_init(&e->pool[g], e->layout.page_bytes[g], a);
    e->runs = pn_zalloc_array(a, e->limits.runs, sizeof *e->runs);
    e->run_of = pn_zalloc_array(a, e->limits.runs, sizeof *e->run_of);
    ponder_status st = e->runs && e->run_of ? pn_program_new(&e->program, n, &k, &e->layout, &e->limits, a, err)
                                            : pn_nomem(err, e->limits.runs * sizeof *e->runs);
    if (st == PONDER_OK && n->drafter) st = new_drafter(e, &k, err);
    if (st != PONDER_OK) {
        pn_engine_free(e);
        return st;
    }
    e->cursor.team = team;
    e->cursor.rest = &e->rest;
    *out = e;
    return PONDER_OK;
}

void pn_engine_free(pn_engine *e)
{
    if (!e) return;
    for (int g = 0; g < PN_GROUPS; g++) pn_pool_release(&e->pool[g], e->pool[g].n_free);
    pn_program_free(e->program);
    pn_program_free(e->drafter);
    pn_team_free(e->team);
    pn_free(e->a, e->runs, e->limits.runs * sizeof *e->runs);
    pn_free(e->a, e->run_of, e->limits.runs * sizeof *e->run_of);
    pn_callers_free(e);
    pn_free(e->a, e, sizeof *e);
}

uint32_t pn_engine_threads(const pn_engine *e) { return e->limits.threads; }

void pn_engine_read_counts(pn_engine *e, pn_engine_counts *out)
{
    pthread_mutex_lock(&e->mutex);
    *out = (pn_engine_counts){
        .steps = e->steps, .prefilled = e->prefilled, .sleeps = e->sleeps, .threads = e->limits.threads, .cpu = e->o.cpu,
        .experts = pn_experts_counts(e->n->experts), .drafted = e->drafted, .accepted = e->accepted,
        .passes = e->passes};
    for (int g = 0; g < PN_GROUPS; g++) out->kv_bytes += e->pool[g].n_used * e->pool[g].page_bytes;
    pthread_mutex_unlock(&e->mutex);
}

/* ---- laying out a step ----------------------------------------------------------------------- */

/* Adds up to `most` of the sequence's tokens as a run, and the drafts behind them; returns how many columns. */
static uint32_t add_run(pn_engine *e, pn_sequence *s, uint32_t most, uint32_t drafts, uint32_t *outputs_left)
{
    uint32_t n = PN_MIN(pn_pending(s), most);
    if (s->every) n = PN_MIN(n, *outputs_left);
    bool last = n == pn_pending(s);
    if (n == 0 || (last && *outputs_left == 0) || !pn_sequence_prepare(s, n + drafts)) return 0;
    n += drafts;
    s->drafts.in_step = drafts;
    pn_run *r = &e->runs[e->n_runs];
    *r = (pn_run){.ids = s->ids + s->past, .rows = s->row_at ? s->row_at + s->past : NULL, .pos = s->past, .n = n, .hidden = s->outputs.hidden, .hidden_layer = s->outputs.layer};
    for (int g = 0; g < PN_GROUPS; g++) r->pages[g] = s->table[g].bytes;
    if (s->every) {
        r->logits = s->outputs.logits;
        r->n_out = s->outputs.logits || s->outputs.layer == e->n->d.layers ? n : 0;
    } else if (last) {
        r->logits = drafts ? s->drafts.rows : s->logits;
        r->n_out = 1 + drafts;
        s->logits_valid = false; /* a step that is given up may have written half of them */
    }
    *outputs_left -= r->n_out;
    s->in_step = true;
    e->run_of[e->n_runs++] = s;
    return n;
}

static bool any_prompt(const pn_engine *e)
{
    for (const pn_sequence *s = e->first; s; s = s->next)
        if (pn_wants_step(s) && !pn_generates(s)) return true;
    return false;
}

/* How many of a sequence's drafts pay for their columns: chances fall. */
static uint32_t paying(const pn_sequence *s, float least, uint32_t most)
{
    uint32_t n = 0;
    while (n < s->drafts.n && n < most && s->drafts.chance[n] >= least) n++;
    return n;
}

/* The runs are laid out. */
void pn_engine_begin(pn_engine *e, pn_program *p, bool passing)
{
    e->n_live = e->n_runs;
    e->passing = passing;
    pn_program_begin(p, e->runs, e->n_runs);
    e->cursor.work = pn_program_work(p);
    pn_cursor_begin(&e->cursor);
    e->active = true;
    e->busy_us = 0;
}

/* Sequences that generate first (one token each, and drafts as far as they pay), then prompts: a whole step of them, or one
 * chunk when others generate. A prompt finds its place however many generate. */
static void lay_out(pn_engine *e)
{
    if (!e->passed && pn_drafter_lay_out(e)) return;
    e->passed = false; /* who came too late for a pass has none before this step */
    uint32_t columns = e->limits.columns, outputs = e->limits.outputs, generating = 0;
    uint32_t most = PN_MIN(e->limits.runs, columns);
    if (most > 1 && any_prompt(e)) most--;
    e->n_runs = 0;
    for (const pn_sequence *s = e->first; s; s = s->next) generating += pn_wants_step(s) && pn_generates(s);
    generating = PN_MIN(generating, most);
    const float least = pn_drafts_least_chance(e, generating);
    const uint32_t room = PN_MIN(columns, outputs);
    uint32_t drafts = room > e->n_waiting ? room - e->n_waiting : 0; /* nobody waits for a draft */
    for (pn_sequence *s = e->first; s && e->n_runs < generating; s = s->next) {
        if (!pn_wants_step(s) || !pn_generates(s)) continue;
        const uint32_t n = add_run(e, s, 1, paying(s, least, drafts), &outputs);
        drafts -= n > 1 ? n - 1 : 0;
        columns -= n;
    }
    if (generating) columns = PN_MIN(columns, e->o.chunk);
    for (pn_sequence *s = e->first; s && e->n_runs < e->limits.runs && columns; s = s->next)
        if (pn_wants_step(s) && !pn_generates(s)) columns -= add_run(e, s, columns, 0, &outputs);
    if (e->n_runs == 0) return;
    pn_engine_begin(e, e->program, false);
}

static void end_step(pn_engine *e)
{
    e->active = e->passing = false;
    e->n_runs = e->n_live = 0;
}

void pn_engine_drop_run(pn_engine *e, pn_sequence *s)
{
    uint32_t i = 0;
    while (e->run_of[i] != s) i++;
    pn_program_drop(&e->runs[i]);
    e->run_of[i] = NULL;
    s->in_step = false;
    if (--e->n_live == 0) end_step(e);
}

/* Its caller is expected back soon, if it is one that comes back at once. */
static void warm(pn_sequence *s)
{
    if (s->hot || s->every || !s->at_once) return;
    if (s->late >= LATE_OFTEN && s->late % LATE_CHANCE != 0) return;
    s->hot = true;
    s->e->n_hot++;
}

static void commit_run(pn_engine *e, pn_sequence *s, const pn_run *r)
{
    const pn_description *d = &e->n->d;
    s->in_step = false;
    const uint32_t drafts = s->drafts.in_step, n = r->n - drafts;
    if (n > 1 || s->every) e->prefilled += n;
    pn_sequence_commit(s, n);
    s->logits_valid = false;
    pn_engine_to_back(s);
    if (s->outputs.logits) s->outputs.logits += (size_t)r->n * d->vocab;
    if (s->outputs.hidden) s->outputs.hidden += (size_t)r->n * d->width;
    if (pn_pending(s) > 0) return;
    s->logits_valid = r->logits != NULL;
    s->last = drafts ? r->logits : s->logits;
    pn_drafts_computed(s, drafts);
    if (s->every && s->logits_valid) memcpy(s->logits, s->outputs.logits - d->vocab, d->vocab * sizeof(float));
    s->done = true;
    e->n_waiting--;
    warm(s); /* now, not when its caller has woken: the first to come back is to wait for all */
    if (s->caller) pn_caller_wake(s->caller);
}

/* Its tokens stay as they were: they may be computed again. */
static void fail_run(pn_engine *e, pn_sequence *s)
{
    s->in_step = false;
    s->failed = e->failure.status;
    s->done = true;
    e->n_waiting--;
    pn_engine_to_back(s);
    if (s->caller) pn_caller_wake(s->caller);
}

static void smooth(_Atomic uint64_t *mean, uint64_t newest)
{
    const uint64_t old = atomic_load_explicit(mean, memory_order_relaxed);
    newest = PN_MAX(newest, (uint64_t)1);
    atomic_store_explicit(mean, old ? (7 * old + newest + 7) / 8 : newest, memory_order_relaxed);
}

/* A step of one kind alone says something of the kind's speed. */
static void measure(pn_engine *e)
{
    uint32_t columns = 0, most = 0;
    for (uint32_t i = 0; i < e->n_runs; i++) {
        columns += e->runs[i].n;
        most = PN_MAX(most, e->runs[i].n - (e->run_of[i] ? e->run_of[i]->drafts.in_step : 0));
    }
    if (most == 1) {
        smooth(&e->decode_us, e->busy_us + e->before_us);
        pn_drafts_note_step(e, columns, e->busy_us);
    }
    else if (columns >= PREFILL_LEAST) smooth(&e->prefill_ns, e->busy_us * 1000 / columns);
}

pn_engine_speed pn_engine_measured(const pn_engine *e)
{
    return (pn_engine_speed){atomic_load_explicit(&e->prefill_ns, memory_order_relaxed), atomic_load_explicit(&e->decode_us, memory_order_relaxed)};
}

static void commit(pn_engine *e)
{
    measure(e);
    for (uint32_t i = 0; i < e->n_runs; i++)
        if (e->runs[i].failed) e->failure = *pn_experts_failure(e->n->experts);
    for (uint32_t i = 0; i < e->n_runs; i++) {
        if (!e->run_of[i]) continue;
        if (e->runs[i].failed) fail_run(e, e->run_of[i]);
        else commit_run(e, e->run_of[i], &e->runs[i]);
    }
    end_step(e);
    e->before_us = 0;
    e->steps++;
    e->step_us = e->busy_us;
}

/* ---- leading ------------------------------------------------------------------------------------ */

bool pn_gather_more(const pn_engine *e) { return e->n_hot > 0 && e->n_waiting < e->limits.runs; }

static void cool(pn_sequence *s)
{
    s->e->n_hot -= s->hot;
    s->hot = false;
}

/* Callers whose token was just computed are sampling and will be back: a step with all of them costs little more than one
 * without, so wait for them, but not for long. Who is late time and again is waited for only now and then. */
static void gather(pn_engine *e, pn_caller *me)
{
    uint64_t most = PN_MIN(PN_MAX(e->step_us / 4, (uint64_t)GATHER_LEAST_US), (uint64_t)GATHER_MOST_US), until = pn_now_us() + most;
    pn_caller_gather(e, me, until);
    if (pn_now_us() < until) return;
    for (pn_sequence *s = e->first; s; s = s->next) cool(s);
}

/* Computes at the head of the team, without the lock, until the step ends or has to rest. False: there is nothing to
 * compute although somebody waits, which the reservations rule out. */
static bool lead(pn_engine *e, pn_caller *me, uint64_t until)
{
    if (!e->active && !until && pn_gather_more(e)) gather(e, me);
    if (e->pausers || atomic_load(me->cancel)) return true;
    if (!e->active) lay_out(e);
    if (!e->active) return false;
    const uint64_t began = pn_now_us();
    const bool finished = pn_engine_lead(e, &e->cursor, until, me->cancel);
    e->busy_us += pn_now_us() - began;
    if (finished && e->passing) {
        pn_drafter_commit(e);
        e->passed = true;
        end_step(e);
    } else if (finished) {
        commit(e);
    }
    e->tasks_turn = true;
    return true;
}

static void submit(pn_sequence *s)
{
    pn_engine *e = s->e;
    cool(s);
    if (!s->waiting) {
        s->late = e->active ? s->late + 1 : 0;
        s->waiting = true;
        s->done = false;
        s->failed = PONDER_OK;
        e->n_waiting++;
    }
    if (e->gatherer && !pn_gather_more(e)) pn_caller_wake(e->gatherer);
}

static bool any_done(pn_sequence *const *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (s[i]->done) return true;
    return false;
}

/* Waits, leading when nobody does, until one of the requests is done, the time is over, or it is cancelled. Under the lock. */
static ponder_status wait_any(pn_engine *e, pn_sequence *const *s, uint32_t n, uint64_t until, const _Atomic bool *cancel, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    pn_caller me;
    bool began = false;
    pn_caller_enter(e, &me, cancel, false);
    for (uint32_t i = 0; i < n; i++) {
        s[i]->caller = &me;
        s[i]->at_once = until == 0;
    }
    while (!any_done(s, n)) {
        if (atomic_load(cancel)) {
            st = pn_fail(err, PONDER_E_CANCELLED, "cancelled");
            break;
        }
        if (until && began && pn_now_us() >= until) {
            st = PONDER_MORE;
            break;
        }
        began = true;
        if (!pn_caller_may_lead(e, &me)) pn_caller_sleep(e, &me, until);
        else if (!lead(e, &me, until)) {
            st = pn_fail(err, PONDER_E_INTERNAL, "a step found no page for position %u", s[0]->past);
            break;
        }
    }
    for (uint32_t i = 0; i < n; i++) s[i]->caller = NULL;
    pn_caller_leave(e, &me);
    return st;
}

static ponder_status wait_for(pn_sequence *s, uint64_t until, ponder_error *err)
{
    pn_engine *e = s->e;
    ponder_status st = PONDER_MORE;
    pthread_mutex_lock(&e->mutex);
    submit(s);
    if (until != PN_POLL) st = wait_any(e, &s, 1, until, &s->cancel, err);
    else if (s->done) st = PONDER_OK;
    else if (atomic_load(&s->cancel)) st = pn_fail(err, PONDER_E_CANCELLED, "cancelled");
    if (st == PONDER_OK && s->failed) st = pn_fail(err, s->failed, "%s", e->failure.text);
    if (st < 0) pn_sequence_withdraw(s);
    if (st == PONDER_OK) s->waiting = s->done = false;
    pthread_mutex_unlock(&e->mutex);
    return st;
}

ponder_status pn_engine_advance_any(pn_engine *e, pn_sequence *const *s, uint32_t n, uint64_t until, const _Atomic bool *cancel, ponder_error *err)
{
    if (n == 0) return PONDER_OK;
    pthread_mutex_lock(&e->mutex);
    ponder_status st = wait_any(e, s, n, until, cancel, err);
    pthread_mutex_unlock(&e->mutex);
    return st;
}

void pn_engine_nudge(pn_engine *e) { atomic_store(&e->rest, true); }

void pn_sequence_submit(pn_sequence *s)
{
    if (s->waiting) return;
    pn_sequence_take_ahead(s);
    if (s->past == s->n) return;
    pn_sequence_look_ahead(s);
    pthread_mutex_lock(&s->e->mutex);
    s->every = false;
    s->outputs = (pn_outputs){0};
    submit(s);
    pthread_mutex_unlock(&s->e->mutex);
}

ponder_status pn_sequence_advance(pn_sequence *s, uint64_t until, ponder_error *err)
{
    if (s->n == 0) return pn_fail(err, PONDER_E_STATE, "the sequence is empty");
    if (s->waiting) return wait_for(s, until, err); /* another's step may be committing it: nothing else is looked at without the lock */
    if (s->past < s->n && atomic_load(&s->cancel)) return pn_fail(err, PONDER_E_CANCELLED, "cancelled"); /* also where nothing is left to compute */
    pn_sequence_take_ahead(s);
    if (pn_sequence_logits(s)) return PONDER_OK;
    /* All tokens are in the store, but nobody kept the logits: the last one is done again. */
    if (s->past == s->n) {
        uint32_t n = s->n;
        ponder_status st = pn_sequence_rewind(s, n - 1, NULL, err);
        if (st != PONDER_OK) return st;
        s->n = n;
    }
    pn_sequence_submit(s);
    return wait_for(s, until, err);
}

ponder_status pn_sequence_compute(pn_sequence *s, const pn_outputs *o, ponder_error *err)
{
    if (s->past == s->n) return PONDER_OK;
    pthread_mutex_lock(&s->e->mutex);
    pn_sequence_withdraw(s);
    pthread_mutex_unlock(&s->e->mutex);
    s->every = true;
    s->outputs = *o;
    ponder_status st = wait_for(s, 0, err);
    s->every = false;
    s->outputs = (pn_outputs){0};
    return st;
}
