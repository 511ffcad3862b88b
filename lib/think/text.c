/* Where a sentence ends, and whether a character is whole. */
#include "think/think.h"

static bool blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

/* Length of `what` if the text ends in it. */
static size_t ends_in(const char *p, size_t n, const char *what)
{
    const size_t len = strlen(what);
    return n >= len && memcmp(p + n - len, what, len) == 0 ? len : 0;
}

static size_t one_of(const char *p, size_t n, const char *const *list)
{
    size_t len = 0;
    for (; *list && !len; list++) len = ends_in(p, n, *list);
    return len;
}

/* "e.g", "U.S", "Dr": what a full stop may stand behind without ending anything. A number behind which it stands is one if the
 * line begins with it ("1. First"). */
static bool abbreviation(const char *p, size_t n)
{
    static const char *const known[] = {"dr", "mr", "mrs", "ms", "st", "vs", "cf", "fig", "eq", "approx", NULL};
    size_t from = n;
    while (from > 0 && (letter(p[from - 1]) || p[from - 1] == '.')) from--;
    const size_t word = n - from;
    if (word == 0) {
        while (from > 0 && digit(p[from - 1])) from--;
        return from < n && (from == 0 || p[from - 1] == '\n');
    }
    if (memchr(p + from, '.', word)) return true;
    if (word == 1) return p[from] != 'I';
    for (size_t i = 0; known[i]; i++)
        if (word == strlen(known[i]) && (p[from] | 0x20) == known[i][0] && memcmp(p + from + 1, known[i] + 1, word - 1) == 0) return true;
    return false;
}

bool pn_think_boundary(const char *p, size_t n, const char *next, size_t n_next)
{
    static const char *const closers[] = {"\"", "'", ")", "]", "}", "*", "\xe2\x80\x9d", "\xe2\x80\x99", "\xc2\xbb", NULL};
    static const char *const wide[] = {"\xe3\x80\x82", "\xef\xbc\x81", "\xef\xbc\x9f", NULL}; /* need no space behind them */
    if (n == 0) return false;
    if (p[n - 1] == '\n') return true;
    const bool gap = n_next > 0 && blank(next[0]);
    if (n_next > 0 && next[0] == '\n') return true;
    size_t end = n;
    for (size_t len; end > 0 && (len = one_of(p, end, closers)); end -= len) { }
    if (one_of(p, end, wide)) return true;
    if (end == 0 || !gap) return false;
    const char c = p[end - 1];
    return c == '!' || c == '?' || (c == '.' && !abbreviation(p, end - 1));
}

uint32_t pn_think_unfinished(const char *text, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const uint8_t c = (uint8_t)text[n - back];
        if (c < 0x80) return 0;
        if (c < 0xc0) continue;
        const uint32_t len = c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
        return len > back ? len - (uint32_t)back : 0;
    }
    return 0;
}
