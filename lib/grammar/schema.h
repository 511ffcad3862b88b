/* Inside the grammar room: a JSON Schema on its way to an automaton.
 *
 * What a value must fulfil is a list of schemas, all of them (a *set*). allOf and $ref add to the list; anyOf and oneOf make
 * several lists of it (alternatives). An object's members and an array's items are lists again. Lists are kept once, so a
 * recursive schema comes back to a list that has its rule already: rules are compiled from a queue, nothing recurses. */
#ifndef PN_GRAMMAR_SCHEMA_H
#define PN_GRAMMAR_SCHEMA_H

#include "base/json.h"
#include "grammar/nfa.h"

enum { TYPE_NULL = 1, TYPE_BOOL = 2, TYPE_INT = 4, TYPE_REAL = 8, TYPE_STRING = 16, TYPE_ARRAY = 32, TYPE_OBJECT = 64, TYPE_ANY = 127 };
enum { MODE_COMPACT = PN_GRAMMAR_COMPACT, MODE_CLOSED = PN_GRAMMAR_CLOSED, MODE_MUSE = 1 << 8 };
enum { SET_MOST = 64, ALTERNATIVES_MOST = 512, CHAIN_MOST = 128, BLANKS_MOST = 64 };

/* A list of schemas: pool[at] .. pool[at + n - 1]. */
typedef struct pn_set { uint32_t at, n; } pn_set;

typedef enum pn_body { BODY_OBJECT = 1, BODY_ARRAY, BODY_CONST, BODY_TOOLS } pn_body;

typedef struct pn_job {
    pn_body body;
    uint32_t mode, hash;
    pn_set set;              /* BODY_CONST: one value */
    const pn_piece *tools;    /* BODY_TOOLS */
    uint32_t next;           /* in its hash chain, + 1 */
} pn_job;

typedef struct pn_compiler {
    pn_build build;
    const pn_value **pool;
    size_t n_pool, cap_pool;
    pn_job *jobs;            /* jobs[i] becomes rule i + 1 */
    size_t n_jobs, cap_jobs;
    uint32_t *slots;         /* job + 1 by hash; n_slots is a power of two */
    size_t n_slots;
    const pn_value **checked; /* schemas whose keywords have been looked at: open addressing */
    size_t n_checked, cap_checked;
    uint32_t mode;           /* of what is being compiled */
    bool comparing;          /* inside pn_oneof_apart */
    pn_json *docs;           /* every schema text */
    size_t n_docs, cap_docs;
} pn_compiler;

/* ---- errors (pointer.c): "#/properties/a: keyword: text" */
void pn_schema_fail(pn_compiler *c, ponder_status status, const pn_value *at, const char *keyword, const char *text);
/* Where "$ref" leads, or NULL after a failure. */
const pn_value *pn_schema_ref(pn_compiler *c, const pn_value *schema, const pn_value *ref);

/* ---- sets and alternatives (expand.c) */
pn_set pn_set_begin(pn_compiler *c);
bool pn_set_add(pn_compiler *c, pn_set *s, const pn_value *schema); /* once each; s must be the newest set */

typedef struct pn_alternatives {
    pn_set *sets;
    size_t n, cap;
} pn_alternatives;
/* Every way to fulfil the set without allOf, anyOf, oneOf and $ref. An empty list of ways: nothing does. */
bool pn_expand(pn_compiler *c, pn_set s, pn_alternatives *out);
void pn_alternatives_free(pn_compiler *c, pn_alternatives *x);
bool pn_oneof_apart(pn_compiler *c, const pn_value *x, const pn_value *y, uint32_t types); /* apart.c */
bool pn_keywords_ok(pn_compiler *c, const pn_value *schema); /* keywords.c: reads every keyword's name and type */

/* ---- facts about an alternative (facts.c) */
typedef struct pn_facts {
    uint32_t types;
    const pn_value *fixed;   /* the list of an enum, or with is_const the value that has to be; NULL: neither */
    bool is_const;
    pn_number_spec number;
    uint32_t least, most;    /* characters; UINT32_MAX: no limit */
    const pn_value *pattern, *format, *holder; /* at most one of pattern and format; holder: their schema */
    const pn_value *shape;   /* a schema that says more about arrays or objects than their type */
} pn_facts;
bool pn_facts_of(pn_compiler *c, pn_set s, pn_facts *out);
uint32_t pn_types_of(const pn_value *schema); /* what "type" says; TYPE_ANY without */
uint32_t pn_type_of_value(const pn_value *v); /* the bit of a JSON value; 1.0 is an integer */
/* Whether a value fulfils the facts and every enum and const of the set. Fails (c->build.status) for what cannot be told. */
bool pn_fixed_holds(pn_compiler *c, const pn_facts *f, pn_set s, const pn_value *v);
bool pn_count_of(pn_compiler *c, const pn_value *schema, const char *keyword, uint32_t *out); /* untouched when not there */
size_t pn_code_points(pn_str s);
const char *pn_format_pattern(const pn_value *format); /* formats.c; NULL: not supported */
bool pn_is_member(const pn_value *v, const pn_value *list);
bool pn_value_same(const pn_value *a, const pn_value *b); /* as JSON: 1 is 1.0 */

/* ---- building */
pn_nid pn_schema_value(pn_compiler *c, pn_set s, pn_nid next);      /* value.c */
pn_nid pn_schema_way(pn_compiler *c, pn_set s, const pn_facts *f, uint32_t types, pn_nid next); /* one alternative, these types of it */
pn_nid pn_schema_given(pn_compiler *c, pn_set s, const pn_facts *f, bool bare, pn_nid next);    /* its enum or const */
pn_nid pn_schema_string(pn_compiler *c, const pn_facts *f, bool bare, pn_nid next);             /* bare: text of a Muse parameter */
pn_nid pn_schema_blank(pn_compiler *c, pn_nid next);                /* where white space may stand */
pn_nid pn_schema_colon(pn_compiler *c, pn_nid next);
pn_nid pn_schema_key(pn_compiler *c, pn_str name, pn_nid next);     /* "name": */
uint32_t pn_schema_rule(pn_compiler *c, pn_body body, pn_set s, const pn_piece *tools, uint8_t opener); /* compile.c */
pn_nid pn_schema_const(pn_compiler *c, const pn_value *v, pn_nid next);

typedef struct pn_member {
    pn_str name;
    const pn_value *own; /* the first property of that name */
    pn_set set;
    bool required, never;
} pn_member;
typedef struct pn_object {
    pn_member *members; /* in the order they are written */
    size_t n, cap;
    uint32_t *slots; /* member + 1 by the name's hash */
    size_t n_slots;
    bool open;       /* further members are taken, and fulfil: */
    pn_set further;
} pn_object;
bool pn_object_of(pn_compiler *c, pn_set s, bool closed, pn_object *out); /* object.c */
void pn_object_free(pn_compiler *c, pn_object *o);
const pn_member *pn_object_find(const pn_object *o, pn_str name);
pn_nid pn_object_body(pn_compiler *c, const pn_job *job, uint32_t rule);
pn_nid pn_array_body(pn_compiler *c, const pn_job *job, uint32_t rule);  /* array.c */
pn_nid pn_const_body(pn_compiler *c, const pn_job *job, uint32_t rule);
pn_nid pn_tools_body(pn_compiler *c, const pn_job *job, uint32_t rule);  /* call.c */
pn_nid pn_call_muse(pn_compiler *c, const pn_piece *p, pn_nid next);
const pn_value *pn_schema_text(pn_compiler *c, pn_str text); /* compile.c: reads a schema; NULL after a failure */

#endif
