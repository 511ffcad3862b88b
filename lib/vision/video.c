#include <math.h>

#include "vision/image.h"

uint32_t pn_video_count(const pn_video_rule *rule, uint32_t total, double fps)
{
    if (total == 0 || !(fps > 0) || rule->group == 0) return 0;
    const double wanted = floor(total * rule->fps / fps);
    uint32_t n = PN_MIN(total, rule->max_frames);
    if (wanted < n) n = wanted > 0 ? (uint32_t)wanted : 0;
    n = PN_MAX(n / rule->group * rule->group, rule->group);
    return PN_MIN(n, total);
}

/* linspace(0, total - 1, count) in float32, from both ends to the middle, cut to whole numbers; the reference is compiled to
 * round the second half's product and difference once. */
uint32_t pn_video_index(uint32_t total, uint32_t count, uint32_t i)
{
    if (count < 2) return 0;
    const float last = (float)(total - 1), step = last / (float)(count - 1);
    const float at = i < count / 2 ? step * (float)i : fmaf(-step, (float)(count - 1 - i), last);
    const uint32_t index = at > 0 ? (uint32_t)at : 0;
    return PN_MIN(index, total - 1);
}

uint32_t pn_video_groups(const pn_video_rule *rule, uint32_t count)
{
    return count / rule->group + (count % rule->group != 0);
}

uint32_t pn_video_frame(const pn_video_rule *rule, uint32_t count, uint32_t g, uint32_t k)
{
    const uint64_t i = (uint64_t)g * rule->group + k;
    return i < count ? (uint32_t)i : count - 1;
}

ponder_status pn_video_rate(const double *times, uint32_t n, double *fps, ponder_error *err)
{
    *fps = 24;
    for (uint32_t i = 0; i < n; i++)
        if (!(times[i] >= (i ? times[i - 1] : 0)) || !(times[i] <= 1e15))
            return pn_fail(err, PONDER_E_ARGUMENT, "frame %u has no time, or one before its forerunner's", i);
    if (n > 1 && times[n - 1] > times[0]) *fps = (n - 1) / (times[n - 1] - times[0]);
    return PONDER_OK;
}

/* Tenths, from the exact value of the double: mantissa * 10 / 2^places, halves to even. */
static uint64_t tenths(double v)
{
    int exponent;
    const uint64_t ten = (uint64_t)ldexp(frexp(v, &exponent), 53) * 10; /* below 2^57 */
    const int places = 53 - exponent;                                   /* v <= 1e15: at least 3 */
    if (places >= 64) return 0;
    const uint64_t whole = ten >> places, rest = ten & (((uint64_t)1 << places) - 1), half = (uint64_t)1 << (places - 1);
    return whole + (rest > half || (rest == half && (whole & 1)));
}

size_t pn_video_text(char text[PN_VIDEO_TEXT], double seconds)
{
    char digits[24];
    size_t n = 0, many = 0;
    text[0] = 0;
    if (!(seconds >= 0 && seconds <= 1e15)) return 0;
    uint64_t t = tenths(seconds);
    do {
        digits[many++] = (char)('0' + t % 10);
        t /= 10;
    } while (t || many < 2);
    memcpy(text, "Time: ", 6);
    for (n = 6; many > 0; text[n++] = digits[--many])
        if (many == 1) text[n++] = '.';
    memcpy(text + n, "s", 2);
    return n + 1;
}
