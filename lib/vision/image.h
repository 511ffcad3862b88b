/* image: pictures (views, crops, content hash), the grid a picture is resized to, the resampling, and patches for a tower.
 * Everything that comes from a file is an attacker's. */
#ifndef PN_VISION_IMAGE_H
#define PN_VISION_IMAGE_H

#include "base/base.h"

/* ---- pictures: RGB, 8 bits, immutable, counted ---------------------------------------------------------------- */
typedef struct pn_image pn_image;

/* The reference's two ways to see a picture. WHITE: as one handed over in memory, opened by Pillow: laid over white, and
 * of 16 bits the upper 8. DROP: as a file that it decodes itself: the alpha is lost, and 16 bits are rounded to 8. */
typedef enum pn_alpha { PN_ALPHA_WHITE = 0, PN_ALPHA_DROP = 1 } pn_alpha;

typedef struct pn_image_options {
    pn_alpha alpha;
    uint64_t max_pixels;    /* 0: PN_IMAGE_MAX_PIXELS. Looked at before anything is decompressed */
} pn_image_options;

enum { PN_IMAGE_MAX_PIXELS = 1 << 27, PN_IMAGE_MAX_SIDE = 1 << 20 };

/* A PNG or a JPEG, told by its content; `o` NULL: white, default limit. `a` is copied. EXIF orientation is
 * applied. PONDER_E_IO: the file cannot be read. PONDER_E_UNSUPPORTED: another format, or a build without libpng or
 * libjpeg-turbo, named. PONDER_E_FORMAT: damaged, cut short, or a wrong checksum. PONDER_E_RANGE: beyond the limit. */
ponder_status pn_image_from_path(pn_image **out, const char *path, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err);
ponder_status pn_image_from_memory(pn_image **out, const void *p, size_t n, const pn_image_options *o, const ponder_alloc *a,
                                   ponder_error *err);

/* Pixels of the host, copied. Rows lie `stride` bytes apart (0: close together), top row first. */
typedef enum pn_pixels { PN_PIXELS_RGB = 3, PN_PIXELS_RGBA = 4 } pn_pixels; /* the value: bytes a pixel */
typedef struct pn_image_view {
    const uint8_t *pixels;
    uint32_t width, height;
    size_t stride;
    pn_pixels format;
} pn_image_view;

ponder_status pn_image_from_view(pn_image **out, const pn_image_view *v, const pn_image_options *o, const ponder_alloc *a,
                                 ponder_error *err);
/* A picture of its own: w x h pixels from (x, y), which must lie inside. */
ponder_status pn_image_crop(pn_image **out, const pn_image *im, uint32_t x, uint32_t y, uint32_t w, uint32_t h, ponder_error *err);
pn_image *pn_image_keep(pn_image *im);  /* any thread; returns im */
void pn_image_free(pn_image *im);       /* any thread; the last one frees */

uint32_t pn_image_width(const pn_image *im);
uint32_t pn_image_height(const pn_image *im);
const uint8_t *pn_image_pixels(const pn_image *im); /* [height][width][3], close together; PN_IMAGE_SLACK readable bytes follow */
uint64_t pn_image_hash(const pn_image *im);         /* of size and pixels: the same picture has the same, however it came */
size_t pn_image_bytes(const pn_image *im);          /* memory held */

enum { PN_IMAGE_SLACK = 64 };

/* ---- places -----------------------------------------------------------------------------------------------------------
 * The model names places in 0..1000 of the width and of the height of the whole upright picture, whatever grid it was
 * resized to; a crop is a picture of its own. Both ways are exact but for the last bits of a double, so a place comes back
 * to its pixel. (A model that writes whole numbers cannot name a pixel better than side / 2000.) */
double pn_pixel_to_model(uint32_t side, double pixel);
double pn_model_to_pixel(uint32_t side, double model);

typedef struct pn_box { double x_min, y_min, x_max, y_max; } pn_box;     /* in 0..1000 */
typedef struct pn_region { uint32_t x, y, width, height; } pn_region;    /* in pixels */

/* The pixels of a box: edges to the nearest, corners in any order, what lies outside cut off, at least one pixel.
 * false: not numbers, or a picture without pixels. */
bool pn_box_to_region(uint32_t width, uint32_t height, const pn_box *box, pn_region *out);
pn_box pn_region_to_box(uint32_t width, uint32_t height, const pn_region *region);

/* A copy with an outline round each region, in colours that take turns. */
ponder_status pn_image_outline(pn_image **out, const pn_image *im, const pn_region *regions, uint32_t n, ponder_error *err);
/* Appends a PNG to `to`. PONDER_E_UNSUPPORTED without libpng. */
ponder_status pn_image_to_png(const pn_image *im, pn_buf *to, ponder_error *err);

/* ---- the grid ------------------------------------------------------------------------------------------------------
 * A cell is patch x merge pixels wide and high and becomes one token. */
typedef struct pn_grid_rule { uint32_t patch, merge, max_cells; } pn_grid_rule; /* Muse: 14, 2, 4096 (a video's frame: 144) */
typedef struct pn_grid { uint32_t rows, cols; } pn_grid;                        /* cells */

/* The grid that the reference picks for a picture of width x height pixels. It may hold more than max_cells when no grid
 * near the shape fits (thinner than 1 : max_cells). PONDER_E_RANGE: a side of 0 or beyond PN_IMAGE_MAX_SIDE. */
ponder_status pn_grid_pick(const pn_grid_rule *rule, uint32_t width, uint32_t height, pn_grid *out, ponder_error *err);

/* ---- resampling: Lanczos-3 with antialiasing, columns first, both passes rounded to 8 bits ------------------------
 * Bit for bit what the reference's processor computes (weights of 16 bits, see resize.c), whatever the CPU.
 * Two phases, each cut in tiles of at most about a quarter of a millisecond. Tiles of one phase may run in any order and on
 * any threads; phase 1 begins after the last tile of phase 0. A phase may have no tiles. */
typedef struct pn_resize pn_resize;
enum { PN_RESIZE_PHASES = 2 };

/* `cpu`: pn_cpu_flags() or fewer. Keeps `im` alive. */
ponder_status pn_resize_new(pn_resize **out, pn_image *im, uint32_t width, uint32_t height, uint32_t cpu, const ponder_alloc *a,
                            ponder_error *err);
void pn_resize_free(pn_resize *r);
uint32_t pn_resize_tiles(const pn_resize *r, uint32_t phase);
void pn_resize_tile(pn_resize *r, uint32_t phase, uint32_t tile);
void pn_resize_run(pn_resize *r);                      /* all of it, here */
const uint8_t *pn_resize_pixels(const pn_resize *r);   /* [height][width][3] when the last tile is done; lives as long as r */
/* The most that pn_resize_new takes for these sizes, in bytes. */
size_t pn_resize_bytes(uint32_t from_width, uint32_t from_height, uint32_t width, uint32_t height);

/* ---- patches ---------------------------------------------------------------------------------------------------------
 * (v - 255 mean) / (255 std), each step rounded to float as the reference does: a table a channel. */
typedef struct pn_pixel_scale { float of[3][256]; } pn_pixel_scale;
void pn_pixel_scale_init(pn_pixel_scale *s, const float mean[3], const float std[3]);

/* Patches from..to-1 of a picture of grid_width patches a row, in row-major order: out is [to - from][n_frames][3][patch][patch].
 * `frames`: resized pixels [..][grid_width * patch][3]; a single picture gives the same pointer for each frame. */
void pn_patches(float *out, const uint8_t *const *frames, uint32_t n_frames, uint32_t patch, uint32_t grid_width,
                const pn_pixel_scale *scale, uint32_t from, uint32_t to);

/* ---- video: a list of frames in order -------------------------------------------------------------------------------------
 * Which frames the reference looks at, how it pairs them, and the text before each pair. */
typedef struct pn_video_rule {
    double fps;             /* frames wanted a second: 2 */
    uint32_t max_frames;    /* 96 */
    uint32_t group;         /* frames a patch: 2 */
} pn_video_rule;

/* How many of `total` frames, of `fps` a second, are looked at; 0 when total is 0 or fps is not above 0. */
uint32_t pn_video_count(const pn_video_rule *rule, uint32_t total, double fps);
/* The i-th of them, i < count. */
uint32_t pn_video_index(uint32_t total, uint32_t count, uint32_t i);
/* Groups of a list of frames; the last one is filled up by repeating the last frame. */
uint32_t pn_video_groups(const pn_video_rule *rule, uint32_t count);
/* Frame k of group g. */
uint32_t pn_video_frame(const pn_video_rule *rule, uint32_t count, uint32_t g, uint32_t k);
/* Frames a second of n frames at these times (seconds; finite, not negative, none before the one in front of it, else
 * PONDER_E_ARGUMENT with the first that is wrong); 24, the reference's guess, when they span no time. */
ponder_status pn_video_rate(const double *times, uint32_t n, double *fps, ponder_error *err);
/* "Time: 1.5s": the text in front of a group, `seconds` being the time of its first frame, with one decimal, rounded from the
 * exact value and halves to even, as Python does it. 0 <= seconds <= 1e15, else 0 is returned. Bytes written, without the NUL. */
enum { PN_VIDEO_TEXT = 32 };
size_t pn_video_text(char text[PN_VIDEO_TEXT], double seconds);

#endif
