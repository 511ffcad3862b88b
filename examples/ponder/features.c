#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct features {
    media media;
    const char *npy;
    float *rows;
    size_t values, width, tokens;
} features;

/* "Time: 1.5s" stands before each pair of a video's frames; a model without a tokenizer has no such text. */
static size_t time_tokens(ponder_model *model, double second)
{
    ponder_tokenizer *tokenizer;
    char line[64];
    int bytes = snprintf(line, sizeof line, "Time: %.1fs", second);
    int32_t ids[64];
    size_t n = 0;
    if (ponder_model_tokenizer(&tokenizer, model, NULL) != PONDER_OK)
        return 0;
    if (ponder_tokenize(tokenizer, line, (size_t)bytes, 0, ids, 64, &n, NULL) != PONDER_OK)
        n = 0;
    ponder_tokenizer_free(tokenizer);
    return n;
}

/* What it takes in a prompt: a picture's number is the library's, known before anything is encoded. */
static ponder_status count_tokens(features *f, ponder_model *model, ponder_error *error)
{
    const option_given *given = &f->media.files.given[0];
    f->tokens = f->values / f->width + 2;
    if (given->which == MEDIA_IMAGE) {
        uint32_t width, height;
        ponder_status status = ponder_image_size(media_picture(&f->media), &width, &height);
        return status == PONDER_OK ? ponder_model_image_tokens(model, width, height, &f->tokens, error) : status;
    }
    if (given->which == MEDIA_FRAMES) {
        f->tokens--; /* a mark at the beginning, and one behind every pair */
        for (size_t i = 0; i < given->n; i += 2)
            f->tokens += time_tokens(model, (double)i / f->media.fps) + 1;
    }
    return PONDER_OK;
}

static ponder_status encode(features *f, ponder_session *session)
{
    ponder_status status = ponder_session_features(session, NULL, 0, &f->values);
    if (status != PONDER_OK)
        return status;
    f->rows = must_realloc(f->rows, f->values, sizeof *f->rows);
    return ponder_session_features(session, f->rows, f->values, &f->values);
}

/* One session, of this many tokens. PONDER_E_CONTEXT is not printed: there are larger ones. */
static ponder_status try_context(features *f, ponder_model *model, ponder_config *config, int64_t tokens)
{
    ponder_session *session = NULL;
    const char *what = "session";
    ponder_status status = ponder_config_set_i64(config, PONDER_P_CONTEXT, tokens);
    if (status == PONDER_OK)
        status = ponder_session_new(&session, model, config);
    if (session) {
        interrupt_cancels(session);
        status = media_put(&f->media, session, &what);
        if (status == PONDER_OK)
            status = encode(f, session);
        interrupt_cancels(NULL);
    }
    if (status != PONDER_OK && status != PONDER_E_CONTEXT)
        fail(what, status, session ? ponder_session_error(session) : ponder_config_error(config));
    ponder_session_free(session);
    return status;
}

/* A context large enough for the rows, whatever the model was made for: the text model does not see them here. */
static int compute(features *f, ponder_model *model, ponder_config *config)
{
    ponder_error error = {.size = sizeof error};
    ponder_status status = PONDER_E_CONTEXT;
    f->width = (size_t)model_number(model, PONDER_INFO_WIDTH);
    for (int64_t tokens = 1024; status == PONDER_E_CONTEXT; tokens *= 4)
        status = try_context(f, model, config, tokens);
    if (status != PONDER_OK)
        return EXIT_FAIL;
    status = count_tokens(f, model, &error);
    return status == PONDER_OK ? 0 : fail(f->media.files.given[0].words[0], status, error.text);
}

static int report(const features *f)
{
    size_t rows = f->values / f->width;
    int error = npy_write(f->npy, f->rows, rows, f->width);
    if (error)
        return fail(f->npy, PONDER_E_IO, strerror(error));
    printf("{\"rows\":%zu,\"width\":%zu,\"tokens\":%zu}\n", rows, f->width, f->tokens);
    return finish_output();
}

static int open_and_run(features *f, ponder_config *config, const char *path)
{
    ponder_model *model = NULL;
    int code;
    if (f->media.files.n != 1)
        return fail_usage("features", "wants one of --image, --audio and --frames");
    if (!f->npy)
        return fail_usage("features", "--npy is needed");
    code = media_open(&f->media, config);
    if (!code)
        code = open_model(&model, path, config, 1);
    if (!code)
        code = compute(f, model, config);
    if (!code)
        code = report(f);
    ponder_model_free(model);
    free(f->rows);
    return code;
}

int command_features(int argc, char **argv)
{
    features f = {.media = MEDIA_DEFAULTS};
    int args, code;
    const option table[] = {
        OPTION_IMAGE(f.media, "a PNG or JPEG picture"),
        OPTION_AUDIO(f.media, "a WAV sound"),
        OPTION_FRAMES(f.media),
        {"--max-tokens", "N", "most rows of a picture, which is made smaller for it; 0: the model's own limit", OPTION_PARAM, NULL, PONDER_P_IMAGE_TOKENS},
        OPTION_ALPHA(f.media),
        {"--npy", "OUT.npy", "write float32 [rows][width] (needed)", OPTION_TEXT, &f.npy, 0},
        OPTION_PROJECTOR,
        OPTION_THREADS,
        OPTION_ANY,
    };
    const options o = {
        "features MODEL (--image F | --audio F | --frames F...) [--max-tokens N] [--alpha white|drop] --npy OUT.npy",
        "The rows that a picture, a sound or a video puts in the place of its placeholder tokens, after the model's norm of its\n"
        "input: what the text model reads. For scripts that compare models. MODEL is a Hugging Face folder, or a GGUF file with\n"
        "--projector; it may lack a tokenizer. Prints one JSON object: {\"rows\":R,\"width\":W,\"tokens\":T}; T counts the marks\n"
        "round the rows too, and a video's times where there is a tokenizer.",
        "examples:\n"
        "  ponder features muse/ --image a.png --max-tokens 256 --npy rows.npy\n"
        "  ponder features muse.gguf --projector mmproj.gguf --frames f0.png f1.png f2.png f3.png --npy rows.npy",
        table, sizeof table / sizeof *table, new_config(), 1, 1};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = open_and_run(&f, o.config, argv[1]);
    media_free(&f.media);
    ponder_config_free(o.config);
    return code;
}
