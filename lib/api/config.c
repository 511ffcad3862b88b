#include "api/api.h"

#include <math.h>

ponder_status ponder_param_at(uint32_t i, ponder_param_info *out)
{
    if (!pn_api_struct(out, sizeof *out)) return PONDER_E_ARGUMENT;
    if (i >= PN_PARAMS) return PONDER_E_RANGE;
    pn_api_write(out, &pn_params[i], sizeof *out);
    return PONDER_OK;
}

ponder_status ponder_config_new(ponder_config **out, const ponder_alloc *alloc)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (alloc && (!pn_api_struct(alloc, sizeof *alloc) || !alloc->alloc || !alloc->free)) return PONDER_E_ARGUMENT;
    ponder_config *c = pn_zalloc(alloc, sizeof *c);
    if (!c) return PONDER_E_NOMEM;
    if (alloc) c->alloc = *alloc;
    c->err.size = sizeof c->err;
    for (int i = 0; i < PN_PARAMS; i++) {
        if (pn_params[i].type == PONDER_TYPE_I64) c->value[i].i64 = pn_params[i].i64_default;
        if (pn_params[i].type == PONDER_TYPE_F64) c->value[i].f64 = pn_params[i].f64_default;
    }
    *out = c;
    return PONDER_OK;
}

static const ponder_alloc *allocator(const ponder_config *c) { return c->alloc.alloc ? &c->alloc : NULL; }

void ponder_config_free(ponder_config *c) { pn_config_free(c); }

const char *ponder_config_error(const ponder_config *c) { return c ? c->err.text : ""; }

/* The parameter's place in the table, or -1 with the error said. */
static int find(ponder_config *c, ponder_param id, int32_t type, ponder_status *st)
{
    static const char *const names[] = {"", "i64", "f64", "str"};
    int i = pn_param_index(id);
    pn_error_clear(&c->err);
    if (i < 0) *st = pn_fail(&c->err, PONDER_E_UNKNOWN, "no parameter has the id %d", id);
    else if (pn_params[i].type != type)
        *st = pn_fail(&c->err, PONDER_E_ARGUMENT, "%s is set with _set_%s", pn_params[i].name, names[pn_params[i].type]);
    else return i;
    return -1;
}

ponder_status ponder_config_set_i64(ponder_config *c, ponder_param id, int64_t value)
{
    ponder_status st;
    if (!c) return PONDER_E_ARGUMENT;
    int i = find(c, id, PONDER_TYPE_I64, &st);
    if (i < 0) return st;
    const ponder_param_info *p = &pn_params[i];
    if (value < p->i64_min || value > p->i64_max)
        return pn_fail(&c->err, PONDER_E_RANGE, "%s: %lld is outside %lld..%lld", p->name, (long long)value, (long long)p->i64_min,
                       (long long)p->i64_max);
    c->value[i].i64 = value;
    return PONDER_OK;
}

ponder_status ponder_config_set_f64(ponder_config *c, ponder_param id, double value)
{
    ponder_status st;
    if (!c) return PONDER_E_ARGUMENT;
    int i = find(c, id, PONDER_TYPE_F64, &st);
    if (i < 0) return st;
    const ponder_param_info *p = &pn_params[i];
    if (!(value >= p->f64_min && value <= p->f64_max))
        return pn_fail(&c->err, PONDER_E_RANGE, "%s: the value is outside %d..%d", p->name, (int)p->f64_min, (int)p->f64_max);
    c->value[i].f64 = value;
    return PONDER_OK;
}

/* Values of a closed set are refused here, at the call that sets them. */
static ponder_status check_str(ponder_config *c, ponder_param id, const char *v)
{
    static const struct { ponder_param id; const char *values[12]; } sets[] = {
        {PONDER_P_QUANTIZE, {"", "q8_0", "q4_0", "q4_k"}},
        {PONDER_P_KV_TYPE, {"f32", "f16", "q8_0", "q4"}},
        {PONDER_P_DRAFT, {"", "lookup", "drafter"}},
        {PONDER_P_THINK_SCOPE, {"turn", "block"}},
        {PONDER_P_CLOCK, {"", "wall", "inside"}},
        {PONDER_P_THINK_EXIT, {"", "entropy", "answer"}},
        {PONDER_P_REMOTE_SERVER, {"", "openai", "vllm", "sglang", "llama.cpp"}},
        {PONDER_P_SYNTHESIS, {"vote", "confidence", "written"}},
        {PONDER_P_ANSWER_FORM, {"", "number", "choice", "json", "text"}},
    };
    for (size_t i = 0; i < PN_COUNT(sets); i++) {
        if (sets[i].id != id) continue;
        for (size_t j = 0; j < PN_COUNT(sets[i].values) && sets[i].values[j]; j++)
            if (strcmp(v, sets[i].values[j]) == 0) return PONDER_OK;
        return pn_fail(&c->err, PONDER_E_RANGE, "%s: no such value as \"%s\"", pn_params[pn_param_index(id)].name, v);
    }
    if (id == PONDER_P_TEMPLATE && *v && pn_template_by_name(v) == PN_TEMPLATE_NONE)
        return pn_fail(&c->err, PONDER_E_RANGE, "template: no template is called \"%s\"", v);
    if (id == PONDER_P_EFFORT && strlen(v) > 23) return pn_fail(&c->err, PONDER_E_RANGE, "effort: longer than 23 bytes");
    return PONDER_OK;
}

ponder_status ponder_config_set_str(ponder_config *c, ponder_param id, const char *utf8)
{
    ponder_status st;
    if (!c) return PONDER_E_ARGUMENT;
    int i = find(c, id, PONDER_TYPE_STR, &st);
    if (i < 0) return st;
    if (!utf8) return pn_fail(&c->err, PONDER_E_ARGUMENT, "%s: NULL", pn_params[i].name);
    if ((st = check_str(c, id, utf8)) != PONDER_OK) return st;
    if (id == PONDER_P_STOP) return pn_strings_add(&c->stop, "stop", utf8, allocator(c), &c->err);
    if (id == PONDER_P_THINK_CONTINUE) return pn_strings_add(&c->more, "think_continue", utf8, allocator(c), &c->err);
    if (id == PONDER_P_ROLE) return pn_strings_add(&c->role, "role", utf8, allocator(c), &c->err);
    size_t n = strlen(utf8);
    char *copy = pn_alloc(allocator(c), n + 1);
    if (!copy) return pn_nomem(&c->err, n + 1);
    memcpy(copy, utf8, n + 1);
    if (c->value[i].str) pn_free(allocator(c), c->value[i].str, strlen(c->value[i].str) + 1);
    c->value[i].str = copy;
    return PONDER_OK;
}

ponder_status ponder_config_set_runner(ponder_config *c, const ponder_runner *runner)
{
    if (!c) return PONDER_E_ARGUMENT;
    pn_error_clear(&c->err);
    if (!runner) {
        c->runner = (ponder_runner){0};
        return PONDER_OK;
    }
    if (!pn_api_struct(runner, sizeof *runner) || !runner->run) return pn_fail(&c->err, PONDER_E_ARGUMENT, "runner: size or run is missing");
    if (runner->threads == 0 || runner->threads > 64) return pn_fail(&c->err, PONDER_E_RANGE, "runner: %u threads are outside 1..64", runner->threads);
    c->runner = *runner;
    return PONDER_OK;
}

ponder_status ponder_config_set_progress(ponder_config *c, int32_t (*progress)(void *user, uint64_t done, uint64_t total), void *user)
{
    if (!c) return PONDER_E_ARGUMENT;
    pn_error_clear(&c->err);
    c->progress = progress;
    c->progress_user = user;
    return PONDER_OK;
}

ponder_status ponder_config_set_log(ponder_config *c, void (*log)(void *user, int32_t level, const char *line), void *user)
{
    if (!c) return PONDER_E_ARGUMENT;
    pn_error_clear(&c->err);
    c->log = log;
    c->log_user = user;
    return PONDER_OK;
}
