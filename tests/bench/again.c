/* again MODEL PICTURE [THREADS]: what a picture costs the first time and the second, each from the file to its rows in a new session.
 * How to build it: README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ponder.h"

enum { ROUNDS = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(ponder_status st, const char *what, const char *text)
{
    if (st == PONDER_OK) return;
    fprintf(stderr, "%s: %s\n", what, text);
    exit(1);
}

/* Seconds from the path to the rows. */
static double use(ponder_model *model, ponder_config *c, const char *path, size_t *n)
{
    ponder_image *image;
    ponder_session *s;
    must(ponder_session_new(&s, model, c), "session", ponder_config_error(c));
    const double begin = now();
    must(ponder_image_open(&image, path, c), path, ponder_config_error(c));
    must(ponder_session_attach_image(s, image), "attach", ponder_session_error(s));
    must(ponder_session_features(s, NULL, 0, n), "features", ponder_session_error(s));
    float *rows = malloc(*n * sizeof *rows);
    if (!rows) exit(1);
    must(ponder_session_features(s, rows, *n, n), "features", ponder_session_error(s));
    const double took = now() - begin;
    free(rows);
    ponder_image_free(image);
    ponder_session_free(s);
    return took;
}

static double once(ponder_config *c, const char *path, const char *picture, double *again, size_t *n)
{
    ponder_model *model;
    must(ponder_model_open(&model, path, c), path, ponder_config_error(c));
    const double first = use(model, c, picture, n);
    for (int i = 0; i < ROUNDS; i++) {
        const double second = use(model, c, picture, n);
        if (*again == 0 || second < *again) *again = second;
    }
    ponder_model_free(model);
    return first;
}

int main(int argc, char **argv)
{
    ponder_config *c;
    double first = 0, again = 0;
    size_t n = 0;
    if (argc < 3) return fprintf(stderr, "again MODEL PICTURE [THREADS]\n"), 2;
    must(ponder_config_new(&c, NULL), "config", "");
    must(ponder_config_set_i64(c, PONDER_P_THREADS, argc > 3 ? atoi(argv[3]) : 2), "threads", ponder_config_error(c));
    for (int i = 0; i < 3; i++) {
        const double took = once(c, argv[1], argv[2], &again, &n);
        if (first == 0 || took < first) first = took;
    }
    printf("%s: %zu values; first %.1f ms, again %.3f ms: %.3f %%\n", argv[2], n, 1e3 * first, 1e3 * again, 100 * again / first);
    ponder_config_free(c);
    return 0;
}
