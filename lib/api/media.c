/* Images and sounds. */
#include "api/api.h"

#include <math.h>
#include <unistd.h>

/* Pictures and sounds are counted: a session may hold them longer than the host its handle. */
struct ponder_image {
    pid_t pid;
    ponder_alloc alloc;
    pn_image *image;
};

struct ponder_sound {
    pid_t pid;
    ponder_alloc alloc;
    pn_sound *sound;
};

static const ponder_alloc *allocator(const ponder_config *c) { return c && c->alloc.alloc ? &c->alloc : NULL; }

/* ---- images --------------------------------------------------------------------------------- */

static ponder_status new_image(ponder_image **out, pn_image *image, const ponder_alloc *a, ponder_error *err)
{
    ponder_image *h = pn_zalloc(a, sizeof *h);
    if (!h) {
        pn_image_free(image);
        return pn_nomem(err, sizeof *h);
    }
    if (a) h->alloc = *a;
    h->pid = getpid();
    h->image = image;
    *out = h;
    return PONDER_OK;
}

static ponder_status image_options(const ponder_config *c, bool path, pn_image_options *o, ponder_error *err)
{
    const char *alpha = pn_config_str(c, PONDER_P_ALPHA);
    *o = (pn_image_options){.alpha = path ? PN_ALPHA_DROP : PN_ALPHA_WHITE, .max_pixels = (uint64_t)pn_config_i64(c, PONDER_P_MAX_PIXELS)};
    if (strcmp(alpha, "white") == 0) o->alpha = PN_ALPHA_WHITE;
    else if (strcmp(alpha, "drop") == 0) o->alpha = PN_ALPHA_DROP;
    else if (*alpha) return pn_fail(err, PONDER_E_RANGE, "alpha: \"%s\" is none of white, drop", alpha);
    return PONDER_OK;
}

ponder_status ponder_image_open(ponder_image **out, const char *path, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!path) return pn_fail(err, PONDER_E_ARGUMENT, "path: NULL");
    pn_image_options o;
    pn_image *image = NULL;
    pn_fenv fenv;
    ponder_status st = image_options(c, true, &o, err);
    if (st != PONDER_OK) return st;
    pn_fenv_enter(&fenv);
    st = pn_image_from_path(&image, path, &o, allocator(c), err);
    pn_fenv_leave(&fenv);
    return st == PONDER_OK ? new_image(out, image, allocator(c), err) : st;
}

ponder_status ponder_image_open_memory(ponder_image **out, const void *bytes, size_t n, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!bytes && n) return pn_fail(err, PONDER_E_ARGUMENT, "bytes: NULL");
    pn_image_options o;
    pn_image *image = NULL;
    pn_fenv fenv;
    ponder_status st = image_options(c, false, &o, err);
    if (st != PONDER_OK) return st;
    pn_fenv_enter(&fenv);
    st = pn_image_from_memory(&image, bytes, n, &o, allocator(c), err);
    pn_fenv_leave(&fenv);
    return st == PONDER_OK ? new_image(out, image, allocator(c), err) : st;
}

ponder_status ponder_image_open_view(ponder_image **out, const ponder_view *view, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!pn_api_struct(view, sizeof *view) || !view->pixels) return pn_fail(err, PONDER_E_ARGUMENT, "view: NULL or without its size or pixels");
    if (view->format != PONDER_RGB && view->format != PONDER_RGBA) return pn_fail(err, PONDER_E_ARGUMENT, "view: format %d is neither RGB nor RGBA", view->format);
    pn_image_options o;
    pn_image *image = NULL;
    const pn_image_view v = {view->pixels, view->width, view->height, view->stride, view->format == PONDER_RGB ? PN_PIXELS_RGB : PN_PIXELS_RGBA};
    ponder_status st = image_options(c, false, &o, err);
    if (st == PONDER_OK) st = pn_image_from_view(&image, &v, &o, allocator(c), err);
    return st == PONDER_OK ? new_image(out, image, allocator(c), err) : st;
}

static ponder_status check_image(const ponder_image *h, ponder_error *err)
{
    if (!h) return pn_fail(err, PONDER_E_ARGUMENT, "image: NULL");
    return pn_api_pid(h->pid, err);
}

ponder_status ponder_image_crop(ponder_image **out, ponder_image *from, uint32_t x, uint32_t y, uint32_t w, uint32_t h, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    pn_image *image = NULL;
    ponder_status st = check_image(from, err);
    if (st == PONDER_OK) st = pn_image_crop(&image, from->image, x, y, w, h, err);
    return st == PONDER_OK ? new_image(out, image, from->alloc.alloc ? &from->alloc : NULL, err) : st;
}

ponder_status ponder_image_outline(ponder_image **out, ponder_image *from, const double *boxes, size_t n, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    ponder_status st = check_image(from, err);
    if (st != PONDER_OK) return st;
    if ((!boxes && n) || n > 100000) return pn_fail(err, PONDER_E_ARGUMENT, "boxes: NULL, or more than 100000");
    const ponder_alloc *a = from->alloc.alloc ? &from->alloc : NULL;
    pn_region *r = pn_zalloc_array(a, n, sizeof *r);
    pn_image *image = NULL;
    if (!r) return pn_nomem(err, n * sizeof *r);
    for (size_t i = 0; i < n && st == PONDER_OK; i++) {
        const pn_box box = {boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]};
        if (!pn_box_to_region(pn_image_width(from->image), pn_image_height(from->image), &box, &r[i]))
            st = pn_fail(err, PONDER_E_RANGE, "box %zu is not made of numbers", i);
    }
    if (st == PONDER_OK) st = pn_image_outline(&image, from->image, r, (uint32_t)n, err);
    pn_free(a, r, n * sizeof *r);
    return st == PONDER_OK ? new_image(out, image, a, err) : st;
}

void ponder_image_free(ponder_image *h)
{
    if (!h || h->pid != getpid()) return;
    ponder_alloc a = h->alloc;
    pn_image_free(h->image);
    pn_free(a.alloc ? &a : NULL, h, sizeof *h);
}

ponder_status ponder_image_size(const ponder_image *h, uint32_t *width, uint32_t *height)
{
    ponder_status st = check_image(h, NULL);
    if (st != PONDER_OK) return st;
    if (!width || !height) return PONDER_E_ARGUMENT;
    *width = pn_image_width(h->image);
    *height = pn_image_height(h->image);
    return PONDER_OK;
}

ponder_status ponder_image_pixels(const ponder_image *h, uint8_t *rgb, size_t cap, size_t *n)
{
    ponder_status st = check_image(h, NULL);
    if (st != PONDER_OK) return st;
    size_t bytes = (size_t)pn_image_width(h->image) * pn_image_height(h->image) * 3;
    return pn_api_copy(pn_image_pixels(h->image), bytes, 1, rgb, cap, n, NULL);
}

ponder_status ponder_image_save_png(const ponder_image *h, const char *path, ponder_config *c)
{
    ponder_error *err = pn_api_config_error(c);
    ponder_status st = check_image(h, err);
    if (st != PONDER_OK) return st;
    if (!path) return pn_fail(err, PONDER_E_ARGUMENT, "path: NULL");
    pn_buf b;
    pn_buf_init(&b, h->alloc.alloc ? &h->alloc : NULL);
    st = pn_image_to_png(h->image, &b, err);
    if (st == PONDER_OK) st = pn_api_write_file(path, &b, err);
    pn_buf_free(&b);
    return st;
}

static ponder_status scale_place(const ponder_image *h, double x, double y, bool to_model, double *out_x, double *out_y)
{
    ponder_status st = check_image(h, NULL);
    if (st != PONDER_OK) return st;
    if (!out_x || !out_y) return PONDER_E_ARGUMENT;
    if (!isfinite(x) || !isfinite(y)) return PONDER_E_RANGE;
    const uint32_t w = pn_image_width(h->image), high = pn_image_height(h->image);
    *out_x = to_model ? pn_pixel_to_model(w, x) : pn_model_to_pixel(w, x);
    *out_y = to_model ? pn_pixel_to_model(high, y) : pn_model_to_pixel(high, y);
    return PONDER_OK;
}

ponder_status ponder_image_to_model(const ponder_image *h, double x, double y, double *model_x, double *model_y)
{
    return scale_place(h, x, y, true, model_x, model_y);
}

ponder_status ponder_image_from_model(const ponder_image *h, double model_x, double model_y, double *x, double *y)
{
    return scale_place(h, model_x, model_y, false, x, y);
}

/* ---- sounds --------------------------------------------------------------------------------------- */

static ponder_status new_sound(ponder_sound **out, pn_sound *sound, const ponder_alloc *a, ponder_error *err)
{
    ponder_sound *h = pn_zalloc(a, sizeof *h);
    if (!h) {
        pn_sound_free(sound);
        return pn_nomem(err, sizeof *h);
    }
    if (a) h->alloc = *a;
    h->pid = getpid();
    h->sound = sound;
    *out = h;
    return PONDER_OK;
}

static pn_sound_options sound_options(const ponder_config *c)
{
    return (pn_sound_options){.max_samples = (uint64_t)pn_config_i64(c, PONDER_P_MAX_SECONDS) * PN_AUDIO_RATE};
}

ponder_status ponder_sound_open(ponder_sound **out, const char *path, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!path) return pn_fail(err, PONDER_E_ARGUMENT, "path: NULL");
    const pn_sound_options o = sound_options(c);
    pn_sound *sound;
    pn_fenv fenv;
    pn_fenv_enter(&fenv);
    ponder_status st = pn_sound_wav_path(&sound, path, &o, allocator(c), err);
    pn_fenv_leave(&fenv);
    return st == PONDER_OK ? new_sound(out, sound, allocator(c), err) : st;
}

ponder_status ponder_sound_open_memory(ponder_sound **out, const void *bytes, size_t n, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!bytes && n) return pn_fail(err, PONDER_E_ARGUMENT, "bytes: NULL");
    const pn_sound_options o = sound_options(c);
    pn_sound *sound;
    pn_fenv fenv;
    pn_fenv_enter(&fenv);
    ponder_status st = pn_sound_wav_memory(&sound, bytes, n, &o, allocator(c), err);
    pn_fenv_leave(&fenv);
    return st == PONDER_OK ? new_sound(out, sound, allocator(c), err) : st;
}

ponder_status ponder_sound_open_samples(ponder_sound **out, const ponder_samples *s, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!pn_api_struct(s, sizeof *s) || (!s->samples && s->frames)) return pn_fail(err, PONDER_E_ARGUMENT, "samples: NULL or without its size");
    const pn_sound_options o = sound_options(c);
    pn_sound *sound;
    pn_fenv fenv;
    pn_fenv_enter(&fenv);
    ponder_status st = pn_sound_raw(&sound, s->samples, s->frames, s->channels, s->rate, &o, allocator(c), err);
    pn_fenv_leave(&fenv);
    return st == PONDER_OK ? new_sound(out, sound, allocator(c), err) : st;
}

void ponder_sound_free(ponder_sound *h)
{
    if (!h || h->pid != getpid()) return;
    ponder_alloc a = h->alloc;
    pn_sound_free(h->sound);
    pn_free(a.alloc ? &a : NULL, h, sizeof *h);
}

/* ---- what they cost ------------------------------------------------------------------------------------ */

enum { MARKS = 2 };

ponder_status ponder_model_image_tokens(ponder_model *m, uint32_t width, uint32_t height, size_t *n, ponder_error *error)
{
    ponder_error *err = pn_api_error(error);
    if (!m || !n) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    ponder_status st = pn_api_pid(m->pid, err);
    if (st != PONDER_OK) return st;
    if (!m->core->vision) return pn_fail(err, PONDER_E_UNSUPPORTED, "the model sees no images: no image tower was loaded");
    const pn_grid_rule rule = pn_core_grid(m->core, PN_PART_IMAGE);
    pn_grid g;
    st = pn_grid_pick(&rule, width, height, &g, err);
    if (st == PONDER_OK) *n = (size_t)g.rows * g.cols + MARKS;
    return st;
}

ponder_status ponder_model_sound_tokens(ponder_model *m, uint64_t frames, uint32_t rate, size_t *n, ponder_error *error)
{
    ponder_error *err = pn_api_error(error);
    if (!m || !n) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    ponder_status st = pn_api_pid(m->pid, err);
    if (st != PONDER_OK) return st;
    if (!m->core->audio) return pn_fail(err, PONDER_E_UNSUPPORTED, "the model does not hear: no audio tower was loaded");
    if (rate < PN_AUDIO_MIN_RATE || rate > PN_AUDIO_MAX_RATE) return pn_fail(err, PONDER_E_RANGE, "rate: %u is outside %d..%d", rate, PN_AUDIO_MIN_RATE, PN_AUDIO_MAX_RATE);
    uint64_t samples = pn_resampled_count(frames, rate, PN_AUDIO_RATE);
    *n = (size_t)(pn_audio_rows(samples, pn_audio_about(m->core->audio)->samples) + MARKS);
    return PONDER_OK;
}

/* ---- into a session ----------------------------------------------------------------------------------------- */

#define BEGIN(s) \
    pn_call call; \
    ponder_status st = pn_call_begin(&call, s); \
    if (st != PONDER_OK) return st
#define END() return pn_call_end(&call, st)

ponder_status ponder_session_attach_text(ponder_session *s, const char *text, size_t bytes)
{
    BEGIN(s);
    st = !text && bytes ? pn_fail(&s->err, PONDER_E_ARGUMENT, "text: NULL") : pn_session_attach_text(s, text, bytes);
    END();
}

ponder_status ponder_session_attach_image(ponder_session *s, ponder_image *image)
{
    BEGIN(s);
    st = check_image(image, &s->err);
    if (st == PONDER_OK) st = pn_session_attach_image(s, image->image);
    END();
}

ponder_status ponder_session_attach_video(ponder_session *s, ponder_image *const *frames, const double *seconds, size_t n)
{
    BEGIN(s);
    pn_image **images = NULL;
    if (!frames || !seconds || n == 0 || n > PN_FRAMES) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "a video needs 1 to %d frames and their times", PN_FRAMES);
    else if (!(images = pn_zalloc_array(s->a, n, sizeof *images))) st = pn_nomem(&s->err, n * sizeof *images);
    for (size_t i = 0; i < n && st == PONDER_OK; i++) {
        st = check_image(frames[i], &s->err);
        if (st == PONDER_OK) images[i] = frames[i]->image;
    }
    if (st == PONDER_OK) st = pn_session_attach_video(s, images, seconds, n);
    pn_free(s->a, images, n * sizeof *images);
    END();
}

ponder_status ponder_session_attach_sound(ponder_session *s, ponder_sound *sound)
{
    BEGIN(s);
    if ((st = pn_call_local(s, "a sound")) != PONDER_OK) return pn_call_end(&call, st);
    st = sound ? pn_api_pid(sound->pid, &s->err) : pn_fail(&s->err, PONDER_E_ARGUMENT, "sound: NULL");
    if (st == PONDER_OK) st = pn_session_attach_sound(s, sound->sound);
    END();
}

ponder_status ponder_session_listen(ponder_session *s, const ponder_samples *p)
{
    BEGIN(s);
    if ((st = pn_call_local(s, "a sound")) != PONDER_OK) return pn_call_end(&call, st);
    if (!pn_api_struct(p, sizeof *p) || (!p->samples && p->frames)) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "samples: NULL or without its size");
    else st = pn_session_listen(s, p->samples, p->frames, p->rate, p->channels);
    END();
}

ponder_status ponder_session_features(ponder_session *s, float *rows, size_t cap, size_t *n)
{
    BEGIN(s);
    if ((st = pn_call_local(s, "rows of media")) != PONDER_OK) return pn_call_end(&call, st);
    pn_buf b;
    pn_buf_init(&b, s->a);
    st = pn_session_features(s, &b);
    if (st == PONDER_OK) st = pn_api_copy(b.p, b.n / sizeof(float), sizeof(float), rows, cap, n, &s->err);
    pn_buf_free(&b);
    END();
}

ponder_status ponder_session_prefill(ponder_session *s, uint64_t max_us)
{
    BEGIN(s);
    if ((st = pn_call_local(s, "computing ahead")) != PONDER_OK) return pn_call_end(&call, st);
    uint64_t now = pn_now_us();
    st = pn_session_prefill(s, max_us == UINT64_MAX ? 0 : now + PN_MIN(max_us, UINT64_C(1) << 50));
    END();
}
