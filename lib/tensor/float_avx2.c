#define PN_LANES 2
#define LEVEL(name) name##_avx2
#include "tensor/kernels_float.inc.h"
