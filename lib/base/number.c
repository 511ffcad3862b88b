#include "base/base.h"

#include <stdlib.h>

/* strtod honours the locale's decimal point, so the text is rewritten for it: one call knows which it is. */
static char decimal_point(void)
{
    static const double half = 0.5;
    char text[16];
    /* printf writes the point that strtod reads. */
    int n = __builtin_snprintf(text, sizeof text, "%.1f", half);
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
