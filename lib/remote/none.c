/* A build without libcurl's headers. */
#include "remote/remote.h"

ponder_status pn_fleet_new(pn_fleet **out, const pn_fleet_options *o, const ponder_alloc *a, ponder_error *err)
{
    (void)out, (void)o, (void)a;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "this build has no remote models: it was made without libcurl's headers");
}

void pn_fleet_free(pn_fleet *p) { (void)p; }
pn_dialect pn_fleet_dialect(const pn_fleet *p) { return (void)p, PN_SERVER_OPENAI; }
const char *pn_fleet_model(const pn_fleet *p) { return (void)p, ""; }
uint64_t pn_fleet_context(const pn_fleet *p) { return (void)p, 0; }
uint32_t pn_fleet_servers(pn_fleet *p, uint32_t *alive) { return (void)p, *alive = 0; }
ponder_status pn_fleet_scrub(const pn_fleet *p, ponder_status st, ponder_error *err) { return (void)p, (void)err, st; }
void pn_fleet_wake(pn_fleet *p) { (void)p; }

ponder_status pn_request_new(pn_request **out, pn_fleet *p, const char *path, pn_str body, ponder_error *err)
{
    (void)out, (void)p, (void)path, (void)body;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "this build has no remote models");
}

void pn_request_free(pn_request *r) { (void)r; }

ponder_status pn_request_next(pn_request *r, uint64_t until, const _Atomic bool *cancel, pn_str *data, bool *end, ponder_error *err)
{
    (void)r, (void)until, (void)cancel, (void)data, (void)end;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "this build has no remote models");
}

bool pn_request_again(pn_request *r) { return (void)r, false; }
const char *pn_request_server(const pn_request *r) { return (void)r, ""; }

ponder_status pn_fleet_wait(pn_fleet *p, pn_request *const *r, uint32_t n, uint64_t until, const _Atomic bool *cancel)
{
    (void)p, (void)r, (void)n, (void)until, (void)cancel;
    return PONDER_E_UNSUPPORTED;
}
