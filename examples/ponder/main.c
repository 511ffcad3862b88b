/* The command-line program: a thin layer over ponder.h, and an example of how to use it. */
#include <string.h>

#include "program.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"chat", command_chat, "a conversation with a model"},
    {"ask", command_ask, "one question, one answer, for pipes too"},
    {"contemplate", command_contemplate, "one question, many agents, one answer"},
    {"see", command_see, "a question about a picture, and the boxes of the answer drawn into it"},
    {"info", command_info, "what a model is and the memory it takes"},
    {"bench", command_bench, "how fast it runs here"},
    {"logits", command_logits, "logits or hidden states of given token ids"},
    {"tokenize", command_tokenize, "text to token ids"},
    {"detokenize", command_detokenize, "token ids to text"},
    {"render", command_render, "a conversation to the prompt text of a template"},
    {"parse", command_parse, "what a model wrote to thoughts, answers and calls, as JSON lines"},
    {"features", command_features, "the rows that a picture, a sound or a video becomes"},
};

static int print_help(void)
{
    puts("ponder runs a language model on this computer; nothing leaves it.\n\n"
         "usage: ponder COMMAND [OPTIONS]      (ponder COMMAND --help says more)\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(commands[i].name, "logits"))
            puts("\nfor scripts:");
        printf("  %-13s%s\n", commands[i].name, commands[i].help);
    }
    puts("\nA model is a GGUF file or a Hugging Face folder (config.json, safetensors, tokenizer.json). To begin:\n"
         "  ponder chat model.gguf\n\n"
         "Exit status: 0 done, 1 failed (one line on standard error says why), 2 the command line was wrong.");
    return finish_output();
}

int main(int argc, char **argv)
{
    uint32_t v = ponder_version();
    if (argc < 2) {
        fputs("usage: ponder COMMAND [OPTIONS] (ponder --help lists the commands)\n", stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
        return print_help();
    if (!strcmp(argv[1], "--version")) {
        printf("ponder %u.%u.%u\n", v / 1000000, v / 1000 % 1000, v % 1000);
        return finish_output();
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argc - 1, argv + 1);
    return fail_usage(argv[1], "no such command (ponder --help lists them)");
}
