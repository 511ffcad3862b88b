// What the suite asks of the peer and its own programs do not tell, built against its llama.h.
//   peer ids MODEL COUNT <TEXT          prints the begin token (-1: the model wants none), then COUNT ids of the text
//   peer logits MODEL T KV OUT 1,2,3    float32 [positions][vocab] after a header of 128 bytes; KV: f16, or f32 for
//                                       a run in F32 throughout (no flash attention, which would go through F16)
//   peer first MODEL T MODE N           loads (MODE: map or read), prefills 8 tokens, takes the most likely N (1 or 2) in turn, and prints a
//                                       line: the most memory the process had, in bytes
//   peer decode MODEL T MS              decodes for so many milliseconds and prints the tokens a second
#include "llama.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <iostream>
#include <string>
#include <vector>

static void quiet(ggml_log_level, const char *, void *) {}

static llama_model *load(const char *path, bool vocab_only, bool read = false)
{
    llama_model_params p = llama_model_default_params();
    p.vocab_only = vocab_only;
    p.load_mode = read ? LLAMA_LOAD_MODE_NONE : LLAMA_LOAD_MODE_MMAP;
    llama_model *model = llama_model_load_from_file(path, p);
    if (!model) {
        fprintf(stderr, "peer: cannot load %s\n", path);
        exit(1);
    }
    return model;
}

static int print_ids(const char *path, size_t count)
{
    llama_model *model = load(path, true);
    const llama_vocab *vocab = llama_model_get_vocab(model);
    std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    std::vector<llama_token> ids(text.size() + 16);
    int n = llama_tokenize(vocab, text.data(), (int)text.size(), ids.data(), (int)ids.size(), false, false);
    if (n < 0)
        return 1;
    printf("%d\n", llama_vocab_get_add_bos(vocab) ? llama_vocab_bos(vocab) : -1);
    for (size_t i = 0; i < (size_t)n && i < count; i++)
        printf("%d ", ids[i]);
    puts("");
    return 0;
}

static int write_logits(const char *path, int threads, bool f32, const char *out, char *list)
{
    std::vector<llama_token> ids;
    for (char *word = strtok(list, ","); word; word = strtok(nullptr, ","))
        ids.push_back(atoi(word));
    llama_model *model = load(path, false);
    llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = (uint32_t)ids.size();
    p.n_threads = p.n_threads_batch = threads;
    if (f32) {
        p.type_k = p.type_v = GGML_TYPE_F32;
        p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    llama_context *context = llama_init_from_model(model, p);
    llama_batch batch = llama_batch_init((int)ids.size(), 0, 1);
    FILE *file = fopen(out, "wb");
    if (!context || !file)
        return 1;
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = (llama_pos)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = (int)ids.size();
    if (llama_decode(context, batch))
        return 1;
    const std::vector<char> header(128);
    size_t vocab = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model)), rows = 0;
    fwrite(header.data(), 1, header.size(), file);
    for (size_t i = 0; i < ids.size(); i++)
        rows += fwrite(llama_get_logits_ith(context, (int)i), vocab * sizeof(float), 1, file);
    return fclose(file) || rows != ids.size();
}

// Decodes n ids; the most likely token behind them.
static bool decode_ids(llama_context *context, llama_token *ids, int n, llama_token *next)
{
    static llama_sampler *greedy = llama_sampler_init_greedy();
    if (llama_decode(context, llama_batch_get_one(ids, n)))
        return false;
    *next = llama_sampler_sample(greedy, context, -1);
    return true;
}

// A context of the length that `ponder bench` makes room for, after the same short prompt.
static llama_context *begin(const char *path, int threads, bool read, llama_token *next)
{
    enum { CONTEXT = 768, PROMPT = 8 };
    llama_model *model = load(path, false, read);
    llama_context_params p = llama_context_default_params();
    p.n_ctx = CONTEXT;
    p.n_batch = p.n_ubatch = 512;
    p.n_threads = p.n_threads_batch = threads;
    llama_context *context = llama_init_from_model(model, p);
    llama_token ids[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        ids[i] = 1000 + 7 * i;
    return context && decode_ids(context, ids, PROMPT, next) ? context : nullptr;
}

static int first(const char *path, int threads, bool read, int tokens)
{
    llama_token next;
    llama_context *context = begin(path, threads, read, &next);
    if (!context || (tokens > 1 && !decode_ids(context, &next, 1, &next)))
        return 1;
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (!line.compare(0, 6, "VmHWM:"))
            printf("%lld\n", 1024 * atoll(line.c_str() + 6));
    fflush(stdout);
    return 0;
}

static int decode(const char *path, int threads, int ms)
{
    using clock = std::chrono::steady_clock;
    llama_token next;
    llama_context *context = begin(path, threads, false, &next);
    if (!context)
        return 1;
    const auto start = clock::now();
    double seconds = 0;
    int n = 0;
    for (; n < 700 && seconds * 1e3 < ms; n++) {
        if (!decode_ids(context, &next, 1, &next))
            return 1;
        seconds = std::chrono::duration<double>(clock::now() - start).count();
    }
    printf("%.2f\n", n / seconds);
    return 0;
}

int main(int argc, char **argv)
{
    llama_log_set(quiet, nullptr);
    llama_backend_init();
    if (argc == 4 && !strcmp(argv[1], "ids"))
        return print_ids(argv[2], (size_t)atoll(argv[3]));
    if (argc == 7 && !strcmp(argv[1], "logits"))
        return write_logits(argv[2], atoi(argv[3]), !strcmp(argv[4], "f32"), argv[5], argv[6]);
    if (argc == 6 && !strcmp(argv[1], "first"))
        return first(argv[2], atoi(argv[3]), !strcmp(argv[4], "read"), atoi(argv[5]));
    if (argc == 5 && !strcmp(argv[1], "decode"))
        return decode(argv[2], atoi(argv[3]), atoi(argv[4]));
    fputs("peer: see its first lines\n", stderr);
    return 2;
}
