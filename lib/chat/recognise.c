/* Names of templates, and which of them a file's Jinja text is. */
#include "chat/value.h"

static const char *const names[] = {"", "muse", "chatml", "gemma", "llama3", "smollm2", "qwen2", "qwen2.5", "qwen3", "gemma2",
                                    "llama3.1"};

pn_template pn_template_by_name(const char *name)
{
    for (size_t i = 1; name && i < PN_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return (pn_template)i;
    return PN_TEMPLATE_NONE;
}

const char *pn_template_name(pn_template t)
{
    return (size_t)t < PN_COUNT(names) ? names[t] : "";
}

static pn_template family(pn_template t)
{
    switch (t) {
    case PN_TEMPLATE_SMOLLM2: case PN_TEMPLATE_QWEN2: case PN_TEMPLATE_QWEN2_5: case PN_TEMPLATE_QWEN3:
        return PN_TEMPLATE_CHATML;
    case PN_TEMPLATE_GEMMA2: return PN_TEMPLATE_GEMMA;
    case PN_TEMPLATE_LLAMA3_1: return PN_TEMPLATE_LLAMA3;
    default: return t;
    }
}

pn_str pn_template_turn_end(pn_template t)
{
    switch (family(t)) {
    case PN_TEMPLATE_MUSE: return pn_str_of("<|eot|>");
    case PN_TEMPLATE_CHATML: return pn_str_of("<|im_end|>");
    case PN_TEMPLATE_GEMMA: return pn_str_of("<end_of_turn>");
    case PN_TEMPLATE_LLAMA3: return pn_str_of("<|eot_id|>");
    default: return pn_str_of("");
    }
}

pn_str pn_template_between(pn_template t)
{
    const pn_template f = family(t);
    return pn_str_of(f == PN_TEMPLATE_CHATML || f == PN_TEMPLATE_GEMMA ? "\n" : "");
}

static const char *find(pn_str s, const char *what)
{
    return s.p ? memmem(s.p, s.n, what, strlen(what)) : NULL;
}

static bool has(pn_str s, const char *what)
{
    return find(s, what) != NULL;
}

/* A newline in a Jinja string is either that byte or the escape. */
static size_t newline(pn_str s)
{
    if (s.n >= 1 && s.p[0] == '\n') return 1;
    return s.n >= 2 && s.p[0] == '\\' && s.p[1] == 'n' ? 2 : 0;
}

/* The literal after every "opening", a newline included, up to a quote; false when two differ or there is none.
 * An opening that the literal ends behind ("'...' + text") gives nothing and does not count. */
static bool literal_after(pn_str s, const char *opening, pn_str *out)
{
    bool any = false;
    *out = (pn_str){s.p, 0};
    for (const char *hit; (hit = find(s, opening)); ) {
        hit += strlen(opening);
        s = (pn_str){hit, s.n - (size_t)(hit - s.p)};
        const size_t skip = newline(s);
        size_t n = skip;
        while (n < s.n && s.p[n] != '\'' && s.p[n] != '"') n++;
        if (n == skip) {
            any = any || skip > 0;
            continue;
        }
        const pn_str text = {s.p + skip, n - skip};
        if (skip == 0 || (out->n && (out->n != text.n || memcmp(out->p, text.p, text.n) != 0))) return false;
        *out = text;
        any = true;
    }
    return any;
}

static bool begins(pn_str s, const char *what)
{
    const size_t n = strlen(what);
    return s.n >= n && memcmp(s.p, what, n) == 0;
}

static pn_template chatml(pn_str s)
{
    pn_str prompt, system;
    /* What this room's rendering does not write. */
    if (has(s, "bos_token") || has(s, "<|channel|>") || has(s, "capitalize") || has(s, "<function=")) return PN_TEMPLATE_NONE;
    if (!literal_after(s, "<|im_start|>assistant", &prompt) || prompt.n) return PN_TEMPLATE_NONE;
    const bool tools = has(s, "<tool_call>");
    literal_after(s, "<|im_start|>system", &system);
    if (tools && has(s, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")) return PN_TEMPLATE_QWEN2_5;
    if (begins(system, "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"))
        return tools ? PN_TEMPLATE_NONE : PN_TEMPLATE_SMOLLM2;
    if (begins(system, "You are a helpful assistant.<|im_end|>")) return tools ? PN_TEMPLATE_NONE : PN_TEMPLATE_QWEN2;
    if (system.n) return PN_TEMPLATE_NONE;
    if (tools) return has(s, "\"\\n\\n# Tools") || has(s, "\"# Tools") ? PN_TEMPLATE_QWEN3 : PN_TEMPLATE_NONE;
    return has(s, "<think>") ? PN_TEMPLATE_NONE : PN_TEMPLATE_CHATML;
}

static pn_template gemma(pn_str s)
{
    if (!has(s, "<end_of_turn>") || has(s, "<tool_call>")) return PN_TEMPLATE_NONE;
    if (has(s, "first_user_prefix")) return PN_TEMPLATE_GEMMA;
    return has(s, "System role not supported") ? PN_TEMPLATE_GEMMA2 : PN_TEMPLATE_NONE;
}

static pn_template llama3(pn_str s)
{
    if (!has(s, "<|end_header_id|>") || !has(s, "<|eot_id|>")) return PN_TEMPLATE_NONE;
    if (has(s, "Cutting Knowledge Date: December 2023") && has(s, "26 Jul 2024")) return PN_TEMPLATE_LLAMA3_1;
    return has(s, "Cutting Knowledge") || has(s, "tools") ? PN_TEMPLATE_NONE : PN_TEMPLATE_LLAMA3;
}

pn_template pn_template_recognise(pn_str s)
{
    /* Each family's opening mark; two of them in one text are neither. */
    const bool marks[] = {has(s, "<|start|>"), has(s, "<|im_start|>"), has(s, "<start_of_turn>"), has(s, "<|start_header_id|>")};
    if (marks[0] + marks[1] + marks[2] + marks[3] != 1) return PN_TEMPLATE_NONE;
    if (marks[1]) return chatml(s);
    if (marks[2]) return gemma(s);
    if (marks[3]) return llama3(s);
    const bool muse = has(s, "<|message|>") && has(s, "<|eot|>") && has(s, "<|eom|>") && has(s, "atem:") && has(s, "to=self") &&
                      !has(s, "<|channel|>");
    return muse ? PN_TEMPLATE_MUSE : PN_TEMPLATE_NONE;
}
