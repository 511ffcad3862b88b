#include <string.h>

#include "program.h"

void buffer_add(buffer *b, const char *p, size_t n)
{
    if (b->room - b->n <= n)
        b->p = must_realloc(b->p, b->room = 2 * b->room + n + 64, 1);
    if (n)
        memcpy(b->p + b->n, p, n);
    b->p[b->n += n] = 0;
}
