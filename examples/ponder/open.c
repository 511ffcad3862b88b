#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "program.h"

typedef struct loading {
    int shown;     /* draw at all: standard error is a terminal */
    int64_t drawn; /* milliseconds, when last drawn */
} loading;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Every 40 ms is often enough for the eye and costs nothing. */
static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    loading *l = user;
    char a[16], b[16];
    if (l->shown && total && now_ms() - l->drawn >= 40) {
        int filled = (int)((double)done / (double)total * 30);
        l->drawn = now_ms();
        fprintf(stderr, "\rloading [%.*s%*s] %s of %s ", filled, "##############################", 30 - filled, "",
                human_bytes(a, done), human_bytes(b, total));
        fflush(stderr);
    }
    return interrupted();
}

int is_address(const char *path)
{
    return !strncmp(path, "http://", 7) || !strncmp(path, "https://", 8);
}

int open_model(ponder_model **out, const char *path, ponder_config *config, int quiet)
{
    loading l = {!quiet && is_terminal(stderr), 0};
    ponder_status status;
    interrupted();
    ponder_config_set_progress(config, on_progress, &l);
    status = is_address(path) ? ponder_model_open_remote(out, path, config) : ponder_model_open(out, path, config);
    if (l.drawn)
        fprintf(stderr, "\r%-70s\r", "");
    if (status != PONDER_OK)
        return fail(path, status, ponder_config_error(config));
    ponder_config_set_progress(config, NULL, NULL);
    return 0;
}

int64_t model_number(ponder_model *model, int32_t id)
{
    int64_t value;
    return ponder_model_info_i64(model, id, &value) == PONDER_OK ? value : 0;
}

void model_text(ponder_model *model, int32_t id, char *out, size_t cap)
{
    size_t n;
    out[0] = 0;
    if (ponder_model_info_str(model, id, out, cap - 1, &n) == PONDER_OK)
        out[n] = 0;
    else
        out[0] = 0;
}

ponder_config *new_config(void)
{
    ponder_config *config;
    ponder_status status = ponder_config_new(&config, NULL);
    if (status != PONDER_OK)
        exit(fail("config", status, NULL));
    return config;
}

int set_schema(ponder_config *config, const char *path)
{
    size_t bytes;
    char *json = read_file(path, &bytes);
    ponder_status status;
    int code;
    if (!json)
        return EXIT_FAIL;
    if (!bytes || strlen(json) != bytes)
        code = fail(path, PONDER_E_FORMAT, "no JSON Schema: it is empty, or not text");
    else if ((status = ponder_config_set_str(config, PONDER_P_SCHEMA, json)) != PONDER_OK)
        code = fail(path, status, ponder_config_error(config));
    else
        code = 0;
    free(json);
    return code;
}
