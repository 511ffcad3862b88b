#include "tensor/matmul_q.h"

void pn_matmul_q_avx512vnni(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, uint32_t col1,
                    float *y, size_t y_stride, void *scratch)
{
    pn_matmul_q_c(m, panel0, panel1, x, col0, col1, y, y_stride, scratch);
}

void pn_acts_put_q_avx512(pn_acts *a, uint32_t col, const float *x)
{
    pn_acts_put_q_c(a, col, x);
}
