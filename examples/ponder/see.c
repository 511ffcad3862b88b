#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct see {
    answer_options answer;
    media media;           /* the picture */
    const char *out, *boxes;
    char *path;            /* where the drawn picture goes */
    buffer question, found; /* what is asked, and the text that the boxes stand in */
    int asked;             /* the question is the user's */
} see;

/* Without a question: boxes of everything, and nothing else. */
static const char usual_question[] =
    "Find the objects in this picture. Answer with a JSON list of {\"label\": .., \"x_min\": .., \"y_min\": .., \"x_max\": .., "
    "\"y_max\": ..}, the numbers from 0 to 1000 across and down the picture.";
#define SIDE(name) "\"" name "\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":1000}"
static const char usual_schema[] =
    "{\"type\":\"array\",\"maxItems\":32,\"items\":{\"type\":\"object\",\"additionalProperties\":false,"
    "\"properties\":{\"label\":{\"type\":\"string\",\"maxLength\":60}," SIDE("x_min") "," SIDE("y_min") "," SIDE("x_max") "," SIDE("y_max") "},"
    "\"required\":[\"label\",\"x_min\",\"y_min\",\"x_max\",\"y_max\"]}}";

/* dir/a.png -> dir/a-boxes.png */
static char *usual_path(const char *picture)
{
    const char *slash = strrchr(picture, '/'), *dot = strrchr(picture, '.');
    size_t stem = dot && dot > (slash ? slash + 1 : picture) ? (size_t)(dot - picture) : strlen(picture);
    char *path = must_alloc(stem + sizeof "-boxes.png", 1);
    memcpy(path, picture, stem);
    strcpy(path + stem, "-boxes.png");
    return path;
}

/* With -o there is always a picture afterwards; without it only where there is something to see in it. */
static int draw(const see *s, ponder_config *config)
{
    ponder_image *drawn;
    boxes b;
    ponder_status status;
    boxes_find(&b, s->found.p ? s->found.p : "");
    if (!b.n && !s->out) {
        if (!s->answer.quiet)
            fputs("no boxes in the answer: no picture is written\n", stderr);
        return 0;
    }
    status = ponder_image_outline(&drawn, media_picture(&s->media), b.side, b.n, config);
    if (status == PONDER_OK)
        status = ponder_image_save_png(drawn, s->path, config);
    if (status == PONDER_OK && !s->answer.quiet)
        fprintf(stderr, "%s%zu %s drawn into %s%s\n", tint(stderr, TINT_DIM), b.n, b.n == 1 ? "box" : "boxes", s->path, tint(stderr, TINT_PLAIN));
    ponder_image_free(drawn);
    free(b.side);
    return status == PONDER_OK ? 0 : fail(s->path, status, ponder_config_error(config));
}

static int ask_about(see *s, ponder_model *model, ponder_config *config)
{
    ponder_session *session;
    ponder_status status;
    int code = open_session(&session, model, config, NULL);
    if (code)
        return code;
    code = media_attach(&s->media, session);
    s->answer.keep = &s->found;
    if (!code && (status = ponder_session_add(session, "user", s->question.p, s->question.n)) != PONDER_OK)
        code = fail("question", status, ponder_session_error(session));
    if (!code && (status = answer(session, &s->answer)) != PONDER_OK)
        code = fail("answer", status, ponder_session_error(session));
    ponder_session_free(session);
    return code;
}

static int open_and_ask(see *s, ponder_config *config, const char *path)
{
    ponder_model *model = NULL;
    ponder_status status = s->asked ? PONDER_OK : ponder_config_set_str(config, PONDER_P_SCHEMA, usual_schema);
    int code = status == PONDER_OK ? 0 : fail("schema", status, ponder_config_error(config));
    if (!code)
        code = open_model(&model, path, config, s->answer.quiet);
    if (!code)
        code = ask_about(s, model, config);
    ponder_model_free(model);
    return code;
}

/* --boxes: the JSON itself, or - for standard input. One that holds none is a mistake. */
static int take_boxes(see *s)
{
    boxes b;
    size_t bytes = 0;
    char *in = strcmp(s->boxes, "-") ? NULL : read_all(stdin, &bytes);
    if (!strcmp(s->boxes, "-") && !in)
        return fail("standard input", PONDER_E_IO, strerror(errno));
    buffer_add(&s->found, in ? in : s->boxes, in ? bytes : strlen(s->boxes));
    free(in);
    boxes_find(&b, s->found.p);
    free(b.side);
    return b.n ? 0 : fail("--boxes", PONDER_E_FORMAT, "no object with the numbers x_min, y_min, x_max and y_max");
}

/* words: MODEL PICTURE [QUESTION...], or with --boxes PICTURE alone. */
static int run(see *s, ponder_config *config, int words, char **word)
{
    const char *picture = word[s->boxes ? 0 : 1];
    int code;
    if (s->boxes ? words != 1 : words < 2)
        return fail_usage("see", s->boxes ? "with --boxes there is a PICTURE and nothing else" : "wants a MODEL and a PICTURE, or a PICTURE and --boxes");
    s->asked = words > 2;
    for (int i = 2; i < words; i++) {
        buffer_add(&s->question, " ", i > 2);
        buffer_add(&s->question, word[i], strlen(word[i]));
    }
    if (!s->asked)
        buffer_add(&s->question, usual_question, strlen(usual_question));
    s->path = s->out ? strdup(s->out) : usual_path(picture);
    media_add(&s->media, MEDIA_IMAGE, picture);
    code = media_open(&s->media, config);
    if (!code)
        code = s->boxes ? take_boxes(s) : open_and_ask(s, config, word[0]);
    if (!code)
        code = draw(s, config);
    return code ? code : finish_output();
}

int command_see(int argc, char **argv)
{
    see s = {.media = MEDIA_DEFAULTS};
    int args, code;
    const option table[] = {
        {"-o", "OUT.png", "where the picture with its boxes goes; a.jpg becomes a-boxes.png if unsaid", OPTION_TEXT, &s.out, 0},
        {"--boxes", "JSON", "no model: draws these boxes; - reads them from standard input", OPTION_TEXT, &s.boxes, 0},
        OPTION_ALPHA(s.media),
        OPTIONS_ANSWERING,
        OPTION_ANY,
        {"--no-thoughts", NULL, "do not show the private reasoning", OPTION_FLAG, &s.answer.no_thoughts, 0},
        {"--quiet", NULL, "no progress, no rates, no word about the picture written", OPTION_FLAG, &s.answer.quiet, 0},
    };
    const options o = {
        "see (MODEL PICTURE [QUESTION...] | PICTURE --boxes JSON) [-o OUT.png]",
        "Asks about a picture, prints the answer, and draws the boxes in it: every JSON object with the numbers x_min, y_min, x_max\n"
        "and y_max, from 0 to 1000 across and down the picture, wherever it stands in the answer. Without a QUESTION the model is\n"
        "asked for all objects, and its answer is bound to a list of boxes. The drawn picture is a PNG of the original's size.",
        "examples:\n"
        "  ponder see muse/ street.jpg\n"
        "  ponder see muse/ street.jpg Where is the traffic light? Give its box as JSON. -o light.png\n"
        "  ponder see street.jpg --boxes '[{\"x_min\":100,\"y_min\":250,\"x_max\":400,\"y_max\":900}]' -o out.png",
        table, sizeof table / sizeof *table, new_config(), 1, INT_MAX};
    interrupt_install();
    code = options_parse(&o, argc, argv, &args);
    if (code == OPTIONS_GO_ON)
        code = run(&s, o.config, args, argv + 1);
    media_free(&s.media);
    free(s.path);
    free(s.question.p);
    free(s.found.p);
    ponder_config_free(o.config);
    return code;
}
