#include "base/base.h"

/* Brackets inside strings do not nest; everything else about the text is the parser's business. */
bool pn_json_depth_ok(const char *p, size_t n, size_t limit)
{
    size_t depth = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        const char c = p[i];
        if (string) {
            if (c == '\\') i++;
            else if (c == '"') string = false;
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limit) return false;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}
