/* From texts to a grammar: pieces one after another, then the rules they ask for, then the rules those ask for. */
#include "grammar/schema.h"

enum { TEXT_MOST = 16 << 20 };

const pn_value *pn_schema_text(pn_compiler *c, pn_str text)
{
    static const char none[] = "{\"type\": \"object\", \"additionalProperties\": false}";
    pn_build *b = &c->build;
    if (text.n == 0) text = pn_str_of(none);
    if (text.n > TEXT_MOST) pn_build_fail(b, PONDER_E_RANGE, "schema: more than %d bytes", (int)TEXT_MOST);
    if (!pn_build_room(b, (void **)&c->docs, &c->cap_docs, c->n_docs, sizeof *c->docs)) return NULL;
    pn_json *doc = &c->docs[c->n_docs];
    b->status = pn_json_read(doc, text.p, text.n, b->a, b->err);
    if (b->status) return NULL;
    c->n_docs++;
    const pn_value *root = pn_json_root(doc);
    if (root->type == PN_V_DICT || root->type == PN_V_BOOL) return root;
    pn_build_fail(b, PONDER_E_FORMAT, "schema: neither an object nor true nor false");
    return NULL;
}

/* ---- rules ------------------------------------------------------------------------------------------------------------------------------ */

static bool same_job(const pn_compiler *c, const pn_job *x, const pn_job *y)
{
    return x->hash == y->hash && x->body == y->body && x->mode == y->mode && x->tools == y->tools && x->set.n == y->set.n &&
           (x->set.n == 0 || memcmp(&c->pool[x->set.at], &c->pool[y->set.at], x->set.n * sizeof *c->pool) == 0);
}

static bool grow_slots(pn_compiler *c)
{
    const size_t n = c->n_slots ? c->n_slots * 2 : 64;
    uint32_t *slots = pn_zalloc_array(c->build.a, n, sizeof *slots);
    if (!slots) {
        c->build.status = pn_nomem(c->build.err, n * sizeof *slots);
        return false;
    }
    pn_free(c->build.a, c->slots, c->n_slots * sizeof *c->slots);
    c->slots = slots;
    c->n_slots = n;
    for (size_t i = 0; i < c->n_jobs; i++) {
        uint32_t *slot = &slots[c->jobs[i].hash & (n - 1)];
        c->jobs[i].next = *slot;
        *slot = (uint32_t)i + 1;
    }
    return true;
}

uint32_t pn_schema_rule(pn_compiler *c, pn_body body, pn_set s, const pn_piece *tools, uint8_t opener)
{
    pn_build *b = &c->build;
    if (b->status || (c->n_jobs >= c->n_slots && !grow_slots(c))) return 0;
    pn_job job = {.body = body, .mode = c->mode, .set = s, .tools = tools};
    job.hash = (uint32_t)pn_hash64(s.n ? &c->pool[s.at] : NULL, s.n * sizeof *c->pool, (uint64_t)body << 32 | c->mode);
    uint32_t *slot = &c->slots[job.hash & (c->n_slots - 1)];
    for (uint32_t i = *slot; i && pn_build_work(b, 1); i = c->jobs[i - 1].next)
        if (same_job(c, &c->jobs[i - 1], &job)) return i;
    if (!pn_build_room(b, (void **)&c->jobs, &c->cap_jobs, c->n_jobs, sizeof *c->jobs)) return 0;
    if (!pn_rule_new(b, opener)) return 0;
    job.next = *slot;
    c->jobs[c->n_jobs++] = job;
    return *slot = (uint32_t)c->n_jobs;
}

static void run_jobs(pn_compiler *c)
{
    static pn_nid (*const bodies[])(pn_compiler *, const pn_job *, uint32_t) = {
        [BODY_OBJECT] = pn_object_body, [BODY_ARRAY] = pn_array_body, [BODY_CONST] = pn_const_body, [BODY_TOOLS] = pn_tools_body};
    for (size_t i = 0; i < c->n_jobs && !c->build.status; i++) {
        const pn_job job = c->jobs[i]; /* the array may move */
        c->mode = job.mode;
        const pn_nid start = bodies[job.body](c, &job, (uint32_t)i + 1);
        c->build.g->rules[i + 1].start = start;
    }
}

/* ---- pieces -------------------------------------------------------------------------------------------------------------------------------- */

static pn_nid schema_piece(pn_compiler *c, const pn_piece *p, pn_nid next)
{
    const pn_value *root = pn_schema_text(c, p->text);
    pn_set s = pn_set_begin(c);
    if (!root || !pn_set_add(c, &s, root)) return 0;
    return pn_schema_value(c, s, next);
}

static pn_nid text_piece(pn_compiler *c, const pn_piece *p, bool last, pn_nid next)
{
    pn_build *b = &c->build;
    const bool until = p->kind == PN_PIECE_UNTIL;
    const pn_text_spec s = {.spelling = SPELL_RAW, .most = UINT32_MAX, .avoid = p->text, .until = until};
    if (!pn_is_utf8(p->text)) pn_build_fail(b, PONDER_E_FORMAT, "grammar: a text that is not UTF-8");
    if (until && p->text.n == 0) pn_build_fail(b, PONDER_E_ARGUMENT, "grammar: text until nothing");
    if (!until && !last) pn_build_fail(b, PONDER_E_ARGUMENT, "grammar: free text must stand last");
    return pn_text_any(b, &s, next);
}

static pn_nid piece(pn_compiler *c, const pn_piece *p, bool last, pn_nid next)
{
    const pn_pattern_spec s = {.spelling = SPELL_RAW, .whole = true, .most = UINT32_MAX, .where = "grammar"};
    const pn_set none = {0};
    c->mode = p->flags & (PN_GRAMMAR_COMPACT | PN_GRAMMAR_CLOSED);
    switch (p->kind) {
    case PN_PIECE_LITERAL: return pn_literal(&c->build, p->text.p, p->text.n, next);
    case PN_PIECE_UNTIL: case PN_PIECE_WITHOUT: return text_piece(c, p, last, next);
    case PN_PIECE_SCHEMA: return schema_piece(c, p, next);
    case PN_PIECE_REGEX: return pn_pattern(&c->build, p->text, &s, next);
    case PN_PIECE_CALL_MUSE: return pn_call_muse(c, p, next);
    case PN_PIECE_CALL_JSON: return pn_call(&c->build, pn_schema_rule(c, BODY_TOOLS, none, p, '{'), next);
    default:
        pn_build_fail(&c->build, PONDER_E_ARGUMENT, "grammar: no such piece: %d", (int)p->kind);
        return 0;
    }
}

static pn_nid sequences(pn_compiler *c, const pn_piece *pieces, size_t n)
{
    const pn_nid end = pn_final(&c->build, 0);
    pn_nid all = 0, at = end;
    for (size_t i = n; i-- > 0 && !c->build.status;) {
        if (pieces[i].kind == PN_PIECE_OR) {
            all = pn_split(&c->build, at, all);
            at = end;
        } else {
            at = piece(c, &pieces[i], i + 1 == n || pieces[i + 1].kind == PN_PIECE_OR, at);
        }
    }
    return pn_split(&c->build, at, all);
}

static void compiler_free(pn_compiler *c)
{
    const ponder_alloc *a = c->build.a;
    for (size_t i = 0; i < c->n_docs; i++) pn_json_free(&c->docs[i]);
    pn_free(a, c->docs, c->cap_docs * sizeof *c->docs);
    pn_free(a, c->pool, c->cap_pool * sizeof *c->pool);
    pn_free(a, c->jobs, c->cap_jobs * sizeof *c->jobs);
    pn_free(a, c->slots, c->n_slots * sizeof *c->slots);
    pn_free(a, c->checked, c->cap_checked * sizeof *c->checked);
}

ponder_status pn_grammar_pieces(pn_grammar **out, const pn_piece *pieces, size_t n, const ponder_alloc *a, ponder_error *err)
{
    pn_compiler c = {0};
    *out = NULL;
    if (pn_build_begin(&c.build, a, err)) return c.build.status;
    const pn_nid root = sequences(&c, pieces, n);
    run_jobs(&c);
    const ponder_status st = pn_build_end(&c.build, root, out);
    compiler_free(&c);
    return st;
}

static ponder_status one_piece(pn_grammar **out, pn_piece the_piece, const ponder_alloc *a, ponder_error *err)
{
    return pn_grammar_pieces(out, &the_piece, 1, a, err);
}

ponder_status pn_grammar_schema(pn_grammar **out, const char *json, size_t n, uint32_t flags, const ponder_alloc *a, ponder_error *err)
{
    if (n == 0) {
        *out = NULL;
        return pn_fail(err, PONDER_E_FORMAT, "schema: empty");
    }
    return one_piece(out, (pn_piece){.kind = PN_PIECE_SCHEMA, .flags = flags, .text = {json, n}}, a, err);
}

ponder_status pn_grammar_regex(pn_grammar **out, const char *pattern, size_t n, const ponder_alloc *a, ponder_error *err)
{
    return one_piece(out, (pn_piece){.kind = PN_PIECE_REGEX, .text = {pattern, n}}, a, err);
}

ponder_status pn_grammar_call_muse(pn_grammar **out, const pn_tool_schema *tools, size_t n, uint32_t flags, const ponder_alloc *a, ponder_error *err)
{
    return one_piece(out, (pn_piece){.kind = PN_PIECE_CALL_MUSE, .flags = flags, .tools = tools, .n_tools = n}, a, err);
}

ponder_status pn_grammar_call_json(pn_grammar **out, const pn_tool_schema *tools, size_t n, uint32_t flags, const ponder_alloc *a, ponder_error *err)
{
    return one_piece(out, (pn_piece){.kind = PN_PIECE_CALL_JSON, .flags = flags, .tools = tools, .n_tools = n}, a, err);
}
