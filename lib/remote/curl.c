/* libcurl is loaded at the first remote open and stays: its own libraries (TLS above all) do not survive being unloaded, and
 * curl_global_cleanup would pull them from under a host that uses libcurl too without having said so. Its memory functions are
 * left alone for the same reason. */
#include "remote/curl.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static pn_curl curl;
static _Atomic bool loaded;
static _Atomic pid_t loading; /* who loads; a process number, so that a child made meanwhile does not wait for its parent */

static bool find_calls(void *so, const char **missing)
{
#define PN_CURL_FIND(type, name, args) \
    *(void **)&curl.name = dlsym(so, "curl_" #name); \
    if (!curl.name) return *missing = "curl_" #name, false;
    PN_CURL_CALLS(PN_CURL_FIND)
#undef PN_CURL_FIND
    return true;
}

static ponder_status load(ponder_error *err)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    const char *missing = "";
    void *so = NULL;
    for (size_t i = 0; i < PN_COUNT(names) && !so; i++) so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!so) return pn_fail(err, PONDER_E_UNSUPPORTED, "remote models need libcurl, which cannot be loaded (%s)", names[0]);
    if (!find_calls(so, &missing)) return pn_fail(err, PONDER_E_UNSUPPORTED, "remote models need libcurl 7.68 or later: this one lacks %s", missing);
    CURLcode code = curl.global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK) return pn_fail(err, PONDER_E_UNSUPPORTED, "libcurl does not start: %s", curl.easy_strerror(code));
    return PONDER_OK;
}

const pn_curl *pn_curl_load(ponder_error *err)
{
    const pid_t me = getpid();
    while (!atomic_load(&loaded)) {
        pid_t who = atomic_load(&loading);
        if (who == me) {
            sched_yield();
            continue;
        }
        if (!atomic_compare_exchange_strong(&loading, &who, me)) continue;
        ponder_status st = atomic_load(&loaded) ? PONDER_OK : load(err);
        if (st == PONDER_OK) atomic_store(&loaded, true);
        atomic_store(&loading, 0);
        if (st != PONDER_OK) return NULL;
    }
    return &curl;
}
