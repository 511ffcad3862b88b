/* Numbers between bounds, digit by digit. A bound is decimal and exact; a state says whether what has been written is still
 * equal to the beginning of a bound, and so must not leave it on the wrong side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "grammar/nfa.h"

/* ---- decimal values --------------------------------------------------------------------------------------------------------- */

static bool reads_back(double v, const char *digits, int n, int power)
{
    char text[48];
    const int len = snprintf(text, sizeof text, "%.*se%d", n, digits, power - (n - 1));
    return pn_decimal((pn_str){text, (size_t)len}) == v;
}

/* The fewest digits that read back as v (v > 0, finite), and the power of ten of the first. */
static int shortest(double v, char digits[20], int *power)
{
    char text[48];
    for (int n = 1;; n++) {
        snprintf(text, sizeof text, "%.*e", n - 1, v);
        const char *p = text;
        for (int k = 0; k < n; p++) /* whatever stands between them is the locale's point */
            if (*p >= '0' && *p <= '9') digits[k++] = *p;
        *power = (int)strtol(strchr(p, 'e') + 1, NULL, 10);
        if (n == 17 || reads_back(v, digits, n, *power)) return n;
    }
}

/* digits[0] stands for 10^power. */
static bool set_digits(pn_bound *b, const char *digits, size_t n, long power)
{
    while (n > 1 && digits[n - 1] == '0') n--;
    while (n > 1 && digits[0] == '0') digits++, n--, power--;
    if (digits[0] == '0') power = 0;
    if (power >= NUMBER_DIGITS) return b->huge = true;
    b->n_whole = (uint8_t)(power < 0 ? 1 : power + 1);
    for (long i = 0; i < b->n_whole && power >= 0; i++) b->whole[i] = i < (long)n ? (uint8_t)(digits[i] - '0') : 0;
    const long zeros = power < 0 ? -power - 1 : 0, from = power < 0 ? 0 : power + 1;
    if ((long)n <= from) return true;
    if (zeros + (long)n - from > NUMBER_DIGITS) return false;
    for (long i = from; i < (long)n; i++) b->fraction[zeros + i - from] = (uint8_t)(digits[i] - '0');
    b->n_fraction = (uint8_t)(zeros + (long)n - from);
    return true;
}

bool pn_bound_read(pn_bound *out, const pn_value *v)
{
    char digits[20];
    int power;
    *out = (pn_bound){.set = true};
    if (v->type == PN_V_INT) {
        out->minus = v->text.p[0] == '-';
        return set_digits(out, v->text.p + out->minus, v->text.n - out->minus, (long)(v->text.n - out->minus) - 1);
    }
    out->minus = v->real < 0;
    if (isinf(v->real)) return out->huge = true;
    if (v->real == 0) return set_digits(out, "0", 1, 0);
    const int n = shortest(fabs(v->real), digits, &power);
    return set_digits(out, digits, (size_t)n, power);
}

static bool is_zero(const pn_bound *b) { return !b->huge && b->n_whole == 1 && b->whole[0] == 0 && b->n_fraction == 0; }

static int compare_size(const pn_bound *x, const pn_bound *y)
{
    if (x->huge || y->huge) return x->huge - y->huge;
    if (x->n_whole != y->n_whole) return x->n_whole < y->n_whole ? -1 : 1;
    const int whole = memcmp(x->whole, y->whole, x->n_whole);
    return whole ? whole : memcmp(x->fraction, y->fraction, NUMBER_DIGITS); /* padded with zeros */
}

int pn_bound_compare(const pn_bound *x, const pn_bound *y)
{
    const bool xm = x->minus && !is_zero(x), ym = y->minus && !is_zero(y);
    if (xm != ym) return xm ? -1 : 1;
    const int order = compare_size(x, y);
    return xm ? -order : order;
}

bool pn_number_holds(const pn_number_spec *s, const pn_value *v)
{
    pn_bound x;
    uint32_t rest = 0;
    if (!pn_bound_read(&x, v)) return false;
    const int lo = s->lo.set ? pn_bound_compare(&x, &s->lo) : 1, hi = s->hi.set ? pn_bound_compare(&x, &s->hi) : -1;
    if (lo < 0 || (lo == 0 && s->lo.open) || hi > 0 || (hi == 0 && s->hi.open)) return false;
    if (s->integer && x.n_fraction) return false;
    if (s->multiple == 1) return true;
    for (int i = 0; i < x.n_whole; i++) rest = (rest * 10 + x.whole[i]) % s->multiple;
    return !x.huge && x.n_fraction == 0 && rest == 0;
}

static void zeros(pn_buf *b, int n)
{
    while (n-- > 0) pn_buf_puts(b, "0");
}

/* As Python writes it: plain from 1e-4 to 1e16, else with an exponent. */
void pn_number_spell(pn_buf *out, const pn_value *v)
{
    char d[20];
    int power;
    if (v->type == PN_V_INT) {
        pn_buf_put(out, v->text.p, v->text.n);
        return;
    }
    if (signbit(v->real)) pn_buf_puts(out, "-");
    if (v->real == 0) {
        pn_buf_puts(out, "0.0");
        return;
    }
    const int n = shortest(fabs(v->real), d, &power), whole = PN_MIN(n, power + 1);
    if (power < -4 || power >= 16) {
        pn_buf_put(out, d, 1);
        if (n > 1) pn_buf_printf(out, ".%.*s", n - 1, d + 1);
        pn_buf_printf(out, "e%c%02d", power < 0 ? '-' : '+', abs(power));
        return;
    }
    if (power < 0) {
        pn_buf_puts(out, "0.");
        zeros(out, -power - 1);
        pn_buf_put(out, d, (size_t)n);
        return;
    }
    pn_buf_put(out, d, (size_t)whole);
    zeros(out, power + 1 - whole);
    pn_buf_puts(out, ".");
    if (n > whole) pn_buf_put(out, d + whole, (size_t)(n - whole));
    else pn_buf_puts(out, "0");
}

/* ---- the automaton ------------------------------------------------------------------------------------------------------------- */

typedef struct span {
    pn_build *b;
    bool integer;
    uint32_t multiple;
    pn_bound lo, hi; /* not negative; lo is always there */
    pn_nid next;     /* after a whole number; `exponent` is in it where one may follow */
    pn_nid *memo;    /* [length][left][at lo][at hi][rest] of the whole part, then [left][rest] of between(): node + 1 */
    pn_nid fraction[NUMBER_DIGITS + 1][2][2];
} span;

static bool may_end(const span *s, uint32_t digits, bool at_lo, bool at_hi)
{
    if (at_lo && (s->lo.n_fraction > digits || s->lo.open)) return false;
    return !at_hi || s->hi.n_fraction > digits || !s->hi.open;
}

/* Digits with the same target share an edge. */
static pn_nid digit_edges(pn_build *b, const pn_nid to[10])
{
    pn_nid all = 0;
    for (uint32_t d = 0; d < 10;) {
        uint32_t last = d;
        while (last < 9 && to[last + 1] == to[d]) last++;
        all = pn_split(b, all, pn_byte(b, '0' + d, '0' + last, to[d]));
        d = last + 1;
    }
    return all;
}

/* Behind the point and `n` digits. */
static pn_nid fraction(span *s, uint32_t n, bool at_lo, bool at_hi)
{
    pn_nid *memo = &s->fraction[n][at_lo][at_hi], to[10] = {0};
    if (*memo) return *memo - 1;
    const uint8_t lo = at_lo ? s->lo.fraction[PN_MIN(n, NUMBER_DIGITS - 1)] : 0, hi = at_hi ? s->hi.fraction[PN_MIN(n, NUMBER_DIGITS - 1)] : 9;
    for (uint8_t d = lo; n < NUMBER_DIGITS && d <= hi; d++) to[d] = fraction(s, n + 1, at_lo && d == lo, at_hi && d == hi);
    pn_nid at = digit_edges(s->b, to);
    if (n > 0 && may_end(s, n, at_lo, at_hi)) at = pn_split(s->b, at, s->next);
    *memo = at + 1;
    return at;
}

static pn_nid whole_end(span *s, bool at_lo, bool at_hi, uint32_t rest)
{
    const pn_nid here = rest == 0 && may_end(s, 0, at_lo, at_hi) ? s->next : 0;
    if (s->integer || s->multiple > 1) return here;
    return pn_split(s->b, here, pn_byte(s->b, '.', '.', fraction(s, 0, at_lo, at_hi)));
}

/* `left` digits of `length` are still to come. */
static pn_nid whole(span *s, uint32_t length, uint32_t left, bool at_lo, bool at_hi, uint32_t rest)
{
    if (left == 0) return whole_end(s, at_lo, at_hi, rest);
    const uint32_t key = at_lo || at_hi ? length : 0, i = length - left;
    const bool first = i == 0 && length > 1;
    pn_nid *memo = first ? NULL
        : &s->memo[((((size_t)key * (NUMBER_DIGITS + 1) + left) * 2 + at_lo) * 2 + at_hi) * s->multiple + rest], to[10] = {0};
    if (memo && *memo) return *memo - 1;
    const uint8_t lo = at_lo ? s->lo.whole[i] : 0, hi = at_hi ? s->hi.whole[i] : 9;
    for (uint8_t d = first && lo == 0 ? 1 : lo; d <= hi && pn_build_work(s->b, 1); d++)
        to[d] = whole(s, length, left - 1, at_lo && d == lo, at_hi && d == hi, (rest * 10 + d) % s->multiple);
    const pn_nid at = digit_edges(s->b, to);
    if (memo) *memo = at + 1;
    return at;
}

enum { WHOLE_MEMO = (NUMBER_DIGITS + 1) * (NUMBER_DIGITS + 1) * 4 };

/* Lengths that no bound touches, as one chain: a chain for each would be as many elements in every state of a number. `least`
 * to `most` digits are still to come; their difference never changes but at 0. */
static pn_nid between(span *s, uint32_t least, uint32_t most, bool first, uint32_t rest)
{
    pn_nid *memo = &s->memo[(WHOLE_MEMO + most) * s->multiple + rest], to[10] = {0};
    if (!first && *memo) return *memo - 1;
    for (uint32_t d = first; most > 0 && d <= 9 && pn_build_work(s->b, 1); d++)
        to[d] = between(s, least > 0 ? least - 1 : 0, most - 1, false, (rest * 10 + d) % s->multiple);
    pn_nid at = digit_edges(s->b, to);
    if (least == 0) at = pn_split(s->b, at, whole_end(s, false, false, rest));
    if (!first) *memo = at + 1;
    return at;
}

static pn_nid numbers(span *s)
{
    const size_t bytes = sizeof(pn_nid) * (WHOLE_MEMO + NUMBER_DIGITS + 1) * s->multiple;
    pn_nid all = 0;
    if (s->lo.huge || (s->hi.set && compare_size(&s->lo, &s->hi) > 0)) return 0;
    if (s->hi.huge) s->hi = (pn_bound){0};
    s->memo = pn_zalloc(s->b->a, bytes);
    if (!s->memo) {
        s->b->status = pn_nomem(s->b->err, bytes);
        return 0;
    }
    const uint32_t most = s->hi.set ? s->hi.n_whole : NUMBER_DIGITS;
    const uint32_t from = s->lo.n_whole, last = s->hi.set ? most - 1 : most; /* of the lengths without a bound */
    all = whole(s, from, from, true, s->hi.set && from == most, 0);
    if (from < last) all = pn_split(s->b, all, between(s, from + 1, last, true, 0));
    if (s->hi.set && from < most) all = pn_split(s->b, all, whole(s, most, most, false, true, 0));
    pn_free(s->b->a, s->memo, bytes);
    return all;
}

/* e-999 to e279: with 20 digits before the point the value is still finite. */
static pn_nid exponent(pn_build *b, pn_nid next)
{
    const pn_nid one = pn_byte(b, '0', '9', next), two = pn_byte(b, '0', '9', one);
    const pn_nid up_to_two = pn_split(b, one, two), up_to_three = pn_split(b, up_to_two, pn_byte(b, '0', '9', two));
    const pn_nid large = pn_split(b, pn_byte(b, '0', '1', two), pn_byte(b, '2', '2', pn_byte(b, '0', '7', one)));
    const pn_nid plus = pn_split(b, up_to_two, large), sign = pn_split(b, plus, pn_byte(b, '+', '+', plus));
    const pn_nid at = pn_split(b, sign, pn_byte(b, '-', '-', up_to_three));
    return pn_split(b, pn_byte(b, 'e', 'e', at), pn_byte(b, 'E', 'E', at));
}

static pn_bound zero(bool open) { return (pn_bound){.set = true, .open = open, .n_whole = 1}; }

pn_nid pn_number(pn_build *b, const pn_number_spec *s, pn_nid next)
{
    const bool free = !s->lo.set && !s->hi.set && !s->integer && s->multiple == 1;
    span up = {.b = b, .integer = s->integer, .multiple = s->multiple, .lo = zero(false), .hi = s->hi, .next = next};
    const bool no_zero = s->integer || s->multiple > 1 || (s->hi.set && s->hi.open && is_zero(&s->hi)); /* -0.0 is a number */
    span down = {.b = b, .integer = s->integer, .multiple = s->multiple, .lo = zero(no_zero), .hi = s->lo, .next = next};
    pn_nid all = 0;
    if (b->status) return 0;
    if (free) up.next = down.next = pn_split(b, next, exponent(b, next));
    if (s->lo.set && (!s->lo.minus || is_zero(&s->lo))) up.lo = s->lo;
    if (s->hi.set && s->hi.minus) down.lo = s->hi;
    const bool no_up = s->hi.set && s->hi.minus && !is_zero(&s->hi), no_down = s->lo.set && !s->lo.minus;
    if (!no_up) all = numbers(&up);
    if (!no_down && !b->status) all = pn_split(b, all, pn_byte(b, '-', '-', numbers(&down)));
    return all;
}
