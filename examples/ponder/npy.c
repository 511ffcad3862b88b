#include <errno.h>
#include <string.h>

#include "program.h"

/* The header's length, with its ten bytes before, is a multiple of 64 so that the values are aligned when mapped. */
static size_t npy_header(char out[128], size_t rows, size_t cols)
{
    const uint16_t one = 1;
    const char order = *(const unsigned char *)&one ? '<' : '>';
    int used = snprintf(out + 10, 118, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%zu, %zu), }", order, rows, cols);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = 118;
    out[9] = 0;
    memset(out + 10 + used, ' ', (size_t)(117 - used));
    out[127] = '\n';
    return 128;
}

int npy_write(const char *path, const float *values, size_t rows, size_t cols)
{
    char header[128];
    size_t bytes = npy_header(header, rows, cols);
    FILE *f = fopen(path, "wb");
    int error = 0;
    if (!f)
        return errno;
    if (fwrite(header, 1, bytes, f) != bytes || fwrite(values, cols * sizeof *values, rows, f) != rows)
        error = errno ? errno : EIO;
    if (fclose(f) && !error)
        error = errno;
    return error;
}
