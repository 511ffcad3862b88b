/* Sixteen float lanes: the one vector the float kernels are written in. Three implementations (plain C, AVX2, AVX-512)
 * of the same operations, each exactly defined by IEEE 754, so kernels written in them have the same bits everywhere.
 * The including file defines PN_LANES as 0 (C), 2 (AVX2+FMA+F16C) or 512. */
#ifndef PN_TENSOR_LANES_H
#define PN_TENSOR_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/half.h"

/* Tiles are templates: constants go in through inlining, and register arrays dissolve by unrolling. In plain C
 * each fmaf may be a call, and unrolled calls are only size. */
#if PN_LANES == 0
#define INLINE static inline __attribute__((unused))
#define UNROLL
#elif defined(__clang__)
#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 32")
#endif
#if defined(__clang__)
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ROLLED _Pragma("GCC unroll 1")
#endif

/* Adding it rounds a float of magnitude below 2^22 to an integer (nearest even), which then sits in the low bits. */
#define ROUND_MAGIC 12582912.0f

#if PN_LANES == 0
#include "tensor/lanes_c.h"
#elif PN_LANES == 2
#include "tensor/lanes_avx2.h"
#else
#include "tensor/lanes_avx512.h"
#endif

#endif
