#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct logits {
    const char *ids_text, *npy;
    int64_t greedy, hidden;
    int native;
    int32_t *ids;
    size_t n;
    size_t vocab, width;
    float *rows;      /* what --npy writes: [n][vocab], or [n][width] with --hidden */
    float *last;      /* [vocab]: logits after the last token */
    int32_t *more;    /* [greedy] */
} logits;

/* "1,2,3"; spaces count as commas. */
static int parse_ids(const char *text, int32_t **ids, size_t *n)
{
    size_t room = 0;
    *n = 0;
    *ids = NULL;
    while (*(text += strspn(text, ", \t\n"))) {
        char *end;
        long value = strtol(text, &end, 10);
        if (end == text || value < 0 || value > INT32_MAX || (*end && !strchr(", \t\n", *end)))
            return fail_usage("--ids", "wants numbers with commas between them");
        if (*n == room)
            *ids = must_realloc(*ids, room = room * 2 + 64, sizeof **ids);
        (*ids)[(*n)++] = (int32_t)value;
        text = end;
    }
    return *n ? 0 : fail_usage("--ids", "wants at least one number");
}

/* Ties go to the lowest id. */
static int32_t arg_max(const float *values, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] > values[best])
            best = i;
    return (int32_t)best;
}

/* All rows at once only for --npy: a long prompt's logits are large. */
static ponder_status eval_prompt(logits *l, ponder_session *session)
{
    ponder_eval eval = {.size = sizeof eval};
    size_t n;
    ponder_status status;
    if (l->hidden >= 0) {
        l->rows = must_alloc(l->n, l->width * sizeof(float));
        eval.hidden = l->rows;
        eval.layer = (int32_t)l->hidden;
    } else if (l->npy) {
        l->rows = must_alloc(l->n, l->vocab * sizeof(float));
        eval.logits = l->rows;
    }
    status = ponder_session_eval(session, l->ids, l->n, &eval);
    if (status == PONDER_OK && l->greedy)
        status = ponder_session_logits(session, l->last, l->vocab, &n);
    return status;
}

/* One token at a time, each through the same call a host would make. */
static ponder_status eval_greedy(logits *l, ponder_session *session)
{
    ponder_eval eval = {.size = sizeof eval, .logits = l->last};
    for (int64_t i = 0; i < l->greedy; i++) {
        ponder_status status;
        l->more[i] = arg_max(l->last, l->vocab);
        if (i + 1 == l->greedy)
            break;
        status = ponder_session_eval(session, &l->more[i], 1, &eval);
        if (status != PONDER_OK)
            return status;
    }
    return PONDER_OK;
}

static int compute(logits *l, ponder_model *model, ponder_config *config)
{
    ponder_session *session;
    ponder_status status;
    int code = open_session(&session, model, config, NULL);
    if (code)
        return code;
    l->vocab = (size_t)model_number(model, PONDER_INFO_VOCAB);
    l->width = (size_t)model_number(model, PONDER_INFO_WIDTH);
    l->last = must_alloc(l->vocab, sizeof(float));
    l->more = must_alloc((size_t)l->greedy, sizeof(int32_t));
    interrupt_cancels(session);
    status = eval_prompt(l, session);
    if (status == PONDER_OK)
        status = eval_greedy(l, session);
    interrupt_cancels(NULL);
    if (status != PONDER_OK)
        code = fail("logits", status, ponder_session_error(session));
    ponder_session_free(session);
    return code;
}

static int report(const logits *l)
{
    int error = l->npy ? npy_write(l->npy, l->rows, l->n, l->hidden >= 0 ? l->width : l->vocab) : 0;
    if (error)
        return fail(l->npy, PONDER_E_IO, strerror(error));
    printf("{\"positions\":%zu,\"vocab\":%zu,", l->n, l->vocab);
    if (l->hidden >= 0)
        printf("\"width\":%zu,\"layer\":%" PRId64 ",", l->width, l->hidden);
    printf("\"greedy\":");
    json_numbers(stdout, l->more, (size_t)l->greedy);
    puts("}");
    return finish_output();
}

/* The store and the room that this run needs, whatever the options before said. */
static int configure(const logits *l, ponder_config *config)
{
    ponder_status status = ponder_config_set_i64(config, PONDER_P_CONTEXT, (int64_t)l->n + l->greedy + 1);
    if (status == PONDER_OK && !l->native)
        status = ponder_config_set_str(config, PONDER_P_KV_TYPE, "f32");
    return status == PONDER_OK ? 0 : fail("logits", status, ponder_config_error(config));
}

static int open_and_run(logits *l, ponder_config *config, const char *path)
{
    ponder_model *model = NULL;
    int code;
    if (!l->ids_text)
        return fail_usage("logits", "--ids is needed");
    if (l->greedy < 0)
        return fail_usage("--greedy", "wants a number of tokens");
    code = parse_ids(l->ids_text, &l->ids, &l->n);
    if (!code)
        code = configure(l, config);
    if (!code)
        code = open_model(&model, path, config, 1);
    if (!code)
        code = compute(l, model, config);
    if (!code)
        code = report(l);
    ponder_model_free(model);
    free(l->ids);
    free(l->rows);
    free(l->last);
    free(l->more);
    return code;
}

int command_logits(int argc, char **argv)
{
    logits l = {.hidden = -1};
    int args, code;
    const option table[] = {
        {"--ids", "1,2,3", "the token ids to compute (needed)", OPTION_TEXT, &l.ids_text, 0},
        {"--greedy", "N", "go on with the N most likely tokens, each after the ones before", OPTION_NUMBER, &l.greedy, 0},
        {"--hidden", "LAYER", "hidden states after this layer (number of layers: after the last norm), not logits", OPTION_NUMBER, &l.hidden, 0},
        {"--npy", "OUT.npy", "write float32 [positions][vocab], or [positions][width] with --hidden", OPTION_TEXT, &l.npy, 0},
        {"--native", NULL, "the production kernels and store, instead of F32 arithmetic where weights are F32 or BF16", OPTION_FLAG, &l.native, 0},
        OPTION_THREADS,
        OPTION_ANY,
    };
    const options o = {
        "logits MODEL --ids 1,2,3 [--greedy N] [--hidden LAYER] [--npy OUT.npy] [--native]",
        "Logits after every token, for scripts that compare models. MODEL is a GGUF file or a Hugging Face folder, with or\n"
        "without a tokenizer. Prints one JSON object: {\"positions\":P,\"vocab\":V,\"greedy\":[ids]}.",
        "example:\n"
        "  ponder logits model.gguf --ids 1,2,3 --greedy 8 --npy logits.npy",
        table, sizeof table / sizeof *table, new_config(), 1, 1};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = open_and_run(&l, o.config, argv[1]);
    ponder_config_free(o.config);
    return code;
}
