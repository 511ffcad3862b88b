#include <stdlib.h>

#include "program.h"

static int run(const char *name)
{
    ponder_error error = {.size = sizeof error};
    size_t bytes, n = 0, cap;
    char *text = NULL, *json = read_all(stdin, &bytes);
    ponder_status status;
    if (!json)
        return fail("standard input", PONDER_E_IO, "cannot be read");
    cap = 2 * bytes + (1 << 16); /* nearly always enough; otherwise the call says how much is */
    text = must_alloc(cap, 1);
    status = ponder_render(name, json, bytes, text, cap, &n, &error);
    if (status == PONDER_E_SPACE) {
        text = must_realloc(text, cap = n, 1);
        status = ponder_render(name, json, bytes, text, cap, &n, &error);
    }
    if (status == PONDER_OK)
        fwrite(text, 1, n, stdout);
    free(text);
    free(json);
    return status == PONDER_OK ? finish_output() : fail("render", status, error.text);
}

int command_render(int argc, char **argv)
{
    const char *name = NULL;
    int args, code;
    const option table[] = {
        {"--template", "NAME", "muse, chatml, gemma or llama3 (needed)", OPTION_TEXT, &name, 0},
    };
    const options o = {
        "render --template NAME",
        "A conversation on standard input, as {\"messages\":[..],\"tools\":[..],\"kwargs\":{..}}, to the prompt text that the\n"
        "template makes of it, byte for byte. Where the template refuses the conversation, the reason is on standard error and\n"
        "the exit status is not 0. `kwargs` are the template's own, such as add_generation_prompt.",
        "example:\n"
        "  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"kwargs\":{\"add_generation_prompt\":true}}' |\n"
        "      ponder render --template chatml",
        table, sizeof table / sizeof *table, NULL, 0, 0};
    code = options_parse(&o, argc, argv, &args);
    if (code != OPTIONS_GO_ON)
        return code;
    return name ? run(name) : fail_usage("render", "--template is needed");
}
