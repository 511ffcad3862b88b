/* Command lines from a table: parsing and the help text come from the same place. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <ponder.h>

#include <stddef.h>

enum {
    OPTION_FLAG,   /* to: int, set to 1 */
    OPTION_TEXT,   /* to: const char * */
    OPTION_NUMBER, /* to: int64_t */
    OPTION_REAL,   /* to: double */
    OPTION_EACH,   /* to: option_list: a value each time it is given; `param` is the caller's number for it */
    OPTION_WORDS,  /* ... with all words up to the next option */
    OPTION_PARAM,  /* a parameter of the library, which checks type and bounds itself */
    OPTION_SET     /* NAME=VALUE: any parameter by its name */
};

typedef struct option {
    const char *name;  /* "--threads" */
    const char *value; /* as the help calls it; NULL for flags */
    const char *help;
    int kind;
    void *to;
    ponder_param param;
} option;

/* What was given, in order. */
typedef struct option_given {
    int32_t which;
    size_t n;
    const char **words; /* the command line's own */
} option_given;
typedef struct option_list {
    option_given *given;
    size_t n;
} option_list;

typedef struct options {
    const char *usage; /* "ask MODEL [QUESTION...]" */
    const char *about; /* what the command does, for --help */
    const char *notes; /* after the options: examples; may be NULL */
    const option *table;
    size_t n;
    ponder_config *config;      /* where OPTION_PARAM and OPTION_SET go */
    int least_args, most_args; /* words that are no options */
} options;

/* The usual parameters, to be put into a table. */
#define OPTION_THREADS {"--threads", "T", "threads to compute with; 0: one a core", OPTION_PARAM, NULL, PONDER_P_THREADS}
#define OPTION_PROJECTOR \
    {"--projector", "FILE", "a GGUF with the model's image and audio towers (\"mmproj\"), for a model in a GGUF", OPTION_PARAM, NULL, PONDER_P_PROJECTOR}
#define OPTIONS_ANSWERING \
    {"--max-tokens", "N", "most tokens of an answer, thoughts included; 0: until the context is full", OPTION_PARAM, NULL, PONDER_P_MAX_TOKENS}, \
    {"--temperature", "X", "0 always takes the most likely token", OPTION_PARAM, NULL, PONDER_P_TEMPERATURE}, \
    {"--top-k", "N", "sample among the N most likely; 0: off", OPTION_PARAM, NULL, PONDER_P_TOP_K}, \
    {"--top-p", "X", "sample among the most likely that together reach X; 1: off", OPTION_PARAM, NULL, PONDER_P_TOP_P}, \
    {"--seed", "N", "the same seed gives the same text", OPTION_PARAM, NULL, PONDER_P_SEED}, \
    {"--effort", "E", "reasoning strength, as the model's template knows it", OPTION_PARAM, NULL, PONDER_P_EFFORT}, \
    OPTION_THREADS, \
    {"--context", "N", "tokens to make room for", OPTION_PARAM, NULL, PONDER_P_CONTEXT}, \
    {"--template", "NAME", "muse, chatml, gemma or llama3 instead of the file's own", OPTION_PARAM, NULL, PONDER_P_TEMPLATE}, \
    OPTION_PROJECTOR
/* How much it may think, and how long a turn may take. */
#define OPTIONS_BUDGET \
    {"--max-thought", "N", "most tokens of thought; 0: none; -1: no limit", OPTION_PARAM, NULL, PONDER_P_THINK_TOKENS}, \
    {"--max-ms", "N", "most milliseconds of a turn, prompt included; 0: no limit", OPTION_PARAM, NULL, PONDER_P_TURN_MS}, \
    {"--answer-tokens", "N", "tokens that the thought leaves to the answer, in each of these limits", OPTION_PARAM, NULL, PONDER_P_ANSWER_TOKENS}
#define OPTION_ANY {"--set", "NAME=VALUE", "any parameter of the library (`ponder info --parameters` lists them)", OPTION_SET, NULL, 0}

enum { OPTIONS_GO_ON = -1 };
/* Parses; the words that are no options are moved to argv[1].. and counted in *args. OPTIONS_GO_ON, or the exit status:
 * help was printed, or a mistake. */
int options_parse(const options *o, int argc, char **argv, int *args);
void options_list_free(option_list *list);
/* Text to a whole number; 0 when it is none. */
int options_number(const char *text, int64_t *out);

#endif
