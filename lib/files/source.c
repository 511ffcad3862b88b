#include "files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A mapped file, a block of memory, a descriptor that cannot be mapped, or a callback. Reading changes nothing in the
 * struct, so any number of threads may read. */
struct pn_source {
    const ponder_alloc *a;
    const uint8_t *view;    /* NULL: read by copy */
    uint64_t size;
    void *map;              /* what munmap takes: page-aligned, up to a page before `view` */
    size_t map_bytes;
    int fd;                 /* also of a mapped file, for copies; -1: none */
    uint64_t fd_offset;
    ponder_source callback; /* read is NULL: not one */
};

/* strerror depends on the locale and may not be safe with threads. */
static const char *why(int error)
{
    switch (error) {
    case ENOENT: case ENOTDIR: return "no such file";
    case EACCES: case EPERM: return "permission denied";
    case EMFILE: case ENFILE: return "too many open files";
    case EBADF: return "no open descriptor";
    case ENOMEM: return "no memory";
    default: return "input/output error";
    }
}

static ponder_status new_source(pn_source **out, const ponder_alloc *a, ponder_error *err)
{
    *out = pn_zalloc(a, sizeof **out);
    if (!*out) return pn_nomem(err, sizeof **out);
    (*out)->a = a;
    (*out)->fd = -1;
    return PONDER_OK;
}

/* Takes `fd` over when it has to be kept; the caller closes it when s->fd stays -1. */
static void map_or_keep(pn_source *s, int fd, uint64_t offset, bool map)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t skip = offset % page;
    if (s->size == 0) {
        s->view = (const uint8_t *)"";
        return;
    }
    if (map && s->size <= SIZE_MAX - skip) {
        void *p = mmap(NULL, (size_t)(s->size + skip), PROT_READ, MAP_SHARED, fd, (off_t)(offset - skip));
        if (p != MAP_FAILED) {
            s->map = p;
            s->map_bytes = (size_t)(s->size + skip);
            s->view = (const uint8_t *)p + skip;
        }
    }
    s->fd = fd;
    s->fd_offset = offset;
}

static ponder_status from_fd(pn_source **out, int fd, uint64_t offset, uint64_t length, bool map, const ponder_alloc *a,
                             ponder_error *err)
{
    struct stat st;
    *out = NULL;
    if (fstat(fd, &st) != 0) return pn_fail(err, PONDER_E_IO, "cannot look at the file: %s", why(errno));
    if (!S_ISREG(st.st_mode)) return pn_fail(err, PONDER_E_IO, "not a regular file");
    const uint64_t size = (uint64_t)st.st_size;
    if (offset > size || length > size - offset)
        return pn_fail(err, PONDER_E_RANGE, "bytes %llu+%llu of a file of %llu", (unsigned long long)offset,
                       (unsigned long long)length, (unsigned long long)size);
    ponder_status status = new_source(out, a, err);
    if (status) return status;
    (*out)->size = length ? length : size - offset;
    map_or_keep(*out, fd, offset, map);
    return PONDER_OK;
}

static ponder_status from_path(pn_source **out, const char *path, bool map, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    /* Without O_NONBLOCK, opening a pipe by mistake would wait for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return pn_fail(err, PONDER_E_IO, "%s: %s", why(errno), path);
    ponder_status status = from_fd(out, fd, 0, 0, map, a, err);
    if (status || (*out)->fd != fd) close(fd);
    return status;
}

ponder_status pn_source_path(pn_source **out, const char *path, const ponder_alloc *a, ponder_error *err)
{
    return from_path(out, path, true, a, err);
}

ponder_status pn_source_path_unmapped(pn_source **out, const char *path, const ponder_alloc *a, ponder_error *err)
{
    return from_path(out, path, false, a, err);
}

ponder_status pn_source_fd(pn_source **out, int fd, uint64_t offset, uint64_t length, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return pn_fail(err, PONDER_E_IO, "cannot duplicate descriptor %d: %s", fd, why(errno));
    ponder_status status = from_fd(out, own, offset, length, true, a, err);
    if (status || (*out)->fd != own) close(own);
    return status;
}

ponder_status pn_source_memory(pn_source **out, const void *p, size_t n, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!p && n) return pn_fail(err, PONDER_E_ARGUMENT, "no memory is given");
    ponder_status status = new_source(out, a, err);
    if (status) return status;
    (*out)->view = p ? p : (const uint8_t *)"";
    (*out)->size = n;
    return PONDER_OK;
}

ponder_status pn_source_callback(pn_source **out, const ponder_source *s, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!s || s->size < sizeof *s || !s->read) return pn_fail(err, PONDER_E_ARGUMENT, "a source needs its size and read()");
    ponder_status status = new_source(out, a, err);
    if (status) return status;
    (*out)->callback = *s;
    (*out)->size = s->length;
    return PONDER_OK;
}

void pn_source_free(pn_source *s)
{
    if (!s) return;
    if (s->map) munmap(s->map, s->map_bytes);
    if (s->fd >= 0) close(s->fd);
    pn_free(s->a, s, sizeof *s);
}

uint64_t pn_source_size(const pn_source *s)
{
    return s->size;
}

const uint8_t *pn_source_view(const pn_source *s, uint64_t offset, uint64_t n)
{
    if (!s->view || offset > s->size || n > s->size - offset) return NULL;
    return s->view + offset;
}

static bool read_fd(const pn_source *s, uint64_t offset, uint8_t *to, size_t n)
{
    while (n) {
        ssize_t got = pread(s->fd, to, n, (off_t)(s->fd_offset + offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

static ponder_status read_from(pn_source *s, bool copy, uint64_t offset, void *to, size_t n, ponder_error *err)
{
    if (offset > s->size || n > s->size - offset)
        return pn_fail(err, PONDER_E_FORMAT, "%zu bytes at %llu lie outside the file", n, (unsigned long long)offset);
    if (n == 0) return PONDER_OK;
    bool good = true;
    if (s->view && !copy) memcpy(to, s->view + offset, n);
    else if (s->fd >= 0) good = read_fd(s, offset, to, n);
    else if (s->view) memcpy(to, s->view + offset, n);
    else good = s->callback.read(s->callback.user, offset, to, n) == 0;
    if (!good) return pn_fail(err, PONDER_E_IO, "cannot read %zu bytes at %llu", n, (unsigned long long)offset);
    return PONDER_OK;
}

ponder_status pn_source_read(pn_source *s, uint64_t offset, void *to, size_t n, ponder_error *err)
{
    return read_from(s, false, offset, to, n, err);
}

ponder_status pn_source_copy(pn_source *s, uint64_t offset, void *to, size_t n, ponder_error *err)
{
    return read_from(s, true, offset, to, n, err);
}

void pn_source_soon(pn_source *s, uint64_t offset, uint64_t n)
{
    if (s->fd < 0 || offset > s->size || n > s->size - offset) return;
    posix_fadvise(s->fd, (off_t)(s->fd_offset + offset), (off_t)n, POSIX_FADV_WILLNEED);
}

void pn_source_drop(pn_source *s, uint64_t offset, uint64_t n)
{
    if (!s->map || offset > s->size || n > s->size - offset) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)s->view + (uintptr_t)offset + page - 1) & ~(page - 1);
    uintptr_t last = ((uintptr_t)s->view + (uintptr_t)(offset + n)) & ~(page - 1);
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);
}
