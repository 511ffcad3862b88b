#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct ask {
    answer_options answer;
    const char *system;
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

static int run(ask *a, ponder_model *model, ponder_config *config)
{
    ponder_session *session;
    ponder_status status;
    int code = open_session(&session, model, config, a->raw ? NULL : a->system);
    if (code)
        return code;
    status = a->raw ? ponder_session_prompt(session, a->question, a->bytes, PONDER_TOKENIZE_SPECIAL | PONDER_TOKENIZE_BOS)
                    : ponder_session_add(session, "user", a->question, a->bytes);
    if (status != PONDER_OK)
        code = fail("question", status, ponder_session_error(session));
    else if ((status = answer(session, &a->answer)) != PONDER_OK)
        code = fail("answer", status, ponder_session_error(session));
    else
        code = finish_output();
    ponder_session_free(session);
    return code;
}

static int open_and_run(ask *a, ponder_config *config, const char *path)
{
    ponder_model *model;
    int code = open_model(&model, path, config, a->answer.quiet);
    if (code)
        return code;
    code = run(a, model, config);
    ponder_model_free(model);
    return code;
}

int command_ask(int argc, char **argv)
{
    ask a = {0};
    int args, code;
    const option table[] = {
        {"--system", "TEXT", "a system message before the question", OPTION_TEXT, &a.system, 0},
        {"--raw", NULL, "the text is the whole prompt: no chat template around it, special tokens are parsed", OPTION_FLAG, &a.raw, 0},
        OPTIONS_ANSWERING,
        {"--stop", "TEXT", "end before this text; may be given again", OPTION_PARAM, NULL, PONDER_P_STOP},
        OPTION_ANY,
        {"--no-thoughts", NULL, "do not show the private reasoning", OPTION_FLAG, &a.answer.no_thoughts, 0},
        {"--quiet", NULL, "no progress, no rates", OPTION_FLAG, &a.answer.quiet, 0},
    };
    const options o = {
        "ask MODEL [QUESTION...]",
        "Answers one question, streaming. MODEL is a GGUF file or a Hugging Face folder. The answer goes to standard output;\n"
        "thoughts, progress and rates go to standard error. Without a QUESTION, or with -, it is read from standard input.\n"
        "Ctrl-C ends the answer where it is.",
        "examples:\n"
        "  ponder ask model.gguf Why is the sky blue?\n"
        "  ponder ask model.gguf --max-tokens 100 - < letter.txt > summary.txt\n"
        "  ponder ask model.gguf --raw 'Once upon a time'",
        table, sizeof table / sizeof *table, new_config(), 1, INT_MAX};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON && !(code = read_question(&a, args - 1, argv + 2)))
        code = open_and_run(&a, o.config, argv[1]);
    free(a.question);
    ponder_config_free(o.config);
    return code;
}
