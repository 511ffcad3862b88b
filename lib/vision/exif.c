#include "vision/image_internal.h"

/* Only the orientation is looked for: tag 0x0112 of the first directory. Every offset is checked against the block. */
typedef struct block {
    const uint8_t *p;
    size_t n;
    bool big;       /* byte order */
} block;

static uint32_t get16(const block *b, size_t at)
{
    return b->big ? (uint32_t)b->p[at] << 8 | b->p[at + 1] : (uint32_t)b->p[at + 1] << 8 | b->p[at];
}

static uint32_t get32(const block *b, size_t at)
{
    return b->big ? get16(b, at) << 16 | get16(b, at + 2) : get16(b, at + 2) << 16 | get16(b, at);
}

static uint32_t read_tiff(const uint8_t *p, size_t n)
{
    enum { ORIENTATION = 0x0112, SHORT = 3, LONG = 4 };
    if (n < 8 || (memcmp(p, "II*\0", 4) != 0 && memcmp(p, "MM\0*", 4) != 0)) return 1;
    const block b = {p, n, p[0] == 'M'};
    const size_t at = get32(&b, 4);
    if (at > n - 2) return 1;
    const size_t room = (n - at - 2) / 12, entries = PN_MIN((size_t)get16(&b, at), room);
    for (size_t i = 0; i < entries; i++) {
        const size_t e = at + 2 + 12 * i;
        if (get16(&b, e) != ORIENTATION || get32(&b, e + 4) != 1) continue;
        const uint32_t type = get16(&b, e + 2), v = type == SHORT ? get16(&b, e + 8) : type == LONG ? get32(&b, e + 8) : 1;
        return v >= 1 && v <= 8 ? v : 1;
    }
    return 1;
}

static uint32_t be32(const uint8_t *p)
{
    const block b = {p, 4, true};
    return get32(&b, 0);
}

/* Segments up to the first scan; fill bytes and marks without a length are passed over. */
uint32_t pn_orientation_of_jpeg(const uint8_t *p, size_t n)
{
    size_t at = 2;
    while (at + 4 <= n && p[at] == 0xff) {
        const uint8_t mark = p[at + 1];
        if (mark == 0xff) {
            at++;
            continue;
        }
        if (mark == 0xda || mark == 0xd9) return 1;
        if (mark == 0x01 || (mark >= 0xd0 && mark <= 0xd8)) {
            at += 2;
            continue;
        }
        const size_t length = (size_t)p[at + 2] << 8 | p[at + 3];
        if (length < 2 || length > n - at - 2) return 1;
        if (mark == 0xe1 && length >= 8 && memcmp(p + at + 4, "Exif\0\0", 6) == 0) return read_tiff(p + at + 10, length - 8);
        at += 2 + length;
    }
    return 1;
}

uint32_t pn_orientation_of_png(const uint8_t *p, size_t n)
{
    size_t at = 8;
    while (n - at >= 12) {
        const size_t length = be32(p + at);
        const uint8_t *data = p + at + 8;
        if (length > n - at - 12) return 1;
        if (memcmp(p + at + 4, "eXIf", 4) == 0) {
            const size_t skip = length >= 6 && memcmp(data, "Exif\0\0", 6) == 0 ? 6 : 0; /* some writers copy JPEG's mark too */
            return read_tiff(data + skip, length - skip);
        }
        at += 12 + length;
    }
    return 1;
}
