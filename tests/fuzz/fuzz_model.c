/* A whole model from hostile bytes: opened from memory, asked for two tokens when it opens. */
#include <stdio.h>
#include <stdlib.h>

#include "ponder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t ids[] = {1, 5, 3};
    ponder_config *c;
    ponder_model *m;
    ponder_session *s;
    if (ponder_config_new(&c, NULL) != PONDER_OK) abort();
    ponder_config_set_i64(c, PONDER_P_THREADS, 1);
    ponder_config_set_i64(c, PONDER_P_BATCH, 16);
    ponder_config_set_i64(c, PONDER_P_CONTEXT, 64);
    ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 2);
    ponder_config_set_i64(c, PONDER_P_MEMORY_CAP, 256 << 20); /* absurd sizes end here */
    if (ponder_model_open_memory(&m, data, size, c) == PONDER_OK) {
        if (ponder_session_new(&s, m, c) == PONDER_OK) {
            ponder_session_prompt_ids(s, ids, 3);
            ponder_session_generate(s, NULL, NULL);
            ponder_session_free(s);
        }
        ponder_model_free(m);
    }
    ponder_config_free(c);
    return 0;
}
