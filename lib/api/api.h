/* Inside the api room: what every public function does first and last. */
#ifndef PN_API_H
#define PN_API_H

#include "session/session.h"

/* The caller's error, when it has one of a size we know. */
ponder_error *pn_api_error(ponder_error *error);
/* The config's own, for creations; NULL without a config. */
ponder_error *pn_api_config_error(ponder_config *c);
/* PONDER_E_FORK in a child of the process that made the handle. */
ponder_status pn_api_pid(pid_t pid, ponder_error *err);
/* Text or bytes to the caller's buffer, the header's rule for variable-length results. */
ponder_status pn_api_copy(const void *from, size_t n, size_t item, void *to, size_t cap, size_t *out_n, ponder_error *err);
ponder_status pn_api_write_file(const char *path, const pn_buf *b, ponder_error *err);
/* A size-first struct of the caller's, at least as long as `least`; our copy is written back with its own size. */
bool pn_api_struct(const void *p, size_t least);
/* The sizes that the first version of a struct had: what older callers give. */
#define PN_EVENT_FIRST offsetof(ponder_event, name)
#define PN_PLAN_FIRST offsetof(ponder_plan, tower_bytes)
void pn_api_write(void *to, const void *from, size_t size);

/* One call on a session: the right process, one thread at a time, our floating-point settings. */
typedef struct pn_call {
    ponder_session *s;
    pn_fenv fenv;
} pn_call;
ponder_status pn_call_begin(pn_call *c, ponder_session *s);
/* PONDER_E_UNSUPPORTED for a session of a remote model; `what`: that it has none of. */
ponder_status pn_call_local(ponder_session *s, const char *what);
/* Calls the host back under its own floating-point settings; 0 without a callback. */
int32_t pn_call_tell(const pn_call *call, ponder_on_event on_event, void *user, const ponder_event *event);
ponder_status pn_call_end(pn_call *c, ponder_status st);

#endif
