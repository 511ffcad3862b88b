/* The boxes in a text that a model wrote: no parser of JSON, which such text often is not, but a look at every object. */
#include <stdlib.h>
#include <string.h>

#include "program.h"

/* Objects nest; one that holds a box is hardly deeper. The ring forgets the outermost. */
enum { SIDES = 4, DEPTH = 64, ALL = (1 << SIDES) - 1 };

typedef struct object {
    double side[SIDES];
    unsigned have; /* a bit a side */
} object;

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blank(const char *p)
{
    while (is_blank(*p))
        p++;
    return p;
}

/* Behind the string whose first quote is at p. One that the line's end cuts is none: what is left of the line is passed. */
static const char *string_end(const char *p)
{
    for (p++; *p && *p != '\n' && *p != '"'; p++)
        if (*p == '\\' && p[1])
            p++;
    return *p ? p + 1 : p;
}

/* A string, and if it is one of the four names, the number that belongs to it. */
static const char *read_member(object *o, const char *p)
{
    static const char *const names[SIDES] = {"\"x_min\"", "\"y_min\"", "\"x_max\"", "\"y_max\""};
    const char *end = string_end(p), *value = skip_blank(end);
    if (*value != ':')
        return end;
    value = skip_blank(value + 1);
    for (int i = 0; i < SIDES; i++) {
        char *behind;
        double number;
        if (strncmp(p, names[i], strlen(names[i])) || (*value != '-' && (*value < '0' || *value > '9')))
            continue;
        number = strtod(value, &behind);
        if (behind == value)
            continue;
        o->side[i] = number;
        o->have |= 1u << i;
        return behind;
    }
    return end;
}

static void add_box(boxes *b, const object *o)
{
    b->side = must_realloc(b->side, b->n + 1, sizeof o->side);
    memcpy(b->side + b->n++ * SIDES, o->side, sizeof o->side);
}

void boxes_find(boxes *b, const char *text)
{
    object open[DEPTH];
    size_t depth = 0;
    *b = (boxes){NULL, 0};
    for (const char *p = text; *p;) {
        object *inner = &open[(depth - 1) % DEPTH];
        if (*p == '"' && depth) {
            p = read_member(inner, p);
            continue;
        }
        if (*p == '{') {
            open[depth++ % DEPTH].have = 0;
        } else if (*p == '}' && depth) {
            if (inner->have == ALL)
                add_box(b, inner);
            inner->have = 0;
            depth--;
        }
        p++;
    }
}
