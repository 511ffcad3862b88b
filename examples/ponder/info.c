#include <inttypes.h>
#include <string.h>

#include "program.h"

static const struct row {
    int32_t id;
    int text, bytes;
    const char *key, *label;
} rows[] = {
    {PONDER_INFO_ARCHITECTURE, 1, 0, "architecture", "architecture"},
    {PONDER_INFO_NAME, 1, 0, "name", "name"},
    {PONDER_INFO_TYPE, 1, 0, "type", "weights"},
    {PONDER_INFO_TEMPLATE, 1, 0, "template", "chat template"},
    {PONDER_INFO_HASH, 1, 0, "hash", "hash"},
    {PONDER_INFO_PARAMETERS, 0, 0, "parameters", "parameters"},
    {PONDER_INFO_LAYERS, 0, 0, "layers", "layers"},
    {PONDER_INFO_WIDTH, 0, 0, "width", "width"},
    {PONDER_INFO_VOCAB, 0, 0, "vocab", "tokens known"},
    {PONDER_INFO_CONTEXT, 0, 0, "context", "context"},
    {PONDER_INFO_WINDOW, 0, 0, "window", "sliding window"},
    {PONDER_INFO_WEIGHT_BYTES, 0, 1, "weight_bytes", "weights' memory"},
    {PONDER_INFO_PEAK_BYTES, 0, 1, "peak_bytes", "most memory so far"},
    {PONDER_INFO_THREADS, 0, 0, "threads", "threads"},
    {PONDER_INFO_CPU, 0, 0, "cpu", "kernel levels"},
};

static void print_row(ponder_model *model, const struct row *r)
{
    char text[256], human[16];
    int64_t value = r->text ? 0 : model_number(model, r->id);
    printf("%s%-20s%s", tint(stdout, TINT_BOLD), r->label, tint(stdout, TINT_PLAIN));
    if (r->text) {
        model_text(model, r->id, text, sizeof text);
        printf("%s\n", *text ? text : "-");
    } else if (r->id == PONDER_INFO_CPU) {
        printf("%s%s%s\n", value & 1 ? "AVX2 " : "portable C", value & 2 ? "AVX-512 " : "", value & 4 ? "VNNI" : "");
    } else if (r->bytes) {
        printf("%s\n", human_bytes(human, (uint64_t)value));
    } else {
        printf("%" PRId64 "\n", value);
    }
}

static void print_json(ponder_model *model)
{
    char text[256];
    putchar('{');
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        printf(i ? ",\"%s\":" : "\"%s\":", rows[i].key);
        if (!rows[i].text) {
            printf("%" PRId64, model_number(model, rows[i].id));
            continue;
        }
        model_text(model, rows[i].id, text, sizeof text);
        json_text(stdout, text);
    }
    puts("}");
}

static int show_model(const char *path, ponder_config *config, int json)
{
    ponder_model *model;
    int code = open_model(&model, path, config, json);
    if (code)
        return code;
    if (json)
        print_json(model);
    else
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            print_row(model, &rows[i]);
    ponder_model_free(model);
    return finish_output();
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
                 {"session_bytes", "store, a session", p.session_bytes}, {"peak_bytes", "peak", p.peak_bytes}};
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
        OPTION_ANY,
    };
    const options o = {
        "info (MODEL | --parameters)",
        "What a model is: architecture, sizes, template, memory. MODEL is a GGUF file or a Hugging Face folder.",
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
