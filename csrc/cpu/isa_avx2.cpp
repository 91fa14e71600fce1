// 256-bit vectors with fma. x86 only; empty elsewhere.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,popcnt")
#define RAREPIXEL_ISA avx2
#define RAREPIXEL_AVX2
#include "losses.h"
#endif
