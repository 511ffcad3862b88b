#include "tensor/tensor.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum { XSAVE = 1u << 27, AVX = 1u << 28, FMA = 1u << 12, F16C = 1u << 29 };              /* leaf 1, ecx */
enum { AVX2 = 1u << 5, AVX512F = 1u << 16, AVX512DQ = 1u << 17, AVX512BW = 1u << 30 };   /* leaf 7, ebx */
#define AVX512VL (1u << 31)
#define VNNI (1u << 11)                                                                   /* leaf 7, ecx */

/* Which registers the system saves: a processor's flag alone does not allow the use of wide registers. */
static uint32_t saved_registers(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

uint32_t pn_cpu_flags(void)
{
    const uint32_t base = XSAVE | AVX | FMA | F16C, wide = AVX512F | AVX512DQ | AVX512BW | AVX512VL;
    uint32_t a, b, c, d, b7, c7;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & base) != base) return 0;
    uint32_t saved = saved_registers();
    if ((saved & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d) || !(b7 & AVX2)) return 0;
#if defined(PN_EMULATE_AVX512)
    return PN_CPU_AVX2 | PN_CPU_AVX512 | PN_CPU_AVX512VNNI;
#endif
    if ((saved & 0xe6) != 0xe6 || (b7 & wide) != wide) return PN_CPU_AVX2;
    return PN_CPU_AVX2 | PN_CPU_AVX512 | (c7 & VNNI ? PN_CPU_AVX512VNNI : 0);
}
#else
uint32_t pn_cpu_flags(void) { return 0; }
#endif
