#include <string.h>

#include "program.h"

typedef struct printing {
    const answer_options *options;
    int last_kind; /* of the text before, to break the line between a thought and what follows */
    uint64_t last_message; /* and between two comments */
    int open_line; /* the last byte printed was no newline */
    ponder_event done;
} printing;

/* Standard output has the answer and nothing else, so that it can be piped. */
static FILE *stream_of(int kind)
{
    return kind == PONDER_EVENT_ANSWER ? stdout : stderr;
}

static void end_line(printing *p)
{
    if (p->open_line)
        fputc('\n', stream_of(p->last_kind));
    fflush(stdout);
    p->open_line = 0;
}

/* A model's text must not steer the terminal: control characters other than newline and tab are shown as '?'. In a file
 * or a pipe every byte is kept. */
static void write_text(FILE *to, const char *text, size_t bytes)
{
    if (!is_terminal(to)) {
        fwrite(text, 1, bytes, to);
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : c, to);
    }
}

static void print_text(printing *p, const ponder_event *event)
{
    FILE *to = stream_of(event->kind);
    if (!event->text_bytes || (event->kind == PONDER_EVENT_THOUGHT && p->options->no_thoughts))
        return;
    if (p->last_kind && (p->last_kind != event->kind || p->last_message != event->message))
        end_line(p);
    if (to == stderr)
        fputs(tint(to, TINT_DIM), to);
    write_text(to, event->text, event->text_bytes);
    if (to == stderr)
        fputs(tint(to, TINT_PLAIN), to);
    fflush(to);
    p->last_kind = event->kind;
    p->last_message = event->message;
    p->open_line = event->text[event->text_bytes - 1] != '\n';
}

/* A line of its own: for a script on standard output, for the eye as "name {arguments}". */
static void print_call(printing *p, const ponder_event *event)
{
    end_line(p);
    if (p->options->calls) {
        json_call(stdout, event);
        fflush(stdout);
        return;
    }
    fputs(tint(stderr, TINT_DIM), stderr);
    write_text(stderr, event->name, event->name_bytes);
    fputc(' ', stderr);
    write_text(stderr, event->text, event->text_bytes);
    fprintf(stderr, "%s\n", tint(stderr, TINT_PLAIN));
}

static int32_t on_event(void *user, const ponder_event *event)
{
    printing *p = user;
    if (event->kind == PONDER_EVENT_DONE)
        p->done = *event;
    else if (event->kind == PONDER_EVENT_RESTART)
        fputs("\n[the server's stream broke; the answer begins again]\n", stderr);
    else if (event->kind == PONDER_EVENT_TOOL_CALL)
        print_call(p, event);
    else
        print_text(p, event);
    if (event->kind == PONDER_EVENT_ANSWER && p->options->keep)
        buffer_add(p->options->keep, event->text, event->text_bytes);
    return ferror(stdout) || interrupted(); /* the signal may have come before the turn began, when a cancel does nothing */
}

static const char *end_text(int32_t end)
{
    switch (end) {
    case PONDER_END_LENGTH: return ", stopped at the token limit";
    case PONDER_END_STOP: return ", stopped at a stop string";
    case PONDER_END_CONTEXT: return ", the context is full";
    case PONDER_END_TIME: return ", the time was over";
    case PONDER_END_CANCELLED: return ", cancelled";
    default: return "";
    }
}

static double rate(uint64_t tokens, uint64_t us)
{
    return us ? (double)tokens * 1e6 / (double)us : 0;
}

/* The first token comes out of the prompt's own step, hence the one less. */
static void print_rates(const ponder_event *done)
{
    uint64_t decoded = done->output_tokens ? done->output_tokens - 1 : 0;
    fprintf(stderr, "%s[%llu tokens, %.1f tokens/s; prompt: %llu tokens, %.1f tokens/s", tint(stderr, TINT_DIM),
            (unsigned long long)done->output_tokens, rate(decoded, done->decode_us),
            (unsigned long long)done->prompt_tokens, rate(done->prompt_tokens, done->prefill_us));
    if (done->reused_tokens)
        fprintf(stderr, ", %llu more kept", (unsigned long long)done->reused_tokens);
    fprintf(stderr, "%s]%s\n", end_text(done->end), tint(stderr, TINT_PLAIN));
}

ponder_status answer(ponder_session *session, const answer_options *how)
{
    printing p = {.options = how};
    ponder_status status;
    interrupted();
    interrupt_cancels(session);
    status = ponder_session_generate(session, on_event, &p);
    interrupt_cancels(NULL);
    end_line(&p);
    if (status == PONDER_OK && !how->quiet)
        print_rates(&p.done);
    return status;
}

int open_session(ponder_session **out, ponder_model *model, ponder_config *config, const char *system)
{
    ponder_status status = ponder_session_new(out, model, config);
    if (status != PONDER_OK)
        return fail("session", status, ponder_config_error(config));
    if (!system)
        return 0;
    status = ponder_session_add(*out, "system", system, strlen(system));
    if (status == PONDER_OK)
        return 0;
    fail("system message", status, ponder_session_error(*out));
    ponder_session_free(*out);
    *out = NULL;
    return EXIT_FAIL;
}
