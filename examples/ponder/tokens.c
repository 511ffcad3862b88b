#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "program.h"

/* A model's tokenizer without its weights: a folder has it in a file of its own. */
static int open_tokenizer(ponder_tokenizer **out, const char *path, ponder_config *config)
{
    struct stat st;
    ponder_status status;
    char *inside = NULL;
    if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
        inside = must_alloc(strlen(path) + sizeof "/tokenizer.json", 1);
        sprintf(inside, "%s/tokenizer.json", path);
    }
    status = ponder_tokenizer_open(out, inside ? inside : path, config);
    if (status != PONDER_OK)
        fail(inside ? inside : path, status, ponder_config_error(config));
    free(inside);
    return status == PONDER_OK ? 0 : EXIT_FAIL;
}

static int run_tokenize(ponder_tokenizer *tokenizer, int plain)
{
    ponder_error error = {.size = sizeof error};
    size_t bytes, n = 0, cap;
    uint32_t flags = plain ? 0 : PONDER_TOKENIZE_SPECIAL;
    char *text = read_all(stdin, &bytes);
    int32_t *ids;
    ponder_status status;
    if (!text)
        return fail("standard input", PONDER_E_IO, "cannot be read");
    cap = bytes + 16; /* a token has a byte at least; a SentencePiece tokenizer may add a few of its own */
    ids = must_alloc(cap, sizeof *ids);
    status = ponder_tokenize(tokenizer, text, bytes, flags, ids, cap, &n, &error);
    if (status == PONDER_E_SPACE) {
        ids = must_realloc(ids, cap = n, sizeof *ids);
        status = ponder_tokenize(tokenizer, text, bytes, flags, ids, cap, &n, &error);
    }
    free(text);
    if (status == PONDER_OK) {
        printf("{\"ids\":");
        json_numbers(stdout, ids, n);
        puts("}");
    }
    free(ids);
    return status == PONDER_OK ? finish_output() : fail("tokenize", status, error.text);
}

/* What stands behind `what`, if that comes next. */
static const char *after(const char *at, const char *what)
{
    if (!at)
        return NULL;
    at += strspn(at, " \t\r\n");
    return strncmp(at, what, strlen(what)) == 0 ? at + strlen(what) : NULL;
}

/* {"ids":[1,2]} (other members may stand behind), [1,2], or numbers with spaces, commas or newlines between them. */
static int32_t *parse_ids(const char *text, size_t *n)
{
    const char *object = after(text, "{"), *list = after(object ? after(after(object, "\"ids\""), ":") : text, "[");
    const char *at = list ? list : text, *end = list ? strchr(list, ']') : text + strlen(text);
    size_t room = 64;
    int32_t *ids;
    if (!end || (object && !list))
        return NULL;
    ids = must_alloc(room, sizeof *ids);
    for (*n = 0; (at += strspn(at, ", \t\r\n")) < end;) {
        char *behind;
        long value = strtol(at, &behind, 10);
        if (behind == at || value < 0 || value > INT32_MAX) {
            free(ids);
            return NULL;
        }
        if (*n == room)
            ids = must_realloc(ids, room *= 2, sizeof *ids);
        ids[(*n)++] = (int32_t)value;
        at = behind;
    }
    return ids;
}

static int print_text(ponder_tokenizer *tokenizer, const int32_t *ids, size_t n)
{
    ponder_error error = {.size = sizeof error};
    size_t bytes, cap = n * 16 + 64;
    char *text = must_alloc(cap, 1);
    ponder_status status = ponder_detokenize(tokenizer, ids, n, 1, text, cap, &bytes, &error);
    if (status == PONDER_E_SPACE) {
        text = must_realloc(text, cap = bytes, 1);
        status = ponder_detokenize(tokenizer, ids, n, 1, text, cap, &bytes, &error);
    }
    if (status == PONDER_OK)
        fwrite(text, 1, bytes, stdout);
    free(text);
    return status == PONDER_OK ? finish_output() : fail("detokenize", status, error.text);
}

static int run_detokenize(ponder_tokenizer *tokenizer, int plain)
{
    size_t bytes, n;
    char *text = read_all(stdin, &bytes);
    int32_t *ids;
    int code;
    (void)plain;
    if (!text)
        return fail("standard input", PONDER_E_IO, "cannot be read");
    ids = parse_ids(text, &n);
    code = ids ? print_text(tokenizer, ids, n) : fail("standard input", PONDER_E_FORMAT, "wants {\"ids\":[..]} or numbers");
    free(ids);
    free(text);
    return code;
}

/* `model` is the word that is no option, `file` the value of --tokenizer; exactly one of them is wanted. */
static int run(const char *model, const char *file, ponder_config *config, int (*what)(ponder_tokenizer *, int), int plain)
{
    ponder_tokenizer *tokenizer;
    int code;
    if (!model == !file)
        return fail_usage("tokenizer", "give either a MODEL or --tokenizer FILE");
    code = open_tokenizer(&tokenizer, model ? model : file, config);
    if (code)
        return code;
    code = what(tokenizer, plain);
    ponder_tokenizer_free(tokenizer);
    return code;
}

#define FILE_OPTION {"--tokenizer", "FILE", "a tokenizer.json, a tiktoken rank file, or a GGUF", OPTION_TEXT, &file, 0}

int command_tokenize(int argc, char **argv)
{
    const char *file = NULL;
    int args, code, plain = 0;
    const option table[] = {
        FILE_OPTION,
        {"--plain", NULL, "special tokens in the text are plain text", OPTION_FLAG, &plain, 0},
    };
    const options o = {
        "tokenize (--tokenizer FILE | MODEL) [--plain]",
        "Bytes on standard input to token ids: {\"ids\":[..]} on one line. Special tokens in the text become their ids unless\n"
        "--plain is given; no begin token is added. Weights are not loaded.",
        "example:\n  printf 'Hello world' | ponder tokenize model.gguf",
        table, sizeof table / sizeof *table, new_config(), 0, 1};
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = run(args ? argv[1] : NULL, file, o.config, run_tokenize, plain);
    ponder_config_free(o.config);
    return code;
}

int command_detokenize(int argc, char **argv)
{
    const char *file = NULL;
    int args, code;
    const option table[] = {FILE_OPTION};
    const options o = {
        "detokenize (--tokenizer FILE | MODEL)",
        "The inverse of tokenize: {\"ids\":[..]}, or numbers, on standard input to bytes on standard output. Special tokens come\n"
        "out as their text.",
        "example:\n  printf 'Hello world' | ponder tokenize model.gguf | ponder detokenize model.gguf",
        table, sizeof table / sizeof *table, new_config(), 0, 1};
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = run(args ? argv[1] : NULL, file, o.config, run_detokenize, 0);
    ponder_config_free(o.config);
    return code;
}
