#include "vision/image_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 1 << 30 };

/* ---- what it is ------------------------------------------------------------------------------------------------------ */

typedef struct mark { const char *name; uint8_t at, n; const char *bytes; } mark;

static const mark png_mark = {"PNG", 0, 8, "\x89PNG\r\n\x1a\n"}, jpeg_mark = {"JPEG", 0, 3, "\xff\xd8\xff"};

/* Formats that are not read, so that the text can say what was given. */
static const mark others[] = {
    {"GIF", 0, 4, "GIF8"}, {"WebP", 8, 4, "WEBP"}, {"BMP", 0, 2, "BM"}, {"TIFF", 0, 4, "II*\0"}, {"TIFF", 0, 4, "MM\0*"},
    {"AVIF", 4, 8, "ftypavif"}, {"HEIC", 4, 7, "ftyphei"}, {"HEIC", 4, 7, "ftyphev"}, {"HEIF", 4, 8, "ftypmif1"},
    {"a video", 4, 4, "ftyp"}, {"JPEG XL", 0, 2, "\xff\x0a"}, {"JPEG XL", 4, 4, "JXL "}, {"JPEG 2000", 4, 4, "jP  "},
    {"JPEG 2000", 0, 4, "\xff\x4f\xff\x51"}, {"PDF", 0, 4, "%PDF"}, {"Photoshop", 0, 4, "8BPS"}, {"an icon", 0, 4, "\0\0\1\0"},
    {"QOI", 0, 4, "qoif"}, {"DDS", 0, 4, "DDS "}, {"OpenEXR", 0, 4, "v/1\x01"}, {"Radiance", 0, 2, "#?"},
    {"a video", 0, 4, "\x1a\x45\xdf\xa3"}, {"MNG", 0, 4, "\x8aMNG"}, {"SVG", 0, 4, "<svg"}, {"XML", 0, 5, "<?xml"}, {"HTML", 0, 2, "<!"},
    {"PNM", 0, 2, "P1"}, {"PNM", 0, 2, "P2"}, {"PNM", 0, 2, "P3"}, {"PNM", 0, 2, "P4"}, {"PNM", 0, 2, "P5"}, {"PNM", 0, 2, "P6"},
};

static bool has(const mark *m, const uint8_t *p, size_t n)
{
    return n >= (size_t)m->at + m->n && memcmp(p + m->at, m->bytes, m->n) == 0;
}

static ponder_status unknown(const uint8_t *p, size_t n, ponder_error *err)
{
    if (n == 0) return pn_fail(err, PONDER_E_FORMAT, "an empty picture file");
    for (size_t i = 0; i < PN_COUNT(others); i++)
        if (has(&others[i], p, n))
            return pn_fail(err, PONDER_E_UNSUPPORTED, "the picture looks like %s; PNG and JPEG are read", others[i].name);
    return pn_fail(err, PONDER_E_UNSUPPORTED, "the picture is neither PNG nor JPEG");
}

/* A beginning of a mark is a file cut short, not another format. */
static bool begins(const mark *m, const uint8_t *p, size_t n)
{
    return n > 0 && n < m->n && memcmp(p, m->bytes, n) == 0;
}

ponder_status pn_image_from_memory(pn_image **out, const void *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                   ponder_error *err)
{
    *out = NULL;
    if (!p && n) return pn_fail(err, PONDER_E_ARGUMENT, "no memory is given");
    if (begins(&png_mark, p, n) || begins(&jpeg_mark, p, n)) return pn_fail(err, PONDER_E_FORMAT, "a picture file of %zu bytes", n);
    if (has(&png_mark, p, n)) return pn_image_from_png(out, p, n, o, a, err);
    if (has(&jpeg_mark, p, n)) return pn_image_from_jpeg(out, p, n, o, a, err);
    return unknown(p, n, err);
}

/* ---- from a file: read, not mapped, because a file cut short under a mapping would kill the host ---------------------- */

static const char *why(int error)
{
    switch (error) {
    case ENOENT: case ENOTDIR: return "no such file";
    case EACCES: case EPERM: return "permission denied";
    case EMFILE: case ENFILE: return "too many open files";
    default: return "input/output error";
    }
}

/* Up to n bytes; fewer when the file has become shorter. */
static ponder_status read_all(int fd, uint8_t *p, size_t *n, ponder_error *err)
{
    size_t have = 0;
    while (have < *n) {
        const ssize_t got = read(fd, p + have, *n - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return pn_fail(err, PONDER_E_IO, "cannot read the picture: %s", why(errno));
        if (got == 0) break;
        have += (size_t)got;
    }
    *n = have;
    return PONDER_OK;
}

static ponder_status from_fd(pn_image **out, int fd, const pn_image_options *o, const ponder_alloc *a, ponder_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return pn_fail(err, PONDER_E_IO, "cannot look at the picture: %s", why(errno));
    if (!S_ISREG(st.st_mode)) return pn_fail(err, PONDER_E_IO, "the picture is not a regular file");
    if (st.st_size > MAX_FILE) return pn_fail(err, PONDER_E_RANGE, "a picture file of more than %d bytes", MAX_FILE);
    const size_t bytes = (size_t)st.st_size;
    size_t n = bytes;
    uint8_t *p = pn_alloc(a, bytes);
    if (!p) return pn_nomem(err, bytes);
    ponder_status status = read_all(fd, p, &n, err);
    if (!status) status = pn_image_from_memory(out, p, n, o, a, err);
    pn_free(a, p, bytes);
    return status;
}

ponder_status pn_image_from_path(pn_image **out, const char *path, const pn_image_options *o, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (!path) return pn_fail(err, PONDER_E_ARGUMENT, "no path is given");
    /* Without O_NONBLOCK, opening a pipe by mistake would wait for ever. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return pn_fail(err, PONDER_E_IO, "%s: %s", why(errno), path);
    ponder_status status = from_fd(out, fd, o, a, err);
    close(fd);
    return status;
}
