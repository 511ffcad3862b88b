/* Each silent mistake of a vision tower, made on purpose: the tower is loaded as it should be, then one thing is made wrong, and
 * the rows must move by more than ten tolerances. It proves that the parity test would fail. Most traps change the loaded tower;
 * some put another function into the table of kernels, some change working memory between operations. */
#include "tower_rig.h"

typedef struct trap {
    const char *name;
    const char *file;         /* of the model: "" the folder, or "mmproj.gguf" */
    const char *spark, *glimmer; /* the case that shows it in each model; NULL: none does */
    void (*change)(pn_tower *t);
    void (*hook)(pn_kernels *k);
    watch_fn watch;
    void (*rows)(float *rows, size_t n, size_t width);
} trap;

static struct {
    pn_kernels real;
    pn_tower *t;
    const item *c;
    uint32_t calls;           /* of the norm before the blocks: the patch's number */
    void (*position)(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n);
    void *memory[256];         /* of changed weights */
    uint32_t n_memory;
} now;

static void *keep(size_t bytes)
{
    assert_true(now.n_memory < PN_COUNT(now.memory));
    return now.memory[now.n_memory++] = aligned_alloc(64, (bytes + 63) / 64 * 64);
}

#define EACH_BLOCK(t, b) for (pn_block *b = (t)->blocks; b < (t)->blocks + (t)->d.layers; b++)

/* ---- which layers see everything, and windows ------------------------------------------------------------------------ */

static void full_everywhere(pn_tower *t) { for (uint32_t i = 0; i < t->d.layers; i++) t->d.full[i] = true; }
static void windows_everywhere(pn_tower *t) { for (uint32_t i = 0; i < t->d.layers; i++) t->d.full[i] = false; }
static void last_in_windows(pn_tower *t) { t->d.full[t->d.layers - 1] = false; }
static void full_from_the_first(pn_tower *t) { for (uint32_t i = 0; i < t->d.layers; i++) t->d.full[i] = i % 4 == 0 || i + 1 == t->d.layers; }
static void full_from_the_last(pn_tower *t) { for (uint32_t i = 0; i < t->d.layers; i++) t->d.full[i] = (t->d.layers - 1 - i) % 4 == 0; }

/* ---- rotation ------------------------------------------------------------------------------------------------------------ */

static void other_pairs(pn_tower *t) { t->d.rope_pairs = !t->d.rope_pairs; }
static void set_theta(pn_tower *t, double theta, double dim)
{
    for (uint32_t i = 0; i < t->d.head_dim / 4; i++) t->freq[i] = (float)pow(theta, -2.0 * i / dim);
}
static void theta_500000(pn_tower *t) { set_theta(t, 500000, t->d.head_dim / 2); }
static void theta_over_the_head(pn_tower *t) { set_theta(t, t->d.theta, t->d.head_dim); }
static void no_rotation(pn_tower *t) { for (uint32_t i = 0; i < t->d.head_dim / 4; i++) t->freq[i] = 0; }

/* The angles of a head as (row, column) instead of (column, row): the same as the quarters of q and k in the other order. */
static void swap_quarters(const pn_tower_info *d, const float *from, float *to, size_t k)
{
    const uint32_t quarter = d->head_dim / 4;
    for (uint32_t r = 0; r < d->width; r++) {
        uint32_t other = r % d->head_dim / quarter % 2 ? r - quarter : r + quarter;
        memcpy(to + other * k, from + r * k, k * sizeof *to);
    }
}

static void set_weight(pn_weight *w, const float *x)
{
    const uint32_t rows = w->first.rows;
    const size_t k = w->first.k, panel = pn_panel_bytes(PN_F32, k);
    uint8_t *to = keep(panel * ((rows + PN_PANEL - 1) / PN_PANEL));
    for (uint32_t p = 0; p * PN_PANEL < rows; p++)
        pn_pack_panel(PN_F32, x + (size_t)p * PN_PANEL * k, k * sizeof *x, PN_MIN(rows - p * PN_PANEL, (uint32_t)PN_PANEL), k, to + p * panel);
    w->first = (pn_matrix){.type = PN_F32, .rows = rows, .k = k, .packed = to};
}

static float *weight_floats(const pn_weight *w)
{
    float *x = keep(w->first.rows * w->first.k * sizeof *x);
    for (uint32_t r = 0; r < w->first.rows; r++) pn_matrix_row(&w->first, r, x + r * w->first.k);
    return x;
}

static void row_before_column(pn_tower *t)
{
    const size_t width = t->d.width;
    EACH_BLOCK(t, b) {
        pn_weight *w[] = {&b->q, &b->k};
        float **bias[] = {&b->q_b, &b->k_b};
        for (int i = 0; i < 2; i++) {
            float *to = keep(width * width * sizeof *to), *to_bias = keep(width * sizeof *to);
            swap_quarters(&t->d, weight_floats(w[i]), to, width);
            swap_quarters(&t->d, *bias[i], to_bias, 1);
            set_weight(w[i], to);
            *bias[i] = to_bias;
        }
    }
}

/* From the far corner: rows count upwards, columns too. */
static void angles_from(pn_encode *e, uint32_t kind, bool rows, bool cols)
{
    if (kind != PN_E_ANGLES) return;
    const uint32_t unit = e->d->head_dim / 2;
    float row[64];
    for (uint32_t axis = 0; axis < 2; axis++) {
        const uint32_t n = axis ? e->width : e->height;
        float *a = e->angles + (axis ? (size_t)e->height * unit : 0);
        if (!(axis ? cols : rows)) continue;
        for (uint32_t i = 0; i < n / 2; i++) {
            memcpy(row, a + i * unit, unit * sizeof *row);
            memcpy(a + i * unit, a + (n - 1 - i) * unit, unit * sizeof *row);
            memcpy(a + (n - 1 - i) * unit, row, unit * sizeof *row);
        }
    }
}
static void rows_from_the_bottom(pn_encode *e, uint32_t kind, void *ctx) { (void)ctx, angles_from(e, kind, true, false); }
static void both_from_the_far_corner(pn_encode *e, uint32_t kind, void *ctx) { (void)ctx, angles_from(e, kind, true, true); }

/* Positions begin anew in each window. */
static void positions_in_the_window(pn_encode *e, uint32_t kind, void *ctx)
{
    (void)ctx;
    if (kind != PN_E_ANGLES) return;
    const uint32_t unit = e->d->head_dim / 2, s = e->d->side;
    for (uint32_t i = s; i < e->height; i++) memcpy(e->angles + i * unit, e->angles + i % s * unit, unit * sizeof(float));
    float *cols = e->angles + (size_t)e->height * unit;
    for (uint32_t i = s; i < e->width; i++) memcpy(cols + i * unit, cols + i % s * unit, unit * sizeof(float));
}

/* ---- the position table: the tower's own lookup is turned off, and another added before the norm ------------------------ */

typedef struct axis {
    int32_t at[2];
    float weight[2];
} axis;

static axis sample(double from)
{
    const double first = floor(from);
    return (axis){{(int32_t)first, (int32_t)first + 1}, {(float)(1 - (from - first)), (float)(from - first)}};
}

static double centre(uint32_t i, uint32_t size, uint32_t side) { return (i + 0.5) * side / size - 0.5; }

static void add_taps(float *x, const pn_tower *t, axis down, axis across, bool border, bool renormalise)
{
    const int32_t side = (int32_t)t->d.side;
    const float *table = *(float *const *)now.memory[0];
    float all = 0, weight[2][2];
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            bool in = down.at[a] >= 0 && down.at[a] < side && across.at[b] >= 0 && across.at[b] < side;
            weight[a][b] = in || border ? down.weight[a] * across.weight[b] : 0;
            all += weight[a][b];
        }
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            int32_t r = PN_MIN(PN_MAX(down.at[a], 0), side - 1), c = PN_MIN(PN_MAX(across.at[b], 0), side - 1);
            for (size_t i = 0; i < t->d.width; i++)
                x[i] += weight[a][b] / (renormalise ? all : 1) * table[((size_t)r * (size_t)side + (size_t)c) * t->d.width + i];
        }
}

/* How it is, to show that the other way of adding is none of the mistakes. */
static void as_it_is(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    const uint32_t s = t->d.side;
    if (t->d.lookup == PN_LOOKUP_GLIMMER) add_taps(x, t, sample(centre(n / width, height, s)), sample(centre(n % width, width, s)), false, false);
    else add_taps(x, t, sample(centre(n / height, width, s)), sample(centre(n % height, height, s)), false, false);
}
static void with_borders(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    add_taps(x, t, sample(centre(n / width, height, t->d.side)), sample(centre(n % width, width, t->d.side)), true, false);
}
static void renormalised(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    add_taps(x, t, sample(centre(n / width, height, t->d.side)), sample(centre(n % width, width, t->d.side)), false, true);
}
static void corners_aligned(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    const double last = t->d.side - 1;
    add_taps(x, t, sample(n / width * last / PN_MAX(height - 1, 1u)), sample(n % width * last / PN_MAX(width - 1, 1u)), false, false);
}
static void no_half_pixel(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    add_taps(x, t, sample((double)(n / width) * t->d.side / height), sample((double)(n % width) * t->d.side / width), false, false);
}
static void nearest(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    add_taps(x, t, sample(rint(centre(n / width, height, t->d.side))), sample(rint(centre(n % width, width, t->d.side))), true, false);
}
static void not_resampled(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    (void)height;
    add_taps(x, t, sample(PN_MIN(n / width, t->d.side - 1)), sample(PN_MIN(n % width, t->d.side - 1)), false, false);
}
static void transposed(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    add_taps(x, t, sample(centre(n % width, width, t->d.side)), sample(centre(n / width, height, t->d.side)), false, false);
}
static void glimmer_lookup(pn_tower *t) { t->d.lookup = PN_LOOKUP_GLIMMER; }
static void spark_lookup(pn_tower *t) { t->d.lookup = PN_LOOKUP_SPARK; }

static void norm_after_position(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    if (w == now.t->pre_w) {
        const pn_tower_info *d = &now.t->d;
        now.position((float *)(uintptr_t)x, now.t, now.c->grid.rows * d->merge, now.c->grid.cols * d->merge, now.calls++);
    }
    now.real.layer_norm(y, x, w, b, n, eps);
}
static void position_hook(pn_kernels *k) { k->layer_norm = norm_after_position; }

static void without_table(pn_tower *t) /* of the side that it says now */
{
    const size_t bytes = (size_t)t->d.side * t->d.side * t->d.width * sizeof(float);
    float **real = keep(sizeof *real), *zero = keep(bytes);
    assert_int_equal(now.n_memory, 2);
    *real = t->table;
    memset(zero, 0, bytes);
    t->table = zero;
}
#define POSITION(name) static void table_##name(pn_tower *t) { without_table(t); now.position = name; }
POSITION(as_it_is)
POSITION(with_borders)
POSITION(renormalised)
POSITION(corners_aligned)
POSITION(no_half_pixel)
POSITION(nearest)
POSITION(not_resampled)
POSITION(transposed)
static void no_table(pn_tower *t) { without_table(t); }
/* Windows of side x merge patches; the table's side stays. */
static void position_of_half(float *x, const pn_tower *t, uint32_t height, uint32_t width, uint32_t n)
{
    pn_tower half = *t;
    half.d.side /= t->d.merge;
    as_it_is(x, &half, height, width, n);
}
static void windows_twice_as_wide(pn_tower *t)
{
    t->d.side *= t->d.merge;
    without_table(t);
    now.position = position_of_half;
}

/* ---- norms ------------------------------------------------------------------------------------------------------------------ */

static void eps_of_the_blocks(pn_tower *t) { t->d.eps = PN_BLOCK_EPS; }

#define NORM_HOOK(name, body) \
    static void name##_norm(float *y, const float *x, const float *w, const float *b, size_t n, float eps) { body } \
    static void name(pn_kernels *k) { k->layer_norm = name##_norm; }
NORM_HOOK(one_eps, now.real.layer_norm(y, x, w, b, n, now.t->d.eps);)
NORM_HOOK(block_eps_1e6, now.real.layer_norm(y, x, w, b, n, eps == PN_BLOCK_EPS && w != now.t->pre_w && w != now.t->post_w ? 1e-6f : eps);)
NORM_HOOK(no_mean, now.real.norm(PN_NORM_PLAIN, y, x, w, n, eps); now.real.add(y, b, n);)
NORM_HOOK(no_pre_norm, if (w == now.t->pre_w) memcpy(y, x, n * sizeof *y); else now.real.layer_norm(y, x, w, b, n, eps);)
NORM_HOOK(no_post_norm, if (w == now.t->post_w) memcpy(y, x, n * sizeof *y); else now.real.layer_norm(y, x, w, b, n, eps);)

static float *zeros(size_t n)
{
    float *x = keep(n * sizeof *x);
    memset(x, 0, n * sizeof *x);
    return x;
}
#define NO_BIAS(member, n) static void no_##member(pn_tower *t) { float *z = zeros(n); EACH_BLOCK(t, b) b->member = z; }
NO_BIAS(q_b, t->d.width)
NO_BIAS(k_b, t->d.width)
NO_BIAS(v_b, t->d.width)
NO_BIAS(o_b, t->d.width)
NO_BIAS(fc1_b, t->d.ff)
NO_BIAS(fc2_b, t->d.width)
NO_BIAS(norm1_b, t->d.width)
NO_BIAS(norm2_b, t->d.width)
static void no_pre_b(pn_tower *t) { t->pre_b = zeros(t->d.width); }
static void no_post_b(pn_tower *t) { t->post_b = zeros(t->d.width); }

/* ---- GELU ------------------------------------------------------------------------------------------------------------------- */

static float ones_of[1 << 12];
static void tanh_form(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < PN_COUNT(ones_of); i++) ones_of[i] = 1;
    now.real.gelu_tanh_mul(y, x, ones_of, n);
}
static bool in_adapter(size_t n) { return n == now.t->d.adapter; }
#define GELU_HOOK(name, body) \
    static void name##_gelu(float *y, const float *x, const float *up, size_t n) { body } \
    static void name(pn_kernels *k) { k->gelu_mul = name##_gelu; }
GELU_HOOK(tanh_everywhere, (void)up; tanh_form(y, x, n);)
GELU_HOOK(tanh_in_the_blocks, if (in_adapter(n)) now.real.gelu_mul(y, x, up, n); else tanh_form(y, x, n);)
GELU_HOOK(tanh_in_the_adapter, if (in_adapter(n)) tanh_form(y, x, n); else now.real.gelu_mul(y, x, up, n);)
GELU_HOOK(sigmoid_form, (void)up; for (size_t i = 0; i < n; i++) y[i] = x[i] / (1 + expf(-1.702f * x[i]));)

static void no_second_gelu(pn_encode *e, uint32_t kind, void *ctx)
{
    static float before[1 << 16];
    (void)ctx;
    const size_t n = (size_t)pn_encode_cells(e) * e->d->adapter;
    assert_true(n <= PN_COUNT(before));
    if (kind == PN_E_FC2) memcpy(before, e->fc2.x, n * sizeof *before);
    if (kind == PN_E_FC2_GELU) memcpy(e->fc2.x, before, n * sizeof *before);
}

/* ---- attention, merging, patches ------------------------------------------------------------------------------------------------ */

static void unscaled_block(pn_kv_type t, const void *key, const void *value, uint32_t hd, float scale, const pn_attn_query *q, uint32_t n,
                           const void *next, void *scratch)
{
    (void)scale;
    now.real.attn_block(t, key, value, hd, 1, q, n, next, scratch);
}
static void no_scale(pn_kernels *k) { k->attn_block = unscaled_block; }

/* [position][channel] instead of [channel][position], or the cell's positions column by column. */
static void permute_merged(pn_encode *e, uint32_t kind, bool transpose)
{
    if (kind != PN_E_MERGE) return;
    const size_t unit = (size_t)e->d->merge * e->d->merge, width = e->d->width, n = unit * width;
    float *row = malloc(n * sizeof *row);
    for (uint32_t i = 0; i < pn_encode_cells(e); i++) {
        float *x = e->merged.x + i * n;
        memcpy(row, x, n * sizeof *row);
        for (size_t c = 0; c < width; c++)
            for (size_t p = 0; p < unit; p++) {
                size_t other = p % e->d->merge * e->d->merge + p / e->d->merge;
                x[transpose ? c * unit + other : p * width + c] = row[c * unit + p];
            }
    }
    free(row);
}
static void position_slow(pn_encode *e, uint32_t kind, void *ctx) { (void)ctx, permute_merged(e, kind, false); }
static void cell_by_columns(pn_encode *e, uint32_t kind, void *ctx) { (void)ctx, permute_merged(e, kind, true); }

/* The stream as the windows have it, taken for row by row. */
static void window_order_kept(pn_encode *e, uint32_t kind, void *ctx)
{
    (void)ctx;
    const size_t width = e->d->width;
    if (kind != PN_E_END || e->at + e->chunk < e->n || e->t->blocks + e->d->layers - 1 != ctx) return;
    float *x = malloc(e->n * width * sizeof *x);
    for (uint32_t i = 0; i < e->n; i++) memcpy(x + i * width, e->x + i * width, width * sizeof *x);
    for (uint32_t i = 0; i < e->n; i++)
        memcpy(e->x + pn_encode_column(e, i / e->width, i % e->width) * width, x + i * width, width * sizeof *x);
    free(x);
}

/* (channel, frame) instead of (frame, channel). */
static void channel_before_frame(pn_encode *e, uint32_t kind, void *ctx)
{
    (void)ctx;
    if (kind != PN_E_PATCHES) return;
    const size_t plane = (size_t)e->d->patch * e->d->patch, n = 6 * plane;
    float *row = malloc(n * sizeof *row);
    for (uint32_t i = 0; i < pn_encode_columns(e); i++) {
        float *x = e->patches.x + i * n;
        memcpy(row, x, n * sizeof *row);
        for (size_t f = 0; f < 2; f++)
            for (size_t c = 0; c < 3; c++) memcpy(x + (c * 2 + f) * plane, row + (f * 3 + c) * plane, plane * sizeof *x);
    }
    free(row);
}
static void first_frame_twice(pn_encode *e, uint32_t kind, void *ctx)
{
    (void)ctx;
    const size_t half = (size_t)3 * e->d->patch * e->d->patch;
    for (uint32_t i = 0; kind == PN_E_PATCHES && i < pn_encode_columns(e); i++)
        memcpy(e->patches.x + (2 * i + 1) * half, e->patches.x + 2 * i * half, half * sizeof(float));
}
static void frames_swapped(pn_encode *e, uint32_t kind, void *ctx)
{
    (void)ctx;
    const size_t half = (size_t)3 * e->d->patch * e->d->patch;
    for (uint32_t i = 0; kind == PN_E_PATCHES && i < pn_encode_columns(e); i++)
        for (size_t k = 0; k < half; k++) {
            float *a = e->patches.x + 2 * i * half + k, f = *a;
            *a = a[half];
            a[half] = f;
        }
}
/* A folder's biases beside a GGUF's weights. */
static void biases_not_reordered(pn_tower *t)
{
    pn_tower *folder = load_tower(t->d.lookup == PN_LOOKUP_SPARK ? models[1] : models[0], "");
    const size_t bytes = t->d.width * sizeof(float);
    for (uint32_t i = 0; i < t->d.layers; i++) {
        t->blocks[i].q_b = memcpy(keep(bytes), folder->blocks[i].q_b, bytes);
        t->blocks[i].k_b = memcpy(keep(bytes), folder->blocks[i].k_b, bytes);
    }
    pn_tower_free(folder);
}

/* ---- after ------------------------------------------------------------------------------------------------------------------- */

static void norm_here_too(float *rows, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++) now.real.norm(PN_NORM_PLAIN, rows + i * width, rows + i * width, NULL, width, 1e-5f);
}

#define GGUF "mmproj.gguf"
static const trap traps[] = {
    {"full everywhere", "", "large", "beyond", .change = full_everywhere},
    {"windows everywhere", "", "large", "beyond", .change = windows_everywhere},
    {"last layer in windows", GGUF, "large", "beyond", .change = last_in_windows},
    {"full layers from the first", GGUF, "large", "beyond", .change = full_from_the_first},
    {"full layers from the last", GGUF, "large", "beyond", .change = full_from_the_last},
    {"windows twice as wide", "", NULL, "beyond", .change = windows_twice_as_wide, .hook = position_hook},
    {"other pairs rotated", "", "square", "square", .change = other_pairs},
    {"other pairs rotated", GGUF, "square", "square", .change = other_pairs},
    {"biases not re-ordered", GGUF, "square", "square", .change = biases_not_reordered},
    {"theta 500000", "", "square", "square", .change = theta_500000},
    {"frequencies over the whole head", "", "square", "square", .change = theta_over_the_head},
    {"no rotation", "", "square", "square", .change = no_rotation},
    {"row before column", "", "square", "square", .change = row_before_column},
    {"rows from the bottom", "", "square", "square", .watch = rows_from_the_bottom},
    {"from the far corner", "", "square", "square", .watch = both_from_the_far_corner},
    {"positions in the window", "", "large", "beyond", .watch = positions_in_the_window},
    {"no position table", "", "square", "square", .change = no_table},
    {"table with borders", "", NULL, "beyond", .change = table_with_borders, .hook = position_hook},
    {"table renormalised", "", NULL, "beyond", .change = table_renormalised, .hook = position_hook},
    {"table's corners aligned", "", "square", "square", .change = table_corners_aligned, .hook = position_hook},
    {"table without half pixels", "", "square", "square", .change = table_no_half_pixel, .hook = position_hook},
    {"table's nearest entry", "", "square", "square", .change = table_nearest, .hook = position_hook},
    {"table not resampled", "", "square", "square", .change = table_not_resampled, .hook = position_hook},
    {"table transposed", "", "wide", "wide", .change = table_transposed, .hook = position_hook},
    {"Glimmer's lookup", "", "wide", NULL, .change = glimmer_lookup},
    {"Glimmer's lookup", GGUF, "tall", NULL, .change = glimmer_lookup},
    {"Spark's lookup", "", NULL, "wide", .change = spark_lookup},
    {"Spark's lookup", GGUF, NULL, "tall", .change = spark_lookup},
    {"one epsilon, the blocks'", "", NULL, "square", .change = eps_of_the_blocks},
    {"one epsilon, the ends'", "", NULL, "square", .hook = one_eps},
    {"epsilon 1e-6 in the blocks", "", "square", "square", .hook = block_eps_1e6},
    {"norms without mean", "", "square", "square", .hook = no_mean},
    {"no norm before", "", "square", "square", .hook = no_pre_norm},
    {"no norm after", "", "square", "square", .hook = no_post_norm},
    {"no q bias", "", "square", "square", .change = no_q_b},
    {"no k bias", "", "square", "square", .change = no_k_b},
    {"no v bias", "", "square", "square", .change = no_v_b},
    {"no out bias", "", "square", "square", .change = no_o_b},
    {"no fc1 bias", "", "square", "square", .change = no_fc1_b},
    {"no fc2 bias", "", "square", "square", .change = no_fc2_b},
    {"no norm1 bias", "", "square", "square", .change = no_norm1_b},
    {"no norm2 bias", "", "square", "square", .change = no_norm2_b},
    {"no bias of the norm before", "", "square", "square", .change = no_pre_b},
    {"no bias of the norm after", "", "square", "square", .change = no_post_b},
    {"tanh GELU", "", "square", "square", .hook = tanh_everywhere},
    {"tanh GELU in the blocks", "", "square", "square", .hook = tanh_in_the_blocks},
    {"tanh GELU in the adapter", "", "square", "square", .hook = tanh_in_the_adapter},
    {"sigmoid GELU", "", "square", "square", .hook = sigmoid_form},
    {"no GELU after the adapter", "", "square", "square", .watch = no_second_gelu},
    {"no attention scale", "", "square", "square", .hook = no_scale},
    {"merged position slow", "", "square", "square", .watch = position_slow},
    {"cells column by column", "", "square", "square", .watch = cell_by_columns},
    {"window order not undone", "", "large", "beyond", .watch = window_order_kept},
    {"channel before frame", "", "square", "square", .watch = channel_before_frame},
    {"first frame twice", "", "pair", "pair", .watch = first_frame_twice},
    {"frames swapped", "", "pair", "pair", .watch = frames_swapped},
    {"weightless norm in the tower", "", "square", "square", .rows = norm_here_too},
};

/* How far the rows are off when a trap (NULL: none) is stepped in. */
static double stepped_in(const char *model, const trap *p, const item *c)
{
    pn_tower *t = load_tower(model, p ? p->file : "");
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    now.real = k;
    now.t = t;
    now.c = c;
    now.calls = 0;
    if (p && p->change) p->change(t);
    if (p && p->hook) p->hook(&k);
    float *got = encode_with(t, c, &k, p ? p->watch : NULL, t->blocks + t->d.layers - 1);
    if (p && p->rows) p->rows(got, c->rows.dim[0], c->rows.dim[1]);
    double off = max_error(got, c->rows.v, c->rows.n);
    free(got);
    pn_tower_free(t);
    while (now.n_memory) free(now.memory[--now.n_memory]);
    return off;
}

static void each_trap(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        static reference r;
        reference_read(&r, models[m]);
        for (size_t i = 0; i < PN_COUNT(traps); i++) {
            const char *name = m ? traps[i].spark : traps[i].glimmer;
            if (!name) continue;
            double off = stepped_in(models[m], &traps[i], item_named(&r, name));
            print_message("%-15s %-32s %-7s %8.1g\n", models[m], traps[i].name, name, off);
            if (!(off > 10 * r.tolerance))
                fail_msg("%s: %s moves the rows by %g only, ten tolerances are %g", models[m], traps[i].name, off, 10 * r.tolerance);
        }
        reference_free(&r);
    }
}

/* The traps' own way of adding positions is right when the rule is. */
static void the_hooks_themselves(void **state)
{
    (void)state;
    static const trap right = {"", "", NULL, NULL, .change = table_as_it_is, .hook = position_hook};
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        static reference r;
        reference_read(&r, models[m]);
        static const char *const cases[] = {"square", "wide", "tall", "large"};
        for (size_t i = 0; i < PN_COUNT(cases); i++) {
            const item *c = item_named(&r, cases[i]);
            assert_true(stepped_in(models[m], &right, c) <= r.tolerance);
            assert_true(stepped_in(models[m], NULL, c) <= r.tolerance);
        }
        reference_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_hooks_themselves), cmocka_unit_test(each_trap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
