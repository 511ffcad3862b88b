/* chat: tool definitions, read once. */
#ifndef PN_CHAT_TOOLS_H
#define PN_CHAT_TOOLS_H

#include "base/base.h"

typedef struct pn_tools pn_tools; /* immutable: any number of threads may use one */

/* A list of {"type": "function", "function": {"name", "description", "parameters"}} or of the bare functions. Refused, with
 * the tool's name in the text: a name that is missing, twice there, or holds what no name may; parameters that are no schema
 * of an object; too many, too long, too deep. */
ponder_status pn_tools_read(pn_tools **out, const char *json, size_t n, const ponder_alloc *a, ponder_error *err);
pn_tools *pn_tools_hold(const pn_tools *t);  /* t, counted once more; NULL stays NULL */
void pn_tools_free(const pn_tools *t);       /* uncounts it; NULL is a no-op */

size_t pn_tools_count(const pn_tools *t);
pn_str pn_tools_name(const pn_tools *t, size_t i);
pn_str pn_tools_parameters(const pn_tools *t, size_t i); /* the JSON text of its parameters' schema, "" when it has none */
int32_t pn_tools_find(const pn_tools *t, pn_str name);   /* -1: none */

/* What a parameter may be, by its schema. Bits; 0: not known (no such parameter, no schema, a type that says nothing). */
enum {
    PN_TYPE_STRING = 1, PN_TYPE_INTEGER = 2, PN_TYPE_NUMBER = 4, PN_TYPE_BOOLEAN = 8, PN_TYPE_NULL = 16, PN_TYPE_ARRAY = 32,
    PN_TYPE_OBJECT = 64
};
uint32_t pn_tools_types(const pn_tools *t, size_t i, pn_str parameter);

#endif
