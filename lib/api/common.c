#include "api/api.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

uint32_t ponder_version(void)
{
    return PONDER_VERSION_MAJOR * 1000000u + PONDER_VERSION_MINOR * 1000u + PONDER_VERSION_PATCH;
}

uint32_t ponder_abi(void) { return PONDER_ABI; }

ponder_error *pn_api_error(ponder_error *error)
{
    if (!error || error->size < sizeof *error) return NULL;
    pn_error_clear(error);
    return error;
}

ponder_error *pn_api_config_error(ponder_config *c)
{
    if (!c) return NULL;
    pn_error_clear(&c->err);
    return &c->err;
}

ponder_status pn_api_pid(pid_t pid, ponder_error *err)
{
    if (pid == getpid()) return PONDER_OK;
    return pn_fail(err, PONDER_E_FORK, "the handle was made before fork(); open the model again in the child");
}

ponder_status pn_api_copy(const void *from, size_t n, size_t item, void *to, size_t cap, size_t *out_n, ponder_error *err)
{
    if (!out_n || (!to && cap)) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where the result goes");
    *out_n = n;
    if (!to) return PONDER_OK;
    if (n > cap) return pn_fail(err, PONDER_E_SPACE, "the buffer holds %zu, the result has %zu", cap, n);
    if (n) memcpy(to, from, n * item);
    return PONDER_OK;
}

bool pn_api_struct(const void *p, size_t least)
{
    size_t size;
    if (!p) return false;
    memcpy(&size, p, sizeof size);
    return size >= least;
}

void pn_api_write(void *to, const void *from, size_t size)
{
    size_t theirs;
    memcpy(&theirs, to, sizeof theirs);
    memcpy(to, from, PN_MIN(size, theirs));
    memcpy(to, &theirs, sizeof theirs);
}

ponder_status pn_call_begin(pn_call *c, ponder_session *s)
{
    c->s = NULL;
    if (!s) return PONDER_E_ARGUMENT;
    if (s->pid != getpid()) return PONDER_E_FORK;
    if (atomic_exchange(&s->busy, true)) return PONDER_E_BUSY;
    c->s = s;
    pn_error_clear(&s->err);
    pn_fenv_enter(&c->fenv);
    return PONDER_OK;
}

ponder_status pn_call_local(ponder_session *s, const char *what)
{
    if (!s->distant) return PONDER_OK;
    return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "a session of a remote model has no such thing as %s", what);
}

ponder_status pn_call_end(pn_call *c, ponder_status st)
{
    pn_fenv_leave(&c->fenv);
    atomic_store(&c->s->busy, false);
    return st;
}

int32_t pn_call_tell(const pn_call *call, ponder_on_event on_event, void *user, const ponder_event *event)
{
    if (!on_event) return 0;
    pn_fenv ours;
    pn_fenv_leave(&call->fenv); /* the host's code runs under the host's settings */
    int32_t stop = on_event(user, event);
    pn_fenv_enter(&ours);
    return stop;
}

/* A device or a pipe is written to; a file must never take its place. */
static bool is_stream(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

/* Beside the file first, so that a failure leaves an older file whole. */
ponder_status pn_api_write_file(const char *path, const pn_buf *b, ponder_error *err)
{
    const bool beside = !is_stream(path);
    pn_buf name;
    pn_buf_init(&name, b->a);
    pn_buf_puts(&name, path);
    pn_buf_put(&name, beside ? ".part" : "", beside ? sizeof ".part" : 1);
    ponder_status st = PONDER_OK;
    FILE *f = name.failed ? NULL : fopen(name.p, "wb");
    if (!f) {
        st = name.failed ? pn_nomem(err, name.n) : pn_fail(err, PONDER_E_IO, "%s: cannot be written", path);
    } else {
        bool ok = fwrite(b->p, 1, b->n, f) == b->n;
        ok = fclose(f) == 0 && ok;
        ok = ok && (!beside || rename(name.p, path) == 0);
        if (!ok) {
            if (beside) remove(name.p);
            st = pn_fail(err, PONDER_E_IO, "%s: could not be written whole", path);
        }
    }
    pn_buf_free(&name);
    return st;
}
