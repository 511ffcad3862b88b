#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

/* The exponent's digits behind 'e'; what passes any double stays there. */
static long exponent(const char *p, const char *end)
{
    const bool minus = p < end && *p == '-';
    long e = 0;
    if (p < end && (*p == '-' || *p == '+')) p++;
    for (; p < end; p++)
        if (e < 100000000) e = e * 10 + (*p - '0');
    return minus ? -e : e;
}

/* strtod honours the locale's decimal point, so it gets an integer with an exponent, which has none. The most digits that
 * can decide how a double rounds are 768; of more, only whether one is not zero. */
double pn_decimal(pn_str number)
{
    enum { DECIDE = 800 };
    char text[DECIDE + 32];
    size_t n = 0;
    long e = 0;
    bool point = false, more = false;
    const char *p = number.p, *const end = p + number.n;
    const bool minus = p < end && *p == '-';
    for (p += minus; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        e -= point;
        if (n == 0 && *p == '0') continue;
        e += n >= DECIDE;
        if (n < DECIDE) text[n++] = *p;
        else more |= *p != '0';
    }
    if (p < end) e += exponent(p + 1, end);
    e -= more;
    if (more || n == 0) text[n++] = more ? '1' : '0';
    snprintf(text + n, sizeof text - n, "e%ld", e);
    const double v = strtod(text, NULL);
    return minus ? -v : v;
}
