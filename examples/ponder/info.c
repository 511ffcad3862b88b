#include <inttypes.h>
#include <string.h>

#include "program.h"

enum { TOWER_BYTES = -1 }; /* no id of the library's: the plan knows it */

static const struct row {
    int32_t id;
    enum { NUMBER, TEXT, BYTES, YES } form;
    const char *key, *label;
} rows[] = {
    {PONDER_INFO_ARCHITECTURE, TEXT, "architecture", "architecture"},
    {PONDER_INFO_NAME, TEXT, "name", "name"},
    {PONDER_INFO_TYPE, TEXT, "type", "weights"},
    {PONDER_INFO_TEMPLATE, TEXT, "template", "chat template"},
    {PONDER_INFO_HASH, TEXT, "hash", "hash"},
    {PONDER_INFO_PARAMETERS, NUMBER, "parameters", "parameters"},
    {PONDER_INFO_LAYERS, NUMBER, "layers", "layers"},
    {PONDER_INFO_WIDTH, NUMBER, "width", "width"},
    {PONDER_INFO_VOCAB, NUMBER, "vocab", "tokens known"},
    {PONDER_INFO_CONTEXT, NUMBER, "context", "context"},
    {PONDER_INFO_WINDOW, NUMBER, "window", "sliding window"},
    {PONDER_INFO_IMAGES, YES, "images", "sees images"},
    {PONDER_INFO_SOUNDS, YES, "sounds", "hears sounds"},
    {TOWER_BYTES, BYTES, "tower_bytes", "towers' memory"},
    {PONDER_INFO_WEIGHT_BYTES, BYTES, "weight_bytes", "weights' memory"},
    {PONDER_INFO_PEAK_BYTES, BYTES, "peak_bytes", "most memory so far"},
    {PONDER_INFO_THREADS, NUMBER, "threads", "threads"},
    {PONDER_INFO_CPU, NUMBER, "cpu", "kernel levels"},
    {PONDER_INFO_SERVER, TEXT, "server", "servers' kind"},
    {PONDER_INFO_SERVERS, NUMBER, "servers", "servers"},
};

static int64_t number_of(const struct row *r, ponder_model *model, const ponder_plan *plan)
{
    return r->id == TOWER_BYTES ? (int64_t)plan->tower_bytes : model_number(model, r->id);
}

static void print_row(ponder_model *model, const ponder_plan *plan, const struct row *r)
{
    char words[256], human[16];
    int64_t value = r->form == TEXT ? 0 : number_of(r, model, plan);
    printf("%s%-20s%s", tint(stdout, TINT_BOLD), r->label, tint(stdout, TINT_PLAIN));
    if (r->form == TEXT) {
        model_text(model, r->id, words, sizeof words);
        printf("%s\n", *words ? words : "-");
    } else if (r->id == PONDER_INFO_CPU) {
        printf("%s%s%s\n", value & 1 ? "AVX2 " : "portable C", value & 2 ? "AVX-512 " : "", value & 4 ? "VNNI" : "");
    } else if (r->form == YES) {
        puts(value ? "yes" : "no");
    } else if (r->form == BYTES) {
        printf("%s\n", human_bytes(human, (uint64_t)value));
    } else {
        printf("%" PRId64 "\n", value);
    }
}

static void print_json(ponder_model *model, const ponder_plan *plan)
{
    char words[256];
    putchar('{');
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        printf(i ? ",\"%s\":" : "\"%s\":", r->key);
        if (r->form == TEXT) {
            model_text(model, r->id, words, sizeof words);
            json_text(stdout, words, strlen(words));
        } else if (r->form == YES) {
            fputs(number_of(r, model, plan) ? "true" : "false", stdout);
        } else {
            printf("%" PRId64, number_of(r, model, plan));
        }
    }
    puts("}");
}

static int show_model(const char *path, ponder_config *config, int json)
{
    ponder_plan plan = {.size = sizeof plan};
    ponder_model *model;
    ponder_status status;
    int code = open_model(&model, path, config, json);
    if (code)
        return code;
    if (!is_address(path) && (status = ponder_model_plan(&plan, path, config)) != PONDER_OK)
        code = fail(path, status, ponder_config_error(config));
    else if (json)
        print_json(model, &plan);
    else
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            print_row(model, &plan, &rows[i]);
    ponder_model_free(model);
    return code ? code : finish_output();
}

static int show_plan(const char *path, ponder_config *config, int json)
{
    ponder_plan p = {.size = sizeof p};
    ponder_status status = ponder_model_plan(&p, path, config);
    if (status != PONDER_OK)
        return fail(path, status, ponder_config_error(config));
    const struct {
        const char *key, *label;
        uint64_t bytes;
    } lines[] = {{"file_bytes", "weight files", p.file_bytes},          {"weight_bytes", "weights' memory", p.weight_bytes},
                 {"mapped_bytes", "mapped pages", p.mapped_bytes},      {"scratch_bytes", "working memory", p.scratch_bytes},
                 {"kv_bytes_token", "store, a token", p.kv_bytes_token}, {"kv_bytes_fixed", "store, fixed", p.kv_bytes_fixed},
                 {"session_bytes", "store, a session", p.session_bytes}, {"peak_bytes", "peak", p.peak_bytes},
                 {"tower_bytes", "towers' memory", p.tower_bytes},       {"encode_bytes", "to encode", p.encode_bytes},
                 {"drafter_bytes", "drafter's memory", p.drafter_bytes}};
    char human[16];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (json)
            printf("%s\"%s\":%" PRIu64, i ? "," : "{", lines[i].key, lines[i].bytes);
        else
            printf("%-20s%s\n", lines[i].label, human_bytes(human, lines[i].bytes));
    }
    if (json)
        puts("}");
    return finish_output();
}

static int show_parameters(void)
{
    ponder_param_info p = {.size = sizeof p};
    for (uint32_t i = 0; ponder_param_at(i, &p) == PONDER_OK; i++, p.size = sizeof p) {
        printf("%s%-18s%s", tint(stdout, TINT_BOLD), p.name, tint(stdout, TINT_PLAIN));
        if (p.type == PONDER_TYPE_STR)
            printf("text, \"%s\"", p.str_default ? p.str_default : "");
        else if (p.type == PONDER_TYPE_F64)
            printf("%g..%g, %g", p.f64_min, p.f64_max, p.f64_default);
        else
            printf("%" PRId64 "..%" PRId64 ", %" PRId64, p.i64_min, p.i64_max, p.i64_default);
        printf("%s\n    %s\n", p.live ? "; live" : "", p.help);
    }
    return finish_output();
}

int command_info(int argc, char **argv)
{
    int args, code, json = 0, plan = 0, parameters = 0;
    const option table[] = {
        {"--plan", NULL, "the memory it will take, without loading it", OPTION_FLAG, &plan, 0},
        {"--json", NULL, "one JSON object on one line", OPTION_FLAG, &json, 0},
        {"--parameters", NULL, "no model: the library's parameters, with bounds and default", OPTION_FLAG, &parameters, 0},
        OPTION_THREADS,
        {"--context", "N", "for --plan: tokens of a session", OPTION_PARAM, NULL, PONDER_P_CONTEXT},
        OPTION_PROJECTOR,
        OPTION_ANY,
    };
    const options o = {
        "info (MODEL | --parameters)",
        "What a model is: architecture, sizes, template, whether it sees and hears, memory. MODEL is a GGUF file, a Hugging Face\n"
        "folder, or the address of a server.",
        "examples:\n"
        "  ponder info model.gguf\n"
        "  ponder info model.gguf --plan --context 8192 --set kv_type=q8_0",
        table, sizeof table / sizeof *table, new_config(), 0, 1};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON && parameters)
        code = show_parameters();
    else if (code == OPTIONS_GO_ON && !args)
        code = fail_usage("info", "wants a MODEL, or --parameters");
    else if (code == OPTIONS_GO_ON)
        code = plan ? show_plan(argv[1], o.config, json) : show_model(argv[1], o.config, json);
    ponder_config_free(o.config);
    return code;
}
