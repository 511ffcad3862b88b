/* What the files of the ponder program share. It uses nothing of the library but ponder.h. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <ponder.h>

#include <stdint.h>
#include <stdio.h>

#include "options.h"

/* Exit statuses: a failure of what was asked, and a command line that asks nothing sensible. */
enum { EXIT_FAIL = 1, EXIT_USAGE = 2 };

/* One command: its own file has its options and its help. argv[0] is the command's name. */
int command_chat(int argc, char **argv);
int command_ask(int argc, char **argv);
int command_contemplate(int argc, char **argv);
int command_info(int argc, char **argv);
int command_see(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_logits(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_detokenize(int argc, char **argv);
int command_render(int argc, char **argv);
int command_parse(int argc, char **argv);
int command_features(int argc, char **argv);

/* -- fail.c: errors are one line on standard error -- */
/* "ponder: what: text (PONDER_E_...)"; returns EXIT_FAIL. The text may be "" or NULL. */
int fail(const char *what, ponder_status status, const char *text);
/* "ponder: what: text"; returns EXIT_USAGE. */
int fail_usage(const char *what, const char *text);
/* Memory or the end of this program. */
void *must_alloc(size_t count, size_t each);
void *must_realloc(void *p, size_t count, size_t each);
/* All of a stream, with a final NUL that *n does not count; NULL when it cannot be read. */
char *read_all(FILE *in, size_t *n);
/* All of a file likewise; NULL after the error is printed. */
char *read_file(const char *path, size_t *n);
/* Flushes standard output: what could not be written is an error too. EXIT_SUCCESS or EXIT_FAIL. */
int finish_output(void);

/* -- open.c -- */
/* Opens with a progress line on standard error if that is a terminal (`quiet`: never). Ctrl-C cancels. Returns 0 or an
 * exit status; the error is printed then. */
int open_model(ponder_model **out, const char *path, ponder_config *config, int quiet);
/* An address (http://...) instead of a file: a model on servers, which open_model opens as such. */
int is_address(const char *path);
/* Whole numbers and text of a model; 0 and "" where it has none. */
int64_t model_number(ponder_model *model, int32_t id);
void model_text(ponder_model *model, int32_t id, char *out, size_t cap);
/* A config, or the end of this program. */
ponder_config *new_config(void);
/* The JSON Schema in a file as PONDER_P_SCHEMA. Returns 0 or an exit status; the error is printed then. */
int set_schema(ponder_config *config, const char *path);

/* -- buffer.c: bytes that grow; a NUL behind them that `n` does not count -- */
typedef struct buffer {
    char *p;
    size_t n, room;
} buffer;
void buffer_add(buffer *b, const char *p, size_t n);

/* -- media.c: pictures, sounds and videos of the command line -- */
enum { MEDIA_IMAGE, MEDIA_AUDIO, MEDIA_FRAMES };
typedef struct media {
    option_list files;
    double fps;        /* of --frames */
    const char *alpha; /* NULL: as the library does */
    struct medium *opened; /* [files.n] */
} media;
#define MEDIA_DEFAULTS {.fps = 2}
#define OPTION_IMAGE(m, help) {"--image", "FILE", help, OPTION_EACH, &(m).files, MEDIA_IMAGE}
#define OPTION_AUDIO(m, help) {"--audio", "FILE", help, OPTION_EACH, &(m).files, MEDIA_AUDIO}
#define OPTION_FRAMES(m) \
    {"--frames", "FILE...", "a video: its frames in order, all words up to the next option (-- ends options)", OPTION_WORDS, &(m).files, MEDIA_FRAMES}, \
    {"--fps", "X", "of --frames: frames a second; 2 if unsaid, as the models are used to", OPTION_REAL, &(m).fps, 0}
#define OPTION_ALPHA(m) {"--alpha", "white|drop", "transparent pictures are laid over white, or lose their transparency (if unsaid)", OPTION_TEXT, &(m).alpha, 0}
/* Reads the files, before any model is loaded. 0 or an exit status; the error is printed then. */
int media_open(media *m, ponder_config *config);
/* Makes them parts of the session's next message, in order. Likewise. */
int media_attach(const media *m, ponder_session *session);
/* ... without a word about a failure; *name is the file that it was. */
ponder_status media_put(const media *m, ponder_session *session, const char **name);
void media_free(media *m);
/* Of a single picture that was opened. */
ponder_image *media_picture(const media *m);
/* One more file, as if it had been an option. */
void media_add(media *m, int which, const char *path);

/* -- boxes.c -- */
typedef struct boxes {
    double *side; /* [n][4]: x_min, y_min, x_max, y_max */
    size_t n;
} boxes;
/* Every JSON object in the text that has these four numbers, whatever else is in it and around it. The caller frees `side`. */
void boxes_find(boxes *b, const char *text);

/* -- answer.c -- */
typedef struct answer_options {
    int quiet;       /* no line with the rates */
    int no_thoughts; /* the private reasoning is not shown */
    int calls;       /* tool calls are what is asked for: JSON lines on standard output */
    buffer *keep;    /* the answer's text is put here too; may be NULL */
} answer_options;
/* Generates one turn: the answer to standard output as it comes, everything else and the rates to standard error. */
ponder_status answer(ponder_session *session, const answer_options *options);
/* An empty session with the system text, if any. Returns 0 or an exit status; the error is printed then. */
int open_session(ponder_session **out, ponder_model *model, ponder_config *config, const char *system);

/* -- interrupt.c: Ctrl-C -- */
/* From now on Ctrl-C ends no process: it cancels the session of interrupt_cancels (NULL: none) and is remembered. */
void interrupt_install(void);
void interrupt_cancels(ponder_session *session);
/* Was there a Ctrl-C since the last call? */
int wait_for_input(int fd); /* 0: there is something to read; -1: interrupted */
int interrupted(void);

/* -- terminal.c -- */
enum { TINT_PLAIN, TINT_DIM, TINT_BOLD, TINT_PROMPT };
/* The escape sequence, or "" where it is no terminal or NO_COLOR asks for none. */
const char *tint(FILE *to, int which);
int is_terminal(FILE *f);
/* "98.4 MB" into out. */
const char *human_bytes(char out[16], uint64_t bytes);

/* -- json.c -- */
/* A JSON string with its quotes; `text` is taken to be UTF-8. */
void json_text(FILE *to, const char *text, size_t bytes);
/* A tool call as a line: {"event":"tool_call","name":..,"arguments":{..}}. */
void json_call(FILE *to, const ponder_event *call);
void json_numbers(FILE *to, const int32_t *ids, size_t n);

/* -- npy.c -- */
/* Writes float32 [rows][cols] in C order as NumPy's format 1.0. 0, or an errno. */
int npy_write(const char *path, const float *values, size_t rows, size_t cols);

#endif
