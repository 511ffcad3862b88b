#include "files/checkpoint.h"
#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* config.json up to the first zero byte, the safetensors file behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_source *config, *weights;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    const uint8_t *end = memchr(data, 0, size);
    const size_t n = end ? (size_t)(end - data) : size;
    const size_t skip = end ? n + 1 : n;
    if (pn_source_memory(&config, data, n, NULL, &e)) return 0;
    if (pn_source_memory(&weights, data + skip, size - skip, NULL, &e)) {
        pn_source_free(config);
        return 0;
    }
    if (pn_folder_open_sources(&c, config, weights, NULL, &e) == PONDER_OK) use_checkpoint(c);
    return 0;
}
