/* A model that is elsewhere: a core without weights, and servers in the place of an engine. */
#include "session/session.h"

#include <unistd.h>

#include "files/files.h"
#include "remote/remote.h"

enum { MOST_KEY = 4096 };

/* Addresses between blanks, each copied with a NUL into `text`. */
static ponder_status split(const char *list, pn_buf *text, ponder_error *err)
{
    while (*list) {
        const size_t blank = strspn(list, " \t\r\n"), n = strcspn(list + blank, " \t\r\n");
        if (n) pn_buf_put(text, list + blank, n), pn_buf_put(text, "", 1);
        list += blank + n;
    }
    return text->failed ? pn_nomem(err, text->n) : PONDER_OK;
}

static ponder_status list_urls(pn_fleet_options *o, const char *url, const ponder_config *c, pn_buf *text, ponder_error *err)
{
    ponder_status st = split(url, text, err);
    if (st == PONDER_OK) st = split(pn_config_str(c, PONDER_P_REMOTE_URL), text, err);
    for (size_t at = 0; at < text->n && st == PONDER_OK; at += strlen(text->p + at) + 1) {
        if (o->n_urls == PN_SERVERS) st = pn_fail(err, PONDER_E_RANGE, "more than %d servers", PN_SERVERS);
        else o->url[o->n_urls++] = text->p + at;
    }
    if (st == PONDER_OK && o->n_urls == 0) st = pn_fail(err, PONDER_E_ARGUMENT, "url: there is none");
    return st;
}

/* The first line of a file. */
static ponder_status read_key(const char *path, pn_buf *key, ponder_error *err)
{
    pn_source *f;
    ponder_status st = pn_source_path(&f, path, key->a, err);
    if (st != PONDER_OK) return st;
    const size_t n = (size_t)PN_MIN(pn_source_size(f), (uint64_t)MOST_KEY);
    const char *p = (const char *)pn_source_view(f, 0, n);
    size_t line = 0;
    while (p && line < n && p[line] != '\n' && p[line] != '\r') line++;
    if (line == 0) st = pn_fail(err, PONDER_E_FORMAT, "remote_key_file: %s has no first line", path);
    else if (!pn_buf_put(key, p, line) || !pn_buf_put(key, "", 1)) st = pn_nomem(err, line);
    pn_source_free(f);
    return st;
}

/* What would change the answers of a model here. What only makes one faster or smaller means nothing for servers. */
static ponder_status refuse_local(const ponder_config *c, ponder_error *err)
{
    static const ponder_param local[] = {PONDER_P_QUANTIZE, PONDER_P_KV_TYPE, PONDER_P_TOKENIZER, PONDER_P_PROJECTOR, PONDER_P_IMAGE_TOKENS};
    const char *what = pn_config_first_set(c, local, PN_COUNT(local));
    return what ? pn_fail(err, PONDER_E_UNSUPPORTED, "%s: the servers of a remote model have theirs", what) : PONDER_OK;
}

static ponder_status fill(pn_fleet_options *o, const char *url, const ponder_config *c, pn_buf *urls, pn_buf *key, ponder_error *err)
{
    const char *file = pn_config_str(c, PONDER_P_REMOTE_KEY_FILE);
    *o = (pn_fleet_options){
        .key = pn_config_str(c, PONDER_P_REMOTE_KEY), .model = pn_config_str(c, PONDER_P_REMOTE_MODEL), .ca = pn_config_str(c, PONDER_P_REMOTE_CA),
        .proxy = pn_config_str(c, PONDER_P_REMOTE_PROXY), .dialect = pn_config_str(c, PONDER_P_REMOTE_SERVER),
        .retries = (uint32_t)pn_config_i64(c, PONDER_P_REMOTE_RETRIES), .flights = (uint32_t)pn_config_i64(c, PONDER_P_REMOTE_FLIGHTS),
        .timeout_us = (uint64_t)pn_config_i64(c, PONDER_P_REMOTE_TIMEOUT_MS) * 1000,
        .log = c ? c->log : NULL, .log_user = c ? c->log_user : NULL,
    };
    ponder_status st = refuse_local(c, err);
    if (st == PONDER_OK) st = list_urls(o, url, c, urls, err);
    if (st != PONDER_OK || !*file) return st;
    if (*o->key) return pn_fail(err, PONDER_E_ARGUMENT, "remote_key and remote_key_file: one of them");
    st = read_key(file, key, err);
    o->key = key->p;
    return st;
}

static void name(pn_core *core, const char *model)
{
    size_t n = strlen(model);
    for (n = PN_MIN(n, sizeof core->name - 1); n && ((unsigned char)model[n] & 0xc0) == 0x80; n--) { }
    memcpy(core->name, model, n);
}

ponder_status pn_model_open_remote(ponder_model **out, const char *url, const ponder_config *c, ponder_error *err)
{
    pn_fleet_options o;
    pn_buf urls, key;
    ponder_model *m = NULL;
    ponder_status st = pn_model_bare(&m, c, err);
    if (st != PONDER_OK) return st;
    pn_buf_init(&urls, &m->meter.alloc);
    pn_buf_init(&key, &m->meter.alloc);
    st = fill(&o, url, c, &urls, &key, err);
    if (st == PONDER_OK) st = pn_fleet_new(&m->fleet, &o, &m->meter.alloc, err);
    pn_buf_free(&urls);
    if (key.p) explicit_bzero(key.p, key.n);
    pn_buf_free(&key);
    if (st != PONDER_OK) {
        pn_name_cap(st, m->meter.cap, err);
        pn_model_release(m);
        return st;
    }
    m->core->template = pn_template_by_name(pn_config_str(c, PONDER_P_TEMPLATE));
    name(m->core, pn_fleet_model(m->fleet));
    *out = m;
    return PONDER_OK;
}
