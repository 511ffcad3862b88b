/* Opening, sharing and planning models. */
#include "session/session.h"

#include "remote/remote.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- options from the config ------------------------------------------------------------------ */

static uint32_t cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return (uint32_t)PN_MIN(PN_MAX(n, 1), 64);
}

static ponder_status engine_options(const ponder_config *c, pn_engine_options *o, ponder_error *err)
{
    *o = (pn_engine_options){
        .threads = (uint32_t)pn_config_i64(c, PONDER_P_THREADS),
        .runner = c && c->runner.run ? &c->runner : NULL,
        .cpu = (uint32_t)pn_config_i64(c, PONDER_P_CPU_MASK),
        .columns = (uint32_t)pn_config_i64(c, PONDER_P_BATCH),
        .chunk = (uint32_t)pn_config_i64(c, PONDER_P_CHUNK),
        .sequences = (uint32_t)pn_config_i64(c, PONDER_P_SEQUENCES),
    };
    if (o->threads == 0) o->threads = cores();
    o->sequences = PN_MIN(o->sequences, o->columns);
    const char *kv = pn_config_str(c, PONDER_P_KV_TYPE);
    if (strcmp(kv, "f32") == 0) o->kv = PN_KV_F32;
    else if (strcmp(kv, "f16") == 0) o->kv = PN_KV_F16;
    else if (strcmp(kv, "q8_0") == 0) o->kv = PN_KV_Q8_0;
    else if (strcmp(kv, "q4") == 0) o->kv = PN_KV_Q4;
    else return pn_fail(err, PONDER_E_RANGE, "kv_type: \"%s\" is none of f32, f16, q8_0, q4", kv);
    return PONDER_OK;
}

static ponder_status load_options(const ponder_config *c, pn_load_options *o, ponder_error *err)
{
    const int64_t repack = pn_config_i64(c, PONDER_P_REPACK);
    *o = (pn_load_options){.repack = repack != 0, .late = repack == 2, .quantize = -1};
    if (c) {
        o->progress = c->progress;
        o->progress_user = c->progress_user;
    }
    const char *q = pn_config_str(c, PONDER_P_QUANTIZE);
    if (strcmp(q, "q8_0") == 0) o->quantize = PN_Q8_0;
    else if (strcmp(q, "q4_0") == 0) o->quantize = PN_Q4_0;
    else if (strcmp(q, "q4_k") == 0) o->quantize = PN_Q4_K;
    else if (*q) return pn_fail(err, PONDER_E_RANGE, "quantize: \"%s\" is none of q8_0, q4_0, q4_k", q);
    return PONDER_OK;
}

/* ---- the core ------------------------------------------------------------------------------------ */

void pn_core_release(pn_core *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1) return;
    pn_cache_free(&c->cache, &c->meter.alloc);
    pn_vocab_trie_free(c->trie);
    pn_tower_free(c->vision);
    pn_audio_free(c->audio);
    pn_network_free(c->network);
    pn_tokenizer_free(c->tokenizer);
    pthread_mutex_destroy(&c->mutex);
    ponder_alloc inner = c->meter.inner;
    pn_free(inner.alloc ? &inner : NULL, c, sizeof *c);
}

uint64_t pn_core_weight_bytes(const pn_core *c)
{
    uint64_t bytes = pn_network_bytes(c->network);
    if (c->vision) bytes += pn_tower_bytes(c->vision);
    if (c->audio) bytes += pn_audio_bytes(c->audio);
    return bytes;
}

/* The tokenizer of the checkpoint, if it has one. */
static ponder_status own_tokenizer(pn_core *core, pn_checkpoint *ck, ponder_error *err)
{
    pn_tokenizer_data data;
    ponder_status st = pn_checkpoint_tokenizer(ck, &data, err);
    if (st != PONDER_OK || !data.found) return st;
    if (data.is_json) st = pn_tokenizer_from_json(&core->tokenizer, data.json.p, data.json.n, &core->meter.alloc, err);
    else st = pn_tokenizer_from_vocab(&core->tokenizer, &data.vocab, &core->meter.alloc, err);
    pn_checkpoint_drop_vocab(ck);
    return st;
}

static void add_end(pn_core *c, int32_t id)
{
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] == id) return;
    if (id >= 0 && c->n_ends < PN_ENDS) c->ends[c->n_ends++] = id;
}

/* A file without any template: the one its family was trained with, where there is only one. */
static pn_template family_template(const char *arch)
{
    if (strncmp(arch, "muse-", 5) == 0) return PN_TEMPLATE_MUSE;
    return strcmp(arch, "gemma3") == 0 ? PN_TEMPLATE_GEMMA : PN_TEMPLATE_NONE;
}

/* Further end tokens: the template's own end of a turn, which metadata often leaves out (Muse's eos is another token). */
static void settle(pn_core *c)
{
    if (!c->own_template) c->template = family_template(c->network->d.arch);
    if (!c->tokenizer) return;
    add_end(c, pn_tokenizer_eos(c->tokenizer));
    pn_str turn = pn_template_turn_end(c->template);
    if (turn.n) add_end(c, pn_tokenizer_find(c->tokenizer, turn.p, turn.n));
}

static ponder_status read_extras(pn_core *core, pn_checkpoint *ck, const ponder_config *c, ponder_error *err)
{
    const char *path = pn_config_str(c, PONDER_P_TOKENIZER);
    ponder_status st = *path ? pn_tokenizer_open(&core->tokenizer, path, &core->meter.alloc, err) : own_tokenizer(core, ck, err);
    if (st != PONDER_OK) return st;
    pn_str text;
    core->own_template = pn_checkpoint_template(ck, &text);
    if (core->own_template) core->template = pn_template_recognise(text);
    core->n_ends = pn_checkpoint_ends(ck, core->ends, PN_ENDS);
    pn_str name = pn_checkpoint_name(ck);
    size_t n = PN_MIN(name.n, sizeof core->name - 1);
    if (n) memcpy(core->name, name.p, n);
    return pn_checkpoint_hash(ck, &core->hash, err);
}

static ponder_status new_core(pn_core **out, const ponder_config *c, ponder_error *err)
{
    const ponder_alloc *a = c && c->alloc.alloc ? &c->alloc : NULL;
    pn_core *core = pn_zalloc(a, sizeof *core);
    *out = core;
    if (!core) return pn_nomem(err, sizeof *core);
    atomic_init(&core->refs, 1);
    pn_meter_init(&core->meter, a, (uint64_t)pn_config_i64(c, PONDER_P_MEMORY_CAP), NULL);
    pthread_mutex_init(&core->mutex, NULL);
    core->image_tokens = (uint32_t)pn_config_i64(c, PONDER_P_IMAGE_TOKENS);
    core->cache.cap = (uint64_t)pn_config_i64(c, PONDER_P_MEDIA_CACHE);
    for (size_t i = 0; i < PN_COUNT(core->placeholder); i++) core->placeholder[i] = -1;
    return PONDER_OK;
}

/* ---- towers ------------------------------------------------------------------------------------------ */

/* Where the towers are: a file of their own, the model's folder, or nowhere (*out NULL). The caller gives the reference back. */
static ponder_status open_towers(pn_checkpoint **out, pn_checkpoint *ck, const ponder_config *c, const ponder_alloc *a, ponder_error *err)
{
    const char *path = pn_config_str(c, PONDER_P_PROJECTOR);
    *out = NULL;
    if (*path) return pn_checkpoint_open(out, path, a, err);
    if (pn_config_i64(c, PONDER_P_TOWERS) && !pn_checkpoint_is_gguf(ck)) *out = pn_checkpoint_hold(ck);
    return PONDER_OK;
}

/* ---- a drafter ----------------------------------------------------------------------------------------- */

/* NULL: none is asked for. */
static ponder_status open_drafter(pn_checkpoint **out, const ponder_config *c, const ponder_alloc *a, ponder_error *err)
{
    const char *path = pn_config_str(c, PONDER_P_DRAFTER);
    *out = NULL;
    return *path ? pn_checkpoint_open(out, path, a, err) : PONDER_OK;
}

/* The token that rows stand for: by its name, or as the folder's config says. */
static int32_t placeholder(const pn_core *core, const pn_checkpoint *ck, const char *name, const char *key)
{
    int64_t id = core->tokenizer ? pn_tokenizer_find(core->tokenizer, name, strlen(name)) : -1;
    if (id < 0 && !pn_checkpoint_i64(ck, key, &id)) id = -1;
    return id >= 0 && (uint64_t)id < core->network->d.vocab ? (int32_t)id : -1;
}

static ponder_status load_towers(pn_core *core, pn_checkpoint *ck, pn_checkpoint *from, const ponder_config *c, const pn_load_options *o,
                                 ponder_error *err)
{
    const pn_description *d = &core->network->d;
    const ponder_alloc *a = &core->meter.alloc;
    ponder_status st = pn_tower_load(&core->vision, from, d->arch, d->width, o, a, err);
    if (st == PONDER_OK) st = pn_audio_load(&core->audio, from, d->arch, d->width, o, a, err);
    if (st == PONDER_OK && *pn_config_str(c, PONDER_P_PROJECTOR) && !core->vision && !core->audio)
        st = pn_fail(err, PONDER_E_FORMAT, "%s holds no tower for this model", pn_config_str(c, PONDER_P_PROJECTOR));
    if (core->vision) {
        core->placeholder[PN_PART_IMAGE] = placeholder(core, ck, "<|patch|>", "image_token_id");
        core->placeholder[PN_PART_VIDEO] = placeholder(core, ck, "<|video|>", "video_token_id");
    }
    if (core->audio) core->placeholder[PN_PART_AUDIO] = placeholder(core, ck, "<|audio|>", "audio_token_id");
    return st;
}

/* ---- what it takes --------------------------------------------------------------------------------------- */

static uint64_t session_tokens(const pn_description *d, const ponder_config *c)
{
    int64_t tokens = pn_config_i64(c, PONDER_P_CONTEXT);
    return tokens ? (uint64_t)tokens : d->context;
}

/* What is neither weights nor working memory, found by making it: a tokenizer is small beside any weights. */
typedef struct extras {
    uint64_t file, tokenizer;  /* the open file's tables; kept while weights are mapped */
} extras;

/* A drafter's, from its file's metadata; d NULL: there is none. */
typedef struct drafter_plan {
    pn_description *d;        /* to be freed */
    pn_weight_plan w;
    uint64_t file_bytes;
    uint64_t drafts;          /* most that a step of a session computes, the drafter's or looked-up ones */
} drafter_plan;

static ponder_status plan_drafter(drafter_plan *out, const pn_description *d, const ponder_config *c, const pn_load_options *lo, const ponder_alloc *a,
                                  ponder_error *err)
{
    pn_checkpoint *from;
    *out = (drafter_plan){.drafts = *pn_config_str(c, PONDER_P_DRAFT) ? (uint64_t)pn_config_i64(c, PONDER_P_DRAFT_TOKENS) : 0};
    ponder_status st = open_drafter(&from, c, a, err);
    if (st != PONDER_OK || !from) return st;
    out->file_bytes = pn_checkpoint_bytes(from);
    out->d = pn_zalloc(a, sizeof *out->d);
    st = out->d ? pn_describe_drafter(from, d, out->d, err) : pn_nomem(err, sizeof *out->d);
    if (st == PONDER_OK) st = pn_network_plan(&out->w, from, out->d, lo, err);
    pn_checkpoint_free(from);
    return st;
}

/* A generating session has one row of logits, and a prompt shorter than a step does not reach every column: what nobody
 * writes is reserved (and counted under the cap), yet takes no memory. */
static uint64_t untouched(const pn_description *d, const pn_limits *limits, uint64_t quantised, uint64_t tokens, const drafter_plan *dp)
{
    pn_limits reached = *limits;
    reached.outputs = 1;
    reached.columns = (uint32_t)PN_MIN((uint64_t)reached.columns, tokens);
    return pn_program_bytes(d, limits, quantised, dp->d, dp->w.quantised) - pn_program_bytes(d, &reached, quantised, dp->d, dp->w.quantised);
}

/* What a drafter adds but for its weights: the memory of passes, of which one session reaches a block. */
static void add_passes(ponder_plan *p, uint64_t *idle, const pn_description *d, const pn_weight_plan *w, const pn_engine_options *o, const drafter_plan *dp)
{
    const uint64_t head = w->quantised >> (d->tied ? PN_W_EMBED : PN_W_HEAD) & 1, quantised = dp->w.quantised | head << PN_W_HEAD;
    pn_limits limits, reached;
    pn_engine_drafter_limits(dp->d, o, &limits);
    reached = limits;
    reached.columns = dp->d->block;
    reached.outputs = PN_MIN(limits.outputs, dp->d->block - 1);
    const uint64_t all = pn_program_bytes(dp->d, &limits, quantised, NULL, 0);
    p->scratch_bytes += all + sizeof(pn_network) + dp->d->layers * sizeof(pn_layer);
    *idle += dp->drafts ? all - pn_program_bytes(dp->d, &reached, quantised, NULL, 0) : all;
}

static void fill_plan(ponder_plan *p, pn_kv_layout *layout, const pn_description *d, const pn_weight_plan *w, const pn_engine_options *o,
                      uint64_t tokens, const extras *x, const drafter_plan *dp, bool held)
{
    pn_limits limits;
    pn_kv_layout_init(layout, d, o->kv);
    if (dp->d) pn_kv_layout_add_drafter(layout, dp->d);
    pn_engine_limits(d, o, &limits);
    uint64_t idle = untouched(d, &limits, w->quantised, tokens, dp);
    p->drafter_bytes = dp->w.owned;
    p->weight_bytes = w->owned + dp->w.owned;
    p->mapped_bytes = w->mapped + dp->w.mapped;
    p->scratch_bytes = pn_program_bytes(d, &limits, w->quantised, dp->d, dp->w.quantised) + limits.runs * (sizeof(pn_run) + sizeof(void *)) +
                       x->tokenizer + (held ? x->file : 0) + sizeof(pn_network) + d->layers * sizeof(pn_layer) + sizeof(ponder_session) +
                       pn_sampler_bytes(d->vocab) + pn_sequence_own_bytes(d, tokens) + (dp->drafts ? (dp->drafts + 1) * d->vocab * sizeof(float) : 0);
    if (dp->d) add_passes(p, &idle, d, w, o, dp);
    p->kv_bytes_token = layout->page_bytes[PN_FULL] / PN_KEYS;
    pn_kv_layout sliding = *layout;
    sliding.page_bytes[PN_FULL] = 0;
    p->kv_bytes_fixed = pn_kv_reserve_bytes(&sliding, o->columns, UINT32_MAX);
    p->session_bytes = pn_kv_reserve_bytes(layout, o->columns, tokens);
    uint64_t running = p->weight_bytes + p->mapped_bytes + p->scratch_bytes + p->session_bytes - idle;
    p->peak_bytes = PN_MAX(p->weight_bytes + PN_MAX(w->transient, dp->w.transient) + x->file + x->tokenizer, running);
}

/* Tower weights come on top of the decoder's; an encoding's memory is told apart, since it is there for moments only. */
static ponder_status plan_towers(ponder_plan *p, pn_checkpoint *ck, const pn_description *d, const ponder_config *c, const pn_load_options *lo,
                                 const pn_engine_options *o, const ponder_alloc *a, ponder_error *err)
{
    pn_checkpoint *from;
    pn_load_plan w = {0}, ears = {0};
    pn_audio_info hears_info;
    bool sees = false, hears = false;
    ponder_status st = open_towers(&from, ck, c, a, err);
    if (st != PONDER_OK || !from) return st;
    pn_tower_info *info = pn_zalloc(a, sizeof *info);
    st = info ? pn_tower_describe(info, &sees, from, d->arch, d->width, err) : pn_nomem(err, sizeof *info);
    if (st == PONDER_OK && sees) st = pn_tower_plan(&w, from, info, lo, err);
    if (st == PONDER_OK && sees) {
        uint32_t side = 1;
        while ((side + 1) * (side + 1) <= info->max_cells) side++;
        p->encode_bytes = pn_encode_bytes(info, false, (pn_grid){side, side}, o->threads);
    }
    if (st == PONDER_OK) st = pn_audio_describe(&hears_info, &hears, from, d->arch, d->width, err);
    if (st == PONDER_OK && hears) st = pn_audio_plan(&ears, from, &hears_info, lo, err);
    if (from != ck) p->file_bytes += pn_checkpoint_bytes(from);
    p->tower_bytes = w.owned + ears.owned;
    p->weight_bytes += p->tower_bytes;
    p->mapped_bytes += w.mapped + ears.mapped;
    p->peak_bytes += p->tower_bytes + w.mapped + ears.mapped;
    pn_free(a, info, sizeof *info);
    pn_checkpoint_free(from);
    return st;
}

static ponder_status read_measured(extras *x, pn_core *core, pn_checkpoint *ck, const ponder_config *c, ponder_error *err)
{
    x->file = pn_meter_used(&core->meter);
    ponder_status st = read_extras(core, ck, c, err);
    x->tokenizer = pn_meter_used(&core->meter) - x->file;
    return st;
}

static ponder_status plan_all(ponder_plan *p, pn_kv_layout *layout, uint64_t *experts, pn_checkpoint *ck, const pn_description *d, const ponder_config *c,
                              const pn_engine_options *o, const pn_load_options *lo, const extras *x, const ponder_alloc *a, ponder_error *err)
{
    pn_weight_plan w;
    drafter_plan dp = {0};
    ponder_status st = pn_network_plan(&w, ck, d, lo, err);
    if (st == PONDER_OK) st = plan_drafter(&dp, d, c, lo, a, err);
    if (st == PONDER_OK) {
        *experts = w.experts;
        p->file_bytes = pn_checkpoint_bytes(ck) + dp.file_bytes;
        fill_plan(p, layout, d, &w, o, session_tokens(d, c), x, &dp, w.mapped || lo->late);
        st = plan_towers(p, ck, d, c, lo, o, a, err);
    }
    pn_free(a, dp.d, sizeof *dp.d);
    return st;
}

/* A session beside experts that are read on demand, when no context is asked for. */
enum { TOKENS_BESIDE_EXPERTS = 8192, SLACK_BYTES = 1 << 20 };

/* Experts get what the cap leaves beside everything else, if that is too little for all of them. */
static ponder_status fit_experts(pn_load_options *lo, pn_checkpoint *ck, const pn_description *d, const ponder_config *c,
                                 const pn_engine_options *o, const extras *x, const ponder_alloc *a, ponder_error *err)
{
    const uint64_t cap = (uint64_t)pn_config_i64(c, PONDER_P_MEMORY_CAP);
    ponder_plan p = {0};
    pn_kv_layout layout;
    uint64_t experts = 0;
    if (!cap) return PONDER_OK;
    ponder_status st = plan_all(&p, &layout, &experts, ck, d, c, o, lo, x, a, err);
    if (st != PONDER_OK || !experts) return st;
    const uint64_t tokens = pn_config_i64(c, PONDER_P_CONTEXT) ? session_tokens(d, c) : PN_MIN(d->context, (uint32_t)TOKENS_BESIDE_EXPERTS);
    const uint64_t rest = p.weight_bytes - experts + p.scratch_bytes + pn_kv_reserve_bytes(&layout, o->columns, tokens) + x->file + SLACK_BYTES;
    if (rest + experts <= cap) return PONDER_OK;
    uint64_t least = 0;
    st = pn_experts_least(&least, ck, d, lo, err);
    lo->late = false; /* such a file may fail at any time, which must not be a signal: only its experts are read later, by copy */
    lo->expert_bytes = PN_MAX(cap > rest ? cap - rest : 0, least); /* too little even for one: the allocations will say so */
    return st;
}

/* ---- the model -------------------------------------------------------------------------------------- */

ponder_model *pn_model_hold(ponder_model *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void pn_model_release(ponder_model *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1) return;
    pn_engine_free(m->engine);
    pn_fleet_free(m->fleet);
    pn_core *core = m->core;
    pn_free(&core->meter.alloc, m, sizeof *m);
    pn_core_release(core);
}

/* A model without an engine; takes one reference of the core over unless it fails. */
static ponder_status bare_model(ponder_model **out, pn_core *core, const ponder_config *c, ponder_error *err)
{
    ponder_model *m = *out = pn_zalloc(&core->meter.alloc, sizeof *m);
    if (!m) return pn_nomem(err, sizeof *m);
    atomic_init(&m->refs, 1);
    m->pid = getpid();
    m->core = core;
    m->log = c ? c->log : NULL;
    m->log_user = c ? c->log_user : NULL;
    const ponder_alloc *inner = core->meter.inner.alloc ? &core->meter.inner : NULL;
    pn_meter_init(&m->meter, inner, (uint64_t)pn_config_i64(c, PONDER_P_MEMORY_CAP), &core->meter);
    return PONDER_OK;
}

ponder_status pn_model_bare(ponder_model **out, const ponder_config *c, ponder_error *err)
{
    pn_core *core = NULL;
    ponder_status st = new_core(&core, c, err);
    if (st == PONDER_OK) st = bare_model(out, core, c, err);
    if (st != PONDER_OK) pn_core_release(core);
    return st;
}

/* Takes one reference of the core and the team over. */
static ponder_status new_model(ponder_model **out, pn_core *core, const ponder_config *c, const pn_engine_options *o,
                               pn_team *team, ponder_error *err)
{
    ponder_model *m;
    ponder_status st = bare_model(&m, core, c, err);
    if (st != PONDER_OK) {
        pn_team_free(team);
        pn_core_release(core);
        return st;
    }
    pn_kernels_init(&m->kernels, pn_cpu_flags() & o->cpu);
    st = pn_engine_new(&m->engine, core->network, o, team, &m->meter.alloc, err);
    if (st != PONDER_OK) {
        pn_model_release(m);
        return st;
    }
    *out = m;
    return PONDER_OK;
}

/* Several loaders follow each other; the host sees one progress, in bytes of all files. */
typedef struct whole_progress {
    const ponder_config *c;
    uint64_t before, last, total;
} whole_progress;

static int32_t tell_progress(void *user, uint64_t done, uint64_t total)
{
    whole_progress *w = user;
    (void)total;
    if (w->before + done < w->last) w->before = w->last; /* the next loader begins */
    w->last = w->before + done;
    return w->c->progress(w->c->progress_user, PN_MIN(w->last, w->total), w->total);
}

static ponder_status load_weights(pn_core *core, pn_checkpoint *ck, const ponder_config *c, pn_load_options *lo, ponder_error *err)
{
    pn_checkpoint *towers, *drafter = NULL;
    ponder_status st = open_towers(&towers, ck, c, &core->meter.alloc, err);
    if (st == PONDER_OK) st = open_drafter(&drafter, c, &core->meter.alloc, err);
    if (st != PONDER_OK) {
        pn_checkpoint_free(towers);
        pn_checkpoint_free(ck);
        return st;
    }
    whole_progress w = {.c = c, .total = pn_checkpoint_bytes(ck) + (towers && towers != ck ? pn_checkpoint_bytes(towers) : 0)};
    if (drafter) w.total += pn_checkpoint_bytes(drafter);
    if (lo->progress) {
        lo->progress = tell_progress;
        lo->progress_user = &w;
    }
    pn_checkpoint_hold(ck);
    st = pn_network_load(&core->network, ck, lo, &core->meter.alloc, err);
    if (st != PONDER_OK) pn_checkpoint_free(drafter);
    else if (drafter) st = pn_network_load_drafter(core->network, drafter, lo, err);
    if (st == PONDER_OK && towers) st = load_towers(core, ck, towers, c, lo, err);
    if (st == PONDER_OK && lo->progress && c->progress(c->progress_user, w.total, w.total) != 0)
        st = pn_fail(err, PONDER_E_CANCELLED, "loading was cancelled");
    pn_checkpoint_free(towers);
    pn_checkpoint_free(ck);
    return st;
}

static ponder_status describe_and_fit(pn_load_options *lo, pn_checkpoint *ck, const ponder_config *c, const pn_engine_options *o,
                                      const extras *x, const ponder_alloc *a, ponder_error *err)
{
    pn_description *d = pn_zalloc(a, sizeof *d);
    ponder_status st = d ? pn_describe(ck, d, err) : pn_nomem(err, sizeof *d);
    if (st == PONDER_OK) st = fit_experts(lo, ck, d, c, o, x, a, err);
    pn_free(a, d, sizeof *d);
    return st;
}

/* The team's memory is the host's directly: it outlives neither core nor model, but is older than both. */
static ponder_status load(pn_core *core, pn_checkpoint *ck, const ponder_config *c, const pn_engine_options *o, pn_team **team,
                          ponder_error *err)
{
    pn_load_options lo;
    pn_kernels k;
    extras x;
    pn_kernels_init(&k, pn_cpu_flags() & o->cpu);
    ponder_status st = load_options(c, &lo, err);
    if (st == PONDER_OK) st = pn_team_new(team, o->threads, o->runner, core->meter.inner.alloc ? &core->meter.inner : NULL, err);
    if (st == PONDER_OK) st = read_measured(&x, core, ck, c, err);
    lo.pack = k.pack;
    if (st == PONDER_OK) lo.team = *team;
    if (st == PONDER_OK && core->meter.cap) st = describe_and_fit(&lo, ck, c, o, &x, &core->meter.alloc, err);
    if (st != PONDER_OK) {
        pn_checkpoint_free(ck);
        return st;
    }
    return load_weights(core, ck, c, &lo, err);
}

static ponder_status check_vocabulary(const pn_core *core, ponder_error *err)
{
    uint32_t vocab = core->network->d.vocab;
    if (core->tokenizer && pn_tokenizer_size(core->tokenizer) > vocab + 4096u)
        return pn_fail(err, PONDER_E_FORMAT, "the tokenizer has %u tokens, the model %u", pn_tokenizer_size(core->tokenizer), vocab);
    return PONDER_OK;
}

ponder_status pn_model_open(ponder_model **out, pn_opener open, const void *how, const ponder_config *c, ponder_error *err)
{
    pn_engine_options o;
    pn_core *core = NULL;
    pn_checkpoint *ck = NULL;
    pn_team *team = NULL;
    ponder_status st = engine_options(c, &o, err);
    if (st == PONDER_OK) st = new_core(&core, c, err);
    if (st == PONDER_OK) st = open(&ck, how, &core->meter.alloc, err);
    if (st == PONDER_OK) st = load(core, ck, c, &o, &team, err);
    if (st == PONDER_OK) st = check_vocabulary(core, err);
    if (st != PONDER_OK) {
        if (core) pn_name_cap(st, core->meter.cap, err);
        pn_team_free(team);
        pn_core_release(core);
        return st;
    }
    settle(core);
    uint64_t cap = core->meter.cap;
    return pn_name_cap(new_model(out, core, c, &o, team, err), cap, err);
}

ponder_status pn_model_share(ponder_model **out, ponder_model *m, const ponder_config *c, ponder_error *err)
{
    pn_engine_options o;
    pn_team *team;
    if (m->core->network->experts)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "the model reads experts from its file as they are needed: it has one engine");
    ponder_status st = engine_options(c, &o, err);
    if (st == PONDER_OK) st = pn_team_new(&team, o.threads, o.runner, m->core->meter.inner.alloc ? &m->core->meter.inner : NULL, err);
    if (st != PONDER_OK) return st;
    atomic_fetch_add(&m->core->refs, 1);
    return pn_name_cap(new_model(out, m->core, c, &o, team, err), (uint64_t)pn_config_i64(c, PONDER_P_MEMORY_CAP), err);
}

/* ---- the plan ------------------------------------------------------------------------------------------ */

ponder_status pn_model_plan(ponder_plan *out, const char *path, const ponder_config *c, ponder_error *err)
{
    pn_engine_options o;
    pn_load_options lo;
    uint64_t experts;
    pn_kv_layout layout;
    extras x;
    pn_core *core = NULL;
    pn_checkpoint *ck = NULL;
    pn_description *d = NULL;
    ponder_status st = engine_options(c, &o, err);
    if (st == PONDER_OK) st = load_options(c, &lo, err);
    if (st == PONDER_OK) st = new_core(&core, c, err);
    if (st != PONDER_OK) return st;
    core->meter.cap = 0; /* the plan tells what a cap must allow */
    const ponder_alloc *a = &core->meter.alloc;
    st = pn_checkpoint_open(&ck, path, a, err);
    if (st == PONDER_OK) st = read_measured(&x, core, ck, c, err);
    if (st == PONDER_OK && !(d = pn_zalloc(a, sizeof *d))) st = pn_nomem(err, sizeof *d);
    if (st == PONDER_OK) st = pn_describe(ck, d, err);
    lo.threads = o.runner ? PN_MAX(o.runner->threads, 1u) : o.threads;
    if (st == PONDER_OK) st = fit_experts(&lo, ck, d, c, &o, &x, a, err);
    if (st == PONDER_OK) st = plan_all(out, &layout, &experts, ck, d, c, &o, &lo, &x, a, err);
    pn_free(a, d, sizeof *d);
    pn_checkpoint_free(ck);
    pn_core_release(core);
    return st;
}

/* ---- a tokenizer by itself -------------------------------------------------------------------------------- */

static ponder_status tokenizer_of_gguf(pn_tokenizer **out, const char *path, const ponder_alloc *a, ponder_error *err)
{
    pn_checkpoint *ck;
    pn_tokenizer_data data;
    ponder_status st = pn_checkpoint_open(&ck, path, a, err);
    if (st != PONDER_OK) return st;
    st = pn_checkpoint_tokenizer(ck, &data, err);
    if (st == PONDER_OK && !data.found) st = pn_fail(err, PONDER_E_UNSUPPORTED, "%s holds no tokenizer", path);
    else if (st == PONDER_OK && data.is_json) st = pn_tokenizer_from_json(out, data.json.p, data.json.n, a, err);
    else if (st == PONDER_OK) st = pn_tokenizer_from_vocab(out, &data.vocab, a, err);
    pn_checkpoint_free(ck);
    return st;
}

/* A GGUF or a folder by its first bytes or kind, JSON by its brace, else a rank file. */
ponder_status pn_tokenizer_open(pn_tokenizer **out, const char *path, const ponder_alloc *a, ponder_error *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return tokenizer_of_gguf(out, path, a, err);
    pn_source *s;
    ponder_status st = pn_source_path(&s, path, a, err);
    if (st != PONDER_OK) return st;
    size_t n = (size_t)pn_source_size(s), at = 0;
    const char *p = (const char *)pn_source_view(s, 0, n);
    if (!p) {
        pn_source_free(s);
        return pn_fail(err, PONDER_E_FORMAT, "%s is empty or cannot be mapped", path);
    }
    bool gguf = n >= 4 && memcmp(p, "GGUF", 4) == 0;
    while (at < n && (p[at] == ' ' || p[at] == '\n' || p[at] == '\r' || p[at] == '\t')) at++;
    if (!gguf) st = at < n && p[at] == '{' ? pn_tokenizer_from_json(out, p, n, a, err) : pn_tokenizer_from_tiktoken(out, p, n, a, err);
    pn_source_free(s);
    return gguf ? tokenizer_of_gguf(out, path, a, err) : st;
}
