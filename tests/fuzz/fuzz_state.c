/* Saved sessions: the bytes are loaded into a session of a tiny model; what loads is generated from. The checksum is put
 * right first, so that the checks behind it are reached. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ponder_model *model(void)
{
    static ponder_model *m;
    char path[600];
    const char *folder = getenv("PONDER_TEST_DATA");
    snprintf(path, sizeof path, "%s/muse-glimmer", folder ? folder : "tests/data");
    ponder_config *c;
    if (m || ponder_config_new(&c, NULL) != PONDER_OK) return m;
    ponder_config_set_i64(c, PONDER_P_THREADS, 1);
    if (ponder_model_open(&m, path, c) != PONDER_OK) abort(); /* the data is not there */
    ponder_config_free(c);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ponder_config *c;
    ponder_session *s;
    uint8_t *copy = malloc(size + 1);
    if (!copy || ponder_config_new(&c, NULL) != PONDER_OK) abort();
    if (size) memcpy(copy, data, size);
    if (size >= 8) {
        uint64_t sum = pn_hash64(copy, size - 8, 1);
        memcpy(copy + size - 8, &sum, 8);
    }
    ponder_config_set_i64(c, PONDER_P_CONTEXT, 128);
    ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 2);
    ponder_config_set_str(c, PONDER_P_KV_TYPE, "f16");
    if (ponder_session_new(&s, model(), c) != PONDER_OK) abort();
    if (ponder_session_load(s, copy, size) == PONDER_OK) ponder_session_generate(s, NULL, NULL);
    ponder_session_free(s);
    ponder_config_free(c);
    free(copy);
    return 0;
}
