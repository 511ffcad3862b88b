// peer_tower MMPROJ PIXELS WIDTH HEIGHT THREADS [ROWS]: the peer's tower over the same pixels (bytes [height][width][3]), one line of JSON:
// seconds of the second encoding in this process (its graph is planned by then), processor time, the largest difference from
// ROWS. Internal headers of the peer, so that no text model is needed; how to build it stands in README.md.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include <string>
#include <vector>

#include "clip.h"
#include "clip-impl.h"

static double wall()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static double processor()
{
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

template <class T> static std::vector<T> slurp(const char *path, size_t n)
{
    std::vector<T> v(n);
    FILE *f = fopen(path, "rb");
    if (!f || fread(v.data(), sizeof(T), n, f) != n) exit((fprintf(stderr, "%s: too short\n", path), 1));
    fclose(f);
    return v;
}

int main(int argc, char **argv)
{
    if (argc < 6) return fprintf(stderr, "peer_tower MMPROJ PIXELS WIDTH HEIGHT THREADS [ROWS]\n"), 2;
    const int width = atoi(argv[3]), height = atoi(argv[4]), threads = atoi(argv[5]);
    clip_context_params p = {};
    p.use_gpu = false;
    p.flash_attn_type = CLIP_FLASH_ATTN_TYPE_AUTO;
    p.image_min_tokens = p.image_max_tokens = -1;
    clip_ctx *c = clip_init(argv[1], p).ctx_v;
    if (!c) return 1;
    clip_image_f32 image;
    image.set_size({width, height}, false, false);
    const auto bytes = slurp<uint8_t>(argv[2], (size_t)width * height * 3);
    std::vector<float> pixels(bytes.size());
    for (size_t i = 0; i < bytes.size(); i++) pixels[i] = (bytes[i] / 255.0f - 0.5f) / 0.5f;
    image.cpy_buf(pixels);
    std::vector<float> rows((size_t)clip_n_output_tokens(c, &image) * clip_n_mmproj_embd(c));
    double took = 0, cpu = 0, off = -1;
    for (int i = 0; i < 2; i++) {
        took = wall(), cpu = processor();
        if (!clip_image_encode(c, threads, &image, rows)) return fprintf(stderr, "it cannot encode this\n"), 1;
        took = wall() - took, cpu = processor() - cpu;
    }
    if (argc > 6) {
        const auto want = slurp<float>(argv[6], rows.size());
        off = 0;
        for (size_t i = 0; i < rows.size(); i++) off = fmax(off, fabs(want[i] - rows[i]));
    }
    printf("{\"seconds\": %.4f, \"processor\": %.4f, \"off\": %.2g}\n", took, cpu, off);
    clip_free(c);
    return 0;
}
