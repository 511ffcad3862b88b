/* Inside the audio room: samples of a WAV file. */
#ifndef PN_AUDIO_WAV_H
#define PN_AUDIO_WAV_H

#include "audio/audio.h"

/* n samples (not frames) to floats in -1..1. */
void pn_wav_floats(const pn_wav *w, float *to, const uint8_t *p, size_t n);

#endif
