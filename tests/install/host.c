/* A program outside the tree: it sees only the installed header and library. */
#include <stdio.h>
#include <string.h>

#include <ponder.h>

int main(void)
{
    ponder_config *config;
    ponder_model *model;
    if (ponder_abi() != PONDER_ABI) return 1;
    if (ponder_config_new(&config, NULL) != PONDER_OK) return 2;
    if (ponder_config_set_i64(config, PONDER_P_THREADS, 1) != PONDER_OK) return 3;
    ponder_status status = ponder_model_open(&model, "no such file.gguf", config);
    if (status != PONDER_E_IO || model || !*ponder_config_error(config)) return 4;
    printf("ponder %u: %s: %s\n", (unsigned)ponder_version(), ponder_status_name(status), ponder_config_error(config));
    ponder_config_free(config);
    return 0;
}
