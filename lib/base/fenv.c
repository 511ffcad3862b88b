#include "base/base.h"

/* The state a host may leave behind (flush to zero, another rounding, unmasked traps) would change our bits. */
#if defined(__SSE2__)
#include <xmmintrin.h>
enum { MXCSR_DEFAULT = 0x1f80 };

void pn_fenv_enter(pn_fenv *saved)
{
    saved->mxcsr = _mm_getcsr();
    _mm_setcsr(MXCSR_DEFAULT);
}

void pn_fenv_leave(const pn_fenv *saved)
{
    _mm_setcsr(saved->mxcsr);
}
#elif defined(__aarch64__)
void pn_fenv_enter(pn_fenv *saved)
{
    uint64_t zero = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved->other));
    __asm__ volatile("msr fpcr, %0" : : "r"(zero));
}

void pn_fenv_leave(const pn_fenv *saved)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(saved->other));
}
#else
void pn_fenv_enter(pn_fenv *saved) { (void)saved; }
void pn_fenv_leave(const pn_fenv *saved) { (void)saved; }
#endif
