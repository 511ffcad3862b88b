#include "tensor/tensor.h"

#include "tensor/half.h"

float pn_f16_to_f32(uint16_t h) { return half_to_float(h); }
uint16_t pn_f32_to_f16(float f) { return float_to_half(f); }
float pn_bf16_to_f32(uint16_t h) { return bf16_to_float(h); }
uint16_t pn_f32_to_bf16(float f) { return float_to_bf16(f); }
