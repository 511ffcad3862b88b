/* Unicode normalization form C (UAX 15). */
#include "tokenizer/internal.h"

#include "tokenizer/nfc_data.h"

enum { HANGUL = 0xac00, HANGUL_L = 0x1100, HANGUL_V = 0x1161, HANGUL_T = 0x11a7, V_COUNT = 21, T_COUNT = 28, HANGUL_COUNT = 11172 };

static bool stirs(uint32_t c)
{
    size_t lo = 0, hi = PN_COUNT(nfc_stirs);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > nfc_stirs[mid].hi) lo = mid + 1;
        else hi = mid;
    }
    return lo < PN_COUNT(nfc_stirs) && c >= nfc_stirs[lo].lo;
}

bool pn_nfc_is(const char *p, size_t n)
{
    const uint8_t *s = (const uint8_t *)p;
    for (size_t i = 0; i < n;) {
        /* Below U+0300, whose lead byte is CC, nothing decomposes by itself or composes with what is before it. */
        if (s[i] < 0xcc) {
            i++;
            continue;
        }
        pn_utf8 state;
        const uint32_t len = pn_utf8_step(s + i, n - i, &state);
        if (stirs(pn_utf8_read(s + i, len))) return false;
        i += len;
    }
    return true;
}

static uint32_t class_of(uint32_t c)
{
    size_t lo = 0, hi = PN_COUNT(nfc_class);
    if (c < 0x300) return 0;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > nfc_class[mid].hi) lo = mid + 1;
        else hi = mid;
    }
    return lo < PN_COUNT(nfc_class) && c >= nfc_class[lo].lo ? nfc_class[lo].value : 0;
}

/* Index in nfc_split, or -1. */
static long split_of(uint32_t c)
{
    size_t lo = 0, hi = PN_COUNT(nfc_split);
    if (c < 0xc0) return -1;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (nfc_split[mid].c < c) lo = mid + 1;
        else hi = mid;
    }
    return lo < PN_COUNT(nfc_split) && nfc_split[lo].c == c ? (long)lo : -1;
}

static uint32_t joined(uint32_t a, uint32_t b)
{
    if (a - HANGUL_L < 19 && b - HANGUL_V < V_COUNT) return HANGUL + ((a - HANGUL_L) * V_COUNT + (b - HANGUL_V)) * T_COUNT;
    if (a - HANGUL < HANGUL_COUNT && (a - HANGUL) % T_COUNT == 0 && b - HANGUL_T - 1 < T_COUNT - 1) return a + (b - HANGUL_T);
    size_t lo = 0, hi = PN_COUNT(nfc_join);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (nfc_join[mid].first < a || (nfc_join[mid].first == a && nfc_join[mid].second < b)) lo = mid + 1;
        else hi = mid;
    }
    const bool found = lo < PN_COUNT(nfc_join) && nfc_join[lo].first == a && nfc_join[lo].second == b;
    return found ? nfc_join[lo].c : 0;
}

/* A character and its combining class in one word: class << 24 | character. */
static void put_char(pn_buf *b, uint32_t c)
{
    const uint32_t v = class_of(c) << 24 | c;
    pn_buf_put(b, &v, sizeof v);
}

/* The firsts of first parts go out last: at most four levels in Unicode. Hangul stays whole: it would compose again. */
static void decompose(pn_buf *b, uint32_t c)
{
    uint32_t tail[8], n = 0;
    for (long i; n < PN_COUNT(tail) && (i = split_of(c)) >= 0; c = nfc_split[i].first)
        if (nfc_split[i].second) tail[n++] = nfc_split[i].second;
    put_char(b, c);
    while (n > 0) put_char(b, tail[--n]);
}

/* Stable order of a run of combining marks by class; long runs by counting, so that no text takes quadratic time. */
static bool sort_run(uint32_t *v, size_t n, pn_buf *scratch)
{
    if (n < 32) {
        for (size_t i = 1; i < n; i++) {
            const uint32_t x = v[i];
            size_t j = i;
            for (; j > 0 && v[j - 1] >> 24 > x >> 24; j--) v[j] = v[j - 1];
            v[j] = x;
        }
        return true;
    }
    size_t start[257] = {0};
    scratch->n = 0;
    if (!pn_buf_put(scratch, v, n * sizeof *v)) return false;
    const uint32_t *from = (const uint32_t *)scratch->p;
    for (size_t i = 0; i < n; i++) start[(from[i] >> 24) + 1]++;
    for (size_t i = 1; i < 257; i++) start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++) v[start[from[i] >> 24]++] = from[i];
    return true;
}

static bool order(uint32_t *v, size_t n, pn_buf *scratch)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && v[end] >> 24) end++;
        if (end - i > 1 && !sort_run(v + i, end - i, scratch)) return false;
        i = end + 1;
    }
    return true;
}

/* Joins in place; the new length. */
static size_t compose(uint32_t *v, size_t n)
{
    size_t out = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        const uint32_t cls = v[i] >> 24;
        /* Blocked when a mark of the same or a higher class, or a starter, stands between. */
        const bool open = starter != SIZE_MAX && (out - 1 == starter || (v[out - 1] >> 24 < cls && v[out - 1] >> 24));
        const uint32_t c = open ? joined(v[starter] & 0xffffff, v[i] & 0xffffff) : 0;
        if (c) {
            v[starter] = c;
            continue;
        }
        if (cls == 0) starter = out;
        v[out++] = v[i];
    }
    return out;
}

bool pn_nfc(const char *p, size_t n, pn_buf *out)
{
    pn_buf wide, scratch;
    pn_buf_init(&wide, out->a);
    pn_buf_init(&scratch, out->a);
    for (size_t i = 0; i < n;) {
        pn_utf8 state;
        const uint32_t len = pn_utf8_step((const uint8_t *)p + i, n - i, &state);
        decompose(&wide, pn_utf8_read((const uint8_t *)p + i, len));
        i += len;
    }
    uint32_t *v = (uint32_t *)wide.p;
    size_t count = wide.n / sizeof *v;
    bool ok = !wide.failed && order(v, count, &scratch);
    count = ok ? compose(v, count) : 0;
    for (size_t i = 0; i < count; i++) {
        char text[4];
        pn_buf_put(out, text, pn_utf8_write(v[i] & 0xffffff, text));
    }
    pn_buf_free(&wide);
    pn_buf_free(&scratch);
    if (!ok) out->failed = true;
    return !out->failed;
}
