/* The float kernels of one CPU level: pn_kernels_float_* sets all of the table but matmul and acts_put,
 * which kernels.c chooses between float and block formats. */
#ifndef PN_TENSOR_KERNELS_FLOAT_H
#define PN_TENSOR_KERNELS_FLOAT_H

#include "tensor/tensor.h"

#define PN_FLOAT_LEVEL(level) \
    void pn_kernels_float_##level(pn_kernels *k); \
    void pn_matmul_float_##level(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, \
                                 uint32_t col1, float *y, size_t y_stride, void *scratch);
PN_FLOAT_LEVEL(c)
PN_FLOAT_LEVEL(avx2)
PN_FLOAT_LEVEL(avx512)
#undef PN_FLOAT_LEVEL

#endif
