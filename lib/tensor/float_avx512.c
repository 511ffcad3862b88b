#define PN_LANES 512
#define LEVEL(name) name##_avx512
#include "tensor/kernels_float.inc.h"
