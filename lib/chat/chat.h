/* chat: rendering of conversations (parsing of what comes back follows with issue 2). */
#ifndef PN_CHAT_H
#define PN_CHAT_H

#include "base/base.h"

typedef enum pn_template { PN_TEMPLATE_NONE = 0, PN_TEMPLATE_MUSE, PN_TEMPLATE_CHATML, PN_TEMPLATE_GEMMA, PN_TEMPLATE_LLAMA3 } pn_template;

pn_template pn_template_by_name(const char *name);
const char *pn_template_name(pn_template t);   /* "" for none */
/* Recognises a Jinja template by its content, PN_TEMPLATE_NONE when it is none of ours. */
pn_template pn_template_recognise(pn_str jinja);

/* A run of rendered text: control text of the template (its special tokens count), or text of a user, a tool or the
 * model, which never becomes a control token. */
typedef struct pn_span {
    size_t from, n;
    bool control;
} pn_span;

typedef struct pn_rendered {
    const ponder_alloc *a;
    pn_buf text;
    pn_span *spans;        /* in order, covering the text */
    size_t n_spans, cap_spans;
} pn_rendered;

void pn_rendered_init(pn_rendered *r, const ponder_alloc *a);
void pn_rendered_free(pn_rendered *r);
/* {"messages": [...], "tools": [...], "kwargs": {...}} -> text, byte for byte what the reference template gives (Jinja's
 * trim_blocks and lstrip_blocks on, as transformers renders). PONDER_E_FORMAT with the template's own refusal as text. */
ponder_status pn_render_json(pn_template t, const char *json, size_t n, pn_rendered *out, ponder_error *err);

/* The same for a session: one message at a time after the first turn. `first` renders the opening (begin token, default
 * system) too. The result of rendering messages 0..n-1 in any split equals the one-piece text up to the generation prompt. */
typedef struct pn_message { const char *role; pn_str text; } pn_message;
ponder_status pn_render_messages(pn_template t, const pn_message *m, size_t n, bool first, bool generation_prompt,
                                 const char *effort, pn_rendered *out, ponder_error *err);
/* What must stand between a finished assistant turn (its end token included) and the next message, e.g. "\n" for ChatML. */
pn_str pn_template_between(pn_template t);

#endif
