#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

/* One of what was given, decoded: a sound, or a picture, or a video's frames. */
struct medium {
    ponder_image **frames;
    size_t n;
    ponder_sound *sound;
};

void media_add(media *m, int which, const char *path)
{
    option_list *list = &m->files;
    const char **word = must_alloc(1, sizeof *word);
    *word = path;
    list->given = must_realloc(list->given, list->n + 1, sizeof *list->given);
    list->given[list->n++] = (option_given){which, 1, word};
}

static int open_one(struct medium *to, const option_given *given, ponder_config *config)
{
    if (given->which == MEDIA_AUDIO) {
        ponder_status status = ponder_sound_open(&to->sound, given->words[0], config);
        return status == PONDER_OK ? 0 : fail(given->words[0], status, ponder_config_error(config));
    }
    to->frames = must_alloc(given->n, sizeof *to->frames);
    for (; to->n < given->n; to->n++) {
        ponder_status status = ponder_image_open(&to->frames[to->n], given->words[to->n], config);
        if (status != PONDER_OK)
            return fail(given->words[to->n], status, ponder_config_error(config));
    }
    return 0;
}

static int configure(const media *m, ponder_config *config)
{
    ponder_status status;
    if (!(m->fps > 0 && isfinite(m->fps)))
        return fail_usage("--fps", "wants a number above 0");
    if (!m->alpha)
        return 0;
    if (strcmp(m->alpha, "white") && strcmp(m->alpha, "drop"))
        return fail_usage("--alpha", "wants white or drop");
    status = ponder_config_set_str(config, PONDER_P_ALPHA, m->alpha);
    return status == PONDER_OK ? 0 : fail("--alpha", status, ponder_config_error(config));
}

int media_open(media *m, ponder_config *config)
{
    int code = configure(m, config);
    if (code || !m->files.n)
        return code;
    m->opened = must_alloc(m->files.n, sizeof *m->opened);
    memset(m->opened, 0, m->files.n * sizeof *m->opened);
    for (size_t i = 0; i < m->files.n && !code; i++)
        code = open_one(&m->opened[i], &m->files.given[i], config);
    return code;
}

static ponder_status attach_video(const media *m, const struct medium *video, ponder_session *session)
{
    double *seconds = must_alloc(video->n, sizeof *seconds);
    ponder_status status;
    for (size_t i = 0; i < video->n; i++)
        seconds[i] = (double)i / m->fps;
    status = ponder_session_attach_video(session, video->frames, seconds, video->n);
    free(seconds);
    return status;
}

static ponder_status attach_one(const media *m, size_t i, ponder_session *session)
{
    const struct medium *one = &m->opened[i];
    if (one->sound)
        return ponder_session_attach_sound(session, one->sound);
    if (m->files.given[i].which == MEDIA_FRAMES)
        return attach_video(m, one, session);
    return ponder_session_attach_image(session, one->frames[0]);
}

ponder_status media_put(const media *m, ponder_session *session, const char **name)
{
    ponder_status status = PONDER_OK;
    for (size_t i = 0; i < m->files.n && status == PONDER_OK; i++) {
        *name = m->files.given[i].words[0];
        status = attach_one(m, i, session);
    }
    return status;
}

int media_attach(const media *m, ponder_session *session)
{
    const char *name = NULL;
    ponder_status status = media_put(m, session, &name);
    return status == PONDER_OK ? 0 : fail(name, status, ponder_session_error(session));
}

ponder_image *media_picture(const media *m)
{
    return m->opened[0].frames[0];
}

void media_free(media *m)
{
    for (size_t i = 0; m->opened && i < m->files.n; i++) {
        for (size_t k = 0; k < m->opened[i].n; k++)
            ponder_image_free(m->opened[i].frames[k]);
        ponder_sound_free(m->opened[i].sound);
        free(m->opened[i].frames);
    }
    free(m->opened);
    m->opened = NULL;
    options_list_free(&m->files);
}
