#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

typedef struct chat {
    answer_options answer;
    const char *system;
    ponder_model *model;
    ponder_config *config;
    ponder_session *session;
} chat;

static void prompt(const char *text)
{
    if (!is_terminal(stdin))
        return;
    printf("%s%s%s", tint(stdout, TINT_PROMPT), text, tint(stdout, TINT_PLAIN));
    fflush(stdout);
}

/* One line without its newline; a line that ends in a backslash goes on in the next. Ctrl-C throws away what was typed.
 * -1: the end of the input. */
static long read_message(char **text, size_t *room)
{
    size_t have = 0;
    char *line = NULL;
    size_t line_room = 0;
    prompt("> ");
    for (;;) {
        /* A terminal gives whole lines, so nothing is left in stdin's buffer while we wait. */
        int waited = is_terminal(stdin) ? wait_for_input(STDIN_FILENO) : 0;
        ssize_t got = waited == 0 ? getline(&line, &line_room, stdin) : -1;
        if (got < 0) {
            int again = interrupted();
            clearerr(stdin);
            if (!again)
                break;
            fputs("  (Ctrl-D or /quit ends the chat)\n", stderr);
            have = 0;
            prompt("> ");
            continue;
        }
        while (got && (line[got - 1] == '\n' || line[got - 1] == '\r'))
            got--;
        *text = must_realloc(*text, *room = have + (size_t)got + 2, 1);
        memcpy(*text + have, line, (size_t)got);
        have += (size_t)got;
        if (!have || (*text)[have - 1] != '\\') {
            (*text)[have] = 0;
            free(line);
            return (long)have;
        }
        (*text)[have - 1] = '\n';
        prompt(". ");
    }
    free(line);
    return -1;
}

static int begin(chat *c)
{
    ponder_session_free(c->session);
    return open_session(&c->session, c->model, c->config, c->system);
}

static void print_commands(void)
{
    fputs("/image FILE   puts a picture before the next message\n/audio FILE   ... or a sound\n"
          "/new          begins another conversation\n/quit         ends (Ctrl-D too)\n/help         this\n"
          "A line that ends in \\ goes on in the next one. Ctrl-C ends the running answer.\n", stderr);
}

/* What follows the command on its line, without blanks round it; NULL when it is another command. */
static const char *file_of(const char *command, char *text)
{
    size_t n = strlen(command);
    char *end;
    if (strncmp(text, command, n) || (text[n] && text[n] != ' ' && text[n] != '\t'))
        return NULL;
    text += n + strspn(text + n, " \t");
    for (end = text + strlen(text); end > text && (end[-1] == ' ' || end[-1] == '\t'); end--)
        ;
    *end = 0;
    return text;
}

/* As a failed turn. */
static int attach(chat *c, int which, const char *path)
{
    media m = MEDIA_DEFAULTS;
    int code = *path ? 0 : fail_usage(which == MEDIA_IMAGE ? "/image" : "/audio", "wants a FILE");
    media_add(&m, which, path);
    if (!code && !(code = media_open(&m, c->config)))
        code = media_attach(&m, c->session);
    media_free(&m);
    return code && is_terminal(stdin) ? 0 : code ? EXIT_FAIL : 0;
}

/* A failed turn ends a script with an error, and a person's chat not at all. */
static int turn(chat *c, const char *text, size_t bytes)
{
    ponder_status status = ponder_session_add(c->session, "user", text, bytes);
    if (status == PONDER_OK)
        status = answer(c->session, &c->answer);
    if (status == PONDER_OK)
        return 0;
    fail("answer", status, ponder_session_error(c->session));
    return is_terminal(stdin) && status != PONDER_E_UNSUPPORTED ? 0 : EXIT_FAIL;
}

/* One line that was typed. */
static int obey(chat *c, char *text, size_t bytes)
{
    const char *file;
    if (!strcmp(text, "/help")) {
        print_commands();
        return 0;
    }
    if (!strcmp(text, "/new"))
        return begin(c);
    if ((file = file_of("/image", text)))
        return attach(c, MEDIA_IMAGE, file);
    if ((file = file_of("/audio", text)))
        return attach(c, MEDIA_AUDIO, file);
    return turn(c, text, bytes);
}

static int talk(chat *c)
{
    char *text = NULL;
    size_t room = 0;
    long bytes;
    int code = begin(c);
    while (!code && (bytes = read_message(&text, &room)) >= 0) {
        if (!bytes)
            continue;
        if (!strcmp(text, "/quit"))
            break;
        code = obey(c, text, (size_t)bytes);
    }
    if (!code && bytes < 0)
        prompt("\n");
    free(text);
    ponder_session_free(c->session);
    return code ? code : finish_output();
}

static void greet(const chat *c)
{
    char name[128], kind[64], type[32];
    if (c->answer.quiet || !is_terminal(stdin))
        return;
    model_text(c->model, PONDER_INFO_NAME, name, sizeof name);
    model_text(c->model, PONDER_INFO_ARCHITECTURE, kind, sizeof kind);
    model_text(c->model, PONDER_INFO_TYPE, type, sizeof type);
    fprintf(stderr, "%s%s%s (%s, %s) on %d threads; /help lists what to type\n", tint(stderr, TINT_BOLD),
            *name ? name : "a model", tint(stderr, TINT_PLAIN), kind, type, (int)model_number(c->model, PONDER_INFO_THREADS));
}

int command_chat(int argc, char **argv)
{
    chat c = {0};
    int args, code;
    const option table[] = {
        {"--system", "TEXT", "a system message at the beginning", OPTION_TEXT, &c.system, 0},
        OPTIONS_ANSWERING,
        OPTION_ANY,
        {"--no-thoughts", NULL, "do not show the private reasoning", OPTION_FLAG, &c.answer.no_thoughts, 0},
        {"--quiet", NULL, "no greeting, no progress, no rates", OPTION_FLAG, &c.answer.quiet, 0},
    };
    const options o = {
        "chat MODEL",
        "A conversation: one line is one message, and a later turn keeps all that was said. MODEL is a GGUF file, the address of a\n"
        "server (http://...) or a Hugging\n"
        "Face folder. Ctrl-C ends the running answer and not the chat; Ctrl-D or /quit ends the chat; /new begins another;\n"
        "/image FILE and /audio FILE put a picture or a sound before the next message. Answers go to standard output; thoughts,\n"
        "commentary, progress and rates to standard error. Lines may also come from a file.",
        "examples:\n"
        "  ponder chat model.gguf --system 'You answer in one sentence.'\n"
        "  printf 'Hello\\nWhat did I say?\\n' | ponder chat model.gguf --quiet\n"
        "  printf '/image cat.jpg\\nWhat is it?\\nWhat colour is it?\\n' | ponder chat muse/ --quiet",
        table, sizeof table / sizeof *table, c.config = new_config(), 1, 1};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON && !(code = open_model(&c.model, argv[1], c.config, c.answer.quiet))) {
        greet(&c);
        code = talk(&c);
    }
    ponder_model_free(c.model);
    ponder_config_free(c.config);
    return code;
}
