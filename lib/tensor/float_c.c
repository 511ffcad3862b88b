#define PN_LANES 0
#define LEVEL(name) name##_c
#include "tensor/kernels_float.inc.h"
