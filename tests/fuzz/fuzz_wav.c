#include <stdlib.h>

#include "audio/audio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct block { const uint8_t *p; } block;

static int32_t read_block(void *user, uint64_t offset, void *to, size_t n)
{
    memcpy(to, ((const block *)user)->p + offset, n);
    return 0;
}

/* From memory, and through a callback: both must come to the same end, and every sample be a number. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pn_source *s;
    pn_sound *sound, *again;
    ponder_error e = {.size = sizeof e};
    block b = {data};
    ponder_source callback = {.size = sizeof callback, .user = &b, .length = size, .read = read_block};
    const pn_sound_options o = {.max_samples = 1 << 22};
    ponder_status st = pn_sound_wav_memory(&sound, data, size, &o, NULL, &e);
    if ((st == PONDER_OK) != (sound != NULL) || (st != PONDER_OK && !e.text[0])) abort();
    if (pn_source_callback(&s, &callback, NULL, &e)) return 0;
    if (pn_sound_wav(&again, s, &o, NULL, &e) != st) abort();
    if (sound && (pn_sound_hash(sound) != pn_sound_hash(again) || pn_sound_count(sound) == 0)) abort();
    for (uint64_t i = 0; sound && i < pn_sound_count(sound); i++)
        if (!(pn_sound_samples(sound)[i] <= 4 * PN_AUDIO_LOUDEST && pn_sound_samples(sound)[i] >= -4 * PN_AUDIO_LOUDEST)) abort();
    pn_sound_free(sound);
    pn_sound_free(again);
    pn_source_free(s);
    return 0;
}
