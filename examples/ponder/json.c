#include "program.h"

void json_text(FILE *to, const char *text, size_t bytes)
{
    fputc('"', to);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c == '\n' || c == '\t')
            fputs(c == '\n' ? "\\n" : "\\t", to);
        else if (c < 0x20)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

/* Arguments are JSON already; a line break can only stand between their parts, and would end the line here. */
void json_call(FILE *to, const ponder_event *call)
{
    fputs("{\"event\":\"tool_call\",\"name\":", to);
    json_text(to, call->name, call->name_bytes);
    fputs(",\"arguments\":", to);
    for (size_t i = 0; i < call->text_bytes; i++)
        fputc(call->text[i] == '\n' || call->text[i] == '\r' ? ' ' : call->text[i], to);
    fputs("}\n", to);
}

void json_numbers(FILE *to, const int32_t *ids, size_t n)
{
    fputc('[', to);
    for (size_t i = 0; i < n; i++)
        fprintf(to, i ? ",%d" : "%d", (int)ids[i]);
    fputc(']', to);
}
