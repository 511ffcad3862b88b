/* Inside the remote room: libcurl, loaded when it is first needed. */
#ifndef PN_CURL_H
#define PN_CURL_H

#include <curl/curl.h>

#include "base/base.h"

#define PN_CURL_CALLS(X) \
    X(CURLcode, global_init, (long flags)) \
    X(curl_version_info_data *, version_info, (CURLversion age)) \
    X(CURL *, easy_init, (void)) \
    X(CURLcode, easy_setopt, (CURL *easy, CURLoption option, ...)) \
    X(CURLcode, easy_getinfo, (CURL *easy, CURLINFO info, ...)) \
    X(void, easy_cleanup, (CURL *easy)) \
    X(CURLcode, easy_pause, (CURL *easy, int bits)) \
    X(const char *, easy_strerror, (CURLcode code)) \
    X(CURLM *, multi_init, (void)) \
    X(CURLMcode, multi_cleanup, (CURLM *multi)) \
    X(CURLMcode, multi_setopt, (CURLM *multi, CURLMoption option, ...)) \
    X(CURLMcode, multi_add_handle, (CURLM *multi, CURL *easy)) \
    X(CURLMcode, multi_remove_handle, (CURLM *multi, CURL *easy)) \
    X(CURLMcode, multi_perform, (CURLM *multi, int *running)) \
    X(CURLMcode, multi_poll, (CURLM *multi, struct curl_waitfd *more, unsigned n, int ms, int *ready)) \
    X(CURLMcode, multi_wakeup, (CURLM *multi)) \
    X(CURLMsg *, multi_info_read, (CURLM *multi, int *left)) \
    X(struct curl_slist *, slist_append, (struct curl_slist *list, const char *text)) \
    X(void, slist_free_all, (struct curl_slist *list))

typedef struct pn_curl {
#define PN_CURL_MEMBER(type, name, args) type (*name) args;
    PN_CURL_CALLS(PN_CURL_MEMBER)
#undef PN_CURL_MEMBER
} pn_curl;

/* The one of this process; NULL with the reason in err. Any thread. */
const pn_curl *pn_curl_load(ponder_error *err);

#endif
