#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

/* Text of one kind is gathered until something else follows, so that the lines do not depend on how the stream came. */
typedef struct stream {
    ponder_parser *parser;
    buffer held;
    int32_t kind;  /* of what is held; 0: nothing */
    int32_t last;  /* of the line before */
} stream;

static void print_line(stream *s, int32_t kind, const char *bytes, size_t n)
{
    static const char *const names[] = {
        [PONDER_EVENT_THOUGHT] = "thought", [PONDER_EVENT_COMMENTARY] = "commentary", [PONDER_EVENT_ANSWER] = "answer",
        [PONDER_EVENT_DONE] = "done", [PONDER_EVENT_RAW] = "raw"};
    printf("{\"event\":\"%s\",\"text\":", names[kind]);
    json_text(stdout, bytes, n);
    puts("}");
    s->last = kind;
}

static void print_held(stream *s)
{
    if (s->kind)
        print_line(s, s->kind, s->held.p, s->held.n);
    s->kind = 0;
    s->held.n = 0;
}

static void take_event(stream *s, const ponder_event *e)
{
    int text_kind = e->kind == PONDER_EVENT_THOUGHT || e->kind == PONDER_EVENT_COMMENTARY || e->kind == PONDER_EVENT_ANSWER;
    if (text_kind && !e->text_bytes)
        return;
    if (e->kind != s->kind)
        print_held(s);
    if (text_kind) {
        buffer_add(&s->held, e->text, e->text_bytes);
        s->kind = e->kind;
    } else if (e->kind == PONDER_EVENT_TOOL_CALL) {
        json_call(stdout, e);
        s->last = e->kind;
    } else {
        print_line(s, e->kind, e->text, e->text_bytes);
    }
}

/* NULL with 0 bytes: the end. */
static ponder_status feed(stream *s, const char *bytes, size_t n)
{
    ponder_event e = {.size = sizeof e};
    ponder_status status = ponder_parser_feed(s->parser, bytes, n);
    if (status != PONDER_OK)
        return status;
    while ((status = ponder_parser_next(s->parser, &e)) == PONDER_OK)
        take_event(s, &e);
    fflush(stdout);
    return status == PONDER_MORE ? PONDER_OK : status;
}

/* As it comes, not in full buffers: whoever writes the stream may be waiting for what we say. */
static int read_stream(stream *s)
{
    char bytes[1 << 16];
    ssize_t got;
    ponder_status status = PONDER_OK;
    while (status == PONDER_OK && (got = read(STDIN_FILENO, bytes, sizeof bytes)) != 0) {
        if (got > 0)
            status = feed(s, bytes, (size_t)got);
        else if (errno != EINTR)
            return fail("standard input", PONDER_E_IO, strerror(errno));
        if (ferror(stdout))
            break;
    }
    if (status == PONDER_OK)
        status = feed(s, NULL, 0);
    if (status != PONDER_OK)
        return fail("parse", status, ponder_parser_error(s->parser));
    print_held(s);
    if (s->last != PONDER_EVENT_DONE)
        print_line(s, PONDER_EVENT_DONE, "", 0);
    return finish_output();
}

static int run(const char *name, const char *tools, ponder_config *config)
{
    stream s = {0};
    size_t bytes = 0;
    char *json = tools ? read_file(tools, &bytes) : NULL;
    ponder_status status;
    int code;
    if (tools && !json)
        return EXIT_FAIL;
    status = ponder_parser_new(&s.parser, name, json, bytes, config);
    code = status == PONDER_OK ? read_stream(&s)
                               : fail(status == PONDER_E_UNKNOWN || !tools ? "parse" : tools, status, ponder_config_error(config));
    ponder_parser_free(s.parser);
    free(s.held.p);
    free(json);
    return code;
}

int command_parse(int argc, char **argv)
{
    const char *name = NULL, *tools = NULL;
    int args, code;
    const option table[] = {
        {"--template", "NAME", "muse, qwen3, llama3.1, chatml, gemma, ... (needed)", OPTION_TEXT, &name, 0},
        {"--tools", "FILE", "JSON list of the tools that the model was given: types of arguments, and what is a call at all", OPTION_TEXT, &tools, 0},
    };
    const options o = {
        "parse --template NAME [--tools FILE]",
        "What a model wrote, raw, markers included, on standard input to one JSON object a line, as it comes:\n"
        "  {\"event\":\"thought\",\"text\":\"..\"}                        private reasoning\n"
        "  {\"event\":\"commentary\",\"text\":\"..\"}                     for the user, in the middle of a turn\n"
        "  {\"event\":\"answer\",\"text\":\"..\"}\n"
        "  {\"event\":\"tool_call\",\"name\":\"..\",\"arguments\":{..}}    a whole call\n"
        "  {\"event\":\"raw\",\"text\":\"..\"}                            not understood, not lost: a malformed call or header, as written\n"
        "  {\"event\":\"done\",\"text\":\"\"}                             the turn ended, or the stream did: the last line always\n"
        "Text of one kind is one line until something else follows, so the lines are the same however the stream is cut into\n"
        "pieces. No byte of markup is in an answer. A stream may hold several turns. Bytes that are no UTF-8 become U+FFFD.",
        "example:\n"
        "  printf ' to=self<|message|>Easy.<|eom|><|start|>assistant to=user<|message|>Four.<|eot|>' |\n"
        "      ponder parse --template muse",
        table, sizeof table / sizeof *table, new_config(), 0, 0};
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = name ? run(name, tools, o.config) : fail_usage("parse", "--template is needed");
    ponder_config_free(o.config);
    return code;
}
