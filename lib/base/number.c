#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

/* strtod honours the locale's decimal point, so the text is rewritten for it: one call knows which it is. */
static char decimal_point(void)
{
    static const double half = 0.5;
    char text[16];
    /* printf writes the point that strtod reads. */
    int n = snprintf(text, sizeof text, "%.1f", half);
    return n == 3 ? text[1] : '.';
}

double pn_parse_double(const char *p, size_t n, size_t *used)
{
    char text[64];
    size_t len = 0;
    const char point = decimal_point();
    *used = 0;
    while (len < n && len + 1 < sizeof text) {
        char c = p[len];
        if (!((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E')) break;
        text[len++] = c == '.' ? point : c;
    }
    text[len] = 0;
    char *end = text;
    double v = strtod(text, &end);
    *used = (size_t)(end - text);
    return v;
}

/* The most digits that can decide how a double rounds are 768; of more, only whether they are zero. An integer with an
 * exponent has no point, so no locale changes its meaning. */
double pn_decimal(const char *digits, size_t n, long exponent)
{
    enum { DECIDE = 800 };
    char text[DECIDE + 32];
    while (n > 1 && *digits == '0') {
        digits++;
        n--;
    }
    size_t kept = PN_MIN(n, (size_t)DECIDE);
    bool more = false;
    for (size_t i = kept; i < n; i++) more |= digits[i] != '0';
    memcpy(text, digits, kept);
    if (more) text[kept++] = '1';
    snprintf(text + kept, sizeof text - kept, "e%ld", exponent + (long)(n - kept));
    return strtod(text, NULL);
}
