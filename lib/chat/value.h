/* Inside the chat room: values as a template sees them, and the rendering under way.
 *
 * Templates are Python at heart: whether `a + b` fails, what counts as false and how 1e-07 is spelt are Python's rules, so
 * the values keep Python's types, and integers keep their digits (they have no largest value there). */
#ifndef PN_CHAT_VALUE_H
#define PN_CHAT_VALUE_H

#include "chat/chat.h"

typedef enum pn_value_type {
    PN_V_UNDEFINED = 0, PN_V_NONE, PN_V_BOOL, PN_V_INT, PN_V_FLOAT, PN_V_STRING, PN_V_LIST, PN_V_DICT
} pn_value_type;

typedef struct pn_value pn_value;
struct pn_value {
    pn_value_type type;
    bool flag;    /* a bool's value; of a tool: the first of its namespace */
    double real;
    pn_str text;  /* a string's bytes, an integer's digits */
    pn_str key;   /* as a member of a dict */
    pn_value *parent, *first, *last, *next;
    size_t count; /* of members */
};

/* A parsed text. Nothing is recursive, here or in the writers: members link to their parent. */
typedef struct pn_json {
    const ponder_alloc *a;
    char *text; /* a copy, in which strings are decoded in place */
    size_t bytes;
    pn_value *values;
    size_t n, cap;
    pn_value **slots; /* open addressing over (dict, key): a repeated key overwrites, in its first place, as in Python */
    size_t n_slots;
} pn_json;

ponder_status pn_json_read(pn_json *doc, const char *p, size_t n, const ponder_alloc *a, ponder_error *err);
void pn_json_free(pn_json *doc);
static inline const pn_value *pn_json_root(const pn_json *doc) { return doc->values; }

void pn_value_append(pn_value *parent, pn_value *child);
/* A dict's member; an undefined value when there is none or `v` is no dict. Never NULL. */
const pn_value *pn_get(const pn_value *v, const char *key);
bool pn_truth(const pn_value *v);
bool pn_is(const pn_value *v, const char *text);
bool pn_same(const pn_value *a, const pn_value *b); /* Python's ==; lists and dicts are never the same here */

/* How Python spells things. */
pn_str pn_py_strip(pn_str s);
void pn_py_float(pn_buf *b, double v);
void pn_py_str(pn_buf *b, const pn_value *v);                        /* str(v) */
void pn_py_json(pn_buf *b, const pn_value *v, unsigned indent);      /* json.dumps(v, ensure_ascii=False, indent=...) */
/* Digits (no point) times 10^exponent, in any locale. */
double pn_decimal(pn_buf *scratch, const char *digits, size_t n, long exponent);

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

void pn_render_muse(pn_chat *c);
void pn_render_chatml(pn_chat *c);
void pn_render_qwen(pn_chat *c, const char *fallback); /* the default system, or NULL */
void pn_render_gemma(pn_chat *c);
void pn_render_llama3(pn_chat *c);
void pn_render_llama3_1(pn_chat *c);
void pn_render_any(pn_chat *c);

#endif
