/* The float kernels, compiled once a CPU level: the including file sets PN_LANES and LEVEL(name). Every operation is
 * exactly defined and every order written, so all levels give the same bits (tests/tensor holds them to it). */
#include "tensor/kernels_float.h"

#include "tensor/lanes.h"
#include "tensor/lanes_math.h"

#include "tensor/vectors.inc.h"
#include "tensor/matmul_float.inc.h"
#include "tensor/attention.inc.h"

void LEVEL(pn_kernels_float)(pn_kernels *k)
{
    k->norm = norm;
    k->layer_norm = layer_norm;
    k->add = add;
    k->gate_add = gate_add;
    k->scale = scale;
    k->axpy = axpy;
    k->silu_mul = silu_mul;
    k->gelu_tanh_mul = gelu_tanh_mul;
    k->gelu_mul = gelu_mul;
    k->sigmoid_mul = sigmoid_mul;
    k->sigmoid = sigmoid;
    k->softcap = softcap;
    k->exp_sum = exp_sum;
    k->tops = tops;
    k->conv_row = conv_row;
    k->rope = rope;
    k->dot = dot;
    k->turn = turn;
    k->kv_put = kv_put;
    k->attn_block = attn_block;
    k->attn_join = attn_join;
}
