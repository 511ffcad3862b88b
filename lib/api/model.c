#include "api/api.h"

#include "remote/remote.h"

#include <stdio.h>
#include <unistd.h>

/* ---- opening ---------------------------------------------------------------------------------- */

static ponder_status from_path(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err)
{
    return pn_checkpoint_open(out, how, a, err);
}

typedef struct span {
    const void *p;
    size_t n;
    int fd;
    uint64_t offset, length;
} span;

static ponder_status from_source(pn_checkpoint **out, pn_source *s, ponder_status st, const ponder_alloc *a, ponder_error *err)
{
    return st == PONDER_OK ? pn_checkpoint_open_source(out, s, a, err) : st;
}

static ponder_status from_memory(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err)
{
    const span *b = how;
    pn_source *s = NULL;
    ponder_status st = pn_source_memory(&s, b->p, b->n, a, err);
    return from_source(out, s, st, a, err);
}

static ponder_status from_fd(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err)
{
    const span *b = how;
    pn_source *s = NULL;
    ponder_status st = pn_source_fd(&s, b->fd, b->offset, b->length, a, err);
    return from_source(out, s, st, a, err);
}

static ponder_status from_callback(pn_checkpoint **out, const void *how, const ponder_alloc *a, ponder_error *err)
{
    pn_source *s = NULL;
    ponder_status st = pn_source_callback(&s, how, a, err);
    return from_source(out, s, st, a, err);
}

static ponder_status open_model(ponder_model **out, pn_opener open, const void *how, ponder_config *c)
{
    pn_fenv fenv;
    pn_fenv_enter(&fenv);
    ponder_status st = pn_model_open(out, open, how, c, pn_api_config_error(c));
    pn_fenv_leave(&fenv);
    if (st != PONDER_OK && c && c->log) c->log(c->log_user, 1, c->err.text);
    return st;
}

ponder_status ponder_model_open(ponder_model **out, const char *path, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (!path) return pn_fail(pn_api_config_error(c), PONDER_E_ARGUMENT, "path: NULL");
    return open_model(out, from_path, path, c);
}

ponder_status ponder_model_open_memory(ponder_model **out, const void *bytes, size_t n, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (!bytes) return pn_fail(pn_api_config_error(c), PONDER_E_ARGUMENT, "bytes: NULL");
    return open_model(out, from_memory, &(span){.p = bytes, .n = n}, c);
}

ponder_status ponder_model_open_fd(ponder_model **out, int fd, uint64_t offset, uint64_t length, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    return open_model(out, from_fd, &(span){.fd = fd, .offset = offset, .length = length}, c);
}

ponder_status ponder_model_open_source(ponder_model **out, const ponder_source *source, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (!pn_api_struct(source, sizeof *source) || !source->read) return pn_fail(pn_api_config_error(c), PONDER_E_ARGUMENT, "source: size or read is missing");
    return open_model(out, from_callback, source, c);
}

ponder_status ponder_model_open_remote(ponder_model **out, const char *url, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!url) return pn_fail(err, PONDER_E_ARGUMENT, "url: NULL");
    ponder_status st = pn_model_open_remote(out, url, c, err);
    if (st != PONDER_OK && c && c->log) c->log(c->log_user, 1, c->err.text);
    return st;
}

void ponder_model_free(ponder_model *m)
{
    if (!m || m->pid != getpid()) return; /* after fork() its threads and locks are not ours to end */
    pn_model_release(m);
}

ponder_status ponder_model_share(ponder_model **out, ponder_model *m, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (!m) return pn_fail(pn_api_config_error(c), PONDER_E_ARGUMENT, "model: NULL");
    ponder_status st = pn_api_pid(m->pid, pn_api_config_error(c));
    if (st == PONDER_OK && m->fleet) return pn_fail(pn_api_config_error(c), PONDER_E_UNSUPPORTED, "a remote model has no weights to share: open it again");
    return st == PONDER_OK ? pn_model_share(out, m, c, pn_api_config_error(c)) : st;
}

ponder_status ponder_model_plan(ponder_plan *out, const char *path, ponder_config *c)
{
    if (!pn_api_struct(out, PN_PLAN_FIRST) || !path) return pn_fail(pn_api_config_error(c), PONDER_E_ARGUMENT, "NULL, or a struct without its size");
    ponder_plan plan = {.size = sizeof plan};
    ponder_status st = pn_model_plan(&plan, path, c, pn_api_config_error(c));
    if (st == PONDER_OK) pn_api_write(out, &plan, sizeof plan);
    return st;
}

/* ---- information --------------------------------------------------------------------------------- */

/* Of a model that is elsewhere, little is known. */
static ponder_status remote_i64(ponder_model *m, int32_t id, int64_t *out)
{
    uint32_t alive = 0;
    *out = 0;
    switch (id) {
    case PONDER_INFO_SERVERS:
        pn_fleet_servers(m->fleet, &alive);
        *out = alive;
        return PONDER_OK;
    case PONDER_INFO_CONTEXT: *out = (int64_t)pn_fleet_context(m->fleet); return PONDER_OK;
    case PONDER_INFO_MEMORY_BYTES: *out = (int64_t)pn_meter_used(&m->meter); return PONDER_OK;
    case PONDER_INFO_PEAK_BYTES: *out = (int64_t)pn_meter_peak(&m->meter); return PONDER_OK;
    default: return id >= PONDER_INFO_VOCAB && id <= PONDER_INFO_ACCEPTED ? PONDER_E_UNSUPPORTED : PONDER_E_UNKNOWN;
    }
}

ponder_status ponder_model_info_i64(ponder_model *m, int32_t id, int64_t *out)
{
    if (!m || !out) return PONDER_E_ARGUMENT;
    if (pn_api_pid(m->pid, NULL) != PONDER_OK) return PONDER_E_FORK;
    if (m->fleet) return remote_i64(m, id, out);
    const pn_network *n = m->core->network;
    pn_engine_counts c;
    pn_engine_read_counts(m->engine, &c);
    switch (id) {
    case PONDER_INFO_VOCAB: *out = n->d.vocab; break;
    case PONDER_INFO_CONTEXT: *out = n->d.context; break;
    case PONDER_INFO_LAYERS: *out = n->d.layers; break;
    case PONDER_INFO_WIDTH: *out = n->d.width; break;
    case PONDER_INFO_PARAMETERS: *out = (int64_t)n->store.parameters; break;
    case PONDER_INFO_WEIGHT_BYTES: *out = (int64_t)pn_core_weight_bytes(m->core); break;
    case PONDER_INFO_MEMORY_BYTES: *out = (int64_t)pn_meter_used(&m->meter); break;
    case PONDER_INFO_PEAK_BYTES: *out = (int64_t)pn_meter_peak(&m->meter); break;
    case PONDER_INFO_THREADS: *out = c.threads; break;
    case PONDER_INFO_KV_BYTES: *out = (int64_t)c.kv_bytes; break;
    case PONDER_INFO_STEPS: *out = (int64_t)c.steps; break;
    case PONDER_INFO_PREFILLED: *out = (int64_t)c.prefilled; break;
    case PONDER_INFO_WINDOW: *out = n->d.window; break;
    case PONDER_INFO_CPU: *out = c.cpu; break;
    case PONDER_INFO_IMAGES: *out = m->core->vision != NULL; break;
    case PONDER_INFO_SOUNDS: *out = m->core->audio != NULL; break;
    case PONDER_INFO_ENCODED: *out = (int64_t)atomic_load(&m->core->encoded); break;
    case PONDER_INFO_MEDIA_BYTES: *out = (int64_t)pn_core_media_bytes(m->core); break;
    case PONDER_INFO_SERVERS: *out = 0; break;
    case PONDER_INFO_DRAFTED: *out = (int64_t)c.drafted; break;
    case PONDER_INFO_ACCEPTED: *out = (int64_t)c.accepted; break;
    case PONDER_INFO_SAMPLE_RATE: *out = m->core->audio ? PN_AUDIO_RATE : 0; break;
    default: return PONDER_E_UNKNOWN;
    }
    return PONDER_OK;
}

ponder_status ponder_model_info_str(ponder_model *m, int32_t id, char *out, size_t cap, size_t *n)
{
    char hash[20];
    if (!m || !n) return PONDER_E_ARGUMENT;
    if (pn_api_pid(m->pid, NULL) != PONDER_OK) return PONDER_E_FORK;
    const char *text;
    switch (id) {
    case PONDER_INFO_ARCHITECTURE: text = m->fleet ? "remote" : m->core->network->d.arch; break;
    case PONDER_INFO_NAME: text = m->core->name; break;
    case PONDER_INFO_SERVER: text = m->fleet ? pn_dialect_name(pn_fleet_dialect(m->fleet)) : ""; break;
    case PONDER_INFO_TYPE: text = m->fleet ? "" : pn_type_name(m->core->network->store.main_type); break;
    case PONDER_INFO_TEMPLATE: text = pn_template_name(m->core->template); break;
    case PONDER_INFO_HASH:
        if (m->fleet) return PONDER_E_UNSUPPORTED;
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)m->core->hash);
        text = hash;
        break;
    default: return PONDER_E_UNKNOWN;
    }
    return pn_api_copy(text, strlen(text), 1, out, cap, n, NULL);
}
