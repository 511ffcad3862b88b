#include "use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct block { const uint8_t *p; } block;

static int32_t read_block(void *user, uint64_t offset, void *to, size_t n)
{
    memcpy(to, ((const block *)user)->p + offset, n);
    return 0;
}

/* From memory, and through a callback: both must come to the same end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_source *s;
    pn_checkpoint *c, *again;
    ponder_error e = {.size = sizeof e};
    block b = {data};
    ponder_source callback = {.size = sizeof callback, .user = &b, .length = size, .read = read_block};
    if (pn_source_memory(&s, data, size, NULL, &e)) return 0;
    ponder_status first = pn_checkpoint_open_source(&c, s, NULL, &e);
    if (pn_source_callback(&s, &callback, NULL, &e) == PONDER_OK) {
        if (pn_checkpoint_open_source(&again, s, NULL, &e) != first) abort();
        pn_checkpoint_free(again);
    }
    if (first == PONDER_OK) use_checkpoint(c);
    return 0;
}
