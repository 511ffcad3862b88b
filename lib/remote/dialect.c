/* Which servers there are. */
#include "remote/remote.h"

static const char *const names[] = {[PN_SERVER_OPENAI] = "openai", [PN_SERVER_VLLM] = "vllm", [PN_SERVER_SGLANG] = "sglang",
                                    [PN_SERVER_LLAMA] = "llama.cpp"};

const char *pn_dialect_name(pn_dialect d) { return names[d]; }

bool pn_dialect_by_name(const char *name, pn_dialect *out)
{
    for (size_t i = 0; i < PN_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return *out = (pn_dialect)i, true;
    return false;
}
