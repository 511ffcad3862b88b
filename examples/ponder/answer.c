#include <string.h>

#include "program.h"

typedef struct printing {
    const answer_options *options;
    int last_kind; /* of the text before, to break the line between a thought and what follows */
    int open_line; /* the last byte printed was no newline */
    ponder_event done;
} printing;

static void end_line(printing *p)
{
    if (p->open_line)
        fputc('\n', p->last_kind == PONDER_EVENT_THOUGHT ? stderr : stdout);
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

/* Standard output has the answer and nothing else, so that it can be piped. */
static void print_text(printing *p, const ponder_event *event)
{
    int thought = event->kind == PONDER_EVENT_THOUGHT;
    FILE *to = thought ? stderr : stdout;
    if (!event->text_bytes || (thought && p->options->no_thoughts))
        return;
    if (p->last_kind && p->last_kind != event->kind)
        end_line(p);
    if (thought)
        fputs(tint(to, TINT_DIM), to);
    write_text(to, event->text, event->text_bytes);
    if (thought)
        fputs(tint(to, TINT_PLAIN), to);
    fflush(to);
    p->last_kind = event->kind;
    p->open_line = event->text[event->text_bytes - 1] != '\n';
}

static int32_t on_event(void *user, const ponder_event *event)
{
    printing *p = user;
    if (event->kind == PONDER_EVENT_DONE)
        p->done = *event;
    else
        print_text(p, event);
    return ferror(stdout) || interrupted(); /* the signal may have come before the turn began, when a cancel does nothing */
}

static const char *end_text(int32_t end)
{
    switch (end) {
    case PONDER_END_LENGTH: return ", stopped at the token limit";
    case PONDER_END_STOP: return ", stopped at a stop string";
    case PONDER_END_CONTEXT: return ", the context is full";
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
