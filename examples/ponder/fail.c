#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

int fail(const char *what, ponder_status status, const char *text)
{
    if (!text || !*text)
        text = "failed";
    fprintf(stderr, "ponder: %s: %s (%s)\n", what, text, ponder_status_name(status));
    return EXIT_FAIL;
}

int fail_usage(const char *what, const char *text)
{
    fprintf(stderr, "ponder: %s: %s\n", what, text);
    return EXIT_USAGE;
}

void *must_realloc(void *p, size_t count, size_t each)
{
    void *q;
    if (!each || count > SIZE_MAX / each || !(q = realloc(p, count * each + !count))) {
        fail("memory", PONDER_E_NOMEM, strerror(ENOMEM));
        exit(EXIT_FAIL);
    }
    return q;
}

void *must_alloc(size_t count, size_t each)
{
    return must_realloc(NULL, count, each);
}

char *read_all(FILE *in, size_t *n)
{
    size_t room = 1 << 16, have = 0, got;
    char *text = must_alloc(room, 1);
    while ((got = fread(text + have, 1, room - have - 1, in)) > 0) {
        have += got;
        if (room - have < 2)
            text = must_realloc(text, room *= 2, 1);
    }
    if (ferror(in)) {
        free(text);
        return NULL;
    }
    text[have] = 0;
    *n = have;
    return text;
}

char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = f ? read_all(f, n) : NULL;
    if (!text)
        fail(path, PONDER_E_IO, strerror(errno));
    if (f)
        fclose(f);
    return text;
}

int finish_output(void)
{
    if (!fflush(stdout) && !ferror(stdout))
        return EXIT_SUCCESS;
    return fail("standard output", PONDER_E_IO, strerror(errno));
}
