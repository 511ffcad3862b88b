/* First byte: what the rest is (a schema, a pattern, the parameters of a tool) and flags. What compiles is walked: no mask may be
 * empty unless the text may end, and what a mask allows must be taken. */
#include <stdlib.h>

#include "grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { TOKENS = 256 + 40, STEPS = 24 };

static const char *bytes_of(void *user, uint32_t id, size_t *n)
{
    static const char *const more[] = {"{\"", "\": ", "\"}", "}}", "]}", "[[", "\",", "\xc3\xa9", "abc", "</atem", ":parameter>", "\\u00", "12", ".5", "true", "null", "  ", "\n  ", "-0", "e1"};
    static char one[256];
    one[id & 255] = (char)id;
    if (id < 256) return *n = 1, &one[id];
    id -= 256;
    *n = id < PN_COUNT(more) ? strlen(more[id]) : 0;
    return id < PN_COUNT(more) ? more[id] : NULL;
}

static void walk(pn_matcher *m, const uint8_t *data, size_t n)
{
    uint32_t words[(TOKENS + 31) / 32];
    for (size_t i = 0; i < STEPS; i++) {
        ponder_error err = {.size = sizeof err};
        const ponder_status st = pn_matcher_mask(m, words, &err);
        if (st == PONDER_E_RANGE) return; /* too many ways at once */
        if (st) abort();
        uint32_t id = (uint32_t)(n ? data[i * 7 % n] * 5 : 0) % TOKENS, tries = 0;
        while (tries < TOKENS && !(words[id / 32] >> id % 32 & 1)) {
            tries++;
            id = (id + 1) % TOKENS;
        }
        if (tries == TOKENS) {
            if (!pn_matcher_can_end(m)) abort();
            return;
        }
        if (pn_matcher_accept(m, (int32_t)id, &err)) abort();
    }
    if (pn_matcher_rollback(m, 3)) abort();
}

static ponder_status compile(pn_grammar **g, uint8_t kind, const char *text, size_t n)
{
    const uint32_t flags = kind >> 4 & 3;
    const pn_tool_schema tools[] = {{pn_str_of("f"), {text, n}}, {pn_str_of("g"), {text, n / 2}}};
    const pn_piece pieces[] = {{.kind = PN_PIECE_UNTIL, .text = {text, n}}, {.kind = PN_PIECE_OR}, {.kind = PN_PIECE_WITHOUT, .text = {text, n / 2}}};
    switch (kind & 7) {
    case 0: return pn_grammar_regex(g, text, n, NULL, NULL);
    case 1: return pn_grammar_call_muse(g, tools, 1, flags, NULL, NULL);
    case 2: return pn_grammar_call_json(g, tools, 1 + (kind >> 7), flags, NULL, NULL);
    case 3: return pn_grammar_pieces(g, pieces, 3, NULL, NULL);
    default: return pn_grammar_schema(g, text, n, flags, NULL, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static pn_vocab_trie *trie;
    pn_grammar *g;
    pn_matcher *m;
    if (!trie && pn_vocab_trie_new(&trie, TOKENS, bytes_of, NULL, NULL, NULL)) abort();
    if (n < 1 || compile(&g, data[0], (const char *)data + 1, n - 1)) return 0;
    if (!pn_matcher_new(&m, g, trie, 8, 1 << 20, NULL, NULL)) {
        walk(m, data, n);
        pn_matcher_free(m);
    }
    pn_grammar_free(g);
    return 0;
}
