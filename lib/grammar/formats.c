/* Formats of strings, as patterns of the whole string. Only what a pattern says exactly. */
#include "grammar/schema.h"

#define YEAR "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d\\d\\d)"
#define LEAP "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))|" \
    LEAP "-02-29)"
/* RFC 3339 without leap seconds; no more than nanoseconds. */
#define TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

const char *pn_format_pattern(const pn_value *format)
{
    static const struct { const char *name, *pattern; } formats[] = {
        {"date", DATE},
        {"time", TIME},
        {"date-time", DATE "T" TIME},
        {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
        {"ipv4", OCTET "(?:\\." OCTET "){3}"},
        /* RFC 5321's dot-string and domain within their lengths: local part at most 62, domain at most 3 * 64 + 24 */
        {"email", ATOM "(?:\\." ATOM "){0,2}@(?:" LABEL "\\.){1,3}[A-Za-z]{2,24}"},
    };
    for (size_t i = 0; i < PN_COUNT(formats); i++)
        if (pn_is(format, formats[i].name)) return formats[i].pattern;
    return NULL;
}
