/* Reads the float32 arrays (C order) that the reference scripts write with numpy. */
#ifndef NPY_H
#define NPY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct npy {
    size_t n_dims, dim[4], n;
    float *v;                 /* NULL: no such file; release with free() */
} npy;

static inline npy npy_read(const char *path)
{
    npy a = {.n = 1};
    uint8_t head[10];
    char text[512] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return a;
    size_t length = 0;
    if (fread(head, 1, 10, f) == 10 && !memcmp(head, "\x93NUMPY\x01", 7)) length = head[8] | (size_t)head[9] << 8;
    if (length > 0 && length < sizeof text && fread(text, 1, length, f) == length && strstr(text, "'<f4'") && strstr(text, "False")) {
        const char *p = strchr(text, '(');
        while (p && a.n_dims < 4 && *++p != ')' && *p) {
            char *end;
            unsigned long d = strtoul(p, &end, 10);
            if (end == p) break;
            a.dim[a.n_dims++] = d;
            a.n *= d;
            p = end;
            if (*p != ',') break;
            while (p[1] == ' ') p++;
        }
        a.v = malloc(a.n * sizeof *a.v + 1);
        if (a.v && fread(a.v, sizeof *a.v, a.n, f) != a.n) {
            free(a.v);
            a.v = NULL;
        }
    }
    fclose(f);
    return a;
}

#endif
