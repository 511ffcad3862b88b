#include "program.h"

void json_text(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < 0x20)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

void json_numbers(FILE *to, const int32_t *ids, size_t n)
{
    fputc('[', to);
    for (size_t i = 0; i < n; i++)
        fprintf(to, i ? ",%d" : "%d", (int)ids[i]);
    fputc(']', to);
}
