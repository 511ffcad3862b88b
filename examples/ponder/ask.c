#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct ask {
    answer_options answer;
    media media;
    const char *system, *schema, *tools;
    int raw;
    char *question;
    size_t bytes;
} ask;

/* The words of the command line joined by spaces, or standard input for "-" and no words at all. */
static int read_question(ask *a, int words, char **word)
{
    size_t room = 1;
    if (!words || (words == 1 && !strcmp(word[0], "-"))) {
        a->question = read_all(stdin, &a->bytes);
        return a->question ? 0 : fail("standard input", PONDER_E_IO, "cannot be read");
    }
    for (int i = 0; i < words; i++)
        room += strlen(word[i]) + 1;
    a->question = must_alloc(room, 1);
    a->question[0] = 0;
    for (int i = 0; i < words; i++) {
        strcat(a->question, word[i]);
        if (i + 1 < words)
            strcat(a->question, " ");
    }
    a->bytes = strlen(a->question);
    return 0;
}

static int add_tools(const char *path, ponder_session *session)
{
    size_t bytes;
    char *json = read_file(path, &bytes);
    ponder_status status;
    if (!json)
        return EXIT_FAIL;
    status = ponder_session_tools(session, json, bytes);
    free(json);
    return status == PONDER_OK ? 0 : fail(path, status, ponder_session_error(session));
}

static int put_question(const ask *a, ponder_session *session)
{
    ponder_status status;
    int code = a->tools ? add_tools(a->tools, session) : 0;
    if (!code)
        code = media_attach(&a->media, session);
    if (code)
        return code;
    status = a->raw ? ponder_session_prompt(session, a->question, a->bytes, PONDER_TOKENIZE_SPECIAL | PONDER_TOKENIZE_BOS)
                    : ponder_session_add(session, "user", a->question, a->bytes);
    return status == PONDER_OK ? 0 : fail("question", status, ponder_session_error(session));
}

static int run(ask *a, ponder_model *model, ponder_config *config)
{
    ponder_session *session;
    ponder_status status;
    int code = open_session(&session, model, config, a->raw ? NULL : a->system);
    if (code)
        return code;
    code = put_question(a, session);
    if (!code && (status = answer(session, &a->answer)) != PONDER_OK)
        code = fail("answer", status, ponder_session_error(session));
    if (!code)
        code = finish_output();
    ponder_session_free(session);
    return code;
}

static int open_and_run(ask *a, ponder_config *config, const char *path)
{
    ponder_model *model = NULL;
    int code = a->schema ? set_schema(config, a->schema) : 0;
    if (!code)
        code = media_open(&a->media, config);
    if (!code)
        code = open_model(&model, path, config, a->answer.quiet);
    if (!code)
        code = run(a, model, config);
    ponder_model_free(model);
    return code;
}

int command_ask(int argc, char **argv)
{
    ask a = {.media = MEDIA_DEFAULTS};
    int args, code;
    const option table[] = {
        {"--system", "TEXT", "a system message before the question", OPTION_TEXT, &a.system, 0},
        OPTION_IMAGE(a.media, "a PNG or JPEG picture, before the question; may be given again"),
        OPTION_AUDIO(a.media, "a WAV sound, likewise; all of them stay in order"),
        OPTION_FRAMES(a.media),
        OPTION_ALPHA(a.media),
        {"--json", "FILE", "a JSON Schema that binds the answer (never the thought)", OPTION_TEXT, &a.schema, 0},
        {"--regex", "TEXT", "a regular expression that binds the answer", OPTION_PARAM, NULL, PONDER_P_REGEX},
        {"--tools", "FILE", "JSON list of tools the model may call; its calls are printed as JSON lines, and not run", OPTION_TEXT, &a.tools, 0},
        {"--raw", NULL, "the text is the whole prompt: no chat template around it, special tokens are parsed", OPTION_FLAG, &a.raw, 0},
        OPTIONS_ANSWERING,
        OPTIONS_BUDGET,
        {"--stop", "TEXT", "end before this text; may be given again", OPTION_PARAM, NULL, PONDER_P_STOP},
        OPTION_ANY,
        {"--no-thoughts", NULL, "do not show the private reasoning", OPTION_FLAG, &a.answer.no_thoughts, 0},
        {"--quiet", NULL, "no progress, no rates", OPTION_FLAG, &a.answer.quiet, 0},
    };
    const options o = {
        "ask MODEL [QUESTION...]",
        "Answers one question, streaming. MODEL is a GGUF file, a Hugging Face folder, or the address of a server\n"
        "(http://..., see --set remote_model=..., remote_key_file=...). The answer goes to standard output;\n"
        "thoughts, commentary, progress and rates go to standard error. Without a QUESTION, or with -, it is read from standard\n"
        "input. Ctrl-C ends the answer where it is.",
        "examples:\n"
        "  ponder ask model.gguf Why is the sky blue?\n"
        "  ponder ask model.gguf --max-tokens 100 - < letter.txt > summary.txt\n"
        "  ponder ask model.gguf --raw 'Once upon a time'\n"
        "  ponder ask muse/ --image receipt.jpg --json receipt-schema.json What was bought?\n"
        "  ponder ask muse/ --audio note.wav --frames f0.png f1.png f2.png f3.png -- What is said, and what is seen?\n"
        "  ponder ask muse/ --tools tools.json Will it rain in Lyon?      (prints {\"event\":\"tool_call\",..} lines as `ponder parse`)",
        table, sizeof table / sizeof *table, new_config(), 1, INT_MAX};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    a.answer.calls = a.tools != NULL;
    if (code == OPTIONS_GO_ON && !(code = read_question(&a, args - 1, argv + 2)))
        code = open_and_run(&a, o.config, argv[1]);
    media_free(&a.media);
    free(a.question);
    ponder_config_free(o.config);
    return code;
}
