#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

int options_number(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && !errno;
}

static int options_real(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && !*end && !errno;
}

/* A parameter by its id, or by its name when that is given. */
static int find_param(ponder_param id, const char *name, size_t name_bytes, ponder_param_info *out)
{
    out->size = sizeof *out;
    for (uint32_t i = 0; ponder_param_at(i, out) == PONDER_OK; i++) {
        if (name ? strlen(out->name) == name_bytes && !memcmp(out->name, name, name_bytes) : out->id == id)
            return 1;
        out->size = sizeof *out;
    }
    return 0;
}

static int set_param(ponder_config *config, const ponder_param_info *p, const char *value)
{
    ponder_status status;
    int64_t i64;
    double f64;
    if (p->type == PONDER_TYPE_STR)
        status = ponder_config_set_str(config, p->id, value);
    else if (p->type == PONDER_TYPE_I64 && options_number(value, &i64))
        status = ponder_config_set_i64(config, p->id, i64);
    else if (p->type == PONDER_TYPE_F64 && options_real(value, &f64))
        status = ponder_config_set_f64(config, p->id, f64);
    else
        return fail_usage(p->name, "wants a number");
    if (status == PONDER_OK)
        return OPTIONS_GO_ON;
    fail("option", status, ponder_config_error(config));
    return EXIT_USAGE;
}

static int set_named(ponder_config *config, const char *text)
{
    ponder_param_info p;
    const char *equals = strchr(text, '=');
    if (!equals)
        return fail_usage("--set", "wants NAME=VALUE");
    if (!find_param(0, text, (size_t)(equals - text), &p))
        return fail_usage(text, "the library has no such parameter (`ponder info --parameters` lists them)");
    return set_param(config, &p, equals + 1);
}

static int take(const options *o, const option *opt, const char *value)
{
    ponder_param_info p;
    switch (opt->kind) {
    case OPTION_FLAG:
        *(int *)opt->to = 1;
        return OPTIONS_GO_ON;
    case OPTION_TEXT:
        *(const char **)opt->to = value;
        return OPTIONS_GO_ON;
    case OPTION_NUMBER:
        return options_number(value, opt->to) ? OPTIONS_GO_ON : fail_usage(opt->name, "wants a whole number");
    case OPTION_REAL:
        return options_real(value, opt->to) ? OPTIONS_GO_ON : fail_usage(opt->name, "wants a number");
    case OPTION_SET:
        return set_named(o->config, value);
    default:
        if (!find_param(opt->param, NULL, 0, &p))
            return fail_usage(opt->name, "this library does not have it");
        return set_param(o->config, &p, value);
    }
}

/* A value, and for OPTION_WORDS those behind it too; *i is the place of the last word taken. */
static void take_words(const option *opt, const char *value, int more, int argc, char **argv, int *i)
{
    option_list *list = opt->to;
    option_given *g;
    list->given = must_realloc(list->given, list->n + 1, sizeof *list->given);
    g = &list->given[list->n++];
    g->which = opt->param;
    g->words = must_alloc((size_t)(argc - *i) + 1, sizeof *g->words);
    g->words[0] = value;
    g->n = 1;
    while (more && *i + 1 < argc && argv[*i + 1][0] != '-')
        g->words[g->n++] = argv[++*i];
}

void options_list_free(option_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->given[i].words);
    free(list->given);
}

static void print_option(const option *opt)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", opt->name, opt->value ? " " : "", opt->value ? opt->value : "");
    if (strlen(left) <= 22)
        printf("  %-22s  %s\n", left, opt->help);
    else
        printf("  %s\n  %-22s  %s\n", left, "", opt->help);
}

static int print_help(const options *o)
{
    printf("usage: ponder %s\n\n%s\n\noptions:\n", o->usage, o->about);
    for (size_t i = 0; i < o->n; i++)
        print_option(&o->table[i]);
    printf("  %-22s  %s\n", "--help", "this text");
    if (o->notes)
        printf("\n%s\n", o->notes);
    return finish_output();
}

/* `word` is "--name" or "--name=value"; *value is set in the second case. */
static const option *find_option(const options *o, const char *word, const char **value)
{
    size_t bytes = strcspn(word, "=");
    *value = word[bytes] ? word + bytes + 1 : NULL;
    for (size_t i = 0; i < o->n; i++)
        if (strlen(o->table[i].name) == bytes && !memcmp(o->table[i].name, word, bytes))
            return &o->table[i];
    return NULL;
}

static int parse_option(const options *o, int argc, char **argv, int *i)
{
    const char *value;
    const option *opt = find_option(o, argv[*i], &value);
    if (!opt)
        return fail_usage(argv[*i], "no such option (--help lists them)");
    if (opt->kind == OPTION_FLAG) {
        if (value)
            return fail_usage(opt->name, "takes no value");
    } else if (!value) {
        if (++*i >= argc)
            return fail_usage(opt->name, "wants a value");
        value = argv[*i];
    }
    if (opt->kind == OPTION_EACH || opt->kind == OPTION_WORDS) {
        take_words(opt, value, opt->kind == OPTION_WORDS, argc, argv, i);
        return OPTIONS_GO_ON;
    }
    return take(o, opt, value);
}

int options_parse(const options *o, int argc, char **argv, int *args)
{
    int words = 0, only_words = 0;
    for (int i = 1; i < argc; i++) {
        if (!only_words && !strcmp(argv[i], "--")) {
            only_words = 1;
        } else if (!only_words && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            return print_help(o);
        } else if (only_words || argv[i][0] != '-' || !argv[i][1]) {
            argv[++words] = argv[i];
        } else {
            int status = parse_option(o, argc, argv, &i);
            if (status != OPTIONS_GO_ON)
                return status;
        }
    }
    *args = words;
    if (words >= o->least_args && words <= o->most_args)
        return OPTIONS_GO_ON;
    fprintf(stderr, "usage: ponder %s (--help says more)\n", o->usage);
    return EXIT_USAGE;
}
