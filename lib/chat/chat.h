/* chat: rendering of conversations. What comes back is parsed by parse.h; tools.h reads tool definitions. */
#ifndef PN_CHAT_H
#define PN_CHAT_H

#include "base/base.h"
#include "chat/tools.h"

/* A template is one fixed text program; those that differ in a byte of what they write are different ones here.
 * The first of each family is what its plain name means: */
typedef enum pn_template {
    PN_TEMPLATE_NONE = 0,
    PN_TEMPLATE_MUSE,      /* "muse": Muse Glimmer's */
    PN_TEMPLATE_CHATML,    /* "chatml": the bare loop, no default system, tools ignored */
    PN_TEMPLATE_GEMMA,     /* "gemma": Gemma 3's; the system text opens the first user turn */
    PN_TEMPLATE_LLAMA3,    /* "llama3": Llama 3's, tools ignored */
    PN_TEMPLATE_SMOLLM2,   /* "smollm2": ChatML with SmolLM2's default system */
    PN_TEMPLATE_QWEN2,     /* "qwen2": ChatML with Qwen2's default system */
    PN_TEMPLATE_QWEN2_5,   /* "qwen2.5": default system, tools */
    PN_TEMPLATE_QWEN3,     /* "qwen3": no default system, tools, enable_thinking */
    PN_TEMPLATE_GEMMA2,    /* "gemma2": Gemma 1's and 2's, which refuse a system */
    PN_TEMPLATE_LLAMA3_1,  /* "llama3.1": 3.1's: date lines, tools; 3.2's writes the same texts when it has no clock */
} pn_template;

pn_template pn_template_by_name(const char *name);
const char *pn_template_name(pn_template t);   /* "" for none */
/* Recognises a Jinja template by its content, PN_TEMPLATE_NONE when it is none of ours, also when it is one of the family
 * but writes something else (another default system, a begin token, a thought that the prompt opens). */
pn_template pn_template_recognise(pn_str jinja);

/* A run of rendered text: control text of the template (its special tokens count), or text of a user, a tool or the
 * model, which never becomes a control token. A boundary between runs is no boundary between tokens: look for special
 * tokens in the control runs only, then split what stands between them as one text. */
typedef struct pn_span {
    size_t from, n;
    bool control;
} pn_span;

typedef struct pn_rendered {
    const ponder_alloc *a;
    pn_buf text;
    pn_span *spans;        /* in order, covering the text; none is empty, neighbours differ in `control` */
    size_t n_spans, cap_spans;
} pn_rendered;

void pn_rendered_init(pn_rendered *r, const ponder_alloc *a);
void pn_rendered_free(pn_rendered *r);
/* {"messages": [...], "tools": [...], "kwargs": {...}} -> text, byte for byte what the reference template gives (Jinja's
 * trim_blocks and lstrip_blocks on, as transformers renders). PONDER_E_FORMAT with the template's own refusal as text.
 * Muse without system and current_date: today's date (UTC). */
ponder_status pn_render_json(pn_template t, const char *json, size_t n, pn_rendered *out, ponder_error *err);

/* A part of a message's content. A mark is control text of the template, one for each picture, video or sound; the session
 * puts the rows' tokens in its place. PONDER_E_UNSUPPORTED: the template has no such mark. */
typedef enum pn_part_kind { PN_PART_TEXT = 0, PN_PART_IMAGE, PN_PART_VIDEO, PN_PART_AUDIO } pn_part_kind;
typedef struct pn_part {
    pn_part_kind kind;
    pn_str text;           /* PN_PART_TEXT */
} pn_part;

typedef struct pn_message {
    const char *role;      /* "system", "user", "assistant", "tool" */
    pn_str text;           /* the content, unless n_parts > 0 */
    const pn_part *parts;
    size_t n_parts;
    pn_str name;           /* tool: the function whose result this is */
    pn_str thought;        /* assistant: the reasoning before the text or the calls; templates without words for it drop it,
                              Qwen 3 keeps it behind the last question only */
    pn_str calls;          /* assistant: JSON, a list of {"id": ..., "function": {"name": ..., "arguments": {...}}}, or of the
                              bare functions, arguments as an object or as its text; "" for none. Muse writes no text
                              beside calls, Llama 3.1 one call a message */
} pn_message;

/* The same for a session: one message at a time after the first turn. `first` renders the opening (begin token, default
 * system) too. The result of rendering messages 0..n-1 in any split equals the one-piece text up to the generation prompt,
 * if the first part has the system message (when there is one) and, with Gemma, the first user message; a call and its
 * results, and results one after another, are to stay together. No date is written. An unknown role is PONDER_E_FORMAT.
 * `tools` (may be NULL) are listed by the turn that opens the conversation: give them with `first`, or with a message
 * that is a system. PONDER_E_UNSUPPORTED: tools, calls, results or parts that the template has no words for. */
typedef struct pn_render_options {
    bool first, generation_prompt;
    const char *effort;    /* NULL or "": the template's default */
    bool no_thought;       /* the generation prompt is to rule a thought out, where the template can */
    const pn_tools *tools;
} pn_render_options;
ponder_status pn_render_turns(pn_template t, const pn_message *m, size_t n, const pn_render_options *o, pn_rendered *out,
                              ponder_error *err);
ponder_status pn_render_messages(pn_template t, const pn_message *m, size_t n, bool first, bool generation_prompt,
                                 const char *effort, pn_rendered *out, ponder_error *err); /* without tools */
/* What the model itself writes at the end of its turn: muse "<|eot|>", chatml "<|im_end|>", gemma "<end_of_turn>", llama3
 * "<|eot_id|>". A turn that was cut (limit, stop string, cancel) lacks it: it is to be added (control text). */
pn_str pn_template_turn_end(pn_template t);
/* What must stand between a finished assistant turn (its end token included) and the next message: "\n" for ChatML and
 * Gemma, nothing for the others. Rendered assistant messages already end in it. */
pn_str pn_template_between(pn_template t);

#endif
