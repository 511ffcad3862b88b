/* Rendered text with its spans, and the entry from JSON. */
#include "chat/value.h"

/* Templates repeat tools in every system turn: a megabyte of JSON could ask for gigabytes of text. */
enum { MOST_TEXT = 256 << 20 };

void pn_rendered_init(pn_rendered *r, const ponder_alloc *a)
{
    *r = (pn_rendered){.a = a};
    pn_buf_init(&r->text, a);
}

void pn_rendered_free(pn_rendered *r)
{
    pn_buf_free(&r->text);
    pn_free(r->a, r->spans, r->cap_spans * sizeof *r->spans);
    pn_rendered_init(r, r->a);
}

static bool add_span(pn_rendered *r, size_t n, bool control)
{
    pn_span *last = r->n_spans ? &r->spans[r->n_spans - 1] : NULL;
    if (last && last->control == control) {
        last->n += n;
        return true;
    }
    if (r->n_spans == r->cap_spans) {
        const size_t cap = r->cap_spans ? r->cap_spans * 2 : 16;
        pn_span *p = pn_grow(r->a, r->spans, r->cap_spans * sizeof *p, cap * sizeof *p);
        if (!p) return false;
        r->spans = p;
        r->cap_spans = cap;
    }
    r->spans[r->n_spans++] = (pn_span){r->text.n - n, n, control};
    return true;
}

/* What was written to the text since `from` becomes a span. */
static void close_span(pn_chat *c, size_t from, bool control)
{
    pn_rendered *r = c->out;
    if (c->status) return;
    if (r->text.n > MOST_TEXT) c->status = pn_fail(c->err, PONDER_E_NOMEM, "the rendered text is longer than 256 MiB");
    else if (r->text.failed || (r->text.n > from && !add_span(r, r->text.n - from, control)))
        c->status = pn_nomem(c->err, r->text.n);
}

void pn_refuse(pn_chat *c, const char *text)
{
    if (!c->status) c->status = pn_fail(c->err, PONDER_E_FORMAT, "%s", text);
}

void pn_control_part(pn_chat *c, pn_str text)
{
    if (c->status) return;
    const size_t from = c->out->text.n;
    pn_buf_put(&c->out->text, text.p, text.n);
    close_span(c, from, true);
}

void pn_control(pn_chat *c, const char *text)
{
    pn_control_part(c, pn_str_of(text));
}

void pn_text(pn_chat *c, pn_str text)
{
    if (c->status) return;
    const size_t from = c->out->text.n;
    pn_buf_put(&c->out->text, text.p, text.n);
    close_span(c, from, false);
}

void pn_text_str(pn_chat *c, const pn_value *v)
{
    if (c->status) return;
    const size_t from = c->out->text.n;
    pn_py_str(&c->out->text, v);
    close_span(c, from, false);
}

void pn_text_json(pn_chat *c, const pn_value *v, unsigned indent)
{
    if (v->type == PN_V_UNDEFINED) pn_refuse(c, "Object of type Undefined is not JSON serializable");
    if (c->status) return;
    const size_t from = c->out->text.n;
    pn_py_json(&c->out->text, v, indent);
    close_span(c, from, false);
}

void pn_text_trimmed(pn_chat *c, const pn_value *v)
{
    /* Only strings have space around them. */
    if (v->type == PN_V_STRING) pn_text(c, pn_py_strip(v->text));
    else pn_text_str(c, v);
}

void pn_text_concat(pn_chat *c, const pn_value *v, const char *name)
{
    if (c->status) return;
    if (v->type == PN_V_STRING) pn_text(c, v->text);
    else c->status = pn_fail(c->err, PONDER_E_FORMAT, v->type == PN_V_UNDEFINED ? "%s is missing" : "%s is not a string", name);
}

void pn_begin_token(pn_chat *c, const char *token)
{
    const pn_value *own = pn_get(c->kwargs, "bos_token");
    if (own->type == PN_V_UNDEFINED) pn_control(c, token);
    else pn_text_str(c, own);
}

void pn_render_any(pn_chat *c)
{
    switch (c->template) {
    case PN_TEMPLATE_MUSE: pn_render_muse(c); break;
    case PN_TEMPLATE_CHATML: case PN_TEMPLATE_SMOLLM2: case PN_TEMPLATE_QWEN2: case PN_TEMPLATE_QWEN2_5:
    case PN_TEMPLATE_QWEN3: pn_render_chatml(c); break;
    case PN_TEMPLATE_GEMMA: case PN_TEMPLATE_GEMMA2: pn_render_gemma(c); break;
    case PN_TEMPLATE_LLAMA3: pn_render_llama3(c); break;
    case PN_TEMPLATE_LLAMA3_1: pn_render_llama3_1(c); break;
    default: c->status = pn_fail(c->err, PONDER_E_UNKNOWN, "no such template");
    }
    if (c->status) {
        c->out->text.n = 0;
        c->out->n_spans = 0;
    }
}

static bool all_dicts(const pn_value *list)
{
    for (const pn_value *v = list->first; v; v = v->next)
        if (v->type != PN_V_DICT) return false;
    return true;
}

static ponder_status open_root(pn_chat *c, const pn_value *root)
{
    static const pn_value undefined = {0};
    if (root->type != PN_V_DICT) return pn_fail(c->err, PONDER_E_FORMAT, "not a JSON object with \"messages\"");
    c->messages = pn_get(root, "messages");
    c->tools = pn_get(root, "tools");
    c->kwargs = pn_get(root, "kwargs");
    if (c->tools->type == PN_V_NONE) c->tools = &undefined;
    if (c->messages->type != PN_V_LIST || !all_dicts(c->messages))
        return pn_fail(c->err, PONDER_E_FORMAT, "messages is not a list of objects");
    if (c->tools->type != PN_V_UNDEFINED && (c->tools->type != PN_V_LIST || !all_dicts(c->tools)))
        return pn_fail(c->err, PONDER_E_FORMAT, "tools is not a list of objects");
    if (c->kwargs->type > PN_V_NONE && c->kwargs->type != PN_V_DICT)
        return pn_fail(c->err, PONDER_E_FORMAT, "kwargs is not an object");
    c->generation_prompt = pn_truth(pn_get(c->kwargs, "add_generation_prompt"));
    return PONDER_OK;
}

ponder_status pn_render_json(pn_template t, const char *json, size_t n, pn_rendered *out, ponder_error *err)
{
    pn_json doc;
    ponder_status status = pn_json_read(&doc, json, n, out->a, err);
    if (status) return status;
    pn_chat c = {.out = out, .err = err, .template = t, .first = true};
    c.status = open_root(&c, pn_json_root(&doc));
    if (!c.status) pn_render_any(&c);
    pn_json_free(&doc);
    return c.status;
}
