/* JSON, read into values that keep what the text says: integers keep their digits, since they have no largest value there
 * (Python's templates add and print them), and a string may hold NUL. Part of base. */
#ifndef PN_JSON_H
#define PN_JSON_H

#include "base/base.h"

typedef enum pn_value_type {
    PN_V_UNDEFINED = 0, PN_V_NONE, PN_V_BOOL, PN_V_INT, PN_V_FLOAT, PN_V_STRING, PN_V_LIST, PN_V_DICT
} pn_value_type;

typedef struct pn_value pn_value;
struct pn_value {
    pn_value_type type;
    bool flag;    /* a bool's value; its owner's mark on another (chat: of a tool, the first of its namespace) */
    double real;
    pn_str text;  /* a string's bytes, an integer's digits */
    pn_str key;   /* as a member of a dict */
    pn_value *parent, *first, *last, *next;
    size_t count; /* of members */
};

/* A parsed text. Nothing is recursive: members link to their parent. */
typedef struct pn_json {
    const ponder_alloc *a;
    char *text; /* a copy, in which strings are decoded in place */
    size_t bytes;
    pn_value *values;
    size_t n, cap;
    pn_value **slots; /* open addressing over (dict, key): a repeated key overwrites, in its first place, as in Python */
    size_t n_slots;
} pn_json;

/* The text need not stay. After a failure there is nothing to free, though freeing is no fault. */
ponder_status pn_json_read(pn_json *doc, const char *p, size_t n, const ponder_alloc *a, ponder_error *err);
void pn_json_free(pn_json *doc);
static inline const pn_value *pn_json_root(const pn_json *doc) { return doc->values; }

void pn_value_append(pn_value *parent, pn_value *child);
/* A dict's member; an undefined value when there is none or `v` is no dict. Never NULL. */
const pn_value *pn_get(const pn_value *v, const char *key);
bool pn_is(const pn_value *v, const char *text); /* a string, and this one */
bool pn_truth(const pn_value *v);                /* as in Python */
/* The value as what it is asked for; false (and *out untouched) when it is of another type or out of range. */
bool pn_value_i64(const pn_value *v, int64_t lo, int64_t hi, int64_t *out); /* an integer, not 3.0 */
bool pn_value_f64(const pn_value *v, double *out);                          /* an integer too; finite; no locale */
bool pn_value_bool(const pn_value *v, bool *out);
bool pn_value_str(const pn_value *v, pn_str *out);

#endif
