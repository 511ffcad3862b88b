/* JSON, read into values that keep what the text says: integers keep their digits, since they have no largest value there
 * (Python's templates add and print them), and a string may hold NUL. Part of base. */
#ifndef PN_JSON_H
#define PN_JSON_H

#include "base/base.h"

typedef enum pn_value_type {
    PN_V_UNDEFINED = 0, PN_V_NONE, PN_V_BOOL, PN_V_INT, PN_V_FLOAT, PN_V_STRING, PN_V_LIST, PN_V_DICT
} pn_value_type;

/* ---- a document as values ---------------------------------------------------------------------------------------- */

typedef struct pn_value pn_value;
struct pn_value {
    pn_value_type type : 8;
    bool flag;         /* a bool's value; its owner's mark on another (chat: of a tool, the first of its namespace) */
    uint32_t count;    /* of members */
    pn_str text;       /* a string's bytes, an integer's digits; of a list or dict that stayed text, all of it */
    pn_str key;        /* as a member of a dict */
    pn_value *first;   /* members, each linked to the next and to its parent */
    union {
        pn_value *last; /* of a list or dict */
        double real;    /* of a float */
    };
    pn_value *parent, *next;
};

typedef struct pn_json {
    const ponder_alloc *a;
    pn_value *values;  /* one piece of memory: values, then the bytes of their texts */
    size_t bytes;
} pn_json;

typedef struct pn_json_options {
    const char *what;       /* names the document in errors; NULL: "JSON" */
    uint32_t depth;         /* levels allowed, at most PN_JSON_DEPTH; 0: that many */
    bool unique;            /* a repeated key is an error; else it overwrites, in its first place, as in Python */
    const char *const *raw; /* names, ended by NULL, of members that stay text when they are lists or dicts (see pn_json_scan):
                             * their count is known, `text` lies in the text that was read */
} pn_json_options;

enum { PN_JSON_DEPTH = 512 }; /* where Python gives up too */

/* The text need not stay, but for raw members. Nothing is allocated for a text that is wrong; after a failure there is
 * nothing to free, though freeing is no fault. */
ponder_status pn_json_read(pn_json *doc, const char *p, size_t n, const ponder_alloc *a, ponder_error *err);
ponder_status pn_json_read_as(pn_json *doc, const char *p, size_t n, const pn_json_options *o, const ponder_alloc *a,
                              ponder_error *err);
void pn_json_free(pn_json *doc);
const pn_value *pn_json_root(const pn_json *doc); /* an undefined value when nothing was read */

void pn_value_append(pn_value *parent, pn_value *child);
/* A dict's member; an undefined value when there is none or `v` is no dict. Never NULL. */
const pn_value *pn_get(const pn_value *v, const char *key);
const pn_value *pn_named(const pn_value *v, pn_str key);
const pn_value *pn_at(const pn_value *v, size_t i); /* a list's; likewise */
bool pn_is(const pn_value *v, const char *text);    /* a string, and this one */
bool pn_truth(const pn_value *v);                   /* as in Python */
/* The value as what it is asked for; false (and *out untouched) when it is of another type or out of range. */
bool pn_value_i64(const pn_value *v, int64_t lo, int64_t hi, int64_t *out); /* an integer, not 3.0 */
bool pn_value_f64(const pn_value *v, double *out);                          /* an integer too; finite; no locale */
bool pn_value_bool(const pn_value *v, bool *out);
bool pn_value_str(const pn_value *v, pn_str *out);
/* An integer's digits, with a sign or without; false when they pass lo..hi. */
bool pn_digits_i64(pn_str digits, int64_t lo, int64_t hi, int64_t *out);

/* ---- a document piece by piece --------------------------------------------------------------------------------------
 * No memory and no recursion: for lists and dicts too long to become values. Everything is checked on the way. */
typedef enum pn_json_event {
    PN_J_END,   /* the document was whole */
    PN_J_WRONG, /* it is not: see `problem` and `at` */
    PN_J_KEY,   /* its value follows */
    PN_J_VALUE, /* anything but a list or dict */
    PN_J_OPEN, PN_J_CLOSE /* a list or dict begins, ends */
} pn_json_event;

typedef struct pn_json_scan {
    const char *p;
    size_t n, at;
    pn_value_type type;    /* of the value, or of the list or dict that opened */
    pn_str text;           /* a key or string as it is written, without its quotes; a number */
    size_t decoded;        /* bytes of that key or string once its escapes are decoded; never more than written */
    uint32_t depth, limit; /* how many lists and dicts are open; may be */
    uint32_t state;
    bool flag;             /* a bool's value */
    const char *problem;
    uint64_t dicts[PN_JSON_DEPTH / 64]; /* a bit for each level */
} pn_json_scan;

void pn_json_scan_init(pn_json_scan *s, const char *p, size_t n, uint32_t limit); /* 0: PN_JSON_DEPTH */
pn_json_event pn_json_next(pn_json_scan *s);
/* Passes over the rest of what just opened, its end included, and counts its members. */
bool pn_json_skip(pn_json_scan *s, uint32_t *count);
/* The key's or string's bytes, s->decoded of them. */
void pn_json_decode(const pn_json_scan *s, char *to);
/* The same, where they lie if nothing is escaped, else in scratch; false: no memory. */
bool pn_json_string(const pn_json_scan *s, pn_buf *scratch, pn_str *out);
/* PONDER_E_FORMAT with the document's name, line, column and problem. */
ponder_status pn_json_wrong(const pn_json_scan *s, const char *what, ponder_error *err);

#endif
