/* Inside the chat room: values as a template sees them, and the rendering under way.
 *
 * Templates are Python at heart: whether `a + b` fails, what counts as false and how 1e-07 is spelt are Python's rules, so
 * the values keep Python's types, and integers keep their digits (they have no largest value there). */
#ifndef PN_CHAT_VALUE_H
#define PN_CHAT_VALUE_H

#include "base/json.h"
#include "chat/chat.h"

bool pn_same(const pn_value *a, const pn_value *b); /* Python's ==; lists and dicts are never the same here */

/* How Python spells things. */
pn_str pn_py_strip(pn_str s);
void pn_py_float(pn_buf *b, double v);
void pn_py_str(pn_buf *b, const pn_value *v);                        /* str(v) */
void pn_py_json(pn_buf *b, const pn_value *v, unsigned indent);      /* json.dumps(v, ensure_ascii=False, indent=...) */

/* ---- a rendering under way: the first refusal latches and the rest is skipped or thrown away */
typedef struct pn_chat {
    pn_rendered *out;
    ponder_error *err;
    ponder_status status;
    pn_template template;
    const pn_value *messages, *tools, *kwargs; /* tools: undefined when there are none */
    bool first;             /* begin token and default system are wanted */
    bool session;           /* messages of a session: no date of today, no thoughts beside what the ids have */
    bool generation_prompt;
} pn_chat;

void pn_refuse(pn_chat *c, const char *text);
void pn_control(pn_chat *c, const char *text);
void pn_control_part(pn_chat *c, pn_str text);
void pn_text(pn_chat *c, pn_str text);
void pn_text_str(pn_chat *c, const pn_value *v);                  /* {{ v }} */
void pn_text_json(pn_chat *c, const pn_value *v, unsigned indent); /* {{ v | tojson }} */
void pn_text_trimmed(pn_chat *c, const pn_value *v);              /* {{ v | trim }} */
/* 'text' + v: Python adds only strings to strings. `name` is for the refusal. */
void pn_text_concat(pn_chat *c, const pn_value *v, const char *name);
void pn_begin_token(pn_chat *c, const char *token); /* bos_token, which kwargs may replace */

/* Marks the first tool of every namespace (its flag); false when one has no name. */
bool pn_mark_namespaces(const pn_value *tools);
const pn_value *pn_tools_list(const pn_tools *t); /* as given; undefined when there are none */

void pn_render_muse(pn_chat *c);
void pn_render_chatml(pn_chat *c);
void pn_render_qwen(pn_chat *c, const char *fallback); /* the default system, or NULL */
void pn_render_gemma(pn_chat *c);
void pn_render_llama3(pn_chat *c);
void pn_render_llama3_1(pn_chat *c);
void pn_render_any(pn_chat *c);

#endif
