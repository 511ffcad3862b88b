#include <math.h>

#include "vision/image.h"

/* The reference collects up to four grids in a Python set and takes the first of the nearest in the set's order, which
 * decides between equals (a square that is no multiple of the cell). The order is that of CPython's small set: eight
 * slots, walked upward, filled by the hash of the pair. */
typedef struct candidates {
    pn_grid slot[8];
    bool taken[8];
} candidates;

static uint64_t mix(uint64_t h, uint64_t v)
{
    h += v * 14029467366897019727u;
    h = h << 31 | h >> 33;
    return h * 11400714785074694791u;
}

static uint64_t hash_pair(pn_grid g)
{
    const uint64_t start = 2870177450012600261u;
    const uint64_t h = mix(mix(start, g.rows), g.cols) + (2 ^ start ^ 3527539);
    return h == UINT64_MAX ? 1546275796 : h;
}

static void add(candidates *c, pn_grid g)
{
    const uint64_t h = hash_pair(g);
    uint64_t perturb = h, i = h & 7;
    while (c->taken[i]) {
        if (c->slot[i].rows == g.rows && c->slot[i].cols == g.cols) return;
        perturb >>= 5;
        i = (5 * i + 1 + perturb) & 7;
    }
    c->taken[i] = true;
    c->slot[i] = g;
}

/* Halves to even, as Python's round(); at least 1. */
static uint32_t round_even(double v)
{
    const double below = floor(v), rest = v - below;
    const uint32_t n = (uint32_t)below + (rest > 0.5 || (rest == 0.5 && fmod(below, 2) != 0));
    return n ? n : 1;
}

/* The first of the nearest to the picture's shape; false: none fits. */
static bool nearest(const candidates *c, uint64_t max_cells, double shape, pn_grid *out)
{
    double best = INFINITY;
    for (int i = 0; i < 8; i++) {
        const pn_grid g = c->slot[i];
        if (!c->taken[i] || g.rows < 1 || g.cols < 1 || (uint64_t)g.rows * g.cols > max_cells) continue;
        const double off = fabs((double)g.rows / g.cols - shape);
        if (off >= best) continue;
        best = off;
        *out = g;
    }
    return best < INFINITY;
}

ponder_status pn_grid_pick(const pn_grid_rule *rule, uint32_t width, uint32_t height, pn_grid *out, ponder_error *err)
{
    *out = (pn_grid){0, 0};
    if (rule->patch == 0 || rule->merge == 0 || rule->max_cells == 0)
        return pn_fail(err, PONDER_E_ARGUMENT, "patches of %u pixels, %u a side, at most %u", rule->patch, rule->merge, rule->max_cells);
    if (width == 0 || height == 0 || width > PN_IMAGE_MAX_SIDE || height > PN_IMAGE_MAX_SIDE)
        return pn_fail(err, PONDER_E_RANGE, "a picture of %u x %u pixels", width, height);
    const double cell = (double)rule->patch * rule->merge, max_cells = rule->max_cells;
    double rows = height / cell, cols = width / cell;
    const double ratio = cols / rows;
    if (rows * cols > max_cells) {
        rows = sqrt(max_cells / ratio);
        cols = rows * ratio;
    }
    const uint32_t r[2] = {(uint32_t)floor(rows), (uint32_t)ceil(rows)}, c[2] = {(uint32_t)floor(cols), (uint32_t)ceil(cols)};
    candidates set = {0};
    for (int i = 0; i < 4; i++) add(&set, (pn_grid){r[i >> 1], c[i & 1]});
    if (!nearest(&set, rule->max_cells, (double)height / width, out)) *out = (pn_grid){round_even(rows), round_even(cols)};
    return PONDER_OK;
}
