/* The table of parameters and the values a config holds. */
#include "session/session.h"

#define I64(id, name, def, lo, hi, live, help) \
    {sizeof(ponder_param_info), id, PONDER_TYPE_I64, name, help, def, lo, hi, 0, 0, 0, NULL, 1000, live}
#define F64(id, name, def, lo, hi, live, help) \
    {sizeof(ponder_param_info), id, PONDER_TYPE_F64, name, help, 0, 0, 0, def, lo, hi, NULL, 1000, live}
#define STR(id, name, def, live, help) \
    {sizeof(ponder_param_info), id, PONDER_TYPE_STR, name, help, 0, 0, 0, 0, 0, 0, def, 1000, live}

const ponder_param_info pn_params[PN_PARAMS] = {
    I64(PONDER_P_THREADS, "threads", 0, 0, 64, 0, "threads of the engine, the caller's included; 0: one a core"),
    I64(PONDER_P_CPU_MASK, "cpu_mask", 7, 0, 7, 0, "kernel levels allowed: 1 AVX2, 2 AVX-512, 4 AVX-512 VNNI"),
    I64(PONDER_P_REPACK, "repack", 2, 0, 2, 0, "repack weights for speed: 2 once they are used, 1 at opening, 0 never"),
    I64(PONDER_P_MEMORY_CAP, "memory_cap", 0, 0, INT64_MAX, 0, "bytes a model and its sessions may take; 0: no cap"),
    STR(PONDER_P_QUANTIZE, "quantize", "", 0, "quantise a float checkpoint while loading: q8_0, q4_0, q4_k"),
    I64(PONDER_P_BATCH, "batch", 512, 16, 4096, 0, "most tokens a step"),
    I64(PONDER_P_CHUNK, "chunk", 64, 1, 4096, 0, "most prompt tokens a step while another sequence generates"),
    STR(PONDER_P_KV_TYPE, "kv_type", "f16", 0, "key-value store: f32, f16, q8_0, q4"),
    STR(PONDER_P_TOKENIZER, "tokenizer", "", 0, "path of a tokenizer to use instead of the model's"),
    I64(PONDER_P_SEQUENCES, "sequences", 64, 1, 1024, 0, "most sequences in one step"),
    STR(PONDER_P_PROJECTOR, "projector", "", 0, "path of a GGUF with the image and audio towers"),
    I64(PONDER_P_TOWERS, "towers", 1, 0, 1, 0, "load the towers of a folder"),
    I64(PONDER_P_MEDIA_CACHE, "media_cache", 256 << 20, 0, INT64_MAX, 0, "bytes of encoded images and sounds kept"),
    I64(PONDER_P_IMAGE_TOKENS, "image_tokens", 0, 0, 1 << 16, 0, "most tokens a picture takes; 0: the model's own limit"),
    STR(PONDER_P_DRAFTER, "drafter", "", 0, "path of a drafter made for the model, a GGUF or a folder"),
    I64(PONDER_P_CONTEXT, "context", 0, 0, 1 << 24, 0, "tokens a session may hold; 0: the model's limit, as memory allows"),
    I64(PONDER_P_MAX_TOKENS, "max_tokens", 0, 0, INT64_MAX, 1, "most tokens a turn generates; 0: until the context is full"),
    I64(PONDER_P_SEED, "seed", 0, INT64_MIN, INT64_MAX, 1, "seed of the random numbers"),
    F64(PONDER_P_TEMPERATURE, "temperature", 0, 0, 100, 1, "0: greedy"),
    I64(PONDER_P_TOP_K, "top_k", 0, 0, INT32_MAX, 1, "sample among the k most likely; 0: off"),
    F64(PONDER_P_TOP_P, "top_p", 1, 0, 1, 1, "sample among the most likely with this much probability; 1: off"),
    F64(PONDER_P_MIN_P, "min_p", 0, 0, 1, 1, "sample among those at least this likely beside the best; 0: off"),
    F64(PONDER_P_REPEAT_PENALTY, "repeat_penalty", 1, 0.01, 100, 1, "1: off"),
    F64(PONDER_P_PRESENCE_PENALTY, "presence_penalty", 0, -100, 100, 1, "0: off"),
    F64(PONDER_P_FREQUENCY_PENALTY, "frequency_penalty", 0, -100, 100, 1, "0: off"),
    I64(PONDER_P_PENALTY_WINDOW, "penalty_window", 64, 0, 1 << 24, 1, "last tokens that count as seen"),
    I64(PONDER_P_LOGPROBS, "logprobs", -1, -1, 64, 1, "report this many likely tokens beside each; -1: none"),
    STR(PONDER_P_STOP, "stop", "", 1, "adds a stop string; \"\" forgets all"),
    STR(PONDER_P_TEMPLATE, "template", "", 0, "chat template; \"\": recognise the file's"),
    STR(PONDER_P_EFFORT, "effort", "", 1, "reasoning strength for the template; \"\": unsaid"),
    I64(PONDER_P_IGNORE_EOS, "ignore_eos", 0, 0, 1, 1, "go on after an end token"),
    STR(PONDER_P_SCHEMA, "schema", "", 1, "JSON Schema that binds the answer"),
    STR(PONDER_P_REGEX, "regex", "", 1, "regular expression that binds the answer"),
    I64(PONDER_P_STRICT_TOOLS, "strict_tools", 0, 0, 1, 1, "bind the arguments of tool calls to their schemas"),
    I64(PONDER_P_LOOK_CLOSER, "look_closer", 0, 0, 1, 1, "offer the model the tool image.zoom"),
    STR(PONDER_P_DRAFT, "draft", "", 1, "compute likely tokens along with the next one: lookup, drafter; \"\": off"),
    I64(PONDER_P_DRAFT_TOKENS, "draft_tokens", 15, 1, PN_DRAFT_MOST, 1, "most such tokens a step"),
    STR(PONDER_P_ALPHA, "alpha", "", 0, "white or drop: what becomes of transparency; \"\": drop for files, white for memory"),
    I64(PONDER_P_MAX_PIXELS, "max_pixels", 1 << 27, 1, INT64_C(1) << 40, 0, "largest picture that is decoded"),
    I64(PONDER_P_MAX_SECONDS, "max_seconds", 4 * 3600, 1, 1 << 24, 0, "longest sound that is decoded"),
    I64(PONDER_P_THINK_TOKENS, "think_tokens", -1, -1, INT64_MAX, 1, "most tokens of thought; 0: none; -1: no limit"),
    I64(PONDER_P_THINK_LEAST, "think_least", 0, 0, INT64_MAX, 1, "tokens of thought before which a close is held back"),
    I64(PONDER_P_THINK_MS, "think_ms", -1, -1, PN_MOST_MS, 1, "most milliseconds of thought; 0: none; -1: no limit"),
    I64(PONDER_P_TURN_MS, "turn_ms", 0, 0, PN_MOST_MS, 1, "milliseconds of a whole turn; 0: no limit"),
    I64(PONDER_P_ANSWER_TOKENS, "answer_tokens", 0, 0, 1 << 24, 1, "tokens that the thought leaves to the answer"),
    STR(PONDER_P_THINK_SCOPE, "think_scope", "turn", 1, "what the budget is of: turn, block"),
    STR(PONDER_P_CLOCK, "clock", "", 1, "wall, inside; \"\": wall in generate, inside in step"),
    I64(PONDER_P_THINK_SOFT, "think_soft", -1, -1, INT64_MAX, 1, "tokens before the end from which a likely close is taken; -1: automatic; 0: off"),
    I64(PONDER_P_THINK_RANK, "think_rank", 3, 1, 1 << 20, 1, "likely: among so many most likely tokens"),
    I64(PONDER_P_THINK_GRACE, "think_grace", -1, -1, INT64_MAX, 1, "tokens before the end from which a sentence's end closes; -1: automatic; 0: off"),
    STR(PONDER_P_THINK_MESSAGE, "think_message", "", 1, "written at the end of a thought that was cut"),
    STR(PONDER_P_THINK_CONTINUE, "think_continue", "", 1, "adds words in the place of a close that is held back; \"\" forgets all"),
    STR(PONDER_P_THINK_EXIT, "think_exit", "", 1, "leave early when certain: entropy, answer"),
    F64(PONDER_P_THINK_EXIT_AT, "think_exit_at", -1, -1, 1000, 1, "entropy below, confidence above; negative: the default"),
    I64(PONDER_P_THINK_PATIENCE, "think_patience", 1, 1, 1 << 20, 1, "probes in a row that must say so"),
    I64(PONDER_P_THINK_INTERVAL, "think_interval", 32, 1, 1 << 24, 1, "tokens of thought between probes"),
    F64(PONDER_P_THINK_PROBE_SHARE, "think_probe_share", 0.03, 0, 100, 1, "most tokens of probes, as a share of the thought's"),
    STR(PONDER_P_THINK_OPEN, "think_open", "", 1, "marker that opens a thought, where the model has none"),
    STR(PONDER_P_THINK_CLOSE, "think_close", "", 1, "marker that closes it"),
    I64(PONDER_P_THINK_START, "think_start", 0, 0, 1, 1, "open a thought at the turn's beginning"),
    I64(PONDER_P_AGENTS, "agents", 8, 1, 1024, 0, "how many agents work on the problem"),
    I64(PONDER_P_AT_ONCE, "at_once", 0, 0, 1024, 0, "how many of them run at the same time; 0: all"),
    STR(PONDER_P_SYNTHESIS, "synthesis", "vote", 0, "how one answer comes of many: vote, confidence, written"),
    F64(PONDER_P_QUORUM, "quorum", 1, 0, 1, 0, "stop when this share of the agents is done"),
    F64(PONDER_P_DECIDE, "decide", 1, 0, 1, 0, "stop when the vote is decided; 1: for certain, below: with this probability; 0: off"),
    F64(PONDER_P_DROP, "drop", 0, 0, 1, 0, "drop agents under this quantile of the first finishers' confidence; 0: off"),
    I64(PONDER_P_WARM_UP, "warm_up", 0, 0, 1024, 0, "first finishers that make the quantile; 0: a quarter of the agents"),
    I64(PONDER_P_DEADLINE_MS, "deadline_ms", 0, 0, INT64_C(1) << 40, 0, "milliseconds after which finished agents are all there is; 0: none"),
    I64(PONDER_P_ROUNDS, "rounds", 1, 1, 64, 0, "rounds; from the second on agents see results of the one before"),
    I64(PONDER_P_PEERS, "peers", 4, 1, 1024, 0, "how many results they see"),
    STR(PONDER_P_ANSWER_FORM, "answer_form", "", 0, "what answers are compared as: number, choice, json, text; \"\": as they look"),
    STR(PONDER_P_ROLE, "role", "", 0, "adds a role's text; \"\" forgets all"),
    STR(PONDER_P_PEERS_TEXT, "peers_text", "", 0, "stands before the results a later round is shown"),
    STR(PONDER_P_WRITER_TEXT, "writer_text", "", 0, "stands behind the results the written synthesis is shown"),
    I64(PONDER_P_CONFIDENCE_WINDOW, "confidence_window", 64, 1, 1 << 16, 0, "tokens over which confidence is averaged"),
    I64(PONDER_P_AGENT_TOKENS, "agent_tokens", 0, 0, INT64_MAX, 1, "tokens all agents of a session generate together; 0: no limit"),
    I64(PONDER_P_SUBAGENTS, "subagents", 0, 0, 1, 1, "offer the model the tools subagents.*"),
    I64(PONDER_P_AGENT_LIMIT, "agent_limit", 16, 1, 1024, 1, "most agents the model may have at a time"),
    I64(PONDER_P_AGENT_DEPTH, "agent_depth", 1, 1, 16, 1, "1: its agents have none themselves"),
    STR(PONDER_P_REMOTE_KEY, "remote_key", "", 0, "key that servers ask for; never logged"),
    STR(PONDER_P_REMOTE_MODEL, "remote_model", "", 0, "name of the model at the servers; \"\": their first"),
    I64(PONDER_P_REMOTE_RETRIES, "remote_retries", 3, 0, 1000, 0, "how often a request is sent again"),
    I64(PONDER_P_REMOTE_TIMEOUT_MS, "remote_timeout_ms", 120000, 1, INT64_C(1) << 40, 0, "milliseconds without a byte before a server counts as dead"),
    STR(PONDER_P_REMOTE_CA, "remote_ca", "", 0, "file of certificates to trust instead of the system's"),
    STR(PONDER_P_REMOTE_URL, "remote_url", "", 0, "further servers, separated by blanks"),
    I64(PONDER_P_REMOTE_FLIGHTS, "remote_flights", 0, 0, 1 << 20, 0, "most requests at a time to one server; 0: any number"),
    STR(PONDER_P_REMOTE_SERVER, "remote_server", "", 0, "what the servers are: openai, vllm, sglang, llama.cpp; \"\": as they say"),
    STR(PONDER_P_REMOTE_PROXY, "remote_proxy", "", 0, "proxy to go through; \"\": none"),
    STR(PONDER_P_REMOTE_KEY_FILE, "remote_key_file", "", 0, "file whose first line is the key"),
    STR(PONDER_P_REMOTE_BODY, "remote_body", "", 1, "JSON object whose members are added to each request"),
    I64(PONDER_P_REMOTE_RESTART, "remote_restart", 0, 0, 1, 1, "1: a stream that breaks begins again, told by an event"),
};

int pn_param_index(ponder_param id)
{
    for (int i = 0; i < PN_PARAMS; i++)
        if (pn_params[i].id == id) return i;
    return -1;
}

int64_t pn_config_i64(const ponder_config *c, ponder_param id)
{
    int i = pn_param_index(id);
    return c ? c->value[i].i64 : pn_params[i].i64_default;
}

double pn_config_f64(const ponder_config *c, ponder_param id)
{
    int i = pn_param_index(id);
    return c ? c->value[i].f64 : pn_params[i].f64_default;
}

const char *pn_config_str(const ponder_config *c, ponder_param id)
{
    int i = pn_param_index(id);
    return c && c->value[i].str ? c->value[i].str : pn_params[i].str_default;
}

bool pn_config_default(const ponder_config *c, ponder_param id)
{
    const ponder_param_info *p = &pn_params[pn_param_index(id)];
    if (id == PONDER_P_THINK_CONTINUE) return !c || c->more.n == 0;
    if (p->type == PONDER_TYPE_I64) return pn_config_i64(c, id) == p->i64_default;
    if (p->type == PONDER_TYPE_F64) return pn_config_f64(c, id) == p->f64_default;
    return strcmp(pn_config_str(c, id), p->str_default) == 0;
}

const char *pn_config_first_set(const ponder_config *c, const ponder_param *id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!pn_config_default(c, id[i])) return pn_params[pn_param_index(id[i])].name;
    return NULL;
}

/* ---- lists of strings ---------------------------------------------------------------------------------- */

void pn_strings_forget(pn_strings *l, const ponder_alloc *a)
{
    for (uint32_t i = 0; i < l->n; i++) pn_free(a, (char *)(uintptr_t)l->s[i].p, l->s[i].n + 1);
    l->n = 0;
}

ponder_status pn_strings_add(pn_strings *l, const char *name, const char *text, const ponder_alloc *a, ponder_error *err)
{
    const size_t n = strlen(text);
    if (n == 0) {
        pn_strings_forget(l, a);
        return PONDER_OK;
    }
    if (l->n == PN_STRINGS) return pn_fail(err, PONDER_E_RANGE, "%s: more than %d strings", name, PN_STRINGS);
    char *p = pn_alloc(a, n + 1);
    if (!p) return pn_nomem(err, n + 1);
    memcpy(p, text, n + 1);
    l->s[l->n++] = (pn_str){p, n};
    return PONDER_OK;
}

ponder_status pn_strings_copy(pn_strings *to, const pn_strings *from, const ponder_alloc *a, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    pn_strings_forget(to, a);
    for (uint32_t i = 0; i < from->n && st == PONDER_OK; i++) st = pn_strings_add(to, "", from->s[i].p, a, err);
    return st;
}

/* ---- copies ------------------------------------------------------------------------------------- */

static const ponder_alloc *allocator(const ponder_config *c) { return c->alloc.alloc ? &c->alloc : NULL; }

ponder_status pn_config_copy(ponder_config **out, const ponder_config *from, ponder_error *err)
{
    const ponder_alloc *a = allocator(from);
    ponder_config *c = *out = pn_alloc(a, sizeof *c);
    if (!c) return pn_nomem(err, sizeof *c);
    *c = *from;
    c->stop.n = c->more.n = c->role.n = 0;
    bool ok = true;
    for (int i = 0; i < PN_PARAMS; i++) {
        if (pn_params[i].type != PONDER_TYPE_STR || !from->value[i].str) continue;
        const size_t n = strlen(from->value[i].str) + 1;
        c->value[i].str = ok ? pn_alloc(a, n) : NULL;
        ok = c->value[i].str != NULL;
        if (ok) memcpy(c->value[i].str, from->value[i].str, n);
    }
    ok = ok && pn_strings_copy(&c->stop, &from->stop, a, err) == PONDER_OK && pn_strings_copy(&c->more, &from->more, a, err) == PONDER_OK &&
         pn_strings_copy(&c->role, &from->role, a, err) == PONDER_OK;
    if (ok) return PONDER_OK;
    pn_config_free(c);
    *out = NULL;
    return pn_nomem(err, sizeof *c);
}

void pn_config_free(ponder_config *c)
{
    if (!c) return;
    const ponder_alloc a = c->alloc, *own = a.alloc ? &a : NULL;
    pn_strings_forget(&c->stop, own);
    pn_strings_forget(&c->more, own);
    pn_strings_forget(&c->role, own);
    const int key = pn_param_index(PONDER_P_REMOTE_KEY);
    if (c->value[key].str) explicit_bzero(c->value[key].str, strlen(c->value[key].str) + 1);
    for (int i = 0; i < PN_PARAMS; i++)
        if (pn_params[i].type == PONDER_TYPE_STR && c->value[i].str) pn_free(own, c->value[i].str, strlen(c->value[i].str) + 1);
    pn_free(own, c, sizeof *c);
}
