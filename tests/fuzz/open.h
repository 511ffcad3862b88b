/* A file, or a folder's two, from hostile bytes: a GGUF, or config.json up to the first zero byte and safetensors behind it. */
#ifndef FUZZ_OPEN_H
#define FUZZ_OPEN_H

#include <string.h>

#include "files/checkpoint.h"

static pn_checkpoint *open_any(const uint8_t *data, size_t size)
{
    pn_source *config, *weights;
    pn_checkpoint *c = NULL;
    const uint8_t *end = memchr(data, 0, size);
    const size_t n = end ? (size_t)(end - data) : size, skip = end ? n + 1 : n;
    const bool gguf = size > 4 && !memcmp(data, "GGUF", 4);
    if (pn_source_memory(&config, data, gguf ? size : n, NULL, NULL)) return NULL;
    if (gguf) {
        pn_checkpoint_open_source(&c, config, NULL, NULL);
    } else if (pn_source_memory(&weights, data + skip, size - skip, NULL, NULL)) {
        pn_source_free(config);
    } else {
        pn_folder_open_sources(&c, config, weights, NULL, NULL);
    }
    return c;
}

#endif
