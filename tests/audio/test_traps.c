/* The tower written down a second time, plainly and in double precision, with a switch for each mistake that loads, runs and
 * sounds right: without any it meets the stored rows, with each one it misses them by ten tolerances and more. */
#include "tower_rig.h"

typedef enum trap {
    NONE, FOLD_CHANNELS, FOLD_BACKWARDS, FOLD_RESIDUAL, FOLD_NO_NORM, KERNEL_REVERSED, SYMMETRIC, NORM_FIRST, NO_NORM, NO_RESIDUAL,
    TANH_GELU, RELU, EPS_HIGH, EPS_LOW, NO_LAST_NORM, NO_POST_NORM, POST_NO_WEIGHTS, EXTRA_NORM, ZERO_MEAN, LEVEL, LEFT_PADDING,
    CUT_TAIL, TRAPS
} trap;

static const char *const names[] = {
    "none", "fold channel-major", "fold backwards", "residual round the fold", "no norm after the fold", "kernel reversed", "symmetric padding",
    "norm before the convolution", "no norm in the block", "no residual round the block", "tanh gelu", "relu", "epsilon x 10",
    "epsilon / 100", "no last norm", "no norm of the rows", "norm of the rows without weights", "the text model's norm already here",
    "a mean of zero", "level normalised", "padding on the left", "last row cut off",
};

typedef struct plain {
    const pn_audio *t;
    trap trap; /* the mistake made */
    double eps;
} plain;

/* [rows][k] of a weight, released with free(). */
static double *matrix_of(const pn_weight *w)
{
    const size_t rows = w->first.rows, k = w->first.k;
    double *m = malloc(rows * k * sizeof *m);
    float *row = malloc(k * sizeof *row);
    for (size_t r = 0; r < rows; r++) {
        pn_matrix_row(&w->first, (uint32_t)r, row);
        for (size_t i = 0; i < k; i++) m[r * k + i] = row[i];
    }
    free(row);
    return m;
}

static double *linear(const double *x, size_t n, const pn_weight *w, const float *bias)
{
    const size_t rows = w->first.rows, k = w->first.k;
    double *m = matrix_of(w), *y = malloc(n * rows * sizeof *y);
    for (size_t c = 0; c < n; c++)
        for (size_t r = 0; r < rows; r++) {
            double sum = bias[r];
            for (size_t i = 0; i < k; i++) sum += m[r * k + i] * x[c * k + i];
            y[c * rows + r] = sum;
        }
    free(m);
    return y;
}

static void norm(double *x, size_t n, size_t width, const float *w, double eps)
{
    for (size_t c = 0; c < n; c++, x += width) {
        double sum = 0;
        for (size_t i = 0; i < width; i++) sum += x[i] * x[i];
        const double inv = 1 / sqrt(sum / (double)width + eps);
        for (size_t i = 0; i < width; i++) x[i] *= inv * (w ? w[i] : 1);
    }
}

static double activate(double x, trap t)
{
    if (t == RELU) return x > 0 ? x : 0;
    if (t == TANH_GELU) return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    return 0.5 * x * erfc(-x / 1.41421356237309504880);
}

static double *convolve(const plain *p, const double *x, size_t n, size_t width, const pn_audio_block *b)
{
    const size_t taps = p->t->d.taps, shift = p->trap == SYMMETRIC ? taps / 2 : taps - 1;
    double *y = malloc(n * width * sizeof *y);
    for (size_t c = 0; c < n; c++)
        for (size_t i = 0; i < width; i++) {
            double sum = b->conv_b[i];
            for (size_t j = 0; j < taps; j++) {
                const size_t at = c + j, tap = p->trap == KERNEL_REVERSED ? taps - 1 - j : j;
                if (at >= shift && at - shift < n) sum += b->conv_w[tap * width + i] * x[(at - shift) * width + i];
            }
            y[c * width + i] = sum;
        }
    return y;
}

static void block(const plain *p, double *x, size_t n, size_t width, const pn_audio_block *b)
{
    double *in = malloc(n * width * sizeof *in);
    memcpy(in, x, n * width * sizeof *in);
    if (p->trap == NORM_FIRST) norm(in, n, width, b->norm, p->eps);
    double *y = convolve(p, in, n, width, b);
    if (p->trap != NORM_FIRST && p->trap != NO_NORM) norm(y, n, width, b->norm, p->eps);
    double *h = linear(y, n, &b->fc1, b->fc1_b);
    for (size_t i = 0; i < n * b->fc1.first.rows; i++) h[i] = activate(h[i], p->trap);
    double *out = linear(h, n, &b->fc2, b->fc2_b);
    for (size_t i = 0; i < n * width; i++) x[i] = out[i] + (p->trap == NO_RESIDUAL ? 0 : x[i]);
    free(in), free(y), free(h), free(out);
}

/* x: [n * patch][channels], freed. */
static double *fold(const plain *p, double *x, size_t n, uint32_t s)
{
    const pn_audio_info *d = &p->t->d;
    const pn_audio_stage *stage = &p->t->stage[s];
    const size_t patch = d->patch[s], channels = s ? d->width[s - 1] : 1, width = d->width[s], k = patch * channels;
    double *folded = malloc(n * k * sizeof *folded);
    for (size_t c = 0; c < n; c++)
        for (size_t t = 0; t < patch; t++)
            for (size_t i = 0; i < channels; i++) {
                const size_t to = p->trap == FOLD_CHANNELS ? i * patch + t : p->trap == FOLD_BACKWARDS ? (patch - 1 - t) * channels + i : t * channels + i;
                folded[c * k + to] = x[(c * patch + t) * channels + i];
            }
    double *y = linear(folded, n, &stage->fold, stage->fold_b);
    if (p->trap != FOLD_NO_NORM) norm(y, n, width, stage->fold_norm, p->eps);
    for (size_t c = 0; p->trap == FOLD_RESIDUAL && c < n; c++)
        for (size_t i = 0; i < width; i++) y[c * width + i] += folded[c * k + i % k];
    free(folded), free(x);
    return y;
}

/* The samples as doubles, silence around them; *n: rows. */
static double *padded(const plain *p, const item *c, size_t *n)
{
    const size_t row = p->t->d.samples;
    *n = (c->n + row - 1) / row;
    double *x = calloc(*n * row, sizeof *x), mean = 0, square = 0;
    const size_t from = p->trap == LEFT_PADDING ? *n * row - c->n : 0;
    for (size_t i = 0; i < c->n; i++) mean += c->samples[i], square += (double)c->samples[i] * c->samples[i];
    mean /= (double)c->n;
    const double level = sqrt(square / (double)c->n - mean * mean + 1e-7);
    for (size_t i = 0; i < c->n; i++) {
        x[from + i] = c->samples[i];
        if (p->trap == ZERO_MEAN || p->trap == LEVEL) x[from + i] -= mean;
        if (p->trap == LEVEL) x[from + i] /= level;
    }
    if (p->trap == CUT_TAIL) memset(x + c->n / row * row, 0, (*n * row - c->n / row * row) * sizeof *x);
    return x;
}

static double *plain_rows(const plain *p, const item *c, size_t *n)
{
    const pn_audio_info *d = &p->t->d;
    double *x = padded(p, c, n);
    size_t each = d->samples, width = 1;
    for (uint32_t s = 0; s < d->stages; s++) {
        each /= d->patch[s];
        width = d->width[s];
        x = fold(p, x, *n * each, s);
        for (uint32_t b = 0; b < d->depth[s]; b++) block(p, x, *n * each, width, &p->t->stage[s].blocks[b]);
    }
    if (p->trap != NO_LAST_NORM) norm(x, *n, width, p->t->norm, p->eps);
    double *y = linear(x, *n, &p->t->proj, p->t->proj_b);
    if (p->trap != NO_POST_NORM) norm(y, *n, d->out, p->trap == POST_NO_WEIGHTS ? NULL : p->t->post_norm, p->eps);
    if (p->trap == EXTRA_NORM) norm(y, *n, d->out, NULL, 1e-5);
    free(x);
    return y;
}

/* How far the rows of all stored sounds are off. */
static double distance(const pn_audio *t, const reference *r, trap k)
{
    const plain p = {t, k, t->d.eps * (k == EPS_HIGH ? 10 : k == EPS_LOW ? 0.01 : 1)};
    double most = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        size_t n;
        double *y = plain_rows(&p, &r->item[i], &n);
        assert_int_equal(n, r->item[i].rows.dim[0]);
        for (size_t v = 0; v < r->item[i].rows.n; v++) most = fmax(most, fabs(y[v] - r->item[i].rows.v[v]));
        free(y);
    }
    return most;
}

static void every_trap_shows(void **state)
{
    (void)state;
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        reference r;
        reference_read(&r, models[m]);
        pn_audio *t = load_tower(models[m], "");
        for (trap k = NONE; k < TRAPS; k++) {
            const double off = distance(t, &r, k);
            print_message("%-17s %-33s %.2g\n", models[m], names[k], off);
            if (k == NONE) assert_true(off <= r.tolerance / 10);
            else if (!(off > 10 * r.tolerance)) fail_msg("%s: %s moves the rows by %g only", models[m], names[k], off);
        }
        pn_audio_free(t);
        reference_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_trap_shows)};
    return cmocka_run_group_tests_name("audio: traps", tests, NULL, NULL);
}
