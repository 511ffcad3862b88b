/* WAV files: chunks until the data, then frames to floats. */
#include "audio/wav.h"

typedef struct reader {
    pn_source *s;
    uint64_t at, size;
    ponder_error *err;
} reader;

static uint32_t le16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t le32(const uint8_t *p) { return le16(p) | le16(p + 2) << 16; }
static uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t)le32(p + 4) << 32; }
static bool is_id(const uint8_t *p, const char *id) { return memcmp(p, id, 4) == 0; }

/* ---- the format chunk ------------------------------------------------------------------ */

enum { TAG_PCM = 1, TAG_FLOAT = 3, TAG_EXTENSIBLE = 0xfffe, FMT_LEAST = 16, FMT_MOST = 40 };

static const char *coding_name(uint32_t tag)
{
    switch (tag) {
    case 2: return "Microsoft ADPCM";
    case 6: return "A-law";
    case 7: return "mu-law";
    case 0x11: return "IMA ADPCM";
    case 0x31: return "GSM 6.10";
    case 0x50: case 0x55: return "MPEG";
    default: return "an unknown coding";
    }
}

/* The tag that an extensible format stands for; 0: none that is known. */
static uint32_t extended_tag(const uint8_t *p, size_t n)
{
    static const uint8_t tail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71};
    return n >= FMT_MOST && memcmp(p + 26, tail, sizeof tail) == 0 ? le16(p + 24) : 0;
}

static ponder_status read_format(pn_wav *w, const uint8_t *p, size_t n, ponder_error *err)
{
    uint32_t tag = le16(p), align = le16(p + 12), bits = le16(p + 14);
    if (tag == TAG_EXTENSIBLE) tag = extended_tag(p, n);
    if (tag != TAG_PCM && tag != TAG_FLOAT)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "WAV coding %u (%s): only PCM and float are read", tag, coding_name(tag));
    w->channels = le16(p + 2);
    w->rate = le32(p + 4);
    w->is_float = tag == TAG_FLOAT;
    if (w->channels < 1 || w->channels > PN_AUDIO_MAX_CHANNELS)
        return pn_fail(err, PONDER_E_FORMAT, "WAV of %u channels; 1..%d are read", w->channels, PN_AUDIO_MAX_CHANNELS);
    if (w->rate < PN_AUDIO_MIN_RATE || w->rate > PN_AUDIO_MAX_RATE)
        return pn_fail(err, PONDER_E_FORMAT, "WAV of %u samples a second; %d..%d are read", w->rate, PN_AUDIO_MIN_RATE, PN_AUDIO_MAX_RATE);
    w->container = align / w->channels;
    if (align % w->channels != 0 || bits < 1 || w->container < (bits + 7) / 8)
        return pn_fail(err, PONDER_E_FORMAT, "WAV frames of %u bytes for %u channels of %u bits", align, w->channels, bits);
    bool known = w->is_float ? w->container == bits / 8 && (bits == 32 || bits == 64) : w->container <= 4;
    if (!known) return pn_fail(err, PONDER_E_UNSUPPORTED, "WAV samples of %u bits (%s)", bits, w->is_float ? "float" : "PCM");
    return PONDER_OK;
}

/* ---- chunks ---------------------------------------------------------------------------- */

enum { MOST_CHUNKS = 10000 };

typedef struct chunks {
    bool format, wide;      /* seen; RF64: sizes of 64 bits in ds64 */
    uint64_t riff_end, data_bytes; /* of a wide file: data_bytes from ds64 */
} chunks;

static ponder_status take_format(pn_wav *w, reader *r, uint64_t size)
{
    uint8_t fmt[FMT_MOST] = {0};
    if (size < FMT_LEAST) return pn_fail(r->err, PONDER_E_FORMAT, "WAV format chunk of %llu bytes", (unsigned long long)size);
    size_t n = (size_t)PN_MIN(size, (uint64_t)FMT_MOST);
    ponder_status st = pn_source_read(r->s, r->at, fmt, n, r->err);
    return st == PONDER_OK ? read_format(w, fmt, n, r->err) : st;
}

/* How many bytes of data there really are. A stream's writer could not go back to fill the length in and left all ones or
 * nothing; then, or when the file was cut short, they reach to the end. */
static uint64_t data_extent(const chunks *c, const reader *r, uint64_t size)
{
    uint64_t rest = r->size - r->at;
    if (c->wide && size == UINT32_MAX) size = c->data_bytes;
    if (size == 0 && c->riff_end <= r->at) return rest;
    return PN_MIN(size, rest);
}

static ponder_status take_data(pn_wav *w, const chunks *c, const reader *r, uint64_t size)
{
    if (!c->format) return pn_fail(r->err, PONDER_E_FORMAT, "WAV file: the data come before their format");
    w->data = r->at;
    w->frames = data_extent(c, r, size) / ((uint64_t)w->container * w->channels);
    if (w->frames == 0) return pn_fail(r->err, PONDER_E_FORMAT, "WAV file without samples");
    return PONDER_OK;
}

static ponder_status take_ds64(chunks *c, reader *r, uint64_t size)
{
    uint8_t b[16];
    if (size < 24) return pn_fail(r->err, PONDER_E_FORMAT, "RF64 sizes of %llu bytes", (unsigned long long)size);
    ponder_status st = pn_source_read(r->s, r->at, b, sizeof b, r->err);
    c->data_bytes = le64(b + 8);
    return st;
}

static ponder_status read_riff(chunks *c, reader *r)
{
    uint8_t b[12];
    if (r->size < sizeof b) return pn_fail(r->err, PONDER_E_FORMAT, "not a WAV file: %llu bytes", (unsigned long long)r->size);
    ponder_status st = pn_source_read(r->s, 0, b, sizeof b, r->err);
    if (st != PONDER_OK) return st;
    c->wide = is_id(b, "RF64") || is_id(b, "BW64");
    if (is_id(b, "RIFX")) return pn_fail(r->err, PONDER_E_UNSUPPORTED, "a big-endian WAV file (RIFX)");
    if ((!c->wide && !is_id(b, "RIFF")) || !is_id(b + 8, "WAVE")) return pn_fail(r->err, PONDER_E_FORMAT, "not a WAV file");
    c->riff_end = 8 + (uint64_t)le32(b + 4);
    r->at = sizeof b;
    return PONDER_OK;
}

ponder_status pn_wav_open(pn_wav *w, pn_source *s, ponder_error *err)
{
    chunks c = {0};
    reader r = {.s = s, .size = pn_source_size(s), .err = err};
    *w = (pn_wav){0};
    ponder_status st = read_riff(&c, &r);
    for (uint32_t n = 0; st == PONDER_OK; n++) {
        uint8_t head[8];
        if (n == MOST_CHUNKS) return pn_fail(err, PONDER_E_FORMAT, "WAV file: %d chunks without data", MOST_CHUNKS);
        if (r.size - r.at < sizeof head) return pn_fail(err, PONDER_E_FORMAT, "WAV file without data");
        if ((st = pn_source_read(s, r.at, head, sizeof head, err)) != PONDER_OK) break;
        r.at += sizeof head;
        uint64_t size = le32(head + 4), rest = r.size - r.at;
        if (is_id(head, "data")) return take_data(w, &c, &r, size);
        if (size > rest) return pn_fail(err, PONDER_E_FORMAT, "WAV file: a chunk of %llu bytes where %llu are left",
                                        (unsigned long long)size, (unsigned long long)rest);
        if (is_id(head, "fmt ") && !c.format) {
            st = take_format(w, &r, size);
            c.format = true;
        } else if (c.wide && is_id(head, "ds64")) {
            st = take_ds64(&c, &r, size);
        }
        r.at += size;
        if (size % 2 && r.at < r.size) r.at++; /* chunks begin at even offsets */
    }
    return st;
}

/* ---- frames ---------------------------------------------------------------------------- */

static void from_pcm(float *to, const uint8_t *p, size_t n, uint32_t container)
{
    for (size_t i = 0; i < n; i++, p += container) {
        switch (container) {
        case 1: to[i] = (float)((int)p[0] - 128) / 128; break;
        case 2: to[i] = (float)(int16_t)le16(p) / 32768; break;
        case 3: to[i] = (float)(int32_t)(le16(p) << 8 | (uint32_t)p[2] << 24) / 2147483648.0f; break;
        default: to[i] = (float)(int32_t)le32(p) / 2147483648.0f; break;
        }
    }
}

static void from_float(float *to, const uint8_t *p, size_t n, uint32_t container)
{
    for (size_t i = 0; i < n; i++, p += container) {
        if (container == 8) {
            uint64_t b = le64(p);
            double d;
            memcpy(&d, &b, 8);
            to[i] = (float)d;
        } else {
            uint32_t b = le32(p);
            memcpy(&to[i], &b, 4);
        }
    }
}

void pn_wav_floats(const pn_wav *w, float *to, const uint8_t *p, size_t n)
{
    if (w->is_float) from_float(to, p, n, w->container);
    else from_pcm(to, p, n, w->container);
}
