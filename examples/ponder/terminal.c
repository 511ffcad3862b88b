#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

int is_terminal(FILE *f)
{
    return isatty(fileno(f));
}

const char *tint(FILE *to, int which)
{
    static const char *const codes[] = {"\033[0m", "\033[2m", "\033[1m", "\033[1;36m"};
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    if ((no_color && *no_color) || !term || !strcmp(term, "dumb") || !is_terminal(to))
        return "";
    return codes[which];
}

const char *human_bytes(char out[16], uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int u = 0;
    while (value >= 1000 && u < 4) {
        value /= 1000;
        u++;
    }
    snprintf(out, 16, u ? "%.1f %s" : "%.0f %s", value, units[u]);
    return out;
}
