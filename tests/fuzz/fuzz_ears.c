#include <stdlib.h>

#include "audio/audio.h"
#include "files/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The reader's own bounds let a tower be too large for a test. */
static void *small_alloc(void *user, size_t bytes, size_t align)
{
    (void)user;
    return bytes > 64 << 20 ? NULL : aligned_alloc(align, (bytes + align - 1) / align * align);
}

static void small_free(void *user, void *p, size_t bytes)
{
    (void)user, (void)bytes;
    free(p);
}

static const ponder_alloc small = {.size = sizeof small, .alloc = small_alloc, .free = small_free};

/* Two rows of a loaded tower. */
static void hear(const pn_audio *t)
{
    const pn_audio_info *d = pn_audio_about(t);
    ponder_error e = {.size = sizeof e};
    pn_audio_stream *s;
    pn_audio_encode *c = NULL;
    pn_kernels k;
    pn_kernels_init(&k, pn_cpu_flags());
    float *rows = malloc(2 * (size_t)d->out * sizeof *rows), *samples = calloc((size_t)d->samples + 1, sizeof *samples);
    if (!rows || !samples || pn_audio_stream_new(&s, t, d->rate, 1, 0, &small, &e)) goto done;
    samples[0] = 1;
    if (pn_audio_stream_push(s, samples, (size_t)d->samples + 1, &e) == PONDER_OK && pn_audio_stream_end(s, &e) == PONDER_OK &&
        pn_audio_encode_new(&c, s, 2, rows, &k, 1, &small, &e) == PONDER_OK) {
        const pn_work *w = pn_audio_encode_work(c);
        for (uint32_t op = 0; op < w->n_ops; op = w->next(w->self, op))
            for (uint32_t i = 0, n = w->enter(w->self, op); i < n; i++) w->tile(w->self, op, i, 0);
        if (pn_audio_encode_done(c) != 2) abort();
    }
    pn_audio_encode_free(c);
    pn_audio_stream_free(s);
done:
    free(rows);
    free(samples);
}

static void use(pn_checkpoint *c)
{
    const pn_load_options o = {.repack = true, .quantize = -1};
    ponder_error e = {.size = sizeof e};
    pn_audio *t;
    ponder_status st = pn_audio_load(&t, c, "muse-spark", 8, &o, &small, &e);
    if (st != PONDER_OK && (t || !e.text[0])) abort();
    /* As much work as a test may do: the bounds of a description allow far more. */
    uint64_t columns = 0;
    if (t) columns = pn_audio_about(t)->samples * (pn_audio_store(t)->parameters + 1);
    if (t && columns < 1 << 26) hear(t);
    pn_audio_free(t);
    pn_checkpoint_free(c);
}

/* A GGUF projector, or config.json up to the first zero byte and the safetensors file behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_source *config, *weights;
    pn_checkpoint *c;
    ponder_error e = {.size = sizeof e};
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        if (pn_source_memory(&weights, data, size, &small, &e)) return 0;
        if (pn_checkpoint_open_source(&c, weights, &small, &e) == PONDER_OK) use(c);
        return 0;
    }
    const uint8_t *end = memchr(data, 0, size);
    const size_t n = end ? (size_t)(end - data) : size, skip = end ? n + 1 : n;
    if (pn_source_memory(&config, data, n, &small, &e)) return 0;
    if (pn_source_memory(&weights, data + skip, size - skip, &small, &e)) {
        pn_source_free(config);
        return 0;
    }
    if (pn_folder_open_sources(&c, config, weights, &small, &e) == PONDER_OK) use(c);
    return 0;
}
